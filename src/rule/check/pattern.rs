//! MATCH_RECOGNIZE, and sequences: from their syntax to a typed [`Pattern`].
//!
//! Inside of it an expression may look at several rows. Its fields are *symbols*: a column of some variables' rows, or what a function like `LAST` makes of
//! one. What is below such a function becomes an expression over one row; what is above it, one over the functions' results.

use super::steps::{steps, takes_further};
use super::{AstId, Checker, Operand, Scope};
use crate::event::{Type, Value};
use crate::expr::{Expr, Node};
use crate::id::FieldId;
use crate::pattern::{
    AggregateFunction, Define, Formula, Label, Labels, Leaf, Measure, Navigation, OrderKey, Output, PASSED, Pattern, Skip, Step,
};
use crate::rule::Clause as Form;
use crate::rule::ast::{MatchFunction, Navigate};
use crate::rule::diagnostic::{Diagnostic, Origin};
use crate::rule::inline::{Mention, What};
use crate::rule::parser::pattern::{self as syntax, Clause, Item, Name, OrderItem, SkipTo, Term, folded};
use crate::rule::parser::shown;
use crate::rule::report::Report;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

const ORDER_BY_TIME: &str = "begin ORDER BY with a timestamp or date, ascending";

/// What a field of an expression in the clause stands for.
#[derive(Clone, Debug, PartialEq)]
enum Symbol {
    /// A value of one row of these variables, as a field of expressions over one row.
    Row {
        labels: Labels,
        field: FieldId,
    },
    Leaf(Leaf),
}

/// What expressions in the clause may refer to.
pub(super) struct Symbols<'c> {
    /// The variables of the pattern, then the subsets.
    names: &'c [(Arc<str>, Labels)],
    /// In DEFINE, which sees the match so far only.
    defines: bool,
    /// The time that rows are in the order of.
    time: Option<FieldId>,
    /// Where the expressions of the clause end in its syntax, in the order of the text.
    roots: Vec<usize>,
    found: Vec<Symbol>,
    /// What the text names of the document around it, so far.
    mentions: Vec<Mention>,
}

/// A call of an aggregate.
pub(super) struct Aggregate {
    pub function: MatchFunction,
    pub distinct: bool,
    pub argument: Option<AstId>,
    pub second: Option<AstId>,
    pub filter: Option<AstId>,
    pub running: Option<bool>,
}

/// The typed form of a pattern that is written as `form` says, and stands at `origin`.
///
/// # Errors
/// Its first syntax error, or all errors of names and types.
pub fn pattern(text: &str, form: Form, origin: &Origin, rule: Option<&Arc<str>>, scope: &Scope<'_>) -> Result<Pattern, Vec<Diagnostic>> {
    read(text, form, origin, rule, scope).map(|(pattern, _)| pattern)
}

/// The same, and what the text names of the document around it.
///
/// # Errors
/// As [`pattern`].
pub fn read(
    text: &str,
    form: Form,
    origin: &Origin,
    rule: Option<&Arc<str>>,
    scope: &Scope<'_>,
) -> Result<(Pattern, Vec<Mention>), Vec<Diagnostic>> {
    let mut report = Report::new(text, origin, rule);
    let Some((clause, ast)) = syntax::parse(text, form, scope.limits, &mut report) else { return Err(report.into_errors()) };
    let mut names: Vec<(Arc<str>, Labels)> = Vec::new();
    let mut terms = vec![&clause.pattern];
    let mut labels: Vec<Arc<str>> = Vec::new();
    // In the order of the text.
    let mut label = |name: &Name<'_>| {
        if !labels.iter().any(|label| **label == *name.name) {
            labels.push((&*name.name).into());
        }
    };
    while let Some(term) = terms.pop() {
        match term {
            Term::Row(name) => label(name),
            Term::Await { name, except, .. } => except.iter().flatten().chain(name).for_each(&mut label),
            Term::Sequence(inner) | Term::Either(inner) | Term::Permute(inner) => terms.extend(inner.iter().rev()),
            Term::Excluded(inner) | Term::Repeated { term: inner, .. } => terms.push(inner),
            _ => {}
        }
    }
    if labels.len() > usize::from(PASSED) {
        report.error("limit", clause.pattern_span.clone(), "the pattern has too many variables");
        return Err(report.into_errors());
    }
    names.extend(labels.iter().zip(0..).map(|(name, label)| (Arc::clone(name), Labels::Of(vec![label]))));
    for (name, members) in &clause.subsets {
        if names.iter().any(|(known, _)| **known == *name.name) {
            report.error("duplicate-variable", name.span.clone(), format!("there is a variable `{}` already", shown(&name.name)));
            continue;
        }
        let mut of = Vec::new();
        for member in members {
            match labels.iter().position(|label| **label == *member.name) {
                Some(label) => of.push(label as Label),
                None => unknown_variable(&mut report, member, &labels),
            }
        }
        of.sort_unstable();
        of.dedup();
        names.push(((&*name.name).into(), Labels::Of(of)));
    }
    let expressions = clause.measures.iter().chain(&clause.defines).map(|item| item.root).chain(clause.within);
    let mut roots: Vec<usize> = expressions.map(AstId::index).collect();
    roots.sort_unstable();
    let symbols = Symbols { names: &names, defines: false, time: None, roots, found: Vec::new(), mentions: Vec::new() };
    let operands = vec![Operand::Invalid; ast.nodes().len()];
    let mut checker =
        Checker { scope, ast: &ast, report, expr: Expr::new(), operands, full: false, symbols: Some(symbols), windows: Default::default() };
    let found = checker.clause(&clause, labels);
    match found {
        Some(pattern) if !checker.report.failed() => Ok((pattern, checker.symbols.map_or_else(Vec::new, |symbols| symbols.mentions))),
        _ => Err(checker.report.into_errors()),
    }
}

