//! The working buffers of one batch in flight: what goes in, what passes between the kernels, what comes back.

use super::device::Gpu;
use super::error::GpuError;
use super::launch::{
    BRUTE_GROUPS, BRUTE_ROWS, COUNTER_CANDIDATES, COUNTER_LONGEST, COUNTER_OPEN, COUNTER_RETURNED, COUNTERS, HEIGHT_MAX, LAUNCH_STRIDE,
    Launch, ROUNDS_MAX, WORKGROUP, WORKGROUP_PAIRS,
};
use super::output::Partial;
use super::pages::{Page, Resident};
use super::stages::{Resource, Stage};
use super::timings::Timings;
use crate::matcher::cpu::Visit;
use crate::matcher::output::Output;
use crate::tables::Candidate;
use std::ops::Range;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use wgpu::{
    BindGroup, BindGroupDescriptor, BindGroupEntry, BindingResource, Buffer, BufferBinding, BufferDescriptor, BufferSize, BufferUsages,
    CommandEncoder, CommandEncoderDescriptor, ComputePassDescriptor, ComputePassTimestampWrites, MapMode, PollType, QuerySet,
    QuerySetDescriptor, QueryType, SubmissionIndex,
};

/// How long a submission may take. Software adapters on busy machines need seconds.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes of a frontier pair, an open term and a candidate alike.
pub const ENTRY_BYTES: u64 = 8;

/// Compute passes of one run: three a level, five for the groups, five for what becomes of the candidates.
const PASSES_MAX: u32 = 3 * HEIGHT_MAX + 10;

/// Layout of what comes back: counters, timestamps; then the rows' results, the first candidates, and the first rules of lists.
const TIMESTAMPS_AT: u64 = 256;
const RESULTS_AT: u64 = 1024;

/// Entries that the growing buffers hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    pub pairs: u32,
    pub open: u32,
    pub candidates: u32,
}

impl Capacity {
    pub fn all(entries: u32) -> Self {
        Self { pairs: entries, open: entries, candidates: entries }
    }

    pub fn map2(self, other: Self, f: impl Fn(u32, u32) -> u32) -> Self {
        Self { pairs: f(self.pairs, other.pairs), open: f(self.open, other.open), candidates: f(self.candidates, other.candidates) }
    }

    /// Whether everything that `other` counts has room.
    pub fn holds(self, other: Self) -> bool {
        self.map2(other, u32::min) == other
    }
}

/// What a run over some rows of a batch came to.
pub enum Outcome {
    /// What the rows were reduced to, if they were, and the candidates that are left.
    Done(Option<Partial>, Vec<Candidate>),
    /// Something had no room; this much was counted, and more may show once there is room for it.
    Overflow(Capacity),
}

/// One page matched against some rows of the loaded batch.
#[derive(Clone, Debug)]
pub struct Run {
    pub page: usize,
    /// Within the loaded rows.
    pub rows: Range<u32>,
}

/// How many entries come back at once; further ones cost another round trip.
#[derive(Clone, Copy, Debug)]
pub struct Prefix {
    pub candidates: u32,
    pub listed: u32,
}

/// Buffers, and the run that is under way in them.
pub struct Flight {
    pub capacity: Capacity,
    /// What the loaded rows' numbers in the batch start from.
    pub first_row: u32,
    pub rows: u32,
    /// Whether every group is tested, without summaries.
    pub brute: bool,
    /// The partitions that rows visit.
    pub which: Visit,
    /// What to make of the candidates, where they are not themselves asked for.
    output: Option<Output>,
    staging: Staging,
    codes: Buffer,
    row_partitions: Buffer,
    frontiers: [Buffer; 2],
    open: Buffer,
    candidates: Buffer,
    counters: Buffer,
    workgroups: Buffer,
    results: Buffer,
    returned: Buffer,
    offsets: Buffer,
    listed: Buffer,
    best: Buffer,
    launches: Buffer,
    readback: Buffer,
    clock: Option<Clock>,
    under_way: Option<UnderWay>,
}

/// Memory that the host writes and the device copies from. It is used again and again: mapped for the host whenever the device is done with it.
struct Staging {
    buffer: Option<Buffer>,
    /// Whether the host may write to it; to be waited for.
    mapped: Option<Receiver<bool>>,
    /// Bytes of codes and, behind them, of partitions that are to be copied before the next run.
    loaded: Option<[u64; 2]>,
}

