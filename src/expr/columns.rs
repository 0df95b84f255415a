//! Vectorised evaluation of expressions over batches of events: the same answers as [`super::scalar`], a column at a time.
//!
//! What depends on a single text column is a function of its distinct values: it is evaluated once for each of those, whatever the
//! rows, and mapped through the keys. A [`Cache`] keeps such results for the other expressions that look at the same batch.
//! AND and OR evaluate cheap operands first, stop when every row is decided, and narrow to the rows that are not, once they are few.

mod column;
mod kernels;
mod literals;
mod plan;
#[cfg(test)]
mod tests;
mod truth;

use super::prepared::{Pattern, Prepared};
use super::{Args, Expr, Node, scalar};
use crate::event::{EventBatch, Schema, Type, Value};
use crate::id::{FieldId, NodeId};
use arrow::array::types::Int32Type;
use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int32Array, UInt32Array};
use column::{Column, build, take};
use foldhash::{HashMap, HashMapExt};
use plan::{AnyOf, Dependence, Group, Plan};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use truth::Truth;

/// Bytes that a [`Cache`] holds at most; beyond it, results are computed again.
const CACHE_BYTES: usize = 64 << 20;
/// AND and OR narrow to the undecided rows when these are at most one in so many.
const NARROW: usize = 4;

/// A canonical array of values, each NULL or of type `ty`.
#[must_use]
pub fn array(ty: Type, values: &[Value]) -> ArrayRef {
    build(ty, values.iter().cloned()).into_array(ty, values.len())
}

/// An expression that is ready to be evaluated in columns.
#[derive(Clone, Debug)]
pub struct Program {
    expr: Expr,
    prepared: Prepared,
    plan: Plan,
}

/// Results over the distinct values of a batch's text columns, shared by all expressions that are evaluated over that batch. One batch, one cache.
#[derive(Debug, Default)]
pub struct Cache {
    entries: HashMap<plan::Key, Column>,
    bytes: usize,
    /// The distinct values of a field as a column of their own.
    values: HashMap<FieldId, Column>,
    /// For each row of the batch, the position of its value among the distinct ones.
    positions: HashMap<FieldId, Arc<UInt32Array>>,
}

impl Cache {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Program {
    /// Prepares `expr`: patterns, dependences, and the order in which AND and OR look at their operands.
    #[must_use]
    pub fn new(expr: Expr) -> Self {
        let prepared = Prepared::new(&expr);
        Self { plan: Plan::new(&expr, &prepared), prepared, expr }
    }

    #[must_use]
    pub const fn expr(&self) -> &Expr {
        &self.expr
    }

    /// The expression's value for each row of the batch, or of `rows` (positions in the batch, in any order), in the canonical type of
    /// its root. `cache` is one that was only used with this batch.
    ///
    /// # Panics
    /// When one of `rows` is not a row of the batch.
    #[must_use]
    pub fn evaluate(&self, schema: &Schema, batch: &EventBatch, rows: Option<&[u32]>, cache: &mut Cache) -> ArrayRef {
        let (column, len) = self.run(schema, batch, rows, cache);
        column.into_array(self.expr.ty(self.expr.root()), len)
    }

    /// Which of the rows (positions in `rows`, or in the batch) satisfy the condition, ascending.
    ///
    /// # Panics
    /// When one of `rows` is not a row of the batch.
    #[must_use]
    pub fn select(&self, schema: &Schema, batch: &EventBatch, rows: Option<&[u32]>, cache: &mut Cache) -> Vec<u32> {
        let (column, len) = self.run(schema, batch, rows, cache);
        let truth = column.truth(len);
        (0..len as u32).filter(|row| truth.get(*row as usize) == Some(true)).collect()
    }

