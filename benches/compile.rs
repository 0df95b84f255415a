//! From text to typed conditions, and from bulk rules to an artifact.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dynamic_cep::event::Schema;
use dynamic_cep::rule::lists::Lists;
use dynamic_cep::rule::{Limits, Origin, check, print};
use dynamic_cep::tables::Artifact;
use dynamic_cep::workload::{Generator, Workload, compiled, rules};
use std::hint::black_box;
use std::time::Duration;

/// Conditions typed in one iteration.
const CONDITIONS: usize = 1000;

fn check_all(conditions: &[String], schema: &Schema) -> usize {
    let (lists, limits, origin) = (Lists::new(), Limits::default(), Origin::default());
    let scope = check::Scope { schema, lists: &lists, parameters: &[], limits: &limits, windows: &[] };
    conditions.iter().filter(|text| check::condition(text, &origin, None, &scope).is_ok()).count()
}

fn conditions(criterion: &mut Criterion) {
    let schema = Workload::F1.schema();
    let mut generator = Generator::rules(Workload::F1);
    let conditions: Vec<String> = (0..CONDITIONS).map(|_| generator.condition()).collect();
    assert_eq!(check_all(&conditions, &schema), CONDITIONS, "every condition is sound");
    let mut group = criterion.benchmark_group("conditions");
    group.throughput(Throughput::Elements(CONDITIONS as u64));
    group.bench_function("parse and check", |bencher| bencher.iter(|| check_all(black_box(&conditions), &schema)));
    let (lists, limits, origin) = (Lists::new(), Limits::default(), Origin::default());
    let scope = check::Scope { schema: &schema, lists: &lists, parameters: &[], limits: &limits, windows: &[] };
    let typed: Vec<_> = conditions.iter().map(|text| check::condition(text, &origin, None, &scope).expect("sound")).collect();
    group.bench_function("print", |bencher| {
        bencher.iter(|| typed.iter().map(|expr| print::condition(expr, &schema).len()).sum::<usize>());
    });
    group.finish();
}

fn artifacts(criterion: &mut Criterion) {
    let schema = Workload::F1.schema();
    let mut group = criterion.benchmark_group("compile");
    group.sample_size(10).warm_up_time(Duration::from_millis(500));
    for count in [10_000, 100_000] {
        let rules = rules(Workload::F1, count);
        let bytes = compiled(rules.iter().cloned(), &schema, 1).expect("sound rules");
        assert_eq!(Artifact::from_bytes(&bytes).expect("an artifact").rules().len(), count);
        assert!(compiled(rules.iter().cloned(), &schema, 2).as_ref() == Ok(&bytes), "the bytes do not depend on the threads");
        group.throughput(Throughput::Elements(count as u64));
        for threads in [1, 2] {
            group.bench_function(format!("F1, {count} rules, threads: {threads}"), |bencher| {
                bencher.iter(|| compiled(rules.iter().cloned(), &schema, threads).map_or(0, |bytes| bytes.len()));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, conditions, artifacts);
criterion_main!(benches);
