//! The events of one source, batch after batch, under rules that change: windows, match, decisions, patterns.
//!
//! ```text
//! batch ─ windows ─ match ─ decide ─ decisions
//!                     └─ patterns ── findings
//! ```
//! A batch is judged by one [`Snapshot`] from end to end. State follows the rules: before a batch under other rules windows and patterns of the same definition go on where they
//! were, new ones begin with nothing, and what no rule needs is dropped. An event is answered when it arrives: it waits for no other one.

pub mod conditions;
pub mod saved;
#[cfg(test)]
mod tests;

use crate::decide::Decisions;
use crate::engine::router::Choice;
use crate::event::{EventBatch, Schema};
use crate::id::FieldId;
use crate::live::Snapshot;
use crate::rule::Diagnostic;
use crate::rule::window::text;
use crate::tables::Artifact;
use crate::tables::layout::NONE;
use crate::temporal::patterns::{Found, Limits, PatternRule, Patterns};
use crate::temporal::windows::{Settings as WindowSettings, Windows};
use crate::window::Window;
use conditions::RowConditions;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// How a stream keeps its state.
#[derive(Clone)]
pub struct Settings {
    /// Lateness, limits, and where rows go that memory has no room for.
    pub windows: WindowSettings,
    pub patterns: Limits,
    /// Who matches the row conditions of patterns.
    pub choice: Choice,
}

/// What a batch came to.
pub struct Judged {
    /// The events, with the columns of the windows behind them.
    pub batch: EventBatch,
    pub decisions: Decisions,
    /// What patterns found, in the order of the rows that brought it.
    pub findings: Vec<Found>,
    /// Rows that came later than allowed: windows put them in their place, patterns have not seen them.
    pub late: Vec<usize>,
}

/// What other rules did to the state of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// Windows and patterns that go on where they were, and that begin with nothing.
    pub kept: usize,
    pub begun: usize,
    pub dropped: usize,
}

/// Why a stream cannot go on.
#[derive(Clone, Debug)]
pub enum Broken {
    /// State cannot be written to disk or read, or does not agree with itself.
    State(String),
    /// The row conditions of patterns cannot be compiled.
    Conditions(Vec<Diagnostic>),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(problem) => f.write_str(problem),
            Self::Conditions(problems) => problems.iter().try_for_each(|problem| write!(f, "{problem}")),
        }
    }
}

impl std::error::Error for Broken {}

impl From<String> for Broken {
    fn from(problem: String) -> Self {
        Self::State(problem)
    }
}

/// A stream with its state.
pub struct Stream {
    settings: Settings,
    /// The rules that the state is for.
    snapshot: Option<Arc<Snapshot>>,
    windows: Option<Windows>,
    /// One for each window.
    definitions: Vec<String>,
    patterns: Option<(Patterns, RowConditions)>,
    /// The patterns in service.
    rules: Vec<PatternRule>,
}

impl Stream {
    /// A stream that knows of no events.
    #[must_use]
    pub const fn new(settings: Settings) -> Self {
        Self { settings, snapshot: None, windows: None, definitions: Vec::new(), patterns: None, rules: Vec::new() }
    }

    /// Takes a batch of events under these rules.
    ///
    /// # Errors
    /// As [`Stream::follow`]. Nothing can be taken after it.
    pub fn take(&mut self, batch: &EventBatch, rules: &Arc<Snapshot>) -> Result<Judged, Broken> {
        self.follow(rules)?;
        let batch = match &mut self.windows {
            Some(windows) => {
                let columns = windows.take(batch)?;
                batch.with_columns(rules.schema(), columns)
            }
            None => batch.clone(),
        };
        let decisions = rules.decide(&rules.hits(&batch));
        let (mut findings, mut late) = (Vec::new(), Vec::new());
        if let Some((patterns, conditions)) = &mut self.patterns {
            let holds = conditions.of(&batch);
            patterns.take(&batch, &holds, &[], &mut findings, &mut late)?;
        }
        Ok(Judged { batch, decisions, findings, late })
    }

    /// Brings the state under these rules.
    ///
    /// # Errors
    /// State that cannot be written to disk or read; row conditions that no back end takes. Nothing can be taken after it.
    pub fn follow(&mut self, rules: &Arc<Snapshot>) -> Result<Followed, Broken> {
        let mut followed = Followed::default();
        if self.is_for(rules) {
            return Ok(followed);
        }
        let same_base = self.snapshot.as_ref().is_some_and(|snapshot| Arc::ptr_eq(snapshot.base(), rules.base()));
        if !same_base {
            self.follow_windows(rules.base(), &mut followed)?;
        }
        let patterns = pattern_rules(rules);
        let same_patterns = || patterns.iter().map(|pattern| pattern.rule).eq(self.rules.iter().map(|pattern| pattern.rule));
        if !same_base || !same_patterns() {
            self.follow_patterns(rules, patterns, &mut followed)?;
        }
        self.snapshot = Some(Arc::clone(rules));
        Ok(followed)
    }

