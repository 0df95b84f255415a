//! Random tables and batches, valid by construction, that lean on corners.

use crate::flow::EncodedBatch;
use crate::tables::MatchTables;
use crate::tables::layout::{
    AT_EDGES, CODE_MAX, Group, IMPOSSIBLE, LANES, NONE, NULL_CODE, Node, Partition, SLOTS_MAX, Segment, SetTest, SlotLanes, Tail, bucket,
    is_exact,
};

/// SplitMix64: small, seeded, the same everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`.
    pub fn below(&mut self, n: u32) -> u32 {
        (self.next() % u64::from(n.max(1))) as u32
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    /// A code that a value may have: mostly of a low bucket, so that slots hold often, and of a few within it; sometimes at the ends.
    pub fn code(&mut self) -> u32 {
        match self.below(12) {
            0 => NULL_CODE,
            1 => CODE_MAX - self.below(2),
            _ => (1 + self.below(12)) << 16 | self.below(5) << 8,
        }
    }
}

/// Vectors that own what [`MatchTables`] borrows.
#[derive(Default)]
pub struct Tables {
    pub columns: usize,
    pub steps: Vec<u32>,
    pub partitions: Vec<Partition>,
    pub segments: Vec<Segment>,
    pub nodes: Vec<Node>,
    pub node_children: Vec<u32>,
    pub groups: Vec<Group>,
    pub leaf_slots: Vec<SlotLanes>,
    pub term_rules: Vec<u32>,
    /// How many rules the terms belong to.
    pub rules: u32,
    /// The first rule of the segment under way.
    first_rule: u32,
    pub tail_refs: Vec<u32>,
    pub tails: Vec<Tail>,
    pub set_tests: Vec<SetTest>,
    pub intervals: Vec<[u32; 2]>,
}

/// (column, low, span).
type Slot = (u16, u16, u16);

const ALWAYS: Slot = (0, 0, u16::MAX);
const NEVER: Slot = (0, IMPOSSIBLE, 0);

fn set(lanes: &mut SlotLanes, lane: usize, slot: Slot) {
    (lanes.columns[lane], lanes.low[lane], lanes.span[lane]) = slot;
}

fn get(lanes: &SlotLanes, lane: usize) -> Slot {
    (lanes.columns[lane], lanes.low[lane], lanes.span[lane])
}

/// The smallest slot that holds wherever one of `slots` does, as far as one slot can say it.
fn hull(slots: impl Iterator<Item = Slot>) -> Slot {
    slots
        .map(Some)
        .reduce(|a, b| {
            let ((column, a_low, a_span), (b_column, b_low, b_span)) = (a?, b?);
            let high = a_low.checked_add(a_span)?.max(b_low.checked_add(b_span)?);
            let low = a_low.min(b_low);
            (column == b_column).then_some((column, low, high - low))
        })
        .map_or(NEVER, |hull| hull.unwrap_or(ALWAYS))
}

/// A node's lane above a child with these two slots: the hulls of the lanes that can hold.
fn summary(child: &[SlotLanes; 2]) -> [Slot; 2] {
    let living: Vec<usize> = (0..LANES).filter(|lane| get(&child[0], *lane) != NEVER).collect();
    [0, 1].map(|nth| hull(living.iter().map(|lane| get(&child[nth], *lane))))
}

impl Tables {
    /// Tables over `columns` columns; each partition has segments of all heights in random order.
    pub fn random(random: &mut Random, columns: usize, partitions: u32, segments_max: u32) -> Self {
        let mut tables = Self { columns, ..Self::default() };
        // Of some columns every code has a bucket of its own.
        tables.steps = (0..columns).map(|_| if random.one_in(3) { 1 << 16 } else { 1 << 8 }).collect();
        tables.tails_at_random(random);
        for nth in 0..partitions {
            let first_segment = tables.segments.len() as u32;
            let segments = if nth == 0 { segments_max } else { random.below(segments_max + 1) };
            for _ in 0..segments {
                tables.segment(random);
            }
            tables.partitions.push(Partition { first_segment, segments });
        }
        tables
    }

