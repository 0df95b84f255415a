//! The name that was probably meant.

/// The candidate closest to `name` by edit distance, if one is close: at most a third of its characters differ. Case of letters counts little.
pub(super) fn closest<'c>(name: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    let wanted: Vec<char> = name.chars().take(64).flat_map(char::to_lowercase).collect();
    let most = (wanted.len() / 3).max(usize::from(wanted.len() > 1));
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        if candidate.len().abs_diff(name.len()) > 4 * most {
            continue;
        }
        let other: Vec<char> = candidate.chars().take(64).flat_map(char::to_lowercase).collect();
        let distance = distance(&wanted, &other);
        if distance <= most && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Levenshtein's distance.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(x != y)).min(above + 1).min(row[j] + 1);
            diagonal = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let names = ["amount", "merchant", "mcc"];
        assert_eq!(closest("amuont", names.into_iter()), Some("amount"));
        assert_eq!(closest("Merchnt", names.into_iter()), Some("merchant"));
        assert_eq!(closest("mc", names.into_iter()), Some("mcc"));
        assert_eq!(closest("country", names.into_iter()), None);
    }
}
