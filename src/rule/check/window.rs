//! Windows: from their syntax to a typed [`Window`], and to the column that has its values.

use super::{AstId, Checker, Operand, Scope, Typed, read};
use crate::event::{Type, Value};
use crate::expr::{Expr, Node};
use crate::id::FieldId;
use crate::rule::ast::{Bound, FrameClause, Over, OverFunction};
use crate::rule::diagnostic::{Diagnostic, Origin};
use crate::rule::window::NamedWindow;
use crate::window::{Frame, Function, PARTITION_FIELDS_MAX, Window, takes};
use std::ops::Range;

const NANOSECONDS_PER_DAY: i64 = 86_400_000_000_000;

/// The windows of a text.
#[derive(Default)]
pub(super) struct Found {
    /// Those that the scope does not have, and where they stand.
    pub new: Vec<(Range<usize>, Window)>,
    /// Whether there are any.
    pub any: bool,
}

/// The windows that the condition `text` states and `scope` does not have, each once. What is wrong with them, [`super::condition`] tells.
#[must_use]
pub fn stated(text: &str, origin: &Origin, scope: &Scope<'_>) -> Vec<Window> {
    let typed = read(text, origin, None, scope, true);
    typed.map(|typed| typed.windows.new.into_iter().map(|(_, window)| window).collect()).unwrap_or_default()
}

/// The window that an entry of `windows` states. `scope`: the fields of the events.
///
/// # Errors
/// Its first syntax error, or all errors of names and types. One of them is that the text is no window.
pub fn named(window: &NamedWindow, scope: &Scope<'_>) -> Result<Window, Vec<Diagnostic>> {
    let Typed { mut report, mut windows, window: is_window, .. } = read(&window.text, &window.origin, None, scope, false)?;
    if !is_window && !report.failed() {
        report
            .error("no-window", 0..window.text.len(), "this is an expression, and not a window")
            .hint("FUNCTION(…) OVER (PARTITION BY … ORDER BY …); what is made of its value belongs into the rules");
    }
    match windows.new.pop() {
        Some((_, window)) if !report.failed() => Ok(window),
        _ => Err(report.into_errors()),
    }
}

/// An end of a frame.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Unbounded,
    /// Nanoseconds, or rows.
    By(i64),
}

impl Checker<'_, '_> {
    pub(super) fn window(&mut self, id: AstId, over: &Over) -> Option<Operand> {
        if self.symbols.is_some() {
            self.error("unsupported", id, "a window cannot stand inside of a pattern")
                .hint("name it under `windows`, and use the name here");
            return None;
        }
        let window = self.over(id, over)?;
        self.windows.any = true;
        let schema = self.scope.schema;
        let first = schema.fields().len() - self.scope.windows.len();
        let known = self.scope.windows.iter().position(|column| column.window == window).map(|at| FieldId::new(first + at));
        let ty = window.ty();
        let field = known.unwrap_or_else(|| {
            let new = &mut self.windows.new;
            let at = new.iter().position(|(_, other)| *other == window).unwrap_or_else(|| {
                new.push((self.ast.span(id), window));
                new.len() - 1
            });
            FieldId::new(schema.fields().len() + at)
        });
        self.operation(Node::Field(field), ty)
    }

    fn over(&mut self, id: AstId, over: &Over) -> Option<Window> {
        let ordered = self.ordered_by_time(over);
        let partition_by: Vec<Option<FieldId>> = over.partition_by.iter().map(|field| self.event_field(*field)).collect();
        if partition_by.len() > PARTITION_FIELDS_MAX {
            self.error(
                "limit",
                over.partition_by[PARTITION_FIELDS_MAX],
                format!("a window is partitioned by at most {PARTITION_FIELDS_MAX} fields"),
            );
            return None;
        }
        let (function, frame) = match over.function {
            OverFunction::Lag => (Function::Last, self.lag(id, over)),
            function => {
                if let Some(offset) = over.offset {
                    self.error("wrong-arguments", offset, "only LAG takes a number of rows");
                }
                (self.function(id, function, over.distinct)?, self.frame(over.frame.as_ref()))
            }
        };
        let argument = over.argument.map(|argument| self.of_row(argument));
        if let (Some(Some(argument)), Some(at)) = (&argument, over.argument) {
            let ty = argument.ty(argument.root());
            if !takes(function, ty) {
                let wanted = if matches!(function, Function::Sum | Function::Average | Function::Deviation) {
                    "numbers"
                } else {
                    "values that can be kept"
                };
                self.error("type-mismatch", at, format!("this function needs {wanted}, found a value of type {ty}")).hint(match ty {
                    Type::Text => "convert it with CAST(… AS float64)",
                    Type::Interval => "take its seconds with EXTRACT(EPOCH FROM …) of both instants",
                    _ => "",
                });
                return None;
            }
        }
        let filter = over.filter.map(|filter| {
            self.boolean("the condition of FILTER", filter)?;
            self.of_row(filter)
        });
        ordered?;
        Some(Window {
            function,
            argument: transposed(argument)?,
            filter: transposed(filter)?.map(boolean),
            partition_by: partition_by.into_iter().collect::<Option<_>>()?,
            frame: frame?,
        })
    }

