//! Changes of single rules, and the snapshot that they make of another.

use super::newer::{Changed, Newer};
use super::snapshot::{Place, Snapshot};
use super::{LOOSE_MAX, Shared, merge};
use crate::compile::{self, Checked};
use crate::rule::{Clause, Diagnostic, Limits, Rule, Severity, Status, print};
use std::collections::HashMap;
use std::sync::Arc;

/// A change of one rule.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A rule of a new id. It comes after all others.
    Add(Rule),
    /// Another rule for the one of the same id, in its place.
    Replace(Rule),
    /// The rule of this id is no more.
    Remove(Arc<str>),
    /// The rule of this id is live, shadow or off from now on.
    Status(Arc<str>, Status),
}

impl Change {
    /// The id of the rule that is changed.
    #[must_use]
    pub const fn id(&self) -> &Arc<str> {
        match self {
            Self::Add(rule) | Self::Replace(rule) => &rule.id,
            Self::Remove(id) | Self::Status(id, _) => id,
        }
    }
}

/// The snapshot after `changes`.
pub fn applied(shared: &Shared, before: &Snapshot, changes: &[Change]) -> Result<Snapshot, Vec<Diagnostic>> {
    let mut draft = Draft { shared, rules: before.rules(), next: before.clone(), places: None };
    if changes.len() > FEW {
        draft.places = Some(before.loose.iter().map(|newer| Arc::clone(&newer.changed.rule.id)).zip(0..).collect());
    }
    let wrong: Vec<Diagnostic> = changes.iter().filter_map(|change| draft.change(change).err()).flatten().collect();
    if !wrong.is_empty() {
        return Err(wrong);
    }
    // So many are settled by who brings them, rather than looked at one by one for the next batches.
    if draft.next.loose.len() >= LOOSE_MAX {
        draft.next = draft.next.settled();
    }
    Ok(draft.next)
}

/// Changes for which loose rules are looked at one by one, rather than put in a table by their ids.
const FEW: usize = 16;

/// A snapshot that is being made.
struct Draft<'a> {
    shared: &'a Shared,
    rules: usize,
    next: Snapshot,
    /// Where the loose rules are, for many changes.
    places: Option<HashMap<Arc<str>, usize, foldhash::fast::FixedState>>,
}

