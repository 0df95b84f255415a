//! Windows whose memory is too small: the rows of quiet keys go to disk and come back, and nothing else is told.

use super::cut::{Saved, definitions, take};
use super::files::VELOCITY;
use super::naive::{Row, batch_of, same};
use super::snapshots::{HOUR, PATTERNS, Runs, program, shuffled};
use super::{Case, LATENESS, SCHEMA, case, difference, found, found_with, schema, window};
use crate::random::{Random, cases, seed};
use crate::shelf::{Fault, Shelf};
use dynamic_cep::command::matching::Emit;
use dynamic_cep::command::state::{self, Memory};
use dynamic_cep::connector::spill::SpillFile;
use dynamic_cep::event::{TimeUnit, Value};
use dynamic_cep::temporal::spill::Spill;
use dynamic_cep::temporal::windows::{Settings, Windows};
use std::sync::Arc;

fn settings(limit: usize, many: usize, shelf: Shelf) -> Settings {
    Settings { many, spill: Some(Spill::new(limit, Box::new(shelf))), ..Settings::new(LATENESS) }
}

#[test]
fn windows_say_the_same_with_their_rows_on_disk() {
    let seed = seed("spilled windows");
    let (mut out, mut back) = (0, 0);
    for number in 0..cases(60) {
        let Case { schema, windows, rows } = case(&mut Random::new(seed.wrapping_add(number)));
        let whole = found(&schema, &windows, &rows, rows.len(), 32);
        assert_eq!(difference(&schema, &windows, &rows, &whole), None, "case {number} of seed {seed}");
        for (limit, size, many) in [(0, 1, 0), (0, 2, 1), (0, 7, 32), (0, rows.len(), 5), (3000, 1, 5), (8000, 7, 0)] {
            let settings = settings(limit, many, Shelf::default());
            let found = found_with(&schema, &windows, &rows, size, &settings).expect("a sound shelf");
            let agree = whole.iter().flatten().zip(found.iter().flatten()).all(|(a, b)| same(a, b, false));
            assert!(agree, "case {number} of seed {seed}: {limit} bytes, batches of {size}, running from {many} rows on");
            let spilled = settings.spill.expect("a shelf").spilled();
            (out, back) = (out + spilled.out, back + spilled.back);
            assert!(limit > 0 || spilled.out > 0, "without memory everything goes");
            assert_eq!(spilled.bytes, 0, "nothing is left of windows that are gone");
        }
    }
    assert!(out > 1000 && back > 1000, "{out} went, {back} came back");
}

#[test]
fn planted_faults_are_found() {
    for fault in [Fault::Older, Fault::Others, Fault::Bit] {
        let caught = (0..60).any(|number| {
            let Case { schema, windows, rows } = case(&mut Random::new(number));
            let found = found_with(&schema, &windows, &rows, 3, &settings(0, 8, Shelf::with(fault)));
            found.is_err() || found.is_ok_and(|found| difference(&schema, &windows, &rows, &found).is_some())
        });
        assert!(caught, "{fault:?}");
    }
}

#[test]
fn a_store_that_fails_ends_the_run_and_stays_failed() {
    let Case { schema, windows, rows } = case(&mut Random::new(3));
    for times in 0..40 {
        let mut state = Windows::with_settings(&schema, &windows, &settings(0, 8, Shelf::with(Fault::Full(times))));
        let batch = |first: usize| batch_of(&schema, first as u64, &rows[first..first + 1]);
        let failed = (0..rows.len()).position(|row| state.take(&batch(row)).is_err()).expect("it is full at some time");
        assert_eq!(state.take(&batch(failed)).expect_err("it stays full"), "the shelf is full");
    }
}

/// Payments of keys of which each comes for an hour, and then some of them late or not at all.
fn passing(schema: &dynamic_cep::event::Schema, count: usize) -> Vec<Row> {
    let mut random = Random::new(17);
    let row = |at: usize| {
        let key = if random.one_in(40) { random.below(at + 1) / 8 } else { (at / 8).saturating_sub(random.below(150)) };
        let late = if random.one_in(30) { random.below(4 * 3600) } else { 0 };
        let value = |name: &str| match name {
            "at" => Value::Timestamp { ticks: (at as i64 - late as i64) * 1000, unit: TimeUnit::Millisecond },
            "k" => Value::Int(key as i64),
            "s" => Value::Text(format!("text {}", at % 50).into()),
            "i" => Value::Int(at as i64 % 1000),
            _ => Value::Null,
        };
        schema.fields().iter().map(|field| value(&field.name)).collect()
    };
    (0..count).map(row).collect()
}

