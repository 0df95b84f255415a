//! One state of the rules, immutable: parts, which of their rules are dead, and loose rules.

use super::dead::Dead;
use super::part::{Loose, Part, Rank};
use crate::decide::{Decisions, decide_with};
use crate::event::{EventBatch, Schema};
use crate::expr::columns::Cache;
use crate::flow::Hits;
use crate::id::{FieldId, RuleId};
use crate::rule::{Rule, Status};
use crate::tables::artifact::{ArtifactError, RuleRecord};
use arrow::array::types::{Int32Type, Int64Type, UInt64Type};
use arrow::array::{Array, AsArray, UInt32Array};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// One state of the rules. A batch is matched by one snapshot from end to end.
///
/// A snapshot numbers its rules: a [`RuleId`] that it gave means something to this snapshot only.
#[derive(Clone)]
pub struct Snapshot {
    pub(super) generation: Arc<str>,
    /// Of the base.
    pub(super) tenants: Arc<Tenants>,
    /// The first is the base; the newest is the last.
    pub(super) parts: Vec<PartState>,
    pub(super) loose: Vec<LooseState>,
    /// The rank of the next rule that is added.
    pub(super) next_rank: Rank,
}

/// A part in a snapshot.
#[derive(Clone)]
pub struct PartState {
    pub part: Arc<Part>,
    pub dead: Arc<Dead>,
    /// The number of its first rule.
    first: u32,
    audience: Arc<Audience>,
}

/// A loose rule in a snapshot.
#[derive(Clone)]
pub struct LooseState {
    pub loose: Arc<Loose>,
    visits: Visits,
}

/// The rows that a loose rule looks at.
#[derive(Clone, Copy)]
enum Visits {
    All,
    /// A partition of the base.
    Partition(u32),
    /// Those of a tenant that the base does not know.
    Named,
}

/// The rows that a part looks at, in terms of the partitions of the base, which are known of every row.
#[derive(Default)]
struct Audience {
    everyone: bool,
    /// Tenants that the base does not know: rows of partition 0.
    strangers: bool,
    /// A bit for each partition of the base.
    partitions: Vec<u64>,
}

/// The partitions of a base by the names of their tenants.
pub struct Tenants(HashMap<Arc<str>, u32, foldhash::fast::FixedState>);

impl Tenants {
    pub fn of(base: &Part) -> Self {
        Self(base.artifact().manifest().tenants.iter().map(|name| Arc::from(name.as_str())).zip(1..).collect())
    }

    fn visits(&self, rule: &Rule) -> Visits {
        let Some(tenant) = &rule.tenant else { return Visits::All };
        self.0.get(tenant).map_or(Visits::Named, |partition| Visits::Partition(*partition))
    }

    fn audience(&self, part: &Part) -> Audience {
        let artifact = part.artifact();
        let everyone = artifact.tables().partitions.first().is_some_and(|partition| partition.segments > 0);
        let mut audience = Audience { everyone, ..Audience::default() };
        for tenant in &artifact.manifest().tenants {
            match self.0.get(tenant.as_str()) {
                None => audience.strangers = true,
                Some(&partition) => {
                    let word = partition as usize / 64;
                    if audience.partitions.len() <= word {
                        audience.partitions.resize(word + 1, 0);
                    }
                    audience.partitions[word] |= 1 << (partition % 64);
                }
            }
        }
        audience
    }
}

impl Audience {
    fn has(&self, partition: u32) -> bool {
        if partition == 0 {
            return self.strangers;
        }
        self.partitions.get(partition as usize / 64).is_some_and(|word| word >> (partition % 64) & 1 == 1)
    }

    /// The rows that the part looks at; `None` where they are all or most.
    fn rows(&self, partitions: &[u32]) -> Option<Vec<u32>> {
        if self.everyone {
            return None;
        }
        let rows: Vec<u32> = partitions.iter().zip(0..).filter(|(partition, _)| self.has(**partition)).map(|(_, row)| row).collect();
        // Cutting the rows out costs about a quarter of what encoding them does.
        (rows.len() * 4 < partitions.len() * 3).then_some(rows)
    }
}

impl PartState {
    pub fn new(part: Arc<Part>, dead: Arc<Dead>, tenants: &Tenants) -> Self {
        Self { audience: Arc::new(tenants.audience(&part)), part, dead, first: 0 }
    }

    pub fn alive(&self) -> usize {
        self.part.len() - self.dead.len()
    }
}

impl LooseState {
    pub fn new(loose: Arc<Loose>, tenants: &Tenants) -> Self {
        Self { visits: tenants.visits(&loose.rule), loose }
    }
}

/// Where a rule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Part(usize, RuleId),
    Loose(usize),
}

impl Snapshot {
    /// Numbers the rules again, after parts have come or gone.
    pub(super) fn number(&mut self) {
        let mut first = 0;
        for state in &mut self.parts {
            state.first = first;
            first += state.part.len() as u32;
        }
    }

    /// Rules that have numbers, dead ones too.
    pub(super) fn numbered(&self) -> usize {
        self.parts.iter().map(|state| state.part.len()).sum::<usize>() + self.loose.len()
    }

