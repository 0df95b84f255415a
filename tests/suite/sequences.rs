//! Random sequences over random streams, against a matcher that is written from what rules/README.md says of them, row by row and without an automaton.

use super::compare::artifact_of;
use super::random::{Random, cases, seed};
use arrow::array::{ArrayRef, DictionaryArray, Int64Array, TimestampSecondArray};
use arrow::datatypes::Int32Type;
use dynamic_cep::event::{EventBatch, Schema, Value};
use dynamic_cep::id::RuleId;
use dynamic_cep::pattern::{Pattern, Step};
use dynamic_cep::rule::{Action, Clause, Limits, Origin, Rule, Status};
use dynamic_cep::tables::Artifact;
use dynamic_cep::temporal::patterns::{Found, Limits as StateLimits, PatternRule, Patterns};
use std::sync::Arc;

pub const SCHEMA: &str = "fields: {at: timestamp(s), card: utf8, shop: utf8, kind: utf8, amount: int64}\ntime: at\n";

/// A row in the order of arrival.
#[derive(Clone, Debug)]
pub struct Event {
    pub number: u64,
    pub at: i64,
    pub card: Option<&'static str>,
    pub shop: &'static str,
    pub kind: &'static str,
    pub amount: Option<i64>,
}

#[derive(Clone, Debug)]
enum Condition {
    Kind(&'static str),
    Above(i64),
    /// More than the last row of a step so far.
    AboveStep(usize),
    /// More than the row before, of any step or none.
    Rising,
    /// So few rows of a step so far.
    Fewer(usize, usize),
    Either(Box<Condition>, Box<Condition>),
}

#[derive(Clone, Debug)]
struct SequenceStep {
    condition: Condition,
    least: usize,
    more: bool,
    named: bool,
    /// What must not come before it.
    not: Option<Condition>,
}

#[derive(Clone, Debug)]
enum Skip {
    PastLastRow,
    ToNextRow,
    ToFirst(usize),
    ToLast(usize),
}

#[derive(Clone, Debug)]
pub struct Sequence {
    /// How many of card and shop rows are apart by.
    by: usize,
    within: Option<i64>,
    steps: Vec<SequenceStep>,
    absent: Option<Condition>,
    until: Option<Condition>,
    all_rows: bool,
    skip: Skip,
}

pub const KINDS: [&str; 4] = ["a", "b", "c", "d"];

fn condition(random: &mut Random, named: &[usize]) -> Condition {
    let step = named.get(random.below(named.len())).copied();
    match (random.below(12), step) {
        (0..=1, _) => Condition::Above(random.below(5) as i64),
        (2, Some(step)) => Condition::AboveStep(step),
        (3, Some(step)) => Condition::Fewer(step, 1 + random.below(2)),
        (4, _) => Condition::Rising,
        (5, _) => Condition::Either(Box::new(condition(random, named)), Box::new(condition(random, named))),
        _ => Condition::Kind(KINDS[random.below(KINDS.len())]),
    }
}

pub fn sequence(random: &mut Random) -> Sequence {
    let named: Vec<bool> = (0..1 + random.below(4)).map(|_| random.one_in(2)).collect();
    let names: Vec<usize> = (0..named.len()).filter(|step| named[*step]).collect();
    let sometimes = |random: &mut Random, n| random.one_in(n).then(|| condition(random, &names));
    let steps: Vec<SequenceStep> = named
        .iter()
        .enumerate()
        .map(|(at, named)| SequenceStep {
            condition: condition(random, &names),
            least: if random.one_in(3) { 1 + random.below(3) } else { 1 },
            more: random.one_in(4),
            named: *named,
            not: if at > 0 { sometimes(random, 4) } else { None },
        })
        .collect();
    let absent = sometimes(random, 2);
    let waits = absent.is_some() || steps.iter().map(|step| step.least).sum::<usize>() > 1;
    let later: Vec<usize> = names.iter().copied().filter(|step| *step > 0).collect();
    let skip = match (random.below(4), later.is_empty()) {
        (0 | 1, _) | (_, true) => random.pick(&[Skip::PastLastRow, Skip::ToNextRow]).clone(),
        (2, _) => Skip::ToFirst(*random.pick(&later)),
        _ => Skip::ToLast(*random.pick(&later)),
    };
    Sequence {
        by: random.below(3),
        within: (absent.is_some() || !random.one_in(4)).then(|| 1 + random.below(12) as i64),
        steps,
        absent,
        until: if waits { sometimes(random, 3) } else { None },
        all_rows: random.one_in(3),
        skip,
    }
}

impl Condition {
    fn text(&self) -> String {
        match self {
            Self::Kind(kind) => format!("kind = '{kind}'"),
            Self::Above(amount) => format!("amount > {amount}"),
            Self::AboveStep(step) => format!("amount > s{step}.amount"),
            Self::Rising => "amount > PREV(amount)".to_owned(),
            Self::Fewer(step, than) => format!("COUNT(s{step}.*) < {than}"),
            Self::Either(a, b) => format!("({} OR {})", a.text(), b.text()),
        }
    }

