// A count to a dispatch: how many workgroups the next stage needs for the entries that the stages before it have counted.

@group(0) @binding(0) var<uniform> launch: Launch;
@group(0) @binding(1) var<storage, read_write> counters: array<atomic<u32>>;
@group(0) @binding(2) var<storage, read_write> workgroups: array<u32>;

@compute @workgroup_size(1)
fn plan() {
    let entries = min(atomicLoad(&counters[launch.source]), launch.source_max);
    let needed = (entries + launch.workgroup_entries - 1u) / launch.workgroup_entries;
    workgroups[0] = min(needed, launch.line);
    workgroups[1] = (needed + launch.line - 1u) / launch.line;
    workgroups[2] = 1u;
}
