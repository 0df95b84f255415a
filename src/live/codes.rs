//! Conditions of newer rules in the codes of the base: a batch is encoded once, for the base, and newer rules are matched by the same codes.
//!
//! The base has no thresholds of its own for them. A bound that lies between two thresholds leaves open which of the values between them are in: their code is *unsure*, and
//! the condition is evaluated on the rows that have it. So is what is no column of the base. Everything else the codes decide.

use crate::event::Schema;
use crate::event::key::{Key, wide_bits};
use crate::event::set::{Place, Set, Side};
use crate::expr::{Expr, Node};
use crate::id::NodeId;
use crate::rule::normal::{self, Column, Columns};
use crate::tables::Artifact;
use crate::tables::artifact::{ColumnSource, ThresholdKeys, slice_at};
use std::collections::HashMap;
use std::sync::Arc;

/// What codes say of a row and a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Fails,
    Holds,
    /// The condition is to be evaluated.
    Open,
}

/// A conjunction of a condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    /// The narrowest first.
    pub members: Vec<Member>,
    /// Whether codes do not say all of it.
    pub open: bool,
}

impl Term {
    /// What the codes of a row say.
    pub fn verdict(&self, codes: &[u32]) -> Verdict {
        let mut open = self.open;
        // Whoever asks has mostly looked at the narrowest already.
        for member in self.members.iter().rev() {
            match member.verdict(codes[member.column as usize]) {
                Verdict::Fails => return Verdict::Fails,
                Verdict::Holds => {}
                Verdict::Open => open = true,
            }
        }
        if open { Verdict::Open } else { Verdict::Holds }
    }
}

/// Codes of a column.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    pub column: u32,
    /// From the lowest to the highest of them.
    hull: [u32; 2],
    /// (low, high), both included; ascending and disjoint. At least one.
    pub ranges: Vec<[u32; 2]>,
    /// Codes in the ranges that some values have which are in, and some which are not; ascending.
    unsure: Vec<u32>,
    /// The share of the column's codes that the ranges have.
    pub share: f64,
}

impl Member {
    fn verdict(&self, code: u32) -> Verdict {
        if code < self.hull[0] || self.hull[1] < code {
            return Verdict::Fails;
        }
        if self.ranges.len() == 1 && self.unsure.is_empty() {
            return Verdict::Holds;
        }
        let after = self.ranges.partition_point(|[low, _]| *low <= code);
        if after == 0 || code > self.ranges[after - 1][1] {
            Verdict::Fails
        } else if self.unsure.binary_search(&code).is_ok() {
            Verdict::Open
        } else {
            Verdict::Holds
        }
    }
}

/// Turns conditions into terms over the codes of an artifact.
pub struct Coder {
    artifact: Arc<Artifact>,
    /// The partition of each tenant.
    tenants: HashMap<Arc<str>, u32, foldhash::fast::FixedState>,
}

impl Coder {
    pub fn new(artifact: Arc<Artifact>) -> Self {
        let tenants = artifact.manifest().tenants.iter().map(|name| Arc::from(name.as_str())).zip(1..).collect();
        Self { artifact, tenants }
    }

    /// The number of partitions: of every tenant, and of each.
    pub fn partitions(&self) -> u32 {
        self.tenants.len() as u32 + 1
    }

    /// The partition of a tenant that the artifact knows.
    pub fn partition(&self, tenant: &str) -> Option<u32> {
        self.tenants.get(tenant).copied()
    }

    /// The terms of a condition: where none of them may hold, neither does it.
    pub fn terms(&self, condition: &Expr, schema: &Schema, limit: usize) -> Vec<Term> {
        let terms = normal::terms(condition, schema, &mut ColumnsOf(&self.artifact), limit);
        terms
            .into_iter()
            .map(|term| {
                let mut members: Vec<Member> = term.members.iter().map(|(Column(column), set)| self.member(*column, set)).collect();
                members.sort_by(|a, b| a.share.total_cmp(&b.share));
                Term { members, open: !term.residual.is_empty() }
            })
            .collect()
    }

