//! The state of patterns at one moment, as parts of a snapshot, and back.
//!
//! Making a copy takes no longer than copying the addresses of pages; who writes it encodes the chunks beside the stream. State outlives changes of the rules: a pattern of the
//! same name, tenant and definition goes on where it was, one that is changed or new begins anew. What is numbered over all patterns (tenants, conditions, places of fields) may
//! have other numbers then, and gets them when it is read.

use super::group::{Group, Waiting};
use super::keys::Tenants;
use super::patterns::{Limits, PatternRule, Patterns};
use super::progress::Troubles;
use super::rows::Row;
use super::store::{Large, Partition, Store, read_page};
use crate::event::{Schema, Value};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Pages that are written together: two megabytes.
const PAGES: usize = 64;

/// What is said of all patterns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedPatterns {
    watermark: Option<i64>,
    late: u64,
    untimed: u64,
    tenants: Vec<String>,
    groups: Vec<SavedGroup>,
    /// Hashes of the conditions on single rows, by their numbers.
    conditions: Vec<String>,
}

/// What is said of patterns that share their rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SavedGroup {
    /// A hash of what they have in common.
    kind: String,
    /// The fields in their rows.
    fields: Vec<u32>,
    members: Vec<SavedMember>,
    slots: u32,
    /// Sizes of packed partitions, each with the number of its chunks.
    runs: Vec<(usize, usize)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SavedMember {
    rule: String,
    /// A hash of the definition.
    definition: String,
    troubles: Troubles,
}

/// What is not packed.
#[derive(Serialize, Deserialize)]
struct Rest {
    free: Vec<u32>,
    large: Vec<(u32, Large)>,
    waiting: VecDeque<Waiting>,
}

/// A chunk of a copy: all of it but its bytes, which [`CapturedChunk::encode`] makes.
pub struct CapturedChunk {
    /// The part that it belongs to, and its number there.
    pub part: String,
    pub number: usize,
    content: Content,
}

enum Content {
    Pages(Vec<Arc<Vec<u8>>>),
    Rest(Box<Rest>),
}

impl CapturedChunk {
    /// Its bytes.
    ///
    /// # Panics
    /// Never: what is in memory is written to memory.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        match self.content {
            Content::Pages(pages) => pages.iter().flat_map(|page| page.iter().copied()).collect(),
            Content::Rest(rest) => postcard::to_stdvec(&rest).expect("plain data"),
        }
    }
}

/// Reads a chunk of a part.
pub type ReadChunk<'r> = dyn FnMut(&str, usize) -> Result<Vec<u8>, String> + 'r;

/// A copy of the state of patterns.
pub struct Captured {
    pub head: SavedPatterns,
    /// Those that have changed since the copy before.
    pub chunks: Vec<CapturedChunk>,
}

/// Patterns that go on from a copy.
#[derive(Debug)]
pub struct Restored {
    pub patterns: Patterns,
    /// The rules that go on where they were.
    pub kept: Vec<Arc<str>>,
    /// Those that had state, and have it no longer: they are changed, or gone.
    pub dropped: Vec<String>,
}

fn runs_part(group: usize, size: usize) -> String {
    format!("patterns/{group}/{size}")
}

fn rest_part(group: usize) -> String {
    format!("patterns/{group}/rest")
}

/// A hash in hexadecimal digits, short enough to be read.
fn hash_of(value: &impl Serialize) -> String {
    let bytes = postcard::to_stdvec(value).expect("plain data");
    blake3::hash(&bytes).to_hex()[..32].to_owned()
}

impl SavedPatterns {
    /// The parts of the snapshot, each with the number of its chunks.
    #[must_use]
    pub fn parts(&self) -> Vec<(String, usize)> {
        let of_group = |(number, group): (usize, &SavedGroup)| {
            let runs: Vec<(String, usize)> = group.runs.iter().map(|(size, chunks)| (runs_part(number, *size), *chunks)).collect();
            runs.into_iter().chain([(rest_part(number), 1)])
        };
        self.groups.iter().enumerate().flat_map(of_group).collect()
    }
}

impl Patterns {
    /// What a definition is the same by: the pattern over these fields.
    fn definition(&self, rule: &PatternRule) -> String {
        hash_of(&(self.schema.fields(), &rule.tenant, &*rule.pattern))
    }

