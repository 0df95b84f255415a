//! One search for a match: all ways through a pattern side by side, the preferred first, row by row.
//!
//! A way that takes a row of a variable tests the variable's condition. Of two ways at the same step that nothing later can tell apart, the less preferred
//! ends: so nested repetitions do not explode. The match is found when no way is left that is preferred to one that is complete.

use super::evaluate::{OverRow, Places, Prepared, Taken, View};
use super::{Row, Rows};

use crate::pattern::{Define, Label, Labels, Leaf, PASSED, Pattern, Step};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// "No rows yet."
const NOTHING: u32 = u32::MAX;

/// Visits to steps that one search may make: beyond them it is given up, and counted.
pub const BUDGET: u64 = 10_000_000;

/// A pattern, ready to run.
#[derive(Debug)]
pub struct Machine {
    pub pattern: Arc<Pattern>,
    pub places: Places,
    tests: Vec<Test>,
    pub measures: Vec<Prepared>,
    /// The variables whose rows conditions look back at: ways that agree in them have the same future.
    remembered: Vec<Label>,
    pub looks_back: u64,
    pub looks_ahead: u64,
    pub measures_look_ahead: u64,
}

#[derive(Debug)]
enum Test {
    Always,
    Row(OverRow),
    Match(Prepared),
}

impl Machine {
    #[must_use]
    pub fn new(pattern: Arc<Pattern>) -> Self {
        let places = Places::new(pattern.needs(), pattern.fields);
        let tests = pattern
            .defines
            .iter()
            .map(|define| match define {
                Define::Always => Test::Always,
                Define::Row(expr) => Test::Row(places.over_row(expr)),
                Define::Match(formula) => Test::Match(Prepared::new(formula, &places)),
            })
            .collect();
        let measures = pattern.measures.iter().map(|measure| Prepared::new(&measure.formula, &places)).collect();
        let (looks_back, looks_ahead, measures_look_ahead) = (pattern.looks_back(), pattern.looks_ahead(), pattern.measures_look_ahead());
        let remembered = remembered(&pattern);
        Self { places, tests, measures, remembered, looks_back, looks_ahead, measures_look_ahead, pattern }
    }

    /// A match of these rows.
    #[must_use]
    pub fn view<'a>(&'a self, rows: &'a Rows, start: u64, taken: &'a [Taken], number: u64) -> View<'a> {
        View { rows, names: &self.pattern.labels, start, taken, number }
    }
}

