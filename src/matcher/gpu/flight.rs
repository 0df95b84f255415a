//! The working buffers of one batch in flight: what goes in, what passes between the kernels, what comes back.

use super::device::Gpu;
use super::error::GpuError;
use super::launch::{COUNTER_CANDIDATES, COUNTER_OPEN, COUNTERS, HEIGHT_MAX, LAUNCH_STRIDE, Launch, WORKGROUP, WORKGROUP_PAIRS};
use super::pages::{Page, Resident};
use super::stages::{Resource, Stage};
use super::timings::Timings;
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

/// Compute passes of one run: three a level, five for the groups.
const PASSES_MAX: u32 = 3 * HEIGHT_MAX + 5;

/// Layout of what comes back: counters, timestamps, candidates.
const TIMESTAMPS_AT: u64 = 256;
const CANDIDATES_AT: u64 = 1024;

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
    Done(Vec<Candidate>),
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

/// Buffers, and the run that is under way in them.
pub struct Flight {
    pub capacity: Capacity,
    /// What the loaded rows' numbers in the batch start from.
    pub first_row: u32,
    pub rows: u32,
    codes: Buffer,
    row_partitions: Buffer,
    frontiers: [Buffer; 2],
    open: Buffer,
    candidates: Buffer,
    counters: Buffer,
    workgroups: Buffer,
    launches: Buffer,
    readback: Buffer,
    clock: Option<Clock>,
    under_way: Option<UnderWay>,
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
    /// Candidates that come back with the counters.
    prefix: u32,
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
                codes: storage(gpu, "codes", 0, BufferUsages::COPY_DST),
                row_partitions: storage(gpu, "row_partitions", 0, BufferUsages::COPY_DST),
                frontiers: [entries(gpu, "frontier 0", capacity.pairs), entries(gpu, "frontier 1", capacity.pairs)],
                open: entries(gpu, "open", capacity.open),
                candidates: entries(gpu, "candidates", capacity.candidates),
                counters: storage(gpu, "counters", COUNTERS as u64 * 4, BufferUsages::COPY_SRC | BufferUsages::COPY_DST),
                workgroups: storage(gpu, "workgroups", 16, BufferUsages::INDIRECT),
                launches: gpu.device.create_buffer(&BufferDescriptor {
                    label: Some("launches"),
                    size: u64::from(PASSES_MAX) * LAUNCH_STRIDE,
                    usage: BufferUsages::UNIFORM | BufferUsages::COPY_DST,
                    mapped_at_creation: false,
                }),
                readback: readback(gpu, CANDIDATES_AT + ENTRY_BYTES),
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

    /// Copies rows of a batch to the device.
    pub fn load(&mut self, gpu: &Gpu, first_row: u32, codes: &[u32], partitions: &[u32]) -> Result<(), GpuError> {
        gpu.guard(|| {
            for (buffer, label, words) in [(&mut self.codes, "codes", codes), (&mut self.row_partitions, "row_partitions", partitions)] {
                let bytes: &[u8] = bytemuck::cast_slice(words);
                if bytes.len() as u64 > buffer.size() {
                    *buffer = storage(gpu, label, bytes.len() as u64, BufferUsages::COPY_DST);
                }
                if !bytes.is_empty() {
                    gpu.queue.write_buffer(buffer, 0, bytes);
                }
            }
            Ok(())
        })?;
        self.first_row = first_row;
        self.rows = partitions.len() as u32;
        Ok(())
    }

    /// Sends a run to the device. `prefix`: candidates that come back at once; further ones cost another round trip. `line`: workgroups
    /// in a line of a dispatch.
    pub fn start(&mut self, gpu: &Gpu, resident: &Resident, run: Run, prefix: u32, line: u32) -> Result<(), GpuError> {
        let Some(page) = resident.pages.get(run.page) else {
            return Err(GpuError::Tables("a page is missing"));
        };
        let prefix = prefix.min(self.capacity.candidates);
        let readback_bytes = CANDIDATES_AT + u64::from(prefix).max(1) * ENTRY_BYTES;
        self.under_way = Some(gpu.guard(|| {
            if self.readback.size() < readback_bytes {
                self.readback = readback(gpu, readback_bytes);
            }
            let mut encoder = gpu.device.create_command_encoder(&CommandEncoderDescriptor { label: Some("match") });
            encoder.clear_buffer(&self.counters, 0, None);
            let passes = self.record(gpu, resident, page, &run, line, &mut encoder);
            encoder.copy_buffer_to_buffer(&self.counters, 0, &self.readback, 0, COUNTERS as u64 * 4);
            if let Some(clock) = &self.clock {
                let queries = 2 * passes.len() as u32;
                encoder.resolve_query_set(&clock.queries, 0..queries, &clock.resolved, 0);
                encoder.copy_buffer_to_buffer(&clock.resolved, 0, &self.readback, TIMESTAMPS_AT, u64::from(queries) * 8);
            }
            if prefix > 0 {
                encoder.copy_buffer_to_buffer(&self.candidates, 0, &self.readback, CANDIDATES_AT, u64::from(prefix) * ENTRY_BYTES);
            }
            let submission = gpu.queue.submit([encoder.finish()]);
            let mapped = map(&self.readback);
            Ok(UnderWay { run, height: page.extent.height, submission, mapped, prefix, passes })
        })?);
        Ok(())
    }

