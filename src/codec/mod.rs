//! Codecs: bytes to batches of canonical columns, and batches to bytes. A format is not a transport: nothing here opens a file by name.
//!
//! * [`columnar`]: Parquet, Arrow IPC file and stream; [`canonical`]: their arrays to [`crate::event::batch::canonical_type`].
//! * [`json`], [`csv`]: rows of text, through [`columns`] and [`text`].
//! * `avro`, with the feature `kafka`: datums of a writer's schema, through [`columnar`] too.
//! * [`lines`]: events to lines of JSON, and nothing of them lost.
//! * [`infer`]: a schema where the user gave none.
//! * [`mod@write`]: result batches to bytes.

#[cfg(feature = "kafka")]
pub mod avro;
pub mod canonical;
pub mod columnar;
pub mod columns;
pub mod csv;
pub mod infer;
pub mod json;
pub mod lines;
pub mod text;
pub mod write;

use crate::event::batch::canonical_type;
use crate::event::{Schema, Type};
use crate::id::FieldId;
use arrow::array::{Array, ArrayRef, new_null_array};
use arrow::compute::concat;
use std::fmt;
use std::sync::Arc;

/// What is wrong with an input or an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The file, as the user named it.
    pub file: String,
    /// In lower case, without a full stop.
    pub what: String,
    /// What to do about it; may be empty.
    pub hint: String,
    /// Whether it is only that nobody reads the output any more.
    pub closed: bool,
}

impl Error {
    #[must_use]
    pub fn new(file: &str, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), what: what.into(), hint: String::new(), closed: false }
    }

    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.what)?;
        if !self.hint.is_empty() {
            write!(f, " ({})", self.hint)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// How bytes hold events or results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Parquet,
    /// Arrow IPC with a footer.
    ArrowFile,
    /// Arrow IPC, batches one after the other.
    ArrowStream,
    /// One JSON object a line.
    Json,
    /// With a header.
    Csv,
}

impl Format {
    /// The format that the first bytes of a file name.
    #[must_use]
    pub fn of_magic(head: &[u8]) -> Option<Self> {
        if head.starts_with(b"PAR1") {
            Some(Self::Parquet)
        } else if head.starts_with(b"ARROW1") {
            Some(Self::ArrowFile)
        } else if head.starts_with(&[0xff; 4]) {
            Some(Self::ArrowStream)
        } else {
            None
        }
    }

    /// The format that the ending of a file's name stands for.
    #[must_use]
    pub fn of_ending(name: &str) -> Option<Self> {
        let ending = name.rsplit_once('.')?.1.to_ascii_lowercase();
        Some(match ending.as_str() {
            "parquet" | "pq" => Self::Parquet,
            "arrow" | "feather" | "ipc" => Self::ArrowFile,
            "arrows" => Self::ArrowStream,
            "ndjson" | "jsonl" | "json" => Self::Json,
            "csv" => Self::Csv,
            _ => return None,
        })
    }
}

/// What is read of an input.
#[derive(Clone, Debug)]
pub struct Request {
    pub schema: Arc<Schema>,
    /// The fields that somebody needs, each once.
    pub needed: Arc<[FieldId]>,
    /// Rows of one batch at most; at least 1.
    pub batch_rows: usize,
}

impl Request {
    /// The needed fields that an input may have: those of a type that values can be read as.
    fn readable(&self) -> impl Iterator<Item = FieldId> + '_ {
        self.needed.iter().copied().filter(|field| !matches!(self.schema.field(*field).ty, Type::Null | Type::Interval))
    }
}

/// A row that is left out of its batch, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRow {
    /// Position among the rows of the [`Decoded`] it belongs to.
    pub row: usize,
    pub reason: String,
    /// The row as far as it can be shown.
    pub raw: Option<String>,
}

/// A piece of an input: canonical columns of the rows that could be read, and the others.
#[derive(Debug)]
pub struct Decoded {
    /// Rows of the input that this piece covers, bad ones too.
    pub input_rows: usize,
    /// Rows in the columns.
    pub rows: usize,
    /// One for each field of the schema; absent where it was not asked for or the input does not have it.
    pub columns: Vec<Option<ArrayRef>>,
    /// Ascending.
    pub bad: Vec<BadRow>,
}

impl Decoded {
    /// A piece of which nothing can be used.
    #[must_use]
    pub fn rejected(schema: &Schema, rows: usize, reason: &str) -> Self {
        let bad = (0..rows).map(|row| BadRow { row, reason: reason.to_owned(), raw: None }).collect();
        Self { input_rows: rows, rows: 0, columns: vec![None; schema.fields().len()], bad }
    }

    /// Pieces of one schema, one after the other.
    #[must_use]
    pub fn joined(schema: &Schema, mut pieces: Vec<Self>) -> Self {
        if pieces.len() == 1 {
            return pieces.remove(0);
        }
        let mut all = Self { input_rows: 0, rows: 0, columns: Vec::new(), bad: Vec::new() };
        for piece in &mut pieces {
            all.bad.extend(piece.bad.drain(..).map(|bad| BadRow { row: bad.row + all.input_rows, ..bad }));
            all.input_rows += piece.input_rows;
            all.rows += piece.rows;
        }
        pieces.retain(|piece| piece.rows > 0);
        let column = |field: usize| {
            let ty = canonical_type(schema.field(FieldId::new(field)).ty);
            let of = |piece: &Self| piece.columns[field].clone().unwrap_or_else(|| new_null_array(&ty, piece.rows));
            let columns: Vec<ArrayRef> = pieces.iter().map(of).collect();
            let columns: Vec<&dyn Array> = columns.iter().map(AsRef::as_ref).collect();
            if columns.is_empty() { None } else { Some(concat(&columns).expect("columns of one type")) }
        };
        all.columns = (0..schema.fields().len()).map(column).collect();
        all
    }

    /// The piece that begins with the input row `from` of this one and has `rows` of them.
    #[must_use]
    pub fn slice(&self, from: usize, rows: usize) -> Self {
        let before = |row: usize| self.bad.partition_point(|bad| bad.row < row);
        let (first, last) = (before(from), before(from + rows));
        let bad = self.bad[first..last].iter().map(|bad| BadRow { row: bad.row - from, ..bad.clone() }).collect();
        let (start, good) = (from - first, rows - (last - first));
        let columns = self.columns.iter().map(|column| column.as_ref().map(|column| column.slice(start, good))).collect();
        Self { input_rows: rows, rows: good, columns, bad }
    }
}

/// An input being decoded.
pub trait Decoder: Send {
    /// The next piece, of at most as many input rows as a batch may have; `None` at the end.
    ///
    /// # Errors
    /// What makes the rest of the input unreadable, in lower case without a full stop.
    fn decode(&mut self) -> Result<Option<Decoded>, String>;

    /// Bytes of the input consumed so far, as near as the format tells.
    fn bytes_read(&self) -> u64;

    /// The asked-for fields that the input lacks: known from the start where a format names its columns, else at the end.
    fn missing(&self) -> Vec<FieldId>;
}

#[cfg(test)]
mod tests;