    fn run(&self, schema: &Schema, batch: &EventBatch, rows: Option<&[u32]>, cache: &mut Cache) -> (Column, usize) {
        let frame = match rows {
            None => Frame::new(Domain::Batch, batch.rows()),
            Some(rows) => Frame::new(Domain::Rows(UInt32Array::from(rows.to_vec())), rows.len()),
        };
        let mut evaluation = Evaluation { program: self, schema, batch, cache, distinct: HashMap::new() };
        let column = evaluation.node(&frame, self.expr.root());
        (column, frame.len)
    }
}

/// What the rows of an evaluation are.
enum Domain {
    Batch,
    /// These rows of the batch.
    Rows(UInt32Array),
    /// The distinct values of a text column, then NULL.
    Distinct,
}

/// One domain, and what is known of it: columns of fields, and results of shared nodes.
struct Frame {
    domain: Domain,
    len: usize,
    fields: RefCell<HashMap<FieldId, Column>>,
    nodes: RefCell<HashMap<NodeId, Column>>,
    /// For each row, the position of its value in [`Domain::Distinct`].
    positions: RefCell<HashMap<FieldId, Arc<UInt32Array>>>,
}

impl Frame {
    fn new(domain: Domain, len: usize) -> Self {
        Self { domain, len, fields: RefCell::default(), nodes: RefCell::default(), positions: RefCell::default() }
    }
}

struct Evaluation<'a> {
    program: &'a Program,
    schema: &'a Schema,
    batch: &'a EventBatch,
    cache: &'a mut Cache,
    distinct: HashMap<FieldId, Rc<Frame>>,
}

