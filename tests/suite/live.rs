//! Rules that change while they are in service: whatever was done to them, the answers are those of a fresh compilation of the rules that are left.

use crate::compare::artifact_of;
use crate::generate::{Case, Writer, batch};
use crate::random::{Random, cases, seed};
use dynamic_cep::decide::{Decisions, decide};
use dynamic_cep::engine::Generation;
use dynamic_cep::engine::router::{Choice, Router};
use dynamic_cep::event::{EventBatch, Schema};
use dynamic_cep::expr::columns::Cache;
use dynamic_cep::flow::Hits;
use dynamic_cep::id::RuleId;
use dynamic_cep::live::{Change, LiveEngine, Settings, Snapshot};
use dynamic_cep::rule::lists::Lists;
use dynamic_cep::rule::{Limits, Rule, Status};
use dynamic_cep::tables::Artifact;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What rules say of a batch, told by their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Answer {
    hits: Vec<Vec<String>>,
    rules: Vec<Vec<String>>,
    shadow_rules: Vec<Vec<String>>,
    scores: Vec<i64>,
    actions: Vec<u8>,
}

impl Answer {
    fn new<'a>(hits: &Hits, decisions: Decisions, id: impl Fn(RuleId) -> &'a str) -> Self {
        let ids = |hits: &Hits| (0..hits.rows()).map(|row| hits.row(row).iter().map(|rule| id(*rule).to_owned()).collect()).collect();
        Self {
            hits: ids(hits),
            rules: ids(&decisions.rules),
            shadow_rules: ids(&decisions.shadow_rules),
            scores: decisions.scores,
            actions: decisions.actions,
        }
    }

    fn of(snapshot: &Snapshot, batch: &EventBatch) -> Self {
        let hits = snapshot.hits(batch);
        Self::new(&hits, snapshot.decide(&hits), |rule| snapshot.id(rule))
    }

    /// Of the rules compiled all at once.
    fn fresh(schema: &Schema, rules: &[Rule], batch: &EventBatch) -> Self {
        let artifact = Arc::new(Artifact::from_bytes(&artifact_of(schema, rules, &Limits::default(), 1)).unwrap());
        let generation = Generation::new(Arc::clone(&artifact)).unwrap();
        let mut cache = Cache::new();
        let encoded = generation.encode(batch, &mut cache);
        let found = Router::new(Arc::clone(&artifact), Choice::Cpu).unwrap().find(&encoded);
        let hits = generation.verify(batch, found, &mut cache);
        Self::new(&hits, decide(&hits, artifact.rules()), |rule| artifact.rule_name(rule))
    }
}

fn engine(schema: &Schema, rules: &[Rule], settings: Settings) -> LiveEngine {
    let artifact = Arc::new(Artifact::from_bytes(&artifact_of(schema, rules, &Limits::default(), 1)).unwrap());
    LiveEngine::new(artifact, Lists::default(), Limits::default(), settings).unwrap()
}

fn by_hand() -> Settings {
    Settings { choice: Choice::Cpu, background: false, ..Settings::default() }
}

/// The rules as a list, on which changes are made in the obvious way.
#[derive(Clone)]
struct Model(Vec<Rule>);

impl Model {
    fn at(&self, id: &str) -> Option<usize> {
        self.0.iter().position(|rule| *rule.id == *id)
    }

    /// `false` where the change cannot be made.
    fn change(&mut self, change: &Change) -> bool {
        match (change, self.at(change.id())) {
            (Change::Add(rule), None) => self.0.push(rule.clone()),
            (Change::Replace(rule), Some(at)) => self.0[at] = rule.clone(),
            (Change::Remove(_), Some(at)) => drop(self.0.remove(at)),
            (Change::Status(_, status), Some(at)) => self.0[at].status = *status,
            _ => return false,
        }
        true
    }
}

/// Changes of the rules of one case: their conditions are the case's, their ids are few.
struct Changes<'a> {
    case: &'a Case,
    added: usize,
}

impl Changes<'_> {
    fn id(&self, random: &mut Random) -> Arc<str> {
        format!("rule-{}", random.below(self.case.rules.len() + self.added)).into()
    }

    fn next(&mut self, random: &mut Random) -> Change {
        let body = random.pick(&self.case.rules).clone();
        match random.below(10) {
            0..3 => {
                let id = if random.one_in(4) { self.id(random) } else { format!("rule-{}", self.case.rules.len() + self.added).into() };
                self.added += 1;
                Change::Add(Rule { id, ..body })
            }
            3..6 => Change::Replace(Rule { id: self.id(random), ..body }),
            6..8 => Change::Remove(self.id(random)),
            _ => Change::Status(self.id(random), *random.pick(&[Status::Live, Status::Off, Status::Shadow])),
        }
    }
}

