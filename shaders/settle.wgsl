// List memberships: each open term tests its tail's sets by binary search in their intervals. One invocation a term.

@group(0) @binding(0) var<uniform> launch: Launch;
@group(0) @binding(1) var<storage, read> terms: array<Term>;
@group(0) @binding(2) var<storage, read> tails: array<Tail>;
@group(0) @binding(3) var<storage, read> set_tests: array<SetTest>;
@group(0) @binding(4) var<storage, read> intervals: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read> codes: array<u32>;
@group(0) @binding(6) var<storage, read> open: array<Candidate>;
@group(0) @binding(7) var<storage, read_write> candidates: array<Candidate>;
@group(0) @binding(8) var<storage, read_write> counters: array<atomic<u32>>;

fn set_holds(test: SetTest, first_code: u32) -> bool {
    let code = codes[first_code + test.column];
    // Intervals before `after` start at or below the code.
    var after = test.first_interval;
    var end = test.first_interval + test.intervals;
    while after < end {
        let middle = after + (end - after) / 2u;
        if intervals[middle].x <= code {
            after = middle + 1u;
        } else {
            end = middle;
        }
    }
    return after > test.first_interval && code <= intervals[after - 1u].y;
}

@compute @workgroup_size(WORKGROUP)
fn settle(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let at = (workgroup.y * launch.line + workgroup.x) * WORKGROUP + local;
    var holds = false;
    var candidate = Candidate(0u, 0u);
    if at < min(atomicLoad(&counters[launch.source]), launch.source_max) {
        candidate = open[at];
        let first_code = candidate.row * launch.columns;
        let tail = tails[terms[candidate.term - launch.first_group * LANES].tail];
        holds = true;
        for (var nth = 0u; holds && nth < tail.sets; nth++) {
            holds = set_holds(set_tests[tail.first_set + nth], first_code);
        }
    }
    let place = bump(COUNTER_CANDIDATES, u32(holds), local);
    if holds && place < launch.candidates_max {
        candidates[place] = candidate;
    }
}
