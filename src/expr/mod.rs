//! Typed expressions: what the checker produces, the oracle evaluates row by row, and the engine evaluates in columns.
//!
//! An [`Expr`] is an arena of nodes, children before parents, so that it can be walked, stored and checked without recursion.
//! Every expression is total: errors of data (division by zero, overflow, a failed cast) are NULL, never a failure.
//!
//! * [`scalar`]: what each operation means, on single values.
//! * [`columns`]: the same, a column at a time.
//! * [`oracle`]: the same, a row at a time, obviously right.
//! * [`like`], [`prepared`]: patterns, analysed once for an expression.

pub mod columns;
pub mod like;
pub mod oracle;
pub mod prepared;
pub mod scalar;

use crate::event::{Field, Type, Value, key};
use crate::id::{FieldId, NodeId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CompareOp {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ArithmeticOp {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// The parts that `EXTRACT` names. All are of the UTC calendar; results are integers (`Type::Int`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DatePart {
    Year,
    Quarter,
    Month,
    /// ISO week, 1-53.
    Week,
    Day,
    /// 0 (Sunday) to 6, as PostgreSQL's DOW.
    DayOfWeek,
    /// 1 (Monday) to 7, as PostgreSQL's ISODOW.
    IsoDayOfWeek,
    DayOfYear,
    Hour,
    Minute,
    /// Whole seconds, 0-59.
    Second,
    /// Whole seconds since 1970-01-01T00:00:00Z, rounded down.
    Epoch,
}

/// Scalar functions. Arguments were counted and typed by the checker. A NULL argument gives NULL, except where said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Function {
    /// text -> text
    Lower,
    /// text -> text
    Upper,
    /// text -> int: characters (Unicode scalar values)
    Length,
    /// text [, text of characters to remove, else spaces] -> text
    Trim,
    TrimStart,
    TrimEnd,
    /// text, int start (1-based; may be below 1) [, int length (negative: NULL)] -> text
    Substring,
    /// text, int n -> the first n characters (negative: all but the last -n)
    Left,
    /// text, int n -> the last n characters (negative: all but the first -n)
    Right,
    /// text, text -> bool
    StartsWith,
    EndsWith,
    Contains,
    /// text needle, text haystack -> int: 1-based character position, 0 where absent (POSITION(a IN b), STRPOS(b, a))
    Position,
    /// text, text from, text to -> text
    Replace,
    /// text, text, … -> text; NULL arguments are NULL (the `||` operator and CONCAT agree here)
    Concat,
    /// numeric -> same type; overflow NULL
    Abs,
    /// numeric -> int (-1, 0, 1); NaN -> NULL
    Sign,
    /// int -> same; decimal(scale) -> decimal(scale), half away from zero; float -> float, half away from zero;
    /// a second int constant argument: digits after the point (may be negative)
    Round,
    /// int -> same; decimal -> decimal(0); float -> float
    Floor,
    Ceil,
    Truncate,
    /// numeric -> float; outside the domain NULL
    Sqrt,
    Exp,
    Ln,
    Log10,
    /// numeric, numeric -> float
    Power,
    /// numeric -> float, radians
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Atan2,
    Radians,
    Degrees,
    /// args of one common type -> that type; NULL arguments are passed over, all NULL gives NULL
    Greatest,
    Least,
    Coalesce,
}

/// Levels of nodes in an expression at most: evaluation recurses to this depth.
pub const DEPTH_MAX: u32 = 1024;

/// A run of [`Expr::args`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Args {
    pub start: u32,
    pub len: u32,
}

