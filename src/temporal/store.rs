//! The partitions of a group: found by their key, packed while nobody looks at them.
//!
//! A partition of a few rows is a run of bytes in a page of such runs; there are millions of them, and most are looked at once in a while. One that has grown is
//! kept as it is. A copy of the store shares its pages until they are written to, so that it takes no longer than copying a few bytes for each partition.

use super::automaton::{Machine, Spare};
use super::packed::{self, Reader};
use super::progress::Progress;
use super::rows::Rows;
use super::timers::NEVER;
use foldhash::fast::FixedState;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Bytes of a page of packed partitions.
pub const PAGE: usize = 1 << 15;

/// Sizes of packed partitions, ascending: half as large again and again.
const SIZES: [usize; 14] = [32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096];

/// Bytes that memory is brought near by.
const LINE: usize = 64;

/// Slots and runs that are free, and partitions that are not packed, in place of a size.
const FREE: u32 = u32::MAX;
const LARGE: u32 = u32::MAX - 1;

/// What is known of the rows of one key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Partition {
    pub rows: Rows,
    /// Of the patterns that have something to remember, ascending.
    pub progress: Vec<Progress>,
}

impl Partition {
    /// Bytes that it takes, unpacked.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.rows.bytes() + self.progress.iter().map(Progress::bytes).sum::<usize>()
    }

    /// Whether it may be what patterns, of these machines, know of rows: what is read from a file may be anything.
    #[must_use]
    pub fn is_sound<'m>(&self, machine: impl Fn(u32) -> &'m Machine) -> bool {
        self.rows.is_sound() && self.progress.iter().all(|progress| progress.is_sound(machine(progress.pattern), &self.rows))
    }

    /// Forgets all; the memory of searches goes to `spare`.
    pub fn clear(&mut self, spare: &mut Spare) {
        self.rows.clear();
        spare.0.extend(self.progress.drain(..).filter_map(Progress::into_spare));
    }

    /// Adds its bytes: those of its serialization.
    fn pack(&self, out: &mut Vec<u8>) {
        self.rows.pack(out);
        packed::number(out, self.progress.len() as u64);
        self.progress.iter().for_each(|progress| progress.pack(out));
    }

    /// Becomes what was packed; `None`: nothing was, and it is anything.
    fn unpack(&mut self, bytes: &[u8], spare: &mut Spare) -> Option<()> {
        self.clear(spare);
        let mut from = Reader(bytes);
        self.rows.unpack(&mut from)?;
        for _ in 0..from.number()? {
            self.progress.push(Progress::unpack(&mut from, spare)?);
        }
        Some(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Slot {
    /// A place in [`SIZES`], or [`FREE`] or [`LARGE`].
    size: u32,
    /// Among the runs of that size.
    place: u32,
    /// The earliest time at which somebody will look at it.
    timer: i64,
    /// The time at which the first of its searches is over: not before the timer.
    ends_at: i64,
}

/// Runs of bytes of one size. Each begins with its slot, or [`FREE`].
#[derive(Clone, Debug, Default)]
struct Runs {
    pages: Vec<Page>,
    len: u32,
    free: Vec<u32>,
}

#[derive(Clone, Debug)]
struct Page {
    bytes: Arc<Vec<u8>>,
    /// Whether it was written to since the last copy was made.
    changed: bool,
}

impl Page {
    fn write(&mut self) -> &mut Vec<u8> {
        self.changed = true;
        Arc::make_mut(&mut self.bytes)
    }
}

/// A partition that is not packed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Large {
    pub key: Vec<u8>,
    pub partition: Partition,
}

/// A page, and whether it has changed since the last copy.
pub type CapturedPage = (Arc<Vec<u8>>, bool);

/// The partitions as they are at one moment.
#[derive(Debug)]
pub struct Captured {
    /// For each size of runs, its pages.
    pub runs: Vec<(usize, Vec<CapturedPage>)>,
    pub large: Vec<(u32, Large)>,
    /// Slots that there are, and those that are free, in the order in which they are used again.
    pub slots: u32,
    pub free: Vec<u32>,
}

/// Partitions by key. Each has a slot, a number that stays its own as long as it is there.
#[derive(Clone, Debug)]
pub struct Store {
    /// By open addressing: the upper half of the hash, and the slot + 1; 0 where there is none. At most half full, and a power of two long.
    table: Vec<u64>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    runs: [Runs; SIZES.len()],
    large: HashMap<u32, Box<Large>, FixedState>,
    living: usize,
    scratch: Vec<u8>,
    spare_key: Vec<u8>,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            table: vec![0; 16],
            slots: Vec::new(),
            free: Vec::new(),
            runs: Default::default(),
            large: HashMap::default(),
            living: 0,
            scratch: Vec::new(),
            spare_key: Vec::new(),
        }
    }
}

