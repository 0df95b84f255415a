//! Where things are kept by their names, each whole or not at all: in a folder, or in an object store that speaks S3.
//!
//! What is kept is never changed: its name is its hash, or a number that is given once. Errors are those of the system; of an object store [`io::ErrorKind::NotFound`] and
//! [`io::ErrorKind::AlreadyExists`] mean the same, and everything else that it cannot be asked now.

pub mod config;
#[cfg(feature = "s3")]
mod s3;

use config::Config;
use std::fmt;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What names of object stores begin with.
pub const S3_SCHEME: &str = "s3://";

/// The end of the names of files that are not whole yet.
pub const UNFINISHED: &str = ".unfinished";

/// A place for objects.
#[derive(Clone, Debug)]
pub enum Store {
    Folder(PathBuf),
    #[cfg(feature = "s3")]
    S3(s3::S3),
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            #[cfg(feature = "s3")]
            Self::S3(s3) => s3.fmt(f),
        }
    }
}

/// 64 bits that no other process has: the keys of hash tables are drawn from the system's.
#[must_use]
pub fn nonce() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

impl Store {
    /// A folder, or what `s3://bucket/prefix` names, which is then asked whether it keeps what must be kept.
    ///
    /// # Errors
    /// An object store that cannot be reached, or that overwrites what it should not; a program that was built without it.
    pub fn open(place: &Path, config: &Config) -> Result<Self, String> {
        match place.to_str().and_then(|place| place.strip_prefix(S3_SCHEME)) {
            None => Ok(Self::Folder(place.to_owned())),
            #[cfg(feature = "s3")]
            Some(name) => s3::S3::open(name, config).map(Self::S3),
            #[cfg(not(feature = "s3"))]
            Some(_) => {
                let _ = config;
                Err(config::without_feature(&place.display().to_string()))
            }
        }
    }

    /// A place within this one.
    #[must_use]
    pub fn join(&self, part: &str) -> Self {
        match self {
            Self::Folder(path) => Self::Folder(path.join(part)),
            #[cfg(feature = "s3")]
            Self::S3(s3) => Self::S3(s3.join(part)),
        }
    }

    /// The folder that it is, if it is one.
    #[must_use]
    pub const fn folder(&self) -> Option<&PathBuf> {
        match self {
            Self::Folder(path) => Some(path),
            #[cfg(feature = "s3")]
            Self::S3(_) => None,
        }
    }

    /// The names of what is there, with the length of each in bytes, in no order.
    ///
    /// # Errors
    /// What the system says.
    pub fn list(&self) -> io::Result<Vec<(String, u64)>> {
        match self {
            Self::Folder(path) => {
                let named = |entry: io::Result<std::fs::DirEntry>| {
                    let entry = entry?;
                    Ok((entry.file_name().to_string_lossy().into_owned(), entry.metadata()?.len()))
                };
                std::fs::read_dir(path)?.map(named).collect()
            }
            #[cfg(feature = "s3")]
            Self::S3(s3) => s3.list(),
        }
    }

    /// Whether something has this name.
    ///
    /// # Errors
    /// What the system says.
    pub fn has(&self, name: &str) -> io::Result<bool> {
        match self {
            Self::Folder(path) => Ok(path.join(name).exists()),
            #[cfg(feature = "s3")]
            Self::S3(s3) => s3.has(name),
        }
    }

    /// The bytes that have this name.
    ///
    /// # Errors
    /// What the system says.
    pub fn get(&self, name: &str) -> io::Result<Vec<u8>> {
        match self {
            Self::Folder(path) => std::fs::read(path.join(name)),
            #[cfg(feature = "s3")]
            Self::S3(s3) => s3.get(name),
        }
    }

    /// Keeps bytes by a name that is for these bytes alone, such as their hash.
    ///
    /// # Errors
    /// What the system says.
    pub fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Folder(path) => write_whole(path, name, bytes),
            #[cfg(feature = "s3")]
            Self::S3(s3) => s3.put(name, bytes),
        }
    }

    /// Keeps bytes by a name that nothing has yet. In a folder that is certain only for whoever holds its lock; in an object store for everybody.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`]: the name is taken, and stays what it was. That may be by these very bytes, when an answer of an object store was lost.
    pub fn create(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Folder(path) => {
                if path.join(name).exists() {
                    return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{name} is there already")));
                }
                write_whole(path, name, bytes)?;
                File::open(path)?.sync_all()
            }
            #[cfg(feature = "s3")]
            Self::S3(s3) => s3.create(name, bytes),
        }
    }

    /// Deletes what has this name; in an object store nothing may have it.
    ///
    /// # Errors
    /// What the system says.
    pub fn delete(&self, name: &str) -> io::Result<()> {
        match self {
            Self::Folder(path) => std::fs::remove_file(path.join(name)),
            #[cfg(feature = "s3")]
            Self::S3(s3) => s3.delete(name),
        }
    }
}

/// Writes a file to disk under another name first. Processes of other machines may write the same at the same time.
fn write_whole(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let path = folder.join(name);
    let temporary = folder.join(format!("{name}.{}{UNFINISHED}", nonce()));
    let mut file = File::create(&temporary)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        // A disk that is full would be the fuller for it; what cannot be removed, either, is without meaning.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}
