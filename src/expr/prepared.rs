//! What is worth computing once for an expression, before any row is seen: its patterns, and which nodes several others share.

use super::like::LikePattern;
use super::{Expr, Node};
use crate::event::Value;
use crate::id::NodeId;
use foldhash::HashMap;
use regex::{Regex, RegexBuilder};

/// Bytes of a compiled regular expression at most.
pub const REGEX_BYTES_MAX: usize = 1 << 20;

/// A pattern of a node.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// The node has none, or one that is not constant.
    None,
    Like(Box<LikePattern>),
    Regex(Regex),
    /// NULL, or a regular expression that does not compile: the node is NULL.
    Null,
}

/// The prepared parts of an expression, by node.
#[derive(Clone, Debug)]
pub struct Prepared {
    patterns: HashMap<NodeId, Pattern>,
    shared: Vec<bool>,
    any_shared: bool,
}

impl Prepared {
    /// Compiles the constant patterns of `expr`.
    #[must_use]
    pub fn new(expr: &Expr) -> Self {
        let mut uses = vec![0_u8; expr.nodes().len()];
        for node in expr.nodes() {
            expr.children_of(node, |child| uses[child.index()] = uses[child.index()].saturating_add(1));
        }
        let shared: Vec<bool> =
            expr.nodes().iter().zip(&uses).map(|(node, uses)| *uses > 1 && !matches!(node, Node::Constant(_) | Node::Field(_))).collect();
        let patterns = expr
            .nodes()
            .iter()
            .enumerate()
            .filter_map(|(index, node)| match node {
                Node::Like { pattern, escape, case_insensitive, .. } => match expr.node(*pattern) {
                    Node::Constant(Value::Text(text)) => {
                        Some((index, Pattern::Like(Box::new(LikePattern::new(text, *escape, *case_insensitive)))))
                    }
                    Node::Constant(_) => Some((index, Pattern::Null)),
                    _ => None,
                },
                Node::Regex { pattern, case_insensitive, .. } => {
                    Some((index, regex(pattern, *case_insensitive).map_or(Pattern::Null, Pattern::Regex)))
                }
                _ => None,
            })
            .map(|(index, pattern)| (NodeId::new(index), pattern))
            .collect();
        Self { patterns, any_shared: shared.contains(&true), shared }
    }

    #[must_use]
    pub fn pattern(&self, node: NodeId) -> &Pattern {
        self.patterns.get(&node).unwrap_or(&Pattern::None)
    }

    /// Whether several nodes have this one as operand, and it is worth evaluating once.
    #[must_use]
    pub fn is_shared(&self, node: NodeId) -> bool {
        self.shared[node.index()]
    }

    #[must_use]
    pub const fn any_shared(&self) -> bool {
        self.any_shared
    }
}

/// The regular expression of a node, within the size limit of the language; `None` where it does not compile.
#[must_use]
pub fn regex(pattern: &str, case_insensitive: bool) -> Option<Regex> {
    RegexBuilder::new(pattern).case_insensitive(case_insensitive).size_limit(REGEX_BYTES_MAX).build().ok()
}
