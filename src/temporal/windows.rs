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
//! * [`limits`]: a key or a tenant that would hold too much drops rows, and what these would have told is unknown.
//! * [`capture`]: a copy of the state, taken while rows go on coming.
//! * [`exact`]: sums from which values may be taken back, without a trace.

pub mod capture;
pub mod exact;
pub mod group;
pub mod keys;
pub mod limits;
pub mod pool;
pub mod running;
pub mod words;

use crate::event::batch::timestamp_ticks;
use crate::event::{EventBatch, Schema, Type};
use crate::expr::columns::Cache;
use crate::id::FieldId;
use crate::temporal::spill::Spill;
use crate::window::Window;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::Date32Type;
use capture::Chunk;
use group::{Group, MANY, Retention, SavedGroup};
use limits::{Limits, Troubles};
use std::collections::HashMap;
use std::sync::Arc;

/// Room for `more` items. What grows to the size of the state grows by an eighth, and not to the double.
pub(super) fn make_room<T>(items: &mut Vec<T>, more: usize) {
    if items.capacity() - items.len() < more {
        items.reserve_exact(more.max(items.len() / 8 + 64));
    }
}

/// How windows are kept.
#[derive(Clone)]
pub struct Settings {
    /// Nanoseconds that rows may be late.
    pub lateness: i64,
    /// Rows of a key from which on its frames are kept running.
    pub many: usize,
    /// Where the rows of quiet keys go; `None`: all stay in memory.
    pub spill: Option<Arc<Spill>>,
    /// What keys and tenants may hold.
    pub limits: Limits,
}

impl Settings {
    /// All in memory.
    #[must_use]
    pub fn new(lateness: i64) -> Self {
        Self { lateness, many: MANY, spill: None, limits: Limits::default() }
    }
}

/// Windows in service, with their state.
pub struct Windows {
    schema: Schema,
    groups: Vec<Group>,
    /// For each window, its group and its number there. Equal ones are the same.
    outputs: Vec<(usize, usize)>,
    /// How often rules had changed when the newest windows began.
    since: u32,
}

/// Windows that go on with what was saved.
pub struct Restored {
    pub windows: Windows,
    /// For each window, whether it was among those that were saved; the others begin with nothing.
    pub kept: Vec<bool>,
}

impl Windows {
    /// Windows over events of `schema`, of which rows may be so many nanoseconds late.
    #[must_use]
    pub fn new(schema: &Schema, windows: &[Window], lateness: i64) -> Self {
        Self::with_settings(schema, windows, &Settings::new(lateness))
    }

    /// Windows over events of `schema`.
    #[must_use]
    pub fn with_settings(schema: &Schema, windows: &[Window], settings: &Settings) -> Self {
        Self::begun(schema, windows, &vec![0; windows.len()], settings)
    }

    /// Windows that began when rules had changed so often, each.
    fn begun(schema: &Schema, windows: &[Window], since: &[u32], settings: &Settings) -> Self {
        let Settings { lateness, many, spill, limits } = settings;
        let tick = tick(schema);
        let mut groups: Vec<Group> = Vec::new();
        let mut outputs: Vec<(usize, usize)> = Vec::with_capacity(windows.len());
        for (at, window) in windows.iter().enumerate() {
            if let Some(same) = windows[..at].iter().position(|other| other == window) {
                outputs.push(outputs[same]);
                continue;
            }
            let key: Vec<FieldId> = schema.tenant.iter().chain(&window.partition_by).copied().collect();
            let retention = Retention::of(window.frame, tick, *lateness / tick);
            let group = groups.iter().position(|group| group.takes(&key, retention, since[at])).unwrap_or_else(|| {
                groups.push(Group::new(schema, key, retention, tick, *many, since[at]));
                groups.len() - 1
            });
            outputs.push((group, groups[group].add(window, retention)));
        }
        groups.iter_mut().for_each(|group| group.set_limits(*limits));
        if let Some(spill) = spill {
            groups.iter_mut().for_each(|group| group.spill_to(spill));
        }
        Self { schema: schema.clone(), groups, outputs, since: since.iter().copied().max().unwrap_or(0) }
    }

    /// Windows that go on with saved groups as far as they have the same definitions; `definitions` has that of each window, and `read` gives the bytes of a chunk
    /// by the numbers of its group and its own.
    ///
    /// # Errors
    /// What was never saved like this; rows that cannot be written to disk, where memory has no room for them.
    pub fn restored(
        schema: &Schema,
        windows: &[Window],
        definitions: &[String],
        settings: &Settings,
        saved: &[SavedGroup],
        read: &mut dyn FnMut(usize, usize) -> Result<Vec<u8>, String>,
    ) -> Result<Restored, String> {
        let group_of =
            |definition: &String| saved.iter().position(|group| group.windows.iter().any(|window| window.definition == *definition));
        let from: Vec<Option<usize>> = definitions.iter().map(group_of).collect();
        let next = saved.iter().map(|group| group.since).max().map_or(0, |latest| latest.saturating_add(1));
        let since: Vec<u32> = from.iter().map(|from| from.map_or(next, |group| saved[group].since)).collect();
        let mut restored = Self::begun(schema, windows, &since, settings);
        for number in 0..restored.groups.len() {
            let source = from[restored.of_group(number)[0]];
            source.into_iter().for_each(|source| restored.groups[number].expect(saved[source].rows));
        }
        for number in 0..restored.groups.len() {
            let own: Vec<usize> = restored.of_group(number);
            let Some(source) = from[own[0]] else { continue };
            if own.iter().any(|window| from[*window] != Some(source)) {
                return Err(format!("group {source} of the windows is not one"));
            }
            let own: Vec<&str> = own.iter().map(|window| definitions[*window].as_str()).collect();
            let group = &mut restored.groups[number];
            let same = group.restore(&saved[source], &own, &mut |chunk| read(source, chunk));
            if !same.map_err(|what| format!("group {source} of the windows: {what}"))? || source != number {
                group.change_all();
            }
        }
        restored.since = next;
        Ok(Restored { windows: restored, kept: from.iter().map(Option::is_some).collect() })
    }

