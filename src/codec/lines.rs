//! Events as lines of JSON that [`super::json`] reads back to the same values, whatever they are: instants and days are numbers, what JSON has no numbers for is text.

use super::json::MAX_LINE_BYTES;
use super::text::format_decimal;
use crate::event::{EventBatch, Schema, Type};
use crate::id::FieldId;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Date32Type, Float64Type, Int32Type, Int64Type, UInt64Type};
use std::io::Write;

/// One JSON object a line for each row, each with its end; fields that the batch does not have are left out.
///
/// # Errors
/// A line that is longer than any that is read.
pub fn lines(schema: &Schema, batch: &EventBatch) -> Result<Vec<u8>, String> {
    let mut columns = Vec::new();
    for (at, field) in schema.fields().iter().enumerate() {
        if let Some(column) = batch.column(FieldId::new(at)) {
            let values =
                Values::of(column, field.ty).ok_or_else(|| format!("`{}` cannot be written: it is {}", field.name, column.data_type()))?;
            columns.push((format!("{}:", json(&field.name)), column, values));
        }
    }
    let mut out = Vec::with_capacity(batch.rows() * columns.len() * 16);
    for row in 0..batch.rows() {
        let begin = out.len();
        for (nth, (name, column, values)) in columns.iter().enumerate() {
            out.push(if nth == 0 { b'{' } else { b',' });
            out.extend(name.as_bytes());
            if column.is_null(row) {
                out.extend(b"null");
            } else {
                values.put(&mut out, row);
            }
        }
        out.extend(if columns.is_empty() { &b"{}\n"[..] } else { b"}\n" });
        if out.len() - begin > MAX_LINE_BYTES {
            return Err(format!("an event is longer than {MAX_LINE_BYTES} bytes as JSON"));
        }
    }
    Ok(out)
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The values of a canonical column.
enum Values<'a> {
    Bool(&'a BooleanArray),
    /// Whole numbers, instants in ticks of their unit, days since 1970.
    Int(ArrayRef),
    UInt(&'a [u64]),
    Float(&'a Float64Array),
    Decimal(&'a Decimal128Array, u8),
    /// The place of each row's text, and the texts as JSON.
    Text(&'a [i32], Vec<String>),
    /// A type that no field of an input has.
    Nothing,
}

impl<'a> Values<'a> {
    fn of(column: &'a ArrayRef, ty: Type) -> Option<Self> {
        Some(match ty {
            Type::Bool => Self::Bool(column.as_boolean_opt()?),
            Type::Int | Type::Timestamp(_) => Self::Int(cast(column, &DataType::Int64).ok()?),
            Type::Date => Self::Int(
                cast(column.as_primitive_opt::<Date32Type>()?, &DataType::Int32).and_then(|days| cast(&days, &DataType::Int64)).ok()?,
            ),
            Type::UInt => Self::UInt(column.as_primitive_opt::<UInt64Type>()?.values()),
            Type::Float => Self::Float(column.as_primitive_opt::<Float64Type>()?),
            Type::Decimal { scale } => Self::Decimal(column.as_primitive_opt()?, scale),
            Type::Text => {
                let texts = column.as_dictionary_opt::<Int32Type>()?;
                let values = texts.values().as_string_opt::<i32>()?;
                Self::Text(texts.keys().values(), values.iter().map(|text| json(text.unwrap_or_default())).collect())
            }
            Type::Null | Type::Interval => Self::Nothing,
        })
    }

    /// Writes a value that is not NULL. Writing to memory does not fail.
    fn put(&self, out: &mut Vec<u8>, row: usize) {
        match self {
            Self::Bool(values) => out.extend(if values.value(row) { &b"true"[..] } else { b"false" }),
            Self::Int(values) => _ = write!(out, "{}", values.as_primitive::<Int64Type>().value(row)),
            Self::UInt(values) => _ = write!(out, "{}", values[row]),
            Self::Float(values) => match values.value(row) {
                value if value.is_nan() => out.extend(b"\"NaN\""),
                value if value.is_infinite() => out.extend(if value > 0.0 { &b"\"Infinity\""[..] } else { b"\"-Infinity\"" }),
                // The shortest text that is read back as the same float.
                value => _ = serde_json::to_writer(out, &value),
            },
            Self::Decimal(values, scale) => {
                out.extend(format_decimal(&values.value(row).to_string(), i32::from(*scale)).as_bytes());
            }
            Self::Text(places, texts) => out.extend(texts[places[row] as usize].as_bytes()),
            Self::Nothing => out.extend(b"null"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::json::JsonDecoder;
    use crate::codec::{Decoder, Request};
    use arrow::array::{
        Date32Array, Decimal128Array, Int64Array, StringArray, TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
    };
    use proptest::prelude::*;
    use std::sync::Arc;

    const SCHEMA: &str = "fields: {b: bool, i: int64, u: uint64, f: float64, 'd\"x': 'decimal(38, 3)', t: utf8, s: timestamp(s), n: timestamp(ns), day: date, gone: utf8}\n";

    type Row =
        ((Option<bool>, Option<i64>, Option<u64>, Option<f64>, Option<i128>), (Option<String>, Option<i64>, Option<i64>, Option<i32>));

    const DIGITS: i128 = 10_i128.pow(38) - 1;

    fn row() -> impl Strategy<Value = Row> {
        let float = prop_oneof![
            any::<f64>(),
            Just(f64::NAN),
            Just(f64::INFINITY),
            Just(f64::NEG_INFINITY),
            Just(-0.0),
            Just(f64::MIN_POSITIVE / 2.0)
        ];
        let text = prop_oneof![any::<String>(), "[\"\\\\\n\r\t\u{0}\u{2028}{}:,é🦀]{0,9}"];
        let of = proptest::option::of::<BoxedStrategy<f64>>;
        let of_text = proptest::option::of::<BoxedStrategy<String>>;
        (
            (any::<Option<bool>>(), any::<Option<i64>>(), any::<Option<u64>>(), of(float.boxed()), proptest::option::of(-DIGITS..=DIGITS)),
            (of_text(text.boxed()), any::<Option<i64>>(), any::<Option<i64>>(), any::<Option<i32>>()),
        )
    }

    fn batch(schema: &Schema, rows: &[Row]) -> EventBatch {
        let decimals: Decimal128Array = rows.iter().map(|((.., decimal), _)| *decimal).collect();
        let texts: StringArray = rows.iter().map(|(_, (text, ..))| text.as_deref()).collect();
        let plain: Vec<ArrayRef> = vec![
            Arc::new(rows.iter().map(|((value, ..), _)| *value).collect::<BooleanArray>()),
            Arc::new(rows.iter().map(|((_, value, ..), _)| *value).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|((_, _, value, ..), _)| *value).collect::<UInt64Array>()),
            Arc::new(rows.iter().map(|((_, _, _, value, _), _)| *value).collect::<Float64Array>()),
            Arc::new(decimals.with_precision_and_scale(38, 3).unwrap()),
            Arc::new(texts),
            Arc::new(rows.iter().map(|(_, (_, value, ..))| *value).collect::<TimestampSecondArray>()),
            Arc::new(rows.iter().map(|(_, (_, _, value, _))| *value).collect::<TimestampNanosecondArray>()),
            Arc::new(rows.iter().map(|(_, (.., value))| *value).collect::<Date32Array>()),
        ];
        let mut misfits = Vec::new();
        let canonical = plain
            .iter()
            .zip(schema.fields())
            .map(|(column, field)| Some(crate::codec::canonical::canonical_column(column, field.ty, &mut misfits).unwrap()));
        let mut columns: Vec<Option<ArrayRef>> = canonical.collect();
        columns.push(None);
        assert_eq!(misfits, []);
        EventBatch::new(schema, 0, rows.len(), columns)
    }

    fn read(schema: &Schema, text: &[u8], rows: usize) -> EventBatch {
        let needed = (0..schema.fields().len()).map(FieldId::new).collect();
        let request = Request { schema: Arc::new(schema.clone()), needed, batch_rows: rows.max(1) };
        let decoded = JsonDecoder::new(text, request).decode().unwrap().unwrap();
        assert_eq!((decoded.input_rows, &decoded.bad[..]), (rows, &[][..]));
        EventBatch::new(schema, 0, decoded.rows, decoded.columns)
    }

    /// All values as they are shown, which tells -0 from 0, and one NaN is like another.
    fn shown(schema: &Schema, batch: &EventBatch) -> Vec<String> {
        let row =
            |row: usize| (0..schema.fields().len()).map(|field| format!("{:?}|", batch.value(schema, FieldId::new(field), row))).collect();
        (0..batch.rows()).map(row).collect()
    }

    proptest! {
        #[test]
        fn what_is_read_back_is_what_was_written(rows in proptest::collection::vec(row(), 1..20)) {
            let schema = Schema::parse("schema.yaml", SCHEMA.as_bytes()).unwrap();
            let batch = batch(&schema, &rows);
            let text = lines(&schema, &batch).unwrap();
            prop_assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), rows.len());
            prop_assert_eq!(shown(&schema, &read(&schema, &text, rows.len())), shown(&schema, &batch));
        }
    }

    #[test]
    fn a_line_says_each_field() {
        let schema = Schema::parse("schema.yaml", SCHEMA.as_bytes()).unwrap();
        let row: Row = ((Some(true), Some(-1), Some(u64::MAX), Some(0.1), Some(-5)), (Some("a\n\"".to_owned()), None, Some(7), Some(-1)));
        let text = String::from_utf8(lines(&schema, &batch(&schema, &[row])).unwrap()).unwrap();
        assert_eq!(
            text,
            "{\"b\":true,\"i\":-1,\"u\":18446744073709551615,\"f\":0.1,\"d\\\"x\":-0.005,\"t\":\"a\\n\\\"\",\"s\":null,\"n\":7,\"day\":-1}\n"
        );
        // The comparison sees a text that differs in one character.
        let other = read(&schema, text.replace("a\\n", "b\\n").as_bytes(), 1);
        assert_ne!(shown(&schema, &other), shown(&schema, &read(&schema, text.as_bytes(), 1)));
    }
}
