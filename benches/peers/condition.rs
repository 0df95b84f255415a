//! Our conditions in the languages of others: conjunctions of tests of one field each.

use crate::field_name;
use dynamic_cep::event::{Schema, Value};
use dynamic_cep::expr::{CompareOp, Expr, Node};
use dynamic_cep::id::NodeId;
use dynamic_cep::rule::lists::Lists;
use dynamic_cep::rule::{Limits, Origin, check};

/// A test of a field.
pub enum Test {
    Compare { field: String, op: CompareOp, constant: Value },
    In { field: String, members: Vec<Value> },
}

/// What a condition tests.
///
/// # Panics
/// When it is no such conjunction; those of the workloads are.
pub fn tests(text: &str, schema: &Schema) -> Vec<Test> {
    let (lists, limits) = (Lists::new(), Limits::default());
    let scope = check::Scope { schema, lists: &lists, parameters: &[], limits: &limits, windows: &[] };
    let expr = check::condition(text, &Origin::default(), None, &scope).expect("a sound condition");
    let mut tests = Vec::new();
    collect(&expr, expr.root(), schema, &mut tests);
    tests
}

fn collect(expr: &Expr, node: NodeId, schema: &Schema, tests: &mut Vec<Test>) {
    let named = |node: NodeId| match expr.node(node) {
        Node::Field(field) => field_name(schema, *field).to_owned(),
        other => panic!("{other:?} is no field"),
    };
    match expr.node(node) {
        Node::And(args) => expr.args(*args).iter().for_each(|part| collect(expr, *part, schema, tests)),
        Node::Compare { op, left, right } => {
            let Node::Constant(constant) = expr.node(*right) else { panic!("no constant on the right of a comparison") };
            tests.push(Test::Compare { field: named(*left), op: *op, constant: constant.clone() });
        }
        Node::In { operand, list, has_null: false } => tests.push(Test::In { field: named(*operand), members: list.to_vec() }),
        other => panic!("{other:?} is not among what the workloads test"),
    }
}

/// In CEL.
pub fn cel(tests: &[Test]) -> String {
    joined(tests, " && ", |op| match op {
        CompareOp::Equal => "==",
        CompareOp::NotEqual => "!=",
        other => ordering(other),
    })
}

/// In the language of A-Trees.
pub fn a_tree(tests: &[Test]) -> String {
    joined(tests, " and ", |op| match op {
        CompareOp::Equal => "=",
        CompareOp::NotEqual => "<>",
        other => ordering(other),
    })
}

fn joined(tests: &[Test], and: &str, sign: impl Fn(CompareOp) -> &'static str) -> String {
    let tests: Vec<String> = tests
        .iter()
        .map(|test| match test {
            Test::Compare { field, op, constant } => format!("{field} {} {}", sign(*op), constant_text(constant)),
            Test::In { field, members } => {
                let members: Vec<String> = members.iter().map(constant_text).collect();
                format!("{field} in [{}]", members.join(", "))
            }
        })
        .collect();
    tests.join(and)
}

fn ordering(op: CompareOp) -> &'static str {
    match op {
        CompareOp::Less => "<",
        CompareOp::LessOrEqual => "<=",
        CompareOp::Greater => ">",
        CompareOp::GreaterOrEqual => ">=",
        CompareOp::Equal | CompareOp::NotEqual => unreachable!("the languages differ in these, so their callers write them"),
    }
}

fn constant_text(constant: &Value) -> String {
    match constant {
        Value::Int(number) => number.to_string(),
        // With a point, so that it is none of the whole numbers.
        Value::Float(number) => format!("{number:?}"),
        Value::Text(text) => format!("\"{text}\""),
        other => panic!("{other:?} is not among the constants of the workloads"),
    }
}
