//! Rows to groups and segments: sorted so that neighbours are alike, with summaries over them.

use super::bitmaps::{self, Bitmaps};
use super::{BuiltTables, Row, Slot};
use crate::parallel::map_in_order;
use crate::tables::layout::{Group, IMPOSSIBLE, LANES, NONE, Node, Partition, SEGMENT_GROUPS_MAX, SLOTS_MAX, Segment, SlotLanes, bucket};

/// Rows that are assembled at a time: whole partitions, so that threads have equal parts.
const ASSEMBLED_ROWS: usize = 1 << 17;

/// Sorts the rows into groups, and builds segments and their summaries.
pub fn assemble(built: &mut BuiltTables, rows: &[Row], slots: &[Slot], partitions: usize, threads: usize) {
    // By partition: where each one's rows start, and the rows.
    let mut starts = vec![0_usize; partitions + 1];
    rows.iter().for_each(|row| starts[row.partition as usize + 1] += 1);
    (0..partitions).for_each(|partition| starts[partition + 1] += starts[partition]);
    let mut next = starts.clone();
    let mut order = vec![0_u32; rows.len()];
    for (index, row) in rows.iter().enumerate() {
        let place = &mut next[row.partition as usize];
        order[*place] = index as u32;
        *place += 1;
    }
    let mut parts = Vec::new();
    let mut first = 0;
    while first < partitions {
        let last = (first + 1..partitions).find(|last| starts[*last] - starts[first] >= ASSEMBLED_ROWS).unwrap_or(partitions);
        parts.push(first..last);
        first = last;
    }
    let work = |part: std::ops::Range<usize>| {
        let mut assembled = Assembled::default();
        for partition in part {
            assembled.partition(order[starts[partition]..starts[partition + 1]].iter().map(|row| &rows[*row as usize]), slots);
        }
        assembled
    };
    map_in_order(parts.into_iter(), threads, work, |part| {
        part.append_to(built);
        true
    });
}

/// Tables of some partitions; every index counts from their own beginning.
#[derive(Default)]
struct Assembled {
    partitions: Vec<Partition>,
    segments: Vec<Segment>,
    nodes: Vec<Node>,
    node_children: Vec<u32>,
    groups: Vec<Group>,
    leaf_slots: Vec<SlotLanes>,
    term_rules: Vec<u32>,
    tail_refs: Vec<u32>,
    bitmaps: Bitmaps,
}

/// Classes of spans: single codes, then a class for each factor of eight.
const fn size_class(slot: Slot) -> u64 {
    (32 - slot.span.leading_zeros()).div_ceil(3) as u64
}

/// A row with what it is sorted by: column, class of span, and low of each of the two leading slots.
pub type Sorted<'r> = ([u64; 2], &'r Row);