    fn first_loose(&self) -> u32 {
        self.parts.last().map_or(0, |state| state.first + state.part.len() as u32)
    }

    /// Where the rule of this id is.
    pub(super) fn place(&self, id: &str) -> Option<Place> {
        let loose = self.loose.iter().rposition(|state| &*state.loose.rule.id == id).map(Place::Loose);
        loose.or_else(|| {
            let alive = |(number, state): (usize, &PartState)| {
                state.part.find(id).filter(|rule| !state.dead.contains(*rule)).map(|rule| Place::Part(number, rule))
            };
            self.parts.iter().enumerate().rev().find_map(alive)
        })
    }

    fn place_of(&self, rule: RuleId) -> Place {
        if rule.0 >= self.first_loose() {
            return Place::Loose((rule.0 - self.first_loose()) as usize);
        }
        let part = self.parts.partition_point(|state| state.first <= rule.0) - 1;
        Place::Part(part, RuleId(rule.0 - self.parts[part].first))
    }

    pub(super) fn rank(&self, place: Place) -> Rank {
        match place {
            Place::Part(part, rule) => self.parts[part].part.rank(rule),
            Place::Loose(at) => self.loose[at].loose.rank,
        }
    }

    pub(super) fn rule_at(&self, place: Place) -> Result<Rule, ArtifactError> {
        match place {
            Place::Part(part, rule) => self.parts[part].part.rule(rule, None),
            Place::Loose(at) => Ok(self.loose[at].loose.rule.clone()),
        }
    }

    /// The name of this state of the rules, what decisions name: a hash of the first artifact (whose own name it is until the first change) and of
    /// every change since. Merging and compaction do not change it.
    #[must_use]
    pub const fn generation(&self) -> &Arc<str> {
        &self.generation
    }

    #[must_use]
    pub fn schema(&self) -> &Schema {
        self.parts[0].part.artifact().schema()
    }

    /// The number of rules, those that are off too.
    #[must_use]
    pub fn rules(&self) -> usize {
        self.parts.iter().map(PartState::alive).sum::<usize>() + self.loose.len()
    }

    /// Rules that changed since the base was compiled: what the other parts and the loose rules hold, and the dead of the base.
    #[must_use]
    pub fn changed(&self) -> usize {
        self.parts[1..].iter().map(|state| state.part.len()).sum::<usize>() + self.loose.len() + self.parts[0].dead.len()
    }

    /// The rules of each part, the base first, dead ones too; then the number of loose rules.
    #[must_use]
    pub fn shape(&self) -> Vec<usize> {
        self.parts.iter().map(|state| state.part.len()).chain([self.loose.len()]).collect()
    }

