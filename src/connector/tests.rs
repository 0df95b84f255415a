//! Sources and sinks over real files.

use super::file::{Input, open_all};
use super::source::{reject_batch, reject_schema};
use super::*;
use crate::codec::Error;
use crate::event::{Field, Schema, TimeUnit, Type};
use crate::id::FieldId;
use arrow::array::{ArrayRef, AsArray, Int32Array, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

fn schema(fields: &[(&str, Type)]) -> Schema {
    Schema::new(fields.iter().map(|(name, ty)| Field { name: (*name).to_owned(), ty: *ty }).collect()).expect("distinct names")
}

fn folder() -> TempDir {
    TempDir::new().expect("a folder")
}

fn put(folder: &TempDir, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, content).expect("written");
    path.to_string_lossy().into_owned()
}

fn numbers(values: &[i64]) -> RecordBatch {
    let texts: Vec<String> = values.iter().map(|value| format!("t{value}")).collect();
    RecordBatch::try_from_iter([
        ("n", Arc::new(Int64Array::from(values.to_vec())) as ArrayRef),
        ("t", Arc::new(StringArray::from(texts)) as ArrayRef),
    ])
    .expect("equal lengths")
}

fn put_batch(folder: &TempDir, name: &str, batch: &RecordBatch) -> String {
    let path = folder.path().join(name).to_string_lossy().into_owned();
    let mut writer = ResultWriter::create(&path, &batch.schema()).expect("created");
    writer.write(batch).expect("written");
    writer.finish().expect("finished");
    path
}

fn every(schema: &Schema) -> Vec<FieldId> {
    (0..schema.fields().len()).map(FieldId::new).collect()
}

/// All rows, the rejects, and the warnings.
type Everything = (Vec<String>, Vec<Reject>, Vec<String>);

/// Everything of some inputs; rows as `number:values…`.
fn read(names: &[String], given: Option<&Schema>, batch_rows: usize, strict: bool) -> Result<Everything, Error> {
    let source = EventSource::open(names, given)?;
    let mut warnings = source.warnings().to_vec();
    let needed = every(source.schema());
    let mut reader = source.read(&needed, batch_rows, strict);
    let schema = Arc::clone(reader.schema());
    let (mut rows, mut rejects) = (Vec::new(), Vec::new());
    for batch in reader.by_ref() {
        let read = batch?;
        let columns: Vec<ArrayRef> =
            needed.iter().map(|field| cast(&read.batch.column_or_null(&schema, *field), &DataType::Utf8).expect("text")).collect();
        for row in 0..read.batch.rows() {
            let values: Vec<&str> = columns
                .iter()
                .map(|column| column.as_string::<i32>())
                .map(|column| if arrow::array::Array::is_null(column, row) { "-" } else { column.value(row) })
                .collect();
            rows.push(format!("{}:{}", read.batch.row_number(row), values.join(",")));
        }
        rejects.extend(read.rejects);
        warnings.extend(read.warnings);
    }
    warnings.extend(reader.take_warnings());
    Ok((rows, rejects, warnings))
}

#[test]
fn several_files_of_all_formats_in_order() {
    let folder = folder();
    let names = [
        put_batch(&folder, "b.parquet", &numbers(&[1, 2, 3])),
        put_batch(&folder, "a.arrow", &numbers(&[4])),
        put(&folder, "c.ndjson", "{\"n\":5,\"t\":\"t5\"}\nbroken\n{\"t\":\"t6\",\"n\":6}"),
        put(&folder, "d.csv", "t,n\nt7,7\nt?,?\nt8,8\n"),
    ];
    for batch_rows in [1, 2, 3, 100] {
        for given in [None, Some(&schema(&[("n", Type::Int), ("t", Type::Text)]))] {
            let (rows, rejects, warnings) = read(&names, given, batch_rows, false).expect("readable");
            assert_eq!(rows, ["0:1,t1", "1:2,t2", "2:3,t3", "3:4,t4", "4:5,t5", "6:6,t6", "7:7,t7", "9:8,t8"]);
            assert!(warnings.is_empty(), "{warnings:?}");
            assert_eq!(rejects.iter().map(|reject| reject.row).collect::<Vec<_>>(), [5, 8]);
            assert!(rejects[0].file.ends_with("c.ndjson") && rejects[0].reason.starts_with("line 2: "));
            assert_eq!(rejects[0].raw.as_deref(), Some("broken"));
            assert_eq!((rejects[1].reason.as_str(), rejects[1].raw.as_deref()), ("line 3: n: '?' does not fit int64", Some("t?,?")));
        }
    }
    let fault = read(&names, None, 100, true).expect_err("strict");
    assert!(fault.what.starts_with("row 5: line 2: "), "{fault}");
}

