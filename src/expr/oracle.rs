//! A condition evaluated on one row, obviously right: the `reference` back end, the judge of the other back ends, and `explain`.

use super::like::LikePattern;
use super::prepared::{Pattern, Prepared};
use super::{Args, Expr, Node, scalar};
use crate::event::Value;
use crate::id::{FieldId, NodeId};
use std::borrow::Cow;

/// An expression that is ready to be evaluated row by row. A row is a slice of values by field; what it lacks is NULL.
#[derive(Clone, Debug)]
pub struct Oracle<'e> {
    expr: Cow<'e, Expr>,
    prepared: Prepared,
}

/// A part of a condition that is not AND, OR or NOT, as it stands for one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Leaf {
    pub node: NodeId,
    /// `None`: UNKNOWN.
    pub truth: Option<bool>,
    /// The operands of the leaf (constants too) with their values, in order.
    pub operands: Vec<(NodeId, Value)>,
}

/// The results of shared nodes for one row.
type Memo = Vec<Option<Value>>;

impl<'e> Oracle<'e> {
    /// Prepares the patterns of `expr`.
    #[must_use]
    pub fn new(expr: &'e Expr) -> Self {
        Self { prepared: Prepared::new(expr), expr: Cow::Borrowed(expr) }
    }

    /// The same, keeping the expression.
    #[must_use]
    pub fn owned(expr: Expr) -> Oracle<'static> {
        Oracle { prepared: Prepared::new(&expr), expr: Cow::Owned(expr) }
    }

    #[must_use]
    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    /// The value of the expression.
    #[must_use]
    pub fn evaluate(&self, row: &[Value]) -> Value {
        self.evaluate_node(self.expr.root(), row)
    }

    /// Whether the condition is TRUE.
    #[must_use]
    pub fn holds(&self, row: &[Value]) -> bool {
        self.truth(self.expr.root(), row, &mut self.memo()) == Some(true)
    }

    /// The value of one node.
    #[must_use]
    pub fn evaluate_node(&self, node: NodeId, row: &[Value]) -> Value {
        self.value(node, row, &mut self.memo()).into_owned()
    }

    /// The leaves of the condition, each once, in the order in which it names them.
    #[must_use]
    pub fn leaves(&self, row: &[Value]) -> Vec<Leaf> {
        let mut memo = self.memo();
        let mut seen = vec![false; self.expr.nodes().len()];
        let mut open = vec![self.expr.root()];
        let mut leaves = Vec::new();
        while let Some(id) = open.pop() {
            if std::mem::replace(&mut seen[id.index()], true) {
                continue;
            }
            let node = self.expr.node(id);
            let mut children = Vec::new();
            self.expr.children_of(node, |child| children.push(child));
            if matches!(node, Node::And(_) | Node::Or(_) | Node::Not(_)) {
                open.extend(children.into_iter().rev());
            } else {
                let operands = children.into_iter().map(|child| (child, self.value(child, row, &mut memo).into_owned())).collect();
                leaves.push(Leaf { node: id, truth: self.truth(id, row, &mut memo), operands });
            }
        }
        leaves
    }

    fn memo(&self) -> Memo {
        if self.prepared.any_shared() { vec![None; self.expr.nodes().len()] } else { Memo::new() }
    }

    /// The truth of a node. It is that of its value; conditions that no others share are decided without making one.
    fn truth(&self, id: NodeId, row: &[Value], memo: &mut Memo) -> Option<bool> {
        if self.prepared.is_shared(id) { scalar::truth(&self.value(id, row, memo)) } else { self.decide(id, row, memo) }
    }

    /// The value of a node; shared nodes are evaluated once a row.
    fn value<'a>(&'a self, id: NodeId, row: &'a [Value], memo: &mut Memo) -> Cow<'a, Value> {
        match self.expr.node(id) {
            Node::Constant(value) => return Cow::Borrowed(value),
            Node::Field(field) => return row.get(field.index()).map_or(Cow::Owned(Value::Null), Cow::Borrowed),
            _ => {}
        }
        if !self.prepared.is_shared(id) {
            return self.compute(id, row, memo);
        }
        if let Some(value) = &memo[id.index()] {
            return Cow::Owned(value.clone());
        }
        let value = self.compute(id, row, memo);
        memo[id.index()] = Some(value.clone().into_owned());
        value
    }

    fn decide(&self, id: NodeId, row: &[Value], memo: &mut Memo) -> Option<bool> {
        match self.expr.node(id) {
            Node::Not(a) => scalar::not(self.truth(*a, row, memo)),
            Node::And(args) => self.fold(*args, Some(true), scalar::and, row, memo),
            Node::Or(args) => self.fold(*args, Some(false), scalar::or, row, memo),
            Node::Compare { op, left, right } => {
                let left = self.value(*left, row, memo);
                scalar::compare_with(*op, &left, &self.value(*right, row, memo))
            }
            Node::NotDistinct { left, right } => {
                let left = self.value(*left, row, memo);
                Some(scalar::not_distinct(&left, &self.value(*right, row, memo)))
            }
            Node::In { operand, list, has_null } => scalar::in_list(&self.value(*operand, row, memo), list, *has_null),
            Node::IsNull(a) => Some(self.value(*a, row, memo).is_null()),
            Node::IsTrue(a) => Some(self.truth(*a, row, memo) == Some(true)),
            Node::IsFalse(a) => Some(self.truth(*a, row, memo) == Some(false)),
            Node::Like { operand, pattern, escape, case_insensitive } => {
                let operand = self.value(*operand, row, memo);
                let Value::Text(text) = operand.as_ref() else { return None };
                match self.prepared.pattern(id) {
                    Pattern::Like(pattern) => Some(pattern.matches(text)),
                    Pattern::None => match self.value(*pattern, row, memo).as_ref() {
                        Value::Text(pattern) => Some(LikePattern::new(pattern, *escape, *case_insensitive).matches(text)),
                        _ => None,
                    },
                    _ => None,
                }
            }
            Node::Regex { operand, .. } => match (self.value(*operand, row, memo).as_ref(), self.prepared.pattern(id)) {
                (Value::Text(text), Pattern::Regex(regex)) => Some(regex.is_match(text)),
                _ => None,
            },
            _ => scalar::truth(&self.value(id, row, memo)),
        }
    }

    fn compute<'a>(&'a self, id: NodeId, row: &'a [Value], memo: &mut Memo) -> Cow<'a, Value> {
        let ty = self.expr.ty(id);
        let result = match self.expr.node(id) {
            Node::Constant(value) => return Cow::Borrowed(value),
            Node::Field(FieldId(_)) => Value::Null,
            Node::Not(_)
            | Node::And(_)
            | Node::Or(_)
            | Node::Compare { .. }
            | Node::NotDistinct { .. }
            | Node::In { .. }
            | Node::IsNull(_)
            | Node::IsTrue(_)
            | Node::IsFalse(_)
            | Node::Like { .. }
            | Node::Regex { .. } => scalar::from_truth(self.decide(id, row, memo)),
            Node::Arithmetic { op, left, right } => {
                let left = self.value(*left, row, memo);
                scalar::arithmetic(*op, &left, &self.value(*right, row, memo), ty)
            }
            Node::Negate(a) => scalar::negate(&self.value(*a, row, memo), ty),
            Node::Cast(a) => scalar::cast(&self.value(*a, row, memo), ty),
            Node::Extract { part, operand } => scalar::extract(*part, &self.value(*operand, row, memo)),
            Node::Case(args) => return self.case(*args, row, memo),
            Node::Call { function, args } => {
                let args: Vec<Value> = self.expr.args(*args).iter().map(|arg| self.value(*arg, row, memo).into_owned()).collect();
                scalar::call(*function, &args, ty)
            }
        };
        Cow::Owned(result)
    }

    /// AND or OR over all operands, up to the first that decides.
    fn fold(
        &self,
        args: Args,
        neutral: Option<bool>,
        combine: fn(Option<bool>, Option<bool>) -> Option<bool>,
        row: &[Value],
        memo: &mut Memo,
    ) -> Option<bool> {
        let mut result = neutral;
        for arg in self.expr.args(args) {
            result = combine(result, self.truth(*arg, row, memo));
            if result.is_some() && result != neutral {
                break;
            }
        }
        result
    }

    fn case<'a>(&'a self, args: Args, row: &'a [Value], memo: &mut Memo) -> Cow<'a, Value> {
        for branch in self.expr.args(args).chunks(2) {
            match branch {
                [condition, value] if self.truth(*condition, row, memo) == Some(true) => return self.value(*value, row, memo),
                [otherwise] => return self.value(*otherwise, row, memo),
                _ => {}
            }
        }
        Cow::Owned(Value::Null)
    }
}

