//! Which back end matches a batch: the CPU, the GPU, or each the partitions that it is better at; and what happens when the GPU cannot.

use crate::flow::EncodedBatch;
use crate::matcher::Found;
use crate::matcher::cpu::{self, Visit};
use crate::tables::Artifact;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the user asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The faster one, as measured on the first batches.
    Auto,
    Cpu,
    Gpu,
}

/// How batches were matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Routed {
    pub cpu_batches: u64,
    pub gpu_batches: u64,
    /// Batches whose common rules went to the GPU and whose tenants' rules to the CPU.
    pub split_batches: u64,
    /// Batches that the GPU was to match, and that the CPU matched because the GPU could not.
    pub fallbacks: u64,
}

/// Routes batches of one artifact to back ends. Shared by all threads.
pub struct Router {
    artifact: Arc<Artifact>,
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
        let routed = Default::default();
        #[cfg(feature = "gpu")]
        {
            let (gpu, reason) = gpu::Route::open(&artifact, choice)?;
            Ok(Self { artifact, gpu, reason, routed })
        }
        #[cfg(not(feature = "gpu"))]
        match choice {
            Choice::Gpu => Err("this program was built without the feature `gpu`".to_owned()),
            Choice::Cpu => Ok(Self { artifact, reason: "asked for".to_owned(), routed }),
            Choice::Auto => Ok(Self { artifact, reason: "this program was built without the feature `gpu`".to_owned(), routed }),
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
        #[cfg(feature = "gpu")]
        if let Some(gpu) = &self.gpu {
            let (found, how) = gpu.find(&self.artifact, batch);
            self.routed[how].fetch_add(1, Ordering::Relaxed);
            return found;
        }
        self.routed[CPU].fetch_add(1, Ordering::Relaxed);
        on_cpu(&self.artifact, batch, Visit::Both)
    }
}

fn on_cpu(artifact: &Artifact, batch: &EncodedBatch, which: Visit) -> Found {
    cpu::rules(&artifact.tables(), batch, which)
}

#[cfg(feature = "gpu")]
mod gpu {
    //! The GPU's side of routing.

    use super::{CPU, Choice, FALLBACK, GPU, SPLIT, on_cpu};
    use crate::flow::EncodedBatch;
    use crate::matcher::Found;
    use crate::matcher::cpu::Visit;
    use crate::matcher::gpu::{Gpu, GpuError, GpuMatcher};
    use crate::tables::Artifact;
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
    use std::time::Instant;

    /// Batches smaller than this are matched on the CPU without asking: a dispatch alone takes longer.
    const SMALLEST_BATCH: usize = 256;

    /// Times that each plan is measured before one is chosen; the first run on a GPU, which compiles its shaders, does not count.
    const MEASUREMENTS: usize = 3;

