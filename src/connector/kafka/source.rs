//! A member of a consumer group.
//!
//! Whoever owns the state of a partition says where it is read from: with a snapshot that is older than the committed position the messages between are read again. All of it
//! happens on the thread that asks for messages, while it asks.

use super::Partition;
use super::config::{Config, Delivery, Start};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long brokers may take to answer, before the attempt counts as failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long to wait for messages at a time while more are gathered than have to be.
const BUSY: Duration = Duration::from_millis(1);

/// Where a group is in a partition.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    /// The next offset; where the group has none yet, the one where it is told to begin.
    pub position: i64,
    /// Whether the group has none yet.
    pub is_first: bool,
    /// Nothing is there any more before it.
    pub earliest: i64,
}

/// Who keeps the state of partitions.
pub trait Owner: Send {
    /// A partition is to be read: the first offset that is wanted, at most the group's position.
    ///
    /// # Errors
    /// State that is not to be had. Nothing is read then.
    fn assigned(&mut self, partition: &Partition, at: &Position) -> Result<i64, String>;

    /// A partition is read by somebody else from now on.
    fn revoked(&mut self, partition: &Partition);
}

/// Messages of a partition, in order.
pub struct Messages {
    pub partition: Partition,
    pub offsets: Vec<i64>,
    /// When each was written, in milliseconds since 1970; of the producer's or the broker's clock, as the topic says.
    pub times: Vec<i64>,
    /// What the header for tenants says, where there is one.
    pub tenants: Vec<Option<String>>,
    bytes: Vec<u8>,
    /// Where the key of each ends in `bytes`, and its payload after it.
    ends: Vec<(usize, usize)>,
}

impl Messages {
    pub(super) const fn new(partition: Partition) -> Self {
        Self { partition, offsets: Vec::new(), times: Vec::new(), tenants: Vec::new(), bytes: Vec::new(), ends: Vec::new() }
    }

    pub(super) fn push(&mut self, message: &BorrowedMessage, tenant_header: &str) {
        self.offsets.push(message.offset());
        self.times.push(message.timestamp().to_millis().unwrap_or(0));
        let tenant = || {
            let headers = message.headers()?;
            let named = headers.iter().find(|header| header.key == tenant_header)?;
            Some(String::from_utf8_lossy(named.value?).into_owned())
        };
        self.tenants.push(if tenant_header.is_empty() { None } else { tenant() });
        self.bytes.extend(message.key().unwrap_or_default());
        let key = self.bytes.len();
        self.bytes.extend(message.payload().unwrap_or_default());
        self.ends.push((key, self.bytes.len()));
    }

    #[must_use]
    pub const fn len(&self) -> usize {
        self.offsets.len()
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Bytes of all keys and payloads.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes.len()
    }

    fn begin(&self, message: usize) -> usize {
        message.checked_sub(1).map_or(0, |before| self.ends[before].1)
    }

    #[must_use]
    pub fn key(&self, message: usize) -> &[u8] {
        &self.bytes[self.begin(message)..self.ends[message].0]
    }

    #[must_use]
    pub fn payload(&self, message: usize) -> &[u8] {
        &self.bytes[self.ends[message].0..self.ends[message].1]
    }

    /// The offset after the last.
    #[must_use]
    pub fn next(&self) -> i64 {
        self.offsets.last().map_or(0, |last| last + 1)
    }

    /// Those before `offset`, and the others.
    #[must_use]
    pub fn split_at(mut self, offset: i64) -> (Self, Self) {
        let at = self.offsets.partition_point(|own| *own < offset);
        let bytes = self.begin(at);
        let mut rest = Self::new(self.partition.clone());
        rest.offsets = self.offsets.split_off(at);
        rest.times = self.times.split_off(at);
        rest.tenants = self.tenants.split_off(at);
        rest.ends = self.ends.split_off(at).into_iter().map(|(key, end)| (key - bytes, end - bytes)).collect();
        rest.bytes = self.bytes.split_off(bytes);
        (self, rest)
    }
}

/// What librdkafka tells while messages are asked for.
struct Context<O> {
    owner: Mutex<O>,
    /// Partitions that were taken away since messages were asked for.
    revoked: Mutex<Vec<Partition>>,
    start: Start,
    trouble: Mutex<Option<String>>,
}

