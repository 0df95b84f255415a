//! Expressions that look at several rows of a match.

use super::aggregate::{aggregate, best};
use super::rows::Rows;
use crate::event::{Type, Value};
use crate::expr::Expr;
use crate::expr::oracle::Oracle;
use crate::id::FieldId;
use crate::pattern::{AggregateFunction, Formula, Label, Labels, Leaf, Navigation};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
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
}

#[derive(Clone, Debug)]
enum PreparedLeaf {
    Value {
        navigation: Navigation,
        expr: OverRow,
    },
    Aggregate {
        function: AggregateFunction,
        distinct: bool,
        labels: Labels,
        running: bool,
        argument: Option<OverRow>,
        filter: Option<OverRow>,
        /// See [`AggregateFunction::by`].
        by: Option<Box<OverRow>>,
        ty: Type,
    },
    MatchNumber,
}

impl Prepared {
    #[must_use]
    pub fn new(formula: &Formula, places: &Places) -> Self {
        let leaves = formula
            .leaves
            .iter()
            .map(|leaf| match leaf {
                Leaf::Value { navigation, expr } => PreparedLeaf::Value { navigation: navigation.clone(), expr: places.over_row(expr) },
                Leaf::Aggregate { function, distinct, labels, running, argument, filter } => PreparedLeaf::Aggregate {
                    function: function.clone(),
                    distinct: *distinct,
                    labels: labels.clone(),
                    running: *running,
                    argument: argument.as_ref().map(|expr| places.over_row(expr)),
                    filter: filter.as_ref().map(|expr| places.over_row(expr)),
                    by: function.by().map(|expr| Box::new(places.over_row(expr))),
                    ty: argument.as_ref().map_or(Type::Int, |expr| expr.ty(expr.root())),
                },
                Leaf::MatchNumber => PreparedLeaf::MatchNumber,
            })
            .collect();
        Self { oracle: Oracle::owned(formula.expr.clone()), leaves }
    }

    /// The value as of the match's row `current`, counted from its first; `None`: of an empty match.
    #[must_use]
    pub fn evaluate(&self, view: &View, current: Option<usize>) -> Value {
        self.oracle.evaluate(&self.leaves(view, current))
    }

    /// Whether it is TRUE as of the last row of the match so far.
    #[must_use]
    pub fn holds(&self, view: &View) -> bool {
        self.oracle.holds(&self.leaves(view, view.taken.len().checked_sub(1)))
    }

    fn leaves(&self, view: &View, current: Option<usize>) -> Vec<Value> {
        let seen = current.map_or(0, |current| current + 1);
        self.leaves.iter().map(|leaf| leaf.value(view, seen)).collect()
    }
}

impl PreparedLeaf {
    /// `seen`: rows of the match up to the current one.
    fn value(&self, view: &View, seen: usize) -> Value {
        match self {
            Self::MatchNumber => Value::Int(view.number.cast_signed()),
            Self::Value { navigation, expr } => {
                let taken = &view.taken[..if navigation.running { seen } else { view.taken.len() }];
                let mut of = taken.iter().enumerate().filter(|(_, taken)| navigation.labels.contain(taken.label)).map(|(at, _)| at);
                let skip = navigation.skip as usize;
                let found = if navigation.last { of.nth_back(skip) } else { of.nth(skip) };
                let row = found.and_then(|at| (view.start + at as u64).checked_add_signed(navigation.offset));
                row.map_or(Value::Null, |row| expr.at(view, row))
            }
            Self::Aggregate { function, distinct, labels, running, argument, filter, by, ty } => {
                let taken = &view.taken[..if *running { seen } else { view.taken.len() }];
                let rows = (view.start..).zip(taken).filter(|(_, taken)| labels.contain(taken.label)).map(|(row, _)| row);
                let rows = rows.filter(|row| filter.as_ref().is_none_or(|filter| filter.at(view, *row) == Value::Bool(true)));
                let value = |row| argument.as_ref().map_or(Value::Bool(true), |argument| argument.at(view, row));
                match by {
                    Some(by) => {
                        let least = matches!(function, AggregateFunction::MinimumBy(_));
                        best(rows.map(|row| (by.at(view, row), value(row))), if least { Ordering::Less } else { Ordering::Greater })
                    }
                    None => aggregate(function, *distinct, rows.map(value).collect(), *ty),
                }
            }
        }
    }
}
