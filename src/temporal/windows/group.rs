//! The windows that share their rows: one partitioning, one way to forget.

mod bounded;
mod quiet;
mod saved;

pub use saved::{SavedGroup, SavedWindow};

use super::capture::Held;
use super::keys::{Keys, Texts};
use super::limits::{Bounds, Limits, Troubles};
use super::pool::{Block, Pool};
use super::running::{Kind, Place, Rows, Running, Summary, summary, value};
use super::words::{self, Reader, Words, Writer};
use crate::event::{EventBatch, Schema, Type};
use crate::expr::Expr;
use crate::expr::columns::{Cache, Program};
use crate::id::FieldId;
use crate::temporal::steps::{Capture, SLOTS};
use crate::window::{Frame, Function, Window};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use foldhash::fast::FixedState;
use quiet::Quiet;
use std::collections::HashMap;
use std::ops::Range;

/// Rows of a key from which on its frames are kept running. Below, they are looked through for each row: that is as fast, and takes no memory.
pub const MANY: usize = 32;

/// Rows of a key that are kept however old they are: below, nothing is gained by a look at their age.
const FEW: usize = 8;

/// Rows whose keys are looked up together.
const CHUNK: usize = 128;

/// In the place of the slot of a row that is in no window.
const NO_SLOT: u32 = u32::MAX;

/// When rows are forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// When they are older than so many ticks, and the newest rows of their key not.
    Age(i64),
    /// When so many newer ones of their key are there: a few more than the frame has, for rows that come out of order.
    Count(usize),
    Never,
}

impl Retention {
    /// What a frame needs, with so many ticks of lateness.
    #[must_use]
    pub fn of(frame: Frame, tick: i64, lateness: i64) -> Self {
        match frame {
            Frame::Range { from: Some(from), .. } => Self::Age((from / tick).saturating_add(lateness)),
            Frame::Rows { from: Some(from), .. } => Self::Count(from as usize + 1 + FEW),
            _ => Self::Never,
        }
    }

    /// Whether rows that are forgotten like this and like that may be kept together.
    #[must_use]
    pub const fn goes_with(self, other: Self) -> bool {
        matches!((self, other), (Self::Age(_), Self::Age(_)) | (Self::Count(_), Self::Count(_)) | (Self::Never, Self::Never))
    }

    const fn or_longer(self, other: Self) -> Self {
        match (self, other) {
            (Self::Age(a), Self::Age(b)) => Self::Age(if a > b { a } else { b }),
            (Self::Count(a), Self::Count(b)) => Self::Count(if a > b { a } else { b }),
            _ => Self::Never,
        }
    }
}

/// A frame in ticks of the time field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TickFrame {
    Range { from: Option<i64>, to: i64, current: bool },
    Rows { from: Option<u32>, to: u32 },
}

impl TickFrame {
    const fn of(frame: Frame, tick: i64) -> Self {
        match frame {
            Frame::Rows { from, to } => Self::Rows { from, to },
            Frame::Range { from, to, current } => {
                let from = match from {
                    Some(from) => Some(from / tick),
                    None => None,
                };
                // The youngest row is at least so old: ticks are whole.
                Self::Range { from, to: to / tick + (to % tick > 0) as i64, current: current && to == 0 }
            }
        }
    }

    /// Whether row `at`, of this time, may look at rows before the first that is held, the newest of which has the time `mark`.
    const fn reaches(self, mark: i64, time: i64, at: usize) -> bool {
        match self {
            Self::Range { from: Some(from), .. } => time.saturating_sub(from) <= mark,
            Self::Rows { from: Some(from), .. } => at < from as usize,
            Self::Range { from: None, .. } | Self::Rows { from: None, .. } => true,
        }
    }

    /// The rows that row `at` looks at.
    fn range(self, rows: &Rows, at: usize) -> Range<usize> {
        let time = rows.time(at);
        match self {
            Self::Rows { from, to } => {
                let from = from.map_or(0, |from| at.saturating_sub(from as usize));
                from..(at + 1).saturating_sub(to as usize).max(from)
            }
            Self::Range { from, to, current } => {
                let from = from.map_or(0, |from| {
                    let oldest = time.saturating_sub(from);
                    rows.first_not(|time| time < oldest)
                });
                let end = match to {
                    0 => at + usize::from(current),
                    to => {
                        let youngest = time.checked_sub(to);
                        youngest.map_or(0, |youngest| rows.first_not(|time| time <= youngest))
                    }
                };
                from..end.max(from)
            }
        }
    }
}

