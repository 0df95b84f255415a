//! What one dispatch is told, and what passes between dispatches: twins of shaders/shared/launch.wgsl.

use bytemuck::{Pod, Zeroable};

/// Invocations in a workgroup, in every kernel but `plan`.
pub const WORKGROUP: u32 = 256;

/// Pairs that a workgroup of `descend` or `verify` takes.
pub const WORKGROUP_PAIRS: u32 = 8;

/// Levels that a segment may have above its groups. Thirty-two to the eighth exceeds any number of groups.
pub const HEIGHT_MAX: u32 = 8;

/// Counters on the device. The first [`HEIGHT_MAX`]` + 1` count the frontier pairs of each height.
pub const COUNTERS: usize = 16;
pub const COUNTER_LONGEST: u32 = 12;
pub const COUNTER_RETURNED: u32 = 13;
pub const COUNTER_OPEN: u32 = 14;
pub const COUNTER_CANDIDATES: u32 = 15;

/// Words of a row's result with the sum of its scores.
pub const SCORE_WORDS: u32 = 4;

/// Rules of a list that one invocation sorts at most.
pub const ORDERED_MAX: u32 = 1024;

/// Rows, and groups of each segment that they visit, that a workgroup of `brute` takes.
pub const BRUTE_ROWS: u32 = 8;
pub const BRUTE_GROUPS: u32 = 256;

/// Times that an invocation may go round a loop: Mesa's software adapter ends loops that go round more often, without a word.
pub const ROUNDS_MAX: u32 = 60_000;

/// Bytes from one [`Launch`] to the next: the coarsest alignment that adapters ask of uniform offsets.
pub const LAUNCH_STRIDE: u64 = 256;

/// What one dispatch is told. The fields' meanings are in the twin.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Launch {
    pub rows: u32,
    pub first_row: u32,
    pub columns: u32,
    pub partitions: u32,
    pub first_segment: u32,
    pub segments: u32,
    pub first_node: u32,
    pub first_group: u32,
    pub first_slot: u32,
    pub first_tail: u32,
    pub height: u32,
    pub source: u32,
    pub source_max: u32,
    pub workgroup_entries: u32,
    pub sink: u32,
    pub sink_max: u32,
    pub open_max: u32,
    pub candidates_max: u32,
    pub line: u32,
    pub output: u32,
    pub best: u32,
}