    /// Records all passes of a run; returns their stages' names.
    fn record(&self, gpu: &Gpu, resident: &Resident, page: &Page, run: &Run, line: u32, encoder: &mut CommandEncoder) -> Vec<&'static str> {
        let stages = &gpu.stages;
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
            ..Launch::default()
        };
        // The frontier of a height lies in the buffer of the height's parity: a level reads one and writes the other.
        let bind = |stage: &Stage, height: u32| self.bind(gpu, resident, page, stage, height);
        let plan = bind(&stages.plan, 0);
        let seeds = [0, 1].map(|height| bind(&stages.seed, height));
        let descents = [0, 1].map(|height| bind(&stages.descend, height));
        let row_workgroups = base.rows.div_ceil(WORKGROUP);
        let by_row = Some((row_workgroups.min(line), row_workgroups.div_ceil(line)));

        let mut recorder = Recorder { flight: self, encoder, launches: Vec::new(), passes: Vec::new() };
        for height in (0..=page.extent.height).rev() {
            let parity = height as usize % 2;
            recorder.pass(&stages.seed, &seeds[parity], Launch { height, sink: height, ..base }, by_row);
            if height > 0 {
                let launch = Launch { source: height, sink: height - 1, ..base };
                recorder.pass(&stages.plan, &plan, launch, Some((1, 1)));
                recorder.pass(&stages.descend, &descents[parity], launch, None);
            }
        }
        let launch = Launch { source: 0, ..base };
        recorder.pass(&stages.plan, &plan, launch, Some((1, 1)));
        recorder.pass(&stages.verify, &bind(&stages.verify, 0), launch, None);
        let launch = Launch { source: COUNTER_OPEN, source_max: self.capacity.open, workgroup_entries: WORKGROUP, ..base };
        recorder.pass(&stages.plan, &plan, launch, Some((1, 1)));
        recorder.pass(&stages.settle, &bind(&stages.settle, 0), launch, None);

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
        let UnderWay { run, height, submission, mapped, prefix, passes } = under_way;
        timings.submissions += 1;
        let waiting = Instant::now();
        let header = self.read(gpu, submission, &mapped, 0..CANDIDATES_AT + u64::from(prefix) * ENTRY_BYTES)?;
        timings.waited += waiting.elapsed();
        let (header, first) = header.split_at(CANDIDATES_AT as usize);
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
        timings.group_pairs += u64::from(pairs[0]);
        timings.node_pairs += pairs[1..].iter().map(|pairs| u64::from(*pairs)).sum::<u64>();
        timings.open += u64::from(counted.open);
        timings.candidates += u64::from(counted.candidates);

        let mut candidates: Vec<Candidate> = bytemuck::pod_collect_to_vec(first);
        candidates.truncate(counted.candidates as usize);
        if counted.candidates > prefix {
            let waiting = Instant::now();
            let rest = u64::from(counted.candidates - prefix) * ENTRY_BYTES;
            let (submission, mapped) = gpu.guard(|| {
                if self.readback.size() < rest {
                    self.readback = readback(gpu, rest);
                }
                let mut encoder = gpu.device.create_command_encoder(&CommandEncoderDescriptor { label: Some("rest") });
                encoder.copy_buffer_to_buffer(&self.candidates, u64::from(prefix) * ENTRY_BYTES, &self.readback, 0, rest);
                let submission = gpu.queue.submit([encoder.finish()]);
                Ok((submission, map(&self.readback)))
            })?;
            timings.submissions += 1;
            candidates.extend(bytemuck::pod_collect_to_vec::<u8, Candidate>(&self.read(gpu, submission, &mapped, 0..rest)?));
            timings.waited += waiting.elapsed();
        }
        for candidate in &mut candidates {
            candidate.row += self.first_row;
        }
        Ok((run, Outcome::Done(candidates)))
    }

    /// Waits until the readback buffer is mapped, and copies a part of it.
    fn read(&self, gpu: &Gpu, submission: SubmissionIndex, mapped: &Receiver<bool>, range: Range<u64>) -> Result<Vec<u8>, GpuError> {
        gpu.wait(submission, TIMEOUT)?;
        // Whichever thread polls the device first also runs the others' callbacks, so ours may still be on its way.
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match mapped.recv_timeout(Duration::from_millis(1)) {
                Ok(true) => break,
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {
                    let polled = gpu.poll(PollType::Poll);
                    if let Some(error) = gpu.broken() {
                        return Err(error);
                    }
                    polled.map_err(|_| GpuError::Refused("the device could not be polled".to_owned()))?;
                }
                Ok(false) | Err(_) => {
                    return Err(gpu.broken().unwrap_or_else(|| GpuError::Refused("the results could not be mapped".to_owned())));
                }
            }
        }
        let bytes = match self.readback.get_mapped_range(range) {
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
            *match *stage {
                "seed" => &mut timings.seed,
                "descend" => &mut timings.descend,
                "verify" => &mut timings.verify,
                "settle" => &mut timings.settle,
                _ => &mut timings.plan,
            } += Duration::from_nanos(nanoseconds as u64);
        }
    }
}

fn map(readback: &Buffer) -> Receiver<bool> {
    let (done, mapped) = channel();
    readback.map_async(MapMode::Read, .., move |result| {
        // The receiver is gone where the batch has been given up.
        let _ = done.send(result.is_ok());
    });
    mapped
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
    /// `workgroups`: how many, in two dimensions; or as many as the last `plan` said.
    fn pass(&mut self, stage: &Stage, group: &BindGroup, launch: Launch, workgroups: Option<(u32, u32)>) {
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
            Some((x, y)) => pass.dispatch_workgroups(x, y, 1),
            None => pass.dispatch_workgroups_indirect(&self.flight.workgroups, 0),
        }
        self.launches.extend_from_slice(bytemuck::bytes_of(&launch));
        self.launches.resize((nth as usize + 1) * LAUNCH_STRIDE as usize, 0);
        self.passes.push(stage.name);
    }
}
