//! The command line as other programs call it: results, their columns, order and formats, exit status, and what goes to standard error.

use super::support::project;
use arrow::array::{Array, ArrayRef, AsArray, ListBuilder, RecordBatch, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Decimal128Type, Field, UInt64Type};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

const SCHEMA: &str = "
fields: {id: uint64, tenant: utf8, amount: float64, name: utf8, at: timestamp(ms)}
id: id
tenant: tenant
time: at
";

const RULES: &str = "
schema: schema.yaml
rules:
  - {id: big, when: amount > 100, score: 10.5, action: review}
  - {id: named, when: name LIKE 'K%', tenant: acme, score: -2.125, action: block}
  - {id: quiet, when: amount < 5, status: shadow}
  - {id: never, when: name = 'nobody'}
  - {id: away, when: amount > 0, status: off}
";

const EVENTS: &str = r#"{"id":1,"tenant":"acme","amount":150,"name":"Kub","at":"2026-01-01T00:00:00Z"}
{"id":2,"tenant":"other","amount":150,"name":"Kub"}
{"id":3,"amount":50}
{"id":4,"tenant":"acme","amount":1,"name":"Kub"}
"#;

const HITS: &str = r#"{"row":0,"id":1,"tenant":"acme","rule":"big"}
{"row":0,"id":1,"tenant":"acme","rule":"named"}
{"row":1,"id":2,"tenant":"other","rule":"big"}
{"row":3,"id":4,"tenant":"acme","rule":"named"}
{"row":3,"id":4,"tenant":"acme","rule":"quiet"}
"#;

const MATCH: [&str; 6] = ["match", "rules.yaml", "--events", "events.ndjson", "--backend", "cpu"];

/// A folder with a schema, rules and events, in which the program is run.
struct Scratch {
    folder: tempfile::TempDir,
}

struct Ended {
    status: i32,
    out: String,
    err: String,
}

impl Scratch {
    fn new() -> Self {
        let scratch = Self { folder: tempfile::tempdir().expect("a folder") };
        scratch.write("schema.yaml", SCHEMA);
        scratch.write("rules.yaml", RULES);
        scratch.write("events.ndjson", EVENTS);
        scratch
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).expect("a file");
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("a file")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dynamic-cep"));
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with(arguments, "")
    }

    fn run_with(&self, arguments: &[&str], input: &str) -> Ended {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().expect("the program");
        // A program that does not read its input closes it early, which is no failure.
        let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
        let output = child.wait_with_output().expect("an end");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let ended = Ended { status: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) };
        assert!([0, 1, 2].contains(&ended.status), "{arguments:?} ended with {}:\n{}", ended.status, ended.err);
        ended
    }

    /// Runs what must succeed, and gives standard output.
    fn succeed(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!(ended.status, 0, "{arguments:?}:\n{}", ended.err);
        ended.out
    }

    /// Runs what must fail for rules or data, and gives standard error.
    fn fail(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!((ended.status, ended.out.as_str()), (1, ""), "{arguments:?}:\n{}", ended.err);
        assert!(!ended.err.contains("panicked"), "{}", ended.err);
        ended.err
    }

    fn parquet(&self, name: &str, batch: &RecordBatch) {
        let mut writer = ArrowWriter::try_new(File::create(self.path(name)).expect("a file"), batch.schema(), None).expect("a writer");
        writer.write(batch).expect("a batch");
        writer.close().expect("a footer");
    }
}

fn with<'a>(arguments: &[&'a str], further: &[&'a str]) -> Vec<&'a str> {
    [arguments, further].concat()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn read_parquet(path: &Path) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).expect("a file")).expect("Parquet");
    let schema = Arc::clone(reader.schema());
    let batches: Vec<RecordBatch> = reader.build().expect("Parquet").map(|batch| batch.expect("a batch")).collect();
    arrow::compute::concat_batches(&schema, &batches).expect("one batch")
}

fn read_arrow(path: &Path) -> RecordBatch {
    let reader = arrow::ipc::reader::FileReader::try_new(File::open(path).expect("a file"), None).expect("Arrow");
    let schema = reader.schema();
    let batches: Vec<RecordBatch> = reader.map(|batch| batch.expect("a batch")).collect();
    arrow::compute::concat_batches(&schema, &batches).expect("one batch")
}

fn columns(batch: &RecordBatch) -> Vec<(String, DataType)> {
    batch.schema().fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect()
}