/// One operation. Operands are earlier nodes.
///
/// Comparisons take any two numeric types (exact; where one is a float, the other is taken as the nearest double), two texts
/// (by bytes), two booleans (FALSE < TRUE), any of timestamps and dates (a date is its midnight; exact over units), two
/// intervals. NaN equals NaN and sorts above every number; -0.0 equals 0.0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Node {
    Constant(Value),
    Field(FieldId),
    /// Three-valued logic over booleans; `And` and `Or` have at least two operands.
    Not(NodeId),
    And(Args),
    Or(Args),
    Compare {
        op: CompareOp,
        left: NodeId,
        right: NodeId,
    },
    /// IS NOT DISTINCT FROM: equality under which NULL equals NULL; never NULL.
    NotDistinct {
        left: NodeId,
        right: NodeId,
    },
    /// Membership in constants: sorted by the comparison of the language, distinct, none NULL, each comparable with the operand. Not found and
    /// `has_null` is UNKNOWN. An empty list is FALSE (UNKNOWN never arises without operands to compare), also for a NULL operand.
    In {
        operand: NodeId,
        list: Arc<[Value]>,
        has_null: bool,
    },
    /// Of any type; never NULL.
    IsNull(NodeId),
    /// Of booleans; never NULL. `IS UNKNOWN` is `IsNull`.
    IsTrue(NodeId),
    IsFalse(NodeId),
    /// `escape` is one character, or none.
    Like {
        operand: NodeId,
        pattern: NodeId,
        escape: Option<char>,
        case_insensitive: bool,
    },
    /// A search (not anchored) of a constant pattern in the syntax of the `regex` crate, checked to compile within its size limit.
    Regex {
        operand: NodeId,
        pattern: Arc<str>,
        case_insensitive: bool,
    },
    /// Numbers: see `ArithmeticOp` in [`scalar`]; also timestamp/date ± interval, timestamp - timestamp (interval), date ± int (days), date - date (int, days).
    Arithmetic {
        op: ArithmeticOp,
        left: NodeId,
        right: NodeId,
    },
    Negate(NodeId),
    /// To the node's own type; what cannot be converted is NULL.
    Cast(NodeId),
    Extract {
        part: DatePart,
        operand: NodeId,
    },
    /// condition, value, condition, value, …, else: an odd number of operands; a condition holds only when TRUE. Values have the node's type (casts inserted).
    Case(Args),
    Call {
        function: Function,
        args: Args,
    },
}

/// A typed expression: nodes in an arena, children before parents; the root is the last node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Expr {
    nodes: Vec<Node>,
    types: Vec<Type>,
    args: Vec<NodeId>,
}

impl Expr {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty expression with room for `nodes` nodes.
    #[must_use]
    pub fn with_capacity(nodes: usize) -> Self {
        Self { nodes: Vec::with_capacity(nodes), types: Vec::with_capacity(nodes), args: Vec::with_capacity(nodes / 2) }
    }

    /// Appends a node of type `ty`.
    pub fn push(&mut self, node: Node, ty: Type) -> NodeId {
        let id = NodeId::new(self.nodes.len());
        debug_assert!({
            let mut earlier = true;
            self.children_of(&node, |child| earlier &= child < id);
            earlier
        });
        self.nodes.push(node);
        self.types.push(ty);
        id
    }

    /// Stores the operands of an n-ary node.
    pub fn push_args(&mut self, args: &[NodeId]) -> Args {
        let start = u32::try_from(self.args.len()).expect("limits keep expressions small");
        self.args.extend_from_slice(args);
        Args { start, len: u32::try_from(args.len()).expect("limits keep expressions small") }
    }

    /// The root: the last node.
    ///
    /// # Panics
    /// When the expression is empty.
    #[must_use]
    pub fn root(&self) -> NodeId {
        NodeId::new(self.nodes.len() - 1)
    }

    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    #[must_use]
    pub fn ty(&self, id: NodeId) -> Type {
        self.types[id.index()]
    }

    #[must_use]
    pub fn args(&self, args: Args) -> &[NodeId] {
        &self.args[args.start as usize..(args.start + args.len) as usize]
    }

