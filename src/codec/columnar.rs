//! Parquet and Arrow IPC: record batches as the Arrow readers give them, made canonical.

use super::canonical::{canonical_column, type_of};
use super::{BadRow, Decoded, Decoder, Request};
use crate::event::Type;
use crate::event::batch::canonical_type;
use crate::id::FieldId;
use arrow::array::{ArrayRef, BooleanArray};
use arrow::compute::filter;
use arrow::datatypes::{Schema as ArrowSchema, SchemaRef};
use arrow::ipc::reader::{FileReaderBuilder, StreamReader};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::file::reader::ChunkReader;
use std::cell::Cell;
use std::io::{Read, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, String>> + Send>;

thread_local! {
    /// Whether this thread is inside [`guarded`].
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs a reader over bytes that nobody vouches for. The Arrow readers panic on some of the lengths that a damaged file may name;
/// here that is an error like any other, and nothing is printed of it.
///
/// # Errors
/// What the reader says, or that the file is damaged.
pub fn guarded<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !GUARDED.try_with(Cell::get).unwrap_or(false) {
                previous(panic);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(read));
    GUARDED.set(outer);
    outcome.unwrap_or_else(|_| Err("the file is damaged".to_owned()))
}

/// The Arrow schema and the number of rows of a Parquet file.
///
/// # Errors
/// What is wrong with the file.
pub fn parquet_schema<R: ChunkReader>(reader: &R) -> Result<(SchemaRef, u64), String> {
    guarded(|| {
        let metadata = ArrowReaderMetadata::load(reader, ArrowReaderOptions::new()).map_err(|fault| fault.to_string())?;
        let rows = u64::try_from(metadata.metadata().file_metadata().num_rows()).unwrap_or(0);
        Ok((Arc::clone(metadata.schema()), rows))
    })
}

/// The Arrow schema of an Arrow IPC file.
///
/// # Errors
/// What is wrong with the file.
pub fn arrow_file_schema<R: Read + Seek>(reader: R) -> Result<SchemaRef, String> {
    guarded(|| FileReaderBuilder::new().build(reader).map(|reader| reader.schema()).map_err(|fault| fault.to_string()))
}

/// The Arrow schema at the head of an Arrow IPC stream. Nothing after the schema is read.
///
/// # Errors
/// What is wrong with the stream.
pub fn arrow_stream_schema<R: Read>(reader: R) -> Result<SchemaRef, String> {
    guarded(|| StreamReader::try_new(reader, None).map(|reader| reader.schema()).map_err(|fault| fault.to_string()))
}

/// How far a reader is, in bytes of its input.
enum Progress {
    /// Counted below the reader.
    Counted(Arc<AtomicU64>),
    /// Estimated from the rows.
    Rows { rows: u64, bytes: u64 },
}

/// A decoder of record batches.
pub struct ColumnarDecoder {
    batches: Batches,
    request: Request,
    missing: Vec<FieldId>,
    /// What is left of a batch that was larger than asked for.
    rest: Option<RecordBatch>,
    progress: Progress,
    rows_read: u64,
}

impl ColumnarDecoder {
    /// Reads a Parquet file. Columns of text come as dictionaries, so that the file's own are kept.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn parquet<R: ChunkReader + 'static>(reader: R, request: Request) -> Result<Self, String> {
        let bytes = reader.len();
        guarded(move || {
            let fault = |fault: parquet::errors::ParquetError| fault.to_string();
            let plain = ArrowReaderMetadata::load(&reader, ArrowReaderOptions::new()).map_err(fault)?;
            let rows = u64::try_from(plain.metadata().file_metadata().num_rows()).unwrap_or(0);
            let encoded = ArrowReaderOptions::new().with_schema(Arc::new(with_dictionaries(plain.schema(), &request)));
            let metadata = ArrowReaderMetadata::try_new(Arc::clone(plain.metadata()), encoded).unwrap_or_else(|_| plain.clone());
            let columns = projection(plain.schema(), &request);
            let mask = ProjectionMask::roots(metadata.parquet_schema(), columns);
            let batches = ParquetRecordBatchReaderBuilder::new_with_metadata(reader, metadata)
                .with_projection(mask)
                .with_batch_size(request.batch_rows)
                .build()
                .map_err(fault)?
                .map(|batch| batch.map_err(|fault| fault.to_string()));
            Ok(Self::new(Box::new(batches), plain.schema(), request, Progress::Rows { rows, bytes }))
        })
    }

    /// Reads an Arrow IPC file.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn arrow_file<R: Read + Seek + Send + 'static>(mut reader: R, request: Request) -> Result<Self, String> {
        guarded(move || {
            let schema = FileReaderBuilder::new().build(&mut reader).map_err(|fault| fault.to_string())?.schema();
            let counted = Counted::new(reader);
            let progress = Progress::Counted(Arc::clone(&counted.read));
            let columns = projection(&schema, &request);
            let batches = FileReaderBuilder::new().with_projection(columns).build(counted).map_err(|fault| fault.to_string())?;
            let batches = batches.map(|batch| batch.map_err(|fault| fault.to_string()));
            Ok(Self::new(Box::new(batches), &schema, request, progress))
        })
    }

    /// Reads an Arrow IPC stream.
    ///
    /// # Errors
    /// What is wrong with the head of the stream.
    pub fn arrow_stream<R: Read + Send + 'static>(reader: R, request: Request) -> Result<Self, String> {
        guarded(move || {
            let counted = Counted::new(reader);
            let progress = Progress::Counted(Arc::clone(&counted.read));
            let batches = StreamReader::try_new(counted, None).map_err(|fault| fault.to_string())?;
            let schema = batches.schema();
            let batches = batches.map(|batch| batch.map_err(|fault| fault.to_string()));
            Ok(Self::new(Box::new(batches), &schema, request, progress))
        })
    }

    fn new(batches: Batches, schema: &ArrowSchema, request: Request, progress: Progress) -> Self {
        let missing = request.needed.iter().copied().filter(|field| schema.index_of(&request.schema.field(*field).name).is_err());
        Self { batches, missing: missing.collect(), request, rest: None, progress, rows_read: 0 }
    }

    /// The next record batch of at most as many rows as asked for.
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, String> {
        let batch = match self.rest.take() {
            Some(batch) => batch,
            None => match guarded(|| self.batches.next().transpose())? {
                Some(batch) => batch,
                None => return Ok(None),
            },
        };
        let most = self.request.batch_rows;
        if batch.num_rows() > most {
            self.rest = Some(batch.slice(most, batch.num_rows() - most));
            return Ok(Some(batch.slice(0, most)));
        }
        Ok(Some(batch))
    }
}

