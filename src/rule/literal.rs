//! Literals: from text to values and back, and how constants compare.

use crate::event::{TimeUnit, Type, Value};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt::Write as _;
use std::sync::Arc;

/// Digits that a decimal holds at most.
const DIGITS_MAX: usize = 38;

/// Why a number is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NumberError {
    NotANumber,
    TooManyDigits,
    TooLarge,
}

/// The inside of a quoted text or name: without its quotes, doubled quotes made single.
pub(super) fn unquote(quoted: &str) -> Cow<'_, str> {
    let mut characters = quoted.chars();
    let (Some(quote), Some(_)) = (characters.next(), characters.next_back()) else { return Cow::Borrowed("") };
    let inside = characters.as_str();
    let twice = match quote {
        '"' => "\"\"",
        '`' => "``",
        _ => "''",
    };
    let quotes = if quote.is_ascii() { memchr::memchr(quote as u8, inside.as_bytes()).is_some() } else { inside.contains(quote) };
    if quotes { Cow::Owned(inside.replace(twice, &twice[1..])) } else { Cow::Borrowed(inside) }
}

/// The number that `text` states: an integer, an exact decimal, or, if an exponent takes it out of 38 digits, the nearest double.
///
/// A sign may stand in front (lists of numbers have it; in conditions the minus is an operator).
pub(super) fn number(text: &str) -> Result<Value, NumberError> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    let (mut point, mut exponent) = (None, None);
    // Digits without the zeros in front, and what they are worth as long as there are no more than fit: 19 of them in 64 bits, whose arithmetic is faster.
    let (mut written, mut significant, mut low, mut units) = (0_i64, 0, 0_u64, None);
    for (at, byte) in digits.bytes().enumerate() {
        match byte {
            b'0'..=b'9' => {
                let digit = byte - b'0';
                written += 1;
                significant += usize::from(significant > 0 || digit > 0);
                match &mut units {
                    None if significant <= 19 => low = low * 10 + u64::from(digit),
                    None => units = Some(i128::from(low) * 10 + i128::from(digit)),
                    Some(units) if significant <= DIGITS_MAX => *units = *units * 10 + i128::from(digit),
                    Some(_) => {}
                }
            }
            b'.' if point.is_none() => point = Some(written),
            b'e' | b'E' => {
                exponent = Some(&digits[at + 1..]);
                break;
            }
            _ => return Err(NumberError::NotANumber),
        }
    }
    if written == 0 {
        return Err(NumberError::NotANumber);
    }
    // Exponents beyond a few hundred mean infinity or zero in every type, whatever they are exactly.
    let shift: i64 = match exponent {
        None => 0,
        Some(exponent) => {
            let plain = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if plain.is_empty() || !plain.bytes().all(|b| b.is_ascii_digit()) {
                return Err(NumberError::NotANumber);
            }
            let size =
                plain.trim_start_matches('0').parse::<i64>().unwrap_or(if plain.bytes().all(|b| b == b'0') { 0 } else { 1_000_000_000 });
            if exponent.starts_with('-') { -size.min(1_000_000_000) } else { size.min(1_000_000_000) }
        }
    };
    let exact = (|| {
        if significant > DIGITS_MAX {
            return None;
        }
        let mut units = units.unwrap_or_else(|| i128::from(low));
        let mut scale = point.map_or(0, |whole| written - whole) - shift;
        if scale < 0 {
            let places = usize::try_from(-scale).ok()?;
            if units != 0 && significant + places > DIGITS_MAX {
                return None;
            }
            units = if units == 0 { 0 } else { units * power_of_ten(places) };
            scale = 0;
        }
        let scale = u8::try_from(scale).ok().filter(|scale| usize::from(*scale) <= DIGITS_MAX)?;
        Some((if negative { -units } else { units }, scale))
    })();
    let integer = point.is_none() && exponent.is_none();
    match exact {
        Some((units, _)) if integer => Ok(integer_value(units)),
        Some((units, scale)) => Ok(Value::Decimal { units, scale }),
        None if exponent.is_some() => match text.parse::<f64>() {
            Ok(float) if float.is_finite() => Ok(Value::Float(float)),
            _ => Err(NumberError::TooLarge),
        },
        None => Err(NumberError::TooManyDigits),
    }
}

