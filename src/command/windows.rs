//! Windows over the events of `match`: each batch gets their columns before it is matched.

use super::Failure;
use super::matching::{Options, Staged, plain_type};
use super::order::Order;
use crate::connector::sink::ResultWriter;
use crate::connector::source::ReadBatch;
use crate::event::batch::canonical_type;
use crate::event::{EventBatch, Schema};
use crate::id::FieldId;
use crate::rule::window::text;
use crate::tables::Artifact;
use crate::temporal::windows::limits::{Limits, Troubles};
use crate::temporal::windows::{Settings, Windows};
use crate::window::Window;
use arrow::array::{ArrayRef, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{Field, Schema as ArrowSchema, SchemaRef};
use std::sync::Arc;

/// What windows had to do with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Rows that came later than allowed: put in their place, and told what was held then.
    pub late: u64,
    /// Rows without a time, which are in no window.
    pub untimed: u64,
    /// Keys and rows that are held at the end, once for each partitioning.
    pub keys: u64,
    pub rows: u64,
    /// How often limits were reached.
    pub troubles: Troubles,
    /// For each window, how often it was NULL for that.
    pub unknown: Vec<u64>,
}

/// The windows of a run.
pub(super) struct Stage {
    pub windows: Windows,
    pub order: Order,
    schema: Schema,
    events: Schema,
    writer: Option<ResultWriter>,
    late: String,
    late_schema: SchemaRef,
    /// Whether late rows are kept from the patterns behind.
    hides_late: bool,
    /// Of the input, so far.
    bytes_read: u64,
    counters: Counters,
}

/// Windows ready for the events of `artifact`; `None`: it has none.
pub(super) fn windows(artifact: &Artifact, settings: &Settings) -> Option<Windows> {
    let windows: Vec<Window> = artifact.windows().iter().map(|column| column.window.clone()).collect();
    (!windows.is_empty()).then(|| Windows::with_settings(artifact.event_schema(), &windows, settings))
}

/// What a run lets windows hold.
pub(super) const fn limits(options: &Options) -> Limits {
    Limits { key_bytes: options.pattern_limits.key_bytes, tenant_bytes: options.pattern_limits.tenant_bytes }
}

/// The name of each window, or else its text.
pub(super) fn names(artifact: &Artifact) -> impl Iterator<Item = String> {
    artifact.windows().iter().map(|column| match &column.name {
        Some(name) => name.to_string(),
        None => text(&column.window, artifact.schema()),
    })
}

/// The columns of the windows that have names, in the order of the documents.
pub(super) fn named(artifact: &Artifact) -> impl Iterator<Item = FieldId> {
    let first = artifact.event_schema().fields().len();
    artifact.windows().iter().zip(first..).filter(|(column, _)| column.name.is_some()).map(|(_, field)| FieldId::new(field))
}

/// A field as results have it.
pub(super) fn output_field(name: &str, schema: &Schema, field: FieldId) -> Field {
    Field::new(name, plain_type(&canonical_type(schema.field(field).ty)), true)
}

/// What patterns behind windows are asked to do: where rows were put in order before, they wait for none.
pub(super) fn behind(artifact: &Artifact, options: &Options) -> Options {
    let mut options = options.clone();
    if !artifact.windows().is_empty() && options.allowed_lateness > 0 {
        (options.allowed_lateness, options.late) = (0, None);
    }
    options
}

impl Stage {
    /// Windows and an order with their state; late rows come in parts from row `part` on, or in one file.
    pub fn new(artifact: &Artifact, options: &Options, windows: Windows, order: Order, part: Option<u64>) -> Result<Self, Failure> {
        let events = artifact.event_schema().clone();
        let mut fields = vec![Field::new("row", arrow::datatypes::DataType::UInt64, false)];
        fields.extend((0..events.fields().len()).map(FieldId::new).map(|field| output_field(&events.field(field).name, &events, field)));
        let late_schema = Arc::new(ArrowSchema::new(fields));
        let reorders = options.allowed_lateness > 0;
        // Without windows in between, patterns write late rows themselves.
        let writes = artifact.patterns().is_empty() || reorders;
        let create = |name| match part {
            Some(row) => ResultWriter::create_part(name, &late_schema, row),
            None => ResultWriter::create(name, &late_schema),
        };
        let writer = options.late.as_deref().filter(|_| writes).map(create).transpose()?;
        Ok(Self {
            windows,
            schema: artifact.schema().clone(),
            order,
            events,
            writer,
            late: options.late.clone().unwrap_or_default(),
            late_schema,
            hides_late: reorders && !artifact.patterns().is_empty(),
            bytes_read: 0,
            counters: Counters::default(),
        })
    }

    /// Completes the part of the late rows before row `row`.
    pub fn next_part(&mut self, row: u64) -> Result<(), Failure> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        Ok(writer.next_part(&self.late, &self.late_schema, row)?)
    }

    /// Takes a batch: what is in order then, with the columns of the windows.
    pub fn take(&mut self, mut read: ReadBatch) -> Result<Staged, Failure> {
        self.bytes_read = read.bytes_read;
        let taken = self.order.take(&read.batch, &self.events);
        self.counters.untimed += taken.untimed;
        self.counters.late += taken.late.len() as u64;
        if let Some(writer) = &mut self.writer
            && !taken.late.is_empty()
        {
            writer.write(&late_rows(&taken.batch, &taken.late, &self.late_schema, &self.events)?)?;
        }
        read.batch = self.with_windows(&taken.batch)?;
        Ok(Staged { batch: read, late: if self.hides_late { taken.late } else { Vec::new() }, cut: None })
    }

    /// What still waits for earlier rows, of which none come any more; `None` where nothing does.
    pub fn rest(&mut self) -> Result<Option<Staged>, Failure> {
        let Some(batch) = self.order.rest(&self.events) else { return Ok(None) };
        let batch = ReadBatch { batch: self.with_windows(&batch)?, rejects: Vec::new(), warnings: Vec::new(), bytes_read: self.bytes_read };
        Ok(Some(Staged { batch, late: Vec::new(), cut: None }))
    }

    fn with_windows(&mut self, batch: &EventBatch) -> Result<EventBatch, String> {
        let columns = self.windows.take(batch)?;
        Ok(batch.with_columns(&self.schema, columns))
    }

    /// Completes the file of the late rows.
    pub fn finish(&mut self) -> Result<Counters, Failure> {
        if let Some(writer) = self.writer.take() {
            writer.finish()?;
        }
        let (keys, rows) = (self.windows.keys() as u64, self.windows.rows() as u64);
        Ok(Counters { keys, rows, troubles: self.windows.troubles(), unknown: self.windows.unknown(), ..self.counters })
    }
}

fn late_rows(batch: &EventBatch, rows: &[u32], schema: &SchemaRef, events: &Schema) -> Result<RecordBatch, String> {
    let indices = UInt32Array::from(rows.to_vec());
    let mut columns: Vec<ArrayRef> = vec![Arc::new(rows.iter().map(|row| batch.row_number(*row as usize)).collect::<UInt64Array>())];
    for (field, to) in (0..events.fields().len()).map(FieldId::new).zip(schema.fields().iter().skip(1)) {
        let column = take(&batch.column_or_null(events, field), &indices, None).map_err(|error| error.to_string())?;
        columns.push(arrow::compute::cast(&column, to.data_type()).map_err(|error| error.to_string())?);
    }
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(|error| error.to_string())
}