fn unknown_variable(report: &mut Report<'_>, name: &Name<'_>, labels: &[Arc<str>]) {
    let error = report.error("unknown-variable", name.span.clone(), format!("the pattern has no variable `{}`", shown(&name.name)));
    if let Some(near) = super::suggest::closest(&name.name, labels.iter().map(|label| &**label)) {
        error.hint(format!("did you mean `{near}`?"));
    }
}

impl Checker<'_, '_> {
    fn clause(&mut self, clause: &Clause<'_>, labels: Vec<Arc<str>>) -> Option<Pattern> {
        let fields = self.scope.schema.fields().len() as u32;
        let partition_by: Vec<Option<FieldId>> = clause.partition_by.iter().map(|name| self.named_field(name)).collect();
        let order_by = match &clause.order_by {
            Some(items) => items.iter().map(|item| self.order_key(item)).collect(),
            None => vec![self.by_time(&clause.pattern_span)],
        };
        let by_time = |key: &OrderKey| !key.descending && matches!(self.scope.schema.field(key.field).ty, Type::Timestamp(_) | Type::Date);
        let time = order_by.first().copied().flatten().filter(by_time).map(|key| key.field);
        self.symbols.as_mut()?.time = time;
        let mut measures: Vec<Measure> = Vec::new();
        for Item { name, root } in &clause.measures {
            if measures.iter().any(|measure| *measure.name == *name.name) {
                self.report.error("duplicate-measure", name.span.clone(), format!("there are two measures `{}`", shown(&name.name)));
            }
            if let Some(formula) = self.formula(*root, false) {
                let json = matches!(formula.leaves.as_slice(), [Leaf::Aggregate { function: AggregateFunction::Array, .. }])
                    && matches!(formula.expr.nodes(), [Node::Field(_)]);
                measures.push(Measure { name: (&*name.name).into(), formula, json });
            }
        }
        let within = clause.within.map(|root| self.interval(root));
        if let (Some(_), Some(root), None) = (within, clause.within, time) {
            self.error("no-time-order", root, "WITHIN is about time, and the rows are not in its order").hint(ORDER_BY_TIME);
        }
        let mut defines: Vec<Define> = vec![Define::Always; labels.len()];
        let mut defined: Vec<&str> = Vec::new();
        for Item { name, root } in &clause.defines {
            let formula = self.formula(*root, true);
            let Some(label) = labels.iter().position(|label| **label == *name.name) else {
                unknown_variable(&mut self.report, name, &labels);
                continue;
            };
            if defined.contains(&&*name.name) {
                self.report.error("duplicate-variable", name.span.clone(), format!("`{}` is defined twice", shown(&name.name)));
            }
            defined.push(&name.name);
            if let Some(formula) = formula {
                defines[label] = define(formula, label as Label, fields);
            }
        }
        let skip = match &clause.skip {
            SkipTo::PastLastRow => Some(Skip::PastLastRow),
            SkipTo::NextRow => Some(Skip::ToNextRow),
            SkipTo::First(name) => self.variables(name).map(Skip::ToFirst),
            SkipTo::Last(name) => self.variables(name).map(Skip::ToLast),
        };
        let (steps, excludes) = match steps(&clause.pattern, &labels) {
            Ok(built) => built,
            Err(why) => {
                self.report.error("limit", clause.pattern_span.clone(), why);
                return None;
            }
        };
        self.skip_moves(clause, skip.as_ref(), &steps);
        if excludes && matches!(clause.output, Output::AllRows { unmatched: true, .. }) {
            let (primary, hint) = match clause.order_by {
                Some(_) => ("a pattern with {- … -} cannot put out unmatched rows", "leave out WITH UNMATCHED ROWS, or the exclusion"),
                None => ("a sequence cannot put out unmatched rows", "leave out WITH UNMATCHED ROWS"),
            };
            self.report.error("unsupported", clause.pattern_span.clone(), primary).hint(hint);
        }
        Some(Pattern {
            partition_by: partition_by.into_iter().collect::<Option<_>>()?,
            order_by: order_by.into_iter().collect::<Option<_>>()?,
            measures,
            output: clause.output,
            skip: skip?,
            within: match within {
                Some(within) => Some(within?),
                None => None,
            },
            labels,
            defines,
            steps,
            fields,
        })
    }