fn texts(array: &dyn Array) -> Vec<String> {
    array.as_string::<i32>().iter().map(|text| text.expect("no NULL").to_owned()).collect()
}

#[test]
fn hits_are_the_same_in_every_format() {
    let scratch = Scratch::new();
    let hits = with(&MATCH, &["--emit", "hits", "--output"]);
    assert_eq!(scratch.succeed(&with(&hits, &["-"])), HITS);
    for name in ["hits.ndjson", "hits.csv", "hits.parquet", "hits.arrow"] {
        assert_eq!(scratch.succeed(&with(&hits, &[name])), "", "results go to the file alone");
    }
    assert_eq!(scratch.read("hits.ndjson"), HITS);
    assert_eq!(
        scratch.read("hits.csv"),
        "row,id,tenant,rule\n0,1,acme,big\n0,1,acme,named\n1,2,other,big\n3,4,acme,named\n3,4,acme,quiet\n"
    );
    let parquet = read_parquet(&scratch.path("hits.parquet"));
    assert_eq!(parquet, read_arrow(&scratch.path("hits.arrow")));
    let expected = [("row", DataType::UInt64), ("id", DataType::UInt64), ("tenant", DataType::Utf8), ("rule", DataType::Utf8)];
    assert_eq!(columns(&parquet), expected.map(|(name, ty)| (name.to_owned(), ty)));
    assert_eq!(parquet.column(0).as_primitive::<UInt64Type>().values().to_vec(), [0, 0, 1, 3, 3]);
    assert_eq!(texts(parquet.column(3)), ["big", "named", "big", "named", "quiet"]);
    let left: Vec<_> =
        std::fs::read_dir(scratch.folder.path()).expect("a folder").map(|entry| entry.expect("a file").file_name()).collect();
    assert_eq!(left.len(), 7, "three inputs, four outputs, nothing unfinished: {left:?}");
}

#[test]
fn decisions_have_the_columns_of_the_contract() {
    let scratch = Scratch::new();
    scratch.succeed(&["compile", "rules.yaml", "--output", "rules.dcep"]);
    let inspected = scratch.succeed(&["inspect", "rules.dcep"]);
    let generation = inspected.lines().next().and_then(|line| line.strip_prefix("generation  ")).expect("a generation");
    for name in ["decisions.parquet", "decisions.arrow"] {
        scratch.succeed(&with(&MATCH, &["--emit", "decisions", "--output", name]));
    }
    let batch = read_parquet(&scratch.path("decisions.parquet"));
    assert_eq!(batch, read_arrow(&scratch.path("decisions.arrow")));
    let list = DataType::List(Arc::new(Field::new("item", DataType::Utf8, false)));
    let expected = [
        ("row", DataType::UInt64),
        ("id", DataType::UInt64),
        ("tenant", DataType::Utf8),
        ("score", DataType::Decimal128(18, 3)),
        ("action", DataType::Utf8),
        ("rules", list.clone()),
        ("shadow_rules", list),
        ("generation", DataType::Utf8),
    ];
    assert_eq!(columns(&batch), expected.map(|(name, ty)| (name.to_owned(), ty)));
    assert_eq!(batch.column(0).as_primitive::<UInt64Type>().values().to_vec(), [0, 1, 2, 3], "every event has a decision");
    assert_eq!(batch.column(3).as_primitive::<Decimal128Type>().values().to_vec(), [8375, 10_500, 0, -2125]);
    assert_eq!(texts(batch.column(4)), ["block", "review", "allow", "block"]);
    let rules: Vec<Vec<String>> = (0..4).map(|row| texts(&batch.column(5).as_list::<i32>().value(row))).collect();
    assert_eq!(rules, [vec!["big", "named"], vec!["big"], vec![], vec!["named"]]);
    let shadow: Vec<Vec<String>> = (0..4).map(|row| texts(&batch.column(6).as_list::<i32>().value(row))).collect();
    assert_eq!(shadow, [vec![], vec![], vec![], vec!["quiet"]]);
    assert_eq!(texts(batch.column(7)), [generation; 4]);

    // Decisions are what --output gives where nothing else is asked for.
    let decisions = lines(&scratch.succeed(&with(&MATCH, &["--output", "-"])));
    let expected = json!({"row": 0, "id": 1, "tenant": "acme", "score": 8.375, "action": "block", "rules": ["big", "named"], "shadow_rules": [], "generation": generation});
    assert_eq!(decisions[0].to_string(), expected.to_string());
    assert_eq!(decisions[2]["tenant"], Value::Null);
    scratch.succeed(&with(&MATCH, &["--output", "decisions.csv"]));
    assert!(scratch.read("decisions.csv").starts_with(&format!(
        "row,id,tenant,score,action,rules,shadow_rules,generation\n0,1,acme,8.375,block,\"[\"\"big\"\",\"\"named\"\"]\",[],{generation}\n"
    )));
}

