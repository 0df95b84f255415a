//! State that outlasts a run of `match`: snapshots, going on from one, and windows warmed by earlier events.
//!
//! A snapshot is begun between two batches. Its chunks are copied a few at a time between the next ones, and packed and written beside them; it counts once they are on disk and
//! the results of all rows before it are out. So whoever is killed and goes on from the last snapshot may give some results twice, and leaves none out.

use super::Failure;
use super::findings;
use super::matching::{self, Progress};
use super::order::Order;
use super::windows::{Stage, limits, windows};
use crate::connector::snapshots::{SnapshotWriter, Snapshots};
use crate::connector::source::{EventReader, EventSource};
use crate::connector::spill::SpillFile;
use crate::connector::store::Store;
use crate::id::FieldId;
use crate::snapshot::{Manifest, Part, Source, Unusable};
use crate::stream::definitions;
use crate::tables::Artifact;
use crate::temporal::capture::{Restored, SavedPatterns};
use crate::temporal::patterns::Patterns;
use crate::temporal::spill::{Share, Spill};
use crate::temporal::steps::STEP_WORDS;
use crate::temporal::windows::group::SavedGroup;
use crate::temporal::windows::{Settings, Windows};
use crate::window::Window;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

/// Chunks that wait to be written, at most.
const WAITING: usize = 32;

/// How much memory state may take.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Memory {
    /// What the state of windows and patterns may take of memory, such as 2GiB: beyond it keys that have been quiet for long are on disk
    #[arg(long, value_name = "SIZE", requires = "state_dir", value_parser = super::size::parse)]
    pub state_memory: Option<usize>,
    /// Where they are, until the run ends
    #[arg(long, value_name = "DIR", requires = "state_memory")]
    pub state_dir: Option<PathBuf>,
}

impl Memory {
    /// What state beyond it goes to; `None`: all of it stays in memory.
    pub(super) fn spill(&self) -> Option<Arc<Spill>> {
        let (limit, folder) = (self.state_memory?, self.state_dir.as_deref()?);
        Some(Spill::new(limit, Box::new(SpillFile::new(folder))))
    }
}

/// What a run was asked to do about state.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// Where snapshots of the state are: the run goes on from the newest, and leaves one at its end
    #[arg(long, value_name = "DIR")]
    pub snapshot: Option<PathBuf>,
    /// Take one after every so many events, too; files of results then come in parts
    #[arg(long, value_name = "ROWS", requires = "snapshot", value_parser = clap::value_parser!(u64).range(1..))]
    pub snapshot_every: Option<u64>,
    /// End after so many events; with --snapshot what waits for earlier events goes on waiting in the next run
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(1..))]
    pub stop_after: Option<u64>,
    /// Earlier events, which windows without state see before the first event
    #[arg(long, value_name = "FILE")]
    pub warm_from: Vec<String>,
    #[command(flatten)]
    pub memory: Memory,
}

/// What became of the state of a run, for the summary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub folder: PathBuf,
    /// The snapshot that the run went on from, and its row.
    pub from: Option<(u64, u64)>,
    /// The last snapshot, and its row.
    pub last: (u64, u64),
    /// Snapshots that were written.
    pub written: u64,
}

/// What a run starts with.
pub(super) struct Start {
    pub windows: Option<Stage>,
    pub patterns: Option<Patterns>,
    /// From where the inputs are read; empty where nobody will ask.
    pub positions: Vec<Source>,
    pub keeper: Option<Keeper>,
    /// Where state is that memory has no room for.
    pub spill: Option<Arc<Spill>>,
}

