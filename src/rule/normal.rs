//! The normal form: a condition as a list of terms, each a conjunction of column memberships and, where needed, a residual.
//!
//! Three-valued logic is kept by asking, from the root down, "for which rows is this node TRUE" (or FALSE, or NULL, or not one of
//! them) and pushing the question to the leaves. There each answer is a set of values of one column, NULL included, which is closed under
//! complement: so nothing is lost on the way, and a term holds exactly where its conjunction is TRUE.
//!
//! Trees do not explode: what would become more than [`super::Limits::terms`] terms stays, as a whole or in part, a residual.

use crate::event::key::{self, Key};
use crate::event::set::{Interval, Intervals, Place, Set};
use crate::event::{Schema, Type, Value};
use crate::expr::oracle;
use crate::expr::{CompareOp, Expr, Node, scalar};
use crate::id::NodeId;
use std::cmp::Ordering;

#[cfg(test)]
mod tests;

/// What is asked of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Want {
    True,
    False,
    Null,
    NotTrue,
    NotFalse,
    NotNull,
}

impl Want {
    /// The question to ask of `x` where this one is asked of `NOT x`.
    const fn negated(self) -> Self {
        match self {
            Self::True => Self::False,
            Self::False => Self::True,
            Self::Null => Self::Null,
            Self::NotTrue => Self::NotFalse,
            Self::NotFalse => Self::NotTrue,
            Self::NotNull => Self::NotNull,
        }
    }

    fn holds(self, truth: Option<bool>) -> bool {
        match self {
            Self::True => truth == Some(true),
            Self::False => truth == Some(false),
            Self::Null => truth.is_none(),
            Self::NotTrue => truth != Some(true),
            Self::NotFalse => truth != Some(false),
            Self::NotNull => truth.is_some(),
        }
    }
}

/// A column whose codes the matcher compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Column(pub u32);

/// Where the columns come from: fields, and expressions that become columns of their own.
pub trait Columns {
    /// The column of the values of node `operand` of `expr`; `None` where it is not to be one (then its predicates are residual).
    fn column(&mut self, expr: &Expr, operand: NodeId) -> Option<Column>;
}

/// A node that must answer `want`.
pub type Question = (NodeId, Want);

/// A conjunction: every membership holds, and of every residual disjunction at least one question does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Term {
    /// By column, ascending; no set is empty or full.
    pub members: Vec<(Column, Set)>,
    pub residual: Vec<Vec<Question>>,
}

impl Term {
    /// Adds the members and residual of `other`; `false` where no value satisfies both.
    fn restrict(&mut self, other: &Self) -> bool {
        for (column, set) in &other.members {
            match self.members.binary_search_by_key(column, |(column, _)| *column) {
                Ok(at) => {
                    let both = self.members[at].1.intersection(set);
                    if both.is_empty() {
                        return false;
                    }
                    self.members[at].1 = both;
                }
                Err(at) => self.members.insert(at, (*column, set.clone())),
            }
        }
        for part in &other.residual {
            if !self.residual.contains(part) {
                self.residual.push(part.clone());
            }
        }
        true
    }

    fn is_residual_only(&self) -> bool {
        self.members.is_empty() && self.residual.len() == 1
    }

    fn is_always(&self) -> bool {
        self.members.is_empty() && self.residual.is_empty()
    }

    /// The residual as a condition of its own, if there is one: a row passes if it is TRUE.
    #[must_use]
    pub fn residual_expr(&self, source: &Expr) -> Option<Expr> {
        if self.residual.is_empty() {
            return None;
        }
        let mut expr = Expr::new();
        // Questions of one source share nodes, so that an operand asked of twice is evaluated once.
        let mut parts = Vec::new();
        for disjunction in &self.residual {
            let mut options = Vec::new();
            for &(node, want) in disjunction {
                let node = expr.copy_from(source, node);
                options.push(asked(&mut expr, node, want));
            }
            parts.push(joined(&mut expr, &options, Node::Or));
        }
        joined(&mut expr, &parts, Node::And);
        Some(expr)
    }
}

