//! Patterns whose memory is too small: what is known of quiet keys goes to disk and comes back, and nothing else is found.

use crate::random::{Random, cases, seed};
use crate::sequences::{self, Event, KINDS};
use crate::shelf::{Fault, Shelf};
use arrow::array::{ArrayRef, Int64Array, TimestampMillisecondArray};
use dynamic_cep::connector::spill::SpillFile;
use dynamic_cep::event::{EventBatch, Schema};
use dynamic_cep::id::RuleId;
use dynamic_cep::rule::lists::Lists;
use dynamic_cep::rule::{Clause, Limits as RuleLimits, Origin, check};
use dynamic_cep::temporal::capture::SavedPatterns;
use dynamic_cep::temporal::patterns::{Found, Limits, PatternRule, Patterns};
use dynamic_cep::temporal::spill::Spill;
use dynamic_cep::temporal::steps::SLOTS;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

fn rules(schema: &Schema, texts: &[(Clause, String)]) -> Vec<PatternRule> {
    let (lists, limits) = (Lists::default(), RuleLimits::default());
    let scope = check::Scope { schema, lists: &lists, parameters: &[], limits: &limits, windows: &[] };
    let rule = |(number, (clause, text)): (usize, &(Clause, String))| {
        let pattern = check::pattern::pattern(text, *clause, &Origin::default(), None, &scope);
        let pattern = Arc::new(pattern.unwrap_or_else(|problems| panic!("{text}: {}", problems[0])));
        PatternRule { rule: RuleId::new(number), name: number.to_string().into(), tenant: None, pattern }
    };
    texts.iter().enumerate().map(rule).collect()
}

/// Patterns over a stream, some of which share their rows.
struct Case {
    schema: Schema,
    rules: Vec<PatternRule>,
    events: Vec<Event>,
    lateness: i64,
    limits: Limits,
}

/// What follows what for adjacent rows, what is looked back at, what is waited for, and what holds many rows.
const CLAUSES: [&str; 4] = [
    "PARTITION BY card ORDER BY at MEASURES LAST(b.amount) AS m PATTERN (a b) WITHIN INTERVAL '9' SECOND DEFINE a AS kind = 'a', b AS amount > 2",
    "PARTITION BY card ORDER BY at MEASURES FIRST(amount) AS m, MATCH_NUMBER() AS n AFTER MATCH SKIP TO LAST up
     PATTERN (low up{2,}) DEFINE up AS amount > PREV(amount)",
    "PARTITION BY shop ORDER BY at MEASURES COUNT(*) AS n PATTERN (^ a+ b) DEFINE b AS amount > LAST(a.amount) + 4",
    "PARTITION BY shop ORDER BY at MEASURES SUM(amount) AS n ALL ROWS PER MATCH PATTERN (a{40}) DEFINE a AS amount >= 0 OR amount IS NULL",
];

fn case(random: &mut Random) -> Case {
    const CARDS: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    let schema = Schema::parse("schema.yaml", sequences::SCHEMA.as_bytes()).expect("a schema");
    let mut texts: Vec<(Clause, String)> =
        (0..1 + random.below(3)).map(|_| (Clause::Sequence, sequences::sequence(random).text())).collect();
    texts.extend(CLAUSES.iter().filter(|_| random.one_in(2)).map(|text| (Clause::MatchRecognize, (*text).to_owned())));
    let (mut time, jitter) = (0, random.below(6) as i64);
    let events = (0..1 + random.below(160) as u64).map(|number| {
        time += random.below(3) as i64;
        Event {
            number,
            at: time - if random.one_in(4) { random.below(jitter as usize + 1) as i64 } else { 0 },
            card: (!random.one_in(20)).then(|| *random.pick(&CARDS)),
            shop: ["p", "q", "r"][random.below(3)],
            kind: KINDS[random.below(KINDS.len())],
            amount: (!random.one_in(8)).then(|| random.below(6) as i64),
        }
    });
    let events = events.collect();
    // Sometimes keys and tenants may hold only so much.
    let limits = if random.one_in(4) { Limits { key_bytes: 3000, tenant_bytes: 9000, ..Limits::default() } } else { Limits::default() };
    let lateness = random.below(jitter as usize + 1) as i64 * 1_000_000_000;
    Case { rules: rules(&schema, &texts), schema, events, lateness, limits }
}

fn spill(limit: usize, shelf: Shelf) -> Arc<Spill> {
    Spill::new(limit, Box::new(shelf))
}

/// What is found, and what did not go as rules and rows say.
type Told = (Vec<Found>, String);

