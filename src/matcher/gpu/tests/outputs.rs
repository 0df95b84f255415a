//! What batches are reduced to is what the candidates of the definition make, however runs are cut and rules are written.

use super::tables::{Random, Tables, batch};
use crate::flow::{EncodedBatch, Hits};
use crate::id::RuleId;
use crate::matcher::gpu::testing::gpu_or_skip;
use crate::matcher::gpu::{Gpu, GpuError, GpuMatcher, GpuOptions, IN_FLIGHT};
use crate::matcher::output::{Answer, Output, Reduced};
use crate::matcher::plain;
use crate::tables::Candidate;
use crate::tables::artifact::RuleRecord;
use crate::tables::layout::NONE;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

const OUTPUTS: [Output; 8] =
    [Output::Scores, Output::First, Output::Counts, Output::Top(0), Output::Top(1), Output::Top(3), Output::Top(40), Output::Lists];

/// Records whose scores lean on the ends of words and of 64 bits.
fn records(random: &mut Random, tables: &Tables) -> Vec<RuleRecord> {
    let record = |_| RuleRecord {
        score: match random.below(8) {
            0 => 0,
            1 => -1,
            2 => i64::from(u32::MAX) + i64::from(random.below(3)),
            3 => i64::MIN + i64::from(random.below(2)),
            4 => i64::MAX,
            5 => -i64::from(random.below(5000)),
            _ => i64::from(random.below(4)) * 500,
        },
        tenant: NONE,
        outcome: NONE,
        first_tag: 0,
        tags: 0,
        action: random.below(4) as u8,
        status: [0, 0, 0, 1][random.below(4) as usize],
    };
    (0..tables.rules).map(record).collect()
}

/// For each row the rules whose terms hold, each once. Residuals are taken to hold where the row is even.
fn matches(tables: &Tables, batch: &EncodedBatch, candidates: &[Candidate]) -> Vec<BTreeSet<u32>> {
    let mut rows = vec![BTreeSet::new(); batch.rows];
    for candidate in candidates {
        let borrowed = tables.borrowed();
        let is_open = borrowed.tail(candidate.term).is_some_and(|tail| tail.residual != NONE);
        if !is_open || candidate.row % 2 == 0 {
            rows[candidate.row as usize].insert(tables.term_rules[candidate.term as usize]);
        }
    }
    rows
}

/// The definition of the outputs, in words of a common form: for each row its numbers.
fn expected(output: Output, rows: &[BTreeSet<u32>], records: &[RuleRecord]) -> Vec<Vec<i64>> {
    let of_row = |rules: &BTreeSet<u32>| {
        let live: Vec<u32> = rules.iter().copied().filter(|rule| records[*rule as usize].status == 0).collect();
        let record = |rule: &u32| &records[*rule as usize];
        match output {
            Output::Scores => {
                let sum: i128 = live.iter().map(|rule| i128::from(record(rule).score)).sum();
                let sum = sum.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
                vec![sum as i64, live.iter().map(|rule| i64::from(record(rule).action)).max().unwrap_or(0)]
            }
            Output::First => vec![i64::from(live.first().copied().unwrap_or(NONE))],
            Output::Counts => vec![live.len() as i64],
            Output::Top(best) => {
                let mut live = live;
                live.sort_by_key(|rule| (Reverse(record(rule).score), *rule));
                live.iter().take(best as usize).map(|rule| i64::from(*rule)).collect()
            }
            Output::Lists => rules.iter().map(|rule| i64::from(*rule)).collect(),
        }
    };
    rows.iter().map(of_row).collect()
}

/// The same of a reduction, once the host has added what was left to it.
fn completed(reduced: Reduced, tables: &Tables, batch: &EncodedBatch, records: &[RuleRecord]) -> Vec<Vec<i64>> {
    let Reduced { mut reduction, rest } = reduced;
    for (row, rules) in matches(tables, batch, &rest).iter().enumerate() {
        rules.iter().for_each(|rule| reduction.add(row, RuleId(*rule), &records[*rule as usize]));
    }
    let of_hits = |hits: Hits| {
        assert_eq!(hits.rows(), batch.rows);
        (0..hits.rows()).map(|row| hits.row(row).iter().map(|rule| i64::from(rule.0)).collect()).collect()
    };
    let numbers = |rules: Vec<u32>| rules.into_iter().map(|rule| vec![i64::from(rule)]).collect();
    match reduction.answer() {
        Answer::Scores { scores, actions } => {
            scores.into_iter().zip(actions).map(|(score, action)| vec![score, i64::from(action)]).collect()
        }
        Answer::First(rules) | Answer::Counts(rules) => numbers(rules),
        Answer::Top(hits) | Answer::Lists(hits) => of_hits(hits),
    }
}

