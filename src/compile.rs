//! From rules to an artifact: parse, check, normal form, tables; all diagnostics of all rules.
//!
//! Conditions are lowered on all cores, a chunk at a time; the chunks are merged in the order of the sources, so that equal sources give equal bytes.
//! `trial` runs the tests inside rules.

pub mod files;
mod trial;

use crate::event::key::{Key, KeyKind};
use crate::event::{Schema, Type, Value};
use crate::expr::oracle::Oracle;
use crate::expr::{Expr, Node};
use crate::id::{FieldId, NodeId};
use crate::parallel::map_in_order;
use crate::pattern::Pattern;
use crate::rule::Clause;
use crate::rule::inline::{self, Mention};
use crate::rule::lint::{self, FormTerm, Outline};
use crate::rule::lists::Lists;
use crate::rule::normal::{self, Columns};
use crate::rule::window::{Columns as WindowColumns, may_state_window};
use crate::rule::{Action, Diagnostic, Limits, Origin, Rule, RuleTest, SEQUENCE, Severity, Status, check, print};
use crate::tables::artifact::{ArtifactWriter, Column, ColumnSource, Manifest, RuleRecord, SOURCE_BLOCK, Section};
use crate::tables::builder::{BatchNumbers, BuiltTables, TableBuilder, TermBatch};
use crate::tables::layout::NONE;
use foldhash::fast::FixedState;
use std::borrow::Cow;
use std::hash::{BuildHasher, Hash};
use std::ops::Range;
use std::sync::Arc;
use zstd::bulk::Compressor;

type HashMap<K, V> = std::collections::HashMap<K, V, FixedState>;
type HashSet<K> = std::collections::HashSet<K, FixedState>;

/// Rules lowered at a time: whole blocks of sources.
const CHUNK_RULES: usize = SOURCE_BLOCK * 16;

/// What rules are compiled against.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub schema: &'a Schema,
    pub lists: &'a Lists,
    pub limits: &'a Limits,
    /// Threads that lower conditions, at least 1.
    pub threads: usize,
}

/// What compiling gave.
#[derive(Debug, Default)]
pub struct Compiled {
    /// The bytes of the artifact; `None` where there are errors.
    pub artifact: Option<Vec<u8>>,
    pub rules: usize,
    /// Tests inside the files that passed.
    pub tests: usize,
    /// Sorted by nothing: in the order of the rules.
    pub diagnostics: Vec<Diagnostic>,
}

/// Compiles `rules`, in order.
pub fn compile(rules: impl Iterator<Item = Rule>, context: &Context) -> Compiled {
    compile_with_windows(rules, WindowColumns::new(context.schema), context)
}

/// Compiles `rules` over events of `context.schema` and these windows of documents.
pub fn compile_with_windows(rules: impl Iterator<Item = Rule>, windows: WindowColumns, context: &Context) -> Compiled {
    compile_with(rules, windows, context, Some(lint::Linter::default()))
}

/// Compiles rules that are in service already, over the windows that they name: without warnings, which take a fifth of the time or more.
pub fn recompile(rules: impl Iterator<Item = Rule>, windows: WindowColumns, context: &Context) -> Compiled {
    compile_with(rules, windows, context, None)
}

/// Compiles conditions that are typed already, each with the tenant whose rows it is for: condition `i` is rule `i` of the artifact.
pub fn compile_typed(conditions: impl Iterator<Item = (Option<Arc<str>>, Expr)>, context: &Context) -> Compiled {
    let sources = conditions.enumerate().map(|(number, (tenant, expr))| {
        let rule = Rule {
            id: number.to_string().into(),
            tenant,
            when: "".into(),
            clause: Clause::When,
            origin: Origin::default(),
            parameters: Vec::new(),
            score: 0,
            action: Action::Allow,
            status: Status::Live,
            tags: Vec::new(),
            outcome: None,
            tests: Vec::new(),
        };
        Source { rule, typed: Some(expr) }
    });
    compile_sources(sources, WindowColumns::new(context.schema), context, None)
}

fn compile_with(rules: impl Iterator<Item = Rule>, windows: WindowColumns, context: &Context, linter: Option<lint::Linter>) -> Compiled {
    compile_sources(rules.map(|rule| Source { rule, typed: None }), windows, context, linter)
}

