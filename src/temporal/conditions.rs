//! What DEFINE asks of a row alone: told apart from what depends on the match so far, numbered over all patterns, and matched by whoever matches rules.

use crate::event::{EventBatch, Schema, Type, Value};
use crate::expr::oracle::Oracle;
use crate::expr::{Expr, Node};
use crate::flow::Hits;
use crate::id::{FieldId, NodeId, RuleId};
use crate::pattern::{Define, Formula, Label, Leaf, Pattern};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// A condition on one row, which counts for one tenant's rows, or for those of all.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    pub tenant: Option<Arc<str>>,
    /// Over the fields of the events.
    pub expr: Expr,
}

/// The conditions of several patterns, each once: its number is its place.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    all: Vec<Condition>,
    numbers: HashMap<(Option<Arc<str>>, Vec<u8>), u32>,
}

impl Conditions {
    #[must_use]
    pub fn all(&self) -> &[Condition] {
        &self.all
    }

    /// The number of a condition, which is added where it is new.
    pub fn number(&mut self, tenant: Option<&Arc<str>>, expr: Expr) -> u32 {
        let identity = postcard::to_stdvec(&expr).expect("an expression in memory is written to memory");
        *self.numbers.entry((tenant.cloned(), identity)).or_insert_with(|| {
            self.all.push(Condition { tenant: tenant.cloned(), expr });
            self.all.len() as u32 - 1
        })
    }

    /// Which conditions hold for which rows, row by row: slow, and obviously right.
    #[must_use]
    pub fn judge(&self, schema: &Schema, batch: &EventBatch) -> Hits {
        let oracles: Vec<Oracle> = self.all.iter().map(|condition| Oracle::new(&condition.expr)).collect();
        let mut hits = Hits { offsets: vec![0], rules: Vec::new() };
        for row in 0..batch.rows() {
            let values = batch.row(schema, row);
            let tenant = schema.tenant.and_then(|field| tenant_name(&values[field.index()]));
            let of_tenant = |condition: &Condition| condition.tenant.is_none() || condition.tenant.as_deref() == tenant.as_deref();
            let holds = self.all.iter().zip(&oracles).map(|(condition, oracle)| of_tenant(condition) && oracle.holds(&values));
            hits.rules.extend(holds.enumerate().filter(|(_, holds)| *holds).map(|(number, _)| RuleId::new(number)));
            hits.offsets.push(hits.rules.len() as u32);
        }
        hits
    }
}

/// What the rows of variable `label` must be: a condition on the row alone, and one on the match so far, either of which may be absent. Both must be
/// TRUE, as must the one that they were made of.
#[must_use]
pub fn split(pattern: &Pattern, label: Label) -> (Option<Expr>, Option<Formula>) {
    let formula = match &pattern.defines[usize::from(label)] {
        Define::Always => return (None, None),
        Define::Row(expr) => return (Some(expr.clone()), None),
        Define::Match(formula) => formula,
    };
    let expr = &formula.expr;
    let conjuncts = match expr.node(expr.root()) {
        Node::And(args) => expr.args(*args).to_vec(),
        _ => vec![expr.root()],
    };
    let alone = |conjunct: &NodeId| {
        let mut alone = Expr::new();
        alone.copy_from(expr, *conjunct);
        alone
    };
    let (of_row, rest): (Vec<Expr>, Vec<Expr>) = conjuncts
        .iter()
        .map(alone)
        .partition(|conjunct| conjunct.fields().iter().all(|leaf| row_under_test(pattern, label, &formula.leaves[leaf.index()]).is_some()));
    let of_row: Vec<Expr> = of_row
        .iter()
        .map(|conjunct| {
            conjunct
                .substituted(|leaf| row_under_test(pattern, label, &formula.leaves[leaf.index()]).expect("conjuncts were chosen for it"))
        })
        .collect();
    let rest = conjunction(&rest).map(|rest| {
        let used = rest.fields();
        let leaves = used.iter().map(|leaf| formula.leaves[leaf.index()].clone()).collect();
        let place = |leaf: FieldId| FieldId::new(used.binary_search(&leaf).unwrap_or_default());
        Formula { expr: rest.with_fields(place), leaves }
    });
    (conjunction(&of_row), rest)
}

/// What a leaf says of the row under test, if it looks at nothing else.
fn row_under_test<'p>(pattern: &Pattern, label: Label, leaf: &'p Leaf) -> Option<&'p Expr> {
    let Leaf::Value { navigation, expr } = leaf else { return None };
    let current = navigation.last && navigation.skip == 0 && navigation.offset == 0 && navigation.labels.contain(label);
    (current && expr.fields().iter().all(|field| field.0 < pattern.fields)).then_some(expr)
}

fn conjunction(parts: &[Expr]) -> Option<Expr> {
    let [first, others @ ..] = parts else { return None };
    if others.is_empty() {
        return Some(first.clone());
    }
    let mut whole = Expr::new();
    let parts: Vec<NodeId> = parts.iter().map(|part| whole.copy_from(part, part.root())).collect();
    let args = whole.push_args(&parts);
    whole.push(Node::And(args), Type::Bool);
    Some(whole)
}

/// The name of the tenant that a value of the tenant's field stands for.
fn tenant_name(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::Text(name) => Some(Cow::Borrowed(&**name)),
        Value::Int(number) => Some(Cow::Owned(number.to_string())),
        Value::UInt(number) => Some(Cow::Owned(number.to_string())),
        _ => None,
    }
}
