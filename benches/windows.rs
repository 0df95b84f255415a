//! Velocity windows: 20 over a million keys, as events a second on one core, and what the state takes.

mod memory;
mod stream;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, TimestampMillisecondArray};
use arrow::datatypes::Int64Type;
use criterion::{Criterion, Throughput, criterion_group};
use dynamic_cep::connector::snapshots::Snapshots;
use dynamic_cep::connector::spill::SpillFile;
use dynamic_cep::connector::store::Store;
use dynamic_cep::event::{EventBatch, Schema};
use dynamic_cep::rule::lists::Lists;
use dynamic_cep::rule::window::NamedWindow;
use dynamic_cep::rule::{Limits, Origin, check};
use dynamic_cep::snapshot::Chunk;
use dynamic_cep::temporal::spill::{Spill, Spilled};
use dynamic_cep::temporal::steps::STEP_WORDS;
use dynamic_cep::temporal::windows::group::SavedGroup;
use dynamic_cep::temporal::windows::{Settings, Windows, capture};
use dynamic_cep::window::Window;
use memory::{memory, reset_peak};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stream::Stream;

const KEYS: u64 = 1_000_000;
const BATCH: usize = 32_768;
/// Milliseconds of thirty days.
const MONTH: u64 = 30 * 86_400_000;

fn schema() -> Schema {
    Schema::parse("schema.yaml", b"fields: {at: timestamp(ms), card: int64, amount: float64, cents: int64}\ntime: at\n").expect("a schema")
}

fn windows(texts: impl Iterator<Item = String>) -> Vec<Window> {
    let (schema, lists, limits) = (schema(), Lists::default(), Limits::default());
    let scope = check::Scope { schema: &schema, lists: &lists, parameters: &[], limits: &limits, windows: &[] };
    let read = |text: String| {
        let named = NamedWindow { name: "w".into(), text: text.into(), origin: Origin::default() };
        check::window::named(&named, &scope).unwrap_or_else(|problems| panic!("{}", problems[0]))
    };
    texts.map(read).collect()
}

fn over(call: &str, length: &str) -> String {
    format!("{call} OVER (PARTITION BY card ORDER BY at RANGE BETWEEN INTERVAL '{length}' PRECEDING AND CURRENT ROW)")
}

/// Counts, sums, means and extremes over an hour, a day, a week and a month.
fn twenty() -> Vec<Window> {
    let calls = ["COUNT(*)", "SUM(cents)", "SUM(amount)", "AVG(amount)", "MAX(amount)"];
    windows(["1 hour", "1 day", "7 days", "30 days"].into_iter().flat_map(|length| calls.map(|call| over(call, length))))
}

fn count_and_sum() -> Vec<Window> {
    windows([over("COUNT(*)", "7 days"), over("SUM(cents)", "7 days")].into_iter())
}

fn random(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 31)
}

/// Batch `number` of payments of random cards, so many a second that each card has ten in a month.
fn batch(schema: &Schema, number: usize) -> EventBatch {
    batch_of(schema, number, KEYS, |random| random % KEYS)
}

/// The same of so many cards, which `card` draws.
fn batch_of(schema: &Schema, number: usize, cards: u64, card: impl Fn(u64) -> u64) -> EventBatch {
    let first = number as u64 * BATCH as u64;
    let random = |at: u64| random(first + at);
    let rows = || 0..BATCH as u64;
    let time: TimestampMillisecondArray = rows().map(|at| Some(((first + at) * MONTH / (cards * 10)).cast_signed())).collect();
    let card: Int64Array = rows().map(|at| Some(card(random(at)).cast_signed())).collect();
    let cents: Int64Array = rows().map(|at| Some((random(at) >> 40) as i64 % 100_000)).collect();
    let amount: Float64Array = cents.iter().map(|cents| cents.map(|cents| cents as f64 / 100.0)).collect();
    let columns: [ArrayRef; 4] = [Arc::new(time), Arc::new(card), Arc::new(amount), Arc::new(cents)];
    EventBatch::new(schema, first, BATCH, columns.into_iter().map(Some).collect())
}

/// State after `batches` batches, and the number of the next one.
fn filled(windows: &[Window], batches: usize) -> (Windows, usize) {
    let schema = schema();
    let mut state = Windows::new(&schema, windows, 0);
    (0..batches).for_each(|number| drop(state.take(&batch(&schema, number)).expect("all in memory")));
    (state, batches)
}

