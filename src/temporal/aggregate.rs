//! What aggregates make of values.

use super::finding::json;
use crate::event::{Type, Value};
use crate::expr::scalar;
use crate::expr::scalar::decimal;
use crate::pattern::AggregateFunction;
use std::cmp::Ordering;

/// The value whose key is the least, or the greatest; of several the first. NULL is no key.
#[must_use]
pub fn best(pairs: impl Iterator<Item = (Value, Value)>, wanted: Ordering) -> Value {
    let better = |best: (Value, Value), pair: (Value, Value)| if scalar::compare(&pair.0, &best.0) == Some(wanted) { pair } else { best };
    pairs.filter(|(key, _)| !key.is_null()).reduce(better).map_or(Value::Null, |(_, value)| value)
}

/// The aggregate of `values`, in their order, for all functions but those that [`best`] is. `ty`: the type of the result. NULLs do not count, but in an
/// array and where rows are counted.
#[must_use]
pub fn aggregate(function: &AggregateFunction, distinct: bool, mut values: Vec<Value>, ty: Type) -> Value {
    use AggregateFunction as F;
    if *function != F::Array {
        values.retain(|value| !value.is_null());
    }
    if distinct {
        let mut seen: Vec<Value> = Vec::with_capacity(values.len());
        for value in values {
            if !seen.iter().any(|known| scalar::not_distinct(known, &value)) {
                seen.push(value);
            }
        }
        values = seen;
    }
    let best = |wanted: Ordering| best(values.iter().map(|value| (value.clone(), value.clone())), wanted);
    match function {
        F::Count => Value::Int(values.len() as i64),
        F::Sum => sum(&values, ty),
        F::Average if values.is_empty() => Value::Null,
        F::Average => Value::Float(total(&values) / values.len() as f64),
        F::Minimum | F::MinimumBy(_) => best(Ordering::Less),
        F::Maximum | F::MaximumBy(_) => best(Ordering::Greater),
        F::Any => values.into_iter().next().unwrap_or(Value::Null),
        F::List(_) if values.is_empty() => Value::Null,
        F::List(between) => {
            let texts: Vec<&str> =
                values.iter().filter_map(|value| if let Value::Text(text) = value { Some(&**text) } else { None }).collect();
            Value::Text(texts.join(between).into())
        }
        F::Deviation if values.len() < 2 => Value::Null,
        F::Deviation => {
            let mean = total(&values) / values.len() as f64;
            let squares: f64 = values.iter().filter_map(scalar::nearest_double).map(|value| (value - mean) * (value - mean)).sum();
            Value::Float((squares / (values.len() - 1) as f64).sqrt())
        }
        F::Array if values.is_empty() => Value::Null,
        F::Array => {
            let items: Vec<serde_json::Value> = values.iter().map(json).collect();
            Value::Text(serde_json::Value::from(items).to_string().into())
        }
    }
}

/// The whole part of the sum is exact where all values are.
fn exact(values: &[Value]) -> Option<(i128, u8)> {
    let mut sum = 0_i128;
    let mut scale = 0;
    for value in values {
        let units = match value {
            Value::Int(value) => i128::from(*value),
            Value::UInt(value) => i128::from(*value),
            Value::Decimal { units, scale: of } => {
                scale = *of;
                *units
            }
            _ => return None,
        };
        sum = sum.checked_add(units)?;
    }
    Some((sum, scale))
}

fn total(values: &[Value]) -> f64 {
    match exact(values) {
        Some((units, scale)) => decimal::nearest_double(units, scale),
        None => values.iter().filter_map(scalar::nearest_double).sum(),
    }
}

fn sum(values: &[Value], ty: Type) -> Value {
    if values.is_empty() {
        return Value::Null;
    }
    match (exact(values), ty) {
        (_, Type::Float) => Value::Float(total(values)),
        (Some((units, scale)), _) => decimal::fit(units, scale, ty).unwrap_or(Value::Null),
        (None, _) => Value::Null,
    }
}
