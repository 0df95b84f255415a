//! Row patterns (MATCH_RECOGNIZE of SQL:2016) in their typed form: what the checker makes of a rule's text, what an artifact stores, and what
//! [`crate::temporal`] runs.

use crate::event::{Field, Schema, Type};
use crate::expr::Expr;
use crate::id::FieldId;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A pattern variable: its place in [`Pattern::labels`].
pub type Label = u16;

/// What a row has in the place of a variable that a sequence passes over: it is in the match, and no expression means it.
pub const PASSED: Label = Label::MAX;

/// Pattern variables that an expression refers to together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Labels {
    /// Every row of the match that is one of a variable.
    All,
    /// One variable, or those of a SUBSET, ascending.
    Of(Vec<Label>),
}

impl Labels {
    /// Whether rows of this variable are meant.
    #[must_use]
    pub fn contain(&self, label: Label) -> bool {
        match self {
            Self::All => label != PASSED,
            Self::Of(labels) => labels.contains(&label),
        }
    }
}

/// The way to the row that a value is taken from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Navigation {
    /// Rows that count for `LAST` and `FIRST`.
    pub labels: Labels,
    /// `LAST`, which a bare column means too; else `FIRST`.
    pub last: bool,
    /// How many such rows are passed over first: `LAST(x, n)`.
    pub skip: u32,
    /// `PREV` (negative) and `NEXT`: so many rows of the partition further from there.
    pub offset: i64,
    /// RUNNING: rows of the match up to the current one; else, FINAL, all of them.
    pub running: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AggregateFunction {
    /// Rows, or values that are not NULL -> int
    Count,
    /// Exact for integers and decimals; beyond the type's range NULL
    Sum,
    /// -> float
    Average,
    Minimum,
    Maximum,
    /// Of a sample; of fewer than two values NULL -> float
    Deviation,
    /// The values as a JSON array, NULLs too -> text
    Array,
    /// The first value that is not NULL
    Any,
    /// The texts one after the other, with this one between them -> text
    List(Arc<str>),
    /// The value of the row in which this is least; of several the first
    MinimumBy(Box<Expr>),
    MaximumBy(Box<Expr>),
}

/// A value that depends on more than one row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Leaf {
    /// `expr` over one row: its fields, then [`Pattern::classifier`] and [`Pattern::match_number`] behind them.
    Value { navigation: Navigation, expr: Expr },
    /// Over the rows of `labels`: `argument` and `filter` are over one row, as above. Without an argument, rows are counted.
    Aggregate { function: AggregateFunction, distinct: bool, labels: Labels, running: bool, argument: Option<Expr>, filter: Option<Expr> },
    /// The number of the match within its partition, from 1.
    MatchNumber,
}

/// An expression whose fields are leaves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Formula {
    pub expr: Expr,
    pub leaves: Vec<Leaf>,
}

/// What makes a row a row of a variable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Define {
    /// Every row may be one.
    Always,
    /// A condition on the row alone, over its fields.
    Row(Expr),
    /// A condition that looks at the match so far, or at neighbours.
    Match(Formula),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    pub name: Arc<str>,
    pub formula: Formula,
    /// Whether the text is JSON and goes out as it is.
    pub json: bool,
}

impl Measure {
    /// Fields whose values it may tell. Of what it counts or is chosen by, nothing is told.
    pub fn tells(&self) -> impl Iterator<Item = FieldId> + '_ {
        self.formula.leaves.iter().filter_map(Leaf::told).flat_map(Expr::fields)
    }
}

/// Repetitions of what may match no row that a pattern has at most.
pub const REPETITIONS_MAX: u8 = 128;

/// One step of the automaton. Of two ways the first is preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Takes a row of this variable; one in `{- -}` is left out of the output.
    Take {
        label: Label,
        excluded: bool,
    },
    Split {
        first: u32,
        second: u32,
    },
    Jump(u32),
    /// A repetition of what may match no row begins: so many of them a pattern may have.
    Enter(u8),
    /// It ends, and goes on at `to`, unless it took no row: then there is no way here, and repeating for ever is none.
    Again {
        repetition: u8,
        to: u32,
    },
    /// `^`
    Start,
    /// `$`
    End,
    Accept,
    /// Takes the next row of this variable, whatever comes before it: rows of `also` are taken too, others passed over, and one of `except` ends the
    /// way. A row that could be several of these is the first of `except`, `label`, `also`. Without a variable it waits until WITHIN has run out
    /// or the input has ended, and the match is complete then.
    Await {
        label: Option<Label>,
        also: Option<Label>,
        except: [Option<Label>; 2],
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderKey {
    pub field: FieldId,
    pub descending: bool,
    pub nulls_first: bool,
}

/// Where the search goes on after a match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Skip {
    PastLastRow,
    ToNextRow,
    ToFirst(Labels),
    ToLast(Labels),
}

