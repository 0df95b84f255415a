//! Random patterns over random rows: the automaton against a matcher that tries every way in the order of preference, by the definition of the standard.

use super::capture::{Restored, SavedPatterns};
use super::finding::Finding;
use super::patterns::{Found, Limits, PatternRule, Patterns};
use super::progress::Troubles;
use crate::event::batch::canonical_type;
use crate::event::{EventBatch, Field, Schema, TimeUnit, Type, Value};
use crate::id::{FieldId, RuleId};
use crate::pattern::{Labels, Leaf, Pattern, Step};
use crate::rule::check::{Scope, pattern::pattern};
use crate::rule::lists::Lists;
use crate::rule::{Clause, Diagnostic, Limits as RuleLimits, Origin};
use arrow::array::{Array, ArrayRef, Int64Array, TimestampSecondArray};
use std::collections::HashMap;
use std::sync::Arc;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// A pattern as it is drawn.
#[derive(Clone, Debug)]
enum Term {
    Row(usize),
    Start,
    End,
    Sequence(Vec<Term>),
    Either(Vec<Term>),
    Repeated(Box<Term>, usize, Option<usize>, bool),
    Excluded(Box<Term>),
}

const NAMES: [&str; 4] = ["A", "B", "C", "D"];

/// A row of the partition: seconds, and a value that may be NULL.
type Plain = (i64, Option<i64>);

