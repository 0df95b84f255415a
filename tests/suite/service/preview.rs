//! What a preview says would change is what does change.

use super::{Process, folder, names};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Barrier;

const SCHEMA: &str =
    "fields: {id: uint64, tenant: utf8, card: utf8, amount: int64, fraud: boolean, at: timestamp(ms)}\nid: id\ntenant: tenant\ntime: at\n";

const BEFORE: &str = "rules:\n- {id: large, when: amount > 80, score: 5, action: review}\n- {id: same, when: card = '3', score: 1}\n- {id: gone, when: amount = 7, score: 2, action: block}\n";

/// A rule that is changed, one that is new and over a window, a pattern.
const AFTER: &str = "windows:\n  seen: COUNT(*) OVER (PARTITION BY card ORDER BY at RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW)\n\
    rules:\n- {id: large, when: amount > 60, score: 5, action: challenge}\n- {id: same, when: card IN ('3'), score: 1}\n- {id: often, when: seen > 3, score: 0.5, action: block}\n\
    - {id: rises, match_recognize: 'PARTITION BY card ORDER BY at PATTERN (a b) DEFINE b AS amount > a.amount'}\n";

fn push(process: &Process, tenant: &str, rules: &str) -> i64 {
    let files = json!([{"name": "schema.yaml", "text": SCHEMA}, {"name": "rules.yaml", "text": rules}]);
    process.done("POST", &format!("/v1/tenants/{tenant}/rule-sets/main/versions"), &json!({"files": files}))["version"]
        .as_i64()
        .expect("a number")
}

fn events(count: usize) -> Vec<Value> {
    let mut events = super::events(count);
    for (row, event) in events.iter_mut().enumerate() {
        event["id"] = row.into();
        event["tenant"] = json!(["acme", "zeta"][row % 3 % 2]);
        event["fraud"] = if row % 11 == 10 { Value::Null } else { json!((row * 31 + row / 7) % 5 == 0) };
    }
    events
}

fn score(process: &Process, events: &[Value]) -> Vec<Value> {
    process.done("POST", "/v1/score", &Value::Array(events.to_vec()))["results"].as_array().expect("results").clone()
}

/// What a preview says, but for names of generations, samples and what it says of state.
fn said(preview: &Value) -> Value {
    let mut rules = BTreeMap::new();
    for rule in preview["rules"].as_array().expect("rules") {
        rules.insert(rule["rule"].as_str().expect("a name"), [rule["before"].clone(), rule["after"].clone()]);
    }
    let mut actions: Vec<String> = preview["actions"].as_array().expect("actions").iter().map(Value::to_string).collect();
    actions.sort();
    json!([
        preview["events"],
        preview["changed"],
        preview["hit"],
        preview["flagged"],
        preview["findings"],
        preview["labelled"],
        actions,
        rules
    ])
}

/// The same, counted from answers.
fn counted(events: &[Value], answers: [&[Value]; 2]) -> Value {
    let all: Vec<usize> = (0..events.len()).collect();
    let labelled = |rows: &[usize]| rows.iter().filter(|row| !events[**row]["fraud"].is_null()).count();
    let caught = |rows: &[usize]| rows.iter().filter(|row| events[**row]["fraud"] == true).count();
    let ratio = |part: usize, whole: usize| if whole == 0 { Value::Null } else { json!(part as f64 / whole as f64) };
    let tally = |rows: Vec<usize>| {
        let (with, right) = (labelled(&rows), caught(&rows));
        json!({"events": rows.len(), "rate": ratio(rows.len(), events.len()), "labelled": with, "caught": right,
               "precision": ratio(right, with), "recall": ratio(right, caught(&all))})
    };
    let rows = |nth: usize, holds: &dyn Fn(&Value) -> bool| tally(all.iter().copied().filter(|row| holds(&answers[nth][*row])).collect());
    let both = |holds: &dyn Fn(&Value) -> bool| json!({"before": rows(0, holds), "after": rows(1, holds)});
    let findings = |nth: usize| answers[nth].iter().map(|answer| answer["findings"].as_array().map_or(0, Vec::len)).sum::<usize>();
    let (mut changed, mut actions) = (0, BTreeMap::<(&str, &str), u64>::new());
    for (before, after) in answers[0].iter().zip(answers[1]) {
        changed += u64::from(["score", "action", "rules"].iter().any(|part| before[part] != after[part]));
        if before["action"] != after["action"] {
            *actions.entry((before["action"].as_str().expect("an action"), after["action"].as_str().expect("an action"))).or_default() += 1;
        }
    }
    let mut actions: Vec<String> =
        actions.into_iter().map(|((from, to), events)| json!({"from": from, "to": to, "events": events}).to_string()).collect();
    actions.sort();
    let mut rules = BTreeMap::new();
    for rule in answers.iter().flat_map(|answers| answers.iter()).flat_map(names) {
        rules.entry(rule).or_insert_with(|| [0, 1].map(|nth| rows(nth, &|answer| names(answer).contains(&rule))));
    }
    let findings = json!({"before": findings(0), "after": findings(1)});
    json!([
        events.len(),
        changed,
        both(&|answer| !names(answer).is_empty()),
        both(&|answer| answer["action"] != "allow"),
        findings,
        labelled(&all),
        actions,
        rules
    ])
}

