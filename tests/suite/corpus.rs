//! Rules whose matches other engines have worked out (tests/corpus): every back end finds exactly those.

use super::support::{Backend, compile, events, integers, project};
use dynamic_cep::event::EventBatch;
use dynamic_cep::id::RuleId;
use dynamic_cep::tables::Artifact;
use std::sync::Arc;

/// The rows that each rule of a folder of `corpus/predicates` matches, in the rules' order.
fn known_rows(folder: &str) -> Vec<Vec<u64>> {
    let rules = std::fs::read_to_string(project(folder).join("rules.ndjson")).expect("rules");
    rules
        .lines()
        .map(|line| {
            let rule: serde_json::Value = serde_json::from_str(line).expect("a rule");
            rule["rows"].as_array().expect("answers").iter().map(|row| row.as_u64().expect("a row")).collect()
        })
        .collect()
}

/// Every rule and row on which the back end and the known answers differ.
fn differences(backend: &Backend, artifact: &Artifact, batches: &[EventBatch], known: &[Vec<u64>]) -> Vec<String> {
    assert_eq!(artifact.rules().len(), known.len());
    let mut found: Vec<Vec<u64>> = vec![Vec::new(); known.len()];
    for batch in batches {
        let hits = backend.hits(batch);
        for row in 0..hits.rows() {
            hits.row(row).iter().for_each(|rule| found[rule.index()].push(batch.row_number(row)));
        }
    }
    let differing = (0..known.len()).filter(|rule| found[*rule] != known[*rule]);
    differing
        .map(|rule| {
            let id = RuleId::new(rule);
            let text = artifact.source(id).expect("a canonical text");
            format!("{} on {}: {text}: found {:?}, known {:?}", artifact.rule_name(id), backend.name, found[rule], known[rule])
        })
        .collect()
}

fn predicates(folder: &str) -> (Arc<Artifact>, Vec<EventBatch>, Vec<Vec<u64>>) {
    let at = project(folder);
    let bytes = compile(&at.join("rules.ndjson"), Some(&at.join("schema.yaml")));
    // By way of a file and a memory map, as a service opens it.
    let scratch = tempfile::tempdir().expect("a folder");
    let file = scratch.path().join("corpus.dcep");
    dynamic_cep::command::compile::write(&bytes, &file).expect("an artifact on disk");
    let mapped = Arc::new(Artifact::open(&file).expect("an artifact"));
    assert_eq!(mapped.generation(), Artifact::from_bytes(&bytes).expect("an artifact").generation());
    let batches = events(&mapped, &at.join("events.ndjson"), 32);
    (mapped, batches, known_rows(folder))
}

fn all_answers_are_known(folder: &str) {
    let (artifact, batches, mut known) = predicates(folder);
    for backend in Backend::all(&artifact, folder) {
        let differences = differences(&backend, &artifact, &batches, &known);
        assert!(differences.is_empty(), "{} rules differ:\n{}", differences.len(), differences[..differences.len().min(10)].join("\n"));
    }
    // A planted fault: one answer added, one taken away.
    let added = known.iter().position(Vec::is_empty).expect("a rule that matches nothing");
    let removed = known.iter().position(|rows| rows.len() > 1).expect("a rule that matches");
    known[added].push(0);
    known[removed].pop();
    assert_eq!(differences(&Backend::cpu(&artifact), &artifact, &batches, &known).len(), 2);
}

#[test]
fn logic_has_the_answers_of_sqlite() {
    all_answers_are_known("tests/corpus/predicates/logic");
}

#[test]
fn strings_have_the_answers_of_duckdb() {
    all_answers_are_known("tests/corpus/predicates/strings");
}

/// First match, number of matches and sum of indices of each header, as a packet filter is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Verdict {
    first: i64,
    count: i64,
    index_sum: i64,
}

fn verdicts(backend: &Backend, artifact: &Artifact, batch: &EventBatch) -> Vec<Verdict> {
    let hits = backend.hits(batch);
    let verdict = |row| {
        let index = |rule: &RuleId| artifact.rule_name(*rule).parse::<i64>().expect("ids are places in the filter");
        let matching: Vec<i64> = hits.row(row).iter().map(index).collect();
        let first = matching.iter().copied().min().unwrap_or(-1);
        Verdict { first, count: matching.len() as i64, index_sum: matching.iter().map(|index| index + 1).sum() }
    };
    (0..hits.rows()).map(verdict).collect()
}

fn known_verdicts(artifact: &Artifact, batch: &EventBatch) -> Vec<Verdict> {
    let column = |name| integers(artifact, batch, name);
    let (first, count, sum) = (column("first_match"), column("match_count"), column("match_idx_sum"));
    (0..batch.rows()).map(|row| Verdict { first: first[row], count: count[row], index_sum: sum[row] }).collect()
}

fn packet_filter(name: &str) {
    let folder = project("tests/corpus/classbench");
    let bytes = compile(&folder.join(format!("{name}.rules.parquet")), Some(&folder.join("schema.yaml")));
    let artifact = Arc::new(Artifact::from_bytes(&bytes).expect("an artifact"));
    let batches = events(&artifact, &folder.join(format!("{name}.headers.parquet")), 1000);
    assert_eq!(batches.iter().map(EventBatch::rows).sum::<usize>(), 4000);
    for backend in Backend::all(&artifact, name) {
        // Row by row and rule by rule a slice is enough.
        let looked_at = if backend.name == "reference" { 1 } else { batches.len() };
        for batch in &batches[..looked_at] {
            let (found, known) = (verdicts(&backend, &artifact, batch), known_verdicts(&artifact, batch));
            let differing: Vec<usize> = (0..known.len()).filter(|row| found[*row] != known[*row]).collect();
            let shown = differing.first().map(|row| (found[*row], known[*row]));
            assert!(differing.is_empty(), "{name} on {}: {} headers differ, the first {shown:?}", backend.name, differing.len());
        }
    }
    // A planted fault in each part of an answer.
    let (found, known) = (verdicts(&Backend::cpu(&artifact), &artifact, &batches[0]), known_verdicts(&artifact, &batches[0]));
    let plants: [fn(&mut Verdict); 3] = [|verdict| verdict.first += 1, |verdict| verdict.count += 1, |verdict| verdict.index_sum += 1];
    for plant in plants {
        let mut planted = known.clone();
        plant(&mut planted[7]);
        assert_eq!(found.iter().zip(&planted).filter(|(found, known)| found != known).count(), 1);
    }
}

#[test]
fn access_control_list_matches_by_brute_force() {
    packet_filter("acl1_1k");
}

#[test]
fn firewall_matches_by_brute_force() {
    packet_filter("fw1_1k");
}
