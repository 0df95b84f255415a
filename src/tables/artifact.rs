//! The artifact: compiled rules in one file that is mapped into memory and used as it lies there.
//!
//! ```text
//! header (64 bytes)   magic, format version, number of sections, length of the file, content hash
//! section table       for each section: kind, offset, length, checksum (BLAKE3, first 16 bytes)
//! sections            each on a 64-byte boundary, in the order of the table
//! ```
//! The content hash is the BLAKE3 of version and section table; the table holds the sections' checksums, so one hash names the whole content: it is the
//! *generation* that decisions name. Integers are little-endian. What the tables refer to is checked once, on opening, so that
//! no later step can run out of bounds, whoever wrote the file.

mod checksum;

use super::layout::{Block, Group, LANES, MatchTables, NONE, NULL_CODE, Partition, Segment, SetTest, Tail, Term};
use crate::event::key::KeyKind;
use crate::event::{Field, Schema, Type};
use crate::expr::Expr;
use crate::id::{FieldId, RuleId};
use bytemuck::{AnyBitPattern, NoUninit, Pod, Zeroable};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

/// The first bytes of every artifact. Like PNG's, they show a transfer that mangled line ends or the high bit.
const MAGIC: [u8; 8] = *b"\x89DCEP\r\n\x1a";

/// The version of the format; it changes with every change that an older reader would misread.
pub const FORMAT_VERSION: u32 = 1;

/// Sections start on multiples of this.
const ALIGNMENT: usize = 64;

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
struct Header {
    magic: [u8; 8],
    version: u32,
    sections: u32,
    length: u64,
    content_hash: [u8; 32],
    reserved: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
struct SectionEntry {
    kind: u32,
    reserved: u32,
    offset: u64,
    length: u64,
    checksum: [u8; 16],
}

macro_rules! sections {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// What a section holds. Numbers are never used again for something else.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Section { $($(#[$doc])* $name = $number,)* }

        impl Section {
            /// Every section, in the order of the file.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

sections! {
    /// A [`Manifest`], as postcard.
    Manifest = 1,
    Partitions = 2,
    Segments = 3,
    Nodes = 4,
    NodeChildren = 5,
    Groups = 6,
    LeafBlocks = 7,
    Terms = 8,
    Tails = 9,
    SetTests = 10,
    Intervals = 11,
    /// `u64` keys of all columns with narrow keys, ascending in each column.
    NarrowKeys = 12,
    /// 128-bit keys as (low, high) halves.
    WideKeys = 13,
    /// Offsets (`u64`, one more than texts) into `TextBytes`: the keys of text columns.
    TextOffsets = 14,
    TextBytes = 15,
    /// `u32` codes, one for each key: first the narrow keys', then the wide keys', then the texts'.
    Codes = 16,
    /// A [`RuleRecord`] for each rule.
    Rules = 17,
    /// Offsets (`u64`, one more than names) into `NameBytes`: the ids of the rules in order, then tags and outcomes.
    NameOffsets = 18,
    NameBytes = 19,
    /// `u32` name numbers, a run for each rule.
    Tags = 20,
    /// Offsets (`u64`, one more than residuals) into `ResidualBytes`.
    ResidualOffsets = 21,
    /// Residual conditions ([`Expr`]), as postcard.
    ResidualBytes = 22,
    /// Offsets (`u64`, one more than blocks) into `SourceBytes`.
    SourceOffsets = 23,
    /// Canonical text of the conditions: zstd frames of [`SOURCE_BLOCK`] rules each, every text preceded by its length (`u32`).
    SourceBytes = 24,
}

/// Rules in one block of sources.
pub const SOURCE_BLOCK: usize = 512;

/// Bytes that a block of sources unpacks to at most: more than the language's limits allow, and less than a few packed bytes could claim.
const SOURCE_BLOCK_BYTES_MAX: u64 = 4 << 30;

/// Where the values of a column come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ColumnSource {
    Field(FieldId),
    /// An expression that is evaluated for every event.
    Derived(Expr),
}

/// A column of codes and where its thresholds lie.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    pub source: ColumnSource,
    pub kind: KeyKind,
    /// Keys in the section of their kind.
    pub keys: Range<u64>,
    /// Whether only equality with keys matters; see [`super::builder::Thresholds`].
    pub points_only: bool,
}

/// The small things: schema, tenants, columns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of the program that compiled it.
    pub compiler: String,
    pub fields: Vec<Field>,
    pub id: Option<FieldId>,
    pub tenant: Option<FieldId>,
    pub time: Option<FieldId>,
    pub key: Option<FieldId>,
    pub label: Option<FieldId>,
    /// Ascending; position `t` is [`crate::id::TenantId`] `t`, whose rules are partition `t + 1`.
    pub tenants: Vec<String>,
    pub columns: Vec<Column>,
}

