//! The reference back end: the artifact's canonical texts parsed again, and every rule evaluated on every row of its tenant by the oracle.
//!
//! It shares nothing with the tables, the encoder, or the columnar evaluation: that is what makes it the judge of the other back ends.

use crate::event::{EventBatch, Schema, Value};
use crate::expr::oracle::Oracle;
use crate::flow::Hits;
use crate::id::{FieldId, RuleId};
use crate::rule::lists::Lists;
use crate::rule::{Limits, Origin, check};
use crate::tables::artifact::{Artifact, SOURCE_BLOCK};
use crate::tables::layout::NONE;

/// [`crate::tables::artifact::RuleRecord::status`] of rules that are not matched.
const OFF: u8 = 2;

/// Conditions ready for the oracle.
pub struct Reference {
    schema: Schema,
    rules: Vec<(RuleId, Option<String>, Oracle<'static>)>,
}

impl Reference {
    /// Parses the conditions of `artifact`.
    ///
    /// # Errors
    /// When a text cannot be unpacked, or does not parse: the text says which.
    pub fn new(artifact: &Artifact) -> Result<Self, String> {
        let lists = Lists::default();
        let limits = Limits::unlimited();
        let scope = check::Scope { schema: artifact.schema(), lists: &lists, parameters: &[], limits: &limits, windows: &[] };
        let mut rules = Vec::with_capacity(artifact.rules().len());
        for first in (0..artifact.rules().len()).step_by(SOURCE_BLOCK) {
            let texts = artifact.source_block(first / SOURCE_BLOCK).map_err(|error| error.to_string())?;
            for (text, number) in texts.iter().zip(first..) {
                let rule = RuleId::new(number);
                let record = artifact.rule(rule);
                if record.status == OFF || artifact.pattern(rule).is_some() {
                    continue;
                }
                let expr = check::condition(text, &Origin::default(), None, &scope).map_err(|diagnostics| {
                    let problems: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
                    format!("the canonical text of rule {} does not parse: {}", artifact.rule_name(rule), problems.join(" "))
                })?;
                let tenant = (record.tenant != NONE).then(|| artifact.manifest().tenants[record.tenant as usize].clone());
                rules.push((rule, tenant, Oracle::owned(expr)));
            }
        }
        Ok(Self { schema: artifact.schema().clone(), rules })
    }

    /// The fields that the conditions read, and the tenant's.
    #[must_use]
    pub fn fields(&self) -> Vec<FieldId> {
        let mut fields: Vec<FieldId> =
            self.rules.iter().flat_map(|(_, _, oracle)| oracle.expr().fields()).chain(self.schema.tenant).collect();
        fields.sort_unstable();
        fields.dedup();
        fields
    }

    /// The conditions, in the order of the rules.
    pub fn rules(&self) -> impl Iterator<Item = (RuleId, &Oracle<'static>)> {
        self.rules.iter().map(|(rule, _, oracle)| (*rule, oracle))
    }

    /// Whether an event with these values is one that `rule` looks at: its own tenant's, or anybody's.
    #[must_use]
    pub fn visits(&self, rule: RuleId, values: &[Value]) -> bool {
        let tenant = self.tenant_of(values);
        let at = self.rules.binary_search_by_key(&rule, |(id, ..)| *id);
        at.is_ok_and(|at| self.rules[at].1.as_ref().is_none_or(|of| Some(of) == tenant.as_ref()))
    }

    fn tenant_of(&self, values: &[Value]) -> Option<String> {
        self.schema.tenant.and_then(|field| match &values[field.index()] {
            Value::Text(name) => Some(name.to_string()),
            Value::Int(number) => Some(number.to_string()),
            Value::UInt(number) => Some(number.to_string()),
            _ => None,
        })
    }

    /// The hits of a batch.
    #[must_use]
    pub fn hits(&self, batch: &EventBatch) -> Hits {
        let mut hits = Hits { offsets: vec![0], rules: Vec::new() };
        for row in 0..batch.rows() {
            let values = batch.row(&self.schema, row);
            let tenant = self.tenant_of(&values);
            for (rule, of, oracle) in &self.rules {
                if (of.is_none() || *of == tenant) && oracle.holds(&values) {
                    hits.rules.push(*rule);
                }
            }
            hits.offsets.push(hits.rules.len() as u32);
        }
        hits
    }
}
