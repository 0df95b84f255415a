//! Event batches from several inputs, in order.

use super::file::{Input, open_all};
use crate::codec::{Decoded, Decoder, Error, Request};
use crate::event::{EventBatch, Schema};
use crate::id::FieldId;
use crate::snapshot::Source;
use arrow::array::{ArrayRef, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// A row that could not be read as an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// 0-based, over all inputs in order.
    pub row: u64,
    pub file: Arc<str>,
    pub reason: String,
    /// The row as far as it can be shown.
    pub raw: Option<String>,
}

/// The columns of a list of rejects: row, file, reason, raw.
#[must_use]
pub fn reject_schema() -> SchemaRef {
    Arc::new(ArrowSchema::new(vec![
        Field::new("row", DataType::UInt64, false),
        Field::new("file", DataType::Utf8, false),
        Field::new("reason", DataType::Utf8, false),
        Field::new("raw", DataType::Utf8, true),
    ]))
}

/// Rejects as a batch of [`reject_schema`].
///
/// # Errors
/// When their texts are more than an array holds.
pub fn reject_batch(rejects: &[Reject]) -> Result<RecordBatch, ArrowError> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt64Array::from_iter_values(rejects.iter().map(|reject| reject.row))),
        Arc::new(StringArray::from_iter_values(rejects.iter().map(|reject| &*reject.file))),
        Arc::new(StringArray::from_iter_values(rejects.iter().map(|reject| &reject.reason))),
        Arc::new(StringArray::from_iter(rejects.iter().map(|reject| reject.raw.as_deref()))),
    ];
    RecordBatch::try_new(reject_schema(), columns)
}

/// What one step of reading gave.
#[derive(Debug)]
pub struct ReadBatch {
    /// The events; it may have no rows where all were rejected.
    pub batch: EventBatch,
    pub rejects: Vec<Reject>,
    /// What the user should know, each said once.
    pub warnings: Vec<String>,
    /// Bytes consumed so far over all inputs, as near as the formats tell: against [`EventSource::total_bytes`].
    pub bytes_read: u64,
}

/// Inputs that are open, with the schema of their events.
pub struct EventSource {
    inputs: Vec<Input>,
    schema: Arc<Schema>,
    warnings: Vec<String>,
}

