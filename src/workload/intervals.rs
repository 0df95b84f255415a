//! W1: two-sided intervals over twenty dimensions, and nothing to look up: the workload of the literature on content-based matching.
//!
//! Every event has all dimensions, each a whole number of 1..=1,000,000, uniformly. A rule has intervals over ten of them, each as wide as two fifths of the
//! range: it matches an event with a probability of 0.4^10, so that 100,000 rules give about 10.5 hits an event.

use super::{Random, Source, integers, numbers, record_batch};
use arrow::array::ArrayRef;
use arrow::record_batch::RecordBatch;

const DIMENSIONS: usize = 20;
const INTERVALS: usize = 10;
const HIGHEST: usize = 1_000_000;
const WIDTH: usize = 400_000;

/// The schema of the events, as a file.
#[must_use]
pub fn schema_text() -> String {
    let fields: String = (0..DIMENSIONS).map(|dimension| format!("  d{dimension}: int64\n")).collect();
    format!("fields:\n  event: int64\n{fields}id: event\n")
}

/// Where W1 is drawn from.
pub(super) struct Intervals;

impl Source for Intervals {
    fn condition(&mut self, random: &mut Random) -> String {
        let mut dimensions: [usize; DIMENSIONS] = std::array::from_fn(|dimension| dimension);
        let mut intervals = Vec::with_capacity(INTERVALS);
        for nth in 0..INTERVALS {
            dimensions.swap(nth, nth + random.below(DIMENSIONS - nth));
            let low = 1 + random.below(HIGHEST - WIDTH + 1);
            intervals.push(format!("d{} BETWEEN {low} AND {}", dimensions[nth], low + WIDTH - 1));
        }
        intervals.join(" AND ")
    }

    fn batch(&mut self, random: &mut Random, first: usize, rows: usize) -> RecordBatch {
        let mut columns: Vec<(String, ArrayRef)> = vec![("event".to_owned(), numbers(first, rows))];
        for dimension in 0..DIMENSIONS {
            let values = integers((0..rows).map(|_| Some(1 + random.below(HIGHEST) as i64)));
            columns.push((format!("d{dimension}"), values));
        }
        record_batch(columns)
    }
}
