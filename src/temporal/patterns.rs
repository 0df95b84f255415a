//! All patterns of an artifact, over all partitions.

use super::capture::CapturedChunk;
use super::conditions::Conditions;
use super::finding::Finding;
use super::group::{Arrivals, Clock, Group, Kind, Shared};
use super::keys::{Tenants, nanoseconds_of_tick};
use super::progress::Troubles;
use super::spill::Spill;
use super::windows::times;
use crate::event::{EventBatch, Schema};
use crate::flow::Hits;
use crate::id::{FieldId, RuleId};
use crate::pattern::Pattern;
use std::collections::HashMap;
use std::sync::Arc;

/// A finding, and whose it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub rule: RuleId,
    pub finding: Finding,
}

/// A pattern in service.
#[derive(Clone, Debug)]
pub struct PatternRule {
    pub rule: RuleId,
    /// Its name, by which state outlives other rules.
    pub name: Arc<str>,
    /// The tenant whose rows it sees; `None`: those of every tenant, each tenant's by themselves.
    pub tenant: Option<Arc<str>>,
    pub pattern: Arc<Pattern>,
}

/// What did not go as rules and rows say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Rows before the watermark when they came; no pattern sees them.
    pub late: u64,
    /// Rows without a time.
    pub untimed: u64,
    pub troubles: Troubles,
}

/// What the state of patterns may take. Beyond a limit the rule is given up for the key at hand, which is counted; other keys and rules go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of rows and searches of one partition.
    pub key_bytes: usize,
    /// The same of all partitions of one tenant, for each way of partitioning.
    pub tenant_bytes: usize,
    /// Steps of the automaton that one search may visit.
    pub steps: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { key_bytes: 16 << 20, tenant_bytes: 4 << 30, steps: 10_000_000 }
    }
}

/// All patterns, with their state.
#[derive(Debug)]
pub struct Patterns {
    pub(super) schema: Schema,
    pub(super) groups: Vec<Group>,
    pub(super) conditions: Conditions,
    pub(super) tenants: Tenants,
    needed: Vec<FieldId>,
    pub(super) limits: Limits,
    /// In ticks of the schema's time.
    lateness: i64,
    /// The highest time seen less the lateness: no later row is before it.
    pub(super) watermark: Option<i64>,
    pub(super) late: u64,
    pub(super) untimed: u64,
    /// Of a copy that was begun, what is not copied in steps.
    pub(super) ready: Vec<CapturedChunk>,
    pub(super) spill: Option<Arc<Spill>>,
}

impl Patterns {
    /// `lateness`: nanoseconds that rows may be late.
    #[must_use]
    pub fn new(schema: Schema, rules: Vec<PatternRule>, lateness: i64, limits: Limits) -> Self {
        Self::with_tenants(schema, rules, lateness, limits, Tenants::default())
    }

    /// The same with tenants that have their numbers already.
    pub(super) fn with_tenants(schema: Schema, rules: Vec<PatternRule>, lateness: i64, limits: Limits, mut tenants: Tenants) -> Self {
        let mut conditions = Conditions::default();
        let mut places: HashMap<Kind, usize> = HashMap::new();
        let mut kinds: Vec<(Kind, Vec<PatternRule>)> = Vec::new();
        for rule in rules {
            let kind = Kind::of(&rule.pattern);
            let place = *places.entry(kind.clone()).or_insert_with(|| {
                kinds.push((kind, Vec::new()));
                kinds.len() - 1
            });
            kinds[place].1.push(rule);
        }
        let groups: Vec<Group> =
            kinds.into_iter().map(|(kind, rules)| Group::new(&schema, kind, rules, &mut tenants, &mut conditions)).collect();
        let mut needed: Vec<FieldId> = groups.iter().flat_map(Group::fields).copied().chain(schema.time).chain(schema.tenant).collect();
        needed.sort_unstable();
        needed.dedup();
        let lateness = lateness / tick(&schema);
        Self {
            schema,
            groups,
            conditions,
            tenants,
            needed,
            limits,
            lateness,
            watermark: None,
            late: 0,
            untimed: 0,
            ready: Vec::new(),
            spill: None,
        }
    }

    /// Nanoseconds that rows may be late.
    pub(super) fn lateness_nanoseconds(&self) -> i64 {
        self.lateness * tick(&self.schema)
    }

    /// Has what is known of keys go to disk where memory has no room for it; before any row is taken.
    pub fn spill_to(&mut self, spill: &Arc<Spill>) {
        self.groups.iter_mut().for_each(|group| group.spill_to(spill));
        self.spill = Some(Arc::clone(spill));
    }

