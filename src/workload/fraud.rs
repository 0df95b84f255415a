//! Card transactions, and rules that look for fraud in them.
//!
//! * F1, "fraud": 1000 tenants by Zipf's law, each event looked at by its own tenant's rules only; 8.9 hits an event on a million rules.
//! * F2, "global": the same fields without tenants, every event looked at by every rule; 20.4 hits an event on a million rules.
//!
//! A rule is two to five predicates, the first over the merchant code. Without tenants the second is over the country, so that the number of hits stays realistic.

use super::{Random, Source, Tenants, Zipf, integers, numbers, record_batch, texts};
use arrow::array::{ArrayRef, Float64Array};
use arrow::record_batch::RecordBatch;
use std::sync::Arc;

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

const MERCHANT_CODES: usize = 400;
const COUNTRIES: usize = 60;
const CHANNELS: [&str; 5] = ["pos", "web", "app", "atm", "phone"];

// The kinds of predicates, by the order in which [`Fraud::predicate`] has them.
const KINDS: usize = 9;
const MCC: usize = 0;
const COUNTRY: usize = 1;

/// A range lets through a share of the events between `exp(-RIGOUR)` and 1, by a uniform exponent.
const RIGOUR: f64 = 10.0;

/// How tenants are drawn.
enum Spread {
    Zipf(Zipf),
    Uniform(usize),
}

/// Where F1 and F2 are drawn from.
pub(super) struct Fraud {
    /// Whether a rule belongs to a tenant. Events do in any case.
    of_tenants: bool,
    tenants: Spread,
    /// Rules so far.
    rules: usize,
    merchant_codes: Zipf,
    countries: Zipf,
}

impl Fraud {
    pub(super) fn new(of_tenants: bool, tenants: Tenants) -> Self {
        Self {
            of_tenants,
            tenants: if tenants.uniform { Spread::Uniform(tenants.count) } else { Spread::Zipf(Zipf::new(tenants.count)) },
            rules: 0,
            merchant_codes: Zipf::new(MERCHANT_CODES),
            countries: Zipf::new(COUNTRIES),
        }
    }

    /// The predicates that every rule starts with. Without the merchant code rules would hit most events; without tenants they need the country, too.
    const fn leading(&self) -> usize {
        if self.of_tenants { MCC + 1 } else { COUNTRY + 1 }
    }

    fn predicate(&self, random: &mut Random, kind: usize) -> String {
        match kind {
            MCC => {
                let members = if self.of_tenants && random.below(2) == 0 { 2 + random.below(7) } else { 1 };
                let codes: Vec<String> = (0..members).map(|_| merchant_code(random.below(MERCHANT_CODES)).to_string()).collect();
                if members == 1 { format!("mcc = {}", codes[0]) } else { format!("mcc IN ({})", codes.join(", ")) }
            }
            COUNTRY => match random.below(4) {
                0 if self.of_tenants => format!("country <> '{}'", country(self.countries.draw(random))),
                1 => {
                    let members = 2 + random.below(5);
                    let names: Vec<String> = (0..members).map(|_| format!("'{}'", country(random.below(COUNTRIES)))).collect();
                    format!("country IN ({})", names.join(", "))
                }
                _ => format!("country = '{}'", country(random.below(COUNTRIES))),
            },
            2 => format!("channel = '{}'", CHANNELS[random.below(CHANNELS.len())]),
            3 => {
                let share = share(random);
                if random.below(2) == 0 {
                    format!("amount > {:.2}", amount(1.0 - share))
                } else {
                    let low = random.unit() * (1.0 - share);
                    format!("amount BETWEEN {:.2} AND {:.2}", amount(low), amount(low + share))
                }
            }
            4 => format!("score >= {}", score(1.0 - share(random))),
            5 => format!("age < {}", age(share(random)) + 1),
            6 => {
                let low = random.below(24);
                format!("hour BETWEEN {low} AND {}", (low + random.below(6)).min(23))
            }
            7 => format!("count_1h >= {}", count(1.0 - share(random), 2.0)),
            _ => format!("count_24h >= {}", count(1.0 - share(random), 12.0)),
        }
    }
}

impl Source for Fraud {
    fn tenant(&mut self, random: &mut Random) -> Option<String> {
        self.rules += 1;
        let number = match &self.tenants {
            _ if !self.of_tenants => return None,
            Spread::Zipf(zipf) => zipf.draw(random),
            Spread::Uniform(count) => (self.rules - 1) % count,
        };
        Some(tenant(number))
    }

    /// Two to five predicates over different fields.
    fn condition(&mut self, random: &mut Random) -> String {
        let mut kinds: [usize; KINDS] = std::array::from_fn(|kind| kind);
        let wanted = 2 + random.below(4);
        let mut predicates = Vec::with_capacity(wanted);
        for nth in 0..wanted {
            if nth >= self.leading() {
                kinds.swap(nth, nth + random.below(KINDS - nth));
            }
            predicates.push(self.predicate(random, kinds[nth]));
        }
        predicates.join(" AND ")
    }

    fn batch(&mut self, random: &mut Random, first: usize, rows: usize) -> RecordBatch {
        // In the order of these statements, which is not that of the columns.
        let mut of = |value: &dyn Fn(f64) -> i64| integers((0..rows).map(|_| Some(value(random.unit()))));
        let score = of(&score);
        let age = of(&age);
        let hour = of(&|at| (at * 24.0) as i64);
        let count_1h = of(&|at| count(at, 2.0));
        let count_24h = of(&|at| count(at, 12.0));
        let draw = |random: &mut Random| match &self.tenants {
            Spread::Zipf(zipf) => zipf.draw(random),
            Spread::Uniform(count) => random.below(*count),
        };
        let tenant = texts((0..rows).map(|_| Some(tenant(draw(random)))));
        let mcc = integers((0..rows).map(|_| Some(merchant_code(self.merchant_codes.draw(random)))));
        let country = texts((0..rows).map(|_| Some(country(self.countries.draw(random)))));
        let channel = texts((0..rows).map(|_| Some(CHANNELS[random.below(CHANNELS.len())])));
        let amounts = (0..rows).map(|_| (amount(random.unit()) * 100.0).round() / 100.0);
        let amount: ArrayRef = Arc::new(amounts.collect::<Float64Array>());
        let columns = [
            ("event", numbers(first, rows)),
            ("tenant", tenant),
            ("mcc", mcc),
            ("country", country),
            ("channel", channel),
            ("amount", amount),
            ("score", score),
            ("age", age),
            ("hour", hour),
            ("count_1h", count_1h),
            ("count_24h", count_24h),
        ];
        record_batch(columns.map(|(name, column)| (name.to_owned(), column)).into())
    }
}

/// The share of events that a range lets through.
fn share(random: &mut Random) -> f64 {
    (-RIGOUR * random.unit()).exp()
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
