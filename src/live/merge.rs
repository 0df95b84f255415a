//! Keeping house: loose rules are settled, and everything is compiled into a new base, while the rules change.
//!
//! Both make something of the rules that are alive in one snapshot, which takes its time, and then put it in the place of what it was made of in the snapshot that is current by
//! then. Which of those rules have died between the two is looked up by what they are; they are dead there as well. If the rules went back meanwhile, so that something of the base
//! lives again that was not compiled, the result is dropped.

use super::base::{Base, Rank};
use super::dead::Dead;
use super::newer::{Changed, Newer, Strangers};
use super::settled::Settled;
use super::snapshot::Snapshot;
use super::{Shared, lock};
use crate::compile::Context;
use crate::id::RuleId;
use crate::rule::{Limits, Rule};
use crate::tables::ArtifactError;
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::{Builder, JoinHandle};

/// The limits under which rules that were within `limits` are compiled again, from canonical text.
pub fn again(limits: &Limits) -> Limits {
    let Limits { condition_bytes, nodes, list_entries, nesting, .. } = Limits::unlimited();
    Limits { condition_bytes, nodes, list_entries, nesting: nesting.max(limits.nesting * 2), ..limits.clone() }
}

/// A base of the rules that are alive in a snapshot.
pub fn compiled(shared: &Shared, snapshot: &Snapshot) -> Result<Base, String> {
    let limits = again(&shared.limits);
    let context = Context { threads: shared.settings.threads, ..shared.context(&limits) };
    let mut damaged = None;
    let windows = snapshot.base.windows().clone();
    let base = Base::compile(Living::new(snapshot, &shared.stop, &mut damaged), windows, &context, shared.settings.choice);
    damaged.map_or(base, |error| Err(error.to_string()))
}

/// The living rules of a snapshot, ascending by rank.
pub struct Living<'a> {
    snapshot: &'a Snapshot,
    /// The next rule of the base, and the texts of the block that it is in.
    next: RuleId,
    first_text: RuleId,
    texts: Vec<String>,
    /// Descending by rank.
    newer: Vec<&'a Changed>,
    stop: &'a AtomicBool,
    damaged: &'a mut Option<ArtifactError>,
}

impl<'a> Living<'a> {
    pub fn new(snapshot: &'a Snapshot, stop: &'a AtomicBool, damaged: &'a mut Option<ArtifactError>) -> Self {
        let mut newer: Vec<&Changed> = snapshot.newer().map(|newer| &*newer.changed).collect();
        newer.sort_unstable_by_key(|changed| std::cmp::Reverse(changed.rank));
        Self { snapshot, next: RuleId(0), first_text: RuleId(0), texts: Vec::new(), newer, stop, damaged }
    }

    fn next_rank(&mut self) -> Option<Rank> {
        let Snapshot { base, dead, .. } = self.snapshot;
        while self.next.index() < base.len() && dead.contains(self.next) {
            self.next.0 += 1;
        }
        (self.next.index() < base.len()).then(|| base.rank(self.next))
    }

    fn take(&mut self) -> Result<Rule, ArtifactError> {
        let (rule, base) = (self.next, &self.snapshot.base);
        self.next.0 += 1;
        if self.texts.len() <= (rule.0 - self.first_text.0) as usize {
            (self.first_text, self.texts) = base.texts(rule)?;
        }
        base.rule(rule, Some(&self.texts[(rule.0 - self.first_text.0) as usize]))
    }
}

impl Iterator for Living<'_> {
    type Item = (Rank, Rule);

    fn next(&mut self) -> Option<(Rank, Rule)> {
        if self.stop.load(Ordering::Relaxed) || self.damaged.is_some() {
            return None;
        }
        let of_base = self.next_rank();
        if let Some(changed) = self.newer.pop_if(|changed| of_base.is_none_or(|rank| changed.rank < rank)) {
            return Some((changed.rank, changed.rule.clone()));
        }
        let rank = of_base?;
        match self.take() {
            Ok(rule) => Some((rank, rule)),
            Err(error) => {
                *self.damaged = Some(error);
                None
            }
        }
    }
}

