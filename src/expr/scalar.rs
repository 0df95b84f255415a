//! What each operation of an expression means, on single values. Total: errors of data are NULL.
//!
//! * Here: comparison, three-valued logic, arithmetic, and the parts of instants.
//! * [`decimal`]: exact numbers. [`mod@cast`]: conversions. [`mod@call`]: functions.

pub mod call;
pub mod cast;
pub mod decimal;
#[cfg(test)]
mod tests;

pub use call::call;
pub use cast::cast;

use super::{ArithmeticOp, CompareOp, DatePart};
use crate::event::{TimeUnit, Type, Value, time};
use decimal::{exact, fit};
use std::cmp::Ordering;

impl CompareOp {
    /// Whether the comparison holds for operands in this order.
    #[must_use]
    pub const fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

/// The value as a truth: NULL is UNKNOWN.
#[must_use]
pub const fn truth(value: &Value) -> Option<bool> {
    if let Value::Bool(truth) = value { Some(*truth) } else { None }
}

/// A truth as a value: UNKNOWN is NULL.
#[must_use]
pub fn from_truth(truth: Option<bool>) -> Value {
    truth.map_or(Value::Null, Value::Bool)
}

/// Three-valued AND.
#[must_use]
pub const fn and(a: Option<bool>, b: Option<bool>) -> Option<bool> {
    match (a, b) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

/// Three-valued OR.
#[must_use]
pub const fn or(a: Option<bool>, b: Option<bool>) -> Option<bool> {
    match (a, b) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (Some(false), Some(false)) => Some(false),
        _ => None,
    }
}

/// Three-valued NOT.
#[must_use]
pub fn not(a: Option<bool>) -> Option<bool> {
    a.map(|a| !a)
}

/// The order of floats in the language: NaN equals NaN and is above all, -0.0 equals 0.0.
#[must_use]
pub fn compare_floats(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// The nearest double of a number (ties to even); `None` for what is not a number.
#[must_use]
pub fn nearest_double(value: &Value) -> Option<f64> {
    match value {
        Value::Int(n) => Some(*n as f64),
        Value::UInt(n) => Some(*n as f64),
        Value::Float(x) => Some(*x),
        Value::Decimal { units, scale } => Some(decimal::nearest_double(*units, *scale)),
        _ => None,
    }
}

/// The instant of a timestamp, or of the midnight of a date, in nanoseconds since the epoch.
fn instant(value: &Value) -> Option<i128> {
    match value {
        Value::Timestamp { ticks, unit } => Some(time::nanoseconds(*ticks, *unit)),
        Value::Date(days) => Some(i128::from(*days) * time::NANOSECONDS_PER_DAY),
        _ => None,
    }
}

/// The length by which intervals compare: months of 30 days, days of 24 hours.
fn interval_length(months: i32, days: i32, nanoseconds: i64) -> i128 {
    (i128::from(months) * 30 + i128::from(days)) * time::NANOSECONDS_PER_DAY + i128::from(nanoseconds)
}

/// The order of two values; `None` if either is NULL, or if the checker would not have let them be compared.
///
/// Integers and decimals compare exactly. Where one is a float the other is taken as the nearest double.
#[must_use]
pub fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Text(a), Value::Text(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Float(_), _) | (_, Value::Float(_)) => Some(compare_floats(nearest_double(a)?, nearest_double(b)?)),
        (
            Value::Interval { months, days, nanoseconds },
            Value::Interval { months: other_months, days: other_days, nanoseconds: other_nanoseconds },
        ) => Some(interval_length(*months, *days, *nanoseconds).cmp(&interval_length(*other_months, *other_days, *other_nanoseconds))),
        _ => match (exact(a), exact(b)) {
            (Some(a), Some(b)) => Some(decimal::compare(a, b)),
            _ => Some(instant(a)?.cmp(&instant(b)?)),
        },
    }
}

/// `a op b` in three-valued logic.
#[must_use]
pub fn compare_with(op: CompareOp, a: &Value, b: &Value) -> Option<bool> {
    compare(a, b).map(|ordering| op.holds(ordering))
}

/// IS NOT DISTINCT FROM.
#[must_use]
pub fn not_distinct(a: &Value, b: &Value) -> bool {
    if a.is_null() || b.is_null() { a.is_null() && b.is_null() } else { compare(a, b) == Some(Ordering::Equal) }
}

