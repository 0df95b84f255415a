//! The layout of the match tables: plain old data, the same on disk, in memory and on the GPU (twins of shaders/shared/tables.wgsl).
//!
//! The matcher sees an event as a row of *codes*: one `u32` a column, order-preserving within the column. Code 0 is NULL. The codes of a column's
//! thresholds are spread evenly over 32 bits, so that the upper half of a code, its [`bucket`], says nearly as much as the code, and says all where a
//! column has fewer than 32,767 thresholds ([`is_exact`]).
//!
//! A *slot* is (column, low, span) over buckets and holds if `bucket - low <= span` in wrapping arithmetic: one subtract and one compare decide equality,
//! ranges, one-sided bounds, and, by wrapping, "everything but a range". What a slot over buckets leaves open at its edges, a [`SetTest`] over codes decides.
//!
//! A *term* (one conjunction of a rule) is a list of slots, most selective first, and sometimes a [`Tail`]. Thirty-two terms make
//! a [`Group`], stored slot by slot as [`SlotLanes`]. Above the groups of a [`Segment`] stand *nodes*: two slots, whose lanes are the hulls
//! of the node's thirty-two children. So one test, thirty-two lanes wide, serves every level.

use bytemuck::{Pod, Zeroable};

/// Lanes of a slot: terms of a group, children of a node.
pub const LANES: usize = 32;

/// The code of NULL in every column.
pub const NULL_CODE: u32 = 0;

/// The highest code that a value may have.
pub const CODE_MAX: u32 = 0xfffe_ffff;

/// A bucket that no value has: a slot `(low = IMPOSSIBLE, span = 0)` never holds. Lanes without a term carry it.
pub const IMPOSSIBLE: u16 = u16::MAX;

/// "None" wherever an index is optional.
pub const NONE: u32 = u32::MAX;

/// Groups in one segment at most: a million terms, less than the smallest binding that adapters offer.
pub const SEGMENT_GROUPS_MAX: usize = 32 * 32 * 32;

/// Bit of an entry of [`MatchTables::tail_refs`]: the tail only tells what the buckets of the term's own slots leave open, which is nothing where
/// the event's buckets lie inside of the slots and not at their ends.
pub const AT_EDGES: u32 = 1 << 31;

/// The upper half of a code.
#[must_use]
pub const fn bucket(code: u32) -> u16 {
    (code >> 16) as u16
}

/// Whether every code of a column with this step (see [`MatchTables::steps`]) has a bucket of its own.
#[must_use]
pub const fn is_exact(step: u32) -> bool {
    step >= 1 << 16
}

/// One slot of thirty-two lanes.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct SlotLanes {
    pub columns: [u16; LANES],
    pub low: [u16; LANES],
    pub span: [u16; LANES],
}

impl SlotLanes {
    /// Lanes that never hold.
    pub const IMPOSSIBLE: Self = Self { columns: [0; LANES], low: [IMPOSSIBLE; LANES], span: [0; LANES] };

    /// Lanes that always hold.
    pub const ALWAYS: Self = Self { columns: [0; LANES], low: [0; LANES], span: [u16::MAX; LANES] };

    /// The lanes that hold for an event's codes, as bits. The plain definition; the matchers have faster forms of it.
    #[must_use]
    pub fn test(&self, codes: &[u32]) -> u32 {
        (0..LANES).fold(0, |lanes, lane| {
            let bucket = bucket(codes[usize::from(self.columns[lane])]);
            lanes | u32::from(bucket.wrapping_sub(self.low[lane]) <= self.span[lane]) << lane
        })
    }
}

/// The hulls of a node's children. Lanes without a child never hold.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Node {
    pub slots: [SlotLanes; 2],
}

/// Slots of a term at most.
pub const SLOTS_MAX: usize = 4;

/// Thirty-two terms; a lane's term passes if the lane holds in every slot of the group.
/// The rule of lane `l` of group `g` is [`MatchTables::term_rules`]`[g * 32 + l]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Group {
    /// Indices into [`MatchTables::leaf_slots`], at least one, then [`NONE`]. Groups may share slots: of neighbours, often all thirty-two lanes
    /// ask for the same value first.
    pub slots: [u32; SLOTS_MAX],
    /// The lanes that have a tail.
    pub tailed: u32,
    /// The tail of the lowest of them, in [`MatchTables::tail_refs`]; the others' follow.
    pub first_tail: u32,
}

impl Group {
    /// The slots of the group.
    pub fn chain<'a>(&self, leaf_slots: &'a [SlotLanes]) -> impl Iterator<Item = &'a SlotLanes> {
        self.slots.into_iter().take_while(|slot| *slot != NONE).map(|slot| &leaf_slots[slot as usize])
    }

    /// Where the tail of a lane stands in [`MatchTables::tail_refs`], if it has one.
    #[must_use]
    pub const fn tail_ref(&self, lane: usize) -> Option<usize> {
        if self.tailed >> lane & 1 == 0 {
            return None;
        }
        let before = self.tailed & ((1 << lane) - 1);
        Some(self.first_tail as usize + before.count_ones() as usize)
    }
}

/// What slots cannot say: memberships that codes decide (by the matcher), and a residual expression (decided afterwards, on the host).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Tail {
    /// A run of [`MatchTables::set_tests`]: all must hold.
    pub first_set: u32,
    pub sets: u32,
    /// The residual expression that must be TRUE, or [`NONE`].
    pub residual: u32,
    /// 1 where memberships and residual say all that the term asks for, so that its slots need not be tested beside them; else 0.
    pub whole: u32,
}

