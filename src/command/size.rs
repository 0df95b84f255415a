//! Sizes of memory on the command line.

/// Bytes of a size such as `4096`, `64KiB`, `16 MiB` or `4GiB`; KB, MB and GB mean the same.
///
/// # Errors
/// What is wrong with the text.
pub fn parse(text: &str) -> Result<usize, String> {
    const UNITS: [(&[&str], u32); 5] =
        [(&["", "b"], 0), (&["k", "kb", "kib"], 10), (&["m", "mb", "mib"], 20), (&["g", "gb", "gib"], 30), (&["t", "tb", "tib"], 40)];
    let text = text.trim().to_lowercase();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let known = UNITS.iter().find(|(names, _)| names.contains(&unit.trim())).map(|(_, bits)| *bits);
    let size = number.parse::<usize>().ok().zip(known).and_then(|(number, bits)| number.checked_mul(1 << bits));
    size.ok_or_else(|| "a size is a whole number and a unit: 4096, 64KiB, 16MiB, 4GiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_or_are_bytes() {
        for (text, bytes) in [("0", 0), ("4096", 4096), ("64KiB", 65_536), ("16 MB", 16_777_216), ("4g", 4_294_967_296)] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5GiB", "1 x", "99999999999999TiB"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
