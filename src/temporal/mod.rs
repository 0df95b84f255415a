//! State over event time: row patterns, and velocity [`windows`].
//!
//! ```text
//! rows ─ which conditions hold ─ by partition, in order of time ─ automaton ─ matches ─ findings
//!        the matcher             groups                           progress    evaluate
//! ```
//! * [`patterns`]: all patterns of an artifact. [`conditions`]: what they ask of a row alone, which the matcher of rules answers for whole batches.
//! * [`group`]: patterns over the same partitions, which share their rows. A row that begins no match, and is waited for by none, is not held.
//! * [`progress`]: where in the rows of a partition one pattern is. [`automaton`]: one search for a match that begins at a given row; pure stepping.
//! * [`finding`]: what is told of a match.
//! * [`evaluate`]: expressions that look at several rows of a match. [`aggregate`]: sums and the like.

pub mod aggregate;
pub mod automaton;
pub mod conditions;
pub mod evaluate;
pub mod finding;
pub mod group;
pub mod keys;
pub mod pages;
pub mod patterns;
pub mod progress;
#[cfg(test)]
mod tests;
pub mod windows;

use crate::event::Value;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// A row as patterns see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its number over all inputs.
    pub number: u64,
    /// Its event time, in ticks of the field that rows are ordered by; `None`: that is no time.
    pub time: Option<i64>,
    /// The numbers of the [`conditions`] that hold for it, ascending.
    pub holds: Box<[u32]>,
    /// The fields that patterns need.
    pub values: Box<[Value]>,
}

impl Row {
    /// Whether a condition holds for it.
    #[must_use]
    pub fn holds(&self, condition: u32) -> bool {
        self.holds.binary_search(&condition).is_ok()
    }

    /// Bytes that it takes. A text counts once for each row that has it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let text = |value: &Value| if let Value::Text(text) = value { text.len() + 16 } else { 0 };
        size_of::<Self>() + self.holds.len() * 4 + self.values.iter().map(|value| size_of::<Value>() + text(value)).sum::<usize>()
    }
}

/// The rows of a partition that are still held, numbered from its beginning.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rows {
    first: u64,
    rows: VecDeque<Row>,
    bytes: usize,
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
        self.bytes += row.bytes();
        self.rows.push_back(row);
    }

    /// Lets go of the rows before `at`.
    pub fn forget_before(&mut self, at: u64) {
        while self.first < at
            && let Some(row) = self.rows.pop_front()
        {
            self.first += 1;
            self.bytes -= row.bytes();
        }
        if self.rows.is_empty() && self.rows.capacity() > 64 {
            self.rows = VecDeque::new();
        }
    }

    /// How many are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.rows.len()
    }

    /// Bytes that they take.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}
