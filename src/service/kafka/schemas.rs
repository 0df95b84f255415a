//! The schemas that messages of Avro were written with: the one of a file, or those that a registry knows by numbers, of which each message names its own.

use crate::codec::avro::AvroDecoder;
use crate::codec::{BadRow, Decoded, Request};
use crate::connector::kafka::config::Avro;
use arrow::array::UInt32Array;
use arrow::compute::take;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a registry may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A number that the registry did not know is asked for again, but not more often than that.
const AGAIN: Duration = Duration::from_secs(10);

/// Bytes of an answer that may be a schema.
const SCHEMA_BYTES: u64 = 4 << 20;

/// What a framed message begins with: a zero, and the number of its schema in four bytes.
const HEAD: usize = 5;

/// What registries say of a number that they do not know. Another answer with the status 404 may come from whatever else is at the address.
const UNKNOWN: u32 = 40403;

/// The schemas, with what decodes messages of each.
pub struct Schemas {
    registry: Option<Registry>,
    known: Mutex<HashMap<u32, Known>>,
}

enum Known {
    Decoder(Box<AvroDecoder>),
    /// It is none, or none for events.
    Unusable(String),
    /// The registry did not know it at that time.
    Unknown(Instant),
}

struct Registry {
    address: String,
    authorization: Option<String>,
    agent: ureq::Agent,
}

/// What a registry answers.
#[derive(Deserialize)]
struct Answer {
    schema: Option<String>,
    #[serde(rename = "schemaType")]
    kind: Option<String>,
    #[serde(default)]
    references: Vec<serde_json::Value>,
    error_code: Option<u32>,
}

impl Schemas {
    /// Reads the file, where the configuration names one. A registry is asked when a message names a schema.
    ///
    /// # Errors
    /// A file that cannot be read, or has no schema of events.
    pub fn open(config: &Avro) -> Result<Self, String> {
        if !config.registry.is_empty() {
            return Ok(Self { registry: Some(Registry::new(config)), known: Mutex::default() });
        }
        let about = |error: String| format!("kafka.avro.schema: {}: {error}", config.schema.display());
        let text = std::fs::read_to_string(&config.schema).map_err(|error| about(error.to_string()))?;
        let decoder = AvroDecoder::new(&text).map_err(about)?;
        Ok(Self { registry: None, known: Mutex::new(HashMap::from([(0, Known::Decoder(Box::new(decoder)))])) })
    }

    /// An event of each message, in order.
    ///
    /// # Errors
    /// A registry that does not answer, or not as one does. Nothing is wrong with the messages then.
    pub fn decode(&self, messages: &[&[u8]], request: &Request) -> Result<Decoded, String> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut by_schema: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        let (mut pieces, mut order) = (Vec::new(), Vec::with_capacity(messages.len()));
        for (message, bytes) in messages.iter().enumerate() {
            match self.schema_of(bytes) {
                Ok(id) => by_schema.entry(id).or_default().push(message),
                Err(reason) => {
                    pieces.push(Decoded::rejected(&request.schema, 1, reason));
                    order.push(message);
                }
            }
        }
        let head = if self.registry.is_some() { HEAD } else { 0 };
        for (id, own) in by_schema {
            let datums: Vec<&[u8]> = own.iter().map(|message| &messages[*message][head..]).collect();
            if let Some(registry) = self.registry.as_ref().filter(|_| is_wanted(known.get(&id))) {
                known.retain(|_, known| !matches!(known, Known::Unknown(asked) if asked.elapsed() >= AGAIN));
                known.insert(id, registry.schema(id)?);
            }
            pieces.push(match known.get_mut(&id) {
                Some(Known::Decoder(decoder)) => decoder.decode(&datums, request),
                Some(Known::Unusable(reason)) => {
                    Decoded::rejected(&request.schema, own.len(), &format!("the schema {id} of the registry cannot be used: {reason}"))
                }
                Some(Known::Unknown(_)) | None => {
                    Decoded::rejected(&request.schema, own.len(), &format!("the registry knows no schema {id}"))
                }
            });
            order.extend(own);
        }
        Ok(ordered(Decoded::joined(&request.schema, pieces), &order))
    }

    fn schema_of(&self, message: &[u8]) -> Result<u32, &'static str> {
        match message {
            [] => Err("the message is empty"),
            _ if self.registry.is_none() => Ok(0),
            [0, a, b, c, d, ..] => Ok(u32::from_be_bytes([*a, *b, *c, *d])),
            _ => Err("the message does not begin with a zero and the number of its schema"),
        }
    }
}

