//! One state of the rules, immutable: the base and which of its rules are dead, settled rules and which of them are, and loose rules.

use super::base::{Base, Rank};
use super::codes::{Term, Verdict};
use super::dead::Dead;
use super::entries::Entry;
use super::newer::{Changed, Newer, Strangers};
use super::settled::Settled;
use crate::decide::{Decisions, decide_with};
use crate::event::{EventBatch, Schema};
use crate::expr::columns::Cache;
use crate::flow::{EncodedBatch, Hits};
use crate::id::{FieldId, RuleId};
use crate::pattern::Pattern;
use crate::rule::{Rule, Status};
use crate::tables::Artifact;
use crate::tables::artifact::{ArtifactError, RuleRecord};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// One state of the rules. A batch is matched by one snapshot from end to end.
///
/// A snapshot numbers its rules: a [`RuleId`] that it gave means something to this snapshot only.
#[derive(Clone)]
pub struct Snapshot {
    pub(super) generation: Arc<str>,
    pub(super) base: Arc<Base>,
    /// Rules of the base that were removed or replaced.
    pub(super) dead: Arc<Dead>,
    pub(super) settled: Arc<Settled>,
    /// Settled rules that were.
    pub(super) settled_dead: Arc<Dead>,
    pub(super) loose: Vec<Arc<Newer>>,
    pub(super) strangers: Arc<Strangers>,
    /// The rank of the next rule that is added.
    pub(super) next_rank: Rank,
}

/// Where a rule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Base(RuleId),
    Settled(RuleId),
    Loose(usize),
}

impl Snapshot {
    /// A base and nothing else.
    pub(super) fn new(base: Arc<Base>) -> Self {
        Self {
            generation: base.artifact().generation().into(),
            next_rank: base.next_rank(),
            base,
            dead: Arc::default(),
            settled: Arc::default(),
            settled_dead: Arc::default(),
            loose: Vec::new(),
            strangers: Arc::default(),
        }
    }

    /// Rules that have numbers, dead ones too: those of the base first, then settled and loose ones.
    pub(super) fn numbered(&self) -> usize {
        self.first_loose() as usize + self.loose.len()
    }

    fn first_settled(&self) -> u32 {
        self.base.len() as u32
    }

    fn first_loose(&self) -> u32 {
        self.first_settled() + self.settled.rules().len() as u32
    }

    /// The rules in service that are newer than the base.
    pub(super) fn newer(&self) -> impl Iterator<Item = &Arc<Newer>> {
        let settled = self.settled.rules().iter().enumerate().filter(|(rule, _)| !self.settled_dead.contains(RuleId::new(*rule)));
        settled.map(|(_, newer)| newer).chain(&self.loose)
    }

    /// Where the rule of this id is.
    pub(super) fn place(&self, id: &str) -> Option<Place> {
        let loose = self.loose.iter().rposition(|newer| *newer.changed.rule.id == *id).map(Place::Loose);
        loose.or_else(|| self.place_compiled(id))
    }

    /// The same where it is known not to be loose.
    pub(super) fn place_compiled(&self, id: &str) -> Option<Place> {
        let settled = self.settled.find(id).filter(|rule| !self.settled_dead.contains(*rule)).map(Place::Settled);
        settled.or_else(|| self.base.find(id).filter(|rule| !self.dead.contains(*rule)).map(Place::Base))
    }

    /// The same rules, all newer ones settled.
    pub(super) fn settled(&self) -> Self {
        let settled = Arc::new(Settled::new(self.newer().cloned().collect()));
        Self { settled, settled_dead: Arc::default(), loose: Vec::new(), ..self.clone() }
    }

    fn place_of(&self, rule: RuleId) -> Place {
        if rule.0 >= self.first_loose() {
            Place::Loose((rule.0 - self.first_loose()) as usize)
        } else if rule.0 >= self.first_settled() {
            Place::Settled(RuleId(rule.0 - self.first_settled()))
        } else {
            Place::Base(rule)
        }
    }

    fn number(&self, place: Place) -> RuleId {
        match place {
            Place::Base(rule) => rule,
            Place::Settled(rule) => RuleId(self.first_settled() + rule.0),
            Place::Loose(at) => RuleId(self.first_loose() + at as u32),
        }
    }

    /// The rule at a place outside the base; that of the base is given back.
    fn changed(&self, place: Place) -> Result<&Arc<Changed>, RuleId> {
        match place {
            Place::Base(rule) => Err(rule),
            Place::Settled(rule) => Ok(&self.settled.rule(rule).changed),
            Place::Loose(at) => Ok(&self.loose[at].changed),
        }
    }

    pub(super) fn rank(&self, place: Place) -> Rank {
        self.changed(place).map_or_else(|rule| self.base.rank(rule), |changed| changed.rank)
    }

