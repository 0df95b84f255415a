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
                    let chain = tables.groups[group as usize];
                    let first = chain.first_block as usize;
                    let blocks = &tables.leaf_blocks[first..first + chain.blocks as usize];
                    let lanes = blocks.iter().fold(u16::MAX, |lanes, block| lanes & block.test(codes));
                    for lane in (0..LANES).filter(|lane| lanes >> lane & 1 == 1) {
                        let term = group as usize * LANES + lane;
                        if tables.terms[term].rule != NONE && tables.tail_holds(tables.terms[term].tail, codes) {
                            found.push(Candidate { row: row as u32, term: term as u32 });
                        }
                    }
                }
            }
        }
    }
    found.sort_unstable();
    found
}
