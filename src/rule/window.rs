//! Windows of rule documents: as written, as columns behind the fields of the events, and back to canonical text.

use super::Origin;
use super::print;
use crate::event::{Field, Schema};
use crate::window::{Frame, Function, Window, WindowColumn};
use std::fmt::Write as _;
use std::sync::Arc;

/// An entry of `windows`, still text.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedWindow {
    pub name: Arc<str>,
    pub text: Arc<str>,
    /// Where `text` starts.
    pub origin: Origin,
}

/// The fields of the events and, behind them, a column for each window: first those with a name, then those that conditions state.
#[derive(Clone, Debug)]
pub struct Columns {
    schema: Arc<Schema>,
    columns: Arc<Vec<WindowColumn>>,
    /// The fields and the named windows.
    named: Arc<Schema>,
}

impl Columns {
    /// No windows yet.
    #[must_use]
    pub fn new(events: &Schema) -> Self {
        let schema = Arc::new(events.clone());
        Self { named: Arc::clone(&schema), schema, columns: Arc::default() }
    }

    /// The columns of rules that are compiled already, by the names that they have there.
    #[must_use]
    pub fn of(events: &Schema, columns: &[WindowColumn]) -> Self {
        let mut all = Self::new(events);
        for column in columns {
            match &column.name {
                Some(name) => all.add_named(name, column.window.clone()),
                None => all.add(column.window.clone()),
            };
        }
        all
    }

    /// Adds a window of a document, before any without a name; `false` where a column has that name already.
    pub fn add_named(&mut self, name: &Arc<str>, window: Window) -> bool {
        let added = self.push(name, WindowColumn { name: Some(Arc::clone(name)), window });
        self.named = Arc::clone(&self.schema);
        added
    }

    /// Adds a window that patterns may name, too, by its text, before any without a name; `false` where it is there already.
    pub fn add_by_text(&mut self, window: Window) -> bool {
        let name = text(&window, &self.schema);
        self.add_named(&name.into(), window)
    }

    /// Adds a window that stands in a condition; its column is called as its text.
    pub fn add(&mut self, window: Window) -> bool {
        let name = text(&window, &self.schema);
        self.push(&name, WindowColumn { name: None, window })
    }

    fn push(&mut self, name: &str, column: WindowColumn) -> bool {
        let added = Arc::make_mut(&mut self.schema).push(Field { name: name.to_owned(), ty: column.window.ty() }).is_some();
        if added {
            Arc::make_mut(&mut self.columns).push(column);
        }
        added
    }

    /// The fields of the events, then the windows.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The fields of the events, then the named windows: what patterns may name.
    #[must_use]
    pub fn named_schema(&self) -> &Schema {
        &self.named
    }

    #[must_use]
    pub fn all(&self) -> &[WindowColumn] {
        &self.columns
    }
}

/// The window as SQL, in one form.
#[must_use]
pub fn text(window: &Window, schema: &Schema) -> String {
    let mut text = String::new();
    let (name, distinct) = match window.function {
        Function::Count => ("COUNT", ""),
        Function::CountDistinct => ("COUNT", "DISTINCT "),
        Function::Sum => ("SUM", ""),
        Function::Average => ("AVG", ""),
        Function::Minimum => ("MIN", ""),
        Function::Maximum => ("MAX", ""),
        Function::Deviation => ("STDDEV", ""),
        Function::First => ("FIRST_VALUE", ""),
        Function::Last => ("LAST_VALUE", ""),
    };
    let _ = write!(text, "{name}({distinct}");
    match &window.argument {
        Some(argument) => print::write_condition(argument, schema, &mut text),
        None => text.push('*'),
    }
    text.push(')');
    if let Some(filter) = &window.filter {
        text.push_str(" FILTER (WHERE ");
        print::write_condition(filter, schema, &mut text);
        text.push(')');
    }
    text.push_str(" OVER (");
    for (at, field) in window.partition_by.iter().enumerate() {
        text.push_str(if at == 0 { "PARTITION BY " } else { ", " });
        print::write_field_name(&schema.field(*field).name, &mut text);
    }
    text.push_str(if window.partition_by.is_empty() { "ORDER BY " } else { " ORDER BY " });
    if let Some(time) = schema.time {
        print::write_field_name(&schema.field(time).name, &mut text);
    }
    write_frame(window.frame, &mut text);
    text.push(')');
    text
}

fn write_frame(frame: Frame, text: &mut String) {
    let (unit, from, to, current) = match frame {
        Frame::Range { from, to, current } => (
            " RANGE",
            from.map(|from| if from == 0 { String::new() } else { interval(from) }),
            if to == 0 { None } else { Some(interval(to)) },
            current,
        ),
        // Nothing at all: the row itself, but for the row itself.
        Frame::Rows { from: Some(0), to: 1 } => (" ROWS", Some(String::new()), None, false),
        Frame::Rows { from, to } => {
            let rows = |rows: u32| if rows == 0 { String::new() } else { rows.to_string() };
            (" ROWS", from.map(rows), (to > 0).then(|| to.to_string()), true)
        }
    };
    let from = match from {
        None => "UNBOUNDED PRECEDING".to_owned(),
        Some(none) if none.is_empty() => "CURRENT ROW".to_owned(),
        Some(from) => format!("{from} PRECEDING"),
    };
    let to = to.map_or("CURRENT ROW".to_owned(), |to| format!("{to} PRECEDING"));
    let _ = write!(text, "{unit} BETWEEN {from} AND {to}{}", if current { "" } else { " EXCLUDE CURRENT ROW" });
}

fn interval(nanoseconds: i64) -> String {
    match unit(nanoseconds) {
        Some((number, unit)) => format!("INTERVAL '{number}' {unit}"),
        None => format!("INTERVAL '{}'", super::literal::interval_text(0, 0, nanoseconds)),
    }
}

/// A length of time for people.
#[must_use]
pub fn length(nanoseconds: i64) -> String {
    match unit(nanoseconds) {
        Some((number, unit)) => format!("{number} {}{}", unit.to_lowercase(), if number == 1 { "" } else { "s" }),
        None => super::literal::interval_text(0, 0, nanoseconds),
    }
}

/// The largest unit in which a length is whole.
fn unit(nanoseconds: i64) -> Option<(i64, &'static str)> {
    let units = [(86_400_000_000_000, "DAY"), (3_600_000_000_000, "HOUR"), (60_000_000_000, "MINUTE"), (1_000_000_000, "SECOND")];
    units.into_iter().find(|(length, _)| nanoseconds % length == 0).map(|(length, unit)| (nanoseconds / length, unit))
}

/// Whether a condition may state a window: a cheap look, so that conditions without one are read once.
#[must_use]
pub fn may_state_window(condition: &str) -> bool {
    let bytes = condition.as_bytes();
    memchr::memchr2_iter(b'o', b'O', bytes).any(|at| bytes.get(at..at + 4).is_some_and(|word| word.eq_ignore_ascii_case(b"over")))
}