    fn kind(&self, group: &Group) -> String {
        hash_of(&(self.schema.fields(), &group.kind))
    }

    fn condition_hashes(&self) -> Vec<String> {
        self.conditions.all().iter().map(|condition| hash_of(&(&condition.tenant, &condition.expr))).collect()
    }

    /// A copy of the state as it is now.
    pub fn capture(&mut self) -> Captured {
        let mut chunks = Vec::new();
        let mut groups = Vec::new();
        for number in 0..self.groups.len() {
            let kind = self.kind(&self.groups[number]);
            let members = self.groups[number].members().iter().map(|member| SavedMember {
                rule: member.rule.name.to_string(),
                definition: self.definition(&member.rule),
                troubles: member.troubles,
            });
            let members = members.collect();
            let group = &mut self.groups[number];
            let captured = group.state.store.capture();
            let mut runs = Vec::new();
            for (size, pages) in captured.runs.into_iter().filter(|(_, pages)| !pages.is_empty()) {
                runs.push((size, pages.len().div_ceil(PAGES)));
                for (nth, pages) in pages.chunks(PAGES).enumerate().filter(|(_, pages)| pages.iter().any(|(_, changed)| *changed)) {
                    let pages = pages.iter().map(|(page, _)| Arc::clone(page)).collect();
                    chunks.push(CapturedChunk { part: runs_part(number, size), number: nth, content: Content::Pages(pages) });
                }
            }
            let rest = Rest { free: captured.free, large: captured.large, waiting: group.state.waiting.clone() };
            chunks.push(CapturedChunk { part: rest_part(number), number: 0, content: Content::Rest(Box::new(rest)) });
            let fields = group.fields().iter().map(|field| field.0).collect();
            groups.push(SavedGroup { kind, fields, members, slots: captured.slots, runs });
        }
        let tenants = self.tenants.names().iter().map(ToString::to_string).collect();
        let conditions = self.condition_hashes();
        let head = SavedPatterns { watermark: self.watermark, late: self.late, untimed: self.untimed, tenants, groups, conditions };
        Captured { head, chunks }
    }

    /// Patterns that go on from a copy. `chunk` reads one of a part.
    ///
    /// # Errors
    /// A copy that cannot be read.
    pub fn restored(
        schema: Schema,
        rules: Vec<PatternRule>,
        lateness: i64,
        limits: Limits,
        head: &SavedPatterns,
        chunk: &mut ReadChunk,
    ) -> Result<Restored, String> {
        let mut tenants = Tenants::default();
        head.tenants.iter().for_each(|name| _ = tenants.number(name));
        let mut patterns = Self::with_tenants(schema, rules, lateness, limits, tenants);
        (patterns.watermark, patterns.late, patterns.untimed) = (head.watermark, head.late, head.untimed);
        let numbers: HashMap<String, u32> = patterns.condition_hashes().into_iter().zip(0..).collect();
        let conditions: Vec<Option<u32>> = head.conditions.iter().map(|hash| numbers.get(hash).copied()).collect();
        let kinds: Vec<String> = patterns.groups.iter().map(|group| patterns.kind(group)).collect();
        let (mut kept, mut dropped) = (Vec::new(), Vec::new());
        for (number, saved) in head.groups.iter().enumerate() {
            let Some(place) = kinds.iter().position(|kind| *kind == saved.kind) else {
                dropped.extend(saved.members.iter().map(|member| member.rule.clone()));
                continue;
            };
            let definitions: Vec<(Arc<str>, String)> = patterns.groups[place]
                .members()
                .iter()
                .map(|member| (Arc::clone(&member.rule.name), patterns.definition(&member.rule)))
                .collect();
            let by_name: HashMap<&str, usize> = definitions.iter().enumerate().map(|(at, (name, _))| (&**name, at)).collect();
            let mut members = Vec::with_capacity(saved.members.len());
            for member in &saved.members {
                let same = by_name.get(member.rule.as_str()).copied().filter(|at| definitions[*at].1 == member.definition);
                match same {
                    Some(at) => {
                        kept.push(Arc::clone(&definitions[at].0));
                        patterns.groups[place].set_troubles(at, member.troubles);
                    }
                    None => dropped.push(member.rule.clone()),
                }
                members.push(same.map(|at| at as u32));
            }
            let fields = patterns.groups[place].fields().iter();
            let fields = fields.map(|field| saved.fields.iter().position(|saved| *saved == field.0)).collect();
            let translation = Translation { members, conditions: &conditions, fields };
            let mut partitions = Vec::new();
            for (size, chunks) in &saved.runs {
                for nth in 0..*chunks {
                    let bytes = chunk(&runs_part(number, *size), nth)?;
                    for page in bytes.chunks(super::store::PAGE) {
                        partitions.extend(read_page(*size, page)?);
                    }
                }
            }
            let rest: Rest = postcard::from_bytes(&chunk(&rest_part(number), 0)?).map_err(|error| error.to_string())?;
            partitions.extend(rest.large.into_iter().map(|(slot, large)| (slot, large.key, large.partition)));
            // In the order of their slots, whatever memory they lay in.
            partitions.sort_by_key(|(slot, ..)| *slot);
            let (mut partitions, mut free) = (partitions, rest.free);
            partitions.iter_mut().for_each(|(.., partition)| translation.partition(partition));
            let members = patterns.groups[place].members();
            if !partitions.iter().all(|(.., partition)| partition.is_sound(|pattern| &members[pattern as usize].machine)) {
                return Err("what patterns search for in a partition does not agree with them".to_owned());
            }
            if !partitions
                .iter()
                .map(|(_, key, _)| &**key)
                .chain(rest.waiting.iter().map(Waiting::key))
                .all(|key| patterns.tenants.has_key(key))
            {
                return Err("a key has a tenant that is none of those named".to_owned());
            }
            let remembers = patterns.groups[place].kind.remembers;
            partitions.retain(|(slot, _, partition)| {
                let needed = remembers || !partition.progress.is_empty();
                if !needed {
                    free.push(*slot);
                }
                needed
            });
            let mut waiting = rest.waiting;
            waiting.iter_mut().for_each(|waiting| translation.row(&mut waiting.row));
            let store = Store::restored(saved.slots, free, partitions)?;
            patterns.resume(place, store, waiting);
        }
        Ok(Restored { patterns, kept, dropped })
    }

