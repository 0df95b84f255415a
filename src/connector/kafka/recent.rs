//! The last messages of topics, read beside whoever reads them for good: no position of a group is asked for or changed.

use super::Partition;
use super::config::{Config, Delivery};
use super::source::{Messages, Quiet, is_passing};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use regex::Regex;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long brokers may be silent, before the attempt counts as failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long to wait for a message at a time.
const WAIT: Duration = Duration::from_millis(100);

/// Messages that are handed on together, and bytes.
const ROWS: usize = 8192;
const BYTES: usize = 16 << 20;

/// Offsets of a partition.
#[derive(Clone, Debug)]
pub struct Part {
    pub partition: Partition,
    pub first: i64,
    /// The offset after the last.
    pub end: i64,
}

/// A reader of what is there now.
pub struct Recent {
    consumer: BaseConsumer<Quiet>,
    tenant_header: String,
}

impl Recent {
    /// # Errors
    /// A configuration that librdkafka does not take.
    pub fn open(config: &Config) -> Result<Self, String> {
        let mut client = ClientConfig::new();
        let isolation = if config.delivery == Delivery::ExactlyOnce { "read_committed" } else { "read_uncommitted" };
        for (name, value) in [
            // Nothing joins it: it is what brokers may have been told to let read.
            ("group.id", config.group.as_str()),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("enable.partition.eof", "true"),
            ("auto.offset.reset", "earliest"),
            ("isolation.level", isolation),
        ] {
            client.set(name, value);
        }
        config.shared().into_iter().for_each(|(name, value)| _ = client.set(name, value));
        let consumer = client.create_with_context(Quiet).map_err(|error| failed(&error))?;
        Ok(Self { consumer, tenant_header: config.tenant_header().to_owned() })
    }

    /// What there is of topics, some of which may be patterns that begin with `^`.
    ///
    /// # Errors
    /// Brokers that do not answer; a topic that is not there.
    pub fn parts(&self, topics: &[String]) -> Result<Vec<Part>, String> {
        let patterns: Vec<Regex> = topics
            .iter()
            .filter(|topic| topic.starts_with('^'))
            .map(|topic| Regex::new(topic).map_err(|error| format!("kafka.topics: {error}")))
            .collect::<Result<_, _>>()?;
        let metadata = self.consumer.fetch_metadata(None, PATIENCE).map_err(|error| failed(&error))?;
        let mut parts = Vec::new();
        for topic in metadata.topics() {
            let name = topic.name();
            if !topics.iter().any(|wanted| wanted == name) && !patterns.iter().any(|pattern| pattern.is_match(name)) {
                continue;
            }
            for partition in topic.partitions() {
                let (first, end) = self.consumer.fetch_watermarks(name, partition.id(), PATIENCE).map_err(|error| failed(&error))?;
                parts.push(Part { partition: Partition { topic: name.into(), number: partition.id() }, first, end });
            }
        }
        if parts.is_empty() {
            return Err(format!("Kafka has no topic {}", topics.join(", ")));
        }
        Ok(parts)
    }

    /// Hands on the messages of these parts, of each partition in order.
    ///
    /// # Errors
    /// Brokers that do not answer; what `take` says.
    pub fn read(&self, parts: &[Part], mut take: impl FnMut(Messages) -> Result<(), String>) -> Result<(), String> {
        // The end of a partition is told by its number alone, so one topic is read after the other.
        parts
            .chunk_by(|one, other| one.partition.topic == other.partition.topic)
            .try_for_each(|of_topic| self.read_topic(of_topic, &mut take))
    }

    fn read_topic(&self, parts: &[Part], take: &mut impl FnMut(Messages) -> Result<(), String>) -> Result<(), String> {
        let mut list = TopicPartitionList::new();
        let mut left: HashMap<i32, (i64, Messages)> = HashMap::new();
        for Part { partition, first, end } in parts.iter().filter(|part| part.first < part.end) {
            list.add_partition_offset(&partition.topic, partition.number, Offset::Offset(*first)).map_err(|error| failed(&error))?;
            left.insert(partition.number, (*end, Messages::new(partition.clone())));
        }
        self.consumer.assign(&list).map_err(|error| failed(&error))?;
        let mut heard = Instant::now();
        while !left.is_empty() {
            let (number, is_over) = match self.consumer.poll(WAIT) {
                None if heard.elapsed() > PATIENCE => return Err("Kafka cannot be read: brokers send nothing".to_owned()),
                None => continue,
                Some(Err(KafkaError::PartitionEOF(number))) => (number, true),
                Some(Err(error)) if is_passing(&error) => continue,
                Some(Err(error)) => return Err(failed(&error)),
                Some(Ok(message)) => {
                    let Some((end, messages)) = left.get_mut(&message.partition()) else { continue };
                    if message.offset() < *end {
                        messages.push(&message, &self.tenant_header);
                    }
                    (message.partition(), message.offset() + 1 >= *end)
                }
            };
            heard = Instant::now();
            let Some((_, messages)) = left.get_mut(&number) else { continue };
            if is_over || messages.len() >= ROWS || messages.bytes() >= BYTES {
                let next = Messages::new(messages.partition.clone());
                let whole = std::mem::replace(messages, next);
                if !whole.is_empty() {
                    take(whole)?;
                }
            }
            if is_over {
                left.remove(&number);
            }
        }
        Ok(())
    }
}

fn failed(error: &KafkaError) -> String {
    format!("Kafka cannot be read: {error}")
}

/// The last `most` offsets of all together: each partition as many as the others, as far as it has them.
#[must_use]
pub fn last(parts: &[Part], most: u64) -> Vec<Part> {
    let mut parts = parts.to_vec();
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by_key(|place| parts[*place].end - parts[*place].first);
    let mut left = most;
    for (nth, place) in order.iter().enumerate() {
        let part = &mut parts[*place];
        let share = left.div_ceil((order.len() - nth) as u64);
        let taken = share.min((part.end - part.first).unsigned_abs());
        part.first = part.end - taken.cast_signed();
        left -= taken;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_share_what_is_asked_for() {
        let parts = |ends: &[(i64, i64)]| -> Vec<Part> {
            let part = |(number, (first, end)): (usize, &(i64, i64))| Part {
                partition: Partition { topic: "t".into(), number: number as i32 },
                first: *first,
                end: *end,
            };
            ends.iter().enumerate().map(part).collect()
        };
        let shares =
            |ends: &[(i64, i64)], most| -> Vec<(i64, i64)> { last(&parts(ends), most).iter().map(|part| (part.first, part.end)).collect() };
        assert_eq!(shares(&[(0, 100), (50, 60), (0, 1000)], 310), [(0, 100), (50, 60), (800, 1000)]);
        assert_eq!(shares(&[(0, 100), (0, 100)], 3), [(98, 100), (99, 100)]);
        assert_eq!(shares(&[(7, 9), (5, 5)], u64::MAX), [(7, 9), (5, 5)]);
        assert_eq!(shares(&[(7, 9)], 0), [(9, 9)]);
    }
}
