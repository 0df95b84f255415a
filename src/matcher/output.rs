//! What a batch is reduced to, row by row, where the lists of its hits are not themselves wanted; and how parts of it come together.

use crate::flow::Hits;
use crate::id::RuleId;
use crate::tables::artifact::RuleRecord;
use crate::tables::layout::{Group, LANES, NONE, SlotLanes};
use crate::tables::{Candidate, MatchTables};
use std::cmp::Reverse;

/// [`RuleRecord::status`] of rules that act.
pub(super) const LIVE: u8 = 0;

/// Terms up to which a rule's terms are compared with each other; of a rule with more of them, several are taken to hold at a time.
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

/// What has become of the rows of a batch.
#[derive(Clone, Debug)]
pub struct Reduction {
    pub(super) rows: usize,
    pub(super) state: State,
}

#[derive(Clone, Debug)]
pub(super) enum State {
    Scores {
        sums: Vec<i128>,
        actions: Vec<u8>,
    },
    First(Vec<u32>),
    Counts(Vec<u32>),
    Top(Best),
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
            Output::Top(count) => State::Top(Best::new(rows, count as usize)),
            Output::Lists => State::Lists { hits: Hits { offsets: vec![0; rows + 1], rules: Vec::new() }, more: Vec::new() },
        };
        Self { rows, state }
    }

    /// The definition: rows reduced from the lists of their hits.
    #[must_use]
    pub fn of(output: Output, hits: &Hits, rules: &[RuleRecord]) -> Self {
        let mut reduction = Self::new(output, hits.rows());
        reduction.add_hits(hits, rules);
        reduction
    }

    /// Adds what matches besides.
    pub fn add_hits(&mut self, hits: &Hits, rules: &[RuleRecord]) {
        for row in 0..hits.rows() {
            hits.row(row).iter().for_each(|rule| self.add(row, *rule, &rules[rule.index()]));
        }
    }

    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Adds a match. A rule may match a row once.
    pub fn add(&mut self, row: usize, rule: RuleId, record: &RuleRecord) {
        if let State::Lists { more, .. } = &mut self.state {
            more.push((row as u32, rule));
        } else if record.status == LIVE {
            match &mut self.state {
                State::Scores { sums, actions } => {
                    sums[row] += i128::from(record.score);
                    actions[row] = actions[row].max(record.action);
                }
                State::First(first) => first[row] = first[row].min(rule.0),
                State::Counts(counts) => counts[row] += 1,
                State::Top(best) => best.add(row, record.score, rule.0),
                State::Lists { .. } => {}
            }
        }
    }

    /// Of [`Output::Top`] and [`Output::Lists`]: adds matches in any order.
    pub(super) fn add_matches(&mut self, matches: &[Match]) {
        if matches.is_empty() {
            return;
        }
        // Row by row: so each row's results are fetched once.
        let mut starts = vec![0_u32; self.rows + 1];
        matches.iter().for_each(|found| starts[found.row as usize + 1] += 1);
        (0..self.rows).for_each(|row| starts[row + 1] += starts[row]);
        let mut by_row = vec![Match::default(); matches.len()];
        for found in matches {
            let place = &mut starts[found.row as usize];
            by_row[*place as usize] = *found;
            *place += 1;
        }
        for Match { row, rule, score } in by_row {
            match &mut self.state {
                State::Top(best) => best.add(row as usize, score, rule),
                State::Lists { more, .. } => more.push((row, RuleId(rule))),
                State::Scores { .. } | State::First(_) | State::Counts(_) => {}
            }
        }
    }

    /// Adds what another back end has made of some rows; `rows` tells which they are here. No rule may have matched a row on both.
    ///
    /// # Panics
    /// When the other is of another output.
    pub fn absorb(&mut self, rows: impl Iterator<Item = usize>, other: Self) {
        match (&mut self.state, other.state) {
            (State::Scores { sums, actions }, State::Scores { sums: others, actions: of_others }) => {
                for ((row, sum), action) in rows.zip(others).zip(of_others) {
                    sums[row] += sum;
                    actions[row] = actions[row].max(action);
                }
            }
            (State::First(first), State::First(others)) => rows.zip(others).for_each(|(row, other)| first[row] = first[row].min(other)),
            (State::Counts(counts), State::Counts(others)) => rows.zip(others).for_each(|(row, other)| counts[row] += other),
            (State::Top(best), State::Top(others)) => {
                for (row, other) in rows.zip(0..other.rows) {
                    others.of_row(other).for_each(|(score, rule)| best.add(row, score, rule));
                }
            }
            (State::Lists { more, .. }, State::Lists { hits, more: others }) => {
                let others = merged(hits, others);
                for (other, row) in rows.enumerate() {
                    more.extend(others.row(other).iter().map(|rule| (row as u32, *rule)));
                }
            }
            _ => panic!("both are of one output"),
        }
    }

    /// The rows' results.
    #[must_use]
    pub fn answer(self) -> Answer {
        match self.state {
            State::Scores { sums, actions } => {
                let saturated = |sum: i128| i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX });
                Answer::Scores { scores: sums.into_iter().map(saturated).collect(), actions }
            }
            State::First(first) => Answer::First(first),
            State::Counts(counts) => Answer::Counts(counts),
            State::Top(best) => {
                let mut hits = Hits { offsets: vec![0], rules: Vec::new() };
                for row in 0..self.rows {
                    hits.rules.extend(best.of_row(row).map(|(_, rule)| RuleId(rule)));
                    hits.offsets.push(hits.rules.len() as u32);
                }
                Answer::Top(hits)
            }
            State::Lists { hits, more } => Answer::Lists(merged(hits, more)),
        }
    }
}

