//! A copy of what is in slots as it is at one moment, made in steps while rows go on coming.
//!
//! Slots are copied in order, chunk by chunk. What is about to change before its turn is copied at once, alone. So the pause at the moment itself is
//! nothing, between batches it is as long as one likes, and a row costs a look at a flag.

use foldhash::fast::FixedState;
use std::collections::HashMap;

/// Slots that are copied together: some hundred kilobytes where keys have a few rows.
pub const SLOTS: usize = 4096;

/// Words to copy between two batches: that takes some milliseconds.
pub const STEP_WORDS: usize = 1 << 19;

/// A copy that is being made, of slots with such content.
#[derive(Debug)]
pub struct Capture<H> {
    /// Slots that there were at the moment of the copy.
    slots: usize,
    /// For each chunk, whether it has changed since the last copy.
    changed: Vec<bool>,
    /// The next chunk.
    next: usize,
    /// Slots of later chunks that have changed since the moment, as they were then; `None`: the slot was free.
    before: HashMap<u32, Option<H>, FixedState>,
}

impl<H> Capture<H> {
    /// A copy of the chunks of `slots` slots that have changed.
    #[must_use]
    pub fn new(slots: usize, mut changed: Vec<bool>) -> Self {
        changed.resize(slots.div_ceil(SLOTS), true);
        Self { slots, changed, next: 0, before: HashMap::default() }
    }

    /// Whether a slot must be copied before it changes.
    #[must_use]
    pub fn awaits(&self, slot: u32) -> bool {
        let chunk = slot as usize / SLOTS;
        (slot as usize) < self.slots && chunk >= self.next && self.changed[chunk] && !self.before.contains_key(&slot)
    }

    /// Keeps what is in a slot that is awaited.
    pub fn keep(&mut self, slot: u32, held: Option<H>) {
        self.before.insert(slot, held);
    }

    /// Whether what was in a slot is kept.
    #[must_use]
    pub fn has(&self, slot: u32) -> bool {
        self.before.contains_key(&slot)
    }

    /// What was in a slot; `None`: the same as now.
    pub fn take(&mut self, slot: u32) -> Option<Option<H>> {
        if self.before.is_empty() { None } else { self.before.remove(&slot) }
    }

    /// The next chunk to be copied, with its slots; `None`: all are.
    pub fn next_chunk(&mut self) -> Option<(usize, std::ops::Range<u32>)> {
        let chunk = self.next + self.changed[self.next..].iter().position(|changed| *changed)?;
        self.next = chunk + 1;
        Some((chunk, (chunk * SLOTS) as u32..((chunk + 1) * SLOTS).min(self.slots) as u32))
    }
}