    fn follow_windows(&mut self, artifact: &Artifact, followed: &mut Followed) -> Result<(), Broken> {
        let definitions = definitions(artifact);
        if definitions == self.definitions {
            followed.kept += definitions.len();
            return Ok(());
        }
        let windows: Vec<Window> = artifact.windows().iter().map(|column| column.window.clone()).collect();
        let before = std::mem::replace(&mut self.definitions, definitions);
        followed.dropped += before.iter().filter(|definition| !self.definitions.contains(definition)).count();
        let kept = self.definitions.iter().filter(|definition| before.contains(definition)).count();
        followed.kept += kept;
        followed.begun += windows.len() - kept;
        let settings = &self.settings.windows;
        self.windows = match self.windows.take() {
            _ if windows.is_empty() => None,
            None => Some(Windows::with_settings(artifact.event_schema(), &windows, settings)),
            Some(known) => Some(known.changed(&before, &windows, &self.definitions, settings)?.windows),
        };
        Ok(())
    }

    fn follow_patterns(&mut self, snapshot: &Snapshot, rules: Vec<PatternRule>, followed: &mut Followed) -> Result<(), Broken> {
        let known = self.rules.len();
        self.rules.clone_from(&rules);
        let before = self.patterns.take().map(|(patterns, _)| patterns);
        if rules.is_empty() {
            followed.dropped += known;
            return Ok(());
        }
        let (schema, count) = (seen(snapshot), rules.len());
        let patterns = match before {
            None => {
                let mut patterns = Patterns::new(schema.clone(), rules, self.settings.windows.lateness, self.settings.patterns);
                self.settings.windows.spill.iter().for_each(|spill| patterns.spill_to(spill));
                patterns
            }
            Some(before) => {
                let restored = before.changed(schema.clone(), rules)?;
                followed.kept += restored.kept.len();
                followed.dropped += restored.dropped.len();
                followed.begun += count - restored.kept.len();
                restored.patterns
            }
        };
        if known == 0 {
            followed.begun += count;
        }
        let conditions = RowConditions::new(&patterns, schema, Some(self.settings.choice)).map_err(Broken::Conditions)?;
        self.patterns = Some((patterns, conditions));
        Ok(())
    }

    /// The rules that the state is for.
    #[must_use]
    pub fn generation(&self) -> Option<String> {
        self.snapshot.as_ref().map(|snapshot| snapshot.generation().to_string())
    }

    /// Whether the state is for these very rules.
    #[must_use]
    pub fn is_for(&self, rules: &Arc<Snapshot>) -> bool {
        self.snapshot.as_ref().is_some_and(|snapshot| Arc::ptr_eq(snapshot, rules))
    }

    /// Whether rules keep any state.
    #[must_use]
    pub const fn has_state(&self) -> bool {
        self.windows.is_some() || self.patterns.is_some()
    }

    #[must_use]
    pub const fn windows(&self) -> Option<&Windows> {
        self.windows.as_ref()
    }

    #[must_use]
    pub fn patterns(&self) -> Option<&Patterns> {
        self.patterns.as_ref().map(|(patterns, _)| patterns)
    }
}

/// The fields that patterns may name.
fn seen(snapshot: &Snapshot) -> Schema {
    let mut schema = snapshot.schema().clone();
    schema.truncate(snapshot.base().patterns().first().map_or(0, |(_, pattern)| pattern.fields as usize));
    schema
}

fn pattern_rules(snapshot: &Snapshot) -> Vec<PatternRule> {
    let artifact = snapshot.base();
    let rule = |(rule, pattern)| {
        let tenant = artifact.rule(rule).tenant;
        let tenant = (tenant != NONE).then(|| artifact.manifest().tenants[tenant as usize].as_str().into());
        PatternRule { rule, name: artifact.rule_name(rule).into(), tenant, pattern: Arc::clone(pattern) }
    };
    snapshot.patterns().map(rule).collect()
}

/// For each window of an artifact what it computes of what, in words that stay the same as long as its state can be kept.
#[must_use]
pub fn definitions(artifact: &Artifact) -> Vec<String> {
    let schema = artifact.event_schema();
    let definition = |window: &Window| {
        let fields: BTreeSet<FieldId> = window.needs().chain(schema.tenant).chain(schema.time).collect();
        let types: Vec<String> =
            fields.into_iter().map(|field| schema.field(field)).map(|field| format!("{} {}", field.name, field.ty)).collect();
        let tenant = schema.tenant.map_or(String::new(), |tenant| format!(" of each {}", schema.field(tenant).name));
        format!("{}{tenant}, of {}", text(window, artifact.schema()), types.join(", "))
    };
    artifact.windows().iter().map(|column| definition(&column.window)).collect()
}
