//! Conditions from text to typed expression and back.

use super::{Scope, condition, expression};
use crate::event::{Field, Schema, TimeUnit, Type, Value};
use crate::expr::{Expr, Node};
use crate::id::NodeId;
use crate::rule::lists::Lists;
use crate::rule::{Diagnostic, Limits, Origin, print};
use serde_json::json;
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let fields = [
        ("a", Type::Int),
        ("b", Type::Int),
        ("u", Type::UInt),
        ("f", Type::Float),
        ("d", Type::Decimal { scale: 2 }),
        ("s", Type::Text),
        ("t", Type::Text),
        ("p", Type::Bool),
        ("q", Type::Bool),
        ("ts", Type::Timestamp(TimeUnit::Millisecond)),
        ("ns", Type::Timestamp(TimeUnit::Nanosecond)),
        ("date", Type::Date),
        ("iv", Type::Interval),
        ("event.id", Type::Text),
        ("year", Type::Int),
        ("value", Type::Int),
        ("type", Type::Text),
        ("Amount", Type::Int),
        ("Case", Type::Int),
        ("odd \"name\"", Type::Int),
        ("XY", Type::Int),
        ("xy", Type::Int),
        ("select", Type::Int),
    ];
    Schema::new(fields.into_iter().map(|(name, ty)| Field { name: name.into(), ty }).collect()).expect("names are distinct")
});

static LISTS: LazyLock<Lists> = LazyLock::new(|| {
    let mut lists = Lists::new();
    lists.insert("codes", vec![json!("x"), json!("it's"), json!("a")]);
    lists.insert("numbers", vec![json!(3), json!(1), json!(2.5)]);
    lists
});

fn run(text: &str, boolean: bool) -> Result<Expr, Vec<Diagnostic>> {
    let parameters = [(Arc::from("limit"), Value::Int(100)), (Arc::from("rate"), Value::Float(0.1)), (Arc::from("small"), Value::UInt(7))];
    let limits = Limits::default();
    let scope = Scope { schema: &SCHEMA, lists: &LISTS, parameters: &parameters, limits: &limits, windows: &[] };
    let rule: Arc<str> = "r".into();
    let check = if boolean { condition } else { expression };
    check(text, &Origin::at("rules.yaml".into(), 3, 7), Some(&rule), &scope)
}

fn good(text: &str) -> Expr {
    match run(text, false) {
        Ok(expr) => expr,
        Err(errors) => panic!("{text}\n{}", errors.iter().map(ToString::to_string).collect::<String>()),
    }
}

/// The canonical text of `text`.
fn canonical(text: &str) -> String {
    print::condition(&good(text), &SCHEMA)
}

fn errors(text: &str) -> Vec<Diagnostic> {
    run(text, true).err().unwrap_or_default()
}

/// Code and primary of the only error.
fn error(text: &str) -> (&'static str, String, String) {
    let errors = errors(text);
    assert_eq!(errors.len(), 1, "{text}: {errors:?}");
    (errors[0].code, errors[0].primary.clone(), errors[0].hint.clone())
}

/// The tree below `id`, without regard to the order of the arena.
fn tree(expr: &Expr, id: NodeId, ids: &regex::Regex) -> String {
    let node = expr.node(id);
    let mut text = format!("({}:{}", ids.replace_all(&format!("{node:?}"), "_"), expr.ty(id));
    expr.children_of(node, |child| {
        text.push(' ');
        text.push_str(&tree(expr, child, ids));
    });
    text.push(')');
    text
}

fn whole_tree(expr: &Expr) -> String {
    static IDS: LazyLock<regex::Regex> = LazyLock::new(|| regex::Regex::new(r"NodeId\(\d+\)|Args \{[^}]*\}").expect("a pattern"));
    tree(expr, expr.root(), &IDS)
}