    /// Whether row `at` of a partition satisfies it as the condition of step `own`, after the rows that steps have taken.
    fn holds(&self, rows: &[Event], at: usize, own: Option<usize>, taken: &[(usize, usize)]) -> bool {
        let of = |step: usize| taken.iter().copied().chain(own.map(|own| (at, own))).filter(move |(_, of)| *of == step).map(|(row, _)| row);
        let above = |other: Option<i64>| rows[at].amount.zip(other).is_some_and(|(amount, other)| amount > other);
        match self {
            Self::Kind(kind) => rows[at].kind == *kind,
            Self::Above(amount) => above(Some(*amount)),
            Self::AboveStep(step) => above(of(*step).next_back().and_then(|row| rows[row].amount)),
            Self::Rising => at > 0 && above(rows[at - 1].amount),
            Self::Fewer(step, than) => of(*step).count() < *than,
            Self::Either(a, b) => a.holds(rows, at, own, taken) || b.holds(rows, at, own, taken),
        }
    }
}

impl Sequence {
    pub fn text(&self) -> String {
        let mut text = match self.by {
            0 => String::new(),
            1 => "BY card".to_owned(),
            _ => "BY card, shop".to_owned(),
        };
        if let Some(within) = self.within {
            text += &format!(" WITHIN INTERVAL '{within}' SECOND");
        }
        for (at, step) in self.steps.iter().enumerate() {
            if let Some(not) = &step.not {
                text += &format!(" THEN NOT [{}]", not.text());
            }
            text += &format!("\n[{}]", step.condition.text());
            match (step.least, step.more) {
                (1, false) => {}
                (1, true) => text += "+",
                (least, more) => text += &format!("{{{least}{}}}", if more { "," } else { "" }),
            }
            if step.named {
                text += &format!(" AS s{at}");
            }
        }
        if let Some(absent) = &self.absent {
            text += &format!("\nTHEN NOT [{}]", absent.text());
        }
        if let Some(until) = &self.until {
            text += &format!("\nUNTIL [{}]", until.text());
        }
        text += "\nMEASURES COUNT(*) AS n, FIRST(amount) AS started, amount AS ended, CLASSIFIER() AS last";
        for (at, _) in self.steps.iter().enumerate().filter(|(_, step)| step.named) {
            text += &format!(", SUM(s{at}.amount) AS sum{at}");
        }
        text += if self.all_rows { "\nALL ROWS PER MATCH" } else { "" };
        match self.skip {
            // What is so where nothing is said.
            Skip::PastLastRow => {}
            Skip::ToNextRow => text += " AFTER MATCH SKIP TO NEXT ROW",
            Skip::ToFirst(step) => text += &format!(" AFTER MATCH SKIP TO FIRST s{step}"),
            Skip::ToLast(step) => text += &format!(" AFTER MATCH SKIP TO LAST s{step}"),
        }
        text
    }

