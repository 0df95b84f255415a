//! Runs ClassBench packet filters with known answers through the whole engine: rules as text, compile, encode, match.
//!
//! The rules are a table of ranges (`ruleset`, `rule_idx`, `src_lo`, `src_hi`, … `proto_hi`), the headers a table of packets with their answers by brute force
//! (`first_match`: the least index that matches, -1 for none; `match_count`; `match_idx_sum`: the sum of index + 1).

#[path = "../workload/mod.rs"]
mod workload;

use arrow::array::{Array, AsArray, Int64Array, StringArray};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Int64Type};
use arrow::record_batch::RecordBatch;
use clap::Parser;
use dynamic_cep::engine::Generation;
use dynamic_cep::engine::router::{Choice, Router};
use dynamic_cep::event::Schema;
use dynamic_cep::expr::columns::Cache;
use dynamic_cep::rule::Rule;
use dynamic_cep::tables::Artifact;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use workload::{canonical, compiled, rule};

/// The columns that are compared, and the highest value of each.
const FIELDS: [(&str, i64); 5] = [("src", 0xffff_ffff), ("dst", 0xffff_ffff), ("sport", 0xffff), ("dport", 0xffff), ("proto", 0xff)];

const SCHEMA: &str = "fields: {src: uint32, dst: uint32, sport: uint16, dport: uint16, proto: uint8}";

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Backend {
    Cpu,
    Gpu,
}

/// Match ClassBench headers against ClassBench rules and compare with the known answers
#[derive(Parser)]
struct Arguments {
    rules: PathBuf,
    headers: PathBuf,
    #[arg(long, value_enum, default_value_t = Backend::Cpu)]
    backend: Backend,
    #[arg(long, default_value_t = 8192)]
    batch_rows: usize,
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let schema = Schema::parse("schema.yaml", SCHEMA.as_bytes())?;
    let (rules, headers) = (Table::read(&arguments.rules)?, Table::read(&arguments.headers)?);
    let (mut compiling, mut encoding, mut matching) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let (mut wrong, mut hits, mut rows) = (0, 0, 0);
    for (set, of_set) in &rules.sets {
        let start = Instant::now();
        let bytes = compiled(filter(&rules, of_set), &schema, arguments.threads);
        let artifact = Arc::new(Artifact::from_bytes(&bytes)?);
        compiling += start.elapsed();
        let generation = Generation::new(Arc::clone(&artifact))?;
        let choice = match arguments.backend {
            Backend::Cpu => Choice::Cpu,
            Backend::Gpu => Choice::Gpu,
        };
        let router = Router::new(artifact, choice)?;
        let packets = headers.sets.get(set).map_or(&[][..], Vec::as_slice);
        let (mut set_wrong, before) = (0, hits);
        for chunk in packets.chunks(arguments.batch_rows.max(1)) {
            let batch = canonical(&schema, &headers.take(chunk)?);
            let start = Instant::now();
            let mut cache = Cache::default();
            let encoded = generation.encode(&batch, &mut cache);
            let middle = Instant::now();
            let found = generation.verify(&batch, router.find(&encoded), &mut cache);
            encoding += middle - start;
            matching += middle.elapsed();
            for (row, packet) in chunk.iter().enumerate() {
                let matched = found.row(row);
                hits += matched.len();
                let first = matched.first().map_or(-1, |rule| i64::from(rule.0));
                let sum: i64 = matched.iter().map(|rule| i64::from(rule.0) + 1).sum();
                let expected = ["first_match", "match_count", "match_idx_sum"].map(|answer| headers.number(answer, *packet));
                set_wrong += u64::from([first, matched.len() as i64, sum] != expected);
            }
        }
        println!("{set}: {} rules, {} headers, {} hits, {set_wrong} wrong", of_set.len(), packets.len(), hits - before);
        rows += packets.len();
        wrong += set_wrong;
    }
    println!("{} sets, {rows} headers, {hits} hits, {wrong} wrong", rules.sets.len());
    println!("compile {compiling:.2?}, encode {encoding:.2?}, match {matching:.2?} on one thread");
    if wrong == 0 { Ok(()) } else { Err("answers differ".into()) }
}

/// The rules of one filter, in order: each compares the fields whose range is not full.
fn filter<'a>(table: &'a Table, rows: &'a [usize]) -> impl Iterator<Item = Rule> + 'a {
    rows.iter().enumerate().map(|(index, &row)| {
        assert_eq!(table.number("rule_idx", row), index as i64, "rules in the order of their index");
        let predicates: Vec<String> = FIELDS
            .iter()
            .filter_map(|(field, highest)| {
                let low = table.number(&format!("{field}_lo"), row);
                let high = table.number(&format!("{field}_hi"), row);
                match (low, high) {
                    (0, high) if high == *highest => None,
                    _ if low == high => Some(format!("{field} = {low}")),
                    _ => Some(format!("{field} BETWEEN {low} AND {high}")),
                }
            })
            .collect();
        let when = if predicates.is_empty() { "TRUE".to_owned() } else { predicates.join(" AND ") };
        rule(index.to_string(), None, when, 0)
    })
}

/// A Parquet file in memory, its numbers as `Int64`.
struct Table {
    batch: RecordBatch,
    numbers: BTreeMap<String, Int64Array>,
    /// The rows of each filter, in the order of the file.
    sets: BTreeMap<String, Vec<usize>>,
}

impl Table {
    fn read(path: &Path) -> Result<Self, Box<dyn Error>> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?.build()?;
        let batches = reader.collect::<Result<Vec<_>, _>>()?;
        let schema = batches.first().ok_or("the file is empty")?.schema();
        let batch = concat_batches(&schema, &batches)?;
        let mut numbers = BTreeMap::new();
        for (field, column) in schema.fields().iter().zip(batch.columns()).filter(|(field, _)| field.data_type().is_integer()) {
            numbers.insert(field.name().clone(), cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().clone());
        }
        let names = cast(batch.column_by_name("ruleset").ok_or("no column `ruleset`")?, &DataType::Utf8)?;
        let names: &StringArray = names.as_string();
        let mut sets: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for row in 0..names.len() {
            sets.entry(names.value(row).to_owned()).or_default().push(row);
        }
        Ok(Self { batch, numbers, sets })
    }

    fn number(&self, column: &str, row: usize) -> i64 {
        self.numbers[column].value(row)
    }

    fn take(&self, rows: &[usize]) -> Result<RecordBatch, Box<dyn Error>> {
        let rows: arrow::array::UInt64Array = rows.iter().map(|row| *row as u64).collect();
        Ok(arrow::compute::take_record_batch(&self.batch, &rows)?)
    }
}
