//! Rebuilt rules answer as those that were compiled at once; windows and patterns come and go.

use super::super::snapshot::Snapshot;
use super::super::{Change, LiveEngine, Settings};
use crate::compile::{Context, compile};
use crate::engine::router::Choice;
use crate::event::{EventBatch, Field, Schema, Type};
use crate::id::FieldId;
use crate::rule::lists::Lists;
use crate::rule::window::Columns;
use crate::rule::{Action, Clause, Limits, Origin, Rule, Status, check};
use crate::tables::Artifact;
use crate::window::Window;
use arrow::array::{ArrayRef, Date32Array, Int64Array};
use std::sync::Arc;

const COUNT: &str = "COUNT(*) OVER (PARTITION BY n ORDER BY at RANGE BETWEEN INTERVAL '2' DAY PRECEDING AND CURRENT ROW)";
const SUM: &str = "SUM(n) OVER (PARTITION BY n ORDER BY at RANGE BETWEEN INTERVAL '7' DAY PRECEDING AND CURRENT ROW)";

fn schema() -> Schema {
    let field = |name: &str, ty| Field { name: name.to_owned(), ty };
    let mut schema = Schema::new(vec![field("n", Type::Int), field("at", Type::Date)]).unwrap();
    schema.time = Some(FieldId(1));
    schema
}

fn rule(id: &str, clause: Clause, when: &str) -> Rule {
    Rule {
        id: id.into(),
        tenant: None,
        when: when.into(),
        origin: Origin::default(),
        parameters: Vec::new(),
        score: 1000,
        action: Action::Review,
        status: Status::Live,
        tags: Vec::new(),
        outcome: None,
        clause,
        tests: Vec::new(),
    }
}

fn plain(id: &str, when: &str) -> Rule {
    rule(id, Clause::When, when)
}

fn pattern(id: &str) -> Rule {
    rule(id, Clause::MatchRecognize, &format!("ORDER BY at PATTERN (a b) DEFINE b AS \"{COUNT}\" > 1 AND n > a.n"))
}

/// Columns that patterns may name, too.
fn columns(texts: &[&str]) -> Columns {
    let mut columns = Columns::new(&schema());
    windows(texts).into_iter().for_each(|window| _ = columns.add_by_text(window));
    columns
}

fn windows(texts: &[&str]) -> Vec<Window> {
    let (schema, lists, limits) = (schema(), Lists::new(), Limits::default());
    let scope = check::Scope { schema: &schema, lists: &lists, parameters: &[], limits: &limits, windows: &[] };
    texts.iter().flat_map(|text| check::window::stated(&format!("{text} > 0"), &Origin::default(), &scope)).collect()
}

fn context<'a>(schema: &'a Schema, lists: &'a Lists, limits: &'a Limits) -> Context<'a> {
    Context { schema, lists, limits, threads: 1 }
}

fn engine(rules: &[Rule]) -> LiveEngine {
    let (schema, lists, limits) = (schema(), Lists::new(), Limits::default());
    let compiled = compile(rules.iter().cloned(), &context(&schema, &lists, &limits));
    let artifact = Arc::new(Artifact::from_bytes(&compiled.artifact.expect("sound rules")).unwrap());
    let settings = Settings { choice: Choice::Cpu, background: false, ..Settings::default() };
    LiveEngine::new(artifact, Lists::new(), limits, settings).unwrap()
}

/// Every pair of a number and a value of each window.
fn batch(snapshot: &Snapshot) -> EventBatch {
    let column = |each: i64| -> ArrayRef { Arc::new((0..1000).map(|row| Some(row / each % 10)).collect::<Int64Array>()) };
    let days: ArrayRef = Arc::new(Date32Array::from(vec![0; 1000]));
    let events = EventBatch::new(snapshot.base().event_schema(), 0, 1000, vec![Some(column(1)), Some(days)]);
    // What a window says here is told by what it is, not by where its column lies.
    let columns = snapshot.base().windows().iter().map(|window| column(if window.window == windows(&[COUNT])[0] { 10 } else { 100 }));
    events.with_columns(snapshot.schema(), columns)
}

/// Row and id of all hits, then the ids of the patterns.
fn answer(snapshot: &Snapshot) -> (Vec<(usize, String)>, Vec<String>) {
    let hits = snapshot.hits(&batch(snapshot));
    let pairs = (0..hits.rows()).flat_map(|row| hits.row(row).iter().map(move |rule| (row, snapshot.id(*rule).to_owned())));
    (pairs.collect(), snapshot.patterns().map(|(rule, _)| snapshot.id(rule).to_owned()).collect())
}

