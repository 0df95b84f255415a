//! What becomes of the lanes that hold.

use super::form::Form;
use crate::matcher::Found;
use crate::tables::layout::LANES;
use crate::tables::{Candidate, MatchTables};

pub trait Sink {
    /// Lanes of `group` whose terms hold for `row` of the batch; at least one.
    fn settled<F: Form>(&mut self, tables: &MatchTables, row: u32, group: u32, lanes: u32);

    /// A term whose residual is still open.
    fn open(&mut self, row: u32, term: u32);
}

/// Every term, open or not, as a candidate.
pub struct CandidateSink<'a>(pub &'a mut Vec<Candidate>);

impl Sink for CandidateSink<'_> {
    #[inline(always)]
    fn settled<F: Form>(&mut self, _: &MatchTables, row: u32, group: u32, mut lanes: u32) {
        while lanes != 0 {
            self.0.push(Candidate { row, term: group * LANES as u32 + lanes.trailing_zeros() });
            lanes &= lanes - 1;
        }
    }

    fn open(&mut self, row: u32, term: u32) {
        self.0.push(Candidate { row, term });
    }
}

/// Rules where a term is settled, candidates where it is open.
#[derive(Default)]
pub struct HitSink(pub Found);

impl Sink for HitSink {
    #[inline(always)]
    fn settled<F: Form>(&mut self, tables: &MatchTables, row: u32, group: u32, lanes: u32) {
        let first = group as usize * LANES;
        let rules = tables.term_rules[first..].first_chunk().expect("every group has thirty-two terms");
        F::append(lanes, rules, row, &mut self.0.rules);
    }

    fn open(&mut self, row: u32, term: u32) {
        self.0.open.push(Candidate { row, term });
    }
}
