//! What batches are reduced to, on every back end and by way of the router, is what the reference's hits come to. And faults, which the same comparison
//! must notice.

use crate::compare::{artifact_of, reference_of};
use crate::generate::{Case, batch};
use crate::random::{Random, cases, seed};
use dynamic_cep::engine::Generation;
use dynamic_cep::engine::router::{Choice, Router};
use dynamic_cep::event::EventBatch;
use dynamic_cep::expr::columns::Cache;
use dynamic_cep::flow::{EncodedBatch, Hits};
use dynamic_cep::matcher::cpu::{self, Isa, Visit};
use dynamic_cep::matcher::output::{Answer, Output, Reduced, Reduction, RuleLanes};
use dynamic_cep::matcher::{Found, plain};
use dynamic_cep::rule::Limits;
use dynamic_cep::tables::Artifact;
use dynamic_cep::tables::artifact::RuleRecord;
use dynamic_cep::tables::layout::NONE;
use std::cmp::Reverse;
use std::sync::Arc;

const OUTPUTS: [Output; 7] = [Output::Scores, Output::First, Output::Counts, Output::Top(0), Output::Top(1), Output::Top(3), Output::Lists];

/// The definition: of the reference's hits, without a reduction.
fn expected(output: Output, hits: &Hits, rules: &[RuleRecord]) -> Answer {
    let record = |rule: &dynamic_cep::id::RuleId| &rules[rule.index()];
    let live = |row| hits.row(row).iter().copied().filter(|rule| record(rule).status == 0);
    let rows = 0..hits.rows();
    let score = |row| live(row).map(|rule| i128::from(record(&rule).score)).sum::<i128>().clamp(i64::MIN.into(), i64::MAX.into()) as i64;
    match output {
        Output::Scores => Answer::Scores {
            scores: rows.clone().map(score).collect(),
            actions: rows.map(|row| live(row).map(|rule| record(&rule).action).max().unwrap_or(0)).collect(),
        },
        Output::First => Answer::First(rows.map(|row| live(row).next().map_or(NONE, |rule| rule.0)).collect()),
        Output::Counts => Answer::Counts(rows.map(|row| live(row).count() as u32).collect()),
        Output::Top(best) => {
            let mut top = Hits { offsets: vec![0], rules: Vec::new() };
            for row in rows {
                let mut rules: Vec<_> = live(row).collect();
                rules.sort_by_key(|rule| (Reverse(record(rule).score), *rule));
                top.rules.extend(rules.into_iter().take(best as usize));
                top.offsets.push(top.rules.len() as u32);
            }
            Answer::Top(top)
        }
        Output::Lists => Answer::Lists(hits.clone()),
    }
}

/// Compiled rules, events, and what the reference finds.
struct Judged {
    generation: Generation,
    batch: EventBatch,
    encoded: EncodedBatch,
    hits: Hits,
    context: String,
}

impl Judged {
    /// Rules with scores at the ends of 64 bits, tenants, shadow rules, residuals, and `OR`, whose terms hold together.
    fn new(seed: u64) -> Self {
        let random = &mut Random::new(seed);
        let count = 1 + random.below(60);
        let case = Case::new(random, count);
        let terms = *random.pick(&[64, 64, 1, 4]);
        let limits = Limits { terms, derived_columns: *random.pick(&[256, 0]), ..Limits::default() };
        let bytes = artifact_of(&case.schema, &case.rules, &limits, 1);
        let rows = *random.pick(&[0, 1, 17, 60, 300]);
        let batch = batch(random, &case.schema, &case.pool, rows);
        let hits = reference_of(&bytes).hits(&batch);
        let artifact = Arc::new(Artifact::from_bytes(&bytes).expect("what was compiled can be opened"));
        let generation = Generation::new(artifact).expect("what was compiled has well-formed residuals");
        let encoded = generation.encode(&batch, &mut Cache::new());
        Self { generation, batch, encoded, hits, context: format!("DYNAMIC_CEP_SEED={seed}") }
    }

    fn artifact(&self) -> &Arc<Artifact> {
        self.generation.artifact()
    }

    fn expected(&self, output: Output) -> Answer {
        expected(output, &self.hits, self.artifact().rules())
    }

    /// What is found of an output once the rest is decided.
    fn complete(&self, reduced: Reduced) -> Answer {
        self.generation.complete(&self.batch, reduced, &mut Cache::new()).answer()
    }

    /// Compares every output. How many hits were left to be decided afterwards, and how many there are.
    fn check(&self, who: &str, reduce: &mut dyn FnMut(Output) -> Reduced) -> [usize; 2] {
        let mut left = 0;
        for output in OUTPUTS {
            let reduced = reduce(output);
            let rest = Found::of(&self.artifact().tables(), &reduced.rest);
            left += self.generation.verify(&self.batch, rest, &mut Cache::new()).rules.len();
            assert_eq!(self.complete(reduced), self.expected(output), "{who}, {output:?}, {}", self.context);
        }
        [left, OUTPUTS.len() * self.hits.rules.len()]
    }

    fn lanes(&self) -> RuleLanes {
        RuleLanes::new(&self.artifact().tables(), self.artifact().rules()).expect("rules of their own")
    }
}

fn judged(test: &str, usual: u64) -> impl Iterator<Item = Judged> {
    let first = seed(test);
    (0..cases(usual)).map(move |nth| Judged::new(first.wrapping_add(nth)))
}

