//! Faults planted in every stage. The comparison that the differential tests rely on must notice each of them.

use crate::compare::{Engines, Match, artifact_of, compare, reference_of};
use crate::forge::edited;
use crate::random::Random;
use arrow::array::{ArrayRef, DictionaryArray, Float64Array, Int64Array};
use arrow::datatypes::Int32Type;
use dynamic_cep::event::{EventBatch, Field, Schema, Type};
use dynamic_cep::expr::columns::Cache;
use dynamic_cep::flow::EncodedBatch;
use dynamic_cep::id::FieldId;
use dynamic_cep::reference::Reference;
use dynamic_cep::rule::{Action, Limits, Origin, Rule, Status};
use dynamic_cep::tables::artifact::Section;
use dynamic_cep::tables::layout::{IMPOSSIBLE, LANES, NONE};
use dynamic_cep::tables::{Artifact, MatchTables, Node, Partition};
use std::sync::Arc;

/// Rules and a batch in which every code of every column occurs, beside every code of the others: whatever a slot lets through wrongly, or keeps out, shows.
struct Dense {
    schema: Schema,
    rules: Vec<Rule>,
    batch: EventBatch,
    artifact: Vec<u8>,
    reference: Reference,
}

impl Dense {
    fn new() -> Self {
        let field = |name: &str, ty| Field { name: name.to_owned(), ty };
        let mut schema = Schema::new(vec![field("i", Type::Int), field("f", Type::Float), field("t", Type::Text)]).unwrap();
        schema.tenant = Some(FieldId(2));
        let long: Vec<String> = (0..20).map(|nth| (nth * 2).to_string()).collect();
        let mut conditions = vec![
            format!("i IN ({})", long.join(", ")),
            format!("i NOT IN ({}) AND f >= 1", long.join(", ")),
            format!("f > 2 AND (i IN ({}) OR i IS NULL)", long.join(", ")),
            "i <> 4".to_owned(),
            "NOT (i BETWEEN 4 AND 8) OR i IS NULL".to_owned(),
            "t IN ('a', 'b') AND i < 8".to_owned(),
            "t NOT IN ('a', 'c') AND f = 1.5".to_owned(),
            "i IS NULL AND f IS NULL".to_owned(),
            "i = 4 AND f >= 1 AND f < 3 AND t = 'b'".to_owned(),
            "i + 1 > 6 AND f < 2".to_owned(),
        ];
        for nth in 0..40 {
            conditions.push(format!("i >= {} AND i < {} AND f <= {}", nth % 7 * 2, nth % 7 * 2 + 4, nth % 3));
        }
        let rules: Vec<Rule> = conditions.into_iter().enumerate().map(|(nth, when)| rule(nth, when)).collect();
        let integers: Vec<Option<i64>> = (-1..=39).map(Some).chain([None]).collect();
        let floats = [
            None,
            Some(-1.0),
            Some(0.0),
            Some(0.5),
            Some(1.0),
            Some(1.2),
            Some(1.5),
            Some(1.7),
            Some(2.0),
            Some(2.5),
            Some(3.0),
            Some(9.0),
        ];
        let texts = [None, Some("a"), Some("b"), Some("c"), Some("d")];
        // Every pair of values of any two columns, by strides that have no common divisor.
        let rows = 42 * 12;
        let (mut i, mut f, mut t) = (Vec::new(), Vec::new(), Vec::new());
        for row in 0..rows * texts.len() {
            i.push(integers[row % 42]);
            f.push(floats[row / 42 % 12]);
            t.push(texts[row / rows]);
        }
        let columns: Vec<Option<ArrayRef>> = vec![
            Some(Arc::new(Int64Array::from(i))),
            Some(Arc::new(Float64Array::from(f))),
            Some(Arc::new(t.into_iter().collect::<DictionaryArray<Int32Type>>())),
        ];
        let batch = EventBatch::new(&schema, 0, rows * texts.len(), columns);
        let artifact = artifact_of(&schema, &rules, &Limits::default(), 1);
        let reference = reference_of(&artifact);
        Self { schema, rules, batch, artifact, reference }
    }

