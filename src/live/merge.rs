//! Keeping house: loose rules into parts, small parts into larger ones, and everything into a new base, while the rules change.
//!
//! Both compile the rules that are alive in one snapshot, which takes its time, and then put the result in the place of what it was made of in the snapshot that is current by
//! then. What has died between the two is looked up in the result by its id, and is dead there as well. If the rules went back meanwhile, so that something lives again that was not
//! compiled, or what was compiled is in no part any more, the result is dropped.

use super::dead::Dead;
use super::part::{Loose, Part, Rank};
use super::snapshot::{LooseState, PartState, Snapshot, Tenants};
use super::{GROWTH, Shared, lock};
use crate::compile::Context;
use crate::engine::router::Choice;
use crate::id::RuleId;
use crate::rule::{Limits, Rule};
use crate::tables::ArtifactError;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::{Builder, JoinHandle};

/// The limits under which rules that were within `limits` are compiled again, from canonical text.
pub fn again(limits: &Limits) -> Limits {
    let Limits { condition_bytes, nodes, list_entries, nesting, .. } = Limits::unlimited();
    Limits { condition_bytes, nodes, list_entries, nesting: nesting.max(limits.nesting * 2), ..limits.clone() }
}

/// The first of the parts that the loose rules are to be compiled together with.
pub fn first_input(snapshot: &Snapshot, pinned: usize) -> usize {
    let mut rules = snapshot.loose.len();
    let mut first = snapshot.parts.len();
    while first > pinned.max(1) && snapshot.parts[first - 1].alive() < GROWTH * rules {
        first -= 1;
        rules += snapshot.parts[first].alive();
    }
    first
}

/// One part of the living rules of some parts and of loose ones.
pub fn compiled(shared: &Shared, parts: &[PartState], loose: &[LooseState], choice: Choice) -> Result<Part, String> {
    let limits = again(&shared.limits);
    let context = Context { threads: shared.settings.threads, ..shared.context(&limits) };
    let mut damaged = None;
    let part = Part::compile(Living::new(parts, loose, &shared.stop, &mut damaged), &context, choice);
    damaged.map_or(part, |error| Err(error.to_string()))
}

/// The living rules of parts and loose ones, ascending by rank.
struct Living<'a> {
    cursors: Vec<Cursor<'a>>,
    /// Descending by rank.
    loose: Vec<&'a Loose>,
    stop: &'a AtomicBool,
    damaged: &'a mut Option<ArtifactError>,
}

/// A place among the rules of a part.
struct Cursor<'a> {
    state: &'a PartState,
    next: u32,
    first_text: RuleId,
    texts: Vec<String>,
}

impl<'a> Living<'a> {
    fn new(parts: &'a [PartState], loose: &'a [LooseState], stop: &'a AtomicBool, damaged: &'a mut Option<ArtifactError>) -> Self {
        let cursor = |state| Cursor { state, next: 0, first_text: RuleId(0), texts: Vec::new() };
        let mut loose: Vec<&Loose> = loose.iter().map(|state| &*state.loose).collect();
        loose.sort_unstable_by_key(|loose| std::cmp::Reverse(loose.rank));
        Self { cursors: parts.iter().map(cursor).collect(), loose, stop, damaged }
    }
}

impl Cursor<'_> {
    fn rank(&mut self) -> Option<Rank> {
        let PartState { part, dead, .. } = self.state;
        while (self.next as usize) < part.len() && dead.contains(RuleId(self.next)) {
            self.next += 1;
        }
        ((self.next as usize) < part.len()).then(|| part.rank(RuleId(self.next)))
    }

    fn take(&mut self) -> Result<Rule, ArtifactError> {
        let rule = RuleId(self.next);
        self.next += 1;
        let part = &self.state.part;
        if self.texts.len() <= (rule.0 - self.first_text.0) as usize {
            (self.first_text, self.texts) = part.texts(rule)?;
        }
        part.rule(rule, Some(&self.texts[(rule.0 - self.first_text.0) as usize]))
    }
}

impl Iterator for Living<'_> {
    type Item = (Rank, Rule);

    fn next(&mut self) -> Option<(Rank, Rule)> {
        if self.stop.load(Ordering::Relaxed) || self.damaged.is_some() {
            return None;
        }
        let of_parts = self.cursors.iter_mut().enumerate().filter_map(|(at, cursor)| cursor.rank().map(|rank| (rank, at))).min();
        if let Some(loose) = self.loose.pop_if(|loose| of_parts.is_none_or(|(rank, _)| loose.rank < rank)) {
            return Some((loose.rank, loose.rule.clone()));
        }
        let (rank, at) = of_parts?;
        match self.cursors[at].take() {
            Ok(rule) => Some((rank, rule)),
            Err(error) => {
                *self.damaged = Some(error);
                None
            }
        }
    }
}