    fn member(&self, column: u32, set: &Set) -> Member {
        let (described, step) = (&self.artifact.manifest().columns[column as usize], self.artifact.tables().steps[column as usize]);
        let keys = self.artifact.thresholds(described);
        let mut halves = Halves::of(set, keys);
        if described.points_only && matches!(keys, ThresholdKeys::Text { .. }) {
            halves.join_gaps(count(keys));
        }
        if set.null {
            halves.insert_lowest(0);
        }
        let covered: u32 = halves.ranges.iter().map(|[low, high]| high - low + 1).sum();
        let ranges: Vec<[u32; 2]> = halves.ranges.into_iter().map(|range| range.map(|half| half * step)).collect();
        Member {
            column,
            hull: [ranges[0][0], ranges[ranges.len() - 1][1]],
            ranges,
            unsure: halves.unsure.into_iter().map(|half| half * step).collect(),
            share: f64::from(covered) / (2 * count(keys) + 2) as f64,
        }
    }
}

/// The columns that an artifact has: those of fields, and derived ones.
struct ColumnsOf<'a>(&'a Artifact);

impl Columns for ColumnsOf<'_> {
    fn column(&mut self, expr: &Expr, operand: NodeId) -> Option<Column> {
        let columns = &self.0.manifest().columns;
        let position = if let Node::Field(field) = expr.node(operand) {
            columns.iter().position(|column| column.source == ColumnSource::Field(*field))
        } else {
            let mut alone = Expr::new();
            alone.copy_from(expr, operand);
            columns.iter().position(|column| matches!(&column.source, ColumnSource::Derived(expr) if *expr == alone))
        };
        position.map(|position| Column(position as u32))
    }
}

/// A set of values by where they lie among thresholds, in halves of their distance: threshold `k` is `2k + 2`, what lies between it and the next `2k + 3`, and what lies
/// below all 1. A column's step times that is a code.
struct Halves {
    ranges: Vec<[u32; 2]>,
    unsure: Vec<u32>,
}

impl Halves {
    /// Of the values of a set; NULL is left out.
    fn of(set: &Set, keys: ThresholdKeys) -> Self {
        let mut halves = Self { ranges: Vec::with_capacity(set.intervals.len()), unsure: Vec::new() };
        let highest = 2 * count(keys) as u32 + 1;
        for interval in set.intervals.iter() {
            let (low, low_sure) = interval.low.as_ref().map_or((1, true), |place| end(keys, place, Side::After, 1));
            let (high, high_sure) = interval.high.as_ref().map_or((highest, true), |place| end(keys, place, Side::Before, -1));
            match halves.ranges.last_mut() {
                // Two intervals may end and begin between the same thresholds.
                Some(last) if low <= last[1] + 1 => last[1] = last[1].max(high),
                _ => halves.ranges.push([low, high]),
            }
            halves.unsure.extend([(low, low_sure), (high, high_sure)].into_iter().filter(|(_, sure)| !sure).map(|(half, _)| half));
        }
        halves.unsure.dedup();
        halves
    }

    /// Where all values that equal none of the thresholds have the code of those below all: that one is in where any of them are, and sure where all of them are.
    fn join_gaps(&mut self, thresholds: usize) {
        let in_gaps = |[low, high]: &[u32; 2]| high.div_ceil(2) - low / 2;
        let covered: u32 = self.ranges.iter().map(in_gaps).sum();
        if covered == 0 {
            return;
        }
        let sure = covered as usize == thresholds + 1 && self.unsure.is_empty();
        self.insert_lowest(1);
        if !sure && self.unsure.first() != Some(&1) {
            self.unsure.insert(0, 1);
        }
    }

    /// Adds what is not above any that is in.
    fn insert_lowest(&mut self, half: u32) {
        match self.ranges.first_mut() {
            Some(first) if first[0] <= half + 1 => first[0] = half,
            _ => self.ranges.insert(0, [half; 2]),
        }
    }
}