#[test]
fn inputs_are_read_on_from_anywhere() {
    let folder = folder();
    let names = [
        put_batch(&folder, "b.parquet", &numbers(&[1, 2, 3])),
        put_batch(&folder, "a.arrow", &numbers(&[4])),
        put(&folder, "c.ndjson", "{\"n\":5,\"t\":\"t5\"}\nbroken\n{\"t\":\"t6\",\"n\":6}"),
        put(&folder, "d.csv", "t,n\nt7,7\nt?,?\nt8,8\n"),
    ];
    // The number, or the reason of a reject, of each row that is read; and the positions afterwards.
    let read = |positions: Vec<crate::snapshot::Source>, batch_rows: usize, rows: u64| {
        let source = EventSource::open(&names, None).expect("readable");
        let positions = source.positions_after(&positions).expect("the same inputs");
        let needed = every(source.schema());
        let mut reader = source.read_on(&needed, batch_rows, false, positions);
        reader.end_after(rows);
        let mut seen = Vec::new();
        for read in reader.by_ref() {
            let read = read.expect("a batch");
            seen.extend((0..read.batch.rows()).map(|row| (read.batch.row_number(row), String::new())));
            seen.extend(read.rejects.into_iter().map(|reject| (reject.row, reject.reason)));
        }
        seen.sort();
        (seen, reader.positions().to_vec(), reader.ended_early())
    };
    let (whole, ..) = read(Vec::new(), 100, u64::MAX);
    assert_eq!(whole.len(), 10);
    for rows in 1..=10 {
        for batch_rows in [1, 2, 3, 100] {
            let (first, positions, early) = read(Vec::new(), batch_rows, rows);
            assert_eq!((first.len() as u64, early), (rows, true), "{rows} rows");
            assert_eq!(positions.iter().map(|source| source.rows).sum::<u64>(), rows);
            let (rest, positions, early) = read(positions, 4 - batch_rows % 3, u64::MAX);
            assert_eq!(([first, rest].concat(), early), (whole.clone(), false), "{rows} rows in batches of {batch_rows}");
            assert_eq!(positions.iter().map(|source| source.rows).collect::<Vec<_>>(), [3, 1, 3, 3]);
        }
    }
}

#[test]
fn parts_of_results_are_named_by_their_first_row() {
    let folder = folder();
    let name = folder.path().join("a.b/out.ndjson").to_string_lossy().into_owned();
    std::fs::create_dir(folder.path().join("a.b")).expect("a folder");
    let schema = numbers(&[]).schema();
    let mut writer = ResultWriter::create_part(&name, &schema, 7).expect("created");
    writer.write(&numbers(&[1, 2])).expect("written");
    writer.next_part(&name, &schema, 1 << 40).expect("completed");
    writer.write(&numbers(&[3])).expect("written");
    let names = || {
        let entries = std::fs::read_dir(folder.path().join("a.b")).expect("a folder");
        let mut names: Vec<String> = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| !name.starts_with('.'));
        names.sort();
        names
    };
    assert_eq!(names(), ["out-000000000007.ndjson"]);
    writer.finish().expect("completed");
    assert_eq!(names(), ["out-000000000007.ndjson", "out-1099511627776.ndjson"]);
    // Those of later rows are forgotten, and what only looks like them is not.
    let others = ["out-8.ndjson", "out-000000000009.csv", "outer-000000000009.ndjson"];
    others.iter().for_each(|other| std::fs::write(folder.path().join("a.b").join(other), "").expect("written"));
    ResultWriter::forget_parts(&name, 8).expect("removed");
    assert_eq!(names(), ["out-000000000007.ndjson", "out-000000000009.csv", "out-8.ndjson", "outer-000000000009.ndjson"]);
    // So is what a run that was killed left unfinished, of any row.
    let killed =
        [".out-000000000003.ndjson.77.part", ".out-3.ndjson.77.part", ".out-000000000003.ndjson.part", ".out-000000000003.ndjson.x.part"];
    killed.iter().for_each(|other| std::fs::write(folder.path().join("a.b").join(other), "").expect("written"));
    ResultWriter::forget_parts(&name, 7).expect("removed");
    assert_eq!(names().len(), 3);
    assert_eq!(killed.map(|other| folder.path().join("a.b").join(other).exists()), [false, true, true, true]);
}

