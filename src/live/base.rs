//! The base: the artifact that most rules lie in, with what finds its rules by id and codes newer ones in its terms.

use super::codes::Coder;
use crate::compile::{Context, recompile};
use crate::engine::Generation;
use crate::engine::router::{Choice, Router};
use crate::event::EventBatch;
use crate::expr::columns::Cache;
use crate::flow::{EncodedBatch, Hits};
use crate::id::{FieldId, RuleId};
use crate::rule::window::Columns;
use crate::rule::{Action, Clause, Diagnostic, Origin, Rule, SEQUENCE, Status};
use crate::tables::Artifact;
use crate::tables::artifact::{ArtifactError, RuleRecord, SOURCE_BLOCK};
use crate::tables::layout::NONE;
use foldhash::fast::FixedState;
use std::hash::BuildHasher;
use std::sync::Arc;

/// The place of a rule in the order of the rules. It is given when the rule is added, and kept when it is replaced.
pub type Rank = u64;

/// Rules compiled together.
pub struct Base {
    generation: Generation,
    router: Router,
    ids: Ids,
    /// The rank of each rule, ascending; absent where it is the rule's position.
    ranks: Option<Vec<Rank>>,
    coder: Coder,
    windows: Columns,
}

impl Base {
    /// An artifact as a base; the order of its rules is their rank.
    pub fn new(artifact: Arc<Artifact>, ranks: Option<Vec<Rank>>, choice: Choice) -> Result<Self, String> {
        let generation = Generation::new(Arc::clone(&artifact)).map_err(|error| error.to_string())?;
        let (ids, coder) = (Ids::new(&artifact), Coder::new(Arc::clone(&artifact)));
        let windows = Columns::of(artifact.event_schema(), artifact.windows());
        Ok(Self { ids, coder, windows, router: Router::new(artifact, choice)?, generation, ranks })
    }

    /// Compiles rules that were checked before, ascending by rank, over the windows that they name.
    pub fn compile(rules: impl Iterator<Item = (Rank, Rule)>, windows: Columns, context: &Context, choice: Choice) -> Result<Self, String> {
        let mut ranks = Vec::new();
        let compiled = recompile(rules.map(|(rank, rule)| (ranks.push(rank), rule).1), windows, context);
        let Some(bytes) = compiled.artifact else {
            let error = compiled.diagnostics.iter().find(|diagnostic| diagnostic.is_error()).map(Diagnostic::to_string);
            return Err(format!("rules that are in service do not compile: {}", error.unwrap_or_default()));
        };
        let artifact = Artifact::from_bytes(&bytes).map_err(|error| error.to_string())?;
        drop(bytes);
        Self::new(Arc::new(artifact), Some(ranks), choice)
    }

    pub const fn artifact(&self) -> &Arc<Artifact> {
        self.generation.artifact()
    }

    pub fn len(&self) -> usize {
        self.artifact().rules().len()
    }

    /// The fields of the events, and the windows that rules may name.
    pub const fn windows(&self) -> &Columns {
        &self.windows
    }

    pub const fn coder(&self) -> &Coder {
        &self.coder
    }

    /// The fields that matching reads, ascending.
    pub fn fields(&self) -> Vec<FieldId> {
        self.generation.fields()
    }

    pub fn record(&self, rule: RuleId) -> &RuleRecord {
        self.artifact().rule(rule)
    }

    pub fn rank(&self, rule: RuleId) -> Rank {
        self.ranks.as_ref().map_or(Rank::from(rule.0), |ranks| ranks[rule.index()])
    }

    /// The rank of a rule that comes after all of these.
    pub fn next_rank(&self) -> Rank {
        self.len().checked_sub(1).map_or(0, |last| self.rank(RuleId::new(last)) + 1)
    }

    /// The rule of this id, dead or alive.
    pub fn find(&self, id: &str) -> Option<RuleId> {
        self.ids.find(self.artifact(), id)
    }

    pub fn encode(&self, batch: &EventBatch, cache: &mut Cache) -> EncodedBatch {
        self.generation.encode(batch, cache)
    }

