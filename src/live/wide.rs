//! Terms of newer rules that ask for wide ranges only, in match tables over the codes of the base: most rows pass any one of their members, and the matcher tests thirty-two terms at once.

use super::codes::{Member, Term};
use crate::flow::EncodedBatch;
use crate::matcher::cpu::{self, Visit};
use crate::tables::layout::{IMPOSSIBLE, LANES, NONE, SEGMENT_GROUPS_MAX, SLOTS_MAX, bucket};
use crate::tables::{Candidate, Group, MatchTables, Node, Partition, Segment, SlotLanes};

/// Lanes that the ranges of a term's narrowest member are spread over at most.
const LANES_MAX: usize = 16;

/// Terms that are matched together, by numbers of whoever keeps them.
#[derive(Default)]
pub struct Wide {
    partitions: Vec<Partition>,
    segments: Vec<Segment>,
    nodes: Vec<Node>,
    node_children: Vec<u32>,
    groups: Vec<Group>,
    leaf_slots: Vec<SlotLanes>,
    /// For each lane its term.
    lane_terms: Vec<u32>,
}

/// A term, or some of the ranges of its narrowest member: what one lane tests.
struct Lane {
    partition: u32,
    term: u32,
    slots: [Slot; SLOTS_MAX],
}

/// A range of buckets of a column.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Slot {
    column: u16,
    /// How wide it is, roughly: neighbours of like width, and close lows, keep what is told of them together narrow.
    class: u16,
    low: u16,
    high: u16,
}

impl Slot {
    const ALWAYS: Self = Self { column: 0, class: 16, low: 0, high: u16::MAX };

    const fn new(column: u16, low: u16, high: u16) -> Self {
        Self { column, class: (16 - (high - low).leading_zeros()) as u16, low, high }
    }

    /// Around codes of one member.
    fn around(member: &Member, ranges: &[[u32; 2]]) -> Self {
        let (Some([low, _]), Some([_, high])) = (ranges.first(), ranges.last()) else { return Self::ALWAYS };
        Self::new(member.column as u16, bucket(*low), bucket(*high))
    }

    /// Around both; all there is where they are of two columns.
    fn and(self, other: Self) -> Self {
        if self.column != other.column {
            return Self::ALWAYS;
        }
        Self::new(self.column, self.low.min(other.low), self.high.max(other.high))
    }

    fn put(self, lanes: &mut SlotLanes, lane: usize) {
        (lanes.columns[lane], lanes.low[lane], lanes.span[lane]) = (self.column, self.low, self.high - self.low);
        debug_assert!(self.low != IMPOSSIBLE, "no value has this bucket");
    }
}

