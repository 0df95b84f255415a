//! Tests of the whole engine, seen as its users see it.

mod artifact;
mod compare;
mod differential;
mod faults;
mod forge;
mod generate;
mod properties;
mod random;
