//! W5: changes to the rules of a live engine. An endless stream of them; how many a second is for who applies them to say.

use super::{Generator, Random, SEED, Settings, rule};
use crate::live::Change;
use crate::rule::Rule;
use std::sync::Arc;

/// Additions, replacements and removals, equally many, so that the number of rules stays about what it was.
pub struct Changes {
    generator: Generator,
    random: Random,
    /// Id and tenant of each rule in service.
    rules: Vec<(Arc<str>, Option<Arc<str>>)>,
    /// The number of the next rule that is added.
    next: usize,
}

impl Changes {
    /// Changes to `rules`, which were drawn with the same settings.
    #[must_use]
    pub fn new(settings: Settings, rules: &[Rule]) -> Self {
        let known = rules.iter().map(|rule| (Arc::clone(&rule.id), rule.tenant.clone())).collect();
        Self { generator: Generator::changes(settings), random: Random::new(SEED), rules: known, next: rules.len() }
    }
}

impl Iterator for Changes {
    type Item = Change;

    fn next(&mut self) -> Option<Change> {
        let kind = if self.rules.is_empty() { 0 } else { self.random.below(3) };
        if kind == 0 {
            let rule = self.generator.rule(self.next);
            self.next += 1;
            self.rules.push((Arc::clone(&rule.id), rule.tenant.clone()));
            return Some(Change::Add(rule));
        }
        let at = self.random.below(self.rules.len());
        if kind == 1 {
            let (id, tenant) = self.rules[at].clone();
            return Some(Change::Replace(rule(id.to_string(), tenant, self.generator.condition(), 0)));
        }
        Some(Change::Remove(self.rules.swap_remove(at).0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{Workload, rules};
    use std::collections::HashMap;

    #[test]
    fn changes_apply_to_the_rules_in_service() {
        let settings = Settings::from(Workload::F1);
        let rules = rules(settings, 50);
        let mut live: HashMap<Arc<str>, Rule> = rules.iter().map(|rule| (Arc::clone(&rule.id), rule.clone())).collect();
        let mut kinds = [0; 3];
        for change in Changes::new(settings, &rules).take(3000) {
            match change {
                Change::Add(rule) => {
                    kinds[0] += 1;
                    assert!(live.insert(Arc::clone(&rule.id), rule).is_none());
                }
                Change::Replace(rule) => {
                    kinds[1] += 1;
                    let old = live.insert(Arc::clone(&rule.id), rule.clone()).expect("a rule in service");
                    assert_eq!(old.tenant, rule.tenant);
                }
                Change::Remove(id) => {
                    kinds[2] += 1;
                    assert!(live.remove(&id).is_some());
                }
                Change::Status(..) => unreachable!("the status of rules is not changed"),
            }
        }
        assert!(kinds.iter().all(|kind| *kind > 900), "{kinds:?}");
        let again: Vec<Change> = Changes::new(settings, &rules).take(100).collect();
        assert!(again.into_iter().eq(Changes::new(settings, &rules).take(100)));
    }
}