impl Store {
    /// A hash of a key.
    #[must_use]
    pub fn hash(key: &[u8]) -> u64 {
        FixedState::default().hash_one(key)
    }

    /// Partitions that are there.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.living
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.living == 0
    }

    /// The slots of all partitions, ascending.
    #[must_use]
    pub fn all(&self) -> Vec<u32> {
        (0..self.slots.len() as u32).filter(|slot| self.slots[*slot as usize].size != FREE).collect()
    }

    /// Has memory brought near that a look for a key of this hash will read; what it returns means nothing.
    #[must_use]
    pub fn fetch_entry(&self, hash: u64) -> u64 {
        self.table[hash as usize & (self.table.len() - 1)]
    }

    /// The same of what the entry names.
    #[must_use]
    pub fn fetch_slot(&self, hash: u64) -> u32 {
        self.near(hash).map_or(0, |slot| slot.place)
    }

    /// The same of the partition itself.
    #[must_use]
    pub fn fetch_partition(&self, hash: u64) -> u8 {
        let Some(&Slot { size, place, .. }) = self.near(hash) else { return 0 };
        if size >= LARGE { 0 } else { self.run(size, place).iter().step_by(LINE).fold(0, |all, byte| all ^ byte) }
    }

    /// Whether there may be a key of this hash; if not, there is none.
    #[must_use]
    pub fn may_have(&self, hash: u64) -> bool {
        self.near(hash).is_some()
    }

    /// The first slot with the upper half of this hash: nearly always that of the key.
    fn near(&self, hash: u64) -> Option<&Slot> {
        let mask = self.table.len() - 1;
        let mut at = hash as usize & mask;
        while let Some(slot) = (self.table[at] as u32).checked_sub(1) {
            if self.table[at] >> 32 == hash >> 32 {
                return Some(&self.slots[slot as usize]);
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// The slot of a key.
    #[must_use]
    pub fn find(&self, key: &[u8], hash: u64) -> Option<u32> {
        let mask = self.table.len() - 1;
        let mut at = hash as usize & mask;
        while let Some(slot) = (self.table[at] as u32).checked_sub(1) {
            if self.table[at] >> 32 == hash >> 32 && self.key(slot) == key {
                return Some(slot);
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// Makes room for a key that is not there yet, with a partition that knows nothing.
    pub fn add(&mut self, key: &[u8], hash: u64) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { size: FREE, place: 0, timer: NEVER, ends_at: NEVER });
            self.slots.len() as u32 - 1
        });
        self.write(slot, key, &Partition::default());
        self.index(slot, hash);
        slot
    }

    /// Has a new partition found by its key.
    fn index(&mut self, slot: u32, hash: u64) {
        self.living += 1;
        if self.living * 2 > self.table.len() {
            let slots = self.all();
            self.table = vec![0; self.table.len() * 2];
            slots.into_iter().for_each(|slot| self.enter(slot, Self::hash(self.key(slot))));
        } else {
            self.enter(slot, hash);
        }
    }

    fn enter(&mut self, slot: u32, hash: u64) {
        let mask = self.table.len() - 1;
        let mut at = hash as usize & mask;
        while self.table[at] != 0 {
            at = (at + 1) & mask;
        }
        self.table[at] = hash >> 32 << 32 | u64::from(slot + 1);
    }

    /// Whether a pattern searches in a partition.
    #[must_use]
    pub fn searches(&self, slot: u32) -> bool {
        let Slot { size, place, .. } = self.slots[slot as usize];
        match size {
            FREE => false,
            LARGE => self.large.get(&slot).is_some_and(|large| large.partition.progress.iter().any(Progress::searches)),
            size => split(self.run(size, place)).1[0] == 1,
        }
    }

    /// Takes a partition out, to be changed: `partition` becomes it. It is there until it is put back or removed, but what it knows is not. `spare`: memory of searches.
    pub fn take(&mut self, slot: u32, partition: &mut Partition, spare: &mut Spare) {
        let Slot { size, place, .. } = self.slots[slot as usize];
        if size == LARGE {
            *partition = self.large.get_mut(&slot).map(|large| std::mem::take(&mut large.partition)).unwrap_or_default();
        } else {
            partition.unpack(split(self.run(size, place)).1.get(1..).unwrap_or_default(), spare).expect("what was packed is unpacked");
        }
    }

    /// Puts a partition back, and leaves anything in its place; returns the bytes that it takes then.
    pub fn put(&mut self, slot: u32, partition: &mut Partition) -> usize {
        let bytes = partition.bytes();
        if bytes > SIZES[SIZES.len() - 1] {
            let key = if self.slots[slot as usize].size == LARGE { Vec::new() } else { self.key(slot).to_vec() };
            self.release(slot);
            let large = self.large.entry(slot).or_insert_with(|| Box::new(Large { key, partition: Partition::default() }));
            large.partition = std::mem::take(partition);
            self.slots[slot as usize].size = LARGE;
            return bytes;
        }
        let mut key = std::mem::take(&mut self.spare_key);
        key.clear();
        key.extend_from_slice(self.key(slot));
        let bytes = self.write(slot, &key, partition);
        self.spare_key = key;
        bytes
    }

    /// Packs a partition, and forgets what the slot had.
    fn write(&mut self, slot: u32, key: &[u8], partition: &Partition) -> usize {
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        bytes.extend(slot.to_le_bytes());
        bytes.extend((key.len() as u32).to_le_bytes());
        bytes.extend(key);
        bytes.push(u8::from(partition.progress.iter().any(Progress::searches)));
        partition.pack(&mut bytes);
        let known = self.slots[slot as usize].size;
        let size = SIZES.iter().position(|size| *size >= bytes.len());
        let taken = match size {
            Some(size) => {
                if known != size as u32 {
                    self.release(slot);
                    self.large.remove(&slot);
                    let place = self.runs[size].add(SIZES[size]);
                    (self.slots[slot as usize].size, self.slots[slot as usize].place) = (size as u32, place);
                }
                let place = self.slots[slot as usize].place;
                let (page, at) = Runs::address(SIZES[size], place);
                self.runs[size].pages[page].write()[at..][..bytes.len()].copy_from_slice(&bytes);
                SIZES[size]
            }
            // A key that is long by itself.
            None => {
                self.release(slot);
                self.slots[slot as usize].size = LARGE;
                self.large.insert(slot, Box::new(Large { key: key.to_vec(), partition: partition.clone() }));
                partition.bytes()
            }
        };
        bytes.clear();
        self.scratch = bytes;
        taken
    }

    /// Forgets a partition and its key.
    pub fn remove(&mut self, slot: u32) {
        let mask = self.table.len() - 1;
        let mut at = Self::hash(self.key(slot)) as usize & mask;
        while self.table[at] as u32 != slot + 1 {
            at = (at + 1) & mask;
        }
        // What stands behind it comes nearer to its place, so that no look ends early.
        let mut next = (at + 1) & mask;
        while let Some(other) = (self.table[next] as u32).checked_sub(1) {
            let home = Self::hash(self.key(other)) as usize & mask;
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(at) & mask) {
                self.table[at] = self.table[next];
                at = next;
            }
            next = (next + 1) & mask;
        }
        self.table[at] = 0;
        self.release(slot);
        self.large.remove(&slot);
        self.slots[slot as usize] = Slot { size: FREE, place: 0, timer: NEVER, ends_at: NEVER };
        self.free.push(slot);
        self.living -= 1;
    }

    fn release(&mut self, slot: u32) {
        let Slot { size, place, .. } = self.slots[slot as usize];
        if size < LARGE {
            let runs = &mut self.runs[size as usize];
            let (page, at) = Runs::address(SIZES[size as usize], place);
            runs.pages[page].write()[at..][..4].copy_from_slice(&FREE.to_le_bytes());
            runs.free.push(place);
        }
    }

    fn run(&self, size: u32, place: u32) -> &[u8] {
        let length = SIZES[size as usize];
        let (page, at) = Runs::address(length, place);
        &self.runs[size as usize].pages[page].bytes[at..][..length]
    }

    /// The key of a partition.
    #[must_use]
    pub fn key(&self, slot: u32) -> &[u8] {
        let Slot { size, place, .. } = self.slots[slot as usize];
        match size {
            FREE => &[],
            LARGE => self.large.get(&slot).map_or(&[], |large| &large.key),
            size => split(self.run(size, place)).0,
        }
    }

    /// The earliest time at which somebody will look at a partition.
    #[must_use]
    pub fn timer(&self, slot: u32) -> i64 {
        self.slots[slot as usize].timer
    }

    pub fn set_timer(&mut self, slot: u32, timer: i64) {
        self.slots[slot as usize].timer = timer;
    }

    /// The time at which the first search in a partition is over.
    #[must_use]
    pub fn ends_at(&self, slot: u32) -> i64 {
        self.slots[slot as usize].ends_at
    }

    pub fn set_ends_at(&mut self, slot: u32, ends_at: i64) {
        self.slots[slot as usize].ends_at = ends_at;
    }

    /// Bytes that a partition takes.
    #[must_use]
    pub fn bytes_of(&self, slot: u32) -> usize {
        match self.slots[slot as usize].size {
            FREE => 0,
            LARGE => self.large.get(&slot).map_or(0, |large| large.partition.bytes()),
            size => SIZES[size as usize],
        }
    }

    /// Rows that are held; looks at all partitions.
    #[must_use]
    pub fn held(&self) -> usize {
        let of = |slot: u32| {
            let Slot { size, place, .. } = self.slots[slot as usize];
            match size {
                LARGE => self.large.get(&slot).map_or(0, |large| large.partition.rows.held()),
                size => unpack(self.run(size, place)).map_or(0, |partition| partition.rows.held()),
            }
        };
        self.all().into_iter().map(of).sum()
    }

    /// Bytes that all partitions take, with their room and the table of keys.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let pages = self.runs.iter().map(|runs| runs.pages.len() * PAGE + runs.free.capacity() * 4).sum::<usize>();
        let large = self.large.values().map(|large| large.partition.bytes()).sum::<usize>();
        self.table.capacity() * 8 + self.slots.capacity() * size_of::<Slot>() + self.free.capacity() * 4 + pages + large
    }
}

