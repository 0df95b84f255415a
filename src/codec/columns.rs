//! Columns under construction: single values of any origin are fitted to the type of their field, exactly or not at all.

use super::text;
use crate::event::batch::canonical_type;
use crate::event::{TimeUnit, Type};
use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float64Array, Int32Array, Int64Array, StringArray, UInt64Array,
    cast::AsArray, new_null_array,
};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::{Int32Type, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, i256};
use std::collections::HashMap;
use std::sync::Arc;

const MILLISECONDS_IN_DAY: i64 = 86_400_000;
/// Above this a double no longer holds every whole number.
const EXACT_FLOAT: i128 = 1 << f64::MANTISSA_DIGITS;

/// One value as a source holds it.
#[derive(Clone, Copy, Debug)]
pub enum Cell<'a> {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    /// A float of 32 bits; its shortest decimal text is another than that of the same double.
    Single(f32),
    /// `units` / 10^`scale`.
    Decimal {
        units: i256,
        scale: i8,
    },
    /// Text that may stand for a value of another type (a field of CSV, a string column).
    Text(&'a str),
    /// A number in JSON, as written.
    Number(&'a str),
    /// Ticks since 1970-01-01T00:00:00Z.
    Timestamp {
        ticks: i64,
        unit: TimeUnit,
    },
    /// Days since 1970-01-01.
    Date(i32),
    /// Milliseconds since 1970-01-01, for a day.
    DateMilliseconds(i64),
}

/// A value as messages show it, shortened.
pub fn show(cell: &Cell<'_>) -> String {
    match cell {
        Cell::Text(text) => format!("'{}'", shorten(text)),
        Cell::Number(text) => shorten(text),
        other => text_of(other).map_or_else(|| "NULL".to_owned(), |text| shorten(&text)),
    }
}

/// The first characters of `text`.
pub fn shorten(text: &str) -> String {
    const SHOWN: usize = 80;
    match text.char_indices().nth(SHOWN) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// The text of a value; `None` for NULL.
fn text_of(cell: &Cell<'_>) -> Option<String> {
    Some(match *cell {
        Cell::Null => return None,
        Cell::Bool(value) => value.to_string(),
        Cell::Int(value) => value.to_string(),
        Cell::Float(value) => value.to_string(),
        Cell::Single(value) => value.to_string(),
        Cell::Decimal { units, scale } => text::format_decimal(&units.to_string(), i32::from(scale)),
        Cell::Text(value) | Cell::Number(value) => value.to_owned(),
        Cell::Timestamp { ticks, unit } => text::format_timestamp(ticks, unit),
        Cell::Date(days) => text::format_date(i64::from(days)),
        Cell::DateMilliseconds(ticks) if ticks % MILLISECONDS_IN_DAY == 0 => text::format_date(ticks / MILLISECONDS_IN_DAY),
        Cell::DateMilliseconds(ticks) => text::format_timestamp(ticks, TimeUnit::Millisecond),
    })
}

/// The exact number that a value is, `None` where it is none or is not decimal within 38 digits.
fn exact_of(cell: &Cell<'_>) -> Option<text::Exact> {
    match *cell {
        Cell::Bool(value) => Some(text::Exact { units: i128::from(value), scale: 0 }),
        Cell::Int(units) => Some(text::Exact { units, scale: 0 }),
        // The shortest text that reads back as the same float: what its writer meant by it.
        Cell::Float(value) => text::parse_exact(&value.to_string()),
        Cell::Single(value) => text::parse_exact(&value.to_string()),
        Cell::Decimal { mut units, mut scale } => {
            let ten = i256::from_i128(10);
            while scale < 0 {
                units = units.checked_mul(ten)?;
                scale += 1;
            }
            while scale > 0 && units.checked_rem(ten)? == i256::ZERO {
                units = units.checked_div(ten)?;
                scale -= 1;
            }
            Some(text::Exact { units: units.to_i128()?, scale: u32::try_from(scale).ok()? })
        }
        Cell::Text(value) => text::parse_exact(value.trim()),
        Cell::Number(value) => text::parse_exact(value),
        Cell::Null | Cell::Timestamp { .. } | Cell::Date(_) | Cell::DateMilliseconds(_) => None,
    }
}

/// The whole number that a value is.
fn whole_of(cell: &Cell<'_>) -> Option<i128> {
    match *cell {
        Cell::Int(value) => Some(value),
        // Integers are the common case of numbers as text.
        Cell::Number(value) | Cell::Text(value) => {
            value.parse::<i64>().map(i128::from).ok().or_else(|| exact_of(cell).filter(|exact| exact.scale == 0).map(|exact| exact.units))
        }
        _ => exact_of(cell).filter(|exact| exact.scale == 0).map(|exact| exact.units),
    }
}

fn bool_of(cell: &Cell<'_>) -> Option<bool> {
    if let Cell::Bool(value) = *cell {
        return Some(value);
    }
    if let Cell::Text(value) = *cell {
        let value = value.trim();
        if value.eq_ignore_ascii_case("true") {
            return Some(true);
        }
        if value.eq_ignore_ascii_case("false") {
            return Some(false);
        }
    }
    match whole_of(cell)? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

/// The float that a value is. Integers must be held exactly; decimals and text become the nearest double, as a float literal would.
fn float_of(cell: &Cell<'_>) -> Option<f64> {
    match *cell {
        Cell::Float(value) => Some(value),
        Cell::Single(value) => Some(f64::from(value)),
        Cell::Bool(value) => Some(f64::from(u8::from(value))),
        Cell::Int(value) => {
            // Beyond 2^53 the doubles are whole numbers: some integers are among them.
            let nearest = value as f64;
            (value.abs() <= EXACT_FLOAT || nearest as i128 == value).then_some(nearest)
        }
        Cell::Decimal { .. } => text::parse_float(&text_of(cell)?, false),
        Cell::Number(value) => text::parse_float(value, false),
        Cell::Text(value) => text::parse_float(value.trim(), true),
        Cell::Null | Cell::Timestamp { .. } | Cell::Date(_) | Cell::DateMilliseconds(_) => None,
    }
}

fn decimal_of(cell: &Cell<'_>, scale: u8) -> Option<i128> {
    let exact = exact_of(cell)?;
    let missing = u32::from(scale).checked_sub(exact.scale)?;
    let units = exact.units.checked_mul(10_i128.checked_pow(missing)?)?;
    (units.unsigned_abs() < 10_u128.pow(38)).then_some(units)
}

fn timestamp_of(cell: &Cell<'_>, unit: TimeUnit) -> Option<i64> {
    let rescaled = |ticks: i64, from: i64| {
        let scaled = i128::from(ticks) * i128::from(unit.ticks_per_second());
        if scaled % i128::from(from) == 0 { i64::try_from(scaled / i128::from(from)).ok() } else { None }
    };
    match *cell {
        Cell::Timestamp { ticks, unit: from } => rescaled(ticks, from.ticks_per_second()),
        Cell::Date(days) => rescaled(i64::from(days) * 86_400, 1),
        Cell::DateMilliseconds(ticks) => rescaled(ticks, 1_000),
        Cell::Text(value) => text::parse_timestamp(value.trim(), unit),
        Cell::Bool(_) => None,
        _ => whole_of(cell).and_then(|ticks| i64::try_from(ticks).ok()),
    }
}

fn date_of(cell: &Cell<'_>) -> Option<i32> {
    let day = |ticks: i64, in_day: i64| if ticks % in_day == 0 { i32::try_from(ticks / in_day).ok() } else { None };
    match *cell {
        Cell::Date(days) => Some(days),
        Cell::DateMilliseconds(ticks) => day(ticks, MILLISECONDS_IN_DAY),
        Cell::Timestamp { ticks, unit } => day(ticks, unit.ticks_per_second() * 86_400),
        Cell::Text(value) => {
            let value = value.trim();
            // An instant at midnight is a day.
            text::parse_date(value).or_else(|| day(text::parse_timestamp(value, TimeUnit::Second)?, 86_400))
        }
        Cell::Bool(_) => None,
        _ => whole_of(cell).and_then(|days| i32::try_from(days).ok()),
    }
}

/// Distinct texts of one batch, each with its number.
#[derive(Default)]
pub struct Interner {
    numbers: HashMap<Arc<str>, i32, foldhash::fast::RandomState>,
    texts: Vec<Arc<str>>,
    bytes: usize,
}

impl Interner {
    /// The number of `text`; `None` where the dictionary would outgrow its 32-bit offsets.
    pub fn intern(&mut self, text: &str) -> Option<i32> {
        if let Some(number) = self.numbers.get(text) {
            return Some(*number);
        }
        let number = i32::try_from(self.texts.len()).ok()?;
        self.bytes = self.bytes.checked_add(text.len()).filter(|bytes| *bytes < i32::MAX as usize)?;
        let text: Arc<str> = text.into();
        self.texts.push(Arc::clone(&text));
        self.numbers.insert(text, number);
        Some(number)
    }

    /// The texts in the order of their numbers.
    fn finish(self) -> StringArray {
        StringArray::from_iter_values(&self.texts)
    }
}

enum Values {
    Bool(Vec<bool>),
    Int(Vec<i64>),
    UInt(Vec<u64>),
    Float(Vec<f64>),
    Decimal(Vec<i128>, u8),
    Text(Vec<i32>, Interner),
    Timestamp(Vec<i64>, TimeUnit),
    Date(Vec<i32>),
    /// A type that no field of a file has: only NULLs.
    Nothing,
}

/// A column of one field, built a value at a time.
pub struct ColumnBuilder {
    ty: Type,
    values: Values,
    valid: Vec<bool>,
}

impl ColumnBuilder {
    #[must_use]
    pub fn new(ty: Type, rows: usize) -> Self {
        let values = match ty {
            Type::Bool => Values::Bool(Vec::with_capacity(rows)),
            Type::Int => Values::Int(Vec::with_capacity(rows)),
            Type::UInt => Values::UInt(Vec::with_capacity(rows)),
            Type::Float => Values::Float(Vec::with_capacity(rows)),
            Type::Decimal { scale } => Values::Decimal(Vec::with_capacity(rows), scale),
            Type::Text => Values::Text(Vec::with_capacity(rows), Interner::default()),
            Type::Timestamp(unit) => Values::Timestamp(Vec::with_capacity(rows), unit),
            Type::Date => Values::Date(Vec::with_capacity(rows)),
            Type::Null | Type::Interval => Values::Nothing,
        };
        Self { ty, values, valid: Vec::with_capacity(rows) }
    }

    #[must_use]
    pub const fn ty(&self) -> Type {
        self.ty
    }

    /// Rows so far.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.valid.len()
    }

    /// Forgets all rows from `rows` on.
    pub fn truncate(&mut self, rows: usize) {
        self.valid.truncate(rows);
        match &mut self.values {
            Values::Bool(values) => values.truncate(rows),
            Values::Int(values) | Values::Timestamp(values, _) => values.truncate(rows),
            Values::UInt(values) => values.truncate(rows),
            Values::Float(values) => values.truncate(rows),
            Values::Decimal(values, _) => values.truncate(rows),
            Values::Text(keys, _) => keys.truncate(rows),
            Values::Date(values) => values.truncate(rows),
            Values::Nothing => {}
        }
    }

    /// Appends a value. Where it does not fit the type exactly, nothing is appended and the reason comes back.
    pub fn push(&mut self, cell: &Cell<'_>) -> Result<(), String> {
        if matches!(cell, Cell::Null) {
            self.push_null();
            return Ok(());
        }
        let fits = match &mut self.values {
            Values::Bool(values) => bool_of(cell).map(|value| values.push(value)),
            Values::Int(values) => whole_of(cell).and_then(|value| i64::try_from(value).ok()).map(|value| values.push(value)),
            Values::UInt(values) => whole_of(cell).and_then(|value| u64::try_from(value).ok()).map(|value| values.push(value)),
            Values::Float(values) => float_of(cell).map(|value| values.push(value)),
            Values::Decimal(values, scale) => decimal_of(cell, *scale).map(|value| values.push(value)),
            Values::Text(keys, interner) => match cell {
                Cell::Text(text) | Cell::Number(text) => interner.intern(text),
                other => text_of(other).and_then(|text| interner.intern(&text)),
            }
            .map(|key| keys.push(key)),
            Values::Timestamp(values, unit) => timestamp_of(cell, *unit).map(|value| values.push(value)),
            Values::Date(values) => date_of(cell).map(|value| values.push(value)),
            Values::Nothing => None,
        };
        match fits {
            Some(()) => {
                self.valid.push(true);
                Ok(())
            }
            None => Err(format!("{} does not fit {}", show(cell), self.ty)),
        }
    }

    pub fn push_null(&mut self) {
        self.valid.push(false);
        match &mut self.values {
            Values::Bool(values) => values.push(false),
            Values::Int(values) | Values::Timestamp(values, _) => values.push(0),
            Values::UInt(values) => values.push(0),
            Values::Float(values) => values.push(0.0),
            Values::Decimal(values, _) => values.push(0),
            Values::Text(keys, _) => keys.push(0),
            Values::Date(values) => values.push(0),
            Values::Nothing => {}
        }
    }

    /// The column as a canonical array.
    #[must_use]
    pub fn finish(self) -> ArrayRef {
        let rows = self.valid.len();
        let nulls = if self.valid.iter().all(|valid| *valid) { None } else { Some(NullBuffer::from(self.valid)) };
        match self.values {
            Values::Bool(values) => Arc::new(BooleanArray::new(values.into(), nulls)),
            Values::Int(values) => Arc::new(Int64Array::new(values.into(), nulls)),
            Values::UInt(values) => Arc::new(UInt64Array::new(values.into(), nulls)),
            Values::Float(values) => Arc::new(Float64Array::new(values.into(), nulls)),
            Values::Decimal(values, _) => Arc::new(Decimal128Array::new(values.into(), nulls).with_data_type(canonical_type(self.ty))),
            Values::Text(keys, interner) => text_array(keys.into(), nulls, interner),
            Values::Timestamp(values, unit) => timestamp_array(values.into(), nulls, unit),
            Values::Date(values) => Arc::new(Date32Array::new(values.into(), nulls)),
            Values::Nothing => new_null_array(&canonical_type(self.ty), rows),
        }
    }
}

/// A dictionary array of numbers that came from `interner`.
pub fn text_array(keys: ScalarBuffer<i32>, nulls: Option<NullBuffer>, interner: Interner) -> ArrayRef {
    dictionary(Int32Array::new(keys, nulls), Arc::new(interner.finish()))
}

/// A dictionary array; the keys of valid rows lie within `values`.
pub fn dictionary(keys: Int32Array, values: ArrayRef) -> ArrayRef {
    let rows = keys.len();
    match DictionaryArray::<Int32Type>::try_new(keys, values) {
        Ok(array) => Arc::new(array),
        // Keys are numbers of `values`, so this is out of reach; NULLs are the harmless answer.
        Err(_) => new_null_array(&canonical_type(Type::Text), rows),
    }
}

/// A canonical timestamp array of `unit`.
pub fn timestamp_array(ticks: ScalarBuffer<i64>, nulls: Option<NullBuffer>, unit: TimeUnit) -> ArrayRef {
    let ticks = Int64Array::new(ticks, nulls);
    match unit {
        TimeUnit::Second => Arc::new(ticks.reinterpret_cast::<TimestampSecondType>()),
        TimeUnit::Millisecond => Arc::new(ticks.reinterpret_cast::<TimestampMillisecondType>()),
        TimeUnit::Microsecond => Arc::new(ticks.reinterpret_cast::<TimestampMicrosecondType>()),
        TimeUnit::Nanosecond => Arc::new(ticks.reinterpret_cast::<TimestampNanosecondType>()),
    }
}

/// The dictionary's texts, where it is a canonical text column.
#[must_use]
pub fn texts(array: &ArrayRef) -> Option<&StringArray> {
    array.as_dictionary_opt::<Int32Type>()?.values().as_string_opt::<i32>()
}
