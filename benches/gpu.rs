//! The matcher on a GPU: the search from the roots beside every group without summaries, and each output; and how routing does beside either back end,
//! over sizes of batches. Before anything is timed, the answers have been
//! compared with those of the matcher on the CPU. A software adapter is run as well, and its times are not shown: they would say nothing of a GPU.

use dynamic_cep::engine::Generation;
use dynamic_cep::engine::router::{Choice, Router};
use dynamic_cep::expr::columns::Cache;
use dynamic_cep::flow::EncodedBatch;
use dynamic_cep::id::RuleId;
use dynamic_cep::matcher::cpu::{self, Visit};
use dynamic_cep::matcher::gpu::{Gpu, GpuMatcher, GpuOptions, IN_FLIGHT, Timings};
use dynamic_cep::matcher::output::{Output, Reduction};
use dynamic_cep::tables::{Artifact, Candidate};
use dynamic_cep::workload::{Generator, Workload, compiled, rules};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

const OUTPUTS: [Output; 5] = [Output::Scores, Output::First, Output::Counts, Output::Top(10), Output::Lists];

/// How much is run: a GPU is kept busy, a software adapter is not.
struct Size {
    rules: &'static [usize],
    rows: usize,
    batches: usize,
}

const ON_GPU: Size = Size { rules: &[100_000, 1_000_000], rows: 1 << 16, batches: 12 };
const IN_SOFTWARE: Size = Size { rules: &[20_000], rows: 512, batches: 2 };

fn sorted(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.sort_unstable();
    candidates
}

/// One line of the table: what was run, how fast, and which kernels took the time.
fn show(what: &str, is_software: bool, rows: usize, seconds: f64, timings: &Timings) {
    if is_software {
        println!("  {what:<22} answers as the CPU does; software adapter: not a GPU timing");
        return;
    }
    let share = |time: Duration| time.as_secs_f64() / timings.kernels().as_secs_f64().max(1e-12) * 100.0;
    let kernels: Vec<String> = timings
        .by_kernel()
        .iter()
        .filter(|(_, time)| !time.is_zero())
        .map(|(name, time)| format!("{name} {:.2} ms ({:.0} %)", time.as_secs_f64() * 1e3, share(*time)))
        .collect();
    println!("  {what:<22} {:>12.0} events/s   {}", rows as f64 / seconds, kernels.join(", "));
}

/// Matches the batches with several of them in flight; what was needed, and the kernels' times.
fn candidates(matcher: &mut GpuMatcher, batches: &[EncodedBatch]) -> (f64, Timings) {
    let _ = matcher.take_timings();
    let start = Instant::now();
    let mut in_flight = VecDeque::new();
    for batch in batches {
        if in_flight.len() == IN_FLIGHT {
            let ticket = in_flight.pop_front().expect("tickets in flight");
            matcher.collect(ticket).expect("an answer");
        }
        in_flight.push_back(matcher.submit(batch).expect("a ticket"));
    }
    for ticket in in_flight {
        matcher.collect(ticket).expect("an answer");
    }
    (start.elapsed().as_secs_f64(), matcher.take_timings())
}

fn run(gpu: &Arc<Gpu>, workload: Workload, count: usize, size: &Size) {
    let schema = workload.schema();
    let bytes = compiled(rules(workload, count).into_iter(), &schema, 2).expect("sound rules");
    let artifact = Arc::new(Artifact::from_bytes(&bytes).expect("an artifact"));
    let generation = Generation::new(Arc::clone(&artifact)).expect("residuals");
    let tables = artifact.tables();
    let mut events = Generator::events(workload);
    let batches: Vec<EncodedBatch> =
        (0..size.batches).map(|_| generation.encode(&events.event_batch(&schema, size.rows), &mut Cache::default())).collect();
    let is_software = gpu.info().is_software();
    let rows = size.rows * size.batches;

    let mut expected = Vec::new();
    cpu::candidates(&tables, &batches[0], Visit::Both, &mut expected);
    let expected = sorted(expected);
    println!("{}, {count} rules, {} candidates an event", workload.name(), expected.len() as f64 / size.rows as f64);
    for brute in [false, true] {
        let options = GpuOptions { timings: true, brute, ..GpuOptions::default() };
        let mut matcher = GpuMatcher::with_options(Arc::clone(gpu), &tables, options).expect("tables on the device");
        assert!(sorted(matcher.candidates(&batches[0]).expect("an answer")) == expected, "the candidates are those of the CPU");
        let (seconds, timings) = candidates(&mut matcher, &batches);
        show(if brute { "candidates, brute" } else { "candidates, pruned" }, is_software, rows, seconds, &timings);
    }
    let options = GpuOptions { timings: true, ..GpuOptions::default() };
    let mut matcher = GpuMatcher::for_outputs(Arc::clone(gpu), &tables, artifact.rules(), options).expect("tables on the device");
    let pairs = |candidates: &[Candidate]| {
        let pair = |candidate: &Candidate| (candidate.row as usize, RuleId(tables.term_rules[candidate.term as usize]));
        candidates.iter().map(pair).collect::<BTreeSet<_>>()
    };
    let add = |reduction: &mut Reduction, candidates: &[Candidate]| {
        // Residuals, of which these workloads have none, would be taken to hold.
        pairs(candidates).into_iter().for_each(|(row, rule)| reduction.add(row, rule, &artifact.rules()[rule.index()]));
    };
    for output in OUTPUTS {
        // What the device counts and what it leaves to the host are together what all that matches comes to. This first run also makes the buffers as large
        // as they need to be.
        let mut reduced = matcher.reduce(&batches[0], output).expect("an answer");
        add(&mut reduced.reduction, &reduced.rest);
        let mut all = Reduction::new(output, size.rows);
        add(&mut all, &expected);
        assert!(reduced.reduction.answer() == all.answer(), "{output:?} is that of the CPU");
        let _ = matcher.take_timings();
        let start = Instant::now();
        let mut answers = 0;
        matcher.reduce_all(&batches, output, |_| answers += 1).expect("answers");
        assert_eq!(answers, batches.len());
        show(&format!("{output:?}"), is_software, rows, start.elapsed().as_secs_f64(), &matcher.take_timings());
    }
}

