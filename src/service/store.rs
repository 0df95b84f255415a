//! Compiled rules, and the files that they were made of, by their hashes.

use crate::connector::store::Store;
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

impl Kind {
    fn name(self, hash: &str) -> String {
        match self {
            Self::Artifact => format!("{hash}.dcep"),
            Self::Sources => format!("{hash}.json"),
        }
    }
}

/// The place for them, and a folder of this process where artifacts are mapped from: the same, or one to which they are fetched once.
#[derive(Clone, Debug)]
pub struct Artifacts {
    store: Store,
    folder: PathBuf,
}

impl Artifacts {
    /// Opens a place; artifacts of an object store are fetched to `cache`. Folders are made where there are none.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(store: Store, cache: PathBuf) -> io::Result<Self> {
        let folder = store.folder().cloned().unwrap_or(cache);
        make_folder(&folder)?;
        Ok(Self { store, folder })
    }

    /// Keeps what these bytes are; their hash. They are there whole, or not at all.
    ///
    /// # Errors
    /// What the system says.
    pub fn put(&self, kind: Kind, bytes: &[u8]) -> io::Result<String> {
        let hash = blake3::hash(bytes).to_hex().to_string();
        let name = kind.name(&hash);
        if !self.store.has(&name)? {
            self.store.put(&name, bytes)?;
        }
        Ok(hash)
    }

    /// The artifact with this hash.
    ///
    /// # Errors
    /// One that is not there, or is not what it was.
    pub fn get(&self, hash: &str) -> Result<Arc<Artifact>, String> {
        let name = Kind::Artifact.name(hash);
        let path = self.folder.join(&name);
        let open = || Artifact::open(&path).map(Arc::new).map_err(|error| format!("{}: {error}", path.display()));
        if self.store.folder().is_some() {
            return open();
        }
        // What was fetched once is there whole; where it is damaged since, it is fetched again.
        if let Ok(artifact) = open() {
            return Ok(artifact);
        }
        let bytes = self.checked(Kind::Artifact, hash)?;
        let cache = Store::Folder(self.folder.clone());
        cache.put(&name, &bytes).map_err(|error| format!("{}: {error}", path.display()))?;
        open()
    }

    /// The files with this hash.
    ///
    /// # Errors
    /// As [`Artifacts::get`].
    pub fn sources(&self, hash: &str) -> Result<Vec<u8>, String> {
        self.checked(Kind::Sources, hash)
    }

    fn checked(&self, kind: Kind, hash: &str) -> Result<Vec<u8>, String> {
        let name = kind.name(hash);
        let bytes = self.store.get(&name).map_err(|error| format!("{}: {name}: {error}", self.store))?;
        if blake3::hash(&bytes).to_hex().as_str() != hash {
            return Err(format!("{}: {name}: it is not what it was", self.store));
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

/// Does what may have to wait for a disk or for another machine, where nobody else has to wait for it.
///
/// # Errors
/// What `work` says, or that it ended otherwise.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
}
