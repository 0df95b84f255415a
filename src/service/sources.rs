//! The files that versions are made of, kept as they were pushed; and lists of theirs that are edited, each edit a new version.

use super::core::{PushedFile, Service};
use super::problem::Problem;
use super::registry::{Active, Actor, Edit, Version};
use super::sensitive::Sensitive;
use super::store::{Kind, aside};
use crate::compile::files::RuleFiles;
use crate::rule::Limits;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};

/// How often an edit is made again because another one came between.
const TRIES: usize = 5;

/// What a version was made of.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Sources {
    pub files: Vec<File>,
    /// Lists with other entries than their documents say.
    #[serde(default)]
    pub lists: Lists,
}

/// Entries of lists, by their names.
pub type Lists = BTreeMap<String, Vec<Value>>;

/// A file: text, or bytes that are none.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

impl File {
    fn of(file: &PushedFile) -> Self {
        let name = file.name.clone();
        match std::str::from_utf8(&file.bytes) {
            Ok(text) => Self { name, text: Some(text.to_owned()), base64: None },
            Err(_) => Self { name, text: None, base64: Some(STANDARD.encode(&file.bytes)) },
        }
    }

    /// What the file holds.
    ///
    /// # Errors
    /// Both text and bytes, or neither; what is no base64.
    pub fn pushed(self) -> Result<PushedFile, Problem> {
        let bytes = match (self.text, self.base64) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(base64)) => {
                STANDARD.decode(base64).map_err(|error| Problem::bad_request(format!("{}: base64: {error}", self.name)))?
            }
            _ => return Err(Problem::bad_request(format!("{}: give either `text` or `base64`", self.name))),
        };
        Ok(PushedFile { name: self.name, bytes: bytes.into() })
    }
}

/// Changes of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListEdit {
    #[serde(default)]
    pub add: Vec<Value>,
    #[serde(default)]
    pub remove: Vec<Value>,
}

impl ListEdit {
    /// The entries after it, and those of its own that change anything.
    fn applied(&self, entries: &[Value]) -> (Vec<Value>, Self) {
        let gone: HashSet<String> = self.remove.iter().map(Value::to_string).collect();
        let mut there: HashSet<String> = entries.iter().map(Value::to_string).collect();
        let removed = self.remove.iter().filter(|entry| there.remove(&entry.to_string())).cloned().collect();
        let added: Vec<Value> = self.add.iter().filter(|entry| there.insert(entry.to_string())).cloned().collect();
        let mut after: Vec<Value> = entries.iter().filter(|entry| !gone.contains(&entry.to_string())).cloned().collect();
        after.extend(added.iter().cloned());
        (after, Self { add: added, remove: removed })
    }

    /// What the audit log says of it. Entries may be what nobody is to read there: they are counted, and told by a hash whose key is secret, or all card numbers could be tried.
    fn told(&self, sensitive: &Sensitive) -> Value {
        let told = |entries: &[Value]| json!({"entries": entries.len(), "hash": sensitive.hashed(entries.into())});
        json!({"added": told(&self.add), "removed": told(&self.remove)})
    }
}

/// Keeps what a version is made of.
pub(super) async fn keep(service: &Service, edit: &mut Edit, version: &Version, files: &[PushedFile], lists: Lists) -> Result<(), Problem> {
    let sources = Sources { files: files.iter().map(File::of).collect(), lists };
    let bytes = serde_json::to_vec(&sources).map_err(|error| Problem::internal(&error))?;
    let store = service.store.clone();
    let put = aside(move || store.put(Kind::Sources, &bytes).map_err(|error| error.to_string()));
    let hash = put.await.map_err(|error| Problem::internal(&error))?;
    Ok(edit.add_sources(version, &hash).await?)
}

