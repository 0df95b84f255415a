//! The layout of the match tables: plain old data, the same on disk, in memory and on the GPU (twins of shaders/shared/tables.wgsl).
//!
//! The matcher sees an event as a row of *codes*: one `u32` a column, order-preserving within the column. Code 0 is NULL;
//! code [`IMPOSSIBLE`] never occurs. A *slot* is (column, low, span) and holds if `code - low <= span` in wrapping arithmetic:
//! one subtract and one compare decide equality, ranges, one-sided bounds, and, by wrapping, "everything but a range".
//!
//! A *term* (one conjunction of a rule) is a list of slots, most selective first, and sometimes a [`Tail`]. Sixteen terms make
//! a [`Group`], stored slot pair by slot pair as [`Block`]s. Above the groups of a [`Segment`] stand *nodes*: a node is one block
//! whose sixteen lanes are the hulls (over their two leading slots) of its sixteen children. So one test, sixteen lanes wide,
//! serves every level.

use bytemuck::{Pod, Zeroable};

/// Lanes of a block.
pub const LANES: usize = 16;

/// The code of NULL in every column.
pub const NULL_CODE: u32 = 0;

/// A code that no value has: a slot `(low = IMPOSSIBLE, span = 0)` never holds. Lanes without a term carry it.
pub const IMPOSSIBLE: u32 = u32::MAX;

/// The highest code that a value may have.
pub const CODE_MAX: u32 = u32::MAX - 1;

/// "None" wherever an index is optional.
pub const NONE: u32 = u32::MAX;

/// Groups in one segment at most: 65,536 terms, so that every segment fits in the smallest binding that adapters offer.
pub const SEGMENT_GROUPS_MAX: usize = 4096;

/// Two slots of sixteen lanes. A lane holds if both of its slots hold. An unused slot is (column 0, low 0, span `u32::MAX`): it always holds.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Block {
    /// Column of the lane's first slot, and of its second shifted left by 16.
    pub columns: [u32; LANES],
    /// Lows of the first slots, then of the second.
    pub low: [[u32; LANES]; 2],
    /// Spans of the first slots, then of the second.
    pub span: [[u32; LANES]; 2],
}

impl Block {
    /// A block whose lanes never hold.
    pub const IMPOSSIBLE: Self =
        Self { columns: [0; LANES], low: [[IMPOSSIBLE; LANES], [0; LANES]], span: [[0; LANES], [u32::MAX; LANES]] };

    /// The lanes that hold for an event's codes, as bits. The plain definition; the matchers have faster forms of it.
    #[must_use]
    pub fn test(&self, codes: &[u32]) -> u16 {
        let mut lanes = 0;
        for lane in 0..LANES {
            let first = codes[(self.columns[lane] & 0xffff) as usize];
            let second = codes[(self.columns[lane] >> 16) as usize];
            let holds =
                first.wrapping_sub(self.low[0][lane]) <= self.span[0][lane] && second.wrapping_sub(self.low[1][lane]) <= self.span[1][lane];
            lanes |= u16::from(holds) << lane;
        }
        lanes
    }
}

/// Sixteen terms: a chain of consecutive blocks in [`MatchTables::leaf_blocks`]; a lane's term passes if the lane holds in every block of the chain.
/// The term of lane `l` of group `g` is [`MatchTables::terms`]`[g * 16 + l]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Group {
    pub first_block: u32,
    /// At least 1.
    pub blocks: u32,
}

/// What a lane stands for.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Term {
    /// The rule ([`crate::id::RuleId`]); [`NONE`] in an unused lane.
    pub rule: u32,
    /// Index into [`MatchTables::tails`], or [`NONE`]: what is left to test once the slots hold.
    pub tail: u32,
}

/// What slots cannot say: memberships in long lists (decided by the matcher), and a residual expression (decided afterwards, on the host).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Tail {
    /// A run of [`MatchTables::set_tests`]: all must hold.
    pub first_set: u32,
    pub sets: u32,
    /// The residual expression that must be TRUE, or [`NONE`].
    pub residual: u32,
    pub padding: u32,
}

/// Membership of a column's code in a run of [`MatchTables::intervals`] (ascending, disjoint, both ends included).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct SetTest {
    pub column: u32,
    pub first_interval: u32,
    pub intervals: u32,
    pub padding: u32,
}

/// A tree over consecutive groups: the unit of paging.
///
/// `height` 0: the segment is the one group `root`. Otherwise `root` is a node, `height` levels above the groups. The children of
/// node `n` are `node_children[n] + lane`: nodes of the level below, or groups where the level below is 0.
/// Lanes without a child never hold. Nodes and groups of a segment are consecutive, and so are the blocks of its groups.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Segment {
    pub root: u32,
    pub height: u32,
    pub first_node: u32,
    pub nodes: u32,
    pub first_group: u32,
    pub groups: u32,
    pub first_block: u32,
    pub blocks: u32,
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
    pub partitions: &'a [Partition],
    pub segments: &'a [Segment],
    pub nodes: &'a [Block],
    /// One for each node: the index of its first child.
    pub node_children: &'a [u32],
    pub groups: &'a [Group],
    pub leaf_blocks: &'a [Block],
    /// `groups.len() * 16`.
    pub terms: &'a [Term],
    pub tails: &'a [Tail],
    pub set_tests: &'a [SetTest],
    /// (low, high), both included.
    pub intervals: &'a [[u32; 2]],
}

impl MatchTables<'_> {
    /// Whether `code` lies in the intervals of `test`.
    #[must_use]
    pub fn set_holds(&self, test: &SetTest, codes: &[u32]) -> bool {
        let code = codes[test.column as usize];
        let first = test.first_interval as usize;
        let intervals = &self.intervals[first..first + test.intervals as usize];
        let after = intervals.partition_point(|interval| interval[0] <= code);
        after > 0 && code <= intervals[after - 1][1]
    }

    /// Whether every list membership of `tail` holds; the residual is not looked at.
    #[must_use]
    pub fn tail_holds(&self, tail: u32, codes: &[u32]) -> bool {
        if tail == NONE {
            return true;
        }
        let tail = &self.tails[tail as usize];
        let first = tail.first_set as usize;
        self.set_tests[first..first + tail.sets as usize].iter().all(|test| self.set_holds(test, codes))
    }
}

/// An event row and a term whose slots and list memberships hold for it; the term's residual, if any, is still open.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct Candidate {
    /// Row within the batch.
    pub row: u32,
    /// Index into [`MatchTables::terms`].
    pub term: u32,
}