    /// Whether all that is known can be relied upon.
    fn check(&self) -> Result<(), String> {
        self.spill.as_ref().and_then(|spill| spill.fault()).map_or(Ok(()), Err)
    }

    /// The fields that patterns read, but for those of their conditions on single rows, ascending.
    #[must_use]
    pub fn fields(&self) -> &[FieldId] {
        &self.needed
    }

    /// What patterns ask of single rows. Who calls [`Patterns::take`] tells which of them hold.
    #[must_use]
    pub const fn conditions(&self) -> &Conditions {
        &self.conditions
    }

    /// Takes the rows of a batch, but for those `hidden`, one by one: what is found does not depend on how rows are cut into batches.
    /// `holds`: for each row the conditions that hold for it, by their numbers. The rows that came too late are added to `late`.
    ///
    /// # Errors
    /// When what is known of keys cannot be written to disk, or read. Nothing is found then, and nothing can be taken after it.
    pub fn take(
        &mut self,
        batch: &EventBatch,
        holds: &Hits,
        hidden: &[u32],
        found: &mut Vec<Found>,
        late: &mut Vec<usize>,
    ) -> Result<(), String> {
        self.check()?;
        let times = times(&self.schema, batch);
        let in_time = self.groups.iter().any(Group::streams) && self.schema.time.is_some();
        let mut clocks = Vec::with_capacity(batch.rows());
        for (at, time) in times.into_iter().enumerate() {
            let is_hidden = !hidden.is_empty() && hidden.binary_search(&(at as u32)).is_ok();
            let is_late = !is_hidden && time.zip(self.watermark).is_some_and(|(time, watermark)| time < watermark);
            if is_late {
                self.late += 1;
                late.push(at);
            }
            if let Some(time) = time.filter(|_| !is_hidden) {
                let mark = time.saturating_sub(self.lateness);
                self.watermark = Some(self.watermark.map_or(mark, |watermark| watermark.max(mark)));
            }
            self.untimed += u64::from(in_time && time.is_none() && !is_hidden);
            clocks.push(Clock { time, watermark: self.watermark, left_out: is_late || is_hidden || time.is_none(), hidden: is_hidden });
        }
        let tenants = self.tenants.of_rows(&self.schema, batch);
        let arrivals = Arrivals { schema: &self.schema, batch, holds, tenants: &tenants, clocks: &clocks };
        let mut brought = Vec::new();
        for group in &mut self.groups {
            let mut shared = Shared { limits: &self.limits, found: &mut brought, arrival: 0 };
            group.take(&arrivals, &mut shared)?;
        }
        if self.groups.len() > 1 {
            // Stable: what one row brings stays in the order of the groups.
            brought.sort_by_key(|(row, _)| *row);
        }
        found.extend(brought.into_iter().map(|(_, found)| found));
        Ok(())
    }

    /// Settles everything: no row follows.
    ///
    /// # Errors
    /// As [`Patterns::take`].
    pub fn finish(&mut self, found: &mut Vec<Found>) -> Result<(), String> {
        self.check()?;
        let mut brought = Vec::new();
        for group in &mut self.groups {
            let mut shared = Shared { limits: &self.limits, found: &mut brought, arrival: 0 };
            group.finish(&mut shared)?;
        }
        found.extend(brought.into_iter().map(|(_, found)| found));
        Ok(())
    }

    /// What did not go as rules and rows say, so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut troubles = Troubles::default();
        self.troubles().for_each(|(_, of_rule)| troubles.add(of_rule));
        Counters { late: self.late, untimed: self.untimed, troubles }
    }

    /// The rules for which something did not go as they say.
    pub fn troubles(&self) -> impl Iterator<Item = (RuleId, Troubles)> {
        let members = self.groups.iter().flat_map(Group::members);
        members.filter(|member| member.troubles != Troubles::default()).map(|member| (member.rule.rule, member.troubles))
    }

    /// Rows that are held, by all patterns.
    ///
    /// # Errors
    /// When those on disk cannot be read.
    pub fn held(&self) -> Result<usize, String> {
        self.groups.iter().map(Group::held).sum()
    }

    /// Partitions that something is known of, once for each way of partitioning.
    #[must_use]
    pub fn partitions(&self) -> usize {
        self.groups.iter().map(Group::partitions).sum()
    }

    /// Bytes of memory that partitions take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.groups.iter().map(Group::bytes).sum()
    }
}

/// Nanoseconds in a tick of the schema's time.
fn tick(schema: &Schema) -> i64 {
    schema.time.and_then(|time| nanoseconds_of_tick(schema.field(time).ty)).unwrap_or(1)
}
