//! Random typed expressions over random batches: columns against the oracle, to the bit.

use super::column::{Column, build};
use super::*;
use crate::event::batch::value_at;
use crate::event::{Field, TimeUnit};
use crate::expr::oracle::Oracle;
use crate::expr::{ArithmeticOp, CompareOp, DatePart, Function};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}

const TYPES: [Type; 12] = [
    Type::Bool,
    Type::Int,
    Type::UInt,
    Type::Float,
    Type::Decimal { scale: 0 },
    Type::Decimal { scale: 2 },
    Type::Decimal { scale: 20 },
    Type::Text,
    Type::Timestamp(TimeUnit::Millisecond),
    Type::Timestamp(TimeUnit::Nanosecond),
    Type::Date,
    Type::Interval,
];
const NUMERIC: [Type; 6] =
    [Type::Int, Type::UInt, Type::Float, Type::Decimal { scale: 0 }, Type::Decimal { scale: 2 }, Type::Decimal { scale: 20 }];
const TEXTS: [&str; 18] =
    ["", "a", "b", "ab", "aB", "A", "%", "a%b", "_", "é", "É", "𝄞a", " a ", "12", "-1.5", "true", "2026-01-31T23:59:59.5Z", "1970-01-01"];
const PATTERNS: [&str; 12] = ["", "%", "a%", "%b", "%a%", "_", "a_%", "%!%%", "a%b", "É%", "!", "%_a"];
const MOST: i128 = 10_i128.pow(38) - 1;

fn value(random: &mut Random, ty: Type) -> Value {
    match ty {
        Type::Null => Value::Null,
        Type::Bool => Value::Bool(random.one_in(2)),
        Type::Int => {
            let any = random.next() as i64;
            let small = random.below(7) as i64 - 3;
            Value::Int(random.pick(&[i64::MIN, i64::MAX, -1, 0, 1, 2, 3, (1 << 53) - 1, 1 << 53, (1 << 53) + 1, small, small, any]))
        }
        Type::UInt => Value::UInt(random.pick(&[0, 1, 2, 3, u64::MAX, 1 << 63, i64::MAX as u64, (1 << 53) + 1])),
        Type::Float => {
            let any = f64::from_bits(random.next());
            Value::Float(random.pick(&[
                0.0,
                -0.0,
                1.0,
                -1.5,
                2.5,
                0.1,
                f64::NAN,
                -f64::NAN,
                f64::INFINITY,
                f64::NEG_INFINITY,
                f64::MAX,
                f64::MIN_POSITIVE,
                5e-324,
                9_007_199_254_740_992.0,
                9_007_199_254_740_994.0,
                9.3e18,
                any,
            ]))
        }
        Type::Decimal { scale } => Value::Decimal {
            units: random.pick(&[
                0,
                1,
                -1,
                15,
                150,
                10,
                250,
                MOST,
                -MOST,
                1 << 53,
                (1 << 53) + 1,
                i128::from(i64::MAX) + 1,
                10_i128.pow(20),
            ]),
            scale,
        },
        Type::Text => Value::Text(random.pick(&TEXTS).into()),
        Type::Timestamp(unit) => {
            let any = random.next() as i64;
            let near = (any % 100_000_000_000).wrapping_mul(unit.ticks_per_second() / 1000);
            Value::Timestamp { ticks: random.pick(&[i64::MIN, i64::MAX, 0, -1, near, near]), unit }
        }
        Type::Date => {
            let near = random.below(60_000) as i32 - 20_000;
            Value::Date(random.pick(&[i32::MIN, i32::MAX, 0, -1, near, near, near]))
        }
        Type::Interval => Value::Interval {
            months: random.pick(&[0, 0, 1, -1, 12, i32::MAX, i32::MIN]),
            days: random.pick(&[0, 0, 1, -30, i32::MAX]),
            nanoseconds: random.pick(&[0, 0, 1, -1, 86_400_000_000_000, i64::MAX, i64::MIN]),
        },
    }
}

fn constant(random: &mut Random, expr: &mut Expr, ty: Type) -> NodeId {
    let value = if random.one_in(12) { Value::Null } else { value(random, ty) };
    expr.push(Node::Constant(value), ty)
}

/// Two fields of each type.
fn schema() -> Schema {
    let fields = TYPES.iter().flat_map(|ty| [0, 1].map(|n| Field { name: format!("{ty} {n}"), ty: *ty })).collect();
    Schema::new(fields).unwrap()
}

