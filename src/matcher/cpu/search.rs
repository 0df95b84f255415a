//! The frontier: tiles of rows, from the roots of their segments to the terms that hold.

use super::form::{BucketLine, Form, Stage};
use super::sink::Sink;
use crate::flow::EncodedBatch;
use crate::matcher::Pair;
use crate::tables::layout::{AT_EDGES, BITMAP_BUCKETS, LANES, NONE, bitmap_bucket, bucket, is_exact};
use crate::tables::{Group, MatchTables, Partition, Segment, SlotLanes};

/// Rows of a tile: their buckets and the frontier stay in the first- and second-level cache.
const TILE_ROWS: usize = 256;

/// Rows that are put in order at a time: their numbers fit in sixteen bits.
const ORDERED_ROWS: usize = 1 << 16;

/// Groups of tables that the second-level cache has room for, in whatever order rows come.
const FEW_GROUPS: usize = 64;

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
            F::enter(Settle { tile: &mut tile, tables, batch, sink });
        }
    }
}

/// Rows that are sifted together: enough that fetching a tile's bitmaps pays, and few enough that what is looked up of them stays in the second-level cache.
const SIFTED_ROWS: usize = 1 << 13;

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
        F::enter(Pick { tile: &mut tile });
        for height in (1..HEIGHTS).rev() {
            tile.frontier.append(&mut tile.seeds[height]);
            if height > 1 && !tile.frontier.is_empty() {
                F::enter(Descend { tile: &mut tile, tables });
            }
        }
        // Tile by tile, not row by row: bitmaps are large.
        sort_by_place(&mut tile.frontier, &mut tile.next);
        F::enter(Sift { tile: &mut tile, tables });
        F::enter(Confirm { tile: &mut tile, tables, batch, sink });
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
    if tables.groups.len() <= FEW_GROUPS {
        order.extend(0..(end - first) as u64);
        return;
    }
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
    /// Of rows that are sifted, for each of `32 * lines` columns the bucket of bitmaps.
    picks: Vec<u8>,
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

/// Fills the tile with the buckets of bitmaps.
struct Pick<'a> {
    tile: &'a mut Tile,
}

