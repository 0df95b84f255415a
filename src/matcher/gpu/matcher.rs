//! Batches in, candidates out.

use super::device::Gpu;
use super::error::GpuError;
use super::flight::{Capacity, ENTRY_BYTES, Flight, Outcome, Prefix, Run, TIMEOUT};
use super::output::Verdict;
use super::pages::Resident;
use super::timings::Timings;
use crate::flow::EncodedBatch;
use crate::matcher::cpu::Visit;
use crate::matcher::output::{Output, Reduced, Reduction};
use crate::tables::artifact::RuleRecord;
use crate::tables::{Candidate, MatchTables};
use std::borrow::Borrow;
use std::collections::VecDeque;
use std::sync::Arc;

/// How a matcher uses the adapter.
#[derive(Clone, Copy, Debug)]
pub struct GpuOptions {
    /// Bytes of a binding at most; the adapter's own limit applies as well.
    pub binding_max: u64,
    /// Entries (8 bytes each) that a working buffer starts with.
    pub entries: u32,
    /// Entries up to which a working buffer grows before the batch is split by rows instead.
    pub entries_max: u32,
    /// Workgroups in a line of a dispatch; the adapter's own limit applies as well.
    pub line_max: u32,
    /// Whether to time the kernels, where the adapter can.
    pub timings: bool,
    /// Whether to test every group that a row may match, without summaries: to measure what those are good for.
    pub brute: bool,
}

impl Default for GpuOptions {
    fn default() -> Self {
        Self { binding_max: u64::MAX, entries: 1 << 16, entries_max: 1 << 23, line_max: u32::MAX, timings: false, brute: false }
    }
}

/// Batches of [`GpuMatcher::reduce_all`] that are in flight at a time: one on its way in, one on the device, one on its way back.
pub const IN_FLIGHT: usize = 3;

/// A batch on its way through the GPU: what [`GpuMatcher::submit`] gives and [`GpuMatcher::collect`] takes.
#[must_use]
pub struct Ticket {
    /// One for each part of the batch; parts are as large as the adapter's bindings allow.
    flights: Vec<Flight>,
    output: Option<Output>,
    rows: usize,
}

impl Ticket {
    /// Waits until the device is done with what was submitted, so that collecting it takes little time: for those who share a matcher under a lock,
    /// and wait without it. A batch that had too little room, or tables of several pages, are only seen to when they are collected.
    ///
    /// # Errors
    /// A lost device, or one that takes too long.
    pub fn wait(&self, gpu: &Gpu) -> Result<(), GpuError> {
        self.flights.iter().filter_map(Flight::submission).try_for_each(|submission| gpu.wait(submission, TIMEOUT))
    }
}

/// Match tables on a GPU.
pub struct GpuMatcher {
    gpu: Arc<Gpu>,
    resident: Resident,
    binding_max: u64,
    entries_max: u32,
    line: u32,
    timed: bool,
    brute: bool,
    /// What new flights start with: as much as any batch has needed so far.
    capacity: Capacity,
    /// Entries that are expected of a run.
    prefix: Prefix,
    /// What each rule counts for; none where batches cannot be reduced.
    verdicts: Vec<Verdict>,
    idle: Vec<Flight>,
    timings: Timings,
}

impl GpuMatcher {
    /// Copies the tables to the device; they are not needed afterwards.
    ///
    /// # Errors
    /// Tables that do not fit in the adapter's bindings, too little memory, a lost device.
    pub fn new(gpu: Arc<Gpu>, tables: &MatchTables) -> Result<Self, GpuError> {
        Self::with_options(gpu, tables, GpuOptions::default())
    }

    /// As [`GpuMatcher::new`].
    ///
    /// # Errors
    /// As [`GpuMatcher::new`].
    pub fn with_options(gpu: Arc<Gpu>, tables: &MatchTables, options: GpuOptions) -> Result<Self, GpuError> {
        Self::open(gpu, tables, Vec::new(), options)
    }

