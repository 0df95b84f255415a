//! What passes between the stages of the data path.

use crate::id::RuleId;
use std::ops::Range;

/// A batch of events as the matcher sees it: codes and partitions, nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedBatch {
    pub rows: usize,
    /// Codes in a row (the stride).
    pub columns: usize,
    /// Row-major: `rows * columns`. See [`crate::tables::layout`] for what a code is.
    pub codes: Vec<u32>,
    /// For each row, the partition of its tenant; 0 where no rule belongs to that tenant (partition 0, the rules of every tenant, is visited for every row).
    pub partitions: Vec<u32>,
}

impl EncodedBatch {
    /// The codes of one row.
    #[must_use]
    pub fn row(&self, row: usize) -> &[u32] {
        &self.codes[row * self.columns..(row + 1) * self.columns]
    }
}

/// Which rules match which rows: for each row a run of rules, ascending (the order of the sources), each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    /// `rows + 1` offsets into `rules`.
    pub offsets: Vec<u32>,
    pub rules: Vec<RuleId>,
}

impl Hits {
    /// The rules that match `row`.
    #[must_use]
    pub fn row(&self, row: usize) -> &[RuleId] {
        &self.rules[self.range(row)]
    }

    /// Where they lie among the rules of all rows.
    #[must_use]
    pub fn range(&self, row: usize) -> Range<usize> {
        self.offsets[row] as usize..self.offsets[row + 1] as usize
    }

    #[must_use]
    pub fn rows(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }
}
