//! The keys and rows of a group as they are at one moment, copied in [`steps`](crate::temporal::steps) while rows go on coming.
//!
//! What is kept of a frame from row to row is not copied: it is made again of the rows. Neither is the place of anything in memory, so what is written
//! depends on the rows alone.

use crate::temporal::steps::SLOTS;
use std::sync::Arc;

/// A key as it was, with its rows.
pub struct Held {
    pub key: Box<[u64]>,
    pub rows: Box<[u64]>,
    pub mark: Option<i64>,
}

/// Keys of neighbouring slots with their rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// Words of a key, and of a row.
    pub widths: (usize, usize),
    /// Slots, counted from the first of the chunk, ascending.
    pub slots: Vec<u32>,
    /// Rows of each; at least one.
    pub counts: Vec<u32>,
    /// One key after the other.
    pub keys: Vec<u64>,
    /// One row after the other.
    pub rows: Vec<u64>,
    /// What the texts among the words are numbers of.
    pub texts: Vec<Arc<str>>,
    /// Slots of keys that dropped rows to stay within a limit, ascending, and the time of the newest of these.
    pub marks: Vec<(u32, i64)>,
}

impl Chunk {
    /// Words that are copied.
    #[must_use]
    pub const fn words(&self) -> usize {
        self.keys.len() + self.rows.len()
    }

    /// As bytes: slots, counts, keys and rows word by word (all first words, all second ones …: such neighbours are alike, and pack well), texts,
    /// marks if there are any.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let rows = self.rows.len().checked_div(self.widths.1).unwrap_or(0);
        let mut bytes = Vec::with_capacity(self.words() * 8 + self.slots.len() * 8 + 12);
        for length in [self.slots.len(), rows, self.texts.len()] {
            bytes.extend((length as u32).to_le_bytes());
        }
        self.slots.iter().chain(&self.counts).for_each(|number| bytes.extend(number.to_le_bytes()));
        for (words, width) in [(&self.keys, self.widths.0), (&self.rows, self.widths.1)] {
            for at in 0..width {
                words.iter().skip(at).step_by(width).for_each(|word| bytes.extend(word.to_le_bytes()));
            }
        }
        self.texts.iter().for_each(|text| bytes.extend((text.len() as u32).to_le_bytes()));
        self.texts.iter().for_each(|text| bytes.extend(text.as_bytes()));
        if !self.marks.is_empty() {
            bytes.extend((self.marks.len() as u32).to_le_bytes());
            self.marks.iter().for_each(|(slot, _)| bytes.extend(slot.to_le_bytes()));
            self.marks.iter().for_each(|(_, time)| bytes.extend(time.to_le_bytes()));
        }
        bytes
    }

    /// What [`Chunk::encode`] made, of keys and rows so wide.
    ///
    /// # Errors
    /// Bytes that it cannot have made.
    pub fn decode(bytes: &[u8], widths: (usize, usize)) -> Result<Self, String> {
        let mut rest = Bytes(bytes);
        let [keys, rows, texts] = [rest.number()?, rest.number()?, rest.number()?].map(|length| length as usize);
        let slots = rest.numbers(keys)?;
        let counts = rest.numbers(keys)?;
        let total: u64 = counts.iter().map(|count| u64::from(*count)).sum();
        let ascend = slots.windows(2).all(|pair| pair[0] < pair[1]) && slots.last().is_none_or(|last| (*last as usize) < SLOTS);
        if !ascend || counts.contains(&0) || total != rows as u64 {
            return Err("slots or counts of rows are out of order".to_owned());
        }
        let keys = rest.columns(keys, widths.0)?;
        let rows = rest.columns(rows, widths.1)?;
        let lengths = rest.numbers(texts)?;
        let text = |length: u32| {
            let bytes = rest.take(length as usize)?;
            std::str::from_utf8(bytes).map(Arc::from).map_err(|_| "a text is not UTF-8".to_owned())
        };
        let texts = lengths.into_iter().map(text).collect::<Result<_, String>>()?;
        let mut marks = Vec::new();
        if !rest.0.is_empty() {
            let marked = rest.number()? as usize;
            let marked = rest.numbers(marked)?;
            let ascend = marked.windows(2).all(|pair| pair[0] < pair[1]) && marked.iter().all(|slot| slots.binary_search(slot).is_ok());
            let times = rest.columns(marked.len(), 1)?;
            marks = marked.into_iter().zip(times).map(|(slot, time)| (slot, time.cast_signed())).collect();
            if !ascend || marks.is_empty() || !rest.0.is_empty() {
                return Err("there is more than there should be".to_owned());
            }
        }
        Ok(Self { widths, slots, counts, keys, rows, texts, marks })
    }
}

/// What is left to be read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or("it ends too early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u32, String> {
        Ok(self.numbers(1)?[0])
    }

    fn numbers(&mut self, count: usize) -> Result<Vec<u32>, String> {
        let bytes = self.take(count.saturating_mul(4))?;
        Ok(bytes.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect())
    }

    /// Items of `width` words, one after the other.
    fn columns(&mut self, items: usize, width: usize) -> Result<Vec<u64>, String> {
        let bytes = self.take(items.saturating_mul(width).saturating_mul(8))?;
        let mut words = vec![0; items * width];
        for (at, bytes) in bytes.as_chunks().0.iter().enumerate() {
            words[at % items * width + at / items] = u64::from_le_bytes(*bytes);
        }
        Ok(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk() -> Chunk {
        Chunk {
            widths: (2, 3),
            slots: vec![0, 7, 4095],
            counts: vec![2, 1, 1],
            keys: (0..6).collect(),
            rows: (100..112).map(|word| word * 0x0101_0101_0101).collect(),
            texts: ["a".into(), "".into(), "ü".into()].into(),
            marks: vec![(7, -3)],
        }
    }

    #[test]
    fn chunks_are_read_as_they_were_written() {
        let unmarked = Chunk { marks: Vec::new(), ..chunk() };
        for chunk in [chunk(), unmarked, Chunk { widths: (2, 3), ..Chunk::default() }] {
            assert_eq!(Chunk::decode(&chunk.encode(), chunk.widths), Ok(chunk));
        }
    }

    #[test]
    fn other_bytes_are_refused_or_are_another_chunk() {
        let bytes = chunk().encode();
        let unmarked = Chunk { marks: Vec::new(), ..chunk() }.encode().len();
        for length in (0..bytes.len()).filter(|length| *length != unmarked) {
            assert!(Chunk::decode(&bytes[..length], (2, 3)).is_err(), "{length} bytes");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                assert_ne!(Chunk::decode(&bytes, (2, 3)), Ok(chunk()), "bit {bit} of byte {at}");
            }
        }
        assert!(Chunk::decode(&[bytes, vec![0]].concat(), (2, 3)).is_err());
    }
}
