//! Velocity windows: against an evaluation that looks through all rows seen so far, on their edges, and over files.

mod bounded;
mod cut;
mod files;
mod language;
mod naive;
mod snapshots;
mod spilled;

use super::random::{Random, cases, seed};
use arrow::array::ArrayRef;
use dynamic_cep::event::batch::value_at;
use dynamic_cep::event::{EventBatch, Schema, Value};
use dynamic_cep::rule::lists::Lists;
use dynamic_cep::rule::window::{NamedWindow, text};
use dynamic_cep::rule::{Diagnostic, Limits, Origin, check};
use dynamic_cep::temporal::windows::{Settings, Windows};
use dynamic_cep::window::{Frame, Function, Window};
use naive::{Row, batch_of, expected, same};

const SCHEMA: &str = "
fields: {at: timestamp(ms), k: int64, s: utf8, who: utf8, i: int64, u: uint64, f: float64, d: 'decimal(12,2)', b: boolean, day: date}
time: at
";

/// Nanoseconds that rows of random cases are late at most.
const LATENESS: i64 = 60_000_000_000;

fn schema(yaml: &str) -> Schema {
    Schema::parse("schema.yaml", yaml.as_bytes()).expect("a schema")
}

fn read(text: &str, schema: &Schema) -> Result<Window, Vec<Diagnostic>> {
    let (lists, limits) = (Lists::default(), Limits::default());
    let scope = check::Scope { schema, lists: &lists, parameters: &[], limits: &limits, windows: &[] };
    check::window::named(&NamedWindow { name: "w".into(), text: text.into(), origin: Origin::default() }, &scope)
}

/// The window that a text states.
fn window(text: &str, schema: &Schema) -> Window {
    read(text, schema).unwrap_or_else(|problems| panic!("{text}: {}", problems[0]))
}

fn random_frame(random: &mut Random) -> String {
    let length = |random: &mut Random| match random.below(4) {
        0 => format!("INTERVAL '{}' SECOND", random.below(30)),
        1 => format!("INTERVAL '0.{:03}' SECOND", random.below(999)),
        2 => "INTERVAL '0' SECOND".to_owned(),
        _ => format!("INTERVAL '{}' MINUTE", random.below(3)),
    };
    let exclude = |random: &mut Random| if random.one_in(3) { " EXCLUDE CURRENT ROW" } else { "" };
    match random.below(8) {
        0 => String::new(),
        1 => format!("RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW{}", exclude(random)),
        2 => format!("RANGE BETWEEN UNBOUNDED PRECEDING AND {} PRECEDING", length(random)),
        3 => {
            let (from, to) = (30 + random.below(60), random.below(30));
            format!("RANGE BETWEEN INTERVAL '{from}' SECOND PRECEDING AND INTERVAL '{to}' SECOND PRECEDING")
        }
        4 => format!("ROWS BETWEEN {} PRECEDING AND {} PRECEDING", 5 + random.below(50), random.below(5)),
        5 => format!("ROWS {} PRECEDING{}", random.below(40), exclude(random)),
        _ => format!("RANGE BETWEEN {} PRECEDING AND CURRENT ROW{}", length(random), exclude(random)),
    }
}

fn random_window(random: &mut Random) -> String {
    let number = *random.pick(&["i", "u", "f", "d", "i * 2 - 3", "CASE WHEN b THEN f END", "-d", "9223372036854775807 - ABS(i)"]);
    let any = *random.pick(&["i", "u", "f", "d", "s", "b", "day", "at", "who || 'x'", "NULLIF(s, 'a')"]);
    let call = match random.below(11) {
        0 => "COUNT(*)".to_owned(),
        1 => format!("COUNT({any})"),
        2 => format!("COUNT(DISTINCT {any})"),
        3 | 4 => format!("SUM({number})"),
        5 => format!("AVG({number})"),
        6 => format!("MIN({any})"),
        7 => format!("MAX({any})"),
        8 => format!("STDDEV({number})"),
        9 => format!("FIRST_VALUE({any})"),
        _ => format!("LAST_VALUE({any})"),
    };
    let partition =
        *random.pick(&["PARTITION BY k ", "PARTITION BY s ", "PARTITION BY k, s ", "", "PARTITION BY f ", "PARTITION BY d, b "]);
    if random.one_in(12) {
        return format!("LAG({any}, {}) OVER ({partition}ORDER BY at)", random.below(6));
    }
    let filter = if random.one_in(3) { *random.pick(&[" FILTER (WHERE b)", " FILTER (WHERE i > 0 OR s = 'a')"]) } else { "" };
    format!("{call}{filter} OVER ({partition}ORDER BY at {})", random_frame(random))
}

