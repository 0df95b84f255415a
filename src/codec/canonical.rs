//! Arrow arrays of any physical type to canonical columns.

use super::columns::{Cell, ColumnBuilder, Interner, dictionary, text_array, timestamp_array};
use crate::event::batch::canonical_type;
use crate::event::{TimeUnit, Type};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, LargeStringArray, StringArray, StringViewArray, new_null_array};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{self as arrow_types, DataType, i256};
use std::sync::Arc;

/// A dictionary with this many values more than twice the rows of its batch is cut down to the values in use.
const SPARE_VALUES: usize = 1024;

/// The type of a field that a file holds as `data_type`; `None` where the engine has no such type.
#[must_use]
pub fn type_of(data_type: &DataType) -> Option<Type> {
    Some(match data_type {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Type::Int,
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => Type::Int,
        DataType::UInt64 => Type::UInt,
        DataType::Float16 | DataType::Float32 | DataType::Float64 => Type::Float,
        DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) | DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => {
            Type::Decimal { scale: u8::try_from(*scale).ok().filter(|scale| *scale <= 38)? }
        }
        DataType::Boolean => Type::Bool,
        // A column of NULLs says nothing about its type.
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => Type::Text,
        DataType::Dictionary(_, values) if !matches!(values.as_ref(), DataType::Dictionary(..)) => type_of(values)?,
        DataType::Timestamp(unit, _) => Type::Timestamp(time_unit(*unit)),
        DataType::Date32 | DataType::Date64 => Type::Date,
        _ => return None,
    })
}

const fn time_unit(unit: arrow_types::TimeUnit) -> TimeUnit {
    match unit {
        arrow_types::TimeUnit::Second => TimeUnit::Second,
        arrow_types::TimeUnit::Millisecond => TimeUnit::Millisecond,
        arrow_types::TimeUnit::Microsecond => TimeUnit::Microsecond,
        arrow_types::TimeUnit::Nanosecond => TimeUnit::Nanosecond,
    }
}

/// Whether some value held as `data_type` may be a value of `ty`. Where none may, the file and the schema contradict each other.
#[must_use]
pub fn convertible(data_type: &DataType, ty: Type) -> bool {
    if *data_type == DataType::Null {
        return true;
    }
    let from = match data_type {
        DataType::Dictionary(_, values) => values.as_ref(),
        other => other,
    };
    let decimal = matches!(from, DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..));
    // Decimals of any scale have values within any numeric type.
    let Some(from) = (if decimal { Some(Type::Decimal { scale: 0 }) } else { type_of(from) }) else { return false };
    match (from, ty) {
        (_, Type::Null | Type::Interval) => false,
        (Type::Text, _) | (_, Type::Text) => true,
        (Type::Timestamp(_) | Type::Date, Type::Timestamp(_) | Type::Date) => true,
        (Type::Timestamp(_) | Type::Date, _) | (Type::Bool, Type::Timestamp(_) | Type::Date) => false,
        _ => true,
    }
}

