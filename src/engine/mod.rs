//! The data path on one screen: encode, match, verify, hits.
//!
//! A [`Generation`] is an artifact in service. It is immutable and shared: every batch is judged by one generation from end to end.

pub mod router;

use crate::encode::Encoder;
use crate::event::EventBatch;
use crate::expr::columns::{Cache, Program};
use crate::flow::{EncodedBatch, Hits};
use crate::id::{FieldId, RuleId};
use crate::tables::layout::NONE;
use crate::tables::{Artifact, ArtifactError, Candidate};
use arrow::array::{Array, AsArray};
use std::sync::Arc;

/// An artifact in service.
#[derive(Debug)]
pub struct Generation {
    artifact: Arc<Artifact>,
    encoder: Encoder,
    /// The residual conditions, by their number.
    residuals: Vec<Program>,
    residual_fields: Vec<FieldId>,
}

impl Generation {
    /// Prepares an artifact: look-up tables of the thresholds, patterns of the residuals.
    ///
    /// # Errors
    /// When a residual in the artifact is damaged.
    pub fn new(artifact: Arc<Artifact>) -> Result<Self, ArtifactError> {
        let residuals = artifact.residuals()?;
        let mut residual_fields: Vec<FieldId> = residuals.iter().flat_map(crate::expr::Expr::fields).collect();
        residual_fields.sort_unstable();
        residual_fields.dedup();
        Ok(Self {
            encoder: Encoder::new(Arc::clone(&artifact)),
            residuals: residuals.into_iter().map(Program::new).collect(),
            residual_fields,
            artifact,
        })
    }

    #[must_use]
    pub const fn artifact(&self) -> &Arc<Artifact> {
        &self.artifact
    }

    /// The fields that matching reads, ascending.
    #[must_use]
    pub fn fields(&self) -> Vec<FieldId> {
        let mut fields = self.encoder.fields();
        fields.extend(&self.residual_fields);
        fields.sort_unstable();
        fields.dedup();
        fields
    }

    /// Codes and partitions of a batch.
    pub fn encode(&self, batch: &EventBatch, cache: &mut Cache) -> EncodedBatch {
        self.encoder.encode(batch, cache)
    }

    /// Candidates to hits: residuals are evaluated on the rows that are candidates for them, and the rules of each row sorted.
    pub fn verify(&self, batch: &EventBatch, candidates: &[Candidate], cache: &mut Cache) -> Hits {
        let tables = self.artifact.tables();
        let mut found: Vec<(u32, RuleId)> = Vec::with_capacity(candidates.len());
        let mut open: Vec<(u32, u32, RuleId)> = Vec::new();
        for candidate in candidates {
            let term = tables.terms[candidate.term as usize];
            // A lane that stands for no rule never holds in tables that compile made; in a damaged artifact it may.
            if term.rule == NONE {
                continue;
            }
            let residual = if term.tail == NONE { NONE } else { tables.tails[term.tail as usize].residual };
            if residual == NONE {
                found.push((candidate.row, RuleId(term.rule)));
            } else {
                open.push((residual, candidate.row, RuleId(term.rule)));
            }
        }
        open.sort_unstable();
        let mut rows: Vec<u32> = Vec::new();
        for run in open.chunk_by(|a, b| a.0 == b.0) {
            rows.clear();
            rows.extend(run.iter().map(|(_, row, _)| *row));
            rows.dedup();
            let selection = (rows.len() < batch.rows()).then_some(rows.as_slice());
            let truth = self.residuals[run[0].0 as usize].evaluate(self.artifact.schema(), batch, selection, cache);
            let truth = truth.as_boolean();
            let mut at = 0;
            for &(_, row, rule) in run {
                while rows[at] != row {
                    at += 1;
                }
                if truth.is_valid(at) && truth.value(at) {
                    found.push((row, rule));
                }
            }
        }
        hits(batch.rows(), &found)
    }
}

/// Pairs in any order, with repetitions (a rule may match by several of its terms), to hits: a counting sort by row, then a short sort in each row.
fn hits(rows: usize, found: &[(u32, RuleId)]) -> Hits {
    let mut ends = vec![0_u32; rows + 1];
    for (row, _) in found {
        ends[*row as usize + 1] += 1;
    }
    for row in 0..rows {
        ends[row + 1] += ends[row];
    }
    let mut next = ends.clone();
    let mut rules = vec![RuleId(0); found.len()];
    for (row, rule) in found {
        let place = &mut next[*row as usize];
        rules[*place as usize] = *rule;
        *place += 1;
    }
    let mut hits = Hits { offsets: Vec::with_capacity(rows + 1), rules: Vec::with_capacity(found.len()) };
    hits.offsets.push(0);
    for row in 0..rows {
        let run = &mut rules[ends[row] as usize..ends[row + 1] as usize];
        run.sort_unstable();
        for (index, rule) in run.iter().enumerate() {
            if index == 0 || run[index - 1] != *rule {
                hits.rules.push(*rule);
            }
        }
        hits.offsets.push(hits.rules.len() as u32);
    }
    hits
}