    pub(super) fn rule_at(&self, place: Place) -> Result<Rule, ArtifactError> {
        self.changed(place).map_or_else(|rule| self.base.rule(rule, None), |changed| Ok(changed.rule.clone()))
    }

    /// The name of this state of the rules, what decisions name: a hash of the first artifact (whose own name it is until the first change) and of
    /// every change since. Merging and compaction do not change it.
    #[must_use]
    pub const fn generation(&self) -> &Arc<str> {
        &self.generation
    }

    /// The rules as they were last compiled together, with the windows that all rules may name and all patterns; some of its rules may have changed since.
    #[must_use]
    pub fn base(&self) -> &Arc<Artifact> {
        self.base.artifact()
    }

    /// The patterns that are in service, live or shadow.
    pub fn patterns(&self) -> impl Iterator<Item = (RuleId, &Arc<Pattern>)> {
        let is_on = |rule: RuleId| !self.dead.contains(rule) && self.base.record(rule).status != Status::Off as u8;
        self.base().patterns().iter().filter(move |(rule, _)| is_on(*rule)).map(|(rule, pattern)| (*rule, pattern))
    }

    /// The fields of the events, then the windows.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        self.base.artifact().schema()
    }

    /// The number of rules, those that are off too.
    #[must_use]
    pub fn rules(&self) -> usize {
        self.numbered() - self.dead.len() - self.settled_dead.len()
    }

    /// Rules that changed since the base was compiled: newer ones, and the dead of the base.
    #[must_use]
    pub fn changes(&self) -> usize {
        self.settled.rules().len() + self.loose.len() + self.dead.len()
    }

    /// The number of rules in the base and of settled ones, dead ones too; then the number of loose rules.
    #[must_use]
    pub fn shape(&self) -> [usize; 3] {
        [self.base.len(), self.settled.rules().len(), self.loose.len()]
    }

    /// The number of the rule of this id.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<RuleId> {
        self.place(id).map(|place| self.number(place))
    }

    /// The id of a rule.
    #[must_use]
    pub fn id(&self, rule: RuleId) -> &str {
        self.changed(self.place_of(rule)).map_or_else(|rule| self.base.artifact().rule_name(rule), |changed| &changed.rule.id)
    }

    /// The ids of rules, as many as memory is to be asked for at a time: they lie far apart.
    pub fn ids(&self, rules: &[RuleId]) -> impl Iterator<Item = &str> {
        // While one is read as text, the processor does not get as far as the next; it does while it looks at one byte of each.
        let begin = |rule: &RuleId| self.changed(self.place_of(*rule)).err().and_then(|rule| self.base.artifact().name_begin(rule.0));
        std::hint::black_box(rules.iter().filter_map(begin).fold(0, u8::wrapping_add));
        rules.iter().map(|rule| self.id(*rule))
    }

    /// Everything about a rule; its condition may be in canonical text, its tests are gone.
    ///
    /// # Errors
    /// When the artifact's texts cannot be unpacked.
    pub fn rule(&self, rule: RuleId) -> Result<Rule, ArtifactError> {
        self.rule_at(self.place_of(rule))
    }

    fn record(&self, rule: RuleId) -> &RuleRecord {
        self.changed(self.place_of(rule)).map_or_else(|rule| self.base.record(rule), |changed| &changed.record)
    }

    /// The fields that matching reads, ascending. A rule that is added may read others.
    #[must_use]
    pub fn fields(&self) -> Vec<FieldId> {
        let of_newer = self.newer().flat_map(|newer| newer.changed.condition.fields());
        let mut fields: Vec<FieldId> = self.base.fields().into_iter().chain(of_newer).chain(self.schema().tenant).collect();
        fields.sort_unstable();
        fields.dedup();
        fields
    }

    /// The rules that match each row: those that a compiler given all rules at once would find, in the same order.
    #[must_use]
    pub fn hits(&self, batch: &EventBatch) -> Hits {
        let cache = &mut Cache::new();
        let mut encoded = self.base.encode(batch, cache);
        let of_base = self.base.hits(batch, &encoded, cache);
        if self.changes() == 0 {
            return of_base;
        }
        self.strangers.find(self.schema(), batch, &mut encoded.partitions);
        let mut candidates = Candidates::default();
        self.loose_candidates(&encoded, &mut candidates);
        self.settled.candidates(&self.base.artifact().tables(), &mut encoded, |row, rule, verdict| {
            if !self.settled_dead.contains(rule) {
                candidates.add(row, self.first_settled() + rule.0, verdict);
            }
        });
        self.merge(of_base, &self.settle(batch, candidates, cache))
    }

    /// The candidates among loose rules, which are few: each row is held against those of its tenant, and of every tenant.
    fn loose_candidates(&self, encoded: &EncodedBatch, candidates: &mut Candidates) {
        if self.loose.is_empty() {
            return;
        }
        let mut terms = Vec::new();
        let mut entries: Vec<(u32, Entry)> = Vec::new();
        for (newer, number) in self.loose.iter().zip(self.first_loose()..) {
            for term in &newer.terms {
                Entry::each(term, terms.len() as u32, 0, |entry, _| entries.push((newer.partition, entry)));
                terms.push((number, term));
            }
        }
        entries.sort_by_key(|(partition, _)| *partition);
        let runs = entries.chunk_by(|a, b| a.0 == b.0).map(|run| (run[0].0, run));
        let mut runs: HashMap<u32, &[_], foldhash::fast::FixedState> = runs.collect();
        let of_all = runs.remove(&0).unwrap_or_default();
        for (row, partition) in (0..).zip(&encoded.partitions) {
            let own = runs.get(partition).copied().unwrap_or_default();
            let codes = encoded.row(row as usize);
            for (_, entry) in own.iter().chain(of_all).filter(|(_, entry)| entry.admits(codes)) {
                let (number, term): (u32, &Term) = terms[entry.number as usize];
                candidates.add(row, number, term.verdict(codes));
            }
        }
    }

    /// The hits outside the base, in order: what codes leave open is evaluated.
    fn settle(&self, batch: &EventBatch, candidates: Candidates, cache: &mut Cache) -> Vec<Further> {
        let Candidates { mut hits, mut open } = candidates;
        open.sort_unstable();
        open.dedup();
        let mut rows = Vec::new();
        for run in open.chunk_by(|a, b| a.0 == b.0) {
            rows.clear();
            rows.extend(run.iter().map(|(_, row)| *row));
            let number = run[0].0;
            if let Ok(changed) = self.changed(self.place_of(RuleId(number))) {
                let matching = changed.program().select(self.schema(), batch, Some(&rows), cache);
                hits.extend(matching.into_iter().map(|at| (rows[at as usize], number)));
            }
        }
        let rank = |number| self.rank(self.place_of(RuleId(number)));
        let mut further: Vec<Further> = hits.into_iter().map(|(row, number)| (row, rank(number), RuleId(number))).collect();
        further.sort_unstable();
        further.dedup();
        further
    }

    /// The hits of the base, without those of dead rules, and the further ones; for each row by rank. Rows without either stay as they are, which most do.
    fn merge(&self, of_base: Hits, further: &[Further]) -> Hits {
        let Hits { mut offsets, rules: before } = of_base;
        let dead = (0..).zip(&before).filter(|(_, rule)| self.dead.contains(**rule)).map(|(at, _)| at);
        let dead: Vec<u32> = if self.dead.len() == 0 { Vec::new() } else { dead.collect() };
        if dead.is_empty() && further.is_empty() {
            return Hits { offsets, rules: before };
        }
        let mut rules = Vec::with_capacity(before.len() + further.len());
        let mut dead = dead.into_iter().peekable();
        let mut further = further.chunk_by(|a, b| a.0 == b.0).peekable();
        let (mut copied, mut start) = (0, 0);
        for row in 0..offsets.len() - 1 {
            let end = offsets[row + 1];
            let own = further.next_if(|run| run[0].0 == row as u32);
            if own.is_some() || dead.peek().is_some_and(|at| *at < end) {
                let mut own = own.unwrap_or_default();
                rules.extend_from_slice(&before[copied..start as usize]);
                for at in start..end {
                    let rule = before[at as usize];
                    if dead.next_if_eq(&at).is_none() {
                        let earlier = own.partition_point(|(_, rank, _)| *rank < self.base.rank(rule));
                        rules.extend(own[..earlier].iter().map(|(.., number)| *number));
                        rules.push(rule);
                        own = &own[earlier..];
                    }
                }
                rules.extend(own.iter().map(|(.., number)| *number));
                copied = end as usize;
            }
            start = end;
            offsets[row + 1] = (rules.len() + end as usize - copied) as u32;
        }
        rules.extend_from_slice(&before[copied..]);
        Hits { offsets, rules }
    }

    /// What the rules say of each row of `hits`, which this snapshot gave.
    #[must_use]
    pub fn decide(&self, hits: &Hits) -> Decisions {
        decide_with(hits, |rule| self.record(rule))
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("generation", &self.generation)
            .field("rules", &self.rules())
            .field("shape", &self.shape())
            .finish()
    }
}

/// A hit outside the base: row, rank and number of the rule.
type Further = (u32, Rank, RuleId);

/// What codes say of rows and newer rules, by their numbers; some of it more than once.
#[derive(Default)]
struct Candidates {
    /// (row, rule)
    hits: Vec<(u32, u32)>,
    /// (rule, row)
    open: Vec<(u32, u32)>,
}

impl Candidates {
    fn add(&mut self, row: u32, number: u32, verdict: Verdict) {
        match verdict {
            Verdict::Fails => {}
            Verdict::Holds => self.hits.push((row, number)),
            Verdict::Open => self.open.push((number, row)),
        }
    }
}
