//! Columns of three-valued truths.

use arrow::array::{Array, BooleanArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};

/// One truth a row, as two bit sets: where it is TRUE and where it is FALSE; UNKNOWN is neither. In this form NOT is a swap, and AND
/// and OR are one AND and one OR a word. Bits beyond the last row are zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truth {
    len: usize,
    yes: Vec<u64>,
    no: Vec<u64>,
}

impl Truth {
    /// One truth for all rows.
    #[must_use]
    pub fn all(len: usize, truth: Option<bool>) -> Self {
        let zero = vec![0; len.div_ceil(64)];
        match truth {
            None => Self { len, yes: zero.clone(), no: zero },
            Some(true) => Self { len, yes: ones(len), no: zero },
            Some(false) => Self { len, yes: zero, no: ones(len) },
        }
    }

    /// The truth that `f` gives for each row.
    #[must_use]
    pub fn collect(len: usize, mut f: impl FnMut(usize) -> Option<bool>) -> Self {
        let mut result = Self { len, yes: Vec::with_capacity(len.div_ceil(64)), no: Vec::with_capacity(len.div_ceil(64)) };
        for start in (0..len).step_by(64) {
            let (mut yes, mut no) = (0_u64, 0_u64);
            for bit in 0..64.min(len - start) {
                let truth = f(start + bit);
                yes |= u64::from(truth == Some(true)) << bit;
                no |= u64::from(truth == Some(false)) << bit;
            }
            result.yes.push(yes);
            result.no.push(no);
        }
        result
    }

    #[must_use]
    pub fn from_array(array: &BooleanArray) -> Self {
        Self::collect(array.len(), |row| (!array.is_null(row)).then(|| array.value(row)))
    }

    #[must_use]
    pub fn to_array(&self) -> BooleanArray {
        let values = BooleanBuffer::collect_bool(self.len, |row| bit(&self.yes, row));
        let known = BooleanBuffer::collect_bool(self.len, |row| bit(&self.yes, row) || bit(&self.no, row));
        BooleanArray::new(values, Some(NullBuffer::new(known)).filter(|nulls| nulls.null_count() > 0))
    }

    /// Bytes that it occupies.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.yes.len() * 16
    }

    #[must_use]
    pub fn get(&self, row: usize) -> Option<bool> {
        if bit(&self.yes, row) {
            Some(true)
        } else if bit(&self.no, row) {
            Some(false)
        } else {
            None
        }
    }

    #[must_use]
    pub fn not(&self) -> Self {
        Self { len: self.len, yes: self.no.clone(), no: self.yes.clone() }
    }

    pub fn and(&mut self, other: &Self) {
        self.yes.iter_mut().zip(&other.yes).for_each(|(a, b)| *a &= b);
        self.no.iter_mut().zip(&other.no).for_each(|(a, b)| *a |= b);
    }

    pub fn or(&mut self, other: &Self) {
        self.yes.iter_mut().zip(&other.yes).for_each(|(a, b)| *a |= b);
        self.no.iter_mut().zip(&other.no).for_each(|(a, b)| *a &= b);
    }

    /// How many rows are `truth`.
    #[must_use]
    pub fn count(&self, truth: bool) -> usize {
        self.set(truth).iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The rows that are not `truth`, ascending.
    #[must_use]
    pub fn rows_without(&self, truth: bool) -> Vec<u32> {
        (0..self.len as u32).filter(|row| !bit(self.set(truth), *row as usize)).collect()
    }

    /// Replaces the truths of `rows` by those of `other`, in order.
    pub fn scatter(&mut self, rows: &[u32], other: &Self) {
        for (from, to) in rows.iter().enumerate() {
            let to = *to as usize;
            let (word, mask) = (to / 64, 1_u64 << (to % 64));
            self.yes[word] &= !mask;
            self.no[word] &= !mask;
            match other.get(from) {
                Some(true) => self.yes[word] |= mask,
                Some(false) => self.no[word] |= mask,
                None => {}
            }
        }
    }

    fn set(&self, truth: bool) -> &[u64] {
        if truth { &self.yes } else { &self.no }
    }
}

fn bit(words: &[u64], row: usize) -> bool {
    words[row / 64] >> (row % 64) & 1 == 1
}

fn ones(len: usize) -> Vec<u64> {
    let mut words = vec![u64::MAX; len.div_ceil(64)];
    if let Some(last) = words.last_mut().filter(|_| !len.is_multiple_of(64)) {
        *last = (1 << (len % 64)) - 1;
    }
    words
}