/// Sizes of batches that are routed, and how often each: the costs of a size are measured with the first batches of it.
const ROUTED: [usize; 7] = [16, 64, 256, 1 << 10, 1 << 12, 1 << 14, 1 << 16];
const ROUTED_IN_SOFTWARE: [usize; 2] = [16, 256];
const WARM_UP: usize = 20;
const TIMED: usize = 21;

/// Batches of every size by each choice of back end: the median rates of hits and of scores.
fn crossover(is_software: bool, workload: Workload, count: usize) {
    let schema = workload.schema();
    let bytes = compiled(rules(workload, count).into_iter(), &schema, 2).expect("sound rules");
    let artifact = Arc::new(Artifact::from_bytes(&bytes).expect("an artifact"));
    let generation = Generation::new(Arc::clone(&artifact)).expect("residuals");
    let routers = [Choice::Cpu, Choice::Gpu, Choice::Auto].map(|choice| Router::new(Arc::clone(&artifact), choice).expect("a back end"));
    println!("{}, {count} rules, batches routed to cpu / gpu / auto", workload.name());
    for &rows in if is_software { &ROUTED_IN_SOFTWARE[..] } else { &ROUTED } {
        let events = Generator::events(workload).event_batch(&schema, rows);
        let batch = generation.encode(&events, &mut Cache::default());
        let hits = |router: &Router| generation.verify(&events, router.find(&batch), &mut Cache::default());
        let scores = |router: &Router| generation.complete(&events, router.reduce(&batch, Output::Scores), &mut Cache::default()).answer();
        let [cpu, others @ ..] = &routers;
        for other in others {
            assert!(hits(other) == hits(cpu) && scores(other) == scores(cpu), "{rows} rows: back ends disagree");
        }
        if is_software {
            println!("  {rows:>6} rows: the same answers; software adapter: not a GPU timing");
            continue;
        }
        let rate = |work: &dyn Fn()| {
            (0..WARM_UP).for_each(|_| work());
            let mut seconds: Vec<f64> = (0..TIMED)
                .map(|_| {
                    let start = Instant::now();
                    work();
                    start.elapsed().as_secs_f64()
                })
                .collect();
            seconds.sort_unstable_by(f64::total_cmp);
            rows as f64 / seconds[TIMED / 2]
        };
        let of_hits = routers.each_ref().map(|router| rate(&|| drop(hits(router))));
        let of_scores = routers.each_ref().map(|router| rate(&|| drop(scores(router))));
        let show = |[cpu, gpu, auto]: [f64; 3]| format!("{cpu:.0} / {gpu:.0} / {auto:.0} ({:.0} %)", auto / cpu.max(gpu) * 100.0);
        println!("  {rows:>6} rows: hits {}, scores {} events/s", show(of_hits), show(of_scores));
    }
    println!("  {}: {:?}", routers[2].reason(), routers[2].routed());
}

fn main() {
    let gpu = match Gpu::request() {
        Ok(gpu) => Arc::new(gpu),
        Err(error) => return println!("skipped: {error}"),
    };
    let info = gpu.info();
    println!("{} ({}, {}, {})", info.name, info.kind, info.backend, info.driver);
    let size = if info.is_software() { IN_SOFTWARE } else { ON_GPU };
    for workload in [Workload::F1, Workload::F2] {
        for &count in size.rules {
            run(&gpu, workload, count, &size);
            crossover(info.is_software(), workload, count);
        }
    }
}