    /// The number of the rule of this id.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<RuleId> {
        self.place(id).map(|place| match place {
            Place::Part(part, rule) => RuleId(self.parts[part].first + rule.0),
            Place::Loose(at) => RuleId(self.first_loose() + at as u32),
        })
    }

    /// The id of a rule.
    #[must_use]
    pub fn id(&self, rule: RuleId) -> &str {
        match self.place_of(rule) {
            Place::Part(part, rule) => self.parts[part].part.artifact().rule_name(rule),
            Place::Loose(at) => &self.loose[at].loose.rule.id,
        }
    }

    /// Everything about a rule; its condition may be in canonical text, its tests are gone.
    ///
    /// # Errors
    /// When the artifact's texts cannot be unpacked.
    pub fn rule(&self, rule: RuleId) -> Result<Rule, ArtifactError> {
        self.rule_at(self.place_of(rule))
    }

    fn record(&self, rule: RuleId) -> &RuleRecord {
        match self.place_of(rule) {
            Place::Part(part, rule) => self.parts[part].part.artifact().rule(rule),
            Place::Loose(at) => &self.loose[at].loose.record,
        }
    }

    /// The fields that matching reads, ascending. A rule that is added may read others.
    #[must_use]
    pub fn fields(&self) -> Vec<FieldId> {
        let of_parts = self.parts.iter().flat_map(|state| state.part.fields().iter().copied());
        let of_loose = self.loose.iter().flat_map(|state| state.loose.program.expr().fields());
        let mut fields: Vec<FieldId> = of_parts.chain(of_loose).chain(self.schema().tenant).collect();
        fields.sort_unstable();
        fields.dedup();
        fields
    }

    /// The rules that match each row: those that a compiler given all rules at once would find, in the same order.
    #[must_use]
    pub fn hits(&self, batch: &EventBatch) -> Hits {
        let cache = &mut Cache::new();
        let base = &self.parts[0];
        let encoded = base.part.encode(batch, cache);
        let of_base = base.part.hits(batch, &encoded, cache);
        if self.parts.len() == 1 && self.loose.is_empty() && base.dead.is_empty() {
            return of_base;
        }
        let mut further = Vec::new();
        for state in &self.parts[1..] {
            self.hits_of_part(state, batch, &encoded.partitions, cache, &mut further);
        }
        for (state, number) in self.loose.iter().zip(self.first_loose()..) {
            self.hits_of_loose(state, RuleId(number), batch, &encoded.partitions, cache, &mut further);
        }
        further.sort_unstable();
        merge(base, &of_base, &further)
    }

    fn hits_of_part(&self, state: &PartState, batch: &EventBatch, partitions: &[u32], cache: &mut Cache, found: &mut Vec<Further>) {
        let PartState { part, dead, first, audience } = state;
        let rows = audience.rows(partitions);
        let hits = match &rows {
            Some(rows) if rows.is_empty() => return,
            Some(rows) => {
                let batch = rows_of(self.schema(), batch, part.fields(), rows);
                let cache = &mut Cache::new();
                part.hits(&batch, &part.encode(&batch, cache), cache)
            }
            None => part.hits(batch, &part.encode(batch, cache), cache),
        };
        for at in 0..hits.rows() {
            let row = rows.as_ref().map_or(at as u32, |rows| rows[at]);
            let alive = hits.row(at).iter().filter(|rule| !dead.contains(**rule));
            found.extend(alive.map(|rule| (row, part.rank(*rule), RuleId(first + rule.0))));
        }
    }

    fn hits_of_loose(
        &self,
        state: &LooseState,
        number: RuleId,
        batch: &EventBatch,
        partitions: &[u32],
        cache: &mut Cache,
        found: &mut Vec<Further>,
    ) {
        let LooseState { loose, visits } = state;
        if loose.rule.status == Status::Off {
            return;
        }
        let rows = match visits {
            Visits::All => None,
            Visits::Partition(wanted) => {
                Some(partitions.iter().zip(0..).filter(|(partition, _)| *partition == wanted).map(|(_, row)| row).collect())
            }
            Visits::Named => Some(rows_of_tenant(self.schema(), batch, loose.rule.tenant.as_deref().unwrap_or(""))),
        };
        let rows: Option<Vec<u32>> = rows;
        if rows.as_ref().is_some_and(Vec::is_empty) {
            return;
        }
        for at in loose.program.select(self.schema(), batch, rows.as_deref(), cache) {
            found.push((rows.as_ref().map_or(at, |rows| rows[at as usize]), loose.rank, number));
        }
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

/// The hits of the base, without those of dead rules, and the further ones, which are sorted; for each row by rank.
fn merge(base: &PartState, of_base: &Hits, further: &[Further]) -> Hits {
    let mut hits =
        Hits { offsets: Vec::with_capacity(of_base.offsets.len()), rules: Vec::with_capacity(of_base.rules.len() + further.len()) };
    hits.offsets.push(0);
    let mut further = further.iter().peekable();
    for row in 0..of_base.rows() {
        for &rule in of_base.row(row).iter().filter(|rule| !base.dead.contains(**rule)) {
            while let Some((.., number)) = further.next_if(|(of, rank, _)| *of == row as u32 && *rank < base.part.rank(rule)) {
                hits.rules.push(*number);
            }
            hits.rules.push(rule);
        }
        while let Some((.., number)) = further.next_if(|(of, ..)| *of == row as u32) {
            hits.rules.push(*number);
        }
        hits.offsets.push(hits.rules.len() as u32);
    }
    hits
}

/// Some rows of a batch, and of those the columns that are read.
fn rows_of(schema: &Schema, batch: &EventBatch, fields: &[FieldId], rows: &[u32]) -> EventBatch {
    let indices = UInt32Array::from(rows.to_vec());
    let mut columns = vec![None; schema.fields().len()];
    for field in fields {
        let take = |column| arrow::compute::take(column, &indices, None).expect("rows of a batch are within it");
        columns[field.index()] = batch.column(*field).map(|column| take(column.as_ref()));
    }
    EventBatch::new(schema, batch.first_row, rows.len(), columns)
}

/// The rows whose tenant has this name: an integer's is its decimal text.
fn rows_of_tenant(schema: &Schema, batch: &EventBatch, name: &str) -> Vec<u32> {
    let Some(column) = schema.tenant.and_then(|field| batch.column(field)) else { return Vec::new() };
    let rows =
        |is: &dyn Fn(usize) -> bool| (0..column.len()).filter(|row| column.is_valid(*row) && is(*row)).map(|row| row as u32).collect();
    if let Some(texts) = column.as_dictionary_opt::<Int32Type>() {
        let known: Vec<bool> = texts.values().as_string::<i32>().iter().map(|value| value == Some(name)).collect();
        rows(&|row| known[texts.keys().value(row) as usize])
    } else if let Some(numbers) = column.as_primitive_opt::<Int64Type>() {
        let wanted = name.parse().ok().filter(|number: &i64| number.to_string() == name);
        rows(&|row| Some(numbers.value(row)) == wanted)
    } else if let Some(numbers) = column.as_primitive_opt::<UInt64Type>() {
        let wanted = name.parse().ok().filter(|number: &u64| number.to_string() == name);
        rows(&|row| Some(numbers.value(row)) == wanted)
    } else {
        Vec::new()
    }
}
