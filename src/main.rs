//! Arguments to library calls to exit codes: the only place that prints or exits.

use clap::builder::RangedU64ValueParser;
use clap::{Parser, Subcommand, ValueEnum};
use dynamic_cep::command::matching::{self, Backend, Emit, Options, Progress, all_cores};
use dynamic_cep::command::{Failure, bench, compile, devices, explain, inspect, report, snapshot, state};
#[cfg(feature = "service")]
use dynamic_cep::command::{audit, generate, push, serve};
use dynamic_cep::compile::Compiled;
use dynamic_cep::rule::Diagnostic;
use dynamic_cep::tables::Artifact;
use dynamic_cep::temporal::patterns::Limits;
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Compiling a million rules makes tens of millions of small allocations on several threads; with the C library's allocator they were 40 % of the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// More threads than any machine has cores to serve.
const THREADS_MAX: u64 = 1024;

/// A batch is held in memory, with a number of 32 bits for each row.
const BATCH_ROWS_MAX: u64 = 1 << 24;

/// A rules engine for streams of events: SQL conditions compiled into threshold tables, matched on CPU and GPU.
#[derive(Parser)]
#[command(name = "dynamic-cep", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compile rules to an artifact
    Compile {
        /// Rule files (YAML, JSON, NDJSON, Parquet, CSV) or pack folders
        #[arg(required = true)]
        rules: Vec<PathBuf>,
        /// The schema of the events
        #[arg(long)]
        schema: Option<PathBuf>,
        /// The artifact to write
        #[arg(long, short)]
        output: PathBuf,
        /// How diagnostics are shown
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
        /// An artifact that this one is to take the place of: what of its state goes on is told
        #[arg(long)]
        previous: Option<PathBuf>,
        /// Threads that compile
        #[arg(long, default_value_t = all_cores(), value_parser = threads())]
        threads: usize,
    },
    /// Show what is wrong with rules, and run the tests inside the files; writes nothing
    Check {
        /// Rule files or pack folders
        #[arg(required = true)]
        rules: Vec<PathBuf>,
        /// The schema of the events
        #[arg(long)]
        schema: Option<PathBuf>,
        /// How diagnostics are shown
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
        /// Threads that compile
        #[arg(long, default_value_t = all_cores(), value_parser = threads())]
        threads: usize,
    },
    /// Match events against rules
    Match {
        #[command(flatten)]
        input: Input,
        /// Who matches
        #[arg(long, value_enum, default_value_t = Backend::Auto)]
        backend: Backend,
        /// The results [default: decisions with --output, else none]
        #[arg(long, value_enum)]
        emit: Option<Emit>,
        /// Where results go: .parquet .arrow .ndjson .csv; `-` is NDJSON on standard output
        #[arg(long, short)]
        output: Option<String>,
        /// Where rows go that cannot be read as events, with the reason
        #[arg(long)]
        rejects: Option<String>,
        /// How much later than others events may come, such as 90s, 15min or 2h: windows and patterns wait so long for them
        #[arg(long, default_value = "0", value_parser = dynamic_cep::command::duration::parse)]
        allowed_lateness: i64,
        /// Where events go that come later still: windows tell them what they hold then, and patterns do not see them
        #[arg(long)]
        late: Option<String>,
        /// What windows and patterns may hold of one key, such as 16MiB: beyond it windows of that key are NULL, the pattern is given up for it, and both are counted
        #[arg(long, default_value = "16MiB", value_parser = dynamic_cep::command::size::parse)]
        state_per_key: usize,
        /// What windows and patterns may hold of one tenant's keys
        #[arg(long, default_value = "4GiB", value_parser = dynamic_cep::command::size::parse)]
        state_per_tenant: usize,
        /// Steps that a pattern's search for one match may take
        #[arg(long, default_value_t = Limits::default().steps)]
        steps_per_match: u64,
        #[command(flatten)]
        state: state::Options,
    },
    /// Show why rules match an event or do not, and which miss it by one leaf
    Explain {
        #[command(flatten)]
        input: Input,
        /// The event: its row over all inputs, the first is 0
        #[arg(long)]
        row: u64,
        /// This rule alone
        #[arg(long)]
        rule: Option<String>,
        #[command(flatten)]
        memory: state::Memory,
    },
    /// Show what is inside an artifact
    Inspect {
        artifact: PathBuf,
        /// This rule alone, as canonical text
        #[arg(long)]
        rule: Option<String>,
    },
    /// Look at snapshots of the state of a run
    Snapshot {
        #[command(subcommand)]
        command: Snapshot,
    },
    /// Run as a process: events judged over HTTP, by rules of many tenants that change meanwhile
    #[cfg(feature = "service")]
    Serve {
        /// The configuration (TOML); each key may be overridden by DYNAMIC_CEP_SECTION_KEY
        #[arg(long)]
        config: Option<PathBuf>,
        /// Only say whether the configuration is sound, and show it
        #[arg(long)]
        check: bool,
    },
    /// The log of who changed what
    #[cfg(feature = "service")]
    Audit {
        #[command(subcommand)]
        command: Audit,
    },
    /// Send rules to a process that serves, as a new version of a rule set
    #[cfg(feature = "service")]
    Push {
        #[command(flatten)]
        options: push::Options,
    },
    /// Make card transactions, some of them fraud, as a load: to a file, to Kafka, or to a process that serves
    #[cfg(feature = "service")]
    Generate {
        #[command(flatten)]
        options: generate::Options,
    },
    /// Show what this machine can match on, and what `auto` would choose
    Devices,
    /// Time every back end on a generated workload, after their answers have been compared
    Bench {
        #[command(flatten)]
        options: bench::Options,
    },
}

