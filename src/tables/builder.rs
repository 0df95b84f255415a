//! From terms to tables: thresholds are ranked, slots ordered and sorted, summaries built over them.

use super::layout::{Block, CODE_MAX, Group, LANES, NONE, NULL_CODE, Partition, SEGMENT_GROUPS_MAX, Segment, SetTest, Tail, Term};
use crate::event::key::Key;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

mod batch;
#[cfg(test)]
mod tests;

pub use batch::{BatchNumbers, TermBatch};

type FastMap<K, V> = HashMap<K, V, foldhash::fast::FixedState>;

/// An IN list of at most this many intervals may become that many rows where it leads a term; a longer one is a list membership.
const LEADING_SPLIT_MAX: usize = 16;

/// Rows that splitting may add, as a share of the terms: shorter lists go first, the longest are not split. Small rule sets may add [`SPLIT_ROWS_FREE`] in any case.
const SPLIT_ROWS_SHARE: f64 = 1.0;
const SPLIT_ROWS_FREE: usize = 1 << 16;

/// A predicate that lets through this share of events or more is no slot, unless it is among the first two of its term: it would lengthen the chain of its whole
/// group, and decide little. It is tested last, as a list membership.
const WEAK_SHARE: f64 = 0.5;

/// Slots of a term at most: two blocks. What is left is tested last as well; little reaches it.
const SLOTS_MAX: usize = 4;

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

/// The thresholds of one column: its distinct keys, ascending, and the code of each. A value equal to a key has its code; one between two
/// keys has the lower one's code + 1; one below all has code 1.
#[derive(Clone, Debug, Default)]
pub struct Thresholds {
    pub keys: Vec<Key>,
    pub codes: Vec<u32>,
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
    pub partitions: Vec<Partition>,
    pub segments: Vec<Segment>,
    pub nodes: Vec<Block>,
    pub node_children: Vec<u32>,
    pub groups: Vec<Group>,
    pub leaf_blocks: Vec<Block>,
    pub terms: Vec<Term>,
    pub tails: Vec<Tail>,
    pub set_tests: Vec<SetTest>,
    pub intervals: Vec<[u32; 2]>,
}

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

/// One row of the tables: a term, or one part of a term whose leading list was split.
#[derive(Clone, Copy, Debug)]
struct Row {
    partition: u32,
    rule: u32,
    tail: u32,
    first_slot: u32,
    slots: u32,
}

/// What all rows below a node have in common: for each column that every one of them tests, the smallest range of codes that covers them; by column.
type Hull = Vec<(u32, u32, u32)>;

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
    /// Builds the tables. `columns` is the number of columns, `partitions` that of partitions.
    #[must_use]
    pub fn finish(mut self, columns: usize, partitions: usize) -> BuiltTables {
        if columns > 0 {
            column(&mut self.columns, columns as u32 - 1);
        }
        let ranks: Vec<Ranked> = std::mem::take(&mut self.columns).into_iter().map(Ranked::new).collect();
        let members_of = |term: &RawTerm| &self.members[term.first_member as usize..(term.first_member + term.members) as usize];
        let mut coder = Coder {
            ranks: &ranks,
            intervals: &self.intervals,
            split_max: LEADING_SPLIT_MAX,
            built: BuiltTables::default(),
            runs: FastMap::default(),
            set_runs: FastMap::default(),
            tails: FastMap::default(),
            // Large vectors that grow are copied, and their pages cleared, again and again.
            rows: Vec::with_capacity(self.terms.len() * 2),
            slots: Vec::with_capacity(self.terms.len() * 2 * SLOTS_MAX),
        };
        coder.split_max = coder.split_within_budget(self.terms.iter().map(members_of));
        for term in &self.terms {
            coder.add(term, members_of(term));
        }
        let Coder { mut built, rows, slots, .. } = coder;
        drop(self);
        assemble(&mut built, &rows, &slots, partitions);
        built.thresholds = ranks.into_iter().map(|ranked| ranked.thresholds).collect();
        built
    }
}

