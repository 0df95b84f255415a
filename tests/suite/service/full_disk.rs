//! A disk that takes no more: events are refused meanwhile, nothing of them remains, and afterwards all goes on.

use super::{OFTEN, Process, WINDOWS, events, folder, told};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

/// What no file of the process may grow beyond, in bytes; `None`: it may.
fn limit(process: &Process, bytes: Option<u64>) {
    let bytes = bytes.map_or("unlimited".to_owned(), |bytes| bytes.to_string());
    let done = Command::new("prlimit").args(["--pid", &process.id().to_string(), &format!("--fsize={bytes}:")]).status();
    assert!(done.expect("util-linux is there").success());
}

#[test]
fn a_full_disk_refuses_events_and_harms_nothing() {
    let events = events(120);
    let whole = folder();
    let process = Process::start(whole.path(), None);
    let version = process.push("all", WINDOWS);
    process.activate("all", version);
    let results = process.done("POST", "/v1/score", &Value::Array(events.clone()));
    let right: Vec<_> = results["results"].as_array().expect("results").iter().map(told).collect();
    assert!(
        right.iter().any(|(_, _, findings)| !findings.is_null()) && right.iter().any(|(_, rules, _)| rules.to_string().contains("often"))
    );

    let run = |sends_again: bool| {
        let cut = folder();
        let often = [("DYNAMIC_CEP_ENGINE_SNAPSHOT_MS", OFTEN)];
        let start = |key: Option<&str>| {
            // A process that does not ignore the signal ends at a limit, other than at a full disk.
            let mut command = Command::new("sh");
            command.args(["-c", "trap '' XFSZ; exec \"$0\" serve", super::BINARY]);
            Process::start_by(command, cut.path(), key, &often)
        };
        let mut process = start(None);
        let (version, key) = (process.push("all", WINDOWS), process.key.clone());
        process.activate("all", version);
        let journal = cut.path().join("journal/00000000000000000000.ndjson");
        let (mut answers, mut refused) = (Vec::new(), 0);
        for (row, event) in events.iter().enumerate() {
            match row {
                // A part of the next event finds room.
                20 | 50 | 90 => limit(&process, Some(fs::metadata(&journal).expect("a journal").len() + 30)),
                70 | 100 => {
                    process.kill();
                    process = start(Some(&key));
                }
                _ => {}
            }
            let (status, answer) = process.call("POST", "/v1/score", event);
            if status == 200 {
                answers.push(told(&answer));
                continue;
            }
            refused += 1;
            let told_why = answer["detail"].as_str().unwrap_or_default();
            assert!(status == 503 && told_why.contains("the journal cannot be written"), "{status} {answer}");
            assert_eq!(process.call("GET", "/healthz", &Value::Null).0, 200);
            assert_eq!(process.call("POST", "/v1/score", &json!([event, event])).0, 503, "it goes on being refused");
            let kept = fs::read_to_string(&journal).expect("a journal");
            assert_eq!((kept.lines().count(), kept.ends_with('\n')), (answers.len(), true), "nothing of it remains");
            limit(&process, None);
            if sends_again {
                answers.push(told(&process.score(event)));
            }
        }
        (answers, refused)
    };
    let (answers, refused) = run(true);
    assert_eq!(answers, right);
    assert_eq!(refused, 3);
    assert_ne!(run(false).0, right, "an event that is missing is noticed");
}
