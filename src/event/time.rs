//! The proleptic Gregorian calendar in UTC, total over every day that an `i64` of seconds can name, and ISO 8601 text.

use super::schema::TimeUnit;

/// Seconds in a day: UTC days here have no leap seconds.
pub const SECONDS_PER_DAY: i64 = 86_400;
/// Nanoseconds in a day.
pub const NANOSECONDS_PER_DAY: i128 = 86_400_000_000_000;

/// Year, month (1-12) and day (1-31) of the day that many days after 1970-01-01.
#[must_use]
pub const fn civil_from_days(days: i64) -> (i64, u32, u32) {
    // Years are counted from March, so that the leap day is the last of its year; eras are 400 years.
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + (month <= 2) as i64, month as u32, day as u32)
}

/// Days from 1970-01-01 to a date of the calendar; `month` is 1-12.
#[must_use]
pub const fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = year - (month <= 2) as i64;
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = (month as i64 + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + day as i64 - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Days in a month (1-12) of a year.
#[must_use]
pub const fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// The same day some months later; a day that the month does not have becomes its last.
#[must_use]
pub const fn add_months(days: i64, months: i64) -> i64 {
    let (year, month, day) = civil_from_days(days);
    let months = year * 12 + month as i64 - 1 + months;
    let (year, month) = (months.div_euclid(12), months.rem_euclid(12) as u32 + 1);
    let last = days_in_month(year, month);
    days_from_civil(year, month, if day > last { last } else { day })
}

/// 1 (Monday) to 7.
#[must_use]
pub const fn iso_day_of_week(days: i64) -> i64 {
    (days + 3).rem_euclid(7) + 1
}

/// 1 to 366.
#[must_use]
pub const fn day_of_year(days: i64) -> i64 {
    days - days_from_civil(civil_from_days(days).0, 1, 1) + 1
}

/// ISO week, 1 to 53: the week belongs to the year of its Thursday.
#[must_use]
pub const fn iso_week(days: i64) -> i64 {
    (day_of_year(days - iso_day_of_week(days) + 4) - 1) / 7 + 1
}

/// Nanoseconds since the epoch.
#[must_use]
pub const fn nanoseconds(ticks: i64, unit: TimeUnit) -> i128 {
    ticks as i128 * unit.nanoseconds() as i128
}

/// Ticks of `unit`, rounded down; `None` where 64 bits do not hold them.
#[must_use]
pub fn ticks(nanoseconds: i128, unit: TimeUnit) -> Option<i64> {
    i64::try_from(nanoseconds.div_euclid(i128::from(unit.nanoseconds()))).ok()
}

/// Ticks in another unit, rounded down; `None` where 64 bits do not hold them.
#[must_use]
pub fn convert(ticks: i64, from: TimeUnit, to: TimeUnit) -> Option<i64> {
    self::ticks(nanoseconds(ticks, from), to)
}

/// The day of an instant, rounded down.
#[must_use]
pub const fn day(ticks: i64, unit: TimeUnit) -> i64 {
    ticks.div_euclid(unit.ticks_per_second()).div_euclid(SECONDS_PER_DAY)
}

/// Midnight of a day in ticks of `unit`; `None` where 64 bits do not hold it.
#[must_use]
pub fn midnight(days: i64, unit: TimeUnit) -> Option<i64> {
    days.checked_mul(SECONDS_PER_DAY)?.checked_mul(unit.ticks_per_second())
}

/// `2026-01-31`; years beyond four digits and before year 0 carry a sign.
#[must_use]
pub fn format_date(days: i64) -> String {
    let (year, month, day) = civil_from_days(days);
    if (0..=9999).contains(&year) { format!("{year:04}-{month:02}-{day:02}") } else { format!("{year:+05}-{month:02}-{day:02}") }
}

/// `2026-01-31T23:59:59.25Z`: a fraction only where there is one, without trailing zeros.
#[must_use]
pub fn format_timestamp(ticks: i64, unit: TimeUnit) -> String {
    let seconds = ticks.div_euclid(unit.ticks_per_second());
    let nanoseconds = ticks.rem_euclid(unit.ticks_per_second()) * unit.nanoseconds();
    let of_day = seconds.rem_euclid(SECONDS_PER_DAY);
    let date = format_date(seconds.div_euclid(SECONDS_PER_DAY));
    let time = format!("{:02}:{:02}:{:02}", of_day / 3600, of_day / 60 % 60, of_day % 60);
    if nanoseconds == 0 {
        format!("{date}T{time}Z")
    } else {
        let fraction = format!("{nanoseconds:09}");
        format!("{date}T{time}.{}Z", fraction.trim_end_matches('0'))
    }
}

/// What is left of a text that is being read.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self, byte: u8) -> bool {
        let found = self.0.first() == Some(&byte);
        if found {
            self.0 = &self.0[1..];
        }
        found
    }

    /// A number of `least` to `most` digits.
    fn digits(&mut self, least: usize, most: usize) -> Option<i64> {
        let len = self.0.iter().take(most).take_while(|b| b.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at(len);
        self.0 = rest;
        (len >= least).then(|| digits.iter().fold(0, |n, b| n * 10 + i64::from(b - b'0')))
    }

    fn date(&mut self) -> Option<i64> {
        let negative = self.take(b'-');
        let signed = negative || self.take(b'+');
        let year = self.digits(4, if signed { 12 } else { 4 })?;
        let year = if negative { -year } else { year };
        let month = self.take(b'-').then(|| self.digits(2, 2))??;
        let day = self.take(b'-').then(|| self.digits(2, 2))??;
        let (month, day) = (u32::try_from(month).ok()?, u32::try_from(day).ok()?);
        ((1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day)).then(|| days_from_civil(year, month, day))
    }

    /// Nanoseconds of the day.
    fn time(&mut self) -> Option<i64> {
        let hour = self.digits(2, 2)?;
        let minute = self.take(b':').then(|| self.digits(2, 2))??;
        let second = if self.take(b':') { self.digits(2, 2)? } else { 0 };
        let mut nanoseconds = 0;
        if self.take(b'.') {
            let before = self.0.len();
            let fraction = self.digits(1, 9)?;
            let digits = before - self.0.len();
            nanoseconds = fraction * 10_i64.pow(9 - digits as u32);
            // What is finer than a nanosecond is cut off.
            while self.digits(1, 18).is_some() {}
        }
        (hour < 24 && minute < 60 && second < 60).then(|| ((hour * 60 + minute) * 60 + second) * 1_000_000_000 + nanoseconds)
    }

    /// Seconds east of UTC; no zone at all is UTC.
    fn zone(&mut self) -> Option<i64> {
        if self.0.is_empty() || self.take(b'Z') || self.take(b'z') {
            return Some(0);
        }
        let west = self.take(b'-');
        if !west && !self.take(b'+') {
            return None;
        }
        let hours = self.digits(2, 2)?;
        let colon = self.take(b':');
        let minutes = if colon || !self.0.is_empty() { self.digits(2, 2)? } else { 0 };
        let seconds = (hours * 60 + minutes) * 60;
        (hours < 24 && minutes < 60).then_some(if west { -seconds } else { seconds })
    }
}

