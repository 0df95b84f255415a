//! Results to topics. With transactions they count together with the positions of the events that they are of, or not at all.

use super::Partition;
use super::config::{Config, Delivery};
use super::source::{Owner, Source, log, positions};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long brokers may be away, before the attempt counts as failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long an attempt at a transaction takes, before it is tried again.
const ATTEMPT: Duration = Duration::from_secs(10);

/// Why a message could not be delivered, the first time that happened.
#[derive(Clone, Default)]
struct Context(Arc<Mutex<Option<String>>>);

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "Kafka");
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.to_string());
        }
    }
}

/// A producer of results.
pub struct Sink {
    producer: ThreadedProducer<Context>,
    undelivered: Context,
    transactions: bool,
}

impl Sink {
    /// Connects, and has brokers give up what a process of the same name left open.
    ///
    /// # Errors
    /// Brokers that do not answer; a configuration that librdkafka does not take.
    pub fn open(config: &Config, instance: &str) -> Result<Self, String> {
        let transactions = config.delivery == Delivery::ExactlyOnce;
        let mut client = ClientConfig::new();
        for (name, value) in [
            ("enable.idempotence", "true".to_owned()),
            ("linger.ms", "1".to_owned()),
            ("compression.type", config.output.compression.clone()),
            ("queue.buffering.max.messages", "1000000".to_owned()),
            ("queue.buffering.max.kbytes", (256 << 10).to_string()),
        ] {
            client.set(name, value);
        }
        if transactions {
            client.set("transactional.id", format!("{}-{instance}", config.group));
            client.set("transaction.timeout.ms", config.transaction_timeout_ms.to_string());
            // A message must fail before its transaction does.
            client.set("message.timeout.ms", config.transaction_timeout_ms.to_string());
        }
        client.set_log_level(RDKafkaLogLevel::Info);
        config.shared().into_iter().for_each(|(name, value)| _ = client.set(name, value));
        let context = Context::default();
        let failed = |error: KafkaError| format!("results cannot be written to Kafka: {error}");
        let producer: ThreadedProducer<Context> = client.create_with_context(context.clone()).map_err(failed)?;
        let sink = Self { producer, undelivered: context, transactions };
        if transactions {
            sink.again(|| sink.producer.init_transactions(ATTEMPT))?;
        }
        Ok(sink)
    }

    /// Tries again what may work the next time.
    fn again(&self, attempt: impl Fn() -> Result<(), KafkaError>) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            match attempt() {
                Ok(()) => return Ok(()),
                Err(KafkaError::Transaction(error)) if error.is_retriable() && begun.elapsed() < PATIENCE => {}
                Err(error) => return Err(format!("a transaction of Kafka failed: {error}")),
            }
        }
    }

    /// Begins to put out results that count together.
    ///
    /// # Errors
    /// What makes it necessary to begin anew from the last committed positions.
    pub fn begin(&self) -> Result<(), String> {
        if self.transactions { self.again(|| self.producer.begin_transaction()) } else { Ok(()) }
    }

    /// Puts out a message. It waits where too many are on their way.
    ///
    /// # Errors
    /// As [`Sink::begin`].
    pub fn send(&self, topic: &str, key: &[u8], payload: &[u8], headers: &[(&str, &str)]) -> Result<(), String> {
        let mut record = BaseRecord::to(topic).key(key).payload(payload);
        if !headers.is_empty() {
            let mut owned = OwnedHeaders::new_with_capacity(headers.len());
            for (key, value) in headers {
                owned = owned.insert(Header { key, value: Some(*value) });
            }
            record = record.headers(owned);
        }
        let begun = Instant::now();
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), same)) if begun.elapsed() < PATIENCE => {
                    record = same;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err((error, _)) => return Err(format!("a result cannot be written to `{topic}`: {error}")),
            }
        }
    }

    /// Has everything that was put out count, and with it the positions of `source`.
    ///
    /// # Errors
    /// As [`Sink::begin`]. Then none of it counts, where there are transactions.
    pub fn commit<O: Owner>(&self, source: &Source<O>, next: &[(Partition, i64)]) -> Result<(), String> {
        if !self.transactions {
            self.producer.flush(PATIENCE).map_err(|error| format!("results cannot be written to Kafka: {error}"))?;
            if let Some(problem) = self.undelivered.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return Err(format!("a result was not delivered: {problem}"));
            }
            return source.commit(next);
        }
        let (positions, member) = (positions(next)?, source.member()?);
        let done = self
            .again(|| self.producer.send_offsets_to_transaction(&positions, &member, ATTEMPT))
            .and_then(|()| self.again(|| self.producer.commit_transaction(ATTEMPT)));
        done.map_err(|problem| {
            let undelivered = self.undelivered.0.lock().unwrap_or_else(PoisonError::into_inner).take();
            undelivered.map_or(problem.clone(), |why| format!("{problem} ({why})"))
        })
    }

    /// Gives up what has not been committed.
    pub fn abort(&self) {
        if self.transactions
            && let Err(error) = self.producer.abort_transaction(ATTEMPT)
        {
            // The brokers give it up by themselves, after their timeout.
            tracing::warn!(%error, "a transaction could not be given up");
        }
    }
}