    fn notices(&self, mut engines: Engines) -> bool {
        compare(&self.rules, &self.reference, &mut engines, &self.batch).is_err()
    }
}

fn rule(nth: usize, when: String) -> Rule {
    Rule {
        id: format!("rule-{nth}").into(),
        tenant: (nth % 5 == 4).then(|| "a".into()),
        when: when.into(),
        origin: Origin::default(),
        parameters: Vec::new(),
        score: 1000 + nth as i64,
        action: Action::Review,
        status: if nth % 7 == 6 { Status::Shadow } else { Status::Live },
        tags: Vec::new(),
        outcome: None,
        clause: dynamic_cep::rule::Clause::default(),
        tests: Vec::new(),
    }
}

#[test]
fn without_a_fault_nothing_is_noticed() {
    let dense = Dense::new();
    let engines = Engines::on_cpu(&dense.artifact);
    let tables = engines.generation.artifact().tables();
    assert!(!tables.nodes.is_empty() && !tables.set_tests.is_empty() && tables.groups.iter().any(|group| group.slots[2] != NONE));
    assert!(!dense.notices(engines));
}

/// The rows for which the term in this lane holds.
fn rows_of(tables: &MatchTables, encoded: &EncodedBatch, group: usize, lane: usize, partition: usize) -> Vec<usize> {
    let tail = tables.tail((group * LANES + lane) as u32);
    (0..encoded.rows)
        .filter(|row| partition == 0 || encoded.partitions[*row] as usize == partition)
        .filter(|row| {
            let codes = encoded.row(*row);
            let mut slots = tables.groups[group].chain(tables.leaf_slots);
            slots.all(|slot| slot.test(codes) >> lane & 1 == 1) && tail.is_none_or(|tail| tables.tail_holds(tail, codes))
        })
        .collect()
}

/// Bits of slots of lanes in use: a flip is noticed exactly where it changes the rows that the slot's term holds for.
#[test]
fn flipped_bits_of_slots_are_noticed() {
    let dense = Dense::new();
    let engines = Engines::on_cpu(&dense.artifact);
    let tables = engines.generation.artifact().tables();
    let encoded = engines.generation.encode(&dense.batch, &mut Cache::new());
    let terms_of = |rule: u32| tables.term_rules.iter().filter(|of| **of == rule).count();
    let random = &mut Random::new(7);
    let (mut harmful, mut harmless) = (0, 0);
    while harmful < 60 {
        let group = random.below(tables.groups.len());
        let (lane, bit) = (random.below(LANES), random.below(16));
        let rule = tables.term_rules[group * LANES + lane];
        let chain: Vec<u32> = tables.groups[group].slots.into_iter().filter(|slot| *slot != NONE).collect();
        let at = *random.pick(&chain) as usize;
        let has_residual = tables.tail((group * LANES + lane) as u32).is_some_and(|tail| tail.residual != NONE);
        let is_shared = tables.groups.iter().filter(|group| group.slots.contains(&(at as u32))).count() > 1;
        // Where a rule has other terms, or a residual, those may hide what a slot does; so may the summaries, where other groups have the slot, too.
        if rule == NONE || has_residual || is_shared || terms_of(rule) > 1 || tables.leaf_slots[at].span[lane] == u16::MAX {
            continue;
        }
        let mut slots = tables.leaf_slots.to_vec();
        let of_low = random.one_in(2);
        let flipped = if of_low { &mut slots[at].low[lane] } else { &mut slots[at].span[lane] };
        *flipped ^= 1 << bit;
        let holds_segments = |partition: &Partition| {
            let first = partition.first_segment as usize;
            let segments = &tables.segments[first..first + partition.segments as usize];
            segments.iter().any(|segment| (segment.first_group..segment.first_group + segment.groups).contains(&(group as u32)))
        };
        let partition = tables.partitions.iter().position(holds_segments).expect("every group belongs to a partition");
        let altered = MatchTables { leaf_slots: &slots, ..tables };
        let differs = rows_of(&tables, &encoded, group, lane, partition) != rows_of(&altered, &encoded, group, lane, partition);
        if !differs && harmless > 15 {
            continue;
        }
        let forged = edited(&dense.artifact, Section::LeafSlots, |bytes| bytes.copy_from_slice(bytemuck::cast_slice(&slots)));
        *if differs { &mut harmful } else { &mut harmless } += 1;
        let noticed = dense.notices(Engines::on_cpu(&forged));
        assert_eq!(noticed, differs, "group {group}, slot {at}, lane {lane}, bit {bit}, low: {of_low}");
    }
}

