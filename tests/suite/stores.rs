//! Folders, and a real object store that speaks S3: the same is kept by both, and what may happen to the second harms nothing.
//!
//! `DYNAMIC_CEP_S3` says where the store is, which tests/services/s3.sh starts. Without it these tests say that they were skipped; with `DYNAMIC_CEP_SERVICES=require` they fail.

mod processes;
pub mod proxy;

use super::support::service_at;
use dynamic_cep::connector::snapshots::Snapshots;
use dynamic_cep::connector::store::config::Config;
use dynamic_cep::connector::store::{Store, nonce};
use dynamic_cep::snapshot::{Chunk, Manifest, Part, Unusable};
use proxy::{Mischief, Proxy};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

/// Says where the store is.
const STORE: &str = "DYNAMIC_CEP_S3";

/// Never to be read in what a process says.
pub const SECRET: &str = "PLANTED-SECRET";

/// A place of a test's own in the object store, reached through a proxy.
pub struct Bucket {
    pub proxy: Proxy,
    /// `s3://bucket/prefix`.
    pub place: String,
}

impl Bucket {
    /// `None`: there is no store, and that may be so.
    pub fn of(test: &str) -> Option<Self> {
        let url = service_at(STORE, test)?;
        Some(Self { proxy: Proxy::before(&url), place: format!("s3://dynamic-cep/{test}-{}", nonce()) })
    }

    fn config(&self) -> Config {
        Config {
            endpoint: self.proxy.url.clone(),
            access_key_id: "tests".to_owned(),
            secret_access_key: SECRET.to_owned(),
            allow_http: true,
            ..Config::default()
        }
    }

    fn try_open(&self) -> Result<Store, String> {
        Store::open(Path::new(&self.place), &self.config())
    }

    fn open(&self) -> Store {
        self.try_open().expect("a store")
    }