/// Timestamps around each pass.
struct Clock {
    queries: QuerySet,
    resolved: Buffer,
    /// Nanoseconds a tick.
    period: f32,
}

struct UnderWay {
    run: Run,
    height: u32,
    submission: SubmissionIndex,
    mapped: Receiver<bool>,
    /// Bytes of the rows' results.
    results: u64,
    /// What comes back with the counters.
    prefix: Prefix,
    /// The stage of each pass.
    passes: Vec<&'static str>,
}

fn storage(gpu: &Gpu, label: &str, bytes: u64, more: BufferUsages) -> Buffer {
    gpu.device.create_buffer(&BufferDescriptor {
        label: Some(label),
        size: bytes.max(16),
        usage: BufferUsages::STORAGE | more,
        mapped_at_creation: false,
    })
}

fn entries(gpu: &Gpu, label: &str, entries: u32) -> Buffer {
    storage(gpu, label, u64::from(entries) * ENTRY_BYTES, BufferUsages::COPY_SRC)
}

fn readback(gpu: &Gpu, bytes: u64) -> Buffer {
    gpu.device.create_buffer(&BufferDescriptor {
        label: Some("readback"),
        size: bytes,
        usage: BufferUsages::COPY_DST | BufferUsages::MAP_READ,
        mapped_at_creation: false,
    })
}

impl Flight {
    pub fn new(gpu: &Gpu, capacity: Capacity, timings: bool) -> Result<Self, GpuError> {
        gpu.guard(|| {
            let clock = (timings && gpu.info().timestamps).then(|| Clock {
                queries: gpu.device.create_query_set(&QuerySetDescriptor {
                    label: Some("passes"),
                    ty: QueryType::Timestamp,
                    count: 2 * PASSES_MAX,
                }),
                resolved: gpu.device.create_buffer(&BufferDescriptor {
                    label: Some("timestamps"),
                    size: u64::from(2 * PASSES_MAX) * 8,
                    usage: BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC,
                    mapped_at_creation: false,
                }),
                period: gpu.queue.get_timestamp_period(),
            });
            Ok(Self {
                capacity,
                first_row: 0,
                rows: 0,
                brute: false,
                which: Visit::Both,
                output: None,
                staging: Staging { buffer: None, mapped: None, loaded: None },
                codes: storage(gpu, "codes", 0, BufferUsages::COPY_DST),
                row_partitions: storage(gpu, "row_partitions", 0, BufferUsages::COPY_DST),
                frontiers: [entries(gpu, "frontier 0", capacity.pairs), entries(gpu, "frontier 1", capacity.pairs)],
                open: entries(gpu, "open", capacity.open),
                candidates: entries(gpu, "candidates", capacity.candidates),
                counters: storage(gpu, "counters", COUNTERS as u64 * 4, BufferUsages::COPY_SRC | BufferUsages::COPY_DST),
                workgroups: storage(gpu, "workgroups", 16, BufferUsages::INDIRECT),
                results: storage(gpu, "results", 0, BufferUsages::COPY_SRC | BufferUsages::COPY_DST),
                returned: entries(gpu, "returned", 0),
                offsets: storage(gpu, "offsets", 0, BufferUsages::COPY_SRC),
                listed: storage(gpu, "listed", 0, BufferUsages::COPY_SRC),
                best: storage(gpu, "best", 0, BufferUsages::COPY_SRC),
                launches: gpu.device.create_buffer(&BufferDescriptor {
                    label: Some("launches"),
                    size: u64::from(PASSES_MAX) * LAUNCH_STRIDE,
                    usage: BufferUsages::UNIFORM | BufferUsages::COPY_DST,
                    mapped_at_creation: false,
                }),
                readback: readback(gpu, RESULTS_AT + ENTRY_BYTES),
                clock,
                under_way: None,
            })
        })
    }

    /// Makes the buffers as large as `capacity` says, where they are smaller.
    pub fn grow(&mut self, gpu: &Gpu, capacity: Capacity) -> Result<(), GpuError> {
        let capacity = self.capacity.map2(capacity, u32::max);
        gpu.guard(|| {
            if capacity.pairs > self.capacity.pairs {
                self.frontiers = [entries(gpu, "frontier 0", capacity.pairs), entries(gpu, "frontier 1", capacity.pairs)];
            }
            if capacity.open > self.capacity.open {
                self.open = entries(gpu, "open", capacity.open);
            }
            if capacity.candidates > self.capacity.candidates {
                self.candidates = entries(gpu, "candidates", capacity.candidates);
            }
            Ok(())
        })?;
        self.capacity = capacity;
        Ok(())
    }