/// Where an interval ends, and whether no value there is out. A place beside a threshold on the side `open` leaves it out: the interval ends one further `inwards`.
fn end(keys: ThresholdKeys, place: &Place, open: Side, inwards: i32) -> (u32, bool) {
    let (after, equal) = position(keys, &place.key);
    let half = 2 * after as u32 + u32::from(!equal);
    if equal && place.side == open { (half.wrapping_add_signed(inwards), true) } else { (half, equal) }
}

fn count(keys: ThresholdKeys) -> usize {
    match keys {
        ThresholdKeys::Narrow(keys) => keys.len(),
        ThresholdKeys::Wide(keys) => keys.len(),
        ThresholdKeys::Text { offsets, .. } => offsets.len().saturating_sub(1),
    }
}

/// How many thresholds lie at or below a key, and whether it equals the last of them.
fn position(keys: ThresholdKeys, key: &Key) -> (usize, bool) {
    let position = |is: &dyn Fn(usize) -> std::cmp::Ordering| {
        let (mut low, mut high) = (0, count(keys));
        while low < high {
            let middle = low.midpoint(high);
            match is(middle) {
                std::cmp::Ordering::Equal => return (middle + 1, true),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        (low, false)
    };
    match (keys, key) {
        (ThresholdKeys::Narrow(keys), Key::Narrow(key)) => position(&|at| keys[at].cmp(key)),
        (ThresholdKeys::Wide(keys), Key::Wide(key)) => {
            position(&|at| (u128::from(keys[at][1]) << 64 | u128::from(keys[at][0])).cmp(&wide_bits(*key)))
        }
        (ThresholdKeys::Text { offsets, bytes }, Key::Text(key)) => position(&|at| slice_at(offsets, bytes, at).cmp(key.as_bytes())),
        _ => unreachable!("keys of one column are of one kind"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::{Context, check_rule, compile};
    use crate::engine::Generation;
    use crate::event::{EventBatch, Field, Type};
    use crate::expr::columns::{Cache, Program};
    use crate::rule::lists::Lists;
    use crate::rule::window::Columns;
    use crate::rule::{Limits, Rule};
    use crate::workload::rule;
    use arrow::array::types::Int32Type;
    use arrow::array::{ArrayRef, Decimal128Array, DictionaryArray, Int64Array};

    /// Rules whose conditions are the thresholds, and conditions of newer rules; what codes say of those beside what is so: rows on which they are right, open, and wrong.
    fn tried(thresholds: &[&str], conditions: &[String], fault: fn(&mut Term)) -> [usize; 3] {
        let field = |name: &str, ty| Field { name: name.to_owned(), ty };
        let fields = vec![field("n", Type::Int), field("t", Type::Text), field("d", Type::Decimal { scale: 1 })];
        let (schema, lists, limits) = (Schema::new(fields).unwrap(), Lists::new(), Limits::default());
        let context = Context { schema: &schema, lists: &lists, limits: &limits, threads: 1 };
        let new = |when: &&str| rule((*when).to_owned(), None, (*when).to_owned(), 0);
        let compiled = compile(thresholds.iter().map(new), &context).artifact.expect("sound rules");
        let artifact = Arc::new(Artifact::from_bytes(&compiled).unwrap());
        let numbers = || (0..9).map(|row| (row < 8).then_some(row));
        let texts: DictionaryArray<Int32Type> = numbers().map(|n| n.map(|n| &"abcdefgh"[n as usize..=n as usize])).collect();
        let decimals = numbers().map(|n| n.map(i128::from)).collect::<Decimal128Array>().with_precision_and_scale(38, 1).unwrap();
        let columns: [ArrayRef; 3] = [Arc::new(numbers().collect::<Int64Array>()), Arc::new(texts), Arc::new(decimals)];
        let batch = EventBatch::new(&schema, 0, 9, columns.map(Some).to_vec());
        let encoded = Generation::new(Arc::clone(&artifact)).unwrap().encode(&batch, &mut Cache::new());
        let coder = Coder::new(artifact);
        let mut counts = [0; 3];
        for condition in conditions {
            let newer: Rule = new(&condition.as_str());
            let expr = check_rule(&newer, &Columns::new(&schema), &context).expr.unwrap_or_else(|| panic!("{condition}"));
            let mut terms = coder.terms(&expr, &schema, limits.terms);
            terms.iter_mut().for_each(fault);
            let matching = Program::new(expr).select(&schema, &batch, None, &mut Cache::new());
            for row in 0..9 {
                let verdicts: Vec<Verdict> = terms.iter().map(|term| term.verdict(encoded.row(row))).collect();
                let right = if matching.contains(&(row as u32)) { Verdict::Holds } else { Verdict::Fails };
                let said = [Verdict::Holds, Verdict::Open].into_iter().find(|verdict| verdicts.contains(verdict)).unwrap_or(Verdict::Fails);
                counts[if said == right {
                    0
                } else if said == Verdict::Open {
                    1
                } else {
                    2
                }] += 1;
            }
        }
        counts
    }

    fn conditions() -> Vec<String> {
        let mut conditions = vec!["n IS NULL".to_owned(), "t IS NOT NULL AND n IS NOT NULL".to_owned(), "t LIKE 'c%' OR n = 4".to_owned()];
        for (field, values) in
            [("n", ["0", "2", "3", "5", "7"]), ("t", ["'a'", "'c'", "'d'", "'f'", "'h'"]), ("d", ["0.0", "0.2", "0.3", "0.5", "0.7"])]
        {
            for value in values {
                conditions.extend(["=", "<>", "<", "<=", ">", ">="].map(|op| format!("{field} {op} {value}")));
                conditions.extend(values.map(|high| format!("{field} BETWEEN {value} AND {high}")));
                conditions.extend(values.map(|other| format!("{field} IN ({value}, {other}) OR {field} IS NULL")));
                conditions.extend(values.map(|other| format!("{field} NOT IN ({value}, {other})")));
                conditions.extend(values.map(|other| format!("{field} > {value} AND n + 1 < 6 AND {field} <> {other}")));
            }
        }
        conditions
    }

    /// Thresholds that are those of the conditions, some of them, others, and none; for texts those that only equality asks for, and those that have an order.
    const BASES: [&[&str]; 5] = [
        &["n IN (0, 2, 3, 5, 7) AND n + 1 < 6", "t IN ('a', 'c', 'd', 'f', 'h')", "d IN (0.0, 0.2, 0.3, 0.5, 0.7)"],
        &["n IN (2, 5)", "t IN ('c', 'f')", "d IN (0.2, 0.5)"],
        &["n >= 3 AND n < 6", "t >= 'c' AND t < 'g'", "d < 0.2 AND n + 1 > 2"],
        &["n = 4", "t = 'e'", "d = 0.4"],
        &[],
    ];

    #[test]
    fn codes_say_nothing_that_is_not_so() {
        let counts = BASES.map(|thresholds| tried(thresholds, &conditions(), |_| ()));
        assert!(counts.iter().all(|[.., wrong]| *wrong == 0), "{counts:?}");
        let [exact, some, ranges, other, none] = counts.map(|[_, open, _]| open);
        // Of the first base LIKE is left, and the order of texts that equal none of its.
        assert!(exact * 5 < some, "{counts:?}");
        assert!(some < none && ranges < none && other < none, "{counts:?}");
    }

    #[test]
    fn planted_faults_are_noticed() {
        let faults: [fn(&mut Term); 4] = [
            |term| term.open = false,
            |term| term.members.iter_mut().for_each(|member| member.unsure.clear()),
            |term| term.members.iter_mut().for_each(|member| member.ranges[0][0] += 1),
            |term| term.members.truncate(1),
        ];
        for (nth, fault) in faults.into_iter().enumerate() {
            assert!(tried(BASES[0], &conditions(), fault)[2] > 0, "{nth}");
        }
    }
}