/// Membership in a list that is sorted by [`compare`]; an empty list without NULL is FALSE, also for a NULL operand.
#[must_use]
pub fn in_list(operand: &Value, list: &[Value], has_null: bool) -> Option<bool> {
    if list.is_empty() && !has_null {
        return Some(false);
    }
    if operand.is_null() {
        return None;
    }
    let found = list.binary_search_by(|entry| compare(entry, operand).unwrap_or(Ordering::Less)).is_ok();
    if found || !has_null { Some(found) } else { None }
}

/// A float result: infinite from finite operands is an overflow, hence NULL; NaN from other than NaN lies outside the
/// domain only where `nan_is_null` says so.
fn float_result(result: f64, operands: &[f64], nan_is_null: bool) -> Value {
    let overflow = result.is_infinite() && operands.iter().all(|x| x.is_finite());
    let outside = nan_is_null && result.is_nan() && !operands.iter().any(|x| x.is_nan());
    if overflow || outside { Value::Null } else { Value::Float(result) }
}

/// Float arithmetic; `None`: division by zero, or an infinite result of finite operands.
#[must_use]
pub fn float_arithmetic(op: ArithmeticOp, a: f64, b: f64) -> Option<f64> {
    let result = match op {
        ArithmeticOp::Add => a + b,
        ArithmeticOp::Subtract => a - b,
        ArithmeticOp::Multiply => a * b,
        ArithmeticOp::Divide | ArithmeticOp::Remainder if b == 0.0 => return None,
        ArithmeticOp::Divide => a / b,
        ArithmeticOp::Remainder => a % b,
    };
    (result.is_finite() || !a.is_finite() || !b.is_finite()).then_some(result)
}

/// 64-bit integer arithmetic; `None`: division by zero or overflow. Division truncates, a remainder has the sign of the dividend.
#[must_use]
pub const fn int_arithmetic(op: ArithmeticOp, a: i64, b: i64) -> Option<i64> {
    match op {
        ArithmeticOp::Add => a.checked_add(b),
        ArithmeticOp::Subtract => a.checked_sub(b),
        ArithmeticOp::Multiply => a.checked_mul(b),
        ArithmeticOp::Divide => a.checked_div(b),
        // The remainder of the smallest integer by -1 is 0, which `checked_rem` takes for an overflow.
        ArithmeticOp::Remainder if b == -1 => Some(0),
        ArithmeticOp::Remainder => a.checked_rem(b),
    }
}

/// `a op b`, of the type that the checker gave the node.
///
/// * int with int: int. A uint with an integer: decimal(0), division truncating.
/// * decimals, also with integers: exact. `+ - %` bring both operands to the scale of the result first, `*` adds the scales; a
///   result (or such an operand) of more than 38 digits is NULL. `/` is the float quotient of the nearest doubles.
/// * a float with a number: float. Division by zero, and an infinite result of finite operands, are NULL.
/// * timestamp or date ± interval: timestamp. Months are added first and keep to the month's last day, then days, then nanoseconds;
///   what is finer than the unit of the result is rounded down.
/// * date ± int: date; date - date: int; otherwise the difference of instants: an interval of nanoseconds. Interval ± interval: by parts.
#[must_use]
pub fn arithmetic(op: ArithmeticOp, a: &Value, b: &Value, ty: Type) -> Value {
    match (a, b, ty) {
        (Value::Null, _, _) | (_, Value::Null, _) => Value::Null,
        (Value::Int(a), Value::Int(b), Type::Int) => int_arithmetic(op, *a, *b).map_or(Value::Null, Value::Int),
        (_, _, Type::Float) => match (nearest_double(a), nearest_double(b)) {
            (Some(a), Some(b)) => float_arithmetic(op, a, b).map_or(Value::Null, Value::Float),
            _ => Value::Null,
        },
        _ => match (exact(a), exact(b)) {
            (Some(a), Some(b)) => decimal::arithmetic(op, a, b, ty).unwrap_or(Value::Null),
            _ => temporal_arithmetic(op, a, b, ty).unwrap_or(Value::Null),
        },
    }
}

