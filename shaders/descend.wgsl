// One level down: each frontier pair tests its node's block, one invocation a lane, and puts the children that survive on the
// next frontier.

@group(0) @binding(0) var<uniform> launch: Launch;
@group(0) @binding(1) var<storage, read> nodes: array<Block>;
@group(0) @binding(2) var<storage, read> node_children: array<u32>;
@group(0) @binding(3) var<storage, read> codes: array<u32>;
@group(0) @binding(4) var<storage, read> frontier: array<Pair>;
@group(0) @binding(5) var<storage, read_write> next: array<Pair>;
@group(0) @binding(6) var<storage, read_write> counters: array<atomic<u32>>;

@compute @workgroup_size(WORKGROUP)
fn descend(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let at = (workgroup.y * launch.line + workgroup.x) * WORKGROUP_PAIRS + local / LANES;
    let lane = local % LANES;
    var holds = false;
    var child = Pair(0u, 0u);
    if at < min(atomicLoad(&counters[launch.source]), launch.source_max) {
        let pair = frontier[at];
        let node = pair.place - launch.first_node;
        let low = vec2(nodes[node].low0[lane], nodes[node].low1[lane]);
        let span = vec2(nodes[node].span0[lane], nodes[node].span1[lane]);
        holds = slots_hold(nodes[node].columns[lane], low, span, pair.row * launch.columns);
        child = Pair(node_children[node] + lane, pair.row);
    }
    let place = bump(launch.sink, u32(holds), local);
    if holds && place < launch.sink_max {
        next[place] = child;
    }
}
