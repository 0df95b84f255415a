//! Newer rules that are searched together: for each partition, entries of their terms by the codes of one column, and tables of those terms that are too wide for it. Made in milliseconds: conditions were brought into
//! codes when the rules came.

use super::codes::{Term, Verdict};
use super::entries::Entry;
use super::newer::Newer;
use super::wide::Wide;
use crate::flow::EncodedBatch;
use crate::id::RuleId;
use crate::tables::MatchTables;
use crate::tables::layout::NONE;
use std::collections::HashMap;
use std::sync::Arc;

/// Terms that ask for more than this share of a column's codes are [`Wide`].
const WIDE: f64 = 0.125;

/// Buckets of a shelf for each of its terms, and how often a term is in them beyond once an entry; and buckets at most.
const PER_TERM: usize = 4;
const BUCKETS_MAX: usize = 1 << 12;

/// Newer rules that are searched together.
#[derive(Default)]
pub struct Settled {
    rules: Vec<Arc<Newer>>,
    ids: HashMap<Arc<str>, u32, foldhash::fast::FixedState>,
    /// For each term its rule, and its number among those of the rule.
    terms: Vec<(u32, u32)>,
    /// For each partition its shelf, or [`NONE`]. Partitions beyond the end have none.
    partitions: Vec<u32>,
    shelves: Vec<Shelf>,
    /// For each bucket of each shelf where its entries start, and one more a shelf, the end.
    starts: Vec<u32>,
    entries: Vec<Entry>,
    wide: Wide,
}

/// Where the entries of a partition are.
#[derive(Clone)]
struct Shelf {
    /// By the upper bits of this column's codes.
    column: u32,
    shift: u32,
    first_start: u32,
}

impl Settled {
    /// Of rules coded for one base.
    pub fn new(rules: Vec<Arc<Newer>>) -> Self {
        let ids = rules.iter().map(|newer| Arc::clone(&newer.changed.rule.id)).zip(0..).collect();
        let of_rule = |(newer, rule): (&Arc<Newer>, u32)| (0..newer.terms.len() as u32).map(move |term| (rule, term));
        let terms: Vec<(u32, u32)> = rules.iter().zip(0..).flat_map(of_rule).collect();
        let mut settled = Self { rules, ids, terms, ..Self::default() };
        let mut order: Vec<(u32, u32)> =
            (0..).zip(&settled.terms).map(|(term, (rule, _))| (settled.rules[*rule as usize].partition, term)).collect();
        order.sort_unstable();
        let mut wide = Vec::new();
        for terms in order.chunk_by(|a, b| a.0 == b.0) {
            settled.partitions.resize(terms[0].0 as usize, NONE);
            settled.partitions.push(settled.shelves.len() as u32);
            let left = settled.shelve(terms.iter().map(|(_, term)| *term));
            wide.extend(left.into_iter().map(|term| (terms[0].0, term)));
        }
        settled.wide = Wide::new(wide.into_iter().map(|(partition, number)| (partition, number, settled.term(number))));
        settled
    }

    /// Adds the shelf of a partition's terms, and gives those back that are wide.
    fn shelve(&mut self, terms: impl Iterator<Item = u32> + Clone) -> Vec<u32> {
        let column = leading(terms.clone().map(|number| self.term(number)));
        let (mut narrow, mut wide) = (Vec::new(), Vec::new());
        let mut count = 0;
        for number in terms {
            let term = self.term(number);
            match term.members.iter().position(|member| member.column == column) {
                Some(at) if term.members[at].share <= WIDE => {
                    Entry::each(term, number, at, |entry, codes| narrow.push((codes, entry)));
                    count += 1;
                }
                _ => wide.push(number),
            }
        }
        // As many buckets as keep few entries in each, and each entry in few of them.
        let mut buckets = (count * PER_TERM).next_power_of_two().min(BUCKETS_MAX);
        let within = |buckets: usize, [low, high]: [u32; 2]| {
            let shift = u32::BITS - buckets.trailing_zeros();
            (u64::from(low) >> shift) as usize..=(u64::from(high) >> shift) as usize
        };
        while buckets > 1
            && narrow.iter().map(|(codes, _)| within(buckets, *codes).count()).sum::<usize>() > narrow.len() + count * PER_TERM
        {
            buckets /= 2;
        }
        let mut shelved: Vec<(usize, Entry)> =
            narrow.iter().flat_map(|(codes, entry)| within(buckets, *codes).map(move |bucket| (bucket, *entry))).collect();
        shelved.sort_by_key(|(bucket, _)| *bucket);
        let first_start = self.starts.len() as u32;
        let first_entry = self.entries.len();
        let start = |bucket| (first_entry + shelved.partition_point(|(of, _)| *of < bucket)) as u32;
        self.starts.extend((0..=buckets).map(start));
        self.entries.extend(shelved.iter().map(|(_, entry)| *entry));
        self.shelves.push(Shelf { column, shift: u32::BITS - buckets.trailing_zeros(), first_start });
        wide
    }