/// The values of `array` as a canonical column of `ty`. Each value that does not fit exactly is NULL in the column, and its row
/// and the reason are added to `misfits`.
///
/// # Errors
/// When no value of the array's type can be one of `ty`.
pub fn canonical_column(array: &ArrayRef, ty: Type, misfits: &mut Vec<(usize, String)>) -> Result<ArrayRef, String> {
    let from = array.data_type();
    let target = canonical_type(ty);
    if *from == DataType::Null {
        return Ok(new_null_array(&target, array.len()));
    }
    if !convertible(from, ty) {
        return Err(format!("it is {from} in the file, which cannot be {ty}"));
    }
    let fault = |fault: arrow::error::ArrowError| fault.to_string();
    if ty == Type::Text
        && let Some(column) = text_column(array)?
    {
        return Ok(column);
    }
    if let DataType::Dictionary(_, values) = from {
        return canonical_column(&cast(array, values).map_err(fault)?, ty, misfits);
    }
    let lossless = match (from, ty) {
        (_, _) if *from == target => return Ok(Arc::clone(array)),
        (DataType::Timestamp(unit, _), Type::Timestamp(wanted)) if time_unit(*unit) == wanted => {
            // With or without a zone, ticks count from the same instant.
            let ticks = cast(array, &DataType::Int64).map_err(fault)?;
            let ticks = ticks.as_primitive::<arrow_types::Int64Type>();
            return Ok(timestamp_array(ticks.values().clone(), ticks.nulls().cloned(), wanted));
        }
        (
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 | DataType::UInt32,
            Type::Int | Type::Float,
        )
        | (DataType::UInt8 | DataType::UInt16 | DataType::UInt32, Type::UInt)
        | (DataType::Float16 | DataType::Float32, Type::Float) => true,
        (
            DataType::Decimal32(_, from_scale) | DataType::Decimal64(_, from_scale) | DataType::Decimal128(_, from_scale),
            Type::Decimal { scale },
        ) => *from_scale == scale as i8,
        _ => false,
    };
    if lossless {
        return cast_with_options(array, &target, &CastOptions { safe: false, ..CastOptions::default() }).map_err(fault);
    }
    let cells = Cells::of(array).ok_or_else(|| format!("it is {from} in the file, which cannot be {ty}"))?;
    let mut builder = ColumnBuilder::new(ty, array.len());
    for row in 0..array.len() {
        let cell = if array.is_null(row) { Cell::Null } else { cells.get(row) };
        if let Err(reason) = builder.push(&cell) {
            builder.push_null();
            misfits.push((row, reason));
        }
    }
    Ok(builder.finish())
}

