//! A group's keys and rows out of memory, and back into it.

use super::super::capture::{Chunk, Held};
use super::super::keys::Keys;
use super::super::limits::SavedTenant;
use super::super::words;
use super::{Block, Group, Measure, key_texts, refer, row_texts};
use crate::event::Type;
use crate::temporal::steps::{Capture, SLOTS};
use foldhash::fast::FixedState;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// What is saved of a group besides its keys and rows: how these are laid out, and when what is old was last forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedGroup {
    pub windows: Vec<SavedWindow>,
    pub since: u32,
    /// Words of a key, and of a row.
    pub widths: (usize, usize),
    /// Slots, in use or free; so many chunks of [`SLOTS`] there are.
    pub slots: usize,
    pub keys: usize,
    pub rows: usize,
    clock: i64,
    swept: i64,
    rows_since: u64,
    rows_seen: u64,
    #[serde(default)]
    recent: Vec<i64>,
    #[serde(default)]
    turned_away: Vec<SavedTenant>,
}

/// A window whose rows are saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedWindow {
    /// What it computes of what: windows are the same where their definitions are.
    pub definition: String,
    flags: usize,
    value: Option<usize>,
}

/// From where in a saved row a measure is taken.
struct Move {
    flags: usize,
    value: Option<usize>,
}

impl SavedGroup {
    #[must_use]
    pub const fn chunks(&self) -> usize {
        self.slots.div_ceil(SLOTS)
    }
}

impl Group {
    /// Begins a copy of all keys that have changed since the last one; `definitions` are those of the windows, in the order in which they were added.
    pub fn begin_capture(&mut self, definitions: Vec<String>) -> SavedGroup {
        let slots = self.state.keys.slots();
        let windows = self.outputs.iter().zip(definitions).map(|(output, definition)| {
            let place = self.measures[self.aggregates[output.aggregate].measure].place;
            SavedWindow { definition, flags: place.flags, value: place.value }
        });
        let windows = windows.collect();
        let changed = std::mem::replace(&mut self.changed, vec![false; slots.div_ceil(SLOTS)]);
        self.capture = Some(Capture::new(slots, changed));
        SavedGroup {
            windows,
            since: self.since,
            widths: (super::key_width(&self.key_types), self.width),
            slots,
            keys: self.keys(),
            rows: self.rows(),
            clock: self.state.clock,
            swept: self.state.swept,
            rows_since: self.state.rows_since as u64,
            rows_seen: self.state.rows_seen,
            recent: self.state.recent.clone(),
            turned_away: self.state.bounds.saved(&self.state.texts),
        }
    }

    /// Copies a key that is about to change.
    #[cold]
    pub(super) fn keep(&mut self, slot: u32) {
        let Some(capture) = &mut self.capture else { return };
        let state = &mut self.state;
        // Its rows are in memory: whoever changes them has fetched them.
        let block = state.blocks.get(slot as usize).copied().unwrap_or_default();
        let held = (block.rows() > 0).then(|| {
            let (key, rows) = (state.keys.key(slot), state.pool.rows(block));
            // Its texts stay until it is copied.
            refer(key_texts(&self.key_types, key).chain(row_texts(&self.measures, rows, self.width)), &mut state.texts);
            Held { key: key.into(), rows: rows.into(), mark: state.bounds.mark(slot) }
        });
        capture.keep(slot, held);
    }