    fn term(&self, number: u32) -> &Term {
        let (rule, term) = self.terms[number as usize];
        &self.rules[rule as usize].terms[term as usize]
    }

    pub fn rules(&self) -> &[Arc<Newer>] {
        &self.rules
    }

    pub fn rule(&self, rule: RuleId) -> &Arc<Newer> {
        &self.rules[rule.index()]
    }

    /// The rule of this id, dead or alive.
    pub fn find(&self, id: &str) -> Option<RuleId> {
        self.ids.get(id).map(|rule| RuleId(*rule))
    }

    /// Calls `found` for rows and rules with what codes say of them; where nothing is said, the rule does not match. The batch is encoded for `base`; which of its rows
    /// are of tenants that came later is not in it any more afterwards.
    pub fn candidates(&self, base: &MatchTables, batch: &mut EncodedBatch, mut found: impl FnMut(u32, RuleId, Verdict)) {
        let shelf = |partition: u32| self.partitions.get(partition as usize).and_then(|shelf| self.shelves.get(*shelf as usize));
        let of_all = shelf(0);
        // One thing for all rows, then the next: so one row's memory is fetched while others are looked at.
        let mut runs = Vec::with_capacity(batch.rows);
        let mut add = |row: u32, codes: &[u32], shelf: &Shelf| {
            let bucket = codes.get(shelf.column as usize).map_or(0, |code| (u64::from(*code) >> shelf.shift) as usize);
            let start = shelf.first_start as usize + bucket;
            runs.push((row, self.starts[start]..self.starts[start + 1]));
        };
        for (row, partition) in (0..).zip(&batch.partitions) {
            let own = if *partition == 0 { None } else { shelf(*partition) };
            own.into_iter().chain(of_all).for_each(|shelf| add(row, batch.row(row as usize), shelf));
        }
        let mut admitted = Vec::new();
        for (row, entries) in runs.into_iter().filter(|(_, entries)| !entries.is_empty()) {
            let codes = batch.row(row as usize);
            let entries = &self.entries[entries.start as usize..entries.end as usize];
            admitted.extend(entries.iter().filter(|entry| entry.admits(codes)).map(|entry| (row, entry.number)));
        }
        let mut told = |batch: &EncodedBatch, row: u32, number: u32| {
            found(row, RuleId(self.terms[number as usize].0), self.term(number).verdict(batch.row(row as usize)));
        };
        admitted.into_iter().for_each(|(row, number)| told(batch, row, number));
        self.wide.candidates(base, batch, told);
    }
}

/// The column by which most rows are refused by most of the terms.
fn leading<'a>(terms: impl Iterator<Item = &'a Term>) -> u32 {
    let mut refused: HashMap<u32, f64, foldhash::fast::FixedState> = HashMap::default();
    for member in terms.flat_map(|term| &term.members).filter(|member| member.share <= WIDE) {
        *refused.entry(member.column).or_default() += 1.0 - member.share;
    }
    // Of equal ones the first: the same rules make the same tables.
    refused.into_iter().max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0))).map_or(0, |(column, _)| column)
}