impl Decoder for ColumnarDecoder {
    fn decode(&mut self) -> Result<Option<Decoded>, String> {
        while let Some(batch) = self.next_batch()? {
            if batch.num_rows() > 0 {
                self.rows_read += batch.num_rows() as u64;
                return canonical(&self.request, &batch).map(Some);
            }
        }
        Ok(None)
    }

    fn bytes_read(&self) -> u64 {
        match &self.progress {
            Progress::Counted(read) => read.load(Ordering::Relaxed),
            Progress::Rows { rows: 0, bytes } => *bytes,
            Progress::Rows { rows, bytes } => {
                u64::try_from(u128::from(*bytes) * u128::from(self.rows_read.min(*rows)) / u128::from(*rows)).unwrap_or(*bytes)
            }
        }
    }

    fn missing(&self) -> Vec<FieldId> {
        self.missing.clone()
    }
}

/// The asked-for columns of a batch of any layout, made canonical.
///
/// # Errors
/// A column of which no value can be one of its field.
pub fn canonical(request: &Request, batch: &RecordBatch) -> Result<Decoded, String> {
    guarded(|| canonical_rows(request, batch))
}

fn canonical_rows(request: &Request, batch: &RecordBatch) -> Result<Decoded, String> {
    let schema = &request.schema;
    let rows = batch.num_rows();
    let mut columns: Vec<Option<ArrayRef>> = vec![None; schema.fields().len()];
    let mut misfits: Vec<(usize, String)> = Vec::new();
    for field in request.readable() {
        let definition = schema.field(field);
        let Some(column) = batch.column_by_name(&definition.name) else { continue };
        let mut own = Vec::new();
        let column =
            canonical_column(column, definition.ty, &mut own).map_err(|reason| format!("column `{}`: {reason}", definition.name))?;
        misfits.extend(own.into_iter().map(|(row, reason)| (row, schema.misfit(field, &reason))));
        columns[field.index()] = Some(column);
    }
    if misfits.is_empty() {
        return Ok(Decoded { input_rows: rows, rows, columns, bad: Vec::new() });
    }
    misfits.sort_by_key(|(row, _)| *row);
    let mut keep = vec![true; rows];
    let mut bad: Vec<BadRow> = Vec::new();
    for (row, reason) in misfits {
        keep[row] = false;
        match bad.last_mut().filter(|last| last.row == row) {
            Some(last) => {
                last.reason.push_str("; ");
                last.reason.push_str(&reason);
            }
            None => bad.push(BadRow { row, reason, raw: raw_row(batch, row) }),
        }
    }
    let keep = BooleanArray::from(keep);
    let kept = keep.true_count();
    for column in columns.iter_mut().flatten() {
        *column = filter(column, &keep).map_err(|fault| fault.to_string())?;
    }
    Ok(Decoded { input_rows: rows, rows: kept, columns, bad })
}

/// Positions of the columns to read, ascending.
fn projection(schema: &ArrowSchema, request: &Request) -> Vec<usize> {
    let mut columns: Vec<usize> = request.readable().filter_map(|field| schema.index_of(&request.schema.field(field).name).ok()).collect();
    columns.sort_unstable();
    columns
}

/// The schema with the columns of text that are read as text turned into dictionaries.
fn with_dictionaries(schema: &ArrowSchema, request: &Request) -> ArrowSchema {
    let wanted = |name: &str| {
        let field = request.schema.find(name).filter(|field| request.needed.contains(field));
        field.is_some_and(|field| request.schema.field(field).ty == Type::Text)
    };
    let text = canonical_type(Type::Text);
    let fields: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| {
            if type_of(field.data_type()) == Some(Type::Text) && wanted(field.name()) {
                Arc::new(field.as_ref().clone().with_data_type(text.clone()))
            } else {
                Arc::clone(field)
            }
        })
        .collect();
    ArrowSchema::new_with_metadata(fields, schema.metadata().clone())
}

/// A row as JSON, for the list of rejects.
fn raw_row(batch: &RecordBatch, row: usize) -> Option<String> {
    let mut bytes = Vec::new();
    let mut writer = arrow::json::LineDelimitedWriter::new(&mut bytes);
    writer.write(&batch.slice(row, 1)).ok()?;
    writer.finish().ok()?;
    drop(writer);
    Some(String::from_utf8(bytes).ok()?.trim_end().to_owned())
}

/// A reader that counts what passes through it.
struct Counted<R> {
    reader: R,
    read: Arc<AtomicU64>,
}

impl<R> Counted<R> {
    fn new(reader: R) -> Self {
        Self { reader, read: Arc::default() }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl<R: Seek> Seek for Counted<R> {
    fn seek(&mut self, position: std::io::SeekFrom) -> std::io::Result<u64> {
        self.reader.seek(position)
    }
}
