//! Patterns over the same partitions, which share their rows.
//!
//! A row is looked at by the patterns that search in its partition, and by those that may begin a match with it; the conditions that hold for it tell which.
//! Where there are none the row is not even held, and a partition that nothing is known of takes no room.

use super::automaton::Machine;
use super::evaluate::Places;
use super::keys::{KeyColumn, NO_TENANT};
use super::patterns::{Found, Limits, PatternRule};
use super::progress::{Moment, Progress, Troubles, Work};
use super::rows::{Row, Rows};
use super::spill::Spill;
use super::store::{Partition, Store};
use super::timers::{NEVER, Timers};
use super::{conditions::Conditions, keys::Tenants};
use crate::event::batch::Cells;
use crate::event::{EventBatch, Schema, Value};
use crate::expr::scalar;
use crate::flow::Hits;
use crate::id::FieldId;
use crate::pattern::{OrderKey, Pattern, Step};
use foldhash::fast::FixedState;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// What patterns have in common that share their rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Kind {
    pub partition_by: Vec<FieldId>,
    order_by: Vec<(FieldId, bool, bool)>,
    /// Whether every row is held for a while, or counted, whatever it is: they look back, or ask for the first row of all.
    pub remembers: bool,
}

impl Kind {
    #[must_use]
    pub fn of(pattern: &Pattern) -> Self {
        let key = |key: &OrderKey| (key.field, key.descending, key.nulls_first);
        Self {
            partition_by: pattern.partition_by.clone(),
            order_by: pattern.order_by.iter().map(key).collect(),
            remembers: pattern.looks_back() > 0 || pattern.steps.contains(&Step::Start),
        }
    }
}

/// A pattern of a group.
#[derive(Debug)]
pub struct Member {
    pub rule: PatternRule,
    pub machine: Machine,
    pub troubles: Troubles,
}

/// What a row's arrival says of time, in ticks of the schema's time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    pub time: Option<i64>,
    /// No later row has a time before it.
    pub watermark: Option<i64>,
    /// Whether patterns over event time may not see the row: it came too late, or has no time.
    pub left_out: bool,
    /// Whether no pattern may.
    pub hidden: bool,
}

/// A batch, as groups see it.
pub struct Arrivals<'b> {
    pub schema: &'b Schema,
    pub batch: &'b EventBatch,
    /// The conditions that hold for each row.
    pub holds: &'b Hits,
    pub tenants: &'b [u32],
    pub clocks: &'b [Clock],
}

/// What groups share while they work.
pub struct Shared<'s> {
    pub limits: &'s Limits,
    /// What is found, each with the row of the batch that brought it.
    pub found: &'s mut Vec<(u32, Found)>,
    pub arrival: u32,
}

#[derive(Debug)]
pub struct Group {
    pub kind: Kind,
    order_by: Vec<OrderKey>,
    places: Places,
    /// Whether rows are in order of event time first, so that what is old can be settled while rows arrive.
    streams: bool,
    members: Vec<Member>,
    looks_back: u64,
    /// For each condition, whether the group's patterns ask for it, and those that may begin with a row for which it holds.
    asked: Vec<bool>,
    begun_by: Vec<Vec<u32>>,
    /// Patterns that may begin anywhere: over all tenants' rows, and over one's.
    anywhere: Vec<u32>,
    anywhere_of: HashMap<u32, Vec<u32>, FixedState>,
    /// Whose rows are seen; `None`: everybody's.
    tenants: Option<HashSet<u32, FixedState>>,
    pub state: State,
    work: Work,
    beginning: Vec<u32>,
    /// The one that is taken out, and memory for the next.
    partition: Partition,
    keys: Keys,
}

/// Rows whose keys are looked up together.
const CHUNK: usize = 64;

/// What a group knows of the rows so far.
#[derive(Debug)]
pub struct State {
    pub store: Store,
    /// For each partition where searches run out of time, one timer that is not later than the first of them. Those that are not the partition's own mean nothing.
    timers: Timers,
    /// Rows that others may still come before, in order.
    pub waiting: VecDeque<Waiting>,
    /// Bytes that each tenant's partitions take; first those without a tenant.
    tenant_bytes: Vec<usize>,
}

