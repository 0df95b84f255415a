//! Terms to tables: every set of values as slots and lists, and summaries that cover what is below them.

use super::*;
use crate::event::set::{Interval, Place, Set};
use crate::flow::EncodedBatch;
use crate::matcher::{cpu, plain};
use crate::tables::layout::IMPOSSIBLE;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// Columns in a row of codes; the tables use the first three.
const COLUMNS: usize = 16;

/// Values are NULL or a number; keys are even.
type Value = Option<u64>;

fn point(key: u64) -> Interval {
    Interval::point(Key::Narrow(key))
}

fn set(null: bool, intervals: Vec<Interval>) -> Set {
    Set { null, ..Set::of(intervals) }
}

/// The numbers from `low` to `high`, both even and included.
fn between(low: u64, high: u64) -> Interval {
    Interval { low: Some(Place::at(Key::Narrow(low))), high: Some(Place::at(Key::Narrow(high))) }
}

fn contains(set: &Set, value: Value) -> bool {
    let Some(value) = value else { return set.null };
    let place = Place::at(Key::Narrow(value));
    set.intervals
        .iter()
        .any(|interval| interval.low.as_ref().is_none_or(|low| *low <= place) && interval.high.as_ref().is_none_or(|high| *high >= place))
}

fn code(thresholds: &Thresholds, value: Value) -> u32 {
    let Some(value) = value else { return NULL_CODE };
    let after = thresholds.keys.partition_point(|key| *key <= Key::Narrow(value));
    match after {
        0 => NULL_CODE + 1,
        _ => thresholds.codes[after - 1] + u32::from(thresholds.keys[after - 1] != Key::Narrow(value)),
    }
}

/// Terms: (partition, members by column); a term's rule is its position.
type Terms = Vec<(u32, Vec<(u32, Set)>)>;

fn build(terms: &Terms) -> BuiltTables {
    let mut builder = TableBuilder::default();
    for (rule, (partition, members)) in terms.iter().enumerate() {
        let mut batch = TermBatch::default();
        batch.push(members.iter().cloned(), NONE);
        assert!(batch.term(0).0.eq(members.iter().cloned()), "what was pushed comes back");
        let mut numbers = BatchNumbers::new(&batch);
        for column in batch.columns_of(0..1) {
            numbers.column(column, || column);
        }
        builder.append(*partition, rule as u32, (&batch, 0..1), &mut numbers, |residual| residual);
    }
    builder.finish(COLUMNS, 3)
}

/// Every row of values, found by each matcher, against what the sets say.
fn check(terms: &Terms, rows: &[([Value; 3], u32)]) {
    let built = build(terms);
    let codes = rows
        .iter()
        .flat_map(|(row, _)| (0..COLUMNS).map(|column| if column < 3 { code(&built.thresholds[column], row[column]) } else { NULL_CODE }))
        .collect();
    let partitions = rows.iter().map(|(_, partition)| *partition).collect();
    let batch = EncodedBatch { rows: rows.len(), columns: COLUMNS, codes, partitions };
    let mut expected: Vec<(u32, u32)> = Vec::new();
    for (at, (row, visited)) in rows.iter().enumerate() {
        for (rule, (partition, members)) in terms.iter().enumerate() {
            let visits = *partition == 0 || partition == visited;
            if visits && members.iter().all(|(column, set)| contains(set, row[*column as usize])) {
                expected.push((at as u32, rule as u32));
            }
        }
    }
    let tables = built.view(COLUMNS);
    let rules = |candidates: Vec<crate::tables::Candidate>| {
        let mut found: Vec<(u32, u32)> =
            candidates.iter().map(|candidate| (candidate.row, tables.terms[candidate.term as usize].rule)).collect();
        found.sort_unstable();
        found.dedup();
        found
    };
    assert_eq!(rules(plain::candidates(&tables, &batch)), expected);
    let mut found = Vec::new();
    cpu::candidates(&tables, &batch, cpu::Visit::Both, &mut found);
    assert_eq!(rules(found), expected);
    hulls_cover(&built);
}

