//! The crate as its users see it: known answers, the command line, the examples of the documentation.

mod contract;
mod corpus;
mod packs;
mod reference_docs;
mod support;