/// What the definitions say: `n` is the last digit of a row's number, the count its second, and the sum its first.
fn expected(ids: &[&str], patterns: &[&str]) -> (Vec<(usize, String)>, Vec<String>) {
    let of_row = |row: usize| {
        let held = ids.iter().filter(|id| holds(row % 10, row / 10 % 10, row / 100, id));
        held.map(move |id| (row, (*id).to_owned())).collect::<Vec<_>>()
    };
    ((0..1000).flat_map(of_row).collect(), patterns.iter().map(|id| (*id).to_owned()).collect())
}

fn holds(n: usize, count: usize, sum: usize, id: &str) -> bool {
    match id {
        "plain" => n > 7,
        "count" => count > 5 && n < 5,
        "sum" => sum > 8,
        "other" => sum > 3 && count < 2,
        _ => unreachable!("{id}"),
    }
}

#[test]
fn windows_and_patterns_come_and_go() {
    let engine = engine(&[plain("plain", "n > 7")]);
    let first = Arc::clone(engine.snapshot().generation());
    let count = plain("count", &format!("{COUNT} > 5 AND n < 5"));
    assert_eq!(engine.apply(&[Change::Add(count.clone())]).unwrap_err()[0].code, "unknown-window");
    let second = engine.rebuild(&[Change::Add(count)], columns(&[COUNT])).unwrap();
    assert_eq!(answer(&second), expected(&["plain", "count"], &[]));

    // What there is may be named by its text, or stated again.
    engine.apply(&[Change::Replace(plain("count", &format!("\"{COUNT}\" BETWEEN 6 AND 100 AND n <= 4")))]).unwrap();
    assert_eq!(answer(&engine.snapshot()), expected(&["plain", "count"], &[]));
    let both = columns(&[SUM, COUNT]);
    let more = [
        Change::Add(plain("sum", &format!("{SUM} > 8"))),
        Change::Add(pattern("pattern")),
        Change::Add(plain("other", &format!("{SUM} > 3 AND {COUNT} < 2"))),
    ];
    engine.rebuild(&more, both).unwrap();
    let all = expected(&["plain", "count", "sum", "other"], &["pattern"]);
    assert_eq!(answer(&engine.snapshot()), all);
    assert_ne!(answer(&engine.snapshot()), expected(&["plain", "count", "other", "sum"], &["pattern"]), "rules have an order");
    assert!(engine.compact().unwrap());
    assert_eq!(answer(&engine.snapshot()), all, "windows and patterns outlive a compaction");

    // A window that a rule needs cannot go; one that no rule needs can.
    let before = engine.snapshot();
    let refused = engine.rebuild(&[Change::Remove("sum".into())], columns(&[COUNT])).unwrap_err();
    assert!(refused[0].to_string().contains("do not compile"), "{}", refused[0]);
    assert!(Arc::ptr_eq(&before, &engine.snapshot()), "nothing has changed");
    let gone = [Change::Remove("sum".into()), Change::Remove("other".into()), Change::Status("pattern".into(), Status::Off)];
    engine.rebuild(&gone, columns(&[COUNT])).unwrap();
    assert_eq!(answer(&engine.snapshot()), expected(&["plain", "count"], &[]));
    assert_eq!(engine.snapshot().base().windows().len(), 1);
    engine.rebuild(&[Change::Status("pattern".into(), Status::Shadow)], columns(&[COUNT])).unwrap();
    assert_eq!(answer(&engine.snapshot()), expected(&["plain", "count"], &["pattern"]));
    engine.apply(&[Change::Remove("pattern".into())]).unwrap();
    assert_eq!(answer(&engine.snapshot()), expected(&["plain", "count"], &[]));

    engine.rollback(&first).unwrap();
    assert_eq!(answer(&engine.snapshot()), expected(&["plain"], &[]));
}