/// A rule, and its condition where that was typed elsewhere.
struct Source {
    rule: Rule,
    typed: Option<Expr>,
}

fn compile_sources(
    sources: impl Iterator<Item = Source>,
    mut windows: WindowColumns,
    context: &Context,
    linter: Option<lint::Linter>,
) -> Compiled {
    let mut merger = Merger::new(context, windows.clone(), linter);
    let mut sources = sources.peekable();
    // Windows that conditions state get their columns here, one rule after the other: their numbers do not depend on threads, and are the same in all chunks.
    let chunks = std::iter::from_fn(|| {
        sources.peek()?;
        let chunk: Vec<Source> = sources.by_ref().take(CHUNK_RULES).collect();
        add_windows(&chunk, &mut windows, context);
        Some((chunk, windows.clone()))
    });
    map_in_order(
        chunks,
        context.threads,
        |(chunk, windows)| lower(chunk, windows, context),
        |lowered| {
            merger.merge(lowered);
            true
        },
    );
    merger.finish()
}

fn add_windows(sources: &[Source], windows: &mut WindowColumns, context: &Context) {
    for rule in sources.iter().map(|source| &source.rule).filter(|rule| rule.clause == Clause::When && may_state_window(&rule.when)) {
        let known = windows.clone();
        for window in check::window::stated(&rule.when, &rule.origin, &scope(rule, context, &known)) {
            if windows.all().len() < context.limits.windows {
                windows.add(window);
            }
        }
    }
}

/// What the condition of `rule` may refer to.
fn scope<'s>(rule: &'s Rule, context: &Context<'s>, windows: &'s WindowColumns) -> check::Scope<'s> {
    let Context { lists, limits, .. } = *context;
    check::Scope { schema: windows.schema(), lists, parameters: &rule.parameters, limits, windows: windows.all() }
}

/// A chunk of rules, lowered to terms whose columns are fields or, above those, derived columns of the chunk.
struct Lowered {
    windows: WindowColumns,
    rules: Vec<LoweredRule>,
    terms: Terms,
    derived: Vec<Derived>,
    /// Canonical texts: zstd frames of [`SOURCE_BLOCK`] rules.
    sources: Vec<Vec<u8>>,
}

struct Derived {
    expr: Expr,
    /// The expression as bytes: what makes two of them the same.
    identity: Vec<u8>,
    kind: KeyKind,
}

struct LoweredRule {
    rule: Rule,
    /// [`hash_of_id`] of the rule's id.
    id_hash: u64,
    terms: Range<u32>,
    outline: Outline,
    /// Kept where a term names a derived column, in case there is no room for it.
    expr: Option<Expr>,
    pattern: Option<Arc<Pattern>>,
    diagnostics: Vec<Diagnostic>,
    tests: usize,
    checked: bool,
}

/// Terms, and the residuals that they name by number.
#[derive(Default)]
struct Terms {
    batch: TermBatch,
    residuals: Distinct<Vec<u8>>,
}

impl Terms {
    /// Adds the terms of a condition. `column` names columns as [`Outline::add`] asks.
    fn add(&mut self, terms: Vec<normal::Term>, expr: &Expr, column: impl Fn(u32) -> u64) -> (Range<u32>, Outline) {
        let first = self.batch.len();
        let mut outline = Outline::default();
        for term in terms {
            let residual = term.residual_expr(expr).map(|residual| bytes_of(&residual));
            outline.add(&term.members, residual.as_deref(), |normal::Column(number)| column(number));
            let residual = residual.map_or(NONE, |residual| self.residuals.number(residual));
            self.batch.push(term.members.into_iter().map(|(normal::Column(number), set)| (number, set)), residual);
        }
        (first..self.batch.len(), outline)
    }

    /// Terms as the linter compares them; `column` turns the batch's numbers of columns into those of the artifact.
    fn form(&self, terms: Range<u32>, column: impl Fn(u32) -> u32) -> lint::Form {
        let term = |term| {
            let (members, residual) = self.batch.term(term);
            let residual = (residual != NONE).then(|| self.residuals.all[residual as usize].clone());
            FormTerm::new(members.map(|(number, set)| (column(number), set)).collect(), residual)
        };
        lint::Form::new(terms.map(term).collect())
    }
}

