//! Result batches to bytes.

use super::Format;
use super::text::format_decimal;
use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, StringArray};
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::{FileWriter, StreamWriter};
use arrow::json::writer::{Encoder, EncoderFactory, EncoderOptions, LineDelimited, NullableEncoder, Writer, WriterBuilder};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::io::Write;
use std::sync::Arc;

/// Writes record batches of one schema in one of the formats.
pub enum BatchWriter<W: Write + Send> {
    Parquet(Box<ArrowWriter<W>>),
    ArrowFile(Box<FileWriter<W>>),
    ArrowStream(Box<StreamWriter<W>>),
    Json(Box<Writer<W, LineDelimited>>),
    Csv(W),
}

impl<W: Write + Send> BatchWriter<W> {
    /// Starts the output; formats with a head write it.
    ///
    /// # Errors
    /// When the output cannot be written to, or the format cannot hold the schema.
    pub fn new(mut output: W, schema: &SchemaRef, format: Format) -> Result<Self, String> {
        let fault = |fault: ArrowError| fault.to_string();
        Ok(match format {
            Format::Parquet => {
                let compression = Compression::ZSTD(ZstdLevel::default());
                let properties = WriterProperties::builder().set_compression(compression).build();
                let writer = ArrowWriter::try_new(output, Arc::clone(schema), Some(properties)).map_err(|fault| fault.to_string())?;
                Self::Parquet(Box::new(writer))
            }
            Format::ArrowFile => Self::ArrowFile(Box::new(FileWriter::try_new(output, schema).map_err(fault)?)),
            Format::ArrowStream => Self::ArrowStream(Box::new(StreamWriter::try_new(output, schema).map_err(fault)?)),
            Format::Json => {
                let builder = WriterBuilder::new().with_explicit_nulls(true).with_encoder_factory(Arc::new(ExactDecimals));
                Self::Json(Box::new(builder.build(output)))
            }
            Format::Csv => {
                let mut header = Vec::new();
                for (position, field) in schema.fields().iter().enumerate() {
                    if position > 0 {
                        header.push(b',');
                    }
                    put_field(&mut header, field.name());
                }
                header.push(b'\n');
                output.write_all(&header).map_err(|fault| fault.to_string())?;
                Self::Csv(output)
            }
        })
    }

    /// Writes a batch of the writer's schema.
    ///
    /// # Errors
    /// When the output cannot be written to.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), String> {
        let fault = |fault: ArrowError| fault.to_string();
        match self {
            Self::Parquet(writer) => writer.write(batch).map_err(|fault| fault.to_string()),
            Self::ArrowFile(writer) => writer.write(batch).map_err(fault),
            Self::ArrowStream(writer) => writer.write(batch).map_err(fault),
            Self::Json(writer) => writer.write(batch).map_err(fault),
            Self::Csv(output) => output.write_all(&csv_rows(batch).map_err(fault)?).map_err(|fault| fault.to_string()),
        }
    }

    /// Writes what is left and gives the output back.
    ///
    /// # Errors
    /// When the output cannot be written to.
    pub fn finish(self) -> Result<W, String> {
        let fault = |fault: ArrowError| fault.to_string();
        let mut output = match self {
            Self::Parquet(writer) => writer.into_inner().map_err(|fault| fault.to_string())?,
            Self::ArrowFile(writer) => writer.into_inner().map_err(fault)?,
            Self::ArrowStream(writer) => writer.into_inner().map_err(fault)?,
            Self::Json(mut writer) => {
                writer.finish().map_err(fault)?;
                writer.into_inner()
            }
            Self::Csv(output) => output,
        };
        output.flush().map_err(|fault| fault.to_string())?;
        Ok(output)
    }
}

/// What Arrow's own encoder does otherwise: decimals in JSON are numbers with all their digits, and texts that are JSON stand as they are.
#[derive(Debug)]
struct ExactDecimals;

impl EncoderFactory for ExactDecimals {
    fn make_default_encoder<'a>(
        &self,
        field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        if field.metadata().contains_key(IS_JSON)
            && let Some(texts) = array.as_string_opt::<i32>()
        {
            return Ok(Some(NullableEncoder::new(Box::new(JsonEncoder(texts)), array.nulls().cloned())));
        }
        let DataType::Decimal128(_, scale) = array.data_type() else { return Ok(None) };
        let encoder = DecimalEncoder { values: array.as_primitive(), scale: i32::from(*scale) };
        Ok(Some(NullableEncoder::new(Box::new(encoder), array.nulls().cloned())))
    }
}

/// A key in a text field's metadata: its texts are JSON, and in JSON they stand as they are.
pub const IS_JSON: &str = "json";

struct JsonEncoder<'a>(&'a StringArray);

impl Encoder for JsonEncoder<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.value(row).as_bytes());
    }
}

struct DecimalEncoder<'a> {
    values: &'a Decimal128Array,
    scale: i32,
}

impl Encoder for DecimalEncoder<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(format_decimal(&self.values.value(row).to_string(), self.scale).as_bytes());
    }
}

fn csv_rows(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let options = FormatOptions::default();
    let columns: Vec<ArrayRef> = batch
        .columns()
        .iter()
        .map(|column| json_lists(column).map(|texts| texts.unwrap_or_else(|| Arc::clone(column))))
        .collect::<Result<_, _>>()?;
    let formatters: Vec<ArrayFormatter<'_>> =
        columns.iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options)).collect::<Result<_, _>>()?;
    let mut out = Vec::new();
    for row in 0..batch.num_rows() {
        for (position, (column, formatter)) in columns.iter().zip(&formatters).enumerate() {
            if position > 0 {
                out.push(b',');
            }
            if !column.is_null(row) {
                put_field(&mut out, &formatter.value(row).try_to_string()?);
            }
        }
        out.push(b'\n');
    }
    Ok(out)
}

/// A field that is not NULL; the empty text has quotes, so that it is not taken for NULL.
fn put_field(out: &mut Vec<u8>, text: &str) {
    let bare = !text.is_empty() && !text.bytes().any(|byte| matches!(byte, b',' | b'"' | b'\n' | b'\r'));
    if bare {
        out.extend_from_slice(text.as_bytes());
    } else {
        out.push(b'"');
        out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
        out.push(b'"');
    }
}

/// The lists of a column as JSON text; `None` for a column of anything else.
fn json_lists(column: &ArrayRef) -> Result<Option<ArrayRef>, ArrowError> {
    let Some(lists) = column.as_list_opt::<i32>() else { return Ok(None) };
    let options = FormatOptions::default();
    let mut texts: Vec<Option<String>> = Vec::with_capacity(lists.len());
    for row in 0..lists.len() {
        if lists.is_null(row) {
            texts.push(None);
            continue;
        }
        let values = lists.value(row);
        let formatter = ArrayFormatter::try_new(values.as_ref(), &options)?;
        let bare = values.data_type().is_numeric() || *values.data_type() == DataType::Boolean;
        let mut json = String::from("[");
        for position in 0..values.len() {
            if position > 0 {
                json.push(',');
            }
            if values.is_null(position) {
                json.push_str("null");
            } else {
                let text = formatter.value(position).try_to_string()?;
                json.push_str(&if bare { text } else { serde_json::Value::from(text).to_string() });
            }
        }
        json.push(']');
        texts.push(Some(json));
    }
    Ok(Some(Arc::new(StringArray::from(texts))))
}
