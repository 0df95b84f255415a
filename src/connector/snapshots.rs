//! Snapshots in a folder or in an object store: manifests by number, chunks by hash.
//!
//! A manifest is written after all chunks that it names are there; so there is always a whole one, whatever is interrupted. The last two are kept, and the chunks that these name.
//!
//! A folder is locked by whoever writes to it. In an object store there is no lock, and a process that was cut off may go on writing after another one has begun. There each number is
//! given once ([`Store::create`]), each writer takes the next one after its last, and whoever opens takes a number at once, with a manifest that holds nothing: a claim. So the first
//! that the process before writes afterwards finds its number taken, unless it was so late that the number was deleted again; then it finds a later one. Either way it has lost the
//! place, takes that manifest back, says so, and writes and deletes nothing from then on. Of what it wrote before nothing is wrong: state is written of positions that are committed, and who reads begins at the newest.
//! What a late writer deletes it had seen as the newest one; a chunk that comes again under the same hash in that moment would be missing, which is why chunks are looked for before
//! they are named, and a snapshot with one missing is passed over for the one before.

use super::store::{Store, UNFINISHED, nonce};
use crate::snapshot::{Chunk, Manifest, Unusable};
use std::collections::{HashMap, HashSet};
use std::fs::{File, TryLockError};
use std::io;

/// Snapshots that are kept.
const KEPT: usize = 2;

/// The file that a run locks, so that no two write to one folder.
const LOCK: &str = "lock";

/// How often a number is tried for anew because others come between.
const CLAIMS: usize = 10;

/// A place with snapshots.
pub struct Snapshots {
    store: Store,
    /// Chunks that are there whole.
    written: HashSet<String>,
    hold: Hold,
}

/// What keeps others from writing.
enum Hold {
    /// Nothing: it is only read.
    None,
    /// A file that is held as long as it is open.
    Lock(File),
    /// Numbers, of which the last that this writer has.
    Claim { writer: String, number: u64 },
    /// Another process has taken the place.
    Lost,
}

impl Drop for Snapshots {
    fn drop(&mut self) {
        if let Hold::Lock(lock) = &self.hold {
            // Closing is not enough where a process that was just started has the file too; where this fails, closing is what is left.
            let _ = lock.unlock();
        }
    }
}

impl Snapshots {
    /// Opens a place to write to; a folder is made where there is none.
    ///
    /// # Errors
    /// When it cannot be written to, or another run writes to the folder.
    pub fn open(store: Store) -> Result<Self, String> {
        let Some(path) = store.folder() else {
            let mut claimed = Self { store, written: HashSet::new(), hold: Hold::Claim { writer: nonce(), number: 0 } };
            claimed.claim()?;
            return Ok(claimed);
        };
        let failed = |error: io::Error| format!("{}: cannot be written: {error}", path.display());
        std::fs::create_dir_all(path).map_err(failed)?;
        let lock = File::create(path.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { store, written: HashSet::new(), hold: Hold::Lock(lock) }),
            Err(TryLockError::WouldBlock) => Err(format!("{}: another run keeps its snapshots there", path.display())),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// A place to read from.
    #[must_use]
    pub fn look(store: Store) -> Self {
        Self { store, written: HashSet::new(), hold: Hold::None }
    }

    /// Where they are, for messages.
    #[must_use]
    pub const fn place(&self) -> &Store {
        &self.store
    }

    /// Whether another process has taken the place, so that nothing can be written any more.
    #[must_use]
    pub const fn is_lost(&self) -> bool {
        matches!(self.hold, Hold::Lost)
    }

    fn failed(&self, error: &io::Error) -> String {
        format!("{}: {error}", self.store)
    }

    /// Gives the place up to whoever has taken it.
    fn lost(&mut self) -> String {
        self.hold = Hold::Lost;
        format!("{}: another process has taken this place, and keeps the state from now on; this one writes no more of it", self.store)
    }

    /// The numbers of the snapshots, the newest first.
    ///
    /// # Errors
    /// When the place cannot be read.
    pub fn numbers(&self) -> Result<Vec<u64>, String> {
        Ok(numbers(&self.store.list().map_err(|error| self.failed(&error))?))
    }

    /// Bytes that cannot be had. A file that cannot be read is as damaged as one that was changed; an object store that does not answer says nothing of what is in it.
    fn unusable(&self, error: &io::Error) -> Unusable {
        if self.store.folder().is_some() || error.kind() == io::ErrorKind::NotFound {
            Unusable::Damaged(error.to_string())
        } else {
            Unusable::Unreachable(error.to_string())
        }
    }

    /// A snapshot's manifest.
    ///
    /// # Errors
    /// When it cannot be read, or is not one.
    pub fn manifest(&self, number: u64) -> Result<Manifest, Unusable> {
        let bytes = self.store.get(&manifest_name(number)).map_err(|error| self.unusable(&error))?;
        let manifest = Manifest::decode(&bytes)?;
        if manifest.number == number { Ok(manifest) } else { Err(Unusable::Damaged("it has another number".to_owned())) }
    }

    fn packed(&self, chunk: &Chunk) -> Result<Vec<u8>, Unusable> {
        let about = |what: &dyn std::fmt::Display| format!("chunk {}: {what}", chunk.hash);
        let name = chunk.file().ok_or_else(|| Unusable::Damaged(about(&"no hash")))?;
        self.store.get(&name).map_err(|error| match self.unusable(&error) {
            Unusable::Unreachable(what) => Unusable::Unreachable(about(&what)),
            _ => Unusable::Damaged(about(&error)),
        })
    }

    /// The state in a chunk.
    ///
    /// # Errors
    /// When it cannot be read, or has other bytes.
    pub fn chunk(&self, chunk: &Chunk) -> Result<Vec<u8>, Unusable> {
        chunk.unpack(&self.packed(chunk)?)
    }

    /// Whether a chunk has its bytes.
    ///
    /// # Errors
    /// When it has not.
    pub fn check(&self, chunk: &Chunk) -> Result<(), Unusable> {
        chunk.check(&self.packed(chunk)?)
    }

    /// Writes a chunk, unless it is there; it counts with the next manifest.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&mut self, bytes: &[u8]) -> Result<Chunk, String> {
        if self.is_lost() {
            return Err(self.lost());
        }
        let (chunk, packed) = Chunk::pack(bytes)?;
        let Some(name) = chunk.file().filter(|_| !self.written.contains(&chunk.hash)) else { return Ok(chunk) };
        self.store.put(&name, &packed).map_err(|error| format!("{}: {name} cannot be written: {error}", self.store))?;
        self.written.insert(chunk.hash.clone());
        Ok(chunk)
    }