/// Values, each once, numbered in the order in which they are first met.
struct Distinct<T> {
    all: Vec<T>,
    numbers: HashMap<T, u32>,
}

impl<T> Default for Distinct<T> {
    fn default() -> Self {
        Self { all: Vec::new(), numbers: HashMap::default() }
    }
}

impl<T: Clone + Eq + Hash> Distinct<T> {
    fn number(&mut self, value: T) -> u32 {
        if let Some(&known) = self.numbers.get(&value) {
            return known;
        }
        let number = self.all.len() as u32;
        self.all.push(value.clone());
        self.numbers.insert(value, number);
        number
    }
}

/// Columns of one chunk: fields, and a derived column for each expression met.
struct ChunkColumns<'a> {
    schema: &'a Schema,
    derived: Vec<Derived>,
    by_identity: HashMap<Vec<u8>, u32>,
    limit: usize,
}

impl ChunkColumns<'_> {
    /// A name of a column that is the same in all chunks.
    fn name(&self, column: u32) -> u64 {
        let fields = self.schema.fields().len() as u32;
        column.checked_sub(fields).map_or_else(|| u64::from(column), |derived| hash(&self.derived[derived as usize].identity))
    }
}

impl Columns for ChunkColumns<'_> {
    fn column(&mut self, expr: &Expr, operand: NodeId) -> Option<normal::Column> {
        if let Node::Field(field) = expr.node(operand) {
            KeyKind::of(self.schema.field(*field).ty)?;
            return Some(normal::Column(field.0));
        }
        let first = self.schema.fields().len() as u32;
        let derived = derived(expr, operand)?;
        if let Some(&known) = self.by_identity.get(&derived.identity) {
            return Some(normal::Column(first + known));
        }
        if self.derived.len() >= self.limit {
            return None;
        }
        let number = self.derived.len() as u32;
        self.by_identity.insert(derived.identity.clone(), number);
        self.derived.push(derived);
        Some(normal::Column(first + number))
    }
}

/// The column that `operand` would be. Conditions are none: they are residuals, which are looked at for candidates only.
fn derived(expr: &Expr, operand: NodeId) -> Option<Derived> {
    let ty = expr.ty(operand);
    let kind = KeyKind::of(ty)?;
    if ty == Type::Bool {
        return None;
    }
    let mut alone = Expr::new();
    alone.copy_from(expr, operand);
    let identity = bytes_of(&alone);
    Some(Derived { expr: alone, identity, kind })
}

fn bytes_of(expr: &Expr) -> Vec<u8> {
    postcard::to_stdvec(expr).expect("an expression in memory is written to memory")
}

fn hash<T: Hash + ?Sized>(value: &T) -> u64 {
    FixedState::default().hash_one(value)
}

fn lower(rules: Vec<Source>, windows: WindowColumns, context: &Context) -> Lowered {
    let mut columns = ChunkColumns {
        schema: windows.schema(),
        derived: Vec::new(),
        by_identity: HashMap::default(),
        limit: context.limits.derived_columns,
    };
    let mut terms = Terms::default();
    let mut sources = Vec::with_capacity(rules.len().div_ceil(SOURCE_BLOCK));
    let mut lowered = Vec::with_capacity(rules.len());
    let mut compressor = Compressor::new(1).expect("1 is a level of zstd");
    let mut texts = Vec::new();
    let mut text = String::new();
    let count = rules.len();
    for (position, rule) in rules.into_iter().enumerate() {
        text.clear();
        lowered.push(lower_rule(rule, context, &windows, &mut columns, &mut terms, &mut text));
        texts.extend_from_slice(&(text.len() as u32).to_le_bytes());
        texts.extend_from_slice(text.as_bytes());
        if (position + 1) % SOURCE_BLOCK == 0 || position + 1 == count {
            sources.push(compressor.compress(&texts).expect("texts in memory are packed into memory"));
            texts.clear();
        }
    }
    let derived = columns.derived;
    Lowered { windows, rules: lowered, terms, derived, sources }
}

