//! `bench`: a workload through every back end, one beside the other. Before anything is timed, their answers have been compared.

mod answers;
mod cases;
mod chart;
mod live;
mod measure;
mod report;

use super::Failure;
use super::matching::all_cores;
use crate::matcher::cpu::Isa;
use crate::matcher::output::{Output, Reduction};
use crate::workload::{Fingerprint, Tenants, Workload};
use answers::{KNOWN, Known, agree, known, reduces};
use cases::Cases;
use clap::builder::RangedU64ValueParser;
use measure::{Engine, Measured};
use report::Report;
use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;

/// What is benched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    Generated(Workload),
    /// W4: packet filters, from files.
    Packets,
    /// W5: F1 while its rules change.
    Changes,
}

impl FromStr for Subject {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if name.eq_ignore_ascii_case("W4") {
            return Ok(Self::Packets);
        }
        if name.eq_ignore_ascii_case("W5") {
            return Ok(Self::Changes);
        }
        name.parse().map(Self::Generated).map_err(|_| format!("there is no workload {name}; there are F1, F2, W1, W2, W4, W5"))
    }
}

impl Subject {
    const fn name(self) -> &'static str {
        match self {
            Self::Generated(workload) => workload.name(),
            Self::Packets => "W4",
            Self::Changes => "W5",
        }
    }
}

/// Who matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Backend {
    Cpu,
    /// Refused where there is no adapter
    Gpu,
    /// The faster of cpu and gpu, batch by batch
    Auto,
    /// The cpu back end with AVX2 and no more
    Avx2,
    /// The cpu back end without any instruction set in particular
    Portable,
    /// Every term of every rule that an event visits, on a few events
    Plain,
    /// Row by row and rule by rule, on a few events
    Reference,
    /// All of these; gpu and auto where there is a GPU
    All,
}

impl Backend {
    const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
            Self::Auto => "auto",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
            Self::Plain => "plain",
            Self::Reference => "reference",
            Self::All => "all",
        }
    }

    /// Whether it looks at every rule, so that a few events take as long as many do with others.
    const fn is_slow(self) -> bool {
        matches!(self, Self::Plain | Self::Reference)
    }
}

/// What is asked of the back ends besides hits and decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Wanted {
    /// Nothing
    Hits,
    /// Sum of scores and strongest action
    Scores,
    /// The first rule that matches
    First,
    /// How many rules match
    Counts,
    /// The ten rules of highest score
    Top,
}

impl Wanted {
    /// Its name, and what it is of a batch.
    const fn output(self) -> Option<(&'static str, Output)> {
        match self {
            Self::Hits => None,
            Self::Scores => Some(("scores", Output::Scores)),
            Self::First => Some(("first", Output::First)),
            Self::Counts => Some(("counts", Output::Counts)),
            Self::Top => Some(("top", Output::Top(10))),
        }
    }
}

/// What `bench` was asked to do.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// F1, F2, W1, W2, W4 or W5; benches/README.md tells what they are
    #[arg(long, default_value = "F1")]
    pub workload: Subject,
    /// Rules, of the workloads that are generated
    #[arg(long, default_value_t = 100_000, value_parser = RangedU64ValueParser::<usize>::new().range(1..=100_000_000))]
    pub rules: usize,
    /// Events, of the workloads that are generated
    #[arg(long, default_value_t = answers::EVENTS, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1 << 30))]
    pub events: usize,
    /// Tenants of F1
    #[arg(long, default_value_t = 1000, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1 << 24))]
    pub tenants: usize,
    /// Equally many rules and events for each tenant, and not by Zipf's law
    #[arg(long)]
    pub uniform_tenants: bool,
    /// The folder with rules.parquet and headers.parquet, for W4
    #[arg(long, default_value = "benches/data")]
    pub data: PathBuf,
    /// Who matches; may be given several times
    #[arg(long, value_enum, default_value = "all")]
    pub backend: Vec<Backend>,
    /// What is timed besides hits and decisions
    #[arg(long, value_enum, default_value = "hits")]
    pub output: Wanted,
    /// Threads that match
    #[arg(long, default_value_t = 1, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    pub threads: usize,
    /// Rows of a batch
    #[arg(long, default_value_t = 8192, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1 << 24))]
    pub batch: usize,
    /// Runs, of which the median counts
    #[arg(long, default_value_t = 3, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1000))]
    pub runs: usize,
    /// One JSON object a back end, one a line
    #[arg(long)]
    pub json: bool,
    /// Append the figures to this CSV file
    #[arg(long)]
    pub csv: Option<PathBuf>,
    /// Draw the rates to this SVG file
    #[arg(long)]
    pub chart: Option<PathBuf>,
}

impl Options {
    const fn tenants(&self) -> Tenants {
        Tenants { count: self.tenants, uniform: self.uniform_tenants }
    }
}

