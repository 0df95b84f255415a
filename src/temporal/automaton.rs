//! One search for a match: all ways through a pattern side by side, the preferred first, row by row.
//!
//! A way that takes a row of a variable tests the variable's condition. Of two ways at the same step that nothing later can tell apart, the less preferred
//! ends: so nested repetitions do not explode. The match is found when no way is left that is preferred to one that is complete.

use super::conditions::{self, Conditions};
use super::evaluate::{Places, Prepared, Sums, Taken, View};
use super::packed::{self, Reader};
use super::rows::{HeldRow, Rows};
use crate::event::{Schema, Value};
use crate::pattern::{Define, Label, Labels, Leaf, Output, PASSED, Pattern, Step};
use crate::temporal::keys::nanoseconds_of_tick;
use foldhash::fast::FixedState;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// "No rows yet."
const NOTHING: u32 = u32::MAX;

/// A pattern, ready to run.
#[derive(Debug)]
pub struct Machine {
    pub pattern: Arc<Pattern>,
    /// How long after its first row a match is over, in ticks of the time that rows are ordered by.
    pub within: Option<i64>,
    /// Where the fields of PARTITION BY lie in rows.
    partition_by: Vec<usize>,
    tests: Vec<Test>,
    pub measures: Vec<Prepared>,
    /// The variables whose rows conditions look back at: ways that agree in them have the same future.
    remembered: Vec<Label>,
    /// Row conditions of which one holds for the first row of every match; `None`: any row may be one, or no row is needed.
    pub begins: Option<Vec<u32>>,
    pub looks_back: u64,
    pub looks_ahead: u64,
    pub measures_look_ahead: u64,
}

/// What makes a row a row of a variable: both, where they are there.
#[derive(Debug)]
struct Test {
    /// The number of a condition on the row alone.
    row: Option<u32>,
    so_far: Option<Prepared>,
}

impl Machine {
    /// `schema`: of the events. `places`: of the fields in rows. The conditions on rows alone are numbered among `conditions`, for `tenant`.
    #[must_use]
    pub fn new(pattern: Arc<Pattern>, schema: &Schema, places: &Places, tenant: Option<&Arc<str>>, conditions: &mut Conditions) -> Self {
        let tests: Vec<Test> = (0..pattern.labels.len() as Label)
            .map(|label| {
                let (row, so_far) = conditions::split(&pattern, label);
                Test { row: row.map(|row| conditions.number(tenant, row)), so_far: so_far.map(|so_far| Prepared::new(&so_far, places)) }
            })
            .collect();
        let measures = pattern.measures.iter().map(|measure| Prepared::new(&measure.formula, places)).collect();
        let tick = pattern.order_by.first().and_then(|key| nanoseconds_of_tick(schema.field(key.field).ty)).unwrap_or(1);
        Self {
            // Times are whole ticks: a row is so many nanoseconds later where it is as many ticks, rounded up.
            within: pattern.within.map(|within| within / tick + i64::from(within % tick > 0)),
            partition_by: pattern.partition_by.iter().map(|field| places.place(*field).index()).collect(),
            begins: begins(&pattern, &tests),
            tests,
            measures,
            remembered: remembered(&pattern),
            looks_back: pattern.looks_back(),
            looks_ahead: pattern.looks_ahead(),
            measures_look_ahead: pattern.measures_look_ahead(),
            pattern,
        }
    }

    /// The conditions on single rows that it asks for.
    pub fn conditions(&self) -> impl Iterator<Item = u32> {
        self.tests.iter().filter_map(|test| test.row)
    }

    /// The values that tell a row's partition from others.
    #[must_use]
    pub fn partition(&self, row: Option<HeldRow>) -> Arc<[Value]> {
        let value = |place: &usize| row.and_then(|row| row.values.get(*place)).cloned().unwrap_or(Value::Null);
        self.partition_by.iter().map(value).collect()
    }

    /// A match of these rows.
    #[must_use]
    pub fn view<'a>(&'a self, rows: &'a Rows, start: u64, taken: &'a [Taken], number: u64) -> View<'a> {
        View { rows, names: &self.pattern.labels, start, taken, number }
    }
}

