//! Writes a workload of any size as files for the command line: rules.parquet, events.parquet and schema.yaml.

#[path = "../workload/mod.rs"]
mod workload;

use arrow::record_batch::RecordBatch;
use clap::Parser;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use workload::{Generator, SCHEMA, Workload};

/// Rows generated and written at a time.
const CHUNK: usize = 1 << 16;

/// Write rules and events of a workload as Parquet
#[derive(Parser)]
struct Arguments {
    #[arg(value_enum)]
    workload: Workload,
    #[arg(long, default_value_t = 1_000_000)]
    rules: usize,
    #[arg(long, default_value_t = 100_000)]
    events: usize,
    /// The folder, made if it is not there
    #[arg(long)]
    output: PathBuf,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { workload, rules, events, output } = Arguments::parse();
    std::fs::create_dir_all(&output)?;
    std::fs::write(output.join("schema.yaml"), SCHEMA)?;
    let mut generator = Generator::rules(workload);
    write(&output.join("rules.parquet"), rules, |first, rows| generator.rule_batch(first, rows))?;
    let mut generator = Generator::events(workload);
    write(&output.join("events.parquet"), events, |first, rows| generator.batch(first, rows))
}

fn write(path: &Path, rows: usize, mut batch: impl FnMut(usize, usize) -> RecordBatch) -> Result<(), Box<dyn Error>> {
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut writer = ArrowWriter::try_new(File::create(path)?, batch(0, 0).schema(), Some(properties))?;
    for first in (0..rows).step_by(CHUNK) {
        writer.write(&batch(first, CHUNK.min(rows - first)))?;
    }
    writer.close()?;
    Ok(())
}
