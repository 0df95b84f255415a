//! Artifacts that were cut short, altered or made up: a clear error, or tables that every back end matches without a panic.

use crate::compare::{Engines, artifact_of, compare, reference_of};
use crate::forge::{TABLE_END, range, seal, with_section};
use crate::generate::{Case, batch};
use crate::random::{Random, cases, seed};
use dynamic_cep::decide::decide;
use dynamic_cep::engine::Generation;
use dynamic_cep::event::EventBatch;
use dynamic_cep::expr::columns::Cache;
use dynamic_cep::id::RuleId;
use dynamic_cep::reference::Reference;
use dynamic_cep::rule::{Clause, Limits, Rule, print};
use dynamic_cep::tables::artifact::{Artifact, ArtifactError, FORMAT_VERSION, Section};
use dynamic_cep::temporal::patterns::{Limits as StateLimits, PatternRule, Patterns};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

/// An artifact that has something in every section.
fn sample() -> (Case, Vec<u8>) {
    // The first seed whose rules are of every kind.
    for seed in 0.. {
        let random = &mut Random::new(seed);
        let mut case = Case::new(random, 24);
        let Some(field) = case.schema.fields().iter().find(|field| field.ty.is_integer()).map(|field| format!("\"{}\"", field.name)) else {
            continue;
        };
        for rule in &mut case.rules {
            rule.tags = vec!["tag".into()];
            rule.outcome = Some("item".into());
        }
        let mut rules = case.rules.clone();
        let clause = dynamic_cep::rule::Clause::MatchRecognize;
        rules.push(dynamic_cep::rule::Rule {
            id: "pattern".into(),
            when: "PATTERN (a b+ | c) DEFINE b AS PREV(b.row) < 5".replace("b.row", &field).into(),
            clause,
            ..rules[0].clone()
        });
        let artifact = artifact_of(&case.schema, &rules, &Limits { derived_columns: 8, ..Limits::default() }, 1);
        // Bitmaps are for many rules with wide ranges; they have tests of their own.
        let bitmaps = [Section::NodeBitmaps, Section::BitmapTiles, Section::BitmapColumns, Section::Bitmaps];
        // Windows have tests of their own, too.
        let others = [Section::Windows];
        if Section::ALL
            .iter()
            .all(|section| bitmaps.contains(section) || others.contains(section) || !range(&artifact, *section).is_empty())
        {
            return (case, artifact);
        }
    }
    unreachable!("seeds do not end")
}

fn error_of(bytes: &[u8]) -> Option<ArtifactError> {
    Artifact::from_bytes(bytes).err()
}

#[test]
fn a_truncated_artifact_says_so() {
    let (_, artifact) = sample();
    let random = &mut Random::new(1);
    let lengths = (0..200).chain((0..600).map(|_| random.below(artifact.len()))).chain([TABLE_END, artifact.len() - 1]);
    for length in lengths {
        let error = error_of(&artifact[..length]).unwrap_or_else(|| panic!("{length} bytes were taken for the whole"));
        match length {
            0..8 => assert!(matches!(error, ArtifactError::Foreign), "{length}: {error}"),
            _ => assert!(matches!(error, ArtifactError::Truncated { .. }), "{length}: {error}"),
        }
    }
    let mut longer = artifact.clone();
    longer.extend([0; 64]);
    assert!(matches!(error_of(&longer), Some(ArtifactError::Corrupt(_))));
}

#[test]
fn any_altered_byte_is_noticed() {
    let (_, artifact) = sample();
    let random = &mut Random::new(2);
    let positions: Vec<usize> = (0..TABLE_END)
        .filter(|at| !(56..64).contains(at))
        .chain(Section::ALL.iter().map(|section| range(&artifact, *section)).filter(|range| !range.is_empty()).flat_map(|range| {
            let some: Vec<usize> = (0..40).map(|_| range.start + random.below(range.len())).collect();
            some.into_iter().chain([range.start, range.end - 1])
        }))
        .collect();
    for at in positions {
        let mut altered = artifact.clone();
        altered[at] ^= 1 << (at % 8);
        let error = error_of(&altered).unwrap_or_else(|| panic!("byte {at} was altered"));
        assert!(error.to_string().starts_with(|c: char| c.is_lowercase()), "{error}");
    }
}