#[test]
fn every_construct_has_a_canonical_text() {
    for (text, wanted) in [
        // Precedence.
        ("a = 1 or b = 2 and not a = 3", "a = 1 OR b = 2 AND NOT a = 3"),
        ("(a = 1 OR b = 2) AND a = 3", "(a = 1 OR b = 2) AND a = 3"),
        ("(a = 1 OR b = 2) OR (a = 3 OR p)", "a = 1 OR b = 2 OR a = 3 OR p"),
        ("p AND (q AND p)", "p AND q AND p"),
        ("NOT (p AND q)", "NOT (p AND q)"),
        ("NOT (a > 5)", "NOT a > 5"),
        ("a BETWEEN 1 AND 2 AND p", "a BETWEEN 1 AND 2 AND p"),
        ("NOT a BETWEEN 1 AND 2", "a NOT BETWEEN 1 AND 2"),
        ("NOT - a BETWEEN NULL AND 7", "-a NOT BETWEEN NULL AND 7"),
        ("a + b * 2 - (a - b) > 0", "a + b * 2 - (a - b) > 0"),
        ("a - (b + 1) = (a * b) % 2", "a - (b + 1) = a * b % 2"),
        ("- (a + 1) = - - b", "-(a + 1) = - -b"),
        ("a = b IS TRUE", "(a = b) IS TRUE"),
        ("a IS NULL IS NULL", "(a IS NULL) IS NULL"),
        ("s || t || 'x' = s || (t || 'y')", "s || t || 'x' = s || (t || 'y')"),
        ("a || b", ""),
        ("-5 = - - 5", "-5 = 5"),
        ("a::text = 'x'", "CAST(a AS utf8) = 'x'"),
        ("-a::float > 1", "-CAST(a AS float64) > 1"),
        // Conditions.
        ("a == 1 AND b != 2", "a = 1 AND b <> 2"),
        ("a BETWEEN SYMMETRIC 5 AND b", "a BETWEEN SYMMETRIC 5 AND b"),
        ("a IN (3, 1, 2.5, 1.0, NULL)", "a IN (1, 2.5, 3, NULL)"),
        ("a IN ()", "a IN ()"),
        // A subquery without a table is its value.
        ("(SELECT a) + 1 > (select (SELECT 2))", "a + 1 > 2"),
        ("a IN (SELECT 1) AND b NOT IN (SELECT a + 1)", "a IN (1) AND NOT b = a + 1"),
        ("NOT EXISTS (SELECT 'x') OR a = 1", "NOT TRUE OR a = 1"),
        ("a NOT IN (NULL)", "NOT a = NULL"),
        ("a NOT IN (b + 2, value)", "a NOT IN (b + 2, value)"),
        ("a IN (b, 5, 4, NULL)", "a IN (4, 5, NULL, b)"),
        ("a IN (b)", "a = b"),
        ("s IN LIST codes", "s IN ('a', 'it''s', 'x')"),
        ("f NOT IN LIST numbers", "f NOT IN (1, 2.5, 3)"),
        ("NULL IN LIST numbers", "NULL = NULL"),
        ("a IS NOT NULL", "a IS NOT NULL"),
        ("p IS UNKNOWN AND q IS NOT UNKNOWN", "p IS NULL AND q IS NOT NULL"),
        ("p IS NOT TRUE OR q IS FALSE", "p IS NOT TRUE OR q IS FALSE"),
        ("NULL IS NOT NULL", "NULL IS NOT NULL"),
        ("a isnull or b notnull", "a IS NULL OR b IS NOT NULL"),
        ("a IS DISTINCT FROM b", "a IS DISTINCT FROM b"),
        ("a IS NOT DISTINCT FROM NULL", "a IS NOT DISTINCT FROM NULL"),
        ("s LIKE 'a\\%' ESCAPE '\\'", "s LIKE 'a\\%' ESCAPE '\\'"),
        ("s NOT LIKE t ESCAPE ''", "s NOT LIKE t"),
        ("s NOT ILIKE 'x%'", "s NOT ILIKE 'x%'"),
        ("s ~ 'a+' AND s !~* 'b'", "s ~ 'a+' AND s !~* 'b'"),
        ("s ~* 'x' OR s !~ 'y'", "s ~* 'x' OR s !~ 'y'"),
        ("s REGEXP 'a' AND NOT s NOT RLIKE 'b'", "s ~ 'a' AND NOT s !~ 'b'"),
        ("REGEXP_LIKE(s, 'a', 'i') OR regexp_matches(s, 'b')", "s ~* 'a' OR s ~ 'b'"),
        // Values.
        ("CASE WHEN p THEN 1 ELSE 2.5 END", "CASE WHEN p THEN 1.0 ELSE 2.5 END"),
        ("CASE a WHEN 1 THEN 'x' WHEN b THEN 'y' END", "CASE a WHEN 1 THEN 'x' WHEN b THEN 'y' END"),
        ("CASE a WHEN 1 THEN 'x' END", "CASE WHEN a = 1 THEN 'x' END"),
        ("CASE WHEN p THEN a ELSE f END", "CASE WHEN p THEN CAST(a AS float64) ELSE f END"),
        ("COALESCE ( 5, a )", "COALESCE(5, a)"),
        ("IFNULL(ts, '2024-01-01')", "COALESCE(ts, TIMESTAMP '2024-01-01 00:00:00.000')"),
        ("NULLIF(a, 0)", "NULLIF(a, 0)"),
        ("CAST ( NULL AS INTEGER )", "CAST(NULL AS int64)"),
        ("CAST(a AS BIGINT)", "a"),
        ("CAST(s AS DECIMAL(10, 2)) = CAST(a AS double precision)", "CAST(s AS decimal(38,2)) = CAST(a AS float64)"),
        ("CAST(s AS varchar(10)) || CAST(a AS character varying (3))", "s || CAST(a AS utf8)"),
        ("CAST('2024-01-31' AS date) < CAST(ts AS date)", "DATE '2024-01-31' < CAST(ts AS date)"),
        (
            "EXTRACT(hour FROM ts) = HOUR(ts) + date_part('dow', date)",
            "EXTRACT(HOUR FROM ts) = EXTRACT(HOUR FROM ts) + EXTRACT(DOW FROM date)",
        ),
        ("ABS(-5) + + a", "ABS(-5) + a"),
        ("lower(s) = UCASE('x')", "LOWER(s) = UPPER('x')"),
        (
            "TRIM(BOTH 'x' FROM s) || TRIM(s) || trim(LEADING FROM s) || TRIM(trailing '-' from s)",
            "TRIM(s, 'x') || TRIM(s) || LTRIM(s) || RTRIM(s, '-')",
        ),
        ("SUBSTRING(s FROM 2 FOR 3) || SUBSTR(s, 2)", "SUBSTRING(s, 2, 3) || SUBSTRING(s, 2)"),
        ("POSITION('x' IN s) = STRPOS(s, 'x') + INSTR(s, 'x')", "POSITION('x' IN s) = POSITION('x' IN s) + POSITION('x' IN s)"),
        ("MOD(a, 2) = IIF(p, 1, 0)", "a % 2 = CASE WHEN p THEN 1 ELSE 0 END"),
        ("ROUND(d, -1) + POW(a, 2) > PI()", "ROUND(d, -1) + POWER(a, 2) > 3.141592653589793"),
        ("GREATEST(a, u) < LEAST(1, 2)", "GREATEST(CAST(a AS decimal(38,0)), CAST(u AS decimal(38,0))) < LEAST(1, 2)"),
        // Literals.
        ("d = 1.50 OR d = 5. OR d = 1e3 OR d = 15e-1", "d = 1.50 OR d = 5. OR d = 1000. OR d = 1.5"),
        ("f > 0.1 OR f < 1e300 OR a < 1e300", "f > 0.1 OR f < 1e300 OR a < CAST(1e300 AS float64)"),
        ("a = -9223372036854775808 OR u = 18446744073709551615", "a = -9223372036854775808 OR u = 18446744073709551615"),
        ("a < 18446744073709551616 AND a > - 99999999999999999999", "a < 18446744073709551616. AND a > -99999999999999999999."),
        ("s = 'it''s' AND t = ''", "s = 'it''s' AND t = ''"),
        (
            "ts > '2024-01-31' AND '2024-01-31T10:00:00.5+01:00' < ts",
            "ts > TIMESTAMP '2024-01-31 00:00:00' AND TIMESTAMP '2024-01-31 09:00:00.500' < ts",
        ),
        ("date IN ('2024-02-01', DATE '2024-01-01')", "date IN (DATE '2024-01-01', DATE '2024-02-01')"),
        ("ts + INTERVAL '10' MINUTE > ns - iv", "ts + INTERVAL '600 seconds' > ns - iv"),
        ("INTERVAL 1 day + date = date + 1", "date + INTERVAL '1 days' = date + 1"),
        ("ts - ns > INTERVAL '1-2' YEAR TO MONTH", "ts - ns > INTERVAL '14 months'"),
        ("iv < '1 day 2 hours'", "iv < INTERVAL '1 days 7200 seconds'"),
        ("f = CAST('NaN' AS float64) OR f = CAST(1.5 AS double)", "f = CAST('NaN' AS float64) OR f = 1.5"),
        ("TRUE AND NOT FALSE OR NULL", "TRUE AND NOT FALSE OR NULL"),
        // Names.
        ("event.id = 'x' AND \"event\".id = 'y' AND EVENT.ID = 'z'", "event.id = 'x' AND event.id = 'y' AND event.id = 'z'"),
        ("AMOUNT > 1 AND \"Case\" = 2 AND \"odd \"\"name\"\"\" = 3", "Amount > 1 AND \"Case\" = 2 AND \"odd \"\"name\"\"\" = 3"),
        (
            "year = 1 AND date > '2024-01-01' AND value = 2 AND type = 'x'",
            "year = 1 AND date > DATE '2024-01-01' AND value = 2 AND type = 'x'",
        ),
        ("\"select\" = xy + XY", "\"select\" = xy + XY"),
        ("a > :limit AND f > :rate AND u = :small", "a > 100 AND f > 0.1 AND u = CAST(7 AS uint64)"),
        ("a = 1 -- comment\n AND /* and /* nested */ */ b = 2;", "a = 1 AND b = 2"),
    ] {
        if wanted.is_empty() {
            assert!(run(text, false).is_err(), "{text}");
            continue;
        }
        let expr = good(text);
        assert_eq!(print::condition(&expr, &SCHEMA), wanted, "{text}");
        let again = good(wanted);
        assert_eq!(whole_tree(&again), whole_tree(&expr), "{text}");
        assert_eq!(print::condition(&again, &SCHEMA), wanted, "{text}");
    }
}

