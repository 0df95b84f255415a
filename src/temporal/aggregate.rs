//! What aggregates make of values, one after the other.

use super::finding::json;
use crate::event::{Type, Value};
use crate::expr::scalar;
use crate::expr::scalar::decimal;
use crate::pattern::AggregateFunction;
use std::cmp::Ordering;

/// An aggregate: what to make of values.
#[derive(Clone, Debug)]
pub struct Aggregate {
    function: AggregateFunction,
    distinct: bool,
    /// Of the result.
    ty: Type,
}

/// What an aggregate knows of the values so far.
#[derive(Clone, Debug)]
pub enum Known {
    Count(i64),
    Sum(Sum),
    First(Value),
    /// The value with the best key, and that key.
    Best(Option<(Value, Value)>),
    /// All of them, where nothing less will do.
    Values(Vec<Value>),
}

/// A sum: exact while all values are.
#[derive(Clone, Copy, Debug)]
pub struct Sum {
    count: usize,
    exact: Option<(i128, u8)>,
    float: f64,
}

impl Sum {
    const NOTHING: Self = Self { count: 0, exact: Some((0, 0)), float: -0.0 };

    fn add(&mut self, value: &Value) {
        let units = match value {
            Value::Int(value) => Some((i128::from(*value), 0)),
            Value::UInt(value) => Some((i128::from(*value), 0)),
            Value::Decimal { units, scale } => Some((*units, *scale)),
            _ => None,
        };
        self.count += 1;
        self.exact = self.exact.zip(units).and_then(|((sum, _), (units, scale))| Some((sum.checked_add(units)?, scale)));
        self.float += scalar::nearest_double(value).unwrap_or(-0.0);
    }

    fn of(values: &[Value]) -> Self {
        let mut sum = Self::NOTHING;
        values.iter().for_each(|value| sum.add(value));
        sum
    }

    fn total(&self) -> f64 {
        self.exact.map_or(self.float, |(units, scale)| decimal::nearest_double(units, scale))
    }

    fn mean(&self) -> f64 {
        self.total() / self.count as f64
    }
}

impl Aggregate {
    /// `ty`: the type of the result.
    #[must_use]
    pub const fn new(function: AggregateFunction, distinct: bool, ty: Type) -> Self {
        Self { function, distinct, ty }
    }

    /// Before the first value.
    #[must_use]
    pub const fn nothing(&self) -> Known {
        use AggregateFunction as F;
        match self.function {
            F::Minimum | F::Maximum | F::MinimumBy(_) | F::MaximumBy(_) => Known::Best(None),
            F::Any => Known::First(Value::Null),
            F::Deviation | F::Array | F::List(_) => Known::Values(Vec::new()),
            F::Count | F::Sum | F::Average if self.distinct => Known::Values(Vec::new()),
            F::Count => Known::Count(0),
            F::Sum | F::Average => Known::Sum(Sum::NOTHING),
        }
    }

    /// Takes the next value; `key`: what it is compared by, if that is something else. NULLs do not count, but in an array and beside a key.
    pub fn add(&self, known: &mut Known, value: Value, key: Option<Value>) {
        let key = key.as_ref().unwrap_or(&value);
        if key.is_null() && self.function != AggregateFunction::Array {
            return;
        }
        match known {
            Known::Count(count) => *count += 1,
            Known::Sum(sum) => sum.add(&value),
            Known::First(first) => {
                if first.is_null() {
                    *first = value;
                }
            }
            Known::Best(best) => {
                let least = matches!(self.function, AggregateFunction::Minimum | AggregateFunction::MinimumBy(_));
                let wanted = if least { Ordering::Less } else { Ordering::Greater };
                if best.as_ref().is_none_or(|(_, known)| scalar::compare(key, known) == Some(wanted)) {
                    let key = key.clone();
                    *best = Some((value, key));
                }
            }
            Known::Values(values) => {
                if !(self.distinct && values.iter().any(|known| scalar::not_distinct(known, &value))) {
                    values.push(value);
                }
            }
        }
    }

    /// The result.
    #[must_use]
    pub fn value(&self, known: &Known) -> Value {
        match known {
            Known::Count(count) => Value::Int(*count),
            Known::Sum(sum) => self.of_sum(sum),
            Known::First(first) => first.clone(),
            Known::Best(best) => best.as_ref().map_or(Value::Null, |(value, _)| value.clone()),
            Known::Values(values) => self.of_values(values),
        }
    }

    fn of_sum(&self, sum: &Sum) -> Value {
        if sum.count == 0 {
            return Value::Null;
        }
        match (&self.function, self.ty, sum.exact) {
            (AggregateFunction::Average, ..) => Value::Float(sum.mean()),
            (_, Type::Float, _) => Value::Float(sum.total()),
            (_, ty, Some((units, scale))) => decimal::fit(units, scale, ty).unwrap_or(Value::Null),
            (_, _, None) => Value::Null,
        }
    }

    fn of_values(&self, values: &[Value]) -> Value {
        use AggregateFunction as F;
        match &self.function {
            F::Count => Value::Int(values.len() as i64),
            F::Sum | F::Average => self.of_sum(&Sum::of(values)),
            F::Deviation if values.len() < 2 => Value::Null,
            F::Deviation => {
                let mean = Sum::of(values).mean();
                let squares: f64 = values.iter().filter_map(scalar::nearest_double).map(|value| (value - mean) * (value - mean)).sum();
                Value::Float((squares / (values.len() - 1) as f64).sqrt())
            }
            _ if values.is_empty() => Value::Null,
            F::List(between) => {
                let texts: Vec<&str> =
                    values.iter().filter_map(|value| if let Value::Text(text) = value { Some(&**text) } else { None }).collect();
                Value::Text(texts.join(between).into())
            }
            _ => {
                let items: Vec<serde_json::Value> = values.iter().map(json).collect();
                Value::Text(serde_json::Value::from(items).to_string().into())
            }
        }
    }
}
