//! The state of one stream in a store: snapshots that are copied in steps between batches and written beside them, each with the position in the source that it is of.
//!
//! A snapshot that cannot be written is given up, and told of; the next one has all of the state again. Events go on being judged meanwhile.

use crate::connector::snapshots::{SnapshotWriter, Snapshots};
use crate::connector::store::Store;
use crate::live::Snapshot as Rules;
use crate::snapshot::{Manifest, Source, Unusable};
use crate::stream::saved::{Copied, Copy};
use crate::stream::{Broken, Settings, Stream};
use crate::temporal::steps::STEP_WORDS;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Chunks that wait to be written, at most.
const WAITING: usize = 16;

/// How long another process may hold the folder of a stream that it has given up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Keeps the state of a stream.
pub struct Keeper {
    /// What the positions are of.
    source: String,
    lateness: i64,
    number: u64,
    begun: Instant,
    work: Work,
    /// Whether the next snapshot is due at once.
    urgent: bool,
    /// The position of the last that was begun.
    last: Option<u64>,
}

enum Work {
    Idle(Box<SnapshotWriter>),
    /// Being copied, and written by a thread.
    Flight(Box<Flight>),
    /// Only while one becomes the other.
    Between,
}

struct Flight {
    copy: Copy,
    manifest: Manifest,
    /// What did not fit into the queue.
    pending: Option<Copied>,
    queue: Option<SyncSender<Job>>,
    thread: JoinHandle<(Box<SnapshotWriter>, Result<(), String>)>,
}

enum Job {
    Put(Copied),
    Commit(Manifest, Vec<usize>),
}

/// A stream as it was found.
pub struct Found {
    pub stream: Stream,
    /// The position that its state is of.
    pub position: u64,
}

