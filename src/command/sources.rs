//! RULES on the command line: an artifact, rule files, or a pack folder.

use super::Failure;
use crate::codec::Format;
use crate::compile::Compiled;
use crate::compile::files::RuleFiles;
use crate::connector::source::EventSource;
use crate::event::Schema;
use crate::rule::Limits;
use crate::rule::document::is_document;
use crate::tables::Artifact;
use bytes::Bytes;
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

/// The files of a push, each with its name there: rule files by their own names, and all files of pack folders but the events, which documents may name.
///
/// # Errors
/// Folders that cannot be read.
#[cfg(feature = "service")]
pub fn pack_files(given: &[PathBuf], rules: Vec<PathBuf>) -> Result<Vec<(String, PathBuf)>, Failure> {
    let mut files: Vec<PathBuf> = rules;
    for folder in given.iter().filter(|path| path.is_dir()) {
        let unreadable = |error: std::io::Error| Failure::Message(format!("{}: cannot be read: {error}", folder.display()));
        for entry in std::fs::read_dir(folder).map_err(unreadable)? {
            files.push(entry.map_err(unreadable)?.path());
        }
    }
    files.sort();
    files.dedup();
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let named = files.into_iter().filter(|path| path.is_file()).map(|path| (name(&path), path));
    Ok(named.filter(|(name, _)| !name.starts_with("events.") && !name.ends_with(".md")).collect())
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
    let read = |path: &Path| std::fs::read(path).map(Bytes::from);
    let rules = RuleFiles::read(files, &read, &Limits::default())
        .map_err(|(path, error)| format!("{}: cannot be read: {error}", path.display()))?;
    let schema = match schema.given.or(pack_schema).or(rules.schema()) {
        Some(path) => read_schema(path)?,
        None if !schema.events.is_empty() => (**EventSource::open(schema.events, None)?.schema()).clone(),
        None => {
            return Err("there is no schema; give one with --schema FILE, or name one in a rule document: `schema: FILE`"
                .to_owned()
                .into());
        }
    };
    Ok(rules.compile(&schema, threads, &|_| ()))
}
