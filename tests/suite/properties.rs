//! What must hold whatever the rules.

use crate::compare::{artifact_of, cpu_matchers, part_of, reference_of};
use crate::forge::range;
use crate::generate::{Case, batch};
use crate::random::{Random, cases, seed};
use dynamic_cep::engine::Generation;
use dynamic_cep::event::batch::value_at;
use dynamic_cep::event::{EventBatch, Value};
use dynamic_cep::expr::columns::Cache;
use dynamic_cep::expr::scalar;
use dynamic_cep::flow::Hits;
use dynamic_cep::id::RuleId;
use dynamic_cep::rule::{Limits, Rule};
use dynamic_cep::tables::Artifact;
use dynamic_cep::tables::artifact::{ColumnSource, Section};
use std::cmp::Ordering;
use std::sync::Arc;

fn hits(artifact: &[u8], batch: &EventBatch) -> Hits {
    let artifact = Arc::new(Artifact::from_bytes(artifact).unwrap());
    let generation = Generation::new(artifact).unwrap();
    let mut cache = Cache::new();
    let encoded = generation.encode(batch, &mut cache);
    let (_, matcher) = &mut cpu_matchers()[1];
    let found = matcher(&generation.artifact().tables(), &encoded);
    generation.verify(batch, found, &mut cache)
}

/// Equal rules give equal bytes, however many threads compile them: with residuals, many tenants, and more derived columns than there is room for.
#[test]
fn compiling_is_deterministic() {
    let random = &mut Random::new(seed("compiling_is_deterministic"));
    let mut case = Case::new(random, 300);
    let expressions = (0..9_000).map(|nth| match nth % 3 {
        0 => format!("i0 + {} > {} AND u0 < {nth}", nth % 400, nth % 17),
        1 => format!("LENGTH(t0) * i0 = {} OR i0 = {nth}", nth % 9),
        _ => format!("ABS(f0) > {} AND t0 LIKE '%{nth}%'", nth % 31),
    });
    let quoted = |when: String| {
        // A column whose name must be quoted stands for the one without.
        case.schema
            .fields()
            .iter()
            .filter(|field| field.name.contains(' '))
            .fold(when, |when, field| when.replace(&field.name.replace(' ', ""), &format!("\"{}\"", field.name)))
    };
    let more: Vec<Rule> = expressions
        .enumerate()
        .map(|(nth, when)| Rule {
            id: format!("more-{nth}").into(),
            tenant: case.schema.tenant.and((nth % 2 == 0).then(|| format!("tenant-{}", nth % 77).into())),
            when: quoted(when).into(),
            ..case.rules[0].clone()
        })
        .collect();
    case.rules.extend(more);
    let limits = Limits { derived_columns: 100, ..Limits::default() };
    let one = artifact_of(&case.schema, &case.rules, &limits, 1);
    let artifact = Artifact::from_bytes(&one).unwrap();
    let derived = artifact.manifest().columns.iter().filter(|column| matches!(column.source, ColumnSource::Derived(_))).count();
    assert_eq!(derived, 100);
    assert!(!artifact.residuals().unwrap().is_empty());
    for threads in [1, 2, 5] {
        assert!(artifact_of(&case.schema, &case.rules, &limits, threads) == one, "{threads} threads");
    }
}

