//! A load of card transactions as the fraud pack's schema has them: tenants, cards by Zipf's law, some events that come late, and bursts of fraud.
//!
//! Each card has a home, a tenant and honest purchases near that home. In a burst somebody tries a stolen card out with small amounts and then takes large ones, within minutes and far away.
//! Event time goes on by the same step from event to event, so that the events depend on the settings alone.

use super::{Random, Zipf, mix};
use arrow::array::{ArrayRef, Float64Array, StringArray, TimestampMillisecondArray, UInt8Array, UInt32Array, UInt64Array};
use arrow::record_batch::RecordBatch;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// What is drawn. Times are milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub seed: u64,
    pub tenants: usize,
    pub cards: usize,
    pub merchants: usize,
    /// The exponent of Zipf's law by which cards are used; 0: all equally often.
    pub skew: f64,
    /// The share of events whose time is up to `out_of_order_by` before that of their turn.
    pub out_of_order: f64,
    pub out_of_order_by: i64,
    /// The share of events that are parts of bursts of fraud.
    pub fraud: f64,
    /// The time of the first event, since 1970.
    pub start: i64,
    /// From one event to the next.
    pub step: f64,
    /// Whether a column `is_fraud` says which events are fraud.
    pub labels: bool,
}

/// What was drawn so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub events: u64,
    pub out_of_order: u64,
    pub bursts: u64,
    pub fraud: u64,
}

/// Two-letter names of states, and about where their people live.
const STATES: [(&str, f64, f64); 10] = [
    ("CA", 36.8, -119.4),
    ("CO", 39.0, -105.5),
    ("FL", 28.6, -82.4),
    ("GA", 32.6, -83.4),
    ("IL", 40.0, -89.2),
    ("MN", 45.0, -94.3),
    ("NY", 42.9, -75.5),
    ("PA", 40.9, -77.8),
    ("TX", 31.0, -99.0),
    ("WA", 47.4, -120.4),
];

/// Where stolen cards are used.
const FAR: [(f64, f64); 4] = [(51.5, -0.1), (-33.9, 151.2), (35.7, 139.7), (-23.5, -46.6)];

/// Categories of merchants, and the mean of honest amounts.
const CATEGORIES: [(&str, f64); 14] = [
    ("entertainment", 72.0),
    ("food_dining", 64.0),
    ("gas_transport", 72.0),
    ("grocery_net", 88.0),
    ("grocery_pos", 90.0),
    ("health_fitness", 63.0),
    ("home", 64.0),
    ("kids_pets", 68.0),
    ("misc_net", 99.0),
    ("misc_pos", 81.0),
    ("personal_care", 65.0),
    ("shopping_net", 92.0),
    ("shopping_pos", 75.0),
    ("travel", 60.0),
];

// Where cards are tried out, and where money is taken.
const TRIED: [&str; 2] = ["gas_transport", "grocery_pos"];
const TAKEN: [&str; 2] = ["misc_net", "shopping_net"];

// A burst: from two to five small amounts and one to three large ones, each 5 to 45 seconds after the one before.
const SMALL: (usize, usize) = (2, 5);
const LARGE: (usize, usize) = (1, 3);
const PAUSE: (usize, usize) = (5_000, 45_000);
const MEAN: f64 = (SMALL.0 + SMALL.1 + LARGE.0 + LARGE.1) as f64 / 2.0;

/// An event of a burst, which is due at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: i64,
    card: usize,
    large: bool,
    place: usize,
}

/// Where the events are drawn from.
pub struct Transactions {
    settings: Settings,
    random: Random,
    cards: Zipf,
    tenants: Vec<String>,
    merchants: Vec<String>,
    due: BinaryHeap<Reverse<Due>>,
    counts: Counts,
}

