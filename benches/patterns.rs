//! Row patterns: a thousand over a million keys, and one for each of ten thousand tenants, as events a second on one core.

mod memory;
mod stream;

use arrow::array::{ArrayRef, DictionaryArray, Int32Array, Int64Array, StringArray, TimestampMillisecondArray};
use criterion::{Criterion, Throughput, criterion_group};
use dynamic_cep::compile::{Context, compile_typed};
use dynamic_cep::connector::spill::SpillFile;
use dynamic_cep::engine::Generation;
use dynamic_cep::engine::router::{Choice, Router};
use dynamic_cep::event::{EventBatch, Schema};
use dynamic_cep::expr::columns::Cache;
use dynamic_cep::flow::Hits;
use dynamic_cep::id::RuleId;
use dynamic_cep::rule::lists::Lists;
use dynamic_cep::rule::{Clause, Limits as RuleLimits, Origin, check};
use dynamic_cep::snapshot::Chunk;
use dynamic_cep::tables::Artifact;
use dynamic_cep::temporal::capture::CapturedChunk;
use dynamic_cep::temporal::patterns::{Limits, PatternRule, Patterns};
use dynamic_cep::temporal::spill::{Spill, Spilled};
use dynamic_cep::temporal::steps::STEP_WORDS;
use memory::{memory, reset_peak};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use stream::{Stream, Time, timed_as};

const KEYS: u64 = 1_000_000;
const TENANTS: u64 = 10_000;
const MERCHANTS: u64 = 1000;
const BATCH: usize = 32_768;
/// Milliseconds from one event to the next.
const PACE: i64 = 1;
const HOUR: i64 = 3_600_000;

fn schema() -> Schema {
    let text = b"fields: {at: timestamp(ms), tenant: string, card: int64, merchant: int64, cents: int64}\ntime: at\ntenant: tenant\n";
    Schema::parse("schema.yaml", text).expect("a schema")
}

/// The names of the tenants: made once, as those of other engines are.
static NAMES: LazyLock<ArrayRef> =
    LazyLock::new(|| Arc::new((0..TENANTS).map(|tenant| Some(format!("t{tenant}"))).collect::<StringArray>()));

/// An event by its number.
#[derive(Clone, Copy)]
struct Payment {
    at: i64,
    tenant: u64,
    card: i64,
    merchant: i64,
    cents: i64,
}

impl Payment {
    /// The one of so many patterns that may begin with it: each has as many merchants as the others.
    const fn pattern(&self, patterns: u64) -> u64 {
        self.merchant.cast_unsigned() * patterns / MERCHANTS
    }
}

fn payment(number: u64) -> Payment {
    payment_by(number, |random| random % KEYS)
}

/// The same of a card that `card` draws.
fn payment_by(number: u64, card: impl Fn(u64) -> u64) -> Payment {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^= z >> 31;
    let card = card(z);
    Payment {
        at: number.cast_signed() * PACE,
        // A card belongs to one tenant.
        tenant: card % TENANTS,
        card: card.cast_signed(),
        merchant: (z >> 24 & 0xffff).cast_signed() % MERCHANTS.cast_signed(),
        cents: (z >> 44).cast_signed() % 100_000,
    }
}

fn batch(schema: &Schema, number: usize) -> EventBatch {
    batch_by(schema, number, |random| random % KEYS)
}

fn batch_by(schema: &Schema, number: usize, card: impl Fn(u64) -> u64) -> EventBatch {
    let first = number as u64 * BATCH as u64;
    let payments: Vec<Payment> = (first..first + BATCH as u64).map(|number| payment_by(number, &card)).collect();
    let of = |value: fn(&Payment) -> i64| payments.iter().map(value);
    let whole = |value: fn(&Payment) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(of(value))) };
    let tenants = Int32Array::from_iter_values(payments.iter().map(|payment| payment.tenant as i32));
    let columns: [ArrayRef; 5] = [
        Arc::new(TimestampMillisecondArray::from_iter_values(of(|payment| payment.at))),
        Arc::new(DictionaryArray::new(tenants, Arc::clone(&NAMES))),
        whole(|payment| payment.card),
        whole(|payment| payment.merchant),
        whole(|payment| payment.cents),
    ];
    EventBatch::new(schema, first, BATCH, columns.into_iter().map(Some).collect())
}

