//! The match on a CPU: level by level over tiles of rows, sixteen children at a time.
//!
//! A frontier of (node, row) pairs is tested against the nodes' blocks; the surviving children are the next frontier. There is no data-dependent branch but the loop over
//! survivors. The test of a block has one form for each instruction set; which one runs is decided once.

use crate::flow::EncodedBatch;
use crate::tables::layout::{LANES, NONE};
use crate::tables::{Block, Candidate, MatchTables, Segment, Term};

/// Rows of a tile: its codes and its frontier stay in the first-level cache, while the nodes are read once for all of its rows.
const TILE_ROWS: usize = 256;

/// Which partitions a row visits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// Partition 0 and its tenant's.
    Both,
    /// Its tenant's alone.
    Tenants,
}

/// One form of the block test.
trait BlockTest {
    /// The lanes of `block` that hold for `codes`, as bits.
    fn test(block: &Block, codes: &[u32]) -> u16;
}

/// Works everywhere; compilers turn it into vector code where gathers pay.
struct Portable;

impl BlockTest for Portable {
    #[inline(always)]
    fn test(block: &Block, codes: &[u32]) -> u16 {
        block.test(codes)
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    //! With 512-bit registers a block's lanes are tested at once, each fetching its own column from the event's codes by a permutation
    //! (up to 32 columns) or a gather.

    use super::{Block, BlockTest};
    use std::arch::x86_64::*;

    /// Both slots of all lanes, given the codes that each lane's columns have.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn holds(block: &Block, first: __m512i, second: __m512i) -> u16 {
        // SAFETY: each array of the block has sixteen `u32`, which is what an unaligned 512-bit load reads.
        let (low, span) = unsafe {
            (
                [_mm512_loadu_si512(block.low[0].as_ptr().cast()), _mm512_loadu_si512(block.low[1].as_ptr().cast())],
                [_mm512_loadu_si512(block.span[0].as_ptr().cast()), _mm512_loadu_si512(block.span[1].as_ptr().cast())],
            )
        };
        let first = _mm512_cmple_epu32_mask(_mm512_sub_epi32(first, low[0]), span[0]);
        _mm512_mask_cmple_epu32_mask(first, _mm512_sub_epi32(second, low[1]), span[1])
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn columns(block: &Block) -> (__m512i, __m512i) {
        // SAFETY: as above.
        let pairs = unsafe { _mm512_loadu_si512(block.columns.as_ptr().cast()) };
        (_mm512_and_si512(pairs, _mm512_set1_epi32(0xffff)), _mm512_srli_epi32::<16>(pairs))
    }

    /// At most sixteen columns.
    pub struct OneRegister;

    impl BlockTest for OneRegister {
        #[inline(always)]
        fn test(block: &Block, codes: &[u32]) -> u16 {
            assert!(codes.len() >= 16);
            // SAFETY: `super::candidates` chooses this form only where AVX-512F was detected. The load reads the sixteen codes asserted above.
            unsafe {
                let (first, second) = columns(block);
                let codes = _mm512_loadu_si512(codes.as_ptr().cast());
                holds(block, _mm512_permutexvar_epi32(first, codes), _mm512_permutexvar_epi32(second, codes))
            }
        }
    }

    /// At most thirty-two columns.
    pub struct TwoRegisters;

    impl BlockTest for TwoRegisters {
        #[inline(always)]
        fn test(block: &Block, codes: &[u32]) -> u16 {
            assert!(codes.len() >= 32);
            // SAFETY: as for one register; the loads read the thirty-two codes asserted above.
            unsafe {
                let (first, second) = columns(block);
                let low = _mm512_loadu_si512(codes.as_ptr().cast());
                let high = _mm512_loadu_si512(codes.as_ptr().add(16).cast());
                holds(block, _mm512_permutex2var_epi32(low, first, high), _mm512_permutex2var_epi32(low, second, high))
            }
        }
    }
}

/// Appends to `found` all candidates of the batch, in no particular order, that lie in the partitions to visit.
///
/// # Panics
/// When the codes are not those of the tables' columns.
pub fn candidates(tables: &MatchTables, batch: &EncodedBatch, which: Visit, found: &mut Vec<Candidate>) {
    assert_eq!(tables.columns, batch.columns, "the batch was encoded for these tables");
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,bmi2,popcnt")]
        fn one_register(tables: &MatchTables, batch: &EncodedBatch, which: Visit, found: &mut Vec<Candidate>) {
            search::<avx512::OneRegister>(tables, batch, which, found);
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,bmi2,popcnt")]
        fn two_registers(tables: &MatchTables, batch: &EncodedBatch, which: Visit, found: &mut Vec<Candidate>) {
            search::<avx512::TwoRegisters>(tables, batch, which, found);
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,bmi2,popcnt")]
        fn gathers_512(tables: &MatchTables, batch: &EncodedBatch, which: Visit, found: &mut Vec<Candidate>) {
            search::<Portable>(tables, batch, which, found);
        }
        #[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
        fn gathers_256(tables: &MatchTables, batch: &EncodedBatch, which: Visit, found: &mut Vec<Candidate>) {
            search::<Portable>(tables, batch, which, found);
        }
        let bits = is_x86_feature_detected!("bmi1") && is_x86_feature_detected!("bmi2") && is_x86_feature_detected!("popcnt");
        let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl");
        if bits && wide {
            // SAFETY: the features that these functions are compiled for were detected just now.
            return unsafe {
                match batch.columns {
                    0..=16 => one_register(tables, batch, which, found),
                    17..=32 => two_registers(tables, batch, which, found),
                    _ => gathers_512(tables, batch, which, found),
                }
            };
        }
        if bits && is_x86_feature_detected!("avx2") {
            // SAFETY: as above.
            return unsafe { gathers_256(tables, batch, which, found) };
        }
    }
    search::<Portable>(tables, batch, which, found);
}

/// The same without any instruction set in particular: what the others are compared with, besides [`super::plain`].
#[doc(hidden)]
pub fn candidates_portable(tables: &MatchTables, batch: &EncodedBatch, found: &mut Vec<Candidate>) {
    search::<Portable>(tables, batch, Visit::Both, found);
}

#[inline(always)]
fn search<T: BlockTest>(tables: &MatchTables, batch: &EncodedBatch, which: Visit, found: &mut Vec<Candidate>) {
    let mut frontier = Frontier::default();
    if which == Visit::Both {
        let every: Vec<u32> = (0..batch.rows as u32).collect();
        visit::<T>(tables, batch, 0, &every, &mut frontier, found);
    }
    if tables.partitions.len() == 1 {
        return;
    }
    let mut own: Vec<(u32, u32)> =
        batch.partitions.iter().zip(0..).filter(|(partition, _)| **partition != 0).map(|(partition, row)| (*partition, row)).collect();
    own.sort_unstable();
    let mut rows = Vec::new();
    for run in own.chunk_by(|a, b| a.0 == b.0) {
        rows.clear();
        rows.extend(run.iter().map(|(_, row)| *row));
        visit::<T>(tables, batch, run[0].0, &rows, &mut frontier, found);
    }
}

/// The (node, row) pairs of a level, and those of the next.
#[derive(Default)]
struct Frontier {
    pairs: Vec<(u32, u32)>,
    next: Vec<(u32, u32)>,
}

#[inline(always)]
fn visit<T: BlockTest>(
    tables: &MatchTables,
    batch: &EncodedBatch,
    partition: u32,
    rows: &[u32],
    frontier: &mut Frontier,
    found: &mut Vec<Candidate>,
) {
    let partition = tables.partitions[partition as usize];
    let first = partition.first_segment as usize;
    for segment in &tables.segments[first..first + partition.segments as usize] {
        for tile in rows.chunks(TILE_ROWS) {
            descend::<T>(tables, batch, segment, tile, frontier, found);
        }
    }
}

#[inline(always)]
fn descend<T: BlockTest>(
    tables: &MatchTables,
    batch: &EncodedBatch,
    segment: &Segment,
    rows: &[u32],
    frontier: &mut Frontier,
    found: &mut Vec<Candidate>,
) {
    frontier.pairs.clear();
    frontier.pairs.extend(rows.iter().map(|row| (segment.root, *row)));
    for _ in 0..segment.height {
        frontier.next.clear();
        for &(node, row) in &frontier.pairs {
            let mut lanes = T::test(&tables.nodes[node as usize], batch.row(row as usize));
            let first = tables.node_children[node as usize];
            while lanes != 0 {
                frontier.next.push((first + lanes.trailing_zeros(), row));
                lanes &= lanes - 1;
            }
        }
        std::mem::swap(&mut frontier.pairs, &mut frontier.next);
    }
    for &(group, row) in &frontier.pairs {
        let chain = tables.groups[group as usize];
        let codes = batch.row(row as usize);
        let first = chain.first_block as usize;
        let mut lanes = u16::MAX;
        for block in &tables.leaf_blocks[first..first + chain.blocks as usize] {
            lanes &= T::test(block, codes);
            if lanes == 0 {
                break;
            }
        }
        while lanes != 0 {
            let term = group as usize * LANES + lanes.trailing_zeros() as usize;
            lanes &= lanes - 1;
            let Term { rule, tail } = tables.terms[term];
            if rule != NONE && (tail == NONE || tables.tail_holds(tail, codes)) {
                found.push(Candidate { row, term: term as u32 });
            }
        }
    }
}
