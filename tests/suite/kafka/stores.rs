//! Partitions that go from one process to another, with nothing in common between the two but the brokers and an object store.

use super::super::random::Random;
use super::super::stores::Bucket;
use super::super::stores::proxy::Mischief;
use super::{BROKER, PATIENCE, RULES, Topics, all_told, copied, difference, events, prepared, started, undisturbed};
use crate::support::service_at;
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

#[test]
fn partitions_move_with_state_in_an_object_store() {
    let test = "partitions_move_with_state_in_an_object_store";
    let (Some(broker), Some(bucket)) = (service_at(BROKER, test), Bucket::of("partitions")) else { return };
    let topics = Topics::new(&broker, "stores");
    let (prepared, key) = prepared(RULES);
    let mut random = Random::new(7);
    topics.create_outputs("moved");
    let folders = [copied(prepared.path(), "one"), copied(prepared.path(), "other"), copied(prepared.path(), "third")];
    let variables = |place: &str| topics.variables("moved", Path::new(place), &bucket.variables());
    let start = |nth: usize| started(folders[nth].path(), &key, &variables(&bucket.place));
    let mut sent = 0;
    let mut send = |count: usize| {
        topics.send(&events(&mut random, sent, count));
        sent += count;
    };
    let metric = |process: &super::Process, name: &str| {
        let text = process.call("GET", "/metrics", &Value::Null).1;
        let line = text.as_str().expect("text").lines().find(|line| line.starts_with(name)).expect("a metric").to_owned();
        line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok()).expect("a number")
    };
    let until = |what: &str, is_so: &dyn Fn() -> bool| {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < PATIENCE, "{what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };

    // One has all, another one joins it, the first is killed, a third one comes.
    let one = start(0);
    send(300);
    topics.wait("moved");
    let other = start(1);
    send(300);
    topics.wait("moved");
    one.kill();
    let third = start(2);
    bucket.proxy.set(Mischief::LosesAnAnswer);
    send(300);
    topics.wait("moved");
    third.end();
    // What was the third one's is the other's again before the store fails: state that cannot be read would be waited for.
    send(100);
    topics.wait("moved");

    // A store that fails takes no snapshots; events are judged all the same, and the next snapshot is of all of them.
    let failures = || metric(&other, "dynamic_cep_snapshot_failures_total ");
    let written = || metric(&other, "dynamic_cep_snapshots_total ");
    let failed = failures();
    bucket.proxy.set(Mischief::Fails);
    send(200);
    topics.wait("moved");
    until("it is told that snapshots fail", &|| failures() > failed);
    assert!(!other.log().contains(super::super::stores::SECRET));
    bucket.proxy.set(Mischief::None);
    let before = written();
    send(100);
    topics.wait("moved");
    until("snapshots are written again", &|| written() > before);
    other.kill();
    let one = start(0);
    send(200);
    topics.wait("moved");
    one.end();

    // Another place has no state, and that is noticed.
    send(100);
    let lost = started(folders[1].path(), &key, &variables(&format!("{}-elsewhere", bucket.place)));
    let told = || lost.call("GET", "/readyz", &Value::Null).1["detail"].as_str().unwrap_or_default().contains("state_may_be_missing");
    until("state that is missing is told", &told);
    lost.kill();
    let one = start(0);
    topics.wait("moved");
    one.end();

    let whole = undisturbed(&topics, prepared.path());
    let moved = all_told(&topics, "moved");
    assert_eq!(moved["decisions"].len(), sent);
    assert_eq!(difference(&moved, &whole), None);
    let mut less = moved;
    less.get_mut("findings").expect("findings").pop();
    assert!(difference(&less, &whole).is_some(), "a finding that is missing is noticed");
}
