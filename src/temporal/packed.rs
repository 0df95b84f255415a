//! Numbers and values as bytes: those that postcard makes of them, written and read without memory being taken for every part of a partition.

use crate::event::{TimeUnit, Value};

/// Seven bits to a byte, the lowest first.
pub fn number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn wide(out: &mut Vec<u8>, mut number: u128) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Small numbers of either sign become small numbers.
pub fn signed(out: &mut Vec<u8>, value: i64) {
    number(out, (value << 1 ^ value >> 63).cast_unsigned());
}

pub fn flag(out: &mut Vec<u8>, flag: bool) {
    out.push(u8::from(flag));
}

pub fn time(out: &mut Vec<u8>, time: Option<i64>) {
    flag(out, time.is_some());
    time.into_iter().for_each(|time| signed(out, time));
}

pub fn value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(0),
        Value::Bool(truth) => out.extend([1, u8::from(*truth)]),
        Value::Int(value) => {
            out.push(2);
            signed(out, *value);
        }
        Value::UInt(value) => {
            out.push(3);
            number(out, *value);
        }
        Value::Float(value) => {
            out.push(4);
            out.extend(value.to_le_bytes());
        }
        Value::Decimal { units, scale } => {
            out.push(5);
            wide(out, (units << 1 ^ units >> 127).cast_unsigned());
            out.push(*scale);
        }
        Value::Text(text) => {
            out.push(6);
            number(out, text.len() as u64);
            out.extend(text.as_bytes());
        }
        Value::Timestamp { ticks, unit } => {
            out.push(7);
            signed(out, *ticks);
            out.push(*unit as u8);
        }
        Value::Date(days) => {
            out.push(8);
            signed(out, i64::from(*days));
        }
        Value::Interval { months, days, nanoseconds } => {
            out.push(9);
            signed(out, i64::from(*months));
            signed(out, i64::from(*days));
            signed(out, *nanoseconds);
        }
    }
}

/// Bytes that are left to be read. What does not follow is `None`.
pub struct Reader<'b>(pub &'b [u8]);

impl<'b> Reader<'b> {
    pub fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn wide(&mut self) -> Option<u128> {
        let mut number = 0;
        for shift in (0..128).step_by(7) {
            let byte = self.byte()?;
            let bits = u128::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// A number of 32 bits, or of fewer.
    pub fn small<N: TryFrom<u64>>(&mut self) -> Option<N> {
        N::try_from(self.number()?).ok()
    }

    fn signed(&mut self) -> Option<i64> {
        self.number().map(|number| (number >> 1).cast_signed() ^ -((number & 1).cast_signed()))
    }

    pub fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub fn time(&mut self) -> Option<Option<i64>> {
        if self.flag()? { self.signed().map(Some) } else { Some(None) }
    }

    pub fn value(&mut self) -> Option<Value> {
        Some(match self.byte()? {
            0 => Value::Null,
            1 => Value::Bool(self.flag()?),
            2 => Value::Int(self.signed()?),
            3 => Value::UInt(self.number()?),
            4 => Value::Float(f64::from_le_bytes(*self.take(8)?.first_chunk()?)),
            5 => {
                let units = self.wide()?;
                Value::Decimal { units: (units >> 1).cast_signed() ^ -((units & 1).cast_signed()), scale: self.byte()? }
            }
            6 => {
                let length = self.small()?;
                Value::Text(std::str::from_utf8(self.take(length)?).ok()?.into())
            }
            7 => {
                let ticks = self.signed()?;
                let unit = match self.byte()? {
                    0 => TimeUnit::Second,
                    1 => TimeUnit::Millisecond,
                    2 => TimeUnit::Microsecond,
                    3 => TimeUnit::Nanosecond,
                    _ => return None,
                };
                Value::Timestamp { ticks, unit }
            }
            8 => Value::Date(self.signed()?.try_into().ok()?),
            9 => {
                let (months, days) = (self.signed()?.try_into().ok()?, self.signed()?.try_into().ok()?);
                Value::Interval { months, days, nanoseconds: self.signed()? }
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each kind, with the numbers at their ends.
    pub fn values() -> Vec<Value> {
        let ints = [0, 1, -1, 63, -64, 64, i64::MAX, i64::MIN];
        let units = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];
        let mut values = vec![Value::Null, Value::Bool(false), Value::Bool(true), Value::Text("".into()), Value::Text("zwölf".into())];
        values.extend(ints.map(Value::Int));
        values.extend([0, 127, 128, u64::MAX].map(Value::UInt));
        values.extend([0.0, -0.0, 1.5, f64::INFINITY].map(Value::Float));
        values.extend([0, -1, i128::MAX, i128::MIN].map(|units| Value::Decimal { units, scale: 200 }));
        values.extend(ints.iter().zip(units.iter().cycle()).map(|(ticks, unit)| Value::Timestamp { ticks: *ticks, unit: *unit }));
        values.extend([0, -5, i32::MAX, i32::MIN].map(Value::Date));
        values.push(Value::Interval { months: i32::MIN, days: i32::MAX, nanoseconds: i64::MIN });
        values
    }

    #[test]
    fn values_are_the_bytes_of_postcard() {
        for value in values() {
            let mut bytes = Vec::new();
            super::value(&mut bytes, &value);
            assert_eq!(bytes, postcard::to_stdvec(&value).unwrap(), "{value:?}");
            let mut reader = Reader(&bytes);
            assert_eq!((reader.value().as_ref(), reader.0.len()), (Some(&value), 0));
            for length in 0..bytes.len() {
                assert_eq!(Reader(&bytes[..length]).value(), None, "{length} bytes of {value:?}");
            }
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        let too_wide = [0xff; 20];
        for bytes in [&[10][..], &[1, 2], &[6, 1, 0xff], &[7, 0, 4], &[8, 0xff, 0xff, 0xff, 0xff, 0x7f]] {
            assert_eq!(Reader(bytes).value(), None, "{bytes:?}");
        }
        assert_eq!((Reader(&too_wide).number(), Reader(&too_wide).wide()), (None, None));
        let mut large = vec![0xff; 9];
        large.push(2);
        assert_eq!(Reader(&large).number(), None, "65 bits");
        assert_eq!(Reader(&[0x80, 0x80, 4]).small::<u16>(), None);
    }
}
