//! Events from Kafka, judged partition by partition, and what became of them.
//!
//! ```text
//! messages ─ payload ─ partitions: stream ─ outbox ─ transit ─ one transaction: results, positions
//!                         └─ keeper: snapshots, each with its position
//! ```
//! Two threads: one reads and judges, the other puts out the batch before.
//! Each partition is a stream with state of its own, and with a clock of its own: one in which nothing happens holds nobody back. Whoever is given a partition makes its state of the
//! newest snapshot and of the messages between its position and the committed one, which are judged again and not told of. So there is one way to begin, after whatever ended.

mod outbox;
mod partitions;
mod payload;
mod pipeline;
mod recent;
mod schemas;
mod transit;

pub use partitions::Settings;
pub use pipeline::Pipeline;
pub use recent::recent;