impl Evaluation<'_> {
    /// The distinct values of a text column, some of which may not occur in it.
    fn dictionary(&self, field: FieldId) -> Option<&DictionaryArray<Int32Type>> {
        self.batch.column(field)?.as_dictionary_opt::<Int32Type>()
    }

    fn distinct_values(&self, field: FieldId) -> usize {
        self.dictionary(field).map_or(0, |array| array.values().len())
    }

    fn distinct_frame(&mut self, field: FieldId) -> Rc<Frame> {
        let len = self.distinct_values(field) + 1;
        Rc::clone(self.distinct.entry(field).or_insert_with(|| Rc::new(Frame::new(Domain::Distinct, len))))
    }

    fn field(&mut self, frame: &Frame, field: FieldId) -> Column {
        if let Some(column) = frame.fields.borrow().get(&field) {
            return column.clone();
        }
        let ty = self.schema.field(field).ty;
        let column = match (&frame.domain, self.batch.column(field)) {
            (_, None) => Column::Constant(Value::Null),
            (Domain::Batch, Some(array)) => Column::from_array(Arc::clone(array), ty),
            (Domain::Rows(rows), Some(array)) => Column::from_array(take(array.as_ref(), rows), ty),
            (Domain::Distinct, Some(array)) => {
                let whole = || {
                    let values = array.as_dictionary::<Int32Type>().values();
                    let keys: Int32Array = (0..values.len() as i32).map(Some).chain([None]).collect();
                    Column::Array(Arc::new(DictionaryArray::new(keys, Arc::clone(values))))
                };
                self.cache.values.entry(field).or_insert_with(whole).clone()
            }
        };
        frame.fields.borrow_mut().insert(field, column.clone());
        column
    }

    /// Where each row of the frame finds its value among the distinct ones of `field`.
    fn positions(&mut self, frame: &Frame, field: FieldId) -> Arc<UInt32Array> {
        let of_batch = if matches!(frame.domain, Domain::Batch) { self.cache.positions.get(&field) } else { None };
        if let Some(positions) = of_batch.or(frame.positions.borrow().get(&field)) {
            return Arc::clone(positions);
        }
        let null = self.distinct_values(field) as u32;
        let positions = match self.field(frame, field) {
            Column::Array(array) => {
                let keys = array.as_dictionary::<Int32Type>().keys();
                (0..frame.len).map(|row| if keys.is_null(row) { null } else { keys.value(row) as u32 }).collect()
            }
            _ => vec![null; frame.len],
        };
        let positions = Arc::new(UInt32Array::from(positions));
        match frame.domain {
            Domain::Batch => self.cache.positions.insert(field, Arc::clone(&positions)),
            _ => frame.positions.borrow_mut().insert(field, Arc::clone(&positions)),
        };
        positions
    }

    /// Whether the distinct values of a text column are so few that evaluating over them is less work than over the rows.
    fn prefers_distinct(&self, frame: &Frame, field: FieldId) -> bool {
        !matches!(frame.domain, Domain::Distinct) && self.distinct_values(field) <= frame.len * 2
    }

    /// The column of a node.
    fn node(&mut self, frame: &Frame, id: NodeId) -> Column {
        let program = self.program;
        match program.expr.node(id) {
            Node::Constant(value) => return Column::Constant(value.clone()),
            Node::Field(field) => return self.field(frame, *field),
            _ => {}
        }
        if program.prepared.is_shared(id)
            && let Some(column) = frame.nodes.borrow().get(&id)
        {
            return column.clone();
        }
        let column = self.once(frame, id);
        if program.prepared.is_shared(id) {
            frame.nodes.borrow_mut().insert(id, column.clone());
        }
        column
    }

    /// The column of a node that is not at hand in this frame.
    fn once(&mut self, frame: &Frame, id: NodeId) -> Column {
        let plan = &self.program.plan;
        let (Dependence::Text(field), false) = (plan.dependence(id), matches!(frame.domain, Domain::Distinct)) else {
            return self.cached(frame, id);
        };
        if self.prefers_distinct(frame, field) || plan.key(id).is_some_and(|key| self.cache.entries.contains_key(key)) {
            let distinct = self.distinct_frame(field);
            let column = self.node(&distinct, id);
            column.gather(&self.positions(frame, field))
        } else {
            self.compute(frame, id)
        }
    }

    fn cached(&mut self, frame: &Frame, id: NodeId) -> Column {
        self.remembered(frame, self.program.plan.key(id), |evaluation| evaluation.compute(frame, id))
    }

    fn any_of(&mut self, frame: &Frame, any: &AnyOf) -> Column {
        self.remembered(frame, Some(&any.key), |evaluation| {
            let operand = evaluation.node(frame, any.operand);
            kernels::has_any(frame.len, &operand, &any.literals, any.case_insensitive)
        })
    }

    /// Over distinct values, results are shared through the cache.
    fn remembered(&mut self, frame: &Frame, key: Option<&plan::Key>, compute: impl FnOnce(&mut Self) -> Column) -> Column {
        let Some(key) = key.filter(|_| matches!(frame.domain, Domain::Distinct)) else { return compute(self) };
        if let Some(column) = self.cache.entries.get(key) {
            return column.clone();
        }
        let column = compute(self);
        let bytes = column.bytes();
        if self.cache.bytes + bytes <= CACHE_BYTES {
            self.cache.bytes += bytes;
            self.cache.entries.insert(*key, column.clone());
        }
        column
    }

    fn compute(&mut self, frame: &Frame, id: NodeId) -> Column {
        let program = self.program;
        let (expr, len) = (&program.expr, frame.len);
        let ty = expr.ty(id);
        match expr.node(id) {
            Node::Constant(value) => Column::Constant(value.clone()),
            Node::Field(field) => self.field(frame, *field),
            Node::Not(a) => match self.node(frame, *a) {
                Column::Constant(value) => Column::Constant(scalar::from_truth(scalar::not(scalar::truth(&value)))),
                column => Column::Truth(Arc::new(column.truth(len).not())),
            },
            Node::And(_) => self.connective(frame, id, false),
            Node::Or(_) => self.connective(frame, id, true),
            Node::Compare { op, left, right } => {
                let (a, b) = (self.node(frame, *left), self.node(frame, *right));
                kernels::compare(len, *op, (&a, expr.ty(*left)), (&b, expr.ty(*right)))
            }
            Node::NotDistinct { left, right } => {
                let (a, b) = (self.node(frame, *left), self.node(frame, *right));
                kernels::not_distinct(len, (&a, expr.ty(*left)), (&b, expr.ty(*right)))
            }
            Node::In { operand, list, has_null } => {
                let a = self.node(frame, *operand);
                kernels::in_list(len, (&a, expr.ty(*operand)), list, *has_null)
            }
            Node::IsNull(a) => self.node(frame, *a).is_null(len),
            Node::IsTrue(a) => kernels::is_truth(len, &self.node(frame, *a), true),
            Node::IsFalse(a) => kernels::is_truth(len, &self.node(frame, *a), false),
            Node::Like { operand, pattern, escape, case_insensitive } => {
                let a = self.node(frame, *operand);
                match program.prepared.pattern(id) {
                    Pattern::None => {
                        let b = self.node(frame, *pattern);
                        kernels::like_column(len, (&a, Type::Text), (&b, Type::Text), *escape, *case_insensitive)
                    }
                    pattern => kernels::matches_pattern(len, (&a, Type::Text), pattern),
                }
            }
            Node::Regex { operand, .. } => {
                let a = self.node(frame, *operand);
                kernels::matches_pattern(len, (&a, Type::Text), program.prepared.pattern(id))
            }
            Node::Arithmetic { op, left, right } => {
                let (a, b) = (self.node(frame, *left), self.node(frame, *right));
                kernels::arithmetic(len, *op, (&a, expr.ty(*left)), (&b, expr.ty(*right)), ty)
            }
            Node::Negate(a) => {
                let column = self.node(frame, *a);
                kernels::row_by_row(len, ty, &[(&column, expr.ty(*a))], |values| scalar::negate(&values[0], ty))
            }
            Node::Cast(a) => {
                let column = self.node(frame, *a);
                if expr.ty(*a) == ty {
                    return column;
                }
                kernels::cast(len, (&column, expr.ty(*a)), ty)
            }
            Node::Extract { part, operand } => {
                let column = self.node(frame, *operand);
                kernels::extract(len, *part, (&column, expr.ty(*operand)))
            }
            Node::Case(args) => self.case(frame, *args, ty),
            Node::Call { function, args } => {
                let args = expr.args(*args);
                let columns: Vec<Column> = args.iter().map(|arg| self.node(frame, *arg)).collect();
                let operands: Vec<kernels::Operand<'_>> = columns.iter().zip(args).map(|(column, arg)| (column, expr.ty(*arg))).collect();
                kernels::row_by_row(len, ty, &operands, |values| scalar::call(*function, values, ty))
            }
        }
    }

    /// AND (decided by FALSE) or OR (decided by TRUE).
    fn connective(&mut self, frame: &Frame, id: NodeId, decisive: bool) -> Column {
        let program = self.program;
        Column::Truth(Arc::new(self.groups(frame, program.plan.groups(id), decisive)))
    }

    fn groups(&mut self, frame: &Frame, groups: &[Group], decisive: bool) -> Truth {
        let mut result = Truth::all(frame.len, Some(!decisive));
        for (done, group) in groups.iter().enumerate() {
            let undecided = frame.len - result.count(decisive);
            if undecided == 0 {
                break;
            }
            if done > 0 && undecided <= frame.len / NARROW && !matches!(frame.domain, Domain::Distinct) {
                let rows = result.rows_without(decisive);
                let narrow = Frame::new(Domain::Rows(self.batch_rows(frame, &rows)), rows.len());
                let rest = self.groups(&narrow, &groups[done..], decisive);
                let mut narrowed = Truth::collect(rows.len(), |row| result.get(rows[row] as usize));
                combine(&mut narrowed, &rest, decisive);
                result.scatter(&rows, &narrowed);
                break;
            }
            match group.field {
                Some(field) if self.prefers_distinct(frame, field) => {
                    let distinct = self.distinct_frame(field);
                    let over_values = Column::Truth(Arc::new(self.group(&distinct, group, decisive)));
                    combine(&mut result, &over_values.gather(&self.positions(frame, field)).truth(frame.len), decisive);
                }
                _ => combine(&mut result, &self.group(frame, group, decisive), decisive),
            }
        }
        result
    }

    /// One operand after the other, up to where all rows are decided.
    fn group(&mut self, frame: &Frame, group: &Group, decisive: bool) -> Truth {
        let mut result = Truth::all(frame.len, Some(!decisive));
        for any in &group.any {
            let operand = self.any_of(frame, any);
            combine(&mut result, &operand.truth(frame.len), decisive);
        }
        for node in &group.nodes {
            let operand = self.node(frame, *node);
            combine(&mut result, &operand.truth(frame.len), decisive);
            if result.count(decisive) == frame.len {
                break;
            }
        }
        result
    }

    /// Rows of the frame as rows of the batch.
    fn batch_rows(&self, frame: &Frame, rows: &[u32]) -> UInt32Array {
        match &frame.domain {
            Domain::Rows(of_batch) => rows.iter().map(|row| of_batch.value(*row as usize)).collect::<Vec<_>>().into(),
            _ => rows.to_vec().into(),
        }
    }

    fn case(&mut self, frame: &Frame, args: Args, ty: Type) -> Column {
        let expr = &self.program.expr;
        let args = expr.args(args);
        let mut conditions = Vec::with_capacity(args.len() / 2);
        let mut values = Vec::with_capacity(args.len() / 2 + 1);
        for branch in args.chunks(2) {
            if let [condition, _] = branch {
                conditions.push(self.node(frame, *condition).truth(frame.len));
            }
            let value = branch[branch.len() - 1];
            values.push((self.node(frame, value), expr.ty(value)));
        }
        build(
            ty,
            (0..frame.len).map(|row| {
                let branch = conditions.iter().position(|condition| condition.get(row) == Some(true)).unwrap_or(conditions.len());
                values.get(branch).map_or(Value::Null, |(column, ty)| column.value(*ty, row))
            }),
        )
    }
}

fn combine(result: &mut Truth, operand: &Truth, decisive: bool) {
    if decisive { result.or(operand) } else { result.and(operand) }
}
