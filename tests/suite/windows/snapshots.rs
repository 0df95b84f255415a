//! Runs of `match` that are cut, killed and gone on with, and snapshots that are not what was written.

use super::files::{Folder, SCHEMA, VELOCITY, payments, text_of};
use crate::random::Random;
use crate::support::{project, told};
use dynamic_cep::command::matching::{self, Emit, Options, Progress, Summary};
use dynamic_cep::command::{snapshot, state};
use dynamic_cep::connector::source::EventSource;
use dynamic_cep::connector::store::Store;
use dynamic_cep::event::{Schema, Value as Event};
use dynamic_cep::rule::Diagnostic;
use dynamic_cep::snapshot::{Manifest, Part};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

pub(super) const HOUR: i64 = 3_600_000_000_000;

/// Keeps what is said of the input.
#[derive(Default)]
struct Warnings(Vec<String>);

impl Progress for Warnings {
    fn rules(&mut self, _: &[Diagnostic]) {}
    fn rows(&mut self, _: u64, _: u64, _: Option<u64>) {}
    fn warning(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }
}

/// Rows in an order that is shuffled within an hour, as two files; the second half of the second one is of few cards.
pub(super) fn shuffled(count: usize, seed: u64) -> (String, String) {
    let payments = payments(count, 12, seed);
    let mut random = Random::new(seed);
    let mut order: Vec<(i64, usize)> =
        payments.iter().enumerate().map(|(id, payment)| (payment.0 + random.below(3_000) as i64, id)).collect();
    order.sort_unstable();
    let text = |ids: &[(i64, usize)]| text_of(ids.iter().map(|(_, id)| (*id, &payments[*id])));
    (text(&order[..count / 3]), text(&order[count / 3..]))
}

pub(super) struct Runs {
    pub folder: Folder,
    emit: Emit,
    lateness: i64,
}

impl Runs {
    pub fn new(rules: &str, (first, second): &(String, String), emit: Emit, lateness: i64) -> Self {
        let folder = Folder::new(SCHEMA, rules, first);
        folder.write("more.ndjson", second);
        Self { folder, emit, lateness }
    }

    pub fn options(&self, batch_rows: usize) -> Options {
        let path = |name: &str| self.folder.path(name).to_string_lossy().into_owned();
        Options {
            rules: vec![self.folder.0.path().to_path_buf()],
            events: vec![path("events.ndjson"), path("more.ndjson")],
            schema: None,
            backend: matching::Backend::Cpu,
            emit: self.emit,
            output: Some(path("out.ndjson")),
            rejects: None,
            threads: 2,
            batch_rows,
            strict: false,
            allowed_lateness: self.lateness,
            late: None,
            pattern_limits: dynamic_cep::temporal::patterns::Limits::default(),
        }
    }

    pub fn state(&self) -> state::Options {
        state::Options { snapshot: Some(self.folder.path("state")), ..state::Options::default() }
    }

    /// A run, its results as they were written, and what was said.
    pub fn run(&self, options: &Options, state: &state::Options) -> Result<(Summary, String, Vec<String>), String> {
        let mut warnings = Warnings::default();
        let summary = matching::run_with_state(options, state, &mut warnings).map_err(told)?;
        let results = std::fs::read_to_string(self.folder.path("out.ndjson")).expect("results");
        Ok((summary, results, warnings.0))
    }

    pub fn whole(&self) -> String {
        self.run(&self.options(1000), &state::Options::default()).expect("a run").1
    }

    /// Runs up to each cut, and then to the end; the results one after the other.
    pub fn cut(&self, cuts: &[u64], batch_rows: usize) -> String {
        let mut results = String::new();
        for rows in cuts {
            let state = state::Options { stop_after: Some(*rows), ..self.state() };
            results += &self.run(&self.options(batch_rows), &state).expect("a run that is cut").1;
        }
        results += &self.run(&self.options(batch_rows), &self.state()).expect("the rest").1;
        self.forget();
        results
    }

    pub fn forget(&self) {
        std::fs::remove_dir_all(self.folder.path("state")).expect("a folder of snapshots");
    }

    pub fn files(&self, ending: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.path("state")).expect("a folder of snapshots");
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        paths.retain(|path| path.to_string_lossy().ends_with(ending));
        paths.sort();
        paths
    }
}

fn lines(text: &str) -> usize {
    text.lines().count()
}

