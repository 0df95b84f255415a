//! A schema from the input itself, where the user gave none.

use super::canonical::type_of;
use super::csv::{Record, Records, header};
use super::json::{Line, Lines, read_object};
use super::text;
use crate::event::{Field, Schema, Type};
use arrow::datatypes::Schema as ArrowSchema;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::fmt;
use std::io::BufRead;

/// Rows of NDJSON and CSV that are looked at.
pub const SAMPLE_ROWS: usize = 10_000;
/// Bytes of NDJSON and CSV that are looked at.
pub const SAMPLE_BYTES: u64 = 32 << 20;

/// A schema, and the columns left out of it because the engine has no type for them.
#[derive(Debug)]
pub struct Inferred {
    pub schema: Schema,
    pub left_out: Vec<String>,
}

/// The schema of columns that name their types.
#[must_use]
pub fn from_arrow(arrow: &ArrowSchema) -> Inferred {
    let mut found = Found::default();
    let mut left_out = Vec::new();
    for field in arrow.fields() {
        match type_of(field.data_type()) {
            Some(ty) if found.positions.contains_key(field.name()) => left_out.push(format!("{} ({ty}, a second time)", field.name())),
            Some(ty) => found.note(field.name(), Kind::Known(ty)),
            None => left_out.push(format!("{} ({})", field.name(), field.data_type())),
        }
    }
    Inferred { schema: found.schema(), left_out }
}

/// The schema of the first rows of NDJSON. Lines that are no objects say nothing.
///
/// # Errors
/// When the input cannot be read.
pub fn from_json<R: BufRead>(reader: R) -> Result<Inferred, String> {
    let mut lines = Lines::new(reader);
    let mut found = Found::default();
    for _ in 0..SAMPLE_ROWS {
        match lines.advance().map_err(|fault| format!("cannot be read: {fault}"))? {
            Line::End => break,
            Line::TooLong => {}
            Line::Read => {
                let mut seen = Vec::new();
                if read_object(lines.text(), KindVisitor(&mut seen)).is_ok() {
                    for (name, kind) in seen {
                        found.note(&name, kind);
                    }
                }
            }
        }
    }
    Ok(Inferred { schema: found.schema(), left_out: Vec::new() })
}

/// The schema of the first records of CSV.
///
/// # Errors
/// When the input or its header cannot be read.
pub fn from_csv<R: BufRead>(reader: R) -> Result<Inferred, String> {
    let mut records = Records::new(reader);
    let names = header(&mut records)?;
    let mut found = Found::default();
    for name in &names {
        found.note(name, Kind::Nothing);
    }
    for _ in 0..SAMPLE_ROWS {
        match records.advance().map_err(|fault| format!("cannot be read: {fault}"))? {
            Record::End => break,
            Record::Bad(_) => {}
            Record::Read if records.fields().len() != names.len() => {}
            Record::Read => {
                for (name, (text, quoted)) in names.iter().zip(records.fields()) {
                    found.note(name, if text.is_empty() && !quoted { Kind::Nothing } else { text_kind(text.trim()) });
                }
            }
        }
    }
    Ok(Inferred { schema: found.schema(), left_out: Vec::new() })
}

/// What the values of a column have been so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Only NULL.
    Nothing,
    Bool,
    /// Whole numbers, the smallest and the largest; 0 is always taken as within.
    Whole(i128, i128),
    Fraction,
    Other,
    Known(Type),
}

impl Kind {
    fn with(self, other: Self) -> Self {
        match (self, other) {
            (kind, Self::Nothing) | (Self::Nothing, kind) => kind,
            (Self::Whole(least, most), Self::Whole(other_least, other_most)) => Self::Whole(least.min(other_least), most.max(other_most)),
            (Self::Whole(..) | Self::Fraction, Self::Whole(..) | Self::Fraction) => Self::Fraction,
            (kind, other) if kind == other => kind,
            _ => Self::Other,
        }
    }

    fn ty(self) -> Type {
        match self {
            Self::Bool => Type::Bool,
            Self::Whole(least, most) => {
                if i64::try_from(least).is_ok() && i64::try_from(most).is_ok() {
                    Type::Int
                } else if least >= 0 && u64::try_from(most).is_ok() {
                    Type::UInt
                } else {
                    Type::Decimal { scale: 0 }
                }
            }
            Self::Fraction => Type::Float,
            Self::Nothing | Self::Other => Type::Text,
            Self::Known(ty) => ty,
        }
    }
}

/// The kind of a number as text.
fn number_kind(number: &str) -> Kind {
    let whole = number.parse::<i128>().ok().filter(|number| number.unsigned_abs() < 10_u128.pow(38));
    whole.map_or(Kind::Fraction, |number| Kind::Whole(number.min(0), number.max(0)))
}

/// The kind of a field of CSV. Digits with zeros before them are names, not numbers.
fn text_kind(value: &str) -> Kind {
    let digits = value.strip_prefix('-').unwrap_or(value);
    let leading_zero = digits.len() > 1 && digits.starts_with('0') && digits.as_bytes()[1].is_ascii_digit();
    if value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false") {
        Kind::Bool
    } else if digits.starts_with(|first: char| first.is_ascii_digit()) && !leading_zero && text::parse_float(value, false).is_some() {
        number_kind(value)
    } else if matches!(value, "NaN" | "inf" | "-inf") {
        Kind::Fraction
    } else {
        Kind::Other
    }
}

fn json_kind(raw: &str) -> Kind {
    match raw.as_bytes().first() {
        Some(b'n') => Kind::Nothing,
        Some(b't' | b'f') => Kind::Bool,
        Some(b'"' | b'{' | b'[') => Kind::Other,
        _ => number_kind(raw),
    }
}

#[derive(Default)]
struct Found {
    names: Vec<(String, Kind)>,
    positions: HashMap<String, usize>,
}

impl Found {
    fn note(&mut self, name: &str, kind: Kind) {
        match self.positions.get(name) {
            Some(position) => self.names[*position].1 = self.names[*position].1.with(kind),
            None => {
                self.positions.insert(name.to_owned(), self.names.len());
                self.names.push((name.to_owned(), kind));
            }
        }
    }

    fn schema(self) -> Schema {
        let fields = self.names.into_iter().map(|(name, kind)| Field { name, ty: kind.ty() }).collect();
        // Names were found by name, so none is there twice.
        Schema::new(fields).unwrap_or_default()
    }
}

struct KindVisitor<'c>(&'c mut Vec<(String, Kind)>);

impl<'de> Visitor<'de> for KindVisitor<'_> {
    type Value = Result<(), String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while let Some((name, raw)) = map.next_entry::<String, &RawValue>()? {
            self.0.push((name, json_kind(raw.get())));
        }
        Ok(Ok(()))
    }
}
