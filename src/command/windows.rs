//! Windows over the events of `match`: each batch gets their columns before it is matched.

use super::Failure;
use super::matching::{Options, Staged, plain_type};
use crate::connector::sink::ResultWriter;
use crate::connector::source::ReadBatch;
use crate::event::batch::canonical_type;
use crate::event::{EventBatch, Schema};
use crate::id::FieldId;
use crate::tables::Artifact;
use crate::temporal::windows::{Windows, tick, times};
use crate::window::Window;
use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::{interleave, take};
use arrow::datatypes::{Field, Schema as ArrowSchema, SchemaRef};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

/// What windows had to do with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Rows that came later than allowed: put in their place, and told what was held then.
    pub late: u64,
    /// Rows without a time, which are in no window.
    pub untimed: u64,
    /// Keys and rows that are held at the end, once for each partitioning.
    pub keys: u64,
    pub rows: u64,
}

/// The windows of a run.
pub(super) struct Stage {
    windows: Windows,
    schema: Schema,
    events: Schema,
    order: Order,
    writer: Option<ResultWriter>,
    late_schema: SchemaRef,
    /// Whether late rows are kept from the patterns behind.
    hides_late: bool,
    /// Of the input, so far.
    bytes_read: u64,
    counters: Counters,
}

/// Windows ready for the events of `artifact`; `None`: it has none.
pub(super) fn windows(artifact: &Artifact, lateness: i64) -> Option<Windows> {
    let windows: Vec<Window> = artifact.windows().iter().map(|column| column.window.clone()).collect();
    (!windows.is_empty()).then(|| Windows::new(artifact.event_schema(), &windows, lateness))
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

/// Rows of several batches, each as batch and row, as one batch.
fn gathered(batches: &[&EventBatch], rows: &[(usize, usize)], schema: &Schema) -> EventBatch {
    let column = |field| {
        batches.iter().any(|batch| batch.column(field).is_some()).then(|| {
            let columns: Vec<ArrayRef> = batches.iter().map(|batch| batch.column_or_null(schema, field)).collect();
            let columns: Vec<&dyn Array> = columns.iter().map(AsRef::as_ref).collect();
            interleave(&columns, rows).expect("rows are within their batches, and all columns of a field are of one type")
        })
    };
    let columns = (0..schema.fields().len()).map(|field| column(FieldId::new(field))).collect();
    let numbers: Vec<u64> = rows.iter().map(|(batch, row)| batches[*batch].row_number(*row)).collect();
    EventBatch::new(schema, numbers.first().copied().unwrap_or(0), rows.len(), columns).with_row_numbers(numbers)
}

impl Stage {
    /// `None`: the rules have no windows.
    pub fn new(artifact: &Artifact, options: &Options) -> Result<Option<Self>, Failure> {
        let Some(windows) = windows(artifact, options.allowed_lateness) else { return Ok(None) };
        let events = artifact.event_schema().clone();
        let mut fields = vec![Field::new("row", arrow::datatypes::DataType::UInt64, false)];
        fields.extend((0..events.fields().len()).map(FieldId::new).map(|field| output_field(&events.field(field).name, &events, field)));
        let late_schema = Arc::new(ArrowSchema::new(fields));
        let reorders = options.allowed_lateness > 0;
        // Without windows in between, patterns write late rows themselves.
        let writes = artifact.patterns().is_empty() || reorders;
        let writer = options.late.as_deref().filter(|_| writes).map(|name| ResultWriter::create(name, &late_schema)).transpose()?;
        Ok(Some(Self {
            windows,
            schema: artifact.schema().clone(),
            order: Order::new(&events, options.allowed_lateness),
            events,
            writer,
            late_schema,
            hides_late: reorders && !artifact.patterns().is_empty(),
            bytes_read: 0,
            counters: Counters::default(),
        }))
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
        read.batch = self.with_windows(&taken.batch);
        Ok(Staged { batch: read, late: if self.hides_late { taken.late } else { Vec::new() } })
    }

    /// What still waits for earlier rows, of which none come any more; `None` where nothing does.
    pub fn rest(&mut self) -> Option<Staged> {
        let batch = self.order.rest(&self.events)?;
        let batch = ReadBatch { batch: self.with_windows(&batch), rejects: Vec::new(), warnings: Vec::new(), bytes_read: self.bytes_read };
        Some(Staged { batch, late: Vec::new() })
    }

    fn with_windows(&mut self, batch: &EventBatch) -> EventBatch {
        let columns = self.windows.take(batch);
        batch.with_columns(&self.schema, columns)
    }

    pub fn finish(self) -> Result<Counters, Failure> {
        if let Some(writer) = self.writer {
            writer.finish()?;
        }
        Ok(Counters { keys: self.windows.keys() as u64, rows: self.windows.rows() as u64, ..self.counters })
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

/// Puts rows in the order of their time, and equal ones in that of their arrival, as far as the allowed lateness goes.
struct Order {
    /// Ticks of the time field; 0: rows stay as they come.
    lateness: i64,
    latest: Option<i64>,
    arrivals: u64,
    /// Time, arrival, batch and row of what waits.
    waiting: BinaryHeap<Reverse<(i64, u64, u64, usize)>>,
    /// The batches that rows wait in.
    batches: BTreeMap<u64, EventBatch>,
    next_batch: u64,
}

/// Rows that are in order.
struct Taken {
    batch: EventBatch,
    /// Those among them that came too late for it, ascending.
    late: Vec<u32>,
    untimed: u64,
}

impl Order {
    fn new(events: &Schema, lateness: i64) -> Self {
        Self {
            lateness: lateness / tick(events),
            latest: None,
            arrivals: 0,
            waiting: BinaryHeap::new(),
            batches: BTreeMap::new(),
            next_batch: 0,
        }
    }

    /// No later row has a time before this one, or it is late. All that lies before it is settled.
    const fn watermark(&self) -> Option<i64> {
        match self.latest {
            Some(latest) => Some(latest.saturating_sub(self.lateness)),
            None => None,
        }
    }

    fn take(&mut self, batch: &EventBatch, events: &Schema) -> Taken {
        let times = times(events, batch);
        let number = self.next_batch;
        let mut taken = Taken { batch: batch.clone(), late: Vec::new(), untimed: 0 };
        let mut ready: Vec<(u64, usize)> = Vec::new();
        for (row, time) in times.into_iter().enumerate() {
            let is_late = time.zip(self.watermark()).is_some_and(|(time, watermark)| time < watermark);
            self.latest = self.latest.max(time);
            if is_late {
                taken.late.push(ready.len() as u32);
            }
            taken.untimed += u64::from(time.is_none());
            match time.filter(|_| !is_late && self.lateness > 0) {
                None => ready.push((number, row)),
                Some(time) => {
                    self.waiting.push(Reverse((time, self.arrivals, number, row)));
                    self.arrivals += 1;
                }
            }
            self.release(self.watermark(), &mut ready);
        }
        if self.lateness > 0 {
            self.batches.insert(number, batch.clone());
            self.next_batch += 1;
            taken.batch = self.gather(&ready, events);
        }
        taken
    }

    /// What lies before the watermark; without one, all.
    fn release(&mut self, watermark: Option<i64>, ready: &mut Vec<(u64, usize)>) {
        while let Some(Reverse((time, _, batch, row))) = self.waiting.peek()
            && watermark.is_none_or(|watermark| *time < watermark)
        {
            ready.push((*batch, *row));
            self.waiting.pop();
        }
    }

    fn rest(&mut self, events: &Schema) -> Option<EventBatch> {
        let mut ready = Vec::new();
        self.release(None, &mut ready);
        (!ready.is_empty()).then(|| self.gather(&ready, events))
    }

    /// These rows as a batch; batches that nothing waits in any more are let go.
    fn gather(&mut self, ready: &[(u64, usize)], events: &Schema) -> EventBatch {
        let numbers: Vec<u64> = self.batches.keys().copied().collect();
        let batches: Vec<&EventBatch> = self.batches.values().collect();
        let rows: Vec<(usize, usize)> = ready.iter().map(|(batch, row)| (numbers.binary_search(batch).unwrap_or_default(), *row)).collect();
        let gathered = gathered(&batches, &rows, events);
        let needed: BTreeSet<u64> = self.waiting.iter().map(|Reverse((_, _, batch, _))| *batch).collect();
        self.batches.retain(|batch, _| needed.contains(batch));
        gathered
    }
}
