//! Bulk rules: a rule for each row of a Parquet, NDJSON or CSV file, or an instance of a template for each, read in chunks.

use super::attributes::{Attributes, KEYS, name};
use super::suggest::closest;
use super::table::{Chunk, Table, cell, row_error, row_origin};
use super::template::{Template, parse_value};
use super::{Diagnostic, Limits, Rule, Severity};
use arrow::array::LargeStringArray;
use bytes::Bytes;
use std::collections::HashSet;
use std::sync::Arc;

/// Diagnostics of one file; further ones are counted only.
const DIAGNOSTICS: usize = 10_000;

/// Some rules that follow one another in the file, and what is wrong with others.
#[derive(Debug, Default)]
pub struct RuleChunk {
    pub rules: Vec<Rule>,
    pub diagnostics: Vec<Diagnostic>,
}

/// A file of rules, read a chunk at a time: an iterator of [`RuleChunk`]s, in the order of the rows.
#[derive(Debug)]
pub struct RuleRows {
    table: Table,
    template: Option<Arc<Template>>,
    limits: Limits,
    /// Names of columns that were looked at.
    known: HashSet<Arc<str>>,
    /// What opening the file had to say; goes out with the first chunk.
    diagnostics: Vec<Diagnostic>,
    reported: usize,
    started: bool,
    ended: bool,
}

impl RuleRows {
    /// Opens a bulk file: `bytes` as what the ending of `file` says. Columns: id, when, and optionally tenant, score, action, status,
    /// tags, outcome.
    ///
    /// # Errors
    /// A diagnostic about the whole file.
    pub fn open(file: &str, bytes: Bytes, limits: &Limits) -> Result<Self, Box<Diagnostic>> {
        Self::new(file, bytes, None, limits)
    }

    /// Opens a table of instances of `template`. Columns: each parameter, and optionally those of a bulk file except `when`.
    ///
    /// # Errors
    /// A diagnostic about the whole file.
    pub fn instances(file: &str, bytes: Bytes, template: Arc<Template>, limits: &Limits) -> Result<Self, Box<Diagnostic>> {
        Self::new(file, bytes, Some(template), limits)
    }

    fn new(file: &str, bytes: Bytes, template: Option<Arc<Template>>, limits: &Limits) -> Result<Self, Box<Diagnostic>> {
        let table = Table::open(file, bytes)?;
        let mut rows = Self {
            table,
            template,
            limits: limits.clone(),
            known: HashSet::new(),
            diagnostics: Vec::new(),
            reported: 0,
            started: false,
            ended: false,
        };
        if let Some(names) = rows.table.names.clone() {
            rows.require_columns(&names)?;
            rows.started = true;
            rows.diagnostics = rows.unknown_columns(&names);
        }
        Ok(rows)
    }

    /// The columns that a row must have.
    fn required(&self) -> Vec<Arc<str>> {
        self.template.as_ref().map_or_else(
            || vec!["id".into(), "when".into()],
            |template| template.parameters.iter().map(|(name, _)| Arc::clone(name)).collect(),
        )
    }

    fn require_columns(&self, names: &[Arc<str>]) -> Result<(), Box<Diagnostic>> {
        let missing: Vec<String> = self.required().iter().filter(|name| !names.contains(name)).map(|name| format!("`{name}`")).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let message = format!("the file has no column {}", missing.join(" and no column "));
        let hint = format!("its columns are {}", names.join(", "));
        Err(Box::new(Diagnostic::file(Severity::Error, "missing-column", &self.table.file, message).with_hint(hint)))
    }

    /// A warning for each column, not looked at before, that means nothing.
    fn unknown_columns(&mut self, names: &[Arc<str>]) -> Vec<Diagnostic> {
        let mut columns = self.required();
        columns.extend(KEYS.iter().map(|key| Arc::from(*key)));
        columns.push("id".into());
        let mut warnings = Vec::new();
        for name in names {
            if !self.known.insert(Arc::clone(name)) || columns.contains(name) {
                continue;
            }
            let hint = match closest(name, columns.iter().map(|column| &**column)) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("known columns are {}", columns.join(", ")),
            };
            let message = format!("the column `{name}` is not used");
            warnings.push(Diagnostic::file(Severity::Warning, "unknown-column", &self.table.file, message).with_hint(hint));
        }
        warnings
    }

    fn convert(&mut self, chunk: &Chunk) -> RuleChunk {
        let mut out = RuleChunk::default();
        // A name of the chunk's own: counting the references of one shared by all rows would keep the threads that lower them waiting for each other.
        let file: Arc<str> = Arc::from(&*self.table.file);
        let names: Vec<Arc<str>> = chunk.columns.iter().map(|column| Arc::clone(&column.name)).collect();
        if !self.started && chunk.problems.len() < chunk.rows {
            self.started = true;
            if let Err(diagnostic) = self.require_columns(&names) {
                self.ended = true;
                out.diagnostics.push(*diagnostic);
                return out;
            }
        }
        if self.table.names.is_none() {
            out.diagnostics.extend(self.unknown_columns(&names));
        }
        let broken: HashSet<u64> = chunk.problems.iter().map(|(row, _)| *row).collect();
        for (row, problem) in &chunk.problems {
            out.diagnostics.push(row_error(&file, *row, "unreadable-row", "the row cannot be read").with_detail(problem));
        }
        let row_columns = Columns {
            file,
            first_row: chunk.first_row,
            ids: chunk.column("id"),
            when: chunk.column("when"),
            attributes: KEYS.iter().filter_map(|key| chunk.column(key).map(|cells| (*key, cells))).collect(),
            parameters: self.template.iter().flat_map(|template| &template.parameters).map(|(name, _)| chunk.column(name)).collect(),
            limits: &self.limits,
        };
        out.rules.reserve(chunk.rows);
        for row in (0..chunk.rows).filter(|row| !broken.contains(&(chunk.first_row + *row as u64))) {
            let rule = match &self.template {
                Some(template) => row_columns.instance(row, template, &mut out.diagnostics),
                None => row_columns.rule(row, &mut out.diagnostics),
            };
            out.rules.extend(rule);
        }
        out
    }

    /// Cuts what a file full of mistakes has to say.
    fn bound(&mut self, diagnostics: &mut Vec<Diagnostic>) {
        let room = DIAGNOSTICS.saturating_sub(self.reported);
        self.reported += diagnostics.len();
        if diagnostics.len() > room {
            let message = format!("more than {DIAGNOSTICS} problems; the rest of the file is not read");
            diagnostics.truncate(room);
            diagnostics.push(Diagnostic::file(Severity::Error, "too-many-problems", &self.table.file, message));
            self.ended = true;
        }
    }
}

