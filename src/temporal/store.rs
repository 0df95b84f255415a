//! The partitions of a group: found by their key, packed while nobody looks at them.
//!
//! A partition of a few rows is a run of bytes in a page of such runs; there are millions of them, and most are looked at once in a while. One that has grown is
//! kept as it is. Where memory has no room for all of them, those that nobody has looked at for long are away: on disk.

mod quiet;
mod saved;

use super::automaton::{Machine, Spare};
use super::packed::{self, Reader};
use super::progress::Progress;
use super::rows::Rows;
use super::steps::{Capture, SLOTS};
use super::timers::NEVER;
use super::windows::make_room;
use foldhash::fast::FixedState;
use quiet::Quiet;
pub use saved::{read_chunk, read_page};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::hash::BuildHasher;

/// Bytes of a page of packed partitions.
pub const PAGE: usize = 1 << 15;

/// Sizes of packed partitions, ascending: half as large again and again.
const SIZES: [usize; 14] = [32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096];

/// Bytes that memory is brought near by.
const LINE: usize = 64;

/// Bytes of a run before the key: the slot, and the lengths of the key and of what is known.
const HEAD: usize = 8;

/// Slots and runs that are free, and partitions that are not packed, in place of a size.
const FREE: u32 = u32::MAX;
const LARGE: u32 = u32::MAX - 1;

/// Partitions that are away, and will be packed when they come back, or not.
const AWAY: u32 = u32::MAX - 2;
const AWAY_LARGE: u32 = u32::MAX - 3;

const fn is_away(size: u32) -> bool {
    matches!(size, AWAY | AWAY_LARGE)
}

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

    /// What follows the key in a run; `None`: nothing like that was packed.
    fn of(known: &[u8]) -> Option<Self> {
        let mut partition = Self::default();
        partition.unpack(known.get(1..)?, &mut Spare::default())?;
        Some(partition)
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    /// A place in [`SIZES`], or [`FREE`], [`LARGE`], [`AWAY`] or [`AWAY_LARGE`].
    size: u32,
    /// Among the runs of that size; of one that is away the lower half of its hash, so that no other key is taken for its.
    place: u32,
    /// The earliest time at which somebody will look at it.
    timer: i64,
    /// The time at which the first of its searches is over: not before the timer.
    ends_at: i64,
}

impl Slot {
    const FREE: Self = Self { size: FREE, place: 0, timer: NEVER, ends_at: NEVER };
}

/// Runs of bytes of one size. Each begins with its slot, or [`FREE`].
#[derive(Debug, Default)]
struct Runs {
    pages: Vec<Box<[u8]>>,
    len: u32,
    free: Vec<u32>,
}

/// A partition that is not packed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Large {
    pub key: Vec<u8>,
    pub partition: Partition,
}

/// Partitions by key. Each has a slot, a number that stays its own as long as it is there.
#[derive(Debug)]
pub struct Store {
    /// By open addressing: the upper half of the hash, and the slot + 1; 0 where there is none. At most half full, and a power of two long.
    table: Vec<u64>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    runs: [Runs; SIZES.len()],
    large: HashMap<u32, Box<Large>, FixedState>,
    living: usize,
    /// Bytes of the runs that are in use, and of the partitions that are not packed.
    in_runs: usize,
    in_large: usize,
    /// For each chunk of [`SLOTS`] slots, whether it has changed since the last copy.
    changed: Vec<bool>,
    capture: Option<Capture<Box<[u8]>>>,
    /// Where partitions go that memory has no room for; `None`: all stay.
    quiet: Option<Box<Quiet>>,
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
            in_runs: 0,
            in_large: 0,
            changed: Vec::new(),
            capture: None,
            quiet: None,
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
        if size >= AWAY_LARGE { 0 } else { self.run(size, place).iter().step_by(LINE).fold(0, |all, byte| all ^ byte) }
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

    /// The slot of a key, whose partition is in memory then.
    ///
    /// # Errors
    /// When one that is away cannot be read.
    #[inline]
    pub fn find(&mut self, key: &[u8], hash: u64) -> Result<Option<u32>, String> {
        // Most rows are of keys that nothing is known of.
        if self.fetch_entry(hash) == 0 { Ok(None) } else { self.find_behind(key, hash) }
    }

    fn find_behind(&mut self, key: &[u8], hash: u64) -> Result<Option<u32>, String> {
        let mask = self.table.len() - 1;
        let mut at = hash as usize & mask;
        while let Some(slot) = (self.table[at] as u32).checked_sub(1) {
            if self.table[at] >> 32 == hash >> 32 {
                let Slot { size, place, .. } = self.slots[slot as usize];
                if is_away(size) && place == hash as u32 {
                    self.bring_back(slot)?;
                }
                if self.key(slot) == key {
                    return Ok(Some(slot));
                }
            }
            at = (at + 1) & mask;
        }
        Ok(None)
    }