/// What a look at one rule alone gives.
#[derive(Debug)]
pub struct Checked {
    /// The typed condition; `None` where it is not sound, and of a pattern.
    pub expr: Option<Expr>,
    /// The typed pattern, likewise.
    pub pattern: Option<Arc<Pattern>>,
    /// What the text of a pattern names of the document around it.
    pub mentions: Vec<Mention>,
    /// Tests of the rule that passed.
    pub tests: usize,
    pub diagnostics: Vec<Diagnostic>,
}

impl Checked {
    fn run_tests(&mut self, rule: &Rule, run: impl Fn(&RuleTest) -> Result<(), Box<Diagnostic>>) {
        for test in &rule.tests {
            match run(test) {
                Ok(()) => self.tests += 1,
                Err(diagnostic) => self.diagnostics.push(*diagnostic),
            }
        }
    }
}

/// Types the text of a rule, which may name `windows`, and runs the rule's own tests.
#[must_use]
pub fn check_rule(rule: &Rule, windows: &WindowColumns, context: &Context) -> Checked {
    let mut checked = Checked { expr: None, pattern: None, mentions: Vec::new(), tests: 0, diagnostics: Vec::new() };
    let scope = scope(rule, context, windows);
    if rule.tenant.is_some() && context.schema.tenant.is_none() {
        let message = "the rule belongs to a tenant, but no field names tenants";
        checked
            .diagnostics
            .push(about(rule, Severity::Error, "no-tenant-field", message).with_hint("name the field in the schema: `tenant: FIELD`"));
    }
    if rule.clause != Clause::When {
        let scope = check::Scope { schema: windows.named_schema(), windows: &[], ..scope };
        match check::pattern::read(&rule.when, rule.clause, &rule.origin, Some(&rule.id), &scope) {
            Ok((pattern, mentions)) => {
                if pattern.is_unbounded(scope.schema) {
                    let (message, place) = match rule.clause {
                        Clause::Sequence => ("a match may wait for ever: the sequence has no WITHIN", "before the steps"),
                        _ => ("a match may wait for ever: the pattern repeats without bounds, and has no WITHIN", "after PATTERN"),
                    };
                    let hint = format!("add WITHIN INTERVAL … {place}; over a stream its state grows without bounds");
                    checked.diagnostics.push(about(rule, Severity::Warning, "unbounded-pattern", message).with_hint(hint));
                }
                let pattern = checked.pattern.insert(Arc::new(pattern)).clone();
                checked.mentions = mentions;
                checked.run_tests(rule, |test| trial::of_pattern(rule, test, &pattern, scope.schema));
            }
            Err(diagnostics) => checked.diagnostics.extend(diagnostics),
        }
        return checked;
    }
    let expr = match check::condition(&rule.when, &rule.origin, Some(&rule.id), &scope) {
        Ok(expr) => expr,
        Err(diagnostics) => {
            checked.diagnostics.extend(diagnostics);
            return checked;
        }
    };
    if !rule.tests.is_empty() {
        let oracle = Oracle::new(&expr);
        checked.run_tests(rule, |test| trial::of_condition(rule, test, &oracle, scope.schema));
    }
    checked.expr = Some(expr);
    checked
}

/// Lowers one rule, adds its terms to `terms`, and writes its canonical text to `text`.
fn lower_rule(
    Source { rule, typed }: Source,
    context: &Context,
    windows: &WindowColumns,
    columns: &mut ChunkColumns,
    terms: &mut Terms,
    text: &mut String,
) -> LoweredRule {
    let Checked { expr, pattern, mentions, tests, diagnostics } = match typed {
        Some(expr) => Checked { expr: Some(expr), pattern: None, mentions: Vec::new(), tests: 0, diagnostics: Vec::new() },
        None => check_rule(&rule, windows, context),
    };
    let schema = windows.schema();
    let mut lowered = LoweredRule {
        id_hash: hash(&*rule.id),
        rule,
        terms: 0..0,
        outline: Outline::default(),
        expr: None,
        diagnostics,
        tests,
        checked: expr.is_some() || pattern.is_some(),
        pattern,
    };
    if lowered.pattern.is_some() {
        // Its text is canonical once it names nothing of its document but windows, and says what it is.
        if lowered.rule.clause == Clause::Sequence {
            text.push_str(SEQUENCE);
        }
        inline::write(&lowered.rule.when, &mentions, &|_| None, text);
    }
    let Some(expr) = expr else { return lowered };
    print::write_condition(&expr, schema, text);
    let found = normal::terms(&expr, schema, columns, context.limits.terms);
    let first_derived = normal::Column(schema.fields().len() as u32);
    let derived = found.iter().any(|term| term.members.last().is_some_and(|(column, _)| *column >= first_derived));
    (lowered.terms, lowered.outline) = terms.add(found, &expr, |column| columns.name(column));
    lowered.expr = derived.then_some(expr);
    lowered
}

