//! `match`: events through the engine, to results and a summary.

use super::Failure;
use super::findings;
use super::sources::{self, Named, SchemaSources};
use super::state::{self, Start};
use super::windows;
use crate::connector::sink::ResultWriter;
use crate::connector::source::{EventSource, ReadBatch, Reject, reject_batch, reject_schema};
use crate::decide::{self, Decisions};
use crate::engine::Generation;
use crate::engine::router::{Choice, Routed, Router};
use crate::event::{EventBatch, Value};
use crate::expr::columns::Cache;
use crate::flow::Hits;
use crate::id::FieldId;
use crate::parallel::map_in_order;
use crate::reference::Reference;
use crate::rule::Diagnostic;
use crate::stream::conditions::RowConditions;
use crate::tables::Artifact;
use crate::tables::artifact::ACTIONS;
use crate::tables::layout::NONE;
use crate::temporal::patterns::{Counters, Limits};
use crate::temporal::spill::Spilled;
use arrow::array::{Array, ArrayRef, Decimal128Array, ListBuilder, RecordBatch, StringArray, StringBuilder, UInt32Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// `auto` opens no adapter for fewer pairs of an event and a rule than these: the CPU is done before a device is ready.
const SMALL_WORK: u64 = 1 << 24;

/// Bytes that an event takes as text, at least, where the format does not tell the number of rows.
const EVENT_BYTES: u64 = 16;

/// What the results are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Emit {
    /// One row an event: score, action, rules.
    Decisions,
    /// One row for each rule that matches an event.
    Hits,
    /// One row a rule: how many events it matches.
    Counts,
    /// What patterns find: one row for a match, or for each of its rows.
    Findings,
    /// One row an event: the values of the windows that have names.
    Windows,
    None,
}

/// Who matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Backend {
    /// The faster of cpu and gpu, batch by batch.
    Auto,
    Cpu,
    Gpu,
    /// Row by row and rule by rule, obviously right.
    Reference,
}

/// What `match` was asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    pub rules: Vec<PathBuf>,
    /// Files, globs, `-`; empty: the events of the pack folder.
    pub events: Vec<String>,
    pub schema: Option<PathBuf>,
    pub backend: Backend,
    pub emit: Emit,
    pub output: Option<String>,
    pub rejects: Option<String>,
    pub threads: usize,
    pub batch_rows: usize,
    pub strict: bool,
    /// Nanoseconds that events may come late; windows and patterns wait for them.
    pub allowed_lateness: i64,
    /// Where events go that came later.
    pub late: Option<String>,
    /// What the state of patterns may take, and that of windows.
    pub pattern_limits: Limits,
}

/// What the caller is told while the command runs.
pub trait Progress {
    /// Rules are compiled or loaded; `warnings` came with them.
    fn rules(&mut self, warnings: &[Diagnostic]);
    /// So many rows were done, and so many bytes of all (if that is known) read.
    fn rows(&mut self, rows: u64, bytes: u64, total: Option<u64>);
    /// Something about the input that the user should know.
    fn warning(&mut self, text: &str);
}

/// What a run gave, for the summary.
#[derive(Debug)]
pub struct Summary {
    pub artifact: Arc<Artifact>,
    pub rows: u64,
    pub rejected: u64,
    pub hits: u64,
    /// Hits of each rule.
    pub counts: Vec<u64>,
    /// Events by action, weakest first.
    pub actions: [u64; ACTIONS.len()],
    /// Thousandths, by outcome.
    pub outcomes: BTreeMap<String, i128>,
    pub labels: Option<Labels>,
    /// Rows that patterns put out, and what did not go as rules and rows say.
    pub findings: u64,
    pub patterns: Option<Counters>,
    pub windows: Option<windows::Counters>,
    /// State that memory had no room for.
    pub spilled: Spilled,
    /// Where the state is saved.
    pub state: Option<state::Told>,
    pub backend: Backend,
    pub reason: String,
    pub routed: Routed,
    pub threads: usize,
    /// Time to compile or load the rules.
    pub prepare: Duration,
    pub times: Times,
    /// From the first batch asked for to the last result written.
    pub wall: Duration,
}

