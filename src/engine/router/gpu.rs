//! The GPU's side of routing.

use super::costs::{CLASSES, Classes, Costs, Trial, Visits, class};
use super::{CPU, Choice, FALLBACK, GPU, Rules, SPLIT, Wanted};
use crate::flow::EncodedBatch;
use crate::matcher::cpu::Visit;
use crate::matcher::gpu::{Gpu, GpuError, GpuMatcher, GpuOptions};
use crate::matcher::output::Output;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Batches smaller than this are matched on the CPU until larger ones have been measured.
const MEASURED_ROWS: usize = 256;

/// Times that each trial is run, of which the fastest counts; the first run on a GPU, which compiles its shaders, does not.
const RUNS: usize = 3;

pub struct Route {
    choice: Choice,
    device: Mutex<Device>,
    /// For hits and for each output that batches were reduced to; `None` while they are measured.
    costs: Mutex<Vec<(Option<Output>, Option<Costs>)>>,
    /// The class of each partition.
    classes: Vec<u8>,
    adapter: String,
}

struct Device {
    matcher: Option<GpuMatcher>,
    /// Whether the matcher knows what rules count for: it learns that with the first batch that is reduced.
    reduces: bool,
    warned: bool,
}

/// Some of a batch's rows, in some of the partitions that they visit.
struct Part {
    batch: EncodedBatch,
    /// Their numbers in the whole batch.
    rows: Vec<u32>,
    which: Visit,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Route {
    /// The GPU route, if it can be had and is worth having, and why or why not.
    pub fn open(rules: &Rules, choice: Choice) -> Result<(Option<Self>, String), String> {
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
        let tables = rules.artifact.tables();
        let matcher = match GpuMatcher::new(Arc::new(gpu), &tables) {
            Ok(matcher) => matcher,
            Err(error) if choice == Choice::Gpu => return Err(error.to_string()),
            Err(error) => return Ok((None, error.to_string())),
        };
        let groups =
            |first: u32, count: u32| tables.segments[first as usize..][..count as usize].iter().map(|segment| segment.groups).sum();
        let classes = tables.partitions.iter().map(|partition| class(groups(partition.first_segment, partition.segments)) as u8).collect();
        let device = Mutex::new(Device { matcher: Some(matcher), reduces: false, warned: false });
        let reason = if choice == Choice::Gpu { format!("asked for; on {adapter}") } else { format!("measured against {adapter}") };
        Ok((Some(Self { choice, device, costs: Mutex::new(Vec::new()), classes, adapter }), reason))
    }

    /// The same reason with what has been measured.
    pub fn reason(&self, opened: &str) -> String {
        if locked(&self.device).matcher.is_none() {
            return format!("{} can no longer be used", self.adapter);
        }
        let named = |(output, costs): &(Option<Output>, Option<Costs>)| {
            let what = output.map_or("hits".to_owned(), |output| format!("{output:?}").to_lowercase());
            costs.as_ref().map(|costs| format!("{what}: {costs}"))
        };
        let costs: Vec<String> = locked(&self.costs).iter().filter_map(named).collect();
        if costs.is_empty() { opened.to_owned() } else { format!("{opened}: {}", costs.join("; ")) }
    }

    /// What is wanted of a batch, and how it was found.
    pub fn answer<W: Wanted>(&self, rules: &Rules, wanted: W, batch: &EncodedBatch) -> (W::Answer, usize) {
        if self.choice == Choice::Gpu {
            return self
                .on_gpu(rules, wanted, batch)
                .map_or_else(|| (wanted.on_cpu(rules, batch, Visit::Both), FALLBACK), |answer| (answer, GPU));
        }
        let output = wanted.output();
        if self.is_to_measure(output, batch.rows) {
            self.measure(rules, wanted, batch);
        }
        // Too few rows for a dispatch, nothing measured yet, or another thread is measuring.
        if self.with_costs(output, |costs| costs.never_pay(batch.rows)) != Some(false) {
            return (wanted.on_cpu(rules, batch, Visit::Both), CPU);
        }
        let visits = self.visits(batch);
        let Some(choice) = self.with_costs(output, |costs| costs.choose(&visits)) else {
            return (wanted.on_cpu(rules, batch, Visit::Both), CPU);
        };
        tracing::debug!(rows = batch.rows, ?choice, "routed");
        let (answer, how, seconds) = self.run(rules, wanted, batch, &visits, choice.on_gpu);
        self.with_costs(output, |costs| costs.observe(&visits, choice, seconds));
        (answer, how)
    }

    fn with_costs<T>(&self, output: Option<Output>, with: impl FnOnce(&mut Costs) -> T) -> Option<T> {
        locked(&self.costs).iter_mut().find(|(of, _)| *of == output).and_then(|(_, costs)| costs.as_mut()).map(with)
    }

    /// Whether a batch is the first to be measured, or the first of its size; then no other is until that is done.
    fn is_to_measure(&self, output: Option<Output>, rows: usize) -> bool {
        let mut all = locked(&self.costs);
        match all.iter_mut().find(|(of, _)| *of == output) {
            None if rows >= MEASURED_ROWS => all.push((output, None)),
            Some((_, costs)) if costs.as_ref().is_some_and(|costs| costs.are_outgrown(rows)) => *costs = None,
            _ => return false,
        }
        true
    }

    fn class(&self, partition: u32) -> usize {
        self.classes.get(partition as usize).map_or(0, |class| usize::from(*class))
    }

    fn visits(&self, batch: &EncodedBatch) -> Visits {
        let mut visits = [0; CLASSES];
        visits[self.class(0)] += batch.rows;
        batch.partitions.iter().filter(|partition| **partition != 0).for_each(|partition| visits[self.class(*partition)] += 1);
        visits
    }

    /// The part of a batch whose partitions' classes are taken.
    fn part(&self, batch: &EncodedBatch, takes: impl Fn(usize) -> bool) -> Part {
        let takes = |partition: u32| self.class(partition) > 0 && takes(self.class(partition));
        let visits_common = takes(0);
        let own = |row: usize| Some(batch.partitions[row]).filter(|own| *own != 0 && takes(*own));
        let rows = (0..batch.rows).filter(|row| visits_common || own(*row).is_some());
        let rows: Vec<u32> = rows.map(|row| row as u32).collect();
        let codes = rows.iter().flat_map(|row| batch.row(*row as usize)).copied().collect();
        let partitions = rows.iter().map(|row| own(*row as usize).unwrap_or(0)).collect();
        let which = if visits_common { Visit::Both } else { Visit::Tenants };
        Part { batch: EncodedBatch { rows: rows.len(), columns: batch.columns, codes, partitions }, rows, which }
    }

    /// Measures the costs on a batch.
    fn measure<W: Wanted>(&self, rules: &Rules, wanted: W, batch: &EncodedBatch) {
        let visits = self.visits(batch);
        let fastest = |work: &dyn Fn() -> Option<W::Answer>| {
            let timed = |_| {
                let start = Instant::now();
                work().map(|_| start.elapsed().as_secs_f64())
            };
            (0..RUNS).filter_map(timed).min_by(f64::total_cmp)
        };
        let on_gpu = |batch: &EncodedBatch| {
            self.on_gpu(rules, wanted, batch)?;
            fastest(&|| self.on_gpu(rules, wanted, batch))
        };
        let trial = |trial| match trial {
            Trial::Class(class) => {
                let part = self.part(batch, |other| other == class);
                fastest(&|| Some(wanted.on_cpu(rules, &part.batch, part.which)))
            }
            Trial::Dispatch => on_gpu(&first_row(batch)),
            Trial::Gpu => on_gpu(batch),
        };
        let costs = Costs::measure(batch.rows, &visits, trial);
        tracing::info!(adapter = self.adapter, output = ?wanted.output(), %costs, "calibrated");
        if let Some((_, measured)) = locked(&self.costs).iter_mut().find(|(of, _)| *of == wanted.output()) {
            *measured = Some(costs);
        }
    }

    /// Matches a batch, these classes on the GPU: the answer, how it was found, and seconds on the CPU and on the GPU.
    fn run<W: Wanted>(
        &self,
        rules: &Rules,
        wanted: W,
        batch: &EncodedBatch,
        visits: &Visits,
        on_gpu: Classes,
    ) -> (W::Answer, usize, [Option<f64>; 2]) {
        let mut lap = Instant::now();
        let mut time = || {
            let now = Instant::now();
            Some((now - std::mem::replace(&mut lap, now)).as_secs_f64())
        };
        if on_gpu == Classes::NONE {
            let answer = wanted.on_cpu(rules, batch, Visit::Both);
            return (answer, CPU, [time(), None]);
        }
        if on_gpu == Classes::visited(visits) {
            if let Some(answer) = self.on_gpu(rules, wanted, batch) {
                return (answer, GPU, [None, time()]);
            }
        } else {
            let part = self.part(batch, |class| on_gpu.hold(class));
            if let Some(theirs) = self.on_gpu_visiting(rules, wanted, &part.batch, part.which) {
                let gpu = time();
                let mut answer = wanted.nothing(batch.rows);
                wanted.join(&mut answer, theirs, &part.rows);
                let part = self.part(batch, |class| !on_gpu.hold(class));
                wanted.join(&mut answer, wanted.on_cpu(rules, &part.batch, part.which), &part.rows);
                return (answer, SPLIT, [time(), gpu]);
            }
        }
        // As if it had taken for ever.
        (wanted.on_cpu(rules, batch, Visit::Both), FALLBACK, [None, Some(f64::INFINITY)])
    }

    fn on_gpu<W: Wanted>(&self, rules: &Rules, wanted: W, batch: &EncodedBatch) -> Option<W::Answer> {
        self.on_gpu_visiting(rules, wanted, batch, Visit::Both)
    }

    /// Asks the GPU; where it cannot answer, says so once.
    fn on_gpu_visiting<W: Wanted>(&self, rules: &Rules, wanted: W, batch: &EncodedBatch, which: Visit) -> Option<W::Answer> {
        match self.ask(rules, wanted, batch, which) {
            Ok(answer) => Some(answer),
            Err(error) => {
                let mut device = locked(&self.device);
                if !device.warned {
                    device.warned = true;
                    tracing::warn!(%error, "the GPU could not match a batch; such batches are matched on the CPU, and counted");
                }
                None
            }
        }
    }

    /// Asks the GPU; after a lost device, a new one once.
    fn ask<W: Wanted>(&self, rules: &Rules, wanted: W, batch: &EncodedBatch, which: Visit) -> Result<W::Answer, GpuError> {
        let mut device = locked(&self.device);
        let reduces = device.reduces || wanted.output().is_some();
        if device.matcher.is_none() || reduces != device.reduces {
            let gpu = match &device.matcher {
                Some(matcher) => Arc::clone(matcher.gpu()),
                None => Arc::new(Gpu::request()?),
            };
            let tables = rules.artifact.tables();
            let matcher = if reduces {
                GpuMatcher::for_outputs(gpu, &tables, rules.artifact.rules(), GpuOptions::default())
            } else {
                GpuMatcher::new(gpu, &tables)
            };
            device.matcher = Some(matcher?);
            device.reduces = reduces;
        }
        let Some(matcher) = &mut device.matcher else { return Err(GpuError::Lost("it was lost before".to_owned())) };
        let gpu = Arc::clone(matcher.gpu());
        let submitted = matcher.send(batch, which, wanted.output());
        // While the device works, other threads submit their batches.
        drop(device);
        let waited = submitted.and_then(|ticket| ticket.wait(&gpu).map(|()| ticket));
        let mut device = locked(&self.device);
        let matcher = device.matcher.as_mut().filter(|matcher| Arc::ptr_eq(matcher.gpu(), &gpu));
        let (answer, is_current) = match matcher {
            Some(matcher) => (waited.and_then(|ticket| wanted.collect(rules, matcher, ticket)), true),
            None => (Err(GpuError::Lost("another batch found it lost".to_owned())), false),
        };
        if is_current && matches!(answer, Err(GpuError::Lost(_))) {
            device.matcher = None;
        }
        answer
    }
}

fn first_row(batch: &EncodedBatch) -> EncodedBatch {
    let rows = batch.rows.min(1);
    EncodedBatch {
        rows,
        columns: batch.columns,
        codes: batch.codes[..rows * batch.columns].to_vec(),
        partitions: batch.partitions[..rows].to_vec(),
    }
}

#[cfg(test)]
mod tests;
