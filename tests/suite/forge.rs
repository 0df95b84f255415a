//! Artifacts taken apart and put together again with valid checksums: what a faulty writer, or a malicious one, might make.

use dynamic_cep::tables::artifact::Section;
use std::ops::Range;

/// Where the header says things; see `src/tables/artifact.rs`.
const VERSION: Range<usize> = 8..12;
const LENGTH: Range<usize> = 16..24;
const HASH: Range<usize> = 24..56;
const HEADER: usize = 64;
const ENTRY: usize = 40;
const ALIGNMENT: usize = 64;

/// The header's length and the section table's, up to where the first section may start.
pub const TABLE_END: usize = HEADER + Section::ALL.len() * ENTRY;

fn number(bytes: &[u8]) -> usize {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes")) as usize
}

/// The section's bytes within the artifact.
pub fn range(artifact: &[u8], section: Section) -> Range<usize> {
    let entry = HEADER + (section as usize - 1) * ENTRY;
    let (offset, length) = (number(&artifact[entry + 8..entry + 16]), number(&artifact[entry + 16..entry + 24]));
    offset..offset.saturating_add(length)
}

/// Writes the checksums and the content hash that belong to the bytes as they are.
pub fn seal(artifact: &mut [u8]) {
    for &section in Section::ALL {
        let entry = HEADER + (section as usize - 1) * ENTRY;
        let Some(content) = artifact.get(range(artifact, section)) else { continue };
        let checksum = blake3::hash(content);
        artifact[entry + 24..entry + 40].copy_from_slice(&checksum.as_bytes()[..16]);
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&artifact[VERSION]);
    hasher.update(&artifact[HEADER..TABLE_END]);
    let hash = *hasher.finalize().as_bytes();
    artifact[HASH].copy_from_slice(&hash);
}

/// The artifact with another content in this section, sealed.
pub fn with_section(artifact: &[u8], section: Section, content: &[u8]) -> Vec<u8> {
    let mut forged = artifact[..TABLE_END].to_vec();
    for &other in Section::ALL {
        forged.resize(forged.len().next_multiple_of(ALIGNMENT), 0);
        let content = if other == section { content } else { &artifact[range(artifact, other)] };
        let entry = HEADER + (other as usize - 1) * ENTRY;
        let offset = forged.len() as u64;
        forged[entry + 8..entry + 16].copy_from_slice(&offset.to_le_bytes());
        forged[entry + 16..entry + 24].copy_from_slice(&(content.len() as u64).to_le_bytes());
        forged.extend_from_slice(content);
    }
    forged.resize(forged.len().next_multiple_of(ALIGNMENT), 0);
    let length = forged.len() as u64;
    forged[LENGTH].copy_from_slice(&length.to_le_bytes());
    seal(&mut forged);
    forged
}

/// The artifact with this section edited in place, sealed.
pub fn edited(artifact: &[u8], section: Section, edit: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut forged = artifact.to_vec();
    let range = range(artifact, section);
    edit(&mut forged[range]);
    seal(&mut forged);
    forged
}
