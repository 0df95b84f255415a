//! Random tables and batches, valid by construction, that lean on corners.

use crate::flow::EncodedBatch;
use crate::tables::MatchTables;
use crate::tables::layout::{Block, CODE_MAX, Group, IMPOSSIBLE, LANES, NONE, NULL_CODE, Partition, Segment, SetTest, Tail, Term};

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

    /// A code that a value may have: mostly small, so that slots hold often; sometimes at the ends.
    pub fn code(&mut self) -> u32 {
        match self.below(12) {
            0 => NULL_CODE,
            1 => CODE_MAX - self.below(2),
            _ => 1 + self.below(12),
        }
    }
}

/// Vectors that own what [`MatchTables`] borrows.
#[derive(Default)]
pub struct Tables {
    pub columns: usize,
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

/// (column, low, span).
type Slot = (u32, u32, u32);

const ALWAYS: Slot = (0, 0, u32::MAX);
const NEVER: Slot = (0, IMPOSSIBLE, 0);

fn set(block: &mut Block, lane: usize, slots: [Slot; 2]) {
    block.columns[lane] = slots[0].0 | slots[1].0 << 16;
    for (nth, (_, low, span)) in slots.into_iter().enumerate() {
        block.low[nth][lane] = low;
        block.span[nth][lane] = span;
    }
}

fn get(block: &Block, lane: usize) -> [Slot; 2] {
    let columns = [block.columns[lane] & 0xffff, block.columns[lane] >> 16];
    [0, 1].map(|nth| (columns[nth], block.low[nth][lane], block.span[nth][lane]))
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

/// A node's lane above `child`: the hulls of the lanes that can hold.
fn summary(child: &Block) -> [Slot; 2] {
    let living: Vec<[Slot; 2]> = (0..LANES).map(|lane| get(child, lane)).filter(|slots| slots[0] != NEVER).collect();
    [0, 1].map(|nth| hull(living.iter().map(|slots| slots[nth])))
}

impl Tables {
    /// Tables over `columns` columns; each partition has segments of all heights in random order.
    pub fn random(random: &mut Random, columns: usize, partitions: u32, segments_max: u32) -> Self {
        let mut tables = Self { columns, ..Self::default() };
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

    fn tails_at_random(&mut self, random: &mut Random) {
        for _ in 0..24 {
            let first_set = self.set_tests.len() as u32;
            let sets = random.below(4);
            for _ in 0..sets {
                let first_interval = self.intervals.len() as u32;
                let mut low = random.below(3);
                let intervals = random.below(7);
                for _ in 0..intervals {
                    let high = low + random.below(3);
                    self.intervals.push([low, high]);
                    low = high + 1 + random.below(3);
                }
                if random.one_in(3) {
                    self.intervals.push([CODE_MAX, CODE_MAX]);
                }
                let intervals = self.intervals.len() as u32 - first_interval;
                self.set_tests.push(SetTest { column: random.below(self.columns as u32), first_interval, intervals, padding: 0 });
            }
            let residual = if random.one_in(4) { random.below(9) } else { NONE };
            self.tails.push(Tail { first_set, sets, residual, padding: 0 });
        }
    }

    fn slot(&self, random: &mut Random) -> Slot {
        let column = random.below(self.columns as u32);
        match random.below(10) {
            0 => ALWAYS,
            // Everything but a range around 5, by wrapping.
            1 => (column, 7, u32::MAX - 3),
            2 => (column, NULL_CODE, 0),
            // At least; anything but NULL.
            3 => (column, 1 + random.below(6), CODE_MAX - 7),
            4 => (column, 1, CODE_MAX - 1),
            5 => (column, random.code(), 0),
            _ => (column, random.below(4), 6 + random.below(8)),
        }
    }

    fn group(&mut self, random: &mut Random, favourite: u32) {
        let blocks = 1 + random.below(4);
        let first_block = self.leaf_blocks.len() as u32;
        let mut chain = vec![Block::IMPOSSIBLE; blocks as usize];
        // Terms of a group often share their first column, so that hulls are not all of them "anything".
        let shared = random.one_in(2);
        for lane in 0..LANES {
            let mut term = Term { rule: NONE, tail: NONE };
            if !random.one_in(6) {
                term.rule = self.terms.len() as u32;
                if random.one_in(3) {
                    term.tail = random.below(self.tails.len() as u32);
                }
                let mut slots: Vec<Slot> = (0..1 + random.below(2 * blocks)).map(|_| self.slot(random)).collect();
                if shared {
                    slots[0] = (favourite, random.below(8), random.below(8));
                }
                slots.resize(2 * blocks as usize, ALWAYS);
                for (block, pair) in chain.iter_mut().zip(slots.chunks_exact(2)) {
                    set(block, lane, [pair[0], pair[1]]);
                }
                // A term that was taken out: its slots may hold, it never matches.
                if random.one_in(12) {
                    term.rule = NONE;
                }
            }
            self.terms.push(term);
        }
        self.leaf_blocks.extend(chain);
        self.groups.push(Group { first_block, blocks });
    }

    fn segment(&mut self, random: &mut Random) {
        let height = random.below(4);
        let groups = match height {
            0 => 1,
            1 => 1 + random.below(16),
            2 => 1 + random.below(24),
            _ => 1 + random.below(40),
        };
        self.segment_of(random, height, groups);
    }

    pub fn segment_of(&mut self, random: &mut Random, height: u32, groups: u32) {
        let (first_node, first_group, first_block) = (self.nodes.len() as u32, self.groups.len() as u32, self.leaf_blocks.len() as u32);
        let favourite = random.below(self.columns as u32);
        for _ in 0..groups {
            self.group(random, favourite);
        }
        let mut children: Vec<Block> =
            (0..groups as usize).map(|nth| self.leaf_blocks[self.groups[first_group as usize + nth].first_block as usize]).collect();
        let mut first_child = first_group;
        let mut root = first_group;
        for _ in 0..height {
            root = self.nodes.len() as u32;
            let level: Vec<Block> = children
                .chunks(LANES)
                .map(|children| {
                    let mut node = Block::IMPOSSIBLE;
                    for (lane, child) in children.iter().enumerate() {
                        set(&mut node, lane, summary(child));
                    }
                    node
                })
                .collect();
            self.node_children.extend((0..level.len() as u32).map(|nth| first_child + nth * LANES as u32));
            first_child = root;
            self.nodes.extend(&level);
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
            first_block,
            blocks: self.leaf_blocks.len() as u32 - first_block,
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
