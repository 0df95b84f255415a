//! Writes events to a topic of Kafka and reads the decisions about them, to tell how many a second there are and how long each took.
//!
//! `backlog` writes all events, then has the process started (it waits for the first decision) and counts decisions from the first to the last. `rate` writes at a given rate; a time
//! counts from when its event was due to when its decision, committed, was read. Every event must have one decision; with Arrow one for each row of its message.
//!
//! `kafka BROKER EVENTS DECISIONS backlog|rate json|arrow FILE COUNT RATE ROWS`, FILE of NDJSON or Parquet, ROWS of an Arrow message

use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::util::Timeout;
use std::collections::HashMap;
use std::fs::File;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

/// The time at which an event was due, by partition and offset.
type Due = ((i32, i64), Instant);

struct Sent(Sender<Due>);

impl rdkafka::ClientContext for Sent {}

impl ProducerContext for Sent {
    type DeliveryOpaque = Box<Instant>;

    fn delivery(&self, result: &DeliveryResult<'_>, due: Box<Instant>) {
        let message = result.as_ref().map_err(|(error, _)| error).expect("delivered");
        // Nobody listens any more at the end of a run that failed.
        let _ = self.0.send(((message.partition(), message.offset()), *due));
    }
}

fn main() {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [broker, events, decisions, mode, format, file, count, rate, rows] = &given[..] else {
        eprintln!("kafka BROKER EVENTS DECISIONS backlog|rate json|arrow FILE COUNT RATE ROWS");
        std::process::exit(2);
    };
    let number = |text: &String| text.parse::<usize>().expect("a number");
    let (count, rate, rows) = (number(count), number(rate), number(rows));
    let is_arrow = format == "arrow";
    let messages: Vec<Vec<u8>> = if is_arrow { arrow_messages(file, count, rows) } else { lines(file, count) };
    let per_message = if is_arrow { rows } else { 1 };

    let consumer: BaseConsumer = client(broker)
        .set("group.id", "bench")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "5")
        .set("allow.auto.create.topics", "true")
        .create()
        .expect("a consumer");
    let partitions = partitions(&consumer, decisions);
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        // A topic that was just made has no leaders for a moment.
        let end = std::iter::repeat_with(|| consumer.fetch_watermarks(decisions, partition, Duration::from_secs(10)).ok());
        let end = end.take(100).inspect(|_| std::thread::sleep(Duration::from_millis(20))).find_map(|ends| ends).expect("an end").1;
        list.add_partition_offset(decisions, partition, Offset::Offset(end)).expect("a partition");
    }
    consumer.assign(&list).expect("assigned");

    let (told, sent) = channel();
    let producer: ThreadedProducer<Sent> = client(broker)
        .set("linger.ms", "5")
        .set("queue.buffering.max.messages", "2000000")
        .create_with_context(Sent(told))
        .expect("a producer");
    let inputs = self::partitions(&consumer, events);
    let write = move |producer: &ThreadedProducer<Sent>| {
        let begin = Instant::now() + Duration::from_millis(200);
        for (nth, message) in messages.iter().enumerate() {
            let mut due = Instant::now();
            if rate > 0 {
                due = begin + Duration::from_secs_f64((nth * per_message) as f64 / rate as f64);
                if let Some(early) = due.checked_duration_since(Instant::now()) {
                    std::thread::sleep(early);
                }
            }
            let key = nth.to_le_bytes();
            let mut record = BaseRecord::with_opaque_to(events, Box::new(due)).partition(nth as i32 % inputs).key(&key).payload(message);
            while let Err((_, same)) = producer.send(record) {
                std::thread::sleep(Duration::from_millis(1));
                record = same;
            }
        }
        producer.flush(Timeout::Never).expect("delivered");
        messages.len()
    };
    if mode == "backlog" {
        let written = write(&producer);
        println!("{written} messages are there; now the process may begin");
        let (arrived, took) = read(&consumer, count, is_arrow);
        println!("{} decisions, {:.0} a second", arrived.len(), (count as f64) / took.as_secs_f64());
        return;
    }
    let (arrived, took) = std::thread::scope(|scope| {
        scope.spawn(|| write(&producer));
        read(&consumer, count, is_arrow)
    });
    drop(producer);
    let due: HashMap<(i32, i64), Instant> = sent.iter().collect();
    let mut times: Vec<f64> = arrived.iter().map(|(place, at)| at.duration_since(due[place]).as_secs_f64() * 1e3).collect();
    times.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "{count} decisions, {:.0} a second; ms: median {:.1}, 90 % {:.1}, 99 % {:.1}, 99.9 % {:.1}, longest {:.1}",
        count as f64 / took.as_secs_f64(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

fn client(broker: &str) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", broker).set("auto.offset.reset", "earliest").set("compression.type", "lz4");
    client
}