/// A packed partition: its key, and the rest: whether a pattern searches in it, and all that is known.
fn split(run: &[u8]) -> (&[u8], &[u8]) {
    let length = run[4..].first_chunk().map_or(0, |length| u32::from_le_bytes(*length) as usize);
    let rest = &run[8..];
    rest.split_at(length.min(rest.len()))
}

fn unpack(run: &[u8]) -> Option<Partition> {
    let mut partition = Partition::default();
    partition.unpack(split(run).1.get(1..)?, &mut Spare::default())?;
    Some(partition)
}

/// The partitions in a page of runs of `size` bytes: slot, key, and what is known.
///
/// # Errors
/// What is no such page.
pub fn read_page(size: usize, page: &[u8]) -> Result<Vec<(u32, Vec<u8>, Partition)>, String> {
    let mut found = Vec::new();
    if size < 16 || page.len() > PAGE {
        return Err("a page of partitions has another size".to_owned());
    }
    for run in page.chunks_exact(size) {
        let slot = run.first_chunk().map_or(FREE, |slot| u32::from_le_bytes(*slot));
        if slot != FREE {
            let partition = unpack(run).ok_or("a partition cannot be read")?;
            found.push((slot, split(run).0.to_vec(), partition));
        }
    }
    Ok(found)
}