fn joined(expr: &mut Expr, nodes: &[NodeId], join: fn(crate::expr::Args) -> Node) -> NodeId {
    if let [only] = nodes {
        return *only;
    }
    let args = expr.push_args(nodes);
    expr.push(join(args), Type::Bool)
}

/// A node that is TRUE exactly where `node` answers `want`.
fn asked(expr: &mut Expr, node: NodeId, want: Want) -> NodeId {
    let not = |expr: &mut Expr, inner: Node| {
        let inner = expr.push(inner, Type::Bool);
        expr.push(Node::Not(inner), Type::Bool)
    };
    match want {
        Want::True => node,
        Want::False => expr.push(Node::Not(node), Type::Bool),
        Want::Null => expr.push(Node::IsNull(node), Type::Bool),
        Want::NotTrue => not(expr, Node::IsTrue(node)),
        Want::NotFalse => not(expr, Node::IsFalse(node)),
        Want::NotNull => not(expr, Node::IsNull(node)),
    }
}

/// The terms of a condition: it is TRUE for a row exactly where one of them holds. No terms: never true. A term without members and residual: always true.
pub fn terms(expr: &Expr, schema: &Schema, columns: &mut impl Columns, limit: usize) -> Vec<Term> {
    let mut normaliser = Normaliser { expr, schema, columns, limit: limit.max(1), constant: constants(expr) };
    let found = normaliser.ask(expr.root(), Want::True).terms();
    if found.iter().any(Term::is_always) { vec![Term::default()] } else { found }
}

/// For each node, whether it reads no field.
fn constants(expr: &Expr) -> Vec<bool> {
    let mut constant = Vec::with_capacity(expr.nodes().len());
    for node in expr.nodes() {
        let mut all = !matches!(node, Node::Field(_));
        expr.children_of(node, |child| all &= constant[child.index()]);
        constant.push(all);
    }
    constant
}

struct Normaliser<'a, C> {
    expr: &'a Expr,
    schema: &'a Schema,
    columns: &'a mut C,
    limit: usize,
    constant: Vec<bool>,
}

/// The terms under which a node answers as it was asked. A single membership, which nearly every leaf is, needs no allocation.
enum Answer {
    Member(Column, Set),
    Terms(Vec<Term>),
}

impl Answer {
    fn terms(self) -> Vec<Term> {
        match self {
            Self::Member(column, set) => vec![Term { members: vec![(column, set)], residual: Vec::new() }],
            Self::Terms(terms) => terms,
        }
    }
}

/// One set for each column, columns ascending; `join` makes one of those of a run of memberships of one column.
fn by_column(mut members: Vec<(Column, Set)>, join: impl Fn(&mut [(Column, Set)]) -> Set) -> Vec<(Column, Set)> {
    members.sort_by_key(|(column, _)| *column);
    if members.is_sorted_by(|(a, _), (b, _)| a < b) {
        return members;
    }
    let one = |run: &mut [(Column, Set)]| (run[0].0, if let [(_, only)] = run { std::mem::take(only) } else { join(run) });
    members.chunk_by_mut(|(a, _), (b, _)| a == b).map(one).collect()
}

