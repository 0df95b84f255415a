//! What patterns ask of single rows: who matches it, for whole batches or row by row, does not matter to what they find.

use crate::forge::edited;
use crate::patterns::Run;
use crate::support::Backend;
use arrow::array::{ArrayRef, DictionaryArray, Int64Array, TimestampSecondArray};
use arrow::datatypes::Int32Type;
use dynamic_cep::compile::{Context, compile_typed};
use dynamic_cep::event::{EventBatch, Schema};
use dynamic_cep::flow::Hits;
use dynamic_cep::id::RuleId;
use dynamic_cep::rule::lists::Lists;
use dynamic_cep::rule::{Clause, Limits as RuleLimits, Origin, check};
use dynamic_cep::tables::Artifact;
use dynamic_cep::tables::artifact::Section;
use dynamic_cep::temporal::patterns::{Found, Limits, PatternRule, Patterns};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

const SCHEMA: &str = "fields: {at: timestamp(s), tenant: utf8, card: int64, amount: int64}\ntime: at\ntenant: tenant\n";
const RULES: i64 = 30;
const ROWS: u64 = 3000;

/// A pattern, and the tenant that it is of, if it is of one.
fn rule(number: i64) -> (String, Option<&'static str>) {
    let text = format!(
        "PARTITION BY card ORDER BY at MEASURES LAST(b.amount) AS last PATTERN (a+ b) WITHIN INTERVAL '5' MINUTE
         DEFINE a AS amount % 7 = {} AND amount > {number}, b AS b.amount > FIRST(a.amount) AND amount BETWEEN {} AND 90",
        number % 7,
        number * 2
    );
    (text, (number % 3 > 0).then_some(["x", "y"][number as usize % 2]))
}

/// Of row `at`, at second `at`: tenant, card and amount.
fn row(at: u64) -> (&'static str, i64, Option<i64>) {
    let random = (at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let amount = (!random.is_multiple_of(50)).then_some((random / 64 % 100).cast_signed());
    (["x", "y", "z"][random as usize % 3], (random / 8 % 5).cast_signed(), amount)
}

/// Through the program.
#[test]
fn back_ends_agree_on_the_conditions_of_patterns() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).expect("a file");
    let rule = |number| {
        let (text, tenant) = rule(number);
        let mut rule = json!({"id": format!("r{number}"), "match_recognize": text});
        tenant.into_iter().for_each(|tenant| rule["tenant"] = tenant.into());
        rule
    };
    let event = |at| {
        let (tenant, card, amount) = row(at);
        let at = format!("2026-01-01T{:02}:{:02}:{:02}Z", at / 3600, at / 60 % 60, at % 60);
        format!("{}\n", json!({"at": at, "tenant": tenant, "card": card, "amount": amount}))
    };
    write("schema.yaml", SCHEMA.to_owned());
    write("rules.json", json!({"schema": "schema.yaml", "rules": (0..RULES).map(rule).collect::<Vec<Value>>()}).to_string());
    write("events.ndjson", (0..ROWS).map(event).collect());
    let run = Run { folder };
    let judged = run.findings(&["--backend", "reference"]);
    let rules: BTreeSet<String> = judged.iter().map(|finding| finding["rule"].to_string()).collect();
    assert!(judged.len() > 100 && rules.len() > 20, "{} findings of {} rules", judged.len(), rules.len());
    #[cfg(feature = "gpu")]
    let gpu = dynamic_cep::matcher::gpu::testing::gpu_or_skip("back_ends_agree_on_the_conditions_of_patterns").is_some();
    #[cfg(not(feature = "gpu"))]
    let gpu = false;
    for back_end in ["cpu"].into_iter().chain(gpu.then_some("gpu")) {
        for batch_rows in ["1", "100", "4000"].into_iter().skip(usize::from(back_end == "gpu")) {
            let found = run.findings(&["--backend", back_end, "--batch-rows", batch_rows]);
            assert_eq!(found, judged, "{back_end}, batches of {batch_rows}");
        }
    }
}

/// The same patterns and rows, in memory.
struct Case {
    schema: Schema,
    rules: Vec<PatternRule>,
    batches: Vec<EventBatch>,
    /// The conditions, compiled.
    artifact: Vec<u8>,
}

