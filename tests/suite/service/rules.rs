//! What rules of documents say in service: the same as where the documents are.

use super::{BINARY, Process, SCHEMA, events, folder};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Patterns that name lists and windows, and conditions over the same ones.
const DOCUMENT: &str = "schema: schema.yaml\nwindows:\n  seen: COUNT(*) OVER (PARTITION BY card ORDER BY at RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW)\n\
    lists: {watched: ['1', '3']}\nrules:\n\
    - {id: often, when: seen > 3 AND card IN LIST watched, score: 5}\n\
    - id: rises\n  match_recognize: |\n    PARTITION BY card ORDER BY at\n    PATTERN (a b) DEFINE a AS card IN LIST watched, b AS amount > a.amount\n\
    - id: crowds\n  match_recognize: |\n    PARTITION BY card ORDER BY at MEASURES c.Seen AS seen -- IN LIST nowhere\n    PATTERN (b c) DEFINE c AS Seen > b.seen\n\
    - {id: follows, sequence: 'BY card WITHIN INTERVAL ''2'' HOUR [card IN LIST watched AND amount > 50] THEN [seen > 4]'}\n";

/// What `match` finds of events: rules of each by its number, and rows of each finding.
fn matched(folder: &Path, emit: &str) -> BTreeSet<(u64, String)> {
    let files = folder.join("rules.yaml");
    let mut command = Command::new(BINARY);
    command.arg("match").arg(&files).arg("--events").arg(folder.join("events.ndjson")).args(["--emit", emit, "--output", "-"]);
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("text");
    let line = |line: &str| {
        let found: Value = serde_json::from_str(line).expect("JSON");
        (found["row"].as_u64().expect("a row"), found["rule"].as_str().expect("a rule").to_owned())
    };
    lines.lines().map(line).collect()
}

/// The same of answers.
fn answered(answers: &[Value]) -> [BTreeSet<(u64, String)>; 2] {
    let name = |name: &Value| name.as_str().and_then(|name| name.strip_prefix("all/main/")).expect("a rule of the set").to_owned();
    let hits = answers.iter().enumerate().flat_map(|(row, answer)| {
        let rules = answer["rules"].as_array().expect("rules");
        rules.iter().map(move |rule| (row as u64, name(rule)))
    });
    let findings = answers.iter().flat_map(|answer| answer["findings"].as_array().cloned().unwrap_or_default());
    [hits.collect(), findings.map(|found| (found["row"].as_u64().expect("a row"), name(&found["rule"]))).collect()]
}

/// Patterns that name what their document says find in service what `match` finds; also after a restart, and after others were compiled with them.
#[test]
fn patterns_over_lists_and_windows_find_what_match_finds() {
    let (here, served) = (folder(), folder());
    let events = events(240);
    let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
    for (name, text) in [("schema.yaml", SCHEMA), ("rules.yaml", DOCUMENT), ("events.ndjson", &lines)] {
        std::fs::write(here.path().join(name), text).expect("a file");
    }
    let right = [matched(here.path(), "hits"), matched(here.path(), "findings")];
    for rule in ["often", "rises", "crowds", "follows"] {
        assert!(right.iter().flatten().any(|(_, name)| name == rule), "{rule} finds something");
    }
    let process = Process::start(served.path(), None);
    let mut answers = Vec::new();
    let score = |process: &Process, events: &[Value]| {
        process.done("POST", "/v1/score", &events.to_vec().into())["results"].as_array().expect("results").clone()
    };
    let version = process.push("all", DOCUMENT);
    process.activate("all", version);
    answers.extend(score(&process, &events[..60]));
    // Others come beside them: a condition, and a pattern with a list of the same name, with which all are compiled again.
    let own = "lists: {watched: ['nobody']}\nrules:\n- {id: own, when: amount > 1000000}\n\
        - {id: pair, match_recognize: 'PARTITION BY card ORDER BY at PATTERN (a b) DEFINE a AS card IN LIST watched'}\n";
    let other = process.push("acme", own);
    process.activate("acme", other);
    answers.extend(score(&process, &events[60..120]));
    let key = process.key.clone();
    process.kill();
    let process = Process::start(served.path(), Some(&key));
    answers.extend(score(&process, &events[120..180]));
    process.done("PATCH", "/v1/tenants/acme/rule-sets/main/rules/own", &serde_json::json!({"status": "off"}));
    let other = process.push("acme", &own.replace("(a b)", "(a b b)"));
    process.activate("acme", other);
    answers.extend(score(&process, &events[180..]));
    assert_eq!(answered(&answers), right);
    answers[0]["rules"] = serde_json::json!(["all/main/often"]);
    assert_ne!(answered(&answers), right, "a hit more is noticed");
}
