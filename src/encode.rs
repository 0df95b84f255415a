//! Columns to codes: for each event, its place among the thresholds of every column, and the partition of its tenant.

use crate::event::key;
use crate::event::{EventBatch, Type};
use crate::expr::columns::{Cache, Program};
use crate::flow::EncodedBatch;
use crate::id::FieldId;
use crate::tables::artifact::{Artifact, ColumnSource, ThresholdKeys, slice_at};
use crate::tables::layout::NULL_CODE;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt64Type,
};
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Turns event batches into codes for one artifact.
#[derive(Debug)]
pub struct Encoder {
    artifact: Arc<Artifact>,
    columns: Vec<ColumnEncoder>,
    tenant: Option<FieldId>,
    /// Partition of each tenant by name.
    partitions: HashMap<String, u32, foldhash::fast::FixedState>,
}

#[derive(Debug)]
struct ColumnEncoder {
    source: Source,
    index: Index,
}

#[derive(Debug)]
enum Source {
    Field(FieldId),
    Derived(Box<Program>),
}

/// What speeds the search among the thresholds up; the thresholds themselves lie in the artifact.
#[derive(Debug)]
enum Index {
    Narrow(Buckets),
    Wide,
    Text(Option<TextTable>),
}

impl Encoder {
    #[must_use]
    pub fn new(artifact: Arc<Artifact>) -> Self {
        let manifest = artifact.manifest();
        let columns = manifest
            .columns
            .iter()
            .map(|column| ColumnEncoder {
                source: match &column.source {
                    ColumnSource::Field(field) => Source::Field(*field),
                    ColumnSource::Derived(expr) => Source::Derived(Box::new(Program::new(expr.clone()))),
                },
                index: match artifact.thresholds(column) {
                    ThresholdKeys::Narrow(keys) => Index::Narrow(Buckets::new(keys)),
                    ThresholdKeys::Wide(_) => Index::Wide,
                    ThresholdKeys::Text { offsets, bytes } => Index::Text(column.points_only.then(|| TextTable::new(offsets, bytes))),
                },
            })
            .collect();
        let partitions = manifest.tenants.iter().enumerate().map(|(tenant, name)| (name.clone(), tenant as u32 + 1)).collect();
        let tenant = manifest.tenant;
        Self { columns, tenant, partitions, artifact }
    }

    /// The fields that encoding reads, ascending.
    #[must_use]
    pub fn fields(&self) -> Vec<FieldId> {
        let mut fields: Vec<FieldId> = self.tenant.into_iter().collect();
        for column in &self.artifact.manifest().columns {
            match &column.source {
                ColumnSource::Field(field) => fields.push(*field),
                ColumnSource::Derived(expr) => fields.extend(expr.fields()),
            }
        }
        fields.sort_unstable();
        fields.dedup();
        fields
    }

    /// The codes of `batch`. `cache` is the batch's own, shared with the residuals.
    pub fn encode(&self, batch: &EventBatch, cache: &mut Cache) -> EncodedBatch {
        let schema = self.artifact.schema();
        let tables = self.artifact.tables();
        let stride = tables.columns;
        let rows = batch.rows();
        let mut codes = vec![NULL_CODE; rows * stride];
        for (position, (encoder, column)) in self.columns.iter().zip(&self.artifact.manifest().columns).enumerate() {
            let values = match &encoder.source {
                Source::Field(field) => batch.column(*field).cloned(),
                Source::Derived(program) => Some(program.evaluate(schema, batch, None, cache)),
            };
            // An absent column is NULL throughout, and NULL is what the codes start as.
            if let Some(values) = values
                && rows > 0
            {
                let mut out = Strided { codes: &mut codes[position..], stride };
                encode_column(&values, &encoder.index, self.artifact.thresholds(column), tables.steps[position], &mut out);
            }
        }
        EncodedBatch { rows, columns: stride, codes, partitions: self.partitions(batch) }
    }

