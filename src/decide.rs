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
    decisions.rules.rules.reserve(hits.rules.len());
    decisions.rules.offsets.push(0);
    decisions.shadow_rules.offsets.push(0);
    for row in 0..rows {
        let rules = hits.row(row);
        let (mut score, mut overflows, mut action, mut all_live) = (0_i64, false, 0, true);
        for &rule in rules {
            let record = record(rule);
            if record.status == LIVE {
                let (sum, overflow) = score.overflowing_add(record.score);
                (score, overflows) = (sum, overflows | overflow);
                action = action.max(record.action);
            } else {
                all_live = false;
            }
        }
        if overflows {
            score = saturated(rules.iter().map(|rule| record(*rule)));
        }
        if all_live {
            decisions.rules.rules.extend_from_slice(rules);
        } else {
            let record = &record;
            let with = |status| rules.iter().copied().filter(move |rule| record(*rule).status == status);
            decisions.rules.rules.extend(with(LIVE));
            decisions.shadow_rules.rules.extend(with(SHADOW));
        }
        decisions.scores.push(score);
        decisions.actions.push(action);
        decisions.rules.offsets.push(decisions.rules.rules.len() as u32);
        decisions.shadow_rules.offsets.push(decisions.shadow_rules.rules.len() as u32);
    }
    decisions
}

/// The sum of scores that leaves 64 bits somewhere on the way, and perhaps at the end.
fn saturated<'a>(records: impl Iterator<Item = &'a RuleRecord>) -> i64 {
    let score: i128 = records.filter(|record| record.status == LIVE).map(|record| i128::from(record.score)).sum();
    i64::try_from(score).unwrap_or(if score < 0 { i64::MIN } else { i64::MAX })
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
        let records =
            [record(1500, 1, LIVE), record(-500, 3, LIVE), record(9000, 3, SHADOW), record(i64::MAX, 0, LIVE), record(-1500, 0, LIVE)];
        let hits = Hits { offsets: vec![0, 3, 3, 4, 6, 9], rules: [0, 1, 2, 2, 0, 3, 0, 3, 4].map(RuleId).to_vec() };
        let decisions = decide(&hits, &records);
        assert_eq!(decisions.scores, [1000, 0, 0, i64::MAX, i64::MAX], "a sum that leaves 64 bits on the way comes back");
        assert_eq!(decisions.actions, [3, 0, 0, 1, 1], "the strongest wins, and allow never hides it");
        assert_eq!(decisions.rules.row(0), [RuleId(0), RuleId(1)]);
        assert_eq!(decisions.shadow_rules.row(0), [RuleId(2)]);
        assert_eq!(decisions.rules.row(2), []);
        let mut counts = [0; 5];
        count(&hits, &mut counts);
        assert_eq!(counts, [3, 1, 2, 2, 1]);
    }
}
