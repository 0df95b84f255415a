//! What tells partitions apart: tenants as numbers, keys as bytes.

use crate::event::batch::{CellValues, Cells};
use crate::event::key::of_f64;
use crate::event::{EventBatch, Schema, Type};
use crate::id::FieldId;
use arrow::array::types::{Int32Type, Int64Type, UInt64Type};
use arrow::array::{Array, ArrayRef, AsArray};
use foldhash::fast::FixedState;
use std::collections::HashMap;
use std::sync::Arc;

/// Rows without a tenant.
pub const NO_TENANT: u32 = u32::MAX;

/// Tenants by number, in the order in which they were first met.
#[derive(Clone, Debug, Default)]
pub struct Tenants {
    numbers: HashMap<Arc<str>, u32, FixedState>,
    names: Vec<Arc<str>>,
    /// The dictionary of the last batch, which the next one often has too, and the numbers of its names as far as they were met.
    last: Option<(ArrayRef, Vec<Option<u32>>)>,
}

impl Tenants {
    /// The number of a tenant, which is new or not.
    pub fn number(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let name: Arc<str> = name.into();
        self.names.push(Arc::clone(&name));
        let number = self.names.len() as u32 - 1;
        self.numbers.insert(name, number);
        number
    }

    #[must_use]
    pub fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// Whether the tenant that a key begins with is one of them, or none: what is read from a file may be anything.
    #[must_use]
    pub fn has_key(&self, key: &[u8]) -> bool {
        key.first_chunk()
            .map(|tenant| u32::from_le_bytes(*tenant))
            .is_some_and(|tenant| tenant == NO_TENANT || (tenant as usize) < self.names.len())
    }

    /// The tenant of each row of a batch.
    pub fn of_rows(&mut self, schema: &Schema, batch: &EventBatch) -> Vec<u32> {
        let mut tenants = vec![NO_TENANT; batch.rows()];
        let Some(column) = schema.tenant.and_then(|field| batch.column(field)) else { return tenants };
        if let Some(texts) = column.as_any_dictionary_opt() {
            let (distinct, keys) = (texts.values().as_string::<i32>(), texts.keys().as_primitive::<Int32Type>());
            let last = self.last.take().filter(|(last, _)| Arc::ptr_eq(last, texts.values()));
            let mut known = last.map_or_else(|| vec![None; distinct.len()], |(_, known)| known);
            for row in (0..keys.len()).filter(|row| keys.is_valid(*row)) {
                let value = keys.value(row) as usize;
                if distinct.is_valid(value) {
                    tenants[row] = *known[value].get_or_insert_with(|| self.number(distinct.value(value)));
                }
            }
            self.last = Some((Arc::clone(texts.values()), known));
        } else {
            let signed = column.as_primitive_opt::<Int64Type>();
            let unsigned = column.as_primitive_opt::<UInt64Type>();
            for row in (0..batch.rows()).filter(|row| column.is_valid(*row)) {
                let name = signed.map(|numbers| numbers.value(row).to_string());
                if let Some(name) = name.or_else(|| unsigned.map(|numbers| numbers.value(row).to_string())) {
                    tenants[row] = self.number(&name);
                }
            }
        }
        tenants
    }
}

/// A column that keys are made of.
pub struct KeyColumn<'b> {
    cells: Option<Cells<'b>>,
}

impl<'b> KeyColumn<'b> {
    #[must_use]
    pub fn new(schema: &Schema, batch: &'b EventBatch, field: FieldId) -> Self {
        Self { cells: batch.cells(schema, field) }
    }

    /// Adds the value of a row: bytes that are equal where values are the same to PARTITION BY. NULL is like NULL, -0.0 like 0.0, NaN like NaN.
    pub fn write(&self, row: usize, key: &mut Vec<u8>) {
        let Some(cells) = self.cells.filter(|cells| cells.is_valid(row)) else {
            key.push(0);
            return;
        };
        key.push(1);
        match cells.values {
            CellValues::Nulls => {}
            CellValues::Words(words) => {
                let word = if cells.ty == Type::Float { of_f64(f64::from_bits(words[row])) } else { words[row] };
                key.extend(word.to_le_bytes());
            }
            CellValues::Bools(values) => key.push(u8::from(values.value(row))),
            CellValues::Dates(days) => key.extend(days[row].to_le_bytes()),
            CellValues::Decimals(units) => key.extend(units[row].to_le_bytes()),
            CellValues::Texts(numbers, texts) => {
                let text = texts.value(numbers[row] as usize);
                key.extend((text.len() as u32).to_le_bytes());
                key.extend(text.as_bytes());
            }
            CellValues::Intervals(intervals) => {
                let interval = intervals[row];
                key.extend(interval.months.to_le_bytes());
                key.extend(interval.days.to_le_bytes());
                key.extend(interval.nanoseconds.to_le_bytes());
            }
        }
    }
}

/// Nanoseconds in a tick of a type of instants; `None` for other types.
#[must_use]
pub const fn nanoseconds_of_tick(ty: Type) -> Option<i64> {
    match ty {
        Type::Timestamp(unit) => Some(unit.nanoseconds()),
        Type::Date => Some(86_400_000_000_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{DictionaryArray, Int32Array, StringArray};

    #[test]
    fn tenants_are_those_of_the_batch_whatever_dictionary_it_has() {
        let mut schema = Schema::parse("schema.yaml", b"fields: {tenant: utf8}\ntenant: tenant\n").unwrap();
        schema.tenant = schema.find("tenant");
        let names = |names: [&str; 3]| -> ArrayRef { Arc::new(StringArray::from(names.to_vec())) };
        let (one, other) = (names(["a", "b", "c"]), names(["c", "d", "a"]));
        let mut tenants = Tenants::default();
        let mut of = |names: &ArrayRef, keys: [Option<i32>; 4]| {
            let column: ArrayRef = Arc::new(DictionaryArray::new(Int32Array::from(keys.to_vec()), Arc::clone(names)));
            tenants.of_rows(&schema, &EventBatch::new(&schema, 0, 4, vec![Some(column)]))
        };
        assert_eq!(of(&one, [Some(1), None, Some(0), Some(1)]), [0, NO_TENANT, 1, 0]);
        assert_eq!(of(&one, [Some(2), Some(1), Some(0), Some(2)]), [2, 0, 1, 2]);
        assert_eq!(of(&other, [Some(0), Some(1), Some(2), None]), [2, 3, 1, NO_TENANT]);
        assert_eq!(of(&one, [Some(0), Some(1), Some(2), None]), [1, 0, 2, NO_TENANT]);
    }
}