impl Assembled {
    fn partition<'r>(&mut self, rows: impl Iterator<Item = &'r Row>, slots: &[Slot]) {
        // Neighbours share their leading slots' columns, have ranges of like size there, and close lows: that keeps the hulls above them narrow.
        let mut order: Vec<Sorted> = rows
            .map(|row| {
                let slots = row.slots(slots);
                let key = |at: usize| {
                    slots.get(at).map_or(0, |slot| u64::from(slot.column + 1) << 40 | size_class(*slot) << 32 | u64::from(slot.low))
                };
                ([key(0), key(1)], row)
            })
            .collect();
        order.sort_unstable_by_key(|(key, row)| (*key, row.first_slot));
        let plan = bitmaps::Plan::of(order.iter().map(|(_, row)| *row), slots);
        if plan.is_some() {
            bitmaps::sort(&mut order);
        }
        let first_segment = self.segments.len() as u32;
        for chunk in order.chunks(SEGMENT_GROUPS_MAX * LANES) {
            self.segment(chunk, slots);
            if let (Some(plan), Some(segment)) = (&plan, self.segments.last()) {
                let rows: Vec<&Row> = chunk.iter().map(|(_, row)| *row).collect();
                self.bitmaps.add(plan, segment, &rows, slots);
            }
        }
        self.partitions.push(Partition { first_segment, segments: self.segments.len() as u32 - first_segment });
    }

    fn segment(&mut self, rows: &[Sorted], slots: &[Slot]) {
        let first_group = self.groups.len() as u32;
        let first_node = self.nodes.len() as u32;
        let first_slot = self.leaf_slots.len() as u32;
        let mut hulls: Vec<Hull> = Vec::with_capacity(rows.len().div_ceil(LANES));
        for (nth, lanes) in rows.chunks(LANES).enumerate() {
            let before = if nth == 0 { None } else { self.groups.last().copied() };
            hulls.push(self.group(lanes, slots, before));
        }
        let groups = self.groups.len() as u32 - first_group;
        let mut height = 0;
        let mut first_child = first_group;
        while hulls.len() > 1 {
            let level = self.nodes.len() as u32;
            let mut above = Vec::with_capacity(hulls.len().div_ceil(LANES));
            for (nth, children) in hulls.chunks(LANES).enumerate() {
                let mut node = Node { slots: [SlotLanes::IMPOSSIBLE, SlotLanes::ALWAYS] };
                for (lane, child) in children.iter().enumerate() {
                    let narrowest = child.narrowest();
                    node.slots.iter_mut().zip(narrowest).for_each(|(slot, hull)| set_lane(slot, lane, hull));
                }
                self.nodes.push(node);
                self.node_children.push(first_child + (nth * LANES) as u32);
                above.push(Hull::of_all(children.iter().copied()));
            }
            first_child = level;
            hulls = above;
            height += 1;
        }
        let root = if height == 0 { first_group } else { self.nodes.len() as u32 - 1 };
        let (nodes, slots) = (self.nodes.len() as u32 - first_node, self.leaf_slots.len() as u32 - first_slot);
        self.segments.push(Segment { root, height, first_node, nodes, first_group, groups, first_slot, slots });
    }

    /// Adds a group, which may share slots with the group before it.
    fn group(&mut self, lanes: &[Sorted], slots: &[Slot], before: Option<Group>) -> Hull {
        let chain = lanes.iter().map(|(_, row)| row.slots as usize).max().unwrap_or(0).max(1);
        let mut group = Group { slots: [NONE; SLOTS_MAX], tailed: 0, first_tail: self.tail_refs.len() as u32 };
        for (at, place) in group.slots[..chain].iter_mut().enumerate() {
            let mut slot = if at == 0 { SlotLanes::IMPOSSIBLE } else { SlotLanes::ALWAYS };
            for (lane, (_, row)) in lanes.iter().enumerate() {
                set_lane(&mut slot, lane, row.slots(slots).get(at).copied().unwrap_or(Slot::ALWAYS));
            }
            let known = before.map_or(NONE, |group| group.slots[at]);
            *place = if known != NONE && self.leaf_slots[known as usize] == slot {
                known
            } else {
                self.leaf_slots.push(slot);
                self.leaf_slots.len() as u32 - 1
            };
        }
        for (lane, (_, row)) in lanes.iter().enumerate() {
            if row.tail != NONE {
                group.tailed |= 1 << lane;
                self.tail_refs.push(row.tail);
            }
            self.term_rules.push(row.rule);
        }
        self.term_rules.resize(self.term_rules.len() + LANES - lanes.len(), NONE);
        self.groups.push(group);
        Hull::of_all(lanes.iter().map(|(_, row)| Hull::of_term(row.slots(slots))))
    }

    /// Puts it behind what is built already.
    fn append_to(self, built: &mut BuiltTables) {
        let (segment, node) = (built.segments.len() as u32, built.nodes.len() as u32);
        let (group, slot, tail) = (built.groups.len() as u32, built.leaf_slots.len() as u32, built.tail_refs.len() as u32);
        built.partitions.extend(self.partitions.iter().map(|run| Partition { first_segment: run.first_segment + segment, ..*run }));
        for run in &self.segments {
            // The children of the lowest nodes are groups.
            let lowest = run.groups.div_ceil(LANES as u32) as usize;
            let children = &self.node_children[run.first_node as usize..(run.first_node + run.nodes) as usize];
            built.node_children.extend(children.iter().enumerate().map(|(nth, child)| child + if nth < lowest { group } else { node }));
            built.segments.push(Segment {
                root: run.root + if run.height == 0 { group } else { node },
                first_node: run.first_node + node,
                first_group: run.first_group + group,
                first_slot: run.first_slot + slot,
                ..*run
            });
        }
        let moved = |run: &Group| Group {
            slots: run.slots.map(|place| if place == NONE { NONE } else { place + slot }),
            first_tail: run.first_tail + tail,
            ..*run
        };
        built.groups.extend(self.groups.iter().map(moved));
        self.bitmaps.append_to(built, self.nodes.len());
        built.nodes.extend(self.nodes);
        built.leaf_slots.extend(self.leaf_slots);
        built.term_rules.extend(self.term_rules);
        built.tail_refs.extend(self.tail_refs);
    }
}

