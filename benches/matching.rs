//! The matchers, one beside the other. Before anything is timed, all of them have given the same (event, rule) pairs.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dynamic_cep::engine::Generation;
use dynamic_cep::event::EventBatch;
use dynamic_cep::expr::columns::Cache;
use dynamic_cep::flow::EncodedBatch;
use dynamic_cep::matcher::Found;
use dynamic_cep::matcher::cpu::{self, Isa, Visit};
use dynamic_cep::matcher::plain;
use dynamic_cep::tables::{Artifact, Candidate};
use dynamic_cep::workload::{Fingerprint, Generator, Workload, compiled, rules};
use std::sync::Arc;
use std::time::Duration;

const EVENTS: usize = 4096;
/// The plain matcher tests every term of every rule that a row visits; so few rows of it are enough.
const PLAIN_EVENTS: usize = 64;

fn matchers(criterion: &mut Criterion) {
    for workload in [Workload::F1, Workload::F2] {
        let schema = workload.schema();
        for count in [10_000, 100_000] {
            let bytes = compiled(rules(workload, count).into_iter(), &schema, 2).expect("sound rules");
            let artifact = Arc::new(Artifact::from_bytes(&bytes).expect("an artifact"));
            let generation = Generation::new(Arc::clone(&artifact)).expect("residuals");
            let encoded = |rows| {
                let batch = Generator::events(workload).event_batch(&schema, rows);
                let encoded = generation.encode(&batch, &mut Cache::default());
                (batch, encoded)
            };
            let ((events, batch), (few_events, few)) = (encoded(EVENTS), encoded(PLAIN_EVENTS));
            let answer_of = |events: &EventBatch, candidates: &[Candidate]| {
                let mut answer = Fingerprint::default();
                let found = Found::of(&generation.artifact().tables(), candidates);
                answer.add_batch(events, &generation.verify(events, found, &mut Cache::default()));
                answer
            };
            let tables = artifact.tables();
            let on_cpu = |batch: &EncodedBatch| {
                let mut found = Vec::new();
                cpu::candidates(&tables, batch, Visit::Both, &mut found);
                found
            };
            let portable = |batch: &EncodedBatch| {
                let mut found = Vec::new();
                cpu::candidates_by(Isa::Portable, &tables, batch, Visit::Both, &mut found);
                found
            };
            let answer = answer_of(&events, &on_cpu(&batch));
            assert_eq!(answer_of(&events, &portable(&batch)), answer, "portable and vectorised");
            let few_answer = answer_of(&few_events, &plain::candidates(&tables, &few));
            assert_eq!(answer_of(&few_events, &on_cpu(&few)), few_answer, "vectorised and plain");
            assert_eq!(answer_of(&few_events, &portable(&few)), few_answer, "portable and plain");
            eprintln!("{}, {count} rules: {:.2} hits an event; {answer}", workload.name(), answer.hits as f64 / EVENTS as f64);

            let mut group = criterion.benchmark_group(format!("match {}, {count} rules", workload.name()));
            group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
            group.throughput(Throughput::Elements(PLAIN_EVENTS as u64));
            group.bench_function("plain", |bencher| bencher.iter(|| plain::candidates(&tables, &few).len()));
            group.throughput(Throughput::Elements(EVENTS as u64));
            group.bench_function("portable", |bencher| bencher.iter(|| portable(&batch).len()));
            group.bench_function("cpu", |bencher| bencher.iter(|| on_cpu(&batch).len()));
            group.finish();
        }
    }
}

criterion_group!(benches, matchers);
criterion_main!(benches);
