//! Diagnostics: what is wrong, where, and what to do about it.

use serde::Serialize;
use std::fmt;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Warning,
    Error,
}

/// Where a piece of rule text stands in its file, so that an offset into the piece has a line and a column there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    pub file: Arc<str>,
    /// For each line of the text: its 1-based line in the file and the 1-based column (in characters) at which it starts there. The last entry
    /// stands for all following lines (each one line further down, in the same column).
    pub lines: OriginLines,
    /// The row of a bulk file (0-based), where the source has rows and not lines.
    pub row: Option<u64>,
}

/// One start for the usual text of one line, without an allocation; or one for each line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginLines {
    Start {
        line: u32,
        column: u32,
    },
    Each(Arc<[(u32, u32)]>),
    /// For a text that its file breaks, folds or escapes: from each byte offset on, the line and column of that place. In order of offsets.
    Points(Arc<[(u32, u32, u32)]>),
}

impl Default for OriginLines {
    fn default() -> Self {
        Self::Start { line: 1, column: 1 }
    }
}

impl Origin {
    /// A text of one line (or whose further lines start in the same column).
    #[must_use]
    pub const fn at(file: Arc<str>, line: u32, column: u32) -> Self {
        Self { file, lines: OriginLines::Start { line, column }, row: None }
    }

    /// The line and column in the file (1-based; columns count characters) of byte `offset` of `text`.
    #[must_use]
    pub fn locate(&self, text: &str, offset: usize) -> (u32, u32) {
        let mut offset = offset.min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &text[..offset];
        let line_index = before.bytes().filter(|b| *b == b'\n').count();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let characters = u32::try_from(text[line_start..offset].chars().count()).unwrap_or(u32::MAX);
        let (line, column) = match &self.lines {
            OriginLines::Points(points) => {
                let index = points.partition_point(|&(from, ..)| from as usize <= offset);
                let Some(&(from, line, column)) = index.checked_sub(1).and_then(|index| points.get(index)) else {
                    return points.first().map_or((1, 1), |&(_, line, column)| (line, column));
                };
                let passed = text.get(from as usize..offset).map_or(0, |passed| passed.chars().count());
                return (line, column.saturating_add(u32::try_from(passed).unwrap_or(u32::MAX)));
            }
            OriginLines::Start { line, column } => (line.saturating_add(u32::try_from(line_index).unwrap_or(u32::MAX)), *column),
            OriginLines::Each(lines) => match lines.get(line_index).or_else(|| lines.last()) {
                Some(&(line, column)) => {
                    let further = line_index.saturating_sub(lines.len() - 1);
                    (line.saturating_add(u32::try_from(further).unwrap_or(u32::MAX)), column)
                }
                None => (1, 1),
            },
        };
        (line, column.saturating_add(characters))
    }
}

/// One finding about a rule, a document or an event.
///
/// `primary` is in lower case without a full stop; `detail` says more; `hint` says what to do. `Display` renders it for people,
/// with the line of source and carets; `Serialize` gives the same for machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    pub severity: Severity,
    /// A stable name of the kind, such as `unknown-field`.
    pub code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Arc<str>>,
    pub file: Arc<str>,
    /// 1-based; 0 where there is no line (a bulk file has `row`).
    pub line: u32,
    /// 1-based, in characters.
    pub column: u32,
    /// 0-based row of a bulk file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<u64>,
    pub primary: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hint: String,
    /// The line of source (cut to what fits a screen), and the range of characters in it that the carets underline.
    #[serde(skip)]
    pub excerpt: Option<Excerpt>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    pub line: String,
    pub start: usize,
    pub len: usize,
}

/// Characters of source shown around a caret.
const EXCERPT_WIDTH: usize = 100;

impl Diagnostic {
    /// A diagnostic about a whole file.
    #[must_use]
    pub fn file(severity: Severity, code: &'static str, file: &str, primary: impl Into<String>) -> Self {
        Self::of(severity, code, file.into(), primary.into())
    }

    const fn of(severity: Severity, code: &'static str, file: Arc<str>, primary: String) -> Self {
        Self {
            severity,
            code,
            rule: None,
            file,
            line: 0,
            column: 0,
            row: None,
            primary,
            detail: String::new(),
            hint: String::new(),
            excerpt: None,
        }
    }

    /// A diagnostic about the bytes `span` of `text`, which stands at `origin`.
    #[must_use]
    pub fn at(
        severity: Severity,
        code: &'static str,
        origin: &Origin,
        text: &str,
        span: std::ops::Range<usize>,
        primary: impl Into<String>,
    ) -> Self {
        // What is wrong with the end of a text shows right after its last word, not on an empty line below.
        let end = text.trim_end().len();
        let span = span.start.min(end)..span.end;
        let (line, column) = origin.locate(text, span.start);
        let mut diagnostic = Self::of(severity, code, Arc::clone(&origin.file), primary.into());
        diagnostic.line = if origin.row.is_some() { 0 } else { line };
        diagnostic.column = column;
        diagnostic.row = origin.row;
        diagnostic.excerpt = Some(excerpt(text, span));
        diagnostic
    }

    #[must_use]
    pub fn with_rule(mut self, rule: &Arc<str>) -> Self {
        self.rule = Some(Arc::clone(rule));
        self
    }

    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// The line around `span`, cut to [`EXCERPT_WIDTH`] characters, with control characters and tabs shown as spaces so that carets line up.
fn excerpt(text: &str, span: std::ops::Range<usize>) -> Excerpt {
    let mut start = span.start.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    let before = text[line_start..start].chars().count();
    let mut end = span.end.clamp(start, line_end);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let len = text[start..end].chars().take(EXCERPT_WIDTH).count().max(1);
    let skip = if before + len > EXCERPT_WIDTH { before.saturating_sub(EXCERPT_WIDTH / 3) } else { 0 };
    let line: String =
        text[line_start..line_end].chars().skip(skip).take(EXCERPT_WIDTH).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let room = EXCERPT_WIDTH - (before - skip).min(EXCERPT_WIDTH - 1);
    Excerpt { line, start: before - skip, len: len.min(room) }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        writeln!(f, "{severity}[{}]: {}", self.code, self.primary)?;
        write!(f, "  --> {}", self.file)?;
        if let Some(row) = self.row {
            write!(f, " row {row}")?;
            if self.column > 0 {
                write!(f, ", column {}", self.column)?;
            }
        } else if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if let Some(rule) = &self.rule {
            write!(f, " (rule {rule})")?;
        }
        writeln!(f)?;
        if let Some(excerpt) = &self.excerpt {
            writeln!(f, "   | {}", excerpt.line)?;
            writeln!(f, "   | {:start$}{:^<len$}", "", "", start = excerpt.start, len = excerpt.len)?;
        }
        if !self.detail.is_empty() {
            writeln!(f, "  detail: {}", self.detail)?;
        }
        if !self.hint.is_empty() {
            writeln!(f, "  hint: {}", self.hint)?;
        }
        Ok(())
    }
}
