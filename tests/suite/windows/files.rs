//! Windows over files: `match --emit windows` and the rules over them.

use crate::random::Random;
use crate::support::{Backend, told};
use dynamic_cep::command::matching::{self, Emit, Options, Progress, Summary};
use dynamic_cep::command::state::Memory;
use dynamic_cep::rule::Diagnostic;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

struct Silent;

impl Progress for Silent {
    fn rules(&mut self, _: &[Diagnostic]) {}
    fn rows(&mut self, _: u64, _: u64, _: Option<u64>) {}
    fn warning(&mut self, _: &str) {}
}

pub(super) struct Folder(pub tempfile::TempDir);

impl Folder {
    pub fn new(schema: &str, rules: &str, events: &str) -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        folder.write("schema.yaml", schema);
        folder.write("rules.yaml", rules);
        folder.write("events.ndjson", events);
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).expect("a file");
    }

    /// `match`, its results as JSON rows.
    pub fn run(&self, emit: Emit, change: impl Fn(&mut Options)) -> (Summary, Vec<Value>) {
        let output = self.path("out.ndjson").to_string_lossy().into_owned();
        let mut options = Options {
            rules: vec![self.0.path().to_path_buf()],
            events: Vec::new(),
            schema: None,
            backend: matching::Backend::Cpu,
            emit,
            output: Some(output),
            rejects: None,
            threads: 2,
            batch_rows: 1000,
            strict: false,
            allowed_lateness: 0,
            late: None,
            pattern_limits: dynamic_cep::temporal::patterns::Limits::default(),
        };
        change(&mut options);
        let summary = matching::run(&options, &mut Silent).map_err(told).expect("a run");
        (summary, rows(&std::fs::read_to_string(self.path("out.ndjson")).expect("results")))
    }

    fn windows(&self, change: impl Fn(&mut Options)) -> Vec<Value> {
        self.run(Emit::Windows, change).1
    }
}

pub(super) fn rows(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// A column of the results.
fn column(rows: &[Value], name: &str) -> Vec<Value> {
    rows.iter().map(|row| row[name].clone()).collect()
}

pub(super) const SCHEMA: &str = "
fields: {id: uint64, tenant: utf8, at: timestamp(ms), card: utf8, terminal: int64, amount: 'decimal(12,2)', paid: float64}
id: id
tenant: tenant
time: at
";

const HOUR: &str = "OVER (PARTITION BY card ORDER BY at RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW";

fn payment(id: usize, time: &str, card: &str, amount: &str) -> String {
    format!(r#"{{"id":{id},"tenant":"t","at":{time},"card":{card},"amount":{amount}}}"#) + "\n"
}

#[test]
fn edges_are_where_the_reference_says() {
    let rules = format!(
        "
windows:
  n: COUNT(*) {HOUR})
  others: COUNT(*) {HOUR} EXCLUDE CURRENT ROW)
  known: COUNT(amount) {HOUR})
  sum: SUM(amount) {HOUR})
  large: COUNT(*) FILTER (WHERE amount >= 2) {HOUR})
  different: COUNT(DISTINCT amount) {HOUR})
  earlier: COUNT(*) OVER (PARTITION BY card ORDER BY at RANGE BETWEEN INTERVAL '2' HOUR PRECEDING AND INTERVAL '1' HOUR PRECEDING)
  two: SUM(amount) OVER (PARTITION BY card ORDER BY at ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)
  before: LAG(amount) OVER (PARTITION BY card ORDER BY at)
  ever: COUNT(*) OVER (PARTITION BY card ORDER BY at)
rules:
  - {{id: r, when: n > 1}}