/// The integer in the smallest of the types that hold it.
pub(super) fn integer_value(units: i128) -> Value {
    if let Ok(int) = i64::try_from(units) {
        Value::Int(int)
    } else if let Ok(uint) = u64::try_from(units) {
        Value::UInt(uint)
    } else {
        Value::Decimal { units, scale: 0 }
    }
}

/// 10 to the power of `exponent`, which is at most 38.
pub(super) const fn power_of_ten(exponent: usize) -> i128 {
    10_i128.pow(if exponent > DIGITS_MAX { DIGITS_MAX as u32 } else { exponent as u32 })
}

/// The digits of a decimal: `-12.30`; with scale 0 the point stays (`5.`), so that it does not read as an integer.
pub(super) fn decimal_text(units: i128, scale: u8) -> String {
    let mut text = String::new();
    write_decimal(units, Some(scale), &mut text);
    text
}

/// Writes [`decimal_text`] to the end of `text`; without a scale, an integer.
pub(super) fn write_decimal(units: i128, scale: Option<u8>, text: &mut String) {
    let mut digits = [b'0'; DIGITS_MAX + 4];
    let places = usize::from(scale.unwrap_or(0)).min(DIGITS_MAX);
    let mut at = digits.len();
    let mut write = |digit: u8| {
        at -= 1;
        digits[at] = digit;
        at
    };
    let mut rest = units.unsigned_abs();
    let mut written = 0;
    let mut start = if scale == Some(0) { write(b'.') } else { DIGITS_MAX + 4 };
    // Division of 128 bits is slow, and nearly all numbers need none.
    while written == 0 || rest > 0 || written <= places {
        let digit;
        (rest, digit) = match u64::try_from(rest) {
            Ok(small) => (u128::from(small / 10), (small % 10) as u8),
            Err(_) => (rest / 10, (rest % 10) as u8),
        };
        start = write(b'0' + digit);
        written += 1;
        if written == places {
            start = write(b'.');
        }
    }
    if units < 0 {
        start = write(b'-');
    }
    text.push_str(std::str::from_utf8(&digits[start..]).unwrap_or_default());
}

/// Writes the shortest digits that read back as `float`, which is finite, to the end of `text`.
pub(super) fn write_float(float: f64, text: &mut String) {
    let size = float.abs();
    let _ = if float == 0.0 || (1e-5..1e15).contains(&size) { write!(text, "{float}") } else { write!(text, "{float:e}") };
}

/// The nearest double of a number.
pub(super) fn nearest_float(value: &Value) -> Option<f64> {
    match value {
        Value::Int(int) => Some(*int as f64),
        Value::UInt(uint) => Some(*uint as f64),
        Value::Float(float) => Some(*float),
        // Both are exact doubles, so the quotient is rounded once.
        Value::Decimal { units, scale } if units.unsigned_abs() <= 1 << 53 && *scale <= 22 => {
            Some(*units as f64 / 10_f64.powi(i32::from(*scale)))
        }
        Value::Decimal { units, scale } => decimal_text(*units, *scale).parse().ok(),
        _ => None,
    }
}

/// `value` as exactly the same value of type `ty`; `None` where there is none, or where a conversion by CAST is needed.
pub(super) fn convert(value: &Value, ty: Type) -> Option<Value> {
    let exact = |value: &Value| match value {
        Value::Int(int) => Some((i128::from(*int), 0)),
        Value::UInt(uint) => Some((i128::from(*uint), 0)),
        Value::Decimal { units, scale } => Some((*units, *scale)),
        _ => None,
    };
    match (value, ty) {
        (Value::Null, _) => Some(Value::Null),
        (value, ty) if value.ty() == ty => Some(value.clone()),
        (value, Type::Float) => nearest_float(value).map(Value::Float),
        (value, Type::Decimal { scale }) => {
            let (units, own) = exact(value)?;
            let places = usize::from(scale.checked_sub(own)?);
            let units = units.checked_mul(power_of_ten(places)).filter(|units| units.abs() < power_of_ten(DIGITS_MAX))?;
            Some(Value::Decimal { units, scale })
        }
        (Value::Int(int), Type::UInt) => u64::try_from(*int).ok().map(Value::UInt),
        (Value::UInt(uint), Type::Int) => i64::try_from(*uint).ok().map(Value::Int),
        (Value::Date(days), Type::Timestamp(unit)) => {
            Some(Value::Timestamp { ticks: i64::from(*days).checked_mul(86_400 * unit.ticks_per_second())?, unit })
        }
        (Value::Timestamp { ticks, unit: own }, Type::Timestamp(unit)) if unit > *own => {
            Some(Value::Timestamp { ticks: ticks.checked_mul(unit.ticks_per_second() / own.ticks_per_second())?, unit })
        }
        _ => None,
    }
}