impl Draft<'_> {
    fn change(&mut self, change: &Change) -> Result<(), Vec<Diagnostic>> {
        let place = match &self.places {
            None => self.next.place(change.id()),
            Some(places) => places.get(change.id()).map(|at| Place::Loose(*at)).or_else(|| self.next.place_compiled(change.id())),
        };
        let there = || place.ok_or_else(|| vec![unknown(change.id())]);
        let limits = &self.shared.limits;
        match change {
            Change::Add(rule) => {
                if place.is_some() {
                    return Err(vec![duplicate(rule)]);
                }
                if self.rules >= limits.rules || self.next.numbered() >= u32::MAX as usize / 2 {
                    return Err(vec![too_many(rule, self.rules)]);
                }
                self.put(None, rule.clone(), limits, ADDED)?;
                self.rules += 1;
            }
            Change::Replace(rule) => self.put(Some(there()?), rule.clone(), limits, REPLACED)?,
            Change::Remove(id) => {
                self.remove(there()?);
                self.rules -= 1;
                self.next.generation = name_of(&self.next.generation, &[&[REMOVED], id.as_bytes()]);
            }
            Change::Status(id, status) => {
                let place = there()?;
                let mut rule = self.next.rule_at(place).map_err(|error| vec![unusable(error.to_string()).with_rule(id)])?;
                rule.status = *status;
                self.put(Some(place), rule, &merge::again(limits), SWITCHED)?;
            }
        }
        Ok(())
    }

    /// Adds a rule, or puts it in the place of another.
    fn put(&mut self, place: Option<Place>, rule: Rule, limits: &Limits, kind: u8) -> Result<(), Vec<Diagnostic>> {
        if rule.clause != Clause::When {
            let primary = "a pattern over several events cannot be changed by itself";
            let refusal = compile::about(&rule, Severity::Error, "pattern-change", primary);
            return Err(vec![refusal.with_hint("LiveEngine::rebuild compiles all rules with it")]);
        }
        let windows = self.next.base.windows();
        let Checked { expr, diagnostics, .. } = compile::check_rule(&rule, windows, &self.shared.context(limits));
        let expr = match expr {
            Some(expr) if !diagnostics.iter().any(Diagnostic::is_error) => expr,
            _ => return Err(diagnostics),
        };
        let condition = print::condition(&expr, windows.schema());
        self.next.generation = name_of_put(&self.next.generation, kind, &rule, &condition);
        let rank = match place {
            Some(place) => {
                let rank = self.next.rank(place);
                self.remove(place);
                rank
            }
            None => {
                self.next.next_rank += 1;
                self.next.next_rank - 1
            }
        };
        if let Some(places) = &mut self.places {
            places.insert(Arc::clone(&rule.id), self.next.loose.len());
        }
        let changed = Arc::new(Changed::new(rank, rule, expr));
        self.next.loose.push(Arc::new(Newer::new(changed, &self.next.base, &mut self.next.strangers, self.shared.limits.terms)));
        Ok(())
    }

    fn remove(&mut self, place: Place) {
        match place {
            Place::Base(rule) => Arc::make_mut(&mut self.next.dead).insert(rule),
            Place::Settled(rule) => Arc::make_mut(&mut self.next.settled_dead).insert(rule),
            Place::Loose(at) => {
                let removed = self.next.loose.swap_remove(at);
                if let Some(places) = &mut self.places {
                    places.remove(&removed.changed.rule.id);
                    self.next.loose.get(at).map(|moved| places.insert(Arc::clone(&moved.changed.rule.id), at));
                }
            }
        }
    }
}

/// What changes are called in the names of generations.
pub const ADDED: u8 = 0;
pub const REPLACED: u8 = 1;
pub const REMOVED: u8 = 2;
pub const SWITCHED: u8 = 3;

/// The name of what there was before and what is done to it.
pub fn name_of(generation: &str, parts: &[&[u8]]) -> Arc<str> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(generation.as_bytes());
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().to_hex().as_str().into()
}

/// The name after a rule with this canonical text was put in service.
pub fn name_of_put(generation: &str, kind: u8, rule: &Rule, text: &str) -> Arc<str> {
    let optional = |name: &Option<Arc<str>>| name.as_ref().map_or_else(Vec::new, |name| [b"=", name.as_bytes()].concat());
    let (kind, attributes) = ([kind], [rule.action as u8, rule.status as u8]);
    let (score, tenant, outcome) = (rule.score.to_le_bytes(), optional(&rule.tenant), optional(&rule.outcome));
    let mut parts: Vec<&[u8]> = vec![&kind, rule.id.as_bytes(), text.as_bytes(), &attributes, &score, &tenant, &outcome];
    parts.extend(rule.tags.iter().map(|tag| tag.as_bytes()));
    name_of(generation, &parts)
}

pub fn duplicate(rule: &Rule) -> Diagnostic {
    let primary = format!("there is a rule with the id `{}` already", rule.id);
    compile::about(rule, Severity::Error, "duplicate-id", primary).with_hint("replace it, or choose another id")
}

pub fn too_many(rule: &Rule, rules: usize) -> Diagnostic {
    compile::about(rule, Severity::Error, "too-many-rules", format!("there are more than {rules} rules"))
}

pub fn unknown(id: &Arc<str>) -> Diagnostic {
    let primary = format!("there is no rule with the id `{id}`");
    Diagnostic::file(Severity::Error, "unknown-rule", "", primary).with_rule(id).with_hint("add it, or correct the id")
}

pub fn unusable(problem: String) -> Diagnostic {
    Diagnostic::file(Severity::Error, "damaged-artifact", "", problem).with_hint("compile the rules again")
}
