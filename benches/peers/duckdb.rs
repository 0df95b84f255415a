//! DuckDB: a join of events and rules, by the program `duckdb` or the Python module, whichever is there.
//!
//! The rules are a table with the bounds of each field as columns, open ones as the ends of the type; the join is on the merchant code (and the tenant, or the country), which
//! makes it a hash join, and the bounds are its filter. One thread; the hits are written to a table in memory, several times, of which the fastest counts.

use super::condition::Test;
use super::{Answers, EVENTS, Figures, Problem, shown};
use arrow::array::{ArrayRef, AsArray, Float64Builder, Int64Array, Int64Builder, ListBuilder, StringArray, StringBuilder, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow::record_batch::RecordBatch;
use dynamic_cep::event::Value;
use dynamic_cep::expr::CompareOp;
use dynamic_cep::workload::Fingerprint;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::error::Error;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// Joins that are timed.
const JOINS: usize = 15;

/// Runs the SQL on standard input with the Python module.
const PYTHON: &str = "import duckdb, sys; duckdb.connect().execute(sys.stdin.read())";

/// Fields with bounds.
const INTEGERS: [&str; 5] = ["score", "age", "hour", "count_1h", "count_24h"];

/// A program that runs SQL from its standard input, and its arguments.
pub fn find() -> Option<Vec<&'static str>> {
    let runs = |program: &[&str]| {
        Command::new(program[0])
            .args(&program[1..])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    if runs(&["duckdb", "--version"]) {
        return Some(vec!["duckdb"]);
    }
    runs(&["python3", "-c", "import duckdb"]).then(|| vec!["python3", "-c", PYTHON])
}

pub fn figures(program: &[&str], problem: &Problem, right: &Answers) -> Result<Figures, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    write(&path("rules.parquet"), &rules(problem)?)?;
    let plain = problem.chunk.columns().iter().map(|column| match column.data_type() {
        DataType::Dictionary(_, values) => cast(column, values),
        _ => Ok(Arc::clone(column)),
    });
    let schema = problem.chunk.schema();
    let names = schema.fields().iter().map(|field| field.name().clone());
    write(&path("events.parquet"), &RecordBatch::try_from_iter(names.zip(plain.collect::<Result<Vec<_>, _>>()?))?)?;

    let mut child =
        Command::new(program[0]).args(&program[1..]).current_dir(folder.path()).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    child.stdin.take().ok_or("no standard input")?.write_all(sql(problem).as_bytes())?;
    if !child.wait()?.success() {
        return Err("DuckDB did not run the join".into());
    }
    let mut answer = Fingerprint::default();
    for batch in ParquetRecordBatchReaderBuilder::try_new(File::open(path("hits.parquet"))?)?.build()? {
        let batch = batch?;
        let [event, rule] = ["event", "rule"].map(|name| cast(batch.column_by_name(name).expect("a column"), &DataType::Int64));
        let (event, rule) = (event?, rule?);
        let pairs = event.as_primitive::<Int64Type>().values().iter().zip(rule.as_primitive::<Int64Type>().values());
        pairs.for_each(|(event, rule)| answer.add(*event as u64, *rule as u32));
    }
    // Nothing is shown where the answer is wrong: the timing is already done, in one go with the join.
    right.hold("duckdb", EVENTS, answer);
    let laps = std::fs::read_to_string(path("laps.csv"))?;
    let laps: Vec<f64> = laps.lines().map(str::parse).collect::<Result<_, _>>()?;
    let joins: Vec<f64> = laps[1..].windows(2).map(|pair| (pair[1] - pair[0]) / 1e6).collect();
    let build = Duration::from_secs_f64((laps[1] - laps[0]) / 1e6);
    Ok(shown(Figures {
        peer: "duckdb",
        events: EVENTS,
        hits: answer.hits,
        events_per_s: EVENTS as f64 / joins.into_iter().fold(f64::INFINITY, f64::min),
        build,
    }))
}

fn sql(problem: &Problem) -> String {
    // A statement outside a transaction has one of its own, whose start is the time that it sees.
    let lap = "INSERT INTO laps SELECT epoch_us(get_current_timestamp());\n";
    let bounds: Vec<String> =
        ["amount"].iter().chain(&INTEGERS).map(|field| format!("e.{field} BETWEEN r.{field}_low AND r.{field}_high")).collect();
    let (unnested, key, country) = if problem.has_tenants() {
        (
            "SELECT * EXCLUDE (mccs), unnest(mccs) AS mcc FROM 'rules.parquet'",
            "e.tenant = r.tenant",
            "(r.countries IS NULL OR list_contains(r.countries, e.country)) AND (r.not_country IS NULL OR e.country <> r.not_country)",
        )
    } else {
        (
            "SELECT * EXCLUDE (countries), unnest(countries) AS country FROM (SELECT * EXCLUDE (mccs), unnest(mccs) AS mcc FROM 'rules.parquet')",
            "e.country = r.country",
            "r.not_country IS NULL",
        )
    };
    let mut sql = format!("SET threads = 1;\nCREATE TABLE events AS FROM 'events.parquet';\nCREATE TABLE laps (stamp BIGINT);\n{lap}");
    let _ = writeln!(sql, "CREATE TABLE rules AS {unnested};\n{lap}");
    for _ in 0..JOINS {
        let _ = writeln!(
            sql,
            "CREATE OR REPLACE TABLE hits AS SELECT e.event, r.rule FROM events e JOIN rules r ON e.mcc = r.mcc AND {key}\n\
             WHERE {country} AND (r.channel IS NULL OR e.channel = r.channel) AND {};\n{lap}",
            bounds.join(" AND ")
        );
    }
    sql.push_str("COPY hits TO 'hits.parquet';\nCOPY (FROM laps ORDER BY stamp) TO 'laps.csv' (HEADER false);\n");
    sql
}

