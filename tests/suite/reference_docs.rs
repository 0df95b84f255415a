//! The language reference, rules/README.md, is true: each example compiles, or is refused where the reference says so.
//!
//! Code blocks are tagged: `yaml schema` is the schema of all examples, `yaml` a document, `csv` bulk rules, `sql` conditions, one a line, `sql error`
//! conditions that are refused.

use super::support::{project, told};
use dynamic_cep::command::sources::{self, SchemaSources};
use dynamic_cep::event::Schema;
use dynamic_cep::rule::lists::Lists;
use dynamic_cep::rule::{Limits, Origin, check};

fn reference() -> String {
    std::fs::read_to_string(project("rules/README.md")).expect("the reference")
}

/// Code blocks with tag and first line.
fn blocks(text: &str) -> Vec<(String, usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, usize, String)> = None;
    for (index, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(tag)) => open = Some((tag.to_owned(), index + 2, String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some((_, _, content)), None) => {
                content.push_str(line);
                content.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

/// Every example that is not what its tag says.
fn wrong_examples(text: &str) -> Vec<String> {
    let blocks = blocks(text);
    let (_, _, schema) = blocks.iter().find(|(tag, ..)| tag == "yaml schema").expect("a schema");
    let folder = tempfile::tempdir().expect("a folder");
    let schema_file = folder.path().join("schema.yaml");
    std::fs::write(&schema_file, schema).expect("a file");
    let schema = Schema::parse("schema.yaml", schema.as_bytes()).expect("a schema");
    let (lists, limits) = (Lists::default(), Limits::default());
    let scope = check::Scope { schema: &schema, lists: &lists, parameters: &[], limits: &limits, windows: &[] };
    let mut wrong = Vec::new();
    for (tag, first, content) in &blocks {
        match tag.as_str() {
            "sql" | "sql error" => {
                for (line, condition) in (*first..).zip(content.lines()) {
                    let refused = check::condition(condition, &Origin::default(), None, &scope).err();
                    match (refused, tag == "sql error") {
                        (None, true) => wrong.push(format!("line {line} is not refused: {condition}")),
                        (Some(diagnostics), false) => wrong.push(format!("line {line}: {}", diagnostics[0])),
                        (Some(diagnostics), true) => {
                            let placed = diagnostics.iter().all(|found| found.line > 0 && !found.primary.is_empty());
                            assert!(placed, "line {line}: a place and a reason: {diagnostics:?}");
                        }
                        (None, false) => {}
                    }
                }
            }
            "yaml" | "csv" => {
                let file = folder.path().join(format!("example.{tag}"));
                std::fs::write(&file, content).expect("a file");
                let given = SchemaSources { given: Some(&schema_file), events: &[] };
                let compiled = sources::compile(&[file], None, given, 1).map_err(told).expect("files that can be read");
                let errors = compiled.diagnostics.iter().filter(|found| found.is_error());
                wrong.extend(errors.map(|error| format!("in the block at line {first}: {error}")));
                assert!(compiled.rules > 0, "line {first}: an example has rules");
            }
            "yaml schema" | "" => {}
            other => panic!("line {first}: no such tag: {other}"),
        }
    }
    wrong
}

#[test]
fn examples_are_what_they_say() {
    let wrong = wrong_examples(&reference());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn planted_faults_are_noticed() {
    let text = reference();
    let faults = [
        ("quantity > 1.5\n", "quantity > 'many'\n"),
        ("merchant = 5\n", "merchant = '5'\n"),
        ("no_match: {mcc: '7995', birth: 2008-01-01}", "no_match: {mcc: '7995', birth: 2009-01-01}"),
        ("mcc-7995,mcc = '7995'", "mcc-7995,mcc = 7995"),
        ("    status: shadow\n", "    status: hidden\n"),
        ("THEN NOT [amount < 0]", "NOT [amount < 0]"),
        ("event_time: 2026-01-01T00:00:59Z", "event_time: 2026-01-01T00:01:01Z"),
    ];
    for (right, fault) in faults {
        assert!(text.contains(right), "{right}");
        assert_eq!(wrong_examples(&text.replacen(right, fault, 1)).len(), 1, "{fault}");
    }
}

#[test]
fn limits_are_those_of_the_engine() {
    let limits = Limits::default();
    let text = reference();
    let section = text.split("\n## Limits").nth(1).expect("a section on limits");
    let known = [
        ("condition_bytes", limits.condition_bytes),
        ("nesting", limits.nesting),
        ("nodes", limits.nodes),
        ("list_entries", limits.list_entries),
        ("terms", limits.terms),
        ("regex_bytes", limits.regex_bytes),
        ("document_bytes", limits.document_bytes),
        ("name_bytes", limits.name_bytes),
        ("derived_columns", limits.derived_columns),
        ("windows", limits.windows),
        ("rules", limits.rules),
    ];
    let documented: Vec<(String, usize)> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|row| {
            let (name, rest) = row.split_once("` | ").expect("a name and a limit");
            let limit = rest.split(" |").next().expect("a limit").replace(',', "");
            let (number, unit) = limit.strip_suffix(" MiB").map_or((limit.as_str(), 1), |number| (number, 1 << 20));
            (name.to_owned(), number.parse::<usize>().expect("a number") * unit)
        })
        .collect();
    assert_eq!(documented, known.map(|(name, limit)| (name.to_owned(), limit)));
}