    /// Calls `f` with each operand of `node`, in order.
    pub fn children_of(&self, node: &Node, mut f: impl FnMut(NodeId)) {
        match node {
            Node::Constant(_) | Node::Field(_) => {}
            Node::Not(a) | Node::IsNull(a) | Node::IsTrue(a) | Node::IsFalse(a) | Node::Negate(a) | Node::Cast(a) => f(*a),
            Node::In { operand, .. } | Node::Regex { operand, .. } | Node::Extract { operand, .. } => f(*operand),
            Node::Compare { left, right, .. } | Node::NotDistinct { left, right } | Node::Arithmetic { left, right, .. } => {
                f(*left);
                f(*right);
            }
            Node::Like { operand, pattern, .. } => {
                f(*operand);
                f(*pattern);
            }
            Node::And(args) | Node::Or(args) | Node::Case(args) | Node::Call { args, .. } => self.args(*args).iter().for_each(|a| f(*a)),
        }
    }

    /// Copies the tree below `id` of `from` to the end of this expression, shared nodes once, and returns its new place.
    pub fn copy_from(&mut self, from: &Self, id: NodeId) -> NodeId {
        // Only what is reachable is looked at: a small part of a large expression is cheap to copy.
        let mut reached = BTreeSet::from([id]);
        let mut open = vec![id];
        while let Some(parent) = open.pop() {
            from.children_of(from.node(parent), |child| {
                if reached.insert(child) {
                    open.push(child);
                }
            });
        }
        // Ascending: children always come before their parents.
        let reached: Vec<NodeId> = reached.into_iter().collect();
        let mut places: Vec<NodeId> = Vec::with_capacity(reached.len());
        for old in &reached {
            let index = old.index();
            let place = |id: &NodeId| reached.binary_search(id).map_or(NodeId(u32::MAX), |at| places[at]);
            let node = self.moved(from, &from.nodes[index], |id| place(&id));
            places.push(self.push(node, from.types[index]));
        }
        // The root, which comes after all that it stands on.
        NodeId::new(self.nodes.len() - 1)
    }

    /// `node` of `from` with its operands where `place` says, its run of operands stored here.
    fn moved(&mut self, from: &Self, node: &Node, place: impl Fn(NodeId) -> NodeId) -> Node {
        match node {
            Node::Constant(value) => Node::Constant(value.clone()),
            Node::Field(field) => Node::Field(*field),
            Node::Not(a) => Node::Not(place(*a)),
            Node::IsNull(a) => Node::IsNull(place(*a)),
            Node::IsTrue(a) => Node::IsTrue(place(*a)),
            Node::IsFalse(a) => Node::IsFalse(place(*a)),
            Node::Negate(a) => Node::Negate(place(*a)),
            Node::Cast(a) => Node::Cast(place(*a)),
            Node::Compare { op, left, right } => Node::Compare { op: *op, left: place(*left), right: place(*right) },
            Node::NotDistinct { left, right } => Node::NotDistinct { left: place(*left), right: place(*right) },
            Node::Arithmetic { op, left, right } => Node::Arithmetic { op: *op, left: place(*left), right: place(*right) },
            Node::In { operand, list, has_null } => Node::In { operand: place(*operand), list: Arc::clone(list), has_null: *has_null },
            Node::Like { operand, pattern, escape, case_insensitive } => {
                Node::Like { operand: place(*operand), pattern: place(*pattern), escape: *escape, case_insensitive: *case_insensitive }
            }
            Node::Regex { operand, pattern, case_insensitive } => {
                Node::Regex { operand: place(*operand), pattern: Arc::clone(pattern), case_insensitive: *case_insensitive }
            }
            Node::Extract { part, operand } => Node::Extract { part: *part, operand: place(*operand) },
            Node::And(args) | Node::Or(args) | Node::Case(args) | Node::Call { args, .. } => {
                let moved: Vec<NodeId> = from.args(*args).iter().map(|arg| place(*arg)).collect();
                let moved = self.push_args(&moved);
                match node {
                    Node::And(_) => Node::And(moved),
                    Node::Or(_) => Node::Or(moved),
                    Node::Case(_) => Node::Case(moved),
                    Node::Call { function, .. } => Node::Call { function: *function, args: moved },
                    _ => unreachable!("the outer match names the n-ary nodes"),
                }
            }
        }
    }

