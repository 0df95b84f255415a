//! Snapshots as bytes: a manifest that says what state there is and how far the inputs were read, and chunks of state that it names by their hash.
//!
//! ```text
//! snapshot-7.json   dynamic-cep snapshot 3 <BLAKE3 of the version and the rest>
//!                   {"number": 7, "generation": …, "sources": […], "parts": [{"name": "windows/0", "head": …, "chunks": […]}, …]}
//! <BLAKE3>.chunk    one frame of zstd
//! ```
//! A chunk that has not changed is not written again: the next manifest names the same one. Whoever reads checks every hash first. This module touches no files.

use serde::{Deserialize, Serialize};
use std::io::Read;

/// The version of the format. A program reads those up to its own.
pub const FORMAT_VERSION: u32 = 3;

const MAGIC: &str = "dynamic-cep snapshot ";

/// Level 1 packs as fast as disks write; the next ones gain little.
const LEVEL: i32 = 1;

/// Bytes that a chunk unpacks to at most: no hostile one makes a program run out of memory.
const CHUNK_BYTES_MAX: u64 = 1 << 36;

/// How far an input was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub name: String,
    /// Bytes of the file when the snapshot was taken.
    pub bytes: u64,
    /// Hash of its first bytes, by which another file of the same name is told apart.
    pub head: String,
    /// Rows that were read, bad ones too.
    pub rows: u64,
}

/// A chunk of state in the file that bears its hash.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Chunk {
    /// BLAKE3 of the packed bytes, in hexadecimal digits.
    pub hash: String,
    /// Packed, and unpacked.
    pub packed: u64,
    pub bytes: u64,
}

/// A part of the state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// `windows/…`, `order`.
    pub name: String,
    /// What its owner has to say of it.
    pub head: serde_json::Value,
    pub chunks: Vec<Chunk>,
}

/// What a snapshot holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// One more than that of the snapshot before.
    pub number: u64,
    /// The version of the program that wrote it.
    pub program: String,
    /// The rules that the rows were judged by.
    pub generation: String,
    /// Nanoseconds that rows may be late.
    pub allowed_lateness: i64,
    /// Rows that were read of all inputs.
    pub rows: u64,
    pub sources: Vec<Source>,
    pub parts: Vec<Part>,
    /// Who wrote it, where no lock keeps others from writing; otherwise empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub writer: String,
}

/// Why a snapshot cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// Not what was written: an earlier one may be sound.
    Damaged(String),
    /// Written by a later version of the program.
    Newer(u32),
    /// The store cannot be asked now: what is there may well be sound.
    Unreachable(String),
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Damaged(what) => write!(f, "damaged: {what}"),
            Self::Unreachable(what) => write!(f, "cannot be read: {what}"),
            Self::Newer(version) => {
                write!(f, "written by a later version of the program, in format {version}; this one reads up to {FORMAT_VERSION}")
            }
        }
    }
}

fn damaged(what: impl Into<String>) -> Unusable {
    Unusable::Damaged(what.into())
}

/// Of what a file says; from format 3 on of its version, too, which others could be read by.
fn checksum(version: u32, text: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    if version >= 3 {
        hasher.update(&version.to_le_bytes());
    }
    hasher.update(text.as_bytes()).finalize().to_hex().to_string()
}

impl Manifest {
    /// As the bytes of a file.
    ///
    /// # Panics
    /// Never: JSON of such a structure can be written.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let text = serde_json::to_string_pretty(self).expect("plain data") + "\n";
        let hash = checksum(FORMAT_VERSION, &text);
        format!("{MAGIC}{FORMAT_VERSION} {hash}\n{text}").into_bytes()
    }

    /// What [`Manifest::encode`] wrote.
    ///
    /// # Errors
    /// Anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unusable> {
        let text = std::str::from_utf8(bytes).map_err(|_| damaged("not text"))?;
        let (first, text) = text.split_once('\n').ok_or_else(|| damaged("it ends too early"))?;
        let marks = first.strip_prefix(MAGIC).and_then(|rest| rest.split_once(' '));
        let (version, hash) = marks.ok_or_else(|| damaged("not a snapshot"))?;
        let version: u32 = version.parse().ok().filter(|version| *version > 0).ok_or_else(|| damaged("not a snapshot"))?;
        if version > FORMAT_VERSION {
            return Err(Unusable::Newer(version));
        }
        if checksum(version, text) != hash {
            return Err(damaged("its checksum is another"));
        }
        serde_json::from_str(text).map_err(|error| damaged(error.to_string()))
    }

    #[must_use]
    pub fn part(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.name == name)
    }

    /// Whether it says only whose the numbers after it are, and holds no state.
    #[must_use]
    pub const fn is_claim(&self) -> bool {
        !self.writer.is_empty() && self.sources.is_empty() && self.parts.is_empty()
    }

    /// All chunks that it names.
    pub fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.parts.iter().flat_map(|part| &part.chunks)
    }
}

