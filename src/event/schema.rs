//! The schema: fields, their types, and the roles that some of them play.

use crate::id::FieldId;
use foldhash::fast::FixedState;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The unit of a timestamp: how many of its ticks make a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TimeUnit {
    Second,
    Millisecond,
    Microsecond,
    Nanosecond,
}

impl TimeUnit {
    /// Ticks in one second.
    #[must_use]
    pub const fn ticks_per_second(self) -> i64 {
        match self {
            Self::Second => 1,
            Self::Millisecond => 1_000,
            Self::Microsecond => 1_000_000,
            Self::Nanosecond => 1_000_000_000,
        }
    }

    /// Nanoseconds in one tick.
    #[must_use]
    pub const fn nanoseconds(self) -> i64 {
        1_000_000_000 / self.ticks_per_second()
    }
}

/// The type of a field or an expression. Widths that only differ in storage are one type: every integer that fits in an
/// `i64` is [`Type::Int`], every float is [`Type::Float`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Type {
    /// The type of a bare `NULL`.
    Null,
    Bool,
    Int,
    /// Unsigned 64-bit integers; the smaller unsigned ones are [`Type::Int`].
    UInt,
    Float,
    /// An exact decimal of at most 38 digits, `scale` of them after the point.
    Decimal {
        scale: u8,
    },
    Text,
    /// An instant: ticks of `unit` since 1970-01-01T00:00:00Z. Fields with a time zone are held in UTC.
    Timestamp(TimeUnit),
    /// Days since 1970-01-01.
    Date,
    Interval,
}

impl Type {
    /// Whether arithmetic applies.
    #[must_use]
    pub const fn is_numeric(self) -> bool {
        matches!(self, Self::Int | Self::UInt | Self::Float | Self::Decimal { .. })
    }

    /// Whether the type is one that values may have: a decimal has at most 38 digits, all of which may follow the point.
    #[must_use]
    pub const fn is_in_range(self) -> bool {
        !matches!(self, Self::Decimal { scale } if scale > 38)
    }

    /// Whether values are whole numbers by their type.
    #[must_use]
    pub const fn is_integer(self) -> bool {
        matches!(self, Self::Int | Self::UInt)
    }
}

impl std::fmt::Display for Type {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("boolean"),
            Self::Int => f.write_str("int64"),
            Self::UInt => f.write_str("uint64"),
            Self::Float => f.write_str("float64"),
            Self::Decimal { scale } => write!(f, "decimal(38,{scale})"),
            Self::Text => f.write_str("utf8"),
            Self::Timestamp(unit) => f.write_str(match unit {
                TimeUnit::Second => "timestamp(s)",
                TimeUnit::Millisecond => "timestamp(ms)",
                TimeUnit::Microsecond => "timestamp(us)",
                TimeUnit::Nanosecond => "timestamp(ns)",
            }),
            Self::Date => f.write_str("date"),
            Self::Interval => f.write_str("interval"),
        }
    }
}

/// One field of the events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    pub name: String,
    #[serde(rename = "type")]
    pub ty: Type,
}

/// The fields of the events, in order, and the roles that some of them play.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    fields: Vec<Field>,
    by_name: HashMap<String, FieldId, FixedState>,
    /// The event's own identifier, carried into the outputs.
    pub id: Option<FieldId>,
    /// The field that names the tenant an event belongs to.
    pub tenant: Option<FieldId>,
    /// Event time.
    pub time: Option<FieldId>,
    /// The key that state is kept by.
    pub key: Option<FieldId>,
    /// The known truth of an event, where there is one (boolean, or a number that is 0 or 1): the source of precision and recall.
    pub label: Option<FieldId>,
    /// Fields whose values are told to nobody, ascending.
    pub sensitive: Vec<FieldId>,
}

impl Schema {
    /// A schema of `fields` without roles.
    ///
    /// # Errors
    /// The name that occurs twice.
    pub fn new(fields: Vec<Field>) -> Result<Self, String> {
        let mut by_name = HashMap::with_capacity_and_hasher(fields.len(), FixedState::default());
        for (index, field) in fields.iter().enumerate() {
            if by_name.insert(field.name.clone(), FieldId::new(index)).is_some() {
                return Err(field.name.clone());
            }
        }
        Ok(Self { fields, by_name, ..Self::default() })
    }

    /// Adds a field behind the others; `None` where one has its name.
    pub fn push(&mut self, field: Field) -> Option<FieldId> {
        if self.by_name.contains_key(&field.name) {
            return None;
        }
        let id = FieldId::new(self.fields.len());
        self.by_name.insert(field.name.clone(), id);
        self.fields.push(field);
        Some(id)
    }

    /// Leaves the first `fields` fields, and the roles of those.
    pub fn truncate(&mut self, fields: usize) {
        for field in self.fields.drain(fields.min(self.fields.len())..) {
            self.by_name.remove(&field.name);
        }
        for role in [&mut self.id, &mut self.tenant, &mut self.time, &mut self.key, &mut self.label] {
            *role = role.filter(|field| field.index() < fields);
        }
        self.sensitive.retain(|field| field.index() < fields);
    }

    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    #[must_use]
    pub fn field(&self, id: FieldId) -> &Field {
        &self.fields[id.index()]
    }

    /// Why a value of a field is none of its type. Of a sensitive field the reason, which may show the value, is not told.
    #[must_use]
    pub fn misfit(&self, field: FieldId, reason: &str) -> String {
        let Field { name, ty } = self.field(field);
        if self.sensitive.contains(&field) {
            return format!("{name}: the value does not fit {ty}; the field is sensitive, and the value is not shown");
        }
        format!("{name}: {reason}")
    }

    /// The field of exactly this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<FieldId> {
        self.by_name.get(name).copied()
    }
}