impl<C: Columns> Normaliser<'_, C> {
    /// The terms under which `node` answers `want`. Recursion is bounded by the parser's limit on nesting.
    fn ask(&mut self, node: NodeId, want: Want) -> Answer {
        if self.constant[node.index()] {
            return decided(want.holds(truth(&self.value(node))));
        }
        match self.expr.node(node) {
            Node::Not(inner) => self.ask(*inner, want.negated()),
            Node::And(args) => self.connective(node, self.expr.args(*args), want, Want::True, Want::False),
            Node::Or(args) => self.connective(node, self.expr.args(*args), want, Want::False, Want::True),
            Node::IsTrue(inner) => self.two_valued(*inner, want, Want::True, Want::NotTrue),
            Node::IsFalse(inner) => self.two_valued(*inner, want, Want::False, Want::NotFalse),
            Node::IsNull(inner) if self.expr.ty(*inner) == Type::Bool && !matches!(self.expr.node(*inner), Node::Field(_)) => {
                self.two_valued(*inner, want, Want::Null, Want::NotNull)
            }
            Node::IsNull(inner) => {
                let set = if want.holds(Some(true)) { Set::null() } else { Set::empty() };
                let set = if want.holds(Some(false)) { set.union(Set::values()) } else { set };
                self.member(node, want, *inner, set)
            }
            Node::Field(_) => {
                let sets = Truths {
                    when_true: Set::of(vec![Interval::point(Key::Narrow(1))]),
                    when_false: Set::of(vec![Interval::point(Key::Narrow(0))]),
                };
                self.member(node, want, node, sets.answer(want))
            }
            Node::Compare { op, left, right } => self.comparison(node, want, *op, *left, *right),
            Node::NotDistinct { left, right } => self.not_distinct(node, want, *left, *right),
            Node::In { operand, list, has_null } => self.in_list(node, want, *operand, list, *has_null),
            _ => residual(node, want),
        }
    }

    fn value(&self, node: NodeId) -> Value {
        if let Node::Constant(value) = self.expr.node(node) {
            return value.clone();
        }
        let mut alone = Expr::new();
        alone.copy_from(self.expr, node);
        oracle::evaluate(&alone, &[])
    }

    fn two_valued(&mut self, inner: NodeId, want: Want, yes: Want, no: Want) -> Answer {
        match want {
            Want::True | Want::NotFalse => self.ask(inner, yes),
            Want::False | Want::NotTrue => self.ask(inner, no),
            Want::Null => decided(false),
            Want::NotNull => decided(true),
        }
    }

    /// AND and OR at once: `all` is the answer that every operand must give for the whole to give it (TRUE for AND, FALSE for OR), `any` the one that a single operand decides.
    fn connective(&mut self, node: NodeId, operands: &[NodeId], want: Want, all: Want, any: Want) -> Answer {
        let not_all = if all == Want::True { Want::NotTrue } else { Want::NotFalse };
        let not_any = if any == Want::True { Want::NotTrue } else { Want::NotFalse };
        match want {
            w if w == all || w == not_any => Answer::Terms(self.all(operands, w)),
            w if w == any || w == not_all => self.any(node, operands, w),
            Want::Null => {
                let decided = self.all(operands, not_any);
                let open = self.any(node, operands, not_all).terms();
                Answer::Terms(self.product(vec![(decided, Some((node, not_any))), (open, Some((node, not_all)))]))
            }
            _ => {
                let mut found = self.all(operands, all);
                found.extend(self.any(node, operands, any).terms());
                if found.len() > self.limit { residual(node, want) } else { Answer::Terms(found) }
            }
        }
    }

    fn all(&mut self, operands: &[NodeId], want: Want) -> Vec<Term> {
        let mut factors = Vec::new();
        let mut members = Vec::with_capacity(operands.len());
        for &operand in operands {
            match self.ask(operand, want) {
                Answer::Member(column, set) => members.push((column, set)),
                Answer::Terms(mut terms) => match terms.as_mut_slice() {
                    [] => return terms,
                    [Term { members: inner, residual }] if residual.is_empty() => members.append(inner),
                    _ => factors.push((terms, Some((operand, want)))),
                },
            }
        }
        // Memberships of one column become one set at once, so that long chains take no longer than they are: what is in all sets is what none leaves out.
        let members = by_column(members, |run| {
            if let [(_, first), (_, second)] = run {
                return first.intersection(second);
            }
            let mut outside = Set::empty();
            for (_, set) in run {
                let left_out = set.complement();
                outside.null |= left_out.null;
                outside.intervals.extend(left_out.intervals);
            }
            Set { null: outside.null, ..Set::of(outside.intervals) }.complement()
        });
        if members.iter().any(|(_, set)| set.is_empty()) {
            return Vec::new();
        }
        let term = Term { members, residual: Vec::new() };
        if factors.is_empty() {
            return vec![term];
        }
        factors.push((vec![term], None));
        self.product(factors)
    }

    /// The conjunction of factors. Factors that would take the number of terms past the limit stay residual: the largest do.
    fn product(&self, mut factors: Vec<(Vec<Term>, Option<Question>)>) -> Vec<Term> {
        factors.sort_by_key(|(terms, _)| terms.len());
        let mut product = vec![Term::default()];
        for (terms, question) in factors {
            if product.len() * terms.len() > self.limit
                && let Some(question) = question
            {
                for term in &mut product {
                    term.residual.push(vec![question]);
                }
                continue;
            }
            if let [only] = terms.as_slice() {
                product.retain_mut(|term| term.restrict(only));
                continue;
            }
            let both = |left: &Term, right: &Term| {
                let mut both = left.clone();
                both.restrict(right).then_some(both)
            };
            product = product.iter().flat_map(|left| terms.iter().filter_map(move |right| both(left, right))).collect();
        }
        product
    }

    fn any(&mut self, node: NodeId, operands: &[NodeId], want: Want) -> Answer {
        // Memberships of one column become one set, and pure residuals one disjunction, so that long chains stay short.
        let mut members = Vec::new();
        let mut open: Vec<Question> = Vec::new();
        let mut found: Vec<Term> = Vec::new();
        for &operand in operands {
            let terms = match self.ask(operand, want) {
                Answer::Member(column, set) => {
                    members.push((column, set));
                    continue;
                }
                Answer::Terms(terms) => terms,
            };
            for mut term in terms {
                if term.is_always() {
                    return Answer::Terms(vec![term]);
                }
                if term.members.len() == 1 && term.residual.is_empty() {
                    members.append(&mut term.members);
                } else if term.is_residual_only() {
                    open.append(&mut term.residual[0]);
                } else {
                    found.push(term);
                }
            }
        }
        let members = by_column(members, |run| {
            let mut all = Set::empty();
            for (_, set) in run {
                all.null |= set.null;
                all.intervals.extend(std::mem::take(&mut set.intervals));
            }
            Set { null: all.null, ..Set::of(all.intervals) }
        });
        for (column, set) in members {
            if set.is_full() {
                return decided(true);
            }
            found.push(Term { members: vec![(column, set)], residual: Vec::new() });
        }
        if !open.is_empty() {
            found.push(Term { members: Vec::new(), residual: vec![open] });
        }
        if found.len() > self.limit { residual(node, want) } else { Answer::Terms(found) }
    }

    /// The rows whose value of `operand` lies in `set`; where the operand is no column, the question stays as it was asked of `node`.
    fn member(&mut self, node: NodeId, want: Want, operand: NodeId, set: Set) -> Answer {
        if set.is_empty() {
            return decided(false);
        }
        if set.is_full() {
            return decided(true);
        }
        match self.columns.column(self.expr, operand) {
            Some(column) => Answer::Member(column, set),
            None => residual(node, want),
        }
    }

    fn comparison(&mut self, node: NodeId, want: Want, op: CompareOp, left: NodeId, right: NodeId) -> Answer {
        let (operand, constant, op) = match (self.constant[left.index()], self.constant[right.index()]) {
            (false, true) => (left, self.value(right), op),
            (true, false) => (right, self.value(left), flipped(op)),
            _ => return residual(node, want),
        };
        if constant.is_null() {
            return decided(want.holds(None));
        }
        let Some(split) = self.split(operand, &constant) else { return residual(node, want) };
        let when_true = match op {
            CompareOp::Equal => Parts { equal: true, ..Parts::NONE },
            CompareOp::NotEqual => Parts { below: true, above: true, ..Parts::NONE },
            CompareOp::Less => Parts { below: true, ..Parts::NONE },
            CompareOp::LessOrEqual => Parts { below: true, equal: true, ..Parts::NONE },
            CompareOp::Greater => Parts { above: true, ..Parts::NONE },
            CompareOp::GreaterOrEqual => Parts { equal: true, above: true, ..Parts::NONE },
        };
        let set = split.set(when_true.answer(want));
        self.member(node, want, operand, set)
    }

    fn not_distinct(&mut self, node: NodeId, want: Want, left: NodeId, right: NodeId) -> Answer {
        let (operand, constant) = match (self.constant[left.index()], self.constant[right.index()]) {
            (false, true) => (left, self.value(right)),
            (true, false) => (right, self.value(left)),
            _ => return residual(node, want),
        };
        let equal = if constant.is_null() {
            Set::null()
        } else {
            match self.split(operand, &constant) {
                Some(split) => Set::of(split.equal.into_iter().collect::<Intervals>()),
                None => return residual(node, want),
            }
        };
        let set = Truths { when_false: equal.complement(), when_true: equal }.answer(want);
        self.member(node, want, operand, set)
    }

    fn in_list(&mut self, node: NodeId, want: Want, operand: NodeId, list: &[Value], has_null: bool) -> Answer {
        if list.is_empty() && !has_null {
            return decided(want.holds(Some(false)));
        }
        let ty = self.type_of(operand);
        let mut intervals = Vec::with_capacity(list.len());
        for constant in list {
            if let Some(own) = own_key(ty, constant) {
                intervals.push(Interval::point(own));
                continue;
            }
            match self.split(operand, constant) {
                Some(split) => intervals.extend(split.equal),
                None => return residual(node, want),
            }
        }
        let when_true = Set::of(intervals);
        if want == Want::True {
            return self.member(node, want, operand, when_true);
        }
        let when_false = if has_null { Set::empty() } else { Set { null: false, ..when_true.complement() } };
        let set = Truths { when_true, when_false }.answer(want);
        self.member(node, want, operand, set)
    }

    fn type_of(&self, operand: NodeId) -> Type {
        match self.expr.node(operand) {
            Node::Field(field) => self.schema.field(*field).ty,
            _ => self.expr.ty(operand),
        }
    }

    /// Where the values of `operand`'s type lie around `constant`; `None` where the type has no keys.
    fn split(&self, operand: NodeId, constant: &Value) -> Option<Split> {
        let ty = self.type_of(operand);
        let range = key::range(ty);
        if let Some(own) = own_key(ty, constant) {
            let (lowest, highest) = match &range {
                Some((low, high)) => (own <= *low, own >= *high),
                None => (matches!(&own, Key::Text(text) if text.is_empty()), false),
            };
            return Some(Split {
                below: (!lowest).then(|| Interval { low: None, high: Some(Place::before(own.clone())) }),
                equal: Some(Interval::point(own.clone())),
                above: (!highest).then(|| Interval { low: Some(Place::after(own)), high: None }),
            });
        }
        // Another type (an integer against a decimal, a date against a timestamp …): the comparison itself, which is monotone in the key, finds where it turns.
        let (low, high) = range?;
        let order = |key: &Key| scalar::compare(&key::to_value(key, ty), constant);
        order(&low)?;
        let first_not_less = partition(&low, &high, |key| order(key) == Some(Ordering::Less));
        let first_greater = partition(&low, &high, |key| matches!(order(key), Some(Ordering::Less | Ordering::Equal)));
        let below = match &first_not_less {
            None => Some(Interval { low: None, high: None }),
            Some(first) => (*first != low).then(|| Interval { low: None, high: Some(Place::before(first.clone())) }),
        };
        let equal = first_not_less.map(|first| match &first_greater {
            Some(greater) if follows(&first, greater) => Interval::point(first),
            _ => Interval { low: Some(Place::at(first)), high: first_greater.clone().map(Place::before) },
        });
        let above = first_greater.map(|first| Interval { low: Some(Place::at(first)), high: None });
        Some(Split { below, equal, above })
    }
}

