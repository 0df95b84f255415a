//! Rules that change while they are in service: one rule, or a batch of changes, added, replaced, switched off or removed without compiling the others again.
//!
//! ```text
//! snapshot = base            the artifact, as compiled; rules that changed since are marked dead
//!          + settled rules   newer rules, by the codes of the base
//!          + loose rules     the newest of them, each looked at by itself
//! ```
//! A change makes a new [`Snapshot`], which shares all but a few kilobytes with the one before, and puts it in service by switching a pointer: a batch that has begun
//! ends with the snapshot that it began with, the next one sees all of the change. The last snapshots are kept, so going back is a switch, too.
//!
//! A batch is encoded once, for the base. A rule that comes is brought into the codes of the base (`codes`); where they do not say all, because its bounds lie between thresholds of
//! the base or it asks for what is no column there, its condition is evaluated on the few rows that are left open. So loose rules cost little, and *merging* them into the
//! settled ones, which happens in the background, takes milliseconds. Once much has changed, *compaction* makes a new base of everything, on a thread that the system
//! prefers others to, where it can be told so. Neither changes an answer, nor the name of the generation.
//!
//! The rules have an order, as in a file: a rule that is added comes last, one that is replaced or switched keeps its place. Whatever was done to the rules,
//! [`Snapshot::hits`] are those that compiling them all, in this order, would give.
//!
//! Memory: 8 to 16 bytes a rule for looking up ids, 8 a rule for the order once there was a compaction, two to four kilobytes for each rule that is newer than the base, and a quarter of a
//! bit a rule for each snapshot that is kept while everything changes. A kept snapshot keeps its base: until the history has moved on, a compaction means two of them.

mod base;
mod change;
mod codes;
mod dead;
mod entries;
mod merge;
mod newer;
mod rebuild;
mod settled;
mod snapshot;
#[cfg(test)]
mod tests;
mod wide;

pub use base::rules_of;
pub use change::Change;
pub use snapshot::Snapshot;

use crate::compile::Context;
use crate::engine::router::Choice;
use crate::event::Schema;
use crate::rule::lists::Lists;
use crate::rule::window::Columns;
use crate::rule::{Diagnostic, Limits};
use crate::tables::Artifact;
use base::Base;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;

/// From so many loose rules on whoever makes a change settles them, rather than the background.
const LOOSE_MAX: usize = 512;

/// How a live engine keeps house.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What matches the base. Newer rules are few: the CPU matches them.
    pub choice: Choice,
    /// Snapshots that are kept to go back to.
    pub history: usize,
    /// Loose rules from which on they are settled; or a share of the settled ones, whichever is more.
    pub loose: usize,
    pub loose_share: f64,
    /// Changed rules from which on the base is compiled again: a share of the base's rules, and a number below which it is not worth it.
    pub compact_share: f64,
    pub compact_min: usize,
    /// Threads that compile a new base.
    pub threads: usize,
    /// Whether merging and compaction go on by themselves, on two threads of the engine's own; else they are done when called.
    pub background: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            choice: Choice::Auto,
            history: 32,
            loose: 64,
            loose_share: 1.0 / 256.0,
            compact_share: 0.125,
            compact_min: 8192,
            threads: 1,
            background: true,
        }
    }
}

/// Rules in service that can be changed. Shared by all threads; matching waits for nobody but to copy a pointer.
pub struct LiveEngine {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What the engine's own threads share with it.
struct Shared {
    current: RwLock<Arc<Snapshot>>,
    /// Held while a new snapshot is made of the current one.
    writer: Mutex<Writer>,
    /// Held while rules are settled, and while a base is compiled: one of each at a time.
    merging: Mutex<()>,
    compacting: Mutex<()>,
    wanted: Mutex<Wanted>,
    wake: Condvar,
    stop: AtomicBool,
    /// Of the events.
    schema: Schema,
    lists: Lists,
    limits: Limits,
    settings: Settings,
}

#[derive(Default)]
struct Writer {
    /// Snapshots that were in service, the latest last.
    history: VecDeque<Arc<Snapshot>>,
}

/// What the background threads are to do.
#[derive(Default)]
struct Wanted {
    merge: bool,
    compact: bool,
    /// Why the last attempt failed.
    trouble: Option<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is half done where a lock is held: snapshots are put in service whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The name of a generation that is not, or no longer, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownGeneration(pub String);

impl fmt::Display for UnknownGeneration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the generation {} is not among those that are kept; LiveEngine::history names them", self.0)
    }
}

