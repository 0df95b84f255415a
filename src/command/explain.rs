//! `explain`: why rules match an event, or do not, and which miss it by one leaf.

use super::Failure;
use super::matching::Options;
use super::state::Memory;
use super::windows;
use crate::connector::source::EventSource;
use crate::event::{EventBatch, Value};
use crate::expr::oracle::{Leaf, Oracle};
use crate::expr::{Expr, Node, scalar};
use crate::id::{NodeId, RuleId};
use crate::reference::Reference;
use crate::rule::print;
use crate::tables::Artifact;
use crate::temporal::windows::Settings;
use std::io::Write;
use std::sync::Arc;

/// Near misses shown.
const NEAR_MISSES: usize = 20;

/// Leaves shown of one rule.
const LEAVES: usize = 100;

/// Writes what the rules of `artifact` say of row `row` of the events; with `rule`, of that rule alone.
///
/// # Errors
/// Events that cannot be read, a row or rule that is not there.
pub fn explain(
    artifact: &Arc<Artifact>,
    options: &Options,
    memory: &Memory,
    row: u64,
    rule: Option<&str>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let reference = Reference::new(artifact)?;
    let batch = read_row(artifact, options, memory, row)?;
    let schema = artifact.schema();
    let values = batch.row(schema, 0);
    let explainer = Explainer { artifact, values: &values };
    if let Some(name) = rule {
        let rule = artifact.find_rule(name).ok_or_else(|| format!("there is no rule `{name}`"))?;
        if let Some(pattern) = artifact.pattern(rule) {
            writeln!(out, "{name} is a pattern over several events; `match --emit findings` shows what it finds")?;
            write!(out, "{}", print::pattern(pattern, schema))?;
            return Ok(());
        }
        let Some((_, oracle)) = reference.rules().find(|(id, _)| *id == rule) else {
            return Err(format!("the rule `{name}` is off").into());
        };
        let foreign = !reference.visits(rule, &values);
        if foreign {
            writeln!(out, "the event belongs to another tenant than rule {name}; its condition by itself:")?;
        }
        return explainer.rule(rule, oracle, out);
    }
    let mut matching = 0_usize;
    let mut near: Vec<(RuleId, Leaf)> = Vec::new();
    for (rule, oracle) in reference.rules().filter(|(rule, _)| reference.visits(*rule, &values)) {
        if oracle.holds(&values) {
            matching += 1;
            explainer.rule(rule, oracle, out)?;
        } else if near.len() < NEAR_MISSES
            && let Some(leaf) = missing_leaf(oracle, &values)
        {
            near.push((rule, leaf));
        }
    }
    writeln!(out, "row {row}: {matching} rules match")?;
    if !near.is_empty() {
        writeln!(out, "\nnear misses, one leaf away{}:", if near.len() == NEAR_MISSES { " (the first ones)" } else { "" })?;
        for (rule, leaf) in &near {
            let Some((_, oracle)) = reference.rules().find(|(id, _)| id == rule) else { continue };
            writeln!(out, "  {:<32} {}", artifact.rule_name(*rule), explainer.leaf(oracle.expr(), leaf))?;
        }
    }
    Ok(())
}

/// The row as a batch of its own. What its windows say takes the rows before it, as they came.
fn read_row(artifact: &Artifact, options: &Options, memory: &Memory, row: u64) -> Result<EventBatch, Failure> {
    let (schema, events) = (artifact.schema(), artifact.event_schema());
    let settings = Settings { spill: memory.spill(), ..Settings::new(options.allowed_lateness) };
    let mut windows = windows::windows(artifact, &settings);
    let every: Vec<_> = (0..events.fields().len()).map(crate::id::FieldId::new).collect();
    let mut rows = 0;
    for read in EventSource::open(&options.events, Some(events))?.read(&every, options.batch_rows, options.strict) {
        let read = read?;
        if let Some(reject) = read.rejects.iter().find(|reject| reject.row == row) {
            return Err(format!("row {row} was rejected: {}", reject.reason).into());
        }
        let batch = match &mut windows {
            Some(windows) => read.batch.with_columns(schema, windows.take(&read.batch)?),
            None => read.batch,
        };
        if let Some(at) = (0..batch.rows()).find(|at| batch.row_number(*at) == row) {
            let fields = (0..schema.fields().len()).map(crate::id::FieldId::new);
            let columns = fields.map(|field| batch.column(field).map(|column| column.slice(at, 1))).collect();
            return Ok(EventBatch::new(schema, row, 1, columns));
        }
        rows += batch.rows() + read.rejects.len();
    }
    Err(format!("there is no row {row}: the events have {rows} rows, the first is 0").into())
}