    /// What a step is called in CLASSIFIER(): its name, or its place among all brackets.
    fn name(&self, step: usize) -> String {
        let nots = self.steps[..=step].iter().filter(|step| step.not.is_some()).count();
        if self.steps[step].named { format!("S{step}") } else { (step + 1 + nots).to_string() }
    }
}

/// What became of a search that begins at a row.
enum Outcome {
    /// Each row with its step.
    Match(Vec<(usize, usize)>),
    Nothing,
    /// Later rows decide.
    Open,
}

/// The search of `sequence` from row `start` of a partition's `rows`, which are in order of time. Rows from `now` on are still to come; `None`: no rows come.
fn search(sequence: &Sequence, rows: &[Event], start: usize, now: Option<i64>) -> Outcome {
    let Sequence { steps, absent, until, .. } = sequence;
    if !steps[0].condition.holds(rows, start, Some(0), &[]) {
        return Outcome::Nothing;
    }
    let in_time = |row: &Event| sequence.within.is_none_or(|within| row.at - rows[start].at < within);
    let end = (start..rows.len()).find(|row| !in_time(&rows[*row])).unwrap_or(rows.len());
    let over = match now {
        None => true,
        Some(now) => end < rows.len() || sequence.within.is_some_and(|within| now >= rows[start].at + within),
    };
    let mut taken = vec![(start, 0)];
    loop {
        let (last, step) = taken[taken.len() - 1];
        let so_far = taken.iter().filter(|(_, of)| *of == step).count();
        let enough = so_far >= steps[step].least;
        let (wanted, not) = match steps.get(step + 1) {
            _ if !enough => (Some(step), None),
            Some(next) => (Some(step + 1), next.not.as_ref()),
            None if absent.is_some() => (None, absent.as_ref()),
            None => return Outcome::Match(taken),
        };
        let also = (enough && steps[step].more).then_some(step);
        let is = |row: usize, step: usize| steps[step].condition.holds(rows, row, Some(step), &taken);
        let ends = |row: usize| not.into_iter().chain(until).any(|condition| condition.holds(rows, row, None, &taken));
        let next = (last + 1..end).find(|row| wanted.into_iter().chain(also).any(|step| is(*row, step)));
        // Up to the next row that is taken, that one too.
        if (last + 1..next.map_or(end, |next| next + 1)).any(ends) {
            return Outcome::Nothing;
        }
        match next {
            Some(row) => taken.push((row, wanted.filter(|step| is(row, *step)).or(also).expect("one of them"))),
            None if !over => return Outcome::Open,
            None if wanted.is_none() => return Outcome::Match(taken),
            None => return Outcome::Nothing,
        }
    }
}

/// A finding as it is compared: partition, match, row, classifier, first and last row, measures.
type Told = (Vec<Value>, u64, u64, Option<String>, (u64, u64), Vec<Value>);

fn text(value: Option<&str>) -> Value {
    value.map_or(Value::Null, |text| Value::Text(text.into()))
}

fn int(value: Option<i64>) -> Value {
    value.map_or(Value::Null, Value::Int)
}

/// What is to be found in rows of one partition.
fn in_partition(sequence: &Sequence, key: &[Value], rows: &[Event], now: Option<i64>, told: &mut Vec<Told>) {
    let (mut start, mut number) = (0, 0);
    while start < rows.len() {
        let taken = match search(sequence, rows, start, now) {
            Outcome::Open => return,
            Outcome::Nothing => {
                start += 1;
                continue;
            }
            Outcome::Match(taken) => taken,
        };
        number += 1;
        let ends = (rows[start].number, rows[taken[taken.len() - 1].0].number);
        // Measures as of the last row, or of each.
        for upto in if sequence.all_rows { 1..=taken.len() } else { taken.len()..=taken.len() } {
            let (so_far, (row, step)) = (&taken[..upto], taken[upto - 1]);
            let mut measures = vec![
                Value::Int(so_far.len() as i64),
                int(rows[start].amount),
                int(rows[row].amount),
                Value::Text(sequence.name(step).into()),
            ];
            for (named, _) in sequence.steps.iter().enumerate().filter(|(_, step)| step.named) {
                let amounts: Vec<i64> = so_far.iter().filter(|(_, of)| *of == named).filter_map(|(row, _)| rows[*row].amount).collect();
                measures.push(int((!amounts.is_empty()).then(|| amounts.iter().sum())));
            }
            let classifier = sequence.all_rows.then(|| sequence.name(step));
            told.push((key.to_vec(), number, rows[row].number, classifier, ends, measures));
        }
        let of = |step: usize| taken.iter().filter(move |(_, of)| *of == step).map(|(row, _)| *row);
        start = match sequence.skip {
            Skip::PastLastRow => taken[taken.len() - 1].0 + 1,
            Skip::ToNextRow => start + 1,
            Skip::ToFirst(step) => of(step).next().expect("a row of each step"),
            Skip::ToLast(step) => of(step).next_back().expect("a row of each step"),
        };
    }
}

/// What is to be found after these arrivals, sorted; `ended`: no more come.
fn expected(sequence: &Sequence, arrived: &[Event], lateness: i64, ended: bool) -> Vec<Told> {
    let (mut watermark, mut rows) = (i64::MIN, Vec::new());
    for event in arrived {
        if event.at >= watermark {
            rows.push(event.clone());
        }
        watermark = watermark.max(event.at - lateness);
    }
    rows.retain(|row| ended || row.at <= watermark);
    rows.sort_by_key(|row| row.at);
    let key = |row: &Event| [text(row.card), text(Some(row.shop))][..sequence.by].to_vec();
    let mut keys: Vec<Vec<Value>> = Vec::new();
    for row in &rows {
        if !keys.contains(&key(row)) {
            keys.push(key(row));
        }
    }
    let mut told = Vec::new();
    for of in keys {
        let rows: Vec<Event> = rows.iter().filter(|row| key(row) == of).cloned().collect();
        in_partition(sequence, &of, &rows, (!ended).then_some(watermark), &mut told);
    }
    sorted(told)
}

fn sorted(mut told: Vec<Told>) -> Vec<Told> {
    told.sort_by_key(|told| format!("{told:?}"));
    told
}

struct Case {
    sequence: Sequence,
    schema: Schema,
    pattern: Arc<Pattern>,
    events: Vec<Event>,
    lateness: i64,
}

/// What a sequence becomes in an artifact.
fn pattern(schema: &Schema, text: &str) -> Arc<Pattern> {
    let rule = Rule {
        id: "r".into(),
        tenant: None,
        when: text.into(),
        clause: Clause::Sequence,
        origin: Origin::default(),
        parameters: Vec::new(),
        score: 0,
        action: Action::Allow,
        status: Status::Live,
        tags: Vec::new(),
        outcome: None,
        tests: Vec::new(),
    };
    let artifact = Artifact::from_bytes(&artifact_of(schema, &[rule], &Limits::default(), 1)).expect("an artifact");
    Arc::clone(artifact.pattern(RuleId(0)).expect("a pattern"))
}

fn case(random: &mut Random) -> Case {
    let sequence = sequence(random);
    let schema = Schema::parse("schema.yaml", SCHEMA.as_bytes()).expect("a schema");
    let pattern = pattern(&schema, &sequence.text());
    let (mut time, jitter) = (0, random.below(6) as i64);
    let events = (0..1 + random.below(24) as u64)
        .map(|number| {
            time += random.below(3) as i64;
            Event {
                number,
                at: time - if random.one_in(4) { random.below(jitter as usize + 1) as i64 } else { 0 },
                card: *random.pick(&[Some("x"), Some("y"), None]),
                shop: ["p", "q"][random.below(2)],
                kind: KINDS[random.below(KINDS.len())],
                amount: (!random.one_in(8)).then(|| random.below(6) as i64),
            }
        })
        .collect();
    Case { sequence, schema, pattern, events, lateness: random.below(jitter as usize + 1) as i64 }
}

/// Events as a batch.
pub fn batch(schema: &Schema, events: &[Event]) -> EventBatch {
    let texts = |of: fn(&Event) -> Option<&'static str>| -> Option<ArrayRef> {
        Some(Arc::new(events.iter().map(of).collect::<DictionaryArray<Int32Type>>()))
    };
    let columns = vec![
        Some(Arc::new(events.iter().map(|event| Some(event.at)).collect::<TimestampSecondArray>()) as ArrayRef),
        texts(|event| event.card),
        texts(|event| Some(event.shop)),
        texts(|event| Some(event.kind)),
        Some(Arc::new(events.iter().map(|event| event.amount).collect::<Int64Array>()) as ArrayRef),
    ];
    EventBatch::new(schema, events[0].number, events.len(), columns)
}

