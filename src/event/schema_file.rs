//! Schema files: the fields and roles of a [`Schema`] as YAML or JSON, and the names of types.
//!
//! ```yaml
//! fields:              # name: type, or a list of {name, type}
//!   event_id: uint64
//!   amount: decimal(18,2)
//! id: event_id         # roles: id, tenant, time, key, label; here or under `roles:`
//! sensitive: [card]    # fields whose values are told to nobody
//! ```

use super::schema::{Field, Schema, TimeUnit, Type};
use crate::id::FieldId;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Bytes of the largest schema file that is read.
pub const MAX_SCHEMA_BYTES: usize = 16 << 20;

/// What is wrong with a schema file, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaError {
    pub file: String,
    /// 1-based; 0 where no line can be named.
    pub line: u32,
    /// 1-based, in characters; 0 where no column can be named.
    pub column: u32,
    /// In lower case, without a full stop.
    pub what: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
            if self.column > 0 {
                write!(f, ":{}", self.column)?;
            }
        }
        write!(f, ": {}", self.what)?;
        if !self.hint.is_empty() {
            write!(f, " ({})", self.hint)?;
        }
        Ok(())
    }
}

impl std::error::Error for SchemaError {}

/// What a type name may be, for hints.
const TYPE_HINT: &str = "types are int64, uint64, float64, utf8, boolean, date, timestamp(ms), decimal(18,3) and their SQL names";

/// The type that `name` stands for: an Arrow name (`int32`, `timestamp[ms, UTC]`) or an SQL name (`BIGINT`, `DECIMAL(18,3)`), in any case.
///
/// # Errors
/// Says what is wrong with the name, in lower case without a full stop.
pub fn parse_type(name: &str) -> Result<Type, String> {
    let unknown = || format!("unknown type `{}`", shorten(name));
    if name.len() > 100 {
        return Err(unknown());
    }
    let lower = name.trim().to_ascii_lowercase();
    let (base, arguments, suffix) = match lower.find(['(', '[']) {
        None => (lower.as_str(), None, ""),
        Some(open) => {
            let close = lower.rfind([')', ']']).filter(|close| *close > open).ok_or_else(unknown)?;
            (lower[..open].trim_end(), Some(&lower[open + 1..close]), lower[close + 1..].trim())
        }
    };
    let base = base.split_whitespace().collect::<Vec<_>>().join(" ");
    let suffix = suffix.split_whitespace().collect::<Vec<_>>().join(" ");
    let arguments: Option<Vec<&str>> = arguments.map(|text| text.split(',').map(str::trim).collect());
    let plain = |ty: Type| if arguments.is_none() { Ok(ty) } else { Err(format!("type `{base}` takes no arguments")) };
    if !suffix.is_empty() && !matches!((base.as_str(), suffix.as_str()), ("timestamp", "with time zone" | "without time zone")) {
        return Err(unknown());
    }
    match base.as_str() {
        "int8" | "int16" | "int32" | "int64" | "uint8" | "uint16" | "uint32" | "bigint" | "integer" | "int" | "smallint" | "tinyint"
        | "int2" | "int4" | "long" | "utinyint" | "usmallint" | "uinteger" => plain(Type::Int),
        "uint64" | "ubigint" | "bigint unsigned" | "unsigned bigint" => plain(Type::UInt),
        "float16" | "float32" | "float64" | "halffloat" | "double" | "double precision" | "real" | "float4" | "float8" => {
            plain(Type::Float)
        }
        // SQL's FLOAT(n) names a precision in bits; every one of them is held as a double.
        "float" => match arguments.as_deref() {
            None => Ok(Type::Float),
            Some([bits]) if bits.parse::<u8>().is_ok_and(|bits| (1..=53).contains(&bits)) => Ok(Type::Float),
            Some(_) => Err(unknown()),
        },
        "utf8" | "large_utf8" | "largeutf8" | "utf8_view" | "utf8view" | "string" | "large_string" | "string_view" | "text" => {
            plain(Type::Text)
        }
        "varchar" | "char" | "character" | "character varying" | "nvarchar" | "bpchar" => match arguments.as_deref() {
            None => Ok(Type::Text),
            Some([length]) if length.parse::<u64>().is_ok() || *length == "max" => Ok(Type::Text),
            Some(_) => Err(unknown()),
        },
        "bool" | "boolean" => plain(Type::Bool),
        "date" | "date32" | "date64" => {
            // Arrow writes `date32[day]` and `date64[ms]`.
            if matches!(arguments.as_deref(), None | Some(["day" | "ms"])) { Ok(Type::Date) } else { Err(unknown()) }
        }
        "timestamp" | "timestamptz" | "timestamp with time zone" | "timestamp without time zone" | "datetime" => {
            match arguments.as_deref() {
                None => Ok(Type::Timestamp(TimeUnit::Microsecond)),
                Some([unit] | [unit, _]) => {
                    time_unit(unit).map(Type::Timestamp).ok_or_else(|| format!("unknown unit `{unit}` of a timestamp: s, ms, us or ns"))
                }
                Some(_) => Err(unknown()),
            }
        }
        "timestamp_s" => plain(Type::Timestamp(TimeUnit::Second)),
        "timestamp_ms" => plain(Type::Timestamp(TimeUnit::Millisecond)),
        "timestamp_us" => plain(Type::Timestamp(TimeUnit::Microsecond)),
        "timestamp_ns" => plain(Type::Timestamp(TimeUnit::Nanosecond)),
        "decimal" | "decimal32" | "decimal64" | "decimal128" | "decimal256" | "numeric" | "dec" => {
            let (precision, scale) = match arguments.as_deref() {
                Some([precision]) => (precision.parse::<u32>(), Ok(0)),
                Some([precision, scale]) => (precision.parse::<u32>(), scale.parse::<u32>()),
                _ => return Err(format!("type `{base}` needs a precision and a scale, such as {base}(18,3)")),
            };
            match (precision, scale) {
                (Ok(precision @ 1..=38), Ok(scale)) if scale <= precision => Ok(Type::Decimal { scale: scale as u8 }),
                _ => Err(format!("`{lower}` is not a decimal of 1 to 38 digits with a scale between 0 and the precision")),
            }
        }
        _ => Err(unknown()),
    }
}

