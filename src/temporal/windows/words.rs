//! Columns as words of 64 bits, which rows are held as, and back.

use super::keys::Texts;
use crate::event::batch::{CellValues, Cells, canonical_type};
use crate::event::{Type, key};
use crate::expr::scalar;
use arrow::array::types::{
    Date32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt64Type,
};
use arrow::array::{Array, ArrayRef, BooleanArray, Decimal128Array, PrimitiveArray, StringDictionaryBuilder};
use arrow::buffer::NullBuffer;
use std::cmp::Ordering;
use std::sync::Arc;

/// A value as words: low, then high, which only decimals have.
pub type Words = (u64, u64);

/// Words of a value of this type.
#[must_use]
pub const fn width(ty: Type) -> usize {
    if matches!(ty, Type::Decimal { .. }) { 2 } else { 1 }
}

/// A decimal's units.
#[must_use]
pub const fn units((low, high): Words) -> i128 {
    ((high as u128) << 64 | low as u128).cast_signed()
}

#[must_use]
pub const fn of_units(units: i128) -> Words {
    (units as u64, (units >> 64) as u64)
}

/// The order of two values of one type.
#[must_use]
pub fn compare(a: Words, b: Words, ty: Type, texts: &Texts) -> Ordering {
    match ty {
        Type::Float => scalar::compare_floats(f64::from_bits(a.0), f64::from_bits(b.0)),
        Type::Decimal { .. } => units(a).cmp(&units(b)),
        Type::Text => texts.text(a.0 as u32).as_bytes().cmp(texts.text(b.0 as u32).as_bytes()),
        Type::Bool | Type::UInt => a.0.cmp(&b.0),
        _ => a.0.cast_signed().cmp(&b.0.cast_signed()),
    }
}

/// Words that are equal for values that are.
#[must_use]
pub fn identity(words: Words, ty: Type) -> Words {
    if ty == Type::Float { (key::of_f64(f64::from_bits(words.0)), 0) } else { words }
}

/// A column, ready to be read row by row.
pub struct Reader<'a> {
    cells: Cells<'a>,
    /// Of a text column: the number of each distinct value that was met, which it holds a reference to.
    numbers: Vec<Option<u32>>,
}

impl<'a> Reader<'a> {
    #[must_use]
    pub fn new(array: &'a ArrayRef, ty: Type) -> Self {
        let cells = Cells::new(array, ty);
        let distinct = if let CellValues::Texts(_, texts) = cells.values { texts.len() } else { 0 };
        Self { cells, numbers: vec![None; distinct] }
    }

    /// The value of a row; `None`: NULL.
    #[inline]
    pub fn words(&mut self, row: usize, texts: &mut Texts) -> Option<Words> {
        if !self.cells.is_valid(row) {
            return None;
        }
        let low = match self.cells.values {
            CellValues::Words(words) => words[row],
            CellValues::Nulls | CellValues::Intervals(_) => return None,
            CellValues::Bools(values) => u64::from(values.value(row)),
            CellValues::Decimals(units) => return Some(of_units(units[row])),
            CellValues::Dates(days) => i64::from(days[row]).cast_unsigned(),
            CellValues::Texts(numbers, distinct) => {
                let value = numbers[row] as usize;
                u64::from(*self.numbers[value].get_or_insert_with(|| texts.refer(distinct.value(value))))
            }
        };
        Some((low, 0))
    }

    /// Gives back what it refers to.
    pub fn release(self, texts: &mut Texts) {
        self.numbers.into_iter().flatten().for_each(|number| texts.release(number));
    }
}

/// A column that is being written.
pub struct Writer {
    ty: Type,
    low: Vec<u64>,
    high: Vec<u64>,
    valid: Vec<bool>,
}

impl Writer {
    #[must_use]
    pub fn new(ty: Type, rows: usize) -> Self {
        let high = if width(ty) == 2 { rows } else { 0 };
        Self { ty, low: Vec::with_capacity(rows), high: Vec::with_capacity(high), valid: Vec::with_capacity(rows) }
    }

    /// Adds a value; a text stays referred to until the column is finished.
    pub fn push(&mut self, value: Option<Words>, texts: &mut Texts) {
        let (low, high) = value.unwrap_or_default();
        self.low.push(low);
        if width(self.ty) == 2 {
            self.high.push(high);
        }
        self.valid.push(value.is_some());
        if self.ty == Type::Text && value.is_some() {
            texts.refer_again(low as u32);
        }
    }

    /// The column in its canonical type.
    #[must_use]
    pub fn finish(self, texts: &mut Texts) -> ArrayRef {
        let nulls = Some(NullBuffer::from(self.valid)).filter(|nulls| nulls.null_count() > 0);
        let signed = || self.low.iter().map(|word| word.cast_signed());
        macro_rules! ticks {
            ($type:ty) => {
                Arc::new(PrimitiveArray::<$type>::new(signed().collect::<Vec<_>>().into(), nulls))
            };
        }
        match self.ty {
            Type::Int => ticks!(Int64Type),
            Type::Timestamp(crate::event::TimeUnit::Second) => ticks!(TimestampSecondType),
            Type::Timestamp(crate::event::TimeUnit::Millisecond) => ticks!(TimestampMillisecondType),
            Type::Timestamp(crate::event::TimeUnit::Microsecond) => ticks!(TimestampMicrosecondType),
            Type::Timestamp(crate::event::TimeUnit::Nanosecond) => ticks!(TimestampNanosecondType),
            Type::UInt => Arc::new(PrimitiveArray::<UInt64Type>::new(self.low.into(), nulls)),
            Type::Float => {
                let values: Vec<f64> = self.low.iter().map(|word| f64::from_bits(*word)).collect();
                Arc::new(PrimitiveArray::<Float64Type>::new(values.into(), nulls))
            }
            Type::Date => Arc::new(PrimitiveArray::<Date32Type>::new(signed().map(|days| days as i32).collect::<Vec<_>>().into(), nulls)),
            Type::Bool => Arc::new(BooleanArray::new(self.low.iter().map(|word| *word != 0).collect(), nulls)),
            Type::Decimal { .. } => {
                let values: Vec<i128> = self.low.iter().zip(&self.high).map(|(low, high)| units((*low, *high))).collect();
                Arc::new(Decimal128Array::new(values.into(), nulls).with_data_type(canonical_type(self.ty)))
            }
            Type::Text => {
                let mut builder = StringDictionaryBuilder::<Int32Type>::new();
                for (at, word) in self.low.iter().enumerate() {
                    if nulls.as_ref().is_some_and(|nulls| nulls.is_null(at)) {
                        builder.append_null();
                    } else {
                        builder.append_value(texts.text(*word as u32));
                        texts.release(*word as u32);
                    }
                }
                Arc::new(builder.finish())
            }
            Type::Null | Type::Interval => arrow::array::new_null_array(&canonical_type(self.ty), self.low.len()),
        }
    }
}
