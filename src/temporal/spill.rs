//! What is known of keys that have been quiet for long, while memory has no room for it.
//!
//! A [`Spill`] says how much memory all state together may take, and has a [`Store`] for the rest. Each part of the state has a [`Share`] of both, as large as what is known in it,
//! in memory and on disk. Which keys are quiet, and what their values are, is for the part to say.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes that a value may have. What is longer stays in memory.
pub const LONGEST: usize = 8 << 20;

/// Values on disk, by part and slot. They are working room: nothing of them outlasts the run.
pub trait Store: Send {
    /// Takes in values, each of a slot that has none.
    ///
    /// # Errors
    /// When they cannot be written.
    fn put(&mut self, part: u32, values: &Values) -> Result<(), String>;

    /// Gives the values of slots to `each`: the place among `slots`, and the bytes.
    ///
    /// # Errors
    /// When one cannot be read, or is not what was written.
    fn get(&mut self, part: u32, slots: &[u32], each: &mut dyn FnMut(usize, &[u8])) -> Result<(), String>;

    /// Forgets the values of slots.
    fn remove(&mut self, part: u32, slots: &[u32]);

    /// Forgets all values of a part.
    fn clear(&mut self, part: u32);

    /// Bytes of the values of a part.
    fn bytes(&self, part: u32) -> u64;
}

/// Bytes of several slots.
#[derive(Clone, Debug, Default)]
pub struct Values {
    /// Each slot, and where its bytes end.
    ends: Vec<(u32, usize)>,
    bytes: Vec<u8>,
}

impl Values {
    /// Adds what `write` appends as the value of `slot`; `false`: it is too long, and was not added.
    pub fn add(&mut self, slot: u32, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let from = self.bytes.len();
        write(&mut self.bytes);
        let fits = self.bytes.len() - from <= LONGEST;
        if fits {
            self.ends.push((slot, self.bytes.len()));
        } else {
            self.bytes.truncate(from);
        }
        fits
    }

    pub fn clear(&mut self) {
        self.ends.clear();
        self.bytes.clear();
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The slots with their bytes.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        starts.zip(&self.ends).map(|(start, (slot, end))| (*slot, &self.bytes[start..*end]))
    }
}

/// What went to the store, so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spilled {
    /// Values that were written, and read again for their key.
    pub out: u64,
    pub back: u64,
    /// Bytes of the values that are there now.
    pub bytes: u64,
}

/// How much memory the state may take, and where the rest goes.
pub struct Spill {
    limit: usize,
    inner: Mutex<Inner>,
}

impl std::fmt::Debug for Spill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spill").field("limit", &self.limit).finish_non_exhaustive()
    }
}

struct Inner {
    store: Box<dyn Store>,
    /// The first error: after it nothing that is asked for can be relied upon.
    fault: Option<String>,
    /// Bytes that are known of each part, in memory and in the store.
    sizes: Vec<usize>,
    spilled: Spilled,
}

impl Spill {
    /// State that may take `limit` bytes of memory.
    #[must_use]
    pub fn new(limit: usize, store: Box<dyn Store>) -> Arc<Self> {
        Arc::new(Self { limit, inner: Mutex::new(Inner { store, fault: None, sizes: Vec::new(), spilled: Spilled::default() }) })
    }

    /// Bytes of memory that the state may take.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// What went to the store.
    #[must_use]
    pub fn spilled(&self) -> Spilled {
        let inner = self.inner();
        let bytes = (0..inner.sizes.len() as u32).map(|part| inner.store.bytes(part)).sum();
        Spilled { bytes, ..inner.spilled }
    }

    /// The first thing that went wrong: state is lost with it.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.inner().fault.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn ask(&mut self, ask: impl FnOnce(&mut dyn Store) -> Result<(), String>) -> Result<(), String> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        ask(self.store.as_mut()).inspect_err(|fault| self.fault = Some(fault.clone()))
    }
}

/// What one part of the state has of a [`Spill`]. Its values go with it.
#[derive(Debug)]
pub struct Share {
    spill: Arc<Spill>,
    part: u32,
}

impl Share {
    /// The share of a new part.
    #[must_use]
    pub fn new(spill: &Arc<Spill>) -> Self {
        let mut inner = spill.inner();
        inner.sizes.push(0);
        Self { spill: Arc::clone(spill), part: inner.sizes.len() as u32 - 1 }
    }