    /// Takes rows of a batch in; the next run copies them to the device before it starts.
    pub fn load(&mut self, gpu: &Gpu, first_row: u32, codes: &[u32], partitions: &[u32], output: Option<Output>) -> Result<(), GpuError> {
        let bytes = [size_of_val(codes) as u64, size_of_val(partitions) as u64];
        let needed = (bytes[0] + bytes[1]).max(4);
        if let Some(mapped) = self.staging.mapped.take() {
            receive(gpu, &mapped)?;
        }
        gpu.guard(|| {
            for (buffer, label, bytes) in [(&mut self.codes, "codes", bytes[0]), (&mut self.row_partitions, "row_partitions", bytes[1])] {
                if bytes > buffer.size() {
                    *buffer = storage(gpu, label, bytes, BufferUsages::COPY_DST);
                }
            }
            if self.staging.buffer.as_ref().is_none_or(|staging| staging.size() < needed) {
                self.staging.buffer = Some(gpu.device.create_buffer(&BufferDescriptor {
                    label: Some("staging"),
                    size: needed,
                    usage: BufferUsages::MAP_WRITE | BufferUsages::COPY_SRC,
                    mapped_at_creation: true,
                }));
            }
            let Some(staging) = &self.staging.buffer else { return Ok(()) };
            let mut view = staging.get_mapped_range_mut(..needed).map_err(|error| GpuError::Refused(error.to_string()))?;
            let middle = bytes[0] as usize;
            view.slice(..middle).copy_from_slice(bytemuck::cast_slice(codes));
            view.slice(middle..middle + bytes[1] as usize).copy_from_slice(bytemuck::cast_slice(partitions));
            drop(view);
            staging.unmap();
            Ok(())
        })?;
        self.staging.loaded = Some(bytes);
        self.first_row = first_row;
        self.rows = partitions.len() as u32;
        self.output = output;
        Ok(())
    }

    /// Gives the buffers of the output enough room.
    fn prepare(&mut self, gpu: &Gpu, output: Output, rows: u64) {
        let candidates = u64::from(self.capacity.candidates);
        let lists = if output.has_lists() { candidates } else { 0 };
        let best = if let Output::Top(best) = output { rows * u64::from(best) } else { 0 };
        let words = rows * u64::from(output.result_words());
        for (buffer, label, bytes) in [
            (&mut self.results, "results", words * 4),
            (&mut self.returned, "returned", candidates * ENTRY_BYTES),
            (&mut self.offsets, "offsets", if output.has_lists() { (rows + 1) * 4 } else { 0 }),
            (&mut self.listed, "listed", lists * 4),
            (&mut self.best, "best", best * 4),
        ] {
            if bytes > buffer.size() {
                *buffer = storage(gpu, label, bytes, BufferUsages::COPY_SRC | BufferUsages::COPY_DST);
            }
        }
    }

    /// Where the rows' results are, and the candidates that come back.
    fn returns(&self) -> (Option<&Buffer>, &Buffer) {
        match self.output {
            None => (None, &self.candidates),
            Some(Output::Top(_)) => (Some(&self.best), &self.returned),
            Some(Output::Lists) => (Some(&self.offsets), &self.returned),
            Some(_) => (Some(&self.results), &self.returned),
        }
    }

