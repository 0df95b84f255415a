//! Rules that are newer than the base, each by itself: what they are, and what the codes of a batch say of them.

use super::base::{Base, Rank};
use super::codes::Term;
use crate::event::{EventBatch, Schema};
use crate::expr::Expr;
use crate::expr::columns::Program;
use crate::rule::{Rule, Status};
use crate::tables::artifact::RuleRecord;
use crate::tables::layout::NONE;
use arrow::array::types::{Int32Type, Int64Type, UInt64Type};
use arrow::array::{Array, AsArray};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// A rule that was added, or that replaced another.
pub struct Changed {
    pub rank: Rank,
    /// Without its tests, which have passed.
    pub rule: Rule,
    /// Score, action and status; tenant, outcome and tags are the rule's.
    pub record: RuleRecord,
    pub condition: Expr,
    program: OnceLock<Program>,
}

impl Changed {
    pub fn new(rank: Rank, mut rule: Rule, condition: Expr) -> Self {
        rule.tests = Vec::new();
        let record = RuleRecord {
            score: rule.score,
            tenant: NONE,
            outcome: NONE,
            first_tag: 0,
            tags: 0,
            action: rule.action as u8,
            status: rule.status as u8,
        };
        Self { rank, rule, record, condition, program: OnceLock::new() }
    }

    /// The condition as it is evaluated where codes leave it open, which is seldom: it is prepared when it is first needed.
    pub fn program(&self) -> &Program {
        self.program.get_or_init(|| Program::new(self.condition.clone()))
    }
}

/// The same in the codes of a base.
pub struct Newer {
    pub changed: Arc<Changed>,
    /// The partition of its tenant, by the numbers of the base, and of [`Strangers`] beyond those.
    pub partition: u32,
    /// None where the rule is off, or its condition is never true.
    pub terms: Vec<Term>,
}

impl Newer {
    /// `limit` is that of a condition's terms.
    pub fn new(changed: Arc<Changed>, base: &Base, strangers: &mut Arc<Strangers>, limit: usize) -> Self {
        let Changed { rule, condition, .. } = &*changed;
        let coder = base.coder();
        let partition = rule
            .tenant
            .as_ref()
            .map_or(0, |tenant| coder.partition(tenant).unwrap_or_else(|| Strangers::number(strangers, coder.partitions(), tenant)));
        let terms = if rule.status == Status::Off { Vec::new() } else { coder.terms(condition, base.artifact().schema(), limit) };
        Self { partition, terms, changed }
    }
}

/// Tenants that the base does not know, numbered after those that it knows.
#[derive(Clone, Default)]
pub struct Strangers(HashMap<Arc<str>, u32, foldhash::fast::FixedState>);

impl Strangers {
    fn number(strangers: &mut Arc<Self>, first: u32, tenant: &Arc<str>) -> u32 {
        if let Some(known) = strangers.0.get(tenant) {
            return *known;
        }
        let number = first + strangers.0.len() as u32;
        Arc::make_mut(strangers).0.insert(Arc::clone(tenant), number);
        number
    }

    /// Puts their numbers in `partitions`, which has those of the base's tenants, and 0 for all others. An integer's name is its decimal text.
    pub fn find(&self, schema: &Schema, batch: &EventBatch, partitions: &mut [u32]) {
        let Some(column) = schema.tenant.and_then(|field| batch.column(field)).filter(|_| !self.0.is_empty()) else { return };
        let unknown = partitions.iter_mut().enumerate().filter(|(row, partition)| **partition == 0 && column.is_valid(*row));
        let find = |name: &str| self.0.get(name).copied().unwrap_or(0);
        if let Some(texts) = column.as_dictionary_opt::<Int32Type>() {
            let known: Vec<u32> = texts.values().as_string::<i32>().iter().map(|name| name.map_or(0, find)).collect();
            unknown.for_each(|(row, partition)| *partition = known[texts.keys().value(row) as usize]);
        } else if let Some(numbers) = column.as_primitive_opt::<Int64Type>() {
            unknown.for_each(|(row, partition)| *partition = find(&numbers.value(row).to_string()));
        } else if let Some(numbers) = column.as_primitive_opt::<UInt64Type>() {
            unknown.for_each(|(row, partition)| *partition = find(&numbers.value(row).to_string()));
        }
    }
}
