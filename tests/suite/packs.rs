//! The packs in rules/ do what another engine has counted (tests/corpus/packs).

use super::support::{Backend, compile, events, project};
use dynamic_cep::command::matching::{self, Emit, Options, Progress, Summary};
use dynamic_cep::decide;
use dynamic_cep::event::EventBatch;
use dynamic_cep::event::Value;
use dynamic_cep::id::RuleId;
use dynamic_cep::rule::Diagnostic;
use dynamic_cep::tables::Artifact;
use dynamic_cep::tables::artifact::ACTIONS;
use dynamic_cep::tables::layout::NONE;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

struct Silent;

impl Progress for Silent {
    fn rules(&mut self, _: &[Diagnostic]) {}
    fn rows(&mut self, _: u64, _: u64, _: Option<u64>) {}
    fn warning(&mut self, text: &str) {
        panic!("{text}");
    }
}

/// `match rules/PACK --backend cpu`
fn matched(pack: &str) -> Summary {
    let options = Options {
        rules: vec![project("rules").join(pack)],
        events: Vec::new(),
        schema: None,
        backend: matching::Backend::Cpu,
        emit: Emit::None,
        output: None,
        rejects: None,
        threads: 2,
        batch_rows: 8192,
        strict: true,
        allowed_lateness: 0,
        late: None,
        pattern_limits: dynamic_cep::temporal::patterns::Limits::default(),
    };
    matching::run(&options, &mut Silent).unwrap_or_else(|failure| panic!("{pack}: {failure:?}"))
}

/// The rows of a file of known answers, without its header.
fn known(file: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(project("tests/corpus/packs").join(file)).expect("known answers");
    let fields = |line: &str| {
        // A quoted field stands first, if any.
        match line.strip_prefix('"').and_then(|line| line.split_once("\",")) {
            Some((quoted, rest)) => std::iter::once(quoted).chain(rest.split(',')).map(str::to_owned).collect(),
            None => line.split(',').map(str::to_owned).collect(),
        }
    };
    text.lines().skip(1).map(fields).collect()
}

/// The known counts of rules that a run did not find; the order of the rules is part of the answer.
fn wrong_counts(summary: &Summary, known: &[Vec<String>]) -> Vec<String> {
    let found: Vec<(String, String)> = (0..summary.counts.len())
        .map(|rule| (summary.artifact.rule_name(RuleId::new(rule)).to_owned(), summary.counts[rule].to_string()))
        .collect();
    assert_eq!(found.len(), known.len());
    let differing = found.iter().zip(known).filter(|((rule, hits), known)| *rule != known[0] || *hits != known[1]);
    differing.map(|(found, known)| format!("found {found:?}, known {known:?}")).collect()
}

/// Like [`wrong_counts`], and a planted fault is noticed.
fn counts_are_known(summary: &Summary, file: &str) {
    let mut known = known(file);
    assert_eq!(wrong_counts(summary, &known), Vec::<String>::new());
    known[3][1].push('0');
    assert_eq!(wrong_counts(summary, &known).len(), 1);
}

#[test]
fn fraud_pack_finds_what_was_counted() {
    let summary = matched("fraud");
    counts_are_known(&summary, "fraud_expected.csv");
    assert_eq!(summary.rows, 140_293);
    let decisions = known("fraud_decisions_expected.csv");
    let number = |row: usize, column: usize| decisions[row][column].parse::<u64>().expect("a number");
    for (index, action) in ACTIONS.iter().enumerate() {
        assert_eq!(decisions[index][0], *action);
        assert_eq!(summary.actions[index], number(index, 1), "{action}");
    }
    let labels = summary.labels.as_ref().expect("the schema names a label");
    assert_eq!(labels.missed, number(0, 2));
    assert_eq!(labels.flagged_true, (1..4).map(|row| number(row, 2)).sum::<u64>());
    assert_eq!(labels.flagged_false, (1..4).map(|row| number(row, 1) - number(row, 2)).sum::<u64>());
}

#[test]
fn recommendation_pack_finds_what_was_counted() {
    let summary = matched("recommendation");
    counts_are_known(&summary, "recommendation_expected.csv");
    let outcomes: BTreeMap<String, String> =
        known("recommendation_outcomes_expected.csv").into_iter().map(|row| (row[0].clone(), row[3].clone())).collect();
    let thousandths = |units: i128| format!("{}.{:03}", units / 1000, units % 1000);
    let found: BTreeMap<String, String> = summary.outcomes.iter().map(|(name, sum)| (name.clone(), thousandths(*sum))).collect();
    assert_eq!(found, outcomes);
}