/// What the engine knows of a rule besides its terms.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct RuleRecord {
    /// Thousandths.
    pub score: i64,
    /// [`crate::id::TenantId`], or [`NONE`] for every tenant.
    pub tenant: u32,
    /// A name, or [`NONE`].
    pub outcome: u32,
    pub first_tag: u32,
    pub tags: u16,
    /// 0 allow, 1 review, 2 challenge, 3 block.
    pub action: u8,
    /// 0 live, 1 shadow, 2 off.
    pub status: u8,
}

/// The names of the actions, weakest first: [`RuleRecord::action`] indexes them.
pub const ACTIONS: [&str; 4] = ["allow", "review", "challenge", "block"];

/// The names of the statuses: [`RuleRecord::status`] indexes them.
pub const STATUSES: [&str; 3] = ["live", "shadow", "off"];

/// Why an artifact cannot be used. The text says what is wrong and what to do.
#[derive(Debug)]
pub enum ArtifactError {
    Io(std::io::Error),
    /// Not an artifact at all.
    Foreign,
    Version(u32),
    Truncated {
        expected: u64,
        found: u64,
    },
    /// A part is not what its checksum says, or refers to what is not there.
    Corrupt(String),
}

impl fmt::Display for ArtifactError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "cannot read the artifact: {error}"),
            Self::Foreign => write!(f, "this file is not a compiled artifact; compile the rules with `dynamic-cep compile`"),
            Self::Version(found) => {
                write!(
                    f,
                    "the artifact has format version {found}, this program reads version {FORMAT_VERSION}; compile the rules again with this program"
                )
            }
            Self::Truncated { expected, found } => {
                write!(f, "the artifact is cut short: {found} bytes of {expected}; copy it again, or compile the rules again")
            }
            Self::Corrupt(what) => write!(f, "the artifact is damaged ({what}); copy it again, or compile the rules again"),
        }
    }
}

impl std::error::Error for ArtifactError {}

fn corrupt(what: impl Into<String>) -> ArtifactError {
    ArtifactError::Corrupt(what.into())
}

/// Bytes on a 64-byte boundary, in memory of our own or mapped from a file.
enum Storage {
    Owned { lines: Vec<Line>, length: usize },
    Mapped(memmap2::Mmap),
}

#[repr(C, align(64))]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Line([u8; ALIGNMENT]);

impl Storage {
    fn copy(bytes: &[u8]) -> Self {
        let mut lines = vec![Line([0; ALIGNMENT]); bytes.len().div_ceil(ALIGNMENT)];
        bytemuck::cast_slice_mut::<Line, u8>(&mut lines)[..bytes.len()].copy_from_slice(bytes);
        Self::Owned { lines, length: bytes.len() }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Owned { lines, length } => &bytemuck::cast_slice(lines)[..*length],
            Self::Mapped(map) => map,
        }
    }
}

/// Collects sections, then writes the file.
#[derive(Default)]
pub struct ArtifactWriter<'a> {
    sections: Vec<(Section, &'a [u8])>,
}

impl<'a> ArtifactWriter<'a> {
    /// Adds a section. Sections are written in the order of [`Section::ALL`]; one that is not added is empty.
    pub fn add<T: NoUninit>(&mut self, section: Section, content: &'a [T]) {
        self.sections.push((section, bytemuck::cast_slice(content)));
    }

