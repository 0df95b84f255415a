//! What is told of a match.

use crate::event::{Value, time};
use crate::expr::scalar::decimal;
use crate::pattern::Label;
use serde_json::Number;
use std::sync::Arc;

/// A row of a pattern's output: one for a match, or one for each of its rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The values of the fields that the rule's partitions are made by.
    pub partition: Arc<[Value]>,
    /// From 1 within the partition; `None` for a row that no match has.
    pub match_number: Option<u64>,
    /// The number over all inputs of the row that this is about: of `ONE ROW PER MATCH` the match's last, of an empty match the one where it was found.
    pub row: u64,
    /// The row's variable, where all rows are put out.
    pub label: Option<Label>,
    /// The numbers of the match's first and last row; none of an empty match.
    pub rows: Option<(u64, u64)>,
    /// One for each measure.
    pub measures: Vec<Value>,
}

/// A value as JSON: numbers exactly, instants and dates as text, floats that JSON does not know as text too.
#[must_use]
pub fn json(value: &Value) -> serde_json::Value {
    use serde_json::Value as Json;
    let number = |text: String| text.parse::<Number>().map_or(Json::String(text), Json::Number);
    match value {
        Value::Null => Json::Null,
        Value::Bool(truth) => Json::Bool(*truth),
        Value::Int(value) => Json::from(*value),
        Value::UInt(value) => Json::from(*value),
        Value::Float(value) if value.is_finite() => Json::from(*value),
        Value::Float(value) => Json::String(value.to_string()),
        Value::Decimal { units, scale } => number(decimal::format(*units, *scale)),
        Value::Text(text) => Json::String(text.to_string()),
        Value::Timestamp { ticks, unit } => Json::String(time::format_timestamp(*ticks, *unit)),
        Value::Date(days) => Json::String(time::format_date(i64::from(*days))),
        Value::Interval { months, days, nanoseconds } => Json::String(format!("{months} months {days} days {nanoseconds} nanoseconds")),
    }
}
