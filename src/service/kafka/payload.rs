//! Messages to batches of events.

use super::schemas::Schemas;
use crate::codec::columnar::ColumnarDecoder;
use crate::codec::json::JsonDecoder;
use crate::codec::{Decoded, Decoder, Request};
use crate::connector::kafka::config::{Config, Format};
use crate::connector::kafka::source::Messages;
use crate::event::{EventBatch, Schema, Type};
use crate::id::FieldId;
use crate::service::scorer::without_line;
use crate::temporal::finding::json;
use arrow::array::{ArrayRef, StringDictionaryBuilder};
use arrow::datatypes::Int32Type;
use regex::Regex;
use std::io::Cursor;
use std::sync::Arc;

/// Bits of a row's number that tell the events of one message apart, where messages hold several.
const INDEX_BITS: u32 = 20;

/// Events of messages.
pub struct Events {
    pub batch: EventBatch,
    /// The message of each row.
    pub messages: Vec<u32>,
}

/// A message, or an event of one, that cannot be judged.
pub struct Bad {
    pub message: usize,
    pub reason: String,
    /// The event, where it is one of several of its message.
    pub event: Option<String>,
}

/// Reads messages.
pub struct Payload {
    format: Format,
    /// Of messages of Avro.
    schemas: Option<Schemas>,
    header: String,
    topic: Option<Regex>,
    /// The topic in which events are in the partition of their key, and the fields of that.
    repartition: Option<(String, Vec<FieldId>)>,
    /// Whether a header names the tenant at the producers.
    is_named: bool,
}

impl Payload {
    /// # Errors
    /// What does not fit together.
    pub fn new(config: &Config, schema: &Schema) -> Result<Self, String> {
        let tenant = &config.tenant;
        let topic = (!tenant.topic.is_empty()).then(|| Regex::new(&tenant.topic)).transpose();
        let topic = topic.map_err(|error| format!("kafka.tenant.topic: {error}"))?;
        if topic.is_some() || !tenant.header.is_empty() {
            match schema.tenant {
                None => return Err("kafka.tenant: the schema names no field for tenants".to_owned()),
                Some(field) if schema.field(field).ty != Type::Text => {
                    return Err(format!("kafka.tenant: the field `{}` is no text", schema.field(field).name));
                }
                Some(_) => {}
            }
        }
        let field = |name: &String| schema.find(name).ok_or_else(|| format!("kafka.key: the schema has no field `{name}`"));
        let key: Vec<FieldId> = config.key.iter().map(field).collect::<Result<_, String>>()?;
        let repartition = (!config.repartition.is_empty()).then(|| (config.repartition.clone(), key));
        Ok(Self {
            format: config.format,
            schemas: (config.format == Format::Avro).then(|| Schemas::open(&config.avro)).transpose()?,
            header: config.tenant_header().to_owned(),
            topic,
            repartition,
            is_named: !tenant.header.is_empty(),
        })
    }

    /// Whether events of this topic are to be put into the partition of their key, and not judged yet.
    #[must_use]
    pub fn forwards(&self, topic: &str) -> bool {
        self.repartition.as_ref().is_some_and(|(between, _)| between != topic)
    }

    fn is_between(&self, topic: &str) -> bool {
        self.repartition.as_ref().is_some_and(|(between, _)| between == topic)
    }

    /// For each message that can be read its key, and its tenant where something besides the event names it.
    ///
    /// # Errors
    /// As [`Payload::decode`].
    pub fn keys(
        &self,
        schema: &Arc<Schema>,
        messages: &Messages,
        bad: &mut Vec<Bad>,
    ) -> Result<Vec<(usize, String, Option<String>)>, String> {
        let Some((_, key)) = &self.repartition else { return Ok(Vec::new()) };
        let mut keys = Vec::new();
        for events in self.decode(schema, messages, bad)? {
            for (row, message) in events.messages.iter().enumerate() {
                let values: Vec<serde_json::Value> = key.iter().map(|field| json(&events.batch.value(schema, *field, row))).collect();
                let message = *message as usize;
                // What names it has been found when the event was read.
                let tenant = self.tenant(messages, message).unwrap_or_default();
                keys.push((message, serde_json::Value::from(values).to_string(), tenant));
            }
        }
        Ok(keys)
    }

    /// The header that names the tenant.
    #[must_use]
    pub fn header(&self) -> &str {
        &self.header
    }