    /// The same state under other rules: patterns of the same name, tenant and definition go on, the others begin with nothing.
    ///
    /// # Errors
    /// A state that does not agree with itself.
    pub fn changed(mut self, schema: Schema, rules: Vec<PatternRule>) -> Result<Restored, String> {
        self.groups.iter_mut().for_each(|group| group.state.store.change_all());
        let (lateness, limits) = (self.lateness_nanoseconds(), self.limits);
        let Captured { head, chunks } = self.capture();
        drop(self);
        let mut chunks: HashMap<(String, usize), CapturedChunk> =
            chunks.into_iter().map(|chunk| ((chunk.part.clone(), chunk.number), chunk)).collect();
        let mut read = |part: &str, number: usize| {
            let chunk = chunks.remove(&(part.to_owned(), number)).ok_or("a part of the state of patterns is missing")?;
            Ok(chunk.encode())
        };
        Self::restored(schema, rules, lateness, limits, &head, &mut read)
    }

    fn resume(&mut self, place: usize, store: Store, waiting: VecDeque<Waiting>) {
        self.groups[place].resume(store, waiting, &mut self.tenant_bytes);
    }
}

/// From the numbers of a copy to those of now.
struct Translation<'t> {
    /// Patterns of the group.
    members: Vec<Option<u32>>,
    conditions: &'t [Option<u32>],
    /// For each field in rows now, where it lay.
    fields: Vec<Option<usize>>,
}

impl Translation<'_> {
    fn partition(&self, partition: &mut Partition) {
        let member = |pattern: u32| self.members.get(pattern as usize).copied().flatten();
        partition.progress.retain_mut(|progress| match member(progress.pattern) {
            Some(pattern) => {
                progress.pattern = pattern;
                true
            }
            None => false,
        });
        partition.progress.sort_by_key(|progress| progress.pattern);
        partition.rows.change(|row| self.row(row));
    }

    fn row(&self, row: &mut Row) {
        let mut holds: Vec<u32> = row.holds.iter().filter_map(|condition| *self.conditions.get(*condition as usize)?).collect();
        holds.sort_unstable();
        row.holds = holds.into();
        let value = |place: &Option<usize>| place.and_then(|place| row.values.get(place)).cloned().unwrap_or(Value::Null);
        row.values = self.fields.iter().map(value).collect();
    }
}
