//! Windows that are cut off at any row, saved, restored and go on: as if nothing had happened.

use super::naive::{Row, batch_of, same};
use super::{Case, LATENESS, SCHEMA, case, found, schema, window};
use crate::random::{Random, cases, seed};
use crate::shelf::Shelf;
use arrow::array::ArrayRef;
use dynamic_cep::event::batch::value_at;
use dynamic_cep::event::{Schema, TimeUnit, Value};
use dynamic_cep::rule::window::text;
use dynamic_cep::temporal::spill::Spill;
use dynamic_cep::temporal::steps::SLOTS;
use dynamic_cep::temporal::windows::capture::Chunk;
use dynamic_cep::temporal::windows::group::SavedGroup;
use dynamic_cep::temporal::windows::limits::Limits;
use dynamic_cep::temporal::windows::{Settings, Windows};
use dynamic_cep::window::Window;
use std::collections::HashMap;

/// Windows as they are saved.
#[derive(Clone, Default)]
pub(super) struct Saved {
    pub groups: Vec<SavedGroup>,
    pub chunks: HashMap<(usize, usize), Vec<u8>>,
}

pub(super) fn definitions(schema: &Schema, windows: &[Window]) -> Vec<String> {
    windows.iter().map(|window| text(window, schema)).collect()
}

impl Saved {
    /// Takes what is left of a copy in place of what it had.
    pub fn complete(&mut self, state: &mut Windows) -> usize {
        let mut taken = 0;
        while let Some((group, number, chunk)) = state.capture().expect("rows that can be read") {
            self.chunks.insert((group, number), chunk.encode());
            taken += 1;
        }
        taken
    }

    fn restored(&self, schema: &Schema, windows: &[Window], many: usize) -> Result<(Windows, Vec<bool>), String> {
        self.restored_with(schema, windows, &Settings { many, ..Settings::new(LATENESS) })
    }

    pub fn restored_with(&self, schema: &Schema, windows: &[Window], settings: &Settings) -> Result<(Windows, Vec<bool>), String> {
        let mut read = |group, number| self.chunks.get(&(group, number)).cloned().ok_or_else(|| "no such chunk".to_owned());
        // As the file has them.
        let heads = serde_json::to_string(&self.groups).expect("JSON");
        let heads: Vec<SavedGroup> = serde_json::from_str(&heads).expect("JSON");
        let definitions = definitions(schema, windows);
        Windows::restored(schema, windows, &definitions, settings, &heads, &mut read).map(|restored| (restored.windows, restored.kept))
    }
}

pub(super) fn take(state: &mut Windows, schema: &Schema, windows: &[Window], rows: &[Row], first: usize, values: &mut [Vec<Value>]) {
    let columns: Vec<ArrayRef> = state.take(&batch_of(schema, first as u64, rows)).expect("a store without faults");
    for ((column, window), values) in columns.iter().zip(windows).zip(values) {
        values.extend((0..rows.len()).map(|row| value_at(column.as_ref(), window.ty(), row)));
    }
}

/// How a run is cut.
#[derive(Clone, Copy)]
pub(super) struct Cut {
    pub at: usize,
    pub size: usize,
    pub many: usize,
    /// Rows that come while the copy is made.
    pub meanwhile: usize,
    /// Bytes of memory for the rows; `None`: as many as it takes.
    pub memory: Option<usize>,
    pub limits: Limits,
}

impl Cut {
    fn settings(&self) -> Settings {
        let spill = self.memory.map(|limit| Spill::new(limit, Box::<Shelf>::default()));
        Settings { lateness: LATENESS, many: self.many, spill, limits: self.limits }
    }
}