impl Transactions {
    /// # Panics
    /// When there are no tenants, cards or merchants.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        assert!(settings.tenants > 0 && settings.cards > 0 && settings.merchants > 0, "there is one of each at least");
        Self {
            random: Random::new(mix(settings.seed)),
            cards: Zipf::with_exponent(settings.cards, settings.skew),
            tenants: (0..settings.tenants).map(|number| format!("t{number}")).collect(),
            merchants: (0..settings.merchants).map(|number| format!("Merchant {number}")).collect(),
            due: BinaryHeap::new(),
            counts: Counts::default(),
            settings,
        }
    }

    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// The next `rows` events. They do not depend on how many are asked for at a time.
    ///
    /// # Panics
    /// Never: the columns have one length.
    pub fn batch(&mut self, rows: usize) -> RecordBatch {
        let mut columns = Columns::default();
        for _ in 0..rows {
            self.event(&mut columns);
        }
        columns.batch(self)
    }

    /// One event. Whatever is drawn is drawn here, event after event.
    fn event(&mut self, columns: &mut Columns) {
        let turn = self.settings.start + (self.counts.events as f64 * self.settings.step) as i64;
        self.counts.events += 1;
        if self.random.unit() < self.settings.fraud / MEAN {
            self.begin_burst(turn);
        }
        let due = match self.due.peek() {
            Some(Reverse(due)) if due.at <= turn => self.due.pop().map(|Reverse(due)| due),
            _ => None,
        };
        let card = due.map_or_else(|| self.cards.draw(&mut self.random), |due| due.card);
        let holder = mix(card as u64 ^ mix(self.settings.seed));
        let (state, centre) = (holder % STATES.len() as u64, |shift: u32| ((holder >> shift) & 0xffff) as f64 / 65_536.0 - 0.5);
        let (_, lat, long) = STATES[state as usize];
        let home = (rounded(2.0f64.mul_add(centre(16), lat), 4), rounded(2.0f64.mul_add(centre(32), long), 4));
        let mut merchant = self.random.below(self.settings.merchants);
        let near = |random: &mut Random, (lat, long): (f64, f64)| {
            (rounded(lat + 2.0 * random.unit() - 1.0, 2), rounded(long + 2.0 * random.unit() - 1.0, 2))
        };
        let (category, amount, place) = match due {
            None => {
                let (category, mean) = CATEGORIES[merchant % CATEGORIES.len()];
                let amount = -(1.0 - self.random.unit()).max(1e-9).ln() * mean;
                (category, amount.max(1.0), near(&mut self.random, home))
            }
            Some(due) => {
                let wanted = if due.large { TAKEN } else { TRIED }[self.random.below(2)];
                let category = CATEGORIES.iter().position(|(name, _)| *name == wanted).unwrap_or(0);
                // A merchant has one category, where there are enough merchants.
                merchant = (merchant - merchant % CATEGORIES.len() + category) % self.settings.merchants;
                let amount = if due.large { 700.0 + 500.0 * self.random.unit() } else { 9.75 + 3.25 * self.random.unit() };
                (wanted, amount, near(&mut self.random, FAR[due.place]))
            }
        };
        let late = self.random.unit() < self.settings.out_of_order && self.settings.out_of_order_by > 0;
        let before = if late { 1 + (self.random.unit() * self.settings.out_of_order_by as f64) as i64 } else { 0 };
        self.counts.out_of_order += u64::from(late);
        self.counts.fraud += u64::from(due.is_some());
        columns.ids.push(self.counts.events as u32);
        columns.times.push(turn - before.min(self.settings.out_of_order_by));
        columns.tenants.push((holder >> 48) as usize % self.settings.tenants);
        // Numbers of cards look like such, and no two are equal.
        columns.cards.push(4_000_000_000_000_000 + (card as u64).wrapping_mul(7_919_000_017) % 1_000_000_000_000_000);
        columns.merchants.push(merchant);
        columns.categories.push(category);
        columns.amounts.push(rounded(amount, 2));
        columns.states.push(STATES[state as usize].0);
        for (column, value) in columns.places.iter_mut().zip([place.0, place.1, home.0, home.1]) {
            column.push(value);
        }
        columns.fraud.push(u8::from(due.is_some()));
    }

    fn begin_burst(&mut self, begin: i64) {
        self.counts.bursts += 1;
        let mut between = |(least, most): (usize, usize)| least + self.random.below(most - least + 1);
        let (card, place) = (between((0, self.settings.cards - 1)), between((0, FAR.len() - 1)));
        let (small, large) = (between(SMALL), between(LARGE));
        let mut at = begin;
        for nth in 0..small + large {
            self.due.push(Reverse(Due { at, card, large: nth >= small, place }));
            at += between(PAUSE) as i64;
        }
    }
}

