//! Arithmetic: which types it takes and which it gives.

use super::{AstId, Checker, Class, Operand, class, literal};
use crate::event::{TimeUnit, Type, Value};
use crate::expr::{ArithmeticOp, Node};

/// The type of arithmetic on two numbers.
pub(super) fn arithmetic_type(op: ArithmeticOp, left: Type, right: Type) -> Type {
    let scale = |ty| if let Type::Decimal { scale } = ty { scale } else { 0 };
    match (left, right) {
        (Type::Float, _) | (_, Type::Float) => Type::Float,
        (Type::Int, Type::Int) => Type::Int,
        (a, b) if a.is_integer() && b.is_integer() => Type::Decimal { scale: 0 },
        (a, b) => match op {
            ArithmeticOp::Add | ArithmeticOp::Subtract | ArithmeticOp::Remainder => Type::Decimal { scale: scale(a).max(scale(b)) },
            ArithmeticOp::Multiply if scale(a) + scale(b) <= 38 => Type::Decimal { scale: scale(a) + scale(b) },
            ArithmeticOp::Multiply | ArithmeticOp::Divide => Type::Float,
        },
    }
}

/// The type that values of both types can be brought to; `None` where there is none.
pub(super) fn common_type(a: Type, b: Type) -> Option<Type> {
    Some(match (a, b) {
        (a, b) if a == b => a,
        (Type::Null, ty) | (ty, Type::Null) => ty,
        (a, b) if a.is_numeric() && b.is_numeric() => arithmetic_type(ArithmeticOp::Add, a, b),
        (Type::Timestamp(a), Type::Timestamp(b)) => Type::Timestamp(a.max(b)),
        (Type::Date, ty @ Type::Timestamp(_)) | (ty @ Type::Timestamp(_), Type::Date) => ty,
        _ => return None,
    })
}

/// The coarsest unit in which `interval` is whole; what is known only with the event may need nanoseconds.
fn interval_unit(interval: Option<&Value>) -> TimeUnit {
    let Some(Value::Interval { nanoseconds, .. }) = interval else { return TimeUnit::Nanosecond };
    [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond]
        .into_iter()
        .find(|unit| nanoseconds % unit.nanoseconds() == 0)
        .unwrap_or(TimeUnit::Nanosecond)
}

const fn symbol(op: ArithmeticOp) -> &'static str {
    match op {
        ArithmeticOp::Add => "+",
        ArithmeticOp::Subtract => "-",
        ArithmeticOp::Multiply => "*",
        ArithmeticOp::Divide => "/",
        ArithmeticOp::Remainder => "%",
    }
}

impl Checker<'_, '_> {
    /// Reports an error unless `id` is a number (or a bare NULL).
    pub(super) fn numeric(&mut self, wanted_by: &str, id: AstId) -> Option<Type> {
        let ty = self.ty(id)?;
        if matches!(class(ty), Class::Number | Class::Null) {
            return Some(ty);
        }
        let found = self.describe(id);
        self.error("type-mismatch", id, format!("{wanted_by} needs a number, found {found}")).hint(if ty == Type::Text {
            "convert it with CAST(… AS float64), or write the number without quotes"
        } else {
            ""
        });
        None
    }

    pub(super) fn negate(&mut self, inner: AstId) -> Option<Operand> {
        if let Operand::Constant(value) = &self.operands[inner.index()] {
            let exact = match value {
                Value::Int(int) => Some(literal::integer_value(-i128::from(*int))),
                Value::UInt(uint) => Some(literal::integer_value(-i128::from(*uint))),
                Value::Decimal { units, scale } => Some(Value::Decimal { units: -units, scale: *scale }),
                Value::Float(float) => Some(Value::Float(-float)),
                Value::Interval { months, days, nanoseconds } => (|| {
                    Some(Value::Interval {
                        months: months.checked_neg()?,
                        days: days.checked_neg()?,
                        nanoseconds: nanoseconds.checked_neg()?,
                    })
                })(),
                _ => None,
            };
            if let Some(value) = exact {
                return Some(Operand::Constant(value));
            }
        }
        let ty = self.numeric("unary -", inner)?;
        let inner = self.place(inner)?;
        // No unsigned value but zero has a negative of its own type.
        self.operation(Node::Negate(inner), if ty == Type::UInt { Type::Decimal { scale: 0 } } else { ty })
    }

    pub(super) fn arithmetic(&mut self, id: AstId, op: ArithmeticOp, left: AstId, right: AstId) -> Option<Operand> {
        use ArithmeticOp::{Add, Subtract};
        let (a, b) = (self.ty(left)?, self.ty(right)?);
        // An interval or a number of days may stand before what it is added to; the expression has it behind.
        let (left, right, a, b) = match (op, class(a), class(b)) {
            (Add, Class::Interval | Class::Number, Class::Instant) => (right, left, b, a),
            _ => (left, right, a, b),
        };
        let ty = match (class(a), class(b), op) {
            (Class::Number, Class::Number, _) => arithmetic_type(op, a, b),
            (Class::Number, Class::Null, _) => arithmetic_type(op, a, a),
            (Class::Null, Class::Number, _) => arithmetic_type(op, b, b),
            (Class::Null, Class::Null, _) => Type::Null,
            (Class::Instant, Class::Interval, Add | Subtract) => {
                let needed = interval_unit(self.constant(right));
                Type::Timestamp(if let Type::Timestamp(unit) = a { unit.max(needed) } else { needed })
            }
            (Class::Instant, Class::Number, Add | Subtract) if a == Type::Date && b == Type::Int => Type::Date,
            (Class::Instant, Class::Instant, Subtract) => {
                if a == Type::Date && b == Type::Date {
                    Type::Int
                } else {
                    Type::Interval
                }
            }
            // Whatever the NULL stands for, the result is NULL.
            (Class::Instant | Class::Interval, Class::Null, Add | Subtract)
            | (Class::Null, Class::Instant | Class::Interval, Add | Subtract) => Type::Null,
            _ => {
                let primary = format!("cannot apply {} to {} and {}", symbol(op), self.describe(left), self.describe(right));
                let error = self.error("type-mismatch", id, primary);
                match (class(a), class(b)) {
                    (Class::Instant, Class::Number) => error.hint("add an interval, such as INTERVAL '10' MINUTE"),
                    (Class::Text, Class::Text) if op == Add => error.hint("join strings with ||"),
                    (Class::Instant, Class::Text) => error.hint("write the string as TIMESTAMP '…', DATE '…' or INTERVAL '…'"),
                    (Class::Text, _) | (_, Class::Text) => {
                        error.hint("convert the string with CAST(… AS float64), or write the number without quotes")
                    }
                    _ => error,
                };
                return None;
            }
        };
        let (left, right) = (self.place(left)?, self.place(right)?);
        self.operation(Node::Arithmetic { op, left, right }, ty)
    }
}
