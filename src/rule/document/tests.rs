use super::*;
use crate::event::Value;
use crate::rule::{Action, Status};
use serde_json::json;

fn no_files(path: &str) -> io::Result<Bytes> {
    Err(io::Error::new(io::ErrorKind::NotFound, format!("no file {path}")))
}

fn files(path: &str) -> io::Result<Bytes> {
    Ok(Bytes::from_static(match path {
        "pack/limits.csv" => b"merchant,limit,id,score\nshop,12.5,,7\ninn,x,own,\nbar,9,last,1.2345\n",
        "pack/mcc.txt" => b"5967\n\n 7995 \n0742",
        "pack/mcc.csv" => b"mcc,name\n5967,a\n0742,b\n",
        _ => return no_files(path),
    }))
}

fn parse(source: &str) -> (Document, Vec<Diagnostic>) {
    parse_document("pack/f.yaml", source.as_bytes(), &files, &Limits::default())
}

fn sound(source: &str) -> Document {
    let (document, diagnostics) = parse(source);
    assert!(diagnostics.is_empty(), "{}", text(&diagnostics));
    document
}

fn text(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(ToString::to_string).collect()
}

fn codes(source: &str) -> Vec<(&'static str, u32, u32)> {
    parse(source).1.iter().map(|d| (d.code, d.line, d.column)).collect()
}

const WHOLE: &str = "\
schema: schema.yaml
lists:
  risky_mcc: ['5967', 7995, 0742]
  from_lines: {file: mcc.txt}
  from_table: {file: mcc.csv, column: mcc}
templates:
  - id: merchant-limit
    parameters: {merchant: utf8, limit: 'decimal(9,2)'}
    when: merchant = :merchant AND amount > :limit
    action: review
    tags: [limits]
rules:
  - id: large-night-purchase
    description: for people
    tenant: acme
    when: amount > 900 AND mcc IN LIST risky_mcc
    score: 35.125
    action: block
    status: shadow
    tags: [night, 2026]
    outcome: item-7
    tests:
      - match: {amount: 950, event_time: 2026-01-01T02:00:00Z, mcc: '7995', code: 0742, note: yes, none: null, big: 1e3}
      - no_match: {amount: 900.50, flags: [true, {a: ~}]}
  - {id: 007, when: 'a = 1'}
instances:
  - template: merchant-limit
    values:
      - {merchant: shop, limit: 12.5}
      - {merchant: 007, limit: 3, id: own, action: block, score: -1}
";

