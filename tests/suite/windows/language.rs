//! What may be written, what is refused, and what becomes of it in an artifact.

use super::{SCHEMA, found, random_rows, random_window, read, schema, window};
use crate::forge::{range, with_section};
use crate::random::{Random, cases, seed};
use dynamic_cep::compile::{Context, compile};
use dynamic_cep::rule::lists::Lists;
use dynamic_cep::rule::window::text;
use dynamic_cep::rule::{Limits, Origin, Rule};
use dynamic_cep::tables::Artifact;
use dynamic_cep::tables::artifact::Section;
use dynamic_cep::window::{Frame, Window};

#[test]
fn frames_have_one_form() {
    let schema = schema(SCHEMA);
    let frames = [
        ("", "RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"),
        ("RANGE UNBOUNDED PRECEDING", "RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"),
        ("RANGE INTERVAL '60' MINUTE PRECEDING EXCLUDE NO OTHERS", "RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW"),
        (
            "RANGE BETWEEN INTERVAL '7 days' PRECEDING AND INTERVAL '90' SECOND PRECEDING EXCLUDE CURRENT ROW",
            "RANGE BETWEEN INTERVAL '7' DAY PRECEDING AND INTERVAL '90' SECOND PRECEDING",
        ),
        ("RANGE BETWEEN CURRENT ROW AND CURRENT ROW", "RANGE BETWEEN CURRENT ROW AND CURRENT ROW"),
        (
            "RANGE INTERVAL '1.5' SECOND PRECEDING EXCLUDE CURRENT ROW",
            "RANGE BETWEEN INTERVAL '1.5 seconds' PRECEDING AND CURRENT ROW EXCLUDE CURRENT ROW",
        ),
        ("ROWS 3 PRECEDING", "ROWS BETWEEN 3 PRECEDING AND CURRENT ROW"),
        ("ROWS BETWEEN 3 PRECEDING AND CURRENT ROW EXCLUDE CURRENT ROW", "ROWS BETWEEN 3 PRECEDING AND 1 PRECEDING"),
        ("ROWS 0 PRECEDING EXCLUDE CURRENT ROW", "ROWS BETWEEN CURRENT ROW AND CURRENT ROW EXCLUDE CURRENT ROW"),
        ("ROWS UNBOUNDED PRECEDING", "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"),
    ];
    for (written, one) in frames {
        let found = window(&format!("sum ( i+1 ) over (partition by k,\"s\" order by AT asc {written})"), &schema);
        assert_eq!(text(&found, &schema), format!("SUM(i + 1) OVER (PARTITION BY k, s ORDER BY at {one})"));
        assert_eq!(window(&text(&found, &schema), &schema), found, "{written}");
    }
    let lag = window("LAG(s) OVER (PARTITION BY k ORDER BY at)", &schema);
    assert_eq!(lag.frame, Frame::Rows { from: Some(1), to: 1 });
    assert_eq!(lag, window("LAST_VALUE(s) OVER (PARTITION BY k ORDER BY at ROWS BETWEEN 1 PRECEDING AND 1 PRECEDING)", &schema));
}

#[test]
fn mistakes_are_told_with_their_place() {
    let schema = schema(SCHEMA);
    for (text, code, hint, at) in [
        ("SUM(i)", "aggregate-without-over", "SUM(i) OVER", "SUM(i)"),
        ("i + 1", "no-window", "OVER", "i + 1"),
        ("COUNT(*) OVER (ORDER BY at) > 5", "no-window", "rules", "COUNT(*) OVER (ORDER BY at) > 5"),
        ("COUNT(*) OVER (PARTITION BY k)", "window-order", "ORDER BY at", "(PARTITION BY k)"),
        ("COUNT(*) OVER (ORDER BY k)", "window-order", "ORDER BY at", "k"),
        ("COUNT(*) OVER (ORDER BY at, k)", "window-order", "ORDER BY at", "k"),
        ("COUNT(*) OVER (ORDER BY at DESC)", "window-order", "ORDER BY at", "at"),
        ("COUNT(*) OVER (PARTITION BY kk ORDER BY at)", "unknown-field", "`k`", "kk"),
        ("COUNT(*) OVER (PARTITION BY k + 1 ORDER BY at)", "syntax", "", "+"),
        ("COUNT(*) OVER k", "syntax", "", "k"),
        ("SUM(s) OVER (ORDER BY at)", "type-mismatch", "CAST", "s"),
        ("SUM(*) OVER (ORDER BY at)", "syntax", "", "*"),
        ("MAX(at - at) OVER (ORDER BY at)", "type-mismatch", "EPOCH", "at - at"),
        ("SUM(DISTINCT i) OVER (ORDER BY at)", "wrong-arguments", "", "SUM(DISTINCT i) OVER (ORDER BY at)"),
        ("SUM(i) FILTER (WHERE k) OVER (ORDER BY at)", "type-mismatch", "<> 0", "k"),
        ("SUM(i) FILTER (k > 1) OVER (ORDER BY at)", "syntax", "", "k"),
        ("RANK() OVER (ORDER BY at)", "unsupported", "COUNT", "RANK"),
        ("LAG(i, -1) OVER (ORDER BY at)", "window-frame", "", "-1"),
        ("LAG(i) OVER (ORDER BY at ROWS 1 PRECEDING)", "window-frame", "leave", "ROWS 1 PRECEDING"),
        ("COUNT(*) OVER (ORDER BY at RANGE 5 PRECEDING)", "window-frame", "ROWS", "5"),
        ("COUNT(*) OVER (ORDER BY at RANGE INTERVAL '1' MONTH PRECEDING)", "window-frame", "'30' DAY", "INTERVAL '1' MONTH"),
        ("COUNT(*) OVER (ORDER BY at RANGE INTERVAL '-1' HOUR PRECEDING)", "window-frame", "", "INTERVAL '-1' HOUR"),
        ("COUNT(*) OVER (ORDER BY at ROWS INTERVAL '1' HOUR PRECEDING)", "window-frame", "RANGE", "INTERVAL '1' HOUR"),
        (
            "COUNT(*) OVER (ORDER BY at ROWS BETWEEN 1 PRECEDING AND 2 PRECEDING)",
            "window-frame",
            "older",
            "ROWS BETWEEN 1 PRECEDING AND 2 PRECEDING",
        ),
        (
            "COUNT(*) OVER (ORDER BY at ROWS BETWEEN CURRENT ROW AND 1 FOLLOWING)",
            "window-frame",
            "CURRENT ROW",
            "ROWS BETWEEN CURRENT ROW AND 1 FOLLOWING",
        ),
        ("COUNT(*) OVER (ORDER BY at GROUPS 1 PRECEDING)", "syntax", "", "GROUPS"),
        ("COUNT(*) OVER (ORDER BY at ROWS 1 PRECEDING EXCLUDE TIES)", "syntax", "", "TIES"),
    ] {
        let problems = read(text, &schema).expect_err(text);
        let problem = &problems[0];
        assert_eq!(problem.code, code, "{text}: {problem}");
        assert!(problem.hint.contains(hint), "{text}: {}", problem.hint);
        let place = problem.to_string();
        let carets = place.lines().find(|line| line.trim_start_matches([' ', '|']).starts_with('^')).map(|line| line.matches('^').count());
        assert_eq!((problem.column as usize, carets), (text.find(at).expect("a place") + 1, Some(at.len())), "{text}: {problem}");
    }
    let without = super::schema("fields: {k: int64, at: timestamp(ms)}");
    let problem = &read("COUNT(*) OVER (ORDER BY at)", &without).expect_err("no time")[0];
    assert_eq!((problem.code, problem.hint.contains("time: FIELD")), ("no-event-time", true));
}

