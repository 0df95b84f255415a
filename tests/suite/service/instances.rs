//! Several processes over one registry: what is changed at one is in service at all, and nothing that they write is torn.

mod postgres;

use super::{BINARY, Process, SCHEMA, folder};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Rules that are switched off and on one by one: rule `i` is for amounts above `i`.
const RULES: usize = 10;

/// What processes share.
struct Shared {
    registry: String,
    store: TempDir,
}

impl Shared {
    fn new(registry: String) -> Self {
        Self { registry, store: folder() }
    }

    fn variables(&self) -> [(&str, &str); 2] {
        [("DYNAMIC_CEP_REGISTRY_URL", &self.registry), ("DYNAMIC_CEP_STORE_URL", self.store.path().to_str().expect("a name in UTF-8"))]
    }

    fn start(&self, folder: &Path, key: Option<&str>) -> Process {
        Process::start_with(folder, key, &self.variables())
    }

    /// The number of entries of the audit log, which follow one another.
    fn audited(&self) -> usize {
        let log = Command::new(BINARY).args(["audit", "verify"]).envs(self.variables()).output().expect("it runs");
        let told = String::from_utf8_lossy(&log.stdout).into_owned();
        assert!(log.status.success(), "{}", String::from_utf8_lossy(&log.stderr));
        let count = told.strip_prefix("entries 1 to ").and_then(|rest| rest.split(' ').next());
        count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{told}"))
    }
}

/// Waits until something is so, for ten seconds.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn generation(process: &Process) -> String {
    process.score(&json!({"amount": 0}))["generation"].as_str().expect("a name").to_owned()
}

/// A change, once it was made.
struct Made {
    at: Instant,
    generation: String,
    /// Bit `i`: rule `i` is live.
    rules: u16,
}

/// An answer to events of all amounts from 0 to [`RULES`].
struct Answered {
    sent: Instant,
    at: Instant,
    generation: String,
    /// For each amount the rules that matched.
    rules: Vec<u16>,
}

fn answered(process: &Process) -> Answered {
    let events: Vec<Value> = (0..=RULES).map(|amount| json!({"amount": amount})).collect();
    let sent = Instant::now();
    let answer = process.done("POST", "/v1/score", &Value::Array(events));
    let results = answer["results"].as_array().expect("results");
    let generation = results[0]["generation"].as_str().expect("a name").to_owned();
    let rules = |result: &Value| {
        assert_eq!(result["generation"], *generation, "a request is one batch");
        let names = super::names(result);
        names.iter().map(|name| 1 << name.rsplit('r').next().and_then(|rule| rule.parse::<u16>().ok()).expect("a rule")).sum()
    };
    Answered { sent, at: Instant::now(), rules: results.iter().map(rules).collect(), generation }
}

/// Whether each answer is what exactly the rules of the generation that it names say.
fn agree(answers: &[Answered], made: &HashMap<&str, u16>) -> bool {
    answers.iter().all(|answer| {
        let live = made.get(&*answer.generation);
        live.is_some_and(|live| answer.rules.iter().enumerate().all(|(amount, rules)| *rules == live & ((1 << amount) - 1)))
    })
}

/// How long after each change a process first answered by it or a later one, in milliseconds, ascending.
fn delays(answers: &[Answered], changes: &[Made]) -> Vec<u128> {
    let place: HashMap<&str, usize> = changes.iter().zip(0..).map(|(change, at)| (&*change.generation, at)).collect();
    let mut delays = Vec::new();
    let mut answers = answers.iter().peekable();
    for (nth, change) in changes.iter().enumerate() {
        while answers.next_if(|answer| place[&*answer.generation] < nth).is_some() {}
        let answer = answers.peek().expect("the last generation was met");
        delays.push(answer.at.saturating_duration_since(change.at).as_millis());
    }
    delays.sort_unstable();
    delays
}

