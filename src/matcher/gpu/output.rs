//! What a batch is reduced to on the device, and how partial results come together.

use super::error::GpuError;
use super::launch::{ORDERED_MAX, SCORE_WORDS};
use crate::flow::Hits;
use crate::id::RuleId;
use crate::tables::Candidate;
use crate::tables::artifact::RuleRecord;
use crate::tables::layout::{Group, LANES, MatchTables, NONE, SlotLanes};
use bytemuck::{Pod, Zeroable};
use std::cmp::Reverse;
use std::ops::Range;

/// [`RuleRecord::status`] of rules that act.
const LIVE: u8 = 0;

/// Terms up to which a rule's terms are compared with each other; a rule with more of them is decided by the host.
const COMPARED_TERMS_MAX: usize = 64;

/// What to make of a batch. All but lists look at live rules only, because those decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// For each row the sum of the matching rules' scores and their strongest action.
    Scores,
    /// For each row the first matching rule.
    First,
    /// For each row the number of matching rules.
    Counts,
    /// For each row so many matching rules of highest score, best first; of equal scores the lower rule is better.
    Top(u32),
    /// For each row all matching rules, ascending, shadow rules included.
    Lists,
}

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

/// What has become of the rows of a batch.
#[derive(Clone, Debug)]
pub struct Reduction {
    output: Output,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Scores {
        sums: Vec<i128>,
        actions: Vec<u8>,
    },
    First(Vec<u32>),
    Counts(Vec<u32>),
    /// So many for each row, best first, padded with what is worse than any rule.
    Top(Vec<(Reverse<i64>, u32)>),
    /// Most rules; and others, by row, that are yet to be merged.
    Lists {
        hits: Hits,
        more: Vec<(u32, RuleId)>,
    },
}

impl Reduction {
    /// Rows that no rule matches.
    #[must_use]
    pub fn new(output: Output, rows: usize) -> Self {
        let state = match output {
            Output::Scores => State::Scores { sums: vec![0; rows], actions: vec![0; rows] },
            Output::First => State::First(vec![NONE; rows]),
            Output::Counts => State::Counts(vec![0; rows]),
            Output::Top(best) => State::Top(vec![(Reverse(i64::MIN), NONE); rows * best as usize]),
            Output::Lists => State::Lists { hits: Hits { offsets: vec![0; rows + 1], rules: Vec::new() }, more: Vec::new() },
        };
        Self { output, state }
    }

    /// Adds a match. A rule may match a row once.
    pub fn add(&mut self, row: usize, rule: RuleId, record: &RuleRecord) {
        self.add_verdict(row, rule.index() as u32, Verdict::of(record));
    }

    fn add_verdict(&mut self, row: usize, rule: u32, verdict: Verdict) {
        let is_live = verdict.live == 1;
        match &mut self.state {
            State::Lists { more, .. } => more.push((row as u32, RuleId(rule))),
            _ if !is_live => {}
            State::Scores { sums, actions } => {
                sums[row] += i128::from(verdict.score());
                actions[row] = actions[row].max(verdict.action as u8);
            }
            State::First(first) => first[row] = first[row].min(rule),
            State::Counts(counts) => counts[row] += 1,
            State::Top(_) => self.add_best(row, (Reverse(verdict.score()), rule)),
        }
    }

    fn add_best(&mut self, row: usize, rule: (Reverse<i64>, u32)) {
        let (State::Top(best), Output::Top(count)) = (&mut self.state, self.output) else { return };
        let best = &mut best[row * count as usize..][..count as usize];
        let place = best.partition_point(|other| *other < rule);
        if place < best.len() {
            best[place..].rotate_right(1);
            best[place] = rule;
        }
    }