    /// Sends a run to the device. `line`: workgroups in a line of a dispatch.
    pub fn start(&mut self, gpu: &Gpu, resident: &Resident, run: Run, prefix: Prefix, line: u32) -> Result<(), GpuError> {
        let Some(page) = resident.pages.get(run.page) else {
            return Err(GpuError::Tables("a page is missing"));
        };
        let listed = if self.output == Some(Output::Lists) { prefix.listed } else { 0 };
        let most = self.capacity.candidates;
        let prefix = Prefix { candidates: prefix.candidates.min(most), listed: listed.min(most) };
        let rows = run.rows.len() as u64;
        let results = self.output.map_or(0, |output| output.returned_words(rows) * 4);
        let candidates_at = RESULTS_AT + results;
        let listed_at = candidates_at + u64::from(prefix.candidates) * ENTRY_BYTES;
        let readback_bytes = listed_at + u64::from(prefix.listed) * 4;
        self.under_way = Some(gpu.guard(|| {
            if self.readback.size() < readback_bytes {
                self.readback = readback(gpu, readback_bytes);
            }
            if let Some(output) = self.output {
                self.prepare(gpu, output, rows);
            }
            let mut encoder = gpu.device.create_command_encoder(&CommandEncoderDescriptor { label: Some("match") });
            let loaded = self.staging.loaded.take();
            if let (Some([codes, partitions]), Some(staging)) = (loaded, &self.staging.buffer) {
                for (at, buffer, bytes) in [(0, &self.codes, codes), (codes, &self.row_partitions, partitions)] {
                    if bytes > 0 {
                        encoder.copy_buffer_to_buffer(staging, at, buffer, 0, bytes);
                    }
                }
            }
            encoder.clear_buffer(&self.counters, 0, None);
            if self.output.is_some() {
                encoder.clear_buffer(&self.results, 0, None);
            }
            let passes = self.record(gpu, resident, page, &run, line, &mut encoder);
            encoder.copy_buffer_to_buffer(&self.counters, 0, &self.readback, 0, COUNTERS as u64 * 4);
            if let Some(clock) = &self.clock {
                let queries = 2 * passes.len() as u32;
                encoder.resolve_query_set(&clock.queries, 0..queries, &clock.resolved, 0);
                encoder.copy_buffer_to_buffer(&clock.resolved, 0, &self.readback, TIMESTAMPS_AT, u64::from(queries) * 8);
            }
            let (of_rows, candidates) = self.returns();
            for (buffer, at, bytes) in [
                (of_rows, RESULTS_AT, results),
                (Some(candidates), candidates_at, u64::from(prefix.candidates) * ENTRY_BYTES),
                (Some(&self.listed), listed_at, u64::from(prefix.listed) * 4),
            ] {
                if let Some(buffer) = buffer.filter(|_| bytes > 0) {
                    encoder.copy_buffer_to_buffer(buffer, 0, &self.readback, at, bytes);
                }
            }
            let submission = gpu.queue.submit([encoder.finish()]);
            let mapped = map(&self.readback, MapMode::Read);
            if let (Some(_), Some(staging)) = (loaded, &self.staging.buffer) {
                self.staging.mapped = Some(map(staging, MapMode::Write));
            }
            Ok(UnderWay { run, height: page.extent.height, submission, mapped, results, prefix, passes })
        })?);
        Ok(())
    }

    /// The submission that is under way.
    pub fn submission(&self) -> Option<SubmissionIndex> {
        self.under_way.as_ref().map(|under_way| under_way.submission.clone())
    }

    /// Records all passes of a run; returns their stages' names.
    fn record(&self, gpu: &Gpu, resident: &Resident, page: &Page, run: &Run, line: u32, encoder: &mut CommandEncoder) -> Vec<&'static str> {
        let stages = &gpu.stages;
        let launched = self.output.map_or([0; 2], Output::launched);
        let base = Launch {
            rows: run.rows.len() as u32,
            first_row: run.rows.start,
            columns: resident.columns as u32,
            partitions: resident.partition_count as u32,
            first_segment: page.extent.segments.start as u32,
            segments: page.extent.segments.len() as u32,
            first_node: page.extent.nodes.start as u32,
            first_group: page.extent.groups.start as u32,
            first_slot: page.extent.slots.start as u32,
            first_tail: page.extent.tails.start as u32,
            source_max: self.capacity.pairs,
            workgroup_entries: WORKGROUP_PAIRS,
            sink_max: self.capacity.pairs,
            open_max: self.capacity.open,
            candidates_max: self.capacity.candidates,
            line,
            output: launched[0],
            best: launched[1],
            ..Launch::default()
        };
        // The frontier of a height lies in the buffer of the height's parity: a level reads one and writes the other.
        let bind = |stage: &Stage, height: u32| self.bind(gpu, resident, page, stage, height);
        let plan = bind(&stages.plan, 0);
        let seeds = [0, 1].map(|height| bind(&stages.seed, height));
        let descents = [0, 1].map(|height| bind(&stages.descend, height));
        let lines = |workgroups: u32, depth| Some([workgroups.min(line), workgroups.div_ceil(line), depth]);
        let one = Some([1; 3]);
        let by_row = lines(base.rows.div_ceil(WORKGROUP), 1);