#[test]
fn foreign_files_are_refused() {
    assert!(matches!(error_of(b""), Some(ArtifactError::Foreign)));
    for foreign in [&b"PAR1"[..], b"rules:\n  - id: a\n", b"\x89PNG\r\n\x1a\n", &[0; 4096], &[0xff; 300], b"ARROW1\0\0"] {
        assert!(matches!(error_of(foreign), Some(ArtifactError::Foreign)));
    }
    let (_, artifact) = sample();
    for version in [0, 1, FORMAT_VERSION + 1, u32::MAX] {
        let mut other = artifact.clone();
        other[8..12].copy_from_slice(&u32::to_le_bytes(version));
        seal(&mut other);
        assert!(matches!(error_of(&other), Some(ArtifactError::Version(found)) if found == version));
    }
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.dcep");
    std::fs::write(&empty, b"").unwrap();
    assert!(matches!(Artifact::open(&empty), Err(ArtifactError::Foreign)));
    assert!(matches!(Artifact::open(&folder.path().join("none.dcep")), Err(ArtifactError::Io(_))));
    assert!(Artifact::open(folder.path()).is_err());
}

/// Opens a made-up artifact and does with it all that the engine does. Whether it opened.
fn exercise(bytes: &[u8], case: &Case, batch: &EventBatch) -> bool {
    let Ok(artifact) = Artifact::from_bytes(bytes) else { return false };
    let artifact = Arc::new(artifact);
    for rule in (0..artifact.rules().len()).map(RuleId::new) {
        let _ = (artifact.rule_name(rule), artifact.tags(rule).count());
    }
    let Ok(generation) = Generation::new(Arc::clone(&artifact)) else { return false };
    let _ = artifact.rules().first().map(|_| artifact.source(RuleId(0)));
    let _ = Reference::new(&artifact);
    // A batch is made for a schema; where that was altered, only empty events are left to try.
    let none = EventBatch::new(artifact.schema(), 0, 3, vec![None; artifact.schema().fields().len()]);
    let batch = if artifact.schema().fields() == case.schema.fields() { batch } else { &none };
    let mut cache = Cache::new();
    let encoded = generation.encode(batch, &mut cache);
    for (_, matcher) in &mut crate::compare::cpu_matchers() {
        let found = matcher(&artifact.tables(), &encoded);
        let hits = generation.verify(batch, found, &mut cache);
        let _ = decide(&hits, artifact.rules());
    }
    true
}

/// Exercises a forgery; a panic is reported with what was forged.
fn survives(bytes: &[u8], case: &Case, batch: &EventBatch, what: impl Fn() -> String) -> bool {
    catch_unwind(AssertUnwindSafe(|| exercise(bytes, case, batch))).unwrap_or_else(|_| panic!("a forged artifact panics: {}", what()))
}

/// Valid checksums over altered sections: opening refuses them, or nothing that follows panics.
#[test]
fn forged_sections_do_no_harm() {
    let (case, artifact) = sample();
    let first = seed("forged_sections_do_no_harm");
    let batch = batch(&mut Random::new(first), &case.schema, &case.pool, 40);
    assert!(exercise(&artifact, &case, &batch));
    let mut opened = 0;
    for seed in (0..cases(2_500)).map(|nth| first.wrapping_add(nth)) {
        let random = &mut Random::new(seed);
        let section = *random.pick(Section::ALL);
        let mut content = artifact[range(&artifact, section)].to_vec();
        for _ in 0..1 + random.below(3) {
            mutate(random, &mut content);
        }
        let forged = with_section(&artifact, section, &content);
        opened += u64::from(survives(&forged, &case, &batch, || format!("DYNAMIC_CEP_SEED={seed}, section {section:?}")));
    }
    eprintln!("{opened} of the forgeries opened");
    assert!(opened > 0);
}