    /// Refuses a skip to a row that is the match's first in every match that has it.
    fn skip_moves(&mut self, clause: &Clause<'_>, skip: Option<&Skip>, steps: &[Step]) {
        let (SkipTo::First(name) | SkipTo::Last(name)) = &clause.skip else { return };
        let further = match skip {
            Some(Skip::ToFirst(labels)) => takes_further(steps, labels, true),
            Some(Skip::ToLast(labels)) => takes_further(steps, labels, false),
            _ => return,
        };
        if !further {
            let primary = format!("no match has a row of `{}` behind its first row: the search would stay where it is", shown(&name.name));
            self.report
                .error("skip-to-first-row", name.span.clone(), primary)
                .hint("AFTER MATCH SKIP TO NEXT ROW begins again at the next row");
        }
    }

    fn order_key(&mut self, item: &OrderItem<'_>) -> Option<OrderKey> {
        let field = self.named_field(&item.field)?;
        // As in SQL's default: NULL is above every value.
        let nulls_first = item.nulls_first.unwrap_or(item.descending);
        Some(OrderKey { field, descending: item.descending, nulls_first })
    }

    /// The order of a sequence.
    fn by_time(&mut self, span: &Range<usize>) -> Option<OrderKey> {
        let time = self.scope.schema.time;
        if time.is_none() {
            self.report
                .error("no-time-field", span.clone(), "a sequence is in the order of event time, and no field is that")
                .hint("name the field in the schema: `time: FIELD`");
        }
        Some(OrderKey { field: time?, descending: false, nulls_first: false })
    }

    fn named_field(&mut self, name: &Name<'_>) -> Option<FieldId> {
        let schema = self.scope.schema;
        let found = schema.find(&name.name).or_else(|| {
            let mut alike = (0..).zip(schema.fields()).filter(|(_, field)| field.name.eq_ignore_ascii_case(&name.name));
            alike.next().filter(|_| alike.next().is_none()).map(|(index, _)| FieldId(index))
        });
        if let Some(field) = found {
            self.mention(name.span.clone(), What::Column { variable: None, field });
        } else {
            let error = self.report.error("unknown-field", name.span.clone(), format!("unknown field `{}`", shown(&name.name)));
            if let Some(near) = super::suggest::closest(&name.name, schema.fields().iter().map(|field| field.name.as_str())) {
                error.hint(format!("did you mean `{near}`?"));
            }
        }
        found
    }

    fn variables(&mut self, name: &Name<'_>) -> Option<Labels> {
        let names = self.symbols.as_ref()?.names;
        if let Some((_, labels)) = names.iter().find(|(known, _)| **known == *name.name) {
            return Some(labels.clone());
        }
        let all: Vec<Arc<str>> = names.iter().map(|(name, _)| Arc::clone(name)).collect();
        unknown_variable(&mut self.report, name, &all);
        None
    }

