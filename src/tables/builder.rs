//! From terms to tables: thresholds are ranked, slots ordered and sorted, summaries built over them.

use super::layout::{
    AT_EDGES, Bitmap, BitmapTile, CODE_MAX, Group, NONE, NULL_CODE, Node, Partition, SLOTS_MAX, Segment, SetTest, SlotLanes, Tail, is_exact,
};
use crate::event::key::Key;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

mod assemble;
mod batch;
mod bitmaps;
#[cfg(test)]
mod tests;

pub use batch::{BatchNumbers, TermBatch};

type FastMap<K, V> = HashMap<K, V, foldhash::fast::FixedState>;

/// Lists that lead a term may become a row for each entry, or each pair of entries of two lists, up to this many rows; longer ones are list memberships.
const LEADING_SPLIT_MAX: usize = 16;

/// Rows that splitting may add, as a share of the terms: terms that need few go first, and of those that need more the first ones, as far as it reaches. Small rule sets may add
/// [`SPLIT_ROWS_FREE`] in any case.
const SPLIT_ROWS_SHARE: f64 = 2.4;
const SPLIT_ROWS_FREE: usize = 1 << 16;

/// Low bound "none" of a [`RawInterval`].
const UNBOUNDED_LOW: u32 = 0;
/// High bound "none" of a [`RawInterval`].
const UNBOUNDED_HIGH: u32 = u32::MAX;

/// Bounds as places among the keys seen so far: `(key number + 1) * 4 + side`.
#[derive(Clone, Copy, Debug)]
struct RawInterval {
    low: u32,
    high: u32,
}

#[derive(Clone, Copy, Debug)]
struct RawMember {
    column: u32,
    null: bool,
    first_interval: u32,
    intervals: u32,
}

#[derive(Clone, Copy, Debug)]
struct RawTerm {
    partition: u32,
    rule: u32,
    residual: u32,
    first_member: u32,
    members: u32,
}

/// The thresholds of one column: its distinct keys, ascending. See [`super::MatchTables::steps`] for their codes.
#[derive(Clone, Debug, Default)]
pub struct Thresholds {
    pub keys: Vec<Key>,
    pub step: u32,
    /// Whether only equality with keys matters: then a value that equals none may have any code in between.
    pub points_only: bool,
}

#[derive(Clone, Debug)]
struct ColumnKeys {
    numbers: FastMap<Key, u32>,
    points_only: bool,
}

/// Collects the terms of rules, then builds the tables.
#[derive(Debug, Default)]
pub struct TableBuilder {
    columns: Vec<ColumnKeys>,
    intervals: Vec<RawInterval>,
    members: Vec<RawMember>,
    terms: Vec<RawTerm>,
}

/// The finished tables, owned. See [`super::layout::MatchTables`] for what each part is.
#[derive(Clone, Debug, Default)]
pub struct BuiltTables {
    pub thresholds: Vec<Thresholds>,
    pub steps: Vec<u32>,
    pub partitions: Vec<Partition>,
    pub segments: Vec<Segment>,
    pub nodes: Vec<Node>,
    pub node_children: Vec<u32>,
    pub groups: Vec<Group>,
    pub leaf_slots: Vec<SlotLanes>,
    pub term_rules: Vec<u32>,
    pub tail_refs: Vec<u32>,
    pub tails: Vec<Tail>,
    pub set_tests: Vec<SetTest>,
    pub intervals: Vec<[u32; 2]>,
    pub node_bitmaps: Vec<u32>,
    pub bitmap_tiles: Vec<BitmapTile>,
    pub bitmap_columns: Vec<u32>,
    pub bitmaps: Vec<Bitmap>,
}

/// A range of codes of one column.
#[derive(Clone, Copy, Debug)]
struct Slot {
    column: u32,
    low: u32,
    span: u32,
}

impl Slot {
    const ALWAYS: Self = Self { column: 0, low: 0, span: u32::MAX };

