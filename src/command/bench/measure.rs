//! The clocks. What is timed of a back end is one small function: batch in, hits out, or what they are reduced to.

use super::cases::Case;
use super::{Backend, Failure, Options};
use crate::decide::decide;
use crate::engine::Generation;
use crate::engine::router::{Choice, Router};
use crate::event::EventBatch;
use crate::expr::columns::Cache;
use crate::flow::{EncodedBatch, Hits};
use crate::matcher::output::{Output, Reduced, Reduction, RuleLanes};
use crate::matcher::{Found, cpu, plain};
use crate::reference::Reference;
use crate::tables::MatchTables;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A run takes at least so long: as many passes over the events as that needs. Tests look at answers and not at figures.
const RUN_SECONDS: f64 = if cfg!(test) { 0.0 } else { 0.1 };

/// Passes of a run at most.
const PASSES_MAX: f64 = 1000.0;

/// Single events are matched for at most so long, but at least so many of them.
const SINGLES_SECONDS: f64 = if cfg!(test) { 0.0 } else { 0.3 };
const SINGLES_MIN: usize = 10;

/// A back end, ready.
pub(super) struct Engine {
    matcher: Matcher,
    /// Where batches are to be reduced by a given instruction set.
    lanes: Option<RuleLanes>,
    prepare: Duration,
}

enum Matcher {
    Routed { router: Box<Router>, gpu_only: bool },
    Isa(cpu::Isa),
    Plain,
    Reference(Reference),
}

impl Engine {
    /// # Errors
    /// When the back end cannot be had.
    pub fn new(backend: Backend, case: &Case, reduces: bool) -> Result<Self, Failure> {
        let start = Instant::now();
        let routed = |choice| -> Result<Matcher, Failure> {
            let router = Router::new(Arc::clone(&case.artifact), choice)?;
            Ok(Matcher::Routed { router: Box::new(router), gpu_only: choice == Choice::Gpu })
        };
        let matcher = match backend {
            Backend::Cpu | Backend::All => routed(Choice::Cpu)?,
            Backend::Gpu => routed(Choice::Gpu)?,
            Backend::Auto => routed(Choice::Auto)?,
            Backend::Portable => Matcher::Isa(cpu::Isa::Portable),
            Backend::Avx2 if !cpu::Isa::Avx2.is_available() => return Err("this machine has no AVX2".to_owned().into()),
            Backend::Avx2 => Matcher::Isa(cpu::Isa::Avx2),
            Backend::Plain => Matcher::Plain,
            Backend::Reference => Matcher::Reference(Reference::new(&case.artifact)?),
        };
        let lanes = match matcher {
            Matcher::Isa(_) if reduces => RuleLanes::new(&case.artifact.tables(), case.artifact.rules()),
            _ => None,
        };
        Ok(Self { matcher, lanes, prepare: start.elapsed() })
    }

    /// The hits of a batch: what is timed.
    pub fn hits(&self, generation: &Generation, batch: &EventBatch) -> Hits {
        match &self.matcher {
            Matcher::Routed { router, .. } => hits(generation, batch, |_, encoded| router.find(encoded)),
            Matcher::Isa(isa) => hits(generation, batch, |tables, encoded| cpu::rules_by(*isa, tables, encoded, cpu::Visit::Both)),
            Matcher::Plain => hits(generation, batch, |tables, encoded| Found::of(tables, &plain::candidates(tables, encoded))),
            Matcher::Reference(reference) => reference.hits(batch),
        }
    }

    /// What the hits of a batch are reduced to: what is timed of an output.
    pub fn reduce(&self, generation: &Generation, batch: &EventBatch, output: Output) -> Reduction {
        let rules = generation.artifact().rules();
        let by = |reduce: &dyn Fn(&MatchTables, &EncodedBatch) -> Reduced| {
            let mut cache = Cache::default();
            let encoded = generation.encode(batch, &mut cache);
            generation.complete(batch, reduce(&generation.artifact().tables(), &encoded), &mut cache)
        };
        match (&self.matcher, &self.lanes) {
            (Matcher::Routed { router, .. }, _) => by(&|_, encoded| router.reduce(encoded, output)),
            (Matcher::Isa(isa), Some(lanes)) => {
                by(&|tables, encoded| cpu::reduce_by(*isa, tables, lanes, encoded, cpu::Visit::Both, output))
            }
            // The others are asked for the sake of their answers: they have nothing but hits.
            _ => Reduction::of(output, &self.hits(generation, batch), rules),
        }
    }

    const fn encodes(&self) -> bool {
        !matches!(self.matcher, Matcher::Reference(_))
    }

