// The match tables as the kernels see them: twins of src/tables/layout.rs, word for word (a test compares the two).

const LANES: u32 = 32u;
const SLOTS_MAX: u32 = 4u;
const NONE: u32 = 0xffffffffu;

// One slot of thirty-two lanes: 16-bit numbers, two in a word, the even lane's in the lower half.
struct SlotLanes {
    columns: array<u32, 16>,
    low: array<u32, 16>,
    span: array<u32, 16>,
}

struct Node {
    slots: array<SlotLanes, 2>,
}

// A group, and what the host has found out about its lanes: twin of `ResidentGroup` in src/matcher/gpu/pages.rs.
struct ResidentGroup {
    slots: array<u32, SLOTS_MAX>,
    tailed: u32,
    first_tail: u32,
    used: u32,
    at_edges: u32,
    returned: u32,
}

struct Tail {
    first_set: u32,
    sets: u32,
    residual: u32,
    whole: u32,
}

struct SetTest {
    column: u32,
    intervals: u32,
    first: u32,
    high: u32,
}

// What a rule's match counts for: twin of `Verdict` in src/matcher/gpu/output.rs.
struct Verdict {
    score_low: u32,
    score_high: u32,
    action: u32,
    live: u32,
}

struct Segment {
    root: u32,
    height: u32,
    first_node: u32,
    nodes: u32,
    first_group: u32,
    groups: u32,
    first_slot: u32,
    slots: u32,
}

struct Partition {
    first_segment: u32,
    segments: u32,
}

struct Candidate {
    row: u32,
    term: u32,
}