/// A diagnostic about a rule's whole condition.
pub(crate) fn about(rule: &Rule, severity: Severity, code: &'static str, primary: impl Into<String>) -> Diagnostic {
    let end = rule.when.find('\n').unwrap_or(rule.when.len());
    Diagnostic::at(severity, code, &rule.origin, &rule.when, 0..end, primary).with_rule(&rule.id)
}

/// Puts lowered chunks together.
struct Merger<'a> {
    context: &'a Context<'a>,
    /// Those of the last chunk: all so far.
    windows: WindowColumns,
    builder: TableBuilder,
    columns: Vec<(ColumnSource, KeyKind)>,
    column_of_field: HashMap<FieldId, u32>,
    column_of_derived: HashMap<Vec<u8>, u32>,
    derived: usize,
    residuals: Distinct<Vec<u8>>,
    tenants: Distinct<Arc<str>>,
    records: Vec<RuleRecord>,
    ids: Ids,
    /// Names that are not a rule's: numbered after those, once their number is known.
    further_names: Distinct<Arc<str>>,
    tags: Vec<u32>,
    sources: Vec<Vec<u8>>,
    patterns: Vec<(u32, Arc<Pattern>)>,
    linter: Option<lint::Linter>,
    compiled: Compiled,
    failed: bool,
}

impl<'a> Merger<'a> {
    fn new(context: &'a Context<'a>, windows: WindowColumns, linter: Option<lint::Linter>) -> Self {
        Self {
            context,
            windows,
            builder: TableBuilder::default(),
            columns: Vec::new(),
            column_of_field: HashMap::default(),
            column_of_derived: HashMap::default(),
            derived: 0,
            residuals: Distinct::default(),
            tenants: Distinct::default(),
            records: Vec::new(),
            ids: Ids::default(),
            further_names: Distinct::default(),
            tags: Vec::new(),
            sources: Vec::new(),
            patterns: Vec::new(),
            linter,
            compiled: Compiled::default(),
            failed: false,
        }
    }

    fn merge(&mut self, chunk: Lowered) {
        self.sources.extend(chunk.sources);
        self.windows = chunk.windows;
        let mut numbers = Numbers::of(&chunk.terms);
        for rule in chunk.rules {
            self.merge_rule(rule, &chunk.terms, &chunk.derived, &mut numbers);
        }
    }