impl std::error::Error for UnknownGeneration {}

impl LiveEngine {
    /// Puts an artifact in service; one of no rules is a beginning, too. `lists` and `limits` are for rules that are added later.
    ///
    /// # Errors
    /// When the artifact is damaged, or the GPU was asked for and cannot be had.
    pub fn new(artifact: Arc<Artifact>, lists: Lists, limits: Limits, settings: Settings) -> Result<Self, String> {
        let schema = artifact.event_schema().clone();
        let snapshot = Snapshot::new(Arc::new(Base::new(artifact, None, settings.choice)?));
        let background = settings.background;
        let shared = Arc::new(Shared {
            current: RwLock::new(Arc::new(snapshot)),
            writer: Mutex::default(),
            merging: Mutex::default(),
            compacting: Mutex::default(),
            wanted: Mutex::default(),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
            schema,
            lists,
            limits,
            settings,
        });
        let mut engine = Self { shared, threads: Vec::new() };
        if background {
            engine.threads = merge::spawn(&engine.shared).map_err(|error| format!("no thread for merging rules: {error}"))?;
        }
        Ok(engine)
    }

    /// The rules in service now. Match a batch, or as many as belong together, with one snapshot.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.current()
    }

    /// Makes all the changes, in order, or none of them. When this returns, every later [`LiveEngine::snapshot`] has them.
    ///
    /// # Errors
    /// What is wrong with any of them: as compiling would say it, and ids that are there already or are not.
    pub fn apply(&self, changes: &[Change]) -> Result<Arc<Snapshot>, Vec<Diagnostic>> {
        self.put(changes, None, None)
    }

    /// Makes all the changes, of patterns or over other windows too, or none of them: all rules are compiled with them, which takes as long as that does. From then on
    /// conditions may name the windows of `columns`, patterns those of them that have names, and none may name others. Other changes wait meanwhile; batches do not.
    ///
    /// # Errors
    /// As [`LiveEngine::apply`]; rules in service that need a window that is not among `columns`.
    pub fn rebuild(&self, changes: &[Change], columns: Columns) -> Result<Arc<Snapshot>, Vec<Diagnostic>> {
        self.put(changes, Some(columns), None)
    }

    /// Makes all the changes as [`LiveEngine::apply`] does, or where there are `columns` as [`LiveEngine::rebuild`]. The generation is called `name`, which who has engines of the same
    /// rules agree on makes of the rules, rather than of the way that led to them.
    ///
    /// # Errors
    /// As those two.
    pub fn put_as(&self, name: &str, changes: &[Change], columns: Option<Columns>) -> Result<Arc<Snapshot>, Vec<Diagnostic>> {
        self.put(changes, columns, Some(name))
    }

    /// The rules after these changes of `before`, which is of this engine; they are not put in service. See [`LiveEngine::put_as`].
    ///
    /// # Errors
    /// As there.
    pub fn draft(
        &self,
        before: &Arc<Snapshot>,
        name: Option<&str>,
        changes: &[Change],
        columns: Option<Columns>,
    ) -> Result<Arc<Snapshot>, Vec<Diagnostic>> {
        let mut next = match columns {
            None => change::applied(&self.shared, before, changes)?,
            Some(columns) => rebuild::rebuilt(&self.shared, before, changes, columns)?,
        };
        name.into_iter().for_each(|name| next.generation = name.into());
        Ok(Arc::new(next))
    }

    fn put(&self, changes: &[Change], columns: Option<Columns>, name: Option<&str>) -> Result<Arc<Snapshot>, Vec<Diagnostic>> {
        let mut writer = lock(&self.shared.writer);
        let before = self.shared.current();
        let next = self.draft(&before, name, changes, columns)?;
        writer.remember(before, &self.shared.settings);
        self.shared.publish(Arc::clone(&next));
        drop(writer);
        self.shared.keep_house(&next);
        Ok(next)
    }

    /// Goes back to a generation that is kept. The one left behind is kept in its place: one can go back to it, too.
    ///
    /// # Errors
    /// When no generation of this name is kept.
    pub fn rollback(&self, generation: &str) -> Result<Arc<Snapshot>, UnknownGeneration> {
        let mut writer = lock(&self.shared.writer);
        let current = self.shared.current();
        if **current.generation() == *generation {
            return Ok(current);
        }
        let at = writer.history.iter().rposition(|kept| **kept.generation() == *generation);
        let target = at.and_then(|at| writer.history.remove(at)).ok_or_else(|| UnknownGeneration(generation.to_owned()))?;
        writer.remember(current, &self.shared.settings);
        self.shared.publish(Arc::clone(&target));
        drop(writer);
        self.shared.keep_house(&target);
        Ok(target)
    }

    /// The generations that are kept, in the order in which they were in service; the one in service is not among them.
    #[must_use]
    pub fn history(&self) -> Vec<Arc<str>> {
        lock(&self.shared.writer).history.iter().map(|kept| Arc::clone(kept.generation())).collect()
    }

    /// Settles the loose rules now. `false` where there was nothing to do, or the rules went back meanwhile.
    ///
    /// # Errors
    /// When rules in service do not compile: their artifact is damaged.
    pub fn merge(&self) -> Result<bool, String> {
        self.shared.merge()
    }

    /// Compiles all rules into a new base now, while they may change. `false` where the rules went back meanwhile.
    ///
    /// # Errors
    /// When rules in service do not compile: their artifact is damaged; or when the GPU was asked for and cannot be had.
    pub fn compact(&self) -> Result<bool, String> {
        self.shared.compact()
    }

    /// Why merging or compaction last failed in the background, if they did. Answers stay right; they get slower to find.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        lock(&self.shared.wanted).trouble.clone()
    }
}

