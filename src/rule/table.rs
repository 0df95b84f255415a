//! Tables of rules, parameters or list entries: Parquet, NDJSON and CSV, read in chunks in which every cell is text or NULL.

use super::yaml::{self, Scalar};
use super::{Diagnostic, Origin, Severity};
use arrow::array::{Array, ArrayRef, AsArray, LargeStringArray, LargeStringBuilder, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use std::io::{BufRead, Cursor};
use std::sync::Arc;

/// Rows of one chunk.
pub const CHUNK_ROWS: usize = 8192;

/// Different keys that the objects of one NDJSON file may have.
const MAX_COLUMNS: usize = 256;

/// Rows that follow one another.
#[derive(Debug, Default)]
pub struct Chunk {
    /// The 0-based position of the first row in the file.
    pub first_row: u64,
    pub rows: usize,
    pub columns: Vec<Column>,
    /// Rows that could not be read; they are rows of NULL.
    pub problems: Vec<(u64, String)>,
}

#[derive(Debug)]
pub struct Column {
    pub name: Arc<str>,
    pub cells: LargeStringArray,
    /// Whether the file holds numbers here, and not text that looks like them.
    pub numeric: bool,
}

impl Chunk {
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&LargeStringArray> {
        self.columns.iter().find(|column| &*column.name == name).map(|column| &column.cells)
    }
}

/// The cell, or `None` for NULL.
#[must_use]
pub fn cell(cells: Option<&LargeStringArray>, row: usize) -> Option<&str> {
    cells.filter(|cells| row < cells.len() && cells.is_valid(row)).map(|cells| cells.value(row))
}

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>;

enum Rows {
    Batches(Batches),
    Lines { lines: Cursor<Bytes>, names: Vec<Arc<str>> },
}

/// A file of rows.
pub struct Table {
    pub file: Arc<str>,
    /// The names of the columns, where the file states them once (NDJSON does not).
    pub names: Option<Vec<Arc<str>>>,
    rows: Rows,
    next_row: u64,
    failed: bool,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table")
            .field("file", &self.file)
            .field("names", &self.names)
            .field("next_row", &self.next_row)
            .finish_non_exhaustive()
    }
}

/// A place in a file of rows.
#[must_use]
pub fn row_origin(file: &Arc<str>, row: u64) -> Origin {
    Origin { row: Some(row), ..Origin::at(Arc::clone(file), 1, 1) }
}

/// An error in a row of a file.
#[must_use]
pub fn row_error(file: &Arc<str>, row: u64, code: &'static str, primary: impl Into<String>) -> Diagnostic {
    let mut diagnostic = Diagnostic::file(Severity::Error, code, file, primary);
    diagnostic.row = Some(row);
    diagnostic
}

impl Table {
    /// Opens `bytes` as what the ending of `file` says.
    ///
    /// # Errors
    /// A diagnostic about the whole file: an ending that is none of .parquet, .ndjson, .jsonl and .csv, no content, a damaged file.
    pub fn open(file: &str, bytes: Bytes) -> Result<Self, Box<Diagnostic>> {
        let fail = |code, message: String| Box::new(Diagnostic::file(Severity::Error, code, file, message));
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(fail("empty-file", "the file is empty".into()));
        }
        let ending = file.rsplit_once('.').map_or("", |(_, ending)| ending).to_ascii_lowercase();
        let unreadable = |error: &dyn std::fmt::Display| {
            let mut diagnostic = fail("unreadable-table", format!("the file is not valid {}", ending.to_uppercase()));
            diagnostic.detail = error.to_string();
            diagnostic
        };
        let (rows, names) = match &*ending {
            "parquet" => {
                let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
                    .and_then(|builder| builder.with_batch_size(CHUNK_ROWS).build())
                    .map_err(|error| unreadable(&error))?;
                let schema = arrow::array::RecordBatchReader::schema(&reader);
                (Rows::Batches(Box::new(reader)), Some(names(&schema)))
            }
            "csv" => {
                let (schema, reader) = csv_reader(bytes).map_err(|error| unreadable(&error))?;
                (Rows::Batches(reader), Some(names(&schema)))
            }
            "ndjson" | "jsonl" => (Rows::Lines { lines: Cursor::new(bytes), names: Vec::new() }, None),
            _ => {
                let mut diagnostic = fail("unknown-format", format!("`{file}` is no kind of table that is known by its ending"));
                diagnostic.hint = "tables are .parquet, .ndjson, .jsonl or .csv".into();
                return Err(diagnostic);
            }
        };
        if let Some(names) = &names {
            for (index, name) in names.iter().enumerate() {
                if names[..index].contains(name) {
                    return Err(fail("duplicate-column", format!("the file has two columns `{name}`")));
                }
            }
        }
        Ok(Self { file: file.into(), names, rows, next_row: 0, failed: false })
    }
}