#[test]
fn results_have_the_types_that_the_language_states() {
    use Type::{Bool, Date, Decimal, Float, Int, Interval, Null, Text, Timestamp, UInt};
    for (text, ty) in [
        ("a + b", Int),
        ("a / 2", Int),
        ("a + u", Decimal { scale: 0 }),
        ("u * u", Decimal { scale: 0 }),
        ("u / 2", Decimal { scale: 0 }),
        ("a + 1.5", Decimal { scale: 1 }),
        ("d * d", Decimal { scale: 4 }),
        ("d % 0.125", Decimal { scale: 3 }),
        ("d / 2", Float),
        ("f + 1", Float),
        ("a + NULL", Int),
        ("NULL + NULL", Null),
        ("-u", Decimal { scale: 0 }),
        ("ts + INTERVAL '1' DAY", Timestamp(TimeUnit::Millisecond)),
        ("ts + INTERVAL '1' MICROSECOND", Timestamp(TimeUnit::Microsecond)),
        ("date + INTERVAL '1' HOUR", Timestamp(TimeUnit::Second)),
        ("date + 1", Date),
        ("ts - ns", Interval),
        ("date - date", Int),
        ("CASE WHEN p THEN a ELSE u END", Decimal { scale: 0 }),
        ("COALESCE(date, ts)", Timestamp(TimeUnit::Millisecond)),
        ("COALESCE(NULL, NULL)", Null),
        ("COALESCE(d, a)", Decimal { scale: 2 }),
        ("FLOOR(d)", Decimal { scale: 0 }),
        ("SIGN(f)", Int),
        ("SQRT(a)", Float),
        ("LENGTH(s)", Int),
        ("NULL", Null),
        ("s || t", Text),
        ("CAST(a AS uint64)", UInt),
        ("a IS NULL", Bool),
        ("EXTRACT(EPOCH FROM ts)", Int),
    ] {
        let expr = good(text);
        assert_eq!(expr.ty(expr.root()), ty, "{text}");
    }
}

