// Candidates to one result a row: sums of scores, the first rule, or the number of rules. Terms whose rules the host decides are
// handed back. One invocation a candidate; every result is the same in whichever order the candidates come.

@group(0) @binding(0) var<uniform> launch: Launch;
@group(0) @binding(1) var<storage, read> groups: array<ResidentGroup>;
@group(0) @binding(2) var<storage, read> term_rules: array<u32>;
@group(0) @binding(3) var<storage, read> verdicts: array<Verdict>;
@group(0) @binding(4) var<storage, read> candidates: array<Candidate>;
@group(0) @binding(5) var<storage, read_write> results: array<atomic<u32>>;
@group(0) @binding(6) var<storage, read_write> returned: array<Candidate>;
@group(0) @binding(7) var<storage, read_write> counters: array<atomic<u32>>;

// Adds to one word of a sum; 1 if it carries into the next.
fn add_word(place: u32, word: u32) -> u32 {
    if word == 0u {
        return 0u;
    }
    return u32(atomicAdd(&results[place], word) > 0xffffffffu - word);
}

// Adds a score of 64 bits to a sum of 96, which 2^32 of them cannot leave. Each carry is seen by exactly one invocation.
fn add_score(place: u32, verdict: Verdict) {
    var carry = add_word(place, verdict.score_low);
    let middle = verdict.score_high + carry;
    // Where the addition of the carry wraps, the carry goes on by itself.
    carry = u32(middle < carry) + add_word(place + 1u, middle);
    let sign = select(0u, 0xffffffffu, (verdict.score_high >> 31u) == 1u);
    add_word(place + 2u, sign + carry);
}

fn reduce_rule(row: u32, rule: u32) {
    if !is_counted(rule) {
        return;
    }
    if launch.output == OUTPUT_SCORES {
        let verdict = verdicts[rule];
        add_score(row * SCORE_WORDS, verdict);
        if verdict.action > 0u {
            atomicMax(&results[row * SCORE_WORDS + 3u], verdict.action);
        }
    } else if launch.output == OUTPUT_FIRST {
        // The results start as 0, which is no rule.
        atomicMax(&results[row], NONE - rule);
    } else {
        atomicAdd(&results[row], 1u);
    }
}

@compute @workgroup_size(WORKGROUP)
fn reduce(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let at = (workgroup.y * launch.line + workgroup.x) * WORKGROUP + local;
    var goes_back = false;
    var candidate = Candidate(0u, 0u);
    if at < min(atomicLoad(&counters[launch.source]), launch.source_max) {
        candidate = candidates[at];
        goes_back = is_returned(candidate.term);
        if !goes_back {
            reduce_rule(candidate.row - launch.first_row, rule_of(candidate.term));
        }
    }
    let place = bump(COUNTER_RETURNED, u32(goes_back), local);
    if goes_back && place < launch.candidates_max {
        returned[place] = candidate;
    }
}