#[test]
fn a_run_that_is_cut_and_gone_on_with_gives_what_a_whole_one_gives() {
    let files = shuffled(150, 7);
    for (emit, lateness) in [(Emit::Windows, HOUR), (Emit::Decisions, HOUR), (Emit::Windows, 0), (Emit::Hits, 0)] {
        let runs = Runs::new(VELOCITY, &files, emit, lateness);
        let whole = runs.whole();
        assert!(lines(&whole) >= 50);
        for cut in (1..150).step_by(if emit == Emit::Windows { 1 } else { 16 }) {
            let batch_rows = [1, 2, 7, 1000][cut as usize % 4];
            assert_eq!(runs.cut(&[cut], batch_rows), whole, "{emit:?} cut at {cut}, batches of {batch_rows}");
        }
        for batch_rows in [1, 2, 7, 1000] {
            assert_eq!(runs.cut(&[49], batch_rows), whole);
            assert_eq!(runs.cut(&[20, 29, 1, 1, 60, 500], batch_rows), whole, "in pieces, the last beyond the end");
        }
    }
}

#[test]
fn rules_without_windows_are_gone_on_with_too() {
    let rules = "rules:\n  - {id: large, when: amount > 500}\n";
    let runs = Runs::new(rules, &shuffled(90, 3), Emit::Hits, 0);
    let whole = runs.whole();
    for cut in [1, 30, 31, 89] {
        assert_eq!(runs.cut(&[cut], 7), whole, "cut at {cut}");
    }
}

/// Patterns that look back, wait for what may still come, and find what does not.
pub(super) const PATTERNS: &str = "
rules:
  - id: rising
    match_recognize: |
      PARTITION BY card ORDER BY at
      MEASURES FIRST(low.amount) AS first, LAST(up.amount) AS last, MATCH_NUMBER() AS n
      AFTER MATCH SKIP TO LAST up
      PATTERN (low up{2,} (down | $)) WITHIN INTERVAL '3' HOUR
      DEFINE up AS up.amount > PREV(amount), down AS down.amount < PREV(amount)
  - id: quiet
    sequence: BY terminal WITHIN INTERVAL '20' MINUTE [amount > 700] THEN NOT [amount < 300]
  - id: twice
    sequence: BY card WITHIN INTERVAL '2' HOUR [amount > 500] AS a [amount > a.amount] UNTIL [terminal = 1]
";

#[test]
fn patterns_are_gone_on_with_too() {
    let velocity = format!("{VELOCITY}  - id: burst\n    sequence: BY card WITHIN INTERVAL '1' HOUR [amount > 100] [n >= 2]\n");
    for (rules, lateness) in [(PATTERNS, 0), (PATTERNS, HOUR), (velocity.as_str(), HOUR)] {
        let runs = Runs::new(rules, &shuffled(110, 3), Emit::Findings, lateness);
        let whole = runs.whole();
        assert!(lines(&whole) >= 4, "{whole}");
        for cut in 1..110 {
            let batch_rows = [1, 2, 7, 1000][cut as usize % 4];
            assert_eq!(runs.cut(&[cut], batch_rows), whole, "lateness {lateness}, cut at {cut}, batches of {batch_rows}");
        }
        assert_eq!(runs.cut(&[20, 29, 1, 1, 30, 500], 7), whole, "in pieces, the last beyond the end");
        // Snapshots on the way: the results come in parts.
        let state = state::Options { snapshot_every: Some(20), ..runs.state() };
        matching::run_with_state(&runs.options(7), &state, &mut Warnings::default()).map_err(told).expect("a run");
        let parts = std::fs::read_dir(runs.folder.0.path()).expect("a folder").map(|entry| entry.expect("an entry").path());
        let mut parts: Vec<PathBuf> = parts.filter(|path| path.to_string_lossy().contains("out-0")).collect();
        parts.sort();
        // How many depends on how fast snapshots are written.
        assert!(parts.len() > 1);
        let read = |path: &PathBuf| std::fs::read_to_string(path).expect("results");
        assert_eq!(parts.iter().map(read).collect::<String>(), whole);
        runs.forget();
    }
}

#[test]
fn patterns_that_change_begin_anew_and_that_is_said() {
    let runs = Runs::new(PATTERNS, &shuffled(110, 3), Emit::Findings, 0);
    let whole = runs.whole();
    let stop = state::Options { stop_after: Some(60), ..runs.state() };
    let first = runs.run(&runs.options(7), &stop).expect("a run that is cut").1;
    runs.folder.write("rules.yaml", &PATTERNS.replace("up{2,}", "up{1,}").replace("id: twice", "id: two"));
    let (_, rest, warnings) = runs.run(&runs.options(7), &runs.state()).expect("the rest");
    let of = |text: &str, rule: &str| -> Vec<String> {
        text.lines().filter(|line| line.contains(&format!("\"rule\":\"{rule}\""))).map(str::to_owned).collect()
    };
    assert_eq!(of(&(first.clone() + &rest), "quiet"), of(&whole, "quiet"), "the one that has not changed goes on");
    for (what, name) in
        [("begins without state", "rising"), ("begins without state", "two"), ("is dropped", "rising"), ("is dropped", "twice")]
    {
        assert!(warnings.iter().any(|warning| warning.contains(what) && warning.contains(&format!("`{name}`"))), "{warnings:?}");
    }
    assert!(!warnings.iter().any(|warning| warning.contains("quiet")), "{warnings:?}");
    let mut report = Vec::new();
    snapshot::inspect(&runs.folder.path("state"), false, &mut report).map_err(told).expect("sound snapshots");
    let report = String::from_utf8(report).expect("text");
    assert!(["rising", "quiet", "two"].iter().all(|rule| report.contains(&format!("over the same keys: {rule}\n"))), "{report}");
}