impl Case {
    fn patterns(&self, spill: Option<&Arc<Spill>>) -> Patterns {
        let mut patterns = Patterns::new(self.schema.clone(), self.rules.clone(), self.lateness, self.limits);
        spill.into_iter().for_each(|spill| patterns.spill_to(spill));
        patterns
    }

    fn take(&self, patterns: &mut Patterns, events: &[Event], found: &mut Vec<Found>) -> Result<(), String> {
        let batch = sequences::batch(&self.schema, events);
        let holds = patterns.conditions().judge(&self.schema, &batch);
        patterns.take(&batch, &holds, &[], found, &mut Vec::new())
    }

    fn told(&self, rows: usize, spill: Option<&Arc<Spill>>) -> Result<Told, String> {
        let (mut patterns, mut found, mut counted) = (self.patterns(spill), Vec::new(), String::new());
        for events in self.events.chunks(rows) {
            self.take(&mut patterns, events, &mut found)?;
        }
        let count =
            |patterns: &Patterns| Ok::<_, String>(format!("{} {} {:?}\n", patterns.partitions(), patterns.held()?, patterns.counters()));
        counted += &count(&patterns)?;
        patterns.finish(&mut found)?;
        counted += &count(&patterns)?;
        Ok((found, counted))
    }
}

#[test]
fn patterns_find_the_same_with_their_keys_on_disk() {
    let seed = seed("spilled patterns");
    let (mut out, mut back, mut findings) = (0, 0, 0);
    for number in 0..cases(150) {
        let case = case(&mut Random::new(seed.wrapping_add(number)));
        let whole = case.told(case.events.len(), None).expect("all in memory");
        findings += whole.0.len();
        for (limit, rows) in [(0, 1), (0, 2), (0, 7), (0, case.events.len()), (1500, 1), (3000, 7), (6000, 50)] {
            let spill = spill(limit, Shelf::default());
            let told = case.told(rows, Some(&spill)).expect("a sound shelf");
            assert!(told == whole, "case {number} of seed {seed}: {limit} bytes, batches of {rows}\n{:#?}\nnot\n{:#?}", whole, told);
            let spilled = spill.spilled();
            (out, back) = (out + spilled.out, back + spilled.back);
            assert_eq!(spilled.bytes, 0, "nothing is left of patterns that are gone");
        }
    }
    assert!(out > 10_000 && back > 10_000 && findings > 1000, "{out} went, {back} came back, {findings} findings");
}

#[test]
fn planted_faults_are_found() {
    for fault in [Fault::Stale, Fault::Others, Fault::Forgotten] {
        let told_otherwise = |number: u64| {
            let case = case(&mut Random::new(number));
            let whole = case.told(1, None).expect("all in memory");
            case.told(3, Some(&spill(0, Shelf::with(fault)))).map_or(fault == Fault::Others, |told| told.0 != whole.0)
        };
        assert!((0..60).any(told_otherwise), "{fault:?}");
    }
    // A partition that is fetched for its rows, and not when its time is up.
    let schema = Schema::parse("schema.yaml", sequences::SCHEMA.as_bytes()).expect("a schema");
    let text = "BY card WITHIN INTERVAL '9' SECOND [kind = 'a'] THEN NOT [kind = 'b']".to_owned();
    let event = |number, at, card| Event { number, at, card: Some(card), shop: "p", kind: "a", amount: None };
    let events = vec![event(0, 0, "a"), event(1, 1, "b"), event(2, 30, "c")];
    let case = Case { rules: rules(&schema, &[(Clause::Sequence, text)]), schema, events, lateness: 0, limits: Limits::default() };
    let found = |fault| case.told(1, Some(&spill(0, Shelf::with(fault)))).expect("values").0.len();
    assert_eq!((found(Fault::None), found(Fault::Forgotten)), (3, 0));
}

#[test]
fn a_store_that_fails_ends_the_run_before_anything_is_found() {
    let mut failures = 0;
    for (number, times) in (0..12).flat_map(|number| (0..60).map(move |times| (number, times))) {
        let case = case(&mut Random::new(number));
        let spill = spill(0, Shelf::with(Fault::Full(times)));
        let (mut patterns, mut found) = (case.patterns(Some(&spill)), Vec::new());
        for events in case.events.chunks(3) {
            let before = found.len();
            if let Err(told) = case.take(&mut patterns, events, &mut found) {
                assert_eq!((told.as_str(), found.len()), ("the shelf is full", before), "case {number}, {times}");
                assert_eq!(case.take(&mut patterns, events, &mut found), Err(told.clone()), "it stays full");
                assert_eq!(patterns.finish(&mut found), Err(told));
                assert_eq!(found.len(), before);
                failures += 1;
                break;
            }
        }
    }
    assert!(failures > 400, "{failures} failures");
}

