//! The scalar functions.

use super::decimal::{self, exact, fit};
use super::{compare, float_result, nearest_double};
use crate::event::{Type, Value};
use crate::expr::Function;
use std::cmp::Ordering;

/// Bytes of the longest text that REPLACE or CONCAT makes; beyond it the result is NULL, so that no nesting of them grows without bound.
pub const TEXT_LIMIT: usize = 1 << 20;

/// `function(args)`, of the type that the checker gave the node.
#[must_use]
pub fn call(function: Function, args: &[Value], ty: Type) -> Value {
    match function {
        Function::Coalesce => return args.iter().find(|arg| !arg.is_null()).cloned().unwrap_or(Value::Null),
        Function::Greatest => return extreme(args, Ordering::Greater),
        Function::Least => return extreme(args, Ordering::Less),
        _ => {}
    }
    if args.iter().any(Value::is_null) {
        return Value::Null;
    }
    match args {
        [Value::Text(_), ..] => of_text(function, args),
        _ => of_number(function, args, ty),
    }
    .unwrap_or(Value::Null)
}

/// The first of the greatest, or least, arguments that are not NULL.
fn extreme(args: &[Value], wanted: Ordering) -> Value {
    let mut best = &Value::Null;
    for arg in args {
        if !arg.is_null() && (best.is_null() || compare(arg, best) == Some(wanted)) {
            best = arg;
        }
    }
    best.clone()
}

fn text_arg(args: &[Value], index: usize) -> Option<&str> {
    if let Some(Value::Text(text)) = args.get(index) { Some(text) } else { None }
}

fn int_arg(args: &[Value], index: usize) -> Option<i64> {
    match args.get(index) {
        Some(Value::Int(n)) => Some(*n),
        // Beyond every position of a text.
        Some(Value::UInt(n)) => Some(i64::try_from(*n).unwrap_or(i64::MAX)),
        _ => None,
    }
}

/// The characters from `start` up to `end` (0-based; both may lie outside the text).
fn characters(text: &str, start: i128, end: i128) -> &str {
    let start = usize::try_from(start.max(0)).unwrap_or(usize::MAX);
    let count = usize::try_from(end.max(0)).unwrap_or(usize::MAX).saturating_sub(start);
    let at = |text: &str, n: usize| text.char_indices().nth(n).map_or(text.len(), |(at, _)| at);
    let rest = &text[at(text, start)..];
    &rest[..at(rest, count)]
}

fn of_text(function: Function, args: &[Value]) -> Option<Value> {
    let text = text_arg(args, 0)?;
    let length = || text.chars().count() as i128;
    let result = match function {
        Function::Lower => text.to_lowercase(),
        Function::Upper => text.to_uppercase(),
        Function::Length => return Some(Value::Int(i64::try_from(length()).ok()?)),
        Function::Trim | Function::TrimStart | Function::TrimEnd => {
            let removed = if args.len() > 1 { text_arg(args, 1)? } else { " " };
            let removed = |c: char| removed.contains(c);
            match function {
                Function::Trim => text.trim_matches(removed),
                Function::TrimStart => text.trim_start_matches(removed),
                _ => text.trim_end_matches(removed),
            }
            .to_owned()
        }
        Function::Substring => {
            let start = i128::from(int_arg(args, 1)?) - 1;
            let end = match args.get(2) {
                None => i128::MAX,
                Some(_) => {
                    let length = int_arg(args, 2)?;
                    if length < 0 {
                        return None;
                    }
                    start + i128::from(length)
                }
            };
            characters(text, start, end).to_owned()
        }
        Function::Left | Function::Right => {
            let n = i128::from(int_arg(args, 1)?);
            match (function, n < 0) {
                (Function::Left, false) => characters(text, 0, n),
                (Function::Left, true) => characters(text, 0, length() + n),
                (_, false) => characters(text, length() - n, i128::MAX),
                (_, true) => characters(text, -n, i128::MAX),
            }
            .to_owned()
        }
        Function::StartsWith => return Some(Value::Bool(text.starts_with(text_arg(args, 1)?))),
        Function::EndsWith => return Some(Value::Bool(text.ends_with(text_arg(args, 1)?))),
        Function::Contains => return Some(Value::Bool(text.contains(text_arg(args, 1)?))),
        Function::Position => {
            let haystack = text_arg(args, 1)?;
            let position = haystack.find(text).map_or(0, |at| haystack[..at].chars().count() + 1);
            return Some(Value::Int(i64::try_from(position).ok()?));
        }
        Function::Replace => {
            let (from, to) = (text_arg(args, 1)?, text_arg(args, 2)?);
            let found = if from.is_empty() { 0 } else { text.matches(from).count() };
            let length = text.len().saturating_sub(found * from.len()).saturating_add(found.saturating_mul(to.len()));
            match found {
                _ if length > TEXT_LIMIT => return None,
                0 => text.to_owned(),
                _ => text.replace(from, to),
            }
        }
        Function::Concat => {
            let mut result = String::new();
            for index in 0..args.len() {
                let part = text_arg(args, index)?;
                if result.len() + part.len() > TEXT_LIMIT {
                    return None;
                }
                result.push_str(part);
            }
            result
        }
        _ => return None,
    };
    Some(Value::Text(result.into()))
}

