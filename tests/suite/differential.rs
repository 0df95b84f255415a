//! Random rules over random events: reference = cpu = portable = plain = gpu, bit for bit. And faults planted in each stage, which the same
//! comparison must notice.

use crate::compare::{Engines, artifact_of, compare, explain, reference_of};
use crate::generate::{Case, Writer, batch};
use crate::random::{CASES, Random, cases, seed};
use dynamic_cep::event::key::Key;
use dynamic_cep::event::set::{Interval, Place, Set};
use dynamic_cep::flow::EncodedBatch;
use dynamic_cep::matcher::cpu::{self, Isa, Visit};
use dynamic_cep::matcher::plain;
use dynamic_cep::rule::Limits;
use dynamic_cep::tables::builder::{BatchNumbers, TermBatch};
use dynamic_cep::tables::layout::{LANES, NONE, SEGMENT_GROUPS_MAX};
use dynamic_cep::tables::{Candidate, TableBuilder};

/// Sizes of batches; the last one is for few cases.
const ROWS: [usize; 5] = [0, 1, 2, 17, 300];

/// Compares all back ends over one case.
fn check(case: &Case, artifact: &[u8], mut engines: Engines, random: &mut Random, rows: &[usize], seed: u64) -> usize {
    let reference = reference_of(artifact);
    let mut hits = 0;
    for &rows in rows {
        let batch = batch(random, &case.schema, &case.pool, rows);
        match compare(&case.rules, &reference, &mut engines, &batch) {
            Ok(found) => hits += found,
            Err(difference) => {
                let text = explain(&case.schema, &case.rules, &batch, &difference);
                panic!("case with DYNAMIC_CEP_SEED={seed}\n{text}");
            }
        }
    }
    hits
}

/// Each case has a seed of its own, so that a failing one runs alone: its seed is the first case of a run with it.
fn cases_of(test: &str, usual: u64) -> impl Iterator<Item = u64> {
    let first = seed(test);
    (0..cases(usual)).map(move |nth| first.wrapping_add(nth))
}

#[test]
fn back_ends_agree_on_random_rules() {
    let (mut hits, mut rules) = (0, 0);
    for seed in cases_of("back_ends_agree_on_random_rules", CASES) {
        let random = &mut Random::new(seed);
        let count = if random.one_in(4) { 1 + random.below(50) } else { 1 + random.below(8) };
        let case = Case::new(random, count);
        // Few terms and few derived columns leave more to residuals.
        let terms = *random.pick(&[64, 64, 1, 4, 1000]);
        let derived_columns = *random.pick(&[256, 256, 0, 3]);
        let limits = Limits { terms, derived_columns, ..Limits::default() };
        let artifact = artifact_of(&case.schema, &case.rules, &limits, 1);
        let sizes = if random.one_in(12) { &ROWS[..] } else { &ROWS[1..4] };
        hits += check(&case, &artifact, Engines::on_cpu(&artifact), random, sizes, seed);
        rules += count;
    }
    eprintln!("{rules} rules, {hits} hits");
    assert!(hits > rules / 4, "most cases ought to have hits: {hits} of {rules} rules");
}

#[cfg(feature = "gpu")]
#[test]
fn the_gpu_agrees_on_random_rules() {
    use dynamic_cep::matcher::gpu::testing::gpu_or_skip;
    let Some(gpu) = gpu_or_skip("the_gpu_agrees_on_random_rules") else { return };
    for seed in cases_of("the_gpu_agrees_on_random_rules", 120) {
        let random = &mut Random::new(seed);
        let count = 1 + random.below(60);
        let case = Case::new(random, count);
        let artifact = artifact_of(&case.schema, &case.rules, &Limits::default(), 1);
        check(&case, &artifact, Engines::with_gpu(&artifact, &gpu), random, &ROWS[1..4], seed);
    }
}