/// An argument with its filter.
struct Measure {
    argument: Option<Expr>,
    filter: Option<Expr>,
    programs: (Option<Program>, Option<Program>),
    place: Place,
}

/// What is kept of a frame for one or more windows.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Aggregate {
    frame: usize,
    measure: usize,
    kind: Kind,
}

/// A window's function, of an aggregate.
struct Output {
    function: Function,
    aggregate: usize,
    ty: Type,
    /// How often it was NULL because rows were dropped to stay within a limit.
    unknown: u64,
}

/// Frames of a key with many rows, kept running.
#[derive(Clone, Debug)]
struct Hot {
    ranges: Vec<Range<u32>>,
    running: Vec<Running>,
    /// As they were last counted.
    bytes: usize,
}

/// Windows over one partitioning, with the rows of all its keys.
pub struct Group {
    key_fields: Vec<FieldId>,
    key_types: Vec<Type>,
    retention: Retention,
    tick: i64,
    frames: Vec<TickFrame>,
    measures: Vec<Measure>,
    aggregates: Vec<Aggregate>,
    outputs: Vec<Output>,
    width: usize,
    many: usize,
    /// How often rules had changed when its windows began; those that began later have rows of their own.
    since: u32,
    limits: Limits,
    state: State,
    /// For each chunk of slots, whether a key has changed since the last copy.
    changed: Vec<bool>,
    capture: Option<Capture<Held>>,
    /// `None`: all is in memory.
    quiet: Option<Quiet>,
}

/// What is kept.
#[derive(Clone, Debug)]
struct State {
    keys: Keys,
    blocks: Vec<Block>,
    pool: Pool,
    texts: Texts,
    hot: HashMap<u32, Hot, FixedState>,
    hot_bytes: usize,
    bounds: Bounds,
    /// The time that rows have come to: the median of the last [`CHUNK`] ones. The highest would be that of any row with a wrong time, and have all others forgotten.
    clock: i64,
    /// The times of the rows since.
    recent: Vec<i64>,
    swept: i64,
    /// Rows since then.
    rows_since: usize,
    rows_seen: u64,
}

/// Room that is used again for each row.
#[derive(Default)]
struct Scratch {
    /// The first row of the batch whose slot is known.
    first: usize,
    keys: Vec<u64>,
    hashes: Vec<u64>,
    slots: Vec<u32>,
    ranges: Vec<Range<usize>>,
    summaries: Vec<Summary>,
}

impl Group {
    /// No windows yet, over rows of equal `key_fields`.
    #[must_use]
    pub fn new(schema: &Schema, key_fields: Vec<FieldId>, retention: Retention, tick: i64, many: usize, since: u32) -> Self {
        let key_types: Vec<Type> = key_fields.iter().map(|field| schema.field(*field).ty).collect();
        let key_width = key_types.iter().map(|ty| words::width(*ty)).sum::<usize>() + 1;
        let state = State {
            keys: Keys::new(key_width),
            blocks: Vec::new(),
            pool: Pool::new(1),
            texts: Texts::default(),
            hot: HashMap::default(),
            hot_bytes: 0,
            bounds: Bounds::new(schema.tenant.map(|tenant| schema.field(tenant).ty)),
            clock: i64::MIN,
            recent: Vec::new(),
            swept: i64::MIN,
            rows_since: 0,
            rows_seen: 0,
        };
        Self {
            key_fields,
            key_types,
            retention,
            tick,
            frames: Vec::new(),
            measures: Vec::new(),
            aggregates: Vec::new(),
            outputs: Vec::new(),
            width: 1,
            many,
            since,
            limits: Limits::default(),
            state,
            changed: Vec::new(),
            capture: None,
            quiet: None,
        }
    }

    /// Whether a window's rows may be kept here.
    #[must_use]
    pub fn takes(&self, key_fields: &[FieldId], retention: Retention, since: u32) -> bool {
        self.key_fields == key_fields && self.retention.goes_with(retention) && self.since == since
    }

    /// How often rules had changed when its windows began.
    #[must_use]
    pub const fn since(&self) -> u32 {
        self.since
    }

