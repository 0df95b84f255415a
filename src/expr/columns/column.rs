//! Columns of values while an expression is evaluated, and typed views of them.

use super::truth::Truth;
use crate::event::batch::canonical_type;
use crate::event::{TimeUnit, Type, Value};
use crate::expr::scalar;
use arrow::array::types::{
    Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, IntervalMonthDayNanoType, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt64Type,
};
use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, StringArray, StringDictionaryBuilder, UInt32Array, new_null_array};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::{ArrowPrimitiveType, IntervalMonthDayNano};
use std::sync::Arc;

/// A column in the middle of an evaluation.
#[derive(Clone, Debug)]
pub enum Column {
    /// The same value in every row.
    Constant(Value),
    /// Booleans.
    Truth(Arc<Truth>),
    /// Everything else, in its canonical type.
    Array(ArrayRef),
}

/// Ticks of a canonical timestamp column.
fn timestamp_ticks(array: &dyn Array, unit: TimeUnit) -> &ScalarBuffer<i64> {
    match unit {
        TimeUnit::Second => array.as_primitive::<TimestampSecondType>().values(),
        TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().values(),
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().values(),
        TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().values(),
    }
}

/// The value of a row of a canonical column of type `ty`.
#[must_use]
pub fn value_at(array: &dyn Array, ty: Type, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match ty {
        Type::Null => Value::Null,
        Type::Bool => Value::Bool(array.as_boolean().value(row)),
        Type::Int => Value::Int(array.as_primitive::<Int64Type>().value(row)),
        Type::UInt => Value::UInt(array.as_primitive::<UInt64Type>().value(row)),
        Type::Float => Value::Float(array.as_primitive::<Float64Type>().value(row)),
        Type::Decimal { scale } => Value::Decimal { units: array.as_primitive::<Decimal128Type>().value(row), scale },
        Type::Text => {
            let array = array.as_dictionary::<Int32Type>();
            Value::Text(array.values().as_string::<i32>().value(array.keys().value(row) as usize).into())
        }
        Type::Timestamp(unit) => Value::Timestamp { ticks: timestamp_ticks(array, unit)[row], unit },
        Type::Date => Value::Date(array.as_primitive::<Date32Type>().value(row)),
        Type::Interval => {
            let IntervalMonthDayNano { months, days, nanoseconds } = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
            Value::Interval { months, days, nanoseconds }
        }
    }
}

/// A column of `ty` from values, each NULL or of that type.
pub fn build(ty: Type, values: impl Iterator<Item = Value>) -> Column {
    fn primitive<T: ArrowPrimitiveType>(values: impl Iterator<Item = Option<T::Native>>) -> PrimitiveArray<T> {
        values.collect()
    }
    macro_rules! collect {
        ($arrow:ty, $pattern:pat => $value:expr) => {
            Arc::new(primitive::<$arrow>(values.map(|value| if let $pattern = value { Some($value) } else { None })))
        };
    }
    let array: ArrayRef = match ty {
        Type::Null => return Column::Constant(Value::Null),
        Type::Bool => {
            let truths: Vec<Option<bool>> = values.map(|value| scalar::truth(&value)).collect();
            return Column::Truth(Arc::new(Truth::collect(truths.len(), |row| truths[row])));
        }
        Type::Int => collect!(Int64Type, Value::Int(n) => n),
        Type::UInt => collect!(UInt64Type, Value::UInt(n) => n),
        Type::Float => collect!(Float64Type, Value::Float(x) => x),
        Type::Decimal { scale } => {
            let array = primitive::<Decimal128Type>(values.map(|value| match value {
                Value::Decimal { units, scale: of } => scalar::decimal::rescale((units, of), scale),
                _ => None,
            }));
            Arc::new(array.with_data_type(canonical_type(Type::Decimal { scale })))
        }
        Type::Text => {
            let mut builder = StringDictionaryBuilder::<Int32Type>::new();
            // An Arrow array of texts holds 2 GiB. Only functions that lengthen texts can come near it; what is beyond is NULL.
            let (mut distinct, mut bytes) = (0, 0);
            for value in values {
                match value {
                    Value::Text(text) if bytes + text.len() <= i32::MAX as usize => {
                        if builder.append(&text).is_ok_and(|key| key == distinct) {
                            distinct += 1;
                            bytes += text.len();
                        }
                    }
                    _ => builder.append_null(),
                }
            }
            Arc::new(builder.finish())
        }
        Type::Timestamp(TimeUnit::Second) => collect!(TimestampSecondType, Value::Timestamp { ticks, .. } => ticks),
        Type::Timestamp(TimeUnit::Millisecond) => collect!(TimestampMillisecondType, Value::Timestamp { ticks, .. } => ticks),
        Type::Timestamp(TimeUnit::Microsecond) => collect!(TimestampMicrosecondType, Value::Timestamp { ticks, .. } => ticks),
        Type::Timestamp(TimeUnit::Nanosecond) => collect!(TimestampNanosecondType, Value::Timestamp { ticks, .. } => ticks),
        Type::Date => collect!(Date32Type, Value::Date(days) => days),
        Type::Interval => collect!(
            IntervalMonthDayNanoType,
            Value::Interval { months, days, nanoseconds } => IntervalMonthDayNano { months, days, nanoseconds }
        ),
    };
    Column::Array(array)
}