/// Changes the newest manifest, with a sound checksum.
fn forge(runs: &Runs, change: impl Fn(&mut Manifest)) {
    let path = runs.files(".json").pop().expect("a snapshot");
    let mut manifest = Manifest::decode(&std::fs::read(&path).expect("a file")).expect("a manifest");
    change(&mut manifest);
    std::fs::write(path, manifest.encode()).expect("a file");
}

#[test]
fn planted_faults_are_found() {
    let runs = Runs::new(VELOCITY, &shuffled(150, 7), Emit::Windows, HOUR);
    let whole = runs.whole();
    let with = |change: &dyn Fn(&mut Manifest)| {
        let stop = state::Options { stop_after: Some(80), ..runs.state() };
        let first = runs.run(&runs.options(7), &stop).expect("a run that is cut").1;
        forge(&runs, change);
        let rest = runs.run(&runs.options(7), &runs.state()).expect("the rest").1;
        runs.forget();
        first + &rest
    };
    assert_eq!(with(&|_| {}), whole);
    let empty = |part: &mut Part, number: &str| *part.head.get_mut(number).expect("a number") = 0.into();
    type Fault<'a> = (&'a str, &'a dyn Fn(&mut Manifest));
    let faults: [Fault; 5] = [
        ("a row is read twice", &|manifest| manifest.sources[1].rows -= 1),
        ("a row is left out", &|manifest| manifest.sources[1].rows += 1),
        ("no row waits", &|manifest| {
            let order = manifest.parts.last_mut().expect("an order");
            empty(order, "waiting");
            order.chunks.clear();
        }),
        ("keys are forgotten", &|manifest| {
            empty(&mut manifest.parts[0], "slots");
            manifest.parts[0].chunks.clear();
        }),
        ("nothing is late", &|manifest| {
            *manifest.parts.last_mut().expect("an order").head.get_mut("latest").expect("a time") = Value::Null;
        }),
    ];
    for (name, fault) in faults {
        let same = with(fault) == whole;
        // Rows within the allowed lateness are never late, whatever is remembered of it.
        assert_eq!(same, name == "nothing is late", "{name}");
    }
}

#[test]
fn files_in_every_format_are_read_on() {
    let runs = Runs::new(VELOCITY, &shuffled(120, 5), Emit::Windows, HOUR);
    let whole = runs.whole();
    let inputs = runs.options(1000);
    for ending in ["parquet", "arrow", "csv"] {
        // The events themselves as results of rules over them.
        let names: Vec<String> = inputs.events.iter().map(|name| name.replace(".ndjson", &format!(".{ending}"))).collect();
        for (from, to) in inputs.events.iter().zip(&names) {
            convert(from, to);
        }
        for (cut, batch_rows) in [(1, 7), (39, 1000), (40, 1), (41, 16), (90, 33)] {
            let options = Options { events: names.clone(), ..runs.options(batch_rows) };
            let stop = state::Options { stop_after: Some(cut), ..runs.state() };
            let first = runs.run(&options, &stop).expect("a run that is cut").1;
            let (summary, rest, _) = runs.run(&options, &runs.state()).expect("the rest");
            assert_eq!(summary.rows, 120 - lines(&first) as u64);
            assert_eq!(first + &rest, whole, "{ending} cut at {cut}");
            runs.forget();
        }
    }
}

/// An NDJSON file of payments in the format of another ending.
fn convert(from: &str, to: &str) {
    use dynamic_cep::connector::ResultWriter;
    use dynamic_cep::id::FieldId;
    let schema = Schema::parse("schema.yaml", SCHEMA.as_bytes()).expect("a schema");
    let needed: Vec<FieldId> = (0..schema.fields().len()).map(FieldId::new).collect();
    let source = EventSource::open(&[from.to_owned()], Some(&schema)).expect("events");
    let mut writer = None;
    for batch in source.read(&needed, 50, true) {
        let batch = batch.expect("a batch").batch;
        let columns = schema.fields().iter().zip(&needed).map(|(field, id)| {
            let column = batch.column_or_null(&schema, *id);
            let plain = match column.data_type() {
                arrow::datatypes::DataType::Dictionary(_, values) => arrow::compute::cast(&column, values).expect("texts"),
                _ => column,
            };
            (field.name.clone(), plain, true)
        });
        let batch = arrow::array::RecordBatch::try_from_iter_with_nullable(columns).expect("columns");
        let writer = writer.get_or_insert_with(|| ResultWriter::create(to, &batch.schema()).expect("a file"));
        writer.write(&batch).expect("rows");
    }
    writer.expect("rows").finish().expect("a file");
}

