// What one dispatch is told, and what passes between dispatches: twins of src/matcher/gpu/launch.rs.

// Invocations in a workgroup, in every kernel but `plan`.
const WORKGROUP: u32 = 256u;
// Pairs that a workgroup of `descend` or `verify` takes: thirty-two invocations, one a lane, test a pair.
const WORKGROUP_PAIRS: u32 = 8u;

// Places in `counters`. Below them stands, for each height, the number of frontier pairs at that height.
const COUNTER_LONGEST: u32 = 12u;
const COUNTER_RETURNED: u32 = 13u;
const COUNTER_OPEN: u32 = 14u;
const COUNTER_CANDIDATES: u32 = 15u;

// What is made of the candidates.
const OUTPUT_SCORES: u32 = 1u;
const OUTPUT_FIRST: u32 = 2u;
const OUTPUT_COUNTS: u32 = 3u;
const OUTPUT_TOP: u32 = 4u;
const OUTPUT_LISTS: u32 = 5u;
// Words of a row's result with the sum of its scores: the sum's three, lowest first, and the strongest action.
const SCORE_WORDS: u32 = 4u;
// Rules of a list that one invocation sorts at most.
const ORDERED_MAX: u32 = 1024u;

// What a workgroup of `brute` takes: rows, and groups of each segment that they visit.
const BRUTE_ROWS: u32 = 8u;
const BRUTE_GROUPS: u32 = 256u;

// Tables come in pages; the `first_…` fields say where the bound page starts within the whole table.
struct Launch {
    // Rows of codes, and where they start in the bound codes; codes in a row.
    rows: u32,
    first_row: u32,
    columns: u32,
    // Length of the partition table.
    partitions: u32,
    first_segment: u32,
    segments: u32,
    first_node: u32,
    first_group: u32,
    first_slot: u32,
    first_tail: u32,
    // Height of the frontier that `seed` fills.
    height: u32,
    // The counter of what this dispatch reads, the length of that buffer, and how many entries a workgroup takes.
    source: u32,
    source_max: u32,
    workgroup_entries: u32,
    // The counter of the frontier that this dispatch writes; the lengths of what it writes.
    sink: u32,
    sink_max: u32,
    open_max: u32,
    candidates_max: u32,
    // Workgroups in a line of the two-dimensional dispatch.
    line: u32,
    // What to make of the candidates; for `OUTPUT_TOP`, how many rules of each row.
    output: u32,
    best: u32,
}

// A node (or, at height 0, a group) that an event row has yet to be tested against.
struct Pair {
    place: u32,
    row: u32,
}