    /// The slot of the codes `low..=high`, which wrap where `high < low`.
    const fn new(column: u32, low: u32, high: u32) -> Self {
        Self { column, low, span: high.wrapping_sub(low) }
    }

    const fn high(self) -> u32 {
        self.low.wrapping_add(self.span)
    }
}

/// One row of the tables: a term, or one part of a term whose leading lists were split.
#[derive(Clone, Copy, Debug)]
struct Row {
    partition: u32,
    rule: u32,
    /// An entry of [`MatchTables::tail_refs`](super::MatchTables::tail_refs), or [`NONE`].
    tail: u32,
    first_slot: u32,
    slots: u32,
    /// Slots of the term, with those that are tested in its tail.
    all_slots: u32,
}

impl Row {
    fn slots<'a>(&self, slots: &'a [Slot]) -> &'a [Slot] {
        &slots[self.first_slot as usize..(self.first_slot + self.slots) as usize]
    }

    fn all_slots<'a>(&self, slots: &'a [Slot]) -> &'a [Slot] {
        &slots[self.first_slot as usize..(self.first_slot + self.all_slots) as usize]
    }
}

/// The keys of `column`; the number of columns grows as members name them.
fn column(columns: &mut Vec<ColumnKeys>, column: u32) -> &mut ColumnKeys {
    let index = column as usize;
    if columns.len() <= index {
        columns.resize_with(index + 1, || ColumnKeys { numbers: FastMap::default(), points_only: true });
    }
    &mut columns[index]
}

impl ColumnKeys {
    /// The number of `key`, in the order in which keys are first met.
    fn number(&mut self, key: &Key) -> u32 {
        if let Some(&known) = self.numbers.get(key) {
            return known;
        }
        let number = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX >> 3);
        self.numbers.insert(key.clone(), number);
        number
    }
}

impl TableBuilder {
    /// Builds the tables on `threads` threads; their number does not change the result. `columns` is the number of columns, `partitions` that of partitions.
    #[must_use]
    pub fn finish(mut self, columns: usize, partitions: usize, threads: usize) -> BuiltTables {
        if columns > 0 {
            column(&mut self.columns, columns as u32 - 1);
        }
        let ranks: Vec<Ranked> = std::mem::take(&mut self.columns).into_iter().map(Ranked::new).collect();
        let members_of = |term: &RawTerm| &self.members[term.first_member as usize..(term.first_member + term.members) as usize];
        let mut coder = Coder {
            ranks: &ranks,
            intervals: &self.intervals,
            split_max: LEADING_SPLIT_MAX,
            split_rest: 0,
            scratch: Vec::new(),
            built: BuiltTables::default(),
            runs: FastMap::default(),
            set_runs: FastMap::default(),
            tails: FastMap::default(),
            // Large vectors that grow are copied, and their pages cleared, again and again.
            rows: Vec::with_capacity(self.terms.len() * 2),
            slots: Vec::with_capacity(self.terms.len() * 2 * SLOTS_MAX),
        };
        (coder.split_max, coder.split_rest) = coder.split_within_budget(self.terms.iter().map(members_of));
        for term in &self.terms {
            coder.add(term, members_of(term));
        }
        let Coder { mut built, rows, slots, .. } = coder;
        drop(self);
        assemble::assemble(&mut built, &rows, &slots, partitions, threads);
        built.sort_tails();
        built.steps = ranks.iter().map(|ranked| ranked.thresholds.step).collect();
        built.thresholds = ranks.into_iter().map(|ranked| ranked.thresholds).collect();
        built
    }
}

struct Ranked {
    thresholds: Thresholds,
    /// Code of each key, by its number.
    code_of: Vec<u32>,
}