/// Valid checksums over altered windows: opening refuses them, or they take rows without harm.
#[test]
fn forged_windows_do_no_harm() {
    let schema = schema(SCHEMA);
    let (lists, limits) = (Lists::default(), Limits::default());
    let first = seed("forged_windows_do_no_harm");
    let random = &mut Random::new(first);
    let when = |text: String| format!("({text}) IS NOT NULL");
    let rules: Vec<Rule> = (0..12).map(|number| rule(number, when(random_window(random)))).collect();
    let bytes = compile(rules.into_iter(), &Context { schema: &schema, lists: &lists, limits: &limits, threads: 1 }).artifact;
    let artifact = bytes.expect("an artifact");
    let content = &artifact[range(&artifact, Section::Windows)];
    let (mut opened, mut refused) = (0, 0);
    for _ in 0..cases(600) {
        let mut forged = content.to_vec();
        for _ in 0..1 + random.below(3) {
            let at = random.below(forged.len());
            forged[at] = if random.one_in(2) { random.next() as u8 } else { forged[at] ^ 1 << random.below(8) };
        }
        let Ok(artifact) = Artifact::from_bytes(&with_section(&artifact, Section::Windows, &forged)) else {
            refused += 1;
            continue;
        };
        opened += 1;
        let windows: Vec<Window> = artifact.windows().iter().map(|column| column.window.clone()).collect();
        let rows = random_rows(random, &schema, 80);
        assert_eq!(found(&schema, &windows, &rows, 9, 4).len(), windows.len());
    }
    assert!(opened > 0 && refused > 0, "{opened} opened, {refused} refused");
}

fn rule(number: usize, when: String) -> Rule {
    Rule {
        id: format!("rule-{number}").into(),
        tenant: None,
        when: when.into(),
        clause: Default::default(),
        origin: Origin::default(),
        parameters: Vec::new(),
        score: 0,
        action: Default::default(),
        status: Default::default(),
        tags: Vec::new(),
        outcome: None,
        tests: Vec::new(),
    }
}

#[test]
fn equal_windows_are_one_column_whatever_the_threads() {
    let schema = schema(SCHEMA);
    let (lists, limits) = (Lists::default(), Limits::default());
    let bytes = |threads: usize, rules: usize, distinct: usize| {
        let when = |number: usize| {
            let hours = number % distinct + 1;
            format!("i > {number} AND SUM(i) OVER (PARTITION BY k ORDER BY at RANGE INTERVAL '{}' MINUTE PRECEDING) > {number}", hours * 60)
        };
        let rules = (0..rules).map(|number| rule(number, when(number)));
        compile(rules, &Context { schema: &schema, lists: &lists, limits: &limits, threads })
    };
    let one = bytes(1, 20_000, 5).artifact.expect("an artifact");
    for threads in [2, 5] {
        assert_eq!(bytes(threads, 20_000, 5).artifact.expect("an artifact"), one, "{threads} threads");
    }
    let artifact = Artifact::from_bytes(&one).expect("an artifact");
    assert_eq!(artifact.windows().len(), 5);
    assert_eq!(artifact.event_schema().fields(), schema.fields());
    assert_eq!(artifact.schema().fields().len(), schema.fields().len() + 5);
    let compiled = bytes(1, 300, 300);
    let problem = compiled.diagnostics.iter().find(|problem| problem.is_error()).expect("a limit");
    assert_eq!((problem.code, compiled.artifact.is_none()), ("limit", true));
}
