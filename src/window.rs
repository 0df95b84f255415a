//! Velocity windows in their typed form: what the checker makes of `… OVER (…)`, what an artifact stores, and what [`crate::temporal`] keeps state for.

use crate::event::{Field, Type};
use crate::expr::Expr;
use crate::id::FieldId;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What is made of the rows of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Function {
    /// Rows, or values that are not NULL -> int
    Count,
    /// -> int
    CountDistinct,
    /// Exact for integers and decimals, the nearest double for floats; beyond the type's range NULL
    Sum,
    /// -> float
    Average,
    Minimum,
    Maximum,
    /// Of a sample; of fewer than two values NULL -> float
    Deviation,
    /// Of the first row, also where it is NULL
    First,
    /// Of the last row, also where it is NULL
    Last,
}

/// The rows that a window looks at, seen from one of them. What follows that row is in no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Frame {
    /// Rows by their age in nanoseconds, both ends included; rows of the same time came before the row itself.
    Range {
        /// `None`: all that came before.
        from: Option<i64>,
        to: i64,
        /// Whether the row itself counts, where `to` is 0.
        current: bool,
    },
    /// Rows by their number: 0 is the row itself, 1 the one before it.
    Rows { from: Option<u32>, to: u32 },
}

/// A function over the rows of one partition that came so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    pub function: Function,
    /// Over the fields of one row; absent where rows are counted.
    pub argument: Option<Expr>,
    /// Only rows for which it is TRUE count.
    pub filter: Option<Expr>,
    pub partition_by: Vec<FieldId>,
    pub frame: Frame,
}

/// A window as a column behind the fields of the events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WindowColumn {
    /// What a document calls it; `None`: it stands in conditions.
    pub name: Option<Arc<str>>,
    pub window: Window,
}

/// Fields that a window is partitioned by, at most.
pub const PARTITION_FIELDS_MAX: usize = 32;

impl Window {
    /// The type of its values.
    #[must_use]
    pub fn ty(&self) -> Type {
        match self.function {
            Function::Count | Function::CountDistinct => Type::Int,
            Function::Average | Function::Deviation => Type::Float,
            _ => self.argument.as_ref().map_or(Type::Null, |argument| argument.ty(argument.root())),
        }
    }

    /// The fields that it reads, besides tenant and time.
    pub fn needs(&self) -> impl Iterator<Item = FieldId> {
        let read = self.argument.iter().chain(&self.filter).flat_map(Expr::fields);
        self.partition_by.iter().copied().chain(read)
    }

    /// Whether it is one that the checker could have made over events of these fields. This is for windows read from a file.
    #[must_use]
    pub fn is_well_formed(&self, fields: &[Field]) -> bool {
        let argument_holds = match &self.argument {
            None => self.function == Function::Count,
            Some(argument) => argument.is_well_formed(fields) && takes(self.function, argument.ty(argument.root())),
        };
        argument_holds
            && self.filter.as_ref().is_none_or(|filter| filter.is_well_formed(fields) && filter.ty(filter.root()) == Type::Bool)
            && self.partition_by.len() <= PARTITION_FIELDS_MAX
            && self.partition_by.iter().all(|field| field.index() < fields.len())
            && match self.frame {
                Frame::Range { from, to, .. } => to >= 0 && from.is_none_or(|from| from >= 0),
                Frame::Rows { .. } => true,
            }
    }
}

/// Whether the function takes values of this type. Counting them takes any.
#[must_use]
pub const fn takes(function: Function, ty: Type) -> bool {
    match function {
        Function::Count => true,
        Function::Sum | Function::Average | Function::Deviation => ty.is_numeric(),
        _ => !matches!(ty, Type::Null | Type::Interval),
    }
}