/// What `inspect` prints of a rule is a rule that says the same: compiled again, the tables and the hits are the same, and so is the text.
#[test]
fn canonical_texts_compile_to_the_same() {
    let first = seed("canonical_texts_compile_to_the_same");
    for seed in (0..cases(80)).map(|nth| first.wrapping_add(nth)) {
        let random = &mut Random::new(seed);
        let case = Case::new(random, 20);
        let limits = Limits::default();
        let bytes = artifact_of(&case.schema, &case.rules, &limits, 1);
        let artifact = Artifact::from_bytes(&bytes).unwrap();
        let text = |rule| artifact.source(RuleId::new(rule)).unwrap();
        let again: Vec<Rule> = case.rules.iter().enumerate().map(|(nth, rule)| Rule { when: text(nth).into(), ..rule.clone() }).collect();
        let bytes_again = artifact_of(&case.schema, &again, &Limits::unlimited(), 1);
        let artifact_again = Artifact::from_bytes(&bytes_again).unwrap();
        for rule in 0..again.len() {
            assert_eq!(text(rule), artifact_again.source(RuleId::new(rule)).unwrap(), "seed {seed}: {}", case.rules[rule].when);
        }
        // Expressions may be written in another way that means the same; the tables have only one.
        for &section in &Section::ALL[Section::Partitions as usize - 1..Section::Rules as usize] {
            let (once, twice) = (&bytes[range(&bytes, section)], &bytes_again[range(&bytes_again, section)]);
            assert!(once == twice, "seed {seed}: the canonical texts compile to another section {section:?}");
        }
        let batch = batch(random, &case.schema, &case.pool, 20);
        assert_eq!(hits(&bytes, &batch), hits(&bytes_again, &batch), "seed {seed}");
    }
}

/// How a stream is cut into batches changes no hit.
#[test]
fn batches_do_not_matter() {
    let first = seed("batches_do_not_matter");
    for seed in (0..cases(60)).map(|nth| first.wrapping_add(nth)) {
        let random = &mut Random::new(seed);
        let case = Case::new(random, 25);
        let bytes = artifact_of(&case.schema, &case.rules, &Limits::default(), 1);
        let batch = batch(random, &case.schema, &case.pool, 120);
        let whole = hits(&bytes, &batch);
        assert_eq!(whole, reference_of(&bytes).hits(&batch), "seed {seed}");
        let mut row = 0;
        while row < batch.rows() {
            let rows = (1 + random.below(40)).min(batch.rows() - row);
            let part = hits(&bytes, &part_of(&case.schema, &batch, row, rows));
            for nth in 0..rows {
                assert_eq!(part.row(nth), whole.row(row + nth), "seed {seed}, row {}", row + nth);
            }
            row += rows;
        }
    }
}

/// Codes sort as the values do, NULL first; of texts that are only compared for equality, equal ones have equal codes.
#[test]
fn codes_sort_as_values_do() {
    let first = seed("codes_sort_as_values_do");
    for seed in (0..cases(100)).map(|nth| first.wrapping_add(nth)) {
        let random = &mut Random::new(seed);
        let case = Case::new(random, 12);
        let bytes = artifact_of(&case.schema, &case.rules, &Limits::default(), 1);
        let generation = Generation::new(Arc::new(Artifact::from_bytes(&bytes).unwrap())).unwrap();
        let batch = batch(random, &case.schema, &case.pool, 60);
        let encoded = generation.encode(&batch, &mut Cache::new());
        for (position, column) in generation.artifact().manifest().columns.iter().enumerate() {
            let (values, ty) = match &column.source {
                ColumnSource::Field(field) => (batch.column_or_null(&case.schema, *field), case.schema.field(*field).ty),
                ColumnSource::Derived(expr) => {
                    let program = dynamic_cep::expr::columns::Program::new(expr.clone());
                    (program.evaluate(&case.schema, &batch, None, &mut Cache::new()), expr.ty(expr.root()))
                }
            };
            let mut coded: Vec<(u32, Value)> =
                (0..batch.rows()).map(|row| (encoded.row(row)[position], value_at(values.as_ref(), ty, row))).collect();
            coded.sort_by_key(|(code, _)| *code);
            for pair in coded.windows(2) {
                let [(low, a), (high, b)] = pair else { unreachable!("windows of two") };
                assert_eq!(a.is_null(), *low == 0, "{a:?} has the code {low}");
                match scalar::compare(a, b) {
                    Some(Ordering::Equal) => assert_eq!(low, high, "{a:?} and {b:?}"),
                    Some(Ordering::Less) | None => {}
                    // Values between the same two thresholds share a code, in any order.
                    Some(Ordering::Greater) => assert!(low == high || column.points_only, "{a:?} has {low}, {b:?} has {high}"),
                }
            }
        }
        assert!((0..batch.rows()).all(|row| encoded.partitions[row] == 0 || case.schema.tenant.is_some()));
    }
}