#[test]
fn a_document_says_all_that_the_model_has() {
    let document = sound(WHOLE);
    assert_eq!(document.schema.as_ref().map(|(path, origin)| (&**path, origin.locate("", 0))), Some(("pack/schema.yaml", (1, 9))));
    let lists: Vec<(&str, serde_json::Value)> = document.lists.iter().map(|(name, entries)| (&**name, json!(entries))).collect();
    assert_eq!(
        lists,
        [
            ("risky_mcc", json!(["5967", 7995, "0742"])),
            ("from_lines", json!(["5967", "7995", "0742"])),
            ("from_table", json!(["5967", "0742"]))
        ]
    );
    let [rule, seven, shop, own] = &document.rules[..] else { panic!("{:?}", document.rules) };
    assert_eq!(
        (&*rule.id, rule.tenant.as_deref(), &*rule.when),
        ("large-night-purchase", Some("acme"), "amount > 900 AND mcc IN LIST risky_mcc")
    );
    assert_eq!((rule.score, rule.action, rule.status, rule.outcome.as_deref()), (35_125, Action::Block, Status::Shadow, Some("item-7")));
    assert_eq!(rule.tags, ["night".into(), "2026".into()]);
    assert_eq!(rule.tests.iter().map(|test| test.matches).collect::<Vec<_>>(), [true, false]);
    let event = json!(rule.tests[0].events[0]);
    assert_eq!(
        event.to_string(),
        r#"{"amount":950,"big":1e3,"code":"0742","event_time":"2026-01-01T02:00:00Z","mcc":"7995","none":null,"note":"yes"}"#
            .replace("1e3", &event["big"].to_string())
    );
    assert_eq!(event["big"].as_f64(), Some(1000.0));
    assert_eq!(json!(rule.tests[1].events[0]).to_string(), r#"{"amount":900.50,"flags":[true,{"a":null}]}"#);
    assert_eq!((&*seven.id, &*seven.when, seven.score, seven.action), ("007", "a = 1", 0, Action::Allow));
    assert_eq!((&*shop.id, shop.action, &shop.tags[..]), ("merchant-limit-0", Action::Review, &["limits".into()][..]));
    assert_eq!(
        shop.parameters,
        [("merchant".into(), Value::Text("shop".into())), ("limit".into(), Value::Decimal { units: 1250, scale: 2 })]
    );
    assert_eq!((&*own.id, own.action, own.score), ("own", Action::Block, -1000));
    assert_eq!(own.parameters[0].1, Value::Text("007".into()));
    assert!(Arc::ptr_eq(&shop.when, &own.when));
}

#[test]
fn json_is_read_by_the_same_model() {
    let json = "{\n\t\"lists\": {\"l\": [\"a\", 1, true, 1.50]},\n\t\"rules\": [\n\t\t{\"id\": 7, \"when\": \"a = \\\"x\\\" AND HERE > 1\", \"score\": 1.5,\"tests\":[{\"match\":{\"a\":\"\\uD834\\uDD1E\\/\"}}]}\n\t]\n}\n";
    let document = sound(json);
    assert_eq!(json!(document.lists[0].1).to_string(), r#"["a",1,true,1.50]"#);
    let rule = &document.rules[0];
    assert_eq!((&*rule.id, &*rule.when, rule.score), ("7", "a = \"x\" AND HERE > 1", 1500));
    assert_eq!(rule.tests[0].events[0]["a"], "𝄞/");
    assert_eq!(
        rule.origin.locate(&rule.when, rule.when.find("HERE").expect("in the condition")),
        words(&json.replace("HERE", "Wrd"))["Wrd"]
    );
}

/// The line and column of each word `W…` of the file.
fn words(source: &str) -> HashMap<String, (u32, u32)> {
    let mut found = HashMap::new();
    for (line, text) in source.lines().enumerate() {
        for (at, _) in text.match_indices('W') {
            let word: String = text[at..].chars().take(3).collect();
            found.insert(word, (line as u32 + 1, text[..at].chars().count() as u32 + 1));
        }
    }
    found
}

/// The words of the conditions whose place in the file is not the one that their origin says.
fn misplaced(source: &str, rules: &[Rule]) -> Vec<String> {
    let words = words(source);
    let mut wrong = Vec::new();
    let mut seen = 0;
    for rule in rules {
        for (at, _) in rule.when.match_indices('W') {
            let word: String = rule.when[at..].chars().take(3).collect();
            seen += 1;
            if words.get(&word) != Some(&rule.origin.locate(&rule.when, at)) {
                wrong.push(format!("{word} {:?} {:?}", words.get(&word), rule.origin.locate(&rule.when, at)));
            }
        }
    }
    assert_eq!(seen, words.len(), "every word is in a condition");
    wrong
}

const STYLES: &str = "\
rules:
  - {id: é, when: W01 > 1 AND é = W02}
  - id: plain
    when: W03 > 'é' AND
       W04

     OR  W05   AND
     W06
  - id: single
    when: 'W07 = ''é'' AND W08
       AND  W09  ''

       W10'
  - id: double
    when: \"W11 = \\\"\\u00e9\\U0001F600\\uD834\\uDD1E\\x41\\\" W12 \\
      W13  \\  W14
       AND W15


       W16 \\n W17\"
  - id: literal
    when: |
       W18 é W19
         W20

      \u{20}  \u{20}
       W21
  - id: stripped
    when: |-

       W22
       W23
  - id: explicit
    when: |2
         W24
       W25
  - id: folded
    when: >-
      W26 é
      W27

      W28
        W29
       W30
      W31
  - id: sign
    when: >
      > W32
      | W33
  - id: alias
    when: &a W34
";

#[test]
fn a_place_in_a_condition_is_a_place_in_the_file() {
    assert_eq!(misplaced(STYLES, &sound(STYLES).rules), [""; 0]);
    let windows = STYLES.replace('\n', "\r\n");
    assert_eq!(misplaced(&windows, &sound(&windows).rules), [""; 0]);
}

#[test]
fn a_wrong_place_is_noticed() {
    let mut rules = sound(STYLES).rules;
    rules[0].origin = Origin::at("f".into(), 2, 18);
    assert_eq!(misplaced(STYLES, &rules).len(), 2);
}

#[test]
fn common_mistakes_are_explained() {
    let cases = [
        (
            "rules:\n  - id: a\n    whem: x > 1\n",
            "error[missing-key]: the rule has no condition
  --> pack/f.yaml:2:5 (rule a)
   |   - id: a
   |     ^
  hint: `when: amount > 100`
error[unknown-key]: unknown key `whem` in a rule
  --> pack/f.yaml:3:5 (rule a)
   |     whem: x > 1
   |     ^^^^
  hint: did you mean `when`?
",
        ),
        (
            "rules:\n  - id: a\n    when: x > 1\n    action: blok\n",
            "error[unknown-action]: unknown action `blok`
  --> pack/f.yaml:4:13 (rule a)
   |     action: blok
   |             ^^^^
  hint: did you mean `block`?
",
        ),
        (
            "rules:\n  - id: a\n    when: x > 1\n    score: 1.2345\n",
            "error[bad-score]: the score 1.2345 has 4 decimal places
  --> pack/f.yaml:4:12 (rule a)
   |     score: 1.2345
   |            ^^^^^^
  hint: a score is a decimal with at most 3 places, such as 12.5
",
        ),
        (
            "rules:\n\t- id: a\n",
            "error[tab-indentation]: a tab where YAML wants spaces
  --> pack/f.yaml:2:2
   |  - id: a
   |  ^
  detail: tabs disallowed within this context (block indentation)
  hint: indent with spaces
",
        ),
        (
            "rules:\n  - id: a\n    when: x > 1\n    when: y > 1\n",
            "error[duplicate-key]: the key `when` occurs twice in a rule
  --> pack/f.yaml:4:5 (rule a)
   |     when: y > 1
   |     ^^^^
  hint: it is first given in line 3
",
        ),
        (
            "rules:\n  - id: a\n    when: 5\n",
            "error[wrong-type]: `when` must be text, not a number
  --> pack/f.yaml:3:11 (rule a)
   |     when: 5
   |           ^
  hint: write it in quotes
",
        ),
        (
            "rules:\n  - id: a\n    when: b > 1\n    match_recognize: |\n      PATTERN (a)\n",
            "error[two-conditions]: the rule has both `when` and `match_recognize`
  --> pack/f.yaml:3:5 (rule a)
   |     when: b > 1
   |     ^^^^
  hint: a rule has one; a condition on single rows is part of the pattern
",
        ),
        (
            "",
            "error[empty-document]: the document is empty\n  --> pack/f.yaml\n  hint: a document is a mapping with keys such as `rules:`\n",
        ),
    ];
    for (source, expected) in cases {
        assert_eq!(text(&parse(source).1), expected, "{source}");
    }
}

#[test]
fn every_problem_of_every_rule_is_reported_and_sound_rules_remain() {
    let source = "\
windows: {w: [a], v: COUNT(b)}
lists:
  ok: [a]
  bad: [[1]]
  old: [{value: x, expires: 2020-01-01T00:00:00Z}]
  gone: {file: no.txt}
rules:
  - id: one
    score: high
    action: BLOCK
    status: on
    tags: x
    when: a
  - when: b
  - 5
  - id: two
    when: [a]
    tests: [{match: {}, no_match: {}}, {match: 5}, {matches: {}}]
  - {id: good, when: c}
instances:
  - {template: no, from: x.csv}
";
    let (document, _) = parse(source);
    assert_eq!(document.rules.iter().map(|rule| &*rule.id).collect::<Vec<_>>(), ["one", "good"]);
    assert_eq!(document.lists.len(), 4);
    assert_eq!(
        codes(source),
        [
            ("wrong-type", 1, 14),
            ("wrong-type", 4, 9),
            ("not-supported-yet", 5, 20),
            ("unreadable-file", 6, 16),
            ("bad-score", 9, 12),
            ("unknown-action", 10, 13),
            ("unknown-status", 11, 13),
            ("wrong-type", 12, 11),
            ("missing-key", 14, 5),
            ("wrong-type", 15, 5),
            ("wrong-type", 17, 11),
            ("bad-test", 18, 13),
            ("wrong-type", 18, 48),
            ("bad-test", 18, 52),
            ("unknown-key", 18, 53),
            ("unknown-template", 21, 16),
        ]
    );
}

#[test]
fn templates_and_their_tables_say_what_is_wrong_with_them() {
    let template = "templates:\n  - {id: t, when: 'a > :limit', parameters: {merchant: utf8, limit: float64}, score: 2}\n";
    let mut document = sound(&format!("{template}instances:\n  - {{template: t, from: limits.csv}}\n"));
    let chunk = document.instances[0].next().expect("a chunk");
    let ids: Vec<(&str, i64)> = chunk.rules.iter().map(|rule| (&*rule.id, rule.score)).collect();
    assert_eq!(ids, [("t-0", 7000), ("last", 2000)]);
    let found: Vec<_> = chunk.diagnostics.iter().map(|d| (d.code, d.row, d.rule.as_deref(), &*d.primary)).collect();
    assert_eq!(
        found,
        [
            ("bad-parameter", Some(1), Some("own"), "parameter `limit`: `x` is not float64"),
            ("bad-score", Some(2), Some("last"), "the score 1.2345 has 4 decimal places")
        ]
    );
    assert!(document.instances[0].next().is_none());
    assert_eq!(
        codes("templates:\n  - {id: t, when: a, parameters: {score: utf8, b: thing, 1c: utf8}}\n  - {id: t, when: a}\n"),
        [("reserved-name", 2, 35), ("unknown-type", 2, 51), ("bad-name", 2, 58), ("missing-key", 3, 5), ("duplicate-template", 3, 10)]
    );
    let inline = format!(
        "{template}instances:\n  - {{template: t, values: [{{merchant: m}}, {{merchant: m, limit: x}}, {{limit: ~, merchant: [], who: 1}}]}}\n"
    );
    let found: Vec<&str> = codes(&inline).iter().map(|(code, ..)| *code).collect();
    assert_eq!(found, ["missing-parameter", "bad-parameter", "wrong-type", "wrong-type", "unknown-key"]);
}

#[test]
fn any_bytes_give_a_diagnostic() {
    let laughs =
        (1..30).fold("a0: &a0 [x, x]\n".to_owned(), |text, n| text + &format!("a{n}: &a{n} [{}]\n", format!("*a{}, ", n - 1).repeat(9)));
    let chain = (1..2000).fold("a0: &a0 [x]\n".to_owned(), |text, n| text + &format!("a{n}: &a{n} [*a{}]\n", n - 1));
    let cases: Vec<(&'static str, Vec<u8>)> = vec![
        ("invalid-utf8", b"rules:\n  - id: \xff".to_vec()),
        ("invalid-utf8", b"\xff\xfer\0u\0".to_vec()),
        ("empty-document", b"# nothing\n---\n".to_vec()),
        ("empty-document", b"\xef\xbb\xbf".to_vec()),
        ("several-documents", b"rules: []\n---\nrules: []\n".to_vec()),
        ("alias-limit", laughs.into_bytes()),
        ("alias-limit", chain.into_bytes()),
        ("recursive-alias", b"a: &a [*a]".to_vec()),
        ("unsupported-tag", b"rules: !rules []".to_vec()),
        ("nesting", "[".repeat(100_000).into_bytes()),
        ("nesting", "{a: ".repeat(100_000).into_bytes()),
        ("nesting", "- ".repeat(100_000).into_bytes()),
        ("nesting", (0..5000).map(|n| format!("{}a:\n", " ".repeat(n))).collect::<String>().into_bytes()),
        ("syntax", b"x: \"abc".to_vec()),
        ("syntax", b"\0".to_vec()),
    ];
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
        for (code, bytes) in cases {
            let (_, diagnostics) = parse_document("f.yaml", &bytes, &no_files, &Limits::default());
            let found: Vec<_> = diagnostics.iter().map(|diagnostic| diagnostic.code).collect();
            assert!(found.contains(&code), "{code}: {found:?} {:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(40)]));
        }
    });
    thread.expect("a thread").join().expect("no panic");
    let limits = Limits { document_bytes: 10, ..Limits::default() };
    assert_eq!(parse_document("f.yaml", WHOLE.as_bytes(), &no_files, &limits).1[0].code, "document-too-large");
    let many = format!("rules:\n{}", "- 5\n".repeat(20_000));
    let (_, diagnostics) = parse(&many);
    assert_eq!((diagnostics.len(), diagnostics.last().map(|d| d.code)), (10_001, Some("too-many-problems")));
}

/// A generator of numbers that a seed fixes.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) % bound.max(1) as u64) as usize
    }
}

