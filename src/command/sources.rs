//! RULES on the command line: an artifact, rule files, or a pack folder.

use super::Failure;
use crate::codec::Format;
use crate::compile::{self, Compiled, Context};
use crate::connector::source::EventSource;
use crate::event::Schema;
use crate::rule::bulk::RuleRows;
use crate::rule::document::{Document, is_document, parse_document};
use crate::rule::lists::Lists;
use crate::rule::window::{Columns, NamedWindow};
use crate::rule::{Diagnostic, Limits, Rule, Severity, check};
use crate::tables::Artifact;
use bytes::Bytes;
use std::cell::RefCell;
use std::path::{Path, PathBuf};

/// The name of the schema file in a pack folder.
const PACK_SCHEMA: &str = "schema.yaml";

/// What the arguments named, before anything is compiled.
#[derive(Debug)]
pub enum Named {
    Artifact(PathBuf),
    Rules {
        files: Vec<PathBuf>,
        /// The schema of a pack folder.
        schema: Option<PathBuf>,
        /// The events of a pack folder.
        events: Vec<String>,
    },
}

impl Named {
    /// Looks at what the paths are.
    ///
    /// # Errors
    /// What is not there, an artifact beside other files, a folder without rules.
    pub fn look(paths: &[PathBuf]) -> Result<Self, Failure> {
        let mut files = Vec::new();
        let (mut schema, mut events) = (None, Vec::new());
        for path in paths {
            if path.is_dir() {
                let pack = Pack::open(path)?;
                files.extend(pack.rules);
                schema = schema.or(pack.schema);
                events.extend(pack.events);
                continue;
            }
            if is_artifact(path)? {
                if paths.len() > 1 {
                    return Err(format!("{}: an artifact stands alone; give one artifact, or rule files", path.display()).into());
                }
                return Ok(Self::Artifact(path.clone()));
            }
            files.push(path.clone());
        }
        Ok(Self::Rules { files, schema, events })
    }
}

fn is_artifact(path: &Path) -> Result<bool, Failure> {
    use std::io::Read;
    let unreadable = |error: std::io::Error| Failure::Message(format!("{}: cannot be read: {error}", path.display()));
    let mut start = Vec::new();
    std::fs::File::open(path).map_err(unreadable)?.take(8).read_to_end(&mut start).map_err(unreadable)?;
    Ok(Artifact::claims(&start) || path.extension().is_some_and(|ending| ending == "dcep"))
}

struct Pack {
    rules: Vec<PathBuf>,
    schema: Option<PathBuf>,
    events: Vec<String>,
}

impl Pack {
    /// A pack folder holds schema.yaml, documents (*.yaml, *.yml, *.json), bulk rules (rules.*) and events (events.*); other files belong to the documents.
    fn open(folder: &Path) -> Result<Self, Failure> {
        let unreadable = |error: std::io::Error| Failure::Message(format!("{}: cannot be read: {error}", folder.display()));
        let mut names: Vec<PathBuf> = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(unreadable)? {
            names.push(entry.map_err(unreadable)?.path());
        }
        names.sort();
        let mut pack = Self { rules: Vec::new(), schema: None, events: Vec::new() };
        for path in names.into_iter().filter(|path| path.is_file()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name == PACK_SCHEMA {
                pack.schema = Some(path);
            } else if name.starts_with("events.") && Format::of_ending(&name).is_some() {
                pack.events.push(path.to_string_lossy().into_owned());
            } else if is_document(&name) || name.starts_with("rules.") {
                pack.rules.push(path);
            }
        }
        if pack.rules.is_empty() {
            return Err(format!("{}: the folder has no rules; a pack holds schema.yaml, *.yaml and events.*", folder.display()).into());
        }
        Ok(pack)
    }
}

/// Reads a schema file.
///
/// # Errors
/// A file that cannot be read, or is not a schema.
pub fn read_schema(path: &Path) -> Result<Schema, Failure> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
    Schema::parse(&path.to_string_lossy(), &bytes).map_err(|error| Failure::Message(error.to_string()))
}

/// Where a schema may come from, besides the rules.
#[derive(Clone, Copy, Debug)]
pub struct SchemaSources<'a> {
    /// `--schema`
    pub given: Option<&'a Path>,
    /// Inputs whose first file tells the schema where nothing else does.
    pub events: &'a [String],
}

/// Compiles rule files.
///
/// # Errors
/// Files that cannot be read, or no schema. Errors in the rules are among the diagnostics of what is returned.
pub fn compile(files: &[PathBuf], pack_schema: Option<&Path>, schema: SchemaSources, threads: usize) -> Result<Compiled, Failure> {
    let limits = Limits::default();
    let diagnostics = RefCell::new(Vec::new());
    let mut lists = Lists::new();
    let mut windows: Vec<NamedWindow> = Vec::new();
    let mut inputs: Vec<Input> = Vec::new();
    let mut named_schema: Option<PathBuf> = None;
    for path in files {
        let name = path.to_string_lossy();
        if is_document(&name) {
            let bytes = read(path)?;
            let read = |name: &str| std::fs::read(name).map(Bytes::from);
            let (document, problems) = parse_document(&name, &bytes, &read, &limits);
            diagnostics.borrow_mut().extend(problems);
            if let Some((schema, _)) = &document.schema {
                named_schema.get_or_insert_with(|| beside(path, schema));
            }
            for (list, entries) in &document.lists {
                if lists.get(list).is_some() {
                    let message = format!("the list `{list}` was defined before, in another file");
                    diagnostics.borrow_mut().push(Diagnostic::file(Severity::Error, "duplicate-list", &name, message));
                }
                lists.insert(std::sync::Arc::clone(list), entries.clone());
            }
            windows.extend(document.windows.iter().cloned());
            inputs.push(Input::Document(document));
        } else {
            match RuleRows::open(&name, read(path)?, &limits) {
                Ok(rows) => inputs.push(Input::Bulk(rows)),
                Err(problem) => diagnostics.borrow_mut().push(*problem),
            }
        }
    }
    let path = schema.given.or(pack_schema).map(Path::to_path_buf).or(named_schema);
    let schema = match path {
        Some(path) => read_schema(&path)?,
        None if !schema.events.is_empty() => (**EventSource::open(schema.events, None)?.schema()).clone(),
        None => {
            return Err("there is no schema; give one with --schema FILE, or name one in a rule document: `schema: FILE`"
                .to_owned()
                .into());
        }
    };
    let context = Context { schema: &schema, lists: &lists, limits: &limits, threads };
    let rules = inputs.into_iter().flat_map(|input| input.rules(&diagnostics));
    let columns = named_windows(&windows, &context, &mut diagnostics.borrow_mut());
    let mut compiled = compile::compile_with_windows(rules, columns, &context);
    let mut all = diagnostics.into_inner();
    if all.iter().any(Diagnostic::is_error) {
        compiled.artifact = None;
    }
    all.append(&mut compiled.diagnostics);
    compiled.diagnostics = all;
    Ok(compiled)
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

enum Input {
    Document(Document),
    Bulk(RuleRows),
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

/// Reads a rule file.
fn read(path: &Path) -> Result<Bytes, Failure> {
    std::fs::read(path).map(Bytes::from).map_err(|error| Failure::Message(format!("{}: cannot be read: {error}", path.display())))
}

/// A path that a document names, relative to the document.
fn beside(document: &Path, named: &str) -> PathBuf {
    document.parent().map_or_else(|| PathBuf::from(named), |folder| folder.join(named))
}
