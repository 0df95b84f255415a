//! Interval algebra over the keys of one column: the sets of values for which a predicate holds.

use crate::event::key::Key;
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

/// A place on the line of keys: at a key, just before it, or just after it.
///
/// Ordered by key, then before < at < after. "After `a`" and "before `b`" are different places even where nothing lies between; all that the algebra
/// needs is that no place is ever on the wrong side.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub key: Key,
    pub side: Side,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Before,
    At,
    After,
}

impl Place {
    #[must_use]
    pub const fn at(key: Key) -> Self {
        Self { key, side: Side::At }
    }

    #[must_use]
    pub const fn before(key: Key) -> Self {
        Self { key, side: Side::Before }
    }

    #[must_use]
    pub const fn after(key: Key) -> Self {
        Self { key, side: Side::After }
    }

    /// The last place below this one. Only asked of places that bound an interval from below: at or after a key.
    fn previous(&self) -> Self {
        match self.side {
            Side::After => Self::at(self.key.clone()),
            Side::At | Side::Before => Self::before(self.key.clone()),
        }
    }

    /// The first place above this one. Only asked of places that bound an interval from above: at or before a key.
    fn next(&self) -> Self {
        match self.side {
            Side::Before => Self::at(self.key.clone()),
            Side::At | Side::After => Self::after(self.key.clone()),
        }
    }
}

/// All places from `low` to `high`, both included; `None` is unbounded. Lower bounds are at or after a key, upper bounds at or before one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    pub low: Option<Place>,
    pub high: Option<Place>,
}

impl Hash for Interval {
    /// The sides in one word, and the keys: intervals are hashed by the million.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let side = |place: &Option<Place>| place.as_ref().map_or(3, |place| place.side as u8);
        state.write_u8(side(&self.low) << 2 | side(&self.high));
        [&self.low, &self.high].into_iter().flatten().for_each(|place| place.key.hash(state));
    }
}

impl Interval {
    #[must_use]
    pub fn point(key: Key) -> Self {
        Self { low: Some(Place::at(key.clone())), high: Some(Place::at(key)) }
    }

    fn is_empty(&self) -> bool {
        matches!((&self.low, &self.high), (Some(low), Some(high)) if low > high)
    }
}

fn compare_low(a: Option<&Place>, b: Option<&Place>) -> Ordering {
    // No lower bound comes first: `None < Some`.
    a.cmp(&b)
}

fn compare_high(a: Option<&Place>, b: Option<&Place>) -> Ordering {
    match (a, b) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(a), Some(b)) => a.cmp(b),
    }
}

/// Intervals one after the other. Nearly all sets have one, which is held without an allocation.
#[derive(Clone, Debug, Default)]
pub enum Intervals {
    #[default]
    None,
    One(Interval),
    Many(Vec<Interval>),
}

impl Intervals {
    pub fn push(&mut self, interval: Interval) {
        match self {
            Self::None => *self = Self::One(interval),
            Self::One(_) => {
                let mut all = std::mem::take(self).into_vec();
                all.push(interval);
                *self = Self::Many(all);
            }
            Self::Many(all) => all.push(interval),
        }
    }

    /// Adds an interval that does not start before the last one: becomes part of that where they overlap or touch, and is dropped if it is empty.
    pub fn append(&mut self, interval: Interval) {
        if interval.is_empty() {
            return;
        }
        let last = match self {
            Self::None => None,
            Self::One(only) => Some(only),
            Self::Many(all) => all.last_mut(),
        };
        match last {
            Some(last) if touches(last, &interval) => {
                if compare_high(interval.high.as_ref(), last.high.as_ref()) == Ordering::Greater {
                    last.high = interval.high;
                }
            }
            _ => self.push(interval),
        }
    }

    fn into_vec(self) -> Vec<Interval> {
        match self {
            Self::None => Vec::new(),
            Self::One(only) => vec![only],
            Self::Many(all) => all,
        }
    }
}

impl Deref for Intervals {
    type Target = [Interval];

