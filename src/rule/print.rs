//! From a typed expression back to canonical text.
//!
//! The text reads back as the same expression, and so names it: parentheses only where they are needed, keywords in capitals, constants
//! in one form each. What the checker has taken apart (BETWEEN, IN over expressions, simple CASE, NULLIF) is known by the operand that its
//! parts share, and is put together again.

mod pattern;

pub use pattern::pattern;

use super::parser::power::{AND, ATOM, COMPARISON, CONCAT, NOT, OR, PRODUCT, SUM, UNARY};
use super::{builtin, literal, parser};
use crate::event::{Schema, Type, Value};
use crate::expr::{ArithmeticOp, CompareOp, Expr, Function, Node};
use crate::id::{FieldId, NodeId};
use std::fmt::Write as _;

/// LIMIT: levels that are printed. Checked conditions stay far below it; an expression from elsewhere is cut, so that no stack overflows.
const DEPTH_MAX: usize = 1200;

/// `expr` as SQL.
#[must_use]
pub fn condition(expr: &Expr, schema: &Schema) -> String {
    let mut text = String::new();
    write_condition(expr, schema, &mut text);
    text
}

/// Writes `expr` as SQL to the end of `text`.
pub fn write_condition(expr: &Expr, schema: &Schema, text: &mut String) {
    write_with(expr, &|field, text| write_field_name(&schema.field(field).name, text), text);
}

/// The same, with other names of fields.
fn write_with(expr: &Expr, field: &dyn Fn(FieldId, &mut String), text: &mut String) {
    if !expr.nodes().is_empty() {
        Printer { expr, field, text, depth: 0 }.node(expr.root(), OR);
    }
}

/// Writes a field's name as conditions do: in quotes where it is no plain word.
pub(super) fn write_field_name(name: &str, text: &mut String) {
    if parser::is_plain_name(name) {
        text.push_str(name);
    } else {
        let _ = write!(text, "\"{}\"", name.replace('"', "\"\""));
    }
}

/// Writes a constant. `beside_float`: any number that stands there is read as the nearest double.
pub(super) fn write_constant(value: &Value, beside_float: bool, text: &mut String) {
    let mut printer = Printer { expr: &Expr::new(), field: &|_, _| (), text, depth: 0 };
    match value {
        Value::Float(float) if beside_float => printer.float(*float, true),
        value => printer.constant(value),
    }
}

struct Printer<'e> {
    expr: &'e Expr,
    /// Writes the name of a field.
    field: &'e dyn Fn(FieldId, &mut String),
    text: &'e mut String,
    depth: usize,
}

/// The forms whose negation is written inside: `NOT BETWEEN`, `IS NOT NULL`.
enum Predicate<'e> {
    Between {
        value: NodeId,
        low: NodeId,
        high: NodeId,
        symmetric: bool,
    },
    /// Constants, if any, then expressions.
    Member {
        value: NodeId,
        constants: Option<&'e Node>,
        others: Vec<NodeId>,
    },
    Plain(&'e Node),
}