impl Case {
    fn new() -> Self {
        let schema = Schema::parse("schema.yaml", SCHEMA.as_bytes()).expect("a schema");
        let (lists, limits) = (Lists::default(), RuleLimits::default());
        let scope = check::Scope { schema: &schema, lists: &lists, parameters: &[], limits: &limits, windows: &[] };
        let rules = (0..RULES).map(|number| {
            let (text, tenant) = rule(number);
            let pattern = check::pattern::pattern(&text, Clause::MatchRecognize, &Origin::default(), None, &scope);
            let pattern = Arc::new(pattern.unwrap_or_else(|problems| panic!("{text}: {}", problems[0])));
            PatternRule { rule: RuleId::new(number as usize), name: number.to_string().into(), tenant: tenant.map(Into::into), pattern }
        });
        let rules: Vec<PatternRule> = rules.collect();
        let batch = |first: u64| {
            let rows = || (first..first + 500).map(row);
            let columns: [ArrayRef; 4] = [
                Arc::new(TimestampSecondArray::from_iter_values((first..first + 500).map(u64::cast_signed))),
                Arc::new(rows().map(|(tenant, ..)| Some(tenant)).collect::<DictionaryArray<Int32Type>>()),
                Arc::new(rows().map(|(_, card, _)| Some(card)).collect::<Int64Array>()),
                Arc::new(rows().map(|(.., amount)| amount).collect::<Int64Array>()),
            ];
            EventBatch::new(&schema, first, 500, columns.into_iter().map(Some).collect())
        };
        let batches = (0..ROWS).step_by(500).map(batch).collect();
        let patterns = Patterns::new(schema.clone(), rules.clone(), 0, Limits::default());
        let context = Context { schema: &schema, lists: &lists, limits: &limits, threads: 1 };
        let conditions = patterns.conditions().all().iter().map(|condition| (condition.tenant.clone(), condition.expr.clone()));
        let artifact = compile_typed(conditions, &context).artifact.expect("conditions compile");
        Self { rules, batches, artifact, schema }
    }

    /// What is found where these conditions hold.
    fn findings(&self, holds: impl Fn(&Patterns, &EventBatch) -> Hits) -> Vec<Found> {
        let mut patterns = Patterns::new(self.schema.clone(), self.rules.clone(), 0, Limits::default());
        let (mut found, mut late) = (Vec::new(), Vec::new());
        for batch in &self.batches {
            let holds = holds(&patterns, batch);
            patterns.take(batch, &holds, &[], &mut found, &mut late).unwrap();
        }
        patterns.finish(&mut found).unwrap();
        found
    }

    fn judged(&self) -> Vec<Found> {
        self.findings(|patterns, batch| patterns.conditions().judge(&self.schema, batch))
    }

    fn opened(artifact: &[u8]) -> Arc<Artifact> {
        Arc::new(Artifact::from_bytes(artifact).expect("a sound artifact"))
    }
}

#[test]
fn every_back_end_finds_what_is_judged_row_by_row() {
    let case = Case::new();
    let judged = case.judged();
    let artifact = Case::opened(&case.artifact);
    let gpu = Backend::gpu(&artifact, "every_back_end_finds_what_is_judged_row_by_row");
    for back_end in [Backend::cpu(&artifact)].into_iter().chain(gpu) {
        assert_eq!(case.findings(|_, batch| back_end.hits(batch)), judged, "{}", back_end.name);
    }
}

/// A fault in the tables of the conditions, and in what is said of rows, shows in what patterns find.
#[test]
fn faults_in_the_conditions_of_patterns_are_noticed() {
    let case = Case::new();
    let judged = case.judged();
    type Edit = fn(&mut [u8]);
    let edits: [(&str, Section, Edit); 2] = [
        ("thresholds one too high", Section::NarrowKeys, |keys| {
            let (keys, _) = keys.as_chunks_mut::<8>();
            keys.iter_mut().for_each(|key| *key = (u64::from_le_bytes(*key) + 1).to_le_bytes());
        }),
        ("conditions exchanged", Section::TermRules, |rules| {
            let (rules, _) = rules.as_chunks_mut::<4>();
            let mut used: Vec<&mut [u8; 4]> = rules.iter_mut().filter(|rule| **rule != [0xff; 4]).collect();
            let numbers: Vec<[u8; 4]> = used.iter().map(|rule| **rule).collect();
            used.iter_mut().zip(numbers.iter().skip(1).chain(&numbers[..1])).for_each(|(rule, next)| **rule = *next);
        }),
    ];
    for (what, section, edit) in edits {
        let back_end = Backend::cpu(&Case::opened(&edited(&case.artifact, section, edit)));
        assert_ne!(case.findings(|_, batch| back_end.hits(batch)), judged, "{what}");
    }
    let back_end = Backend::cpu(&Case::opened(&case.artifact));
    let shifted = |batch: &EventBatch| {
        let Hits { mut offsets, rules } = back_end.hits(batch);
        offsets.rotate_right(1);
        offsets[0] = 0;
        Hits { offsets, rules }
    };
    assert_ne!(case.findings(|_, batch| shifted(batch)), judged, "of each row what holds for the one before");
}
