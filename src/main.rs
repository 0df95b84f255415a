//! Arguments to library calls to exit codes: the only place that prints or exits.

use clap::{Parser, Subcommand, ValueEnum};
use dynamic_cep::command::matching::{self, Backend, Emit, Options, Progress, all_cores};
use dynamic_cep::command::{Failure, compile, devices, explain, inspect, report};
use dynamic_cep::rule::Diagnostic;
use dynamic_cep::tables::Artifact;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Compiling a million rules makes tens of millions of small allocations on several threads; with the C library's allocator they were 40 % of the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
        /// Threads that compile
        #[arg(long, default_value_t = all_cores())]
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
        #[arg(long, default_value_t = all_cores())]
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
    },
    /// Show what is inside an artifact
    Inspect {
        artifact: PathBuf,
        /// This rule alone, as canonical text
        #[arg(long)]
        rule: Option<String>,
    },
    /// Show what this machine can match on, and what `auto` would choose
    Devices,
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
    #[arg(long, default_value_t = all_cores())]
    threads: usize,
    /// Rows of a batch
    #[arg(long, default_value_t = 8192)]
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
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(failure) => {
            match failure {
                Failure::Message(message) => eprintln!("error: {message}"),
                Failure::Diagnostics(diagnostics) => show(&diagnostics, Format::Text),
            }
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Compile { rules, schema, output, format, threads } => {
            let compiled = compile::compile(&rules, schema.as_deref(), threads)?;
            show(&compiled.diagnostics, format);
            let Some(artifact) = &compiled.artifact else { return Ok(ExitCode::FAILURE) };
            compile::write(artifact, &output)?;
            eprintln!("{} rules, {} tests passed, {} bytes in {}", compiled.rules, compiled.tests, artifact.len(), output.display());
        }
        Command::Check { rules, schema, format, threads } => {
            let compiled = compile::compile(&rules, schema.as_deref(), threads)?;
            show(&compiled.diagnostics, format);
            if compiled.artifact.is_none() {
                return Ok(ExitCode::FAILURE);
            }
            eprintln!("{} rules, {} tests passed", compiled.rules, compiled.tests);
        }
        Command::Match { input, backend, emit, output, rejects } => {
            let emit = emit.unwrap_or(if output.is_some() { Emit::Decisions } else { Emit::None });
            let options = Options { output, rejects, ..input.options(backend, emit) };
            let mut progress = Terminal::new();
            let summary = matching::run(&options, &mut progress);
            progress.bar.finish_and_clear();
            report::summary(&summary?, &mut io::stderr().lock())?;
        }
        Command::Explain { input, row, rule } => {
            let mut options = input.options(Backend::Reference, Emit::None);
            let mut progress = Terminal::new();
            let artifact: Arc<Artifact> = matching::load(&mut options, &mut progress)?;
            progress.bar.finish_and_clear();
            explain::explain(&artifact, &options, row, rule.as_deref(), &mut output())?;
        }
        Command::Inspect { artifact, rule } => inspect::inspect(&artifact, rule.as_deref(), &mut output())?,
        Command::Devices => devices::devices(&mut output())?,
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
            threads: self.threads.max(1),
            batch_rows: self.batch_rows.max(1),
            strict: self.strict,
        }
    }
}

/// Standard output, for results.
fn output() -> impl Write {
    io::BufWriter::new(io::stdout().lock())
}

/// Diagnostics go to standard error, in both formats.
fn show(diagnostics: &[Diagnostic], format: Format) {
    let mut err = io::BufWriter::new(io::stderr().lock());
    for diagnostic in diagnostics {
        // Where standard error is closed nobody reads what could not be written.
        let _ = match format {
            Format::Text => writeln!(err, "{diagnostic}"),
            Format::Json => serde_json::to_string(diagnostic).map_err(io::Error::other).and_then(|line| writeln!(err, "{line}")),
        };
    }
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
    let warnings = diagnostics.len() - errors;
    if format == Format::Text && !diagnostics.is_empty() {
        let _ = writeln!(err, "{errors} errors, {warnings} warnings");
    }
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
            for warning in warnings {
                eprintln!("{warning}");
            }
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