    /// Whether a message holds several events.
    #[must_use]
    pub fn has_several(&self) -> bool {
        self.format == Format::Arrow
    }

    /// The number of the first event that a message could have.
    #[must_use]
    pub fn first_row(&self, offset: i64) -> u64 {
        if self.has_several() { offset.cast_unsigned() << INDEX_BITS } else { offset.cast_unsigned() }
    }

    /// The offset of an event's message, and its place in there, where messages hold several.
    #[must_use]
    pub fn place(&self, row: u64) -> (u64, Option<u32>) {
        if self.has_several() { (row >> INDEX_BITS, Some((row & ((1 << INDEX_BITS) - 1)) as u32)) } else { (row, None) }
    }

    /// The events of messages, in order, in as many batches as there have to be.
    ///
    /// # Errors
    /// Schemas that are not to be had now. Nothing is wrong with the messages then.
    pub fn decode(&self, schema: &Arc<Schema>, messages: &Messages, bad: &mut Vec<Bad>) -> Result<Vec<Events>, String> {
        let mut tenants = Vec::new();
        let mut wanted = Vec::with_capacity(messages.len());
        for message in 0..messages.len() {
            match self.tenant(messages, message) {
                Ok(tenant) => {
                    tenants.push(tenant);
                    wanted.push(message);
                }
                Err(reason) => bad.push(Bad { message, reason, event: None }),
            }
        }
        if self.format == Format::Arrow {
            let events =
                wanted.iter().zip(&tenants).filter_map(|(message, tenant)| self.arrow(schema, messages, *message, tenant.as_deref(), bad));
            return Ok(events.collect());
        }
        let decoded = match &self.schemas {
            None => json_events(schema, messages, &wanted),
            Some(schemas) => {
                let payloads: Vec<&[u8]> = wanted.iter().map(|message| messages.payload(*message)).collect();
                schemas.decode(&payloads, &request(schema, payloads.len().max(1)))?
            }
        };
        Ok(events(schema, messages, &wanted, &tenants, decoded, bad).into_iter().collect())
    }

    fn tenant(&self, messages: &Messages, message: usize) -> Result<Option<String>, String> {
        if let Some(topic) = self.topic.as_ref().filter(|_| !self.is_between(&messages.partition.topic)) {
            let name = &messages.partition.topic;
            let tenant = topic.captures(name).and_then(|found| found.get(1)).map(|tenant| tenant.as_str().to_owned());
            return tenant.map(Some).ok_or_else(|| format!("the topic `{name}` does not say whose its events are (kafka.tenant.topic)"));
        }
        if !self.is_named && self.topic.is_none() {
            return Ok(None);
        }
        let tenant = messages.tenants[message].clone();
        tenant.map(Some).ok_or_else(|| format!("there is no header `{}`, which says whose the event is", self.header))
    }

    fn arrow(&self, schema: &Arc<Schema>, messages: &Messages, message: usize, tenant: Option<&str>, bad: &mut Vec<Bad>) -> Option<Events> {
        let mut fail = |reason: String, event: Option<String>| bad.push(Bad { message, reason, event });
        let payload = messages.payload(message);
        if payload.is_empty() {
            fail("the message is empty".to_owned(), None);
            return None;
        }
        let decoder = ColumnarDecoder::arrow_stream(Cursor::new(payload.to_vec()), request(schema, 1 << INDEX_BITS));
        let mut all = Vec::new();
        let read = decoder.and_then(|mut decoder| {
            while let Some(decoded) = decoder.decode()? {
                all.push(decoded);
            }
            Ok(())
        });
        let rows: usize = all.iter().map(|decoded| decoded.input_rows).sum();
        let read = read.and_then(|()| {
            if rows > 1 << INDEX_BITS { Err(format!("{rows} events in one message; at most {}", 1 << INDEX_BITS)) } else { Ok(()) }
        });
        if let Err(reason) = read {
            fail(reason, None);
            return None;
        }
        let decoded = Decoded::joined(schema, all);
        let mut is_bad = vec![false; rows];
        for row in decoded.bad {
            is_bad[row.row] = true;
            fail(format!("event {}: {}", row.row, row.reason), row.raw);
        }
        let first = self.first_row(messages.offsets[message]);
        let numbers: Vec<u64> = (0..rows).filter(|row| !is_bad[*row]).map(|row| first | row as u64).collect();
        if numbers.is_empty() {
            return None;
        }
        let columns = match tenant {
            Some(_) => with_tenants(schema, decoded.columns, numbers.iter().map(|_| tenant)),
            None => decoded.columns,
        };
        let batch = EventBatch::new(schema, first, decoded.rows, columns).with_row_numbers(numbers);
        Some(Events { messages: vec![message as u32; decoded.rows], batch })
    }
}

