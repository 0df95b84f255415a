//! Seeded workloads: rules and events that are the same on every machine, for the benches and for files of any size.
//!
//! * F1, "fraud": 1000 tenants by Zipf's law, each event looked at by its own tenant's rules only; about 8.6 hits an event on a million rules.
//! * F2, "global": the same fields without tenants, every event looked at by every rule; about 19 hits an event on a million rules.
//!
//! A rule is two to five predicates, the first over the merchant code. Without tenants the second is over the country, so that the number of hits stays realistic.

#![allow(dead_code, reason = "each bench and example uses a part of this module")]

use arrow::array::{ArrayRef, DictionaryArray, Float64Array, Int64Array, StringArray};
use arrow::datatypes::Int32Type;
use arrow::record_batch::RecordBatch;
use dynamic_cep::codec::canonical::canonical_column;
use dynamic_cep::compile::{Compiled, Context, compile};
use dynamic_cep::event::{EventBatch, Schema};
use dynamic_cep::rule::lists::Lists;
use dynamic_cep::rule::{Action, Limits, Origin, Rule, Status};
use dynamic_cep::tables::{Artifact, Candidate};
use std::sync::Arc;

/// The seed of everything, so that figures can be compared.
pub const SEED: u64 = 2026;

/// The schema of the events, as a file.
pub const SCHEMA: &str = "\
fields:
  event: int64
  tenant: utf8
  mcc: int64
  country: utf8
  channel: utf8
  amount: float64
  score: int64
  age: int64
  hour: int64
  count_1h: int64
  count_24h: int64
id: event
tenant: tenant
";

const TENANTS: usize = 1000;
const MERCHANT_CODES: usize = 400;
const COUNTRIES: usize = 60;
const CHANNELS: [&str; 5] = ["pos", "web", "app", "atm", "phone"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Workload {
    F1,
    F2,
}

impl Workload {
    pub const ALL: [Self; 2] = [Self::F1, Self::F2];

    pub const fn name(self) -> &'static str {
        match self {
            Self::F1 => "F1",
            Self::F2 => "F2",
        }
    }

    /// The predicates that every rule starts with. Without the merchant code rules would hit most events; without tenants they need the country, too.
    const fn leading(self) -> &'static [usize] {
        match self {
            Self::F1 => &[MCC],
            Self::F2 => &[MCC, COUNTRY],
        }
    }
}

// The kinds of predicates, by the order in which [`Generator::predicate`] has them.
const KINDS: usize = 9;
const MCC: usize = 0;
const COUNTRY: usize = 1;

/// A range lets through a share of the events between `exp(-RIGOUR)` and 1, by a uniform exponent.
const RIGOUR: f64 = 10.0;

/// SplitMix64.
pub struct Random(u64);

