//! Patterns over the same partitions, which share their rows.
//!
//! A row is looked at by the patterns that search in its partition, and by those that may begin a match with it; the conditions that hold for it tell which.
//! Where there are none the row is not even held, and a partition that nothing is known of takes no room.

use super::automaton::Machine;
use super::evaluate::Places;
use super::keys::KeyColumn;
use super::pages::Pages;
use super::patterns::{Found, Limits, PatternRule};
use super::progress::{Moment, Progress, Troubles, Work};
use super::{Row, Rows, conditions::Conditions, keys::Tenants};
use crate::event::batch::value_at;
use crate::event::{EventBatch, Schema, Type, Value};
use crate::expr::scalar;
use crate::flow::Hits;
use crate::id::{FieldId, RuleId};
use crate::pattern::{OrderKey, Pattern, Step};
use arrow::array::ArrayRef;
use foldhash::fast::FixedState;
use serde::{Deserialize, Serialize};
use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// What patterns have in common that share their rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Kind {
    pub partition_by: Vec<FieldId>,
    order_by: Vec<(FieldId, bool, bool)>,
    /// Whether every row is held for a while, or counted, whatever it is: they look back, or ask for the first row of all.
    remembers: bool,
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
    pub rule: RuleId,
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
    /// Bytes that each tenant's partitions take; first those without a tenant.
    pub tenant_bytes: &'s mut Vec<usize>,
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
    begun_by: HashMap<u32, Vec<u32>, FixedState>,
    /// Patterns that may begin anywhere: over all tenants' rows, and over one's.
    anywhere: Vec<u32>,
    anywhere_of: HashMap<u32, Vec<u32>, FixedState>,
    /// Whose rows are seen; `None`: everybody's.
    tenants: Option<HashSet<u32, FixedState>>,
    pub state: State,
    work: Work,
    beginning: Vec<u32>,
    key: Vec<u8>,
}

