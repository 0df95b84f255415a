//! From the terms of a row pattern to the steps of its automaton.

use crate::pattern::{Label, Labels, REPETITIONS_MAX, Step};
use crate::rule::parser::pattern::{Name, Term};
use std::sync::Arc;

/// Steps of an automaton at most.
const STEPS_MAX: usize = 10_000;

/// Elements of a PERMUTE at most: they are tried in every order.
const PERMUTED_MAX: usize = 6;

/// The steps of a pattern whose variables are `labels`, and whether it leaves rows of its matches out of the output.
///
/// # Errors
/// What limit it exceeds.
pub fn steps(term: &Term<'_>, labels: &[Arc<str>]) -> Result<(Vec<Step>, bool), String> {
    let mut automaton = Automaton { labels, steps: Vec::new(), excludes: false, excluded: false, repetitions: 0, visits: 0 };
    automaton.term(term)?;
    automaton.steps.push(Step::Accept);
    Ok((automaton.steps, automaton.excludes))
}

/// Whether a row behind the first of a match may be one of `labels`; with `first`, and none before it.
pub fn takes_further(steps: &[Step], labels: &Labels, first: bool) -> bool {
    // Steps, each before and after the first row was taken.
    let mut seen = vec![[false; 2]; steps.len()];
    let mut open = vec![(0, false)];
    while let Some((at, further)) = open.pop() {
        if std::mem::replace(&mut seen[at][usize::from(further)], true) {
            continue;
        }
        let mut go = |to: u32, further| open.push((to as usize, further));
        let next = at as u32 + 1;
        let takes = match steps[at] {
            Step::Take { label, .. } => [Some(label), None],
            Step::Await { label, also, .. } => [label, also],
            _ => [None; 2],
        };
        let wanted = takes.into_iter().flatten().any(|label| labels.contain(label));
        if wanted && further {
            return true;
        }
        match steps[at] {
            Step::Split { first, second } => {
                go(first, further);
                go(second, further);
            }
            Step::Jump(to) | Step::Again { to, .. } => go(to, further),
            Step::Take { .. } if wanted && first => {}
            Step::Accept => {}
            _ => go(next, further || takes[0].is_some()),
        }
    }
    false
}

/// Builds the steps of a pattern.
struct Automaton<'a> {
    labels: &'a [Arc<str>],
    steps: Vec<Step>,
    excludes: bool,
    excluded: bool,
    repetitions: u8,
    /// Terms written out so far, also those that give no step.
    visits: usize,
}

/// Whether a term may match no row.
fn may_be_empty(term: &Term<'_>) -> bool {
    match term {
        Term::Row(_) | Term::Await { .. } => false,
        Term::Empty | Term::Start | Term::End => true,
        Term::Sequence(terms) | Term::Permute(terms) => terms.iter().all(may_be_empty),
        Term::Either(terms) => terms.iter().any(may_be_empty),
        Term::Excluded(inner) => may_be_empty(inner),
        Term::Repeated { term, least, .. } => *least == 0 || may_be_empty(term),
    }
}

