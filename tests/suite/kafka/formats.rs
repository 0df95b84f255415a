//! The same events in every format of messages: the same decisions.

use super::super::avro::{Fields, datum, double, long, microseconds, milliseconds, schema, text};
use super::*;
use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What is told of an event or a finding, without where its message was.
type Says = BTreeSet<String>;

fn says(value: &Value, names: &[&str]) -> String {
    let say = |name: &&str| match (*name, &value[*name]) {
        ("score", Value::String(score)) => score.parse::<f64>().expect("a score").to_string(),
        ("score", score) => score.as_f64().expect("a score").to_string(),
        (_, other) => other.to_string(),
    };
    names.iter().map(say).collect::<Vec<_>>().join(" ")
}

const DECISION: [&str; 4] = ["id", "score", "action", "rules"];
const FINDING: [&str; 4] = ["rule", "partition", "match_number", "measures"];

fn all_say(topics: &Topics, kind: &str, names: &[&str]) -> Says {
    let told = topics.told("run", kind);
    told.iter().map(|(_, payload, _)| says(&serde_json::from_str(payload).expect("JSON"), names)).collect()
}

/// Decisions of Arrow messages.
fn arrow_says(topics: &Topics) -> Says {
    let mut all = Says::new();
    for (_, payload, headers) in topics.told_bytes("run", "decisions") {
        assert!(headers.contains_key("offset"), "{headers:?}");
        let mut lines = Vec::new();
        let mut writer = arrow::json::LineDelimitedWriter::new(&mut lines);
        for batch in StreamReader::try_new(payload.as_slice(), None).expect("Arrow") {
            writer.write(&batch.expect("a batch")).expect("JSON");
        }
        writer.finish().expect("JSON");
        drop(writer);
        all.extend(lines.lines().map(|line| says(&serde_json::from_str(&line.expect("text")).expect("JSON"), &DECISION)));
    }
    all
}

/// Events as messages of a format, and such as are none, are judged; what is looked at while the process runs.
fn judged(topics: &Topics, prepared: &Path, messages: &[(i32, Vec<u8>)], more: &[(&'static str, String)], look: impl FnOnce(&Process)) {
    topics.send_bytes(messages);
    topics.create_outputs("run");
    let (own, state) = (copied(prepared, "run"), folder());
    let process = started(own.path(), "-", &topics.variables("run", state.path(), more));
    topics.wait("run");
    look(&process);
    process.end();
}

fn reasons(topics: &Topics) -> Vec<String> {
    let mut reasons: Vec<String> = topics.told("run", "rejects").into_iter().map(|(_, _, headers)| headers["reason"].clone()).collect();
    reasons.sort();
    reasons
}

fn assert_reasons(topics: &Topics, parts: &[&str]) {
    let reasons = reasons(topics);
    for part in parts {
        assert!(reasons.iter().any(|reason| reason.contains(part)), "`{part}`: {reasons:?}");
    }
    assert_eq!(reasons.len(), parts.len(), "{reasons:?}");
}

/// The first writer of Avro: what it writes as amounts may have fractions, which events may not.
fn first() -> Fields {
    vec![
        ("id", json!("string"), text),
        ("card", json!("string"), text),
        ("amount", json!("double"), double),
        ("at", json!({"type": "long", "logicalType": "timestamp-millis"}), milliseconds),
    ]
}

/// A later one, with another field and another order.
fn second() -> Fields {
    let cards: Vec<String> = (0..15).map(|card| format!("c{card}")).collect();
    vec![
        ("note", json!(["null", "string"]), |to, _| to.push(0)),
        ("at", json!({"type": "long", "logicalType": "timestamp-micros"}), microseconds),
        ("amount", json!("long"), |to, value| long(to, value.as_i64().expect("a number"))),
        ("card", json!({"type": "enum", "name": "Card", "symbols": cards}), |to, value| {
            long(to, value.as_str().expect("text")[1..].parse().expect("a number"));
        }),
        ("id", json!("string"), text),
    ]
}

fn framed(id: u32, datum: &[u8]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], datum].concat()
}

