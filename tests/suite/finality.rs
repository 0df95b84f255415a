//! When a match is put out: as soon as no later row can change it, and not before; also where the run is cut after every row.

use super::patterns::{Run, STREAM, event};
use serde_json::{Value, json};

/// A statement over some rows, and for each of its findings how many rows were read when it was out (0: with the end of the input), and its first and
/// last row.
type Case<'c> = (&'c str, &'c str, &'c str, Vec<Value>, Vec<(usize, u64, u64)>);

fn number(finding: &Value, key: &str) -> u64 {
    finding[key].as_u64().expect("a row")
}

fn findings_come(clause: &str, lateness: &str, rows: &[Value]) -> Vec<(usize, u64, u64)> {
    let run = if clause.contains('[') { Run::sequence(clause, rows) } else { Run::new(STREAM, clause, rows) };
    let mut told = Vec::new();
    let mut one_by_one = Vec::new();
    for read in 1..=rows.len() {
        // Each row in a run of its own, which goes on from the one before.
        let read_all = read == rows.len();
        let more = if read_all { vec![] } else { vec!["--stop-after", "1"] };
        let found = run.findings(&[&["--allowed-lateness", lateness, "--snapshot", "state"], &more[..]].concat());
        one_by_one.extend(found.iter().cloned());
        if !read_all {
            told.extend(found.iter().map(|finding| (read, number(finding, "first_row"), number(finding, "last_row"))));
        }
    }
    let whole = run.findings(&["--allowed-lateness", lateness, "--batch-rows", "1"]);
    assert_eq!(one_by_one, whole, "{clause}, cut after every row");
    let until_the_last = run.findings(&["--allowed-lateness", lateness, "--stop-after", &rows.len().to_string(), "--snapshot", "other"]);
    assert!(whole.starts_with(&until_the_last), "{clause}: what is out stays");
    for (nth, finding) in whole.iter().enumerate().skip(told.len()) {
        let read = if nth < until_the_last.len() { rows.len() } else { 0 };
        told.push((read, number(finding, "first_row"), number(finding, "last_row")));
    }
    told
}

fn rows<const N: usize>(of: [(u32, i64); N]) -> Vec<Value> {
    of.iter().map(|(second, amount)| event(*second, "x", *amount)).collect()
}

/// The same, and rows of another card at these seconds, which tell of time only.
fn and_others<const N: usize>(of: [(u32, i64); N], others: &[u32]) -> Vec<Value> {
    rows(of).into_iter().chain(others.iter().map(|second| event(*second, "y", 9))).collect()
}

#[test]
fn a_match_is_out_when_no_later_row_can_change_it() {
    let cases: Vec<Case> = vec![
        ("with its last row", "PATTERN (a b)", "0s", rows([(0, 1), (1, 2), (2, 9)]), vec![(2, 0, 1)]),
        (
            "greedy: with the first row that it does not take",
            "PATTERN (a b+)",
            "0s",
            rows([(0, 1), (1, 2), (2, 2), (3, 9)]),
            vec![(4, 0, 2)],
        ),
        ("greedy: or with the end", "PATTERN (a b+)", "0s", rows([(0, 1), (1, 2), (2, 2)]), vec![(0, 0, 2)]),
        ("reluctant: with the first row that is enough", "PATTERN (a b+?)", "0s", rows([(0, 1), (1, 2), (2, 2)]), vec![(2, 0, 1)]),
        ("when a better one has failed", "PATTERN (a b c d | a b)", "0s", rows([(0, 1), (1, 2), (2, 9)]), vec![(3, 0, 1)]),
        ("the better one", "PATTERN (a b c d | a b)", "0s", rows([(0, 1), (1, 2), (2, 3), (3, 4)]), vec![(4, 0, 3)]),
        (
            "when it is too late for a better one",
            "PARTITION BY card PATTERN (a b c d | a b) WITHIN INTERVAL '1' MINUTE",
            "0s",
            and_others([(0, 1), (1, 2), (2, 3)], &[59, 60]),
            vec![(5, 0, 1)],
        ),
        (
            "when no row can come between",
            "PARTITION BY card PATTERN (a b)",
            "10s",
            and_others([(0, 1), (1, 2)], &[10, 11]),
            vec![(4, 0, 1)],
        ),
        ("late rows in their places", "PATTERN (a b c)", "5s", rows([(10, 1), (14, 3), (12, 2), (18, 9), (19, 9)]), vec![(5, 0, 1)]),
        ("equal rows as they came", "PATTERN (a b)", "0s", rows([(0, 1), (0, 2), (0, 2), (0, 1), (1, 2)]), vec![(2, 0, 1), (5, 3, 4)]),
        ("also late ones", "PATTERN (a b c)", "9s", rows([(5, 1), (9, 3), (5, 2), (18, 9)]), vec![(4, 0, 1)]),
        (
            "a second key decides among equal times",
            "ORDER BY at, amount PATTERN (a b)",
            "0s",
            rows([(1, 2), (1, 1), (2, 9)]),
            vec![(3, 1, 0)],
        ),
        ("when the next row is known", "PATTERN (a e)", "0s", rows([(0, 1), (1, 2), (2, 3), (3, 0)]), vec![(3, 0, 1)]),
        ("also for a measure", "MEASURES NEXT(amount) AS n PATTERN (a b)", "0s", rows([(0, 1), (1, 2), (2, 3)]), vec![(3, 0, 1)]),
        ("the end of all rows is known at the end", "PATTERN (a b $)", "0s", rows([(0, 1), (1, 2)]), vec![(0, 0, 1)]),
        (
            "overlapping ones together",
            "AFTER MATCH SKIP TO NEXT ROW PATTERN (a+ b)",
            "0s",
            rows([(0, 1), (1, 1), (2, 2), (3, 9)]),
            vec![(3, 0, 2), (3, 1, 2)],
        ),
        (
            "a later start when the first is too old",
            "PATTERN (a+ b) WITHIN INTERVAL '10' SECOND",
            "0s",
            rows([(0, 1), (5, 1), (12, 2), (13, 9)]),
            vec![(3, 1, 2)],
        ),
        (
            "not with a row at the end of the time",
            "PATTERN (a b*) WITHIN INTERVAL '10' SECOND",
            "0s",
            rows([(0, 1), (5, 2), (9, 2), (10, 2)]),
            vec![(4, 0, 2)],
        ),
        ("another order than that of time: at the end", "ORDER BY amount PATTERN (a b)", "0s", rows([(0, 2), (1, 1)]), vec![(0, 1, 0)]),
        (
            "an absence when its time is over",
            "BY card WITHIN INTERVAL '1' MINUTE [amount = 1] THEN NOT [amount = 2]",
            "10s",
            and_others([(0, 1)], &[60, 69, 70]),
            vec![(4, 0, 0)],
        ),
        (
            "not an absence of what comes late enough",
            "BY card WITHIN INTERVAL '1' MINUTE [amount = 1] THEN NOT [amount = 2]",
            "10s",
            vec![event(0, "x", 1), event(69, "y", 9), event(59, "x", 2), event(80, "y", 9)],
            vec![],
        ),
    ];
    for (name, clause, lateness, rows, expected) in cases {
        let clause = if clause.contains('[') { clause.to_owned() } else { whole(clause) };
        assert_eq!(findings_come(&clause, lateness, &rows), expected, "{name}: {clause}");
    }
}