/// The state to start with: that of the newest sound snapshot, or none.
pub(super) fn start(
    artifact: &Artifact,
    options: &matching::Options,
    state: &Options,
    source: &EventSource,
    progress: &mut dyn Progress,
) -> Result<Start, Failure> {
    if !artifact.patterns().is_empty() && !state.warm_from.is_empty() {
        return Err("patterns cannot be warmed, only windows; leave out --warm-from, or the rules with patterns".to_owned().into());
    }
    let lateness = options.allowed_lateness;
    let order = || Order::new(artifact.event_schema(), lateness);
    let settings = Settings { spill: state.memory.spill(), limits: limits(options), ..Settings::new(lateness) };
    let fresh = || windows(artifact, &settings).map(|windows| (windows, order()));
    let mut begins = true;
    let fresh_patterns = || findings::patterns(artifact, options, settings.spill.as_ref(), None);
    let (mut windows, patterns, positions, keeper) = match &state.snapshot {
        None => (fresh(), fresh_patterns()?, Vec::new(), None),
        Some(path) => {
            let folder = Snapshots::open(Store::Folder(path.clone()))?;
            match newest(&folder, artifact, options, &settings, progress)? {
                None => (fresh(), fresh_patterns()?, source.positions()?, Some(Keeper::new(folder, None, artifact, options, state)?)),
                Some(Found { manifest, windows, patterns, kept, dropped }) => {
                    let positions = source.positions_after(&manifest.sources)?;
                    tell_kept(artifact, &kept, &dropped, progress);
                    patterns.iter().for_each(|patterns| tell_patterns(patterns, artifact, progress));
                    begins = kept.contains(&false);
                    (windows, patterns, positions, Some(Keeper::new(folder, Some(manifest), artifact, options, state)?))
                }
            }
        }
    };
    if let Some((windows, _)) = &mut windows
        && !state.warm_from.is_empty()
    {
        if begins {
            warm(windows, order(), artifact, options, &state.warm_from, progress)?;
        } else {
            progress.warning("every window has its state from the snapshot; --warm-from has nothing to warm");
        }
    }
    let part = state.snapshot_every.map(|_| positions.iter().map(|source| source.rows).sum());
    let stage = windows.map(|(windows, order)| Stage::new(artifact, options, windows, order, part)).transpose()?;
    let patterns = patterns.map(|restored| restored.patterns);
    Ok(Start { windows: stage, patterns, positions, keeper, spill: settings.spill })
}

/// What the newest sound snapshot holds.
struct Found {
    manifest: Manifest,
    windows: Option<(Windows, Order)>,
    patterns: Option<Restored>,
    /// For each window of the rules, whether it has its state.
    kept: Vec<bool>,
    /// The definitions of windows that the rules do not have any more.
    dropped: Vec<String>,
}

fn newest(
    folder: &Snapshots,
    artifact: &Artifact,
    options: &matching::Options,
    settings: &Settings,
    progress: &mut dyn Progress,
) -> Result<Option<Found>, Failure> {
    let (numbers, lateness) = (folder.numbers()?, options.allowed_lateness);
    for number in &numbers {
        let about = |what: &dyn std::fmt::Display| format!("{}: snapshot {number}: {what}", folder.place());
        let found = folder
            .manifest(*number)
            .and_then(|manifest| restored(folder, manifest, artifact, options, settings).map_err(Unusable::Damaged));
        if let Some(fault) = settings.spill.as_ref().and_then(|spill| spill.fault()) {
            // The snapshot is not to blame.
            return Err(fault.into());
        }
        match found {
            Ok(found) if found.manifest.allowed_lateness != lateness => {
                let what = "it was taken with another --allowed-lateness, and holds what rows so late need; give the same one";
                return Err(about(&what).into());
            }
            Ok(Found { windows: None, manifest, .. }) if manifest.part(ORDER).is_some_and(|order| !order.chunks.is_empty()) => {
                let what = "rows wait there for earlier ones, which rules without windows have no place for; end that run with its own rules first";
                return Err(about(&what).into());
            }
            Ok(found) => return Ok(Some(found)),
            Err(newer @ Unusable::Newer(_)) => return Err(about(&newer).into()),
            Err(damaged) => progress.warning(&about(&damaged)),
        }
    }
    if numbers.is_empty() {
        return Ok(None);
    }
    Err(format!("{}: no snapshot there is sound; without them the run would begin anew", folder.place()).into())
}

