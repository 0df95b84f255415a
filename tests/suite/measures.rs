//! What patterns tell of their matches: each function with its values at every row, worked out by hand.

use super::patterns::{Run, STREAM, event};
use serde_json::{Value, json};

/// A row of a card at a second, with an amount or none.
fn row((second, card, amount): &(u32, &str, Option<i64>)) -> Value {
    let mut row = event(*second, card, 0);
    row["amount"] = json!(amount);
    row
}

const ROWS: [(u32, &str, Option<i64>); 6] =
    [(0, "c", Some(3)), (1, "a", Some(1)), (2, "d", None), (3, "b", Some(4)), (4, "e", Some(1)), (5, "f", Some(5))];

/// The same match, of other rows.
const OTHERS: [(u32, &str, Option<i64>); 6] =
    [(0, "c", Some(3)), (2, "z", Some(2)), (4, "y", Some(4)), (6, "x", Some(0)), (8, "w", Some(2)), (10, "k", Some(5))];

/// The values of a measure at each row of the match.
fn told(measure: &str, rows: &[(u32, &str, Option<i64>)]) -> Value {
    let clause = format!(
        "ORDER BY at MEASURES {measure} AS m ALL ROWS PER MATCH PATTERN (a b+ c) SUBSET u = (a, c) DEFINE a AS amount = 3, c AS amount = 5"
    );
    let found = Run::new(STREAM, &clause, &rows.iter().map(row).collect::<Vec<_>>()).findings(&[]);
    assert_eq!(found.len(), 6, "{measure}");
    found.iter().map(|finding| finding["measures"]["m"].clone()).collect()
}

#[test]
fn functions_have_these_values() {
    for (measure, expected) in [
        ("COUNT(b.*) FILTER (WHERE amount < 3)", json!([0, 1, 1, 1, 2, 2])),
        ("COUNT(u.card) FILTER (WHERE card < 'g')", json!([1, 1, 1, 1, 1, 2])),
        ("COUNT(DISTINCT amount)", json!([1, 2, 2, 3, 3, 4])),
        ("SUM(amount)", json!([3, 4, 4, 8, 9, 14])),
        ("SUM(amount) FILTER (WHERE card < 'c')", json!([null, 1, 1, 5, 5, 5])),
        ("AVG(b.amount)", json!([null, 1.0, 1.0, 2.5, 2.0, 2.0])),
        ("MIN(amount)", json!([3, 1, 1, 1, 1, 1])),
        ("MAX(b.card)", json!([null, "a", "d", "d", "e", "e"])),
        ("FINAL MAX(b.amount) - amount", json!([1, 3, null, 0, 3, -1])),
        ("EVERY(amount <> 4)", json!([true, true, true, false, false, false])),
        ("SOME(b.amount = 4)", json!([null, false, false, true, true, true])),
        ("ANY_VALUE(b.amount)", json!([null, 1, 1, 1, 1, 1])),
        // Of several rows the first, and of a row without a value to compare nothing.
        ("MIN_BY(card, amount)", json!(["c", "a", "a", "a", "a", "a"])),
        ("MAX_BY(card, amount)", json!(["c", "c", "c", "b", "b", "f"])),
        ("MAX_BY(amount, card)", json!([3, 3, null, null, 1, 5])),
        ("FINAL MAX_BY(b.card, b.amount)", json!(["b", "b", "b", "b", "b", "b"])),
        ("MAX_BY(card, amount) FILTER (WHERE amount < 3)", json!([null, "a", "a", "a", "a", "a"])),
        ("MAX_BY(amount, CLASSIFIER())", json!([3, 1, 1, 1, 1, 5])),
        ("LISTAGG(card, '-')", json!(["c", "c-a", "c-a-d", "c-a-d-b", "c-a-d-b-e", "c-a-d-b-e-f"])),
        ("LISTAGG(b.card)", json!([null, "a", "ad", "adb", "adbe", "adbe"])),
        ("LISTAGG(DISTINCT CLASSIFIER(), '') FILTER (WHERE amount > 3)", json!([null, null, null, "B", "B", "BC"])),
        ("ARRAY_AGG(b.amount)", json!([null, [1], [1, null], [1, null, 4], [1, null, 4, 1], [1, null, 4, 1]])),
        ("FIRST(amount, 1)", json!([null, 1, 1, 1, 1, 1])),
        ("FINAL FIRST(amount, 1)", json!([1, 1, 1, 1, 1, 1])),
        ("LAST(b.card, 1)", json!([null, null, "a", "d", "b", "b"])),
        ("PREV(FIRST(b.amount), 1) + amount", json!([null, 4, null, 7, 4, 8])),
        ("NEXT(card, 2)", json!(["d", "b", "e", "f", null, null])),
        ("MATCH_ROWTIME()", vec!["2026-01-01T00:00:05Z"; 6].into()),
    ] {
        assert_eq!(told(measure, &ROWS), expected, "{measure}");
        assert_ne!(told(measure, &OTHERS).to_string(), expected.to_string(), "{measure} has other values of other rows");
    }
}

#[test]
fn functions_of_one_row_a_match_are_of_all_its_rows() {
    let clause =
        "ORDER BY at MEASURES MAX_BY(b.card, b.amount) AS most, LISTAGG(card) AS cards, MATCH_ROWTIME() AS at, FIRST(amount, 1) AS second
        PATTERN (a b+ c) DEFINE a AS amount = 3, c AS amount = 5";
    let found = Run::new(STREAM, clause, &ROWS.iter().map(row).collect::<Vec<_>>()).findings(&[]);
    assert_eq!(found[0]["measures"], json!({"most": "b", "cards": "cadbef", "at": "2026-01-01T00:00:05Z", "second": 1}));
}

/// What is tested of a row counts with it; what is tried and not taken leaves nothing.
#[test]
fn definitions_may_ask_for_them() {
    let labels = |define: &str| -> Value {
        let clause = format!("ORDER BY at ALL ROWS PER MATCH PATTERN ((`a` | b)+) DEFINE `a` AS {define}");
        let found = Run::new(STREAM, &clause, &ROWS.iter().map(row).collect::<Vec<_>>()).findings(&[]);
        found.iter().map(|finding| finding["classifier"].as_str().expect("a variable").to_owned()).collect::<String>().into()
    };
    assert_eq!(labels("MAX_BY(card, amount) = 'b'"), "BBBaaB");
    assert_eq!(labels("LISTAGG(CLASSIFIER(), '') LIKE '%aBa'"), "BBBBBB");
    assert_eq!(labels("LISTAGG(CLASSIFIER(), '') IN ('a', 'aBa', 'aBaBa')"), "aBaBaB");
    assert_eq!(labels("EVERY(`a`.amount < 4)"), "aaaBaB");
    assert_eq!(labels("COUNT(b.*) < 2 AND SOME(amount = 1)"), "Baaaaa");
}
