//! The threads that read and judge, and put out, which begin anew where that fails.

use super::outbox::Outbox;
use super::partitions::{Partitions, Settings};
use super::payload::Payload;
use super::transit::{Batch, Transit};
use crate::connector::kafka::Partition;
use crate::connector::kafka::config::Config;
use crate::connector::kafka::sink::Sink;
use crate::connector::kafka::source::{Batching, Messages, Source};
use crate::service::metrics::Metrics;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// How long to wait for messages, before snapshots and the end of the process are looked after.
const IDLE: Duration = Duration::from_millis(50);

/// Pauses between two attempts to begin.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];

/// How often the positions at the brokers are asked for, and the size of state.
const LAG: Duration = Duration::from_secs(5);

/// The thread, from outside.
pub struct Pipeline {
    ends: Arc<AtomicBool>,
    trouble: Arc<Mutex<Option<String>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Pipeline {
    /// Begins to read. `instance`: the name of this process.
    ///
    /// # Errors
    /// A configuration that does not fit the schema; no thread.
    pub fn begin(config: Config, instance: String, settings: Settings) -> Result<Self, String> {
        Payload::new(&config, settings.live.snapshot().base().event_schema())?;
        let (ends, trouble) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let worker = Worker { config, instance, settings, ends: Arc::clone(&ends), trouble: Arc::clone(&trouble) };
        let thread = std::thread::Builder::new().name("kafka".to_owned()).spawn(move || worker.work());
        let thread = thread.map_err(|error| format!("no thread for Kafka: {error}"))?;
        Ok(Self { ends, trouble, thread: Mutex::new(Some(thread)) })
    }

    /// Why nothing is read at the moment, if that is so.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.as_ref().is_some_and(JoinHandle::is_finished) {
            return Some("the thread that reads Kafka has ended; the log of the process tells why".to_owned());
        }
        drop(thread);
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends after what was taken is judged and committed, leaves snapshots, and leaves the group.
    pub fn stop(&self) {
        self.ends.store(true, Ordering::Release);
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A panic there has been told by the panic hook.
            let _ = thread.join();
        }
    }
}

struct Worker {
    config: Config,
    instance: String,
    settings: Settings,
    ends: Arc<AtomicBool>,
    trouble: Arc<Mutex<Option<String>>>,
}

impl Worker {
    fn work(&self) {
        let mut pause = PAUSES[0];
        while !self.ends.load(Ordering::Acquire) {
            let begun = Instant::now();
            let Err(problem) = self.session() else { return };
            tracing::warn!(problem, "reading Kafka begins anew");
            self.settings.metrics.kafka.restarts.inc();
            *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem);
            pause = if begun.elapsed() > PAUSES[1] { PAUSES[0] } else { (pause * 2).min(PAUSES[1]) };
            let until = Instant::now() + pause;
            while Instant::now() < until && !self.ends.load(Ordering::Acquire) {
                std::thread::sleep(PAUSES[0]);
            }
        }
    }

    /// From joining the group to the end of the process, or to the first failure.
    fn session(&self) -> Result<(), String> {
        let sink = Sink::open(&self.config, &self.instance)?;
        let payload = Payload::new(&self.config, self.settings.live.snapshot().base().event_schema())?;
        let transit = Arc::new(Transit::default());
        let source = Source::open(&self.config, Partitions::new(self.settings.clone(), payload, Arc::clone(&transit)))?;
        let done = std::thread::scope(|scope| {
            let puts_out = std::thread::Builder::new().name("kafka-out".to_owned());
            let begun = puts_out.spawn_scoped(scope, || transit.run(|batch| self.put_out(&source, &sink, batch)));
            begun.map_err(|error| format!("no thread for results: {error}"))?;
            let _ending = Ending(&transit);
            self.read(&source, &transit).and_then(|()| transit.wait())
        });
        if done.is_err() {
            source.owner().abandon();
            sink.abort();
        }
        done
    }

    fn read(&self, source: &Source<Partitions>, transit: &Transit) -> Result<(), String> {
        let Config { batch_rows_max, batch_bytes_max, latency_ms_max, .. } = self.config;
        let gather = Duration::from_millis(latency_ms_max);
        let batching = Batching { rows_max: batch_rows_max, bytes_max: batch_bytes_max, gather };
        let mut lag = Instant::now();
        while !self.ends.load(Ordering::Acquire) {
            // As long as the batch before is under way, waiting for more costs nobody anything.
            let messages = source.take(IDLE, &batching, || transit.is_busy())?;
            if !messages.is_empty() {
                let batch = self.judge(source, messages)?;
                if !batch.next.is_empty() {
                    transit.put(batch)?;
                }
                self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take();
            }
            source.owner().keep()?;
            if lag.elapsed() > LAG {
                lag = Instant::now();
                self.tell_lag(source);
                source.owner().tell_held();
            }
        }
        Ok(())
    }

    fn judge(&self, source: &Source<Partitions>, messages: Vec<Messages>) -> Result<Batch, String> {
        let mut stages = self.settings.metrics.batch();
        let written = messages.iter().flat_map(|messages| messages.times.iter().copied()).collect();
        let rules = self.settings.live.snapshot();
        let mut batch = Batch { outbox: Outbox::default(), next: Vec::new(), written };
        let mut partitions = source.owner();
        for messages in messages {
            batch.next.extend(partitions.take(messages, &rules, &mut batch.outbox)?);
        }
        stages.end("judge");
        Ok(batch)
    }

    fn put_out(&self, source: &Source<Partitions>, sink: &Sink, batch: &Batch) -> Result<(), String> {
        let metrics = &self.settings.metrics;
        let begun = Instant::now();
        let transaction = sink.begin()?;
        batch.outbox.send(&transaction, &self.config)?;
        transaction.commit(source, &batch.next)?;
        metrics.kafka.commit_seconds.observe(begun.elapsed().as_secs_f64());
        tell_latency(metrics, &batch.written);
        Ok(())
    }

    fn tell_lag(&self, source: &Source<Partitions>) {
        let positions: Vec<(Partition, i64)> = source.owner().positions().map(|(partition, next)| (partition.clone(), next)).collect();
        let partitions: Vec<Partition> = positions.iter().map(|(partition, _)| partition.clone()).collect();
        for (partition, end) in source.ends(&partitions) {
            let next = positions.iter().find(|(own, _)| *own == partition).map_or(end, |(_, next)| *next);
            self.settings.metrics.kafka.lag(&partition.topic, partition.number, end - next);
        }
    }
}

/// However reading ends, the thread that puts out ends after it.
struct Ending<'f>(&'f Transit);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// From writing a message to the commit of what became of it.
fn tell_latency(metrics: &Metrics, written: &[i64]) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    for written in written.iter().filter(|written| **written > 0) {
        metrics.kafka.latency_seconds.observe((now - written).max(0) as f64 / 1000.0);
    }
}
