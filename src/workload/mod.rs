//! Seeded workloads: rules and events that are the same on every machine, for `bench`, the benches, and files of any size.
//!
//! * [`Workload::F1`] and [`Workload::F2`]: card transactions and the rules that look for fraud in them; [`fraud`].
//! * [`Workload::W1`]: intervals over many dimensions, with nothing to look up; [`intervals`].
//! * [`Workload::W2`]: advertisements over sparse attributes; [`ads`].
//! * [`packets`]: ClassBench's packet filters (W4), which are data and not generated.
//! * [`changes`]: a stream of changes to rules (W5).
//! * [`cards`]: a load of card transactions for the fraud pack, with bursts of fraud in it.

pub mod ads;
pub mod cards;
pub mod changes;
pub mod fraud;
pub mod intervals;
pub mod packets;

use crate::codec::canonical::canonical_column;
use crate::compile::{Compiled, Context, compile};
use crate::event::{EventBatch, Schema};
use crate::flow::Hits;
use crate::rule::lists::Lists;
use crate::rule::{Action, Diagnostic, Limits, Origin, Rule, Status};
use arrow::array::{Array, ArrayRef, DictionaryArray, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type};
use arrow::record_batch::RecordBatch;
use std::str::FromStr;
use std::sync::Arc;

/// The seed of everything, so that figures can be compared.
pub const SEED: u64 = 2026;

/// Events generated at a time. The draws of a chunk go column by column, so equal events need equal chunks.
pub const CHUNK: usize = 1 << 16;

/// A kind of rules and events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    F1,
    F2,
    W1,
    W2,
}

impl Workload {
    pub const ALL: [Self; 4] = [Self::F1, Self::F2, Self::W1, Self::W2];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F1 => "F1",
            Self::F2 => "F2",
            Self::W1 => "W1",
            Self::W2 => "W2",
        }
    }

    /// The schema of the events, as a file.
    #[must_use]
    pub fn schema_text(self) -> String {
        match self {
            Self::F1 | Self::F2 => fraud::SCHEMA.to_owned(),
            Self::W1 => intervals::schema_text(),
            Self::W2 => ads::schema_text(),
        }
    }

    /// The schema of the events.
    ///
    /// # Panics
    /// Never: the text is this module's own.
    #[must_use]
    pub fn schema(self) -> Schema {
        Schema::parse("schema.yaml", self.schema_text().as_bytes()).expect("a schema of our own")
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|workload| workload.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| format!("there is no workload {name}; there are F1, F2, W1, W2"))
    }
}

/// How rules and events are spread over tenants, where a workload has tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenants {
    pub count: usize,
    /// Equally many rules and events for each, and not by Zipf's law.
    pub uniform: bool,
}

impl Default for Tenants {
    fn default() -> Self {
        Self { count: 1000, uniform: false }
    }
}

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    pub workload: Workload,
    pub tenants: Tenants,
}

impl From<Workload> for Settings {
    fn from(workload: Workload) -> Self {
        Self { workload, tenants: Tenants::default() }
    }
}

/// What a workload has to tell: one draw after the other from the randomness that it is given.
trait Source: Send {
    /// The tenant of the next rule, drawn before its condition.
    fn tenant(&mut self, _: &mut Random) -> Option<String> {
        None
    }

    fn condition(&mut self, random: &mut Random) -> String;

    /// The next `rows` events, with the numbers from `first` on.
    fn batch(&mut self, random: &mut Random, first: usize, rows: usize) -> RecordBatch;
}

/// Where the values of events and the constants of rules are drawn from.
pub struct Generator {
    random: Random,
    source: Box<dyn Source>,
}

impl Generator {
    /// Rules and events come from generators of their own, so that the number of the one does not change the other.
    pub fn rules(settings: impl Into<Settings>) -> Self {
        Self::new(settings.into(), SEED)
    }

    pub fn events(settings: impl Into<Settings>) -> Self {
        Self::new(settings.into(), SEED + 1)
    }

    /// Conditions for rules that change, other than those of [`Generator::rules`].
    fn changes(settings: Settings) -> Self {
        Self::new(settings, SEED + 2)
    }

    fn new(settings: Settings, seed: u64) -> Self {
        let source: Box<dyn Source> = match settings.workload {
            Workload::F1 => Box::new(fraud::Fraud::new(true, settings.tenants)),
            Workload::F2 => Box::new(fraud::Fraud::new(false, settings.tenants)),
            Workload::W1 => Box::new(intervals::Intervals),
            Workload::W2 => Box::new(ads::Ads::new()),
        };
        Self { random: Random::new(mix(seed)), source }
    }