/// Which rows are put out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    OneRow,
    /// `ALL ROWS PER MATCH`, with or without matches of no row, and with or without rows that no match has.
    AllRows {
        empty: bool,
        unmatched: bool,
    },
}

/// A pattern rule's clause.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pattern {
    pub partition_by: Vec<FieldId>,
    pub order_by: Vec<OrderKey>,
    pub measures: Vec<Measure>,
    pub output: Output,
    pub skip: Skip,
    /// Nanoseconds from the first row of a match within which its last lies, exclusive.
    pub within: Option<i64>,
    /// The variables of the pattern, in the order in which it names them.
    pub labels: Vec<Arc<str>>,
    pub defines: Vec<Define>,
    pub steps: Vec<Step>,
    /// Fields of the events: what stands behind them in the expressions over one row.
    pub fields: u32,
}

impl Pattern {
    /// The name of the row's variable, as a field of expressions over one row.
    #[must_use]
    pub const fn classifier(&self) -> FieldId {
        FieldId(self.fields)
    }

    /// The number of the match, likewise.
    #[must_use]
    pub const fn match_number(&self) -> FieldId {
        FieldId(self.fields + 1)
    }

    /// Whether a match may go on for ever in a stream of `schema`'s events.
    #[must_use]
    pub fn is_unbounded(&self, schema: &Schema) -> bool {
        let streams = self.order_by.first().is_some_and(|key| Some(key.field) == schema.time);
        let repeats = |(at, step): (usize, &Step)| match step {
            Step::Jump(to) | Step::Again { to, .. } => (*to as usize) <= at,
            Step::Split { first, second } => (*first).min(*second) as usize <= at,
            Step::Await { .. } => true,
            _ => false,
        };
        streams && self.within.is_none() && self.steps.iter().enumerate().any(repeats)
    }

    /// Whether every reference holds, for one read from a file.
    #[must_use]
    pub fn is_well_formed(&self, schema: &[Field]) -> bool {
        let labels = self.labels.len();
        let step_holds = |step: &Step| match step {
            Step::Take { label, .. } => usize::from(*label) < labels,
            Step::Split { first, second } => (*first as usize) < self.steps.len() && (*second as usize) < self.steps.len(),
            Step::Jump(to) => (*to as usize) < self.steps.len(),
            Step::Again { repetition, to } => (*to as usize) < self.steps.len() && *repetition < REPETITIONS_MAX,
            Step::Enter(repetition) => *repetition < REPETITIONS_MAX,
            Step::Start | Step::End | Step::Accept => true,
            Step::Await { label, also, except } => {
                label.iter().chain(also).chain(except.iter().flatten()).all(|label| usize::from(*label) < labels)
            }
        };
        let mut row = schema.to_vec();
        row.push(Field { name: String::new(), ty: Type::Text });
        row.push(Field { name: String::new(), ty: Type::Int });
        let leaf_holds = |leaf: &Leaf| leaf.over_row().all(|expr| expr.is_well_formed(&row));
        let formula_holds = |formula: &Formula| {
            // Only what is sound has a type.
            if !formula.leaves.iter().all(leaf_holds) {
                return false;
            }
            let fields: Vec<Field> = formula.leaves.iter().map(|leaf| Field { name: String::new(), ty: leaf.ty() }).collect();
            formula.expr.is_well_formed(&fields)
        };
        let define_holds = |define: &Define| match define {
            Define::Always => true,
            Define::Row(expr) => expr.is_well_formed(schema),
            Define::Match(formula) => formula_holds(formula),
        };
        let fields = self.partition_by.iter().chain(self.order_by.iter().map(|key| &key.field));
        self.fields as usize == schema.len()
            && fields.into_iter().all(|field| field.index() < schema.len())
            && self.steps.last() == Some(&Step::Accept)
            && self.steps.iter().all(step_holds)
            && labels <= usize::from(PASSED)
            && self.defines.len() == labels
            && self.defines.iter().all(define_holds)
            && self.measures.iter().all(|measure| formula_holds(&measure.formula))
    }