    /// # Errors
    /// When the GPU gave batches up, so that the figures are not its own.
    pub fn finished(&self) -> Result<(), String> {
        match &self.matcher {
            Matcher::Routed { router, gpu_only: true } if router.routed().fallbacks > 0 => {
                Err(format!("the GPU gave {} batches up: {}", router.routed().fallbacks, router.reason()))
            }
            _ => Ok(()),
        }
    }
}

/// Encode, match, verify: the full hit lists, sorted.
fn hits(generation: &Generation, batch: &EventBatch, find: impl FnOnce(&MatchTables, &EncodedBatch) -> Found) -> Hits {
    let mut cache = Cache::default();
    let encoded = generation.encode(batch, &mut cache);
    generation.verify(batch, find(&generation.artifact().tables(), &encoded), &mut cache)
}

/// Figures of one back end, over one case or several.
#[derive(Default)]
pub(super) struct Measured {
    /// Seconds for all events: to codes, to hits, to decisions. The first is 0 where nothing is encoded.
    pub encode: f64,
    pub hits: f64,
    pub decisions: f64,
    /// The same to the output that was asked for, if any.
    pub output: f64,
    /// The back end made ready.
    pub prepare: f64,
    /// Seconds of each batch to its decisions.
    pub batches: Vec<f64>,
    /// Seconds of single events to their decisions.
    pub singles: Vec<f64>,
}

impl Measured {
    /// Adds the figures of another case.
    pub fn add(&mut self, other: &Self) {
        self.encode += other.encode;
        self.hits += other.hits;
        self.decisions += other.decisions;
        self.output += other.output;
        self.prepare += other.prepare;
        self.batches.extend(&other.batches);
        self.singles.extend(&other.singles);
    }
}

/// Times a back end whose answers are right. `pass` is what its first pass took, and `share` this case's share of the time for a run.
pub(super) fn measure(engine: &Engine, case: &Case, batches: &[EventBatch], pass: Duration, share: f64, options: &Options) -> Measured {
    let (generation, records) = (&case.generation, case.artifact.rules());
    let timed = |pass: f64, work: &(dyn Fn(&EventBatch) + Sync)| {
        let passes = (RUN_SECONDS * share / pass.max(1e-9)).ceil().clamp(1.0, PASSES_MAX) as usize;
        let mut latencies = Vec::new();
        let runs = (0..options.runs).map(|_| {
            let start = Instant::now();
            (0..passes).for_each(|_| over(batches, options.threads, work, &mut latencies));
            start.elapsed().as_secs_f64() / passes as f64
        });
        let mut runs: Vec<f64> = runs.collect();
        (quantile(&mut runs, 0.5), latencies)
    };
    let encode = |batch: &EventBatch| {
        black_box(generation.encode(batch, &mut Cache::default()));
    };
    let to_hits = |batch: &EventBatch| {
        black_box(engine.hits(generation, batch));
    };
    let to_decisions = |batch: &EventBatch| {
        black_box(decide(&engine.hits(generation, batch), records));
    };
    let mut measured = Measured { prepare: engine.prepare.as_secs_f64(), ..Measured::default() };
    if engine.encodes() {
        let start = Instant::now();
        batches.iter().for_each(encode);
        measured.encode = timed(start.elapsed().as_secs_f64(), &encode).0;
    }
    let pass = pass.as_secs_f64();
    measured.hits = timed(pass, &to_hits).0;
    (measured.decisions, measured.batches) = timed(pass, &to_decisions);
    if let Some((_, output)) = options.output.output() {
        let to_output = |batch: &EventBatch| {
            black_box(engine.reduce(generation, batch, output));
        };
        measured.output = timed(pass, &to_output).0;
    }
    let singles = Instant::now();
    for event in &case.singles {
        let start = Instant::now();
        to_decisions(event);
        measured.singles.push(start.elapsed().as_secs_f64());
        if measured.singles.len() >= SINGLES_MIN && singles.elapsed().as_secs_f64() > SINGLES_SECONDS * share {
            break;
        }
    }
    measured
}

/// Works on every batch, the next free one on each of the threads, and adds how long each took.
fn over(batches: &[EventBatch], threads: usize, work: &(dyn Fn(&EventBatch) + Sync), latencies: &mut Vec<f64>) {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut latencies = Vec::new();
        while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
            let start = Instant::now();
            work(batch);
            latencies.push(start.elapsed().as_secs_f64());
        }
        latencies
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(batches.len())).map(|_| scope.spawn(worker)).collect();
        latencies.extend(worker());
        for other in others {
            latencies.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
    });
}

/// The value below which a share of the values lies; 0 where there are none.
pub(super) fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let at = (share * values.len() as f64).ceil() as usize;
    values.get(at.max(1) - 1).copied().unwrap_or(0.0)
}