#[test]
fn counts_have_every_rule() {
    let scratch = Scratch::new();
    let counts = with(&MATCH, &["--emit", "counts", "--output"]);
    let expected = [("big", 2), ("named", 2), ("quiet", 1), ("never", 0), ("away", 0)];
    let found = lines(&scratch.succeed(&with(&counts, &["-"])));
    assert_eq!(found, expected.map(|(rule, hits)| json!({"rule": rule, "hits": hits})));
    scratch.succeed(&with(&counts, &["counts.parquet"]));
    let batch = read_parquet(&scratch.path("counts.parquet"));
    assert_eq!(columns(&batch), [("rule".to_owned(), DataType::Utf8), ("hits".to_owned(), DataType::UInt64)]);
    assert_eq!(texts(batch.column(0)), expected.map(|(rule, _)| rule));
    scratch.succeed(&with(&counts, &["counts.csv"]));
    assert_eq!(scratch.read("counts.csv"), "rule,hits\nbig,2\nnamed,2\nquiet,1\nnever,0\naway,0\n");
}

#[test]
fn id_and_tenant_are_there_only_where_the_schema_names_them() {
    let scratch = Scratch::new();
    scratch.write("plain.yaml", "fields: {amount: float64}");
    scratch.write("rules.csv", "id,when\nbig,amount > 100\n");
    let arguments = ["match", "rules.csv", "--schema", "plain.yaml", "--events", "events.ndjson", "--emit", "hits", "--output", "-"];
    assert_eq!(scratch.succeed(&arguments), "{\"row\":0,\"rule\":\"big\"}\n{\"row\":1,\"rule\":\"big\"}\n");
}

#[test]
fn results_do_not_depend_on_threads_batches_or_back_end() {
    let scratch = Scratch::new();
    let event = |row: u64| format!("{{\"id\":{row},\"tenant\":\"acme\",\"amount\":{},\"name\":\"K{row}\"}}\n", row * 7919 % 211);
    scratch.write("events.ndjson", (0..300).map(event).collect::<String>());
    let outputs = |emit: &str, further: &[&str]| {
        scratch.succeed(&with(&["match", "rules.yaml", "--events", "events.ndjson", "--emit", emit, "--output", "-"], further))
    };
    for emit in ["hits", "decisions", "counts"] {
        let one = outputs(emit, &["--backend", "cpu", "--threads", "1"]);
        assert!(!one.is_empty());
        for further in [
            ["--threads", "7", "--batch-rows", "1"],
            ["--threads", "2", "--batch-rows", "17"],
            ["--threads", "3", "--backend", "reference"],
        ] {
            assert_eq!(one, outputs(emit, &further), "{emit} {further:?}");
        }
        assert_eq!(one, outputs(emit, &["--backend", "auto"]));
    }
    let rows: Vec<u64> = lines(&outputs("hits", &[])).iter().map(|hit| hit["row"].as_u64().expect("a row")).collect();
    assert!(rows.is_sorted());
}

#[test]
fn rows_are_counted_over_all_inputs() {
    let scratch = Scratch::new();
    let halves: Vec<&str> = EVENTS.split_inclusive('\n').collect();
    scratch.write("part-1.ndjson", halves[..1].concat());
    scratch.write("part-2.ndjson", halves[1..3].concat());
    scratch.write("rest.ndjson", halves[3]);
    let results = ["--backend", "cpu", "--emit", "hits", "--output", "-"];
    let files = ["match", "rules.yaml", "--events", "part-1.ndjson", "--events", "part-2.ndjson", "--events", "rest.ndjson"];
    assert_eq!(scratch.succeed(&with(&files, &results)), HITS);
    assert_eq!(scratch.succeed(&with(&["match", "rules.yaml", "--events", "part-*.ndjson", "--events", "rest.ndjson"], &results)), HITS);
    let ended = scratch.run_with(&with(&["match", "rules.yaml", "--events", "-"], &results), EVENTS);
    assert_eq!((ended.status, ended.out.as_str()), (0, HITS), "{}", ended.err);
    assert!(scratch.fail(&["match", "rules.yaml", "--events", "none-*.ndjson"]).contains("no file matches"));
    assert!(scratch.fail(&["match", "rules.yaml", "--events", "none.ndjson"]).contains("there is no such file"));
    assert!(scratch.fail(&["match", "rules.yaml"]).contains("--events FILE"));
}