/// A registry that fails at first; its address, and how often it was asked for each number.
fn registry(schemas: Vec<(u32, Value)>) -> (String, Arc<Mutex<BTreeMap<u32, usize>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let asked: Arc<Mutex<BTreeMap<u32, usize>>> = Arc::default();
    let (counts, failures) = (Arc::clone(&asked), AtomicUsize::new(2));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let lines: Vec<String> = BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let id = lines[0].split(' ').nth(1).and_then(|path| path.strip_prefix("/schemas/ids/")?.parse::<u32>().ok());
            let known =
                lines.iter().any(|line| line.to_lowercase().starts_with("authorization: basic ") && line.ends_with("bWU6aHVzaC1odXNo"));
            let schema = id.and_then(|id| schemas.iter().find(|(known, _)| *known == id));
            let (status, body) = match schema {
                _ if !known => ("401 Unauthorized", json!({"error_code": 401})),
                _ if failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() => ("500 Oh", json!({})),
                Some((_, answer)) => ("200 OK", answer.clone()),
                None => ("404 Not Found", json!({"error_code": 40403, "message": "Schema not found"})),
            };
            if let Some(id) = id.filter(|_| !status.starts_with('5')) {
                *counts.lock().expect("no panic").entry(id).or_default() += 1;
            }
            let body = body.to_string();
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).expect("it is read");
        }
    });
    (address, asked)
}

#[test]
fn avro_is_decided_as_json_is() {
    let Some(broker) = service_at(BROKER, "avro_is_decided_as_json_is") else { return };
    let (prepared, _) = prepared(RULES);
    let events = events(&mut Random::new(8), 0, 400);
    let at = |event: &Value| partition_of(event["card"].as_str().expect("a card"));
    let as_json = Topics::new(&broker, "as-json");
    let messages: Vec<_> = events.iter().map(|event| (at(event), event.to_string().into_bytes())).collect();
    judged(&as_json, prepared.path(), &messages, &[], |_| ());
    let expected = (all_say(&as_json, "decisions", &DECISION), all_say(&as_json, "findings", &FINDING));
    assert!(expected.0.len() == 400 && expected.1.len() > 10, "{} {}", expected.0.len(), expected.1.len());

    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), schema(&first())).expect("a schema");
    let mut messages: Vec<_> = events.iter().map(|event| (at(event), datum(&first(), event))).collect();
    let some = datum(&first(), &json!({"id": "x", "card": "c1", "amount": 1.5, "at": "2026-01-01T00:00:00Z"}));
    let bad = [vec![], some[..some.len() - 1].to_vec(), [&some[..], b"x"].concat(), some.clone()];
    messages.extend((0..).zip(bad));
    let avro = ("DYNAMIC_CEP_KAFKA_FORMAT", "avro".to_owned());
    let more = [avro.clone(), ("DYNAMIC_CEP_KAFKA_AVRO_SCHEMA", file.path().display().to_string())];
    let plain = Topics::new(&broker, "plain-avro");
    judged(&plain, prepared.path(), &messages, &more, |_| ());
    assert!((all_say(&plain, "decisions", &DECISION), all_say(&plain, "findings", &FINDING)) == expected, "by a file");
    assert_reasons(&plain, &["the message is empty", "varint", "the event ends after", "amount"]);

    // Of two writers, by turns and in runs.
    let mut random = Random::new(9);
    let message = |event: &Value| {
        let (id, fields) = if random.one_in(3) { (1, first()) } else { (2, second()) };
        (at(event), framed(id, &datum(&fields, event)))
    };
    let mut messages: Vec<_> = events.iter().map(message).collect();
    let bad = [some.clone(), framed(1, &some[..3]), framed(99, &some), framed(3, &some), framed(1, &some), framed(99, &some)];
    messages.extend((0..).zip(bad).map(|(nth, message)| (nth % PARTITIONS, message)));
    let answer = |fields: &Fields| json!({"schema": schema(fields)});
    let known = |second: &Fields| vec![(1, answer(&first())), (2, answer(second)), (3, json!({"schema": "{}", "schemaType": "JSON"}))];
    let run = |test: &str, second: &Fields| {
        let (address, asked) = registry(known(second));
        let topics = Topics::new(&broker, test);
        let more = [
            avro.clone(),
            ("DYNAMIC_CEP_KAFKA_AVRO_REGISTRY", address),
            ("DYNAMIC_CEP_KAFKA_AVRO_USERNAME", "me".to_owned()),
            ("DYNAMIC_CEP_KAFKA_AVRO_PASSWORD", "hush-hush".to_owned()),
        ];
        judged(&topics, prepared.path(), &messages, &more, |process| {
            let log = process.log();
            assert!(log.contains("500") && !log.contains("hush-hush") && !log.contains("bWU6"), "a registry that fails is told of: {log}");
        });
        let asked = asked.lock().expect("no panic").clone();
        (topics, asked)
    };
    let (topics, asked) = run("registry", &second());
    assert!((all_say(&topics, "decisions", &DECISION), all_say(&topics, "findings", &FINDING)) == expected, "by a registry");
    let no_head = "does not begin with a zero";
    assert_reasons(
        &topics,
        &[no_head, "EOF", "knows no schema 99", "knows no schema 99", "schema 3 of the registry cannot be used", "amount"],
    );
    assert!(asked[&1] <= 3 && asked[&2] <= 3, "schemas are kept: {asked:?}");

    // Whoever takes the fields by their places decides otherwise.
    let mut misnamed = second();
    (misnamed[1].0, misnamed[2].0) = ("amount", "at");
    (misnamed[1].1, misnamed[2].1) = (json!("long"), json!({"type": "long", "logicalType": "timestamp-micros"}));
    let (topics, _) = run("misnamed", &misnamed);
    assert!(all_say(&topics, "decisions", &DECISION) != expected.0, "the comparison sees it");
}

