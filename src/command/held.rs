//! What state rules hold, how it is bounded, and what of it other rules go on with.

use crate::rule::window::length;
use crate::stream::definitions;
use crate::tables::Artifact;
use crate::window::Frame;
use std::collections::{BTreeMap, BTreeSet};

/// How long rows are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Bound {
    Age(i64),
    Count(u32),
    Nothing,
}

/// For each partitioning of windows, and each pattern, what is held of a key.
#[must_use]
pub fn bounds(artifact: &Artifact) -> Vec<String> {
    let schema = artifact.event_schema();
    let by = |fields: &[crate::id::FieldId]| {
        let names: Vec<&str> = schema.tenant.iter().chain(fields).map(|field| schema.field(*field).name.as_str()).collect();
        if names.is_empty() { "over all events".to_owned() } else { format!("by {}", names.join(", ")) }
    };
    // Windows with the same fields and the same kind of bound share their rows; the longest counts.
    let mut groups: BTreeMap<(String, u8), (Bound, usize)> = BTreeMap::new();
    for column in artifact.windows() {
        let (kind, bound) = match column.window.frame {
            Frame::Range { from: Some(from), .. } => (0, Bound::Age(from)),
            Frame::Rows { from: Some(from), .. } => (1, Bound::Count(from)),
            _ => (2, Bound::Nothing),
        };
        let (longest, windows) = groups.entry((by(&column.window.partition_by), kind)).or_insert((bound, 0));
        (*longest, *windows) = ((*longest).max(bound), *windows + 1);
    }
    let of_windows = groups.into_iter().map(|((by, _), (bound, windows))| {
        let what = match bound {
            Bound::Age(nanoseconds) => format!("rows of the last {} {by}", length(nanoseconds)),
            Bound::Count(rows) => format!("the last {} rows {by}", u64::from(rows) + 1),
            Bound::Nothing => format!("unbounded: every row {by}"),
        };
        format!("{what}, for {windows} window{}", if windows == 1 { "" } else { "s" })
    });
    let of_patterns = artifact.patterns().iter().map(|(rule, pattern)| {
        let by = by(&pattern.partition_by);
        let what = match pattern.within {
            Some(within) => format!("rows of the last {} {by}", length(within)),
            None if pattern.is_unbounded(artifact.schema()) => format!("unbounded: rows of a match that goes on {by}"),
            None => format!("rows of matches that are begun {by}"),
        };
        format!("{what}, for the pattern of {}", artifact.rule_name(*rule))
    });
    of_windows.chain(of_patterns).collect()
}

/// What a swap from `previous` to `artifact` keeps and drops of the state.
#[must_use]
pub fn swap(previous: &Artifact, artifact: &Artifact) -> Vec<String> {
    let of = |artifact: &Artifact| definitions(artifact).into_iter().collect::<BTreeSet<String>>();
    let (old, new) = (of(previous), of(artifact));
    let mut lines: Vec<String> = Vec::new();
    if !old.is_empty() || !new.is_empty() {
        lines.push(format!("of {} windows {} keep their state", new.len(), new.intersection(&old).count()));
    }
    lines.extend(new.difference(&old).map(|definition| format!("begins without state: {definition}")));
    lines.extend(old.difference(&new).map(|definition| format!("its state is dropped: {definition}")));
    let pattern = |of: &Artifact, name: &str| of.find_rule(name).and_then(|rule| of.pattern(rule).cloned());
    let same_fields = previous.schema().fields() == artifact.schema().fields();
    for (rule, old) in previous.patterns() {
        let name = previous.rule_name(*rule);
        if !same_fields || pattern(artifact, name).is_none_or(|new| new != *old) {
            lines.push(format!("partial matches are dropped: of {name}"));
        }
    }
    lines
}