/// How two constants compare in the rule language; `None` for a NULL or for types that do not compare.
pub(super) fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    let decimal = |value: &Value| match value {
        Value::Int(int) => Some((i128::from(*int), 0)),
        Value::UInt(uint) => Some((i128::from(*uint), 0)),
        Value::Decimal { units, scale } => Some((*units, usize::from(*scale))),
        _ => None,
    };
    let instant = |value: &Value| match value {
        Value::Timestamp { ticks, unit } => Some(i128::from(*ticks) * i128::from(unit.nanoseconds())),
        Value::Date(days) => Some(i128::from(*days) * 86_400_000_000_000),
        _ => None,
    };
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => return Some(a.as_bytes().cmp(b.as_bytes())),
        (Value::Bool(a), Value::Bool(b)) => return Some(a.cmp(b)),
        (Value::Int(a), Value::Int(b)) => return Some(a.cmp(b)),
        (Value::Interval { .. }, Value::Interval { .. }) => return Some(interval_length(a).cmp(&interval_length(b))),
        (Value::Float(_), _) | (_, Value::Float(_)) => {
            let (a, b) = (nearest_float(a)?, nearest_float(b)?);
            return Some(a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan())));
        }
        _ => {}
    }
    if let (Some(a), Some(b)) = (instant(a), instant(b)) {
        return Some(a.cmp(&b));
    }
    let ((a, a_scale), (b, b_scale)) = (decimal(a)?, decimal(b)?);
    let scale = a_scale.max(b_scale);
    // Whole parts first, so that bringing the fractions to one scale cannot overflow.
    let parts = |units: i128, own: usize| {
        let one = power_of_ten(own);
        (units.div_euclid(one), units.rem_euclid(one) * power_of_ten(scale - own))
    };
    Some(parts(a, a_scale).cmp(&parts(b, b_scale)))
}

/// Constants of one class as [`crate::expr::Node::In`] holds them: sorted, each once (the first as written of those that are equal).
pub(super) fn sorted_distinct(mut values: Vec<Value>) -> Arc<[Value]> {
    let order = |a: &Value, b: &Value| compare(a, b).unwrap_or(Ordering::Equal);
    values.sort_by(order);
    values.dedup_by(|next, kept| order(kept, next).is_eq());
    values.into()
}

/// Nanoseconds of an interval, a month being 30 days.
fn interval_length(value: &Value) -> i128 {
    match value {
        Value::Interval { months, days, nanoseconds } => {
            (i128::from(*months) * 30 + i128::from(*days)) * 86_400_000_000_000 + i128::from(*nanoseconds)
        }
        _ => 0,
    }
}

/// Days since 1970-01-01 of a day of the Gregorian calendar; `None` where there is no such day.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    // The year is taken to begin in March, so that the leap day is its last.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

/// Year, month and day of `days` since 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Reads digits (`least..=most` of them) from the front of `text`.
fn digits(text: &mut &str, least: usize, most: usize) -> Option<i64> {
    let count = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
    if count < least {
        return None;
    }
    let (digits, rest) = text.split_at(count);
    *text = rest;
    digits.parse().ok()
}

fn skip(text: &mut &str, prefix: char) -> Option<()> {
    *text = text.strip_prefix(prefix)?;
    Some(())
}