    pub fn borrowed(&self) -> MatchTables<'_> {
        MatchTables {
            columns: self.columns,
            steps: &self.steps,
            partitions: &self.partitions,
            segments: &self.segments,
            nodes: &self.nodes,
            node_children: &self.node_children,
            groups: &self.groups,
            leaf_slots: &self.leaf_slots,
            term_rules: &self.term_rules,
            tail_refs: &self.tail_refs,
            tails: &self.tails,
            set_tests: &self.set_tests,
            intervals: &self.intervals,
            node_bitmaps: &[],
            bitmap_tiles: &[],
            bitmap_columns: &[],
            bitmaps: &[],
        }
    }

    fn tails_at_random(&mut self, random: &mut Random) {
        for _ in 0..24 {
            let first_set = self.set_tests.len() as u32;
            let sets = random.below(4);
            for _ in 0..sets {
                let test = self.set_test(random);
                self.set_tests.push(test);
            }
            let residual = if random.one_in(4) { random.below(9) } else { NONE };
            self.tails.push(Tail { first_set, sets, residual, whole: 0 });
        }
    }

    fn set_test(&mut self, random: &mut Random) -> SetTest {
        let column = random.below(self.columns as u32);
        let code = |random: &mut Random| random.below(12) << 16 | random.below(5) << 8;
        if random.one_in(3) {
            let [a, b] = [code(random), code(random)];
            return SetTest { column, intervals: 1, first: a.min(b), high: a.max(b) };
        }
        let first = self.intervals.len() as u32;
        let mut ends: Vec<u32> = (0..2 * random.below(7)).map(|_| code(random)).collect();
        ends.sort_unstable();
        ends.dedup();
        self.intervals.extend(ends.chunks_exact(2).map(|ends| [ends[0], ends[1]]));
        if random.one_in(3) {
            self.intervals.push([CODE_MAX, CODE_MAX]);
        }
        let mut intervals = self.intervals.len() as u32 - first;
        if intervals == 1 {
            // A single one would be said otherwise.
            intervals = 0;
        }
        SetTest { column, intervals, first, high: 0 }
    }

    fn slot(&self, random: &mut Random) -> Slot {
        let column = random.below(self.columns as u32) as u16;
        match random.below(10) {
            0 => ALWAYS,
            // Everything but a range around 5, by wrapping.
            1 => (column, 7, u16::MAX - 3),
            2 => (column, bucket(NULL_CODE), 0),
            // At least; anything but NULL.
            3 => (column, 1 + random.below(6) as u16, bucket(CODE_MAX) - 7),
            4 => (column, 1, bucket(CODE_MAX) - 1),
            5 => (column, bucket(random.code()), 0),
            _ => (column, random.below(4) as u16, 6 + random.below(8) as u16),
        }
    }

    /// A tail that only tells what this slot's buckets leave open.
    fn edge_tail(&mut self, random: &mut Random, (column, low, span): Slot) -> u32 {
        let code = |bucket: u16, random: &mut Random| u32::from(bucket) << 16 | random.below(5) << 8;
        let (first, high) = (code(low, random), code(low + span, random));
        let first_set = self.set_tests.len() as u32;
        self.set_tests.push(SetTest { column: u32::from(column), intervals: 1, first: first.min(high), high });
        self.tails.push(Tail { first_set, sets: 1, residual: NONE, whole: 0 });
        (self.tails.len() as u32 - 1) | AT_EDGES
    }

    /// A group of the segment that starts with `first_group`.
    fn group(&mut self, random: &mut Random, favourite: u32, first_group: u32) {
        let count = 1 + random.below(SLOTS_MAX as u32) as usize;
        let first = self.leaf_slots.len() as u32;
        let mut chain = vec![SlotLanes::ALWAYS; count];
        chain[0] = SlotLanes::IMPOSSIBLE;
        let mut group = Group { slots: [NONE; SLOTS_MAX], tailed: 0, first_tail: self.tail_refs.len() as u32 };
        group.slots.iter_mut().zip(first..).take(count).for_each(|(place, slot)| *place = slot);
        // Terms of a group often share their first column, so that hulls are not all of them "anything".
        let shared = random.one_in(2);
        for lane in 0..LANES {
            let mut rule = NONE;
            if !random.one_in(6) {
                // A term that was taken out: its slots may hold, it never matches.
                if !random.one_in(12) {
                    // Some rules have several terms.
                    if self.rules == self.first_rule || !random.one_in(5) {
                        self.rules += 1;
                    }
                    rule = self.rules - 1;
                }
                let mut slots: Vec<Slot> = (0..=random.below(count as u32)).map(|_| self.slot(random)).collect();
                if shared {
                    slots[0] = (favourite as u16, random.below(8) as u16, random.below(8) as u16);
                }
                let (column, low, span) = slots[0];
                let has_edges = !is_exact(self.steps[usize::from(column)]) && low.checked_add(span).is_some();
                let tail = match random.below(4) {
                    0 => Some(random.below(24)),
                    1 if has_edges => Some(self.edge_tail(random, slots[0])),
                    _ => None,
                };
                if let Some(tail) = tail {
                    group.tailed |= 1 << lane;
                    self.tail_refs.push(tail);
                }
                chain.iter_mut().zip(slots.into_iter().chain(std::iter::repeat(ALWAYS))).for_each(|(lanes, slot)| set(lanes, lane, slot));
            }
            self.term_rules.push(rule);
        }
        // Neighbours may have slots in common.
        if let Some(before) = self.groups.get(first_group as usize..).and_then(<[_]>::last)
            && count > 1
            && random.one_in(3)
        {
            group.slots[count - 1] = before.slots[0];
        }
        self.leaf_slots.extend(chain);
        self.groups.push(group);
    }

    fn segment(&mut self, random: &mut Random) {
        let height = random.below(4);
        let groups = match height {
            0 => 1,
            1 => 1 + random.below(32),
            2 => 1 + random.below(50),
            _ => 1 + random.below(70),
        };
        self.segment_of(random, height, groups);
    }

    pub fn segment_of(&mut self, random: &mut Random, height: u32, groups: u32) {
        let (first_node, first_group, first_slot) = (self.nodes.len() as u32, self.groups.len() as u32, self.leaf_slots.len() as u32);
        let favourite = random.below(self.columns as u32);
        self.first_rule = self.rules;
        for _ in 0..groups {
            self.group(random, favourite, first_group);
        }
        let leading =
            |group: &Group| [0, 1].map(|nth| self.leaf_slots.get(group.slots[nth] as usize).copied().unwrap_or(SlotLanes::ALWAYS));
        let mut children: Vec<[SlotLanes; 2]> = self.groups[first_group as usize..].iter().map(leading).collect();
        let mut first_child = first_group;
        let mut root = first_group;
        for _ in 0..height {
            root = self.nodes.len() as u32;
            let level: Vec<[SlotLanes; 2]> = children
                .chunks(LANES)
                .map(|children| {
                    let mut slots = [SlotLanes::IMPOSSIBLE, SlotLanes::ALWAYS];
                    for (lane, child) in children.iter().enumerate() {
                        slots.iter_mut().zip(summary(child)).for_each(|(lanes, hull)| set(lanes, lane, hull));
                    }
                    slots
                })
                .collect();
            self.node_children.extend((0..level.len() as u32).map(|nth| first_child + nth * LANES as u32));
            first_child = root;
            self.nodes.extend(level.iter().map(|slots| Node { slots: *slots }));
            children = level;
        }
        assert_eq!(children.len(), 1, "a segment has one root");
        self.segments.push(Segment {
            root,
            height,
            first_node,
            nodes: self.nodes.len() as u32 - first_node,
            first_group,
            groups,
            first_slot,
            slots: self.leaf_slots.len() as u32 - first_slot,
        });
    }
}

pub fn batch(random: &mut Random, tables: &Tables, rows: usize) -> EncodedBatch {
    EncodedBatch {
        rows,
        columns: tables.columns,
        codes: (0..rows * tables.columns).map(|_| random.code()).collect(),
        partitions: (0..rows).map(|_| random.below(tables.partitions.len() as u32)).collect(),
    }
}