struct Ranked {
    thresholds: Thresholds,
    /// Code of each key, by its number.
    code_of: Vec<u32>,
    /// Codes from one key to the next.
    stride: u32,
}

impl Ranked {
    fn new(column: ColumnKeys) -> Self {
        let mut keys: Vec<(Key, u32)> = column.numbers.into_iter().collect();
        keys.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        // Codes are spread evenly, so that a key added later finds a free one between its neighbours.
        let stride = ((CODE_MAX - 2) / (keys.len() as u32 + 1)) & !1;
        let mut code_of = vec![0; keys.len()];
        let mut codes = Vec::with_capacity(keys.len());
        for (rank, (_, number)) in keys.iter().enumerate() {
            let code = (rank as u32 + 1) * stride;
            code_of[*number as usize] = code;
            codes.push(code);
        }
        let keys = keys.into_iter().map(|(key, _)| key).collect();
        Self { thresholds: Thresholds { keys, codes, points_only: column.points_only }, code_of, stride }
    }

    fn bound(&self, place: u32) -> u32 {
        let code = self.code_of[(place / 4) as usize - 1];
        match place % 4 {
            0 => code - 1,
            1 => code,
            _ => code + 1,
        }
    }

    fn range(&self, interval: RawInterval) -> [u32; 2] {
        [
            if interval.low == UNBOUNDED_LOW { NULL_CODE + 1 } else { self.bound(interval.low) },
            if interval.high == UNBOUNDED_HIGH { CODE_MAX } else { self.bound(interval.high) },
        ]
    }

    /// A guess at the share of events whose code lies in the range: thresholds are put where values are.
    fn share(&self, [low, high]: [u32; 2]) -> f64 {
        // A single key stands for one of 2n + 1 places: n keys and the gaps around them.
        let places = 2.0 * self.code_of.len() as f64 + 1.0;
        if low == high {
            return 1.0 / places;
        }
        (f64::from(high - low) / (f64::from(self.stride) * (self.code_of.len() as f64 + 1.0))).clamp(1.0 / places, 1.0)
    }
}

struct Coder<'a> {
    ranks: &'a [Ranked],
    intervals: &'a [RawInterval],
    /// Entries of the longest leading list that is split.
    split_max: usize,
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
    share: f64,
}

