//! The crate as its users see it: known answers, the command line, the examples of the documentation; and all back ends against each other.

mod artifact;
#[cfg(feature = "kafka")]
mod avro;
mod compare;
mod contract;
mod corpus;
mod differential;
#[cfg(feature = "service")]
mod edges;
mod faults;
mod finality;
mod forge;
mod generate;
#[cfg(feature = "kafka")]
mod kafka;
mod live;
mod measures;
mod outputs;
mod packs;
mod patterns;
mod properties;
mod random;
mod reference_docs;
mod row_conditions;
mod sequences;
#[cfg(feature = "service")]
mod service;
mod shelf;
#[cfg(feature = "s3")]
mod stores;
mod support;
mod windows;
