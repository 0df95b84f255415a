//! Results to topics. With transactions they count together with the positions of the events that they are of, or not at all.

use super::Partition;
use super::config::{Config, Delivery};
use super::source::{Owner, Source, log, positions};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long brokers may be away, before the attempt counts as failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long an attempt at a transaction takes, before it is tried again.
const ATTEMPT: Duration = Duration::from_secs(10);

/// What is on its way.
#[derive(Default)]
struct Underway {
    messages: usize,
    /// Why one could not be delivered, the first time that happened.
    problem: Option<String>,
}

/// Told by librdkafka of each message what became of it.
#[derive(Clone, Default)]
struct Context(Arc<(Mutex<Underway>, Condvar)>);

impl Context {
    fn underway(&self) -> MutexGuard<'_, Underway> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nothing is on its way; whether that came to be.
    fn wait(&self) -> bool {
        let waited = self.0.1.wait_timeout_while(self.underway(), PATIENCE, |underway| underway.messages > 0);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn problem(&self) -> Option<String> {
        self.underway().problem.take()
    }
}

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
        let mut underway = self.underway();
        underway.messages -= 1;
        if let Err((error, _)) = result {
            underway.problem.get_or_insert_with(|| error.to_string());
        }
        if underway.messages == 0 {
            self.0.1.notify_all();
        }
    }
}

/// Producers that take turns: while brokers complete the transaction of one, which takes some 20 ms more than they let it wait, the other one begins the next.
pub struct Sink {
    outlets: Vec<Outlet>,
    turn: AtomicUsize,
}

impl Sink {
    /// Connects, and has brokers give up what a process of the same name left open.
    ///
    /// # Errors
    /// Brokers that do not answer; a configuration that librdkafka does not take.
    pub fn open(config: &Config, instance: &str) -> Result<Self, String> {
        let group = &config.group;
        let outlets = match config.delivery {
            Delivery::ExactlyOnce => vec![
                Outlet::open(config, Some(format!("{group}-{instance}")))?,
                Outlet::open(config, Some(format!("{group}-{instance}-second")))?,
            ],
            Delivery::AtLeastOnce => vec![Outlet::open(config, None)?],
        };
        Ok(Self { outlets, turn: AtomicUsize::new(0) })
    }

    /// Begins to put out results that count together.
    ///
    /// # Errors
    /// What makes it necessary to begin anew from the last committed positions.
    pub fn begin(&self) -> Result<Transaction<'_>, String> {
        let outlet = &self.outlets[self.turn.fetch_add(1, Ordering::Relaxed) % self.outlets.len()];
        if outlet.transactions {
            outlet.again(|| outlet.producer.begin_transaction())?;
            outlet.open.store(true, Ordering::Release);
        }
        Ok(Transaction(outlet))
    }

    /// Gives up what has not been committed.
    pub fn abort(&self) {
        for outlet in self.outlets.iter().filter(|outlet| outlet.open.swap(false, Ordering::AcqRel)) {
            if let Err(error) = outlet.producer.abort_transaction(ATTEMPT) {
                // The brokers give it up by themselves, after their timeout.
                tracing::warn!(%error, "a transaction could not be given up");
            }
        }
    }
}

/// A producer of results.
struct Outlet {
    producer: ThreadedProducer<Context>,
    context: Context,
    transactions: bool,
    /// Whether there is a transaction that was not committed.
    open: AtomicBool,
}

impl Outlet {
    fn open(config: &Config, transactional_id: Option<String>) -> Result<Self, String> {
        let transactions = transactional_id.is_some();
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
        if let Some(id) = transactional_id {
            client.set("transactional.id", id);
            client.set("transaction.timeout.ms", config.transaction_timeout_ms.to_string());
            // A message must fail before its transaction does.
            client.set("message.timeout.ms", config.transaction_timeout_ms.to_string());
        }
        client.set_log_level(RDKafkaLogLevel::Info);
        config.shared().into_iter().for_each(|(name, value)| _ = client.set(name, value));
        let context = Context::default();
        let failed = |error: KafkaError| format!("results cannot be written to Kafka: {error}");
        let producer: ThreadedProducer<Context> = client.create_with_context(context.clone()).map_err(failed)?;
        let outlet = Self { producer, context, transactions, open: AtomicBool::new(false) };
        if transactions {
            outlet.again(|| outlet.producer.init_transactions(ATTEMPT))?;
        }
        Ok(outlet)
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
}

/// Results that count together.
pub struct Transaction<'s>(&'s Outlet);

impl Transaction<'_> {
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
        // Before it is sent: what became of it may be told at once.
        self.0.context.underway().messages += 1;
        loop {
            match self.0.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), same)) if begun.elapsed() < PATIENCE => {
                    record = same;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err((error, _)) => {
                    self.0.context.underway().messages -= 1;
                    return Err(format!("a result cannot be written to `{topic}`: {error}"));
                }
            }
        }
    }

    /// Waits until everything that was put out is there.
    ///
    /// # Errors
    /// What could not be delivered.
    pub fn flush(&self) -> Result<(), String> {
        // The library's own waiting looks at what became of messages every tenth of a second only.
        if !self.0.context.wait() {
            return Err(format!("results cannot be written to Kafka: no answer for {} s", PATIENCE.as_secs()));
        }
        self.0.context.problem().map_or(Ok(()), |problem| Err(format!("a result was not delivered: {problem}")))
    }

    /// Has everything that was put out count, and with it the positions of `source`.
    ///
    /// # Errors
    /// As [`Sink::begin`]. Then none of it counts, where there are transactions.
    pub fn commit<O: Owner>(self, source: &Source<O>, next: &[(Partition, i64)]) -> Result<(), String> {
        let Outlet { producer, context, transactions, open } = self.0;
        self.flush()?;
        if !transactions {
            return source.commit(next);
        }
        let (positions, member) = (positions(next)?, source.member()?);
        let done = self
            .0
            .again(|| producer.send_offsets_to_transaction(&positions, &member, ATTEMPT))
            .and_then(|()| self.0.again(|| producer.commit_transaction(ATTEMPT)));
        open.store(done.is_err(), Ordering::Release);
        done.map_err(|problem| context.problem().map_or(problem.clone(), |why| format!("{problem} ({why})")))
    }
}
