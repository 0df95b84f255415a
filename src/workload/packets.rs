//! W4: packet filters of the ClassBench kind, with known answers. They are data: see benches/data.
//!
//! The rules are a table of ranges (`ruleset`, `rule_idx`, `src_lo`, `src_hi`, … `proto_hi`), the headers a table of packets with their answers by brute force
//! (`first_match`: the least index that matches, -1 for none; `match_count`; `match_idx_sum`: the sum of index + 1).

use super::rule;
use crate::event::Schema;
use crate::flow::Hits;
use crate::rule::Rule;
use arrow::array::{Array, AsArray, Int64Array, StringArray, UInt64Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::{DataType, Int64Type};
use arrow::record_batch::RecordBatch;
use std::collections::BTreeMap;

/// The columns that are compared, and the highest value of each.
const FIELDS: [(&str, i64); 5] = [("src", 0xffff_ffff), ("dst", 0xffff_ffff), ("sport", 0xffff), ("dport", 0xffff), ("proto", 0xff)];

/// The columns of a header's [`Answer`].
const ANSWERS: [&str; 3] = ["first_match", "match_count", "match_idx_sum"];

/// What a filter says of a header: the least index of a rule that matches or -1, how many match, and the sum of their indices, each + 1.
pub type Answer = [i64; 3];

/// A filter and headers for it.
#[derive(Debug)]
pub struct Filter {
    pub name: String,
    /// In the order of their index.
    pub rules: Vec<Rule>,
    pub headers: RecordBatch,
    /// One for each header.
    pub answers: Vec<Answer>,
}

/// The schema of the headers.
///
/// # Panics
/// Never: the text is this module's own.
#[must_use]
pub fn schema() -> Schema {
    let text = "fields: {src: uint32, dst: uint32, sport: uint16, dport: uint16, proto: uint8}";
    Schema::parse("schema.yaml", text.as_bytes()).expect("a schema of our own")
}

/// The answers that hits are.
#[must_use]
pub fn answers(hits: &Hits) -> Vec<Answer> {
    let answer = |row| {
        let rules = hits.row(row);
        let first = rules.first().map_or(-1, |rule| i64::from(rule.0));
        [first, rules.len() as i64, rules.iter().map(|rule| i64::from(rule.0) + 1).sum()]
    };
    (0..hits.rows()).map(answer).collect()
}

/// The filters of a table of rules, by name, with the headers for each.
///
/// # Errors
/// A column that is not there or not of numbers, a NULL, rules that are not in the order of their index.
pub fn filters(rules: &RecordBatch, headers: &RecordBatch) -> Result<Vec<Filter>, String> {
    let (ranges, packets) = (Table::new(rules)?, Table::new(headers)?);
    let bounds: Vec<[&Int64Array; 2]> = FIELDS
        .iter()
        .map(|(field, _)| Ok([ranges.column(&format!("{field}_lo"))?, ranges.column(&format!("{field}_hi"))?]))
        .collect::<Result<_, String>>()?;
    let index = ranges.column("rule_idx")?;
    let known = [packets.column(ANSWERS[0])?, packets.column(ANSWERS[1])?, packets.column(ANSWERS[2])?];
    let mut filters = Vec::with_capacity(ranges.sets.len());
    for (name, rows) in &ranges.sets {
        if let Some(wrong) = rows.iter().zip(0..).find(|(row, at)| index.value(**row) != *at) {
            return Err(format!("rules of {name}: index {} where {} is due", index.value(*wrong.0), wrong.1));
        }
        let rules = rows.iter().zip(0..).map(|(row, number)| rule(format!("{number}"), None, condition(&bounds, *row), 0)).collect();
        let of_set = packets.sets.get(name).map_or(&[][..], Vec::as_slice);
        let places: UInt64Array = of_set.iter().map(|row| *row as u64).collect();
        filters.push(Filter {
            name: name.clone(),
            rules,
            headers: take_record_batch(headers, &places).map_err(|error| error.to_string())?,
            answers: of_set.iter().map(|row| known.map(|column| column.value(*row))).collect(),
        });
    }
    Ok(filters)
}

/// Compares the fields whose range is not full.
fn condition(bounds: &[[&Int64Array; 2]], row: usize) -> String {
    let predicates: Vec<String> = FIELDS
        .iter()
        .zip(bounds)
        .filter_map(|((field, highest), [low, high])| match (low.value(row), high.value(row)) {
            (0, high) if high == *highest => None,
            (low, high) if low == high => Some(format!("{field} = {low}")),
            (low, high) => Some(format!("{field} BETWEEN {low} AND {high}")),
        })
        .collect();
    if predicates.is_empty() { "TRUE".to_owned() } else { predicates.join(" AND ") }
}

/// A table's columns of numbers, as `Int64`.
struct Table {
    numbers: BTreeMap<String, Int64Array>,
    /// The rows of each filter, in the order of the table.
    sets: BTreeMap<String, Vec<usize>>,
}

impl Table {
    fn new(batch: &RecordBatch) -> Result<Self, String> {
        let mut numbers = BTreeMap::new();
        let schema = batch.schema();
        for (field, column) in schema.fields().iter().zip(batch.columns()).filter(|(field, _)| field.data_type().is_integer()) {
            let column = cast(column, &DataType::Int64).map_err(|error| error.to_string())?;
            if column.null_count() > 0 {
                return Err(format!("column `{}` has NULLs", field.name()));
            }
            numbers.insert(field.name().clone(), column.as_primitive::<Int64Type>().clone());
        }
        let names = batch.column_by_name("ruleset").ok_or("there is no column `ruleset`")?;
        let names = cast(names, &DataType::Utf8).map_err(|error| error.to_string())?;
        let names: &StringArray = names.as_string();
        let mut sets: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for row in 0..names.len() {
            sets.entry(names.value(row).to_owned()).or_default().push(row);
        }
        Ok(Self { numbers, sets })
    }

    fn column(&self, name: &str) -> Result<&Int64Array, String> {
        self.numbers.get(name).ok_or_else(|| format!("there is no column `{name}` of whole numbers"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RuleId;
    use arrow::array::{ArrayRef, Int32Array};
    use std::sync::Arc;

    fn table(columns: &[(&str, [i32; 3])]) -> RecordBatch {
        let names: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "a"]));
        let column = |values: &[i32; 3]| -> ArrayRef { Arc::new(Int32Array::from(values.to_vec())) };
        let all = std::iter::once(("ruleset", names)).chain(columns.iter().map(|(name, values)| (*name, column(values))));
        RecordBatch::try_from_iter(all).expect("a batch")
    }

    fn ranges(index: [i32; 3]) -> RecordBatch {
        table(&[
            ("rule_idx", index),
            ("src_lo", [7, 0, 0]),
            ("src_hi", [7, 9, 9]),
            ("dst_lo", [1, 0, 0]),
            ("dst_hi", [2, 9, 9]),
            ("sport_lo", [0, 0, 0]),
            ("sport_hi", [65535, 0, 1]),
            ("dport_lo", [0, 0, 0]),
            ("dport_hi", [65535, 1, 1]),
            ("proto_lo", [0, 0, 0]),
            ("proto_hi", [255, 1, 1]),
        ])
    }

    #[test]
    fn filters_are_taken_apart() {
        let headers = table(&[("src", [1, 2, 3]), ("first_match", [0, -1, 1]), ("match_count", [2, 0, 1]), ("match_idx_sum", [3, 0, 2])]);
        let filters = filters(&ranges([0, 0, 1]), &headers).expect("filters");
        assert_eq!(filters.iter().map(|filter| filter.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(&*filters[0].rules[0].when, "src = 7 AND dst BETWEEN 1 AND 2");
        assert_eq!(filters[0].answers, [[0, 2, 3], [1, 1, 2]]);
        assert_eq!(filters[0].headers.num_rows(), 2);
        let hits = Hits { offsets: vec![0, 2, 3], rules: [0, 1, 1].map(RuleId).to_vec() };
        assert_eq!(answers(&hits), filters[0].answers);
        assert!(super::filters(&ranges([0, 0, 2]), &headers).is_err_and(|error| error.contains("index 2 where 1 is due")));
        assert!(super::filters(&headers, &headers).is_err());
    }
}