    fn function(&mut self, id: AstId, function: OverFunction, distinct: bool) -> Option<Function> {
        if distinct && function != OverFunction::Count {
            self.error("wrong-arguments", id, "only COUNT takes DISTINCT values");
            return None;
        }
        Some(match function {
            OverFunction::Count if distinct => Function::CountDistinct,
            OverFunction::Count => Function::Count,
            OverFunction::Sum => Function::Sum,
            OverFunction::Average => Function::Average,
            OverFunction::Minimum => Function::Minimum,
            OverFunction::Maximum => Function::Maximum,
            OverFunction::Deviation => Function::Deviation,
            OverFunction::First => Function::First,
            OverFunction::Last | OverFunction::Lag => Function::Last,
        })
    }

    /// The n-th row before this one is the only one of its frame.
    fn lag(&mut self, id: AstId, over: &Over) -> Option<Frame> {
        if over.distinct {
            self.error("wrong-arguments", id, "only COUNT takes DISTINCT values");
            return None;
        }
        if let Some(frame) = &over.frame {
            self.report
                .error("window-frame", frame.span.clone(), "LAG looks at one row before this one, whatever the frame")
                .hint("leave the frame out");
            return None;
        }
        if let Some(filter) = over.filter {
            self.error("unsupported", filter, "LAG takes no FILTER").hint("LAG(CASE WHEN … THEN x END)");
            return None;
        }
        let rows = match over.offset {
            None => 1,
            Some(offset) => self.rows(offset)?,
        };
        let rows = u32::try_from(rows).ok()?;
        Some(Frame::Rows { from: Some(rows), to: rows })
    }

    fn ordered_by_time(&mut self, over: &Over) -> Option<()> {
        let schema = self.scope.schema;
        let Some(time) = schema.time else {
            self.report
                .error(
                    "no-event-time",
                    over.span.clone(),
                    "a window is ordered by event time, and the schema does not say which field that is",
                )
                .hint("name it in the schema: `time: FIELD`");
            return None;
        };
        let name = &schema.field(time).name;
        let hint = format!("ORDER BY {name}");
        if !matches!(schema.field(time).ty, Type::Timestamp(_) | Type::Date) {
            let primary = format!("a window is ordered by event time, and `{name}` is of type {}", schema.field(time).ty);
            self.report.error("window-order", over.span.clone(), primary).hint("the field of event time is a timestamp or a date");
            return None;
        }
        let [(field, descending)] = over.order_by[..] else {
            match over.order_by.get(1) {
                None => {
                    self.report.error("window-order", over.span.clone(), "the window does not say in which order its rows are").hint(hint)
                }
                Some((second, _)) => self.error("window-order", *second, "a window is ordered by event time alone").hint(hint),
            };
            return None;
        };
        if self.event_field(field)? != time {
            self.error("window-order", field, format!("a window is ordered by event time, which is `{name}`")).hint(hint);
            return None;
        }
        if descending {
            self.error("window-order", field, "a window is ordered by ascending time: what comes later is not known yet").hint(hint);
            return None;
        }
        Some(())
    }

    /// The field of the events that `id` names.
    fn event_field(&mut self, id: AstId) -> Option<FieldId> {
        let node = self.place(id)?;
        let Node::Field(field) = *self.expr.node(node) else { return None };
        if field.index() >= self.event_fields() {
            self.nested(id);
            return None;
        }
        Some(field)
    }

    fn event_fields(&self) -> usize {
        self.scope.schema.fields().len() - self.scope.windows.len()
    }