/// Walks every segment: a node's lane holds wherever a slot of a descendant does.
fn hulls_cover(built: &BuiltTables) {
    for segment in &built.segments {
        for group in 0..segment.groups {
            let group = segment.first_group + group;
            let path = path_to(built, segment, group);
            assert_eq!(path.len(), segment.height as usize);
            let chain = built.groups[group as usize];
            let blocks = &built.leaf_blocks[chain.first_block as usize..(chain.first_block + chain.blocks) as usize];
            for lane in (0..LANES).filter(|lane| built.terms[group as usize * LANES + lane].rule != NONE) {
                for &(node, at) in &path {
                    let above = &built.nodes[node as usize];
                    for slot in 0..2 {
                        let span = above.span[slot][at];
                        if span == u32::MAX {
                            continue;
                        }
                        let column = above.columns[at] >> (16 * slot) & 0xffff;
                        let low = above.low[slot][at];
                        // One of the lane's own slots keeps its column within what stands above it.
                        let covered = blocks.iter().any(|block| {
                            (0..2).any(|own| {
                                let own_low = block.low[own][lane];
                                block.columns[lane] >> (16 * own) & 0xffff == column
                                    && block.span[own][lane] != u32::MAX
                                    && own_low >= low
                                    && own_low - low <= span
                                    && block.span[own][lane] <= span - (own_low - low)
                            })
                        });
                        assert!(covered, "node {node}, lane {at}, group {group}, lane {lane}");
                    }
                }
            }
        }
    }
}

/// The (node, lane) pairs from the root down to `group`.
fn path_to(built: &BuiltTables, segment: &Segment, group: u32) -> Vec<(u32, usize)> {
    let mut path = Vec::new();
    let mut child = group;
    for height in 0..segment.height {
        let nodes = segment.first_node..segment.first_node + segment.nodes;
        // Groups and nodes have numbers of their own: only the lowest level's children are groups.
        let parent = nodes
            .filter(|node| level_of(built, segment, *node) == height)
            .find(|node| (built.node_children[*node as usize]..).take(LANES).any(|of| of == child))
            .expect("every child has a parent");
        let lane = (child - built.node_children[parent as usize]) as usize;
        let block = &built.nodes[parent as usize];
        assert!(block.low[0][lane] != IMPOSSIBLE || block.span[0][lane] != 0, "the lane of a child is in use");
        path.push((parent, lane));
        child = parent;
    }
    path
}

/// The level of a node: levels lie one after the other, the lowest first, each a sixteenth of the one below.
fn level_of(_: &BuiltTables, segment: &Segment, node: u32) -> u32 {
    let (mut first, mut length, mut level) = (segment.first_node, segment.groups.div_ceil(LANES as u32), 0);
    while node >= first + length {
        first += length;
        length = length.div_ceil(LANES as u32);
        level += 1;
    }
    level
}

fn every_value() -> Vec<Value> {
    std::iter::once(None).chain((0..=13).map(Some)).collect()
}

#[test]
fn every_shape_of_a_set_is_told_exactly() {
    let below = |key| Interval { low: None, high: Some(Place::before(Key::Narrow(key))) };
    let above = |key| Interval { low: Some(Place::after(Key::Narrow(key))), high: None };
    let shapes = [
        vec![],
        vec![point(4)],
        vec![between(4, 8)],
        vec![below(4)],
        vec![above(8)],
        vec![Interval { low: None, high: None }],
        vec![below(4), above(4)],
        vec![below(4), above(8)],
        vec![point(2), point(6), between(10, 12)],
        vec![below(2), point(4), above(8)],
    ];
    let rows: Vec<([Value; 3], u32)> = every_value().into_iter().map(|value| ([value, Some(1), None], 0)).collect();
    let mut all = Terms::new();
    for intervals in shapes {
        for null in [false, true] {
            let set = set(null, intervals.clone());
            if set.is_empty() || set.is_full() {
                continue;
            }
            // Alone it leads, beside an equality it does not.
            for members in [vec![(0, set.clone())], vec![(0, set.clone()), (1, Set::of(vec![point(1)]))]] {
                check(&vec![(0, members.clone())], &rows);
                all.push((0, members));
            }
        }
    }
    check(&all, &rows);
}

#[test]
fn all_but_a_range_takes_two_slots_or_one_that_wraps() {
    let but = |null| {
        let range = Set::of(vec![between(4, 8)]).complement();
        build(&vec![(0, vec![(0, Set { null, ..range })])])
    };
    let with_null = but(true).leaf_blocks[0];
    assert!(with_null.low[0][0] > with_null.low[0][0].wrapping_add(with_null.span[0][0]), "it wraps");
    assert_eq!(with_null.span[1][0], u32::MAX);
    let without = but(false).leaf_blocks[0];
    assert_eq!((without.low[1][0], without.span[1][0]), (NULL_CODE + 1, CODE_MAX - 1));
}

