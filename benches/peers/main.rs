//! Other people's engines beside ours, on F1 and F2, in one run on one thread: the same rules, the same events, and answers that are compared before anything is timed.
//!
//! Each is used as its documentation says, with the rules of a tenant apart from those of others (a tree or a list of programs for each tenant, a join on the tenant), since
//! that is what anybody would do. An engine that is slow looks at as many events as it can in a few seconds.

mod condition;
mod duckdb;

use a_tree::{ATree, AttributeDefinition};
use arrow::record_batch::RecordBatch;
use clap::Parser;
use condition::Test;
use dynamic_cep::engine::Generation;
use dynamic_cep::engine::router::{Choice, Router};
use dynamic_cep::event::{EventBatch, Schema, Type, Value};
use dynamic_cep::expr::columns::Cache;
use dynamic_cep::id::FieldId;
use dynamic_cep::reference::Reference;
use dynamic_cep::rule::Rule;
use dynamic_cep::tables::Artifact;
use dynamic_cep::workload::{Fingerprint, Workload, canonical, compiled, events, rules};
use std::collections::HashMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Events that every peer is given; the slow ones stop before.
const EVENTS: usize = 8192;

/// Events that are matched at a time by those that take batches.
const BATCH: usize = 1024;

/// Time of a peer for its answers, and for its figures.
const CHECKING: Duration = Duration::from_secs(1);
const TIMING: Duration = Duration::from_secs(3);

/// A tree of more rules takes longer to build than the rest of the run together.
const TREE_RULES_MAX: usize = 100_000;

/// Measure other engines beside ours
#[derive(Parser)]
struct Arguments {
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 100_000])]
    rules: Vec<usize>,
    #[arg(long, value_delimiter = ',', default_values_t = [Workload::F1, Workload::F2].map(|workload| workload.name().to_owned()))]
    workloads: Vec<String>,
    /// Append the figures to this CSV file
    #[arg(long)]
    csv: Option<PathBuf>,
    /// What the file is to say of this machine
    #[arg(long, default_value = "")]
    machine: String,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// Rules and events as the peers are given them.
pub struct Problem {
    workload: Workload,
    rules: Vec<Rule>,
    /// What each condition tests, all of which must hold.
    conditions: Vec<Vec<Test>>,
    schema: Schema,
    chunk: RecordBatch,
    batches: Vec<EventBatch>,
    /// The values of each event.
    rows: Vec<Vec<Value>>,
}

/// What came of a peer.
struct Figures {
    peer: &'static str,
    events: usize,
    hits: u64,
    events_per_s: f64,
    build: Duration,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    for workload in &arguments.workloads {
        for count in &arguments.rules {
            let problem = Problem::new(workload.parse()?, *count);
            eprintln!("\n{workload}, {count} rules, {EVENTS} events, one thread");
            eprintln!("{:<12} {:>8} {:>10} {:>14} {:>14} {:>10}", "", "events", "hits/event", "events/s", "ns/event", "build s");
            let mut right = Answers::default();
            let mut all = vec![ours(&problem, &mut right)?, naive(&problem, &right)?, cel(&problem, &right)?];
            if *count <= TREE_RULES_MAX {
                all.push(a_tree(&problem, &right)?);
            }
            match duckdb::find() {
                Some(program) => all.push(duckdb::figures(&program, &problem, &right)?),
                None => eprintln!("{:<12} not here: neither a program `duckdb` nor the Python module", "duckdb"),
            }
            if let Some(path) = &arguments.csv {
                append(path, &arguments.machine, &problem, &all)?;
            }
        }
    }
    Ok(())
}

impl Problem {
    fn new(workload: Workload, count: usize) -> Self {
        let schema = workload.schema();
        let rules = rules(workload, count);
        let conditions = rules.iter().map(|rule| condition::tests(&rule.when, &schema)).collect();
        let chunk = events(workload, EVENTS).remove(0);
        let batches: Vec<EventBatch> = (0..EVENTS)
            .step_by(BATCH)
            .map(|at| canonical(&schema, at, &chunk.slice(at, BATCH.min(EVENTS - at))).expect("events of the schema"))
            .collect();
        let rows = batches.iter().flat_map(|batch| (0..batch.rows()).map(|row| batch.row(&schema, row))).collect();
        Self { workload, rules, conditions, schema, chunk, batches, rows }
    }

    fn has_tenants(&self) -> bool {
        self.workload == Workload::F1
    }