impl Keeper {
    /// Opens the place of a stream, where a folder is made if there is none, and finds the newest state in it that is sound and of a position up to `until`.
    ///
    /// # Errors
    /// A place that cannot be read or written; snapshots of which none can be used, though one should be.
    pub fn open(place: &Store, source: &str, settings: &Settings, rules: &Arc<Rules>, until: u64) -> Result<(Self, Option<Found>), String> {
        let begun = Instant::now();
        let folder = loop {
            match Snapshots::open(place.clone()) {
                Ok(folder) => break folder,
                Err(problem) if begun.elapsed() > PATIENCE => return Err(problem),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        let lateness = settings.windows.lateness;
        let numbers = folder.numbers()?;
        let mut found = None;
        for number in &numbers {
            let about = |what: &dyn std::fmt::Display| format!("{}: snapshot {number}: {what}", folder.place());
            let manifest = match folder.manifest(*number) {
                Ok(manifest) => manifest,
                Err(unusable @ (Unusable::Newer(_) | Unusable::Unreachable(_))) => return Err(about(&unusable)),
                Err(damaged) => {
                    tracing::warn!(problem = about(&damaged), "a snapshot cannot be used");
                    continue;
                }
            };
            let own = manifest.sources.first().filter(|own| own.name == source && own.rows <= until);
            let Some(position) = own.map(|own| own.rows) else { continue };
            if manifest.allowed_lateness != lateness {
                return Err(about(
                    &"it was taken with another engine.allowed_lateness_ms; give the same one, or remove the folder and with it the state",
                ));
            }
            let mut unreachable = None;
            let mut read = |part: &str, number: usize| {
                let chunk = manifest.part(part).and_then(|part| part.chunks.get(number)).ok_or("a chunk is not named")?;
                folder.chunk(chunk).map_err(|unusable| {
                    let told = unusable.to_string();
                    unreachable = matches!(unusable, Unusable::Unreachable(_)).then(|| told.clone());
                    told
                })
            };
            match Stream::restored(settings.clone(), rules, &manifest, &mut read) {
                Ok((stream, _)) => {
                    found = Some((manifest, Found { stream, position }));
                    break;
                }
                // A store that does not answer is no reason to begin with less than it holds.
                Err(_) if unreachable.is_some() => return Err(about(&unreachable.unwrap_or_default())),
                Err(damaged) => tracing::warn!(problem = about(&damaged), "a snapshot cannot be used"),
            }
        }
        let (last, found) = found.unzip();
        let keeper = Self {
            source: source.to_owned(),
            lateness,
            number: numbers.first().copied().unwrap_or(0),
            begun: Instant::now(),
            work: Work::Idle(Box::new(SnapshotWriter::new(folder, last))),
            urgent: false,
            last: None,
        };
        Ok((keeper, found))
    }

    /// Brings a stream under other rules. What is being copied is completed before, which is all that may fail without harm: then it is given up, and told of.
    ///
    /// # Errors
    /// As [`Stream::follow`].
    pub fn follow(&mut self, stream: &mut Stream, rules: &Arc<Rules>) -> Result<Option<String>, Broken> {
        if stream.is_for(rules) {
            return Ok(None);
        }
        let given_up = self.complete(stream).err();
        // What begins now would be made of other events after a failure: its beginning is to be on disk soon.
        self.urgent |= stream.follow(rules)?.begun > 0;
        Ok(given_up)
    }

    #[must_use]
    pub fn is_due(&self, every: Duration) -> bool {
        matches!(self.work, Work::Idle(_)) && (self.urgent || self.begun.elapsed() >= every)
    }

    /// Begins a snapshot of the state as it is, of this position in the source.
    ///
    /// # Errors
    /// When no thread can be had to write it.
    pub fn begin(&mut self, stream: &mut Stream, position: u64) -> Result<(), String> {
        let Work::Idle(writer) = std::mem::replace(&mut self.work, Work::Between) else {
            return Err("a snapshot is being taken".to_owned());
        };
        self.number += 1;
        self.begun = Instant::now();
        self.urgent = false;
        let copy = stream.begin_copy();
        let source = Source { name: self.source.clone(), bytes: 0, head: String::new(), rows: position };
        let manifest = Manifest {
            number: self.number,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            generation: stream.generation().unwrap_or_default(),
            allowed_lateness: self.lateness,
            rows: position,
            sources: vec![source],
            parts: copy.parts.clone(),
            writer: String::new(),
        };
        let (queue, jobs) = sync_channel(WAITING);
        let thread = std::thread::Builder::new().name("snapshot".to_owned()).spawn(move || write(writer, &jobs));
        let thread = thread.map_err(|error| format!("no thread for a snapshot: {error}"))?;
        self.work = Work::Flight(Box::new(Flight { copy, manifest, pending: None, queue: Some(queue), thread }));
        Ok(())
    }

    /// Copies some more, as long as a batch may wait; or, to the end, all of it.
    ///
    /// # Errors
    /// State that cannot be read. A snapshot that cannot be written is told of by [`Keeper::settle`].
    pub fn step(&mut self, stream: &mut Stream, to_the_end: bool) -> Result<(), String> {
        let Work::Flight(flight) = &mut self.work else { return Ok(()) };
        let mut words = 0;
        while let Some(queue) = &flight.queue {
            if !to_the_end && words >= STEP_WORDS {
                return Ok(());
            }
            let next = match flight.pending.take() {
                Some(pending) => Some(pending),
                None => stream.copy(&mut flight.copy)?,
            };
            let Some(copied) = next else {
                // It is short, and the last: it may wait for its place. A writer that has failed says so when it is joined.
                let _ = queue.send(Job::Commit(flight.manifest.clone(), flight.copy.chunks.clone()));
                flight.queue = None;
                return Ok(());
            };
            words += copied.words;
            match queue.try_send(Job::Put(copied)) {
                Ok(()) => {}
                Err(TrySendError::Full(job)) if to_the_end => _ = queue.send(job),
                Err(TrySendError::Full(Job::Put(copied))) => {
                    flight.pending = Some(copied);
                    return Ok(());
                }
                Err(_) => flight.queue = None,
            }
        }
        Ok(())
    }

    /// What became of a snapshot whose last chunk was handed over, once it is written, or waiting for that: its position. `None`: none has ended.
    ///
    /// # Errors
    /// One that could not be written, and is given up.
    pub fn settle(&mut self, stream: &mut Stream, wait: bool) -> Result<Option<u64>, String> {
        let Work::Flight(flight) = &self.work else { return Ok(None) };
        if flight.queue.is_some() || !(wait || flight.thread.is_finished()) {
            return Ok(None);
        }
        let Work::Flight(flight) = std::mem::replace(&mut self.work, Work::Between) else { return Ok(None) };
        let Flight { manifest, thread, .. } = *flight;
        let (mut writer, written) = match thread.join() {
            Ok(ended) => ended,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        if written.is_err() {
            writer.give_up();
            stream.copy_all_again();
        }
        self.work = Work::Idle(writer);
        written.map(|()| Some(manifest.rows))
    }

    /// Begins a snapshot that is due, goes on with one that is being taken, and says what became of one that has ended.
    ///
    /// # Errors
    /// One that is given up, or state that cannot be read.
    pub fn keep(&mut self, stream: &mut Stream, position: u64, every: Duration) -> Result<Option<u64>, String> {
        if self.would_begin(position, every) {
            self.last = Some(position);
            self.begin(stream, position)?;
        }
        self.go_on(stream)
    }

    /// Whether [`Keeper::keep`] would begin a snapshot.
    #[must_use]
    pub fn would_begin(&self, position: u64, every: Duration) -> bool {
        self.is_due(every) && (self.urgent || self.last != Some(position))
    }

    /// Goes on with the snapshot that was begun, if there is one.
    ///
    /// # Errors
    /// As [`Keeper::keep`].
    pub fn go_on(&mut self, stream: &mut Stream) -> Result<Option<u64>, String> {
        self.step(stream, false)?;
        self.settle(stream, false)
    }

    /// Whether another process has taken the place of the snapshots, so that none can be written any more.
    #[must_use]
    pub const fn is_lost(&self) -> bool {
        match &self.work {
            Work::Idle(writer) => writer.is_lost(),
            Work::Flight(_) | Work::Between => false,
        }
    }

    /// Whether a snapshot is being taken.
    #[must_use]
    pub const fn is_busy(&self) -> bool {
        matches!(self.work, Work::Flight(_))
    }

    /// Takes a snapshot from beginning to end.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn take(&mut self, stream: &mut Stream, position: u64) -> Result<(), String> {
        self.complete(stream)?;
        self.begin(stream, position)?;
        self.complete(stream)
    }

    /// Ends a snapshot that is being taken, if one is.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn complete(&mut self, stream: &mut Stream) -> Result<(), String> {
        self.step(stream, true)?;
        self.settle(stream, true).map(drop)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Work::Flight(flight) = std::mem::replace(&mut self.work, Work::Between) {
            let Flight { queue, thread, .. } = *flight;
            drop(queue);
            // What was not committed does not count. The folder is free for others only once the thread has ended.
            let _ = thread.join();
        }
    }
}

fn write(mut writer: Box<SnapshotWriter>, jobs: &Receiver<Job>) -> (Box<SnapshotWriter>, Result<(), String>) {
    while let Ok(job) = jobs.recv() {
        let done = match job {
            Job::Put(copied) => {
                let (part, number) = (copied.part.clone(), copied.number);
                writer.put(part, number, &copied.encode())
            }
            Job::Commit(manifest, chunks) => {
                let committed = writer.commit(manifest, chunks);
                return (writer, committed);
            }
        };
        if done.is_err() {
            return (writer, done);
        }
    }
    (writer, Err("the copy was not completed".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::files::RuleFiles;
    use crate::engine::router::Choice;
    use crate::event::{EventBatch, Schema};
    use crate::live::{LiveEngine, Settings as LiveSettings};
    use crate::rule::Limits;
    use crate::rule::lists::Lists;
    use crate::tables::Artifact;
    use crate::temporal::patterns::Limits as PatternLimits;
    use crate::temporal::windows::Settings as WindowSettings;
    use arrow::array::{ArrayRef, Int64Array, TimestampMillisecondArray};
    use bytes::Bytes;
    use std::io;
    use std::path::{Path, PathBuf};

    const RULES: &str = "rules:\n\
        - {id: often, when: 'COUNT(*) OVER (PARTITION BY card ORDER BY at RANGE BETWEEN INTERVAL \'\'1\'\' MINUTE PRECEDING AND CURRENT ROW) > 3'}\n\
        - id: rises\n  match_recognize: 'PARTITION BY card ORDER BY at PATTERN (a b c) DEFINE b AS amount > a.amount, c AS amount > b.amount'\n";

    fn rules() -> Arc<Rules> {
        let schema = Schema::parse("schema.yaml", b"fields: {card: int64, amount: int64, at: timestamp(ms)}\ntime: at\n").unwrap();
        let read = |_: &Path| -> io::Result<Bytes> { Ok(Bytes::from_static(RULES.as_bytes())) };
        let files = RuleFiles::read(&[PathBuf::from("rules.yaml")], &read, &Limits::default()).map_err(|(_, error)| error).unwrap();
        let compiled = files.compile(&schema, 1, &|_| ());
        let artifact = Arc::new(Artifact::from_bytes(&compiled.artifact.expect("sound rules")).unwrap());
        let settings = LiveSettings { choice: Choice::Cpu, background: false, ..LiveSettings::default() };
        LiveEngine::new(artifact, Lists::new(), Limits::default(), settings).unwrap().snapshot()
    }

    fn settings() -> Settings {
        Settings { windows: WindowSettings::new(0), patterns: PatternLimits::default(), choice: Choice::Cpu }
    }

    fn batch(rules: &Rules, rows: std::ops::Range<i64>) -> EventBatch {
        let column = |value: &dyn Fn(i64) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(rows.clone().map(value))) };
        let at: ArrayRef = Arc::new(TimestampMillisecondArray::from_iter_values(rows.clone().map(|row| row * 1000)));
        let columns = vec![Some(column(&|row| row % 7)), Some(column(&|row| row * row % 11)), Some(at)];
        EventBatch::new(rules.base().event_schema(), rows.start.cast_unsigned(), (rows.end - rows.start) as usize, columns)
    }

    /// What rows come to, in words.
    fn told(stream: &mut Stream, rules: &Arc<Rules>, rows: std::ops::Range<i64>) -> String {
        let judged = stream.take(&batch(rules, rows), rules).unwrap();
        format!("{:?} {:?}", judged.decisions.scores, judged.findings)
    }

    #[test]
    fn a_stream_goes_on_from_its_last_snapshot() {
        let (rules, folder) = (rules(), tempfile::tempdir().unwrap());
        let open = |until| Keeper::open(&Store::Folder(folder.path().to_owned()), "here", &settings(), &rules, until).unwrap();
        let mut whole = Stream::new(settings());
        let (mut keeper, found) = open(u64::MAX);
        assert!(found.is_none());
        for step in 0..5_i64 {
            told(&mut whole, &rules, step * 40..(step + 1) * 40);
            keeper.begin(&mut whole, (step + 1).cast_unsigned() * 40).unwrap();
            // Rows come while it is copied.
            keeper.step(&mut whole, step % 2 == 0).unwrap();
            keeper.complete(&mut whole).unwrap();
        }
        drop(keeper);
        let right = told(&mut whole, &rules, 200..300);
        let go_on = |until: u64, from: u64| {
            let (_, found) = open(until);
            let mut found = found.expect("a snapshot");
            assert_eq!(found.position, from);
            told(&mut found.stream, &rules, from.cast_signed()..200);
            told(&mut found.stream, &rules, 200..300)
        };
        assert_eq!(go_on(u64::MAX, 200), right);
        assert_eq!(go_on(199, 160), right, "the one before, for a position before the last");
        assert!(open(100).1.is_none(), "two are kept");
        let mut forgetful = Stream::new(settings());
        assert_ne!(told(&mut forgetful, &rules, 200..300), right, "state that is missing is noticed");
    }

    /// The disk fails for a while: the snapshot after it has everything.
    #[test]
    fn what_could_not_be_written_is_copied_again() {
        let rules = rules();
        let run = |forgets: bool| {
            let folder = tempfile::tempdir().unwrap();
            let own = folder.path().join("state");
            let (mut keeper, _) = Keeper::open(&Store::Folder(own.clone()), "here", &settings(), &rules, u64::MAX).unwrap();
            let mut stream = Stream::new(settings());
            told(&mut stream, &rules, 0..40);
            keeper.take(&mut stream, 40).unwrap();
            told(&mut stream, &rules, 40..80);
            std::fs::rename(&own, folder.path().join("away")).unwrap();
            keeper.take(&mut stream, 80).unwrap_err();
            std::fs::rename(folder.path().join("away"), &own).unwrap();
            if forgets {
                // As if what was copied for the snapshot that failed had been written.
                drop(stream.begin_copy());
            }
            let last = keeper.take(&mut stream, 80);
            drop(keeper);
            let right = told(&mut stream, &rules, 80..160);
            let (_, found) = Keeper::open(&Store::Folder(own.clone()), "here", &settings(), &rules, u64::MAX).unwrap();
            let mut found = found.expect("a snapshot");
            last.is_ok() && found.position == 80 && told(&mut found.stream, &rules, 80..160) == right
        };
        assert!(run(false));
        assert!(!run(true), "a copy that is taken for written is noticed");
    }
}
