//! The row conditions of patterns, matched as rules are.

use crate::compile::{Context, compile_typed};
use crate::engine::Generation;
use crate::engine::router::{Choice, Router};
use crate::event::{EventBatch, Schema};
use crate::expr::columns::Cache;
use crate::flow::Hits;
use crate::rule::lists::Lists;
use crate::rule::{Diagnostic, Limits, Severity};
use crate::tables::Artifact;
use crate::temporal::conditions::Conditions;
use crate::temporal::patterns::Patterns;
use std::sync::Arc;

/// What patterns ask of single rows, as rules of their own: the matcher of rules answers for whole batches.
pub enum RowConditions {
    Matched(Box<(Generation, Router)>),
    /// Row by row and condition by condition.
    Judged(Schema, Conditions),
}

impl RowConditions {
    /// `choice`: who matches; `None`: nobody, each row is judged by itself.
    ///
    /// # Errors
    /// When they cannot be compiled, or the GPU was asked for and cannot be had.
    pub fn new(patterns: &Patterns, schema: Schema, choice: Option<Choice>) -> Result<Self, Vec<Diagnostic>> {
        let conditions = patterns.conditions();
        let Some(choice) = choice else { return Ok(Self::Judged(schema, conditions.clone())) };
        let (lists, limits) = (Lists::default(), Limits::default());
        let context = Context { schema: &schema, lists: &lists, limits: &limits, threads: 1 };
        let typed = conditions.all().iter().map(|condition| (condition.tenant.clone(), condition.expr.clone()));
        let compiled = compile_typed(typed, &context);
        let Some(bytes) = compiled.artifact else { return Err(compiled.diagnostics) };
        let unusable = |problem: String| vec![Diagnostic::file(Severity::Error, "row-conditions", "", problem)];
        let artifact = Arc::new(Artifact::from_bytes(&bytes).map_err(|error| unusable(error.to_string()))?);
        let generation = Generation::new(Arc::clone(&artifact)).map_err(|error| unusable(error.to_string()))?;
        Ok(Self::Matched(Box::new((generation, Router::new(artifact, choice).map_err(unusable)?))))
    }

    /// For each row the conditions that hold for it.
    #[must_use]
    pub fn of(&self, batch: &EventBatch) -> Hits {
        match self {
            Self::Judged(schema, conditions) => conditions.judge(schema, batch),
            Self::Matched(matched) => {
                let (generation, router) = &**matched;
                let mut cache = Cache::default();
                let encoded = generation.encode(batch, &mut cache);
                generation.verify(batch, router.find(&encoded), &mut cache)
            }
        }
    }
}
