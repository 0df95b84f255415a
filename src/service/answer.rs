//! What is told of events: decisions and findings as JSON.

use super::sensitive::Sensitive;
use crate::decide::Decisions;
use crate::event::EventBatch;
use crate::event::batch::value_at;
use crate::expr::scalar::decimal;
use crate::flow::Hits;
use crate::id::FieldId;
use crate::live::Snapshot;
use crate::stream::Judged;
use crate::tables::artifact::ACTIONS;
use crate::tables::layout::NONE;
use crate::temporal::finding::json;
use crate::temporal::patterns::Found;
use arrow::array::{
    Array, ArrayRef, Decimal128Array, DictionaryArray, Int8Array, ListBuilder, RecordBatch, StringArray, StringBuilder, UInt32Array,
};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::Arc;

/// The name of what became of event `row` of a journal: the same whenever it is judged again.
#[must_use]
pub fn decision_id(journal: &str, row: u64) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(journal.as_bytes());
    hasher.update(&row.to_le_bytes());
    hasher.finalize().to_hex()[..32].to_owned()
}

/// The decisions about a batch, as they are told.
pub struct Told<'j> {
    judged: &'j Judged,
    snapshot: &'j Snapshot,
    sensitive: &'j Sensitive,
    names: Vec<&'j str>,
    shadow_names: Vec<&'j str>,
}

impl<'j> Told<'j> {
    #[must_use]
    pub fn new(judged: &'j Judged, snapshot: &'j Snapshot, sensitive: &'j Sensitive) -> Self {
        let Decisions { rules, shadow_rules, .. } = &judged.decisions;
        Self { judged, snapshot, sensitive, names: names(rules, snapshot), shadow_names: names(shadow_rules, snapshot) }
    }

    /// The names of the rules that match a row, then those of the shadow rules that do.
    #[must_use]
    pub fn names(&self, row: usize) -> [&[&'j str]; 2] {
        let Decisions { rules, shadow_rules, .. } = &self.judged.decisions;
        [(&self.names, rules), (&self.shadow_names, shadow_rules)].map(|(names, hits)| &names[hits.range(row)])
    }

    /// Writes the decision about a row as a JSON object; `more` adds members, each with a comma before it.
    pub fn write(&self, text: &mut Vec<u8>, id: &str, row: usize, more: impl FnOnce(&mut Vec<u8>)) {
        let Judged { batch, decisions, .. } = self.judged;
        let schema = self.snapshot.schema();
        text.extend(b"{\"decision_id\":");
        write(text, id);
        for (member, field) in [(&b",\"id\":"[..], schema.id), (b",\"tenant\":", schema.tenant)] {
            if let Some(field) = field {
                text.extend(member);
                write(text, &self.sensitive.told(field, value(batch, self.snapshot, field, row)));
            }
        }
        text.extend(b",\"score\":");
        text.extend(decimal::format(decisions.scores[row].into(), 3).as_bytes());
        text.extend(b",\"action\":");
        write(text, ACTIONS[usize::from(decisions.actions[row])]);
        for (member, names) in [&b",\"rules\":"[..], b",\"shadow_rules\":"].into_iter().zip(self.names(row)) {
            text.extend(member);
            write(text, names);
        }
        text.extend(b",\"generation\":");
        write(text, &**self.snapshot.generation());
        more(text);
        text.push(b'}');
    }

    /// All of them as columns: `index`, which the caller knows, and what [`Told::write`] says of each; all of them are of one generation, which the schema's metadata names.
    ///
    /// # Errors
    /// Columns that Arrow does not take.
    pub fn batch(&self, index: Vec<u32>) -> Result<RecordBatch, String> {
        let Self { judged: Judged { batch, decisions, .. }, snapshot, sensitive, .. } = self;
        let mut fields = vec![Field::new("index", DataType::UInt32, false)];
        let mut columns: Vec<ArrayRef> = vec![Arc::new(UInt32Array::from(index))];
        for (name, field) in [("id", snapshot.schema().id), ("tenant", snapshot.schema().tenant)] {
            if let Some(field) = field {
                let column = if sensitive.has(field) {
                    let hash = |row| match sensitive.told(field, value(batch, snapshot, field, row)) {
                        Value::String(hash) => Some(hash),
                        _ => None,
                    };
                    Arc::new((0..batch.rows()).map(hash).collect::<StringArray>())
                } else {
                    batch.column_or_null(snapshot.schema(), field)
                };
                fields.push(Field::new(name, column.data_type().clone(), true));
                columns.push(column);
            }
        }
        let scores = Decimal128Array::from_iter_values(decisions.scores.iter().map(|score| i128::from(*score)));
        let scores = scores.with_precision_and_scale(18, 3).map_err(|error| error.to_string())?;
        fields.push(Field::new("score", scores.data_type().clone(), false));
        columns.push(Arc::new(scores));
        let actions = Int8Array::from_iter_values(decisions.actions.iter().map(|action| action.cast_signed()));
        let actions = DictionaryArray::try_new(actions, Arc::new(StringArray::from_iter_values(ACTIONS)));
        let actions = actions.map_err(|error| error.to_string())?;
        fields.push(Field::new("action", actions.data_type().clone(), false));
        columns.push(Arc::new(actions));
        for (name, which) in [("rules", 0), ("shadow_rules", 1)] {
            let mut lists = ListBuilder::new(StringBuilder::new());
            for row in 0..batch.rows() {
                self.names(row)[which].iter().for_each(|name| lists.values().append_value(name));
                lists.append(true);
            }
            let lists = lists.finish();
            fields.push(Field::new(name, lists.data_type().clone(), false));
            columns.push(Arc::new(lists));
        }
        let metadata = HashMap::from([("generation".to_owned(), snapshot.generation().to_string())]);
        let schema = ArrowSchema::new(fields).with_metadata(metadata);
        RecordBatch::try_new(Arc::new(schema), columns).map_err(|error| error.to_string())
    }
}

/// Writes a value as JSON.
pub fn write(text: &mut Vec<u8>, value: &(impl serde::Serialize + ?Sized)) {
    // Writing to memory does not fail.
    let _ = serde_json::to_writer(text, value);
}

/// Names that are asked for together.
const TOGETHER: usize = 256;

/// The names of all rules of all rows; those of a row by name: the order in which rules came into service is another one after a restart.
fn names<'s>(hits: &Hits, snapshot: &'s Snapshot) -> Vec<&'s str> {
    let mut names: Vec<&str> = Vec::with_capacity(hits.rules.len());
    let mut row = 0;
    while row < hits.rows() {
        let (first, begin) = (row, names.len());
        while row < hits.rows() && (row == first || hits.range(row).end - begin <= TOGETHER) {
            row += 1;
        }
        names.extend(snapshot.ids(&hits.rules[begin..hits.range(row - 1).end]));
        (first..row).for_each(|row| names[hits.range(row)].sort_unstable());
    }
    names
}