#[test]
fn globs_are_sorted_and_names_are_checked() {
    let folder = folder();
    for (name, value) in [("e2.ndjson", 2), ("e10.ndjson", 10), ("e1.ndjson", 1)] {
        put(&folder, name, format!("{{\"n\":{value}}}"));
    }
    std::fs::create_dir(folder.path().join("e3.ndjson")).expect("a folder");
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (rows, ..) = read(&[at("e*.ndjson")], None, 10, false).expect("readable");
    assert_eq!(rows, ["0:1", "1:10", "2:2"]);
    put(&folder, "[x].ndjson", "{\"n\":7}");
    assert_eq!(read(&[at("[x].ndjson")], None, 10, false).expect("a file of that name").0, ["0:7"]);

    let fault = |name: &str| read(&[at(name)], None, 10, false).expect_err(name).to_string();
    assert!(fault("none*.csv").contains("no file matches"));
    assert!(fault("none.csv").contains("no such file"));
    assert!(fault("e3.ndjson").contains("a directory, not a file"));
    assert!(fault("***").contains("not a glob"));
    put(&folder, "e.txt", "n\n1\n");
    assert!(fault("e.txt").contains("the format is not known"));
    put(&folder, "e.parquet", "n\n1\n");
    assert!(fault("e.parquet").contains("not a Parquet file"));
    put(&folder, "cut.parquet", "PAR1");
    assert!(fault("cut.parquet").contains("cut.parquet"));
    put(&folder, "cut.arrow", "ARROW1\0\0");
    assert!(fault("cut.arrow").contains("cut.arrow"));
    let twice = open_all(&["-".to_owned(), "-".to_owned()]);
    assert!(twice.is_err());
}

#[test]
fn content_goes_before_the_ending() {
    let folder = folder();
    let parquet = put_batch(&folder, "n.parquet", &numbers(&[1]));
    let disguised = put(&folder, "n.csv", std::fs::read(&parquet).expect("readable"));
    assert_eq!(read(&[disguised], None, 10, false).expect("readable").0, ["0:1,t1"]);
}

#[test]
fn streams_of_every_format() {
    let folder = folder();
    let batch = numbers(&[1, 2, 3]);
    for name in ["s.parquet", "s.arrow", "s.arrows", "s.ndjson"] {
        let bytes = std::fs::read(put_batch(&folder, name, &batch)).expect("readable");
        for given in [None, Some(schema(&[("t", Type::Text), ("n", Type::Float)]))] {
            let input = Input::from_stream("stream", Box::new(Cursor::new(bytes.clone()))).expect("readable");
            let source = EventSource::of_inputs(vec![input], given.as_ref()).expect("a schema");
            assert_eq!(source.total_rows_hint(), (name == "s.parquet").then_some(3));
            let needed = every(source.schema());
            let n = source.schema().find("n").expect("there");
            let batches: Vec<ReadBatch> = source.read(&needed, 2, true).collect::<Result<_, _>>().expect("readable");
            assert_eq!(batches.iter().map(|read| read.batch.rows()).collect::<Vec<_>>(), [2, 1], "{name}");
            assert_eq!(batches[1].batch.first_row, 2);
            let last = cast(batches[1].batch.column(n).expect("there"), &DataType::Int64).expect("a number");
            assert_eq!(last.as_primitive::<arrow::datatypes::Int64Type>().value(0), 3);
        }
    }
    for bytes in [&b""[..], b"\n\n"] {
        let input = Input::from_stream("stream", Box::new(bytes)).expect("readable");
        let source = EventSource::of_inputs(vec![input], None).expect("a schema of nothing");
        assert_eq!(source.read(&[], 10, true).count(), 0);
    }
}

#[test]
fn a_reader_works_in_another_thread() {
    let folder = folder();
    let path = put_batch(&folder, "n.parquet", &numbers(&(0..1000).collect::<Vec<_>>()));
    let source = EventSource::open(&[path], None).expect("readable");
    assert_eq!(source.total_rows_hint(), Some(1000));
    let total = source.total_bytes();
    let needed = every(source.schema());
    let reader = source.read(&needed, 64, false);
    let batches = std::thread::spawn(move || reader.collect::<Result<Vec<_>, _>>()).join().expect("no panic").expect("readable");
    assert_eq!(batches.iter().map(|read| read.batch.rows()).sum::<usize>(), 1000);
    assert!(batches.iter().all(|read| read.batch.rows() <= 64));
    assert_eq!(batches.last().map(|read| read.bytes_read), total);
}

