//! Events from a real Kafka and results to it, with processes that are killed, stopped and joined by others.
//!
//! `DYNAMIC_CEP_KAFKA` names the broker, which tests/services/kafka.sh starts. Without it these tests say that they were skipped; with `DYNAMIC_CEP_SERVICES=require` they fail.

mod formats;
mod preview;
#[cfg(feature = "s3")]
mod stores;

use super::random::{Random, seed};
use super::service::{Process, folder};
use super::support::{project, service_at};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Names the broker.
const BROKER: &str = "DYNAMIC_CEP_KAFKA";

const PARTITIONS: i32 = 4;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Topics of one test.
struct Topics {
    broker: String,
    name: String,
}

/// The partition of a card.
fn partition_of(card: &str) -> i32 {
    card.bytes().map(i32::from).sum::<i32>() % PARTITIONS
}

/// A message: key, payload, headers.
type Told = (String, String, BTreeMap<String, String>);

/// Counts events that could not be delivered.
#[derive(Default)]
struct Failed(AtomicUsize);

impl rdkafka::ClientContext for Failed {}

impl ProducerContext for Failed {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Topics {
    fn new(broker: &str, test: &str) -> Self {
        let nonce = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
        let topics = Self { broker: broker.to_owned(), name: format!("{test}-{nonce}") };
        topics.create("events");
        topics
    }

