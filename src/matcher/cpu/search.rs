//! The frontier: tiles of rows, from the roots of their segments to the terms that hold.

use super::form::{BUCKETS_ALIGNMENT, Form};
use super::sink::Sink;
use super::Pairs;
use crate::flow::EncodedBatch;
use crate::tables::layout::{AT_EDGES, LANES, NONE, bucket, is_exact};
use crate::tables::{MatchTables, Partition, SlotLanes};

/// Rows of a tile: their buckets and the frontier stay in the first- and second-level cache.
const TILE_ROWS: usize = 256;

/// Rows that are put in order at a time: their numbers fit in sixteen bits.
const ORDERED_ROWS: usize = 1 << 16;

/// How many pairs ahead memory is asked for.
const AHEAD: usize = 12;

/// Levels of a segment at most; the artifact is checked for it.
const HEIGHTS: usize = 9;

/// Which partitions a row visits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// Partition 0 and its tenant's.
    Both,
    /// Its tenant's alone.
    Tenants,
}

#[inline(always)]
pub fn search<F: Form>(tables: &MatchTables, batch: &EncodedBatch, which: Visit, sink: &mut impl Sink) {
    let mut tile = Tile { stride: tables.columns.next_multiple_of(BUCKETS_ALIGNMENT), ..Tile::default() };
    let mut order = Vec::new();
    for first in (0..batch.rows).step_by(ORDERED_ROWS) {
        in_order(tables, batch, first, (first + ORDERED_ROWS).min(batch.rows), &mut order);
        for rows in order.chunks(TILE_ROWS) {
            tile.load::<F>(tables, batch, first as u32, rows, which);
            tile.search::<F>(tables, batch, sink);
        }
    }
}

/// Fills `order` with the rows from `first` to `end`, those of a tenant together, and within them those with close values in the column that leads the tenant's terms:
/// rows that visit the same places come one after the other. The lower sixteen bits are the row, from `first` on.
fn in_order(tables: &MatchTables, batch: &EncodedBatch, first: usize, end: usize, order: &mut Vec<u64>) {
    order.clear();
    let mut last = (NONE, 0);
    order.extend((first..end).map(|row| {
        let partition = batch.partitions[row];
        if partition != last.0 {
            last = (partition, leading_column(tables, tables.partitions[partition as usize]));
        }
        let bucket = bucket(batch.row(row)[last.1]);
        u64::from(partition) << 32 | u64::from(bucket) << 16 | (row - first) as u64
    }));
    order.sort_unstable();
}

/// The column that most probably leads the terms of a partition: the one in the middle of its root.
fn leading_column(tables: &MatchTables, partition: Partition) -> usize {
    if partition.segments == 0 {
        return 0;
    }
    let segment = tables.segments[partition.first_segment as usize];
    let slot = if segment.height == 0 {
        &tables.leaf_slots[tables.groups[segment.root as usize].first_slot as usize]
    } else {
        &tables.nodes[segment.root as usize].slots[0]
    };
    usize::from(slot.columns[LANES / 2])
}

/// Rows under way.
#[derive(Default)]
struct Tile {
    /// Buckets in a row.
    stride: usize,
    /// For each row of the tile its number in the batch.
    rows: Vec<u32>,
    buckets: Vec<u16>,
    /// By height, the roots that the search starts from.
    seeds: [Pairs; HEIGHTS],
    /// Pairs of a row of the tile and a node, or a group.
    frontier: Pairs,
    next: Pairs,
    /// For each pair of the frontier, once they are screened, the lanes that are left.
    lanes: Vec<u32>,
}

impl Tile {
    #[inline(always)]
    fn load<F: Form>(&mut self, tables: &MatchTables, batch: &EncodedBatch, first: u32, rows: &[u64], which: Visit) {
        self.rows.clear();
        self.rows.extend(rows.iter().map(|row| first + (*row & 0xffff) as u32));
        self.buckets.resize(TILE_ROWS * self.stride, 0);
        for (at, (row, buckets)) in self.rows.iter().zip(self.buckets.chunks_exact_mut(self.stride)).enumerate() {
            if let Some(ahead) = self.rows.get(at + AHEAD) {
                F::fetch(&batch.row(*ahead as usize)[0]);
            }
            let codes = batch.row(*row as usize);
            buckets.iter_mut().zip(codes).for_each(|(to, code)| *to = bucket(*code));
        }
        self.seeds.iter_mut().for_each(Pairs::clear);
        let common = tables.partitions[0];
        for (row, number) in self.rows.iter().zip(0..) {
            let own = batch.partitions[*row as usize];
            if which == Visit::Both {
                seed(&mut self.seeds, tables, common, number);
            }
            if own != 0 {
                seed(&mut self.seeds, tables, tables.partitions[own as usize], number);
            }
        }
    }

    #[inline(always)]
    fn search<F: Form>(&mut self, tables: &MatchTables, batch: &EncodedBatch, sink: &mut impl Sink) {
        self.frontier.clear();
        for height in (0..HEIGHTS).rev() {
            self.frontier.append(&mut self.seeds[height]);
            if height > 0 && !self.frontier.rows.is_empty() {
                self.descend::<F>(tables);
            }
        }
        self.screen::<F>(tables);
        self.settle::<F>(tables, batch, sink);
    }

