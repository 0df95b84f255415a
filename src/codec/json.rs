//! NDJSON: one object a line, read straight into typed columns.

use super::columns::{Cell, ColumnBuilder, shorten};
use super::{BadRow, Decoded, Decoder, Request};
use crate::event::Type;
use crate::id::FieldId;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::io::BufRead;

/// Bytes of one line or record; a longer one is a bad row.
pub const MAX_LINE_BYTES: usize = 64 << 20;

/// Lines of an input.
pub struct Lines<R> {
    reader: R,
    line: Vec<u8>,
    /// 1-based number of the line last read.
    pub number: u64,
    /// Bytes read so far.
    pub bytes: u64,
}

/// What reading a line came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    End,
    Read,
    /// Longer than [`MAX_LINE_BYTES`]; what is beyond was passed over.
    TooLong,
}

impl<R: BufRead> Lines<R> {
    pub const fn new(reader: R) -> Self {
        Self { reader, line: Vec::new(), number: 0, bytes: 0 }
    }

    /// Reads the next line, with its end.
    pub fn advance(&mut self) -> std::io::Result<Line> {
        self.line.clear();
        self.append()
    }

    /// Reads the next line behind what is held already, for records that span lines.
    pub fn append(&mut self) -> std::io::Result<Line> {
        let mut read = Line::End;
        loop {
            let available = match self.reader.fill_buf() {
                Err(fault) if fault.kind() == std::io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if available.is_empty() {
                break;
            }
            if read == Line::End {
                read = Line::Read;
                self.number += 1;
            }
            let end = memchr::memchr(b'\n', available);
            let taken = end.map_or(available.len(), |end| end + 1);
            if self.line.len() + taken > MAX_LINE_BYTES {
                read = Line::TooLong;
            } else {
                self.line.extend_from_slice(&available[..taken]);
            }
            self.reader.consume(taken);
            self.bytes += taken as u64;
            if end.is_some() {
                break;
            }
        }
        if self.number == 1 && self.line.starts_with(b"\xef\xbb\xbf") {
            self.line.drain(..3);
        }
        Ok(read)
    }

    /// All that was read since [`Lines::advance`], with line ends.
    pub fn held(&self) -> &[u8] {
        &self.line
    }

    /// The line without its end.
    pub fn text(&self) -> &[u8] {
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        line.strip_suffix(b"\r").unwrap_or(line)
    }
}

/// A line as far as the list of rejects shows it.
pub fn raw_line(line: &[u8]) -> String {
    const SHOWN: usize = 4096;
    String::from_utf8_lossy(&line[..line.len().min(SHOWN)]).into_owned()
}

/// What a decoder of rows knows about its columns.
pub struct RowColumns {
    pub request: Request,
    /// The builder of each field of the schema; absent where the field is not asked for.
    builders: Vec<Option<ColumnBuilder>>,
    /// Whether the input has had the field at all.
    pub seen: Vec<bool>,
}

impl RowColumns {
    pub fn new(request: Request) -> Self {
        let seen = vec![false; request.schema.fields().len()];
        let mut columns = Self { request, builders: Vec::new(), seen };
        columns.restart();
        columns
    }

    fn restart(&mut self) -> Vec<Option<ColumnBuilder>> {
        let mut builders: Vec<Option<ColumnBuilder>> = self.seen.iter().map(|_| None).collect();
        for field in self.request.readable() {
            builders[field.index()] = Some(ColumnBuilder::new(self.request.schema.field(field).ty, self.request.batch_rows.min(1 << 16)));
        }
        std::mem::replace(&mut self.builders, builders)
    }

    /// The field of this name, where it is asked for.
    pub fn find(&self, name: &str) -> Option<FieldId> {
        self.request.schema.find(name).filter(|field| self.builders[field.index()].is_some())
    }

    pub fn ty(&self, field: FieldId) -> Type {
        self.request.schema.field(field).ty
    }