#[cfg(feature = "service")]
#[derive(Subcommand)]
enum Audit {
    /// Whether every entry is as it was written, and none is missing
    Verify {
        /// The configuration of the process whose log it is
        #[arg(long)]
        config: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
enum Snapshot {
    /// Show what the snapshots in a folder hold, and whether they are sound
    Inspect {
        folder: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(clap::Args)]
struct Input {
    /// An artifact, rule files, or a pack folder
    #[arg(required = true)]
    rules: Vec<PathBuf>,
    /// Events: files or globs (Parquet, Arrow IPC, NDJSON, CSV), `-` for standard input [default: the pack's own]
    #[arg(long)]
    events: Vec<String>,
    /// The schema of the events [default: the pack's schema.yaml, that of the rule document, or the first file's own]
    #[arg(long)]
    schema: Option<PathBuf>,
    /// Threads that match
    #[arg(long, default_value_t = all_cores(), value_parser = threads())]
    threads: usize,
    /// Rows of a batch
    #[arg(long, default_value_t = 32_768, value_parser = RangedU64ValueParser::<usize>::new().range(1..=BATCH_ROWS_MAX))]
    batch_rows: usize,
    /// Stop at the first bad row or missing column
    #[arg(long)]
    strict: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    /// One JSON object a line
    Json,
}

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("DYNAMIC_CEP_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,wgpu=error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(io::stderr().is_terminal()).without_time().init();
    // Wrong usage is told by clap, which exits with 2.
    let command = Arguments::parse().command;
    let format = command.format();
    match run(command) {
        Ok(code) => code,
        Err(Failure::Closed) => ExitCode::SUCCESS,
        Err(Failure::Diagnostics(diagnostics)) => {
            show(&diagnostics, format);
            ExitCode::FAILURE
        }
        Err(Failure::Message(message)) => {
            match format {
                Format::Text => eprintln!("error: {message}"),
                Format::Json => eprintln!("{}", serde_json::json!({"severity": "error", "code": "failure", "primary": message})),
            }
            ExitCode::FAILURE
        }
    }
}

impl Command {
    /// How diagnostics are shown.
    const fn format(&self) -> Format {
        match self {
            Self::Compile { format, .. } | Self::Check { format, .. } => *format,
            _ => Format::Text,
        }
    }
}

fn threads() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=THREADS_MAX)
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Compile { rules, schema, output, format, previous, threads } => {
            let compiled = compile::compile(&rules, schema.as_deref(), threads)?;
            show(&compiled.diagnostics, format);
            let Some(artifact) = &compiled.artifact else { return Ok(ExitCode::FAILURE) };
            let state = compile::state(artifact, previous.as_deref())?;
            compile::write(artifact, &output)?;
            if format == Format::Text {
                eprintln!("{}, {} bytes in {}", passed(&compiled), artifact.len(), output.display());
                show_state(&state);
            }
        }
        Command::Check { rules, schema, format, threads } => {
            let compiled = compile::compile(&rules, schema.as_deref(), threads)?;
            show(&compiled.diagnostics, format);
            if compiled.artifact.is_none() {
                return Ok(ExitCode::FAILURE);
            }
            if format == Format::Text {
                eprintln!("{}", passed(&compiled));
            }
        }
        Command::Match {
            input,
            backend,
            emit,
            output,
            rejects,
            allowed_lateness,
            late,
            state_per_key,
            state_per_tenant,
            steps_per_match,
            state,
        } => {
            let emit = emit.unwrap_or(if output.is_some() { Emit::Decisions } else { Emit::None });
            let pattern_limits = Limits { key_bytes: state_per_key, tenant_bytes: state_per_tenant, steps: steps_per_match };
            let options = Options { output, rejects, allowed_lateness, late, pattern_limits, ..input.options(backend, emit) };
            let mut progress = Terminal::new();
            let summary = matching::run_with_state(&options, &state, &mut progress);
            progress.bar.finish_and_clear();
            report::summary(&summary?, &mut io::stderr().lock())?;
        }
        Command::Explain { input, row, rule, memory } => {
            let mut options = input.options(Backend::Reference, Emit::None);
            let mut progress = Terminal::new();
            let artifact: Arc<Artifact> = matching::load(&mut options, &mut progress)?;
            progress.bar.finish_and_clear();
            print(|out| explain::explain(&artifact, &options, &memory, row, rule.as_deref(), out))?;
        }
        Command::Inspect { artifact, rule } => print(|out| inspect::inspect(&artifact, rule.as_deref(), out))?,
        Command::Snapshot { command: Snapshot::Inspect { folder, json } } => print(|out| snapshot::inspect(&folder, json, out))?,
        #[cfg(feature = "service")]
        Command::Serve { config, check } => {
            let config = serve::config(config.as_deref())?;
            if check {
                print(|out| Ok(writeln!(out, "{}", serve::shown(&config)?)?))?;
                return Ok(ExitCode::SUCCESS);
            }
            serve::serve(config, |started| {
                if let Some(address) = started.flight {
                    eprintln!("Arrow Flight at grpc{}://{address}", if started.encrypted { "+tls" } else { "" });
                }
                eprintln!("listening on http{}://{}", if started.encrypted { "s" } else { "" }, started.address);
                if let Some(key) = &started.key {
                    eprintln!("the first key, for everything, shown this once: {key}");
                }
            })?;
        }
        #[cfg(feature = "service")]
        Command::Audit { command: Audit::Verify { config } } => {
            let (entries, hash) = audit::check(&serve::config(config.as_deref())?)?;
            print(|out| Ok(writeln!(out, "entries 1 to {entries} follow each other unchanged; the hash of the last is {hash}")?))?;
        }
        #[cfg(feature = "service")]
        Command::Push { options } => {
            let told = push::push(&options)?;
            print(|out| told.iter().try_for_each(|answer| Ok(writeln!(out, "{answer}")?)))?;
        }
        #[cfg(feature = "service")]
        Command::Generate { options } => {
            let mut progress = Terminal::new();
            let summary = generate::generate(&options, &mut progress);
            progress.bar.finish_and_clear();
            eprintln!("{}", summary?);
        }
        Command::Devices => print(|out| devices::devices(out))?,
        Command::Bench { options } => {
            let terminal = Terminal::new();
            let mut figures = Vec::new();
            let benched = bench::bench(&options, &mut figures, &mut |step| terminal.bar.set_message(step.to_owned()));
            terminal.bar.finish_and_clear();
            benched?;
            print(|out| Ok(out.write_all(&figures)?))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Input {
    fn options(self, backend: Backend, emit: Emit) -> Options {
        Options {
            rules: self.rules,
            events: self.events,
            schema: self.schema,
            backend,
            emit,
            output: None,
            rejects: None,
            threads: self.threads,
            batch_rows: self.batch_rows,
            strict: self.strict,
            allowed_lateness: 0,
            late: None,
            pattern_limits: Limits::default(),
        }
    }
}

/// A number of things, in words.
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// What came of rules without errors.
fn passed(compiled: &Compiled) -> String {
    format!("{}, {} passed", counted(compiled.rules, "rule"), counted(compiled.tests, "test"))
}

/// Lets a command write its results to standard output.
fn print(command: impl FnOnce(&mut dyn Write) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    command(&mut out)?;
    Ok(out.flush()?)
}

/// Warnings of one code that are shown as text; a million rules may have tens of thousands. Errors are all shown, and JSON has everything.
const WARNINGS_SHOWN: usize = 20;

/// Lines about state that are shown; thousands of patterns have one each.
const STATE_SHOWN: usize = 40;

/// What state rules hold, on standard error.
fn show_state(lines: &[String]) {
    lines.iter().take(STATE_SHOWN).for_each(|line| eprintln!("  {line}"));
    if lines.len() > STATE_SHOWN {
        eprintln!("  … {} more", lines.len() - STATE_SHOWN);
    }
}

/// Diagnostics go to standard error, in both formats.
fn show(diagnostics: &[Diagnostic], format: Format) {
    let mut err = io::BufWriter::new(io::stderr().lock());
    // Where standard error is closed nobody reads what could not be written.
    let _ = match format {
        Format::Text => show_text(diagnostics, &mut err),
        Format::Json => diagnostics.iter().try_for_each(|diagnostic| {
            let line = serde_json::to_string(diagnostic).map_err(io::Error::other)?;
            writeln!(err, "{line}")
        }),
    };
}

fn show_text(diagnostics: &[Diagnostic], err: &mut impl Write) -> io::Result<()> {
    let mut warnings: BTreeMap<&str, usize> = BTreeMap::new();
    for diagnostic in diagnostics {
        if !diagnostic.is_error() {
            let seen = warnings.entry(diagnostic.code).or_default();
            *seen += 1;
            if *seen > WARNINGS_SHOWN {
                continue;
            }
        }
        writeln!(err, "{diagnostic}")?;
    }
    for (code, seen) in warnings.iter().filter(|(_, seen)| **seen > WARNINGS_SHOWN) {
        writeln!(err, "warning[{code}]: {} more (all with `check --format json`)", seen - WARNINGS_SHOWN)?;
    }
    if !diagnostics.is_empty() {
        let warnings: usize = warnings.values().sum();
        let counts = [(diagnostics.len() - warnings, "error"), (warnings, "warning")];
        let told: Vec<String> = counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| counted(count, what)).collect();
        writeln!(err, "{}", told.join(", "))?;
    }
    Ok(())
}

/// Progress on a terminal: a bar; nothing where standard error is not one.
struct Terminal {
    bar: ProgressBar,
}

impl Terminal {
    fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        if io::stderr().is_terminal() {
            bar.set_message("reading rules");
            bar.enable_steady_tick(Duration::from_millis(120));
        } else {
            bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
        }
        Self { bar }
    }
}

impl Progress for Terminal {
    fn rules(&mut self, warnings: &[Diagnostic]) {
        self.bar.suspend(|| {
            show(warnings, Format::Text);
        });
        self.bar.set_message("matching");
    }

    fn rows(&mut self, rows: u64, bytes: u64, total: Option<u64>) {
        if let Some(total) = total.filter(|_| self.bar.length().is_none()) {
            self.bar.set_length(total.max(1));
            if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent:>3} %  {msg}  {eta} left") {
                self.bar.set_style(style);
            }
        }
        self.bar.set_position(bytes);
        self.bar.set_message(format!("{rows} events"));
    }

    fn warning(&mut self, text: &str) {
        self.bar.suspend(|| eprintln!("warning: {text}"));
    }
}
