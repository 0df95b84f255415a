//! The definition of the match: every term of every partition that a row visits, one after the other, without summaries.

use crate::flow::EncodedBatch;
use crate::tables::layout::{LANES, NONE};
use crate::tables::{Candidate, MatchTables};

/// All candidates of the batch, ascending.
#[must_use]
pub fn candidates(tables: &MatchTables, batch: &EncodedBatch) -> Vec<Candidate> {
    let mut found = Vec::new();
    for row in 0..batch.rows {
        let codes = batch.row(row);
        let own = batch.partitions[row];
        let visited = if own == 0 { &[0][..] } else { &[0, own][..] };
        for &partition in visited {
            let partition = tables.partitions[partition as usize];
            let first = partition.first_segment as usize;
            for segment in &tables.segments[first..first + partition.segments as usize] {
                for group in segment.first_group..segment.first_group + segment.groups {
                    let slots = tables.groups[group as usize].chain(tables.leaf_slots);
                    let lanes = slots.fold(u32::MAX, |lanes, slot| lanes & slot.test(codes));
                    for lane in (0..LANES).filter(|lane| lanes >> lane & 1 == 1) {
                        let term = group * LANES as u32 + lane as u32;
                        let tail_holds = || tables.tail(term).is_none_or(|tail| tables.tail_holds(tail, codes));
                        if tables.term_rules[term as usize] != NONE && tail_holds() {
                            found.push(Candidate { row: row as u32, term });
                        }
                    }
                }
            }
        }
    }
    found.sort_unstable();
    found
}