    fn deref(&self) -> &[Interval] {
        match self {
            Self::None => &[],
            Self::One(only) => std::slice::from_ref(only),
            Self::Many(all) => all,
        }
    }
}

impl From<Vec<Interval>> for Intervals {
    fn from(mut all: Vec<Interval>) -> Self {
        if all.len() > 1 {
            return Self::Many(all);
        }
        all.pop().map_or(Self::None, Self::One)
    }
}

impl Extend<Interval> for Intervals {
    fn extend<I: IntoIterator<Item = Interval>>(&mut self, intervals: I) {
        intervals.into_iter().for_each(|interval| self.push(interval));
    }
}

impl FromIterator<Interval> for Intervals {
    fn from_iter<I: IntoIterator<Item = Interval>>(intervals: I) -> Self {
        let mut all = Self::None;
        all.extend(intervals);
        all
    }
}

impl IntoIterator for Intervals {
    type Item = Interval;
    type IntoIter = std::iter::Chain<std::option::IntoIter<Interval>, std::vec::IntoIter<Interval>>;

    fn into_iter(self) -> Self::IntoIter {
        let (one, many) = match self {
            Self::None => (None, Vec::new()),
            Self::One(only) => (Some(only), Vec::new()),
            Self::Many(all) => (None, all),
        };
        one.into_iter().chain(many)
    }
}

impl PartialEq for Intervals {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Intervals {}

impl Hash for Intervals {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

/// The values of a column for which a predicate holds: whether NULL is one, and intervals, ascending, disjoint and not touching.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Set {
    pub null: bool,
    pub intervals: Intervals,
}

impl Set {
    /// No value.
    #[must_use]
    pub const fn empty() -> Self {
        Self { null: false, intervals: Intervals::None }
    }

    /// Every value but NULL.
    #[must_use]
    pub const fn values() -> Self {
        Self { null: false, intervals: Intervals::One(Interval { low: None, high: None }) }
    }

    /// NULL alone.
    #[must_use]
    pub const fn null() -> Self {
        Self { null: true, intervals: Intervals::None }
    }

    /// The set of these intervals, in any order, overlapping or empty ones allowed.
    #[must_use]
    pub fn of(intervals: impl Into<Intervals>) -> Self {
        let mut set = Self { null: false, intervals: intervals.into() };
        set.normalise();
        set
    }

    fn normalise(&mut self) {
        let in_order =
            |pair: &[Interval]| compare_low(pair[0].low.as_ref(), pair[1].low.as_ref()) == Ordering::Less && !touches(&pair[0], &pair[1]);
        if !self.intervals.iter().any(Interval::is_empty) && self.intervals.windows(2).all(in_order) {
            return;
        }
        let mut intervals = std::mem::take(&mut self.intervals).into_vec();
        intervals.sort_by(|a, b| compare_low(a.low.as_ref(), b.low.as_ref()));
        intervals.into_iter().for_each(|interval| self.intervals.append(interval));
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.null && self.intervals.is_empty()
    }

    /// Whether every value, NULL included, is in.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.null && matches!(*self.intervals, [Interval { low: None, high: None }])
    }

