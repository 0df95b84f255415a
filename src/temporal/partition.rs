//! The rows of one partition that may still matter, and where in them the search for matches is.

use super::automaton::{Machine, Search};
use super::evaluate::Taken;
use super::finding::Finding;
use super::{Row, Rows};
use crate::event::Value;
use crate::pattern::{Label, Labels, Output, Skip};

/// What did not go as the rule says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Troubles {
    /// Matches without a row to skip to, or whose row to skip to is their first: the search went on at the next row.
    pub skips: u64,
    /// Searches that took too much work, and were given up.
    pub given_up: u64,
}

/// A partition of one pattern.
#[derive(Clone, Debug, Default)]
pub struct Partition {
    rows: Rows,
    /// Where the next search begins.
    next: u64,
    search: Option<Search>,
    matches: u64,
    /// Rows before this one are of a match that was put out.
    covered: u64,
}

impl Partition {
    pub fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Rows that are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.rows.held()
    }

    /// The time from which on no row can be part of the match that is searched for.
    #[must_use]
    pub fn deadline(&self, machine: &Machine) -> Option<i128> {
        let (search, within) = (self.search.as_ref()?, machine.pattern.within?);
        Some(self.rows.get(search.start)?.time? + i128::from(within))
    }

    /// Finds what no later row can change. `ended`: no row follows; `watermark`: no row follows whose time is before it.
    pub fn run(&mut self, machine: &Machine, ended: bool, watermark: Option<i128>, found: &mut Vec<Finding>, troubles: &mut Troubles) {
        while self.next < self.rows.end() {
            let number = self.matches + 1;
            let mut search = self.search.take().unwrap_or_else(|| Search::new(machine, &self.rows, ended, self.next));
            self.advance(machine, &mut search, ended, watermark, number);
            let waits = !ended && search.position + machine.measures_look_ahead > self.rows.end() && search.found().is_some();
            if !search.is_over() || waits {
                self.search = Some(search);
                break;
            }
            if search.is_beyond_budget() {
                troubles.given_up += 1;
            }
            match search.found() {
                Some(taken) => self.put_out(machine, &taken, found, troubles),
                None => {
                    self.unmatched(machine, self.next, found);
                    self.next += 1;
                }
            }
        }
        self.rows.forget_before(self.next.saturating_sub(machine.looks_back));
    }

    /// Takes rows until the search is over, or must wait.
    fn advance(&self, machine: &Machine, search: &mut Search, ended: bool, watermark: Option<i128>, number: u64) {
        let limit = machine.pattern.within.and_then(|within| Some(self.rows.get(search.start)?.time? + i128::from(within)));
        while !search.is_over() {
            let row = self.rows.get(search.position);
            let time = row.and_then(|row| row.time).or(watermark.filter(|_| row.is_none()));
            let late = limit.zip(time).is_some_and(|(limit, time)| time >= limit);
            if search.is_beyond_budget() {
                search.give_up();
                return;
            }
            if late || ended && row.is_none() {
                search.end(machine);
                return;
            }
            if !ended && search.position + machine.looks_ahead >= self.rows.end() {
                return;
            }
            search.step(machine, &self.rows, ended, number);
        }
    }

    fn put_out(&mut self, machine: &Machine, taken: &[Taken], found: &mut Vec<Finding>, troubles: &mut Troubles) {
        self.matches += 1;
        let start = self.next;
        let end = start + taken.len() as u64;
        let view = machine.view(&self.rows, start, taken, self.matches);
        let number_of = |at: u64| self.rows.get(at).map_or(0, |row| row.number);
        let rows = (end > start).then(|| (number_of(start), number_of(end.saturating_sub(1))));
        let mut put = |at: u64, current: Option<usize>, label: Option<Label>| {
            let measures = machine.measures.iter().map(|measure| measure.evaluate(&view, current)).collect();
            found.push(Finding { match_number: Some(self.matches), row: number_of(at), label, rows, measures });
        };
        match machine.pattern.output {
            Output::OneRow => put(end.max(start + 1) - 1, taken.len().checked_sub(1), None),
            Output::AllRows { empty, .. } => {
                if taken.is_empty() && empty {
                    put(start, None, None);
                }
                for (current, taken) in taken.iter().enumerate().filter(|(_, taken)| !taken.excluded) {
                    put(start + current as u64, Some(current), Some(taken.label));
                }
            }
        }
        self.covered = self.covered.max(end.max(start + 1));
        let place = |labels: &Labels, last: bool| {
            let mut of = taken.iter().enumerate().filter(|(_, taken)| labels.contain(taken.label)).map(|(at, _)| start + at as u64);
            if last { of.next_back() } else { of.next() }
        };
        let next = match &machine.pattern.skip {
            _ if taken.is_empty() => Some(start + 1),
            Skip::PastLastRow => Some(end),
            Skip::ToNextRow => Some(start + 1),
            Skip::ToFirst(labels) => place(labels, false).filter(|at| *at > start),
            Skip::ToLast(labels) => place(labels, true).filter(|at| *at > start),
        };
        troubles.skips += u64::from(next.is_none());
        self.next = next.unwrap_or(start + 1);
    }

    /// A row that no match has.
    fn unmatched(&self, machine: &Machine, at: u64, found: &mut Vec<Finding>) {
        let Output::AllRows { unmatched: true, .. } = machine.pattern.output else { return };
        if at < self.covered {
            return;
        }
        if let Some(row) = self.rows.get(at) {
            let measures = vec![Value::Null; machine.measures.len()];
            found.push(Finding { match_number: None, row: row.number, label: None, rows: None, measures });
        }
    }
}
