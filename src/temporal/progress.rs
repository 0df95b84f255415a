//! Where one pattern is in the rows of one partition.

use super::automaton::{Machine, Scratch, Search, Spare};
use super::evaluate::{Taken, Telling};
use super::finding::Finding;
use super::packed::{self, Reader};
use super::rows::Rows;
use crate::event::Value;
use crate::pattern::{Label, Labels, Output, Skip};
use serde::{Deserialize, Serialize};

/// What did not go as the rule says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Troubles {
    /// Matches without a row to skip to, or whose row to skip to is their first: the search went on at the next row.
    pub skips: u64,
    /// Searches that took too much work, and were given up.
    pub given_up: u64,
    /// Searches that were given up because their key holds too much.
    pub over_key: u64,
    /// The same, because its tenant does.
    pub over_tenant: u64,
}

impl Troubles {
    /// Adds those of another.
    pub fn add(&mut self, other: Self) {
        self.skips += other.skips;
        self.given_up += other.given_up;
        self.over_key += other.over_key;
        self.over_tenant += other.over_tenant;
    }
}

/// What is known of the time while rows are searched.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Whether no row follows.
    pub ended: bool,
    /// No row follows whose time is before it, in ticks.
    pub watermark: Option<i64>,
    /// Visits to steps that one search may make: beyond them it is given up, and counted.
    pub steps: u64,
}

/// What a run needs for a moment, and what it gives.
#[derive(Debug, Default)]
pub struct Work {
    pub scratch: Scratch,
    pub spare: Spare,
    pub found: Vec<Finding>,
    pub troubles: Troubles,
}

/// One pattern in one partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Its number in its group.
    pub pattern: u32,
    /// Where the next search begins: where none is on, behind all rows.
    next: u64,
    /// Rows before this one are of a match that was put out.
    covered: u64,
    matches: u64,
    search: Option<Box<Search>>,
}

impl Progress {
    /// Of a pattern that has seen nothing before row `next`.
    #[must_use]
    pub const fn new(pattern: u32, next: u64) -> Self {
        Self { pattern, next, covered: 0, matches: 0, search: None }
    }

    /// Has rows before `next` passed over; no search is on.
    pub fn pass_to(&mut self, next: u64) {
        self.next = self.next.max(next);
    }

    #[must_use]
    pub const fn searches(&self) -> bool {
        self.search.is_some()
    }

    /// The first row that it still looks at, but for those looked back at.
    #[must_use]
    pub const fn needs_from(&self) -> u64 {
        self.next
    }

    /// Whether a new one would find the same.
    #[must_use]
    pub const fn is_new(&self) -> bool {
        self.search.is_none() && self.matches == 0 && self.covered <= self.next
    }