/// The rows of a canonical column at `indices`, which are all within it. Only the keys of text are copied.
pub fn take(array: &dyn Array, indices: &UInt32Array) -> ArrayRef {
    arrow::compute::take(array, indices, None).expect("rows of a batch are within it, and canonical types can be taken")
}

impl Column {
    /// A canonical array as a column.
    pub fn from_array(array: ArrayRef, ty: Type) -> Self {
        match ty {
            Type::Bool => Self::Truth(Arc::new(Truth::from_array(array.as_boolean()))),
            Type::Null => Self::Constant(Value::Null),
            _ => Self::Array(array),
        }
    }

    /// The canonical array of `len` rows.
    pub fn into_array(self, ty: Type, len: usize) -> ArrayRef {
        match self {
            Self::Array(array) => array,
            Self::Truth(truth) => Arc::new(truth.to_array()),
            Self::Constant(Value::Null) => new_null_array(&canonical_type(ty), len),
            Self::Constant(value) => match build(ty, std::iter::repeat_n(value, len)) {
                Self::Array(array) => array,
                Self::Truth(truth) => Arc::new(truth.to_array()),
                Self::Constant(_) => new_null_array(&canonical_type(ty), len),
            },
        }
    }

    pub fn value(&self, ty: Type, row: usize) -> Value {
        match self {
            Self::Constant(value) => value.clone(),
            Self::Truth(truth) => scalar::from_truth(truth.get(row)),
            Self::Array(array) => value_at(array.as_ref(), ty, row),
        }
    }

    /// As truths; what is not boolean is UNKNOWN.
    pub fn truth(&self, len: usize) -> Arc<Truth> {
        match self {
            Self::Truth(truth) => Arc::clone(truth),
            Self::Constant(value) => Arc::new(Truth::all(len, scalar::truth(value))),
            Self::Array(_) => Arc::new(Truth::all(len, None)),
        }
    }

    pub fn is_null(&self, len: usize) -> Self {
        match self {
            Self::Constant(value) => Self::Constant(Value::Bool(value.is_null())),
            Self::Truth(truth) => Self::Truth(Arc::new(Truth::collect(len, |row| Some(truth.get(row).is_none())))),
            Self::Array(array) => match array.nulls() {
                None => Self::Constant(Value::Bool(false)),
                Some(nulls) => Self::Truth(Arc::new(Truth::collect(len, |row| Some(nulls.is_null(row))))),
            },
        }
    }