/// A copy as it is saved.
#[derive(Clone, Default, PartialEq)]
struct Saved {
    head: Option<SavedPatterns>,
    chunks: HashMap<(String, usize), Vec<u8>>,
}

impl Saved {
    fn begin(&mut self, patterns: &mut Patterns) {
        let head = serde_json::to_string(&patterns.begin_capture()).expect("JSON");
        self.head = Some(serde_json::from_str(&head).expect("JSON"));
    }

    /// Takes so many of the chunks that are left in place of those that it had; how many these are.
    fn take(&mut self, patterns: &mut Patterns, most: usize) -> usize {
        let chunks = std::iter::from_fn(|| patterns.capture().expect("what can be read")).take(most);
        chunks.map(|chunk| self.chunks.insert((chunk.part.clone(), chunk.number), chunk.encode())).count()
    }

    fn restored(&self, case: &Case, spill: Option<&Arc<Spill>>) -> Result<Patterns, String> {
        let mut read = |part: &str, number| self.chunks.get(&(part.to_owned(), number)).cloned().ok_or_else(|| "no such chunk".to_owned());
        let head = self.head.as_ref().expect("a copy");
        Patterns::restored(case.schema.clone(), case.rules.clone(), case.lateness, case.limits, spill, head, &mut read)
            .map(|restored| restored.patterns)
    }
}

#[test]
fn a_run_that_is_cut_anywhere_goes_on_as_if_it_were_not() {
    let seed = seed("cuts of spilled patterns");
    for number in 0..cases(25) {
        let mut case = case(&mut Random::new(seed.wrapping_add(number)));
        case.limits.tenant_bytes = Limits::default().tenant_bytes;
        let whole = case.told(case.events.len(), None).expect("all in memory");
        let mut in_memory: HashMap<usize, Saved> = HashMap::new();
        for (turn, (before, after)) in
            [(None, None), (Some(0), Some(0)), (Some(2000), None), (None, Some(0)), (Some(0), Some(2000))].into_iter().enumerate()
        {
            for at in (turn % 3..=case.events.len()).step_by(3) {
                let rows = [1, 2, 7, case.events.len()][at % 4];
                let spill_of = |limit: Option<usize>| limit.map(|limit| spill(limit, Shelf::default()));
                let (before, after) = (spill_of(before), spill_of(after));
                let (mut found, mut patterns) = (Vec::new(), case.patterns(before.as_ref()));
                case.events[..at].chunks(rows).for_each(|events| case.take(&mut patterns, events, &mut found).expect("a sound shelf"));
                let mut saved = Saved::default();
                saved.begin(&mut patterns);
                // What comes while the copy is made is not in it.
                let meanwhile = &case.events[at..(at + 5).min(case.events.len())];
                meanwhile.chunks(2).for_each(|events| case.take(&mut patterns, events, &mut Vec::new()).expect("a sound shelf"));
                saved.take(&mut patterns, usize::MAX);
                let same = in_memory.entry(at).or_insert_with(|| saved.clone());
                assert!(*same == saved, "case {number} of seed {seed}, cut at {at}: the same is saved, to the byte");
                let mut patterns = saved.restored(&case, after.as_ref()).expect("what was saved");
                case.events[at..].chunks(rows).for_each(|events| case.take(&mut patterns, events, &mut found).expect("a sound shelf"));
                patterns.finish(&mut found).expect("a sound shelf");
                assert!(found == whole.0, "case {number} of seed {seed}, cut at {at}, batches of {rows}");
            }
        }
    }
}

const STREAM: &str = "fields: {at: timestamp(ms), card: int64, shop: int64, amount: int64}\ntime: at\n";

/// Patterns over a stream of many keys: of which some are forgotten soon, some never, and some hold many rows.
fn of_many_keys(limits: Limits) -> Case {
    let schema = Schema::parse("schema.yaml", STREAM.as_bytes()).expect("a schema");
    let texts = [
        (Clause::Sequence, "BY card WITHIN INTERVAL '1' HOUR [amount < 300] AS a [amount > 900] MEASURES COUNT(*) AS n"),
        (Clause::Sequence, "BY card WITHIN INTERVAL '20' MINUTE [amount > 700] THEN NOT [amount < 300]"),
        (
            Clause::MatchRecognize,
            "PARTITION BY card ORDER BY at MEASURES LAST(amount) AS m PATTERN (low up{2}) DEFINE up AS amount > PREV(amount)",
        ),
        (
            Clause::MatchRecognize,
            "PARTITION BY shop ORDER BY at MEASURES SUM(amount) AS m PATTERN (a{50,} b) DEFINE a AS amount < 990, b AS amount > 500",
        ),
    ];
    let texts = texts.map(|(clause, text)| (clause, text.to_owned()));
    Case { rules: rules(&schema, &texts), schema, events: Vec::new(), lateness: 60_000_000_000, limits }
}