    fn merge_rule(&mut self, mut lowered: LoweredRule, terms: &Terms, derived: &[Derived], numbers: &mut Numbers) {
        let rule = &lowered.rule;
        self.compiled.tests += lowered.tests;
        self.failed |= lowered.diagnostics.iter().any(Diagnostic::is_error);
        self.compiled.diagnostics.append(&mut lowered.diagnostics);
        if !self.ids.insert(&rule.id, lowered.id_hash) {
            let duplicate = about(rule, Severity::Error, "duplicate-id", format!("a rule with the id `{}` came before", rule.id));
            self.compiled.diagnostics.push(duplicate.with_hint("ids are unique over all sources of an artifact"));
            self.failed = true;
        }
        if self.records.len() >= self.context.limits.rules {
            if self.records.len() == self.context.limits.rules {
                let message = format!("there are more than {} rules", self.context.limits.rules);
                self.compiled.diagnostics.push(about(rule, Severity::Error, "too-many-rules", message));
            }
            self.failed = true;
            return;
        }
        let tenant = rule.tenant.as_ref().map_or(NONE, |tenant| self.tenants.number(Arc::clone(tenant)));
        let record = RuleRecord {
            score: rule.score,
            tenant,
            outcome: rule.outcome.as_ref().map_or(NONE, |outcome| self.further_names.number(Arc::clone(outcome))),
            first_tag: self.tags.len() as u32,
            tags: rule.tags.len().min(usize::from(u16::MAX)) as u16,
            action: match rule.action {
                Action::Allow => 0,
                Action::Review => 1,
                Action::Challenge => 2,
                Action::Block => 3,
            },
            status: match rule.status {
                Status::Live => 0,
                Status::Shadow => 1,
                Status::Off => 2,
            },
        };
        for tag in rule.tags.iter().take(usize::from(record.tags)) {
            self.tags.push(self.further_names.number(Arc::clone(tag)));
        }
        self.records.push(record);
        self.compiled.rules += 1;
        if self.failed || !lowered.checked {
            return;
        }
        if let Some(pattern) = lowered.pattern {
            self.patterns.push((self.records.len() as u32 - 1, pattern));
            return;
        }
        if let Some(expr) = &lowered.expr
            && !self.has_room(terms.batch.columns_of(lowered.terms.clone()), derived)
        {
            // Lowered again, with the columns that there are.
            let (limits, windows) = (self.context.limits, self.windows.clone());
            let found = normal::terms(expr, windows.schema(), &mut FrozenColumns { merger: self }, limits.terms);
            let mut terms = Terms::default();
            let (range, outline) = terms.add(found, expr, |column| self.column_name(column));
            let mut numbers = Numbers::of(&terms);
            for column in terms.batch.columns_of(range.clone()) {
                numbers.batch.column(column, || column);
            }
            self.add(rule, tenant, (&terms, range), outline, &mut numbers);
            return;
        }
        for column in terms.batch.columns_of(lowered.terms.clone()) {
            let fields = self.windows.schema().fields().len() as u32;
            numbers.batch.column(column, || match column.checked_sub(fields) {
                None => self.field_column(FieldId(column)),
                Some(number) => self.derived_column(&derived[number as usize]),
            });
        }
        self.add(rule, tenant, (terms, lowered.terms), lowered.outline, numbers);
    }