fn leaf(random: &mut Random, expr: &mut Expr, schema: &Schema, ty: Type) -> NodeId {
    let fields: Vec<FieldId> = (0..schema.fields().len()).map(FieldId::new).filter(|field| schema.field(*field).ty == ty).collect();
    if fields.is_empty() || random.one_in(3) { constant(random, expr, ty) } else { expr.push(Node::Field(random.pick(&fields)), ty) }
}

/// Types whose values compare with those of `ty`.
fn comparable(random: &mut Random, ty: Type) -> Type {
    match ty {
        _ if ty.is_numeric() && random.one_in(2) => random.pick(&NUMERIC),
        Type::Timestamp(_) | Type::Date => {
            random.pick(&[Type::Date, Type::Timestamp(TimeUnit::Millisecond), Type::Timestamp(TimeUnit::Nanosecond), ty])
        }
        _ => ty,
    }
}

fn generate(random: &mut Random, expr: &mut Expr, schema: &Schema, ty: Type, depth: usize) -> NodeId {
    if depth == 0 || random.one_in(10) {
        return leaf(random, expr, schema, ty);
    }
    if random.one_in(8) {
        let same: Vec<NodeId> = (0..expr.nodes().len()).map(NodeId::new).filter(|id| expr.ty(*id) == ty).collect();
        if !same.is_empty() {
            return random.pick(&same);
        }
    }
    let child = |random: &mut Random, expr: &mut Expr, ty: Type| generate(random, expr, schema, ty, depth - 1);
    // What any type can be.
    match random.below(12) {
        0 => {
            let mut args = Vec::new();
            for _ in 0..=random.below(2) {
                args.extend([child(random, expr, Type::Bool), child(random, expr, ty)]);
            }
            args.push(child(random, expr, ty));
            let args = expr.push_args(&args);
            return expr.push(Node::Case(args), ty);
        }
        1 => {
            let args: Vec<NodeId> = (0..=random.below(3)).map(|_| child(random, expr, ty)).collect();
            let args = expr.push_args(&args);
            let function = random.pick(&[Function::Coalesce, Function::Greatest, Function::Least]);
            return expr.push(Node::Call { function, args }, ty);
        }
        2 => {
            let from = random.pick(&TYPES);
            let operand = child(random, expr, from);
            return expr.push(Node::Cast(operand), ty);
        }
        _ => {}
    }
    let arithmetic = [ArithmeticOp::Add, ArithmeticOp::Subtract, ArithmeticOp::Multiply, ArithmeticOp::Divide, ArithmeticOp::Remainder];
    let additive = [ArithmeticOp::Add, ArithmeticOp::Subtract];
    let node = match ty {
        Type::Bool => return boolean(random, expr, schema, depth),
        Type::Int => match random.below(6) {
            0 => {
                let of = random.pick(&[Type::Date, Type::Timestamp(TimeUnit::Millisecond), Type::Timestamp(TimeUnit::Nanosecond)]);
                let parts = [
                    DatePart::Year,
                    DatePart::Quarter,
                    DatePart::Month,
                    DatePart::Week,
                    DatePart::Day,
                    DatePart::DayOfWeek,
                    DatePart::IsoDayOfWeek,
                    DatePart::DayOfYear,
                    DatePart::Hour,
                    DatePart::Minute,
                    DatePart::Second,
                    DatePart::Epoch,
                ];
                Node::Extract { part: random.pick(&parts), operand: child(random, expr, of) }
            }
            1 => {
                let args = [child(random, expr, Type::Text)];
                Node::Call { function: Function::Length, args: expr.push_args(&args) }
            }
            2 => {
                let args = [child(random, expr, Type::Text), child(random, expr, Type::Text)];
                Node::Call { function: Function::Position, args: expr.push_args(&args) }
            }
            3 => {
                let of = random.pick(&NUMERIC);
                let args = [child(random, expr, of)];
                Node::Call { function: Function::Sign, args: expr.push_args(&args) }
            }
            4 => {
                let (left, right) = (child(random, expr, Type::Date), child(random, expr, Type::Date));
                Node::Arithmetic { op: ArithmeticOp::Subtract, left, right }
            }
            _ => {
                let (left, right) = (child(random, expr, ty), child(random, expr, ty));
                Node::Arithmetic { op: random.pick(&arithmetic), left, right }
            }
        },
        Type::UInt => {
            let args = [child(random, expr, ty)];
            Node::Call { function: random.pick(&[Function::Abs, Function::Floor, Function::Truncate]), args: expr.push_args(&args) }
        }
        Type::Float => match random.below(4) {
            0 => {
                let functions = [
                    Function::Sqrt,
                    Function::Exp,
                    Function::Ln,
                    Function::Log10,
                    Function::Sin,
                    Function::Cos,
                    Function::Tan,
                    Function::Asin,
                    Function::Acos,
                    Function::Atan,
                    Function::Radians,
                    Function::Degrees,
                    Function::Abs,
                    Function::Floor,
                    Function::Ceil,
                    Function::Truncate,
                    Function::Round,
                ];
                let args = [child(random, expr, ty)];
                Node::Call { function: random.pick(&functions), args: expr.push_args(&args) }
            }
            1 => {
                let (a, b) = (random.pick(&NUMERIC), random.pick(&NUMERIC));
                let args = [child(random, expr, a), child(random, expr, b)];
                Node::Call { function: random.pick(&[Function::Power, Function::Atan2]), args: expr.push_args(&args) }
            }
            2 => {
                let operand = child(random, expr, ty);
                Node::Negate(operand)
            }
            _ => {
                let other = random.pick(&NUMERIC);
                let (left, right) = (child(random, expr, ty), child(random, expr, other));
                let (left, right) = if random.one_in(2) { (left, right) } else { (right, left) };
                Node::Arithmetic { op: random.pick(&arithmetic), left, right }
            }
        },
        Type::Decimal { scale } => match random.below(4) {
            0 => {
                let operand = child(random, expr, ty);
                Node::Negate(operand)
            }
            1 => {
                let args = [child(random, expr, ty), expr.push(Node::Constant(Value::Int(random.below(6) as i64 - 2)), Type::Int)];
                let function = random.pick(&[Function::Abs, Function::Round]);
                let args = if function == Function::Abs { &args[..1] } else { &args[..] };
                Node::Call { function, args: expr.push_args(args) }
            }
            2 if scale == 0 => {
                let (left, right) = (child(random, expr, Type::UInt), child(random, expr, Type::Int));
                Node::Arithmetic { op: random.pick(&arithmetic), left, right }
            }
            _ => {
                let other = random.pick(&[Type::Int, Type::UInt, Type::Decimal { scale: 0 }, ty]);
                let op = if other == ty && scale != 0 {
                    random.pick(&[ArithmeticOp::Add, ArithmeticOp::Subtract, ArithmeticOp::Remainder])
                } else {
                    random.pick(&[ArithmeticOp::Add, ArithmeticOp::Subtract, ArithmeticOp::Multiply, ArithmeticOp::Remainder])
                };
                let (left, right) = (child(random, expr, ty), child(random, expr, other));
                Node::Arithmetic { op, left, right }
            }
        },
        Type::Text => {
            let text = child(random, expr, ty);
            match random.below(6) {
                0 => {
                    Node::Call { function: random.pick(&[Function::Lower, Function::Upper, Function::Trim]), args: expr.push_args(&[text]) }
                }
                1 => {
                    let args = [text, child(random, expr, ty)];
                    let function = random.pick(&[Function::Trim, Function::TrimStart, Function::TrimEnd, Function::Concat]);
                    Node::Call { function, args: expr.push_args(&args) }
                }
                2 => {
                    let args = [text, child(random, expr, Type::Int)];
                    let function = random.pick(&[Function::Left, Function::Right, Function::Substring]);
                    Node::Call { function, args: expr.push_args(&args) }
                }
                3 => {
                    let args = [text, child(random, expr, Type::Int), child(random, expr, Type::Int)];
                    Node::Call { function: Function::Substring, args: expr.push_args(&args) }
                }
                4 => {
                    let args = [text, child(random, expr, ty), child(random, expr, ty)];
                    Node::Call { function: Function::Replace, args: expr.push_args(&args) }
                }
                _ => {
                    let args = [text, child(random, expr, ty), child(random, expr, ty)];
                    Node::Call { function: Function::Concat, args: expr.push_args(&args) }
                }
            }
        }
        Type::Timestamp(_) => {
            let of = random.pick(&[Type::Date, Type::Timestamp(TimeUnit::Millisecond), ty]);
            let (left, right) = (child(random, expr, of), child(random, expr, Type::Interval));
            Node::Arithmetic { op: random.pick(&additive), left, right }
        }
        Type::Date => {
            let (left, right) = (child(random, expr, ty), child(random, expr, Type::Int));
            Node::Arithmetic { op: random.pick(&additive), left, right }
        }
        Type::Interval => {
            let of = random.pick(&[Type::Timestamp(TimeUnit::Millisecond), Type::Timestamp(TimeUnit::Nanosecond)]);
            let (left, right) = (child(random, expr, of), child(random, expr, of));
            Node::Arithmetic { op: ArithmeticOp::Subtract, left, right }
        }
        Type::Null => Node::Constant(Value::Null),
    };
    expr.push(node, ty)
}