/// A row that others may still come before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// What rows are ordered by, but for the time where that is all.
    order: Box<[Value]>,
    key: Box<[u8]>,
    tenant: u32,
    pub row: Row,
}

impl Waiting {
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }
}

impl Group {
    /// The patterns of one kind. Tenants of rules are numbered among `tenants`, conditions on rows among `conditions`.
    #[must_use]
    pub fn new(schema: &Schema, kind: Kind, rules: Vec<PatternRule>, tenants: &mut Tenants, conditions: &mut Conditions) -> Self {
        let order_by = rules.first().map(|rule| rule.pattern.order_by.clone()).unwrap_or_default();
        let mut needed: Vec<FieldId> = rules.iter().flat_map(|rule| rule.pattern.needs()).collect();
        needed.sort_unstable();
        needed.dedup();
        let places = Places::new(needed, rules.first().map_or(0, |rule| rule.pattern.fields));
        let mut group = Self {
            streams: order_by.first().is_some_and(|key| Some(key.field) == schema.time && !key.descending),
            order_by,
            kind,
            places,
            members: Vec::new(),
            looks_back: 0,
            asked: Vec::new(),
            begun_by: Vec::new(),
            anywhere: Vec::new(),
            anywhere_of: HashMap::default(),
            tenants: Some(HashSet::default()),
            state: State { store: Store::default(), timers: Timers::new(0), waiting: VecDeque::new(), tenant_bytes: Vec::new() },
            work: Work::default(),
            beginning: Vec::new(),
            partition: Partition::default(),
            keys: Keys::default(),
        };
        for (number, rule) in (0..).zip(rules) {
            let (tenant, pattern) = (rule.tenant.clone(), Arc::clone(&rule.pattern));
            let machine = Machine::new(pattern, schema, &group.places, tenant.as_ref(), conditions);
            group.looks_back = group.looks_back.max(machine.looks_back);
            let tenant = tenant.map(|tenant| tenants.number(&tenant));
            match &machine.begins {
                Some(begins) => begins.iter().for_each(|condition| {
                    group.begun_by.resize(group.begun_by.len().max(*condition as usize + 1), Vec::new());
                    group.begun_by[*condition as usize].push(number);
                }),
                None => match tenant {
                    Some(tenant) => group.anywhere_of.entry(tenant).or_default().push(number),
                    None => group.anywhere.push(number),
                },
            }
            match (tenant, &mut group.tenants) {
                (Some(tenant), Some(tenants)) => _ = tenants.insert(tenant),
                (_, tenants) => *tenants = None,
            }
            machine.conditions().for_each(|condition| {
                group.asked.resize(group.asked.len().max(condition as usize + 1), false);
                group.asked[condition as usize] = true;
            });
            group.members.push(Member { rule, machine, troubles: Troubles::default() });
        }
        let shortest = group.members.iter().filter_map(|member| member.machine.within).min();
        group.state.timers = Timers::new(shortest.unwrap_or(1));
        group
    }

    /// The fields that its rows carry, ascending.
    #[must_use]
    pub fn fields(&self) -> &[FieldId] {
        self.places.needed()
    }

    #[must_use]
    pub const fn streams(&self) -> bool {
        self.streams
    }

    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    pub fn set_troubles(&mut self, member: usize, troubles: Troubles) {
        self.members[member].troubles = troubles;
    }

    /// Goes on with what another knew of a partition.
    ///
    /// # Errors
    /// Partitions that cannot be of one group; what cannot be written to disk, where memory has no room for it.
    pub fn restore(&mut self, slot: u32, key: &[u8], mut partition: Partition) -> Result<(), String> {
        let State { store, timers, tenant_bytes, .. } = &mut self.state;
        let ends = partition.progress.iter().filter_map(|one| one.ends_at(&self.members[one.pattern as usize].machine, &partition.rows));
        let first = ends.min().filter(|_| self.streams);
        *bytes_of_tenant(tenant_bytes, key) += store.restore(slot, key, &mut partition)?;
        if let Some(time) = first {
            timers.push(time, slot);
            store.set_timer(slot, time);
            store.set_ends_at(slot, time);
        }
        store.give_way(timers.bytes())
    }