/// A list that a pattern names is not known any more once it is compiled.
#[test]
fn patterns_over_lists_outlive_a_compaction() {
    let (schema, mut lists, limits) = (schema(), Lists::new(), Limits::default());
    lists.insert("odd", (0..5).map(|n| serde_json::json!(2 * n + 1)).collect());
    let listed = rule("listed", Clause::MatchRecognize, "ORDER BY at PATTERN (a b) DEFINE b AS n IN LIST odd AND a.n NOT IN LIST odd");
    let compiled = compile([listed, plain("plain", "n > 7")].into_iter(), &context(&schema, &lists, &limits));
    let artifact = Arc::new(Artifact::from_bytes(&compiled.artifact.expect("sound rules")).unwrap());
    let settings = Settings { choice: Choice::Cpu, background: false, ..Settings::default() };
    let engine = LiveEngine::new(artifact, Lists::new(), limits, settings).unwrap();
    let patterns = || engine.snapshot().patterns().map(|(_, pattern)| Arc::clone(pattern)).collect::<Vec<_>>();
    let before = patterns();
    for nth in 0..3 {
        engine.apply(&[Change::Add(plain(&format!("p{nth}"), "n = 1"))]).unwrap();
        assert!(engine.compact().unwrap());
        engine.rebuild(&[Change::Add(plain(&format!("q{nth}"), "n = 2"))], Columns::new(&schema)).unwrap();
    }
    assert_eq!((patterns(), engine.snapshot().rules()), (before, 8));
}

/// The same changes have the same names and the same answers, whichever way they were made.
#[test]
fn rebuilding_is_applying_for_rules_that_need_nothing_else() {
    let rules: Vec<Rule> = (0..9).map(|nth| plain(&format!("r{nth}"), &format!("n = {nth}"))).collect();
    let changes = [
        Change::Add(plain("x", "n > 3")),
        Change::Replace(plain("r4", "n < 2")),
        Change::Remove("r7".into()),
        Change::Status("r2".into(), Status::Off),
        Change::Add(plain("r7", "n IS NOT NULL")),
        Change::Status("x".into(), Status::Shadow),
        Change::Remove("r4".into()),
    ];
    let (applied, rebuilt) = (engine(&rules), engine(&rules));
    applied.apply(&[Change::Remove("r0".into())]).unwrap();
    rebuilt.apply(&[Change::Remove("r0".into())]).unwrap();
    let (a, b) = (applied.apply(&changes).unwrap(), rebuilt.rebuild(&changes, columns(&[])).unwrap());
    assert_eq!((a.generation(), answer(&a), a.rules()), (b.generation(), answer(&b), b.rules()));
    let other = engine(&rules).rebuild(&changes, columns(&[])).unwrap();
    assert_ne!((other.generation(), answer(&other)), (b.generation(), answer(&b)), "a change less is noticed");
    // What comes later has its place after them.
    let last = [Change::Add(plain("last", "n > 1"))];
    assert_eq!(answer(&applied.apply(&last).unwrap()), answer(&rebuilt.apply(&last).unwrap()));
    let wrong = [Change::Add(plain("x", "n = 1")), Change::Remove("no".into()), Change::Add(plain("y", "m = 1"))];
    let codes = |wrong: Vec<crate::rule::Diagnostic>| wrong.iter().map(|diagnostic| diagnostic.code).collect::<Vec<_>>();
    assert_eq!(codes(rebuilt.rebuild(&wrong, columns(&[])).unwrap_err()), ["duplicate-id", "unknown-rule", "unknown-field"]);
}

/// An artifact's own windows, by the names of its documents, outlive a compaction with the rules over them.
#[test]
fn named_windows_outlive_a_compaction() {
    let (schema, lists, limits) = (schema(), Lists::new(), Limits::default());
    let mut columns = Columns::new(&schema);
    assert!(columns.add_named(&"seen".into(), windows(&[COUNT]).remove(0)));
    let rules = [plain("plain", "n > 7"), plain("count", "seen > 5 AND n < 5"), plain("sum", &format!("{SUM} > 8"))];
    let compiled = crate::compile::compile_with_windows(rules.into_iter(), columns, &context(&schema, &lists, &limits));
    let artifact = Arc::new(Artifact::from_bytes(&compiled.artifact.expect("sound rules")).unwrap());
    let settings = Settings { choice: Choice::Cpu, background: false, ..Settings::default() };
    let engine = LiveEngine::new(artifact, Lists::new(), limits, settings).unwrap();
    engine.apply(&[Change::Add(plain("other", &format!("{SUM} > 3 AND seen < 2")))]).unwrap();
    let all = expected(&["plain", "count", "sum", "other"], &[]);
    assert_eq!(answer(&engine.snapshot()), all);
    assert!(engine.compact().unwrap());
    assert_eq!((answer(&engine.snapshot()), engine.snapshot().base().windows().len()), (all, 2));
}