#[test]
fn damaged_snapshots_are_refused_and_the_one_before_is_used() {
    let runs = Runs::new(VELOCITY, &shuffled(150, 7), Emit::Windows, HOUR);
    let whole = runs.whole();
    let stop = |rows| state::Options { stop_after: Some(rows), ..runs.state() };
    let first = runs.run(&runs.options(7), &stop(60)).expect("a run").1;
    let of_first: Vec<PathBuf> = runs.files("");
    let second = runs.run(&runs.options(7), &stop(50)).expect("a run").1;
    let of_second: Vec<PathBuf> = runs.files("").into_iter().filter(|path| !of_first.contains(path)).collect();
    assert_eq!(of_second.len(), 7, "a manifest, five groups, and rows that wait: {of_second:?}");
    let rest = runs.run(&runs.options(7), &stop(40)).expect("a run").1;
    assert_eq!(runs.files(".json").len(), 2, "two are kept");
    assert!(!runs.files("").iter().any(|path| of_first.contains(path) && path.extension().is_some()), "and nothing of older ones");
    assert!(whole.starts_with(&(first + &second + &rest)), "the results so far");

    // Two sound ones again, of which the newer is damaged in every way.
    runs.forget();
    let first = runs.run(&runs.options(7), &stop(60)).expect("a run").1;
    let older = runs.files("");
    runs.run(&runs.options(7), &stop(50)).expect("a run");
    let kept: Vec<(PathBuf, Vec<u8>)> =
        runs.files("").into_iter().map(|path| (path.clone(), std::fs::read(path).expect("a file"))).collect();
    let newer: Vec<&(PathBuf, Vec<u8>)> = kept.iter().filter(|(path, _)| !older.contains(path)).collect();
    type Damage = fn(&mut Vec<u8>);
    let damages: [Damage; 5] = [
        Vec::clear,
        |bytes| bytes.truncate(bytes.len() - 1),
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        },
        |bytes| bytes.push(0),
    ];
    for (path, bytes) in newer {
        for (number, damage) in damages.iter().enumerate() {
            let mut damaged = bytes.clone();
            damage(&mut damaged);
            std::fs::write(path, &damaged).expect("a file");
            let mut report = Vec::new();
            assert!(snapshot::inspect(&runs.folder.path("state"), false, &mut report).is_err(), "inspect sees it");
            let (summary, rest, warnings) = runs.run(&runs.options(7), &runs.state()).expect("the one before is sound");
            let told = summary.state.expect("a state");
            assert_eq!(told.from, Some((1, 60)), "damage {number} of {}", path.display());
            assert!(warnings.iter().any(|warning| warning.contains("snapshot 2: damaged")), "{warnings:?}");
            assert_eq!(format!("{first}{rest}"), whole, "damage {number} of {}", path.display());
            runs.forget();
            std::fs::create_dir(runs.folder.path("state")).expect("a folder");
            kept.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).expect("a file"));
        }
    }
    // Both damaged: nothing is begun anew in silence.
    for path in runs.files(".json") {
        std::fs::write(path, "dynamic-cep snapshot 1 0\n{}").expect("a file");
    }
    let error = runs.run(&runs.options(7), &runs.state()).expect_err("no snapshot is sound");
    assert!(error.contains("no snapshot there is sound"), "{error}");
    // A later format is not damage.
    let path = runs.files(".json").pop().expect("a snapshot");
    std::fs::write(path, "dynamic-cep snapshot 99 0\n{}").expect("a file");
    let error = runs.run(&runs.options(7), &runs.state()).expect_err("a later format");
    assert!(error.contains("format 99"), "{error}");
}

