//! Velocity windows: what was seen so far of a row's key, as columns.
//!
//! ```text
//! batch ─ arguments, filters ─ rows, by key and in order of time ─ frames ─ a column for each window
//!          expr::columns        keys, pool, words                  running
//! ```
//! A row has its values when it arrives: of what came before it, and of nothing else. A row that is older than others of its key is put in its place
//! in time; what they were told stays as it was. So the values depend on the order of the rows within a key, and on no batch or thread.
//!
//! * [`group`]: windows over one partitioning share their rows. A row is held as its time and the numbers that the windows need, not as an event.
//! * [`running`]: few rows are looked through for each new one, which takes no memory; of many the frames are kept from row to row.
//! * [`exact`]: sums from which values may be taken back, without a trace.

pub mod exact;
pub mod group;
pub mod keys;
pub mod pool;
pub mod running;
pub mod words;

use crate::event::batch::timestamp_ticks;
use crate::event::{EventBatch, Schema, Type};
use crate::expr::columns::Cache;
use crate::id::FieldId;
use crate::window::Window;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::Date32Type;
use group::{Group, MANY, Retention};
use std::sync::Arc;

/// Room for `more` items. What grows to the size of the state grows by an eighth, and not to the double.
fn make_room<T>(items: &mut Vec<T>, more: usize) {
    if items.capacity() - items.len() < more {
        items.reserve_exact(more.max(items.len() / 8 + 64));
    }
}

/// Windows in service, with their state.
pub struct Windows {
    schema: Schema,
    groups: Vec<Group>,
    /// For each window, its group and its number there. Equal ones are the same.
    outputs: Vec<(usize, usize)>,
}

impl Windows {
    /// Windows over events of `schema`, of which rows may be so many nanoseconds late.
    #[must_use]
    pub fn new(schema: &Schema, windows: &[Window], lateness: i64) -> Self {
        Self::with_threshold(schema, windows, lateness, MANY)
    }

    /// The same, with frames kept running from `many` rows of a key on.
    #[must_use]
    pub fn with_threshold(schema: &Schema, windows: &[Window], lateness: i64, many: usize) -> Self {
        let tick = tick(schema);
        let mut groups: Vec<Group> = Vec::new();
        let mut outputs: Vec<(usize, usize)> = Vec::with_capacity(windows.len());
        for (at, window) in windows.iter().enumerate() {
            if let Some(same) = windows[..at].iter().position(|other| other == window) {
                outputs.push(outputs[same]);
                continue;
            }
            let key: Vec<FieldId> = schema.tenant.iter().chain(&window.partition_by).copied().collect();
            let retention = Retention::of(window.frame, tick, lateness / tick);
            let group = groups.iter().position(|group| group.takes(&key, retention)).unwrap_or_else(|| {
                groups.push(Group::new(schema, key, retention, tick, many));
                groups.len() - 1
            });
            outputs.push((group, groups[group].add(window, retention)));
        }
        Self { schema: schema.clone(), groups, outputs }
    }

    /// Takes the rows of a batch, in order. A column for each window, in the order of the windows; rows without a time have NULLs, and are in no window.
    #[must_use]
    pub fn take(&mut self, batch: &EventBatch) -> Vec<ArrayRef> {
        let times = times(&self.schema, batch);
        let mut cache = Cache::new();
        let columns: Vec<Vec<ArrayRef>> = self.groups.iter_mut().map(|group| group.take(&self.schema, batch, &times, &mut cache)).collect();
        self.outputs.iter().map(|(group, output)| Arc::clone(&columns[*group][*output])).collect()
    }

    /// Keys that are held, once for each partitioning.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.groups.iter().map(Group::keys).sum()
    }

    /// Rows that are held, once for each partitioning.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.groups.iter().map(Group::rows).sum()
    }

    /// Bytes that are taken for keys, and for rows; without what is kept of keys with many rows.
    #[must_use]
    pub fn bytes(&self) -> (usize, usize) {
        self.groups.iter().map(Group::bytes).fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    }
}

/// Nanoseconds in a tick of the field of event time.
#[must_use]
pub fn tick(schema: &Schema) -> i64 {
    match schema.time.map(|time| schema.field(time).ty) {
        Some(Type::Timestamp(unit)) => unit.nanoseconds(),
        _ => 86_400_000_000_000,
    }
}

/// The event time of each row, in ticks of its field.
#[must_use]
pub fn times(schema: &Schema, batch: &EventBatch) -> Vec<Option<i64>> {
    let Some((column, ty)) = schema.time.and_then(|field| Some((batch.column(field)?, schema.field(field).ty))) else {
        return vec![None; batch.rows()];
    };
    let valid = |row: &usize| column.is_valid(*row);
    match ty {
        Type::Timestamp(unit) => {
            let ticks = timestamp_ticks(column.as_ref(), unit);
            (0..batch.rows()).map(|row| Some(row).filter(valid).map(|row| ticks[row])).collect()
        }
        Type::Date => {
            let days = column.as_primitive::<Date32Type>().values();
            (0..batch.rows()).map(|row| Some(row).filter(valid).map(|row| i64::from(days[row]))).collect()
        }
        _ => vec![None; batch.rows()],
    }
}