    /// Whether the derived columns among `columns` are there already, or may still be added.
    fn has_room(&self, columns: impl Iterator<Item = u32>, derived: &[Derived]) -> bool {
        let fields = self.windows.schema().fields().len() as u32;
        let mut wanted: Vec<u32> = columns.filter_map(|column| column.checked_sub(fields)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let new = wanted.iter().filter(|number| !self.column_of_derived.contains_key(&derived[**number as usize].identity)).count();
        self.derived + new <= self.context.limits.derived_columns
    }

    /// Adds the terms of the last rule. The columns that they name have their numbers.
    fn add(&mut self, rule: &Rule, tenant: u32, (terms, range): (&Terms, Range<u32>), outline: Outline, numbers: &mut Numbers) {
        let number = self.records.len() as u32 - 1;
        let (ids, batch) = (&self.ids, &numbers.batch);
        let form = || terms.form(range.clone(), |column| batch.known(column));
        let linter = self.linter.as_mut();
        let warnings = linter.map(|linter| linter.lint(tenant, number, outline, |rule| ids.name(rule), form)).unwrap_or_default();
        self.compiled.diagnostics.extend(
            warnings.into_iter().map(|finding| about(rule, Severity::Warning, finding.code, finding.primary).with_hint(finding.hint)),
        );
        if rule.status == Status::Off {
            return;
        }
        let partition = if tenant == NONE { 0 } else { tenant + 1 };
        let residual = |residual: u32| {
            let known = &mut numbers.residuals[residual as usize];
            if *known == NONE {
                *known = self.residuals.number(terms.residuals.all[residual as usize].clone());
            }
            *known
        };
        self.builder.append(partition, number, (&terms.batch, range), &mut numbers.batch, residual);
    }

    /// A name of a column as [`ChunkColumns::name`] gives it.
    fn column_name(&self, column: u32) -> u64 {
        match &self.columns[column as usize].0 {
            ColumnSource::Field(field) => u64::from(field.0),
            ColumnSource::Derived(expr) => hash(&bytes_of(expr)),
        }
    }

    fn field_column(&mut self, field: FieldId) -> u32 {
        let columns = &mut self.columns;
        *self.column_of_field.entry(field).or_insert_with(|| {
            let kind = KeyKind::of(self.windows.schema().field(field).ty).expect("columns are made of fields with keys");
            columns.push((ColumnSource::Field(field), kind));
            columns.len() as u32 - 1
        })
    }

    fn derived_column(&mut self, derived: &Derived) -> u32 {
        if let Some(&column) = self.column_of_derived.get(&derived.identity) {
            return column;
        }
        self.derived += 1;
        self.columns.push((ColumnSource::Derived(derived.expr.clone()), derived.kind));
        let column = self.columns.len() as u32 - 1;
        self.column_of_derived.insert(derived.identity.clone(), column);
        column
    }

    fn finish(mut self) -> Compiled {
        self.compiled.diagnostics.extend(self.linter.iter_mut().flat_map(lint::Linter::finish));
        if self.failed {
            return self.compiled;
        }
        let rules = self.records.len() as u32;
        for record in self.records.iter_mut().filter(|record| record.outcome != NONE) {
            record.outcome += rules;
        }
        self.tags.iter_mut().for_each(|tag| *tag += rules);
        self.further_names.all.iter().for_each(|name| self.ids.names.push(name.as_bytes()));
        if self.columns.is_empty() {
            // Tables have at least one column; where no rule has a threshold it is that of a constant.
            let mut constant = Expr::new();
            constant.push(Node::Constant(Value::Null), Type::Int);
            self.columns.push((ColumnSource::Derived(constant), KeyKind::Narrow));
        }
        (self.ids.numbers, self.linter) = Default::default();
        let built = std::mem::take(&mut self.builder).finish(self.columns.len(), self.tenants.all.len() + 1, self.context.threads);
        let artifact = self.write(built);
        self.compiled.artifact = Some(artifact);
        self.compiled
    }

    fn write(&mut self, built: BuiltTables) -> Vec<u8> {
        let schema = self.windows.schema();
        let mut narrow: Vec<u64> = Vec::new();
        let mut wide: Vec<[u64; 2]> = Vec::new();
        let mut texts = Texts::default();
        let mut counts = [0; 3];
        let mut columns = Vec::with_capacity(self.columns.len());
        for ((source, kind), thresholds) in self.columns.drain(..).zip(built.thresholds) {
            let start = counts[kind as usize];
            counts[kind as usize] += thresholds.keys.len() as u64;
            let keys = start..counts[kind as usize];
            for key in thresholds.keys {
                match key {
                    Key::Narrow(key) => narrow.push(key),
                    Key::Wide([high, low]) => wide.push([low, high]),
                    Key::Text(text) => texts.push(text.as_bytes()),
                }
            }
            columns.push(Column { source, kind, keys, points_only: thresholds.points_only });
        }
        let manifest = Manifest {
            compiler: env!("CARGO_PKG_VERSION").to_owned(),
            fields: schema.fields().to_vec(),
            id: schema.id,
            tenant: schema.tenant,
            time: schema.time,
            key: schema.key,
            label: schema.label,
            tenants: self.tenants.all.iter().map(ToString::to_string).collect(),
            columns,
        };
        let manifest = postcard::to_stdvec(&manifest).expect("a manifest in memory is written to memory");
        let patterns = if self.patterns.is_empty() {
            Vec::new()
        } else {
            postcard::to_stdvec(&self.patterns).expect("patterns in memory are written to memory")
        };
        let windows = if self.windows.all().is_empty() {
            Vec::new()
        } else {
            postcard::to_stdvec(self.windows.all()).expect("windows in memory are written to memory")
        };
        let residuals: Texts = self.residuals.all.iter().map(Vec::as_slice).collect();
        let sources: Texts = self.sources.iter().map(Vec::as_slice).collect();
        let mut writer = ArtifactWriter::default();
        writer.add(Section::Manifest, &manifest);
        writer.add(Section::Partitions, &built.partitions);
        writer.add(Section::Segments, &built.segments);
        writer.add(Section::Nodes, &built.nodes);
        writer.add(Section::NodeChildren, &built.node_children);
        writer.add(Section::Groups, &built.groups);
        writer.add(Section::LeafSlots, &built.leaf_slots);
        writer.add(Section::TermRules, &built.term_rules);
        writer.add(Section::TailRefs, &built.tail_refs);
        writer.add(Section::NodeBitmaps, &built.node_bitmaps);
        writer.add(Section::BitmapTiles, &built.bitmap_tiles);
        writer.add(Section::BitmapColumns, &built.bitmap_columns);
        writer.add(Section::Bitmaps, &built.bitmaps);
        writer.add(Section::Tails, &built.tails);
        writer.add(Section::SetTests, &built.set_tests);
        writer.add(Section::Intervals, &built.intervals);
        writer.add(Section::NarrowKeys, &narrow);
        writer.add(Section::WideKeys, &wide);
        writer.add(Section::Steps, &built.steps);
        writer.add(Section::Rules, &self.records);
        writer.add(Section::Tags, &self.tags);
        writer.add(Section::Patterns, &patterns);
        writer.add(Section::Windows, &windows);
        for (texts, offsets, bytes) in [
            (&texts, Section::TextOffsets, Section::TextBytes),
            (&self.ids.names, Section::NameOffsets, Section::NameBytes),
            (&residuals, Section::ResidualOffsets, Section::ResidualBytes),
            (&sources, Section::SourceOffsets, Section::SourceBytes),
        ] {
            writer.add(offsets, &texts.offsets);
            writer.add(bytes, &texts.bytes);
        }
        writer.finish()
    }
}

/// The numbers of a chunk's terms in the artifact.
struct Numbers {
    batch: BatchNumbers,
    residuals: Vec<u32>,
}

impl Numbers {
    fn of(terms: &Terms) -> Self {
        Self { batch: BatchNumbers::new(&terms.batch), residuals: vec![NONE; terms.residuals.all.len()] }
    }
}

/// The ids of the rules, in order, and which came before. A table of their hashes stays small, and grows without a look at the ids.
#[derive(Default)]
struct Ids {
    names: Texts,
    /// The first rule whose id has this hash.
    numbers: HashMap<u64, u32>,
    /// Ids whose hash is that of another, earlier id.
    others: HashSet<Vec<u8>>,
}

impl Ids {
    /// Adds an id; `false` where it came before.
    fn insert(&mut self, id: &str, hash: u64) -> bool {
        let number = self.names.offsets.len() as u32 - 1;
        let first = *self.numbers.entry(hash).or_insert(number);
        let new = first == number || *self.names.get(first as usize) != *id.as_bytes() && self.others.insert(id.as_bytes().to_vec());
        self.names.push(id.as_bytes());
        new
    }

