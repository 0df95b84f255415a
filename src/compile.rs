//! From rules to an artifact: parse, check, normal form, tables; all diagnostics of all rules.
//!
//! Conditions are lowered on all cores, a chunk at a time; the chunks are merged in the order of the sources, so that equal sources give equal bytes.

use crate::event::key::{Key, KeyKind};
use crate::event::set::Set;
use crate::event::{Schema, Type, Value};
use crate::expr::{Expr, Node};
use crate::id::{FieldId, NodeId};
use crate::parallel::map_in_order;
use crate::rule::lint;
use crate::rule::lists::Lists;
use crate::rule::normal::{self, Columns};
use crate::rule::oracle::Oracle;
use crate::rule::template::parse_value;
use crate::rule::{Action, Diagnostic, Limits, Rule, RuleTest, Severity, Status, check, print};
use crate::tables::artifact::{ArtifactWriter, Column, ColumnSource, Manifest, RuleRecord, SOURCE_BLOCK, Section};
use crate::tables::builder::{BuiltTables, TableBuilder};
use crate::tables::layout::NONE;
use foldhash::fast::FixedState;
use std::sync::Arc;

type HashMap<K, V> = std::collections::HashMap<K, V, FixedState>;
type HashSet<K> = std::collections::HashSet<K, FixedState>;

/// Rules lowered at a time: whole blocks of sources.
const CHUNK_RULES: usize = SOURCE_BLOCK * 16;

/// Column numbers from here on are derived columns of the chunk.
const DERIVED: u32 = 1 << 24;

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
    let mut merger = Merger::new(context);
    let mut rules = rules.peekable();
    let chunks = std::iter::from_fn(|| rules.peek().is_some().then(|| rules.by_ref().take(CHUNK_RULES).collect::<Vec<Rule>>()));
    map_in_order(
        chunks,
        context.threads,
        |chunk| lower(chunk, context),
        |lowered| {
            merger.merge(lowered);
            true
        },
    );
    merger.finish()
}

/// A chunk of rules, lowered to terms whose columns are fields, or derived columns of the chunk.
struct Lowered {
    rules: Vec<LoweredRule>,
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
    terms: Vec<LoweredTerm>,
    /// Kept where a term names a derived column, in case there is no room for it.
    expr: Option<Expr>,
    diagnostics: Vec<Diagnostic>,
    tests: usize,
    checked: bool,
}

struct LoweredTerm {
    members: Vec<(u32, Set)>,
    residual: Option<Vec<u8>>,
}

/// Columns of one chunk: fields, and a derived column for each expression met.
struct ChunkColumns<'a> {
    schema: &'a Schema,
    derived: Vec<Derived>,
    by_identity: HashMap<Vec<u8>, u32>,
    limit: usize,
}