#[test]
fn between_shares_its_operand_and_chains_do_not_nest() {
    let expr = good("a + 1 BETWEEN 2 AND 3");
    assert_eq!(expr.nodes().iter().filter(|node| matches!(node, Node::Arithmetic { .. })).count(), 1);
    let expr = good("(p AND q) AND (p AND (q AND p))");
    let Node::And(args) = expr.node(expr.root()) else { panic!("a chain") };
    assert_eq!(args.len, 5);
    assert_eq!(good("NULL").nodes().len(), 1);
    assert!(run("NULL", true).is_ok());
}

#[test]
fn equal_lists_are_shared() {
    let list = |text: &str| match good(text)
        .nodes()
        .iter()
        .find_map(|node| if let Node::In { list, .. } = node { Some(list.clone()) } else { None })
    {
        Some(list) => list,
        None => panic!("a list"),
    };
    assert!(Arc::ptr_eq(&list("s IN LIST codes"), &list("t NOT IN LIST codes")));
}

#[test]
fn errors_say_what_where_and_what_to_do() {
    let rendered = |text: &str| errors(text).iter().map(ToString::to_string).collect::<String>();
    assert_eq!(
        rendered("a > 1 AND amuont > 'abc'"),
        "error[unknown-field]: unknown field `amuont`\n  --> rules.yaml:3:17 (rule r)\n   | a > 1 AND amuont > 'abc'\n   |           ^^^^^^\n  hint: did you mean `Amount`?\n"
    );
    assert_eq!(
        rendered("a > 'abc'"),
        "error[type-mismatch]: cannot compare `a` (int64) with a string\n  --> rules.yaml:3:11 (rule r)\n   | a > 'abc'\n   |     ^^^^^\n  hint: compare it with a number\n"
    );
    assert_eq!(
        rendered("p AND\n  größe = 1"),
        "error[unknown-field]: unknown field `größe`\n  --> rules.yaml:4:9 (rule r)\n   |   größe = 1\n   |   ^^^^^\n"
    );
    assert_eq!(
        rendered("a = 1 AND (b = 2"),
        "error[syntax]: expected a closing parenthesis, found the end of the condition\n  --> rules.yaml:3:23 (rule r)\n   | a = 1 AND (b = 2\n   |                 ^\n"
    );
    assert_eq!(
        rendered("s LIKE '%' AND FOO(a, nothing) AND a + 1"),
        "error[unknown-function]: unknown function `FOO`\n  --> rules.yaml:3:22 (rule r)\n   | s LIKE '%' AND FOO(a, nothing) AND a + 1\n   |                ^^^\n\
         error[unknown-field]: unknown field `nothing`\n  --> rules.yaml:3:29 (rule r)\n   | s LIKE '%' AND FOO(a, nothing) AND a + 1\n   |                       ^^^^^^^\n\
         error[type-mismatch]: an operand of AND must be true or false, found a value of type int64\n  --> rules.yaml:3:42 (rule r)\n   | s LIKE '%' AND FOO(a, nothing) AND a + 1\n   |                                    ^^^^^\n  hint: compare it, for example with <> 0\n"
    );
    // Positions are the text's, so an error elsewhere does not render alike.
    assert_ne!(rendered(" a > 'abc'"), rendered("a > 'abc'"));
}

