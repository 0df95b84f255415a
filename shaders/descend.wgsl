// One level down: each frontier pair tests its node's two slots, one invocation a lane, and puts the children that survive on
// the next frontier.

@group(0) @binding(0) var<uniform> launch: Launch;
@group(0) @binding(1) var<storage, read> nodes: array<Node>;
@group(0) @binding(2) var<storage, read> node_children: array<u32>;
@group(0) @binding(3) var<storage, read> codes: array<u32>;
@group(0) @binding(4) var<storage, read> frontier: array<Pair>;
@group(0) @binding(5) var<storage, read_write> next: array<Pair>;
@group(0) @binding(6) var<storage, read_write> counters: array<atomic<u32>>;

fn slot_holds(node: u32, slot: u32, lane: u32, row: u32) -> bool {
    let column = of_lane(nodes[node].slots[slot].columns[lane / 2u], lane);
    let low = of_lane(nodes[node].slots[slot].low[lane / 2u], lane);
    let span = of_lane(nodes[node].slots[slot].span[lane / 2u], lane);
    return bucket_offset(row, column, low) <= span;
}

@compute @workgroup_size(WORKGROUP)
fn descend(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let at = (workgroup.y * launch.line + workgroup.x) * WORKGROUP_PAIRS + local / LANES;
    let lane = local % LANES;
    var holds = false;
    var child = Pair(0u, 0u);
    if at < min(atomicLoad(&counters[launch.source]), launch.source_max) {
        let pair = frontier[at];
        let node = pair.place - launch.first_node;
        let row = pair.row * launch.columns;
        holds = slot_holds(node, 0u, lane, row) && slot_holds(node, 1u, lane, row);
        child = Pair(node_children[node] + lane, pair.row);
    }
    let place = bump(launch.sink, u32(holds), local);
    if holds && place < launch.sink_max {
        next[place] = child;
    }
}
