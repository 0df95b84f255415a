//! From versions of rule sets to rules in service: what of them differs, as changes of single rules.
//!
//! A rule is called `tenant/rule-set/rule` there, that of a shadow version `tenant/rule-set@version/rule`; names in documents are free of one another. Windows that documents name are
//! called by their texts, so that equal ones are kept once, whoever names them.

use super::registry::ALL;
use crate::compile::{Context, check_rule};
use crate::event::{Field, Schema};
use crate::id::FieldId;
use crate::live::{Change, Snapshot, rules_of};
use crate::rule::lists::Lists;
use crate::rule::window::{Columns, text};
use crate::rule::{Clause, Limits, Rule, Status, inline, print};
use crate::tables::Artifact;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Changes beyond which all rules are compiled together.
const MANY: usize = 4096;

/// A version in service.
#[derive(Clone, Debug)]
pub struct Entry {
    pub tenant: Arc<str>,
    pub rule_set: Arc<str>,
    pub version: i64,
    pub shadow: bool,
    /// Of the artifact.
    pub hash: Arc<str>,
    pub artifact: Arc<Artifact>,
    /// Rules with another status than the version gives them.
    pub switched: BTreeMap<String, Status>,
}

impl Entry {
    /// What the names of its rules begin with.
    #[must_use]
    pub fn prefix(&self) -> String {
        let Self { tenant, rule_set, version, .. } = self;
        if self.shadow { format!("{tenant}/{rule_set}@{version}/") } else { format!("{tenant}/{rule_set}/") }
    }

    /// Whether both put the same rules in service.
    fn is_same(&self, other: &Self) -> bool {
        self.version == other.version && self.switched == other.switched && self.hash == other.hash
    }

    /// Its rules as they are in service.
    ///
    /// # Errors
    /// What cannot stand by itself, for whoever wrote the rules.
    pub fn rules(&self) -> Result<Vec<Rule>, String> {
        let prefix = self.prefix();
        let mut rules = standing_alone(&self.artifact)?;
        for rule in &mut rules {
            if let Some(status) = self.switched.get(&*rule.id) {
                rule.status = *status;
            }
            if self.shadow && rule.status == Status::Live {
                rule.status = Status::Shadow;
            }
            rule.id = format!("{prefix}{}", rule.id).into();
            if *self.tenant != *ALL {
                rule.tenant = Some(Arc::clone(&self.tenant));
            }
        }
        Ok(rules)
    }
}

/// The rules of an artifact in texts that need no document: windows are named by their texts.
///
/// # Errors
/// Texts that cannot be read.
pub fn standing_alone(artifact: &Artifact) -> Result<Vec<Rule>, String> {
    let mut rules = rules_of(artifact).map_err(|error| error.to_string())?;
    let named = artifact.windows().iter().any(|column| column.name.is_some());
    let columns = Columns::of(artifact.event_schema(), artifact.windows());
    let events = artifact.event_schema().fields().len();
    let (texts, places) = by_texts(artifact);
    let place = |field: FieldId| field.index().checked_sub(events).map_or(field, |window| places[window]);
    let name = |field: FieldId| (field.index() >= events).then(|| texts.field(place(field)).name.as_str());
    let (lists, limits) = (Lists::new(), Limits::unlimited());
    let context = Context { schema: artifact.event_schema(), lists: &lists, limits: &limits, threads: 1 };
    if !named {
        return Ok(rules);
    }
    for rule in &mut rules {
        let checked = check_rule(rule, &columns, &context);
        if let Some(expr) = checked.expr {
            rule.when = print::condition(&expr.with_fields(place), &texts).into();
        } else if checked.pattern.is_some() {
            let mut text = String::new();
            inline::write(&rule.when, &checked.mentions, &name, &mut text);
            rule.when = text.into();
        } else {
            let why = checked.diagnostics.first().map(ToString::to_string).unwrap_or_default();
            return Err(format!("the rule `{}` cannot be read again: {}", rule.id, why.trim_end()));
        }
    }
    Ok(rules)
}

/// The fields of an artifact with its windows called by their texts, and where each window is among them: two of one text are one.
fn by_texts(artifact: &Artifact) -> (Schema, Vec<FieldId>) {
    let mut schema = artifact.event_schema().clone();
    let mut places = Vec::new();
    for column in artifact.windows() {
        let name = text(&column.window, artifact.event_schema());
        let known = schema.find(&name);
        places.extend(known.or_else(|| schema.push(Field { name, ty: column.window.ty() })));
    }
    (schema, places)
}

