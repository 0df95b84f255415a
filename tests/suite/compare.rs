//! The one comparison that all differential tests, and all planted faults, go through: every back end against the reference.

use dynamic_cep::compile::{Context, compile};
use dynamic_cep::decide::{Decisions, decide};
use dynamic_cep::engine::Generation;
use dynamic_cep::event::{EventBatch, Schema};
use dynamic_cep::expr::columns::Cache;
use dynamic_cep::flow::{EncodedBatch, Hits};
use dynamic_cep::id::RuleId;
use dynamic_cep::matcher::cpu::{self, Isa, Visit};
use dynamic_cep::matcher::{Found, plain};
use dynamic_cep::reference::Reference;
use dynamic_cep::rule::lists::Lists;
use dynamic_cep::rule::{Action, Diagnostic, Limits, Rule, Status};
use dynamic_cep::tables::{Artifact, MatchTables};
use std::fmt::Write;
use std::sync::Arc;

/// The artifact of these rules.
///
/// # Panics
/// When they do not compile: generators write valid rules.
pub fn artifact_of(schema: &Schema, rules: &[Rule], limits: &Limits, threads: usize) -> Vec<u8> {
    let lists = Lists::default();
    let compiled = compile(rules.iter().cloned(), &Context { schema, lists: &lists, limits, threads });
    compiled.artifact.unwrap_or_else(|| {
        let error = compiled.diagnostics.iter().find(|diagnostic| diagnostic.is_error()).map(Diagnostic::to_string);
        let rule = compiled.diagnostics.iter().find(|diagnostic| diagnostic.is_error()).and_then(|diagnostic| diagnostic.rule.clone());
        let text = rules.iter().find(|rule_of| Some(&rule_of.id) == rule.as_ref()).map(|rule| rule.when.clone());
        panic!("a generated rule does not compile: {error:?}\n{text:?}")
    })
}

/// A way to what a batch matches.
pub type Match<'a> = Box<dyn FnMut(&MatchTables, &EncodedBatch) -> Found + 'a>;

/// What finds the hits that are compared with the reference's; tests that plant a fault replace a part of it.
pub struct Engines<'a> {
    pub generation: Generation,
    pub matchers: Vec<(&'static str, Match<'a>)>,
    /// Changes the codes before they are matched.
    pub edit: fn(&MatchTables, &mut EncodedBatch),
}

impl<'a> Engines<'a> {
    /// Every back end on the CPU.
    pub fn on_cpu(artifact: &[u8]) -> Self {
        let artifact = Arc::new(Artifact::from_bytes(artifact).expect("what was compiled can be opened"));
        let generation = Generation::new(artifact).expect("what was compiled has well-formed residuals");
        Self { generation, matchers: cpu_matchers(), edit: |_, _| () }
    }

    /// The same and the GPU.
    #[cfg(feature = "gpu")]
    pub fn with_gpu(artifact: &[u8], gpu: &Arc<dynamic_cep::matcher::gpu::Gpu>) -> Self {
        let mut engines = Self::on_cpu(artifact);
        let tables = engines.generation.artifact().tables();
        let mut matcher = dynamic_cep::matcher::gpu::GpuMatcher::new(Arc::clone(gpu), &tables).expect("the tables fit on the GPU");
        let find =
            move |tables: &MatchTables, batch: &EncodedBatch| Found::of(tables, &matcher.candidates(batch).expect("the GPU answers"));
        engines.matchers.push(("gpu", Box::new(find)));
        engines
    }
}

/// The definition, the matcher for this CPU, the same by every instruction set that it has, and in the two halves that routing may send to different back ends.
pub fn cpu_matchers<'a>() -> Vec<(&'static str, Match<'a>)> {
    let mut matchers: Vec<(&'static str, Match<'a>)> = vec![
        ("plain", Box::new(|tables, batch| Found::of(tables, &plain::candidates(tables, batch)))),
        ("cpu", Box::new(|tables, batch| cpu::rules(tables, batch, Visit::Both))),
        (
            "halves",
            Box::new(|tables, batch| {
                let mut common = batch.clone();
                common.partitions.fill(0);
                let mut found = cpu::rules(tables, &common, Visit::Both);
                let mut own = cpu::rules(tables, batch, Visit::Tenants);
                found.rules.append(&mut own.rules);
                found.open.append(&mut own.open);
                found
            }),
        ),
    ];
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let name = match isa {
            Isa::Avx512 => "AVX-512",
            Isa::Avx2 => "AVX2",
            Isa::Portable => "portable",
        };
        let find = move |tables: &MatchTables, batch: &EncodedBatch| {
            let mut found = Vec::new();
            cpu::candidates_by(isa, tables, batch, Visit::Both, &mut found);
            Found::of(tables, &found)
        };
        matchers.push((name, Box::new(find)));
    }
    matchers
}

/// Where a back end and the reference differ.
#[derive(Debug)]
pub struct Difference {
    pub engine: &'static str,
    pub row: usize,
    /// Found by one of the two only; `None` where the hits agree and the decisions do not.
    pub rule: Option<RuleId>,
    pub expected: Hits,
    pub found: Hits,
}

