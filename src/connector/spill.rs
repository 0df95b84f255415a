//! State that memory has no room for, in one file: values are appended, and found by places that are kept in memory.
//!
//! The file is divided into regions. Where more than half of it is values that were taken back, those that are left in the emptiest region are appended again, and the region is
//! written over. Values have a checksum. Nothing here is meant to outlast the run: the file is emptied before the first value, and removed at the end.

use crate::temporal::spill::{Store, Values};
use foldhash::fast::FixedState;
use std::fs::{File, OpenOptions, TryLockError};
use std::hash::BuildHasher;
use std::io;
use std::path::{Path, PathBuf};

/// Bytes of a region, at least those of the longest value: moving what is left in one takes some milliseconds.
const REGION: u64 = 16 << 20;

/// Regions that may be waste, however little lives.
const SPARE: u64 = 4;

/// Before each value: checksum, part, slot, length.
const HEADER: usize = 20;

/// Places and lengths are whole numbers of so many bytes.
const ALIGN: usize = 8;

/// The name of the file in its folder.
const NAME: &str = "quiet-keys";

#[derive(Clone, Copy, Debug, Default)]
struct Region {
    /// Bytes that were written, and those of them whose values are still there.
    len: u32,
    living: u32,
}

/// Where a value lies, and its length with the header: both in units of [`ALIGN`], the length in the lower 24 bits. 0: nowhere, for nothing is so short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place(u64);

impl Place {
    const fn new(at: u64, length: usize) -> Self {
        Self((at / ALIGN as u64) << 24 | (length / ALIGN) as u64)
    }

    const fn at(self) -> u64 {
        (self.0 >> 24) * ALIGN as u64
    }

    const fn length(self) -> usize {
        (self.0 & 0xff_ffff) as usize * ALIGN
    }
}

/// The values of a part.
#[derive(Clone, Debug, Default)]
struct Part {
    /// By slot.
    places: Vec<Place>,
    /// Bytes of all.
    living: u64,
}

/// The file; there is none before the first value.
pub struct SpillFile {
    path: PathBuf,
    file: Option<File>,
    /// Bytes of each.
    region: u64,
    regions: Vec<Region>,
    free: Vec<u32>,
    /// The region that is written to.
    current: Option<u32>,
    parts: Vec<Part>,
    /// What is appended next, from this place on.
    buffer: Vec<u8>,
    buffer_at: u64,
    read: Vec<u8>,
}