fn restored(
    folder: &Snapshots,
    manifest: Manifest,
    artifact: &Artifact,
    options: &matching::Options,
    settings: &Settings,
) -> Result<Found, String> {
    // What windows will take is not for patterns.
    let chunks = manifest.parts.iter().filter(|part| part.name.starts_with(WINDOWS)).flat_map(|part| &part.chunks);
    let bytes = chunks.fold(0, |bytes: usize, chunk| bytes.saturating_add(chunk.bytes as usize));
    let of_windows = settings.spill.as_ref().map(Share::new);
    of_windows.iter().for_each(|share| _ = share.room(bytes));
    let patterns = restored_patterns(folder, &manifest, artifact, options, settings.spill.as_ref())?;
    drop(of_windows);
    let lateness = options.allowed_lateness;
    let (events, definitions) = (artifact.event_schema(), definitions(artifact));
    let parts: Vec<&Part> = manifest.parts.iter().filter(|part| part.name.starts_with(WINDOWS)).collect();
    let groups = parts.iter().map(|part| serde_json::from_value::<SavedGroup>(part.head.clone()).map_err(|error| error.to_string()));
    let groups: Vec<SavedGroup> = groups.collect::<Result<_, String>>()?;
    if parts.iter().zip(&groups).any(|(part, group)| part.chunks.len() != group.chunks()) {
        return Err("it names more or fewer chunks than it has".to_owned());
    }
    let saved = groups.iter().flat_map(|group| &group.windows).map(|window| &window.definition);
    let dropped = saved.filter(|saved| !definitions.contains(saved)).cloned().collect();
    let windows: Vec<Window> = artifact.windows().iter().map(|column| column.window.clone()).collect();
    if windows.is_empty() {
        return Ok(Found { manifest, windows: None, patterns, kept: Vec::new(), dropped });
    }
    let read = |part: &Part, chunk: usize| {
        let chunk = part.chunks.get(chunk).ok_or("a chunk is not named")?;
        folder.chunk(chunk).map_err(|unusable| unusable.to_string())
    };
    let mut chunk = |group: usize, chunk: usize| read(parts[group], chunk);
    let restored = Windows::restored(events, &windows, &definitions, settings, &groups, &mut chunk)?;
    let order = match manifest.part(ORDER) {
        Some(part) => Order::restored(&part.head, events, lateness, || read(part, 0))?,
        None => Order::new(events, lateness),
    };
    Ok(Found { manifest, windows: Some((restored.windows, order)), patterns, kept: restored.kept, dropped })
}

fn restored_patterns(
    folder: &Snapshots,
    manifest: &Manifest,
    artifact: &Artifact,
    options: &matching::Options,
    spill: Option<&Arc<Spill>>,
) -> Result<Option<Restored>, String> {
    let Some(part) = manifest.part(PATTERNS) else { return findings::patterns(artifact, options, spill, None) };
    let head: SavedPatterns = serde_json::from_value(part.head.clone()).map_err(|error| error.to_string())?;
    let mut read = |part: &str, chunk: usize| {
        let chunk = manifest.part(part).and_then(|part| part.chunks.get(chunk)).ok_or("a chunk is not named")?;
        folder.chunk(chunk).map_err(|unusable| unusable.to_string())
    };
    findings::patterns(artifact, options, spill, Some((&head, &mut read)))
}

/// Says which patterns do not go on where they were.
fn tell_patterns(restored: &Restored, artifact: &Artifact, progress: &mut dyn Progress) {
    for (rule, _) in artifact.patterns() {
        let name = artifact.rule_name(*rule);
        if !restored.kept.iter().any(|kept| **kept == *name) {
            progress.warning(&format!("the pattern `{name}` begins without state: it is new, or changed since the snapshot"));
        }
    }
    for name in &restored.dropped {
        progress.warning(&format!("the state of the pattern `{name}` is dropped: the rule is gone, or changed since the snapshot"));
    }
}

/// Says what state other rules than those of the snapshot go on with.
fn tell_kept(artifact: &Artifact, kept: &[bool], dropped: &[String], progress: &mut dyn Progress) {
    let definitions = definitions(artifact);
    let fresh =
        definitions.iter().zip(kept).filter(|(_, kept)| !**kept).map(|(definition, _)| format!("begins without state: {definition}"));
    let lines: Vec<String> = fresh.chain(dropped.iter().map(|definition| format!("its state is dropped: {definition}"))).collect();
    if !lines.is_empty() {
        let count = kept.iter().filter(|kept| **kept).count();
        progress.warning(&format!("the rules have changed since the snapshot: of {} windows {count} keep their state", definitions.len()));
    }
    lines.iter().for_each(|line| progress.warning(line));
}

