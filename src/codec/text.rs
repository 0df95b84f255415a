//! Values as text: exact decimals, instants and dates, parsed and written.

use crate::event::TimeUnit;

const SECONDS_IN_DAY: i64 = 86_400;

/// A number read from decimal text without loss: `units` / 10^`scale`. Trailing zeros after the point are removed, so that a whole number has scale 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exact {
    pub units: i128,
    pub scale: u32,
}

/// Reads `[+-]digits[.digits][e[+-]digits]`. `None` where the text is no number, or has more digits than an `i128` holds.
#[must_use]
pub fn parse_exact(text: &str) -> Option<Exact> {
    let (negative, body) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match body.find(['e', 'E']) {
        Some(at) => (&body[..at], body[at + 1..].parse::<i64>().ok()?),
        None => (body, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.len() + fraction.len() == 0 || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Zeros at the end of the fraction say nothing; with them a number of few digits could look too long.
    let fraction = fraction.trim_end_matches('0');
    let mut units: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        units = units.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    if units == 0 {
        return Some(Exact { units: 0, scale: 0 });
    }
    let mut scale = i64::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
    while scale < 0 {
        units = units.checked_mul(10)?;
        scale += 1;
    }
    while scale > 0 && units % 10 == 0 {
        units /= 10;
        scale -= 1;
    }
    Some(Exact { units: if negative { -units } else { units }, scale: u32::try_from(scale).ok()? })
}

/// Decimal text as the nearest double; words for NaN and the infinities are numbers only where `words` allows. A finite number
/// beyond the doubles is none.
#[must_use]
pub fn parse_float(text: &str, words: bool) -> Option<f64> {
    let digits = text.bytes().any(|byte| byte.is_ascii_digit());
    match text.parse::<f64>() {
        Ok(number) if digits => number.is_finite().then_some(number),
        Ok(number) if words => Some(number),
        _ => None,
    }
}

/// `units` / 10^`scale` as decimal text with exactly `scale` digits after the point.
#[must_use]
pub fn format_decimal(units: &str, scale: i32) -> String {
    let (sign, digits) = units.strip_prefix('-').map_or(("", units), |digits| ("-", digits));
    match usize::try_from(scale) {
        Ok(0) => units.to_owned(),
        Ok(scale) => {
            let padded = format!("{digits:0>width$}", width = scale + 1);
            let (whole, fraction) = padded.split_at(padded.len() - scale);
            format!("{sign}{whole}.{fraction}")
        }
        Err(_) => format!("{units}{}", "0".repeat(scale.unsigned_abs() as usize)),
    }
}

/// Days since 1970-01-01 of a day of the proleptic Gregorian calendar. `None` where there is no such day.
fn days_of(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    // Counted from 1 March, so that the leap day is the last day of its year.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468)
}

/// Year, month and day of a day number.
fn civil_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

/// Takes a decimal number of between `least` and `most` digits off the front of `text`.
fn take_digits(text: &mut &[u8], least: usize, most: usize) -> Option<i64> {
    let count = text.iter().take(most).take_while(|byte| byte.is_ascii_digit()).count();
    if count < least {
        return None;
    }
    let number = text[..count].iter().fold(0_i64, |number, digit| number * 10 + i64::from(digit - b'0'));
    *text = &text[count..];
    Some(number)
}

fn take(text: &mut &[u8], wanted: u8) -> Option<()> {
    if *text.first()? != wanted {
        return None;
    }
    *text = &text[1..];
    Some(())
}

/// `YYYY-MM-DD` off the front of `text`; years of up to six digits, with a sign where they are before 0.
fn take_date(text: &mut &[u8]) -> Option<i64> {
    let negative = take(text, b'-').is_some();
    let year = take_digits(text, 4, 6)?;
    take(text, b'-')?;
    let month = take_digits(text, 2, 2)?;
    take(text, b'-')?;
    let day = take_digits(text, 2, 2)?;
    days_of(if negative { -year } else { year }, month, day)
}

/// Days since 1970-01-01 of `YYYY-MM-DD`.
#[must_use]
pub fn parse_date(text: &str) -> Option<i32> {
    let mut rest = text.as_bytes();
    let days = take_date(&mut rest)?;
    if rest.is_empty() { i32::try_from(days).ok() } else { None }
}

/// Ticks of `unit` of an ISO 8601 instant: `YYYY-MM-DD[T| ]HH:MM[:SS[.fraction]][ ][Z|±HH[[:]MM]]` or a date alone; without an
/// offset it is UTC. `None` where it is none, or where `unit` is too coarse for it.
#[must_use]
pub fn parse_timestamp(text: &str, unit: TimeUnit) -> Option<i64> {
    let mut rest = text.as_bytes();
    let mut seconds = take_date(&mut rest)?.checked_mul(SECONDS_IN_DAY)?;
    let mut fraction = 0_i64;
    if !rest.is_empty() {
        take(&mut rest, b'T').or_else(|| take(&mut rest, b' ')).or_else(|| take(&mut rest, b't'))?;
        let hour = take_digits(&mut rest, 2, 2).filter(|hour| *hour < 24)?;
        take(&mut rest, b':')?;
        let minute = take_digits(&mut rest, 2, 2).filter(|minute| *minute < 60)?;
        seconds += hour * 3_600 + minute * 60;
        if take(&mut rest, b':').is_some() {
            seconds += take_digits(&mut rest, 2, 2).filter(|second| *second < 60)?;
            if take(&mut rest, b'.').is_some() {
                fraction = take_fraction(&mut rest, unit)?;
            }
        }
        while take(&mut rest, b' ').is_some() {}
        seconds -= take_offset(&mut rest)?;
    }
    if !rest.is_empty() {
        return None;
    }
    let ticks = i128::from(seconds) * i128::from(unit.ticks_per_second()) + i128::from(fraction);
    i64::try_from(ticks).ok()
}

/// Digits after the point as ticks of `unit`.
fn take_fraction(rest: &mut &[u8], unit: TimeUnit) -> Option<i64> {
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (kept, beyond) = rest[..digits].split_at(digits.min(9));
    *rest = &rest[digits..];
    if digits == 0 || beyond.iter().any(|digit| *digit != b'0') {
        return None;
    }
    let scale = 10_i64.pow(9 - kept.len() as u32);
    let nanoseconds = kept.iter().fold(0_i64, |number, digit| number * 10 + i64::from(digit - b'0')) * scale;
    (nanoseconds % unit.nanoseconds() == 0).then(|| nanoseconds / unit.nanoseconds())
}

/// Seconds east of UTC; none written is 0.
fn take_offset(rest: &mut &[u8]) -> Option<i64> {
    let sign = match rest.first() {
        None => return Some(0),
        Some(b'Z' | b'z') => {
            *rest = &rest[1..];
            return Some(0);
        }
        Some(b'+') => 1,
        Some(b'-') => -1,
        Some(_) => return None,
    };
    *rest = &rest[1..];
    let hours = take_digits(rest, 2, 2).filter(|hours| *hours < 24)?;
    let colon = take(rest, b':').is_some();
    let minutes = if colon || !rest.is_empty() { take_digits(rest, 2, 2).filter(|minutes| *minutes < 60)? } else { 0 };
    Some(sign * (hours * 3_600 + minutes * 60))
}

/// `YYYY-MM-DD` of a day number.
#[must_use]
pub fn format_date(days: i64) -> String {
    let (year, month, day) = civil_of(days);
    let sign = if year < 0 { "-" } else { "" };
    format!("{sign}{:04}-{month:02}-{day:02}", year.abs())
}

/// `YYYY-MM-DDTHH:MM:SS[.fraction]Z` of an instant, the fraction without zeros at its end.
#[must_use]
pub fn format_timestamp(ticks: i64, unit: TimeUnit) -> String {
    let seconds = ticks.div_euclid(unit.ticks_per_second());
    let nanoseconds = ticks.rem_euclid(unit.ticks_per_second()) * unit.nanoseconds();
    let of_day = seconds.rem_euclid(SECONDS_IN_DAY);
    let date = format_date(seconds.div_euclid(SECONDS_IN_DAY));
    let fraction = if nanoseconds == 0 { String::new() } else { format!(".{nanoseconds:09}").trim_end_matches('0').to_owned() };
    format!("{date}T{:02}:{:02}:{:02}{fraction}Z", of_day / 3_600, of_day / 60 % 60, of_day % 60)
}