#[test]
fn a_preview_says_what_changes() {
    let folders = [folder(), folder()];
    let [process, other] = [0, 1].map(|nth| Process::start(folders[nth].path(), None));
    let events = events(400);
    let first = push(&process, "all", BEFORE);
    process.activate("all", first);
    // Earlier events, of which the preview has no state.
    score(&process, &super::events(90));
    let before = score(&process, &events);
    let second = push(&process, "all", AFTER);
    let path = format!("/v1/tenants/all/rule-sets/main/versions/{second}/preview");
    let preview = process.done("POST", &path, &json!({"events": events.len(), "label": "fraud"}));
    let version = push(&other, "all", AFTER);
    other.activate("all", version);
    let mut after = score(&other, &events);
    let right = counted(&events, [&before, &after]);
    assert_eq!(said(&preview), right);
    let changed = preview["changed"].as_u64().expect("a number");
    assert!(changed > 20 && changed < 400, "{changed}");
    assert_eq!(preview["summary"], format!("{changed} of 400 decisions change"));
    assert_eq!(preview["samples"].as_array().map(Vec::len), Some(20));
    let sample = &preview["samples"][0];
    let row = sample["id"].as_u64().expect("an id") as usize;
    for (part, answer) in [("before", &before[row]), ("after", &after[row])] {
        assert_eq!((&sample[part]["action"], &sample[part]["rules"]), (&answer["action"], &answer["rules"]));
    }
    after[17]["action"] = json!(if after[17]["action"] == "block" { "allow" } else { "block" });
    assert_ne!(said(&preview), counted(&events, [&before, &after]), "one decision more is noticed");

    // Events that are brought say the same; nothing of it is in service or in the journal.
    let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
    let brought = process.send("POST", &format!("{path}?label=fraud"), &process.key, "application/x-ndjson", lines.as_bytes());
    assert_eq!((brought.0, said(&brought.1)), (200, right));
    assert_eq!(preview["generations"]["before"], before[0]["generation"]);
    let again = score(&process, &events[..1]);
    assert_eq!(again[0]["generation"], before[0]["generation"]);
    // What it says will be in service is.
    assert_eq!(process.activate("all", second), preview["generations"]["after"].as_str().expect("a name"));
    let nothing = process.done("POST", &path, &json!({"events": 400}));
    assert_eq!((&nothing["changed"], &nothing["flagged"]["after"]["precision"]), (&json!(0), &Value::Null));
}

#[test]
fn previews_are_bounded_and_of_ones_own_events() {
    let folder = folder();
    let process = Process::start_with(folder.path(), None, &[("DYNAMIC_CEP_PREVIEW_EVENTS_MAX", "500")]);
    let first = push(&process, "all", BEFORE);
    process.activate("all", first);
    let events = events(300);
    score(&process, &events);
    let version = push(&process, "acme", "rules:\n- {id: any, when: amount >= 0, score: 1, action: review}\n");
    let path = format!("/v1/tenants/acme/rule-sets/main/versions/{version}/preview");
    let author = process.add_key("author", Some("acme"));
    let with = |key: &str, body: &Value| process.send("POST", &path, key, "application/json", body.to_string().as_bytes());
    let (status, preview) = with(&author, &json!({"events": 300}));
    let own = events.iter().filter(|event| event["tenant"] == "acme").count();
    assert_eq!((status, &preview["events"], &preview["changed"]), (200, &json!(own), &json!(own)), "{preview}");
    assert!(own < 300);
    let viewer = process.add_key("viewer", Some("acme"));
    for (key, body, expected) in [
        (&author, json!({"events": 501}), 413),
        (&author, json!({"label": "card"}), 400),
        (&author, json!({"label": "nothing"}), 400),
        (&author, json!({"event": 1}), 400),
        (&viewer, json!({}), 403),
    ] {
        assert_eq!(with(key, &body).0, expected, "{body}");
    }
    assert_eq!(process.call("POST", "/v1/tenants/acme/rule-sets/main/versions/9/preview", &json!({})).0, 404);
    // One at a time; afterwards there is room for the next.
    let (threads, barrier) = (8, Barrier::new(8));
    let answered: Vec<u16> = std::thread::scope(|scope| {
        let ask = || {
            barrier.wait();
            with(&author, &json!({})).0
        };
        let asked: Vec<_> = (0..threads).map(|_| scope.spawn(ask)).collect();
        asked.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(
        answered.contains(&200) && answered.contains(&429) && answered.iter().all(|status| [200, 429].contains(status)),
        "{answered:?}"
    );
    assert_eq!(with(&author, &json!({})).0, 200);
}