/// Texts of any physical layout.
enum Texts<'a> {
    Small(&'a StringArray),
    Large(&'a LargeStringArray),
    View(&'a StringViewArray),
}

impl<'a> Texts<'a> {
    fn of(array: &'a dyn Array) -> Option<Self> {
        Some(match array.data_type() {
            DataType::Utf8 => Self::Small(array.as_string()),
            DataType::LargeUtf8 => Self::Large(array.as_string()),
            DataType::Utf8View => Self::View(array.as_string_view()),
            _ => return None,
        })
    }

    fn get(&self, row: usize) -> &'a str {
        match self {
            Self::Small(texts) => texts.value(row),
            Self::Large(texts) => texts.value(row),
            Self::View(texts) => texts.value(row),
        }
    }
}

const TOO_MUCH_TEXT: &str = "a batch holds more than 2 GiB of different texts; read it in smaller batches";

/// The canonical column of an array of texts or of a dictionary of them; `None` for any other array.
fn text_column(array: &ArrayRef) -> Result<Option<ArrayRef>, String> {
    if let Some(texts) = Texts::of(array.as_ref()) {
        let mut interner = Interner::default();
        let mut keys = Vec::with_capacity(array.len());
        for row in 0..array.len() {
            keys.push(if array.is_null(row) { 0 } else { interner.intern(texts.get(row)).ok_or(TOO_MUCH_TEXT)? });
        }
        return Ok(Some(text_array(keys.into(), array.nulls().cloned(), interner)));
    }
    let Some(encoded) = array.as_any_dictionary_opt() else { return Ok(None) };
    let values = encoded.values();
    let Some(texts) = Texts::of(values.as_ref()) else { return Ok(None) };
    let keys = cast(encoded.keys(), &DataType::Int64).map_err(|fault| fault.to_string())?;
    let keys = keys.as_primitive::<arrow_types::Int64Type>();
    let small = values.len() <= 2 * array.len() + SPARE_VALUES;
    if small && values.null_count() == 0 {
        if *array.data_type() == canonical_type(Type::Text) {
            return Ok(Some(Arc::clone(array)));
        }
        // The dictionary is kept; keys and values only change their width.
        let keys = Int32Array::new(keys.values().iter().map(|key| *key as i32).collect(), keys.nulls().cloned());
        if let Ok(values) = cast(values, &DataType::Utf8) {
            return Ok(Some(dictionary(keys, values)));
        }
    }
    const UNSEEN: i32 = -1;
    let mut numbers = vec![UNSEEN; values.len()];
    let mut interner = Interner::default();
    let mut compact = Vec::with_capacity(array.len());
    let mut valid = Vec::with_capacity(array.len());
    for row in 0..array.len() {
        let value = if keys.is_null(row) { None } else { usize::try_from(keys.value(row)).ok() };
        match value.filter(|value| *value < values.len() && values.is_valid(*value)) {
            None => {
                compact.push(0);
                valid.push(false);
            }
            Some(value) => {
                if numbers[value] == UNSEEN {
                    numbers[value] = interner.intern(texts.get(value)).ok_or(TOO_MUCH_TEXT)?;
                }
                compact.push(numbers[value]);
                valid.push(true);
            }
        }
    }
    let nulls = if valid.iter().all(|valid| *valid) { None } else { Some(BooleanArray::from(valid).values().clone().into()) };
    Ok(Some(text_array(compact.into(), nulls, interner)))
}

/// Single values of an array that is no dictionary.
enum Cells<'a> {
    Bool(&'a BooleanArray),
    /// Signed integers, and unsigned ones up to 32 bits.
    Int(ArrayRef),
    UInt(&'a arrow::array::UInt64Array),
    Float(&'a arrow::array::Float64Array),
    Single(ArrayRef),
    /// Decimals up to 128 bits.
    Decimal(ArrayRef, i8),
    Decimal256(&'a arrow::array::Decimal256Array, i8),
    Text(Texts<'a>),
    Timestamp(ArrayRef, TimeUnit),
    Date(&'a arrow::array::Date32Array),
    DateMilliseconds(&'a arrow::array::Date64Array),
}

impl<'a> Cells<'a> {
    fn of(array: &'a ArrayRef) -> Option<Self> {
        Some(match array.data_type() {
            DataType::Boolean => Self::Bool(array.as_boolean()),
            DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt8
            | DataType::UInt16
            | DataType::UInt32 => Self::Int(cast(array, &DataType::Int64).ok()?),
            DataType::UInt64 => Self::UInt(array.as_primitive()),
            DataType::Float16 | DataType::Float32 => Self::Single(cast(array, &DataType::Float32).ok()?),
            DataType::Float64 => Self::Float(array.as_primitive()),
            DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) | DataType::Decimal128(_, scale) => {
                Self::Decimal(cast(array, &DataType::Decimal128(38, *scale)).ok()?, *scale)
            }
            DataType::Decimal256(_, scale) => Self::Decimal256(array.as_primitive(), *scale),
            DataType::Timestamp(unit, _) => Self::Timestamp(cast(array, &DataType::Int64).ok()?, time_unit(*unit)),
            DataType::Date32 => Self::Date(array.as_primitive()),
            DataType::Date64 => Self::DateMilliseconds(array.as_primitive()),
            _ => Self::Text(Texts::of(array.as_ref())?),
        })
    }

    fn get(&self, row: usize) -> Cell<'_> {
        match self {
            Self::Bool(values) => Cell::Bool(values.value(row)),
            Self::Int(values) => Cell::Int(i128::from(values.as_primitive::<arrow_types::Int64Type>().value(row))),
            Self::UInt(values) => Cell::Int(i128::from(values.value(row))),
            Self::Float(values) => Cell::Float(values.value(row)),
            Self::Single(values) => Cell::Single(values.as_primitive::<arrow_types::Float32Type>().value(row)),
            Self::Decimal(values, scale) => {
                let units = i256::from_i128(values.as_primitive::<arrow_types::Decimal128Type>().value(row));
                Cell::Decimal { units, scale: *scale }
            }
            Self::Decimal256(values, scale) => Cell::Decimal { units: values.value(row), scale: *scale },
            Self::Text(texts) => Cell::Text(texts.get(row)),
            Self::Timestamp(values, unit) => {
                Cell::Timestamp { ticks: values.as_primitive::<arrow_types::Int64Type>().value(row), unit: *unit }
            }
            Self::Date(values) => Cell::Date(values.value(row)),
            Self::DateMilliseconds(values) => Cell::DateMilliseconds(values.value(row)),
        }
    }
}