    /// Has partitions go to disk where memory has no room for them; before any row is taken.
    pub fn spill_to(&mut self, spill: &Arc<Spill>) {
        self.state.store.spill_to(spill);
    }

    /// Learns how much memory partitions may take from now on, and takes no more.
    ///
    /// # Errors
    /// When they cannot be written to disk.
    pub fn share_out(&mut self) -> Result<(), String> {
        self.state.store.share_out(self.state.timers.bytes())
    }

    /// Rows that are held, those that wait included.
    ///
    /// # Errors
    /// When partitions on disk cannot be read.
    pub fn held(&self) -> Result<usize, String> {
        Ok(self.state.waiting.len() + self.state.store.held()?)
    }

    /// Partitions that something is known of.
    #[must_use]
    pub fn partitions(&self) -> usize {
        self.state.store.len()
    }

    /// Bytes that partitions take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.state.store.bytes()
    }

    /// Takes the rows of a batch, in order.
    ///
    /// # Errors
    /// When partitions cannot be written to disk, or read. Nothing can be taken after it.
    pub fn take(&mut self, arrivals: &Arrivals, shared: &mut Shared) -> Result<(), String> {
        self.share_out()?;
        let Arrivals { schema, batch, holds, tenants, clocks } = *arrivals;
        let keys: Vec<KeyColumn> = self.kind.partition_by.iter().map(|field| KeyColumn::new(schema, batch, *field)).collect();
        let columns: Vec<Option<Cells>> = self.places.needed().iter().map(|field| batch.cells(schema, *field)).collect();
        let by_time_alone = self.streams && self.order_by.len() == 1;
        let may_pass = !self.kind.remembers && self.anywhere.is_empty() && self.anywhere_of.is_empty();
        let mut keys_of = std::mem::take(&mut self.keys);
        let asked = std::mem::take(&mut self.asked);
        let mut seen: Vec<usize> = Vec::with_capacity(CHUNK);
        for first in (0..batch.rows()).step_by(CHUNK) {
            let rows = first..(first + CHUNK).min(batch.rows());
            seen.clear();
            seen.extend(rows.clone().filter(|at| self.sees(&clocks[*at], tenants[*at])));
            keys_of.clear();
            for at in &seen {
                keys_of.add(|key| {
                    key.extend(tenants[*at].to_le_bytes());
                    keys.iter().for_each(|column| column.write(*at, key));
                });
            }
            keys_of.hash();
            keys_of.fetch(&self.state.store);
            let mut next = 0;
            for at in rows {
                let (clock, tenant) = (&clocks[at], tenants[at]);
                shared.arrival = at as u32;
                if seen.get(next) == Some(&at) {
                    let held = holds.row(at).iter().map(|condition| condition.0);
                    let number = batch.row_number(at);
                    let holds = held.clone().filter(|condition| asked.get(*condition as usize) == Some(&true));
                    let values = columns.iter().map(|column| column.map_or(Value::Null, |cells| cells.value(at)));
                    let (key, hash) = keys_of.get(next);
                    let in_turn = by_time_alone && self.state.waiting.is_empty() && clock.time <= clock.watermark;
                    if in_turn && may_pass && !held.clone().any(|condition| self.begins(condition)) && !self.state.store.may_have(hash) {
                        // Most rows: no match begins with it, and nothing is known of its key.
                    } else if in_turn {
                        self.enter(
                            (key, hash),
                            tenant,
                            clock.time,
                            held.clone(),
                            |rows| rows.push(number, clock.time, holds, values),
                            shared,
                        )?;
                    } else {
                        let value = |key: &OrderKey| batch.value(schema, key.field, at);
                        let order: Box<[Value]> = if by_time_alone { Box::default() } else { self.order_by.iter().map(value).collect() };
                        let time = if self.streams { clock.time } else { order.first().and_then(ticks) };
                        let row = Row { number, time, holds: holds.collect(), values: values.collect() };
                        self.wait(Waiting { order, key: key.into(), tenant, row });
                    }
                    next += 1;
                }
                // The time goes on with rows that are not seen, too.
                self.settle(clock.watermark, shared)?;
            }
        }
        (self.keys, self.asked) = (keys_of, asked);
        Ok(())
    }

    /// Whether a pattern may begin with a row for which a condition holds.
    fn begins(&self, condition: u32) -> bool {
        self.begun_by.get(condition as usize).is_some_and(|patterns| !patterns.is_empty())
    }

    /// Whether patterns may see a row.
    fn sees(&self, clock: &Clock, tenant: u32) -> bool {
        !(clock.hidden || self.streams && clock.left_out) && self.tenants.as_ref().is_none_or(|tenants| tenants.contains(&tenant))
    }

    /// Does what the watermark allows.
    fn settle(&mut self, watermark: Option<i64>, shared: &mut Shared) -> Result<(), String> {
        let Some(watermark) = watermark.filter(|_| self.streams) else { return Ok(()) };
        if !self.state.waiting.is_empty() {
            self.release(Some(watermark), shared)?;
        }
        if self.state.timers.may_be_due(watermark) { self.fire(watermark, shared) } else { Ok(()) }
    }

    /// Settles everything: no row follows.
    ///
    /// # Errors
    /// As [`Group::take`].
    pub fn finish(&mut self, shared: &mut Shared) -> Result<(), String> {
        self.release(None, shared)?;
        for slot in self.state.store.all() {
            let moment = Moment { ended: true, watermark: None, steps: shared.limits.steps };
            let before = self.take_out(slot)?;
            self.run(slot, before, moment, |_, _| true, shared)?;
        }
        Ok(())
    }

    fn wait(&mut self, waiting: Waiting) {
        // Rows mostly come in order, and equal ones stay in that of their arrival.
        let order_by = &self.order_by;
        let after = |other: &Waiting| {
            let order = if waiting.order.is_empty() {
                other.row.time.cmp(&waiting.row.time)
            } else {
                compare(order_by, &other.order, &waiting.order)
            };
            order == Ordering::Greater
        };
        let rows = &mut self.state.waiting;
        let place = if rows.back().is_some_and(after) { rows.partition_point(|other| !after(other)) } else { rows.len() };
        rows.insert(place, waiting);
    }

    /// Hands rows that none can come before any more to their partitions; without a watermark, all.
    fn release(&mut self, watermark: Option<i64>, shared: &mut Shared) -> Result<(), String> {
        while let Some(first) = self.state.waiting.front() {
            // Of rows at the same time as a later one, the later one is behind, if time is all that orders them.
            let waits =
                |watermark| if first.order.is_empty() { first.row.time > Some(watermark) } else { first.row.time >= Some(watermark) };
            if watermark.is_some_and(waits) {
                break;
            }
            let Some(Waiting { key, tenant, row, .. }) = self.state.waiting.pop_front() else { break };
            let holds = row.holds.clone();
            self.enter((&key, Store::hash(&key)), tenant, row.time, holds.iter().copied(), |rows| rows.push_row(row), shared)?;
        }
        Ok(())
    }

    /// A row, in its turn.
    fn enter(
        &mut self,
        (key, hash): (&[u8], u64),
        tenant: u32,
        time: Option<i64>,
        holds: impl Iterator<Item = u32>,
        push: impl FnOnce(&mut Rows),
        shared: &mut Shared,
    ) -> Result<(), String> {
        let watermark = time.filter(|_| self.streams);
        if let Some(watermark) = watermark.filter(|watermark| self.state.timers.may_be_due(*watermark)) {
            self.fire(watermark, shared)?;
        }
        let mut beginning = std::mem::take(&mut self.beginning);
        beginning.clear();
        beginning.extend(&self.anywhere);
        if !self.anywhere_of.is_empty() {
            beginning.extend(self.anywhere_of.get(&tenant).into_iter().flatten());
        }
        holds.for_each(|condition| beginning.extend_from_slice(self.begun_by.get(condition as usize).map_or(&[], Vec::as_slice)));
        if beginning.len() > 1 {
            beginning.sort_unstable();
            beginning.dedup();
        }
        let slot = match self.state.store.find(key, hash)? {
            None if beginning.is_empty() && !self.kind.remembers => None,
            None => Some((self.state.store.add(key, hash), true)),
            // One that is known for the numbers of its matches alone has no use for the row.
            Some(slot) => {
                let concerned = self.kind.remembers || !beginning.is_empty() || self.state.store.searches(slot);
                concerned.then_some((slot, false))
            }
        };
        if let Some((slot, new)) = slot {
            let taken = self.take_out(slot)?;
            let before = if new { 0 } else { taken };
            let position = self.partition.rows.end();
            push(&mut self.partition.rows);
            let known = &mut self.partition.progress;
            for pattern in &beginning {
                match known.binary_search_by_key(pattern, |progress| progress.pattern) {
                    Ok(at) if known[at].searches() => {}
                    Ok(at) => known[at].pass_to(position),
                    Err(at) => known.insert(at, Progress::new(*pattern, position)),
                }
            }
            let moment = Moment { ended: false, watermark, steps: shared.limits.steps };
            let concerned = |progress: &Progress, _: Option<i64>| progress.searches() || progress.needs_from() == position;
            self.run(slot, before, moment, concerned, shared)?;
        }
        self.beginning = beginning;
        Ok(())
    }

    /// Has everybody look whose time is up, in the order of time.
    fn fire(&mut self, now: i64, shared: &mut Shared) -> Result<(), String> {
        while let Some((time, slot)) = self.state.timers.pop(now) {
            let State { store, timers, .. } = &mut self.state;
            if store.timer(slot) != time {
                continue;
            }
            // A timer may be early: its searches went on with later rows. Then it is set again, and goes off in its turn.
            let ends_at = store.ends_at(slot);
            if ends_at > time {
                store.set_timer(slot, ends_at);
                if ends_at < NEVER {
                    timers.push(ends_at, slot);
                }
                continue;
            }
            store.set_timer(slot, NEVER);
            let before = self.take_out(slot)?;
            // Not later: what a next search finds has a time of its own, and goes off in its turn.
            let moment = Moment { ended: false, watermark: Some(time), steps: shared.limits.steps };
            self.run(slot, before, moment, |_, ends_at| ends_at.is_some_and(|ends_at| ends_at <= time), shared)?;
        }
        Ok(())
    }

    /// Takes a partition out, to be [`run`](Self::run); returns the bytes that it took.
    fn take_out(&mut self, slot: u32) -> Result<usize, String> {
        self.state.store.take(slot, &mut self.partition, &mut self.work.spare)
    }

    /// Runs some patterns of the partition that was taken out, and puts back what anybody still needs. `before`: bytes that it took. `chosen` is asked with the time at which
    /// the search is over.
    fn run(
        &mut self,
        slot: u32,
        before: usize,
        moment: Moment,
        chosen: impl Fn(&Progress, Option<i64>) -> bool,
        shared: &mut Shared,
    ) -> Result<(), String> {
        let Self { members, work, state, partition, looks_back, streams, kind, .. } = self;
        let State { store, timers, tenant_bytes, .. } = state;
        let Partition { rows, progress } = partition;
        for progress in progress.iter_mut() {
            let member = &mut members[progress.pattern as usize];
            if chosen(progress, progress.ends_at(&member.machine, rows)) {
                progress.run(&member.machine, rows, moment, work);
                member.troubles.add(std::mem::take(&mut work.troubles));
                let rule = member.rule.rule;
                shared.found.extend(work.found.drain(..).map(|finding| (shared.arrival, Found { rule, finding })));
            }
        }
        let forget = |partition: &mut Partition| {
            let needed = partition.progress.iter().filter(|progress| progress.searches()).map(Progress::needs_from).min();
            partition.rows.forget_before(needed.unwrap_or(partition.rows.end()).saturating_sub(*looks_back));
        };
        forget(partition);
        let mut give_up = |partition: &mut Partition, all: bool, count: fn(&mut Troubles) -> &mut u64| {
            let Partition { rows, progress } = partition;
            let oldest = progress.iter().filter(|progress| progress.searches()).map(Progress::needs_from).min();
            for progress in progress.iter_mut().filter(|progress| progress.searches()) {
                if all || Some(progress.needs_from()) == oldest {
                    progress.give_up(rows);
                    *count(&mut members[progress.pattern as usize].troubles) += 1;
                }
            }
            forget(partition);
            oldest.is_some()
        };
        // Whoever holds the oldest row gives way.
        while partition.bytes() > shared.limits.key_bytes && give_up(partition, false, |troubles| &mut troubles.over_key) {}
        let of_tenant = bytes_of_tenant(tenant_bytes, store.key(slot));
        *of_tenant -= before;
        let bytes = partition.bytes();
        if *of_tenant + bytes > shared.limits.tenant_bytes && bytes > before {
            give_up(partition, true, |troubles| &mut troubles.over_tenant);
        }
        partition.progress.retain(|progress| !progress.is_new());
        if partition.progress.is_empty() && !kind.remembers {
            store.remove(slot);
            return Ok(());
        }
        if *streams {
            let ends = partition.progress.iter().filter_map(|one| one.ends_at(&members[one.pattern as usize].machine, &partition.rows));
            // One whose time is up, and that is still there, waits for rows and not for time.
            let first = ends.filter(|time| moment.watermark.is_none_or(|now| *time > now)).min().unwrap_or(NEVER);
            store.set_ends_at(slot, first);
            if first < store.timer(slot) {
                timers.push(first, slot);
                store.set_timer(slot, first);
            }
        }
        *of_tenant += store.put(slot, partition);
        store.give_way(timers.bytes())
    }
}

