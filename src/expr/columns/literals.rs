//! Many literals looked for in a text at once.

use crate::expr::like::Anchor;
use aho_corasick::AhoCorasick;

/// Literals of which a text must have one.
#[derive(Clone, Debug)]
pub enum Literals {
    Anywhere(AhoCorasick),
    /// Ascending, and none starts with another: then only the last one that is not above a text can be its start.
    Start(Vec<Vec<u8>>),
    /// The same with everything read from its end.
    End(Vec<Vec<u8>>),
}

impl Literals {
    /// `None` where the automaton would be too large to be worth its memory.
    pub fn new<'a>(anchor: Anchor, literals: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        Some(match anchor {
            Anchor::Anywhere => Self::Anywhere(AhoCorasick::new(literals).ok()?),
            Anchor::Start => Self::Start(shortest(literals.map(<[u8]>::to_vec).collect())),
            Anchor::End => Self::End(shortest(literals.map(|literal| literal.iter().rev().copied().collect()).collect())),
        })
    }

    pub fn is_match(&self, text: &str) -> bool {
        let text = text.as_bytes();
        match self {
            Self::Anywhere(automaton) => automaton.is_match(text),
            Self::Start(literals) => {
                let after = literals.partition_point(|literal| literal.as_slice() <= text);
                after > 0 && text.starts_with(&literals[after - 1])
            }
            Self::End(literals) => {
                let after = literals.partition_point(|literal| literal.iter().le(text.iter().rev()));
                after > 0
                    && literals[after - 1].len() <= text.len()
                    && literals[after - 1].iter().eq(text.iter().rev().take(literals[after - 1].len()))
            }
        }
    }
}

/// Sorts the literals and drops those that start with another, which say nothing new.
fn shortest(mut literals: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    literals.sort_unstable();
    literals.dedup_by(|literal, shorter| literal.starts_with(shorter));
    literals
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_one_search_after_the_other(literals in prop::collection::vec("[abé]{1,4}", 1..20), text in "[abcé]{0,6}") {
            let found = |anchor| Literals::new(anchor, literals.iter().map(String::as_bytes)).map(|literals| literals.is_match(&text));
            prop_assert_eq!(found(Anchor::Anywhere), Some(literals.iter().any(|literal| text.contains(literal))));
            prop_assert_eq!(found(Anchor::Start), Some(literals.iter().any(|literal| text.starts_with(literal))));
            prop_assert_eq!(found(Anchor::End), Some(literals.iter().any(|literal| text.ends_with(literal))));
        }
    }
}
