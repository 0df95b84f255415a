use super::*;
use clap::Parser;
use std::path::Path;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

pub(super) fn options(line: &str) -> Options {
    let words = ["bench", "--runs", "1"].into_iter().chain(line.split_whitespace());
    Line::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).options
}

fn run(line: &str, known: &[Known]) -> Result<Report, String> {
    let mut options = options(line);
    options.data = Path::new(env!("CARGO_MANIFEST_DIR")).join(&options.data);
    measured(&options, known, &mut |_| {}).map_err(|failure| match failure {
        Failure::Message(message) => message,
        other => format!("{other:?}"),
    })
}

/// The sizes at which [`KNOWN`] is held by this test.
const SMALL: &str = "--rules 1000 --events 2000 --backend portable";

#[test]
fn small_sizes_give_the_known_answers() {
    for workload in Workload::ALL {
        let report = run(&format!("{SMALL} --workload {}", workload.name()), KNOWN);
        let report = report.unwrap_or_else(|error| panic!("{error}"));
        assert!(report.known, "{} at a small size is among the known", workload.name());
        assert!(report.rows[0].answer.hits > 0);
    }
}

#[test]
fn a_wrong_answer_is_a_failure() {
    let wrong = [Known { workload: Workload::F1, rules: 1000, events: 2000, answer: Fingerprint { hits: 1, hash: 2 } }];
    assert!(run(SMALL, &wrong).is_err_and(|error| error.contains("known to be right")));
    assert!(run(&format!("{SMALL} --uniform-tenants"), &wrong).is_ok_and(|report| !report.known), "other tenants, other answers");
    let answer = Fingerprint { hits: 7, hash: 9 };
    assert_eq!(agree("F1", Backend::Plain, answer, &(Backend::Cpu, answer)), Ok(()));
    let other = Fingerprint { hash: 8, ..answer };
    assert!(agree("F1", Backend::Plain, other, &(Backend::Cpu, answer)).is_err_and(|error| error.contains("plain")));
}

#[test]
fn filters_give_their_known_answers_and_planted_ones_are_told() {
    let options = options("--workload W4 --backend cpu --data tests");
    let batch = |text: &str| {
        let mut reader = arrow::json::ReaderBuilder::new(std::sync::Arc::new(
            arrow::json::reader::infer_json_schema(text.as_bytes(), None).expect("a schema").0,
        ))
        .build(text.as_bytes())
        .expect("a reader");
        reader.next().expect("a batch").expect("rows")
    };
    let rules = batch(
        r#"{"ruleset":"x","rule_idx":0,"src_lo":1,"src_hi":5,"dst_lo":0,"dst_hi":4294967295,"sport_lo":0,"sport_hi":65535,"dport_lo":0,"dport_hi":65535,"proto_lo":6,"proto_hi":6}"#,
    );
    for (count, right) in [(1, true), (2, false)] {
        let header = format!(
            r#"{{"ruleset":"x","src":3,"dst":9,"sport":1,"dport":2,"proto":6,"first_match":0,"match_count":{count},"match_idx_sum":1}}"#
        );
        let filters = crate::workload::packets::filters(&rules, &batch(&header)).expect("a filter");
        let mut cases = Cases::Filters(filters.into());
        let case = cases.next(&options, &mut |_| {}).expect("a case").expect("one");
        let engine = Engine::new(Backend::Cpu, &case, false).expect("the CPU");
        let verdict = case.verdicts("cpu", 0, &engine.hits(&case.generation, &case.batches[0]));
        assert_eq!(verdict.is_ok(), right, "{verdict:?}");
    }
}

#[test]
fn outputs_are_compared_with_hits_before_they_are_timed() {
    for output in ["scores", "first", "counts", "top"] {
        let line = format!("--rules 1000 --events 1000 --backend cpu --backend portable --backend plain --output {output}");
        let report = run(&line, &[]).unwrap_or_else(|error| panic!("{error}"));
        assert!(report.rows.iter().all(|row| row.measured.output > 0.0));
        let mut table = Vec::new();
        report.table(&mut table).expect("written");
        assert!(String::from_utf8_lossy(&table).contains(output));
    }
    let reduction = || Reduction::new(Output::Counts, 2);
    let mut other = reduction();
    let records = [crate::tables::artifact::RuleRecord { score: 0, tenant: 0, outcome: 0, first_tag: 0, tags: 0, action: 0, status: 0 }];
    other.add(1, crate::id::RuleId(0), &records[0]);
    assert_eq!(reduces("F1", Backend::Cpu, "counts", reduction(), reduction()), Ok(()));
    assert!(reduces("F1", Backend::Cpu, "counts", other, reduction()).is_err_and(|error| error.contains("counts of cpu")));
}

#[test]
fn back_ends_are_asked_once_and_slow_ones_for_a_few_events() {
    let (backends, _) = backends(&[Backend::Cpu, Backend::All, Backend::Plain]);
    assert_eq!(backends.iter().filter(|backend| **backend == Backend::Cpu).count(), 1);
    let report = run("--rules 3000 --events 3000 --backend cpu --backend plain --backend reference --threads 2 --batch 1000", &[]);
    let report = report.unwrap_or_else(|error| panic!("{error}"));
    let events: Vec<usize> = report.rows.iter().map(|row| row.events).collect();
    assert_eq!(events, [3000, 1398, 1398]);
    assert!(!report.known);
    assert!(report.rows[0].measured.encode > 0.0 && report.rows[2].measured.encode == 0.0);
    let chart = chart::svg(&report);
    assert_eq!(chart.matches("steelblue").count(), 3);
    assert!(chart.starts_with("<svg") && chart.trim_end().ends_with("</svg>"));
}

#[test]
fn figures_are_appended_to_files_with_the_same_columns() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("figures.csv");
    let report = run(SMALL, KNOWN).unwrap_or_else(|error| panic!("{error}"));
    for _ in 0..2 {
        report::append_csv(&path, report.rows()).expect("written");
    }
    let text = std::fs::read_to_string(&path).expect("a file");
    assert_eq!(text.lines().count(), 3, "a head and two lines");
    assert_eq!(text.lines().nth(1), text.lines().nth(2));
    std::fs::write(&path, "other,columns\n").expect("written");
    assert!(report::append_csv(&path, report.rows()).is_err());
}

#[test]
fn quantiles_are_values_that_occur() {
    let mut values = [4.0, 1.0, 3.0, 2.0];
    let [half, most] = [0.5, 0.99].map(|share| measure::quantile(&mut values, share));
    assert_eq!([half, most].map(|value| value as i32), [2, 4]);
    assert!(measure::quantile(&mut [], 0.5).abs() < 1e-9);
}