    /// The same with each field replaced by the expression that `of` gives for it.
    #[must_use]
    pub fn substituted<'e>(&self, of: impl Fn(FieldId) -> &'e Self) -> Self {
        let mut whole = Self::new();
        let mut places: Vec<NodeId> = Vec::with_capacity(self.nodes.len());
        for (node, ty) in self.nodes.iter().zip(&self.types) {
            let place = match node {
                Node::Field(field) => {
                    let part = of(*field);
                    whole.copy_from(part, part.root())
                }
                node => {
                    let moved = whole.moved(self, node, |id| places[id.index()]);
                    whole.push(moved, *ty)
                }
            };
            places.push(place);
        }
        whole
    }

    /// The same with other fields.
    #[must_use]
    pub fn with_fields(mut self, of: impl Fn(FieldId) -> FieldId) -> Self {
        for node in &mut self.nodes {
            if let Node::Field(field) = node {
                *field = of(*field);
            }
        }
        self
    }

    /// Whether every reference holds (operands are earlier nodes, runs of operands and fields exist, n-ary nodes have the operands they need), and
    /// every node gives what its type says.
    ///
    /// The checker makes no others; this is for expressions read from a file.
    #[must_use]
    pub fn is_well_formed(&self, fields: &[Field]) -> bool {
        if self.nodes.is_empty() || self.nodes.len() != self.types.len() {
            return false;
        }
        let mut depths: Vec<u32> = Vec::with_capacity(self.nodes.len());
        for (index, node) in self.nodes.iter().enumerate() {
            if let Node::And(args) | Node::Or(args) | Node::Case(args) | Node::Call { args, .. } = node {
                let end = u64::from(args.start) + u64::from(args.len);
                let enough = match node {
                    Node::And(_) | Node::Or(_) => args.len >= 2,
                    Node::Case(_) => args.len % 2 == 1,
                    _ => true,
                };
                if end > self.args.len() as u64 || !enough {
                    return false;
                }
            }
            let mut depth = 0;
            let mut fits = type_fits(node, self.types[index], fields);
            self.children_of(node, |child| {
                fits &= child.index() < index;
                depth = depth.max(depths.get(child.index()).copied().unwrap_or(0) + 1);
            });
            if !fits || depth > DEPTH_MAX {
                return false;
            }
            depths.push(depth);
        }
        true
    }

    /// The fields it reads, ascending.
    #[must_use]
    pub fn fields(&self) -> Vec<FieldId> {
        let mut fields: Vec<FieldId> =
            self.nodes.iter().filter_map(|node| if let Node::Field(field) = node { Some(*field) } else { None }).collect();
        fields.sort_unstable();
        fields.dedup();
        fields
    }
}

/// Whether the result of `node` is of type `ty`. Operations that build their results from single values need no check: a value of another type is NULL there.
fn type_fits(node: &Node, ty: Type, fields: &[Field]) -> bool {
    let given = match node {
        Node::Constant(value) => value.is_null() || value.ty() == ty && is_in_range(value),
        Node::Field(field) => fields.get(field.index()).is_some_and(|field| field.ty == ty),
        Node::In { list, .. } => ty == Type::Bool && list.iter().all(is_in_range),
        Node::Not(_)
        | Node::And(_)
        | Node::Or(_)
        | Node::Compare { .. }
        | Node::NotDistinct { .. }
        | Node::IsNull(_)
        | Node::IsTrue(_)
        | Node::IsFalse(_)
        | Node::Like { .. }
        | Node::Regex { .. } => ty == Type::Bool,
        Node::Extract { .. } => ty == Type::Int,
        Node::Arithmetic { .. } | Node::Negate(_) | Node::Cast(_) | Node::Case(_) | Node::Call { .. } => true,
    };
    given && ty.is_in_range()
}

fn is_in_range(value: &Value) -> bool {
    value.ty().is_in_range()
        && !matches!(value, Value::Decimal { units, .. } if units.unsigned_abs() > key::DECIMAL_UNITS_MAX.unsigned_abs())
}