impl Coder<'_> {
    /// The members of a term in codes, most selective first.
    fn coded(&self, members: &[RawMember]) -> Vec<Coded> {
        let mut coded: Vec<Coded> = members
            .iter()
            .map(|member| {
                let rank = &self.ranks[member.column as usize];
                let first = member.first_interval as usize;
                let intervals = &self.intervals[first..first + member.intervals as usize];
                let ranges: Vec<[u32; 2]> = intervals.iter().map(|interval| rank.range(*interval)).collect();
                let share = ranges.iter().map(|range| rank.share(*range)).sum::<f64>() + f64::from(u8::from(member.null)) * 0.1;
                let mut coded = Coded { column: member.column, null: member.null, ranges, share };
                if coded.slots().is_none() && !coded.splits(self.split_max) {
                    // A list that is not split filters no better than its hull.
                    let hull = coded.hull();
                    coded.share = rank.share([hull.low, hull.high()]);
                }
                coded
            })
            .collect();
        coded.sort_by(|a, b| a.share.total_cmp(&b.share).then(a.column.cmp(&b.column)));
        coded
    }

    /// The longest leading lists that can be split without making the tables much larger.
    fn split_within_budget<'m>(&self, terms: impl Iterator<Item = &'m [RawMember]>) -> usize {
        let mut lists = [0_usize; LEADING_SPLIT_MAX + 1];
        let mut count = 0;
        for members in terms {
            count += 1;
            // Most terms have no list at all, and need no look at their shares.
            if members.iter().any(|member| member.intervals > 2)
                && let Some(leading) = self.coded(members).first()
                && leading.splits(LEADING_SPLIT_MAX)
            {
                lists[leading.ranges.len()] += 1;
            }
        }
        let budget = ((count as f64 * SPLIT_ROWS_SHARE) as usize).max(SPLIT_ROWS_FREE);
        let mut rows = 0;
        let fits = |entries: &usize| {
            rows += (entries - 1) * lists[*entries];
            rows <= budget
        };
        (2..=LEADING_SPLIT_MAX).take_while(fits).last().unwrap_or(1)
    }

    fn add(&mut self, term: &RawTerm, members: &[RawMember]) {
        let coded = self.coded(members);
        let mut sets: Vec<SetTest> = Vec::new();
        let mut split: Option<&Coded> = None;
        let mut rest: Vec<Slot> = Vec::with_capacity(coded.len() + 1);
        for (position, member) in coded.iter().enumerate() {
            let taken = usize::from(split.is_some()) + rest.len();
            let leading = taken < 2;
            let room = |slots: usize| taken + slots <= SLOTS_MAX;
            match member.slots() {
                Some(slots) if leading || member.share < WEAK_SHARE && room(slots.len()) => rest.extend(slots),
                None if position == 0 && member.splits(self.split_max) => split = Some(member),
                _ => {
                    let hull = member.hull();
                    if leading || room(1) && self.ranks[member.column as usize].share([hull.low, hull.high()]) < WEAK_SHARE {
                        rest.push(hull);
                    }
                    sets.push(self.run(member));
                }
            }
        }
        let tail = if sets.is_empty() && term.residual == NONE { NONE } else { self.tail(sets, term.residual) };
        let mut push = |leading: Option<Slot>| {
            let first_slot = self.slots.len() as u32;
            self.slots.extend(leading.into_iter().chain(rest.iter().copied()));
            let slots = self.slots.len() as u32 - first_slot;
            self.rows.push(Row { partition: term.partition, rule: term.rule, tail, first_slot, slots });
        };
        match split {
            None => push(None),
            Some(member) => member.ranges.iter().for_each(|&[low, high]| push(Some(Slot::new(member.column, low, high)))),
        }
    }

    /// Stores a tail, once for equal ones.
    fn tail(&mut self, sets: Vec<SetTest>, residual: u32) -> u32 {
        let built = &mut self.built;
        let count = sets.len() as u32;
        let first_set = *self.set_runs.entry(sets).or_insert_with_key(|sets| {
            built.set_tests.extend(sets);
            (built.set_tests.len() - sets.len()) as u32
        });
        let tail = Tail { first_set, sets: count, residual, padding: 0 };
        *self.tails.entry(tail).or_insert_with(|| {
            built.tails.push(tail);
            built.tails.len() as u32 - 1
        })
    }

    /// Stores the ranges of a list membership, once for equal ones.
    fn run(&mut self, member: &Coded) -> SetTest {
        let mut ranges = Vec::with_capacity(member.ranges.len() + 1);
        if member.null {
            ranges.push([NULL_CODE, NULL_CODE]);
        }
        ranges.extend_from_slice(&member.ranges);
        let mut hasher = foldhash::fast::FixedState::default().build_hasher();
        hasher.write(bytemuck::cast_slice(&ranges));
        let known = self.runs.entry(hasher.finish()).or_default();
        let stored = &mut self.built.intervals;
        let same = |test: &&SetTest| {
            let first = test.first_interval as usize;
            stored[first..first + test.intervals as usize] == ranges[..]
        };
        if let Some(test) = known.iter().find(same) {
            return SetTest { column: member.column, ..*test };
        }
        let test = SetTest { column: member.column, first_interval: stored.len() as u32, intervals: ranges.len() as u32, padding: 0 };
        stored.extend(ranges);
        known.push(test);
        test
    }
}