/// Compares every output over a batch; how many terms were left to the host, and how many hold.
fn check(matcher: &mut GpuMatcher, tables: &Tables, batch: &EncodedBatch, records: &[RuleRecord]) -> (usize, usize) {
    let candidates = plain::candidates(&tables.borrowed(), batch);
    let rows = matches(tables, batch, &candidates);
    let mut left = 0;
    for output in OUTPUTS {
        let reduced = matcher.reduce(batch, output).unwrap();
        left = reduced.rest.len();
        let found = completed(reduced, tables, batch, records);
        let expected = expected(output, &rows, records);
        for row in 0..batch.rows {
            assert_eq!(found[row], expected[row], "{output:?}, row {row} of {}", batch.rows);
        }
    }
    (left, candidates.len())
}

#[test]
fn outputs_are_those_of_the_definition() {
    let Some(gpu) = gpu_or_skip("outputs_are_those_of_the_definition") else { return };
    let (mut left, mut all) = (0, 0);
    for seed in 0..5 {
        let random = &mut Random::new(100 + seed);
        let columns = 1 + random.below(9) as usize;
        let tables = Tables::random(random, columns, 1 + seed as u32, 1 + seed as u32);
        let records = records(random, &tables);
        let mut matcher = GpuMatcher::for_outputs(Arc::clone(&gpu), &tables.borrowed(), &records, GpuOptions::default()).unwrap();
        for rows in [0, 1, 7, 300] {
            let (some, of) = check(&mut matcher, &tables, &batch(random, &tables, rows), &records);
            (left, all) = (left + some, all + of);
        }
    }
    assert!(left > 100 && left * 4 < all * 3, "{left} of {all} terms are left to the host: one of the two sides tests little");
}

#[test]
fn outputs_do_not_depend_on_pages_and_overflows() {
    let Some(gpu) = gpu_or_skip("outputs_do_not_depend_on_pages_and_overflows") else { return };
    let random = &mut Random::new(17);
    let tables = Tables::random(random, 40, 3, 3);
    let records = records(random, &tables);
    let largest = |segment: &crate::tables::Segment| u64::from(segment.slots.max(2 * segment.nodes)) * 192;
    let paged = tables.segments.iter().map(largest).max().unwrap().max(records.len() as u64 * 16);
    let few = GpuOptions { entries: 2, entries_max: 64, line_max: 3, ..GpuOptions::default() };
    for options in [GpuOptions { binding_max: paged, ..GpuOptions::default() }, few, GpuOptions { binding_max: paged, ..few }] {
        let mut matcher = GpuMatcher::for_outputs(Arc::clone(&gpu), &tables.borrowed(), &records, options).unwrap();
        assert!(options.entries == 2 || matcher.pages() > 1);
        check(&mut matcher, &tables, &batch(random, &tables, 30), &records);
    }
}

#[test]
fn batches_in_flight_are_answered_in_order() {
    let Some(gpu) = gpu_or_skip("batches_in_flight_are_answered_in_order") else { return };
    let random = &mut Random::new(23);
    let tables = Tables::random(random, 6, 3, 3);
    let records = records(random, &tables);
    let batches: Vec<EncodedBatch> = [40, 1, 0, 90, 90, 7, 200].map(|rows| batch(random, &tables, rows)).into();
    let mut matcher = GpuMatcher::for_outputs(gpu, &tables.borrowed(), &records, GpuOptions::default()).unwrap();
    for output in OUTPUTS {
        let mut answers = Vec::new();
        matcher.reduce_all(&batches, output, |reduced| answers.push(reduced)).unwrap();
        assert_eq!(answers.len(), batches.len());
        for (reduced, batch) in answers.into_iter().zip(&batches) {
            let rows = matches(&tables, batch, &plain::candidates(&tables.borrowed(), batch));
            assert_eq!(completed(reduced, &tables, batch, &records), expected(output, &rows, &records), "{output:?}");
        }
    }
    assert_eq!(matcher.idle_flights(), IN_FLIGHT, "buffers are used again");
}

#[test]
fn long_lists_are_sorted_by_the_host() {
    let Some(gpu) = gpu_or_skip("long_lists_are_sorted_by_the_host") else { return };
    let random = &mut Random::new(3);
    let mut tables = Tables::random(random, 2, 1, 0);
    tables.segment_of(random, 2, 400);
    tables.partitions[0].segments = 1;
    // Every slot holds, and there are no tails.
    tables.leaf_slots.fill(crate::tables::SlotLanes::ALWAYS);
    tables.nodes.fill(crate::tables::Node { slots: [crate::tables::SlotLanes::ALWAYS; 2] });
    for group in &mut tables.groups {
        (group.tailed, group.first_tail) = (0, 0);
    }
    (0..).zip(&mut tables.term_rules).for_each(|(term, rule)| *rule = term);
    tables.rules = 400 * 32;
    // The last node has lanes without a child.
    tables.nodes.last_mut().unwrap().slots[0] = crate::tables::SlotLanes::IMPOSSIBLE;
    let nodes = tables.nodes.len() as u32 - 1;
    for lane in 0..nodes as usize {
        let root = tables.nodes.last_mut().unwrap();
        (root.slots[0].low[lane], root.slots[0].span[lane]) = (0, u16::MAX);
    }
    let last = &mut tables.nodes[nodes as usize - 1].slots[0];
    for lane in 400 % 32..32 {
        (last.low[lane], last.span[lane]) = (u16::MAX, 0);
    }
    let records = records(random, &tables);
    let mut matcher = GpuMatcher::for_outputs(gpu, &tables.borrowed(), &records, GpuOptions::default()).unwrap();
    let (left, all) = check(&mut matcher, &tables, &batch(random, &tables, 3), &records);
    assert_eq!((left, all), (0, 3 * 400 * 32));
    // Loops that would go round too often are refused.
    assert!(matches!(matcher.reduce(&batch(random, &tables, 3), Output::Top(2000)), Err(GpuError::Batch(_))));
}

