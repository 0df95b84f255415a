//! Where events are judged: one thread takes what waits, as one batch, writes it to the journal and answers.
//!
//! Requests that come while a batch is judged are the next one, so that batches grow with the load and nobody waits for others to come.

use super::answer;
use super::journal::Journal;
use super::metrics::Metrics;
use crate::codec::json::JsonDecoder;
use crate::codec::{Decoded, Decoder, Request as ReadRequest};
use crate::event::{EventBatch, Schema};
use crate::id::FieldId;
use crate::live::{LiveEngine, Snapshot};
use crate::stream::{Judged, Stream};
use crate::temporal::finding::json;
use arrow::array::{ArrayRef, BooleanArray};
use arrow::compute::filter;
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io::BufReader;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::sync::oneshot;

/// Findings that are kept to be asked for.
const FINDINGS: usize = 10_000;

/// Rows that are read of the journal at a time.
const REPLAY_ROWS: usize = 8192;

/// Events of one request.
pub struct Request {
    /// One JSON object a line, each with its end.
    pub lines: Vec<u8>,
    pub rows: usize,
    /// The only tenant whose events the request may bring.
    pub tenant: Option<Arc<str>>,
    pub reply: oneshot::Sender<Result<Vec<Answer>, String>>,
}

/// What became of an event.
#[derive(Debug)]
pub enum Answer {
    Judged(Map<String, Value>),
    /// Why it could not be judged.
    Rejected(String),
}

/// Why a request is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too many wait already.
    Overloaded,
    /// The process ends, or judging has failed for good.
    Ended,
}

enum Job {
    Score(Request),
    Stop,
}

/// What threads that ask share with the one that judges.
#[derive(Default)]
pub struct Shared {
    /// Tenants whose events are turned away.
    pub suspended: RwLock<HashSet<String>>,
    findings: Mutex<VecDeque<Map<String, Value>>>,
    /// Why judging has failed for good.
    trouble: Mutex<Option<String>>,
}

impl Shared {
    /// The last findings, the newest first; those of one tenant, or all.
    #[must_use]
    pub fn findings(&self, tenant: Option<&str>, limit: usize) -> Vec<Map<String, Value>> {
        let findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        let is_of =
            |finding: &&Map<String, Value>| tenant.is_none_or(|tenant| finding.get("tenant").and_then(Value::as_str) == Some(tenant));
        findings.iter().rev().filter(is_of).take(limit).cloned().collect()
    }

