//! YAML, and JSON as the part of YAML that it is, as a tree in which every node knows its place in the file.
//!
//! Scalars keep the text as written; what a plain `007` or `yes` means is decided where it is used. Nesting, the number of nodes and
//! the growth through aliases are bounded, so that any bytes give a tree or one diagnostic.

use super::{Diagnostic, Limits, Origin, Severity, diagnostic::OriginLines};
use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, Tag};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// Levels of sequences and mappings, one within the other. A rule document needs six.
const NESTING: usize = 64;
/// Nodes of one document; what aliases repeat counts each time.
const NODES: usize = 16 << 20;
/// Nodes that aliases repeat, in all.
const ALIASED_NODES: usize = 1 << 20;
/// Diagnostics of one file; further ones are counted only.
const DIAGNOSTICS: usize = 10_000;
/// Bytes of source looked at on each side of a place, to show it.
const WINDOW: usize = 400;

/// The place of a node: 1-based line and column (in characters), and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub line: u32,
    pub column: u32,
    pub start: u32,
    pub end: u32,
}

/// A node of the tree. An alias is the node that it stands for, at the place of the definition.
#[derive(Clone, Debug)]
pub struct Node<'a> {
    pub place: Place,
    pub content: Content<'a>,
}

#[derive(Clone, Debug)]
pub enum Content<'a> {
    Scalar {
        text: Cow<'a, str>,
        style: ScalarStyle,
        /// Tagged `!!str`: text, however it looks.
        string: bool,
    },
    Sequence(Vec<Node<'a>>),
    Mapping(Vec<(Node<'a>, Node<'a>)>),
}

/// What a scalar means by the rules of YAML 1.2 and JSON. An integer with leading zeros is text: only there do they mean something.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text,
}

impl<'a> Node<'a> {
    /// The scalar's text, whatever it looks like.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// What the node is, for people.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.content {
            Content::Sequence(_) => "a list",
            Content::Mapping(_) => "a mapping",
            Content::Scalar { .. } => match self.scalar() {
                Some(Scalar::Null) => "nothing (null)",
                Some(Scalar::Bool(_)) => "a boolean",
                Some(Scalar::Number(_)) => "a number",
                _ => "text",
            },
        }
    }

    /// What the scalar means; `None` where the node is no scalar.
    #[must_use]
    pub fn scalar(&self) -> Option<Scalar> {
        match &self.content {
            Content::Scalar { text, style: ScalarStyle::Plain, string: false } => Some(resolve(text)),
            Content::Scalar { .. } => Some(Scalar::Text),
            _ => None,
        }
    }

    /// The node as JSON. The tree's own limit of nesting bounds the recursion.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        match &self.content {
            Content::Scalar { text, .. } => match self.scalar() {
                Some(Scalar::Null) => serde_json::Value::Null,
                Some(Scalar::Bool(value)) => serde_json::Value::Bool(value),
                Some(Scalar::Number(number)) => serde_json::Value::Number(number),
                _ => serde_json::Value::String(text.to_string()),
            },
            Content::Sequence(items) => serde_json::Value::Array(items.iter().map(Node::json).collect()),
            Content::Mapping(entries) => serde_json::Value::Object(
                entries.iter().map(|(key, value)| (key.text().unwrap_or_default().to_owned(), value.json())).collect(),
            ),
        }
    }

    /// Nodes within this one, itself included, and levels of collections.
    fn size(&self) -> (usize, usize) {
        fn add<'n, 'a: 'n>(nodes: impl Iterator<Item = &'n Node<'a>>) -> (usize, usize) {
            let (size, height) = nodes.map(Node::size).fold((1, 0), |(size, height), (s, h)| (size + s, height.max(h)));
            (size, height + 1)
        }
        match &self.content {
            Content::Scalar { .. } => (1, 0),
            Content::Sequence(items) => add(items.iter()),
            Content::Mapping(entries) => add(entries.iter().flat_map(|(key, value)| [key, value])),
        }
    }
}

/// What a plain scalar means.
#[must_use]
pub fn resolve(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Scalar::Null,
        "true" | "True" | "TRUE" => Scalar::Bool(true),
        "false" | "False" | "FALSE" => Scalar::Bool(false),
        _ => number(text).map_or(Scalar::Text, Scalar::Number),
    }
}