/// Patterns with every kind of step and of expression.
const PATTERNS: [(Clause, &str); 5] = [
    (Clause::MatchRecognize, "PATTERN (^ (a? b*)+ {- c -} | PERMUTE(b, c) $) DEFINE a AS n > 1, b AS PREV(n) < 5, c AS NEXT(amount, 2) IS NULL"),
    (
        Clause::MatchRecognize,
        "PARTITION BY mcc ORDER BY at, n DESC MEASURES SUM(u.n) AS s, ARRAY_AGG(DISTINCT mcc) AS m, FINAL LAST(a.amount, 1) AS l, MATCH_NUMBER() AS k
         ALL ROWS PER MATCH SHOW EMPTY MATCHES AFTER MATCH SKIP TO LAST b PATTERN (a (b | c){,3}) WITHIN INTERVAL '2' HOUR SUBSET u = (a, b)
         DEFINE b AS COUNT(a.*) FILTER (WHERE a.n > 0) > 0, c AS PREV(CLASSIFIER(), 1) = 'A' OR STDDEV(c.amount) > 1",
    ),
    (Clause::MatchRecognize, "ORDER BY at ALL ROWS PER MATCH WITH UNMATCHED ROWS AFTER MATCH SKIP TO NEXT ROW PATTERN (a b) DEFINE b AS MAX(a.fee) < fee"),
    (Clause::Sequence, "BY tenant WITHIN INTERVAL '1' DAY [n > 0]{2,} AS a THEN NOT [mcc = 'x'] [amount > a.amount] UNTIL [n = 0] MEASURES MIN(a.at) AS m"),
    (Clause::Sequence, "WITHIN INTERVAL '1' MINUTE [n > 0] AS a THEN NOT [n = a.n] ALL ROWS PER MATCH AFTER MATCH SKIP TO NEXT ROW"),
];

/// Valid checksums over altered patterns: opening refuses them, or they take rows without harm.
#[test]
fn forged_patterns_do_no_harm() {
    let mut schema = kept::schema();
    schema.time = schema.find("at");
    let rules: Vec<Rule> = (0..PATTERNS.len())
        .map(|at| Rule { id: format!("p{at}").into(), when: PATTERNS[at].1.into(), clause: PATTERNS[at].0, ..kept::rules()[0].clone() })
        .collect();
    let artifact = artifact_of(&schema, &rules, &Limits::default(), 1);
    let content = &artifact[range(&artifact, Section::Patterns)];
    let batch = kept::batch(&schema);
    // How many findings an artifact with these patterns brings; `None`: it does not open.
    let findings = |content: &[u8]| {
        let artifact = Artifact::from_bytes(&with_section(&artifact, Section::Patterns, content)).ok()?;
        let rules = artifact.patterns().iter().map(|(rule, pattern)| {
            assert!(!print::pattern(pattern, artifact.schema()).is_empty());
            PatternRule { rule: *rule, name: "".into(), tenant: None, pattern: Arc::clone(pattern) }
        });
        let mut patterns = Patterns::new(artifact.schema().clone(), rules.collect(), 86_400_000_000_000, StateLimits::default());
        let holds = patterns.conditions().judge(artifact.schema(), &batch);
        let mut found = Vec::new();
        (0..3).for_each(|_| patterns.take(&batch, &holds, &[], &mut found, &mut Vec::new()).expect("all in memory"));
        patterns.finish(&mut found).expect("all in memory");
        Some(found.len())
    };
    let sound = findings(content).expect("what was compiled opens");
    assert!(sound > PATTERNS.len());
    let first = seed("forged_patterns_do_no_harm");
    let (mut refused, mut others) = (0, 0);
    for seed in (0..cases(2_000)).map(|nth| first.wrapping_add(nth)) {
        let random = &mut Random::new(seed);
        let mut forged = content.to_vec();
        for _ in 0..1 + random.below(3) {
            mutate(random, &mut forged);
        }
        match catch_unwind(AssertUnwindSafe(|| findings(&forged))) {
            Ok(None) => refused += 1,
            Ok(Some(found)) => others += u64::from(found != sound),
            Err(_) => panic!("a forged pattern panics: DYNAMIC_CEP_SEED={seed}"),
        }
    }
    eprintln!("{refused} of the forgeries are refused, {others} find something else");
    assert!(refused > 0 && others > 0);
}