/// The first `batches` of a pack's events on every back end, with `look` at what the CPU found.
fn same_on_every_backend(pack: &str, batches: usize, mut look: impl FnMut(&Artifact, &EventBatch, &dynamic_cep::flow::Hits)) {
    let folder = project("rules").join(pack);
    let artifact = Arc::new(Artifact::from_bytes(&compile(&folder, None)).expect("an artifact"));
    let backends = Backend::all(&artifact, pack);
    for batch in events(&artifact, &folder.join("events.parquet"), 4096).iter().take(batches) {
        let hits: Vec<_> = backends.iter().map(|backend| (backend.name, backend.hits(batch))).collect();
        for pair in hits.windows(2) {
            assert!(pair[0].1 == pair[1].1, "{pack}: {} and {} differ", pair[0].0, pair[1].0);
        }
        look(&artifact, batch, &hits[1].1);
    }
}

#[test]
fn fraud_pack_is_the_same_on_every_backend() {
    same_on_every_backend("fraud", 2, |_, _, hits| assert!(!hits.rules.is_empty()));
}

#[test]
fn recommendation_pack_is_the_same_on_every_backend() {
    same_on_every_backend("recommendation", 2, |_, _, hits| assert!(!hits.rules.is_empty()));
}

/// Scores by action and hits by outcome, which the summary does not show, from the library's own parts.
#[test]
fn decisions_and_outcomes_add_up_to_what_was_counted() {
    let folder = project("rules/fraud");
    let artifact = Arc::new(Artifact::from_bytes(&compile(&folder, None)).expect("an artifact"));
    let cpu = Backend::cpu(&artifact);
    let label = artifact.schema().label.expect("a label");
    let mut found = [(0_u64, 0_u64, 0_i64); ACTIONS.len()];
    for batch in events(&artifact, &folder.join("events.parquet"), 8192) {
        let decisions = decide::decide(&cpu.hits(&batch), artifact.rules());
        for row in 0..batch.rows() {
            let sums = &mut found[usize::from(decisions.actions[row])];
            let fraud = match batch.value(artifact.schema(), label, row) {
                Value::Bool(fraud) => fraud,
                Value::Int(number) => number != 0,
                Value::UInt(number) => number != 0,
                other => panic!("{other:?} is no label"),
            };
            *sums = (sums.0 + 1, sums.1 + u64::from(fraud), sums.2 + decisions.scores[row]);
        }
    }
    for (found, known) in found.iter().zip(known("fraud_decisions_expected.csv")) {
        let shown = [found.0.to_string(), found.1.to_string(), (found.2 / 1000).to_string()];
        assert_eq!((shown.as_slice(), found.2 % 1000), (&known[1..], 0), "{}", known[0]);
    }

    let folder = project("rules/recommendation");
    let artifact = Arc::new(Artifact::from_bytes(&compile(&folder, None)).expect("an artifact"));
    let cpu = Backend::cpu(&artifact);
    let mut offers: HashMap<String, (u64, u64)> = HashMap::new();
    for batch in events(&artifact, &folder.join("events.parquet"), 8192) {
        let hits = cpu.hits(&batch);
        for row in 0..hits.rows() {
            let outcomes = hits.row(row).iter().map(|rule| artifact.rule(*rule).outcome).filter(|outcome| *outcome != NONE);
            let mut outcomes: Vec<&str> = outcomes.map(|outcome| artifact.name(outcome)).collect();
            outcomes.sort_unstable();
            for same in outcomes.chunk_by(|a, b| a == b) {
                let counts = offers.entry(same[0].to_owned()).or_default();
                *counts = (counts.0 + 1, counts.1 + same.len() as u64);
            }
        }
    }
    let known = known("recommendation_outcomes_expected.csv");
    assert_eq!(offers.len(), known.len());
    for outcome in known {
        assert_eq!(
            offers.get(&outcome[0]).map(|(events, hits)| [events.to_string(), hits.to_string()]).as_ref().map(<[_; 2]>::as_slice),
            Some(&outcome[1..3]),
            "{}",
            outcome[0]
        );
    }
}