fn number(text: &str) -> Option<serde_json::Number> {
    let radix = |digits: &str, radix| u64::from_str_radix(digits, radix).ok().map(serde_json::Number::from);
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits.strip_prefix(|c: char| c.is_ascii_hexdigit()).map(|_| digits)?, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits.strip_prefix(|c: char| c.is_digit(8)).map(|_| digits)?, 8);
    }
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = unsigned.split_at(unsigned.find(['e', 'E']).unwrap_or(unsigned.len()));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || (whole.is_empty() && fraction.is_empty()) || (whole.len() > 1 && whole.starts_with('0')) {
        return None;
    }
    let whole = if whole.is_empty() { "0" } else { whole };
    let point = if fraction.is_empty() { "" } else { "." };
    // The parser checks the exponent and keeps the digits as they are.
    serde_json::from_str(&format!("{sign}{whole}{point}{fraction}{exponent}")).ok()
}

/// A file's text, and what was found wrong in it.
pub struct Report<'a> {
    pub file: Arc<str>,
    pub source: &'a str,
    diagnostics: Vec<Diagnostic>,
    /// Beyond the limit.
    suppressed: usize,
}

impl<'a> Report<'a> {
    #[must_use]
    pub const fn new(file: Arc<str>, source: &'a str) -> Self {
        Self { file, source, diagnostics: Vec::new(), suppressed: 0 }
    }

    /// A diagnostic at `place`, with the source around it; kept by [`Self::push`].
    #[must_use]
    pub fn diagnostic(&self, severity: Severity, code: &'static str, place: Place, primary: impl Into<String>) -> Diagnostic {
        let start = boundary(self.source, place.start as usize);
        let from = boundary(self.source, start.saturating_sub(WINDOW));
        let from = self.source[from..start].rfind('\n').map_or(from, |at| from + at + 1);
        let to = boundary(self.source, start.saturating_add(WINDOW));
        let to = self.source[start..to].find(['\n', '\r']).map_or(to, |at| start + at);
        let window = &self.source[from..to];
        let before = u32::try_from(self.source[from..start].chars().count()).unwrap_or(0);
        let origin = Origin::at(Arc::clone(&self.file), place.line, place.column.saturating_sub(before));
        Diagnostic::at(severity, code, &origin, window, start - from..(place.end as usize).clamp(start, to) - from, primary)
    }

    /// An error at `place`.
    pub fn error(&mut self, code: &'static str, place: Place, primary: impl Into<String>, hint: impl Into<String>) {
        let diagnostic = self.diagnostic(Severity::Error, code, place, primary).with_hint(hint);
        self.push(diagnostic);
    }

    pub fn push(&mut self, diagnostic: Diagnostic) {
        if self.diagnostics.len() < DIAGNOSTICS {
            self.diagnostics.push(diagnostic);
        } else {
            self.suppressed += 1;
        }
    }

    #[must_use]
    pub const fn len(&self) -> usize {
        self.diagnostics.len()
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.diagnostics.is_empty()
    }

    /// Names the rule in the diagnostics from the `from`th on that name none.
    pub fn name_rule(&mut self, from: usize, rule: &Arc<str>) {
        for diagnostic in self.diagnostics.iter_mut().skip(from) {
            diagnostic.rule.get_or_insert_with(|| Arc::clone(rule));
        }
    }

    /// What was found, in the order of the file.
    #[must_use]
    pub fn finish(mut self) -> Vec<Diagnostic> {
        self.diagnostics.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
        if self.suppressed > 0 {
            let message = format!("{} further problems are not shown", self.suppressed);
            self.diagnostics.push(Diagnostic::file(Severity::Error, "too-many-problems", &self.file, message));
        }
        self.diagnostics
    }

    /// Where the scalar's text stands: exact through folding, line breaks and escapes.
    #[must_use]
    pub fn origin(&self, node: &Node<'_>) -> Origin {
        let Place { line, column, start, end } = node.place;
        let raw = self.source.get(start as usize..end as usize).unwrap_or_default();
        let at = |line, column| Origin::at(Arc::clone(&self.file), line, column);
        let Content::Scalar { text, style, .. } = &node.content else { return at(line, column) };
        let one_line = !raw.contains('\n');
        let points = match style {
            ScalarStyle::Plain if one_line => return at(line, column),
            ScalarStyle::SingleQuoted if one_line && text.len() + 2 == raw.len() => return at(line, column + 1),
            ScalarStyle::DoubleQuoted if one_line && !raw.contains('\\') => return at(line, column + 1),
            ScalarStyle::Plain => align_lines(raw, text, line, column, Indentation::Any),
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => align_quoted(raw, text, line, column),
            ScalarStyle::Literal | ScalarStyle::Folded => {
                let line_start = self.source.get(..start as usize).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
                align_block(self.source.get(line_start..end as usize).unwrap_or_default(), text, line)
            }
        };
        let lines = OriginLines::Points(points.into());
        Origin { file: Arc::clone(&self.file), lines, row: None }
    }
}