    /// The bytes of the artifact. Equal content gives equal bytes.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.sections.sort_by_key(|(section, _)| *section);
        let table_length = Section::ALL.len() * size_of::<SectionEntry>();
        let align = |offset: usize| offset.next_multiple_of(ALIGNMENT);
        let mut offset = align(size_of::<Header>() + table_length);
        let mut table = Vec::with_capacity(Section::ALL.len());
        let mut contents = self.sections.into_iter().peekable();
        let mut ordered = Vec::with_capacity(Section::ALL.len());
        for &section in Section::ALL {
            let content = contents.next_if(|(kind, _)| *kind == section).map(|(_, content)| content).unwrap_or_default();
            table.push(SectionEntry {
                kind: section as u32,
                reserved: 0,
                offset: offset as u64,
                length: content.len() as u64,
                checksum: [0; 16],
            });
            offset = align(offset + content.len());
            ordered.push(content);
        }
        for (entry, hash) in table.iter_mut().zip(checksum::hashes(&ordered)) {
            entry.checksum.copy_from_slice(&hash[..16]);
        }
        let header = Header {
            magic: MAGIC,
            version: FORMAT_VERSION,
            sections: table.len() as u32,
            length: offset as u64,
            content_hash: content_hash(FORMAT_VERSION, bytemuck::cast_slice(&table)),
            reserved: 0,
        };
        let mut bytes = Vec::with_capacity(offset);
        bytes.extend_from_slice(bytemuck::bytes_of(&header));
        bytes.extend_from_slice(bytemuck::cast_slice(&table));
        for (entry, content) in table.iter().zip(ordered) {
            bytes.resize(entry.offset as usize, 0);
            bytes.extend_from_slice(content);
        }
        bytes.resize(offset, 0);
        bytes
    }
}

fn content_hash(version: u32, table: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&version.to_le_bytes());
    hasher.update(table);
    *hasher.finalize().as_bytes()
}

/// An opened artifact: checked, and used where it lies.
pub struct Artifact {
    storage: Storage,
    ranges: Vec<Range<usize>>,
    content_hash: [u8; 32],
    manifest: Manifest,
    schema: Schema,
    max_chain: u32,
}

impl fmt::Debug for Artifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Artifact").field("generation", &self.generation()).field("rules", &self.rules().len()).finish_non_exhaustive()
    }
}

impl Artifact {
    /// Maps the file at `path` into memory and checks it.
    ///
    /// # Errors
    /// When it cannot be read, is not an artifact, or is damaged.
    pub fn open(path: &Path) -> Result<Self, ArtifactError> {
        let file = std::fs::File::open(path).map_err(ArtifactError::Io)?;
        if file.metadata().map_err(ArtifactError::Io)?.len() == 0 {
            return Err(ArtifactError::Foreign);
        }
        // SAFETY: the mapping is read-only and lives as long as the artifact. A file that another process shortens or rewrites while it is mapped would break
        // this; artifacts are written under a temporary name and renamed, never changed in place, and the README says so to those who copy them.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(ArtifactError::Io)?;
        Self::new(Storage::Mapped(map))
    }