"
    );
    let time = |text: &str| format!("\"2026-01-01T{text}Z\"");
    let events: String = [
        payment(0, &time("10:00:00"), "\"a\"", "1.25"),
        // Exactly an hour later: closed at both ends.
        payment(1, &time("11:00:00"), "\"a\"", "2.50"),
        // A millisecond more, and the first is out.
        payment(2, &time("11:00:00.001"), "\"a\"", "2.50"),
        // A peer: the same time, and only what came before it.
        payment(3, &time("11:00:00.001"), "\"a\"", "null"),
        // NULL is a key of its own.
        payment(4, &time("11:00:00"), "null", "7"),
        payment(5, &time("11:30:00"), "null", "8"),
        // Out of order: in its place between 10:00 and 11:00.
        payment(6, &time("10:30:00"), "\"a\"", "100"),
        payment(7, &time("11:00:00.001"), "\"a\"", "0.01"),
        // No time, no windows.
        payment(8, "null", "\"a\"", "5"),
        payment(9, &time("11:00:00.001"), "\"a\"", "5").replace("\"t\"", "\"other\""),
    ]
    .concat();
    let folder = Folder::new(SCHEMA, &rules, &events);
    let (summary, found) = folder.run(Emit::Windows, |_| {});
    let names: Vec<&str> = found[0].as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(names.len(), 12, "row, id and the named windows: {names:?}");
    for (name, expected) in [
        ("n", json!([1, 2, 2, 3, 1, 2, 2, 5, null, 1])),
        ("others", json!([0, 1, 1, 2, 0, 1, 1, 4, null, 0])),
        ("known", json!([1, 2, 2, 2, 1, 2, 2, 4, null, 1])),
        ("sum", json!([1.25, 3.75, 5.00, 5.00, 7.00, 15.00, 101.25, 105.01, null, 5.00])),
        ("large", json!([0, 1, 2, 2, 1, 2, 1, 3, null, 1])),
        ("different", json!([1, 2, 1, 1, 1, 2, 2, 3, null, 1])),
        ("earlier", json!([0, 1, 1, 1, 0, 0, 0, 1, null, 0])),
        ("two", json!([1.25, 3.75, 5.00, 2.50, 7.00, 15.00, 101.25, 0.01, null, 5.00])),
        ("before", json!([null, 1.25, 2.50, 2.50, null, 7.00, 1.25, null, null, null])),
        ("ever", json!([1, 2, 3, 4, 1, 2, 2, 6, null, 1])),
    ] {
        let numbers = |value: &Value| value.as_array().expect("an array").iter().map(Value::as_f64).collect::<Vec<_>>();
        assert_eq!(numbers(&Value::from(column(&found, name))), numbers(&expected), "{name}");
    }
    let windows = summary.windows.expect("windows");
    assert_eq!((windows.late, windows.untimed), (4, 1), "10:30, and three at 11:00:00.001 behind 11:30");
    let hits = column(&folder.run(Emit::Hits, |_| {}).1, "id");
    assert_eq!(hits, [1, 2, 3, 5, 6, 7].map(Value::from));
}

/// Payments of some cards, of which every one has its id in the order of time; times may be equal only for different cards and terminals.
pub(super) fn payments(count: usize, keys: usize, seed: u64) -> Vec<(i64, usize, usize, i64)> {
    let mut random = Random::new(seed);
    let mut time = 1_767_225_600;
    (0..count)
        .map(|_| {
            time += 1 + random.below(150) as i64;
            (time, random.below(keys), random.below(keys / 2), random.below(100_000) as i64)
        })
        .collect()
}

pub(super) fn text_of<'a>(payments: impl Iterator<Item = (usize, &'a (i64, usize, usize, i64))>) -> String {
    payments.fold(String::new(), |mut text, (id, (time, card, terminal, cents))| {
        let _ = writeln!(
            text,
            r#"{{"id":{id},"tenant":"t","at":{},"card":"c{card}","terminal":{terminal},"amount":{}.{:02},"paid":{}}}"#,
            time * 1000,
            cents / 100,
            cents % 100,
            *cents as f64 / 100.0
        );
        text
    })
}

pub(super) const VELOCITY: &str = "
windows:
  n: COUNT(*) OVER (PARTITION BY card ORDER BY at RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW)
  sum: SUM(paid) OVER (PARTITION BY card ORDER BY at RANGE BETWEEN INTERVAL '6' HOUR PRECEDING AND CURRENT ROW)
  highest: MAX(amount) OVER (PARTITION BY terminal ORDER BY at RANGE BETWEEN INTERVAL '2' HOUR PRECEDING AND CURRENT ROW EXCLUDE CURRENT ROW)
  cards: COUNT(DISTINCT card) OVER (PARTITION BY terminal ORDER BY at RANGE BETWEEN INTERVAL '1' DAY PRECEDING AND CURRENT ROW)
  last: LAG(card, 2) OVER (PARTITION BY terminal ORDER BY at)
  spread: STDDEV(paid) OVER (ORDER BY at ROWS 50 PRECEDING)
