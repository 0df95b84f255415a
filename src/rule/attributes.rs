//! What rules say beside their condition, the same in documents, templates and bulk files.

use super::suggest::closest;
use super::{Action, Limits, Rule, Status};
use std::sync::Arc;

/// The keys of [`Attributes`].
pub const KEYS: [&str; 6] = ["tenant", "score", "action", "status", "tags", "outcome"];

const ACTIONS: [(&str, Action); 4] =
    [("allow", Action::Allow), ("review", Action::Review), ("challenge", Action::Challenge), ("block", Action::Block)];
const STATUSES: [(&str, Status); 3] = [("live", Status::Live), ("shadow", Status::Shadow), ("off", Status::Off)];

/// Everything of a [`Rule`] but its identity and its condition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    pub tenant: Option<Arc<str>>,
    /// Thousandths.
    pub score: i64,
    pub action: Action,
    pub status: Status,
    pub tags: Vec<Arc<str>>,
    pub outcome: Option<Arc<str>>,
}

/// Why a value was refused: a diagnostic that has no place yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: &'static str,
    pub primary: String,
    pub hint: String,
}

impl Refusal {
    pub fn new(code: &'static str, primary: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code, primary: primary.into(), hint: hint.into() }
    }
}

impl Attributes {
    /// Sets the attribute `key` to what `text` says; tags are a JSON list or separated by `;`.
    ///
    /// # Errors
    /// Why the text is refused. The attribute keeps its value.
    pub fn set(&mut self, key: &str, text: &str, limits: &Limits) -> Result<(), Refusal> {
        match key {
            "tenant" => self.tenant = Some(name("tenant", text, limits)?),
            "outcome" => self.outcome = Some(name("outcome", text, limits)?),
            "score" => self.score = score(text)?,
            "action" => self.action = choice("action", text, &ACTIONS)?,
            "status" => self.status = choice("status", text, &STATUSES)?,
            "tags" => self.tags = tags(text, limits)?,
            _ => {}
        }
        Ok(())
    }

    /// A rule with these attributes.
    #[must_use]
    pub fn rule(self, id: Arc<str>, when: Arc<str>, origin: super::Origin) -> Rule {
        Rule {
            id,
            tenant: self.tenant,
            when,
            origin,
            parameters: Vec::new(),
            score: self.score,
            action: self.action,
            status: self.status,
            tags: self.tags,
            outcome: self.outcome,
            clause: super::Clause::default(),
            tests: Vec::new(),
        }
    }
}

/// An id, or the name of a tenant, outcome or tag.
///
/// # Errors
/// An empty or too long name, or one with control characters.
pub fn name(what: &str, text: &str, limits: &Limits) -> Result<Arc<str>, Refusal> {
    if text.trim().is_empty() {
        return Err(Refusal::new("bad-name", format!("the {what} is empty"), ""));
    }
    if text.len() > limits.name_bytes {
        let message = format!("the {what} has {} bytes, more than the {} allowed", text.len(), limits.name_bytes);
        return Err(Refusal::new("bad-name", message, ""));
    }
    if text.chars().any(char::is_control) {
        return Err(Refusal::new("bad-name", format!("the {what} holds a control character"), "a name is one line of text"));
    }
    Ok(text.into())
}

/// A decimal with at most three places, in thousandths. Zeros beyond the third place say nothing and are allowed.
///
/// # Errors
/// What is wrong with the text.
pub fn score(text: &str) -> Result<i64, Refusal> {
    let text = text.trim();
    let refuse = |primary: String| Refusal::new("bad-score", primary, "a score is a decimal with at most 3 places, such as 12.5");
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, places) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    if whole.len() + places.len() == 0 || !whole.bytes().chain(places.bytes()).all(|b| b.is_ascii_digit()) {
        return Err(refuse(format!("the score `{}` is no decimal number", short(text))));
    }
    let places = places.trim_end_matches('0');
    if places.len() > 3 {
        return Err(refuse(format!("the score {} has {} decimal places", short(text), places.len())));
    }
    let digits = format!("{}{whole}{places:0<3}", if negative { "-" } else { "" });
    digits.parse().map_err(|_| refuse(format!("the score {} is too large", short(text))))
}

fn choice<T: Copy>(what: &str, text: &str, choices: &[(&str, T)]) -> Result<T, Refusal> {
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
        return Ok(*value);
    }
    let known = || choices.iter().map(|(name, _)| *name);
    let hint = match closest(text, known()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("one of {}", known().collect::<Vec<_>>().join(", ")),
    };
    let code = if what == "action" { "unknown-action" } else { "unknown-status" };
    Err(Refusal::new(code, format!("unknown {what} `{}`", short(text)), hint))
}

fn tags(text: &str, limits: &Limits) -> Result<Vec<Arc<str>>, Refusal> {
    if text.trim_start().starts_with('[') {
        let items: Vec<String> = serde_json::from_str(text)
            .map_err(|error| Refusal::new("bad-tags", "the tags are no JSON list of texts", error.to_string()))?;
        return items.iter().map(|tag| name("tag", tag, limits)).collect();
    }
    text.split(';').map(str::trim).filter(|tag| !tag.is_empty()).map(|tag| name("tag", tag, limits)).collect()
}

/// So much of a text that a message stays readable.
#[must_use]
pub fn short(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_exact_thousandths() {
        let cases = [
            ("35", Some(35_000)),
            ("-0.5", Some(-500)),
            ("+1.125", Some(1125)),
            (".001", Some(1)),
            ("7.", Some(7000)),
            ("1.2500000", Some(1250)),
            ("9223372036854775.807", Some(i64::MAX)),
            ("-9223372036854775.808", Some(i64::MIN)),
            ("9223372036854775.808", None),
            ("0.0001", None),
            ("1e3", None),
            ("--1", None),
            (".", None),
            ("", None),
            ("NaN", None),
            ("١", None),
        ];
        for (text, expected) in cases {
            assert_eq!(score(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn names_are_one_line_of_bounded_length() {
        let limits = Limits { name_bytes: 4, ..Limits::default() };
        for refused in ["", "  ", "abcde", "a\nb", "a\u{1b}"] {
            assert!(name("id", refused, &limits).is_err(), "{refused:?}");
        }
        assert!(name("id", "a b", &limits).is_ok());
    }
}