/// Applies a batch of changes to both; says whether it could be applied.
fn change(engine: &LiveEngine, model: &mut Model, changes: &[Change]) -> bool {
    let mut changed = model.clone();
    let possible = changes.iter().filter(|change| !changed.change(change)).count() == 0;
    let before = engine.snapshot();
    match engine.apply(changes) {
        Ok(snapshot) => {
            assert!(possible, "{changes:?}");
            assert!(changes.is_empty() || snapshot.generation() != before.generation());
            *model = changed;
        }
        Err(diagnostics) => {
            assert!(!possible, "{diagnostics:?}");
            assert!(diagnostics.iter().all(|diagnostic| ["duplicate-id", "unknown-rule"].contains(&diagnostic.code)), "{diagnostics:?}");
            assert_eq!(engine.snapshot().generation(), before.generation(), "a change that cannot be made changes nothing");
        }
    }
    possible
}

/// One case: a sequence of changes, merges, compactions and rollbacks, compared after each step.
fn sequence(seed: u64, steps: usize, settings: Settings) -> [usize; 4] {
    let random = &mut Random::new(seed);
    let case = Case::new(random, 12);
    let events = batch(random, &case.schema, &case.pool, 40);
    let mut model = Model(case.rules[..random.below(13)].to_vec());
    let engine = engine(&case.schema, &model.0, settings);
    let mut changes = Changes { case: &case, added: 0 };
    let mut kept: Vec<(Arc<Snapshot>, Model)> = vec![(engine.snapshot(), model.clone())];
    let mut done = [0; 4];
    for step in 0..steps {
        let what = random.below(12);
        match what {
            0 => done[0] += usize::from(engine.merge().unwrap()),
            1 => done[1] += usize::from(engine.compact().unwrap()),
            2 => {
                // To a generation that is kept, or one that no longer is.
                let (snapshot, then) = random.pick(&kept).clone();
                if engine.rollback(snapshot.generation()).is_ok() {
                    done[2] += 1;
                    model = then;
                } else {
                    assert!(!engine.history().contains(snapshot.generation()));
                }
            }
            3 => {
                // Compaction goes on while rules change; on what it meets depends what it does, and never the answers.
                let many: Vec<Vec<Change>> = (0..4).map(|_| vec![changes.next(random)]).collect();
                std::thread::scope(|scope| {
                    let compacting = scope.spawn(|| engine.compact().unwrap());
                    for one in &many {
                        change(&engine, &mut model, one);
                        engine.merge().unwrap();
                    }
                    done[3] += usize::from(compacting.join().unwrap());
                });
            }
            _ => {
                let many: Vec<Change> = (0..1 + random.below(3)).map(|_| changes.next(random)).collect();
                change(&engine, &mut model, &many);
            }
        }
        let snapshot = engine.snapshot();
        let context = format!("DYNAMIC_CEP_SEED={seed}, step {step} ({what}), {:?}", snapshot.shape());
        assert_eq!(Answer::of(&snapshot, &events), Answer::fresh(&case.schema, &model.0, &events), "{context}");
        assert_eq!(snapshot.rules(), model.0.len(), "{context}");
        for rule in &case.rules {
            let found = snapshot.find(&rule.id).map(|rule| snapshot.rule(rule).unwrap());
            let expected = model.at(&rule.id).map(|at| &model.0[at]);
            assert_eq!(
                found.as_ref().map(|rule| (&rule.score, rule.status, &rule.tenant)),
                expected.map(|rule| (&rule.score, rule.status, &rule.tenant))
            );
        }
        if random.one_in(3) {
            kept.push((snapshot, model.clone()));
        }
    }
    for (snapshot, model) in kept {
        assert_eq!(
            Answer::of(&snapshot, &events),
            Answer::fresh(&case.schema, &model.0, &events),
            "DYNAMIC_CEP_SEED={seed}: a snapshot changed"
        );
    }
    done
}

#[test]
fn changed_rules_answer_as_if_compiled_afresh() {
    let first = seed("changed_rules_answer_as_if_compiled_afresh");
    let cases = cases(60);
    let mut done = [0; 4];
    for nth in 0..cases {
        let settings = Settings { history: 1 + nth as usize % 9, loose: 1 + nth as usize % 5, ..by_hand() };
        let of_case = sequence(first.wrapping_add(nth), 30, settings);
        done.iter_mut().zip(of_case).for_each(|(sum, of_case)| *sum += of_case);
    }
    eprintln!("{} merges, {} compactions and {} beside changes, {} rollbacks", done[0], done[1], done[3], done[2]);
    assert!(cases < 20 || done.iter().all(|count| *count > 10), "{done:?}");
}