    /// Makes room for a key that is not there yet, with a partition that knows nothing.
    pub fn add(&mut self, key: &[u8], hash: u64) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            make_room(&mut self.slots, 1);
            self.slots.push(Slot::FREE);
            self.slots.len() as u32 - 1
        });
        self.touch(slot);
        self.write(slot, key, &Partition::default());
        self.index(slot, hash);
        slot
    }

    /// Has a new partition found by its key.
    fn index(&mut self, slot: u32, hash: u64) {
        self.living += 1;
        if self.living * 2 > self.table.len() {
            let larger = vec![0; self.table.len() * 2];
            for entry in std::mem::replace(&mut self.table, larger) {
                if let Some(slot) = (entry as u32).checked_sub(1) {
                    self.enter(slot, entry >> 32 << 32 | u64::from(self.lower_hash(slot)));
                }
            }
        }
        self.enter(slot, hash);
    }

    /// The lower half of the hash of a partition's key: as much as its place in the table depends on.
    fn lower_hash(&self, slot: u32) -> u32 {
        let Slot { size, place, .. } = self.slots[slot as usize];
        if is_away(size) { place } else { Self::hash(self.key(slot)) as u32 }
    }

    fn enter(&mut self, slot: u32, hash: u64) {
        let mask = self.table.len() - 1;
        let mut at = hash as usize & mask;
        while self.table[at] != 0 {
            at = (at + 1) & mask;
        }
        self.table[at] = hash >> 32 << 32 | u64::from(slot + 1);
    }

    /// Whether a pattern searches in a partition, which is in memory.
    #[must_use]
    pub fn searches(&self, slot: u32) -> bool {
        let Slot { size, place, .. } = self.slots[slot as usize];
        match size {
            FREE | AWAY | AWAY_LARGE => false,
            LARGE => self.large.get(&slot).is_some_and(|large| large.partition.progress.iter().any(Progress::searches)),
            size => split(self.run(size, place)).1[0] == 1,
        }
    }

    /// Takes a partition out, to be changed: `partition` becomes it. It is there until it is put back or removed, but what it knows is not. `spare`: memory of searches.
    /// Returns the bytes that it took.
    ///
    /// # Errors
    /// When one that is away cannot be read.
    pub fn take(&mut self, slot: u32, partition: &mut Partition, spare: &mut Spare) -> Result<usize, String> {
        if is_away(self.slots[slot as usize].size) {
            self.bring_back(slot)?;
        }
        self.touch(slot);
        if let Some(quiet) = &mut self.quiet {
            quiet.saw(slot);
        }
        let Slot { size, place, .. } = self.slots[slot as usize];
        if size == LARGE {
            let bytes = self.bytes_of(slot);
            *partition = self.large.get_mut(&slot).map(|large| std::mem::take(&mut large.partition)).unwrap_or_default();
            self.in_large -= bytes;
            return Ok(bytes);
        }
        let known = split(self.run(size, place)).1;
        partition.unpack(known.get(1..).unwrap_or_default(), spare).ok_or("what is known of a key cannot be read")?;
        Ok(SIZES[size as usize])
    }

    /// Puts a partition back that was taken out, and leaves anything in its place; returns the bytes that it takes then.
    pub fn put(&mut self, slot: u32, partition: &mut Partition) -> usize {
        let bytes = partition.bytes();
        if bytes > SIZES[SIZES.len() - 1] {
            let key = if self.slots[slot as usize].size == LARGE { Vec::new() } else { self.key(slot).to_vec() };
            self.release(slot);
            let large = self.large.entry(slot).or_insert_with(|| Box::new(Large { key, partition: Partition::default() }));
            large.partition = std::mem::take(partition);
            self.slots[slot as usize].size = LARGE;
            self.in_large += bytes;
            return bytes;
        }
        let mut key = std::mem::take(&mut self.spare_key);
        key.clear();
        key.extend_from_slice(self.key(slot));
        let bytes = self.write(slot, &key, partition);
        self.spare_key = key;
        bytes
    }

    /// Packs a partition, and forgets what the slot had: a run, or what was taken out.
    fn write(&mut self, slot: u32, key: &[u8], partition: &Partition) -> usize {
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        bytes.extend([0; HEAD]);
        bytes.extend(key);
        bytes.push(u8::from(partition.progress.iter().any(Progress::searches)));
        partition.pack(&mut bytes);
        let taken = match size_for(bytes.len()) {
            Some(size) => {
                let known = bytes.len() - HEAD - key.len();
                bytes[..HEAD].copy_from_slice(&head(slot, key.len(), known));
                if self.slots[slot as usize].size != size as u32 {
                    self.release(slot);
                    self.large.remove(&slot);
                    self.give_run(slot, size);
                }
                self.run_mut(slot)[..bytes.len()].copy_from_slice(&bytes);
                SIZES[size]
            }
            // A key that is long by itself.
            None => {
                self.release(slot);
                self.slots[slot as usize].size = LARGE;
                self.large.insert(slot, Box::new(Large { key: key.to_vec(), partition: partition.clone() }));
                self.in_large += partition.bytes();
                partition.bytes()
            }
        };
        bytes.clear();
        self.scratch = bytes;
        taken
    }

    /// Gives a slot that has none a run.
    fn give_run(&mut self, slot: u32, size: usize) {
        let place = self.runs[size].add(SIZES[size]);
        (self.slots[slot as usize].size, self.slots[slot as usize].place) = (size as u32, place);
        self.in_runs += SIZES[size];
    }

    /// Forgets a partition that was taken out, and its key.
    pub fn remove(&mut self, slot: u32) {
        let mask = self.table.len() - 1;
        let mut at = self.lower_hash(slot) as usize & mask;
        while self.table[at] as u32 != slot + 1 {
            at = (at + 1) & mask;
        }
        // What stands behind it comes nearer to its place, so that no look ends early.
        let mut next = (at + 1) & mask;
        while let Some(other) = (self.table[next] as u32).checked_sub(1) {
            let home = self.lower_hash(other) as usize & mask;
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(at) & mask) {
                self.table[at] = self.table[next];
                at = next;
            }
            next = (next + 1) & mask;
        }
        self.table[at] = 0;
        self.release(slot);
        self.large.remove(&slot);
        self.slots[slot as usize] = Slot::FREE;
        self.free.push(slot);
        self.living -= 1;
    }

    /// Has the run of a slot free, if it has one.
    #[inline]
    fn release(&mut self, slot: u32) {
        let Slot { size, place, .. } = self.slots[slot as usize];
        if (size as usize) < SIZES.len() {
            self.run_mut(slot)[..4].copy_from_slice(&FREE.to_le_bytes());
            self.runs[size as usize].free.push(place);
            self.in_runs -= SIZES[size as usize];
        }
    }

    fn run(&self, size: u32, place: u32) -> &[u8] {
        let length = SIZES[size as usize];
        let (page, at) = Runs::address(length, place);
        &self.runs[size as usize].pages[page][at..][..length]
    }

    /// The run of a slot, to be written.
    #[inline]
    fn run_mut(&mut self, slot: u32) -> &mut [u8] {
        let Slot { size, place, .. } = self.slots[slot as usize];
        let length = SIZES[size as usize];
        let (page, at) = Runs::address(length, place);
        &mut self.runs[size as usize].pages[page][at..][..length]
    }

    /// The key of a partition that is in memory.
    #[must_use]
    pub fn key(&self, slot: u32) -> &[u8] {
        let Slot { size, place, .. } = self.slots[slot as usize];
        match size {
            FREE | AWAY | AWAY_LARGE => &[],
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

    /// Bytes that a partition takes in memory.
    #[must_use]
    pub fn bytes_of(&self, slot: u32) -> usize {
        match self.slots[slot as usize].size {
            FREE | AWAY | AWAY_LARGE => 0,
            LARGE => self.large.get(&slot).map_or(0, |large| large.partition.bytes()),
            size => SIZES[size as usize],
        }
    }

    /// Rows that are held; looks at all partitions.
    ///
    /// # Errors
    /// When those that are away cannot be read.
    pub fn held(&self) -> Result<usize, String> {
        let of_known = |known: &[u8]| Some(Partition::of(known)?.rows.held());
        let mut held = 0;
        let mut away = Vec::new();
        for slot in self.all() {
            let Slot { size, place, .. } = self.slots[slot as usize];
            held += match size {
                LARGE => self.large.get(&slot).map_or(0, |large| large.partition.rows.held()),
                AWAY | AWAY_LARGE => {
                    away.push(slot);
                    0
                }
                size => of_known(split(self.run(size, place)).1).unwrap_or(0),
            };
        }
        self.look(&away, |_, value| {
            held += of_known(split_value(value)?.1)?;
            Some(())
        })?;
        Ok(held)
    }

    /// Bytes of memory that all partitions take, with their room and the table of keys.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let pages = self.runs.iter().map(|runs| runs.pages.len() * PAGE + runs.free.capacity() * 4).sum::<usize>();
        self.table.capacity() * 8 + self.slots.capacity() * size_of::<Slot>() + self.free.capacity() * 4 + pages + self.in_large
    }

    /// Notes that a partition is about to change, or that a slot is to have one.
    #[inline]
    fn touch(&mut self, slot: u32) {
        let chunk = slot as usize / SLOTS;
        match self.changed.get_mut(chunk) {
            Some(changed) => *changed = true,
            None => self.changed.resize(chunk + 1, true),
        }
        if self.capture.as_ref().is_some_and(|capture| capture.awaits(slot)) {
            self.keep(slot);
        }
    }

    /// Adds what is known of a partition in memory: its value, as it is saved and as it goes to disk.
    fn value(&self, slot: u32, out: &mut Vec<u8>) {
        let Slot { size, place, .. } = self.slots[slot as usize];
        let of_key = |key: &[u8], out: &mut Vec<u8>| {
            packed::number(out, key.len() as u64);
            out.extend(key);
        };
        if (size as usize) < SIZES.len() {
            let (key, known) = split(self.run(size, place));
            of_key(key, out);
            out.extend(known);
        } else if let Some(Large { key, partition }) = self.large.get(&slot).map(|large| &**large) {
            of_key(key, out);
            out.push(u8::from(partition.progress.iter().any(Progress::searches)));
            partition.pack(out);
        }
    }
}

