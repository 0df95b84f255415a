//! W5: F1 while its rules change. How long a change takes until the next batch sees it, what a batch pays for changes, what a compaction does.
//!
//! Batches without changes are timed in turns with those under changes, so that both meet the same machine. Before anything is timed, the answers after some hundreds of
//! changes, and after a compaction, are those of a fresh compilation.

use super::measure::quantile;
use super::report::{Figures, append_csv, json_lines, machine};
use super::{Backend, Failure, Options};
use crate::engine::router::Choice;
use crate::event::{EventBatch, Schema};
use crate::live::{Change, LiveEngine, Settings, Snapshot};
use crate::rule::lists::Lists;
use crate::rule::{Limits, Rule};
use crate::tables::Artifact;
use crate::workload::changes::Changes;
use crate::workload::{Fingerprint, Generator, Settings as Sizes, Workload, compiled, rules};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Changes a second.
const RATES: [u32; 4] = [0, 1, 100, 1000];

/// Batches with and without changes alternate after so long, and a run has so many of both.
const TURN: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 250 });
const TURNS: usize = if cfg!(test) { 1 } else { 4 };

/// Changes before answers are compared, and changes of one call.
const COMPARED: usize = 700;
const AT_ONCE: usize = 1000;

/// Batches on which answers are compared.
const BATCHES_COMPARED: usize = 4;

/// A live engine and what is done to it.
struct Bench {
    choice: Choice,
    schema: Schema,
    sizes: Sizes,
    rules: Vec<Rule>,
    base: Arc<Artifact>,
    batches: Vec<EventBatch>,
}

/// Seconds of each change, and of each batch.
#[derive(Default)]
pub(super) struct Row {
    /// Changes a second, and whether everything was compiled meanwhile.
    rate: u32,
    compacting: bool,
    changes: Vec<f64>,
    with: Vec<f64>,
    without: Vec<f64>,
    /// Shares of the time that the matching thread waited for a core, where the system tells.
    waited: [Option<f64>; 2],
    shape: [usize; 3],
    /// Seconds of the compaction, and of each of several calls with a thousand changes.
    compaction: Option<f64>,
    at_once: Vec<f64>,
}

/// All that was found out.
pub(super) struct Report {
    rules: usize,
    tenants: usize,
    batch: usize,
    runs: usize,
    answer: Fingerprint,
    pub rows: Vec<Row>,
}

/// # Errors
/// Answers other than those of a fresh compilation, options that do not apply, files that cannot be written.
pub(super) fn bench(options: &Options, out: &mut dyn Write, progress: &mut dyn FnMut(&str)) -> Result<(), Failure> {
    if options.chart.is_some() {
        return Err("there is no chart of W5".to_owned().into());
    }
    let report = measured(options, progress)?;
    if let Some(path) = &options.csv {
        append_csv(path, report.figures())?;
    }
    Ok(if options.json { json_lines(out, report.figures()) } else { report.table(out) }?)
}