impl Coded {
    /// The member as at most two slots, if it can be said so. NULL is code 0 and lies next to the lowest values as well as, around the end, to the highest.
    fn slots(&self) -> Option<Vec<Slot>> {
        let slot = |low, high| Slot::new(self.column, low, high);
        match (self.ranges.as_slice(), self.null) {
            ([], _) => Some(vec![slot(NULL_CODE, NULL_CODE)]),
            (&[[low, high]], false) => Some(vec![slot(low, high)]),
            (&[[low, high]], true) if low == NULL_CODE + 1 => Some(vec![slot(NULL_CODE, high)]),
            // NULL or a range that reaches the top: one that wraps around. IMPOSSIBLE lies between them, and never occurs.
            (&[[low, CODE_MAX]], true) => Some(vec![slot(low, NULL_CODE)]),
            // All but one range: the two ends as one that wraps, and, unless NULL is in, a second slot that keeps it out.
            (&[[first, end], [start, CODE_MAX]], null) if first == NULL_CODE + 1 => {
                let mut slots = vec![slot(start, end)];
                if !null {
                    slots.push(slot(NULL_CODE + 1, CODE_MAX));
                }
                Some(slots)
            }
            _ => None,
        }
    }

    /// Whether it is a list of at most `most` entries that becomes a row for each where it leads a term.
    fn splits(&self, most: usize) -> bool {
        !self.null && self.ranges.len() <= most && self.slots().is_none()
    }

    /// The smallest range of codes that covers it.
    fn hull(&self) -> Slot {
        let low = if self.null { NULL_CODE } else { self.ranges.first().map_or(NULL_CODE, |range| range[0]) };
        Slot::new(self.column, low, self.ranges.last().map_or(NULL_CODE, |range| range[1]))
    }
}

/// Sorts the rows into groups, and builds segments and their summaries.
fn assemble(built: &mut BuiltTables, rows: &[Row], slots: &[Slot], partitions: usize) {
    let slots_of = |row: &Row| &slots[row.first_slot as usize..(row.first_slot + row.slots) as usize];
    // Neighbours share their leading slots' columns, have ranges of like size there, and close lows: that keeps the hulls above them narrow.
    let mut order: Vec<(u32, u128, u32)> = rows
        .iter()
        .enumerate()
        .map(|(index, row)| {
            let slots = slots_of(row);
            let slot = |at: usize| {
                slots.get(at).map_or(0, |slot| u128::from(slot.column + 1) << 40 | size_class(*slot) << 32 | u128::from(slot.low))
            };
            (row.partition, slot(0) << 64 | slot(1), index as u32)
        })
        .collect();
    order.sort_unstable();
    let groups = rows.len().div_ceil(LANES) + partitions;
    built.groups.reserve(groups);
    built.terms.reserve(groups * LANES);
    built.leaf_blocks.reserve(groups * SLOTS_MAX / 2);
    let mut at = 0;
    for partition in 0..partitions as u32 {
        let start = at;
        while at < order.len() && order[at].0 == partition {
            at += 1;
        }
        let first_segment = built.segments.len() as u32;
        for chunk in order[start..at].chunks(SEGMENT_GROUPS_MAX * LANES) {
            let chunk: Vec<&Row> = chunk.iter().map(|(_, _, row)| &rows[*row as usize]).collect();
            segment(built, &chunk, &slots_of);
        }
        built.partitions.push(Partition { first_segment, segments: built.segments.len() as u32 - first_segment });
    }
}

/// Classes of spans: single codes, then a class for each factor of eight.
fn size_class(slot: Slot) -> u128 {
    u128::from((32 - slot.span.leading_zeros()).div_ceil(3))
}

