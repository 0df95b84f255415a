// The match tables as the kernels see them: twins of src/tables/layout.rs, word for word (a test compares the two).

const LANES: u32 = 16u;
const NONE: u32 = 0xffffffffu;

// Two slots of sixteen lanes. `columns`: the first slot's column, and the second's shifted left by 16.
struct Block {
    columns: array<u32, LANES>,
    low0: array<u32, LANES>,
    low1: array<u32, LANES>,
    span0: array<u32, LANES>,
    span1: array<u32, LANES>,
}

// Sixteen terms: a chain of consecutive blocks.
struct Group {
    first_block: u32,
    blocks: u32,
}

struct Term {
    rule: u32,
    tail: u32,
}

struct Tail {
    first_set: u32,
    sets: u32,
    residual: u32,
    padding: u32,
}

struct SetTest {
    column: u32,
    first_interval: u32,
    intervals: u32,
    padding: u32,
}

struct Segment {
    root: u32,
    height: u32,
    first_node: u32,
    nodes: u32,
    first_group: u32,
    groups: u32,
    first_block: u32,
    blocks: u32,
}

struct Partition {
    first_segment: u32,
    segments: u32,
}

struct Candidate {
    row: u32,
    term: u32,
}
