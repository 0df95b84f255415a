//! Windows by their definition: for each row all rows seen so far are looked through.

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float64Array, Int64Array, TimestampMillisecondArray, UInt64Array,
};
use arrow::datatypes::Int32Type;
use dynamic_cep::event::{EventBatch, Schema, Type, Value};
use dynamic_cep::expr::oracle::{evaluate, holds};
use dynamic_cep::expr::scalar::{self, decimal};
use dynamic_cep::window::{Frame, Function, Window};
use std::cmp::Ordering;
use std::sync::Arc;

/// Values by field.
pub type Row = Vec<Value>;

/// Nanoseconds.
pub fn time(schema: &Schema, row: &Row) -> Option<i128> {
    match row[schema.time.expect("a time").index()] {
        Value::Timestamp { ticks, unit } => Some(i128::from(ticks) * i128::from(unit.nanoseconds())),
        _ => None,
    }
}

/// The value of `window` for row `at` of `rows`, which stand in the order of their arrival.
pub fn expected(schema: &Schema, window: &Window, rows: &[Row], at: usize) -> Value {
    let Some(now) = time(schema, &rows[at]) else { return Value::Null };
    let mut keys = window.partition_by.clone();
    keys.extend(schema.tenant);
    let alike = |row: &Row| keys.iter().all(|field| scalar::not_distinct(&row[field.index()], &rows[at][field.index()]));
    let mut seen: Vec<usize> = (0..=at).filter(|row| time(schema, &rows[*row]).is_some() && alike(&rows[*row])).collect();
    seen.sort_by_key(|row| time(schema, &rows[*row]));
    let here = seen.iter().position(|row| *row == at).expect("the row itself was seen");
    let in_frame = |place: usize| match window.frame {
        Frame::Range { from, to, current } => {
            let age = now - time(schema, &rows[seen[place]]).expect("rows with a time");
            from.is_none_or(|from| age <= i128::from(from)) && age >= i128::from(to) && (current || place != here)
        }
        Frame::Rows { from, to } => place + to as usize <= here && from.is_none_or(|from| place + from as usize >= here),
    };
    let frame: Vec<&Row> = (0..seen.len()).filter(|place| in_frame(*place)).map(|place| &rows[seen[place]]).collect();
    let frame: Vec<&Row> = frame.into_iter().filter(|row| window.filter.as_ref().is_none_or(|filter| holds(filter, row))).collect();
    let Some(argument) = &window.argument else { return Value::Int(frame.len() as i64) };
    let all: Vec<Value> = frame.iter().map(|row| evaluate(argument, row)).collect();
    let values: Vec<&Value> = all.iter().filter(|value| !value.is_null()).collect();
    let best = |wanted: Ordering| {
        let better = |best: Value, value: Value| if scalar::compare(&value, &best) == Some(wanted) { value } else { best };
        values.iter().map(|value| (*value).clone()).reduce(better).unwrap_or(Value::Null)
    };
    match window.function {
        Function::Count => Value::Int(values.len() as i64),
        Function::CountDistinct => {
            let mut distinct: Vec<&Value> = Vec::new();
            for value in values {
                if !distinct.iter().any(|known| scalar::not_distinct(known, value)) {
                    distinct.push(value);
                }
            }
            Value::Int(distinct.len() as i64)
        }
        Function::First => all.first().cloned().unwrap_or(Value::Null),
        Function::Last => all.last().cloned().unwrap_or(Value::Null),
        Function::Minimum => best(Ordering::Less),
        Function::Maximum => best(Ordering::Greater),
        Function::Sum if values.is_empty() => Value::Null,
        Function::Sum => match window.ty() {
            Type::Float => Value::Float(sum(&values)),
            ty => {
                let (units, scale) = exact(&values);
                decimal::fit(units, scale, ty).unwrap_or(Value::Null)
            }
        },
        Function::Average if values.is_empty() => Value::Null,
        Function::Average => Value::Float(sum(&values) / values.len() as f64),
        Function::Deviation if values.len() < 2 => Value::Null,
        Function::Deviation => {
            let count = values.len() as f64;
            let squares: f64 = match values[0] {
                Value::Float(_) => {
                    let mean = sum(&values) / count;
                    values.iter().filter_map(|value| scalar::nearest_double(value)).map(|value| (value - mean).powi(2)).sum()
                }
                _ => {
                    let (sum, scale) = exact(&values);
                    let off = |value: &&Value| decimal::exact(value).expect("an exact number").0 * values.len() as i128 - sum;
                    values.iter().map(|value| (decimal::nearest_double(off(value), scale) / count).powi(2)).sum()
                }
            };
            Value::Float((squares / (count - 1.0)).sqrt())
        }
    }
}

fn exact(values: &[&Value]) -> (i128, u8) {
    values.iter().fold((0, 0), |(sum, _), value| {
        let (units, scale) = decimal::exact(value).expect("an exact number");
        (sum + units, scale)
    })
}

/// The nearest double to the sum: floats as multiples of 2^-70, which those of the tests are.
fn sum(values: &[&Value]) -> f64 {
    if values.iter().any(|value| !matches!(value, Value::Float(_))) {
        let (units, scale) = exact(values);
        return decimal::nearest_double(units, scale);
    }
    let floats: Vec<f64> = values.iter().filter_map(|value| scalar::nearest_double(value)).collect();
    if floats.iter().any(|value| !value.is_finite()) {
        return floats.iter().sum();
    }
    let unit = 2_f64.powi(70);
    let whole = |value: f64| {
        assert_eq!((value * unit).fract(), 0.0);
        (value * unit) as i128
    };
    floats.into_iter().map(whole).sum::<i128>() as f64 / unit
}

/// Whether two values are the same; `close`: floats up to rounding.
pub fn same(a: &Value, b: &Value, close: bool) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => {
            scalar::compare_floats(*a, *b) == Ordering::Equal || close && (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-3)
        }
        _ => a == b,
    }
}

/// Rows as a batch of all columns.
pub fn batch_of(schema: &Schema, first: u64, rows: &[Row]) -> EventBatch {
    let column = |at: usize| -> ArrayRef {
        let values = || rows.iter().map(|row| &row[at]);
        macro_rules! collect {
            ($array:ty, $pattern:pat => $value:expr) => {
                values().map(|value| if let $pattern = value { Some($value) } else { None }).collect::<$array>()
            };
        }
        match schema.fields()[at].ty {
            Type::Int => Arc::new(collect!(Int64Array, Value::Int(value) => *value)),
            Type::UInt => Arc::new(collect!(UInt64Array, Value::UInt(value) => *value)),
            Type::Float => Arc::new(collect!(Float64Array, Value::Float(value) => *value)),
            Type::Bool => Arc::new(collect!(BooleanArray, Value::Bool(value) => *value)),
            Type::Date => Arc::new(collect!(Date32Array, Value::Date(value) => *value)),
            Type::Timestamp(_) => Arc::new(collect!(TimestampMillisecondArray, Value::Timestamp { ticks, .. } => *ticks)),
            Type::Decimal { scale } => {
                let array = collect!(Decimal128Array, Value::Decimal { units, .. } => *units);
                Arc::new(array.with_precision_and_scale(38, scale as i8).expect("a scale"))
            }
            _ => Arc::new(
                values()
                    .map(|value| if let Value::Text(text) = value { Some(&**text) } else { None })
                    .collect::<DictionaryArray<Int32Type>>(),
            ),
        }
    };
    EventBatch::new(schema, first, rows.len(), (0..schema.fields().len()).map(|at| Some(column(at))).collect())
}
