// Without summaries: every row against every group that it may match, for comparison with the search from the roots. A workgroup
// takes a few rows and a run of groups, and holds each slot against all the rows that have to do with it: those of every tenant's
// groups are all of them. What passes is left open for `settle`.

@group(0) @binding(0) var<uniform> launch: Launch;
@group(0) @binding(1) var<storage, read> partitions: array<Partition>;
@group(0) @binding(2) var<storage, read> segments: array<Segment>;
@group(0) @binding(3) var<storage, read> row_partitions: array<u32>;
@group(0) @binding(4) var<storage, read> groups: array<ResidentGroup>;
@group(0) @binding(5) var<storage, read> leaf_slots: array<SlotLanes>;
@group(0) @binding(6) var<storage, read> codes: array<u32>;
@group(0) @binding(7) var<storage, read_write> open: array<Candidate>;
@group(0) @binding(8) var<storage, read_write> counters: array<atomic<u32>>;

// The rows of `rows`, as bits from `first_row` on, that a lane's term passes.
fn passing(group: u32, lane: u32, rows: u32, first_row: u32) -> u32 {
    var left = rows * extractBits(groups[group].used, lane, 1u);
    for (var nth = 0u; left != 0u && nth < SLOTS_MAX && groups[group].slots[nth] != NONE; nth++) {
        let slot = groups[group].slots[nth] - launch.first_slot;
        let column = of_lane(leaf_slots[slot].columns[lane / 2u], lane);
        let low = of_lane(leaf_slots[slot].low[lane / 2u], lane);
        let span = of_lane(leaf_slots[slot].span[lane / 2u], lane);
        for (var row = 0u; row < BRUTE_ROWS; row++) {
            if extractBits(left, row, 1u) == 1u && bucket_offset((first_row + row) * launch.columns, column, low) > span {
                left &= ~(1u << row);
            }
        }
    }
    return left;
}

// Goes through the groups that this workgroup takes, those from `taken` on of each of a partition's segments on the bound page.
fn search(visited: u32, rows: u32, first_row: u32, taken: u32, local: u32) {
    let page_end = launch.first_segment + launch.segments;
    let run = partitions[visited];
    let first = clamp(run.first_segment, launch.first_segment, page_end);
    let end = clamp(run.first_segment + run.segments, first, page_end);
    for (var nth = first; nth < end; nth++) {
        let segment = segments[nth - launch.first_segment];
        let stop = min(taken + BRUTE_GROUPS, segment.groups);
        for (var group = taken + local / LANES; group < stop; group += WORKGROUP_PAIRS) {
            let place = segment.first_group + group;
            var left = passing(place - launch.first_group, local % LANES, rows, first_row);
            while left != 0u {
                let row = countTrailingZeros(left);
                left &= left - 1u;
                let at = atomicAdd(&counters[COUNTER_OPEN], 1u);
                if at < launch.open_max {
                    open[at] = Candidate(first_row + row, place * LANES + local % LANES);
                }
            }
        }
    }
}

@compute @workgroup_size(WORKGROUP)
fn brute(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let nth = (workgroup.y * launch.line + workgroup.x) * BRUTE_ROWS;
    if nth >= launch.rows {
        return;
    }
    let taken = workgroup.z * BRUTE_GROUPS;
    let first_row = launch.first_row + nth;
    let rows = min(launch.rows - nth, BRUTE_ROWS);
    search(0u, (1u << rows) - 1u, first_row, taken, local);
    // Rows of one tenant go together, with the first of them.
    var done = 0u;
    for (var row = 0u; row < rows; row++) {
        let own = row_partitions[first_row + row];
        if own == 0u || own >= launch.partitions || extractBits(done, row, 1u) == 1u {
            continue;
        }
        var same = 0u;
        for (var other = row; other < rows; other++) {
            same |= u32(row_partitions[first_row + other] == own) << other;
        }
        done |= same;
        search(own, same, first_row, taken, local);
    }
}