    /// Adds a window, before any row is taken; the number of its output.
    pub fn add(&mut self, window: &Window, retention: Retention) -> usize {
        self.retention = self.retention.or_longer(retention);
        let frame = number(&mut self.frames, TickFrame::of(window.frame, self.tick));
        let held = window.function != Function::Count;
        let known = self.measures.iter().position(|known| known.argument == window.argument && known.filter == window.filter);
        let measure = known.unwrap_or_else(|| {
            let ty = window.argument.as_ref().map_or(Type::Int, |argument| argument.ty(argument.root()));
            let programs = (window.argument.clone().map(Program::new), window.filter.clone().map(Program::new));
            let always = window.argument.is_none() && window.filter.is_none();
            let place = Place { ty, flags: self.measures.len() * 2, value: None, always };
            self.measures.push(Measure { argument: window.argument.clone(), filter: window.filter.clone(), programs, place });
            self.measures.len() - 1
        });
        if held {
            self.measures[measure].place.value = Some(0);
        }
        let aggregate = number(&mut self.aggregates, Aggregate { frame, measure, kind: Kind::of(window.function) });
        self.outputs.push(Output { function: window.function, aggregate, ty: window.ty(), unknown: 0 });
        self.lay_out();
        self.outputs.len() - 1
    }

    /// Time, flags, values.
    fn lay_out(&mut self) {
        self.width = 1 + (self.measures.len() * 2).div_ceil(64);
        for measure in self.measures.iter_mut().filter(|measure| measure.place.value.is_some()) {
            measure.place.value = Some(self.width);
            self.width += words::width(measure.place.ty);
        }
        self.state.pool = Pool::new(self.width);
    }

    /// Takes the rows of a batch, one after the other; `times` has those that have one. The columns of the windows, in the order in which these were added.
    ///
    /// # Errors
    /// When rows on disk cannot be read or written. Nothing can be taken after it.
    pub fn take(&mut self, schema: &Schema, batch: &EventBatch, times: &[Option<i64>], cache: &mut Cache) -> Result<Vec<ArrayRef>, String> {
        let rows = batch.rows();
        let key_columns: Vec<ArrayRef> = self.key_fields.iter().map(|field| batch.column_or_null(schema, *field)).collect();
        let mut keys: Vec<Reader> = key_columns.iter().zip(&self.key_types).map(|(column, ty)| Reader::new(column, *ty)).collect();
        let columns: Vec<(Option<ArrayRef>, Option<ArrayRef>)> = self
            .measures
            .iter()
            .map(|measure| {
                let mut column = |program: &Option<Program>| program.as_ref().map(|program| program.evaluate(schema, batch, None, cache));
                (column(&measure.programs.0), column(&measure.programs.1))
            })
            .collect();
        let mut readers: Vec<(Option<Reader>, Option<&ArrayRef>, Option<&BooleanArray>)> = columns
            .iter()
            .zip(&self.measures)
            .map(|((argument, filter), measure)| {
                let reader =
                    argument.as_ref().filter(|_| measure.place.value.is_some()).map(|column| Reader::new(column, measure.place.ty));
                (reader, argument.as_ref(), filter.as_ref().map(|filter| filter.as_boolean()))
            })
            .collect();
        let mut writers: Vec<Writer> = self.outputs.iter().map(|output| Writer::new(output.ty, rows)).collect();
        let mut row = vec![0; self.width];
        let mut answers = vec![None; self.outputs.len()];
        let mut scratch = Scratch::default();
        self.share_out();
        for at in 0..rows {
            if at == 0 || self.state.rows_seen.is_multiple_of(CHUNK as u64) {
                // Chunks end where they would in any other batches.
                self.sweep()?;
                self.give_way(&scratch.slots)?;
                let left = CHUNK - (self.state.rows_seen % CHUNK as u64) as usize;
                self.find_slots(&mut keys, times, at..rows.min(at + left), &mut scratch)?;
            }
            self.state.rows_seen += 1;
            answers.fill(None);
            let mut grown = None;
            if let Some(time) = times[at] {
                row.fill(0);
                row[0] = time.cast_unsigned();
                for ((reader, argument, filter), measure) in readers.iter_mut().zip(&self.measures) {
                    if filter.is_some_and(|filter| filter.is_null(at) || !filter.value(at)) {
                        continue;
                    }
                    let Place { flags, value, ty, .. } = measure.place;
                    row[1 + flags / 64] |= 1 << (flags % 64);
                    if argument.is_some_and(|argument| argument.is_null(at)) {
                        continue;
                    }
                    row[1 + flags / 64] |= 2 << (flags % 64);
                    if let (Some(place), Some(reader)) = (value, reader)
                        && let Some((low, high)) = reader.words(at, &mut self.state.texts)
                    {
                        row[place] = low;
                        if words::width(ty) == 2 {
                            row[place + 1] = high;
                        }
                    }
                }
                let slot = scratch.slots[at - scratch.first];
                grown = self.step(slot, &row, time, &mut scratch, &mut answers).then_some(slot);
            }
            writers.iter_mut().zip(&answers).for_each(|(writer, answer)| writer.push(*answer, &mut self.state.texts));
            // Only now: the answers refer to texts of rows.
            grown.into_iter().for_each(|slot| self.drop_what_is_too_much(slot));
        }
        let columns = writers.into_iter().map(|writer| writer.finish(&mut self.state.texts)).collect();
        let readers = readers.into_iter().filter_map(|(reader, ..)| reader);
        keys.into_iter().chain(readers).for_each(|reader| reader.release(&mut self.state.texts));
        self.give_way(&scratch.slots)?;
        Ok(columns)
    }