#[test]
fn what_does_not_fit_a_snapshot_is_refused() {
    let runs = Runs::new(VELOCITY, &shuffled(90, 2), Emit::Windows, HOUR);
    let stop = state::Options { stop_after: Some(50), ..runs.state() };
    runs.run(&runs.options(7), &stop).expect("a run");
    let refused = |change: &dyn Fn(&mut Options)| {
        let mut options = runs.options(7);
        change(&mut options);
        runs.run(&options, &runs.state()).map(|_| ()).expect_err("it does not fit")
    };
    assert!(refused(&|options| options.events.truncate(1)).contains("is not among the inputs"));
    assert!(refused(&|options| options.events.reverse()).contains("was read in its place"));
    assert!(refused(&|options| options.allowed_lateness = 0).contains("--allowed-lateness"));
    assert!(refused(&|options| options.events[1] = "-".to_owned()).contains("read again"), "standard input");
    let path = runs.folder.path("events.ndjson");
    let bytes = std::fs::read(&path).expect("a file");
    let with = |bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("a file");
        refused(&|_| {})
    };
    assert!(with(&bytes[1..]).contains("smaller or begins otherwise"));
    assert!(with(&[&bytes[..], b"{}\n"].concat()).contains("has grown"), "the second file was begun");
    let other = [b"{\"id\": 9}\n", &bytes[10..]].concat();
    assert_eq!(other.len(), bytes.len());
    assert!(with(&other).contains("smaller or begins otherwise"));
    std::fs::write(&path, &bytes).expect("a file");
    // A run that is not the last may be gone on with when the last input has grown.
    let more = std::fs::read_to_string(runs.folder.path("more.ndjson")).expect("a file");
    let (half, _) = more.split_at(more.len() / 2 + more[more.len() / 2..].find('\n').expect("a line") + 1);
    let whole = runs.whole();
    runs.forget();
    runs.folder.write("more.ndjson", half);
    let stop = state::Options { stop_after: Some(1000), ..runs.state() };
    let wait = Options { allowed_lateness: 0, ..runs.options(7) };
    let first = runs.run(&wait, &stop).expect("a run").1;
    runs.folder.write("more.ndjson", &more);
    let rest = runs.run(&wait, &runs.state()).expect("the rest").1;
    assert_eq!(lines(&first) + lines(&rest), lines(&whole));

    let _lock = dynamic_cep::connector::snapshots::Snapshots::open(Store::Folder(runs.folder.path("state"))).expect("a folder");
    assert!(refused(&|_| {}).contains("another run"));
    let rules = "
rules:
  - id: burst
    match_recognize: |
      PARTITION BY card ORDER BY at PATTERN (a) DEFINE a AS amount > 1
";
    let patterns = Runs::new(rules, &shuffled(20, 2), Emit::Findings, 0);
    let warm = state::Options { warm_from: vec!["x".to_owned()], ..state::Options::default() };
    let error = patterns.run(&patterns.options(7), &warm).map(|_| ()).expect_err("patterns");
    assert!(error.contains("patterns cannot be warmed"), "{error}");
}

#[test]
fn changed_rules_go_on_with_what_they_share_and_are_warmed() {
    let over = |length: &str| format!("OVER (PARTITION BY card ORDER BY at RANGE BETWEEN INTERVAL '{length}' PRECEDING AND CURRENT ROW)");
    let old =
        format!("windows:\n  n: COUNT(*) {}\n  sum: SUM(paid) {}\nrules:\n  - {{id: r, when: n > 2}}\n", over("1 HOUR"), over("2 HOUR"));
    let new =
        format!("windows:\n  n: COUNT(*) {}\n  days: COUNT(*) {}\nrules:\n  - {{id: q, when: days > 3}}\n", over("1 HOUR"), over("1 DAY"));
    let files = shuffled(150, 9);
    let expected = Runs::new(&new, &files, Emit::Windows, HOUR).whole();
    let column = |text: &str, name: &str| -> BTreeMap<u64, Value> {
        let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        rows.map(|row| (row["id"].as_u64().expect("an id"), row[name].clone())).collect()
    };
    let tail = |name: &str, of: &BTreeMap<u64, Value>| {
        let all = column(&expected, name);
        of.keys().map(|id| (*id, all[id].clone())).collect::<BTreeMap<_, _>>()
    };
    for warmed in [false, true] {
        let runs = Runs::new(&old, &files, Emit::Windows, HOUR);
        let stop = state::Options { stop_after: Some(100), ..runs.state() };
        let first = runs.run(&runs.options(7), &stop).expect("a run").1;
        runs.folder.write("rules.yaml", &new);
        // What the first run has told of, in order: just what new windows have missed.
        let told = column(&first, "n");
        let all = files.0.clone() + &files.1;
        let seen: String = all
            .lines()
            .filter(|line| told.contains_key(&serde_json::from_str::<Value>(line).expect("JSON")["id"].as_u64().expect("an id")))
            .map(|line| format!("{line}\n"))
            .collect();
        runs.folder.write("seen.ndjson", &seen);
        let warm_from = if warmed { vec![runs.folder.path("seen.ndjson").to_string_lossy().into_owned()] } else { Vec::new() };
        let (_, rest, warnings) =
            runs.run(&runs.options(7), &state::Options { warm_from: warm_from.clone(), ..runs.state() }).expect("the rest");
        let warnings = warnings.join("\n");
        assert!(warnings.contains("of 2 windows 1 keep their state"), "{warnings}");
        assert!(
            warnings.contains("begins without state: COUNT(*) OVER (PARTITION BY card ORDER BY at RANGE BETWEEN INTERVAL '1' DAY"),
            "{warnings}"
        );
        assert!(warnings.contains("its state is dropped: SUM(paid)"), "{warnings}");
        let (n, days) = (column(&rest, "n"), column(&rest, "days"));
        assert!(n.len() > 40);
        assert_eq!(n, tail("n", &n), "what is the same goes on");
        assert_eq!(days == tail("days", &days), warmed, "what is new knows what it is told");
        // Everything has its state now.
        let (_, _, warnings) = runs.run(&runs.options(7), &state::Options { warm_from, ..runs.state() }).expect("nothing is left");
        assert_eq!(warnings.iter().any(|warning| warning.contains("nothing to warm")), warmed);
    }
}

