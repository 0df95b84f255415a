//! Where events are judged: one thread takes what waits, as one batch, writes it to the journal and answers.
//!
//! Requests that come while a batch is judged are the next one, so that batches grow with the load and nobody waits for others to come.

use super::answer::{self, Told};
use super::config;
use super::journal::Journal;
use super::keeper::Keeper;
use super::limits::Limits;
use super::metrics::{Metrics, Stages};
use super::owners::Owners;
use super::queue::{Queue, Refusal};
use super::sensitive::Sensitive;
use crate::codec::json::JsonDecoder;
use crate::codec::lines;
use crate::codec::{Decoded, Decoder, Request as ReadRequest};
use crate::connector::store::Store;
use crate::event::{EventBatch, Schema};
use crate::id::FieldId;
use crate::live::{LiveEngine, Snapshot};
use crate::stream::{Judged, Settings as StreamSettings, Stream};
use arrow::array::{ArrayRef, BooleanArray};
use arrow::compute::filter;
use arrow::record_batch::RecordBatch;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io::BufReader;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Findings that are kept to be asked for.
const FINDINGS: usize = 10_000;

/// How long to wait for requests, before snapshots are looked after; while one is being taken, and otherwise.
const STEP: Duration = Duration::from_millis(1);
const IDLE: Duration = Duration::from_millis(100);

/// Rows that are read of the journal at a time.
const REPLAY_ROWS: usize = 8192;

/// Events of one request.
pub struct Request {
    pub input: Input,
    pub rows: usize,
    /// The only tenant whose events the request may bring.
    pub tenant: Option<Arc<str>>,
}

/// Where what became of events goes.
pub type Reply<T> = oneshot::Sender<Result<T, String>>;

/// Events as they came, and as who asks wants the answers.
pub enum Input {
    /// One JSON object a line, each with its end.
    Lines(Vec<u8>, Reply<Vec<Answer>>),
    /// Columns, and the rows that could not be read. They are a batch of their own.
    Columns(Decoded, Reply<Scored>),
}

/// What became of events that came as columns.
#[derive(Debug)]
pub struct Scored {
    /// As [`answer::Told::batch`] has them: `index` is the row that a decision is about.
    pub decisions: RecordBatch,
    /// Why the other rows have none.
    pub rejected: HashMap<usize, String>,
    pub generation: String,
}

/// Who asked for lines: how many, the only tenant that they may be of, and where the answers go.
type Asked = (usize, Option<Arc<str>>, Reply<Vec<Answer>>);

/// What was judged of a batch: the good rows, and what became of the others.
struct Taken {
    judged: Judged,
    good: Vec<usize>,
    bad: HashMap<usize, Answer>,
}

/// What became of an event.
#[derive(Debug)]
pub enum Answer {
    /// The decision, as JSON.
    Judged(Vec<u8>),
    /// Why it could not be judged.
    Rejected(String),
    /// Which limit of its tenant it is over, and after which time it may come again.
    Limited(String, Duration),
}

/// What waits: requests of keys of one tenant in lines of their own, those of keys of every tenant in one.
type Waiting = Queue<Option<Arc<str>>, Request>;

/// What threads that ask share with the one that judges.
pub struct Shared {
    pub limits: Limits,
    sensitive: RwLock<Arc<Sensitive>>,
    /// Tenants whose events are turned away.
    pub suspended: RwLock<HashSet<String>>,
    findings: Mutex<VecDeque<Map<String, Value>>>,
    /// Why judging has failed for good.
    trouble: Mutex<Option<String>>,
}

impl Shared {
    #[must_use]
    pub fn new(limits: &config::Limits) -> Self {
        Self {
            limits: Limits::new(limits),
            sensitive: RwLock::default(),
            suspended: RwLock::default(),
            findings: Mutex::default(),
            trouble: Mutex::default(),
        }
    }