/// Time spent in each stage, summed over threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    pub read: Duration,
    pub encode: Duration,
    pub matching: Duration,
    pub decide: Duration,
    pub write: Duration,
}

/// Decisions against the known truth: an event is flagged if its action is stronger than `allow`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    pub field: String,
    pub flagged_true: u64,
    pub flagged_false: u64,
    pub missed: u64,
    /// Labels that are NULL: such events are in none of the other counts.
    pub unknown: u64,
    /// For each rule, its hits on events whose label is true.
    pub true_hits: Vec<u64>,
}

/// Rules ready to match.
struct Matcher {
    artifact: Arc<Artifact>,
    generation: Generation,
    engine: Engine,
    /// `None`: the reference.
    choice: Option<Choice>,
}

enum Engine {
    Tables(Box<Router>),
    Reference(Reference),
}

/// A batch whose windows have their columns.
pub(super) struct Staged {
    pub batch: ReadBatch,
    /// Its rows that patterns are not to see, ascending.
    pub late: Vec<u32>,
    /// A snapshot is taken after it, before this row.
    pub cut: Option<u64>,
}

/// What came of one batch.
struct Done {
    batch: EventBatch,
    late: Vec<u32>,
    cut: Option<u64>,
    rows: usize,
    bytes_read: u64,
    rejects: Vec<Reject>,
    warnings: Vec<String>,
    hits: Hits,
    /// The row conditions of patterns that hold.
    holds: Hits,
    decisions: Decisions,
    labels: Vec<Option<bool>>,
    output: Option<Result<RecordBatch, String>>,
    times: Times,
}

/// Runs the command.
///
/// # Errors
/// Files that cannot be read or written, errors in the rules, a back end that cannot be had, with `strict` the first bad row.
pub fn run(options: &Options, progress: &mut dyn Progress) -> Result<Summary, Failure> {
    run_with_state(options, &state::Options::default(), progress)
}

/// Runs the command with state that outlasts it.
///
/// # Errors
/// As [`run`]; snapshots that cannot be read or written, inputs that are not those that were read before.
pub fn run_with_state(options: &Options, state: &state::Options, progress: &mut dyn Progress) -> Result<Summary, Failure> {
    let started = Instant::now();
    let mut options = options.clone();
    if options.emit != Emit::None && options.rejects.is_some() && options.rejects == options.output {
        return Err("results and rejects cannot go to the same place".to_owned().into());
    }
    let artifact = load(&mut options, progress)?;
    let source = EventSource::open(&options.events, Some(artifact.event_schema()))?;
    source.warnings().iter().for_each(|warning| progress.warning(warning));
    let generation = Generation::new(Arc::clone(&artifact))?;
    let rows = source.total_rows_hint().or_else(|| source.total_bytes().map(|bytes| bytes / EVENT_BYTES));
    let small = rows.is_some_and(|rows| rows.saturating_mul(artifact.rules().len() as u64) < SMALL_WORK);
    let choice = match options.backend {
        Backend::Reference => None,
        Backend::Auto => Some(if small { Choice::Cpu } else { Choice::Auto }),
        Backend::Cpu => Some(Choice::Cpu),
        Backend::Gpu => Some(Choice::Gpu),
    };
    let engine = match choice {
        None => Engine::Reference(Reference::new(&artifact)?),
        Some(choice) => Engine::Tables(Box::new(Router::new(Arc::clone(&artifact), choice)?)),
    };
    let matcher = Matcher { artifact, generation, engine, choice };
    let prepare = started.elapsed();
    let mut summary = matcher.stream(source, &options, state, progress)?;
    summary.prepare = prepare;
    if small && options.backend == Backend::Auto {
        summary.reason = "too little work to open a GPU for".to_owned();
    }
    Ok(summary)
}