#[test]
fn windows_are_warmed_where_there_is_no_snapshot() {
    let files = shuffled(150, 11);
    let runs = Runs::new(VELOCITY, &files, Emit::Windows, 0);
    let whole = runs.whole();
    let mut options = runs.options(7);
    let warm_from = vec![options.events.remove(0)];
    let warmed = runs.run(&options, &state::Options { warm_from, ..state::Options::default() }).expect("a run").1;
    let values = |text: &str| -> Vec<Value> {
        let without_row = |line: &str| {
            let mut row: Value = serde_json::from_str(line).expect("JSON");
            row.as_object_mut().expect("an object").remove("row");
            row
        };
        text.lines().map(without_row).collect()
    };
    assert_eq!(values(&warmed), values(&whole)[50..]);
    let cold = runs.run(&options, &state::Options::default()).expect("a run").1;
    assert_ne!(values(&cold), values(&whole)[50..]);
}

/// The program in a folder, as a process.
pub(super) fn program(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dynamic-cep"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Waits until a process ends by itself, or a snapshot or two are there that were not, and a little longer; then kills it. Whether it was killed.
fn kill(child: &mut std::process::Child, folder: &Path, random: &mut Random) -> bool {
    let newest = || {
        let names = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter_map(|name| name.strip_prefix("snapshot-")?.strip_suffix(".json")?.parse::<u64>().ok()).max().unwrap_or(0)
    };
    // Sometimes before the next snapshot is there.
    let wanted = newest() + random.below(3) as u64;
    let millisecond = Duration::from_millis(1);
    while newest() < wanted {
        if child.try_wait().expect("a status").is_some() {
            return false;
        }
        std::thread::sleep(millisecond);
    }
    std::thread::sleep(millisecond * random.below(12) as u32);
    let running = child.try_wait().expect("a status").is_none();
    if running {
        child.kill().expect("a process");
    }
    running
}

#[test]
fn a_run_that_is_killed_anywhere_leaves_nothing_out() {
    let (windows, patterns) = ((VELOCITY, "windows", Emit::Windows), (PATTERNS, "findings", Emit::Findings));
    // At last most of the state is on disk.
    for ((rules, emit, emits), output, memory) in
        [(windows, "-", None), (windows, "parts.ndjson", Some("16KiB")), (patterns, "-", None), (patterns, "parts.ndjson", Some("1KiB"))]
    {
        let runs = Runs::new(rules, &shuffled(20_000, 21), emits, HOUR);
        let whole = runs.whole();
        let path = runs.folder.0.path().to_path_buf();
        let rules = path.to_string_lossy().into_owned();
        let mut arguments = [
            ["match", &rules, "--events", "events.ndjson", "--events", "more.ndjson", "--emit", emit, "--backend", "cpu"],
            ["--batch-rows", "100", "--allowed-lateness", "1h", "--snapshot", "state", "--snapshot-every", "700", "--output", output],
        ]
        .concat();
        if let Some(memory) = memory {
            arguments.extend(["--state-memory", memory, "--state-dir", "quiet"]);
        }
        let text = killed(&path, &arguments);
        if output == "-" {
            // Some come twice, the same, and none is missing.
            let (told, expected): (BTreeSet<&str>, BTreeSet<&str>) = (text.lines().collect(), whole.lines().collect());
            assert_eq!(lines(&whole), expected.len(), "all are different");
            assert!(told == expected, "{emit}");
        } else {
            let mut parts: Vec<PathBuf> =
                std::fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
            parts.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("parts-")));
            parts.sort();
            assert!(parts.len() > 10);
            let text: String = parts.iter().map(|path| std::fs::read_to_string(path).expect("a part")).collect();
            assert!(text == whole, "the parts are the whole of {emit}");
        }
    }
}

