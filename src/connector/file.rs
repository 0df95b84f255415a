//! Inputs by name: files, globs, and `-` for standard input.

use crate::codec::columnar::{ColumnarDecoder, arrow_file_schema, arrow_stream_schema, parquet_schema};
use crate::codec::csv::CsvDecoder;
use crate::codec::infer::{self, Inferred, SAMPLE_BYTES};
use crate::codec::json::JsonDecoder;
use crate::codec::{Decoder, Error, Format, Request};
use bytes::Bytes;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

/// The name of standard input, and of standard output.
pub const STANDARD: &str = "-";
/// How messages call standard input.
const STANDARD_INPUT: &str = "standard input";
const BUFFER_BYTES: usize = 1 << 20;
/// Enough of a file's head to know every format that has a mark.
const MAGIC_BYTES: usize = 8;
/// Of so many first bytes a file is known again.
const HEAD_BYTES: u64 = 4096;

type Reader = Box<dyn Read + Send>;

/// Where the bytes of an input are.
enum Content {
    Path(PathBuf),
    /// The whole input, for formats that are read from their end.
    Whole(Bytes),
    /// What was read of a stream already, and the rest.
    Stream(Vec<u8>, Reader),
}

/// An input whose format is known and of which no event was read.
pub struct Input {
    /// For messages, as the user gave it.
    pub name: String,
    pub format: Format,
    content: Content,
    /// Bytes, where known.
    pub bytes: Option<u64>,
    /// Rows, where the format tells without reading them.
    pub rows: Option<u64>,
}

/// Opens what `names` stand for, in order; the files of a glob are sorted.
///
/// # Errors
/// The first name that stands for nothing readable.
pub fn open_all(names: &[String]) -> Result<Vec<Input>, Error> {
    let mut inputs: Vec<Input> = Vec::new();
    let mut standard_input = false;
    for name in names {
        if name == STANDARD {
            if std::mem::replace(&mut standard_input, true) {
                return Err(Error::new(STANDARD_INPUT, "named twice").with_hint("it can be read only once"));
            }
            inputs.push(Input::from_stream(STANDARD_INPUT, Box::new(io::stdin()))?);
            continue;
        }
        for path in expand(name)? {
            inputs.push(Input::from_path(&path)?);
        }
    }
    Ok(inputs)
}