impl Random {
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

/// Numbers 0..n, the k-th with a weight of 1 / (k + 1).
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(n: usize) -> Self {
        let mut sum = 0.0;
        Self(
            (1..=n)
                .map(|k| {
                    sum += 1.0 / k as f64;
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

/// Where the values of events and the constants of rules are drawn from.
pub struct Generator {
    workload: Workload,
    random: Random,
    tenants: Zipf,
    merchant_codes: Zipf,
    countries: Zipf,
}

impl Generator {
    /// Rules and events come from generators of their own, so that the number of the one does not change the other.
    pub fn rules(workload: Workload) -> Self {
        Self::new(workload, SEED)
    }

    pub fn events(workload: Workload) -> Self {
        Self::new(workload, SEED + 1)
    }

    fn new(workload: Workload, seed: u64) -> Self {
        Self {
            workload,
            random: Random::new(mix(seed)),
            tenants: Zipf::new(TENANTS),
            merchant_codes: Zipf::new(MERCHANT_CODES),
            countries: Zipf::new(COUNTRIES),
        }
    }

    /// The tenant of the next rule, if its workload has tenants.
    pub fn tenant(&mut self) -> Option<String> {
        (self.workload == Workload::F1).then(|| tenant(self.tenants.draw(&mut self.random)))
    }

    /// The next condition: two to five predicates over different fields.
    pub fn condition(&mut self) -> String {
        let mut kinds: [usize; KINDS] = std::array::from_fn(|kind| kind);
        let leading = self.workload.leading().len();
        let wanted = 2 + self.random.below(4);
        let mut predicates = Vec::with_capacity(wanted);
        for nth in 0..wanted {
            if nth >= leading {
                kinds.swap(nth, nth + self.random.below(KINDS - nth));
            }
            predicates.push(self.predicate(kinds[nth]));
        }
        predicates.join(" AND ")
    }

    fn predicate(&mut self, kind: usize) -> String {
        let tenants = self.workload == Workload::F1;
        match kind {
            MCC => {
                let members = if tenants && self.random.below(2) == 0 { 2 + self.random.below(7) } else { 1 };
                let codes: Vec<String> = (0..members).map(|_| merchant_code(self.random.below(MERCHANT_CODES)).to_string()).collect();
                if members == 1 { format!("mcc = {}", codes[0]) } else { format!("mcc IN ({})", codes.join(", ")) }
            }
            COUNTRY => match self.random.below(4) {
                0 if tenants => format!("country <> '{}'", country(self.countries.draw(&mut self.random))),
                1 => {
                    let members = 2 + self.random.below(5);
                    let names: Vec<String> = (0..members).map(|_| format!("'{}'", country(self.random.below(COUNTRIES)))).collect();
                    format!("country IN ({})", names.join(", "))
                }
                _ => format!("country = '{}'", country(self.random.below(COUNTRIES))),
            },
            2 => format!("channel = '{}'", CHANNELS[self.random.below(CHANNELS.len())]),
            3 => {
                let share = self.share();
                if self.random.below(2) == 0 {
                    format!("amount > {:.2}", amount(1.0 - share))
                } else {
                    let low = self.random.unit() * (1.0 - share);
                    format!("amount BETWEEN {:.2} AND {:.2}", amount(low), amount(low + share))
                }
            }
            4 => format!("score >= {}", score(1.0 - self.share())),
            5 => format!("age < {}", age(self.share()) + 1),
            6 => {
                let low = self.random.below(24);
                format!("hour BETWEEN {low} AND {}", (low + self.random.below(6)).min(23))
            }
            7 => format!("count_1h >= {}", count(1.0 - self.share(), 2.0)),
            _ => format!("count_24h >= {}", count(1.0 - self.share(), 12.0)),
        }
    }

    /// The share of events that a range lets through.
    fn share(&mut self) -> f64 {
        (-RIGOUR * self.random.unit()).exp()
    }

    /// The next `rows` events, with the numbers from `first` on.
    pub fn batch(&mut self, first: usize, rows: usize) -> RecordBatch {
        let Self { random, tenants, merchant_codes, countries, .. } = self;
        let texts = |values: Vec<String>| -> ArrayRef {
            Arc::new(values.iter().map(|value| Some(value.as_str())).collect::<DictionaryArray<Int32Type>>())
        };
        let mut integers =
            |value: &dyn Fn(f64) -> i64| -> ArrayRef { Arc::new((0..rows).map(|_| value(random.unit())).collect::<Int64Array>()) };
        let numbers: Vec<(&str, ArrayRef)> = vec![
            ("score", integers(&score)),
            ("age", integers(&age)),
            ("hour", integers(&|at| (at * 24.0) as i64)),
            ("count_1h", integers(&|at| count(at, 2.0))),
            ("count_24h", integers(&|at| count(at, 12.0))),
        ];
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            ("event", Arc::new((first as i64..(first + rows) as i64).collect::<Int64Array>())),
            ("tenant", texts((0..rows).map(|_| tenant(tenants.draw(random))).collect())),
            ("mcc", Arc::new((0..rows).map(|_| merchant_code(merchant_codes.draw(random))).collect::<Int64Array>())),
            ("country", texts((0..rows).map(|_| country(countries.draw(random))).collect())),
            ("channel", texts((0..rows).map(|_| CHANNELS[random.below(CHANNELS.len())].to_owned()).collect())),
            ("amount", Arc::new((0..rows).map(|_| (amount(random.unit()) * 100.0).round() / 100.0).collect::<Float64Array>())),
        ];
        columns.extend(numbers);
        RecordBatch::try_from_iter(columns).expect("columns of one length")
    }

    /// The next events as the engine holds them.
    pub fn event_batch(&mut self, schema: &Schema, rows: usize) -> EventBatch {
        canonical(schema, &self.batch(0, rows))
    }

    /// A batch of bulk rules, with the numbers from `first` on.
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

fn tenant(number: usize) -> String {
    format!("t{number}")
}

const fn merchant_code(number: usize) -> i64 {
    1000 + number as i64 * 7
}

fn country(number: usize) -> String {
    let letter = |index: usize| char::from(b'A' + (index % 26) as u8);
    [letter(number / 8 + 1), letter(number * 5 + 2)].iter().collect()
}

// The value below which a share `at` of the events lies.

fn amount(at: f64) -> f64 {
    (2.0 / (1.0 - at).max(1e-9).powf(0.7)).min(50_000.0)
}

const fn score(at: f64) -> i64 {
    (at * 1000.0) as i64
}

const fn age(at: f64) -> i64 {
    18 + (at * 72.0) as i64
}

fn count(at: f64, mean: f64) -> i64 {
    (-(1.0 - at).max(1e-9).ln() * mean) as i64
}

/// The schema of the events.
pub fn schema() -> Schema {
    Schema::parse("schema.yaml", SCHEMA.as_bytes()).expect("the schema above")
}

/// `count` rules.
pub fn rules(workload: Workload, count: usize) -> Vec<Rule> {
    let mut generator = Generator::rules(workload);
    (0..count)
        .map(|number| {
            let tenant = generator.tenant().map(Arc::from);
            rule(format!("r{number}"), tenant, generator.condition(), (number % 100) as i64 * 1000)
        })
        .collect()
}

/// A live rule.
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
        tests: Vec::new(),
    }
}

/// The bytes of the artifact of `rules`.
pub fn compiled(rules: impl Iterator<Item = Rule>, schema: &Schema, threads: usize) -> Vec<u8> {
    let (lists, limits) = (Lists::new(), Limits::default());
    let Compiled { artifact, diagnostics, .. } = compile(rules, &Context { schema, lists: &lists, limits: &limits, threads });
    artifact.unwrap_or_else(|| panic!("the rules do not compile: {}", diagnostics[0]))
}

/// `batch` as the engine holds events. Columns are found by name.
pub fn canonical(schema: &Schema, batch: &RecordBatch) -> EventBatch {
    let columns = schema
        .fields()
        .iter()
        .map(|field| {
            let mut misfits = Vec::new();
            let column =
                canonical_column(batch.column_by_name(&field.name)?, field.ty, &mut misfits).expect("a column that the schema fits");
            assert!(misfits.is_empty(), "{misfits:?}");
            Some(column)
        })
        .collect();
    EventBatch::new(schema, 0, batch.num_rows(), columns)
}

/// One number for all (event, rule) pairs, whatever their order: their count, and the sum of their hashes.
pub fn fingerprint(artifact: &Artifact, candidates: &[Candidate]) -> (usize, u64) {
    let tables = artifact.tables();
    let mut pairs: Vec<u64> =
        candidates.iter().map(|pair| (u64::from(pair.row) << 32) | u64::from(tables.term_rules[pair.term as usize])).collect();
    pairs.sort_unstable();
    pairs.dedup();
    (pairs.len(), pairs.iter().fold(0, |sum, pair| sum.wrapping_add(mix(*pair))))
}