    /// How a batch may be matched.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Plan {
        Cpu,
        Gpu,
        /// The rules of every tenant on the GPU, each tenant's own on the CPU.
        Split,
    }

    const PLANS: [Plan; 3] = [Plan::Cpu, Plan::Gpu, Plan::Split];

    pub struct Route {
        choice: Choice,
        state: Mutex<State>,
        adapter: String,
    }

    struct State {
        matcher: Option<GpuMatcher>,
        /// Seconds a batch of each plan, fastest of the measurements, as a line over rows: (small batch's rows, seconds), (large batch's rows, seconds).
        models: [Option<Model>; 3],
        warned: bool,
    }

    /// What a plan costs: seconds for any batch, and for each row of it.
    #[derive(Clone, Copy, Debug)]
    struct Model {
        fixed: f64,
        row: f64,
    }

    impl Model {
        fn seconds(self, rows: usize) -> f64 {
            self.row.mul_add(rows as f64, self.fixed)
        }
    }

    impl Route {
        /// The GPU route, if it can be had and is worth having, and why or why not.
        pub fn open(artifact: &Artifact, choice: Choice) -> Result<(Option<Self>, String), String> {
            if choice == Choice::Cpu {
                return Ok((None, "asked for".to_owned()));
            }
            let gpu = match Gpu::request() {
                Ok(gpu) => gpu,
                Err(error) if choice == Choice::Gpu => return Err(error.to_string()),
                Err(error) => return Ok((None, error.to_string())),
            };
            let adapter = gpu.info().name.clone();
            if choice == Choice::Auto && gpu.info().is_software() {
                return Ok((None, format!("the only adapter, {adapter}, is the CPU in disguise")));
            }
            let matcher = match GpuMatcher::new(Arc::new(gpu), &artifact.tables()) {
                Ok(matcher) => matcher,
                Err(error) if choice == Choice::Gpu => return Err(error.to_string()),
                Err(error) => return Ok((None, error.to_string())),
            };
            let state = State { matcher: Some(matcher), models: [None; 3], warned: false };
            let reason = if choice == Choice::Gpu { format!("asked for; on {adapter}") } else { format!("measured against {adapter}") };
            Ok((Some(Self { choice, state: Mutex::new(state), adapter }), reason))
        }

        fn state(&self) -> MutexGuard<'_, State> {
            self.state.lock().unwrap_or_else(PoisonError::into_inner)
        }

        pub fn reason(&self, opened: &str) -> String {
            let state = self.state();
            if state.matcher.is_none() {
                return format!("{} can no longer be used", self.adapter);
            }
            let costs: Vec<String> = PLANS
                .iter()
                .zip(&state.models)
                .filter_map(|(plan, model)| {
                    model.map(|model| format!("{plan:?} {:.0} µs + {:.0} ns a row", model.fixed * 1e6, model.row * 1e9))
                })
                .collect();
            if costs.is_empty() { opened.to_owned() } else { format!("{opened}: {}", costs.join(", ")) }
        }

        /// What a batch matches, and how it was found.
        pub fn find(&self, artifact: &Artifact, batch: &EncodedBatch) -> (Found, usize) {
            if self.choice == Choice::Gpu {
                return self.run(artifact, batch, Plan::Gpu);
            }
            if batch.rows < SMALLEST_BATCH {
                return (on_cpu(artifact, batch, Visit::Both), CPU);
            }
            if self.state().models[0].is_none() {
                self.calibrate(artifact, batch);
            }
            let models = self.state().models;
            let plan = PLANS
                .iter()
                .zip(models)
                .filter_map(|(plan, model)| model.map(|model| (*plan, model.seconds(batch.rows))))
                .min_by(|a, b| a.1.total_cmp(&b.1))
                .map_or(Plan::Cpu, |(plan, _)| plan);
            tracing::debug!(rows = batch.rows, ?plan, "routed");
            self.run(artifact, batch, plan)
        }

        /// Measures every plan on a batch and on its first eighth.
        fn calibrate(&self, artifact: &Artifact, batch: &EncodedBatch) {
            let small = first_rows(batch, (batch.rows / 8).max(1));
            let mut models = [None; 3];
            for (plan, model) in PLANS.iter().zip(&mut models) {
                let pointless = *plan == Plan::Split && batch.partitions.iter().all(|partition| *partition == 0);
                if pointless {
                    continue;
                }
                let measure = |batch: &EncodedBatch| {
                    let seconds = |_| {
                        let start = Instant::now();
                        let (_, how) = self.run(artifact, batch, *plan);
                        (how != FALLBACK).then(|| start.elapsed().as_secs_f64())
                    };
                    seconds(0)?;
                    (0..MEASUREMENTS).filter_map(seconds).min_by(f64::total_cmp)
                };
                if let (Some(few), Some(many)) = (measure(&small), measure(batch)) {
                    let row = ((many - few) / (batch.rows - small.rows).max(1) as f64).max(0.0);
                    *model = Some(Model { fixed: (few - row * small.rows as f64).max(0.0), row });
                }
            }
            tracing::info!(adapter = self.adapter, ?models, "calibrated");
            self.state().models = models;
        }

        fn run(&self, artifact: &Artifact, batch: &EncodedBatch, plan: Plan) -> (Found, usize) {
            let (answer, how) = match plan {
                Plan::Cpu => return (on_cpu(artifact, batch, Visit::Both), CPU),
                Plan::Gpu => (self.ask(artifact, batch), GPU),
                Plan::Split => {
                    let mut common = batch.clone();
                    common.partitions.fill(0);
                    let answer = self.ask(artifact, &common).map(|mut found| {
                        let mut own = on_cpu(artifact, batch, Visit::Tenants);
                        found.rules.append(&mut own.rules);
                        found.open.append(&mut own.open);
                        found
                    });
                    (answer, SPLIT)
                }
            };
            match answer {
                Ok(found) => (found, how),
                Err(error) => {
                    let mut state = self.state();
                    if !state.warned {
                        state.warned = true;
                        tracing::warn!(%error, "the GPU could not match a batch; such batches are matched on the CPU, and counted");
                    }
                    drop(state);
                    (on_cpu(artifact, batch, Visit::Both), FALLBACK)
                }
            }
        }

        /// Asks the GPU; after a lost device, a new one once.
        fn ask(&self, artifact: &Artifact, batch: &EncodedBatch) -> Result<Found, GpuError> {
            let mut state = self.state();
            let matcher = match &mut state.matcher {
                Some(matcher) => matcher,
                none => none.insert(GpuMatcher::new(Arc::new(Gpu::request()?), &artifact.tables())?),
            };
            let gpu = Arc::clone(matcher.gpu());
            let submitted = matcher.submit(batch);
            // While the device works, other threads submit their batches.
            drop(state);
            let waited = submitted.and_then(|ticket| ticket.wait(&gpu).map(|()| ticket));
            let mut state = self.state();
            let matcher = state.matcher.as_mut().filter(|matcher| Arc::ptr_eq(matcher.gpu(), &gpu));
            let (answer, is_current) = match matcher {
                Some(matcher) => (waited.and_then(|ticket| matcher.collect(ticket)), true),
                None => (Err(GpuError::Lost("another batch found it lost".to_owned())), false),
            };
            if is_current && matches!(answer, Err(GpuError::Lost(_))) {
                state.matcher = None;
            }
            drop(state);
            Ok(Found::of(&artifact.tables(), &answer?))
        }
    }

    fn first_rows(batch: &EncodedBatch, rows: usize) -> EncodedBatch {
        EncodedBatch {
            rows,
            columns: batch.columns,
            codes: batch.codes[..rows * batch.columns].to_vec(),
            partitions: batch.partitions[..rows].to_vec(),
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use crate::compile::{Context, compile};
        use crate::engine::router::{Routed, Router};
        use crate::event::{Field, Schema, Type};
        use crate::matcher::gpu::testing::gpu_or_skip;
        use crate::matcher::{Pair, plain};
        use crate::rule::lists::Lists;
        use crate::rule::{Action, Limits, Origin, Rule, Status};

        fn artifact() -> Arc<Artifact> {
            let schema = Schema::new(vec![Field { name: "n".to_owned(), ty: Type::Int }]).unwrap();
            let rules = (0..40).map(|nth| Rule {
                id: format!("rule-{nth}").into(),
                tenant: None,
                when: format!("n >= {nth} AND n < {}", nth + 5).into(),
                origin: Origin::default(),
                parameters: Vec::new(),
                score: 0,
                action: Action::Allow,
                status: Status::Live,
                tags: Vec::new(),
                outcome: None,
                clause: crate::rule::Clause::default(),
                tests: Vec::new(),
            });
            let context = Context { schema: &schema, lists: &Lists::default(), limits: &Limits::default(), threads: 1 };
            let compiled = compile(rules, &context);
            Arc::new(Artifact::from_bytes(&compiled.artifact.unwrap()).unwrap())
        }

        fn sorted(mut pairs: Vec<Pair>) -> Vec<Pair> {
            pairs.sort_unstable();
            pairs
        }

        #[test]
        fn a_lost_device_is_replaced_and_its_batch_matched_on_the_cpu() {
            if gpu_or_skip("a_lost_device_is_replaced_and_its_batch_matched_on_the_cpu").is_none() {
                return;
            }
            let artifact = artifact();
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
            let route = router.gpu.as_ref().unwrap();
            route.state().matcher.as_ref().unwrap().gpu().destroy();
            ask(1, 1);
            assert!(router.reason().contains("no longer"), "{}", router.reason());
            ask(2, 1);
        }
    }
}
