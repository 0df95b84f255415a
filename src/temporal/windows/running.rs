//! What is made of the rows of a frame: afresh where they are few, and kept running where they are many.
//!
//! What is small and made for each row of each frame is inlined always: handed over through memory, it would be waited for longer than it takes to make.

use super::exact::{Moments, Number, Total, sum_of_floats, sum_of_units};
use super::keys::Texts;
use super::words::{self, Words};
use crate::event::Type;
use crate::expr::scalar::decimal;
use crate::window::Function;
use foldhash::fast::FixedState;
use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;

/// Rows that are all looked at where one is searched for.
const FEW: usize = 16;

/// Where a measure, an argument with a filter, lies in a row.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub ty: Type,
    /// The number of its flags: whether the row passes the filter, and whether it has a value then.
    pub flags: usize,
    /// The first word of its value; `None` where only the flags are held.
    pub value: Option<usize>,
    /// Whether every row counts: there is neither an argument nor a filter.
    pub always: bool,
}

/// The rows of a key in order, each of `width` words: its time, flags, values.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub words: &'a [u64],
    pub width: usize,
    pub texts: &'a Texts,
}

impl Rows<'_> {
    #[must_use]
    pub const fn count(&self) -> usize {
        self.words.len() / self.width
    }

    #[must_use]
    pub const fn time(&self, row: usize) -> i64 {
        self.words[row * self.width].cast_signed()
    }

    /// The first row whose time does not satisfy `before`, which holds for the first ones only.
    #[must_use]
    pub fn first_not(&self, before: impl Fn(i64) -> bool) -> usize {
        if self.count() <= FEW {
            // Nobody could foretell which way a search among so few goes.
            return (0..self.count()).filter(|row| before(self.time(*row))).count();
        }
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = low.midpoint(high);
            if before(self.time(middle)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    const fn flag(&self, row: usize, flag: usize) -> bool {
        self.words[row * self.width + 1 + flag / 64] >> (flag % 64) & 1 == 1
    }

    fn passes(&self, row: usize, place: &Place) -> bool {
        self.flag(row, place.flags)
    }

    fn counts(&self, row: usize, place: &Place) -> bool {
        self.flag(row, place.flags + 1)
    }

    fn value(&self, row: usize, place: &Place) -> Words {
        let Some(at) = place.value else { return (0, 0) };
        let at = row * self.width + at;
        (self.words[at], if words::width(place.ty) == 2 { self.words[at + 1] } else { 0 })
    }

    #[inline(always)]
    fn number(&self, row: usize, place: &Place) -> Option<Number> {
        let value = self.value(row, place);
        match place.ty {
            Type::Float => Number::of_f64(f64::from_bits(value.0)),
            Type::Int => Some(Number::of_units(i128::from(value.0.cast_signed()))),
            Type::UInt => Some(Number::of_units(i128::from(value.0))),
            _ => Some(Number::of_units(words::units(value))),
        }
    }

    fn compare(&self, a: usize, b: usize, place: &Place) -> Ordering {
        words::compare(self.value(a, place), self.value(b, place), place.ty, self.texts)
    }

    fn double(&self, row: usize, place: &Place) -> f64 {
        let value = self.value(row, place);
        match place.ty {
            Type::Float => f64::from_bits(value.0),
            Type::Int => value.0.cast_signed() as f64,
            Type::UInt => value.0 as f64,
            Type::Decimal { scale } => decimal::nearest_double(words::units(value), scale),
            _ => f64::NAN,
        }
    }
}

/// What is kept of a frame. Several functions may be made of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Values, or rows that pass; with the sum where `sum` says so.
    Tally {
        sum: bool,
    },
    /// The smallest or the largest value, the first of equal ones.
    Extreme {
        largest: bool,
    },
    Distinct,
    Moments,
    /// The first or the last row that passes.
    Row {
        last: bool,
    },
}

impl Kind {
    #[must_use]
    pub const fn of(function: Function) -> Self {
        match function {
            Function::Count => Self::Tally { sum: false },
            Function::Sum | Function::Average => Self::Tally { sum: true },
            Function::CountDistinct => Self::Distinct,
            Function::Minimum => Self::Extreme { largest: false },
            Function::Maximum => Self::Extreme { largest: true },
            Function::Deviation => Self::Moments,
            Function::First => Self::Row { last: false },
            Function::Last => Self::Row { last: true },
        }
    }
}

/// A frame's content as it is kept from row to row.
#[derive(Clone, Debug)]
pub enum Running {
    Tally {
        count: u64,
        total: Total,
    },
    /// Rows with no better one behind them, in order: the first is the best.
    Extreme(VecDeque<u32>),
    /// How often each value is there.
    Distinct(HashMap<Words, u32, FixedState>),
    Moments(Moments),
    /// Looked up when it is asked for.
    Row,
}