/// The keys of some rows, one after the other.
#[derive(Debug, Default)]
struct Keys {
    bytes: Vec<u8>,
    /// Where each ends, and its hash.
    ends: Vec<(usize, u64)>,
}

impl Keys {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push((self.bytes.len(), 0));
    }

    /// Hashes all of them: one that was only just written would be waited for.
    fn hash(&mut self) {
        let mut start = 0;
        for (end, hash) in &mut self.ends {
            *hash = Store::hash(&self.bytes[start..*end]);
            start = *end;
        }
    }

    fn get(&self, at: usize) -> (&[u8], u64) {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before].0);
        (&self.bytes[start..self.ends[at].0], self.ends[at].1)
    }

    /// Has memory brought near that the looks for them will read, of all at once: one after the other each would wait for it.
    fn fetch(&self, store: &Store) {
        let hashes = || self.ends.iter().map(|(_, hash)| *hash);
        std::hint::black_box(hashes().map(|hash| store.fetch_entry(hash)).fold(0, u64::wrapping_add));
        std::hint::black_box(hashes().map(|hash| store.fetch_slot(hash)).fold(0, u32::wrapping_add));
        std::hint::black_box(hashes().map(|hash| store.fetch_partition(hash)).fold(0, u8::wrapping_add));
    }
}