/// The name of what these entries put in service: the same in every process, whatever led to it.
#[must_use]
pub fn generation(schema: &Schema, entries: &[Entry]) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut add = |part: &str| {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    };
    add(&schema.to_yaml());
    let mut entries: Vec<(String, &Entry)> = entries.iter().map(|entry| (entry.prefix(), entry)).collect();
    entries.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    for (prefix, entry) in entries {
        [&prefix, &entry.version.to_string(), &*entry.hash, &entry.switched.len().to_string()].into_iter().for_each(&mut add);
        for (rule, status) in &entry.switched {
            add(rule);
            add(status_name(*status));
        }
    }
    hasher.finalize().to_hex().to_string()
}

/// The windows of all entries, each once; those that patterns name first.
#[must_use]
pub fn columns(schema: &Schema, entries: &[Entry]) -> Columns {
    let mut columns = Columns::new(schema);
    for artifact in entries.iter().map(|entry| &entry.artifact) {
        let events = artifact.event_schema().fields().len();
        let needed = artifact.patterns().iter().flat_map(|(_, pattern)| pattern.needs());
        for window in needed.filter_map(|field| field.index().checked_sub(events)) {
            columns.add_by_text(artifact.windows()[window].window.clone());
        }
    }
    for column in entries.iter().flat_map(|entry| entry.artifact.windows()) {
        columns.add(column.window.clone());
    }
    columns
}

/// What is to be done to the rules in service, so that they are those of `after` and no longer those of `before`.
///
/// # Errors
/// Versions whose rules cannot be read.
pub fn changes(before: &[Entry], after: &[Entry]) -> Result<Vec<Change>, String> {
    let by_prefix = |entries: &[Entry]| entries.iter().map(|entry| (entry.prefix(), entry.clone())).collect::<BTreeMap<_, _>>();
    let (mut gone, next) = (by_prefix(before), by_prefix(after));
    let mut changes = Vec::new();
    for (prefix, entry) in &next {
        let was = gone.remove(prefix);
        if was.as_ref().is_some_and(|was| was.is_same(entry)) {
            continue;
        }
        let mut known: HashMap<Arc<str>, Rule> = match was {
            Some(was) => was.rules()?.into_iter().map(|rule| (Arc::clone(&rule.id), rule)).collect(),
            None => HashMap::new(),
        };
        for rule in entry.rules()? {
            match known.remove(&rule.id) {
                None => changes.push(Change::Add(rule)),
                Some(was) if was != rule => changes.push(Change::Replace(rule)),
                Some(_) => {}
            }
        }
        let mut removed: Vec<Arc<str>> = known.into_keys().collect();
        removed.sort();
        changes.extend(removed.into_iter().map(Change::Remove));
    }
    for entry in gone.into_values() {
        changes.extend(entry.rules()?.into_iter().map(|rule| Change::Remove(rule.id)));
    }
    Ok(changes)
}

/// Windows and patterns whose events lie in several partitions, where those of the same `key` are in the same one.
#[must_use]
pub fn scattered(artifact: &Artifact, key: &[String]) -> Vec<String> {
    let schema = artifact.schema();
    let is_scattered = |by: &[FieldId]| {
        let by: Vec<&str> = by.iter().copied().chain(schema.tenant).map(|field| &*schema.field(field).name).collect();
        !key.iter().all(|key| by.contains(&key.as_str()))
    };
    let windows = artifact.windows().iter().map(|column| &column.window).filter(|window| is_scattered(&window.partition_by));
    let windows = windows.map(|window| format!("the window `{}`", text(window, artifact.event_schema())));
    let patterns = artifact.patterns().iter().filter(|(_, pattern)| is_scattered(&pattern.partition_by));
    windows.chain(patterns.map(|(rule, _)| format!("the pattern `{}`", artifact.rule_name(*rule)))).collect()
}

/// Whether all rules must be compiled together for these changes.
#[must_use]
pub fn needs_rebuild(snapshot: &Snapshot, changes: &[Change], columns: &Columns) -> bool {
    let is_pattern = |change: &Change| matches!(change, Change::Add(rule) | Change::Replace(rule) if rule.clause != Clause::When);
    let known = snapshot.base().windows();
    let is_new = |window| !known.iter().any(|column| column.window == window);
    changes.len() > MANY || changes.iter().any(is_pattern) || columns.all().iter().any(|column| is_new(column.window.clone()))
}

/// The status of this name.
#[must_use]
pub fn status(name: &str) -> Option<Status> {
    [Status::Live, Status::Shadow, Status::Off].into_iter().find(|status| status_name(*status) == name)
}