    fn partitions(&self, batch: &EventBatch) -> Vec<u32> {
        let mut partitions = vec![0; batch.rows()];
        let Some(column) = self.tenant.and_then(|field| batch.column(field)) else { return partitions };
        let find = |name: &str| self.partitions.get(name).copied().unwrap_or(0);
        if let Some(texts) = column.as_any_dictionary_opt() {
            let distinct = texts.values().as_string::<i32>();
            let keys = texts.keys().as_primitive::<Int32Type>();
            // As for the columns: only what occurs is looked up, once.
            let mut known = vec![u32::MAX; distinct.len()];
            for row in (0..keys.len()).filter(|row| keys.is_valid(*row)) {
                let value = keys.value(row) as usize;
                if known[value] == u32::MAX {
                    known[value] = if distinct.is_valid(value) { find(distinct.value(value)) } else { 0 };
                }
                partitions[row] = known[value];
            }
        } else if let Some(numbers) = column.as_primitive_opt::<Int64Type>() {
            numbers.iter().enumerate().for_each(|(row, number)| partitions[row] = number.map_or(0, |number| find(&number.to_string())));
        } else if let Some(numbers) = column.as_primitive_opt::<UInt64Type>() {
            numbers.iter().enumerate().for_each(|(row, number)| partitions[row] = number.map_or(0, |number| find(&number.to_string())));
        }
        partitions
    }
}

/// Whether a field of this type may name tenants.
#[must_use]
pub const fn names_tenants(ty: Type) -> bool {
    matches!(ty, Type::Text | Type::Int | Type::UInt)
}

/// One column of the row-major codes.
struct Strided<'a> {
    codes: &'a mut [u32],
    stride: usize,
}

impl Strided<'_> {
    fn set(&mut self, row: usize, code: u32) {
        self.codes[row * self.stride] = code;
    }
}

fn encode_column(values: &ArrayRef, index: &Index, thresholds: ThresholdKeys, step: u32, out: &mut Strided) {
    use arrow::datatypes::{DataType, TimeUnit};
    match (index, thresholds) {
        (Index::Narrow(buckets), ThresholdKeys::Narrow(keys)) => {
            let find = |key: u64| buckets.place(keys, key).code(step);
            match values.data_type() {
                DataType::Boolean => {
                    let values = values.as_boolean();
                    (0..values.len()).filter(|row| values.is_valid(*row)).for_each(|row| out.set(row, find(u64::from(values.value(row)))));
                }
                DataType::Int64 => primitive::<Int64Type>(values, out, |value| find(key::of_i64(value))),
                DataType::UInt64 => primitive::<UInt64Type>(values, out, find),
                DataType::Float64 => primitive::<Float64Type>(values, out, |value| find(key::of_f64(value))),
                DataType::Date32 => primitive::<Date32Type>(values, out, |value| find(key::of_i64(i64::from(value)))),
                DataType::Timestamp(unit, _) => {
                    let find = |value| find(key::of_i64(value));
                    match unit {
                        TimeUnit::Second => primitive::<TimestampSecondType>(values, out, find),
                        TimeUnit::Millisecond => primitive::<TimestampMillisecondType>(values, out, find),
                        TimeUnit::Microsecond => primitive::<TimestampMicrosecondType>(values, out, find),
                        TimeUnit::Nanosecond => primitive::<TimestampNanosecondType>(values, out, find),
                    }
                }
                other => unreachable!("canonical columns of narrow keys are of the types above, not {other}"),
            }
        }
        (Index::Wide, ThresholdKeys::Wide(keys)) => primitive::<Decimal128Type>(values, out, |value| {
            let key = key::of_i128(value);
            let after = keys.partition_point(|[low, high]| u128::from(*high) << 64 | u128::from(*low) <= key);
            Place { after, equal: after > 0 && keys[after - 1] == [key as u64, (key >> 64) as u64] }.code(step)
        }),
        (Index::Text(table), ThresholdKeys::Text { offsets, bytes }) => {
            let texts = values.as_any_dictionary();
            let distinct = texts.values().as_string::<i32>();
            let find = |text: &str| match table {
                // Where only equality matters, a text that equals none may have any place in between.
                Some(table) => {
                    table.find(offsets, bytes, text).map_or(Place::BELOW_ALL, |at| Place { after: at + 1, equal: true }).code(step)
                }
                None => text_place(offsets, bytes, text).code(step),
            };
            let keys = texts.keys().as_primitive::<Int32Type>();
            // A dictionary may be longer than the batch: only what occurs is looked up, once.
            let mut known = vec![u32::MAX; distinct.len()];
            for row in (0..keys.len()).filter(|row| keys.is_valid(*row)) {
                let value = keys.value(row) as usize;
                if known[value] == u32::MAX {
                    known[value] = find(distinct.value(value));
                }
                out.set(row, known[value]);
            }
        }
        _ => unreachable!("an index is made for the thresholds of its own column"),
    }
}

