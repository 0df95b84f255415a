//! Functions, CASE, CAST and patterns.

use super::numbers::common_type;
use super::{AstArgs, AstId, Checker, Class, Operand, Shared, class, literal};
use crate::event::{Type, Value};
use crate::expr::{ArithmeticOp, CompareOp, Function, Node};
use crate::id::NodeId;
use crate::rule::builtin::{self, Builtin};

impl Checker<'_, '_> {
    /// Reports an error unless `id` is text (or a bare NULL).
    pub(super) fn textual(&mut self, wanted_by: &str, id: AstId) -> Option<()> {
        let ty = self.ty(id)?;
        if matches!(class(ty), Class::Text | Class::Null) {
            return Some(());
        }
        let found = self.describe(id);
        self.error("type-mismatch", id, format!("{wanted_by} needs text, found {found}")).hint("convert it with CAST(… AS text)");
        None
    }

    /// Reports an error unless `id` is a whole number (or a bare NULL).
    fn whole(&mut self, wanted_by: &str, id: AstId) -> Option<()> {
        let ty = self.ty(id)?;
        if ty.is_integer() || ty == Type::Null {
            return Some(());
        }
        let found = self.describe(id);
        self.error("type-mismatch", id, format!("{wanted_by} needs a whole number here, found {found}"));
        None
    }

    fn finish(&mut self, function: Function, args: &[AstId], ty: Type) -> Option<Operand> {
        let mut nodes = Vec::with_capacity(args.len());
        for arg in args {
            let node = match self.ty(*arg)? {
                // Positions and counts are signed integers; nothing else takes unsigned ones as such.
                Type::UInt if matches!(function, Function::Substring | Function::Left | Function::Right) => {
                    self.place_as(*arg, Type::Int)?
                }
                _ => self.place(*arg)?,
            };
            nodes.push(node);
        }
        let args = self.expr.push_args(&nodes);
        self.operation(Node::Call { function, args }, ty)
    }

    pub(super) fn call(&mut self, function: Function, args: &[AstId]) -> Option<Operand> {
        use Function as F;
        let name = if function == F::Concat { "joining text" } else { builtin::name(function) };
        match function {
            F::Greatest | F::Least | F::Coalesce => {
                let ty = self.unify(name, args)?;
                let nodes: Option<Vec<NodeId>> = args.iter().map(|arg| self.place_as(*arg, ty)).collect();
                let args = self.expr.push_args(&nodes?);
                self.operation(Node::Call { function, args }, ty)
            }
            F::Lower
            | F::Upper
            | F::Length
            | F::Trim
            | F::TrimStart
            | F::TrimEnd
            | F::StartsWith
            | F::EndsWith
            | F::Contains
            | F::Position
            | F::Replace
            | F::Concat => {
                let mut valid = true;
                for arg in args {
                    valid &= self.textual(name, *arg).is_some();
                }
                let ty = match function {
                    F::Length | F::Position => Type::Int,
                    F::StartsWith | F::EndsWith | F::Contains => Type::Bool,
                    _ => Type::Text,
                };
                if valid { self.finish(function, args, ty) } else { None }
            }
            F::Substring | F::Left | F::Right => {
                let (text, counts) = args.split_first()?;
                let mut valid = self.textual(name, *text).is_some();
                for count in counts {
                    valid &= self.whole(name, *count).is_some();
                }
                if valid { self.finish(function, args, Type::Text) } else { None }
            }
            F::Abs | F::Sign | F::Round | F::Floor | F::Ceil | F::Truncate => {
                let (first, digits) = args.split_first()?;
                let ty = self.numeric(name, *first)?;
                if let Some(digits) = digits.first() {
                    self.ty(*digits)?;
                    if !matches!(self.constant(*digits), Some(Value::Int(-400..=400))) {
                        self.error("type-mismatch", *digits, "the digits that ROUND keeps must be a whole number")
                            .hint("such as ROUND(amount, 2)");
                        return None;
                    }
                }
                let ty = match (function, ty) {
                    (F::Sign, _) => Type::Int,
                    (F::Floor | F::Ceil | F::Truncate, Type::Decimal { .. }) => Type::Decimal { scale: 0 },
                    (_, ty) => ty,
                };
                self.finish(function, args, ty)
            }
            F::Sqrt
            | F::Exp
            | F::Ln
            | F::Log10
            | F::Power
            | F::Sin
            | F::Cos
            | F::Tan
            | F::Asin
            | F::Acos
            | F::Atan
            | F::Atan2
            | F::Radians
            | F::Degrees => {
                let mut valid = true;
                for arg in args {
                    valid &= self.numeric(name, *arg).is_some();
                }
                if valid { self.finish(function, args, Type::Float) } else { None }
            }
        }
    }