fn boolean(random: &mut Random, expr: &mut Expr, schema: &Schema, depth: usize) -> NodeId {
    let child = |random: &mut Random, expr: &mut Expr, ty: Type| generate(random, expr, schema, ty, depth - 1);
    let node = match random.below(14) {
        0 => Node::Not(child(random, expr, Type::Bool)),
        kind @ 1..=4 => {
            let args: Vec<NodeId> = (0..2 + random.below(5)).map(|_| child(random, expr, Type::Bool)).collect();
            let args = expr.push_args(&args);
            if kind % 2 == 0 { Node::And(args) } else { Node::Or(args) }
        }
        kind @ 5..=7 => {
            let of = random.pick(&TYPES);
            let (left, other) = (child(random, expr, of), comparable(random, of));
            let right = child(random, expr, other);
            let ops = [
                CompareOp::Equal,
                CompareOp::NotEqual,
                CompareOp::Less,
                CompareOp::LessOrEqual,
                CompareOp::Greater,
                CompareOp::GreaterOrEqual,
            ];
            if kind == 5 { Node::NotDistinct { left, right } } else { Node::Compare { op: random.pick(&ops), left, right } }
        }
        8 => {
            let of = random.pick(&TYPES);
            let operand = child(random, expr, of);
            let of = comparable(random, of);
            let mut list: Vec<Value> = (0..random.below(6)).map(|_| value(random, of)).collect();
            list.sort_by(|a, b| scalar::compare(a, b).unwrap());
            list.dedup_by(|a, b| scalar::compare(a, b) == Some(std::cmp::Ordering::Equal));
            Node::In { operand, list: list.into(), has_null: random.one_in(4) }
        }
        9 => {
            let of = random.pick(&TYPES);
            Node::IsNull(child(random, expr, of))
        }
        10 => {
            let operand = child(random, expr, Type::Bool);
            if random.one_in(2) { Node::IsTrue(operand) } else { Node::IsFalse(operand) }
        }
        11 => {
            let operand = child(random, expr, Type::Text);
            if random.one_in(4) {
                let pattern = random.pick(&["a", "^a.*b$", "é", "[0-9]+", "", "("]);
                Node::Regex { operand, pattern: pattern.into(), case_insensitive: random.one_in(2) }
            } else {
                let pattern = if random.one_in(6) {
                    child(random, expr, Type::Text)
                } else {
                    expr.push(Node::Constant(Value::Text(random.pick(&PATTERNS).into())), Type::Text)
                };
                Node::Like { operand, pattern, escape: random.pick(&[None, Some('!')]), case_insensitive: random.one_in(2) }
            }
        }
        12 => {
            // Enough searches in one text for an automaton.
            let mut operand = leaf(random, expr, schema, Type::Text);
            if random.one_in(2) {
                let args = expr.push_args(&[operand]);
                operand = expr.push(Node::Call { function: Function::Upper, args }, Type::Text);
            }
            let case_insensitive = random.one_in(2);
            let searches: Vec<NodeId> = (0..8 + random.below(4))
                .map(|_| {
                    let pattern = random.pick(&["%ab%", "%B%", "%é%", "%É%", "% %", "%-1%", "%𝄞%", "a%", "%T2%", "%Ru%"]);
                    let pattern = expr.push(Node::Constant(Value::Text(pattern.into())), Type::Text);
                    expr.push(Node::Like { operand, pattern, escape: None, case_insensitive }, Type::Bool)
                })
                .collect();
            Node::Or(expr.push_args(&searches))
        }
        _ => {
            let args = [child(random, expr, Type::Text), child(random, expr, Type::Text)];
            let function = random.pick(&[Function::StartsWith, Function::EndsWith, Function::Contains]);
            Node::Call { function, args: expr.push_args(&args) }
        }
    };
    expr.push(node, Type::Bool)
}

