//! From syntax to a typed expression.
//!
//! One pass over the syntax in its order, operands before operations, without recursion. A constant stays a value until the
//! operation above it takes it, so that `- 5` is one constant, a list of constants needs no nodes, and a string that is compared
//! with a timestamp becomes one.

mod call;
mod numbers;
pub mod pattern;
mod steps;
pub mod window;

use super::ast::{Ast, AstArgs, AstId, Syntax, Test};
use super::builtin::Builtin;
use super::diagnostic::{Diagnostic, Origin};
use super::inline::What;
use super::limits::Limits;
use super::lists::Lists;
use super::literal::{self, NumberError};
use super::parser::{self, shown};
use super::report::Report;
use super::suggest;
use crate::event::{Schema, Type, Value};
use crate::expr::{CompareOp, Expr, Node};
use crate::id::{FieldId, NodeId};
use crate::window::WindowColumn;
use std::sync::Arc;

/// What a condition may refer to.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'s> {
    pub schema: &'s Schema,
    pub lists: &'s Lists,
    /// Values of `:name`.
    pub parameters: &'s [(Arc<str>, Value)],
    pub limits: &'s Limits,
    /// The windows that the last fields of the schema are columns of.
    pub windows: &'s [WindowColumn],
}

/// The typed form of the condition `text`, which stands at `origin`.
///
/// # Errors
/// Its first syntax error, or all errors of names and types. One of them is that the text is an expression of another type than boolean.
pub fn condition(text: &str, origin: &Origin, rule: Option<&Arc<str>>, scope: &Scope<'_>) -> Result<Expr, Vec<Diagnostic>> {
    typed(text, origin, rule, scope, true)
}

/// The typed form of the expression `text`, of any type.
///
/// # Errors
/// As [`condition`], but for the type of the whole.
pub fn expression(text: &str, origin: &Origin, rule: Option<&Arc<str>>, scope: &Scope<'_>) -> Result<Expr, Vec<Diagnostic>> {
    typed(text, origin, rule, scope, false)
}

fn typed(text: &str, origin: &Origin, rule: Option<&Arc<str>>, scope: &Scope<'_>, condition: bool) -> Result<Expr, Vec<Diagnostic>> {
    let Typed { expr, mut report, windows, .. } = read(text, origin, rule, scope, condition)?;
    for (span, _) in windows.new {
        if scope.windows.len() >= scope.limits.windows {
            report.error("limit", span, format!("there are more than {} different windows", scope.limits.windows));
        } else {
            report
                .error("unknown-window", span, "nothing keeps this window's state")
                .hint("windows are set up where rules are compiled together");
        }
    }
    if report.failed() { Err(report.into_errors()) } else { Ok(expr) }
}

/// What became of a text.
struct Typed<'t> {
    expr: Expr,
    report: Report<'t>,
    windows: window::Found,
    /// Whether the whole text is a window.
    window: bool,
}

/// Parses and types `text`: an error is one of syntax, all others are in the report.
fn read<'t>(
    text: &'t str,
    origin: &'t Origin,
    rule: Option<&'t Arc<str>>,
    scope: &Scope<'_>,
    condition: bool,
) -> Result<Typed<'t>, Vec<Diagnostic>> {
    let mut report = Report::new(text, origin, rule);
    let Some(ast) = parser::parse(text, scope.limits, &mut report) else { return Err(report.into_errors()) };
    let nodes = ast.nodes().len();
    // BETWEEN becomes more nodes than it is pieces of syntax; most else becomes fewer.
    let expr = Expr::with_capacity(nodes + nodes / 4);
    let (operands, windows) = (Vec::with_capacity(nodes), window::Found::default());
    let mut checker = Checker { scope, ast: &ast, report, expr, operands, full: false, symbols: None, windows };
    checker.check(condition);
    let Checker { mut expr, report, windows, .. } = checker;
    if windows.any && !expr.nodes().is_empty() {
        // What a window is made of is no part of the expression over its value.
        let whole = std::mem::take(&mut expr);
        expr.copy_from(&whole, whole.root());
    }
    Ok(Typed { expr, report, windows, window: matches!(ast.nodes().last(), Some(Syntax::Window(_))) })
}