    /// Functions that stand for something else.
    pub(super) fn special(&mut self, id: AstId, builtin: Builtin, args: &[AstId]) -> Option<Operand> {
        match (builtin, args) {
            (Builtin::Pi, _) => Some(Operand::Constant(Value::Float(std::f64::consts::PI))),
            (Builtin::Modulo, [left, right]) => self.arithmetic(id, ArithmeticOp::Remainder, *left, *right),
            (Builtin::PositionReversed, [haystack, needle]) => self.call(Function::Position, &[*needle, *haystack]),
            (Builtin::NullIf, [value, other]) => {
                self.align(*value, *other, Shared::Left)?;
                let value = self.place(*value)?;
                let ty = self.expr.ty(value);
                let other = self.place(*other)?;
                let equal = self.push(Node::Compare { op: CompareOp::Equal, left: value, right: other }, Type::Bool);
                let null = self.push(Node::Constant(Value::Null), ty);
                let args = self.expr.push_args(&[equal, null, value]);
                self.operation(Node::Case(args), ty)
            }
            (Builtin::If, [condition, ..]) => {
                self.boolean("the first argument of IF", *condition)?;
                self.branches("IF", args, true)
            }
            (Builtin::RegexpLike, [text, pattern, options @ ..]) => {
                let case_insensitive = match options.first() {
                    None => false,
                    Some(options) => match self.constant(*options) {
                        Some(Value::Text(text)) if matches!(&**text, "" | "c") => false,
                        Some(Value::Text(text)) if &**text == "i" => true,
                        _ => {
                            self.error("invalid-pattern", *options, "the options of REGEXP_LIKE are 'c' (as written) or 'i' (any case)");
                            return None;
                        }
                    },
                };
                self.regex(*text, *pattern, case_insensitive, false)
            }
            _ => None,
        }
    }

    pub(super) fn regex(&mut self, operand: AstId, pattern: AstId, case_insensitive: bool, negated: bool) -> Option<Operand> {
        self.textual("a regular expression", operand)?;
        self.ty(pattern)?;
        let Some(Value::Text(text)) = self.constant(pattern) else {
            self.error("invalid-pattern", pattern, "the pattern of a regular expression must be a constant string");
            return None;
        };
        let text = text.clone();
        let built = regex::RegexBuilder::new(&text).size_limit(self.scope.limits.regex_bytes).case_insensitive(case_insensitive).build();
        if let Err(error) = built {
            match error {
                regex::Error::CompiledTooBig(limit) => {
                    self.error("limit", pattern, "this regular expression is too large")
                        .detail(format!("compiled, it takes more than {limit} bytes"));
                }
                other => {
                    // The last line says what is wrong; those before draw the pattern once more.
                    let message = other.to_string();
                    let detail = message.lines().last().unwrap_or("").trim().trim_start_matches("error: ").to_string();
                    self.error("invalid-pattern", pattern, "invalid regular expression").detail(detail);
                }
            }
            return None;
        }
        let operand = self.place(operand)?;
        self.truth(Node::Regex { operand, pattern: text, case_insensitive }, negated)
    }

    /// The escape character of a LIKE: `None` after an error.
    pub(super) fn escape(&mut self, escape: Option<AstId>) -> Option<Option<char>> {
        let Some(id) = escape else { return Some(None) };
        self.ty(id)?;
        if let Some(Value::Text(text)) = self.constant(id) {
            let mut characters = text.chars();
            let escape = characters.next();
            if characters.next().is_none() {
                return Some(escape);
            }
        }
        self.error("invalid-pattern", id, "the escape of LIKE must be a string of one character").hint("such as ESCAPE '\\'");
        None
    }

    /// The common type of `args`; strings beside timestamps, dates or intervals become such.
    fn unify(&mut self, name: &str, args: &[AstId]) -> Option<Type> {
        let types: Option<Vec<Type>> = args.iter().map(|arg| self.ty(*arg)).collect();
        let temporal = types?.into_iter().find(|ty| matches!(class(*ty), Class::Instant | Class::Interval));
        if let Some(temporal) = temporal {
            for arg in args {
                if matches!(self.constant(*arg), Some(Value::Text(_))) {
                    self.temporal_constant(*arg, temporal)?;
                }
            }
        }
        let mut common = Type::Null;
        for arg in args {
            let ty = self.ty(*arg)?;
            let Some(next) = common_type(common, ty) else {
                self.error("type-mismatch", *arg, format!("the values of {name} have different types: {common} and {ty}"))
                    .hint("convert one of them with CAST(… AS …)");
                return None;
            };
            common = next;
        }
        Some(common)
    }

