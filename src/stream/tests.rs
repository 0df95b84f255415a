//! What a stream says while rules come and go, against a look at all rows: state of what is the same goes on, and nothing else does.

use super::{Followed, Settings, Stream};
use crate::compile::{Context, compile};
use crate::engine::router::Choice;
use crate::event::{EventBatch, Field, Schema, Type};
use crate::id::FieldId;
use crate::live::{Change, LiveEngine, Settings as LiveSettings};
use crate::rule::lists::Lists;
use crate::rule::window::Columns;
use crate::rule::{Action, Clause, Limits, Origin, Rule, Status, check};
use crate::tables::Artifact;
use crate::temporal::patterns::Limits as PatternLimits;
use crate::temporal::windows::Settings as WindowSettings;
use arrow::array::{ArrayRef, Date32Array, Int64Array};
use std::collections::HashMap;
use std::sync::Arc;

fn schema() -> Schema {
    let field = |name: &str, ty| Field { name: name.to_owned(), ty };
    let mut schema = Schema::new(vec![field("card", Type::Int), field("amount", Type::Int), field("at", Type::Date)]).unwrap();
    schema.time = Some(FieldId(2));
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

/// COUNT(*) over so many days before a row, and the row.
fn count(days: u32) -> String {
    format!("COUNT(*) OVER (PARTITION BY card ORDER BY at RANGE BETWEEN INTERVAL '{days}' DAY PRECEDING AND CURRENT ROW)")
}

fn columns(days: &[u32]) -> Columns {
    let (schema, lists, limits) = (schema(), Lists::new(), Limits::default());
    let scope = check::Scope { schema: &schema, lists: &lists, parameters: &[], limits: &limits, windows: &[] };
    let stated = days.iter().flat_map(|days| check::window::stated(&format!("{} > 0", count(*days)), &Origin::default(), &scope));
    let mut columns = Columns::new(&schema);
    stated.for_each(|window| _ = columns.add(window));
    columns
}

fn engine() -> LiveEngine {
    let (schema, lists, limits) = (schema(), Lists::new(), Limits::default());
    let context = Context { schema: &schema, lists: &lists, limits: &limits, threads: 1 };
    let compiled = compile([rule("large", Clause::When, "amount >= 8")].into_iter(), &context);
    let artifact = Arc::new(Artifact::from_bytes(&compiled.artifact.expect("sound rules")).unwrap());
    let settings = LiveSettings { choice: Choice::Cpu, background: false, ..LiveSettings::default() };
    LiveEngine::new(artifact, Lists::new(), limits, settings).unwrap()
}

fn stream() -> Stream {
    Stream::new(Settings { windows: WindowSettings::new(0), patterns: PatternLimits::default(), choice: Choice::Cpu })
}

/// Card, amount and day of a row.
type Event = (i64, i64, i32);

fn events(rows: usize) -> Vec<Event> {
    let mut state = 7_u64;
    let mut draw = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % below) as i64
    };
    (0..rows).map(|row| (draw(4), draw(10), (row / 3) as i32)).collect()
}

fn batch(events: &[Event], first: usize) -> EventBatch {
    let cards: ArrayRef = Arc::new(events.iter().map(|event| Some(event.0)).collect::<Int64Array>());
    let amounts: ArrayRef = Arc::new(events.iter().map(|event| Some(event.1)).collect::<Int64Array>());
    let days: ArrayRef = Arc::new(Date32Array::from_iter_values(events.iter().map(|event| event.2)));
    EventBatch::new(&schema(), first as u64, events.len(), vec![Some(cards), Some(amounts), Some(days)])
}

/// What is done before a row: windows of days that rules are over from then on, each a rule that fires where more than two were seen; and whether the pattern is in service.
struct Step {
    before: usize,
    days: &'static [u32],
    pattern: bool,
}

const STEPS: [Step; 6] = [
    Step { before: 20, days: &[3], pattern: false },
    Step { before: 50, days: &[3, 9], pattern: true },
    Step { before: 80, days: &[9], pattern: true },
    Step { before: 110, days: &[9, 2], pattern: true },
    Step { before: 140, days: &[3, 9], pattern: false },
    Step { before: 170, days: &[], pattern: true },
];

/// Row and rule of every hit and finding.
type Answer = Vec<(usize, String)>;