#[test]
fn faults_in_other_tables_are_noticed() {
    let dense = Dense::new();
    let engines = Engines::on_cpu(&dense.artifact);
    let tables = engines.generation.artifact().tables();
    // A summary that hides a child.
    for (node, summary) in tables.nodes.iter().enumerate() {
        for lane in (0..LANES).filter(|lane| summary.slots[0].low[*lane] != IMPOSSIBLE) {
            let mut blind = *summary;
            (blind.slots[0].low[lane], blind.slots[0].span[lane]) = (IMPOSSIBLE, 0);
            let size = size_of::<Node>();
            let forged = edited(&dense.artifact, Section::Nodes, |bytes| {
                bytes[node * size..][..size].copy_from_slice(bytemuck::bytes_of(&blind));
            });
            assert!(dense.notices(Engines::on_cpu(&forged)), "node {node}, lane {lane}");
        }
    }
    // One bit each: bounds of lists, codes of thresholds, the thresholds themselves, terms' rules, scores.
    let point = tables.intervals.iter().position(|[low, high]| low == high).expect("a list of constants");
    // A low end that is set higher, and a high end that is set lower: the point is no longer in.
    let (higher, lower) = (tables.intervals[point][0].trailing_ones(), tables.intervals[point][1].trailing_zeros());
    let terms: Vec<usize> = (0..tables.term_rules.len()).filter(|term| tables.term_rules[*term] != NONE).collect();
    for (section, word, bit) in [
        (Section::Intervals, point * 2, higher),
        (Section::Intervals, point * 2 + 1, lower),
        (Section::Steps, 0, 20),
        (Section::Steps, tables.steps.len() - 1, 24),
        (Section::NarrowKeys, 2, 0),
        (Section::TextBytes, 0, 1),
        (Section::TermRules, terms[3], 0),
        (Section::TermRules, terms[terms.len() / 2], 1),
        (Section::Rules, 2, 0),
        (Section::Rules, 16, 2),
    ] {
        let forged = edited(&dense.artifact, section, |bytes| bytes[word * 4 + bit as usize / 8] ^= 1 << (bit % 8));
        // Some are noticed on opening.
        assert!(
            Artifact::from_bytes(&forged).is_err() || dense.notices(Engines::on_cpu(&forged)),
            "section {section:?}, word {word}, bit {bit}"
        );
    }
}

/// What a faulty normal form would do: the engines get rules that say something slightly different.
#[test]
fn faults_in_the_normal_form_are_noticed() {
    let dense = Dense::new();
    for (from, to) in [
        (" < ", " <= "),
        (" >= ", " > "),
        (" <= ", " < "),
        ("NOT IN", "IN"),
        ("IS NULL AND", "IS NOT NULL AND"),
        ("i <> 4", "i <> 4 OR i IS NULL"),
        ("f >= 1 AND f < 3", "f >= 1 OR f < 3"),
        ("BETWEEN 4 AND 8", "BETWEEN 4 AND 7"),
        (" OR i IS NULL", ""),
        ("20, ", ""),
        ("i + 1 > 6", "i + 1 > 7"),
    ] {
        let mut rules = dense.rules.clone();
        let changed = rules.iter_mut().find(|rule| rule.when.contains(from)).unwrap_or_else(|| panic!("no rule says `{from}`"));
        changed.when = changed.when.replace(from, to).into();
        let altered = artifact_of(&dense.schema, &rules, &Limits::default(), 1);
        assert!(dense.notices(Engines::on_cpu(&altered)), "`{from}` as `{to}`");
    }
}