#[test]
fn keys_on_disk_are_forgotten_and_saved_as_those_in_memory_are() {
    let schema = schema(SCHEMA);
    let over = "OVER (PARTITION BY k ORDER BY at RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW)";
    let windows = ["SUM(i)", "COUNT(DISTINCT s)", "MAX(s)"].map(|call| window(&format!("{call} {over}"), &schema));
    let definitions = definitions(&schema, &windows);
    let rows = passing(&schema, 30_000);
    for limit in [0, 400_000] {
        let shelf = settings(limit, 8, Shelf::default());
        let mut one = Windows::with_settings(&schema, &windows, &Settings { many: 8, ..Settings::new(LATENESS) });
        let mut two = Windows::with_settings(&schema, &windows, &shelf);
        let (mut saved, mut saved_two) = (Saved::default(), Saved::default());
        let mut swept = 0;
        for (number, batch) in rows.chunks(500).enumerate() {
            let (mut expected, mut values) = (vec![Vec::new(); 3], vec![Vec::new(); 3]);
            let keys = one.keys();
            take(&mut one, &schema, &windows, batch, number * 500, &mut expected);
            take(&mut two, &schema, &windows, batch, number * 500, &mut values);
            assert!(expected == values, "batch {number} with {limit} bytes");
            assert_eq!((one.keys(), one.rows()), (two.keys(), two.rows()), "the same is held after batch {number}");
            swept += usize::from(one.keys() < keys);
            // Copies that are begun, and completed a batch later; of the second one only what has changed.
            if number % 7 == 2 {
                (saved.groups, saved_two.groups) = (one.begin_capture(&definitions), two.begin_capture(&definitions));
            }
            if number % 7 == 3 {
                assert_eq!(saved.complete(&mut one), saved_two.complete(&mut two));
                assert!(saved.groups == saved_two.groups && saved.chunks == saved_two.chunks, "the same is saved, to the byte");
            }
        }
        assert!(swept > 3, "keys are forgotten");
        let spilled = shelf.spill.as_ref().expect("a shelf").spilled();
        assert!(spilled.back > 100 && spilled.out > spilled.back, "{spilled:?}");
        // Restored where there is no room, they go to disk at once, and say the same.
        let little = settings(limit / 2, 8, Shelf::default());
        let (mut restored, _) = saved.restored_with(&schema, &windows, &little).expect("what was saved");
        let (mut other, _) = saved.restored_with(&schema, &windows, &Settings::new(LATENESS)).expect("what was saved");
        assert!(little.spill.as_ref().expect("a shelf").spilled().out > 0);
        let (mut expected, mut values) = (vec![Vec::new(); 3], vec![Vec::new(); 3]);
        take(&mut other, &schema, &windows, &rows[20_000..], 0, &mut expected);
        take(&mut restored, &schema, &windows, &rows[20_000..], 0, &mut values);
        assert!(expected == values);
    }
}

#[test]
fn a_copy_reads_from_disk_only_what_has_changed() {
    let schema = schema(SCHEMA);
    let windows = [window("SUM(i) OVER (PARTITION BY k ORDER BY at)", &schema)];
    let definitions = definitions(&schema, &windows);
    let row = |key: i64, time: i64| -> Row {
        let value = |name: &str| match name {
            "at" => Value::Timestamp { ticks: time, unit: TimeUnit::Millisecond },
            "k" | "i" => Value::Int(key),
            _ => Value::Null,
        };
        schema.fields().iter().map(|field| value(&field.name)).collect()
    };
    let shelf = Shelf::default();
    let read = Arc::clone(&shelf.read);
    let mut state = Windows::with_settings(&schema, &windows, &settings(0, 8, shelf));
    let keys: Vec<Row> = (0..20_000).map(|key| row(key, key)).collect();
    take(&mut state, &schema, &windows, &keys, 0, &mut [Vec::new()]);
    let mut saved = Saved { groups: state.begin_capture(&definitions), ..Saved::default() };
    assert_eq!(saved.complete(&mut state), 5);
    assert_eq!(read.swap(0, std::sync::atomic::Ordering::Relaxed), 20_000);
    take(&mut state, &schema, &windows, &[row(5000, 30_000)], 0, &mut [Vec::new()]);
    saved.groups = state.begin_capture(&definitions);
    assert_eq!(saved.complete(&mut state), 1);
    assert_eq!(read.load(std::sync::atomic::Ordering::Relaxed), 1 + 4096, "the key itself, and its chunk");
}

