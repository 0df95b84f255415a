//! Terms collected apart from the tables: the threads that lower rules number the keys of their own few rules, so that the tables meet each key once a batch.

use super::{FastMap, RawInterval, RawMember, RawTerm, TableBuilder, UNBOUNDED_HIGH, UNBOUNDED_LOW};
use crate::event::key::Key;
use crate::event::set::{Interval, Intervals, Place, Set, Side};
use crate::tables::layout::NONE;
use std::ops::Range;

/// Terms of some rules, whose columns, keys and residuals have numbers of the batch.
#[derive(Debug, Default)]
pub struct TermBatch {
    columns: Vec<BatchKeys>,
    intervals: Vec<RawInterval>,
    members: Vec<BatchMember>,
    terms: Vec<BatchTerm>,
}

#[derive(Debug, Default)]
struct BatchKeys {
    numbers: FastMap<Key, u32>,
    keys: Vec<Key>,
}

#[derive(Clone, Copy, Debug)]
struct BatchMember {
    column: u32,
    null: bool,
    /// Whether more than equality with keys is asked.
    ranges: bool,
    first_interval: u32,
    intervals: u32,
}

#[derive(Clone, Copy, Debug)]
struct BatchTerm {
    residual: u32,
    first_member: u32,
    members: u32,
}

impl BatchKeys {
    fn number(&mut self, key: Key) -> u32 {
        if let Some(&known) = self.numbers.get(&key) {
            return known;
        }
        let number = self.keys.len() as u32;
        self.keys.push(key.clone());
        self.numbers.insert(key, number);
        number
    }

    fn interval(&mut self, interval: Interval) -> RawInterval {
        match (interval.low, interval.high) {
            // Points are frequent: one key to look up.
            (Some(low), Some(high)) if low == high => {
                let place = raw_place(self.number(low.key), low.side);
                RawInterval { low: place, high: place }
            }
            (low, high) => RawInterval {
                low: low.map_or(UNBOUNDED_LOW, |place| raw_place(self.number(place.key), place.side)),
                high: high.map_or(UNBOUNDED_HIGH, |place| raw_place(self.number(place.key), place.side)),
            },
        }
    }

    fn place(&self, place: u32) -> Place {
        let side = match place % 4 {
            0 => Side::Before,
            1 => Side::At,
            _ => Side::After,
        };
        Place { key: self.keys[(place / 4) as usize - 1].clone(), side }
    }
}

const fn raw_place(number: u32, side: Side) -> u32 {
    let side = match side {
        Side::Before => 0,
        Side::At => 1,
        Side::After => 2,
    };
    (number + 1) * 4 + side
}

impl TermBatch {
    /// The number of terms.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.terms.len() as u32
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Adds a term: the conjunction of `members` (column of the batch, set; no set empty) and the number of a residual in the batch, or [`NONE`].
    pub fn push(&mut self, members: impl IntoIterator<Item = (u32, Set)>, residual: u32) {
        let first_member = self.members.len() as u32;
        for (column, set) in members {
            let first_interval = self.intervals.len() as u32;
            let ranges = asks_for_ranges(&set);
            if self.columns.len() <= column as usize {
                self.columns.resize_with(column as usize + 1, BatchKeys::default);
            }
            let keys = &mut self.columns[column as usize];
            self.intervals.extend(set.intervals.into_iter().map(|interval| keys.interval(interval)));
            let intervals = self.intervals.len() as u32 - first_interval;
            self.members.push(BatchMember { column, null: set.null, ranges, first_interval, intervals });
        }
        let members = self.members.len() as u32 - first_member;
        self.terms.push(BatchTerm { residual, first_member, members });
    }

    fn members_of(&self, term: BatchTerm) -> &[BatchMember] {
        &self.members[term.first_member as usize..(term.first_member + term.members) as usize]
    }