fn mutate(random: &mut Random, content: &mut Vec<u8>) {
    if content.is_empty() {
        content.extend([0; 64]);
        return;
    }
    let at = random.below(content.len());
    let word = at / 4 * 4;
    match random.below(8) {
        0..3 => content[at] ^= 1 << random.below(8),
        3 | 4 if word + 4 <= content.len() => {
            let value = *random.pick(&[0, 1, 2, 7, 255, 65_535, 1 << 24, u32::MAX - 2, u32::MAX - 1, u32::MAX]);
            content[word..word + 4].copy_from_slice(&u32::to_le_bytes(value));
        }
        5 => {
            // Elements are of many sizes.
            let size = *random.pick(&[1, 4, 8, 16, 24, 32, 192, 384]);
            content.truncate(content.len().saturating_sub(size));
        }
        6 => {
            let size = (*random.pick(&[4, 8, 16, 24, 32, 192, 384])).min(content.len());
            let copied = content[content.len() - size..].to_vec();
            content.extend(copied);
        }
        _ => {
            let other = random.below(content.len()) / 8 * 8;
            for byte in 0..8 {
                if at / 8 * 8 + byte < content.len() && other + byte < content.len() {
                    content.swap(at / 8 * 8 + byte, other + byte);
                }
            }
        }
    }
}

/// Valid checksums over an altered header and section table.
#[test]
fn forged_headers_do_no_harm() {
    let (case, artifact) = sample();
    let first = seed("forged_headers_do_no_harm");
    let batch = batch(&mut Random::new(first), &case.schema, &case.pool, 5);
    for seed in (0..cases(800)).map(|nth| first.wrapping_add(nth)) {
        let random = &mut Random::new(seed);
        let mut forged = artifact.clone();
        for _ in 0..1 + random.below(2) {
            let at = 8 + random.below(TABLE_END - 8);
            match random.below(3) {
                0 => forged[at] ^= 1 << random.below(8),
                1 => forged[at / 8 * 8..][..8]
                    .copy_from_slice(&random.pick(&[0, 1, 64, artifact.len() as u64, u64::MAX, 1 << 63]).to_le_bytes()),
                _ => forged[at] = random.next() as u8,
            }
        }
        seal(&mut forged);
        survives(&forged, &case, &batch, || format!("DYNAMIC_CEP_SEED={seed}, header"));
    }
}

/// The file of an older version says so, and what to do.
#[test]
fn version_1_is_refused_with_a_word_of_advice() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/artifacts/v1/small.dcep");
    let error = Artifact::open(&path).unwrap_err();
    assert!(matches!(error, ArtifactError::Version(1)), "{error}");
    assert!(error.to_string().contains("compile the rules again"), "{error}");
}

/// What a version of the format meant stays so: these files were written by the first program that had the version.
#[test]
fn older_versions_keep_opening_and_matching() {
    for version in ["v2", "v3", "v4"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/artifacts/{version}/small.dcep"));
        let artifact = Arc::new(Artifact::open(&path).unwrap());
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes.len() < 20_000);
        let names: Vec<&str> = (0..artifact.rules().len()).map(|rule| artifact.rule_name(RuleId::new(rule))).collect();
        assert_eq!(names, KEPT_RULES.map(|(name, ..)| name));
        let batch = kept::batch(artifact.schema());
        let rules = kept::rules();
        let mut engines = Engines::on_cpu(&bytes);
        let hits = compare(&rules, &reference_of(&bytes), &mut engines, &batch).unwrap_or_else(|difference| panic!("{difference:?}"));
        assert!(hits > 0);
        let found = reference_of(&bytes).hits(&batch);
        for (number, (name, _, _, rows)) in KEPT_RULES.iter().enumerate() {
            let of_rule: Vec<usize> = (0..batch.rows()).filter(|row| found.row(*row).contains(&RuleId::new(number))).collect();
            assert_eq!(of_rule, *rows, "{name}");
        }
    }
}

/// Name, tenant, condition, and the rows of [`kept::batch`] that it matches.
type KeptRule = (&'static str, Option<&'static str>, &'static str, &'static [usize]);

const KEPT_RULES: [KeptRule; 9] = [
    ("range", None, "amount > 10 AND amount <= 20.5", &[1, 2]),
    ("list", None, "mcc IN ('5967', '7995', '0001')", &[0, 2]),
    ("long-list", None, "n IN (0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34)", &[0, 2, 4]),
    ("not-list", None, "mcc NOT IN ('5967', '0001')", &[1, 2]),
    ("null", None, "amount IS NULL OR n IS NULL", &[3, 5]),
    ("acme", Some("acme"), "fee >= 0.10", &[0, 2]),
    ("derived", None, "n * 2 > 5 AND LOWER(mcc) <> 'x'", &[2]),
    ("residual", None, "n > amount OR at - TIMESTAMP '2026-01-01' < INTERVAL '1' HOUR", &[0, 4]),
    ("always", None, "TRUE", &[0, 1, 2, 3, 4, 5]),
];