/// The one leaf whose truth, turned, would make the condition hold; `None` where it takes more.
fn missing_leaf(oracle: &Oracle, values: &[Value]) -> Option<Leaf> {
    let leaves = oracle.leaves(values);
    leaves
        .iter()
        .find(|leaf| {
            [Some(true), Some(false)]
                .iter()
                .any(|turned| *turned != leaf.truth && holds_with(oracle.expr(), &leaves, leaf.node, *turned) == Some(true))
        })
        .cloned()
}

/// The truth of the condition if the leaf `changed` had another: AND, OR and NOT over the leaves.
fn holds_with(expr: &Expr, leaves: &[Leaf], changed: NodeId, to: Option<bool>) -> Option<bool> {
    let mut truths: Vec<Option<bool>> = vec![None; expr.nodes().len()];
    let mut known = vec![false; expr.nodes().len()];
    for leaf in leaves {
        truths[leaf.node.index()] = if leaf.node == changed { to } else { leaf.truth };
        known[leaf.node.index()] = true;
    }
    for (index, node) in expr.nodes().iter().enumerate() {
        if known[index] {
            continue;
        }
        truths[index] = match node {
            Node::Not(inner) => truths[inner.index()].map(|truth| !truth),
            Node::And(args) => expr.args(*args).iter().map(|arg| truths[arg.index()]).reduce(scalar::and).flatten(),
            Node::Or(args) => expr.args(*args).iter().map(|arg| truths[arg.index()]).reduce(scalar::or).flatten(),
            _ => None,
        };
    }
    truths[expr.root().index()]
}

struct Explainer<'a> {
    artifact: &'a Artifact,
    values: &'a [Value],
}

impl Explainer<'_> {
    fn rule(&self, rule: RuleId, oracle: &Oracle, out: &mut dyn Write) -> Result<(), Failure> {
        let verdict = if oracle.holds(self.values) { "matches" } else { "does not match" };
        writeln!(out, "{} {verdict}", self.artifact.rule_name(rule))?;
        let leaves = oracle.leaves(self.values);
        for leaf in leaves.iter().take(LEAVES) {
            writeln!(out, "  {}", self.leaf(oracle.expr(), leaf))?;
        }
        if leaves.len() > LEAVES {
            writeln!(out, "  … {} more leaves", leaves.len() - LEAVES)?;
        }
        Ok(())
    }

    /// A leaf's truth, its text with the thresholds, and the values of what is no constant.
    fn leaf(&self, expr: &Expr, leaf: &Leaf) -> String {
        let truth = leaf.truth.map_or("unknown", |truth| if truth { "true   " } else { "false  " });
        let text = |node: NodeId| {
            let mut alone = Expr::new();
            alone.copy_from(expr, node);
            short(&print::condition(&alone, self.artifact.schema()))
        };
        let values: Vec<String> = leaf
            .operands
            .iter()
            .filter(|(node, _)| !matches!(expr.node(*node), Node::Constant(_)))
            .map(|(node, value)| {
                let mut constant = Expr::new();
                constant.push(Node::Constant(value.clone()), value.ty());
                let shown = match value {
                    // As a condition a double would be a cast of a decimal.
                    Value::Float(value) => value.to_string(),
                    _ => short(&print::condition(&constant, self.artifact.schema())),
                };
                format!("{} is {shown}", text(*node))
            })
            .collect();
        let values = if values.is_empty() { String::new() } else { format!("   ({})", values.join(", ")) };
        format!("{truth} {}{values}", text(leaf.node))
    }
}

fn short(text: &str) -> String {
    const SHOWN: usize = 160;
    if text.chars().count() <= SHOWN { text.to_owned() } else { text.chars().take(SHOWN).chain(['…']).collect() }
}