impl Ranked {
    fn new(column: ColumnKeys) -> Self {
        let mut keys: Vec<(Key, u32)> = column.numbers.into_iter().collect();
        keys.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let step = CODE_MAX / (2 * keys.len() as u32 + 1);
        let mut code_of = vec![0; keys.len()];
        for (rank, (_, number)) in keys.iter().enumerate() {
            code_of[*number as usize] = (2 * rank as u32 + 2) * step;
        }
        let keys = keys.into_iter().map(|(key, _)| key).collect();
        Self { thresholds: Thresholds { keys, step, points_only: column.points_only }, code_of }
    }

    fn step(&self) -> u32 {
        self.thresholds.step
    }

    /// The code of the highest values.
    fn highest(&self) -> u32 {
        (2 * self.code_of.len() as u32 + 1) * self.step()
    }

    fn bound(&self, place: u32) -> u32 {
        let code = self.code_of[(place / 4) as usize - 1];
        match place % 4 {
            0 => code - self.step(),
            1 => code,
            _ => code + self.step(),
        }
    }

    fn range(&self, interval: RawInterval) -> [u32; 2] {
        [
            if interval.low == UNBOUNDED_LOW { self.step() } else { self.bound(interval.low) },
            if interval.high == UNBOUNDED_HIGH { self.highest() } else { self.bound(interval.high) },
        ]
    }

    /// A guess at the share of events whose code lies in the range: thresholds are put where values are.
    fn share(&self, [low, high]: [u32; 2]) -> f64 {
        (f64::from(high - low) + f64::from(self.step())) / f64::from(self.highest())
    }

    /// The share by which predicates are ordered. Equality with one of some known values lets through about what it is guessed to; how many values lie between
    /// two thresholds is less certain, all the less the closer they are: values cluster, as amounts do at round prices.
    fn caution(&self, share: f64) -> f64 {
        if self.thresholds.points_only { share } else { share.sqrt() }
    }

    /// Whether what a slot over buckets says of this column is all there is to say.
    fn is_exact(&self) -> bool {
        is_exact(self.step())
    }
}

struct Coder<'a> {
    ranks: &'a [Ranked],
    intervals: &'a [RawInterval],
    /// Rows that every term may become.
    split_max: usize,
    /// Rows that terms which need more may still add: the first of them are split, until nothing is left.
    split_rest: usize,
    /// Lists of ranges that are no longer in use.
    scratch: Vec<Vec<[u32; 2]>>,
    built: BuiltTables,
    /// Interval runs already stored, by hash: lists are often shared.
    runs: FastMap<u64, Vec<SetTest>>,
    /// Runs of memberships already stored, and tails: weak predicates are often the same.
    set_runs: FastMap<Vec<SetTest>, u32>,
    tails: FastMap<Tail, u32>,
    rows: Vec<Row>,
    slots: Vec<Slot>,
}

/// A member in codes, with the share of events that it is guessed to let through.
struct Coded {
    column: u32,
    null: bool,
    ranges: Vec<[u32; 2]>,
    /// As slots, if it can be said so.
    slots: Option<Slots>,
    share: f64,
}

/// At most two slots.
#[derive(Clone, Copy)]
struct Slots {
    slots: [Slot; 2],
    count: usize,
}

impl Slots {
    fn as_slice(&self) -> &[Slot] {
        &self.slots[..self.count]
    }
}

