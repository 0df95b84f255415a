//! Which rules of a part no longer count: a set of numbers that is cheap to copy and to change, however many numbers there may be.

use crate::id::RuleId;
use std::sync::Arc;

/// Words of a chunk: 32,768 rules, 4 KiB.
const CHUNK_WORDS: usize = 512;
const CHUNK_RULES: usize = CHUNK_WORDS * 64;

/// Rules that were removed or replaced. A copy shares all chunks; a change copies one.
#[derive(Clone, Debug, Default)]
pub struct Dead {
    /// Absent chunks are empty; so is what lies behind the last one.
    chunks: Vec<Option<Arc<[u64; CHUNK_WORDS]>>>,
    /// For each chunk, the words that are not 0: so little that it stays at hand, and mostly says all.
    words: Vec<[u64; CHUNK_WORDS / 64]>,
    count: usize,
}

impl Dead {
    #[inline]
    pub fn contains(&self, rule: RuleId) -> bool {
        let (chunk, within) = (rule.index() / CHUNK_RULES, rule.index() % CHUNK_RULES);
        let word = within / 64;
        if self.words.get(chunk).is_none_or(|words| words[word / 64] >> (word % 64) & 1 == 0) {
            return false;
        }
        matches!(self.chunks.get(chunk), Some(Some(words)) if words[within / 64] >> (within % 64) & 1 == 1)
    }

    pub fn insert(&mut self, rule: RuleId) {
        let (chunk, within) = (rule.index() / CHUNK_RULES, rule.index() % CHUNK_RULES);
        if self.chunks.len() <= chunk {
            self.chunks.resize(chunk + 1, None);
            self.words.resize(chunk + 1, Default::default());
        }
        self.words[chunk][within / 64 / 64] |= 1 << (within / 64 % 64);
        let words = Arc::make_mut(self.chunks[chunk].get_or_insert_with(|| Arc::new([0; CHUNK_WORDS])));
        let bit = 1 << (within % 64);
        self.count += usize::from(words[within / 64] & bit == 0);
        words[within / 64] |= bit;
    }

    pub const fn len(&self) -> usize {
        self.count
    }

    /// The rules that are in `self` and not in `before`, ascending. Chunks that both share are not looked at.
    pub fn since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = RuleId> + 'a {
        self.chunks.iter().enumerate().flat_map(move |(number, chunk)| {
            let earlier = before.chunks.get(number).and_then(Option::as_ref);
            let changed = chunk.as_ref().filter(|chunk| !earlier.is_some_and(|earlier| Arc::ptr_eq(chunk, earlier)));
            changed.into_iter().flat_map(move |words| {
                words.iter().enumerate().flat_map(move |(at, word)| {
                    let mut new = word & !earlier.map_or(0, |earlier| earlier[at]);
                    std::iter::from_fn(move || {
                        let bit = (new != 0).then(|| new.trailing_zeros() as usize)?;
                        new &= new - 1;
                        Some(RuleId::new(number * CHUNK_RULES + at * 64 + bit))
                    })
                })
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_keeps_what_it_had() {
        let numbers = [0, 63, 64, 32_767, 32_768, 1_000_000].map(RuleId);
        let mut dead = Dead::default();
        assert!(!dead.contains(RuleId(u32::MAX)));
        for (count, number) in numbers.into_iter().enumerate() {
            let before = dead.clone();
            dead.insert(number);
            dead.insert(number);
            assert_eq!((before.len(), dead.len()), (count, count + 1));
            assert!(dead.contains(number) && !before.contains(number));
            assert_eq!(dead.since(&before).collect::<Vec<_>>(), [number]);
            assert_eq!(before.since(&dead).next(), None);
        }
        assert_eq!(dead.since(&Dead::default()).collect::<Vec<_>>(), numbers);
        assert!(!dead.contains(RuleId(1)) && !dead.contains(RuleId(999_999)));
    }

    #[test]
    fn a_change_copies_one_chunk() {
        let mut dead = Dead::default();
        dead.insert(RuleId(1));
        dead.insert(RuleId(100_000));
        let before = dead.clone();
        dead.insert(RuleId(2));
        let shared = |chunk: usize| match (&dead.chunks[chunk], &before.chunks[chunk]) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        assert_eq!([0, 1, 2, 3].map(shared), [false, true, true, true]);
    }
}
