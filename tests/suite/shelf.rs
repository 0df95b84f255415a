//! Values in memory in place of a disk, with faults.

use dynamic_cep::temporal::spill::{Store, Values};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is wrong with a shelf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// A value has the rows that were there before, some of them again where they were fewer.
    Older,
    /// A value is the one that was there before.
    Stale,
    /// A value is that of another slot, which is as long.
    Others,
    /// Of a partition no more is known than its key, which is short.
    Forgotten,
    /// A bit of a value is another.
    Bit,
    /// Nothing can be done after so many times.
    Full(usize),
}

/// Values in memory, in place of a disk.
#[derive(Default)]
pub struct Shelf {
    values: HashMap<(u32, u32), Vec<u8>>,
    before: HashMap<(u32, u32), Vec<u8>>,
    fault: Fault,
    asked: usize,
    /// Values that were read.
    pub read: Arc<AtomicUsize>,
}

impl Shelf {
    pub fn with(fault: Fault) -> Self {
        Self { fault, ..Self::default() }
    }

    fn ask(&mut self) -> Result<(), String> {
        self.asked += 1;
        if matches!(self.fault, Fault::Full(times) if self.asked > times) { Err("the shelf is full".to_owned()) } else { Ok(()) }
    }
}

impl Store for Shelf {
    fn put(&mut self, part: u32, values: &Values) -> Result<(), String> {
        self.ask()?;
        for (slot, value) in values.iter() {
            assert!(self.values.insert((part, slot), value.to_vec()).is_none(), "a slot has one value");
        }
        Ok(())
    }

    fn get(&mut self, part: u32, slots: &[u32], each: &mut dyn FnMut(usize, &[u8])) -> Result<(), String> {
        self.ask()?;
        self.read.fetch_add(slots.len(), Ordering::Relaxed);
        for (number, slot) in slots.iter().enumerate() {
            let value = &self.values[&(part, *slot)];
            let alike = |other: &&Vec<u8>| other.len() == value.len();
            let mut told = value.clone();
            match self.fault {
                Fault::Older => {
                    let before = self.before.get(&(part, *slot)).filter(|before| !before.is_empty()).unwrap_or(value);
                    told = before.iter().copied().cycle().take(value.len()).collect();
                }
                Fault::Stale => told.clone_from(self.before.get(&(part, *slot)).unwrap_or(value)),
                Fault::Forgotten => {
                    // No pattern searches; the next row is the first; no rows, no patterns.
                    told.truncate(1 + usize::from(value[0]));
                    told.extend([0; 4]);
                }
                Fault::Others => {
                    let others = self.values.iter().filter(|((of, at), _)| *of == part && at != slot).map(|(_, value)| value);
                    told.clone_from(others.filter(alike).min().unwrap_or(value));
                }
                Fault::Bit => *told.last_mut().expect("a value has rows") ^= 1,
                Fault::None | Fault::Full(_) => {}
            }
            each(number, &told);
        }
        Ok(())
    }

    fn remove(&mut self, part: u32, slots: &[u32]) {
        for slot in slots {
            if let Some(value) = self.values.remove(&(part, *slot)) {
                self.before.insert((part, *slot), value);
            }
        }
    }

    fn clear(&mut self, part: u32) {
        self.values.retain(|(of, _), _| *of != part);
    }

    fn bytes(&self, part: u32) -> u64 {
        self.values.iter().filter(|((of, _), _)| *of == part).map(|(_, value)| value.len() as u64).sum()
    }
}