#[test]
fn bad_rows_are_counted_kept_and_with_strict_refused() {
    let scratch = Scratch::new();
    let mut events: Vec<&str> = EVENTS.lines().collect();
    events[2] = r#"{"id":3,"amount":"what"}"#;
    scratch.write("events.ndjson", events.join("\n"));
    let arguments = with(&MATCH, &["--emit", "hits", "--output", "-", "--rejects"]);
    let ended = scratch.run(&with(&arguments, &["rejects.ndjson"]));
    assert_eq!((ended.status, ended.out.as_str()), (0, HITS), "other rows keep their numbers");
    assert!(ended.err.contains("rejected 1 row"), "{}", ended.err);
    let rejects = lines(&scratch.read("rejects.ndjson"));
    assert_eq!(rejects.len(), 1);
    assert_eq!((&rejects[0]["row"], &rejects[0]["file"], &rejects[0]["raw"]), (&json!(2), &json!("events.ndjson"), &json!(events[2])));
    assert!(rejects[0]["reason"].as_str().is_some_and(|reason| reason.contains("line 3") && reason.contains("amount")), "{rejects:?}");
    scratch.succeed(&with(&arguments, &["rejects.parquet"]));
    assert_eq!(read_parquet(&scratch.path("rejects.parquet")).num_rows(), 1);

    assert!(scratch.fail(&with(&MATCH, &["--output", "one.csv", "--rejects", "one.csv"])).contains("the same place"));

    let told = scratch.fail(&with(&MATCH, &["--strict", "--emit", "hits", "--output", "strict.csv"]));
    assert!(told.contains("row 2") && told.contains("amount"), "{told}");
    assert!(!scratch.path("strict.csv").exists(), "no results that look complete");
}

#[test]
fn missing_columns_are_null_with_a_warning_and_with_strict_refused() {
    let scratch = Scratch::new();
    scratch.write("events.csv", "id,tenant,amount\n1,acme,150\n2,acme,3\n");
    let arguments = ["match", "rules.yaml", "--events", "events.csv", "--backend", "cpu"];
    let ended = scratch.run(&with(&arguments, &["--emit", "counts", "--output", "-"]));
    assert_eq!(ended.status, 0);
    assert!(ended.err.contains("warning: events.csv: column `name` is missing"), "{}", ended.err);
    assert_eq!(lines(&ended.out).iter().map(|count| count["hits"].as_u64()).collect::<Vec<_>>(), [1, 0, 1, 0, 0].map(Some));
    assert!(scratch.fail(&with(&arguments, &["--strict"])).contains("column `name` is missing"));
}

#[test]
fn an_artifact_matches_as_its_rules_do() {
    let scratch = Scratch::new();
    let ended = scratch.run(&["compile", "rules.yaml", "--output", "rules.dcep"]);
    assert_eq!((ended.status, ended.out.as_str()), (0, ""));
    assert!(ended.err.contains("5 rules"), "{}", ended.err);
    std::fs::remove_file(scratch.path("rules.yaml")).expect("rules");
    let arguments = ["match", "rules.dcep", "--events", "events.ndjson", "--emit", "hits", "--output", "-"];
    assert_eq!(scratch.succeed(&arguments), HITS);
    assert!(scratch.fail(&with(&arguments, &["--schema", "schema.yaml"])).contains("an artifact has its own schema"));

    let rule = scratch.succeed(&["inspect", "rules.dcep", "--rule", "named"]);
    for line in ["rule    named", "tenant  acme", "when    name LIKE 'K%'", "score   -2.125", "action  block", "status  live"] {
        assert!(rule.lines().any(|found| found == line), "{line} in {rule}");
    }
    assert!(scratch.fail(&["inspect", "rules.dcep", "--rule", "nobody"]).contains("there is no rule `nobody`"));

    let bytes = std::fs::read(scratch.path("rules.dcep")).expect("an artifact");
    scratch.write("short.dcep", &bytes[..bytes.len() / 2]);
    let mut altered = bytes;
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    scratch.write("altered.dcep", altered);
    scratch.write("foreign.dcep", "rules: []");
    scratch.write("empty.dcep", "");
    for name in ["short.dcep", "altered.dcep", "foreign.dcep", "empty.dcep"] {
        for arguments in [vec!["inspect", name], vec!["match", name, "--events", "events.ndjson"]] {
            assert!(scratch.fail(&arguments).starts_with(&format!("error: {name}: ")), "{name}");
        }
    }
}

