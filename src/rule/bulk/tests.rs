use super::*;
use crate::event::{Type, Value};
use crate::rule::table::CHUNK_ROWS;
use crate::rule::{Action, Status};
use arrow::array::{ArrayRef, DictionaryArray, Float64Array, Int64Array, ListBuilder, StringArray, StringBuilder, StringViewArray};
use arrow::datatypes::Int32Type;
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;

fn open(file: &str, content: &str) -> Result<RuleRows, Box<Diagnostic>> {
    RuleRows::open(file, Bytes::from(content.to_owned()), &Limits::default())
}

fn all(rows: RuleRows) -> (Vec<Rule>, Vec<Diagnostic>) {
    let (mut rules, mut diagnostics) = (Vec::new(), Vec::new());
    for mut chunk in rows {
        rules.append(&mut chunk.rules);
        diagnostics.append(&mut chunk.diagnostics);
    }
    (rules, diagnostics)
}

fn found(diagnostics: &[Diagnostic]) -> Vec<(&'static str, Option<u64>, Option<&str>)> {
    diagnostics.iter().map(|d| (d.code, d.row, d.rule.as_deref())).collect()
}

fn parquet_bytes(columns: Vec<(&str, ArrayRef)>) -> Bytes {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).expect("a batch");
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("written");
    writer.into_inner().expect("finished").into()
}

#[test]
fn ndjson_rows_are_rules() {
    let content = concat!(
        "\u{feff}{\"id\": 7, \"when\": \"a > 1\", \"score\": 1.5, \"tags\": [\"x\", \"y\"]}\r\n",
        "\n",
        "{\"id\": \"007\", \"when\": \"b\", \"tenant\": \"acme\", \"action\": \"block\", \"status\": \"off\", \"outcome\": \"o\", \"tags\": null}\n",
        "{\"id\": \"c\", \"when\": \"c\", \"tags\": \"p; q;\"}",
    );
    let (rules, diagnostics) = all(open("r.ndjson", content).expect("open"));
    assert_eq!(found(&diagnostics), []);
    let [a, b, c] = &rules[..] else { panic!("{rules:?}") };
    assert_eq!((&*a.id, &*a.when, a.score, a.origin.row, &*a.origin.file), ("7", "a > 1", 1500, Some(0), "r.ndjson"));
    assert_eq!(a.tags, ["x".into(), "y".into()]);
    assert_eq!(
        (&*b.id, b.tenant.as_deref(), b.action, b.status, b.outcome.as_deref()),
        ("007", Some("acme"), Action::Block, Status::Off, Some("o"))
    );
    assert_eq!((b.origin.row, &b.tags[..]), (Some(1), &[][..]));
    assert_eq!(c.tags, ["p".into(), "q".into()]);
}

#[test]
fn csv_rows_are_rules() {
    let content = "id,when,score,tags,description\n007,\"a = 'x,\"\"y\"\"'\nAND b\",1.250,\"[\"\"p\"\"]\",text\nb,b = 1,,x;y,\n";
    let (rules, diagnostics) = all(open("r.csv", content).expect("open"));
    assert_eq!(found(&diagnostics), [("unknown-column", None, None)]);
    assert_eq!(
        rules.iter().map(|rule| (&*rule.id, &*rule.when, rule.score)).collect::<Vec<_>>(),
        [("007", "a = 'x,\"y\"'\nAND b", 1250), ("b", "b = 1", 0)]
    );
    assert_eq!(rules[0].tags, ["p".into()]);
    assert_eq!(rules[1].tags, ["x".into(), "y".into()]);
}

#[test]
fn parquet_of_every_kind_of_text_is_rules_in_chunks() {
    let rows = CHUNK_ROWS + 2;
    let ids = Int64Array::from_iter_values(0..rows as i64);
    let when: DictionaryArray<Int32Type> = (0..rows).map(|row| if row % 2 == 0 { "a > 1" } else { "b" }).collect();
    let tenants = StringViewArray::from_iter((0..rows).map(|row| (row % 2 == 0).then_some("a tenant whose name is not inline")));
    let scores = Float64Array::from_iter_values((0..rows).map(|row| row as f64 / 8.0));
    let mut tags = ListBuilder::new(StringBuilder::new());
    for row in 0..rows {
        tags.append_option((row % 2 == 0).then_some([Some("x"), Some("y")]));
    }
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(ids)),
        ("when", Arc::new(when)),
        ("tenant", Arc::new(tenants)),
        ("score", Arc::new(scores)),
        ("tags", Arc::new(tags.finish())),
    ];
    let reader = RuleRows::open("r.parquet", parquet_bytes(columns), &Limits::default()).expect("open");
    let chunks: Vec<RuleChunk> = reader.collect();
    assert_eq!(chunks.iter().map(|chunk| chunk.rules.len()).collect::<Vec<_>>(), [CHUNK_ROWS, 2]);
    assert!(chunks.iter().all(|chunk| chunk.diagnostics.is_empty()));
    let rule = &chunks[0].rules[2];
    assert_eq!((&*rule.id, &*rule.when, rule.score, rule.tags.len()), ("2", "a > 1", 250, 2));
    assert_eq!(rule.tenant.as_deref(), Some("a tenant whose name is not inline"));
    let last = &chunks[1].rules[1];
    assert_eq!((&*last.id, &*last.when, last.tenant.as_deref(), last.origin.row), ("8193", "b", None, Some(8193)));
}