impl Wide {
    /// Of partitions, numbers and terms.
    pub fn new<'a>(terms: impl Iterator<Item = (u32, u32, &'a Term)>) -> Self {
        let (mut wide, mut lanes) = (Self::default(), Vec::new());
        terms.for_each(|(partition, number, term)| lanes_of(term, partition, number, &mut lanes));
        lanes.sort_unstable_by_key(|lane| (lane.partition, lane.slots[0], lane.slots[1], lane.term));
        for lanes in lanes.chunk_by(|a, b| a.partition == b.partition) {
            let first_segment = wide.segments.len() as u32;
            // Tenants without such rules lie between.
            wide.partitions.resize(lanes[0].partition as usize, Partition { first_segment, segments: 0 });
            lanes.chunks(SEGMENT_GROUPS_MAX * LANES).for_each(|lanes| wide.segment(lanes));
            wide.partitions.push(Partition { first_segment, segments: wide.segments.len() as u32 - first_segment });
        }
        wide
    }

    fn segment(&mut self, lanes: &[Lane]) {
        let (first_group, first_node, first_slot) = (self.groups.len() as u32, self.nodes.len() as u32, self.leaf_slots.len() as u32);
        let mut hulls: Vec<[Slot; 2]> = lanes.chunks(LANES).map(|lanes| self.group(lanes)).collect();
        let groups = hulls.len() as u32;
        let (mut height, mut first_child) = (0, first_group);
        while hulls.len() > 1 {
            let level = self.nodes.len() as u32;
            for (nth, children) in hulls.chunks(LANES).enumerate() {
                let mut node = Node { slots: [SlotLanes::IMPOSSIBLE, SlotLanes::ALWAYS] };
                for (lane, child) in children.iter().enumerate() {
                    node.slots.iter_mut().zip(child).for_each(|(slot, hull)| hull.put(slot, lane));
                }
                self.nodes.push(node);
                self.node_children.push(first_child + (nth * LANES) as u32);
            }
            hulls = hulls.chunks(LANES).map(|children| hull(children.iter().copied())).collect();
            first_child = level;
            height += 1;
        }
        let root = if height == 0 { first_group } else { self.nodes.len() as u32 - 1 };
        let (nodes, slots) = (self.nodes.len() as u32 - first_node, self.leaf_slots.len() as u32 - first_slot);
        self.segments.push(Segment { root, height, first_node, nodes, first_group, groups, first_slot, slots });
    }

    /// Adds a group of lanes, and says what they have in common.
    fn group(&mut self, lanes: &[Lane]) -> [Slot; 2] {
        let mut group = Group { slots: [NONE; SLOTS_MAX], tailed: 0, first_tail: 0 };
        for (at, place) in group.slots.iter_mut().enumerate() {
            if at > 0 && lanes.iter().all(|lane| lane.slots[at] == Slot::ALWAYS) {
                break;
            }
            let mut slot = SlotLanes::IMPOSSIBLE;
            lanes.iter().zip(0..).for_each(|(lane, number)| lane.slots[at].put(&mut slot, number));
            *place = self.leaf_slots.len() as u32;
            self.leaf_slots.push(slot);
        }
        self.groups.push(group);
        self.lane_terms.extend(lanes.iter().map(|lane| lane.term));
        self.lane_terms.resize(self.groups.len() * LANES, NONE);
        hull(lanes.iter().map(|lane| [lane.slots[0], lane.slots[1]]))
    }

    /// Calls `found` for rows and terms that may hold there. The batch is encoded for `base`. Rows of partitions that came later lose them: there is nothing for them here.
    pub fn candidates(&self, base: &MatchTables, batch: &mut EncodedBatch, mut found: impl FnMut(&EncodedBatch, u32, u32)) {
        if self.groups.is_empty() {
            return;
        }
        let known = self.partitions.len() as u32;
        batch.partitions.iter_mut().filter(|partition| **partition >= known).for_each(|partition| *partition = 0);
        let mut candidates: Vec<Candidate> = Vec::new();
        cpu::candidates(&self.tables(base), batch, Visit::Both, &mut candidates);
        candidates.into_iter().for_each(|Candidate { row, term: lane }| found(batch, row, self.lane_terms[lane as usize]));
    }

    fn tables<'a>(&'a self, base: &MatchTables<'a>) -> MatchTables<'a> {
        MatchTables {
            columns: base.columns,
            steps: base.steps,
            partitions: &self.partitions,
            segments: &self.segments,
            nodes: &self.nodes,
            node_children: &self.node_children,
            groups: &self.groups,
            leaf_slots: &self.leaf_slots,
            term_rules: &self.lane_terms,
            tail_refs: &[],
            tails: &[],
            set_tests: &[],
            intervals: &[],
            node_bitmaps: &[],
            bitmap_tiles: &[],
            bitmap_columns: &[],
            bitmaps: &[],
        }
    }
}

/// What is around all of them.
fn hull(slots: impl Iterator<Item = [Slot; 2]>) -> [Slot; 2] {
    slots.reduce(|a, b| [a[0].and(b[0]), a[1].and(b[1])]).unwrap_or([Slot::ALWAYS; 2])
}

/// The lanes of a term: its narrowest member range by range, where there are not too many of those, and ranges around the others.
fn lanes_of(term: &Term, partition: u32, number: u32, lanes: &mut Vec<Lane>) {
    let mut slots = [Slot::ALWAYS; SLOTS_MAX];
    slots.iter_mut().zip(&term.members).for_each(|(slot, member)| *slot = Slot::around(member, &member.ranges));
    let Some(narrowest) = term.members.first() else {
        lanes.push(Lane { partition, term: number, slots });
        return;
    };
    for ranges in narrowest.ranges.chunks(narrowest.ranges.len().div_ceil(LANES_MAX)) {
        slots[0] = Slot::around(narrowest, ranges);
        lanes.push(Lane { partition, term: number, slots });
    }
}