/// The clause with an order, where it has none, and the definitions of its variables.
fn whole(clause: &str) -> String {
    let defines = [("a", "amount = 1"), ("b", "amount = 2"), ("c", "amount = 3"), ("d", "amount = 4"), ("e", "NEXT(amount) > amount")];
    let pattern = clause.split_once("PATTERN (").expect("a pattern").1.split_once(')').expect("its end").0;
    let used = defines.iter().filter(|(name, _)| pattern.contains(name));
    let defines: Vec<String> = used.map(|(name, condition)| format!("{name} AS {condition}")).collect();
    let ordered = match clause.strip_prefix("PARTITION BY card ") {
        Some(rest) => format!("PARTITION BY card ORDER BY at {rest}"),
        None if clause.starts_with("ORDER BY") => clause.to_owned(),
        None => format!("ORDER BY at {clause}"),
    };
    format!("{ordered} DEFINE {}", defines.join(", "))
}

/// Rows that no match has, and matches of no row, are told when that is known.
#[test]
fn rows_that_nothing_matches_are_told_in_time() {
    let run = |clause: &str, rows: &[Value]| -> Vec<Vec<u64>> {
        let run = Run::new(STREAM, clause, rows);
        let step = |_| run.findings(&["--snapshot", "state", "--stop-after", "1"]).iter().map(|found| number(found, "row")).collect();
        (0..rows.len()).map(step).collect()
    };
    let stream = rows([(0, 9), (1, 1), (2, 9), (3, 1), (4, 2)]);
    let unmatched = "ORDER BY at ALL ROWS PER MATCH WITH UNMATCHED ROWS PATTERN (a b) DEFINE a AS amount = 1, b AS amount = 2";
    assert_eq!(run(unmatched, &stream), [vec![0], vec![], vec![1, 2], vec![], vec![3, 4]]);
    let empty = "ORDER BY at ALL ROWS PER MATCH PATTERN (a*) DEFINE a AS amount = 1";
    assert_eq!(run(empty, &stream), [vec![0], vec![], vec![1, 2], vec![], vec![3, 4]]);
}

/// Matches are numbered on where a run goes on, also those of keys that wait for nothing.
#[test]
fn numbers_of_matches_go_on() {
    let stream: Vec<Value> = (0..12).map(|second| event(second, ["x", "y", "z"][second as usize % 3], i64::from(second / 6))).collect();
    let run = Run::new(STREAM, "PARTITION BY card ORDER BY at PATTERN (a) DEFINE a AS amount >= 0", &stream);
    let whole = run.findings(&[]);
    let mut found = run.findings(&["--snapshot", "state", "--stop-after", "5"]);
    found.extend(run.findings(&["--snapshot", "state"]));
    assert_eq!(found, whole);
    let numbers: Vec<u64> = found.iter().map(|finding| number(finding, "match_number")).collect();
    assert_eq!(numbers, [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]);
    assert_eq!(found[11]["partition"], json!({"card": "z"}));
}
