//! Operations on columns. Each has a loop for the common types; everything else goes through [`scalar`], row by row.

use super::column::{Column, build, floats, ints, texts};
use super::literals::Literals;
use super::truth::Truth;
use crate::event::{Type, Value, time};
use crate::expr::like::{LikePattern, lower};
use crate::expr::prepared::Pattern;
use crate::expr::{ArithmeticOp, CompareOp, DatePart, scalar};
use arrow::array::{Float64Array, Int64Array};
use std::cmp::Ordering;
use std::sync::Arc;

/// An operand and its type.
pub type Operand<'a> = (&'a Column, Type);

fn truths(len: usize, f: impl FnMut(usize) -> Option<bool>) -> Column {
    Column::Truth(Arc::new(Truth::collect(len, f)))
}

/// The definition: `f` for each row; once where every operand is constant.
pub fn row_by_row(len: usize, ty: Type, operands: &[Operand<'_>], mut f: impl FnMut(&[Value]) -> Value) -> Column {
    let mut row_values: Vec<Value> = Vec::with_capacity(operands.len());
    let mut of_row = |row: usize| {
        row_values.clear();
        row_values.extend(operands.iter().map(|(column, ty)| column.value(*ty, row)));
        f(&row_values)
    };
    if operands.iter().all(|(column, _)| matches!(column, Column::Constant(_))) {
        return Column::Constant(of_row(0));
    }
    build(ty, (0..len).map(of_row))
}

fn is_null_constant(operand: Operand<'_>) -> bool {
    matches!(operand.0, Column::Constant(Value::Null))
}

fn all_constant(operands: &[Operand<'_>]) -> bool {
    operands.iter().all(|(column, _)| matches!(column, Column::Constant(_)))
}

/// Comparison in a loop; `None` where none serves these types.
fn compare_loop(len: usize, op: CompareOp, a: Operand<'_>, b: Operand<'_>) -> Option<Column> {
    let f = |ordering: Option<Ordering>| ordering.map(|ordering| op.holds(ordering));
    if all_constant(&[a, b]) {
        return None;
    }
    if a.1 == b.1
        && let (Some(a), Some(b)) = (ints(a.0, a.1), ints(b.0, b.1))
    {
        return Some(truths(len, |row| f(a.get(row).zip(b.get(row)).map(|(a, b)| a.cmp(&b)))));
    }
    if a.1 == Type::Float || b.1 == Type::Float {
        let (a, b) = (floats(a.0, a.1)?, floats(b.0, b.1)?);
        return Some(truths(len, |row| f(a.get(row).zip(b.get(row)).map(|(a, b)| scalar::compare_floats(a, b)))));
    }
    let (a, b) = (texts(a.0)?, texts(b.0)?);
    Some(truths(len, |row| f(a.get(row).zip(b.get(row)).map(|(a, b)| a.as_bytes().cmp(b.as_bytes())))))
}

pub fn compare(len: usize, op: CompareOp, a: Operand<'_>, b: Operand<'_>) -> Column {
    if is_null_constant(a) || is_null_constant(b) {
        return Column::Constant(Value::Null);
    }
    compare_loop(len, op, a, b).unwrap_or_else(|| {
        row_by_row(len, Type::Bool, &[a, b], |values| scalar::from_truth(scalar::compare_with(op, &values[0], &values[1])))
    })
}

pub fn not_distinct(len: usize, a: Operand<'_>, b: Operand<'_>) -> Column {
    if all_constant(&[a, b]) {
        return row_by_row(len, Type::Bool, &[a, b], |values| Value::Bool(scalar::not_distinct(&values[0], &values[1])));
    }
    let equal = compare(len, CompareOp::Equal, a, b).truth(len);
    let (a, b) = (a.0.is_null(len).truth(len), b.0.is_null(len).truth(len));
    truths(len, |row| equal.get(row).or(Some(a.get(row) == Some(true) && b.get(row) == Some(true))))
}

pub fn in_list(len: usize, operand: Operand<'_>, list: &[Value], has_null: bool) -> Column {
    if list.is_empty() && !has_null {
        return Column::Constant(Value::Bool(false));
    }
    let found = |found: bool| (found || !has_null).then_some(found);
    if !all_constant(&[operand]) {
        if let Some(view) = texts(operand.0).filter(|_| list.iter().all(|entry| matches!(entry, Value::Text(_)))) {
            let list: Vec<&str> =
                list.iter().filter_map(|entry| if let Value::Text(text) = entry { Some(&**text) } else { None }).collect();
            return truths(len, |row| view.get(row).and_then(|text| found(list.binary_search(&text).is_ok())));
        }
        if let Some(view) =
            ints(operand.0, operand.1).filter(|_| operand.1 == Type::Int && list.iter().all(|entry| matches!(entry, Value::Int(_))))
        {
            let list: Vec<i64> = list.iter().filter_map(|entry| if let Value::Int(n) = entry { Some(*n) } else { None }).collect();
            return truths(len, |row| view.get(row).and_then(|n| found(list.binary_search(&n).is_ok())));
        }
    }
    row_by_row(len, Type::Bool, &[operand], |values| scalar::from_truth(scalar::in_list(&values[0], list, has_null)))
}

/// LIKE with a pattern that is a column of its own.
pub fn like_column(len: usize, operand: Operand<'_>, pattern: Operand<'_>, escape: Option<char>, case_insensitive: bool) -> Column {
    row_by_row(len, Type::Bool, &[operand, pattern], |values| match values {
        [Value::Text(text), Value::Text(pattern)] => Value::Bool(LikePattern::new(pattern, escape, case_insensitive).matches(text)),
        _ => Value::Null,
    })
}

/// LIKE or a regular expression with a constant pattern.
pub fn matches_pattern(len: usize, operand: Operand<'_>, pattern: &Pattern) -> Column {
    let test = |text: &str| match pattern {
        Pattern::Like(pattern) => Some(pattern.matches(text)),
        Pattern::Regex(regex) => Some(regex.is_match(text)),
        Pattern::None | Pattern::Null => None,
    };
    match (operand.0, texts(operand.0)) {
        (Column::Constant(Value::Text(text)), _) => Column::Constant(scalar::from_truth(test(text))),
        (_, Some(view)) => truths(len, |row| view.get(row).and_then(test)),
        _ => Column::Constant(Value::Null),
    }
}

/// Whether a text has any of the literals.
pub fn has_any(len: usize, operand: &Column, literals: &Literals, case_insensitive: bool) -> Column {
    let test = |text: &str| if case_insensitive { literals.is_match(&lower(text)) } else { literals.is_match(text) };
    match texts(operand) {
        Some(view) => truths(len, |row| view.get(row).map(test)),
        None => Column::Constant(Value::Null),
    }
}

pub fn arithmetic(len: usize, op: ArithmeticOp, a: Operand<'_>, b: Operand<'_>, ty: Type) -> Column {
    if is_null_constant(a) || is_null_constant(b) {
        return Column::Constant(Value::Null);
    }
    if !all_constant(&[a, b]) {
        if ty == Type::Int
            && a.1 == Type::Int
            && b.1 == Type::Int
            && let (Some(a), Some(b)) = (ints(a.0, a.1), ints(b.0, b.1))
        {
            let result: Int64Array =
                (0..len).map(|row| a.get(row).zip(b.get(row)).and_then(|(a, b)| scalar::int_arithmetic(op, a, b))).collect();
            return Column::Array(Arc::new(result));
        }
        if ty == Type::Float
            && let (Some(a), Some(b)) = (floats(a.0, a.1), floats(b.0, b.1))
        {
            let result: Float64Array =
                (0..len).map(|row| a.get(row).zip(b.get(row)).and_then(|(a, b)| scalar::float_arithmetic(op, a, b))).collect();
            return Column::Array(Arc::new(result));
        }
    }
    row_by_row(len, ty, &[a, b], |values| scalar::arithmetic(op, &values[0], &values[1], ty))
}

pub fn cast(len: usize, operand: Operand<'_>, ty: Type) -> Column {
    if ty == Type::Float
        && !all_constant(&[operand])
        && let Some(view) = floats(operand.0, operand.1)
    {
        let result: Float64Array = (0..len).map(|row| view.get(row)).collect();
        return Column::Array(Arc::new(result));
    }
    row_by_row(len, ty, &[operand], |values| scalar::cast(&values[0], ty))
}

pub fn extract(len: usize, part: DatePart, operand: Operand<'_>) -> Column {
    if !all_constant(&[operand])
        && let Some(view) = ints(operand.0, operand.1)
    {
        let result: Option<Int64Array> = match operand.1 {
            Type::Date => Some(
                (0..len).map(|row| view.get(row).map(|days| scalar::extract_from_seconds(part, days * time::SECONDS_PER_DAY))).collect(),
            ),
            Type::Timestamp(unit) => {
                let second = unit.ticks_per_second();
                Some((0..len).map(|row| view.get(row).map(|ticks| scalar::extract_from_seconds(part, ticks.div_euclid(second)))).collect())
            }
            _ => None,
        };
        if let Some(result) = result {
            return Column::Array(Arc::new(result));
        }
    }
    row_by_row(len, Type::Int, &[operand], |values| scalar::extract(part, &values[0]))
}

/// Where `of` is `wanted`; never UNKNOWN.
pub fn is_truth(len: usize, of: &Column, wanted: bool) -> Column {
    match of {
        Column::Constant(value) => Column::Constant(Value::Bool(scalar::truth(value) == Some(wanted))),
        _ => {
            let of = of.truth(len);
            truths(len, |row| Some(of.get(row) == Some(wanted)))
        }
    }
}
