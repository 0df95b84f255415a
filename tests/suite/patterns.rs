//! MATCH_RECOGNIZE as users meet it: statements of other engines' test suites with their answers, and the edges of time.

mod spilled;

use super::support::project;
use serde_json::{Map, Value, json};
use std::process::Command;

/// A rule over some rows, through the program.
pub struct Run {
    pub folder: tempfile::TempDir,
}

impl Run {
    pub fn new(schema: &str, clause: &str, rows: &[Value]) -> Self {
        Self::of(schema, &json!({"match_recognize": clause}), rows)
    }

    pub fn sequence(text: &str, rows: &[Value]) -> Self {
        Self::of(STREAM, &json!({"sequence": text}), rows)
    }

    /// The rule has these keys besides its id.
    fn of(schema: &str, rule: &Value, rows: &[Value]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).expect("a file");
        write("schema.yaml", schema.to_owned());
        let mut rule = rule.clone();
        rule["id"] = json!("r");
        write("rules.json", json!({"schema": "schema.yaml", "rules": [rule]}).to_string());
        write("events.ndjson", rows.iter().map(|row| format!("{row}\n")).collect());
        Self { folder }
    }

    pub fn ended(&self, more: &[&str]) -> (bool, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_dynamic-cep"))
            .args(["match", "rules.json", "--events", "events.ndjson", "--emit", "findings"])
            .args(more)
            .current_dir(self.folder.path())
            .output()
            .expect("the program runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (output.status.success(), text(output.stdout), text(output.stderr))
    }

    pub fn findings(&self, more: &[&str]) -> Vec<Value> {
        let (success, out, err) = self.ended(more);
        assert!(success, "{err}");
        out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

fn schema(columns: &[Value], types: &[Value]) -> String {
    let ty = |ty: &str| match ty {
        "integer" | "bigint" | "int" => "int64".to_owned(),
        "varchar" | "string" => "utf8".to_owned(),
        "double" => "float64".to_owned(),
        "boolean" => "bool".to_owned(),
        "timestamp" => "timestamp(ms)".to_owned(),
        other => other.to_owned(),
    };
    let fields: Vec<String> =
        columns.iter().zip(types).map(|(name, of)| format!("{}: {}", name.as_str().unwrap(), ty(of.as_str().unwrap()))).collect();
    format!("fields: {{{}}}\n", fields.join(", "))
}

/// The body of the statement's MATCH_RECOGNIZE, and the columns that it selects of the result.
fn parts(sql: &str) -> (String, Vec<String>) {
    let from = sql.find("FROM").expect("FROM");
    let selected = sql[6..from].split(',').map(|column| {
        let column = column.trim();
        let column = column.find(" as ").or_else(|| column.find(" AS ")).map_or(column, |end| &column[..end]);
        column.rsplit('.').next().unwrap_or(column).trim().to_owned()
    });
    let clause = &sql[sql.find("MATCH_RECOGNIZE").expect("the clause")..];
    let open = clause.find('(').expect("a parenthesis");
    let mut depth = 0;
    for (at, c) in clause.char_indices().skip(open) {
        depth += i32::from(c == '(') - i32::from(c == ')');
        if depth == 0 {
            return (clause[open + 1..at].to_owned(), selected.collect());
        }
    }
    panic!("no closing parenthesis: {sql}");
}

/// A cell as JSON: instants are given relative to a base.
fn cell(value: &Value) -> Value {
    match value.get("ts_offset_s").and_then(Value::as_f64) {
        Some(offset) => {
            let second = offset as i64;
            json!(format!("2023-12-01T{:02}:{:02}:{:02}Z", 12 + second / 3600, second / 60 % 60, second % 60))
        }
        None => value.clone(),
    }
}

fn sorted(mut rows: Vec<Vec<Value>>) -> Vec<Vec<Value>> {
    rows.sort_by_key(|row| row.iter().map(Value::to_string).collect::<Vec<_>>());
    rows
}

fn rows(value: &Value) -> Vec<Vec<Value>> {
    value.as_array().expect("rows").iter().map(|row| row.as_array().expect("a row").clone()).collect()
}

#[test]
fn statements_of_other_engines_give_their_answers() {
    let text = std::fs::read_to_string(project("tests/corpus/patterns/examples.json")).expect("the examples");
    let cases: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    assert_eq!(cases.len(), 10);
    for case in &cases {
        let (input, name) = (&case["input"], case["id"].as_str().expect("a name"));
        let (clause, mut selected) = parts(case["sql"].as_str().expect("a statement"));
        let mut columns = input["columns"].as_array().expect("columns").clone();
        let mut types = input["types"].as_array().expect("types").clone();
        let mut lateness = "0";
        let (input_rows, expected) = if let Some(before) = input.get("rows_before_restore") {
            // A stream that is stopped and goes on; its time is computed, and it waits for two seconds.
            columns.push(json!("rowtime"));
            types.push(json!("timestamp"));
            lateness = "2s";
            selected = ["first", "last", "up"].map(str::to_owned).to_vec();
            let mut all = rows(before);
            all.extend(rows(&input["rows_after_restore"]));
            for row in &mut all {
                let time = row[0].as_str().expect("a time").replace(' ', "T") + "Z";
                row.push(json!(time));
            }
            let mut expected = rows(&case["expected"]["before_restore"]);
            expected.extend(rows(&case["expected"]["after_restore"]));
            (all, expected)
        } else {
            (rows(&input["rows"]), rows(&case["expected"]["rows"]))
        };
        let names: Vec<&str> = columns.iter().map(|name| name.as_str().expect("a name")).collect();
        let mut schema = schema(&columns, &types);
        if names.contains(&"rowtime") {
            schema.push_str("time: rowtime\n");
        }
        let events: Vec<Value> = input_rows
            .iter()
            .map(|row| Value::Object(names.iter().map(|name| (*name).to_owned()).zip(row.iter().map(cell)).collect::<Map<_, _>>()))
            .collect();
        let run = Run::new(&schema, &clause, &events);
        for batch_rows in ["1", "2", "100"] {
            let findings = run.findings(&["--batch-rows", batch_rows, "--allowed-lateness", lateness]);
            let found = findings.iter().map(|finding| {
                let column = |name: &String| {
                    let of_row = || {
                        cell(&input_rows[finding["row"].as_u64().expect("a row") as usize][names.iter().position(|known| known == name)?])
                            .into()
                    };
                    finding["measures"].get(name).cloned().or_else(of_row)
                };
                selected.iter().map(|name| column(name).unwrap_or_else(|| panic!("{name:?} in {name}"))).collect()
            });
            assert_eq!(sorted(found.collect()), sorted(expected.clone()), "{name}, batches of {batch_rows}");
        }
        // Conditions on single rows, matched in tables for whole batches and looked at row by row.
        let whole = run.findings(&["--allowed-lateness", lateness]);
        assert_eq!(run.findings(&["--allowed-lateness", lateness, "--backend", "reference"]), whole, "{name}, by the reference");
        // Cut after every row, and gone on with.
        for cut in 1..input_rows.len() {
            let (folder, cut) = (format!("state-{cut}"), cut.to_string());
            let state = ["--allowed-lateness", lateness, "--batch-rows", ["1", "2", "7"][cut.len() % 3], "--snapshot", &folder];
            let mut found = run.findings(&[&state[..], &["--stop-after", &cut]].concat());
            found.extend(run.findings(&state));
            assert_eq!(found, whole, "{name}, cut after {cut}");
        }
    }
}

pub const STREAM: &str = "fields: {at: timestamp(s), card: utf8, amount: int64}\ntime: at\n";

pub fn event(second: u32, card: &str, amount: i64) -> Value {
    json!({"at": format!("2026-01-01T00:{:02}:{:02}Z", second / 60, second % 60), "card": card, "amount": amount})
}

const DRAIN: &str = "PARTITION BY card ORDER BY at MEASURES FIRST(small.at) AS started, SUM(big.amount) AS drained
    PATTERN (small{2,} big) WITHIN INTERVAL '1' MINUTE DEFINE small AS amount < 2, big AS amount > 500";

#[test]
fn within_is_exclusive() {
    let at = |second| Run::new(STREAM, DRAIN, &[event(0, "a", 1), event(1, "a", 1), event(second, "a", 900)]).findings(&[]);
    assert_eq!(at(60).len(), 0, "sixty seconds after the first row");
    let found = at(59);
    assert_eq!(found.len(), 1);
    assert_eq!(
        found[0],
        json!({"rule": "r", "tenant": null, "partition": {"card": "a"}, "match_number": 1, "row": 2, "classifier": null, "first_row": 0, "last_row": 2,
            "measures": {"started": "2026-01-01T00:00:00Z", "drained": 900}})
    );
}

#[test]
fn partitions_and_tenants_do_not_mix() {
    let rows = [event(0, "a", 1), event(1, "b", 1), event(2, "b", 1), event(3, "a", 900), event(4, "b", 900)];
    let found = Run::new(STREAM, DRAIN, &rows).findings(&[]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["partition"], json!({"card": "b"}));
}

#[test]
fn events_that_come_late_are_waited_for_or_put_aside() {
    let rows = [event(1, "a", 1), event(10, "a", 900), event(2, "a", 1), event(20, "b", 7)];
    let run = Run::new(STREAM, DRAIN, &rows);
    assert_eq!(run.findings(&["--allowed-lateness", "8s", "--late", "late.ndjson"]).len(), 1);
    assert_eq!(std::fs::read_to_string(run.folder.path().join("late.ndjson")).expect("a file"), "");
    assert_eq!(run.findings(&["--allowed-lateness", "7s", "--late", "late.ndjson"]).len(), 0);
    let late = std::fs::read_to_string(run.folder.path().join("late.ndjson")).expect("a file");
    let late: Value = serde_json::from_str(&late).expect("one row");
    assert_eq!((&late["row"], &late["amount"]), (&json!(2), &json!(1)));
}

#[test]
fn a_match_waits_while_a_better_one_is_possible() {
    // The longer way is preferred: it wins where it comes in time, and else the shorter one stands.
    let clause = "ORDER BY at MEASURES CLASSIFIER() AS last PATTERN (a b c d | a b) WITHIN INTERVAL '1' MINUTE
        DEFINE a AS amount = 1, b AS amount = 2, c AS amount = 3, d AS amount = 4";
    let last = |rows: &[Value]| -> Vec<Value> {
        Run::new(STREAM, clause, rows).findings(&["--batch-rows", "1"]).iter().map(|found| found["measures"]["last"].clone()).collect()
    };
    let rows = |last: u32| [event(0, "x", 1), event(1, "x", 2), event(2, "x", 3), event(last, "x", 4)];
    assert_eq!(last(&rows(59)), [json!("D")]);
    assert_eq!(last(&rows(60)), [json!("B")]);
    assert_eq!(last(&rows(59)[..3]), [json!("B")]);
}

#[test]
fn a_null_is_no_match_of_a_negation() {
    let clause = "ORDER BY at ALL ROWS PER MATCH PATTERN (a) DEFINE a AS card <> 'x'";
    let rows = [json!({"at": "2026-01-01T00:00:00Z"}), event(1, "x", 1), event(2, "y", 1)];
    let found = Run::new(STREAM, clause, &rows).findings(&[]);
    assert_eq!(found.iter().map(|found| &found["row"]).collect::<Vec<_>>(), [&json!(2)]);
}

#[test]
fn mistakes_have_places_and_hints() {
    for (clause, wanted) in [
        ("ORDER BY at PATTERN (a b) DEFINE a AS amount > 1, c AS amount < 1", "unknown-variable"),
        ("ORDER BY at AFTER MATCH SKIP TO z PATTERN (a) DEFINE a AS amount > 1", "unknown-variable"),
        ("ORDER BY at PATTERN (a DEFINE a AS amount > 1", "syntax"),
        ("ORDER BY at PATTERN (a) DEFINE a AS amounts > 1", "did you mean `amount`"),
        ("ORDER BY at PATTERN (a) DEFINE a AS FINAL LAST(amount) > 1", "final-in-define"),
        ("ORDER BY at MEASURES PREV(LAST(PREV(amount))) AS m PATTERN (a) DEFINE a AS TRUE", "nested-navigation"),
        ("ORDER BY at MEASURES SUM(a.amount + b.amount) AS m PATTERN (a b) DEFINE a AS TRUE", "mixed-variables"),
        ("ORDER BY at PATTERN (a{3,2}) DEFINE a AS TRUE", "upper bound"),
        ("ORDER BY at PATTERN ((a{100}){200}) DEFINE a AS TRUE", "10000 steps"),
        ("ORDER BY at PATTERN (a (((){4000000000}){4000000000}){4000000000}) DEFINE a AS TRUE", "100000 parts"),
        ("ORDER BY amount PATTERN (a b) WITHIN INTERVAL '1' MINUTE DEFINE a AS TRUE", "no-time-order"),
        ("ORDER BY at PATTERN (a) DEFINE a AS amount", "type-mismatch"),
        ("ORDER BY at MEASURES MAX_BY(card) AS m PATTERN (a) DEFINE a AS TRUE", "MIN_BY and MAX_BY take a value"),
        ("ORDER BY at MEASURES MAX_BY(a.card, b.amount) AS m PATTERN (a b) DEFINE a AS TRUE", "mixed-variables"),
        ("ORDER BY at MEASURES SUM(amount, amount) AS m PATTERN (a) DEFINE a AS TRUE", "found `,`"),
        ("ORDER BY at MEASURES SUM(card) AS m PATTERN (a) DEFINE a AS TRUE", "needs a number"),
        ("ORDER BY at MEASURES LISTAGG(amount) AS m PATTERN (a) DEFINE a AS TRUE", "LISTAGG needs text"),
        ("ORDER BY at MEASURES LISTAGG(card, card) AS m PATTERN (a) DEFINE a AS TRUE", "a constant string"),
        ("ORDER BY at MEASURES LISTAGG(card) WITHIN GROUP (ORDER BY at) AS m PATTERN (a) DEFINE a AS TRUE", "in the order of the match"),
        ("ORDER BY at MEASURES EVERY(amount) AS m PATTERN (a) DEFINE a AS TRUE", "must be true or false"),
        ("ORDER BY amount MEASURES MATCH_ROWTIME() AS m PATTERN (a) DEFINE a AS TRUE", "no-time-order"),
        ("ORDER BY at PATTERN (a) DEFINE a AS MATCH_ROWTIME() > at", "final-in-define"),
        ("ORDER BY at ALL ROWS PER MATCH WITH UNMATCHED ROWS PATTERN (a {- b -}) DEFINE a AS TRUE", "unmatched"),
        ("BY card [amount > 1]", "found `BY`"),
    ] {
        let (success, _, err) = Run::new(STREAM, clause, &[]).ended(&[]);
        assert!(!success && err.contains(wanted), "{clause}: {err}");
        assert!(err.contains("rules.json"), "the place: {err}");
    }
    for (sequence, wanted) in [
        ("SEQUENCE BY card [amount > 1]", "expected BY, WITHIN or a step in brackets, found `SEQUENCE`"),
        ("PARTITION BY card PATTERN (a)", "found `PARTITION`"),
        ("BY cards [amount > 1] [amount > 2]", "did you mean `card`"),
        ("[amount > 1] THEN NOT [amount > 2]", "absence-without-within"),
        ("THEN NOT [amount > 2] [amount > 1]", "expected BY, WITHIN or a step in brackets, found THEN"),
        ("[amount > 1] THEN NOT [amount > 2] THEN NOT [amount > 3] [amount > 4]", "join the conditions by OR"),
        ("[amount > 1] THEN amount > 2", "expected a step in brackets, or NOT and one"),
        ("[amount > 1]{0} [amount > 2]", "at least one row"),
        ("[amount > 1]{1,2} [amount > 2]", "{n} or {n,} times"),
        ("[amount > 1]* [amount > 2]", "match_recognize has those"),
        ("[amount > 1] AS a [amount > 2] AS A", "`A` is defined twice"),
        ("[amount > 1 [amount > 2]", "the closing bracket"),
        ("[amount > 1] [amount]", "type-mismatch"),
        ("[amount > 1] [amount > 2] UNTIL amount > 3", "a condition in brackets"),
        ("[amount > 1] [amount > 2] MEASURES b.amount AS m", "unknown field `b.amount`"),
        ("[amount > 1] AS a [amount > 2] AFTER MATCH SKIP TO b", "unknown-variable"),
        ("[amount > 1] AS a [amount > 2] AFTER MATCH SKIP TO a", "skip-to-first-row"),
        ("[amount > 1] [amount > 2] ALL ROWS PER MATCH WITH UNMATCHED ROWS", "cannot put out unmatched rows"),
        ("WITHIN INTERVAL '1' MONTH [amount > 1] [amount > 2]", "a month has no fixed length"),
        ("[amount > 1]{20000}", "10000 steps"),
        ("[amount > 1] UNTIL [amount > 2]", "there is nothing to end"),
        ("", "a step in brackets"),
    ] {
        let (success, _, err) = Run::sequence(sequence, &[]).ended(&[]);
        assert!(!success && err.contains(wanted), "{sequence}: {err}");
        assert!(err.contains("rules.json"), "the place: {err}");
    }
    let (success, _, err) = Run::of("fields: {amount: int64}\n", &json!({"sequence": "[amount > 1]"}), &[]).ended(&[]);
    assert!(!success && err.contains("no-time-field"), "{err}");
    let both = json!({"match_recognize": "PATTERN (a)", "sequence": "[amount > 1]", "when": "amount > 1"});
    let (success, _, err) = Run::of(STREAM, &both, &[]).ended(&[]);
    assert!(!success && err.matches("two-conditions").count() == 2, "{err}");
}

/// A skip that no match can follow is refused; one that some match can is not.
#[test]
fn a_skip_that_never_moves_is_refused() {
    let refused = |skip: &str, pattern: &str| {
        let (success, _, err) = Run::new(STREAM, &format!("ORDER BY at AFTER MATCH SKIP TO {skip} PATTERN ({pattern})"), &[]).ended(&[]);
        assert!(success || err.contains("skip-to-first-row") && err.contains("TO NEXT ROW"), "{err}");
        !success
    };
    for (skip, pattern) in [("FIRST a", "a b"), ("FIRST a", "a+ b"), ("LAST a", "a b"), ("FIRST a", "a | b"), ("a", "a (b | c)*")] {
        assert!(refused(skip, pattern), "{skip} of {pattern}");
    }
    let move_sometimes = ["FIRST b", "LAST a", "FIRST a", "LAST a", "a", "a", "FIRST a"].into_iter().zip([
        "a b",
        "a+ b",
        "b? a",
        "a b a",
        "(a b)+",
        "PERMUTE(a, b)",
        "(a | b a?) {- b -}",
    ]);
    for (skip, pattern) in move_sometimes {
        assert!(!refused(skip, pattern), "{skip} of {pattern}");
    }
}

/// Numbers of the first and last rows of what a sequence finds.
fn ends(sequence: &str, rows: &[Value]) -> Vec<(u64, u64)> {
    let of = |finding: &Value, key: &str| finding[key].as_u64().expect("a row");
    Run::sequence(sequence, rows).findings(&[]).iter().map(|finding| (of(finding, "first_row"), of(finding, "last_row"))).collect()
}

#[test]
fn a_sequence_passes_over_other_rows() {
    let rows = [event(0, "a", 1), event(1, "a", 7), event(1, "b", 900), event(2, "a", 1), event(3, "a", 600), event(4, "a", 700)];
    assert_eq!(ends("BY card [amount < 2] [amount > 500]", &rows), [(0, 4)], "past the last row is the next search");
    assert_eq!(ends("BY card [amount < 2] [amount > 500] AFTER MATCH SKIP TO NEXT ROW", &rows), [(0, 4), (3, 4)]);
    assert_eq!(ends("BY card [amount < 2]{2} [amount > 500]", &rows), [(0, 4)]);
    assert_eq!(ends("[amount < 2] [amount > 500]", &rows), [(0, 2), (3, 4)], "of all cards together");
    assert_eq!(ends("BY card [amount < 2] THEN [amount > 500] AS big THEN [amount > big.amount]", &rows), [(0, 5)]);
    assert_eq!(ends("BY card, amount [amount < 2] [amount < 2]", &rows), [(0, 3)], "rows of equal card and amount");
}

#[test]
fn what_is_told_of_a_sequence_is_about_its_steps() {
    let rows = [event(0, "a", 1), event(1, "a", 7), event(2, "a", 0), event(3, "a", 1), event(4, "a", 8), event(5, "a", 600)];
    let sequence = "BY card WITHIN INTERVAL '1' MINUTE [amount < 2]{2,} AS small [amount > 500] AS big
        MEASURES COUNT(*) AS n, COUNT(small.*) AS smalls, SUM(small.amount) AS spent, big.amount AS drained, CLASSIFIER() AS last";
    assert_eq!(
        Run::sequence(sequence, &rows).findings(&[])[0]["measures"],
        json!({"n": 4, "smalls": 3, "spent": 2, "drained": 600, "last": "BIG"})
    );
    let all = Run::sequence(&format!("{sequence} ALL ROWS PER MATCH"), &rows).findings(&[]);
    let told: Vec<(&Value, &Value)> = all.iter().map(|finding| (&finding["row"], &finding["classifier"])).collect();
    let (small, big) = (&json!("SMALL"), &json!("BIG"));
    assert_eq!(told, [(&json!(0), small), (&json!(2), small), (&json!(3), small), (&json!(5), big)]);
}

#[test]
fn a_row_that_ends_a_sequence_does_so_before_it_is_taken() {
    // 3 is the next step and the end of the search.
    let rows = |middle| [event(0, "a", 1), event(1, "a", middle), event(2, "a", 5), event(3, "a", 3)];
    assert_eq!(ends("[amount = 1] [amount >= 2] UNTIL [amount = 3]", &rows(4)), [(0, 1)]);
    assert!(ends("[amount = 1] [amount >= 2] UNTIL [amount = 3]", &rows(3)).is_empty());
    assert!(ends("[amount = 1] THEN NOT [amount = 3] [amount >= 2]", &rows(3)).is_empty());
    assert_eq!(ends("[amount = 1] THEN NOT [amount = 3] [amount >= 2]", &rows(4)), [(0, 1)]);
    // The first row begins the search, which it therefore does not end.
    assert_eq!(ends("[amount = 1] [amount >= 2] UNTIL [amount = 1]", &rows(4)), [(0, 1)]);
    // What must not come between two steps may come before and after.
    let rows = [event(0, "a", 3), event(1, "a", 1), event(2, "a", 2), event(3, "a", 3)];
    assert_eq!(ends("[amount = 1] THEN NOT [amount = 3] [amount = 2]", &rows), [(1, 2)]);
}

const UNPAID: &str = "BY card WITHIN INTERVAL '1' MINUTE [amount = 1] THEN NOT [amount = 2]";

#[test]
fn an_absence_is_found_when_its_time_has_passed() {
    let paid_at = |second| ends(UNPAID, &[event(0, "a", 1), event(second, "a", 2)]);
    assert!(paid_at(59).is_empty());
    assert_eq!(paid_at(60), [(0, 0)], "WITHIN is exclusive");
    // No row follows that could be one: the end of the input is the end of the time.
    assert_eq!(ends(UNPAID, &[event(0, "a", 1), event(1, "a", 7)]), [(0, 0)]);
    // Each order has its own time, and a payment is one for all orders before it.
    let rows = [event(0, "a", 1), event(10, "a", 1), event(65, "a", 2)];
    assert_eq!(ends(UNPAID, &rows), [(0, 0)]);
    // A payment that comes late is waited for, or is none.
    let rows = [event(0, "a", 1), event(70, "b", 7), event(50, "a", 2), event(200, "b", 7)];
    assert_eq!(Run::sequence(UNPAID, &rows).findings(&["--allowed-lateness", "20s"]).len(), 0);
    assert_eq!(Run::sequence(UNPAID, &rows).findings(&["--allowed-lateness", "19s"]).len(), 1);
}

#[test]
fn absences_are_in_the_order_of_their_ends() {
    // The times of both cards pass with a row of neither; what is found later comes after.
    let rows = [event(5, "b", 1), event(6, "a", 1), event(100, "c", 1), event(101, "c", 7), event(300, "d", 7)];
    let found = Run::sequence(UNPAID, &rows).findings(&["--batch-rows", "1"]);
    let cards: Vec<&Value> = found.iter().map(|finding| &finding["partition"]["card"]).collect();
    assert_eq!(cards, ["b", "a", "c"]);
}

/// A search may wait for a row to look ahead at while its time passes.
#[test]
fn a_search_whose_time_has_passed_may_wait_for_the_next_row() {
    let clause = "PARTITION BY card ORDER BY at PATTERN (a b) WITHIN INTERVAL '1' MINUTE DEFINE b AS NEXT(amount) > amount";
    let rows = [event(0, "a", 1), event(1, "a", 1), event(100, "b", 1), event(200, "b", 1), event(300, "a", 2)];
    let found = Run::new(STREAM, clause, &rows).findings(&[]);
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0]["first_row"], &found[0]["last_row"]), (&json!(0), &json!(1)));
}