/// Opens or compiles the rules. Where no events were named, those of the pack folder are.
///
/// # Errors
/// Files that cannot be read, errors in the rules, no events.
pub fn load(options: &mut Options, progress: &mut dyn Progress) -> Result<Arc<Artifact>, Failure> {
    let artifact = match Named::look(&options.rules)? {
        Named::Artifact(path) => {
            if options.schema.is_some() {
                return Err("an artifact has its own schema; leave out --schema, or give the rule files".to_owned().into());
            }
            let artifact = Artifact::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            progress.rules(&[]);
            artifact
        }
        Named::Rules { files, schema: pack, events } => {
            if options.events.is_empty() {
                options.events = events;
            }
            // Standard input can be read only once, so it cannot tell the schema beforehand.
            let events: Vec<String> = options.events.iter().filter(|name| *name != "-").cloned().collect();
            let from = SchemaSources { given: options.schema.as_deref(), events: &events };
            let compiled = sources::compile(&files, pack.as_deref(), from, options.threads)?;
            let Some(bytes) = compiled.artifact else { return Err(Failure::Diagnostics(compiled.diagnostics)) };
            progress.rules(&compiled.diagnostics);
            Artifact::from_bytes(&bytes)?
        }
    };
    if options.events.is_empty() {
        return Err("there are no events; give them with --events FILE".to_owned().into());
    }
    Ok(Arc::new(artifact))
}

impl Matcher {
    fn needed(&self, saves: bool) -> Vec<FieldId> {
        let schema = self.artifact.schema();
        if saves && !self.artifact.windows().is_empty() {
            // Rows that wait may be judged by other rules, which read other fields.
            return (0..self.artifact.event_schema().fields().len()).map(FieldId::new).collect();
        }
        let mut needed = match &self.engine {
            Engine::Tables(_) => self.generation.fields(),
            Engine::Reference(reference) => reference.fields(),
        };
        needed.extend([schema.id, schema.tenant, schema.label].into_iter().flatten());
        if !self.artifact.patterns().is_empty() {
            needed.extend(schema.time);
            needed.extend(self.artifact.patterns().iter().flat_map(|(_, pattern)| pattern.needs()));
        }
        if !self.artifact.windows().is_empty() {
            needed.extend(schema.time);
            needed.extend(self.artifact.windows().iter().flat_map(|column| column.window.needs()));
        }
        // Windows are not read, but made.
        needed.retain(|field| field.index() < self.artifact.event_schema().fields().len());
        needed
    }

