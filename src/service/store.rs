//! Compiled rules by their hashes, in a folder.

use crate::tables::Artifact;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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

    fn path(&self, hash: &str) -> PathBuf {
        self.folder.join(format!("{hash}.dcep"))
    }

    /// Keeps an artifact; the hash of its bytes. It is there whole, or not at all.
    ///
    /// # Errors
    /// What the system says.
    pub fn put(&self, bytes: &[u8]) -> io::Result<String> {
        let hash = blake3::hash(bytes).to_hex().to_string();
        let path = self.path(&hash);
        if !path.exists() {
            let unfinished = self.folder.join(format!("{hash}.{}.unfinished", std::process::id()));
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
        let path = self.path(hash);
        Artifact::open(&path).map(Arc::new).map_err(|error| format!("{}: {error}", path.display()))
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
