//! The matcher on a GPU: the search from the roots beside every group without summaries, and each output. Before anything is timed, the answers have been
//! compared with those of the matcher on the CPU. A software adapter is run as well, and its times are not shown: they would say nothing of a GPU.

use dynamic_cep::engine::Generation;
use dynamic_cep::expr::columns::Cache;
use dynamic_cep::flow::EncodedBatch;
use dynamic_cep::id::RuleId;
use dynamic_cep::matcher::cpu::{self, Visit};
use dynamic_cep::matcher::gpu::{Gpu, GpuMatcher, GpuOptions, IN_FLIGHT, Output, Reduction, Timings};
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

/// Whatever a reduction is of; all but one part are missing.
fn parts(reduction: Reduction) -> impl PartialEq + std::fmt::Debug {
    let [scores, first, counts, top] = [0; 4].map(|_| reduction.clone());
    (scores.scores(), first.first(), counts.counts(), top.top(), reduction.lists())
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
        assert_eq!(parts(reduced.reduction), parts(all), "{output:?} is that of the CPU");
        let _ = matcher.take_timings();
        let start = Instant::now();
        let mut answers = 0;
        matcher.reduce_all(&batches, output, |_| answers += 1).expect("answers");
        assert_eq!(answers, batches.len());
        show(&format!("{output:?}"), is_software, rows, start.elapsed().as_secs_f64(), &matcher.take_timings());
    }
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
        }
    }
}
