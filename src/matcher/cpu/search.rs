//! The frontier: tiles of rows, from the roots of their segments to the terms that hold.

use super::form::{BucketLine, Form, Stage};
use super::sink::Sink;
use crate::flow::EncodedBatch;
use crate::matcher::Pair;
use crate::tables::layout::{AT_EDGES, BITMAP_BUCKETS, LANES, NONE, bucket, is_exact};
use crate::tables::{Group, MatchTables, Partition, Segment, SlotLanes};

/// Rows of a tile: their buckets and the frontier stay in the first- and second-level cache.
const TILE_ROWS: usize = 256;

/// Rows that are put in order at a time: their numbers fit in sixteen bits.
const ORDERED_ROWS: usize = 1 << 16;

/// How many pairs ahead memory is asked for.
const AHEAD: usize = 12;

/// Heights that a segment may have; the artifact is checked for it.
const HEIGHTS: usize = 9;

/// Which partitions a row visits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// Partition 0 and its tenant's.
    Both,
    /// Its tenant's alone.
    Tenants,
}

pub fn search<F: Form>(tables: &MatchTables, batch: &EncodedBatch, which: Visit, sink: &mut impl Sink) {
    let lines = match tables.steps.len().div_ceil(32) {
        // The form for 128 columns reads four lines.
        3 => 4,
        lines => lines.max(1),
    };
    let mut tile = Tile { lines, ..Tile::default() };
    if !tables.bitmaps.is_empty() {
        sift_all::<F>(tables, batch, which, lines, sink);
    }
    let mut order = Vec::new();
    for first in (0..batch.rows).step_by(ORDERED_ROWS) {
        in_order(tables, batch, first, (first + ORDERED_ROWS).min(batch.rows), &mut order);
        for rows in order.chunks(TILE_ROWS) {
            tile.rows.clear();
            tile.rows.extend(rows.iter().map(|row| first as u32 + (*row & 0xffff) as u32));
            tile.seed(tables, batch, which, |segment| !has_bitmaps(tables, segment));
            F::enter(Load { tile: &mut tile, batch });
            for height in (0..HEIGHTS).rev() {
                tile.frontier.append(&mut tile.seeds[height]);
                if height > 0 && !tile.frontier.is_empty() {
                    F::enter(Descend { tile: &mut tile, tables });
                }
            }
            F::enter(Screen { tile: &mut tile, tables });
            F::enter(Settle { tile: &mut tile, tables, batch, sink, first: 2 });
        }
    }
}

/// Rows that are sifted together: enough that fetching a tile's bitmaps pays, and few enough that their codes stay in the second-level cache beside them.
const SIFTED_ROWS: usize = 1 << 11;

fn has_bitmaps(tables: &MatchTables, segment: &Segment) -> bool {
    segment.height > 0 && tables.bitmap_tile(segment.first_node).is_some()
}

/// The same for the segments that have bitmaps: a lowest node's lanes are sifted by them, and what is left is tested exactly.
fn sift_all<F: Form>(tables: &MatchTables, batch: &EncodedBatch, which: Visit, lines: usize, sink: &mut impl Sink) {
    let mut tile = Tile { lines, ..Tile::default() };
    for first in (0..batch.rows).step_by(SIFTED_ROWS) {
        tile.rows.clear();
        tile.rows.extend(first as u32..(first + SIFTED_ROWS).min(batch.rows) as u32);
        tile.seed(tables, batch, which, |segment| has_bitmaps(tables, segment));
        F::enter(Load { tile: &mut tile, batch });
        for height in (1..HEIGHTS).rev() {
            tile.frontier.append(&mut tile.seeds[height]);
            if height > 1 && !tile.frontier.is_empty() {
                F::enter(Descend { tile: &mut tile, tables });
            }
        }
        // Tile by tile, not row by row: bitmaps are large.
        sort_by_place(&mut tile.frontier, &mut tile.next);
        F::enter(Sift { tile: &mut tile, tables });
        F::enter(Settle { tile: &mut tile, tables, batch, sink, first: 0 });
    }
}