    /// How many rows before a row its conditions and measures may look at.
    #[must_use]
    pub fn looks_back(&self) -> u64 {
        self.navigations().map(|navigation| navigation.offset.min(0).unsigned_abs()).max().unwrap_or(0)
    }

    /// How many rows after a row must be known before it is judged.
    #[must_use]
    pub fn looks_ahead(&self) -> u64 {
        let next = |formula: &Formula| offsets(formula).max().unwrap_or(0).max(0).unsigned_abs();
        let defined = self.defines.iter().map(|define| if let Define::Match(formula) = define { next(formula) } else { 0 }).max();
        defined.unwrap_or(0).max(u64::from(self.steps.contains(&Step::End)))
    }

    /// How many rows after a match must be known before it is put out.
    #[must_use]
    pub fn measures_look_ahead(&self) -> u64 {
        self.measures.iter().flat_map(|measure| offsets(&measure.formula)).max().unwrap_or(0).max(0).unsigned_abs()
    }

    fn navigations(&self) -> impl Iterator<Item = &Navigation> {
        let defined = self.defines.iter().filter_map(|define| if let Define::Match(formula) = define { Some(formula) } else { None });
        defined.chain(self.measures.iter().map(|measure| &measure.formula)).flat_map(|formula| &formula.leaves).filter_map(Leaf::navigation)
    }

    /// The fields of the events that it reads, ascending.
    #[must_use]
    pub fn needs(&self) -> Vec<FieldId> {
        let mut fields: Vec<FieldId> = self.partition_by.clone();
        fields.extend(self.order_by.iter().map(|key| key.field));
        let mut add = |expr: &Expr| fields.extend(expr.fields());
        let leaves = |formula: &Formula, add: &mut dyn FnMut(&Expr)| formula.leaves.iter().flat_map(Leaf::over_row).for_each(add);
        for define in &self.defines {
            match define {
                Define::Always => {}
                Define::Row(expr) => add(expr),
                Define::Match(formula) => leaves(formula, &mut add),
            }
        }
        self.measures.iter().for_each(|measure| leaves(&measure.formula, &mut add));
        fields.retain(|field| field.0 < self.fields);
        fields.sort_unstable();
        fields.dedup();
        fields
    }
}

fn offsets(formula: &Formula) -> impl Iterator<Item = i64> {
    formula.leaves.iter().filter_map(Leaf::navigation).map(|navigation| navigation.offset)
}

impl AggregateFunction {
    /// What rows are compared by.
    #[must_use]
    pub fn by(&self) -> Option<&Expr> {
        if let Self::MinimumBy(by) | Self::MaximumBy(by) = self { Some(by) } else { None }
    }
}

impl Leaf {
    /// The type of its values.
    #[must_use]
    pub fn ty(&self) -> Type {
        let of = |expr: &Expr| if expr.nodes().is_empty() { Type::Null } else { expr.ty(expr.root()) };
        match self {
            Self::Value { expr, .. } => of(expr),
            Self::MatchNumber => Type::Int,
            Self::Aggregate { function, argument, .. } => match function {
                AggregateFunction::Count => Type::Int,
                AggregateFunction::Average | AggregateFunction::Deviation => Type::Float,
                AggregateFunction::Array | AggregateFunction::List(_) => Type::Text,
                AggregateFunction::Sum
                | AggregateFunction::Minimum
                | AggregateFunction::Maximum
                | AggregateFunction::Any
                | AggregateFunction::MinimumBy(_)
                | AggregateFunction::MaximumBy(_) => argument.as_ref().map_or(Type::Null, of),
            },
        }
    }

    /// What its value is made of.
    fn told(&self) -> Option<&Expr> {
        match self {
            Self::Value { expr, .. } => Some(expr),
            Self::Aggregate { function: AggregateFunction::Count, .. } | Self::MatchNumber => None,
            Self::Aggregate { argument, .. } => argument.as_ref(),
        }
    }

    /// What it looks at in each row.
    pub fn over_row(&self) -> impl Iterator<Item = &Expr> {
        let (argument, filter, by) = match self {
            Self::Value { expr, .. } => (Some(expr), None, None),
            Self::Aggregate { function, argument, filter, .. } => (argument.as_ref(), filter.as_ref(), function.by()),
            Self::MatchNumber => (None, None, None),
        };
        argument.into_iter().chain(filter).chain(by)
    }

    #[must_use]
    pub const fn navigation(&self) -> Option<&Navigation> {
        if let Self::Value { navigation, .. } = self { Some(navigation) } else { None }
    }
}
