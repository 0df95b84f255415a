//! What a process holds, and what is done to it: the rules in service follow the registry, step by step.

use super::auth::{self, Key, Keys, Role};
use super::config::{Backend, Config};
use super::deploy::{self, Entry};
use super::journal::Journal;
use super::jwt::Jwt;
use super::limits::Limits as Quota;
use super::metrics::Metrics;
use super::problem::Problem;
use super::registry::{ALL, Active, Actor, Registry, Tenant, TenantLimits, Version};
use super::scorer::{Scorer, Settings as ScorerSettings, Shared};
use super::sensitive::{self, Sensitive};
use super::store::Store;
use crate::compile::files::RuleFiles;
use crate::compile::{Context, compile};
use crate::engine::router::Choice;
use crate::event::Schema;
use crate::live::{LiveEngine, Settings as LiveSettings};
use crate::rule::lists::Lists;
use crate::rule::{Diagnostic, Limits, Severity, Status};
use crate::stream::Settings as StreamSettings;
use crate::tables::Artifact;
use crate::temporal::patterns::Limits as PatternLimits;
use crate::temporal::windows::Settings as WindowSettings;
use bytes::Bytes;
use serde_json::json;
use std::collections::HashMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

/// The name of the schema in the registry.
const SCHEMA: &str = "schema";

/// The name of the key that values of sensitive fields are hashed with.
const HASH_KEY: &str = "hash_key";

/// Rules in service, and who judges by them. There is none as long as no schema is known.
pub struct Running {
    pub live: Arc<LiveEngine>,
    pub scorer: Scorer,
    #[cfg(feature = "kafka")]
    pub kafka: Option<super::kafka::Pipeline>,
    pub schema: Schema,
}

/// A process.
pub struct Service {
    pub config: Config,
    pub registry: Registry,
    pub metrics: Arc<Metrics>,
    pub shared: Arc<Shared>,
    /// Who may sign tokens, where they are taken.
    pub jwt: Option<Jwt>,
    store: Store,
    keys: RwLock<Keys>,
    running: RwLock<Option<Arc<Running>>>,
    /// The versions in service. Whoever changes what is in service, or the registry, holds it.
    deployed: tokio::sync::Mutex<Vec<Entry>>,
    /// Held while the schema is set: judging begins once.
    beginning: tokio::sync::Mutex<()>,
}

/// A file that a push brings.
#[derive(Debug)]
pub struct PushedFile {
    pub name: String,
    pub bytes: Bytes,
}

/// What a push gave.
pub struct Pushed {
    pub version: Version,
    pub tests: usize,
    pub warnings: Vec<Diagnostic>,
}

/// Milliseconds since 1970.
#[must_use]
pub fn now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

impl Service {
    /// Opens what outlasts the process, puts in service what was, and makes the state of the journal. Where there are no keys, one for everything is made, and given back.
    ///
    /// # Errors
    /// What cannot be opened or read.
    pub async fn open(config: Config) -> Result<(Self, Option<String>), String> {
        let about = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
        let folder = config.data_dir.clone();
        let store = Store::open(folder.join("artifacts")).map_err(|error| about(&folder.display().to_string(), &error))?;
        let registry = Registry::open(&config.registry_url()).await.map_err(|error| about("the registry cannot be opened", &error))?;
        let jwt = Jwt::open(&config.auth.jwt).await?;
        let service = Self {
            registry,
            jwt,
            store,
            metrics: Arc::new(Metrics::new(config.metrics.tenants_max, config.metrics.rules_max)),
            shared: Arc::new(Shared::new(&config.limits)),
            keys: RwLock::default(),
            running: RwLock::default(),
            deployed: tokio::sync::Mutex::default(),
            beginning: tokio::sync::Mutex::default(),
            config,
        };
        let read = |error: sqlx::Error| about("the registry cannot be read", &error);
        let shown = service.first_key().await.map_err(|problem| problem.detail)?;
        service.reload_tenants().await.map_err(read)?;
        if let Some(text) = service.registry.setting(SCHEMA).await.map_err(read)? {
            let schema = Schema::parse("the registry's schema", text.as_bytes()).map_err(|error| error.to_string())?;
            service.begin(schema).await?;
        }
        Ok((service, shown))
    }

