//! State over event time: row patterns, and velocity [`windows`].
//!
//! ```text
//! rows ─ by pattern and partition ─ in order of time ─ automaton ─ matches ─ findings
//!        patterns                   partition          automaton   evaluate
//! ```
//! * [`patterns`]: all patterns of an artifact, over all partitions.
//! * [`partition`]: the rows of one partition that may still matter, and where in them the search is.
//! * [`automaton`]: one search for a match that begins at a given row; pure stepping.
//! * [`finding`]: what is told of a match.
//! * [`evaluate`]: expressions that look at several rows of a match. [`aggregate`]: sums and the like.

pub mod aggregate;
pub mod automaton;
pub mod evaluate;
pub mod finding;
pub mod partition;
pub mod patterns;
#[cfg(test)]
mod tests;
pub mod windows;

use crate::event::Value;
use std::collections::VecDeque;
use std::sync::Arc;

/// A row as patterns see it.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its number over all inputs.
    pub number: u64,
    /// Nanoseconds since 1970-01-01T00:00:00Z, where the rows are ordered by time.
    pub time: Option<i128>,
    /// The fields that the pattern needs.
    pub values: Arc<[Value]>,
}

/// The rows of a partition that are still held, numbered from its beginning.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    first: u64,
    rows: VecDeque<Row>,
}

impl Rows {
    #[must_use]
    pub fn get(&self, at: u64) -> Option<&Row> {
        at.checked_sub(self.first).and_then(|at| self.rows.get(usize::try_from(at).ok()?))
    }

    /// One after the last.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first + self.rows.len() as u64
    }

    pub fn push(&mut self, row: Row) {
        self.rows.push_back(row);
    }

    /// Lets go of the rows before `at`.
    pub fn forget_before(&mut self, at: u64) {
        while self.first < at && self.rows.pop_front().is_some() {
            self.first += 1;
        }
    }

    /// How many are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.rows.len()
    }
}