#[must_use]
pub const fn status_name(status: Status) -> &'static str {
    match status {
        Status::Live => "live",
        Status::Shadow => "shadow",
        Status::Off => "off",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::files::RuleFiles;
    use crate::engine::router::Choice;
    use crate::live::{LiveEngine, Settings};
    use bytes::Bytes;
    use std::path::{Path, PathBuf};

    const SCHEMA: &str = "fields: {card: utf8, amount: int64, at: timestamp(ms), tenant: utf8}\ntime: at\ntenant: tenant\n";

    fn artifact(document: &str) -> Arc<Artifact> {
        let schema = Schema::parse("schema.yaml", SCHEMA.as_bytes()).unwrap();
        let read = |_: &Path| Ok(Bytes::copy_from_slice(document.as_bytes()));
        let files = RuleFiles::read(&[PathBuf::from("rules.yaml")], &read, &Limits::default()).map_err(|(_, error)| error).unwrap();
        let compiled = files.compile(&schema, 1, &|_| ());
        let bytes = compiled.artifact.unwrap_or_else(|| panic!("{:?}", compiled.diagnostics));
        Arc::new(Artifact::from_bytes(&bytes).unwrap())
    }

    fn entry(tenant: &str, version: i64, shadow: bool, artifact: &Arc<Artifact>) -> Entry {
        let (switched, hash) = (BTreeMap::new(), artifact.generation().into());
        Entry { tenant: tenant.into(), rule_set: "main".into(), version, shadow, hash, artifact: Arc::clone(artifact), switched }
    }

    fn told(changes: &[Change]) -> Vec<String> {
        let kind = |change: &Change| match change {
            Change::Add(_) => "+",
            Change::Replace(_) => "~",
            Change::Remove(_) => "-",
            Change::Status(..) => "?",
        };
        changes.iter().map(|change| format!("{}{}", kind(change), change.id())).collect()
    }

    const FIRST: &str = "windows: {spent: 'SUM(amount) OVER (PARTITION BY card ORDER BY at RANGE BETWEEN INTERVAL ''1'' HOUR PRECEDING AND CURRENT ROW)'}\n\
                         lists: {risky: ['1', '2']}\n\
                         rules:\n- {id: a, when: amount > 5}\n- {id: b, when: spent > 100}\n- {id: c, when: card IN LIST risky}\n";
    const SECOND: &str = "lists: {risky: ['1', '3']}\nrules:\n- {id: a, when: (amount  > 5)}\n- {id: c, when: card IN LIST risky}\n- {id: d, when: amount = 1}\n";

    #[test]
    fn only_what_differs_is_changed() {
        let (first, second) = (artifact(FIRST), artifact(SECOND));
        let (one, two) = ([entry("acme", 1, false, &first)], [entry("acme", 2, false, &second)]);
        assert_eq!(told(&changes(&[], &one).unwrap()), ["+acme/main/a", "+acme/main/b", "+acme/main/c"]);
        assert_eq!(told(&changes(&one, &one).unwrap()), [""; 0]);
        assert_eq!(told(&changes(&one, &two).unwrap()), ["~acme/main/c", "+acme/main/d", "-acme/main/b"], "a is the same in other words");
        let both = [one[0].clone(), entry("acme", 2, true, &second)];
        assert_eq!(told(&changes(&one, &both).unwrap()), ["+acme/main@2/a", "+acme/main@2/c", "+acme/main@2/d"]);
        assert_eq!(told(&changes(&one, &[]).unwrap()), ["-acme/main/a", "-acme/main/b", "-acme/main/c"]);
        let mut off = one.clone();
        off[0].switched.insert("b".to_owned(), Status::Off);
        let switched = changes(&one, &off).unwrap();
        assert!(matches!(&switched[..], [Change::Replace(rule)] if *rule.id == *"acme/main/b" && rule.status == Status::Off));
        let shadow = entry("acme", 2, true, &second).rules().unwrap();
        assert!(shadow.iter().all(|rule| rule.status == Status::Shadow && rule.tenant.as_deref() == Some("acme")));
        assert!(entry(ALL, 2, false, &second).rules().unwrap().iter().all(|rule| rule.tenant.is_none()));
    }

    #[test]
    fn generations_are_named_by_what_is_in_service() {
        let (first, second) = (artifact(FIRST), artifact(SECOND));
        let schema = Schema::parse("schema.yaml", SCHEMA.as_bytes()).unwrap();
        let name = |entries: &[Entry]| generation(&schema, entries);
        let both = [entry("acme", 1, false, &first), entry("zeta", 1, true, &second)];
        assert_eq!(name(&both), name(&[both[1].clone(), both[0].clone()]), "whatever their order");
        let mut off = both.clone();
        off[0].switched.insert("b".to_owned(), Status::Off);
        let mut shadow = off.clone();
        shadow[0].switched.insert("b".to_owned(), Status::Shadow);
        let others = [
            Vec::new(),
            both[..1].to_vec(),
            vec![entry("acme", 2, false, &first)],
            vec![entry("acme", 1, true, &first)],
            vec![entry("zeta", 1, false, &first)],
            vec![entry("acme", 1, false, &second)],
            off.to_vec(),
            shadow.to_vec(),
        ];
        let names: std::collections::BTreeSet<String> = others.iter().map(|entries| name(entries)).chain([name(&both)]).collect();
        assert_eq!(names.len(), others.len() + 1);
    }

    #[test]
    fn rules_stand_by_themselves_in_service() {
        let first = artifact(FIRST);
        let schema = Schema::parse("schema.yaml", SCHEMA.as_bytes()).unwrap();
        let empty = artifact("rules: []");
        let live = LiveEngine::new(
            empty,
            Lists::new(),
            Limits::default(),
            Settings { choice: Choice::Cpu, background: false, ..Settings::default() },
        )
        .unwrap();
        let entries = [entry("acme", 1, false, &first)];
        let (changes, columns) = (changes(&[], &entries).unwrap(), columns(&schema, &entries));
        assert!(needs_rebuild(&live.snapshot(), &changes, &columns));
        let snapshot = live.rebuild(&changes, columns.clone()).unwrap();
        assert_eq!((snapshot.rules(), snapshot.base().windows().len()), (3, 1));
        assert!(!needs_rebuild(&snapshot, &changes, &columns), "the window is there");
        let window = snapshot.rule(snapshot.find("acme/main/b").unwrap()).unwrap();
        assert!(window.when.starts_with("\"SUM(amount) OVER (PARTITION BY card"), "{}", window.when);
    }

    const PATTERN: &str = "- id: p\n  match_recognize: |\n    PARTITION BY card ORDER BY at\n    PATTERN (a b) DEFINE b AS card IN LIST risky AND spent > a.spent\n";

    /// Patterns and conditions of two rule sets that call the same window by two names each, and different ones by one.
    #[test]
    fn state_of_other_keys_than_that_of_partitions_is_told() {
        let pattern = "- {id: p, match_recognize: 'PARTITION BY amount ORDER BY at PATTERN (a b) DEFINE b AS amount > a.amount'}\n";
        let artifact = artifact(&format!("{FIRST}{pattern}"));
        let told = |key: &[&str]| scattered(&artifact, &key.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(told(&["card"]), ["the pattern `p`"]);
        assert!(told(&["amount"])[0].starts_with("the window `SUM(amount) OVER (PARTITION BY card"));
        assert_eq!((told(&["card", "amount"]).len(), told(&[]).len(), told(&["tenant"]).len()), (2, 0, 0));
    }

    #[test]
    fn windows_and_lists_of_documents_go_with_the_rules_that_name_them() {
        let window = |hours: u32| {
            format!("'SUM(amount) OVER (PARTITION BY card ORDER BY at RANGE BETWEEN INTERVAL ''{hours}'' HOUR PRECEDING AND CURRENT ROW)'")
        };
        let document = |spent: u32, list: &str| {
            let windows = format!("windows: {{plain: {}, spent: {}, again: {}}}\n", window(9), window(spent), window(spent));
            artifact(&format!(
                "{windows}lists: {{risky: [{list}]}}\nrules:\n- {{id: c, when: again > 7 AND spent > 8 AND plain > 9}}\n{PATTERN}"
            ))
        };
        let (one, two) = (document(1, "'x'"), document(2, "'y', 'z'"));
        let entries = [entry("acme", 1, false, &one), entry("zeta", 1, false, &two)];
        let schema = Schema::parse("schema.yaml", SCHEMA.as_bytes()).unwrap();
        let all = columns(&schema, &entries);
        let named = |columns: &Columns| columns.named_schema().fields().len() - schema.fields().len();
        assert_eq!((all.all().len(), named(&all)), (3, 2), "each window once; two of them are named by patterns");
        let settings = Settings { choice: Choice::Cpu, background: false, ..Settings::default() };
        let live = LiveEngine::new(artifact("rules: []"), Lists::new(), Limits::default(), settings).unwrap();
        live.rebuild(&changes(&[], &entries).unwrap(), all.clone()).unwrap();
        let patterns = |snapshot: &Snapshot| {
            snapshot.patterns().map(|(rule, pattern)| (snapshot.id(rule).to_owned(), Arc::clone(pattern))).collect::<Vec<_>>()
        };
        let before = patterns(&live.snapshot());
        assert_eq!(before.len(), 2);
        assert_ne!(before[0].1, before[1].1, "each has its own list and window");
        live.apply(&[Change::Status("acme/main/c".into(), Status::Off)]).unwrap();
        assert!(live.compact().unwrap());
        assert_eq!(patterns(&live.snapshot()), before);
        let texts = entries[1].rules().unwrap();
        let condition = texts[0].when.replace("INTERVAL '2' HOUR", "").replace("INTERVAL '9' HOUR", "");
        assert_eq!(condition.matches("HOUR").count() + condition.matches("\"SUM(amount)").count(), 3, "{condition}");
        assert!(texts[1].when.contains("IN ('y', 'z')") && texts[1].when.contains("\"A\".\"SUM("), "{}", texts[1].when);
    }
}