fn of_number(function: Function, args: &[Value], ty: Type) -> Option<Value> {
    let value = args.first()?;
    match function {
        Function::Abs => match value {
            Value::Float(x) => Some(Value::Float(x.abs())),
            _ => exact(value).and_then(|(units, scale)| fit(units.checked_abs()?, scale, ty)),
        },
        Function::Sign => match value {
            Value::Float(x) if x.is_nan() => None,
            Value::Float(x) => Some(Value::Int(i64::from(*x > 0.0) - i64::from(*x < 0.0))),
            _ => exact(value).map(|(units, _)| Value::Int(units.signum() as i64)),
        },
        Function::Round => {
            let digits = if args.len() > 1 { int_arg(args, 1)? } else { 0 };
            match value {
                Value::Float(x) => Some(float_result(round_float(*x, digits), &[*x], true)),
                _ => exact(value).and_then(|(units, scale)| fit(round_exact(units, scale, digits)?, scale, ty)),
            }
        }
        Function::Floor | Function::Ceil | Function::Truncate => {
            let toward = match function {
                Function::Floor => Ordering::Less,
                Function::Ceil => Ordering::Greater,
                _ => Ordering::Equal,
            };
            match value {
                Value::Float(x) => Some(Value::Float(match toward {
                    Ordering::Less => x.floor(),
                    Ordering::Greater => x.ceil(),
                    Ordering::Equal => x.trunc(),
                })),
                _ => exact(value).and_then(|number| fit(decimal::integer_part(number, toward), 0, ty)),
            }
        }
        _ => {
            let x = nearest_double(value)?;
            let y = args.get(1).map_or(Some(0.0), nearest_double)?;
            let result = match function {
                Function::Sqrt => x.sqrt(),
                Function::Exp => x.exp(),
                Function::Ln => x.ln(),
                Function::Log10 => x.log10(),
                Function::Power => x.powf(y),
                Function::Sin => x.sin(),
                Function::Cos => x.cos(),
                Function::Tan => x.tan(),
                Function::Asin => x.asin(),
                Function::Acos => x.acos(),
                Function::Atan => x.atan(),
                Function::Atan2 => x.atan2(y),
                Function::Radians => x.to_radians(),
                Function::Degrees => x.to_degrees(),
                _ => return None,
            };
            Some(float_result(result, &[x, y], true))
        }
    }
}

/// Half away from zero at 10^-`digits`, as a double computes it: scaled, rounded, scaled back.
fn round_float(x: f64, digits: i64) -> f64 {
    if digits == 0 || !x.is_finite() {
        return x.round();
    }
    // Outside this range every double is whole at that place, or rounds to zero.
    let power = 10_f64.powi(digits.unsigned_abs().min(308) as i32);
    if digits > 0 {
        let scaled = x * power;
        if digits > 308 || !scaled.is_finite() { x } else { scaled.round() / power }
    } else if digits < -308 {
        x * 0.0
    } else {
        (x / power).round() * power
    }
}

/// Half away from zero at 10^-`digits`, at the same scale.
fn round_exact(units: i128, scale: u8, digits: i64) -> Option<i128> {
    if digits >= i64::from(scale) {
        return Some(units);
    }
    let dropped = i64::from(scale).saturating_sub(digits);
    let Some(power) = u8::try_from(dropped).ok().and_then(decimal::power_of_ten) else { return Some(0) };
    let (whole, rest) = (units / power, units % power);
    let up = rest.unsigned_abs() >= power.unsigned_abs() - rest.unsigned_abs();
    (whole + if up { units.signum() } else { 0 }).checked_mul(power)
}
