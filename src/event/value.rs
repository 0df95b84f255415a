//! One value of a field or an expression, and how two values compare.

use super::schema::{TimeUnit, Type};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A single value. The vectorised paths never build these for each row; the oracle, the literals of rules and `explain` do.
///
/// `PartialEq` is structural (used to compare expressions); the comparison of the rule language is [`super::super::expr::scalar`]'s.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(f64),
    /// `units` / 10^`scale`.
    Decimal {
        units: i128,
        scale: u8,
    },
    Text(Arc<str>),
    /// Ticks of `unit` since 1970-01-01T00:00:00Z.
    Timestamp {
        ticks: i64,
        unit: TimeUnit,
    },
    /// Days since 1970-01-01.
    Date(i32),
    Interval {
        months: i32,
        days: i32,
        nanoseconds: i64,
    },
}

impl Value {
    /// The type of this value. A NULL has the type of every field; here it is [`Type::Null`].
    #[must_use]
    pub const fn ty(&self) -> Type {
        match self {
            Self::Null => Type::Null,
            Self::Bool(_) => Type::Bool,
            Self::Int(_) => Type::Int,
            Self::UInt(_) => Type::UInt,
            Self::Float(_) => Type::Float,
            Self::Decimal { scale, .. } => Type::Decimal { scale: *scale },
            Self::Text(_) => Type::Text,
            Self::Timestamp { unit, .. } => Type::Timestamp(*unit),
            Self::Date(_) => Type::Date,
            Self::Interval { .. } => Type::Interval,
        }
    }

    #[must_use]
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}