    /// Adds what a run has made of `rows`.
    pub(super) fn merge(&mut self, rows: Range<usize>, partial: Partial, verdicts: &[Verdict]) -> Result<(), GpuError> {
        let refused = || GpuError::Refused("its results contradict each other".to_owned());
        let Partial { words, listed } = partial;
        match &mut self.state {
            State::Scores { sums, actions } => {
                for (row, words) in rows.zip(words.chunks_exact(SCORE_WORDS as usize)) {
                    let high = i128::from(words[2].cast_signed()) << 64;
                    sums[row] += high | i128::from(words[1]) << 32 | i128::from(words[0]);
                    actions[row] = actions[row].max(words[3] as u8);
                }
            }
            State::First(first) => rows.zip(words).for_each(|(row, word)| first[row] = first[row].min(NONE - word)),
            State::Counts(counts) => rows.zip(words).for_each(|(row, count)| counts[row] += count),
            State::Top(_) => {
                let Output::Top(count) = self.output else { return Ok(()) };
                for (row, rules) in rows.zip(words.chunks_exact(count.max(1) as usize)) {
                    for &rule in rules.iter().filter(|rule| **rule != NONE) {
                        let verdict = verdicts.get(rule as usize).ok_or_else(refused)?;
                        self.add_best(row, (Reverse(verdict.score()), rule));
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

    /// Of [`Output::Scores`]: sums in thousandths, saturating at the ends of 64 bits, and the strongest actions.
    #[must_use]
    pub fn scores(self) -> Option<(Vec<i64>, Vec<u8>)> {
        let State::Scores { sums, actions } = self.state else { return None };
        let saturated = |sum: i128| i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX });
        Some((sums.into_iter().map(saturated).collect(), actions))
    }

    /// Of [`Output::First`]: the rules, [`NONE`] where none matches.
    #[must_use]
    pub fn first(self) -> Option<Vec<u32>> {
        if let State::First(first) = self.state { Some(first) } else { None }
    }

    /// Of [`Output::Counts`]: the numbers.
    #[must_use]
    pub fn counts(self) -> Option<Vec<u32>> {
        if let State::Counts(counts) = self.state { Some(counts) } else { None }
    }

    /// Of [`Output::Top`]: the rules of each row, best first.
    #[must_use]
    pub fn top(self) -> Option<Hits> {
        let (State::Top(best), Output::Top(count)) = (self.state, self.output) else { return None };
        let mut hits = Hits { offsets: vec![0], rules: Vec::with_capacity(best.len()) };
        for best in best.chunks_exact(count.max(1) as usize) {
            hits.rules.extend(best.iter().filter(|(_, rule)| *rule != NONE).map(|(_, rule)| RuleId(*rule)));
            hits.offsets.push(hits.rules.len() as u32);
        }
        Some(hits)
    }

    /// Of [`Output::Lists`]: the rules of each row, ascending.
    #[must_use]
    pub fn lists(self) -> Option<Hits> {
        let State::Lists { hits, mut more } = self.state else { return None };
        if more.is_empty() {
            return Some(hits);
        }
        more.sort_unstable();
        let mut merged = Hits { offsets: vec![0], rules: Vec::with_capacity(hits.rules.len() + more.len()) };
        let mut more = more.into_iter().peekable();
        for row in 0..hits.rows() {
            for &rule in hits.row(row) {
                while let Some((_, before)) = more.next_if(|(of, before)| *of as usize == row && *before < rule) {
                    merged.rules.push(before);
                }
                merged.rules.push(rule);
            }
            while let Some((_, rule)) = more.next_if(|(of, _)| *of as usize == row) {
                merged.rules.push(rule);
            }
            merged.offsets.push(merged.rules.len() as u32);
        }
        Some(merged)
    }
}

/// A batch reduced, but for what the host decides.
#[derive(Clone, Debug)]
pub struct Reduced {
    pub reduction: Reduction,
    /// Terms that hold, of rules that are not in the reduction: their residual is open, or other terms of their rule may hold as well. What becomes of
    /// them is to be [added](Reduction::add).
    pub rest: Vec<Candidate>,
}

/// For each group the lanes whose rules no kernel may count: those that may match a row by several of their terms, and those with a residual.
pub fn returned_lanes(tables: &MatchTables, rules: usize) -> Result<Vec<u32>, GpuError> {
    let repeats = repeating(tables, rules).ok_or(GpuError::Tables("a term belongs to a rule that does not exist"))?;
    let lanes = |(nth, group): (usize, &Group)| {
        (0..LANES).fold(0, |lanes, lane| {
            let rule = tables.term_rules[nth * LANES + lane];
            let has_residual =
                || group.tailed >> lane & 1 == 1 && tables.tail((nth * LANES + lane) as u32).is_some_and(|tail| tail.residual != NONE);
            lanes | u32::from(rule != NONE && (repeats[rule as usize] || has_residual())) << lane
        })
    };
    Ok(tables.groups.iter().enumerate().map(lanes).collect())
}

/// For each rule whether more than one of its terms may hold for a row; `None` where a term's rule is none of them.
fn repeating(tables: &MatchTables, rules: usize) -> Option<Vec<bool>> {
    let mut starts = vec![0_u32; rules + 1];
    for rule in tables.term_rules.iter().filter(|rule| **rule != NONE) {
        *starts.get_mut(*rule as usize + 1)? += 1;
    }
    (0..rules).for_each(|rule| starts[rule + 1] += starts[rule]);
    let mut next = starts.clone();
    let mut terms = vec![0_u32; starts[rules] as usize];
    for (term, rule) in tables.term_rules.iter().enumerate().filter(|(_, rule)| **rule != NONE) {
        let place = &mut next[*rule as usize];
        terms[*place as usize] = term as u32;
        *place += 1;
    }
    let repeats = |run: &[u32]| {
        let terms = &terms[run[0] as usize..run[1] as usize];
        terms.len() > COMPARED_TERMS_MAX
            || terms.iter().enumerate().any(|(nth, term)| terms[..nth].iter().any(|other| !exclude(tables, *term, *other)))
    };
    Some(starts.windows(2).map(repeats).collect())
}

/// Whether no row can hold for both terms: in some column their buckets have nothing in common.
fn exclude(tables: &MatchTables, a: u32, b: u32) -> bool {
    let range = |slot: &SlotLanes, lane: usize| {
        let (low, high) = (slot.low[lane], slot.low[lane].checked_add(slot.span[lane])?);
        Some((slot.columns[lane], low, high))
    };
    let ranges = |term: u32| {
        let lane = term as usize % LANES;
        tables.groups[term as usize / LANES].chain(tables.leaf_slots).filter_map(move |slot| range(slot, lane))
    };
    ranges(a).any(|(column, low, high)| ranges(b).any(|(other, from, to)| column == other && (high < from || to < low)))
}
