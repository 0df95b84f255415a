//! Writes a workload of any size as files for the command line: rules.parquet, events.parquet and schema.yaml.

use arrow::record_batch::RecordBatch;
use clap::Parser;
use dynamic_cep::workload::{CHUNK, Generator, Settings, Tenants, Workload};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Write rules and events of a workload as Parquet
#[derive(Parser)]
struct Arguments {
    /// F1, F2, W1 or W2
    workload: Workload,
    #[arg(long, default_value_t = 1_000_000)]
    rules: usize,
    #[arg(long, default_value_t = 100_000)]
    events: usize,
    #[arg(long, default_value_t = 1000)]
    tenants: usize,
    /// Equally many rules and events for each tenant, and not by Zipf's law
    #[arg(long)]
    uniform_tenants: bool,
    /// The folder, made if it is not there
    #[arg(long)]
    output: PathBuf,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { workload, rules, events, tenants, uniform_tenants, output } = Arguments::parse();
    let settings = Settings { workload, tenants: Tenants { count: tenants, uniform: uniform_tenants } };
    std::fs::create_dir_all(&output)?;
    std::fs::write(output.join("schema.yaml"), workload.schema_text())?;
    let mut generator = Generator::rules(settings);
    write(&output.join("rules.parquet"), rules, |first, rows| generator.rule_batch(first, rows))?;
    let mut generator = Generator::events(settings);
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