fn primitive<T: ArrowPrimitiveType>(values: &ArrayRef, out: &mut Strided, find: impl Fn(T::Native) -> u32) {
    let values = values.as_primitive::<T>();
    if values.null_count() == 0 {
        values.values().iter().enumerate().for_each(|(row, value)| out.set(row, find(*value)));
    } else {
        values.iter().enumerate().for_each(|(row, value)| out.set(row, value.map_or(NULL_CODE, &find)));
    }
}

/// The place of a value among thresholds: how many lie at or below it, and whether it equals the last of them.
#[derive(Clone, Copy)]
struct Place {
    after: usize,
    equal: bool,
}

impl Place {
    const BELOW_ALL: Self = Self { after: 0, equal: false };

    /// See [`crate::tables::MatchTables::steps`].
    const fn code(self, step: u32) -> u32 {
        (2 * self.after as u32 + !self.equal as u32) * step
    }
}

fn text_place(offsets: &[u64], bytes: &[u8], text: &str) -> Place {
    let (mut low, mut high) = (0, offsets.len().saturating_sub(1));
    while low < high {
        let middle = low.midpoint(high);
        if slice_at(offsets, bytes, middle) <= text.as_bytes() {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Place { after: low, equal: low > 0 && slice_at(offsets, bytes, low - 1) == text.as_bytes() }
}

/// Where in the sorted keys to look: the range of keys is cut into equal buckets, about two for each key.
#[derive(Debug, Default)]
struct Buckets {
    lowest: u64,
    highest: u64,
    shift: u32,
    /// For each bucket, how many keys lie below it; one more entry at the end.
    starts: Vec<u32>,
}

impl Buckets {
    fn new(keys: &[u64]) -> Self {
        let (Some(&lowest), Some(&highest)) = (keys.first(), keys.last()) else { return Self::default() };
        let wanted = (keys.len() as u64 * 2).next_power_of_two().trailing_zeros();
        let shift = (64 - (highest - lowest).leading_zeros()).saturating_sub(wanted);
        let buckets = ((highest - lowest) >> shift) as usize + 1;
        let mut starts = vec![0; buckets + 1];
        for key in keys {
            starts[((key - lowest) >> shift) as usize + 1] += 1;
        }
        for bucket in 0..buckets {
            starts[bucket + 1] += starts[bucket];
        }
        Self { lowest, highest, shift, starts }
    }

    fn place(&self, keys: &[u64], key: u64) -> Place {
        if keys.is_empty() || key < self.lowest {
            return Place::BELOW_ALL;
        }
        if key > self.highest {
            return Place { after: keys.len(), equal: false };
        }
        let bucket = ((key - self.lowest) >> self.shift) as usize;
        let (start, end) = (self.starts[bucket] as usize, self.starts[bucket + 1] as usize);
        let after = start + keys[start..end].partition_point(|threshold| *threshold <= key);
        Place { after, equal: after > 0 && keys[after - 1] == key }
    }
}

/// A hash table of texts: positions by open addressing, the texts themselves stay in the artifact.
#[derive(Debug)]
struct TextTable {
    hasher: foldhash::fast::FixedState,
    /// Position + 1, or 0; a power of two long, at most half full.
    slots: Vec<u32>,
}

impl TextTable {
    fn new(offsets: &[u64], bytes: &[u8]) -> Self {
        let texts = offsets.len().saturating_sub(1);
        let mut table = Self { hasher: foldhash::fast::FixedState::default(), slots: vec![0; (texts * 2 + 1).next_power_of_two()] };
        for text in 0..texts {
            let mut slot = table.start(slice_at(offsets, bytes, text));
            while table.slots[slot] != 0 {
                slot = (slot + 1) & (table.slots.len() - 1);
            }
            table.slots[slot] = text as u32 + 1;
        }
        table
    }

    fn start(&self, text: &[u8]) -> usize {
        self.hasher.hash_one(text) as usize & (self.slots.len() - 1)
    }

    fn find(&self, offsets: &[u64], bytes: &[u8], text: &str) -> Option<usize> {
        let mut slot = self.start(text.as_bytes());
        loop {
            match self.slots[slot] {
                0 => return None,
                found if slice_at(offsets, bytes, found as usize - 1) == text.as_bytes() => return Some(found as usize - 1),
                _ => slot = (slot + 1) & (self.slots.len() - 1),
            }
        }
    }
}