/// Rows mostly in order, with ties and NULLs; some come out of order by a few places.
fn random_rows(random: &mut Random, schema: &Schema, count: usize) -> Vec<Row> {
    let mut times: Vec<i64> = Vec::new();
    let few = |random: &mut Random| *random.pick(&[0.1, 0.2, -7.25, 1e6, 0.0, -0.0, 12.34, 99.99, 3.5e-3]);
    (0..count)
        .map(|_| {
            let latest = times.last().copied().unwrap_or(1_767_225_600_000);
            let time = match random.below(10) {
                0 | 1 if !times.is_empty() => times[times.len() - 1 - random.below(times.len().min(6))] + random.below(2) as i64,
                2 => latest,
                3 if random.one_in(5) => latest + 5_000 + random.below(4_000) as i64,
                _ => latest + random.below(900) as i64,
            };
            let place = times.partition_point(|other| *other <= time);
            times.insert(place, time);
            let value = |random: &mut Random, name: &str| {
                if random.one_in(8) {
                    return Value::Null;
                }
                let number = random.below(9) as i64 - 3;
                match name {
                    "k" => Value::Int(random.below(3) as i64),
                    "s" => Value::Text(["a", "b", "ü"][random.below(3)].into()),
                    "who" => Value::Text(["x", "y"][random.below(2)].into()),
                    "i" => Value::Int(number),
                    "u" => Value::UInt(if random.one_in(20) { u64::MAX } else { number.unsigned_abs() }),
                    "f" if random.one_in(60) => Value::Float(*random.pick(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY])),
                    "f" => Value::Float(few(random)),
                    "d" => Value::Decimal { units: i128::from(number) * 101, scale: 2 },
                    "b" => Value::Bool(random.one_in(2)),
                    _ => Value::Date(20_000 + random.below(4) as i32),
                }
            };
            let time_of = |random: &mut Random| {
                if random.one_in(40) {
                    Value::Null
                } else {
                    Value::Timestamp { ticks: time, unit: dynamic_cep::event::TimeUnit::Millisecond }
                }
            };
            schema.fields().iter().map(|field| if field.name == "at" { time_of(random) } else { value(random, &field.name) }).collect()
        })
        .collect()
}

/// The values of windows over rows that come in batches of `size`, with frames kept running from `many` rows on; by window.
fn found(schema: &Schema, windows: &[Window], rows: &[Row], size: usize, many: usize) -> Vec<Vec<Value>> {
    found_with(schema, windows, rows, size, &Settings { many, ..Settings::new(LATENESS) }).expect("all is in memory")
}

fn found_with(schema: &Schema, windows: &[Window], rows: &[Row], size: usize, settings: &Settings) -> Result<Vec<Vec<Value>>, String> {
    let mut state = Windows::with_settings(schema, windows, settings);
    let mut values = vec![Vec::new(); windows.len()];
    for (rows, first) in rows.chunks(size).zip((0..).step_by(size)) {
        let batch: EventBatch = batch_of(schema, first, rows);
        let columns: Vec<ArrayRef> = state.take(&batch)?;
        for ((column, window), values) in columns.iter().zip(windows).zip(&mut values) {
            values.extend((0..rows.len()).map(|row| value_at(column.as_ref(), window.ty(), row)));
        }
    }
    Ok(values)
}