    /// The slots of some rows' keys. Looked up together, they do not wait for memory one after the other: that is most of the time where there are many keys.
    fn find_slots(
        &mut self,
        readers: &mut [Reader],
        times: &[Option<i64>],
        rows: Range<usize>,
        scratch: &mut Scratch,
    ) -> Result<(), String> {
        let state = &mut self.state;
        let width = key_width(&self.key_types);
        scratch.first = rows.start;
        scratch.keys.resize(rows.len() * width, 0);
        scratch.hashes.clear();
        for (key, row) in scratch.keys.chunks_exact_mut(width).zip(rows.clone()) {
            read_key(readers, &self.key_types, row, key, &mut state.texts);
            scratch.hashes.push(Keys::hash(key));
        }
        let mut fetched = scratch.hashes.iter().fold(0, |all, hash| all ^ state.keys.fetch(*hash));
        fetched ^= scratch.hashes.iter().fold(0, |all, hash| all ^ state.keys.fetch_key(*hash));
        scratch.slots.clear();
        for ((key, hash), row) in scratch.keys.chunks_exact(width).zip(&scratch.hashes).zip(rows) {
            if times[row].is_none() {
                scratch.slots.push(NO_SLOT);
                continue;
            }
            let (slot, new) = state.keys.find_or_add(key, *hash);
            if new {
                if state.blocks.len() <= slot as usize {
                    super::make_room(&mut state.blocks, 1);
                    state.blocks.push(Block::default());
                }
                refer(key_texts(&self.key_types, key), &mut state.texts);
            }
            scratch.slots.push(slot);
        }
        self.fetch(&scratch.slots)?;
        let state = &self.state;
        // Rows that are in no window have no slot.
        let blocks = || scratch.slots.iter().filter_map(|slot| state.blocks.get(*slot as usize));
        fetched ^= blocks().fold(0, |all, block| all ^ block.rows() as u64);
        // A word of each line of the newest rows.
        fetched ^= blocks().flat_map(|block| state.pool.rows(*block).iter().rev().step_by(8).take(8)).fold(0, |all, word| all ^ word);
        std::hint::black_box(fetched);
        Ok(())
    }

    /// Notes that a key is about to change.
    fn touch(&mut self, slot: u32) {
        let chunk = slot as usize / SLOTS;
        if self.changed.len() <= chunk {
            self.changed.resize(chunk + 1, true);
        }
        self.changed[chunk] = true;
        if self.capture.as_ref().is_some_and(|capture| capture.awaits(slot)) {
            self.keep(slot);
        }
    }