impl Columns for ChunkColumns<'_> {
    fn column(&mut self, expr: &Expr, operand: NodeId) -> Option<normal::Column> {
        if let Node::Field(field) = expr.node(operand) {
            KeyKind::of(self.schema.field(*field).ty)?;
            return Some(normal::Column(field.0));
        }
        let derived = derived(expr, operand)?;
        if let Some(&known) = self.by_identity.get(&derived.identity) {
            return Some(normal::Column(DERIVED + known));
        }
        if self.derived.len() >= self.limit {
            return None;
        }
        let number = self.derived.len() as u32;
        self.by_identity.insert(derived.identity.clone(), number);
        self.derived.push(derived);
        Some(normal::Column(DERIVED + number))
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

fn lower(rules: Vec<Rule>, context: &Context) -> Lowered {
    let mut columns = ChunkColumns {
        schema: context.schema,
        derived: Vec::new(),
        by_identity: HashMap::default(),
        limit: context.limits.derived_columns,
    };
    let mut sources = Vec::with_capacity(rules.len().div_ceil(SOURCE_BLOCK));
    let mut lowered = Vec::with_capacity(rules.len());
    let mut texts = Vec::new();
    let count = rules.len();
    for (position, rule) in rules.into_iter().enumerate() {
        let (rule, text) = lower_rule(rule, context, &mut columns);
        lowered.push(rule);
        texts.extend_from_slice(&(text.len() as u32).to_le_bytes());
        texts.extend_from_slice(text.as_bytes());
        if (position + 1) % SOURCE_BLOCK == 0 || position + 1 == count {
            sources.push(zstd::bulk::compress(&texts, 1).expect("texts in memory are packed into memory"));
            texts.clear();
        }
    }
    Lowered { rules: lowered, derived: columns.derived, sources }
}

fn lower_rule(rule: Rule, context: &Context, columns: &mut ChunkColumns) -> (LoweredRule, String) {
    let mut lowered = LoweredRule { rule, terms: Vec::new(), expr: None, diagnostics: Vec::new(), tests: 0, checked: false };
    let rule = &lowered.rule;
    let scope = check::Scope { schema: context.schema, lists: context.lists, parameters: &rule.parameters, limits: context.limits };
    if rule.tenant.is_some() && context.schema.tenant.is_none() {
        let message = "the rule belongs to a tenant, but no field names tenants";
        lowered
            .diagnostics
            .push(about(rule, Severity::Error, "no-tenant-field", message).with_hint("name the field in the schema: `tenant: FIELD`"));
    }
    let expr = match check::condition(&rule.when, &rule.origin, Some(&rule.id), &scope) {
        Ok(expr) => expr,
        Err(diagnostics) => {
            lowered.diagnostics.extend(diagnostics);
            return (lowered, String::new());
        }
    };
    lowered.checked = true;
    if !rule.tests.is_empty() {
        let oracle = Oracle::new(&expr);
        for test in &rule.tests {
            match run_test(rule, test, &oracle, context.schema) {
                Ok(()) => lowered.tests += 1,
                Err(diagnostic) => lowered.diagnostics.push(*diagnostic),
            }
        }
    }
    let text = print::condition(&expr, context.schema);
    let terms = normal::terms(&expr, context.schema, columns, context.limits.terms);
    lowered.terms = terms.into_iter().map(|term| lower_term(term, &expr)).collect();
    if lowered.terms.iter().any(|term| term.members.iter().any(|(column, _)| *column >= DERIVED)) {
        lowered.expr = Some(expr);
    }
    (lowered, text)
}

fn lower_term(term: normal::Term, expr: &Expr) -> LoweredTerm {
    let residual = term.residual_expr(expr).map(|residual| bytes_of(&residual));
    LoweredTerm { members: term.members.into_iter().map(|(column, set)| (column.0, set)).collect(), residual }
}

/// A diagnostic about a rule's whole condition.
fn about(rule: &Rule, severity: Severity, code: &'static str, primary: impl Into<String>) -> Diagnostic {
    let end = rule.when.find('\n').unwrap_or(rule.when.len());
    Diagnostic::at(severity, code, &rule.origin, &rule.when, 0..end, primary).with_rule(&rule.id)
}

fn run_test(rule: &Rule, test: &RuleTest, oracle: &Oracle, schema: &Schema) -> Result<(), Box<Diagnostic>> {
    let failed = |code, primary: String| {
        let mut diagnostic = Diagnostic::at(Severity::Error, code, &test.origin, "", 0..0, primary).with_rule(&rule.id);
        diagnostic.excerpt = None;
        Box::new(diagnostic)
    };
    let mut row = vec![Value::Null; schema.fields().len()];
    for (name, value) in &test.event {
        let Some(field) = schema.find(name) else {
            return Err(failed("unknown-field", format!("the test names the field `{name}`, which the schema does not have")));
        };
        let text = match value {
            serde_json::Value::Null => continue,
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let ty = schema.field(field).ty;
        row[field.index()] = parse_value(&text, ty)
            .map_err(|refusal| failed("test-value", format!("the test's value for `{name}` is not of type {ty}: {}", refusal.primary)))?;
    }
    let matches = oracle.holds(&row);
    if matches == test.matches {
        return Ok(());
    }
    let primary =
        if matches { "the test says `no_match`, but the rule matches" } else { "the test says `match`, but the rule does not match" };
    let mut diagnostic = failed("failing-test", primary.to_owned());
    let leaves: Vec<String> = oracle
        .leaves(&row)
        .iter()
        .map(|leaf| {
            let truth = leaf.truth.map_or("unknown", |truth| if truth { "true" } else { "false" });
            let mut alone = Expr::new();
            alone.copy_from(oracle.expr(), leaf.node);
            format!("{} is {truth}", print::condition(&alone, schema))
        })
        .take(8)
        .collect();
    diagnostic.detail = leaves.join("; ");
    diagnostic.hint = "correct the test or the condition".to_owned();
    Err(diagnostic)
}

/// Puts lowered chunks together.
struct Merger<'a> {
    context: &'a Context<'a>,
    builder: TableBuilder,
    columns: Vec<(ColumnSource, KeyKind)>,
    column_of_field: HashMap<FieldId, u32>,
    column_of_derived: HashMap<Vec<u8>, u32>,
    derived: usize,
    residuals: Vec<Vec<u8>>,
    residual_of: HashMap<Vec<u8>, u32>,
    tenants: Vec<String>,
    tenant_of: HashMap<Arc<str>, u32>,
    records: Vec<RuleRecord>,
    ids: HashSet<Arc<str>>,
    names: Vec<Arc<str>>,
    further_names: Vec<Arc<str>>,
    further_name_of: HashMap<Arc<str>, u32>,
    tags: Vec<u32>,
    sources: Vec<Vec<u8>>,
    linter: lint::Linter,
    compiled: Compiled,
    failed: bool,
}

impl<'a> Merger<'a> {
    fn new(context: &'a Context<'a>) -> Self {
        Self {
            context,
            builder: TableBuilder::default(),
            columns: Vec::new(),
            column_of_field: HashMap::default(),
            column_of_derived: HashMap::default(),
            derived: 0,
            residuals: Vec::new(),
            residual_of: HashMap::default(),
            tenants: Vec::new(),
            tenant_of: HashMap::default(),
            records: Vec::new(),
            ids: HashSet::default(),
            names: Vec::new(),
            further_names: Vec::new(),
            further_name_of: HashMap::default(),
            tags: Vec::new(),
            sources: Vec::new(),
            linter: lint::Linter::default(),
            compiled: Compiled::default(),
            failed: false,
        }
    }

    fn merge(&mut self, chunk: Lowered) {
        self.sources.extend(chunk.sources);
        for rule in chunk.rules {
            self.merge_rule(rule, &chunk.derived);
        }
    }

    fn merge_rule(&mut self, mut lowered: LoweredRule, chunk_derived: &[Derived]) {
        let rule = lowered.rule;
        self.compiled.tests += lowered.tests;
        self.failed |= lowered.diagnostics.iter().any(Diagnostic::is_error);
        self.compiled.diagnostics.append(&mut lowered.diagnostics);
        if !self.ids.insert(Arc::clone(&rule.id)) {
            let duplicate = about(&rule, Severity::Error, "duplicate-id", format!("a rule with the id `{}` came before", rule.id));
            self.compiled.diagnostics.push(duplicate.with_hint("ids are unique over all sources of an artifact"));
            self.failed = true;
        }
        if self.records.len() >= self.context.limits.rules {
            if self.records.len() == self.context.limits.rules {
                let message = format!("there are more than {} rules", self.context.limits.rules);
                self.compiled.diagnostics.push(about(&rule, Severity::Error, "too-many-rules", message));
            }
            self.failed = true;
            return;
        }
        let number = self.records.len() as u32;
        let tenant = rule.tenant.as_ref().map_or(NONE, |tenant| self.tenant(tenant));
        let record = RuleRecord {
            score: rule.score,
            tenant,
            outcome: rule.outcome.as_ref().map_or(NONE, |outcome| self.further_name(outcome)),
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
            let tag = self.further_name(tag);
            self.tags.push(tag);
        }
        self.records.push(record);
        self.names.push(Arc::clone(&rule.id));
        self.compiled.rules += 1;
        if self.failed || !lowered.checked {
            return;
        }
        let terms = self.resolve(lowered.terms, lowered.expr.as_ref(), chunk_derived);
        let views: Vec<lint::TermView> = terms.iter().map(|term| (term.members.as_slice(), term.residual.as_deref())).collect();
        let warnings = self.linter.lint(tenant, &rule.id, &views);
        self.compiled.diagnostics.extend(
            warnings.into_iter().map(|finding| about(&rule, Severity::Warning, finding.code, finding.primary).with_hint(finding.hint)),
        );
        if rule.status == Status::Off {
            return;
        }
        let partition = if tenant == NONE { 0 } else { tenant + 1 };
        for term in terms {
            let residual = term.residual.map_or(NONE, |bytes| self.residual(bytes));
            self.builder.push(partition, number, term.members.iter().map(|(column, set)| (*column, set)), residual);
        }
    }

    /// Gives the terms the columns of the artifact. Where there is no room for a derived column, the rule is lowered again, with those there are.
    fn resolve(&mut self, mut terms: Vec<LoweredTerm>, expr: Option<&Expr>, chunk_derived: &[Derived]) -> Vec<LoweredTerm> {
        if let Some(expr) = expr {
            let mut wanted: Vec<u32> =
                terms.iter().flat_map(|term| term.members.iter().map(|(column, _)| *column).filter(|column| *column >= DERIVED)).collect();
            wanted.sort_unstable();
            wanted.dedup();
            let new =
                wanted.iter().filter(|c| !self.column_of_derived.contains_key(&chunk_derived[(**c - DERIVED) as usize].identity)).count();
            if self.derived + new > self.context.limits.derived_columns {
                let context = self.context;
                let again = normal::terms(expr, context.schema, &mut FrozenColumns { merger: self }, context.limits.terms);
                return again.into_iter().map(|term| lower_term(term, expr)).collect();
            }
        }
        for term in &mut terms {
            for (column, _) in &mut term.members {
                *column = if *column < DERIVED {
                    self.field_column(FieldId(*column))
                } else {
                    self.derived_column(&chunk_derived[(*column - DERIVED) as usize])
                };
            }
            term.members.sort_unstable_by_key(|(column, _)| *column);
        }
        terms
    }

    fn field_column(&mut self, field: FieldId) -> u32 {
        let columns = &mut self.columns;
        *self.column_of_field.entry(field).or_insert_with(|| {
            let kind = KeyKind::of(self.context.schema.field(field).ty).expect("columns are made of fields with keys");
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

    fn residual(&mut self, bytes: Vec<u8>) -> u32 {
        if let Some(&known) = self.residual_of.get(&bytes) {
            return known;
        }
        let number = self.residuals.len() as u32;
        self.residual_of.insert(bytes.clone(), number);
        self.residuals.push(bytes);
        number
    }

    fn tenant(&mut self, tenant: &Arc<str>) -> u32 {
        if let Some(&known) = self.tenant_of.get(tenant) {
            return known;
        }
        let number = self.tenants.len() as u32;
        self.tenants.push(tenant.to_string());
        self.tenant_of.insert(Arc::clone(tenant), number);
        number
    }

    /// A name that is not a rule's: numbered after those, once their number is known.
    fn further_name(&mut self, name: &Arc<str>) -> u32 {
        if let Some(&known) = self.further_name_of.get(name) {
            return known;
        }
        let number = self.further_names.len() as u32;
        self.further_names.push(Arc::clone(name));
        self.further_name_of.insert(Arc::clone(name), number);
        number
    }

    fn finish(mut self) -> Compiled {
        self.compiled.diagnostics.extend(self.linter.finish());
        if self.failed {
            return self.compiled;
        }
        let rules = self.records.len() as u32;
        for record in self.records.iter_mut().filter(|record| record.outcome != NONE) {
            record.outcome += rules;
        }
        self.tags.iter_mut().for_each(|tag| *tag += rules);
        self.names.append(&mut self.further_names);
        if self.columns.is_empty() {
            // Tables have at least one column; where no rule has a threshold it is that of a constant.
            let mut constant = Expr::new();
            constant.push(Node::Constant(Value::Null), Type::Int);
            self.columns.push((ColumnSource::Derived(constant), KeyKind::Narrow));
        }
        self.ids = HashSet::default();
        let built = std::mem::take(&mut self.builder).finish(self.columns.len(), self.tenants.len() + 1);
        let artifact = self.write(built);
        self.compiled.artifact = Some(artifact);
        self.compiled
    }

    fn write(&mut self, built: BuiltTables) -> Vec<u8> {
        let schema = self.context.schema;
        let mut narrow: Vec<u64> = Vec::new();
        let mut wide: Vec<[u64; 2]> = Vec::new();
        let mut texts = Texts::default();
        let mut codes: [Vec<u32>; 3] = Default::default();
        let mut columns = Vec::with_capacity(self.columns.len());
        for ((source, kind), thresholds) in self.columns.drain(..).zip(built.thresholds) {
            let start = codes[kind as usize].len() as u64;
            for key in thresholds.keys {
                match key {
                    Key::Narrow(key) => narrow.push(key),
                    Key::Wide([high, low]) => wide.push([low, high]),
                    Key::Text(text) => texts.push(text.as_bytes()),
                }
            }
            codes[kind as usize].extend(thresholds.codes);
            let keys = start..codes[kind as usize].len() as u64;
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
            tenants: std::mem::take(&mut self.tenants),
            columns,
        };
        let manifest = postcard::to_stdvec(&manifest).expect("a manifest in memory is written to memory");
        let codes = codes.concat();
        let names: Texts = self.names.iter().map(|name| name.as_bytes()).collect();
        let residuals: Texts = self.residuals.iter().map(Vec::as_slice).collect();
        let sources: Texts = self.sources.iter().map(Vec::as_slice).collect();
        let mut writer = ArtifactWriter::default();
        writer.add(Section::Manifest, &manifest);
        writer.add(Section::Partitions, &built.partitions);
        writer.add(Section::Segments, &built.segments);
        writer.add(Section::Nodes, &built.nodes);
        writer.add(Section::NodeChildren, &built.node_children);
        writer.add(Section::Groups, &built.groups);
        writer.add(Section::LeafBlocks, &built.leaf_blocks);
        writer.add(Section::Terms, &built.terms);
        writer.add(Section::Tails, &built.tails);
        writer.add(Section::SetTests, &built.set_tests);
        writer.add(Section::Intervals, &built.intervals);
        writer.add(Section::NarrowKeys, &narrow);
        writer.add(Section::WideKeys, &wide);
        writer.add(Section::Codes, &codes);
        writer.add(Section::Rules, &self.records);
        writer.add(Section::Tags, &self.tags);
        for (texts, offsets, bytes) in [
            (&texts, Section::TextOffsets, Section::TextBytes),
            (&names, Section::NameOffsets, Section::NameBytes),
            (&residuals, Section::ResidualOffsets, Section::ResidualBytes),
            (&sources, Section::SourceOffsets, Section::SourceBytes),
        ] {
            writer.add(offsets, &texts.offsets);
            writer.add(bytes, &texts.bytes);
        }
        writer.finish()
    }
}

/// The columns that the artifact has so far, and no new ones.
struct FrozenColumns<'m, 'a> {
    merger: &'m mut Merger<'a>,
}

impl Columns for FrozenColumns<'_, '_> {
    fn column(&mut self, expr: &Expr, operand: NodeId) -> Option<normal::Column> {
        if let Node::Field(field) = expr.node(operand) {
            KeyKind::of(self.merger.context.schema.field(*field).ty)?;
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
}

impl<'a> FromIterator<&'a [u8]> for Texts {
    fn from_iter<I: IntoIterator<Item = &'a [u8]>>(parts: I) -> Self {
        let mut texts = Self::default();
        parts.into_iter().for_each(|part| texts.push(part));
        texts
    }
}