        let mut recorder = Recorder { flight: self, encoder, launches: Vec::new(), passes: Vec::new() };
        let heights = if self.brute { 0..0 } else { 0..page.extent.height + 1 };
        for height in heights.rev() {
            let parity = height as usize % 2;
            recorder.pass(&stages.seed, &seeds[parity], Launch { height, sink: height, ..base }, by_row);
            if height > 0 {
                let launch = Launch { source: height, sink: height - 1, ..base };
                recorder.pass(&stages.plan, &plan, launch, one);
                recorder.pass(&stages.descend, &descents[parity], launch, None);
            }
        }
        if self.brute {
            let depth = page.extent.groups_max.div_ceil(BRUTE_GROUPS);
            recorder.pass(&stages.brute, &bind(&stages.brute, 0), base, lines(base.rows.div_ceil(BRUTE_ROWS), depth));
        } else {
            let launch = Launch { source: 0, ..base };
            recorder.pass(&stages.plan, &plan, launch, one);
            recorder.pass(&stages.verify, &bind(&stages.verify, 0), launch, None);
        }
        let launch = Launch { source: COUNTER_OPEN, source_max: self.capacity.open, workgroup_entries: WORKGROUP, ..base };
        recorder.pass(&stages.plan, &plan, launch, one);
        recorder.pass(&stages.settle, &bind(&stages.settle, 0), launch, None);
        if let Some(output) = self.output {
            let launch = Launch { source: COUNTER_CANDIDATES, source_max: self.capacity.candidates, ..launch };
            recorder.pass(&stages.plan, &plan, launch, one);
            recorder.pass(&stages.reduce, &bind(&stages.reduce, 0), launch, None);
            if output.has_lists() {
                recorder.pass(&stages.scan, &bind(&stages.scan, 0), launch, one);
                recorder.pass(&stages.scatter, &bind(&stages.scatter, 0), launch, None);
                let (last, workgroups) = match output {
                    Output::Lists => (&stages.order, by_row),
                    _ => (&stages.top, lines(base.rows, 1)),
                };
                recorder.pass(last, &bind(last, 0), launch, workgroups);
            }
        }

