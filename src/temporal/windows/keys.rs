//! Keys to slots, and texts to numbers.

use foldhash::fast::FixedState;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Keys of `width` words, each with a slot: a table of slots by open addressing, at most three quarters full.
#[derive(Clone, Debug)]
pub struct Keys {
    width: usize,
    /// Of all slots, one after the other.
    words: Vec<u64>,
    /// The upper half of the hash, and the slot + 1; 0 where there is none. The upper half tells nearly all other keys apart, which lie elsewhere in memory. A power of two long.
    table: Vec<u64>,
    free: Vec<u32>,
    living: usize,
}

impl Keys {
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self { width, words: Vec::new(), table: vec![0; 16], free: Vec::new(), living: 0 }
    }

    /// Keys with slots among the first `slots`; `None`: a slot or a key is there twice.
    #[must_use]
    pub fn at_slots<'a>(width: usize, slots: usize, keys: impl Iterator<Item = (u32, &'a [u64])>) -> Option<Self> {
        let mut all = Self { words: vec![0; slots * width], ..Self::new(width) };
        let mut used = vec![false; slots];
        for (slot, key) in keys {
            all.words[slot as usize * width..][..width].copy_from_slice(key);
            if std::mem::replace(&mut used[slot as usize], true) {
                return None;
            }
            all.living += 1;
        }
        let of = |living: bool| (0..).zip(&used).filter(move |(_, used)| **used == living).map(|(slot, _)| slot);
        all.free = of(false).collect();
        let mut length = 16;
        while all.living * 4 > length * 3 {
            length *= 2;
        }
        let entries: Vec<u64> = of(true).map(|slot| entry(Self::hash(all.key(slot)), slot)).collect();
        all.fill(length, entries.into_iter());
        let found = |slot: u32| all.find(all.key(slot), Self::hash(all.key(slot)));
        of(true).all(|slot| found(slot) == Ok(slot)).then_some(all)
    }

    #[must_use]
    pub fn hash(key: &[u64]) -> u64 {
        FixedState::default().hash_one(key)
    }

    #[must_use]
    pub fn key(&self, slot: u32) -> &[u64] {
        &self.words[slot as usize * self.width..][..self.width]
    }

    /// Slots that were ever given out.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.words.len() / self.width
    }

    #[must_use]
    pub const fn living(&self) -> usize {
        self.living
    }

    /// Has memory brought near that a look for a key of this hash will read first; the result means nothing.
    #[must_use]
    pub fn fetch(&self, hash: u64) -> u64 {
        self.table[self.home(hash)]
    }

    /// The same of the key itself.
    #[must_use]
    pub fn fetch_key(&self, hash: u64) -> u64 {
        let slot = self.probe(hash, |_| true);
        slot.map_or(0, |slot| self.words[slot as usize * self.width])
    }

    /// Where a look for a hash begins: by its upper half, which the table has.
    const fn home(&self, hash: u64) -> usize {
        (hash >> 32) as usize & (self.table.len() - 1)
    }

    /// The first slot with this upper half of a hash that `is` the one, or its place in the table.
    fn probe(&self, hash: u64, is: impl Fn(u32) -> bool) -> Result<u32, usize> {
        let mut at = self.home(hash);
        while let Some(slot) = (self.table[at] as u32).checked_sub(1) {
            if self.table[at] >> 32 == hash >> 32 && is(slot) {
                return Ok(slot);
            }
            at = (at + 1) & (self.table.len() - 1);
        }
        Err(at)
    }

    /// The slot of a key, or its place in the table.
    fn find(&self, key: &[u64], hash: u64) -> Result<u32, usize> {
        self.probe(hash, |slot| self.key(slot) == key)
    }

    /// The slot of a key, and whether it is new.
    pub fn find_or_add(&mut self, key: &[u64], hash: u64) -> (u32, bool) {
        let at = match self.find(key, hash) {
            Ok(slot) => return (slot, false),
            Err(at) => at,
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.words[slot as usize * self.width..][..self.width].copy_from_slice(key);
                slot
            }
            None => {
                let slot = u32::try_from(self.slots()).expect("fewer keys than 32 bits number");
                super::make_room(&mut self.words, self.width);
                self.words.extend_from_slice(key);
                slot
            }
        };
        self.table[at] = entry(hash, slot);
        self.living += 1;
        if self.living * 4 > self.table.len() * 3 {
            let old = std::mem::take(&mut self.table);
            self.fill(old.len() * 2, old.into_iter().filter(|entry| *entry != 0));
        }
        (slot, true)
    }

    /// Forgets the keys of these slots, which are alive.
    pub fn remove(&mut self, slots: &[u32]) {
        let mut gone = vec![false; self.slots()];
        slots.iter().for_each(|slot| gone[*slot as usize] = true);
        self.living -= slots.len();
        self.free.extend_from_slice(slots);
        let old = std::mem::take(&mut self.table);
        let mut length = old.len();
        while length > 16 && self.living * 4 < length {
            length /= 2;
        }
        let stays = |entry: &u64| (*entry as u32).checked_sub(1).is_some_and(|slot| !gone[slot as usize]);
        self.fill(length, old.into_iter().filter(stays));
    }

    fn fill(&mut self, length: usize, entries: impl Iterator<Item = u64>) {
        self.table = vec![0; length];
        for entry in entries {
            let mut at = self.home(entry);
            while self.table[at] != 0 {
                at = (at + 1) & (length - 1);
            }
            self.table[at] = entry;
        }
    }

    /// Bytes that are taken.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.words.capacity() * 8 + self.table.capacity() * 8 + self.free.capacity() * 4
    }
}