/// What a group knows of the rows so far.
#[derive(Clone, Debug, Default)]
pub struct State {
    slots: HashMap<Arc<[u8]>, u32, FixedState>,
    partitions: Pages<Partition>,
    free: Vec<u32>,
    /// When somebody must look at which pattern of which partition. What was found earlier stays in it for a while.
    timers: BinaryHeap<Reverse<(i64, u32, u32)>>,
    /// Timers that are not outdated.
    timed: usize,
    /// Rows that others may still come before, in order.
    waiting: VecDeque<Waiting>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Partition {
    /// Absent: the slot is free.
    key: Option<Arc<[u8]>>,
    tenant: u32,
    rows: Rows,
    /// Of the patterns that have something to remember, ascending.
    progress: Vec<Progress>,
    /// As they were counted for the tenant.
    bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Waiting {
    /// What rows are ordered by, but for the time where that is all.
    order: Box<[Value]>,
    key: Box<[u8]>,
    tenant: u32,
    row: Row,
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
            begun_by: HashMap::default(),
            anywhere: Vec::new(),
            anywhere_of: HashMap::default(),
            tenants: Some(HashSet::default()),
            state: State::default(),
            work: Work::default(),
            beginning: Vec::new(),
            key: Vec::new(),
        };
        for (number, PatternRule { rule, tenant, pattern }) in (0..).zip(rules) {
            let machine = Machine::new(pattern, schema, &group.places, tenant.as_ref(), conditions);
            group.looks_back = group.looks_back.max(machine.looks_back);
            let tenant = tenant.map(|tenant| tenants.number(&tenant));
            match &machine.begins {
                Some(begins) => begins.iter().for_each(|condition| group.begun_by.entry(*condition).or_default().push(number)),
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

    /// Rows that are held, those that wait included.
    #[must_use]
    pub fn held(&self) -> usize {
        self.state.waiting.len() + self.state.partitions.iter().map(|partition| partition.rows.held()).sum::<usize>()
    }

    /// Partitions that something is known of.
    #[must_use]
    pub fn partitions(&self) -> usize {
        self.state.slots.len()
    }

    /// Takes the rows of a batch, in order.
    pub fn take(&mut self, arrivals: &Arrivals, shared: &mut Shared) {
        let Arrivals { schema, batch, holds, tenants, clocks } = *arrivals;
        let keys: Vec<KeyColumn> = self.kind.partition_by.iter().map(|field| KeyColumn::new(schema, batch, *field)).collect();
        let columns: Vec<(Option<&ArrayRef>, Type)> =
            self.places.needed().iter().map(|field| (batch.column(*field), schema.field(*field).ty)).collect();
        let by_time_alone = self.streams && self.order_by.len() == 1;
        for (at, (clock, &tenant)) in clocks.iter().zip(tenants).enumerate() {
            shared.arrival = at as u32;
            if clock.hidden || self.streams && clock.left_out || self.tenants.as_ref().is_some_and(|tenants| !tenants.contains(&tenant)) {
                // The time goes on for others, too.
                self.settle(clock.watermark, shared);
                continue;
            }
            let mut key = std::mem::take(&mut self.key);
            key.clear();
            key.extend(tenant.to_le_bytes());
            keys.iter().for_each(|column| column.write(at, &mut key));
            let held = holds.row(at);
            let asked = std::mem::take(&mut self.asked);
            let row = |time| Row {
                number: batch.row_number(at),
                time,
                holds: held.iter().map(|condition| condition.0).filter(|condition| asked.get(*condition as usize) == Some(&true)).collect(),
                values: columns
                    .iter()
                    .map(|(column, ty)| column.map_or(Value::Null, |column| value_at(column.as_ref(), *ty, at)))
                    .collect(),
            };
            let is_next = by_time_alone && self.state.waiting.is_empty() && clock.time <= clock.watermark;
            if is_next {
                let holds = held.iter().map(|condition| condition.0);
                self.enter(&key, tenant, clock.time, holds, || row(clock.time), shared);
            } else {
                let value = |field| batch.column(field).map_or(Value::Null, |column| value_at(column.as_ref(), schema.field(field).ty, at));
                let order: Box<[Value]> =
                    if by_time_alone { Box::default() } else { self.order_by.iter().map(|key| value(key.field)).collect() };
                let time = if self.streams { clock.time } else { order.first().and_then(ticks) };
                let waiting = Waiting { order, key: key.as_slice().into(), tenant, row: row(time) };
                self.wait(waiting);
            }
            (self.key, self.asked) = (key, asked);
            self.settle(clock.watermark, shared);
        }
    }

    /// Does what the watermark allows.
    fn settle(&mut self, watermark: Option<i64>, shared: &mut Shared) {
        if let Some(watermark) = watermark.filter(|_| self.streams) {
            self.release(Some(watermark), shared);
            self.fire(watermark, shared);
        }
    }

    /// Settles everything: no row follows.
    pub fn finish(&mut self, shared: &mut Shared) {
        self.release(None, shared);
        for slot in 0..self.state.partitions.len() {
            if self.state.partitions.get(slot).key.is_some() {
                self.run(slot as u32, Moment { ended: true, watermark: None, steps: shared.limits.steps }, |_| true, shared);
            }
        }
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
    fn release(&mut self, watermark: Option<i64>, shared: &mut Shared) {
        while let Some(first) = self.state.waiting.front() {
            // Of rows at the same time as a later one, the later one is behind, if time is all that orders them.
            let waits =
                |watermark| if first.order.is_empty() { first.row.time > Some(watermark) } else { first.row.time >= Some(watermark) };
            if watermark.is_some_and(waits) {
                return;
            }
            let Some(Waiting { key, tenant, row, .. }) = self.state.waiting.pop_front() else { return };
            let holds = row.holds.clone();
            self.enter(&key, tenant, row.time, holds.iter().copied(), || row, shared);
        }
    }

    /// A row, in its turn.
    fn enter(
        &mut self,
        key: &[u8],
        tenant: u32,
        time: Option<i64>,
        holds: impl Iterator<Item = u32>,
        row: impl FnOnce() -> Row,
        shared: &mut Shared,
    ) {
        let watermark = time.filter(|_| self.streams);
        if let Some(watermark) = watermark {
            self.fire(watermark, shared);
        }
        let mut beginning = std::mem::take(&mut self.beginning);
        beginning.clear();
        beginning.extend(&self.anywhere);
        beginning.extend(self.anywhere_of.get(&tenant).into_iter().flatten());
        holds.for_each(|condition| beginning.extend(self.begun_by.get(&condition).into_iter().flatten()));
        if beginning.len() > 1 {
            beginning.sort_unstable();
            beginning.dedup();
        }
        let slot = match self.state.slots.get(key) {
            Some(slot) => Some(*slot),
            None if beginning.is_empty() && !self.kind.remembers => None,
            None => Some(self.state.add(key, tenant)),
        };
        if let Some(slot) = slot {
            let partition = self.state.partitions.get_mut(slot as usize);
            // One that is known for the numbers of its matches alone has no use for the row.
            if self.kind.remembers || !beginning.is_empty() || partition.progress.iter().any(Progress::searches) {
                let position = partition.rows.end();
                partition.rows.push(row());
                for pattern in &beginning {
                    match partition.progress.binary_search_by_key(pattern, |progress| progress.pattern) {
                        Ok(at) if partition.progress[at].searches() => {}
                        Ok(at) => partition.progress[at].pass_to(position),
                        Err(at) => partition.progress.insert(at, Progress::new(*pattern, position)),
                    }
                }
                let moment = Moment { ended: false, watermark, steps: shared.limits.steps };
                self.run(slot, moment, |progress| progress.searches() || progress.needs_from() == position, shared);
            }
        }
        self.beginning = beginning;
    }

    /// Has everybody look whose time is up.
    fn fire(&mut self, now: i64, shared: &mut Shared) {
        while let Some(&Reverse((deadline, slot, pattern))) = self.state.timers.peek()
            && deadline <= now
        {
            self.state.timers.pop();
            if self.state.is_timed(deadline, slot, pattern) {
                let moment = Moment { ended: false, watermark: Some(now), steps: shared.limits.steps };
                self.run(slot, moment, |progress| progress.pattern == pattern, shared);
            }
        }
    }

    /// Runs some patterns of a partition, and lets go of what nobody needs then.
    fn run(&mut self, slot: u32, moment: Moment, chosen: impl Fn(&Progress) -> bool, shared: &mut Shared) {
        let Self { members, work, state, looks_back, streams, kind, .. } = self;
        let State { partitions, timers, timed, slots, free, .. } = state;
        let partition = partitions.get_mut(slot as usize);
        let Partition { rows, progress, tenant, .. } = partition;
        let mut put = |member: &mut Member, work: &mut Work| {
            member.troubles.add(std::mem::take(&mut work.troubles));
            let rule = member.rule;
            shared.found.extend(work.found.drain(..).map(|finding| (shared.arrival, Found { rule, finding })));
        };
        for progress in progress.iter_mut().filter(|progress| chosen(progress)) {
            let member = &mut members[progress.pattern as usize];
            progress.run(&member.machine, rows, moment, work);
            put(member, work);
        }
        let bytes_of = |rows: &Rows, progress: &[Progress]| rows.bytes() + progress.iter().map(Progress::bytes).sum::<usize>();
        let forget = |rows: &mut Rows, progress: &[Progress]| {
            let needed = progress.iter().filter(|progress| progress.searches()).map(Progress::needs_from).min();
            rows.forget_before(needed.unwrap_or(rows.end()).saturating_sub(*looks_back));
        };
        forget(rows, progress);
        let mut bytes = bytes_of(rows, progress);
        // Whoever holds the oldest row gives way.
        while bytes > shared.limits.key_bytes
            && let Some(oldest) = progress.iter_mut().filter(|progress| progress.searches()).min_by_key(|progress| progress.needs_from())
        {
            oldest.give_up(rows);
            members[oldest.pattern as usize].troubles.over_key += 1;
            forget(rows, progress);
            bytes = bytes_of(rows, progress);
        }
        let place = tenant.wrapping_add(1) as usize;
        if shared.tenant_bytes.len() <= place {
            shared.tenant_bytes.resize(place + 1, 0);
        }
        let of_tenant = &mut shared.tenant_bytes[place];
        *of_tenant -= partition.bytes;
        if *of_tenant + bytes > shared.limits.tenant_bytes && bytes > partition.bytes {
            for progress in progress.iter_mut().filter(|progress| progress.searches()) {
                progress.give_up(rows);
                members[progress.pattern as usize].troubles.over_tenant += 1;
            }
            forget(rows, progress);
            bytes = bytes_of(rows, progress);
        }
        for progress in progress.iter_mut() {
            let ends_at = if *streams { progress.ends_at(&members[progress.pattern as usize].machine, rows) } else { None };
            if ends_at != progress.deadline {
                *timed -= usize::from(progress.deadline.is_some());
                if let Some(deadline) = ends_at {
                    *timed += 1;
                    timers.push(Reverse((deadline, slot, progress.pattern)));
                }
                progress.deadline = ends_at;
            }
        }
        progress.retain(|progress| !progress.is_new());
        if progress.is_empty() && !kind.remembers {
            rows.forget_before(rows.end());
            if let Some(key) = partition.key.take() {
                slots.remove(&key);
                free.push(slot);
            }
            bytes = 0;
        }
        *of_tenant += bytes;
        partition.bytes = bytes;
        if timers.len() > 2 * *timed + 1024 {
            let current = |Reverse((deadline, slot, pattern)): &Reverse<(i64, u32, u32)>| {
                let progress = &partitions.get(*slot as usize).progress;
                progress.iter().any(|progress| progress.pattern == *pattern && progress.deadline == Some(*deadline))
            };
            timers.retain(current);
        }
    }
}

impl State {
    fn add(&mut self, key: &[u8], tenant: u32) -> u32 {
        let key: Arc<[u8]> = key.into();
        let slot = self.free.pop().unwrap_or_else(|| {
            self.partitions.push(Partition::default());
            self.partitions.len() as u32 - 1
        });
        let partition = self.partitions.get_mut(slot as usize);
        (partition.key, partition.tenant) = (Some(Arc::clone(&key)), tenant);
        self.slots.insert(key, slot);
        slot
    }

    fn is_timed(&mut self, deadline: i64, slot: u32, pattern: u32) -> bool {
        let progress = &self.partitions.get(slot as usize).progress;
        progress.iter().any(|progress| progress.pattern == pattern && progress.deadline == Some(deadline))
    }
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