/// A condition as text, and as what it means: the rows, the first row of the match, and the variables so far with that of the row under test.
type Condition = (&'static str, fn(&[Plain], usize, &[usize]) -> bool);

fn last_of(rows: &[Plain], start: usize, labels: &[usize], label: usize, skip: usize) -> Option<i64> {
    let found = labels.iter().enumerate().rev().filter(|(_, of)| **of == label).nth(skip)?.0;
    rows[start + found].1
}

fn current(rows: &[Plain], start: usize, labels: &[usize]) -> Option<i64> {
    rows[start + labels.len() - 1].1
}

fn less(a: Option<i64>, b: Option<i64>) -> bool {
    a.zip(b).is_some_and(|(a, b)| a < b)
}

/// For each variable the conditions that it may have.
const CONDITIONS: [&[Condition]; 4] = [
    &[
        ("TRUE", |_, _, _| true),
        ("v > 2", |rows, start, labels| less(Some(2), current(rows, start, labels))),
        ("A.v > LAST(A.v, 1) OR LAST(A.v, 1) IS NULL", |rows, start, labels| {
            let before = last_of(rows, start, labels, 0, 1);
            less(before, current(rows, start, labels)) || before.is_none()
        }),
    ],
    &[
        ("v < PREV(v)", |rows, start, labels| {
            let at = start + labels.len() - 1;
            at > 0 && less(rows[at].1, rows[at - 1].1)
        }),
        ("B.v < 4", |rows, start, labels| less(current(rows, start, labels), Some(4))),
        ("COUNT(DISTINCT v) < 3", |rows, start, labels| {
            let seen: std::collections::BTreeSet<i64> = rows[start..start + labels.len()].iter().filter_map(|row| row.1).collect();
            seen.len() < 3
        }),
        ("B.v > LAST(A.v)", |rows, start, labels| less(last_of(rows, start, labels, 0, 0), current(rows, start, labels))),
    ],
    &[
        ("COUNT(A.*) < 3", |_, _, labels| labels.iter().filter(|label| **label == 0).count() < 3),
        ("C.v <= FIRST(v)", |rows, start, labels| rows[start].1.zip(current(rows, start, labels)).is_some_and(|(first, now)| now <= first)),
        ("SUM(C.v) < 9", |rows, start, labels| {
            let of: Vec<i64> =
                labels.iter().enumerate().filter(|(_, label)| **label == 2).filter_map(|(at, _)| rows[start + at].1).collect();
            !of.is_empty() && of.iter().sum::<i64>() < 9
        }),
    ],
    &[
        ("v IS NULL", |rows, start, labels| current(rows, start, labels).is_none()),
        ("NEXT(v) > v", |rows, start, labels| {
            let at = start + labels.len() - 1;
            rows.get(at + 1).is_some_and(|next| less(rows[at].1, next.1))
        }),
        ("CLASSIFIER() = 'D' AND PREV(CLASSIFIER(), 1) = 'A'", |_, _, labels| labels.len() > 1 && labels[labels.len() - 2] == 0),
    ],
];

/// A measure as text, and as what it means: the variable and the value of each row of the match, and how many of them there are up to the current one.
type Measured = (&'static str, fn(&[(usize, Option<i64>)], usize) -> Value);

fn text_or_null(text: String) -> Value {
    if text.is_empty() { Value::Null } else { Value::Text(text.into()) }
}

fn int_or_null(value: Option<i64>) -> Value {
    value.map_or(Value::Null, Value::Int)
}

const MEASURES: [Measured; 12] = [
    ("COUNT(*)", |_, seen| Value::Int(seen as i64)),
    ("SUM(v)", |rows, seen| int_or_null(rows[..seen].iter().filter_map(|row| row.1).reduce(|a, b| a + b))),
    ("AVG(v)", |rows, seen| {
        let values: Vec<i64> = rows[..seen].iter().filter_map(|row| row.1).collect();
        if values.is_empty() { Value::Null } else { Value::Float(values.iter().sum::<i64>() as f64 / values.len() as f64) }
    }),
    ("FINAL MAX(v)", |rows, _| int_or_null(rows.iter().filter_map(|row| row.1).max())),
    ("MIN(v) FILTER (WHERE CLASSIFIER() <> 'A')", |rows, seen| {
        int_or_null(rows[..seen].iter().filter(|row| row.0 != 0).filter_map(|row| row.1).min())
    }),
    ("COUNT(DISTINCT v)", |rows, seen| {
        let distinct: std::collections::BTreeSet<i64> = rows[..seen].iter().filter_map(|row| row.1).collect();
        Value::Int(distinct.len() as i64)
    }),
    ("LISTAGG(CLASSIFIER(), '')", |rows, seen| text_or_null(rows[..seen].iter().map(|row| NAMES[row.0]).collect())),
    ("MAX_BY(CLASSIFIER(), v)", |rows, seen| {
        let most = rows[..seen].iter().filter_map(|row| row.1).max();
        let first = rows[..seen].iter().find(|row| row.1.is_some() && row.1 == most);
        text_or_null(first.map_or(String::new(), |row| NAMES[row.0].to_owned()))
    }),
    ("MIN_BY(v, CLASSIFIER())", |rows, seen| {
        let least = rows[..seen].iter().map(|row| row.0).min();
        int_or_null(rows[..seen].iter().find(|row| Some(row.0) == least).and_then(|row| row.1))
    }),
    ("FIRST(v, 1)", |rows, seen| int_or_null(rows[..seen].get(1).and_then(|row| row.1))),
    ("FINAL LAST(v, 1)", |rows, _| int_or_null(rows.len().checked_sub(2).and_then(|at| rows[at].1))),
    ("PREV(CLASSIFIER())", |rows, seen| text_or_null(seen.checked_sub(2).map_or(String::new(), |at| NAMES[rows[at].0].to_owned()))),
];

fn drawn(random: &mut Random, depth: usize) -> Term {
    let inner = |random: &mut Random| drawn(random, depth + 1);
    let choice = if depth >= 3 { random.below(4) } else { random.below(11) };
    match choice {
        0..=3 => Term::Row(random.below(4) as usize),
        4..=6 => Term::Sequence((0..2 + random.below(2)).map(|_| inner(random)).collect()),
        7 => Term::Either((0..2 + random.below(2)).map(|_| inner(random)).collect()),
        8 | 9 => {
            let least = random.below(3) as usize;
            let most = (random.below(2) == 0).then(|| least.max(1) + random.below(2) as usize);
            Term::Repeated(Box::new(inner(random)), least, most, random.below(3) > 0)
        }
        _ => match random.below(6) {
            0 => Term::Start,
            1 => Term::End,
            _ => Term::Excluded(Box::new(inner(random))),
        },
    }
}

fn text(term: &Term) -> String {
    let all = |terms: &[Term], between: &str| terms.iter().map(text).collect::<Vec<_>>().join(between);
    match term {
        Term::Row(label) => NAMES[*label].to_owned(),
        Term::Start => "^".to_owned(),
        Term::End => "$".to_owned(),
        Term::Sequence(terms) => format!("({})", all(terms, " ")),
        Term::Either(terms) => format!("({})", all(terms, " | ")),
        Term::Excluded(inner) => format!("{{- {} -}}", text(inner)),
        Term::Repeated(inner, least, most, greedy) => {
            let most = most.map_or(String::new(), |most| most.to_string());
            format!("({}){{{least},{most}}}{}", text(inner), if *greedy { "" } else { "?" })
        }
    }
}

/// Tries every way; fails beyond a number of tries.
struct Backtracking<'a> {
    rows: &'a [Plain],
    conditions: [Condition; 4],
    start: usize,
    within: Option<i64>,
    tries: usize,
}

type Then<'t> = &'t mut dyn FnMut(&mut Backtracking<'_>, &mut Vec<(usize, bool)>) -> bool;

impl Backtracking<'_> {
    /// Whether `term` and then `then` match after what is taken. What is taken is left as the match has it.
    fn matches(&mut self, term: &Term, excluded: bool, taken: &mut Vec<(usize, bool)>, then: Then<'_>) -> bool {
        self.tries += 1;
        if self.tries > 20_000 {
            return false;
        }
        let at = self.start + taken.len();
        match term {
            Term::Start => at == 0 && then(self, taken),
            Term::End => at == self.rows.len() && then(self, taken),
            Term::Row(label) => {
                let in_time = |rows: &[Plain]| self.within.is_none_or(|within| rows[at].0 - rows[self.start].0 < within);
                if at >= self.rows.len() || !in_time(self.rows) {
                    return false;
                }
                taken.push((*label, excluded));
                let labels: Vec<usize> = taken.iter().map(|(label, _)| *label).collect();
                if (self.conditions[*label].1)(self.rows, self.start, &labels) && then(self, taken) {
                    return true;
                }
                taken.pop();
                false
            }
            Term::Sequence(terms) => match terms.split_first() {
                None => then(self, taken),
                Some((first, rest)) => {
                    let rest = Term::Sequence(rest.to_vec());
                    self.matches(first, excluded, taken, &mut |this, taken| this.matches(&rest, excluded, taken, then))
                }
            },
            Term::Either(terms) => terms.iter().any(|term| self.matches(term, excluded, taken, then)),
            Term::Excluded(inner) => self.matches(inner, true, taken, then),
            Term::Repeated(inner, least, most, greedy) => {
                let length = taken.len();
                let again = |this: &mut Backtracking<'_>, taken: &mut Vec<(usize, bool)>, then: Then<'_>| {
                    if *most == Some(0) {
                        return false;
                    }
                    let rest = Term::Repeated(inner.clone(), least.saturating_sub(1), most.map(|most| most - 1), *greedy);
                    this.matches(inner, excluded, taken, &mut |this, taken| {
                        // A repetition without bounds that takes no row is none: the way on is without it.
                        (taken.len() > length || *least > 0 || most.is_some()) && this.matches(&rest, excluded, taken, then)
                    })
                };
                if *least > 0 {
                    return again(self, taken, then);
                }
                (*greedy && again(self, taken, then)) || then(self, taken) || (!*greedy && again(self, taken, then))
            }
        }
    }
}

/// Where a match starts, and each row's variable and whether it is excluded.
type Match = (usize, Vec<(usize, bool)>);

/// The matches by the definition: start, and each row's variable and whether it is excluded. `None`: it takes too long.
fn expected(term: &Term, conditions: [Condition; 4], rows: &[Plain], within: Option<i64>, skip: &str) -> Option<Vec<Match>> {
    let mut found = Vec::new();
    let mut start = 0;
    while start < rows.len() {
        let mut search = Backtracking { rows, conditions, start, within, tries: 0 };
        let mut taken = Vec::new();
        let matched = search.matches(term, false, &mut taken, &mut |_, _| true);
        if search.tries > 20_000 {
            return None;
        }
        let mut next = start + 1;
        if matched {
            let of_a = |last: bool| {
                let mut of = taken.iter().enumerate().filter(|(_, (label, _))| *label == 0).map(|(at, _)| start + at);
                if last { of.next_back() } else { of.next() }
            };
            match skip {
                "PAST LAST ROW" => next = next.max(start + taken.len()),
                "TO FIRST A" => next = next.max(of_a(false).unwrap_or(0)),
                "TO LAST A" => next = next.max(of_a(true).unwrap_or(0)),
                _ => {}
            }
            found.push((start, taken));
        }
        start = next;
    }
    Some(found)
}

struct Case {
    text: String,
    pattern: Pattern,
    rows: Vec<Plain>,
    expected: Vec<Match>,
    /// Whether its first skip was refused.
    refused: bool,
}

/// `long`: of so many rows that they are not packed between two of them, which would end what is kept of ways.
fn case(seed: u64, long: bool) -> Option<Case> {
    let random = &mut Random(seed);
    let term = drawn(random, 0);
    let conditions: [Condition; 4] = std::array::from_fn(|label| {
        let of = CONDITIONS[label];
        of[random.below(of.len() as u64) as usize]
    });
    let skip = ["PAST LAST ROW", "TO NEXT ROW", "TO FIRST A", "TO LAST A"][random.below(4) as usize];
    let within = (random.below(2) == 0).then(|| 2 + random.below(12) as i64);
    let mut time = 0;
    let rows: Vec<Plain> = (0..if long { 90 } else { 1 + random.below(14) })
        .map(|_| {
            time += random.below(3) as i64;
            (time, (random.below(8) > 0).then(|| random.below(6) as i64))
        })
        .collect();
    let pattern_text = text(&term);
    let skip = if pattern_text.contains('A') { skip } else { "TO NEXT ROW" };
    let defines: Vec<String> = NAMES
        .iter()
        .zip(conditions)
        .filter(|(name, _)| pattern_text.contains(**name))
        .map(|(name, condition)| format!("{name} AS {}", condition.0))
        .collect();
    if defines.is_empty() || !pattern_text.contains('A') && defines.iter().any(|define| define.contains("A.")) {
        return None;
    }
    let within_text = within.map_or(String::new(), |within| format!(" WITHIN INTERVAL '{within}' SECOND"));
    let measures: Vec<String> = MEASURES.iter().enumerate().map(|(nth, (text, _))| format!("{text} AS m{nth}")).collect();
    let measures = measures.join(", ") + if long { ", PREV(v, 60) AS before" } else { "" };
    let text = |skip| {
        format!(
            "ORDER BY t MEASURES {measures} ALL ROWS PER MATCH AFTER MATCH SKIP {skip} PATTERN ({pattern_text}){within_text} DEFINE {}",
            defines.join(", ")
        )
    };
    let expected = expected(&term, conditions, &rows, within, skip)?;
    let (text, pattern, refused) = match typed(&text(skip)) {
        Ok(pattern) => (text(skip), pattern, false),
        // A skip that is refused would be to the next row, whatever the match.
        Err(diagnostics) => {
            assert_eq!(diagnostics[0].code, "skip-to-first-row", "{}: {}", text(skip), diagnostics[0]);
            (text("TO NEXT ROW"), typed(&text("TO NEXT ROW")).expect("a pattern"), true)
        }
    };
    Some(Case { pattern, text, rows, expected, refused })
}

fn schema() -> Schema {
    let fields = vec![Field { name: "t".to_owned(), ty: Type::Timestamp(TimeUnit::Second) }, Field { name: "v".to_owned(), ty: Type::Int }];
    let mut schema = Schema::new(fields).unwrap();
    schema.time = Some(FieldId::new(0));
    schema
}

fn typed(text: &str) -> Result<Pattern, Vec<Diagnostic>> {
    let (schema, lists, limits) = (schema(), Lists::default(), RuleLimits::default());
    let scope = Scope { schema: &schema, lists: &lists, parameters: &[], limits: &limits, windows: &[] };
    pattern(text, Clause::MatchRecognize, &Origin::default(), None, &scope)
}

fn batch(rows: &[Plain], first: usize) -> EventBatch {
    let times: TimestampSecondArray = rows.iter().map(|row| Some(row.0)).collect();
    let values: Int64Array = rows.iter().map(|row| row.1).collect();
    let columns: Vec<Option<ArrayRef>> = vec![Some(Arc::new(times)), Some(Arc::new(values))];
    assert!(columns.iter().flatten().zip(schema().fields()).all(|(column, field)| *column.data_type() == canonical_type(field.ty)));
    EventBatch::new(&schema(), first as u64, rows.len(), columns)
}

/// What patterns find together when the rows come in pieces of `piece`: of each its own.
fn found(patterns: &[&Pattern], rows: &[Plain], piece: usize, limits: Limits) -> (Vec<Vec<Finding>>, Patterns) {
    let mut running = Patterns::new(schema(), rules(patterns), 0, limits);
    let (mut all, mut late) = (Vec::new(), Vec::new());
    for (nth, rows) in rows.chunks(piece).enumerate() {
        let batch = batch(rows, nth * piece);
        let holds = running.conditions().judge(&schema(), &batch);
        running.take(&batch, &holds, &[], &mut all, &mut late).unwrap();
    }
    running.finish(&mut all).unwrap();
    assert!(late.is_empty());
    let mut found = vec![Vec::new(); patterns.len()];
    all.into_iter().for_each(|one| found[one.rule.index()].push(one.finding));
    (found, running)
}

/// The same of one pattern.
fn found_by(pattern: &Pattern, rows: &[Plain], piece: usize) -> Vec<Finding> {
    let (mut found, running) = found(&[pattern], rows, piece, Limits::default());
    let Troubles { given_up, over_key, over_tenant, .. } = running.counters().troubles;
    assert_eq!((given_up, over_key, over_tenant), (0, 0, 0));
    found.remove(0)
}

/// The findings that matches give with `ALL ROWS PER MATCH`: match, row, variable.
fn rows_of(matches: &[Match]) -> Vec<(u64, u64, Option<String>)> {
    let mut rows = Vec::new();
    for (number, (start, taken)) in (1..).zip(matches) {
        if taken.is_empty() {
            rows.push((number, *start as u64, None));
        }
        for (at, (label, excluded)) in taken.iter().enumerate() {
            if !excluded {
                rows.push((number, (start + at) as u64, Some(NAMES[*label].to_owned())));
            }
        }
    }
    rows
}

/// Their measures.
fn measures_of(matches: &[Match], rows: &[Plain]) -> Vec<Vec<Value>> {
    let mut told = Vec::new();
    for (start, taken) in matches {
        let of: Vec<(usize, Option<i64>)> = taken.iter().enumerate().map(|(at, (label, _))| (*label, rows[start + at].1)).collect();
        let put_out = taken.iter().enumerate().filter(|(_, (_, excluded))| !excluded).map(|(at, _)| at + 1);
        for seen in put_out.chain(taken.is_empty().then_some(0)) {
            told.push(MEASURES.iter().map(|(_, value)| value(&of, seen)).collect());
        }
    }
    told
}

fn told(findings: &[Finding], pattern: &Pattern) -> Vec<(u64, u64, Option<String>)> {
    let name = |label: u16| pattern.labels[usize::from(label)].to_string();
    findings.iter().map(|finding| (finding.match_number.unwrap_or(0), finding.row, finding.label.map(name))).collect()
}

/// Cases whose answer is known, so many of them.
fn cases(count: usize) -> impl Iterator<Item = Case> {
    let seed = std::env::var("DYNAMIC_CEP_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1_u64);
    (0..).filter_map(move |nth: u64| case(seed.wrapping_mul(1_000_003).wrapping_add(nth), false)).take(count)
}

#[test]
fn what_is_kept_of_ways_changes_nothing() {
    let mut rows = 0;
    for case in (0..).filter_map(|seed| case(seed, true)).take(600) {
        let findings = found_by(&case.pattern, &case.rows, case.rows.len());
        assert_eq!(told(&findings, &case.pattern), rows_of(&case.expected), "{}, over {:?}", case.text, case.rows);
        for (finding, measures) in findings.iter().zip(measures_of(&case.expected, &case.rows)) {
            assert_eq!(finding.measures[..MEASURES.len()], measures, "{}, over {:?}", case.text, case.rows);
        }
        rows += findings.len();
    }
    assert!(rows > 10_000, "{rows} rows");
}

#[test]
fn the_automaton_finds_what_the_definition_says() {
    let (mut matches, mut rows, mut refused) = (0, 0, 0);
    for case in cases(4000) {
        let expected = rows_of(&case.expected);
        for piece in [usize::MAX, 1, 2, 7] {
            let findings = found_by(&case.pattern, &case.rows, piece.min(case.rows.len()));
            assert_eq!(told(&findings, &case.pattern), expected, "pieces of {piece}: {}, over {:?}", case.text, case.rows);
            let measures: Vec<Vec<Value>> = findings.into_iter().map(|finding| finding.measures).collect();
            assert_eq!(measures, measures_of(&case.expected, &case.rows), "pieces of {piece}: {}, over {:?}", case.text, case.rows);
        }
        matches += case.expected.len();
        rows += expected.len();
        refused += usize::from(case.refused && !case.expected.is_empty());
    }
    assert!(matches > 4000 && rows > 4000, "{matches} matches of {rows} rows");
    assert!(refused > 100, "{refused} cases whose skip never moves");
}

#[test]
fn an_automaton_with_a_fault_is_caught() {
    // Every split prefers the other way.
    let differs = |change: fn(&mut Step)| {
        cases(300).any(|mut case| {
            case.pattern.steps.iter_mut().for_each(change);
            told(&found_by(&case.pattern, &case.rows, case.rows.len()), &case.pattern) != rows_of(&case.expected)
        })
    };
    assert!(!differs(|_| {}));
    assert!(differs(|step| {
        if let Step::Split { first, second } = step {
            std::mem::swap(first, second);
        }
    }));
    assert!(differs(|step| {
        if let Step::Take { excluded, .. } = step {
            *excluded = false;
        }
    }));
    assert!(differs(|step| {
        if *step == Step::Start {
            *step = Step::End;
        }
    }));
}

#[test]
fn a_measure_with_a_fault_is_caught() {
    let differ = |change: fn(&mut Leaf)| {
        // For each measure, whether it is noticed.
        let mut noticed = [false; MEASURES.len()];
        for mut case in cases(300) {
            case.pattern.measures.iter_mut().flat_map(|measure| &mut measure.formula.leaves).for_each(change);
            let expected = measures_of(&case.expected, &case.rows);
            for (finding, expected) in found_by(&case.pattern, &case.rows, case.rows.len()).iter().zip(&expected) {
                noticed.iter_mut().zip(finding.measures.iter().zip(expected)).for_each(|(noticed, (a, b))| *noticed |= a != b);
            }
        }
        noticed.iter().filter(|noticed| **noticed).count()
    };
    assert_eq!(differ(|_| {}), 0);
    // RUNNING and FINAL changed for each other.
    assert_eq!(
        differ(|leaf| match leaf {
            Leaf::Value { navigation, .. } => navigation.running ^= true,
            Leaf::Aggregate { running, .. } => *running ^= true,
            Leaf::MatchNumber => {}
        }),
        MEASURES.len()
    );
    assert!(
        differ(|leaf| match leaf {
            Leaf::Value { navigation, .. } => navigation.labels = Labels::Of(vec![0]),
            Leaf::Aggregate { labels, .. } => *labels = Labels::Of(vec![0]),
            Leaf::MatchNumber => {}
        }) >= MEASURES.len() - 1
    );
}

#[test]
fn patterns_do_not_see_each_other() {
    let cases: Vec<Case> = cases(400).collect();
    for (nth, some) in cases.chunks(20).enumerate() {
        let patterns: Vec<&Pattern> = some.iter().map(|case| &case.pattern).collect();
        let rows = &some[nth % some.len()].rows;
        let (together, _) = found(&patterns, rows, 1 + nth % 3, Limits::default());
        for (case, findings) in some.iter().zip(together) {
            assert_eq!(findings, found_by(&case.pattern, rows, rows.len()), "{}, over {rows:?}", case.text);
        }
    }
}

/// The state of patterns as bytes: what a snapshot holds.
fn saved(patterns: &mut Patterns) -> (SavedPatterns, HashMap<(String, usize), Vec<u8>>) {
    let head = patterns.begin_capture();
    let head = serde_json::from_str(&serde_json::to_string(&head).unwrap()).unwrap();
    let chunks = std::iter::from_fn(|| patterns.capture().unwrap());
    (head, chunks.map(|chunk| ((chunk.part.clone(), chunk.number), chunk.encode())).collect())
}

/// Patterns `rules` that go on from what was saved, spoilt by `fault`.
fn resumed(
    rules: Vec<PatternRule>,
    head: &SavedPatterns,
    chunks: &HashMap<(String, usize), Vec<u8>>,
    fault: impl Fn(&str, &mut Vec<u8>),
) -> Result<Restored, String> {
    Patterns::restored(schema(), rules, 0, Limits::default(), None, head, &mut |part, number| {
        let mut bytes = chunks.get(&(part.to_owned(), number)).cloned().ok_or("a chunk is missing")?;
        fault(part, &mut bytes);
        Ok(bytes)
    })
}

/// The findings of `rules` where the state is saved and restored after `cut` rows; those before and after.
fn cut(rules: &[PatternRule], rows: &[Plain], cut: usize, piece: usize, fault: impl Fn(&str, &mut Vec<u8>)) -> Result<Vec<Found>, String> {
    let mut running = Patterns::new(schema(), rules.to_vec(), 0, Limits::default());
    let mut found = Vec::new();
    let mut take = |running: &mut Patterns, rows: &[Plain], first: usize| {
        for (nth, rows) in rows.chunks(piece).enumerate() {
            let batch = batch(rows, first + nth * piece);
            let holds = running.conditions().judge(&schema(), &batch);
            running.take(&batch, &holds, &[], &mut found, &mut Vec::new()).unwrap();
        }
    };
    take(&mut running, &rows[..cut], 0);
    let (head, chunks) = saved(&mut running);
    let Restored { patterns: mut running, kept, dropped } = resumed(rules.to_vec(), &head, &chunks, fault)?;
    assert_eq!((kept.len(), dropped.len()), (rules.len(), 0));
    take(&mut running, &rows[cut..], cut);
    running.finish(&mut found).unwrap();
    Ok(found)
}

/// Patterns as rules.
fn rules(patterns: &[&Pattern]) -> Vec<PatternRule> {
    let rule = |(number, pattern): (usize, &&Pattern)| PatternRule {
        rule: RuleId::new(number),
        name: number.to_string().into(),
        tenant: None,
        pattern: Arc::new((*pattern).clone()),
    };
    patterns.iter().enumerate().map(rule).collect()
}

#[test]
fn a_cut_changes_nothing() {
    let cases: Vec<Case> = cases(600).collect();
    for (nth, some) in cases.chunks(3).enumerate() {
        let patterns: Vec<&Pattern> = some.iter().map(|case| &case.pattern).collect();
        let (rules, rows) = (rules(&patterns), &some[0].rows);
        let whole = cut(&rules, rows, 0, rows.len(), |_, _| {}).unwrap();
        for at in 0..=rows.len() {
            let piece = [1, 2, 7, rows.len()][(nth + at) % 4];
            let found = cut(&rules, rows, at, piece, |_, _| {}).unwrap();
            assert_eq!(found, whole, "cut after {at} of {rows:?}: {}, {}", some[0].text, some[some.len() - 1].text);
        }
    }
}

/// What is read may be anything, though its checksums are right.
#[test]
fn forged_state_is_refused_or_goes_on() {
    let (mut refused, mut went_on) = (0, 0);
    for (nth, case) in cases(400).enumerate() {
        let rules = rules(&[&case.pattern]);
        for turn in 0..8_u64 {
            let mut state = (nth as u64 * 8 + turn).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let forge = |part: &str, bytes: &mut Vec<u8>| {
                // Slot and key of the first partition are looked at elsewhere.
                if bytes.len() > 20 && part.ends_with("rest") == (turn == 0) {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let at = 8 + (state >> 20) as usize % (bytes.len() - 8);
                    bytes[at] ^= 1 << (state >> 12 & 7);
                }
            };
            let forge = std::cell::RefCell::new(forge);
            match cut(&rules, &case.rows, case.rows.len() / 2, 1, |part, bytes| forge.borrow_mut()(part, bytes)) {
                Ok(_) => went_on += 1,
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 100 && went_on > 100, "{refused} refused, {went_on} went on");
}

#[test]
fn a_fault_in_what_was_saved_is_noticed() {
    let cases: Vec<Case> = cases(200).collect();
    let differs = |fault: &dyn Fn(&str, &mut Vec<u8>)| {
        cases.iter().any(|case| {
            let rules = rules(&[&case.pattern]);
            let whole = cut(&rules, &case.rows, 0, 1, |_, _| {}).unwrap();
            cut(&rules, &case.rows, case.rows.len() / 2, 1, fault).is_ok_and(|found| found != whole)
        })
    };
    assert!(!differs(&|_, _| {}));
    assert!(
        !differs(&|part, bytes| if part.ends_with("keys") {
            bytes.clear();
        }),
        "lost partitions are told"
    );
    // The first row that is held has another number: behind slot, length, key and whether somebody searches come the number of the first row and how many there are.
    assert!(differs(&|part, bytes| if part.ends_with("keys") {
        let length = 1 + usize::from(bytes[1] >= 0x80);
        bytes[9 + length] ^= 1;
    }));
    for length in [0, 1, 40] {
        assert!(!differs(&|_, bytes| bytes.truncate(length)), "pieces of chunks are told");
    }
}

#[test]
fn state_outlives_other_rules() {
    let greedy = typed("PARTITION BY v ORDER BY t MEASURES COUNT(*) AS n PATTERN (A{3}) DEFINE A AS v > 1").unwrap();
    let other = typed("PARTITION BY v ORDER BY t MEASURES COUNT(*) AS n PATTERN (A B) DEFINE A AS v > 0, B AS v > 2").unwrap();
    let changed = typed("PARTITION BY v ORDER BY t MEASURES COUNT(*) AS n PATTERN (A{2}) DEFINE A AS v > 1").unwrap();
    let rows: Vec<Plain> = (0..40).map(|time| (time, Some(time % 5))).collect();
    let named = |names: &[(&str, &Pattern)]| -> Vec<PatternRule> {
        let mut rules = rules(&names.iter().map(|(_, pattern)| *pattern).collect::<Vec<_>>());
        rules.iter_mut().zip(names).for_each(|(rule, (name, _))| rule.name = (*name).into());
        rules
    };
    let before = named(&[("other", &other), ("greedy", &greedy)]);
    let mut running = Patterns::new(schema(), before, 0, Limits::default());
    let first = batch(&rows[..23], 0);
    let holds = running.conditions().judge(&schema(), &first);
    running.take(&first, &holds, &[], &mut Vec::new(), &mut Vec::new()).unwrap();
    let (head, chunks) = saved(&mut running);
    let rest = |rules: Vec<PatternRule>| {
        let Restored { mut patterns, kept, dropped } = resumed(rules, &head, &chunks, |_, _| {}).unwrap();
        let (second, mut found) = (batch(&rows[23..], 23), Vec::new());
        let holds = patterns.conditions().judge(&schema(), &second);
        patterns.take(&second, &holds, &[], &mut found, &mut Vec::new()).unwrap();
        patterns.finish(&mut found).unwrap();
        (kept, dropped, found)
    };
    let of = |found: &[Found], rule: usize| -> Vec<Finding> {
        found.iter().filter(|found| found.rule == RuleId::new(rule)).map(|found| found.finding.clone()).collect()
    };
    let (_, _, same) = rest(named(&[("other", &other), ("greedy", &greedy)]));
    // In another place, among others: what it finds is the same.
    let (kept, dropped, moved) = rest(named(&[("new", &changed), ("greedy", &greedy)]));
    assert_eq!((kept.as_slice(), dropped.as_slice()), (&["greedy".into()][..], &["other".to_owned()][..]));
    assert_eq!(of(&moved, 1), of(&same, 1));
    assert!(!of(&same, 1).is_empty());
    // One that has changed begins anew.
    let (kept, dropped, anew) = rest(named(&[("greedy", &changed)]));
    assert_eq!((kept.len(), dropped.len()), (0, 2));
    let alone = found(&[&changed], &rows[23..], 100, Limits::default()).0.remove(0);
    let rows_of = |findings: Vec<Finding>, first: u64| findings.iter().map(|finding| finding.row - first).collect::<Vec<_>>();
    assert_eq!(rows_of(of(&anew, 0), 23), rows_of(alone, 0));
}

#[test]
fn nested_repetitions_do_not_explode() {
    let pattern = typed("ORDER BY t PATTERN (((A+)+)+ B) DEFINE A AS v = 1, B AS v = 2").unwrap();
    let rows: Vec<Plain> = (0..2000).map(|time| (time, Some(1))).chain([(2000, Some(2))]).collect();
    let findings = found_by(&pattern, &rows, rows.len());
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].rows, Some((0, 2000)));
}

/// What is kept of a way for its next rows is not taken for that of another search, which has as many.
#[test]
fn a_search_knows_nothing_of_the_one_before() {
    // So many rows are held that the partition is not packed, which would end what is kept.
    let clause = "ORDER BY t MEASURES PREV(v, 500) AS p PATTERN ((A | C) B) DEFINE A AS v > 2, C AS v < 3, B AS COUNT(A.*) = 0";
    let rows: Vec<Plain> = (0..600).map(|time| (time, None)).chain([(600, Some(5)), (601, Some(1)), (602, Some(9))]).collect();
    let findings = found_by(&typed(clause).unwrap(), &rows, rows.len());
    assert_eq!(findings.iter().map(|finding| finding.rows).collect::<Vec<_>>(), [Some((601, 602))]);
}

/// What aggregates and LAST know of a match's rows is not asked for again with each further one: that would be 1,800,000,000 rows here.
#[test]
fn long_matches_are_looked_at_once() {
    let pattern = typed(
        "ORDER BY t MEASURES SUM(v) AS s, AVG(v) AS m ALL ROWS PER MATCH PATTERN (A+ B)
         DEFINE A AS SUM(A.v) < 40000 AND LAST(A.v, 1) IS NOT DISTINCT FROM NULLIF(COUNT(*), 1) * 0 + 1, B AS MIN(A.v) = B.v - 1",
    )
    .unwrap();
    let rows: Vec<Plain> = (0..30_000).map(|time| (time, Some(1))).chain([(30_000, Some(2))]).collect();
    let findings = found_by(&pattern, &rows, rows.len());
    assert_eq!(findings.len(), 30_001);
    assert_eq!(findings[29_999].measures, [Value::Int(30_000), Value::Float(1.0)]);
    assert_eq!(findings[30_000].measures[0], Value::Int(30_002));
}

#[test]
fn what_begins_no_match_is_not_held() {
    let pattern = typed("PARTITION BY v ORDER BY t PATTERN (A B) WITHIN INTERVAL '10' SECOND DEFINE A AS v > 100, B AS v > 100").unwrap();
    let rows: Vec<Plain> = (0..1000).map(|time| (time, Some(time % 100))).collect();
    let (_, running) = found(&[&pattern], &rows[..999], 7, Limits::default());
    assert_eq!((running.held().unwrap(), running.partitions()), (0, 0));
    // Keys that begin a match and do not return are let go once it is too late for it.
    let rows: Vec<Plain> = (0..1000).map(|time| (time, Some(time + 101))).collect();
    let mut running = Patterns::new(
        schema(),
        vec![PatternRule { rule: RuleId::new(0), name: "a".into(), tenant: None, pattern: Arc::new(pattern) }],
        0,
        Limits::default(),
    );
    for (nth, rows) in rows.chunks(10).enumerate() {
        let batch = batch(rows, nth * 10);
        let holds = running.conditions().judge(&schema(), &batch);
        running.take(&batch, &holds, &[], &mut Vec::new(), &mut Vec::new()).unwrap();
        assert!(
            running.held().unwrap() <= 10 && running.partitions() <= 10,
            "{} rows of {}",
            running.held().unwrap(),
            running.partitions()
        );
    }
    assert_eq!((running.held().unwrap(), running.partitions()), (10, 10));
}

#[test]
fn a_limit_stops_one_rule_for_one_key() {
    let greedy = typed("PARTITION BY v ORDER BY t PATTERN (A+ B) DEFINE A AS v < 5, B AS v > 100").unwrap();
    let other = typed("PARTITION BY v ORDER BY t PATTERN (A A) DEFINE A AS v >= 0").unwrap();
    let rows: Vec<Plain> = (0..2000).map(|time| (time, Some(if time % 2 == 0 { 1 } else { 7 }))).collect();
    let free = found(&[&other], &rows, 100, Limits::default()).0;
    let per_key = Limits { key_bytes: 15_000, ..Limits::default() };
    let (found_then, running) = found(&[&greedy, &other], &rows, 100, per_key);
    assert_eq!(found_then[1], free[0], "another rule is not disturbed");
    let counters = running.counters().troubles;
    assert!(counters.over_key > 5 && counters.over_tenant == 0, "{counters:?}");
    assert_eq!(running.troubles().map(|(rule, _)| rule).collect::<Vec<_>>(), [RuleId::new(0)]);
    let of_all = Limits { tenant_bytes: 15_000, ..Limits::default() };
    let (_, running) = found(&[&greedy, &other], &rows, 100, of_all);
    assert!(running.counters().troubles.over_tenant > 5);
    let steps = Limits { steps: 1000, ..Limits::default() };
    let (found_then, running) = found(&[&greedy, &other], &rows, 100, steps);
    assert_eq!(found_then[1], free[0]);
    assert!(running.counters().troubles.given_up > 0 && running.held().unwrap() < 1000, "{:?}", running.counters());
}

/// A tenant's limit counts for each way of partitioning by itself, so that what one gives up does not depend on when the other was asked, which batches decide.
#[test]
fn limits_do_not_depend_on_batches() {
    let by_value = typed("PARTITION BY v ORDER BY t PATTERN (A+ B) DEFINE A AS v < 5, B AS v > 100").unwrap();
    let of_all = typed("ORDER BY t PATTERN (A+ B) DEFINE A AS v < 8, B AS v > 8").unwrap();
    let rows: Vec<Plain> = (0..3000).map(|time| (time, Some(if time % 700 == 0 { 9 } else { time % 8 }))).collect();
    let limits = Limits { tenant_bytes: 15_000, ..Limits::default() };
    let (found_one_by_one, running) = found(&[&by_value, &of_all], &rows, 1, limits);
    let troubles: Vec<_> = running.troubles().collect();
    assert!(troubles.len() == 2 && troubles.iter().all(|(_, troubles)| troubles.over_tenant > 2), "{troubles:?}");
    for piece in [7, 100, 3000] {
        let (found_then, running) = found(&[&by_value, &of_all], &rows, piece, limits);
        assert_eq!(
            (found_then, running.troubles().collect::<Vec<_>>()),
            (found_one_by_one.clone(), troubles.clone()),
            "{piece} rows a batch"
        );
    }
    let alone = found(&[&by_value], &rows, 100, limits).1;
    assert_eq!(alone.troubles().next().map(|(_, of)| of), Some(troubles[0].1), "the other pattern takes nothing of it");
}