    /// Checks the nodes up to `root`, which come after those of the expression before it in the text. The operand that they become.
    fn checked(&mut self, root: AstId, defines: bool) -> Option<Operand> {
        self.expr = Expr::new();
        let symbols = self.symbols.as_mut()?;
        symbols.found.clear();
        symbols.defines = defines;
        let before = symbols.roots.partition_point(|other| *other < root.index());
        let first = before.checked_sub(1).map_or(0, |before| symbols.roots[before] + 1);
        for id in self.ast.ids().take(root.index() + 1).skip(first) {
            self.operands[id.index()] = self.operand(id).unwrap_or(Operand::Invalid);
            if self.full {
                let primary = format!("an expression has more than {} operations and constants", self.scope.limits.nodes);
                self.report.error("limit", 0..0, primary);
                return None;
            }
        }
        if defines {
            self.boolean("the definition of a variable", root)?;
        }
        Some(self.operands[root.index()].clone())
    }

    fn interval(&mut self, root: AstId) -> Option<i64> {
        match self.checked(root, false)? {
            Operand::Constant(Value::Interval { months: 0, days, nanoseconds }) => {
                let length = i64::from(days).checked_mul(86_400_000_000_000).and_then(|days| days.checked_add(nanoseconds));
                if let Some(length) = length.filter(|length| *length > 0) {
                    return Some(length);
                }
                self.error("invalid-literal", root, "WITHIN needs an interval above zero, of at most 292 years");
            }
            Operand::Invalid => {}
            _ => {
                self.error("type-mismatch", root, "WITHIN needs an interval of days or less")
                    .hint("write it as WITHIN INTERVAL '10' MINUTE; a month has no fixed length");
            }
        }
        None
    }

    fn formula(&mut self, root: AstId, defines: bool) -> Option<Formula> {
        let operand = self.checked(root, defines)?;
        let root = match operand {
            Operand::Invalid => return None,
            Operand::Constant(value) => {
                let ty = value.ty();
                self.push(Node::Constant(value), ty)
            }
            Operand::Node(node) => node,
        };
        let mut expr = Expr::new();
        expr.copy_from(&self.expr, root);
        let used = expr.fields();
        let found = &self.symbols.as_ref()?.found;
        // A bare column is that of the last row so far.
        let leaves = used.iter().map(|field| match &found[field.index()] {
            Symbol::Leaf(leaf) => leaf.clone(),
            Symbol::Row { labels, field } => {
                let navigation = Navigation { labels: labels.clone(), last: true, skip: 0, offset: 0, running: true };
                Leaf::Value { navigation, expr: row_field(self.scope, *field) }
            }
        });
        let leaves = leaves.collect();
        let expr = expr.with_fields(|field| FieldId::new(used.binary_search(&field).unwrap_or(0)));
        Some(Formula { expr, leaves })
    }

    fn symbol(&mut self, symbol: Symbol, ty: Type) -> Option<Operand> {
        let found = &mut self.symbols.as_mut()?.found;
        let at = found.iter().position(|known| *known == symbol).unwrap_or_else(|| {
            found.push(symbol);
            found.len() - 1
        });
        self.operation(Node::Field(FieldId::new(at)), ty)
    }

    /// `name`, or `VARIABLE.name`.
    pub(super) fn column(&mut self, id: AstId, name: &str) -> Option<Operand> {
        let (variable, labels, name) = match name.split_once('.') {
            Some((variable, rest)) if self.scope.schema.find(name).is_none() => {
                let quoted = matches!(self.report.text().as_bytes().get(self.ast.span(id).start), Some(b'"' | b'`'));
                let variable = folded(Cow::Borrowed(variable), quoted);
                match self.symbols.as_ref()?.names.iter().find(|(known, _)| **known == *variable) {
                    Some((variable, labels)) => (Some(Arc::clone(variable)), labels.clone(), rest),
                    None => (None, Labels::All, name),
                }
            }
            _ => (None, Labels::All, name),
        };
        let field = self.field(id, name)?;
        self.mention(self.ast.span(id), What::Column { variable, field });
        self.symbol(Symbol::Row { labels, field }, self.scope.schema.field(field).ty)
    }

    /// Notes what the text of a pattern names of the document around it.
    pub(super) fn mention(&mut self, span: Range<usize>, what: What) {
        if let Some(symbols) = &mut self.symbols {
            symbols.mentions.push(Mention { span, what });
        }
    }

    pub(super) fn classifier(&mut self, id: AstId, of: Option<&str>) -> Option<Operand> {
        let labels = match of {
            None => Labels::All,
            Some(name) => self.variables(&Name { name: name.into(), span: self.ast.span(id) })?,
        };
        let field = FieldId::new(self.scope.schema.fields().len());
        self.symbol(Symbol::Row { labels, field }, Type::Text)
    }