rules:
  - {id: many, when: n > 2 AND amount > 100}
  - {id: inline, when: \"COUNT(*) OVER (PARTITION BY card ORDER BY at RANGE INTERVAL '60' MINUTE PRECEDING) BETWEEN 2 AND 3\"}
  - {id: shared, when: cards >= 3 OR last = card OR paid > 2 * AVG(paid) OVER (PARTITION BY card ORDER BY at)}
  - {id: none, when: highest IS NULL}
";

#[test]
fn values_do_not_depend_on_batches_threads_or_back_ends() {
    let folder = Folder::new(SCHEMA, VELOCITY, &text_of(payments(700, 12, 5).iter().enumerate()));
    let run = |emit, rows: usize, threads: usize, backend| {
        folder.run(emit, |options| (options.batch_rows, options.threads, options.backend) = (rows, threads, backend)).1
    };
    let windows = run(Emit::Windows, 1000, 1, matching::Backend::Cpu);
    let hits = run(Emit::Hits, 1000, 1, matching::Backend::Reference);
    assert!(["many", "inline", "shared", "none"].iter().all(|rule| hits.iter().any(|hit| hit["rule"] == **rule)));
    for (rows, threads) in [(1, 2), (2, 1), (7, 4), (1000, 2)] {
        assert_eq!(run(Emit::Windows, rows, threads, matching::Backend::Cpu), windows, "{rows} rows, {threads} threads");
        for backend in [matching::Backend::Cpu, matching::Backend::Reference, matching::Backend::Auto] {
            assert_eq!(run(Emit::Hits, rows, threads, backend), hits, "{rows} rows, {threads} threads, {backend:?}");
        }
    }
    let artifact = Arc::new(
        dynamic_cep::tables::Artifact::from_bytes(&crate::support::compile(&folder.path("rules.yaml"), Some(&folder.path("schema.yaml"))))
            .expect("an artifact"),
    );
    assert_eq!(artifact.windows().len(), 7, "an inline window that equals a named one is the same");
    if Backend::gpu(&artifact, "values_do_not_depend_on_batches_threads_or_back_ends").is_some() {
        assert_eq!(run(Emit::Hits, 100, 2, matching::Backend::Gpu), hits, "on the GPU");
    }
}

#[test]
fn rows_shuffled_within_the_lateness_have_the_values_of_the_ordered_file() {
    let payments = payments(1500, 12, 9);
    let ordered = Folder::new(SCHEMA, VELOCITY, &text_of(payments.iter().enumerate()));
    let by_id = |rows: Vec<Value>| -> BTreeMap<u64, Value> {
        let without_row = |mut row: Value| {
            row.as_object_mut().expect("an object").remove("row");
            row
        };
        rows.into_iter().map(|row| (row["id"].as_u64().expect("an id"), without_row(row))).collect()
    };
    let expected = by_id(ordered.windows(|_| {}));
    let hour = 3_600;
    let mut random = Random::new(3);
    let mut shuffled: Vec<(i64, usize)> =
        payments.iter().enumerate().map(|(id, payment)| (payment.0 + random.below(hour) as i64, id)).collect();
    shuffled.sort_unstable();
    assert!(shuffled.windows(2).any(|pair| pair[0].1 > pair[1].1));
    let folder = Folder::new(SCHEMA, VELOCITY, &text_of(shuffled.iter().map(|(_, id)| (*id, &payments[*id]))));
    let wait = |options: &mut Options, rows: usize| (options.allowed_lateness, options.batch_rows) = (hour as i64 * 1_000_000_000, rows);
    for rows in [1, 2, 7, 1000] {
        let (summary, found) = folder.run(Emit::Windows, |options| wait(options, rows));
        assert_eq!((summary.rows, summary.windows.expect("windows").late), (1500, 0));
        assert_eq!(by_id(found), expected, "batches of {rows}");
    }
    assert_ne!(by_id(folder.windows(|_| {})), expected, "without waiting they differ");
    // Half of the lateness: some come too late, are told so, and are scored all the same.
    let late = folder.path("late.ndjson");
    let (summary, found) = folder.run(Emit::Windows, |options| {
        wait(options, 100);
        options.allowed_lateness /= 4;
        options.late = Some(late.to_string_lossy().into_owned());
    });
    let told = rows(&std::fs::read_to_string(&late).expect("late rows"));
    assert_eq!((found.len(), told.len() as u64), (1500, summary.windows.expect("windows").late));
    assert!(!told.is_empty() && told.iter().all(|row| row["card"].is_string() && row["row"].is_u64()));
}

/// Counts and sums of the rows of `key` in the last `seconds`, by a queue for each key.
fn naive(payments: &[(i64, usize, usize, i64)], key: impl Fn(&(i64, usize, usize, i64)) -> usize, seconds: i64) -> Vec<(i64, i64)> {
    let mut queues: HashMap<usize, (VecDeque<(i64, i64)>, i64)> = HashMap::new();
    payments
        .iter()
        .map(|payment| {
            let (queue, sum) = queues.entry(key(payment)).or_default();
            queue.push_back((payment.0, payment.3));
            *sum += payment.3;
            while queue.front().is_some_and(|(time, _)| *time < payment.0 - seconds) {
                *sum -= queue.pop_front().expect("a front").1;
            }
            (queue.len() as i64, *sum)
        })
        .collect()
}

#[test]
fn counts_and_sums_of_many_rows_are_exact() {
    let payments = payments(120_000, 400, 1);
    let mut rules = "windows:\n".to_owned();
    for days in [1, 7, 30] {
        for (by, name) in [("card", "c"), ("terminal", "t")] {
            for (unit, length) in [("DAY", days), ("SECOND", days * 86_400)] {
                let over =
                    format!("OVER (PARTITION BY {by} ORDER BY at RANGE BETWEEN INTERVAL '{length}' {unit} PRECEDING AND CURRENT ROW)");
                let _ = writeln!(rules, "  {name}{days}{unit}_n: COUNT(*) {over}\n  {name}{days}{unit}_sum: SUM(amount) {over}");
            }
            let _ = writeln!(
                rules,
                "  {name}{days}_paid: SUM(paid) OVER (PARTITION BY {by} ORDER BY at RANGE BETWEEN INTERVAL '{days}' DAY PRECEDING AND CURRENT ROW)"
            );
        }
    }
    rules.push_str("rules:\n  - {id: r, when: c1DAY_n > 1}\n");
    let folder = Folder::new(SCHEMA, &rules, &text_of(payments.iter().enumerate()));
    let (summary, found) = folder.run(Emit::Windows, |options| options.batch_rows = 32_768);
    assert!(summary.windows.expect("windows").keys <= 600);
    let cents = |value: &Value| (value.as_f64().expect("a number") * 100.0).round() as i64;
    for days in [1, 7, 30] {
        for (by, name) in [(true, "c"), (false, "t")] {
            let expected = naive(&payments, |payment| if by { payment.1 } else { payment.2 }, days * 86_400);
            for unit in ["DAY", "SECOND"] {
                let (n, sum) = (format!("{name}{days}{unit}_n"), format!("{name}{days}{unit}_sum"));
                for (row, (count, total)) in found.iter().zip(&expected) {
                    assert_eq!((row[&n].as_i64(), cents(&row[&sum])), (Some(*count), *total), "{n} of {row}");
                }
            }
            // A sum of doubles is that of the cents, up to the rounding of each.
            let paid = format!("{name}{days}_paid");
            for (row, (count, total)) in found.iter().zip(&expected) {
                let error = (row[&paid].as_f64().expect("a number") - *total as f64 / 100.0).abs();
                assert!(error <= *count as f64 * 1e-13 + 1e-9, "{paid} of {row}: {error}");
            }
        }
    }
    let wrong = naive(&payments, |payment| payment.1, 86_400 - 1);
    assert!(found.iter().zip(&wrong).any(|(row, (count, _))| row["c1DAY_n"].as_i64() != Some(*count)), "a second less would be noticed");
}

#[test]
fn templates_tests_and_explain_know_windows() {
    let rules = format!(
        "
windows:
  n: COUNT(*) {HOUR})
templates:
  - id: often
    parameters: {{limit: int64, least: float64}}
    when: COUNT(*) FILTER (WHERE amount >= :least) {HOUR}) >= :limit AND n > 0
instances:
  - template: often
    values: [{{limit: 2, least: 1}}, {{limit: 2, least: 3}}, {{limit: 1, least: 3}}]
rules:
  - id: tested
    when: n > 3 AND amount > 1
    tests:
      - match: {{n: 4, amount: 2}}
      - no_match: {{n: 3, amount: 2}}
"
    );
    let events: String = (0..4).map(|id| payment(id, &format!("\"2026-01-01T10:0{id}:00Z\""), "\"a\"", &format!("{id}.50"))).collect();
    let folder = Folder::new(SCHEMA, &rules, &events);
    let (_, hits) = folder.run(Emit::Hits, |_| {});
    let hits: Vec<(u64, String)> =
        hits.iter().map(|hit| (hit["row"].as_u64().expect("a row"), hit["rule"].as_str().expect("a rule").to_owned())).collect();
    let of = |row: u64| hits.iter().filter(|hit| hit.0 == row).map(|hit| hit.1.as_str()).collect::<Vec<_>>();
    assert_eq!([of(0), of(1), of(2), of(3)], [vec![], vec![], vec!["often-0"], vec!["tested", "often-0", "often-2"]]);
    let options = Options {
        rules: vec![folder.0.path().to_path_buf()],
        events: Vec::new(),
        schema: None,
        backend: matching::Backend::Reference,
        emit: Emit::None,
        output: None,
        rejects: None,
        threads: 1,
        batch_rows: 2,
        strict: false,
        allowed_lateness: 0,
        late: None,
        pattern_limits: dynamic_cep::temporal::patterns::Limits::default(),
    };
    let mut options = options;
    let artifact = matching::load(&mut options, &mut Silent).map_err(told).expect("rules");
    let mut out = Vec::new();
    dynamic_cep::command::explain::explain(&artifact, &options, &Memory::default(), 3, Some("tested"), &mut out)
        .map_err(told)
        .expect("an explanation");
    let out = String::from_utf8(out).expect("text");
    assert!(out.contains("tested matches") && out.contains("n > 3   (n is 4)"), "{out}");
}