fn rounded(value: f64, digits: i32) -> f64 {
    let unit = 10_f64.powi(digits);
    (value * unit).round() / unit
}

/// The columns of a batch.
#[derive(Default)]
struct Columns {
    ids: Vec<u32>,
    times: Vec<i64>,
    tenants: Vec<usize>,
    cards: Vec<u64>,
    merchants: Vec<usize>,
    categories: Vec<&'static str>,
    amounts: Vec<f64>,
    states: Vec<&'static str>,
    /// Of the merchant and of home: latitude and longitude.
    places: [Vec<f64>; 4],
    fraud: Vec<u8>,
}

impl Columns {
    fn batch(self, from: &Transactions) -> RecordBatch {
        let named = |names: &[String], numbers: &[usize]| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(numbers.iter().map(|number| &names[*number])))
        };
        let [merch_lat, merch_long, home_lat, home_long] = self.places.map(|place| Arc::new(Float64Array::from(place)) as ArrayRef);
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            ("event_id", Arc::new(UInt32Array::from(self.ids))),
            ("event_time", Arc::new(TimestampMillisecondArray::from(self.times))),
            ("tenant", named(&from.tenants, &self.tenants)),
            ("card", Arc::new(UInt64Array::from(self.cards))),
            ("merchant", named(&from.merchants, &self.merchants)),
            ("category", Arc::new(StringArray::from(self.categories))),
            ("amount", Arc::new(Float64Array::from(self.amounts))),
            ("state", Arc::new(StringArray::from(self.states))),
            ("merch_lat", merch_lat),
            ("merch_long", merch_long),
            ("home_lat", home_lat),
            ("home_long", home_long),
        ];
        if from.settings.labels {
            columns.push(("is_fraud", Arc::new(UInt8Array::from(self.fraud))));
        }
        RecordBatch::try_from_iter(columns).expect("columns of one length")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;
    use arrow::compute::concat_batches;
    use arrow::datatypes::{Float64Type, TimestampMillisecondType, UInt8Type, UInt32Type, UInt64Type};
    use std::collections::{BTreeMap, HashMap, HashSet};

    fn settings() -> Settings {
        Settings {
            seed: 1,
            tenants: 20,
            cards: 5000,
            merchants: 700,
            skew: 1.1,
            out_of_order: 0.01,
            out_of_order_by: 60_000,
            fraud: 0.01,
            start: 1_767_225_600_000,
            step: 10.0,
            labels: true,
        }
    }

    #[test]
    fn equal_seeds_give_equal_events_however_many_are_asked_for_at_a_time() {
        let whole = Transactions::new(settings()).batch(5000);
        let mut parts = Transactions::new(settings());
        let parts: Vec<RecordBatch> = [1, 999, 2500, 0, 1500].into_iter().map(|rows| parts.batch(rows)).collect();
        assert_eq!(concat_batches(&whole.schema(), &parts).unwrap(), whole);
        assert_ne!(Transactions::new(Settings { seed: 2, ..settings() }).batch(5000), whole);
        let bare = Transactions::new(Settings { labels: false, ..settings() }).batch(5000);
        assert_eq!(bare, whole.project(&(0..whole.num_columns() - 1).collect::<Vec<_>>()).unwrap());
    }

    #[test]
    fn shares_are_those_that_were_asked_for() {
        const EVENTS: usize = 200_000;
        let mut transactions = Transactions::new(settings());
        let batch = transactions.batch(EVENTS);
        let counts = transactions.counts();
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let ids: HashSet<u32> = column("event_id").as_primitive::<UInt32Type>().values().iter().copied().collect();
        assert_eq!((ids.len(), counts.events), (EVENTS, EVENTS as u64));

        let times = column("event_time").as_primitive::<TimestampMillisecondType>().values();
        let turn = |row: usize| settings().start + row as i64 * 10;
        let late: Vec<i64> = (0..EVENTS).map(|row| turn(row) - times[row]).filter(|late| *late != 0).collect();
        assert!(late.iter().all(|late| (1..=60_000).contains(late)) && late.len() as u64 == counts.out_of_order);
        assert!((1800..2200).contains(&late.len()), "1 %: {}", late.len());

        let fraud = column("is_fraud").as_primitive::<UInt8Type>().values();
        let marked = fraud.iter().filter(|fraud| **fraud == 1).count();
        assert!((1700..2300).contains(&marked) && marked as u64 == counts.fraud, "1 %: {marked}");

        // By Zipf's law the first card has 1 / (1 + 2^-1.1 + …) of the honest events.
        let cards = column("card").as_primitive::<UInt64Type>().values();
        let mut of_cards: HashMap<u64, usize> = HashMap::new();
        (0..EVENTS).filter(|row| fraud[*row] == 0).for_each(|row| *of_cards.entry(cards[row]).or_default() += 1);
        let sum: f64 = (1..=5000).map(|k| f64::from(k).powf(-1.1)).sum();
        let first = *of_cards.values().max().unwrap() as f64 / EVENTS as f64;
        assert!((first * sum - 1.0).abs() < 0.05, "{first} and {}", 1.0 / sum);
        let tenants: HashSet<&str> = column("tenant").as_string::<i32>().iter().flatten().collect();
        assert_eq!(tenants.len(), 20);
    }

    #[test]
    fn a_burst_tries_a_card_out_and_then_takes_large_amounts_far_from_home() {
        // Few bursts, and many cards: no card is stolen twice.
        let asked = Settings { cards: 1_000_000, fraud: 0.0005, out_of_order: 0.0, ..settings() };
        let mut transactions = Transactions::new(asked);
        let batch = transactions.batch(300_000);
        let numbers = |name: &str| batch.column_by_name(name).unwrap().as_primitive::<Float64Type>().values().clone();
        let (amounts, merchant, home) = (numbers("amount"), numbers("merch_lat"), numbers("home_lat"));
        let cards = batch.column(3).as_primitive::<UInt64Type>().values();
        let times = batch.column(1).as_primitive::<TimestampMillisecondType>().values();
        let fraud = batch.column_by_name("is_fraud").unwrap().as_primitive::<UInt8Type>().values();
        let mut bursts: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for row in 0..batch.num_rows() {
            let distance = (merchant[row] - home[row]).abs();
            if fraud[row] == 0 {
                assert!(distance < 1.1, "honest purchases are near home: {distance}");
            } else {
                bursts.entry(cards[row]).or_default().push(row);
            }
        }
        assert_eq!(bursts.len() as u64, transactions.counts().bursts);
        // The last ones may not have ended.
        let whole: Vec<&Vec<usize>> = bursts.values().filter(|rows| rows[0] < 250_000).collect();
        assert!(whole.len() > 10);
        for rows in whole {
            let large = rows.iter().position(|row| amounts[*row] >= 700.0).unwrap();
            assert!((SMALL.0..=SMALL.1).contains(&large) && (LARGE.0..=LARGE.1).contains(&(rows.len() - large)), "{rows:?}");
            assert!(rows[..large].iter().all(|row| amounts[*row] <= 13.0) && rows[large..].iter().all(|row| amounts[*row] >= 700.0));
            assert!(times[rows[rows.len() - 1]] - times[rows[0]] <= 7 * 46_000, "within minutes");
        }
    }
}