fn shared(criterion: &mut Criterion) {
    let schema = schema();
    let mut group = criterion.benchmark_group("windows");
    group.sample_size(20).throughput(Throughput::Elements(BATCH as u64));
    for (name, windows) in [("20 over 1M keys", twenty()), ("count and sum over 1M keys", count_and_sum())] {
        // A month, so that rows leave as others come.
        let (mut state, mut next) = filled(&windows, KEYS as usize * 10 / BATCH);
        let (keys, rows) = (state.keys(), state.rows());
        let (for_keys, for_rows) = state.bytes();
        eprintln!(
            "{name}: {keys} keys with {rows} rows; {:.1} bytes a key, and {:.1} a row",
            for_keys as f64 / keys as f64,
            for_rows as f64 / rows as f64
        );
        assert!(keys > KEYS as usize * 9 / 10, "most keys are there");
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || {
                    next += 1;
                    batch(&schema, next - 1)
                },
                |batch| state.take(&batch),
                criterion::BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// A snapshot of a million keys: taken at once, and beside a stream of batches; its answers compared with those of the state that went on.
fn snapshots(_: &mut Criterion) {
    let schema = schema();
    for (name, windows) in [("20 over 1M keys", twenty()), ("count and sum over 1M keys", count_and_sum())] {
        let definitions: Vec<String> = (0..windows.len()).map(|number| number.to_string()).collect();
        let (mut state, mut next) = filled(&windows, KEYS as usize * 10 / BATCH);
        let folder = tempfile::tempdir().expect("a folder");
        let open = || Snapshots::open(Store::Folder(folder.path().to_owned())).expect("a folder of snapshots");
        // The first one at once, the second beside the stream: nothing may be left out.
        let start = Instant::now();
        let written = write_beside(open(), &mut state, &definitions, || None);
        let at_once = start.elapsed();
        let packed: u64 = written.chunks.iter().map(|chunk| chunk.packed).sum();
        eprintln!("{name}: snapshot at once {at_once:.2?} with fsync, {packed} bytes");
        // Every chunk has changed again.
        for number in next..next + 3 {
            drop(state.take(&batch(&schema, number)).expect("all in memory"));
        }
        next += 3;
        let start = Instant::now();
        let written = write_beside(open(), &mut state, &definitions, || {
            next += 1;
            Some(batch(&schema, next - 1))
        });
        eprintln!(
            "{name}: beside the stream {:.2?}, {} batches meanwhile; begun in {:.2?}, longest step {:.2?}, longest batch {:.2?}",
            start.elapsed(),
            written.batches.len(),
            written.begun,
            written.longest_step,
            written.longest_batch
        );
        assert!(written.begun.max(written.longest_step) < Duration::from_millis(500), "the stream stands still");
        let shelf = open();
        let start = Instant::now();
        let mut read = |_: usize, chunk: usize| Ok(shelf.chunk(&written.chunks[chunk]).expect("a sound chunk"));
        let mut restored = Windows::restored(&schema, &windows, &definitions, &Settings::new(0), &written.groups, &mut read)
            .expect("what was saved")
            .windows;
        eprintln!("{name}: restored in {:.2?}", start.elapsed());
        assert_eq!(restored.keys(), written.groups[0].keys);
        // What came meanwhile comes again, and then both agree on what comes next.
        written.batches.iter().for_each(|batch| drop(restored.take(batch).expect("all in memory")));
        for number in next..next + 3 {
            let batch = batch(&schema, number);
            assert_eq!(state.take(&batch), restored.take(&batch), "batch {number}");
        }
    }
}

/// What came of a snapshot.
struct Written {
    groups: Vec<SavedGroup>,
    chunks: Vec<Chunk>,
    begun: Duration,
    longest_step: Duration,
    longest_batch: Duration,
    batches: Vec<EventBatch>,
}

/// Takes a snapshot of windows of one group: a thread packs and writes what is copied between batches.
fn write_beside(
    mut folder: Snapshots,
    state: &mut Windows,
    definitions: &[String],
    mut next: impl FnMut() -> Option<EventBatch>,
) -> Written {
    let start = Instant::now();
    let groups = state.begin_capture(definitions);
    let begun = start.elapsed();
    assert_eq!(groups.len(), 1);
    let (queue, jobs) = std::sync::mpsc::sync_channel::<(usize, capture::Chunk)>(32);
    let count = groups[0].chunks();
    let writer = std::thread::spawn(move || {
        let mut chunks: Vec<Option<Chunk>> = vec![None; count];
        while let Ok((number, chunk)) = jobs.recv() {
            chunks[number] = Some(folder.put(&chunk.encode()).expect("room on the disk"));
        }
        chunks.into_iter().map(|chunk| chunk.expect("every chunk has changed")).collect()
    });
    let (mut longest_step, mut longest_batch) = (Duration::ZERO, Duration::ZERO);
    let mut batches = Vec::new();
    let mut done = false;
    while !done {
        let (mut step, mut words) = (Duration::ZERO, 0);
        while words < STEP_WORDS {
            let start = Instant::now();
            let copied = state.capture().expect("all in memory");
            step += start.elapsed();
            let Some((_, number, chunk)) = copied else {
                done = true;
                break;
            };
            words += chunk.words();
            // Waiting for the disk is no pause of the stream: `match` goes on with the next batch instead.
            queue.send((number, chunk)).expect("a writer");
        }
        longest_step = longest_step.max(step);
        if let Some(batch) = next() {
            let start = Instant::now();
            drop(state.take(&batch).expect("all in memory"));
            longest_batch = longest_batch.max(start.elapsed());
            batches.push(batch);
        }
    }
    drop(queue);
    let chunks = writer.join().expect("a writer");
    Written { groups, chunks, begun, longest_step, longest_batch, batches }
}

/// Memory for the keys and a quarter of the rows: events a second, and the peak of memory, beside all of it.
fn spilled(_: &mut Criterion) {
    const CARDS: u64 = 200_000;
    let schema = schema();
    let one = windows([over("COUNT(*)", "30 days"), over("SUM(cents)", "30 days")].into_iter());
    let ten = ["COUNT(*)", "SUM(cents)"].map(|call| format!("{call} OVER (PARTITION BY card ORDER BY at ROWS 9 PRECEDING)"));
    let uniform: fn(u64) -> u64 = |random| random % CARDS;
    // The share of rank r is as 1 / r.
    let zipf: fn(u64) -> u64 = |random| (CARDS as f64).powf((random >> 11) as f64 / (1_u64 << 53) as f64) as u64;
    for (name, windows, card) in [
        ("20 of a month over 200K keys", twenty(), uniform),
        ("count and sum of a month over 200K keys", one, uniform),
        ("count and sum of ten events over 200K keys by Zipf's law", windows(ten.into_iter()), zipf),
    ] {
        // A month, and then another third of one that counts.
        let (filled, timed) = (CARDS as usize * 10 / BATCH, CARDS as usize * 3 / BATCH);
        let run = |settings: &Settings| {
            reset_peak();
            let before = memory("VmRSS");
            let mut state = Windows::with_settings(&schema, &windows, settings);
            let mut time = Duration::ZERO;
            let mut last = Vec::new();
            for number in 0..filled + timed {
                let batch = batch_of(&schema, number, CARDS, card);
                let start = Instant::now();
                last = state.take(&batch).expect("room on the disk");
                time += if number < filled { Duration::ZERO } else { start.elapsed() };
            }
            let rate = (timed * BATCH) as f64 / time.as_secs_f64();
            (last, state.keys(), state.bytes(), rate, memory("VmHWM") - before)
        };
        let (whole, keys, (for_keys, for_rows), rate, peak) = run(&Settings::new(0));
        let folder = tempfile::tempdir().expect("a folder");
        // Of each key on disk some bytes are noted.
        let limit = for_keys + 20 * keys + for_rows / 4;
        let spill = Spill::new(limit, Box::new(SpillFile::new(folder.path())));
        let (found, .., rate_spilled, peak_spilled) = run(&Settings { spill: Some(Arc::clone(&spill)), ..Settings::new(0) });
        assert!(whole == found, "the same is said");
        let Spilled { out, back, .. } = spill.spilled();
        eprintln!(
            "{name}: {rate:.0} events/s, {} bytes, peak {peak} MB; with {limit} bytes {rate_spilled:.0} events/s, peak {peak_spilled} MB, {out} out, {back} back",
            for_keys + for_rows
        );
    }
}

/// `windows`: a count and a sum, as other engines are asked them, or twenty windows.
fn streamed(stream: &Stream) {
    const DAY: i64 = 86_400_000;
    assert_eq!(stream.case, "windows");
    let (windows, lengths) = match stream.patterns {
        2 => (count_and_sum(), vec![7 * DAY]),
        20 => (twenty(), vec![DAY / 24, DAY, 7 * DAY, 30 * DAY]),
        many => panic!("{many} windows are not 2 or 20"),
    };
    // Of the counts and the sums of whole numbers.
    let mut expected = 0;
    let mut held: Vec<VecDeque<(i64, i64)>> = vec![VecDeque::new(); KEYS as usize];
    for number in 0..stream.rows as u64 {
        let (time, cents) = ((number * MONTH / (KEYS * 10)) as i64, (random(number) >> 40) as i64 % 100_000);
        let payments = &mut held[(random(number) % KEYS) as usize];
        payments.push_back((time, cents));
        while payments[0].0 < time - lengths[lengths.len() - 1] {
            payments.pop_front();
        }
        for length in &lengths {
            expected += payments.iter().rev().take_while(|(at, _)| *at >= time - length).map(|(_, cents)| 1 + cents).sum::<i64>();
        }
    }
    let schema = schema();
    let mut windows = Windows::new(&schema, &windows, 0);
    let mut sum = 0;
    let take = |batch: &EventBatch| {
        let columns = windows.take(batch).expect("all in memory");
        let whole = columns.iter().filter_map(|column| column.as_primitive_opt::<Int64Type>());
        sum += whole.map(|column| column.iter().flatten().sum::<i64>()).sum::<i64>();
        batch.rows()
    };
    stream.run(BATCH, |number| batch(&schema, number), take);
    assert_eq!(sum, expected);
}

criterion_group!(benches, shared, snapshots, spilled);

fn main() {
    match Stream::asked(BATCH) {
        Some(stream) => streamed(&stream),
        None => {
            benches();
            Criterion::default().configure_from_args().final_summary();
        }
    }
}
