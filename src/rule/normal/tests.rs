//! A condition is TRUE exactly where one of its terms holds: against the oracle, over random conditions, under every limit on terms.

use super::*;
use crate::event::Field;
use crate::event::set::Set;
use crate::expr::oracle::Oracle;
use crate::rule::lists::Lists;
use crate::rule::{Limits, Origin, check};

/// Fields are columns, and so, if wanted, is every other expression that is not a condition.
struct TestColumns {
    derived: Option<Vec<Expr>>,
}

impl Columns for TestColumns {
    fn column(&mut self, expr: &Expr, operand: NodeId) -> Option<Column> {
        if let Node::Field(field) = expr.node(operand) {
            return Some(Column(field.0));
        }
        let derived = self.derived.as_mut().filter(|_| expr.ty(operand) != Type::Bool)?;
        let mut alone = Expr::new();
        alone.copy_from(expr, operand);
        let known = derived.iter().position(|other| *other == alone).unwrap_or(derived.len());
        if known == derived.len() {
            derived.push(alone);
        }
        Some(Column(100 + known as u32))
    }
}

fn schema() -> Schema {
    let field = |name: &str, ty| Field { name: name.to_owned(), ty };
    Schema::new(vec![field("a", Type::Int), field("b", Type::Bool), field("c", Type::Float), field("t", Type::Text)]).unwrap()
}

fn condition(text: &str) -> Expr {
    let (schema, lists, limits) = (schema(), Lists::default(), Limits::unlimited());
    let scope = check::Scope { schema: &schema, lists: &lists, parameters: &[], limits: &limits, windows: &[] };
    check::condition(text, &Origin::default(), None, &scope).unwrap_or_else(|errors| panic!("{text}: {errors:?}"))
}

fn contains(set: &Set, value: &Value) -> bool {
    let Some(key) = key::of_value(value) else { return set.null };
    let place = Place::at(key);
    set.intervals
        .iter()
        .any(|interval| interval.low.as_ref().is_none_or(|low| *low <= place) && interval.high.as_ref().is_none_or(|high| *high >= place))
}

fn holds(term: &Term, expr: &Expr, columns: &TestColumns, row: &[Value]) -> bool {
    let members = term.members.iter().all(|(Column(column), set)| match (&columns.derived, *column) {
        (Some(derived), column @ 100..) => contains(set, &oracle::evaluate(&derived[column as usize - 100], row)),
        (_, column) => contains(set, &row[column as usize]),
    });
    members && term.residual_expr(expr).is_none_or(|residual| Oracle::new(&residual).holds(row))
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn condition(&mut self, depth: usize) -> String {
        const LEAVES: [&str; 22] = [
            "a = 1",
            "a <> 2",
            "a > 1.5",
            "2 >= a",
            "a BETWEEN 0 AND 2",
            "a NOT IN (1, 3)",
            "a IN (1, NULL)",
            "a NOT IN (1, NULL)",
            "a IS NULL",
            "a IS DISTINCT FROM 2",
            "a IS NOT DISTINCT FROM NULL",
            "b",
            "b = FALSE",
            "b IS NOT TRUE",
            "c <= 0.5",
            "c = CAST('NaN' AS DOUBLE)",
            "t < 'b'",
            "t IN ('a', 'c')",
            "t LIKE 'a%'",
            "a > c",
            "a + 1 > 2",
            "1 = NULL",
        ];
        let inner = |random: &mut Self| format!("({})", random.condition(depth - 1));
        match if depth == 0 { 9 } else { self.below(10) } {
            0..3 => (0..2 + self.below(2)).map(|_| inner(self)).collect::<Vec<_>>().join(" AND "),
            3..6 => (0..2 + self.below(2)).map(|_| inner(self)).collect::<Vec<_>>().join(" OR "),
            6 => format!("NOT {}", inner(self)),
            7 => format!("{} IS {}", inner(self), self.pick(&["NULL", "NOT NULL", "TRUE", "NOT TRUE", "FALSE", "NOT FALSE"])),
            8 => format!("{} = {}", inner(self), inner(self)),
            _ => self.pick(&LEAVES).to_owned(),
        }
    }
}

#[test]
fn a_condition_is_true_where_a_term_holds() {
    let schema = schema();
    let integers = [Value::Null, Value::Int(0), Value::Int(1), Value::Int(2), Value::Int(3)];
    let truths = [Value::Null, Value::Bool(true), Value::Bool(false)];
    let floats = [Value::Null, Value::Float(0.5), Value::Float(1.0), Value::Float(f64::NAN)];
    let texts = [Value::Null, Value::Text("a".into()), Value::Text("c".into())];
    let mut rows = Vec::new();
    for a in &integers {
        for b in &truths {
            for c in &floats {
                rows.extend(texts.iter().map(|t| [a.clone(), b.clone(), c.clone(), t.clone()]));
            }
        }
    }
    let mut matched = 0;
    for seed in 0..400 {
        let random = &mut Random(seed);
        let text = random.condition(4);
        let expr = condition(&text);
        let oracle = Oracle::new(&expr);
        let limit = random.pick(&[1, 2, 8, 64, 1000]);
        let mut columns = TestColumns { derived: (random.below(2) == 0).then(Vec::new) };
        let terms = terms(&expr, &schema, &mut columns, limit);
        assert!(terms.len() <= limit, "{} terms, at most {limit}: {text}", terms.len());
        assert!(terms.iter().all(|term| term.members.iter().all(|(_, set)| !set.is_empty() && !set.is_full())), "{text}");
        for row in &rows {
            let found = terms.iter().any(|term| holds(term, &expr, &columns, row));
            assert_eq!(found, oracle.holds(row), "limit {limit}, {row:?}: {text}");
            matched += usize::from(found);
        }
    }
    assert!(matched > 1_000);
}

#[test]
fn long_and_deep_conditions_do_not_explode() {
    let schema = schema();
    let limit = Limits::default().terms;
    let join = |separator: &str, part: &dyn Fn(usize) -> String| (0..10_000).map(part).collect::<Vec<_>>().join(separator);
    let conditions = [
        join(" OR ", &|nth| format!("a = {nth}")),
        join(" AND ", &|nth| format!("a <> {nth}")),
        join(" OR ", &|nth| format!("a = {nth} AND t = 'x{nth}'")),
        join(" AND ", &|nth| format!("(a = {nth} OR t = 'x{nth}')")),
        format!("NOT ({})", join(" OR ", &|nth| format!("a = {nth} AND (b OR c > {nth})"))),
        format!("({}) IS NULL", join(" AND ", &|nth| format!("(a > {nth} OR c > {nth})"))),
        (0..80).fold("b".to_owned(), |inner, nth| format!("(a = {nth} OR c > {nth} AND ({inner}))")),
    ];
    for text in conditions {
        let expr = condition(&text);
        let terms = terms(&expr, &schema, &mut TestColumns { derived: None }, limit);
        assert!(terms.len() <= limit, "{} terms: {}…", terms.len(), &text[..60]);
    }
}
