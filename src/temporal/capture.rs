//! The state of patterns at one moment, as parts of a snapshot, and back.
//!
//! A copy is made in [`steps`](super::steps) beside the stream. State outlives changes of the rules: a pattern of the same name, tenant and definition goes on where it was, one that is changed or new begins anew. What is numbered over all patterns (tenants, conditions, places of fields) may
//! have other numbers then, and gets them when it is read.

use super::group::{Group, Waiting};
use super::keys::Tenants;
use super::patterns::{Limits, PatternRule, Patterns};
use super::progress::Troubles;
use super::rows::Row;
use super::spill::Spill;
use super::steps::SLOTS;
use super::store::{Large, Partition, read_chunk, read_page};
use crate::event::{Schema, Value};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Bytes of a partition, about, before it is known.
const EXPECTED: usize = 150;

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
    /// Chunks of partitions, of [`SLOTS`] slots each; `None`: they are as before format 3, in pages.
    #[serde(default)]
    chunks: Option<usize>,
    /// Before format 3: sizes of packed partitions, each with the number of its chunks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    runs: Vec<(usize, usize)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SavedMember {
    rule: String,
    /// A hash of the definition.
    definition: String,
    troubles: Troubles,
}

/// What is not in chunks of partitions.
#[derive(Debug, Serialize, Deserialize)]
struct Rest {
    free: Vec<u32>,
    /// Before format 3: partitions that were not packed.
    large: Vec<(u32, Large)>,
    waiting: VecDeque<Waiting>,
}

/// A chunk of a copy.
#[derive(Debug)]
pub struct CapturedChunk {
    /// The part that it belongs to, and its number there.
    pub part: String,
    pub number: usize,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Keys(Vec<u8>),
    Rest(Box<Rest>),
}

impl CapturedChunk {
    /// Words that were copied for it.
    #[must_use]
    pub const fn words(&self) -> usize {
        match &self.content {
            Content::Keys(bytes) => bytes.len() / 8,
            Content::Rest(_) => 0,
        }
    }

    /// Its bytes.
    ///
    /// # Panics
    /// Never: what is in memory is written to memory.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        match self.content {
            Content::Keys(bytes) => bytes,
            Content::Rest(rest) => postcard::to_stdvec(&rest).expect("plain data"),
        }
    }
}

/// Reads a chunk of a part.
pub type ReadChunk<'r> = dyn FnMut(&str, usize) -> Result<Vec<u8>, String> + 'r;

/// Patterns that go on from a copy.
#[derive(Debug)]
pub struct Restored {
    pub patterns: Patterns,
    /// The rules that go on where they were.
    pub kept: Vec<Arc<str>>,
    /// Those that had state, and have it no longer: they are changed, or gone.
    pub dropped: Vec<String>,
}

