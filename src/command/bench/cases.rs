//! What is matched: compiled rules, and events in batches.

use super::{Failure, Options, Subject};
use crate::engine::Generation;
use crate::event::{EventBatch, Schema};
use crate::flow::Hits;
use crate::rule::Rule;
use crate::tables::Artifact;
use crate::tables::artifact::Section;
use crate::workload::packets::{self, Answer, Filter};
use crate::workload::{Generator, Settings, canonical, compiled, events, rules};
use arrow::compute::concat_batches;
use arrow::record_batch::{RecordBatch, RecordBatchReader};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pairs of an event and a rule that slow back ends look at.
const FEW_PAIRS: usize = 1 << 22;

/// Events at least and at most that slow back ends look at.
const FEW: std::ops::RangeInclusive<usize> = 16..=4096;

/// Events that are matched alone.
const SINGLES: usize = 1000;

/// Sections that matching does not read.
const NOT_MATCHED: [Section; 7] = [
    Section::Manifest,
    Section::Rules,
    Section::NameOffsets,
    Section::NameBytes,
    Section::Tags,
    Section::SourceOffsets,
    Section::SourceBytes,
];

/// Rules ready to match, and events.
pub(super) struct Case {
    pub name: String,
    pub artifact: Arc<Artifact>,
    pub generation: Generation,
    pub batches: Vec<EventBatch>,
    /// The first events, for back ends that are slow.
    pub few: EventBatch,
    /// Events one by one.
    pub singles: Vec<EventBatch>,
    /// Rules to an artifact.
    pub compile: Duration,
    /// The artifact checked, and look-up tables made.
    pub open: Duration,
    /// One for each event, where they are known.
    answers: Option<Vec<Answer>>,
}

impl Case {
    fn new(name: &str, rules: Vec<Rule>, schema: &Schema, options: &Options) -> Result<Self, Failure> {
        let start = Instant::now();
        let bytes = compiled(rules.into_iter(), schema, options.threads).map_err(Failure::Diagnostics)?;
        let compile = start.elapsed();
        let artifact = Arc::new(Artifact::from_bytes(&bytes)?);
        let generation = Generation::new(Arc::clone(&artifact))?;
        let open = start.elapsed() - compile;
        let few = EventBatch::new(schema, 0, 0, vec![None; schema.fields().len()]);
        Ok(Self {
            name: name.to_owned(),
            artifact,
            generation,
            batches: Vec::new(),
            few,
            singles: Vec::new(),
            compile,
            open,
            answers: None,
        })
    }

    /// Cuts chunks of events into batches.
    fn with_events(mut self, chunks: &[RecordBatch], options: &Options) -> Result<Self, String> {
        let schema = self.artifact.schema();
        let mut first = 0;
        for chunk in chunks {
            for at in (0..chunk.num_rows()).step_by(options.batch) {
                let rows = options.batch.min(chunk.num_rows() - at);
                self.batches.push(canonical(schema, first + at, &chunk.slice(at, rows))?);
            }
            first += chunk.num_rows();
        }
        if let Some(chunk) = chunks.first() {
            let few = (FEW_PAIRS / self.artifact.rules().len().max(1)).clamp(*FEW.start(), *FEW.end());
            self.few = canonical(schema, 0, &chunk.slice(0, few.min(chunk.num_rows())))?;
        }
        Ok(self)
    }

    pub fn events(&self) -> usize {
        self.batches.iter().map(EventBatch::rows).sum()
    }

    /// Whether the answers are known from elsewhere.
    pub const fn has_answers(&self) -> bool {
        self.answers.is_some()
    }

    /// Bytes of the artifact that matching reads.
    pub fn table_bytes(&self) -> usize {
        self.artifact.sizes().1.iter().filter(|(section, _)| !NOT_MATCHED.contains(section)).map(|(_, bytes)| bytes).sum()
    }