/// An event of each message.
fn json_events(schema: &Arc<Schema>, messages: &Messages, wanted: &[usize]) -> Decoded {
    let line = |lines: &mut Vec<u8>, message: usize| {
        let (begin, payload) = (lines.len(), messages.payload(message));
        lines.extend(payload);
        // Line ends stand between the parts of JSON only, never inside of a text.
        lines[begin..].iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
        if payload.trim_ascii().is_empty() {
            lines.extend(NOTHING);
        }
        lines.push(b'\n');
    };
    let mut lines = Vec::new();
    wanted.iter().for_each(|message| line(&mut lines, *message));
    let mut decoded = decode_lines(schema, &lines, wanted.len()).unwrap_or_else(|_| {
        // Something made of one line several, or none: each by itself, then.
        let alone = |message: &usize| {
            lines.clear();
            line(&mut lines, *message);
            decode_lines(schema, &lines, 1).unwrap_or_else(|reason| Decoded::rejected(schema, 1, &reason))
        };
        Decoded::joined(schema, wanted.iter().map(alone).collect())
    });
    for bad in &mut decoded.bad {
        let is_empty = messages.payload(wanted[bad.row]).trim_ascii().is_empty();
        bad.reason = if is_empty { "the message is empty" } else { without_line(&bad.reason) }.to_owned();
    }
    decoded
}

/// The events of messages of one event each.
fn events(
    schema: &Schema,
    messages: &Messages,
    wanted: &[usize],
    tenants: &[Option<String>],
    decoded: Decoded,
    bad: &mut Vec<Bad>,
) -> Option<Events> {
    let (columns, rows) = (decoded.columns, decoded.rows);
    let mut is_bad = vec![false; wanted.len()];
    for row in decoded.bad {
        is_bad[row.row] = true;
        bad.push(Bad { message: wanted[row.row], reason: row.reason, event: None });
    }
    let good: Vec<usize> = (0..wanted.len()).filter(|row| !is_bad[*row]).collect();
    let columns = with_tenants(schema, columns, good.iter().map(|row| tenants[*row].as_deref()));
    let numbers: Vec<u64> = good.iter().map(|row| messages.offsets[wanted[*row]].cast_unsigned()).collect();
    let first = numbers.first().copied()?;
    let batch = EventBatch::new(schema, first, rows, columns).with_row_numbers(numbers);
    Some(Events { batch, messages: good.iter().map(|row| wanted[*row] as u32).collect() })
}

/// What stands for an empty message: no JSON.
const NOTHING: &[u8] = b"!";

fn request(schema: &Arc<Schema>, rows: usize) -> Request {
    let needed = (0..schema.fields().len()).map(FieldId::new).collect();
    Request { schema: Arc::clone(schema), needed, batch_rows: rows }
}

/// Exactly so many lines.
fn decode_lines(schema: &Arc<Schema>, lines: &[u8], count: usize) -> Result<Decoded, String> {
    let decoded = JsonDecoder::new(lines, request(schema, count.max(1))).decode()?.ok_or("no event could be read")?;
    if decoded.input_rows == count { Ok(decoded) } else { Err(format!("{count} messages, and {} events", decoded.input_rows)) }
}

/// The columns with the tenants in the place of what the events say.
fn with_tenants<'t>(
    schema: &Schema,
    mut columns: Vec<Option<ArrayRef>>,
    tenants: impl Iterator<Item = Option<&'t str>>,
) -> Vec<Option<ArrayRef>> {
    let Some(field) = schema.tenant else { return columns };
    let mut names = StringDictionaryBuilder::<Int32Type>::new();
    let mut is_given = false;
    for tenant in tenants {
        is_given |= tenant.is_some();
        names.append_option(tenant);
    }
    if is_given {
        columns[field.index()] = Some(Arc::new(names.finish()));
    }
    columns
}