    /// The numbers of the rules of each tenant; `""` is everybody.
    fn rules_by_tenant(&self) -> HashMap<&str, Vec<u32>> {
        let mut by_tenant: HashMap<&str, Vec<u32>> = HashMap::new();
        for (rule, number) in self.rules.iter().zip(0..) {
            by_tenant.entry(rule.tenant.as_deref().unwrap_or("")).or_default().push(number);
        }
        by_tenant
    }

    /// Whose rules look at an event.
    fn tenant(&self, event: usize) -> &str {
        match (&self.rows[event][self.schema.find("tenant").expect("a field").index()], self.has_tenants()) {
            (Value::Text(tenant), true) => tenant,
            _ => "",
        }
    }

    /// The fields that conditions may name.
    fn fields(&self) -> impl Iterator<Item = (usize, &str, Type)> {
        self.schema
            .fields()
            .iter()
            .enumerate()
            .filter(|(_, field)| field.name != "tenant" && field.name != "event")
            .map(|(index, field)| (index, field.name.as_str(), field.ty))
    }
}

/// The right answer of the first events, for any number of them.
#[derive(Default)]
pub struct Answers(Vec<Fingerprint>);

impl Answers {
    /// Fails the run where the hits of the first events are others.
    fn hold(&self, peer: &str, events: usize, found: Fingerprint) {
        assert_eq!(found, self.0[events], "{peer} gives other answers for the first {events} events");
    }
}

/// Times the hits of one event after the other; answers are compared first.
fn one_by_one(peer: &'static str, build: Duration, right: &Answers, mut hits: impl FnMut(usize, &mut Vec<u32>)) -> Figures {
    let mut found = Vec::new();
    let mut answer = Fingerprint::default();
    let start = Instant::now();
    let mut events = 0;
    while events < EVENTS && start.elapsed() < CHECKING {
        found.clear();
        hits(events, &mut found);
        found.iter().for_each(|rule| answer.add(events as u64, *rule));
        events += 1;
    }
    right.hold(peer, events, answer);
    let seconds = fastest(|| {
        for event in 0..events {
            found.clear();
            hits(event, &mut found);
            std::hint::black_box(&found);
        }
    });
    shown(Figures { peer, events, hits: answer.hits, events_per_s: events as f64 / seconds, build })
}

/// Seconds of the fastest pass: whatever else a machine does only ever makes one slower.
fn fastest(mut pass: impl FnMut()) -> f64 {
    let mut fastest = f64::INFINITY;
    let start = Instant::now();
    while start.elapsed() < TIMING || fastest.is_infinite() {
        let start = Instant::now();
        pass();
        fastest = fastest.min(start.elapsed().as_secs_f64());
    }
    fastest
}

fn shown(figures: Figures) -> Figures {
    eprintln!(
        "{:<12} {:>8} {:>10.2} {:>14.1} {:>14.0} {:>10.2}",
        figures.peer,
        figures.events,
        figures.hits as f64 / figures.events as f64,
        figures.events_per_s,
        1e9 / figures.events_per_s,
        figures.build.as_secs_f64()
    );
    figures
}

/// The CPU back end: columns to hits.
fn ours(problem: &Problem, right: &mut Answers) -> Result<Figures, Box<dyn Error>> {
    let start = Instant::now();
    let bytes = compiled(problem.rules.iter().cloned(), &problem.schema, 1).map_err(|wrong| wrong[0].to_string())?;
    let artifact = Arc::new(Artifact::from_bytes(&bytes)?);
    let generation = Generation::new(Arc::clone(&artifact))?;
    let router = Router::new(artifact, Choice::Cpu)?;
    let build = start.elapsed();
    let hits = |batch: &EventBatch| {
        let mut cache = Cache::default();
        let encoded = generation.encode(batch, &mut cache);
        generation.verify(batch, router.find(&encoded), &mut cache)
    };
    let mut answer = Fingerprint::default();
    right.0.push(answer);
    for batch in &problem.batches {
        let hits = hits(batch);
        for row in 0..batch.rows() {
            hits.row(row).iter().for_each(|rule| answer.add(batch.row_number(row), rule.0));
            right.0.push(answer);
        }
    }
    let seconds = fastest(|| {
        for batch in &problem.batches {
            std::hint::black_box(hits(batch));
        }
    });
    Ok(shown(Figures { peer: "dynamic-cep", events: EVENTS, hits: answer.hits, events_per_s: EVENTS as f64 / seconds, build }))
}