/// The key of a constant among values of type `ty`, where it has one of its own.
fn own_key(ty: Type, constant: &Value) -> Option<Key> {
    match (ty, constant) {
        // The nearest double, as the language has it; -0.0 and NaN find their keys.
        (Type::Float, Value::Int(_) | Value::UInt(_) | Value::Decimal { .. }) => match scalar::cast(constant, Type::Float) {
            Value::Float(value) => Some(Key::Narrow(key::of_f64(value))),
            _ => None,
        },
        _ if ty == constant.ty() => key::of_value(constant),
        _ => None,
    }
}

/// The values below, equal to, and above a constant, one interval each where there are any.
struct Split {
    below: Option<Interval>,
    equal: Option<Interval>,
    above: Option<Interval>,
}

/// Which parts of a [`Split`], and whether NULL.
#[derive(Clone, Copy)]
struct Parts {
    below: bool,
    equal: bool,
    above: bool,
    null: bool,
}

impl Parts {
    const NONE: Self = Self { below: false, equal: false, above: false, null: false };

    /// The parts for which a comparison answers `want`, if `self` are those for which it is TRUE. It is NULL for NULL alone.
    const fn answer(self, want: Want) -> Self {
        let when_false = Self { below: !self.below, equal: !self.equal, above: !self.above, null: false };
        match want {
            Want::True => self,
            Want::False => when_false,
            Want::Null => Self { null: true, ..Self::NONE },
            Want::NotTrue => Self { null: true, ..when_false },
            Want::NotFalse => Self { null: true, ..self },
            Want::NotNull => Self { below: true, equal: true, above: true, null: false },
        }
    }
}