impl Coder<'_> {
    /// The members of a term in codes, most selective first.
    fn coded(&mut self, members: &[RawMember]) -> Vec<Coded> {
        let mut coded: Vec<Coded> = Vec::with_capacity(members.len());
        for member in members {
            let rank = &self.ranks[member.column as usize];
            let first = member.first_interval as usize;
            let mut ranges = self.scratch.pop().unwrap_or_default();
            ranges.clear();
            ranges.extend(self.intervals[first..first + member.intervals as usize].iter().map(|interval| rank.range(*interval)));
            let share = ranges.iter().map(|range| rank.share(*range)).sum::<f64>() + f64::from(u8::from(member.null)) * 0.1;
            let slots = Coded::slots(member.column, &ranges, member.null, rank);
            let mut one = Coded { column: member.column, null: member.null, ranges, slots, share };
            if !one.splits(self.split_max) && one.slots.is_none() {
                // A list that is not split filters no better than its hull.
                let hull = one.hull();
                one.share = rank.share([hull.low, hull.high()]);
            }
            coded.push(one);
        }
        // Predicates that are about as selective come by their columns, so that terms over the same columns have them in the same order.
        let key = |member: &Coded| ((self.ranks[member.column as usize].caution(member.share).log2() * 2.0).round() as i32, member.column);
        coded.sort_by_key(key);
        coded
    }

    fn recycle(&mut self, coded: Vec<Coded>) {
        self.scratch.extend(coded.into_iter().map(|member| member.ranges));
    }

    /// The most rows that every term may become without making the tables much larger, and how many the others may still add.
    fn split_within_budget<'m>(&mut self, terms: impl Iterator<Item = &'m [RawMember]>) -> (usize, usize) {
        let mut by_rows = [0_usize; LEADING_SPLIT_MAX + 1];
        let mut count = 0;
        for members in terms {
            count += 1;
            // Most terms have no list at all, and need no look at their shares.
            if members.iter().any(|member| member.intervals > 1) {
                let coded = self.coded(members);
                by_rows[split(&coded, LEADING_SPLIT_MAX).rows] += 1;
                self.recycle(coded);
            }
        }
        let budget = ((count as f64 * SPLIT_ROWS_SHARE) as usize).max(SPLIT_ROWS_FREE);
        let (mut most, mut rest) = (1, budget);
        for (rows, terms) in by_rows.into_iter().enumerate().skip(2) {
            let Some(left) = rest.checked_sub((rows - 1) * terms) else { return (most, rest) };
            (most, rest) = (rows, left);
        }
        (most, 0)
    }

    /// The members of a term in codes, and how it is split.
    fn split(&mut self, members: &[RawMember]) -> (Vec<Coded>, Split) {
        let most = self.split_max;
        if self.split_rest > 0 && members.iter().any(|member| member.intervals > 1) {
            self.split_max = LEADING_SPLIT_MAX;
            let coded = self.coded(members);
            self.split_max = most;
            let split = split(&coded, LEADING_SPLIT_MAX);
            if split.rows > most && split.rows - 1 <= self.split_rest {
                self.split_rest -= split.rows - 1;
                return (coded, split);
            }
            self.recycle(coded);
        }
        let coded = self.coded(members);
        let split = split(&coded, most);
        (coded, split)
    }

    fn add(&mut self, term: &RawTerm, members: &[RawMember]) {
        let (coded, split) = self.split(members);
        let mut sets: Vec<SetTest> = Vec::new();
        // Whether the tail tells only what the buckets of slots leave open.
        let mut at_edges = true;
        let mut rest: Vec<Slot> = Vec::with_capacity(coded.len() + 1);
        let mut more: Vec<Slot> = Vec::new();
        // Slots of the rows: where they are ranges of a list, its first one stands in for them.
        let mut lists: [Option<(usize, &Coded)>; 2] = [None; 2];
        for (position, member) in coded.iter().enumerate() {
            let rank = &self.ranks[member.column as usize];
            if position < 2 && split.lists[position] {
                if !rank.is_exact() {
                    sets.push(self.run(member));
                }
                lists[position] = Some((rest.len(), member));
                rest.push(Slot::ALWAYS);
                continue;
            }
            let taken = rest.len();
            match &member.slots {
                Some(slots) if taken + slots.count <= SLOTS_MAX => {
                    rest.extend(slots.as_slice());
                    if !rank.is_exact() {
                        sets.push(self.run(member));
                        // Buckets may not tell a slot that wraps around from one that always holds.
                        at_edges &= slots.as_slice().iter().all(|slot| slot.low <= slot.high());
                    }
                }
                _ => {
                    if taken < SLOTS_MAX { &mut rest } else { &mut more }.push(member.hull());
                    sets.push(self.run(member));
                    at_edges = false;
                }
            }
        }
        at_edges &= term.residual == NONE;
        // The rows of a term that is split share a tail: their slots tell them apart.
        let whole = sets.len() == coded.len() && split.rows == 1;
        let tail = match (sets.is_empty(), term.residual) {
            (true, NONE) => NONE,
            _ => self.tail(sets, term.residual, whole) | if at_edges { AT_EDGES } else { 0 },
        };
        for number in 0..split.rows {
            let mut number = number;
            for (at, member) in lists.iter().flatten() {
                let [low, high] = member.ranges[number % member.ranges.len()];
                rest[*at] = Slot::new(member.column, low, high);
                number /= member.ranges.len();
            }
            let first_slot = self.slots.len() as u32;
            self.slots.extend_from_slice(&rest);
            self.slots.extend_from_slice(&more);
            let (slots, all_slots) = (rest.len() as u32, (rest.len() + more.len()) as u32);
            self.rows.push(Row { partition: term.partition, rule: term.rule, tail, first_slot, slots, all_slots });
        }
        self.recycle(coded);
    }

    /// Stores a tail, once for equal ones.
    fn tail(&mut self, sets: Vec<SetTest>, residual: u32, whole: bool) -> u32 {
        let built = &mut self.built;
        let count = sets.len() as u32;
        let first_set = *self.set_runs.entry(sets).or_insert_with_key(|sets| {
            built.set_tests.extend(sets);
            (built.set_tests.len() - sets.len()) as u32
        });
        let tail = Tail { first_set, sets: count, residual, whole: u32::from(whole) };
        *self.tails.entry(tail).or_insert_with(|| {
            built.tails.push(tail);
            built.tails.len() as u32 - 1
        })
    }

    /// Stores the ranges of a list membership, once for equal ones.
    fn run(&mut self, member: &Coded) -> SetTest {
        let column = member.column;
        if let (&[[low, high]], false) = (member.ranges.as_slice(), member.null) {
            return SetTest { column, intervals: 1, first: low, high };
        }
        let mut ranges = Vec::with_capacity(member.ranges.len() + 1);
        if member.null {
            ranges.push([NULL_CODE, NULL_CODE]);
        }
        ranges.extend_from_slice(&member.ranges);
        if let &[[low, high]] = ranges.as_slice() {
            return SetTest { column, intervals: 1, first: low, high };
        }
        let mut hasher = foldhash::fast::FixedState::default().build_hasher();
        hasher.write(bytemuck::cast_slice(&ranges));
        let known = self.runs.entry(hasher.finish()).or_default();
        let stored = &mut self.built.intervals;
        let same = |test: &&SetTest| {
            let first = test.first as usize;
            stored[first..first + test.intervals as usize] == ranges[..]
        };
        if let Some(test) = known.iter().find(same) {
            return SetTest { column, ..*test };
        }
        let test = SetTest { column, intervals: ranges.len() as u32, first: stored.len() as u32, high: 0 };
        stored.extend(ranges);
        known.push(test);
        test
    }
}