#[test]
fn the_schema_may_come_from_the_events() {
    let scratch = Scratch::new();
    scratch.write("rules.csv", "id,when\nbig,amount > 100\nnamed,name LIKE 'K%'\n");
    let results = ["--emit", "counts", "--output", "-"];
    let expected = "{\"rule\":\"big\",\"hits\":2}\n{\"rule\":\"named\",\"hits\":3}\n";
    assert_eq!(scratch.succeed(&with(&["match", "rules.csv", "--events", "events.ndjson"], &results)), expected);
    let names: ArrayRef = Arc::new(StringArray::from(vec![Some("Kub"), None, Some("Kub"), Some("Kub")]));
    let amounts: ArrayRef = Arc::new(arrow::array::Float32Array::from(vec![150.0, 150.0, 50.0, 1.0]));
    scratch.parquet("events.parquet", &RecordBatch::try_from_iter([("name", names), ("amount", amounts)]).expect("a batch"));
    assert_eq!(scratch.succeed(&with(&["match", "rules.csv", "--events", "events.parquet"], &results)), expected);
    assert!(scratch.fail(&["check", "rules.csv"]).contains("there is no schema"));
}

#[test]
fn bulk_rules_and_json_documents_say_the_same_as_yaml() {
    let scratch = Scratch::new();
    let text = |values: [Option<&str>; 5]| -> ArrayRef { Arc::new(StringArray::from(values.to_vec())) };
    let (acme, none) = (Some("acme"), None);
    let whens = ["amount > 100", "name LIKE 'K%'", "amount < 5", "name = 'nobody'", "amount > 0"];
    let mut tags = ListBuilder::new(StringBuilder::new());
    for row in 0..5 {
        (0..row).for_each(|tag| tags.values().append_value(format!("tag-{tag}")));
        tags.append(row > 0);
    }
    let columns = [
        ("id", text([Some("big"), Some("named"), Some("quiet"), Some("never"), Some("away")])),
        ("when", text(whens.map(Some))),
        ("tenant", text([none, acme, none, none, none])),
        ("score", Arc::new(arrow::array::Float64Array::from(vec![Some(10.5), Some(-2.125), None, None, None])) as ArrayRef),
        ("action", text([Some("review"), Some("block"), none, none, none])),
        ("status", text([none, none, Some("shadow"), none, Some("off")])),
        ("tags", Arc::new(tags.finish()) as ArrayRef),
    ];
    scratch.parquet("rules.parquet", &RecordBatch::try_from_iter(columns).expect("a batch"));
    scratch.write(
        "rules.csv",
        "id,when,tenant,score,action,status,tags\nbig,amount > 100,,10.5,review,,\nnamed,name LIKE 'K%',acme,-2.125,block,,tag-0\n\
         quiet,amount < 5,,,,shadow,tag-0;tag-1\nnever,name = 'nobody',,,,,\naway,amount > 0,,,,off,\n",
    );
    let rules = [
        json!({"id": "big", "when": whens[0], "score": 10.5, "action": "review"}),
        json!({"id": "named", "when": whens[1], "tenant": "acme", "score": -2.125, "action": "block", "tags": ["tag-0"]}),
        json!({"id": "quiet", "when": whens[2], "status": "shadow", "tags": ["tag-0", "tag-1"]}),
        json!({"id": "never", "when": whens[3]}),
        json!({"id": "away", "when": whens[4], "status": "off"}),
    ];
    scratch.write("rules.ndjson", rules.iter().map(|rule| format!("{rule}\n")).collect::<String>());
    scratch.write("rules.json", json!({"schema": "schema.yaml", "rules": rules}).to_string());
    let decided = |rules: &str| {
        let mut decisions =
            lines(&scratch.succeed(&["match", rules, "--schema", "schema.yaml", "--events", "events.ndjson", "--output", "-"]));
        for decision in &mut decisions {
            decision["generation"] = Value::Null;
        }
        decisions
    };
    let expected = decided("rules.yaml");
    for rules in ["rules.parquet", "rules.csv", "rules.ndjson", "rules.json"] {
        assert_eq!(decided(rules), expected, "{rules}");
        scratch.succeed(&["compile", rules, "--schema", "schema.yaml", "--output", "tags.dcep"]);
        assert!(scratch.succeed(&["inspect", "tags.dcep", "--rule", "quiet"]).contains("tags    tag-0, tag-1"), "{rules}");
    }
}