/// The value of `expr` for one row.
#[must_use]
pub fn evaluate(expr: &Expr, row: &[Value]) -> Value {
    Oracle::new(expr).evaluate(row)
}

/// Whether the condition is TRUE for one row.
#[must_use]
pub fn holds(expr: &Expr, row: &[Value]) -> bool {
    Oracle::new(expr).holds(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Type;
    use crate::expr::CompareOp;

    /// `a > 1 AND NOT (b IS NULL OR a > 1)` with the comparison shared.
    fn condition() -> Expr {
        let mut expr = Expr::new();
        let a = expr.push(Node::Field(FieldId(0)), Type::Int);
        let one = expr.push(Node::Constant(Value::Int(1)), Type::Int);
        let greater = expr.push(Node::Compare { op: CompareOp::Greater, left: a, right: one }, Type::Bool);
        let b = expr.push(Node::Field(FieldId(1)), Type::Text);
        let null = expr.push(Node::IsNull(b), Type::Bool);
        let args = expr.push_args(&[null, greater]);
        let or = expr.push(Node::Or(args), Type::Bool);
        let not = expr.push(Node::Not(or), Type::Bool);
        let args = expr.push_args(&[greater, not]);
        expr.push(Node::And(args), Type::Bool);
        expr
    }

    #[test]
    fn leaves_are_named_once_with_their_operands() {
        let expr = condition();
        let oracle = Oracle::new(&expr);
        let leaves = oracle.leaves(&[Value::Int(2), Value::Null]);
        assert_eq!(leaves.len(), 2);
        assert_eq!(leaves[0].truth, Some(true));
        assert_eq!(leaves[0].operands.iter().map(|(_, value)| value.clone()).collect::<Vec<_>>(), [Value::Int(2), Value::Int(1)]);
        assert_eq!((leaves[1].node, leaves[1].truth), (NodeId(4), Some(true)));
        assert!(!oracle.holds(&[Value::Int(2), Value::Null]));
    }

    #[test]
    fn what_a_row_lacks_is_null() {
        let expr = condition();
        assert_eq!(evaluate(&expr, &[]), Value::Bool(false));
        assert_eq!(evaluate(&expr, &[Value::Null, Value::Text("".into())]), Value::Null);
        assert!(!holds(&expr, &[]));
    }
}