/// Row by row and rule by rule: the reference back end.
fn naive(problem: &Problem, right: &Answers) -> Result<Figures, Box<dyn Error>> {
    let bytes = compiled(problem.rules.iter().cloned(), &problem.schema, 1).map_err(|wrong| wrong[0].to_string())?;
    let artifact = Artifact::from_bytes(&bytes)?;
    let start = Instant::now();
    let reference = Reference::new(&artifact)?;
    let build = start.elapsed();
    let alone: Vec<EventBatch> =
        (0..EVENTS).map(|event| canonical(&problem.schema, event, &problem.chunk.slice(event, 1))).collect::<Result<_, _>>()?;
    Ok(one_by_one("naive loop", build, right, |event, found| {
        found.extend(reference.hits(&alone[event]).rules.iter().map(|rule| rule.0));
    }))
}

/// CEL programs, one after the other; the variables of an event are set once.
fn cel(problem: &Problem, right: &Answers) -> Result<Figures, Box<dyn Error>> {
    let start = Instant::now();
    let mut programs: HashMap<&str, Vec<(u32, ::cel::Program)>> = HashMap::new();
    for (tenant, numbers) in problem.rules_by_tenant() {
        for number in numbers {
            let text = condition::cel(&problem.conditions[number as usize]);
            programs.entry(tenant).or_default().push((number, ::cel::Program::compile(&text)?));
        }
    }
    let build = start.elapsed();
    let mut context = ::cel::Context::default();
    Ok(one_by_one("cel", build, right, |event, found| {
        for (index, name, _) in problem.fields() {
            match &problem.rows[event][index] {
                Value::Int(number) => context.add_variable_from_value(name, *number),
                Value::Float(number) => context.add_variable_from_value(name, *number),
                Value::Text(text) => context.add_variable_from_value(name, text.as_ref()),
                other => panic!("{name} is {other:?}, which no event of ours has"),
            }
        }
        for (number, program) in programs.get(problem.tenant(event)).into_iter().flatten() {
            if program.execute(&context) == Ok(::cel::Value::Bool(true)) {
                found.push(*number);
            }
        }
    }))
}

/// A-Trees: the expressions of a tenant share their parts.
fn a_tree(problem: &Problem, right: &Answers) -> Result<Figures, Box<dyn Error>> {
    let definitions: Vec<AttributeDefinition> = problem
        .fields()
        .map(|(_, name, ty)| match ty {
            Type::Text => AttributeDefinition::string(name),
            Type::Float => AttributeDefinition::float(name),
            _ => AttributeDefinition::integer(name),
        })
        .collect();
    let start = Instant::now();
    let mut trees: HashMap<&str, ATree<u32>> = HashMap::new();
    for (tenant, numbers) in problem.rules_by_tenant() {
        let mut tree = ATree::new(&definitions).map_err(|error| error.to_string())?;
        for number in numbers {
            let text = condition::a_tree(&problem.conditions[number as usize]);
            tree.insert(&number, &text).map_err(|error| format!("{text}: {error}"))?;
        }
        trees.insert(tenant, tree);
    }
    let build = start.elapsed();
    Ok(one_by_one("a-tree", build, right, |event, found| {
        let Some(tree) = trees.get(problem.tenant(event)) else { return };
        let mut builder = tree.make_event();
        for (index, name, _) in problem.fields() {
            let set = match &problem.rows[event][index] {
                Value::Int(number) => builder.with_integer(name, *number),
                // Amounts have two decimals.
                Value::Float(number) => builder.with_float(name, (number * 100.0).round() as i64, 2),
                Value::Text(text) => builder.with_string(name, text),
                other => panic!("{name} is {other:?}, which no event of ours has"),
            };
            set.expect("an attribute of its type");
        }
        let event = builder.build().expect("an event");
        found.extend(tree.search(&event).expect("a report").matches().iter().map(|number| **number));
    }))
}

/// Appends a line for each peer, after a head where the file is new.
fn append(path: &PathBuf, machine: &str, problem: &Problem, all: &[Figures]) -> Result<(), Box<dyn Error>> {
    let mut lines = String::new();
    if !path.exists() {
        lines.push_str("workload,rules,peer,events,hits_per_event,events_per_s,ns_per_event,build_s,machine\n");
    }
    for figures in all {
        writeln!(
            lines,
            "{},{},{},{},{:.3},{:.1},{:.0},{:.3},\"{machine}\"",
            problem.workload.name(),
            problem.rules.len(),
            figures.peer,
            figures.events,
            figures.hits as f64 / figures.events as f64,
            figures.events_per_s,
            1e9 / figures.events_per_s,
            figures.build.as_secs_f64()
        )?;
    }
    Ok(OpenOptions::new().create(true).append(true).open(path)?.write_all(lines.as_bytes())?)
}

/// The number of a field.
fn field_name(schema: &Schema, field: FieldId) -> &str {
    &schema.field(field).name
}
