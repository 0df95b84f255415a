//! When partitions are to be looked at.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// A time that does not come.
pub const NEVER: i64 = i64::MAX;

/// Times, each with a slot, given back in order. What lies far ahead is put away in boxes by its time, and sorted when that comes near: of millions of
/// timers a few thousand are in order.
#[derive(Clone, Debug)]
pub struct Timers {
    /// Below `horizon`.
    near: BinaryHeap<Reverse<(i64, u32)>>,
    horizon: i64,
    far: BTreeMap<i64, Vec<(i64, u32)>>,
    /// How many are in boxes.
    boxed: usize,
    /// Ticks in a box, as a power of two.
    bits: u32,
    /// None is earlier.
    first: i64,
}

impl Timers {
    /// For timers that are mostly set so many ticks ahead.
    #[must_use]
    pub fn new(ahead: i64) -> Self {
        // A few hundred boxes.
        let bits = 63_u32.saturating_sub(ahead.max(1).leading_zeros()).saturating_sub(8);
        Self { near: BinaryHeap::new(), horizon: i64::MIN, far: BTreeMap::new(), boxed: 0, bits, first: NEVER }
    }

    pub fn push(&mut self, time: i64, slot: u32) {
        self.first = self.first.min(time);
        if time < self.horizon {
            self.near.push(Reverse((time, slot)));
        } else {
            self.far.entry(time >> self.bits).or_default().push((time, slot));
            self.boxed += 1;
        }
    }

    /// Whether there may be one whose time has come; if not, there is none.
    #[must_use]
    pub const fn may_be_due(&self, now: i64) -> bool {
        self.first <= now
    }

    /// The first, if its time has come.
    pub fn pop(&mut self, now: i64) -> Option<(i64, u32)> {
        loop {
            if let Some(&Reverse(first)) = self.near.peek() {
                self.first = first.0;
                if first.0 > now {
                    return None;
                }
                self.near.pop();
                return Some(first);
            }
            let Some(next) = self.far.first_entry() else {
                self.first = NEVER;
                return None;
            };
            self.first = *next.key() << self.bits;
            if *next.key() > now >> self.bits {
                return None;
            }
            self.horizon = (next.key() + 1).checked_mul(1 << self.bits).unwrap_or(NEVER);
            let due = next.remove();
            self.boxed -= due.len();
            self.near.extend(due.into_iter().map(Reverse));
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.near.len() + self.boxed
    }

    /// Bytes that they take, about: a box has room for some more.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.near.capacity() * size_of::<Reverse<(i64, u32)>>() + self.boxed * (size_of::<(i64, u32)>() * 3 / 2)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.near.is_empty() && self.far.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_go_off_in_order() {
        for ahead in [0, 1, 1000, i64::MAX] {
            let mut timers = Timers::new(ahead);
            let mut expected = Vec::new();
            let (mut now, mut state) = (-5000_i64, 7_u64);
            for _ in 0..5000 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let time = now + (state >> 40) as i64 % 3000;
                timers.push(time, (state >> 50) as u32);
                expected.push((time, (state >> 50) as u32));
                now += (state >> 60) as i64 % 4;
                let mut due: Vec<(i64, u32)> = expected.iter().copied().filter(|timer| timer.0 <= now).collect();
                due.sort_unstable();
                expected.retain(|timer| timer.0 > now);
                assert!(due.is_empty() || timers.may_be_due(now), "none is passed over");
                let found: Vec<(i64, u32)> = std::iter::from_fn(|| timers.pop(now)).collect();
                assert_eq!(found, due);
                assert_eq!(timers.len(), expected.len());
            }
            timers.push(NEVER - 1, 1);
            assert_eq!(std::iter::from_fn(|| timers.pop(NEVER)).count(), expected.len() + 1);
            assert!(timers.is_empty());
        }
    }
}
