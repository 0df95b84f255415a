// Lists in the order of their rules, sorted as heaps in place. One invocation a row; the host sorts the rows that are too long
// for one.

@group(0) @binding(0) var<uniform> launch: Launch;
@group(0) @binding(1) var<storage, read> offsets: array<u32>;
@group(0) @binding(2) var<storage, read_write> listed: array<u32>;

// Moves the rule at `at` down to its place in the heap of `rules` rules from `first` on.
fn sift(first: u32, rules: u32, at: u32) {
    let rule = listed[first + at];
    var hole = at;
    loop {
        var child = 2u * hole + 1u;
        if child >= rules {
            break;
        }
        if child + 1u < rules && listed[first + child + 1u] > listed[first + child] {
            child++;
        }
        if listed[first + child] <= rule {
            break;
        }
        listed[first + hole] = listed[first + child];
        hole = child;
    }
    listed[first + hole] = rule;
}

@compute @workgroup_size(WORKGROUP)
fn order(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = (workgroup.y * launch.line + workgroup.x) * WORKGROUP + local;
    if row >= launch.rows {
        return;
    }
    let first = offsets[row];
    let rules = offsets[row + 1u] - first;
    if rules < 2u || rules > ORDERED_MAX {
        return;
    }
    for (var at = rules / 2u; at > 0u; at--) {
        sift(first, rules, at - 1u);
    }
    for (var last = rules - 1u; last > 0u; last--) {
        let highest = listed[first];
        listed[first] = listed[first + last];
        listed[first + last] = highest;
        sift(first, last, 0u);
    }
}