/// Days since 1970-01-01 of an ISO 8601 date (`2026-01-31`), white space around it passed over.
#[must_use]
pub fn parse_date(text: &str) -> Option<i32> {
    let mut reader = Reader(text.trim().as_bytes());
    let days = reader.date()?;
    reader.0.is_empty().then(|| i32::try_from(days).ok())?
}

/// Ticks of an ISO 8601 instant: a date, then optionally `T` or a space, hours and minutes, seconds, a fraction, and a zone (`Z`, `+02`,
/// `+0200`, `+02:00`; none is UTC). What is finer than `unit` is rounded down. `None` where it is not one, or 64 bits do not hold it.
#[must_use]
pub fn parse_timestamp(text: &str, unit: TimeUnit) -> Option<i64> {
    let mut reader = Reader(text.trim().as_bytes());
    let days = reader.date()?;
    let mut instant = i128::from(days) * NANOSECONDS_PER_DAY;
    if !reader.0.is_empty() {
        if !(reader.take(b'T') || reader.take(b't') || reader.take(b' ')) {
            return None;
        }
        instant += i128::from(reader.time()?);
        reader.take(b' ');
        instant -= i128::from(reader.zone()?) * 1_000_000_000;
    }
    reader.0.is_empty().then(|| ticks(instant, unit))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{Datelike, NaiveDate};

    #[test]
    fn the_calendar_agrees_with_chrono() {
        let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
        for days in (-1_000_000..1_000_000).step_by(61).chain(-800..800).chain(10_000..12_000) {
            let date = epoch + chrono::Duration::days(days);
            assert_eq!(civil_from_days(days), (i64::from(date.year()), date.month(), date.day()), "{days}");
            assert_eq!(days_from_civil(i64::from(date.year()), date.month(), date.day()), days);
            assert_eq!(iso_day_of_week(days), i64::from(date.weekday().number_from_monday()), "{days}");
            assert_eq!(day_of_year(days), i64::from(date.ordinal()), "{days}");
            assert_eq!(iso_week(days), i64::from(date.iso_week().week()), "{days}");
            for months in [-25, -1, 1, 13] {
                let months_later = if months < 0 {
                    date.checked_sub_months(chrono::Months::new(-months as u32))
                } else {
                    date.checked_add_months(chrono::Months::new(months as u32))
                };
                assert_eq!(add_months(days, months), (months_later.unwrap() - epoch).num_days());
            }
        }
    }

    #[test]
    fn the_whole_range_is_total() {
        for ticks in [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX] {
            for unit in [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond] {
                let text = format_timestamp(ticks, unit);
                assert_eq!(parse_timestamp(&text, unit), Some(ticks), "{text}");
                let days = day(ticks, unit);
                let (year, month, day) = civil_from_days(days);
                assert_eq!(days_from_civil(year, month, day), days);
                let _ = (add_months(days, i64::from(i32::MIN)), iso_week(days));
            }
        }
    }

    #[test]
    fn iso_text_is_read() {
        let ms = |text| parse_timestamp(text, TimeUnit::Millisecond);
        assert_eq!(ms("1970-01-01"), Some(0));
        assert_eq!(ms(" 1970-01-01T00:00:01.5Z "), Some(1_500));
        assert_eq!(ms("1970-01-01 02:00:00+02:00"), Some(0));
        assert_eq!(ms("1970-01-01 02:00+02"), Some(0));
        assert_eq!(ms("1969-12-31T23:59:59.9999999999999999999999Z"), Some(-1));
        for wrong in [
            "",
            "1970",
            "1970-13-01",
            "1970-02-29",
            "1970-01-01T24:00:00",
            "1970-01-01T00:00:60",
            "1970-01-01T",
            "1970-01-01x",
            "１９70-01-01",
        ] {
            assert_eq!(ms(wrong), None, "{wrong}");
        }
        assert_eq!(parse_timestamp("2300-01-01", TimeUnit::Nanosecond), None);
        assert_eq!(parse_date("2024-02-29"), Some(19_782));
        assert_eq!(parse_date("2023-02-29"), None);
        assert_eq!(format_date(19_782), "2024-02-29");
    }
}