    async fn first_key(&self) -> Result<Option<String>, Problem> {
        let mut shown = None;
        if self.registry.keys().await?.is_empty() {
            let actor = Actor { name: "the first start".to_owned(), now: now() };
            shown = Some(self.add_key("admin", Role::Admin, None, &actor).await?.1);
        }
        self.reload_keys().await?;
        Ok(shown)
    }

    pub async fn reload_keys(&self) -> Result<(), sqlx::Error> {
        let keys = Keys::new(self.registry.keys().await?);
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    async fn reload_tenants(&self) -> Result<(), sqlx::Error> {
        let suspended = self.registry.tenants().await?.into_iter().filter(|tenant| tenant.suspended).map(|tenant| tenant.name);
        *self.shared.suspended.write().unwrap_or_else(PoisonError::into_inner) = suspended.collect();
        self.shared.limits.set_tenants(self.registry.tenant_limits().await?);
        Ok(())
    }

    /// Who shows this: the key, or what a token says as if it was one.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn caller(&self, shown: &str) -> Result<Key, String> {
        match &self.jwt {
            Some(jwt) if !shown.starts_with(auth::PREFIX) => jwt.caller(shown),
            _ => self
                .keys
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .find(shown)
                .cloned()
                .ok_or_else(|| "there is no such key".to_owned()),
        }
    }

    /// Adds a key; its secret is given back, and kept nowhere.
    pub async fn add_key(&self, name: &str, role: Role, tenant: Option<&str>, actor: &Actor) -> Result<(Key, String), Problem> {
        let (key, shown) = Key::new(name, role, tenant, actor.now).map_err(|error| Problem::internal(&error))?;
        let mut edit = self.registry.edit().await?;
        edit.add_key(&key).await?;
        let detail = json!({"key": key.id, "name": name, "role": role.name()});
        edit.log(actor, "key.add", tenant.unwrap_or(ALL), &detail).await?;
        edit.commit().await?;
        self.reload_keys().await?;
        Ok((key, shown))
    }

    pub fn running(&self) -> Option<Arc<Running>> {
        self.running.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn needed(&self) -> Result<Arc<Running>, Problem> {
        self.running().ok_or_else(|| {
            Problem::conflict("there is no schema yet; push a rule set of the tenant `all` with its schema.yaml, or PUT /v1/schema")
        })
    }

    /// Begins to judge events of this schema by the versions that the registry has in service.
    async fn begin(&self, schema: Schema) -> Result<(), String> {
        let key = self.registry.setting_once(HASH_KEY, &sensitive::new_key()?).await;
        let key = sensitive::key(&key.map_err(|error| format!("the registry cannot be read: {error}"))?)?;
        self.shared.set_sensitive(Sensitive::new(&schema, key));
        let empty = compile(std::iter::empty(), &Context { schema: &schema, lists: &Lists::new(), limits: &Limits::default(), threads: 1 });
        let bytes = empty.artifact.ok_or("no artifact can be made of no rules")?;
        let artifact = Arc::new(Artifact::from_bytes(&bytes).map_err(|error| error.to_string())?);
        let choice = match self.config.engine.backend {
            Backend::Cpu => Choice::Cpu,
            Backend::Gpu => Choice::Gpu,
            Backend::Auto => Choice::Auto,
        };
        let settings = LiveSettings { choice, threads: self.config.engine.threads, ..LiveSettings::default() };
        let live = Arc::new(LiveEngine::new(artifact, Lists::new(), Limits::default(), settings)?);
        let mut deployed = self.deployed.lock().await;
        let read = |error: sqlx::Error| format!("the registry cannot be read: {error}");
        let entries = self.entries(&self.registry.active().await.map_err(read)?).await?;
        put_in_service(&live, &schema, &[], &entries).map_err(|problem| problem.detail)?;
        *deployed = entries;
        let config = &self.config;
        let sync = (config.journal.sync_ms > 0).then(|| Duration::from_millis(config.journal.sync_ms));
        let folder = config.data_dir.join("journal");
        let unreadable = |error: io::Error| format!("{}: {error}", folder.display());
        let journal = Journal::open(&folder, config.journal.events, sync).map_err(unreadable)?;
        let lateness = i64::try_from(config.engine.allowed_lateness_ms).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        let tenant_bytes = if config.limits.state_bytes_max == 0 { usize::MAX } else { config.limits.state_bytes_max };
        let mut windows = WindowSettings::new(lateness);
        windows.limits.tenant_bytes = tenant_bytes;
        let patterns = PatternLimits { tenant_bytes, ..PatternLimits::default() };
        let stream = StreamSettings { windows, patterns, choice };
        #[cfg(feature = "kafka")]
        let kafka = self.begin_kafka(&live, &stream, &journal.name)?;
        let settings = ScorerSettings {
            stream,
            folder: config.state_dir().join(&journal.name),
            every: Duration::from_millis(config.engine.snapshot_ms),
            events: config.journal.events,
            waiting_max: config.engine.waiting_max,
            rows_max: config.engine.batch_rows_max,
        };
        let (shared, metrics) = (Arc::clone(&self.shared), Arc::clone(&self.metrics));
        let scorer = Scorer::begin(Arc::clone(&live), journal, settings, shared, metrics)?;
        let running = Running {
            live,
            scorer,
            #[cfg(feature = "kafka")]
            kafka,
            schema,
        };
        *self.running.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(running));
        Ok(())
    }

