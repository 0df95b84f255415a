//! Parts of a batch on either back end, and a device that is lost.

use super::*;
use crate::compile::{Context, compile};
use crate::engine::Generation;
use crate::engine::router::{ForHits, Routed, Router};
use crate::event::{EventBatch, Field, Schema, Type};
use crate::expr::columns::Cache;
use crate::flow::Hits;
use crate::id::FieldId;
use crate::matcher::gpu::testing::gpu_or_skip;
use crate::matcher::output::{Answer, Reduced, Reduction};
use crate::matcher::{Found, Pair, plain};
use crate::rule::lists::Lists;
use crate::rule::{Action, Limits, Origin, Rule, Status};
use crate::tables::Artifact;
use arrow::array::{ArrayRef, DictionaryArray, Int64Array};
use arrow::datatypes::Int32Type;

fn artifact(rules: impl Iterator<Item = (Option<&'static str>, String)>) -> Arc<Artifact> {
    let field = |name: &str, ty| Field { name: name.to_owned(), ty };
    let mut schema = Schema::new(vec![field("n", Type::Int), field("tenant", Type::Text)]).unwrap();
    schema.tenant = Some(FieldId(1));
    let rules = rules.enumerate().map(|(nth, (tenant, when))| Rule {
        id: format!("rule-{nth}").into(),
        tenant: tenant.map(Into::into),
        when: when.into(),
        origin: Origin::default(),
        parameters: Vec::new(),
        score: nth as i64 * 7 - 500,
        action: [Action::Allow, Action::Review, Action::Challenge, Action::Block][nth % 4],
        status: if nth % 5 == 3 { Status::Shadow } else { Status::Live },
        tags: Vec::new(),
        outcome: None,
        clause: crate::rule::Clause::default(),
        tests: Vec::new(),
    });
    // Without derived columns, what is computed is a residual.
    let limits = Limits { derived_columns: 0, ..Limits::default() };
    let context = Context { schema: &schema, lists: &Lists::default(), limits: &limits, threads: 1 };
    let compiled = compile(rules, &context);
    Arc::new(Artifact::from_bytes(&compiled.artifact.unwrap()).unwrap())
}

/// A rule of every kind: of one term, of two that hold together, with a residual.
fn condition(nth: usize) -> String {
    match nth % 4 {
        0 => format!("n >= {nth} OR n < {}", nth + 5),
        1 => format!("n > {nth} AND n % 3 = 1"),
        _ => format!("n >= {nth} AND n < {}", nth + 50),
    }
}

fn sorted(mut pairs: Vec<Pair>) -> Vec<Pair> {
    pairs.sort_unstable();
    pairs
}

/// Rules of every tenant, a large tenant, a small one, and one without rules of its own; and what the definition finds.
struct Case {
    generation: Generation,
    events: EventBatch,
    batch: EncodedBatch,
    expected: Hits,
}

impl Case {
    fn new(rows: usize) -> Self {
        let sizes = [(None, 70), (Some("large"), 300), (Some("small"), 3)];
        let artifact = artifact(sizes.into_iter().flat_map(|(tenant, count)| (0..count).map(move |nth| (tenant, condition(nth)))));
        let generation = Generation::new(Arc::clone(&artifact)).unwrap();
        let n: ArrayRef = Arc::new(Int64Array::from_iter((0..rows).map(|row| (row % 9 > 0).then_some(row as i64 * 2))));
        let tenants = (0..rows).map(|row| Some(["large", "small", "none", "large"][row % 4]));
        let tenants: ArrayRef = Arc::new(tenants.collect::<DictionaryArray<Int32Type>>());
        let events = EventBatch::new(artifact.schema(), 0, rows, vec![Some(n), Some(tenants)]);
        let batch = generation.encode(&events, &mut Cache::default());
        let found = Found::of(&artifact.tables(), &plain::candidates(&artifact.tables(), &batch));
        let expected = generation.verify(&events, found, &mut Cache::default());
        assert!(expected.rules.len() > 5 * rows);
        Self { generation, events, batch, expected }
    }

    fn router(&self) -> Router {
        Router::new(Arc::clone(self.generation.artifact()), Choice::Gpu).unwrap()
    }

    fn verify(&self, found: Found) -> Hits {
        self.generation.verify(&self.events, found, &mut Cache::default())
    }

    fn answer(&self, reduced: Reduced) -> Answer {
        self.generation.complete(&self.events, reduced, &mut Cache::default()).answer()
    }

    fn expected(&self, output: Output) -> Answer {
        Reduction::of(output, &self.expected, self.generation.artifact().rules()).answer()
    }
}

#[test]
fn parts_of_a_batch_come_to_the_whole_wherever_they_go() {
    if gpu_or_skip("parts_of_a_batch_come_to_the_whole_wherever_they_go").is_none() {
        return;
    }
    let rows = 200;
    let case = Case::new(rows);
    let (router, batch) = (case.router(), &case.batch);
    let route = router.gpu.as_ref().unwrap();
    let visits = route.visits(batch);
    let visited: Vec<usize> = (1..CLASSES).filter(|class| visits[*class] > 0).collect();
    assert_eq!((visited.len(), visits.iter().sum()), (3, rows + rows / 4 * 3), "three classes: {visits:?}");
    for chosen in 0..1 << visited.len() {
        let on_gpu = Classes::of(|class| visited.iter().position(|visited| *visited == class).is_some_and(|at| chosen >> at & 1 == 1));
        let (found, how, seconds) = route.run(&router.rules, ForHits, batch, &visits, on_gpu);
        assert_eq!(
            how,
            if chosen == 0 {
                CPU
            } else if chosen == 7 {
                GPU
            } else {
                SPLIT
            }
        );
        assert_eq!(seconds.map(|seconds| seconds.is_some()), [how != GPU, how != CPU]);
        assert_eq!(case.verify(found), case.expected, "{on_gpu:?}");
        for output in [Output::Scores, Output::First, Output::Counts, Output::Top(3), Output::Lists] {
            let (reduced, ..) = route.run(&router.rules, output, batch, &visits, on_gpu);
            assert_eq!(case.answer(reduced), case.expected(output), "{output:?}, {on_gpu:?}");
        }
    }
    // Planted faults: a part that is left out, and rows that are taken for others.
    let part = |takes: fn(usize) -> bool| {
        let part = route.part(batch, takes);
        (Output::Counts.on_cpu(&router.rules, &part.batch, part.which), part.rows)
    };
    let joined = |parts: Vec<(Reduced, Vec<u32>)>| {
        let mut all = Output::Counts.nothing(rows);
        parts.into_iter().for_each(|(part, rows)| Output::Counts.join(&mut all, part, &rows));
        case.answer(all)
    };
    let right = case.expected(Output::Counts);
    assert_eq!(joined(vec![part(|class| class < 3), part(|class| class >= 3)]), right);
    assert_ne!(joined(vec![part(|class| class >= 3)]), right, "a part is left out");
    let mut shifted = part(|class| class < 3);
    shifted.1.iter_mut().for_each(|row| *row = (*row + 1) % rows as u32);
    assert_ne!(joined(vec![shifted, part(|class| class >= 3)]), right, "rows are taken for others");
}

/// The way of every batch under `auto`, on whatever adapter there is.
#[test]
fn batches_are_measured_once_they_are_large_and_then_go_where_they_cost_less() {
    if gpu_or_skip("batches_are_measured_once_they_are_large_and_then_go_where_they_cost_less").is_none() {
        return;
    }
    let [small, large] = [40, 600].map(Case::new);
    let mut router = large.router();
    router.gpu.as_mut().unwrap().choice = Choice::Auto;
    let find = |case: &Case| {
        assert_eq!(case.verify(router.find(&case.batch)), case.expected);
        assert_eq!(case.answer(router.reduce(&case.batch, Output::Scores)), case.expected(Output::Scores));
    };
    let route = router.gpu.as_ref().unwrap();
    find(&small);
    assert_eq!(router.routed(), Routed { cpu_batches: 2, ..Routed::default() });
    assert!(locked(&route.costs).is_empty(), "a small batch is not measured");
    find(&large);
    assert_eq!(
        locked(&route.costs).iter().map(|(output, costs)| (*output, costs.is_some())).collect::<Vec<_>>(),
        [(None, true), (Some(Output::Scores), true)]
    );
    assert!(router.reason().contains("hits: cpu ") && router.reason().contains("; scores: cpu "), "{}", router.reason());
    // Costs at which the largest partition alone goes to the GPU, and a batch of few rows never does.
    let partitions = large.generation.artifact().tables().partitions.len() as u32;
    let largest = (0..partitions).map(|partition| route.class(partition)).max().unwrap();
    for (_, costs) in &mut *locked(&route.costs) {
        let visits = route.visits(&large.batch);
        *costs = Some(Costs::measure(600, &visits, |trial| match trial {
            Trial::Class(class) => Some(if class == largest { 9.0 } else { 1e-9 } * visits[class] as f64),
            Trial::Dispatch => Some(1000.0),
            Trial::Gpu => Some(2050.0),
        }));
    }
    let before = router.routed();
    find(&large);
    find(&small);
    assert_eq!(router.routed(), Routed { split_batches: before.split_batches + 2, cpu_batches: before.cpu_batches + 2, ..before });
}

#[test]
fn a_lost_device_is_replaced_and_its_batch_matched_on_the_cpu() {
    if gpu_or_skip("a_lost_device_is_replaced_and_its_batch_matched_on_the_cpu").is_none() {
        return;
    }
    let artifact = artifact((0..40).map(|nth| (None, format!("n >= {nth} AND n < {}", nth + 5))));
    let router = Router::new(Arc::clone(&artifact), Choice::Gpu).unwrap();
    let tables = artifact.tables();
    let codes = (0..30 * tables.columns as u32).map(|nth| nth.wrapping_mul(0x9e37_79b9) >> 1).collect();
    let batch = EncodedBatch { rows: 30, columns: tables.columns, codes, partitions: vec![0; 30] };
    let expected = sorted(Found::of(&tables, &plain::candidates(&tables, &batch)).rules);
    assert!(!expected.is_empty());
    let ask = |gpu_batches, fallbacks| {
        assert_eq!(sorted(router.find(&batch).rules), expected);
        assert_eq!(router.routed(), Routed { gpu_batches, fallbacks, ..Routed::default() });
    };
    ask(1, 0);
    let lose = || locked(&router.gpu.as_ref().unwrap().device).matcher.as_ref().unwrap().gpu().destroy();
    lose();
    ask(1, 1);
    assert!(router.reason().contains("no longer"), "{}", router.reason());
    ask(2, 1);
    // Reductions go the same way.
    let counts = |router: &Router| router.reduce(&batch, Output::Counts).reduction.answer();
    let on_cpu = counts(&Router::new(Arc::clone(&artifact), Choice::Cpu).unwrap());
    assert_eq!(counts(&router), on_cpu);
    lose();
    assert_eq!(counts(&router), on_cpu);
    assert_eq!(router.routed(), Routed { gpu_batches: 3, fallbacks: 2, ..Routed::default() });
}
