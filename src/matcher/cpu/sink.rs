//! What becomes of the lanes that hold.

use super::form::Form;
use crate::matcher::Found;
use crate::matcher::output::{Match, Reduced, RuleLanes, State};
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

/// The rules of a group's lanes.
#[inline(always)]
fn rules_of<'a>(tables: &MatchTables<'a>, group: u32) -> &'a [u32; LANES] {
    tables.term_rules[group as usize * LANES..].first_chunk().expect("every group has thirty-two terms")
}

/// Rules where a term is settled, candidates where it is open.
#[derive(Default)]
pub struct HitSink(pub Found);

impl Sink for HitSink {
    #[inline(always)]
    fn settled<F: Form>(&mut self, tables: &MatchTables, row: u32, group: u32, lanes: u32) {
        F::append(lanes, rules_of(tables, group), row, &mut self.0.rules);
    }

    fn open(&mut self, row: u32, term: u32) {
        self.0.open.push(Candidate { row, term });
    }
}

/// Rows reduced where a term is settled and its rule may be counted, candidates where not.
pub struct ReductionSink<'a> {
    pub lanes: &'a RuleLanes,
    pub reduced: Reduced,
    /// What is still to be added: matches whose order within a row counts.
    pub matches: Vec<Match>,
}

impl Sink for ReductionSink<'_> {
    #[inline(always)]
    fn settled<F: Form>(&mut self, tables: &MatchTables, row: u32, group: u32, lanes: u32) {
        let rules = rules_of(tables, group);
        let (at, nth) = (row as usize, group as usize);
        let RuleLanes { live, returned, scores, actions: strengths } = self.lanes;
        let (live, returned, scores) = (lanes & live[nth], lanes & returned[nth], &scores[nth]);
        match &mut self.reduced.reduction.state {
            State::First(first) => {
                // A rule that matches twice is no earlier for it.
                let mut least = first[at];
                for_each(live, |lane| least = least.min(rules[lane]));
                first[at] = least;
                return;
            }
            State::Counts(counts) => counts[at] += (live & !returned).count_ones(),
            State::Scores { sums, actions } => {
                let (mut sum, mut strongest) = (sums[at], actions[at]);
                for_each(live & !returned, |lane| {
                    sum += i128::from(scores[lane]);
                    strongest = strongest.max(strengths[nth][lane]);
                });
                (sums[at], actions[at]) = (sum, strongest);
            }
            state => {
                let wanted = if matches!(state, State::Top(_)) { live } else { lanes };
                self.matches.reserve(LANES);
                for_each(wanted & !returned, |lane| self.matches.push(Match { row, rule: rules[lane], score: scores[lane] }));
            }
        }
        for_each(returned, |lane| self.reduced.rest.push(Candidate { row, term: group * LANES as u32 + lane as u32 }));
    }

    fn open(&mut self, row: u32, term: u32) {
        self.reduced.rest.push(Candidate { row, term });
    }
}

#[inline(always)]
fn for_each(mut lanes: u32, mut visit: impl FnMut(usize)) {
    while lanes != 0 {
        visit(lanes.trailing_zeros() as usize);
        lanes &= lanes - 1;
    }
}