#[test]
fn windows_of_documents_have_names_of_their_own() {
    let errors = |rules: &str| {
        let folder = Folder::new(SCHEMA, rules, &payment(0, "0", "\"a\"", "1"));
        let given = dynamic_cep::command::sources::SchemaSources { given: Some(&folder.path("schema.yaml")), events: &[] };
        let compiled = dynamic_cep::command::sources::compile(&[folder.path("rules.yaml")], None, given, 1).map_err(told).expect("files");
        assert_eq!(compiled.artifact.is_none(), compiled.diagnostics.iter().any(Diagnostic::is_error));
        compiled.diagnostics.iter().filter(|found| found.is_error()).map(|found| (found.code, found.line)).collect::<Vec<_>>()
    };
    let n = format!("COUNT(*) {HOUR})");
    assert_eq!(errors(&format!("windows: {{a: \"{n}\", b: \"{n}\"}}\nrules:\n  - {{id: r, when: a = b}}\n")), []);
    assert_eq!(errors(&format!("windows:\n  card: {n}\nrules:\n  - {{id: r, when: amount > 1}}\n")), [("duplicate-window", 2)]);
    assert_eq!(errors(&format!("windows:\n  n: {n}\n  m: SUM(n) OVER (ORDER BY at)\nrules: []\n")), [("unknown-field", 3)]);
    assert_eq!(
        errors(&format!("windows:\n  n: {n}\nrules:\n  - {{id: r, when: SUM(n) OVER (ORDER BY at) > 1}}\n")),
        [("nested-window", 4)]
    );
    assert_eq!(errors("rules:\n  - {id: r, when: COUNT(*) OVER (PARTITION BY cart ORDER BY at) > 1}\n"), [("unknown-field", 2)]);
}

#[test]
fn patterns_may_name_windows() {
    let rules = format!(
        "
windows:
  n: COUNT(*) {HOUR})
rules:
  - id: burst
    match_recognize: |
      PARTITION BY card ORDER BY at MEASURES LAST(n) AS n PATTERN (third) DEFINE third AS n = 3
"
    );
    let events: String = (0..4).map(|id| payment(id, &format!("\"2026-01-01T10:0{id}:00Z\""), "\"a\"", "1")).collect();
    let folder = Folder::new(SCHEMA, &rules, &events);
    for lateness in [0, 120_000_000_000] {
        let (_, found) = folder.run(Emit::Findings, |options| options.allowed_lateness = lateness);
        assert_eq!((found.len(), &found[0]["row"], &found[0]["measures"]), (1, &json!(2), &json!({"n": 3})));
    }
}