    /// What has a process reach it.
    pub fn variables(&self) -> [(&'static str, String); 4] {
        [
            ("DYNAMIC_CEP_S3_ENDPOINT", self.proxy.url.clone()),
            ("DYNAMIC_CEP_S3_ACCESS_KEY_ID", "tests".to_owned()),
            ("DYNAMIC_CEP_S3_SECRET_ACCESS_KEY", SECRET.to_owned()),
            ("DYNAMIC_CEP_S3_ALLOW_HTTP", "true".to_owned()),
        ]
    }
}

/// The same for a folder and for the object store.
fn both(test: &str, body: impl Fn(&Store)) {
    let folder = tempfile::tempdir().expect("a folder");
    body(&Store::Folder(folder.path().to_owned()));
    if let Some(bucket) = Bucket::of(test) {
        body(&bucket.open());
    }
}

fn named(store: &Store) -> BTreeSet<(String, u64)> {
    store.list().expect("a list").into_iter().collect()
}

#[test]
fn a_name_has_what_was_put_there_whole_or_nothing() {
    both("names", |store| {
        assert_eq!(named(store), BTreeSet::new(), "what was tried at the beginning is gone");
        let large: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
        store.put("large", &large).expect("put");
        store.put("empty", b"").expect("put");
        assert_eq!(named(store), [("large".to_owned(), 3_000_000), ("empty".to_owned(), 0)].into());
        assert!(store.get("large").expect("large") == large && store.get("empty").expect("empty").is_empty());
        assert_eq!((store.has("large").expect("asked"), store.has("larg").expect("asked")), (true, false));
        assert_eq!(store.get("larg").expect_err("nothing").kind(), ErrorKind::NotFound);

        store.create("once", b"first").expect("created");
        assert_eq!(store.create("once", b"second").expect_err("taken").kind(), ErrorKind::AlreadyExists);
        assert_eq!(store.get("once").expect("once"), b"first");
        store.put("once", b"third").expect("put");
        assert_eq!(store.get("once").expect("once"), b"third", "whoever may overwrite does");

        store.delete("once").expect("deleted");
        assert_eq!(store.get("once").expect_err("nothing").kind(), ErrorKind::NotFound);
        store.create("once", b"again").expect("a name that is free again");
    });
}

/// A manifest of chunks; `rows` tells one from another.
fn manifest(number: u64, rows: u64, chunks: &[&Chunk]) -> Manifest {
    let part = Part { name: "part".to_owned(), head: serde_json::Value::Null, chunks: chunks.iter().copied().cloned().collect() };
    Manifest {
        number,
        program: "tests".to_owned(),
        generation: String::new(),
        allowed_lateness: 0,
        rows,
        sources: Vec::new(),
        parts: vec![part],
        writer: String::new(),
    }
}

/// The newest snapshot that holds state.
fn newest(snapshots: &Snapshots) -> Option<Manifest> {
    let numbers = snapshots.numbers().expect("numbers");
    numbers.into_iter().filter_map(|number| snapshots.manifest(number).ok()).find(|manifest| !manifest.is_claim())
}

#[test]
fn snapshots_are_the_last_two_and_what_they_name() {
    both("last-two", |store| {
        let mut writing = Snapshots::open(store.clone()).expect("opened");
        let chunks: Vec<Chunk> = (0..4_u8).map(|nth| writing.put(&[nth; 1000]).expect("put")).collect();
        for rows in 1..=3 {
            // Each names the one before's, and one of its own.
            let at = rows as usize;
            writing.commit(&mut manifest(rows, rows, &[&chunks[at - 1], &chunks[at]])).expect("committed");
            // What a snapshot that is under way has put may be forgotten with it, and is put again.
            for (nth, chunk) in (0..4_u8).zip(&chunks) {
                assert_eq!(&writing.put(&[nth; 1000]).expect("put"), chunk);
            }
        }
        drop(writing);
        let mut again = Snapshots::open(store.clone()).expect("opened again");
        assert_eq!(newest(&again).expect("one").rows, 3);
        let held = |snapshots: &Snapshots| {
            let numbers = snapshots.numbers().expect("numbers");
            let manifests: Vec<Manifest> = numbers.into_iter().map(|number| snapshots.manifest(number).expect("sound")).collect();
            manifests.into_iter().filter(|manifest| !manifest.is_claim()).map(|manifest| manifest.rows).collect::<Vec<_>>()
        };
        assert_eq!(held(&again), [3, 2]);
        for (nth, chunk) in (0..4_u8).zip(&chunks).skip(1) {
            assert_eq!(again.chunk(chunk).expect("its bytes"), [nth; 1000]);
        }
        let next = again.put(b"next").expect("put");
        again.commit(&mut manifest(4, 4, &[&next])).expect("committed");
        assert_eq!(held(&again), [4, 3]);
        assert!(matches!(again.check(&chunks[0]), Err(Unusable::Damaged(_))), "nobody names it, and it is gone");
        assert!(matches!(again.check(&chunks[1]), Err(Unusable::Damaged(_))));

        // What is not there is not named, and what is damaged is told from what cannot be reached.
        let lost = again.put(b"lost").expect("put");
        store.delete(&lost.file().expect("a name")).expect("deleted");
        let refused = again.commit(&mut manifest(5, 5, &[&next, &lost])).expect_err("a chunk is missing");
        assert!(refused.contains(&lost.hash) && refused.contains("is not there"), "{refused}");
        assert_eq!(held(&again), [4, 3]);
        again.check(&chunks[2]).expect("sound so far");
        store.put(&chunks[2].file().expect("a name"), &[7; 100]).expect("damaged");
        assert!(matches!(again.check(&chunks[2]), Err(Unusable::Damaged(_))));
        let number = again.numbers().expect("numbers")[0];
        store.put(&format!("snapshot-{number}.json"), b"{}").expect("damaged");
        assert!(matches!(again.manifest(number), Err(Unusable::Damaged(_))));
        assert_eq!(newest(&again).expect("the one before").rows, 3);
        assert_eq!(again.put(b"lost").expect("put again"), lost);
        again.commit(&mut manifest(5, 5, &[&next, &lost])).expect("committed");
        assert_eq!(newest(&again).expect("one").rows, 5);
    });
}

/// Two processes that both believe a place to be theirs.
#[test]
fn a_place_in_an_object_store_has_one_writer() {
    let Some(bucket) = Bucket::of("writers") else { return };
    let store = bucket.open();
    let begin = |rows: u64| {
        let mut writing = Snapshots::open(store.clone()).expect("opened");
        let chunk = writing.put(&[1; 100]).expect("put");
        writing.commit(&mut manifest(0, rows, &[&chunk])).expect("committed");
        (writing, chunk)
    };
    let (mut first, chunk) = begin(1);
    let (mut second, _) = begin(2);
    let before = named(&store);
    let lost = first.commit(&mut manifest(0, 3, &[&chunk])).expect_err("it is another's");
    assert!(lost.contains("another process has taken this place") && first.is_lost(), "{lost}");
    assert!(first.put(b"more").is_err() && first.commit(&mut manifest(0, 4, &[&chunk])).is_err(), "and it stays so");
    assert_eq!(named(&store), before, "it has changed nothing");
    second.commit(&mut manifest(0, 5, &[&chunk])).expect("the place is its own");
    assert_eq!(newest(&second).expect("one").rows, 5);

    // One that was away for so long that its next number was deleted again finds a later one.
    let (mut late, _) = begin(6);
    let (mut now, _) = begin(7);
    (8..12).for_each(|rows| now.commit(&mut manifest(0, rows, &[&chunk])).expect("committed"));
    late.commit(&mut manifest(0, 99, &[&chunk])).expect_err("long gone");
    assert!(late.is_lost());
    assert_eq!(newest(&now).expect("one").rows, 11);
    now.commit(&mut manifest(0, 12, &[&chunk])).expect("the place is its own");

    // A store that does not know the condition has the one overwrite the other, which is noticed here, and refused at the start.
    let (mut first, _) = begin(20);
    let (_second, _) = begin(21);
    bucket.proxy.set(Mischief::Overwrites);
    first.commit(&mut manifest(0, 22, &[&chunk])).expect_err("it finds a later one");
    let (mut first, _) = begin(30);
    let second = Snapshots::open(store.clone()).expect("opened");
    first.commit(&mut manifest(0, 31, &[&chunk])).expect("over what the other has claimed");
    assert!(!first.is_lost());
    drop(second);
    let refused = bucket.try_open().expect_err("such a store");
    assert!(refused.contains("If-None-Match") && refused.contains(&bucket.place), "{refused}");
    assert!(!refused.contains(SECRET));
}

/// Many begin at once, and each goes on until it has lost the place.
#[test]
fn of_many_that_begin_at_once_one_remains() {
    let Some(bucket) = Bucket::of("race") else { return };
    let store = bucket.open();
    let written: Vec<(Vec<u64>, bool)> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4_u64)
            .map(|nth| {
                let store = store.clone();
                scope.spawn(move || {
                    let Ok(mut writing) = Snapshots::open(store) else { return (Vec::new(), true) };
                    let mut numbers = Vec::new();
                    for rows in 0..10 {
                        // Chunks of all have the same names, so that one may delete what another one names.
                        let Ok(chunk) = writing.put(&[(rows % 3) as u8; 100]) else { break };
                        let mut manifest = manifest(0, 100 * nth + rows, &[&chunk]);
                        if writing.commit(&mut manifest).is_ok() {
                            numbers.push(manifest.number);
                        }
                    }
                    (numbers, writing.is_lost())
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().expect("no panic")).collect()
    });
    let numbers: Vec<u64> = written.iter().flat_map(|(numbers, _)| numbers).copied().collect();
    assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len(), numbers.len(), "each number is given once: {written:?}");
    assert!(written.iter().filter(|(_, lost)| !lost).count() <= 1, "{written:?}");
    let mut last = Snapshots::open(store.clone()).expect("opened");
    let held = newest(&last);
    assert!(held.is_some() || numbers.is_empty(), "{written:?}");
    for chunk in held.iter().flat_map(Manifest::chunks) {
        last.check(chunk).expect("what the newest names is there");
    }
    let chunk = last.put(b"last").expect("put");
    last.commit(&mut manifest(0, 1000, &[&chunk])).expect("committed");
}