fn is_wanted(known: Option<&Known>) -> bool {
    match known {
        None => true,
        Some(Known::Unknown(asked)) => asked.elapsed() >= AGAIN,
        Some(_) => false,
    }
}

/// The rows of a piece in the order of the messages; `order`: the message of each.
fn ordered(mut decoded: Decoded, order: &[usize]) -> Decoded {
    if order.is_sorted() {
        return decoded;
    }
    let mut is_bad = vec![false; order.len()];
    decoded.bad.iter().for_each(|bad| is_bad[bad.row] = true);
    let good = order.iter().zip(&is_bad).filter(|(_, is_bad)| !**is_bad).map(|(message, _)| *message);
    let mut rows: Vec<(usize, u32)> = good.zip(0..).collect();
    rows.sort_unstable();
    let rows = UInt32Array::from_iter_values(rows.into_iter().map(|(_, row)| row));
    for column in decoded.columns.iter_mut().flatten() {
        *column = take(column, &rows, None).expect("rows of the column");
    }
    decoded.bad = decoded.bad.into_iter().map(|bad| BadRow { row: order[bad.row], ..bad }).collect();
    decoded.bad.sort_by_key(|bad| bad.row);
    decoded
}

impl Registry {
    fn new(config: &Avro) -> Self {
        let Avro { registry, username, password, .. } = config;
        let authorization = (!username.is_empty()).then(|| format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))));
        let agent = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false).build().into();
        Self { address: registry.trim_end_matches('/').to_owned(), authorization, agent }
    }

    fn schema(&self, id: u32) -> Result<Known, String> {
        let place = format!("{}/schemas/ids/{id}", self.address);
        let about = |error: &dyn std::fmt::Display| format!("kafka.avro.registry: {place}: {error}");
        let mut asked = self.agent.get(&place).header("accept", "application/vnd.schemaregistry.v1+json, application/json");
        if let Some(authorization) = &self.authorization {
            asked = asked.header("authorization", authorization);
        }
        let mut response = asked.call().map_err(|error| about(&error))?;
        let status = response.status();
        let text = response.body_mut().with_config().limit(SCHEMA_BYTES).read_to_string().map_err(|error| about(&error))?;
        let answer = serde_json::from_str::<Answer>(&text);
        if status == 404 && answer.as_ref().is_ok_and(|answer| answer.error_code == Some(UNKNOWN)) {
            return Ok(Known::Unknown(Instant::now()));
        }
        if !status.is_success() {
            return Err(about(&format_args!("the answer has the status {status}")));
        }
        let answer = answer.map_err(|error| about(&format_args!("the answer is none of a registry: {error}")))?;
        let schema = answer.schema.ok_or_else(|| about(&"the answer has no schema"))?;
        Ok(match answer.kind.as_deref() {
            Some(kind) if kind != "AVRO" => Known::Unusable(format!("it is of the kind {kind}, not AVRO")),
            _ if !answer.references.is_empty() => Known::Unusable("it refers to other schemas".to_owned()),
            _ => AvroDecoder::new(&schema).map_or_else(Known::Unusable, |decoder| Known::Decoder(Box::new(decoder))),
        })
    }
}

#[cfg(test)]
mod tests;