#[test]
fn every_error_of_every_rule_is_told() {
    let scratch = Scratch::new();
    scratch.write(
        "wrong.yaml",
        "schema: schema.yaml\nrules:\n  - id: a\n    when: amuont > 5\n  - id: b\n    when: amount > 'x' AND nmae = 'K'\n  - id: c\n    whn: TRUE\n  - id: a\n    when: amount > 5\n",
    );
    for command in [vec!["check", "wrong.yaml"], vec!["compile", "wrong.yaml", "--output", "wrong.dcep"]] {
        let told = scratch.fail(&command);
        for part in
            ["unknown field `amuont`", "did you mean `amount`?", "wrong.yaml:4:11", "^^^^^^", "`nmae`", "`whn`", "(rule c)", "errors"]
        {
            assert!(told.contains(part), "{part} in {told}");
        }
        let diagnostics = lines(&scratch.fail(&with(&command, &["--format", "json"])));
        let at = |rule: &str, code: &str| {
            diagnostics
                .iter()
                .find(|found| found["rule"] == rule && found["code"] == code)
                .unwrap_or_else(|| panic!("{code}: {diagnostics:?}"))
        };
        let unknown = at("a", "unknown-field");
        assert_eq!((&unknown["severity"], &unknown["file"]), (&json!("error"), &json!("wrong.yaml")));
        assert_eq!((&unknown["line"], &unknown["column"]), (&json!(4), &json!(11)));
        assert_eq!((&unknown["primary"], &unknown["hint"]), (&json!("unknown field `amuont`"), &json!("did you mean `amount`?")));
        at("b", "unknown-field");
        at("c", "unknown-key");
        assert!(diagnostics.iter().filter(|found| found["rule"] == "a").count() >= 2, "the second `a` is told, too: {diagnostics:?}");
    }
    assert!(!scratch.path("wrong.dcep").exists());
    let failure = lines(&scratch.fail(&["check", "none.yaml", "--format", "json"]));
    assert_eq!((failure.len(), &failure[0]["severity"]), (1, &json!("error")));
    let fine = scratch.run(&["check", "rules.yaml", "--format", "json"]);
    assert_eq!((fine.status, fine.out.as_str()), (0, ""));
    assert!(lines(&fine.err).iter().all(|warning| warning["severity"] == "warning"));
}

