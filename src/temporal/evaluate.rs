//! Expressions that look at several rows of a match.

use super::aggregate::{Aggregate, Known};
use super::rows::Rows;
use crate::event::Value;
use crate::expr::Expr;
use crate::expr::oracle::Oracle;
use crate::id::FieldId;
#[cfg(doc)]
use crate::pattern::AggregateFunction;
use crate::pattern::{Formula, Label, Labels, Leaf, Navigation};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A row of a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    pub label: Label,
    pub excluded: bool,
}

/// A match, complete or not.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub rows: &'a Rows,
    pub names: &'a [Arc<str>],
    /// The partition's row that it begins with.
    pub start: u64,
    /// The variable of each of its rows.
    pub taken: &'a [Taken],
    pub number: u64,
}

/// Where the fields of an expression over one row lie in [`super::rows::Row::values`]; behind them come the classifier and the number of the match.
#[derive(Clone, Debug)]
pub struct Places {
    needed: Vec<FieldId>,
    fields: u32,
}

impl Places {
    /// `needed`: the fields that rows carry, ascending; `fields`: how many the events have.
    #[must_use]
    pub const fn new(needed: Vec<FieldId>, fields: u32) -> Self {
        Self { needed, fields }
    }

    #[must_use]
    pub fn needed(&self) -> &[FieldId] {
        &self.needed
    }

    /// Where a field lies; beyond all rows' values, if they have it not.
    #[must_use]
    pub fn place(&self, field: FieldId) -> FieldId {
        if field.0 >= self.fields {
            return FieldId::new(self.needed.len() + (field.0 - self.fields) as usize);
        }
        FieldId::new(self.needed.binary_search(&field).unwrap_or(usize::MAX >> 40))
    }

    /// An expression over one row, ready.
    #[must_use]
    pub fn over_row(&self, expr: &Expr) -> OverRow {
        let about_match = expr.fields().iter().any(|field| field.0 >= self.fields);
        OverRow { oracle: Oracle::owned(expr.clone().with_fields(|field| self.place(field))), fields: self.needed.len(), about_match }
    }
}

/// An expression over one row.
#[derive(Clone, Debug)]
pub struct OverRow {
    oracle: Oracle<'static>,
    fields: usize,
    /// Whether it asks for the classifier or the number of the match.
    about_match: bool,
}

impl OverRow {
    /// Its value for a row of the partition; NULL where that is not held.
    fn at(&self, view: &View, row: u64) -> Value {
        let Some(found) = view.rows.get(row) else { return Value::Null };
        if !self.about_match {
            return self.oracle.evaluate(found.values);
        }
        let mut values: Vec<Value> = found.values.to_vec();
        values.resize(self.fields, Value::Null);
        let taken = row.checked_sub(view.start).and_then(|at| view.taken.get(usize::try_from(at).ok()?));
        let name = taken.and_then(|taken| view.names.get(usize::from(taken.label)));
        values.push(name.map_or(Value::Null, |name| Value::Text(Arc::clone(name))));
        values.push(Value::Int(view.number.cast_signed()));
        self.oracle.evaluate(&values)
    }
}

/// A formula, ready.
#[derive(Clone, Debug)]
pub struct Prepared {
    oracle: Oracle<'static>,
    leaves: Vec<PreparedLeaf>,
    /// What the leaves summarize, in their order.
    summaries: Vec<Summary>,
}

#[derive(Clone, Debug)]
enum PreparedLeaf {
    Value {
        navigation: Navigation,
        expr: OverRow,
    },
    /// The next of the formula's summaries.
    Summary,
    MatchNumber,
}

/// An aggregate over rows of a match.
#[derive(Clone, Debug)]
struct Summary {
    aggregate: Aggregate,
    labels: Labels,
    running: bool,
    argument: Option<OverRow>,
    filter: Option<OverRow>,
    /// See [`AggregateFunction::by`].
    by: Option<OverRow>,
}

/// What the aggregates of a formula know of the rows so far, one after the other.
pub type Sums = Box<[Known]>;

