//! Snapshots in a folder: manifests by number, chunks by hash.
//!
//! A manifest is written after all chunks that it names are on disk, under another name first; so there is always a whole one, whatever is interrupted. The last two are kept,
//! and the chunks that these name.

use crate::snapshot::{Chunk, Manifest, Unusable};
use std::collections::{HashMap, HashSet};
use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Snapshots that are kept.
const KEPT: usize = 2;

/// The file that a run locks, so that no two write to one folder.
const LOCK: &str = "lock";

/// A folder of snapshots.
pub struct SnapshotFolder {
    path: PathBuf,
    /// Chunks that are there whole.
    written: HashSet<String>,
    /// Held as long as it is open; `None`: only read.
    lock: Option<File>,
}

impl Drop for SnapshotFolder {
    fn drop(&mut self) {
        if let Some(lock) = &self.lock {
            // Closing is not enough where a process that was just started has the file too; where this fails, closing is what is left.
            let _ = lock.unlock();
        }
    }
}

impl SnapshotFolder {
    /// Opens a folder to write to, and makes it where there is none.
    ///
    /// # Errors
    /// When it cannot be made, or another run writes to it.
    pub fn open(path: &Path) -> Result<Self, String> {
        let failed = |error: io::Error| format!("{}: cannot be written: {error}", path.display());
        std::fs::create_dir_all(path).map_err(failed)?;
        let lock = File::create(path.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), written: HashSet::new(), lock: Some(lock) }),
            Err(TryLockError::WouldBlock) => Err(format!("{}: another run keeps its snapshots there", path.display())),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// A folder to read from.
    #[must_use]
    pub fn look(path: &Path) -> Self {
        Self { path: path.to_owned(), written: HashSet::new(), lock: None }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn failed(&self, error: &io::Error) -> String {
        format!("{}: {error}", self.path.display())
    }

    fn names(&self) -> Result<Vec<String>, String> {
        let entries = std::fs::read_dir(&self.path).map_err(|error| self.failed(&error))?;
        let name = |entry: io::Result<std::fs::DirEntry>| entry.map(|entry| entry.file_name().to_string_lossy().into_owned());
        entries.map(name).collect::<io::Result<_>>().map_err(|error| self.failed(&error))
    }

    /// The numbers of the snapshots, the newest first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn numbers(&self) -> Result<Vec<u64>, String> {
        let number = |name: &String| name.strip_prefix("snapshot-")?.strip_suffix(".json")?.parse().ok();
        let mut numbers: Vec<u64> = self.names()?.iter().filter_map(number).collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        Ok(numbers)
    }

    fn manifest_path(&self, number: u64) -> PathBuf {
        self.path.join(format!("snapshot-{number}.json"))
    }

    /// A snapshot's manifest.
    ///
    /// # Errors
    /// When it cannot be read, or is not one.
    pub fn manifest(&self, number: u64) -> Result<Manifest, Unusable> {
        let bytes = std::fs::read(self.manifest_path(number)).map_err(|error| Unusable::Damaged(error.to_string()))?;
        let manifest = Manifest::decode(&bytes)?;
        if manifest.number == number { Ok(manifest) } else { Err(Unusable::Damaged("it has another number".to_owned())) }
    }

    fn packed(&self, chunk: &Chunk) -> Result<Vec<u8>, Unusable> {
        let damaged = |what: String| Unusable::Damaged(format!("chunk {}: {what}", chunk.hash));
        let name = chunk.file().ok_or_else(|| damaged("no hash".to_owned()))?;
        std::fs::read(self.path.join(name)).map_err(|error| damaged(error.to_string()))
    }

    /// The state in a chunk.
    ///
    /// # Errors
    /// When its file cannot be read, or has other bytes.
    pub fn chunk(&self, chunk: &Chunk) -> Result<Vec<u8>, Unusable> {
        chunk.unpack(&self.packed(chunk)?)
    }

    /// Whether a chunk's file has its bytes.
    ///
    /// # Errors
    /// When it has not.
    pub fn check(&self, chunk: &Chunk) -> Result<(), Unusable> {
        chunk.check(&self.packed(chunk)?)
    }

    /// Writes a chunk, unless it is there; it is on disk with the next manifest.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&mut self, bytes: &[u8]) -> Result<Chunk, String> {
        let (chunk, packed) = Chunk::pack(bytes)?;
        let Some(name) = chunk.file().filter(|_| !self.written.contains(&chunk.hash)) else { return Ok(chunk) };
        self.replace(&self.path.join(name), &packed)?;
        self.written.insert(chunk.hash.clone());
        Ok(chunk)
    }

    /// Writes a manifest, which makes a snapshot of the chunks that were written, and deletes what is older than the one before.
    ///
    /// # Errors
    /// When it cannot be written, or a chunk is missing.
    pub fn commit(&mut self, manifest: &Manifest) -> Result<(), String> {
        let there = |chunk: &&Chunk| {
            let file = chunk.file().and_then(|name| std::fs::metadata(self.path.join(name)).ok());
            self.written.contains(&chunk.hash) || file.is_some_and(|file| file.len() == chunk.packed)
        };
        if let Some(chunk) = manifest.chunks().find(|chunk| !there(chunk)) {
            return Err(format!("{}: chunk {} is not there", self.path.display(), chunk.hash));
        }
        self.replace(&self.manifest_path(manifest.number), &manifest.encode())?;
        File::open(&self.path).and_then(|folder| folder.sync_all()).map_err(|error| self.failed(&error))?;
        self.forget()
    }

    /// Deletes older snapshots, and chunks that none names.
    fn forget(&mut self) -> Result<(), String> {
        let numbers = self.numbers()?;
        let sound = numbers.iter().filter_map(|number| self.manifest(*number).ok());
        let kept: Vec<Manifest> = sound.take(KEPT).collect();
        let named: HashSet<String> = kept.iter().flat_map(Manifest::chunks).map(|chunk| chunk.hash.clone()).collect();
        self.written.retain(|hash| named.contains(hash));
        let old = |name: &String| match name.strip_suffix(".chunk") {
            Some(hash) => !named.contains(hash),
            None => name.ends_with(".unfinished"),
        };
        let chunks = self.names()?.into_iter().filter(old).map(|name| self.path.join(name));
        let manifests = numbers.iter().filter(|number| kept.iter().all(|manifest| manifest.number != **number));
        // Manifests first: none must name a chunk that is gone.
        for path in manifests.map(|number| self.manifest_path(*number)).chain(chunks) {
            std::fs::remove_file(path).map_err(|error| self.failed(&error))?;
        }
        Ok(())
    }

    /// Writes a file to disk under another name first.
    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), String> {
        let temporary = path.with_extension("unfinished");
        let write = || {
            let mut file = File::create(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            std::fs::rename(&temporary, path)
        };
        write().map_err(|error| format!("{}: cannot be written: {error}", path.display()))
    }
}