impl<O: Owner> ClientContext for Context<O> {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "Kafka");
    }
}

/// Has what librdkafka says logged, and nothing else.
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "Kafka");
    }
}

impl ConsumerContext for Quiet {}

/// What librdkafka has to say, among what else is logged.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::error!(facility, message, "Kafka");
        }
        RDKafkaLogLevel::Warning => tracing::warn!(facility, message, "Kafka"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(facility, message, "Kafka"),
        RDKafkaLogLevel::Debug => tracing::debug!(facility, message, "Kafka"),
    }
}

impl<O: Owner> Context<O> {
    fn owner(&self) -> MutexGuard<'_, O> {
        self.owner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, problem: String) {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(problem);
    }

    /// Where new partitions are read from.
    fn begin(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> Result<TopicPartitionList, String> {
        let failed = |error: KafkaError| format!("the positions of new partitions are not to be had: {error}");
        let mut begins = TopicPartitionList::new();
        for committed in consumer.committed_offsets(list.clone(), PATIENCE).map_err(failed)?.elements() {
            committed.error().map_err(failed)?;
            let partition = Partition { topic: committed.topic().into(), number: committed.partition() };
            let (earliest, latest) = consumer.fetch_watermarks(&partition.topic, partition.number, PATIENCE).map_err(failed)?;
            let (position, is_first) = match (committed.offset(), self.start) {
                (Offset::Offset(position), _) => (position, false),
                (_, Start::Earliest) => (earliest, true),
                (_, Start::Latest) => (latest, true),
            };
            let first = self.owner().assigned(&partition, &Position { position, is_first, earliest })?;
            begins.add_partition_offset(&partition.topic, partition.number, Offset::Offset(first)).map_err(failed)?;
        }
        Ok(begins)
    }
}

impl<O: Owner> ConsumerContext for Context<O> {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let done = if error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.begin(consumer, list).and_then(|begins| consumer.incremental_assign(&begins).map_err(|error| error.to_string()))
        } else {
            for gone in list.elements() {
                let partition = Partition { topic: gone.topic().into(), number: gone.partition() };
                self.owner().revoked(&partition);
                self.revoked.lock().unwrap_or_else(PoisonError::into_inner).push(partition);
            }
            consumer.incremental_unassign(list).map_err(|error| error.to_string())
        };
        if let Err(problem) = done {
            self.tell(problem);
        }
    }
}

/// How much is taken at a time.
#[derive(Clone, Copy, Debug)]
pub struct Batching {
    pub rows_max: usize,
    pub bytes_max: usize,
    /// How long to gather, once there is a message.
    pub gather: Duration,
}

/// A member of a consumer group.
pub struct Source<O: Owner + 'static> {
    consumer: BaseConsumer<Context<O>>,
    tenant_header: String,
}