impl EventSource {
    /// Opens files, globs and `-` (standard input). Without a schema, the first input's own is taken, or is inferred from its first rows.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn open(names: &[String], schema: Option<&Schema>) -> Result<Self, Error> {
        Self::of_inputs(open_all(names)?, schema)
    }

    /// A source of inputs that are open.
    ///
    /// # Errors
    /// When the schema must be inferred and the first input cannot be read.
    pub fn of_inputs(mut inputs: Vec<Input>, schema: Option<&Schema>) -> Result<Self, Error> {
        let mut warnings = Vec::new();
        let schema = match (schema, inputs.first_mut()) {
            (Some(schema), _) => schema.clone(),
            (None, None) => Schema::default(),
            (None, Some(first)) => {
                let inferred = first.infer()?;
                if !inferred.left_out.is_empty() {
                    warnings.push(format!(
                        "{}: columns without a type of the engine are left out: {}",
                        first.name,
                        inferred.left_out.join(", ")
                    ));
                }
                inferred.schema
            }
        };
        Ok(Self { inputs, schema: Arc::new(schema), warnings })
    }

    /// The schema of the events.
    #[must_use]
    pub const fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// What the user should know before a row is read.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Bytes of all inputs; `None` where one of them is a stream.
    #[must_use]
    pub fn total_bytes(&self) -> Option<u64> {
        self.inputs.iter().map(|input| input.bytes).sum()
    }

    /// Rows of all inputs; `None` where the format of one does not tell.
    #[must_use]
    pub fn total_rows_hint(&self) -> Option<u64> {
        self.inputs.iter().map(|input| input.rows).sum()
    }

    /// Reads the events in batches of at most `batch_rows` input rows, with the columns of the `needed` fields. With `strict`, the
    /// first bad row or missing column is an error.
    #[must_use]
    pub fn read(self, needed: &[FieldId], batch_rows: usize, strict: bool) -> EventReader {
        self.read_on(needed, batch_rows, strict, Vec::new())
    }

    /// The positions of inputs of which nothing was read.
    ///
    /// # Errors
    /// An input that cannot be read a second time.
    pub fn positions(&self) -> Result<Vec<Source>, Error> {
        let position = |input: &Input| match (input.bytes, input.bytes.map_or(Ok(None), |bytes| input.head(bytes))?) {
            (Some(bytes), Some(head)) => Ok(Source { name: input.name.clone(), bytes, head, rows: 0 }),
            _ => Err(Error::new(&input.name, "a snapshot needs inputs that can be read again").with_hint("give files, not pipes")),
        };
        self.inputs.iter().map(position).collect()
    }

    /// The positions from which the inputs are to be read on, after they were read as far as `read` says.
    ///
    /// # Errors
    /// Inputs that are not those that were read.
    pub fn positions_after(&self, read: &[Source]) -> Result<Vec<Source>, Error> {
        let mut positions = self.positions()?;
        let begun = read.iter().rposition(|source| source.rows > 0).map_or(0, |last| last + 1);
        for (number, before) in read.iter().enumerate().take(begun) {
            let Some((now, input)) = positions.get_mut(number).zip(self.inputs.get(number)) else {
                return Err(Error::new(&before.name, "it was read before the snapshot, and is not among the inputs"));
            };
            if now.name != before.name {
                return Err(Error::new(&now.name, format!("before the snapshot, {} was read in its place", before.name)));
            }
            if now.bytes < before.bytes || input.head(before.bytes)?.as_ref() != Some(&before.head) {
                return Err(Error::new(
                    &now.name,
                    "it is not the file that was read before the snapshot: it is smaller or begins otherwise",
                ));
            }
            if now.bytes > before.bytes && number + 1 < begun {
                return Err(Error::new(&now.name, "it has grown since the snapshot, and inputs behind it were read already"));
            }
            now.rows = before.rows;
        }
        Ok(positions)
    }

    /// Reads on from `positions`, which has one for each input; the rows before them are read over.
    #[must_use]
    pub fn read_on(self, needed: &[FieldId], batch_rows: usize, strict: bool, positions: Vec<Source>) -> EventReader {
        let mut needed: Vec<FieldId> = needed.iter().copied().filter(|field| field.index() < self.schema.fields().len()).collect();
        needed.sort_unstable();
        needed.dedup();
        let request = Request { schema: self.schema, needed: needed.into(), batch_rows: batch_rows.max(1) };
        EventReader {
            inputs: self.inputs.into(),
            request,
            strict,
            current: None,
            row: positions.iter().map(|source| source.rows).sum(),
            positions,
            input: 0,
            read_over: 0,
            left: u64::MAX,
            bytes_before: 0,
            warned: HashSet::new(),
            warnings: Vec::new(),
            failed: false,
        }
    }
}

struct Current {
    name: Arc<str>,
    bytes: Option<u64>,
    decoder: Box<dyn Decoder>,
}

/// An iterator over the batches of a source. After an error it ends.
pub struct EventReader {
    inputs: VecDeque<Input>,
    request: Request,
    strict: bool,
    current: Option<Current>,
    /// The number of the next row.
    row: u64,
    /// How far each input was read; empty where nobody asked.
    positions: Vec<Source>,
    /// The inputs that were begun.
    input: usize,
    /// Rows of the current one that are still to be read over.
    read_over: u64,
    /// Rows that may still be read.
    left: u64,
    bytes_before: u64,
    /// Fields that were missing in some input.
    warned: HashSet<FieldId>,
    warnings: Vec<String>,
    failed: bool,
}

impl EventReader {
    /// The schema of the events.
    #[must_use]
    pub const fn schema(&self) -> &Arc<Schema> {
        &self.request.schema
    }