    /// Begins to read Kafka, where the configuration has any. `name`: of this process, unless the configuration names it.
    #[cfg(feature = "kafka")]
    fn begin_kafka(&self, live: &Arc<LiveEngine>, stream: &StreamSettings, name: &str) -> Result<Option<super::kafka::Pipeline>, String> {
        let config = &self.config;
        if !config.kafka.is_used() {
            return Ok(None);
        }
        let settings = super::kafka::Settings {
            live: Arc::clone(live),
            stream: stream.clone(),
            folder: config.state_dir().join(&config.kafka.group),
            every: Duration::from_millis(config.engine.snapshot_ms),
            state_may_be_missing: config.engine.state_may_be_missing,
            output: config.kafka.output.clone(),
            shared: Arc::clone(&self.shared),
            metrics: Arc::clone(&self.metrics),
        };
        let instance = if config.kafka.instance.is_empty() { name } else { &config.kafka.instance };
        super::kafka::Pipeline::begin(config.kafka.clone(), instance.to_owned(), settings).map(Some)
    }

    /// Versions in service, with their artifacts.
    async fn entries(&self, active: &[Active]) -> Result<Vec<Entry>, String> {
        let read = |error: sqlx::Error| format!("the registry cannot be read: {error}");
        let switches = self.registry.switches().await.map_err(read)?;
        let mut entries = Vec::new();
        for one in active {
            let version = self.registry.version(&one.tenant, &one.rule_set, one.version).await.map_err(read)?;
            let version = version.ok_or_else(|| format!("version {} of {}/{} is not there", one.version, one.tenant, one.rule_set))?;
            let of_set = switches.iter().filter(|switch| switch.tenant == one.tenant && switch.rule_set == one.rule_set);
            let switched = of_set.filter_map(|switch| Some((switch.rule.clone(), status(&switch.status)?))).collect();
            entries.push(Entry {
                tenant: one.tenant.as_str().into(),
                rule_set: one.rule_set.as_str().into(),
                version: one.version,
                shadow: one.shadow,
                artifact: self.store.get(&version.hash)?,
                switched,
            });
        }
        Ok(entries)
    }

    /// Sets the schema of the events, once.
    pub async fn set_schema(&self, text: &str, actor: &Actor) -> Result<(), Problem> {
        let schema = Schema::parse("schema", text.as_bytes()).map_err(|error| Problem::bad_request(error.to_string()))?;
        let _beginning = self.beginning.lock().await;
        if let Some(running) = self.running() {
            if running.schema == schema {
                return Ok(());
            }
            return Err(Problem::conflict("the events have another schema already; a process has one"));
        }
        let mut edit = self.registry.edit().await?;
        edit.set(SCHEMA, text).await?;
        edit.log(actor, "schema.set", ALL, &json!({"fields": schema.fields().len()})).await?;
        edit.commit().await?;
        self.begin(schema).await.map_err(|error| Problem::internal(&error))
    }

