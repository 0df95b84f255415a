//! Connectors: where events come from and where results go.
//!
//! * [`mod@file`]: the names a user gives (paths, globs, `-`), opened.
//! * [`kafka`]: topics of Kafka.
//! * [`source`]: event batches from several inputs in order.
//! * [`sink`]: results to a file or to standard output.
//! * [`store`]: things by their names, in a folder or in an object store.
//! * [`snapshots`]: state to such a place, and back.
//! * [`spill`]: state that memory has no room for, while a run goes on.

pub mod file;
pub mod kafka;
pub mod sink;
pub mod snapshots;
pub mod source;
pub mod spill;
pub mod store;

pub use sink::ResultWriter;
pub use source::{EventReader, EventSource, ReadBatch, Reject};

#[cfg(test)]
mod tests;
