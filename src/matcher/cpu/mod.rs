//! The match on a CPU: level by level over tiles of rows, thirty-two children at a time.
//!
//! A frontier of pairs (place, row) is tested against the places' slots; the surviving children are the next frontier. What is ahead is fetched while what is
//! at hand is tested, and there is no data-dependent branch but those around candidates.
//!
//! * `search`: the frontier, and the stages that a tile goes through.
//! * `form`: what is done lane by lane, once for each instruction set; which one runs is decided once a batch.
//! * `sink`: what becomes of the lanes that hold.

mod form;
mod search;
mod sink;
#[cfg(test)]
mod tests;

pub use form::Isa;
pub use search::Visit;

use super::Found;
use super::output::{Output, Reduced, Reduction, RuleLanes};
use crate::flow::EncodedBatch;
use crate::tables::{Candidate, MatchTables};
use search::search;
use sink::{CandidateSink, HitSink, ReductionSink, Sink};

/// All rules that match, and all terms that a residual decides, in the partitions to visit.
///
/// # Panics
/// When the codes are not those of the tables' columns.
#[must_use]
pub fn rules(tables: &MatchTables, batch: &EncodedBatch, which: Visit) -> Found {
    rules_by(Isa::best(), tables, batch, which)
}

/// The same by a given instruction set: benches compare them.
///
/// # Panics
/// As [`rules`], and when this machine lacks the instruction set.
#[must_use]
pub fn rules_by(isa: Isa, tables: &MatchTables, batch: &EncodedBatch, which: Visit) -> Found {
    let mut sink = HitSink::default();
    run(isa, tables, batch, which, &mut sink);
    sink.0
}

/// What the rules that match, in the partitions to visit, make of each row, but for what the engine decides. `lanes` are those of the tables.
///
/// # Panics
/// As [`rules`], and when `lanes` are of other tables.
#[must_use]
pub fn reduce(tables: &MatchTables, lanes: &RuleLanes, batch: &EncodedBatch, which: Visit, output: Output) -> Reduced {
    reduce_by(Isa::best(), tables, lanes, batch, which, output)
}

/// The same by a given instruction set: the tests compare them all.
///
/// # Panics
/// As [`reduce`], and when this machine lacks the instruction set.
#[doc(hidden)]
#[must_use]
pub fn reduce_by(isa: Isa, tables: &MatchTables, lanes: &RuleLanes, batch: &EncodedBatch, which: Visit, output: Output) -> Reduced {
    let reduced = Reduced { reduction: Reduction::new(output, batch.rows), rest: Vec::new() };
    let mut sink = ReductionSink { lanes, reduced, matches: Vec::new() };
    run(isa, tables, batch, which, &mut sink);
    sink.reduced.reduction.add_matches(&sink.matches);
    sink.reduced
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
        let columns = tables.steps.len();
        match isa {
            Isa::Avx512 if columns <= 32 => return search::<avx512::Columns32>(tables, batch, which, sink),
            Isa::Avx512 if columns <= 64 => return search::<avx512::Columns64>(tables, batch, which, sink),
            Isa::Avx512 if columns <= 128 => return search::<avx512::Columns128>(tables, batch, which, sink),
            Isa::Avx512 => return search::<avx512::Gather>(tables, batch, which, sink),
            Isa::Avx2 if columns <= 16 => return search::<avx2::Columns16>(tables, batch, which, sink),
            Isa::Avx2 => return search::<avx2::AnyColumns>(tables, batch, which, sink),
            Isa::Portable => {}
        }
    }
    search::<form::Portable>(tables, batch, which, sink);
}
