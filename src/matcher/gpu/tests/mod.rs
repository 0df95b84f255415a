//! The GPU's answer is the definition's, whatever the sizes; and what can go wrong does so as an `Err`.

mod outputs;
mod shaders;
mod tables;

use super::pages;
use super::testing::gpu_or_skip;
use super::{Gpu, GpuError, GpuMatcher, GpuOptions};
use crate::flow::EncodedBatch;
use crate::matcher::plain;
use crate::tables::Candidate;
use std::sync::Arc;
use tables::{Random, Tables, batch};

fn sorted(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.sort_unstable();
    candidates
}

/// Compares the two over one batch; the number of candidates.
fn check(matcher: &mut GpuMatcher, tables: &Tables, batch: &EncodedBatch) -> usize {
    let expected = plain::candidates(&tables.borrowed(), batch);
    let found = sorted(matcher.candidates(batch).unwrap());
    assert!(found == expected, "{} rows: {} candidates instead of {}", batch.rows, found.len(), expected.len());
    expected.len()
}

#[test]
fn candidates_are_those_of_the_definition() {
    let Some(gpu) = gpu_or_skip("candidates_are_those_of_the_definition") else { return };
    let mut candidates = 0;
    for seed in 0..6 {
        let random = &mut Random::new(seed);
        let columns = 1 + random.below(9) as usize;
        let partitions = 1 + random.below(6);
        let tables = Tables::random(random, columns, partitions, 1 + seed as u32);
        let mut matcher = GpuMatcher::new(Arc::clone(&gpu), &tables.borrowed()).unwrap();
        for rows in [0, 1, 7, 300] {
            candidates += check(&mut matcher, &tables, &batch(random, &tables, rows));
        }
    }
    assert!(candidates > 10_000, "only {candidates} candidates: the tables test little");
}

#[test]
fn a_thousand_rows_agree() {
    let Some(gpu) = gpu_or_skip("a_thousand_rows_agree") else { return };
    let random = &mut Random::new(77);
    let tables = Tables::random(random, 6, 5, 3);
    let mut matcher = GpuMatcher::new(gpu, &tables.borrowed()).unwrap();
    assert!(check(&mut matcher, &tables, &batch(random, &tables, 1000)) > 1000);
}

#[test]
fn all_heights_and_all_columns() {
    let Some(gpu) = gpu_or_skip("all_heights_and_all_columns") else { return };
    let random = &mut Random::new(5);
    // The highest column that a slot can name.
    let mut tables = Tables::random(random, 65_536, 2, 2);
    tables.partitions[1].segments += 1;
    tables.segment_of(random, 5, 3);
    let mut matcher = GpuMatcher::new(gpu, &tables.borrowed()).unwrap();
    let mut batch = batch(random, &tables, 9);
    batch.partitions.fill(1);
    assert!(check(&mut matcher, &tables, &batch) > 0);
}

#[test]
fn empty_tables_have_no_candidates() {
    let Some(gpu) = gpu_or_skip("empty_tables_have_no_candidates") else { return };
    let random = &mut Random::new(1);
    let mut tables = Tables::random(random, 3, 1, 0);
    let mut matcher = GpuMatcher::new(Arc::clone(&gpu), &tables.borrowed()).unwrap();
    assert_eq!(check(&mut matcher, &tables, &batch(random, &tables, 20)), 0);
    // No tails at all, and only one group.
    tables.tails = vec![crate::tables::layout::Tail { first_set: 0, sets: 0, residual: 0, whole: 0 }];
    (tables.set_tests, tables.intervals) = (Vec::new(), Vec::new());
    tables.segment_of(random, 0, 1);
    tables.tail_refs.fill(0);
    tables.partitions[0].segments = 1;
    let mut matcher = GpuMatcher::new(gpu, &tables.borrowed()).unwrap();
    assert!(check(&mut matcher, &tables, &batch(random, &tables, 200)) > 0);
}

#[test]
fn small_bindings_page_the_tables_and_split_the_rows() {
    let Some(gpu) = gpu_or_skip("small_bindings_page_the_tables_and_split_the_rows") else { return };
    let random = &mut Random::new(11);
    let tables = Tables::random(random, 40, 4, 4);
    let one = |segment: &crate::tables::layout::Segment| u64::from(segment.slots.max(2 * segment.nodes)) * 192;
    let binding_max = tables.segments.iter().map(one).max().unwrap();
    let options = GpuOptions { binding_max, ..GpuOptions::default() };
    let mut matcher = GpuMatcher::with_options(gpu, &tables.borrowed(), options).unwrap();
    assert!(matcher.pages() > 2, "{} pages", matcher.pages());
    let batch = batch(random, &tables, 500);
    assert!(size_of_val(batch.codes.as_slice()) as u64 > binding_max);
    assert!(check(&mut matcher, &tables, &batch) > 0);
}