#[test]
fn memory_stays_below_its_limit() {
    let schema = schema(SCHEMA);
    let over = |field: &str| format!("OVER (PARTITION BY {field} ORDER BY at RANGE BETWEEN INTERVAL '1000' DAY PRECEDING AND CURRENT ROW)");
    let windows = [format!("SUM(i) {}", over("k")), format!("AVG(f) {}", over("k, u")), format!("COUNT(DISTINCT s) {}", over("u"))];
    let windows = windows.map(|text| window(&text, &schema));
    let folder = tempfile::tempdir().expect("a folder");
    // Some keys come all the time, and the others seldom.
    let mut random = Random::new(9);
    let mut rows = |first: usize| -> Vec<Row> {
        let row = |at: usize| {
            let key = if random.one_in(3) { random.below(50) } else { random.below(20_000) } as i64;
            let value = |name: &str| match name {
                "at" => Value::Timestamp { ticks: at as i64 * 1000, unit: TimeUnit::Millisecond },
                "k" | "i" => Value::Int(key),
                "u" => Value::UInt(key as u64 % 5000),
                "s" => Value::Text(format!("text {}", at % 977).into()),
                "f" => Value::Float(at as f64),
                _ => Value::Null,
            };
            schema.fields().iter().map(|field| value(&field.name)).collect()
        };
        (first..first + 2000).map(row).collect()
    };
    let limit = 8 << 20;
    let spill = Spill::new(limit, Box::new(SpillFile::new(folder.path())));
    let mut state = Windows::with_settings(&schema, &windows, &Settings { spill: Some(Arc::clone(&spill)), ..Settings::new(0) });
    let mut whole = Windows::new(&schema, &windows, 0);
    let taken = |state: &Windows| state.bytes().0 + state.bytes().1;
    let mut most = 0;
    for first in (0..200_000).step_by(2000) {
        let batch = batch_of(&schema, first as u64, &rows(first));
        assert_eq!(state.take(&batch), whole.take(&batch), "batch at {first}");
        most = most.max(taken(&state));
        let written = std::fs::read_dir(folder.path()).expect("a folder").next().is_some();
        assert_eq!(written, spill.spilled().out > 0, "there is a file once there is something in it");
        assert!(!written || taken(&whole) > limit / 2, "below the limit nothing goes");
    }
    assert!(taken(&whole) > 2 * limit, "{} bytes are known", taken(&whole));
    // Between two looks at it a few hundred rows come and some keys.
    assert!(most <= limit + limit / 16, "{most} bytes were taken");
    assert!(most > limit / 2, "and it is used");
    drop((state, spill));
    assert!(std::fs::read_dir(folder.path()).expect("a folder").next().is_none(), "nothing stays on disk");
}

#[test]
fn a_run_with_little_memory_gives_what_one_with_enough_gives() {
    little_memory_gives_the_same(VELOCITY, Emit::Windows);
    little_memory_gives_the_same(PATTERNS, Emit::Findings);
}