    /// The tenant of the next rule, if its workload has tenants.
    pub fn tenant(&mut self) -> Option<String> {
        self.source.tenant(&mut self.random)
    }

    /// The next condition.
    pub fn condition(&mut self) -> String {
        self.source.condition(&mut self.random)
    }

    /// The rule with this number, which is its id.
    pub fn rule(&mut self, number: usize) -> Rule {
        let tenant = self.tenant().map(Arc::from);
        rule(format!("r{number}"), tenant, self.condition(), (number % 100) as i64 * 1000)
    }

    /// The next `rows` events, with the numbers from `first` on.
    pub fn batch(&mut self, first: usize, rows: usize) -> RecordBatch {
        self.source.batch(&mut self.random, first, rows)
    }

    /// The next events as the engine holds them.
    ///
    /// # Panics
    /// When the schema is not the workload's.
    pub fn event_batch(&mut self, schema: &Schema, rows: usize) -> EventBatch {
        canonical(schema, 0, &self.batch(0, rows)).expect("columns that the schema fits")
    }

    /// A batch of bulk rules, with the numbers from `first` on.
    ///
    /// # Panics
    /// Never: the columns have one length.
    pub fn rule_batch(&mut self, first: usize, rows: usize) -> RecordBatch {
        let ids: StringArray = (first..first + rows).map(|number| Some(format!("r{number}"))).collect();
        let mut tenants = Vec::with_capacity(rows);
        let mut conditions = Vec::with_capacity(rows);
        for _ in 0..rows {
            tenants.push(self.tenant());
            conditions.push(self.condition());
        }
        let scores: Int64Array = (first..first + rows).map(|number| (number % 100) as i64).collect();
        let columns: Vec<(&str, ArrayRef, bool)> = vec![
            ("id", Arc::new(ids), false),
            ("when", Arc::new(StringArray::from(conditions)), false),
            ("tenant", Arc::new(StringArray::from(tenants)), true),
            ("score", Arc::new(scores), false),
        ];
        RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
    }
}

/// The first `count` rules.
pub fn rules(settings: impl Into<Settings>, count: usize) -> Vec<Rule> {
    let mut generator = Generator::rules(settings);
    (0..count).map(|number| generator.rule(number)).collect()
}

/// The first `count` events, in chunks of [`CHUNK`].
pub fn events(settings: impl Into<Settings>, count: usize) -> Vec<RecordBatch> {
    let mut generator = Generator::events(settings);
    (0..count).step_by(CHUNK).map(|first| generator.batch(first, CHUNK.min(count - first))).collect()
}

/// A live rule with a score (in thousandths) and nothing else.
#[must_use]
pub fn rule(id: String, tenant: Option<Arc<str>>, when: String, score: i64) -> Rule {
    Rule {
        id: id.into(),
        tenant,
        when: when.into(),
        origin: Origin::default(),
        parameters: Vec::new(),
        score,
        action: Action::Allow,
        status: Status::Live,
        tags: Vec::new(),
        outcome: None,
        clause: crate::rule::Clause::default(),
        tests: Vec::new(),
    }
}

/// The bytes of the artifact of `rules`.
///
/// # Errors
/// What is wrong with the rules.
pub fn compiled(rules: impl Iterator<Item = Rule>, schema: &Schema, threads: usize) -> Result<Vec<u8>, Vec<Diagnostic>> {
    let (lists, limits) = (Lists::new(), Limits::default());
    let Compiled { artifact, diagnostics, .. } = compile(rules, &Context { schema, lists: &lists, limits: &limits, threads });
    artifact.ok_or(diagnostics)
}

/// `batch` as the engine holds events; its first row has the number `first`. Columns are found by name.
///
/// # Errors
/// The column that the schema does not fit.
pub fn canonical(schema: &Schema, first: usize, batch: &RecordBatch) -> Result<EventBatch, String> {
    let column = |field: &crate::event::Field| {
        let Some(column) = batch.column_by_name(&field.name) else { return Ok(None) };
        // A slice has the texts of the whole; what reads events from files makes a dictionary for each batch.
        let plain = match column.data_type() {
            DataType::Dictionary(_, values) if values.as_ref() == &DataType::Utf8 => {
                cast(column, values).map_err(|error| error.to_string())?
            }
            _ => Arc::clone(column),
        };
        let mut misfits = Vec::new();
        let column = canonical_column(&plain, field.ty, &mut misfits).map_err(|why| format!("column `{}`: {why}", field.name))?;
        match misfits.first() {
            None => Ok(Some(column)),
            Some((_, why)) => Err(format!("column `{}`: {why}", field.name)),
        }
    };
    let columns = schema.fields().iter().map(column).collect::<Result<_, _>>()?;
    Ok(EventBatch::new(schema, first as u64, batch.num_rows(), columns))
}