impl fmt::Debug for LiveEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveEngine").field("snapshot", &self.snapshot()).finish_non_exhaustive()
    }
}

impl Drop for LiveEngine {
    /// Waits for the engine's threads. One that is compiling stops reading rules, and ends with those it has.
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Whoever is about to wait holds this lock, and has not looked at `stop` yet or already waits.
        drop(lock(&self.shared.wanted));
        self.shared.wake.notify_all();
        for thread in self.threads.drain(..) {
            // A panic there has been told by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Writer {
    fn remember(&mut self, snapshot: Arc<Snapshot>, settings: &Settings) {
        self.history.push_back(snapshot);
        while self.history.len() > settings.history {
            self.history.pop_front();
        }
    }
}

impl Shared {
    fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts a snapshot in service. The writer's lock is held.
    fn publish(&self, next: Arc<Snapshot>) {
        let before = std::mem::replace(&mut *self.current.write().unwrap_or_else(PoisonError::into_inner), next);
        drop(before);
    }

    const fn context<'a>(&'a self, limits: &'a Limits) -> Context<'a> {
        Context { schema: &self.schema, lists: &self.lists, limits, threads: 1 }
    }

    fn wants_merge(&self, snapshot: &Snapshot) -> bool {
        let share = (snapshot.settled.rules().len() as f64 * self.settings.loose_share) as usize;
        snapshot.loose.len() >= share.max(self.settings.loose).max(1)
    }

    fn wants_compaction(&self, snapshot: &Snapshot) -> bool {
        let share = (snapshot.base.len() as f64 * self.settings.compact_share) as usize;
        snapshot.changes() >= share.max(self.settings.compact_min).max(1)
    }

    /// Wakes the threads that have something to do.
    fn keep_house(&self, snapshot: &Snapshot) {
        let (merge, compact) = (self.wants_merge(snapshot), self.wants_compaction(snapshot));
        if self.settings.background && (merge || compact) {
            let mut wanted = lock(&self.wanted);
            wanted.merge |= merge;
            wanted.compact |= compact;
            drop(wanted);
            self.wake.notify_all();
        }
    }
}
