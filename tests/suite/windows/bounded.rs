//! Windows of keys and tenants that may hold only so much: what they say is exact, or NULL where rows are missing. And rows with wrong times, which must not make others be forgotten.

use super::cut::{Cut, Saved, cut};
use super::files::{Folder, SCHEMA as PAYMENTS, VELOCITY, payments, text_of};
use super::naive::{Row, batch_of, expected, same, time};
use super::{Case, LATENESS, SCHEMA, case, schema, window};
use crate::random::{Random, cases, seed};
use dynamic_cep::command::matching::Emit;
use dynamic_cep::command::report;
use dynamic_cep::event::batch::value_at;
use dynamic_cep::event::{Schema, TimeUnit, Value};
use dynamic_cep::expr::scalar;
use dynamic_cep::rule::window::text;
use dynamic_cep::temporal::windows::capture::Chunk;
use dynamic_cep::temporal::windows::group::SavedGroup;
use dynamic_cep::temporal::windows::limits::{Limits, Troubles};
use dynamic_cep::temporal::windows::{Settings, Windows};
use dynamic_cep::window::{Frame, Function, Window};
use std::collections::HashMap;

/// Bytes of a row and its texts, at most: of six windows over decimals.
const ROW_BYTES: usize = 130;

/// What a key may hold: as many rows, and so many are kept at least when there are too many.
fn of_rows(rows: usize) -> (Limits, usize) {
    (Limits { key_bytes: rows * ROW_BYTES, tenant_bytes: usize::MAX }, rows / 2)
}

/// The values of windows within limits, by window, and how often limits were reached and a window was unknown.
fn found(Case { schema, windows, rows }: &Case, limits: Limits, size: usize, many: usize) -> (Vec<Vec<Value>>, Troubles, u64) {
    let mut state = Windows::with_settings(schema, windows, &Settings { many, limits, ..Settings::new(LATENESS) });
    let mut values = vec![Vec::new(); windows.len()];
    for (rows, first) in rows.chunks(size).zip((0..).step_by(size)) {
        let columns = state.take(&batch_of(schema, first, rows)).expect("all is in memory");
        for ((column, window), values) in columns.iter().zip(windows).zip(&mut values) {
            values.extend((0..rows.len()).map(|row| value_at(column.as_ref(), window.ty(), row)));
        }
    }
    (values, state.troubles(), state.unknown().into_iter().sum())
}

/// Whether a key that keeps its newest `kept` rows must know the window: they are all that its frame may have.
fn must_be_known(schema: &Schema, window: &Window, rows: &[Row], at: usize, kept: usize) -> bool {
    let Some(now) = time(schema, &rows[at]) else { return true };
    let mut keys = window.partition_by.clone();
    keys.extend(schema.tenant);
    let alike = |row: &&Row| keys.iter().all(|field| scalar::not_distinct(&row[field.index()], &rows[at][field.index()]));
    let times: Vec<i128> = rows[..=at].iter().filter(alike).filter_map(|row| time(schema, row)).collect();
    match window.frame {
        Frame::Range { from: Some(from), .. } => times.iter().filter(|time| now - **time <= i128::from(from)).count() <= kept,
        Frame::Rows { from: Some(from), .. } => (from as usize) < kept && times.iter().all(|time| *time <= now),
        Frame::Range { from: None, .. } | Frame::Rows { from: None, .. } => times.len() <= kept,
    }
}

/// How many values are NULL for a limit; what is wrong, where a value is neither exact nor NULL, or NULL though known.
fn judge(Case { schema, windows, rows }: &Case, found: &[Vec<Value>], from: usize, kept: usize) -> Result<u64, String> {
    let mut unknown = 0;
    for (window, values) in windows.iter().zip(found) {
        for (row, value) in values.iter().enumerate().skip(from) {
            let expected = expected(schema, window, rows, row);
            if same(value, &expected, window.function == Function::Deviation) {
                continue;
            }
            if !value.is_null() || must_be_known(schema, window, rows, row, kept) {
                return Err(format!("row {row} of {}: found {value:?}, expected {expected:?}", text(window, schema)));
            }
            unknown += 1;
        }
    }
    Ok(unknown)
}

