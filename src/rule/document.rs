//! Rule documents: YAML or JSON, one model. Every problem of every rule is reported, at its place in the file.

use super::attributes::{self, Attributes, Refusal, short};
use super::bulk::RuleRows;
use super::suggest::closest;
use super::table::list_entries;
use super::template::{TYPE_NAMES, Template, parse_type, parse_value};
use super::window::NamedWindow;
use super::yaml::{self, Content, Node, Place, Report, Scalar};
use super::{Clause, Diagnostic, Limits, Origin, Rule, RuleTest, Severity};
use crate::event::Type;
use bytes::Bytes;
use granit_parser::ScalarStyle;
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Gives the content of a file that a document names. The path is already relative to what the document's own path is relative to.
pub type ReadFile<'a> = dyn Fn(&str) -> io::Result<Bytes> + 'a;

/// What a document says.
#[derive(Debug, Default)]
pub struct Document {
    /// The path of the schema file, and where it is named.
    pub schema: Option<(String, Origin)>,
    /// Named lists with their entries as written: text, numbers, booleans.
    pub lists: Vec<(Arc<str>, Vec<serde_json::Value>)>,
    pub windows: Vec<NamedWindow>,
    /// The rules, then the instances whose values stand in the document.
    pub rules: Vec<Rule>,
    /// Instances that come from tables, to be read a chunk at a time.
    pub instances: Vec<RuleRows>,
}

/// Whether a file of this name is a document. Bulk files are .ndjson, .jsonl, .csv and .parquet.
#[must_use]
pub fn is_document(file: &str) -> bool {
    let ending = file.rsplit_once('.').map_or("", |(_, ending)| ending);
    ["yaml", "yml", "json"].iter().any(|known| ending.eq_ignore_ascii_case(known))
}

/// Reads the document `bytes`, which stand in `file`. What is sound is in the document, whatever else is wrong.
pub fn parse_document(file: &str, bytes: &[u8], read: &ReadFile<'_>, limits: &Limits) -> (Document, Vec<Diagnostic>) {
    let source = match yaml::decode(file, bytes, limits) {
        Ok(source) => source,
        Err(diagnostic) => return (Document::default(), vec![*diagnostic]),
    };
    let mut reader =
        Reader { report: Report::new(file.into(), source), read, limits, templates: HashMap::new(), document: Document::default() };
    if let Some(root) = yaml::parse(&mut reader.report) {
        reader.document(&root);
    }
    (reader.document, reader.report.finish())
}

const DOCUMENT_KEYS: &[&str] = &["schema", "lists", "windows", "templates", "rules", "instances"];
const RULE_KEYS: &[&str] =
    &["id", "tenant", "when", "match_recognize", "sequence", "score", "action", "status", "tags", "outcome", "description", "tests"];
/// The keys that a rule's text may stand under.
const CLAUSES: [(&str, Clause); 3] = [("match_recognize", Clause::MatchRecognize), ("sequence", Clause::Sequence), ("when", Clause::When)];
const TEMPLATE_KEYS: &[&str] = &["id", "tenant", "when", "score", "action", "status", "tags", "outcome", "description", "parameters"];
const INSTANCE_KEYS: &[&str] = &["template", "from", "values"];
const LIST_FILE_KEYS: &[&str] = &["file", "column"];
const LIST_ENTRY_KEYS: &[&str] = &["value", "expires"];
const TEST_KEYS: &[&str] = &["match", "no_match"];

struct Reader<'a> {
    report: Report<'a>,
    read: &'a ReadFile<'a>,
    limits: &'a Limits,
    templates: HashMap<Arc<str>, Arc<Template>>,
    document: Document,
}

/// The entries of a mapping, each key once and known.
struct Fields<'n, 'a> {
    place: Place,
    entries: Vec<(&'n Node<'a>, &'n str, &'n Node<'a>)>,
}

impl<'n, 'a> Fields<'n, 'a> {
    fn get(&self, key: &str) -> Option<&'n Node<'a>> {
        self.entries.iter().find(|(_, known, _)| *known == key).map(|(_, _, value)| *value)
    }

