//! The thread that reads, judges and puts out, and begins anew where that fails.

use super::outbox::Outbox;
use super::partitions::{Partitions, Settings};
use super::payload::Payload;
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

/// How often the positions at the brokers are asked for.
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
        let source = Source::open(&self.config, Partitions::new(self.settings.clone(), payload))?;
        let done = self.read(&source, &sink);
        if done.is_err() {
            source.owner().abandon();
            sink.abort();
        }
        done
    }

    fn read(&self, source: &Source<Partitions>, sink: &Sink) -> Result<(), String> {
        let Config { batch_rows_max, batch_bytes_max, latency_ms_max, .. } = self.config;
        let gather = Duration::from_millis(latency_ms_max);
        let batching = Batching { rows_max: batch_rows_max, bytes_max: batch_bytes_max, gather };
        let mut outbox = Outbox::default();
        let mut lag = Instant::now();
        while !self.ends.load(Ordering::Acquire) {
            let messages = source.take(IDLE, &batching)?;
            if !messages.is_empty() {
                self.judge(source, sink, messages, &mut outbox)?;
                self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take();
            }
            source.owner().keep();
            if lag.elapsed() > LAG {
                lag = Instant::now();
                self.tell_lag(source);
            }
        }
        Ok(())
    }

    fn judge(&self, source: &Source<Partitions>, sink: &Sink, messages: Vec<Messages>, outbox: &mut Outbox) -> Result<(), String> {
        let metrics = &self.settings.metrics;
        let mut stages = metrics.batch();
        let written: Vec<i64> = messages.iter().flat_map(|messages| messages.times.iter().copied()).collect();
        let rules = self.settings.live.snapshot();
        outbox.clear();
        let mut next: Vec<(Partition, i64)> = Vec::new();
        {
            let mut partitions = source.owner();
            for messages in messages {
                next.extend(partitions.take(messages, &rules, outbox)?);
            }
        }
        stages.end("judge");
        drop(stages);
        if next.is_empty() {
            return Ok(());
        }
        let begun = Instant::now();
        sink.begin()?;
        outbox.send(sink, &self.config)?;
        sink.commit(source, &next)?;
        metrics.kafka.commit_seconds.observe(begun.elapsed().as_secs_f64());
        tell_latency(metrics, &written);
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

/// From writing a message to the commit of what became of it.
fn tell_latency(metrics: &Metrics, written: &[i64]) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    for written in written.iter().filter(|written| **written > 0) {
        metrics.kafka.latency_seconds.observe((now - written).max(0) as f64 / 1000.0);
    }
}