/// Reads `YYYY-MM-DD` from the front of `text`. Years of more than four digits, and with a sign, are read too.
fn date_prefix(text: &mut &str) -> Option<i64> {
    let negative = skip(text, '-').is_some();
    if !negative {
        let _plus = skip(text, '+');
    }
    let year = digits(text, 4, 12)?;
    skip(text, '-')?;
    let month = digits(text, 1, 2)?;
    skip(text, '-')?;
    let day = digits(text, 1, 2)?;
    days(if negative { -year } else { year }, month, day)
}

/// `YYYY-MM-DD`, as days since 1970-01-01.
pub(super) fn date(text: &str) -> Option<Value> {
    let mut rest = text.trim();
    let days = date_prefix(&mut rest)?;
    (rest.is_empty()).then_some(())?;
    i32::try_from(days).ok().map(Value::Date)
}

/// `YYYY-MM-DD[(T| )HH:MM[:SS[.fraction]][zone]]`; the digits of the fraction choose the unit. A zone (`Z` or an offset) is taken off: ticks are UTC.
pub(super) fn timestamp(text: &str) -> Option<Value> {
    let mut rest = text.trim();
    let mut seconds = i128::from(date_prefix(&mut rest)?) * 86_400;
    let (mut fraction, mut unit) = (0, TimeUnit::Second);
    if !rest.is_empty() {
        rest = rest.strip_prefix(['T', 't', ' '])?;
        let hour = digits(&mut rest, 1, 2)?;
        skip(&mut rest, ':')?;
        let minute = digits(&mut rest, 2, 2)?;
        let second = if skip(&mut rest, ':').is_some() { digits(&mut rest, 2, 2)? } else { 0 };
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        seconds += i128::from(hour * 3600 + minute * 60 + second);
        if skip(&mut rest, '.').is_some() {
            let before = rest.len();
            let written = digits(&mut rest, 1, 9)?;
            let count = before - rest.len();
            let places;
            (unit, places) = match count {
                1..=3 => (TimeUnit::Millisecond, 3),
                4..=6 => (TimeUnit::Microsecond, 6),
                _ => (TimeUnit::Nanosecond, 9),
            };
            fraction = i128::from(written) * power_of_ten(places - count);
        }
        seconds -= i128::from(zone(rest.trim_start())?);
    }
    let ticks = seconds * i128::from(unit.ticks_per_second()) + fraction;
    i64::try_from(ticks).ok().map(|ticks| Value::Timestamp { ticks, unit })
}

/// Seconds east of UTC: nothing, `Z`, `+HH`, `+HHMM` or `+HH:MM`.
fn zone(text: &str) -> Option<i64> {
    if text.is_empty() || text.eq_ignore_ascii_case("z") || text.eq_ignore_ascii_case("utc") {
        return Some(0);
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let mut rest = text.strip_prefix(['+', '-'])?;
    let hours = digits(&mut rest, 2, 2)?;
    let minutes = if rest.is_empty() {
        0
    } else {
        let _colon = skip(&mut rest, ':');
        digits(&mut rest, 2, 2)?
    };
    (rest.is_empty() && hours <= 18 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60))
}

/// What `text` states as a value of the temporal type `ty`; a date is a timestamp at midnight, and a text with a time of day stays a timestamp.
pub(super) fn temporal(text: &str, ty: Type) -> Option<Value> {
    match ty {
        Type::Timestamp(_) => timestamp(text),
        Type::Date => date(text).or_else(|| timestamp(text)),
        Type::Interval => interval(text, None, None),
        _ => None,
    }
}

/// A unit of an interval: how many months, days or nanoseconds it is.
#[derive(Clone, Copy)]
enum Span {
    Months(i128),
    Days(i128),
    Nanoseconds(i128),
}