        let Recorder { launches, passes, .. } = recorder;
        gpu.queue.write_buffer(&self.launches, 0, &launches);
        passes
    }

    /// Binds a stage to the buffers that serve it at a height.
    fn bind(&self, gpu: &Gpu, resident: &Resident, page: &Page, stage: &Stage, height: u32) -> BindGroup {
        let [even, odd] = &self.frontiers;
        let (here, below) = if height.is_multiple_of(2) { (even, odd) } else { (odd, even) };
        let buffer = |resource| match resource {
            Resource::Launch => &self.launches,
            Resource::Partitions if self.which == Visit::Tenants => &resident.tenants,
            Resource::Partitions => &resident.partitions,
            Resource::Segments => &page.segments,
            Resource::RowPartitions => &self.row_partitions,
            Resource::Nodes => &page.nodes,
            Resource::NodeChildren => &page.node_children,
            Resource::Groups => &page.groups,
            Resource::LeafSlots => &page.leaf_slots,
            Resource::Steps => &resident.steps,
            Resource::Tails => &page.tails,
            Resource::SetTests => &resident.set_tests,
            Resource::Intervals => &resident.intervals,
            Resource::Codes => &self.codes,
            Resource::Frontier => here,
            Resource::Next => below,
            Resource::Open => &self.open,
            Resource::Candidates => &self.candidates,
            Resource::Counters => &self.counters,
            Resource::Workgroups => &self.workgroups,
            Resource::TermRules => &page.term_rules,
            Resource::Verdicts => &resident.verdicts,
            Resource::Results => &self.results,
            Resource::Returned => &self.returned,
            Resource::Offsets => &self.offsets,
            Resource::Listed => &self.listed,
            Resource::Best => &self.best,
        };
        let bound: Vec<BindGroupEntry> = stage
            .bindings
            .iter()
            .zip(0..)
            .map(|(&(resource, _), binding)| {
                let size = if resource == Resource::Launch { BufferSize::new(size_of::<Launch>() as u64) } else { None };
                BindGroupEntry { binding, resource: BindingResource::Buffer(BufferBinding { buffer: buffer(resource), offset: 0, size }) }
            })
            .collect();
        gpu.device.create_bind_group(&BindGroupDescriptor { label: Some(stage.name), layout: &stage.layout, entries: &bound })
    }

    /// Waits for the run under way and reads its results.
    pub fn finish(&mut self, gpu: &Gpu, timings: &mut Timings) -> Result<(Run, Outcome), GpuError> {
        let Some(under_way) = self.under_way.take() else {
            return Err(GpuError::Batch("nothing is under way"));
        };
        let UnderWay { run, height, submission, mapped, results, prefix, passes } = under_way;
        timings.submissions += 1;
        let waiting = Instant::now();
        let candidates_at = RESULTS_AT + results;
        let listed_at = candidates_at + u64::from(prefix.candidates) * ENTRY_BYTES;
        let bytes = self.read(gpu, submission, &mapped, listed_at + u64::from(prefix.listed) * 4)?;
        timings.waited += waiting.elapsed();
        let (bytes, listed) = bytes.split_at(listed_at as usize);
        let (bytes, candidates) = bytes.split_at(candidates_at as usize);
        let (header, words) = bytes.split_at(RESULTS_AT as usize);
        let counters: Vec<u32> = bytemuck::pod_collect_to_vec(&header[..COUNTERS * 4]);
        self.clock(&passes, &header[TIMESTAMPS_AT as usize..], timings);

        let pairs = &counters[..=height as usize];
        let counted = Capacity {
            pairs: pairs.iter().copied().max().unwrap_or(0),
            open: counters[COUNTER_OPEN as usize],
            candidates: counters[COUNTER_CANDIDATES as usize],
        };
        if !self.capacity.holds(counted) {
            timings.reruns += 1;
            return Ok((run, Outcome::Overflow(counted)));
        }
        if let Some(Output::Top(best)) = self.output {
            let rounds = u64::from(best) * u64::from(counters[COUNTER_LONGEST as usize].div_ceil(WORKGROUP) + WORKGROUP.ilog2() + 1);
            if rounds > u64::from(ROUNDS_MAX) {
                return Err(GpuError::Batch("an event matches too many rules to choose so many of them on the device"));
            }
        }
        timings.group_pairs += u64::from(pairs[0]);
        timings.node_pairs += pairs[1..].iter().map(|pairs| u64::from(*pairs)).sum::<u64>();
        timings.open += u64::from(counted.open);
        timings.candidates += u64::from(counted.candidates);

        let words: Vec<u32> = bytemuck::pod_collect_to_vec(words);
        let mut candidates: Vec<Candidate> = bytemuck::pod_collect_to_vec(candidates);
        let mut listed: Vec<u32> = bytemuck::pod_collect_to_vec(listed);
        let left = if self.output.is_some() { counters[COUNTER_RETURNED as usize] } else { counted.candidates };
        let listed_left = if self.output == Some(Output::Lists) { words.last().copied().unwrap_or(0) } else { 0 };
        candidates.truncate(left as usize);
        listed.truncate(listed_left as usize);
        let missing = (left - candidates.len() as u32, listed_left - listed.len() as u32);
        if missing != (0, 0) {
            let waiting = Instant::now();
            let rest = self.rest(gpu, (candidates.len() as u64, listed.len() as u64), missing)?;
            let (more, more_listed) = rest.split_at(missing.0 as usize * ENTRY_BYTES as usize);
            candidates.extend(bytemuck::pod_collect_to_vec::<u8, Candidate>(more));
            listed.extend(bytemuck::pod_collect_to_vec::<u8, u32>(more_listed));
            timings.submissions += 1;
            timings.waited += waiting.elapsed();
        }
        for candidate in &mut candidates {
            candidate.row += self.first_row;
        }
        Ok((run, Outcome::Done(self.output.map(|_| Partial { words, listed }), candidates)))
    }

    /// Reads the candidates and the lists' rules that did not come back at once: from which ones on, and how many.
    fn rest(&mut self, gpu: &Gpu, from: (u64, u64), count: (u32, u32)) -> Result<Vec<u8>, GpuError> {
        let bytes = (u64::from(count.0) * ENTRY_BYTES, u64::from(count.1) * 4);
        let (submission, mapped) = gpu.guard(|| {
            if self.readback.size() < bytes.0 + bytes.1 {
                self.readback = readback(gpu, bytes.0 + bytes.1);
            }
            let mut encoder = gpu.device.create_command_encoder(&CommandEncoderDescriptor { label: Some("rest") });
            if bytes.0 > 0 {
                encoder.copy_buffer_to_buffer(self.returns().1, from.0 * ENTRY_BYTES, &self.readback, 0, bytes.0);
            }
            if bytes.1 > 0 {
                encoder.copy_buffer_to_buffer(&self.listed, from.1 * 4, &self.readback, bytes.0, bytes.1);
            }
            let submission = gpu.queue.submit([encoder.finish()]);
            Ok((submission, map(&self.readback, MapMode::Read)))
        })?;
        self.read(gpu, submission, &mapped, bytes.0 + bytes.1)
    }

    /// Waits until the readback buffer is mapped, and copies its first bytes.
    fn read(&self, gpu: &Gpu, submission: SubmissionIndex, mapped: &Receiver<bool>, length: u64) -> Result<Vec<u8>, GpuError> {
        gpu.wait(submission, TIMEOUT)?;
        receive(gpu, mapped)?;
        let bytes = match self.readback.get_mapped_range(..length) {
            Ok(view) => view.to_vec(),
            Err(error) => return Err(GpuError::Refused(error.to_string())),
        };
        self.readback.unmap();
        Ok(bytes)
    }

    fn clock(&self, passes: &[&'static str], bytes: &[u8], timings: &mut Timings) {
        let Some(clock) = &self.clock else { return };
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&bytes[..passes.len() * 16]);
        for (stage, pass) in passes.iter().zip(ticks.chunks_exact(2)) {
            let nanoseconds = pass[1].saturating_sub(pass[0]) as f64 * f64::from(clock.period);
            if let Some((_, time)) = timings.kernels_mut().into_iter().find(|(name, _)| name == stage) {
                *time += Duration::from_nanos(nanoseconds as u64);
            }
        }
    }
}

