//! Lists that are edited, and versions that are put in service later.

use super::{Process, SCHEMA, folder};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

const DOCUMENT: &str = "lists: {risky: ['4111', '4222'], other: [1]}\nrules:\n- {id: listed, when: card IN LIST risky, score: 1, action: block}\n\
    - {id: pair, match_recognize: 'PARTITION BY card ORDER BY at PATTERN (a b) DEFINE a AS card IN LIST risky'}\n";

const SET: &str = "/v1/tenants/all/rule-sets/main";

fn listed(process: &Process, card: &str) -> bool {
    !super::names(&process.score(&json!({"card": card, "amount": 1}))).is_empty()
}

fn entries(process: &Process) -> BTreeSet<String> {
    let list = process.done("GET", &format!("{SET}/lists/risky?limit=1000"), &Value::Null);
    list["entries"].as_array().expect("entries").iter().map(|entry| entry.as_str().expect("text").to_owned()).collect()
}

#[test]
fn an_edit_of_a_list_is_a_version_of_its_own() {
    let folder = folder();
    let process = Process::start(folder.path(), None);
    let version = process.push("all", DOCUMENT);
    let path = format!("{SET}/lists/risky");
    assert_eq!(process.call("PATCH", &path, &json!({"add": ["1"]})).0, 404, "nothing is live");
    let first = process.activate("all", version);
    assert_eq!(process.done("GET", &path, &Value::Null), json!({"list": "risky", "version": 1, "count": 2, "entries": ["4111", "4222"]}));
    assert_eq!((listed(&process, "4111"), listed(&process, "5000")), (true, false));
    let edited = process.done("PATCH", &path, &json!({"add": ["5000", "4222"], "remove": ["4111", "9999"]}));
    assert_eq!((&edited["version"], &edited["note"]), (&json!(2), &json!("list risky: 1 added, 1 removed")));
    assert_ne!(edited["generation"], first);
    assert_eq!(process.score(&json!({"amount": 1}))["generation"], edited["generation"]);
    assert_eq!((listed(&process, "4111"), listed(&process, "4222"), listed(&process, "5000")), (false, true, true));
    assert_eq!(entries(&process), ["4222", "5000"].map(str::to_owned).into());

    // The pattern over the list follows, and so does all of it over a restart; the version before is as it was.
    let at = |minute: u32| json!({"card": "5000", "amount": 1, "at": format!("2026-01-01T00:0{minute}:00Z")});
    let found = [1, 2].map(|minute| process.score(&at(minute))["findings"].as_array().map_or(0, Vec::len));
    assert_eq!(found, [0, 1]);
    let key = process.key.clone();
    process.kill();
    let process = Process::start(folder.path(), Some(&key));
    assert_eq!((listed(&process, "4111"), listed(&process, "5000")), (false, true));
    let files = process.done("GET", &format!("{SET}/versions/1/files"), &Value::Null);
    let files: Vec<Value> = files["files"].as_array().expect("files").clone();
    assert_eq!(files[1], json!({"name": "rules.yaml", "text": DOCUMENT}));
    let lists = process.done("GET", &format!("{SET}/versions/2/files"), &Value::Null)["lists"].clone();
    assert_eq!(lists, json!({"risky": ["4222", "5000"]}));
    let versions = process.done("GET", &format!("{SET}/versions"), &Value::Null)["versions"].clone();
    let again = process.done("POST", &format!("{SET}/versions"), &json!({"files": files}));
    assert_eq!((&again["version"], &again["hash"]), (&json!(3), &versions[1]["hash"]), "files that are pushed again are the same rules");
    process.done("POST", &format!("{SET}/rollback"), &Value::Null);
    assert_eq!((listed(&process, "4111"), listed(&process, "5000")), (true, false));

    // What is wrong changes nothing, and nobody reads in the log what was in the list.
    for (path, edit, expected) in [
        (path.clone(), json!({"add": [7]}), 422),
        (path.clone(), json!({"append": ["7"]}), 400),
        (format!("{SET}/lists/nothing"), json!({"add": ["7"]}), 404),
    ] {
        assert_eq!(process.call("PATCH", &path, &edit).0, expected, "{edit}");
    }
    let viewer = process.add_key("viewer", None);
    assert_eq!(process.send("PATCH", &path, &viewer, "application/json", b"{\"add\": [\"7\"]}").0, 403);
    assert_eq!(entries(&process), ["4111", "4222"].map(str::to_owned).into());
    let log = process.done("GET", "/v1/audit?limit=1000", &Value::Null)["entries"].clone();
    let edits: Vec<&Value> = log.as_array().expect("entries").iter().filter(|entry| entry["action"] == "list.edit").collect();
    assert!(edits.len() == 1 && edits[0]["detail"].as_str().expect("text").contains("\"added\":{\"entries\":1"), "{edits:?}");
    assert!(!log.to_string().contains("5000"), "{log}");
}