fn interval_unit(name: &str) -> Option<Span> {
    let mut buffer = [0; 16];
    let lower = super::builtin::lower_case(name, &mut buffer)?;
    let second = 1_000_000_000;
    Some(match lower.strip_suffix(b"s").filter(|one| one.len() > 1).unwrap_or(lower) {
        b"year" | b"y" => Span::Months(12),
        b"month" | b"mon" => Span::Months(1),
        b"week" | b"w" => Span::Days(7),
        b"day" | b"d" => Span::Days(1),
        b"hour" | b"h" | b"hr" => Span::Nanoseconds(3600 * second),
        b"minute" | b"min" | b"m" => Span::Nanoseconds(60 * second),
        b"second" | b"sec" | b"s" => Span::Nanoseconds(second),
        b"millisecond" | b"ms" => Span::Nanoseconds(1_000_000),
        b"microsecond" | b"us" => Span::Nanoseconds(1_000),
        b"nanosecond" | b"ns" => Span::Nanoseconds(1),
        _ => return None,
    })
}

/// Whether `word` may stand behind the string of an INTERVAL literal.
pub(super) fn is_interval_unit(word: &str) -> bool {
    word.len() >= 3 && interval_unit(word).is_some()
}

#[derive(Default)]
struct Interval {
    months: i128,
    days: i128,
    nanoseconds: i128,
}

impl Interval {
    /// Adds `quantity` (a number, perhaps with a fraction) units. Only units below a day can be divided.
    fn add(&mut self, quantity: &str, unit: Span) -> Option<()> {
        let (units, scale) = match number(quantity).ok()? {
            Value::Int(int) => (i128::from(int), 0),
            Value::Decimal { units, scale } => (units, usize::from(scale)),
            _ => return None,
        };
        let size = match unit {
            Span::Months(size) | Span::Days(size) | Span::Nanoseconds(size) => size,
        };
        let total = units.checked_mul(size)?;
        if total % power_of_ten(scale) != 0 {
            return None;
        }
        let total = total / power_of_ten(scale);
        match unit {
            Span::Months(_) => self.months = self.months.checked_add(total)?,
            Span::Days(_) => self.days = self.days.checked_add(total)?,
            Span::Nanoseconds(_) => self.nanoseconds = self.nanoseconds.checked_add(total)?,
        }
        Some(())
    }

    fn value(&self, negative: bool) -> Option<Value> {
        let sign = if negative { -1 } else { 1 };
        Some(Value::Interval {
            months: i32::try_from(sign * self.months).ok()?,
            days: i32::try_from(sign * self.days).ok()?,
            nanoseconds: i64::try_from(sign * self.nanoseconds).ok()?,
        })
    }
}

/// `INTERVAL 'text' first TO last`. Without units the text has them (`1 day 2 hours`, `1 day 02:30:00`).
pub(super) fn interval(text: &str, first: Option<&str>, last: Option<&str>) -> Option<Value> {
    let mut sum = Interval::default();
    let text = text.trim();
    let Some(first) = first else {
        let mut words = text.split_whitespace();
        let mut any = false;
        while let Some(word) = words.next() {
            any = true;
            if word.contains(':') {
                clock(word, &mut sum)?;
                continue;
            }
            // `10 minutes`, or `10min`.
            let end = word.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(word.len());
            let unit = if end < word.len() { &word[end..] } else { words.next()? };
            sum.add(&word[..end], interval_unit(unit)?)?;
        }
        return if any { sum.value(false) } else { None };
    };
    let Some(last) = last else {
        sum.add(text, interval_unit(first)?)?;
        return sum.value(false);
    };
    // Fields from the first unit down to the last: `1-2` YEAR TO MONTH, `1 02:03:04` DAY TO SECOND.
    const UNITS: [(&str, bool); 6] =
        [("year", true), ("month", true), ("day", false), ("hour", false), ("minute", false), ("second", false)];
    let place = |name: &str| UNITS.iter().position(|(unit, _)| unit.eq_ignore_ascii_case(name));
    let (from, to) = (place(first)?, place(last)?);
    let negative = text.starts_with('-');
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    if from >= to || UNITS[from].1 != UNITS[to].1 {
        return None;
    }
    let mut fields = text.split(if UNITS[from].1 { ['-', '-'] } else { [' ', ':'] });
    for (unit, _) in &UNITS[from..=to] {
        sum.add(fields.next()?, interval_unit(unit)?)?;
    }
    if fields.next().is_some() { None } else { sum.value(negative) }
}