/// The same with the engine's own threads.
#[test]
fn changed_rules_answer_as_if_compiled_afresh_in_the_background() {
    let first = seed("changed_rules_answer_as_if_compiled_afresh_in_the_background");
    for nth in 0..cases(15) {
        let settings = Settings { choice: Choice::Cpu, loose: 2, compact_min: 6, compact_share: 0.0, ..Settings::default() };
        sequence(first.wrapping_add(nth), 30, settings);
    }
}

#[cfg(feature = "gpu")]
#[test]
fn a_base_on_the_gpu_can_change() {
    if dynamic_cep::matcher::gpu::testing::gpu_or_skip("a_base_on_the_gpu_can_change").is_none() {
        return;
    }
    let seed = seed("a_base_on_the_gpu_can_change");
    sequence(seed, 12, Settings { choice: Choice::Gpu, loose: 2, ..by_hand() });
}

/// Many changes at once are compiled before they are in service, and merged as few ones are.
#[test]
fn many_changes_at_once() {
    let random = &mut Random::new(seed("many_changes_at_once"));
    let few = Case::new(random, 0);
    let mut writer_random = Random::new(random.next());
    let mut writer = Writer::new(&few.schema, &few.pool, &mut writer_random);
    let conditions: Vec<String> = (0..1_500).map(|_| writer.plain()).collect();
    let case = Case { pool: few.pool, ..Case::of_conditions(random, few.schema.clone(), conditions.into_iter()) };
    let events = batch(random, &case.schema, &case.pool, 100);
    let mut model = Model(case.rules[..300].to_vec());
    let engine = engine(&case.schema, &model.0, by_hand());
    let added: Vec<Change> = case.rules[300..].iter().cloned().map(Change::Add).collect();
    assert!(change(&engine, &mut model, &added));
    assert_eq!(engine.snapshot().shape(), [300, 1_200, 0]);
    let compare = |model: &Model| assert_eq!(Answer::of(&engine.snapshot(), &events), Answer::fresh(&case.schema, &model.0, &events));
    compare(&model);
    let removed: Vec<Change> = case.rules.iter().step_by(3).map(|rule| Change::Remove(Arc::clone(&rule.id))).collect();
    assert!(change(&engine, &mut model, &removed));
    compare(&model);
    assert!(engine.compact().unwrap());
    assert_eq!(engine.snapshot().shape(), [1_000, 0, 0]);
    compare(&model);
}

/// While a thread changes rules, two at a time, every batch is answered by one snapshot: both of the two or neither.
#[test]
fn a_batch_sees_all_of_a_change_or_nothing() {
    let random = &mut Random::new(seed("a_batch_sees_all_of_a_change_or_nothing"));
    let case = Case::new(random, 30);
    let events = batch(random, &case.schema, &case.pool, 30);
    let mut model = Model(case.rules.clone());
    let settings = Settings { choice: Choice::Cpu, loose: 4, compact_min: 20, compact_share: 0.0, history: 1000, ..Settings::default() };
    let engine = engine(&case.schema, &model.0, settings);
    let mut changes = Changes { case: &case, added: 0 };
    /// Ends the readers, also where the writer fails.
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let (ended, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut models = vec![(engine.snapshot(), model.clone())];
    let seen = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut seen: Vec<(Arc<str>, Answer)> = Vec::new();
                    while !ended.load(Ordering::Relaxed) {
                        let snapshot = engine.snapshot();
                        let answer = Answer::of(&snapshot, &events);
                        answered.fetch_add(1, Ordering::Relaxed);
                        if seen.last().is_none_or(|last| last != &(Arc::clone(snapshot.generation()), answer.clone())) {
                            seen.push((Arc::clone(snapshot.generation()), answer));
                        }
                    }
                    seen
                })
            })
            .collect();
        let end = End(&ended);
        while models.len() < 120 {
            let two = [changes.next(random), changes.next(random)];
            if change(&engine, &mut model, &two) {
                models.push((engine.snapshot(), model.clone()));
            }
            // Changes are faster than batches: now and then one is waited for.
            let before = answered.load(Ordering::Relaxed);
            while models.len() % 4 == 0 && answered.load(Ordering::Relaxed) == before && !readers.iter().any(|reader| reader.is_finished())
            {
                std::thread::yield_now();
            }
        }
        drop(end);
        readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(engine.trouble(), None);
    let mut distinct = std::collections::HashSet::new();
    for (generation, answer) in seen {
        let (_, model) =
            models.iter().find(|(snapshot, _)| *snapshot.generation() == generation).expect("a generation that was in service");
        assert!(answer == Answer::fresh(&case.schema, &model.0, &events), "{generation}");
        distinct.insert(generation);
    }
    assert!(distinct.len() > 5, "the readers saw {} generations", distinct.len());
}
