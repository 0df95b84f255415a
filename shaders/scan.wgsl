// Counts to offsets: where the rules of each row start in the lists, and, behind the last row, where they end; and the length of the
// longest list. One workgroup; each invocation takes a run of rows.

@group(0) @binding(0) var<uniform> launch: Launch;
@group(0) @binding(1) var<storage, read_write> results: array<u32>;
@group(0) @binding(2) var<storage, read_write> offsets: array<u32>;
@group(0) @binding(3) var<storage, read_write> counters: array<atomic<u32>>;

var<workgroup> sums: array<u32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn scan(@builtin(local_invocation_index) local: u32) {
    let run = (launch.rows + WORKGROUP - 1u) / WORKGROUP;
    let first = min(local * run, launch.rows);
    let end = min(first + run, launch.rows);
    var sum = 0u;
    var longest = 0u;
    for (var row = first; row < end; row++) {
        sum += results[row];
        longest = max(longest, results[row]);
    }
    atomicMax(&counters[COUNTER_LONGEST], longest);
    sums[local] = sum;
    workgroupBarrier();
    var before = 0u;
    for (var other = 0u; other < local; other++) {
        before += sums[other];
    }
    for (var row = first; row < end; row++) {
        offsets[row] = before;
        before += results[row];
    }
    if local == WORKGROUP - 1u {
        offsets[launch.rows] = before;
    }
}