fn agree(a: &[Vec<Value>], b: &[Vec<Value>]) -> bool {
    a.iter().flatten().zip(b.iter().flatten()).all(|(a, b)| same(a, b, false))
}

#[test]
fn what_limits_leave_is_exact_or_null() {
    let seed = seed("bounds");
    let (mut unknown, mut troubles) = (0, Troubles::default());
    for number in 0..cases(80) {
        let case = case(&mut Random::new(seed.wrapping_add(number)));
        let of_tenants = (Limits { key_bytes: usize::MAX, tenant_bytes: 400 + number as usize % 7 * 300 }, 0);
        for (limits, kept) in [of_rows(0), of_rows(2), of_rows(8), of_rows(16), of_tenants] {
            let (values, of_case, told) = found(&case, limits, case.rows.len(), 32);
            let place = || format!("case {number} of seed {seed}, {limits:?}");
            let nulls = judge(&case, &values, 0, kept).unwrap_or_else(|what| panic!("{}: {what}", place()));
            assert!(nulls <= told, "{}: {nulls} NULLs, {told} of them counted", place());
            for (size, many) in [(1, 0), (2, 1), (7, 5)] {
                let (other, counted, also) = found(&case, limits, size, many);
                assert!(agree(&values, &other) && (counted, also) == (of_case, told), "{}, batches of {size}", place());
            }
            unknown += nulls;
            troubles.add(of_case);
        }
    }
    assert!(unknown > 1000 && troubles.over_key > 1000 && troubles.over_tenant > 100, "limits were reached: {unknown}, {troubles:?}");
}

#[test]
fn planted_faults_are_found() {
    let all = |number: u64| case(&mut Random::new(number));
    let unlimited = Limits { key_bytes: usize::MAX, tenant_bytes: usize::MAX };
    let without_the_first = (0..50).any(|number| {
        let case = all(number);
        let half = case.rows.len() / 2;
        let rest = Case { schema: case.schema.clone(), windows: case.windows.clone(), rows: case.rows[half..].to_vec() };
        let (mut values, ..) = found(&rest, unlimited, 7, 8);
        values.iter_mut().for_each(|values| drop(values.splice(0..0, vec![Value::Null; half])));
        judge(&case, &values, half, 0).is_err()
    });
    assert!(without_the_first, "an answer though rows were dropped");
    let (limits, kept) = of_rows(8);
    let judged = |kept: usize| (0..50).any(|number| judge(&all(number), &found(&all(number), limits, 7, 8).0, 0, kept).is_err());
    assert!(!judged(kept) && judged(32 * kept), "NULL though it must be known");
}

