//! The partitions that this process reads, each a stream with its state.

use super::outbox::{Kind, Outbox};
use super::payload::{Bad, Events, Payload};
use super::transit::Transit;
use crate::connector::kafka::Partition;
use crate::connector::kafka::config::Output;
use crate::connector::kafka::source::{Messages, Owner, Position};
use crate::connector::store::Store;
use crate::event::{EventBatch, Schema};
use crate::live::{LiveEngine, Snapshot as Rules};
use crate::service::answer::{self, Told};
use crate::service::keeper::Keeper;
use crate::service::metrics::Metrics;
use crate::service::owners::Owners;
use crate::service::scorer::{Shared, renumbered};
use crate::stream::{Judged, Settings as StreamSettings, Stream};
use crate::temporal::finding::json as json_of;
use arrow::ipc::writer::StreamWriter;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// What the partitions of a process have in common.
#[derive(Clone)]
pub struct Settings {
    pub live: Arc<LiveEngine>,
    pub stream: StreamSettings,
    /// Where state is.
    pub place: Store,
    /// How often a snapshot is taken.
    pub every: Duration,
    /// Whether windows and patterns may begin with nothing where others have read before.
    pub state_may_be_missing: bool,
    pub output: Output,
    pub shared: Arc<Shared>,
    pub metrics: Arc<Metrics>,
}

/// A partition of events that are to be judged.
struct Held {
    stream: Stream,
    keeper: Keeper,
    /// The next offset that its state has not seen.
    next: i64,
    /// The first offset that was not told of before.
    untold: i64,
}

/// The partitions.
pub struct Partitions {
    settings: Settings,
    payload: Payload,
    held: HashMap<Partition, Held>,
    /// The next offset of each partition whose events are put into other ones.
    forwarded: HashMap<Partition, i64>,
    /// Results that are being put out.
    transit: Arc<Transit>,
    /// Whether what was judged may not count, so that no snapshot may be taken of it.
    abandoned: bool,
}

impl Partitions {
    #[must_use]
    pub fn new(settings: Settings, payload: Payload, transit: Arc<Transit>) -> Self {
        Self { settings, payload, held: HashMap::new(), forwarded: HashMap::new(), transit, abandoned: false }
    }

    /// Says that what was judged since the last commit does not count.
    pub const fn abandon(&mut self) {
        self.abandoned = true;
    }

    /// Judges messages of a partition; the position after them, where any of them is to be told of. What became of them goes to `outbox`.
    ///
    /// # Errors
    /// State that is lost: it must be made anew.
    pub fn take(&mut self, messages: Messages, rules: &Arc<Rules>, outbox: &mut Outbox) -> Result<Option<(Partition, i64)>, String> {
        if self.payload.forwards(&messages.partition.topic) {
            let judging = Judging { settings: &self.settings, payload: &self.payload, rules, messages: &messages };
            judging.forward(outbox)?;
            let next = messages.next();
            self.forwarded.insert(messages.partition.clone(), next);
            return Ok(Some((messages.partition, next)));
        }
        self.judge(messages, rules, outbox)
    }

    fn judge(&mut self, messages: Messages, rules: &Arc<Rules>, outbox: &mut Outbox) -> Result<Option<(Partition, i64)>, String> {
        let Some(held) = self.held.get_mut(&messages.partition) else { return Ok(None) };
        let (_, messages) = messages.split_at(held.next);
        if messages.is_empty() {
            return Ok(None);
        }
        let given_up = held.keeper.follow(&mut held.stream, rules).map_err(|broken| broken.to_string())?;
        given_up.iter().for_each(|problem| self.settings.metrics.snapshot(Err(problem)));
        let (partition, next) = (messages.partition.clone(), messages.next());
        let (told, messages) = messages.split_at(held.untold);
        for (messages, outbox) in [(told, None), (messages, Some(outbox))] {
            if messages.is_empty() {
                continue;
            }
            let judging = Judging { settings: &self.settings, payload: &self.payload, rules, messages: &messages };
            judging.run(&mut held.stream, outbox)?;
        }
        held.next = next;
        Ok((next > held.untold).then_some((partition, next)))
    }