/// The variables that conditions tell apart. A variable's own condition looks at the row under test, which is no difference.
fn remembered(pattern: &Pattern) -> Vec<Label> {
    let all = || (0..pattern.labels.len() as Label).collect();
    let asks = |expr: &&crate::expr::Expr| expr.fields().contains(&pattern.classifier());
    let mut found = Vec::new();
    for (own, define) in (0..).zip(&pattern.defines) {
        let Define::Match(formula) = define else { continue };
        for leaf in &formula.leaves {
            let (labels, exprs): (&Labels, Vec<_>) = match leaf {
                Leaf::Value { navigation, expr } => (&navigation.labels, vec![expr]),
                Leaf::Aggregate { labels, argument, filter, .. } => (labels, argument.iter().chain(filter).collect()),
                Leaf::MatchNumber => continue,
            };
            // The row under test, or one so many rows from it.
            if leaf.navigation().is_some_and(|way| way.last && way.skip == 0 && way.labels.contain(own)) && !exprs.iter().any(asks) {
                continue;
            }
            // The name of a row's variable tells all variables apart.
            if exprs.iter().any(asks) {
                return all();
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
#[derive(Clone, Copy, Debug)]
struct Way {
    step: u32,
    /// The last of its rows in [`Search::taken`].
    taken: u32,
    /// What it has of remembered variables: equal numbers, equal rows.
    memory: u32,
}

/// A search that begins at one row.
#[derive(Clone, Debug)]
pub struct Search {
    pub start: u64,
    /// The next row.
    pub position: u64,
    ways: Vec<Way>,
    /// Rows taken, each with the one before it.
    taken: Vec<(u32, Taken)>,
    /// For what is remembered and a row more, what is remembered then.
    memories: HashMap<(u32, u64, Label), u32>,
    /// The best complete way.
    found: Option<u32>,
    visits: u64,
}

/// Where ways have been since the last row: step, what is remembered, and the repetitions that have taken no row yet.
#[derive(Default)]
struct Visited {
    steps: HashSet<(u32, u32, u128)>,
    /// The steps that take a row, where the last does not matter.
    takes: HashSet<(u32, u32)>,
}

/// What the surroundings of a step tell.
struct Place<'a> {
    machine: &'a Machine,
    rows: &'a Rows,
    /// Whether no row comes after those of `rows`.
    ended: bool,
}

impl Search {
    #[must_use]
    pub fn new(machine: &Machine, rows: &Rows, ended: bool, start: u64) -> Self {
        let mut search =
            Self { start, position: start, ways: Vec::new(), taken: Vec::new(), memories: HashMap::new(), found: None, visits: 0 };
        let place = Place { machine, rows, ended };
        let mut visited = Visited::default();
        let mut next = Vec::new();
        search.follow(&place, Way { step: 0, taken: NOTHING, memory: NOTHING }, &mut visited, &mut next);
        search.ways = next;
        search
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

    /// Whether it has taken more work than a search may.
    #[must_use]
    pub const fn is_beyond_budget(&self) -> bool {
        self.visits > BUDGET
    }

    /// Takes the row at [`Search::position`], which is held.
    pub fn step(&mut self, machine: &Machine, rows: &Rows, ended: bool, number: u64) {
        let Some(row) = rows.get(self.position) else { return };
        let at = self.position;
        self.position += 1;
        let place = Place { machine, rows, ended };
        // Conditions on the row alone are tested once for all ways.
        let mut alone: Vec<Option<bool>> = vec![None; machine.tests.len()];
        let ways = std::mem::take(&mut self.ways);
        let (mut next, mut visited) = (Vec::with_capacity(ways.len()), Visited::default());
        for way in ways {
            self.visits += 1;
            let holds = |label| self.takes(&place, &way, Taken { label, excluded: false }, row, &mut alone, number);
            let Some((taken, step)) = choice(machine.pattern.steps[way.step as usize], way.step, holds) else { continue };
            self.taken.push((way.taken, taken));
            let memory = if machine.remembered.binary_search(&taken.label).is_ok() {
                let next = self.memories.len() as u32;
                *self.memories.entry((way.memory, at, taken.label)).or_insert(next)
            } else {
                way.memory
            };
            let way = Way { step, taken: self.taken.len() as u32 - 1, memory };
            if self.follow(&place, way, &mut visited, &mut next) {
                // Complete: what is less preferred does not matter any more.
                break;
            }
        }
        self.ways = next;
    }

    fn takes(&self, place: &Place, way: &Way, taken: Taken, row: &Row, alone: &mut [Option<bool>], number: u64) -> bool {
        match &place.machine.tests[usize::from(taken.label)] {
            Test::Always => true,
            Test::Row(test) => *alone[usize::from(taken.label)].get_or_insert_with(|| test.holds(&row.values)),
            Test::Match(test) => {
                let mut so_far = self.rows_of(way.taken);
                so_far.push(taken);
                test.holds(&place.machine.view(place.rows, self.start, &so_far, number))
            }
        }
    }

    /// Follows a way to the steps where it waits for the next row. Whether it is complete.
    fn follow(&mut self, place: &Place, way: Way, visited: &mut Visited, next: &mut Vec<Way>) -> bool {
        // With each step the repetitions that have taken no row yet, as bits.
        let mut open = vec![(way.step, 0_u128)];
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

    fn rows_of(&self, mut last: u32) -> Vec<Taken> {
        let mut rows = Vec::new();
        while let Some((before, taken)) = self.taken.get(last as usize) {
            rows.push(*taken);
            last = *before;
        }
        rows.reverse();
        rows
    }

    /// The rows of the best match found. Those that it passed over at the end, where nothing came, are none of it.
    #[must_use]
    pub fn found(&self) -> Option<Vec<Taken>> {
        let mut rows = self.rows_of(self.found?);
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