impl<O: Owner + 'static> Source<O> {
    /// Joins the group.
    ///
    /// # Errors
    /// A configuration that librdkafka does not take.
    pub fn open(config: &Config, owner: O) -> Result<Self, String> {
        let failed = |error: KafkaError| format!("Kafka cannot be read: {error}");
        let mut client = ClientConfig::new();
        let isolation = if config.delivery == Delivery::ExactlyOnce { "read_committed" } else { "read_uncommitted" };
        for (name, value) in [
            ("group.id", config.group.as_str()),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            // What is gone is for the owner of the state to judge, not to be skipped.
            ("auto.offset.reset", "error"),
            ("isolation.level", isolation),
            ("fetch.queue.backoff.ms", "5"),
            ("fetch.error.backoff.ms", "100"),
            ("fetch.wait.max.ms", "100"),
            ("topic.metadata.refresh.interval.ms", "10000"),
        ] {
            client.set(name, value);
        }
        client.set_log_level(RDKafkaLogLevel::Info);
        config.shared().into_iter().for_each(|(name, value)| _ = client.set(name, value));
        let context = Context { owner: Mutex::new(owner), revoked: Mutex::default(), start: config.start, trouble: Mutex::default() };
        let consumer: BaseConsumer<Context<O>> = client.create_with_context(context).map_err(failed)?;
        let between = Some(&config.repartition).filter(|topic| !topic.is_empty());
        let topics: Vec<&str> = config.topics.iter().chain(between).map(String::as_str).collect();
        consumer.subscribe(&topics).map_err(failed)?;
        Ok(Self { consumer, tenant_header: config.tenant_header().to_owned() })
    }

    /// Who keeps the state. It must not be held while messages are asked for.
    pub fn owner(&self) -> MutexGuard<'_, O> {
        self.consumer.context().owner()
    }

    /// The next messages, of each partition by itself; none, where none come within `wait`. Gathering goes on while `is_busy`.
    ///
    /// # Errors
    /// What makes it necessary to begin anew from the last committed positions.
    pub fn take(&self, wait: Duration, batching: &Batching, is_busy: impl Fn() -> bool) -> Result<Vec<Messages>, String> {
        let mut all: Vec<Messages> = Vec::new();
        let (mut rows, mut bytes, mut last) = (0, 0, 0);
        let mut first: Option<Instant> = None;
        while rows < batching.rows_max && bytes < batching.bytes_max {
            let left = first.map(|first| batching.gather.saturating_sub(first.elapsed()));
            let goes_on = left == Some(Duration::ZERO) && is_busy();
            let polled = self.consumer.poll(if goes_on { BUSY } else { left.unwrap_or(wait) });
            if let Some(problem) = self.consumer.context().trouble.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return Err(problem);
            }
            // What was gathered of them is read again by whoever has them next, which may be this process.
            for gone in std::mem::take(&mut *self.consumer.context().revoked.lock().unwrap_or_else(PoisonError::into_inner)) {
                all.retain(|messages| messages.partition != gone);
                last = 0;
            }
            let message = match polled {
                None if goes_on => continue,
                None => break,
                Some(Ok(message)) => message,
                Some(Err(error)) if is_passing(&error) => {
                    tracing::warn!(%error, "Kafka");
                    continue;
                }
                Some(Err(error)) => return Err(format!("Kafka cannot be read: {error}")),
            };
            first.get_or_insert_with(Instant::now);
            let is_of = |own: &Messages| own.partition.number == message.partition() && *own.partition.topic == *message.topic();
            if !all.get(last).is_some_and(is_of) {
                last = all.iter().position(is_of).unwrap_or_else(|| {
                    all.push(Messages::new(Partition { topic: message.topic().into(), number: message.partition() }));
                    all.len() - 1
                });
            }
            rows += 1;
            bytes += message.payload_len();
            all[last].push(&message, &self.tenant_header);
        }
        Ok(all)
    }

    /// Has positions committed, without a transaction.
    ///
    /// # Errors
    /// What makes it necessary to begin anew from the last committed positions.
    pub fn commit(&self, next: &[(Partition, i64)]) -> Result<(), String> {
        let failed = |error: KafkaError| format!("positions cannot be committed: {error}");
        self.consumer.commit(&positions(next)?, CommitMode::Sync).map_err(failed)
    }

    /// Whose positions a transaction commits.
    pub(super) fn member(&self) -> Result<ConsumerGroupMetadata, String> {
        self.consumer.group_metadata().ok_or_else(|| "the process is in no consumer group".to_owned())
    }

    /// How many messages of each partition that is read wait at the brokers, as far as that is known.
    #[must_use]
    pub fn ends(&self, partitions: &[Partition]) -> Vec<(Partition, i64)> {
        let end = |partition: &Partition| {
            let (_, latest) = self.consumer.fetch_watermarks(&partition.topic, partition.number, Duration::from_secs(1)).ok()?;
            Some((partition.clone(), latest))
        };
        partitions.iter().filter_map(end).collect()
    }
}

pub(super) fn positions(next: &[(Partition, i64)]) -> Result<TopicPartitionList, String> {
    let mut list = TopicPartitionList::new();
    for (partition, next) in next {
        let added = list.add_partition_offset(&partition.topic, partition.number, Offset::Offset(*next));
        added.map_err(|error| format!("{partition}: {error}"))?;
    }
    Ok(list)
}

/// Whether librdkafka goes on by itself after this.
pub(super) fn is_passing(error: &KafkaError) -> bool {
    let code = match error {
        KafkaError::MessageConsumption(code) => *code,
        KafkaError::MessageConsumptionFatal(_) => return false,
        _ => return true,
    };
    !matches!(code, RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange)
}
