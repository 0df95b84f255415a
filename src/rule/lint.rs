//! What interval algebra says about rules: never true, always true, duplicate, subsumed by another, without an indexable predicate.

use super::{Diagnostic, Severity};
use crate::event::set::Set;
use foldhash::fast::FixedState;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::BuildHasher;

/// Pairs of rules that are compared for subsumption, in all: about as many as take a quarter of a second.
const COMPARISONS: usize = 1_000_000;

/// A warning about one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub code: &'static str,
    pub primary: String,
    pub hint: String,
}

/// What is known of a rule's normal form without a look at other rules: cheap to make of every rule, on any thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    terms: u32,
    /// Whether a term asks for nothing.
    always: bool,
    /// Whether a term has no members.
    unindexed: bool,
    /// Of the whole form: 64 bits, so that of a million rules two that differ are taken for one once in tens of millions of compilations; then
    /// a warning is wrong.
    hash: u64,
}

impl Outline {
    /// Adds the next term. `column` names a member's column by a number that is the same for equal columns of all rules; the order of the members says nothing.
    pub fn add<C: Copy>(&mut self, members: &[(C, Set)], residual: Option<&[u8]>, column: impl Fn(C) -> u64) {
        self.terms += 1;
        self.always |= members.is_empty() && residual.is_none();
        self.unindexed |= members.is_empty();
        let one = |(name, set): &(C, Set)| FixedState::default().hash_one((column(*name), set));
        let members = members.iter().map(one).fold(0_u64, u64::wrapping_add);
        self.hash = FixedState::default().hash_one((self.hash, members, residual));
    }
}

/// One term: column memberships, ascending by column, and what makes two residuals the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormTerm {
    members: Vec<(u32, Set)>,
    residual: Option<Vec<u8>>,
    /// A bit for the columns of the members, each one's number modulo 64: what shows most pairs to have nothing to do with each other.
    columns: u64,
}

impl FormTerm {
    /// The term of these members, in any order.
    #[must_use]
    pub fn new(mut members: Vec<(u32, Set)>, residual: Option<Vec<u8>>) -> Self {
        members.sort_by_key(|(column, _)| *column);
        let columns = members.iter().fold(0, |bits, (column, _)| bits | 1 << (column % 64));
        Self { members, residual, columns }
    }

    fn lies_within(&self, wide: &Self) -> bool {
        wide.columns & !self.columns == 0
            && (wide.residual.is_none() || wide.residual == self.residual)
            && wide.members.iter().all(|(column, set)| {
                self.members.binary_search_by_key(column, |(column, _)| *column).is_ok_and(|at| self.members[at].1.is_subset_of(set))
            })
    }
}

/// The normal form of a rule, as far as rules are compared by it.
#[derive(Clone, Debug)]
pub struct Form {
    terms: Vec<FormTerm>,
    /// The columns that all terms name, as bits.
    columns: u64,
}

impl Form {
    #[must_use]
    pub fn new(terms: Vec<FormTerm>) -> Self {
        let columns = terms.iter().fold(u64::MAX, |bits, term| bits & term.columns);
        Self { terms, columns }
    }

    /// Whether every row of this form is one of `other`'s, as far as intervals show: each term lies within one of the other's.
    fn lies_within(&self, other: &Self) -> bool {
        other.columns & !self.columns == 0 && self.terms.iter().all(|term| other.terms.iter().any(|wide| term.lies_within(wide)))
    }
}

/// Looks at rules one after the other, and remembers what it needs to compare them.
#[derive(Debug, Default)]
pub struct Linter {
    /// The first rule of a tenant with this [`Outline::hash`].
    seen: HashMap<(u32, u64), u32, FixedState>,
    /// The forms of each tenant's rules, until [`COMPARISONS`] were made.
    forms: HashMap<u32, Vec<(u32, Form)>>,
    comparisons: usize,
}

impl Linter {
    /// Looks at the next rule, `rule`. `tenant` is any number that tells tenants apart; `name` gives the names of this and earlier rules, `form` this rule's form.
    pub fn lint<N: fmt::Display>(
        &mut self,
        tenant: u32,
        rule: u32,
        outline: Outline,
        name: impl Fn(u32) -> N,
        form: impl FnOnce() -> Form,
    ) -> Vec<Finding> {
        let finding = |code, primary: String, hint: &str| vec![Finding { code, primary, hint: hint.to_owned() }];
        if outline.terms == 0 {
            return finding(
                "never-true",
                "the condition is never true".to_owned(),
                "its parts exclude each other; correct it or remove the rule",
            );
        }
        if outline.always {
            return finding(
                "always-true",
                "the condition is true for every event".to_owned(),
                "if that is meant, write TRUE; otherwise add what limits it",
            );
        }
        match self.seen.entry((tenant, outline.hash)) {
            Entry::Occupied(other) => {
                let primary = format!("the condition says the same as that of rule `{}`", name(*other.get()));
                return finding("duplicate", primary, "remove one of the two");
            }
            Entry::Vacant(entry) => entry.insert(rule),
        };
        let mut findings = Vec::new();
        if self.comparisons < COMPARISONS {
            let form = form();
            let forms = self.forms.entry(tenant).or_default();
            self.comparisons += forms.len();
            const HINT: &str = "if both are meant to count, ignore this";
            if let Some((wide, _)) = forms.iter().find(|(_, other)| form.lies_within(other)) {
                findings.extend(finding("subsumed", format!("rule `{}` matches whenever this one does", name(*wide)), HINT));
            }
            for (narrow, _) in forms.iter().filter(|(_, other)| other.lies_within(&form)) {
                findings.extend(finding("subsumes", format!("this rule matches whenever rule `{}` does", name(*narrow)), HINT));
            }
            forms.push((rule, form));
            if self.comparisons >= COMPARISONS {
                self.forms = HashMap::default();
            }
        }
        if outline.unindexed {
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

    /// Members and residual of a term.
    type TermView<'a> = (&'a [(u32, Set)], Option<&'a [u8]>);

    fn form(terms: &[TermView]) -> Form {
        Form::new(terms.iter().map(|(members, residual)| FormTerm::new(members.to_vec(), residual.map(<[u8]>::to_vec))).collect())
    }

    /// The findings about one rule.
    fn one(linter: &mut Linter, tenant: u32, nth: u64, form: &Form) -> Vec<Finding> {
        let mut outline = Outline::default();
        form.terms.iter().for_each(|term| outline.add(&term.members, term.residual.as_deref(), u64::from));
        linter.lint(tenant, nth as u32, outline, |rule| rule, || form.clone())
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