    pub(super) fn case(&mut self, args: AstArgs, simple: bool, otherwise: bool) -> Option<Operand> {
        let args = self.ast.args(args);
        if !simple {
            let pairs = args.len() / 2;
            let mut valid = true;
            for pair in 0..pairs {
                valid &= self.boolean("a condition of CASE", args[2 * pair]).is_some();
            }
            return if valid { self.branches("CASE", args, otherwise) } else { None };
        }
        let (operand, args) = args.split_first()?;
        let mut valid = true;
        for pair in 0..args.len() / 2 {
            valid &= self.align(*operand, args[2 * pair], Shared::Left).is_some();
        }
        if !valid {
            return None;
        }
        let left = self.place(*operand)?;
        for pair in 0..args.len() / 2 {
            let right = self.place(args[2 * pair])?;
            let equal = self.push(Node::Compare { op: CompareOp::Equal, left, right }, Type::Bool);
            self.operands[args[2 * pair].index()] = Operand::Node(equal);
        }
        self.branches("CASE", args, otherwise)
    }

    /// Condition and value in turns, and the value of ELSE, as one node. The conditions are boolean.
    fn branches(&mut self, name: &str, args: &[AstId], otherwise: bool) -> Option<Operand> {
        let is_value = |index: usize| index % 2 == 1 || (otherwise && index + 1 == args.len());
        let values: Vec<AstId> = args.iter().enumerate().filter(|(index, _)| is_value(*index)).map(|(_, arg)| *arg).collect();
        let ty = self.unify(name, &values)?;
        let mut nodes = Vec::with_capacity(args.len() + 1);
        for (index, arg) in args.iter().enumerate() {
            nodes.push(if is_value(index) { self.place_as(*arg, ty)? } else { self.place(*arg)? });
        }
        if !otherwise {
            nodes.push(self.push(Node::Constant(Value::Null), ty));
        }
        let args = self.expr.push_args(&nodes);
        self.operation(Node::Case(args), ty)
    }

    pub(super) fn cast(&mut self, id: AstId, operand: AstId, ty: Type) -> Option<Operand> {
        let from = self.ty(operand)?;
        if let Some(value) = self.constant(operand).and_then(|value| cast_constant(value, ty)) {
            return Some(Operand::Constant(value));
        }
        if from == ty {
            return Some(std::mem::replace(&mut self.operands[operand.index()], Operand::Invalid));
        }
        let allowed = match (class(from), class(ty)) {
            (Class::Null, _) => true,
            (_, Class::Interval) | (Class::Interval, _) => false,
            (Class::Text, _) | (_, Class::Text) => true,
            (Class::Bool, Class::Number) | (Class::Number, Class::Bool) => true,
            (a, b) => a == b,
        };
        if !allowed {
            let primary = format!("cannot convert {} to {ty}", self.describe(operand));
            let error = self.error("type-mismatch", id, primary);
            match (class(from), class(ty)) {
                (Class::Instant, Class::Number) => error.hint("take the seconds since 1970 with EXTRACT(EPOCH FROM …)"),
                (Class::Number, Class::Instant) => error.hint("add an interval to a timestamp, such as TIMESTAMP '1970-01-01 00:00:00'"),
                _ => error,
            };
            return None;
        }
        let operand = self.place(operand)?;
        self.operation(Node::Cast(operand), ty)
    }
}

/// A cast of a constant that is a literal in all but form: exact numbers to floats and unsigned integers, and strings that state a value.
fn cast_constant(value: &Value, ty: Type) -> Option<Value> {
    match (value, ty) {
        (Value::Null, _) => None,
        (Value::Text(text), Type::Float) => match &**text {
            "NaN" => Some(Value::Float(f64::NAN)),
            "Infinity" => Some(Value::Float(f64::INFINITY)),
            "-Infinity" => Some(Value::Float(f64::NEG_INFINITY)),
            "-0" => Some(Value::Float(-0.0)),
            _ => None,
        },
        (Value::Text(text), Type::Date) => literal::date(text),
        (Value::Text(text), Type::Timestamp(_)) => literal::timestamp(text).and_then(|instant| literal::convert(&instant, ty)),
        (Value::Text(text), Type::Interval) => literal::interval(text, None, None),
        (value, Type::Float | Type::UInt) if value.ty().is_numeric() => literal::convert(value, ty),
        _ => None,
    }
}