    /// Why nothing can be judged any more, if that is so.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The thread, from outside.
pub struct Scorer {
    queue: SyncSender<Job>,
    pub shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Scorer {
    /// Makes the state of the events in the journal, and begins to judge.
    ///
    /// # Errors
    /// A journal that cannot be read, or a thread that cannot be begun.
    pub fn begin(
        live: Arc<LiveEngine>,
        mut stream: Stream,
        journal: Journal,
        keep: u64,
        sizes: (usize, usize),
        shared: Arc<Shared>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, String> {
        let (waiting, rows_max) = sizes;
        replay(&mut stream, &live.snapshot(), &journal, keep)?;
        let (queue, jobs) = sync_channel(waiting);
        let mut worker = Worker { live, stream, journal, rows_max, shared: Arc::clone(&shared), metrics };
        let thread = std::thread::Builder::new().name("score".to_owned()).spawn(move || worker.work(&jobs));
        let thread = thread.map_err(|error| format!("no thread for judging events: {error}"))?;
        Ok(Self { queue, shared, thread: Mutex::new(Some(thread)) })
    }

    /// Hands over a request.
    ///
    /// # Errors
    /// When too many wait, or nobody judges any more.
    pub fn take(&self, request: Request) -> Result<(), Refusal> {
        self.queue.try_send(Job::Score(request)).map_err(|error| match error {
            TrySendError::Full(_) => Refusal::Overloaded,
            TrySendError::Disconnected(_) => Refusal::Ended,
        })
    }

    /// Whether nobody judges any more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends after all that waits was judged, and has the journal on disk.
    pub fn stop(&self) {
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        // Where nobody listens the thread has ended.
        let _ = self.queue.send(Job::Stop);
        let _ = thread.join();
    }
}

/// Has a stream see the last events of a journal again; nothing is told of them.
fn replay(stream: &mut Stream, snapshot: &Arc<Snapshot>, journal: &Journal, events: u64) -> Result<(), String> {
    let schema = Arc::new(snapshot.base().event_schema().clone());
    for (first, path) in journal.files(events) {
        let about = |error: String| format!("{}: {error}", path.display());
        let file = File::open(&path).map_err(|error| about(error.to_string()))?;
        let mut decoder = JsonDecoder::new(BufReader::with_capacity(1 << 20, file), request(&schema, REPLAY_ROWS));
        let mut row = first;
        while let Some(decoded) = decoder.decode().map_err(about)? {
            let (batch, _) = batch_of(&schema, decoded, row);
            row += batch.1;
            stream.take(&batch.0, snapshot).map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

pub(super) fn request(schema: &Arc<Schema>, rows: usize) -> ReadRequest {
    let needed = (0..schema.fields().len()).map(FieldId::new).collect();
    ReadRequest { schema: Arc::clone(schema), needed, batch_rows: rows }
}

/// The rows that could be read, numbered from `first`, and how many were read; why others could not be.
pub(super) fn batch_of(schema: &Schema, decoded: Decoded, first: u64) -> ((EventBatch, u64), HashMap<usize, String>) {
    let bad: HashMap<usize, String> = decoded.bad.into_iter().map(|bad| (bad.row, bad.reason)).collect();
    let numbers = (0..decoded.input_rows).filter(|row| !bad.contains_key(row)).map(|row| first + row as u64).collect();
    let batch = EventBatch::new(schema, first, decoded.rows, decoded.columns).with_row_numbers(numbers);
    ((batch, decoded.input_rows as u64), bad)
}

struct Worker {
    live: Arc<LiveEngine>,
    stream: Stream,
    journal: Journal,
    rows_max: usize,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
}

impl Worker {
    fn work(&mut self, jobs: &Receiver<Job>) {
        let mut ends = false;
        while let Ok(job) = jobs.recv() {
            let mut requests = Vec::new();
            let (mut rows, mut next) = (0, Some(job));
            while let Some(job) = next.take() {
                match job {
                    Job::Score(request) => {
                        rows += request.rows;
                        requests.push(request);
                        if rows < self.rows_max {
                            next = jobs.try_recv().ok();
                        }
                    }
                    Job::Stop => ends = true,
                }
            }
            if !requests.is_empty() {
                self.judge(requests);
            }
            if ends || self.shared.trouble().is_some() {
                break;
            }
        }
        if let Err(error) = self.journal.sync() {
            tracing::error!(%error, "the journal may not be on disk");
        }
    }

    fn judge(&mut self, mut requests: Vec<Request>) {
        let begun = Instant::now();
        let snapshot = self.live.snapshot();
        let schema = Arc::new(snapshot.base().event_schema().clone());
        let lines: Vec<u8> = requests.iter_mut().flat_map(|request| std::mem::take(&mut request.lines)).collect();
        let rows = requests.iter().map(|request| request.rows).sum();
        let told = self.judge_lines(&schema, &snapshot, &lines, rows, &requests);
        self.metrics.batch(rows, begun.elapsed());
        match told {
            Ok(answers) => {
                let mut answers = answers.into_iter();
                for request in requests {
                    // Whoever asked may have gone away.
                    let _ = request.reply.send(Ok(answers.by_ref().take(request.rows).collect()));
                }
            }
            Err(problem) => {
                tracing::error!(problem, "events were not judged");
                for request in requests {
                    let _ = request.reply.send(Err(problem.clone()));
                }
            }
        }
    }

    fn judge_lines(
        &mut self,
        schema: &Arc<Schema>,
        snapshot: &Arc<Snapshot>,
        lines: &[u8],
        rows: usize,
        requests: &[Request],
    ) -> Result<Vec<Answer>, String> {
        let decoded = JsonDecoder::new(lines, request(schema, rows)).decode()?.ok_or("no event could be read")?;
        if decoded.input_rows != rows {
            return Err(format!("{rows} events were counted and {} read", decoded.input_rows));
        }
        let ((batch, _), mut bad) = batch_of(schema, decoded, 0);
        self.turn_away(schema, &batch, requests, &mut bad);
        let good: Vec<usize> = (0..rows).filter(|row| !bad.contains_key(row)).collect();
        let batch = renumbered(schema, &batch, &good, self.journal.next_row());
        if !good.is_empty() {
            let bytes: Vec<u8> = if good.len() == rows { Vec::new() } else { kept(lines, &bad) };
            let written = self.journal.append(if good.len() == rows { lines } else { &bytes }, good.len() as u64);
            written.map_err(|error| format!("the journal cannot be written: {error}"))?;
        }
        let judged = self.stream.take(&batch, snapshot).map_err(|broken| {
            let problem = format!("the state is lost until the next start: {broken}");
            *self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem.clone());
            problem
        })?;
        let answers = self.answers(&judged, snapshot);
        let mut answers = answers.into_iter();
        let rejected = |reason: String| {
            self.metrics.rejected();
            Some(Answer::Rejected(without_line(&reason).to_owned()))
        };
        let answer = |row| bad.remove(&row).map_or_else(|| answers.next().map(Answer::Judged), rejected);
        Ok((0..rows).filter_map(answer).collect())
    }

    /// Adds the events of tenants that may not bring any, and those that a request brings for others.
    fn turn_away(&self, schema: &Schema, batch: &EventBatch, requests: &[Request], bad: &mut HashMap<usize, String>) {
        let Some(field) = schema.tenant else { return };
        let suspended = self.shared.suspended.read().unwrap_or_else(PoisonError::into_inner);
        if suspended.is_empty() && requests.iter().all(|request| request.tenant.is_none()) {
            return;
        }
        let owners = requests.iter().flat_map(|request| std::iter::repeat_n(&request.tenant, request.rows));
        let owners: Vec<&Option<Arc<str>>> = owners.collect();
        for row in 0..batch.rows() {
            let at = batch.row_number(row) as usize;
            let name = match json(&batch.value(schema, field, row)) {
                Value::String(name) => name,
                Value::Null => continue,
                other => other.to_string(),
            };
            if owners[at].as_ref().is_some_and(|owner| **owner != *name) {
                bad.insert(at, format!("{}: the key is not for the tenant `{name}`", schema.field(field).name));
            } else if suspended.contains(&name) {
                bad.insert(at, format!("{}: the tenant `{name}` is suspended", schema.field(field).name));
            }
        }
    }

    fn answers(&self, judged: &Judged, snapshot: &Snapshot) -> Vec<Map<String, Value>> {
        let journal = &self.journal.name;
        let mut answers: Vec<Map<String, Value>> =
            (0..judged.batch.rows()).map(|row| answer::decision(journal, judged, snapshot, row)).collect();
        self.metrics.judged(judged, snapshot);
        if judged.findings.is_empty() {
            return answers;
        }
        let places: HashMap<u64, usize> = (0..judged.batch.rows()).map(|row| (judged.batch.row_number(row), row)).collect();
        let mut recent = self.shared.findings.lock().unwrap_or_else(PoisonError::into_inner);
        for found in &judged.findings {
            let finding = answer::finding(journal, found, snapshot);
            if let Some(row) = places.get(&found.finding.row) {
                let findings = answers[*row].entry("findings").or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(findings) = findings {
                    findings.push(Value::Object(finding.clone()));
                }
            }
            recent.push_back(finding);
            if recent.len() > FINDINGS {
                recent.pop_front();
            }
        }
        answers
    }
}

/// A reason without the line of the batch that it names, which nobody outside knows.
fn without_line(reason: &str) -> &str {
    let named = reason.strip_prefix("line ").and_then(|rest| rest.split_once(": "));
    named.filter(|(number, _)| number.bytes().all(|byte| byte.is_ascii_digit())).map_or(reason, |(_, rest)| rest)
}

/// The lines that are not bad.
fn kept(lines: &[u8], bad: &HashMap<usize, String>) -> Vec<u8> {
    let lines = lines.split_inclusive(|byte| *byte == b'\n').enumerate();
    lines.filter(|(row, _)| !bad.contains_key(row)).flat_map(|(_, line)| line).copied().collect()
}

/// The rows of a batch whose numbers are among `good`, which is ascending, numbered from `first` on.
fn renumbered(schema: &Schema, batch: &EventBatch, good: &[usize], first: u64) -> EventBatch {
    let is_good = |row: usize| good.binary_search(&(batch.row_number(row) as usize)).is_ok();
    let mask = BooleanArray::from_iter((0..batch.rows()).map(|row| Some(is_good(row))));
    let column = |field: usize| -> Option<ArrayRef> {
        let column = batch.column(FieldId::new(field))?;
        Some(if good.len() == batch.rows() { Arc::clone(column) } else { filter(column, &mask).expect("a mask of the same length") })
    };
    EventBatch::new(schema, first, good.len(), (0..schema.fields().len()).map(column).collect())
}