#[test]
fn an_object_store_that_fails_is_asked_again_and_not_believed_empty() {
    let Some(bucket) = Bucket::of("fails") else { return };
    let store = bucket.open();
    let mut writing = Snapshots::open(store.clone()).expect("opened");
    let chunk = writing.put(&[1; 100]).expect("put");
    writing.commit(&mut manifest(0, 1, &[&chunk])).expect("committed");

    // For a moment: nobody notices.
    bucket.proxy.set(Mischief::Fails);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(1));
            bucket.proxy.set(Mischief::None);
        });
        assert!(store.has(&chunk.file().expect("a name")).expect("asked again"));
    });

    // An answer that is lost: the object is there, and whoever put it finds its own.
    for rows in 2..6 {
        let more = writing.put(&[rows as u8; 100]).expect("put");
        bucket.proxy.set(Mischief::LosesAnAnswer);
        let first = writing.commit(&mut manifest(0, rows, &[&more]));
        assert_eq!(bucket.proxy.get(), Mischief::None, "an answer was lost");
        if first.is_err() {
            assert!(!writing.is_lost());
            writing.commit(&mut manifest(0, rows, &[&more])).expect("once more");
        }
        assert_eq!(newest(&writing).expect("one").rows, rows);
        bucket.proxy.set(Mischief::LosesAnAnswer);
        store.put("again", b"the same bytes").expect("what may be put twice is put again");
        assert_eq!(bucket.proxy.get(), Mischief::None, "an answer was lost");
    }

    // For long: it is told, and what is there is not taken to be damaged.
    let last = newest(&writing).expect("one");
    bucket.proxy.set(Mischief::Fails);
    let told = writing.manifest(last.number).expect_err("it cannot be asked");
    assert!(matches!(told, Unusable::Unreachable(_)), "{told}");
    assert!(!told.to_string().contains(SECRET), "{told}");
    bucket.proxy.set(Mischief::None);
    assert_eq!(writing.manifest(last.number).as_ref(), Ok(&last));
    store.delete(&format!("snapshot-{}.json", last.number)).expect("deleted");
    assert!(matches!(writing.manifest(last.number), Err(Unusable::Damaged(_))), "what is not there is another matter");
}
