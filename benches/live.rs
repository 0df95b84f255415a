//! W5: F1 while 1, 100 and 1000 of its rules change a second. How long a change takes until the next batch sees it, what a batch pays for it, what a compaction does.
//!
//! Batches without changes are timed in turns with those under changes, second by second, so that both meet the same machine. Before anything is timed, the answers after
//! some hundreds of changes are those of a fresh compilation.
//!
//! `cargo bench --bench live -- [RULES [SECONDS]]`: 100,000 rules and 6 seconds a rate, unless said.

use dynamic_cep::engine::router::Choice;
use dynamic_cep::event::{EventBatch, Schema};
use dynamic_cep::live::{Change, LiveEngine, Settings, Snapshot};
use dynamic_cep::rule::lists::Lists;
use dynamic_cep::rule::{Limits, Rule};
use dynamic_cep::tables::Artifact;
use dynamic_cep::workload::changes::Changes;
use dynamic_cep::workload::{Generator, Settings as Sizes, Workload, compiled, rules};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const BATCHES: usize = 64;
const BATCH_ROWS: usize = 1024;
/// Changes a second; the last is the one that the targets are for.
const RATES: [u32; 3] = [1, 100, 1000];

fn next(changes: &mut Changes) -> Change {
    changes.next().expect("changes do not end")
}

/// Number and hash of all (event, rule id, score) that a snapshot finds.
fn fingerprint(snapshot: &Snapshot, batches: &[EventBatch]) -> (usize, u64) {
    let mut pairs = (0, 0_u64);
    for (number, batch) in batches.iter().enumerate() {
        let hits = snapshot.hits(batch);
        let decisions = snapshot.decide(&hits);
        for row in 0..hits.rows() {
            for id in hits.row(row).iter().map(|rule| snapshot.id(*rule)) {
                let text = format!("{number} {row} {id} {}", decisions.scores[row]);
                let hash =
                    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
                pairs = (pairs.0 + 1, pairs.1.wrapping_add(hash));
            }
        }
    }
    pairs
}

fn engine(artifact: &Arc<Artifact>) -> LiveEngine {
    // Compaction is timed by itself.
    let settings = Settings { choice: Choice::Cpu, compact_min: usize::MAX, ..Settings::default() };
    LiveEngine::new(Arc::clone(artifact), Lists::new(), Limits::default(), settings).expect("an artifact")
}

/// Changes one rule after the other while `within` lasts; seconds of each.
fn change(engine: &LiveEngine, changes: &mut Changes, rate: u32, ended: &AtomicBool) -> Vec<f64> {
    let start = Instant::now();
    let mut seconds = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        let due = start + Duration::from_secs(1) / rate * seconds.len() as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()).min(Duration::from_millis(50)));
        if Instant::now() < due {
            continue;
        }
        let one = next(changes);
        let begin = Instant::now();
        let snapshot = engine.apply(std::slice::from_ref(&one)).expect("a sound change");
        seconds.push(begin.elapsed().as_secs_f64());
        assert_eq!(snapshot.find(one.id()).is_none(), matches!(one, Change::Remove(_)));
    }
    seconds
}

/// Matches batches until `ended`; seconds of each.
fn match_batches(engine: &LiveEngine, batches: &[EventBatch], ended: impl Fn() -> bool) -> Vec<f64> {
    let mut seconds = Vec::new();
    for batch in batches.iter().cycle() {
        if ended() {
            break;
        }
        let begin = Instant::now();
        std::hint::black_box(engine.snapshot().hits(batch));
        seconds.push(begin.elapsed().as_secs_f64());
    }
    seconds
}

/// The value below which a share of the values lies.
fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(((values.len() as f64 * share) as usize).min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

fn micros(seconds: f64) -> String {
    format!("{:.0} µs", seconds * 1e6)
}

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let count = numbers.first().copied().unwrap_or(100_000);
    let rounds = numbers.get(1).copied().unwrap_or(6);
    let schema = Workload::F1.schema();
    let artifact = |rules: Vec<Rule>| {
        let bytes = compiled(rules.into_iter(), &schema, 2).expect("sound rules");
        Arc::new(Artifact::from_bytes(&bytes).expect("an artifact"))
    };
    let originals = rules(Workload::F1, count);
    let base = artifact(originals.clone());
    let mut events = Generator::events(Workload::F1);
    let batches: Vec<EventBatch> = (0..BATCHES).map(|_| events.event_batch(&schema, BATCH_ROWS)).collect();

    assert_answers(&base, &schema, &batches[..4], count);
    let open = Instant::now();
    let still = engine(&base);
    println!("F1, {count} rules, batches of {BATCH_ROWS} events; in service after {:.0} ms", open.elapsed().as_secs_f64() * 1e3);
    println!("| changes/s | change p50 | p99 | longest | batch p50, without | p99, without | ratio p50 | p99 | base, parts, loose |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for rate in RATES {
        let live = engine(&base);
        let mut changes = Changes::new(Sizes::from(Workload::F1), &originals);
        let (mut with, mut without, mut of_changes) = (Vec::new(), Vec::new(), Vec::new());
        match_batches(&live, &batches, after(Duration::from_millis(200)));
        for _ in 0..rounds {
            without.extend(match_batches(&still, &batches, after(Duration::from_secs(1))));
            let ended = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let changer = scope.spawn(|| change(&live, &mut changes, rate, &ended));
                with.extend(match_batches(&live, &batches, after(Duration::from_secs(1))));
                ended.store(true, Ordering::Relaxed);
                of_changes.extend(changer.join().expect("changes"));
            });
        }
        report(rate, &mut of_changes, &mut with, &mut without, &live);
        if rate == RATES[RATES.len() - 1] {
            compaction(&live, &still, &mut changes, rate, &batches);
            at_once(&live, &mut changes);
        }
    }
}