/// Rules as things: what two snapshots share is the same in memory.
type Rules = HashSet<*const Changed, foldhash::fast::FixedState>;

fn rules<'a>(newer: impl Iterator<Item = &'a Arc<Newer>>) -> Rules {
    newer.map(|newer| Arc::as_ptr(&newer.changed)).collect()
}

impl Snapshot {
    /// The same rules where those of `before`, an earlier state, were settled. `None` where this is no later state of it.
    pub(super) fn after_merge(&self, before: &Self, settled: &Arc<Settled>) -> Option<Self> {
        let lives_again = before.settled_dead.since(&self.settled_dead).next().is_some();
        if !Arc::ptr_eq(&self.base, &before.base) || !Arc::ptr_eq(&self.settled, &before.settled) || lives_again {
            return None;
        }
        let (inputs, loose) = (rules(before.loose.iter()), rules(self.loose.iter()));
        let died_loose = before.loose.iter().filter(|newer| !loose.contains(&Arc::as_ptr(&newer.changed)));
        let died_settled = self.settled_dead.since(&before.settled_dead).map(|rule| self.settled.rule(rule));
        let mut dead = Dead::default();
        died_loose.chain(died_settled).filter_map(|newer| settled.find(&newer.changed.rule.id)).for_each(|rule| dead.insert(rule));
        let mut next = Self { settled: Arc::clone(settled), settled_dead: Arc::new(dead), ..self.clone() };
        next.loose.retain(|newer| !inputs.contains(&Arc::as_ptr(&newer.changed)));
        Some(next)
    }
}

/// A new base in the making, of the rules alive in `before`.
pub struct Rebase<'a> {
    before: &'a Snapshot,
    base: Arc<Base>,
    /// Newer rules that are in it.
    inputs: Rules,
    /// Those that are not, coded for it.
    coded: HashMap<*const Changed, Arc<Newer>, foldhash::fast::FixedState>,
    settled: Arc<Settled>,
    strangers: Arc<Strangers>,
    /// The limit of a condition's terms.
    terms: usize,
}

impl<'a> Rebase<'a> {
    pub(super) fn new(before: &'a Snapshot, base: Base, terms: usize) -> Self {
        let inputs = rules(before.newer());
        Self { before, base: Arc::new(base), inputs, coded: HashMap::default(), settled: Arc::default(), strangers: Arc::default(), terms }
    }

    /// The rules of a snapshot that the base does not have, in its codes.
    fn newer(&mut self, snapshot: &Snapshot) -> Vec<Arc<Newer>> {
        let Self { base, inputs, coded, strangers, terms, .. } = self;
        let newer = snapshot.newer().filter(|newer| !inputs.contains(&Arc::as_ptr(&newer.changed)));
        let code = |newer: &Arc<Newer>| {
            let again = || Arc::new(Newer::new(Arc::clone(&newer.changed), base, strangers, *terms));
            Arc::clone(coded.entry(Arc::as_ptr(&newer.changed)).or_insert_with(again))
        };
        newer.map(code).collect()
    }

    /// Settles those that a snapshot has, before the writers have to wait.
    pub(super) fn settle(&mut self, snapshot: &Snapshot) {
        self.settled = Arc::new(Settled::new(self.newer(snapshot)));
    }

    /// The rules of `current` over the new base. `None` where that is no later state of what was compiled.
    pub(super) fn of(&mut self, current: &Snapshot) -> Option<Snapshot> {
        let before = self.before;
        if !Arc::ptr_eq(&current.base, &before.base) || before.dead.since(&current.dead).next().is_some() {
            return None;
        }
        let alive = rules(current.newer());
        let newer = self.newer(current);
        let base = &self.base;
        let died_newer = before.newer().filter(|newer| !alive.contains(&Arc::as_ptr(&newer.changed)));
        let died_base = current.dead.since(&before.dead).map(|rule| before.base.artifact().rule_name(rule));
        let mut dead = Dead::default();
        let ids = died_newer.map(|newer| &*newer.changed.rule.id).chain(died_base);
        ids.filter_map(|id| base.find(id)).for_each(|rule| dead.insert(rule));
        let settled = rules(self.settled.rules().iter());
        let mut settled_dead = Dead::default();
        let gone = self.settled.rules().iter().enumerate().filter(|(_, newer)| !alive.contains(&Arc::as_ptr(&newer.changed)));
        gone.for_each(|(rule, _)| settled_dead.insert(RuleId::new(rule)));
        Some(Snapshot {
            base: Arc::clone(base),
            dead: Arc::new(dead),
            settled: Arc::clone(&self.settled),
            settled_dead: Arc::new(settled_dead),
            loose: newer.into_iter().filter(|newer| !settled.contains(&Arc::as_ptr(&newer.changed))).collect(),
            strangers: Arc::clone(&self.strangers),
            ..current.clone()
        })
    }
}