#[test]
fn overflows_are_run_again() {
    let Some(gpu) = gpu_or_skip("overflows_are_run_again") else { return };
    let random = &mut Random::new(23);
    let tables = Tables::random(random, 4, 3, 3);
    let batch = batch(random, &tables, 40);
    // Growing only; growing and splitting; splitting down to single rows, which then grow past the limit.
    for entries_max in [1 << 20, 256, 2] {
        let options = GpuOptions { entries: 2, entries_max, ..GpuOptions::default() };
        let mut matcher = GpuMatcher::with_options(Arc::clone(&gpu), &tables.borrowed(), options).unwrap();
        assert!(check(&mut matcher, &tables, &batch) > 0);
        let timings = matcher.take_timings();
        assert!(timings.reruns > 0 && timings.submissions > timings.reruns, "{timings:?}");
        // The second time it is known what to expect.
        check(&mut matcher, &tables, &batch);
        assert!(matcher.take_timings().reruns <= timings.reruns);
    }
}

#[test]
fn dispatches_have_two_dimensions() {
    let Some(gpu) = gpu_or_skip("dispatches_have_two_dimensions") else { return };
    let random = &mut Random::new(31);
    let tables = Tables::random(random, 5, 3, 2);
    let options = GpuOptions { line_max: 3, ..GpuOptions::default() };
    let mut matcher = GpuMatcher::with_options(gpu, &tables.borrowed(), options).unwrap();
    assert!(check(&mut matcher, &tables, &batch(random, &tables, 1100)) > 0);
}

#[test]
fn tickets_may_be_collected_in_any_order() {
    let Some(gpu) = gpu_or_skip("tickets_may_be_collected_in_any_order") else { return };
    let random = &mut Random::new(41);
    let tables = Tables::random(random, 5, 3, 2);
    let mut matcher = GpuMatcher::with_options(gpu, &tables.borrowed(), GpuOptions { timings: true, ..GpuOptions::default() }).unwrap();
    let batches: Vec<EncodedBatch> = [50, 3, 80].map(|rows| batch(random, &tables, rows)).into();
    let tickets: Vec<_> = batches.iter().map(|batch| matcher.submit(batch).unwrap()).collect();
    let mut rows = 0;
    for (ticket, batch) in tickets.into_iter().zip(&batches).rev() {
        assert_eq!(sorted(matcher.collect(ticket).unwrap()), plain::candidates(&tables.borrowed(), batch));
        rows += batch.rows as u64;
    }
    let timings = matcher.take_timings();
    assert_eq!(timings.rows, rows);
    assert!(timings.group_pairs > 0 && timings.candidates > 0);
    if matcher.gpu().info().timestamps {
        assert!(!timings.kernels().is_zero(), "{timings:?}");
    }
}

#[test]
fn every_group_may_be_tested_without_summaries() {
    let Some(gpu) = gpu_or_skip("every_group_may_be_tested_without_summaries") else { return };
    let random = &mut Random::new(43);
    let mut tables = Tables::random(random, 20, 4, 3);
    // More groups than a workgroup takes.
    tables.partitions[3].first_segment = tables.segments.len() as u32;
    tables.partitions[3].segments = 2;
    tables.segment_of(random, 2, 300);
    tables.segment_of(random, 2, 260);
    let few = GpuOptions { brute: true, line_max: 2, entries: 64, ..GpuOptions::default() };
    for options in [GpuOptions { binding_max: 300 * 4 * 192, ..few }, few] {
        let mut matcher = GpuMatcher::with_options(Arc::clone(&gpu), &tables.borrowed(), options).unwrap();
        assert_eq!(matcher.pages() > 1, options.binding_max < u64::MAX);
        assert!(check(&mut matcher, &tables, &batch(random, &tables, 203)) > 0);
    }
    let batch = batch(random, &tables, 203);
    let expected = plain::candidates(&tables.borrowed(), &batch);
    for (from, to) in [
        ("+ group;", "+ group + 1u;"),
        ("> span", ">= span"),
        ("min(taken + BRUTE_GROUPS, ", "min(taken + BRUTE_GROUPS - 1u, "),
        ("same |= u32(", "same = u32("),
        ("search(0u, (1u << rows) - 1u", "search(0u, (1u << rows) - 2u"),
    ] {
        let edit = |name: &str, source: &str| {
            assert!(name != "brute" || source.contains(from), "the shader does not say `{from}`");
            if name == "brute" { source.replace(from, to) } else { source.to_owned() }
        };
        let gpu = Arc::new(Gpu::with_edited_shaders(&edit).unwrap());
        let mut matcher = GpuMatcher::with_options(gpu, &tables.borrowed(), few).unwrap();
        assert!(sorted(matcher.candidates(&batch).unwrap()) != expected, "`{to}` changes nothing");
    }
}