/// What a run begins with: the slot, and the lengths of the key and of what is known.
fn head(slot: u32, key: usize, known: usize) -> [u8; HEAD] {
    let [a, b, c, d] = slot.to_le_bytes();
    let ([e, f], [g, h]) = ((key as u16).to_le_bytes(), (known as u16).to_le_bytes());
    [a, b, c, d, e, f, g, h]
}

/// The smallest size that so many bytes have room in.
fn size_for(bytes: usize) -> Option<usize> {
    SIZES.iter().position(|size| *size >= bytes)
}

/// A packed partition: its key, and the rest: whether a pattern searches in it, and all that is known.
#[inline]
fn split(run: &[u8]) -> (&[u8], &[u8]) {
    let length = |at: usize| usize::from(u16::from_le_bytes([run[at], run[at + 1]]));
    run[HEAD..HEAD + length(4) + length(6)].split_at(length(4))
}

/// The same of a value; `None`: it is none.
fn split_value(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut from = Reader(value);
    let length = from.small()?;
    from.0.split_at_checked(length)
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
            self.pages.push(vec![0xff; PAGE].into());
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
        let mut taken = Partition::default();
        let mut state = 1_u64;
        for step in 0..20_000_u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let number = state >> 33;
            // Some keys are longer than a run.
            let mut key = (number % 700).to_le_bytes().to_vec();
            key.resize(if number.is_multiple_of(50) { 5000 } else { 8 }, 1);
            let hash = Store::hash(&key);
            let known = store.find(&key, hash).unwrap();
            assert_eq!(known.is_some(), expected.contains_key(&key));
            if number.is_multiple_of(3)
                && let Some(slot) = known
            {
                store.take(slot, &mut taken, &mut Spare::default()).unwrap();
                store.remove(slot);
                expected.remove(&key);
                continue;
            }
            let slot = known.unwrap_or_else(|| store.add(&key, hash));
            let took = store.bytes_of(slot);
            assert_eq!(store.take(slot, &mut taken, &mut Spare::default()), Ok(took));
            assert_eq!(taken, expected.get(&key).cloned().unwrap_or_default());
            // Few rows are packed, many are not.
            let after = partition([0, 1, 2, 5, 100][number as usize % 5], step);
            let bytes = store.put(slot, &mut after.clone());
            assert_eq!(bytes, store.bytes_of(slot));
            expected.insert(key, after);
        }
        assert_eq!((store.len(), store.all().len()), (expected.len(), expected.len()));
        let taken_by_all: usize = store.all().into_iter().map(|slot| store.bytes_of(slot)).sum();
        assert_eq!(store.in_runs + store.in_large, taken_by_all);
        for (key, partition) in expected {
            let slot = store.find(&key, Store::hash(&key)).unwrap().unwrap();
            assert_eq!((store.key(slot), store.timer(slot)), (key.as_slice(), NEVER));
            store.take(slot, &mut taken, &mut Spare::default()).unwrap();
            assert_eq!(taken, partition);
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