pub(super) fn measured(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Report, Failure> {
    let bench = Bench::new(options, progress)?;
    progress("W5: comparing answers");
    let answer = bench.compared()?;
    let still = bench.engine(&bench.base)?;
    let mut rows = Vec::new();
    for rate in RATES {
        progress(&format!("W5: {rate} changes a second"));
        let live = bench.engine(&bench.base)?;
        let mut changes = Changes::new(bench.sizes, &bench.rules);
        rows.push(bench.in_turns(&live, &still, &mut changes, rate, options.runs)?);
        if rate == RATES[RATES.len() - 1] {
            progress("W5: a compaction");
            rows.push(bench.compaction(&live, &still, &mut changes, rate)?);
        }
    }
    Ok(Report { rules: options.rules, tenants: options.tenants, batch: options.batch, runs: options.runs, answer, rows })
}

impl Bench {
    fn new(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Self, Failure> {
        let choice = match options.backend[..] {
            [Backend::All | Backend::Cpu] => Choice::Cpu,
            [Backend::Gpu] => Choice::Gpu,
            [Backend::Auto] => Choice::Auto,
            _ => return Err("W5 is matched by one of cpu, gpu and auto".to_owned().into()),
        };
        let (schema, sizes) = (Workload::F1.schema(), Sizes { workload: Workload::F1, tenants: options.tenants() });
        progress("W5: drawing rules");
        let rules = rules(sizes, options.rules);
        progress("W5: compiling");
        let base = artifact(rules.clone(), &schema)?;
        let mut events = Generator::events(sizes);
        let batches = (0..options.events.div_ceil(options.batch)).map(|_| events.event_batch(&schema, options.batch)).collect();
        Ok(Self { choice, schema, sizes, rules, base, batches })
    }

    fn engine(&self, artifact: &Arc<Artifact>) -> Result<LiveEngine, String> {
        // Compaction is timed by itself.
        let settings = Settings { choice: self.choice, compact_min: usize::MAX, ..Settings::default() };
        LiveEngine::new(Arc::clone(artifact), Lists::new(), Limits::default(), settings)
    }

    /// The answer after changes, and after a compaction, which is that of a fresh compilation.
    fn compared(&self) -> Result<Fingerprint, Failure> {
        let live = self.engine(&self.base)?;
        let mut model: Vec<Option<Rule>> = self.rules.iter().cloned().map(Some).collect();
        let mut places: HashMap<Arc<str>, usize> = self.rules.iter().map(|rule| Arc::clone(&rule.id)).zip(0..).collect();
        for change in Changes::new(self.sizes, &self.rules).take(COMPARED) {
            live.apply(std::slice::from_ref(&change)).map_err(Failure::Diagnostics)?;
            let next = model.len();
            let place = *places.entry(Arc::clone(change.id())).or_insert(next);
            let rule = match change {
                Change::Add(rule) | Change::Replace(rule) => Some(rule),
                Change::Remove(_) | Change::Status(..) => None,
            };
            if place == next { model.push(rule) } else { model[place] = rule }
        }
        let batches = &self.batches[..self.batches.len().min(BATCHES_COMPARED)];
        let fresh = artifact(model.into_iter().flatten().collect(), &self.schema)?;
        let right = fingerprint(&self.engine(&fresh)?.snapshot(), batches);
        agree("after changes", fingerprint(&live.snapshot(), batches), right)?;
        live.compact()?;
        agree("after a compaction", fingerprint(&live.snapshot(), batches), right)?;
        Ok(right)
    }

    /// Batches under changes and without, in turns.
    fn in_turns(&self, live: &LiveEngine, still: &LiveEngine, changes: &mut Changes, rate: u32, runs: usize) -> Result<Row, Failure> {
        let mut row = Row { rate, ..Row::default() };
        let mut waited = [Some(0.0); 2];
        let add = |sum: &mut Option<f64>, share: Option<f64>| *sum = sum.zip(share).map(|(sum, share)| sum + share / (runs * TURNS) as f64);
        for _ in 0..runs * TURNS {
            let (seconds, share) = self.match_batches(still, after(TURN));
            row.without.extend(seconds);
            add(&mut waited[1], share);
            let ended = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let changer = scope.spawn(|| change(live, changes, rate, &ended));
                let (seconds, share) = self.match_batches(live, after(TURN));
                row.with.extend(seconds);
                add(&mut waited[0], share);
                ended.store(true, Ordering::Relaxed);
                row.changes.extend(joined(changer)?);
                Ok::<_, Failure>(())
            })?;
        }
        Ok(Row { shape: live.snapshot().shape(), waited, ..row })
    }

    /// A compaction while rules change and batches are matched; then many changes at once.
    fn compaction(&self, live: &LiveEngine, still: &LiveEngine, changes: &mut Changes, rate: u32) -> Result<Row, Failure> {
        let mut row = Row { rate, compacting: true, ..Row::default() };
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let changer = scope.spawn(|| change(live, changes, rate, &ended));
            let compactor = scope.spawn(|| {
                let start = Instant::now();
                let done = live.compact();
                ended.store(true, Ordering::Relaxed);
                done.map(|_| start.elapsed().as_secs_f64())
            });
            (row.with, row.waited[0]) = self.match_batches(live, || ended.load(Ordering::Relaxed));
            row.compaction = Some(joined(compactor)?);
            row.changes = joined(changer)?;
            Ok::<_, Failure>(())
        })?;
        (row.without, row.waited[1]) = self.match_batches(still, after(TURN * 2 * TURNS as u32));
        row.shape = live.snapshot().shape();
        for _ in 0..9 {
            let many: Vec<Change> = changes.by_ref().take(AT_ONCE).collect();
            let start = Instant::now();
            live.apply(&many).map_err(Failure::Diagnostics)?;
            row.at_once.push(start.elapsed().as_secs_f64());
        }
        Ok(row)
    }

    /// Matches batches until `ended`, at least one; seconds of each, and the share of the time that the thread waited for a core.
    fn match_batches(&self, engine: &LiveEngine, ended: impl Fn() -> bool) -> (Vec<f64>, Option<f64>) {
        let mut seconds = Vec::new();
        let (start, waited_before) = (Instant::now(), waited());
        for batch in self.batches.iter().cycle() {
            let begin = Instant::now();
            std::hint::black_box(engine.snapshot().hits(batch));
            seconds.push(begin.elapsed().as_secs_f64());
            if ended() {
                break;
            }
        }
        let share = waited().zip(waited_before).map(|(now, before)| (now - before) / start.elapsed().as_secs_f64());
        (seconds, share)
    }
}