/// Patterns in service, with the matcher of their row conditions.
struct Engine {
    patterns: Patterns,
    rules: Vec<PatternRule>,
    generation: Generation,
    router: Router,
}

impl Engine {
    fn new(rules: impl Iterator<Item = (Option<String>, String)>) -> Self {
        let (schema, lists, limits) = (schema(), Lists::default(), RuleLimits::default());
        let scope = check::Scope { schema: &schema, lists: &lists, parameters: &[], limits: &limits, windows: &[] };
        let rules = rules.enumerate().map(|(number, (tenant, text))| {
            let pattern = check::pattern::pattern(&text, Clause::MatchRecognize, &Origin::default(), None, &scope);
            let pattern = Arc::new(pattern.unwrap_or_else(|problems| panic!("{text}: {}", problems[0])));
            PatternRule { rule: RuleId::new(number), name: number.to_string().into(), tenant: tenant.map(Into::into), pattern }
        });
        let rules: Vec<PatternRule> = rules.collect();
        let patterns = Patterns::new(schema.clone(), rules.clone(), 0, Limits::default());
        let context = Context { schema: &schema, lists: &lists, limits: &limits, threads: 1 };
        let conditions = patterns.conditions().all().iter().map(|condition| (condition.tenant.clone(), condition.expr.clone()));
        let artifact = compile_typed(conditions, &context).artifact.expect("conditions compile");
        let artifact = Arc::new(Artifact::from_bytes(&artifact).expect("an artifact"));
        let generation = Generation::new(Arc::clone(&artifact)).expect("a generation");
        Self { patterns, rules, generation, router: Router::new(artifact, Choice::Cpu).expect("the CPU is there") }
    }

    fn holds(&self, batch: &EventBatch) -> Hits {
        let mut cache = Cache::default();
        let encoded = self.generation.encode(batch, &mut cache);
        self.generation.verify(batch, self.router.find(&encoded), &mut cache)
    }

    /// A copy of the state beside the stream of batches that `next` makes: how long these wait for it, the bytes that are written and how long that takes, and going on from it.
    fn save(&mut self, mut next: impl FnMut() -> EventBatch) -> String {
        let (partitions, held) = (self.patterns.partitions(), self.patterns.held().expect("all in memory"));
        let start = Instant::now();
        let head = self.patterns.begin_capture();
        let pause = start.elapsed();
        let (queue, jobs) = std::sync::mpsc::sync_channel::<CapturedChunk>(32);
        let writer = std::thread::spawn(move || {
            let (mut chunks, mut packed) = (HashMap::new(), 0);
            while let Ok(chunk) = jobs.recv() {
                let key = (chunk.part.clone(), chunk.number);
                let bytes = chunk.encode();
                packed += Chunk::pack(&bytes).expect("memory").1.len();
                chunks.insert(key, bytes);
            }
            (chunks, packed)
        });
        let (mut longest_step, mut longest_batch, mut batches, mut done) = (Duration::ZERO, Duration::ZERO, 0, false);
        while !done {
            let (mut step, mut words) = (Duration::ZERO, 0);
            while words < STEP_WORDS {
                let start = Instant::now();
                let copied = self.patterns.capture().expect("all in memory");
                step += start.elapsed();
                let Some(chunk) = copied else {
                    done = true;
                    break;
                };
                words += chunk.words();
                // Waiting for the writer is no pause of the stream: `match` goes on with the next batch instead.
                queue.send(chunk).expect("a writer");
            }
            longest_step = longest_step.max(step);
            let batch = next();
            let start = Instant::now();
            self.take(&batch);
            longest_batch = longest_batch.max(start.elapsed());
            batches += 1;
        }
        drop(queue);
        let (chunks, packed) = writer.join().expect("a writer");
        let written = start.elapsed();
        let start = Instant::now();
        let mut read = |part: &str, number: usize| Ok(chunks[&(part.to_owned(), number)].clone());
        let restored = Patterns::restored(schema(), self.rules.clone(), 0, Limits::default(), None, &head, &mut read).expect("a copy");
        let restoring = start.elapsed();
        assert_eq!((restored.patterns.partitions(), restored.patterns.held().expect("all in memory")), (partitions, held));
        format!(
            "copy begun in {pause:.1?}, written beside {batches} batches in {written:.1?}, {packed} bytes; longest step {longest_step:.1?}, longest batch {longest_batch:.1?}; gone on with in {restoring:.1?}"
        )
    }