/// The first difference between the reference, which reads `rules` and `reference`, and the engines; or the number of hits.
pub fn compare(rules: &[Rule], reference: &Reference, engines: &mut Engines, batch: &EventBatch) -> Result<usize, Box<Difference>> {
    let expected = reference.hits(batch);
    let generation = &engines.generation;
    let artifact = generation.artifact();
    let mut cache = Cache::new();
    let mut encoded = generation.encode(batch, &mut cache);
    (engines.edit)(&artifact.tables(), &mut encoded);
    for (engine, matcher) in &mut engines.matchers {
        let found = matcher(&artifact.tables(), &encoded);
        let found = generation.verify(batch, found, &mut cache);
        assert_eq!(found.rows(), batch.rows());
        if found != expected {
            let row = (0..batch.rows()).find(|row| found.row(*row) != expected.row(*row)).unwrap_or(0);
            let (a, b) = (expected.row(row), found.row(row));
            let rule = a.iter().find(|rule| !b.contains(rule)).or_else(|| b.iter().find(|rule| !a.contains(rule))).copied();
            return Err(Box::new(Difference { engine, row, rule, expected, found }));
        }
        let decisions = decide(&found, artifact.rules());
        if let Some(row) = (0..batch.rows()).find(|row| !decides(rules, &expected, *row, &decisions)) {
            return Err(Box::new(Difference { engine, row, rule: None, expected, found }));
        }
    }
    Ok(expected.rules.len())
}

/// Whether the decision on a row is what the rules say, worked out from their sources.
fn decides(rules: &[Rule], hits: &Hits, row: usize, decisions: &Decisions) -> bool {
    let of = |status: Status| hits.row(row).iter().copied().filter(move |rule| rules[rule.index()].status == status);
    let score: i128 = of(Status::Live).map(|rule| i128::from(rules[rule.index()].score)).sum();
    let action = of(Status::Live).map(|rule| rules[rule.index()].action).max().unwrap_or(Action::Allow);
    let actions = [Action::Allow, Action::Review, Action::Challenge, Action::Block];
    i128::from(decisions.scores[row]) == score.clamp(i128::from(i64::MIN), i128::from(i64::MAX))
        && actions[usize::from(decisions.actions[row])] == action
        && decisions.rules.row(row) == of(Status::Live).collect::<Vec<_>>()
        && decisions.shadow_rules.row(row) == of(Status::Shadow).collect::<Vec<_>>()
}

/// The reference of an artifact.
pub fn reference_of(artifact: &[u8]) -> Reference {
    let artifact = Artifact::from_bytes(artifact).expect("what was compiled can be opened");
    Reference::new(&artifact).expect("canonical texts parse")
}

/// The difference in words: rule, event, both answers, and whether the rule alone shows it, too.
pub fn explain(schema: &Schema, rules: &[Rule], batch: &EventBatch, difference: &Difference) -> String {
    let mut text = format!("`{}` differs from the reference in row {}\n", difference.engine, difference.row);
    let (expected, found) = (difference.expected.row(difference.row), difference.found.row(difference.row));
    let _ = writeln!(text, "expected {expected:?}\n   found {found:?}");
    for (field, value) in schema.fields().iter().zip(batch.row(schema, difference.row)) {
        let _ = writeln!(text, "    {} = {value:?}", field.name);
    }
    let Some(rule) = difference.rule else { return text + "the decisions differ" };
    let rule = &rules[rule.index()];
    let _ = writeln!(text, "rule {} of tenant {:?}, {:?}:\n{}", rule.id, rule.tenant, rule.status, rule.when);
    let alone = std::slice::from_ref(rule);
    let artifact = artifact_of(schema, alone, &Limits::default(), 1);
    let mut engines = Engines::on_cpu(&artifact);
    let row = row_of(schema, batch, difference.row);
    let alone = match compare(alone, &reference_of(&artifact), &mut engines, &row) {
        Ok(_) => "the rule alone, on the CPU, agrees on this row".to_owned(),
        Err(difference) => format!("the rule alone differs on this row, too, in `{}`", difference.engine),
    };
    let canonical = Artifact::from_bytes(&artifact).and_then(|artifact| artifact.source(RuleId(0)));
    let _ = writeln!(text, "canonical: {}\n{alone}", canonical.unwrap_or_default());
    text
}

/// One row as a batch of its own.
pub fn row_of(schema: &Schema, batch: &EventBatch, row: usize) -> EventBatch {
    part_of(schema, batch, row, 1)
}

/// Rows from `first` on as a batch of their own.
pub fn part_of(schema: &Schema, batch: &EventBatch, first: usize, rows: usize) -> EventBatch {
    let columns = (0..schema.fields().len())
        .map(|field| batch.column(dynamic_cep::id::FieldId::new(field)).map(|column| column.slice(first, rows)))
        .collect();
    EventBatch::new(schema, first as u64, rows, columns)
}
