//! Rows of an input in the order of their time, as far as the allowed lateness goes.

use crate::codec::columnar::ColumnarDecoder;
use crate::codec::{Decoder, Request};
use crate::event::{EventBatch, Schema};
use crate::id::FieldId;
use crate::temporal::windows::{tick, times};
use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::interleave;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::io::Cursor;
use std::sync::Arc;

/// Puts rows in the order of their time, and equal ones in that of their arrival, as far as the allowed lateness goes.
#[derive(Clone)]
pub(super) struct Order {
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
pub(super) struct Taken {
    pub batch: EventBatch,
    /// Those among them that came too late for it, ascending.
    pub late: Vec<u32>,
    pub untimed: u64,
}

impl Order {
    pub fn new(events: &Schema, lateness: i64) -> Self {
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

    pub fn take(&mut self, batch: &EventBatch, events: &Schema) -> Taken {
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

    pub fn rest(&mut self, events: &Schema) -> Option<EventBatch> {
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

/// What is saved of an order besides the rows that wait.
#[derive(Serialize, Deserialize)]
struct Head {
    latest: Option<i64>,
    waiting: usize,
}

impl Order {
    /// What is to be known of it, and how many chunks the rest is.
    pub fn head(&self) -> (serde_json::Value, usize) {
        let head = Head { latest: self.latest, waiting: self.waiting.len() };
        (serde_json::to_value(head).expect("plain data"), usize::from(!self.waiting.is_empty()))
    }

    /// The rows that wait as bytes: their numbers, then an Arrow IPC stream, in the order in which they are to go.
    pub fn encode(mut self, events: &Schema) -> Result<Vec<u8>, String> {
        let Some(batch) = self.rest(events) else { return Ok(Vec::new()) };
        let mut bytes: Vec<u8> = (0..batch.rows()).flat_map(|row| batch.row_number(row).to_le_bytes()).collect();
        let present =
            (0..events.fields().len()).map(FieldId::new).filter_map(|field| Some((&events.field(field).name, batch.column(field)?)));
        let columns = present.map(|(name, column)| (name, Arc::clone(column), true));
        let failed = |error: ArrowError| error.to_string();
        let batch = RecordBatch::try_from_iter_with_nullable(columns).map_err(failed)?;
        let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema()).map_err(failed)?;
        writer.write(&batch).and_then(|()| writer.finish()).map_err(failed)?;
        drop(writer);
        Ok(bytes)
    }

    /// The order that was saved; `read` gives the bytes.
    pub fn restored(
        head: &serde_json::Value,
        events: &Schema,
        lateness: i64,
        read: impl FnOnce() -> Result<Vec<u8>, String>,
    ) -> Result<Self, String> {
        let Head { latest, waiting } = Head::deserialize(head).map_err(|error| error.to_string())?;
        let mut order = Self { latest, ..Self::new(events, lateness) };
        if waiting == 0 {
            return Ok(order);
        }
        let wrong = || "the rows that wait are not those that were saved".to_owned();
        let bytes = read()?;
        let (numbers, stream) = waiting.checked_mul(8).and_then(|length| bytes.split_at_checked(length)).ok_or_else(wrong)?;
        let numbers: Vec<u64> = numbers.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
        let needed = (0..events.fields().len()).map(FieldId::new).collect();
        let request = Request { schema: Arc::new(events.clone()), needed, batch_rows: waiting };
        let mut decoder = ColumnarDecoder::arrow_stream(Cursor::new(stream.to_vec()), request)?;
        let decoded = decoder.decode()?.filter(|decoded| decoded.rows == waiting).ok_or_else(wrong)?;
        let batch = EventBatch::new(events, numbers[0], waiting, decoded.columns).with_row_numbers(numbers);
        for (row, time) in times(events, &batch).into_iter().enumerate() {
            order.waiting.push(Reverse((time.ok_or_else(wrong)?, row as u64, 0, row)));
        }
        (order.arrivals, order.next_batch) = (waiting as u64, 1);
        order.batches.insert(0, batch);
        Ok(order)
    }
}

/// Rows of several batches, each as batch and row, as one batch.
pub(super) fn gathered(batches: &[&EventBatch], rows: &[(usize, usize)], schema: &Schema) -> EventBatch {
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
