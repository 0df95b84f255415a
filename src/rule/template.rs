//! Templates: one condition with parameters, from which every row of a table makes a rule.

use super::attributes::{Attributes, Refusal, short};
use super::{Origin, Rule};
use crate::event::{TimeUnit, Type, Value};
use chrono::{DateTime, NaiveDate, NaiveDateTime};
use std::sync::Arc;

/// A condition with `:name` parameters. Its instances share the text of the condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    pub id: Arc<str>,
    pub parameters: Vec<(Arc<str>, Type)>,
    pub when: Arc<str>,
    pub origin: Origin,
    /// What an instance has that says nothing else.
    pub attributes: Attributes,
}

impl Template {
    /// The rule with these values of the parameters, in their order.
    #[must_use]
    pub fn instance(&self, id: Arc<str>, values: Vec<Value>, attributes: Attributes) -> Rule {
        let mut rule = attributes.rule(id, Arc::clone(&self.when), self.origin.clone());
        rule.parameters = self.parameters.iter().map(|(name, _)| Arc::clone(name)).zip(values).collect();
        rule
    }

    /// The id of the instance of `row` that names none.
    #[must_use]
    pub fn instance_id(&self, row: u64) -> Arc<str> {
        format!("{}-{row}", self.id).into()
    }
}

/// The names of types that [`parse_type`] knows, for hints.
pub const TYPE_NAMES: &str = "boolean, int64, uint64, float64, decimal(p,s), utf8, timestamp(unit), date";

/// The type that an Arrow or SQL name stands for.
#[must_use]
pub fn parse_type(name: &str) -> Option<Type> {
    let name = name.trim().to_ascii_lowercase();
    let (base, arguments) = match name.split_once(['(', '[']) {
        Some((base, rest)) => (base.trim(), rest.strip_suffix([')', ']'])?),
        None => (&*name, ""),
    };
    let arguments: Vec<&str> = arguments.split(',').map(str::trim).filter(|argument| !argument.is_empty()).collect();
    match (base, &*arguments) {
        ("bool" | "boolean", []) => Some(Type::Bool),
        (
            "int8" | "int16" | "int32" | "int64" | "uint8" | "uint16" | "uint32" | "int" | "integer" | "bigint" | "smallint" | "tinyint",
            [],
        ) => Some(Type::Int),
        ("uint64" | "ubigint", []) => Some(Type::UInt),
        ("float16" | "float32" | "float64" | "float" | "double" | "double precision" | "real", []) => Some(Type::Float),
        ("utf8" | "largeutf8" | "large_utf8" | "utf8view" | "utf8_view" | "string" | "text" | "varchar", []) => Some(Type::Text),
        ("varchar" | "char", [_]) => Some(Type::Text),
        ("date" | "date32" | "date64", []) => Some(Type::Date),
        ("decimal" | "decimal128" | "numeric", [precision]) => decimal(precision, "0"),
        ("decimal" | "decimal128" | "numeric", [precision, scale]) => decimal(precision, scale),
        ("timestamp" | "datetime" | "timestamptz", []) => Some(Type::Timestamp(TimeUnit::Microsecond)),
        ("timestamp", [unit] | [unit, _]) => Some(Type::Timestamp(match *unit {
            "s" | "second" | "0" => TimeUnit::Second,
            "ms" | "millisecond" | "3" => TimeUnit::Millisecond,
            "us" | "microsecond" | "6" => TimeUnit::Microsecond,
            "ns" | "nanosecond" | "9" => TimeUnit::Nanosecond,
            _ => return None,
        })),
        _ => None,
    }
}

fn decimal(precision: &str, scale: &str) -> Option<Type> {
    let (precision, scale) = (precision.parse::<u8>().ok()?, scale.parse::<u8>().ok()?);
    (precision <= 38 && scale <= precision).then_some(Type::Decimal { scale })
}

/// The value that `text` states of type `ty`, exactly.
///
/// # Errors
/// Why the text is none.
pub fn parse_value(text: &str, ty: Type) -> Result<Value, Refusal> {
    if ty == Type::Text {
        return Ok(Value::Text(text.into()));
    }
    let text = text.trim();
    let value = match ty {
        Type::Bool => match &*text.to_ascii_lowercase() {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            _ => None,
        },
        Type::Int => text.parse().ok().map(Value::Int),
        Type::UInt => text.parse().ok().map(Value::UInt),
        Type::Float => text.parse().ok().map(Value::Float),
        Type::Decimal { scale } => parse_decimal(text, scale),
        Type::Timestamp(unit) => parse_timestamp(text, unit),
        Type::Date => parse_date(text),
        Type::Text | Type::Null | Type::Interval => None,
    };
    value.ok_or_else(|| {
        let hint = match ty {
            Type::Timestamp(_) => "a timestamp is written 2026-01-31T12:00:00Z, and no finer than its unit",
            Type::Date => "a date is written 2026-01-31",
            Type::Decimal { .. } => "the decimal places are fixed by the type",
            _ => "",
        };
        Refusal::new("bad-parameter", format!("`{}` is not {ty}", short(text)), hint)
    })
}