#[test]
fn faults_in_the_codes_are_noticed() {
    let dense = Dense::new();
    /// Moves the codes of the first rows.
    fn moved(tables: &MatchTables, batch: &mut EncodedBatch, by: impl Fn(u32, u32) -> u32) {
        for codes in batch.codes.chunks_exact_mut(batch.columns).take(20) {
            codes.iter_mut().zip(tables.steps).for_each(|(code, step)| *code = by(*code, *step));
        }
    }
    type Edit = fn(&MatchTables, &mut EncodedBatch);
    let edits: [(&str, Edit); 6] = [
        ("one place too high", |tables, batch| moved(tables, batch, u32::saturating_add)),
        ("one place too low", |tables, batch| moved(tables, batch, u32::saturating_sub)),
        ("NULL as the lowest value", |tables, batch| moved(tables, batch, u32::max)),
        ("the lowest value as NULL", |tables, batch| moved(tables, batch, |code, step| if code == step { 0 } else { code })),
        ("no tenants", |_, batch| batch.partitions.fill(0)),
        ("rows exchanged", |_, batch| batch.codes.rotate_left(batch.columns)),
    ];
    for (what, edit) in edits {
        let mut engines = Engines::on_cpu(&dense.artifact);
        engines.edit = edit;
        assert!(dense.notices(engines), "{what}");
    }
}

/// Answers that lack a candidate, or have one too many.
#[test]
fn faults_in_the_answers_are_noticed() {
    let dense = Dense::new();
    for fault in 0..3 {
        let mut engines = Engines::on_cpu(&dense.artifact);
        engines.matchers = crate::compare::cpu_matchers()
            .into_iter()
            .skip(1)
            .map(|(name, mut matcher)| {
                let faulty: Match = Box::new(move |tables, batch| {
                    let mut found = matcher(tables, batch);
                    let rules = &mut found.rules;
                    let middle = rules.len() / 2;
                    match fault {
                        // By its row, a term of a rule whose terms exclude each other.
                        0 => drop(rules.drain(middle..middle + 3)),
                        1 => rules[middle].row = (rules[middle].row + 17) % batch.rows as u32,
                        _ => rules.truncate(rules.len() - 1),
                    }
                    found
                });
                (name, faulty)
            })
            .collect();
        assert!(dense.notices(engines), "fault {fault}");
    }
}

#[cfg(feature = "gpu")]
#[test]
fn faults_in_the_shaders_are_noticed() {
    use dynamic_cep::matcher::gpu::{Gpu, testing::gpu_or_skip};
    use std::cell::Cell;
    let Some(gpu) = gpu_or_skip("faults_in_the_shaders_are_noticed") else { return };
    let dense = Dense::new();
    assert!(!dense.notices(Engines::with_gpu(&dense.artifact, &gpu)));
    for (stage, from, to) in [
        ("verify", "offset <= span", "offset < span"),
        ("verify", "(codes[row + column] >> 16u) - low", "max(codes[row + column] >> 16u, low) - low"),
        ("verify", "nth++", "nth += 2u"),
        ("settle", "code <= intervals", "code < intervals"),
        ("settle", "intervals[middle].x <= code", "intervals[middle].x < code"),
        ("seed", "tenant != 0u", "tenant > launch.partitions"),
        ("seed", "everyones = segments_on_page(0u);", ""),
        ("descend", "node_children[node] + lane", "node_children[node] + (lane ^ 1u)"),
    ] {
        let changed = Cell::new(false);
        let gpu = Gpu::with_edited_shaders(&|name, source| {
            changed.set(changed.get() || name == stage && source.contains(from));
            if name == stage { source.replace(from, to) } else { source.to_owned() }
        });
        assert!(changed.get(), "the shader `{stage}` does not say `{from}`");
        let gpu = Arc::new(gpu.expect("the edited shader compiles"));
        assert!(dense.notices(Engines::with_gpu(&dense.artifact, &gpu)), "{stage}: {to}");
    }
}
