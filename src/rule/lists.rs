//! Named lists of values: managed data that conditions refer to with `IN LIST name`.

use super::literal;
use crate::event::{Type, Value};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The lists of a document, by name.
#[derive(Debug, Default)]
pub struct Lists {
    by_name: HashMap<Arc<str>, List>,
}

/// One list: its entries as written, and as values of each class of types that a condition has asked for.
#[derive(Debug, Default)]
pub struct List {
    entries: Vec<serde_json::Value>,
    /// Shared by all conditions, so that a list is held once however many rules name it.
    values: Mutex<Vec<(Class, Arc<[Value]>)>>,
}

/// Types that take the same values from a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Bool,
    Exact,
    Float,
    Text,
    Instant,
    Interval,
}

/// The entry of a list that is no value of the type asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MisfitEntry {
    /// 0-based position in the list.
    pub index: usize,
    /// As JSON.
    pub entry: String,
    /// What to do about it; may be empty.
    pub hint: &'static str,
}

impl Lists {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a list, in place of one of the same name.
    pub fn insert(&mut self, name: impl Into<Arc<str>>, entries: Vec<serde_json::Value>) {
        self.by_name.insert(name.into(), List { entries, values: Mutex::default() });
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<&List> {
        self.by_name.get(name)
    }

    /// The names, in no particular order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(|name| &**name)
    }
}

impl List {
    /// As written.
    #[must_use]
    pub fn entries(&self) -> &[serde_json::Value] {
        &self.entries
    }

    /// The entries as constants that compare with values of type `ty`: sorted, each once. Equal requests share one list.
    ///
    /// # Errors
    /// The first entry that is no such constant.
    pub fn values(&self, ty: Type) -> Result<Arc<[Value]>, MisfitEntry> {
        let class = match ty {
            Type::Null => return Ok([].into()),
            Type::Bool => Class::Bool,
            Type::Int | Type::UInt | Type::Decimal { .. } => Class::Exact,
            Type::Float => Class::Float,
            Type::Text => Class::Text,
            Type::Timestamp(_) | Type::Date => Class::Instant,
            Type::Interval => Class::Interval,
        };
        // A panic of another thread between lock and unlock cannot leave the cache half written.
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, shared)) = values.iter().find(|(known, _)| *known == class) {
            return Ok(Arc::clone(shared));
        }
        let constants: Result<Vec<Value>, MisfitEntry> = self
            .entries
            .iter()
            .enumerate()
            .map(|(index, entry)| constant(entry, class).map_err(|hint| MisfitEntry { index, entry: entry.to_string(), hint }))
            .collect();
        let shared = literal::sorted_distinct(constants?);
        values.push((class, Arc::clone(&shared)));
        Ok(shared)
    }
}

/// One entry as a constant, or a hint why it is none.
fn constant(entry: &serde_json::Value, class: Class) -> Result<Value, &'static str> {
    use serde_json::Value as Json;
    match (entry, class) {
        (Json::Bool(truth), Class::Bool) => Ok(Value::Bool(*truth)),
        (Json::String(text), Class::Text) => Ok(Value::Text(text.as_str().into())),
        (Json::Number(number), Class::Exact | Class::Float) => {
            let value = literal::number(&number.to_string()).map_err(|_| "a number has at most 38 digits")?;
            match class {
                Class::Exact if matches!(value, Value::Float(_)) => Err("exact numbers have at most 38 digits"),
                Class::Exact => Ok(value),
                _ => literal::nearest_float(&value).map(Value::Float).ok_or(""),
            }
        }
        (Json::String(text), Class::Instant) => {
            literal::temporal(text, Type::Date).ok_or("write it as \"2024-01-31\" or \"2024-01-31 12:00:00\"")
        }
        (Json::String(text), Class::Interval) => literal::temporal(text, Type::Interval).ok_or("write it as \"1 day 2 hours\""),
        (Json::String(_), Class::Exact | Class::Float) => Err("write the number without quotes"),
        (Json::Number(_) | Json::Bool(_), Class::Text) => Err("write it in quotes"),
        (Json::Null, _) => Err("a list has no NULL; test for it with IS NULL"),
        _ => Err(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn equal_requests_share_one_sorted_list() {
        let mut lists = Lists::new();
        lists.insert("n", vec![json!(3), json!(1.50), json!(1), json!(3.0)]);
        let list = lists.get("n").expect("just inserted");
        let first = list.values(Type::Int).expect("numbers");
        assert_eq!(&*first, [Value::Int(1), Value::Decimal { units: 15, scale: 1 }, Value::Int(3)]);
        assert!(Arc::ptr_eq(&first, &list.values(Type::Decimal { scale: 2 }).expect("numbers")));
        assert_eq!(&*list.values(Type::Float).expect("numbers"), [Value::Float(1.0), Value::Float(1.5), Value::Float(3.0)]);
        assert_eq!(list.values(Type::Text).expect_err("not text").index, 0);
    }

    #[test]
    fn entries_that_do_not_fit_are_named() {
        let mut lists = Lists::new();
        lists.insert("mcc", vec![json!("5967"), json!(7995), json!(null)]);
        let misfit = lists.get("mcc").expect("just inserted").values(Type::Text).expect_err("a number among texts");
        assert_eq!((misfit.index, misfit.entry.as_str(), misfit.hint), (1, "7995", "write it in quotes"));
        lists.insert("days", vec![json!("2024-01-31"), json!("yesterday")]);
        assert_eq!(lists.get("days").expect("just inserted").values(Type::Date).expect_err("no date").index, 1);
    }
}
