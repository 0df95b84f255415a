//! The last events of the topics that are read, for trials of rules.

use super::partitions::without_suspended;
use super::payload::Payload;
use crate::connector::kafka::Partition;
use crate::connector::kafka::config::Config;
use crate::connector::kafka::recent::{Part, Recent, last};
use crate::event::{EventBatch, Schema};
use crate::service::scorer::Shared;
use serde_json::{Value, json};
use std::sync::Arc;

/// Messages of each partition that are looked at to see how many events one has.
const LOOK: i64 = 8;

/// Events of a partition.
pub struct Taken<'t> {
    pub partition: &'t Partition,
    pub batch: EventBatch,
    payload: &'t Payload,
}

impl Taken<'_> {
    /// Where an event is: its topic, partition and offset, and its place in there, where messages hold several.
    #[must_use]
    pub fn place(&self, row: u64) -> Value {
        let (offset, index) = self.payload.place(row);
        let mut place = json!({"topic": *self.partition.topic, "partition": self.partition.number, "offset": offset});
        index.iter().for_each(|index| place["index"] = (*index).into());
        place
    }
}

/// Hands on the last `most` events that are in the topics now, of each partition in order; of messages with several events whole ones, about as many. How many events could not be read.
///
/// # Errors
/// Brokers that do not answer, a topic that is not there; what `take` says.
pub fn recent(
    config: &Config,
    shared: &Shared,
    schema: &Arc<Schema>,
    most: u64,
    mut take: impl FnMut(Taken) -> Result<(), String>,
) -> Result<u64, String> {
    let payload = Payload::new(config, schema)?;
    let reader = Recent::open(config)?;
    let between = std::slice::from_ref(&config.repartition);
    let all = reader.parts(if config.repartition.is_empty() { &config.topics } else { between })?;
    let mut wanted = most;
    if payload.has_several() {
        let looked: Vec<Part> = all.iter().map(|part| Part { first: part.first.max(part.end - LOOK), ..part.clone() }).collect();
        let (mut messages, mut events) = (0, 0);
        reader.read(&looked, |read| {
            messages += read.len() as u64;
            events += payload.decode(schema, &read, &mut Vec::new())?.iter().map(|events| events.batch.rows() as u64).sum::<u64>();
            Ok(())
        })?;
        wanted = most.saturating_mul(messages).div_ceil(events.max(1)).min(most);
    }
    let mut rejected = 0;
    reader.read(&last(&all, wanted), |messages| {
        let mut bad = Vec::new();
        for events in payload.decode(schema, &messages, &mut bad)? {
            let batch = without_suspended(shared, schema, events, &mut bad).batch;
            if batch.rows() > 0 {
                take(Taken { partition: &messages.partition, batch, payload: &payload })?;
            }
        }
        rejected += bad.len() as u64;
        Ok(())
    })?;
    Ok(rejected)
}