fn map(buffer: &Buffer, mode: MapMode) -> Receiver<bool> {
    let (done, mapped) = channel();
    buffer.map_async(mode, .., move |result| {
        // The receiver is gone where the batch has been given up.
        let _ = done.send(result.is_ok());
    });
    mapped
}

/// Waits for a mapping whose submission is done. Whichever thread polls the device first also runs the others' callbacks, so ours may still be on its way.
fn receive(gpu: &Gpu, mapped: &Receiver<bool>) -> Result<(), GpuError> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match mapped.recv_timeout(Duration::from_millis(1)) {
            Ok(true) => return Ok(()),
            Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {
                let polled = gpu.poll(PollType::Poll);
                if let Some(error) = gpu.broken() {
                    return Err(error);
                }
                polled.map_err(|_| GpuError::Refused("the device could not be polled".to_owned()))?;
            }
            Ok(false) | Err(_) => {
                return Err(gpu.broken().unwrap_or_else(|| GpuError::Refused("a buffer could not be mapped".to_owned())));
            }
        }
    }
}

/// Records passes one after the other; each sees what those before it wrote.
struct Recorder<'a> {
    flight: &'a Flight,
    encoder: &'a mut CommandEncoder,
    /// The launches' bytes, a stride apart.
    launches: Vec<u8>,
    passes: Vec<&'static str>,
}

impl Recorder<'_> {
    /// `workgroups`: how many, in three dimensions; or as many as the last `plan` said.
    fn pass(&mut self, stage: &Stage, group: &BindGroup, launch: Launch, workgroups: Option<[u32; 3]>) {
        let nth = self.passes.len() as u32;
        let timestamp_writes = self.flight.clock.as_ref().map(|clock| ComputePassTimestampWrites {
            query_set: &clock.queries,
            beginning_of_pass_write_index: Some(2 * nth),
            end_of_pass_write_index: Some(2 * nth + 1),
        });
        let mut pass = self.encoder.begin_compute_pass(&ComputePassDescriptor { label: Some(stage.name), timestamp_writes });
        pass.set_pipeline(&stage.pipeline);
        pass.set_bind_group(0, group, &[nth * LAUNCH_STRIDE as u32]);
        match workgroups {
            Some([x, y, z]) => pass.dispatch_workgroups(x, y, z),
            None => pass.dispatch_workgroups_indirect(&self.flight.workgroups, 0),
        }
        self.launches.extend_from_slice(bytemuck::bytes_of(&launch));
        self.launches.resize((nth as usize + 1) * LAUNCH_STRIDE as usize, 0);
        self.passes.push(stage.name);
    }
}