/// The rules as a table: one row each.
fn rules(problem: &Problem) -> Result<RecordBatch, Box<dyn Error>> {
    let mut mccs = ListBuilder::new(Int64Builder::new());
    let mut countries = ListBuilder::new(StringBuilder::new());
    let (mut not_country, mut channel) = (StringBuilder::new(), StringBuilder::new());
    let (mut low_amount, mut high_amount) = (Float64Builder::new(), Float64Builder::new());
    let mut bounds: Vec<[Vec<i64>; 2]> = vec![[Vec::new(), Vec::new()]; INTEGERS.len()];
    for tests in &problem.conditions {
        let (mut not, mut on, mut amount) = (None, None, [f64::NEG_INFINITY, f64::INFINITY]);
        let mut open = [[i64::MIN, i64::MAX]; INTEGERS.len()];
        let (mut has_mcc, mut has_country) = (false, false);
        for test in tests {
            match test {
                Test::Compare { field, op: CompareOp::Equal, constant: Value::Int(code) } if field == "mcc" => {
                    mccs.values().append_value(*code);
                    has_mcc = true;
                }
                Test::In { field, members } if field == "mcc" => {
                    members.iter().for_each(|member| mccs.values().append_value(integer(member)));
                    has_mcc = true;
                }
                Test::Compare { field, op: CompareOp::Equal, constant: Value::Text(name) } if field == "country" => {
                    countries.values().append_value(name);
                    has_country = true;
                }
                Test::In { field, members } if field == "country" => {
                    members.iter().for_each(|member| countries.values().append_value(text(member)));
                    has_country = true;
                }
                Test::Compare { field, op: CompareOp::NotEqual, constant } if field == "country" => not = Some(text(constant)),
                Test::Compare { field, op: CompareOp::Equal, constant } if field == "channel" => on = Some(text(constant)),
                Test::Compare { field, op, constant: Value::Float(bound) } if field == "amount" => match op {
                    CompareOp::Greater => amount[0] = amount[0].max(bound.next_up()),
                    CompareOp::GreaterOrEqual => amount[0] = amount[0].max(*bound),
                    CompareOp::LessOrEqual => amount[1] = amount[1].min(*bound),
                    other => panic!("{other:?} is not what F1 and F2 ask of amounts"),
                },
                Test::Compare { field, op, constant: Value::Int(bound) } => {
                    let at = INTEGERS.iter().position(|name| name == field).expect("a field with bounds");
                    match op {
                        CompareOp::Equal => open[at] = [*bound, *bound],
                        CompareOp::GreaterOrEqual => open[at][0] = open[at][0].max(*bound),
                        CompareOp::LessOrEqual => open[at][1] = open[at][1].min(*bound),
                        CompareOp::Less => open[at][1] = open[at][1].min(*bound - 1),
                        other => panic!("{other:?} is not what F1 and F2 ask of whole numbers"),
                    }
                }
                _ => panic!("a test that F1 and F2 do not have"),
            }
        }
        mccs.append(has_mcc);
        countries.append(has_country);
        not_country.append_option(not);
        channel.append_option(on);
        low_amount.append_value(amount[0]);
        high_amount.append_value(amount[1]);
        for (columns, [low, high]) in bounds.iter_mut().zip(open) {
            columns[0].push(low);
            columns[1].push(high);
        }
    }
    let tenants: StringArray = problem.rules.iter().map(|rule| rule.tenant.as_deref()).collect();
    let mut columns: Vec<(String, ArrayRef)> = vec![
        ("rule".to_owned(), Arc::new(UInt32Array::from_iter_values(0..problem.rules.len() as u32))),
        ("tenant".to_owned(), Arc::new(tenants)),
        ("mccs".to_owned(), Arc::new(mccs.finish())),
        ("countries".to_owned(), Arc::new(countries.finish())),
        ("not_country".to_owned(), Arc::new(not_country.finish())),
        ("channel".to_owned(), Arc::new(channel.finish())),
        ("amount_low".to_owned(), Arc::new(low_amount.finish())),
        ("amount_high".to_owned(), Arc::new(high_amount.finish())),
    ];
    for (field, [low, high]) in INTEGERS.iter().zip(bounds) {
        columns.push((format!("{field}_low"), Arc::new(Int64Array::from(low))));
        columns.push((format!("{field}_high"), Arc::new(Int64Array::from(high))));
    }
    Ok(RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))?)
}

fn integer(value: &Value) -> i64 {
    let Value::Int(number) = value else { panic!("{value:?} is no whole number") };
    *number
}

fn text(value: &Value) -> &str {
    let Value::Text(text) = value else { panic!("{value:?} is no text") };
    text
}

fn write(path: &Path, batch: &RecordBatch) -> Result<(), Box<dyn Error>> {
    let mut writer = ArrowWriter::try_new(File::create(path)?, batch.schema(), None)?;
    writer.write(batch)?;
    writer.close()?;
    Ok(())
}