    /// The same state for other windows: those of the same definition go on, the others begin with nothing. `before` and `definitions`: those of the windows that there are, and that
    /// there will be.
    ///
    /// # Errors
    /// As [`Windows::restored`].
    pub fn changed(
        mut self,
        before: &[String],
        windows: &[Window],
        definitions: &[String],
        settings: &Settings,
    ) -> Result<Restored, String> {
        self.copy_all_again();
        let saved = self.begin_capture(before);
        let mut chunks = HashMap::new();
        while let Some((group, number, chunk)) = self.capture()? {
            chunks.insert((group, number), chunk.encode());
        }
        let schema = self.schema.clone();
        drop(self);
        let mut read = |group: usize, chunk: usize| chunks.get(&(group, chunk)).cloned().ok_or_else(|| "a chunk is missing".to_owned());
        let mut restored = Self::restored(&schema, windows, definitions, settings, &saved, &mut read)?;
        // None of it was written anywhere.
        restored.windows.copy_all_again();
        Ok(restored)
    }

    /// The windows of a group, by the number of their output.
    fn of_group(&self, group: usize) -> Vec<usize> {
        let mut own: Vec<(usize, usize)> =
            self.outputs.iter().zip(0..).filter(|((of, _), _)| *of == group).map(|((_, output), window)| (*output, window)).collect();
        own.sort_unstable();
        own.dedup_by_key(|(output, _)| *output);
        own.into_iter().map(|(_, window)| window).collect()
    }

    /// Begins a copy of the state as it is now: what is to be known of each group. The keys and rows come in steps, with [`Windows::capture`].
    pub fn begin_capture(&mut self, definitions: &[String]) -> Vec<SavedGroup> {
        let of_groups: Vec<Vec<usize>> = (0..self.groups.len()).map(|group| self.of_group(group)).collect();
        let own = |windows: Vec<usize>| windows.into_iter().map(|window| definitions[window].clone()).collect();
        self.groups.iter_mut().zip(of_groups).map(|(group, windows)| group.begin_capture(own(windows))).collect()
    }

    /// Copies the next chunk that has changed since the last copy: the numbers of its group and its own. `None`: the copy is complete.
    ///
    /// # Errors
    /// When rows on disk cannot be read.
    pub fn capture(&mut self) -> Result<Option<(usize, usize, Chunk)>, String> {
        for (number, group) in self.groups.iter_mut().enumerate() {
            if let Some((chunk, keys)) = group.capture()? {
                return Ok(Some((number, chunk, keys)));
            }
        }
        Ok(None)
    }

    /// Has the next copy be one of everything: what was copied of late has not been kept.
    pub fn copy_all_again(&mut self) {
        self.groups.iter_mut().for_each(Group::change_all);
    }

    /// How often limits were reached.
    #[must_use]
    pub fn troubles(&self) -> Troubles {
        let mut all = Troubles::default();
        self.groups.iter().for_each(|group| all.add(group.troubles()));
        all
    }

    /// For each window, how often it was NULL because rows were dropped to stay within a limit.
    #[must_use]
    pub fn unknown(&self) -> Vec<u64> {
        self.outputs.iter().map(|(group, output)| self.groups[*group].unknown(*output)).collect()
    }

    /// Takes earlier rows, in order, for the windows that began with nothing.
    ///
    /// # Errors
    /// As [`Windows::take`].
    pub fn warm(&mut self, batch: &EventBatch) -> Result<(), String> {
        let times = times(&self.schema, batch);
        let mut cache = Cache::new();
        let mut fresh = self.groups.iter_mut().filter(|group| group.since() == self.since);
        fresh.try_for_each(|group| group.take(&self.schema, batch, &times, &mut cache).map(drop))
    }

    /// Takes the rows of a batch, in order. A column for each window, in the order of the windows; rows without a time have NULLs, and are in no window.
    ///
    /// # Errors
    /// When rows of quiet keys cannot be written to disk, or read. Nothing can be taken after it.
    pub fn take(&mut self, batch: &EventBatch) -> Result<Vec<ArrayRef>, String> {
        let times = times(&self.schema, batch);
        let mut cache = Cache::new();
        let columns = self.groups.iter_mut().map(|group| group.take(&self.schema, batch, &times, &mut cache));
        let columns: Vec<Vec<ArrayRef>> = columns.collect::<Result<_, String>>()?;
        Ok(self.outputs.iter().map(|(group, output)| Arc::clone(&columns[*group][*output])).collect())
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

    /// Bytes of memory that are taken for keys, and for rows; without what is kept of keys with many rows.
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
