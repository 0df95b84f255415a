//! Compiled rules, and the files that they were made of, by their hashes, in a folder.

use crate::tables::Artifact;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Artifact,
    /// The files of a version.
    Sources,
}

/// The folder.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// Opens a folder, which is made where there is none.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(folder: PathBuf) -> io::Result<Self> {
        make_folder(&folder)?;
        Ok(Self { folder })
    }

    fn path(&self, kind: Kind, hash: &str) -> PathBuf {
        self.folder.join(match kind {
            Kind::Artifact => format!("{hash}.dcep"),
            Kind::Sources => format!("{hash}.json"),
        })
    }

    /// Keeps what these bytes are; their hash. They are there whole, or not at all.
    ///
    /// # Errors
    /// What the system says.
    pub fn put(&self, kind: Kind, bytes: &[u8]) -> io::Result<String> {
        let hash = blake3::hash(bytes).to_hex().to_string();
        let path = self.path(kind, &hash);
        if !path.exists() {
            // Processes of other machines may write the same at the same time, and have the same number.
            let mut nonce = [0_u8; 8];
            getrandom::fill(&mut nonce).map_err(|error| io::Error::other(error.to_string()))?;
            let unfinished = self.folder.join(format!("{hash}.{:016x}.unfinished", u64::from_le_bytes(nonce)));
            write_whole(&unfinished, bytes)?;
            fs::rename(&unfinished, &path)?;
        }
        Ok(hash)
    }

    /// The artifact with this hash.
    ///
    /// # Errors
    /// One that is not there, or is not what it was.
    pub fn get(&self, hash: &str) -> Result<Arc<Artifact>, String> {
        let path = self.path(Kind::Artifact, hash);
        Artifact::open(&path).map(Arc::new).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// The files with this hash.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn sources(&self, hash: &str) -> Result<Vec<u8>, String> {
        let path = self.path(Kind::Sources, hash);
        let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        if blake3::hash(&bytes).to_hex().as_str() != hash {
            return Err(format!("{}: it is not what it was", path.display()));
        }
        Ok(bytes)
    }
}

/// Makes a folder, and those around it, where there is none.
///
/// # Errors
/// What the system says.
pub fn make_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

/// Writes a file and has it on disk.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use io::Write;
    let mut file = fs::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