    fn nested(&mut self, id: AstId) {
        self.error("nested-window", id, "a window looks at the fields of events, and not at other windows");
    }

    /// The expression over the fields of one event that `id` is.
    fn of_row(&mut self, id: AstId) -> Option<Expr> {
        let node = self.place(id)?;
        let mut expr = Expr::new();
        expr.copy_from(&self.expr, node);
        if expr.fields().last().is_some_and(|field| field.index() >= self.event_fields()) {
            self.nested(id);
            return None;
        }
        Some(expr)
    }

    fn frame(&mut self, frame: Option<&FrameClause>) -> Option<Frame> {
        // What SQL means where nothing is said.
        let Some(clause) = frame else { return Some(Frame::Range { from: None, to: 0, current: true }) };
        let (from, to) = (self.end(clause, &clause.from), self.end(clause, &clause.to));
        let (from, to) = (from?, to?);
        let End::By(to) = to else {
            self.report.error("window-frame", clause.span.clone(), "a frame cannot end with UNBOUNDED PRECEDING");
            return None;
        };
        if matches!(from, End::By(from) if from < to) {
            self.report
                .error("window-frame", clause.span.clone(), "the frame ends before it begins")
                .hint("the older end comes first: BETWEEN INTERVAL '2' HOUR PRECEDING AND INTERVAL '1' HOUR PRECEDING");
            return None;
        }
        let from = if let End::By(from) = from { Some(from) } else { None };
        if clause.rows {
            // Without the row itself the frame ends at the one before it.
            let to = if clause.current { to } else { to.max(1) };
            return Some(Frame::Rows { from: from.and_then(|from| u32::try_from(from).ok()), to: u32::try_from(to).ok()? });
        }
        Some(Frame::Range { from, to, current: clause.current || to > 0 })
    }

    fn end(&mut self, clause: &FrameClause, bound: &Bound) -> Option<End> {
        match bound {
            Bound::Current => Some(End::By(0)),
            Bound::Offset { following: true, .. } => {
                self.report
                    .error(
                        "window-frame",
                        clause.span.clone(),
                        "a window has its value when its row arrives, and sees nothing that follows",
                    )
                    .hint("frames end with CURRENT ROW or earlier");
                None
            }
            Bound::Offset { by: None, .. } => Some(End::Unbounded),
            Bound::Offset { by: Some(by), .. } if clause.rows => self.rows(*by).map(End::By),
            Bound::Offset { by: Some(by), .. } => self.length(*by).map(End::By),
        }
    }

    /// A constant number of rows.
    fn rows(&mut self, id: AstId) -> Option<i64> {
        self.ty(id)?;
        match self.constant(id) {
            Some(Value::Int(rows @ 0..=4_294_967_295)) => Some(*rows),
            _ => {
                let error = self.error("window-frame", id, "rows are counted with a whole number that is not negative");
                error.hint("ROWS BETWEEN 10 PRECEDING AND CURRENT ROW; a length of time belongs to RANGE");
                None
            }
        }
    }

    /// A constant length of time in nanoseconds.
    fn length(&mut self, id: AstId) -> Option<i64> {
        self.ty(id)?;
        let length = match self.constant(id) {
            Some(Value::Interval { months: 0, days, nanoseconds }) => {
                i64::from(*days).checked_mul(NANOSECONDS_PER_DAY).and_then(|days| days.checked_add(*nanoseconds))
            }
            Some(Value::Interval { .. }) => {
                self.error("window-frame", id, "a month has no fixed length").hint("say how many days: INTERVAL '30' DAY");
                return None;
            }
            _ => {
                self.error("window-frame", id, "RANGE needs a length of time")
                    .hint("such as INTERVAL '1' HOUR; rows are counted with ROWS");
                return None;
            }
        };
        let length = length.filter(|length| *length >= 0);
        if length.is_none() {
            self.error("window-frame", id, "a length of time is not negative, and at most 292 years");
        }
        length
    }
}

/// A bare NULL as a condition.
fn boolean(filter: Expr) -> Expr {
    if filter.ty(filter.root()) == Type::Bool {
        return filter;
    }
    let mut expr = Expr::new();
    expr.push(Node::Constant(Value::Null), Type::Bool);
    expr
}

/// `None` where there was an error.
fn transposed<T>(found: Option<Option<T>>) -> Option<Option<T>> {
    match found {
        None => Some(None),
        Some(found) => found.map(Some),
    }
}
