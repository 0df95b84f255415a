//! The rule language: documents, conditions and what they mean. Knows nothing of bytes, tables or back ends.
//!
//! * [`document`], [`bulk`], [`template`]: from files to [`Rule`]s, by way of [`yaml`] (trees) and [`table`] (rows).
//! * [`lexer`], [`parser`], [`ast`], [`check`]: from a condition's text to a typed [`crate::expr::Expr`]; [`mod@print`]: back to canonical text.
//! * [`inline`]: patterns in texts that stand by themselves.
//! * [`lists`]: named lists of constants. [`window`]: windows, named and stated in conditions, as columns.
//! * [`normal`]: to terms of thresholds; [`lint`]: what interval algebra says about them.

pub mod ast;
pub mod attributes;
pub mod builtin;
pub mod bulk;
pub mod check;
pub mod diagnostic;
pub mod document;
pub mod inline;
pub mod lexer;
pub mod limits;
pub mod lint;
pub mod lists;
mod literal;
pub mod normal;
pub mod parser;
pub mod print;
mod report;
mod suggest;
pub mod table;
pub mod template;
pub mod window;
pub mod yaml;

pub use diagnostic::{Diagnostic, Origin, Severity};
pub use limits::Limits;

use crate::event::Value;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What is done with an event; the strongest of the matching live rules wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    #[default]
    Allow,
    Review,
    Challenge,
    Block,
}

/// Whether a rule acts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    #[default]
    Live,
    /// Matched and reported, never acts.
    Shadow,
    /// Compiled, never matched.
    Off,
}

/// What a rule's text is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Clause {
    /// A condition on one event.
    #[default]
    When,
    /// The body of a MATCH_RECOGNIZE, over several.
    MatchRecognize,
    /// What follows the word SEQUENCE: events one after the other, with others between.
    Sequence,
}

/// What canonical texts of sequences begin with, and nothing else does.
pub const SEQUENCE: &str = "SEQUENCE ";

/// A rule as its source states it: the condition still text.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub id: Arc<str>,
    /// `None`: every tenant.
    pub tenant: Option<Arc<str>>,
    pub when: Arc<str>,
    pub clause: Clause,
    /// Where `when` starts; with it every offset in the condition has a line and column.
    pub origin: Origin,
    /// Values of `:name` parameters, where the rule is an instance of a template.
    pub parameters: Vec<(Arc<str>, Value)>,
    /// Thousandths.
    pub score: i64,
    pub action: Action,
    pub status: Status,
    pub tags: Vec<Arc<str>>,
    /// An item that a match speaks for (recommendations): ranked by summed score.
    pub outcome: Option<Arc<str>>,
    pub tests: Vec<RuleTest>,
}

/// A test inside a file: an event that must, or must not, match; of a pattern several, in which something must be found, or nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleTest {
    pub matches: bool,
    /// For each event, field name to value as written (JSON); fields not named are NULL.
    pub events: Vec<serde_json::Map<String, serde_json::Value>>,
    pub origin: Origin,
}
