//! Partitions that nobody has looked at for long: on disk, while memory has no room for them.
//!
//! What finds them stays: the slot, the whole hash of the key, the times at which somebody will look. So a key that is new costs no look at the disk. They go by second chance:
//! a hand goes round over the slots, and those that were looked at since it was there last are passed over once. They come back when somebody looks at them.

use super::{AWAY, AWAY_LARGE, FREE, HEAD, LARGE, Large, PAGE, Partition, Runs, SIZES, Slot, Store, head, is_away, size_for, split_value};
use crate::temporal::spill::{Share, Spill, Values};
use std::sync::Arc;

/// Bytes that are written together, about, and that are made room for beyond what is needed.
const TOGETHER: usize = 2 << 20;

/// Of what is taken when nothing more can go, the part that may come before that is tried again: a round over all slots is not for one partition.
const PATIENCE: usize = 64;

#[derive(Debug)]
pub(super) struct Quiet {
    share: Share,
    /// Bytes of memory that the store may take.
    room: usize,
    /// Bytes up to which nobody tries to send anything away.
    ceiling: usize,
    /// For each slot, whether somebody has looked at it since the hand was there.
    came: Vec<bool>,
    /// The next slot that the hand comes to.
    hand: usize,
    values: Values,
}

impl Quiet {
    /// Notes that somebody looks at a partition.
    pub fn saw(&mut self, slot: u32) {
        let slot = slot as usize;
        if self.came.len() <= slot {
            self.came.resize(slot + slot / 8 + 1, false);
        }
        self.came[slot] = true;
    }

    /// Bytes that are to be in use at most. An eighth is for runs that are free, but not of the size that is needed.
    const fn most(&self) -> usize {
        self.room - self.room / 8
    }
}

impl Store {
    /// Has partitions go to disk where memory has no room for them; before any is there.
    pub fn spill_to(&mut self, spill: &Arc<Spill>) {
        let (share, room) = (Share::new(spill), spill.limit());
        self.quiet = Some(Box::new(Quiet { share, room, ceiling: 0, came: Vec::new(), hand: 0, values: Values::default() }));
    }

    /// Learns how much memory it may take from now on, and takes no more. `beside`: bytes that are taken for partitions outside of the store.
    ///
    /// # Errors
    /// As [`Store::give_way`].
    pub fn share_out(&mut self, beside: usize) -> Result<(), String> {
        if let Some(quiet) = &self.quiet {
            self.expect(self.in_use(quiet) + beside);
        }
        self.give_way(beside)
    }

    /// Prepares for so many bytes of partitions, those that are there included.
    pub fn expect(&mut self, bytes: usize) {
        if let Some(quiet) = &mut self.quiet {
            quiet.room = quiet.share.room(bytes);
            quiet.ceiling = quiet.most();
        }
    }

    /// Bytes that would be taken if every run was in use.
    fn in_use(&self, quiet: &Quiet) -> usize {
        let for_keys = self.table.capacity() * 8 + self.slots.capacity() * size_of::<Slot>() + self.free.capacity() * 4;
        // Of each slot the file has a place, too.
        for_keys + quiet.came.capacity() + self.slots.len() * 8 + self.in_runs + self.in_large
    }

    /// Sends partitions away where more memory is taken than there is room for. `beside`: bytes that are taken for partitions outside of the store.
    ///
    /// # Errors
    /// When they cannot be written. What was in them is lost.
    pub fn give_way(&mut self, beside: usize) -> Result<(), String> {
        match &self.quiet {
            Some(quiet) if self.in_use(quiet) + beside > quiet.ceiling => self.send_some(beside),
            _ => Ok(()),
        }
    }

    #[cold]
    fn send_some(&mut self, beside: usize) -> Result<(), String> {
        let Some(mut quiet) = self.quiet.take() else { return Ok(()) };
        let sent = self.send_until_there_is_room(&mut quiet, beside);
        let left = self.in_use(&quiet) + beside;
        quiet.ceiling = quiet.most().max(left + left / PATIENCE);
        self.quiet = Some(quiet);
        sent
    }