    /// Bytes that the search takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.search.as_ref().map_or(0, |search| search.bytes())
    }

    /// Adds its bytes: those of its serialization.
    pub fn pack(&self, out: &mut Vec<u8>) {
        [u64::from(self.pattern), self.next, self.covered, self.matches].into_iter().for_each(|number| packed::number(out, number));
        packed::flag(out, self.search.is_some());
        self.search.iter().for_each(|search| search.pack(out));
    }

    /// What was packed; `None`: nothing was. A search that is on is one of those `spare`, if there are any.
    pub fn unpack(from: &mut Reader, spare: &mut Spare) -> Option<Self> {
        let mut progress =
            Self { pattern: from.small()?, next: from.number()?, covered: from.number()?, matches: from.number()?, search: None };
        if from.flag()? {
            progress.search.insert(spare.0.pop().unwrap_or_default()).unpack(from)?;
        }
        Some(progress)
    }

    /// Gives the memory of a search that is on to others.
    pub fn into_spare(self) -> Option<Box<Search>> {
        self.search
    }

    /// Whether it may be that of `machine` in `rows`: what is read from a file may be anything.
    #[must_use]
    pub fn is_sound(&self, machine: &Machine, rows: &Rows) -> bool {
        let search = self.search.as_ref();
        self.next <= rows.end() && self.matches < 1 << 62 && search.is_none_or(|search| search.is_sound(machine, rows, self.next))
    }

    /// The time from which on no row can be part of the match that is searched for, in ticks.
    #[must_use]
    pub fn ends_at(&self, machine: &Machine, rows: &Rows) -> Option<i64> {
        let (search, within) = (self.search.as_ref()?, machine.within?);
        Some(rows.get(search.start)?.time?.saturating_add(within))
    }

    /// Gives the search up, and what it might have found in the rows so far.
    pub fn give_up(&mut self, rows: &Rows) {
        self.search = None;
        self.next = rows.end();
    }

    /// Finds what no later row can change.
    pub fn run(&mut self, machine: &Machine, rows: &Rows, moment: Moment, work: &mut Work) {
        if self.search.is_none() {
            self.next = self.next.max(rows.first());
        }
        while self.next < rows.end() {
            let mut search = match self.search.take() {
                Some(search) => search,
                None => {
                    if let Some(begins) = &machine.begins
                        && rows.get(self.next).is_none_or(|row| !begins.iter().any(|condition| row.holds(*condition)))
                    {
                        self.next += 1;
                        continue;
                    }
                    let mut search = work.spare.0.pop().unwrap_or_default();
                    search.begin(machine, rows, moment.ended, self.next, &mut work.scratch);
                    search
                }
            };
            self.advance(machine, rows, &mut search, moment, &mut work.scratch);
            let waits = !moment.ended && search.position + machine.measures_look_ahead > rows.end() && search.has_found();
            if !search.is_over() || waits {
                self.search = Some(search);
                break;
            }
            let given_up = search.is_beyond(moment.steps);
            match search.found() {
                Some(taken) => self.put_out(machine, rows, &taken, work),
                None => {
                    self.unmatched(machine, rows, self.next, &mut work.found);
                    self.next += 1;
                }
            }
            work.spare.0.push(search);
            if given_up {
                // What the rows so far would still give costs as much again.
                work.troubles.given_up += 1;
                self.next = self.next.max(rows.end());
            }
        }
    }

    /// Takes rows until the search is over, or must wait.
    fn advance(&self, machine: &Machine, rows: &Rows, search: &mut Search, moment: Moment, scratch: &mut Scratch) {
        let limit = machine.within.and_then(|within| Some(rows.get(search.start)?.time?.saturating_add(within)));
        while !search.is_over() {
            let row = rows.get(search.position);
            let time = row.and_then(|row| row.time).or(moment.watermark.filter(|_| row.is_none()));
            let late = limit.zip(time).is_some_and(|(limit, time)| time >= limit);
            if search.is_beyond(moment.steps) {
                search.give_up();
                return;
            }
            if late || moment.ended && row.is_none() {
                search.end(machine);
                return;
            }
            if !moment.ended && search.position + machine.looks_ahead >= rows.end() {
                return;
            }
            search.step(machine, rows, moment.ended, self.matches + 1, scratch);
        }
    }

    fn put_out(&mut self, machine: &Machine, rows: &Rows, taken: &[Taken], work: &mut Work) {
        self.matches += 1;
        let start = self.next;
        let end = start + taken.len() as u64;
        let mut telling = Telling::new(&machine.measures, machine.view(rows, start, taken, self.matches));
        let number_of = |at: u64| rows.get(at).map_or(0, |row| row.number);
        let ends = (end > start).then(|| (number_of(start), number_of(end.saturating_sub(1))));
        let partition = machine.partition(rows.get(start));
        let mut put = |at: u64, current: Option<usize>, label: Option<Label>| {
            let measures = telling.at(current);
            let partition = partition.clone();
            work.found.push(Finding { partition, match_number: Some(self.matches), row: number_of(at), label, rows: ends, measures });
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
        work.troubles.skips += u64::from(next.is_none());
        self.next = next.unwrap_or(start + 1);
    }

    /// A row that no match has.
    fn unmatched(&self, machine: &Machine, rows: &Rows, at: u64, found: &mut Vec<Finding>) {
        let Output::AllRows { unmatched: true, .. } = machine.pattern.output else { return };
        if at < self.covered {
            return;
        }
        if let Some(row) = rows.get(at) {
            let measures = vec![Value::Null; machine.measures.len()];
            let partition = machine.partition(Some(row));
            found.push(Finding { partition, match_number: None, row: row.number, label: None, rows: None, measures });
        }
    }
}
