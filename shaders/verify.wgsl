// The exact test: each (group, row) pair tests every slot of the group's chain, one invocation a lane. A term that passes is a
// candidate; one that has a tail is left open for `settle`, unless its tail only tells what buckets leave open, which is nothing
// where the row's buckets lie inside of the slots.

@group(0) @binding(0) var<uniform> launch: Launch;
@group(0) @binding(1) var<storage, read> groups: array<ResidentGroup>;
@group(0) @binding(2) var<storage, read> leaf_slots: array<SlotLanes>;
@group(0) @binding(3) var<storage, read> steps: array<u32>;
@group(0) @binding(4) var<storage, read> codes: array<u32>;
@group(0) @binding(5) var<storage, read> frontier: array<Pair>;
@group(0) @binding(6) var<storage, read_write> candidates: array<Candidate>;
@group(0) @binding(7) var<storage, read_write> open: array<Candidate>;
@group(0) @binding(8) var<storage, read_write> counters: array<atomic<u32>>;

// Whether every code of a column has a bucket of its own.
fn is_exact(column: u32) -> bool {
    return steps[column] >= 0x10000u;
}

@compute @workgroup_size(WORKGROUP)
fn verify(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let at = (workgroup.y * launch.line + workgroup.x) * WORKGROUP_PAIRS + local / LANES;
    let lane = local % LANES;
    var passes = false;
    var is_open = false;
    var candidate = Candidate(0u, 0u);
    if at < min(atomicLoad(&counters[launch.source]), launch.source_max) {
        let pair = frontier[at];
        let row = pair.row * launch.columns;
        let group = pair.place - launch.first_group;
        candidate = Candidate(pair.row, pair.place * LANES + lane);
        passes = extractBits(groups[group].used, lane, 1u) == 1u;
        var at_edge = extractBits(groups[group].at_edges, lane, 1u) == 0u;
        for (var nth = 0u; passes && nth < SLOTS_MAX && groups[group].slots[nth] != NONE; nth++) {
            let slot = groups[group].slots[nth] - launch.first_slot;
            let column = of_lane(leaf_slots[slot].columns[lane / 2u], lane);
            let low = of_lane(leaf_slots[slot].low[lane / 2u], lane);
            let span = of_lane(leaf_slots[slot].span[lane / 2u], lane);
            let offset = bucket_offset(row, column, low);
            passes = offset <= span;
            if !at_edge && (offset == 0u || offset == span) {
                at_edge = !is_exact(column);
            }
        }
        is_open = at_edge && extractBits(groups[group].tailed, lane, 1u) == 1u;
    }
    let settled = bump(COUNTER_CANDIDATES, u32(passes && !is_open), local);
    if passes && !is_open && settled < launch.candidates_max {
        candidates[settled] = candidate;
    }
    let left = bump(COUNTER_OPEN, u32(passes && is_open), local);
    if passes && is_open && left < launch.open_max {
        open[left] = candidate;
    }
}