    /// How many findings a batch brings.
    fn take(&mut self, batch: &EventBatch) -> usize {
        let holds = self.holds(batch);
        let (mut found, mut late) = (Vec::new(), Vec::new());
        self.patterns.take(batch, &holds, &[], &mut found, &mut late).expect("room for all");
        assert!(late.is_empty());
        found.len()
    }
}

/// Two adjacent payments of a card within an hour, told by hand: the second begins no other match of its pattern.
fn pairs(batches: usize, patterns: u64, first: impl Fn(&Payment) -> bool, second: impl Fn(&Payment) -> bool) -> usize {
    let mut last: HashMap<i64, Payment> = HashMap::new();
    let mut found = 0;
    for number in 0..(batches * BATCH) as u64 {
        let payment = payment(number);
        let before = last.remove(&payment.card);
        let is_match = before.is_some_and(|before| first(&before) && payment.at - before.at < HOUR && second(&payment));
        found += usize::from(is_match);
        // A row ends a match of one pattern, and may begin one of another.
        if before.is_none_or(|before| !is_match || before.pattern(patterns) != payment.pattern(patterns)) {
            last.insert(payment.card, payment);
        }
    }
    found
}

/// A payment, and later one that counts, whatever lies between: the first of each pattern waits for it, and others meanwhile do not begin.
fn followed(batches: usize, patterns: u64, first: impl Fn(&Payment) -> bool, second: impl Fn(&Payment) -> bool) -> usize {
    // For each card and pattern the times at which a match may begin, oldest first.
    let mut begun: HashMap<i64, HashMap<u64, Vec<i64>>> = HashMap::new();
    let mut found = 0;
    for number in 0..(batches * BATCH) as u64 {
        let payment = payment(number);
        let of_card = begun.entry(payment.card).or_default();
        of_card.values_mut().for_each(|times| times.retain(|time| payment.at - time < HOUR));
        of_card.retain(|_, times| !times.is_empty());
        let ended: Vec<u64> = if second(&payment) { of_card.keys().copied().collect() } else { Vec::new() };
        for pattern in &ended {
            of_card.remove(pattern);
            found += 1;
        }
        if first(&payment) && !ended.contains(&payment.pattern(patterns)) {
            of_card.entry(payment.pattern(patterns)).or_default().push(payment.at);
        }
    }
    found
}

/// Pattern `number` of so many, which begins with payments to its merchants that `first` holds of too.
fn pattern(number: u64, patterns: u64, first: &str, pattern: &str) -> (Option<String>, String) {
    let merchants = |number: u64| (number * MERCHANTS).div_ceil(patterns);
    let (low, high) = (merchants(number), merchants(number + 1) - 1);
    let of = if low == high { format!("merchant = {low}") } else { format!("merchant BETWEEN {low} AND {high}") };
    let text = format!(
        "PARTITION BY card ORDER BY at MEASURES LAST(b.cents) AS drained PATTERN ({pattern}) WITHIN INTERVAL '1' HOUR \
         DEFINE a AS {of}{first}, b AS cents > 90000"
    );
    (None, text)
}