    /// The place of the key itself.
    fn key_place(&self, key: &str) -> Place {
        self.entries.iter().find(|(_, known, _)| *known == key).map_or(self.place, |(node, ..)| node.place)
    }
}

impl<'a> Reader<'a> {
    fn refuse(&mut self, place: Place, refusal: Refusal) {
        self.report.error(refusal.code, place, refusal.primary, refusal.hint);
    }

    fn wrong_type(&mut self, node: &Node<'_>, what: &str, expected: &str, hint: &str) {
        self.report.error("wrong-type", node.place, format!("{what} must be {expected}, not {}", node.kind()), hint);
    }

    /// The entries of a mapping whose keys are names of the writer's choice.
    fn entries<'n>(&mut self, node: &'n Node<'a>, what: &str) -> Option<Fields<'n, 'a>> {
        let Content::Mapping(entries) = &node.content else {
            self.wrong_type(node, what, "a mapping (`key: value`)", "");
            return None;
        };
        let mut seen: HashMap<&str, u32> = HashMap::with_capacity(entries.len());
        let mut fields = Fields { place: node.place, entries: Vec::with_capacity(entries.len()) };
        for (key, value) in entries {
            let Some(name) = key.text() else {
                self.wrong_type(key, "a key", "text", "");
                continue;
            };
            if let Some(first) = seen.insert(name, key.place.line) {
                let message = format!("the key `{}` occurs twice in {what}", short(name));
                self.report.error("duplicate-key", key.place, message, format!("it is first given in line {first}"));
                continue;
            }
            fields.entries.push((key, name, value));
        }
        Some(fields)
    }