    /// The rows at `indices`.
    pub fn gather(&self, indices: &UInt32Array) -> Self {
        match self {
            Self::Constant(value) => Self::Constant(value.clone()),
            Self::Truth(truth) => Self::Truth(Arc::new(Truth::collect(indices.len(), |row| truth.get(indices.value(row) as usize)))),
            Self::Array(array) => Self::Array(take(array.as_ref(), indices)),
        }
    }

    /// Bytes that it occupies, roughly.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Constant(_) => 0,
            Self::Truth(truth) => truth.bytes(),
            Self::Array(array) => array.get_array_memory_size(),
        }
    }
}

/// A column of plain values: a constant, or a buffer with its NULLs.
pub enum View<T: arrow::datatypes::ArrowNativeType> {
    Constant(T),
    Values(ScalarBuffer<T>, Option<NullBuffer>),
}

impl<T: arrow::datatypes::ArrowNativeType> View<T> {
    pub fn get(&self, row: usize) -> Option<T> {
        match self {
            Self::Constant(value) => Some(*value),
            Self::Values(values, Some(nulls)) if nulls.is_null(row) => None,
            Self::Values(values, _) => Some(values[row]),
        }
    }
}

/// Numbers as their nearest doubles.
pub fn floats(column: &Column, ty: Type) -> Option<View<f64>> {
    let array = match column {
        Column::Constant(value) => return scalar::nearest_double(value).map(View::Constant),
        Column::Truth(_) => return None,
        Column::Array(array) => array,
    };
    let values = match ty {
        Type::Float => array.as_primitive::<Float64Type>().values().clone(),
        Type::Int => array.as_primitive::<Int64Type>().values().iter().map(|n| *n as f64).collect(),
        Type::UInt => array.as_primitive::<UInt64Type>().values().iter().map(|n| *n as f64).collect(),
        Type::Decimal { scale } => {
            array.as_primitive::<Decimal128Type>().values().iter().map(|units| scalar::decimal::nearest_double(*units, scale)).collect()
        }
        _ => return None,
    };
    Some(View::Values(values, array.nulls().cloned()))
}

/// What one type keeps in 64 bits and compares as such: integers, ticks, days.
pub fn ints(column: &Column, ty: Type) -> Option<View<i64>> {
    match column {
        Column::Constant(value) => match (value, ty) {
            (Value::Int(n), Type::Int) => Some(View::Constant(*n)),
            (Value::Date(days), Type::Date) => Some(View::Constant(i64::from(*days))),
            (Value::Timestamp { ticks, unit }, Type::Timestamp(of)) if *unit == of => Some(View::Constant(*ticks)),
            _ => None,
        },
        Column::Truth(_) => None,
        Column::Array(array) => {
            let values = match ty {
                Type::Int => array.as_primitive::<Int64Type>().values().clone(),
                Type::Date => array.as_primitive::<Date32Type>().values().iter().map(|days| i64::from(*days)).collect(),
                Type::Timestamp(unit) => timestamp_ticks(array.as_ref(), unit).clone(),
                _ => return None,
            };
            Some(View::Values(values, array.nulls().cloned()))
        }
    }
}

/// A column of texts.
pub enum Texts<'a> {
    Constant(&'a str),
    Dictionary { keys: &'a PrimitiveArray<Int32Type>, values: &'a StringArray },
}

impl<'a> Texts<'a> {
    #[inline]
    pub fn get(&self, row: usize) -> Option<&'a str> {
        match self {
            Self::Constant(text) => Some(text),
            Self::Dictionary { keys, values } => (!keys.is_null(row)).then(|| values.value(keys.value(row) as usize)),
        }
    }
}

pub fn texts(column: &Column) -> Option<Texts<'_>> {
    match column {
        Column::Constant(Value::Text(text)) => Some(Texts::Constant(text)),
        Column::Array(array) => {
            let array = array.as_dictionary_opt::<Int32Type>()?;
            Some(Texts::Dictionary { keys: array.keys(), values: array.values().as_string_opt::<i32>()? })
        }
        _ => None,
    }
}