impl SpillFile {
    /// A file in this folder.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self::with_regions(folder, REGION)
    }

    fn with_regions(folder: &Path, region: u64) -> Self {
        Self {
            path: folder.join(NAME),
            file: None,
            region,
            regions: Vec::new(),
            free: Vec::new(),
            current: None,
            parts: Vec::new(),
            buffer: Vec::new(),
            buffer_at: 0,
            read: Vec::new(),
        }
    }

    fn open(&self) -> Result<File, String> {
        let failed = |error: io::Error| failed(&self.path, &error);
        std::fs::create_dir_all(self.path.parent().unwrap_or(Path::new("."))).map_err(failed)?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(format!("{}: another run keeps its state there", self.path.display())),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        file.set_len(0).map_err(failed)?;
        Ok(file)
    }

    fn place(&self, part: u32, slot: u32) -> Place {
        self.parts.get(part as usize).and_then(|part| part.places.get(slot as usize)).copied().unwrap_or_default()
    }

    /// Has a value at a place; what was at another is waste.
    fn set_place(&mut self, part: u32, slot: u32, place: Place) {
        let (number, slot) = (part as usize, slot as usize);
        if self.parts.len() <= number {
            self.parts.resize(number + 1, Part::default());
        }
        let part = &mut self.parts[number];
        if part.places.len() <= slot {
            part.places.resize(slot + 1, Place::default());
        }
        let before = std::mem::replace(&mut part.places[slot], place);
        part.living = part.living + place.length() as u64 - before.length() as u64;
        if place.length() > 0 {
            self.regions[(place.at() / self.region) as usize].living += place.length() as u32;
        }
        if before.length() > 0 {
            let number = before.at() / self.region;
            self.regions[number as usize].living -= before.length() as u32;
            self.free_if_empty(number as u32);
        }
    }

    /// Has a region written over that holds nothing any more, unless it is the one that is written to.
    fn free_if_empty(&mut self, number: u32) {
        let region = &mut self.regions[number as usize];
        if region.living == 0 && region.len > 0 && self.current != Some(number) {
            region.len = 0;
            self.free.push(number);
        }
    }

    /// Appends a value.
    fn append(&mut self, part: u32, slot: u32, value: &[u8]) -> Result<(), String> {
        let length = (HEADER + value.len()).next_multiple_of(ALIGN);
        if length as u64 > self.region {
            return Err(format!("{}: a value of {} bytes is too long", self.path.display(), value.len()));
        }
        let has_room = |region: &u32| u64::from(self.regions[*region as usize].len) + length as u64 <= self.region;
        let region = match self.current.filter(has_room) {
            Some(region) => region,
            None => self.begin_region()?,
        };
        let place = Place::new(self.buffer_at + self.buffer.len() as u64, length);
        let from = self.buffer.len();
        self.buffer.extend([0; 8]);
        [part, slot, value.len() as u32].iter().for_each(|number| self.buffer.extend(number.to_le_bytes()));
        self.buffer.extend(value);
        self.buffer.resize(from + length, 0);
        let sum = checksum(&self.buffer[from..]);
        self.buffer[from..from + 8].copy_from_slice(&sum.to_le_bytes());
        self.regions[region as usize].len += length as u32;
        self.set_place(part, slot, place);
        Ok(())
    }

    /// Goes on in a region that is free, or in a new one at the end.
    fn begin_region(&mut self) -> Result<u32, String> {
        self.flush()?;
        self.current.take().into_iter().for_each(|full| self.free_if_empty(full));
        let region = self.free.pop().unwrap_or_else(|| {
            self.regions.push(Region::default());
            self.regions.len() as u32 - 1
        });
        (self.current, self.buffer_at) = (Some(region), u64::from(region) * self.region);
        Ok(region)
    }

    /// Writes what was appended.
    fn flush(&mut self) -> Result<(), String> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        if self.file.is_none() {
            self.file = Some(self.open()?);
        }
        let written = self.file.as_ref().map_or(Ok(()), |file| write_at(file, &self.buffer, self.buffer_at));
        written.map_err(|error| failed(&self.path, &error))?;
        self.buffer_at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Moves values together, where more than half of the file is waste.
    fn compact(&mut self) -> Result<(), String> {
        let living = self.parts.iter().map(|part| part.living).sum::<u64>();
        while (self.regions.len() - self.free.len()) as u64 * self.region > 2 * living + SPARE * self.region {
            let full = (0..).zip(&self.regions).filter(|(number, region)| region.living > 0 && self.current != Some(*number));
            let Some((number, len)) = full.min_by_key(|(_, region)| region.living).map(|(number, region)| (number, region.len)) else {
                break;
            };
            let mut bytes = std::mem::take(&mut self.read);
            let from = u64::from(number) * self.region;
            self.fill(&mut bytes, from, len as usize)?;
            let mut at = 0;
            // What is left in it moves, one after the other.
            while self.regions[number as usize].living > 0 && at < bytes.len() {
                let (part, slot, value) = value(&bytes[at..]).ok_or_else(|| self.damaged())?;
                let length = (HEADER + value.len()).next_multiple_of(ALIGN);
                let place = Place::new(from + at as u64, length);
                if self.place(part, slot) == place {
                    self.append(part, slot, value)?;
                }
                at += length;
            }
            self.flush()?;
            self.read = bytes;
        }
        Ok(())
    }

    /// Reads so many bytes from a place on.
    fn fill(&self, bytes: &mut Vec<u8>, place: u64, length: usize) -> Result<(), String> {
        bytes.resize(length, 0);
        let read = self.file.as_ref().map_or(Ok(0), |file| read_at(file, bytes, place));
        bytes.truncate(read.map_err(|error| failed(&self.path, &error))?);
        Ok(())
    }

    fn damaged(&self) -> String {
        format!("{}: what is read there is not what was written", self.path.display())
    }
}

