//! Lengths of time on the command line.

/// Nanoseconds of a length such as `90`, `90s`, `1.5 h`, `2 days` or `500ms`; a bare number is seconds.
///
/// # Errors
/// What is wrong with the text.
pub fn parse(text: &str) -> Result<i64, String> {
    const UNITS: [(&[&str], f64); 7] = [
        (&["ns", "nanosecond"], 1.0),
        (&["us", "µs", "microsecond"], 1e3),
        (&["ms", "millisecond"], 1e6),
        (&["", "s", "sec", "second"], 1e9),
        (&["m", "min", "minute"], 60e9),
        (&["h", "hour"], 3_600e9),
        (&["d", "day"], 86_400e9),
    ];
    let text = text.trim().to_lowercase();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim();
    let unit = if unit.len() > 2 { unit.trim_end_matches('s') } else { unit };
    let known = UNITS.iter().find(|(names, _)| names.contains(&unit)).map(|(_, nanoseconds)| nanoseconds);
    let length = number.parse::<f64>().ok().zip(known).map(|(number, unit)| number * unit);
    match length {
        Some(length) if length < i64::MAX as f64 => Ok(length as i64),
        _ => Err("a length of time is a number and a unit: 90s, 500ms, 15 min, 2 h, 1 day".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_units_or_are_seconds() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("90", 90_000_000_000),
            ("500ms", 500_000_000),
            ("1.5 h", 5_400_000_000_000),
            ("2 days", 172_800_000_000_000),
            ("1min", 60_000_000_000),
        ] {
            assert_eq!(parse(text), Ok(nanoseconds), "{text}");
        }
        for text in ["", "s", "-1s", "1 fortnight", "1e400", "99999999999 days"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