    #[must_use]
    pub fn union(mut self, other: Self) -> Self {
        self.null |= other.null;
        self.intervals.extend(other.intervals);
        self.normalise();
        self
    }

    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut intervals = Intervals::None;
        let (mut left, mut right) = (0, 0);
        while let (Some(a), Some(b)) = (self.intervals.get(left), other.intervals.get(right)) {
            let low = if compare_low(a.low.as_ref(), b.low.as_ref()) == Ordering::Less { &b.low } else { &a.low };
            let a_ends_first = compare_high(a.high.as_ref(), b.high.as_ref()) == Ordering::Less;
            let high = if a_ends_first { &a.high } else { &b.high };
            let common = Interval { low: low.clone(), high: high.clone() };
            if !common.is_empty() {
                intervals.push(common);
            }
            if a_ends_first {
                left += 1;
            } else {
                right += 1;
            }
        }
        Self { null: self.null && other.null, intervals }
    }

    /// Every value, NULL included, that is not in.
    #[must_use]
    pub fn complement(&self) -> Self {
        let mut intervals = Intervals::None;
        let mut low: Option<Option<Place>> = Some(None);
        for interval in self.intervals.iter() {
            if let (Some(from), Some(start)) = (&low, &interval.low) {
                let gap = Interval { low: from.clone(), high: Some(start.previous()) };
                if !gap.is_empty() {
                    intervals.push(gap);
                }
            }
            low = interval.high.as_ref().map(|end| Some(end.next()));
        }
        if let Some(low) = low {
            intervals.push(Interval { low, high: None });
        }
        Self { null: !self.null, intervals }
    }

    #[must_use]
    pub fn is_subset_of(&self, other: &Self) -> bool {
        if self.null && !other.null {
            return false;
        }
        let mut at = 0;
        self.intervals.iter().all(|interval| {
            while other.intervals.get(at).is_some_and(|o| compare_high(o.high.as_ref(), interval.high.as_ref()) == Ordering::Less) {
                at += 1;
            }
            other.intervals.get(at).is_some_and(|o| compare_low(o.low.as_ref(), interval.low.as_ref()) != Ordering::Greater)
        })
    }
}

/// Whether `b`, which does not start before `a`, overlaps `a` or starts right after it.
fn touches(a: &Interval, b: &Interval) -> bool {
    match (&a.high, &b.low) {
        (None, _) | (_, None) => true,
        (Some(high), Some(low)) => *low <= high.next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The places on a line of four keys, as a bit mask: before, at and after each (9 places for keys 1, 3, 5 and gaps), plus NULL.
    fn mask(set: &Set) -> u32 {
        let mut mask = u32::from(set.null) << 31;
        // Values 0..=6 over thresholds 1, 3, 5: even values lie in the gaps.
        for value in 0..=6_u64 {
            let inside = set.intervals.iter().any(|interval| {
                interval.low.as_ref().is_none_or(|low| *low <= Place::at(Key::Narrow(value)))
                    && interval.high.as_ref().is_none_or(|high| *high >= Place::at(Key::Narrow(value)))
            });
            mask |= u32::from(inside) << value;
        }
        mask
    }

    fn some_sets() -> Vec<Set> {
        let key = |k| Key::Narrow(k);
        let mut lows = vec![None];
        let mut highs = vec![None];
        for k in [1, 3, 5] {
            lows.extend([Some(Place::at(key(k))), Some(Place::after(key(k)))]);
            highs.extend([Some(Place::at(key(k))), Some(Place::before(key(k)))]);
        }
        let mut singles = vec![Set::empty(), Set::null(), Set::values()];
        for low in &lows {
            for high in &highs {
                singles.push(Set::of(vec![Interval { low: low.clone(), high: high.clone() }]));
            }
        }
        let mut sets = singles.clone();
        for a in &singles {
            for b in &singles {
                sets.push(a.clone().union(b.clone()));
            }
        }
        sets
    }

    #[test]
    fn the_algebra_agrees_with_bit_masks() {
        const ALL: u32 = 1 << 31 | 0x7f;
        let sets = some_sets();
        for a in &sets {
            assert_eq!(mask(&a.complement()), !mask(a) & ALL, "complement of {a:?}");
            assert_eq!(a.complement().complement(), *a);
            for b in sets.iter().step_by(7) {
                assert_eq!(mask(&a.clone().union(b.clone())), mask(a) | mask(b), "{a:?} or {b:?}");
                assert_eq!(mask(&a.intersection(b)), mask(a) & mask(b), "{a:?} and {b:?}");
                if a.is_subset_of(b) {
                    assert_eq!(mask(a) & !mask(b), 0, "{a:?} within {b:?}");
                }
            }
            assert!(a.is_subset_of(a) && Set::empty().is_subset_of(a) && a.is_subset_of(&a.clone().union(a.complement())));
        }
    }
}
