//! The events that were judged, in files of lines, in the order in which they were: what state is made of at the next start, and what rules are tried on.
//!
//! A file is called by the number of its first event. An event is in the journal before anyone is told what became of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes of a file, after which a new one is begun.
const FILE_BYTES: u64 = 64 << 20;

const ENDING: &str = ".ndjson";

/// A journal that is written to.
pub struct Journal {
    folder: PathBuf,
    /// Its name: numbers of events mean something together with it.
    pub name: String,
    file: File,
    /// Bytes of the last file, after the last whole event.
    bytes: u64,
    next_row: u64,
    /// The first event of each file, ascending.
    firsts: Vec<u64>,
    /// Events to keep.
    keep: u64,
    /// Whether the last file ends in a part of a line, which could not be taken back: what came after it would be lost with it.
    torn: bool,
    syncer: Option<Syncer>,
}

/// Has what was written on disk again and again, on a thread of its own: that takes up to a tenth of a second, which no event is to wait.
struct Syncer {
    shared: Arc<Synced>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread shares with who writes.
struct Synced {
    /// The file that is written to.
    file: Mutex<File>,
    /// Whether something was written since it was last looked at.
    written: AtomicBool,
    ends: AtomicBool,
    fault: Mutex<Option<io::ErrorKind>>,
}

impl Syncer {
    fn new(every: Duration, file: &File) -> io::Result<Self> {
        let shared = Arc::new(Synced {
            file: Mutex::new(file.try_clone()?),
            written: AtomicBool::new(false),
            ends: AtomicBool::new(false),
            fault: Mutex::default(),
        });
        let synced = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(move || {
            while !synced.ends.load(Ordering::Acquire) {
                std::thread::park_timeout(every);
                if !synced.written.swap(false, Ordering::AcqRel) {
                    continue;
                }
                let file = synced.file.lock().unwrap_or_else(PoisonError::into_inner).try_clone();
                if let Err(error) = file.and_then(|file| file.sync_data()) {
                    *synced.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.kind());
                }
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Whether all could be done so far; if not, what lies on disk is not known any more.
    fn check(&self) -> io::Result<()> {
        self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), |kind| Err(kind.into()))
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic there has been told by the panic hook.
            let _ = thread.join();
        }
    }
}

/// Files to be read, one after the other, each with the number of its first event.
pub type Files = Vec<(u64, PathBuf)>;

impl Journal {
    /// Opens the journal in a folder, which is made where there is none. What a process left half written is cut off: nobody was told of it.
    ///
    /// # Errors
    /// A folder that cannot be read or written.
    pub fn open(folder: &Path, keep: u64, sync: Option<Duration>) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut firsts = firsts(folder)?;
        if firsts.is_empty() {
            firsts.push(0);
        }
        let first = firsts[firsts.len() - 1];
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path(folder, first))?;
        let (rows, bytes) = whole_lines(&mut file)?;
        file.set_len(bytes)?;
        let name = name(folder)?;
        let syncer = sync.map(|every| Syncer::new(every, &file)).transpose()?;
        Ok(Self { folder: folder.to_owned(), name, file, bytes, next_row: first + rows, firsts, keep, torn: false, syncer })
    }

    /// The number of the next event.
    #[must_use]
    pub const fn next_row(&self) -> u64 {
        self.next_row
    }

    /// Bytes of all files, about: files before the last one are as long as they may get.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.firsts.len() as u64 - 1) * FILE_BYTES + self.bytes
    }

    /// The files that hold the last `events` events, or more.
    #[must_use]
    pub fn files(&self, events: u64) -> Files {
        let from = self.next_row.saturating_sub(events);
        let first = self.firsts.partition_point(|first| *first <= from).saturating_sub(1);
        self.firsts[first..].iter().map(|first| (*first, path(&self.folder, *first))).collect()
    }

    /// Adds events: `lines`, each with its end, `rows` of them.
    ///
    /// # Errors
    /// When they cannot be written. Then none of them is in the journal.
    pub fn append(&mut self, lines: &[u8], rows: u64) -> io::Result<()> {
        if self.torn {
            return Err(io::Error::other("it ends in a part of an event; start the process again, which cuts that off"));
        }
        if self.bytes >= FILE_BYTES {
            self.begin_file()?;
        }
        if let Some(syncer) = &self.syncer {
            syncer.check()?;
        }
        if let Err(error) = self.file.write_all(lines) {
            // What was written of them is taken back; where even that fails, so does all that follows.
            self.torn = self.file.set_len(self.bytes).is_err();
            return Err(error);
        }
        self.bytes += lines.len() as u64;
        self.next_row += rows;
        if let Some(syncer) = &self.syncer {
            syncer.shared.written.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn begin_file(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        self.file = OpenOptions::new().create(true).append(true).open(path(&self.folder, self.next_row))?;
        if let Some(syncer) = &self.syncer {
            *syncer.shared.file.lock().unwrap_or_else(PoisonError::into_inner) = self.file.try_clone()?;
        }
        self.firsts.push(self.next_row);
        self.bytes = 0;
        while self.firsts.len() > 1 && self.next_row - self.firsts[1] >= self.keep {
            fs::remove_file(path(&self.folder, self.firsts.remove(0)))?;
        }
        Ok(())
    }

    /// Has everything on disk.
    ///
    /// # Errors
    /// What the system says.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// The last events of a journal, to be read while it is written to.
pub struct Tail {
    /// The number of the first of them, and how many there are.
    pub first: u64,
    pub rows: u64,
    /// Their lines, part after part.
    pub parts: Vec<Box<dyn BufRead + Send>>,
}

/// The last `events` events of the journal in a folder, or all that there are.
///
/// # Errors
/// What the system says.
pub fn tail(folder: &Path, events: u64) -> io::Result<Tail> {
    let firsts = firsts(folder)?;
    let Some(last) = firsts.last() else { return Ok(Tail { first: 0, rows: 0, parts: Vec::new() }) };
    let mut file = File::open(path(folder, *last))?;
    // What comes after these bytes is written now, or later.
    let (rows, bytes) = whole_lines(&mut file)?;
    let next = last + rows;
    let from = next.saturating_sub(events).max(firsts[0]);
    let mut parts: Vec<Box<dyn BufRead + Send>> = Vec::new();
    for first in &firsts[firsts.partition_point(|first| *first <= from) - 1..] {
        let length = if first == last { bytes } else { u64::MAX };
        let mut part = BufReader::with_capacity(1 << 20, File::open(path(folder, *first))?.take(length));
        for _ in *first..from {
            part.skip_until(b'\n')?;
        }
        parts.push(Box::new(part));
    }
    Ok(Tail { first: from, rows: next - from, parts })
}

/// The first event of each file, ascending.
fn firsts(folder: &Path) -> io::Result<Vec<u64>> {
    let mut firsts: Vec<u64> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        firsts.extend(name.strip_suffix(ENDING).and_then(|number| number.parse::<u64>().ok()));
    }
    firsts.sort_unstable();
    Ok(firsts)
}

fn path(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}{ENDING}"))
}

