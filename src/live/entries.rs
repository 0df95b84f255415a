//! Terms of newer rules as what is looked at first: a few ranges of buckets side by side, so that most rows are refused without a look at the terms themselves.

use super::codes::{Member, Term};
use crate::tables::layout::bucket;

/// Members of a term that an entry has at most.
const SLOTS: usize = 4;

/// Entries that the ranges of one member are spread over at most.
const ENTRIES_MAX: usize = 16;

/// A term, or what of it lies in some of the ranges of one member. Where an entry does not hold, the term does not.
#[derive(Clone, Copy)]
pub struct Entry {
    slots: [Slot; SLOTS],
    /// Whose it is: for whoever keeps entries to say.
    pub number: u32,
}

/// A range of buckets of a column.
#[derive(Clone, Copy)]
struct Slot {
    column: u16,
    low: u16,
    high: u16,
}

impl Slot {
    const ALWAYS: Self = Self { column: 0, low: 0, high: u16::MAX };

    /// Around some ranges of a member.
    fn around(member: &Member, ranges: &[[u32; 2]]) -> Self {
        let (Some([low, _]), Some([_, high])) = (ranges.first(), ranges.last()) else { return Self::ALWAYS };
        Self { column: member.column as u16, low: bucket(*low), high: bucket(*high) }
    }
}

impl Entry {
    /// The entries of a term, which share its member at `leading`, with the codes that each has there.
    pub fn each(term: &Term, number: u32, leading: usize, mut add: impl FnMut(Self, [u32; 2])) {
        let mut slots = [Slot::ALWAYS; SLOTS];
        let Some(first) = term.members.get(leading) else { return add(Self { slots, number }, [0, u32::MAX]) };
        let others = term.members.iter().enumerate().filter(|(at, _)| *at != leading);
        slots[1..].iter_mut().zip(others).for_each(|(slot, (_, member))| *slot = Slot::around(member, &member.ranges));
        for ranges in first.ranges.chunks(first.ranges.len().div_ceil(ENTRIES_MAX)) {
            slots[0] = Slot::around(first, ranges);
            add(Self { slots, number }, [ranges[0][0], ranges[ranges.len() - 1][1]]);
        }
    }

    /// Whether the term may hold for a row.
    pub fn admits(&self, codes: &[u32]) -> bool {
        self.slots.iter().all(|slot| {
            // Where there are no columns at all, no term asks for one.
            let bucket = codes.get(slot.column as usize).map_or(0, |code| bucket(*code));
            slot.low <= bucket && bucket <= slot.high
        })
    }
}
