//! `inspect`: what is inside an artifact.

use super::Failure;
use crate::id::RuleId;
use crate::rule::window;
use crate::tables::Artifact;
use crate::tables::artifact::{ACTIONS, ColumnSource, FORMAT_VERSION, STATUSES};
use crate::tables::layout::NONE;
use crate::window::Frame;
use std::io::Write;
use std::path::Path;

/// Writes a summary of the artifact at `path`, or, with `rule`, that rule as canonical text.
///
/// # Errors
/// An artifact that cannot be opened, a rule that it does not have.
pub fn inspect(path: &Path, rule: Option<&str>, out: &mut dyn Write) -> Result<(), Failure> {
    let artifact = Artifact::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    match rule {
        None => summary(&artifact, out),
        Some(id) => {
            let rule = artifact.find_rule(id).ok_or_else(|| format!("{}: there is no rule `{id}`", path.display()))?;
            one_rule(&artifact, rule, out)
        }
    }
}

fn summary(artifact: &Artifact, out: &mut dyn Write) -> Result<(), Failure> {
    let tables = artifact.tables();
    let (bytes, sections) = artifact.sizes();
    let rules = artifact.rules();
    writeln!(out, "generation  {}", artifact.generation())?;
    writeln!(out, "format      version {FORMAT_VERSION}, compiled by dynamic-cep {}", artifact.manifest().compiler)?;
    let by_status: Vec<String> = STATUSES
        .iter()
        .zip(0..)
        .map(|(name, status)| format!("{} {name}", rules.iter().filter(|rule| rule.status == status).count()))
        .collect();
    writeln!(out, "rules       {} ({})", rules.len(), by_status.join(", "))?;
    writeln!(out, "tenants     {}", artifact.manifest().tenants.len())?;
    let used = tables.term_rules.iter().filter(|rule| **rule != NONE).count();
    writeln!(
        out,
        "tables      {used} terms in {} groups of 32, {} segments, {} nodes, {} lists of {} intervals",
        tables.groups.len(),
        tables.segments.len(),
        tables.nodes.len(),
        tables.set_tests.len(),
        tables.intervals.len()
    )?;
    let residual = tables.tails.iter().filter(|tail| tail.residual != NONE).count();
    writeln!(out, "residuals   {residual} terms keep a part that is evaluated on candidates")?;
    writeln!(out, "\nfields")?;
    for field in artifact.event_schema().fields() {
        writeln!(out, "  {:<24} {}", field.name, field.ty)?;
    }
    if !artifact.windows().is_empty() {
        writeln!(out, "\nwindows")?;
    }
    for column in artifact.windows() {
        let name = column.name.as_deref().map_or(String::new(), |name| format!("{name:<24} "));
        writeln!(out, "  {name}{}; {}", window::text(&column.window, artifact.schema()), held(column.window.frame))?;
    }
    writeln!(out, "\ncolumns")?;
    for column in &artifact.manifest().columns {
        let name = match &column.source {
            ColumnSource::Field(field) => artifact.schema().field(*field).name.clone(),
            ColumnSource::Derived(expr) => crate::rule::print::condition(expr, artifact.schema()),
        };
        let exact = if column.points_only { ", equality only" } else { "" };
        writeln!(out, "  {name:<24} {} thresholds{exact}", column.keys.end - column.keys.start)?;
    }
    writeln!(out, "\nsections    {bytes} bytes in all")?;
    for (section, bytes) in sections.into_iter().filter(|(_, bytes)| *bytes > 0) {
        writeln!(out, "  {:<24} {bytes}", format!("{section:?}"))?;
    }
    Ok(())
}

/// What is held of each key for a frame.
fn held(frame: Frame) -> String {
    match frame {
        Frame::Range { from: Some(from), .. } => format!("holds rows of {}", window::length(from)),
        Frame::Rows { from: Some(from), .. } => format!("holds {} rows", u64::from(from) + 1),
        _ => "holds every row".to_owned(),
    }
}

fn one_rule(artifact: &Artifact, rule: RuleId, out: &mut dyn Write) -> Result<(), Failure> {
    let record = artifact.rule(rule);
    writeln!(out, "rule    {}", artifact.rule_name(rule))?;
    if record.tenant != NONE {
        writeln!(out, "tenant  {}", artifact.manifest().tenants[record.tenant as usize])?;
    }
    writeln!(out, "when    {}", artifact.source(rule)?)?;
    writeln!(out, "score   {}", super::report::thousandths(record.score.into()))?;
    writeln!(out, "action  {}", ACTIONS[usize::from(record.action)])?;
    writeln!(out, "status  {}", STATUSES[usize::from(record.status)])?;
    let tags: Vec<&str> = artifact.tags(rule).collect();
    if !tags.is_empty() {
        writeln!(out, "tags    {}", tags.join(", "))?;
    }
    if record.outcome != NONE {
        writeln!(out, "outcome {}", artifact.name(record.outcome))?;
    }
    let tables = artifact.tables();
    let terms = (0..tables.term_rules.len() as u32).filter(|term| tables.term_rules[*term as usize] == rule.0);
    let tails = terms.clone().filter(|term| tables.tail(*term).is_some()).count();
    writeln!(out, "terms   {} in the tables, {tails} of them with lists or a residual", terms.count())?;
    Ok(())
}