    /// The hits of an encoded batch: dead rules too.
    pub fn hits(&self, batch: &EventBatch, encoded: &EncodedBatch, cache: &mut Cache) -> Hits {
        self.generation.verify(batch, self.router.find(encoded), cache)
    }

    /// The rule again, its condition in canonical text; `text` where it is at hand.
    pub fn rule(&self, rule: RuleId, text: Option<&str>) -> Result<Rule, ArtifactError> {
        let text: Arc<str> = match text {
            Some(text) => text.into(),
            None => self.artifact().source(rule)?.into(),
        };
        Ok(rule_of(self.artifact(), rule, text))
    }

    /// The canonical texts of the block of rules that `rule` is in, and the first rule of that block.
    pub fn texts(&self, rule: RuleId) -> Result<(RuleId, Vec<String>), ArtifactError> {
        let block = rule.index() / SOURCE_BLOCK;
        Ok((RuleId::new(block * SOURCE_BLOCK), self.artifact().source_block(block)?))
    }
}

/// The rules of an artifact, in order, as they could be compiled again: their conditions in canonical text, without their tests.
///
/// # Errors
/// Texts that cannot be unpacked.
pub fn rules_of(artifact: &Artifact) -> Result<Vec<Rule>, ArtifactError> {
    let count = artifact.rules().len();
    let mut rules = Vec::with_capacity(count);
    for block in 0..count.div_ceil(SOURCE_BLOCK) {
        for text in artifact.source_block(block)? {
            rules.push(rule_of(artifact, RuleId::new(rules.len()), text.into()));
        }
    }
    Ok(rules)
}

fn rule_of(artifact: &Artifact, rule: RuleId, text: Arc<str>) -> Rule {
    let record = artifact.rule(rule);
    let (clause, when) = match text.strip_prefix(SEQUENCE) {
        _ if artifact.pattern(rule).is_none() => (Clause::When, text),
        None => (Clause::MatchRecognize, text),
        Some(sequence) => (Clause::Sequence, sequence.into()),
    };
    Rule {
        id: artifact.rule_name(rule).into(),
        tenant: (record.tenant != NONE).then(|| artifact.manifest().tenants[record.tenant as usize].as_str().into()),
        when,
        origin: Origin::default(),
        parameters: Vec::new(),
        score: record.score,
        action: [Action::Allow, Action::Review, Action::Challenge, Action::Block][usize::from(record.action)],
        status: [Status::Live, Status::Shadow, Status::Off][usize::from(record.status)],
        tags: artifact.tags(rule).map(Arc::from).collect(),
        outcome: (record.outcome != NONE).then(|| artifact.name(record.outcome).into()),
        clause,
        tests: Vec::new(),
    }
}

/// Rules by id: open addressing over positions, 8 to 16 bytes a rule; the ids themselves stay in the artifact.
struct Ids {
    hasher: FixedState,
    /// Position + 1, or 0; a power of two long, at most half full.
    slots: Vec<u32>,
}

impl Ids {
    fn new(artifact: &Artifact) -> Self {
        let rules = artifact.rules().len();
        let mut ids = Self { hasher: FixedState::default(), slots: vec![0; (rules * 2 + 1).next_power_of_two()] };
        for rule in 0..rules {
            let mut slot = ids.start(artifact.rule_name(RuleId::new(rule)));
            while ids.slots[slot] != 0 {
                slot = (slot + 1) & (ids.slots.len() - 1);
            }
            ids.slots[slot] = rule as u32 + 1;
        }
        ids
    }

    fn start(&self, id: &str) -> usize {
        self.hasher.hash_one(id) as usize & (self.slots.len() - 1)
    }

    fn find(&self, artifact: &Artifact, id: &str) -> Option<RuleId> {
        let mut slot = self.start(id);
        loop {
            let rule = RuleId(self.slots[slot].checked_sub(1)?);
            if artifact.rule_name(rule) == id {
                return Some(rule);
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
    }
}
