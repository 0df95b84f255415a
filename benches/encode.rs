//! Events to codes, against the thresholds of 100,000 rules; and messages to events, in one thread.

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

/// Card payments as JSON and as Avro, a message each.
#[cfg(feature = "kafka")]
fn decode(criterion: &mut Criterion) {
    use dynamic_cep::codec::avro::AvroDecoder;
    use dynamic_cep::codec::json::JsonDecoder;
    use dynamic_cep::codec::{Decoder, Request};
    use dynamic_cep::event::Schema;
    use dynamic_cep::id::FieldId;
    use std::fmt::Write;

    const SCHEMA: &str = "fields: {id: utf8, card: utf8, amount: float64, count: int64, at: timestamp(ms)}";
    const WRITER: &str = r#"{"type": "record", "name": "Payment", "fields": [{"name": "id", "type": "string"}, {"name": "card", "type": "string"},
        {"name": "amount", "type": "double"}, {"name": "count", "type": "long"}, {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}"#;
    let long = |to: &mut Vec<u8>, value: i64| {
        let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
        while rest > 0x7f {
            to.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        to.push(rest as u8);
    };
    let (mut lines, mut datums) = (String::new(), Vec::new());
    for nth in 0..EVENTS as i64 {
        let (id, card, amount, at) =
            (format!("payment-{nth:09}"), format!("card-{:06}", nth * 7919 % 5000), nth as f64 / 4.0, 1_700_000_000_000 + nth);
        writeln!(lines, r#"{{"id": "{id}", "card": "{card}", "amount": {amount}, "count": {nth}, "at": {at}}}"#).expect("room");
        let mut datum = Vec::new();
        for text in [id, card] {
            long(&mut datum, text.len() as i64);
            datum.extend(text.as_bytes());
        }
        datum.extend(amount.to_le_bytes());
        long(&mut datum, nth);
        long(&mut datum, at);
        datums.push(datum);
    }
    let schema = Arc::new(Schema::parse("schema.yaml", SCHEMA.as_bytes()).expect("a schema"));
    let needed = (0..schema.fields().len()).map(FieldId::new).collect();
    let request = Request { schema, needed, batch_rows: EVENTS };
    let datums: Vec<&[u8]> = datums.iter().map(Vec::as_slice).collect();
    let mut avro = AvroDecoder::new(WRITER).expect("a schema");
    let json = || JsonDecoder::new(lines.as_bytes(), request.clone()).decode().expect("JSON").expect("events");
    assert_eq!((json().rows, avro.decode(&datums, &request).rows), (EVENTS, EVENTS));
    let mut group = criterion.benchmark_group("decode");
    group.sample_size(20).throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("json", |bencher| bencher.iter(json));
    group.bench_function("avro", |bencher| bencher.iter(|| avro.decode(&datums, &request)));
    group.finish();
}

#[cfg(not(feature = "kafka"))]
fn decode(_: &mut Criterion) {}

criterion_group!(benches, encode, decode);
criterion_main!(benches);