    /// Writes a manifest, which makes a snapshot of the chunks that were written, and deletes what is older than the one before. In an object store it gets its number here.
    ///
    /// # Errors
    /// When it cannot be written, a chunk is missing, or another process has taken the place.
    pub fn commit(&mut self, manifest: &mut Manifest) -> Result<(), String> {
        let there: HashMap<String, u64> = self.store.list().map_err(|error| self.failed(&error))?.into_iter().collect();
        let is_there = |chunk: &&Chunk| chunk.file().and_then(|name| there.get(&name)) == Some(&chunk.packed);
        if let Some(chunk) = manifest.chunks().find(|chunk| !is_there(chunk)) {
            let problem = format!("{}: chunk {} is not there", self.store, chunk.hash);
            // Somebody may have deleted it: it is to be written again.
            self.written.clear();
            return Err(problem);
        }
        self.give_number(manifest)?;
        self.forget()
    }

    /// Writes a manifest by its number; by the next one of this writer, where there are claims.
    fn give_number(&mut self, manifest: &mut Manifest) -> Result<(), String> {
        let unwritten = |store: &Store, error: io::Error| format!("{store}: a manifest cannot be written: {error}");
        let (writer, mut last) = match &self.hold {
            Hold::Claim { writer, number } => (writer.clone(), *number),
            Hold::Lost => return Err(self.lost()),
            Hold::Lock(_) | Hold::None => {
                let put = self.store.create(&manifest_name(manifest.number), &manifest.encode());
                return put.map_err(|error| unwritten(&self.store, error));
            }
        };
        loop {
            manifest.number = last + 1;
            manifest.writer.clone_from(&writer);
            match self.store.create(&manifest_name(manifest.number), &manifest.encode()) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(unwritten(&self.store, error)),
            }
            match self.manifest(manifest.number) {
                // The answer to an earlier try was lost.
                Ok(there) if there == *manifest => break,
                // An earlier manifest was written though the store said that it was not.
                Ok(there) if there.writer == writer => last += 1,
                Err(unreachable @ Unusable::Unreachable(_)) => return Err(format!("{}: {unreachable}", self.store)),
                Ok(_) | Err(_) => return Err(self.lost()),
            }
        }
        self.hold = Hold::Claim { writer, number: manifest.number };
        Ok(())
    }

    /// Takes the next number before state is read, so that nobody who wrote here before can go on.
    fn claim(&mut self) -> Result<(), String> {
        let claim = Manifest {
            number: 0,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            generation: String::new(),
            allowed_lateness: 0,
            rows: 0,
            sources: Vec::new(),
            parts: Vec::new(),
            writer: String::new(),
        };
        for _ in 0..CLAIMS {
            let newest = self.numbers()?.first().copied().unwrap_or(0);
            self.hold = Hold::Claim { writer: nonce(), number: newest };
            match self.give_number(&mut claim.clone()).and_then(|()| self.forget()) {
                // Somebody has come between, whose state is now the newest.
                Err(_) if self.is_lost() => {}
                claimed => return claimed,
            }
        }
        Err(format!("{}: other processes take this place again and again", self.store))
    }

    /// Deletes older snapshots, and chunks that none names.
    fn forget(&mut self) -> Result<(), String> {
        let listed = self.store.list().map_err(|error| self.failed(&error))?;
        let numbers = numbers(&listed);
        if let Hold::Claim { number, .. } = self.hold
            && numbers.first() != Some(&number)
        {
            // What was written is taken back, so that it does not count as the one before the newest; if it stays, it is harmless.
            let _ = self.store.delete(&manifest_name(number));
            return Err(self.lost());
        }
        let (mut kept, mut claim) = (Vec::new(), None);
        for number in &numbers {
            match self.manifest(*number) {
                Ok(manifest) if manifest.is_claim() => claim = claim.or((numbers.first() == Some(number)).then_some(*number)),
                Ok(manifest) => kept.push(manifest),
                // What cannot be read now is not known to be of no use.
                Err(unreachable @ Unusable::Unreachable(_)) => return Err(format!("{}: {unreachable}", self.store)),
                Err(_) => {}
            }
            if kept.len() == KEPT {
                break;
            }
        }
        let named: HashSet<String> = kept.iter().flat_map(Manifest::chunks).map(|chunk| chunk.hash.clone()).collect();
        self.written.retain(|hash| named.contains(hash));
        let old = |name: &String| match name.strip_suffix(".chunk") {
            Some(hash) => !named.contains(hash),
            None => name.ends_with(UNFINISHED),
        };
        let chunks = listed.into_iter().map(|(name, _)| name).filter(old);
        let manifests = numbers.iter().filter(|number| claim != Some(**number) && kept.iter().all(|manifest| manifest.number != **number));
        // Manifests first: none must name a chunk that is gone.
        for name in manifests.map(|number| manifest_name(*number)).chain(chunks) {
            self.store.delete(&name).map_err(|error| self.failed(&error))?;
        }
        Ok(())
    }
}