/// See [`Machine::begins`].
fn begins(pattern: &Pattern, tests: &[Test]) -> Option<Vec<u32>> {
    if matches!(pattern.output, Output::AllRows { unmatched: true, .. }) {
        return None;
    }
    let mut found = Vec::new();
    let mut seen = vec![false; pattern.steps.len()];
    let mut open = vec![0_u32];
    while let Some(step) = open.pop() {
        if std::mem::replace(&mut seen[step as usize], true) {
            continue;
        }
        match pattern.steps[step as usize] {
            Step::Take { label, .. } => found.push(tests[usize::from(label)].row?),
            Step::Split { first, second } => open.extend([first, second]),
            Step::Jump(to) => open.push(to),
            Step::Again { to, .. } => open.push(to),
            Step::Enter(_) | Step::Start | Step::End => open.push(step + 1),
            Step::Accept | Step::Await { .. } => return None,
        }
    }
    found.sort_unstable();
    found.dedup();
    Some(found)
}

/// The variables that conditions tell apart. A variable's own condition looks at the row under test, which is no difference.
fn remembered(pattern: &Pattern) -> Vec<Label> {
    let all = || (0..pattern.labels.len() as Label).collect();
    let asks = |expr: &crate::expr::Expr| expr.fields().contains(&pattern.classifier());
    let mut found = Vec::new();
    for (own, define) in (0..).zip(&pattern.defines) {
        let Define::Match(formula) = define else { continue };
        for leaf in &formula.leaves {
            let labels = match leaf {
                Leaf::Value { navigation, .. } => &navigation.labels,
                Leaf::Aggregate { labels, .. } => labels,
                Leaf::MatchNumber => continue,
            };
            // The name of a row's variable tells all variables apart.
            if leaf.over_row().any(asks) {
                return all();
            }
            // The row under test, or one so many rows from it.
            if leaf.navigation().is_some_and(|way| way.last && way.skip == 0 && way.labels.contain(own)) {
                continue;
            }
            match labels {
                // Every row of the match is meant, whatever its variable.
                Labels::All => {}
                Labels::Of(labels) => found.extend(labels),
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// A way through the pattern, which waits for a row at a step that takes one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Way {
    step: u32,
    /// The last of its rows in [`Search::taken`].
    taken: u32,
    /// What it has of remembered variables: equal numbers, equal rows.
    memory: u32,
}

/// A search that begins at one row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Search {
    pub start: u64,
    /// The next row.
    pub position: u64,
    ways: Vec<Way>,
    /// Rows taken, each with the one before it.
    taken: Vec<(u32, Taken)>,
    /// For what is remembered and a row more, what is remembered then.
    memories: HashMap<(u32, u64, Label), u32, FixedState>,
    /// The best complete way.
    found: Option<u32>,
    visits: u64,
    #[serde(skip)]
    recent: Recent,
}

/// What was made of the rows of ways that is of use for their next ones. It can be made again.
#[derive(Clone, Debug, Default)]
struct Recent {
    /// The rows of the way that ends at `end` in [`Search::taken`].
    end: Option<u32>,
    rows: Vec<Taken>,
    /// What the aggregates of variables' conditions know of the rows of ways, by end and variable.
    sums: Vec<(u32, Label, Sums)>,
}

impl Recent {
    fn forget(&mut self) {
        self.end = None;
        self.rows.clear();
        self.sums.clear();
    }
}

impl PartialEq for Recent {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// Searches that are over, to be begun anew with the memory that they have.
#[derive(Debug, Default)]
pub struct Spare(pub Vec<Box<Search>>);

/// What stepping needs for a moment, kept to be used again.
#[derive(Debug, Default)]
pub struct Scratch {
    next: Vec<Way>,
    /// Steps to follow, each with the repetitions that have taken no row yet, as bits.
    open: Vec<(u32, u128)>,
    visited: Visited,
}

/// Where ways have been since the last row: step, what is remembered, and the repetitions that have taken no row yet.
#[derive(Debug, Default)]
struct Visited {
    steps: Seen<(u32, u32, u128)>,
    /// The steps that take a row, where the last does not matter.
    takes: Seen<(u32, u32)>,
}

/// A set that is mostly small.
#[derive(Debug)]
struct Seen<T> {
    few: Vec<T>,
    many: HashSet<T, FixedState>,
}

/// Items from which on a set is hashed.
const FEW: usize = 16;

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self { few: Vec::new(), many: HashSet::default() }
    }
}

impl<T: Copy + Eq + std::hash::Hash> Seen<T> {
    fn clear(&mut self) {
        self.few.clear();
        self.many.clear();
    }

    /// Adds an item; whether it is new.
    fn insert(&mut self, item: T) -> bool {
        if self.few.len() < FEW {
            let new = !self.few.contains(&item);
            if new {
                self.few.push(item);
            }
            return new;
        }
        if self.many.is_empty() {
            self.many.extend(self.few.iter().copied());
        }
        self.many.insert(item)
    }
}

/// What the surroundings of a step tell.
struct Place<'a> {
    machine: &'a Machine,
    rows: &'a Rows,
    /// Whether no row comes after those of `rows`.
    ended: bool,
}