    /// One row: into its place in time, and what each window says of it. Whether its key has more room than before.
    fn step(&mut self, slot: u32, row: &[u64], time: i64, scratch: &mut Scratch, answers: &mut [Option<Words>]) -> bool {
        self.touch(slot);
        self.state.tick(time);
        let room = self.state.blocks[slot as usize].room();
        if self.is_unknown(slot, time) {
            self.outputs.iter_mut().for_each(|output| output.unknown += 1);
            return false;
        }
        refer(row_texts(&self.measures, row, self.width), &mut self.state.texts);
        self.make_room(slot);
        let state = &mut self.state;
        let block = &mut state.blocks[slot as usize];
        let rows = Rows { words: state.pool.rows(*block), width: self.width, texts: &state.texts };
        let held = rows.count();
        let at = if held == 0 || rows.time(held - 1) <= time { held } else { rows.first_not(|other| other <= time) };
        state.pool.insert(block, at, row);
        let rows = Rows { words: state.pool.rows(*block), width: self.width, texts: &state.texts };
        let mut hot = if held >= self.many { state.hot.get_mut(&slot) } else { None };
        if hot.is_none() && held >= self.many && at == held {
            hot = Some(state.hot.entry(slot).or_insert_with(|| self.aggregates.iter().fold(Hot::new(self.frames.len()), Hot::with)));
        }
        match hot {
            Some(hot) if at == held => {
                for (frame, range) in self.frames.iter().zip(0..) {
                    hot.move_to(range, frame.range(&rows, at), &rows, &self.aggregates, &self.measures);
                }
                self.outputs.iter().zip(answers.iter_mut()).for_each(|(output, answer)| {
                    let Aggregate { frame, measure, kind } = self.aggregates[output.aggregate];
                    let range = hot.ranges[frame].start as usize..hot.ranges[frame].end as usize;
                    let place = &self.measures[measure].place;
                    let summary = hot.running[output.aggregate].summary(&rows, kind, place, range.clone());
                    *answer = value(output.function, &summary, &rows, place, range);
                });
            }
            hot => {
                // Few rows, or a row out of order: what it sees is looked through.
                let Scratch { ranges, summaries, .. } = scratch;
                ranges.clear();
                ranges.extend(self.frames.iter().map(|frame| frame.range(&rows, at)));
                let of = |aggregate: &Aggregate| {
                    summary(&rows, aggregate.kind, &self.measures[aggregate.measure].place, ranges[aggregate.frame].clone())
                };
                summaries.clear();
                summaries.extend(self.aggregates.iter().map(of));
                self.outputs.iter().zip(answers.iter_mut()).for_each(|(output, answer)| {
                    let Aggregate { frame, measure, .. } = self.aggregates[output.aggregate];
                    let place = &self.measures[measure].place;
                    *answer = value(output.function, &summaries[output.aggregate], &rows, place, ranges[frame].clone());
                });
                if let Some(hot) = hot {
                    for (frame, range) in self.frames.iter().zip(0..) {
                        let target = frame.range(&rows, held);
                        hot.insert(range, at, &target, &rows, &self.aggregates, &self.measures);
                        hot.move_to(range, target, &rows, &self.aggregates, &self.measures);
                    }
                }
            }
        }
        self.tell_unknown(slot, time, at, answers);
        let has = self.state.blocks[slot as usize].room();
        if has != room {
            self.change_room(slot, room, has);
        }
        has > room
    }

    /// Forgets rows of a key that no later row will look at, once its block is full.
    fn make_room(&mut self, slot: u32) {
        let state = &mut self.state;
        let block = &mut state.blocks[slot as usize];
        let held = block.rows();
        if held < FEW || !held.is_power_of_two() {
            return;
        }
        let rows = Rows { words: state.pool.rows(*block), width: self.width, texts: &state.texts };
        let old = match self.retention {
            Retention::Age(age) => {
                let oldest = rows.time(held - 1).min(state.clock).saturating_sub(age);
                rows.first_not(|time| time < oldest)
            }
            Retention::Count(count) => held.saturating_sub(count),
            Retention::Never => 0,
        };
        if old * 4 < held {
            return;
        }
        self.drop_first(slot, old);
        let state = &mut self.state;
        if held - old < self.many {
            state.cool(slot);
        } else if let Some(hot) = state.hot.get_mut(&slot) {
            hot.shift(old);
        }
    }