#[test]
fn runs_within_limits_that_are_cut_go_on_as_if_they_were_not() {
    let seed = seed("bounds cut");
    let of_tenants = |number: u64| Limits { key_bytes: usize::MAX, tenant_bytes: 400 + number as usize % 7 * 300 };
    for number in 0..cases(8) {
        let case = case(&mut Random::new(seed.wrapping_add(number)));
        for limits in [of_rows(2).0, of_rows(8).0, of_tenants(number)] {
            let (whole, ..) = found(&case, limits, case.rows.len(), 32);
            for at in 0..=case.rows.len() {
                let (size, many) = [(1, 0), (2, 1), (7, 5), (case.rows.len(), 32)][at % 4];
                let values = cut(&case, Cut { at, size, many, meanwhile: at % 10, memory: (at % 3 == 0).then_some(0), limits }, at, |_| {});
                assert!(agree(&values, &whole), "case {number} of seed {seed}, {limits:?}, cut before row {at}, batches of {size}");
            }
        }
    }
    type Fault = (&'static str, fn(&mut Saved));
    let faults: [Fault; 2] = [
        ("marks are forgotten", |saved| {
            for ((group, _), bytes) in &mut saved.chunks {
                let chunk = Chunk::decode(bytes, saved.groups[*group].widths).expect("a chunk");
                *bytes = Chunk { marks: Vec::new(), ..chunk }.encode();
            }
        }),
        ("that rows were turned away is forgotten", |saved| {
            for group in &mut saved.groups {
                let mut head = serde_json::to_value(&*group).expect("JSON");
                head["turned_away"] = serde_json::json!([]);
                *group = serde_json::from_value::<SavedGroup>(head).expect("a group");
            }
        }),
    ];
    for (name, fault) in faults {
        let caught = (0..300).any(|number| {
            let case = case(&mut Random::new(number));
            let limits = if name.starts_with("marks") { of_rows(8).0 } else { of_tenants(number) };
            let at = case.rows.len() / 2;
            let (whole, ..) = found(&case, limits, 7, 8);
            !agree(&cut(&case, Cut { at, size: 7, many: 8, meanwhile: 0, memory: None, limits }, at, fault), &whole)
        });
        assert!(caught, "{name}");
    }
}

/// Rows of a tenant's keys at so many milliseconds.
fn rows_of(schema: &Schema, rows: impl Iterator<Item = (i64, &'static str, i64)>) -> Vec<Row> {
    let row = |(at, who, key): (i64, &'static str, i64)| {
        let value = |name: &str| match name {
            "at" => Value::Timestamp { ticks: at, unit: TimeUnit::Millisecond },
            "who" => Value::Text(who.into()),
            "k" => Value::Int(key),
            _ => Value::Null,
        };
        schema.fields().iter().map(|field| value(&field.name)).collect()
    };
    rows.map(row).collect()
}

const COUNT: &str = "COUNT(*) OVER (PARTITION BY k ORDER BY at RANGE BETWEEN INTERVAL '100' SECOND PRECEDING AND CURRENT ROW)";

fn counting(schema: &Schema, limits: Limits) -> Windows {
    Windows::with_settings(schema, &[window(COUNT, schema)], &Settings { limits, ..Settings::new(0) })
}

/// The counts of 100 seconds by their definition.
fn counts(rows: &[(i64, &'static str, i64)]) -> Vec<Value> {
    let mut seen: HashMap<(&str, i64), Vec<i64>> = HashMap::new();
    let count = |(at, who, key): &(i64, &'static str, i64)| {
        let times = seen.entry((who, *key)).or_default();
        times.push(*at);
        Value::Int(times.iter().filter(|time| (at - 100_000..=*at).contains(*time)).count() as i64)
    };
    rows.iter().map(count).collect()
}

/// The values of [`COUNT`], and the keys that are held at the end of each 500 rows.
fn counted(state: &mut Windows, schema: &Schema, rows: &[(i64, &'static str, i64)]) -> (Vec<Value>, Vec<usize>) {
    let ty = window(COUNT, schema).ty();
    let (mut values, mut keys) = (Vec::new(), Vec::new());
    for (rows, first) in rows_of(schema, rows.iter().copied()).chunks(500).zip((0..).step_by(500)) {
        let columns = state.take(&batch_of(schema, first, rows)).expect("all is in memory");
        values.extend((0..rows.len()).map(|row| value_at(columns[0].as_ref(), ty, row)));
        keys.push(state.keys());
    }
    (values, keys)
}

#[test]
fn what_was_unknown_is_known_again() {
    let schema = schema(SCHEMA);
    let mut state = counting(&schema, Limits { key_bytes: 16 * 16, ..Limits::default() });
    let burst = (0..200).map(|row| (row * 100, "x", 1));
    let rows: Vec<_> = burst.chain((0..400).map(|row| (20_000 + row * 20_000, "x", 1))).collect();
    let (values, _) = counted(&mut state, &schema, &rows);
    let expected = counts(&rows);
    assert_eq!(values[..8], expected[..8]);
    assert!(values.iter().zip(&expected).all(|(value, expected)| value.is_null() || value == expected));
    let last_null = values.iter().rposition(Value::is_null).expect("a burst is too much");
    assert!((100..210).contains(&last_null), "known again once the frame is past the mark: {last_null}");
    assert_eq!(state.unknown()[0], values.iter().filter(|value| value.is_null()).count() as u64);
    assert!(state.rows() <= 32);
}

#[test]
fn a_tenant_with_too_many_keys_harms_itself_alone() {
    let schema = schema(&format!("{SCHEMA}tenant: who\n"));
    let mut state = counting(&schema, Limits { tenant_bytes: 200_000, ..Limits::default() });
    let flood = (0..40_000).map(|row| if row % 4 == 0 { (row * 10, "y", row % 40) } else { (row * 10, "x", row) });
    let rows: Vec<_> = flood.collect();
    let (values, keys) = counted(&mut state, &schema, &rows);
    let expected = counts(&rows);
    let (mut known, mut unknown) = (0, 0);
    for ((value, expected), (_, who, _)) in values.iter().zip(&expected).zip(&rows) {
        assert!(value == expected || *who == "x" && value.is_null(), "{who}: {value:?} for {expected:?}");
        *(if value.is_null() { &mut unknown } else { &mut known }) += 1;
    }
    assert!(unknown > 20_000 && known >= 10_000, "{unknown}, {known}");
    assert!((20_000..=unknown).contains(&state.troubles().over_tenant) && state.troubles().over_key == 0);
    assert!(keys.iter().all(|keys| *keys < 4000), "{keys:?}");
    let (for_keys, for_rows) = state.bytes();
    assert!(for_keys + for_rows < 1_000_000, "{for_keys}, {for_rows}");
    // Later the tenant has room again, and what was turned away is past.
    let later: Vec<_> = (0..4000).map(|row| (500_000 + row * 200, "y", row % 10)).chain((0..10).map(|row| (1_301_000, "x", row))).collect();
    let (values, _) = counted(&mut state, &schema, &later);
    assert_eq!(values[4000..], counts(&later)[4000..]);
    assert!(values.iter().all(|value| !value.is_null()));
}

#[test]
fn a_wrong_time_makes_nobody_be_forgotten() {
    const YEAR_9999: i64 = 253_370_764_800_000;
    let schema = schema(SCHEMA);
    let mut state = counting(&schema, Limits::default());
    let start = 1_767_225_600_000;
    // Keys that come for ten minutes, then others; meanwhile some rows of theirs are far ahead or far behind.
    let row = |row: i64| match row % 1000 {
        300 => (YEAR_9999 + row, "x", 7),
        600 => (row, "x", 8000),
        _ => (start + row * 100, "x", row % 50 + row / 6000 * 1000),
    };
    let rows: Vec<_> = (0..18_000).map(row).collect();
    let (values, keys) = counted(&mut state, &schema, &rows);
    for ((value, expected), (at, _, key)) in values.iter().zip(counts(&rows)).zip(&rows) {
        // What comes decades too late is told what is held then.
        assert!(*value == expected || *at < start, "{value:?} for {expected:?} at {at} of {key}");
    }
    // A state that forgets everybody at the first such row would be found out.
    let (forgetful, _) = counted(&mut counting(&schema, Limits::default()), &schema, &rows[300..]);
    assert!(forgetful[1..] != counts(&rows)[301..]);
    assert!(keys.iter().all(|keys| *keys < 160) && keys[35] < 110, "{keys:?}");
}

#[test]
fn the_summary_says_which_windows_were_unknown_and_why() {
    let payments = payments(400, 6, 11);
    let folder = Folder::new(PAYMENTS, VELOCITY, &text_of(payments.iter().enumerate()));
    let (_, whole) = folder.run(Emit::Windows, |_| {});
    for (of_key, flag) in [(true, "--state-per-key"), (false, "--state-per-tenant")] {
        let (summary, values) = folder.run(Emit::Windows, |options| {
            let limits = &mut options.pattern_limits;
            *(if of_key { &mut limits.key_bytes } else { &mut limits.tenant_bytes }) = 700;
        });
        let mut nulls = 0;
        for (found, whole) in values.iter().zip(&whole) {
            for (name, value) in found.as_object().expect("a row") {
                assert!(*value == whole[name] || value.is_null(), "{name}: {value} for {}", whole[name]);
                nulls += u64::from(*value != whole[name]);
            }
        }
        assert!(nulls > 0 && nulls <= summary.windows.as_ref().expect("windows").unknown.iter().sum());
        let mut told = Vec::new();
        report::summary(&summary, &mut told).expect("text");
        let told = String::from_utf8(told).expect("text");
        assert!(told.contains(flag) && told.contains(" values of "), "{told}");
    }
}
