//! Changes that what is in service has no place for, of patterns or over other windows: all rules are compiled with them, into a new base.

use super::base::{Base, Rank};
use super::change::{self, ADDED, REMOVED, REPLACED, SWITCHED};
use super::merge::{self, Living};
use super::snapshot::Snapshot;
use super::{Change, Shared};
use crate::compile::{self, Context};
use crate::rule::window::Columns;
use crate::rule::{Clause, Diagnostic, Rule, inline, print};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What is done to the rules of a snapshot.
struct Draft<'a> {
    shared: &'a Shared,
    before: &'a Snapshot,
    columns: Columns,
    generation: Arc<str>,
    rules: usize,
    next_rank: Rank,
    /// By rank: rules in place of those of the snapshot, and those that are gone.
    edits: BTreeMap<Rank, Option<Rule>>,
    /// The ranks of the ids in `edits`; `None`: the rule is gone.
    ids: HashMap<Arc<str>, Option<Rank>>,
}

/// The snapshot after `changes`, whose rules may name the windows of `columns`, and no others.
pub fn rebuilt(shared: &Shared, before: &Snapshot, changes: &[Change], columns: Columns) -> Result<Snapshot, Vec<Diagnostic>> {
    let mut draft = Draft {
        shared,
        before,
        columns,
        generation: Arc::clone(before.generation()),
        rules: before.rules(),
        next_rank: before.next_rank,
        edits: BTreeMap::new(),
        ids: HashMap::new(),
    };
    let wrong: Vec<Diagnostic> = changes.iter().filter_map(|change| draft.change(change).err()).flatten().collect();
    if wrong.is_empty() { draft.compiled() } else { Err(wrong) }
}

impl Draft<'_> {
    fn rank(&self, id: &Arc<str>) -> Option<Rank> {
        let of_before = || self.before.place(id).map(|place| self.before.rank(place));
        self.ids.get(id).copied().unwrap_or_else(of_before)
    }

    fn change(&mut self, change: &Change) -> Result<(), Vec<Diagnostic>> {
        let rank = self.rank(change.id());
        let there = || rank.ok_or_else(|| vec![change::unknown(change.id())]);
        match change {
            Change::Add(rule) => {
                if rank.is_some() {
                    return Err(vec![change::duplicate(rule)]);
                }
                if self.rules >= self.shared.limits.rules {
                    return Err(vec![change::too_many(rule, self.rules)]);
                }
                self.put(self.next_rank, rule.clone(), ADDED)?;
                self.next_rank += 1;
                self.rules += 1;
            }
            Change::Replace(rule) => self.put(there()?, rule.clone(), REPLACED)?,
            Change::Remove(id) => {
                self.edits.insert(there()?, None);
                self.ids.insert(Arc::clone(id), None);
                self.rules -= 1;
                self.generation = change::name_of(&self.generation, &[&[REMOVED], id.as_bytes()]);
            }
            Change::Status(id, status) => {
                let rank = there()?;
                let edited = self.edits.get(&rank).cloned().flatten();
                let of_before = || self.before.place(id).map(|place| self.before.rule_at(place)).transpose();
                let rule = edited.map_or_else(of_before, |rule| Ok(Some(rule)));
                let damaged = |problem: String| vec![change::unusable(problem).with_rule(id)];
                let rule = rule.map_err(|error| damaged(error.to_string()))?.ok_or_else(|| vec![change::unknown(id)])?;
                self.put(rank, Rule { status: *status, ..rule }, SWITCHED)?;
            }
        }
        Ok(())
    }

    fn put(&mut self, rank: Rank, mut rule: Rule, kind: u8) -> Result<(), Vec<Diagnostic>> {
        let limits = if kind == SWITCHED { merge::again(&self.shared.limits) } else { self.shared.limits.clone() };
        let checked = compile::check_rule(&rule, &self.columns, &self.shared.context(&limits));
        if checked.diagnostics.iter().any(Diagnostic::is_error) {
            return Err(checked.diagnostics);
        }
        let text = match checked.expr {
            Some(expr) if rule.clause == Clause::When => print::condition(&expr, self.columns.schema()),
            _ => {
                let mut text = String::new();
                inline::write(&rule.when, &checked.mentions, &|_| None, &mut text);
                text
            }
        };
        self.generation = change::name_of_put(&self.generation, kind, &rule, &text);
        rule.tests = Vec::new();
        self.ids.insert(Arc::clone(&rule.id), Some(rank));
        self.edits.insert(rank, Some(rule));
        Ok(())
    }

    fn compiled(self) -> Result<Snapshot, Vec<Diagnostic>> {
        let Self { shared, before, columns, generation, next_rank, edits, .. } = self;
        let limits = merge::again(&shared.limits);
        let context = Context { threads: shared.settings.threads, ..shared.context(&limits) };
        let mut damaged = None;
        let kept = Living::new(before, &shared.stop, &mut damaged).filter(|(rank, _)| !edits.contains_key(rank));
        let put = edits.iter().filter_map(|(rank, rule)| Some((*rank, rule.clone()?)));
        let base = Base::compile(merged(kept, put), columns, &context, shared.settings.choice);
        let base = damaged.map_or(base, |error| Err(error.to_string()));
        let base = base.map_err(|problem| vec![change::unusable(problem)])?;
        Ok(Snapshot { generation, next_rank, ..Snapshot::new(Arc::new(base)) })
    }
}

/// Two ascending runs as one.
fn merged<T>(a: impl Iterator<Item = (Rank, T)>, b: impl Iterator<Item = (Rank, T)>) -> impl Iterator<Item = (Rank, T)> {
    let (mut a, mut b) = (a.peekable(), b.peekable());
    std::iter::from_fn(move || match (a.peek(), b.peek()) {
        (Some((of_a, _)), Some((of_b, _))) if of_b < of_a => b.next(),
        (Some(_), _) => a.next(),
        (None, _) => b.next(),
    })
}

#[cfg(test)]
mod tests;
