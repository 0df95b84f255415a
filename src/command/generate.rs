//! `generate`: a load of card transactions to a file, to Kafka, or to a process that serves, at a given rate.

use super::matching::Progress;
use super::push::agent;
use super::{Failure, duration};
use crate::codec::Format;
use crate::codec::write::BatchWriter;
use crate::connector::ResultWriter;
#[cfg(feature = "kafka")]
use crate::connector::kafka::{config, sink::Sink};
use crate::workload::cards::{Counts, Settings, Transactions};
#[cfg(feature = "kafka")]
use arrow::array::AsArray;
#[cfg(feature = "kafka")]
use arrow::datatypes::UInt64Type;
use arrow::record_batch::RecordBatch;
use chrono::DateTime;
use serde_json::Value;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Events that are made at a time, where nothing says how many belong together.
const CHUNK: usize = 8192;

/// Parts of a second in which a rate is held.
const TICKS: f64 = 100.0;

/// How messages of Kafka hold events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Message {
    /// One JSON object a message
    Json,
    /// An Arrow IPC stream of --batch events a message
    Arrow,
}

/// What is made, and where it goes.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How many events
    #[arg(long, default_value_t = 100_000)]
    pub events: u32,
    /// Equal seeds give equal events
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Tenants, among whom the cards are
    #[arg(long, default_value_t = 100, value_parser = some())]
    pub tenants: usize,
    /// Cards
    #[arg(long, default_value_t = 50_000, value_parser = some())]
    pub cards: usize,
    /// Merchants
    #[arg(long, default_value_t = 1000, value_parser = some())]
    pub merchants: usize,
    /// The exponent of Zipf's law by which cards are used; 0: all equally often
    #[arg(long, default_value_t = 1.1, value_parser = not_negative)]
    pub skew: f64,
    /// The share of events that come after later ones
    #[arg(long, default_value_t = 0.01, value_parser = share)]
    pub out_of_order: f64,
    /// By how much at most, such as 90s or 15min
    #[arg(long, default_value = "60s", value_parser = duration::parse)]
    pub out_of_order_by: i64,
    /// The share of events in bursts of fraud: a card that is tried out and then used for large amounts, far from home
    #[arg(long, default_value_t = 0.002, value_parser = share)]
    pub fraud: f64,
    /// The time of the first event (RFC 3339)
    #[arg(long, default_value = "2026-01-01T00:00:00Z", value_parser = instant)]
    pub start: i64,
    /// Event time from one event to the next, whatever the rate
    #[arg(long, default_value = "10ms", value_parser = duration::parse)]
    pub step: i64,
    /// Events a second; 0: as fast as it goes
    #[arg(long, default_value_t = 0.0, value_parser = not_negative)]
    pub rate: f64,
    /// Add a column `is_fraud`, which previews may compare with
    #[arg(long)]
    pub labels: bool,
    /// .parquet .arrow .ndjson .csv, `-` for NDJSON on standard output, kafka://BROKER/TOPIC, or a process: http://HOST:PORT
    #[arg(long, short)]
    pub output: String,
    /// How messages of Kafka hold events
    #[arg(long, value_enum, default_value_t = Message::Json)]
    pub format: Message,
    /// Events of one request, or of one message of Arrow
    #[arg(long, default_value_t = 100, value_parser = some())]
    pub batch: usize,
    /// A key of the role scorer or admin
    #[arg(long, env = "DYNAMIC_CEP_KEY", hide_env_values = true)]
    pub key: Option<String>,
    /// A file of PEM with certificates to trust, in the place of those that everybody trusts
    #[arg(long, env = "DYNAMIC_CEP_CA")]
    pub ca: Option<PathBuf>,
}

fn some() -> clap::builder::RangedU64ValueParser<usize> {
    clap::builder::RangedU64ValueParser::new().range(1..=100_000_000)
}

fn not_negative(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|value: &f64| value.is_finite() && *value >= 0.0).ok_or_else(|| "a number of at least 0".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "a share, from 0 to 1".to_owned())
}

fn instant(text: &str) -> Result<i64, String> {
    let at = DateTime::parse_from_rfc3339(text).map_err(|error| format!("a time such as 2026-01-01T00:00:00Z: {error}"))?;
    Ok(at.timestamp_millis())
}