fn names(schema: &Schema) -> Vec<Arc<str>> {
    schema.fields().iter().map(|field| field.name().trim().into()).collect()
}

/// All columns are text; what they mean is said by who reads them.
fn csv_reader(bytes: Bytes) -> Result<(Schema, Batches), ArrowError> {
    let format = || arrow::csv::reader::Format::default().with_header(true);
    let bytes = if bytes.starts_with(b"\xef\xbb\xbf") { bytes.slice(3..) } else { bytes };
    let (header, _) = format().infer_schema(Cursor::new(bytes.clone()), Some(0))?;
    let fields: Vec<Field> = header.fields().iter().map(|field| Field::new(field.name(), DataType::Utf8, true)).collect();
    let schema = Schema::new(fields);
    let reader = arrow::csv::ReaderBuilder::new(Arc::new(schema.clone()))
        .with_format(format())
        .with_batch_size(CHUNK_ROWS)
        .build_buffered(Cursor::new(bytes))?;
    Ok((schema, Box::new(reader)))
}

impl Iterator for Table {
    type Item = Result<Chunk, Box<Diagnostic>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let first_row = self.next_row;
        let chunk = match &mut self.rows {
            Rows::Batches(batches) => batches.next()?.and_then(|batch| batch_chunk(&batch, first_row)).map_err(|error| error.to_string()),
            Rows::Lines { lines, names } => lines_chunk(lines, names, first_row).map_err(|error| error.to_string()).transpose()?,
        };
        match chunk {
            Ok(chunk) => {
                self.next_row += chunk.rows as u64;
                Some(Ok(chunk))
            }
            Err(error) => {
                self.failed = true;
                let diagnostic = row_error(&self.file, first_row, "unreadable-table", "the file cannot be read beyond this row");
                Some(Err(Box::new(diagnostic.with_detail(error))))
            }
        }
    }
}

fn batch_chunk(batch: &RecordBatch, first_row: u64) -> Result<Chunk, ArrowError> {
    let columns = batch.schema_ref().fields().iter().zip(batch.columns()).map(|(field, column)| {
        let numeric = match field.data_type() {
            DataType::Dictionary(_, values) => values.is_numeric(),
            other => other.is_numeric(),
        };
        Ok(Column { name: field.name().trim().into(), cells: text_cells(column)?, numeric })
    });
    let columns = columns.collect::<Result<Vec<_>, ArrowError>>()?;
    Ok(Chunk { first_row, rows: batch.num_rows(), columns, problems: Vec::new() })
}

/// The column as text; a list becomes its JSON.
fn text_cells(column: &ArrayRef) -> Result<LargeStringArray, ArrowError> {
    let (DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) | DataType::ListView(_) | DataType::LargeListView(_)) =
        column.data_type()
    else {
        return Ok(cast(column, &DataType::LargeUtf8)?.as_string::<i64>().clone());
    };
    let item = Arc::new(Field::new_list_field(DataType::LargeUtf8, true));
    let lists = cast(column, &DataType::LargeList(item))?;
    let lists = lists.as_list::<i64>();
    let mut cells = LargeStringBuilder::new();
    for row in 0..lists.len() {
        cells.append_option(lists.is_valid(row).then(|| {
            let items = lists.value(row);
            let items: Vec<Option<&str>> = items.as_string::<i64>().iter().collect();
            serde_json::Value::from(items).to_string()
        }));
    }
    Ok(cells.finish())
}

/// An object whose keys are still in order and may repeat.
struct Object(Vec<(String, serde_json::Value)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Object;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Object(entries))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

