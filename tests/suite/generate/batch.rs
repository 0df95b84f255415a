//! Batches of events in canonical columns.

use super::{Pool, TENANTS};
use crate::random::Random;
use arrow::array::types::Int32Type;
use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float64Array, Int32Array, Int64Array, StringArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
};
use dynamic_cep::codec::canonical::canonical_column;
use dynamic_cep::event::batch::canonical_type;
use dynamic_cep::event::{EventBatch, Schema, TimeUnit, Type, Value};
use std::sync::Arc;

/// A batch of `rows` events; some columns are absent.
pub fn batch(random: &mut Random, schema: &Schema, pool: &Pool, rows: usize) -> EventBatch {
    let columns = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(number, field)| {
            let is_tenant = schema.tenant.is_some_and(|tenant| tenant.index() == number);
            if random.one_in(15) {
                return None;
            }
            let values: Vec<Value> = (0..rows)
                .map(|_| if is_tenant && !random.one_in(6) { tenant(random, field.ty) } else { pool.value(random, field.ty) })
                .collect();
            Some(column(random, field.ty, &values))
        })
        .collect();
    EventBatch::new(schema, 0, rows, columns)
}

fn tenant(random: &mut Random, ty: Type) -> Value {
    let name = *random.pick(&TENANTS);
    match ty {
        Type::Int => name.parse().map_or(Value::Int(8), Value::Int),
        Type::UInt => name.parse().map_or(Value::UInt(8), Value::UInt),
        _ => Value::Text(name.into()),
    }
}

/// A canonical column of these values, each NULL or of type `ty`.
fn column(random: &mut Random, ty: Type, values: &[Value]) -> ArrayRef {
    macro_rules! collect {
        ($array:ty, $pattern:pat => $value:expr) => {
            Arc::new(values.iter().map(|value| if let $pattern = value { Some($value) } else { None }).collect::<$array>())
        };
    }
    match ty {
        Type::Bool => collect!(BooleanArray, Value::Bool(x) => *x),
        Type::Int => collect!(Int64Array, Value::Int(x) => *x),
        Type::UInt => collect!(UInt64Array, Value::UInt(x) => *x),
        Type::Float => collect!(Float64Array, Value::Float(x) => *x),
        Type::Decimal { .. } => {
            let units: Decimal128Array =
                values.iter().map(|value| if let Value::Decimal { units, .. } = value { Some(*units) } else { None }).collect();
            Arc::new(units.with_data_type(canonical_type(ty)))
        }
        Type::Text => texts(random, values),
        Type::Timestamp(TimeUnit::Second) => collect!(TimestampSecondArray, Value::Timestamp { ticks, .. } => *ticks),
        Type::Timestamp(TimeUnit::Millisecond) => collect!(TimestampMillisecondArray, Value::Timestamp { ticks, .. } => *ticks),
        Type::Timestamp(TimeUnit::Microsecond) => collect!(TimestampMicrosecondArray, Value::Timestamp { ticks, .. } => *ticks),
        Type::Timestamp(TimeUnit::Nanosecond) => collect!(TimestampNanosecondArray, Value::Timestamp { ticks, .. } => *ticks),
        Type::Date => collect!(Date32Array, Value::Date(days) => *days),
        Type::Null | Type::Interval => unreachable!("no field has this type"),
    }
}

/// Texts through the codec, or as a dictionary with values that do not occur and values that occur twice.
fn texts(random: &mut Random, values: &[Value]) -> ArrayRef {
    let texts: Vec<Option<&str>> = values.iter().map(|value| if let Value::Text(text) = value { Some(&**text) } else { None }).collect();
    if random.one_in(2) {
        let plain: ArrayRef = Arc::new(StringArray::from(texts));
        let mut misfits = Vec::new();
        let canonical = canonical_column(&plain, Type::Text, &mut misfits).expect("texts are texts");
        assert!(misfits.is_empty());
        return canonical;
    }
    let mut distinct: Vec<&str> = vec!["unused", "a"];
    let keys: Int32Array = texts
        .iter()
        .map(|text| {
            text.map(|text| {
                let known = distinct.iter().rposition(|value| *value == text).filter(|_| !random.one_in(5));
                known.unwrap_or_else(|| {
                    distinct.push(text);
                    distinct.len() - 1
                }) as i32
            })
        })
        .collect();
    distinct.push("zzz");
    Arc::new(DictionaryArray::<Int32Type>::new(keys, Arc::new(StringArray::from(distinct))))
}