    /// From the nodes of the frontier to those of their children that their row may match.
    #[inline(always)]
    fn descend<F: Form>(&mut self, tables: &MatchTables) {
        self.next.clear();
        for (at, (&place, &row)) in self.frontier.values.iter().zip(&self.frontier.rows).enumerate() {
            if let Some(&ahead) = self.frontier.values.get(at + AHEAD) {
                F::fetch(&tables.nodes[ahead as usize]);
            }
            let node = &tables.nodes[place as usize];
            let buckets = &self.buckets[row as usize * self.stride..][..self.stride];
            let lanes = F::test(&node.slots[0], buckets) & F::test(&node.slots[1], buckets);
            F::append_numbers(lanes, tables.node_children[place as usize], row, &mut self.next);
        }
        std::mem::swap(&mut self.frontier, &mut self.next);
    }

    /// From the groups of the frontier to those where lanes hold in both leading slots. Most pairs end here.
    #[inline(always)]
    fn screen<F: Form>(&mut self, tables: &MatchTables) {
        self.next.clear();
        self.lanes.clear();
        for (at, (&place, &row)) in self.frontier.values.iter().zip(&self.frontier.rows).enumerate() {
            if let Some(&ahead) = self.frontier.values.get(at + 2 * AHEAD) {
                F::fetch(&tables.groups[ahead as usize]);
            }
            if let Some(&ahead) = self.frontier.values.get(at + AHEAD) {
                let first = tables.groups[ahead as usize].first_slot as usize;
                tables.leaf_slots[first..].iter().take(2).for_each(F::fetch);
            }
            let group = &tables.groups[place as usize];
            let buckets = &self.buckets[row as usize * self.stride..][..self.stride];
            let slots = &tables.leaf_slots[group.first_slot as usize..][..group.slots as usize];
            let mut lanes = F::test(&slots[0], buckets);
            if let Some(slot) = slots.get(1) {
                lanes &= F::test(slot, buckets);
            }
            if lanes != 0 {
                self.next.push(row, place);
                self.lanes.push(lanes);
            }
        }
        std::mem::swap(&mut self.frontier, &mut self.next);
    }

    /// From the groups that are left to the terms that hold.
    #[inline(always)]
    fn settle<F: Form>(&mut self, tables: &MatchTables, batch: &EncodedBatch, sink: &mut impl Sink) {
        for (at, (&place, &row)) in self.frontier.values.iter().zip(&self.frontier.rows).enumerate() {
            if let Some(&ahead) = self.frontier.values.get(at + AHEAD) {
                let group = tables.groups[ahead as usize];
                let slots = &tables.leaf_slots[group.first_slot as usize..][..group.slots as usize];
                slots.iter().skip(2).for_each(F::fetch);
                F::fetch(&tables.term_rules[ahead as usize * LANES]);
                F::fetch(&tables.term_rules[ahead as usize * LANES + 16]);
                if self.lanes[at + AHEAD] & group.tailed != 0 {
                    F::fetch(&tables.tail_refs[group.first_tail as usize]);
                }
            }
            let group = &tables.groups[place as usize];
            let buckets = &self.buckets[row as usize * self.stride..][..self.stride];
            let slots = &tables.leaf_slots[group.first_slot as usize..][..group.slots as usize];
            let mut lanes = self.lanes[at];
            for slot in slots.iter().skip(2) {
                lanes &= F::test(slot, buckets);
            }
            if lanes == 0 {
                continue;
            }
            let row = self.rows[row as usize];
            let mut tailed = lanes & group.tailed;
            while tailed != 0 {
                let lane = tailed.trailing_zeros() as usize;
                tailed &= tailed - 1;
                let Some(at) = group.tail_ref(lane) else { continue };
                let tail = tables.tail_refs[at];
                if tail & AT_EDGES != 0 && !is_at_edge(tables, slots, lane, buckets) {
                    continue;
                }
                let tail = &tables.tails[(tail & !AT_EDGES) as usize];
                let holds = tables.tail_holds(tail, batch.row(row as usize));
                if !holds || tail.residual != NONE {
                    lanes &= !(1 << lane);
                }
                if holds && tail.residual != NONE {
                    sink.open(row, place * LANES as u32 + lane as u32);
                }
            }
            if lanes != 0 {
                sink.settled::<F>(tables, row, place, lanes);
            }
        }
    }
}

/// Puts a row of a tile on the roots of a partition.
#[inline(always)]
fn seed(seeds: &mut [Pairs; HEIGHTS], tables: &MatchTables, partition: Partition, row: u32) {
    let first = partition.first_segment as usize;
    for segment in &tables.segments[first..first + partition.segments as usize] {
        seeds[segment.height as usize].push(row, segment.root);
    }
}

/// Whether one of the lane's slots holds a bucket at its end that does not say all about its codes.
fn is_at_edge(tables: &MatchTables, slots: &[SlotLanes], lane: usize, buckets: &[u16]) -> bool {
    slots.iter().any(|slot| {
        let column = usize::from(slot.columns[lane]);
        let offset = buckets[column].wrapping_sub(slot.low[lane]);
        (offset == 0 || offset == slot.span[lane]) && !is_exact(tables.steps[column])
    })
}