    pub(super) fn match_number(&mut self) -> Option<Operand> {
        self.symbol(Symbol::Leaf(Leaf::MatchNumber), Type::Int)
    }

    /// The time of the match's last row.
    pub(super) fn match_rowtime(&mut self, id: AstId) -> Option<Operand> {
        let running = self.running(id, Some(false))?;
        let Some(time) = self.symbols.as_ref()?.time else {
            self.error("no-time-order", id, "MATCH_ROWTIME is about time, and the rows are not in its order").hint(ORDER_BY_TIME);
            return None;
        };
        let navigation = Navigation { labels: Labels::All, last: true, skip: 0, offset: 0, running };
        let leaf = Leaf::Value { navigation, expr: row_field(self.scope, time) };
        self.symbol(Symbol::Leaf(leaf), self.scope.schema.field(time).ty)
    }

    /// The expression at `id` over one row, and the variables whose rows are meant.
    fn over_row(&mut self, id: AstId) -> Option<(Expr, Labels)> {
        let node = match &self.operands[id.index()] {
            Operand::Invalid => return None,
            Operand::Constant(value) => {
                let mut expr = Expr::new();
                expr.push(Node::Constant(value.clone()), value.ty());
                return Some((expr, Labels::All));
            }
            Operand::Node(node) => *node,
        };
        let mut expr = Expr::new();
        expr.copy_from(&self.expr, node);
        let found = &self.symbols.as_ref()?.found;
        let mut labels: Option<Labels> = None;
        let match_number = FieldId::new(self.scope.schema.fields().len() + 1);
        for field in expr.fields() {
            match &found[field.index()] {
                Symbol::Leaf(Leaf::MatchNumber) => {}
                Symbol::Leaf(_) => {
                    self.error("nested-navigation", id, "this function already looks at other rows")
                        .hint("PREV and NEXT may be around FIRST and LAST, and nothing else around any of them");
                    return None;
                }
                Symbol::Row { labels: of, .. } => match &labels {
                    Some(known) if known != of => {
                        self.error("mixed-variables", id, "all columns here must be of the same variable");
                        return None;
                    }
                    _ => labels = Some(of.clone()),
                },
            }
        }
        let expr = expr.with_fields(|field| match &found[field.index()] {
            Symbol::Row { field, .. } => *field,
            Symbol::Leaf(_) => match_number,
        });
        Some((expr, labels.unwrap_or(Labels::All)))
    }

    fn running(&mut self, id: AstId, running: Option<bool>) -> Option<bool> {
        if running == Some(false) && self.symbols.as_ref()?.defines {
            self.error("final-in-define", id, "FINAL is not possible in DEFINE: the match is not complete there");
            return None;
        }
        Some(running.unwrap_or(true))
    }

    pub(super) fn navigate(
        &mut self,
        id: AstId,
        way: Navigate,
        operand: AstId,
        offset: Option<u32>,
        running: Option<bool>,
    ) -> Option<Operand> {
        let ty = self.ty(operand)?;
        let physical = matches!(way, Navigate::Prev | Navigate::Next);
        if physical && running.is_some() {
            self.error("running-prev", id, "RUNNING and FINAL belong to FIRST and LAST").hint("PREV(RUNNING LAST(x))");
            return None;
        }
        let running = self.running(id, running)?;
        let offset = i64::from(offset.unwrap_or(u32::from(physical)));
        let signed = if way == Navigate::Prev { -offset } else { offset };
        if physical
            && let Operand::Node(node) = &self.operands[operand.index()]
            && let Node::Field(field) = self.expr.node(*node)
            && let Symbol::Leaf(Leaf::Value { navigation, expr }) = &self.symbols.as_ref()?.found[field.index()]
            && navigation.offset == 0
        {
            let navigation = Navigation { offset: signed, ..navigation.clone() };
            let leaf = Leaf::Value { navigation, expr: expr.clone() };
            return self.symbol(Symbol::Leaf(leaf), ty);
        }
        if matches!(self.operands[operand.index()], Operand::Constant(_)) {
            self.error("no-column", operand, "this names no column");
            return None;
        }
        let (expr, labels) = self.over_row(operand)?;
        let (last, skip, offset) = match way {
            Navigate::First => (false, offset as u32, 0),
            Navigate::Last => (true, offset as u32, 0),
            Navigate::Prev | Navigate::Next => (true, 0, signed),
        };
        let leaf = Leaf::Value { navigation: Navigation { labels, last, skip, offset, running }, expr };
        self.symbol(Symbol::Leaf(leaf), ty)
    }