    /// Compiles files to a version of a rule set, and keeps it. A schema among them is the one of the events, if there is none yet and the rule set is for every tenant.
    pub async fn push(
        self: &Arc<Self>,
        tenant: &str,
        rule_set: &str,
        files: Vec<PushedFile>,
        note: &str,
        actor: &Actor,
    ) -> Result<Pushed, Problem> {
        let schema_file = files.iter().find(|file| file.name == "schema.yaml").map(|file| file.bytes.clone());
        if let Some(bytes) = schema_file.filter(|_| tenant == ALL || self.running().is_some()) {
            let text = std::str::from_utf8(&bytes).map_err(|_| Problem::bad_request("schema.yaml: not UTF-8"))?;
            self.set_schema(text, actor).await?;
        }
        let schema = self.needed()?.schema.clone();
        let (owner, threads) = (tenant.to_owned(), self.config.engine.threads);
        let shared = Arc::clone(&self.shared);
        let compiled = tokio::task::spawn_blocking(move || compiled(&files, &schema, &owner, threads, &shared.limits)).await;
        let (bytes, rules, tests, warnings) = compiled.map_err(|error| Problem::internal(&error))??;
        let hash = self.store.put(&bytes).map_err(|error| Problem::internal(&error))?;
        let _deployed = self.deployed.lock().await;
        let version = Version {
            tenant: tenant.to_owned(),
            rule_set: rule_set.to_owned(),
            version: 0,
            hash,
            rules: rules as i64,
            author: actor.name.clone(),
            note: note.to_owned(),
            created: actor.now,
        };
        let known = self.registry.tenants().await?.iter().any(|known| known.name == tenant);
        let mut edit = self.registry.edit().await?;
        if !known && tenant != ALL {
            edit.put_tenant(&Tenant { name: tenant.to_owned(), suspended: false, created: actor.now }).await?;
        }
        let version = edit.add_version(version).await?;
        let detail = json!({"rule_set": rule_set, "version": version.version, "hash": version.hash, "rules": rules, "note": note});
        edit.log(actor, "version.push", tenant, &detail).await?;
        edit.commit().await?;
        Ok(Pushed { version, tests, warnings })
    }

    /// Puts a version in service, live or as a shadow.
    pub async fn activate(&self, active: &Active, actor: &Actor, action: &str) -> Result<(), Problem> {
        let running = self.needed()?;
        let mut deployed = self.deployed.lock().await;
        let mut next = self.registry.active().await?;
        next.retain(|one| {
            let same_set = one.tenant == active.tenant && one.rule_set == active.rule_set;
            !same_set || (one.version != active.version && (active.shadow || one.shadow))
        });
        next.push(active.clone());
        next.sort();
        if self.registry.version(&active.tenant, &active.rule_set, active.version).await?.is_none() {
            return Err(Problem::not_found(&format!("version {} of {}/{}", active.version, active.tenant, active.rule_set)));
        }
        let entries = self.entries(&next).await.map_err(|error| Problem::internal(&error))?;
        let mut edit = self.registry.edit().await?;
        edit.activate(active, actor.now).await?;
        let detail = json!({"rule_set": active.rule_set, "version": active.version, "shadow": active.shadow});
        edit.log(actor, action, &active.tenant, &detail).await?;
        self.swap(&running, &mut deployed, entries, edit).await
    }

    /// Takes a version out of service.
    pub async fn deactivate(&self, active: &Active, actor: &Actor) -> Result<(), Problem> {
        let running = self.needed()?;
        let mut deployed = self.deployed.lock().await;
        let mut next = self.registry.active().await?;
        let before = next.len();
        next.retain(|one| one != active);
        if next.len() == before {
            return Err(Problem::not_found(&format!("version {} of {}/{} in service", active.version, active.tenant, active.rule_set)));
        }
        let entries = self.entries(&next).await.map_err(|error| Problem::internal(&error))?;
        let mut edit = self.registry.edit().await?;
        edit.deactivate(active).await?;
        let detail = json!({"rule_set": active.rule_set, "version": active.version, "shadow": active.shadow});
        edit.log(actor, "version.deactivate", &active.tenant, &detail).await?;
        self.swap(&running, &mut deployed, entries, edit).await
    }

