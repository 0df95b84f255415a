//! What only the kernels need of outputs: how they are told what to make, what rules count for, and what comes back.

use super::error::GpuError;
use super::launch::{ORDERED_MAX, SCORE_WORDS};
use crate::flow::Hits;
use crate::id::RuleId;
use crate::matcher::output::{LIVE, Output, Reduction, State};
use crate::tables::artifact::RuleRecord;
use crate::tables::layout::NONE;
use bytemuck::{Pod, Zeroable};
use std::ops::Range;

impl Output {
    /// As the kernels know it: what to make, and how many.
    pub(super) fn launched(self) -> [u32; 2] {
        match self {
            Self::Scores => [1, 0],
            Self::First => [2, 0],
            Self::Counts => [3, 0],
            Self::Top(best) => [4, best],
            Self::Lists => [5, 0],
        }
    }

    pub(super) fn has_lists(self) -> bool {
        matches!(self, Self::Top(_) | Self::Lists)
    }

    /// Words of a row's result while candidates are reduced.
    pub(super) fn result_words(self) -> u32 {
        if self == Self::Scores { SCORE_WORDS } else { 1 }
    }

    /// Words that come back for a number of rows, besides the lists.
    pub(super) fn returned_words(self, rows: u64) -> u64 {
        match self {
            Self::Top(best) => rows * u64::from(best),
            Self::Lists => rows + 1,
            _ => rows * u64::from(self.result_words()),
        }
    }
}

/// What a rule's match counts for: twin of the `Verdict` in shaders/shared/tables.wgsl.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Verdict {
    pub score_low: u32,
    pub score_high: u32,
    pub action: u32,
    pub live: u32,
}

impl Verdict {
    pub fn of(record: &RuleRecord) -> Self {
        let score = record.score.cast_unsigned();
        Self {
            score_low: score as u32,
            score_high: (score >> 32) as u32,
            action: u32::from(record.action),
            live: u32::from(record.status == LIVE),
        }
    }

    fn score(self) -> i64 {
        (u64::from(self.score_high) << 32 | u64::from(self.score_low)).cast_signed()
    }
}

/// What one run of the kernels has made of some rows.
pub struct Partial {
    /// A result for each row; of lists, where each row's rules start, and the end.
    pub words: Vec<u32>,
    /// Of lists, the rules.
    pub listed: Vec<u32>,
}

impl Partial {
    /// Adds it to what `rows` are reduced to.
    pub fn merge(self, reduction: &mut Reduction, rows: Range<usize>, verdicts: &[Verdict]) -> Result<(), GpuError> {
        let refused = || GpuError::Refused("its results contradict each other".to_owned());
        let Self { words, listed } = self;
        match &mut reduction.state {
            State::Scores { sums, actions } => {
                for (row, words) in rows.zip(words.chunks_exact(SCORE_WORDS as usize)) {
                    let high = i128::from(words[2].cast_signed()) << 64;
                    sums[row] += high | i128::from(words[1]) << 32 | i128::from(words[0]);
                    actions[row] = actions[row].max(words[3] as u8);
                }
            }
            State::First(first) => rows.zip(words).for_each(|(row, word)| first[row] = first[row].min(NONE - word)),
            State::Counts(counts) => rows.zip(words).for_each(|(row, count)| counts[row] += count),
            State::Top(best) => {
                for (row, rules) in rows.zip(words.chunks_exact(best.count.max(1))) {
                    for &rule in rules.iter().filter(|rule| **rule != NONE) {
                        let verdict = verdicts.get(rule as usize).ok_or_else(refused)?;
                        best.add(row, verdict.score(), rule);
                    }
                }
            }
            State::Lists { hits, more } => {
                if !words.is_sorted() || words.last().copied() != u32::try_from(listed.len()).ok() {
                    return Err(refused());
                }
                let mut rules: Vec<RuleId> = listed.into_iter().map(RuleId).collect();
                for run in words.windows(2).filter(|run| run[1] - run[0] > ORDERED_MAX) {
                    rules[run[0] as usize..run[1] as usize].sort_unstable();
                }
                if hits.rules.is_empty() && rows.len() == hits.rows() {
                    *hits = Hits { offsets: words, rules };
                } else {
                    for (row, run) in rows.zip(words.windows(2)) {
                        more.extend(rules[run[0] as usize..run[1] as usize].iter().map(|rule| (row as u32, *rule)));
                    }
                }
            }
        }
        Ok(())
    }
}