    /// The columns that `terms` name, in order and as often as they name them.
    pub fn columns_of(&self, terms: Range<u32>) -> impl Iterator<Item = u32> + '_ {
        self.terms[terms.start as usize..terms.end as usize].iter().flat_map(|term| self.members_of(*term)).map(|member| member.column)
    }

    /// The members and the residual of a term, as they were pushed.
    pub fn term(&self, term: u32) -> (impl Iterator<Item = (u32, Set)> + '_, u32) {
        let term = self.terms[term as usize];
        let set = |member: &BatchMember| {
            let keys = &self.columns[member.column as usize];
            let raw = &self.intervals[member.first_interval as usize..(member.first_interval + member.intervals) as usize];
            let intervals = raw.iter().map(|interval| Interval {
                low: (interval.low != UNBOUNDED_LOW).then(|| keys.place(interval.low)),
                high: (interval.high != UNBOUNDED_HIGH).then(|| keys.place(interval.high)),
            });
            (member.column, Set { null: member.null, intervals: intervals.collect::<Intervals>() })
        };
        (self.members_of(term).iter().map(set), term.residual)
    }
}

/// Whether a set is neither single keys nor everything but single keys.
fn asks_for_ranges(set: &Set) -> bool {
    let points = set.intervals.iter().all(|interval| interval.low.is_some() && interval.low == interval.high);
    let open = set.intervals.first().is_some_and(|interval| interval.low.is_none())
        && set.intervals.last().is_some_and(|interval| interval.high.is_none());
    let around_a_key = |pair: &[Interval]| match (&pair[0].high, &pair[1].low) {
        (Some(end), Some(start)) => end.key == start.key && end.side == Side::Before && start.side == Side::After,
        _ => false,
    };
    !(points || open && set.intervals.windows(2).all(around_a_key))
}

/// What the numbers of a batch are in the tables, as far as terms were taken over.
#[derive(Debug)]
pub struct BatchNumbers {
    columns: Vec<u32>,
    keys: Vec<Vec<u32>>,
}

impl BatchNumbers {
    #[must_use]
    pub fn new(batch: &TermBatch) -> Self {
        Self { columns: vec![NONE; batch.columns.len()], keys: batch.columns.iter().map(|column| vec![NONE; column.keys.len()]).collect() }
    }

    /// The column of the tables that stands for column `column` of the batch; `number` gives it where it is not known yet.
    pub fn column(&mut self, column: u32, number: impl FnOnce() -> u32) -> u32 {
        let known = &mut self.columns[column as usize];
        if *known == NONE {
            *known = number();
        }
        *known
    }

    /// The same, for a column that was asked for before.
    #[must_use]
    pub fn known(&self, column: u32) -> u32 {
        self.columns[column as usize]
    }
}

impl TableBuilder {
    /// Takes over `terms` of a batch as terms of `rule` in `partition`. The columns that they name are known to `numbers`; `residual` turns the
    /// number of a residual in the batch, never [`NONE`], into that in the tables.
    pub fn append(
        &mut self,
        partition: u32,
        rule: u32,
        (batch, terms): (&TermBatch, Range<u32>),
        numbers: &mut BatchNumbers,
        mut residual: impl FnMut(u32) -> u32,
    ) {
        for term in &batch.terms[terms.start as usize..terms.end as usize] {
            let first_member = self.members.len() as u32;
            for member in batch.members_of(*term) {
                let column = numbers.columns[member.column as usize];
                let own = &batch.columns[member.column as usize].keys;
                let known = &mut numbers.keys[member.column as usize];
                let first_interval = self.intervals.len() as u32;
                let keys = super::column(&mut self.columns, column);
                keys.points_only &= !member.ranges;
                let mut place = |place: u32| {
                    let number = place / 4 - 1;
                    let known = &mut known[number as usize];
                    if *known == NONE {
                        *known = keys.number(&own[number as usize]);
                    }
                    (*known + 1) * 4 + place % 4
                };
                let raw = &batch.intervals[member.first_interval as usize..(member.first_interval + member.intervals) as usize];
                self.intervals.extend(raw.iter().map(|interval| RawInterval {
                    low: if interval.low == UNBOUNDED_LOW { UNBOUNDED_LOW } else { place(interval.low) },
                    high: if interval.high == UNBOUNDED_HIGH { UNBOUNDED_HIGH } else { place(interval.high) },
                }));
                self.members.push(RawMember { column, null: member.null, first_interval, intervals: member.intervals });
            }
            self.members[first_member as usize..].sort_unstable_by_key(|member| member.column);
            let residual = if term.residual == NONE { NONE } else { residual(term.residual) };
            self.terms.push(RawTerm { partition, rule, residual, first_member, members: term.members });
        }
    }
}