#[test]
fn every_kind_of_error_has_its_code() {
    for (text, code, hint) in [
        ("", "syntax", "TRUE"),
        ("a", "type-mismatch", "<> 0"),
        ("a = '123'", "type-mismatch", "without quotes: 123"),
        ("s = 123", "type-mismatch", "'123'"),
        ("p = 1", "type-mismatch", "TRUE or FALSE"),
        ("ts > 5", "type-mismatch", "EXTRACT"),
        ("ts > 'yesterday'", "invalid-literal", "2024-01-31"),
        ("ts > DATE '2024-02-30'", "invalid-literal", "DATE"),
        ("a IN (1, 'x')", "type-mismatch", ""),
        ("a = 1e999", "invalid-literal", ""),
        ("a = (SELECT max FROM other)", "unsupported", "one event"),
        ("a IN (SELECT b FROM other)", "unsupported", "one event"),
        ("EXISTS (SELECT 1 FROM other)", "unsupported", "one event"),
        ("EXISTS (SELECT nothing)", "unknown-field", ""),
        ("EXISTS (1)", "syntax", ""),
        ("a IN (SELECT 1, 2)", "syntax", ""),
        ("a = 123456789012345678901234567890123456789", "invalid-literal", "38 digits"),
        ("a = 0x1f", "syntax", ""),
        ("s = \"x\"", "unknown-field", "single quotes"),
        ("XY = 1 AND Xy = 1", "unknown-field", "XY or xy"),
        ("s ~ '('", "invalid-pattern", ""),
        ("s ~ t", "invalid-pattern", ""),
        ("s ~ '(a{1000}){1000}'", "limit", ""),
        ("s LIKE 'x' ESCAPE 'ab'", "invalid-pattern", "ESCAPE"),
        ("s LIKE 'x' ESCAPE t", "invalid-pattern", "ESCAPE"),
        ("a LIKE 'x'", "type-mismatch", "CAST"),
        ("s IN LIST kodes", "unknown-list", "codes"),
        ("a IN LIST codes", "type-mismatch", "without quotes"),
        ("a > :limt", "unknown-parameter", ":limit"),
        ("LOWER(s, t) = 'x'", "wrong-arguments", ""),
        ("LOWR(s) = 'x'", "unknown-function", "LOWER"),
        ("COUNT(*) OVER (PARTITION BY s) > 1", "no-event-time", "time: FIELD"),
        ("SUM(a) > 1", "aggregate-without-over", "SUM(a) OVER"),
        ("LENGTH(s) OVER () > 1", "unsupported", ""),
        ("CASE WHEN p THEN 1 ELSE 'x' END = 1", "type-mismatch", "CAST"),
        ("CAST(a AS foo) = 1", "syntax", ""),
        ("CAST(ts AS int) = 1", "type-mismatch", "EPOCH"),
        ("ts + 5 > ts", "type-mismatch", "INTERVAL"),
        ("s + t = 'x'", "type-mismatch", "||"),
        ("a = 'x", "syntax", "twice"),
        ("a = 1)", "syntax", ""),
        ("a = 1 b = 2", "syntax", ""),
        ("a NOT = 1", "syntax", ""),
        ("end = 1", "syntax", "\"end\""),
        ("(a, b) = 1", "syntax", ""),
        ("EXTRACT(eon FROM ts) = 1", "syntax", "YEAR"),
    ] {
        let (found, _, hinted) = error(text);
        assert_eq!(found, code, "{text}");
        assert!(hinted.contains(hint), "{text}: {hinted}");
    }
}

