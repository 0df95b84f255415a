//! What interval algebra says about rules: never true, always true, duplicate, subsumed by another, without an indexable predicate.

use super::{Diagnostic, Severity};
use crate::event::set::Set;
use foldhash::fast::FixedState;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

/// Pairs of rules that are compared for subsumption, in all: about as many as take a second.
const COMPARISONS: usize = 5_000_000;

/// A warning about one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub code: &'static str,
    pub primary: String,
    pub hint: String,
}

/// One term: column memberships, ascending by column, and what makes two residuals the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct FormTerm {
    members: Vec<(u32, Set)>,
    residual: Option<Vec<u8>>,
}

/// The same, borrowed.
pub type TermView<'a> = (&'a [(u32, Set)], Option<&'a [u8]>);

/// The normal form of a rule, as far as rules are compared by it.
#[derive(Clone, Debug)]
struct Form {
    terms: Vec<FormTerm>,
}

impl Form {
    fn of(terms: &[TermView]) -> Self {
        let owned = |(members, residual): &TermView| FormTerm { members: members.to_vec(), residual: residual.map(<[u8]>::to_vec) };
        Self { terms: terms.iter().map(owned).collect() }
    }

    /// Whether every row of this form is one of `other`'s, as far as intervals show: each term lies within one of the other's.
    fn lies_within(&self, other: &Self) -> bool {
        self.terms.iter().all(|term| other.terms.iter().any(|wide| term.lies_within(wide)))
    }
}

impl FormTerm {
    fn lies_within(&self, wide: &Self) -> bool {
        (wide.residual.is_none() || wide.residual == self.residual)
            && wide.members.iter().all(|(column, set)| {
                self.members.binary_search_by_key(column, |(column, _)| *column).is_ok_and(|at| self.members[at].1.is_subset_of(set))
            })
    }
}

/// Looks at rules one after the other, and remembers what it needs to compare them.
#[derive(Debug, Default)]
pub struct Linter {
    /// By tenant and hash of the form: 64 bits, so that of a million rules two that differ are taken for one once in tens of millions of compilations; then a warning is wrong.
    seen: HashMap<(u32, u64), Arc<str>, FixedState>,
    /// The forms of each tenant's rules, until [`COMPARISONS`] were made.
    forms: HashMap<u32, Vec<(Arc<str>, Form)>>,
    comparisons: usize,
}

impl Linter {
    /// Looks at the next rule. `tenant` is any number that tells tenants apart.
    pub fn lint(&mut self, tenant: u32, id: &Arc<str>, terms: &[TermView]) -> Vec<Finding> {
        let finding = |code, primary: String, hint: &str| vec![Finding { code, primary, hint: hint.to_owned() }];
        if terms.is_empty() {
            return finding(
                "never-true",
                "the condition is never true".to_owned(),
                "its parts exclude each other; correct it or remove the rule",
            );
        }
        if terms.iter().any(|(members, residual)| members.is_empty() && residual.is_none()) {
            return finding(
                "always-true",
                "the condition is true for every event".to_owned(),
                "if that is meant, write TRUE; otherwise add what limits it",
            );
        }
        let mut hasher = FixedState::default().build_hasher();
        terms.hash(&mut hasher);
        if let Some(other) = self.seen.get(&(tenant, hasher.finish())) {
            return finding("duplicate", format!("the condition says the same as that of rule `{other}`"), "remove one of the two");
        }
        self.seen.insert((tenant, hasher.finish()), Arc::clone(id));
        let mut findings = Vec::new();
        if self.comparisons < COMPARISONS {
            let form = Form::of(terms);
            let forms = self.forms.entry(tenant).or_default();
            self.comparisons += forms.len();
            const HINT: &str = "if both are meant to count, ignore this";
            if let Some((wide, _)) = forms.iter().find(|(_, other)| form.lies_within(other)) {
                findings.extend(finding("subsumed", format!("rule `{wide}` matches whenever this one does"), HINT));
            }
            for (narrow, _) in forms.iter().filter(|(_, other)| other.lies_within(&form)) {
                findings.extend(finding("subsumes", format!("this rule matches whenever rule `{narrow}` does"), HINT));
            }
            forms.push((Arc::clone(id), form));
            if self.comparisons >= COMPARISONS {
                self.forms = HashMap::default();
            }
        }
        if terms.iter().any(|(members, _)| members.is_empty()) {
            findings.extend(finding(
                "no-indexable-predicate",
                "no predicate compares a field with a constant, so every event is evaluated".to_owned(),
                "add a comparison with a constant where the meaning allows it",
            ));
        }
        findings
    }

    /// What is left to say once all rules were seen.
    #[must_use]
    pub fn finish(&mut self) -> Vec<Diagnostic> {
        if self.comparisons < COMPARISONS {
            return Vec::new();
        }
        let message = "there are too many rules to compare each with each; only the first ones of each tenant were checked for subsumption";
        vec![Diagnostic::file(Severity::Warning, "subsumption-not-checked", "", message)]
    }
}
