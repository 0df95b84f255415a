//! Codes to candidates: which terms hold for which rows. Back ends give the same answer, to the bit.
//!
//! * [`plain`]: the definition, one row and one term at a time; what the other two are tested against.
//! * [`cpu`]: written for CPUs; cannot fail.
//! * [`gpu`]: compute shaders; may refuse, never lies.
//!
//! Where hits are not themselves wanted, both reduce them to an [`output`] of each row.

pub mod cpu;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod output;
pub mod plain;

use crate::tables::layout::NONE;
use crate::tables::{Candidate, MatchTables};
use bytemuck::{Pod, Zeroable};

/// A row and something of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct Pair {
    pub value: u32,
    pub row: u32,
}

/// What a batch matches, but for residuals.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Rows and the rules that match them, in no particular order, a rule once for each of its terms that holds.
    pub rules: Vec<Pair>,
    /// Terms whose residual is still open.
    pub open: Vec<Candidate>,
}

impl Found {
    /// The same from candidates: some are settled, the others have a residual.
    #[must_use]
    pub fn of(tables: &MatchTables, candidates: &[Candidate]) -> Self {
        let mut found = Self::default();
        for candidate in candidates {
            if tables.tail(candidate.term).is_some_and(|tail| tail.residual != NONE) {
                found.open.push(*candidate);
            } else {
                found.rules.push(Pair { value: tables.term_rules[candidate.term as usize], row: candidate.row });
            }
        }
        found
    }
}