    /// An artifact from bytes in memory.
    ///
    /// # Errors
    /// When they are not an artifact, or damaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ArtifactError> {
        Self::new(Storage::copy(bytes))
    }

    /// Whether a file that starts with these bytes claims to be an artifact.
    #[must_use]
    pub fn claims(start: &[u8]) -> bool {
        start.starts_with(&MAGIC)
    }

    fn new(storage: Storage) -> Result<Self, ArtifactError> {
        if cfg!(target_endian = "big") {
            return Err(corrupt("artifacts are little-endian, this machine is not"));
        }
        let bytes = storage.bytes();
        if !Self::claims(bytes) {
            return Err(ArtifactError::Foreign);
        }
        let found = bytes.len() as u64;
        let Some(header) = bytes.get(..size_of::<Header>()) else {
            return Err(ArtifactError::Truncated { expected: size_of::<Header>() as u64, found });
        };
        let header: Header = bytemuck::pod_read_unaligned(header);
        if header.version != FORMAT_VERSION {
            return Err(ArtifactError::Version(header.version));
        }
        if header.reserved != 0 {
            return Err(corrupt("header"));
        }
        if header.length != found {
            if header.length > found {
                return Err(ArtifactError::Truncated { expected: header.length, found });
            }
            return Err(corrupt("bytes follow its end"));
        }
        let table_end = size_of::<Header>() + Section::ALL.len() * size_of::<SectionEntry>();
        if header.sections as usize != Section::ALL.len() || bytes.len() < table_end {
            return Err(corrupt("section table"));
        }
        let table = &bytes[size_of::<Header>()..table_end];
        if content_hash(header.version, table) != header.content_hash {
            return Err(corrupt("the content hash does not match"));
        }
        let mut ranges = Vec::with_capacity(Section::ALL.len());
        for (section, entry) in Section::ALL.iter().zip(bytemuck::cast_slice::<u8, SectionEntry>(table)) {
            let start = usize::try_from(entry.offset).map_err(|_| corrupt("section table"))?;
            let end = usize::try_from(entry.length).ok().and_then(|length| start.checked_add(length)).filter(|end| *end <= bytes.len());
            let Some(end) = end.filter(|_| entry.kind == *section as u32 && start.is_multiple_of(ALIGNMENT)) else {
                return Err(corrupt(format!("place of section {section:?}")));
            };
            ranges.push(start..end);
        }
        let contents: Vec<&[u8]> = ranges.iter().map(|range| &bytes[range.clone()]).collect();
        let hashes = checksum::hashes(&contents);
        for ((section, entry), hash) in Section::ALL.iter().zip(bytemuck::cast_slice::<u8, SectionEntry>(table)).zip(hashes) {
            if hash[..16] != entry.checksum {
                return Err(corrupt(format!("checksum of section {section:?}")));
            }
        }
        let manifest: Manifest = postcard::from_bytes(&bytes[ranges[0].clone()]).map_err(|error| corrupt(format!("manifest: {error}")))?;
        let mut schema = Schema::new(manifest.fields.clone()).map_err(|name| corrupt(format!("manifest: field {name} twice")))?;
        (schema.id, schema.tenant, schema.time) = (manifest.id, manifest.tenant, manifest.time);
        (schema.key, schema.label) = (manifest.key, manifest.label);
        let mut artifact = Self { content_hash: header.content_hash, storage, ranges, manifest, schema, max_chain: 1 };
        artifact.check()?;
        artifact.max_chain = artifact.section::<Group>(Section::Groups).iter().map(|group| group.blocks).max().unwrap_or(1);
        Ok(artifact)
    }

    /// Checks every reference from one part to another.
    fn check(&self) -> Result<(), ArtifactError> {
        let ensure = |holds: bool, what: &str| if holds { Ok(()) } else { Err(corrupt(what)) };
        for (section, size) in [
            (Section::Partitions, size_of::<Partition>()),
            (Section::Segments, size_of::<Segment>()),
            (Section::Nodes, size_of::<Block>()),
            (Section::NodeChildren, 4),
            (Section::Groups, size_of::<Group>()),
            (Section::LeafBlocks, size_of::<Block>()),
            (Section::Terms, size_of::<Term>()),
            (Section::Tails, size_of::<Tail>()),
            (Section::SetTests, size_of::<SetTest>()),
            (Section::Intervals, 8),
            (Section::NarrowKeys, 8),
            (Section::WideKeys, 16),
            (Section::TextOffsets, 8),
            (Section::Codes, 4),
            (Section::Rules, size_of::<RuleRecord>()),
            (Section::NameOffsets, 8),
            (Section::Tags, 4),
            (Section::ResidualOffsets, 8),
            (Section::SourceOffsets, 8),
        ] {
            ensure(self.bytes(section).len().is_multiple_of(size), "length of a section")?;
        }
        self.check_manifest()?;
        let tables = self.tables();
        let columns = tables.columns;
        let within = |first: u32, count: u32, length: usize| u64::from(first) + u64::from(count) <= length as u64;
        let blocks_fit = |blocks: &[Block]| {
            blocks
                .iter()
                .all(|block| block.columns.iter().all(|pair| ((pair & 0xffff) as usize) < columns && ((pair >> 16) as usize) < columns))
        };
        ensure(blocks_fit(tables.nodes) && blocks_fit(tables.leaf_blocks), "a slot names a column that is not there")?;
        ensure(tables.partitions.len() == self.manifest.tenants.len() + 1, "number of partitions")?;
        for partition in tables.partitions {
            ensure(within(partition.first_segment, partition.segments, tables.segments.len()), "segments of a partition")?;
        }
        ensure(tables.node_children.len() == tables.nodes.len(), "children of the nodes")?;
        for segment in tables.segments {
            self.check_segment(&tables, segment).then_some(()).ok_or_else(|| corrupt("a segment"))?;
        }
        for group in tables.groups {
            ensure(group.blocks > 0 && within(group.first_block, group.blocks, tables.leaf_blocks.len()), "blocks of a group")?;
        }
        ensure(tables.terms.len() == tables.groups.len() * LANES, "number of terms")?;
        let (rules, tails) = (self.rules().len(), tables.tails.len());
        ensure(tables.terms.iter().all(|term| term.rule == NONE || (term.rule as usize) < rules), "rule of a term")?;
        ensure(tables.terms.iter().all(|term| term.tail == NONE || (term.tail as usize) < tails), "tail of a term")?;
        let residuals = self.residual_count();
        for tail in tables.tails {
            ensure(within(tail.first_set, tail.sets, tables.set_tests.len()), "lists of a term")?;
            ensure(tail.residual == NONE || (tail.residual as usize) < residuals, "residual of a term")?;
        }
        for test in tables.set_tests {
            ensure((test.column as usize) < columns && within(test.first_interval, test.intervals, tables.intervals.len()), "a list")?;
        }
        let names = self.section::<u64>(Section::NameOffsets).len().saturating_sub(1);
        ensure(names >= self.rules().len(), "names of the rules")?;
        let tags = self.section::<u32>(Section::Tags);
        ensure(tags.iter().all(|tag| (*tag as usize) < names), "tags")?;
        for rule in self.rules() {
            ensure(usize::from(rule.action) < ACTIONS.len() && usize::from(rule.status) < STATUSES.len(), "a rule's action or status")?;
            ensure(rule.tenant == NONE || (rule.tenant as usize) < self.manifest.tenants.len(), "a rule's tenant")?;
            ensure(rule.outcome == NONE || (rule.outcome as usize) < names, "a rule's outcome")?;
            ensure(within(rule.first_tag, u32::from(rule.tags), tags.len()), "a rule's tags")?;
        }
        for (offsets, bytes) in [
            (Section::NameOffsets, Section::NameBytes),
            (Section::TextOffsets, Section::TextBytes),
            (Section::ResidualOffsets, Section::ResidualBytes),
            (Section::SourceOffsets, Section::SourceBytes),
        ] {
            let offsets = self.section::<u64>(offsets);
            let end = offsets.last().copied().unwrap_or(0);
            ensure(offsets.is_sorted() && end == self.bytes(bytes).len() as u64, "offsets of texts")?;
        }
        for (offsets, bytes) in [(Section::NameOffsets, Section::NameBytes), (Section::TextOffsets, Section::TextBytes)] {
            let text = std::str::from_utf8(self.bytes(bytes)).map_err(|_| corrupt("a text is not UTF-8"))?;
            ensure(self.section::<u64>(offsets).iter().all(|offset| text.is_char_boundary(*offset as usize)), "offsets of texts")?;
        }
        let blocks = self.section::<u64>(Section::SourceOffsets).len().saturating_sub(1);
        ensure(blocks == self.rules().len().div_ceil(SOURCE_BLOCK), "sources of the rules")?;
        self.check_keys()
    }

    fn check_segment(&self, tables: &MatchTables, segment: &Segment) -> bool {
        let nodes = u64::from(segment.first_node)..u64::from(segment.first_node) + u64::from(segment.nodes);
        let groups = u64::from(segment.first_group)..u64::from(segment.first_group) + u64::from(segment.groups);
        let blocks = u64::from(segment.first_block)..u64::from(segment.first_block) + u64::from(segment.blocks);
        if nodes.end > tables.nodes.len() as u64 || groups.end > tables.groups.len() as u64 || blocks.end > tables.leaf_blocks.len() as u64
        {
            return false;
        }
        let owns_blocks = tables.groups[groups.start as usize..groups.end as usize].iter().all(|group| {
            u64::from(group.first_block) >= blocks.start && u64::from(group.first_block) + u64::from(group.blocks) <= blocks.end
        });
        if !owns_blocks {
            return false;
        }
        if segment.height == 0 {
            return groups.contains(&u64::from(segment.root)) && segment.nodes == 0;
        }
        // Walk level by level from the root; a level's nodes all have children one level below, in place and in range.
        if segment.height > 8 || !nodes.contains(&u64::from(segment.root)) {
            return false;
        }
        let mut level = vec![segment.root];
        for height in (0..segment.height).rev() {
            let mut below = Vec::new();
            for node in level {
                let first = tables.node_children[node as usize];
                let block = &tables.nodes[node as usize];
                for lane in 0..LANES as u32 {
                    let possible = block.low[0][lane as usize] != super::layout::IMPOSSIBLE || block.span[0][lane as usize] != 0;
                    if possible {
                        let child = u64::from(first) + u64::from(lane);
                        let range = if height == 0 { &groups } else { &nodes };
                        if !range.contains(&child) {
                            return false;
                        }
                        below.push(child as u32);
                    }
                }
            }
            if below.len() > tables.groups.len() {
                return false;
            }
            level = below;
        }
        true
    }

    fn check_manifest(&self) -> Result<(), ArtifactError> {
        let ensure = |holds: bool, what: &str| if holds { Ok(()) } else { Err(corrupt(what)) };
        let fields = &self.manifest.fields;
        ensure(fields.iter().all(|field| field.ty.is_in_range()), "type of a field")?;
        let field_fits = |field: FieldId| field.index() < fields.len();
        let roles = [self.manifest.id, self.manifest.tenant, self.manifest.time, self.manifest.key, self.manifest.label];
        ensure(roles.into_iter().flatten().all(field_fits), "a role names a field that is not there")?;
        ensure(!self.manifest.columns.is_empty() && self.manifest.columns.len() <= usize::from(u16::MAX), "number of columns")?;
        let count = |kind| match kind {
            KeyKind::Narrow => self.section::<u64>(Section::NarrowKeys).len(),
            KeyKind::Wide => self.section::<[u64; 2]>(Section::WideKeys).len(),
            KeyKind::Text => self.section::<u64>(Section::TextOffsets).len().saturating_sub(1),
        };
        for column in &self.manifest.columns {
            ensure(column.keys.start <= column.keys.end && column.keys.end <= count(column.kind) as u64, "thresholds of a column")?;
            match &column.source {
                ColumnSource::Field(field) => {
                    ensure(field_fits(*field), "a column names a field that is not there")?;
                    ensure(KeyKind::of(self.schema.field(*field).ty) == Some(column.kind), "kind of a column's keys")?;
                }
                ColumnSource::Derived(expr) => {
                    ensure(expr.is_well_formed(fields), "expression of a column")?;
                    ensure(KeyKind::of(expr.ty(expr.root())) == Some(column.kind), "kind of a column's keys")?;
                }
            }
        }
        let codes = count(KeyKind::Narrow) + count(KeyKind::Wide) + count(KeyKind::Text);
        ensure(self.section::<u32>(Section::Codes).len() == codes, "number of codes")?;
        ensure(self.section::<u32>(Section::Codes).iter().all(|code| *code > NULL_CODE && *code < u32::MAX - 1), "a code")
    }

    /// The keys of every column ascend: the search among them relies on it.
    fn check_keys(&self) -> Result<(), ArtifactError> {
        for column in &self.manifest.columns {
            let ascending = match self.thresholds(column) {
                ThresholdKeys::Narrow { keys, .. } => keys.is_sorted_by(|a, b| a < b),
                ThresholdKeys::Wide { keys, .. } => keys.is_sorted_by_key(|[low, high]| (*high, *low)),
                ThresholdKeys::Text { offsets, bytes, .. } => offsets
                    .windows(3)
                    .all(|window| bytes[window[0] as usize..window[1] as usize] <= bytes[window[1] as usize..window[2] as usize]),
            };
            if !ascending {
                return Err(corrupt("order of the thresholds"));
            }
        }
        Ok(())
    }

    fn bytes(&self, section: Section) -> &[u8] {
        &self.storage.bytes()[self.ranges[section as usize - 1].clone()]
    }

    /// The content of a section as a slice; its length was checked on opening.
    fn section<T: AnyBitPattern>(&self, section: Section) -> &[T] {
        bytemuck::cast_slice(self.bytes(section))
    }

    /// The match tables.
    #[must_use]
    pub fn tables(&self) -> MatchTables<'_> {
        MatchTables {
            columns: self.manifest.columns.len().next_multiple_of(LANES),
            partitions: self.section(Section::Partitions),
            segments: self.section(Section::Segments),
            nodes: self.section(Section::Nodes),
            node_children: self.section(Section::NodeChildren),
            groups: self.section(Section::Groups),
            leaf_blocks: self.section(Section::LeafBlocks),
            terms: self.section(Section::Terms),
            tails: self.section(Section::Tails),
            set_tests: self.section(Section::SetTests),
            intervals: self.section(Section::Intervals),
        }
    }

    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    #[must_use]
    pub const fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The content hash in hexadecimal: what decisions name.
    #[must_use]
    pub fn generation(&self) -> String {
        self.content_hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Bytes of the whole file, and of each section.
    #[must_use]
    pub fn sizes(&self) -> (usize, Vec<(Section, usize)>) {
        (self.storage.bytes().len(), Section::ALL.iter().map(|section| (*section, self.bytes(*section).len())).collect())
    }

    /// Blocks in the longest chain of a group.
    #[must_use]
    pub const fn max_chain(&self) -> u32 {
        self.max_chain
    }

    #[must_use]
    pub fn rules(&self) -> &[RuleRecord] {
        self.section(Section::Rules)
    }

    #[must_use]
    pub fn rule(&self, rule: RuleId) -> &RuleRecord {
        &self.rules()[rule.index()]
    }

    /// The id of a rule, as its source states it.
    #[must_use]
    pub fn rule_name(&self, rule: RuleId) -> &str {
        self.name(rule.0)
    }

    /// A name by its number: of a rule, a tag or an outcome.
    #[must_use]
    pub fn name(&self, number: u32) -> &str {
        text_at(self.section(Section::NameOffsets), self.bytes(Section::NameBytes), number as usize)
    }

    /// The rule of this id. Linear: for people, not for the engine.
    #[must_use]
    pub fn find_rule(&self, name: &str) -> Option<RuleId> {
        (0..self.rules().len()).map(RuleId::new).find(|rule| self.rule_name(*rule) == name)
    }

    /// The tags of a rule.
    pub fn tags(&self, rule: RuleId) -> impl Iterator<Item = &str> {
        let record = self.rule(rule);
        let first = record.first_tag as usize;
        self.section::<u32>(Section::Tags)[first..first + usize::from(record.tags)].iter().map(|tag| self.name(*tag))
    }

    /// The canonical text of a rule's condition.
    ///
    /// # Errors
    /// When the block of texts cannot be unpacked.
    pub fn source(&self, rule: RuleId) -> Result<String, ArtifactError> {
        let mut block = self.source_block(rule.index() / SOURCE_BLOCK)?;
        Ok(block.swap_remove(rule.index() % SOURCE_BLOCK))
    }

    /// The canonical texts of [`SOURCE_BLOCK`] rules from `block * SOURCE_BLOCK` on (fewer in the last block).
    ///
    /// # Errors
    /// When the block cannot be unpacked.
    pub fn source_block(&self, block: usize) -> Result<Vec<String>, ArtifactError> {
        let packed = slice_at(self.section(Section::SourceOffsets), self.bytes(Section::SourceBytes), block);
        let mut unpacked = Vec::new();
        let read = zstd::Decoder::new(packed).and_then(|decoder| decoder.take(SOURCE_BLOCK_BYTES_MAX + 1).read_to_end(&mut unpacked));
        read.map_err(|error| corrupt(format!("sources: {error}")))?;
        if unpacked.len() as u64 > SOURCE_BLOCK_BYTES_MAX {
            return Err(corrupt("sources of the rules"));
        }
        let mut unpacked = unpacked.into_iter();
        let mut texts = Vec::new();
        while unpacked.len() > 0 {
            let mut length = [0; 4];
            length.iter_mut().for_each(|byte| *byte = unpacked.next().unwrap_or(0));
            let text: Vec<u8> = unpacked.by_ref().take(u32::from_le_bytes(length) as usize).collect();
            texts.push(String::from_utf8(text).map_err(|_| corrupt("a source is not UTF-8"))?);
        }
        let rules = self.rules().len().saturating_sub(block * SOURCE_BLOCK).min(SOURCE_BLOCK);
        if texts.len() == rules { Ok(texts) } else { Err(corrupt("sources of the rules")) }
    }

    fn residual_count(&self) -> usize {
        self.section::<u64>(Section::ResidualOffsets).len().saturating_sub(1)
    }

    /// The residual conditions, in order.
    ///
    /// # Errors
    /// When one of them is not a well-formed condition.
    pub fn residuals(&self) -> Result<Vec<Expr>, ArtifactError> {
        let offsets: &[u64] = self.section(Section::ResidualOffsets);
        (0..self.residual_count())
            .map(|index| {
                let expr: Expr = postcard::from_bytes(slice_at(offsets, self.bytes(Section::ResidualBytes), index))
                    .map_err(|error| corrupt(format!("residual {index}: {error}")))?;
                let is_condition = expr.is_well_formed(&self.manifest.fields) && expr.ty(expr.root()) == Type::Bool;
                if is_condition { Ok(expr) } else { Err(corrupt(format!("residual {index}"))) }
            })
            .collect()
    }

    /// The thresholds of a column: keys and their codes.
    #[must_use]
    pub fn thresholds(&self, column: &Column) -> ThresholdKeys<'_> {
        let range = column.keys.start as usize..column.keys.end as usize;
        let narrow: &[u64] = self.section(Section::NarrowKeys);
        let wide: &[[u64; 2]] = self.section(Section::WideKeys);
        let codes: &[u32] = self.section(Section::Codes);
        match column.kind {
            KeyKind::Narrow => ThresholdKeys::Narrow { keys: &narrow[range.clone()], codes: &codes[range] },
            KeyKind::Wide => {
                let first = narrow.len();
                ThresholdKeys::Wide { keys: &wide[range.clone()], codes: &codes[first + range.start..first + range.end] }
            }
            KeyKind::Text => {
                let first = narrow.len() + wide.len();
                let offsets = if range.is_empty() { &[][..] } else { &self.section::<u64>(Section::TextOffsets)[range.start..=range.end] };
                ThresholdKeys::Text {
                    offsets,
                    bytes: self.bytes(Section::TextBytes),
                    codes: &codes[first + range.start..first + range.end],
                }
            }
        }
    }
}

/// The thresholds of one column, ascending, with their codes.
#[derive(Clone, Copy, Debug)]
pub enum ThresholdKeys<'a> {
    Narrow {
        keys: &'a [u64],
        codes: &'a [u32],
    },
    /// (low, high) halves.
    Wide {
        keys: &'a [[u64; 2]],
        codes: &'a [u32],
    },
    Text {
        offsets: &'a [u64],
        bytes: &'a [u8],
        codes: &'a [u32],
    },
}

impl ThresholdKeys<'_> {
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::Narrow { codes, .. } | Self::Wide { codes, .. } | Self::Text { codes, .. } => codes.len(),
        }
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Run `index` of `bytes`, cut by `offsets`.
#[must_use]
pub fn slice_at<'a>(offsets: &[u64], bytes: &'a [u8], index: usize) -> &'a [u8] {
    &bytes[offsets[index] as usize..offsets[index + 1] as usize]
}

fn text_at<'a>(offsets: &[u64], bytes: &'a [u8], index: usize) -> &'a str {
    std::str::from_utf8(slice_at(offsets, bytes, index)).unwrap_or("")
}

#[cfg(test)]
mod tests;
