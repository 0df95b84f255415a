// Lists to each row's rules of highest score, best first; of equal scores the lower rule is better. One workgroup a row, which
// goes through the list once for each place.

@group(0) @binding(0) var<uniform> launch: Launch;
@group(0) @binding(1) var<storage, read> verdicts: array<Verdict>;
@group(0) @binding(2) var<storage, read> offsets: array<u32>;
@group(0) @binding(3) var<storage, read> listed: array<u32>;
@group(0) @binding(4) var<storage, read_write> best: array<u32>;

// Any rule is better than none.
fn is_better(rule: u32, other: u32) -> bool {
    if rule == NONE || other == NONE {
        return rule != NONE;
    }
    let a = verdicts[rule];
    let b = verdicts[other];
    if a.score_high != b.score_high {
        return bitcast<i32>(a.score_high) > bitcast<i32>(b.score_high);
    }
    if a.score_low != b.score_low {
        return a.score_low > b.score_low;
    }
    return rule < other;
}

var<workgroup> found: array<u32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn top(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = workgroup.y * launch.line + workgroup.x;
    if row >= launch.rows {
        return;
    }
    var last = NONE;
    for (var place = 0u; place < launch.best; place++) {
        // The best rule that is worse than the last one: among those of this invocation, then among all.
        var mine = NONE;
        for (var at = offsets[row] + local; at < offsets[row + 1u]; at += WORKGROUP) {
            let rule = listed[at];
            if (place == 0u || is_better(last, rule)) && is_better(rule, mine) {
                mine = rule;
            }
        }
        found[local] = mine;
        workgroupBarrier();
        for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
            if local < half && is_better(found[local + half], found[local]) {
                found[local] = found[local + half];
            }
            workgroupBarrier();
        }
        last = workgroupUniformLoad(&found[0]);
        if local == 0u {
            best[row * launch.best + place] = last;
        }
        if last == NONE {
            for (var rest = place + local; rest < launch.best; rest += WORKGROUP) {
                best[row * launch.best + rest] = NONE;
            }
            return;
        }
    }
}
