//! The match on a CPU: level by level over tiles of rows, thirty-two children at a time.
//!
//! A frontier of (place, row) pairs is tested against the places' slots; the surviving children are the next frontier. What is ahead is fetched while what is
//! at hand is tested, and there is no data-dependent branch but those around candidates.
//!
//! * `search`: the frontier.
//! * `form`: what is done lane by lane, once for each instruction set; which one runs is decided once a batch.
//! * `sink`: what becomes of the lanes that hold.

mod form;
mod search;
mod sink;
#[cfg(test)]
mod tests;

pub use form::Isa;
pub use search::Visit;

use super::{Found, Pairs};
use crate::flow::EncodedBatch;
use crate::tables::{Candidate, MatchTables};
use search::search;
use sink::{CandidateSink, HitSink, Sink};

/// All rules that match, and all terms that a residual decides, in the partitions to visit.
///
/// # Panics
/// When the codes are not those of the tables' columns.
#[must_use]
pub fn rules(tables: &MatchTables, batch: &EncodedBatch, which: Visit) -> Found {
    let mut sink = HitSink::default();
    run(Isa::best(), tables, batch, which, &mut sink);
    sink.0
}

/// Appends to `found` all candidates of the batch, in no particular order, that lie in the partitions to visit.
///
/// # Panics
/// When the codes are not those of the tables' columns.
pub fn candidates(tables: &MatchTables, batch: &EncodedBatch, which: Visit, found: &mut Vec<Candidate>) {
    candidates_by(Isa::best(), tables, batch, which, found);
}

/// The same by a given instruction set: the tests compare them all.
///
/// # Panics
/// As [`candidates`], and when this machine lacks the instruction set.
#[doc(hidden)]
pub fn candidates_by(isa: Isa, tables: &MatchTables, batch: &EncodedBatch, which: Visit, found: &mut Vec<Candidate>) {
    run(isa, tables, batch, which, &mut CandidateSink(found));
}

fn run(isa: Isa, tables: &MatchTables, batch: &EncodedBatch, which: Visit, sink: &mut impl Sink) {
    assert_eq!(tables.columns, batch.columns, "the batch was encoded for these tables");
    assert!(isa.is_available(), "this machine has no {isa:?}");
    #[cfg(target_arch = "x86_64")]
    {
        use form::{avx2, avx512};
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,bmi2,popcnt")]
        fn wide<F: form::Form>(tables: &MatchTables, batch: &EncodedBatch, which: Visit, sink: &mut impl Sink) {
            search::<F>(tables, batch, which, sink);
        }
        #[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
        fn narrow<F: form::Form>(tables: &MatchTables, batch: &EncodedBatch, which: Visit, sink: &mut impl Sink) {
            search::<F>(tables, batch, which, sink);
        }
        let columns = tables.steps.len();
        // SAFETY: `is_available` has detected the features that these functions are compiled for.
        unsafe {
            match isa {
                Isa::Avx512 if columns <= 32 => return wide::<avx512::Columns32>(tables, batch, which, sink),
                Isa::Avx512 if columns <= 64 => return wide::<avx512::Columns64>(tables, batch, which, sink),
                Isa::Avx512 if columns <= 128 => return wide::<avx512::Columns128>(tables, batch, which, sink),
                Isa::Avx512 => return wide::<avx512::Gather>(tables, batch, which, sink),
                Isa::Avx2 if columns <= 16 => return narrow::<avx2::Columns16>(tables, batch, which, sink),
                Isa::Avx2 => return narrow::<form::Portable>(tables, batch, which, sink),
                Isa::Portable => {}
            }
        }
    }
    search::<form::Portable>(tables, batch, which, sink);
}
