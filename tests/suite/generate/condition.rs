//! Conditions as text.

use super::pool::{Pool, literal};
use crate::random::Random;
use dynamic_cep::event::{Schema, Type};

const COMPARISONS: [&str; 8] = ["=", "<>", "<", "<=", ">", ">=", "!=", "=="];

/// Types that compare with each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Class {
    Bool,
    Number,
    Text,
    Instant,
}

const fn class(ty: Type) -> Class {
    match ty {
        Type::Bool => Class::Bool,
        Type::Text => Class::Text,
        Type::Timestamp(_) | Type::Date => Class::Instant,
        _ => Class::Number,
    }
}

/// Writes conditions over one schema with the constants of one pool.
pub struct Writer<'a> {
    schema: &'a Schema,
    pool: &'a Pool,
    random: &'a mut Random,
    /// Lists that rules share: a column's number and the text of the list.
    shared: Vec<(usize, String)>,
}

impl<'a> Writer<'a> {
    pub fn new(schema: &'a Schema, pool: &'a Pool, random: &'a mut Random) -> Self {
        let mut writer = Self { schema, pool, random, shared: Vec::new() };
        for _ in 0..3 {
            let column = writer.random.below(schema.fields().len());
            let list = writer.list(schema.fields()[column].ty);
            writer.shared.push((column, list));
        }
        writer
    }

    /// The condition of a rule.
    pub fn rule(&mut self) -> String {
        match self.random.below(10) {
            // What most rules are: a conjunction of few predicates on columns.
            0..5 => {
                let predicates = 1 + self.random.below(5);
                (0..predicates).map(|_| self.indexable()).collect::<Vec<_>>().join(" AND ")
            }
            // Many columns: chains of blocks.
            5 => (0..6 + self.random.below(6)).map(|_| self.indexable()).collect::<Vec<_>>().join(" AND "),
            _ => {
                let depth = 1 + self.random.below(4);
                self.condition(depth)
            }
        }
    }

    /// A conjunction of few predicates on columns, without long lists: cheap, so that there can be thousands.
    pub fn plain(&mut self) -> String {
        let predicates = 1 + self.random.below(4);
        let mut plain = || {
            let (column, ty) = self.some_column();
            let constant = match class(ty) {
                Class::Number => self.random.below(4_000).to_string(),
                Class::Text => format!("'a{}'", self.random.below(2_000)),
                _ => self.constant(ty),
            };
            format!("{column} {} {constant}", self.random.pick(&["=", "=", "=", "<", ">=", "<>"]))
        };
        (0..predicates).map(|_| plain()).collect::<Vec<_>>().join(" AND ")
    }

    /// A condition; `depth` levels of connectives at most.
    pub fn condition(&mut self, depth: usize) -> String {
        if depth == 0 {
            return if self.random.one_in(3) { self.predicate() } else { self.indexable() };
        }
        let inner = |writer: &mut Self| {
            let text = writer.condition(depth - 1);
            format!("({text})")
        };
        match self.random.below(8) {
            0..3 => (0..2 + self.random.below(3)).map(|_| inner(self)).collect::<Vec<_>>().join(" AND "),
            3..6 => (0..2 + self.random.below(3)).map(|_| inner(self)).collect::<Vec<_>>().join(" OR "),
            6 => format!("NOT {}", inner(self)),
            _ => {
                let test = *self.random.pick(&["NULL", "TRUE", "FALSE", "UNKNOWN"]);
                let not = self.not();
                format!("{} IS {not}{test}", inner(self))
            }
        }
    }