impl Shared {
    /// Settles the loose rules.
    pub(super) fn merge(&self) -> Result<bool, String> {
        let _merging = lock(&self.merging);
        let before = self.current();
        if before.loose.is_empty() {
            return Ok(false);
        }
        let settled = before.settled().settled;
        let writer = lock(&self.writer);
        let next = self.current().after_merge(&before, &settled).filter(|_| !self.stop.load(Ordering::Relaxed));
        let merged = next.is_some();
        next.into_iter().for_each(|next| self.publish(Arc::new(next)));
        drop(writer);
        Ok(merged)
    }

    /// Compiles everything into a new base.
    pub(super) fn compact(&self) -> Result<bool, String> {
        let compacting = lock(&self.compacting);
        let done = self.compact_from(&self.current());
        drop(compacting);
        done
    }

    pub(super) fn compact_from(&self, before: &Snapshot) -> Result<bool, String> {
        let base = in_background(|| compiled(self, before))?;
        if self.stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let mut rebase = Rebase::new(before, base, self.limits.terms);
        rebase.settle(&self.current());
        let writer = lock(&self.writer);
        let next = rebase.of(&self.current());
        let done = next.is_some();
        next.into_iter().for_each(|next| self.publish(Arc::new(next)));
        drop(writer);
        Ok(done)
    }

    /// What a background thread does until the engine is dropped: waits for `wanted`, then works while there is need.
    fn work(
        &self,
        wanted: fn(&mut super::Wanted) -> &mut bool,
        needed: fn(&Self, &Snapshot) -> bool,
        work: fn(&Self) -> Result<bool, String>,
    ) {
        loop {
            let mut state = lock(&self.wanted);
            while !std::mem::take(wanted(&mut state)) {
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            drop(state);
            while needed(self, &self.current()) && !self.stop.load(Ordering::Relaxed) {
                let done = work(self);
                if let Err(problem) = &done {
                    tracing::warn!(problem, "changed rules cannot be compiled together; they stay as they are");
                }
                // What failed is tried again at the next change, not at once.
                let failed = done.is_err();
                lock(&self.wanted).trouble = done.err();
                if failed {
                    break;
                }
            }
        }
    }
}

/// Does long work on a thread of its own, to which the system prefers all others that have something to do.
fn in_background<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let on_thread = || {
        #[cfg(target_os = "linux")]
        {
            // SAFETY: the C library has it on every Linux, and takes three numbers.
            unsafe extern "C" {
                fn setpriority(which: u32, who: u32, nice: i32) -> i32;
            }
            // SAFETY: on Linux process number 0 is the thread that calls, and those that it begins later; where it is refused, nothing has changed.
            let _ = unsafe { setpriority(0, 0, 19) };
        }
        work()
    };
    std::thread::scope(|scope| scope.spawn(on_thread).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

/// The threads that keep house.
pub fn spawn(shared: &Arc<Shared>) -> io::Result<Vec<JoinHandle<()>>> {
    let merger = Arc::clone(shared);
    let compactor = Arc::clone(shared);
    Ok(vec![
        Builder::new()
            .name("merge".to_owned())
            .spawn(move || merger.work(|wanted| &mut wanted.merge, Shared::wants_merge, Shared::merge))?,
        Builder::new()
            .name("compact".to_owned())
            .spawn(move || compactor.work(|wanted| &mut wanted.compact, Shared::wants_compaction, Shared::compact))?,
    ])
}
