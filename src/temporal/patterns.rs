//! All patterns of an artifact, over all partitions.

use super::Row;
use super::automaton::Machine;
use super::finding::Finding;
use super::partition::{Partition, Troubles};
use crate::event::batch::value_at;
use crate::event::{EventBatch, Schema, Type, Value};
use crate::expr::scalar;
use crate::id::{FieldId, RuleId};
use crate::pattern::{OrderKey, Pattern};
use arrow::array::ArrayRef;
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// A finding, and whose it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub rule: RuleId,
    /// The values of the fields that the rule's partitions are made by.
    pub partition: Arc<[Value]>,
    pub finding: Finding,
}

/// A pattern in service.
#[derive(Clone, Debug)]
pub struct PatternRule {
    pub rule: RuleId,
    /// The tenant whose rows it sees; `None`: those of every tenant, each tenant's by themselves.
    pub tenant: Option<Arc<str>>,
    pub pattern: Arc<Pattern>,
}

/// What did not go as rules and rows say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Rows before the watermark when they came; no pattern sees them.
    pub late: u64,
    /// Rows without a time.
    pub untimed: u64,
    pub troubles: Troubles,
}

/// All patterns, with their state.
#[derive(Debug)]
pub struct Patterns {
    schema: Schema,
    patterns: Vec<Running>,
    needed: Vec<FieldId>,
    lateness: i128,
    /// The highest time seen less the lateness: no later row is before it.
    watermark: Option<i128>,
    arrivals: u64,
    pub counters: Counters,
}

#[derive(Debug)]
struct Running {
    rule: RuleId,
    tenant: Option<Arc<str>>,
    machine: Machine,
    /// Whether the rows are in order of event time first, so that what is old can be settled while rows arrive.
    streams: bool,
    /// Rows that others may still come before, in order.
    waiting: VecDeque<Waiting>,
    partitions: Vec<Keyed>,
    by_key: HashMap<Vec<u8>, usize>,
    /// When searches end for want of time, and the partitions.
    deadlines: BTreeSet<(i128, usize)>,
}

#[derive(Debug)]
struct Waiting {
    order: Vec<Value>,
    partition: usize,
    row: Row,
}

#[derive(Debug)]
struct Keyed {
    values: Arc<[Value]>,
    state: Partition,
    deadline: Option<i128>,
}

impl Patterns {
    /// `lateness`: nanoseconds that rows may be late.
    #[must_use]
    pub fn new(schema: Schema, rules: Vec<PatternRule>, lateness: i128) -> Self {
        let mut needed: Vec<FieldId> = rules.iter().flat_map(|rule| rule.pattern.needs()).chain(schema.time).chain(schema.tenant).collect();
        needed.sort_unstable();
        needed.dedup();
        let patterns = rules
            .into_iter()
            .map(|PatternRule { rule, tenant, pattern }| Running {
                rule,
                tenant,
                streams: pattern.order_by.first().is_some_and(|key| Some(key.field) == schema.time && !key.descending),
                machine: Machine::new(pattern),
                waiting: VecDeque::new(),
                partitions: Vec::new(),
                by_key: HashMap::new(),
                deadlines: BTreeSet::new(),
            })
            .collect();
        Self { schema, patterns, needed, lateness, watermark: None, arrivals: 0, counters: Counters::default() }
    }

    /// The fields that patterns read, ascending.
    #[must_use]
    pub fn fields(&self) -> &[FieldId] {
        &self.needed
    }

