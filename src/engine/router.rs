//! Which back end matches a batch: the CPU, the GPU, or each the partitions that it is better at; and what happens when the GPU cannot.
//!
//! * `costs`: what a batch costs on either, and which of its partitions go where.
//! * `gpu`: the GPU's side: the device, and the clock that costs are measured with.

#[cfg(feature = "gpu")]
mod costs;
#[cfg(feature = "gpu")]
mod gpu;

use crate::flow::EncodedBatch;
use crate::matcher::Found;
use crate::matcher::cpu::{self, Visit};
#[cfg(feature = "gpu")]
use crate::matcher::gpu::{GpuError, GpuMatcher, Ticket};
#[cfg(feature = "gpu")]
use crate::matcher::output::Reduction;
use crate::matcher::output::{Output, Reduced, RuleLanes};
use crate::tables::Artifact;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// What the user asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The faster one, as measured on batches.
    Auto,
    Cpu,
    Gpu,
}

/// How batches were matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Routed {
    pub cpu_batches: u64,
    pub gpu_batches: u64,
    /// Batches of whose partitions some went to the GPU and the others to the CPU.
    pub split_batches: u64,
    /// Batches that the GPU was to match, and that the CPU matched because the GPU could not.
    pub fallbacks: u64,
}

/// Routes batches of one artifact to back ends. Shared by all threads.
pub struct Router {
    rules: Rules,
    #[cfg(feature = "gpu")]
    gpu: Option<gpu::Route>,
    reason: String,
    routed: [AtomicU64; 4],
}

const CPU: usize = 0;
#[cfg(feature = "gpu")]
const GPU: usize = 1;
#[cfg(feature = "gpu")]
const SPLIT: usize = 2;
#[cfg(feature = "gpu")]
const FALLBACK: usize = 3;

impl Router {
    /// A router for `artifact`.
    ///
    /// # Errors
    /// When the GPU was asked for by name and cannot be had.
    pub fn new(artifact: Arc<Artifact>, choice: Choice) -> Result<Self, String> {
        let (rules, routed) = (Rules { artifact, lanes: OnceLock::new() }, Default::default());
        #[cfg(feature = "gpu")]
        {
            let (gpu, reason) = gpu::Route::open(&rules, choice)?;
            Ok(Self { rules, gpu, reason, routed })
        }
        #[cfg(not(feature = "gpu"))]
        match choice {
            Choice::Gpu => Err("this program was built without the feature `gpu`".to_owned()),
            Choice::Cpu => Ok(Self { rules, reason: "asked for".to_owned(), routed }),
            Choice::Auto => Ok(Self { rules, reason: "this program was built without the feature `gpu`".to_owned(), routed }),
        }
    }

    /// Why batches go where they go, in a few words.
    #[must_use]
    pub fn reason(&self) -> String {
        #[cfg(feature = "gpu")]
        if let Some(gpu) = &self.gpu {
            return gpu.reason(&self.reason);
        }
        self.reason.clone()
    }

    /// How batches were matched so far.
    #[must_use]
    pub fn routed(&self) -> Routed {
        let [cpu_batches, gpu_batches, split_batches, fallbacks] = [0, 1, 2, 3].map(|at| self.routed[at].load(Ordering::Relaxed));
        Routed { cpu_batches, gpu_batches, split_batches, fallbacks }
    }

    /// What a batch matches, but for residuals.
    pub fn find(&self, batch: &EncodedBatch) -> Found {
        self.route(ForHits, batch)
    }

    /// What the rules that match make of each row of a batch, but for what [`Generation::complete`](super::Generation::complete) decides.
    pub fn reduce(&self, batch: &EncodedBatch, output: Output) -> Reduced {
        self.route(output, batch)
    }

    fn route<W: Wanted>(&self, wanted: W, batch: &EncodedBatch) -> W::Answer {
        #[cfg(feature = "gpu")]
        if let Some(gpu) = &self.gpu {
            let (answer, how) = gpu.answer(&self.rules, wanted, batch);
            self.routed[how].fetch_add(1, Ordering::Relaxed);
            return answer;
        }
        self.routed[CPU].fetch_add(1, Ordering::Relaxed);
        wanted.on_cpu(&self.rules, batch, Visit::Both)
    }
}