fn parse_decimal(text: &str, scale: u8) -> Option<Value> {
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, places) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    if whole.len() + places.len() == 0 || !whole.bytes().chain(places.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let places = places.trim_end_matches('0');
    let scale_width = usize::from(scale);
    if places.len() > scale_width {
        return None;
    }
    let units: i128 = format!("{sign}{whole}{places:0<scale_width$}").parse().ok()?;
    (units.unsigned_abs() < 10_u128.pow(38)).then_some(Value::Decimal { units, scale })
}

fn parse_timestamp(text: &str, unit: TimeUnit) -> Option<Value> {
    let instant = DateTime::parse_from_rfc3339(text).map(|instant| instant.naive_utc()).ok();
    let plain = |format| NaiveDateTime::parse_from_str(text, format).ok();
    let midnight = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
    let instant = instant.or_else(|| plain("%Y-%m-%dT%H:%M:%S%.f")).or_else(|| plain("%Y-%m-%d %H:%M:%S%.f")).or_else(midnight)?.and_utc();
    let part = i64::from(instant.timestamp_subsec_nanos());
    if part % unit.nanoseconds() != 0 {
        return None;
    }
    let ticks = instant.timestamp().checked_mul(unit.ticks_per_second())?.checked_add(part / unit.nanoseconds())?;
    Some(Value::Timestamp { ticks, unit })
}

fn parse_date(text: &str) -> Option<Value> {
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    let days = date.signed_duration_since(NaiveDate::from_ymd_opt(1970, 1, 1)?).num_days();
    i32::try_from(days).ok().map(Value::Date)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_names_of_arrow_and_sql_are_known() {
        let cases = [
            ("utf8", Some(Type::Text)),
            (" VARCHAR(20)", Some(Type::Text)),
            ("Decimal(9, 2)", Some(Type::Decimal { scale: 2 })),
            ("decimal128(5)", Some(Type::Decimal { scale: 0 })),
            ("decimal(39,2)", None),
            ("decimal(2,3)", None),
            ("bigint", Some(Type::Int)),
            ("uint32", Some(Type::Int)),
            ("uint64", Some(Type::UInt)),
            ("double", Some(Type::Float)),
            ("timestamp", Some(Type::Timestamp(TimeUnit::Microsecond))),
            ("timestamp(ms)", Some(Type::Timestamp(TimeUnit::Millisecond))),
            ("timestamp[ns, UTC]", Some(Type::Timestamp(TimeUnit::Nanosecond))),
            ("timestamp(week)", None),
            ("date32", Some(Type::Date)),
            ("bool", Some(Type::Bool)),
            ("thing", None),
            ("", None),
            ("int64(", None),
        ];
        for (name, expected) in cases {
            assert_eq!(parse_type(name), expected, "{name}");
        }
        for name in ["boolean", "int64", "uint64", "float64", "decimal(38,3)", "utf8", "timestamp(s)", "timestamp(us)", "date"] {
            assert_eq!(parse_type(name).map(|ty| ty.to_string()).as_deref(), Some(name), "a name as it is printed");
        }
    }

    #[test]
    fn values_are_exact_or_refused() {
        let decimal = |units, scale| Some(Value::Decimal { units, scale });
        let second = TimeUnit::Second;
        let cases = [
            ("-1.50", Type::Decimal { scale: 2 }, decimal(-150, 2)),
            ("1.500", Type::Decimal { scale: 2 }, decimal(150, 2)),
            ("1.501", Type::Decimal { scale: 2 }, None),
            (".5", Type::Decimal { scale: 1 }, decimal(5, 1)),
            ("-0.05", Type::Decimal { scale: 2 }, decimal(-5, 2)),
            ("99999999999999999999999999999999999999", Type::Decimal { scale: 0 }, decimal(10_i128.pow(38) - 1, 0)),
            ("100000000000000000000000000000000000000", Type::Decimal { scale: 0 }, None),
            ("1e3", Type::Decimal { scale: 0 }, None),
            ("9223372036854775807", Type::Int, Some(Value::Int(i64::MAX))),
            ("9223372036854775808", Type::Int, None),
            ("9223372036854775808", Type::UInt, Some(Value::UInt(1 << 63))),
            (" 1e3 ", Type::Float, Some(Value::Float(1000.0))),
            (" x ", Type::Text, Some(Value::Text(" x ".into()))),
            ("TRUE", Type::Bool, Some(Value::Bool(true))),
            ("1", Type::Bool, None),
            ("1969-12-31", Type::Date, Some(Value::Date(-1))),
            ("2026-02-30", Type::Date, None),
            ("1970-01-01T01:00:00+01:00", Type::Timestamp(second), Some(Value::Timestamp { ticks: 0, unit: second })),
            ("1970-01-01 00:00:01", Type::Timestamp(second), Some(Value::Timestamp { ticks: 1, unit: second })),
            (
                "1969-12-31T23:59:59.5Z",
                Type::Timestamp(TimeUnit::Millisecond),
                Some(Value::Timestamp { ticks: -500, unit: TimeUnit::Millisecond }),
            ),
            ("1970-01-01T00:00:00.5Z", Type::Timestamp(second), None),
            ("1970-01-02", Type::Timestamp(second), Some(Value::Timestamp { ticks: 86_400, unit: second })),
            ("9999-12-31", Type::Timestamp(TimeUnit::Nanosecond), None),
        ];
        for (text, ty, expected) in cases {
            assert_eq!(parse_value(text, ty).ok(), expected, "{text} as {ty}");
        }
    }
}
