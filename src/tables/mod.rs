//! Compiled rules: columnar threshold tables and the artifact that holds them. Knows nothing of rule text.

pub mod layout;

pub use layout::{Block, Candidate, Group, MatchTables, Partition, Segment, SetTest, Tail, Term};
