//! What would change is tried on the events in the topics.

use super::formats::stream;
use super::*;

const OTHER: &str = "rules:\n- {id: large, when: amount > 80, score: 2, action: block}\n\
    - id: often\n  when: COUNT(*) OVER (PARTITION BY card ORDER BY at RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW) > 2\n  score: 5\n\
    - id: rises\n  match_recognize: |\n    PARTITION BY card ORDER BY at PATTERN (a b) DEFINE b AS amount > a.amount\n";

/// What a preview says, but for samples, and for what could not be read.
fn said(preview: &Value) -> Value {
    let mut said = preview.clone();
    for member in ["samples", "rejected"] {
        said.as_object_mut().expect("an object").remove(member);
    }
    said
}

#[test]
fn previews_are_of_the_events_in_the_topics() {
    let Some(broker) = service_at(BROKER, "previews_are_of_the_events_in_the_topics") else { return };
    let (prepared, key) = prepared(RULES);
    let mut events = events(&mut Random::new(21), 0, 600);
    // In the order of their times, so that what is late in a partition is so in a file.
    events.sort_by_key(|event| event["at"].to_string());
    let of = |partition: i32| events.iter().filter(move |event| partition_of(event["card"].as_str().expect("a card")) == partition);
    let begin = |topics: &Topics, more: &[(&'static str, String)]| {
        topics.create_outputs("run");
        let (own, state) = (copied(prepared.path(), "run"), folder());
        let process = started(own.path(), &key, &topics.variables("run", state.path(), more));
        let version = process.push("all", OTHER);
        (process, format!("/v1/tenants/all/rule-sets/main/versions/{version}/preview"), [own, state])
    };
    let topics = Topics::new(&broker, "preview");
    topics.send(&events);
    topics.send_raw(1, b"no json");
    let (process, path, _folders) = begin(&topics, &[]);
    let preview = |asked: &Value| process.done("POST", &path, asked);
    let of_lines = |events: &[&Value]| {
        let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
        let (status, answer) = process.send("POST", &path, &process.key, "application/x-ndjson", lines.as_bytes());
        assert_eq!(status, 200, "{answer}");
        said(&answer)
    };
    let all: Vec<&Value> = events.iter().collect();
    let whole = preview(&json!({}));
    assert_eq!((&whole["events"], &whole["rejected"]), (&json!(600), &json!(1)));
    assert_eq!(said(&whole), of_lines(&all));
    assert_ne!(said(&whole), of_lines(&all[..599]), "one event less is noticed");
    let changed = whole["changed"].as_u64().expect("a number");
    assert!(changed > 50 && whole["findings"]["after"].as_u64() > whole["findings"]["before"].as_u64(), "{whole}");
    for sample in whole["samples"].as_array().expect("samples") {
        let (partition, offset) = (sample["source"]["partition"].as_i64().expect("a number"), &sample["source"]["offset"]);
        let event = of(partition as i32).nth(offset.as_u64().expect("a number") as usize).expect("an event");
        assert_eq!((&sample["id"], &sample["source"]["topic"]), (&event["id"], &json!(topics.topic("events"))));
    }

    // The last ones of each partition; what could not be read is one of them.
    let last: BTreeSet<String> = (0..PARTITIONS)
        .flat_map(|partition| {
            let own: Vec<String> = of(partition).map(|event| event["id"].to_string()).collect();
            own[own.len() - if partition == 1 { 24 } else { 25 }..].to_vec()
        })
        .collect();
    let last: Vec<&Value> = events.iter().filter(|event| last.contains(&event["id"].to_string())).collect();
    let some = preview(&json!({"events": 100, "from": "topics"}));
    assert_eq!((&some["events"], &some["rejected"]), (&json!(99), &json!(1)));
    assert_eq!(said(&some), of_lines(&last));
    assert_eq!(preview(&json!({"from": "requests"}))["events"], 0, "the journal has none");
    topics.wait("run");
    assert_eq!(topics.told("run", "decisions").len(), 600, "who reads for good is not disturbed");
    process.end();

    // Messages of several events.
    let arrow = Topics::new(&broker, "preview-arrow");
    for partition in 0..PARTITIONS {
        let own: Vec<&Value> = of(partition).collect();
        arrow.send_bytes(&own.chunks(10).map(|events| (partition, stream(events))).collect::<Vec<_>>());
    }
    let (process, path, _folders) = begin(&arrow, &[("DYNAMIC_CEP_KAFKA_FORMAT", "arrow".to_owned())]);
    let several = process.done("POST", &path, &json!({}));
    assert_eq!(said(&several), said(&whole));
    assert!(several["samples"][0]["source"]["index"].is_u64(), "{several}");
    let some = process.done("POST", &path, &json!({"events": 100}));
    assert!((90..=130).contains(&some["events"].as_u64().expect("a number")), "{some}");
    process.end();

    // What cannot be had is told.
    let missing = ("DYNAMIC_CEP_KAFKA_TOPICS", arrow.topic("missing"));
    let (process, path, _folders) = begin(&Topics { broker, name: format!("{}-none", arrow.name) }, &[missing]);
    let (status, answer) = process.call("POST", &path, &json!({}));
    assert!(status == 503 && answer["detail"].as_str().is_some_and(|detail| detail.contains("has no topic")), "{answer}");
    process.end();
    let (process, path) = {
        let process = Process::start_with(prepared.path(), Some(&key), &[]);
        let version = process.push("all", OTHER);
        (process, format!("/v1/tenants/all/rule-sets/main/versions/{version}/preview"))
    };
    let (status, answer) = process.call("POST", &path, &json!({"from": "topics"}));
    assert!(status == 400 && answer["detail"].as_str().is_some_and(|detail| detail.contains("kafka.brokers")), "{answer}");
    process.end();
}
