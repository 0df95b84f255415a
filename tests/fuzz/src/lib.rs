//! What the fuzz targets share: a schema with every type, rows made of bytes, and rules in memory.

use dynamic_cep::codec::columns::{Cell, ColumnBuilder};
use dynamic_cep::compile::{Compiled, Context, compile};
use dynamic_cep::event::{EventBatch, Schema, Type};
use dynamic_cep::rule::lists::Lists;
use dynamic_cep::rule::{Action, Limits, Origin, Rule, Status};
use std::sync::{Arc, LazyLock};

/// Every type, most of them twice, so that fields compare with each other. One letter each: mutations find them.
pub static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let text = "
fields:
  a: int64
  b: int64
  u: uint64
  v: uint64
  x: float64
  y: float64
  m: decimal(10,2)
  n: decimal(38,10)
  s: utf8
  t: utf8
  p: boolean
  q: boolean
  d: date
  e: date
  w: timestamp(ms)
  z: timestamp(ns)
  tenant: utf8
tenant: tenant
";
    Schema::parse("schema.yaml", text.as_bytes()).expect("a schema")
});

/// Lists that conditions may name.
pub static LISTS: LazyLock<Lists> = LazyLock::new(|| {
    let mut lists = Lists::new();
    lists.insert("l", [1, 3, 5, -7].map(Into::into).to_vec());
    lists.insert("k", ["", "a", "ab", "Ä"].map(Into::into).to_vec());
    lists
});

/// Few bytes and little nesting, so that a run has many short cases.
pub static LIMITS: LazyLock<Limits> =
    LazyLock::new(|| Limits { condition_bytes: 4096, nodes: 4096, list_entries: 64, regex_bytes: 1 << 16, ..Limits::default() });

/// A live rule of every tenant.
pub fn rule(id: &str, when: &str) -> Rule {
    Rule {
        id: id.into(),
        tenant: None,
        when: when.into(),
        origin: Origin::default(),
        parameters: Vec::new(),
        score: 1000,
        action: Action::Review,
        status: Status::Live,
        tags: Vec::new(),
        outcome: None,
        clause: dynamic_cep::rule::Clause::default(),
        tests: Vec::new(),
    }
}

/// The rules, compiled under [`SCHEMA`], [`LISTS`] and [`LIMITS`].
pub fn compiled(rules: Vec<Rule>) -> Compiled {
    compile(rules.into_iter(), &Context { schema: &SCHEMA, lists: &LISTS, limits: &LIMITS, threads: 1 })
}

/// Rows whose values come from `bytes`; one of NULLs is always among them.
pub fn batch(mut bytes: &[u8], rows: usize) -> EventBatch {
    let schema = &*SCHEMA;
    let mut columns: Vec<ColumnBuilder> = schema.fields().iter().map(|field| ColumnBuilder::new(field.ty, rows)).collect();
    for row in 0..rows {
        for column in &mut columns {
            let byte = bytes.split_off_first().copied().unwrap_or(0);
            if row == 0 || !push(column, byte, &mut bytes) {
                column.push_null();
            }
        }
    }
    EventBatch::new(schema, 0, rows, columns.into_iter().map(|column| Some(column.finish())).collect())
}

/// A value chosen by `byte`: one of those that hurt, or a small one, or more bytes as they are. `false`: NULL.
fn push(column: &mut ColumnBuilder, byte: u8, bytes: &mut &[u8]) -> bool {
    let mut wide = || {
        let mut word = [0; 8];
        word.iter_mut().for_each(|byte| *byte = bytes.split_off_first().copied().unwrap_or(0));
        i64::from_le_bytes(word)
    };
    let small = i64::from(byte as i8);
    let ty = column.ty();
    match ty {
        Type::Bool if byte != 0 => column.push(&Cell::Bool(byte & 1 == 1)).is_ok(),
        Type::Float => {
            let value = match byte {
                0 => return false,
                1 => f64::NAN,
                2 => f64::INFINITY,
                3 => f64::NEG_INFINITY,
                4 => -0.0,
                5 => f64::from_bits(wide() as u64),
                6 => 9_007_199_254_740_993.0,
                _ => small as f64 / 4.0,
            };
            column.push(&Cell::Float(value)).is_ok()
        }
        Type::Text => {
            const TEXTS: [&str; 12] = ["", "a", "ab", "A", "b%", "_", "ß", "Ä", "aä\u{301}", "\n", "7", "abcabcab"];
            byte != 0 && column.push(&Cell::Text(TEXTS[usize::from(byte) % TEXTS.len()])).is_ok()
        }
        Type::Timestamp(unit) if byte != 0 => {
            let ticks = if byte < 64 { wide() } else { small * 3_600_000_007 };
            column.push(&Cell::Timestamp { ticks, unit }).is_ok()
        }
        Type::Date if byte != 0 => column.push(&Cell::Date(if byte < 64 { wide() as i32 } else { small as i32 * 31 })).is_ok(),
        Type::Int | Type::UInt | Type::Decimal { .. } => {
            let value = match byte {
                0 => return false,
                1 => i128::from(i64::MAX),
                2 => i128::from(i64::MIN),
                3 => i128::from(u64::MAX),
                4 => i128::from(wide()),
                5 => (1 << 53) + 1,
                _ => i128::from(small),
            };
            column.push(&Cell::Int(value)).is_ok()
        }
        _ => false,
    }
}

/// The rows that the tables of `artifact` find for `batch`, by the plain matcher and by the one for CPUs in all its forms, residuals verified.
///
/// # Panics
/// When the two differ.
pub fn hits(artifact: dynamic_cep::tables::Artifact, batch: &EventBatch) -> dynamic_cep::flow::Hits {
    use dynamic_cep::matcher::Found;
    use dynamic_cep::matcher::cpu::{self, Isa, Visit};
    let generation = dynamic_cep::engine::Generation::new(Arc::new(artifact)).expect("sound residuals");
    let tables = generation.artifact().tables();
    let mut cache = Default::default();
    let encoded = generation.encode(batch, &mut cache);
    let plain = dynamic_cep::matcher::plain::candidates(&tables, &encoded);
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let mut found = Vec::new();
        cpu::candidates_by(isa, &tables, &encoded, Visit::Both, &mut found);
        found.sort_unstable();
        assert_eq!(found, plain, "{isa:?}");
    }
    generation.verify(batch, Found::of(&tables, &plain), &mut cache)
}
