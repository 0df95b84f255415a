//! Why the GPU could not answer.

use std::fmt;

/// Why the GPU could not answer. The caller matches on the CPU instead; after [`GpuError::Lost`] it needs a new device for the next batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GpuError {
    /// No adapter, or none that can run the kernels.
    NoAdapter(String),
    /// The device is gone: unplugged, reset, or destroyed.
    Lost(String),
    OutOfMemory(String),
    /// The device did not finish within the given number of seconds.
    TimedOut(u64),
    /// Something does not fit in the adapter's bindings, however it is split.
    TooLarge {
        what: &'static str,
        bytes: u64,
        limit: u64,
    },
    /// The tables refer to something that they do not have.
    Tables(&'static str),
    /// The batch is not one for these tables.
    Batch(&'static str),
    /// The device refused what it was given: a fault in this crate or in the driver.
    Refused(String),
}

impl fmt::Display for GpuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAdapter(why) => write!(f, "no usable GPU adapter: {why}"),
            Self::Lost(why) => write!(f, "the GPU device was lost: {why}"),
            Self::OutOfMemory(why) => write!(f, "the GPU is out of memory: {why}"),
            Self::TimedOut(seconds) => write!(f, "the GPU did not finish within {seconds} seconds"),
            Self::TooLarge { what, bytes, limit } => {
                write!(f, "{what} too large for the GPU: {bytes} bytes, and a binding holds {limit}")
            }
            Self::Tables(why) => write!(f, "the match tables are inconsistent: {why}"),
            Self::Batch(why) => write!(f, "the batch does not fit the match tables: {why}"),
            Self::Refused(why) => write!(f, "the GPU refused a command: {why}"),
        }
    }
}

impl std::error::Error for GpuError {}
