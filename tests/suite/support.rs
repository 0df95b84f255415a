//! What the suites share: rules compiled, events read, and each back end asked.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int64Type, UInt64Type};
use dynamic_cep::command::Failure;
use dynamic_cep::command::sources::{self, Named, SchemaSources};
use dynamic_cep::connector::source::EventSource;
use dynamic_cep::engine::Generation;
use dynamic_cep::event::EventBatch;
use dynamic_cep::expr::columns::Cache;
use dynamic_cep::flow::Hits;
use dynamic_cep::id::FieldId;
#[cfg(feature = "gpu")]
use dynamic_cep::matcher::Found;
use dynamic_cep::matcher::cpu::{self, Visit};
use dynamic_cep::reference::Reference;
use dynamic_cep::tables::Artifact;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A path inside the project.
pub fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Compiles rule files or a pack; what is wrong with them fails the test.
pub fn compile(rules: &Path, schema: Option<&Path>) -> Vec<u8> {
    let Named::Rules { files, schema: pack, events } = Named::look(&[rules.to_path_buf()]).map_err(told).expect("rules") else {
        panic!("{} is an artifact", rules.display())
    };
    let compiled = sources::compile(&files, pack.as_deref(), SchemaSources { given: schema, events: &events }, 2).map_err(told);
    let compiled = compiled.expect("rules that can be read");
    let errors: Vec<String> = compiled.diagnostics.iter().filter(|found| found.is_error()).take(5).map(ToString::to_string).collect();
    compiled.artifact.unwrap_or_else(|| panic!("{}: {}", rules.display(), errors.join("\n")))
}

/// A failure as text.
pub fn told(failure: Failure) -> String {
    match failure {
        Failure::Message(message) => message,
        Failure::Closed => "closed".to_owned(),
        Failure::Diagnostics(diagnostics) => diagnostics.iter().map(|diagnostic| format!("{diagnostic}\n")).collect(),
    }
}

/// All events of a file, with every column, in batches of `batch_rows`.
pub fn events(artifact: &Artifact, file: &Path, batch_rows: usize) -> Vec<EventBatch> {
    let schema = artifact.schema();
    let every: Vec<FieldId> = (0..schema.fields().len()).map(FieldId::new).collect();
    let source = EventSource::open(&[file.to_string_lossy().into_owned()], Some(schema)).expect("events");
    let read = |batch: Result<dynamic_cep::connector::source::ReadBatch, _>| {
        let batch = batch.expect("a batch of events");
        assert!(batch.rejects.is_empty(), "{}: {:?}", file.display(), batch.rejects);
        batch.batch
    };
    source.read(&every, batch_rows, true).map(read).collect()
}

/// A column of whole numbers.
pub fn integers(artifact: &Artifact, batch: &EventBatch, field: &str) -> Vec<i64> {
    let field = artifact.schema().find(field).expect("a field");
    let column = batch.column(field).expect("a column");
    assert_eq!(column.null_count(), 0);
    match column.as_primitive_opt::<Int64Type>() {
        Some(column) => column.values().to_vec(),
        None => column.as_primitive::<UInt64Type>().values().iter().map(|value| *value as i64).collect(),
    }
}

/// Rules in service on one back end.
pub struct Backend {
    pub name: &'static str,
    artifact: Arc<Artifact>,
    generation: Generation,
    how: How,
}

enum How {
    Reference(Reference),
    Cpu,
    #[cfg(feature = "gpu")]
    Gpu(Box<std::cell::RefCell<dynamic_cep::matcher::gpu::GpuMatcher>>),
}

impl Backend {
    fn new(name: &'static str, artifact: &Arc<Artifact>, how: How) -> Self {
        let generation = Generation::new(Arc::clone(artifact)).expect("a sound artifact");
        Self { name, artifact: Arc::clone(artifact), generation, how }
    }

    pub fn reference(artifact: &Arc<Artifact>) -> Self {
        Self::new("reference", artifact, How::Reference(Reference::new(artifact).expect("canonical texts that parse")))
    }

    pub fn cpu(artifact: &Arc<Artifact>) -> Self {
        Self::new("cpu", artifact, How::Cpu)
    }

    /// The GPU; `None`, and a line that says so, where the machine has none.
    #[cfg(feature = "gpu")]
    pub fn gpu(artifact: &Arc<Artifact>, test: &str) -> Option<Self> {
        use dynamic_cep::matcher::gpu::{GpuMatcher, testing::gpu_or_skip};
        let matcher = GpuMatcher::new(gpu_or_skip(test)?, &artifact.tables()).expect("tables on the device");
        Some(Self::new("gpu", artifact, How::Gpu(Box::new(std::cell::RefCell::new(matcher)))))
    }

    #[cfg(not(feature = "gpu"))]
    pub fn gpu(_: &Arc<Artifact>, test: &str) -> Option<Self> {
        eprintln!("skipped: {test}: built without the feature `gpu`");
        None
    }

    /// Reference, CPU, and the GPU where there is one.
    pub fn all(artifact: &Arc<Artifact>, test: &str) -> Vec<Self> {
        [Self::reference(artifact), Self::cpu(artifact)].into_iter().chain(Self::gpu(artifact, test)).collect()
    }

    pub fn hits(&self, batch: &EventBatch) -> Hits {
        let mut cache = Cache::default();
        let encoded = self.generation.encode(batch, &mut cache);
        let tables = self.artifact.tables();
        let found = match &self.how {
            How::Reference(reference) => return reference.hits(batch),
            How::Cpu => cpu::rules(&tables, &encoded, Visit::Both),
            #[cfg(feature = "gpu")]
            How::Gpu(matcher) => Found::of(&tables, &matcher.borrow_mut().candidates(&encoded).expect("an answer of the device")),
        };
        self.generation.verify(batch, found, &mut cache)
    }
}

/// Where a service is that a test needs. `None`: the environment does not say, which is told, and is a failure where DYNAMIC_CEP_SERVICES is `require`.
#[cfg(feature = "service")]
pub fn service_at(variable: &str, test: &str) -> Option<String> {
    let place = std::env::var(variable).ok().filter(|place| !place.is_empty());
    if place.is_none() {
        let required = std::env::var("DYNAMIC_CEP_SERVICES").is_ok_and(|services| services == "require");
        assert!(!required, "{test}: {variable} does not say where the service is, and DYNAMIC_CEP_SERVICES=require");
        eprintln!("{test}: skipped, {variable} does not say where the service is (tests/services starts one)");
    }
    place
}