    fn topic(&self, what: &str) -> String {
        format!("{}-{what}", self.name)
    }

    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.broker);
        client
    }

    fn create(&self, what: &str) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("a client");
        let name = self.topic(what);
        let topic = NewTopic::new(&name, PARTITIONS, TopicReplication::Fixed(1));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let created = runtime.block_on(admin.create_topics([&topic], &AdminOptions::new())).expect("topics");
        created.into_iter().for_each(|created| drop(created.expect("a topic")));
    }

    /// Sends events; each goes to the partition of its card.
    fn send(&self, events: &[Value]) {
        let mut client = self.client();
        client.set("linger.ms", "1").set("enable.idempotence", "true");
        let producer: BaseProducer<Failed> = client.create_with_context(Failed::default()).expect("a producer");
        let topic = self.topic("events");
        for event in events {
            let (card, payload) = (event["card"].as_str().unwrap_or_default().to_owned(), event.to_string());
            let partition = partition_of(&card);
            producer
                .send(BaseRecord::to(&topic).partition(partition).key(&card).payload(&payload))
                .map_err(|(error, _)| error)
                .expect("room");
        }
        producer.flush(PATIENCE).expect("delivered");
        let failed = producer.context().0.load(Ordering::Relaxed);
        assert_eq!(failed, 0, "all {} are delivered", events.len());
    }

    fn send_raw(&self, partition: i32, payload: &[u8]) {
        self.send_bytes(&[(partition, payload.to_vec())]);
    }

    /// Sends messages to their partitions.
    fn send_bytes(&self, messages: &[(i32, Vec<u8>)]) {
        let producer: BaseProducer = self.client().set("linger.ms", "1").create().expect("a producer");
        let topic = self.topic("events");
        for (partition, payload) in messages {
            let record = BaseRecord::to(&topic).partition(*partition).key("k").payload(payload.as_slice());
            producer.send(record).map_err(|(error, _)| error).expect("room");
        }
        producer.flush(PATIENCE).expect("delivered");
    }

    /// The configuration of a process, whose results go to topics of `run`.
    fn variables(&self, run: &str, state: &Path, more: &[(&'static str, String)]) -> Vec<(&'static str, String)> {
        let mut all = vec![
            ("DYNAMIC_CEP_KAFKA_BROKERS", self.broker.clone()),
            ("DYNAMIC_CEP_KAFKA_TOPICS", self.topic("events")),
            ("DYNAMIC_CEP_KAFKA_GROUP", self.topic(run)),
            ("DYNAMIC_CEP_KAFKA_TRANSACTION_TIMEOUT_MS", "3000".to_owned()),
            ("DYNAMIC_CEP_KAFKA_BATCH_ROWS_MAX", "50".to_owned()),
            ("DYNAMIC_CEP_KAFKA_PROPERTIES", "session.timeout.ms=2000,heartbeat.interval.ms=300".to_owned()),
            ("DYNAMIC_CEP_ENGINE_STATE_DIR", state.display().to_string()),
            ("DYNAMIC_CEP_ENGINE_SNAPSHOT_MS", "300".to_owned()),
        ];
        for (name, kind) in [
            ("DYNAMIC_CEP_KAFKA_OUTPUT_DECISIONS", "decisions"),
            ("DYNAMIC_CEP_KAFKA_OUTPUT_FINDINGS", "findings"),
            ("DYNAMIC_CEP_KAFKA_OUTPUT_MATCHES", "matches"),
            ("DYNAMIC_CEP_KAFKA_OUTPUT_REJECTS", "rejects"),
            ("DYNAMIC_CEP_KAFKA_OUTPUT_LATE", "late"),
        ] {
            all.push((name, self.topic(&format!("{run}-{kind}"))));
        }
        all.extend(more.iter().cloned());
        all
    }

    fn create_outputs(&self, run: &str) {
        for kind in KINDS {
            self.create(&format!("{run}-{kind}"));
        }
    }

    /// The ends of the partitions of events.
    fn ends(&self, consumer: &BaseConsumer, what: &str) -> Vec<i64> {
        let end = |partition| consumer.fetch_watermarks(&self.topic(what), partition, PATIENCE).expect("an end").1;
        (0..PARTITIONS).map(end).collect()
    }

    /// Waits until a run has committed all there is.
    fn wait(&self, run: &str) {
        let consumer: BaseConsumer =
            self.client().set("group.id", self.topic(run)).set("isolation.level", "read_committed").create().expect("a consumer");
        let begun = Instant::now();
        loop {
            let mut list = TopicPartitionList::new();
            list.add_partition_range(&self.topic("events"), 0, PARTITIONS - 1);
            let ends = self.ends(&consumer, "events");
            let committed = consumer.committed_offsets(list, PATIENCE);
            let committed: Vec<i64> = committed
                .map(|list| list.elements().iter().map(|one| if let Offset::Offset(next) = one.offset() { next } else { 0 }).collect())
                .unwrap_or_default();
            if committed == ends {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{run}: committed {committed:?} of {ends:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until nothing in a topic is of a transaction that is still open: a transaction is over for the group before the brokers have said so in each topic.
    fn settled(&self, what: &str) {
        let begun = Instant::now();
        loop {
            let ends = ["read_committed", "read_uncommitted"].map(|isolation| {
                let client = self.client().set("group.id", "nobody").set("isolation.level", isolation).create().expect("a consumer");
                self.ends(&client, what)
            });
            if ends[0] == ends[1] {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{what}: up to {:?} of {:?} is committed", ends[0], ends[1]);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What was committed to the topics of a run, in the order of each partition.
    fn told(&self, run: &str, kind: &str) -> Vec<Told> {
        let text = |(key, payload, headers): (String, Vec<u8>, _)| (key, String::from_utf8_lossy(&payload).into_owned(), headers);
        self.told_bytes(run, kind).into_iter().map(text).collect()
    }

    /// The same, whatever the bytes are.
    fn told_bytes(&self, run: &str, kind: &str) -> Vec<(String, Vec<u8>, BTreeMap<String, String>)> {
        let topic = self.topic(&format!("{run}-{kind}"));
        self.settled(&format!("{run}-{kind}"));
        let consumer: BaseConsumer = self
            .client()
            .set("group.id", "nobody")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest")
            .create()
            .expect("a consumer");
        let mut list = TopicPartitionList::new();
        (0..PARTITIONS).for_each(|partition| list.add_partition_offset(&topic, partition, Offset::Beginning).expect("a partition"));
        consumer.assign(&list).expect("assigned");
        let (mut told, mut ended) = (Vec::new(), BTreeSet::new());
        let begun = Instant::now();
        while ended.len() < PARTITIONS as usize {
            assert!(begun.elapsed() < PATIENCE, "{topic} ends");
            match consumer.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => {
                    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
                    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
                    let headers = headers.map(|header| (header.key.to_owned(), text(header.value))).collect();
                    told.push((text(message.key()), message.payload().unwrap_or_default().to_vec(), headers));
                }
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(partition))) => _ = ended.insert(partition),
                Some(Err(error)) => panic!("{topic}: {error}"),
                None => {}
            }
        }
        told
    }
}

const KINDS: [&str; 5] = ["decisions", "findings", "matches", "rejects", "late"];

const RULES: &str = "rules:\n- {id: large, when: amount > 90, score: 2, action: review}\n\
    - id: often\n  when: COUNT(*) OVER (PARTITION BY card ORDER BY at RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW) > 3\n  score: 5\n\
    - id: sum\n  when: SUM(amount) OVER (PARTITION BY card ORDER BY at RANGE BETWEEN INTERVAL '2' HOUR PRECEDING AND CURRENT ROW) > 300\n  score: 1\n\
    - id: rises\n  match_recognize: |\n    PARTITION BY card ORDER BY at MEASURES FIRST(a.amount) AS low, LAST(c.amount) AS high\n    PATTERN (a b c) DEFINE b AS amount > a.amount, c AS amount > b.amount\n";

/// Events of cards, minutes apart; some of them much too late.
fn events(random: &mut Random, from: usize, count: usize) -> Vec<Value> {
    (from..from + count)
        .map(|row| {
            let minute = if random.below(50) == 0 { row.saturating_sub(400) } else { row };
            // Months of 28 days, so that every one of them is a date.
            let day = minute / 1440;
            let at = format!("2026-{:02}-{:02}T{:02}:{:02}:00Z", 1 + day / 28, 1 + day % 28, minute / 60 % 24, minute % 60);
            json!({"id": row.to_string(), "card": format!("c{}", random.below(15)), "amount": random.below(100), "at": at})
        })
        .collect()
}

/// A folder of a process that has these rules in service, and the key to it.
fn prepared(rules: &str) -> (tempfile::TempDir, String) {
    let folder = folder();
    let process = Process::start(folder.path(), None);
    let version = process.push("all", rules);
    process.activate("all", version);
    let key = process.key.clone();
    process.end();
    (folder, key)
}

/// A process over a folder, with this configuration.
fn started(folder: &Path, key: &str, variables: &[(&'static str, String)]) -> Process {
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Process::start_with(folder, Some(key), &variables)
}

/// A copy of a folder for another process of the same rules.
fn copied(from: &Path, name: &str) -> tempfile::TempDir {
    let to = folder();
    for entry in ["registry.db", "registry.db-wal", "registry.db-shm"] {
        if from.join(entry).exists() {
            std::fs::copy(from.join(entry), to.path().join(entry)).expect("a copy");
        }
    }
    std::fs::create_dir(to.path().join("artifacts")).expect("a folder");
    for artifact in std::fs::read_dir(from.join("artifacts")).expect("artifacts") {
        let artifact = artifact.expect("an artifact");
        std::fs::copy(artifact.path(), to.path().join("artifacts").join(artifact.file_name())).expect("a copy");
    }
    std::fs::create_dir(to.path().join("journal")).expect("a folder");
    std::fs::write(to.path().join("journal/name"), name).expect("a file");
    to
}

/// Everything a run told, each kind in order of its keys; keys that come twice are an error of the run.
fn all_told(topics: &Topics, run: &str) -> BTreeMap<&'static str, Vec<Told>> {
    let sorted = |kind: &'static str| {
        let mut told = topics.told(run, kind);
        told.sort();
        (kind, told)
    };
    KINDS.into_iter().map(sorted).collect()
}

/// What an undisturbed run tells.
fn undisturbed(topics: &Topics, folder: &Path) -> BTreeMap<&'static str, Vec<Told>> {
    topics.create_outputs("whole");
    let own = copied(folder, "whole");
    let state = self::folder();
    let process = started(own.path(), "-", &topics.variables("whole", state.path(), &[]));
    topics.wait("whole");
    process.end();
    all_told(topics, "whole")
}

#[test]
fn events_become_decisions_findings_and_rejects() {
    let Some(broker) = service_at(BROKER, "events_become_decisions_findings_and_rejects") else { return };
    let topics = Topics::new(&broker, "plain");
    let (folder, _) = prepared(RULES);
    topics.send(&events(&mut Random::new(1), 0, 300));
    for (partition, payload) in (0..).zip([&b"no json"[..], b"", b"{\"amount\":\n 95, \"card\": \"x\"}", b"{\"amount\": \"x\"}\n{}"]) {
        topics.send_raw(partition, payload);
    }
    let told = undisturbed(&topics, folder.path());
    let counts: Vec<usize> = KINDS.iter().map(|kind| told[kind].len()).collect();
    assert_eq!((counts[0], counts[3]), (301, 3), "{counts:?}");
    assert!(counts[1] > 10 && counts[2] > 50 && counts[4] > 0, "{counts:?}");
    let ids: BTreeSet<&String> = told["decisions"].iter().map(|(key, ..)| key).collect();
    assert_eq!(ids.len(), 301, "each event has an id of its own");
    for (key, payload, _) in &told["decisions"] {
        let decision: Value = serde_json::from_str(payload).expect("JSON");
        assert_eq!(decision["decision_id"], json!(key));
        let large = decision["rules"].as_array().expect("rules").contains(&json!("all/main/large"));
        assert_eq!(decision["score"].as_f64().expect("a score") >= 2.0 && decision["action"] == "review", large, "{decision}");
    }
    let reason = |payload: &str| {
        let (_, _, headers) = told["rejects"].iter().find(|(_, own, _)| own == payload).expect("a reject");
        assert!(headers["topic"].ends_with("events") && headers.contains_key("partition") && headers.contains_key("offset"), "{headers:?}");
        headers["reason"].clone()
    };
    assert_eq!(reason(""), "the message is empty");
    assert!(reason("{\"amount\": \"x\"}\n{}").contains("trailing"), "two events in one message");
    assert!(!reason("no json").contains("line"), "{}", reason("no json"));
}

/// A broker of a test's own, which may be ended and begun again.
struct Broker {
    folder: tempfile::TempDir,
    address: String,
}

impl Broker {
    fn start() -> Self {
        let folder = folder();
        let address = Self::script("start", folder.path());
        Self { folder, address }
    }

    fn script(what: &str, folder: &Path) -> String {
        let done = Command::new(project("tests/services/kafka.sh")).arg(what).arg(folder).output().expect("the script runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).expect("an address").trim().to_owned()
    }

    fn restart(&self, gently: bool) {
        Self::script(if gently { "stop" } else { "kill" }, self.folder.path());
        Self::script("start", self.folder.path());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        Self::script("kill", self.folder.path());
    }
}

/// How a run is disturbed.
#[derive(Clone, Copy)]
struct Disturbances {
    kills: usize,
    at_least_once: bool,
    /// How many messages come between two kills; without any all are there from the start.
    sends: Option<usize>,
}

/// Three processes of one group, of which one after the other is killed, stopped or begun again.
fn disturbed(topics: &Topics, run: &str, prepared: &Path, broker: Option<&Broker>, how: Disturbances, random: &mut Random) -> usize {
    topics.create_outputs(run);
    let state = folder();
    let folders: Vec<_> = (0..3).map(|nth| copied(prepared, &format!("process-{nth}"))).collect();
    let start = |nth: usize| {
        let mut more = Vec::new();
        if how.at_least_once {
            more.push(("DYNAMIC_CEP_KAFKA_DELIVERY", "at-least-once".to_owned()));
        }
        started(folders[nth].path(), "-", &topics.variables(run, state.path(), &more))
    };
    let mut processes: Vec<Option<Process>> = (0..3).map(|nth| Some(start(nth))).collect();
    let mut sent = 0;
    for kill in 0..how.kills {
        if let Some(most) = how.sends {
            let count = 1 + random.below(most);
            topics.send(&events(random, sent, count));
            sent += count;
        }
        std::thread::sleep(Duration::from_millis(random.below(1500) as u64));
        let nth = random.below(3);
        match processes[nth].take() {
            Some(process) if random.one_in(4) => process.end(),
            Some(process) => process.kill(),
            None => {}
        }
        if let Some(broker) = broker.filter(|_| kill % 4 == 2) {
            broker.restart(random.one_in(2));
        }
        let again = random.below(3);
        if processes[again].is_none() {
            processes[again] = Some(start(again));
        }
    }
    (0..3).for_each(|nth| _ = processes[nth].get_or_insert_with(|| start(nth)));
    topics.wait(run);
    processes.into_iter().flatten().for_each(Process::end);
    sent
}

/// The first difference between what two runs told.
fn difference(one: &BTreeMap<&'static str, Vec<Told>>, other: &BTreeMap<&'static str, Vec<Told>>) -> Option<String> {
    KINDS.into_iter().find_map(|kind| {
        let (one, other) = (&one[kind], &other[kind]);
        if one.len() != other.len() {
            return Some(format!("{kind}: {} and {}", one.len(), other.len()));
        }
        one.iter().zip(other).find(|(one, other)| one != other).map(|pair| format!("{kind}: {pair:?}"))
    })
}

/// Processes that are killed, stopped and joined by others, and brokers that end and begin again, tell the same as one process that is left in peace: every result, and each once.
#[test]
fn nothing_is_lost_or_doubled_whatever_is_killed() {
    let test = "nothing_is_lost_or_doubled_whatever_is_killed";
    if service_at(BROKER, test).is_none() {
        return;
    }
    let kills = std::env::var("DYNAMIC_CEP_KILLS").map_or(8, |kills| kills.parse().expect("a number"));
    let mut random = Random::new(seed(test));
    let broker = Broker::start();
    let topics = Topics::new(&broker.address, "killed");
    let (prepared, _) = prepared(RULES);
    let how = Disturbances { kills, at_least_once: false, sends: Some(500) };
    let sent = disturbed(&topics, "cut", prepared.path(), Some(&broker), how, &mut random);
    let whole = undisturbed(&topics, prepared.path());
    let reader = topics.client().set("group.id", "nobody").create().expect("a consumer");
    assert_eq!(topics.ends(&reader, "events").iter().sum::<i64>(), sent as i64, "the brokers have kept every event");
    let cut = all_told(&topics, "cut");
    assert_eq!((cut["decisions"].len(), whole["decisions"].len()), (sent, sent));
    assert_eq!(difference(&cut, &whole), None);

    // Results that may come again are the same ones.
    let again = Disturbances { kills: 4, at_least_once: true, sends: None };
    disturbed(&topics, "again", prepared.path(), None, again, &mut random);
    let mut told = all_told(&topics, "again");
    told.values_mut().for_each(Vec::dedup);
    assert_eq!(difference(&told, &whole), None);
}

/// Events whose producers choose the partition by something else are put into the one of their key first.
#[test]
fn events_are_put_into_the_partition_of_their_key() {
    let Some(broker) = service_at(BROKER, "events_are_put_into_the_partition_of_their_key") else { return };
    let topics = Topics::new(&broker, "between");
    let (prepared, _) = prepared(RULES);
    let mut events = events(&mut Random::new(5), 0, 300);
    // What is late is so for its partition; in order of their times none is.
    events.sort_by_key(|event| event["at"].to_string());
    // All in one partition, so that their order is known.
    events.iter().for_each(|event| topics.send_raw(0, event.to_string().as_bytes()));
    topics.send_raw(0, b"no json");
    topics.create("cards");
    topics.create_outputs("between");
    let state = folder();
    let more = [("DYNAMIC_CEP_KAFKA_REPARTITION", topics.topic("cards")), ("DYNAMIC_CEP_KAFKA_KEY", "card".to_owned())];
    let own = copied(prepared.path(), "between");
    let process = started(own.path(), "-", &topics.variables("between", state.path(), &more));
    let begun = Instant::now();
    while topics.told("between", "decisions").len() < events.len() {
        assert!(begun.elapsed() < PATIENCE);
    }
    process.end();
    let told = |run: &str, kind: &str, names: &[&str]| {
        let values = topics.told(run, kind).into_iter().map(|(_, payload, _)| serde_json::from_str::<Value>(&payload).expect("JSON"));
        let parts = values.map(|value| names.iter().map(|name| value[*name].to_string()).collect::<Vec<_>>());
        parts.collect::<BTreeSet<_>>()
    };
    let whole = undisturbed(&topics, prepared.path());
    assert_eq!(whole["decisions"].len(), events.len());
    for (kind, names) in [("decisions", &["id", "rules", "score"][..]), ("findings", &["rule", "partition", "match_number", "measures"])] {
        let (between, whole) = (told("between", kind, names), told("whole", kind, names));
        assert!(whole.len() > 10 && between == whole, "{kind}: {:?}", between.symmetric_difference(&whole).next());
    }
    let partitions = told("between", "decisions", &["source"]);
    let partitions: BTreeSet<String> =
        partitions.iter().map(|source| serde_json::from_str::<Value>(&source[0]).expect("JSON")["partition"].to_string()).collect();
    assert!(partitions.len() > 1, "cards are in several partitions: {partitions:?}");
    assert_eq!(topics.told("between", "rejects").len(), 1);
}

/// A group that has read before does not go on without its state, unless it is told to.
#[test]
fn state_that_is_missing_is_told_and_not_made_up() {
    let Some(broker) = service_at(BROKER, "state_that_is_missing_is_told_and_not_made_up") else { return };
    let topics = Topics::new(&broker, "missing");
    let (prepared, key) = prepared(RULES);
    let mut random = Random::new(3);
    topics.send(&events(&mut random, 0, 200));
    topics.create_outputs("cut");
    let (own, state) = (copied(prepared.path(), "one"), folder());
    let start = |state: &Path| started(own.path(), &key, &topics.variables("cut", state, &[]));
    let careless = |state: &Path| {
        let may = [("DYNAMIC_CEP_ENGINE_STATE_MAY_BE_MISSING", "true".to_owned())];
        let process = started(own.path(), &key, &topics.variables("careless", state, &may));
        topics.wait("careless");
        process.kill();
    };
    topics.create_outputs("careless");
    careless(state.path());
    let process = start(state.path());
    topics.wait("cut");
    process.kill();
    topics.send(&events(&mut random, 200, 200));
    let elsewhere = folder();
    let process = start(&elsewhere.path().join("not-mounted"));
    let begun = Instant::now();
    let detail = loop {
        let (status, answer) = process.call("GET", "/readyz", &Value::Null);
        if status == 503 && answer["detail"].as_str().is_some_and(|detail| detail.contains("state_may_be_missing")) {
            break answer["detail"].as_str().expect("text").to_owned();
        }
        assert!(begun.elapsed() < PATIENCE, "{status} {answer}");
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(detail.contains("the group has read up to"), "{detail}");
    assert_eq!(topics.told("cut", "decisions").len(), 200, "nothing is judged without its state");
    process.kill();
    let process = start(state.path());
    topics.wait("cut");
    process.end();
    let whole = undisturbed(&topics, prepared.path());
    assert_eq!(difference(&all_told(&topics, "cut"), &whole), None);
    careless(elsewhere.path());
    assert!(difference(&all_told(&topics, "careless"), &whole).is_some(), "state that begins with nothing is noticed");
}
