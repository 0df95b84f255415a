//! Edges of changing rules; and faults planted in snapshots, merging and compaction, which the comparison with a fresh compilation must notice.

use super::merge::{Rebase, again, compiled};
use super::snapshot::{Place, Snapshot};
use super::{Change, LOOSE_MAX, LiveEngine, Settings};
use crate::compile::{Context, compile};
use crate::engine::router::Choice;
use crate::event::{EventBatch, Field, Schema, Type};
use crate::id::{FieldId, RuleId};
use crate::rule::lists::Lists;
use crate::rule::{Action, Clause, Limits, Origin, Rule, RuleTest, Status};
use crate::tables::Artifact;
use arrow::array::types::Int32Type;
use arrow::array::{ArrayRef, DictionaryArray, Int64Array};
use std::sync::Arc;

fn schema() -> Schema {
    let field = |name: &str, ty| Field { name: name.to_owned(), ty };
    let mut schema = Schema::new(vec![field("n", Type::Int), field("tenant", Type::Text)]).unwrap();
    schema.tenant = Some(FieldId(1));
    schema
}

fn rule(id: &str, tenant: Option<&str>, when: &str) -> Rule {
    Rule {
        id: id.into(),
        tenant: tenant.map(Arc::from),
        when: when.into(),
        origin: Origin::default(),
        parameters: Vec::new(),
        score: 1000,
        action: Action::Review,
        status: Status::Live,
        tags: vec!["tag".into()],
        outcome: Some("item".into()),
        clause: Clause::default(),
        tests: Vec::new(),
    }
}

/// Rules of every tenant and of two.
fn rules() -> Vec<Rule> {
    let tenants = [None, Some("a"), Some("b")];
    (0..12).map(|nth| rule(&format!("r{nth}"), tenants[nth % 3], &format!("n >= {nth} AND n < {}", nth + 6))).collect()
}

/// Every number beside every tenant, and tenants that only rules added later know.
fn events() -> EventBatch {
    let tenants = [None, Some("a"), Some("b"), Some("c"), Some("d"), Some("a"), Some("a"), Some("b"), Some("b"), Some("b")];
    let numbers: ArrayRef = Arc::new((0..200).map(|row| Some(row / 10)).collect::<Int64Array>());
    let names: ArrayRef = Arc::new((0..200).map(|row| tenants[row % 10]).collect::<DictionaryArray<Int32Type>>());
    EventBatch::new(&schema(), 0, 200, vec![Some(numbers), Some(names)])
}

fn artifact(rules: &[Rule]) -> Arc<Artifact> {
    let (schema, limits) = (schema(), Limits::default());
    let compiled = compile(rules.iter().cloned(), &Context { schema: &schema, lists: &Lists::new(), limits: &limits, threads: 1 });
    Arc::new(Artifact::from_bytes(&compiled.artifact.expect("sound rules")).unwrap())
}

fn engine(rules: &[Rule]) -> LiveEngine {
    let settings = Settings { choice: Choice::Cpu, background: false, ..Settings::default() };
    LiveEngine::new(artifact(rules), Lists::new(), Limits::default(), settings).unwrap()
}

/// Row and id of all hits, in order.
fn answer(snapshot: &Snapshot) -> Vec<(usize, String)> {
    let hits = snapshot.hits(&events());
    (0..hits.rows()).flat_map(|row| hits.row(row).iter().map(move |rule| (row, snapshot.id(*rule).to_owned()))).collect()
}

fn fresh(rules: &[Rule]) -> Vec<(usize, String)> {
    answer(&engine(rules).snapshot())
}

fn codes(engine: &LiveEngine, changes: &[Change]) -> Vec<&'static str> {
    let before = engine.snapshot();
    let codes = engine.apply(changes).map_or_else(|wrong| wrong.iter().map(|diagnostic| diagnostic.code).collect(), |_| Vec::new());
    assert!(Arc::ptr_eq(&before, &engine.snapshot()), "nothing has changed");
    codes
}

