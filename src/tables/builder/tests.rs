//! Terms to tables: every set of values as slots and lists, and summaries that cover what is below them.

use super::*;
use crate::event::set::{Interval, Place, Set};
use crate::flow::EncodedBatch;
use crate::matcher::{cpu, plain};
use crate::tables::layout::{IMPOSSIBLE, LANES, bucket};

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
    let equal = after > 0 && thresholds.keys[after - 1] == Key::Narrow(value);
    (2 * after as u32 + u32::from(!equal)) * thresholds.step
}

/// Terms: (partition, members by column); a term's rule is its position.
type Terms = Vec<(u32, Vec<(u32, Set)>)>;

fn build(terms: &Terms) -> BuiltTables {
    build_on(terms, 2)
}

fn build_on(terms: &Terms, threads: usize) -> BuiltTables {
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
    builder.finish(COLUMNS, 3, threads)
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
            candidates.iter().map(|candidate| (candidate.row, tables.term_rules[candidate.term as usize])).collect();
        found.sort_unstable();
        found.dedup();
        found
    };
    assert_eq!(rules(plain::candidates(&tables, &batch)), expected);
    for isa in cpu::Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let mut found = Vec::new();
        cpu::candidates_by(isa, &tables, &batch, cpu::Visit::Both, &mut found);
        assert_eq!(rules(found), expected, "{isa:?}");
    }
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
            for lane in (0..LANES).filter(|lane| built.term_rules[group as usize * LANES + lane] != NONE) {
                for &(node, at) in &path {
                    for above in built.nodes[node as usize].slots {
                        let (column, low, span) = (above.columns[at], above.low[at], above.span[at]);
                        // One of the lane's own slots keeps its column within what stands above it.
                        let covered = chain.chain(&built.leaf_slots).any(|own| {
                            let offset = own.low[lane].wrapping_sub(low);
                            own.columns[lane] == column && own.low[lane] >= low && offset <= span && own.span[lane] <= span - offset
                        });
                        assert!(span == u16::MAX || covered, "node {node}, lane {at}, group {group}, lane {lane}");
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
        let slot = &built.nodes[parent as usize].slots[0];
        assert!(slot.low[lane] != IMPOSSIBLE || slot.span[lane] != 0, "the lane of a child is in use");
        path.push((parent, lane));
        child = parent;
    }
    path
}

/// The level of a node: levels lie one after the other, the lowest first, each a thirty-second of the one below.
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
    let slots = |built: &BuiltTables| -> Vec<(u16, u16)> {
        built.groups[0].chain(&built.leaf_slots).map(|slot| (slot.low[0], slot.span[0])).collect()
    };
    // Two keys, 4 and 8: everything above 8 has the highest code, everything below 4 the lowest.
    let step = CODE_MAX / 5;
    let [(low, span)] = slots(&but(true))[..] else { panic!("one slot") };
    assert_eq!((low, low.wrapping_add(span)), (bucket(5 * step), bucket(step)), "it wraps");
    let [_, (low, span)] = slots(&but(false))[..] else { panic!("two slots") };
    assert_eq!((low, low + span), (bucket(step), bucket(5 * step)), "NULL is kept out");
}