/// Where windows and the naive evaluation differ.
fn difference(schema: &Schema, windows: &[Window], rows: &[Row], found: &[Vec<Value>]) -> Option<String> {
    for (window, values) in windows.iter().zip(found) {
        for (row, value) in values.iter().enumerate() {
            let expected = expected(schema, window, rows, row);
            let close = window.function == Function::Deviation;
            if !same(value, &expected, close) {
                return Some(format!("row {row} of {}: found {value:?}, expected {expected:?}", text(window, schema)));
            }
        }
    }
    None
}

struct Case {
    schema: Schema,
    windows: Vec<Window>,
    rows: Vec<Row>,
}

fn case(random: &mut Random) -> Case {
    let tenant = if random.one_in(3) { "tenant: who\n" } else { "" };
    let schema = schema(&format!("{SCHEMA}{tenant}"));
    let windows = (0..6).map(|_| window(&random_window(random), &schema)).collect();
    let count = 20 + random.below(140);
    let rows = random_rows(random, &schema, count);
    Case { schema, windows, rows }
}

#[test]
fn windows_say_what_a_look_at_all_rows_says() {
    let seed = seed("windows");
    for number in 0..cases(120) {
        let mut random = Random::new(seed.wrapping_add(number));
        let Case { schema, windows, rows } = case(&mut random);
        for window in &windows {
            let again = self::window(&text(window, &schema), &schema);
            assert_eq!(*window, again, "a window's text states it");
        }
        let mut first: Option<Vec<Vec<Value>>> = None;
        for (size, many) in [(rows.len(), 32), (1, 0), (2, 1), (7, 5)] {
            let found = found(&schema, &windows, &rows, size, many);
            let place = || format!("case {number} of seed {seed}, batches of {size}, running from {many} rows on");
            if let Some(difference) = difference(&schema, &windows, &rows, &found) {
                panic!("{}: {difference}", place());
            }
            // To the bit, deviations too.
            let same_as_first =
                first.as_ref().is_none_or(|first| first.iter().flatten().zip(found.iter().flatten()).all(|(a, b)| same(a, b, false)));
            assert!(same_as_first, "{}", place());
            first.get_or_insert(found);
        }
    }
}

#[test]
fn planted_faults_are_found() {
    type Fault = (&'static str, fn(&Window) -> Window);
    let faults: [Fault; 8] = [
        ("open at the older end", |window| match window.frame {
            Frame::Range { from: Some(from), to, current } if from > to => {
                Window { frame: Frame::Range { from: Some(from - 1_000_000), to, current }, ..window.clone() }
            }
            _ => window.clone(),
        }),
        ("the row itself does not count", |window| match window.frame {
            Frame::Range { from, to: 0, .. } => Window { frame: Frame::Range { from, to: 0, current: false }, ..window.clone() },
            _ => window.clone(),
        }),
        ("the row itself counts where it is excluded", |window| match window.frame {
            Frame::Range { from, to: 0, current: false } => Window { frame: Frame::Range { from, to: 0, current: true }, ..window.clone() },
            _ => window.clone(),
        }),
        ("a row too many", |window| match window.frame {
            Frame::Rows { from: Some(from), to } => Window { frame: Frame::Rows { from: Some(from + 1), to }, ..window.clone() },
            _ => window.clone(),
        }),
        ("no filter", |window| Window { filter: None, ..window.clone() }),
        ("duplicates count", |window| match window.function {
            Function::CountDistinct => Window { function: Function::Count, ..window.clone() },
            _ => window.clone(),
        }),
        ("NULLs count", |window| match window.function {
            Function::Count => Window { argument: None, ..window.clone() },
            _ => window.clone(),
        }),
        ("one key for all", |window| Window { partition_by: Vec::new(), ..window.clone() }),
    ];
    for (name, fault) in faults {
        let caught = (0..200).any(|number| {
            let Case { schema, windows, rows } = case(&mut Random::new(number));
            let faulty: Vec<Window> = windows.iter().map(fault).collect();
            faulty != windows && difference(&schema, &windows, &rows, &found(&schema, &faulty, &rows, 16, 8)).is_some()
        });
        assert!(caught, "{name}");
    }
    let caught = (0..50).any(|number| {
        let Case { schema, windows, rows } = case(&mut Random::new(number));
        // What the windows would say if rows waited for those that come out of order.
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|row| naive::time(&schema, &rows[*row]));
        let sorted: Vec<Row> = order.iter().map(|row| rows[*row].clone()).collect();
        let of_sorted = found(&schema, &windows, &sorted, 16, 8);
        let mut values = vec![vec![Value::Null; rows.len()]; windows.len()];
        for (place, row) in order.iter().enumerate() {
            values.iter_mut().zip(&of_sorted).for_each(|(values, of_sorted)| values[*row] = of_sorted[place].clone());
        }
        difference(&schema, &windows, &rows, &values).is_some()
    });
    assert!(caught, "rows that wait");
}

