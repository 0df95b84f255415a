//! Keys that have been quiet for long: their rows are on disk while memory has no room for them.
//!
//! All keys stay in memory, and so does what finds them. Rows go by second chance: a hand goes round over the slots, and those whose keys have come since it was there last are
//! passed over once. They come back, many at a time, before rows of their key are taken; what is kept running of a key is made again of its rows.

use super::super::capture::Held;
use super::super::keys::Texts;
use super::{Group, Hot, Measure, key_texts, refer, row_texts};
use crate::event::Type;
use crate::temporal::spill::{LONGEST, Share, Spill, Values};
use crate::temporal::steps::SLOTS;
use std::ops::Range;
use std::sync::Arc;

/// Bytes that are written together, about, and that are made room for beyond what is needed.
const TOGETHER: usize = 2 << 20;

pub(super) struct Quiet {
    share: Share,
    /// Bytes of memory that the group may take.
    room: usize,
    /// For each slot, whether its key has come since the hand was there.
    came: Vec<bool>,
    /// For each slot whose rows are away, the time of the newest one.
    latest: Vec<i64>,
    /// The next slot that the hand comes to.
    hand: usize,
    values: Values,
}

impl Quiet {
    /// The time of the newest row of a slot whose rows are away.
    pub fn latest(&self, slot: u32) -> i64 {
        self.latest[slot as usize]
    }

    /// Bytes that it takes, those of places in the store too.
    const fn bytes(&self) -> usize {
        self.came.capacity() + self.latest.capacity() * 16
    }
}

impl Group {
    /// Has rows go to disk where memory has no room for them; before any row is taken.
    pub fn spill_to(&mut self, spill: &Arc<Spill>) {
        let (share, room) = (Share::new(spill), spill.limit());
        self.quiet = Some(Quiet { share, room, came: Vec::new(), latest: Vec::new(), hand: 0, values: Values::default() });
        self.state.pool.reserve(room);
    }

    /// Bytes that would be taken if no room between rows was unused, and those that are unused.
    fn in_use(&self, quiet: &Quiet) -> (usize, usize) {
        let (rows, unused) = self.state.pool.in_use();
        let (keys, texts) = (self.bytes().0, self.state.texts.bytes());
        (keys + rows + texts + self.state.hot_bytes + quiet.bytes(), unused)
    }

    /// Learns how much memory it may take from now on.
    pub(super) fn share_out(&mut self) {
        if let Some(mut quiet) = self.quiet.take() {
            quiet.room = quiet.share.room(self.in_use(&quiet).0);
            self.quiet = Some(quiet);
        }
    }

    /// Prepares for so many rows that are to be restored.
    pub fn expect(&mut self, rows: usize) {
        if let Some(quiet) = &mut self.quiet {
            quiet.room = quiet.share.room(rows.saturating_mul(self.width * 8));
        }
    }

    /// Sends rows away where more memory is taken than there is room for; `came` are the slots of the rows that were taken last.
    pub(super) fn give_way(&mut self, came: &[u32]) -> Result<(), String> {
        let Some(mut quiet) = self.quiet.take() else { return Ok(()) };
        self.weigh(came);
        let given = self.send_away(&mut quiet);
        self.quiet = Some(quiet);
        given
    }

    fn send_away(&mut self, quiet: &mut Quiet) -> Result<(), String> {
        // An eighth is for blocks that are free, but not of the size that is needed.
        let most = quiet.room - quiet.room / 8;
        if self.in_use(quiet).0 > most {
            let goal = most - TOGETHER.min(most / 16);
            let slots = self.state.blocks.len();
            quiet.came.resize(slots, false);
            quiet.latest.resize(slots, i64::MIN);
            // Twice round: then all that can go is gone.
            let mut left = 2 * slots;
            while left > 0 && self.in_use(quiet).0 > goal {
                quiet.values.clear();
                while left > 0 && quiet.values.bytes() < TOGETHER && self.in_use(quiet).0 > goal {
                    let slot = quiet.hand % slots;
                    (quiet.hand, left) = (slot + 1, left - 1);
                    if !std::mem::take(&mut quiet.came[slot]) {
                        self.send(slot, quiet);
                    }
                }
                if !quiet.values.is_empty() {
                    quiet.share.put(&quiet.values)?;
                }
            }
        }
        let (taken, unused) = self.in_use(quiet);
        if taken + unused > quiet.room && unused >= quiet.room / 16 {
            self.state.pool.compact(&mut self.state.blocks);
        }
        Ok(())
    }

    /// Sends the rows of a slot away.
    fn send(&mut self, slot: usize, quiet: &mut Quiet) {
        let state = &mut self.state;
        let block = state.blocks[slot];
        if block.rows() == 0 || block.is_away() || block.rows() * self.width * 8 > LONGEST {
            return;
        }
        let rows = state.pool.rows(block);
        if quiet.values.add(slot as u32, |bytes| pack(rows, row_texts(&self.measures, rows, self.width), &state.texts, bytes)) {
            quiet.latest[slot] = rows[rows.len() - self.width].cast_signed();
            row_texts(&self.measures, rows, self.width).for_each(|text| state.texts.release(text));
            state.pool.send_away(&mut state.blocks[slot]);
            state.cool(slot as u32);
        }
    }