    /// Gives a rule of a rule set another status than its version says, or that again.
    pub async fn switch(&self, tenant: &str, rule_set: &str, rule: &str, to: Option<Status>, actor: &Actor) -> Result<(), Problem> {
        let running = self.needed()?;
        let mut deployed = self.deployed.lock().await;
        let mut entries = deployed.clone();
        let mut found = false;
        for entry in entries.iter_mut().filter(|entry| *entry.tenant == *tenant && *entry.rule_set == *rule_set) {
            found |= entry.artifact.find_rule(rule).is_some();
            match to {
                Some(status) => drop(entry.switched.insert(rule.to_owned(), status)),
                None => drop(entry.switched.remove(rule)),
            }
        }
        if !found {
            return Err(Problem::not_found(&format!("rule `{rule}` in what is in service of {tenant}/{rule_set}")));
        }
        let name = to.map(status_name);
        let mut edit = self.registry.edit().await?;
        edit.switch(tenant, rule_set, rule, name).await?;
        edit.log(actor, "rule.switch", tenant, &json!({"rule_set": rule_set, "rule": rule, "status": name})).await?;
        self.swap(&running, &mut deployed, entries, edit).await
    }

    /// Suspends a tenant, or lets it go on; makes it where there is none.
    pub async fn put_tenant(&self, name: &str, suspended: bool, actor: &Actor) -> Result<(), Problem> {
        let _deployed = self.deployed.lock().await;
        let mut edit = self.registry.edit().await?;
        edit.put_tenant(&Tenant { name: name.to_owned(), suspended, created: actor.now }).await?;
        edit.log(actor, "tenant.put", name, &json!({"suspended": suspended})).await?;
        edit.commit().await?;
        Ok(self.reload_tenants().await?)
    }

    /// Gives a tenant limits of its own.
    pub async fn put_tenant_limits(&self, name: &str, limits: &TenantLimits, actor: &Actor) -> Result<(), Problem> {
        let _deployed = self.deployed.lock().await;
        let mut edit = self.registry.edit().await?;
        edit.put_tenant_limits(name, limits).await?;
        edit.log(actor, "tenant.limits", name, &json!(limits)).await?;
        edit.commit().await?;
        Ok(self.reload_tenants().await?)
    }

    /// Removes a tenant with its rules and keys.
    pub async fn remove_tenant(&self, name: &str, actor: &Actor) -> Result<(), Problem> {
        let mut deployed = self.deployed.lock().await;
        let entries: Vec<Entry> = deployed.iter().filter(|entry| *entry.tenant != *name).cloned().collect();
        let mut edit = self.registry.edit().await?;
        edit.remove_tenant(name).await?;
        edit.log(actor, "tenant.remove", name, &json!({})).await?;
        match self.running() {
            Some(running) => self.swap(&running, &mut deployed, entries, edit).await?,
            None => edit.commit().await?,
        }
        self.reload_keys().await?;
        Ok(self.reload_tenants().await?)
    }

    /// Puts entries in service and makes the registry say so; neither, where one cannot be done.
    async fn swap(
        &self,
        running: &Running,
        deployed: &mut Vec<Entry>,
        entries: Vec<Entry>,
        edit: super::registry::Edit,
    ) -> Result<(), Problem> {
        self.shared.limits.in_service(deployed, &entries)?;
        let before = Arc::clone(running.live.snapshot().generation());
        let (live, schema, known, next) = (Arc::clone(&running.live), running.schema.clone(), deployed.clone(), entries.clone());
        let swapped = tokio::task::spawn_blocking(move || put_in_service(&live, &schema, &known, &next)).await;
        swapped.map_err(|error| Problem::internal(&error))??;
        if let Err(error) = edit.commit().await {
            running.live.rollback(&before).map_err(|error| Problem::internal(&error))?;
            return Err(error.into());
        }
        *deployed = entries;
        Ok(())
    }

    /// Why events of Kafka are not judged at the moment, if that is so.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        #[cfg(feature = "kafka")]
        return self.running()?.kafka.as_ref()?.trouble();
        #[cfg(not(feature = "kafka"))]
        return None;
    }

    /// Ends judging after all that waits was judged.
    pub fn stop(&self) {
        if let Some(running) = self.running.write().unwrap_or_else(PoisonError::into_inner).take() {
            #[cfg(feature = "kafka")]
            running.kafka.iter().for_each(super::kafka::Pipeline::stop);
            running.scorer.stop();
        }
    }
}