#[test]
fn hostile_texts_give_diagnostics() {
    let many = 100_000;
    let repeat = |piece: &str| piece.repeat(many);
    for text in [
        format!("{}a = 1{}", repeat("("), repeat(")")),
        format!("{}p", repeat("NOT ")),
        format!("{}a = 1", repeat("- ")),
        format!("{}a = 1", repeat("+")),
        format!("{}1{} = 1", repeat("CASE WHEN p THEN "), repeat(" END")),
        format!("{}s{} = 'x'", repeat("LOWER("), repeat(")")),
        format!("a{} > 0", repeat(" + 1")),
        format!("a = 1{}", repeat(" IS NULL")),
        format!("{}p{}", repeat("(p AND (q OR "), repeat("))")),
        repeat("a IN ("),
        repeat("a BETWEEN "),
        repeat("CASE "),
        repeat("'"),
        repeat("/*"),
        format!("s = '{}", repeat("''")),
        repeat("TRIM(BOTH "),
        format!("a::{}", repeat("int::")),
    ] {
        let errors = errors(&text);
        assert!(!errors.is_empty(), "{}", &text[..40]);
        let _rendered = errors[0].to_string();
    }
}

#[test]
fn long_texts_are_conditions() {
    let mut chain = "a = 1".to_string();
    let mut list = "a IN (0".to_string();
    let mut texts = "s IN ('0'".to_string();
    let mut nested = "p".to_string();
    for index in 0..100_000 {
        let _ = write!(chain, " OR a = {index}");
        let _ = write!(list, ", {}", index * 7 % 100_000);
        let _ = write!(texts, ", '{index}'");
    }
    for _ in 0..90 {
        nested = format!("({nested} OR q) AND p");
    }
    list.push(')');
    texts.push(')');
    let expr = good(&chain);
    let Node::Or(args) = expr.node(expr.root()) else { panic!("a chain") };
    assert_eq!(args.len, 100_001);
    let expr = good(&list);
    let Node::In { list, .. } = expr.node(expr.root()) else { panic!("a list") };
    assert_eq!(list.len(), 100_000);
    for text in [&chain, &texts, &nested] {
        let printed = canonical(text);
        assert_eq!(canonical(&printed), printed);
    }
}

/// Many errors are cut, so that their number does not grow with the text.
#[test]
fn the_number_of_errors_is_bounded() {
    let text = vec!["nothing = 1"; 50_000].join(" AND ");
    assert_eq!(errors(&text).len(), 50);
}

#[test]
fn the_deepest_allowed_nesting_fits_on_a_small_stack() {
    let levels = Limits::default().nesting - 5;
    let texts = [
        format!("{}a = 1{}", "(".repeat(levels), ")".repeat(levels)),
        format!("{}p", "NOT ".repeat(levels)),
        format!("{}1{} = 1", "CASE WHEN p THEN ".repeat(levels), " END".repeat(levels)),
        format!("{}s{} = 'x'", "LOWER(".repeat(levels), ")".repeat(levels)),
        format!("{}p{}", "COALESCE(a BETWEEN 1 AND 2, ".repeat(levels), ")".repeat(levels)),
    ];
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(move || {
        for text in &texts {
            let printed = canonical(text);
            assert_eq!(canonical(&printed), printed);
        }
    });
    thread.expect("a thread").join().expect("the stack suffices");
}