impl Store {
    /// Has the next copy take every partition.
    pub fn change_all(&mut self) {
        self.runs.iter_mut().flat_map(|runs| &mut runs.pages).for_each(|page| page.changed = true);
    }

    /// The partitions as they are now. What it shares with the store is copied when it changes.
    pub fn capture(&mut self) -> Captured {
        let mut large: Vec<(u32, Large)> = self.large.iter().map(|(slot, large)| (*slot, (**large).clone())).collect();
        large.sort_by_key(|(slot, _)| *slot);
        let page = |page: &mut Page| (Arc::clone(&page.bytes), std::mem::take(&mut page.changed));
        let runs = SIZES.iter().zip(&mut self.runs).map(|(size, runs)| (*size, runs.pages.iter_mut().map(page).collect())).collect();
        Captured { runs, large, slots: self.slots.len() as u32, free: self.free.clone() }
    }

    /// Partitions of a copy in their slots; those that it had and that are not among them are free.
    ///
    /// # Errors
    /// Partitions that cannot be of one copy.
    pub fn restored(slots: u32, free: Vec<u32>, partitions: Vec<(u32, Vec<u8>, Partition)>) -> Result<Self, String> {
        const WRONG: &str = "the slots of partitions do not agree";
        let mut store = Self::default();
        // Every slot is named by a partition or is free, so their number is that of what is there.
        if slots as usize > partitions.len() + free.len() {
            return Err(WRONG.to_owned());
        }
        store.slots = vec![Slot { size: FREE, place: 0, timer: NEVER, ends_at: NEVER }; slots as usize];
        let mut known = vec![false; slots as usize];
        for slot in partitions.iter().map(|(slot, ..)| slot).chain(&free) {
            if known.get(*slot as usize) != Some(&false) {
                return Err(WRONG.to_owned());
            }
            known[*slot as usize] = true;
        }
        for (slot, key, mut partition) in partitions {
            let hash = Self::hash(&key);
            if store.find(&key, hash).is_some() {
                return Err("a key has two partitions".to_owned());
            }
            store.write(slot, &key, &Partition::default());
            store.put(slot, &mut partition);
            store.index(slot, hash);
        }
        store.free = free;
        Ok(store)
    }
}