impl Case {
    /// What the engine finds in batches of so many rows, and in how many of them after each batch.
    fn found(&self, pattern: &Arc<Pattern>, rows: usize) -> (Vec<Told>, Vec<usize>) {
        let rule = PatternRule { rule: RuleId(0), name: "".into(), tenant: None, pattern: Arc::clone(pattern) };
        let mut patterns = Patterns::new(self.schema.clone(), vec![rule], self.lateness * 1_000_000_000, StateLimits::default());
        let (mut found, mut counts, mut late) = (Vec::new(), Vec::new(), Vec::new());
        for events in self.events.chunks(rows) {
            let batch = batch(&self.schema, events);
            let holds = patterns.conditions().judge(&self.schema, &batch);
            patterns.take(&batch, &holds, &[], &mut found, &mut late).expect("all in memory");
            counts.push(found.len());
        }
        patterns.finish(&mut found).expect("all in memory");
        let told = |found: &Found| {
            let finding = &found.finding;
            let classifier = finding.label.map(|label| pattern.labels[usize::from(label)].to_string());
            let ends = finding.rows.expect("a match has rows");
            let number = finding.match_number.expect("a match has a number");
            (finding.partition.to_vec(), number, finding.row, classifier, ends, finding.measures.clone())
        };
        (found.iter().map(told).collect(), counts)
    }