fn joined<T, E: Into<Failure>>(thread: std::thread::ScopedJoinHandle<Result<T, E>>) -> Result<T, Failure> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).map_err(Into::into)
}

fn artifact(rules: Vec<Rule>, schema: &Schema) -> Result<Arc<Artifact>, Failure> {
    let bytes = compiled(rules.into_iter(), schema, super::all_cores()).map_err(Failure::Diagnostics)?;
    Ok(Arc::new(Artifact::from_bytes(&bytes)?))
}

/// Of all events, ids of rules that match them, and scores: numbers of rules are a snapshot's own.
fn fingerprint(snapshot: &Snapshot, batches: &[EventBatch]) -> Fingerprint {
    let mut fingerprint = Fingerprint::default();
    for (number, batch) in batches.iter().enumerate() {
        let hits = snapshot.hits(batch);
        let decisions = snapshot.decide(&hits);
        for row in 0..hits.rows() {
            for (place, rule) in hits.row(row).iter().enumerate() {
                let mut hasher = DefaultHasher::new();
                (number, row, place, snapshot.id(*rule), decisions.scores[row]).hash(&mut hasher);
                fingerprint.hits += 1;
                fingerprint.hash = fingerprint.hash.wrapping_add(hasher.finish());
            }
        }
    }
    fingerprint
}

fn agree(when: &str, found: Fingerprint, right: Fingerprint) -> Result<(), String> {
    if found == right {
        return Ok(());
    }
    Err(format!("W5: {found} {when}, and {right} where the same rules are compiled afresh: nothing is timed"))
}