impl Runs {
    const fn address(length: usize, place: u32) -> (usize, usize) {
        let in_page = PAGE / length;
        (place as usize / in_page, place as usize % in_page * length)
    }

    fn add(&mut self, length: usize) -> u32 {
        if let Some(place) = self.free.pop() {
            return place;
        }
        if Self::address(length, self.len).0 == self.pages.len() {
            self.pages.push(Page { bytes: Arc::new(vec![0xff; PAGE]), changed: true });
        }
        self.len += 1;
        self.len - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Value;
    use crate::temporal::rows::Row;
    use std::collections::BTreeMap;

    fn partition(rows: usize, number: u64) -> Partition {
        let mut partition = Partition::default();
        let values = || [Value::Int(-5), Value::Text("some text".into())].into();
        (0..rows).for_each(|at| {
            partition.rows.push_row(Row { number: number + at as u64, time: Some(-7), holds: [3, 9].into(), values: values() })
        });
        partition.progress.push(Progress::new(4, number));
        partition
    }

    #[test]
    fn partitions_are_what_was_put_in() {
        let mut store = Store::default();
        let mut expected: BTreeMap<Vec<u8>, Partition> = BTreeMap::new();
        let (mut copy, mut taken) = (None, Partition::default());
        let mut state = 1_u64;
        for step in 0..20_000_u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let number = state >> 33;
            // Some keys are longer than a run.
            let mut key = (number % 700).to_le_bytes().to_vec();
            key.resize(if number.is_multiple_of(50) { 5000 } else { 8 }, 1);
            let hash = Store::hash(&key);
            let known = store.find(&key, hash);
            assert_eq!(known.is_some(), expected.contains_key(&key));
            if number.is_multiple_of(3)
                && let Some(slot) = known
            {
                store.remove(slot);
                expected.remove(&key);
                continue;
            }
            let slot = known.unwrap_or_else(|| store.add(&key, hash));
            store.take(slot, &mut taken, &mut Spare::default());
            assert_eq!(taken, expected.get(&key).cloned().unwrap_or_default());
            // Few rows are packed, many are not.
            let after = partition([0, 1, 2, 5, 100][number as usize % 5], step);
            let bytes = store.put(slot, &mut after.clone());
            assert_eq!(bytes, store.bytes_of(slot));
            expected.insert(key, after);
            if step == 15_000 {
                copy = Some((store.clone(), expected.clone()));
            }
        }
        let (copied, then) = copy.unwrap();
        for (mut store, expected) in [(store, expected), (copied, then)] {
            assert_eq!((store.len(), store.all().len()), (expected.len(), expected.len()));
            for (key, partition) in expected {
                let slot = store.find(&key, Store::hash(&key)).unwrap();
                assert_eq!((store.key(slot), store.timer(slot)), (key.as_slice(), NEVER));
                store.take(slot, &mut taken, &mut Spare::default());
                assert_eq!(taken, partition);
            }
        }
    }

    #[test]
    fn partitions_are_the_bytes_of_postcard() {
        for rows in [0, 1, 5, 200] {
            let partition = partition(rows, 1 << 40);
            let mut bytes = Vec::new();
            partition.pack(&mut bytes);
            assert_eq!(bytes, postcard::to_stdvec(&partition).unwrap());
            let mut unpacked = super::tests::partition(3, 7);
            assert_eq!((unpacked.unpack(&bytes, &mut Spare::default()), &unpacked), (Some(()), &partition));
            assert_eq!(unpacked.bytes(), partition.bytes());
            for length in 0..bytes.len() {
                assert_eq!(unpacked.unpack(&bytes[..length], &mut Spare::default()), None, "{length} bytes");
            }
        }
    }
}