fn after(duration: Duration) -> impl Fn() -> bool {
    let start = Instant::now();
    move || start.elapsed() > duration
}

fn report(rate: u32, changes: &mut [f64], with: &mut [f64], without: &mut [f64], live: &LiveEngine) {
    let p = percentile;
    println!(
        "| {rate} | {} | {} | {} | {}, {} | {}, {} | {:.2} | {:.2} | {:?} |",
        micros(p(changes, 0.5)),
        micros(p(changes, 0.99)),
        micros(p(changes, 1.0)),
        micros(p(with, 0.5)),
        micros(p(without, 0.5)),
        micros(p(with, 0.99)),
        micros(p(without, 0.99)),
        p(with, 0.5) / p(without, 0.5),
        p(with, 0.99) / p(without, 0.99),
        live.snapshot().shape(),
    );
}

/// A compaction while rules change and batches are matched.
fn compaction(live: &LiveEngine, still: &LiveEngine, changes: &mut Changes, rate: u32, batches: &[EventBatch]) {
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let changer = scope.spawn(|| change(live, changes, rate, &ended));
        let compactor = scope.spawn(|| {
            let begin = Instant::now();
            assert!(live.compact().expect("rules that compile"));
            ended.store(true, Ordering::Relaxed);
            begin.elapsed().as_secs_f64()
        });
        let mut with = match_batches(live, batches, || ended.load(Ordering::Relaxed));
        let seconds = compactor.join().expect("a base");
        let mut of_changes = changer.join().expect("changes");
        let mut without = match_batches(still, batches, after(Duration::from_secs(2)));
        println!("compaction beside the last: {seconds:.2} s; meanwhile:");
        report(rate, &mut of_changes, &mut with, &mut without, live);
    });
}

/// A thousand changes in one.
fn at_once(live: &LiveEngine, changes: &mut Changes) {
    let mut seconds: Vec<f64> = (0..9)
        .map(|_| {
            let many: Vec<Change> = (0..1000).map(|_| next(changes)).collect();
            let begin = Instant::now();
            live.apply(&many).expect("sound changes");
            begin.elapsed().as_secs_f64()
        })
        .collect();
    println!(
        "1000 changes at once: {:.1} ms, the longest of nine {:.1} ms",
        percentile(&mut seconds, 0.5) * 1e3,
        percentile(&mut seconds, 1.0) * 1e3
    );
}

/// After changes, with merging as it comes and after a compaction, the answers are those of a fresh compilation.
fn assert_answers(base: &Arc<Artifact>, schema: &Schema, batches: &[EventBatch], count: usize) {
    let live = engine(base);
    let mut model = rules(Workload::F1, count);
    let mut changes = Changes::new(Sizes::from(Workload::F1), &model);
    for change in changes.by_ref().take(700) {
        live.apply(std::slice::from_ref(&change)).expect("a sound change");
        let at = model.iter().position(|rule| rule.id == *change.id());
        match (change, at) {
            (Change::Replace(rule), Some(at)) => model[at] = rule,
            (Change::Remove(_), Some(at)) => drop(model.remove(at)),
            (Change::Add(rule), None) => model.push(rule),
            (change, _) => unreachable!("{change:?}"),
        }
    }
    let fresh = Arc::new(Artifact::from_bytes(&compiled(model.into_iter(), schema, 2).expect("sound rules")).expect("an artifact"));
    let expected = fingerprint(&engine(&fresh).snapshot(), batches);
    assert_ne!(expected, fingerprint(&engine(base).snapshot(), batches), "the changes matter");
    assert_eq!(fingerprint(&live.snapshot(), batches), expected, "changed, and compiled afresh");
    live.compact().expect("rules that compile");
    assert_eq!(fingerprint(&live.snapshot(), batches), expected, "after a compaction");
    println!("answers after 700 changes: {} hits, {:016x}, as compiled afresh", expected.0, expected.1);
}