fn keys_part(group: usize) -> String {
    format!("patterns/{group}/keys")
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
        let of_group = |(number, group): (usize, &SavedGroup)| [(keys_part(number), group.chunks.unwrap_or(0)), (rest_part(number), 1)];
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

    /// Begins a copy of the state as it is now: what is said of it. The rest comes in steps, with [`Patterns::capture`].
    pub fn begin_capture(&mut self) -> SavedPatterns {
        let mut groups = Vec::new();
        self.ready.clear();
        for number in 0..self.groups.len() {
            let kind = self.kind(&self.groups[number]);
            let members = self.groups[number].members().iter().map(|member| SavedMember {
                rule: member.rule.name.to_string(),
                definition: self.definition(&member.rule),
                troubles: member.troubles,
            });
            let members = members.collect();
            let group = &mut self.groups[number];
            let fields = group.fields().iter().map(|field| field.0).collect();
            let store = &mut group.state.store;
            store.begin_capture();
            let rest = Rest { free: store.free().to_vec(), large: Vec::new(), waiting: group.state.waiting.clone() };
            let (slots, chunks) = (store.slots() as u32, Some(store.slots().div_ceil(SLOTS)));
            self.ready.push(CapturedChunk { part: rest_part(number), number: 0, content: Content::Rest(Box::new(rest)) });
            groups.push(SavedGroup { kind, fields, members, slots, chunks, runs: Vec::new() });
        }
        let tenants = self.tenants.names().iter().map(ToString::to_string).collect();
        let conditions = self.condition_hashes();
        SavedPatterns { watermark: self.watermark, late: self.late, untimed: self.untimed, tenants, groups, conditions }
    }

    /// Copies the next chunk that has changed since the copy before; `None`: the copy is complete.
    ///
    /// # Errors
    /// When partitions on disk cannot be read.
    pub fn capture(&mut self) -> Result<Option<CapturedChunk>, String> {
        if let Some(chunk) = self.ready.pop() {
            return Ok(Some(chunk));
        }
        for (group, of) in self.groups.iter_mut().enumerate() {
            if let Some((number, bytes)) = of.state.store.capture()? {
                return Ok(Some(CapturedChunk { part: keys_part(group), number, content: Content::Keys(bytes) }));
            }
        }
        Ok(None)
    }

    /// Has the next copy be one of everything: what was copied of late has not been kept.
    pub fn copy_all_again(&mut self) {
        self.groups.iter_mut().for_each(|group| group.state.store.change_all());
    }

    /// Patterns that go on from a copy. `chunk` reads one of a part. What memory has no room for goes to `spill`.
    ///
    /// # Errors
    /// A copy that cannot be read; partitions that cannot be written to disk, where memory has no room for them.
    pub fn restored(
        schema: Schema,
        rules: Vec<PatternRule>,
        lateness: i64,
        limits: Limits,
        spill: Option<&Arc<Spill>>,
        head: &SavedPatterns,
        chunk: &mut ReadChunk,
    ) -> Result<Restored, String> {
        let mut tenants = Tenants::default();
        head.tenants.iter().for_each(|name| _ = tenants.number(name));
        let mut patterns = Self::with_tenants(schema, rules, lateness, limits, tenants);
        spill.into_iter().for_each(|spill| patterns.spill_to(spill));
        (patterns.watermark, patterns.late, patterns.untimed) = (head.watermark, head.late, head.untimed);
        let numbers: HashMap<String, u32> = patterns.condition_hashes().into_iter().zip(0..).collect();
        let conditions: Vec<Option<u32>> = head.conditions.iter().map(|hash| numbers.get(hash).copied()).collect();
        let kinds: Vec<String> = patterns.groups.iter().map(|group| patterns.kind(group)).collect();
        // Twice: the first time not all have said what they expect.
        for (place, kind) in kinds.iter().enumerate().chain(kinds.iter().enumerate()) {
            let slots: usize = head.groups.iter().filter(|saved| saved.kind == *kind).map(|saved| saved.slots as usize).sum();
            patterns.groups[place].state.store.expect(slots.saturating_mul(EXPECTED));
        }
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
            let rest: Rest = postcard::from_bytes(&chunk(&rest_part(number), 0)?).map_err(|error| error.to_string())?;
            let (mut free, mut waiting) = (rest.free, rest.waiting);
            let freed = free.len();
            if !waiting.iter().all(|waiting| patterns.tenants.has_key(waiting.key())) {
                return Err(FOREIGN_TENANT.to_owned());
            }
            waiting.iter_mut().for_each(|waiting| translation.row(&mut waiting.row));
            let Self { groups, tenants, .. } = &mut patterns;
            let group = &mut groups[place];
            group.state.waiting = waiting;
            let mut same = number == place && saved.chunks.is_some() && translation.changes_nothing(saved.fields.len());
            let mut restore = |slot: u64, key: &[u8], mut partition: Partition| {
                translation.partition(&mut partition);
                let members = group.members();
                if !partition.is_sound(|pattern| &members[pattern as usize].machine) {
                    return Err("what patterns search for in a partition does not agree with them".to_owned());
                }
                if !tenants.has_key(key) {
                    return Err(FOREIGN_TENANT.to_owned());
                }
                let slot = u32::try_from(slot).ok().filter(|slot| *slot < saved.slots).ok_or("a slot is beyond the last")?;
                if group.kind.remembers || !partition.progress.is_empty() {
                    return group.restore(slot, key, partition);
                }
                free.push(slot);
                same = false;
                Ok(())
            };
            match saved.chunks {
                Some(chunks) => {
                    for nth in 0..chunks {
                        let first = nth as u64 * SLOTS as u64;
                        let bytes = chunk(&keys_part(number), nth)?;
                        read_chunk(&bytes, |slot, key, partition| restore(first + u64::from(slot), key, partition))?;
                    }
                }
                None => {
                    // Slots are as many as partitions and free ones: no more memory is taken for them.
                    let partitions = in_pages(number, saved, rest.large, chunk)?;
                    if saved.slots as usize > partitions.len() + freed {
                        return Err("the slots of partitions do not agree".to_owned());
                    }
                    for (slot, key, partition) in partitions {
                        restore(u64::from(slot), &key, partition)?;
                    }
                }
            }
            group.state.store.restore_free(saved.slots, free)?;
            if same {
                group.state.store.is_saved();
            }
        }
        patterns.groups.iter_mut().try_for_each(Group::share_out)?;
        Ok(Restored { patterns, kept, dropped })
    }

    /// The same state under other rules: patterns of the same name, tenant and definition go on, the others begin with nothing.
    ///
    /// # Errors
    /// State that cannot be read from disk, or does not agree with itself.
    pub fn changed(mut self, schema: Schema, rules: Vec<PatternRule>) -> Result<Restored, String> {
        self.copy_all_again();
        let (lateness, limits, spill) = (self.lateness_nanoseconds(), self.limits, self.spill.clone());
        let head = self.begin_capture();
        let mut chunks = HashMap::new();
        while let Some(chunk) = self.capture()? {
            chunks.insert((chunk.part.clone(), chunk.number), chunk);
        }
        drop(self);
        let mut read = |part: &str, number: usize| {
            let chunk = chunks.remove(&(part.to_owned(), number)).ok_or("a part of the state of patterns is missing")?;
            Ok(chunk.encode())
        };
        let mut restored = Self::restored(schema, rules, lateness, limits, spill.as_ref(), &head, &mut read)?;
        // None of it was written anywhere.
        restored.patterns.copy_all_again();
        Ok(restored)
    }
}