#[test]
fn missing_columns_are_null_with_one_warning() {
    let folder = folder();
    let names =
        [put_batch(&folder, "a.parquet", &numbers(&[1])), put(&folder, "b.ndjson", "{\"n\":2}\n{}\n"), put(&folder, "c.csv", "n\n3\n")];
    let wanted = schema(&[("n", Type::Int), ("gone", Type::Timestamp(TimeUnit::Second)), ("t", Type::Text)]);
    let (rows, rejects, warnings) = read(&names, Some(&wanted), 10, false).expect("readable");
    assert_eq!(rows, ["0:1,-,t1", "1:2,-,-", "2:-,-,-", "3:3,-,-"]);
    assert!(rejects.is_empty());
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].ends_with("a.parquet: column `gone` is missing; the values are NULL"), "{warnings:?}");
    assert!(warnings[1].ends_with("b.ndjson: column `t` is missing; the values are NULL"), "{warnings:?}");
    for name in &names {
        let fault = read(std::slice::from_ref(name), Some(&wanted), 10, true).expect_err("strict");
        assert!(fault.what.contains("missing") && fault.file == *name, "{fault}");
    }
}

#[test]
fn columns_without_a_type_are_left_out_with_a_warning() {
    let folder = folder();
    let binary = arrow::array::BinaryArray::from(vec![&b"x"[..]]);
    let batch = RecordBatch::try_from_iter([("n", Arc::new(Int32Array::from(vec![1])) as ArrayRef), ("raw", Arc::new(binary) as ArrayRef)])
        .expect("equal lengths");
    let (rows, _, warnings) = read(&[put_batch(&folder, "x.parquet", &batch)], None, 10, false).expect("readable");
    assert_eq!(rows, ["0:1"]);
    assert!(warnings[0].ends_with("left out: raw (Binary)"), "{warnings:?}");
}

#[test]
fn rejects_are_written_like_results() {
    let folder = folder();
    let rejects = [
        Reject { row: 3, file: "a.csv".into(), reason: "line 4: 'x' does not fit int64".to_owned(), raw: Some("x,\"1\"".to_owned()) },
        Reject { row: 9, file: "b.parquet".into(), reason: "n: 1.5 does not fit int64".to_owned(), raw: None },
    ];
    let batch = reject_batch(&rejects).expect("small");
    for name in ["r.parquet", "r.arrow", "r.ndjson", "r.csv"] {
        let path = put_batch(&folder, name, &batch);
        let (rows, ..) = read(&[path], None, 10, true).expect("readable");
        assert_eq!(rows, ["0:3,a.csv,line 4: 'x' does not fit int64,x,\"1\"", "1:9,b.parquet,n: 1.5 does not fit int64,-"], "{name}");
    }
    let none = folder.path().join("none.ndjson").to_string_lossy().into_owned();
    ResultWriter::create(&none, &reject_schema()).expect("created").finish().expect("finished");
    assert_eq!(std::fs::read(&none).expect("there"), b"");
}

#[test]
fn a_file_appears_when_it_is_finished() {
    let folder = folder();
    let names = |folder: &Path| -> Vec<String> {
        std::fs::read_dir(folder)
            .expect("readable")
            .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
            .collect()
    };
    let path = folder.path().join("out.parquet").to_string_lossy().into_owned();
    std::fs::write(&path, "before").expect("written");
    let batch = numbers(&[1]);
    let mut writer = ResultWriter::create(&path, &batch.schema()).expect("created");
    writer.write(&batch).expect("written");
    assert_eq!(std::fs::read(&path).expect("there"), b"before");
    drop(writer);
    assert_eq!(names(folder.path()), ["out.parquet"], "nothing is left behind");
    put_batch(&folder, "out.parquet", &batch);
    assert_eq!(names(folder.path()), ["out.parquet"]);
    assert_ne!(std::fs::read(&path).expect("there"), b"before");

    let fault =
        |name: &str| ResultWriter::create(&folder.path().join(name).to_string_lossy(), &batch.schema()).err().expect(name).to_string();
    assert!(fault("out.xlsx").contains("the format is not known"));
    assert!(fault("none/out.csv").contains("cannot be created"));
    std::fs::create_dir(folder.path().join("d.csv")).expect("a folder");
    assert!(fault("d.csv").contains("a directory"));
}
