//! The figures: as a table, as JSON, as CSV.

use super::cases::Case;
use super::measure::quantile;
use super::{Failure, Tally, all_cores};
use crate::command::devices::instruction_set;
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

/// Figures under their names, in the order of the columns of a CSV file.
pub(super) type Figures = Vec<(&'static str, Value)>;

/// All that `bench` found out.
#[derive(Default)]
pub(super) struct Report {
    pub subject: &'static str,
    pub rules: usize,
    /// Of the rules, where they have tenants.
    pub tenants: Option<usize>,
    pub events: usize,
    pub batch: usize,
    pub threads: usize,
    pub runs: usize,
    /// The output that was timed beside hits and decisions, if any.
    pub output: Option<&'static str>,
    pub machine: String,
    /// Seconds: rules to artifacts, artifacts to generations.
    pub compile: f64,
    pub open: f64,
    pub artifact_bytes: usize,
    pub table_bytes: usize,
    /// Whether the answer was known, or the back ends only agree.
    pub known: bool,
    /// What the reader should know besides.
    pub notes: Vec<String>,
    pub rows: Vec<Tally>,
}

impl Report {
    pub fn add(&mut self, case: &Case) {
        self.rules += case.artifact.rules().len();
        self.events += case.events();
        self.compile += case.compile.as_secs_f64();
        self.open += case.open.as_secs_f64();
        self.artifact_bytes += case.artifact.sizes().0;
        self.table_bytes += case.table_bytes();
        self.known |= case.has_answers();
    }

    fn bytes_per_rule(&self) -> f64 {
        self.table_bytes as f64 / self.rules.max(1) as f64
    }

    fn figures(&self, row: &Tally) -> Figures {
        let (measured, events) = (&row.measured, row.events as f64);
        let rate = |seconds: f64| if seconds > 0.0 { json!((events / seconds).round()) } else { Value::Null };
        let rounded = |value: f64| json!((value * 1000.0).round() / 1000.0);
        let [batch_p50, batch_p99] = quantiles(&measured.batches);
        let [event_p50, event_p99] = quantiles(&measured.singles);
        vec![
            ("workload", json!(self.subject)),
            ("rules", json!(self.rules)),
            ("tenants", json!(self.tenants)),
            ("backend", json!(row.backend.name())),
            ("events", json!(row.events)),
            ("batch", json!(self.batch)),
            ("threads", json!(self.threads)),
            ("hits", json!(row.answer.hits)),
            ("hash", json!(format!("{:016x}", row.answer.hash))),
            ("hits_per_event", rounded(row.answer.hits as f64 / events.max(1.0))),
            ("encode_events_per_s", rate(measured.encode)),
            ("match_events_per_s", rate(measured.hits)),
            ("decisions_events_per_s", rate(measured.decisions)),
            ("output", json!(self.output)),
            ("output_events_per_s", rate(measured.output)),
            ("match_ns_per_event", rounded(measured.hits * 1e9 / events.max(1.0))),
            ("batch_p50_us", rounded(batch_p50 * 1e6)),
            ("batch_p99_us", rounded(batch_p99 * 1e6)),
            ("event_p50_us", rounded(event_p50 * 1e6)),
            ("event_p99_us", rounded(event_p99 * 1e6)),
            ("bytes_per_rule", rounded(self.bytes_per_rule())),
            ("build_s", rounded(self.compile + self.open + measured.prepare)),
            ("runs", json!(self.runs)),
            ("machine", json!(self.machine)),
        ]
    }

    /// The figures of each back end.
    pub fn rows(&self) -> impl Iterator<Item = Figures> {
        self.rows.iter().map(|row| self.figures(row))
    }

    /// For people.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        let tenants = self.tenants.map_or(String::new(), |tenants| format!(" of {tenants} tenants"));
        writeln!(
            out,
            "{}: {} rules{tenants}, {} events in batches of {}, {} thread{}, medians of {} run{}; {}",
            self.subject,
            self.rules,
            self.events,
            self.batch,
            self.threads,
            if self.threads == 1 { "" } else { "s" },
            self.runs,
            if self.runs == 1 { "" } else { "s" },
            self.machine
        )?;
        writeln!(
            out,
            "compiled in {:.2} s, opened in {:.3} s; artifact {:.1} MB, tables {:.0} bytes a rule",
            self.compile,
            self.open,
            self.artifact_bytes as f64 / 1e6,
            self.bytes_per_rule()
        )?;
        // The answer to all events, which slow back ends do not give.
        if let Some(row) = self.rows.iter().find(|row| row.events == self.events).or(self.rows.first()) {
            let how = if self.known { "which is known to be right" } else { "on which the back ends agree" };
            writeln!(out, "answers: {}, {how}", row.answer)?;
        }
        self.notes.iter().try_for_each(|note| writeln!(out, "{note}"))?;
        writeln!(
            out,
            "\n{:<10} {:>9} {:>10} {:>12} {:>12} {:>12} {:>12} {:>12} {:>21} {:>21} {:>8}",
            "",
            "events",
            "hits/event",
            "encode",
            "match",
            "decisions",
            self.output.unwrap_or_default(),
            "match",
            "batch p50 / p99",
            "one event p50 / p99",
            "build"
        )?;
        writeln!(
            out,
            "{:<10} {:>9} {:>10} {:>12} {:>12} {:>12} {:>12} {:>12} {:>21} {:>21} {:>8}",
            "",
            "",
            "",
            "events/s",
            "events/s",
            "events/s",
            self.output.map_or("", |_| "events/s"),
            "ns/event",
            "ms",
            "µs",
            "s"
        )?;
        for row in &self.rows {
            let (measured, events) = (&row.measured, row.events as f64);
            let rate = |seconds: f64| if seconds > 0.0 { format!("{:.0}", events / seconds) } else { "-".to_owned() };
            let [batch_p50, batch_p99] = quantiles(&measured.batches);
            let [event_p50, event_p99] = quantiles(&measured.singles);
            writeln!(
                out,
                "{:<10} {:>9} {:>10.2} {:>12} {:>12} {:>12} {:>12} {:>12.0} {:>21} {:>21} {:>8.2}",
                row.backend.name(),
                row.events,
                row.answer.hits as f64 / events.max(1.0),
                rate(measured.encode),
                rate(measured.hits),
                rate(measured.decisions),
                self.output.map_or(String::new(), |_| rate(measured.output)),
                measured.hits * 1e9 / events.max(1.0),
                format!("{:.2} / {:.2}", batch_p50 * 1e3, batch_p99 * 1e3),
                format!("{:.1} / {:.1}", event_p50 * 1e6, event_p99 * 1e6),
                self.compile + self.open + measured.prepare
            )?;
        }
        Ok(())
    }
}