/// Rules that were compiled: those that were alive in some parts of a snapshot, and its loose rules.
struct Inputs {
    parts: Vec<PartState>,
    loose: Vec<LooseState>,
}

impl Inputs {
    fn has_part(&self, state: &PartState) -> bool {
        self.parts.iter().any(|input| Arc::ptr_eq(&input.part, &state.part))
    }

    fn has_loose(&self, state: &LooseState) -> bool {
        self.loose.iter().any(|input| Arc::ptr_eq(&input.loose, &state.loose))
    }

    /// Marks dead in `part`, which was made of the inputs, what has died since, and takes the inputs to where they are in `after`.
    /// `false` where `after` is no successor of what was compiled.
    fn follow(&mut self, after: &Snapshot, part: &Part, dead: &mut Dead) -> bool {
        let mut died = |id: &str| part.find(id).map(|rule| dead.insert(rule)).is_some();
        for input in &mut self.parts {
            let Some(now) = after.parts.iter().find(|state| Arc::ptr_eq(&state.part, &input.part)) else { return false };
            let lives_again = input.dead.since(&now.dead).next().is_some();
            if lives_again || !now.dead.since(&input.dead).all(|rule| died(now.part.artifact().rule_name(rule))) {
                return false;
            }
            input.dead = Arc::clone(&now.dead);
        }
        let kept = |input: &LooseState| after.loose.iter().any(|state| Arc::ptr_eq(&state.loose, &input.loose));
        self.loose.iter().filter(|input| !kept(input)).all(|input| died(&input.loose.rule.id))
    }
}

impl Shared {
    /// Merges the loose rules with the parts that are not much larger.
    pub(super) fn merge(&self) -> Result<bool, String> {
        let merging = lock(&self.merging);
        let merged = self.merge_now();
        drop(merging);
        merged
    }

    /// The lock `merging` is held.
    fn merge_now(&self) -> Result<bool, String> {
        let (before, first) = {
            let writer = lock(&self.writer);
            let before = self.current();
            let first = first_input(&before, writer.pinned);
            (before, first)
        };
        if before.loose.is_empty() {
            return Ok(false);
        }
        let part = compiled(self, &before.parts[first..], &before.loose, Choice::Cpu)?;
        let mut inputs = Inputs { parts: before.parts[first..].to_vec(), loose: before.loose.clone() };
        let mut dead = Dead::default();
        let writer = lock(&self.writer);
        let current = self.current();
        if self.stop.load(Ordering::Relaxed) || !inputs.follow(&current, &part, &mut dead) {
            return Ok(false);
        }
        let mut next = (*current).clone();
        next.parts.retain(|state| !inputs.has_part(state));
        next.loose.retain(|state| !inputs.has_loose(state));
        if dead.len() < part.len() {
            next.parts.push(PartState::new(Arc::new(part), Arc::new(dead), &next.tenants));
        }
        next.number();
        self.publish(Arc::new(next));
        drop(writer);
        Ok(true)
    }

    /// Compiles everything into a new base.
    pub(super) fn compact(&self) -> Result<bool, String> {
        let compacting = lock(&self.compacting);
        let before = {
            let _merging = lock(&self.merging);
            self.merge_now()?;
            let mut writer = lock(&self.writer);
            let before = self.current();
            writer.pinned = before.parts.len();
            before
        };
        let done = self.compact_from(&before);
        lock(&self.writer).pinned = 0;
        drop(compacting);
        done
    }

    pub(super) fn compact_from(&self, before: &Snapshot) -> Result<bool, String> {
        let base = Arc::new(compiled(self, &before.parts, &[], self.settings.choice)?);
        let tenants = Arc::new(Tenants::of(&base));
        let mut inputs = Inputs { parts: before.parts.clone(), loose: Vec::new() };
        let mut dead = Dead::default();
        // Most of what died meanwhile is looked up before the writers have to wait.
        if self.stop.load(Ordering::Relaxed) || !inputs.follow(&self.current(), &base, &mut dead) {
            return Ok(false);
        }
        let writer = lock(&self.writer);
        let current = self.current();
        if !inputs.follow(&current, &base, &mut dead) {
            return Ok(false);
        }
        let mut next = (*current).clone();
        next.parts = vec![PartState::new(base, Arc::new(dead), &tenants)];
        let newer = current.parts.iter().filter(|state| !inputs.has_part(state));
        next.parts.extend(newer.map(|state| PartState::new(Arc::clone(&state.part), Arc::clone(&state.dead), &tenants)));
        next.loose = current.loose.iter().map(|state| LooseState::new(Arc::clone(&state.loose), &tenants)).collect();
        next.tenants = tenants;
        next.number();
        self.publish(Arc::new(next));
        drop(writer);
        Ok(true)
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
