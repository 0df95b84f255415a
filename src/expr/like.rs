//! LIKE patterns, analysed once, matched without backtracking.
//!
//! `%` stands for any run of characters, `_` for one Unicode scalar value. The escape character makes the next character literal,
//! whatever it is; a pattern that ends with its escape character matches nothing. Without regard to case (ILIKE), pattern and
//! text are compared after lower-casing each character by its Unicode mapping (`char::to_lowercase`).

use memchr::memmem::Finder;
use std::borrow::Cow;

/// A pattern that is ready to match.
#[derive(Clone, Debug)]
pub struct LikePattern {
    shape: Shape,
    case_insensitive: bool,
}

/// Where in a text a literal must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Anchor {
    Anywhere,
    Start,
    End,
}

/// The common shapes have a test of their own.
#[derive(Clone, Debug)]
enum Shape {
    /// The pattern ends with its escape character.
    Nothing,
    Everything,
    Exact(String),
    Prefix(String),
    Suffix(String),
    Contains(Box<Finder<'static>>),
    /// Starts with the one and ends with the other, which do not overlap.
    PrefixSuffix(String, String),
    General(Box<General>),
}

/// Segments with any run of characters between them.
#[derive(Clone, Debug)]
struct General {
    /// Anchored at the start; matches nothing but the empty text where the pattern starts with `%`.
    head: Segment,
    middle: Vec<Segment>,
    /// Anchored at the end; `None` where the pattern has no `%`, and the head must reach the end.
    tail: Option<Segment>,
}

/// What stands between two `%`: literals and runs of `_`, in turn.
#[derive(Clone, Debug, Default)]
struct Segment {
    /// `_` before the first literal.
    skip: usize,
    /// A literal and the count of `_` after it.
    pieces: Vec<(Finder<'static>, usize)>,
    /// Characters in all.
    characters: usize,
}

enum Token {
    AnyRun,
    AnyOne,
    Literal(char),
}

/// Each character lower-cased by its Unicode mapping.
#[must_use]
pub fn lower(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        if text.bytes().any(|b| b.is_ascii_uppercase()) { Cow::Owned(text.to_ascii_lowercase()) } else { Cow::Borrowed(text) }
    } else {
        Cow::Owned(text.chars().flat_map(char::to_lowercase).collect())
    }
}

/// The position `count` characters after `at`, if there are so many.
fn skip(text: &str, at: usize, count: usize) -> Option<usize> {
    if count == 0 {
        return Some(at);
    }
    let rest = &text[at..];
    rest.char_indices().nth(count - 1).map(|(start, c)| at + start + c.len_utf8())
}

impl Segment {
    fn new(tokens: &[Token]) -> Self {
        let mut segment = Self { characters: tokens.len(), ..Self::default() };
        let mut literals: Vec<(String, usize)> = Vec::new();
        let mut open = false;
        for token in tokens {
            match token {
                Token::Literal(c) if open => literals.last_mut().expect("a literal is open").0.push(*c),
                Token::Literal(c) => {
                    literals.push((c.to_string(), 0));
                    open = true;
                }
                Token::AnyOne | Token::AnyRun => {
                    open = false;
                    *literals.last_mut().map_or(&mut segment.skip, |last| &mut last.1) += 1;
                }
            }
        }
        segment.pieces = literals.into_iter().map(|(literal, after)| (Finder::new(&literal).into_owned(), after)).collect();
        segment
    }

    fn is_empty(&self) -> bool {
        self.characters == 0
    }

    /// The literal, if the segment is nothing else.
    fn literal(&self) -> Option<String> {
        match &self.pieces[..] {
            [] if self.skip == 0 => Some(String::new()),
            [(literal, 0)] if self.skip == 0 => std::str::from_utf8(literal.needle()).ok().map(str::to_owned),
            _ => None,
        }
    }