    /// As [`GpuMatcher::new`], for batches that are [reduced](GpuMatcher::reduce) as well. `rules` are those of the tables.
    ///
    /// # Errors
    /// As [`GpuMatcher::new`].
    pub fn for_outputs(gpu: Arc<Gpu>, tables: &MatchTables, rules: &[RuleRecord], options: GpuOptions) -> Result<Self, GpuError> {
        // Tables without rules are reduced like others.
        let nothing = rules.is_empty().then(Verdict::default);
        Self::open(gpu, tables, rules.iter().map(Verdict::of).chain(nothing).collect(), options)
    }

    fn open(gpu: Arc<Gpu>, tables: &MatchTables, verdicts: Vec<Verdict>, options: GpuOptions) -> Result<Self, GpuError> {
        let binding_max = options.binding_max.min(gpu.info().binding_max);
        let resident = Resident::upload(&gpu, tables, &verdicts, binding_max)?;
        let entries = options.entries.clamp(1, options.entries_max.max(1));
        Ok(Self {
            binding_max,
            entries_max: options.entries_max.max(1),
            line: options.line_max.clamp(1, gpu.info().workgroups_max.max(1)),
            timed: options.timings,
            brute: options.brute,
            capacity: Capacity::all(entries),
            prefix: Prefix { candidates: 1024, listed: 1024 },
            verdicts,
            idle: Vec::new(),
            timings: Timings::default(),
            gpu,
            resident,
        })
    }

    /// The device that it matches on.
    #[must_use]
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// Bytes that the tables take on the device.
    #[must_use]
    pub fn table_bytes(&self) -> u64 {
        self.resident.bytes
    }

    /// Sets of working buffers that are waiting for a batch: as many as there have been parts of batches in flight at a time.
    #[must_use]
    pub fn idle_flights(&self) -> usize {
        self.idle.len()
    }