/// The next lines as a chunk; blank lines are no rows. A column that first occurs here is NULL in the rows before it.
fn lines_chunk(lines: &mut Cursor<Bytes>, names: &mut Vec<Arc<str>>, first_row: u64) -> std::io::Result<Option<Chunk>> {
    let mut columns: Vec<(LargeStringBuilder, bool)> = names.iter().map(|_| (LargeStringBuilder::new(), true)).collect();
    let mut problems = Vec::new();
    let mut rows = 0;
    let mut line = Vec::new();
    while rows < CHUNK_ROWS {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line);
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match serde_json::from_slice::<Object>(line) {
            Err(error) => problems.push((first_row + rows as u64, error.to_string())),
            Ok(Object(entries)) => {
                for (name, value) in entries {
                    if names.len() == MAX_COLUMNS && names.iter().all(|known| **known != *name) {
                        problems.push((first_row + rows as u64, format!("the rows have more than {MAX_COLUMNS} different keys")));
                        break;
                    }
                    let index = names.iter().position(|known| **known == *name).unwrap_or_else(|| {
                        names.push(name.as_str().into());
                        columns.push((LargeStringBuilder::new(), true));
                        names.len() - 1
                    });
                    let Some((cells, numeric)) = columns.get_mut(index) else { continue };
                    if arrow::array::ArrayBuilder::len(cells) > rows {
                        problems.push((first_row + rows as u64, format!("the key `{name}` occurs twice")));
                        continue;
                    }
                    while arrow::array::ArrayBuilder::len(cells) < rows {
                        cells.append_null();
                    }
                    *numeric &= value.is_number() || value.is_null();
                    match value {
                        serde_json::Value::Null => cells.append_null(),
                        serde_json::Value::String(text) => cells.append_value(text),
                        other => cells.append_value(other.to_string()),
                    }
                }
            }
        }
        rows += 1;
    }
    if rows == 0 {
        return Ok(None);
    }
    let columns = columns.into_iter().zip(names.iter()).map(|((mut cells, numeric), name)| {
        while arrow::array::ArrayBuilder::len(&cells) < rows {
            cells.append_null();
        }
        Column { name: Arc::clone(name), cells: cells.finish(), numeric }
    });
    Ok(Some(Chunk { first_row, rows, columns: columns.collect(), problems }))
}

/// The entries of a list file: a line each, or the cells of one column of a table. A cell that is a number in its file is one here.
///
/// # Errors
/// One diagnostic: no such column, more than `limit` entries, a damaged file.
pub fn list_entries(file: &str, bytes: Bytes, column: Option<&str>, limit: usize) -> Result<Vec<serde_json::Value>, Box<Diagnostic>> {
    let mut entries = Vec::new();
    let mut push = |entry: serde_json::Value| {
        if entries.len() == limit {
            let message = format!("the list has more than {limit} entries");
            return Err(Box::new(Diagnostic::file(Severity::Error, "list-too-long", file, message)));
        }
        entries.push(entry);
        Ok(())
    };
    if !is_table(file) {
        for line in list_lines(file, &bytes, column)? {
            push(line.into())?;
        }
        return Ok(entries);
    }
    let table = Table::open(file, bytes)?;
    if let Some(names) = &table.names {
        list_column(file, names, column)?;
    }
    for chunk in table {
        let chunk = chunk?;
        if let Some((row, problem)) = chunk.problems.first() {
            return Err(Box::new(row_error(&file.into(), *row, "unreadable-row", "the row cannot be read").with_detail(problem)));
        }
        let names: Vec<Arc<str>> = chunk.columns.iter().map(|column| Arc::clone(&column.name)).collect();
        let Some(column) = chunk.columns.get(list_column(file, &names, column)?) else { continue };
        for text in column.cells.iter().flatten() {
            push(match yaml::resolve(text) {
                Scalar::Number(number) if column.numeric => serde_json::Value::Number(number),
                _ => text.into(),
            })?;
        }
    }
    Ok(entries)
}

/// Whether the ending of `file` is that of a table.
fn is_table(file: &str) -> bool {
    let ending = file.rsplit_once('.').map_or("", |(_, ending)| ending);
    ["parquet", "csv", "ndjson", "jsonl"].iter().any(|known| ending.eq_ignore_ascii_case(known))
}