fn little_memory_gives_the_same(rules: &str, emit: Emit) {
    let runs = Runs::new(rules, &shuffled(400, 7), emit, HOUR);
    let whole = runs.whole();
    let memory = |bytes| Memory { state_memory: Some(bytes), state_dir: Some(runs.folder.path("quiet")) };
    for (bytes, rows) in [(0, 1), (0, 7), (0, 1000), (2500, 7)] {
        let state = state::Options { memory: memory(bytes), ..state::Options::default() };
        let (summary, results, _) = runs.run(&runs.options(rows), &state).expect("a run");
        assert_eq!(results, whole, "{bytes} bytes, batches of {rows}");
        assert!(summary.spilled.out > 0 && summary.spilled.back > 0, "{:?}", summary.spilled);
        assert!(std::fs::read_dir(runs.folder.path("quiet")).expect("a folder").next().is_none(), "nothing stays on disk");
    }
    // With enough memory the folder is not even made.
    std::fs::remove_dir(runs.folder.path("quiet")).expect("an empty folder");
    let state = state::Options { memory: memory(1 << 30), ..state::Options::default() };
    assert_eq!(runs.run(&runs.options(7), &state).expect("a run").1, whole);
    assert!(!runs.folder.path("quiet").exists());
    // Snapshots have what is on disk, too: the same chunks, whether all was in memory or nothing.
    let mut chunks = Vec::new();
    for (first, rest) in [(None, None), (Some(0), Some(0)), (Some(0), None), (None, Some(0))] {
        let state = |bytes: Option<usize>| state::Options { memory: bytes.map(memory).unwrap_or_default(), ..runs.state() };
        let stop = state::Options { stop_after: Some(150), ..state(first) };
        let mut results = runs.run(&runs.options(7), &stop).expect("a run that is cut").1;
        let names: Vec<_> = runs.files(".chunk").iter().map(|path| path.file_name().map(ToOwned::to_owned)).collect();
        chunks.push(names);
        results += &runs.run(&runs.options(7), &state(rest)).expect("the rest").1;
        assert_eq!(results, whole);
        runs.forget();
    }
    assert!(chunks.iter().all(|names| names.len() > 3 && *names == chunks[0]), "{chunks:?}");
}

#[test]
fn a_folder_that_cannot_be_written_ends_the_run() {
    let runs = Runs::new(VELOCITY, &shuffled(400, 7), Emit::Windows, HOUR);
    let stop = state::Options { stop_after: Some(150), ..runs.state() };
    runs.run(&runs.options(7), &stop).expect("a run that is cut");
    let kept = runs.files("").len();
    std::fs::remove_file(runs.folder.path("out.ndjson")).expect("results");
    runs.folder.write("quiet", "no folder");
    let memory = Memory { state_memory: Some(0), state_dir: Some(runs.folder.path("quiet")) };
    for state in [state::Options { memory: memory.clone(), ..state::Options::default() }, state::Options { memory, ..runs.state() }] {
        let error = runs.run(&runs.options(7), &state).expect_err("no folder");
        assert!(error.contains("quiet") && error.contains("--state-dir"), "{error}");
        assert!(!runs.folder.path("out.ndjson").exists(), "no results under their name");
        assert_eq!(runs.files("").len(), kept, "and no snapshot of it; the sound one is not to blame");
    }
}

#[test]
fn a_disk_that_is_full_ends_the_run() {
    for (rules, emit) in [(VELOCITY, "windows"), (PATTERNS, "findings")] {
        let runs = Runs::new(rules, &shuffled(3000, 7), Emit::None, HOUR);
        let path = runs.folder.0.path();
        let arguments = ["match", "rules.yaml", "--schema", "schema.yaml", "--events", "events.ndjson", "--events", "more.ndjson"];
        let more = [
            "--emit",
            emit,
            "--output",
            "-",
            "--batch-rows",
            "50",
            "--allowed-lateness",
            "1h",
            "--state-memory",
            "1KiB",
            "--state-dir",
            "quiet",
        ];
        let whole = program(path, &[&arguments[..], &more].concat()).output().expect("the program");
        assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));
        // No file may be longer than some kilobytes; a signal says so, unless it is not to.
        let mut limited = std::process::Command::new("bash");
        limited.args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$@\"", "bash", env!("CARGO_BIN_EXE_dynamic-cep")]);
        let full = limited.args(arguments).args(more).current_dir(path).output().expect("bash");
        let told = String::from_utf8_lossy(&full.stderr);
        assert_eq!(full.status.code(), Some(1), "{told}");
        assert!(told.contains("quiet-keys: File too large") && told.contains("--state-dir"), "{told}");
        // What is told before it is right, and ends where a batch does.
        assert!(whole.stdout.starts_with(&full.stdout) && full.stdout.len() < whole.stdout.len());
        assert!(full.stdout.last().is_none_or(|byte| *byte == b'\n'));
    }
}