impl Split {
    fn set(self, parts: Parts) -> Set {
        let mut intervals = Intervals::None;
        for (interval, chosen) in [(self.below, parts.below), (self.equal, parts.equal), (self.above, parts.above)] {
            if let Some(interval) = interval.filter(|_| chosen) {
                intervals.append(interval);
            }
        }
        Set { null: parts.null, intervals }
    }
}

/// Whether no key lies between the two.
fn follows(key: &Key, next: &Key) -> bool {
    match (key, next) {
        (Key::Narrow(key), Key::Narrow(next)) => key.checked_add(1) == Some(*next),
        (Key::Wide(key), Key::Wide(next)) => key::wide_bits(*key).checked_add(1) == Some(key::wide_bits(*next)),
        _ => false,
    }
}

/// The first key of `low..=high` for which `before` does not hold, if there is one. `before` is monotone.
fn partition(low: &Key, high: &Key, before: impl Fn(&Key) -> bool) -> Option<Key> {
    let number = |key: &Key| match key {
        Key::Narrow(key) => u128::from(*key),
        Key::Wide(key) => key::wide_bits(*key),
        Key::Text(_) => 0,
    };
    let as_key = |value: u128| match low {
        Key::Narrow(_) => Key::Narrow(value as u64),
        _ => Key::wide(value),
    };
    if before(high) {
        return None;
    }
    let (mut from, mut to) = (number(low), number(high));
    while from < to {
        let middle = from + (to - from) / 2;
        if before(&as_key(middle)) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    Some(as_key(from))
}

/// For which values a predicate is TRUE and FALSE; for all others it is NULL.
struct Truths {
    when_true: Set,
    when_false: Set,
}

impl Truths {
    fn answer(self, want: Want) -> Set {
        match want {
            Want::True => self.when_true,
            Want::False => self.when_false,
            Want::NotTrue => self.when_true.complement(),
            Want::NotFalse => self.when_false.complement(),
            Want::NotNull => self.when_true.union(self.when_false),
            Want::Null => self.when_true.union(self.when_false).complement(),
        }
    }
}

const fn flipped(op: CompareOp) -> CompareOp {
    match op {
        CompareOp::Less => CompareOp::Greater,
        CompareOp::LessOrEqual => CompareOp::GreaterOrEqual,
        CompareOp::Greater => CompareOp::Less,
        CompareOp::GreaterOrEqual => CompareOp::LessOrEqual,
        same => same,
    }
}

fn truth(value: &Value) -> Option<bool> {
    if let Value::Bool(truth) = value { Some(*truth) } else { None }
}

fn decided(holds: bool) -> Answer {
    Answer::Terms(if holds { vec![Term::default()] } else { Vec::new() })
}

fn residual(node: NodeId, want: Want) -> Answer {
    Answer::Terms(vec![Term { members: Vec::new(), residual: vec![vec![(node, want)]] }])
}