/// What has become of a piece of syntax.
#[derive(Clone, Debug)]
enum Operand {
    /// Its error was reported; what contains it is passed over.
    Invalid,
    Constant(Value),
    Node(NodeId),
}

/// Types that compare with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Null,
    Bool,
    Number,
    Text,
    Instant,
    Interval,
}

const fn class(ty: Type) -> Class {
    match ty {
        Type::Null => Class::Null,
        Type::Bool => Class::Bool,
        Type::Int | Type::UInt | Type::Float | Type::Decimal { .. } => Class::Number,
        Type::Text => Class::Text,
        Type::Timestamp(_) | Type::Date => Class::Instant,
        Type::Interval => Class::Interval,
    }
}

struct Checker<'c, 't> {
    scope: &'c Scope<'c>,
    ast: &'c Ast<'t>,
    report: Report<'t>,
    expr: Expr,
    /// For each piece of syntax so far, what it has become.
    operands: Vec<Operand>,
    /// The limit on nodes is reached.
    full: bool,
    /// Inside of a pattern: what fields of the expression stand for.
    symbols: Option<pattern::Symbols<'c>>,
    windows: window::Found,
}

impl<'c, 't> Checker<'c, 't> {
    fn check(&mut self, condition: bool) {
        for id in self.ast.ids() {
            let operand = self.operand(id).unwrap_or(Operand::Invalid);
            self.operands.push(operand);
            if self.full {
                let primary = format!("the condition has more than {} operations and constants", self.scope.limits.nodes);
                self.report.error("limit", 0..0, primary);
                return;
            }
        }
        let Some(root) = self.ast.ids().last() else { return };
        if condition && self.boolean("a condition", root).is_none() {
            return;
        }
        if let Some(Operand::Constant(value)) = self.operands.pop() {
            let ty = value.ty();
            self.push(Node::Constant(value), ty);
        }
    }

