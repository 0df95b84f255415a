//! What interval algebra says about rules: never true, always true, duplicate, subsumed by another, without an indexable predicate.

use super::{Diagnostic, Severity};
use crate::event::set::Set;
use foldhash::fast::FixedState;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

/// Pairs of rules that are compared for subsumption, in all: about as many as take a quarter of a second.
const COMPARISONS: usize = 1_000_000;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::key::Key;
    use crate::event::set::Interval;

    /// `low <= x <= high`.
    fn between(low: u64, high: u64) -> Set {
        let of = |key| Interval::point(Key::Narrow(key));
        Set::of(vec![Interval { low: of(low).low, high: of(high).high }])
    }

    fn form(terms: &[TermView]) -> Form {
        Form::of(terms)
    }

    /// The findings about one rule.
    fn one(linter: &mut Linter, tenant: u32, nth: u64, form: &Form) -> Vec<Finding> {
        let views: Vec<TermView> = form.terms.iter().map(|term| (term.members.as_slice(), term.residual.as_deref())).collect();
        linter.lint(tenant, &format!("rule-{nth}").into(), &views)
    }

    fn codes(findings: &[Finding]) -> Vec<&'static str> {
        findings.iter().map(|finding| finding.code).collect()
    }

    /// The findings about each rule, all of one tenant unless said.
    fn lint(forms: Vec<(u32, Form)>) -> Vec<Vec<&'static str>> {
        let mut linter = Linter::default();
        let findings = forms.into_iter().zip(0..).map(|((tenant, form), nth)| codes(&one(&mut linter, tenant, nth, &form))).collect();
        assert!(linter.finish().is_empty());
        findings
    }

    #[test]
    fn never_and_always_true() {
        assert_eq!(lint(vec![(0, form(&[]))]), [["never-true"]]);
        assert_eq!(lint(vec![(0, form(&[(&[(0, between(1, 2))], None), (&[], None)]))]), [["always-true"]]);
        // A residual alone decides; a range excludes nothing it names.
        assert_eq!(lint(vec![(0, form(&[(&[(0, between(1, 2))], Some(b"r"))]))]), [[""; 0]]);
    }

    #[test]
    fn duplicates_are_of_one_tenant() {
        let same = || form(&[(&[(0, between(1, 2)), (3, between(5, 9))], Some(b"r"))]);
        assert_eq!(lint(vec![(0, same()), (0, same())]), [vec![], vec!["duplicate"]]);
        assert_eq!(lint(vec![(0, same()), (1, same())]), [[""; 0], []]);
        let other = form(&[(&[(0, between(1, 2)), (3, between(5, 9))], Some(b"s"))]);
        assert_eq!(lint(vec![(0, same()), (0, other)]), [[""; 0], []], "another residual");
    }

    #[test]
    fn subsumed_by_a_wider_rule() {
        let range = |low, high| form(&[(&[(0, between(low, high))], None)]);
        assert_eq!(lint(vec![(0, range(1, 9)), (0, range(2, 5))]), [vec![], vec!["subsumed"]]);
        assert_eq!(lint(vec![(0, range(2, 5)), (0, range(1, 9))]), [vec![], vec!["subsumes"]]);
        assert_eq!(lint(vec![(0, range(1, 5)), (0, range(2, 9))]), [[""; 0], []], "they overlap");
        assert_eq!(lint(vec![(0, range(1, 9)), (1, range(2, 5))]), [[""; 0], []], "another tenant");
        // A conjunction lies within each of its parts; a disjunction only where all of its terms do.
        let both = form(&[(&[(0, between(2, 5)), (1, between(0, 1))], None)]);
        assert_eq!(lint(vec![(0, range(1, 9)), (0, both)]), [vec![], vec!["subsumed"]]);
        let either = form(&[(&[(0, between(2, 5))], None), (&[(1, between(0, 1))], None)]);
        assert_eq!(lint(vec![(0, range(1, 9)), (0, either)]), [[""; 0], []]);
        // A residual narrows: the rule with it lies within the one without, not the other way.
        let with = || form(&[(&[(0, between(1, 9))], Some(b"r"))]);
        assert_eq!(lint(vec![(0, range(1, 9)), (0, with())]), [vec![], vec!["subsumed"]]);
        assert_eq!(lint(vec![(0, with()), (0, range(3, 4))]), [[""; 0], []]);
    }

    #[test]
    fn nothing_to_index() {
        assert_eq!(lint(vec![(0, form(&[(&[], Some(b"r"))]))]), [["no-indexable-predicate"]]);
        assert_eq!(lint(vec![(0, form(&[(&[(0, between(1, 1))], None), (&[], Some(b"r"))]))]), [["no-indexable-predicate"]]);
        assert_eq!(lint(vec![(0, form(&[(&[(0, between(1, 1))], Some(b"r"))]))]), [[""; 0]]);
    }

    #[test]
    fn too_many_rules_to_compare_are_told() {
        let mut linter = Linter::default();
        for nth in 0..3_300 {
            one(&mut linter, 0, nth, &form(&[(&[(0, between(nth * 2, nth * 2))], None)]));
        }
        assert_eq!(linter.finish()[0].code, "subsumption-not-checked");
    }
}