/// The same of a finding.
fn finding_id(journal: &str, rule: &str, found: &Found) -> String {
    let mut hasher = blake3::Hasher::new();
    let finding = &found.finding;
    let partition: Vec<Value> = finding.partition.iter().map(json).collect();
    for part in [journal, rule, &Value::Array(partition).to_string()] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let numbers = [finding.row, finding.match_number.unwrap_or(0), finding.label.map_or(u64::MAX, u64::from)];
    numbers.iter().for_each(|number| _ = hasher.update(&number.to_le_bytes()));
    hasher.finalize().to_hex()[..32].to_owned()
}

fn value(batch: &EventBatch, snapshot: &Snapshot, field: FieldId, row: usize) -> Value {
    batch.column(field).map_or(Value::Null, |column| json(&value_at(column.as_ref(), snapshot.schema().field(field).ty, row)))
}

/// What a pattern found.
#[must_use]
pub fn finding(journal: &str, found: &Found, snapshot: &Snapshot, sensitive: &Sensitive) -> Map<String, Value> {
    let artifact = snapshot.base();
    let rule = artifact.rule_name(found.rule);
    let mut answer = Map::new();
    answer.insert("finding_id".to_owned(), finding_id(journal, rule, found).into());
    answer.insert("rule".to_owned(), rule.into());
    let record = artifact.rule(found.rule);
    answer.insert("shadow".to_owned(), (record.status == crate::decide::SHADOW).into());
    let tenant = (record.tenant != NONE).then(|| artifact.manifest().tenants[record.tenant as usize].as_str());
    answer.insert("tenant".to_owned(), tenant.into());
    let (by, measures) =
        artifact.pattern(found.rule).map_or((&[][..], &[][..]), |pattern| (&pattern.partition_by[..], &pattern.measures[..]));
    let fields = artifact.schema().fields();
    let partition = by
        .iter()
        .zip(&*found.finding.partition)
        .map(|(field, value)| (fields[field.index()].name.clone(), sensitive.told(*field, json(value))));
    answer.insert("partition".to_owned(), Value::Object(partition.collect()));
    answer.insert("match_number".to_owned(), found.finding.match_number.into());
    answer.insert("row".to_owned(), found.finding.row.into());
    let label = found.finding.label.and_then(|label| artifact.pattern(found.rule)?.labels.get(usize::from(label)).map(ToString::to_string));
    answer.insert("classifier".to_owned(), label.into());
    answer.insert("first_row".to_owned(), found.finding.rows.map(|rows| rows.0).into());
    answer.insert("last_row".to_owned(), found.finding.rows.map(|rows| rows.1).into());
    let measures = measures.iter().zip(&found.finding.measures).map(|(measure, value)| {
        let value = match value {
            crate::event::Value::Text(text) if measure.json => serde_json::from_str(text).unwrap_or(Value::Null),
            value => json(value),
        };
        let value = if measure.tells().any(|field| sensitive.has(field)) { sensitive.hashed(value) } else { value };
        (measure.name.to_string(), value)
    });
    answer.insert("measures".to_owned(), Value::Object(measures.collect()));
    answer
}