/// What is known of a frame.
#[derive(Clone, Copy, Debug)]
pub enum Summary {
    Tally { count: u64, total: Total },
    Row(Option<usize>),
    Distinct(u64),
    Moments(Moments),
}

impl Running {
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        match kind {
            Kind::Tally { .. } => Self::Tally { count: 0, total: Total::default() },
            Kind::Extreme { .. } => Self::Extreme(VecDeque::new()),
            Kind::Distinct => Self::Distinct(HashMap::default()),
            Kind::Moments => Self::Moments(Moments::default()),
            Kind::Row { .. } => Self::Row,
        }
    }

    /// Bytes that it takes besides itself, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Extreme(best) => best.capacity() * 4,
            Self::Distinct(counts) => counts.capacity() * (size_of::<(Words, u32)>() + 1),
            _ => 0,
        }
    }

    /// Takes in a row that comes after all others of the frame.
    pub fn add(&mut self, rows: &Rows, kind: Kind, place: &Place, row: usize) {
        if !rows.counts(row, place) {
            return;
        }
        match self {
            Self::Tally { count, total } => {
                *count += 1;
                if kind == (Kind::Tally { sum: true }) {
                    total.add(rows.number(row, place));
                }
            }
            Self::Extreme(best) => {
                while best.back().is_some_and(|other| rows.compare(row, *other as usize, place) == wanted(kind)) {
                    best.pop_back();
                }
                best.push_back(row as u32);
            }
            Self::Distinct(counts) => *counts.entry(words::identity(rows.value(row, place), place.ty)).or_default() += 1,
            Self::Moments(moments) => moments.add(rows.number(row, place)),
            Self::Row => {}
        }
    }

    /// Takes in a row that comes before some others; [`Running::make_way`] came before.
    pub fn insert(&mut self, rows: &Rows, kind: Kind, place: &Place, row: usize) {
        let Self::Extreme(best) = self else { return self.add(rows, kind, place, row) };
        if !rows.counts(row, place) {
            return;
        }
        let at = best.partition_point(|other| (*other as usize) < row);
        if best.get(at).is_some_and(|later| rows.compare(*later as usize, row, place) == wanted(kind)) {
            return;
        }
        let mut from = at;
        while from > 0 && rows.compare(row, best[from - 1] as usize, place) == wanted(kind) {
            from -= 1;
        }
        best.drain(from..at);
        best.insert(from, row as u32);
    }

    /// Lets go of the oldest row.
    pub fn retract(&mut self, rows: &Rows, kind: Kind, place: &Place, row: usize) {
        if !rows.counts(row, place) {
            return;
        }
        match self {
            Self::Tally { count, total } => {
                *count -= 1;
                if *count == 0 {
                    *total = Total::default();
                } else if kind == (Kind::Tally { sum: true }) {
                    total.retract(rows.number(row, place));
                }
            }
            Self::Extreme(best) => {
                if best.front() == Some(&(row as u32)) {
                    best.pop_front();
                }
            }
            Self::Distinct(counts) => {
                let value = words::identity(rows.value(row, place), place.ty);
                if let Some(count) = counts.get_mut(&value) {
                    *count -= 1;
                    if *count == 0 {
                        counts.remove(&value);
                    }
                }
            }
            Self::Moments(moments) => moments.retract(rows.number(row, place)),
            Self::Row => {}
        }
    }

    /// Rows from `row` on have moved by one.
    pub fn make_way(&mut self, row: usize) {
        if let Self::Extreme(best) = self {
            best.iter_mut().rev().take_while(|other| **other as usize >= row).for_each(|other| *other += 1);
        }
    }

    /// The first `rows` rows, which are not in the frame, were dropped.
    pub fn shift(&mut self, rows: usize) {
        if let Self::Extreme(best) = self {
            best.iter_mut().for_each(|other| *other -= rows as u32);
        }
    }

    /// What is known of the frame, which is `range` of the rows.
    pub fn summary(&mut self, rows: &Rows, kind: Kind, place: &Place, range: Range<usize>) -> Summary {
        // What has lost its exactness may have it again without the rows that left.
        if let Self::Tally { total: Total { wide: true, .. }, .. } | Self::Moments(Moments { wide: true, .. }) = self {
            *self = Self::fresh(rows, kind, place, range.clone());
        }
        match self {
            Self::Tally { count, total } => Summary::Tally { count: *count, total: *total },
            Self::Extreme(best) => Summary::Row(best.front().map(|row| *row as usize)),
            Self::Distinct(counts) => Summary::Distinct(counts.len() as u64),
            Self::Moments(moments) => Summary::Moments(*moments),
            Self::Row => summary(rows, kind, place, range),
        }
    }

    /// The content of a frame, made of its rows.
    #[must_use]
    pub fn fresh(rows: &Rows, kind: Kind, place: &Place, range: Range<usize>) -> Self {
        let mut running = Self::new(kind);
        range.for_each(|row| running.add(rows, kind, place, row));
        running
    }
}