    /// Takes the rows of a batch, one by one: what is found does not depend on how rows are cut into batches. The rows that came too late for it are added to `late`.
    pub fn take(&mut self, batch: &EventBatch, found: &mut Vec<Found>, late: &mut Vec<usize>) {
        let columns: Vec<(FieldId, ArrayRef)> =
            self.needed.iter().filter_map(|field| Some((*field, Arc::clone(batch.column(*field)?)))).collect();
        let mut values = vec![Value::Null; self.schema.fields().len()];
        for at in 0..batch.rows() {
            for (field, column) in &columns {
                values[field.index()] = value_at(column.as_ref(), self.schema.field(*field).ty, at);
            }
            let time = self.schema.time.and_then(|field| nanoseconds(&values[field.index()]));
            let is_late = time.zip(self.watermark).is_some_and(|(time, watermark)| time < watermark);
            if is_late {
                self.counters.late += 1;
                late.push(at);
            }
            if let Some(time) = time {
                let mark = time - self.lateness;
                self.watermark = Some(self.watermark.map_or(mark, |watermark| watermark.max(mark)));
            } else if self.schema.time.is_some() && self.patterns.iter().any(|pattern| pattern.streams) {
                self.counters.untimed += 1;
            }
            self.arrivals += 1;
            let tenant = self.schema.tenant.map_or(Value::Null, |field| values[field.index()].clone());
            for pattern in &mut self.patterns {
                if pattern.sees(&tenant) && !(pattern.streams && (is_late || time.is_none())) {
                    pattern.wait(&values, &tenant, batch.row_number(at));
                }
                if pattern.streams
                    && let Some(watermark) = self.watermark
                {
                    pattern.release(Some(watermark), found, &mut self.counters.troubles);
                }
            }
        }
    }

    /// Settles everything: no row follows.
    pub fn finish(&mut self, found: &mut Vec<Found>) {
        for pattern in &mut self.patterns {
            pattern.release(None, found, &mut self.counters.troubles);
            for at in 0..pattern.partitions.len() {
                pattern.run(at, true, None, found, &mut self.counters.troubles);
            }
        }
    }

    /// Rows that are held, by all patterns.
    #[must_use]
    pub fn held(&self) -> usize {
        let held = |pattern: &Running| pattern.waiting.len() + pattern.partitions.iter().map(|keyed| keyed.state.held()).sum::<usize>();
        self.patterns.iter().map(held).sum()
    }
}

impl Running {
    fn sees(&self, tenant: &Value) -> bool {
        match (&self.tenant, tenant) {
            (None, _) => true,
            (Some(own), Value::Text(tenant)) => **own == **tenant,
            (Some(own), Value::Int(tenant)) => **own == *tenant.to_string(),
            (Some(own), Value::UInt(tenant)) => **own == *tenant.to_string(),
            _ => false,
        }
    }

    fn wait(&mut self, values: &[Value], tenant: &Value, number: u64) {
        let Self { machine, waiting, partitions, by_key, .. } = self;
        let pattern = &machine.pattern;
        let mut key = Vec::new();
        write_key(tenant, &mut key);
        pattern.partition_by.iter().for_each(|field| write_key(&values[field.index()], &mut key));
        let partition = *by_key.entry(key).or_insert_with(|| {
            let values = pattern.partition_by.iter().map(|field| values[field.index()].clone()).collect();
            partitions.push(Keyed { values, state: Partition::default(), deadline: None });
            partitions.len() - 1
        });
        let order: Vec<Value> = pattern.order_by.iter().map(|key| values[key.field.index()].clone()).collect();
        let time = order.first().and_then(nanoseconds);
        let row = Row { number, time, values: machine.places.needed().iter().map(|field| values[field.index()].clone()).collect() };
        // Rows mostly come in order, and equal ones stay in that of their arrival.
        let after = |other: &Waiting| compare(&pattern.order_by, &other.order, &order) == Ordering::Greater;
        let place = if waiting.back().is_some_and(after) { waiting.partition_point(|other| !after(other)) } else { waiting.len() };
        waiting.insert(place, Waiting { order, partition, row });
    }

    /// Hands rows before the watermark to their partitions, and ends the searches whose time has passed by then; without one, all rows.
    fn release(&mut self, watermark: Option<i128>, found: &mut Vec<Found>, troubles: &mut Troubles) {
        while let Some(first) = self.waiting.front() {
            let time = first.row.time;
            if watermark.is_some_and(|watermark| time.is_none_or(|time| time >= watermark)) {
                break;
            }
            self.expire(time, found, troubles);
            let Some(Waiting { partition, row, .. }) = self.waiting.pop_front() else { return };
            self.partitions[partition].state.push(row);
            self.run(partition, false, if self.streams { time } else { None }, found, troubles);
        }
        self.expire(watermark, found, troubles);
    }