/// Rules change one by one at the first of three processes while all of them judge events.
fn changes_while_events_flow(processes: &[Process], changes: usize) {
    let rules: String = (0..RULES).map(|rule| format!("- {{id: r{rule}, when: amount > {rule}}}\n")).collect();
    let first = &processes[0];
    let version = first.push("all", &format!("rules:\n{rules}"));
    let mut live = u16::MAX >> (16 - RULES);
    let mut made = vec![Made { generation: first.activate("all", version), at: Instant::now(), rules: live }];
    for process in processes {
        until("all have the rules", || generation(process) == made[0].generation);
    }
    let ended = AtomicBool::new(false);
    let answers: Vec<Vec<Answered>> = std::thread::scope(|scope| {
        let scorers = processes.iter().map(|process| {
            let ended = &ended;
            scope.spawn(move || {
                let mut answers = Vec::new();
                while !ended.load(Ordering::Relaxed) {
                    answers.push(answered(process));
                }
                answers
            })
        });
        let scorers: Vec<_> = scorers.collect();
        for nth in 1..=changes {
            // One rule at a time, so that no state comes twice.
            let rule = nth.trailing_zeros() as usize % RULES;
            live ^= 1 << rule;
            let status = if live >> rule & 1 == 1 { json!(null) } else { json!("off") };
            let path = format!("/v1/tenants/all/rule-sets/main/rules/r{rule}");
            let generation = first.done("PATCH", &path, &json!({"status": status}))["generation"].as_str().expect("a name").to_owned();
            made.push(Made { at: Instant::now(), generation, rules: live });
        }
        let last = &made[made.len() - 1].generation;
        for process in processes {
            until("all have the last change", || generation(process) == *last);
        }
        std::thread::sleep(Duration::from_millis(100));
        ended.store(true, Ordering::Relaxed);
        scorers.into_iter().map(|scorer| scorer.join().expect("no panic")).collect()
    });
    let by_name: HashMap<&str, u16> = made.iter().map(|made| (&*made.generation, made.rules)).collect();
    assert_eq!(by_name.len(), changes + 1, "each change has a generation of its own");
    let place: HashMap<&str, usize> = made.iter().zip(0..).map(|(change, at)| (&*change.generation, at)).collect();
    let wrong: HashMap<&str, u16> = made.iter().zip(&made[1..]).map(|(made, next)| (&*made.generation, next.rules)).collect();
    for (nth, answers) in answers.iter().enumerate() {
        assert!(agree(answers, &by_name), "process {nth}: the rules of another generation");
        assert!(!agree(answers, &wrong), "rules of the generation after are noticed");
        assert!(answers.is_sorted_by_key(|answer| place[&*answer.generation]), "process {nth}: back to an earlier generation");
        let delays = delays(answers, &made);
        let (half, most, all) = (delays[delays.len() / 2], delays[delays.len() * 99 / 100], delays[delays.len() - 1]);
        let met = answers.iter().map(|answer| &answer.generation).collect::<std::collections::BTreeSet<_>>().len();
        println!(
            "process {nth}: {} answers by {met} generations; ms to the effect of {changes} changes: half {half}, 99 % {most}, all {all}",
            answers.len()
        );
        assert!(most <= 3000, "process {nth}: {most} ms");
    }
    let at_once = answers[0]
        .iter()
        .all(|answer| made.iter().rposition(|made| made.at <= answer.sent).is_none_or(|nth| place[&*answer.generation] >= nth));
    assert!(at_once, "where a change is made it is in service once that is answered");
}

/// Keys and tenants are the same everywhere.
fn keys_and_tenants(processes: &[Process]) {
    let [one, other, third] = processes else { panic!("three") };
    let added = one.done("POST", "/v1/keys", &json!({"name": "s", "role": "scorer", "tenant": "acme"}));
    let (key, id) = (added["key"].as_str().expect("a key"), added["id"].as_str().expect("an id"));
    let score = |process: &Process| process.send("POST", "/v1/score", key, "application/json", b"{\"amount\": 1}").0;
    until("the key is known", || score(other) == 200 && score(third) == 200);
    third.done("PUT", "/v1/tenants/acme", &json!({"suspended": true}));
    until("the tenant is suspended", || score(one) == 422 && score(other) == 422);
    other.done("DELETE", &format!("/v1/keys/{id}"), &Value::Null);
    until("the key is gone", || score(one) == 401 && score(third) == 401);
}