    pub(super) fn aggregate(&mut self, id: AstId, call: Aggregate, rows: Option<Option<&str>>) -> Option<Operand> {
        use AggregateFunction as F;
        use MatchFunction as M;
        let running = self.running(id, call.running)?;
        let mut labels = Labels::All;
        let mut argument = None;
        match (call.argument, rows) {
            (Some(operand), _) => {
                let (expr, of) = self.over_row(operand)?;
                (argument, labels) = (Some(expr), of);
            }
            (None, Some(Some(variable))) => labels = self.variables(&Name { name: variable.into(), span: self.ast.span(id) })?,
            (None, _) => {}
        }
        let mut filter = None;
        if let Some(condition) = call.filter {
            self.boolean("the condition of FILTER", condition)?;
            filter = Some(self.over_same_row(condition, &mut labels)?);
        }
        let function = match call.function {
            M::Count => F::Count,
            M::Sum | M::Average | M::Deviation => {
                self.numeric("this aggregate", call.argument?)?;
                match call.function {
                    M::Sum => F::Sum,
                    M::Average => F::Average,
                    _ => F::Deviation,
                }
            }
            M::Minimum => F::Minimum,
            M::Maximum => F::Maximum,
            // FALSE is less than TRUE.
            M::Every | M::Some => {
                self.boolean("what EVERY and SOME ask of rows", call.argument?)?;
                if call.function == M::Every { F::Minimum } else { F::Maximum }
            }
            M::Any => F::Any,
            M::Array => F::Array,
            M::List => {
                self.textual("LISTAGG", call.argument?)?;
                match call.second.map(|between| (between, self.constant(between))) {
                    None => F::List("".into()),
                    Some((_, Some(Value::Text(between)))) => F::List(Arc::clone(between)),
                    Some((between, _)) => {
                        self.error("type-mismatch", between, "what LISTAGG puts between must be a constant string");
                        return None;
                    }
                }
            }
            M::MinimumBy => F::MinimumBy(Box::new(self.over_same_row(call.second?, &mut labels)?)),
            M::MaximumBy => F::MaximumBy(Box::new(self.over_same_row(call.second?, &mut labels)?)),
        };
        let leaf = Leaf::Aggregate { function, distinct: call.distinct, labels, running, argument, filter };
        let ty = leaf.ty();
        self.symbol(Symbol::Leaf(leaf), ty)
    }

    /// The expression at `id` over one row of `labels`, or of its own variable where they are all.
    fn over_same_row(&mut self, id: AstId, labels: &mut Labels) -> Option<Expr> {
        let (expr, of) = self.over_row(id)?;
        if *labels == Labels::All {
            *labels = of;
        } else if of != Labels::All && of != *labels {
            self.error("mixed-variables", id, "all of this function must be about the same variable's rows");
            return None;
        }
        Some(expr)
    }
}

/// A field of one row; behind the schema's own come the name of its variable and the number of the match.
fn row_field(scope: &Scope<'_>, field: FieldId) -> Expr {
    let ty = scope.schema.fields().get(field.index()).map_or(Type::Text, |field| field.ty);
    let mut expr = Expr::new();
    expr.push(Node::Field(field), ty);
    expr
}

/// What makes a row one of `label`: a condition on the row alone, if that is all it asks for.
fn define(formula: Formula, label: Label, fields: u32) -> Define {
    let rows: Option<Vec<&Expr>> = formula
        .leaves
        .iter()
        .map(|leaf| match leaf {
            // The row under test is the last one of its variable.
            Leaf::Value { navigation, expr }
                if navigation.last && navigation.skip == 0 && navigation.offset == 0 && navigation.labels.contain(label) =>
            {
                expr.fields().iter().all(|field| field.0 < fields).then_some(expr)
            }
            _ => None,
        })
        .collect();
    match rows {
        Some(rows) => {
            let expr = formula.expr.substituted(|field| rows[field.index()]);
            let always = matches!(expr.nodes(), [Node::Constant(Value::Bool(true))]);
            if always { Define::Always } else { Define::Row(expr) }
        }
        None => Define::Match(formula),
    }
}