/// A small generator of numbers (SplitMix64), so that every run tests the same cases.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn pick<'p>(&mut self, from: &[&'p str]) -> &'p str {
        from[self.below(from.len() as u64) as usize]
    }

    fn boolean(&mut self, depth: u32) -> String {
        if depth == 0 {
            return self
                .pick(&["p", "q", "TRUE", "NULL", "a = 1", "s LIKE 'x%'", "f > 0.1", "a IN (1, 2.5, NULL)", "s IN LIST codes"])
                .into();
        }
        let d = depth - 1;
        match self.below(20) {
            0 => format!("({}) AND ({}) AND ({})", self.boolean(d), self.boolean(d), self.boolean(d)),
            1 => format!("({}) OR ({})", self.boolean(d), self.boolean(d)),
            2 => format!("NOT ({})", self.boolean(d)),
            3 | 4 => format!("({}) {} ({})", self.number(d), self.pick(&["=", "<>", "<", "<=", ">", ">="]), self.number(d)),
            5 => format!("({}) {} ({})", self.text(d), self.pick(&["=", "<>", "<"]), self.text(d)),
            6 => format!(
                "({}) {}BETWEEN {}({}) AND ({})",
                self.number(d),
                self.not(),
                self.pick(&["", "SYMMETRIC "]),
                self.number(d),
                self.number(d)
            ),
            7 => format!("({}) {}IN ({}, {}, ({}))", self.number(d), self.not(), self.number(0), self.number(0), self.number(d)),
            8 => format!("({}) {}IN ({}, NULL)", self.text(d), self.not(), self.text(0)),
            9 => format!("({}) IS {}{}", self.boolean(d), self.not(), self.pick(&["NULL", "TRUE", "FALSE", "UNKNOWN"])),
            10 => format!("({}) IS {}DISTINCT FROM ({})", self.number(d), self.not(), self.number(d)),
            11 => format!(
                "({}) {}{} ({}){}",
                self.text(d),
                self.not(),
                self.pick(&["LIKE", "ILIKE"]),
                self.text(d),
                self.pick(&["", " ESCAPE '!'"])
            ),
            12 => format!("({}) {} 'a''b.*'", self.text(d), self.pick(&["~", "~*", "!~", "!~*"])),
            13 => format!("CASE WHEN {} THEN {} ELSE {} END", self.boolean(d), self.boolean(d), self.boolean(d)),
            14 => format!("({}) {} ({})", self.instant(d), self.pick(&["=", "<", ">="]), self.instant(d)),
            15 => format!("({}) {}BETWEEN '2024-01-01' AND {}", self.pick(&["ts", "date", "ns"]), self.not(), self.instant(0)),
            16 => format!("{}({}, {})", self.pick(&["STARTS_WITH", "CONTAINS", "ENDS_WITH"]), self.text(d), self.text(d)),
            17 => format!("({}) = ({})", self.boolean(d), self.boolean(d)),
            18 => format!(
                "(CAST({} AS timestamp(us)) - ({})) < {}",
                self.instant(d),
                self.instant(d),
                self.pick(&["iv", "INTERVAL '1 day 0.5 seconds'"])
            ),
            _ => format!("({}) {}IN ()", self.number(d), self.not()),
        }
    }

    fn not(&mut self) -> &'static str {
        self.pick(&["", "NOT "])
    }

    fn number(&mut self, depth: u32) -> String {
        if depth == 0 {
            return self
                .pick(&[
                    "a",
                    "b",
                    "u",
                    "f",
                    "d",
                    "0",
                    "-1",
                    "2.50",
                    "5.",
                    "1e300",
                    "-9223372036854775808",
                    "18446744073709551615",
                    "36893488147419103232",
                    "0.1",
                    "NULL",
                    "CAST('NaN' AS float64)",
                    "CAST('-0' AS double)",
                    "CAST(0.1 AS float64)",
                    ":rate",
                    ":small",
                    "CAST(-1e22 AS float64)",
                    "\"odd \"\"name\"\"\"",
                    "year",
                    "9007199254740993",
                ])
                .into();
        }
        let d = depth - 1;
        match self.below(12) {
            0..=3 => format!("({}) {} ({})", self.number(d), self.pick(&["+", "-", "*", "/", "%"]), self.number(d)),
            4 => format!("- ({})", self.number(d)),
            5 => format!(
                "CASE ({}) WHEN {} THEN {} WHEN {} THEN {} END",
                self.number(d),
                self.number(d),
                self.number(d),
                self.number(0),
                self.number(d)
            ),
            6 => format!("CASE WHEN {} THEN {} END", self.boolean(d), self.number(d)),
            7 => format!("{}({}, {})", self.pick(&["COALESCE", "GREATEST", "LEAST", "NULLIF"]), self.number(d), self.number(d)),
            8 => format!("CAST(({}) AS {})", self.number(d), self.pick(&["int", "float64", "uint64", "decimal(20,3)"])),
            9 => format!("{}({})", self.pick(&["ABS", "SIGN", "FLOOR", "CEIL", "TRUNC", "SQRT", "LN", "SIN"]), self.number(d)),
            10 => format!("POSITION(({}) IN {}) + LENGTH({})", self.text(d), self.text(d), self.text(0)),
            _ => format!("EXTRACT({} FROM {})", self.pick(&["YEAR", "HOUR", "DOW", "EPOCH"]), self.instant(d)),
        }
    }

    fn text(&mut self, depth: u32) -> String {
        if depth == 0 {
            return self.pick(&["s", "t", "event.id", "'x'", "''", "'it''s'", "NULL", "'100%'", "type"]).into();
        }
        let d = depth - 1;
        match self.below(6) {
            0 => format!("({}) || ({}) || ({})", self.text(d), self.text(d), self.text(d)),
            1 => format!("{}({})", self.pick(&["LOWER", "UPPER", "TRIM", "LTRIM"]), self.text(d)),
            2 => format!("SUBSTRING({} FROM 2 FOR {})", self.text(d), self.pick(&["1", "a", "u"])),
            3 => format!("CAST(({}) AS text)", self.number(d)),
            4 => format!("CASE WHEN {} THEN {} ELSE {} END", self.boolean(d), self.text(d), self.text(d)),
            _ => format!("REPLACE({}, {}, {})", self.text(d), self.text(0), self.text(0)),
        }
    }

    fn instant(&mut self, depth: u32) -> String {
        if depth == 0 {
            return self.pick(&["ts", "ns", "date", "DATE '2024-02-29'", "TIMESTAMP '2024-01-01 10:00:00.123456'"]).into();
        }
        let d = depth - 1;
        match self.below(3) {
            0 => format!(
                "({}) {} {}",
                self.instant(d),
                self.pick(&["+", "-"]),
                self.pick(&["INTERVAL '1.5' SECOND", "iv", "INTERVAL '1-2' YEAR TO MONTH"])
            ),
            1 => format!("COALESCE({}, {})", self.instant(d), self.instant(d)),
            _ => format!("CAST({} AS {})", self.instant(d), self.pick(&["date", "timestamp(ms)", "timestamp(9)"])),
        }
    }
}