/// A row and a rule that matches it, with the rule's score.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Match {
    pub row: u32,
    pub rule: u32,
    pub score: i64,
}

/// The rules of highest score of each row, best first.
#[derive(Clone, Debug)]
pub(super) struct Best {
    /// That are kept of a row.
    pub count: usize,
    /// Of each row.
    lengths: Vec<u32>,
    /// `count` for each row.
    scores: Vec<i64>,
    rules: Vec<u32>,
}

impl Best {
    fn new(rows: usize, count: usize) -> Self {
        Self { count, lengths: vec![0; rows], scores: vec![0; rows * count], rules: vec![0; rows * count] }
    }

    /// Adds a live rule.
    pub fn add(&mut self, row: usize, score: i64, rule: u32) {
        let (first, length) = (row * self.count, self.lengths[row] as usize);
        let (scores, rules) = (&mut self.scores[first..][..self.count], &mut self.rules[first..][..self.count]);
        let mut place = length;
        while place > 0 && (Reverse(score), rule) < (Reverse(scores[place - 1]), rules[place - 1]) {
            place -= 1;
            if place + 1 < self.count {
                (scores[place + 1], rules[place + 1]) = (scores[place], rules[place]);
            }
        }
        if place < self.count {
            (scores[place], rules[place]) = (score, rule);
            self.lengths[row] = (length + 1).min(self.count) as u32;
        }
    }

    fn of_row(&self, row: usize) -> impl Iterator<Item = (i64, u32)> {
        let run = row * self.count..row * self.count + self.lengths[row] as usize;
        self.scores[run.clone()].iter().copied().zip(self.rules[run].iter().copied())
    }
}

/// What an [`Output`] is of a batch: one result a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Thousandths, saturating at the ends of 64 bits; and indices into [`ACTIONS`](crate::tables::artifact::ACTIONS), `allow` where no rule matches.
    Scores {
        scores: Vec<i64>,
        actions: Vec<u8>,
    },
    /// Rules, [`NONE`] where none matches.
    First(Vec<u32>),
    Counts(Vec<u32>),
    /// Best first.
    Top(Hits),
    /// Ascending.
    Lists(Hits),
}

/// Hits with more of them put in their places.
fn merged(hits: Hits, mut more: Vec<(u32, RuleId)>) -> Hits {
    if more.is_empty() {
        return hits;
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
    merged
}

/// A batch reduced, but for what the engine decides.
#[derive(Clone, Debug)]
pub struct Reduced {
    pub reduction: Reduction,
    /// Terms that hold, of rules that are not in the reduction: their residual is open, or other terms of their rule may hold as well. What becomes of
    /// them is to be [added](Reduction::add).
    pub rest: Vec<Candidate>,
}

/// What reductions know of the lanes of each group: it lies beside the terms, because neighbours match neighbours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleLanes {
    /// As bits, the lanes whose rules act.
    pub live: Vec<u32>,
    /// As bits, the lanes whose rules no matcher may count: those that may match a row by several of their terms, and those with a residual.
    pub returned: Vec<u32>,
    /// For each lane the score and the action of its rule; 0 where it does not act.
    pub scores: Vec<[i64; LANES]>,
    pub actions: Vec<[u8; LANES]>,
}

impl RuleLanes {
    /// `None` where a term's rule is none of `rules`; an artifact has no such terms.
    #[must_use]
    pub fn new(tables: &MatchTables, rules: &[RuleRecord]) -> Option<Self> {
        let returned = returned_lanes(tables, rules.len())?;
        let groups = tables.groups.len();
        let mut lanes = Self { live: vec![0; groups], returned, scores: vec![[0; LANES]; groups], actions: vec![[0; LANES]; groups] };
        for (term, rule) in tables.term_rules.iter().enumerate() {
            if let Some(record) = rules.get(*rule as usize).filter(|record| record.status == LIVE) {
                let (group, lane) = (term / LANES, term % LANES);
                lanes.live[group] |= 1 << lane;
                lanes.scores[group][lane] = record.score;
                lanes.actions[group][lane] = record.action;
            }
        }
        Some(lanes)
    }
}

/// [`RuleLanes::returned`] alone, of so many rules.
pub(super) fn returned_lanes(tables: &MatchTables, rules: usize) -> Option<Vec<u32>> {
    let repeats = repeating(tables, rules)?;
    let lanes = |(nth, group): (usize, &Group)| {
        (0..LANES).fold(0, |lanes, lane| {
            let rule = tables.term_rules[nth * LANES + lane];
            let has_residual =
                || group.tailed >> lane & 1 == 1 && tables.tail((nth * LANES + lane) as u32).is_some_and(|tail| tail.residual != NONE);
            lanes | u32::from(rule != NONE && (repeats[rule as usize] || has_residual())) << lane
        })
    };
    Some(tables.groups.iter().enumerate().map(lanes).collect())
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