fn batch(random: &mut Random, schema: &Schema, rows: usize) -> EventBatch {
    let columns = schema
        .fields()
        .iter()
        .map(|field| {
            let nulls = random.pick(&[2, 5, 1000]);
            let many_rows = rows * if random.one_in(3) { 3 } else { 1 };
            let values: Vec<Value> =
                (0..many_rows).map(|_| if random.one_in(nulls) { Value::Null } else { value(random, field.ty) }).collect();
            // A slice keeps values in its dictionary that no row has.
            let array = build(field.ty, values.into_iter()).into_array(field.ty, many_rows).slice(many_rows - rows, rows);
            (!random.one_in(12)).then_some(array)
        })
        .collect();
    EventBatch::new(schema, 0, rows, columns)
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
        _ => a == b,
    }
}

/// The first row where the columns and the oracle differ.
fn first_difference(
    program: &Program,
    oracle: &Oracle<'_>,
    schema: &Schema,
    batch: &EventBatch,
    rows: Option<&[u32]>,
    cache: &mut Cache,
) -> Option<String> {
    let result = program.evaluate(schema, batch, rows, cache);
    let ty = program.expr().ty(program.expr().root());
    assert_eq!(result.data_type(), &crate::event::batch::canonical_type(ty));
    let all: Vec<u32> = (0..batch.rows() as u32).collect();
    let rows = rows.unwrap_or(&all);
    assert_eq!(result.len(), rows.len());
    rows.iter().enumerate().find_map(|(position, row)| {
        let row = batch.row(schema, *row as usize);
        let (got, expected) = (value_at(result.as_ref(), ty, position), oracle.evaluate(&row));
        (!same(&got, &expected)).then(|| format!("columns {got:?}, oracle {expected:?}, row {row:?}"))
    })
}

