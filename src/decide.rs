//! Hits to decisions: what the engine says of each event.

use crate::flow::Hits;
use crate::id::RuleId;
use crate::tables::artifact::RuleRecord;

/// [`RuleRecord::status`] of rules that act, and of rules that are only reported.
pub const LIVE: u8 = 0;
pub const SHADOW: u8 = 1;

/// Decisions of a batch, one a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decisions {
    /// Thousandths: the sum over the matching live rules, saturating at the ends of 64 bits.
    pub scores: Vec<i64>,
    /// Index into [`crate::tables::artifact::ACTIONS`]: the strongest of the matching live rules, `allow` where none matches.
    pub actions: Vec<u8>,
    /// Matching live rules.
    pub rules: Hits,
    /// Matching shadow rules.
    pub shadow_rules: Hits,
}

/// Decides every row of `hits`. A sum of scores does not depend on the order of the rules, except where it leaves 64 bits, and there it is taken in 128.
#[must_use]
pub fn decide(hits: &Hits, records: &[RuleRecord]) -> Decisions {
    decide_with(hits, |rule| &records[rule.index()])
}

/// The same where the records do not lie in one run.
#[must_use]
pub fn decide_with<'a>(hits: &Hits, record: impl Fn(RuleId) -> &'a RuleRecord) -> Decisions {
    let rows = hits.rows();
    let mut decisions = Decisions { scores: Vec::with_capacity(rows), actions: Vec::with_capacity(rows), ..Decisions::default() };
    decisions.rules.offsets.push(0);
    decisions.shadow_rules.offsets.push(0);
    for row in 0..rows {
        let mut score = 0_i128;
        let mut action = 0;
        for &rule in hits.row(row) {
            let record = record(rule);
            match record.status {
                LIVE => {
                    score += i128::from(record.score);
                    action = action.max(record.action);
                    decisions.rules.rules.push(rule);
                }
                SHADOW => decisions.shadow_rules.rules.push(rule),
                _ => {}
            }
        }
        decisions.scores.push(i64::try_from(score).unwrap_or(if score < 0 { i64::MIN } else { i64::MAX }));
        decisions.actions.push(action);
        decisions.rules.offsets.push(decisions.rules.rules.len() as u32);
        decisions.shadow_rules.offsets.push(decisions.shadow_rules.rules.len() as u32);
    }
    decisions
}

/// The hits of each rule, shadow rules included.
pub fn count(hits: &Hits, counts: &mut [u64]) {
    hits.rules.iter().for_each(|rule: &RuleId| counts[rule.index()] += 1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::layout::NONE;

    fn record(score: i64, action: u8, status: u8) -> RuleRecord {
        RuleRecord { score, tenant: NONE, outcome: NONE, first_tag: 0, tags: 0, action, status }
    }

    #[test]
    fn live_rules_decide_and_shadow_rules_are_only_reported() {
        let records = [record(1500, 1, LIVE), record(-500, 3, LIVE), record(9000, 3, SHADOW), record(i64::MAX, 0, LIVE)];
        let hits = Hits { offsets: vec![0, 3, 3, 4, 6], rules: [0, 1, 2, 2, 0, 3].map(RuleId).to_vec() };
        let decisions = decide(&hits, &records);
        assert_eq!(decisions.scores, [1000, 0, 0, i64::MAX]);
        assert_eq!(decisions.actions, [3, 0, 0, 1], "the strongest wins, and allow never hides it");
        assert_eq!(decisions.rules.row(0), [RuleId(0), RuleId(1)]);
        assert_eq!(decisions.shadow_rules.row(0), [RuleId(2)]);
        assert_eq!(decisions.rules.row(2), []);
        let mut counts = [0; 4];
        count(&hits, &mut counts);
        assert_eq!(counts, [2, 1, 2, 1]);
    }
}