/// How a term is split into rows: by which of its first two members, and into how many.
struct Split {
    lists: [bool; 2],
    rows: usize,
}

/// The split of a term into at most `most` rows. Every row is a range of each of the leading lists; rows exclude each other.
fn split(coded: &[Coded], most: usize) -> Split {
    let mut split = Split { lists: [false; 2], rows: 1 };
    for (member, list) in coded.iter().zip(&mut split.lists) {
        if member.splits(most / split.rows) {
            *list = true;
            split.rows *= member.ranges.len();
        }
    }
    split
}

impl Coded {
    /// The member as at most two slots, if it can be said so. NULL is code 0 and lies next to the lowest values as well as, around the end, to the highest.
    fn slots(column: u32, ranges: &[[u32; 2]], null: bool, rank: &Ranked) -> Option<Slots> {
        let slot = |low, high| Slot::new(column, low, high);
        let (lowest, highest) = (rank.step(), rank.highest());
        let one = |slot| Some(Slots { slots: [slot, Slot::ALWAYS], count: 1 });
        match (ranges, null) {
            ([], _) => one(slot(NULL_CODE, NULL_CODE)),
            (&[[low, high]], false) => one(slot(low, high)),
            (&[[low, high]], true) if low == lowest => one(slot(NULL_CODE, high)),
            // NULL or a range that reaches the top: one that wraps around. No code lies between them.
            (&[[low, high]], true) if high == highest => one(slot(low, NULL_CODE)),
            // All but one range: the two ends as one that wraps, and, unless NULL is in, a second slot that keeps it out.
            (&[[first, end], [start, last]], null) if first == lowest && last == highest => {
                Some(Slots { slots: [slot(start, end), slot(lowest, highest)], count: if null { 1 } else { 2 } })
            }
            _ => None,
        }
    }

