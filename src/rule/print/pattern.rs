//! A pattern for people: its variables with their conditions, and the steps of its automaton.

use super::{write_field_name, write_with};
use crate::event::Schema;
use crate::expr::Expr;
use crate::id::FieldId;
use crate::pattern::{AggregateFunction, Define, Formula, Label, Labels, Leaf, Navigation, Pattern, Step};
use std::fmt::Write;

/// What rows it is about, its variables, and its steps by number: lines of text.
#[must_use]
pub fn pattern(pattern: &Pattern, schema: &Schema) -> String {
    let printer = Printer { pattern, schema };
    let names = |fields: &mut dyn Iterator<Item = FieldId>| fields.map(|field| printer.field(field)).collect::<Vec<_>>().join(", ");
    let mut text = String::from("  rows");
    if !pattern.partition_by.is_empty() {
        let _ = write!(text, " of the same {}", names(&mut pattern.partition_by.iter().copied()));
    }
    if !pattern.order_by.is_empty() {
        let _ = write!(text, " in the order of {}", names(&mut pattern.order_by.iter().map(|key| key.field)));
    }
    if let Some(within) = pattern.within {
        let (seconds, rest) = (within / 1_000_000_000, within % 1_000_000_000);
        let rest = if rest == 0 { String::new() } else { format!(".{rest:09}").trim_end_matches('0').to_owned() };
        let _ = write!(text, ", less than {seconds}{rest} s from the first to the last");
    }
    text.push('\n');
    let width = pattern.labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    for (label, define) in pattern.labels.iter().zip(&pattern.defines) {
        let _ = write!(text, "  {label:<width$}  ");
        match define {
            Define::Always => text.push_str("TRUE"),
            Define::Row(expr) => printer.row(expr, &Labels::All, &mut text),
            Define::Match(formula) => printer.formula(formula, &mut text),
        }
        text.push('\n');
    }
    for (at, step) in pattern.steps.iter().enumerate() {
        let _ = writeln!(text, "  {at:>3}  {}", printer.step(*step));
    }
    text
}

struct Printer<'p> {
    pattern: &'p Pattern,
    schema: &'p Schema,
}

impl Printer<'_> {
    fn field(&self, field: FieldId) -> String {
        let mut text = String::new();
        match self.schema.fields().get(field.index()) {
            Some(field) => write_field_name(&field.name, &mut text),
            None if field == self.pattern.classifier() => text.push_str("CLASSIFIER()"),
            None => text.push_str("MATCH_NUMBER()"),
        }
        text
    }

    fn variable(&self, label: Label) -> &str {
        self.pattern.labels.get(usize::from(label)).map_or("?", |name| name)
    }

    fn step(&self, step: Step) -> String {
        match step {
            Step::Take { label, excluded: false } => format!("take a row of {}", self.variable(label)),
            Step::Take { label, excluded: true } => format!("take a row of {}, and leave it out", self.variable(label)),
            Step::Split { first, second } => format!("go to {first}, else to {second}"),
            Step::Jump(to) => format!("go to {to}"),
            Step::Enter(repetition) => format!("begin repetition {repetition}"),
            Step::Again { repetition, to } => format!("go to {to} if repetition {repetition} took a row"),
            Step::Start => "at the first row of the partition".to_owned(),
            Step::End => "behind the last row of the partition".to_owned(),
            Step::Accept => "match".to_owned(),
            Step::Await { label, also, except } => {
                let mut text = match label {
                    Some(label) => format!("wait for a row of {}", self.variable(label)),
                    None => "wait for the end of the time".to_owned(),
                };
                if let Some(also) = also {
                    let _ = write!(text, ", taking those of {}", self.variable(also));
                }
                let except: Vec<&str> = except.into_iter().flatten().map(|label| self.variable(label)).collect();
                if !except.is_empty() {
                    let _ = write!(text, "; none at a row of {}", except.join(" or "));
                }
                text
            }
        }
    }

    /// An expression over one row of these variables.
    fn row(&self, expr: &Expr, labels: &Labels, text: &mut String) {
        let prefix = self.prefix(labels);
        let name = |field: FieldId, text: &mut String| {
            if field.0 < self.pattern.fields {
                text.push_str(&prefix);
            }
            text.push_str(&self.field(field));
        };
        write_with(expr, &name, text);
    }

    /// `A.`, and of a SUBSET its members.
    fn prefix(&self, labels: &Labels) -> String {
        match labels {
            Labels::All => String::new(),
            Labels::Of(labels) => format!("{}.", labels.iter().map(|label| self.variable(*label)).collect::<Vec<_>>().join("|")),
        }
    }

    fn formula(&self, formula: &Formula, text: &mut String) {
        let leaf = |field: FieldId, text: &mut String| self.leaf(&formula.leaves[field.index()], text);
        write_with(&formula.expr, &leaf, text);
    }

    fn leaf(&self, leaf: &Leaf, text: &mut String) {
        match leaf {
            Leaf::MatchNumber => text.push_str("MATCH_NUMBER()"),
            Leaf::Value { navigation, expr } => {
                let Navigation { labels, last, skip, offset, running } = navigation;
                let mut inner = String::new();
                self.row(expr, labels, &mut inner);
                let function = if *last { "LAST" } else { "FIRST" };
                let semantics = if *running { "" } else { "FINAL " };
                match (last, skip, running) {
                    (true, 0, true) => {}
                    (_, 0, _) => inner = format!("{semantics}{function}({inner})"),
                    _ => inner = format!("{semantics}{function}({inner}, {skip})"),
                }
                let _ = match *offset {
                    0 => write!(text, "{inner}"),
                    offset => write!(text, "{}({inner}, {})", if offset < 0 { "PREV" } else { "NEXT" }, offset.unsigned_abs()),
                };
            }
            Leaf::Aggregate { function, distinct, labels, running, argument, filter } => {
                let name = match function {
                    AggregateFunction::Count => "COUNT",
                    AggregateFunction::Sum => "SUM",
                    AggregateFunction::Average => "AVG",
                    AggregateFunction::Minimum => "MIN",
                    AggregateFunction::Maximum => "MAX",
                    AggregateFunction::Deviation => "STDDEV",
                    AggregateFunction::Array => "ARRAY_AGG",
                    AggregateFunction::Any => "ANY_VALUE",
                    AggregateFunction::List(_) => "LISTAGG",
                    AggregateFunction::MinimumBy(_) => "MIN_BY",
                    AggregateFunction::MaximumBy(_) => "MAX_BY",
                };
                let _ = write!(text, "{}{name}({}", if *running { "" } else { "FINAL " }, if *distinct { "DISTINCT " } else { "" });
                match argument {
                    Some(argument) => self.row(argument, labels, text),
                    None => {
                        let _ = write!(text, "{}*", self.prefix(labels));
                    }
                }
                if let AggregateFunction::List(between) = function {
                    let _ = write!(text, ", '{}'", between.replace('\'', "''"));
                }
                if let Some(by) = function.by() {
                    text.push_str(", ");
                    self.row(by, labels, text);
                }
                text.push(')');
                if let Some(filter) = filter {
                    text.push_str(" FILTER (WHERE ");
                    self.row(filter, labels, text);
                    text.push(')');
                }
            }
        }
    }
}
