//! The data path on one screen: encode, match, verify, hits.
//!
//! A [`Generation`] is an artifact in service. It is immutable and shared: every batch is judged by one generation from end to end.

pub mod router;

use crate::encode::Encoder;
use crate::event::EventBatch;
use crate::expr::columns::{Cache, Program};
use crate::flow::{EncodedBatch, Hits};
use crate::id::{FieldId, RuleId};
use crate::matcher::output::{Reduced, Reduction};
use crate::matcher::{Found, Pair};
use crate::tables::{Artifact, ArtifactError};
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

    /// What was found to hits: residuals are evaluated on the rows that are candidates for them, and the rules of each row sorted.
    pub fn verify(&self, batch: &EventBatch, found: Found, cache: &mut Cache) -> Hits {
        let tables = self.artifact.tables();
        let Found { rules: mut found, open } = found;
        let open = open.iter().filter_map(|candidate| {
            let tail = tables.tail(candidate.term)?;
            Some((tail.residual, (candidate.row, tables.term_rules[candidate.term as usize])))
        });
        let open: Vec<(u32, (u32, u32))> = open.collect();
        let (starts, mut open) = if open.is_empty() { Default::default() } else { grouped(self.residuals.len(), &open) };
        let mut rows: Vec<u32> = Vec::new();
        for (residual, bounds) in self.residuals.iter().zip(starts.windows(2)).filter(|(_, bounds)| bounds[0] < bounds[1]) {
            let run = &mut open[bounds[0] as usize..bounds[1] as usize];
            // Mostly ascending already, which sorting finds out at once.
            run.sort_unstable();
            rows.clear();
            rows.extend(run.iter().map(|(row, _)| *row));
            rows.dedup();
            let selection = (rows.len() < batch.rows()).then_some(rows.as_slice());
            let truth = residual.evaluate(self.artifact.schema(), batch, selection, cache);
            let truth = truth.as_boolean();
            let mut at = 0;
            for &(row, rule) in &*run {
                while rows[at] != row {
                    at += 1;
                }
                if truth.is_valid(at) && truth.value(at) {
                    found.push(Pair { value: rule, row });
                }
            }
        }
        hits(batch.rows(), &found)
    }

    /// What was reduced, with the terms that were left open.
    pub fn complete(&self, batch: &EventBatch, reduced: Reduced, cache: &mut Cache) -> Reduction {
        let Reduced { mut reduction, rest } = reduced;
        if !rest.is_empty() {
            let hits = self.verify(batch, Found::of(&self.artifact.tables(), &rest), cache);
            reduction.add_hits(&hits, self.artifact.rules());
        }
        reduction
    }
}

/// A counting sort of pairs by their first part, which is below `groups`: where each group starts (and one more entry, the end), and the second parts,
/// in the order in which they came.
fn grouped<T: Copy>(groups: usize, pairs: &[(u32, T)]) -> (Vec<u32>, Vec<T>) {
    let starts = starts(groups, pairs.iter().map(|(group, _)| *group));
    let mut next = starts.clone();
    let mut values: Vec<T> = pairs.iter().map(|(_, value)| *value).collect();
    for (group, value) in pairs {
        let place = &mut next[*group as usize];
        values[*place as usize] = *value;
        *place += 1;
    }
    (starts, values)
}

/// Where each of the groups starts, and one more entry, the end.
fn starts(groups: usize, members: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut starts = vec![0_u32; groups + 1];
    members.for_each(|group| starts[group as usize + 1] += 1);
    for group in 0..groups {
        starts[group + 1] += starts[group];
    }
    starts
}

/// Rows and rules in any order, with repetitions (a rule may match by several of its terms), to hits.
fn hits(rows: usize, found: &[Pair]) -> Hits {
    let mut offsets = starts(rows, found.iter().map(|pair| pair.row));
    let mut next = offsets.clone();
    let mut rules = vec![RuleId(0); found.len()];
    for pair in found {
        let place = &mut next[pair.row as usize];
        rules[*place as usize] = RuleId(pair.value);
        *place += 1;
    }
    let mut repeated = false;
    for row in 0..rows {
        let run = &mut rules[offsets[row] as usize..offsets[row + 1] as usize];
        run.sort_unstable();
        repeated |= run.windows(2).any(|pair| pair[0] == pair[1]);
    }
    if repeated {
        let mut length = 0;
        let mut start = 0;
        for row in 0..rows {
            let end = offsets[row + 1] as usize;
            let first = length;
            for at in start..end {
                if length == first || rules[length - 1] != rules[at] {
                    rules[length] = rules[at];
                    length += 1;
                }
            }
            start = end;
            offsets[row + 1] = length as u32;
        }
        rules.truncate(length);
    }
    Hits { offsets, rules }
}