    fn stream(
        self,
        source: EventSource,
        options: &Options,
        state: &state::Options,
        progress: &mut dyn Progress,
    ) -> Result<Summary, Failure> {
        let total = source.total_bytes();
        let output_schema = output_schema(&self.artifact, options.emit);
        let Start { mut windows, patterns, positions, keeper, spill } = state::start(&self.artifact, options, state, &source, progress)?;
        let first: u64 = positions.iter().map(|source| source.rows).sum();
        let part = state.snapshot_every.map(|_| first);
        if let Some(row) = part {
            // Not covered by the snapshot that the run goes on from: where it was cut again they would overlap.
            for name in [&options.output, &options.rejects, &options.late].into_iter().flatten() {
                ResultWriter::forget_parts(name, row)?;
            }
        }
        let create = |name: &str, schema: &SchemaRef| match part {
            Some(row) => ResultWriter::create_part(name, schema, row),
            None => ResultWriter::create(name, schema),
        };
        let output = options.output.as_deref().unwrap_or("-");
        let mut writer = (options.emit != Emit::None).then(|| create(output, &output_schema)).transpose()?;
        let mut rejects = options.rejects.as_deref().map(|name| create(name, &reject_schema())).transpose()?;
        let mut summary = self.empty_summary(options);
        let mut failure: Option<Failure> = None;
        let (mut read, mut write) = (Duration::ZERO, Duration::ZERO);
        let behind = windows::behind(&self.artifact, options);
        let patterns = patterns.map(|patterns| findings::Stage::new(patterns, &self.artifact, &behind, self.choice, part)).transpose()?;
        let (patterns, conditions) = patterns.unzip();
        let patterns = RefCell::new(patterns);
        let wall = Instant::now();
        let saves = keeper.is_some() && options.allowed_lateness > 0;
        let mut reader = source.read_on(&self.needed(saves), options.batch_rows, options.strict, positions);
        state.stop_after.into_iter().for_each(|rows| reader.end_after(rows));
        let keeper = RefCell::new(keeper);
        let mut fault = None;
        let batches = std::iter::from_fn(|| {
            let start = Instant::now();
            let batch = reader.next();
            read += start.elapsed();
            let mut keeper = keeper.borrow_mut();
            let goes_on = keeper.is_some() && reader.ended_early();
            let mut staged = match (batch, &mut windows) {
                (Some(Err(error)), _) => Err(error.into()),
                (Some(Ok(batch)), Some(windows)) => windows.take(batch).map(Some),
                (Some(Ok(batch)), None) => Ok(Some(Staged { batch, late: Vec::new(), cut: None })),
                (None, Some(windows)) if !goes_on => windows.rest(),
                (None, _) => Ok(None),
            };
            if let (Ok(Some(staged_batch)), Some(keeper)) = (&mut staged, &mut *keeper) {
                if keeper.is_due(reader.rows()) {
                    staged_batch.cut = Some(reader.rows());
                    keeper.begin(&reader, windows.as_mut(), &self.artifact);
                }
                let cut = staged_batch.cut.zip(windows.as_mut()).map_or(Ok(()), |(row, windows)| windows.next_part(row));
                if let Err(error) = cut.and_then(|()| keeper.step(windows.as_mut(), patterns.borrow_mut().as_mut(), false)) {
                    staged = Err(error);
                }
            }
            staged.unwrap_or_else(|error| {
                fault = Some(error);
                None
            })
        });
        map_in_order(
            batches,
            options.threads,
            |staged| self.process(staged, conditions.as_ref(), options.emit, &output_schema),
            |done| {
                let start = Instant::now();
                let mut patterns = patterns.borrow_mut();
                let found = patterns
                    .as_mut()
                    .map_or(Ok(0), |patterns| patterns.take(&done.batch, &done.holds, &done.late, &self.artifact, &mut writer));
                let cut = done.cut;
                let taken = found.and_then(|found| {
                    summary.findings += found;
                    summary.take(done, &mut writer, &mut rejects, progress, total)
                });
                let taken = taken.and_then(|()| {
                    let Some(row) = cut else { return Ok(()) };
                    writer.as_mut().map_or(Ok(()), |writer| writer.next_part(output, &output_schema, row))?;
                    let name = options.rejects.as_deref().unwrap_or_default();
                    rejects.as_mut().map_or(Ok(()), |rejects| rejects.next_part(name, &reject_schema(), row))?;
                    patterns.as_mut().map_or(Ok(()), |patterns| patterns.next_part(row, &self.artifact))?;
                    if let Some(keeper) = &mut *keeper.borrow_mut() {
                        keeper.results_are_out(patterns.as_mut());
                    }
                    Ok(())
                });
                write += start.elapsed();
                taken.map_err(|error| failure = Some(error)).is_ok()
            },
        );
        if let Some(error) = fault {
            return Err(error);
        }
        if let Some(error) = failure {
            return Err(error);
        }
        let (mut keeper, mut patterns) = (keeper.into_inner(), patterns.into_inner());
        // What settles all that is left does not wait for a copy.
        keeper.as_mut().map_or(Ok(()), |keeper| keeper.step(windows.as_mut(), patterns.as_mut(), true))?;
        let goes_on = keeper.is_some() && reader.ended_early();
        if let Some(patterns) = &mut patterns {
            let (found, counters) = patterns.finish(goes_on, &self.artifact, &mut writer)?;
            summary.findings += found;
            summary.patterns = Some(counters);
        }
        summary.windows = windows.as_mut().map(windows::Stage::finish).transpose()?;
        summary.spilled = spill.map(|spill| spill.spilled()).unwrap_or_default();
        reader.take_warnings().iter().for_each(|warning| progress.warning(warning));
        if let (Some(writer), Emit::Counts) = (&mut writer, options.emit) {
            for first in (0..summary.counts.len()).step_by(1 << 16) {
                let last = (first + (1 << 16)).min(summary.counts.len());
                writer.write(&counts_batch(&self.artifact, &summary.counts, first..last, &output_schema)?)?;
            }
        }
        for writer in [writer, rejects].into_iter().flatten() {
            writer.finish()?;
        }
        let finish = |keeper: state::Keeper| keeper.finish(&reader, windows.as_mut(), patterns.as_mut(), &self.artifact);
        summary.state = keeper.map(finish).transpose()?;
        summary.sum_outcomes();
        (summary.times.read, summary.times.write) = (read, write);
        summary.wall = wall.elapsed();
        if let Engine::Tables(router) = &self.engine {
            summary.reason = router.reason();
            summary.routed = router.routed();
        }
        Ok(summary)
    }

