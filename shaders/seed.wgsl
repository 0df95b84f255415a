// Rows to the roots they start from: for each row, the roots at one height of the bound page's segments, of partition 0 (every
// tenant) and of the row's own partition. One invocation a row.

@group(0) @binding(0) var<uniform> launch: Launch;
@group(0) @binding(1) var<storage, read> partitions: array<Partition>;
@group(0) @binding(2) var<storage, read> segments: array<Segment>;
@group(0) @binding(3) var<storage, read> row_partitions: array<u32>;
@group(0) @binding(4) var<storage, read_write> frontier: array<Pair>;
@group(0) @binding(5) var<storage, read_write> counters: array<atomic<u32>>;

// The part of a partition's segments that lies on the bound page, relative to the page: first, end.
fn segments_on_page(index: u32) -> vec2<u32> {
    let run = partitions[index];
    let page_end = launch.first_segment + launch.segments;
    let first = clamp(run.first_segment, launch.first_segment, page_end);
    let end = clamp(run.first_segment + run.segments, first, page_end);
    return vec2(first, end) - launch.first_segment;
}

@compute @workgroup_size(WORKGROUP)
fn seed(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let nth = (workgroup.y * launch.line + workgroup.x) * WORKGROUP + local;
    let row = launch.first_row + nth;
    var everyones = vec2(0u);
    var own = vec2(0u);
    if nth < launch.rows {
        everyones = segments_on_page(0u);
        let tenant = row_partitions[row];
        if tenant != 0u && tenant < launch.partitions {
            own = segments_on_page(tenant);
        }
    }
    var roots = 0u;
    for (var i = everyones.x; i < everyones.y; i++) {
        roots += u32(segments[i].height == launch.height);
    }
    for (var i = own.x; i < own.y; i++) {
        roots += u32(segments[i].height == launch.height);
    }
    var place = bump(launch.sink, roots, local);
    for (var i = everyones.x; i < everyones.y; i++) {
        if segments[i].height == launch.height {
            if place < launch.sink_max {
                frontier[place] = Pair(segments[i].root, row);
            }
            place++;
        }
    }
    for (var i = own.x; i < own.y; i++) {
        if segments[i].height == launch.height {
            if place < launch.sink_max {
                frontier[place] = Pair(segments[i].root, row);
            }
            place++;
        }
    }
}
