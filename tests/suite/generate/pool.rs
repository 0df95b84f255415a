//! Constants that lean on corners, their neighbours, and how they are written.

use crate::random::Random;
use dynamic_cep::event::time::{format_date, format_timestamp};
use dynamic_cep::event::{TimeUnit, Type, Value};
use dynamic_cep::expr::scalar::{cast, decimal};

const DECIMAL_MAX: i128 = 10_i128.pow(38) - 1;

/// The constants of one case.
pub struct Pool {
    numbers: Vec<Value>,
    texts: Vec<String>,
    instants: Vec<Value>,
}

impl Pool {
    pub fn new(random: &mut Random) -> Self {
        Self {
            numbers: (0..14).map(|_| number(random)).collect(),
            texts: (0..10).map(|_| text(random)).collect(),
            instants: (0..8).map(|_| instant(random)).collect(),
        }
    }

    /// A constant of class and mostly type `ty`.
    pub fn constant(&self, random: &mut Random, ty: Type) -> Value {
        let (constants, own) = match ty {
            Type::Bool => return Value::Bool(random.one_in(2)),
            Type::Text => return Value::Text((*random.pick(&self.texts)).as_str().into()),
            Type::Timestamp(_) | Type::Date => (&self.instants, random.one_in(3)),
            _ => (&self.numbers, random.one_in(2)),
        };
        let constant = random.pick(constants);
        let cast = if own { cast(constant, ty) } else { Value::Null };
        if cast.is_null() { constant.clone() } else { cast }
    }

    /// A value for events: a constant as this type, or one of its neighbours.
    pub fn value(&self, random: &mut Random, ty: Type) -> Value {
        if random.one_in(9) {
            return Value::Null;
        }
        if random.one_in(12) {
            return match ty {
                Type::Timestamp(unit) => Value::Timestamp { ticks: *random.pick(&[i64::MIN, i64::MAX, 0, -1]), unit },
                Type::Date => Value::Date(*random.pick(&[i32::MIN, i32::MAX, 0, -1])),
                Type::Text => Value::Text(text(random).into()),
                Type::Bool => Value::Bool(true),
                _ => cast(&number(random), ty),
            };
        }
        let constant = self.constant(random, ty);
        let value = cast(&constant, ty);
        match random.below(4) {
            0 => neighbour(&value, true),
            1 => neighbour(&value, false),
            _ => value,
        }
    }
}

fn number(random: &mut Random) -> Value {
    let floats = [
        0.0,
        -0.0,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        5e-324,
        -5e-324,
        f64::MIN_POSITIVE,
        f64::MAX,
        f64::MIN,
        9_007_199_254_740_992.0,
        9_007_199_254_740_994.0,
        9_223_372_036_854_775_808.0,
        0.1,
        1.5,
        1e16,
    ];
    let integers = [i64::MIN, i64::MIN + 1, i64::MAX, -1, 0, 1, (1 << 53) + 1, (1 << 53) - 1, 2, 10];
    match random.below(9) {
        0 | 1 => Value::Float(*random.pick(&floats)),
        2 => Value::Int(*random.pick(&integers)),
        3 => Value::UInt(*random.pick(&[u64::MAX, u64::MAX - 1, 1 << 63, (1 << 63) + 1])),
        4 => {
            let units = [DECIMAL_MAX, -DECIMAL_MAX, DECIMAL_MAX - 1, 1, -1, 5, 15, 10_i128.pow(19) + 1];
            Value::Decimal { units: *random.pick(&units), scale: *random.pick(&[0, 1, 2, 19, 38]) }
        }
        5 => Value::Decimal { units: random.below(400) as i128 - 200, scale: random.below(4) as u8 },
        6 => Value::Float((random.below(80) as f64 - 40.0) / 4.0),
        _ => Value::Int(random.below(24) as i64 - 8),
    }
}

fn text(random: &mut Random) -> String {
    let corners = [
        "",
        " ",
        "a",
        "A",
        "ab",
        "b",
        "O'Reilly",
        "100%",
        "a_b",
        "straße",
        "STRASSE",
        "é",
        "z",
        "\u{10ffff}",
        "12",
        "-7.5",
        "NaN",
        "a\\b",
        "true",
        "2026-01-31",
        "\n",
        "İ",
        "ſ",
    ];
    match random.below(3) {
        0 => (0..random.below(6)).map(|_| *random.pick(&['a', 'b', '%', '_', 'é', 'A'])).collect(),
        _ => (*random.pick(&corners)).to_owned(),
    }
}

fn instant(random: &mut Random) -> Value {
    let days = *random.pick(&[0, -1, 1, 20_484, 20_485, 11_016, -719_162, 2_932_896]);
    if random.one_in(3) {
        return Value::Date(days);
    }
    let unit = *random.pick(&[TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond]);
    // Nanoseconds end in 2262.
    let days = if unit == TimeUnit::Nanosecond { days.clamp(-100_000, 100_000) } else { days };
    let of_day = *random.pick(&[0, 1, 86_399, 43_200, 18_000]);
    let fraction = if unit == TimeUnit::Second { 0 } else { *random.pick(&[0, 0, 1, unit.ticks_per_second() - 1]) };
    Value::Timestamp { ticks: (i64::from(days) * 86_400 + of_day) * unit.ticks_per_second() + fraction, unit }
}

/// The value next to this one.
fn neighbour(value: &Value, up: bool) -> Value {
    let step = if up { 1 } else { -1 };
    match value {
        Value::Int(n) => Value::Int(n.wrapping_add(step)),
        Value::UInt(n) => Value::UInt(n.wrapping_add_signed(step)),
        Value::Float(x) => Value::Float(if up { x.next_up() } else { x.next_down() }),
        Value::Decimal { units, scale } => {
            Value::Decimal { units: (units + i128::from(step)).clamp(-DECIMAL_MAX, DECIMAL_MAX), scale: *scale }
        }
        Value::Text(text) if up => Value::Text(format!("{text}a").into()),
        Value::Text(text) => {
            let mut text = text.to_string();
            text.pop();
            Value::Text(text.into())
        }
        Value::Timestamp { ticks, unit } => Value::Timestamp { ticks: ticks.wrapping_add(step), unit: *unit },
        Value::Date(days) => Value::Date(days.wrapping_add(step as i32)),
        Value::Bool(truth) => Value::Bool(!truth),
        other => other.clone(),
    }
}

/// The constant as a rule states it.
pub fn literal(random: &mut Random, value: &Value) -> String {
    match value {
        Value::Null | Value::Interval { .. } => "NULL".to_owned(),
        Value::Bool(truth) => truth.to_string().to_uppercase(),
        Value::Int(n) => n.to_string(),
        Value::UInt(n) => n.to_string(),
        Value::Float(x) if x.is_nan() => "CAST('NaN' AS DOUBLE)".to_owned(),
        Value::Float(x) if x.is_infinite() => format!("CAST('{}Infinity' AS DOUBLE)", if *x < 0.0 { "-" } else { "" }),
        Value::Float(x) if random.one_in(2) => format!("CAST({x:?} AS DOUBLE)"),
        Value::Float(x) => format!("{x:?}"),
        Value::Decimal { units, scale } => decimal::format(*units, *scale),
        Value::Text(text) => format!("'{}'", text.replace('\'', "''")),
        Value::Timestamp { ticks, unit } => format!("TIMESTAMP '{}'", format_timestamp(*ticks, *unit)),
        Value::Date(days) => format!("DATE '{}'", format_date(i64::from(*days))),
    }
}
