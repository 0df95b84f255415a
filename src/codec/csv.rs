//! CSV with a header, as RFC 4180 has it. An empty field without quotes is NULL; with quotes it is the empty text.

use super::columns::Cell;
use super::json::{Line, Lines, MAX_LINE_BYTES, RowColumns, raw_line};
use super::{BadRow, Decoded, Decoder, Request};
use crate::event::Type;
use crate::id::FieldId;
use std::io::BufRead;
use std::ops::Range;

/// Records of an input.
pub struct Records<R> {
    lines: Lines<R>,
    /// The fields of the record last read, without quotes, one behind the other.
    text: Vec<u8>,
    fields: Vec<(Range<usize>, bool)>,
    /// The line the record starts in, 1-based.
    pub line: u64,
}

/// What reading a record came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    End,
    Read,
    Bad(String),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Bare,
    Quoted,
    /// After a quote within quotes: the end of the field, or the first of a pair.
    Closing,
}

impl<R: BufRead> Records<R> {
    pub const fn new(reader: R) -> Self {
        Self { lines: Lines::new(reader), text: Vec::new(), fields: Vec::new(), line: 0 }
    }

    /// Reads the next record; blank lines are passed over.
    pub fn advance(&mut self) -> std::io::Result<Record> {
        loop {
            let line = self.lines.advance()?;
            self.line = self.lines.number;
            match line {
                Line::End => return Ok(Record::End),
                Line::TooLong => return Ok(Record::Bad(format!("the line is longer than {MAX_LINE_BYTES} bytes"))),
                Line::Read if self.lines.text().is_empty() => {}
                Line::Read => return self.split(),
            }
        }
    }

    fn split(&mut self) -> std::io::Result<Record> {
        self.text.clear();
        self.fields.clear();
        let line = self.lines.text();
        if memchr::memchr(b'"', line).is_none() {
            self.text.extend_from_slice(line);
            let mut start = 0;
            for comma in memchr::memchr_iter(b',', line) {
                self.fields.push((start..comma, false));
                start = comma + 1;
            }
            self.fields.push((start..line.len(), false));
        } else if let Some(reason) = self.split_quoted()? {
            return Ok(Record::Bad(reason));
        }
        Ok(match std::str::from_utf8(&self.text) {
            Ok(_) => Record::Read,
            Err(_) => Record::Bad("not UTF-8".to_owned()),
        })
    }

    /// Splits a record that has quotes, and perhaps spans lines. Gives the reason where it is none.
    fn split_quoted(&mut self) -> std::io::Result<Option<String>> {
        let (mut at, mut start, mut quoted) = (0, 0, false);
        let mut state = State::Start;
        loop {
            let held = self.lines.held();
            for &byte in &held[at..] {
                match (state, byte) {
                    (State::Start, b'"') => {
                        quoted = true;
                        state = State::Quoted;
                    }
                    (State::Quoted, b'"') => state = State::Closing,
                    (State::Quoted, _) => self.text.push(byte),
                    (State::Closing, b'"') => {
                        self.text.push(b'"');
                        state = State::Quoted;
                    }
                    (_, b',') => {
                        self.fields.push((start..self.text.len(), quoted));
                        (start, quoted, state) = (self.text.len(), false, State::Start);
                    }
                    (_, b'\n') => {}
                    // Whatever follows a closing quote is taken as it stands.
                    (_, _) => {
                        self.text.push(byte);
                        state = State::Bare;
                    }
                }
            }
            at = held.len();
            if state != State::Quoted {
                break;
            }
            match self.lines.append()? {
                Line::Read => {}
                Line::End => return Ok(Some("a quote is not closed".to_owned())),
                Line::TooLong => return Ok(Some(format!("a quote is not closed within {MAX_LINE_BYTES} bytes"))),
            }
        }
        // The carriage return of the record's end was taken for the field's last character.
        if state == State::Bare && self.lines.held().ends_with(b"\r\n") && self.text.len() > start {
            self.text.pop();
        }
        self.fields.push((start..self.text.len(), quoted));
        Ok(None)
    }

    /// The fields of the record last read, each with whether it was quoted.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = (&str, bool)> {
        // `advance` checked the text as a whole; fields are cut at ASCII characters.
        let text = std::str::from_utf8(&self.text).unwrap_or_default();
        self.fields.iter().map(move |(range, quoted)| (text.get(range.clone()).unwrap_or_default(), *quoted))
    }
}

/// A decoder of CSV.
pub struct CsvDecoder<R> {
    records: Records<R>,
    columns: RowColumns,
    /// The field of each column of the header, where it is asked for.
    fields: Vec<Option<FieldId>>,
}

impl<R: BufRead + Send> CsvDecoder<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// When there is none.
    pub fn new(reader: R, request: Request) -> Result<Self, String> {
        let mut records = Records::new(reader);
        let names = header(&mut records)?;
        let mut columns = RowColumns::new(request);
        let mut fields: Vec<Option<FieldId>> = Vec::with_capacity(names.len());
        for name in &names {
            let field = columns.find(name).filter(|field| !fields.contains(&Some(*field)));
            if let Some(field) = field {
                columns.seen[field.index()] = true;
            }
            fields.push(field);
        }
        Ok(Self { records, columns, fields })
    }
}

/// The names in the header, which is the next record.
pub fn header<R: BufRead>(records: &mut Records<R>) -> Result<Vec<String>, String> {
    match records.advance().map_err(|fault| format!("cannot be read: {fault}"))? {
        Record::End => Ok(Vec::new()),
        Record::Read => Ok(records.fields().map(|(name, _)| name.trim().to_owned()).collect()),
        Record::Bad(reason) => Err(format!("the header cannot be read: {reason}")),
    }
}

impl<R: BufRead + Send> Decoder for CsvDecoder<R> {
    fn decode(&mut self) -> Result<Option<Decoded>, String> {
        let batch_rows = self.columns.request.batch_rows;
        let (mut input_rows, mut rows) = (0, 0);
        let mut bad = Vec::new();
        while input_rows < batch_rows {
            let outcome = match self.records.advance().map_err(|fault| format!("cannot be read: {fault}"))? {
                Record::End => break,
                Record::Bad(reason) => Err(reason),
                Record::Read => set_row(&self.records, rows, &self.fields, &mut self.columns),
            };
            match outcome {
                Ok(()) => {
                    self.columns.complete(rows);
                    rows += 1;
                }
                Err(reason) => {
                    self.columns.undo(rows);
                    let raw = raw_line(self.records.lines.text());
                    bad.push(BadRow { row: input_rows, reason: format!("line {}: {reason}", self.records.line), raw: Some(raw) });
                }
            }
            input_rows += 1;
        }
        Ok((input_rows > 0).then(|| self.columns.finish(input_rows, rows, bad)))
    }

    fn bytes_read(&self) -> u64 {
        self.records.lines.bytes
    }

    fn missing(&self) -> Vec<FieldId> {
        self.columns.missing()
    }
}

fn set_row<R: BufRead>(records: &Records<R>, row: usize, fields: &[Option<FieldId>], columns: &mut RowColumns) -> Result<(), String> {
    let values = records.fields();
    if values.len() != fields.len() {
        return Err(format!("{} fields where the header has {}", values.len(), fields.len()));
    }
    for ((text, quoted), field) in values.zip(fields) {
        let Some(field) = *field else { continue };
        let null = if columns.ty(field) == Type::Text { text.is_empty() && !quoted } else { text.trim().is_empty() };
        columns.set(row, field, &if null { Cell::Null } else { Cell::Text(text) })?;
    }
    Ok(())
}