/// The buckets of a slot's codes: where it ends within a bucket, the whole of it.
fn set_lane(lanes: &mut SlotLanes, lane: usize, slot: Slot) {
    let (low, high) = (bucket(slot.low), bucket(slot.high()));
    let wraps = slot.high() < slot.low;
    lanes.columns[lane] = slot.column as u16;
    (lanes.low[lane], lanes.span[lane]) = if wraps && high >= low { (0, u16::MAX) } else { (low, high.wrapping_sub(low)) };
    debug_assert!(lanes.low[lane] != IMPOSSIBLE || lanes.span[lane] != 0, "no value has this bucket");
}

/// What all terms below a node have in common: for each column that every one of them tests, the smallest range of codes that covers them; by column.
/// Terms have few slots, and what they share only becomes less.
#[derive(Clone, Copy, Default)]
struct Hull {
    /// (column, low, high)
    ranges: [(u32, u32, u32); SLOTS_MAX],
    count: usize,
}

impl Hull {
    /// The ranges that a term's slots allow. Slots that wrap, and second slots of a column, say nothing here.
    fn of_term(slots: &[Slot]) -> Self {
        let mut hull = Self::default();
        for slot in slots.iter().filter(|slot| slot.low <= slot.high()) {
            if hull.count < SLOTS_MAX && hull.as_slice().iter().all(|(column, ..)| *column != slot.column) {
                hull.ranges[hull.count] = (slot.column, slot.low, slot.high());
                hull.count += 1;
            }
        }
        hull.ranges[..hull.count].sort_unstable();
        hull
    }

    fn of_all(mut hulls: impl Iterator<Item = Self>) -> Self {
        let Some(mut all) = hulls.next() else { return Self::default() };
        for hull in hulls {
            let mut count = 0;
            let mut others = hull.as_slice();
            for at in 0..all.count {
                let (column, low, high) = all.ranges[at];
                while others.first().is_some_and(|(other, ..)| *other < column) {
                    others = &others[1..];
                }
                if let Some(&(other, other_low, other_high)) = others.first()
                    && other == column
                {
                    all.ranges[count] = (column, low.min(other_low), high.max(other_high));
                    count += 1;
                }
            }
            all.count = count;
        }
        all
    }

    fn as_slice(&self) -> &[(u32, u32, u32)] {
        &self.ranges[..self.count]
    }

    /// The two narrowest ranges, as the slots of a node's lane.
    fn narrowest(&self) -> [Slot; 2] {
        let mut best = [Slot::ALWAYS; 2];
        for &(column, low, high) in self.as_slice() {
            let slot = Slot::new(column, low, high);
            if slot.span < best[0].span {
                best = [slot, best[0]];
            } else if slot.span < best[1].span {
                best[1] = slot;
            }
        }
        best
    }
}