impl Store for SpillFile {
    fn put(&mut self, part: u32, values: &Values) -> Result<(), String> {
        for (slot, value) in values.iter() {
            self.append(part, slot, value)?;
        }
        self.flush()?;
        self.compact()
    }

    fn get(&mut self, part: u32, slots: &[u32], each: &mut dyn FnMut(usize, &[u8])) -> Result<(), String> {
        let mut bytes = std::mem::take(&mut self.read);
        for (number, slot) in slots.iter().enumerate() {
            let place = self.place(part, *slot);
            self.fill(&mut bytes, place.at(), place.length())?;
            match value(&bytes) {
                Some((of, at, value)) if (of, at) == (part, *slot) => each(number, value),
                _ => return Err(self.damaged()),
            }
        }
        self.read = bytes;
        Ok(())
    }

    fn remove(&mut self, part: u32, slots: &[u32]) {
        slots.iter().for_each(|slot| self.set_place(part, *slot, Place::default()));
    }

    fn clear(&mut self, part: u32) {
        let slots = self.parts.get(part as usize).map_or(0, |part| part.places.len() as u32);
        (0..slots).for_each(|slot| self.set_place(part, slot, Place::default()));
        if let Some(part) = self.parts.get_mut(part as usize) {
            part.places = Vec::new();
        }
    }

    fn bytes(&self, part: u32) -> u64 {
        self.parts.get(part as usize).map_or(0, |part| part.living)
    }
}