/// `count` payments of the stream from `first` on: mostly of cards that come for a while, and of some that came before.
fn payments(schema: &Schema, first: usize, count: usize) -> EventBatch {
    let drawn: Vec<(i64, i64, i64, i64)> = (first..first + count)
        .map(|at| {
            let mut random = Random::new(at as u64 * 7919);
            let card = if random.one_in(10) { random.below(at + 1) / 4 } else { (at / 4).saturating_sub(random.below(150)) };
            let late = if random.one_in(30) { random.below(80_000) as i64 } else { 0 };
            (at as i64 * 1000 - late, card as i64, random.below(40) as i64, random.below(1000) as i64)
        })
        .collect();
    let of = |value: fn(&(i64, i64, i64, i64)) -> i64| -> Option<ArrayRef> {
        Some(Arc::new(drawn.iter().map(|row| Some(value(row))).collect::<Int64Array>()))
    };
    let at: TimestampMillisecondArray = drawn.iter().map(|row| Some(row.0)).collect();
    EventBatch::new(schema, first as u64, count, vec![Some(Arc::new(at)), of(|row| row.1), of(|row| row.2), of(|row| row.3)])
}

fn take(case: &Case, patterns: &mut Patterns, batch: &EventBatch) -> Vec<Found> {
    let holds = patterns.conditions().judge(&case.schema, batch);
    let mut found = Vec::new();
    patterns.take(batch, &holds, &[], &mut found, &mut Vec::new()).expect("a sound shelf");
    found
}

#[test]
fn keys_on_disk_are_forgotten_and_saved_as_those_in_memory_are() {
    let case = of_many_keys(Limits { tenant_bytes: 3_000_000, ..Limits::default() });
    for limit in [0, 1_200_000] {
        let little = spill(limit, Shelf::default());
        let (mut one, mut two) = (case.patterns(None), case.patterns(Some(&little)));
        let (mut saved, mut saved_two) = (Saved::default(), Saved::default());
        let (mut findings, mut forgotten) = (0, 0);
        for number in 0..60 {
            let batch = payments(&case.schema, number * 500, 500);
            let keys = one.partitions();
            let found = take(&case, &mut one, &batch);
            assert!(found == take(&case, &mut two, &batch), "batch {number} with {limit} bytes");
            findings += found.len();
            assert_eq!((one.partitions(), one.counters()), (two.partitions(), two.counters()));
            forgotten += usize::from(one.partitions() < keys + 180);
            // Copies that are begun, and completed batches later; of the second one only what has changed.
            if number % 9 == 2 {
                saved.begin(&mut one);
                saved_two.begin(&mut two);
            }
            if (3..6).contains(&(number % 9)) {
                let most = if number % 9 == 5 { usize::MAX } else { 2 };
                assert_eq!(saved.take(&mut one, most), saved_two.take(&mut two, most));
            }
            if number % 9 == 5 {
                assert!(saved == saved_two, "the same is saved, to the byte, after batch {number}");
            }
        }
        assert_eq!(one.held(), two.held());
        let spilled = little.spilled();
        assert!(
            findings > 1000 && forgotten > 5 && spilled.back > 1000 && spilled.out > spilled.back,
            "{findings} {forgotten} {spilled:?}"
        );
        // Restored where there is no room, they go to disk at once, and find the same.
        let less = spill(limit / 2, Shelf::default());
        let mut whole = saved.restored(&case, None).expect("what was saved");
        let mut restored = saved.restored(&case, Some(&less)).expect("what was saved");
        assert!(less.spilled().out > 0 && (limit == 0 || restored.bytes() < limit), "{} bytes", restored.bytes());
        for number in 54..70 {
            let batch = payments(&case.schema, number * 500, 500);
            assert!(take(&case, &mut whole, &batch) == take(&case, &mut restored, &batch));
        }
        let (mut expected, mut found) = (Vec::new(), Vec::new());
        whole.finish(&mut expected).expect("all in memory");
        restored.finish(&mut found).expect("a sound shelf");
        assert!(expected == found && expected.len() > 40);
    }
}