#[test]
fn short_leading_lists_are_split_and_long_ones_shared() {
    let list = |entries: u64| Set::of((0..entries).map(|entry| point(entry * 2)).collect::<Vec<_>>());
    let used = |built: &BuiltTables| built.term_rules.iter().filter(|rule| **rule != NONE).count();
    let most = LEADING_SPLIT_MAX as u64;
    let split = build(&vec![(0, vec![(0, list(most))])]);
    assert_eq!((used(&split), split.set_tests.len()), (LEADING_SPLIT_MAX, 0));
    let long = build(&vec![(0, vec![(0, list(most + 1))]), (0, vec![(0, list(most + 1))]), (0, vec![(0, list(most + 2))])]);
    assert_eq!((used(&long), long.set_tests.len(), long.intervals.len()), (3, 2, 2 * LEADING_SPLIT_MAX + 3));
    assert_eq!(long.tail_refs.len(), 3);
    assert_eq!(long.tail_refs.iter().collect::<std::collections::BTreeSet<_>>().len(), 2, "equal lists share their tail");
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

/// With more thresholds than buckets, neighbours share a bucket, and what the buckets leave open is settled by the codes.
#[test]
fn thresholds_that_share_a_bucket_are_told_apart() {
    const KEYS: u64 = 150_000;
    let filler = Set::of((0..KEYS).map(|key| point(key * 2)).collect::<Vec<_>>());
    for seed in 0..6 {
        let random = &mut Random(seed);
        // Around a place where keys lie close together, and at both ends.
        let near = [0, 99_990, 2 * (KEYS - 8)][seed as usize % 3];
        let terms: Terms = (0..300)
            .map(|_| {
                let intervals = (0..1 + random.below(3)).map(|_| {
                    let (a, b) = (near + random.below(8) * 2, near + random.below(8) * 2);
                    if a < b { between(a, b) } else { point(a) }
                });
                let chosen = set(false, intervals.collect());
                let chosen = Set { null: random.below(4) == 0, ..chosen };
                let chosen = if random.below(3) == 0 { chosen.complement() } else { chosen };
                let other = (1, Set::of(vec![point(random.below(4))]));
                (0, if random.below(2) == 0 { vec![(0, chosen), other] } else { vec![(0, chosen)] })
            })
            .chain([(2, vec![(0, filler.clone())])])
            .collect();
        let values: Vec<Value> = (0..18).map(|offset| Some(near + offset)).chain([None, Some(0), Some(u64::MAX)]).collect();
        let rows: Vec<([Value; 3], u32)> = values.iter().flat_map(|value| (0..4).map(|other| ([*value, Some(other), None], 1))).collect();
        check(&terms, &rows);
    }
}

#[test]
fn neighbouring_groups_share_the_slots_they_have_in_common() {
    let terms: Terms = (0..200).map(|nth| (0, vec![(0, Set::of(vec![point(4)])), (1, Set::of(vec![point(nth * 2)]))])).collect();
    let built = build(&terms);
    let last = built.groups.len() - 1;
    // The key that is the same in all terms is told once, but for the last group, which has lanes that are not in use.
    assert!(built.leaf_slots.len() < 2 * built.groups.len());
    assert!(built.groups[1..last].iter().any(|group| group.slots.contains(&built.groups[0].slots[1])));
    check(&terms, &[([Some(4), Some(8), None], 0), ([Some(5), Some(8), None], 0), ([Some(4), Some(9), None], 0)]);
}

#[test]
fn the_number_of_threads_does_not_change_the_tables() {
    let terms: Terms =
        (0..3000).map(|nth| ((nth % 3) as u32, vec![(0, Set::of(vec![point(nth % 50)])), (1, Set::of(vec![point(nth)]))])).collect();
    let (one, four) = (build_on(&terms, 1), build_on(&terms, 4));
    assert_eq!((one.groups, one.leaf_slots, one.node_children), (four.groups, four.leaf_slots, four.node_children));
}

/// Wide ranges over all columns: no slot is selective, and bitmaps sift the lanes.
#[test]
fn wide_terms_are_sifted_by_bitmaps() {
    let random = &mut Random(5);
    let range = |random: &mut Random| {
        let low = random.below(40) * 2;
        between(low, low + 40)
    };
    let terms: Terms = (0..5000)
        .map(|nth| {
            let mut members = vec![(0, Set::of(vec![range(random)])), (1, Set::of(vec![range(random)])), (2, Set::of(vec![range(random)]))];
            members[nth % 3].1 = Set { null: random.below(5) == 0, ..members[nth % 3].1.clone() };
            if random.below(9) == 0 {
                members[0].1 = members[0].1.complement();
            }
            ((random.below(8) == 0).into(), members)
        })
        .collect();
    let mut rows: Vec<([Value; 3], u32)> =
        (0..150).map(|_| ([0; 3].map(|_| (random.below(12) > 0).then(|| random.below(125))), random.below(3) as u32)).collect();
    rows.push(([None; 3], 1));
    check(&terms, &rows);
    let built = build(&terms);
    assert!(built.bitmap_tiles.len() > 2, "of partition 0; the others are too small");
    // A bit that is missing hides a term.
    let tables = built.view(COLUMNS);
    let codes =
        rows.iter().flat_map(|(row, _)| (0..COLUMNS).map(|at| if at < 3 { code(&built.thresholds[at], row[at]) } else { 0 })).collect();
    let batch = EncodedBatch { rows: rows.len(), columns: COLUMNS, codes, partitions: vec![0; rows.len()] };
    let count = |tables: &crate::tables::MatchTables| {
        let mut found = Vec::new();
        cpu::candidates(tables, &batch, cpu::Visit::Both, &mut found);
        found.len()
    };
    let all = count(&tables);
    assert_eq!(all, plain::candidates(&tables, &batch).len());
    let mut bitmaps = built.bitmaps.clone();
    bitmaps.iter_mut().for_each(|bitmap| bitmap.0[3] = 0);
    assert!(count(&crate::tables::MatchTables { bitmaps: &bitmaps, ..tables }) < all);
}

/// So many thresholds that buckets do not tell all of a slot: tails tell all of their terms, and what was sifted is tested by them alone.
#[test]
fn sifted_terms_are_told_by_whole_tails() {
    let random = &mut Random(6);
    let terms: Terms = (0..30_000)
        .map(|nth| {
            let member = |column: u32, random: &mut Random| {
                let low = random.below(160_000);
                (column, Set::of(vec![between(low * 2, (low + 80_000) * 2)]))
            };
            // Every third has a list as well, which a single interval does not tell.
            let list = (nth % 3 == 0).then(|| (3, Set::of(vec![point(2), point(6)])));
            (0, (0..3).map(|column| member(column, random)).chain(list).collect())
        })
        .collect();
    let built = build(&terms);
    assert!(!built.bitmap_tiles.is_empty());
    assert!(built.tails.iter().any(|tail| tail.whole == 1 && tail.sets == 3), "every column of a term is in its tail");
    let tables = built.view(COLUMNS);
    let rows = 60;
    let codes = (0..rows * COLUMNS)
        .map(|at| {
            if at % COLUMNS < 4 {
                code(&built.thresholds[at % COLUMNS], Some(random.below(if at % COLUMNS == 3 { 9 } else { 480_000 })))
            } else {
                0
            }
        })
        .collect();
    let batch = EncodedBatch { rows, columns: COLUMNS, codes, partitions: vec![0; rows] };
    let found = |tables: &crate::tables::MatchTables| {
        let mut found = Vec::new();
        cpu::candidates(tables, &batch, cpu::Visit::Both, &mut found);
        found.sort_unstable();
        found
    };
    let mut expected = plain::candidates(&tables, &batch);
    expected.sort_unstable();
    assert!(expected.len() > rows);
    assert_eq!(found(&tables), expected);
    // A tail that claims to tell all, and keeps one membership to itself.
    let mut tails = built.tails.clone();
    tails.iter_mut().filter(|tail| tail.whole == 1).for_each(|tail| tail.sets -= 1);
    assert_ne!(found(&crate::tables::MatchTables { tails: &tails, ..tables }), expected);
}

#[test]
fn a_hull_that_is_too_narrow_is_noticed() {
    let terms: Terms = (0..100).map(|nth| (0, vec![(0, Set::of(vec![point(nth * 2)]))])).collect();
    let mut built = build(&terms);
    hulls_cover(&built);
    built.nodes[0].slots[0].span[2] /= 2;
    assert!(std::panic::catch_unwind(|| hulls_cover(&built)).is_err());
}

#[test]
fn what_finds_no_slot_is_tested_as_a_list() {
    // Six predicates: four become slots; the others, NULL alone among them, are memberships.
    let members = |row: u64| (0..5).map(move |column| (column, Set::of(vec![point(row)]))).chain([(5, Set::null())]).collect();
    let terms: Terms = (0..8).map(|row| (0, members(row * 2))).collect();
    let built = build(&terms);
    assert!(built.groups.iter().all(|group| group.slots.iter().all(|slot| *slot != NONE)));
    assert!(built.tails.iter().all(|tail| tail.sets == 2));
    let tables = built.view(COLUMNS);
    for (value, last) in [(Some(6), None), (Some(6), Some(6)), (Some(7), None)] {
        let row = |column: usize| {
            if column < 5 { code(&built.thresholds[column], value) } else { last.map_or(NULL_CODE, |_: u64| built.steps[column]) }
        };
        let batch = EncodedBatch { rows: 1, columns: COLUMNS, codes: (0..COLUMNS).map(row).collect(), partitions: vec![0] };
        let rules: Vec<u32> = plain::candidates(&tables, &batch).iter().map(|found| tables.term_rules[found.term as usize]).collect();
        let expected = if (value, last) == (Some(6), None) { vec![3] } else { vec![] };
        assert_eq!(rules, expected, "{value:?} and {last:?}");
    }
}