    /// Bytes of memory that the state as a whole may take.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.spill.limit
    }

    /// Bytes of memory that the part may take, which takes so many now.
    #[must_use]
    pub fn room(&self, taken: usize) -> usize {
        let mut inner = self.spill.inner();
        let size = taken.saturating_add(usize::try_from(inner.store.bytes(self.part)).unwrap_or(usize::MAX));
        inner.sizes[self.part as usize] = size;
        let all: u128 = inner.sizes.iter().map(|size| *size as u128).sum();
        // No more than the limit.
        (self.spill.limit as u128 * size as u128).checked_div(all).unwrap_or(self.spill.limit as u128) as usize
    }

    /// Takes in values, each of a slot that has none.
    ///
    /// # Errors
    /// When they cannot be written, or something went wrong before.
    pub fn put(&self, values: &Values) -> Result<(), String> {
        let mut inner = self.spill.inner();
        inner.spilled.out += values.ends.len() as u64;
        inner.ask(|store| store.put(self.part, values))
    }

    /// Gives the values of slots to `each`: the place among `slots`, and the bytes. They stay.
    ///
    /// # Errors
    /// When one cannot be read, or something went wrong before; what `each` says is wrong with one.
    pub fn look(&self, slots: &[u32], mut each: impl FnMut(usize, &[u8]) -> Option<()>) -> Result<(), String> {
        let mut sound = true;
        let mut inner = self.spill.inner();
        inner.ask(|store| {
            store.get(self.part, slots, &mut |number, bytes| sound = each(number, bytes).is_some() && sound)?;
            if sound { Ok(()) } else { Err("state that was kept on disk cannot be read".to_owned()) }
        })
    }

    /// The same, and forgets them.
    ///
    /// # Errors
    /// As [`Share::look`].
    pub fn take(&self, slots: &[u32], each: impl FnMut(usize, &[u8]) -> Option<()>) -> Result<(), String> {
        self.look(slots, each)?;
        self.remove(slots);
        self.spill.inner().spilled.back += slots.len() as u64;
        Ok(())
    }

    /// Forgets the values of slots.
    pub fn remove(&self, slots: &[u32]) {
        self.spill.inner().store.remove(self.part, slots);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut inner = self.spill.inner();
        inner.sizes[self.part as usize] = 0;
        inner.store.clear(self.part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values in memory, of which none can be written from some number of bytes on.
    #[derive(Default)]
    struct Memory(std::collections::HashMap<(u32, u32), Vec<u8>>);

    impl Store for Memory {
        fn put(&mut self, part: u32, values: &Values) -> Result<(), String> {
            values.iter().for_each(|(slot, value)| assert!(self.0.insert((part, slot), value.to_vec()).is_none()));
            if self.0.len() > 10 { Err("full".to_owned()) } else { Ok(()) }
        }

        fn get(&mut self, part: u32, slots: &[u32], each: &mut dyn FnMut(usize, &[u8])) -> Result<(), String> {
            slots.iter().enumerate().for_each(|(number, slot)| each(number, &self.0[&(part, *slot)]));
            Ok(())
        }

        fn remove(&mut self, part: u32, slots: &[u32]) {
            slots.iter().for_each(|slot| drop(self.0.remove(&(part, *slot))));
        }

        fn clear(&mut self, part: u32) {
            self.0.retain(|(of, _), _| *of != part);
        }

        fn bytes(&self, part: u32) -> u64 {
            self.0.iter().filter(|((of, _), _)| *of == part).map(|(_, value)| value.len() as u64).sum()
        }
    }

    fn values(slots: std::ops::Range<u32>) -> Values {
        let mut values = Values::default();
        slots.for_each(|slot| assert!(values.add(slot, |bytes| bytes.resize(bytes.len() + slot as usize, 7))));
        values
    }

    #[test]
    fn shares_are_as_large_as_what_is_known() {
        let spill = Spill::new(1000, Box::new(Memory::default()));
        let (a, b) = (Share::new(&spill), Share::new(&spill));
        assert_eq!(a.room(0), 1000);
        assert_eq!((a.room(600), b.room(200)), (1000, 250));
        // What is on disk counts, so that a share does not shrink by what goes there.
        b.put(&values(1..5)).unwrap();
        assert_eq!((b.room(190), a.room(600)), (250, 750));
        b.take(&[2, 3], |number, bytes| (bytes.len() == number + 2).then_some(())).unwrap();
        assert_eq!((b.room(195), spill.spilled()), (250, Spilled { out: 4, back: 2, bytes: 5 }));
        drop(b);
        assert_eq!((a.room(600), spill.spilled().bytes), (1000, 0), "its values go with it");
    }

    #[test]
    fn the_first_fault_stays() {
        let spill = Spill::new(1000, Box::new(Memory::default()));
        let share = Share::new(&spill);
        share.put(&values(0..10)).unwrap();
        assert_eq!(share.put(&values(20..30)), Err("full".to_owned()));
        assert_eq!(share.take(&[1], |_, _| Some(())), Err("full".to_owned()));
        let share = Share::new(&Spill::new(0, Box::new(Memory::default())));
        share.put(&values(0..3)).unwrap();
        assert!(share.look(&[0, 1], |number, _| (number == 1).then_some(())).is_err(), "what is wrong with one value is told");
    }

    #[test]
    fn what_is_too_long_is_not_added() {
        let mut values = values(1..3);
        assert!(!values.add(9, |bytes| bytes.resize(bytes.len() + LONGEST + 1, 0)));
        assert!(values.add(3, |bytes| bytes.resize(bytes.len() + LONGEST, 0)));
        assert_eq!(values.iter().map(|(slot, value)| (slot, value.len())).collect::<Vec<_>>(), [(1, 1), (2, 2), (3, LONGEST)]);
    }
}
