//! Whose the events of a batch are.

use crate::event::{EventBatch, Schema, Value};
use crate::id::FieldId;
use crate::temporal::finding::json;
use arrow::array::AsArray;
use std::collections::HashMap;

/// What stands for no tenant.
const NOBODY: usize = usize::MAX;

/// The tenants of a batch.
#[derive(Default)]
pub struct Owners {
    /// Each once, in the order of their first events.
    pub names: Vec<String>,
    /// Places in `names`, one for each row; empty where the schema names no field for tenants.
    rows: Vec<usize>,
}

impl Owners {
    #[must_use]
    pub fn of(schema: &Schema, batch: &EventBatch) -> Self {
        let Some((field, column)) = schema.tenant.and_then(|field| Some((field, batch.column(field)?))) else { return Self::default() };
        let (mut names, mut places) = (Vec::new(), HashMap::new());
        let mut place = |row: usize| {
            let name = name(schema, batch, field, row)?;
            Some(*places.entry(name).or_insert_with_key(|name| {
                names.push(name.clone());
                names.len() - 1
            }))
        };
        let rows = match column.as_any_dictionary_opt() {
            // A name is looked at once, however many events have it.
            Some(texts) if !texts.values().is_empty() => {
                let mut known: Vec<Option<usize>> = vec![None; texts.values().len()];
                let keys = texts.normalized_keys();
                let mut of = |row: usize| *known[keys[row]].get_or_insert_with(|| place(row).unwrap_or(NOBODY));
                (0..batch.rows()).map(|row| if texts.is_null(row) { NOBODY } else { of(row) }).collect()
            }
            _ => (0..batch.rows()).map(|row| place(row).unwrap_or(NOBODY)).collect(),
        };
        Self { names, rows }
    }

    /// The place in `names` of a row's tenant, if it has one.
    #[must_use]
    pub fn place(&self, row: usize) -> Option<usize> {
        self.rows.get(row).copied().filter(|place| *place != NOBODY)
    }

    #[must_use]
    pub fn name(&self, row: usize) -> Option<&str> {
        self.place(row).map(|place| self.names[place].as_str())
    }
}

fn name(schema: &Schema, batch: &EventBatch, field: FieldId, row: usize) -> Option<String> {
    match batch.value(schema, field, row) {
        Value::Null => None,
        Value::Text(name) => Some(name.to_string()),
        value => Some(json(&value).to_string()),
    }
}
