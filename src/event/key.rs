//! Order-preserving keys: for each type, unsigned integers that sort as the values do. What NaN, -0.0 and NULL are is stated here and nowhere else.
//!
//! * Booleans, integers, floats, timestamps (in their field's unit) and dates have 64-bit keys; decimals (at their field's scale) 128-bit keys;
//!   texts are their own bytes. NULL has no key.
//! * -0.0 has the key of 0.0. Every NaN has one key, `u64::MAX`, above that of infinity.

use super::schema::Type;
use super::value::Value;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

const SIGN: u64 = 1 << 63;
const WIDE_SIGN: u128 = 1 << 127;

/// The key of one value. Keys of one column are all of one variant, and sort as its values.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Narrow(u64),
    /// 128 bits as high and low half: in two words, so that keys, of which there are millions, need no alignment to sixteen bytes.
    Wide([u64; 2]),
    Text(Arc<str>),
}

impl Hash for Key {
    /// Without the variant, which is the same for all keys that are compared.
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Narrow(key) => state.write_u64(*key),
            Self::Wide([high, low]) => {
                state.write_u64(*high);
                state.write_u64(*low);
            }
            Self::Text(text) => text.hash(state),
        }
    }
}

impl Key {
    /// The 128-bit key `bits`.
    #[must_use]
    pub const fn wide(bits: u128) -> Self {
        Self::Wide([(bits >> 64) as u64, bits as u64])
    }
}

/// The bits of a wide key.
#[must_use]
pub const fn wide_bits([high, low]: [u64; 2]) -> u128 {
    (high as u128) << 64 | low as u128
}

/// How the keys of a type are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum KeyKind {
    Narrow,
    Wide,
    Text,
}

impl KeyKind {
    /// The kind of key that values of `ty` have; `None` where the type has none (intervals, bare NULL).
    #[must_use]
    pub const fn of(ty: Type) -> Option<Self> {
        match ty {
            Type::Bool | Type::Int | Type::UInt | Type::Float | Type::Timestamp(_) | Type::Date => Some(Self::Narrow),
            Type::Decimal { .. } => Some(Self::Wide),
            Type::Text => Some(Self::Text),
            Type::Null | Type::Interval => None,
        }
    }
}

#[must_use]
pub const fn of_i64(value: i64) -> u64 {
    value as u64 ^ SIGN
}

#[must_use]
pub fn of_f64(value: f64) -> u64 {
    if value.is_nan() {
        return u64::MAX;
    }
    // Adding zero turns -0.0 into 0.0 and leaves every other value as it is.
    let bits = (value + 0.0).to_bits();
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

#[must_use]
pub const fn of_i128(value: i128) -> u128 {
    value as u128 ^ WIDE_SIGN
}

/// The key of `value`, which is of its column's own type; `None` for NULL and for types without keys.
#[must_use]
pub fn of_value(value: &Value) -> Option<Key> {
    Some(match value {
        Value::Bool(value) => Key::Narrow(u64::from(*value)),
        Value::Int(value) => Key::Narrow(of_i64(*value)),
        Value::UInt(value) => Key::Narrow(*value),
        Value::Float(value) => Key::Narrow(of_f64(*value)),
        Value::Timestamp { ticks, .. } => Key::Narrow(of_i64(*ticks)),
        Value::Date(days) => Key::Narrow(of_i64(i64::from(*days))),
        Value::Decimal { units, .. } => Key::wide(of_i128(*units)),
        Value::Text(text) => Key::Text(Arc::clone(text)),
        Value::Null | Value::Interval { .. } => return None,
    })
}

/// The lowest and the highest key that values of `ty` have; `None` for texts and types without keys.
#[must_use]
pub fn range(ty: Type) -> Option<(Key, Key)> {
    Some(match ty {
        Type::Bool => (Key::Narrow(0), Key::Narrow(1)),
        Type::Int | Type::Timestamp(_) | Type::UInt => (Key::Narrow(0), Key::Narrow(u64::MAX)),
        Type::Float => (Key::Narrow(of_f64(f64::NEG_INFINITY)), Key::Narrow(u64::MAX)),
        Type::Date => (Key::Narrow(of_i64(i64::from(i32::MIN))), Key::Narrow(of_i64(i64::from(i32::MAX)))),
        Type::Decimal { .. } => (Key::wide(of_i128(-DECIMAL_UNITS_MAX)), Key::wide(of_i128(DECIMAL_UNITS_MAX))),
        Type::Text | Type::Null | Type::Interval => return None,
    })
}

/// The largest units of a decimal: 38 nines.
pub const DECIMAL_UNITS_MAX: i128 = 10_i128.pow(38) - 1;

/// The value of type `ty` that has this 64- or 128-bit key.
#[must_use]
pub fn to_value(key: &Key, ty: Type) -> Value {
    match (key, ty) {
        (Key::Narrow(key), Type::Bool) => Value::Bool(*key != 0),
        (Key::Narrow(key), Type::Int) => Value::Int((*key ^ SIGN) as i64),
        (Key::Narrow(key), Type::UInt) => Value::UInt(*key),
        (Key::Narrow(key), Type::Float) => Value::Float(if *key == u64::MAX {
            f64::NAN
        } else if key & SIGN != 0 {
            f64::from_bits(key ^ SIGN)
        } else {
            f64::from_bits(!key)
        }),
        (Key::Narrow(key), Type::Timestamp(unit)) => Value::Timestamp { ticks: (*key ^ SIGN) as i64, unit },
        (Key::Narrow(key), Type::Date) => Value::Date((*key ^ SIGN) as i64 as i32),
        (Key::Wide(key), Type::Decimal { scale }) => Value::Decimal { units: (wide_bits(*key) ^ WIDE_SIGN) as i128, scale },
        (Key::Text(text), Type::Text) => Value::Text(Arc::clone(text)),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_the_values_do() {
        let floats = [
            f64::NEG_INFINITY,
            f64::MIN,
            -1.5,
            -f64::MIN_POSITIVE,
            -5e-324,
            0.0,
            5e-324,
            f64::MIN_POSITIVE,
            1.5,
            f64::MAX,
            f64::INFINITY,
            f64::NAN,
        ];
        assert!(floats.windows(2).all(|pair| of_f64(pair[0]) < of_f64(pair[1])));
        let integers = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX];
        assert!(integers.windows(2).all(|pair| of_i64(pair[0]) < of_i64(pair[1])));
        let wide = [i128::MIN, -DECIMAL_UNITS_MAX, -1, 0, 1, DECIMAL_UNITS_MAX];
        assert!(wide.windows(2).all(|pair| of_i128(pair[0]) < of_i128(pair[1])));
    }

    #[test]
    fn zero_has_one_key_and_so_has_nan() {
        assert_eq!(of_f64(0.0), of_f64(-0.0));
        assert_eq!(of_f64(f64::NAN), of_f64(f64::from_bits(0xfff8_0000_0000_0001)));
    }

    #[test]
    fn a_key_gives_its_value_back() {
        for value in [
            Value::Bool(true),
            Value::Int(i64::MIN),
            Value::UInt(u64::MAX),
            Value::Float(-2.5),
            Value::Float(0.0),
            Value::Date(-1),
            Value::Decimal { units: -12, scale: 1 },
        ] {
            assert_eq!(to_value(&of_value(&value).unwrap(), value.ty()), value);
        }
    }
}