mod kept {
    //! The schema, the rules and the events of the kept artifact.

    use super::KEPT_RULES;
    use arrow::array::{ArrayRef, Decimal128Array, DictionaryArray, Float64Array, Int64Array, TimestampMillisecondArray};
    use arrow::datatypes::{DataType, Int32Type};
    use dynamic_cep::event::{EventBatch, Field, Schema, TimeUnit, Type};
    use dynamic_cep::id::FieldId;
    use dynamic_cep::rule::{Action, Origin, Rule, Status};
    use std::sync::Arc;

    pub fn schema() -> Schema {
        let field = |name: &str, ty| Field { name: name.to_owned(), ty };
        let mut schema = Schema::new(vec![
            field("tenant", Type::Text),
            field("amount", Type::Float),
            field("n", Type::Int),
            field("mcc", Type::Text),
            field("fee", Type::Decimal { scale: 2 }),
            field("at", Type::Timestamp(TimeUnit::Millisecond)),
        ])
        .unwrap();
        schema.tenant = Some(FieldId(0));
        schema
    }

    pub fn rules() -> Vec<Rule> {
        let rule = |(name, tenant, when, _): &(&'static str, Option<&'static str>, &'static str, _)| Rule {
            id: (*name).into(),
            tenant: tenant.map(Into::into),
            when: (*when).into(),
            origin: Origin::default(),
            parameters: Vec::new(),
            score: 1500,
            action: Action::Review,
            status: Status::Live,
            tags: vec!["kept".into()],
            outcome: None,
            clause: dynamic_cep::rule::Clause::default(),
            tests: Vec::new(),
        };
        KEPT_RULES.iter().map(rule).collect()
    }

    pub fn batch(schema: &Schema) -> EventBatch {
        const START: i64 = 1_767_225_600_000;
        let texts = |values: [Option<&str>; 6]| Arc::new(values.into_iter().collect::<DictionaryArray<Int32Type>>()) as ArrayRef;
        let fees =
            Decimal128Array::from(vec![Some(10), Some(9), Some(11), None, Some(50), None]).with_data_type(DataType::Decimal128(38, 2));
        let columns: Vec<Option<ArrayRef>> = vec![
            Some(texts([Some("acme"), Some("acme"), Some("acme"), Some("acme"), Some("other"), None])),
            Some(Arc::new(Float64Array::from(vec![Some(10.0), Some(20.5), Some(15.0), None, Some(-1.0), Some(f64::NAN)]))),
            Some(Arc::new(Int64Array::from(vec![Some(2), Some(1), Some(4), Some(3), Some(0), None]))),
            Some(texts([Some("5967"), Some("1"), Some("7995"), None, None, None])),
            Some(Arc::new(fees)),
            Some(Arc::new(TimestampMillisecondArray::from(vec![
                START + 1,
                START + 3_600_000,
                i64::MAX,
                START + 7_200_000,
                START,
                START + 3_600_000,
            ]))),
        ];
        EventBatch::new(schema, 0, 6, columns)
    }
}

/// The rules of the kept artifact, compiled today, match the same.
#[test]
fn the_kept_rules_compile_to_the_same_hits() {
    let rules = kept::rules();
    let artifact = artifact_of(&kept::schema(), &rules, &Limits::default(), 1);
    if let Some(folder) = std::env::var_os("DYNAMIC_CEP_KEEP") {
        std::fs::write(Path::new(&folder).join("small.dcep"), &artifact).unwrap();
    }
    let batch = kept::batch(&kept::schema());
    let found = reference_of(&artifact).hits(&batch);
    for (number, (name, _, _, rows)) in KEPT_RULES.iter().enumerate() {
        let of_rule: Vec<usize> = (0..batch.rows()).filter(|row| found.row(*row).contains(&RuleId::new(number))).collect();
        assert_eq!(of_rule, *rows, "{name}");
    }
}