/// What was made, for people.
#[derive(Debug)]
pub struct Summary {
    pub counts: Counts,
    pub took: Duration,
    pub refused: Refused,
}

/// Events that a process did not judge.
#[derive(Debug, Default)]
pub struct Refused {
    pub events: u64,
    /// Why the first of them was not.
    pub reason: Option<String>,
}

impl Refused {
    fn add(&mut self, events: u64, reason: &str) {
        self.events += events;
        self.reason.get_or_insert_with(|| reason.to_owned());
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { events, out_of_order, bursts, fraud } = self.counts;
        let seconds = self.took.as_secs_f64();
        let rate = if seconds > 0.0 { events as f64 / seconds } else { 0.0 };
        write!(f, "events {events}, {out_of_order} of them out of order and {fraud} fraud in {bursts} bursts")?;
        write!(f, "\n{rate:.0} events/s over {:.1} ms", seconds * 1e3)?;
        if let Refused { events, reason: Some(reason) } = &self.refused {
            write!(f, "\nnot judged: {events} events, the first of them because: {reason}")?;
        }
        Ok(())
    }
}

/// Makes the events.
///
/// # Errors
/// Outputs that cannot be written, brokers and processes that cannot be reached, and what a process refuses for good.
pub fn generate(options: &Options, progress: &mut dyn Progress) -> Result<Summary, Failure> {
    let milliseconds = |nanoseconds: i64| nanoseconds as f64 / 1e6;
    let mut transactions = Transactions::new(Settings {
        seed: options.seed,
        tenants: options.tenants,
        cards: options.cards,
        merchants: options.merchants,
        skew: options.skew,
        out_of_order: options.out_of_order,
        out_of_order_by: milliseconds(options.out_of_order_by) as i64,
        fraud: options.fraud,
        start: options.start,
        step: milliseconds(options.step),
        labels: options.labels,
    });
    let mut output = Output::open(options, &transactions.batch(0))?;
    let total = u64::from(options.events);
    let begun = Instant::now();
    let mut made = 0;
    while made < total {
        let rows = output.rows(options).min((total - made) as usize);
        made += rows as u64;
        let batch = transactions.batch(rows);
        if options.rate > 0.0 {
            // The last event of a batch is due when so many have had their time.
            let due = Duration::try_from_secs_f64(made as f64 / options.rate).map_err(|_| format!("--rate {}: too slow", options.rate))?;
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
        }
        output.send(&batch)?;
        progress.rows(made, made, Some(total));
    }
    let refused = output.finish()?;
    Ok(Summary { counts: transactions.counts(), took: begun.elapsed(), refused })
}

/// Where events go.
enum Output {
    File(ResultWriter),
    Process(Process),
    #[cfg(feature = "kafka")]
    Kafka(Topic),
}

impl Output {
    fn open(options: &Options, like: &RecordBatch) -> Result<Self, Failure> {
        let name = &options.output;
        if let Some(place) = name.strip_prefix("kafka://") {
            #[cfg(feature = "kafka")]
            return Topic::open(place, options.format).map(Self::Kafka);
            #[cfg(not(feature = "kafka"))]
            return Err(format!("kafka://{place}: this program was built without the feature `kafka`").into());
        }
        if name.starts_with("http://") || name.starts_with("https://") {
            return Process::open(options).map(Self::Process);
        }
        Ok(Self::File(ResultWriter::create(name, &like.schema())?))
    }

    /// Events of a batch.
    fn rows(&self, options: &Options) -> usize {
        let paced = if options.rate > 0.0 { (options.rate / TICKS).clamp(1.0, CHUNK as f64) as usize } else { CHUNK };
        match self {
            Self::Process(_) => options.batch,
            #[cfg(feature = "kafka")]
            Self::Kafka(_) if options.format == Message::Arrow => options.batch,
            _ => paced,
        }
    }

    fn send(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        match self {
            Self::File(writer) => Ok(writer.write(batch)?),
            Self::Process(process) => process.send(batch),
            #[cfg(feature = "kafka")]
            Self::Kafka(topic) => topic.send(batch),
        }
    }