impl Prepared {
    #[must_use]
    pub fn new(formula: &Formula, places: &Places) -> Self {
        let mut summaries = Vec::new();
        let leaves = formula.leaves.iter().map(|leaf| match leaf {
            Leaf::Value { navigation, expr } => PreparedLeaf::Value { navigation: navigation.clone(), expr: places.over_row(expr) },
            Leaf::Aggregate { function, distinct, labels, running, argument, filter } => {
                let ready = |expr: Option<&Expr>| expr.map(|expr| places.over_row(expr));
                summaries.push(Summary {
                    aggregate: Aggregate::new(function.clone(), *distinct, leaf.ty()),
                    labels: labels.clone(),
                    running: *running,
                    argument: ready(argument.as_ref()),
                    filter: ready(filter.as_ref()),
                    by: ready(function.by()),
                });
                PreparedLeaf::Summary
            }
            Leaf::MatchNumber => PreparedLeaf::MatchNumber,
        });
        let leaves = leaves.collect();
        Self { oracle: Oracle::owned(formula.expr.clone()), leaves, summaries }
    }

    /// Whether it has aggregates.
    #[must_use]
    pub const fn summarizes(&self) -> bool {
        !self.summaries.is_empty()
    }

    /// What its aggregates know before the first row.
    #[must_use]
    pub fn nothing(&self) -> Sums {
        self.summaries.iter().map(|summary| summary.aggregate.nothing()).collect()
    }

    /// Adds the match's row `at`, counted from its first, to those aggregates that are RUNNING, or to the others.
    pub fn add(&self, sums: &mut Sums, view: &View, at: usize, running: bool) {
        let row = view.start + at as u64;
        for (summary, known) in self.summaries.iter().zip(sums) {
            let holds = |filter: &OverRow| filter.at(view, row) == Value::Bool(true);
            if summary.running == running && summary.labels.contain(view.taken[at].label) && summary.filter.as_ref().is_none_or(holds) {
                let value = summary.argument.as_ref().map_or(Value::Bool(true), |argument| argument.at(view, row));
                summary.aggregate.add(known, value, summary.by.as_ref().map(|by| by.at(view, row)));
            }
        }
    }

    /// The value as of the row behind which `seen` rows of the match end; `sums` know those.
    #[must_use]
    pub fn evaluate(&self, view: &View, seen: usize, sums: &Sums) -> Value {
        self.oracle.evaluate(&self.leaves(view, seen, sums))
    }

    /// Whether it is TRUE as of the last row of the match so far.
    #[must_use]
    pub fn holds(&self, view: &View, sums: &Sums) -> bool {
        self.oracle.holds(&self.leaves(view, view.taken.len(), sums))
    }

    fn leaves(&self, view: &View, seen: usize, sums: &Sums) -> Vec<Value> {
        let mut summaries = self.summaries.iter().zip(sums);
        let leaf = |leaf: &PreparedLeaf| match leaf {
            PreparedLeaf::MatchNumber => Value::Int(view.number.cast_signed()),
            PreparedLeaf::Value { navigation, expr } => {
                let taken = &view.taken[..if navigation.running { seen } else { view.taken.len() }];
                let mut of = taken.iter().enumerate().filter(|(_, taken)| navigation.labels.contain(taken.label)).map(|(at, _)| at);
                let skip = navigation.skip as usize;
                let found = if navigation.last { of.nth_back(skip) } else { of.nth(skip) };
                let row = found.and_then(|at| (view.start + at as u64).checked_add_signed(navigation.offset));
                row.map_or(Value::Null, |row| expr.at(view, row))
            }
            PreparedLeaf::Summary => summaries.next().map_or(Value::Null, |(summary, known)| summary.aggregate.value(known)),
        };
        self.leaves.iter().map(leaf).collect()
    }
}

/// The measures of a complete match, row by row.
#[derive(Debug)]
pub struct Telling<'a> {
    measures: &'a [Prepared],
    view: View<'a>,
    sums: Vec<Sums>,
    /// Rows that RUNNING aggregates know.
    seen: usize,
}

impl<'a> Telling<'a> {
    #[must_use]
    pub fn new(measures: &'a [Prepared], view: View<'a>) -> Self {
        let sums = measures.iter().map(|measure| {
            let mut sums = measure.nothing();
            (0..view.taken.len()).for_each(|at| measure.add(&mut sums, &view, at, false));
            sums
        });
        Self { measures, view, sums: sums.collect(), seen: 0 }
    }

    /// The measures as of the match's row `current`, counted from its first, which is not before that of the last call; `None`: of an empty match.
    pub fn at(&mut self, current: Option<usize>) -> Vec<Value> {
        let seen = current.map_or(0, |current| current + 1);
        for (measure, sums) in self.measures.iter().zip(&mut self.sums).filter(|(measure, _)| measure.summarizes()) {
            (self.seen..seen).for_each(|at| measure.add(sums, &self.view, at, true));
        }
        self.seen = seen;
        self.measures.iter().zip(&self.sums).map(|(measure, sums)| measure.evaluate(&self.view, seen, sums)).collect()
    }
}