    /// The entries of a mapping whose keys are among `known`.
    fn fields<'n>(&mut self, node: &'n Node<'a>, what: &str, known: &[&str]) -> Option<Fields<'n, 'a>> {
        let mut fields = self.entries(node, what)?;
        fields.entries.retain(|(key, name, _)| {
            if known.contains(name) {
                return true;
            }
            let hint = match closest(name, known.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None if *name == "<<" => "merge keys are not part of YAML 1.2; an alias (`*name`) repeats a whole value".into(),
                None => format!("known keys are {}", known.join(", ")),
            };
            self.report.error("unknown-key", key.place, format!("unknown key `{}` in {what}", short(name)), hint);
            false
        });
        Some(fields)
    }

    fn sequence<'n>(&mut self, node: &'n Node<'a>, what: &str) -> &'n [Node<'a>] {
        match &node.content {
            Content::Sequence(items) => items,
            // A key without a value is an empty list.
            Content::Scalar { .. } if node.scalar() == Some(Scalar::Null) => &[],
            _ => {
                self.wrong_type(node, what, "a list (`- item`)", "");
                &[]
            }
        }
    }

    /// A scalar that must be text and not look like anything else.
    fn text<'n>(&mut self, node: &'n Node<'a>, what: &str) -> Option<&'n str> {
        if node.scalar() == Some(Scalar::Text) {
            return node.text();
        }
        self.wrong_type(node, what, "text", if node.text().is_some() { "write it in quotes" } else { "" });
        None
    }

    /// A scalar that names something: whatever it looks like, its text counts.
    fn name(&mut self, node: &Node<'a>, what: &str) -> Option<Arc<str>> {
        match (node.scalar(), node.text()) {
            (Some(Scalar::Null) | None, _) | (_, None) => {
                self.wrong_type(node, what, "text", "");
                None
            }
            (_, Some(text)) => match attributes::name(what, text, self.limits) {
                Ok(name) => Some(name),
                Err(refusal) => {
                    self.refuse(node.place, refusal);
                    None
                }
            },
        }
    }

    fn document(&mut self, root: &Node<'a>) {
        let Some(fields) = self.fields(root, "the document", DOCUMENT_KEYS) else { return };
        if let Some(node) = fields.get("schema")
            && let Some(path) = self.text(node, "`schema`")
        {
            self.document.schema = Some((self.resolve_path(path), self.report.origin(node)));
        }
        if let Some(node) = fields.get("lists") {
            self.lists(node);
        }
        if let Some(node) = fields.get("windows") {
            self.windows(node);
        }
        for node in fields.get("templates").map_or(&[][..], |node| self.sequence(node, "`templates`")) {
            self.template(node);
        }
        for node in fields.get("rules").map_or(&[][..], |node| self.sequence(node, "`rules`")) {
            self.rule(node);
        }
        for node in fields.get("instances").map_or(&[][..], |node| self.sequence(node, "`instances`")) {
            self.instances(node);
        }
    }

    fn not_supported(&mut self, place: Place, what: &str) {
        self.report.error("not-supported-yet", place, format!("{what} is not supported yet"), "");
    }

    /// A path that the document names, relative to what the document's own path is relative to.
    fn resolve_path(&self, path: &str) -> String {
        let folder = Path::new(&*self.report.file).parent().unwrap_or_else(|| Path::new(""));
        folder.join(path).to_string_lossy().into_owned()
    }

    fn read_file(&mut self, node: &Node<'a>, what: &str) -> Option<(String, Bytes)> {
        let path = self.text(node, what)?;
        let path = self.resolve_path(path);
        match (self.read)(&path) {
            Ok(bytes) => Some((path, bytes)),
            Err(error) => {
                let message = format!("the file `{}` cannot be read", short(&path));
                let diagnostic = self.report.diagnostic(Severity::Error, "unreadable-file", node.place, message);
                self.report.push(diagnostic.with_detail(error.to_string()).with_hint("paths are relative to the document"));
                None
            }
        }
    }

    fn lists(&mut self, node: &Node<'a>) {
        let Some(lists) = self.entries(node, "`lists`") else { return };
        for (key, name, value) in lists.entries {
            let name = match attributes::name("name of the list", name, self.limits) {
                Ok(name) => name,
                Err(refusal) => {
                    self.refuse(key.place, refusal);
                    continue;
                }
            };
            let entries = match &value.content {
                Content::Mapping(_) => self.list_file(value),
                _ => self.list_values(value, &name),
            };
            self.document.lists.push((name, entries));
        }
    }

    fn windows(&mut self, node: &Node<'a>) {
        let Some(windows) = self.entries(node, "`windows`") else { return };
        for (key, name, value) in windows.entries {
            match attributes::name("name of the window", name, self.limits) {
                Ok(name) => {
                    if let Some(text) = self.text(value, "a window") {
                        self.document.windows.push(NamedWindow { name, text: text.into(), origin: self.report.origin(value) });
                    }
                }
                Err(refusal) => self.refuse(key.place, refusal),
            }
        }
    }

    fn list_file(&mut self, node: &Node<'a>) -> Vec<serde_json::Value> {
        let Some(fields) = self.fields(node, "a list", LIST_FILE_KEYS) else { return Vec::new() };
        let column = fields.get("column").and_then(|node| self.name(node, "column"));
        let Some(file) = fields.get("file") else {
            self.report.error("missing-key", node.place, "the list names no file", "`{file: entries.txt}`, or the entries themselves");
            return Vec::new();
        };
        let Some((path, bytes)) = self.read_file(file, "`file`") else { return Vec::new() };
        match list_entries(&path, bytes, column.as_deref(), self.limits.list_entries) {
            Ok(entries) => entries,
            Err(diagnostic) => {
                self.report.push(*diagnostic);
                Vec::new()
            }
        }
    }

    fn list_values(&mut self, node: &Node<'a>, name: &str) -> Vec<serde_json::Value> {
        let items = self.sequence(node, "a list of values");
        if items.len() > self.limits.list_entries {
            let message = format!("the list `{name}` has {} entries, more than the {} allowed", items.len(), self.limits.list_entries);
            self.report.error("list-too-long", node.place, message, "");
            return Vec::new();
        }
        let mut entries = Vec::with_capacity(items.len());
        for item in items {
            let value = match &item.content {
                Content::Mapping(_) => {
                    let Some(fields) = self.fields(item, "a list entry", LIST_ENTRY_KEYS) else { continue };
                    if fields.get("expires").is_some() {
                        self.not_supported(fields.key_place("expires"), "an entry that expires");
                    }
                    let Some(value) = fields.get("value") else {
                        self.report.error("missing-key", item.place, "the list entry has no value", "`{value: …, expires: …}`");
                        continue;
                    };
                    value
                }
                _ => item,
            };
            if value.scalar().is_none() {
                self.wrong_type(value, "a list entry", "text, a number or a boolean", "");
                continue;
            }
            entries.push(value.json());
        }
        entries
    }

    /// The name of a parameter: what may follow the `:` in a condition.
    fn identifier(&mut self, key: &Node<'a>, name: &str) -> Option<Arc<str>> {
        let sound = name.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_alphanumeric() || c == '_')
            && name.len() <= self.limits.name_bytes;
        if sound {
            return Some(name.into());
        }
        let message = format!("`{}` cannot name a parameter", short(name));
        self.report.error("bad-name", key.place, message, "a name is letters, digits and `_`, and starts with no digit");
        None
    }

    /// The score, action and so on of a rule, a template or an instance.
    fn attributes(&mut self, fields: &Fields<'_, 'a>, mut attributes: Attributes) -> Attributes {
        for key in attributes::KEYS {
            let Some(node) = fields.get(key) else { continue };
            if key == "tags" {
                let tags = self.sequence(node, "`tags`");
                attributes.tags = tags.iter().filter_map(|tag| self.name(tag, "tag")).collect();
                continue;
            }
            let text = match (key, node.scalar(), &node.content) {
                // A malformed number such as 1.2.3 is text to YAML; the score itself says best what is wrong with it.
                ("score", Some(Scalar::Number(_) | Scalar::Text), Content::Scalar { text, style: ScalarStyle::Plain, .. }) => text,
                ("score", ..) => {
                    self.wrong_type(node, "`score`", "a number", "write it without quotes");
                    continue;
                }
                (_, Some(Scalar::Null), _) | (_, None, _) => {
                    self.wrong_type(node, &format!("`{key}`"), "text", "");
                    continue;
                }
                (_, _, Content::Scalar { text, .. }) => text,
                _ => continue,
            };
            if let Err(refusal) = attributes.set(key, text, self.limits) {
                self.refuse(node.place, refusal);
            }
        }
        attributes
    }

    /// The id of a rule or template.
    fn id(&mut self, fields: &Fields<'_, 'a>, what: &str) -> Option<Arc<str>> {
        match fields.get("id") {
            Some(node) => self.name(node, "id"),
            None => {
                self.report.error("missing-key", fields.place, format!("the {what} has no id"), "give it a name that is its own: `id: …`");
                None
            }
        }
    }

    fn condition(&mut self, fields: &Fields<'_, 'a>, what: &str) -> Option<(Arc<str>, Origin)> {
        let Some(node) = fields.get("when") else {
            self.report.error("missing-key", fields.place, format!("the {what} has no condition"), "`when: amount > 100`");
            return None;
        };
        let when = self.text(node, "`when`")?;
        if when.trim().is_empty() {
            self.report.error("missing-condition", node.place, format!("the condition of the {what} is empty"), "`when: amount > 100`");
            return None;
        }
        Some((when.into(), self.report.origin(node)))
    }

    /// The text of a pattern, which stands under `key`.
    fn row_pattern(&mut self, fields: &Fields<'_, 'a>, key: &str) -> Option<(Arc<str>, Origin)> {
        let node = fields.get(key)?;
        let text = self.text(node, &format!("`{key}`"))?;
        Some((text.into(), self.report.origin(node)))
    }

    /// What the rule's text is, by the key that it stands under.
    fn clause(&mut self, fields: &Fields<'_, 'a>) -> Clause {
        let mut given = CLAUSES.iter().filter(|(key, _)| fields.get(key).is_some());
        let Some((key, clause)) = given.next() else { return Clause::When };
        for (other, _) in given {
            let hint = "a rule has one; a condition on single rows is part of the pattern";
            self.report.error("two-conditions", fields.key_place(other), format!("the rule has both `{other}` and `{key}`"), hint);
        }
        *clause
    }

    fn rule(&mut self, node: &Node<'a>) {
        let found = self.report.len();
        let Some(fields) = self.fields(node, "a rule", RULE_KEYS) else { return };
        let id = self.id(&fields, "rule");
        let attributes = self.attributes(&fields, Attributes::default());
        let clause = self.clause(&fields);
        let condition = match clause {
            Clause::When => self.condition(&fields, "rule"),
            Clause::MatchRecognize => self.row_pattern(&fields, "match_recognize"),
            Clause::Sequence => self.row_pattern(&fields, "sequence"),
        };
        let tests = fields.get("tests").map_or(&[][..], |node| self.sequence(node, "`tests`"));
        let tests = tests.iter().filter_map(|node| self.test(node, clause)).collect();
        let Some(id) = id else { return };
        self.report.name_rule(found, &id);
        if let Some((when, origin)) = condition {
            let mut rule = attributes.rule(id, when, origin);
            (rule.tests, rule.clause) = (tests, clause);
            self.document.rules.push(rule);
        }
    }

    fn test(&mut self, node: &Node<'a>, clause: Clause) -> Option<RuleTest> {
        let fields = self.fields(node, "a test", TEST_KEYS)?;
        let [(_, key, tested)] = fields.entries[..] else {
            let (what, hint) = match clause {
                Clause::When => ("a test is one event that matches, or one that does not", "`- match: {…}` or `- no_match: {…}`"),
                _ => ("a test is a list of events that match, or one of some that do not", "`- match: [{…}, {…}]` or `- no_match: [{…}]`"),
            };
            self.report.error("bad-test", node.place, what, hint);
            return None;
        };
        let nodes = match clause {
            Clause::When => std::slice::from_ref(tested),
            _ if matches!(tested.content, Content::Sequence(_)) => self.sequence(tested, "a test's events"),
            _ => {
                self.wrong_type(tested, "a test of a pattern", "a list of events", "`[{…}, {…}]`");
                return None;
            }
        };
        let mut events = Vec::with_capacity(nodes.len());
        for event in nodes {
            let fields = self.entries(event, "a test's event")?;
            events.push(fields.entries.iter().map(|(_, name, value)| ((*name).to_owned(), value.json())).collect());
        }
        Some(RuleTest { matches: key == "match", events, origin: self.report.origin(node) })
    }

    fn template(&mut self, node: &Node<'a>) {
        let found = self.report.len();
        let Some(fields) = self.fields(node, "a template", TEMPLATE_KEYS) else { return };
        let id = self.id(&fields, "template");
        let attributes = self.attributes(&fields, Attributes::default());
        let condition = self.condition(&fields, "template");
        let mut parameters = Vec::new();
        match fields.get("parameters") {
            None => {
                let hint = "`parameters: {limit: float64}`; a condition without parameters is a rule";
                self.report.error("missing-key", fields.place, "the template has no parameters", hint);
            }
            Some(node) => {
                if let Some(entries) = self.entries(node, "`parameters`") {
                    for (key, name, ty) in entries.entries {
                        parameters.extend(self.parameter(key, name, ty));
                    }
                }
            }
        }
        let Some(id) = id else { return };
        self.report.name_rule(found, &id);
        if self.templates.contains_key(&id) {
            let place = fields.get("id").map_or(node.place, |node| node.place);
            self.report.error("duplicate-template", place, format!("there are two templates `{id}`"), "");
            return;
        }
        // A template with a mistake is known by its name all the same, so that its instances are not called unknown.
        let (when, origin) = condition.unwrap_or_default();
        self.templates.insert(Arc::clone(&id), Arc::new(Template { id, parameters, when, origin, attributes }));
    }

    fn parameter(&mut self, key: &Node<'a>, name: &str, ty: &Node<'a>) -> Option<(Arc<str>, Type)> {
        let name = self.identifier(key, name)?;
        if *name == *"id" || attributes::KEYS.contains(&&*name) {
            let message = format!("a parameter cannot have the name `{name}`");
            self.report.error("reserved-name", key.place, message, "an instance has a column of this name; choose another");
            return None;
        }
        let text = self.text(ty, "the type of a parameter")?;
        let parsed = parse_type(text);
        if parsed.is_none() {
            self.report.error("unknown-type", ty.place, format!("unknown type `{}`", short(text)), format!("types are {TYPE_NAMES}"));
        }
        // After the mistake is reported, any type will do: the parameter exists.
        Some((name, parsed.unwrap_or(Type::Text)))
    }

    fn instances(&mut self, node: &Node<'a>) {
        let Some(fields) = self.fields(node, "an entry of `instances`", INSTANCE_KEYS) else { return };
        let Some(name_node) = fields.get("template") else {
            self.report.error("missing-key", node.place, "the instances name no template", "`{template: …, from: table.csv}`");
            return;
        };
        let Some(name) = self.name(name_node, "template") else { return };
        let Some(template) = self.templates.get(&name).map(Arc::clone) else {
            let hint =
                closest(&name, self.templates.keys().map(|id| &**id)).map_or_else(String::new, |meant| format!("did you mean `{meant}`?"));
            self.report.error("unknown-template", name_node.place, format!("unknown template `{}`", short(&name)), hint);
            return;
        };
        if template.when.is_empty() {
            // Its condition is missing, which is reported where it should stand.
            return;
        }
        match (fields.get("from"), fields.get("values")) {
            (Some(from), None) => {
                let Some((path, bytes)) = self.read_file(from, "`from`") else { return };
                match RuleRows::instances(&path, bytes, template, self.limits) {
                    Ok(rows) => self.document.instances.push(rows),
                    Err(diagnostic) => self.report.push(*diagnostic),
                }
            }
            (None, Some(values)) => {
                for (row, node) in self.sequence(values, "`values`").iter().enumerate() {
                    self.instance(node, row as u64, &template);
                }
            }
            _ => {
                let hint = "`from: table.csv`, or `values:` with a mapping for each instance";
                self.report.error("missing-key", node.place, "instances have either `from` or `values`", hint);
            }
        }
    }

    fn instance(&mut self, node: &Node<'a>, row: u64, template: &Template) {
        let found = self.report.len();
        let mut known: Vec<&str> = template.parameters.iter().map(|(name, _)| &**name).collect();
        known.push("id");
        known.extend(attributes::KEYS);
        let Some(fields) = self.fields(node, "an instance", &known) else { return };
        let id = match fields.get("id") {
            None => Some(template.instance_id(row)),
            Some(node) => self.name(node, "id"),
        };
        let attributes = self.attributes(&fields, template.attributes.clone());
        let mut values = Vec::with_capacity(template.parameters.len());
        for (name, ty) in &template.parameters {
            let Some(node) = fields.get(name) else {
                self.report.error("missing-parameter", fields.place, format!("parameter `{name}` has no value"), "");
                continue;
            };
            match (node.scalar(), node.text()) {
                (Some(Scalar::Null) | None, _) | (_, None) => {
                    self.wrong_type(node, &format!("parameter `{name}`"), &ty.to_string(), "");
                }
                (_, Some(text)) => match parse_value(text, *ty) {
                    Ok(value) => values.push(value),
                    Err(refusal) => {
                        let primary = format!("parameter `{name}`: {}", refusal.primary);
                        self.refuse(node.place, Refusal { primary, ..refusal });
                    }
                },
            }
        }
        let Some(id) = id else { return };
        self.report.name_rule(found, &id);
        if values.len() == template.parameters.len() {
            self.document.rules.push(template.instance(id, values, attributes));
        }
    }
}

#[cfg(test)]
mod tests;