    /// Copies the next chunk that had changed, with its number; `None`: the copy is complete.
    ///
    /// # Errors
    /// When rows on disk cannot be read.
    pub fn capture(&mut self) -> Result<Option<(usize, Chunk)>, String> {
        let Some(capture) = &mut self.capture else { return Ok(None) };
        let Some((number, slots)) = capture.next_chunk() else {
            self.capture = None;
            return Ok(None);
        };
        let mut away = self.look_away(slots.clone())?.into_iter().peekable();
        let Some(capture) = &mut self.capture else { return Ok(None) };
        let state = &mut self.state;
        let mut chunk = Chunk { widths: (super::key_width(&self.key_types), self.width), ..Chunk::default() };
        // About what there is: memory that grows while it is filled is copied again and again.
        let rows: usize = state.blocks[slots.start as usize..slots.end as usize].iter().map(|block| block.rows()).sum();
        chunk.keys.reserve(slots.len() * chunk.widths.0);
        chunk.rows.reserve((rows + slots.len()) * self.width);
        let mut kept: Vec<Held> = Vec::new();
        let mut put = |slot: u32, key: &[u64], rows: &[u64], mark: Option<i64>| {
            chunk.slots.push(slot - slots.start);
            chunk.marks.extend(mark.map(|mark| (slot - slots.start, mark)));
            chunk.counts.push((rows.len() / self.width) as u32);
            chunk.keys.extend_from_slice(key);
            chunk.rows.extend_from_slice(rows);
        };
        for slot in slots.clone() {
            match capture.take(slot) {
                Some(Some(held)) => {
                    put(slot, &held.key, &held.rows, held.mark);
                    kept.push(held);
                }
                Some(None) => {}
                None => {
                    let block = state.blocks[slot as usize];
                    if let Some(held) = away.next_if(|(of, _)| *of == slot).map(|(_, held)| held) {
                        put(slot, &held.key, &held.rows, held.mark);
                        kept.push(held);
                    } else if block.rows() > 0 {
                        put(slot, state.keys.key(slot), state.pool.rows(block), state.bounds.mark(slot));
                    }
                }
            }
        }
        let mut numbers: HashMap<u32, u64, FixedState> = HashMap::default();
        each_text(&self.key_types, &self.measures, self.width, &mut chunk, |text, texts| {
            let next = numbers.len() as u64;
            *text = *numbers.entry(*text as u32).or_insert_with_key(|number| {
                texts.push(state.texts.text(*number).into());
                next
            });
            Ok(())
        })
        .expect("no text is refused");
        for Held { key, rows, .. } in &kept {
            let texts: Vec<u32> = key_texts(&self.key_types, key).chain(row_texts(&self.measures, rows, self.width)).collect();
            texts.into_iter().for_each(|text| state.texts.release(text));
        }
        Ok(Some((number, chunk)))
    }

    /// Takes the keys and rows of a saved group, before any others; `definitions` are those of its windows, each of which the saved group has, and `read` gives the
    /// bytes of a chunk. Whether they lie as they did: then what was saved need not be written again.
    ///
    /// # Errors
    /// What no group was saved as; rows that cannot be written to disk, where memory has no room for them.
    pub fn restore(
        &mut self,
        saved: &SavedGroup,
        definitions: &[&str],
        read: &mut dyn FnMut(usize) -> Result<Vec<u8>, String>,
    ) -> Result<bool, String> {
        let moves = self.moves(saved, definitions)?;
        let (key_width, saved_width) = saved.widths;
        if key_width != super::key_width(&self.key_types) || saved.rows_seen.max(saved.rows_since) > u64::MAX / 2 {
            return Err("its keys are of another width".to_owned());
        }
        let same = saved_width == self.width
            && self
                .measures
                .iter()
                .zip(&moves)
                .all(|(measure, from)| (measure.place.flags, measure.place.value) == (from.flags, from.value));
        self.expect(saved.rows);
        let (mut slots, mut keys): (Vec<u32>, Vec<u64>) = (Vec::new(), Vec::new());
        for number in 0..saved.chunks() {
            let wrong = |what: String| format!("chunk {number}: {what}");
            let mut chunk = Chunk::decode(&read(number)?, saved.widths).map_err(wrong)?;
            if !same {
                chunk.rows = self.moved(&chunk.rows, saved_width, &moves);
            }
            let texts = &mut self.state.texts;
            let own: Vec<u32> = chunk.texts.iter().map(|text| texts.refer(text)).collect();
            each_text(&self.key_types, &self.measures, self.width, &mut chunk, |text, _| {
                let number = *own.get(*text as usize).ok_or("a text that is not there")?;
                texts.refer_again(number);
                *text = u64::from(number);
                Ok(())
            })
            .map_err(wrong)?;
            own.into_iter().for_each(|text| texts.release(text));
            let blocks = &mut self.state.blocks;
            blocks.resize(saved.slots.min((number + 1) * SLOTS), Block::default());
            keys.append(&mut chunk.keys);
            let mut rows = &chunk.rows[..];
            for (slot, count) in chunk.slots.iter().zip(&chunk.counts) {
                let slot = number * SLOTS + *slot as usize;
                let (of_key, rest) = rows.split_at(*count as usize * self.width);
                rows = rest;
                let time = |at: usize| of_key[at * self.width].cast_signed();
                if slot >= blocks.len() || (1..*count as usize).any(|at| time(at - 1) > time(at)) {
                    return Err(wrong("a slot or a time is out of order".to_owned()));
                }
                blocks[slot] = self.state.pool.store(of_key);
                slots.push(slot as u32);
            }
            for (slot, mark) in &chunk.marks {
                self.state.bounds.set_mark((number * SLOTS) as u32 + slot, Some(*mark));
            }
            self.give_way(&[])?;
        }
        let at_slots = Keys::at_slots(key_width, saved.slots, slots.into_iter().zip(keys.chunks_exact(key_width)));
        let state = &mut self.state;
        state.keys = at_slots.ok_or("a key is there twice")?;
        (state.clock, state.recent, state.swept) = (saved.clock, saved.recent.clone(), saved.swept);
        (state.rows_since, state.rows_seen) = (saved.rows_since as usize, saved.rows_seen);
        state.bounds.restore(&saved.turned_away, &mut state.texts)?;
        for slot in 0..self.state.blocks.len() {
            self.change_room(slot as u32, 0, self.state.blocks[slot].room());
        }
        self.changed = vec![!same; saved.chunks()];
        Ok(same)
    }

