//! A batch of events as columns of canonical Arrow arrays: one array type for each [`Type`].

use super::schema::{Schema, TimeUnit, Type};
use super::value::Value;
use crate::id::FieldId;
use arrow::array::types::{
    Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, IntervalMonthDayNanoType, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt64Type,
};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringArray, new_null_array};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, IntervalMonthDayNano};
use std::sync::Arc;

/// The Arrow type in which the engine holds columns of `ty`.
///
/// Text is dictionary-encoded (`Int32` keys, `Utf8` values, no NULL among the values), so that whatever must look at a
/// string looks at each distinct one once. Timestamps carry no zone: their ticks are UTC.
#[must_use]
pub fn canonical_type(ty: Type) -> DataType {
    match ty {
        Type::Null => DataType::Null,
        Type::Bool => DataType::Boolean,
        Type::Int => DataType::Int64,
        Type::UInt => DataType::UInt64,
        Type::Float => DataType::Float64,
        Type::Decimal { scale } => DataType::Decimal128(38, scale as i8),
        Type::Text => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
        Type::Timestamp(unit) => DataType::Timestamp(
            match unit {
                TimeUnit::Second => arrow::datatypes::TimeUnit::Second,
                TimeUnit::Millisecond => arrow::datatypes::TimeUnit::Millisecond,
                TimeUnit::Microsecond => arrow::datatypes::TimeUnit::Microsecond,
                TimeUnit::Nanosecond => arrow::datatypes::TimeUnit::Nanosecond,
            },
            None,
        ),
        Type::Date => DataType::Date32,
        Type::Interval => DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano),
    }
}

/// Ticks of a canonical timestamp column.
#[must_use]
pub fn timestamp_ticks(array: &dyn Array, unit: TimeUnit) -> &ScalarBuffer<i64> {
    match unit {
        TimeUnit::Second => array.as_primitive::<TimestampSecondType>().values(),
        TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().values(),
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().values(),
        TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().values(),
    }
}

/// The value of a row of a canonical column of type `ty`. Of many rows [`Cells`] tell them sooner.
#[must_use]
pub fn value_at(array: &dyn Array, ty: Type, row: usize) -> Value {
    Cells::new(array, ty).value(row)
}

/// A canonical column to be read row by row: what its type is, is looked at once.
#[derive(Clone, Copy)]
pub struct Cells<'b> {
    nulls: Option<&'b NullBuffer>,
    pub ty: Type,
    pub values: CellValues<'b>,
}