    /// The last findings, the newest first; those of one tenant, or all.
    #[must_use]
    pub fn findings(&self, tenant: Option<&str>, limit: usize) -> Vec<Map<String, Value>> {
        let findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        let is_of =
            |finding: &&Map<String, Value>| tenant.is_none_or(|tenant| finding.get("tenant").and_then(Value::as_str) == Some(tenant));
        findings.iter().rev().filter(is_of).take(limit).cloned().collect()
    }

    /// Keeps findings to be asked for.
    pub fn add_findings(&self, new: Vec<Map<String, Value>>) {
        let mut findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        findings.extend(new);
        let excess = findings.len().saturating_sub(FINDINGS);
        findings.drain(..excess);
    }

    /// Fields that are told of as hashes: none as long as there is no schema.
    #[must_use]
    pub fn sensitive(&self) -> Arc<Sensitive> {
        Arc::clone(&self.sensitive.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn set_sensitive(&self, sensitive: Sensitive) {
        *self.sensitive.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(sensitive);
    }

    /// Why nothing can be judged any more, if that is so.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The thread, from outside.
pub struct Scorer {
    queue: Arc<Waiting>,
    pub shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// How events are judged, and how state outlasts the process.
pub struct Settings {
    pub stream: StreamSettings,
    /// Where snapshots of the state are.
    pub place: Store,
    /// How often one is taken.
    pub every: Duration,
    /// Events of the journal that state is made of where there is no snapshot.
    pub events: u64,
    /// Requests of one tenant that may wait.
    pub waiting_max: usize,
    /// Rows that are judged together.
    pub rows_max: usize,
}

impl Scorer {
    /// Makes the state of the last snapshot and the events in the journal since, and begins to judge.
    ///
    /// # Errors
    /// State or a journal that cannot be read, or a thread that cannot be begun.
    pub fn begin(
        live: Arc<LiveEngine>,
        journal: Journal,
        settings: Settings,
        shared: Arc<Shared>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, String> {
        let rules = live.snapshot();
        let next = journal.next_row();
        let (keeper, found) = Keeper::open(&settings.place, &journal.name, &settings.stream, &rules, next)?;
        let (mut stream, from) = match found {
            Some(found) => (found.stream, found.position),
            None => (Stream::new(settings.stream.clone()), next.saturating_sub(settings.events)),
        };
        stream.follow(&rules).map_err(|broken| broken.to_string())?;
        if stream.has_state() {
            replay(&mut stream, &rules, &journal, from)?;
        }
        let queue = Arc::new(Queue::new(settings.waiting_max));
        let ending = Ending(Arc::clone(&queue));
        let mut worker = Worker { live, stream, keeper, journal, settings, shared: Arc::clone(&shared), metrics };
        let thread = std::thread::Builder::new().name("score".to_owned()).spawn(move || worker.work(&ending.0));
        let thread = thread.map_err(|error| format!("no thread for judging events: {error}"))?;
        Ok(Self { queue, shared, thread: Mutex::new(Some(thread)) })
    }

    /// Hands over a request.
    ///
    /// # Errors
    /// When too many of its tenant wait, or nobody judges any more.
    pub fn take(&self, request: Request) -> Result<(), Refusal> {
        let line = request.tenant.clone();
        self.queue.push(&line, request.rows, request)
    }

    /// Whether nobody judges any more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Requests that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// Ends after all that waits was judged, and has the journal on disk.
    pub fn stop(&self) {
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        self.queue.end();
        let _ = thread.join();
    }
}

/// When the thread ends, by whatever cause, nobody waits for it.
struct Ending(Arc<Waiting>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// Has a stream see the events of a journal from number `from` on again; nothing is told of them.
fn replay(stream: &mut Stream, snapshot: &Arc<Snapshot>, journal: &Journal, from: u64) -> Result<(), String> {
    let schema = Arc::new(snapshot.base().event_schema().clone());
    for (first, path) in journal.files(journal.next_row() - from) {
        let about = |error: String| format!("{}: {error}", path.display());
        let file = File::open(&path).map_err(|error| about(error.to_string()))?;
        let mut decoder = JsonDecoder::new(BufReader::with_capacity(1 << 20, file), request(&schema, REPLAY_ROWS));
        let mut row = first;
        while let Some(decoded) = decoder.decode().map_err(about)? {
            let rows = decoded.input_rows as u64;
            let seen = from.saturating_sub(row).min(rows);
            let decoded = decoded.slice(seen as usize, (rows - seen) as usize);
            let (batch, _) = batch_of(&schema, decoded, row + seen);
            row += rows;
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
    keeper: Keeper,
    journal: Journal,
    settings: Settings,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
}

impl Worker {
    fn work(&mut self, waiting: &Waiting) {
        loop {
            let wait = if self.keeper.is_busy() { STEP } else { IDLE };
            let Some(requests) = waiting.take(self.settings.rows_max, wait) else { break };
            if !requests.is_empty() {
                self.judge(requests);
            }
            if self.shared.trouble().is_some() {
                return;
            }
            let kept = self.keeper.keep(&mut self.stream, self.journal.next_row(), self.settings.every);
            self.metrics.snapshot(kept.as_ref().map(Option::is_some).map_err(String::as_str));
        }
        if let Err(error) = self.journal.sync() {
            tracing::error!(%error, "the journal may not be on disk");
        }
        let kept = self.keeper.take(&mut self.stream, self.journal.next_row());
        self.metrics.snapshot(kept.as_ref().map(|()| true).map_err(String::as_str));
    }

    fn judge(&mut self, requests: Vec<Request>) {
        let (mut lines, mut replies) = (Vec::new(), Vec::new());
        for Request { input, rows, tenant } in requests {
            match input {
                Input::Lines(text, reply) => {
                    lines.extend(text);
                    replies.push((rows, tenant, reply));
                }
                Input::Columns(decoded, reply) => self.judge_columns(decoded, rows, tenant.as_deref(), reply),
            }
        }
        if !replies.is_empty() {
            self.judge_lines(&lines, replies);
        }
    }

    fn judge_lines(&mut self, lines: &[u8], replies: Vec<Asked>) {
        let metrics = Arc::clone(&self.metrics);
        let mut stages = metrics.batch();
        let (snapshot, schema) = self.rules();
        let rows = replies.iter().map(|(rows, ..)| rows).sum();
        let callers = replies.iter().flat_map(|(rows, tenant, _)| std::iter::repeat_n(tenant.as_deref(), *rows)).collect();
        let decoded = JsonDecoder::new(lines, request(&schema, rows)).decode().and_then(|decoded| match decoded {
            Some(decoded) if decoded.input_rows == rows => Ok(decoded),
            Some(decoded) => Err(format!("{rows} events were counted and {} read", decoded.input_rows)),
            None => Err("no event could be read".to_owned()),
        });
        let written =
            |_: &EventBatch, bad: &HashMap<usize, Answer>| Ok(if bad.is_empty() { Cow::Borrowed(lines) } else { kept(lines, bad).into() });
        let taken = decoded.and_then(|decoded| self.take((&snapshot, &schema), decoded, callers, written, &mut stages));
        match taken {
            Ok(Taken { judged, mut bad, .. }) => {
                let mut answers = self.answers(&judged, &snapshot).into_iter();
                let answer = |row| bad.remove(&row).or_else(|| answers.next().map(Answer::Judged));
                let mut answers = (0..rows).filter_map(answer);
                for (rows, _, reply) in replies {
                    // Whoever asked may have gone away.
                    let _ = reply.send(Ok(answers.by_ref().take(rows).collect()));
                }
                stages.end("answer");
            }
            Err(problem) => {
                tracing::error!(problem, "events were not judged");
                for (.., reply) in replies {
                    let _ = reply.send(Err(problem.clone()));
                }
            }
        }
    }

    fn judge_columns(&mut self, decoded: Decoded, rows: usize, tenant: Option<&str>, reply: Reply<Scored>) {
        let metrics = Arc::clone(&self.metrics);
        let mut stages = metrics.batch();
        let (snapshot, schema) = self.rules();
        let written = |batch: &EventBatch, _: &HashMap<usize, Answer>| lines::lines(&schema, batch).map(Cow::from);
        let taken = self.take((&snapshot, &schema), decoded, vec![tenant; rows], written, &mut stages);
        let scored = taken.and_then(|Taken { judged, good, bad }| {
            let sensitive = self.shared.sensitive();
            let findings = judged.findings.iter().map(|found| answer::finding(&self.journal.name, found, &snapshot, &sensitive));
            self.shared.add_findings(findings.collect());
            let index = good.iter().map(|row| *row as u32).collect();
            let decisions = Told::new(&judged, &snapshot, &sensitive).batch(index)?;
            let reason = |answer| match answer {
                Answer::Rejected(reason) | Answer::Limited(reason, _) => reason,
                Answer::Judged(_) => String::new(),
            };
            let rejected = bad.into_iter().map(|(row, answer)| (row, reason(answer))).collect();
            Ok(Scored { decisions, rejected, generation: snapshot.generation().to_string() })
        });
        if let Err(problem) = &scored {
            tracing::error!(problem, "events were not judged");
        }
        // Whoever asked may have gone away.
        let _ = reply.send(scored);
        stages.end("answer");
    }

    /// The rules in service, and the schema that knows which fields are sensitive.
    fn rules(&self) -> (Arc<Snapshot>, Arc<Schema>) {
        let snapshot = self.live.snapshot();
        let schema = Arc::new(self.shared.sensitive().marked(snapshot.base().event_schema()));
        (snapshot, schema)
    }

    /// Judges a batch after the journal has its good rows, as the lines that `written` makes of them. `callers`: the only tenant that each row may be of.
    fn take<'l>(
        &mut self,
        (snapshot, schema): (&Arc<Snapshot>, &Schema),
        decoded: Decoded,
        callers: Vec<Option<&str>>,
        written: impl FnOnce(&EventBatch, &HashMap<usize, Answer>) -> Result<Cow<'l, [u8]>, String>,
        stages: &mut Stages,
    ) -> Result<Taken, String> {
        let ((batch, _), unread) = batch_of(schema, decoded, 0);
        let unread = unread.into_iter().map(|(row, reason)| (row, Answer::Rejected(without_line(&reason).to_owned())));
        let mut bad: HashMap<usize, Answer> = unread.collect();
        let owners = Owners::of(schema, &batch);
        self.turn_away(schema, &batch, &owners, &callers, &mut bad);
        let mut whose = callers;
        (0..batch.rows()).for_each(|row| {
            let whose = &mut whose[batch.row_number(row) as usize];
            *whose = whose.or_else(|| owners.name(row));
        });
        bad.keys().for_each(|row| self.metrics.rejected(whose[*row]));
        let good: Vec<usize> = (0..whose.len()).filter(|row| !bad.contains_key(row)).collect();
        let batch = renumbered(schema, &batch, &good, self.journal.next_row());
        stages.end("decode");
        if !good.is_empty() {
            let written = self.journal.append(&written(&batch, &bad)?, good.len() as u64);
            written.map_err(|error| format!("the journal cannot be written: {error}"))?;
        }
        stages.end("journal");
        let followed = self.keeper.follow(&mut self.stream, snapshot);
        followed.iter().flatten().for_each(|problem| self.metrics.snapshot(Err(problem)));
        let judged = followed.and_then(|_| self.stream.take(&batch, snapshot)).map_err(|broken| {
            let problem = format!("the state is lost until the next start: {broken}");
            *self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem.clone());
            problem
        })?;
        stages.end("judge");
        self.metrics.judged(&judged, snapshot);
        self.metrics.held("requests", &self.stream);
        self.metrics.journal(self.journal.bytes());
        Ok(Taken { judged, good, bad })
    }

    /// Adds the events of tenants that may not bring any, or not so many, and those that a request brings for others.
    fn turn_away(&self, schema: &Schema, batch: &EventBatch, owners: &Owners, callers: &[Option<&str>], bad: &mut HashMap<usize, Answer>) {
        let Some(field) = schema.tenant else { return };
        let suspended = self.shared.suspended.read().unwrap_or_else(PoisonError::into_inner);
        let rejected = |reason: String| Answer::Rejected(format!("{}: {reason}", schema.field(field).name));
        // Requests for one tenant were counted when they came.
        let mut counted: Vec<Vec<usize>> = vec![Vec::new(); owners.names.len()];
        for row in 0..batch.rows() {
            let at = batch.row_number(row) as usize;
            match (owners.place(row).zip(owners.name(row)), callers[at]) {
                (None, None) => {}
                (None, Some(caller)) => {
                    let reason = "null, and the key is for one tenant; leave it out, or name the tenant";
                    bad.insert(at, rejected(format!("{reason} `{caller}`")));
                }
                (Some((_, name)), Some(caller)) if caller != name => {
                    bad.insert(at, rejected(format!("the key is not for the tenant `{name}`")));
                }
                (Some((_, name)), _) if suspended.contains(name) => {
                    bad.insert(at, rejected(format!("the tenant `{name}` is suspended")));
                }
                (Some(_), Some(_)) => {}
                (Some((place, _)), None) => counted[place].push(at),
            }
        }
        let now = Instant::now();
        for (name, rows) in owners.names.iter().zip(counted).filter(|(_, rows)| !rows.is_empty()) {
            if let Err((reason, wait)) = self.shared.limits.events(name, rows.len() as u64, now) {
                bad.extend(rows.into_iter().map(|at| (at, Answer::Limited(reason.clone(), wait))));
            }
        }
    }

    fn answers(&self, judged: &Judged, snapshot: &Snapshot) -> Vec<Vec<u8>> {
        let (journal, sensitive) = (&self.journal.name, self.shared.sensitive());
        let findings: Vec<Map<String, Value>> =
            judged.findings.iter().map(|found| answer::finding(journal, found, snapshot, &sensitive)).collect();
        let mut of_rows: HashMap<u64, Vec<&Map<String, Value>>> = HashMap::new();
        for (found, finding) in judged.findings.iter().zip(&findings) {
            of_rows.entry(found.finding.row).or_default().push(finding);
        }
        let told = Told::new(judged, snapshot, &sensitive);
        let decision = |row: usize| {
            let number = judged.batch.row_number(row);
            let mut text = Vec::with_capacity(256);
            told.write(&mut text, &answer::decision_id(journal, number), row, |text| {
                if let Some(findings) = of_rows.get(&number) {
                    text.extend(b",\"findings\":");
                    answer::write(text, findings);
                }
            });
            text
        };
        let answers = (0..judged.batch.rows()).map(decision).collect();
        self.shared.add_findings(findings);
        answers
    }
}

/// A reason without the line of the batch that it names, which nobody outside knows.
pub(super) fn without_line(reason: &str) -> &str {
    let named = reason.strip_prefix("line ").and_then(|rest| rest.split_once(": "));
    named.filter(|(number, _)| number.bytes().all(|byte| byte.is_ascii_digit())).map_or(reason, |(_, rest)| rest)
}

/// The lines that are not bad.
fn kept(lines: &[u8], bad: &HashMap<usize, Answer>) -> Vec<u8> {
    let lines = lines.split_inclusive(|byte| *byte == b'\n').enumerate();
    lines.filter(|(row, _)| !bad.contains_key(row)).flat_map(|(_, line)| line).copied().collect()
}

/// The rows of a batch whose numbers are among `good`, which is ascending, numbered from `first` on.
pub(super) fn renumbered(schema: &Schema, batch: &EventBatch, good: &[usize], first: u64) -> EventBatch {
    let is_good = |row: usize| good.binary_search(&(batch.row_number(row) as usize)).is_ok();
    let mask = BooleanArray::from_iter((0..batch.rows()).map(|row| Some(is_good(row))));
    let column = |field: usize| -> Option<ArrayRef> {
        let column = batch.column(FieldId::new(field))?;
        Some(if good.len() == batch.rows() { Arc::clone(column) } else { filter(column, &mask).expect("a mask of the same length") })
    };
    EventBatch::new(schema, first, good.len(), (0..schema.fields().len()).map(column).collect())
}
