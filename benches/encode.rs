//! Events to codes, against the thresholds of 100,000 rules.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dynamic_cep::encode::Encoder;
use dynamic_cep::expr::columns::Cache;
use dynamic_cep::tables::Artifact;
use dynamic_cep::workload::{Generator, Workload, compiled, rules};
use std::sync::Arc;

const RULES: usize = 100_000;
const EVENTS: usize = 8192;

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    group.sample_size(20).throughput(Throughput::Elements(EVENTS as u64));
    for workload in Workload::ALL {
        let schema = workload.schema();
        let bytes = compiled(rules(workload, RULES).into_iter(), &schema, 2).expect("sound rules");
        let encoder = Encoder::new(Arc::new(Artifact::from_bytes(&bytes).expect("an artifact")));
        let batch = Generator::events(workload).event_batch(&schema, EVENTS);
        let encoded = encoder.encode(&batch, &mut Cache::default());
        assert_eq!(encoded.rows, EVENTS);
        assert_eq!(encoded.partitions.iter().any(|partition| *partition != 0), workload == Workload::F1, "tenants are found");
        group.bench_function(workload.name(), |bencher| bencher.iter(|| encoder.encode(&batch, &mut Cache::default())));
    }
    group.finish();
}

criterion_group!(benches, encode);
criterion_main!(benches);