/// Puts pairs of the same place together, those of lower places first, by a counting sort.
fn sort_by_place(pairs: &mut Vec<Pair>, sorted: &mut Vec<Pair>) {
    let Some(first) = pairs.iter().map(|pair| pair.value).min() else { return };
    let last = pairs.iter().map(|pair| pair.value).max().unwrap_or(first);
    let mut starts = vec![0_u32; (last - first) as usize + 2];
    pairs.iter().for_each(|pair| starts[(pair.value - first) as usize + 1] += 1);
    (1..starts.len()).for_each(|at| starts[at] += starts[at - 1]);
    sorted.clear();
    sorted.resize(pairs.len(), Pair::default());
    for pair in pairs.iter() {
        let place = &mut starts[(pair.value - first) as usize];
        sorted[*place as usize] = *pair;
        *place += 1;
    }
    std::mem::swap(pairs, sorted);
}

/// Fills `order` with the rows from `first` to `end`: those of a tenant together, and within them those with close values in the columns that lead the tenant's terms.
/// Rows that visit the same places come one after the other, and find them in the nearest cache. The lower sixteen bits are the row, from `first` on. What
/// does not fit in the others only costs time.
fn in_order(tables: &MatchTables, batch: &EncodedBatch, first: usize, end: usize, order: &mut Vec<u64>) {
    order.clear();
    let mut last = (NONE, [0; 2]);
    order.extend((first..end).map(|row| {
        let partition = batch.partitions[row];
        if partition != last.0 {
            last = (partition, leading_columns(tables, partition));
        }
        let codes = batch.row(row);
        let [leading, second] = last.1.map(|column| u64::from(codes[column]));
        u64::from(partition) << 40 | (leading >> 16) << 24 | (second >> 24) << 16 | (row - first) as u64
    }));
    order.sort_unstable();
}

/// The columns of the first two slots of the term in the middle of a partition; of the rules of every tenant where a tenant has none.
fn leading_columns(tables: &MatchTables, partition: u32) -> [usize; 2] {
    let segment_of = |partition: u32| {
        let Partition { first_segment, segments } = tables.partitions[partition as usize];
        (segments > 0).then(|| tables.segments[first_segment as usize])
    };
    let Some(segment) = segment_of(partition).or_else(|| segment_of(0)) else { return [0; 2] };
    let mut columns = [0; 2];
    let group = tables.groups[(segment.first_group + segment.groups / 2) as usize];
    columns.iter_mut().zip(group.chain(tables.leaf_slots)).for_each(|(column, slot)| *column = usize::from(slot.columns[LANES / 2]));
    columns
}

/// Rows under way.
#[derive(Default)]
struct Tile {
    /// Lines of buckets in a row.
    lines: usize,
    /// For each row of the tile its number in the batch.
    rows: Vec<u32>,
    buckets: Vec<BucketLine>,
    /// By height, the roots that the search starts from.
    seeds: [Vec<Pair>; HEIGHTS],
    /// Pairs of a node, or a group, and a row of the tile.
    frontier: Vec<Pair>,
    next: Vec<Pair>,
    /// For each pair of the frontier, once they are screened, the lanes that are left.
    lanes: Vec<u32>,
}

impl Tile {
    /// Puts the rows on the roots of their partitions.
    fn seed(&mut self, tables: &MatchTables, batch: &EncodedBatch, which: Visit, wanted: impl Fn(&Segment) -> bool) {
        let Self { rows, seeds, frontier, .. } = self;
        frontier.clear();
        let mut seed = |partition: u32, row: u32| {
            let Partition { first_segment, segments } = tables.partitions[partition as usize];
            let segments = &tables.segments[first_segment as usize..(first_segment + segments) as usize];
            for segment in segments.iter().filter(|segment| wanted(segment)) {
                seeds[segment.height as usize].push(Pair { value: segment.root, row });
            }
        };
        for (row, number) in rows.iter().zip(0..) {
            let own = batch.partitions[*row as usize];
            if which == Visit::Both {
                seed(0, number);
            }
            if own != 0 {
                seed(own, number);
            }
        }
    }
}

/// Fills the tile with the buckets of its rows.
struct Load<'a> {
    tile: &'a mut Tile,
    batch: &'a EncodedBatch,
}

