//! The partitions out of memory, and back into it.

use super::{FREE, PAGE, Partition, Slot, Store, is_away, split_value};
use crate::temporal::packed::{self, Reader};
use crate::temporal::steps::{Capture, SLOTS};
use std::ops::Range;

impl Store {
    /// Slots, in use or free; so many chunks of [`SLOTS`] are saved.
    #[must_use]
    pub const fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The slots that are free, in the order in which they are used again, the last first.
    #[must_use]
    pub fn free(&self) -> &[u32] {
        &self.free
    }

    /// Begins a copy of all partitions that have changed since the last one.
    pub fn begin_capture(&mut self) {
        let slots = self.slots.len();
        let changed = std::mem::replace(&mut self.changed, vec![false; slots.div_ceil(SLOTS)]);
        self.capture = Some(Capture::new(slots, changed));
    }

    /// Has the next copy take every partition.
    pub fn change_all(&mut self) {
        self.changed.fill(true);
    }

    /// Has the next copy take only what changes from now on.
    pub fn is_saved(&mut self) {
        self.changed.fill(false);
    }

    /// Copies a partition that is about to change.
    #[cold]
    pub(super) fn keep(&mut self, slot: u32) {
        // It is in memory: whoever changes it has it there.
        let held = (self.slots[slot as usize].size != FREE).then(|| {
            let mut value = Vec::new();
            self.value(slot, &mut value);
            value.into()
        });
        if let Some(capture) = &mut self.capture {
            capture.keep(slot, held);
        }
    }

    /// Copies the next chunk that had changed, with its number; `None`: the copy is complete.
    ///
    /// # Errors
    /// When partitions that are away cannot be read.
    pub fn capture(&mut self) -> Result<Option<(usize, Vec<u8>)>, String> {
        let Some(mut capture) = self.capture.take() else { return Ok(None) };
        let Some((number, slots)) = capture.next_chunk() else { return Ok(None) };
        let away: Vec<u32> = slots.clone().filter(|slot| is_away(self.slots[*slot as usize].size) && !capture.has(*slot)).collect();
        let (mut chunk, mut value) = (Vec::new(), Vec::new());
        let mut copy = |range: Range<u32>, chunk: &mut Vec<u8>| {
            for slot in range {
                value.clear();
                match capture.take(slot) {
                    Some(held) => value.extend(held.iter().flatten()),
                    None => self.value(slot, &mut value),
                }
                add(chunk, slot - slots.start, &value);
            }
        };
        let mut next = slots.start;
        self.look(&away, |nth, value| {
            copy(next..away[nth], &mut chunk);
            add(&mut chunk, away[nth] - slots.start, value);
            next = away[nth] + 1;
            Some(())
        })?;
        copy(next..slots.end, &mut chunk);
        self.capture = Some(capture);
        Ok(Some((number, chunk)))
    }

    /// Puts a partition of a copy in its slot; returns the bytes that it takes.
    ///
    /// # Errors
    /// A slot or a key that has one already; one of the same hash that is away and cannot be read.
    pub fn restore(&mut self, slot: u32, key: &[u8], partition: &mut Partition) -> Result<usize, String> {
        let at = slot as usize;
        if self.slots.len() <= at {
            self.slots.resize(at + 1, Slot::FREE);
        }
        let hash = Self::hash(key);
        if self.slots[at].size != FREE || self.find(key, hash)?.is_some() {
            return Err("a key or a slot has two partitions".to_owned());
        }
        self.touch(slot);
        self.write(slot, key, &Partition::default());
        let bytes = self.put(slot, partition);
        self.index(slot, hash);
        Ok(bytes)
    }

    /// Has `slots` slots, of which those without a partition are `free`, to be used again in this order, the last first.
    ///
    /// # Errors
    /// Slots that cannot be those of the partitions.
    pub fn restore_free(&mut self, slots: u32, free: Vec<u32>) -> Result<(), String> {
        const WRONG: &str = "the slots of partitions do not agree";
        // Every slot is free or not, so that their number is that of what is there.
        if slots as usize != self.living + free.len() || self.slots.len() > slots as usize {
            return Err(WRONG.to_owned());
        }
        self.slots.resize(slots as usize, Slot::FREE);
        let mut named = vec![false; slots as usize];
        for slot in free.iter().map(|slot| *slot as usize) {
            if named.get(slot) != Some(&false) || self.slots[slot].size != FREE {
                return Err(WRONG.to_owned());
            }
            named[slot] = true;
        }
        self.free = free;
        Ok(())
    }
}

/// Adds a value to a chunk, unless there is none: the slot, counted from the first of the chunk, the length, the bytes.
fn add(chunk: &mut Vec<u8>, slot: u32, value: &[u8]) {
    if !value.is_empty() {
        packed::number(chunk, u64::from(slot));
        packed::number(chunk, value.len() as u64);
        chunk.extend(value);
    }
}

/// Gives the partitions of a chunk to `each`: the slot, counted from the first of the chunk, the key, and what is known.
///
/// # Errors
/// What is no such chunk; what `each` says.
pub fn read_chunk(chunk: &[u8], mut each: impl FnMut(u32, &[u8], Partition) -> Result<(), String>) -> Result<(), String> {
    let mut from = Reader(chunk);
    while !from.0.is_empty() {
        let mut next = || {
            let slot = from.small().filter(|slot| (*slot as usize) < SLOTS)?;
            let length = from.small()?;
            let (key, known) = split_value(from.take(length)?)?;
            Some((slot, key, Partition::of(known)?))
        };
        let (slot, key, partition) = next().ok_or("a partition cannot be read")?;
        each(slot, key, partition)?;
    }
    Ok(())
}

/// The same of a page of runs of `size` bytes: so snapshots before format 3 have partitions. The slot is counted from the first of all.
///
/// # Errors
/// What is no such page; what `each` says.
pub fn read_page(size: usize, page: &[u8], mut each: impl FnMut(u32, &[u8], Partition) -> Result<(), String>) -> Result<(), String> {
    if size < 16 || page.len() > PAGE {
        return Err("a page of partitions has another size".to_owned());
    }
    for run in page.chunks_exact(size) {
        let number = |at: usize| run[at..].first_chunk().map_or(FREE, |bytes| u32::from_le_bytes(*bytes));
        if number(0) != FREE {
            let (key, known) = run[8..].split_at((number(4) as usize).min(size - 8));
            each(number(0), key, Partition::of(known).ok_or("a partition cannot be read")?)?;
        }
    }
    Ok(())
}