fn seed() -> u64 {
    let seed = std::env::var("DYNAMIC_CEP_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_260_101);
    println!("DYNAMIC_CEP_SEED={seed}");
    seed
}

#[test]
fn columns_agree_with_the_oracle() {
    let seed = seed();
    let schema = schema();
    let mut decided = [0_usize; 3];
    for case in 0..400 {
        let mut random = Random(seed.wrapping_add(case));
        let rows = random.pick(&[0, 1, 7, 64, 150]);
        let batch = batch(&mut random, &schema, rows);
        let mut cache = Cache::new();
        for _ in 0..10 {
            let mut expr = Expr::new();
            let ty = if random.one_in(3) { random.pick(&TYPES) } else { Type::Bool };
            let depth = 1 + random.below(5);
            let root = generate(&mut random, &mut expr, &schema, ty, depth);
            let mut only = Expr::new();
            only.copy_from(&expr, root);
            let program = Program::new(only.clone());
            let oracle = Oracle::new(&only);
            if let Some(difference) = first_difference(&program, &oracle, &schema, &batch, None, &mut cache) {
                panic!("seed {seed}, case {case}: {difference}\n{only:?}");
            }
            let selection: Vec<u32> =
                if rows == 0 { Vec::new() } else { (0..random.below(rows)).map(|_| random.below(rows) as u32).collect() };
            if let Some(difference) = first_difference(&program, &oracle, &schema, &batch, Some(&selection), &mut cache) {
                panic!("seed {seed}, case {case}, selection: {difference}\n{only:?}");
            }
            if ty == Type::Bool {
                let selected = program.select(&schema, &batch, None, &mut cache);
                let expected: Vec<u32> = (0..rows as u32).filter(|row| oracle.holds(&batch.row(&schema, *row as usize))).collect();
                assert_eq!(selected, expected, "seed {seed}, case {case}");
                for row in 0..rows {
                    decided[scalar::truth(&oracle.evaluate(&batch.row(&schema, row))).map_or(2, usize::from)] += 1;
                }
            }
        }
    }
    assert!(decided.iter().all(|count| *count > 10_000), "every truth occurs often: {decided:?}");
}

#[test]
fn a_planted_fault_is_caught() {
    let schema = schema();
    let mut random = Random(seed());
    let (mut planted, mut caught) = (0, 0);
    for _ in 0..60 {
        let batch = batch(&mut random, &schema, 150);
        let mut sound = Expr::new();
        let of = random.pick(&TYPES);
        let left = generate(&mut random, &mut sound, &schema, of, 2);
        let right = leaf(&mut random, &mut sound, &schema, of);
        let op = random.pick(&[CompareOp::Less, CompareOp::LessOrEqual, CompareOp::Greater, CompareOp::GreaterOrEqual, CompareOp::Equal]);
        sound.push(Node::Compare { op, left, right }, Type::Bool);
        // The fault: the comparison takes in its border, or leaves it out.
        let mut nodes = sound.nodes().to_vec();
        let Some(Node::Compare { op, .. }) = nodes.last_mut() else { continue };
        *op = match *op {
            CompareOp::Less => CompareOp::LessOrEqual,
            CompareOp::LessOrEqual => CompareOp::Less,
            CompareOp::Greater => CompareOp::GreaterOrEqual,
            CompareOp::GreaterOrEqual => CompareOp::Greater,
            CompareOp::Equal | CompareOp::NotEqual => CompareOp::LessOrEqual,
        };
        let faulty = Expr { nodes, ..sound.clone() };
        planted += 1;
        let (program, oracle) = (Program::new(faulty), Oracle::new(&sound));
        caught += usize::from(first_difference(&program, &oracle, &schema, &batch, None, &mut Cache::new()).is_some());
    }
    // Not every fault shows: the operands may be constant, or never equal.
    assert!(planted == 60 && caught * 6 > planted, "{caught} of {planted}");
}

#[test]
fn many_patterns_are_evaluated_once_a_value() {
    let schema = Schema::new(vec![Field { name: "url".into(), ty: Type::Text }, Field { name: "n".into(), ty: Type::Int }]).unwrap();
    let urls = build(Type::Text, (0..5_000).map(|n| Value::Text(format!("/page/{}", n % 500).into()))).into_array(Type::Text, 5_000);
    let numbers = build(Type::Int, (0..5_000).map(Value::Int)).into_array(Type::Int, 5_000);
    let batch = EventBatch::new(&schema, 0, 5_000, vec![Some(urls), Some(numbers)]);
    let mut expr = Expr::new();
    let likes: Vec<NodeId> = (0..2_000)
        .map(|n| {
            let operand = expr.push(Node::Field(FieldId(0)), Type::Text);
            let pattern = expr.push(Node::Constant(Value::Text(format!("%/{}%", n + 450).into())), Type::Text);
            expr.push(Node::Like { operand, pattern, escape: None, case_insensitive: false }, Type::Bool)
        })
        .collect();
    let args = expr.push_args(&likes);
    expr.push(Node::Or(args), Type::Bool);
    let program = Program::new(expr);
    let mut cache = Cache::new();
    let selected = program.select(&schema, &batch, None, &mut cache);
    assert_eq!(selected, (0..5_000).filter(|n| n % 500 >= 450).collect::<Vec<u32>>());
    assert_eq!(cache.entries.len(), 1);
    assert_eq!(program.select(&schema, &batch, Some(&[7, 451, 449, 4_999]), &mut cache), [1, 3]);
    assert_eq!(cache.entries.len(), 1);
}

#[test]
fn constants_fill_columns() {
    let mut expr = Expr::new();
    expr.push(Node::Constant(Value::Text("x".into())), Type::Text);
    let schema = schema();
    let batch = EventBatch::new(&schema, 0, 3, vec![None; schema.fields().len()]);
    let array = Program::new(expr).evaluate(&schema, &batch, None, &mut Cache::new());
    assert_eq!(Column::Array(array).value(Type::Text, 2), Value::Text("x".into()));
}

#[test]
fn deep_nesting_fits_the_stack() {
    let schema = schema();
    let batch = batch(&mut Random(1), &schema, 100);
    let mut expr = Expr::new();
    let mut node = expr.push(Node::Field(FieldId(0)), Type::Bool);
    for depth in 0..300 {
        let other = expr.push(Node::Field(FieldId(1)), Type::Bool);
        let args = expr.push_args(&[other, node]);
        let both = expr.push(if depth % 2 == 0 { Node::And(args) } else { Node::Or(args) }, Type::Bool);
        let args = expr.push_args(&[both, node, other]);
        node = expr.push(Node::Case(args), Type::Bool);
        node = expr.push(Node::Not(node), Type::Bool);
    }
    let (program, oracle) = (Program::new(expr.clone()), Oracle::new(&expr));
    assert_eq!(first_difference(&program, &oracle, &schema, &batch, None, &mut Cache::new()), None);
}