    /// Where the engine differs from the definition; how many findings there are.
    fn differs(&self, pattern: &Arc<Pattern>) -> Result<usize, String> {
        let (found, counts) = self.found(pattern, 1);
        let about = |what: &str, right: &dyn std::fmt::Debug, wrong: &dyn std::fmt::Debug| {
            let Self { sequence, events, lateness, .. } = self;
            let rows: Vec<String> = events.iter().map(|event| format!("{event:?}")).collect();
            format!("{what}: {right:#?}\nnot {wrong:#?}\n{}\nlateness {lateness}\n{}", sequence.text(), rows.join("\n"))
        };
        for (arrived, count) in (1..).zip(counts) {
            let (right, wrong) = (expected(&self.sequence, &self.events[..arrived], self.lateness, false), sorted(found[..count].to_vec()));
            if right != wrong {
                return Err(about(&format!("after {arrived} rows"), &right, &wrong));
            }
        }
        let (right, wrong) = (expected(&self.sequence, &self.events, self.lateness, true), sorted(found.clone()));
        if right != wrong {
            return Err(about("at the end", &right, &wrong));
        }
        for rows in [2, 7, self.events.len()] {
            let (others, _) = self.found(pattern, rows);
            if others != found {
                return Err(about(&format!("in batches of {rows}"), &found, &others));
            }
        }
        Ok(found.len())
    }
}

