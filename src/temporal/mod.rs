//! State over event time: row patterns, and velocity [`windows`].
//!
//! ```text
//! rows ─ which conditions hold ─ by partition, in order of time ─ automaton ─ matches ─ findings
//!        the matcher             groups                           progress    evaluate
//! ```
//! * [`patterns`]: all patterns of an artifact. [`conditions`]: what they ask of a row alone, which the matcher of rules answers for whole batches.
//! * [`group`]: patterns over the same partitions, which share their rows. A row that begins no match, and is waited for by none, is not held.
//! * [`store`]: the partitions, packed while nobody looks at them. [`rows`]: what is held of their rows. [`packed`]: how numbers and values are packed. [`timers`]: when somebody must, though no row came.
//! * [`capture`]: the state at one moment, as parts of a snapshot, and back.
//! * [`spill`]: keys that have been quiet for long, on disk. [`steps`]: a copy of slots, made while rows go on coming.
//! * [`progress`]: where in the rows of a partition one pattern is. [`automaton`]: one search for a match that begins at a given row; pure stepping.
//! * [`finding`]: what is told of a match.
//! * [`evaluate`]: expressions that look at several rows of a match. [`aggregate`]: sums and the like.

pub mod aggregate;
pub mod automaton;
pub mod capture;
pub mod conditions;
pub mod evaluate;
pub mod finding;
pub mod group;
pub mod keys;
pub mod packed;
pub mod patterns;
pub mod progress;
pub mod rows;
pub mod spill;
pub mod steps;
pub mod store;
#[cfg(test)]
mod tests;
pub mod timers;
pub mod windows;