    /// Has the next copy take every key.
    pub fn change_all(&mut self) {
        self.changed.fill(true);
    }

    /// For each measure, where it lies in the saved rows.
    fn moves(&self, saved: &SavedGroup, definitions: &[&str]) -> Result<Vec<Move>, String> {
        let find = |(number, measure): (usize, &Measure)| {
            let mut of_measure =
                self.outputs.iter().zip(definitions).filter(|(output, _)| self.aggregates[output.aggregate].measure == number);
            let found = of_measure.find_map(|(_, definition)| saved.windows.iter().find(|window| window.definition == *definition));
            let found = found.ok_or("a window is not among those that were saved")?;
            let width = words::width(measure.place.ty);
            let fits = 1 + found.flags / 64 < saved.widths.1
                && found.flags % 2 == 0
                && found.value.is_none_or(|value| value.checked_add(width).is_some_and(|end| end <= saved.widths.1));
            if !fits || measure.place.value.is_some() && found.value.is_none() {
                return Err("a window's values lie beyond its rows".to_owned());
            }
            Ok(Move { flags: found.flags, value: measure.place.value.and(found.value) })
        };
        self.measures.iter().enumerate().map(find).collect()
    }

    /// Saved rows, laid out as those of this group.
    fn moved(&self, rows: &[u64], width: usize, moves: &[Move]) -> Vec<u64> {
        let mut moved = vec![0; rows.len() / width * self.width];
        for (from, to) in rows.chunks_exact(width).zip(moved.chunks_exact_mut(self.width)) {
            to[0] = from[0];
            for (Measure { place, .. }, Move { flags, value }) in self.measures.iter().zip(moves) {
                let both = from[1 + flags / 64] >> (flags % 64) & 3;
                to[1 + place.flags / 64] |= both << (place.flags % 64);
                if let (Some(at), Some(value)) = (place.value, value) {
                    let width = words::width(place.ty);
                    to[at..at + width].copy_from_slice(&from[*value..value + width]);
                }
            }
        }
        moved
    }
}

/// Calls `change` for each word of a chunk that is the number of a text, with the texts of the chunk.
fn each_text(
    key_types: &[Type],
    measures: &[Measure],
    width: usize,
    chunk: &mut Chunk,
    mut change: impl FnMut(&mut u64, &mut Vec<std::sync::Arc<str>>) -> Result<(), String>,
) -> Result<(), String> {
    let key_width = super::key_width(key_types);
    let mut at = 1;
    for (number, ty) in key_types.iter().enumerate() {
        if *ty == Type::Text {
            for key in chunk.keys.chunks_exact_mut(key_width).filter(|key| key[0] >> (number % 64) & 1 == 0) {
                change(&mut key[at], &mut chunk.texts)?;
            }
        }
        at += words::width(*ty);
    }
    for Measure { place, .. } in measures.iter().filter(|measure| measure.place.ty == Type::Text) {
        let Some(at) = place.value else { continue };
        let has_value = |row: &&mut [u64]| row[1 + place.flags / 64] >> (place.flags % 64) & 2 == 2;
        for row in chunk.rows.chunks_exact_mut(width).filter(has_value) {
            change(&mut row[at], &mut chunk.texts)?;
        }
    }
    Ok(())
}
