//! The process as its users see it: over HTTP, started, killed and started again.

#[cfg(feature = "flight")]
mod flight;
mod full_disk;
mod instances;
mod lists;
mod load;
mod preview;
mod rules;

use super::support::project;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

pub const BINARY: &str = env!("CARGO_BIN_EXE_dynamic-cep");

pub const SCHEMA: &str =
    "fields: {id: utf8, tenant: utf8, card: utf8, amount: int64, at: timestamp(ms)}\nid: id\ntenant: tenant\ntime: at\n";

/// A process that serves; it is killed when this is dropped.
pub struct Process {
    child: Child,
    pub url: String,
    pub key: String,
    /// What it has said since it listens.
    log: Arc<Mutex<String>>,
}

impl Process {
    /// Starts a process over a folder. `key`: one that was shown at an earlier start.
    pub fn start(folder: &Path, key: Option<&str>) -> Self {
        Self::start_with(folder, key, &[])
    }

    /// The same with further variables of the environment.
    pub fn start_with(folder: &Path, key: Option<&str>, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(BINARY);
        command.arg("serve");
        Self::start_by(command, folder, key, variables)
    }

    /// The same by a command of one's own.
    pub fn start_by(mut command: Command, folder: &Path, key: Option<&str>, variables: &[(&str, &str)]) -> Self {
        let mut child = command
            .envs(variables.iter().copied())
            .env("DYNAMIC_CEP_DATA_DIR", folder)
            .env("DYNAMIC_CEP_HTTP_LISTEN", "127.0.0.1:0")
            .env("DYNAMIC_CEP_HTTP_BODY_BYTES_MAX", "1000000")
            .stderr(Stdio::piped())
            .spawn()
            .expect("the process starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let log: Arc<Mutex<String>> = Arc::default();
        let kept = Arc::clone(&log);
        let keep = move |line: &str| kept.lock().expect("no panic").extend([line, "\n"]);
        let mut after = |what: &str| loop {
            let line = lines.next().expect("the process says that it listens").expect("text");
            match line.strip_prefix(what) {
                Some(rest) => return rest.to_owned(),
                None => keep(&line),
            }
        };
        let url = after("listening on ");
        let key = key.map_or_else(|| after("the first key, for everything, shown this once: "), str::to_owned);
        // What else it says must go somewhere, or it would wait.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| keep(&line)));
        Self { child, url, key, log }
    }

    pub fn log(&self) -> String {
        self.log.lock().expect("no panic").clone()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn kill(mut self) {
        self.child.kill().expect("it is there to be killed");
        self.child.wait().expect("it ends");
    }

    pub fn send(&self, method: &str, path: &str, key: &str, kind: &str, body: &[u8]) -> (u16, Value) {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", kind)
            .body(body)
            .expect("a request");
        let mut response = agent.run(request).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let text = response.body_mut().read_to_string().expect("text");
        (response.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send(method, path, &self.key, "application/json", body.as_bytes())
    }

    /// Asks the process to end, and waits until it has.
    pub fn end(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("the command runs").success());
        assert!(self.child.wait().expect("it ends").success());
    }

    /// What must be done.
    pub fn done(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.call(method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    pub fn push(&self, tenant: &str, rules: &str) -> i64 {
        let files = json!([{"name": "schema.yaml", "text": SCHEMA}, {"name": "rules.yaml", "text": rules}]);
        let pushed = self.done("POST", &format!("/v1/tenants/{tenant}/rule-sets/main/versions"), &json!({"files": files}));
        pushed["version"].as_i64().expect("a number")
    }

    pub fn activate(&self, tenant: &str, version: i64) -> String {
        let path = format!("/v1/tenants/{tenant}/rule-sets/main/live");
        self.done("PUT", &path, &json!({"version": version}))["generation"].as_str().expect("a name").to_owned()
    }

    pub fn add_key(&self, role: &str, tenant: Option<&str>) -> String {
        let added = self.done("POST", "/v1/keys", &json!({"name": format!("a-{role}"), "role": role, "tenant": tenant}));
        added["key"].as_str().expect("a key").to_owned()
    }

    pub fn score(&self, event: &Value) -> Value {
        self.done("POST", "/v1/score", event)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn names(decision: &Value) -> Vec<&str> {
    decision["rules"].as_array().expect("rules").iter().map(|name| name.as_str().expect("a name")).collect()
}

pub fn large(limit: i64, action: &str) -> String {
    format!("rules:\n- {{id: large, when: amount > {limit}, score: {limit}, action: {action}}}\n")
}

/// What the README has a newcomer do: from nothing to an event that is judged, other rules, and back.
#[test]
fn from_nothing_to_a_judged_event_and_back() {
    let folder = folder();
    let process = Process::start(folder.path(), None);
    let pack = project("rules/fraud");
    let pushed = Command::new(BINARY).arg("push").arg(&pack).args(["--url", &process.url, "--key", &process.key, "--activate"]).output();
    let pushed = pushed.expect("the command runs");
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    let event = json!({"event_id": 1, "event_time": "2020-06-21T03:00:00Z", "card": 1, "merchant": "m", "category": "shopping_net", "amount": 1200.5,
                       "state": "NY", "merch_lat": 40.0, "merch_long": -73.0, "home_lat": 40.0, "home_long": -73.0});
    let before = process.score(&event);
    assert!(before["score"].as_f64().unwrap() > 0.0 && !names(&before).is_empty(), "{before}");
    assert_eq!(before["id"], 1);

    let rules = "rules:\n- {id: any, when: amount > 1, score: 1, action: block}\n";
    let files = json!([{"name": "rules.yaml", "text": rules}]);
    let path = "/v1/tenants/all/rule-sets/main";
    assert_eq!(process.done("POST", &format!("{path}/versions"), &json!({"files": files, "note": "everything"}))["version"], 2);
    assert_eq!(process.score(&event)["generation"], before["generation"], "a version is not in service by being pushed");
    process.done("PUT", &format!("{path}/live"), &json!({"version": 2}));
    let after = process.score(&event);
    assert_eq!((names(&after), &after["action"]), (vec!["all/main/any"], &json!("block")));
    assert_eq!(process.done("POST", &format!("{path}/rollback"), &Value::Null)["version"], 1);
    let back = process.score(&event);
    assert_eq!((&back["rules"], &back["score"], &back["action"]), (&before["rules"], &before["score"], &before["action"]));
    assert_ne!(back["decision_id"], before["decision_id"], "another event, though it says the same");

    // What is wrong with rules is told by the command, with its place.
    let bad = folder.path().join("bad.yaml");
    std::fs::write(&bad, "rules:\n- {id: x, when: amont > 1}\n").expect("a file");
    let refused =
        Command::new(BINARY).arg("push").arg(&bad).args(["--url", &process.url, "--key", &process.key]).output().expect("it runs");
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("unknown-field") && told.contains("bad.yaml:2"), "{told}");
    let log = Command::new(BINARY).args(["audit", "verify"]).env("DYNAMIC_CEP_DATA_DIR", folder.path()).output().expect("it runs");
    assert!(log.status.success(), "{}", String::from_utf8_lossy(&log.stderr));
    let text = String::from_utf8_lossy(&log.stdout).into_owned();
    assert!(text.starts_with("entries 1 to 7 follow"), "key, schema, two versions, two activations, a rollback: {text}");
}

pub const WINDOWS: &str = "windows:\n  seen: COUNT(*) OVER (PARTITION BY card ORDER BY at RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW)\n\
    rules:\n- {id: often, when: seen > 3, score: 5}\n- {id: large, when: amount > 90, score: 1}\n\
    - id: rises\n  match_recognize: |\n    PARTITION BY card ORDER BY at\n    MEASURES a.amount AS low, c.amount AS high\n    PATTERN (a b c) DEFINE b AS amount > a.amount, c AS amount > b.amount\n";

pub fn events(count: usize) -> Vec<Value> {
    let at = |row: usize| format!("2026-01-01T{:02}:{:02}:00Z", row / 20 % 24, row * 3 % 60);
    (0..count)
        .map(|row| json!({"id": row.to_string(), "card": (row * 7 % 5).to_string(), "amount": (row * row * 31 + row * 17) % 100, "at": at(row)}))
        .collect()
}

/// What does not depend on when and where a process ran.
pub fn told(decision: &Value) -> (Value, Value, Value) {
    let finding = |one: &Value| {
        ["rule", "partition", "match_number", "first_row", "last_row", "measures"].map(|part| (part.to_owned(), one[part].clone()))
    };
    let findings = decision["findings"].as_array().map(|all| all.iter().map(|one| Value::from_iter(finding(one))).collect::<Vec<_>>());
    (decision["id"].clone(), decision["rules"].clone(), json!(findings))
}

/// Milliseconds between two snapshots.
const NEVER: &str = "100000000";
pub const OFTEN: &str = "1";

pub fn has_snapshot(process: &Process) -> bool {
    let metrics = process.call("GET", "/metrics", &Value::Null).1;
    metrics.as_str().is_some_and(|text| text.lines().any(|line| line.starts_with("dynamic_cep_snapshots_total") && !line.ends_with(" 0")))
}

/// Kills the process again and again: it goes on where it was, whatever it had begun.
#[test]
fn a_process_that_is_killed_goes_on_where_it_was() {
    let events = events(120);
    let whole = folder();
    let process = Process::start(whole.path(), None);
    let version = process.push("all", WINDOWS);
    process.activate("all", version);
    let results = process.done("POST", "/v1/score", &Value::Array(events.clone()));
    let right: Vec<_> = results["results"].as_array().expect("results").iter().map(told).collect();
    assert!(right.iter().any(|(_, _, findings)| !findings.is_null()), "patterns find something");
    assert!(right.iter().any(|(_, rules, _)| rules.to_string().contains("often")));
    let found = right.iter().find_map(|(_, _, findings)| findings.get(0)).expect("a finding");
    assert!(found["rule"] == "all/main/rises" && found["last_row"].is_u64() && found["measures"]["low"].is_i64(), "{found}");

    let run = |removes: Option<&str>, snapshot_ms: &str, events_max: &str| {
        let cut = folder();
        let more = [("DYNAMIC_CEP_ENGINE_SNAPSHOT_MS", snapshot_ms), ("DYNAMIC_CEP_JOURNAL_EVENTS", events_max)];
        let process = Process::start_with(cut.path(), None, &more);
        let (version, key) = (process.push("all", WINDOWS), process.key.clone());
        process.activate("all", version);
        let mut process = Some(process);
        let mut answers = Vec::new();
        for (row, event) in events.iter().enumerate() {
            if row % 13 == 12 {
                let running = process.take().expect("it runs");
                while row == 12 && snapshot_ms == OFTEN && !has_snapshot(&running) {
                    std::thread::sleep(Duration::from_millis(10));
                }
                running.kill();
                let journal = cut.path().join("journal/00000000000000000000.ndjson");
                match removes {
                    Some("state") => std::fs::remove_dir_all(cut.path().join("state")).expect("it is removed"),
                    Some(_) => std::fs::write(&journal, "").expect("a file"),
                    None => {}
                }
                // What a process that is killed may leave behind.
                let mut text = std::fs::read(&journal).expect("a journal");
                text.extend(b"{\"id\": \"half");
                std::fs::write(&journal, text).expect("a file");
                process = Some(Process::start_with(cut.path(), Some(&key), &more));
            }
            answers.push(process.as_ref().expect("it runs").score(event));
        }
        let ids: BTreeSet<String> = answers.iter().map(|answer| answer["decision_id"].to_string()).collect();
        (answers.iter().map(told).collect::<Vec<_>>(), ids.len())
    };
    let right = (right, events.len());
    assert_eq!(run(None, NEVER, "1"), right, "from the journal since the rules began");
    assert_eq!(run(None, OFTEN, "1"), right, "from snapshots, and what came since");
    assert_eq!(run(Some("state"), NEVER, "1000"), right, "from the journal alone");
    assert_ne!(run(Some("state"), OFTEN, "1").0, right.0, "state that is missing is noticed");
    assert_ne!(run(Some("journal"), NEVER, "1000").0, right.0, "a process that forgets is noticed");
}

/// Rules change while events are judged: each event is judged by the rules of one generation, the one that it names.
#[test]
fn each_event_is_judged_by_one_generation() {
    let folder = folder();
    let process = Process::start(folder.path(), None);
    let both = |limit: i64| format!("{}- {{id: other, when: amount > {limit}, score: 1}}\n", large(limit, "review"));
    let versions = [process.push("all", &both(10)), process.push("all", &both(20))];
    let first = process.activate("all", versions[0]);
    let ended = AtomicBool::new(false);
    let mut generations: HashMap<String, i64> = HashMap::from([(first, 10)]);
    let answers = std::thread::scope(|scope| {
        let scorers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut answers = Vec::new();
                    while !ended.load(Ordering::Relaxed) {
                        let results = process.done("POST", "/v1/score", &json!([{"amount": 15}, {"amount": 25}, {"amount": 5}]));
                        answers.extend(results["results"].as_array().expect("results").chunks(3).map(<[Value]>::to_vec));
                    }
                    answers
                })
            })
            .collect();
        for nth in 1..60 {
            let generation = process.activate("all", versions[nth % 2]);
            generations.insert(generation, if nth % 2 == 0 { 10 } else { 20 });
        }
        ended.store(true, Ordering::Relaxed);
        scorers.into_iter().flat_map(|scorer| scorer.join().expect("no panic")).collect::<Vec<_>>()
    });
    let mut met = BTreeSet::new();
    for three in &answers {
        let limit = generations[three[0]["generation"].as_str().expect("a name")];
        met.insert(limit);
        for (decision, amount) in three.iter().zip([15, 25, 5]) {
            assert_eq!(decision["generation"], three[0]["generation"], "a request is one batch");
            assert_eq!(names(decision).len(), if amount > limit { 2 } else { 0 }, "{decision}");
        }
    }
    assert_eq!(met.len(), 2, "both versions have judged something");
}

/// Tenants have their own rules, and see and do nothing of one another.
#[test]
fn tenants_are_apart() {
    let folder = folder();
    let process = Process::start(folder.path(), None);
    let early = json!({"files": [{"name": "schema.yaml", "text": SCHEMA}, {"name": "rules.yaml", "text": large(1, "block")}]});
    assert_eq!(process.call("POST", "/v1/tenants/acme/rule-sets/main/versions", &early).0, 409, "no tenant sets the schema of all");
    for (tenant, limit) in [("all", 90), ("acme", 10), ("zeta", 50)] {
        let version = process.push(tenant, &large(limit, "review"));
        process.activate(tenant, version);
    }
    let of = |tenant: &str| process.score(&json!({"tenant": tenant, "amount": 95}))["rules"].clone();
    assert_eq!(of("acme"), json!(["acme/main/large", "all/main/large"]));
    assert_eq!(of("zeta"), json!(["all/main/large", "zeta/main/large"]));
    assert_eq!(of("nobody"), json!(["all/main/large"]));
    let scorer = process.add_key("scorer", Some("acme"));
    let with = |key: &str, method: &str, path: &str, body: &Value| {
        process.send(method, path, key, "application/json", body.to_string().as_bytes())
    };
    let (status, given) = with(&scorer, "POST", "/v1/score", &json!({"amount": 20}));
    assert_eq!((status, &given["tenant"], &given["rules"]), (200, &json!("acme"), &json!(["acme/main/large"])));
    let (status, foreign) =
        with(&scorer, "POST", "/v1/score", &json!([{"tenant": "zeta", "amount": 60}, {"amount": 60}, {"tenant": null, "amount": 60}]));
    assert_eq!((status, &foreign["results"][1]["rules"]), (200, &json!(["acme/main/large"])));
    assert!(foreign["results"][2]["error"].as_str().is_some_and(|error| error.contains("null, and the key is for")), "{foreign}");
    assert!(foreign["results"][0]["error"].as_str().unwrap().contains("not for the tenant `zeta`"), "{foreign}");

    let author = process.add_key("author", Some("acme"));
    let push = json!({"files": [{"name": "rules.yaml", "text": large(1, "block")}]});
    for (key, method, path, body, expected) in [
        (&scorer, "GET", "/v1/status", &Value::Null, 403),
        (&author, "POST", "/v1/score", &json!({"amount": 1}), 403),
        (&author, "POST", "/v1/tenants/zeta/rule-sets/main/versions", &push, 403),
        (&author, "GET", "/v1/tenants/zeta/rule-sets/main/versions", &Value::Null, 403),
        (&author, "POST", "/v1/tenants/acme/rule-sets/main/versions", &push, 201),
        (&author, "PUT", "/v1/tenants/acme/rule-sets/main/live", &json!({"version": 2}), 403),
        (&author, "POST", "/v1/keys", &json!({"name": "x", "role": "admin"}), 403),
        (&"dcep_00_00".to_owned(), "GET", "/v1/status", &Value::Null, 401),
    ] {
        assert_eq!(with(key, method, path, body).0, expected, "{method} {path}");
    }
    let seen = with(&author, "GET", "/v1/audit", &Value::Null).1;
    assert!(seen["entries"].as_array().unwrap().iter().all(|entry| entry["tenant"] == "acme"), "{seen}");
    assert_eq!(with(&author, "GET", "/v1/tenants", &Value::Null).1["tenants"].as_array().unwrap().len(), 1);
    let theirs = with(
        &author,
        "POST",
        "/v1/tenants/acme/rule-sets/main/versions",
        &json!({"files": [{"name": "a.yaml", "text": "rules: [{id: a, tenant: zeta, when: amount > 1}]"}]}),
    );
    assert_eq!((theirs.0, &theirs.1["diagnostics"][0]["code"]), (422, &json!("foreign-tenant")));
    let outside =
        with(&author, "POST", "/v1/tenants/acme/rule-sets/main/versions", &json!({"files": [{"name": "../a.yaml", "text": "rules: []"}]}));
    assert_eq!(outside.0, 400);
    let reads = "lists: {l: {file: /etc/passwd}}\nrules: [{id: a, when: card IN LIST l}]";
    let reads = with(&author, "POST", "/v1/tenants/acme/rule-sets/main/versions", &json!({"files": [{"name": "a.yaml", "text": reads}]}));
    assert!(reads.0 == 422 && reads.1.to_string().contains("it was not pushed"), "{reads:?}");

    process.done("PUT", "/v1/tenants/zeta", &json!({"suspended": true}));
    let suspended = process.call("POST", "/v1/score", &json!({"tenant": "zeta", "amount": 60}));
    assert_eq!((suspended.0, suspended.1["detail"].as_str().unwrap().contains("suspended")), (422, true));
    process.done("PUT", "/v1/tenants/zeta", &json!({}));
    assert_eq!(of("zeta"), json!(["all/main/large", "zeta/main/large"]));
    process.done("DELETE", "/v1/tenants/acme", &Value::Null);
    assert_eq!(of("acme"), json!(["all/main/large"]));
    assert_eq!(with(&scorer, "POST", "/v1/score", &json!({"amount": 1})).0, 401, "keys go with their tenant");
}

/// Shadows are reported and do not act; single rules are switched off and on; what is in service outlasts a restart.
#[test]
fn shadows_and_switches() {
    let folder = folder();
    let process = Process::start(folder.path(), None);
    let set = process.send("PUT", "/v1/schema", &process.key, "application/yaml", SCHEMA.as_bytes());
    assert_eq!(set.0, 200, "{}", set.1);
    let (live, shadow) = (process.push("acme", &large(50, "review")), process.push("acme", &large(10, "block")));
    process.activate("acme", live);
    let path = "/v1/tenants/acme/rule-sets/main";
    process.done("PUT", &format!("{path}/shadows/{shadow}"), &Value::Null);
    let event = json!({"tenant": "acme", "amount": 60});
    let expected = (json!(["acme/main/large"]), json!(["acme/main@2/large"]), json!("review"));
    let told = |process: &Process| {
        let answer = process.score(&event);
        (answer["rules"].clone(), answer["shadow_rules"].clone(), answer["action"].clone())
    };
    assert_eq!(told(&process), expected);
    process.done("PATCH", &format!("{path}/rules/large"), &json!({"status": "off"}));
    assert_eq!(told(&process), (json!([]), json!([]), json!("allow")));
    let key = process.key.clone();
    process.kill();
    let process = Process::start(folder.path(), Some(&key));
    assert_eq!(told(&process), (json!([]), json!([]), json!("allow")));
    process.done("PATCH", &format!("{path}/rules/large"), &json!({"status": null}));
    assert_eq!(told(&process), expected);
    process.done("DELETE", &format!("{path}/shadows/{shadow}"), &Value::Null);
    assert_eq!(told(&process).1, json!([]));
    assert_eq!(process.call("DELETE", &format!("{path}/shadows/{shadow}"), &Value::Null).0, 404);
    assert_eq!(process.call("POST", &format!("{path}/rollback"), &Value::Null).0, 409, "nothing was live before");
    assert_eq!(process.call("PUT", &format!("{path}/live"), &json!({"version": 9})).0, 404);
}

/// Whatever is sent, the process answers with a problem and goes on.
#[test]
fn nothing_that_is_sent_does_harm() {
    let folder = folder();
    let process = Process::start(folder.path(), None);
    assert_eq!(process.call("POST", "/v1/score", &json!({"amount": 1})).0, 409, "there is no schema yet");
    let version = process.push("all", &large(10, "review"));
    process.activate("all", version);
    // Where a body is too long the connection ends before all of it was sent: the process does not wait for the rest.
    let long = "x".repeat(2_000_000);
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let sent = agent.post(format!("{}/v1/score", process.url)).header("authorization", format!("Bearer {}", process.key)).send(&long);
    assert!(sent.is_err() || sent.is_ok_and(|response| response.status() == 413));
    let deep = "[".repeat(100_000);
    let bodies: [&[u8]; 11] = [
        b"",
        b"{",
        b"null",
        b"[]",
        b"[[]]",
        b"\xff\xfe",
        b"{\"amount\": 1e999}",
        b"{\"amount\": \"\\ud800\"}",
        b"{\"version\": -1}",
        b"{\"files\": [{\"name\": \"a.yaml\", \"text\": \"rules: [&a [*a]]\"}]}",
        deep.as_bytes(),
    ];
    let routes = [
        ("POST", "/v1/score"),
        ("PUT", "/v1/schema"),
        ("POST", "/v1/keys"),
        ("PUT", "/v1/tenants/x"),
        ("PUT", "/v1/tenants/x%2Fy"),
        ("PUT", "/v1/tenants/%ff"),
        ("DELETE", "/v1/keys/x"),
        ("POST", "/v1/tenants/x/rule-sets/y/versions"),
        ("PUT", "/v1/tenants/x/rule-sets/y/live"),
        ("POST", "/v1/tenants/x/rule-sets/y/rollback"),
        ("PUT", "/v1/tenants/x/rule-sets/y/shadows/99999999999999999999"),
        ("PATCH", "/v1/tenants/all/rule-sets/main/rules/x"),
        ("GET", "/v1/audit?limit=-1"),
        ("GET", "/v1/findings?limit=99999999999"),
        ("GET", "/nowhere"),
        ("TRACE", "/v1/score"),
        ("POST", "/v1/status"),
    ];
    for (method, path) in routes {
        for body in bodies {
            for kind in ["application/json", "application/x-ndjson"] {
                let (status, answer) = process.send(method, path, &process.key, kind, body);
                assert!(status < 500, "{method} {path} {}: {status} {answer}", String::from_utf8_lossy(&body[..body.len().min(40)]));
                assert!(status < 300 || answer["detail"].is_string(), "{method} {path}: {status} {answer}");
            }
        }
    }
    assert_eq!(process.score(&json!({"amount": 11}))["rules"], json!(["all/main/large"]));
    assert_eq!(process.call("GET", "/readyz", &Value::Null), (200, json!("ready\n")));
    let metrics = process.call("GET", "/metrics", &Value::Null).1;
    assert!(metrics.as_str().unwrap().contains("dynamic_cep_decisions_total{action=\"review\"}"), "{metrics}");
}