impl Search {
    /// Begins anew, at row `start`.
    pub fn begin(&mut self, machine: &Machine, rows: &Rows, ended: bool, start: u64, scratch: &mut Scratch) {
        (self.start, self.position, self.found, self.visits) = (start, start, None, 0);
        self.ways.clear();
        self.taken.clear();
        self.memories.clear();
        self.recent.forget();
        scratch.visited.steps.clear();
        scratch.visited.takes.clear();
        scratch.next.clear();
        let place = Place { machine, rows, ended };
        self.follow(&place, Way { step: 0, taken: NOTHING, memory: NOTHING }, scratch);
        std::mem::swap(&mut self.ways, &mut scratch.next);
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.ways.len() * size_of::<Way>()
            + self.taken.len() * size_of::<(u32, Taken)>()
            + self.memories.len() * 2 * size_of::<(u32, u64, Label)>()
    }

    /// Whether no later row can change what was found.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.ways.is_empty()
    }

    /// Ends all ways: no row follows that could be part of the match. One that has waited for that is complete.
    pub fn end(&mut self, machine: &Machine) {
        let waited = |way: &&Way| matches!(machine.pattern.steps[way.step as usize], Step::Await { label: None, .. });
        if let Some(way) = self.ways.iter().find(waited) {
            self.found = Some(way.taken);
        }
        self.give_up();
    }

    /// Ends all ways.
    pub fn give_up(&mut self) {
        self.ways.clear();
    }

    /// Whether it has visited more steps than these.
    #[must_use]
    pub const fn is_beyond(&self, steps: u64) -> bool {
        self.visits > steps
    }

    /// Takes the row at [`Search::position`], which is held.
    pub fn step(&mut self, machine: &Machine, rows: &Rows, ended: bool, number: u64, scratch: &mut Scratch) {
        let Some(row) = rows.get(self.position) else { return };
        let at = self.position;
        self.position += 1;
        let place = Place { machine, rows, ended };
        scratch.visited.steps.clear();
        scratch.visited.takes.clear();
        scratch.next.clear();
        let ways = std::mem::take(&mut self.ways);
        for way in &ways {
            self.visits += 1;
            let holds = |label| self.takes(&place, way, Taken { label, excluded: false }, row, number);
            let Some((taken, step)) = choice(machine.pattern.steps[way.step as usize], way.step, holds) else { continue };
            self.taken.push((way.taken, taken));
            let memory = if machine.remembered.binary_search(&taken.label).is_ok() {
                let next = self.memories.len() as u32;
                *self.memories.entry((way.memory, at, taken.label)).or_insert(next)
            } else {
                way.memory
            };
            let way = Way { step, taken: self.taken.len() as u32 - 1, memory };
            if self.follow(&place, way, scratch) {
                // Complete: what is less preferred does not matter any more.
                break;
            }
        }
        // The next rows come behind these, or behind what was taken before them.
        self.recent.sums.retain(|(end, ..)| ways.iter().any(|way| way.taken == *end));
        self.ways = ways;
        std::mem::swap(&mut self.ways, &mut scratch.next);
    }

    fn takes(&mut self, place: &Place, way: &Way, taken: Taken, row: HeldRow, number: u64) -> bool {
        let test = &place.machine.tests[usize::from(taken.label)];
        if test.row.is_some_and(|condition| !row.holds(condition)) {
            return false;
        }
        let Some(test) = &test.so_far else { return true };
        self.go_to(way.taken);
        let Recent { end, mut rows, sums: mut known } = std::mem::take(&mut self.recent);
        rows.push(taken);
        let view = place.machine.view(place.rows, self.start, &rows, number);
        let mut sums = Sums::default();
        if test.summarizes() {
            sums = self.sums(&mut known, way.taken, taken.label, test, &view);
            test.add(&mut sums, &view, rows.len() - 1, true);
        }
        let holds = test.holds(&view, &sums);
        rows.pop();
        self.recent = Recent { end, rows, sums: known };
        holds
    }

    /// Has [`Recent::rows`] be those of the way that ends at `end`.
    fn go_to(&mut self, end: u32) {
        let Recent { end: known, rows, .. } = &mut self.recent;
        if *known == Some(end) {
            return;
        }
        match self.taken.get(end as usize) {
            Some((before, taken)) if *known == Some(*before) => rows.push(*taken),
            _ => {
                let mut rows = std::mem::take(rows);
                self.rows_of(end, &mut rows);
                self.recent.rows = rows;
            }
        }
        self.recent.end = Some(end);
    }

    /// What the aggregates of the condition of `label` know of the way that ends at `end`, which is all rows of `view` but the last: from the latest end
    /// that they know already.
    fn sums(&self, known: &mut Vec<(u32, Label, Sums)>, end: u32, label: Label, test: &Prepared, view: &View) -> Sums {
        let (mut at, length) = (end, view.taken.len() - 1);
        let mut behind = length;
        let mut sums = loop {
            if let Some((.., known)) = known.iter().find(|(end, of, _)| (*end, *of) == (at, label)) {
                break known.clone();
            }
            let Some((before, _)) = self.taken.get(at as usize) else { break test.nothing() };
            (at, behind) = (*before, behind - 1);
        };
        (behind..length).for_each(|at| test.add(&mut sums, view, at, true));
        if at != end {
            known.push((end, label, sums.clone()));
        }
        sums
    }

    /// Follows a way to the steps where it waits for the next row. Whether it is complete.
    fn follow(&mut self, place: &Place, way: Way, scratch: &mut Scratch) -> bool {
        let Scratch { next, open, visited, .. } = scratch;
        open.clear();
        open.push((way.step, 0));
        while let Some((step, empty)) = open.pop() {
            self.visits += 1;
            if !visited.steps.insert((step, way.memory, empty)) {
                continue;
            }
            match place.machine.pattern.steps[step as usize] {
                // Once taken, it does not matter what took no row before.
                Step::Take { .. } | Step::Await { .. } if visited.takes.insert((step, way.memory)) => next.push(Way { step, ..way }),
                Step::Take { .. } | Step::Await { .. } => {}
                Step::Split { first, second } => open.extend([(second, empty), (first, empty)]),
                Step::Jump(to) => open.push((to, empty)),
                Step::Enter(repetition) => open.push((step + 1, empty | 1 << repetition)),
                Step::Again { repetition, to } if empty >> repetition & 1 == 0 => open.push((to, empty)),
                Step::Start if self.position == 0 => open.push((step + 1, empty)),
                Step::End if place.ended && self.position == place.rows.end() => open.push((step + 1, empty)),
                Step::Start | Step::End | Step::Again { .. } => {}
                Step::Accept => {
                    self.found = Some(way.taken);
                    return true;
                }
            }
        }
        false
    }

    /// Adds its bytes: those of its serialization.
    pub fn pack(&self, out: &mut Vec<u8>) {
        packed::number(out, self.start);
        packed::number(out, self.position);
        packed::number(out, self.ways.len() as u64);
        for way in &self.ways {
            [way.step, way.taken, way.memory].into_iter().for_each(|number| packed::number(out, u64::from(number)));
        }
        packed::number(out, self.taken.len() as u64);
        for (before, taken) in &self.taken {
            packed::number(out, u64::from(*before));
            packed::number(out, u64::from(taken.label));
            packed::flag(out, taken.excluded);
        }
        packed::number(out, self.memories.len() as u64);
        if !self.memories.is_empty() {
            self.pack_memories(out);
        }
        packed::flag(out, self.found.is_some());
        self.found.into_iter().for_each(|found| packed::number(out, u64::from(found)));
        packed::number(out, self.visits);
    }

    /// In the order in which they came, whatever order they are found in.
    fn pack_memories(&self, out: &mut Vec<u8>) {
        let mut memories: Vec<(u32, (u32, u64, Label))> = self.memories.iter().map(|(memory, number)| (*number, *memory)).collect();
        memories.sort_unstable();
        for (number, (memory, row, label)) in memories {
            [u64::from(memory), row, u64::from(label), u64::from(number)].into_iter().for_each(|number| packed::number(out, number));
        }
    }

    /// Becomes what was packed; `None`: nothing was, and it is anything.
    pub fn unpack(&mut self, from: &mut Reader) -> Option<()> {
        self.ways.clear();
        self.taken.clear();
        self.memories.clear();
        self.recent.forget();
        (self.start, self.position) = (from.number()?, from.number()?);
        for _ in 0..from.number()? {
            self.ways.push(Way { step: from.small()?, taken: from.small()?, memory: from.small()? });
        }
        for _ in 0..from.number()? {
            self.taken.push((from.small()?, Taken { label: from.small()?, excluded: from.flag()? }));
        }
        for _ in 0..from.number()? {
            let (memory, row, label, number) = (from.small()?, from.number()?, from.small()?, from.small()?);
            self.memories.insert((memory, row, label), number);
        }
        self.found = if from.flag()? { Some(from.small()?) } else { None };
        self.visits = from.number()?;
        Some(())
    }

    /// Whether it is one that `machine` may have begun at row `start` of `rows`: what is read from a file may be anything.
    #[must_use]
    pub fn is_sound(&self, machine: &Machine, rows: &Rows, start: u64) -> bool {
        let waits = |way: &Way| matches!(machine.pattern.steps.get(way.step as usize), Some(Step::Take { .. } | Step::Await { .. }));
        let is_taken = |taken: u32| taken == NOTHING || (taken as usize) < self.taken.len();
        let names = |label: Label| label == PASSED || usize::from(label) < machine.pattern.labels.len();
        // Each row is behind the one before it, so that no chain goes round, and none is longer than there are rows.
        let mut lengths: Vec<u64> = Vec::with_capacity(self.taken.len());
        let mut chained = |(before, taken): &(u32, Taken)| {
            let before = if *before == NOTHING { Some(0) } else { lengths.get(*before as usize).copied() };
            let length = before.map_or(u64::MAX, |before| before + 1);
            lengths.push(length);
            length <= self.position - start && names(taken.label)
        };
        self.start == start
            && rows.first() <= start
            && (start..=rows.end()).contains(&self.position)
            && self.taken.iter().all(&mut chained)
            && self.ways.iter().all(|way| waits(way) && is_taken(way.taken))
            && self.found.is_none_or(is_taken)
            && self.visits < 1 << 62
    }

    fn rows_of(&self, mut last: u32, rows: &mut Vec<Taken>) {
        rows.clear();
        while let Some((before, taken)) = self.taken.get(last as usize) {
            rows.push(*taken);
            last = *before;
        }
        rows.reverse();
    }

    /// Whether a match was found, to which later rows may be added.
    #[must_use]
    pub const fn has_found(&self) -> bool {
        self.found.is_some()
    }

    /// The rows of the best match found. Those that it passed over at the end, where nothing came, are none of it.
    #[must_use]
    pub fn found(&self) -> Option<Vec<Taken>> {
        let mut rows = Vec::new();
        self.rows_of(self.found?, &mut rows);
        while rows.pop_if(|taken| taken.label == PASSED).is_some() {}
        Some(rows)
    }
}

