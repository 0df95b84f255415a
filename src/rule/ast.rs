//! The syntax of a condition: an arena of nodes, children before parents, that borrows from the text.
//!
//! A walk over [`Ast::nodes`] in order meets every operand before its operation, so nothing that works on it recurses.

use super::builtin::Builtin;
use crate::event::Type;
use crate::expr::{ArithmeticOp, CompareOp, DatePart};
use std::borrow::Cow;
use std::ops::Range;

/// The position of a node in its [`Ast`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AstId(u32);

impl AstId {
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A run of [`Ast::args`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AstArgs {
    start: u32,
    len: u32,
}

/// What `IS` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    Null,
    True,
    False,
    Unknown,
}

/// One piece of syntax. Text stays as written, quotes included, until the checker needs its value.
#[derive(Clone, Debug, PartialEq)]
pub enum Syntax<'t> {
    Null,
    Bool(bool),
    Number(&'t str),
    /// With its quotes.
    Text(&'t str),
    /// `DATE '…'`: the string with its quotes.
    Date(&'t str),
    Timestamp(&'t str),
    /// `INTERVAL '…' unit`: the string with its quotes (or a bare number), and the unit or units after it, if any.
    Interval {
        text: &'t str,
        first: Option<&'t str>,
        last: Option<&'t str>,
    },
    Field(Cow<'t, str>),
    /// Without its colon.
    Parameter(&'t str),
    Not(AstId),
    And(AstArgs),
    Or(AstArgs),
    Plus(AstId),
    Minus(AstId),
    Arithmetic {
        op: ArithmeticOp,
        left: AstId,
        right: AstId,
    },
    Compare {
        op: CompareOp,
        left: AstId,
        right: AstId,
    },
    /// `IS NOT DISTINCT FROM`; negated: `IS DISTINCT FROM`.
    NotDistinct {
        left: AstId,
        right: AstId,
        negated: bool,
    },
    Is {
        operand: AstId,
        test: Test,
        negated: bool,
    },
    Between {
        operand: AstId,
        low: AstId,
        high: AstId,
        symmetric: bool,
        negated: bool,
    },
    In {
        operand: AstId,
        list: AstArgs,
        negated: bool,
    },
    InList {
        operand: AstId,
        name: Cow<'t, str>,
        /// Where the word LIST stands.
        word: usize,
        negated: bool,
    },
    Like {
        operand: AstId,
        pattern: AstId,
        escape: Option<AstId>,
        case_insensitive: bool,
        negated: bool,
    },
    Regex {
        operand: AstId,
        pattern: AstId,
        case_insensitive: bool,
        negated: bool,
    },
    /// The operand, if `simple`; condition and value in turns; the value of `ELSE`, if `otherwise`.
    Case {
        args: AstArgs,
        simple: bool,
        otherwise: bool,
    },
    Cast {
        operand: AstId,
        ty: Type,
    },
    Extract {
        part: DatePart,
        operand: AstId,
    },
    Call {
        builtin: Builtin,
        args: AstArgs,
    },
    /// `PREV`, `NEXT`, `FIRST`, `LAST`; `running`: what was written before it, RUNNING or FINAL.
    Navigate {
        way: Navigate,
        operand: AstId,
        offset: Option<u32>,
        running: Option<bool>,
    },
    /// `CLASSIFIER()`, or of a variable.
    Classifier(Option<Cow<'t, str>>),
    MatchNumber,
    MatchRowtime,
    /// `COUNT(*)` and `COUNT(A.*)` have no argument, but `rows`.
    Aggregate {
        function: MatchFunction,
        distinct: bool,
        argument: Option<AstId>,
        /// What comes behind a comma.
        second: Option<AstId>,
        rows: Option<Option<Cow<'t, str>>>,
        filter: Option<AstId>,
        running: Option<bool>,
    },
    Window(Box<Over>),
    /// What could not be read; the diagnostic has been given.
    Invalid,
}

/// An aggregate over rows of a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchFunction {
    Count,
    Sum,
    Average,
    Minimum,
    Maximum,
    Deviation,
    Array,
    Any,
    Every,
    Some,
    List,
    MinimumBy,
    MaximumBy,
}

/// A function that windows have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverFunction {
    Count,
    Sum,
    Average,
    Minimum,
    Maximum,
    Deviation,
    First,
    Last,
    Lag,
}

/// `function(…) FILTER (…) OVER (…)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Over {
    pub function: OverFunction,
    pub distinct: bool,
    pub argument: Option<AstId>,
    /// The second argument of LAG.
    pub offset: Option<AstId>,
    pub filter: Option<AstId>,
    pub partition_by: Vec<AstId>,
    /// Fields, and whether they descend.
    pub order_by: Vec<(AstId, bool)>,
    pub frame: Option<FrameClause>,
    /// The parentheses after OVER.
    pub span: Range<usize>,
}

/// `RANGE …` or `ROWS …`.
#[derive(Clone, Debug, PartialEq)]
pub struct FrameClause {
    pub rows: bool,
    pub from: Bound,
    pub to: Bound,
    /// False with EXCLUDE CURRENT ROW.
    pub current: bool,
    pub span: Range<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Bound {
    Current,
    /// `None`: UNBOUNDED.
    Offset {
        by: Option<AstId>,
        following: bool,
    },
}

/// From one row of a match to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Navigate {
    Prev,
    Next,
    First,
    Last,
}

/// A condition's syntax; the root is the last node.
#[derive(Debug, Default)]
pub struct Ast<'t> {
    nodes: Vec<Syntax<'t>>,
    spans: Vec<(u32, u32)>,
    args: Vec<AstId>,
}

impl<'t> Ast<'t> {
    /// An empty tree with room for what a text of `bytes` bytes usually becomes.
    #[must_use]
    pub fn for_text(bytes: usize) -> Self {
        let nodes = bytes / 6 + 4;
        Self { nodes: Vec::with_capacity(nodes), spans: Vec::with_capacity(nodes), args: Vec::with_capacity(nodes / 2) }
    }

    pub(super) fn push(&mut self, syntax: Syntax<'t>, start: usize, end: usize) -> AstId {
        // Texts are shorter than 4 GiB (`Limits::condition_bytes`), and every node takes at least one byte of text.
        let id = AstId(self.nodes.len() as u32);
        self.nodes.push(syntax);
        self.spans.push((start as u32, end as u32));
        id
    }

    pub(super) fn push_args(&mut self, args: &[AstId]) -> AstArgs {
        let start = self.args.len() as u32;
        self.args.extend_from_slice(args);
        AstArgs { start, len: args.len() as u32 }
    }

    /// Takes the last node back if it is a chain of `AND` (or of `OR`), and moves its operands to the end of `operands`: the chain goes on there.
    pub(super) fn reopen_chain(&mut self, and: bool, operands: &mut Vec<AstId>) -> bool {
        let ((Some(Syntax::And(args)), true) | (Some(Syntax::Or(args)), false)) = (self.nodes.last(), and) else { return false };
        let start = args.start as usize;
        operands.extend_from_slice(&self.args[start..]);
        self.args.truncate(start);
        self.nodes.pop();
        self.spans.pop();
        true
    }

    #[must_use]
    pub fn nodes(&self) -> &[Syntax<'t>] {
        &self.nodes
    }

    /// The nodes in order: operands before operations.
    pub fn ids(&self) -> impl Iterator<Item = AstId> + use<> {
        (0..self.nodes.len() as u32).map(AstId)
    }

    #[must_use]
    pub fn node(&self, id: AstId) -> &Syntax<'t> {
        &self.nodes[id.index()]
    }

    #[must_use]
    pub fn args(&self, args: AstArgs) -> &[AstId] {
        &self.args[args.start as usize..(args.start + args.len) as usize]
    }

    /// The bytes of the text that `id` was read from.
    #[must_use]
    pub fn span(&self, id: AstId) -> Range<usize> {
        let (start, end) = self.spans[id.index()];
        start as usize..end as usize
    }
}