/// One number for a set of (event, rule) pairs, whatever their order: how many there are, and the sum of their hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    pub hits: u64,
    pub hash: u64,
}

impl Fingerprint {
    /// Adds a pair of the number of an event and that of a rule.
    pub const fn add(&mut self, event: u64, rule: u32) {
        self.hits += 1;
        self.hash = self.hash.wrapping_add(mix((event << 32) | rule as u64));
    }

    /// Adds the hits of a batch.
    pub fn add_batch(&mut self, batch: &EventBatch, hits: &Hits) {
        for row in 0..hits.rows() {
            hits.row(row).iter().for_each(|rule| self.add(batch.row_number(row), rule.0));
        }
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} hits, hash {:016x}", self.hits, self.hash)
    }
}

/// `SplitMix64`.
pub struct Random(u64);

impl Random {
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// In 0..`end`.
    pub const fn below(&mut self, end: usize) -> usize {
        (((self.next() >> 32) * end as u64) >> 32) as usize
    }

    /// In 0..1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

const fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Numbers 0..n, the k-th with a weight of 1 / (k + 1), or a power of that.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(n: usize) -> Self {
        Self::with_exponent(n, 1.0)
    }

    fn with_exponent(n: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        Self(
            (1..=n)
                .map(|k| {
                    sum += 1.0 / (k as f64).powf(exponent);
                    sum
                })
                .collect(),
        )
    }

    fn draw(&self, random: &mut Random) -> usize {
        let at = random.unit() * self.0.last().copied().unwrap_or(0.0);
        self.0.partition_point(|sum| *sum <= at).min(self.0.len() - 1)
    }
}

/// A column of texts.
fn texts<T: AsRef<str>>(values: impl Iterator<Item = Option<T>>) -> ArrayRef {
    let values: Vec<Option<T>> = values.collect();
    Arc::new(values.iter().map(|value| value.as_ref().map(AsRef::as_ref)).collect::<DictionaryArray<Int32Type>>())
}

/// A column of whole numbers.
fn integers(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<Int64Array>())
}

/// The numbers of the events: the column `event`.
fn numbers(first: usize, rows: usize) -> ArrayRef {
    integers((first as i64..(first + rows) as i64).map(Some))
}

/// Columns of one length as a batch.
fn record_batch(columns: Vec<(String, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).expect("columns of one length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_compiles_and_matches_its_schema() {
        for workload in Workload::ALL {
            let schema = workload.schema();
            let bytes = compiled(rules(workload, 200).into_iter(), &schema, 1);
            assert!(bytes.is_ok(), "{}: {}", workload.name(), bytes.unwrap_err()[0]);
            let batches = events(workload, 10);
            let batch = canonical(&schema, 0, &batches[0]).expect("events of the schema");
            assert_eq!(batch.rows(), 10);
            assert!((0..schema.fields().len()).all(|field| batch.column(crate::id::FieldId::new(field)).is_some()));
            assert_eq!(workload.name().to_lowercase().parse(), Ok(workload));
        }
        assert!("W9".parse::<Workload>().is_err());
    }

    #[test]
    fn uniform_tenants_have_equally_many_rules() {
        let settings = Settings { workload: Workload::F1, tenants: Tenants { count: 7, uniform: true } };
        let rules = rules(settings, 70);
        for tenant in 0..7 {
            let name = format!("t{tenant}");
            assert_eq!(rules.iter().filter(|rule| rule.tenant.as_deref() == Some(&name)).count(), 10);
        }
    }

    #[test]
    fn a_fingerprint_tells_pairs_but_not_their_order() {
        let of = |pairs: &[(u64, u32)]| {
            let mut fingerprint = Fingerprint::default();
            pairs.iter().for_each(|(event, rule)| fingerprint.add(*event, *rule));
            fingerprint
        };
        assert_eq!(of(&[(0, 1), (2, 3)]), of(&[(2, 3), (0, 1)]));
        assert_ne!(of(&[(0, 1), (2, 3)]), of(&[(0, 3), (2, 1)]));
        assert_ne!(of(&[(0, 1)]), of(&[(0, 1), (0, 1)]));
    }
}