/// Rows of one key, a second apart.
fn steady(schema: &Schema, keys: usize, rows: usize) -> Vec<Row> {
    let row = |at: usize| {
        let value = |name: &str| match name {
            "at" => Value::Timestamp { ticks: at as i64 * 1000, unit: dynamic_cep::event::TimeUnit::Millisecond },
            "k" => Value::Int((at % keys) as i64 + if keys > 1000 { at as i64 } else { 0 }),
            "s" => Value::Text(format!("text {at}").into()),
            "i" => Value::Int(at as i64),
            _ => Value::Null,
        };
        schema.fields().iter().map(|field| value(&field.name)).collect()
    };
    (0..rows).map(row).collect()
}

#[test]
fn what_no_frame_will_see_again_is_forgotten() {
    let schema = schema(SCHEMA);
    let frame = "RANGE BETWEEN INTERVAL '100' SECOND PRECEDING AND CURRENT ROW";
    let by_age = [window(&format!("COUNT(DISTINCT s) OVER (PARTITION BY k ORDER BY at {frame})"), &schema)];
    let by_count = [window("SUM(i) OVER (PARTITION BY k ORDER BY at ROWS 20 PRECEDING)", &schema)];
    for (windows, keys, held, kept) in [(&by_age, 1, 101, 1), (&by_age, 1 << 40, 1, 400), (&by_count, 1, 21, 1)] {
        let mut state = Windows::new(&schema, windows, 0);
        let (mut most, mut most_keys) = (0, 0);
        for (rows, first) in steady(&schema, keys, 20_000).chunks(500).zip((0..).step_by(500)) {
            let columns = state.take(&batch_of(&schema, first, rows)).expect("all in memory");
            if first > 0 && windows[0].function == Function::CountDistinct {
                let value = value_at(columns[0].as_ref(), windows[0].ty(), rows.len() - 1);
                assert_eq!(value, Value::Int(held), "what is needed is held");
            }
            (most, most_keys) = (most.max(state.rows()), most_keys.max(state.keys()));
        }
        // Twice what the frame needs, and the rows between two looks.
        assert!(most <= 3 * held as usize + 4 * kept + 1024, "{most} rows are held");
        assert!(most_keys <= 4 * kept + 1024, "{most_keys} keys are held");
    }
}

#[test]
fn a_key_that_returns_late_is_still_known() {
    let schema = schema(SCHEMA);
    let window = [window("COUNT(*) OVER (PARTITION BY k ORDER BY at RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW)", &schema)];
    let row = |second: i64, key: i64| {
        let value = |name: &str| match name {
            "at" => Value::Timestamp { ticks: second * 1000, unit: dynamic_cep::event::TimeUnit::Millisecond },
            "k" => Value::Int(key),
            _ => Value::Null,
        };
        schema.fields().iter().map(|field| value(&field.name)).collect::<Row>()
    };
    // Others come for two hours; then the first key, an hour behind them.
    let mut rows = vec![row(0, 0)];
    rows.extend((1..7200).map(|second| row(second, second)));
    rows.push(row(3600, 0));
    let found = found(&schema, &window, &rows, 1000, 32);
    assert_eq!(found[0][7200], Value::Int(2));
}