/// `[-]HH:MM[:SS[.fraction]]`
fn clock(text: &str, sum: &mut Interval) -> Option<()> {
    let negative = text.starts_with('-');
    let mut time = Interval::default();
    let mut fields = text.strip_prefix(['-', '+']).unwrap_or(text).split(':');
    time.add(fields.next()?, interval_unit("hour")?)?;
    time.add(fields.next()?, interval_unit("minute")?)?;
    if let Some(seconds) = fields.next() {
        time.add(seconds, interval_unit("second")?)?;
    }
    sum.nanoseconds = sum.nanoseconds.checked_add(if negative { -time.nanoseconds } else { time.nanoseconds })?;
    if fields.next().is_some() { None } else { Some(()) }
}

/// `days` as `YYYY-MM-DD`.
pub(super) fn date_text(days: i64) -> String {
    let (year, month, day) = civil(days);
    let sign = match year {
        ..0 => "-",
        0..=9999 => "",
        _ => "+",
    };
    format!("{sign}{:04}-{month:02}-{day:02}", year.unsigned_abs())
}

/// `YYYY-MM-DD HH:MM:SS` with as many digits of a fraction as the unit has.
pub(super) fn timestamp_text(ticks: i64, unit: TimeUnit) -> String {
    let (seconds, fraction) = (ticks.div_euclid(unit.ticks_per_second()), ticks.rem_euclid(unit.ticks_per_second()));
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let mut text = format!("{} {:02}:{:02}:{:02}", date_text(days), of_day / 3600, of_day / 60 % 60, of_day % 60);
    let places = unit.ticks_per_second().ilog10() as usize;
    if places > 0 {
        let _ = write!(text, ".{fraction:0places$}");
    }
    text
}

