//! What is known of an expression's nodes before any batch: which fields they depend on, what they cost, and a name by which equal ones are known.

use super::literals::Literals;
use crate::event::Type;
use crate::expr::like::Anchor;
use crate::expr::prepared::{Pattern, Prepared};
use crate::expr::{Args, Expr, Node};
use crate::id::{FieldId, NodeId};
use foldhash::{HashMap, HashMapExt};
use std::collections::BTreeMap;

/// The hash of a sub-expression: equal keys, equal sub-expressions.
pub type Key = [u8; 32];

/// The fields that a node depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dependence {
    Nothing,
    /// One field, of text.
    Text(FieldId),
    Other,
}

/// Operands of AND or OR that are evaluated together: those of one text field, or a single one.
#[derive(Clone, Debug)]
pub struct Group {
    pub field: Option<FieldId>,
    pub nodes: Vec<NodeId>,
    /// Operands of OR that are tested together, in place of as many nodes.
    pub any: Vec<AnyOf>,
    cost: u64,
}

/// An OR of `operand LIKE '%literal%'` (or all of them `'literal%'`, or `'%literal'`): one test for all literals.
#[derive(Clone, Debug)]
pub struct AnyOf {
    pub operand: NodeId,
    pub literals: Literals,
    pub case_insensitive: bool,
    pub key: Key,
}

/// From so many literals on, one test for all is faster than one search after the other.
const UNITED: usize = 8;

#[derive(Clone, Debug)]
pub struct Plan {
    dependences: Vec<Dependence>,
    keys: Vec<Option<Key>>,
    groups: HashMap<NodeId, Vec<Group>>,
}

impl Plan {
    pub fn new(expr: &Expr, prepared: &Prepared) -> Self {
        let count = expr.nodes().len();
        let mut plan = Self { dependences: Vec::with_capacity(count), keys: vec![None; count], groups: HashMap::new() };
        let mut costs: Vec<u64> = Vec::with_capacity(count);
        let mut hashes: Vec<Key> = Vec::with_capacity(count);
        for (index, node) in expr.nodes().iter().enumerate() {
            let id = NodeId::new(index);
            let mut dependence = match node {
                Node::Field(field) if expr.ty(id) == Type::Text => Dependence::Text(*field),
                Node::Field(_) => Dependence::Other,
                _ => Dependence::Nothing,
            };
            let mut cost = match node {
                Node::Constant(_) | Node::Field(_) => 0,
                Node::Like { .. } | Node::Call { .. } | Node::Cast(_) => 8,
                Node::Regex { .. } => 32,
                _ => 1,
            };
            expr.children_of(node, |child| {
                dependence = dependence.with(plan.dependences[child.index()]);
                cost = u64::saturating_add(cost, costs[child.index()]);
            });
            plan.dependences.push(dependence);
            costs.push(cost);
            hashes.push(if dependence == Dependence::Other { [0; 32] } else { hash(expr, id, &hashes) });
            let worth_keeping = !matches!(
                node,
                Node::Constant(_)
                    | Node::Field(_)
                    | Node::Not(_)
                    | Node::And(_)
                    | Node::Or(_)
                    | Node::IsNull(_)
                    | Node::IsTrue(_)
                    | Node::IsFalse(_)
            );
            if worth_keeping && matches!(dependence, Dependence::Text(_)) {
                plan.keys[index] = Some(hashes[index]);
            }
            if let Node::And(args) | Node::Or(args) = node {
                let mut groups = plan.grouped(expr.args(*args), &costs);
                if matches!(node, Node::Or(_)) {
                    groups.iter_mut().filter(|group| group.field.is_some()).for_each(|group| group.unite(expr, prepared, &hashes));
                }
                plan.groups.insert(id, groups);
            }
        }
        plan
    }

    pub fn dependence(&self, id: NodeId) -> Dependence {
        self.dependences[id.index()]
    }

    /// The name under which results of a node over distinct values are kept, if they are.
    pub fn key(&self, id: NodeId) -> Option<&Key> {
        self.keys[id.index()].as_ref()
    }