    /// Goes on with snapshots, and begins those that are due: they are of what was committed, so what is under way is waited for.
    ///
    /// # Errors
    /// What was under way and could not be put out; state that another process keeps now.
    pub fn keep(&mut self) -> Result<(), String> {
        for held in self.held.values_mut().filter(|held| held.next >= held.untold) {
            let position = held.next.cast_unsigned();
            let kept = if held.keeper.would_begin(position, self.settings.every) {
                self.transit.wait()?;
                held.keeper.keep(&mut held.stream, position, self.settings.every)
            } else {
                held.keeper.go_on(&mut held.stream)
            };
            self.settings.metrics.snapshot(kept.as_ref().map(Option::is_some).map_err(String::as_str));
            if held.keeper.is_lost() {
                // Another process holds the partition, or has held it for a moment: what the group says now is found by joining it anew.
                return kept.map(drop);
            }
        }
        Ok(())
    }

    /// Has the metrics say how much state there is.
    pub fn tell_held(&self) {
        self.held.iter().for_each(|(partition, held)| self.settings.metrics.held(&partition.to_string(), &held.stream));
    }

    /// The partitions, with the next offset of each.
    pub fn positions(&self) -> impl Iterator<Item = (&Partition, i64)> {
        let forwarded = self.forwarded.iter().map(|(partition, next)| (partition, *next));
        self.held.iter().map(|(partition, held)| (partition, held.next)).chain(forwarded)
    }
}

impl Owner for Partitions {
    fn assigned(&mut self, partition: &Partition, at: &Position) -> Result<i64, String> {
        let Position { position, is_first, earliest } = *at;
        if self.payload.forwards(&partition.topic) {
            self.forwarded.insert(partition.clone(), position);
            return Ok(position);
        }
        let settings = &self.settings;
        let begun = Instant::now();
        let place = settings.place.join(&partition.topic).join(&partition.number.to_string());
        let rules = settings.live.snapshot();
        let until = position.cast_unsigned();
        let (mut keeper, found) = Keeper::open(&place, &partition.to_string(), &settings.stream, &rules, until)?;
        let (mut stream, mut next) = match found {
            Some(found) => (found.stream, found.position.cast_signed()),
            None => (Stream::new(settings.stream.clone()), position),
        };
        let begins = stream.generation().is_none();
        stream.follow(&rules).map_err(|broken| broken.to_string())?;
        if begins && !is_first && stream.has_state() && !settings.state_may_be_missing {
            return Err(format!(
                "{partition}: the group has read up to {position}, and there is no state of that in {place}; have it there, or say \
                 engine.state_may_be_missing = true, and windows and patterns begin with nothing"
            ));
        }
        if next < earliest {
            tracing::warn!(%partition, from = next, to = earliest, "messages that the state has not seen are gone");
            next = earliest;
        }
        if !stream.has_state() || next > position {
            next = next.max(position);
        }
        if next == position {
            keeper.take(&mut stream, position.cast_unsigned()).map_err(|problem| format!("{partition}: {problem}"))?;
        }
        let again = position - next;
        tracing::info!(%partition, position, again, took_ms = begun.elapsed().as_millis() as u64, "reading a partition");
        self.held.insert(partition.clone(), Held { stream, keeper, next, untold: position });
        Ok(next)
    }

    fn revoked(&mut self, partition: &Partition) {
        // Whoever reads it next must find the positions of what is under way.
        self.abandoned |= self.transit.wait().is_err();
        self.forwarded.remove(partition);
        let Some(mut held) = self.held.remove(partition) else { return };
        self.settings.metrics.held_no_more(&partition.to_string());
        tracing::info!(%partition, position = held.next, "a partition is read no more");
        if !self.abandoned
            && held.next >= held.untold
            && let Err(problem) = held.keeper.take(&mut held.stream, held.next.cast_unsigned())
        {
            self.settings.metrics.snapshot(Err(&problem));
        }
    }
}

/// Messages of one partition under one set of rules.
struct Judging<'j> {
    settings: &'j Settings,
    payload: &'j Payload,
    rules: &'j Arc<Rules>,
    messages: &'j Messages,
}