fn segment<'a>(built: &mut BuiltTables, rows: &[&Row], slots_of: &impl Fn(&Row) -> &'a [Slot]) {
    let first_group = built.groups.len() as u32;
    let first_node = built.nodes.len() as u32;
    let first_block = built.leaf_blocks.len() as u32;
    let mut hulls: Vec<Hull> = Vec::with_capacity(rows.len().div_ceil(LANES));
    for lanes in rows.chunks(LANES) {
        let chain = lanes.iter().map(|row| slots_of(row).len().div_ceil(2)).max().unwrap_or(0).max(1);
        let first = built.leaf_blocks.len();
        built.leaf_blocks.resize(first + chain, Block::IMPOSSIBLE);
        let mut hull: Option<Hull> = None;
        for (lane, row) in lanes.iter().enumerate() {
            let slots = slots_of(row);
            for (pair, block) in built.leaf_blocks[first..].iter_mut().enumerate() {
                let slot = |at: usize| slots.get(pair * 2 + at).copied().unwrap_or(Slot::ALWAYS);
                set_lane(block, lane, slot(0), slot(1));
            }
            merge(&mut hull, hull_of(slots));
        }
        built.groups.push(Group { first_block: first as u32, blocks: chain as u32 });
        let unused = Term { rule: NONE, tail: NONE };
        built.terms.extend((0..LANES).map(|lane| lanes.get(lane).map_or(unused, |row| Term { rule: row.rule, tail: row.tail })));
        hulls.push(hull.unwrap_or_default());
    }
    let groups = built.groups.len() as u32 - first_group;
    let mut height = 0;
    let mut first_child = first_group;
    while hulls.len() > 1 {
        let level = built.nodes.len() as u32;
        let mut above = Vec::with_capacity(hulls.len().div_ceil(LANES));
        for (node, children) in hulls.chunks(LANES).enumerate() {
            let mut block = Block::IMPOSSIBLE;
            let mut hull: Option<Hull> = None;
            for (lane, child) in children.iter().enumerate() {
                let (first, second) = narrowest(child);
                set_lane(&mut block, lane, first, second);
                merge(&mut hull, child.clone());
            }
            built.nodes.push(block);
            built.node_children.push(first_child + (node * LANES) as u32);
            above.push(hull.unwrap_or_default());
        }
        first_child = level;
        hulls = above;
        height += 1;
    }
    let root = if height == 0 { first_group } else { built.nodes.len() as u32 - 1 };
    built.segments.push(Segment {
        root,
        height,
        first_node,
        nodes: built.nodes.len() as u32 - first_node,
        first_group,
        groups,
        first_block,
        blocks: built.leaf_blocks.len() as u32 - first_block,
    });
}

fn set_lane(block: &mut Block, lane: usize, first: Slot, second: Slot) {
    block.columns[lane] = first.column | second.column << 16;
    block.low[0][lane] = first.low;
    block.span[0][lane] = first.span;
    block.low[1][lane] = second.low;
    block.span[1][lane] = second.span;
}

/// The ranges that a row's slots allow, by column. Slots that wrap, and second slots of a column, say nothing here.
fn hull_of(slots: &[Slot]) -> Hull {
    let mut hull: Hull = slots.iter().filter(|slot| slot.low <= slot.high()).map(|slot| (slot.column, slot.low, slot.high())).collect();
    hull.sort_unstable();
    hull.dedup_by_key(|(column, ..)| *column);
    hull
}

/// Widens `hull` to cover `other` too: columns that both have, with the union of their ranges.
fn merge(hull: &mut Option<Hull>, other: Hull) {
    let Some(known) = hull else {
        *hull = Some(other);
        return;
    };
    known.retain_mut(|(column, low, high)| match other.binary_search_by_key(column, |(column, ..)| *column) {
        Ok(at) => {
            *low = other[at].1.min(*low);
            *high = other[at].2.max(*high);
            true
        }
        Err(_) => false,
    });
}

/// The two narrowest ranges of a hull, as the slots of a summary's lane.
fn narrowest(hull: &Hull) -> (Slot, Slot) {
    let mut best = [Slot::ALWAYS; 2];
    for &(column, low, high) in hull {
        let slot = Slot::new(column, low, high);
        if slot.span < best[0].span {
            best = [slot, best[0]];
        } else if slot.span < best[1].span {
            best[1] = slot;
        }
    }
    (best[0], best[1])
}

impl BuiltTables {
    /// The tables as the matchers see them, with `columns` codes in a row.
    #[must_use]
    pub fn view(&self, columns: usize) -> super::MatchTables<'_> {
        super::MatchTables {
            columns,
            partitions: &self.partitions,
            segments: &self.segments,
            nodes: &self.nodes,
            node_children: &self.node_children,
            groups: &self.groups,
            leaf_blocks: &self.leaf_blocks,
            terms: &self.terms,
            tails: &self.tails,
            set_tests: &self.set_tests,
            intervals: &self.intervals,
        }
    }
}