    /// The operands of AND or OR, cheap ones first.
    pub fn groups(&self, id: NodeId) -> &[Group] {
        self.groups.get(&id).map_or(&[], Vec::as_slice)
    }

    fn grouped(&self, operands: &[NodeId], costs: &[u64]) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        let mut of_field: HashMap<FieldId, usize> = HashMap::new();
        for operand in operands {
            let cost = costs[operand.index()];
            if let Dependence::Text(field) = self.dependence(*operand) {
                let place = *of_field.entry(field).or_insert(groups.len());
                if let Some(group) = groups.get_mut(place) {
                    group.nodes.push(*operand);
                    group.cost = group.cost.saturating_add(cost);
                    continue;
                }
                groups.push(Group { field: Some(field), nodes: vec![*operand], any: Vec::new(), cost });
            } else {
                groups.push(Group { field: None, nodes: vec![*operand], any: Vec::new(), cost });
            }
        }
        for group in &mut groups {
            group.nodes.sort_by_key(|node| costs[node.index()]);
        }
        groups.sort_by_key(|group| group.cost);
        groups
    }
}

impl Group {
    /// Moves the searches for literals at the same place of the same text into one test.
    fn unite(&mut self, expr: &Expr, prepared: &Prepared, hashes: &[Key]) {
        let mut searches: BTreeMap<(Key, Anchor, bool), Vec<NodeId>> = BTreeMap::new();
        let search = |node: &NodeId| match (expr.node(*node), prepared.pattern(*node)) {
            (Node::Like { operand, .. }, Pattern::Like(pattern)) => {
                pattern.literal().map(|(anchor, literal)| (*operand, anchor, pattern.is_case_insensitive(), literal))
            }
            _ => None,
        };
        for node in &self.nodes {
            if let Some((operand, anchor, case_insensitive, _)) = search(node) {
                searches.entry((hashes[operand.index()], anchor, case_insensitive)).or_default().push(*node);
            }
        }
        searches.retain(|_, nodes| nodes.len() >= UNITED);
        for ((_, anchor, case_insensitive), nodes) in searches {
            let literals = nodes.iter().filter_map(|node| Some(search(node)?.3));
            // Where there is no such test, the single searches stay.
            if let (Some((operand, ..)), Some(literals)) = (search(&nodes[0]), Literals::new(anchor, literals)) {
                let mut hasher = blake3::Hasher::new_derive_key("any of");
                nodes.iter().for_each(|node| {
                    hasher.update(&hashes[node.index()]);
                });
                self.any.push(AnyOf { operand, literals, case_insensitive, key: *hasher.finalize().as_bytes() });
                let united: foldhash::HashSet<NodeId> = nodes.into_iter().collect();
                self.nodes.retain(|node| !united.contains(node));
            }
        }
    }
}

impl Dependence {
    fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, only) | (only, Self::Nothing) => only,
            (a, b) if a == b => a,
            _ => Self::Other,
        }
    }
}

/// The hash of a node: its own content, its type, and the hashes of its operands.
fn hash(expr: &Expr, id: NodeId, hashes: &[Key]) -> Key {
    let mut own = expr.node(id).clone();
    match &mut own {
        Node::Constant(_) | Node::Field(_) => {}
        Node::Not(a) | Node::IsNull(a) | Node::IsTrue(a) | Node::IsFalse(a) | Node::Negate(a) | Node::Cast(a) => *a = NodeId(0),
        Node::In { operand, .. } | Node::Regex { operand, .. } | Node::Extract { operand, .. } => *operand = NodeId(0),
        Node::Compare { left, right, .. }
        | Node::NotDistinct { left, right }
        | Node::Arithmetic { left, right, .. }
        | Node::Like { operand: left, pattern: right, .. } => (*left, *right) = (NodeId(0), NodeId(0)),
        Node::And(args) | Node::Or(args) | Node::Case(args) | Node::Call { args, .. } => *args = Args { start: 0, len: args.len },
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&postcard::to_stdvec(&(&own, expr.ty(id))).expect("nodes are plain data"));
    expr.children_of(expr.node(id), |child| {
        hasher.update(&hashes[child.index()]);
    });
    *hasher.finalize().as_bytes()
}