    /// Sets the value of a field in row `row`, the last one; a value set twice is the later one.
    pub fn set(&mut self, row: usize, field: FieldId, cell: &Cell<'_>) -> Result<(), String> {
        self.seen[field.index()] = true;
        let Some(builder) = &mut self.builders[field.index()] else { return Ok(()) };
        builder.truncate(row);
        builder.push(cell).map_err(|reason| self.request.schema.misfit(field, &reason))
    }

    /// Ends row `row`: fields without a value are NULL.
    pub fn complete(&mut self, row: usize) {
        for builder in self.builders.iter_mut().flatten() {
            if builder.rows() == row {
                builder.push_null();
            }
        }
    }

    /// Takes back what was set in row `row`.
    pub fn undo(&mut self, row: usize) {
        for builder in self.builders.iter_mut().flatten() {
            builder.truncate(row);
        }
    }

    /// The columns of the rows so far; fields that the input never had are absent.
    pub fn finish(&mut self, input_rows: usize, rows: usize, bad: Vec<BadRow>) -> Decoded {
        let builders = self.restart();
        let columns = builders.into_iter().zip(&self.seen).map(|(builder, seen)| builder.filter(|_| *seen).map(ColumnBuilder::finish));
        Decoded { input_rows, rows, columns: columns.collect(), bad }
    }

    /// The asked-for fields that the input has not had.
    pub fn missing(&self) -> Vec<FieldId> {
        self.request.needed.iter().copied().filter(|field| !self.seen[field.index()]).collect()
    }
}

/// A decoder of NDJSON.
pub struct JsonDecoder<R> {
    lines: Lines<R>,
    columns: RowColumns,
    keys: Keys,
    ended: bool,
}

impl<R: BufRead + Send> JsonDecoder<R> {
    pub fn new(reader: R, request: Request) -> Self {
        Self { lines: Lines::new(reader), columns: RowColumns::new(request), keys: Keys::default(), ended: false }
    }
}

impl<R: BufRead + Send> Decoder for JsonDecoder<R> {
    fn decode(&mut self) -> Result<Option<Decoded>, String> {
        let batch_rows = self.columns.request.batch_rows;
        let (mut input_rows, mut rows) = (0, 0);
        let mut bad = Vec::new();
        while input_rows < batch_rows {
            let line = self.lines.advance().map_err(|fault| format!("cannot be read: {fault}"))?;
            if line == Line::End {
                self.ended = true;
                break;
            }
            let text = self.lines.text();
            if line == Line::Read && text.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let outcome = match line {
                Line::TooLong => Err(format!("the line is longer than {MAX_LINE_BYTES} bytes")),
                // What the parser says of it would show it.
                _ if !self.columns.request.schema.sensitive.is_empty() && text.trim_ascii_start().first() != Some(&b'{') => {
                    Err("not a JSON object".to_owned())
                }
                _ => read_object(text, row_visitor(rows, &mut self.columns, &mut self.keys)),
            };
            match outcome {
                Ok(()) => {
                    self.columns.complete(rows);
                    rows += 1;
                }
                Err(reason) => {
                    self.columns.undo(rows);
                    bad.push(BadRow {
                        row: input_rows,
                        reason: format!("line {}: {reason}", self.lines.number),
                        raw: Some(raw_line(text)),
                    });
                }
            }
            input_rows += 1;
        }
        Ok((input_rows > 0).then(|| self.columns.finish(input_rows, rows, bad)))
    }

    fn bytes_read(&self) -> u64 {
        self.lines.bytes
    }

    fn missing(&self) -> Vec<FieldId> {
        if self.ended { self.columns.missing() } else { Vec::new() }
    }
}

/// Reads the one object of a line.
pub fn read_object<'a>(line: &'a [u8], visitor: impl Visitor<'a, Value = Result<(), String>>) -> Result<(), String> {
    let text = std::str::from_utf8(line).map_err(|fault| format!("not UTF-8 at byte {}", fault.valid_up_to()))?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let fault = |fault: serde_json::Error| {
        let text = fault.to_string();
        // Each line is parsed by itself, so the parser's line number says nothing.
        text.replace(" at line 1 column ", " at column ")
    };
    let outcome = deserializer.deserialize_map(visitor).map_err(fault)?;
    deserializer.end().map_err(fault)?;
    outcome
}