    fn not(&mut self) -> &'static str {
        if self.random.one_in(3) { "NOT " } else { "" }
    }

    fn column_name(&self, column: usize) -> String {
        let name = &self.schema.fields()[column].name;
        if name.contains(' ') { format!("\"{name}\"") } else { name.clone() }
    }

    fn some_column(&mut self) -> (String, Type) {
        let column = self.random.below(self.schema.fields().len());
        (self.column_name(column), self.schema.fields()[column].ty)
    }

    /// A column of this class; every class has one.
    fn column_of(&mut self, wanted: Class) -> (String, Type) {
        let columns: Vec<usize> =
            (0..self.schema.fields().len()).filter(|column| class(self.schema.fields()[*column].ty) == wanted).collect();
        let column = *self.random.pick(&columns);
        (self.column_name(column), self.schema.fields()[column].ty)
    }

    fn constant(&mut self, ty: Type) -> String {
        let value = self.pool.constant(self.random, ty);
        literal(self.random, &value)
    }

    fn list(&mut self, ty: Type) -> String {
        let entries = match self.random.below(12) {
            0..4 => 1 + self.random.below(3),
            4..8 => 3,
            11 if matches!(class(ty), Class::Number | Class::Text) => 500,
            _ => 17,
        };
        let mut list: Vec<String> = (0..entries)
            .map(|nth| match class(ty) {
                // Beyond what the pool has, so that long lists stay long.
                Class::Number if entries > 3 && nth > 2 => (nth * 3).to_string(),
                Class::Text if entries > 3 && nth > 2 => format!("'a{nth}'"),
                _ => self.constant(ty),
            })
            .collect();
        if self.random.one_in(6) {
            list.push("NULL".to_owned());
        }
        list.join(", ")
    }

    /// A predicate on one column: what becomes thresholds.
    fn indexable(&mut self) -> String {
        if self.random.one_in(10) {
            let (column, list) = self.random.pick(&self.shared).clone();
            let not = self.not();
            return format!("{} {not}IN ({list})", self.column_name(column));
        }
        let (column, ty) = self.some_column();
        self.predicate_on(&column, ty)
    }

    /// A predicate that compares `operand`, which is of type `ty`, with constants.
    fn predicate_on(&mut self, operand: &str, ty: Type) -> String {
        let not = self.not();
        match self.random.below(12) {
            0 if ty == Type::Bool => format!("{not}{operand}"),
            0..5 => {
                let comparison = *self.random.pick(&COMPARISONS);
                let constant = self.constant(ty);
                if self.random.one_in(5) {
                    format!("{constant} {comparison} {operand}")
                } else {
                    format!("{operand} {comparison} {constant}")
                }
            }
            5 | 6 => {
                let symmetric = if self.random.one_in(3) { "SYMMETRIC " } else { "" };
                format!("{operand} {not}BETWEEN {symmetric}{} AND {}", self.constant(ty), self.constant(ty))
            }
            7 | 8 => format!("{operand} {not}IN ({})", self.list(ty)),
            9 => format!("{operand} IS {not}NULL"),
            10 if ty == Type::Bool => format!("{operand} IS {not}{}", self.random.pick(&["TRUE", "FALSE", "UNKNOWN"])),
            _ => {
                let constant = if self.random.one_in(4) { "NULL".to_owned() } else { self.constant(ty) };
                format!("{operand} IS {not}DISTINCT FROM {constant}")
            }
        }
    }

    /// Any predicate: expressions, patterns, column against column.
    fn predicate(&mut self) -> String {
        let not = self.not();
        match self.random.below(9) {
            0 => {
                let pattern = self.pattern();
                let like = *self.random.pick(&["LIKE", "ILIKE"]);
                let escape = if self.random.one_in(3) { " ESCAPE '!'" } else { "" };
                format!("{} {not}{like} {pattern}{escape}", self.value(Class::Text, 1))
            }
            1 => {
                let operator = *self.random.pick(&["~", "~*", "!~", "!~*"]);
                let pattern = *self.random.pick(&["^a", "b$", "[0-9]+", "a|é", ".", "^$", "(?i)straSSe", "a{2,}"]);
                format!("{} {operator} '{pattern}'", self.value(Class::Text, 1))
            }
            2 => {
                let function = *self.random.pick(&["STARTS_WITH", "ENDS_WITH", "CONTAINS"]);
                format!("{not}{function}({}, {})", self.value(Class::Text, 1), self.value(Class::Text, 0))
            }
            3 => {
                let comparison = *self.random.pick(&COMPARISONS);
                let (a, b) = (self.value(Class::Instant, 0), self.value(Class::Instant, 0));
                let interval =
                    *self.random.pick(&["INTERVAL '1' DAY", "INTERVAL '90' MINUTE", "INTERVAL '0' SECOND", "INTERVAL '-2' MONTH"]);
                // The difference of two dates is a number; an instant's is not.
                format!("({a} + INTERVAL '0' SECOND) - {b} {comparison} {interval}")
            }
            _ => {
                let class = *self.random.pick(&[Class::Number, Class::Number, Class::Text, Class::Instant, Class::Bool]);
                let left = self.value(class, 2);
                if self.random.one_in(2) {
                    let ty = self.column_of(class).1;
                    return self.predicate_on(&format!("({left})"), ty);
                }
                let right = self.value(class, 1);
                match self.random.below(4) {
                    0 => format!("({left}) IS {not}DISTINCT FROM ({right})"),
                    1 => format!("({left}) {not}IN ({right}, {})", self.value(class, 1)),
                    _ => format!("({left}) {} ({right})", self.random.pick(&COMPARISONS)),
                }
            }
        }
    }

    fn pattern(&mut self) -> String {
        if self.random.one_in(6) {
            return self.column_of(Class::Text).0;
        }
        let pattern = *self.random.pick(&["%", "a%", "%b", "%a%", "_", "a_b", "", "__%", "100!%", "!_%", "%straße%", "%A%b%", "é%"]);
        format!("'{pattern}'")
    }

    /// An expression of this class.
    fn value(&mut self, class: Class, depth: usize) -> String {
        if depth == 0 || self.random.one_in(3) {
            let (column, ty) = self.column_of(class);
            return if self.random.one_in(4) { self.constant(ty) } else { column };
        }
        let depth = depth - 1;
        let of = |writer: &mut Self, class: Class| format!("({})", writer.value(class, depth));
        match self.random.below(10) {
            0 => return format!("COALESCE({}, {})", of(self, class), of(self, class)),
            1 => {
                let condition = self.condition(0);
                let otherwise = if self.random.one_in(2) { format!(" ELSE {}", of(self, class)) } else { String::new() };
                return format!("CASE WHEN {condition} THEN {}{otherwise} END", of(self, class));
            }
            2 => return format!("NULLIF({}, {})", of(self, class), of(self, class)),
            3 => {
                let function = *self.random.pick(&["GREATEST", "LEAST"]);
                return format!("{function}({}, {}, {})", of(self, class), of(self, class), of(self, class));
            }
            _ => {}
        }
        match class {
            Class::Bool => format!("({})", self.condition(0)),
            Class::Number => match self.random.below(9) {
                0..3 => format!("{} {} {}", of(self, class), self.random.pick(&["+", "-", "*", "/", "%"]).to_owned(), of(self, class)),
                3 => format!("-{}", of(self, class)),
                4 => {
                    let function = *self.random.pick(&["ABS", "SIGN", "ROUND", "FLOOR", "CEIL", "TRUNC", "SQRT"]);
                    format!("{function}({})", of(self, class))
                }
                5 => {
                    let part =
                        *self.random.pick(&["YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "DOW", "ISODOW", "DOY", "HOUR", "SECOND", "EPOCH"]);
                    format!("EXTRACT({part} FROM {})", of(self, Class::Instant))
                }
                6 => format!("LENGTH({})", of(self, Class::Text)),
                7 => {
                    let ty = *self.random.pick(&["BIGINT", "DOUBLE", "DECIMAL(38,2)", "uint64"]);
                    let from = *self.random.pick(&[Class::Number, Class::Number, Class::Text, Class::Bool]);
                    format!("CAST({} AS {ty})", of(self, from))
                }
                _ => format!("ROUND({}, {})", of(self, class), self.random.below(5) as i64 - 2),
            },
            Class::Text => match self.random.below(8) {
                0 => format!("{} || {}", of(self, class), of(self, class)),
                1 => format!("LOWER({})", of(self, class)),
                2 => format!("UPPER({})", of(self, class)),
                3 => format!("TRIM({})", of(self, class)),
                4 => format!("SUBSTRING({}, {}, {})", of(self, class), self.random.below(4), self.random.below(3)),
                5 => format!("REPLACE({}, 'a', {})", of(self, class), of(self, class)),
                6 => format!("LEFT({}, {})", of(self, class), self.random.below(4) as i64 - 1),
                _ => {
                    let from = *self.random.pick(&[Class::Number, Class::Instant, Class::Bool]);
                    format!("CAST({} AS VARCHAR)", of(self, from))
                }
            },
            Class::Instant => match self.random.below(4) {
                0 | 1 => {
                    let interval =
                        *self.random.pick(&["INTERVAL '1' DAY", "INTERVAL '90' MINUTE", "INTERVAL '1' MONTH", "INTERVAL '0.001' SECOND"]);
                    format!("{} {} {interval}", of(self, class), self.random.pick(&["+", "-"]))
                }
                2 => format!("CAST({} AS DATE)", of(self, class)),
                _ => {
                    let unit = *self.random.pick(&["timestamp(s)", "timestamp(ms)", "timestamp(us)", "timestamp(ns)"]);
                    format!("CAST({} AS {unit})", of(self, class))
                }
            },
        }
    }
}