fn temporal_arithmetic(op: ArithmeticOp, a: &Value, b: &Value, ty: Type) -> Option<Value> {
    let sign = match op {
        ArithmeticOp::Add => 1,
        ArithmeticOp::Subtract => -1,
        _ => return None,
    };
    match (a, b, ty) {
        (
            Value::Interval { months, days, nanoseconds },
            Value::Interval { months: other_months, days: other_days, nanoseconds: other_nanoseconds },
            Type::Interval,
        ) => Some(Value::Interval {
            months: i32::try_from(i64::from(*months) + sign * i64::from(*other_months)).ok()?,
            days: i32::try_from(i64::from(*days) + sign * i64::from(*other_days)).ok()?,
            nanoseconds: i64::try_from(i128::from(*nanoseconds) + i128::from(sign) * i128::from(*other_nanoseconds)).ok()?,
        }),
        (Value::Interval { .. }, _, Type::Timestamp(unit)) if sign == 1 => shift(b, a, 1, unit),
        (_, Value::Interval { .. }, Type::Timestamp(unit)) => shift(a, b, sign, unit),
        (Value::Date(days), Value::Date(other), Type::Int) if sign == -1 => Some(Value::Int(i64::from(*days) - i64::from(*other))),
        (Value::Date(days), Value::Int(n), Type::Date) => {
            Some(Value::Date(i32::try_from(i64::from(*days).checked_add(n.checked_mul(sign)?)?).ok()?))
        }
        (Value::Int(n), Value::Date(days), Type::Date) if sign == 1 => {
            Some(Value::Date(i32::try_from(i64::from(*days).checked_add(*n)?).ok()?))
        }
        (_, _, Type::Interval) if sign == -1 => {
            Some(Value::Interval { months: 0, days: 0, nanoseconds: i64::try_from(instant(a)? - instant(b)?).ok()? })
        }
        _ => None,
    }
}

/// An instant moved by an interval.
fn shift(from: &Value, interval: &Value, sign: i64, unit: TimeUnit) -> Option<Value> {
    let Value::Interval { months, days, nanoseconds } = interval else { return None };
    let from = instant(from)?;
    let day = i64::try_from(from.div_euclid(time::NANOSECONDS_PER_DAY)).ok()?;
    let day = time::add_months(day, sign * i64::from(*months)) + sign * i64::from(*days);
    let moved = i128::from(day) * time::NANOSECONDS_PER_DAY
        + from.rem_euclid(time::NANOSECONDS_PER_DAY)
        + i128::from(sign) * i128::from(*nanoseconds);
    Some(Value::Timestamp { ticks: time::ticks(moved, unit)?, unit })
}

/// `-value`, of the type that the checker gave the node; overflow is NULL.
#[must_use]
pub fn negate(value: &Value, ty: Type) -> Value {
    match value {
        Value::Float(x) => Value::Float(-x),
        Value::Interval { months, days, nanoseconds } => match (months.checked_neg(), days.checked_neg(), nanoseconds.checked_neg()) {
            (Some(months), Some(days), Some(nanoseconds)) => Value::Interval { months, days, nanoseconds },
            _ => Value::Null,
        },
        _ => exact(value).and_then(|(units, scale)| fit(units.checked_neg()?, scale, ty)).unwrap_or(Value::Null),
    }
}

/// A part of a timestamp or date (its midnight), in the UTC calendar.
#[must_use]
pub fn extract(part: DatePart, value: &Value) -> Value {
    let seconds = match value {
        Value::Timestamp { ticks, unit } => ticks.div_euclid(unit.ticks_per_second()),
        Value::Date(days) => i64::from(*days) * time::SECONDS_PER_DAY,
        _ => return Value::Null,
    };
    Value::Int(extract_from_seconds(part, seconds))
}

/// A part of the instant that many seconds after the epoch.
#[must_use]
pub const fn extract_from_seconds(part: DatePart, seconds: i64) -> i64 {
    let days = seconds.div_euclid(time::SECONDS_PER_DAY);
    let of_day = seconds.rem_euclid(time::SECONDS_PER_DAY);
    match part {
        DatePart::Year => time::civil_from_days(days).0,
        DatePart::Quarter => (time::civil_from_days(days).1 as i64 + 2) / 3,
        DatePart::Month => time::civil_from_days(days).1 as i64,
        DatePart::Week => time::iso_week(days),
        DatePart::Day => time::civil_from_days(days).2 as i64,
        DatePart::DayOfWeek => time::iso_day_of_week(days) % 7,
        DatePart::IsoDayOfWeek => time::iso_day_of_week(days),
        DatePart::DayOfYear => time::day_of_year(days),
        DatePart::Hour => of_day / 3_600,
        DatePart::Minute => of_day / 60 % 60,
        DatePart::Second => of_day % 60,
        DatePart::Epoch => seconds,
    }
}
