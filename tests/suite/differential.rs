//! Random rules over random events: reference = cpu = portable = plain = gpu, bit for bit. And faults planted in each stage, which the same
//! comparison must notice.

use crate::compare::{Engines, artifact_of, compare, explain, reference_of};
use crate::generate::{Case, Writer, batch};
use crate::random::{CASES, Random, cases, seed};
use arrow::array::{ArrayRef, DictionaryArray, Float64Array, Int64Array};
use arrow::datatypes::Int32Type;
use dynamic_cep::event::{EventBatch, Field, Schema, Type};
use dynamic_cep::rule::Limits;
use std::sync::Arc;

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
    for (seed, count) in cases_of("back_ends_agree_on_many_rules", 3).zip([3_000, 5_000, 12_000].into_iter().cycle()) {
        let random = &mut Random::new(seed);
        let few = Case::new(random, 0);
        let schema = few.schema.clone();
        let mut writer_random = Random::new(seed ^ 1);
        let mut writer = Writer::new(&few.schema, &few.pool, &mut writer_random);
        let conditions: Vec<String> = (0..count).map(|_| writer.plain()).collect();
        let case = Case { pool: few.pool, ..Case::of_conditions(random, schema, conditions.into_iter()) };
        let artifact = artifact_of(&case.schema, &case.rules, &Limits::default(), 2);
        let engines = engines(&artifact, "back_ends_agree_on_many_rules");
        assert!(engines.generation.artifact().tables().segments.iter().any(|segment| segment.height >= 2));
        check(&case, &artifact, engines, random, &[1, 30], seed);
    }
}

fn engines<'a>(artifact: &[u8], test: &str) -> Engines<'a> {
    #[cfg(feature = "gpu")]
    if let Some(gpu) = dynamic_cep::matcher::gpu::testing::gpu_or_skip(test) {
        return Engines::with_gpu(artifact, &gpu);
    }
    let _ = test;
    Engines::on_cpu(artifact)
}

/// More terms than a segment holds: sixteen alternatives a rule, each of which becomes a row of the tables.
#[test]
fn back_ends_agree_on_several_segments() {
    let seed = seed("back_ends_agree_on_several_segments");
    let random = &mut Random::new(seed);
    let field = |name: &str, ty| Field { name: name.to_owned(), ty };
    let schema = Schema::new(vec![field("n", Type::Int), field("x", Type::Float), field("t", Type::Text)]).unwrap();
    let mut numbers = random.clone();
    let conditions = (0..5_800).map(|nth| {
        let alternative = |_| format!("n = {} AND x > {} AND t <> 't{}'", numbers.below(600) * 2, numbers.below(40), nth % 9);
        (0..16).map(alternative).collect::<Vec<String>>().join(" OR ")
    });
    let case = Case::of_conditions(random, schema, conditions);
    let artifact = artifact_of(&case.schema, &case.rules, &Limits::default(), 2);
    let mut engines = engines(&artifact, "back_ends_agree_on_several_segments");
    let partition = engines.generation.artifact().tables().partitions[0];
    assert!(partition.segments > 1, "{partition:?}");
    let reference = reference_of(&artifact);
    let texts = (0..40).map(|row| if row % 10 == 9 { None } else { Some(["t1", "t2", "a"][row % 3]) });
    let columns: Vec<Option<ArrayRef>> = vec![
        Some(Arc::new((0..40).map(|_| Some(random.below(1_210) as i64)).collect::<Int64Array>())),
        Some(Arc::new((0..40).map(|_| Some(random.below(45) as f64)).collect::<Float64Array>())),
        Some(Arc::new(texts.collect::<DictionaryArray<Int32Type>>())),
    ];
    let batch = EventBatch::new(&case.schema, 0, 40, columns);
    match compare(&case.rules, &reference, &mut engines, &batch) {
        Ok(hits) => assert!(hits > 100, "{hits}"),
        Err(difference) => panic!("{}", explain(&case.schema, &case.rules, &batch, &difference)),
    }
}
