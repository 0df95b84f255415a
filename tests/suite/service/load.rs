//! `generate`: the same events wherever they go, and no faster than asked for.

use super::super::support::project;
use super::{BINARY, Process, folder};
#[cfg(feature = "kafka")]
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// The command, which works; what it says of it.
fn generate(arguments: &[&str]) -> String {
    let done = run(arguments);
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{arguments:?}: {told}");
    told
}

fn run(arguments: &[&str]) -> Output {
    Command::new(BINARY).arg("generate").args(arguments).output().expect("the command runs")
}

fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

/// What the fraud pack says of a file of events.
fn decisions(events: &str) -> String {
    let pack = project("rules/fraud");
    let judged = Command::new(BINARY).arg("match").arg(&pack).args(["--events", events, "--output", "-"]).output().expect("it runs");
    let told = String::from_utf8_lossy(&judged.stderr).into_owned();
    assert!(judged.status.success() && !told.contains("rejected"), "{told}");
    String::from_utf8(judged.stdout).expect("UTF-8")
}

#[test]
fn files_of_every_kind_have_the_same_events_whatever_the_rate() {
    let folder = folder();
    let file = |name: &str| text(&folder.path().join(name));
    let asked = ["--events", "3000", "--fraud", "0.05", "--seed", "7", "--step", "1s"];
    let told = generate(&[&asked[..], &["--output", &file("a.ndjson")]].concat());
    assert!(told.starts_with("events 3000, ") && told.contains(" bursts\n"), "{told}");
    let begun = Instant::now();
    generate(&[&asked[..], &["--rate", "1500", "--output", &file("b.ndjson")]].concat());
    assert!(begun.elapsed() >= Duration::from_secs(2), "3000 events at 1500 a second: {:?}", begun.elapsed());
    let lines = std::fs::read_to_string(file("a.ndjson")).expect("events");
    assert!(lines == std::fs::read_to_string(file("b.ndjson")).expect("events"), "the rate changes nothing");
    assert!(!lines.contains("is_fraud"));
    let right = decisions(&file("a.ndjson"));
    assert!(right.lines().count() == 3000 && right.contains("\"action\":\"block\""), "fraud is found");
    for kind in ["parquet", "arrow", "csv"] {
        generate(&[&asked[..], &["--labels", "--output", &file(&format!("c.{kind}"))]].concat());
        assert!(decisions(&file(&format!("c.{kind}"))) == right, "{kind}");
    }
    generate(&[&asked[..4], &["--seed", "8", "--output", &file("d.ndjson")]].concat());
    assert_ne!(lines, std::fs::read_to_string(file("d.ndjson")).expect("events"), "another seed");
}

#[test]
fn a_process_judges_what_is_generated_and_what_it_turns_away_is_told() {
    let folder = folder();
    let process = Process::start_with(folder.path(), None, &[("DYNAMIC_CEP_LIMITS_REQUESTS_PER_SECOND", "1000000")]);
    let pack = text(&project("rules/fraud"));
    let pushed = Command::new(BINARY).args(["push", &pack, "--activate", "--url", &process.url, "--key", &process.key]).status();
    assert!(pushed.expect("the command runs").success());
    let file = text(&folder.path().join("events.ndjson"));
    let asked = ["--events", "950", "--seed", "3"];
    generate(&[&asked[..], &["--output", &file]].concat());
    let told = generate(&[&asked[..], &["--output", &process.url, "--key", &process.key]].concat());
    assert!(told.starts_with("events 950, ") && !told.contains("not judged"), "{told}");
    let journal = folder.path().join("journal").join(format!("{:020}.ndjson", 0));
    assert!(std::fs::read_to_string(journal).expect("a journal") == std::fs::read_to_string(&file).expect("events"), "the same events");

    let refused = run(&["--output", &process.url, "--key", "dcep_0_0"]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains("401") && told.contains("there is no such key"), "{told}");
    let refused = run(&["--output", &process.url]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("give --key"));
    let key = process.key.clone();
    process.end();

    // One request a second: the first is taken.
    let process = Process::start_with(folder.path(), Some(&key), &[("DYNAMIC_CEP_LIMITS_REQUESTS_PER_SECOND", "1")]);
    let told = generate(&["--events", "400", "--output", &process.url, "--key", &process.key]);
    assert!(told.contains("not judged: ") && told.contains("a key may send 1 requests a second"), "{told}");
    assert_eq!(run(&["--output", "http://127.0.0.1:1", "--key", "k"]).status.code(), Some(1));
    assert_eq!(run(&["--output", "x.ndjson", "--fraud", "2"]).status.code(), Some(2), "wrong usage");
}

/// Of Kafka: every event once, an event a message in the partition of its card, or so many in one.
#[cfg(feature = "kafka")]
#[test]
fn topics_have_the_same_events() {
    use super::super::support::service_at;
    use arrow::ipc::reader::StreamReader;
    use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
    use rdkafka::client::DefaultClientContext;
    use rdkafka::config::ClientConfig;
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::message::Message;

    let Some(broker) = service_at("DYNAMIC_CEP_KAFKA", "topics_have_the_same_events") else { return };
    let folder = folder();
    let file = text(&folder.path().join("events.ndjson"));
    generate(&["--events", "2000", "--output", &file]);
    let lines = std::fs::read_to_string(file).expect("events");
    let nonce = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
    let create = |topic: &str| {
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", &broker).create().expect("a client");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let topics = [&NewTopic::new(topic, 4, TopicReplication::Fixed(1))];
        let created = runtime.block_on(admin.create_topics(topics, &AdminOptions::new())).expect("topics");
        created.into_iter().for_each(|created| drop(created.expect("a topic")));
    };
    let read = |topic: &str, count: usize| {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &broker).set("group.id", topic).set("auto.offset.reset", "earliest");
        let consumer: BaseConsumer = client.create().expect("a consumer");
        consumer.subscribe(&[topic]).expect("a topic");
        let (begun, mut found) = (Instant::now(), Vec::new());
        while found.len() < count {
            assert!(begun.elapsed() < Duration::from_secs(60), "{} of {count} messages", found.len());
            if let Some(message) = consumer.poll(Duration::from_millis(100)) {
                let message = message.expect("a message");
                found.push((message.key().unwrap_or_default().to_vec(), message.payload().unwrap_or_default().to_vec()));
            }
        }
        found
    };
    let topic = format!("generated-{nonce}");
    create(&topic);
    generate(&["--events", "2000", "--output", &format!("kafka://{broker}/{topic}")]);
    let found = read(&topic, 2000);
    for (key, payload) in &found {
        let event: Value = serde_json::from_slice(payload).expect("JSON");
        assert_eq!(event["card"].to_string().as_bytes(), key);
    }
    let mut payloads: Vec<&str> = found.iter().map(|(_, payload)| std::str::from_utf8(payload).expect("UTF-8")).collect();
    let mut right: Vec<&str> = lines.lines().collect();
    payloads.sort_unstable();
    right.sort_unstable();
    assert!(payloads == right, "every event once");

    let topic = format!("generated-arrow-{nonce}");
    create(&topic);
    generate(&["--events", "2000", "--format", "arrow", "--batch", "300", "--output", &format!("kafka://{broker}/{topic}")]);
    let rows = read(&topic, 7).into_iter().map(|(_, payload)| {
        let stream = StreamReader::try_new(&payload[..], None).expect("a stream");
        stream.map(|batch| batch.expect("a batch").num_rows()).sum::<usize>()
    });
    let mut rows: Vec<usize> = rows.collect();
    rows.sort_unstable();
    assert_eq!(rows, [200, 300, 300, 300, 300, 300, 300]);
}