/// Thousands of rules: trees of several levels.
#[test]
fn back_ends_agree_on_many_rules() {
    let mut high = false;
    for (seed, count) in cases_of("back_ends_agree_on_many_rules", 3).zip([16_000, 3_000, 6_000].into_iter().cycle()) {
        let random = &mut Random::new(seed);
        let few = Case::new(random, 0);
        let schema = few.schema.clone();
        let mut writer_random = Random::new(seed ^ 1);
        let mut writer = Writer::new(&few.schema, &few.pool, &mut writer_random);
        let conditions: Vec<String> = (0..count).map(|_| writer.plain()).collect();
        let case = Case { pool: few.pool, ..Case::of_conditions(random, schema, conditions.into_iter()) };
        let artifact = artifact_of(&case.schema, &case.rules, &Limits::default(), 2);
        let engines = engines(&artifact, "back_ends_agree_on_many_rules");
        high |= engines.generation.artifact().tables().segments.iter().any(|segment| segment.height >= 2);
        check(&case, &artifact, engines, random, &[1, 30], seed);
    }
    assert!(high, "the first set has a tree of several levels");
}

fn engines<'a>(artifact: &[u8], test: &str) -> Engines<'a> {
    #[cfg(feature = "gpu")]
    if let Some(gpu) = dynamic_cep::matcher::gpu::testing::gpu_or_skip(test) {
        return Engines::with_gpu(artifact, &gpu);
    }
    let _ = test;
    Engines::on_cpu(artifact)
}

/// More terms than a segment holds: the matchers agree with the definition, with the rules as with the codes made up.
#[test]
fn matchers_agree_on_several_segments() {
    let random = &mut Random::new(seed("matchers_agree_on_several_segments"));
    let mut builder = TableBuilder::default();
    let key = |value: usize| Key::Narrow(value as u64);
    for rule in 0..SEGMENT_GROUPS_MAX * LANES + 3_000 {
        let equal = Set::of(vec![Interval::point(key(random.below(40_000) * 2))]);
        let least = Interval { low: Some(Place::at(key(random.below(900) * 2))), high: None };
        let mut batch = TermBatch::default();
        batch.push([(0, equal), (1, Set::of(vec![least]))], NONE);
        let mut numbers = BatchNumbers::new(&batch);
        for column in 0..2 {
            numbers.column(column, || column);
        }
        builder.append(0, rule as u32, (&batch, 0..1), &mut numbers, |residual| residual);
    }
    let built = builder.finish(2, 1, 2);
    let tables = built.view(16);
    assert!(tables.partitions[0].segments > 1 && !tables.tails.is_empty(), "{:?}", tables.partitions);
    let rows = 10;
    let mut batch = EncodedBatch { rows, columns: 16, codes: vec![0; rows * 16], partitions: vec![0; rows] };
    for (row, codes) in batch.codes.chunks_exact_mut(16).enumerate() {
        for (code, thresholds) in codes.iter_mut().zip(&built.thresholds) {
            *code = random.below(2 * thresholds.keys.len() + 2) as u32 * thresholds.step;
        }
        // Every other row has a value that rules ask for, and passes what else they ask.
        if row % 2 == 0 {
            let [equal, least] = &built.thresholds[..] else { unreachable!("two columns") };
            codes[0] = (2 * random.below(equal.keys.len()) as u32 + 2) * equal.step;
            codes[1] = (2 * least.keys.len() as u32 + 1) * least.step;
        }
    }
    let expected = plain::candidates(&tables, &batch);
    assert!(expected.len() > rows, "{}", expected.len());
    let check = |name, mut found: Vec<Candidate>| {
        found.sort_unstable();
        assert!(found == expected, "{name}: {} candidates instead of {}", found.len(), expected.len());
    };
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let mut found = Vec::new();
        cpu::candidates_by(isa, &tables, &batch, Visit::Both, &mut found);
        check(format!("{isa:?}"), found);
    }
    #[cfg(feature = "gpu")]
    if let Some(gpu) = dynamic_cep::matcher::gpu::testing::gpu_or_skip("matchers_agree_on_several_segments") {
        let mut matcher = dynamic_cep::matcher::gpu::GpuMatcher::new(gpu, &tables).unwrap();
        check("gpu".to_owned(), matcher.candidates(&batch).unwrap());
    }
}
