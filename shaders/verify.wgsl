// The exact test: each (group, row) pair tests every block of the group's chain, one invocation a lane. A term that passes is a
// candidate; one that has a tail is left open for `settle`.

@group(0) @binding(0) var<uniform> launch: Launch;
@group(0) @binding(1) var<storage, read> groups: array<Group>;
@group(0) @binding(2) var<storage, read> leaf_blocks: array<Block>;
@group(0) @binding(3) var<storage, read> terms: array<Term>;
@group(0) @binding(4) var<storage, read> codes: array<u32>;
@group(0) @binding(5) var<storage, read> frontier: array<Pair>;
@group(0) @binding(6) var<storage, read_write> candidates: array<Candidate>;
@group(0) @binding(7) var<storage, read_write> open: array<Candidate>;
@group(0) @binding(8) var<storage, read_write> counters: array<atomic<u32>>;

@compute @workgroup_size(WORKGROUP)
fn verify(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let at = (workgroup.y * launch.line + workgroup.x) * WORKGROUP_PAIRS + local / LANES;
    let lane = local % LANES;
    var passes = false;
    var has_tail = false;
    var candidate = Candidate(0u, 0u);
    if at < min(atomicLoad(&counters[launch.source]), launch.source_max) {
        let pair = frontier[at];
        let first_code = pair.row * launch.columns;
        let group = pair.place - launch.first_group;
        let term = terms[group * LANES + lane];
        passes = term.rule != NONE;
        has_tail = term.tail != NONE;
        candidate = Candidate(pair.row, pair.place * LANES + lane);
        let first = groups[group].first_block - launch.first_block;
        let end = first + groups[group].blocks;
        for (var block = first; passes && block < end; block++) {
            let low = vec2(leaf_blocks[block].low0[lane], leaf_blocks[block].low1[lane]);
            let span = vec2(leaf_blocks[block].span0[lane], leaf_blocks[block].span1[lane]);
            passes = slots_hold(leaf_blocks[block].columns[lane], low, span, first_code);
        }
    }
    let settled = bump(COUNTER_CANDIDATES, u32(passes && !has_tail), local);
    if passes && !has_tail && settled < launch.candidates_max {
        candidates[settled] = candidate;
    }
    let left = bump(COUNTER_OPEN, u32(passes && has_tail), local);
    if passes && has_tail && left < launch.open_max {
        open[left] = candidate;
    }
}