/// The bytes of the tenant that a key begins with.
fn bytes_of_tenant<'b>(tenant_bytes: &'b mut Vec<usize>, key: &[u8]) -> &'b mut usize {
    let tenant = key.first_chunk().map_or(NO_TENANT, |tenant| u32::from_le_bytes(*tenant));
    let place = tenant.wrapping_add(1) as usize;
    if tenant_bytes.len() <= place {
        tenant_bytes.resize(place + 1, 0);
    }
    &mut tenant_bytes[place]
}

/// Ticks of an instant.
const fn ticks(value: &Value) -> Option<i64> {
    match value {
        Value::Timestamp { ticks, .. } => Some(*ticks),
        Value::Date(days) => Some(*days as i64),
        _ => None,
    }
}

fn compare(keys: &[OrderKey], a: &[Value], b: &[Value]) -> Ordering {
    for (key, (a, b)) in keys.iter().zip(a.iter().zip(b)) {
        let order = match (a.is_null(), b.is_null()) {
            (true, true) => Ordering::Equal,
            (true, false) if key.nulls_first => Ordering::Less,
            (true, false) => Ordering::Greater,
            (false, true) if key.nulls_first => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => {
                let order = scalar::compare(a, b).unwrap_or(Ordering::Equal);
                if key.descending { order.reverse() } else { order }
            }
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}