    fn error(&mut self, code: &'static str, at: AstId, primary: impl Into<String>) -> super::report::Added<'_> {
        self.report.error(code, self.ast.span(at), primary)
    }

    /// The type of `id`; `None` where it is invalid.
    fn ty(&self, id: AstId) -> Option<Type> {
        match &self.operands[id.index()] {
            Operand::Invalid => None,
            Operand::Constant(value) => Some(value.ty()),
            Operand::Node(node) => Some(self.expr.ty(*node)),
        }
    }

    fn constant(&self, id: AstId) -> Option<&Value> {
        if let Operand::Constant(value) = &self.operands[id.index()] { Some(value) } else { None }
    }

    fn push(&mut self, node: Node, ty: Type) -> NodeId {
        self.full |= self.expr.nodes().len() >= self.scope.limits.nodes;
        self.expr.push(node, ty)
    }

    fn operation(&mut self, node: Node, ty: Type) -> Option<Operand> {
        Some(Operand::Node(self.push(node, ty)))
    }

    /// `node`, or its negation.
    fn truth(&mut self, node: Node, negated: bool) -> Option<Operand> {
        let id = self.push(node, Type::Bool);
        if negated { self.operation(Node::Not(id), Type::Bool) } else { Some(Operand::Node(id)) }
    }

    /// `id` as a node; constants become one now.
    fn place(&mut self, id: AstId) -> Option<NodeId> {
        match std::mem::replace(&mut self.operands[id.index()], Operand::Invalid) {
            Operand::Invalid => None,
            Operand::Constant(value) => {
                let ty = value.ty();
                Some(self.push(Node::Constant(value), ty))
            }
            Operand::Node(node) => Some(node),
        }
    }

    /// `id` as a node of type `ty`: constants are converted where that is exact, all else goes through a cast.
    fn place_as(&mut self, id: AstId, ty: Type) -> Option<NodeId> {
        if let Operand::Constant(value) = &mut self.operands[id.index()]
            && let Some(converted) = literal::convert(value, ty)
        {
            self.operands[id.index()] = Operand::Invalid;
            return Some(self.push(Node::Constant(converted), ty));
        }
        let node = self.place(id)?;
        Some(if self.expr.ty(node) == ty { node } else { self.push(Node::Cast(node), ty) })
    }

    /// What `id` is, for messages.
    fn describe(&self, id: AstId) -> String {
        match &self.operands[id.index()] {
            Operand::Constant(Value::Text(_)) => "a string".into(),
            Operand::Constant(Value::Int(_) | Value::UInt(_) | Value::Decimal { .. } | Value::Float(_)) => "a number".into(),
            Operand::Constant(Value::Bool(truth)) => if *truth { "TRUE" } else { "FALSE" }.into(),
            Operand::Constant(value) => format!("a value of type {}", value.ty()),
            Operand::Node(node) => match self.expr.node(*node) {
                Node::Field(_) => {
                    let name = self.report.text().get(self.ast.span(id)).unwrap_or_default();
                    format!("`{}` ({})", shown(name.trim_matches('"')), self.expr.ty(*node))
                }
                _ => format!("a value of type {}", self.expr.ty(*node)),
            },
            Operand::Invalid => "a value".into(),
        }
    }

    /// Reports an error unless `id` is boolean (or a bare NULL).
    fn boolean(&mut self, wanted_by: &str, id: AstId) -> Option<()> {
        let ty = self.ty(id)?;
        match class(ty) {
            Class::Bool | Class::Null => Some(()),
            class => {
                let found = self.describe(id);
                let primary = format!("{wanted_by} must be true or false, found {found}");
                let error = self.error("type-mismatch", id, primary);
                match class {
                    Class::Number => error.hint("compare it, for example with <> 0"),
                    Class::Text => error.hint("compare it, for example with = '…'"),
                    _ => error.hint("compare it with a value of its type"),
                };
                None
            }
        }
    }

    fn operand(&mut self, id: AstId) -> Option<Operand> {
        let ast = self.ast;
        match ast.node(id) {
            Syntax::Invalid => None,
            Syntax::Null => Some(Operand::Constant(Value::Null)),
            Syntax::Bool(truth) => Some(Operand::Constant(Value::Bool(*truth))),
            Syntax::Number(text) => self.number(id, text),
            Syntax::Text(quoted) => Some(Operand::Constant(Value::Text(literal::unquote(quoted).into()))),
            Syntax::Date(quoted) => {
                let value = literal::date(&literal::unquote(quoted));
                self.literal(id, value, "date", "write it as DATE '2024-01-31'")
            }
            Syntax::Timestamp(quoted) => {
                let value = literal::timestamp(&literal::unquote(quoted));
                self.literal(
                    id,
                    value,
                    "timestamp",
                    "write it as TIMESTAMP '2024-01-31 12:00:00', with up to 9 digits of a fraction and an optional zone",
                )
            }
            Syntax::Interval { text, first, last } => {
                let inside = if text.starts_with('\'') { literal::unquote(text) } else { (*text).into() };
                let value = literal::interval(&inside, *first, *last);
                self.literal(
                    id,
                    value,
                    "interval",
                    "write it as INTERVAL '10' MINUTE or INTERVAL '1 day 2 hours'; only units below a day can be divided",
                )
            }
            Syntax::Field(name) if self.symbols.is_some() => self.column(id, name),
            Syntax::Field(name) => {
                let field = self.field(id, name)?;
                self.operation(Node::Field(field), self.scope.schema.field(field).ty)
            }
            Syntax::Parameter(name) => self.parameter(id, name),
            Syntax::Not(inner) => {
                self.boolean("the operand of NOT", *inner)?;
                let inner = self.place(*inner)?;
                self.operation(Node::Not(inner), Type::Bool)
            }
            Syntax::And(args) => self.chain(*args, "an operand of AND", Node::And),
            Syntax::Or(args) => self.chain(*args, "an operand of OR", Node::Or),
            Syntax::Plus(inner) => {
                self.numeric("unary +", *inner)?;
                Some(std::mem::replace(&mut self.operands[inner.index()], Operand::Invalid))
            }
            Syntax::Minus(inner) => self.negate(*inner),
            Syntax::Arithmetic { op, left, right } => self.arithmetic(id, *op, *left, *right),
            Syntax::Compare { op, left, right } => {
                self.align(*left, *right, Shared::None)?;
                let (left, right) = (self.place(*left)?, self.place(*right)?);
                self.operation(Node::Compare { op: *op, left, right }, Type::Bool)
            }
            Syntax::NotDistinct { left, right, negated } => {
                self.align(*left, *right, Shared::None)?;
                let (left, right) = (self.place(*left)?, self.place(*right)?);
                self.truth(Node::NotDistinct { left, right }, *negated)
            }
            Syntax::Is { operand, test, negated } => {
                if *test != Test::Null {
                    self.boolean("the operand of IS TRUE, FALSE or UNKNOWN", *operand)?;
                }
                let operand = self.place(*operand)?;
                let node = match test {
                    Test::Null | Test::Unknown => Node::IsNull(operand),
                    Test::True => Node::IsTrue(operand),
                    Test::False => Node::IsFalse(operand),
                };
                self.truth(node, *negated)
            }
            Syntax::Between { operand, low, high, symmetric, negated } => self.between(*operand, *low, *high, *symmetric, *negated),
            Syntax::In { operand, list, negated } => self.membership(*operand, *list, *negated),
            Syntax::InList { operand, name, word, negated } => self.named_list(id, *operand, (name, *word), *negated),
            Syntax::Like { operand, pattern, escape, case_insensitive, negated } => {
                let escape = self.escape(*escape);
                let texts = [self.textual("LIKE", *operand), self.textual("LIKE", *pattern)];
                let ([Some(()), Some(())], Some(escape)) = (texts, escape) else { return None };
                let (operand, pattern) = (self.place(*operand)?, self.place(*pattern)?);
                self.truth(Node::Like { operand, pattern, escape, case_insensitive: *case_insensitive }, *negated)
            }
            Syntax::Regex { operand, pattern, case_insensitive, negated } => self.regex(*operand, *pattern, *case_insensitive, *negated),
            Syntax::Case { args, simple, otherwise } => self.case(*args, *simple, *otherwise),
            Syntax::Cast { operand, ty } => self.cast(id, *operand, *ty),
            Syntax::Extract { part, operand } => {
                let ty = self.ty(*operand)?;
                if !matches!(class(ty), Class::Instant | Class::Null) {
                    let found = self.describe(*operand);
                    self.error("type-mismatch", *operand, format!("EXTRACT needs a timestamp or a date, found {found}"))
                        .hint("convert it, for example with CAST(… AS timestamp)");
                    return None;
                }
                let operand = self.place(*operand)?;
                self.operation(Node::Extract { part: *part, operand }, Type::Int)
            }
            Syntax::Window(over) => self.window(id, over),
            Syntax::Navigate { way, operand, offset, running } => self.navigate(id, *way, *operand, *offset, *running),
            Syntax::Classifier(of) => self.classifier(id, of.as_deref()),
            Syntax::MatchNumber => self.match_number(),
            Syntax::MatchRowtime => self.match_rowtime(id),
            Syntax::Aggregate { function, distinct, argument, second, rows, filter, running } => {
                let call = pattern::Aggregate {
                    function: *function,
                    distinct: *distinct,
                    argument: *argument,
                    second: *second,
                    filter: *filter,
                    running: *running,
                };
                self.aggregate(id, call, rows.as_ref().map(Option::as_deref))
            }
            Syntax::Call { builtin, args } => match builtin {
                Builtin::Function(function) => self.call(*function, ast.args(*args)),
                other => self.special(id, *other, ast.args(*args)),
            },
        }
    }

    fn number(&mut self, id: AstId, text: &str) -> Option<Operand> {
        match literal::number(text) {
            Ok(value) => Some(Operand::Constant(value)),
            Err(NumberError::TooManyDigits) => {
                self.error("invalid-literal", id, "this number has more than 38 digits").hint(
                    "an exact number has at most 38 digits, all of them after the point at most; with an exponent (1.5e40) it is a float",
                );
                None
            }
            Err(NumberError::TooLarge) => {
                self.error("invalid-literal", id, "this number is out of range");
                None
            }
            Err(NumberError::NotANumber) => {
                self.error("invalid-literal", id, "this is not a number");
                None
            }
        }
    }

    fn literal(&mut self, id: AstId, value: Option<Value>, kind: &str, hint: &str) -> Option<Operand> {
        if value.is_none() {
            self.error("invalid-literal", id, format!("invalid {kind}")).hint(hint);
        }
        value.map(Operand::Constant)
    }

    /// The field of this name: exactly, or else the only one that differs in the case of letters.
    fn field(&mut self, id: AstId, name: &str) -> Option<FieldId> {
        let schema = self.scope.schema;
        if let Some(field) = schema.find(name) {
            return Some(field);
        }
        let mut alike = schema.fields().iter().enumerate().filter(|(_, field)| field.name.eq_ignore_ascii_case(name));
        match (alike.next(), alike.next()) {
            (Some((index, _)), None) => return Some(FieldId::new(index)),
            (Some((_, first)), Some((_, second))) => {
                self.error("unknown-field", id, format!("`{}` may be more than one field", shown(name)))
                    .hint(format!("write it as {} or {}", first.name, second.name));
            }
            (None, _) => {
                let quoted = self.report.text().as_bytes().get(self.ast.span(id).start) == Some(&b'"');
                let error = self.report.error("unknown-field", self.ast.span(id), format!("unknown field `{}`", shown(name)));
                if let Some(near) = suggest::closest(name, schema.fields().iter().map(|field| field.name.as_str())) {
                    error.hint(format!("did you mean `{near}`?"));
                } else if quoted {
                    error.hint("double quotes enclose names; a string takes single quotes");
                }
            }
        }
        None
    }

    fn parameter(&mut self, id: AstId, name: &str) -> Option<Operand> {
        if let Some((_, value)) = self.scope.parameters.iter().find(|(known, _)| &**known == name) {
            self.mention(self.ast.span(id), What::Parameter(value.clone()));
            return Some(Operand::Constant(value.clone()));
        }
        let names = self.scope.parameters.iter().map(|(known, _)| &**known);
        let near = suggest::closest(name, names);
        let error = self.report.error("unknown-parameter", self.ast.span(id), format!("unknown parameter `:{}`", shown(name)));
        match near {
            Some(near) => error.hint(format!("did you mean :{near}?")),
            None if self.scope.parameters.is_empty() => error.hint("parameters belong to templates"),
            None => error,
        };
        None
    }

    fn chain(&mut self, args: AstArgs, wanted_by: &str, node: fn(crate::expr::Args) -> Node) -> Option<Operand> {
        let args = self.ast.args(args);
        let mut valid = true;
        for arg in args {
            valid &= self.boolean(wanted_by, *arg).is_some();
        }
        if !valid {
            return None;
        }
        let nodes: Option<Vec<NodeId>> = args.iter().map(|arg| self.place(*arg)).collect();
        let args = self.expr.push_args(&nodes?);
        self.operation(node(args), Type::Bool)
    }

    /// Makes two operands comparable: a string beside a timestamp, a date or an interval becomes one, an exact constant beside a float
    /// the nearest double. Reports an error if their types do not compare.
    fn align(&mut self, left: AstId, right: AstId, shared: Shared) -> Option<()> {
        let (left_type, right_type) = (self.ty(left)?, self.ty(right)?);
        match (class(left_type), class(right_type)) {
            (Class::Null, _) | (_, Class::Null) => Some(()),
            (Class::Number, Class::Number) => {
                if right_type != Type::Float {
                    if left_type == Type::Float {
                        self.float_constant(right);
                    }
                } else if left_type != Type::Float && shared == Shared::None {
                    self.float_constant(left);
                }
                Some(())
            }
            (left, right) if left == right => Some(()),
            (Class::Text, Class::Instant | Class::Interval) if self.constant(left).is_some() => self.temporal_constant(left, right_type),
            (Class::Instant | Class::Interval, Class::Text) if self.constant(right).is_some() => self.temporal_constant(right, left_type),
            _ => {
                self.mismatch(left, right);
                None
            }
        }
    }

    /// An exact constant becomes the nearest double.
    fn float_constant(&mut self, id: AstId) {
        if let Operand::Constant(value) = &mut self.operands[id.index()]
            && let Some(float) = literal::nearest_float(value)
        {
            *value = Value::Float(float);
        }
    }

    /// A string constant becomes a constant of the temporal type `ty`.
    fn temporal_constant(&mut self, id: AstId, ty: Type) -> Option<()> {
        let Operand::Constant(Value::Text(text)) = &self.operands[id.index()] else { return None };
        if let Some(value) = literal::temporal(text, ty) {
            self.operands[id.index()] = Operand::Constant(value);
            return Some(());
        }
        let primary = format!("'{}' is not a value of type {ty}", shown(text));
        self.error("invalid-literal", id, primary).hint(match ty {
            Type::Interval => "write it as '1 day 2 hours'",
            _ => "write it as '2024-01-31' or '2024-01-31 12:00:00'",
        });
        None
    }

    fn mismatch(&mut self, left: AstId, right: AstId) {
        let primary = format!("cannot compare {} with {}", self.describe(left), self.describe(right));
        // The carets point at the constant, if there is one, for that is what is probably wrong.
        let (constant, other) = if self.constant(right).is_some() || self.constant(left).is_none() { (right, left) } else { (left, right) };
        let written = self.report.text().get(self.ast.span(constant)).unwrap_or("");
        let hint = match (self.constant(constant), self.ty(other).map_or(Class::Null, class)) {
            (Some(Value::Text(text)), Class::Number) if literal::number(text).is_ok() => format!("write it without quotes: {text}"),
            (Some(Value::Text(_)), Class::Number) => "compare it with a number".into(),
            (Some(Value::Text(_)), Class::Bool) => "compare it with TRUE or FALSE".into(),
            (Some(Value::Int(_) | Value::UInt(_) | Value::Decimal { .. } | Value::Float(_)), Class::Text) => {
                format!("write it in quotes: '{}'", shown(written))
            }
            (Some(Value::Int(_)), Class::Bool) => "compare it with TRUE or FALSE".into(),
            (Some(_), Class::Instant) => {
                "compare it with a timestamp, such as '2024-01-31 12:00:00', or take a part of it with EXTRACT".into()
            }
            (Some(_), Class::Interval) => "compare it with an interval, such as INTERVAL '10' MINUTE".into(),
            _ => "convert one of them with CAST(… AS …)".into(),
        };
        self.error("type-mismatch", constant, primary).hint(hint);
    }

    fn between(&mut self, operand: AstId, low: AstId, high: AstId, symmetric: bool, negated: bool) -> Option<Operand> {
        let aligned = [self.align(operand, low, Shared::Left), self.align(operand, high, Shared::Left)];
        let [Some(()), Some(())] = aligned else { return None };
        let value = self.place(operand)?;
        let (low, high) = (self.place(low)?, self.place(high)?);
        let within = self.within(value, low, high);
        if !symmetric {
            return self.truth(within, negated);
        }
        let straight = self.push(within, Type::Bool);
        let reversed = self.within(value, high, low);
        let reversed = self.push(reversed, Type::Bool);
        let either = self.expr.push_args(&[straight, reversed]);
        self.truth(Node::Or(either), negated)
    }

    fn within(&mut self, value: NodeId, low: NodeId, high: NodeId) -> Node {
        let least = self.push(Node::Compare { op: CompareOp::GreaterOrEqual, left: value, right: low }, Type::Bool);
        let most = self.push(Node::Compare { op: CompareOp::LessOrEqual, left: value, right: high }, Type::Bool);
        Node::And(self.expr.push_args(&[least, most]))
    }

    fn membership(&mut self, operand: AstId, list: AstArgs, negated: bool) -> Option<Operand> {
        let entries = self.ast.args(list);
        self.ty(operand)?;
        // A bare NULL compares with anything, but the entries must compare with each other.
        let anchor = match self.ty(operand)? {
            Type::Null => entries.iter().copied().find(|entry| self.ty(*entry).is_some_and(|ty| ty != Type::Null)).unwrap_or(operand),
            _ => operand,
        };
        // One entry is compared as by `=`, which is also how it is printed.
        let shared = if entries.len() == 1 { Shared::None } else { Shared::Left };
        let mut valid = true;
        for entry in entries {
            valid &= self.align(anchor, *entry, shared).is_some();
        }
        if !valid {
            return None;
        }
        let value_is_float = self.ty(anchor)? == Type::Float;
        let (mut constants, mut others, mut has_null) = (Vec::new(), Vec::new(), false);
        for entry in entries {
            match &mut self.operands[entry.index()] {
                Operand::Constant(Value::Null) => has_null = true,
                // Floats and exact numbers have no common order, so a list holds either.
                Operand::Constant(value) if value_is_float || !matches!(value, Value::Float(_)) => {
                    constants.push(std::mem::replace(value, Value::Null));
                }
                _ => others.push(*entry),
            }
        }
        let value = self.place(operand)?;
        if others.is_empty() && !(constants.is_empty() && has_null) {
            return self.truth(Node::In { operand: value, list: literal::sorted_distinct(constants), has_null }, negated);
        }
        let mut either = Vec::with_capacity(others.len() + 1);
        if !constants.is_empty() {
            let list = literal::sorted_distinct(constants);
            either.push(self.push(Node::In { operand: value, list, has_null }, Type::Bool));
        } else if has_null {
            // No constant to find, but UNKNOWN is still possible: the comparison with NULL is it.
            let null = self.push(Node::Constant(Value::Null), Type::Null);
            either.push(self.push(Node::Compare { op: CompareOp::Equal, left: value, right: null }, Type::Bool));
        }
        for other in others {
            let right = self.place(other)?;
            either.push(self.push(Node::Compare { op: CompareOp::Equal, left: value, right }, Type::Bool));
        }
        if let [one] = either[..] {
            return if negated { self.operation(Node::Not(one), Type::Bool) } else { Some(Operand::Node(one)) };
        }
        let either = self.expr.push_args(&either);
        self.truth(Node::Or(either), negated)
    }

    fn named_list(&mut self, id: AstId, operand: AstId, (name, word): (&str, usize), negated: bool) -> Option<Operand> {
        let lists = self.scope.lists;
        let Some(list) = lists.get(name) else {
            let error = self.report.error("unknown-list", self.ast.span(id), format!("unknown list `{}`", shown(name)));
            if let Some(near) = suggest::closest(name, lists.names()) {
                error.hint(format!("did you mean `{near}`?"));
            }
            return None;
        };
        if list.entries().len() > self.scope.limits.list_entries {
            let detail = format!("it has {}, and {} are allowed", list.entries().len(), self.scope.limits.list_entries);
            self.error("limit", id, format!("the list `{}` has too many entries", shown(name))).detail(detail);
            return None;
        }
        let ty = self.ty(operand)?;
        let values = match list.values(ty) {
            Ok(values) => values,
            Err(misfit) => {
                let primary =
                    format!("entry {} of list `{}` does not compare with {}", misfit.index + 1, shown(name), self.describe(operand));
                self.error("type-mismatch", id, primary).detail(format!("the entry is {}", shown(&misfit.entry))).hint(misfit.hint);
                return None;
            }
        };
        let says_null = ty == Type::Null && !list.entries().is_empty();
        let written = if says_null { [Value::Null].into() } else { Arc::clone(&values) };
        self.mention(word..self.ast.span(id).end, What::List { values: written, float: ty == Type::Float });
        let value = self.place(operand)?;
        if says_null {
            let null = self.push(Node::Constant(Value::Null), Type::Null);
            return self.truth(Node::Compare { op: CompareOp::Equal, left: value, right: null }, negated);
        }
        self.truth(Node::In { operand: value, list: values, has_null: false }, negated)
    }
}

/// Whether the left operand of a comparison is compared with others too; then it must stay exact for their sake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shared {
    None,
    Left,
}

#[cfg(test)]
mod tests;
