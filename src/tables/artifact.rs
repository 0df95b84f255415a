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
mod temporal;

use super::layout::{
    AT_EDGES, BITMAP_BUCKETS, Bitmap, BitmapTile, CODE_MAX, Group, IMPOSSIBLE, LANES, MatchTables, NONE, Node, Partition, Segment, SetTest,
    SlotLanes, Tail,
};
use crate::event::key::KeyKind;
use crate::event::{Field, Schema, Type};
use crate::expr::Expr;
use crate::id::{FieldId, RuleId};
use crate::pattern::Pattern;
use crate::window::WindowColumn;
use bytemuck::{AnyBitPattern, NoUninit, Pod, Zeroable};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// The first bytes of every artifact. Like PNG's, they show a transfer that mangled line ends or the high bit.
const MAGIC: [u8; 8] = *b"\x89DCEP\r\n\x1a";

/// The version of the format; it changes with every change that an older reader would misread.
pub const FORMAT_VERSION: u32 = 4;

/// The oldest version that is read.
const FORMAT_VERSION_MIN: u32 = 2;

/// Codes in a row of events are a multiple of this: one 512-bit register.
const CODES_ALIGNMENT: usize = 16;

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
        /// What a section holds. A number changes its meaning only with the version of the format.
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
    LeafSlots = 7,
    TermRules = 8,
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
    /// `u32` steps, one for each column; see [`MatchTables::steps`].
    Steps = 16,
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
    TailRefs = 25,
    NodeBitmaps = 26,
    BitmapTiles = 27,
    BitmapColumns = 28,
    Bitmaps = 29,
    /// Pairs of a rule and its [`Pattern`], ascending by rule, as postcard; nothing where there are none.
    Patterns = 30,
    /// The [`WindowColumn`]s that the last fields of the manifest are, those with names first, as postcard; nothing where there are none.
    Windows = 31,
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
    events: Schema,
    windows: Vec<WindowColumn>,
    patterns: Vec<(RuleId, Arc<Pattern>)>,
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
        if !(FORMAT_VERSION_MIN..=FORMAT_VERSION).contains(&header.version) {
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
        let sections = match header.version {
            2 => Section::Bitmaps as usize,
            3 => Section::Patterns as usize,
            _ => Section::ALL.len(),
        };
        let table_end = size_of::<Header>() + sections * size_of::<SectionEntry>();
        if header.sections as usize != sections || bytes.len() < table_end {
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
        // Sections that came later are empty in older files.
        ranges.resize(Section::ALL.len(), 0..0);
        let manifest: Manifest = postcard::from_bytes(&bytes[ranges[0].clone()]).map_err(|error| corrupt(format!("manifest: {error}")))?;
        let mut schema = Schema::new(manifest.fields.clone()).map_err(|name| corrupt(format!("manifest: field {name} twice")))?;
        (schema.id, schema.tenant, schema.time) = (manifest.id, manifest.tenant, manifest.time);
        (schema.key, schema.label) = (manifest.key, manifest.label);
        let windows = temporal::windows(&bytes[ranges[Section::Windows as usize - 1].clone()], &schema)?;
        let mut events = schema.clone();
        events.truncate(schema.fields().len() - windows.len());
        let named = windows.iter().take_while(|column| column.name.is_some()).count();
        let seen_by_patterns = &manifest.fields[..events.fields().len() + named];
        let patterns = temporal::patterns(&bytes[ranges[Section::Patterns as usize - 1].clone()], seen_by_patterns)?;
        let artifact = Self { content_hash: header.content_hash, storage, ranges, manifest, schema, events, windows, patterns };
        artifact.check()?;
        Ok(artifact)
    }

    /// Checks every reference from one part to another.
    fn check(&self) -> Result<(), ArtifactError> {
        let ensure = |holds: bool, what: &str| if holds { Ok(()) } else { Err(corrupt(what)) };
        for (section, size) in [
            (Section::Partitions, size_of::<Partition>()),
            (Section::Segments, size_of::<Segment>()),
            (Section::Nodes, size_of::<Node>()),
            (Section::NodeChildren, 4),
            (Section::Groups, size_of::<Group>()),
            (Section::LeafSlots, size_of::<SlotLanes>()),
            (Section::TermRules, 4),
            (Section::TailRefs, 4),
            (Section::NodeBitmaps, 4),
            (Section::BitmapTiles, size_of::<BitmapTile>()),
            (Section::BitmapColumns, 4),
            (Section::Bitmaps, size_of::<Bitmap>()),
            (Section::Tails, size_of::<Tail>()),
            (Section::SetTests, size_of::<SetTest>()),
            (Section::Intervals, 8),
            (Section::NarrowKeys, 8),
            (Section::WideKeys, 16),
            (Section::TextOffsets, 8),
            (Section::Steps, 4),
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
        let columns = self.manifest.columns.len();
        let within = |first: u32, count: u32, length: usize| u64::from(first) + u64::from(count) <= length as u64;
        // All columns at once, and no early end: this is most of the file, and a loop without branches reads it at the speed of memory.
        let highest = |slots: &[SlotLanes]| slots.iter().flat_map(|slot| slot.columns).fold(0, u16::max);
        let highest_of_nodes = tables.nodes.iter().map(|node| highest(&node.slots)).max().unwrap_or(0);
        let used = highest(tables.leaf_slots).max(highest_of_nodes);
        ensure(usize::from(used) < self.manifest.columns.len(), "a slot names a column that is not there")?;
        ensure(tables.partitions.len() == self.manifest.tenants.len() + 1, "number of partitions")?;
        for partition in tables.partitions {
            ensure(within(partition.first_segment, partition.segments, tables.segments.len()), "segments of a partition")?;
        }
        ensure(tables.node_children.len() == tables.nodes.len(), "children of the nodes")?;
        for segment in tables.segments {
            self.check_segment(&tables, segment).then_some(()).ok_or_else(|| corrupt("a segment"))?;
        }
        for group in tables.groups {
            ensure((group.slots[0] as usize) < tables.leaf_slots.len(), "slots of a group")?;
            ensure(within(group.first_tail, group.tailed.count_ones(), tables.tail_refs.len()), "tails of a group")?;
        }
        ensure(tables.term_rules.len() == tables.groups.len() * LANES, "number of terms")?;
        let rules = self.rules().len() as u32;
        ensure(tables.term_rules.iter().all(|rule| *rule == NONE || *rule < rules), "rule of a term")?;
        // The matchers look up the rule of every lane that holds.
        let holds_never = |(lane, rule): (usize, &u32)| {
            let group = &tables.groups[lane / LANES];
            let slot = &tables.leaf_slots[group.slots[0] as usize];
            let impossible = slot.low[lane % LANES] == IMPOSSIBLE && slot.span[lane % LANES] == 0;
            *rule != NONE || impossible && group.tailed >> (lane % LANES) & 1 == 0
        };
        ensure(tables.term_rules.iter().enumerate().all(holds_never), "a lane without a rule")?;
        let tails = tables.tails.len() as u32;
        ensure(tables.tail_refs.iter().all(|tail| tail & !AT_EDGES < tails), "tail of a term")?;
        self.check_bitmaps(&tables)?;
        let residuals = self.residual_count();
        for tail in tables.tails {
            ensure(within(tail.first_set, tail.sets, tables.set_tests.len()), "lists of a term")?;
            ensure(tail.residual == NONE || (tail.residual as usize) < residuals, "residual of a term")?;
        }
        let order = self.patterns.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let known = self.patterns.last().is_none_or(|(rule, _)| rule.index() < self.rules().len());
        ensure(order && known, "the rule of a pattern")?;
        for test in tables.set_tests {
            let known = test.intervals == 1 || within(test.first, test.intervals, tables.intervals.len());
            ensure((test.column as usize) < columns && known, "a list")?;
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
        let slots = u64::from(segment.first_slot)..u64::from(segment.first_slot) + u64::from(segment.slots);
        if nodes.end > tables.nodes.len() as u64 || groups.end > tables.groups.len() as u64 || slots.end > tables.leaf_slots.len() as u64 {
            return false;
        }
        let owns_slots = tables.groups[groups.start as usize..groups.end as usize].iter().all(|group| {
            let count = group.slots.iter().take_while(|slot| **slot != NONE).count();
            count > 0
                && group.slots[..count].iter().all(|slot| slots.contains(&u64::from(*slot)))
                && group.slots[count..].iter().all(|slot| *slot == NONE)
        });
        if !owns_slots {
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
                let slot = &tables.nodes[node as usize].slots[0];
                for lane in 0..LANES as u32 {
                    let possible = slot.low[lane as usize] != IMPOSSIBLE || slot.span[lane as usize] != 0;
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

    /// Tiles belong to lowest nodes, and no lane of theirs lies beyond the node's groups.
    fn check_bitmaps(&self, tables: &MatchTables) -> Result<(), ArtifactError> {
        let within = |first: u32, count: u64, length: usize| u64::from(first) + count <= length as u64;
        for tile in tables.bitmap_tiles {
            let bitmaps = u64::from(tile.columns) * BITMAP_BUCKETS as u64;
            let fits = within(tile.first_bitmap, bitmaps, tables.bitmaps.len())
                && within(tile.first_column, tile.columns.into(), tables.bitmap_columns.len());
            if tile.columns == 0 || !fits {
                return Err(corrupt("a tile of bitmaps"));
            }
        }
        if tables.bitmap_columns.iter().any(|column| *column as usize >= self.manifest.columns.len()) {
            return Err(corrupt("a bitmap of a column that is not there"));
        }
        let tiled = tables.node_bitmaps.iter().filter(|tile| **tile != NONE).count();
        let mut lowest = 0;
        for segment in tables.segments.iter().filter(|segment| segment.height > 0) {
            for (nth, node) in (segment.first_node..segment.first_node + segment.groups.div_ceil(LANES as u32)).enumerate() {
                let Some(tile) = tables.bitmap_tile(node) else { continue };
                lowest += 1;
                // A lane that is left in the bitmaps is looked up without a look at the node's own slots.
                if tables.node_children[node as usize] != segment.first_group + (nth * LANES) as u32 {
                    return Err(corrupt("children of a node with bitmaps"));
                }
                let groups = (segment.groups as usize - nth * LANES).min(LANES);
                let first = &tables.bitmaps[tile.first_bitmap as usize..][..BITMAP_BUCKETS];
                let beyond = |bitmap: &Bitmap| (groups * LANES..LANES * LANES).any(|lane| bitmap.0[lane / 64] >> (lane % 64) & 1 == 1);
                if groups < LANES && first.iter().any(beyond) {
                    return Err(corrupt("a bitmap beyond the groups of its node"));
                }
            }
        }
        if lowest == tiled { Ok(()) } else { Err(corrupt("a tile of bitmaps that is no lowest node's")) }
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
        let steps = self.section::<u32>(Section::Steps);
        ensure(steps.len() == self.manifest.columns.len(), "number of steps")?;
        let fits = |(step, column): (&u32, &Column)| {
            *step > 0 && u64::from(*step) * (2 * (column.keys.end - column.keys.start) + 1) <= u64::from(CODE_MAX)
        };
        ensure(steps.iter().zip(&self.manifest.columns).all(fits), "a step")
    }

    /// The keys of every column ascend: the search among them relies on it.
    fn check_keys(&self) -> Result<(), ArtifactError> {
        for column in &self.manifest.columns {
            let ascending = match self.thresholds(column) {
                ThresholdKeys::Narrow(keys) => keys.is_sorted_by(|a, b| a < b),
                ThresholdKeys::Wide(keys) => keys.is_sorted_by_key(|[low, high]| (*high, *low)),
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
            columns: self.manifest.columns.len().next_multiple_of(CODES_ALIGNMENT),
            steps: self.section(Section::Steps),
            partitions: self.section(Section::Partitions),
            segments: self.section(Section::Segments),
            nodes: self.section(Section::Nodes),
            node_children: self.section(Section::NodeChildren),
            groups: self.section(Section::Groups),
            leaf_slots: self.section(Section::LeafSlots),
            term_rules: self.section(Section::TermRules),
            tail_refs: self.section(Section::TailRefs),
            tails: self.section(Section::Tails),
            set_tests: self.section(Section::SetTests),
            intervals: self.section(Section::Intervals),
            node_bitmaps: self.section(Section::NodeBitmaps),
            bitmap_tiles: self.section(Section::BitmapTiles),
            bitmap_columns: self.section(Section::BitmapColumns),
            bitmaps: self.section(Section::Bitmaps),
        }
    }

    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The fields that rules read: those of the events, then a column for each window.
    #[must_use]
    pub const fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The content hash in hexadecimal: what decisions name.
    #[must_use]
    pub fn generation(&self) -> String {
        self.content_hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The fields of the events: [`Artifact::schema`] without the windows.
    #[must_use]
    pub const fn event_schema(&self) -> &Schema {
        &self.events
    }

    /// The windows, in the order of their columns.
    #[must_use]
    pub fn windows(&self) -> &[WindowColumn] {
        &self.windows
    }

    /// Bytes of the whole file, and of each section.
    #[must_use]
    pub fn sizes(&self) -> (usize, Vec<(Section, usize)>) {
        (self.storage.bytes().len(), Section::ALL.iter().map(|section| (*section, self.bytes(*section).len())).collect())
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

    /// The first byte of a name.
    pub(crate) fn name_begin(&self, number: u32) -> Option<u8> {
        slice_at(self.section(Section::NameOffsets), self.bytes(Section::NameBytes), number as usize).first().copied()
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

    /// The rules that are patterns, ascending. They have no terms.
    #[must_use]
    pub fn patterns(&self) -> &[(RuleId, Arc<Pattern>)] {
        &self.patterns
    }

    /// The pattern that a rule is, if it is one.
    #[must_use]
    pub fn pattern(&self, rule: RuleId) -> Option<&Arc<Pattern>> {
        self.patterns.binary_search_by_key(&rule, |(rule, _)| *rule).ok().map(|at| &self.patterns[at].1)
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
        match column.kind {
            KeyKind::Narrow => ThresholdKeys::Narrow(&narrow[range]),
            KeyKind::Wide => ThresholdKeys::Wide(&wide[range]),
            KeyKind::Text => {
                let offsets = if range.is_empty() { &[][..] } else { &self.section::<u64>(Section::TextOffsets)[range.start..=range.end] };
                ThresholdKeys::Text { offsets, bytes: self.bytes(Section::TextBytes) }
            }
        }
    }
}

/// The thresholds of one column, ascending.
#[derive(Clone, Copy, Debug)]
pub enum ThresholdKeys<'a> {
    Narrow(&'a [u64]),
    /// (low, high) halves.
    Wide(&'a [[u64; 2]]),
    Text {
        offsets: &'a [u64],
        bytes: &'a [u8],
    },
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