#[test]
fn a_copy_reads_from_disk_only_what_has_changed() {
    let schema = Schema::parse("schema.yaml", STREAM.as_bytes()).expect("a schema");
    let text = "BY card [amount < 300] [amount > 900]".to_owned();
    let case =
        Case { rules: rules(&schema, &[(Clause::Sequence, text)]), schema, events: Vec::new(), lateness: 0, limits: Limits::default() };
    let batch = |cards: std::ops::Range<i64>, time: i64| {
        let of = |value: Vec<i64>| -> Option<ArrayRef> { Some(Arc::new(Int64Array::from(value))) };
        let at = Arc::new(TimestampMillisecondArray::from(vec![time; cards.clone().count()]));
        let ones = vec![1; cards.clone().count()];
        EventBatch::new(&case.schema, 0, ones.len(), vec![Some(at), of(cards.collect()), of(ones.clone()), of(ones)])
    };
    let shelf = Shelf::default();
    let read = Arc::clone(&shelf.read);
    let mut patterns = case.patterns(Some(&spill(0, shelf)));
    let all = 4 * SLOTS as i64 + 10;
    take(&case, &mut patterns, &batch(0..all, 0));
    // What came last may still be there: a look over all keys is not for one of them.
    let there = all as usize / 32;
    let mut saved = Saved::default();
    saved.begin(&mut patterns);
    assert_eq!(saved.take(&mut patterns, usize::MAX), 6, "five of keys, and one of the rest");
    let from_disk = read.swap(0, Ordering::Relaxed);
    assert!(from_disk <= all as usize && from_disk >= all as usize - there, "{from_disk} of {all}");
    take(&case, &mut patterns, &batch(5000..5001, 1));
    saved.begin(&mut patterns);
    assert_eq!(saved.take(&mut patterns, usize::MAX), 2);
    assert!(read.load(Ordering::Relaxed) <= SLOTS + 1, "the key itself, and its chunk");
    // State that goes on from a copy knows what is saved already.
    let mut restored = saved.restored(&case, None).expect("what was saved");
    take(&case, &mut restored, &batch(9000..9001, 2));
    let mut again = saved.clone();
    again.begin(&mut restored);
    assert_eq!(again.take(&mut restored, usize::MAX), 2);
    take(&case, &mut patterns, &batch(9000..9001, 2));
    saved.begin(&mut patterns);
    saved.take(&mut patterns, usize::MAX);
    assert!(saved == again);
}

#[test]
fn memory_stays_below_its_limit() {
    let case = of_many_keys(Limits::default());
    let folder = tempfile::tempdir().expect("a folder");
    let limit = 5 << 20;
    let little = Spill::new(limit, Box::new(SpillFile::new(folder.path())));
    let (mut patterns, mut whole) = (case.patterns(Some(&little)), case.patterns(None));
    let mut most = 0;
    for first in (0..200_000).step_by(2000) {
        let batch = payments(&case.schema, first, 2000);
        assert!(take(&case, &mut patterns, &batch) == take(&case, &mut whole, &batch), "batch at {first}");
        most = most.max(patterns.bytes());
        let written = std::fs::read_dir(folder.path()).expect("a folder").next().is_some();
        assert_eq!(written, little.spilled().out > 0, "there is a file once there is something in it");
        assert!(!written || whole.bytes() > limit / 2, "below the limit nothing goes");
    }
    assert!(whole.bytes() > 2 * limit, "{} bytes are known", whole.bytes());
    assert!(most <= limit && most > limit / 2, "{most} bytes were taken");
    let mut saved = Saved::default();
    saved.begin(&mut patterns);
    saved.take(&mut patterns, usize::MAX);
    assert!(patterns.bytes() <= limit);
    let (mut expected, mut found) = (Vec::new(), Vec::new());
    whole.finish(&mut expected).expect("all in memory");
    patterns.finish(&mut found).expect("room on the disk");
    assert!(expected == found && patterns.bytes() <= limit);
    drop((patterns, little));
    assert!(std::fs::read_dir(folder.path()).expect("a folder").next().is_none(), "nothing stays on disk");
    let little = Spill::new(limit, Box::new(SpillFile::new(folder.path())));
    let mut restored = saved.restored(&case, Some(&little)).expect("what was saved");
    assert!(restored.bytes() <= limit && little.spilled().out > 0);
    found.clear();
    restored.finish(&mut found).expect("room on the disk");
    assert!(expected == found);
}