#[test]
fn what_cannot_be_changed_is_told_and_changes_nothing() {
    let engine = engine(&rules());
    let add = |rule| Change::Add(rule);
    assert_eq!(codes(&engine, &[add(rule("r3", None, "n = 1"))]), ["duplicate-id"]);
    assert_eq!(codes(&engine, &[add(rule("x", None, "n = 1")), add(rule("x", None, "n = 1"))]), ["duplicate-id"]);
    assert_eq!(codes(&engine, &[Change::Replace(rule("x", None, "n = 1"))]), ["unknown-rule"]);
    let pattern = Rule { clause: Clause::MatchRecognize, ..rule("p", None, "PATTERN (a)") };
    assert_eq!(codes(&engine, &[Change::Add(pattern)]), ["pattern-change"]);
    assert_eq!(codes(&engine, &[Change::Remove("x".into()), Change::Status("y".into(), Status::Off)]), ["unknown-rule"; 2]);
    assert_eq!(codes(&engine, &[Change::Remove("r1".into()), Change::Remove("r1".into())]), ["unknown-rule"]);
    assert_eq!(codes(&engine, &[add(rule("x", None, "m = 1"))]), ["unknown-field"]);
    assert_eq!(codes(&engine, &[Change::Remove("r1".into()), add(rule("x", None, "n = "))]).len(), 1, "the first is sound");
    let event = serde_json::from_str(r#"{"n": 2}"#).unwrap();
    let failing = RuleTest { matches: true, events: vec![event], origin: Origin::default() };
    assert_eq!(codes(&engine, &[Change::Replace(Rule { tests: vec![failing], ..rule("r3", None, "n = 1") })]), ["failing-test"]);
    assert_eq!(engine.rollback("no such").unwrap_err().0, "no such");
    assert_eq!(answer(&engine.snapshot()), fresh(&rules()));
}

#[test]
fn patterns_outlive_a_compaction() {
    let mut schema = schema();
    schema.time = schema.push(Field { name: "at".into(), ty: Type::Date });
    let of = |id: &str, clause, text: &str| Rule { clause, ..rule(id, Some("a"), text) };
    let mut rules = rules();
    rules.push(of("match", Clause::MatchRecognize, "ORDER BY at PATTERN (a b) DEFINE b AS n > a.n"));
    rules.push(of("sequence", Clause::Sequence, "BY n WITHIN INTERVAL '2' DAY [n > 1] THEN NOT [n < 1]"));
    let limits = Limits::default();
    let compiled = compile(rules.iter().cloned(), &Context { schema: &schema, lists: &Lists::new(), limits: &limits, threads: 1 });
    let before = Arc::new(Artifact::from_bytes(&compiled.artifact.expect("sound rules")).unwrap());
    let settings = Settings { choice: Choice::Cpu, background: false, ..Settings::default() };
    let engine = LiveEngine::new(Arc::clone(&before), Lists::new(), limits, settings).unwrap();
    engine.apply(&[Change::Remove("r0".into())]).unwrap();
    assert!(engine.compact().unwrap());
    let snapshot = engine.snapshot();
    let after = snapshot.base.artifact();
    assert_eq!(after.rules().len(), before.rules().len() - 1);
    assert_eq!(before.patterns().len(), 2);
    for ((old, pattern), (new, kept)) in before.patterns().iter().zip(after.patterns()) {
        assert_eq!((pattern, before.rule_name(*old)), (kept, after.rule_name(*new)));
        assert_eq!(before.source(*old).unwrap(), after.source(*new).unwrap());
    }
    assert_eq!(after.source(after.patterns()[1].0).unwrap(), format!("SEQUENCE {}", rules[13].when));
}

#[test]
fn rules_are_limited() {
    let settings = Settings { choice: Choice::Cpu, background: false, ..Settings::default() };
    let limits = Limits { rules: 13, ..Limits::default() };
    let engine = LiveEngine::new(artifact(&rules()), Lists::new(), limits, settings).unwrap();
    engine.apply(&[Change::Add(rule("r12", None, "n = 1"))]).unwrap();
    assert_eq!(codes(&engine, &[Change::Add(rule("r13", None, "n = 1"))]), ["too-many-rules"]);
    engine.apply(&[Change::Remove("r0".into()), Change::Add(rule("r13", None, "n = 1"))]).unwrap();
    assert!(engine.compact().unwrap());
}

#[test]
fn an_engine_may_begin_and_end_with_nothing() {
    let engine = engine(&[]);
    assert_eq!(answer(&engine.snapshot()), []);
    for (nth, rule) in rules().iter().enumerate() {
        engine.apply(&[Change::Add(rule.clone())]).unwrap();
        assert_eq!(answer(&engine.snapshot()), fresh(&rules()[..=nth]));
        if nth == 5 {
            assert!(engine.merge().unwrap());
        }
    }
    assert!(!engine.snapshot().fields().is_empty());
    let all: Vec<Change> = rules().iter().map(|rule| Change::Remove(Arc::clone(&rule.id))).collect();
    engine.apply(&all).unwrap();
    assert_eq!((answer(&engine.snapshot()), engine.snapshot().rules()), (Vec::new(), 0));
    assert!(engine.compact().unwrap());
    assert_eq!((answer(&engine.snapshot()), engine.snapshot().shape()), (Vec::new(), [0; 3]));
}

#[test]
fn a_generation_has_one_name_and_can_be_gone_back_to() {
    let engine = engine(&rules());
    let first = Arc::clone(engine.snapshot().generation());
    assert_eq!(*first, *artifact(&rules()).generation());
    let change = [Change::Remove("r1".into()), Change::Add(rule("x", Some("c"), "n > 3"))];
    let second = Arc::clone(engine.apply(&change).unwrap().generation());
    engine.merge().unwrap();
    engine.compact().unwrap();
    assert_eq!(*engine.snapshot().generation(), second, "compaction changes no name");
    engine.rollback(&first).unwrap();
    assert_eq!((answer(&engine.snapshot()), engine.history()), (fresh(&rules()), vec![Arc::clone(&second)]));
    // One by one, or all at once: the same changes.
    change.iter().for_each(|one| drop(engine.apply(std::slice::from_ref(one)).unwrap()));
    assert_eq!(*engine.snapshot().generation(), second);
    for nth in 0..40 {
        engine.apply(&[Change::Replace(rule("r2", None, &format!("n = {nth}")))]).unwrap();
    }
    assert_eq!(engine.history().len(), Settings::default().history);
    assert!(engine.rollback(&first).unwrap_err().to_string().contains(&*first), "no longer kept");
    assert_eq!(engine.rollback(&engine.history()[3]).unwrap().rules(), 12);
}

#[test]
fn a_rule_keeps_what_it_is() {
    let engine = engine(&rules());
    engine.apply(&[Change::Status("r4".into(), Status::Off), Change::Add(rule("x", Some("c"), "n > 3"))]).unwrap();
    let check = |text: bool| {
        let snapshot = engine.snapshot();
        for (id, expected) in [("r4", Rule { status: Status::Off, ..rules()[4].clone() }), ("x", rule("x", Some("c"), "n > 3"))] {
            let found = snapshot.rule(snapshot.find(id).unwrap()).unwrap();
            assert_eq!(snapshot.id(snapshot.find(id).unwrap()), id);
            assert_eq!(Rule { when: Arc::clone(&expected.when), ..found.clone() }, expected);
            assert!(!text || id != "x" || found.when == expected.when);
        }
    };
    check(true);
    assert!(engine.merge().unwrap() && !engine.merge().unwrap());
    check(false);
    assert!(engine.compact().unwrap());
    check(false);
    engine.apply(&[Change::Status("r4".into(), Status::Live), Change::Remove("x".into())]).unwrap();
    assert_eq!(answer(&engine.snapshot()), fresh(&rules()));
}

/// Changes that leave a dead rule in the base, settled rules, one of which is dead, and loose rules; of tenants that the base knows and does not.
fn changed() -> (LiveEngine, Vec<Rule>) {
    let engine = engine(&rules());
    let c = rule("c", Some("c"), "n > 2");
    let (b, every) = (rule("r2", Some("b"), "n = 9"), rule("r3", None, "n = 4"));
    engine.apply(&[Change::Add(c.clone()), Change::Add(rule("gone", Some("c"), "n > 1")), Change::Replace(b.clone())]).unwrap();
    engine.merge().unwrap();
    let d = rule("d", Some("d"), "n < 9");
    engine.apply(&[Change::Replace(every.clone()), Change::Add(d.clone()), Change::Remove("gone".into())]).unwrap();
    let mut expected = rules();
    (expected[2], expected[3]) = (b, every);
    expected.extend([c, d]);
    assert_eq!(engine.snapshot().shape(), [12, 3, 2]);
    assert_eq!(answer(&engine.snapshot()), fresh(&expected));
    (engine, expected)
}

#[test]
fn faults_in_a_snapshot_are_noticed() {
    let (engine, expected) = changed();
    let expected = fresh(&expected);
    let noticed = |fault: &dyn Fn(&mut Snapshot)| {
        let mut snapshot = (*engine.snapshot()).clone();
        fault(&mut snapshot);
        answer(&snapshot) != expected
    };
    assert!(!noticed(&|_| ()));
    assert!(noticed(&|snapshot| snapshot.dead = Arc::default()), "forgotten dead rules of the base");
    assert!(noticed(&|snapshot| snapshot.settled_dead = Arc::default()), "forgotten dead rules among the settled");
    assert!(noticed(&|snapshot| snapshot.settled = Arc::default()), "lost settled rules");
    assert!(noticed(&|snapshot| drop(snapshot.loose.pop())), "a lost loose rule");
    assert!(noticed(&|snapshot| drop(snapshot.loose.remove(0))), "a lost loose rule that replaced another");
    assert!(noticed(&|snapshot| Arc::make_mut(&mut snapshot.dead).insert(RuleId(6))), "a rule that died by mistake");
    assert!(noticed(&|snapshot| snapshot.strangers = Arc::default()), "forgotten tenants");
}

/// Changes while a base is compiled, deterministically: the base is made of the snapshot before them, and some of them come after the newer rules were settled.
#[test]
fn changes_during_a_compaction_are_kept() {
    let (engine, mut expected) = changed();
    engine.merge().unwrap();
    let before = engine.snapshot();
    let mut rebase = Rebase::new(&before, compiled(&engine.shared, &before).unwrap(), Limits::default().terms);
    engine.apply(&[Change::Remove("c".into()), Change::Replace(rule("r5", Some("d"), "n = 3"))]).unwrap();
    rebase.settle(&engine.snapshot());
    assert!(engine.merge().unwrap());
    let late = [Change::Add(rule("late", None, "n = 7")), Change::Remove("r6".into()), Change::Status("d".into(), Status::Off)];
    engine.apply(&late).unwrap();
    engine.apply(&[Change::Replace(rule("r5", Some("d"), "n = 13"))]).unwrap();
    let current = engine.snapshot();
    let next = rebase.of(&current).unwrap();
    let at = |rules: &[Rule], id: &str| rules.iter().position(|rule| *rule.id == *id).unwrap();
    let place = at(&expected, "r5");
    expected[place] = rule("r5", Some("d"), "n = 13");
    let place = at(&expected, "d");
    expected[place].status = Status::Off;
    expected.retain(|rule| !["c", "r6"].contains(&&*rule.id));
    expected.push(rule("late", None, "n = 7"));
    let expected = fresh(&expected);
    assert_eq!(answer(&next), expected);
    assert_eq!((next.shape(), next.rules()), ([14, 1, 3], current.rules()));

    // Changes that the compaction forgets: what has died meanwhile, or what is newer.
    let forgetful = |forget: &dyn Fn(&mut Snapshot)| {
        let mut next = next.clone();
        forget(&mut next);
        answer(&next) != expected
    };
    assert!(forgetful(&|next| next.dead = Arc::default()));
    assert!(forgetful(&|next| next.settled_dead = Arc::default()));
    assert!(forgetful(&|next| next.loose.clear()));
    assert_eq!(answer(&current), expected, "the snapshot before the compaction answers as it did");
    assert!(engine.shared.compact_from(&before).unwrap());
    assert_eq!((answer(&engine.snapshot()), engine.snapshot().shape()), (expected, [14, 3, 0]));
}

/// Rules that went back while a base was compiled: nothing that the base lacks is lost.
#[test]
fn a_base_made_of_what_was_left_behind_is_dropped() {
    let engine = engine(&rules());
    let first = Arc::clone(engine.snapshot().generation());
    engine.apply(&[Change::Remove("r6".into())]).unwrap();
    let before = engine.snapshot();
    engine.rollback(&first).unwrap();
    assert!(!engine.shared.compact_from(&before).unwrap(), "r6 lives again and is not in the base");
    assert_eq!(answer(&engine.snapshot()), fresh(&rules()));
    // What was added and is gone is dead in the base.
    engine.apply(&[Change::Add(rule("x", None, "n = 1"))]).unwrap();
    engine.merge().unwrap();
    let before = engine.snapshot();
    engine.rollback(&first).unwrap();
    assert!(engine.shared.compact_from(&before).unwrap());
    assert_eq!((answer(&engine.snapshot()), engine.snapshot().shape()), (fresh(&rules()), [13, 0, 0]));
    assert!(!engine.shared.compact_from(&before).unwrap(), "of another base");
}

/// Rules that went back while others were settled.
#[test]
fn a_merge_of_what_was_left_behind_is_dropped() {
    let engine = engine(&rules());
    let first = Arc::clone(engine.snapshot().generation());
    engine.apply(&[Change::Add(rule("x", Some("c"), "n = 1")), Change::Add(rule("y", None, "n = 2"))]).unwrap();
    let before = engine.snapshot();
    let settled = before.settled().settled;
    let later = engine.apply(&[Change::Remove("y".into()), Change::Replace(rule("x", None, "n = 3"))]).unwrap();
    let merged = later.after_merge(&before, &settled).unwrap();
    assert_eq!((answer(&merged), merged.shape()), (answer(&later), [12, 2, 1]));
    let mut forgetful = merged.clone();
    forgetful.settled_dead = Arc::default();
    assert_ne!(answer(&forgetful), answer(&later));
    // Both are dead among the settled ones, and another tenant has the number of x's.
    engine.rollback(&first).unwrap();
    let other = engine.apply(&[Change::Add(rule("z", Some("d"), "n > 1"))]).unwrap();
    let merged = other.after_merge(&before, &settled).unwrap();
    assert_eq!((answer(&merged), merged.shape()), (answer(&other), [12, 2, 1]));
    engine.merge().unwrap();
    assert!(engine.snapshot().after_merge(&before, &settled).is_none(), "other rules were settled");
    engine.compact().unwrap();
    assert!(engine.snapshot().after_merge(&before, &settled).is_none(), "over another base");
}

#[test]
fn loose_rules_are_few() {
    let engine = engine(&rules());
    let added: Vec<Rule> = (0..600).map(|nth| rule(&format!("x{nth}"), Some("a"), &format!("n = {}", nth % 30))).collect();
    for rule in &added {
        let snapshot = engine.apply(&[Change::Add(rule.clone())]).unwrap();
        assert!(snapshot.shape()[2] < LOOSE_MAX);
    }
    assert_eq!(engine.snapshot().shape(), [12, LOOSE_MAX, 600 - LOOSE_MAX]);
    let all: Vec<Rule> = rules().into_iter().chain(added).collect();
    assert_eq!(answer(&engine.snapshot()), fresh(&all));
}

#[test]
fn an_engine_that_ends_takes_no_base_that_is_half_read() {
    let engine = engine(&rules());
    engine.shared.stop.store(true, std::sync::atomic::Ordering::Relaxed);
    engine.apply(&[Change::Remove("r1".into())]).unwrap();
    assert!(!engine.compact().unwrap());
    assert_eq!(engine.snapshot().rules(), 11);
    let limits = again(&Limits { terms: 3, ..Limits::default() });
    assert_eq!((limits.terms, limits.condition_bytes), (3, usize::MAX));
    assert_eq!(compiled(&engine.shared, &engine.snapshot()).unwrap().len(), 0, "stopped");
    assert_eq!(engine.snapshot().place("r1"), None);
    assert_eq!(engine.snapshot().place("r2"), Some(Place::Base(RuleId(2))));
}

#[test]
fn threads_end_with_the_engine() {
    let settings = Settings { choice: Choice::Cpu, loose: 1, compact_min: 1, compact_share: 0.0, ..Settings::default() };
    let engine = LiveEngine::new(artifact(&rules()), Lists::new(), Limits::default(), settings).unwrap();
    let shared = Arc::downgrade(&engine.shared);
    for nth in 0..20 {
        engine.apply(&[Change::Replace(rule("r1", None, &format!("n = {nth}")))]).unwrap();
    }
    drop(engine);
    assert_eq!(shared.strong_count(), 0);
}