impl<'e> Printer<'e> {
    fn shape(&self, id: NodeId) -> Option<Predicate<'e>> {
        let expr = self.expr;
        let node = expr.node(id);
        match node {
            Node::And(_) => self.between(id).map(|(value, low, high)| Predicate::Between { value, low, high, symmetric: false }),
            Node::Or(args) => {
                let args = expr.args(*args);
                if let [first, second] = args
                    && let (Some(a), Some(b)) = (self.between(*first), self.between(*second))
                    && a == (b.0, b.2, b.1)
                {
                    return Some(Predicate::Between { value: a.0, low: a.1, high: a.2, symmetric: true });
                }
                let equal = |id: &NodeId| match expr.node(*id) {
                    Node::Compare { op: CompareOp::Equal, left, right } => Some((*left, *right)),
                    _ => None,
                };
                let (first, rest) = args.split_first()?;
                let (value, constants, mut others) = match expr.node(*first) {
                    node @ Node::In { operand, list, .. } if !list.is_empty() => (*operand, Some(node), Vec::new()),
                    _ => equal(first).map(|(value, right)| (value, None, vec![right]))?,
                };
                for other in rest {
                    let (left, right) = equal(other).filter(|(left, _)| *left == value)?;
                    debug_assert!(left == value);
                    others.push(right);
                }
                Some(Predicate::Member { value, constants, others })
            }
            Node::In { .. } | Node::Like { .. } | Node::Regex { .. } | Node::IsNull(_) | Node::IsTrue(_) | Node::IsFalse(_) => {
                Some(Predicate::Plain(node))
            }
            Node::NotDistinct { .. } => Some(Predicate::Plain(node)),
            _ => None,
        }
    }

    /// `value >= low AND value <= high` over one value.
    fn between(&self, id: NodeId) -> Option<(NodeId, NodeId, NodeId)> {
        let Node::And(args) = self.expr.node(id) else { return None };
        let [first, second] = self.expr.args(*args) else { return None };
        match (self.expr.node(*first), self.expr.node(*second)) {
            (
                Node::Compare { op: CompareOp::GreaterOrEqual, left: a, right: low },
                Node::Compare { op: CompareOp::LessOrEqual, left: b, right: high },
            ) if a == b => Some((*a, *low, *high)),
            _ => None,
        }
    }

    /// How tightly the text of `id` binds.
    fn power(&self, id: NodeId) -> u8 {
        match self.expr.node(id) {
            Node::Constant(value) => {
                let negative = match value {
                    Value::Int(int) => *int < 0,
                    Value::Decimal { units, .. } => *units < 0,
                    _ => false,
                };
                if negative { UNARY } else { ATOM }
            }
            Node::Not(inner) => {
                if self.shape(*inner).is_some() {
                    COMPARISON
                } else {
                    NOT
                }
            }
            Node::And(_) => {
                if self.shape(id).is_some() {
                    COMPARISON
                } else {
                    AND
                }
            }
            Node::Or(_) => {
                if self.shape(id).is_some() {
                    COMPARISON
                } else {
                    OR
                }
            }
            Node::Compare { .. }
            | Node::NotDistinct { .. }
            | Node::In { .. }
            | Node::Like { .. }
            | Node::Regex { .. }
            | Node::IsNull(_)
            | Node::IsTrue(_)
            | Node::IsFalse(_) => COMPARISON,
            Node::Arithmetic { op: ArithmeticOp::Add | ArithmeticOp::Subtract, .. } => SUM,
            Node::Arithmetic { .. } => PRODUCT,
            Node::Negate(_) => UNARY,
            Node::Call { function: Function::Concat, args } if args.len > 1 => CONCAT,
            Node::Field(_) | Node::Cast(_) | Node::Extract { .. } | Node::Case(_) | Node::Call { .. } => ATOM,
        }
    }

    /// Writes `id`, in parentheses if it binds less tightly than `minimum`.
    fn node(&mut self, id: NodeId, minimum: u8) {
        if self.depth >= DEPTH_MAX {
            self.text.push('…');
            return;
        }
        self.depth += 1;
        if self.power(id) < minimum {
            self.text.push('(');
            self.bare(id);
            self.text.push(')');
        } else {
            self.bare(id);
        }
        self.depth -= 1;
    }

    fn bare(&mut self, id: NodeId) {
        let expr = self.expr;
        if let Some(predicate) = self.shape(id) {
            return self.predicate(&predicate, false);
        }
        match expr.node(id) {
            Node::Constant(value) => self.constant(value),
            Node::Field(field) => (self.field)(*field, self.text),
            Node::Not(inner) => match self.shape(*inner) {
                Some(predicate) => self.predicate(&predicate, true),
                None => {
                    self.text.push_str("NOT ");
                    self.node(*inner, NOT);
                }
            },
            // A chain inside a chain of the same kind reads back as one chain, so it needs no parentheses.
            Node::And(args) => self.joined(expr.args(*args), " AND ", AND),
            Node::Or(args) => self.joined(expr.args(*args), " OR ", OR),
            Node::Compare { op, left, right } => {
                self.beside(*left, *right);
                self.text.push_str(match op {
                    CompareOp::Equal => " = ",
                    CompareOp::NotEqual => " <> ",
                    CompareOp::Less => " < ",
                    CompareOp::LessOrEqual => " <= ",
                    CompareOp::Greater => " > ",
                    CompareOp::GreaterOrEqual => " >= ",
                });
                self.beside(*right, *left);
            }
            Node::Arithmetic { op, left, right } => {
                let (power, symbol) = match op {
                    ArithmeticOp::Add => (SUM, " + "),
                    ArithmeticOp::Subtract => (SUM, " - "),
                    ArithmeticOp::Multiply => (PRODUCT, " * "),
                    ArithmeticOp::Divide => (PRODUCT, " / "),
                    ArithmeticOp::Remainder => (PRODUCT, " % "),
                };
                self.node(*left, power);
                self.text.push_str(symbol);
                self.node(*right, power + 1);
            }
            Node::Negate(inner) => {
                self.text.push('-');
                // Two signs in a row would begin a comment.
                if self.power(*inner) == UNARY {
                    self.text.push(' ');
                }
                self.node(*inner, UNARY);
            }
            Node::Cast(inner) => {
                self.text.push_str("CAST(");
                self.node(*inner, OR);
                let _ = write!(self.text, " AS {})", expr.ty(id));
            }
            Node::Extract { part, operand } => {
                let _ = write!(self.text, "EXTRACT({} FROM ", builtin::date_part_name(*part));
                self.node(*operand, OR);
                self.text.push(')');
            }
            Node::Case(args) => self.case(expr.args(*args)),
            Node::Call { function, args } => self.call(*function, expr.args(*args)),
            // These have a shape of their own, written above.
            Node::NotDistinct { .. }
            | Node::In { .. }
            | Node::Like { .. }
            | Node::Regex { .. }
            | Node::IsNull(_)
            | Node::IsTrue(_)
            | Node::IsFalse(_) => {}
        }
    }

    fn joined(&mut self, args: &[NodeId], separator: &str, minimum: u8) {
        for (index, arg) in args.iter().enumerate() {
            if index > 0 {
                self.text.push_str(separator);
            }
            self.node(*arg, minimum);
        }
    }

    /// Writes one side of a comparison. Beside a float that is no constant, a constant float needs no type: it reads back as the nearest double.
    fn beside(&mut self, id: NodeId, other: NodeId) {
        let float = self.expr.ty(other) == Type::Float && !matches!(self.expr.node(other), Node::Constant(_));
        match self.expr.node(id) {
            Node::Constant(Value::Float(value)) if float => self.float(*value, true),
            _ => self.node(id, CONCAT),
        }
    }

    fn predicate(&mut self, predicate: &Predicate<'e>, negated: bool) {
        let not = if negated { "NOT " } else { "" };
        match predicate {
            Predicate::Between { value, low, high, symmetric } => {
                self.node(*value, CONCAT);
                self.words(&[" ", not, "BETWEEN ", if *symmetric { "SYMMETRIC " } else { "" }]);
                self.beside(*low, *value);
                self.text.push_str(" AND ");
                self.beside(*high, *value);
            }
            Predicate::Member { value, constants, others } => {
                self.node(*value, CONCAT);
                self.words(&[" ", not, "IN ("]);
                let mut first = true;
                if let Some(Node::In { list, has_null, .. }) = constants {
                    self.list(*value, list, *has_null);
                    first = false;
                }
                for other in others {
                    self.text.push_str(if first { "" } else { ", " });
                    first = false;
                    self.beside(*other, *value);
                }
                self.text.push(')');
            }
            Predicate::Plain(node) => match node {
                Node::In { operand, list, has_null } => {
                    self.node(*operand, CONCAT);
                    self.words(&[" ", not, "IN ("]);
                    self.list(*operand, list, *has_null);
                    self.text.push(')');
                }
                Node::Like { operand, pattern, escape, case_insensitive } => {
                    self.node(*operand, CONCAT);
                    self.words(&[" ", not, if *case_insensitive { "ILIKE " } else { "LIKE " }]);
                    self.node(*pattern, CONCAT);
                    if let Some(escape) = escape {
                        self.text.push_str(" ESCAPE ");
                        self.string(&escape.to_string());
                    }
                }
                Node::Regex { operand, pattern, case_insensitive } => {
                    self.node(*operand, CONCAT);
                    self.text.push_str(match (negated, case_insensitive) {
                        (false, false) => " ~ ",
                        (false, true) => " ~* ",
                        (true, false) => " !~ ",
                        (true, true) => " !~* ",
                    });
                    self.string(pattern);
                }
                Node::NotDistinct { left, right } => {
                    self.beside(*left, *right);
                    self.text.push_str(if negated { " IS DISTINCT FROM " } else { " IS NOT DISTINCT FROM " });
                    self.beside(*right, *left);
                }
                Node::IsNull(operand) | Node::IsTrue(operand) | Node::IsFalse(operand) => {
                    self.node(*operand, CONCAT);
                    let test = match node {
                        Node::IsNull(_) => "NULL",
                        Node::IsTrue(_) => "TRUE",
                        _ => "FALSE",
                    };
                    self.words(&[" IS ", not, test]);
                }
                _ => {}
            },
        }
    }

    /// The constants of an IN, separated by commas.
    fn list(&mut self, operand: NodeId, list: &[Value], has_null: bool) {
        let float = self.expr.ty(operand) == Type::Float;
        for (index, value) in list.iter().enumerate() {
            if index > 0 {
                self.text.push_str(", ");
            }
            match value {
                Value::Float(value) if float => self.float(*value, true),
                value => self.constant(value),
            }
        }
        if has_null {
            self.text.push_str(if list.is_empty() { "NULL" } else { ", NULL" });
        }
    }

    fn case(&mut self, args: &[NodeId]) {
        let expr = self.expr;
        let equal = |id: NodeId| match expr.node(id) {
            Node::Compare { op: CompareOp::Equal, left, right } => Some((*left, *right)),
            _ => None,
        };
        let Some((otherwise, pairs)) = args.split_last() else { return };
        if let [condition, value] = pairs
            && let Some((left, right)) = equal(*condition)
            && left == *otherwise
            && matches!(expr.node(*value), Node::Constant(Value::Null))
        {
            self.text.push_str("NULLIF(");
            self.node(left, OR);
            self.text.push_str(", ");
            self.beside(right, left);
            self.text.push(')');
            return;
        }
        let operand = equal(args[0]).map(|(left, _)| left).filter(|operand| {
            // One comparison alone may as well be a condition.
            pairs.len() > 2 && pairs.iter().step_by(2).all(|condition| equal(*condition).is_some_and(|(left, _)| left == *operand))
        });
        self.text.push_str("CASE");
        if let Some(operand) = operand {
            self.text.push(' ');
            self.node(operand, OR);
        }
        for pair in pairs.chunks_exact(2) {
            self.text.push_str(" WHEN ");
            match (operand, equal(pair[0])) {
                (Some(operand), Some((_, right))) => self.beside(right, operand),
                _ => self.node(pair[0], OR),
            }
            self.text.push_str(" THEN ");
            self.node(pair[1], OR);
        }
        if !matches!(expr.node(*otherwise), Node::Constant(Value::Null)) {
            self.text.push_str(" ELSE ");
            self.node(*otherwise, OR);
        }
        self.text.push_str(" END");
    }

    fn call(&mut self, function: Function, args: &[NodeId]) {
        if function == Function::Concat && args.len() > 1 {
            return self.joined(args, " || ", SUM);
        }
        self.text.push_str(builtin::name(function));
        self.text.push('(');
        match (function, args) {
            (Function::Position, [needle, haystack]) => {
                self.node(*needle, CONCAT);
                self.text.push_str(" IN ");
                self.node(*haystack, OR);
            }
            _ => self.joined(args, ", ", OR),
        }
        self.text.push(')');
    }

    fn words(&mut self, words: &[&str]) {
        words.iter().for_each(|word| self.text.push_str(word));
    }

    fn string(&mut self, text: &str) {
        self.text.push('\'');
        let mut rest = text;
        while let Some(quote) = memchr::memchr(b'\'', rest.as_bytes()) {
            let (piece, after) = rest.split_at(quote + 1);
            self.words(&[piece, "'"]);
            rest = after;
        }
        self.words(&[rest, "'"]);
    }

    fn constant(&mut self, value: &Value) {
        match value {
            Value::Null => self.text.push_str("NULL"),
            Value::Bool(truth) => self.text.push_str(if *truth { "TRUE" } else { "FALSE" }),
            Value::Int(int) => literal::write_decimal(i128::from(*int), None, self.text),
            Value::UInt(uint) => {
                // A literal is unsigned only where it must be.
                let _ =
                    if i64::try_from(*uint).is_err() { write!(self.text, "{uint}") } else { write!(self.text, "CAST({uint} AS uint64)") };
            }
            Value::Float(float) => self.float(*float, false),
            Value::Decimal { units, scale } => literal::write_decimal(*units, Some(*scale), self.text),
            Value::Text(text) => self.string(text),
            Value::Timestamp { ticks, unit } => {
                let _ = write!(self.text, "TIMESTAMP '{}'", literal::timestamp_text(*ticks, *unit));
            }
            Value::Date(days) => {
                let _ = write!(self.text, "DATE '{}'", literal::date_text(i64::from(*days)));
            }
            Value::Interval { months, days, nanoseconds } => {
                let _ = write!(self.text, "INTERVAL '{}'", literal::interval_text(*months, *days, *nanoseconds));
            }
        }
    }

    /// `beside_float`: any number that stands here is read as the nearest double.
    fn float(&mut self, float: f64, beside_float: bool) {
        if !float.is_finite() || (float == 0.0 && float.is_sign_negative()) {
            let name = if float.is_nan() {
                "NaN"
            } else if float == 0.0 {
                "-0"
            } else if float > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            };
            let _ = write!(self.text, "CAST('{name}' AS float64)");
            return;
        }
        self.text.push_str(if beside_float { "" } else { "CAST(" });
        literal::write_float(float, self.text);
        self.text.push_str(if beside_float { "" } else { " AS float64)" });
    }
}