impl Iterator for RuleRows {
    type Item = RuleChunk;

    fn next(&mut self) -> Option<RuleChunk> {
        if self.ended {
            return None;
        }
        let mut diagnostics = std::mem::take(&mut self.diagnostics);
        let mut out = match self.table.next() {
            Some(Ok(chunk)) => self.convert(&chunk),
            Some(Err(diagnostic)) => RuleChunk { rules: Vec::new(), diagnostics: vec![*diagnostic] },
            None => {
                self.ended = true;
                if diagnostics.is_empty() {
                    return None;
                }
                RuleChunk::default()
            }
        };
        diagnostics.append(&mut out.diagnostics);
        self.bound(&mut diagnostics);
        out.diagnostics = diagnostics;
        Some(out)
    }
}

/// The columns of a chunk, looked up once.
struct Columns<'a> {
    file: Arc<str>,
    first_row: u64,
    ids: Option<&'a LargeStringArray>,
    when: Option<&'a LargeStringArray>,
    attributes: Vec<(&'static str, &'a LargeStringArray)>,
    parameters: Vec<Option<&'a LargeStringArray>>,
    limits: &'a Limits,
}

impl Columns<'_> {
    fn number(&self, row: usize) -> u64 {
        self.first_row + row as u64
    }

    fn error(&self, row: usize, code: &'static str, primary: String) -> Diagnostic {
        row_error(&self.file, self.number(row), code, primary)
    }

    /// The id of the row; `None` where it has none, an error where it is no id.
    fn id(&self, row: usize) -> Result<Option<Arc<str>>, Box<Diagnostic>> {
        cell(self.ids, row)
            .map(|id| name("id", id, self.limits))
            .transpose()
            .map_err(|refusal| Box::new(self.error(row, refusal.code, refusal.primary).with_hint(refusal.hint)))
    }

    fn attributes(&self, row: usize, id: &Arc<str>, mut attributes: Attributes, diagnostics: &mut Vec<Diagnostic>) -> Attributes {
        for (key, cells) in &self.attributes {
            let Some(text) = cell(Some(cells), row) else { continue };
            if let Err(refusal) = attributes.set(key, text, self.limits) {
                diagnostics.push(self.error(row, refusal.code, refusal.primary).with_hint(refusal.hint).with_rule(id));
            }
        }
        attributes
    }

    fn rule(&self, row: usize, diagnostics: &mut Vec<Diagnostic>) -> Option<Rule> {
        let id = self.id(row).map_err(|diagnostic| diagnostics.push(*diagnostic)).ok()?;
        let Some(id) = id else {
            diagnostics.push(self.error(row, "missing-id", "the row has no id".into()));
            return None;
        };
        let attributes = self.attributes(row, &id, Attributes::default(), diagnostics);
        let Some(when) = cell(self.when, row) else {
            diagnostics.push(self.error(row, "missing-condition", "the row has no condition (`when`)".into()).with_rule(&id));
            return None;
        };
        Some(attributes.rule(id, when.into(), row_origin(&self.file, self.number(row))))
    }

    fn instance(&self, row: usize, template: &Template, diagnostics: &mut Vec<Diagnostic>) -> Option<Rule> {
        let id = self.id(row).map_err(|diagnostic| diagnostics.push(*diagnostic)).ok()?;
        let id = id.unwrap_or_else(|| template.instance_id(self.number(row)));
        let attributes = self.attributes(row, &id, template.attributes.clone(), diagnostics);
        let found = diagnostics.len();
        let mut values = Vec::with_capacity(template.parameters.len());
        for ((name, ty), cells) in template.parameters.iter().zip(&self.parameters) {
            match cell(*cells, row).map(|text| parse_value(text, *ty)) {
                Some(Ok(value)) => values.push(value),
                Some(Err(refusal)) => {
                    let message = format!("parameter `{name}`: {}", refusal.primary);
                    diagnostics.push(self.error(row, refusal.code, message).with_hint(refusal.hint).with_rule(&id));
                }
                None => {
                    let message = format!("parameter `{name}` has no value");
                    diagnostics.push(self.error(row, "missing-parameter", message).with_rule(&id));
                }
            }
        }
        (diagnostics.len() == found).then(|| template.instance(id, values, attributes))
    }
}

#[cfg(test)]
mod tests;