    fn empty_summary(&self, options: &Options) -> Summary {
        let rules = self.artifact.rules().len();
        let schema = self.artifact.schema();
        let labels =
            schema.label.map(|field| Labels { field: schema.field(field).name.clone(), true_hits: vec![0; rules], ..Labels::default() });
        Summary {
            artifact: Arc::clone(&self.artifact),
            rows: 0,
            rejected: 0,
            hits: 0,
            counts: vec![0; rules],
            actions: [0; ACTIONS.len()],
            outcomes: BTreeMap::new(),
            labels,
            findings: 0,
            patterns: None,
            windows: None,
            spilled: Spilled::default(),
            state: None,
            backend: options.backend,
            reason: "asked for".to_owned(),
            routed: Routed::default(),
            threads: options.threads,
            prepare: Duration::ZERO,
            times: Times::default(),
            wall: Duration::ZERO,
        }
    }

    /// One batch from columns to results: on one thread, sharing nothing that changes.
    fn process(&self, staged: Staged, conditions: Option<&RowConditions>, emit: Emit, output_schema: &SchemaRef) -> Done {
        let Staged { batch: read, late, cut } = staged;
        let batch = &read.batch;
        let mut times = Times::default();
        let mut lap = Instant::now();
        let mut time = || {
            let now = Instant::now();
            now - std::mem::replace(&mut lap, now)
        };
        let hits = match &self.engine {
            Engine::Reference(reference) => {
                let hits = reference.hits(batch);
                times.matching = time();
                hits
            }
            Engine::Tables(router) => {
                let mut cache = Cache::default();
                let encoded = self.generation.encode(batch, &mut cache);
                times.encode = time();
                let hits = self.generation.verify(batch, router.find(&encoded), &mut cache);
                times.matching = time();
                hits
            }
        };
        let holds = conditions.map(|conditions| conditions.of(batch)).unwrap_or_default();
        times.matching += time();
        let decisions = decide::decide(&hits, self.artifact.rules());
        times.decide = time();
        let output = match emit {
            Emit::Decisions => Some(self.decisions_batch(batch, &decisions, output_schema)),
            Emit::Hits => Some(self.hits_batch(batch, &hits, output_schema)),
            Emit::Windows => Some(self.windows_batch(batch, output_schema)),
            Emit::Counts | Emit::Findings | Emit::None => None,
        };
        times.write = time();
        Done {
            batch: batch.clone(),
            late,
            cut,
            rows: batch.rows(),
            bytes_read: read.bytes_read,
            labels: self.labels(batch),
            rejects: read.rejects,
            warnings: read.warnings,
            hits,
            holds,
            decisions,
            output,
            times,
        }
    }

    fn labels(&self, batch: &EventBatch) -> Vec<Option<bool>> {
        let schema = self.artifact.schema();
        let Some(field) = schema.label else { return Vec::new() };
        (0..batch.rows())
            .map(|row| match batch.value(schema, field, row) {
                Value::Bool(label) => Some(label),
                Value::Int(label) => Some(label != 0),
                Value::UInt(label) => Some(label != 0),
                Value::Float(label) => Some(label != 0.0),
                Value::Decimal { units, .. } => Some(units != 0),
                _ => None,
            })
            .collect()
    }