fn quantiles(values: &[f64]) -> [f64; 2] {
    let mut values = values.to_vec();
    [0.5, 0.99].map(|share| quantile(&mut values, share))
}

/// What the figures are of.
pub(super) fn machine() -> String {
    format!("{} cores, {}", all_cores(), instruction_set())
}

/// One object a row, one a line.
///
/// # Errors
/// When `out` cannot be written.
pub(super) fn json_lines(out: &mut dyn Write, rows: impl Iterator<Item = Figures>) -> io::Result<()> {
    for row in rows {
        let members: Vec<String> = row.iter().map(|(name, value)| format!("{}:{value}", json!(name))).collect();
        writeln!(out, "{{{}}}", members.join(","))?;
    }
    Ok(())
}

/// Appends a line for each row, after a head where the file is new.
///
/// # Errors
/// When the file cannot be written, or has other columns.
pub(super) fn append_csv(path: &Path, rows: impl Iterator<Item = Figures>) -> Result<(), Failure> {
    let fault = |what: &str| format!("{}: {what}", path.display());
    let mut known = String::new();
    if path.exists() {
        let file = File::open(path).map_err(|error| fault(&format!("cannot be read: {error}")))?;
        BufReader::new(file).read_line(&mut known).map_err(|error| fault(&format!("cannot be read: {error}")))?;
    }
    let mut lines = String::new();
    for row in rows {
        let head = line(row.iter().map(|(name, _)| (*name).to_owned()));
        if known.is_empty() {
            lines.push_str(&head);
            known.clone_from(&head);
        }
        if known != head {
            return Err(fault("it has other columns than the figures of this version; name another file").into());
        }
        lines.push_str(&line(row.iter().map(|(_, value)| match value {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })));
    }
    let file = OpenOptions::new().create(true).append(true).open(path);
    let written = file.and_then(|mut file| file.write_all(lines.as_bytes()));
    Ok(written.map_err(|error| fault(&format!("cannot be written: {error}")))?)
}

/// A line of CSV.
fn line(values: impl Iterator<Item = String>) -> String {
    let quoted = |value: String| if value.contains([',', '"', '\n']) { format!("\"{}\"", value.replace('"', "\"\"")) } else { value };
    let values: Vec<String> = values.map(quoted).collect();
    values.join(",") + "\n"
}