    /// The id of rule `rule`.
    fn name(&self, rule: u32) -> Cow<'_, str> {
        String::from_utf8_lossy(self.names.get(rule as usize))
    }
}

/// The columns that the artifact has so far, and no new ones.
struct FrozenColumns<'m, 'a> {
    merger: &'m mut Merger<'a>,
}

impl Columns for FrozenColumns<'_, '_> {
    fn column(&mut self, expr: &Expr, operand: NodeId) -> Option<normal::Column> {
        if let Node::Field(field) = expr.node(operand) {
            KeyKind::of(self.merger.windows.schema().field(*field).ty)?;
            return Some(normal::Column(self.merger.field_column(*field)));
        }
        let identity = derived(expr, operand)?.identity;
        self.merger.column_of_derived.get(&identity).map(|column| normal::Column(*column))
    }
}

/// Byte strings, one after the other, and where each ends.
struct Texts {
    offsets: Vec<u64>,
    bytes: Vec<u8>,
}

impl Default for Texts {
    fn default() -> Self {
        Self { offsets: vec![0], bytes: Vec::new() }
    }
}

impl Texts {
    fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.offsets.push(self.bytes.len() as u64);
    }

    fn get(&self, index: usize) -> &[u8] {
        &self.bytes[self.offsets[index] as usize..self.offsets[index + 1] as usize]
    }
}

impl<'a> FromIterator<&'a [u8]> for Texts {
    fn from_iter<I: IntoIterator<Item = &'a [u8]>>(parts: I) -> Self {
        let mut texts = Self::default();
        parts.into_iter().for_each(|part| texts.push(part));
        texts
    }
}