/// What a way that waits at the step `at` does with a row that is one of the variables that `holds` says: what the row is taken as, and the step to go on at.
fn choice(step: Step, at: u32, mut holds: impl FnMut(Label) -> bool) -> Option<(Taken, u32)> {
    match step {
        Step::Take { label, excluded } => holds(label).then_some((Taken { label, excluded }, at + 1)),
        Step::Await { label, also, except } => {
            if except.into_iter().flatten().any(&mut holds) {
                return None;
            }
            if let Some(label) = label.filter(|label| holds(*label)) {
                return Some((Taken { label, excluded: false }, at + 1));
            }
            let label = also.filter(|label| holds(*label)).unwrap_or(PASSED);
            Some((Taken { label, excluded: label == PASSED }, at))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_is_the_bytes_of_postcard() {
        let taken = |label, excluded| Taken { label, excluded };
        let search = Search {
            start: 3,
            position: 1 << 40,
            ways: vec![Way { step: 1, taken: NOTHING, memory: 0 }, Way { step: 500, taken: 1, memory: NOTHING }],
            taken: vec![(NOTHING, taken(0, false)), (0, taken(PASSED, true))],
            memories: [((NOTHING, 5, 2), 0), ((0, 1 << 50, PASSED), 1)].into_iter().collect(),
            found: Some(1),
            visits: 1 << 33,
            recent: Recent::default(),
        };
        for search in [search.clone(), Search { found: None, ..search }, Search::default()] {
            let mut bytes = Vec::new();
            search.pack(&mut bytes);
            assert_eq!(bytes, postcard::to_stdvec(&search).unwrap());
            let mut unpacked = search.clone();
            assert_eq!((unpacked.unpack(&mut Reader(&bytes)), &unpacked), (Some(()), &search));
            for length in 0..bytes.len() {
                assert_eq!(unpacked.unpack(&mut Reader(&bytes[..length])), None, "{length} bytes");
            }
        }
    }
}