    /// Drops the oldest rows of a key, of more.
    fn drop_first(&mut self, slot: u32, rows: usize) {
        let state = &mut self.state;
        let block = &mut state.blocks[slot as usize];
        let texts: Vec<u32> = row_texts(&self.measures, &state.pool.rows(*block)[..rows * self.width], self.width).collect();
        texts.into_iter().for_each(|text| state.texts.release(text));
        state.pool.drop_first(block, rows);
    }

    /// Forgets keys that have not returned for twice as long as rows are kept. Of all keys it takes a look once for half as many rows.
    fn sweep(&mut self) -> Result<(), String> {
        if !self.state.rows_seen.is_multiple_of(CHUNK as u64) {
            return Ok(());
        }
        self.let_go_of_those_turned_away();
        let state = &mut self.state;
        let Retention::Age(age) = self.retention else { return Ok(()) };
        let many = (state.keys.living() - state.bounds.refused.len()) / 2;
        if state.rows_since < many.max(1024) || state.clock.abs_diff(state.swept) < age.unsigned_abs() / 2 {
            return Ok(());
        }
        (state.swept, state.rows_since) = (state.clock, 0);
        let oldest = state.clock.saturating_sub(age.saturating_mul(2));
        let quiet = self.quiet.as_ref();
        let gone = |slot: u32, block: Block| {
            if block.is_away() {
                return quiet.is_some_and(|quiet| quiet.latest(slot) < oldest);
            }
            let rows = state.pool.rows(block);
            !rows.is_empty() && rows[rows.len() - self.width].cast_signed() < oldest
        };
        let gone: Vec<u32> = (0..).zip(&state.blocks).filter(|(slot, block)| gone(*slot, **block)).map(|(slot, _)| slot).collect();
        if gone.is_empty() {
            return Ok(());
        }
        if self.capture.is_some() {
            // They are copied as they are.
            self.fetch(&gone)?;
        }
        gone.iter().for_each(|slot| self.touch(*slot));
        for slot in &gone {
            self.change_room(*slot, self.state.blocks[*slot as usize].room(), 0);
            self.state.bounds.set_mark(*slot, None);
        }
        self.forget_away(&gone);
        let state = &mut self.state;
        for slot in &gone {
            let block = std::mem::take(&mut state.blocks[*slot as usize]);
            let texts: Vec<u32> = row_texts(&self.measures, state.pool.rows(block), self.width)
                .chain(key_texts(&self.key_types, state.keys.key(*slot)))
                .collect();
            texts.into_iter().for_each(|text| state.texts.release(text));
            state.pool.release(block);
            state.cool(*slot);
        }
        state.keys.remove(&gone);
        Ok(())
    }

    /// Keys that are held.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.state.keys.living() - self.state.bounds.refused.len()
    }

    /// Has keys and tenants hold so much.
    pub const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// How often limits were reached.
    #[must_use]
    pub const fn troubles(&self) -> Troubles {
        self.state.bounds.troubles
    }

    /// How often the window of an output was NULL because rows were dropped to stay within a limit.
    #[must_use]
    pub fn unknown(&self, output: usize) -> u64 {
        self.outputs[output].unknown
    }

    /// Rows that are held.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.state.blocks.iter().map(|block| block.rows()).sum()
    }

    /// Bytes that are taken: for keys, and for rows.
    #[must_use]
    pub fn bytes(&self) -> (usize, usize) {
        (self.state.keys.bytes() + self.state.blocks.capacity() * size_of::<Block>(), self.state.pool.bytes())
    }
}

impl State {
    /// Forgets what is kept running of a key.
    fn cool(&mut self, slot: u32) {
        if let Some(hot) = self.hot.remove(&slot) {
            self.hot_bytes -= hot.bytes;
        }
    }

    /// Takes note of the time of a row.
    fn tick(&mut self, time: i64) {
        self.rows_since += 1;
        self.recent.push(time);
        if self.recent.len() == CHUNK {
            self.clock = *self.recent.select_nth_unstable(CHUNK / 2).1;
            self.recent.clear();
        }
    }
}

impl Hot {
    fn new(frames: usize) -> Self {
        Self { ranges: vec![0..0; frames], running: Vec::new(), bytes: 0 }
    }

    fn with(mut self, aggregate: &Aggregate) -> Self {
        self.running.push(Running::new(aggregate.kind));
        self
    }