/// What a table has of a key.
const fn entry(hash: u64, slot: u32) -> u64 {
    hash >> 32 << 32 | (slot as u64 + 1)
}

/// Texts, each once, as long as somebody refers to them.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    numbers: HashMap<Arc<str>, u32, FixedState>,
    texts: Vec<Arc<str>>,
    references: Vec<u32>,
    free: Vec<u32>,
    /// Bytes of all texts.
    length: usize,
}

impl Texts {
    /// The number of a text, with one more reference to it.
    pub fn refer(&mut self, text: &str) -> u32 {
        if let Some(&number) = self.numbers.get(text) {
            self.references[number as usize] += 1;
            return number;
        }
        let shared: Arc<str> = text.into();
        self.length += text.len();
        let number = match self.free.pop() {
            Some(number) => {
                self.texts[number as usize] = Arc::clone(&shared);
                self.references[number as usize] = 1;
                number
            }
            None => {
                self.texts.push(Arc::clone(&shared));
                self.references.push(1);
                self.texts.len() as u32 - 1
            }
        };
        self.numbers.insert(shared, number);
        number
    }

    pub fn refer_again(&mut self, number: u32) {
        self.references[number as usize] += 1;
    }

    pub fn release(&mut self, number: u32) {
        let references = &mut self.references[number as usize];
        *references -= 1;
        if *references == 0 {
            self.length -= self.texts[number as usize].len();
            self.numbers.remove(&self.texts[number as usize]);
            self.texts[number as usize] = "".into();
            self.free.push(number);
        }
    }

    #[must_use]
    pub fn text(&self, number: u32) -> &str {
        &self.texts[number as usize]
    }

    /// Bytes that are taken, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        // Each has a head and what finds it by its number, and there is the table of numbers.
        self.length + self.texts.len() * (16 + size_of::<Arc<str>>() + 8) + self.numbers.capacity() * (size_of::<(Arc<str>, u32)>() + 1)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.numbers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_slots_until_they_are_removed() {
        let mut keys = Keys::new(2);
        let add = |keys: &mut Keys, key: u64| keys.find_or_add(&[key, key / 3], Keys::hash(&[key, key / 3]));
        let slots: Vec<u32> = (0..1000).map(|key| add(&mut keys, key).0).collect();
        assert!((0..1000).all(|key| add(&mut keys, key) == (slots[key as usize], false)));
        let odd: Vec<u32> = (0..1000).filter(|key| key % 2 == 1).map(|key| slots[key]).collect();
        keys.remove(&odd);
        assert_eq!(keys.living(), 500);
        assert!((0..1000).step_by(2).all(|key| add(&mut keys, key) == (slots[key as usize], false)));
        assert!((1..1000).step_by(2).all(|key| add(&mut keys, key).1));
        assert_eq!((keys.living(), keys.slots()), (1000, 1000), "slots are used again");
    }

    #[test]
    fn texts_go_with_their_last_reference() {
        let mut texts = Texts::default();
        let (a, b) = (texts.refer("a"), texts.refer("b"));
        assert_eq!(texts.refer("a"), a);
        texts.release(a);
        assert_eq!(texts.text(a), "a");
        texts.release(a);
        assert_eq!((texts.count(), texts.refer("c")), (1, a));
        assert_eq!((texts.text(a), texts.text(b)), ("c", "b"));
    }
}