impl Stage for Load<'_> {
    #[inline(always)]
    fn run<F: Form>(self) {
        let Self { tile, batch } = self;
        tile.buckets.resize(tile.rows.len().max(TILE_ROWS) * tile.lines, BucketLine([0; 32]));
        for (at, (row, lines)) in tile.rows.iter().zip(tile.buckets.chunks_exact_mut(tile.lines)).enumerate() {
            if let Some(ahead) = tile.rows.get(at + AHEAD) {
                batch.row(*ahead as usize).iter().step_by(16).for_each(F::fetch);
            }
            for (line, codes) in lines.iter_mut().zip(batch.row(*row as usize).chunks(32)) {
                line.0.iter_mut().zip(codes).for_each(|(to, code)| *to = bucket(*code));
            }
        }
    }
}

/// From the nodes of the frontier to those of their children that their row may match.
struct Descend<'a> {
    tile: &'a mut Tile,
    tables: &'a MatchTables<'a>,
}

impl Stage for Descend<'_> {
    #[inline(always)]
    fn run<F: Form>(self) {
        let Self { tile, tables } = self;
        let Tile { frontier, next, buckets, lines, .. } = tile;
        next.clear();
        for (at, &Pair { value: place, row }) in frontier.iter().enumerate() {
            if let Some(ahead) = frontier.get(at + AHEAD) {
                F::fetch(&tables.nodes[ahead.value as usize]);
            }
            let node = &tables.nodes[place as usize];
            let buckets = &buckets[row as usize * *lines..];
            let lanes = F::test(&node.slots[0], buckets) & F::test(&node.slots[1], buckets);
            F::append_numbers(lanes, tables.node_children[place as usize], row, next);
        }
        std::mem::swap(frontier, next);
    }
}

/// From the groups of the frontier to those where lanes hold in both leading slots. Most pairs end here.
struct Screen<'a> {
    tile: &'a mut Tile,
    tables: &'a MatchTables<'a>,
}

impl Stage for Screen<'_> {
    #[inline(always)]
    fn run<F: Form>(self) {
        let Self { tile, tables } = self;
        let Tile { frontier, next, buckets, lines, lanes: left, .. } = tile;
        // Written for every pair, kept for those that have lanes left: so there is no branch to guess.
        next.resize(frontier.len(), Pair::default());
        left.resize(frontier.len(), 0);
        let mut count = 0;
        for (at, pair) in frontier.iter().enumerate() {
            if let Some(ahead) = frontier.get(at + 2 * AHEAD) {
                F::fetch(&tables.groups[ahead.value as usize]);
            }
            if let Some(ahead) = frontier.get(at + AHEAD) {
                let [first, second, ..] = tables.groups[ahead.value as usize].slots;
                F::fetch(&tables.leaf_slots[first as usize]);
                tables.leaf_slots.get(second as usize).into_iter().for_each(F::fetch);
            }
            let group = &tables.groups[pair.value as usize];
            let buckets = &buckets[pair.row as usize * *lines..];
            let mut lanes = F::test(&tables.leaf_slots[group.slots[0] as usize], buckets);
            if let Some(slot) = tables.leaf_slots.get(group.slots[1] as usize) {
                lanes &= F::test(slot, buckets);
            }
            next[count] = *pair;
            left[count] = lanes;
            count += usize::from(lanes != 0);
        }
        next.truncate(count);
        left.truncate(count);
        std::mem::swap(frontier, next);
    }
}

/// From the lowest nodes of the frontier, which have bitmaps, to the groups where lanes are left in them.
struct Sift<'a> {
    tile: &'a mut Tile,
    tables: &'a MatchTables<'a>,
}

impl Stage for Sift<'_> {
    #[inline(always)]
    fn run<F: Form>(self) {
        let Self { tile, tables } = self;
        let Tile { frontier, next, buckets, lines, lanes: left, .. } = tile;
        next.clear();
        left.clear();
        for pair in frontier.iter() {
            let Some(tile) = tables.bitmap_tile(pair.value) else { continue };
            let buckets = &buckets[pair.row as usize * *lines..];
            let columns = &tables.bitmap_columns[tile.first_column as usize..][..tile.columns as usize];
            let bitmaps = &tables.bitmaps[tile.first_bitmap as usize..];
            let lanes = F::intersect(columns.iter().zip(bitmaps.chunks_exact(BITMAP_BUCKETS)).map(|(column, bitmaps)| {
                let bucket = buckets[*column as usize / 32].0[*column as usize % 32];
                &bitmaps[usize::from(bucket >> 11)]
            }));
            let first = tables.node_children[pair.value as usize];
            for (two, lanes) in (0..).zip(lanes.0).filter(|(_, lanes)| *lanes != 0) {
                for (group, lanes) in [(two * 2, lanes as u32), (two * 2 + 1, (lanes >> 32) as u32)] {
                    if lanes != 0 {
                        next.push(Pair { value: first + group, row: pair.row });
                        left.push(lanes);
                    }
                }
            }
        }
        std::mem::swap(frontier, next);
    }
}

