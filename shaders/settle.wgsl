// Memberships: each open term tests its tail's sets, single intervals in place, lists by binary search. One invocation a term.

@group(0) @binding(0) var<uniform> launch: Launch;
@group(0) @binding(1) var<storage, read> groups: array<ResidentGroup>;
@group(0) @binding(2) var<storage, read> tails: array<Tail>;
@group(0) @binding(3) var<storage, read> set_tests: array<SetTest>;
@group(0) @binding(4) var<storage, read> intervals: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read> codes: array<u32>;
@group(0) @binding(6) var<storage, read> open: array<Candidate>;
@group(0) @binding(7) var<storage, read_write> candidates: array<Candidate>;
@group(0) @binding(8) var<storage, read_write> counters: array<atomic<u32>>;

fn set_holds(test: SetTest, row: u32) -> bool {
    let code = codes[row + test.column];
    if test.intervals == 1u {
        return test.first <= code && code <= test.high;
    }
    // Intervals before `after` start at or below the code.
    var after = test.first;
    var end = test.first + test.intervals;
    while after < end {
        let middle = after + (end - after) / 2u;
        if intervals[middle].x <= code {
            after = middle + 1u;
        } else {
            end = middle;
        }
    }
    return after > test.first && code <= intervals[after - 1u].y;
}

@compute @workgroup_size(WORKGROUP)
fn settle(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let at = (workgroup.y * launch.line + workgroup.x) * WORKGROUP + local;
    var holds = false;
    var candidate = Candidate(0u, 0u);
    if at < min(atomicLoad(&counters[launch.source]), launch.source_max) {
        candidate = open[at];
        holds = true;
        let group = groups[candidate.term / LANES - launch.first_group];
        let lane = candidate.term % LANES;
        if extractBits(group.tailed, lane, 1u) == 1u {
            // A group's tails follow one another in the order of their lanes.
            let before = countOneBits(extractBits(group.tailed, 0u, lane));
            let tail = tails[group.first_tail - launch.first_tail + before];
            for (var nth = 0u; holds && nth < tail.sets; nth++) {
                holds = set_holds(set_tests[tail.first_set + nth], candidate.row * launch.columns);
            }
        }
    }
    let place = bump(COUNTER_CANDIDATES, u32(holds), local);
    if holds && place < launch.candidates_max {
        candidates[place] = candidate;
    }
}
