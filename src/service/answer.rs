//! What is told of events: decisions and findings as JSON.

use super::sensitive::Sensitive;
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
use serde_json::{Map, Number, Value};

/// The name of what became of event `row` of a journal: the same whenever it is judged again.
#[must_use]
pub fn decision_id(journal: &str, row: u64) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(journal.as_bytes());
    hasher.update(&row.to_le_bytes());
    hasher.finalize().to_hex()[..32].to_owned()
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

/// The decision about a row of a batch.
#[must_use]
pub fn decision(journal: &str, judged: &Judged, snapshot: &Snapshot, sensitive: &Sensitive, row: usize) -> Map<String, Value> {
    let Judged { batch, decisions, .. } = judged;
    let mut answer = Map::new();
    answer.insert("decision_id".to_owned(), decision_id(journal, batch.row_number(row)).into());
    if let Some(id) = snapshot.schema().id {
        answer.insert("id".to_owned(), sensitive.told(id, value(batch, snapshot, id, row)));
    }
    if let Some(tenant) = snapshot.schema().tenant {
        answer.insert("tenant".to_owned(), value(batch, snapshot, tenant, row));
    }
    let score = decimal::format(decisions.scores[row].into(), 3);
    answer.insert("score".to_owned(), score.parse::<Number>().map_or(Value::Null, Value::Number));
    answer.insert("action".to_owned(), ACTIONS[usize::from(decisions.actions[row])].into());
    // By name: the order in which rules came into service is another one after a restart.
    let names = |hits: &Hits| {
        let mut names: Vec<&str> = hits.row(row).iter().map(|rule| snapshot.id(*rule)).collect();
        names.sort_unstable();
        Value::from(names)
    };
    answer.insert("rules".to_owned(), names(&decisions.rules));
    answer.insert("shadow_rules".to_owned(), names(&decisions.shadow_rules));
    answer.insert("generation".to_owned(), (**snapshot.generation()).into());
    answer
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