fn put_in_service(live: &LiveEngine, schema: &Schema, before: &[Entry], after: &[Entry]) -> Result<(), Problem> {
    let refused = |diagnostics| Problem::rules("the rules cannot be put in service together with those that are", diagnostics);
    let unreadable = |error: String| Problem::rules(error, Vec::new());
    let changes = deploy::changes(before, after).map_err(unreadable)?;
    if changes.is_empty() {
        return Ok(());
    }
    let columns = deploy::columns(schema, after);
    let done =
        if deploy::needs_rebuild(&live.snapshot(), &changes, &columns) { live.rebuild(&changes, columns) } else { live.apply(&changes) };
    done.map(drop).map_err(refused)
}

/// The artifact of pushed files, its rules and tests, and warnings.
type CompiledFiles = (Vec<u8>, usize, usize, Vec<Diagnostic>);

fn compiled(files: &[PushedFile], schema: &Schema, tenant: &str, threads: usize, quota: &Quota) -> Result<CompiledFiles, Problem> {
    let mut by_name: HashMap<PathBuf, Bytes> = HashMap::new();
    for file in files {
        let path = PathBuf::from(&file.name);
        if file.name.is_empty() || !path.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(Problem::bad_request(format!("`{}` is no name of a file; give relative paths without `..`", file.name)));
        }
        if by_name.insert(path, file.bytes.clone()).is_some() {
            return Err(Problem::bad_request(format!("the file `{}` comes twice", file.name)));
        }
    }
    let read = |path: &Path| by_name.get(path).cloned().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it was not pushed"));
    let is_rules = |name: &str| {
        let bulk = Path::new(name).file_name().is_some_and(|name| name.to_string_lossy().starts_with("rules."));
        name != "schema.yaml" && (bulk || crate::rule::document::is_document(name))
    };
    let mut rules: Vec<PathBuf> = files.iter().filter(|file| is_rules(&file.name)).map(|file| PathBuf::from(&file.name)).collect();
    rules.sort();
    if rules.is_empty() {
        return Err(Problem::bad_request("there are no rules among the files; push documents (*.yaml, *.json) or bulk files (rules.*)"));
    }
    let limits = Limits::default();
    let unreadable = |(path, error): (PathBuf, io::Error)| Problem::bad_request(format!("{}: {error}", path.display()));
    let files = RuleFiles::read(&rules, &read, &limits).map_err(unreadable)?;
    let list_entries = files.list_entries();
    let compiled = files.compile(schema, threads, &|rule| {
        if tenant != ALL && rule.tenant.is_none() {
            rule.tenant = Some(tenant.into());
        }
    });
    let Some(bytes) = compiled.artifact else { return Err(Problem::rules("there are errors in the rules", compiled.diagnostics)) };
    if tenant != ALL {
        quota.version(tenant, compiled.rules, list_entries)?;
    }
    let artifact = Artifact::from_bytes(&bytes).map_err(|error| Problem::internal(&error))?;
    if let Some(other) = artifact.manifest().tenants.iter().find(|other| tenant != ALL && other.as_str() != tenant) {
        let primary = format!("a rule is for the tenant `{other}`, and the rule set for `{tenant}`");
        let diagnostic = Diagnostic::file(Severity::Error, "foreign-tenant", "", primary);
        return Err(Problem::rules("there are errors in the rules", vec![diagnostic.with_hint("leave `tenant` out of the rules")]));
    }
    deploy::standing_alone(&artifact).map_err(|error| Problem::rules(error, Vec::new()))?;
    Ok((bytes, compiled.rules, compiled.tests, compiled.diagnostics))
}

/// The status of this name.
#[must_use]
pub fn status(name: &str) -> Option<Status> {
    [Status::Live, Status::Shadow, Status::Off].into_iter().find(|status| status_name(*status) == name)
}

const fn status_name(status: Status) -> &'static str {
    match status {
        Status::Live => "live",
        Status::Shadow => "shadow",
        Status::Off => "off",
    }
}
