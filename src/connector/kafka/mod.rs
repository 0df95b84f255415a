//! Events from topics of Kafka, and results to others.
//!
//! * [`config`]: what a user says of it.
//! * [`source`]: a member of a consumer group; partitions come and go, and each begins where its state says.
//! * [`recent`]: the last messages of topics, for who only looks at them.
//! * [`sink`]: a producer, with transactions that results and positions share.

pub mod config;
#[cfg(feature = "kafka")]
pub mod recent;
#[cfg(feature = "kafka")]
pub mod sink;
#[cfg(feature = "kafka")]
pub mod source;

use std::fmt;
use std::sync::Arc;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    pub topic: Arc<str>,
    pub number: i32,
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.number)
    }
}