/// The values of a column; NULLs have any.
#[derive(Clone, Copy)]
pub enum CellValues<'b> {
    /// All are NULL.
    Nulls,
    Bools(&'b BooleanArray),
    /// Whole numbers, floats and instants, by their bits.
    Words(&'b [u64]),
    Dates(&'b [i32]),
    Decimals(&'b [i128]),
    /// For each row the number of its text.
    Texts(&'b [i32], &'b StringArray),
    Intervals(&'b [IntervalMonthDayNano]),
}

impl<'b> Cells<'b> {
    /// The cells of a column of the [`canonical_type`] of `ty`.
    ///
    /// # Panics
    /// When it is of another type.
    #[must_use]
    pub fn new(array: &'b dyn Array, ty: Type) -> Self {
        let values = match ty {
            Type::Null => CellValues::Nulls,
            Type::Bool => CellValues::Bools(array.as_boolean()),
            Type::Int => CellValues::Words(bytemuck::cast_slice(array.as_primitive::<Int64Type>().values())),
            Type::UInt => CellValues::Words(array.as_primitive::<UInt64Type>().values()),
            Type::Float => CellValues::Words(bytemuck::cast_slice(array.as_primitive::<Float64Type>().values())),
            Type::Timestamp(unit) => CellValues::Words(bytemuck::cast_slice(timestamp_ticks(array, unit))),
            Type::Date => CellValues::Dates(array.as_primitive::<Date32Type>().values()),
            Type::Decimal { .. } => CellValues::Decimals(array.as_primitive::<Decimal128Type>().values()),
            Type::Text => {
                let array = array.as_dictionary::<Int32Type>();
                CellValues::Texts(array.keys().values(), array.values().as_string())
            }
            Type::Interval => CellValues::Intervals(array.as_primitive::<IntervalMonthDayNanoType>().values()),
        };
        Self { nulls: array.nulls(), ty, values }
    }

    /// Whether the cell of a row is other than NULL, where the column is not one of NULLs alone.
    #[inline]
    #[must_use]
    pub fn is_valid(&self, row: usize) -> bool {
        self.nulls.is_none_or(|nulls| nulls.is_valid(row))
    }

    #[inline]
    #[must_use]
    pub fn value(&self, row: usize) -> Value {
        if !self.is_valid(row) {
            return Value::Null;
        }
        match self.values {
            CellValues::Nulls => Value::Null,
            CellValues::Bools(values) => Value::Bool(values.value(row)),
            CellValues::Words(words) => match self.ty {
                Type::UInt => Value::UInt(words[row]),
                Type::Float => Value::Float(f64::from_bits(words[row])),
                Type::Timestamp(unit) => Value::Timestamp { ticks: words[row].cast_signed(), unit },
                _ => Value::Int(words[row].cast_signed()),
            },
            CellValues::Dates(days) => Value::Date(days[row]),
            CellValues::Decimals(units) => {
                Value::Decimal { units: units[row], scale: if let Type::Decimal { scale } = self.ty { scale } else { 0 } }
            }
            CellValues::Texts(numbers, texts) => Value::Text(texts.value(numbers[row] as usize).into()),
            CellValues::Intervals(intervals) => {
                let IntervalMonthDayNano { months, days, nanoseconds } = intervals[row];
                Value::Interval { months, days, nanoseconds }
            }
        }
    }
}

/// Events in rows, fields in columns. Column `i` belongs to field `i` of the schema; a column that no reader was asked for,
/// or that the source does not have, is absent, and every value of it is NULL.
#[derive(Clone, Debug)]
pub struct EventBatch {
    /// The number of the first input row that the batch covers, counted over all inputs in order. Rows that were left out have numbers,
    /// too: [`EventBatch::row_number`] knows each row's own.
    pub first_row: u64,
    rows: usize,
    columns: Vec<Option<ArrayRef>>,
    /// The number of each row, ascending unless rows were put in the order of their time; absent where they follow `first_row` without a gap.
    row_numbers: Option<Arc<[u64]>>,
}

impl EventBatch {
    /// A batch of `rows` rows; each present column has that length and the [`canonical_type`] of its field.
    ///
    /// # Panics
    /// When a column has another length or type: codecs deliver canonical columns.
    #[must_use]
    pub fn new(schema: &Schema, first_row: u64, rows: usize, columns: Vec<Option<ArrayRef>>) -> Self {
        assert_eq!(columns.len(), schema.fields().len(), "one column, present or absent, for each field");
        for (field, column) in schema.fields().iter().zip(&columns) {
            if let Some(column) = column {
                assert_eq!(column.len(), rows, "length of column {}", field.name);
                assert_eq!(column.data_type(), &canonical_type(field.ty), "type of column {}", field.name);
            }
        }
        Self { first_row, rows, columns, row_numbers: None }
    }

    /// The batch with the columns of further fields, which `schema` has behind those of the batch.
    ///
    /// # Panics
    /// When a column has another length or type than it should.
    #[must_use]
    pub fn with_columns(&self, schema: &Schema, more: impl IntoIterator<Item = ArrayRef>) -> Self {
        let columns = self.columns.iter().cloned().chain(more.into_iter().map(Some)).collect();
        Self { row_numbers: self.row_numbers.clone(), ..Self::new(schema, self.first_row, self.rows, columns) }
    }

    /// The batch with the number of each row over all inputs, for a batch from which rows were left out.
    ///
    /// # Panics
    /// When there are more or fewer numbers than rows.
    #[must_use]
    pub fn with_row_numbers(mut self, numbers: Vec<u64>) -> Self {
        assert_eq!(numbers.len(), self.rows, "one number for each row");
        self.row_numbers = Some(numbers.into());
        self
    }

    /// The number of row `row`, counted over all inputs in order.
    #[must_use]
    pub fn row_number(&self, row: usize) -> u64 {
        self.row_numbers.as_ref().map_or(self.first_row + row as u64, |numbers| numbers[row])
    }

    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// The column of `field`, if present.
    #[must_use]
    pub fn column(&self, field: FieldId) -> Option<&ArrayRef> {
        self.columns[field.index()].as_ref()
    }

    /// The column of `field`; where it is absent, one of NULLs.
    #[must_use]
    pub fn column_or_null(&self, schema: &Schema, field: FieldId) -> ArrayRef {
        self.column(field).cloned().unwrap_or_else(|| new_null_array(&canonical_type(schema.field(field).ty), self.rows))
    }

    /// The cells of the column of `field`, if present.
    #[must_use]
    pub fn cells(&self, schema: &Schema, field: FieldId) -> Option<Cells<'_>> {
        self.column(field).map(|column| Cells::new(column.as_ref(), schema.field(field).ty))
    }

    /// The value of `field` in `row`; NULL where the column is absent.
    #[must_use]
    pub fn value(&self, schema: &Schema, field: FieldId, row: usize) -> Value {
        self.column(field).map_or(Value::Null, |column| value_at(column.as_ref(), schema.field(field).ty, row))
    }

    /// All values of `row`, by field.
    #[must_use]
    pub fn row(&self, schema: &Schema, row: usize) -> Vec<Value> {
        (0..schema.fields().len()).map(|field| self.value(schema, FieldId::new(field), row)).collect()
    }
}
