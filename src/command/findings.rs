//! Patterns over the events of `match`: they see them one after the other, in the order of the input.

use super::Failure;
use super::matching::{Emit, Options};
use crate::codec::write::IS_JSON;
use crate::connector::sink::ResultWriter;
use crate::decide;
use crate::engine::router::Choice;
use crate::event::{EventBatch, Schema};
use crate::flow::Hits;
use crate::stream::conditions::RowConditions;
use crate::tables::Artifact;
use crate::tables::layout::NONE;
use crate::temporal::capture::{CapturedChunk, ReadChunk, Restored, SavedPatterns};
use crate::temporal::finding::json;
use crate::temporal::patterns::{Counters, Found, PatternRule, Patterns};
use crate::temporal::spill::Spill;
use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef};
use std::collections::HashMap;
use std::sync::Arc;

/// Findings that are written at a time.
const FINDINGS: usize = 8192;

/// The columns of findings: `partition` and `measures` are JSON objects.
pub(super) fn schema() -> SchemaRef {
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    let json = |name: &str| text(name, false).with_metadata(HashMap::from([(IS_JSON.to_owned(), "object".to_owned())]));
    let number = |name: &str, nullable| Field::new(name, DataType::UInt64, nullable);
    Arc::new(ArrowSchema::new(vec![
        text("rule", false),
        text("tenant", true),
        json("partition"),
        number("match_number", true),
        number("row", false),
        text("classifier", true),
        number("first_row", true),
        number("last_row", true),
        json("measures"),
    ]))
}

/// The fields that patterns may name.
fn seen(artifact: &Artifact) -> Schema {
    let mut schema = artifact.schema().clone();
    schema.truncate(artifact.patterns().first().map_or(0, |(_, pattern)| pattern.fields as usize));
    schema
}

/// The state of patterns in a snapshot: what is said of it, and who reads its chunks.
pub(super) type Saved<'s> = (&'s SavedPatterns, &'s mut ReadChunk<'s>);

/// The patterns of `artifact`, which go on from `saved`; `None`: it has none that are in service. What memory has no room for goes to `spill`.
pub(super) fn patterns(
    artifact: &Artifact,
    options: &Options,
    spill: Option<&Arc<Spill>>,
    saved: Option<Saved>,
) -> Result<Option<Restored>, String> {
    let rules: Vec<PatternRule> = artifact
        .patterns()
        .iter()
        .filter(|(rule, _)| artifact.rule(*rule).status != OFF)
        .map(|(rule, pattern)| {
            let tenant = artifact.rule(*rule).tenant;
            let tenant = (tenant != NONE).then(|| artifact.manifest().tenants[tenant as usize].as_str().into());
            PatternRule { rule: *rule, name: artifact.rule_name(*rule).into(), tenant, pattern: Arc::clone(pattern) }
        })
        .collect();
    if rules.is_empty() {
        return Ok(None);
    }
    let (schema, limits) = (seen(artifact), options.pattern_limits);
    let lateness = super::windows::behind(artifact, options).allowed_lateness;
    match saved {
        Some((head, chunk)) => Patterns::restored(schema, rules, lateness, limits, spill, head, chunk).map(Some),
        None => {
            let mut patterns = Patterns::new(schema, rules, lateness, limits);
            spill.into_iter().for_each(|spill| patterns.spill_to(spill));
            Ok(Some(Restored { patterns, kept: Vec::new(), dropped: Vec::new() }))
        }
    }
}

/// The patterns of a run.
pub(super) struct Stage {
    patterns: Patterns,
    late: Option<ResultWriter>,
    late_name: Option<String>,
    schema: SchemaRef,
    emit: bool,
}

impl Stage {
    /// `patterns` in service, late rows in parts from row `part` on or in one file, and who matches their row conditions: `choice`, or without one nobody, for a look at each row by itself.
    pub fn new(
        patterns: Patterns,
        artifact: &Artifact,
        options: &Options,
        choice: Option<Choice>,
        part: Option<u64>,
    ) -> Result<(Self, RowConditions), Failure> {
        let conditions = RowConditions::new(&patterns, seen(artifact), choice).map_err(Failure::Diagnostics)?;
        let late = match &options.late {
            Some(name) => Some(match part {
                Some(row) => ResultWriter::create_part(name, &late_schema(artifact), row)?,
                None => ResultWriter::create(name, &late_schema(artifact))?,
            }),
            None => None,
        };
        Ok((Self { patterns, late, late_name: options.late.clone(), schema: schema(), emit: options.emit == Emit::Findings }, conditions))
    }

    /// Takes a batch, but for its rows `hidden`; how many findings it brought. `holds`: the row conditions that hold.
    pub fn take(
        &mut self,
        batch: &EventBatch,
        holds: &Hits,
        hidden: &[u32],
        artifact: &Artifact,
        writer: &mut Option<ResultWriter>,
    ) -> Result<u64, Failure> {
        let (mut found, mut late) = (Vec::new(), Vec::new());
        self.patterns.take(batch, holds, hidden, &mut found, &mut late)?;
        if let Some(writer) = &mut self.late
            && !late.is_empty()
        {
            let rows: arrow::array::UInt32Array = late.iter().map(|row| *row as u32).collect();
            let schema = artifact.schema();
            let mut columns: Vec<ArrayRef> =
                vec![Arc::new(UInt64Array::from_iter_values((0..batch.rows()).map(|row| batch.row_number(row))))];
            for (field, to) in (0..schema.fields().len()).zip(late_schema(artifact).fields().iter().skip(1)) {
                let column = batch.column_or_null(schema, crate::id::FieldId::new(field));
                columns.push(arrow::compute::cast(&column, to.data_type()).map_err(|error| error.to_string())?);
            }
            let all = RecordBatch::try_new(late_schema(artifact), columns).map_err(|error| error.to_string())?;
            writer.write(&take_record_batch(&all, &rows).map_err(|error| error.to_string())?)?;
        }
        self.write(&found, artifact, writer)
    }