/// How a row compares with one that it is better than.
const fn wanted(kind: Kind) -> Ordering {
    if matches!(kind, Kind::Extreme { largest: true }) { Ordering::Greater } else { Ordering::Less }
}

/// What is to be known of a frame, made of its rows.
#[inline(always)]
#[must_use]
pub fn summary(rows: &Rows, kind: Kind, place: &Place, mut range: Range<usize>) -> Summary {
    match kind {
        Kind::Tally { sum: false } if place.always => Summary::Tally { count: range.len() as u64, total: Total::default() },
        Kind::Tally { sum } => {
            let counting = range.filter(|row| rows.counts(*row, place));
            let count = counting.clone().count() as u64;
            let mut total = Total::default();
            if sum && place.ty == Type::Float {
                total = Total::of_floats(counting.map(|row| f64::from_bits(rows.value(row, place).0)));
            } else if sum {
                counting.for_each(|row| total.add(rows.number(row, place)));
            }
            Summary::Tally { count, total }
        }
        Kind::Extreme { .. } => {
            let counting = range.filter(|row| rows.counts(*row, place));
            Summary::Row(counting.reduce(|best, row| if rows.compare(row, best, place) == wanted(kind) { row } else { best }))
        }
        Kind::Distinct => {
            let counting = range.filter(|row| rows.counts(*row, place));
            let mut values: Vec<Words> = counting.map(|row| words::identity(rows.value(row, place), place.ty)).collect();
            values.sort_unstable();
            values.dedup();
            Summary::Distinct(values.len() as u64)
        }
        Kind::Moments => {
            let mut moments = Moments::default();
            range.filter(|row| rows.counts(*row, place)).for_each(|row| moments.add(rows.number(row, place)));
            Summary::Moments(moments)
        }
        Kind::Row { last: false } => Summary::Row(range.find(|row| rows.passes(*row, place))),
        Kind::Row { last: true } => Summary::Row(range.rfind(|row| rows.passes(*row, place))),
    }
}

/// The value of a function, of what is known of its frame.
#[inline(always)]
#[must_use]
pub fn value(function: Function, summary: &Summary, rows: &Rows, place: &Place, range: Range<usize>) -> Option<Words> {
    let counting = || range.clone().filter(|row| rows.counts(*row, place));
    let float = |value: f64| Some((value.to_bits(), 0));
    match summary {
        Summary::Distinct(count) => Some((*count, 0)),
        Summary::Row(row) => row.filter(|row| rows.counts(*row, place)).map(|row| rows.value(row, place)),
        Summary::Tally { count, .. } if function == Function::Count => Some((*count, 0)),
        Summary::Tally { count: 0, .. } => None,
        Summary::Tally { count, total } => match place.ty {
            Type::Float => {
                let sum = if total.wide { sum_of_floats(counting().map(|row| rows.double(row, place))) } else { total.nearest() };
                float(if function == Function::Average { sum / *count as f64 } else { sum })
            }
            ty => {
                let units = if total.wide {
                    sum_of_units(counting().filter_map(|row| rows.number(row, place)).map(|number| number.units))
                } else {
                    total.units()
                };
                let scale = if let Type::Decimal { scale } = ty { scale } else { 0 };
                if function == Function::Average {
                    let sum = units
                        .map_or_else(|| counting().map(|row| rows.double(row, place)).sum(), |units| decimal::nearest_double(units, scale));
                    return float(sum / *count as f64);
                }
                let units = units?;
                decimal::fit(units, scale, ty).map(|_| words::of_units(units))
            }
        },
        Summary::Moments(moments) => {
            let scale = if let Type::Decimal { scale } = place.ty { scale } else { 0 };
            if !moments.wide {
                return moments.deviation().and_then(|deviation| float(deviation / 10_f64.powi(i32::from(scale))));
            }
            let count = counting().count() as f64;
            if count < 2.0 {
                return None;
            }
            let mean = counting().map(|row| rows.double(row, place)).sum::<f64>() / count;
            let squares: f64 = counting().map(|row| (rows.double(row, place) - mean).powi(2)).sum();
            float((squares / (count - 1.0)).sqrt())
        }
    }
}
