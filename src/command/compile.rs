//! `compile` and `check`: rules to an artifact, or to diagnostics alone.

use super::Failure;
use super::held;
use super::sources::{self, Named, SchemaSources};
use crate::compile::Compiled;
use crate::tables::Artifact;
use std::path::{Path, PathBuf};

/// Compiles rule files or pack folders.
///
/// # Errors
/// Files that cannot be read, no schema, an artifact among the arguments. Errors in the rules are among the diagnostics of what is returned.
pub fn compile(rules: &[PathBuf], schema: Option<&Path>, threads: usize) -> Result<Compiled, Failure> {
    match Named::look(rules)? {
        Named::Artifact(path) => Err(format!("{}: already compiled; see it with `dynamic-cep inspect`", path.display()).into()),
        Named::Rules { files, schema: pack, events } => {
            sources::compile(&files, pack.as_deref(), SchemaSources { given: schema, events: &events }, threads)
        }
    }
}

/// What state the rules of an artifact hold, and, where it takes the place of another, what goes on; a line each.
///
/// # Errors
/// A previous artifact that cannot be opened.
pub fn state(artifact: &[u8], previous: Option<&Path>) -> Result<Vec<String>, Failure> {
    let artifact = Artifact::from_bytes(artifact)?;
    let mut lines: Vec<String> = held::bounds(&artifact).into_iter().map(|bound| format!("holds {bound}")).collect();
    if let Some(path) = previous {
        let previous = Artifact::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        lines.extend(held::swap(&previous, &artifact));
    }
    Ok(lines)
}

/// Writes an artifact: under a temporary name, then renamed, so that nobody maps a file that is still being written.
///
/// # Errors
/// When the file cannot be written.
pub fn write(artifact: &[u8], output: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::Message(format!("{}: cannot be written: {error}", output.display()));
    let mut name = output.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.unfinished", std::process::id()));
    let temporary = output.with_file_name(name);
    let written = std::fs::write(&temporary, artifact).and_then(|()| std::fs::rename(&temporary, output));
    written.map_err(|error| {
        // Nothing more can be done about the temporary file than to try.
        let _ = std::fs::remove_file(&temporary);
        failed(error)
    })
}