/// Lines that are whole, and their bytes.
fn whole_lines(file: &mut File) -> io::Result<(u64, u64)> {
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let (mut rows, mut read, mut whole) = (0, 0_u64, 0);
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok((rows, whole));
        }
        for at in memchr::memchr_iter(b'\n', buffer) {
            rows += 1;
            whole = read + at as u64 + 1;
        }
        let length = buffer.len();
        read += length as u64;
        reader.consume(length);
    }
}

/// The name of the journal in a folder, which is given to it once.
fn name(folder: &Path) -> io::Result<String> {
    let path = folder.join("name");
    let mut name = String::new();
    match File::open(&path) {
        Ok(mut file) => {
            file.read_to_string(&mut name)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut random = [0_u8; 16];
            getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
            name = blake3::hash(&random).to_hex()[..32].to_owned();
            fs::write(&path, &name)?;
        }
        Err(error) => return Err(error),
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &Files) -> String {
        files.iter().map(|(_, path)| fs::read_to_string(path).unwrap()).collect()
    }

    #[test]
    fn what_was_half_written_is_cut_off_and_the_rest_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path(), 10, None).unwrap();
        journal.append(b"{\"n\":0}\n{\"n\":1}\n", 2).unwrap();
        let (name, files) = (journal.name.clone(), journal.files(10));
        assert_eq!((journal.next_row(), files.len()), (2, 1));
        drop(journal);
        OpenOptions::new().append(true).open(&files[0].1).unwrap().write_all(b"{\"n\":2").unwrap();
        let mut journal = Journal::open(folder.path(), 10, Some(Duration::from_millis(1))).unwrap();
        assert_eq!((journal.next_row(), &journal.name), (2, &name));
        journal.append(b"{\"n\":3}\n", 1).unwrap();
        assert_eq!(read(&journal.files(10)), "{\"n\":0}\n{\"n\":1}\n{\"n\":3}\n");
    }

    #[test]
    fn nothing_follows_what_could_not_be_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path(), 10, None).unwrap();
        journal.append(b"{\"n\":0}\n", 1).unwrap();
        let path = journal.files(10)[0].1.clone();
        let writable = std::mem::replace(&mut journal.file, File::open(&path).unwrap());
        assert!(journal.append(b"{\"n\":1}\n", 1).is_err(), "a file that can only be read");
        journal.file = writable;
        let told = journal.append(b"{\"n\":2}\n", 1).unwrap_err().to_string();
        assert!(told.contains("start the process again"), "{told}");
        assert_eq!((journal.next_row(), read(&journal.files(10))), (1, "{\"n\":0}\n".to_owned()));
        drop(journal);
        let mut journal = Journal::open(folder.path(), 10, None).unwrap();
        journal.append(b"{\"n\":3}\n", 1).unwrap();
        assert_eq!(read(&journal.files(10)), "{\"n\":0}\n{\"n\":3}\n");
    }

    #[test]
    fn old_events_go_file_by_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path(), 5, None).unwrap();
        for row in 0..30 {
            journal.append(format!("{row}\n").as_bytes(), 1).unwrap();
            if row % 3 == 2 {
                journal.begin_file().unwrap();
            }
        }
        let kept = journal.files(u64::MAX);
        assert_eq!(kept.iter().map(|(first, _)| *first).collect::<Vec<_>>(), [24, 27, 30]);
        assert_eq!(read(&kept), "24\n25\n26\n27\n28\n29\n");
        assert_eq!(journal.files(2).first().map(|(first, _)| *first), Some(27));
        journal.append(b"30\n31\n", 2).unwrap();
        for (events, right) in [(0, ""), (1, "31\n"), (3, "29\n30\n31\n"), (5, "27\n28\n29\n30\n31\n")] {
            let Tail { first, rows, parts } = tail(folder.path(), events).unwrap();
            let text: String = parts.into_iter().map(|mut part| io::read_to_string(&mut part).unwrap()).collect();
            assert_eq!((text.as_str(), first, rows), (right, 32 - events, events));
        }
        assert_eq!((tail(folder.path(), 100).unwrap().rows, tail(folder.path(), u64::MAX).unwrap().first), (8, 24));
        drop(journal);
        assert_eq!(Journal::open(folder.path(), 5, None).unwrap().next_row(), 32);
    }
}
