//! Where state goes that memory has no room for: embedded stores beside our own file, asked as windows ask them.
//!
//! Peaks of memory are of the whole process: for these give one store a run. Values of 100 to 800 bytes by part and slot: all are written, then each round reads 128 at a time of random slots, and writes those back that were read, changed. Every value that is
//! read is compared with what was written.

use clap::Parser;
use dynamic_cep::connector::spill::SpillFile;
use dynamic_cep::temporal::spill::{Store, Values};
use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use redb::{Durability, ReadableDatabase, TableDefinition};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Values that are read together, and those that are written together.
const READ: usize = 128;
const WRITTEN: usize = 4096;

/// Bytes that a store may keep in memory.
const CACHE: u64 = 256 << 20;

const TABLE: TableDefinition<u64, &[u8]> = TableDefinition::new("values");

struct Fjall(Database, Keyspace);

struct Redb(redb::Database);

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Store for Fjall {
    fn put(&mut self, _: u32, values: &Values) -> Result<(), String> {
        let mut batch = self.0.batch();
        values.iter().for_each(|(slot, value)| batch.insert(&self.1, u64::from(slot).to_be_bytes(), value));
        batch.commit().map_err(told)
    }

    fn get(&mut self, _: u32, slots: &[u32], each: &mut dyn FnMut(usize, &[u8])) -> Result<(), String> {
        for (number, slot) in slots.iter().enumerate() {
            each(number, &self.1.get(u64::from(*slot).to_be_bytes()).map_err(told)?.ok_or("no value")?);
        }
        Ok(())
    }

    /// What is written next takes their place.
    fn remove(&mut self, _: u32, _: &[u32]) {}

    fn clear(&mut self, _: u32) {}

    fn bytes(&self, _: u32) -> u64 {
        0
    }
}

impl Store for Redb {
    fn put(&mut self, _: u32, values: &Values) -> Result<(), String> {
        let mut write = self.0.begin_write().map_err(told)?;
        write.set_durability(Durability::None).map_err(told)?;
        {
            let mut table = write.open_table(TABLE).map_err(told)?;
            for (slot, value) in values.iter() {
                table.insert(u64::from(slot), value).map_err(told)?;
            }
        }
        write.commit().map_err(told)
    }

    fn get(&mut self, _: u32, slots: &[u32], each: &mut dyn FnMut(usize, &[u8])) -> Result<(), String> {
        let read = self.0.begin_read().map_err(told)?;
        let table = read.open_table(TABLE).map_err(told)?;
        for (number, slot) in slots.iter().enumerate() {
            each(number, table.get(u64::from(*slot)).map_err(told)?.ok_or("no value")?.value());
        }
        Ok(())
    }

    fn remove(&mut self, _: u32, _: &[u32]) {}

    fn clear(&mut self, _: u32) {}

    fn bytes(&self, _: u32) -> u64 {
        0
    }
}

fn random(at: u64) -> u64 {
    let mut z = at.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 31)
}

/// Rows of a key: words of which half are zeros, as times and small numbers are. Of `version` one row more.
fn value(slot: u32, version: u32, bytes: &mut Vec<u8>) {
    let seed = random(u64::from(slot));
    let words = 12 + (seed % 86 + u64::from(version) * 3) % 88;
    (0..words).for_each(|word| bytes.extend((random(seed ^ word) >> 32).to_le_bytes()));
}

fn peak(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(what)).and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    line.unwrap_or(0) / 1024
}

fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = |name: &str| io.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    line("wchar:").unwrap_or(0) >> 20
}

fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    entries.map(|entry| if entry.path().is_dir() { size(&entry.path()) } else { entry.metadata().map_or(0, |data| data.len()) }).sum()
}

/// Measure stores for state that memory has no room for
#[derive(Parser)]
struct Arguments {
    /// Those that are measured
    #[arg(long, value_delimiter = ',', default_values_t = ["file", "fjall", "redb"].map(str::to_owned))]
    stores: Vec<String>,
    /// Values
    #[arg(long, default_value_t = 5_000_000)]
    values: u32,
    /// Rounds of 4,096 values that are read and written back
    #[arg(long, default_value_t = 100)]
    rounds: u64,
    /// Where the files are; emptied before
    #[arg(long)]
    folder: PathBuf,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<(), String> {
    let arguments = Arguments::parse();
    arguments.stores.iter().try_for_each(|name| measure(name, &arguments.folder.join(name), arguments.values, arguments.rounds))
}

fn measure(name: &str, folder: &Path, slots: u32, rounds: u64) -> Result<(), String> {
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder).map_err(told)?;
    let mut store: Box<dyn Store> = match name {
        "fjall" => {
            let base = Database::builder(folder).cache_size(CACHE).manual_journal_persist(true).open().map_err(told)?;
            let values = base.keyspace("values", || KeyspaceCreateOptions::default().expect_point_read_hits(true)).map_err(told)?;
            Box::new(Fjall(base, values))
        }
        "redb" => Box::new(Redb(redb::Builder::new().set_cache_size(CACHE as usize).create(folder.join("values")).map_err(told)?)),
        _ => Box::new(SpillFile::new(folder)),
    };
    let mut versions = vec![0_u32; slots as usize];
    let (mut values, mut total) = (Values::default(), 0);
    let start = Instant::now();
    for first in (0..slots).step_by(WRITTEN) {
        values.clear();
        for slot in first..slots.min(first + WRITTEN as u32) {
            values.add(slot, |bytes| value(slot, 0, bytes));
        }
        total += values.bytes();
        store.put(0, &values)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{name}: {:.0} puts/s; {} MB of values, {} MB on disk, {} MB written, RSS {} MB",
        f64::from(slots) / seconds,
        total >> 20,
        size(folder) >> 20,
        written(),
        peak("VmRSS")
    );
    let (mut next, mut expected, mut changed) = (0_u64, Vec::new(), 0_u64);
    let (mut reading, mut writing) = (0.0, 0.0);
    let begun = written();
    for _ in 0..rounds {
        values.clear();
        let mut round: Vec<u32> = (0..WRITTEN as u64).map(|at| (random(next + at) % u64::from(slots)) as u32).collect();
        next += WRITTEN as u64;
        round.sort_unstable();
        round.dedup();
        round.sort_by_key(|slot| random(u64::from(*slot) + next));
        for slots in round.chunks(READ) {
            let start = Instant::now();
            let mut wrong = 0;
            store.get(0, slots, &mut |number, bytes| {
                expected.clear();
                value(slots[number], versions[slots[number] as usize], &mut expected);
                wrong += usize::from(expected != bytes);
            })?;
            store.remove(0, slots);
            reading += start.elapsed().as_secs_f64();
            assert_eq!(wrong, 0, "what is read is what was written");
        }
        for slot in &round {
            versions[*slot as usize] += 1;
            values.add(*slot, |bytes| value(*slot, versions[*slot as usize], bytes));
        }
        changed += values.bytes() as u64;
        next += WRITTEN as u64;
        let start = Instant::now();
        store.put(0, &values)?;
        writing += start.elapsed().as_secs_f64();
    }
    let done = (rounds * WRITTEN as u64) as f64;
    println!(
        "{name}: {:.0} gets/s, {:.0} puts/s, {:.0} of both; {} MB on disk, {:.1} times what was put written; peak RSS {} MB",
        done / reading,
        done / writing,
        done / (reading + writing),
        size(folder) >> 20,
        (written() - begun) as f64 / (changed >> 20) as f64,
        peak("VmHWM")
    );
    drop(store);
    let _ = std::fs::remove_dir_all(folder);
    Ok(())
}