/// Events as a message of Arrow.
pub(super) fn stream(events: &[&Value]) -> Vec<u8> {
    let texts = |name: &str| -> ArrayRef { Arc::new(events.iter().map(|event| event[name].as_str()).collect::<StringArray>()) };
    let amounts: ArrayRef = Arc::new(events.iter().map(|event| event["amount"].as_f64()).collect::<Float64Array>());
    let columns = [("at", texts("at")), ("amount", amounts), ("card", texts("card")), ("id", texts("id"))];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).expect("columns");
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema()).expect("a stream");
    // In two batches, as a stream may be.
    let half = batch.num_rows() / 2;
    [batch.slice(0, half), batch.slice(half, batch.num_rows() - half)].iter().for_each(|part| writer.write(part).expect("a batch"));
    writer.finish().expect("a stream");
    drop(writer);
    bytes
}

#[test]
fn arrow_is_decided_as_json_is() {
    let Some(broker) = service_at(BROKER, "arrow_is_decided_as_json_is") else { return };
    let (prepared, _) = prepared(RULES);
    let mut random = Random::new(11);
    let mut events = events(&mut random, 0, 400);
    for nth in [50, 51, 200] {
        events[nth]["amount"] = json!(0.5);
    }
    let at = |event: &Value| partition_of(event["card"].as_str().expect("a card"));
    let as_json = Topics::new(&broker, "as-json");
    let messages: Vec<_> = events.iter().map(|event| (at(event), event.to_string().into_bytes())).collect();
    judged(&as_json, prepared.path(), &messages, &[], |_| ());
    let expected = (all_say(&as_json, "decisions", &DECISION), all_say(&as_json, "findings", &FINDING));
    assert!(expected.0.len() == 397 && expected.1.len() > 10, "{} {}", expected.0.len(), expected.1.len());
    assert_reasons(&as_json, &["amount"; 3]);

    let run = |test: &str, events: &[Value]| {
        let mut random = Random::new(12);
        let mut messages = vec![(0, b"no arrow".to_vec()), (1, Vec::new())];
        for partition in 0..PARTITIONS {
            let own: Vec<&Value> = events.iter().filter(|event| at(event) == partition).collect();
            let mut rest = own.as_slice();
            while !rest.is_empty() {
                let (some, others) = rest.split_at((1 + random.below(20)).min(rest.len()));
                messages.push((partition, stream(some)));
                rest = others;
            }
            // Half a message.
            let whole = stream(&own[..3]);
            messages.push((partition, whole[..whole.len() / 2].to_vec()));
        }
        let topics = Topics::new(&broker, test);
        judged(&topics, prepared.path(), &messages, &[("DYNAMIC_CEP_KAFKA_FORMAT", "arrow".to_owned())], |_| ());
        topics
    };
    let topics = run("as-arrow", &events);
    assert!((arrow_says(&topics), all_say(&topics, "findings", &FINDING)) == expected, "in messages of several events");
    let rejects = topics.told("run", "rejects");
    let events_of = rejects.iter().filter(|(_, payload, headers)| headers["reason"].starts_with("event ") && payload.contains("0.5"));
    assert_eq!((events_of.count(), rejects.len()), (3, 3 + 2 + 4), "{:?}", reasons(&topics));

    // Columns that are not in step with each other are noticed.
    let amounts: Vec<Value> = events.iter().map(|event| event["amount"].clone()).collect();
    events.iter_mut().zip(amounts.into_iter().cycle().skip(1)).for_each(|(event, amount)| event["amount"] = amount);
    let topics = run("out-of-step", &events);
    assert!((arrow_says(&topics), all_say(&topics, "findings", &FINDING)) != expected, "the comparison sees it");
}