/// The character boundary at or before `at`.
fn boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn number32(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Byte offset in the text; line and column in the file.
type Point = (u32, u32, u32);

enum Indentation {
    /// Spaces and tabs around a line are not part of the text.
    Any,
    /// So many spaces are not.
    Spaces(usize),
}

/// Finds each line of `raw`, whose first starts at `line` and `column`, in `text`, where only blanks and breaks lie between lines.
fn align_lines(raw: &str, text: &str, line: u32, column: u32, indentation: Indentation) -> Vec<Point> {
    // What a match is recognised by: enough to tell lines apart, and short so that the search stays linear.
    const RECOGNISED: usize = 64;
    let mut points = Vec::new();
    let mut cursor = 0;
    for (index, raw_line) in raw.lines().enumerate() {
        let first_column = if index == 0 { column as usize } else { 1 };
        let content = match indentation {
            Indentation::Any => raw_line.trim_start_matches([' ', '\t']),
            Indentation::Spaces(spaces) => {
                raw_line.get(spaces.min(raw_line.len() - raw_line.trim_start_matches(' ').len())..).unwrap_or_default()
            }
        };
        let skipped = raw_line.len() - content.len();
        let content = match indentation {
            Indentation::Any => content.trim_end_matches([' ', '\t']),
            Indentation::Spaces(_) => content,
        };
        if content.trim_matches([' ', '\t']).is_empty() {
            continue;
        }
        let head = &content[..boundary(content, RECOGNISED)];
        while !text[cursor..].starts_with(head) {
            match text.as_bytes().get(cursor) {
                Some(b' ' | b'\t' | b'\n') => cursor += 1,
                _ => return points,
            }
        }
        points.push((number32(cursor), line.saturating_add(number32(index)), number32(first_column + skipped)));
        cursor = boundary(text, cursor + content.len());
    }
    points
}

/// A block scalar whose content, from the start of a line of the file, is `raw`: lines of one indentation.
fn align_block(raw: &str, text: &str, line: u32) -> Vec<Point> {
    let leading =
        |text: &str| text.lines().find(|line| !line.trim().is_empty()).map_or(0, |line| line.len() - line.trim_start_matches(' ').len());
    align_lines(raw, text, line, 1, Indentation::Spaces(leading(raw).saturating_sub(leading(text))))
}

/// A quoted scalar with breaks or escapes: a point after each.
fn align_quoted(raw: &str, text: &str, mut line: u32, mut column: u32) -> Vec<Point> {
    let double = raw.starts_with('"');
    let mut points = Vec::new();
    let mut cursor = 0;
    let mut rest = raw.get(1..).unwrap_or_default();
    let mut mark = true;
    column += 1;
    while let Some(c) = rest.chars().next() {
        let escape = if double && c == '\\' { escape_len(rest) } else { usize::from(!double && rest.starts_with("''")) * 2 };
        let blank = rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
        let broken = double && c == '\\' && matches!(rest.as_bytes().get(1), Some(b'\n' | b'\r'));
        let run = if broken { 1 + rest[1..].len() - rest[1..].trim_start_matches([' ', '\t', '\r', '\n']).len() } else { blank };
        let breaks = rest[..run].matches('\n').count();
        if breaks > 0 {
            // A folded break: one is a space (none after a backslash), more are one less.
            cursor += if breaks > 1 { breaks - 1 } else { usize::from(!broken) };
            let last = rest[..run].rfind('\n').map_or(0, |at| at + 1);
            line = line.saturating_add(number32(breaks));
            column = number32(1 + run - last);
            rest = &rest[run..];
            mark = true;
            continue;
        }
        if std::mem::take(&mut mark) {
            points.push((number32(cursor), line, column));
        }
        if run > 0 {
            column = column.saturating_add(number32(run));
            cursor += run;
            rest = &rest[run..];
            continue;
        }
        let raw_len = if escape > 0 { boundary(rest, escape) } else { c.len_utf8() };
        let Some(decoded) = text.get(cursor..).and_then(|text| text.chars().next()) else { return points };
        mark = escape > 0;
        column = column.saturating_add(number32(rest[..raw_len].chars().count()));
        cursor += decoded.len_utf8();
        rest = &rest[raw_len..];
    }
    points
}

/// Bytes of the escape that `rest` starts with; a surrogate pair is one.
fn escape_len(rest: &str) -> usize {
    match rest.as_bytes().get(1) {
        Some(b'x') => 4,
        Some(b'u') => {
            let high =
                rest.get(2..6).and_then(|digits| u32::from_str_radix(digits, 16).ok()).is_some_and(|code| (0xd800..0xdc00).contains(&code));
            if high { 12 } else { 6 }
        }
        Some(b'U') => 10,
        _ => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
    }
}

/// The text of `bytes`.
///
/// # Errors
/// A diagnostic at the first byte that is not UTF-8, or about the file's size.
pub fn decode<'a>(file: &str, bytes: &'a [u8], limits: &Limits) -> Result<&'a str, Box<Diagnostic>> {
    if bytes.len() > limits.document_bytes.min(u32::MAX as usize) {
        let message = format!("the document has {} bytes, more than the {} allowed", bytes.len(), limits.document_bytes);
        let hint = "write many rules as a bulk file (Parquet, NDJSON or CSV), or as instances of a template";
        return Err(Box::new(Diagnostic::file(Severity::Error, "document-too-large", file, message).with_hint(hint)));
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let valid = std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
        let line_start = valid.rfind('\n').map_or(0, |at| at + 1);
        let mut diagnostic = Diagnostic::file(Severity::Error, "invalid-utf8", file, "the document is not valid UTF-8");
        diagnostic.line = number32(valid.matches('\n').count() + 1);
        diagnostic.column = number32(valid[line_start..].chars().count() + 1);
        let detail = bytes.get(valid.len()).map(|byte| format!("byte {byte:#04x} at offset {}", valid.len()));
        Box::new(diagnostic.with_detail(detail.unwrap_or_default()).with_hint("save the file as UTF-8"))
    })
}

