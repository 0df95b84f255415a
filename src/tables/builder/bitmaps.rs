//! Bucket bitmaps for partitions whose terms have no selective slot: see [`BitmapTile`].

use super::assemble::Sorted;
use super::{BuiltTables, Row, Slot};
use crate::tables::layout::{BITMAP_BUCKETS, Bitmap, BitmapTile, LANES, NONE, Segment, bitmap_bucket};
use std::collections::BTreeMap;

/// Columns of a tile at most: each costs four bytes a term.
const COLUMNS_MAX: usize = 32;

/// Columns that fewer terms than this share of them ask for get no bitmaps.
const COLUMN_SHARE_MIN: f64 = 1.0 / 16.0;

/// A node's thirty-two groups, each with several tests of slots, cost as much as a tile of this many columns.
const COLUMNS_A_NODE: f64 = 320.0;

/// Lanes of a tile.
const TILE: usize = LANES * LANES;

/// The columns of a partition's tiles.
pub struct Plan {
    columns: Vec<u32>,
}

impl Plan {
    /// Bitmaps, if they are guessed to cost less than testing the slots of what the summaries let through: the share of events that both leading slots
    /// of a term let through, against the number of columns.
    pub fn of<'r>(rows: impl ExactSizeIterator<Item = &'r Row>, slots: &[Slot]) -> Option<Self> {
        let count = rows.len();
        if count < TILE {
            return None;
        }
        let mut through = 0.0;
        let mut uses: BTreeMap<u32, usize> = BTreeMap::new();
        for row in rows {
            let all = row.all_slots(slots);
            let share = |at: usize| all.get(at).map_or(1.0, |slot| f64::from(slot.span) / f64::from(u32::MAX));
            through += share(0) * share(1);
            all.iter().filter(|slot| tells(slot)).for_each(|slot| *uses.entry(slot.column).or_default() += 1);
        }
        let mut columns: Vec<(usize, u32)> = uses.into_iter().map(|(column, uses)| (uses, column)).collect();
        columns.retain(|(uses, _)| *uses as f64 >= count as f64 * COLUMN_SHARE_MIN);
        columns.sort_unstable_by(|a, b| b.cmp(a));
        columns.truncate(COLUMNS_MAX);
        let columns: Vec<u32> = columns.into_iter().map(|(_, column)| column).collect();
        let pays = !columns.is_empty() && through / count as f64 > columns.len() as f64 / COLUMNS_A_NODE;
        pays.then_some(Self { columns })
    }
}

/// Whether bitmaps can show what a slot says: those that wrap around are left to the exact test.
const fn tells(slot: &Slot) -> bool {
    slot.low <= slot.high() && slot.span != u32::MAX
}

/// Sorts rows that agree in the columns of their two leading slots into squares over the two: as narrow in the one as in the other, so that the nodes above
/// them have narrow hulls in both.
pub fn sort(order: &mut [Sorted]) {
    let columns = |(key, _): &Sorted| key.map(|part| part >> 32);
    order.sort_by_key(columns);
    for run in order.chunk_by_mut(|a, b| columns(a) == columns(b)) {
        run.sort_unstable_by_key(|(key, row)| (key[0], row.first_slot));
        let tiles = run.len().div_ceil(TILE);
        let slices = (tiles as f64).sqrt().ceil() as usize;
        for slice in run.chunks_mut((tiles.div_ceil(slices) * TILE).max(1)) {
            slice.sort_unstable_by_key(|(key, row)| (key[1], row.first_slot));
        }
    }
}

/// Tiles of some partitions; every index counts from their own beginning.
#[derive(Default)]
pub struct Bitmaps {
    /// (node, tile), ascending.
    nodes: Vec<(u32, u32)>,
    tiles: Vec<BitmapTile>,
    columns: Vec<u32>,
    bitmaps: Vec<Bitmap>,
}

impl Bitmaps {
    /// Adds a tile for each lowest node of a segment, which has these rows.
    pub fn add(&mut self, plan: &Plan, segment: &Segment, rows: &[&Row], slots: &[Slot]) {
        if segment.height == 0 {
            return;
        }
        let first_column = self.columns.len() as u32;
        self.columns.extend(&plan.columns);
        for (node, rows) in (segment.first_node..).zip(rows.chunks(TILE)) {
            self.nodes.push((node, self.tiles.len() as u32));
            let first_bitmap = self.bitmaps.len() as u32;
            self.tiles.push(BitmapTile { first_bitmap, first_column, columns: plan.columns.len() as u32 });
            for column in &plan.columns {
                self.bitmaps.extend(buckets(*column, rows, slots));
            }
        }
    }

    /// Puts it behind what is built already. `nodes`: how many nodes there are in these partitions.
    pub fn append_to(self, built: &mut BuiltTables, nodes: usize) {
        if self.nodes.is_empty() {
            return;
        }
        let (tile, column, bitmap) = (built.bitmap_tiles.len() as u32, built.bitmap_columns.len() as u32, built.bitmaps.len() as u32);
        // Nodes that were built before, and those without tiles, have none.
        let first = built.nodes.len();
        built.node_bitmaps.resize(first + nodes, NONE);
        self.nodes.iter().for_each(|(node, own)| built.node_bitmaps[first + *node as usize] = tile + own);
        built.bitmap_tiles.extend(self.tiles.iter().map(|own| BitmapTile {
            first_bitmap: own.first_bitmap + bitmap,
            first_column: own.first_column + column,
            ..*own
        }));
        built.bitmap_columns.extend(self.columns);
        built.bitmaps.extend(self.bitmaps);
    }
}

/// The bitmaps of one column: for each bucket the lanes that may hold there. Lanes without a term never do.
fn buckets(column: u32, rows: &[&Row], slots: &[Slot]) -> [Bitmap; BITMAP_BUCKETS] {
    let mut buckets = [Bitmap([0; TILE / 64]); BITMAP_BUCKETS];
    for (lane, row) in rows.iter().enumerate() {
        let mut range = (0, BITMAP_BUCKETS - 1);
        for slot in row.all_slots(slots).iter().filter(|slot| slot.column == column && tells(slot)) {
            range = (range.0.max(bitmap_bucket(slot.low)), range.1.min(bitmap_bucket(slot.high())));
        }
        for bitmap in buckets.iter_mut().take(range.1 + 1).skip(range.0) {
            bitmap.0[lane / 64] |= 1 << (lane % 64);
        }
    }
    buckets
}