fn per_tenant(tenant: u64) -> (Option<String>, String) {
    let text = format!(
        "PARTITION BY card ORDER BY at MEASURES LAST(b.cents) AS drained PATTERN (a b) WITHIN INTERVAL '1' HOUR \
         DEFINE a AS cents < {}, b AS cents > 2 * a.cents",
        10_000 + tenant
    );
    (Some(format!("t{tenant}")), text)
}

/// Whether the command line names a case: what others need takes longer than they do.
fn asked(name: &str) -> bool {
    let mut names = std::env::args().skip(1).filter(|arg| !arg.starts_with('-') && arg.parse::<f64>().is_err()).peekable();
    names.peek().is_none() || names.any(|part| name.contains(&part))
}

const fn large(payment: &Payment) -> bool {
    payment.cents > 90_000
}

const fn small(payment: &Payment) -> bool {
    payment.cents < 5000
}

fn shared(criterion: &mut Criterion) {
    let schema = schema();
    let mut group = criterion.benchmark_group("patterns");
    group.sample_size(20).throughput(Throughput::Elements(BATCH as u64));
    // More than an hour, so that matches run out of time as others begin.
    let warm = 2 * HOUR as usize / PACE as usize / BATCH;
    type Rules = Box<dyn Iterator<Item = (Option<String>, String)>>;
    let of_merchants = |first: &'static str, text: &'static str| -> Rules {
        Box::new((0..MERCHANTS).map(move |number| pattern(number, MERCHANTS, first, text)))
    };
    type Answer<'a> = Box<dyn Fn() -> usize + 'a>;
    let cases: [(&str, Rules, Answer); 4] = [
        (
            "1000 two-step patterns over 1M keys, 5 % begin",
            of_merchants(" AND cents < 5000", "a b"),
            Box::new(|| pairs(warm, MERCHANTS, small, large)),
        ),
        ("1000 two-step patterns over 1M keys, all begin", of_merchants("", "a b"), Box::new(|| pairs(warm, MERCHANTS, |_| true, large))),
        (
            "1000 patterns of one payment after another, 5 % begin",
            of_merchants(" AND cents < 5000", "a x*? b"),
            Box::new(|| followed(warm, MERCHANTS, small, large)),
        ),
        (
            "10000 tenants with a pattern each",
            Box::new((0..TENANTS).map(per_tenant)),
            Box::new(|| {
                let mut last: HashMap<i64, Payment> = HashMap::new();
                (0..(warm * BATCH) as u64)
                    .map(payment)
                    .filter(|payment| {
                        let before = last.remove(&payment.card);
                        let first = |before: &Payment| before.cents < 10_000 + before.tenant.cast_signed();
                        let is_match = before
                            .is_some_and(|before| first(&before) && payment.at - before.at < HOUR && payment.cents > 2 * before.cents);
                        if !is_match {
                            last.insert(payment.card, *payment);
                        }
                        is_match
                    })
                    .count()
            }),
        ),
    ];
    for (name, rules, expected) in cases {
        if !asked(name) {
            continue;
        }
        let mut engine = Engine::new(rules);
        let found: usize = (0..warm).map(|number| engine.take(&batch(&schema, number))).sum();
        assert_eq!(found, expected(), "{name}");
        let (held, partitions) = (engine.patterns.held().expect("all in memory"), engine.patterns.partitions());
        let bytes = engine.patterns.bytes() / partitions.max(1);
        eprintln!("{name}: {found} found in {} events; {partitions} keys hold {held} rows, in {bytes} bytes each", warm * BATCH);
        let mut next = warm;
        let saved = engine.save(|| {
            next += 1;
            batch(&schema, next - 1)
        });
        eprintln!("{name}: {saved}");
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || {
                    next += 1;
                    batch(&schema, next - 1)
                },
                |batch| engine.take(&batch),
                criterion::BatchSize::PerIteration,
            );
        });
        let conditions = batch(&schema, next);
        group.bench_function(format!("{name}: row conditions alone"), |bencher| bencher.iter(|| engine.holds(&conditions)));
    }
    group.finish();
}