#[test]
fn mistakes_in_rows_name_the_row() {
    let content = concat!(
        "{\"id\": \"a\"}\n{\"when\": \"b\"}\n{\"id\": \"c\", \"when\": \"c\", \"action\": \"blck\", \"score\": \"x\", \"status\": 1}\n",
        "{\"id\": \"d\", \"id\": \"e\", \"when\": \"d\"}\nnot json\n[1]\n{\"id\": \"\", \"when\": \"f\"}\n{\"id\": \"g\", \"when\": \"g\", \"wen\": 1}\n{\"id\": \"h\", \"when\": null, \"tags\": [1]}",
    );
    let (rules, diagnostics) = all(open("r.jsonl", content).expect("open"));
    assert_eq!(rules.iter().map(|rule| &*rule.id).collect::<Vec<_>>(), ["c", "g"]);
    assert_eq!(
        found(&diagnostics),
        [
            ("unknown-column", None, None),
            ("unreadable-row", Some(3), None),
            ("unreadable-row", Some(4), None),
            ("unreadable-row", Some(5), None),
            ("missing-condition", Some(0), Some("a")),
            ("missing-id", Some(1), None),
            ("bad-score", Some(2), Some("c")),
            ("unknown-action", Some(2), Some("c")),
            ("unknown-status", Some(2), Some("c")),
            ("bad-name", Some(6), None),
            ("bad-tags", Some(8), Some("h")),
            ("missing-condition", Some(8), Some("h")),
        ]
    );
    assert_eq!(diagnostics[0].hint, "did you mean `when`?");
    assert_eq!(
        diagnostics[7].to_string(),
        "error[unknown-action]: unknown action `blck`\n  --> r.jsonl row 2 (rule c)\n  hint: did you mean `block`?\n"
    );
}

#[test]
fn files_that_are_no_table_of_rules_are_refused() {
    let refused = |file: &str, content: &str| match open(file, content) {
        Err(diagnostic) => diagnostic.code,
        Ok(rows) => all(rows).1.first().map_or("", |diagnostic| diagnostic.code),
    };
    for file in ["r.csv", "r.ndjson", "r.parquet"] {
        assert_eq!(refused(file, " \n"), "empty-file");
    }
    assert_eq!(refused("r.csv", "name,when\na,b\n"), "missing-column");
    assert_eq!(refused("r.csv", "id,id,when\n"), "duplicate-column");
    assert_eq!(refused("r.csv", "id,when\na,b,c\n"), "unreadable-table");
    assert_eq!(refused("r.ndjson", "{\"id\": 1}\n"), "missing-column");
    assert_eq!(refused("r.ndjson", &"[".repeat(100_000)), "unreadable-row");
    assert_eq!(refused("r.parquet", "PAR1 and no more"), "unreadable-table");
    assert_eq!(refused("r.xlsx", "x"), "unknown-format");
    let invalid = RuleRows::open("r.csv", Bytes::from_static(b"id,when\na,\xff\n"), &Limits::default()).expect("open");
    assert_eq!(found(&all(invalid).1), [("unreadable-table", Some(0), None)]);
    let many = format!("id,when\n{}", "a,\n".repeat(30_000));
    let diagnostics = all(open("r.csv", &many).expect("open")).1;
    assert_eq!((diagnostics.len(), diagnostics.last().map(|d| d.code)), (10_001, Some("too-many-problems")));
}

#[test]
fn damaged_parquet_never_panics() {
    let ids: ArrayRef = Arc::new(StringArray::from_iter_values((0..200).map(|row| format!("rule {row}"))));
    let when: ArrayRef = Arc::new(StringArray::from_iter_values((0..200).map(|row| format!("amount > {row}"))));
    let sound = parquet_bytes(vec![("id", ids), ("when", when)]).to_vec();
    let mut state = 7_u64;
    let mut below = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    for _ in 0..2000 {
        let mut bytes = sound.clone();
        for _ in 0..=below(3) {
            let at = below(bytes.len());
            bytes[at] = below(256) as u8;
        }
        if let Ok(rows) = RuleRows::open("r.parquet", bytes.into(), &Limits::default()) {
            let _ = all(rows);
        }
    }
}

#[test]
fn instances_share_the_condition_of_their_template() {
    let template = Arc::new(Template {
        id: "t".into(),
        parameters: vec![("limit".into(), Type::Float), ("day".into(), Type::Date)],
        when: "a > :limit AND d = :day".into(),
        origin: crate::rule::Origin::at("d.yaml".into(), 3, 9),
        attributes: Attributes { score: 5000, ..Attributes::default() },
    });
    let content = "{\"limit\": 1.5, \"day\": \"1970-01-03\"}\n{\"id\": \"own\", \"limit\": 2, \"day\": \"2000-01-01\", \"score\": 1}\n{\"limit\": 3}\n";
    let rows = RuleRows::instances("t.ndjson", Bytes::from(content), Arc::clone(&template), &Limits::default()).expect("open");
    let (rules, diagnostics) = all(rows);
    assert_eq!(found(&diagnostics), [("missing-parameter", Some(2), Some("t-2"))]);
    let [first, own] = &rules[..] else { panic!("{rules:?}") };
    assert!(Arc::ptr_eq(&first.when, &own.when));
    assert_eq!((&*first.id, first.score, &first.origin), ("t-0", 5000, &template.origin));
    assert_eq!(first.parameters, [("limit".into(), Value::Float(1.5)), ("day".into(), Value::Date(2))]);
    assert_eq!((&*own.id, own.score), ("own", 1000));
}
