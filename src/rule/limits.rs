//! Every limit of the language, named in one place.

use crate::expr::prepared::REGEX_BYTES_MAX;

/// Limits that compile enforces with a diagnostic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one condition.
    pub condition_bytes: usize,
    /// Nesting of parentheses, functions and operators; chains of AND and OR do not nest.
    pub nesting: usize,
    /// Nodes of one typed expression.
    pub nodes: usize,
    /// Entries of one list, in a condition or named.
    pub list_entries: usize,
    /// Terms (conjunctions) that one condition may become; beyond it, part of it is evaluated as a residual.
    pub terms: usize,
    /// Bytes of a compiled regular expression.
    pub regex_bytes: usize,
    /// Bytes of one rule document (YAML or JSON).
    pub document_bytes: usize,
    /// Bytes of a rule id or tenant name.
    pub name_bytes: usize,
    /// Expressions that become columns of their own, in one artifact.
    pub derived_columns: usize,
    /// Different windows in one artifact.
    pub windows: usize,
    /// Rules in one artifact.
    pub rules: usize,
}

impl Limits {
    /// The limits under which a canonical text is read back: it was within the limits when it was compiled, and printing may have made it longer.
    #[must_use]
    pub fn unlimited() -> Self {
        let usual = Self::default();
        Self { condition_bytes: usize::MAX, nodes: usize::MAX, list_entries: usize::MAX, nesting: usual.nesting * 2, ..usual }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            condition_bytes: 4 << 20,
            nesting: 200,
            nodes: 1 << 20,
            list_entries: 1_000_000,
            terms: 64,
            regex_bytes: REGEX_BYTES_MAX,
            document_bytes: 256 << 20,
            name_bytes: 1024,
            derived_columns: 256,
            windows: 256,
            rules: 100_000_000,
        }
    }
}