    /// Begins a copy of the state as it is now, for a snapshot.
    pub fn begin_capture(&mut self) -> SavedPatterns {
        self.patterns.begin_capture()
    }

    /// Copies the next chunk; `None`: the copy is complete.
    pub fn capture(&mut self) -> Result<Option<CapturedChunk>, String> {
        self.patterns.capture()
    }

    /// Completes the part of the late rows before row `row`.
    pub fn next_part(&mut self, row: u64, artifact: &Artifact) -> Result<(), Failure> {
        let Some((writer, name)) = self.late.as_mut().zip(self.late_name.as_deref()) else { return Ok(()) };
        Ok(writer.next_part(name, &late_schema(artifact), row)?)
    }

    /// Settles what is left, unless the run is to `go_on` another time.
    pub fn finish(&mut self, go_on: bool, artifact: &Artifact, writer: &mut Option<ResultWriter>) -> Result<(u64, Counters), Failure> {
        let mut found = Vec::new();
        if !go_on {
            self.patterns.finish(&mut found)?;
        }
        let count = self.write(&found, artifact, writer)?;
        if let Some(late) = self.late.take() {
            late.finish()?;
        }
        Ok((count, self.patterns.counters()))
    }

    fn write(&self, found: &[Found], artifact: &Artifact, writer: &mut Option<ResultWriter>) -> Result<u64, Failure> {
        if let (true, Some(writer)) = (self.emit, writer) {
            for found in found.chunks(FINDINGS) {
                writer.write(&batch(found, artifact, &self.schema)?)?;
            }
        }
        Ok(found.len() as u64)
    }
}

/// The status of rules that do nothing.
const OFF: u8 = decide::SHADOW + 1;

fn late_schema(artifact: &Artifact) -> SchemaRef {
    let mut fields = vec![Field::new("row", DataType::UInt64, false)];
    fields.extend(artifact.schema().fields().iter().map(|field| {
        let ty = match crate::event::batch::canonical_type(field.ty) {
            DataType::Dictionary(_, values) => *values,
            other => other,
        };
        Field::new(&field.name, ty, true)
    }));
    Arc::new(ArrowSchema::new(fields))
}

fn batch(found: &[Found], artifact: &Artifact, schema: &SchemaRef) -> Result<RecordBatch, String> {
    let fields = artifact.schema().fields();
    let mut columns: Vec<ArrayRef> = Vec::new();
    columns.push(Arc::new(StringArray::from_iter_values(found.iter().map(|found| artifact.rule_name(found.rule)))));
    let tenant = |found: &Found| {
        let tenant = artifact.rule(found.rule).tenant;
        (tenant != NONE).then(|| artifact.manifest().tenants[tenant as usize].as_str())
    };
    columns.push(Arc::new(found.iter().map(tenant).collect::<StringArray>()));
    let object = |entries: Vec<(&str, serde_json::Value)>| {
        // In the order of the clause; a JSON object of serde_json would sort them.
        let entries: Vec<String> = entries.iter().map(|(name, value)| format!("{}:{value}", serde_json::Value::from(*name))).collect();
        format!("{{{}}}", entries.join(","))
    };
    let partitions = found.iter().map(|found| {
        let by = artifact.pattern(found.rule).map_or(&[][..], |pattern| &pattern.partition_by);
        object(by.iter().zip(&*found.finding.partition).map(|(field, value)| (&*fields[field.index()].name, json(value))).collect())
    });
    columns.push(Arc::new(StringArray::from_iter_values(partitions)));
    columns.push(Arc::new(found.iter().map(|found| found.finding.match_number).collect::<UInt64Array>()));
    columns.push(Arc::new(UInt64Array::from_iter_values(found.iter().map(|found| found.finding.row))));
    let classifier = |found: &Found| {
        let label = found.finding.label?;
        Some(artifact.pattern(found.rule)?.labels[usize::from(label)].to_string())
    };
    columns.push(Arc::new(found.iter().map(classifier).collect::<StringArray>()));
    columns.push(Arc::new(found.iter().map(|found| found.finding.rows.map(|rows| rows.0)).collect::<UInt64Array>()));
    columns.push(Arc::new(found.iter().map(|found| found.finding.rows.map(|rows| rows.1)).collect::<UInt64Array>()));
    let measures = found.iter().map(|found| {
        let measures = artifact.pattern(found.rule).map_or(&[][..], |pattern| &pattern.measures);
        let entries = measures.iter().zip(&found.finding.measures).map(|(measure, value)| {
            let value = match value {
                crate::event::Value::Text(text) if measure.json => serde_json::from_str(text).unwrap_or(serde_json::Value::Null),
                value => json(value),
            };
            (&*measure.name, value)
        });
        object(entries.collect())
    });
    columns.push(Arc::new(StringArray::from_iter_values(measures)));
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(|error| error.to_string())
}