#[test]
fn faults_in_the_reductions_are_noticed() {
    if gpu_or_skip("faults_in_the_reductions_are_noticed").is_none() {
        return;
    }
    let random = &mut Random::new(9);
    // Many rules, and so few that a row matches one or none: sums that carry, and results that nothing hides.
    let many = Tables::random(random, 3, 3, 3);
    let mut few = Tables::random(random, 4, 1, 0);
    few.segment_of(random, 0, 1);
    few.partitions[0].segments = 1;
    let cases = [many, few].map(|tables| {
        let records = records(random, &tables);
        let batch = batch(random, &tables, 120);
        (tables, records, batch)
    });
    for (stage, from, to, output) in [
        ("reduce", "> 0xffffffffu - word", "> 0xfffffffeu - word", Output::Scores),
        ("reduce", "let middle = verdict.score_high + carry", "let middle = verdict.score_high", Output::Scores),
        ("reduce", "u32(middle < carry) + ", "", Output::Scores),
        ("reduce", "sign + carry", "sign", Output::Scores),
        ("reduce", "place + 1u, middle", "place, middle", Output::Scores),
        ("reduce", "atomicMax(&results[row * SCORE_WORDS + 3u]", "atomicMin(&results[row * SCORE_WORDS + 3u]", Output::Scores),
        ("reduce", "NONE - rule", "NONE - rule - 1u", Output::First),
        ("reduce", "atomicMax(&results[row]", "atomicAdd(&results[row]", Output::First),
        ("reduce", "atomicAdd(&results[row], 1u)", "atomicMax(&results[row], 1u)", Output::Counts),
        ("reduce", ".live == 1u", ".live <= 1u", Output::Counts),
        ("reduce", "goes_back = is_returned(candidate.term)", "goes_back = false", Output::Counts),
        ("scan", "before += sums[other]", "before = sums[other]", Output::Lists),
        ("scatter", "atomicSub(&results[row], 1u) - 1u", "(atomicSub(&results[row], 1u) - 1u) / 2u", Output::Lists),
        ("order", "listed[first + child] <= rule", "listed[first + child] >= rule", Output::Lists),
        ("top", "bitcast<i32>(a.score_high) > bitcast<i32>(b.score_high)", "a.score_high > b.score_high", Output::Top(40)),
        ("top", "a.score_low > b.score_low", "a.score_low < b.score_low", Output::Top(40)),
        ("top", "rule < other", "rule > other", Output::Top(40)),
    ] {
        let edit = |name: &str, source: &str| {
            assert!(name != stage || source.contains(from), "the shader `{stage}` does not say `{from}`");
            if name == stage { source.replace(from, to) } else { source.to_owned() }
        };
        let gpu = Arc::new(Gpu::with_edited_shaders(&edit).unwrap());
        let differs = cases.iter().any(|(tables, records, batch)| {
            let mut matcher = GpuMatcher::for_outputs(Arc::clone(&gpu), &tables.borrowed(), records, GpuOptions::default()).unwrap();
            // Results that contradict each other are refused.
            let Ok(reduced) = matcher.reduce(batch, output) else { return true };
            let found = completed(reduced, tables, batch, records);
            let rows = matches(tables, batch, &plain::candidates(&tables.borrowed(), batch));
            found != expected(output, &rows, records)
        });
        assert!(differs, "{stage}: `{to}` changes nothing");
    }
}

#[test]
fn what_cannot_be_reduced_is_an_error() {
    let Some(gpu) = gpu_or_skip("what_cannot_be_reduced_is_an_error") else { return };
    let random = &mut Random::new(4);
    let tables = Tables::random(random, 3, 1, 2);
    let records = records(random, &tables);
    let batch = batch(random, &tables, 4);
    let mut matcher = GpuMatcher::new(Arc::clone(&gpu), &tables.borrowed()).unwrap();
    assert!(matches!(matcher.reduce(&batch, Output::Counts), Err(GpuError::Batch(_))));
    let with = |rules| GpuMatcher::for_outputs(Arc::clone(&gpu), &tables.borrowed(), rules, GpuOptions::default());
    assert!(matches!(with(&records[..1]).err(), Some(GpuError::Tables(_))));
    let mut matcher = with(&records).unwrap();
    let ticket = matcher.submit_for(&batch, Output::Counts).unwrap();
    assert!(matches!(matcher.collect(ticket), Err(GpuError::Batch(_))));
}