/// The values of all rows of a run that is cut, and goes on elsewhere from row `from` of what was saved, after `fault`.
pub(super) fn cut(Case { schema, windows, rows }: &Case, cut: Cut, from: usize, fault: impl Fn(&mut Saved)) -> Vec<Vec<Value>> {
    let mut state = Windows::with_settings(schema, windows, &cut.settings());
    let mut values = vec![Vec::new(); windows.len()];
    let run = |state: &mut Windows, from: usize, to: usize, values: &mut [Vec<Value>]| {
        for (chunk, at) in rows[from..to].chunks(cut.size).zip((from..).step_by(cut.size)) {
            take(state, schema, windows, chunk, at, values);
        }
    };
    run(&mut state, 0, cut.at, &mut values);
    let mut saved = Saved { groups: state.begin_capture(&definitions(schema, windows)), ..Saved::default() };
    let end = (cut.at + cut.meanwhile).min(rows.len());
    let mut elsewhere = vec![Vec::new(); windows.len()];
    run(&mut state, cut.at, end, &mut elsewhere);
    saved.complete(&mut state);
    fault(&mut saved);
    let (mut state, kept) = saved.restored_with(schema, windows, &cut.settings()).expect("what was saved");
    assert!(kept.iter().all(|kept| *kept));
    run(&mut state, from.min(rows.len()), rows.len(), &mut values);
    values
}

fn agree(a: &[Vec<Value>], b: &[Vec<Value>]) -> bool {
    a.iter().flatten().count() == b.iter().flatten().count() && a.iter().flatten().zip(b.iter().flatten()).all(|(a, b)| same(a, b, false))
}

#[test]
fn a_run_that_is_cut_anywhere_goes_on_as_if_it_were_not() {
    let seed = seed("cuts");
    for number in 0..cases(12) {
        let case = case(&mut Random::new(seed.wrapping_add(number)));
        let whole = found(&case.schema, &case.windows, &case.rows, case.rows.len(), 32);
        for at in 0..=case.rows.len() {
            // Every batch size at some of the cuts, and every cut with some batch size.
            let (size, many) = [(1, 0), (2, 1), (7, 5), (case.rows.len(), 32)][at % 4];
            for (meanwhile, memory) in [(0, None), (9, None), (0, Some(0)), (9, Some([0, 4000][at % 2]))] {
                let values = cut(&case, Cut { at, size, many, meanwhile, memory, limits: Limits::default() }, at, |_| {});
                assert!(
                    agree(&values, &whole),
                    "case {number} of seed {seed}, cut before row {at}, batches of {size}, {meanwhile} rows meanwhile, memory {memory:?}"
                );
            }
        }
        for at in [0, 1, case.rows.len() / 2, case.rows.len()] {
            for size in [1, 2, 7, case.rows.len()] {
                assert!(
                    agree(
                        &cut(&case, Cut { at, size, many: 4, meanwhile: 3, memory: None, limits: Limits::default() }, at, |_| {}),
                        &whole
                    ),
                    "case {number}, {at}, {size}"
                );
            }
        }
    }
}