/// The lines of a list file that hold something.
fn list_lines<'a>(file: &str, bytes: &'a [u8], column: Option<&str>) -> Result<impl Iterator<Item = &'a str>, Box<Diagnostic>> {
    let fail = |code, message: String, hint| Err(Box::new(Diagnostic::file(Severity::Error, code, file, message).with_hint(hint)));
    if let Some(column) = column {
        let hint = "leave `column` out, or name a .parquet, .ndjson or .csv file";
        return fail("unknown-column", format!("the file has lines and no column `{column}`"), hint);
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return fail("invalid-utf8", "the list is not valid UTF-8".into(), "save the file as UTF-8");
    };
    Ok(text.trim_start_matches('\u{feff}').lines().map(str::trim).filter(|line| !line.is_empty()))
}

/// The position of the column that a list names; of the only one, where it names none.
fn list_column(file: &str, names: &[Arc<str>], column: Option<&str>) -> Result<usize, Box<Diagnostic>> {
    let (position, message, hint) = match column {
        Some(column) => {
            let position = names.iter().position(|name| **name == *column);
            (position, format!("the file has no column `{column}`"), format!("its columns are {}", names.join(", ")))
        }
        None => {
            let hint = format!("name one of them as `column:`: {}", names.join(", "));
            ((names.len() == 1).then_some(0), format!("the file has {} columns", names.len()), hint)
        }
    };
    position.ok_or_else(|| Box::new(Diagnostic::file(Severity::Error, "unknown-column", file, message).with_hint(hint)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entries(file: &str, content: &'static str, column: Option<&str>) -> Result<serde_json::Value, &'static str> {
        let entries = list_entries(file, Bytes::from_static(content.as_bytes()), column, 3);
        entries.map(|entries| json!(entries)).map_err(|diagnostic| diagnostic.code)
    }

    #[test]
    fn a_list_is_a_line_or_a_cell_each() {
        assert_eq!(entries("l.txt", "\u{feff}a\r\n\n 007 \n1", None), Ok(json!(["a", "007", "1"])));
        assert_eq!(entries("l.txt", "", None), Ok(json!([])));
        assert_eq!(entries("l.txt", "a\nb\nc\nd", None), Err("list-too-long"));
        assert_eq!(entries("l.txt", "a", Some("c")), Err("unknown-column"));
        assert_eq!(entries("l.csv", "c\n007\n1\n", None), Ok(json!(["007", "1"])));
        assert_eq!(entries("l.csv", "c,d\n007,x\n,y\n", Some("c")), Ok(json!(["007"])));
        assert_eq!(entries("l.csv", "c,d\n007,x\n", None), Err("unknown-column"));
        assert_eq!(entries("l.csv", "c,d\n007,x\n", Some("e")), Err("unknown-column"));
        assert_eq!(entries("l.ndjson", "{\"c\": 1}\n{\"c\": 2.50}\n{\"c\": null}\n", None), Ok(json!([1, json_number("2.50")])));
        assert_eq!(entries("l.ndjson", "{\"c\": 1}\n{\"c\": \"2\"}\n", Some("c")), Ok(json!(["1", "2"])));
        assert_eq!(entries("l.ndjson", "{\"c\": 1}\n{\"c\": \n", Some("c")), Err("unreadable-row"));
        assert_eq!(entries("l.ndjson", "{\"c\": 1}\n", Some("d")), Err("unknown-column"));
    }

    fn json_number(text: &str) -> serde_json::Value {
        serde_json::from_str(text).expect("a number")
    }

    #[test]
    fn keys_of_later_lines_are_null_before() {
        let content = "{\"a\": 1}\n{\"b\": [1, \"x\"]}\n{\"a\": true, \"b\": {\"c\": null}}\n";
        let mut table = Table::open("t.jsonl", Bytes::from(content)).expect("open");
        let chunk = table.next().expect("a chunk").expect("sound");
        let cells = |name| chunk.column(name).expect("a column").iter().map(|cell| cell.map(str::to_owned)).collect::<Vec<_>>();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(cells("a"), [some("1"), None, some("true")]);
        assert_eq!(cells("b"), [None, some("[1,\"x\"]"), some("{\"c\":null}")]);
        assert!(table.next().is_none());
    }

    #[test]
    fn an_endless_choice_of_keys_is_refused() {
        let content: String = (0..MAX_COLUMNS + 2).map(|row| format!("{{\"k{row}\": 1}}\n")).collect();
        let chunk = Table::open("t.jsonl", Bytes::from(content)).expect("open").next().expect("a chunk").expect("sound");
        assert_eq!((chunk.columns.len(), chunk.problems.len()), (MAX_COLUMNS, 2));
    }
}