    /// The columns that every result starts with: row, id, tenant.
    fn leading_columns(&self, batch: &EventBatch, rows: Option<&UInt32Array>) -> Result<Vec<ArrayRef>, String> {
        let schema = self.artifact.schema();
        let number = |row: u32| batch.row_number(row as usize);
        let numbers: UInt64Array = match rows {
            Some(rows) => rows.values().iter().map(|row| number(*row)).collect(),
            None => (0..batch.rows() as u32).map(number).collect(),
        };
        let mut columns: Vec<ArrayRef> = vec![Arc::new(numbers)];
        for field in [schema.id, schema.tenant].into_iter().flatten() {
            let column = batch.column_or_null(schema, field);
            let column = match rows {
                Some(rows) => take(&column, rows, None).map_err(|error| error.to_string())?,
                None => column,
            };
            columns.push(arrow::compute::cast(&column, &plain_type(column.data_type())).map_err(|error| error.to_string())?);
        }
        Ok(columns)
    }

    fn decisions_batch(&self, batch: &EventBatch, decisions: &Decisions, schema: &SchemaRef) -> Result<RecordBatch, String> {
        let mut columns = self.leading_columns(batch, None)?;
        let scores = Decimal128Array::from_iter_values(decisions.scores.iter().map(|score| i128::from(*score)));
        columns.push(Arc::new(scores.with_precision_and_scale(18, 3).map_err(|error| error.to_string())?));
        columns.push(Arc::new(StringArray::from_iter_values(decisions.actions.iter().map(|action| ACTIONS[usize::from(*action)]))));
        for hits in [&decisions.rules, &decisions.shadow_rules] {
            let mut lists = ListBuilder::new(StringBuilder::new()).with_field(Field::new("item", DataType::Utf8, false));
            for row in 0..hits.rows() {
                hits.row(row).iter().for_each(|rule| lists.values().append_value(self.artifact.rule_name(*rule)));
                lists.append(true);
            }
            columns.push(Arc::new(lists.finish()));
        }
        let generation = self.artifact.generation();
        columns.push(Arc::new(StringArray::from_iter_values((0..batch.rows()).map(|_| &generation))));
        RecordBatch::try_new(Arc::clone(schema), columns).map_err(|error| error.to_string())
    }

    fn windows_batch(&self, batch: &EventBatch, schema: &SchemaRef) -> Result<RecordBatch, String> {
        let numbers: UInt64Array = (0..batch.rows()).map(|row| batch.row_number(row)).collect();
        let mut columns: Vec<ArrayRef> = vec![Arc::new(numbers)];
        let fields = self.artifact.schema().id.into_iter().chain(windows::named(&self.artifact));
        for (field, to) in fields.zip(schema.fields().iter().skip(1)) {
            let column = batch.column_or_null(self.artifact.schema(), field);
            columns.push(arrow::compute::cast(&column, to.data_type()).map_err(|error| error.to_string())?);
        }
        RecordBatch::try_new(Arc::clone(schema), columns).map_err(|error| error.to_string())
    }

    fn hits_batch(&self, batch: &EventBatch, hits: &Hits, schema: &SchemaRef) -> Result<RecordBatch, String> {
        let rows: UInt32Array = (0..hits.rows()).flat_map(|row| std::iter::repeat_n(row as u32, hits.row(row).len())).collect();
        let mut columns = self.leading_columns(batch, Some(&rows))?;
        columns.push(Arc::new(StringArray::from_iter_values(hits.rules.iter().map(|rule| self.artifact.rule_name(*rule)))));
        RecordBatch::try_new(Arc::clone(schema), columns).map_err(|error| error.to_string())
    }
}

/// Dictionaries are how the engine holds texts; results have plain ones.
pub(super) fn plain_type(ty: &DataType) -> DataType {
    match ty {
        DataType::Dictionary(_, values) => (**values).clone(),
        other => other.clone(),
    }
}