/// Looks at all rows for each row.
fn expected(events: &[Event], forgetful: bool) -> Answer {
    let mut answer = Vec::new();
    let (mut since, mut pattern_since): (HashMap<u32, usize>, Option<usize>) = (HashMap::new(), None);
    let mut waiting: HashMap<i64, i64> = HashMap::new();
    for (row, (card, amount, day)) in events.iter().enumerate() {
        if let Some(step) = STEPS.iter().find(|step| step.before == row) {
            since.retain(|days, _| step.days.contains(days) && !forgetful);
            step.days.iter().for_each(|days| _ = since.entry(*days).or_insert(row));
            if !step.pattern || pattern_since.is_none() || forgetful {
                waiting.clear();
            }
            pattern_since = step.pattern.then(|| pattern_since.unwrap_or(row));
        }
        if *amount >= 8 {
            answer.push((row, "large".to_owned()));
        }
        let mut days: Vec<(&u32, &usize)> = since.iter().collect();
        days.sort();
        for (days, since) in days {
            let seen = events[*since..=row].iter().filter(|event| event.0 == *card && day - event.2 <= *days as i32).count();
            if seen > 2 {
                answer.push((row, format!("seen-{days}")));
            }
        }
        if pattern_since.is_some() {
            match waiting.remove(card) {
                Some(before) if before < *amount => answer.push((row, "rises".to_owned())),
                _ => _ = waiting.insert(*card, *amount),
            }
        }
    }
    answer.sort();
    answer
}

/// The same by a stream, in batches of at most `rows`; `compact`: everything is compiled again before each batch.
fn streamed(events: &[Event], rows: usize, compact: bool) -> (Answer, Vec<Followed>) {
    let (engine, mut stream) = (engine(), stream());
    let (mut answer, mut told) = (Vec::new(), Vec::new());
    let (mut days, mut pattern): (&[u32], bool) = (&[], false);
    let mut first = 0;
    while first < events.len() {
        if let Some(step) = STEPS.iter().find(|step| step.before == first) {
            let gone = days.iter().filter(|days| !step.days.contains(days)).map(|days| Change::Remove(format!("seen-{days}").into()));
            let new = step.days.iter().filter(|new| !days.contains(new));
            let new = new.map(|days| Change::Add(rule(&format!("seen-{days}"), Clause::When, &format!("{} > 2", count(*days)))));
            let mut changes: Vec<Change> = gone.chain(new).collect();
            let text = "PARTITION BY card ORDER BY at PATTERN (a b) DEFINE b AS amount > a.amount";
            match (pattern, step.pattern) {
                (false, true) => changes.push(Change::Add(rule("rises", Clause::MatchRecognize, text))),
                (true, false) => changes.push(Change::Remove("rises".into())),
                _ => {}
            }
            engine.rebuild(&changes, columns(step.days)).unwrap();
            (days, pattern) = (step.days, step.pattern);
        }
        if compact {
            engine.apply(&[Change::Replace(rule("large", Clause::When, "amount > 7"))]).unwrap();
            assert!(engine.compact().unwrap());
        }
        let next = STEPS.iter().map(|step| step.before).find(|before| *before > first).unwrap_or(events.len());
        let last = next.min(first + rows).min(events.len());
        let snapshot = engine.snapshot();
        told.push(stream.follow(&snapshot).unwrap());
        let judged = stream.take(&batch(&events[first..last], first), &snapshot).unwrap();
        for row in 0..judged.batch.rows() {
            let rules = judged.decisions.rules.row(row).iter();
            answer.extend(rules.map(|rule| (first + row, snapshot.id(*rule).to_owned())));
        }
        answer.extend(judged.findings.iter().map(|found| (found.finding.row as usize, snapshot.id(found.rule).to_owned())));
        assert!(judged.late.is_empty());
        first = last;
    }
    answer.sort();
    (answer, told)
}

#[test]
fn state_goes_on_where_rules_are_the_same() {
    let events = events(200);
    let right = expected(&events, false);
    assert!(["large", "seen-3", "seen-9", "seen-2", "rises"].iter().all(|id| right.iter().any(|(_, rule)| rule == id)));
    for (rows, compact) in [(1, false), (7, false), (200, false), (5, true)] {
        assert_eq!(streamed(&events, rows, compact).0, right, "batches of {rows}");
    }
    assert_ne!(expected(&events, true), right, "state that is lost where rules change is noticed");
}

#[test]
fn what_became_of_state_is_told() {
    let (_, told) = streamed(&events(200), 200, false);
    let told: Vec<[usize; 3]> = told.iter().map(|followed| [followed.kept, followed.begun, followed.dropped]).collect();
    assert_eq!(told, [[0, 0, 0], [0, 1, 0], [1, 2, 0], [2, 0, 1], [2, 1, 0], [1, 1, 2], [0, 1, 2]]);
}