#[test]
fn a_ticket_can_be_waited_for_without_the_matcher() {
    let Some(gpu) = gpu_or_skip("a_ticket_can_be_waited_for_without_the_matcher") else { return };
    let random = &mut Random::new(47);
    let tables = Tables::random(random, 5, 3, 2);
    let mut matcher = GpuMatcher::new(Arc::clone(&gpu), &tables.borrowed()).unwrap();
    // Buffers are used again, whatever the batches' sizes.
    for round in 0..3 {
        let batches: Vec<EncodedBatch> = (0..3).map(|nth| batch(random, &tables, 20 * round + nth)).collect();
        let tickets: Vec<_> = batches.iter().map(|batch| matcher.submit(batch).unwrap()).collect();
        tickets.iter().for_each(|ticket| ticket.wait(&gpu).unwrap());
        for (ticket, batch) in tickets.into_iter().zip(&batches).rev() {
            assert_eq!(sorted(matcher.collect(ticket).unwrap()), plain::candidates(&tables.borrowed(), batch));
        }
        assert_eq!(matcher.idle_flights(), if round == 0 { 2 } else { 3 });
    }
}

#[test]
fn threads_share_a_device() {
    let Some(gpu) = gpu_or_skip("threads_share_a_device") else { return };
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let gpu = Arc::clone(&gpu);
            scope.spawn(move || {
                let random = &mut Random::new(80 + seed);
                let tables = Tables::random(random, 4, 3, 2);
                let mut matcher = GpuMatcher::new(gpu, &tables.borrowed()).unwrap();
                for rows in 0..40 {
                    check(&mut matcher, &tables, &batch(random, &tables, rows));
                }
            });
        }
    });
}

#[test]
fn faults_in_the_shaders_are_noticed() {
    if gpu_or_skip("faults_in_the_shaders_are_noticed").is_none() {
        return;
    }
    let random = &mut Random::new(2);
    let tables = Tables::random(random, 4, 5, 4);
    assert!(tables.partitions.iter().skip(1).any(|partition| partition.segments > 0));
    let batch = batch(random, &tables, 120);
    let expected = plain::candidates(&tables.borrowed(), &batch);
    let faults = [
        ("descend", "low) <= span", "low) < span"),
        ("descend", "columns[lane / 2u], lane)", "columns[lane / 2u], lane ^ 1u)"),
        ("verify", "offset <= span", "offset < span"),
        ("verify", "nth < SLOTS_MAX", "nth < SLOTS_MAX - 1u"),
        ("verify", "passes = extractBits(groups[group].used, lane, 1u) == 1u", "passes = true"),
        ("verify", "offset == 0u || offset == span", "offset == 0u"),
        ("verify", "offset == 0u || offset == span", "offset == span"),
        ("verify", "at_edge = !is_exact(column)", "at_edge = is_exact(column)"),
        ("verify", ">> 16u) - low", ">> 15u) - low"),
        ("settle", "code <= intervals", "code < intervals"),
        ("settle", "code <= test.high", "code < test.high"),
        ("settle", "0u, lane))", "0u, lane + 1u))"),
        ("seed", "tenant != 0u", "tenant > launch.partitions"),
        ("plan", "needed + launch.line - 1u", "needed"),
    ];
    for (stage, from, to) in faults {
        let edit = |name: &str, source: &str| {
            assert!(name != stage || source.contains(from), "the shader `{stage}` does not say `{from}`");
            if name == stage { source.replace(from, to) } else { source.to_owned() }
        };
        let gpu = Arc::new(Gpu::with_edited_shaders(&edit).unwrap());
        let mut matcher = GpuMatcher::new(gpu, &tables.borrowed()).unwrap();
        let found = sorted(matcher.candidates(&batch).unwrap());
        assert!(found != expected, "{stage}: {to} changes nothing");
    }
}