    /// Moves a frame forward.
    fn move_to(&mut self, frame: usize, to: Range<usize>, rows: &Rows, aggregates: &[Aggregate], measures: &[Measure]) {
        let Range { start, end } = std::mem::replace(&mut self.ranges[frame], to.start as u32..to.end as u32);
        let (start, end) = (start as usize, end as usize);
        for (aggregate, running) in aggregates.iter().zip(&mut self.running).filter(|(aggregate, _)| aggregate.frame == frame) {
            let (kind, place) = (aggregate.kind, &measures[aggregate.measure].place);
            if to.start >= end {
                *running = Running::fresh(rows, kind, place, to.clone());
                continue;
            }
            (end..to.end).for_each(|row| running.add(rows, kind, place, row));
            (start..to.start).for_each(|row| running.retract(rows, kind, place, row));
        }
    }

    /// Takes in row `at`, which came before others; `target` is where the frame will be.
    fn insert(&mut self, frame: usize, at: usize, target: &Range<usize>, rows: &Rows, aggregates: &[Aggregate], measures: &[Measure]) {
        let range = &mut self.ranges[frame];
        let (start, end) = (range.start as usize, range.end as usize);
        let before = at < start || at == start && target.start > at;
        if !before && at >= end {
            return;
        }
        range.end += 1;
        range.start += u32::from(before);
        for (aggregate, running) in aggregates.iter().zip(&mut self.running).filter(|(aggregate, _)| aggregate.frame == frame) {
            running.make_way(at);
            if !before {
                running.insert(rows, aggregate.kind, &measures[aggregate.measure].place, at);
            }
        }
    }

    /// The first `rows` rows were dropped.
    fn shift(&mut self, rows: usize) {
        for range in &mut self.ranges {
            *range = range.start - rows as u32..range.end - rows as u32;
        }
        self.running.iter_mut().for_each(|running| running.shift(rows));
    }
}

/// The place of `item`, which is added where it is new.
fn number<T: PartialEq>(items: &mut Vec<T>, item: T) -> usize {
    items.iter().position(|known| *known == item).unwrap_or_else(|| {
        items.push(item);
        items.len() - 1
    })
}

fn key_width(types: &[Type]) -> usize {
    types.iter().map(|ty| words::width(*ty)).sum::<usize>() + 1
}

/// A bit for each NULL, then the values; equal for keys that are the same to PARTITION BY.
fn read_key(readers: &mut [Reader], types: &[Type], row: usize, key: &mut [u64], texts: &mut Texts) {
    key.fill(0);
    let mut at = 1;
    for (number, (reader, ty)) in readers.iter_mut().zip(types).enumerate() {
        match reader.words(row, texts) {
            None => key[0] |= 1 << (number % 64),
            Some(value) => {
                let (low, high) = words::identity(value, *ty);
                key[at] = low;
                if words::width(*ty) == 2 {
                    key[at + 1] = high;
                }
            }
        }
        at += words::width(*ty);
    }
}

/// The texts that a key refers to.
fn key_texts<'a>(types: &'a [Type], key: &'a [u64]) -> impl Iterator<Item = u32> + 'a {
    let places = types.iter().scan(1, |at, ty| {
        let place = *at;
        *at += words::width(*ty);
        Some(place)
    });
    let present = |number: usize| key[0] >> (number % 64) & 1 == 0;
    types
        .iter()
        .zip(places)
        .enumerate()
        .filter(move |(number, (ty, _))| **ty == Type::Text && present(*number))
        .map(|(_, (_, at))| key[at] as u32)
}

/// The texts that rows refer to.
fn row_texts<'a>(measures: &'a [Measure], rows: &'a [u64], width: usize) -> impl Iterator<Item = u32> + 'a {
    let texts = move |row: &'a [u64]| {
        measures.iter().filter_map(move |measure| {
            let Place { ty: Type::Text, flags, value: Some(at), .. } = measure.place else { return None };
            (row[1 + flags / 64] >> (flags % 64) & 2 == 2).then(|| row[at] as u32)
        })
    };
    let any = measures.iter().any(|measure| measure.place.ty == Type::Text && measure.place.value.is_some());
    rows[..if any { rows.len() } else { 0 }].chunks_exact(width).flat_map(texts)
}

fn refer(numbers: impl Iterator<Item = u32>, texts: &mut Texts) {
    numbers.for_each(|number| texts.refer_again(number));
}