/// How many of `count` random conditions do not read back as the same expression after `spoil` had their text.
fn lost(count: usize, spoil: impl Fn(String) -> String, report: bool) -> usize {
    let mut random = Random(7);
    let mut lost = 0;
    for case in 0..count {
        let text = random.boolean(1 + case as u32 % 4);
        let expr = good(&text);
        let printed = spoil(print::condition(&expr, &SCHEMA));
        let same = match run(&printed, true) {
            Ok(again) => whole_tree(&again) == whole_tree(&expr) && print::condition(&again, &SCHEMA) == printed,
            Err(_) => false,
        };
        if !same {
            lost += 1;
            assert!(!report, "case {case}\n{text}\n{printed}\n{:?}", run(&printed, true).map(|again| print::condition(&again, &SCHEMA)));
        }
    }
    lost
}

#[test]
fn random_conditions_read_back_as_printed() {
    assert_eq!(lost(4000, |text| text, true), 0);
}

#[test]
fn a_printer_that_forgets_is_caught() {
    assert!(lost(300, |text| text.replace("NOT ", ""), false) > 0);
    assert!(lost(300, |text| text.replace(['(', ')'], " "), false) > 0);
    assert!(lost(300, |text| text.replace(".50", ".5"), false) > 0);
}

#[test]
fn any_text_gives_an_expression_or_diagnostics() {
    const PIECES: [&str; 58] = [
        "a",
        "s",
        "p",
        "f",
        "ts",
        "date",
        "1",
        "2.5",
        "'x'",
        "'",
        "\"",
        "(",
        ")",
        ",",
        "AND",
        "OR",
        "NOT",
        "IN",
        "LIST",
        "codes",
        "BETWEEN",
        "SYMMETRIC",
        "IS",
        "NULL",
        "TRUE",
        "DISTINCT",
        "FROM",
        "LIKE",
        "ESCAPE",
        "~",
        "!~*",
        "=",
        "<>",
        "<",
        "+",
        "-",
        "*",
        "/",
        "%",
        "||",
        "::",
        "int",
        "CASE",
        "WHEN",
        "THEN",
        "ELSE",
        "END",
        "CAST(",
        "AS",
        "TRIM(",
        "EXTRACT(",
        "INTERVAL",
        "DATE",
        ":limit",
        ".",
        ";",
        "é",
        "COALESCE(",
    ];
    let mut random = Random(11);
    let mut accepted = 0;
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..random.below(14) {
            text.push_str(random.pick(&PIECES));
            text.push_str(random.pick(&[" ", " ", " ", ""]));
        }
        accepted += usize::from(run(&text, true).is_ok());
        let bytes: Vec<u8> = (0..random.below(40)).map(|_| random.next() as u8).collect();
        let _ = run(&String::from_utf8_lossy(&bytes), true);
    }
    assert!(accepted > 20, "the generator reaches conditions too: {accepted}");
}

/// Forms that generators of SQL tests write.
#[test]
fn machine_written_conditions_are_read() {
    for text in [
        "NOT ( a ) >= - 5",
        "( a <= 5 OR NOT ((f = 2.3))) AND (((b IN (86, -2.5))))",
        "NOT - a + + b IN ( - 1, NULL, + a * 2 )",
        "a NOT IN ( - - 5, CAST ( NULL AS SIGNED ) )",
        "NULL NOT BETWEEN - a AND COALESCE ( NULL, 7, b )",
        "NOT NULL IS NULL",
        "( NOT NULL ) IS NOT NULL",
        "(s LIKE '%\\\\Temp\\\\%' ESCAPE '\\' OR s LIKE '%\\')",
        "CASE - 5 WHEN a THEN NULL WHEN + 1 THEN b ELSE NULLIF ( a, - 3 ) END > 0",
        "(a)=(1)and(b)=(2)or(not(a)in(3))",
        "a>1AND b<2",
    ] {
        // A number directly before a word is no number: the last one is an error, as in the standard.
        let expected = text != "a>1AND b<2";
        assert_eq!(run(text, true).is_ok(), expected, "{text}: {:?}", run(text, true));
    }
}