#[test]
fn tests_inside_the_files_are_run() {
    let scratch = Scratch::new();
    let document = |amount: u32| {
        format!(
            "schema: schema.yaml\nrules:\n  - id: big\n    when: amount > 100\n    tests:\n      - match: {{amount: {amount}}}\n      - no_match: {{amount: 100}}\n"
        )
    };
    scratch.write("right.yaml", document(101));
    scratch.write("wrong.yaml", document(100));
    assert!(scratch.run(&["check", "right.yaml"]).err.contains("1 rule, 2 tests passed"));
    assert!(scratch.fail(&["check", "wrong.yaml"]).contains("the test says `match`, but the rule does not match"));
    for pack in ["fraud", "recommendation"] {
        let folder = project("rules").join(pack);
        let checked = scratch.run(&["check", folder.to_str().expect("a path")]);
        assert_eq!(checked.status, 0, "{}", checked.err);
        assert!(checked.err.contains("tests passed") && !checked.err.contains(" 0 tests"), "{}", checked.err);
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    let scratch = Scratch::new();
    let wrong: [&[&str]; 9] = [
        &[],
        &["mtach", "rules.yaml"],
        &["match"],
        &["match", "rules.yaml", "--evnets", "events.ndjson"],
        &["match", "rules.yaml", "--backend", "fpga"],
        &["match", "rules.yaml", "--threads", "0"],
        &["match", "rules.yaml", "--batch-rows", "18446744073709551615"],
        &["compile", "rules.yaml"],
        &["explain", "rules.yaml", "--events", "events.ndjson"],
    ];
    for arguments in wrong {
        let ended = scratch.run(arguments);
        assert_eq!((ended.status, ended.out.as_str()), (2, ""), "{arguments:?}");
        assert!(ended.err.contains("Usage") || ended.err.contains("--help"), "{}", ended.err);
    }
    assert!(scratch.succeed(&["--help"]).contains("Usage: "), "help is a result");
    assert!(scratch.succeed(&["--version"]).starts_with("dynamic-cep "));
}

#[test]
fn everything_but_results_goes_to_standard_error() {
    let scratch = Scratch::new();
    let silent: [&[&str]; 4] = [
        &["check", "rules.yaml"],
        &["compile", "rules.yaml", "--output", "rules.dcep"],
        &MATCH,
        &["match", "rules.yaml", "--events", "events.ndjson", "--emit", "none", "--output", "-"],
    ];
    for arguments in silent {
        let ended = scratch.run(arguments);
        assert_eq!((ended.status, ended.out.as_str()), (0, ""), "{arguments:?}");
        assert!(
            !ended.err.is_empty() && !ended.err.contains('\u{1b}') && !ended.err.contains('\r'),
            "plain text when piped: {}",
            ended.err
        );
    }
    let told = scratch.run(&MATCH).err;
    for part in [
        "big",
        "events 4",
        "decisions: block 2  challenge 0  review 1  allow 1",
        "back end: cpu",
        "events/s",
        "read",
        "encode",
        "match",
        "decide",
    ] {
        assert!(told.contains(part), "{part} in {told}");
    }
    assert!(scratch.fail(&with(&MATCH, &["--output", "results.txt"])).contains(".parquet, .arrow, .ndjson and .csv"));
    assert!(scratch.fail(&with(&MATCH, &["--output", "no/such/folder.csv"])).contains("folder.csv"));
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let scratch = Scratch::new();
    scratch.write("rules.yaml", "schema: schema.yaml\nrules: [{id: all, when: 'TRUE'}]\n");
    scratch.write("events.ndjson", EVENTS.repeat(5000));
    scratch.succeed(&["compile", "rules.yaml", "--output", "rules.dcep"]);
    for arguments in [with(&MATCH, &["--output", "-"]), vec!["inspect", "rules.dcep"]] {
        let mut child = scratch.command(&arguments).spawn().expect("the program");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("an end");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !told.contains("panicked") && !told.contains("error"), "{arguments:?}: {told}");
    }
}

#[test]
fn explain_shows_leaves_and_near_misses() {
    let scratch = Scratch::new();
    let told = scratch.succeed(&["explain", "rules.yaml", "--events", "events.ndjson", "--row", "0"]);
    for line in
        ["big matches", "  true    amount > 100   (amount is 150)", "  true    name LIKE 'K%'   (name is 'Kub')", "row 0: 2 rules match"]
    {
        assert!(told.lines().any(|found| found == line), "{line} in {told}");
    }
    let near = told.split("near misses").nth(1).expect("near misses");
    assert!(near.contains("quiet") && near.contains("never"), "{told}");
    let one = scratch.succeed(&["explain", "rules.yaml", "--events", "events.ndjson", "--row", "2", "--rule", "big"]);
    assert_eq!(one, "big does not match\n  false   amount > 100   (amount is 50)\n");
    assert!(scratch.fail(&["explain", "rules.yaml", "--events", "events.ndjson", "--row", "4"]).contains("the events have 4 rows"));
    assert!(scratch.fail(&["explain", "rules.yaml", "--events", "events.ndjson", "--row", "0", "--rule", "x"]).contains("no rule `x`"));
}

#[test]
fn devices_says_what_auto_would_choose() {
    let told = Scratch::new().succeed(&["devices"]);
    assert!(told.starts_with("cpu: ") && told.contains("\ngpu: ") && told.contains("\nauto chooses: "), "{told}");
}