/// Has windows without state see earlier events.
fn warm(
    windows: &mut Windows,
    mut order: Order,
    artifact: &Artifact,
    options: &matching::Options,
    files: &[String],
    progress: &mut dyn Progress,
) -> Result<(), Failure> {
    let events = artifact.event_schema();
    let source = EventSource::open(files, Some(events))?;
    let needed: Vec<FieldId> = (0..events.fields().len()).map(FieldId::new).collect();
    let mut reader = source.read(&needed, options.batch_rows, options.strict);
    let mut rejected = 0;
    for read in reader.by_ref() {
        let read = read?;
        read.warnings.iter().for_each(|warning| progress.warning(warning));
        rejected += read.rejects.len();
        windows.warm(&order.take(&read.batch, events).batch)?;
    }
    if let Some(rest) = order.rest(events) {
        windows.warm(&rest)?;
    }
    reader.take_warnings().iter().for_each(|warning| progress.warning(warning));
    if rejected > 0 {
        progress.warning(&format!("{rejected} rows of --warm-from could not be read"));
    }
    Ok(())
}

/// The names of the parts of a snapshot.
const WINDOWS: &str = "windows/";
const ORDER: &str = "order";
const PATTERNS: &str = "patterns";

/// Takes the snapshots of a run.
pub(super) struct Keeper {
    every: Option<u64>,
    /// The last snapshot that was begun, without its parts.
    last: Manifest,
    flight: Option<Flight>,
    /// What did not fit into the queue.
    pending: VecDeque<Job>,
    queue: Option<SyncSender<Job>>,
    writer: Option<JoinHandle<Result<(), String>>>,
    told: Told,
}

/// A snapshot that is begun and not yet handed over.
struct Flight {
    manifest: Manifest,
    /// Chunks of each part. Those that are not put are those of the snapshot before.
    chunks: Vec<usize>,
    captured: bool,
    /// Whether the results of all rows before it are out. Then patterns, which see rows last, are copied.
    results_are_out: bool,
}

type Encode = Box<dyn FnOnce() -> Result<Vec<u8>, String> + Send>;

enum Job {
    /// A chunk of a part.
    Put(String, usize, Encode),
    Commit(Manifest, Vec<usize>),
}

impl Keeper {
    fn new(
        folder: Snapshots,
        last: Option<Manifest>,
        artifact: &Artifact,
        options: &matching::Options,
        state: &Options,
    ) -> Result<Self, Failure> {
        let number = folder.numbers()?.first().copied().unwrap_or(0);
        let from = last.as_ref().map(|last| (last.number, last.rows));
        let empty = Manifest {
            number,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            generation: artifact.generation(),
            allowed_lateness: options.allowed_lateness,
            rows: from.map_or(0, |(_, rows)| rows),
            sources: Vec::new(),
            parts: Vec::new(),
            writer: String::new(),
        };
        let told = Told { folder: state.snapshot.clone().unwrap_or_default(), from, last: from.unwrap_or_default(), written: 0 };
        let (queue, jobs) = sync_channel(WAITING);
        let writer = std::thread::spawn(move || write(folder, last, &jobs));
        Ok(Self {
            every: state.snapshot_every,
            last: empty,
            flight: None,
            pending: VecDeque::new(),
            queue: Some(queue),
            writer: Some(writer),
            told,
        })
    }

    /// Whether a snapshot is to be begun now that so many rows were read.
    pub fn is_due(&self, rows: u64) -> bool {
        self.flight.is_none() && self.every.is_some_and(|every| rows - self.last.rows >= every)
    }

    /// Begins a snapshot of the state as it is, after all that was read.
    pub fn begin(&mut self, reader: &EventReader, stage: Option<&mut Stage>, artifact: &Artifact) {
        self.last.number += 1;
        self.last.rows = reader.rows();
        let mut manifest = Manifest { sources: reader.positions().to_vec(), ..self.last.clone() };
        let mut chunks = Vec::new();
        if let Some(stage) = stage {
            let groups = stage.windows.begin_capture(&definitions(artifact));
            for (number, group) in groups.into_iter().enumerate() {
                chunks.push(group.chunks());
                let head = serde_json::to_value(&group).expect("plain data");
                manifest.parts.push(Part { name: format!("{WINDOWS}{number}"), head, chunks: Vec::new() });
            }
            let (head, count) = stage.order.head();
            if count > 0 {
                let (order, events) = (stage.order.clone(), artifact.event_schema().clone());
                self.pending.push_back(Job::Put(ORDER.to_owned(), 0, Box::new(move || order.encode(&events))));
            }
            chunks.push(count);
            manifest.parts.push(Part { name: ORDER.to_owned(), head, chunks: Vec::new() });
        }
        self.flight = Some(Flight { manifest, chunks, captured: false, results_are_out: false });
    }