/// What the CPU matches with.
struct Rules {
    artifact: Arc<Artifact>,
    /// Made when a batch is first reduced.
    lanes: OnceLock<RuleLanes>,
}

impl Rules {
    fn lanes(&self) -> &RuleLanes {
        let made = || RuleLanes::new(&self.artifact.tables(), self.artifact.rules());
        self.lanes.get_or_init(|| made().expect("the terms of an artifact belong to its rules"))
    }
}

/// What batches are matched for.
trait Wanted: Copy {
    type Answer;

    fn on_cpu(self, rules: &Rules, batch: &EncodedBatch, which: Visit) -> Self::Answer;

    /// What the rows are to be reduced to, if they are.
    #[cfg(feature = "gpu")]
    fn output(self) -> Option<Output>;

    #[cfg(feature = "gpu")]
    fn collect(self, rules: &Rules, matcher: &mut GpuMatcher, ticket: Ticket) -> Result<Self::Answer, GpuError>;

    /// The answer where no rule matches.
    #[cfg(feature = "gpu")]
    fn nothing(self, rows: usize) -> Self::Answer;

    /// Adds the answer to a part of the batch; `rows` are the part's.
    #[cfg(feature = "gpu")]
    fn join(self, all: &mut Self::Answer, part: Self::Answer, rows: &[u32]);
}

/// Hits themselves.
#[derive(Clone, Copy)]
struct ForHits;

impl Wanted for ForHits {
    type Answer = Found;

    fn on_cpu(self, rules: &Rules, batch: &EncodedBatch, which: Visit) -> Found {
        cpu::rules(&rules.artifact.tables(), batch, which)
    }

    #[cfg(feature = "gpu")]
    fn output(self) -> Option<Output> {
        None
    }

    #[cfg(feature = "gpu")]
    fn collect(self, rules: &Rules, matcher: &mut GpuMatcher, ticket: Ticket) -> Result<Found, GpuError> {
        Ok(Found::of(&rules.artifact.tables(), &matcher.collect(ticket)?))
    }

    #[cfg(feature = "gpu")]
    fn nothing(self, _: usize) -> Found {
        Found::default()
    }

    #[cfg(feature = "gpu")]
    fn join(self, all: &mut Found, mut part: Found, rows: &[u32]) {
        part.rules.iter_mut().for_each(|pair| pair.row = rows[pair.row as usize]);
        part.open.iter_mut().for_each(|candidate| candidate.row = rows[candidate.row as usize]);
        all.rules.append(&mut part.rules);
        all.open.append(&mut part.open);
    }
}

impl Wanted for Output {
    type Answer = Reduced;

    fn on_cpu(self, rules: &Rules, batch: &EncodedBatch, which: Visit) -> Reduced {
        cpu::reduce(&rules.artifact.tables(), rules.lanes(), batch, which, self)
    }

    #[cfg(feature = "gpu")]
    fn output(self) -> Option<Output> {
        Some(self)
    }

    #[cfg(feature = "gpu")]
    fn collect(self, _: &Rules, matcher: &mut GpuMatcher, ticket: Ticket) -> Result<Reduced, GpuError> {
        matcher.collect_reduced(ticket)
    }

    #[cfg(feature = "gpu")]
    fn nothing(self, rows: usize) -> Reduced {
        Reduced { reduction: Reduction::new(self, rows), rest: Vec::new() }
    }

    #[cfg(feature = "gpu")]
    fn join(self, all: &mut Reduced, mut part: Reduced, rows: &[u32]) {
        all.reduction.absorb(rows.iter().map(|row| *row as usize), part.reduction);
        part.rest.iter_mut().for_each(|candidate| candidate.row = rows[candidate.row as usize]);
        all.rest.append(&mut part.rest);
    }
}