    /// Ends the searches that no row from `time` on can be part of.
    fn expire(&mut self, time: Option<i128>, found: &mut Vec<Found>, troubles: &mut Troubles) {
        while let Some(&(deadline, partition)) = self.deadlines.first()
            && time.is_some_and(|time| deadline <= time)
        {
            self.deadlines.pop_first();
            self.partitions[partition].deadline = None;
            self.run(partition, false, time, found, troubles);
        }
    }

    fn run(&mut self, at: usize, ended: bool, watermark: Option<i128>, found: &mut Vec<Found>, troubles: &mut Troubles) {
        let keyed = &mut self.partitions[at];
        let mut findings = Vec::new();
        keyed.state.run(&self.machine, ended, watermark, &mut findings, troubles);
        let partition = &keyed.values;
        found.extend(findings.into_iter().map(|finding| Found { rule: self.rule, partition: Arc::clone(partition), finding }));
        // One that has passed is of a search that waits for rows to look ahead at, whenever they come.
        let passed = |deadline: &i128| watermark.is_some_and(|watermark| *deadline <= watermark);
        let deadline = keyed.state.deadline(&self.machine).filter(|deadline| !passed(deadline));
        if self.streams && deadline != keyed.deadline {
            if let Some(old) = keyed.deadline {
                self.deadlines.remove(&(old, at));
            }
            if let Some(new) = deadline {
                self.deadlines.insert((new, at));
            }
            keyed.deadline = deadline;
        }
    }
}

/// Nanoseconds since 1970-01-01T00:00:00Z.
fn nanoseconds(value: &Value) -> Option<i128> {
    match value {
        Value::Timestamp { ticks, unit } => Some(i128::from(*ticks) * i128::from(unit.nanoseconds())),
        Value::Date(days) => Some(i128::from(*days) * 86_400_000_000_000),
        _ => None,
    }
}

fn compare(keys: &[OrderKey], a: &[Value], b: &[Value]) -> Ordering {
    for (key, (a, b)) in keys.iter().zip(a.iter().zip(b)) {
        let order = match (a.is_null(), b.is_null()) {
            (true, true) => Ordering::Equal,
            (true, false) => {
                if key.nulls_first {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }
            }
            (false, true) => {
                if key.nulls_first {
                    Ordering::Greater
                } else {
                    Ordering::Less
                }
            }
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

/// Bytes that are equal where values are the same to PARTITION BY: NULL is like NULL, -0.0 like 0.0, NaN like NaN.
fn write_key(value: &Value, key: &mut Vec<u8>) {
    let mut put = |tag: u8, bytes: &[u8]| {
        key.push(tag);
        key.extend_from_slice(bytes);
    };
    match value {
        Value::Null => put(0, &[]),
        Value::Bool(truth) => put(1, &[u8::from(*truth)]),
        Value::Int(value) => put(2, &value.to_le_bytes()),
        Value::UInt(value) => put(3, &value.to_le_bytes()),
        Value::Float(value) => put(4, &crate::event::key::of_f64(*value).to_le_bytes()),
        Value::Decimal { units, .. } => put(5, &units.to_le_bytes()),
        Value::Text(text) => {
            put(6, &(text.len() as u64).to_le_bytes());
            key.extend_from_slice(text.as_bytes());
        }
        Value::Timestamp { ticks, .. } => put(7, &ticks.to_le_bytes()),
        Value::Date(days) => put(8, &days.to_le_bytes()),
        Value::Interval { months, days, nanoseconds } => {
            put(9, &months.to_le_bytes());
            key.extend_from_slice(&days.to_le_bytes());
            key.extend_from_slice(&nanoseconds.to_le_bytes());
        }
    }
}

/// Whether rows of this type may be the event time of patterns.
#[must_use]
pub const fn is_time(ty: Type) -> bool {
    matches!(ty, Type::Timestamp(_) | Type::Date)
}