/// Membership of a column's code in one interval, or in a run of [`MatchTables::intervals`] (ascending, disjoint, both ends included).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct SetTest {
    pub column: u32,
    pub intervals: u32,
    /// The first of several intervals; of a single one, its low end.
    pub first: u32,
    /// The high end of a single interval; else 0.
    pub high: u32,
}

/// A tree over consecutive groups: the unit of paging.
///
/// `height` 0: the segment is the one group `root`. Otherwise `root` is a node, `height` levels above the groups. The children of
/// node `n` are `node_children[n] + lane`: nodes of the level below, or groups where the level below is 0.
/// Nodes and groups of a segment are consecutive, and so are the slots and the tails of its groups.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Segment {
    pub root: u32,
    pub height: u32,
    pub first_node: u32,
    pub nodes: u32,
    pub first_group: u32,
    pub groups: u32,
    pub first_slot: u32,
    pub slots: u32,
}

/// Buckets of a bitmap tile's columns.
pub const BITMAP_BUCKETS: usize = 32;

/// The bucket of a code in bitmaps.
#[must_use]
pub const fn bitmap_bucket(code: u32) -> usize {
    (code >> 27) as usize
}

/// One bit for each of the 1024 lanes below a lowest node: thirty-two of its first group, and so on.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Bitmap(pub [u64; LANES * LANES / 64]);

/// Where slots are wide, and summaries hide little, a lowest node has bitmaps as well: for each of some columns, and each bucket of it, the lanes that may hold
/// there. Their conjunction over the columns is a filter for the exact test, which stays as it is; matchers may do without it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BitmapTile {
    /// `columns * 32` of [`MatchTables::bitmaps`]: the buckets of the first column, and so on.
    pub first_bitmap: u32,
    /// Into [`MatchTables::bitmap_columns`].
    pub first_column: u32,
    pub columns: u32,
}

/// The segments of one tenant's rules. Partition 0 holds the rules of every tenant; partition `t + 1` those of [`crate::id::TenantId`] `t`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Partition {
    pub first_segment: u32,
    pub segments: u32,
}

/// The match tables, borrowed from wherever they lie (an artifact mapped into memory, or vectors just built).
#[derive(Clone, Copy, Debug)]
pub struct MatchTables<'a> {
    /// Columns of codes an event row has (the stride of the codes).
    pub columns: usize,
    /// For each column half the distance of the codes of neighbouring thresholds: threshold `k` has code `(2k + 2) * step`, values between it and the
    /// next `(2k + 3) * step`, values below all `step`.
    pub steps: &'a [u32],
    pub partitions: &'a [Partition],
    pub segments: &'a [Segment],
    pub nodes: &'a [Node],
    /// One for each node: the index of its first child.
    pub node_children: &'a [u32],
    pub groups: &'a [Group],
    pub leaf_slots: &'a [SlotLanes],
    /// The rule ([`crate::id::RuleId`]) of each lane of each group; [`NONE`] in an unused lane. `groups.len() * 32`.
    pub term_rules: &'a [u32],
    /// Indices into `tails`, some with [`AT_EDGES`].
    pub tail_refs: &'a [u32],
    pub tails: &'a [Tail],
    pub set_tests: &'a [SetTest],
    /// (low, high), both included.
    pub intervals: &'a [[u32; 2]],
    /// For each node its tile, or [`NONE`]; nodes beyond the end have none.
    pub node_bitmaps: &'a [u32],
    pub bitmap_tiles: &'a [BitmapTile],
    pub bitmap_columns: &'a [u32],
    pub bitmaps: &'a [Bitmap],
}

impl MatchTables<'_> {
    /// The tail of a term, if it has one.
    #[must_use]
    pub fn tail(&self, term: u32) -> Option<&Tail> {
        let group = &self.groups[term as usize / LANES];
        group.tail_ref(term as usize % LANES).map(|at| &self.tails[(self.tail_refs[at] & !AT_EDGES) as usize])
    }

    /// The tile of a node, if it has one.
    #[must_use]
    pub fn bitmap_tile(&self, node: u32) -> Option<&BitmapTile> {
        self.node_bitmaps.get(node as usize).and_then(|tile| self.bitmap_tiles.get(*tile as usize))
    }

    /// Whether the code of `test`'s column lies in its intervals.
    #[must_use]
    #[inline]
    pub fn set_holds(&self, test: &SetTest, codes: &[u32]) -> bool {
        let code = codes[test.column as usize];
        if test.intervals == 1 {
            return code.wrapping_sub(test.first) <= test.high.wrapping_sub(test.first);
        }
        let first = test.first as usize;
        let intervals = &self.intervals[first..first + test.intervals as usize];
        let after = intervals.partition_point(|interval| interval[0] <= code);
        after > 0 && code <= intervals[after - 1][1]
    }

    /// Whether every membership of `tail` holds; the residual is not looked at.
    #[must_use]
    #[inline]
    pub fn tail_holds(&self, tail: &Tail, codes: &[u32]) -> bool {
        let first = tail.first_set as usize;
        // To the end, also where one does not hold: that costs less than to guess which.
        self.set_tests[first..first + tail.sets as usize].iter().fold(true, |holds, test| holds & self.set_holds(test, codes))
    }
}

/// An event row and a term whose slots and memberships hold for it; the term's residual, if any, is still open.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct Candidate {
    /// Row within the batch.
    pub row: u32,
    /// Index into [`MatchTables::term_rules`].
    pub term: u32,
}