    /// The results of all rows before the snapshot are out; the copy of `patterns` begins.
    pub fn results_are_out(&mut self, patterns: Option<&mut findings::Stage>) {
        let Some(flight) = &mut self.flight else { return };
        flight.results_are_out = true;
        let Some(head) = patterns.map(findings::Stage::begin_capture) else { return };
        let mut add = |name: String, head: serde_json::Value, count: usize| {
            flight.chunks.push(count);
            flight.manifest.parts.push(Part { name, head, chunks: Vec::new() });
        };
        head.parts().into_iter().for_each(|(name, count)| add(name, serde_json::Value::Null, count));
        add(PATTERNS.to_owned(), serde_json::to_value(&head).expect("plain data"), 0);
    }

    /// Copies some more of the state, as long as a batch may wait; or, to the end, all of it.
    pub fn step(
        &mut self,
        mut stage: Option<&mut Stage>,
        mut patterns: Option<&mut findings::Stage>,
        to_the_end: bool,
    ) -> Result<(), Failure> {
        let mut words = 0;
        while self.flight.is_some() && (to_the_end || words < STEP_WORDS) {
            while let Some(job) = self.pending.pop_front() {
                if !self.send(job, to_the_end)? {
                    return Ok(());
                }
            }
            let Some(flight) = &mut self.flight else { return Ok(()) };
            if !flight.captured {
                match stage.as_mut().map_or(Ok(None), |stage| stage.windows.capture())? {
                    Some((group, number, chunk)) => {
                        words += chunk.words();
                        self.pending.push_back(Job::Put(format!("{WINDOWS}{group}"), number, Box::new(move || Ok(chunk.encode()))));
                    }
                    None => flight.captured = true,
                }
                continue;
            }
            if !flight.results_are_out {
                return Ok(());
            }
            if let Some(chunk) = patterns.as_mut().map_or(Ok(None), |patterns| patterns.capture())? {
                words += chunk.words();
                let (part, number) = (chunk.part.clone(), chunk.number);
                self.pending.push_back(Job::Put(part, number, Box::new(move || Ok(chunk.encode()))));
                continue;
            }
            if let Some(Flight { manifest, chunks, .. }) = self.flight.take() {
                self.told.last = (manifest.number, manifest.rows);
                self.told.written += 1;
                // It is short, and nothing comes after it but the next snapshot.
                self.send(Job::Commit(manifest, chunks), true)?;
            }
        }
        Ok(())
    }

    /// Hands a job to the writer; `false`: it has to wait.
    fn send(&mut self, job: Job, wait: bool) -> Result<bool, Failure> {
        let Some(queue) = &self.queue else { return Ok(true) };
        let gone = match queue.try_send(job) {
            Ok(()) => return Ok(true),
            Err(TrySendError::Full(job)) if wait => queue.send(job).is_err(),
            Err(TrySendError::Full(job)) => {
                self.pending.push_front(job);
                return Ok(false);
            }
            Err(TrySendError::Disconnected(_)) => true,
        };
        if gone { self.join().map(|()| true) } else { Ok(true) }
    }

    /// Takes the last snapshot, once all results are out.
    pub fn finish(
        mut self,
        reader: &EventReader,
        mut stage: Option<&mut Stage>,
        mut patterns: Option<&mut findings::Stage>,
        artifact: &Artifact,
    ) -> Result<Told, Failure> {
        self.begin(reader, stage.as_deref_mut(), artifact);
        self.results_are_out(patterns.as_deref_mut());
        self.step(stage, patterns, true)?;
        self.join()?;
        Ok(self.told.clone())
    }

    /// Waits until all is written.
    fn join(&mut self) -> Result<(), Failure> {
        self.queue = None;
        let ended = self.writer.take().map(JoinHandle::join);
        match ended {
            Some(Ok(written)) => Ok(written?),
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            // The run has failed of something else; what was not committed does not count.
            let _ = writer.join();
        }
    }
}

/// Packs and writes chunks as they come, and commits; `last` is the snapshot that the run went on from.
fn write(folder: Snapshots, last: Option<Manifest>, jobs: &Receiver<Job>) -> Result<(), String> {
    let mut writer = SnapshotWriter::new(folder, last);
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Put(part, number, encode) => writer.put(part, number, &encode()?)?,
            Job::Commit(manifest, chunks) => writer.commit(manifest, chunks)?,
        }
    }
    Ok(())
}
