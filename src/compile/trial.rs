//! The tests inside rules.

use crate::event::{EventBatch, Schema, Value};
use crate::expr::Expr;
use crate::expr::columns::array;
use crate::expr::oracle::Oracle;
use crate::id::RuleId;
use crate::pattern::Pattern;
use crate::rule::template::parse_value;
use crate::rule::{Diagnostic, Rule, RuleTest, Severity, print};
use crate::temporal::patterns::{Limits, PatternRule, Patterns};
use std::sync::Arc;

/// Leaves of a condition that a failing test shows.
const LEAVES: usize = 8;

/// Events of a test wait for each other: they may come in any order.
const LATENESS: i64 = i64::MAX;

/// Whether a condition says of the event what the test says.
pub(super) fn of_condition(rule: &Rule, test: &RuleTest, oracle: &Oracle, schema: &Schema) -> Result<(), Box<Diagnostic>> {
    for row in rows(rule, test, schema)? {
        let matches = oracle.holds(&row);
        if matches != test.matches {
            let leaves = oracle.leaves(&row);
            let leaves = leaves.iter().take(LEAVES).map(|leaf| {
                let truth = leaf.truth.map_or("unknown", |truth| if truth { "true" } else { "false" });
                let mut alone = Expr::new();
                alone.copy_from(oracle.expr(), leaf.node);
                format!("{} is {truth}", print::condition(&alone, schema))
            });
            return Err(failing(rule, test, matches, leaves.collect::<Vec<_>>().join("; ")));
        }
    }
    Ok(())
}

/// Whether a pattern is found in the events if the test says so.
pub(super) fn of_pattern(rule: &Rule, test: &RuleTest, pattern: &Arc<Pattern>, schema: &Schema) -> Result<(), Box<Diagnostic>> {
    let rows = rows(rule, test, schema)?;
    let column = |(at, field): (usize, &crate::event::Field)| {
        let values: Vec<Value> = rows.iter().map(|row| row[at].clone()).collect();
        Some(array(field.ty, &values))
    };
    let batch = EventBatch::new(schema, 0, rows.len(), schema.fields().iter().enumerate().map(column).collect());
    let tried = PatternRule { rule: RuleId(0), name: "".into(), tenant: None, pattern: Arc::clone(pattern) };
    let mut patterns = Patterns::new(schema.clone(), vec![tried], LATENESS, Limits::default());
    let holds = patterns.conditions().judge(schema, &batch);
    let mut found = Vec::new();
    let taken = patterns.take(&batch, &holds, &[], &mut found, &mut Vec::new()).and_then(|()| patterns.finish(&mut found));
    taken.map_err(|error| problem(rule, test, "test-value", error))?;
    if patterns.counters().untimed > 0 {
        return Err(problem(rule, test, "test-value", "an event of the test has no time".to_owned()));
    }
    // Rows that no match has may be put out, too.
    let found = found.iter().find(|found| found.finding.match_number.is_some());
    if found.is_some() == test.matches {
        return Ok(());
    }
    let ends = found.and_then(|found| found.finding.rows);
    let detail = ends.map_or_else(String::new, |(first, last)| format!("it is found from event {} to event {}", first + 1, last + 1));
    Err(failing(rule, test, found.is_some(), detail))
}

/// The events of a test as rows.
fn rows(rule: &Rule, test: &RuleTest, schema: &Schema) -> Result<Vec<Vec<Value>>, Box<Diagnostic>> {
    let mut rows = Vec::with_capacity(test.events.len());
    for event in &test.events {
        let mut row = vec![Value::Null; schema.fields().len()];
        for (name, value) in event {
            let Some(field) = schema.find(name) else {
                let primary = format!("the test names the field `{name}`, which the schema does not have");
                return Err(problem(rule, test, "unknown-field", primary));
            };
            let text = match value {
                serde_json::Value::Null => continue,
                serde_json::Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let ty = schema.field(field).ty;
            row[field.index()] = parse_value(&text, ty).map_err(|refusal| {
                let primary = format!("the test's value for `{name}` is not of type {ty}: {}", refusal.primary);
                problem(rule, test, "test-value", primary)
            })?;
        }
        rows.push(row);
    }
    Ok(rows)
}

fn problem(rule: &Rule, test: &RuleTest, code: &'static str, primary: String) -> Box<Diagnostic> {
    let mut diagnostic = Diagnostic::at(Severity::Error, code, &test.origin, "", 0..0, primary).with_rule(&rule.id);
    diagnostic.excerpt = None;
    Box::new(diagnostic)
}

fn failing(rule: &Rule, test: &RuleTest, matches: bool, detail: String) -> Box<Diagnostic> {
    let primary =
        if matches { "the test says `no_match`, but the rule matches" } else { "the test says `match`, but the rule does not match" };
    let mut diagnostic = problem(rule, test, "failing-test", primary.to_owned());
    diagnostic.detail = detail;
    diagnostic.hint = "correct the test or the rule".to_owned();
    diagnostic
}
