//! The rows of a partition, side by side: what is held of a row is a piece of a few runs of memory, which are used again when rows go.

use super::packed::{self, Reader};
use crate::event::Value;
use serde::{Deserialize, Serialize};

/// A row as patterns see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its number over all inputs.
    pub number: u64,
    /// Its event time, in ticks of the field that rows are ordered by; `None`: that is no time.
    pub time: Option<i64>,
    /// The numbers of the [`conditions`](super::conditions) that hold for it, ascending.
    pub holds: Box<[u32]>,
    /// The fields that patterns need.
    pub values: Box<[Value]>,
}

/// The same, of a row that is held.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeldRow<'r> {
    pub number: u64,
    pub time: Option<i64>,
    pub holds: &'r [u32],
    pub values: &'r [Value],
}

impl HeldRow<'_> {
    /// Whether a condition holds for it.
    #[must_use]
    pub fn holds(&self, condition: u32) -> bool {
        self.holds.binary_search(&condition).is_ok()
    }

    fn to_row(self) -> Row {
        Row { number: self.number, time: self.time, holds: self.holds.into(), values: self.values.into() }
    }
}

/// What is said of a row, and where its pieces end.
#[derive(Clone, Copy, Debug)]
struct Head {
    number: u64,
    time: Option<i64>,
    holds_end: u32,
    values_end: u32,
}

/// The rows of a partition that are still held, numbered from its beginning.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "PlainRows", into = "PlainRows")]
pub struct Rows {
    first: u64,
    /// Rows at the beginning that were let go, and are still there.
    gone: usize,
    heads: Vec<Head>,
    holds: Vec<u32>,
    values: Vec<Value>,
    /// Bytes of texts of those held.
    text_bytes: usize,
}

/// How rows are written out.
#[derive(Serialize, Deserialize)]
struct PlainRows {
    first: u64,
    rows: Vec<Row>,
}

impl From<PlainRows> for Rows {
    fn from(plain: PlainRows) -> Self {
        let mut rows = Self { first: plain.first, ..Self::default() };
        plain.rows.into_iter().for_each(|row| rows.push_row(row));
        rows
    }
}

impl From<Rows> for PlainRows {
    fn from(rows: Rows) -> Self {
        Self { first: rows.first, rows: rows.iter().map(HeldRow::to_row).collect() }
    }
}

impl PartialEq for Rows {
    fn eq(&self, other: &Self) -> bool {
        self.first == other.first && self.iter().eq(other.iter())
    }
}

/// Bytes of a text, which counts once for each row that has it.
fn text_bytes(values: &[Value]) -> usize {
    values.iter().map(|value| if let Value::Text(text) = value { text.len() + 16 } else { 0 }).sum()
}

