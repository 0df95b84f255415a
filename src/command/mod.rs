//! What the command line does, one file a command. Commands write to the writers they are given; `main` alone prints and exits.

#[cfg(feature = "service")]
pub mod audit;
pub mod bench;
pub mod compile;
pub mod devices;
pub mod duration;
pub mod explain;
mod findings;
#[cfg(feature = "service")]
pub mod generate;
pub mod held;
pub mod inspect;
pub mod matching;
mod order;
#[cfg(feature = "service")]
pub mod push;
pub mod report;
#[cfg(feature = "service")]
pub mod serve;
pub mod size;
pub mod snapshot;
pub mod sources;
pub mod state;
mod windows;

use crate::rule::Diagnostic;

/// Why a command ended early; `main` shows it and exits with 1.
#[derive(Debug)]
pub enum Failure {
    /// One sentence for people.
    Message(String),
    /// Errors in rules. Warnings may be among them.
    Diagnostics(Vec<Diagnostic>),
    /// Whoever read the results went away, as `head` does when it has enough.
    Closed,
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::Message(message)
    }
}

impl From<crate::codec::Error> for Failure {
    fn from(error: crate::codec::Error) -> Self {
        if error.closed { Self::Closed } else { Self::Message(error.to_string()) }
    }
}

impl From<crate::tables::ArtifactError> for Failure {
    fn from(error: crate::tables::ArtifactError) -> Self {
        Self::Message(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Message(format!("cannot write: {error}")),
        }
    }
}