impl Chunk {
    /// Packs bytes of state.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn pack(bytes: &[u8]) -> Result<(Self, Vec<u8>), String> {
        let packed = zstd::bulk::compress(bytes, LEVEL).map_err(|error| error.to_string())?;
        let hash = blake3::hash(&packed).to_hex().to_string();
        Ok((Self { hash, packed: packed.len() as u64, bytes: bytes.len() as u64 }, packed))
    }

    /// The bytes of state in `packed`, which is the content of its file.
    ///
    /// # Errors
    /// When that is not what was packed.
    pub fn unpack(&self, packed: &[u8]) -> Result<Vec<u8>, Unusable> {
        self.check(packed)?;
        let mut bytes = Vec::new();
        let decoder = zstd::Decoder::with_buffer(packed).map_err(|error| damaged(error.to_string()))?;
        decoder.take(self.bytes.min(CHUNK_BYTES_MAX) + 1).read_to_end(&mut bytes).map_err(|error| damaged(error.to_string()))?;
        if bytes.len() as u64 == self.bytes { Ok(bytes) } else { Err(damaged(format!("chunk {} has another length", self.hash))) }
    }

    /// Whether `packed` is the content of its file.
    ///
    /// # Errors
    /// When it is not.
    pub fn check(&self, packed: &[u8]) -> Result<(), Unusable> {
        if *blake3::hash(packed).to_hex() == *self.hash {
            Ok(())
        } else {
            Err(damaged(format!("chunk {} has another checksum", self.hash)))
        }
    }

    /// The name of its file; `None`: the hash is none.
    #[must_use]
    pub fn file(&self) -> Option<String> {
        let sound = self.hash.len() == 64 && self.hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        sound.then(|| format!("{}.chunk", self.hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let (chunk, _) = Chunk::pack(b"state").expect("memory");
        Manifest {
            number: 7,
            program: "0.1.0".to_owned(),
            generation: "abc".to_owned(),
            allowed_lateness: i64::MAX,
            rows: u64::MAX,
            sources: vec![Source { name: "a\n\"ü".to_owned(), bytes: 1 << 60, head: String::new(), rows: 3 }],
            parts: vec![Part { name: "order".to_owned(), head: serde_json::json!({"latest": i64::MIN}), chunks: vec![chunk] }],
            writer: String::new(),
        }
    }

    #[test]
    fn manifests_are_read_as_they_were_written_or_refused() {
        let bytes = manifest().encode();
        assert_eq!(Manifest::decode(&bytes), Ok(manifest()));
        for length in 0..bytes.len() {
            assert!(matches!(Manifest::decode(&bytes[..length]), Err(Unusable::Damaged(_))), "{length} bytes");
        }
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert!(Manifest::decode(&bytes).is_err(), "byte {at}");
        }
        let text = String::from_utf8(bytes).expect("text");
        assert_eq!(Manifest::decode(text.replacen("snapshot 3 ", "snapshot 4 ", 1).as_bytes()), Err(Unusable::Newer(4)));
    }

    #[test]
    fn chunks_are_unpacked_as_they_were_packed_or_refused() {
        let bytes: Vec<u8> = (0..5000_u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
        let (chunk, packed) = Chunk::pack(&bytes).expect("memory");
        assert!(packed.len() < bytes.len() / 2);
        assert_eq!(chunk.unpack(&packed), Ok(bytes.clone()));
        for at in 0..packed.len() {
            let mut packed = packed.clone();
            packed[at] ^= 0x10;
            assert!(chunk.unpack(&packed).is_err(), "byte {at}");
        }
        // Sound, but of another length than it says.
        for bytes in [0, 1, bytes.len() as u64 - 1, bytes.len() as u64 + 1, u64::MAX] {
            assert!(Chunk { bytes, ..chunk.clone() }.unpack(&packed).is_err(), "{bytes}");
        }
        assert_eq!(Chunk { hash: "../../etc/passwd".to_owned(), ..chunk }.file(), None);
    }
}