/// The files that `name` stands for: the file of that very name, or what the glob finds.
fn expand(name: &str) -> Result<Vec<PathBuf>, Error> {
    let literal = PathBuf::from(name);
    if literal.exists() || !name.contains(['*', '?', '[']) {
        return Ok(vec![literal]);
    }
    let pattern = glob::glob(name).map_err(|fault| Error::new(name, format!("not a glob: {}", fault.msg)))?;
    let mut paths = Vec::new();
    for path in pattern {
        let path = path.map_err(|fault| Error::new(&fault.path().to_string_lossy(), format!("cannot be read: {}", fault.error())))?;
        if !path.is_dir() {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() { Err(Error::new(name, "no file matches")) } else { Ok(paths) }
}

fn unreadable(name: &str, fault: &io::Error) -> Error {
    let what = match fault.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission to read it is denied".to_owned(),
        _ => format!("cannot be read: {fault}"),
    };
    Error::new(name, what)
}

impl Input {
    /// The file at `path`.
    ///
    /// # Errors
    /// When it cannot be read or its format is not known.
    pub fn from_path(path: &Path) -> Result<Self, Error> {
        let name = path.to_string_lossy().into_owned();
        let metadata = std::fs::metadata(path).map_err(|fault| unreadable(&name, &fault))?;
        if metadata.is_dir() {
            return Err(Error::new(&name, "a directory, not a file").with_hint(format!("a glob names its files: {name}/*.parquet")));
        }
        let mut file = File::open(path).map_err(|fault| unreadable(&name, &fault))?;
        if !metadata.is_file() {
            // A pipe has no second beginning.
            return Self::from_stream(&name, Box::new(file));
        }
        let head = read_head(&mut file).map_err(|fault| unreadable(&name, &fault))?;
        let format = match (Format::of_magic(&head), Format::of_ending(&name)) {
            (Some(format), _) => format,
            (None, Some(format @ (Format::Json | Format::Csv))) => format,
            (None, Some(format)) => {
                let what = match format {
                    Format::Parquet => "not a Parquet file",
                    _ => "not an Arrow IPC file or stream",
                };
                return Err(Error::new(&name, what).with_hint("its first bytes are others than its ending promises"));
            }
            (None, None) => {
                return Err(Error::new(&name, "the format is not known")
                    .with_hint("by content Parquet and Arrow IPC are known, by ending .ndjson, .jsonl, .json and .csv"));
            }
        };
        let mut input = Self { name, format, content: Content::Path(path.to_owned()), bytes: Some(metadata.len()), rows: None };
        if format == Format::Parquet {
            let file = input.file()?;
            input.rows = Some(parquet_schema(&file).map_err(|what| input.error(what))?.1);
        }
        Ok(input)
    }

    /// A stream that is read once: NDJSON, unless it starts as one of the formats that have a mark.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn from_stream(name: &str, mut reader: Reader) -> Result<Self, Error> {
        let mut head = read_head(&mut reader).map_err(|fault| unreadable(name, &fault))?;
        let format =
            Format::of_magic(&head).or_else(|| Format::of_ending(name).filter(|format| *format == Format::Csv)).unwrap_or(Format::Json);
        let mut input = Self { name: name.to_owned(), format, content: Content::Whole(Bytes::new()), bytes: None, rows: None };
        if matches!(format, Format::Parquet | Format::ArrowFile) {
            reader.read_to_end(&mut head).map_err(|fault| unreadable(name, &fault))?;
            input.bytes = Some(head.len() as u64);
            let bytes = Bytes::from(head);
            if format == Format::Parquet {
                input.rows = Some(parquet_schema(&bytes).map_err(|what| input.error(what))?.1);
            }
            input.content = Content::Whole(bytes);
        } else {
            input.content = Content::Stream(head, reader);
        }
        Ok(input)
    }

    /// The hash of the first bytes, of as many as a file of `bytes` bytes has; `None`: it is no file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn head(&self, bytes: u64) -> Result<Option<String>, Error> {
        let Content::Path(path) = &self.content else { return Ok(None) };
        let mut head = Vec::new();
        let read = File::open(path).and_then(|file| file.take(bytes.min(HEAD_BYTES)).read_to_end(&mut head));
        read.map_err(|fault| unreadable(&self.name, &fault))?;
        Ok(Some(blake3::hash(&head).to_hex().to_string()))
    }

    fn error(&self, what: String) -> Error {
        Error::new(&self.name, what)
    }

    fn file(&self) -> Result<File, Error> {
        match &self.content {
            Content::Path(path) => File::open(path).map_err(|fault| unreadable(&self.name, &fault)),
            Content::Whole(_) | Content::Stream(..) => Err(self.error("it is no file".to_owned())),
        }
    }

    /// The schema of the events, from what the file says or from its first rows.
    ///
    /// # Errors
    /// When the input cannot be read.
    pub fn infer(&mut self) -> Result<Inferred, Error> {
        let inferred = match (self.format, &mut self.content) {
            (Format::Parquet, Content::Whole(bytes)) => parquet_schema(bytes).map(|(schema, _)| infer::from_arrow(&schema)),
            (Format::Parquet, _) => parquet_schema(&self.file()?).map(|(schema, _)| infer::from_arrow(&schema)),
            (Format::ArrowFile, Content::Whole(bytes)) => {
                arrow_file_schema(Cursor::new(bytes.clone())).map(|schema| infer::from_arrow(&schema))
            }
            (Format::ArrowFile, _) => arrow_file_schema(BufReader::new(self.file()?)).map(|schema| infer::from_arrow(&schema)),
            (format, Content::Stream(head, rest)) => {
                // What is looked at is kept, to be read again as events.
                let mut replayed = Recorded { head, position: 0, rest };
                infer_stream(format, &mut replayed)
            }
            (format, _) => infer_stream(format, &mut self.file()?),
        };
        inferred.map_err(|what| self.error(what))
    }

    /// A decoder of the events.
    ///
    /// # Errors
    /// When the input's head cannot be read.
    pub fn decoder(self, request: Request) -> Result<Box<dyn Decoder>, Error> {
        let Self { name, format, content, .. } = self;
        let opened = |path: &Path| File::open(path).map_err(|fault| unreadable(&name, &fault));
        let decoder: Result<Box<dyn Decoder>, String> = match (format, content) {
            (Format::Parquet, Content::Path(path)) => boxed(ColumnarDecoder::parquet(opened(&path)?, request)),
            (Format::Parquet, Content::Whole(bytes)) => boxed(ColumnarDecoder::parquet(bytes, request)),
            (Format::ArrowFile, Content::Path(path)) => {
                boxed(ColumnarDecoder::arrow_file(BufReader::with_capacity(BUFFER_BYTES, opened(&path)?), request))
            }
            (Format::ArrowFile, Content::Whole(bytes)) => boxed(ColumnarDecoder::arrow_file(Cursor::new(bytes), request)),
            (format, content) => {
                let reader: Reader = match content {
                    Content::Path(path) => Box::new(opened(&path)?),
                    Content::Whole(bytes) => Box::new(Cursor::new(bytes)),
                    Content::Stream(head, rest) => Box::new(Cursor::new(head).chain(rest)),
                };
                let reader = BufReader::with_capacity(BUFFER_BYTES, reader);
                match format {
                    Format::Csv => boxed(CsvDecoder::new(reader, request)),
                    Format::Json => Ok(Box::new(JsonDecoder::new(reader, request))),
                    Format::ArrowStream => boxed(ColumnarDecoder::arrow_stream(reader, request)),
                    Format::Parquet | Format::ArrowFile => Err("it must be read as a whole".to_owned()),
                }
            }
        };
        decoder.map_err(|what| Error::new(&name, what))
    }
}

fn boxed<D: Decoder + 'static>(decoder: Result<D, String>) -> Result<Box<dyn Decoder>, String> {
    decoder.map(|decoder| Box::new(decoder) as Box<dyn Decoder>)
}

fn infer_stream<R: Read>(format: Format, reader: &mut R) -> Result<Inferred, String> {
    match format {
        Format::Csv => infer::from_csv(BufReader::new(reader.take(SAMPLE_BYTES))),
        Format::Json => infer::from_json(BufReader::new(reader.take(SAMPLE_BYTES))),
        _ => arrow_stream_schema(reader).map(|schema| infer::from_arrow(&schema)),
    }
}

/// The first bytes, fewer where there are no more.
fn read_head<R: Read>(reader: &mut R) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(MAGIC_BYTES);
    reader.by_ref().take(MAGIC_BYTES as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// Reads a stream and keeps what was read.
struct Recorded<'a> {
    head: &'a mut Vec<u8>,
    position: usize,
    rest: &'a mut Reader,
}

impl Read for Recorded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position < self.head.len() {
            let read = (&self.head[self.position..]).read(buffer)?;
            self.position += read;
            return Ok(read);
        }
        let read = self.rest.read(buffer)?;
        self.head.extend_from_slice(&buffer[..read]);
        self.position += read;
        Ok(read)
    }
}