const FOREIGN_TENANT: &str = "a key has a tenant that is none of those named";

/// The partitions of a group as snapshots before format 3 have them, in the order of their slots, whatever memory they lay in.
fn in_pages(
    group: usize,
    saved: &SavedGroup,
    large: Vec<(u32, Large)>,
    chunk: &mut ReadChunk,
) -> Result<Vec<(u32, Vec<u8>, Partition)>, String> {
    let mut partitions: Vec<(u32, Vec<u8>, Partition)> =
        large.into_iter().map(|(slot, large)| (slot, large.key, large.partition)).collect();
    for (size, chunks) in &saved.runs {
        for nth in 0..*chunks {
            let bytes = chunk(&runs_part(group, *size), nth)?;
            for page in bytes.chunks(super::store::PAGE) {
                read_page(*size, page, |slot, key, partition| {
                    partitions.push((slot, key.to_vec(), partition));
                    Ok(())
                })?;
            }
        }
    }
    partitions.sort_by_key(|(slot, ..)| *slot);
    Ok(partitions)
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
    /// Whether all numbers are those of the copy, whose rows have so many fields.
    fn changes_nothing(&self, fields: usize) -> bool {
        let in_order = |numbers: &[Option<u32>]| numbers.iter().zip(0..).all(|(number, nth)| *number == Some(nth));
        let fields = self.fields.len() == fields && self.fields.iter().enumerate().all(|(nth, field)| *field == Some(nth));
        fields && in_order(&self.members) && in_order(self.conditions)
    }

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