    fn send_until_there_is_room(&mut self, quiet: &mut Quiet, beside: usize) -> Result<(), String> {
        let goal = quiet.most() - TOGETHER.min(quiet.most() / 16);
        let slots = self.slots.len();
        quiet.came.resize(slots.max(quiet.came.len()), false);
        // Twice round: then all that can go is gone.
        let mut left = 2 * slots;
        let is_wanted = |store: &Self, quiet: &Quiet| store.in_runs + store.in_large > 0 && store.in_use(quiet) + beside > goal;
        while left > 0 && is_wanted(self, quiet) {
            quiet.values.clear();
            while left > 0 && quiet.values.bytes() < TOGETHER && is_wanted(self, quiet) {
                let slot = quiet.hand % slots;
                (quiet.hand, left) = (slot + 1, left - 1);
                if !std::mem::take(&mut quiet.came[slot]) {
                    self.send(slot as u32, quiet);
                }
            }
            if !quiet.values.is_empty() {
                quiet.share.put(&quiet.values)?;
            }
        }
        let pages = self.runs.iter().map(|runs| runs.pages.len() * PAGE).sum::<usize>();
        let unused = pages - self.in_runs;
        if self.in_use(quiet) + beside + unused > quiet.room && unused >= quiet.room / 16 {
            self.compact();
        }
        Ok(())
    }

    /// Sends a partition away, if it is there and not too long.
    fn send(&mut self, slot: u32, quiet: &mut Quiet) {
        let size = self.slots[slot as usize].size;
        if size == FREE || is_away(size) || !quiet.values.add(slot, |bytes| self.value(slot, bytes)) {
            return;
        }
        let place = self.lower_hash(slot);
        if size == LARGE {
            self.in_large -= self.bytes_of(slot);
            self.large.remove(&slot);
        } else {
            self.release(slot);
        }
        let away = if size == LARGE { AWAY_LARGE } else { AWAY };
        (self.slots[slot as usize].size, self.slots[slot as usize].place) = (away, place);
    }

    /// Has a partition that is away in memory.
    #[cold]
    pub(super) fn bring_back(&mut self, slot: u32) -> Result<(), String> {
        let Some(quiet) = self.quiet.take() else { return Err("a partition is away, and nobody knows where".to_owned()) };
        let taken = quiet.share.take(&[slot], |_, value| self.settle(slot, value));
        self.quiet = Some(quiet);
        taken
    }

    /// Gives a partition that was away its place; `None`: this is not its value.
    fn settle(&mut self, slot: u32, value: &[u8]) -> Option<()> {
        let (key, known) = split_value(value)?;
        let Slot { size, place, .. } = self.slots[slot as usize];
        if Self::hash(key) as u32 != place {
            return None;
        }
        if size == AWAY_LARGE {
            let partition = Partition::of(known)?;
            self.slots[slot as usize].size = LARGE;
            self.in_large += partition.bytes();
            self.large.insert(slot, Box::new(Large { key: key.into(), partition }));
            return Some(());
        }
        self.give_run(slot, size_for(HEAD + key.len() + known.len())?);
        let run = self.run_mut(slot);
        run[..HEAD].copy_from_slice(&head(slot, key.len(), known.len()));
        run[HEAD..][..key.len()].copy_from_slice(key);
        run[HEAD + key.len()..][..known.len()].copy_from_slice(known);
        Some(())
    }

    /// Gives the values of slots that are away to `each`, as [`Share::look`] does.
    pub(super) fn look(&self, away: &[u32], each: impl FnMut(usize, &[u8]) -> Option<()>) -> Result<(), String> {
        match &self.quiet {
            Some(quiet) if !away.is_empty() => quiet.share.look(away, each),
            _ => Ok(()),
        }
    }

    /// Has no page that is not needed.
    fn compact(&mut self) {
        let Self { runs, slots, .. } = self;
        for (runs, length) in runs.iter_mut().zip(SIZES) {
            runs.compact(length, |slot, place| slots[slot as usize].place = place);
        }
    }
}

impl Runs {
    /// Moves runs to where others in front of them are free, and gives back the pages behind. `moved` is told of each slot with its new place.
    fn compact(&mut self, length: usize, mut moved: impl FnMut(u32, u32)) {
        let used = self.len - self.free.len() as u32;
        let mut free = std::mem::take(&mut self.free).into_iter().filter(|place| *place < used);
        let mut run = [0; SIZES[SIZES.len() - 1]];
        let run = &mut run[..length];
        for from in used..self.len {
            let (page, at) = Self::address(length, from);
            run.copy_from_slice(&self.pages[page][at..][..length]);
            let slot = run.first_chunk().map_or(FREE, |slot| u32::from_le_bytes(*slot));
            if slot != FREE
                && let Some(to) = free.next()
            {
                let (page, at) = Self::address(length, to);
                self.pages[page][at..][..length].copy_from_slice(run);
                moved(slot, to);
            }
        }
        self.len = used;
        self.pages.truncate((used as usize).div_ceil(PAGE / length));
        self.pages.shrink_to_fit();
    }
}
