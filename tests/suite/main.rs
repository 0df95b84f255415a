//! Tests of the whole engine, seen as its users see it.

mod artifact;
mod compare;
mod differential;
mod generate;
mod properties;
mod random;