#[test]
fn tests_inside_patterns_must_pass() {
    let rule = |key: &str, test: Value| {
        json!({"match_recognize": "PARTITION BY card ORDER BY at PATTERN (a b) WITHIN INTERVAL '1' MINUTE DEFINE a AS amount = 1, b AS amount = 2",
            "tests": [{key: test}]})
    };
    let refusal = |key: &str, test: Value| {
        let (success, _, err) = Run::of(STREAM, &rule(key, test), &[]).ended(&[]);
        assert_eq!(success, !err.contains("error["), "{err}");
        err
    };
    let pair = |second| json!([event(0, "a", 1), event(second, "a", 2)]);
    for (key, test) in [
        ("match", pair(59)),
        // The times count, not the places.
        ("match", json!([event(5, "a", 2), event(3, "a", 1)])),
        ("no_match", pair(60)),
        ("no_match", json!([])),
    ] {
        assert!(!refusal(key, test).contains("error["));
    }
    let wrong = refusal("match", pair(60));
    assert!(wrong.contains("error[failing-test]: the test says `match`, but the rule does not match"), "{wrong}");
    let wrong = refusal("no_match", json!([event(0, "b", 7), event(1, "a", 1), event(2, "a", 2)]));
    assert!(wrong.contains("the test says `no_match`") && wrong.contains("from event 2 to event 3"), "{wrong}");
    assert!(refusal("match", event(0, "a", 1)).contains("a list of events"));
    assert!(refusal("match", json!([{"amounts": 1}])).contains("unknown-field"));
    assert!(refusal("match", json!([{"amount": "x"}])).contains("test-value"));
    assert!(refusal("no_match", json!([{"amount": 1}])).contains("has no time"));
    // Of an absence the end of the events is the end of the time.
    let unpaid = |rows: Value| json!({"sequence": UNPAID, "tests": [{"match": rows}]});
    assert!(Run::of(STREAM, &unpaid(json!([event(0, "a", 1)])), &[]).ended(&[]).0);
    assert!(!Run::of(STREAM, &unpaid(json!([event(0, "a", 1), event(59, "a", 2)])), &[]).ended(&[]).0);
}

#[test]
fn explain_shows_what_a_sequence_has_become() {
    let sequence = "BY card WITHIN INTERVAL '5' MINUTE [amount < 2]{2,} AS small THEN NOT [amount = 7] [amount > 10 * small.amount] UNTIL [card = 'x']";
    let run = Run::sequence(sequence, &[event(0, "a", 1)]);
    let output = Command::new(env!("CARGO_BIN_EXE_dynamic-cep"))
        .args(["explain", "rules.json", "--events", "events.ndjson", "--row", "0", "--rule", "r"])
        .current_dir(run.folder.path())
        .output()
        .expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(
        String::from_utf8(output.stdout).expect("text"),
        "r is a pattern over several events; `match --emit findings` shows what it finds
  rows of the same card in the order of at, less than 300 s from the first to the last
  SMALL  amount < 2
  UNTIL  card = 'x'
  2      amount = 7
  3      amount > 10 * SMALL.amount
    0  take a row of SMALL
    1  wait for a row of SMALL; none at a row of UNTIL
    2  wait for a row of 3, taking those of SMALL; none at a row of 2 or UNTIL
    3  match
"
    );
}