/// Runs the program until it ends by itself, and kills it more than once before; the lines that were read of it.
fn killed(path: &Path, arguments: &[&str]) -> String {
    let mut random = Random::new(5);
    let (mut text, mut kills) = (String::new(), 0);
    loop {
        let mut child = program(path, arguments).spawn().expect("the program");
        let mut reader = child.stdout.take().expect("a pipe");
        let mut errors = child.stderr.take().expect("a pipe");
        let reading = std::thread::spawn(move || {
            let mut text = Vec::new();
            reader.read_to_end(&mut text).expect("a pipe");
            String::from_utf8(text).expect("text")
        });
        let telling = std::thread::spawn(move || std::io::read_to_string(&mut errors).expect("text"));
        let killed = kill(&mut child, &path.join("state"), &mut random);
        let status = child.wait().expect("an end");
        // A line that was cut off with its process comes again.
        let read = reading.join().expect("a reader");
        text += &read[..read.rfind('\n').map_or(0, |at| at + 1)];
        let told = telling.join().expect("a reader");
        if !killed {
            assert!(status.success(), "{told}");
            assert!(kills > 1, "{kills} kills");
            return text;
        }
        kills += 1;
    }
}

#[test]
fn snapshots_of_each_version_still_open() {
    kept_snapshot_opens("v1", "windows", &[]);
    kept_snapshot_opens("v1-patterns", "findings", &[]);
    kept_snapshot_opens("v3-patterns", "findings", &[]);
    kept_snapshot_opens("v2", "windows", &["--state-per-key", "300", "--state-per-tenant", "450"]);
}

/// Goes on from a snapshot that an earlier program left.
fn kept_snapshot_opens(name: &str, emit: &str, limits: &[&str]) {
    let kept = project("tests/snapshots").join(name);
    let folder = Folder(tempfile::tempdir().expect("a folder"));
    let names = std::fs::read_dir(&kept).expect("the snapshot").map(|entry| entry.expect("an entry").file_name());
    for name in names {
        let path = kept.join(&name);
        if path.is_file() {
            std::fs::copy(path, folder.0.path().join(name)).expect("a copy");
        }
    }
    std::fs::create_dir(folder.path("state")).expect("a folder");
    for entry in std::fs::read_dir(kept.join("state")).expect("the snapshot") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), folder.path("state").join(entry.file_name())).expect("a copy");
    }
    let arguments = [
        "match",
        "rules.yaml",
        "--schema",
        "schema.yaml",
        "--events",
        "events.ndjson",
        "--emit",
        emit,
        "--allowed-lateness",
        "1h",
        "--output",
        "-",
    ];
    let of = |arguments: &[&str]| {
        let output = program(folder.0.path(), arguments).output().expect("the program");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let whole = of(&[&arguments[..], limits].concat());
    let rest = of(&[&arguments[..], limits, &["--snapshot", "state"]].concat());
    assert!(lines(&rest) > 3 && lines(&rest) < lines(&whole));
    assert!(whole.ends_with(&rest), "it goes on where the snapshot was taken");
}

/// The card transactions of the fraud pack (its README names source and licence): in every row the counts of 1, 7 and 30 days are those of queues, also where the run is cut.
#[test]
fn counts_of_card_transactions_are_exact_however_the_run_is_cut() {
    const DAYS: [i64; 3] = [1, 7, 30];
    let windows = DAYS.map(|days| {
        format!("  d{days}: COUNT(*) OVER (PARTITION BY card ORDER BY event_time RANGE BETWEEN INTERVAL '{days}' DAY PRECEDING AND CURRENT ROW)\n")
    });
    let schema = std::fs::read_to_string(project("rules/fraud/schema.yaml")).expect("a schema");
    let rules = format!("windows:\n{}rules:\n  - {{id: r, when: d1 > 3}}\n", windows.concat());
    let folder = Folder::new(&schema, &rules, "");
    let events = project("rules/fraud/events.parquet");
    let schema = Schema::parse("schema.yaml", schema.as_bytes()).expect("a schema");
    let [card, time] = ["card", "event_time"].map(|name| schema.find(name).expect("a field"));
    let source = EventSource::open(&[events.to_string_lossy().into_owned()], Some(&schema)).expect("events");
    let mut queues: BTreeMap<String, VecDeque<i64>> = BTreeMap::new();
    let mut expected: Vec<[u64; 3]> = Vec::new();
    for batch in source.read(&[card, time], 32_768, true) {
        let batch = batch.expect("a batch").batch;
        for row in 0..batch.rows() {
            let Event::Timestamp { ticks, unit } = batch.value(&schema, time, row) else { panic!("no time") };
            let day = 86_400_000_000_000 / unit.nanoseconds();
            let queue = queues.entry(format!("{:?}", batch.value(&schema, card, row))).or_default();
            queue.push_back(ticks);
            while queue[0] < ticks - 30 * day {
                queue.pop_front();
            }
            expected.push(DAYS.map(|days| queue.iter().filter(|time| **time >= ticks - days * day).count() as u64));
        }
    }
    assert_eq!((expected.len(), queues.len()), (140_293, 166));
    let runs = Runs { folder, emit: Emit::Windows, lateness: 0 };
    let options = Options { events: vec![events.to_string_lossy().into_owned()], ..runs.options(5_000) };
    let mut found: Vec<[u64; 3]> = Vec::new();
    for stop_after in [Some(1), Some(70_000), Some(33_333), None] {
        let text = runs.run(&options, &state::Options { stop_after, ..runs.state() }).expect("a run").1;
        let counts = text.lines().map(|line| {
            let row: Value = serde_json::from_str(line).expect("JSON");
            DAYS.map(|days| row[format!("d{days}")].as_u64().expect("a count"))
        });
        found.extend(counts);
    }
    assert_eq!(found.len(), expected.len());
    let wrong = found.iter().zip(&expected).position(|(found, expected)| found != expected);
    assert_eq!(wrong.map(|row| (row, found[row], expected[row])), None);
}