impl Stage for Pick<'_> {
    #[inline(always)]
    fn run<F: Form>(self) {
        let Tile { buckets, picks, .. } = self.tile;
        picks.clear();
        picks.extend(buckets.iter().flat_map(|line| line.0).map(|bucket| bitmap_bucket(u32::from(bucket) << 16) as u8));
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
        let Tile { frontier, next, picks, lines, lanes: left, .. } = tile;
        next.clear();
        left.clear();
        let bitmaps_of = |node: u32| {
            let tile = tables.bitmap_tile(node)?;
            Some(&tables.bitmaps[tile.first_bitmap as usize..][..tile.columns as usize * BITMAP_BUCKETS])
        };
        let mut runs = frontier.chunk_by(|a, b| a.value == b.value).peekable();
        while let Some(pairs) = runs.next() {
            let node = pairs[0].value;
            let Some(tile) = tables.bitmap_tile(node) else { continue };
            let mut ahead = runs.peek().and_then(|pairs| bitmaps_of(pairs[0].value)).unwrap_or_default().iter();
            let columns = &tables.bitmap_columns[tile.first_column as usize..][..tile.columns as usize];
            let (bitmaps, _) = tables.bitmaps[tile.first_bitmap as usize..].as_chunks::<BITMAP_BUCKETS>();
            let bitmaps = &bitmaps[..columns.len()];
            let first = tables.node_children[node as usize];
            for pair in pairs {
                if let Some(bitmap) = ahead.next() {
                    F::fetch(&bitmap.0[0]);
                    F::fetch(&bitmap.0[8]);
                }
                let picks = &picks[pair.row as usize * *lines * 32..][..*lines * 32];
                let lanes = F::intersect(columns.iter().zip(bitmaps).map(|(column, bitmaps)| {
                    // The columns are within the row, as opening has checked, and picks are below the number of buckets.
                    &bitmaps[usize::from(picks[*column as usize]) % BITMAP_BUCKETS]
                }));
                // A word has the lanes of two groups. Most words are empty; there is no branch for each of them.
                let mut words = lanes.0.iter().rev().fold(0_u32, |words, lanes| words << 1 | u32::from(*lanes != 0));
                while words != 0 {
                    let word = words.trailing_zeros();
                    words &= words - 1;
                    let lanes = lanes.0[word as usize % lanes.0.len()];
                    for (group, lanes) in [(word * 2, lanes as u32), (word * 2 + 1, (lanes >> 32) as u32)] {
                        if lanes != 0 {
                            next.push(Pair { value: first + group, row: pair.row });
                            left.push(lanes);
                        }
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
}

impl<S: Sink> Stage for Settle<'_, S> {
    #[inline(always)]
    fn run<F: Form>(self) {
        let Self { tile, tables, batch, sink } = self;
        let Tile { frontier, buckets, lines, lanes: left, rows, .. } = tile;
        for (at, (pair, lanes)) in frontier.iter().zip(left.iter()).enumerate() {
            if let Some(ahead) = frontier.get(at + AHEAD) {
                let place = ahead.value as usize;
                slots_from(tables, &tables.groups[place], 2, |slot| F::fetch(slot));
                F::fetch(&tables.term_rules[place * LANES]);
                F::fetch(&tables.term_rules[place * LANES + 16]);
            }
            let group = &tables.groups[pair.value as usize];
            let buckets = &buckets[pair.row as usize * *lines..];
            let mut lanes = *lanes;
            slots_from(tables, group, 2, |slot| lanes &= F::test(slot, buckets));
            let row = rows[pair.row as usize];
            let lanes = if lanes & group.tailed == 0 {
                lanes
            } else {
                let tails = Tails { tables, group, place: pair.value, buckets };
                tails.settled(lanes, 0, batch.row(row as usize), |term| sink.open(row, term))
            };
            if lanes != 0 {
                sink.settled::<F>(tables, row, pair.value, lanes);
            }
        }
    }
}

/// The same from groups whose lanes were sifted: no slot is tested yet, and few lanes are left of each. So terms are tested one by one where their tails tell all of them.
struct Confirm<'a, S> {
    tile: &'a mut Tile,
    tables: &'a MatchTables<'a>,
    batch: &'a EncodedBatch,
    sink: &'a mut S,
}

impl<S: Sink> Stage for Confirm<'_, S> {
    #[inline(always)]
    fn run<F: Form>(self) {
        let Self { tile, tables, batch, sink } = self;
        let Tile { frontier, buckets, lines, lanes: left, rows, .. } = tile;
        // The tail of the lowest lane; there is seldom another.
        let tail_ref = |at: usize| {
            let (pair, lanes) = (frontier.get(at)?, left.get(at)?);
            tables.groups[pair.value as usize].tail_ref(lanes.trailing_zeros() as usize).map(|at| &tables.tail_refs[at])
        };
        let tail = |at: usize| tail_ref(at).map(|tail| &tables.tails[(tail & !AT_EDGES) as usize]);
        for (at, (pair, lanes)) in frontier.iter().zip(left.iter()).enumerate() {
            // What is asked for in one place is looked into in the next: group, reference, tail, memberships.
            frontier.get(at + 4 * AHEAD).into_iter().for_each(|ahead| F::fetch(&tables.groups[ahead.value as usize]));
            tail_ref(at + 3 * AHEAD).into_iter().for_each(F::fetch);
            tail(at + 2 * AHEAD).into_iter().for_each(F::fetch);
            if let Some(tail) = tail(at + AHEAD) {
                let tests = &tables.set_tests[tail.first_set as usize..][..tail.sets as usize];
                tests.iter().step_by(4).for_each(F::fetch);
                tests.last().into_iter().for_each(F::fetch);
                let row = rows[frontier[at + AHEAD].row as usize];
                batch.row(row as usize).iter().step_by(16).for_each(F::fetch);
            }
            let group = &tables.groups[pair.value as usize];
            let tails = Tails { tables, group, place: pair.value, buckets: &buckets[pair.row as usize * *lines..] };
            let whole = tails.whole(*lanes);
            let mut lanes = *lanes & !whole;
            if lanes != 0 {
                slots_from(tables, group, 0, |slot| lanes &= F::test(slot, tails.buckets));
            }
            lanes |= whole;
            let row = rows[pair.row as usize];
            let lanes = if lanes & group.tailed == 0 {
                lanes
            } else {
                tails.settled(lanes, whole, batch.row(row as usize), |term| sink.open(row, term))
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
    /// Those of the lanes whose tails tell all of their terms.
    fn whole(&self, lanes: u32) -> u32 {
        let mut whole = 0;
        let mut tailed = lanes & self.group.tailed;
        while tailed != 0 {
            let lane = tailed.trailing_zeros() as usize;
            tailed &= tailed - 1;
            whole |=
                self.group.tail_ref(lane).map_or(0, |at| self.tables.tails[(self.tables.tail_refs[at] & !AT_EDGES) as usize].whole & 1)
                    << lane;
        }
        whole
    }

    /// Those of the lanes that hold to the end. Those that a residual decides are not among them, and are told to `open`.
    /// `untested`: the lanes whose slots have not been looked at, because their tails tell all.
    fn settled(&self, lanes: u32, untested: u32, codes: &[u32], mut open: impl FnMut(u32)) -> u32 {
        let mut settled = lanes;
        let mut tailed = lanes & self.group.tailed;
        while tailed != 0 {
            let lane = tailed.trailing_zeros() as usize;
            tailed &= tailed - 1;
            let Some(at) = self.group.tail_ref(lane) else { continue };
            let tail = self.tables.tail_refs[at];
            if tail & AT_EDGES != 0 && untested >> lane & 1 == 0 && !self.is_at_edge(lane) {
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