/// From the groups that are left to the terms that hold.
struct Settle<'a, S> {
    tile: &'a mut Tile,
    tables: &'a MatchTables<'a>,
    batch: &'a EncodedBatch,
    sink: &'a mut S,
    /// The first of the groups' slots that is not tested yet.
    first: usize,
}

impl<S: Sink> Stage for Settle<'_, S> {
    #[inline(always)]
    fn run<F: Form>(self) {
        let Self { tile, tables, batch, sink, first } = self;
        let Tile { frontier, buckets, lines, lanes: left, rows, .. } = tile;
        for (at, (pair, lanes)) in frontier.iter().zip(left.iter()).enumerate() {
            if let Some(ahead) = frontier.get(at + AHEAD) {
                let place = ahead.value as usize;
                slots_from(tables, &tables.groups[place], first, |slot| F::fetch(slot));
                F::fetch(&tables.term_rules[place * LANES]);
                F::fetch(&tables.term_rules[place * LANES + 16]);
            }
            let group = &tables.groups[pair.value as usize];
            let buckets = &buckets[pair.row as usize * *lines..];
            let mut lanes = *lanes;
            slots_from(tables, group, first, |slot| lanes &= F::test(slot, buckets));
            let row = rows[pair.row as usize];
            let lanes = if lanes & group.tailed == 0 {
                lanes
            } else {
                let tails = Tails { tables, group, place: pair.value, buckets };
                tails.settled(lanes, batch.row(row as usize), |term| sink.open(row, term))
            };
            if lanes != 0 {
                sink.settled::<F>(tables, row, pair.value, lanes);
            }
        }
    }
}

/// The slots of a group from `first` on.
#[inline(always)]
fn slots_from<'a>(tables: &MatchTables<'a>, group: &Group, first: usize, mut visit: impl FnMut(&'a SlotLanes)) {
    for slot in &group.slots[first..] {
        // NONE is beyond the end.
        let Some(slot) = tables.leaf_slots.get(*slot as usize) else { break };
        visit(slot);
    }
}

/// What slots have left open of a group's terms.
struct Tails<'a> {
    tables: &'a MatchTables<'a>,
    group: &'a Group,
    place: u32,
    buckets: &'a [BucketLine],
}

impl Tails<'_> {
    /// Those of the lanes that hold to the end. Those that a residual decides are not among them, and are told to `open`.
    fn settled(&self, lanes: u32, codes: &[u32], mut open: impl FnMut(u32)) -> u32 {
        let mut settled = lanes;
        let mut tailed = lanes & self.group.tailed;
        while tailed != 0 {
            let lane = tailed.trailing_zeros() as usize;
            tailed &= tailed - 1;
            let Some(at) = self.group.tail_ref(lane) else { continue };
            let tail = self.tables.tail_refs[at];
            if tail & AT_EDGES != 0 && !self.is_at_edge(lane) {
                continue;
            }
            let tail = &self.tables.tails[(tail & !AT_EDGES) as usize];
            let holds = self.tables.tail_holds(tail, codes);
            if !holds || tail.residual != NONE {
                settled &= !(1 << lane);
            }
            if holds && tail.residual != NONE {
                open(self.place * LANES as u32 + lane as u32);
            }
        }
        settled
    }

    /// Whether one of the lane's slots holds a bucket at its end that does not say all about its codes.
    fn is_at_edge(&self, lane: usize) -> bool {
        self.group.chain(self.tables.leaf_slots).any(|slot| {
            let column = usize::from(slot.columns[lane]);
            let offset = self.buckets[column / 32].0[column % 32].wrapping_sub(slot.low[lane]);
            (offset == 0 || offset == slot.span[lane]) && !is_exact(self.tables.steps[column])
        })
    }
}
