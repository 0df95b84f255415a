//! What tells partitions apart: tenants as numbers, keys as bytes.

use crate::event::batch::timestamp_ticks;
use crate::event::key::of_f64;
use crate::event::{EventBatch, Schema, Type};
use crate::id::FieldId;
use arrow::array::types::{Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, IntervalMonthDayNanoType, UInt64Type};
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
            let mut known: Vec<Option<u32>> = vec![None; distinct.len()];
            for row in (0..keys.len()).filter(|row| keys.is_valid(*row)) {
                let value = keys.value(row) as usize;
                if distinct.is_valid(value) {
                    tenants[row] = *known[value].get_or_insert_with(|| self.number(distinct.value(value)));
                }
            }
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
    array: Option<&'b ArrayRef>,
    ty: Type,
}

impl<'b> KeyColumn<'b> {
    #[must_use]
    pub fn new(schema: &Schema, batch: &'b EventBatch, field: FieldId) -> Self {
        Self { array: batch.column(field), ty: schema.field(field).ty }
    }

    /// Adds the value of a row: bytes that are equal where values are the same to PARTITION BY. NULL is like NULL, -0.0 like 0.0, NaN like NaN.
    pub fn write(&self, row: usize, key: &mut Vec<u8>) {
        let Some(array) = self.array.filter(|array| array.is_valid(row)) else {
            key.push(0);
            return;
        };
        key.push(1);
        match self.ty {
            Type::Null => {}
            Type::Bool => key.push(u8::from(array.as_boolean().value(row))),
            Type::Int => key.extend(array.as_primitive::<Int64Type>().value(row).to_le_bytes()),
            Type::UInt => key.extend(array.as_primitive::<UInt64Type>().value(row).to_le_bytes()),
            Type::Float => key.extend(of_f64(array.as_primitive::<Float64Type>().value(row)).to_le_bytes()),
            Type::Decimal { .. } => key.extend(array.as_primitive::<Decimal128Type>().value(row).to_le_bytes()),
            Type::Timestamp(unit) => key.extend(timestamp_ticks(array.as_ref(), unit)[row].to_le_bytes()),
            Type::Date => key.extend(array.as_primitive::<Date32Type>().value(row).to_le_bytes()),
            Type::Text => {
                let array = array.as_dictionary::<Int32Type>();
                let text = array.values().as_string::<i32>().value(array.keys().value(row) as usize);
                key.extend((text.len() as u32).to_le_bytes());
                key.extend(text.as_bytes());
            }
            Type::Interval => {
                let interval = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
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
