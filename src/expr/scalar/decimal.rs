//! Exact numbers: `units` / 10^`scale`, at most 38 digits.

use crate::event::{Type, Value};
use crate::expr::ArithmeticOp;
use std::cmp::Ordering;

/// Units are below this: 38 digits.
pub const LIMIT: u128 = 10_u128.pow(38);

/// An exact number: units and scale.
pub type Exact = (i128, u8);

/// 10^`exponent`, where it fits.
#[must_use]
pub const fn power_of_ten(exponent: u8) -> Option<i128> {
    10_i128.checked_pow(exponent as u32)
}

/// An integer or decimal; `None` for everything else.
#[must_use]
pub const fn exact(value: &Value) -> Option<Exact> {
    match value {
        Value::Int(n) => Some((*n as i128, 0)),
        Value::UInt(n) => Some((*n as i128, 0)),
        Value::Decimal { units, scale } => Some((*units, *scale)),
        _ => None,
    }
}

/// The order of two exact numbers, whatever their scales.
#[must_use]
pub fn compare((a, a_scale): Exact, (b, b_scale): Exact) -> Ordering {
    match a_scale.cmp(&b_scale) {
        Ordering::Equal => a.cmp(&b),
        Ordering::Greater => compare((b, b_scale), (a, a_scale)).reverse(),
        Ordering::Less => match power_of_ten(b_scale - a_scale).and_then(|power| a.checked_mul(power)) {
            Some(a) => a.cmp(&b),
            // Beyond 128 bits is beyond every `b`; zero never overflows but by its power.
            None => a.cmp(&0).then_with(|| 0.cmp(&b)),
        },
    }
}

/// Brought to another scale, half away from zero; `None` beyond 38 digits.
#[must_use]
pub fn rescale((units, from): Exact, to: u8) -> Option<i128> {
    let units = if to >= from {
        if units == 0 { 0 } else { units.checked_mul(power_of_ten(to - from)?)? }
    } else {
        match power_of_ten(from - to) {
            // A power beyond 128 bits is more than twice every 38-digit number.
            None => 0,
            Some(power) => {
                let (quotient, remainder) = (units / power, units % power);
                let up = remainder.unsigned_abs() >= power.unsigned_abs() - remainder.unsigned_abs();
                quotient + if up { units.signum() } else { 0 }
            }
        }
    };
    (units.unsigned_abs() < LIMIT).then_some(units)
}

/// The value in an exact type; `None` where it does not fit. A fraction is rounded half away from zero.
#[must_use]
pub fn fit(units: i128, scale: u8, ty: Type) -> Option<Value> {
    match ty {
        Type::Int => i64::try_from(rescale((units, scale), 0)?).ok().map(Value::Int),
        Type::UInt => u64::try_from(rescale((units, scale), 0)?).ok().map(Value::UInt),
        Type::Decimal { scale: to } => rescale((units, scale), to).map(|units| Value::Decimal { units, scale: to }),
        _ => None,
    }
}

/// The nearest double.
#[must_use]
pub fn nearest_double(units: i128, scale: u8) -> f64 {
    // Both are doubles exactly up to these bounds, and division rounds correctly.
    if scale == 0 {
        units as f64
    } else if units.unsigned_abs() < 1 << 53 && scale <= 22 {
        units as f64 / power_of_ten(scale).unwrap_or(1) as f64
    } else {
        format!("{units}e-{scale}").parse().unwrap_or(f64::NAN)
    }
}

/// Exact arithmetic of the result type `ty`; `None` is NULL. Division is that of integers: it truncates.
#[must_use]
pub fn arithmetic(op: ArithmeticOp, a: Exact, b: Exact, ty: Type) -> Option<Value> {
    let scale = a.1.max(b.1);
    let aligned = || Some((rescale(a, scale)?, rescale(b, scale)?));
    let (units, scale) = match op {
        ArithmeticOp::Multiply => (a.0.checked_mul(b.0)?, a.1.checked_add(b.1)?),
        ArithmeticOp::Add => aligned().and_then(|(a, b)| Some((a.checked_add(b)?, scale)))?,
        ArithmeticOp::Subtract => aligned().and_then(|(a, b)| Some((a.checked_sub(b)?, scale)))?,
        ArithmeticOp::Divide => aligned().and_then(|(a, b)| Some((a.checked_div(b)?, 0)))?,
        ArithmeticOp::Remainder => aligned().and_then(|(a, b)| Some((a.checked_rem(b)?, scale)))?,
    };
    fit(units, scale, ty)
}

/// The integer part, below (`Floor`), above (`Ceil`) or toward zero.
#[must_use]
pub fn integer_part((units, scale): Exact, toward: Ordering) -> i128 {
    let Some(power) = power_of_ten(scale) else { return 0 };
    let (quotient, remainder) = (units / power, units % power);
    match toward {
        Ordering::Less if remainder < 0 => quotient - 1,
        Ordering::Greater if remainder > 0 => quotient + 1,
        _ => quotient,
    }
}

/// Canonical text: all digits of the scale.
#[must_use]
pub fn format(units: i128, scale: u8) -> String {
    let digits = units.unsigned_abs().to_string();
    let sign = if units < 0 { "-" } else { "" };
    let scale = usize::from(scale);
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

/// A decimal literal (`-12.50`, `1e-3`) at a scale, half away from zero; `None` where it is not one or has more than 38 digits at that scale.
#[must_use]
pub fn parse(text: &str, scale: u8) -> Option<i128> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        // Saturating is harmless: such an exponent leaves zero, or more than 38 digits.
        Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
        None => (text, 0),
    };
    let (negative, mantissa) = match mantissa.as_bytes().first()? {
        b'-' => (true, &mantissa[1..]),
        b'+' => (false, &mantissa[1..]),
        _ => (false, mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.len() + fraction.len() == 0 || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    // The number of leading digits that lie at or before the last place of the scale.
    let kept = whole.len() as i64 + exponent + i64::from(scale);
    let mut units: u128 = 0;
    let mut digits = whole.bytes().chain(fraction.bytes()).map(|b| u128::from(b - b'0'));
    for _ in 0..kept {
        let digit = digits.next();
        if units == 0 && digit.is_none() {
            break;
        }
        if units >= LIMIT / 10 {
            return None;
        }
        units = units * 10 + digit.unwrap_or(0);
    }
    // The next digit decides the rounding; with `kept` below zero it is an implied zero.
    if kept >= 0 && digits.next().is_some_and(|digit| digit >= 5) {
        units += 1;
    }
    let units = i128::try_from(units).ok().filter(|units| units.unsigned_abs() < LIMIT)?;
    Some(if negative { -units } else { units })
}

fn parse_exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let magnitude = digits.parse::<i64>().unwrap_or(i64::MAX).min(1 << 40);
    Some(if text.starts_with('-') { -magnitude } else { magnitude })
}