    /// Whether it is a list of at most `most` entries that becomes a row for each where it leads a term.
    fn splits(&self, most: usize) -> bool {
        !self.null && self.slots.is_none() && self.ranges.len() <= most
    }

    /// The smallest range of codes that covers it.
    fn hull(&self) -> Slot {
        let low = if self.null { NULL_CODE } else { self.ranges.first().map_or(NULL_CODE, |range| range[0]) };
        Slot::new(self.column, low, self.ranges.last().map_or(NULL_CODE, |range| range[1]))
    }
}

impl BuiltTables {
    /// Puts the tails, and their memberships, in the order in which groups refer to them: what is tested together lies together.
    fn sort_tails(&mut self) {
        let mut places = vec![NONE; self.tails.len()];
        let mut tails = Vec::with_capacity(self.tails.len());
        let mut runs = vec![NONE; self.set_tests.len()];
        let mut tests = Vec::with_capacity(self.set_tests.len());
        for entry in &mut self.tail_refs {
            let place = &mut places[(*entry & !AT_EDGES) as usize];
            if *place == NONE {
                *place = tails.len() as u32;
                let tail = self.tails[(*entry & !AT_EDGES) as usize];
                // A run of none has no place of its own, and must not take that of another.
                let first_set = if tail.sets == 0 { 0 } else { runs[tail.first_set as usize] };
                let first_set = if first_set == NONE { tests.len() as u32 } else { first_set };
                if tail.sets > 0 && first_set as usize == tests.len() {
                    runs[tail.first_set as usize] = first_set;
                    tests.extend_from_slice(&self.set_tests[tail.first_set as usize..][..tail.sets as usize]);
                }
                tails.push(Tail { first_set, ..tail });
            }
            *entry = *entry & AT_EDGES | *place;
        }
        (self.tails, self.set_tests) = (tails, tests);
    }

    /// The tables as the matchers see them, with `columns` codes in a row.
    #[must_use]
    pub fn view(&self, columns: usize) -> super::MatchTables<'_> {
        super::MatchTables {
            columns,
            partitions: &self.partitions,
            segments: &self.segments,
            steps: &self.steps,
            nodes: &self.nodes,
            node_children: &self.node_children,
            groups: &self.groups,
            leaf_slots: &self.leaf_slots,
            term_rules: &self.term_rules,
            tail_refs: &self.tail_refs,
            tails: &self.tails,
            set_tests: &self.set_tests,
            intervals: &self.intervals,
            node_bitmaps: &self.node_bitmaps,
            bitmap_tiles: &self.bitmap_tiles,
            bitmap_columns: &self.bitmap_columns,
            bitmaps: &self.bitmaps,
        }
    }
}