    /// Pages that the tables are in; each is one pass over the batch.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.resident.pages.len()
    }

    /// Sums since the last call.
    pub fn take_timings(&mut self) -> Timings {
        std::mem::take(&mut self.timings)
    }

    /// All candidates of the batch, in no particular order.
    ///
    /// # Errors
    /// Whatever keeps the GPU from answering; the answer is whole or an error.
    pub fn candidates(&mut self, batch: &EncodedBatch) -> Result<Vec<Candidate>, GpuError> {
        let ticket = self.submit(batch)?;
        self.collect(ticket)
    }

    /// What the rules that match make of each row of the batch, but for what the host decides.
    ///
    /// # Errors
    /// As [`GpuMatcher::candidates`]; and where the matcher was not made [for outputs](GpuMatcher::for_outputs).
    pub fn reduce(&mut self, batch: &EncodedBatch, output: Output) -> Result<Reduced, GpuError> {
        let ticket = self.submit_for(batch, output)?;
        self.collect_reduced(ticket)
    }

    /// Sends a batch on its way without waiting for it. Tickets may be collected in any order; two or three keep a device busy.
    ///
    /// # Errors
    /// As [`GpuMatcher::candidates`].
    pub fn submit(&mut self, batch: &EncodedBatch) -> Result<Ticket, GpuError> {
        self.send(batch, Visit::Both, None)
    }

    /// As [`GpuMatcher::submit`], to be reduced.
    ///
    /// # Errors
    /// As [`GpuMatcher::reduce`].
    pub fn submit_for(&mut self, batch: &EncodedBatch, output: Output) -> Result<Ticket, GpuError> {
        self.send(batch, Visit::Both, Some(output))
    }

    /// As [`GpuMatcher::submit`] or [`GpuMatcher::submit_for`], in the partitions to visit.
    ///
    /// # Errors
    /// As those.
    pub fn send(&mut self, batch: &EncodedBatch, which: Visit, output: Option<Output>) -> Result<Ticket, GpuError> {
        self.check(batch)?;
        if output.is_some() && self.verdicts.is_empty() {
            return Err(GpuError::Batch("the matcher does not know what rules count for"));
        }
        let mut ticket = Ticket { flights: Vec::new(), output, rows: batch.rows };
        // Nothing is asked of the device where the answer is known.
        if self.resident.pages.is_empty() || output == Some(Output::Top(0)) {
            return Ok(ticket);
        }
        let rows_max = self.rows_max(output)?;
        let mut first = 0;
        while first < batch.rows {
            let end = batch.rows.min(first + rows_max);
            let mut flight = match self.idle.pop() {
                Some(flight) => flight,
                None => Flight::new(&self.gpu, self.capacity, self.timed)?,
            };
            (flight.brute, flight.which) = (self.brute, which);
            let codes = &batch.codes[first * batch.columns..end * batch.columns];
            flight.load(&self.gpu, first as u32, codes, &batch.partitions[first..end], output)?;
            self.start(&mut flight, Run { page: 0, rows: 0..(end - first) as u32 })?;
            ticket.flights.push(flight);
            first = end;
        }
        self.timings.rows += batch.rows as u64;
        Ok(ticket)
    }

    /// Reduces batches one after the other, always some of them in flight: while the device matches one, the host readies the next and takes the answer
    /// of the one before in. Answers come in the order of the batches.
    ///
    /// # Errors
    /// The first that a batch meets, as [`GpuMatcher::reduce`]; the answers of the batches before it have been given.
    pub fn reduce_all<B: Borrow<EncodedBatch>>(
        &mut self,
        batches: impl IntoIterator<Item = B>,
        output: Output,
        mut take: impl FnMut(Reduced),
    ) -> Result<(), GpuError> {
        let mut in_flight = VecDeque::with_capacity(IN_FLIGHT);
        for batch in batches {
            if in_flight.len() == IN_FLIGHT
                && let Some(ticket) = in_flight.pop_front()
            {
                take(self.collect_reduced(ticket)?);
            }
            in_flight.push_back(self.submit_for(batch.borrow(), output)?);
        }
        in_flight.into_iter().try_for_each(|ticket| {
            take(self.collect_reduced(ticket)?);
            Ok(())
        })
    }

    /// Waits for a batch and gives its candidates.
    ///
    /// # Errors
    /// As [`GpuMatcher::candidates`]; and where the batch was to be reduced.
    pub fn collect(&mut self, ticket: Ticket) -> Result<Vec<Candidate>, GpuError> {
        match self.finish(ticket)? {
            (None, candidates) => Ok(candidates),
            (Some(_), _) => Err(GpuError::Batch("it was to be reduced")),
        }
    }

    /// Waits for a batch and gives what it was reduced to.
    ///
    /// # Errors
    /// As [`GpuMatcher::reduce`]; and where the batch was not to be reduced.
    pub fn collect_reduced(&mut self, ticket: Ticket) -> Result<Reduced, GpuError> {
        match self.finish(ticket)? {
            (Some(reduction), rest) => Ok(Reduced { reduction, rest }),
            (None, _) => Err(GpuError::Batch("it was not to be reduced")),
        }
    }

    fn finish(&mut self, ticket: Ticket) -> Result<(Option<Reduction>, Vec<Candidate>), GpuError> {
        let mut found = Vec::new();
        let mut reduction = ticket.output.map(|output| Reduction::new(output, ticket.rows));
        for mut flight in ticket.flights {
            // What is left to do once the run under way is done, last first.
            let mut left: Vec<Run> = (1..self.resident.pages.len()).rev().map(|page| Run { page, rows: 0..flight.rows }).collect();
            loop {
                let (run, outcome) = flight.finish(&self.gpu, &mut self.timings)?;
                match outcome {
                    Outcome::Done(partial, candidates) => {
                        let expected = |count: usize| (count + count / 4).clamp(1024, self.capacity.candidates.max(1024) as usize) as u32;
                        self.prefix.candidates = expected(candidates.len());
                        found.extend(candidates);
                        if let (Some(reduction), Some(partial)) = (&mut reduction, partial) {
                            if ticket.output == Some(Output::Lists) {
                                self.prefix.listed = expected(partial.listed.len());
                            }
                            let first = flight.first_row as usize;
                            let rows = first + run.rows.start as usize..first + run.rows.end as usize;
                            partial.merge(reduction, rows, &self.verdicts)?;
                        }
                    }
                    Outcome::Overflow(needed) => self.make_room(&mut flight, run, needed, &mut left)?,
                }
                match left.pop() {
                    Some(run) => self.start(&mut flight, run)?,
                    None => break,
                }
            }
            self.idle.push(flight);
        }
        Ok((reduction, found))
    }

    fn start(&self, flight: &mut Flight, run: Run) -> Result<(), GpuError> {
        flight.start(&self.gpu, &self.resident, run, self.prefix, self.line)
    }

    /// Readies a run that had too little room to run again: with larger buffers, or, where they must not grow further, in halves.
    fn make_room(&mut self, flight: &mut Flight, run: Run, needed: Capacity, left: &mut Vec<Run>) -> Result<(), GpuError> {
        // A single row cannot be split. What it needs fits in a binding, because what its page's arrays hold for each group is larger.
        let binding = u32::try_from(self.binding_max.min(self.gpu.info().binding_max) / ENTRY_BYTES).unwrap_or(u32::MAX);
        let max = if run.rows.len() == 1 { binding } else { self.entries_max.min(binding) };
        if Capacity::all(max).holds(needed) {
            let rounded = needed.map2(Capacity::all(max), |needed, max| needed.checked_next_power_of_two().unwrap_or(max).min(max));
            flight.grow(&self.gpu, rounded)?;
            self.capacity = self.capacity.map2(rounded, u32::max);
            left.push(run);
            return Ok(());
        }
        if run.rows.len() == 1 {
            let bytes = u64::from(needed.pairs.max(needed.open).max(needed.candidates)) * ENTRY_BYTES;
            return Err(GpuError::TooLarge { what: "what one event matches is", bytes, limit: self.binding_max });
        }
        let middle = run.rows.start + run.rows.len() as u32 / 2;
        left.push(Run { page: run.page, rows: middle..run.rows.end });
        left.push(Run { page: run.page, rows: run.rows.start..middle });
        Ok(())
    }

    /// Rows whose codes and results fit in a binding, and whose roots can be counted.
    fn rows_max(&self, output: Option<Output>) -> Result<usize, GpuError> {
        let result_words = output.map_or(0, |output| output.returned_words(1).max(u64::from(output.result_words())));
        let row_bytes = (self.resident.columns.max(1) as u64).max(result_words) * 4;
        let roots = self.resident.pages.iter().map(|page| page.extent.roots_max).max().unwrap_or(0).max(1);
        let rows = (self.binding_max / row_bytes).min(u64::from(u32::MAX / 2) / roots);
        match usize::try_from(rows).unwrap_or(usize::MAX) {
            0 => Err(GpuError::TooLarge { what: "an event is", bytes: row_bytes, limit: self.binding_max }),
            rows => Ok(rows),
        }
    }

    fn check(&self, batch: &EncodedBatch) -> Result<(), GpuError> {
        if batch.columns != self.resident.columns {
            return Err(GpuError::Batch("it has other columns"));
        }
        if batch.partitions.len() != batch.rows || Some(batch.codes.len()) != batch.rows.checked_mul(batch.columns) {
            return Err(GpuError::Batch("its arrays differ in length"));
        }
        if u32::try_from(batch.rows).is_err() {
            return Err(GpuError::Batch("it has too many rows"));
        }
        // Row 0 of the partition table is visited by every row.
        let partitions = self.resident.partition_count.max(1);
        if batch.partitions.iter().any(|partition| *partition as usize >= partitions) {
            return Err(GpuError::Batch("a row belongs to a partition that does not exist"));
        }
        Ok(())
    }
}