/// A unit by its Arrow name, or by SQL's count of fractional digits.
fn time_unit(name: &str) -> Option<TimeUnit> {
    Some(match name {
        "s" | "0" | "second" => TimeUnit::Second,
        "ms" | "3" | "millisecond" => TimeUnit::Millisecond,
        "us" | "µs" | "6" | "microsecond" => TimeUnit::Microsecond,
        "ns" | "9" | "nanosecond" => TimeUnit::Nanosecond,
        _ => return None,
    })
}

/// The first characters of `text`, for messages.
fn shorten(text: &str) -> String {
    if text.chars().count() <= 60 { text.to_owned() } else { text.chars().take(60).chain(['…']).collect() }
}

struct TypeName(Type);

impl<'de> Deserialize<'de> for TypeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        parse_type(&name).map(Self).map_err(serde::de::Error::custom)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedField {
    name: String,
    #[serde(rename = "type")]
    ty: TypeName,
}

/// The fields in their order, whichever way they were written.
#[derive(Default)]
struct Fields(Vec<Field>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of names to types, or a list of {name, type}")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some((name, TypeName(ty))) = map.next_entry::<String, TypeName>()? {
                    fields.push(Field { name, ty });
                }
                Ok(Fields(fields))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(NamedField { name, ty: TypeName(ty) }) = sequence.next_element()? {
                    fields.push(Field { name, ty });
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_any(FieldsVisitor)
    }
}

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Roles {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SchemaFile {
    fields: Fields,
    #[serde(default)]
    roles: Option<Roles>,
    id: Option<String>,
    tenant: Option<String>,
    time: Option<String>,
    key: Option<String>,
    label: Option<String>,
    #[serde(default)]
    sensitive: Vec<String>,
}

impl Schema {
    /// The schema that `bytes`, the content of `file`, describe in YAML or JSON.
    ///
    /// # Errors
    /// The first thing that is wrong with it, whatever the bytes are.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, SchemaError> {
        let error = |what: String| SchemaError { file: file.to_owned(), line: 0, column: 0, what, hint: String::new() };
        if bytes.len() > MAX_SCHEMA_BYTES {
            return Err(error(format!("a schema file has at most {MAX_SCHEMA_BYTES} bytes, this one has {}", bytes.len())));
        }
        let text = std::str::from_utf8(bytes).map_err(|fault| {
            let line = bytes[..fault.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
            SchemaError { line: u32::try_from(line + 1).unwrap_or(0), ..error("the file is not UTF-8 text".to_owned()) }
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let parsed = read(text).map_err(|(line, column, what)| {
            let hint = if what.contains("unknown type") {
                TYPE_HINT
            } else if what.contains("unknown field") {
                "the keys of a schema are `fields`, the roles `id`, `tenant`, `time`, `key` and `label`, and `sensitive`"
            } else {
                ""
            };
            SchemaError { line, column, hint: hint.to_owned(), ..error(what) }
        })?;
        schema_of(text, parsed).map_err(|(line, what, hint)| SchemaError { line, hint, ..error(what) })
    }

    /// The schema as a file that [`Schema::parse`] reads back.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        // JSON strings are YAML strings too, and need no rules about which names must be quoted.
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let mut yaml = String::from(if self.fields().is_empty() { "fields: []\n" } else { "fields:\n" });
        for field in self.fields() {
            yaml.push_str(&format!("  - {{name: {}, type: {}}}\n", quoted(&field.name), quoted(&field.ty.to_string())));
        }
        for (role, field) in self.roles() {
            if let Some(field) = field {
                yaml.push_str(&format!("{role}: {}\n", quoted(&self.field(field).name)));
            }
        }
        if !self.sensitive.is_empty() {
            let names: Vec<String> = self.sensitive.iter().map(|field| quoted(&self.field(*field).name)).collect();
            yaml.push_str(&format!("sensitive: [{}]\n", names.join(", ")));
        }
        yaml
    }

    /// Each role by name, with the field that plays it.
    #[must_use]
    pub const fn roles(&self) -> [(&'static str, Option<FieldId>); 5] {
        [("id", self.id), ("tenant", self.tenant), ("time", self.time), ("key", self.key), ("label", self.label)]
    }
}

/// The file's model; on failure the line, the column and what is wrong.
fn read(text: &str) -> Result<SchemaFile, (u32, u32, String)> {
    if text.trim_start().starts_with('{') {
        // JSON allows tabs where YAML does not, so what JSON reads is JSON; a YAML flow mapping starts the same way.
        match serde_json::from_str(text) {
            Ok(parsed) => return Ok(parsed),
            Err(fault) if fault.is_data() => {
                let position = |at: usize| u32::try_from(at).unwrap_or(0);
                let what = fault.to_string();
                let what = what.rsplit_once(" at line ").map_or(what.as_str(), |(what, _)| what).to_owned();
                return Err((position(fault.line()), position(fault.column()), what));
            }
            Err(_) => {}
        }
    }
    serde_saphyr::from_str(text).map_err(|fault| {
        let place = fault.location().map_or((0, 0), |at| (at.line() as u32, at.column() as u32));
        let fault = fault.without_snippet().to_string();
        let what = fault.lines().next().unwrap_or_default();
        let what = what.rsplit_once(" at line ").map_or(what, |(what, _)| what);
        (place.0, place.1, what.to_owned())
    })
}

/// Joins fields and roles; on failure the line, what is wrong and a hint.
fn schema_of(text: &str, parsed: SchemaFile) -> Result<Schema, (u32, String, String)> {
    if let Some(field) = parsed.fields.0.iter().find(|field| field.name.is_empty()) {
        return Err((0, format!("a field of type {} has an empty name", field.ty), String::new()));
    }
    let mut schema = Schema::new(parsed.fields.0).map_err(|name| {
        let what = format!("field `{}` is defined twice", shorten(&name));
        (line_of(text, &name), what, "give each field one type".to_owned())
    })?;
    let nested = parsed.roles.unwrap_or_default();
    let role = |role: &str, outer: Option<String>, inner: Option<String>, fits: fn(Type) -> bool, wanted: &str| {
        let name = match (outer, inner) {
            (Some(_), Some(_)) => {
                return Err((
                    line_of(text, role),
                    format!("role `{role}` is given twice"),
                    "give it once, by itself or under `roles`".to_owned(),
                ));
            }
            (None, None) => return Ok(None),
            (Some(name), None) | (None, Some(name)) => name,
        };
        let Some(field) = schema.find(&name) else {
            let what = format!("role `{role}` names the unknown field `{}`", shorten(&name));
            return Err((line_of(text, role), what, "name one of the fields above".to_owned()));
        };
        let ty = schema.field(field).ty;
        if !fits(ty) {
            let what = format!("role `{role}` needs {wanted}, and `{}` is {ty}", shorten(&name));
            return Err((line_of(text, role), what, format!("name another field, or change the type of `{}`", shorten(&name))));
        }
        Ok(Some(field))
    };
    let any = |_: Type| true;
    let id = role("id", parsed.id, nested.id, any, "any type")?;
    let tenant = role("tenant", parsed.tenant, nested.tenant, any, "any type")?;
    let time = role("time", parsed.time, nested.time, |ty| matches!(ty, Type::Timestamp(_) | Type::Date), "a timestamp or a date")?;
    let key = role("key", parsed.key, nested.key, any, "any type")?;
    let label =
        role("label", parsed.label, nested.label, |ty| ty == Type::Bool || ty.is_numeric(), "a boolean or a number that is 0 or 1")?;
    schema.id = id;
    schema.tenant = tenant;
    schema.time = time;
    schema.key = key;
    schema.label = label;
    for name in parsed.sensitive {
        let Some(field) = schema.find(&name) else {
            let what = format!("`sensitive` names the unknown field `{}`", shorten(&name));
            return Err((line_of(text, "sensitive"), what, "name one of the fields above".to_owned()));
        };
        if tenant == Some(field) {
            let what = format!("the field of tenants, `{}`, cannot be sensitive", shorten(&name));
            return Err((line_of(text, "sensitive"), what, "tenants are named wherever something is told of them".to_owned()));
        }
        schema.sensitive.push(field);
    }
    schema.sensitive.sort_unstable();
    schema.sensitive.dedup();
    Ok(schema)
}

/// The last line, 1-based, that mentions `word` as a key; 0 where none does.
fn line_of(text: &str, word: &str) -> u32 {
    let mentions = |line: &str| {
        line.match_indices(word).any(|(at, _)| {
            let after = line[at + word.len()..].trim_start_matches(['"', '\'', ' ']);
            let before = line[..at].chars().next_back();
            after.starts_with([':', ',', '}']) | after.is_empty() && before.is_none_or(|c| !c.is_alphanumeric() && c != '_')
        })
    };
    let line = (1..).zip(text.lines()).filter(|(_, line)| mentions(line)).last();
    line.map_or(0, |(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Schema, SchemaError> {
        Schema::parse("schema.yaml", text.as_bytes())
    }

    fn ty(name: &str) -> Type {
        parse_type(name).unwrap_or_else(|fault| panic!("{name}: {fault}"))
    }

    #[test]
    fn type_names_of_arrow_and_sql() {
        for name in ["int8", "Int16", "int32", "INT64", "uint8", "uint16", "uint32", "BIGINT", "integer", "INT", "smallint", "tinyint"] {
            assert_eq!(ty(name), Type::Int, "{name}");
        }
        assert_eq!(ty("uint64"), Type::UInt);
        for name in ["float16", "float32", "float64", "DOUBLE", "double  precision", "real", "FLOAT", "float(24)"] {
            assert_eq!(ty(name), Type::Float, "{name}");
        }
        for name in ["utf8", "large_utf8", "LargeUtf8", "string", "TEXT", "VARCHAR", "varchar(20)", "VARCHAR ( 20 )", "char", "char(3)"] {
            assert_eq!(ty(name), Type::Text, "{name}");
        }
        assert_eq!(ty("bool"), Type::Bool);
        assert_eq!(ty(" Boolean "), Type::Bool);
        for name in ["date", "date32", "DATE64", "date32[day]"] {
            assert_eq!(ty(name), Type::Date, "{name}");
        }
        for (name, unit) in [
            ("timestamp", TimeUnit::Microsecond),
            ("TIMESTAMPTZ", TimeUnit::Microsecond),
            ("timestamp with time zone", TimeUnit::Microsecond),
            ("timestamp(3) with time zone", TimeUnit::Millisecond),
            ("timestamp(s)", TimeUnit::Second),
            ("timestamp[ms]", TimeUnit::Millisecond),
            ("timestamp[ns, UTC]", TimeUnit::Nanosecond),
            ("Timestamp(Millisecond, None)", TimeUnit::Millisecond),
            ("timestamp(9)", TimeUnit::Nanosecond),
        ] {
            assert_eq!(ty(name), Type::Timestamp(unit), "{name}");
        }
        assert_eq!(ty("decimal(18,3)"), Type::Decimal { scale: 3 });
        assert_eq!(ty("Decimal128(38, 38)"), Type::Decimal { scale: 38 });
        assert_eq!(ty("NUMERIC(10)"), Type::Decimal { scale: 0 });
    }

    #[test]
    fn what_is_no_type() {
        for name in [
            "",
            "integr",
            "decimal",
            "decimal(39,2)",
            "decimal(5,6)",
            "decimal(0,0)",
            "decimal(5,-1)",
            "decimal(1,2,3)",
            "int(",
            "int)(",
            "int(3)",
            "timestamp(5)",
            "timestamp(ms) zone",
            "varchar(x)",
            "null",
            "interval",
            "float(99)",
            "é(",
            "list<int64>",
        ] {
            assert!(parse_type(name).is_err(), "{name}");
        }
    }

    #[test]
    fn what_a_type_prints_is_a_type() {
        let types = [Type::Bool, Type::Int, Type::UInt, Type::Float, Type::Decimal { scale: 7 }, Type::Text, Type::Date];
        let units = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond].map(Type::Timestamp);
        for expected in types.into_iter().chain(units) {
            assert_eq!(ty(&expected.to_string()), expected);
        }
    }

    #[test]
    fn mappings_lists_and_json() {
        let yaml =
            "fields:\n  event_id: uint64\n  event_time: timestamp(ms)\n  is_fraud: bool\nid: event_id\ntime: event_time\nlabel: is_fraud\n";
        let schema = parse(yaml).expect("a schema");
        let names: Vec<_> = schema.fields().iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names, ["event_id", "event_time", "is_fraud"]);
        assert_eq!((schema.id, schema.time, schema.label), (Some(FieldId(0)), Some(FieldId(1)), Some(FieldId(2))));
        assert_eq!((schema.tenant, schema.key), (None, None));

        let list = "fields:\n- {name: event_id, type: uint64}\n- {name: event_time, type: 'timestamp(ms)'}\n- name: is_fraud\n  type: bool\n\
                    roles:\n  id: event_id\n  time: event_time\nlabel: is_fraud\n";
        assert_eq!(parse(list).expect("a schema"), schema);

        let json = "{\t\"fields\": {\"event_id\": \"uint64\", \"event_time\": \"timestamp(ms)\", \"is_fraud\": \"bool\"},\n\
                    \"roles\": {\"id\": \"event_id\", \"time\": \"event_time\", \"label\": \"is_fraud\"}}";
        assert_eq!(parse(json).expect("a schema"), schema);
        assert_eq!(parse(&schema.to_yaml()).expect("a schema"), schema);

        let mut marked = parse(&format!("{yaml}sensitive: [is_fraud, event_id, is_fraud]\n")).expect("a schema");
        assert_eq!(marked.sensitive, [FieldId(0), FieldId(2)]);
        assert_eq!(parse(&marked.to_yaml()).expect("a schema"), marked);
        assert_ne!(marked, schema);
        marked.truncate(2);
        assert_eq!(marked.sensitive, [FieldId(0)]);
    }

    #[test]
    fn names_that_yaml_would_read_otherwise_survive() {
        let names = ["yes", "null", "1", "a: b", "#x", "\"", "\\", "é\u{1}\n", " ", "-", "{", "'"];
        let fields = names.map(|name| Field { name: name.to_owned(), ty: Type::Int });
        let schema = Schema::new(fields.to_vec()).expect("distinct names");
        assert_eq!(parse(&schema.to_yaml()).expect("a schema"), schema);
        assert_eq!(parse(&Schema::default().to_yaml()).expect("a schema"), Schema::default());
    }

    #[test]
    fn faults_are_named_with_their_line() {
        let cases = [
            ("fields:\n  a: integr\n", 2, "unknown type `integr`"),
            ("fields:\n  a: int64\n  a: int64\n", 3, "a"),
            ("fields:\n- {name: a, type: int64}\n- {name: a, type: utf8}\n", 3, "field `a` is defined twice"),
            ("fields: {a: int64}\ntime: a\n", 2, "role `time` needs a timestamp or a date"),
            ("fields: {a: int64}\nkey: b\n", 2, "role `key` names the unknown field `b`"),
            ("fields: {a: utf8}\nlabel: a\n", 2, "role `label` needs a boolean"),
            ("fields: {a: int64}\nid: a\nroles: {id: a}\n", 3, "role `id` is given twice"),
            ("fields: {a: int64}\ncolour: red\n", 2, "unknown field `colour`"),
            ("{\"fields\": {\"a\": \"int64\"},\n\"colour\": 1}", 2, "unknown field `colour`"),
            ("fields:\n- {name: a, type: int64, unit: s}\n", 2, "unknown field `unit`"),
            ("roles: {}\n", 0, "fields"),
            ("fields: {'': int64}\n", 0, "empty name"),
            ("fields: {a: int64}\nsensitive: [b]\n", 2, "`sensitive` names the unknown field `b`"),
            ("fields: {a: utf8}\ntenant: a\nsensitive: [a]\n", 3, "the field of tenants, `a`, cannot be sensitive"),
        ];
        for (text, line, what) in cases {
            let fault = parse(text).expect_err(text);
            assert!(fault.what.contains(what), "{text}: {fault}");
            assert!(line == 0 || fault.line == line, "{text}: {fault}");
        }
    }

    #[test]
    fn any_bytes_give_an_answer() {
        for bytes in [
            &b"\xff\xfe"[..],
            b"",
            b"\0",
            b"{",
            b"[1",
            b"fields",
            b"fields: 3",
            b"fields: [3]",
            b"fields: [[[[",
            b"&a [*a]",
            b"- - -\n",
            b"\xef\xbb\xbffields: {}",
        ] {
            let _ = Schema::parse("x", bytes);
        }
        assert!(Schema::parse("x", &b"[".repeat(100_000)).is_err());
        assert!(Schema::parse("x", &b"{\"a\":".repeat(100_000)).is_err());
        let mut state = 1_u64;
        for _ in 0..2_000 {
            let mut text = b"fields:\n  a: decimal(18,3)\n  b: timestamp[ms, UTC]\nroles: {time: b}\nid: a\n".to_vec();
            for _ in 0..3 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = (state >> 33) as usize % text.len();
                text[at] = (state >> 20) as u8;
            }
            let _ = Schema::parse("x", &text);
        }
    }
}