impl Drop for SpillFile {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // What stays is emptied by the next run.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The value that bytes begin with, its part and slot; `None`: these are not what was written.
fn value(bytes: &[u8]) -> Option<(u32, u32, &[u8])> {
    let number = |at: usize| bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
    let (part, slot, length) = (number(8)?, number(12)?, number(16)? as usize);
    let whole = bytes.get(..(HEADER + length).next_multiple_of(ALIGN))?;
    (u64::from_le_bytes(*whole.first_chunk()?) == checksum(whole)).then(|| (part, slot, &whole[HEADER..HEADER + length]))
}

fn checksum(whole: &[u8]) -> u64 {
    FixedState::default().hash_one(&whole[8..])
}

fn failed(path: &Path, error: &io::Error) -> String {
    let what = "state that memory has no room for is kept there; give --state-dir a folder that can hold it, or --state-memory more";
    format!("{}: {error}: {what}", path.display())
}

/// Reads at a place, up to the end of the file.
fn read_at(file: &File, bytes: &mut [u8], place: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        #[cfg(unix)]
        let read = std::os::unix::fs::FileExt::read_at(file, &mut bytes[done..], place + done as u64);
        #[cfg(windows)]
        let read = std::os::windows::fs::FileExt::seek_read(file, &mut bytes[done..], place + done as u64);
        match read {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

fn write_at(file: &File, bytes: &[u8], place: u64) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::write_all_at(file, bytes, place);
    #[cfg(windows)]
    {
        let mut done = 0;
        while done < bytes.len() {
            done += std::os::windows::fs::FileExt::seek_write(file, &bytes[done..], place + done as u64)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn values(of: &[(u32, Vec<u8>)]) -> Values {
        let mut values = Values::default();
        of.iter().for_each(|(slot, value)| assert!(values.add(*slot, |bytes| bytes.extend(value))));
        values
    }

    fn all(file: &mut SpillFile, part: u32, slots: &[u32]) -> Result<Vec<Vec<u8>>, String> {
        let mut found = vec![Vec::new(); slots.len()];
        file.get(part, slots, &mut |number, value| found[number] = value.to_vec())?;
        Ok(found)
    }

    #[test]
    fn values_are_what_was_put_in_and_room_is_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = SpillFile::with_regions(folder.path(), 1 << 12);
        let mut expected: HashMap<(u32, u32), Vec<u8>> = HashMap::new();
        let mut state = 7_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut put = 0;
        for step in 0..3000_u64 {
            let part = random(2) as u32;
            let slots: Vec<u32> = (0..random(20)).map(|_| random(300) as u32).collect();
            let (mut there, mut new): (Vec<u32>, Vec<u32>) = slots.iter().partition(|slot| expected.contains_key(&(part, **slot)));
            [&mut there, &mut new].into_iter().for_each(|slots| {
                slots.sort_unstable();
                slots.dedup();
            });
            let found = all(&mut file, part, &there).unwrap();
            assert!(there.iter().zip(&found).all(|(slot, value)| expected[&(part, *slot)] == *value), "step {step}");
            file.remove(part, &there);
            there.iter().for_each(|slot| drop(expected.remove(&(part, *slot))));
            let of: Vec<(u32, Vec<u8>)> = new
                .iter()
                .map(|slot| (*slot, (0..random(if step % 100 == 0 { 4000 } else { 90 })).map(|_| random(256) as u8).collect()))
                .collect();
            file.put(part, &values(&of)).unwrap();
            put += of.iter().map(|(_, value)| value.len() as u64).sum::<u64>();
            of.into_iter().for_each(|(slot, value)| drop(expected.insert((part, slot), value)));
            if step == 2000 {
                file.clear(1);
                expected.retain(|(part, _), _| *part != 1);
            }
            let living = expected.values().map(|value| (HEADER + value.len()).next_multiple_of(ALIGN) as u64).sum::<u64>();
            assert_eq!(file.bytes(0) + file.bytes(1), living);
            let length = std::fs::metadata(folder.path().join(NAME)).map_or(0, |file| file.len());
            assert!(length <= 2 * 100_000 + 8 * 4096 && length >= living.min(1), "step {step}: {length} bytes for {living}");
        }
        assert!(put > 800_000, "the file was written over many times: {put}");
        for ((part, slot), value) in &expected {
            assert_eq!(all(&mut file, *part, &[*slot]).unwrap(), std::slice::from_ref(value));
        }
        drop(file);
        assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none());
    }

    #[test]
    fn what_is_not_what_was_written_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        std::fs::write(&path, vec![1; 100_000]).unwrap();
        let mut file = SpillFile::new(folder.path());
        file.put(3, &values(&[(5, b"some rows".to_vec()), (6, vec![7; 100])])).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes.len() < 200, "what a run before left is gone");
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 4;
            std::fs::write(&path, &other).unwrap();
            assert!(all(&mut file, 3, &[5, 6]).is_err(), "byte {at}");
        }
        std::fs::write(&path, &bytes[..150]).unwrap();
        assert_eq!(all(&mut file, 3, &[5]).unwrap(), [b"some rows"]);
        assert!(all(&mut file, 3, &[6]).unwrap_err().contains("not what was written"));
        assert!(all(&mut file, 3, &[7]).is_err() && all(&mut file, 4, &[5]).is_err(), "what was never put in");
    }

    #[test]
    fn two_runs_do_not_share_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut one = SpillFile::new(folder.path());
        one.put(0, &values(&[(0, vec![1])])).unwrap();
        let mut two = SpillFile::new(folder.path());
        assert!(two.put(0, &values(&[(0, vec![2])])).unwrap_err().contains("another run"));
        drop(two);
        assert_eq!(all(&mut one, 0, &[0]).unwrap(), [[1]]);
        drop(one);
        SpillFile::new(folder.path()).put(0, &values(&[(0, vec![2])])).unwrap();
    }
}