/// All processes change things at the same time.
fn changes_at_the_same_time(shared: &Shared, processes: &[Process], each: usize) {
    let before = shared.audited();
    std::thread::scope(|scope| {
        for (nth, process) in processes.iter().enumerate() {
            scope.spawn(move || {
                for change in 0..each {
                    process.done("PUT", &format!("/v1/tenants/t{nth}-{change}"), &json!({"suspended": change % 2 == 0}));
                }
            });
        }
    });
    assert_eq!(shared.audited(), before + processes.len() * each);
    let listed = processes[0].done("GET", "/v1/tenants", &Value::Null);
    let suspended =
        listed["tenants"].as_array().expect("tenants").iter().filter(|tenant| tenant["suspended"] == true && tenant["name"] != "acme");
    assert_eq!(suspended.count(), processes.len() * each.div_ceil(2));
}

/// What several processes over this registry do together.
fn story(registry: &str, changes: usize) {
    let shared = Shared::new(registry.to_owned());
    let folders = [folder(), folder(), folder()];
    let first = shared.start(folders[0].path(), None);
    let set = first.send("PUT", "/v1/schema", &first.key, "application/yaml", SCHEMA.as_bytes());
    assert_eq!(set.0, 200, "{}", set.1);
    let key = first.key.clone();
    let mut processes = vec![first];
    processes.extend(folders[1..].iter().map(|folder| shared.start(folder.path(), Some(&key))));
    changes_while_events_flow(&processes, changes);
    keys_and_tenants(&processes);
    changes_at_the_same_time(&shared, &processes, 30);
    // Any of them may end, and come back to what there is.
    let last = generation(&processes[0]);
    processes.remove(0).kill();
    let version = processes[0].push("all", &super::large(5, "block"));
    let next = processes[0].activate("all", version);
    assert_ne!(next, last);
    let back = shared.start(folders[0].path(), Some(&key));
    assert_eq!(generation(&back), next);
    until("the third has it, too", || generation(&processes[1]) == next);
}

#[test]
fn what_is_changed_at_one_process_is_in_service_at_all() {
    let registry = folder();
    story(&format!("sqlite://{}?mode=rwc", registry.path().join("registry.db").display()), 1000);
}

/// A version that a process cannot reach: it goes on with what it has, says so, and follows once it can.
#[test]
fn what_is_missing_is_told_and_tried_again() {
    let registry = folder();
    let shared = Shared::new(format!("sqlite://{}?mode=rwc", registry.path().join("registry.db").display()));
    let folders = [folder(), folder()];
    let one = shared.start(folders[0].path(), None);
    let version = one.push("all", &super::large(10, "review"));
    let before = one.activate("all", version);
    let apart = folder();
    let copy = || {
        for file in std::fs::read_dir(shared.store.path()).expect("a folder") {
            let file = file.expect("a file");
            std::fs::copy(file.path(), apart.path().join(file.file_name())).expect("a copy");
        }
    };
    copy();
    let store = format!("file://{}", apart.path().display());
    let variables = [shared.variables()[0], ("DYNAMIC_CEP_STORE_URL", store.as_str())];
    let other = Process::start_with(folders[1].path(), Some(&one.key), &variables);
    assert_eq!((generation(&other), other.call("GET", "/readyz", &Value::Null).0), (before.clone(), 200));
    let errors = || {
        let text = other.call("GET", "/metrics", &Value::Null).1;
        let line =
            text.as_str().expect("text").lines().find(|line| line.starts_with("dynamic_cep_follow_errors_total ")).expect("a counter");
        line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok()).expect("a number")
    };
    assert_eq!(errors(), 0);
    let version = one.push("all", &super::large(20, "review"));
    let next = one.activate("all", version);
    // What is not missing is followed all the same.
    let own = one.push("acme", "rules: []");
    assert_eq!(own, 1);
    one.done("PUT", "/v1/tenants/zeta", &json!({"suspended": true}));
    until("it says that something is missing", || other.call("GET", "/readyz", &Value::Null).0 == 503);
    until("it tries again and again", || errors() > 2);
    assert_eq!(generation(&other), before);
    assert_eq!(other.call("POST", "/v1/score", &json!({"tenant": "zeta", "amount": 1})).0, 422);
    copy();
    until("it has what was missing", || generation(&other) == next && other.call("GET", "/readyz", &Value::Null).0 == 200);
}