impl Judging<'_> {
    fn run(&self, stream: &mut Stream, mut outbox: Option<&mut Outbox>) -> Result<(), String> {
        let schema = Arc::new(self.settings.shared.sensitive().marked(self.rules.base().event_schema()));
        let mut bad = Vec::new();
        for events in self.payload.decode(&schema, self.messages, &mut bad)? {
            let events = without_suspended(&self.settings.shared, &schema, events, &mut bad);
            let judged = stream.take(&events.batch, self.rules).map_err(|broken| format!("{}: {broken}", self.messages.partition))?;
            if let Some(outbox) = outbox.as_deref_mut() {
                self.tell(&events, &judged, outbox)?;
            }
        }
        outbox.into_iter().for_each(|outbox| self.reject(bad.drain(..), outbox));
        Ok(())
    }

    /// Puts events on their way to the partition of their key.
    fn forward(&self, outbox: &mut Outbox) -> Result<(), String> {
        let schema = Arc::new(self.settings.shared.sensitive().marked(self.rules.base().event_schema()));
        let mut bad = Vec::new();
        for (message, key, tenant) in self.payload.keys(&schema, self.messages, &mut bad)? {
            let mut headers = self.headers(message, None);
            headers.extend(tenant.map(|tenant| (self.payload.header().to_owned(), tenant)));
            outbox.add(Kind::Event, key.as_bytes(), headers, |bytes| bytes.extend(self.messages.payload(message)));
        }
        self.reject(bad.into_iter(), outbox);
        Ok(())
    }

    fn reject(&self, bad: impl Iterator<Item = Bad>, outbox: &mut Outbox) {
        for Bad { message, reason, event } in bad {
            self.settings.metrics.rejected(None);
            let headers = self.headers(message, Some(("reason", reason)));
            let payload = event.as_ref().map_or(self.messages.payload(message), String::as_bytes);
            outbox.add(Kind::Reject, self.messages.key(message), headers, |bytes| bytes.extend(payload));
        }
    }

    /// The headers that say where a message came from.
    fn headers(&self, message: usize, more: Option<(&'static str, String)>) -> Vec<(String, String)> {
        let Partition { topic, number } = &self.messages.partition;
        let from =
            [("topic", topic.to_string()), ("partition", number.to_string()), ("offset", self.messages.offsets[message].to_string())];
        from.into_iter().chain(more).map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn tell(&self, events: &Events, judged: &Judged, outbox: &mut Outbox) -> Result<(), String> {
        let source = self.messages.partition.to_string();
        self.settings.metrics.judged(judged, self.rules);
        let sensitive = self.settings.shared.sensitive();
        let told = Told::new(judged, self.rules, &sensitive);
        if self.payload.has_several() {
            self.tell_together(&source, events, judged, &told, outbox)?;
        } else {
            self.tell_each(&source, judged, &told, outbox);
        }
        if !self.settings.output.matches.is_empty() {
            self.tell_matches(&source, judged, &told, outbox);
        }
        let mut recent = Vec::new();
        for found in &judged.findings {
            let mut finding = answer::finding(&source, found, self.rules, &sensitive);
            let (offset, index) = self.payload.place(found.finding.row);
            let Partition { topic, number } = &self.messages.partition;
            let mut from = json!({"topic": **topic, "partition": number, "offset": offset});
            index.iter().for_each(|index| from["index"] = (*index).into());
            finding.insert("source".to_owned(), from);
            let id = finding["finding_id"].as_str().unwrap_or_default().to_owned();
            outbox.add(Kind::Finding, id.as_bytes(), Vec::new(), |bytes| answer::write(bytes, &finding));
            recent.push(finding);
        }
        self.settings.shared.add_findings(recent);
        for row in &judged.late {
            let message = events.messages[*row] as usize;
            let headers = self.headers(message, None);
            let payload = self.late(&judged.batch, message, *row);
            outbox.add(Kind::Late, self.messages.key(message), headers, |bytes| bytes.extend(payload));
        }
        Ok(())
    }

    /// A message for each decision.
    fn tell_each(&self, source: &str, judged: &Judged, told: &Told, outbox: &mut Outbox) {
        let Partition { topic, number } = &self.messages.partition;
        let mut from = b",\"source\":{\"topic\":".to_vec();
        answer::write(&mut from, &**topic);
        from.extend(format!(",\"partition\":{number},\"offset\":").as_bytes());
        for row in 0..judged.batch.rows() {
            let number = judged.batch.row_number(row);
            let id = answer::decision_id(source, number);
            outbox.add(Kind::Decision, id.as_bytes(), Vec::new(), |bytes| {
                told.write(bytes, &id, row, |bytes| {
                    bytes.extend(&from);
                    answer::write(bytes, &number);
                    bytes.push(b'}');
                });
            });
        }
    }

    /// A message for the decisions about the events of one message, by the decision id of the first event that it could have.
    fn tell_together(&self, source: &str, events: &Events, judged: &Judged, told: &Told, outbox: &mut Outbox) -> Result<(), String> {
        let Some(message) = events.messages.first().map(|message| *message as usize) else { return Ok(()) };
        let place = |row| self.payload.place(judged.batch.row_number(row)).1.unwrap_or_default();
        let index = (0..judged.batch.rows()).map(place).collect();
        let decisions = told.batch(index)?;
        let failed = |error: arrow::error::ArrowError| error.to_string();
        let mut bytes = Vec::new();
        let mut stream = StreamWriter::try_new(&mut bytes, &decisions.schema()).map_err(failed)?;
        stream.write(&decisions).and_then(|()| stream.finish()).map_err(failed)?;
        drop(stream);
        let id = answer::decision_id(source, self.payload.first_row(self.messages.offsets[message]));
        outbox.add(Kind::Decision, id.as_bytes(), self.headers(message, None), |to| to.extend(bytes));
        Ok(())
    }

    fn tell_matches(&self, source: &str, judged: &Judged, told: &Told, outbox: &mut Outbox) {
        for row in 0..judged.batch.rows() {
            let id = answer::decision_id(source, judged.batch.row_number(row));
            for (names, shadow) in told.names(row).into_iter().zip([false, true]) {
                for name in names {
                    let told = json!({"decision_id": id, "rule": name, "shadow": shadow});
                    outbox.add(Kind::Match, format!("{id}/{name}").as_bytes(), Vec::new(), |bytes| answer::write(bytes, &told));
                }
            }
        }
    }

    /// A late event: its message, or where that holds several, the event by itself.
    fn late(&self, batch: &EventBatch, message: usize, row: usize) -> Vec<u8> {
        if !self.payload.has_several() {
            return self.messages.payload(message).to_vec();
        }
        let schema = self.rules.base().event_schema();
        let fields = schema.fields().iter().zip(batch.row(schema, row));
        let event: Map<String, Value> = fields.map(|(field, value)| (field.name.clone(), json_of(&value))).collect();
        let mut bytes = Vec::new();
        answer::write(&mut bytes, &event);
        bytes
    }
}

/// The events whose tenants are not suspended.
pub(super) fn without_suspended(shared: &Shared, schema: &Schema, events: Events, bad: &mut Vec<Bad>) -> Events {
    let suspended = shared.suspended.read().unwrap_or_else(PoisonError::into_inner);
    let Some(field) = schema.tenant.filter(|_| !suspended.is_empty()) else { return events };
    let Events { batch, messages } = events;
    let owners = Owners::of(schema, &batch);
    let mut good = Vec::new();
    for (row, message) in messages.iter().enumerate() {
        match owners.name(row).filter(|name| suspended.contains(*name)) {
            Some(name) => {
                let reason = format!("{}: the tenant `{name}` is suspended", schema.field(field).name);
                bad.push(Bad { message: *message as usize, reason, event: None });
            }
            None => good.push(row),
        }
    }
    let numbers: Vec<u64> = good.iter().map(|row| batch.row_number(*row)).collect();
    let numbered: Vec<usize> = numbers.iter().map(|number| *number as usize).collect();
    let kept = renumbered(schema, &batch, &numbered, batch.first_row).with_row_numbers(numbers);
    Events { batch: kept, messages: good.into_iter().map(|row| messages[row]).collect() }
}