    fn finish(self) -> Result<Refused, Failure> {
        match self {
            Self::File(writer) => writer.finish()?,
            Self::Process(process) => return Ok(process.refused),
            #[cfg(feature = "kafka")]
            Self::Kafka(topic) => topic.sink.begin()?.flush()?,
        }
        Ok(Refused::default())
    }
}

/// A batch as bytes of a format.
fn bytes(batch: &RecordBatch, format: Format) -> Result<Vec<u8>, String> {
    let mut writer = BatchWriter::new(Vec::new(), &batch.schema(), format)?;
    writer.write(batch)?;
    writer.finish()
}

/// A process that judges events.
struct Process {
    agent: ureq::Agent,
    url: String,
    key: String,
    refused: Refused,
}

impl Process {
    fn open(options: &Options) -> Result<Self, Failure> {
        let key = options.key.clone().ok_or_else(|| "a process judges events of those alone who have a key: give --key".to_owned())?;
        let url = format!("{}/v1/score", options.output.trim_end_matches('/'));
        Ok(Self { agent: agent(options.ca.as_deref())?, url, key, refused: Refused::default() })
    }

    fn send(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        let url = &self.url;
        let request = self.agent.post(url).header("authorization", format!("Bearer {}", self.key));
        let response = request.header("content-type", "application/x-ndjson").send(&bytes(batch, Format::Json)?[..]);
        let mut response = response.map_err(|error| format!("{url}: {error}; is `dynamic-cep serve` running there?"))?;
        let answer = response.body_mut().with_config().limit(u64::MAX).read_to_string().map_err(|error| format!("{url}: {error}"))?;
        let answer: Value = serde_json::from_str(&answer).map_err(|_| format!("{url}: {} {answer}", response.status()))?;
        let told = answer["detail"].as_str().unwrap_or_default();
        match response.status().as_u16() {
            200 => {
                let results = answer["results"].as_array().ok_or_else(|| format!("{url}: an answer without results"))?;
                if results.len() != batch.num_rows() {
                    return Err(format!("{url}: {} events were sent and {} answered", batch.num_rows(), results.len()).into());
                }
                results.iter().filter_map(|result| result["error"].as_str()).for_each(|reason| self.refused.add(1, reason));
                Ok(())
            }
            // Too much for now: the next ones may be taken.
            429 | 503 => {
                self.refused.add(batch.num_rows() as u64, told);
                Ok(())
            }
            status => Err(format!("{url}: {status} {}: {told}", answer["title"].as_str().unwrap_or("refused")).into()),
        }
    }
}

/// A topic of Kafka.
#[cfg(feature = "kafka")]
struct Topic {
    sink: Sink,
    name: String,
    format: Message,
}

#[cfg(feature = "kafka")]
impl Topic {
    fn open(place: &str, format: Message) -> Result<Self, Failure> {
        let (brokers, name) = place
            .split_once('/')
            .filter(|(brokers, name)| !brokers.is_empty() && !name.is_empty())
            .ok_or_else(|| format!("kafka://{place}: write kafka://BROKER:PORT/TOPIC"))?;
        let delivery = config::Delivery::AtLeastOnce;
        let config = config::Config { brokers: brokers.to_owned(), delivery, ..config::Config::default() };
        Ok(Self { sink: Sink::open(&config, "generate")?, name: name.to_owned(), format })
    }

    fn send(&self, batch: &RecordBatch) -> Result<(), Failure> {
        // Events of a card are in one partition; those of a batch are of many.
        if self.format == Message::Arrow {
            let key = batch.column_by_name("event_id").map(|ids| ids.as_primitive::<arrow::datatypes::UInt32Type>().value(0));
            return Ok(self.sink.begin()?.send(
                &self.name,
                key.unwrap_or(0).to_string().as_bytes(),
                &bytes(batch, Format::ArrowStream)?,
                &[],
            )?);
        }
        let cards = batch.column_by_name("card").map(|cards| cards.as_primitive::<UInt64Type>()).ok_or_else(|| "no cards".to_owned())?;
        let lines = bytes(batch, Format::Json)?;
        for (line, card) in lines.split(|byte| *byte == b'\n').zip(cards.values()) {
            self.sink.begin()?.send(&self.name, card.to_string().as_bytes(), line, &[])?;
        }
        Ok(())
    }
}
