//! Conversions between types. What cannot be converted is NULL.
//!
//! * To an integer, floats and decimals lose their fraction (toward zero); to a decimal, the shortest decimal text of a float, and the digits
//!   of a longer decimal, are rounded half away from zero. NaN, infinities and what is out of range are NULL.
//! * Text is read without the white space around it: integers are digits with a sign, numbers may have a point and an exponent (floats
//!   also `NaN`, `inf` and `infinity`), truths are `true` and `false` in any case, instants are ISO 8601.
//! * To text: `true`, `-12`, `1.0`, `1e16` (the shortest that reads back the same), all digits of a decimal's scale, `2026-01-31T23:59:59.25Z`,
//!   `2026-01-31`, `P1M2DT3.5S`.
//! * A truth is 1 or 0; a number is TRUE unless 0 (NaN: NULL).
//! * A timestamp becomes a coarser one, or its date, rounded down.

use super::decimal::{self, exact, fit};
use super::nearest_double;
use crate::event::{Type, Value, time};
use std::cmp::Ordering;

/// `value` as `ty`.
#[must_use]
pub fn cast(value: &Value, ty: Type) -> Value {
    if value.ty() == ty { value.clone() } else { converted(value, ty).unwrap_or(Value::Null) }
}

fn converted(value: &Value, ty: Type) -> Option<Value> {
    match (value, ty) {
        (Value::Null, _) | (_, Type::Null) => None,
        (_, Type::Text) => Some(Value::Text(text(value)?.into())),
        (Value::Text(text), _) => parsed(text.trim(), ty),
        (Value::Bool(truth), Type::Float) => Some(Value::Float(f64::from(u8::from(*truth)))),
        (Value::Bool(truth), _) => fit(i128::from(*truth), 0, ty),
        (Value::Float(x), Type::Bool) => (!x.is_nan()).then_some(Value::Bool(*x != 0.0)),
        (Value::Float(x), Type::Decimal { .. }) => parsed(&x.to_string(), ty),
        (Value::Float(x), _) if ty.is_integer() => {
            // Every double of this range is an i128 exactly once truncated.
            (x.abs() < 2_f64.powi(65)).then(|| fit(*x as i128, 0, ty))?
        }
        (_, Type::Float) => nearest_double(value).map(Value::Float),
        (Value::Timestamp { ticks, unit }, Type::Timestamp(to)) => {
            Some(Value::Timestamp { ticks: time::convert(*ticks, *unit, to)?, unit: to })
        }
        (Value::Timestamp { ticks, unit }, Type::Date) => i32::try_from(time::day(*ticks, *unit)).ok().map(Value::Date),
        (Value::Date(days), Type::Timestamp(unit)) => Some(Value::Timestamp { ticks: time::midnight(i64::from(*days), unit)?, unit }),
        _ => {
            let (units, scale) = exact(value)?;
            match ty {
                Type::Bool => Some(Value::Bool(units != 0)),
                Type::Int | Type::UInt => fit(decimal::integer_part((units, scale), Ordering::Equal), 0, ty),
                _ => fit(units, scale, ty),
            }
        }
    }
}

fn parsed(text: &str, ty: Type) -> Option<Value> {
    match ty {
        Type::Bool if text.eq_ignore_ascii_case("true") => Some(Value::Bool(true)),
        Type::Bool if text.eq_ignore_ascii_case("false") => Some(Value::Bool(false)),
        Type::Int => text.parse().ok().map(Value::Int),
        Type::UInt => text.parse().ok().map(Value::UInt),
        Type::Float => {
            let x: f64 = text.parse().ok()?;
            let overflow = x.is_infinite() && text.bytes().any(|b| b.is_ascii_digit());
            (!overflow).then_some(Value::Float(x))
        }
        Type::Decimal { scale } => decimal::parse(text, scale).map(|units| Value::Decimal { units, scale }),
        Type::Timestamp(unit) => time::parse_timestamp(text, unit).map(|ticks| Value::Timestamp { ticks, unit }),
        Type::Date => time::parse_date(text).map(Value::Date),
        _ => None,
    }
}

fn text(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(truth) => truth.to_string(),
        Value::Int(n) => n.to_string(),
        Value::UInt(n) => n.to_string(),
        Value::Float(x) => format!("{x:?}"),
        Value::Decimal { units, scale } => decimal::format(*units, *scale),
        Value::Text(text) => text.to_string(),
        Value::Timestamp { ticks, unit } => time::format_timestamp(*ticks, *unit),
        Value::Date(days) => time::format_date(i64::from(*days)),
        Value::Interval { months, days, nanoseconds } => {
            let seconds = decimal::format(i128::from(*nanoseconds), 9);
            format!("P{months}M{days}DT{}S", seconds.trim_end_matches('0').trim_end_matches('.'))
        }
    })
}
