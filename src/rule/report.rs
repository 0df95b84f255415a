//! The errors found in one text, up to a number that a person may still read.

use super::diagnostic::{Diagnostic, Origin, Severity};
use std::ops::Range;
use std::sync::Arc;

/// LIMIT: errors reported for one condition. A position costs a walk over the text before it, so their number must not grow with the text.
const ERRORS_MAX: usize = 50;

/// Collects the errors of one text.
pub(super) struct Report<'t> {
    text: &'t str,
    origin: &'t Origin,
    rule: Option<&'t Arc<str>>,
    found: Vec<Diagnostic>,
    failed: bool,
}

/// The error just added, if it was kept.
pub(super) struct Added<'r>(Option<&'r mut Diagnostic>);

impl Added<'_> {
    pub fn detail(self, detail: impl Into<String>) -> Self {
        if let Some(diagnostic) = self.0 {
            diagnostic.detail = detail.into();
            return Self(Some(diagnostic));
        }
        self
    }

    pub fn hint(self, hint: impl Into<String>) -> Self {
        if let Some(diagnostic) = self.0 {
            diagnostic.hint = hint.into();
            return Self(Some(diagnostic));
        }
        self
    }
}

impl<'t> Report<'t> {
    pub const fn new(text: &'t str, origin: &'t Origin, rule: Option<&'t Arc<str>>) -> Self {
        Self { text, origin, rule, found: Vec::new(), failed: false }
    }

    pub const fn text(&self) -> &'t str {
        self.text
    }

    pub fn error(&mut self, code: &'static str, span: Range<usize>, primary: impl Into<String>) -> Added<'_> {
        self.failed = true;
        if self.found.len() >= ERRORS_MAX {
            return Added(None);
        }
        let mut diagnostic = Diagnostic::at(Severity::Error, code, self.origin, self.text, span, primary);
        diagnostic.rule = self.rule.cloned();
        self.found.push(diagnostic);
        Added(self.found.last_mut())
    }

    pub const fn failed(&self) -> bool {
        self.failed
    }

    /// The errors in the order of the text.
    pub fn into_errors(mut self) -> Vec<Diagnostic> {
        self.found.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
        self.found
    }
}