/// Little memory: events a second and the peak of memory, beside all of it in memory. The peak is right where a process has one case, named on the command line.
fn spilled(_: &mut Criterion) {
    let schema = schema();
    let uniform: fn(u64) -> u64 = |random| random % KEYS;
    // The share of rank r is as 1 / r.
    let zipf: fn(u64) -> u64 = |random| (KEYS as f64).powf((random >> 11) as f64 / (1_u64 << 53) as f64) as u64;
    let two_steps = |number| pattern(number, MERCHANTS, "", "a b");
    let many_rows = "PARTITION BY card ORDER BY at MEASURES LAST(b.cents) AS drained PATTERN (a{12,} b) WITHIN INTERVAL '1' DAY \
                     DEFINE a AS cents <= 90000, b AS cents > 90000";
    let (of_merchants, of_rows): (Vec<_>, Vec<_>) = ((0..MERCHANTS).map(two_steps).collect(), vec![(None, many_rows.to_owned())]);
    for (name, rules, card, warm, megabytes) in [
        ("1000 two-step patterns over 1M keys on disk, all begin", &of_merchants, uniform, 220, 86),
        ("1000 two-step patterns over 1M keys on disk by Zipf's law, all begin", &of_merchants, zipf, 220, 60),
        ("a pattern of many rows over 1M keys on disk", &of_rows, uniform, 300, 100),
        ("a pattern of many rows over 1M keys on disk by Zipf's law", &of_rows, zipf, 300, 60),
    ] {
        if !asked(name) {
            continue;
        }
        let (timed, limit) = (40, megabytes << 20);
        let mut before = None;
        let mut run = |spill: Option<&Arc<Spill>>| {
            let mut engine = Engine::new(rules.iter().cloned());
            reset_peak();
            let before = *before.get_or_insert_with(|| memory("VmRSS"));
            spill.into_iter().for_each(|spill| engine.patterns.spill_to(spill));
            let (mut time, mut found) = (Time::default(), 0);
            for number in 0..warm + timed {
                let batch = batch_by(&schema, number, card);
                found += timed_as(&mut time, number >= warm, || engine.take(&batch));
            }
            let events = (timed * BATCH) as f64;
            let (rate, of_processor) = (events / time.wall, events / time.processor);
            let Spilled { out, back, bytes } = spill.map(|spill| spill.spilled()).unwrap_or_default();
            let (keys, taken) = (engine.patterns.partitions(), engine.patterns.bytes());
            let peak = memory("VmHWM") - before;
            eprintln!(
                "{name}: {rate:.0} events/s, {of_processor:.0} a processor second; {keys} keys in {taken} bytes, {bytes} on disk, peak {peak} MB, {out} out, {back} back"
            );
            found
        };
        let folder = tempfile::tempdir().expect("a folder");
        let spill = Spill::new(limit, Box::new(SpillFile::new(folder.path())));
        let little = run(Some(&spill));
        assert_eq!(run(None), little, "the same is found with {limit} bytes");
    }
}

/// One case, as other engines are asked it: `one` payment in twenty begins a match, or `all` do, or others come between (`followed`).
fn streamed(stream: &Stream) {
    let (patterns, batches) = (stream.patterns, stream.rows / BATCH);
    let (first, text, expected) = match stream.case.as_str() {
        "one" => (" AND cents < 5000", "a b", pairs(batches, patterns, small, large)),
        "all" => ("", "a b", pairs(batches, patterns, |_| true, large)),
        "followed" => (" AND cents < 5000", "a x*? b", followed(batches, patterns, small, large)),
        case => panic!("{case} is not one, all or followed"),
    };
    let mut engine = Engine::new((0..patterns).map(|number| pattern(number, patterns, first, text)));
    let schema = schema();
    let found = stream.run(BATCH, |number| batch(&schema, number), |batch| engine.take(batch));
    assert_eq!(found, expected);
}

criterion_group!(benches, shared, spilled);

fn main() {
    match Stream::asked(BATCH) {
        Some(stream) => streamed(&stream),
        None => {
            benches();
            Criterion::default().configure_from_args().final_summary();
        }
    }
}