#[test]
fn compile_says_what_is_held_and_what_other_rules_go_on_with() {
    let over = |length: &str| format!("OVER (PARTITION BY card ORDER BY at RANGE BETWEEN INTERVAL '{length}' PRECEDING AND CURRENT ROW)");
    let rules = |more: &str, within: &str| {
        format!(
            "windows:\n  n: COUNT(*) {}\n  {more}\nrules:\n  - {{id: r, when: n > 2}}\n  - id: burst\n    match_recognize: |\n      PARTITION BY card ORDER BY at PATTERN (a b+) WITHIN INTERVAL '{within}' MINUTE DEFINE a AS amount > 1\n",
            over("1 HOUR")
        )
    };
    let compiled = |rules: &str| {
        let folder = Folder::new(SCHEMA, rules, "");
        crate::support::compile(&folder.path("rules.yaml"), Some(&folder.path("schema.yaml")))
    };
    let old = compiled(&rules(&format!("m: MAX(amount) {}", over("30 DAY")), "5"));
    let new =
        compiled(&rules("l: SUM(amount) OVER (PARTITION BY terminal ORDER BY at ROWS 9 PRECEDING)\n  e: COUNT(*) OVER (ORDER BY at)", "6"));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("old.dcep");
    std::fs::write(&path, &old).expect("a file");
    let state = |artifact: &[u8], previous| dynamic_cep::command::compile::state(artifact, previous).map_err(told).expect("artifacts");
    assert_eq!(
        state(&old, None),
        [
            "holds rows of the last 30 days by tenant, card, for 2 windows",
            "holds rows of the last 5 minutes by tenant, card, for the pattern of burst"
        ]
    );
    let swapped = state(&new, Some(&path));
    assert_eq!(swapped[0], "holds unbounded: every row by tenant, for 1 window");
    assert_eq!(swapped[1], "holds rows of the last 1 hour by tenant, card, for 1 window");
    assert_eq!(swapped[2], "holds the last 10 rows by tenant, terminal, for 1 window");
    assert_eq!(swapped[4], "of 3 windows 1 keep their state");
    assert!(swapped[5].starts_with("begins without state: COUNT(*) OVER (ORDER BY at"), "{swapped:?}");
    assert!(swapped[6].starts_with("begins without state: SUM(amount) OVER (PARTITION BY terminal"), "{swapped:?}");
    assert!(swapped[7].starts_with("its state is dropped: MAX(amount) OVER (PARTITION BY card"), "{swapped:?}");
    assert_eq!(swapped[8..], ["partial matches are dropped: of burst"]);
    assert_eq!(state(&old, Some(&path))[2..], ["of 2 windows 2 keep their state"]);
}

#[test]
fn inspect_says_what_is_in_a_snapshot() {
    let runs = Runs::new(VELOCITY, &shuffled(150, 7), Emit::Windows, HOUR);
    let stop = state::Options { stop_after: Some(80), ..runs.state() };
    let summary = runs.run(&runs.options(7), &stop).expect("a run").0;
    let inspect = |json| {
        let mut out = Vec::new();
        snapshot::inspect(&runs.folder.path("state"), json, &mut out).map_err(told).expect("sound snapshots");
        String::from_utf8(out).expect("text")
    };
    let text = inspect(false);
    for part in
        ["snapshot 1", &summary.artifact.generation(), "80 rows", "more.ndjson", "COUNT(*) OVER (PARTITION BY card", "rows wait", "sound"]
    {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    let json: Value = serde_json::from_str(&inspect(true)).expect("JSON");
    assert_eq!((&json[0]["rows"], &json[0]["sources"][1]["rows"]), (&80.into(), &30.into()));
    let nothing = tempfile::tempdir().expect("a folder");
    assert!(snapshot::inspect(nothing.path(), false, &mut Vec::new()).is_err());
}