impl Automaton<'_> {
    fn push(&mut self, step: Step) -> Result<usize, String> {
        if self.steps.len() >= STEPS_MAX {
            return Err(format!("the pattern has more than {STEPS_MAX} steps, with each repetition written out"));
        }
        self.steps.push(step);
        Ok(self.steps.len() - 1)
    }

    fn label(&self, name: &Name<'_>) -> Label {
        self.labels.iter().position(|label| **label == *name.name).unwrap_or(0) as Label
    }

    fn here(&self) -> u32 {
        self.steps.len() as u32
    }

    /// A split whose ways are not known yet.
    fn split(&mut self) -> Result<usize, String> {
        self.push(Step::Split { first: 0, second: 0 })
    }

    /// The split at `at`: into what follows it, or to `other`; which of them is preferred.
    fn decide(&mut self, at: usize, other: u32, into: bool) {
        let follows = at as u32 + 1;
        let (first, second) = if into { (follows, other) } else { (other, follows) };
        self.steps[at] = Step::Split { first, second };
    }

    fn term(&mut self, term: &Term<'_>) -> Result<(), String> {
        self.visits += 1;
        if self.visits > 10 * STEPS_MAX {
            return Err(format!("the pattern has more than {} parts, with each repetition written out", 10 * STEPS_MAX));
        }
        match term {
            Term::Empty => {}
            Term::Start => drop(self.push(Step::Start)?),
            Term::End => drop(self.push(Step::End)?),
            Term::Row(name) => {
                let label = self.label(name);
                self.push(Step::Take { label, excluded: self.excluded })?;
            }
            Term::Await { name, also, except } => {
                self.excludes = true;
                let label = |name: &Option<Name<'_>>| name.as_ref().map(|name| self.label(name));
                let step = Step::Await { label: label(name), also: label(also), except: [label(&except[0]), label(&except[1])] };
                self.push(step)?;
            }
            Term::Sequence(terms) => terms.iter().try_for_each(|term| self.term(term))?,
            Term::Either(terms) => {
                let mut ends = Vec::new();
                for (at, term) in terms.iter().enumerate() {
                    if at + 1 == terms.len() {
                        self.term(term)?;
                        break;
                    }
                    let split = self.split()?;
                    self.term(term)?;
                    ends.push(self.push(Step::Jump(0))?);
                    let next = self.here();
                    self.decide(split, next, true);
                }
                let end = self.here();
                ends.into_iter().for_each(|at| self.steps[at] = Step::Jump(end));
            }
            Term::Permute(terms) => {
                if terms.len() > PERMUTED_MAX {
                    return Err(format!("PERMUTE of more than {PERMUTED_MAX} elements is tried in too many orders"));
                }
                let orders = permutations(terms.len());
                let orders = orders.iter().map(|order| Term::Sequence(order.iter().map(|at| terms[*at].clone()).collect()));
                self.term(&Term::Either(orders.collect()))?;
            }
            Term::Excluded(term) => {
                self.excludes = true;
                let outer = std::mem::replace(&mut self.excluded, true);
                self.term(term)?;
                self.excluded = outer;
            }
            Term::Repeated { term, least, most, greedy } => {
                if most.is_some_and(|most| most < *least) || *most == Some(0) {
                    return Err("a quantifier's upper bound must be at least 1 and not below the lower one".to_owned());
                }
                for _ in 0..*least {
                    self.term(term)?;
                }
                match most {
                    Some(most) => {
                        let mut splits = Vec::new();
                        for _ in *least..*most {
                            splits.push(self.split()?);
                            self.term(term)?;
                        }
                        let end = self.here();
                        splits.into_iter().for_each(|at| self.decide(at, end, *greedy));
                    }
                    None => {
                        let split = self.split()?;
                        if may_be_empty(term) {
                            let repetition = self.repetitions;
                            if repetition == REPETITIONS_MAX {
                                return Err(format!("the pattern has more than {REPETITIONS_MAX} repetitions of what may match no row"));
                            }
                            self.repetitions += 1;
                            self.push(Step::Enter(repetition))?;
                            self.term(term)?;
                            self.push(Step::Again { repetition, to: split as u32 })?;
                        } else {
                            self.term(term)?;
                            self.push(Step::Jump(split as u32))?;
                        }
                        let end = self.here();
                        self.decide(split, end, *greedy);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Every order of `count` elements, in the order of their numbers.
fn permutations(count: usize) -> Vec<Vec<usize>> {
    let mut orders = vec![Vec::new()];
    for _ in 0..count {
        orders = orders
            .iter()
            .flat_map(|order: &Vec<usize>| {
                (0..count).filter(|at| !order.contains(at)).map(|at| order.iter().copied().chain([at]).collect()).collect::<Vec<_>>()
            })
            .collect();
    }
    orders
}