#[test]
fn a_shader_that_does_not_compile_is_an_error() {
    if gpu_or_skip("a_shader_that_does_not_compile_is_an_error").is_none() {
        return;
    }
    let edit = |name: &str, source: &str| if name == "plan" { source.replace("1u;", "1i;") } else { source.to_owned() };
    assert!(matches!(Gpu::with_edited_shaders(&edit), Err(GpuError::Refused(_))));
}

#[test]
fn a_lost_device_is_an_error() {
    if gpu_or_skip("a_lost_device_is_an_error").is_none() {
        return;
    }
    let random = &mut Random::new(51);
    let tables = Tables::random(random, 4, 2, 2);
    let batch = batch(random, &tables, 60);
    let gpu = Arc::new(Gpu::request().unwrap());
    let mut matcher = GpuMatcher::new(Arc::clone(&gpu), &tables.borrowed()).unwrap();
    check(&mut matcher, &tables, &batch);
    // What is lost in flight is either whole or an error.
    let ticket = matcher.submit(&batch).unwrap();
    gpu.destroy();
    match matcher.collect(ticket) {
        Ok(found) => assert_eq!(sorted(found), plain::candidates(&tables.borrowed(), &batch)),
        Err(error) => assert!(matches!(error, GpuError::Lost(_)), "{error}"),
    }
    for _ in 0..2 {
        let error = matcher.candidates(&batch).unwrap_err();
        assert!(matches!(error, GpuError::Lost(_)), "{error}");
    }
    assert!(matches!(GpuMatcher::new(Arc::clone(&gpu), &tables.borrowed()), Err(GpuError::Lost(_))));
    assert!(gpu.broken().is_some());
}

#[test]
fn what_does_not_fit_is_an_error() {
    let Some(gpu) = gpu_or_skip("what_does_not_fit_is_an_error") else { return };
    let random = &mut Random::new(61);
    let mut tables = Tables::random(random, 4, 2, 2);
    let with = |tables: &Tables, binding_max| {
        GpuMatcher::with_options(Arc::clone(&gpu), &tables.borrowed(), GpuOptions { binding_max, ..GpuOptions::default() }).err()
    };
    assert!(matches!(with(&tables, 300), Some(GpuError::TooLarge { .. })));
    let before = tables.intervals.len();
    tables.intervals.resize(before + 10_000, [0, 0]);
    let error = with(&tables, 65_536).unwrap();
    assert!(error.to_string().starts_with("the lists' intervals are too large for the GPU"), "{error}");
    tables.intervals.truncate(before);

    let mut matcher = GpuMatcher::new(Arc::clone(&gpu), &tables.borrowed()).unwrap();
    let good = batch(random, &tables, 3);
    for bad in [
        EncodedBatch { columns: 5, ..good.clone() },
        EncodedBatch { rows: 4, ..good.clone() },
        EncodedBatch { codes: Vec::new(), ..good.clone() },
        EncodedBatch { partitions: vec![0, 0, 2], ..good.clone() },
    ] {
        assert!(matches!(matcher.candidates(&bad), Err(GpuError::Batch(_))));
    }
    check(&mut matcher, &tables, &good);

    tables.segments[0].groups += 100_000;
    assert!(matches!(with(&tables, u64::MAX), Some(GpuError::Tables(_))));
}

#[test]
fn pages_are_as_long_as_bindings_allow() {
    let random = &mut Random::new(71);
    let tables = Tables::random(random, 4, 6, 9);
    let borrowed = tables.borrowed();
    let whole = pages::plan(&borrowed, u64::MAX).unwrap();
    assert_eq!(whole.len(), 1);
    assert_eq!((whole[0].groups.clone(), whole[0].nodes.clone()), (0..tables.groups.len(), 0..tables.nodes.len()));
    let binding_max = 192 * 160;
    let paged = pages::plan(&borrowed, binding_max).unwrap();
    assert!(paged.len() > 2);
    let mut segment = 0;
    for page in &paged {
        assert_eq!(page.segments.start, segment);
        segment = page.segments.end;
        assert!(page.slots.len() <= 160 && page.nodes.len() <= 80 && page.groups.len() * 36 <= binding_max as usize);
        assert!(page.roots_max <= page.segments.len() as u64);
    }
    assert_eq!(segment, tables.segments.len());
}

#[test]
fn a_machine_without_adapters_says_so() {
    // Whatever the machine has, asking is no panic.
    let adapters = super::adapters();
    match Gpu::request() {
        Ok(gpu) => assert_eq!(gpu.info(), &adapters[0]),
        Err(error) => assert!(matches!(error, GpuError::NoAdapter(_)), "{error}"),
    }
}
