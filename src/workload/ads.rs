//! W2: who is to see which advertisement: long conjunctions over sparse attributes.
//!
//! There are 122 attributes; an event has 20 of them, drawn by Zipf's law without repetition, and NULL in the others. A rule is a conjunction of 8 predicates on
//! average, 1 to 56, geometrically distributed: the first says which audience of 5,000 (of one of thirteen attributes, `=`), the others are over attributes drawn as
//! those of the events are, each at most once: `=` or `IN` of 2 to 8 members over categories, `BETWEEN`, `>=` or `<` over numbers.

use super::{Random, Source, Zipf, integers, numbers, record_batch, texts};
use arrow::array::ArrayRef;
use arrow::record_batch::RecordBatch;

const ATTRIBUTES: usize = 122;
/// Attributes that an event has.
const PRESENT: usize = 20;
/// Predicates of a rule at most, and how many there are after the first on average.
const PREDICATES_MAX: usize = 56;
const FURTHER: f64 = 7.0;
/// Every tenth attribute is an audience: that alone makes a rule narrow, as campaigns are.
const AUDIENCES: usize = ATTRIBUTES.div_ceil(10);
const AUDIENCE_MEMBERS: usize = 5000;
/// How many categories the other attributes have, in turns.
const CATEGORIES: [usize; 4] = [20, 50, 200, 1000];
/// Numbers lie below.
const NUMBERS: usize = 1_000_000;

/// What an attribute holds.
#[derive(Clone, Copy)]
enum Kind {
    /// One of so many texts.
    Text(usize),
    /// One of so many numbers that stand for something.
    Code(usize),
    /// A number of 0..[`NUMBERS`] that is compared.
    Number,
}

const fn kind(attribute: usize) -> Kind {
    let categories = CATEGORIES[attribute % CATEGORIES.len()];
    match attribute % 10 {
        0 => Kind::Text(AUDIENCE_MEMBERS),
        2 | 7 => Kind::Number,
        3 | 5 | 8 => Kind::Text(categories),
        _ => Kind::Code(categories),
    }
}

/// The schema of the events, as a file.
#[must_use]
pub fn schema_text() -> String {
    let field = |attribute| {
        let ty = if matches!(kind(attribute), Kind::Text(_)) { "utf8" } else { "int64" };
        format!("  a{attribute}: {ty}\n")
    };
    let fields: String = (0..ATTRIBUTES).map(field).collect();
    format!("fields:\n  event: int64\n{fields}id: event\n")
}

/// Where W2 is drawn from.
pub(super) struct Ads {
    attributes: Zipf,
    audiences: Zipf,
}

impl Ads {
    pub(super) fn new() -> Self {
        Self { attributes: Zipf::new(ATTRIBUTES), audiences: Zipf::new(AUDIENCES) }
    }

    /// The next attribute that is not in `taken`, which it joins.
    fn attribute(&self, random: &mut Random, taken: &mut [bool; ATTRIBUTES]) -> usize {
        loop {
            let attribute = self.attributes.draw(random);
            if !std::mem::replace(&mut taken[attribute], true) {
                return attribute;
            }
        }
    }
}

fn predicate(random: &mut Random, attribute: usize) -> String {
    let members = |random: &mut Random, of: usize, quote: &str| {
        let count = if random.below(2) == 0 { 1 } else { 2 + random.below(7) };
        let members: Vec<String> = (0..count).map(|_| format!("{quote}{}{quote}", constant(random.below(of), quote))).collect();
        if count == 1 { format!("a{attribute} = {}", members[0]) } else { format!("a{attribute} IN ({})", members.join(", ")) }
    };
    match kind(attribute) {
        Kind::Text(of) => members(random, of, "'"),
        Kind::Code(of) => members(random, of, ""),
        Kind::Number => {
            let width = NUMBERS / 20 + random.below(NUMBERS * 9 / 20);
            let low = random.below(NUMBERS - width);
            match random.below(3) {
                0 => format!("a{attribute} >= {}", NUMBERS - width),
                1 => format!("a{attribute} < {width}"),
                _ => format!("a{attribute} BETWEEN {low} AND {}", low + width),
            }
        }
    }
}

/// A category as rules write it: texts are `v` and a number.
fn constant(category: usize, quote: &str) -> String {
    if quote.is_empty() { category.to_string() } else { format!("v{category}") }
}

impl Source for Ads {
    fn condition(&mut self, random: &mut Random) -> String {
        let mut taken = [false; ATTRIBUTES];
        let audience = self.audiences.draw(random) * 10;
        taken[audience] = true;
        let mut predicates = vec![format!("a{audience} = 'v{}'", random.below(AUDIENCE_MEMBERS))];
        // The number of failures before a success that has a probability of 1 / (FURTHER + 1).
        let further = ((1.0 - random.unit()).ln() / (FURTHER / (FURTHER + 1.0)).ln()) as usize;
        for _ in 0..further.min(PREDICATES_MAX - 1) {
            let attribute = self.attribute(random, &mut taken);
            predicates.push(predicate(random, attribute));
        }
        predicates.join(" AND ")
    }

    fn batch(&mut self, random: &mut Random, first: usize, rows: usize) -> RecordBatch {
        let mut values: Vec<Vec<Option<u32>>> = vec![Vec::new(); ATTRIBUTES];
        for _ in 0..rows {
            let mut event = [None; ATTRIBUTES];
            let mut taken = [false; ATTRIBUTES];
            for _ in 0..PRESENT {
                let attribute = self.attribute(random, &mut taken);
                let below = match kind(attribute) {
                    Kind::Text(of) | Kind::Code(of) => of,
                    Kind::Number => NUMBERS,
                };
                event[attribute] = Some(random.below(below) as u32);
            }
            values.iter_mut().zip(event).for_each(|(column, value)| column.push(value));
        }
        let mut columns: Vec<(String, ArrayRef)> = vec![("event".to_owned(), numbers(first, rows))];
        columns.extend(values.into_iter().enumerate().map(|(attribute, values)| {
            let column = match kind(attribute) {
                Kind::Text(_) => texts(values.into_iter().map(|value| value.map(|category| constant(category as usize, "'")))),
                Kind::Code(_) | Kind::Number => integers(values.into_iter().map(|value| value.map(i64::from))),
            };
            (format!("a{attribute}"), column)
        }));
        record_batch(columns)
    }
}