impl Service {
    /// What a version was made of.
    ///
    /// # Errors
    /// A version that is not there, or of whose time no files are kept.
    pub async fn sources(&self, tenant: &str, rule_set: &str, version: i64) -> Result<Sources, Problem> {
        let Some(hash) = self.registry.sources(tenant, rule_set, version).await? else {
            if self.registry.version(tenant, rule_set, version).await?.is_none() {
                return Err(Problem::not_found(&format!("version {version} of {tenant}/{rule_set}")));
            }
            return Err(Problem::conflict(format!("of version {version} of {tenant}/{rule_set} no files are kept; push it again")));
        };
        let store = self.store.clone();
        let bytes = aside(move || store.sources(&hash)).await.map_err(|error| Problem::internal(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| Problem::internal(&error))
    }

    async fn live_version(&self, tenant: &str, rule_set: &str) -> Result<i64, Problem> {
        let active = self.registry.active().await?.into_iter().find(|one| one.tenant == tenant && one.rule_set == rule_set && !one.shadow);
        active.map(|active| active.version).ok_or_else(|| Problem::not_found(&format!("live version of {tenant}/{rule_set}")))
    }

    /// The live version of a rule set, and the entries of a list there.
    ///
    /// # Errors
    /// As [`Service::sources`]; a list that is not there.
    pub async fn list(&self, tenant: &str, rule_set: &str, list: &str) -> Result<(i64, Vec<Value>), Problem> {
        let version = self.live_version(tenant, rule_set).await?;
        let Sources { files, mut lists } = self.sources(tenant, rule_set, version).await?;
        if let Some(entries) = lists.remove(list) {
            return Ok((version, entries));
        }
        let files = files.into_iter().map(File::pushed).collect::<Result<Vec<_>, _>>()?;
        let entries = written(&files, list)?.ok_or_else(|| Problem::not_found(&format!("list `{list}` in {tenant}/{rule_set}")))?;
        Ok((version, entries))
    }

    /// Makes a version of the live one, in which a list has other entries, and puts it in service in its place. The version, and the name of the generation.
    ///
    /// # Errors
    /// As [`Service::list`]; entries that do not fit the rules; a rule set that is changed all the time.
    pub async fn edit_list(
        &self,
        tenant: &str,
        rule_set: &str,
        list: &str,
        change: &ListEdit,
        actor: &Actor,
    ) -> Result<(Version, String), Problem> {
        for _ in 0..TRIES {
            if let Some(done) = self.try_edit_list(tenant, rule_set, list, change, actor).await? {
                return Ok(done);
            }
        }
        Err(Problem::conflict("others change the rule set at the same time; try again"))
    }

    /// The same. `None`: another version has become live meanwhile.
    async fn try_edit_list(
        &self,
        tenant: &str,
        rule_set: &str,
        list: &str,
        change: &ListEdit,
        actor: &Actor,
    ) -> Result<Option<(Version, String)>, Problem> {
        let (before, entries) = self.list(tenant, rule_set, list).await?;
        let Sources { files, mut lists } = self.sources(tenant, rule_set, before).await?;
        let files = files.into_iter().map(File::pushed).collect::<Result<Vec<_>, _>>()?;
        let (after, change) = change.applied(&entries);
        lists.insert(list.to_owned(), after);
        let (compiled, files) = self.compile(tenant, files, lists.clone()).await?;
        let note = format!("list {list}: {} added, {} removed", change.add.len(), change.remove.len());
        let mut deployed = self.deployed.lock().await;
        let mut edit = self.registry.edit().await?;
        if edit.live(tenant, rule_set).await? != Some(before) {
            return Ok(None);
        }
        let version = compiled.version(tenant, rule_set, &note, actor);
        let version = edit.add_version(version).await?;
        keep(self, &mut edit, &version, &files, lists).await?;
        let active = Active { tenant: tenant.to_owned(), rule_set: rule_set.to_owned(), version: version.version, shadow: false };
        edit.activate(&active, actor.now).await?;
        let mut detail = change.told(&self.shared.sensitive());
        detail["rule_set"] = rule_set.into();
        detail["list"] = list.into();
        detail["version"] = version.version.into();
        edit.log(actor, "list.edit", tenant, &detail).await?;
        let generation = self.swap(&mut deployed, edit, |_, _| Ok(())).await?;
        Ok(Some((version, generation)))
    }
}

/// The entries of a list as the files say them.
fn written(files: &[PushedFile], list: &str) -> Result<Option<Vec<Value>>, Problem> {
    let files: RuleFiles = super::core::read(files, &Limits::default())?;
    Ok(files.list(list).map(<[Value]>::to_vec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_change_what_they_name_and_nothing_else() {
        let edit =
            |add: Value, remove: Value| ListEdit { add: add.as_array().unwrap().clone(), remove: remove.as_array().unwrap().clone() };
        let entries = [json!("a"), json!(1), json!("1"), json!("a")];
        let (after, changed) = edit(json!(["b", "a", "b", 2]), json!(["1", "x"])).applied(&entries);
        assert_eq!(after, [json!("a"), json!(1), json!("a"), json!("b"), json!(2)]);
        assert_eq!((changed.add, changed.remove), (vec![json!("b"), json!(2)], vec![json!("1")]));
        let (after, changed) = edit(json!(["a"]), json!(["a"])).applied(&entries);
        assert_eq!(
            (after, changed.add.len(), changed.remove.len()),
            (vec![json!(1), json!("1"), json!("a")], 1, 1),
            "what is removed and added is there"
        );
        let told = edit(json!(["4111"]), json!([])).told(&Sensitive::default());
        assert!(!told.to_string().contains("4111") && told["added"]["entries"] == 1, "{told}");
    }
}