#[test]
fn sequences_are_found_as_the_definition_says() {
    let first = seed("sequences_are_found_as_the_definition_says");
    let (mut findings, mut absences, count) = (0, 0, cases(2_000));
    for nth in 0..count {
        let case = case(&mut Random::new(first.wrapping_add(nth)));
        let found =
            case.differs(&case.pattern).unwrap_or_else(|difference| panic!("DYNAMIC_CEP_SEED={}: {difference}", first.wrapping_add(nth)));
        findings += found;
        absences += usize::from(found > 0 && case.sequence.absent.is_some());
    }
    eprintln!("{findings} findings, {absences} cases with an absence, in {count}");
    assert!(findings as u64 > count / 2 && absences as u64 > count / 20);
}

#[test]
fn an_absence_is_found_by_the_time_of_other_tenants() {
    let schema = Schema::parse("schema.yaml", format!("{SCHEMA}tenant: shop\n").as_bytes()).expect("a schema");
    let pattern = pattern(&schema, "WITHIN INTERVAL '1' MINUTE [kind = 'a'] THEN NOT [kind = 'b']");
    let rule = PatternRule { rule: RuleId(0), name: "".into(), tenant: Some("p".into()), pattern };
    let mut patterns = Patterns::new(schema.clone(), vec![rule], 0, StateLimits::default());
    let mut found = Vec::new();
    for (number, at, shop, wanted) in [(0, 0, "p", 0), (1, 59, "q", 0), (2, 60, "q", 1), (3, 61, "p", 1)] {
        let batch = batch(&schema, &[Event { number, at, card: None, shop, kind: "a", amount: None }]);
        let holds = patterns.conditions().judge(&schema, &batch);
        patterns.take(&batch, &holds, &[], &mut found, &mut Vec::new()).expect("all in memory");
        assert_eq!(found.len(), wanted, "after second {at}");
    }
}

/// A change of a pattern.
type Fault = (&'static str, fn(&mut Pattern));

/// Changes the steps that wait.
fn of_waits(pattern: &mut Pattern, change: fn(&mut Option<u16>, &mut Option<u16>, &mut [Option<u16>; 2])) {
    for step in &mut pattern.steps {
        if let Step::Await { label, also, except } = step {
            change(label, also, except);
        }
    }
}

#[test]
fn planted_faults_are_caught() {
    let faults: [Fault; 8] = [
        ("NOT is forgotten", |pattern| of_waits(pattern, |_, _, except| except[0] = None)),
        ("UNTIL is forgotten", |pattern| of_waits(pattern, |_, _, except| except[1] = None)),
        ("further rows of a step are passed over", |pattern| of_waits(pattern, |_, also, _| *also = None)),
        ("the step before is preferred", |pattern| {
            of_waits(pattern, |label, also, _| {
                if also.is_some() && label.is_some() {
                    std::mem::swap(label, also);
                }
            });
        }),
        ("rows must be adjacent", |pattern| {
            for step in &mut pattern.steps {
                if let Step::Await { label: Some(label), .. } = *step {
                    *step = Step::Take { label, excluded: false };
                }
            }
        }),
        ("an absence is not waited for", |pattern| {
            let end = pattern.steps.len() as u32 - 1;
            for step in &mut pattern.steps {
                if let Step::Await { label: None, .. } = *step {
                    *step = Step::Jump(end);
                }
            }
        }),
        ("WITHIN is inclusive", |pattern| pattern.within = pattern.within.map(|within| within + 1)),
        ("WITHIN is a second shorter", |pattern| pattern.within = pattern.within.map(|within| within - 1_000_000_000)),
    ];
    for (what, fault) in faults {
        let caught = (0..4_000).any(|seed| {
            let case = case(&mut Random::new(seed));
            let mut pattern = (*case.pattern).clone();
            fault(&mut pattern);
            pattern != *case.pattern && case.differs(&Arc::new(pattern)).is_err()
        });
        assert!(caught, "{what}");
    }
}
