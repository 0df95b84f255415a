//! Rule files, wherever they lie: documents and bulk files read, and compiled together.

use super::{Compiled, Context, compile_with_windows};
use crate::event::Schema;
use crate::rule::bulk::RuleRows;
use crate::rule::document::{Document, is_document, parse_document};
use crate::rule::lists::{List, Lists};
use crate::rule::window::{Columns, NamedWindow};
use crate::rule::{Diagnostic, Limits, Rule, Severity, check};
use bytes::Bytes;
use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Gives the bytes of a file: one of the rule files, or one that a document names.
pub type ReadFile<'r> = dyn Fn(&Path) -> io::Result<Bytes> + 'r;

/// Rule files that were read, not yet compiled: bulk files are read while they are.
pub struct RuleFiles {
    lists: Lists,
    windows: Vec<NamedWindow>,
    inputs: Vec<Input>,
    schema: Option<PathBuf>,
    diagnostics: Vec<Diagnostic>,
    limits: Limits,
}

enum Input {
    Document(Document),
    Bulk(RuleRows),
}

impl RuleFiles {
    /// Reads files; what is wrong with them is told when they are compiled.
    ///
    /// # Errors
    /// The path of a rule file that cannot be read, and why.
    pub fn read(files: &[PathBuf], read: &ReadFile, limits: &Limits) -> Result<Self, (PathBuf, io::Error)> {
        let mut all = Self {
            lists: Lists::new(),
            windows: Vec::new(),
            inputs: Vec::new(),
            schema: None,
            diagnostics: Vec::new(),
            limits: limits.clone(),
        };
        for path in files {
            let bytes = read(path).map_err(|error| (path.clone(), error))?;
            let name = path.to_string_lossy();
            if is_document(&name) {
                let (document, problems) = parse_document(&name, &bytes, &|name| read(Path::new(name)), limits);
                all.diagnostics.extend(problems);
                all.document(path, document);
            } else {
                match RuleRows::open(&name, bytes, limits) {
                    Ok(rows) => all.inputs.push(Input::Bulk(rows)),
                    Err(problem) => all.diagnostics.push(*problem),
                }
            }
        }
        Ok(all)
    }

    fn document(&mut self, path: &Path, document: Document) {
        if let Some((schema, _)) = &document.schema {
            self.schema.get_or_insert_with(|| beside(path, schema));
        }
        for (list, entries) in &document.lists {
            if self.lists.get(list).is_some() {
                let message = format!("the list `{list}` was defined before, in another file");
                self.diagnostics.push(Diagnostic::file(Severity::Error, "duplicate-list", &path.to_string_lossy(), message));
            }
            self.lists.insert(Arc::clone(list), entries.clone());
        }
        self.windows.extend(document.windows.iter().cloned());
        self.inputs.push(Input::Document(document));
    }

    /// Entries of all lists of the documents.
    #[must_use]
    pub fn list_entries(&self) -> usize {
        self.lists.names().filter_map(|name| self.lists.get(name)).map(|list| list.entries().len()).sum()
    }

    /// The entries of a list, as they were written.
    #[must_use]
    pub fn list(&self, name: &str) -> Option<&[serde_json::Value]> {
        self.lists.get(name).map(List::entries)
    }

    /// Gives a list other entries than its document says. `false`: there is no list of this name.
    pub fn set_list(&mut self, name: &str, entries: Vec<serde_json::Value>) -> bool {
        let is_there = self.lists.get(name).is_some();
        if is_there {
            self.lists.insert(name, entries);
        }
        is_there
    }

    /// The schema file that the first document to name one names.
    #[must_use]
    pub fn schema(&self) -> Option<&Path> {
        self.schema.as_deref()
    }

    /// Compiles them on `threads` threads for events of `schema`; `each` may change a rule before it is compiled.
    pub fn compile(self, schema: &Schema, threads: usize, each: &(dyn Fn(&mut Rule) + Sync)) -> Compiled {
        let Self { lists, windows, inputs, diagnostics, limits, .. } = self;
        let context = Context { schema, lists: &lists, limits: &limits, threads };
        let diagnostics = RefCell::new(diagnostics);
        let rules = inputs.into_iter().flat_map(|input| input.rules(&diagnostics));
        let rules = rules.map(|mut rule| {
            each(&mut rule);
            rule
        });
        let columns = named_windows(&windows, &context, &mut diagnostics.borrow_mut());
        let mut compiled = compile_with_windows(rules, columns, &context);
        let mut all = diagnostics.into_inner();
        if all.iter().any(Diagnostic::is_error) {
            compiled.artifact = None;
        }
        all.append(&mut compiled.diagnostics);
        compiled.diagnostics = all;
        compiled
    }
}

/// A column for each window of the documents that is sound.
fn named_windows(windows: &[NamedWindow], context: &Context, diagnostics: &mut Vec<Diagnostic>) -> Columns {
    let Context { schema, lists, limits, .. } = *context;
    let scope = check::Scope { schema, lists, parameters: &[], limits, windows: &[] };
    let mut columns = Columns::new(schema);
    for named in windows {
        let about = |code, primary| Diagnostic::at(Severity::Error, code, &named.origin, &named.text, 0..named.text.len(), primary);
        if columns.all().len() >= limits.windows {
            diagnostics.push(about("limit", format!("there are more than {} windows", limits.windows)));
            break;
        }
        match check::window::named(named, &scope) {
            Ok(window) => {
                if !columns.add_named(&named.name, window) {
                    let primary = format!("there is a window or a field `{}` already", named.name);
                    diagnostics.push(about("duplicate-window", primary).with_hint("choose another name"));
                }
            }
            Err(problems) => diagnostics.extend(problems),
        }
    }
    columns
}

impl Input {
    /// The rules, in order; what is wrong with others goes to `diagnostics`.
    fn rules(self, diagnostics: &RefCell<Vec<Diagnostic>>) -> Box<dyn Iterator<Item = Rule> + '_> {
        let rows = |rows: RuleRows| {
            rows.flat_map(|mut chunk| {
                diagnostics.borrow_mut().append(&mut chunk.diagnostics);
                chunk.rules
            })
        };
        match self {
            Self::Bulk(bulk) => Box::new(rows(bulk)),
            Self::Document(document) => Box::new(document.rules.into_iter().chain(document.instances.into_iter().flat_map(rows))),
        }
    }
}

/// A path that a document names, relative to the document.
fn beside(document: &Path, named: &str) -> PathBuf {
    document.parent().map_or_else(|| PathBuf::from(named), |folder| folder.join(named))
}
