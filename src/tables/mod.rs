//! Compiled rules: columnar threshold tables and the artifact that holds them. Knows nothing of rule text.

pub mod artifact;
pub mod builder;
pub mod layout;

pub use artifact::{Artifact, ArtifactError};
pub use builder::TableBuilder;
pub use layout::{Block, Candidate, Group, MatchTables, Partition, Segment, SetTest, Tail, Term};