/// Writes one snapshot after the other: what has changed of the state, for the rest the chunks of the one before.
pub struct SnapshotWriter {
    folder: SnapshotFolder,
    last: Option<Manifest>,
    put: HashMap<(String, usize), Chunk>,
}

impl SnapshotWriter {
    /// `last`: the snapshot that the state goes on from.
    #[must_use]
    pub fn new(folder: SnapshotFolder, last: Option<Manifest>) -> Self {
        Self { folder, last, put: HashMap::new() }
    }

    /// Writes a chunk of a part.
    ///
    /// # Errors
    /// As [`SnapshotFolder::put`].
    pub fn put(&mut self, part: String, number: usize, bytes: &[u8]) -> Result<(), String> {
        let chunk = self.folder.put(bytes)?;
        self.put.insert((part, number), chunk);
        Ok(())
    }

    /// Makes a snapshot of what was put, `chunks` for each part.
    ///
    /// # Errors
    /// As [`SnapshotFolder::commit`]; a chunk that neither was put nor is part of the snapshot before.
    pub fn commit(&mut self, mut manifest: Manifest, chunks: Vec<usize>) -> Result<(), String> {
        for (part, count) in manifest.parts.iter_mut().zip(chunks) {
            let before = self.last.as_ref().and_then(|last| last.part(&part.name));
            for number in 0..count {
                let same = || before.and_then(|before| before.chunks.get(number)).cloned();
                let chunk = self.put.remove(&(part.name.clone(), number)).or_else(same);
                part.chunks.push(chunk.ok_or_else(|| format!("chunk {number} of {} was never copied", part.name))?);
            }
        }
        self.folder.commit(&manifest)?;
        self.put.clear();
        self.last = Some(manifest);
        Ok(())
    }

    /// Forgets what was put for a snapshot that was given up.
    pub fn give_up(&mut self) {
        self.put.clear();
    }
}