/// Changes one rule after the other until `ended`, at least one; seconds of each until a snapshot has it.
fn change(engine: &LiveEngine, changes: &mut Changes, rate: u32, ended: &AtomicBool) -> Result<Vec<f64>, Failure> {
    let start = Instant::now();
    let mut seconds = Vec::new();
    while rate > 0 && (seconds.is_empty() || !ended.load(Ordering::Relaxed)) {
        let due = start + Duration::from_secs(1) / rate * seconds.len() as u32;
        let wait = due.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            std::thread::sleep(wait.min(Duration::from_millis(20)));
            continue;
        }
        let Some(one) = changes.next() else { break };
        let begin = Instant::now();
        engine.apply(std::slice::from_ref(&one)).map_err(Failure::Diagnostics)?;
        let seen = engine.snapshot().find(one.id()).is_some();
        seconds.push(begin.elapsed().as_secs_f64());
        if seen == matches!(one, Change::Remove(_)) {
            return Err(format!("W5: the change of {} is not in service", one.id()).into());
        }
    }
    Ok(seconds)
}

fn after(duration: Duration) -> impl Fn() -> bool {
    let start = Instant::now();
    move || start.elapsed() > duration
}

/// Seconds that this thread was ready and had no core, where the system tells.
fn waited() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().nth(1)?.parse().ok().map(|nanoseconds: f64| nanoseconds * 1e-9)
}

impl Row {
    fn name(&self) -> String {
        if self.compacting { format!("{}, compacting", self.rate) } else { self.rate.to_string() }
    }

    /// p50 and p99 of changes, of batches with and without them.
    fn quantiles(&self) -> [[f64; 2]; 3] {
        [&self.changes, &self.with, &self.without].map(|values| {
            let mut values = values.clone();
            [0.5, 0.99].map(|share| quantile(&mut values, share))
        })
    }

    /// The median and the longest of many changes at once.
    fn at_once(&self) -> Option<[f64; 2]> {
        let mut values = self.at_once.clone();
        (!values.is_empty()).then(|| [0.5, 1.0].map(|share| quantile(&mut values, share)))
    }
}

impl Report {
    /// The figures of each row under their names.
    fn figures(&self) -> impl Iterator<Item = Figures> {
        let rounded = |value: f64| json!((value * 1000.0).round() / 1000.0);
        let optional = move |value: Option<f64>| value.map_or(Value::Null, rounded);
        self.rows.iter().map(move |row| {
            let [change, with, without] = row.quantiles();
            vec![
                ("workload", json!("W5")),
                ("rules", json!(self.rules)),
                ("tenants", json!(self.tenants)),
                ("batch", json!(self.batch)),
                ("changes_per_s", json!(row.name())),
                ("changes", json!(row.changes.len())),
                ("change_p50_us", rounded(change[0] * 1e6)),
                ("change_p99_us", rounded(change[1] * 1e6)),
                ("batches", json!(row.with.len())),
                ("batch_p50_us", rounded(with[0] * 1e6)),
                ("batch_p99_us", rounded(with[1] * 1e6)),
                ("batches_without", json!(row.without.len())),
                ("without_p50_us", rounded(without[0] * 1e6)),
                ("without_p99_us", rounded(without[1] * 1e6)),
                ("ratio_p50", rounded(with[0] / without[0])),
                ("ratio_p99", rounded(with[1] / without[1])),
                ("waited", optional(row.waited[0])),
                ("waited_without", optional(row.waited[1])),
                ("base", json!(row.shape[0])),
                ("settled", json!(row.shape[1])),
                ("loose", json!(row.shape[2])),
                ("compaction_s", optional(row.compaction)),
                ("at_once_p50_ms", optional(row.at_once().map(|at_once| at_once[0] * 1e3))),
                ("at_once_max_ms", optional(row.at_once().map(|at_once| at_once[1] * 1e3))),
                ("runs", json!(self.runs)),
                ("machine", json!(machine())),
            ]
        })
    }

