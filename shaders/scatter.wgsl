// Candidates to lists: each row's rules, in no particular order, from its offset on. One invocation a candidate.

@group(0) @binding(0) var<uniform> launch: Launch;
@group(0) @binding(1) var<storage, read> groups: array<ResidentGroup>;
@group(0) @binding(2) var<storage, read> term_rules: array<u32>;
@group(0) @binding(3) var<storage, read> verdicts: array<Verdict>;
@group(0) @binding(4) var<storage, read> candidates: array<Candidate>;
@group(0) @binding(5) var<storage, read> offsets: array<u32>;
@group(0) @binding(6) var<storage, read_write> results: array<atomic<u32>>;
@group(0) @binding(7) var<storage, read_write> listed: array<u32>;
@group(0) @binding(8) var<storage, read_write> counters: array<atomic<u32>>;

@compute @workgroup_size(WORKGROUP)
fn scatter(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let at = (workgroup.y * launch.line + workgroup.x) * WORKGROUP + local;
    if at >= min(atomicLoad(&counters[launch.source]), launch.source_max) {
        return;
    }
    let candidate = candidates[at];
    if is_returned(candidate.term) {
        return;
    }
    let rule = rule_of(candidate.term);
    if is_counted(rule) {
        // The row's count is used up: what is left of it says which place is free.
        let row = candidate.row - launch.first_row;
        listed[offsets[row] + atomicSub(&results[row], 1u) - 1u] = rule;
    }
}