/// Whatever the bytes are: a diagnostic and 1, or nothing wrong and 0; never a panic, never a signal.
#[test]
fn hostile_files_give_diagnostics() {
    let scratch = Scratch::new();
    let document = |condition: &str| format!("rules:\n  - id: hostile\n    when: {}\n", Value::from(condition));
    let wide = (0..40_000).map(|number| format!("amount = {number}")).collect::<Vec<_>>().join(" OR ");
    assert!(wide.len() > 400_000);
    let members = (0..100_000).map(|number| number.to_string()).collect::<Vec<_>>().join(", ");
    let nested = format!("{}amount > 5{}", "(".repeat(100_000), ")".repeat(100_000));
    let refused: [(&str, Vec<u8>); 10] = [
        ("parentheses.yaml", document(&nested).into_bytes()),
        ("not.yaml", document(&format!("{}amount > 5", "NOT ".repeat(100_000))).into_bytes()),
        ("minus.yaml", document(&format!("amount > {}5", "- ".repeat(100_000))).into_bytes()),
        ("unfinished.yaml", document(&"(".repeat(100_000)).into_bytes()),
        ("invalid.yaml", b"rules:\n  - id: \xff\xfe\n    when: amount > 5\n".to_vec()),
        ("invalid.csv", b"id,when\na,name = '\xff'\n".to_vec()),
        ("invalid.ndjson", b"{\"id\":\"a\",\"when\":\"\xff\"}\n".to_vec()),
        ("nested.json", "[".repeat(100_000).into_bytes()),
        ("nested.yaml", "- ".repeat(100_000).into_bytes()),
        ("cut.parquet", b"PAR1 and nothing more".to_vec()),
    ];
    for (name, content) in refused {
        scratch.write(name, content);
        let told = scratch.fail(&["check", name, "--schema", "schema.yaml"]);
        assert!(told.contains(name) && told.len() < 100_000, "{name}: {told}");
    }
    let accepted = [
        ("wide.yaml", document(&wide)),
        ("members.yaml", document(&format!("amount IN ({members})"))),
        ("spaces.yaml", document(&format!("{}TRUE", " ".repeat(400_000)))),
    ];
    for (name, content) in accepted {
        scratch.write(name, content);
        let counted =
            scratch.succeed(&["match", name, "--schema", "schema.yaml", "--events", "events.ndjson", "--emit", "counts", "--output", "-"]);
        assert!(counted.starts_with("{\"rule\":\"hostile\""), "{name}");
    }
    for name in ["empty.yaml", "empty.json", "empty.csv", "empty.ndjson", "empty.parquet"] {
        scratch.write(name, "");
        let ended = scratch.run(&["check", name, "--schema", "schema.yaml"]);
        assert!(!ended.err.is_empty() && !ended.err.contains("panicked"), "{name}: {}", ended.err);
    }
    for name in ["events.csv", "events.parquet", "events.arrow", "events.ndjson"] {
        for content in [&b""[..], b"\xff\xfe\x00\x01", b"PAR1", b"ARROW1", b"{\"a\":", b"\"", b"a,a\n1,2\n"] {
            scratch.write(name, content);
            let ended = scratch.run(&["match", "rules.yaml", "--events", name, "--backend", "cpu"]);
            assert!(!ended.err.contains("panicked"), "{name} {content:?}: {}", ended.err);
        }
    }
}

#[test]
fn bench_gives_the_figures_of_each_back_end_once_their_answers_agree() {
    let scratch = Scratch::new();
    let small = ["bench", "--rules", "500", "--events", "600", "--runs", "1", "--backend", "cpu", "--backend", "reference"];
    let further = ["--workload", "f2", "--json", "--csv", "figures.csv", "--chart", "figures.svg"];
    let figures = lines(&scratch.succeed(&with(&small, &further)));
    let named: Vec<&Value> = figures.iter().map(|line| &line["backend"]).collect();
    assert_eq!(named, [&json!("cpu"), &json!("reference")]);
    assert_eq!(figures[0]["hash"], figures[1]["hash"], "so few events that both saw them all");
    for line in &figures {
        assert_eq!((&line["workload"], &line["rules"], &line["events"]), (&json!("F2"), &json!(500), &json!(600)));
        for rate in [
            "match_events_per_s",
            "decisions_events_per_s",
            "match_ns_per_event",
            "batch_p99_us",
            "event_p99_us",
            "build_s",
            "bytes_per_rule",
        ] {
            assert!(line[rate].as_f64().is_some_and(|rate| rate > 0.0), "{rate}: {line}");
        }
    }
    assert!(figures[0]["encode_events_per_s"].is_number() && figures[1]["encode_events_per_s"].is_null());
    assert_eq!(scratch.read("figures.csv").lines().count(), 3);
    assert!(scratch.read("figures.svg").starts_with("<svg"));

    let data = project("benches/data");
    let filter = scratch.succeed(&["bench", "--workload", "W4", "--data", &data.to_string_lossy(), "--backend", "cpu", "--runs", "1"]);
    assert!(filter.starts_with("W4: 9774 rules, 10000 events") && filter.contains("known to be right"), "{filter}");
    let told = scratch.fail(&["bench", "--workload", "W4"]);
    assert!(told.contains("rules.parquet") && told.contains("--data"), "{told}");
    assert_eq!(scratch.run(&["bench", "--workload", "W9"]).status, 2);
    assert_eq!(scratch.run(&["bench", "--rules", "0"]).status, 2);
}