#[test]
fn planted_faults_are_found() {
    type Fault = (&'static str, isize, usize, fn(&mut Saved));
    let faults: [Fault; 5] = [
        ("a row is read twice", -1, 0, |_| {}),
        ("a row is left out", 1, 0, |_| {}),
        ("keys of one group are forgotten", 0, 0, |saved| {
            let widths = saved.groups[0].widths;
            saved.chunks.insert((0, 0), Chunk { widths, ..Chunk::default() }.encode());
        }),
        ("a row of a key is forgotten", 0, 0, |saved| {
            for ((group, _), bytes) in &mut saved.chunks {
                let mut chunk = Chunk::decode(bytes, saved.groups[*group].widths).expect("a chunk");
                if let Some(count) = chunk.counts.last_mut().filter(|count| **count > 1) {
                    *count -= 1;
                    chunk.rows.truncate(chunk.rows.len() - chunk.widths.1);
                }
                *bytes = chunk.encode();
            }
        }),
        ("texts of rows are mixed up", 0, 0, |saved| {
            for ((group, _), bytes) in &mut saved.chunks {
                let mut chunk = Chunk::decode(bytes, saved.groups[*group].widths).expect("a chunk");
                chunk.texts.reverse();
                *bytes = chunk.encode();
            }
        }),
    ];
    for (name, off, meanwhile, fault) in faults {
        let caught = (0..60).any(|number| {
            let case = case(&mut Random::new(number));
            let whole = found(&case.schema, &case.windows, &case.rows, case.rows.len(), 32);
            let at = case.rows.len() / 2;
            let mut values = cut(
                &case,
                Cut { at, size: 7, many: 8, meanwhile, memory: None, limits: Limits::default() },
                at.saturating_add_signed(off),
                fault,
            );
            // A row too many is told apart by what follows it alone.
            let rest = case.rows.len() - at - 1;
            let mut whole = whole;
            values.iter_mut().chain(&mut whole).for_each(|values| drop(values.drain(..values.len() - rest)));
            !agree(&values, &whole)
        });
        assert!(caught, "{name}");
    }
    // Keys that change while the copy is made, copied as they are afterwards.
    let caught = (0..60).any(|number| {
        let case = case(&mut Random::new(number));
        let whole = found(&case.schema, &case.windows, &case.rows, case.rows.len(), 32);
        let at = case.rows.len() / 2;
        let values = cut(&case, Cut { at, size: 7, many: 8, meanwhile: 0, memory: None, limits: Limits::default() }, at, |saved| {
            let mut later = Windows::with_settings(&case.schema, &case.windows, &Settings { many: 8, ..Settings::new(LATENESS) });
            let mut values = vec![Vec::new(); case.windows.len()];
            take(&mut later, &case.schema, &case.windows, &case.rows[..at + 5], 0, &mut values);
            drop(later.begin_capture(&definitions(&case.schema, &case.windows)));
            let mut slots = saved.groups.iter().map(|group| group.slots);
            // The same keys, with what came later.
            if later.keys() == slots.by_ref().sum::<usize>() {
                saved.complete(&mut later);
            }
        });
        !agree(&values, &whole)
    });
    assert!(caught, "a key that is copied too late");
}

/// Rows of many keys: `times` of them for key after key.
fn rows_of_keys(schema: &Schema, keys: std::ops::Range<i64>, time: i64) -> Vec<Row> {
    let row = |key: i64| {
        let value = |name: &str| match name {
            "at" => Value::Timestamp { ticks: time + key, unit: TimeUnit::Millisecond },
            "k" => Value::Int(key),
            "s" => Value::Text(format!("text {}", key % 100).into()),
            "i" => Value::Int(key % 7),
            _ => Value::Null,
        };
        schema.fields().iter().map(|field| value(&field.name)).collect()
    };
    keys.map(row).collect()
}

#[test]
fn only_what_has_changed_is_copied_again() {
    let schema = schema(SCHEMA);
    let frame = "OVER (PARTITION BY k ORDER BY at RANGE BETWEEN INTERVAL '1' DAY PRECEDING AND CURRENT ROW)";
    let windows = [window(&format!("SUM(i) {frame}"), &schema), window(&format!("COUNT(DISTINCT s) {frame}"), &schema)];
    let definitions = definitions(&schema, &windows);
    let keys = 5 * SLOTS as i64 + 10;
    let mut state = Windows::new(&schema, &windows, LATENESS);
    let mut values = vec![Vec::new(); 2];
    let all = rows_of_keys(&schema, 0..keys, 0);
    take(&mut state, &schema, &windows, &all, 0, &mut values);
    let mut saved = Saved { groups: state.begin_capture(&definitions), ..Saved::default() };
    assert_eq!(saved.complete(&mut state), 6);
    // Keys of the second and the fifth chunk come again, and new ones behind the last.
    let again = [
        rows_of_keys(&schema, 4096..4100, 100_000),
        rows_of_keys(&schema, 16_384..16_385, 100_000),
        rows_of_keys(&schema, keys..keys + 5, 100_000),
    ];
    again.iter().for_each(|rows| take(&mut state, &schema, &windows, rows, 0, &mut values));
    saved.groups = state.begin_capture(&definitions);
    // A row of a chunk that is not copied, and of one that is.
    for key in [0, 4097] {
        take(&mut state, &schema, &windows, &rows_of_keys(&schema, key..key + 1, 150_000), 0, &mut values);
    }
    assert_eq!(saved.complete(&mut state), 3);
    let check = |saved: &Saved, expected: [(i64, i64); 5]| {
        let (mut restored, _) = saved.restored(&schema, &windows, 32).expect("what was saved");
        for (key, count) in expected {
            let mut values = vec![Vec::new(); 2];
            take(&mut restored, &schema, &windows, &rows_of_keys(&schema, key..key + 1, 200_000), 0, &mut values);
            assert_eq!(values[0], [Value::Int(key % 7 * count)], "key {key}");
            assert_eq!(values[1], [Value::Int(1)], "key {key}");
        }
        restored
    };
    let mut restored = check(&saved, [(0, 2), (4097, 3), (5000, 2), (16_384, 3), (keys + 4, 2)]);
    // A restored state knows what is saved already.
    let mut of_state = saved.clone();
    saved.groups = restored.begin_capture(&definitions);
    assert_eq!(saved.complete(&mut restored), 4, "the five keys lie in four chunks");
    check(&saved, [(0, 3), (4097, 4), (5000, 3), (16_384, 4), (keys + 4, 3)]);
    // Rows during the second copy are in the third.
    of_state.groups = state.begin_capture(&definitions);
    assert_eq!(of_state.complete(&mut state), 2);
    check(&of_state, [(0, 3), (4097, 4), (5000, 2), (16_384, 3), (keys + 4, 2)]);
}

#[test]
fn windows_of_changed_rules_keep_their_state_or_begin_with_nothing() {
    let schema = schema(SCHEMA);
    let over = |length: &str| format!("OVER (PARTITION BY k ORDER BY at RANGE BETWEEN INTERVAL '{length}' PRECEDING AND CURRENT ROW)");
    let of = |texts: &[String]| texts.iter().map(|text| window(text, &schema)).collect::<Vec<_>>();
    let old = of(&[format!("SUM(i) {}", over("1 day")), format!("MAX(s) {}", over("1 day")), format!("AVG(f) {}", over("2 hours"))]);
    let new = of(&[
        format!("COUNT(*) {}", over("7 days")),
        format!("MAX(s) {}", over("1 day")),
        format!("SUM(i) {}", over("1 day")),
        "LAG(i) OVER (PARTITION BY k ORDER BY at)".to_owned(),
    ]);
    let mut random = Random::new(4);
    let rows = super::random_rows(&mut random, &schema, 240);
    let (first, rest) = rows.split_at(120);
    let mut state = Windows::new(&schema, &old, LATENESS);
    let mut nothing = vec![Vec::new(); 3];
    take(&mut state, &schema, &old, first, 0, &mut nothing);
    let mut saved = Saved { groups: state.begin_capture(&definitions(&schema, &old)), ..Saved::default() };
    saved.complete(&mut state);
    let whole = found(&schema, &new, &rows, 7, 32);
    let fresh = found(&schema, &new, rest, 7, 32);
    let expected: Vec<Vec<Value>> =
        (0..4).map(|at| if matches!(at, 1 | 2) { whole[at][120..].to_vec() } else { fresh[at].clone() }).collect();
    let values = |state: &mut Windows, rows: &[Row]| {
        let mut values = vec![Vec::new(); new.len()];
        rows.chunks(7).for_each(|rows| take(state, &schema, &new, rows, 0, &mut values));
        values
    };
    let (mut restored, kept) = saved.restored(&schema, &new, 3).expect("what was saved");
    assert_eq!(kept, [false, true, true, false]);
    assert!(agree(&values(&mut restored, rest), &expected), "new windows see only the rest");
    assert!(!agree(&expected, &whole.iter().map(|values| values[120..].to_vec()).collect::<Vec<_>>()), "which makes a difference");

    // Warmed with what they have missed, they are as if they had been there.
    let (mut restored, _) = saved.restored(&schema, &new, 3).expect("what was saved");
    first.chunks(11).for_each(|rows| restored.warm(&batch_of(&schema, 0, rows)).expect("all in memory"));
    let whole: Vec<Vec<Value>> = whole.iter().map(|values| values[120..].to_vec()).collect();
    assert!(agree(&values(&mut restored, rest), &whole));

    // What was saved of both kinds goes on, and changes again.
    let (mut restored, _) = saved.restored(&schema, &new, 3).expect("what was saved");
    let _ = values(&mut restored, &rest[..50]);
    let mut again = Saved { groups: restored.begin_capture(&definitions(&schema, &new)), ..Saved::default() };
    again.complete(&mut restored);
    let (mut restored, kept) = again.restored(&schema, &new, 3).expect("what was saved");
    assert_eq!(kept, [true; 4]);
    let tail: Vec<Vec<Value>> = expected.iter().map(|values| values[50..].to_vec()).collect();
    assert!(agree(&values(&mut restored, &rest[50..]), &tail));
}

#[test]
fn what_was_never_saved_is_refused() {
    let schema = schema(SCHEMA);
    let windows = [
        window("COUNT(DISTINCT s) OVER (PARTITION BY who ORDER BY at)", &schema),
        window("SUM(d) OVER (PARTITION BY who ORDER BY at)", &schema),
    ];
    let rows = super::random_rows(&mut Random::new(9), &schema, 60);
    let mut state = Windows::new(&schema, &windows, LATENESS);
    take(&mut state, &schema, &windows, &rows, 0, &mut vec![Vec::new(); 2]);
    let mut saved = Saved { groups: state.begin_capture(&definitions(&schema, &windows)), ..Saved::default() };
    saved.complete(&mut state);
    let chunk = Chunk::decode(&saved.chunks[&(0, 0)], saved.groups[0].widths).expect("a chunk");
    let with = |change: &dyn Fn(&mut Chunk)| {
        let mut chunk = chunk.clone();
        change(&mut chunk);
        let mut saved = saved.clone();
        saved.chunks.insert((0, 0), chunk.encode());
        saved.restored(&schema, &windows, 32).map(|_| ()).expect_err("it was never saved")
    };
    let width = chunk.widths.1;
    assert!(with(&|chunk| chunk.texts.truncate(1)).contains("a text that is not there"));
    assert!(with(&|chunk| chunk.rows[0] = i64::MAX.cast_unsigned()).contains("out of order"));
    assert!(with(&|chunk| chunk.slots[0] = 4000).contains("out of order"));
    assert!(with(&|chunk| *chunk.slots.last_mut().expect("a slot") = 4000).contains("out of order"));
    assert!(with(&|chunk| chunk.counts[0] -= 1).contains("out of order"));
    assert!(with(&|chunk| chunk.keys.copy_within(0..2, 2)).contains("twice"));
    assert!(with(&|chunk| drop(chunk.rows.drain(..width))).contains("out of order"));
    // Whatever the numbers of a head are, it is refused or restored, and nothing panics.
    let head = serde_json::to_value(&saved.groups[0]).expect("JSON");
    let numbers: Vec<String> = ["/slots", "/widths/0", "/widths/1", "/rows_seen", "/rows_since", "/windows/0/flags", "/windows/1/value"]
        .map(str::to_owned)
        .to_vec();
    for path in &numbers {
        for number in [0_u64, 1, 2, 5, 63, 64, 1 << 20, u64::MAX] {
            let mut head = head.clone();
            *head.pointer_mut(path).expect("a number") = number.into();
            let Ok(group) = serde_json::from_value::<SavedGroup>(head) else { continue };
            let Ok((mut state, _)) = (Saved { groups: vec![group], ..saved.clone() }).restored(&schema, &windows, 32) else { continue };
            take(&mut state, &schema, &windows, &rows, 0, &mut vec![Vec::new(); 2]);
        }
    }
}