/// The columns of the results.
fn output_schema(artifact: &Artifact, emit: Emit) -> SchemaRef {
    let schema = artifact.schema();
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let mut fields = Vec::new();
    if emit == Emit::Windows {
        fields.push(Field::new("row", DataType::UInt64, false));
        fields.extend(schema.id.map(|id| windows::output_field("id", schema, id)));
        fields.extend(windows::named(artifact).map(|field| windows::output_field(&schema.field(field).name, schema, field)));
    }
    if matches!(emit, Emit::Decisions | Emit::Hits) {
        fields.push(Field::new("row", DataType::UInt64, false));
        for (name, field) in [("id", schema.id), ("tenant", schema.tenant)] {
            if let Some(field) = field {
                fields.push(windows::output_field(name, schema, field));
            }
        }
    }
    match emit {
        Emit::Decisions => {
            let list = |name: &str| Field::new(name, DataType::List(Arc::new(Field::new("item", DataType::Utf8, false))), false);
            fields.push(Field::new("score", DataType::Decimal128(18, 3), false));
            fields.extend([text("action"), list("rules"), list("shadow_rules"), text("generation")]);
        }
        Emit::Hits => fields.push(text("rule")),
        Emit::Counts => fields.extend([text("rule"), Field::new("hits", DataType::UInt64, false)]),
        Emit::Findings => return findings::schema(),
        Emit::Windows | Emit::None => {}
    }
    Arc::new(ArrowSchema::new(fields))
}

fn counts_batch(artifact: &Artifact, counts: &[u64], rules: std::ops::Range<usize>, schema: &SchemaRef) -> Result<RecordBatch, String> {
    let names = StringArray::from_iter_values(rules.clone().map(|rule| artifact.rule_name(crate::id::RuleId::new(rule))));
    let columns: Vec<ArrayRef> = vec![Arc::new(names), Arc::new(UInt64Array::from_iter_values(counts[rules].iter().copied()))];
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(|error| error.to_string())
}

impl Summary {
    /// Takes the results of one batch: writes them, and adds them up.
    fn take(
        &mut self,
        done: Done,
        writer: &mut Option<ResultWriter>,
        rejects: &mut Option<ResultWriter>,
        progress: &mut dyn Progress,
        total: Option<u64>,
    ) -> Result<(), Failure> {
        done.warnings.iter().for_each(|warning| progress.warning(warning));
        if let (Some(writer), Some(output)) = (writer, done.output) {
            writer.write(&output?)?;
        }
        if !done.rejects.is_empty() {
            self.rejected += done.rejects.len() as u64;
            if let Some(rejects) = rejects {
                rejects.write(&reject_batch(&done.rejects).map_err(|error| error.to_string())?)?;
            }
        }
        self.rows += done.rows as u64;
        self.hits += done.hits.rules.len() as u64;
        decide::count(&done.hits, &mut self.counts);
        done.decisions.actions.iter().for_each(|action| self.actions[usize::from(*action)] += 1);
        if let Some(labels) = &mut self.labels {
            labels.take(&done.labels, &done.decisions, &done.hits);
        }
        self.times.encode += done.times.encode;
        self.times.matching += done.times.matching;
        self.times.decide += done.times.decide + done.times.write;
        progress.rows(self.rows, done.bytes_read, total);
        Ok(())
    }
}

impl Summary {
    /// What the live rules of each outcome add up to: every hit of a rule counts its score once.
    fn sum_outcomes(&mut self) {
        for (record, count) in self.artifact.rules().iter().zip(&self.counts) {
            if record.outcome != NONE && record.status == decide::LIVE && *count > 0 {
                let outcome = self.artifact.name(record.outcome).to_owned();
                *self.outcomes.entry(outcome).or_default() += i128::from(record.score) * i128::from(*count);
            }
        }
    }
}

impl Labels {
    fn take(&mut self, labels: &[Option<bool>], decisions: &Decisions, hits: &Hits) {
        for (row, label) in labels.iter().enumerate() {
            match (label, decisions.actions[row] > 0) {
                (Some(true), true) => self.flagged_true += 1,
                (Some(true), false) => self.missed += 1,
                (Some(false), true) => self.flagged_false += 1,
                (Some(false), false) => {}
                (None, _) => self.unknown += 1,
            }
            if *label == Some(true) {
                hits.row(row).iter().for_each(|rule| self.true_hits[rule.index()] += 1);
            }
        }
    }

    /// True among the flagged.
    #[must_use]
    pub fn precision(&self) -> Option<f64> {
        ratio(self.flagged_true, self.flagged_true + self.flagged_false)
    }

    /// Flagged among the true: the share that is caught.
    #[must_use]
    pub fn recall(&self) -> Option<f64> {
        ratio(self.flagged_true, self.flagged_true + self.missed)
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// The default of `--threads`.
#[must_use]
pub fn all_cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
