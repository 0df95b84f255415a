//! Processes whose rules and state are in an object store.

use super::super::service::{BINARY, OFTEN, Process, WINDOWS, events, folder, has_snapshot, large, told};
use super::proxy::Mischief;
use super::{Bucket, SECRET};
use dynamic_cep::connector::store::Store;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

fn start(folder: &Path, key: Option<&str>, variables: &[(&'static str, String)]) -> Process {
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Process::start_with(folder, key, &variables)
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Rules that are pushed to one process are in service at another one, which has no disk in common with it.
#[test]
fn rules_come_from_an_object_store() {
    let Some(bucket) = Bucket::of("artifacts") else { return };
    let (registry, folders) = (folder(), [folder(), folder(), folder()]);
    let registry = format!("sqlite://{}?mode=rwc", registry.path().join("registry.db").display());
    let mut variables = bucket.variables().to_vec();
    variables.extend([("DYNAMIC_CEP_REGISTRY_URL", registry), ("DYNAMIC_CEP_STORE_URL", bucket.place.clone())]);
    let one = start(folders[0].path(), None, &variables);
    let key = one.key.clone();
    let first = one.push("all", &large(10, "review"));
    let before = one.activate("all", first);
    let other = start(folders[1].path(), Some(&key), &variables);
    let generation = |process: &Process| process.score(&json!({"amount": 15}))["generation"].as_str().expect("a name").to_owned();
    assert_eq!(generation(&other), before);
    let second = other.push("all", &large(20, "block"));
    let next = one.activate("all", second);
    until("the other follows", || generation(&other) == next);
    assert_eq!(one.score(&json!({"amount": 25})).get("action"), other.score(&json!({"amount": 25})).get("action"));
    assert_eq!(other.score(&json!({"amount": 25}))["action"], "block");

    // What was fetched and is damaged since is fetched again.
    let log = other.log();
    other.end();
    let cached: Vec<_> =
        std::fs::read_dir(folders[1].path().join("artifacts")).expect("a folder").map(|one| one.expect("a file").path()).collect();
    assert!(!cached.is_empty());
    for file in &cached {
        std::fs::write(file, "damaged").expect("written");
    }
    let other = start(folders[1].path(), Some(&key), &variables);
    assert_eq!(generation(&other), next);

    // A store that does not have it is noticed by whoever has none of it.
    let store = Store::open(Path::new(&bucket.place), &bucket.config()).expect("a store");
    for (name, _) in store.list().expect("a list").iter().filter(|(name, _)| name.ends_with(".dcep")) {
        store.delete(name).expect("deleted");
    }
    let third = refused(folders[2].path(), &variables);
    assert!(third.contains(&bucket.place) && third.contains("artifact"), "{third}");
    assert_eq!(generation(&other), next, "who has it goes on");
    for said in [log, other.log(), third, checked(&variables)] {
        assert!(!said.contains(SECRET), "{said}");
    }
}

/// What a process says that does not start.
fn refused(folder: &Path, variables: &[(&'static str, String)]) -> String {
    let mut command = Command::new(BINARY);
    command.arg("serve").envs(variables.iter().cloned()).env("DYNAMIC_CEP_DATA_DIR", folder).env("DYNAMIC_CEP_HTTP_LISTEN", "127.0.0.1:0");
    let output = command.output().expect("it runs");
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a process says of its configuration.
fn checked(variables: &[(&'static str, String)]) -> String {
    let output = Command::new(BINARY).args(["serve", "--check"]).envs(variables.iter().cloned()).output().expect("it runs");
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(output.status.success() && said.contains("s3://"), "{said}");
    said
}

/// A process that is killed again and again goes on with the state that is in an object store, of which answers are lost and which fails for a while.
#[test]
fn state_goes_on_from_an_object_store() {
    let Some(bucket) = Bucket::of("state") else { return };
    let events = events(120);
    let whole = folder();
    let process = Process::start(whole.path(), None);
    let version = process.push("all", WINDOWS);
    process.activate("all", version);
    let results = process.done("POST", "/v1/score", &Value::Array(events.clone()));
    let right: Vec<_> = results["results"].as_array().expect("results").iter().map(told).collect();

    let run = |nth: usize, loses: bool| {
        let cut = folder();
        let place = |begun: usize| format!("{}/{nth}-{}", bucket.place, if loses { begun } else { 0 });
        let variables = |begun: usize| {
            let mut variables = bucket.variables().to_vec();
            variables.extend([
                ("DYNAMIC_CEP_ENGINE_STATE_DIR", place(begun)),
                ("DYNAMIC_CEP_ENGINE_SNAPSHOT_MS", OFTEN.to_owned()),
                ("DYNAMIC_CEP_JOURNAL_EVENTS", "1".to_owned()),
            ]);
            variables
        };
        let mut process = start(cut.path(), None, &variables(0));
        let (version, key) = (process.push("all", WINDOWS), process.key.clone());
        process.activate("all", version);
        let mut answers = Vec::new();
        for (row, event) in events.iter().enumerate() {
            if row % 20 == 19 {
                until("a snapshot", || has_snapshot(&process));
                process.kill();
                process = start(cut.path(), Some(&key), &variables(row));
            }
            match row {
                30 | 70 => bucket.proxy.set(Mischief::LosesAnAnswer),
                50 => bucket.proxy.set(Mischief::Fails),
                55 => bucket.proxy.set(Mischief::None),
                _ => {}
            }
            answers.push(told(&process.score(event)));
        }
        answers
    };
    assert_eq!(run(0, false), right);
    assert_ne!(run(1, true), right, "state that is missing is noticed");
}