    /// Compares hits of the events from `first` on with what is known of them.
    ///
    /// # Errors
    /// The first event whose answer is another.
    pub fn verdicts(&self, backend: &str, first: usize, hits: &Hits) -> Result<(), String> {
        let Some(known) = &self.answers else { return Ok(()) };
        let found = packets::answers(hits);
        match found.iter().zip(&known[first..]).position(|(found, known)| found != known) {
            None => Ok(()),
            Some(at) => Err(format!(
                "{}: header {}: {backend} gives {:?} (first match, matches, sum of indices), and {:?} is right",
                self.name,
                first + at,
                found[at],
                known[first + at]
            )),
        }
    }
}

/// The cases of a run, one after the other: only one is in memory.
pub(super) enum Cases {
    Generated(Option<Settings>),
    Filters(VecDeque<Filter>),
}

impl Cases {
    /// # Errors
    /// Files that cannot be read, or are none of filters.
    pub fn open(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Self, Failure> {
        match options.workload {
            Subject::Generated(workload) => Ok(Self::Generated(Some(Settings { workload, tenants: options.tenants() }))),
            Subject::Changes => Err("W5 has no cases".to_owned().into()),
            Subject::Packets => {
                progress("reading filters");
                let [rules, headers] = ["rules.parquet", "headers.parquet"].map(|name| read(&options.data.join(name)));
                let mut filters = packets::filters(&rules?, &headers?).map_err(|why| format!("{}: {why}", options.data.display()))?;
                filters.retain(|filter| !filter.answers.is_empty());
                if filters.is_empty() {
                    return Err(format!("{}: there are no headers for any of the filters", options.data.display()).into());
                }
                Ok(Self::Filters(filters.into()))
            }
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Generated(_) => 1,
            Self::Filters(filters) => filters.len(),
        }
    }

    /// # Errors
    /// Errors in rules or events; generated ones have none.
    pub fn next(&mut self, options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Option<Case>, Failure> {
        match self {
            Self::Generated(settings) => settings.take().map(|settings| generated(settings, options, progress)).transpose(),
            Self::Filters(filters) => {
                let Some(filter) = filters.pop_front() else { return Ok(None) };
                progress(&format!("{}: compiling", filter.name));
                let schema = packets::schema();
                let mut case =
                    Case::new(&filter.name, filter.rules, &schema, options)?.with_events(std::slice::from_ref(&filter.headers), options)?;
                let singles = SINGLES.min(filter.headers.num_rows());
                case.singles = (0..singles).map(|row| canonical(&schema, row, &filter.headers.slice(row, 1))).collect::<Result<_, _>>()?;
                case.answers = Some(filter.answers);
                Ok(Some(case))
            }
        }
    }
}

fn generated(settings: Settings, options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Case, Failure> {
    let (name, schema) = (settings.workload.name(), settings.workload.schema());
    progress(&format!("{name}: drawing rules"));
    let rules = rules(settings, options.rules);
    progress(&format!("{name}: compiling"));
    let case = Case::new(name, rules, &schema, options)?;
    progress(&format!("{name}: drawing events"));
    let mut case = case.with_events(&events(settings, options.events), options)?;
    let mut generator = Generator::events(settings);
    case.singles =
        (0..SINGLES.min(options.events)).map(|event| canonical(&schema, event, &generator.batch(event, 1))).collect::<Result<_, _>>()?;
    Ok(case)
}

/// A Parquet file as one batch.
fn read(path: &Path) -> Result<RecordBatch, String> {
    let fault = |why: String| format!("{}: {why}", path.display());
    let file = File::open(path)
        .map_err(|error| fault(format!("cannot be read: {error}; W4 needs --data FOLDER with rules.parquet and headers.parquet")))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(ParquetRecordBatchReaderBuilder::build);
    let reader = reader.map_err(|error| fault(error.to_string()))?;
    let schema = RecordBatchReader::schema(&reader);
    let batches = reader.collect::<Result<Vec<_>, _>>().map_err(|error| fault(error.to_string()))?;
    concat_batches(&schema, &batches).map_err(|error| fault(error.to_string()))
}