/// A collection that is being read.
enum Open<'a> {
    Sequence(Vec<Node<'a>>),
    Mapping(Vec<(Node<'a>, Node<'a>)>, Option<Node<'a>>),
}

struct Builder<'a> {
    open: Vec<(Open<'a>, Place, usize)>,
    anchors: HashMap<usize, (Node<'a>, usize, usize)>,
    nodes: usize,
    aliased: usize,
    root: Option<Node<'a>>,
}

/// The tree of the one document in `report.source`; `None` with a diagnostic in `report` where there is none.
pub fn parse<'a>(report: &mut Report<'a>) -> Option<Node<'a>> {
    let source = report.source;
    let mut options = granit_parser::options! { flow_nesting_limit: NESTING, block_nesting_limit: NESTING };
    options.set_emit_comments(false);
    let mut builder = Builder { open: Vec::new(), anchors: HashMap::new(), nodes: 0, aliased: 0, root: None };
    let mut documents = 0;
    for event in Parser::new_from_str_with_options(source, options) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                let diagnostic = syntax_error(report, &error);
                report.push(diagnostic);
                return None;
            }
        };
        let offset = |marker: &granit_parser::Marker| number32(marker.byte_offset().unwrap_or(0));
        let place = Place {
            line: number32(span.start.line()),
            column: number32(span.start.col() + 1),
            start: offset(&span.start),
            end: offset(&span.end).max(offset(&span.start)),
        };
        if matches!(event, Event::DocumentStart(..)) {
            documents += 1;
            if documents > 1 {
                report.error(
                    "several-documents",
                    place,
                    "the file holds more than one document",
                    "put each document into a file of its own",
                );
                return None;
            }
        }
        if let Err((code, primary, hint)) = builder.event(event, place) {
            report.error(code, place, primary, hint);
            return None;
        }
    }
    match builder.root {
        Some(node) if node.scalar() != Some(Scalar::Null) => Some(node),
        _ => {
            let hint = "a document is a mapping with keys such as `rules:`";
            report.push(Diagnostic::file(Severity::Error, "empty-document", &report.file, "the document is empty").with_hint(hint));
            None
        }
    }
}

type Fault = (&'static str, String, &'static str);