/// Edits at the same time: each that was accepted is there.
#[test]
fn no_edit_of_a_list_is_lost() {
    let folder = folder();
    let process = Process::start(folder.path(), None);
    let version = process.push("all", DOCUMENT);
    process.activate("all", version);
    let process = &process;
    let accepted: BTreeSet<String> = std::thread::scope(|scope| {
        let edit = |thread: usize| {
            let names = (0..5).map(move |nth| format!("c{thread}-{nth}"));
            names.filter(|name| process.call("PATCH", &format!("{SET}/lists/risky"), &json!({"add": [name]})).0 == 200).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..4).map(|thread| scope.spawn(move || edit(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(accepted.len() >= 5, "{accepted:?}");
    let mut right = accepted;
    right.extend(["4111", "4222"].map(str::to_owned));
    assert_eq!(entries(process), right);
    right.pop_first();
    assert_ne!(entries(process), right, "one that is lost is noticed");
}

#[test]
fn a_version_is_put_in_service_at_its_time() {
    let folder = folder();
    let process = Process::start(folder.path(), None);
    let set = process.send("PUT", "/v1/schema", &process.key, "application/yaml", SCHEMA.as_bytes());
    assert_eq!(set.0, 200, "{}", set.1);
    let versions = [process.push("all", &super::large(10, "review")), process.push("all", &super::large(20, "review"))];
    let before = process.activate("all", versions[0]);
    let schedule = |version: i64, milliseconds: u64| {
        let due = SystemTime::now() + Duration::from_millis(milliseconds);
        let since = due.duration_since(SystemTime::UNIX_EPOCH).expect("a time after 1970").as_millis();
        let at = chrono::DateTime::from_timestamp_millis(since as i64).expect("a time").to_rfc3339();
        let told = process.done("PUT", &format!("{SET}/live"), &json!({"version": version, "at": at}));
        assert_eq!(told["version"], version);
        (due, told)
    };
    let (due, told) = schedule(versions[1], 1500);
    assert_eq!(process.done("GET", &format!("{SET}/schedule"), &Value::Null), told);
    let generation = || process.score(&json!({"amount": 15}))["generation"].as_str().expect("a name").to_owned();
    let begun = Instant::now();
    while generation() == before {
        assert!(begun.elapsed() < Duration::from_secs(10), "it is put in service");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(SystemTime::now() >= due, "and not before its time");
    assert_eq!(process.call("GET", &format!("{SET}/schedule"), &Value::Null).0, 404);
    let after = generation();
    schedule(versions[0], 400);
    process.done("DELETE", &format!("{SET}/schedule"), &Value::Null);
    std::thread::sleep(Duration::from_millis(1000));
    assert_eq!(generation(), after);
    for wrong in ["tomorrow", "2026-01-01", ""] {
        assert_eq!(process.call("PUT", &format!("{SET}/live"), &json!({"version": 1, "at": wrong})).0, 400, "{wrong}");
    }
    assert_eq!(process.call("PUT", &format!("{SET}/live"), &json!({"version": 9, "at": "2036-01-01T00:00:00Z"})).0, 404);
}