    /// For people.
    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "W5: {} rules of {} tenants, batches of {} events on one thread, {} run{}; {}",
            self.rules,
            self.tenants,
            self.batch,
            self.runs,
            if self.runs == 1 { "" } else { "s" },
            machine()
        )?;
        writeln!(out, "answers: {} after {COMPARED} changes and after a compaction, as compiled afresh\n", self.answer)?;
        let line = |out: &mut dyn Write, cells: [String; 8]| {
            let [name, change, batches, with, without, ratio, waited, shape] = cells;
            writeln!(out, "{name:<17} {change:>17} {batches:>13} {with:>21} {without:>21} {ratio:>13} {waited:>13}  {shape}")
        };
        let heads =
            ["changes/s", "change p50 / p99", "batches", "batch p50 / p99", "without changes", "ratios", "waited", "base, settled, loose"];
        line(out, heads.map(str::to_owned))?;
        line(out, ["", "µs", "with/without", "µs", "µs", "p50 / p99", "with/without", ""].map(str::to_owned))?;
        for row in &self.rows {
            let [change, with, without] = row.quantiles();
            let micros = |[p50, p99]: [f64; 2]| format!("{:.0} / {:.0}", p50 * 1e6, p99 * 1e6);
            let share = |share: Option<f64>| share.map_or("-".to_owned(), |share| format!("{:.1} %", share * 100.0));
            let [waited, waited_without] = row.waited.map(share);
            let cells = [
                row.name(),
                if row.changes.is_empty() { "-".to_owned() } else { micros(change) },
                format!("{} / {}", row.with.len(), row.without.len()),
                micros(with),
                micros(without),
                format!("{:.2} / {:.2}", with[0] / without[0], with[1] / without[1]),
                format!("{waited} / {waited_without}"),
                row.shape.map(|count| count.to_string()).join(", "),
            ];
            line(out, cells)?;
        }
        for row in &self.rows {
            if let Some(seconds) = row.compaction {
                writeln!(out, "\ncompaction: {seconds:.2} s")?;
            }
            if let Some([median, longest]) = row.at_once() {
                writeln!(out, "{AT_ONCE} changes at once: {:.1} ms, the longest of nine {:.1} ms", median * 1e3, longest * 1e3)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::options;
    use super::*;

    const SMALL: &str = "--workload W5 --rules 1000 --events 2000 --batch 500";

    #[test]
    fn every_rate_is_measured() {
        let options = options(SMALL);
        let report = measured(&options, &mut |_| {}).unwrap_or_else(|failure| panic!("{failure:?}"));
        assert_eq!(report.rows.len(), RATES.len() + 1);
        assert!(report.answer.hits > 0);
        let last = &report.rows[RATES.len()];
        assert!(report.rows[0].changes.is_empty() && report.rows[1..].iter().all(|row| !row.changes.is_empty()));
        assert!(last.compaction.is_some_and(|seconds| seconds > 0.0) && last.at_once.len() == 9);
        assert!(report.rows.iter().all(|row| !row.with.is_empty() && !row.without.is_empty()));
        let figures: Vec<_> = report.figures().collect();
        assert!(figures.iter().all(|row| row.iter().map(|(name, _)| name).eq(figures[0].iter().map(|(name, _)| name))));
        let mut table = Vec::new();
        report.table(&mut table).expect("written");
        assert_eq!(String::from_utf8(table).expect("text").lines().count(), 13);
    }

    #[test]
    fn other_answers_than_those_of_a_fresh_compilation_are_refused() {
        let bench = Bench::new(&options(SMALL), &mut |_| {}).expect("rules");
        let right = bench.compared().expect("the same answers");
        let unchanged = fingerprint(&bench.engine(&bench.base).expect("an engine").snapshot(), &bench.batches);
        assert!(agree("after changes", unchanged, right).is_err_and(|error| error.contains("nothing is timed")));
        assert_eq!(agree("after changes", right, right), Ok(()));
    }

    #[test]
    fn what_does_not_apply_is_refused() {
        let refused = |line: &str| bench(&options(&format!("{SMALL} {line}")), &mut Vec::new(), &mut |_| {}).is_err();
        assert!(refused("--chart x.svg") && refused("--backend plain") && refused("--backend cpu --backend gpu"));
    }
}