/// The keys of earlier objects by position, and the field each is: events of one source mostly name their fields in one order.
#[derive(Default)]
struct Keys(Vec<(String, Option<FieldId>)>);

struct RowVisitor<'c> {
    row: usize,
    columns: &'c mut RowColumns,
    keys: &'c mut Keys,
}

fn row_visitor<'c>(row: usize, columns: &'c mut RowColumns, keys: &'c mut Keys) -> RowVisitor<'c> {
    RowVisitor { row, columns, keys }
}

impl<'de> Visitor<'de> for RowVisitor<'_> {
    /// The reason, where the object is well formed and a value does not fit.
    type Value = Result<(), String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut outcome = Ok(());
        let mut position = 0;
        while let Some(field) = map.next_key_seed(KeySeed { position, columns: self.columns, keys: self.keys })? {
            position += 1;
            let Some(field) = field else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let raw: &RawValue = map.next_value()?;
            let set = json_cell(raw.get(), self.columns.ty(field))
                .map_err(|reason| self.columns.request.schema.misfit(field, &reason))
                .and_then(|text| self.columns.set(self.row, field, &text.cell()));
            if outcome.is_ok() {
                outcome = set;
            }
        }
        Ok(outcome)
    }
}

struct KeySeed<'c> {
    position: usize,
    columns: &'c RowColumns,
    keys: &'c mut Keys,
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Option<FieldId>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = Option<FieldId>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        /// Keys beyond this position are looked up each time.
        const REMEMBERED: usize = 1024;
        match self.keys.0.get_mut(self.position) {
            Some((known, field)) if known == key => return Ok(*field),
            Some(entry) => *entry = (key.to_owned(), self.columns.find(key)),
            None if self.position < REMEMBERED => self.keys.0.push((key.to_owned(), self.columns.find(key))),
            None => return Ok(self.columns.find(key)),
        }
        Ok(self.keys.0[self.position].1)
    }
}

/// A JSON value that owns its text only where escapes had to be undone.
enum JsonCell<'a> {
    Text(Cow<'a, str>),
    Other(Cell<'a>),
}

impl JsonCell<'_> {
    fn cell(&self) -> Cell<'_> {
        match self {
            Self::Text(text) => Cell::Text(text),
            Self::Other(cell) => *cell,
        }
    }
}

/// A JSON value for a field of `ty`. Strings stand for text, for instants and dates, for decimals, and for the floats that JSON
/// has no numbers for; anything at all can be text.
fn json_cell(raw: &str, ty: Type) -> Result<JsonCell<'_>, String> {
    let wrong = |what: &str| Err(format!("{what} does not fit {ty}"));
    match raw.as_bytes().first() {
        Some(b'n') => Ok(JsonCell::Other(Cell::Null)),
        Some(b'"') => {
            let inner = &raw[1..raw.len().saturating_sub(1).max(1)];
            let text = if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
                Cow::Borrowed(inner)
            } else {
                Cow::Owned(serde_json::from_str::<String>(raw).map_err(|_| "a string with a broken escape".to_owned())?)
            };
            let fits = match ty {
                Type::Text | Type::Timestamp(_) | Type::Date => true,
                Type::Decimal { .. } => super::text::parse_exact(&text).is_some(),
                Type::Float => matches!(text.as_ref(), "NaN" | "Infinity" | "-Infinity" | "inf" | "-inf"),
                _ => false,
            };
            if fits { Ok(JsonCell::Text(text)) } else { wrong(&format!("the string '{}'", shorten(&text))) }
        }
        Some(b't' | b'f') => match ty {
            Type::Bool => Ok(JsonCell::Other(Cell::Bool(raw == "true"))),
            Type::Text => Ok(JsonCell::Text(Cow::Borrowed(raw))),
            _ => wrong(raw),
        },
        Some(b'{' | b'[') if ty == Type::Text => Ok(JsonCell::Text(Cow::Borrowed(raw))),
        Some(b'{') => wrong("an object"),
        Some(b'[') => wrong("an array"),
        _ => Ok(JsonCell::Other(Cell::Number(raw))),
    }
}