    /// The end of the pieces that start exactly at `at`.
    fn pieces_at(pieces: &[(Finder<'static>, usize)], text: &str, mut at: usize) -> Option<usize> {
        for (literal, after) in pieces {
            if !text.as_bytes()[at..].starts_with(literal.needle()) {
                return None;
            }
            at = skip(text, at + literal.needle().len(), *after)?;
        }
        Some(at)
    }

    /// The end of the segment, where it starts exactly at `at`.
    fn match_at(&self, text: &str, at: usize) -> Option<usize> {
        Self::pieces_at(&self.pieces, text, skip(text, at, self.skip)?)
    }

    /// The end of the leftmost occurrence at or after `from`. Its length in characters is fixed, so the leftmost one leaves the
    /// most text for what follows.
    fn find(&self, text: &str, from: usize) -> Option<usize> {
        let mut from = skip(text, from, self.skip)?;
        let Some(((first, after), rest)) = self.pieces.split_first() else { return Some(from) };
        loop {
            let start = from + first.find(&text.as_bytes()[from..])?;
            let end = skip(text, start + first.needle().len(), *after)?;
            if let Some(end) = Self::pieces_at(rest, text, end) {
                return Some(end);
            }
            from = start + 1;
        }
    }
}

impl LikePattern {
    /// Analyses `pattern`.
    #[must_use]
    pub fn new(pattern: &str, escape: Option<char>, case_insensitive: bool) -> Self {
        let mut tokens = Vec::with_capacity(pattern.len());
        let literal = |tokens: &mut Vec<Token>, c: char| {
            if case_insensitive { tokens.extend(c.to_lowercase().map(Token::Literal)) } else { tokens.push(Token::Literal(c)) }
        };
        let mut characters = pattern.chars();
        while let Some(c) = characters.next() {
            if Some(c) == escape {
                match characters.next() {
                    Some(c) => literal(&mut tokens, c),
                    None => return Self { shape: Shape::Nothing, case_insensitive },
                }
            } else if c == '%' {
                tokens.push(Token::AnyRun);
            } else if c == '_' {
                tokens.push(Token::AnyOne);
            } else {
                literal(&mut tokens, c);
            }
        }
        Self { shape: Shape::new(&tokens), case_insensitive }
    }

    /// What a text must have, and where, to match, if that is all there is to the pattern; lower-cased where case has no regard.
    #[must_use]
    pub fn literal(&self) -> Option<(Anchor, &[u8])> {
        match &self.shape {
            Shape::Contains(finder) => Some((Anchor::Anywhere, finder.needle())),
            Shape::Prefix(prefix) => Some((Anchor::Start, prefix.as_bytes())),
            Shape::Suffix(suffix) => Some((Anchor::End, suffix.as_bytes())),
            _ => None,
        }
    }

    /// Whether texts match in any case.
    #[must_use]
    pub const fn is_case_insensitive(&self) -> bool {
        self.case_insensitive
    }

    /// Whether the whole of `text` matches.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        if self.case_insensitive { self.shape.matches(&lower(text)) } else { self.shape.matches(text) }
    }
}

impl Shape {
    fn new(tokens: &[Token]) -> Self {
        let mut segments: Vec<Segment> = tokens.split(|token| matches!(token, Token::AnyRun)).map(Segment::new).collect();
        let runs = segments.len() - 1;
        let head = segments.remove(0);
        let Some(tail) = segments.pop() else {
            return match head.literal() {
                Some(literal) => Self::Exact(literal),
                None => Self::General(Box::new(General { head, middle: Vec::new(), tail: None })),
            };
        };
        segments.retain(|segment| !segment.is_empty());
        let whole = (head.literal(), tail.literal(), &segments[..]);
        match whole {
            (Some(prefix), Some(suffix), []) if runs > 0 => match (prefix.is_empty(), suffix.is_empty()) {
                (true, true) => Self::Everything,
                (false, true) => Self::Prefix(prefix),
                (true, false) => Self::Suffix(suffix),
                (false, false) => Self::PrefixSuffix(prefix, suffix),
            },
            (Some(prefix), Some(suffix), [only]) if prefix.is_empty() && suffix.is_empty() && only.literal().is_some() => {
                Self::Contains(Box::new(only.pieces[0].0.clone()))
            }
            _ => Self::General(Box::new(General { head, middle: segments, tail: Some(tail) })),
        }
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Exact(whole) => text == whole,
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Self::Suffix(suffix) => text.ends_with(suffix.as_str()),
            Self::Contains(finder) => finder.find(text.as_bytes()).is_some(),
            Self::PrefixSuffix(prefix, suffix) => {
                text.len() >= prefix.len() + suffix.len() && text.starts_with(prefix.as_str()) && text.ends_with(suffix.as_str())
            }
            Self::General(general) => general.matches(text),
        }
    }
}

impl General {
    fn matches(&self, text: &str) -> bool {
        let Some(mut at) = self.head.match_at(text, 0) else { return false };
        let Some(tail) = &self.tail else { return at == text.len() };
        // The tail takes exactly so many characters from the end.
        let start = match tail.characters {
            0 => Some(text.len()),
            count => text.char_indices().rev().nth(count - 1).map(|(start, _)| start),
        };
        let Some(start) = start.filter(|start| *start >= at) else { return false };
        if tail.match_at(text, start) != Some(text.len()) {
            return false;
        }
        let text = &text[..start];
        for segment in &self.middle {
            match segment.find(text, at) {
                Some(end) => at = end,
                None => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, by recursion.
    fn naive(pattern: &[char], escape: Option<char>, text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((c, rest)) if Some(*c) == escape => match (rest.split_first(), text.split_first()) {
                (Some((literal, rest)), Some((c, text))) => literal == c && naive(rest, escape, text),
                _ => false,
            },
            Some(('%', rest)) => (0..=text.len()).any(|start| naive(rest, escape, &text[start..])),
            Some(('_', rest)) => text.split_first().is_some_and(|(_, text)| naive(rest, escape, text)),
            Some((literal, rest)) => text.split_first().is_some_and(|(c, text)| literal == c && naive(rest, escape, text)),
        }
    }

    fn lowered(text: &str) -> Vec<char> {
        text.chars().flat_map(char::to_lowercase).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn agrees_with_the_definition(pattern in "[ab%_!é𝄞]{0,9}", text in "[abé𝄞_%!]{0,10}", escape in prop::option::of(Just('!'))) {
            let expected = naive(&pattern.chars().collect::<Vec<_>>(), escape, &text.chars().collect::<Vec<_>>());
            // An escape at the end of the pattern matches nothing, also where a `%` before it could have taken everything.
            prop_assert_eq!(LikePattern::new(&pattern, escape, false).matches(&text), expected);
        }

        #[test]
        fn agrees_without_case(pattern in "[aBÉé%_İ]{0,7}", text in "[AbéÉİi]{0,8}") {
            let expected = naive(&lowered(&pattern), None, &lowered(&text));
            prop_assert_eq!(LikePattern::new(&pattern, None, true).matches(&text), expected);
        }
    }

    #[test]
    fn shapes_are_recognised() {
        let shape = |pattern| LikePattern::new(pattern, Some('\\'), false).shape;
        assert!(matches!(shape(""), Shape::Exact(_)));
        assert!(matches!(shape("%"), Shape::Everything));
        assert!(matches!(shape("%%"), Shape::Everything));
        assert!(matches!(shape("a\\%"), Shape::Exact(_)));
        assert!(matches!(shape("a%"), Shape::Prefix(_)));
        assert!(matches!(shape("%a"), Shape::Suffix(_)));
        assert!(matches!(shape("%a%"), Shape::Contains(_)));
        assert!(matches!(shape("%%a%%"), Shape::Contains(_)));
        assert!(matches!(shape("a%b"), Shape::PrefixSuffix(..)));
        assert!(matches!(shape("a_b"), Shape::General(_)));
        assert!(matches!(shape("a\\"), Shape::Nothing));
    }

    #[test]
    fn many_runs_stay_cheap() {
        let text = "a".repeat(20_000);
        assert!(!LikePattern::new(&format!("{}b", "%a".repeat(200)), None, false).matches(&text));
        assert!(!LikePattern::new(&format!("%{}b%", "a_".repeat(100)), None, false).matches(&text));
        assert!(LikePattern::new(&"%a".repeat(200), None, false).matches(&text));
    }
}