/// Runs the command: figures go to `out`; `progress` is told what is being done.
///
/// # Errors
/// Back ends that disagree, answers other than the known ones, a back end that cannot be had, files that cannot be read or written.
pub fn bench(options: &Options, out: &mut dyn Write, progress: &mut dyn FnMut(&str)) -> Result<(), Failure> {
    if options.workload == Subject::Changes {
        return live::bench(options, out, progress);
    }
    let report = measured(options, KNOWN, progress)?;
    if let Some(path) = &options.csv {
        report::append_csv(path, report.rows())?;
    }
    if let Some(path) = &options.chart {
        std::fs::write(path, chart::svg(&report)).map_err(|error| format!("{}: cannot be written: {error}", path.display()))?;
    }
    Ok(if options.json { report::json_lines(out, report.rows()) } else { report.table(out) }?)
}

/// What was found out of one back end, over all cases.
struct Tally {
    backend: Backend,
    events: usize,
    answer: Fingerprint,
    measured: Measured,
}

fn measured(options: &Options, known_answers: &[Known], progress: &mut dyn FnMut(&str)) -> Result<Report, Failure> {
    let (backends, notes) = backends(&options.backend);
    let mut tallies: Vec<Tally> = backends
        .iter()
        .map(|backend| Tally { backend: *backend, events: 0, answer: Fingerprint::default(), measured: Measured::default() })
        .collect();
    let mut report = Report {
        subject: options.workload.name(),
        tenants: (options.workload == Subject::Generated(Workload::F1)).then_some(options.tenants),
        batch: options.batch,
        threads: options.threads,
        runs: options.runs,
        output: options.output.output().map(|(name, _)| name),
        machine: report::machine(),
        notes,
        ..Report::default()
    };
    let mut cases = Cases::open(options, progress)?;
    // A run of each case takes its share of the time.
    let share = 1.0 / cases.len() as f64;
    while let Some(case) = cases.next(options, progress)? {
        report.add(&case);
        // The answers of the first back end that was asked for all events, or for the few that slow ones are asked for.
        let (mut all, mut few) = (None, None);
        for tally in &mut tallies {
            let backend = tally.backend;
            progress(&format!("{}: {} matches", case.name, backend.name()));
            let engine = Engine::new(backend, &case, options.output.output().is_some())?;
            let batches = if backend.is_slow() { std::slice::from_ref(&case.few) } else { &case.batches[..] };
            let hits = |batch| engine.hits(&case.generation, batch);
            let mut answer = Fingerprint::default();
            let started = std::time::Instant::now();
            for (number, batch) in batches.iter().enumerate() {
                let hits = hits(batch);
                case.verdicts(backend.name(), number * options.batch, &hits)?;
                if let Some((name, output)) = options.output.output() {
                    reduces(
                        &case.name,
                        backend,
                        name,
                        engine.reduce(&case.generation, batch, output),
                        Reduction::of(output, &hits, case.artifact.rules()),
                    )?;
                }
                answer.add_batch(batch, &hits);
            }
            let pass = started.elapsed();
            let mut of_few = answer;
            if !backend.is_slow() {
                of_few = Fingerprint::default();
                of_few.add_batch(&case.few, &hits(&case.few));
            }
            agree(&case.name, backend, of_few, few.get_or_insert((backend, of_few)))?;
            if !backend.is_slow() {
                agree(&case.name, backend, answer, all.get_or_insert((backend, answer)))?;
            }
            tally.events += batches.iter().map(crate::event::EventBatch::rows).sum::<usize>();
            tally.answer.hits += answer.hits;
            tally.answer.hash = tally.answer.hash.wrapping_add(answer.hash);
            tally.measured.add(&measure::measure(&engine, &case, batches, pass, share, options));
            engine.finished()?;
        }
        if let Some((_, answer)) = all {
            report.known |= known(known_answers, options, answer)?;
        }
    }
    report.rows = tallies;
    Ok(report)
}

/// The back ends asked for, each once, and why some are left out.
fn backends(asked: &[Backend]) -> (Vec<Backend>, Vec<String>) {
    let (mut found, mut notes) = (Vec::new(), Vec::new());
    for backend in asked {
        match backend {
            Backend::All => {
                found.push(Backend::Cpu);
                match gpu() {
                    Ok(()) => found.extend([Backend::Gpu, Backend::Auto]),
                    Err(why) => notes.push(format!("gpu left out: {why}")),
                }
                if Isa::Avx2.is_available() {
                    found.push(Backend::Avx2);
                }
                found.extend([Backend::Portable, Backend::Plain, Backend::Reference]);
            }
            one => found.push(*one),
        }
    }
    let mut once: Vec<Backend> = Vec::new();
    for backend in found {
        if !once.contains(&backend) {
            once.push(backend);
        }
    }
    (once, notes)
}

/// Whether there is a GPU that is more than software; else why there is none.
fn gpu() -> Result<(), String> {
    #[cfg(feature = "gpu")]
    {
        let adapters = crate::matcher::gpu::adapters();
        let Some(first) = adapters.first() else { return Err("there is no adapter".to_owned()) };
        if !adapters.iter().any(|adapter| adapter.unusable.is_none() && !adapter.is_software()) {
            return Err(format!("the only adapter, {}, is the CPU in disguise (--backend gpu takes it)", first.name));
        }
        Ok(())
    }
    #[cfg(not(feature = "gpu"))]
    Err("this program was built without the feature `gpu`".to_owned())
}

#[cfg(test)]
mod tests;
