//! Codes to candidates: which terms hold for which rows. Back ends give the same answer, to the bit.
//!
//! * [`plain`]: the definition, one row and one term at a time; what the other two are tested against.
//! * [`cpu`]: written for CPUs; cannot fail.
//! * [`gpu`]: compute shaders; may refuse, never lies.

pub mod cpu;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod plain;