/// The partitions of a topic, which brokers that may make topics make now.
fn partitions(consumer: &BaseConsumer, topic: &str) -> i32 {
    loop {
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).expect("brokers");
        let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
        if partitions > 0 {
            return i32::try_from(partitions).expect("few partitions");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn lines(file: &str, count: usize) -> Vec<Vec<u8>> {
    let text = std::fs::read_to_string(file).expect("events");
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().cycle().take(count).map(|line| line.as_bytes().to_vec()).collect()
}

fn arrow_messages(file: &str, count: usize, rows: usize) -> Vec<Vec<u8>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(file).expect("events")).expect("Parquet");
    let batches: Vec<_> = reader.with_batch_size(rows).build().expect("Parquet").map(|batch| batch.expect("a batch")).collect();
    let whole = batches.iter().filter(|batch| batch.num_rows() == rows);
    let pack = |batch: &arrow::record_batch::RecordBatch| {
        let mut bytes = Vec::new();
        let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema()).expect("a stream");
        writer.write(batch).and_then(|()| writer.finish()).expect("memory");
        drop(writer);
        bytes
    };
    let packed: Vec<Vec<u8>> = whole.map(pack).collect();
    packed.iter().cycle().take(count / rows).cloned().collect()
}

/// When the decisions about each message came, and how long from the first to the last.
fn read(consumer: &BaseConsumer, count: usize, is_arrow: bool) -> (HashMap<(i32, i64), Instant>, Duration) {
    let mut arrived = HashMap::new();
    let (mut decisions, mut first) = (0, None);
    let mut last = Instant::now();
    while decisions < count {
        let Some(message) = consumer.poll(Duration::from_millis(100)) else {
            assert!(first.is_none() || last.elapsed() < Duration::from_secs(30), "{decisions} of {count} decisions");
            continue;
        };
        let message = message.expect("a message");
        last = Instant::now();
        first.get_or_insert(last);
        let payload = message.payload().unwrap_or_default();
        let place = if is_arrow {
            let batches = StreamReader::try_new(payload, None).expect("a stream");
            decisions += batches.map(|batch| batch.expect("a batch").num_rows()).sum::<usize>();
            place_of(&message)
        } else {
            decisions += 1;
            (number_after(payload, b"\"partition\":") as i32, number_after(payload, b"\"offset\":"))
        };
        assert!(arrived.insert(place, last).is_none(), "two decisions about {place:?}");
    }
    (arrived, last.duration_since(first.unwrap_or(last)))
}

fn place_of(message: &impl Message<Headers = rdkafka::message::BorrowedHeaders>) -> (i32, i64) {
    use rdkafka::message::Headers;
    let headers = message.headers().expect("headers");
    let header = |name: &str| {
        let found = headers.iter().find(|header| header.key == name).and_then(|header| header.value).expect("a header");
        std::str::from_utf8(found).expect("text").parse::<i64>().expect("a number")
    };
    (header("partition") as i32, header("offset"))
}

/// The number behind the last place of a name.
fn number_after(text: &[u8], name: &[u8]) -> i64 {
    let at = text.windows(name.len()).rposition(|window| window == name).expect("the name") + name.len();
    let digits = text[at..].iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + i64::from(digit - b'0'))
}