fn manifest_name(number: u64) -> String {
    format!("snapshot-{number}.json")
}

/// The numbers of manifests among names, the newest first.
fn numbers(listed: &[(String, u64)]) -> Vec<u64> {
    let number = |(name, _): &(String, u64)| name.strip_prefix("snapshot-")?.strip_suffix(".json")?.parse().ok();
    let mut numbers: Vec<u64> = listed.iter().filter_map(number).collect();
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    numbers
}

/// Writes one snapshot after the other: what has changed of the state, for the rest the chunks of the one before.
pub struct SnapshotWriter {
    snapshots: Snapshots,
    last: Option<Manifest>,
    put: HashMap<(String, usize), Chunk>,
}

impl SnapshotWriter {
    /// `last`: the snapshot that the state goes on from.
    #[must_use]
    pub fn new(snapshots: Snapshots, last: Option<Manifest>) -> Self {
        Self { snapshots, last, put: HashMap::new() }
    }

    /// Writes a chunk of a part.
    ///
    /// # Errors
    /// As [`Snapshots::put`].
    pub fn put(&mut self, part: String, number: usize, bytes: &[u8]) -> Result<(), String> {
        let chunk = self.snapshots.put(bytes)?;
        self.put.insert((part, number), chunk);
        Ok(())
    }

    /// Makes a snapshot of what was put, `chunks` for each part.
    ///
    /// # Errors
    /// As [`Snapshots::commit`]; a chunk that neither was put nor is part of the snapshot before.
    pub fn commit(&mut self, mut manifest: Manifest, chunks: Vec<usize>) -> Result<(), String> {
        for (part, count) in manifest.parts.iter_mut().zip(chunks) {
            let before = self.last.as_ref().and_then(|last| last.part(&part.name));
            for number in 0..count {
                let same = || before.and_then(|before| before.chunks.get(number)).cloned();
                let chunk = self.put.remove(&(part.name.clone(), number)).or_else(same);
                part.chunks.push(chunk.ok_or_else(|| format!("chunk {number} of {} was never copied", part.name))?);
            }
        }
        self.snapshots.commit(&mut manifest)?;
        self.put.clear();
        self.last = Some(manifest);
        Ok(())
    }

    /// Whether another process has taken the place.
    #[must_use]
    pub const fn is_lost(&self) -> bool {
        self.snapshots.is_lost()
    }

    /// Forgets what was put for a snapshot that was given up.
    pub fn give_up(&mut self) {
        self.put.clear();
    }
}