#[test]
fn short_leading_lists_are_split_and_long_ones_shared() {
    let list = |entries: u64| Set::of((0..entries).map(|entry| point(entry * 2)).collect::<Vec<_>>());
    let used = |built: &BuiltTables| built.terms.iter().filter(|term| term.rule != NONE).count();
    let most = LEADING_SPLIT_MAX as u64;
    let split = build(&vec![(0, vec![(0, list(most))])]);
    assert_eq!((used(&split), split.set_tests.len()), (LEADING_SPLIT_MAX, 0));
    let long = build(&vec![(0, vec![(0, list(most + 1))]), (0, vec![(0, list(most + 1))]), (0, vec![(0, list(most + 2))])]);
    assert_eq!((used(&long), long.set_tests.len(), long.intervals.len()), (3, 2, 2 * LEADING_SPLIT_MAX + 3));
    let tails: Vec<u32> = long.terms.iter().filter(|term| term.rule != NONE).map(|term| term.tail).collect();
    assert_eq!(tails.iter().collect::<std::collections::BTreeSet<_>>().len(), 2, "equal lists share their tail");
}

#[test]
fn random_terms_hold_where_their_sets_say() {
    for seed in 0..40 {
        let random = &mut Random(seed);
        let count = [3, 20, 200, 700][seed as usize % 4];
        let terms: Terms = (0..count)
            .map(|_| {
                let members = (0..3)
                    .filter(|_| random.below(3) != 0)
                    .collect::<Vec<u32>>()
                    .into_iter()
                    .filter_map(|column| {
                        let intervals = (0..random.below(4)).map(|_| {
                            let (a, b) = (random.below(7) * 2, random.below(7) * 2);
                            if a < b { between(a, b) } else { point(a) }
                        });
                        let chosen = set(false, intervals.collect());
                        let chosen = Set { null: random.below(4) == 0, ..chosen };
                        let chosen = if random.below(3) == 0 { chosen.complement() } else { chosen };
                        (!chosen.is_empty() && !chosen.is_full()).then_some((column, chosen))
                    })
                    .collect();
                (random.below(3) as u32, members)
            })
            .collect();
        let values = every_value();
        let rows: Vec<([Value; 3], u32)> =
            (0..80).map(|_| ([0, 1, 2].map(|_| values[random.below(values.len() as u64) as usize]), random.below(3) as u32)).collect();
        check(&terms, &rows);
    }
}

#[test]
fn a_hull_that_is_too_narrow_is_noticed() {
    let terms: Terms = (0..100).map(|nth| (0, vec![(0, Set::of(vec![point(nth * 2)]))])).collect();
    let mut built = build(&terms);
    hulls_cover(&built);
    built.nodes[0].span[0][2] /= 2;
    assert!(std::panic::catch_unwind(|| hulls_cover(&built)).is_err());
}

#[test]
fn what_finds_no_slot_is_tested_as_a_list() {
    // Six predicates: four become slots; the others, NULL alone among them, are memberships.
    let members = |row: u64| (0..5).map(move |column| (column, Set::of(vec![point(row)]))).chain([(5, Set::null())]).collect();
    let terms: Terms = (0..8).map(|row| (0, members(row * 2))).collect();
    let built = build(&terms);
    assert!(built.groups.iter().all(|group| group.blocks as usize * 2 <= SLOTS_MAX));
    assert!(built.tails.iter().all(|tail| tail.sets == 2));
    let tables = built.view(COLUMNS);
    for (value, last) in [(Some(6), None), (Some(6), Some(6)), (Some(7), None)] {
        let row = |column: usize| {
            if column < 5 { code(&built.thresholds[column], value) } else { last.map_or(NULL_CODE, |_: u64| NULL_CODE + 1) }
        };
        let batch = EncodedBatch { rows: 1, columns: COLUMNS, codes: (0..COLUMNS).map(row).collect(), partitions: vec![0] };
        let rules: Vec<u32> = plain::candidates(&tables, &batch).iter().map(|found| tables.terms[found.term as usize].rule).collect();
        let expected = if (value, last) == (Some(6), None) { vec![3] } else { vec![] };
        assert_eq!(rules, expected, "{value:?} and {last:?}");
    }
}