impl Rows {
    #[must_use]
    pub fn get(&self, at: u64) -> Option<HeldRow<'_>> {
        let place = self.gone + usize::try_from(at.checked_sub(self.first)?).ok()?;
        (place < self.heads.len()).then(|| self.at(place))
    }

    fn at(&self, place: usize) -> HeldRow<'_> {
        let Head { number, time, holds_end, values_end } = self.heads[place];
        let (holds, values) = self.ends_before(place);
        HeldRow { number, time, holds: &self.holds[holds..holds_end as usize], values: &self.values[values..values_end as usize] }
    }

    /// Where the pieces of a row begin.
    fn ends_before(&self, place: usize) -> (usize, usize) {
        place.checked_sub(1).map_or((0, 0), |before| (self.heads[before].holds_end as usize, self.heads[before].values_end as usize))
    }

    fn iter(&self) -> impl Iterator<Item = HeldRow<'_>> {
        (self.gone..self.heads.len()).map(|place| self.at(place))
    }

    /// The first that is held; where none is, the next to come.
    #[must_use]
    pub const fn first(&self) -> u64 {
        self.first
    }

    /// One after the last.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first + self.held() as u64
    }

    /// Adds a row, whose parts are those of a [`Row`].
    pub fn push(&mut self, number: u64, time: Option<i64>, holds: impl Iterator<Item = u32>, values: impl Iterator<Item = Value>) {
        let from = self.values.len();
        self.holds.extend(holds);
        self.values.extend(values);
        self.text_bytes += text_bytes(&self.values[from..]);
        self.end_row(number, time);
    }

    fn end_row(&mut self, number: u64, time: Option<i64>) {
        self.heads.push(Head { number, time, holds_end: self.holds.len() as u32, values_end: self.values.len() as u32 });
    }

    pub fn push_row(&mut self, row: Row) {
        self.push(row.number, row.time, row.holds.iter().copied(), row.values.into_iter());
    }

    /// Lets go of the rows before `at`.
    pub fn forget_before(&mut self, at: u64) {
        let going = usize::try_from(at.saturating_sub(self.first)).unwrap_or(usize::MAX).min(self.held());
        if going == 0 {
            return;
        }
        let until = self.gone + going;
        let ((_, from), (_, to)) = (self.ends_before(self.gone), self.ends_before(until));
        self.text_bytes -= text_bytes(&self.values[from..to]);
        self.first += going as u64;
        self.gone = until;
        // Moving the others costs as much as letting these go.
        if self.gone * 2 >= self.heads.len() {
            let (holds, values) = self.ends_before(self.gone);
            self.heads.drain(..self.gone);
            self.holds.drain(..holds);
            self.values.drain(..values);
            for head in &mut self.heads {
                head.holds_end -= holds as u32;
                head.values_end -= values as u32;
            }
            self.gone = 0;
        }
    }

    /// Forgets all, and that there were any.
    pub fn clear(&mut self) {
        (self.first, self.gone, self.text_bytes) = (0, 0, 0);
        self.heads.clear();
        self.holds.clear();
        self.values.clear();
    }

    /// Changes all rows.
    pub fn change(&mut self, mut change: impl FnMut(&mut Row)) {
        let mut plain = PlainRows::from(std::mem::take(self));
        plain.rows.iter_mut().for_each(&mut change);
        *self = plain.into();
    }

    /// How many are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.heads.len() - self.gone
    }

    /// Bytes that they take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let (holds, values) = self.ends_before(self.gone);
        let holds = (self.holds.len() - holds) * size_of::<u32>();
        self.held() * size_of::<Head>() + holds + (self.values.len() - values) * size_of::<Value>() + self.text_bytes
    }

    /// Adds its bytes: those of its serialization.
    pub fn pack(&self, out: &mut Vec<u8>) {
        packed::number(out, self.first);
        packed::number(out, self.held() as u64);
        for row in self.iter() {
            packed::number(out, row.number);
            packed::time(out, row.time);
            packed::number(out, row.holds.len() as u64);
            row.holds.iter().for_each(|condition| packed::number(out, u64::from(*condition)));
            packed::number(out, row.values.len() as u64);
            row.values.iter().for_each(|value| packed::value(out, value));
        }
    }

    /// Becomes what was packed; `None`: nothing was, and it is anything.
    pub fn unpack(&mut self, from: &mut Reader) -> Option<()> {
        self.clear();
        self.first = from.number()?;
        for _ in 0..from.number()? {
            let (number, time) = (from.number()?, from.time()?);
            for _ in 0..from.number()? {
                self.holds.push(from.small()?);
            }
            let start = self.values.len();
            for _ in 0..from.number()? {
                self.values.push(from.value()?);
            }
            self.text_bytes += text_bytes(&self.values[start..]);
            self.end_row(number, time);
        }
        Some(())
    }

    /// Whether rows can be numbered on from here: more than ever come.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.first < 1 << 62
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: u64) -> Row {
        let values = (0..number % 4).map(|at| if at == 1 { Value::Text("ab".into()) } else { Value::Int(number.cast_signed()) });
        Row { number, time: (!number.is_multiple_of(5)).then_some(-7), holds: (0..number as u32 % 3).collect(), values: values.collect() }
    }

    #[test]
    fn rows_are_held_until_they_are_let_go() {
        let (mut rows, mut expected, mut first) = (Rows::default(), Vec::new(), 0_usize);
        for number in 0..2000_u64 {
            rows.push_row(row(number));
            expected.push(row(number));
            if number % 7 == 0 {
                first = (first + (number * 31 % 17) as usize).min(expected.len());
                rows.forget_before(first as u64);
            }
            assert_eq!((rows.end(), rows.held()), (number + 1, expected.len() - first));
            for at in first.saturating_sub(3)..expected.len() + 2 {
                let held = expected.get(at).filter(|_| at >= first);
                assert_eq!(rows.get(at as u64).map(HeldRow::to_row), held.cloned(), "row {at} of {number}");
            }
            let fresh: Rows = PlainRows { first: first as u64, rows: expected[first..].to_vec() }.into();
            assert_eq!((&rows, rows.bytes()), (&fresh, fresh.bytes()));
        }
    }
}
