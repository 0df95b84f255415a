//! Results to a file or to standard output.

use super::file::STANDARD;
use crate::codec::write::BatchWriter;
use crate::codec::{Error, Format};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Writes record batches in the format that the name's ending stands for; `-` is NDJSON on standard output.
///
/// A file appears under its name when it is finished, not before: until then it is beside it under another name, and where the
/// writer is dropped unfinished, it is removed.
pub struct ResultWriter {
    name: String,
    writer: Option<BatchWriter<Output>>,
    /// The name while writing, and the name to be.
    unfinished: Option<(PathBuf, PathBuf)>,
    /// Set once nobody reads the output any more: formats keep of an error only its text.
    closed: Arc<AtomicBool>,
}

type Output = Box<dyn Write + Send>;

/// Standard output, which may be a pipe whose reader goes away.
struct Standard {
    closed: Arc<AtomicBool>,
}

impl Standard {
    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            self.closed.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl Write for Standard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.note(io::stdout().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.note(io::stdout().flush())
    }
}

impl ResultWriter {
    /// Starts an output of batches of `schema`.
    ///
    /// # Errors
    /// When the ending is not known or the file cannot be created.
    pub fn create(name: &str, schema: &SchemaRef) -> Result<Self, Error> {
        let fault = |what: String| Error::new(name, what);
        let closed = Arc::new(AtomicBool::new(false));
        if name == STANDARD {
            let output: Output = Box::new(BufWriter::with_capacity(1 << 16, Standard { closed: Arc::clone(&closed) }));
            let writer = BatchWriter::new(output, schema, Format::Json).map_err(|what| Error::new("standard output", what))?;
            return Ok(Self { name: "standard output".to_owned(), writer: Some(writer), unfinished: None, closed });
        }
        let path = Path::new(name);
        let device = std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir());
        let format = match Format::of_ending(name) {
            Some(format) => format,
            None if device => Format::Json,
            None => {
                return Err(fault("the format is not known".to_owned())
                    .with_hint("the ending is one of .parquet, .arrow, .ndjson and .csv; `-` is NDJSON on standard output"));
            }
        };
        if path.is_dir() {
            return Err(fault("a directory, not a file".to_owned()));
        }
        // A device or a pipe is written to as it is.
        let unfinished = if device { None } else { Some((beside(path), path.to_owned())) };
        let at = unfinished.as_ref().map_or(path, |(temporary, _)| temporary);
        let file = File::create(at).map_err(|error| fault(format!("cannot be created: {error}")))?;
        let mut result = Self { name: name.to_owned(), writer: None, unfinished, closed };
        let output: Output = Box::new(BufWriter::with_capacity(1 << 18, file));
        result.writer = Some(BatchWriter::new(output, schema, format).map_err(|what| Error::new(name, what))?);
        Ok(result)
    }

    /// Starts a part of an output: a file has in its name the number of the first row that its results are of; standard output stays one.
    ///
    /// # Errors
    /// As [`ResultWriter::create`].
    pub fn create_part(name: &str, schema: &SchemaRef, row: u64) -> Result<Self, Error> {
        if name == STANDARD { Self::create(name, schema) } else { Self::create(&part_name(name, row), schema) }
    }

    /// Removes the parts of results from row `row` on, which an earlier run left and this one gives again, and what a run that was killed left unfinished.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn forget_parts(name: &str, row: u64) -> Result<(), Error> {
        let path = Path::new(name);
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Where there is no such folder, creating the output says so.
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            let complete = complete_name(&file);
            let part = path.with_file_name(complete.unwrap_or(&file)).to_string_lossy().into_owned();
            let digits: String = part.chars().skip(part_stem(name).chars().count() + 1).take_while(char::is_ascii_digit).collect();
            if digits.parse().is_ok_and(|first| (first >= row || complete.is_some()) && part == part_name(name, first)) {
                std::fs::remove_file(entry.path()).map_err(|error| Error::new(&part, format!("cannot be replaced: {error}")))?;
            }
        }
        Ok(())
    }

    /// Completes a part, and begins that of the results from row `row` on. What was written so far outlasts the program and the machine.
    ///
    /// # Errors
    /// When the output cannot be written to.
    pub fn next_part(&mut self, name: &str, schema: &SchemaRef, row: u64) -> Result<(), Error> {
        let done = std::mem::replace(self, Self::create_part(name, schema, row)?);
        let path = done.unfinished.as_ref().map(|(_, path)| path.clone());
        done.finish()?;
        let synced = path.map_or(Ok(()), |path| File::open(path)?.sync_all());
        synced.map_err(|error| Error::new(name, format!("cannot be written: {error}")))
    }

    /// Writes a batch of the output's schema.
    ///
    /// # Errors
    /// When the output cannot be written to.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let written = self.writer.as_mut().map_or(Ok(()), |writer| writer.write(batch));
        written.map_err(|what| self.fault(&what))
    }

    /// Completes the output; a file now has its name.
    ///
    /// # Errors
    /// When the output cannot be written to.
    pub fn finish(mut self) -> Result<(), Error> {
        if let Some(writer) = self.writer.take() {
            let mut output = writer.finish().map_err(|what| self.fault(&what))?;
            output.flush().map_err(|error| self.fault(&error.to_string()))?;
        }
        if let Some((temporary, path)) = &self.unfinished {
            std::fs::rename(temporary, path).map_err(|error| self.fault(&error.to_string()))?;
        }
        self.unfinished = None;
        Ok(())
    }

    fn fault(&self, what: &str) -> Error {
        let closed = self.closed.load(Ordering::Relaxed);
        Error { closed, ..Error::new(&self.name, format!("cannot be written: {what}")) }
    }
}

impl Drop for ResultWriter {
    fn drop(&mut self) {
        self.writer = None;
        if let Some((temporary, _)) = &self.unfinished {
            // Nothing depends on it: at worst a file of a telling name stays.
            let _ = std::fs::remove_file(temporary);
        }
    }
}

/// `results.ndjson` of the results from row 98304 on: `results-000000098304.ndjson`.
fn part_name(name: &str, row: u64) -> String {
    let stem = part_stem(name);
    format!("{stem}-{row:012}{}", &name[stem.len()..])
}

/// A name without its ending.
fn part_stem(name: &str) -> &str {
    let folder = name.rfind('/').map_or(0, |at| at + 1);
    name[folder..].rfind('.').map_or(name, |at| &name[..folder + at])
}

/// The name that a file gets once it is complete, of one that [`beside`] named.
fn complete_name(file: &str) -> Option<&str> {
    let (name, process) = file.strip_prefix('.')?.strip_suffix(".part")?.rsplit_once('.')?;
    process.bytes().all(|digit| digit.is_ascii_digit()).then_some(name)
}

/// A name in the same folder that nobody else uses.
fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.part", std::process::id()));
    path.with_file_name(name)
}