/// `1 months 2 days 3.5 seconds`: the parts that are not zero.
pub(super) fn interval_text(months: i32, days: i32, nanoseconds: i64) -> String {
    let mut parts = Vec::new();
    if months != 0 {
        parts.push(format!("{months} months"));
    }
    if days != 0 {
        parts.push(format!("{days} days"));
    }
    if nanoseconds != 0 || parts.is_empty() {
        let seconds = decimal_text(i128::from(nanoseconds), 9);
        parts.push(format!("{} seconds", seconds.trim_end_matches('0').trim_end_matches('.')));
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_written_as_they_are_read() {
        let nines = power_of_ten(DIGITS_MAX) - 1;
        for units in [0, 5, -5, 10, 4321, -98_765, i128::from(u64::MAX), i128::from(u64::MAX) + 1, 10_i128.pow(19), nines, -nines] {
            let mut text = String::new();
            write_decimal(units, None, &mut text);
            assert_eq!(text, units.to_string());
            assert_eq!(number(&text), Ok(integer_value(units)));
            for scale in [0, 1, 2, 18, 19, 38] {
                let text = decimal_text(units, scale);
                assert_eq!(number(&text), Ok(Value::Decimal { units, scale }), "{text}");
                let (whole, fraction) = text.split_once('.').expect("a point");
                assert_eq!(fraction.len(), usize::from(scale));
                assert!(whole.trim_start_matches('-') == "0" || !whole.trim_start_matches('-').starts_with('0'));
            }
        }
        assert_eq!(number(&"9".repeat(39)), Err(NumberError::TooManyDigits));
        assert_eq!(number(&format!("{}1", "0".repeat(50))), Ok(Value::Int(1)));
    }

    #[test]
    fn numbers_are_exact_where_they_can_be() {
        assert_eq!(number("12"), Ok(Value::Int(12)));
        assert_eq!(number("9223372036854775808"), Ok(Value::UInt(1 << 63)));
        assert_eq!(number("18446744073709551616"), Ok(Value::Decimal { units: 1 << 64, scale: 0 }));
        assert_eq!(number("1.50"), Ok(Value::Decimal { units: 150, scale: 2 }));
        assert_eq!(number("5."), Ok(Value::Decimal { units: 5, scale: 0 }));
        assert_eq!(number(".5"), Ok(Value::Decimal { units: 5, scale: 1 }));
        assert_eq!(number("1.5e3"), Ok(Value::Decimal { units: 1500, scale: 0 }));
        assert_eq!(number("15e-3"), Ok(Value::Decimal { units: 15, scale: 3 }));
        assert_eq!(number("1e300"), Ok(Value::Float(1e300)));
        assert_eq!(number("0e999999999999999999999"), Ok(Value::Decimal { units: 0, scale: 0 }));
        assert_eq!(number("1e99999999999999999999"), Err(NumberError::TooLarge));
        assert_eq!(number("1e-99999999999999999999"), Ok(Value::Float(0.0)));
        assert_eq!(number(&"9".repeat(39)), Err(NumberError::TooManyDigits));
        assert_eq!(number("-"), Err(NumberError::NotANumber));
        assert_eq!(number("1e"), Err(NumberError::NotANumber));
        assert_eq!(number("inf"), Err(NumberError::NotANumber));
    }

    #[test]
    fn instants_read_back_as_printed() {
        assert_eq!(date("1970-01-01"), Some(Value::Date(0)));
        assert_eq!(date("2024-02-29"), Some(Value::Date(19_782)));
        assert_eq!(date("2023-02-29"), None);
        assert_eq!(timestamp("1970-01-01T01:00:00+01:00"), Some(Value::Timestamp { ticks: 0, unit: TimeUnit::Second }));
        assert_eq!(timestamp("1970-01-01 00:00:00.1234 Z"), Some(Value::Timestamp { ticks: 123_400, unit: TimeUnit::Microsecond }));
        assert_eq!(timestamp("1970-01-01 24:00:00"), None);
        for unit in [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond] {
            for ticks in [0, -1, 1, 86_399, 1_700_000_000, i64::MAX, i64::MIN, -62_167_219_201] {
                let text = timestamp_text(ticks, unit);
                assert_eq!(timestamp(&text), Some(Value::Timestamp { ticks, unit }), "{text}");
            }
        }
        for days in [0, -1, i32::MIN, i32::MAX, 11_016, -719_529] {
            assert_eq!(date(&date_text(i64::from(days))), Some(Value::Date(days)));
        }
    }

    #[test]
    fn intervals_have_several_forms() {
        let value = |months, days, nanoseconds| Some(Value::Interval { months, days, nanoseconds });
        let second = 1_000_000_000;
        assert_eq!(interval("10", Some("MINUTE"), None), value(0, 0, 600 * second));
        assert_eq!(interval("1 day 2 hours", None, None), value(0, 1, 7200 * second));
        assert_eq!(interval("1 day -02:30", None, None), value(0, 1, -9000 * second));
        assert_eq!(interval("1-2", Some("year"), Some("month")), value(14, 0, 0));
        assert_eq!(interval("-1 02:03:04.5", Some("day"), Some("second")), value(0, -1, -7_384_500_000_000));
        assert_eq!(interval("1.5 days", None, None), None);
        assert_eq!(interval("", None, None), None);
        assert_eq!(interval("5", None, None), None);
        for (months, days, nanoseconds) in [(0, 0, 0), (i32::MIN, i32::MAX, i64::MIN), (1, -2, 3), (0, 0, -1_500_000_000)] {
            let text = interval_text(months, days, nanoseconds);
            assert_eq!(interval(&text, None, None), value(months, days, nanoseconds), "{text}");
        }
    }

    #[test]
    fn constants_compare_exactly() {
        let order = |a: &str, b: &str| compare(&number(a).unwrap(), &number(b).unwrap());
        assert_eq!(order("1", "1.0"), Some(Ordering::Equal));
        assert_eq!(order("-1.5", "-1"), Some(Ordering::Less));
        assert_eq!(order("99999999999999999999999999999999999999", "0.00000000000000000000000000000000000001"), Some(Ordering::Greater));
        assert_eq!(order("9007199254740993", "9007199254740992"), Some(Ordering::Greater));
        assert_eq!(compare(&Value::Float(f64::NAN), &Value::Float(f64::INFINITY)), Some(Ordering::Greater));
        assert_eq!(compare(&Value::Null, &Value::Int(1)), None);
    }
}