    /// Rows that were read of all inputs.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.row
    }

    /// How far each input was read, where it was read on from positions.
    #[must_use]
    pub fn positions(&self) -> &[Source] {
        &self.positions
    }

    /// Has it end after so many more rows.
    pub const fn end_after(&mut self, rows: u64) {
        self.left = rows;
    }

    /// Whether it has ended there, and not with its inputs.
    #[must_use]
    pub const fn ended_early(&self) -> bool {
        self.left == 0
    }

    /// Warnings that came after the last batch, once the iterator has ended.
    #[must_use]
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    fn step(&mut self) -> Result<Option<ReadBatch>, Error> {
        while self.left > 0 {
            let Some(mut current) = self.current.take() else {
                let Some(input) = self.inputs.pop_front() else { return Ok(None) };
                let (name, bytes) = (Arc::from(input.name.as_str()), input.bytes);
                let current = Current { name, bytes, decoder: input.decoder(self.request.clone())? };
                self.note_missing(&current)?;
                self.current = Some(current);
                self.read_over = self.positions.get(self.input).map_or(0, |source| source.rows);
                self.input += 1;
                continue;
            };
            let decoded = current.decoder.decode().map_err(|what| Error::new(&current.name, what))?;
            self.note_missing(&current)?;
            match decoded {
                None => self.bytes_before += current.bytes.unwrap_or_else(|| current.decoder.bytes_read()),
                Some(decoded) => {
                    let name = Arc::clone(&current.name);
                    let bytes_read = self.bytes_before + current.decoder.bytes_read();
                    self.current = Some(current);
                    let over = self.read_over.min(decoded.input_rows as u64);
                    let rows = self.left.min(decoded.input_rows as u64 - over);
                    self.read_over -= over;
                    if rows == 0 && over > 0 {
                        continue;
                    }
                    self.left -= rows;
                    let whole = rows == decoded.input_rows as u64;
                    let decoded = if whole { decoded } else { decoded.slice(over as usize, rows as usize) };
                    if let Some(source) = self.positions.get_mut(self.input - 1) {
                        source.rows += rows;
                    }
                    return self.number(&name, decoded, bytes_read).map(Some);
                }
            }
        }
        Ok(None)
    }

    /// Warns of fields that the input lacks, once for each field.
    fn note_missing(&mut self, current: &Current) -> Result<(), Error> {
        let missing: Vec<FieldId> = current.decoder.missing().into_iter().filter(|field| self.warned.insert(*field)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let names = missing.iter().map(|field| format!("`{}`", self.request.schema.field(*field).name)).collect::<Vec<_>>().join(", ");
        let what = if missing.len() == 1 { format!("column {names} is missing") } else { format!("columns {names} are missing") };
        if self.strict {
            return Err(Error::new(&current.name, what).with_hint("without --strict their values are NULL"));
        }
        self.warnings.push(format!("{}: {what}; the values are NULL", current.name));
        Ok(())
    }

    /// Gives rows their numbers over all inputs.
    fn number(&mut self, file: &Arc<str>, decoded: Decoded, bytes_read: u64) -> Result<ReadBatch, Error> {
        let first_row = self.row;
        self.row += decoded.input_rows as u64;
        let rejects: Vec<Reject> = decoded
            .bad
            .into_iter()
            .map(|bad| Reject { row: first_row + bad.row as u64, file: Arc::clone(file), reason: bad.reason, raw: bad.raw })
            .collect();
        if self.strict
            && let Some(reject) = rejects.first()
        {
            return Err(
                Error::new(file, format!("row {}: {}", reject.row, reject.reason)).with_hint("without --strict such rows are left out")
            );
        }
        let mut batch = EventBatch::new(&self.request.schema, first_row, decoded.rows, decoded.columns);
        if !rejects.is_empty() {
            let mut rejected = rejects.iter().map(|reject| reject.row).peekable();
            let numbers = (first_row..self.row).filter(|row| rejected.next_if_eq(row).is_none()).collect();
            batch = batch.with_row_numbers(numbers);
        }
        Ok(ReadBatch { batch, rejects, warnings: self.take_warnings(), bytes_read })
    }
}

impl Iterator for EventReader {
    type Item = Result<ReadBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let step = self.step();
        self.failed = step.is_err();
        step.transpose()
    }
}