impl<'a> Builder<'a> {
    fn event(&mut self, event: Event<'a>, place: Place) -> Result<(), Fault> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let string = string_tag(tag.as_deref())?;
                self.node(Node { place, content: Content::Scalar { text, style, string } }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                collection_tag(tag.as_deref())?;
                self.open(Open::Sequence(Vec::new()), place, anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                collection_tag(tag.as_deref())?;
                self.open(Open::Mapping(Vec::new(), None), place, anchor)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some((Open::Sequence(items), place, anchor)) => self.node(Node { place, content: Content::Sequence(items) }, anchor),
                Some((Open::Mapping(entries, _), place, anchor)) => self.node(Node { place, content: Content::Mapping(entries) }, anchor),
                None => Ok(()),
            },
            Event::Alias(anchor) => {
                let Some((node, size, height)) = self.anchors.get(&anchor) else {
                    return Err(("recursive-alias", "an alias within the node that it names".into(), "write the value out"));
                };
                self.aliased += size;
                if self.aliased > ALIASED_NODES || self.open.len() + height > NESTING {
                    let hint = "an alias may repeat a value, not multiply it";
                    return Err(("alias-limit", "the aliases of the document repeat too much".into(), hint));
                }
                self.nodes += size;
                let node = node.clone();
                self.node(node, 0)
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, open: Open<'a>, place: Place, anchor: usize) -> Result<(), Fault> {
        if self.open.len() >= NESTING {
            return Err(("nesting", format!("the document nests more than {NESTING} levels"), "a rule document needs six"));
        }
        self.open.push((open, place, anchor));
        Ok(())
    }

    /// A complete node takes its place in the collection that is open.
    fn node(&mut self, node: Node<'a>, anchor: usize) -> Result<(), Fault> {
        self.nodes += 1;
        if anchor != 0 {
            let (size, height) = node.size();
            self.aliased += size;
            self.anchors.insert(anchor, (node.clone(), size, height));
        }
        if self.nodes > NODES || self.aliased > ALIASED_NODES {
            let hint = "write many rules as a bulk file (Parquet, NDJSON or CSV), or as instances of a template";
            return Err(("document-too-large", format!("the document has more than {NODES} values, or repeats too many"), hint));
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some((Open::Sequence(items), ..)) => items.push(node),
            Some((Open::Mapping(entries, key), ..)) => match key.take() {
                None => *key = Some(node),
                Some(key) => entries.push((key, node)),
            },
        }
        Ok(())
    }
}

/// Whether a scalar's tag says that it is text.
fn string_tag(tag: Option<&Tag>) -> Result<bool, Fault> {
    match tag {
        None => Ok(false),
        Some(tag) if tag.is_yaml_core_schema_tag("str") => Ok(true),
        Some(tag) => Err(unsupported_tag(tag)),
    }
}

fn collection_tag(tag: Option<&Tag>) -> Result<(), Fault> {
    tag.map_or(Ok(()), |tag| Err(unsupported_tag(tag)))
}

fn unsupported_tag(tag: &Tag) -> Fault {
    ("unsupported-tag", format!("the tag `{}` has no meaning here", tag.original()), "only `!!str` is known; leave the tag out")
}

fn syntax_error(report: &Report<'_>, error: &granit_parser::ScanError) -> Diagnostic {
    let marker = error.marker();
    let line_start = match marker.line().checked_sub(2) {
        None => 0,
        Some(breaks) => report.source.match_indices('\n').nth(breaks).map_or(report.source.len(), |(at, _)| at + 1),
    };
    let line = &report.source[line_start..];
    let start = line_start + line.char_indices().nth(marker.col()).map_or(line.len(), |(at, _)| at);
    let place = Place { line: number32(marker.line()), column: number32(marker.col() + 1), start: number32(start), end: number32(start) };
    let info = error.info();
    let (code, primary, hint) = if info.contains("tab") && line.lines().take(2).any(|line| line.contains('\t')) {
        ("tab-indentation", "a tab where YAML wants spaces".to_owned(), "indent with spaces")
    } else if *error.kind() == ErrorKind::RecursionLimitExceeded {
        ("nesting", format!("the document nests more than {NESTING} levels"), "a rule document needs six")
    } else {
        let hint = match error.kind() {
            ErrorKind::UnclosedQuotedScalar | ErrorKind::UnclosedFlowCollection { .. } => "",
            _ => {
                "check the indentation; text that holds `: ` or ` #`, or starts with one of [ { > | * & ! % @, needs quotes or a block (`|`)"
            }
        };
        ("syntax", "this is not valid YAML".to_owned(), hint)
    };
    report.diagnostic(Severity::Error, code, place, primary).with_detail(info).with_hint(hint)
}