#[test]
fn every_back_end_reduces_as_the_reference_s_hits_say() {
    let test = "every_back_end_reduces_as_the_reference_s_hits_say";
    let [mut left, mut hits] = [0; 2];
    for case in judged(test, 150) {
        let (tables, lanes) = (case.artifact().tables(), case.lanes());
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            let [some, of] =
                case.check(&format!("{isa:?}"), &mut |output| cpu::reduce_by(isa, &tables, &lanes, &case.encoded, Visit::Both, output));
            (left, hits) = (left + some, hits + of);
        }
        // The halves that routing may send to different back ends.
        case.check("halves", &mut |output| {
            let mut common = case.encoded.clone();
            common.partitions.fill(0);
            let mut all = cpu::reduce(&tables, &lanes, &common, Visit::Both, output);
            let own = cpu::reduce(&tables, &lanes, &case.encoded, Visit::Tenants, output);
            all.reduction.absorb(0..case.encoded.rows, own.reduction);
            all.rest.extend(own.rest);
            all
        });
        case.check("nothing but the rest", &mut |output| Reduced {
            reduction: Reduction::new(output, case.encoded.rows),
            rest: plain::candidates(&tables, &case.encoded),
        });
        let router = Router::new(Arc::clone(case.artifact()), Choice::Cpu).expect("the CPU");
        case.check("router", &mut |output| router.reduce(&case.encoded, output));
    }
    assert!(left > 100 && left * 4 < hits * 3, "{left} of {hits} hits are left: one of the two sides tests little");
}

#[cfg(feature = "gpu")]
#[test]
fn the_gpu_reduces_as_the_reference_s_hits_say() {
    use dynamic_cep::matcher::gpu::{GpuMatcher, GpuOptions, testing::gpu_or_skip};
    let test = "the_gpu_reduces_as_the_reference_s_hits_say";
    let Some(gpu) = gpu_or_skip(test) else { return };
    let [mut left, mut hits] = [0; 2];
    for (nth, case) in judged(test, 40).enumerate() {
        let (tables, rules) = (case.artifact().tables(), case.artifact().rules());
        let mut matcher = GpuMatcher::for_outputs(Arc::clone(&gpu), &tables, rules, GpuOptions::default()).expect("tables on the device");
        let [some, of] = case.check("gpu", &mut |output| matcher.reduce(&case.encoded, output).expect("an answer of the device"));
        (left, hits) = (left + some, hits + of);
        // By a device of its own, which is not opened for every case.
        if nth % 8 == 0 {
            let router = Router::new(Arc::clone(case.artifact()), Choice::Gpu).expect("a GPU");
            let found = router.find(&case.encoded);
            assert_eq!(case.generation.verify(&case.batch, found, &mut Cache::new()), case.hits, "{}", case.context);
            case.check("router to the gpu", &mut |output| router.reduce(&case.encoded, output));
            assert_eq!(router.routed().fallbacks, 0, "{}", case.context);
        }
    }
    assert!(left * 4 < hits * 3, "{left} of {hits} hits are left: the device counts little");
}

/// Each fault is one that a reduction could have; the comparison above must tell it in one of a few cases.
#[test]
fn faults_in_reductions_are_noticed() {
    type Fault = fn(&mut RuleLanes, &Judged);
    let wrong_lanes: [(&str, Output, Fault); 6] = [
        ("a rule counts for each of its terms", Output::Counts, |lanes, _| lanes.returned.fill(0)),
        ("a score counts for each of its terms", Output::Scores, |lanes, _| lanes.returned.fill(0)),
        ("shadow rules are counted", Output::Counts, |lanes, _| lanes.live.fill(u32::MAX)),
        ("a shadow rule comes first", Output::First, |lanes, _| lanes.live.fill(u32::MAX)),
        ("scores lose their upper half", Output::Scores, |lanes, _| {
            lanes.scores.iter_mut().flatten().for_each(|score| *score = i64::from(*score as i32));
        }),
        ("the best is the worst", Output::Top(1), |lanes, _| {
            lanes.scores.iter_mut().flatten().for_each(|score| *score = score.wrapping_neg());
        }),
    ];
    let cases: Vec<Judged> = (0..40).map(Judged::new).collect();
    for (what, output, fault) in wrong_lanes {
        let noticed = cases.iter().any(|case| {
            let mut lanes = case.lanes();
            fault(&mut lanes, case);
            let reduced = cpu::reduce(&case.artifact().tables(), &lanes, &case.encoded, Visit::Both, output);
            case.complete(reduced) != case.expected(output)
        });
        assert!(noticed, "{what}: nothing shows it");
    }
    for output in OUTPUTS.into_iter().filter(|output| *output != Output::Top(0)) {
        let differs = |fault: &dyn Fn(&Judged, &mut Reduced)| {
            cases.iter().any(|case| {
                let mut reduced = cpu::reduce(&case.artifact().tables(), &case.lanes(), &case.encoded, Visit::Both, output);
                fault(case, &mut reduced);
                case.complete(reduced) != case.expected(output)
            })
        };
        assert!(differs(&|_, reduced| reduced.rest.clear()), "{output:?}: residuals that are forgotten show nowhere");
        let tenants_only = |case: &Judged, reduced: &mut Reduced| {
            *reduced = cpu::reduce(&case.artifact().tables(), &case.lanes(), &case.encoded, Visit::Tenants, output);
        };
        assert!(differs(&tenants_only), "{output:?}: a half that is forgotten shows nowhere");
        let shifted = |_: &Judged, reduced: &mut Reduced| {
            let rows = reduced.reduction.rows();
            let mut all = Reduction::new(output, rows);
            all.absorb((0..rows).map(|row| (row + 1) % rows), reduced.reduction.clone());
            reduced.reduction = all;
        };
        assert!(differs(&shifted), "{output:?}: rows that are mixed up show nowhere");
    }
}
