//! Compiled rules: columnar threshold tables and the artifact that holds them. Knows nothing of rule text.

pub mod artifact;
pub mod builder;
pub mod layout;

pub use artifact::{Artifact, ArtifactError};
pub use builder::TableBuilder;
pub use layout::{Candidate, Group, MatchTables, Node, Partition, Segment, SetTest, SlotLanes, Tail};