    /// Has the rows of slots in memory.
    pub(super) fn fetch(&mut self, slots: &[u32]) -> Result<(), String> {
        let Some(quiet) = &mut self.quiet else { return Ok(()) };
        let state = &mut self.state;
        quiet.came.resize(state.blocks.len(), false);
        let mut away: Vec<u32> = Vec::new();
        for slot in slots {
            // Rows that are in no window have no slot.
            let Some(block) = state.blocks.get(*slot as usize) else { continue };
            quiet.came[*slot as usize] = true;
            if block.is_away() {
                away.push(*slot);
            }
        }
        if away.is_empty() {
            return Ok(());
        }
        away.sort_unstable();
        away.dedup();
        let mut rows = Vec::new();
        quiet.share.take(&away, |number, bytes| {
            let block = &mut state.blocks[away[number] as usize];
            unpack(bytes, block.rows() * self.width, &self.measures, self.width, &mut state.texts, &mut rows)?;
            *block = state.pool.store(&rows);
            Some(())
        })
    }

    /// Forgets those of the slots whose rows are away; they have none from now on.
    pub(super) fn forget_away(&mut self, slots: &[u32]) {
        let Some(quiet) = &self.quiet else { return };
        let blocks = &mut self.state.blocks;
        let away: Vec<u32> = slots.iter().copied().filter(|slot| blocks[*slot as usize].is_away()).collect();
        away.iter().for_each(|slot| blocks[*slot as usize] = super::Block::default());
        quiet.share.remove(&away);
    }

    /// Of the slots of a chunk that is copied, the keys and rows of those that are away, ascending. Their texts are referred to.
    pub(super) fn look_away(&mut self, slots: Range<u32>) -> Result<Vec<(u32, Held)>, String> {
        debug_assert!(slots.len() <= SLOTS);
        let (Some(quiet), Some(capture)) = (&self.quiet, &self.capture) else { return Ok(Vec::new()) };
        let state = &mut self.state;
        let away: Vec<u32> = slots.filter(|slot| state.blocks[*slot as usize].is_away() && !capture.has(*slot)).collect();
        let mut found = Vec::with_capacity(away.len());
        quiet.share.look(&away, |number, bytes| {
            let slot = away[number];
            let mut rows = Vec::new();
            let words = state.blocks[slot as usize].rows() * self.width;
            unpack(bytes, words, &self.measures, self.width, &mut state.texts, &mut rows)?;
            let key = state.keys.key(slot);
            refer(key_texts(&self.key_types, key), &mut state.texts);
            found.push((slot, Held { key: key.into(), rows: rows.into(), mark: state.bounds.mark(slot) }));
            Some(())
        })?;
        Ok(found)
    }

    /// Counts again what is kept running of keys.
    fn weigh(&mut self, slots: &[u32]) {
        if self.state.hot.is_empty() {
            return;
        }
        for slot in slots {
            if let Some(hot) = self.state.hot.get_mut(slot) {
                let bytes = hot.weight();
                self.state.hot_bytes = self.state.hot_bytes + bytes - hot.bytes;
                hot.bytes = bytes;
            }
        }
    }
}

impl Hot {
    /// Bytes that it takes, about.
    fn weight(&self) -> usize {
        let running = self.running.iter().map(|running| size_of_val(running) + running.bytes()).sum::<usize>();
        2 * size_of::<Self>() + self.ranges.len() * size_of::<Range<u32>>() + running
    }
}

/// Rows as bytes, with the texts that they refer to.
fn pack(rows: &[u64], texts: impl Iterator<Item = u32>, known: &Texts, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(bytemuck::cast_slice(rows));
    for text in texts.map(|text| known.text(text)) {
        bytes.extend((text.len() as u32).to_ne_bytes());
        bytes.extend(text.as_bytes());
    }
}

/// Rows of so many words, and one more reference to each of their texts; `None`: they were never packed like this.
fn unpack(bytes: &[u8], words: usize, measures: &[Measure], width: usize, known: &mut Texts, rows: &mut Vec<u64>) -> Option<()> {
    let (own, mut rest) = bytes.split_at_checked(words * 8)?;
    rows.clear();
    rows.extend(own.as_chunks().0.iter().map(|bytes| u64::from_ne_bytes(*bytes)));
    let of_texts = |measure: &&Measure| measure.place.ty == Type::Text && measure.place.value.is_some();
    if measures.iter().any(|measure| of_texts(&measure)) {
        for row in rows.chunks_exact_mut(width) {
            for place in measures.iter().filter(of_texts).map(|measure| &measure.place) {
                let (Some(at), true) = (place.value, row[1 + place.flags / 64] >> (place.flags % 64) & 2 == 2) else { continue };
                let (length, others) = rest.split_first_chunk()?;
                let (text, others) = others.split_at_checked(u32::from_ne_bytes(*length) as usize)?;
                row[at] = u64::from(known.refer(std::str::from_utf8(text).ok()?));
                rest = others;
            }
        }
    }
    rest.is_empty().then_some(())
}