fn seed() -> u64 {
    std::env::var("DYNAMIC_CEP_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7)
}

#[test]
fn mutated_documents_never_panic() {
    let seed = seed();
    println!("DYNAMIC_CEP_SEED={seed}");
    let mut random = Random(seed);
    for _ in 0..10_000 {
        let mut bytes = if random.below(2) == 0 { WHOLE } else { STYLES }.as_bytes().to_vec();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            match random.below(5) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes.truncate(at + 1),
                2 => bytes[at] = b" \n\t:-#'\"|>[]{}&*!,\\0"[random.below(20)],
                3 => drop(bytes.drain(at..(at + random.below(9)).min(bytes.len()))),
                _ => {
                    let piece = bytes[at..(at + random.below(60)).min(bytes.len())].to_vec();
                    let to = random.below(bytes.len());
                    bytes.splice(to..to, piece);
                }
            }
            if bytes.is_empty() {
                bytes.push(b'a');
            }
        }
        let (document, diagnostics) = parse_document("pack/f.yaml", &bytes, &files, &Limits::default());
        let source = String::from_utf8_lossy(&bytes);
        for rule in document.rules.iter().filter(|_| !source.contains('\r')) {
            // Each letter stands where the origin says, or an escape that means it.
            for (at, letter) in rule.when.char_indices().filter(|(_, c)| c.is_ascii_alphanumeric()) {
                let (line, column) = rule.origin.locate(&rule.when, at);
                let there = source.lines().nth(line as usize - 1).and_then(|text| text.chars().nth(column as usize - 1));
                assert!(there == Some(letter) || there == Some('\\'), "{letter} {line}:{column} {there:?} {:?} in\n{source}", rule.when);
            }
        }
        assert!(diagnostics.iter().all(|diagnostic| !diagnostic.to_string().is_empty()));
    }
}

#[test]
fn a_truncated_document_is_noticed_unless_it_is_still_one() {
    let whole = sound(WHOLE);
    for end in (0..WHOLE.len()).filter(|end| WHOLE.is_char_boundary(*end)) {
        let (document, diagnostics) = parse(&WHOLE[..end]);
        if !diagnostics.is_empty() {
            continue;
        }
        for (rule, original) in document.rules.iter().zip(&whole.rules) {
            assert!(original.id.starts_with(&*rule.id) && original.when.starts_with(&*rule.when), "{rule:?}");
        }
        assert!(document.rules.len() <= whole.rules.len());
    }
    let json = r#"{"rules": [{"id": "a", "when": "x > 1", "score": 1, "tests": [{"match": {"x": 2}}]}]}"#;
    assert!(parse(json).1.is_empty());
    for end in 0..json.len() {
        assert!(!parse(&json[..end]).1.is_empty(), "{}", &json[..end]);
    }
}
