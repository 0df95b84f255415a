//! What a process holds, and what is done to it: the rules in service follow the registry, step by step.

use super::auth::{self, Key, Keys, Role};
use super::config::{Backend, Config};
use super::deploy::{self, Entry, status_name};
use super::follow::{Deployed, Missing, put_in_service};
use super::journal::Journal;
use super::jwt::Jwt;
use super::limits::Limits as Quota;
use super::metrics::Metrics;
use super::preview::Previewing;
use super::problem::Problem;
use super::registry::{ALL, Active, Actor, Edit, Registry, SCHEMA, Scheduled, Tenant, TenantLimits, Version};
use super::scorer::{Scorer, Settings as ScorerSettings, Shared};
use super::sensitive::{self, Sensitive};
use super::sources::{self, Lists};
use super::store::{Artifacts, Kind, aside, make_folder};
use crate::compile::files::RuleFiles;
use crate::compile::{Context, compile};
use crate::connector::store::Store;
use crate::engine::router::Choice;
use crate::event::Schema;
use crate::live::{LiveEngine, Settings as LiveSettings};
use crate::rule::lists;
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
    pub(super) store: Artifacts,
    /// Where state is.
    state: Store,
    keys: RwLock<Keys>,
    running: RwLock<Option<Arc<Running>>>,
    /// The versions in service. Whoever changes what is in service holds it.
    pub(super) deployed: tokio::sync::Mutex<Deployed>,
    /// Why not all that the registry says is in service.
    pub(super) behind: RwLock<Option<String>>,
    pub(super) previewing: Previewing,
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
        make_folder(&folder).map_err(|error| about(&folder.display().to_string(), &error))?;
        let (store, state) = places(&config).await?;
        let registry = Registry::open(&config.registry_url()).await.map_err(|error| about("the registry cannot be opened", &error))?;
        let jwt = Jwt::open(&config.auth.jwt).await?;
        let service = Self {
            registry,
            jwt,
            store,
            state,
            metrics: Arc::new(Metrics::new(config.metrics.tenants_max, config.metrics.rules_max)),
            shared: Arc::new(Shared::new(&config.limits)),
            keys: RwLock::default(),
            running: RwLock::default(),
            deployed: tokio::sync::Mutex::default(),
            behind: RwLock::default(),
            previewing: Previewing::default(),
            config,
        };
        let read = |error: sqlx::Error| about("the registry cannot be read", &error);
        let shown = service.first_key().await.map_err(|problem| problem.detail)?;
        let said = service.registry.said().await.map_err(read)?;
        service.catch_up(&mut *service.deployed.lock().await, said).await?;
        Ok((service, shown))
    }

    async fn first_key(&self) -> Result<Option<String>, Problem> {
        if !self.registry.keys().await?.is_empty() {
            return Ok(None);
        }
        let mut edit = self.registry.edit().await?;
        // Another process may have begun meanwhile.
        if !edit.keys().await?.is_empty() {
            return Ok(None);
        }
        let actor = Actor { name: "the first start".to_owned(), now: now() };
        let (_, shown) = put_key(&mut edit, ("admin", Role::Admin, None), &actor).await?;
        edit.commit().await?;
        Ok(Some(shown))
    }

    pub(super) async fn reload_keys(&self) -> Result<(), sqlx::Error> {
        let keys = Keys::new(self.registry.keys().await?);
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    pub(super) async fn reload_tenants(&self) -> Result<(), sqlx::Error> {
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
        let mut edit = self.registry.edit().await?;
        let added = put_key(&mut edit, (name, role, tenant), actor).await?;
        edit.commit().await?;
        self.follow().await;
        Ok(added)
    }

    pub fn running(&self) -> Option<Arc<Running>> {
        self.running.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn needed(&self) -> Result<Arc<Running>, Problem> {
        self.running().ok_or_else(|| {
            Problem::conflict("there is no schema yet; push a rule set of the tenant `all` with its schema.yaml, or PUT /v1/schema")
        })
    }

    /// Begins to judge events of this schema by these versions.
    pub(super) async fn begin(&self, schema: Schema, entries: Vec<Entry>) -> Result<(), String> {
        let key = self.registry.setting_once(HASH_KEY, &sensitive::new_key()?).await;
        let key = sensitive::key(&key.map_err(|error| format!("the registry cannot be read: {error}"))?)?;
        self.shared.set_sensitive(Sensitive::new(&schema, key));
        let choice = match self.config.engine.backend {
            Backend::Cpu => Choice::Cpu,
            Backend::Gpu => Choice::Gpu,
            Backend::Auto => Choice::Auto,
        };
        let live = self.engine(&schema, choice)?;
        put_in_service(&live, &schema, Vec::new(), entries).await.map_err(|problem| problem.to_string())?;
        let running = self.judging(live, schema, choice)?;
        *self.running.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(running));
        Ok(())
    }

    /// An engine without rules.
    fn engine(&self, schema: &Schema, choice: Choice) -> Result<Arc<LiveEngine>, String> {
        let empty = compile(std::iter::empty(), &Context { schema, lists: &lists::Lists::new(), limits: &Limits::default(), threads: 1 });
        let bytes = empty.artifact.ok_or("no artifact can be made of no rules")?;
        let artifact = Arc::new(Artifact::from_bytes(&bytes).map_err(|error| error.to_string())?);
        let settings = LiveSettings { choice, threads: self.config.engine.threads, ..LiveSettings::default() };
        LiveEngine::new(artifact, lists::Lists::new(), Limits::default(), settings).map(Arc::new)
    }

    pub(super) fn journal_folder(&self) -> PathBuf {
        self.config.data_dir.join("journal")
    }

    /// How state is kept.
    pub(super) fn stream_settings(&self, choice: Choice) -> StreamSettings {
        let lateness = i64::try_from(self.config.engine.allowed_lateness_ms).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        let tenant_bytes = if self.config.limits.state_bytes_max == 0 { usize::MAX } else { self.config.limits.state_bytes_max };
        let mut windows = WindowSettings::new(lateness);
        windows.limits.tenant_bytes = tenant_bytes;
        let patterns = PatternLimits { tenant_bytes, ..PatternLimits::default() };
        StreamSettings { windows, patterns, choice }
    }

    fn judging(&self, live: Arc<LiveEngine>, schema: Schema, choice: Choice) -> Result<Running, String> {
        let config = &self.config;
        let sync = (config.journal.sync_ms > 0).then(|| Duration::from_millis(config.journal.sync_ms));
        let folder = self.journal_folder();
        let unreadable = |error: io::Error| format!("{}: {error}", folder.display());
        let journal = Journal::open(&folder, config.journal.events, sync).map_err(unreadable)?;
        let stream = self.stream_settings(choice);
        #[cfg(feature = "kafka")]
        let kafka = self.begin_kafka(&live, &stream, &journal.name)?;
        let settings = ScorerSettings {
            stream,
            place: self.state.join(&journal.name),
            every: Duration::from_millis(config.engine.snapshot_ms),
            events: config.journal.events,
            waiting_max: config.engine.waiting_max,
            rows_max: config.engine.batch_rows_max,
        };
        let (shared, metrics) = (Arc::clone(&self.shared), Arc::clone(&self.metrics));
        let scorer = Scorer::begin(Arc::clone(&live), journal, settings, shared, metrics)?;
        Ok(Running {
            live,
            scorer,
            #[cfg(feature = "kafka")]
            kafka,
            schema,
        })
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
            place: self.state.join(&config.kafka.group),
            every: Duration::from_millis(config.engine.snapshot_ms),
            state_may_be_missing: config.engine.state_may_be_missing,
            output: config.kafka.output.clone(),
            shared: Arc::clone(&self.shared),
            metrics: Arc::clone(&self.metrics),
        };
        let instance = if config.kafka.instance.is_empty() { name } else { &config.kafka.instance };
        super::kafka::Pipeline::begin(config.kafka.clone(), instance.to_owned(), settings).map(Some)
    }

    /// Sets the schema of the events, once.
    pub async fn set_schema(&self, text: &str, actor: &Actor) -> Result<(), Problem> {
        let schema = parsed(text)?;
        let mut edit = self.registry.edit().await?;
        match edit.setting(SCHEMA).await? {
            Some(known) if parsed(&known)? == schema => drop(edit),
            Some(_) => return Err(Problem::conflict("the events have another schema already; a registry has one")),
            None => {
                edit.set(SCHEMA, text).await?;
                edit.log(actor, "schema.set", ALL, &json!({"fields": schema.fields().len()})).await?;
                edit.commit().await?;
            }
        }
        if self.running().is_none() {
            self.follow().await;
        }
        let unable = || Problem::internal(&self.behind().unwrap_or_else(|| "events cannot be judged yet".to_owned()));
        self.running().map(drop).ok_or_else(unable)
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
        let (compiled, files) = self.compile(tenant, files, Lists::new()).await?;
        let version = compiled.version(tenant, rule_set, note, actor);
        let mut edit = self.registry.edit().await?;
        if tenant != ALL {
            edit.add_tenant(tenant, actor.now).await?;
        }
        let version = edit.add_version(version).await?;
        sources::keep(self, &mut edit, &version, &files, Lists::new()).await?;
        let detail = json!({"rule_set": rule_set, "version": version.version, "hash": version.hash, "rules": version.rules, "note": note});
        edit.log(actor, "version.push", tenant, &detail).await?;
        edit.commit().await?;
        Ok(Pushed { version, tests: compiled.tests, warnings: compiled.warnings })
    }

    /// Compiles files, in which these lists have other entries, for a tenant, and keeps what comes out.
    pub(super) async fn compile(
        &self,
        tenant: &str,
        files: Vec<PushedFile>,
        lists: Lists,
    ) -> Result<(CompiledFiles, Vec<PushedFile>), Problem> {
        let schema = self.needed()?.schema.clone();
        let (owner, threads, store) = (tenant.to_owned(), self.config.engine.threads, self.store.clone());
        let shared = Arc::clone(&self.shared);
        let compile = move || {
            let (bytes, mut made) = compiled(&files, &schema, &owner, threads, lists, &shared.limits)?;
            made.hash = store.put(Kind::Artifact, &bytes).map_err(|error| Problem::internal(&error))?;
            Ok((made, files))
        };
        tokio::task::spawn_blocking(compile).await.map_err(|error| Problem::internal(&error))?
    }

    /// Puts a version in service, live or as a shadow. The name of the generation.
    pub async fn activate(&self, active: &Active, actor: &Actor, action: &str) -> Result<String, Problem> {
        let mut deployed = self.deployed.lock().await;
        let mut edit = self.registry.edit().await?;
        if edit.version(&active.tenant, &active.rule_set, active.version).await?.is_none() {
            return Err(Problem::not_found(&format!("version {} of {}/{}", active.version, active.tenant, active.rule_set)));
        }
        edit.activate(active, actor.now).await?;
        let detail = json!({"rule_set": active.rule_set, "version": active.version, "shadow": active.shadow});
        edit.log(actor, action, &active.tenant, &detail).await?;
        self.swap(&mut deployed, edit, there(active)).await
    }

    /// Has a version put in service later.
    pub async fn schedule(&self, scheduled: &Scheduled, actor: &Actor) -> Result<(), Problem> {
        let Active { tenant, rule_set, version, .. } = &scheduled.active;
        let mut edit = self.registry.edit().await?;
        if edit.version(tenant, rule_set, *version).await?.is_none() {
            return Err(Problem::not_found(&format!("version {version} of {tenant}/{rule_set}")));
        }
        edit.schedule(scheduled).await?;
        edit.log(actor, "version.schedule", tenant, &json!({"rule_set": rule_set, "version": version, "at": scheduled.due})).await?;
        Ok(edit.commit().await?)
    }

    /// Takes back what is scheduled of a rule set.
    pub async fn unschedule(&self, tenant: &str, rule_set: &str, actor: &Actor) -> Result<(), Problem> {
        let mut edit = self.registry.edit().await?;
        if !edit.unschedule(tenant, rule_set).await? {
            return Err(Problem::not_found(&format!("scheduled version of {tenant}/{rule_set}")));
        }
        edit.log(actor, "version.unschedule", tenant, &json!({"rule_set": rule_set})).await?;
        Ok(edit.commit().await?)
    }

    /// Puts in service what was scheduled for a time until now, if no other process has. What cannot be is taken out of the schedule, and the audit log says why.
    pub async fn carry_out(&self, now: i64) -> Result<(), Problem> {
        for scheduled in self.registry.scheduled(now).await? {
            let actor = Actor { name: format!("schedule of {}", scheduled.author), now };
            let Active { tenant, rule_set, version, .. } = &scheduled.active;
            let mut deployed = self.deployed.lock().await;
            let mut edit = self.registry.edit().await?;
            if !edit.scheduled(now).await?.contains(&scheduled) {
                continue;
            }
            edit.unschedule(tenant, rule_set).await?;
            edit.activate(&scheduled.active, now).await?;
            let detail = json!({"rule_set": rule_set, "version": version, "shadow": false});
            edit.log(&actor, "version.activate", tenant, &detail).await?;
            let Err(problem) = self.swap(&mut deployed, edit, there(&scheduled.active)).await else { continue };
            drop(deployed);
            tracing::error!(%problem, "a scheduled version cannot be put in service");
            let mut edit = self.registry.edit().await?;
            if edit.scheduled(now).await?.contains(&scheduled) {
                edit.unschedule(tenant, rule_set).await?;
                let detail = json!({"rule_set": rule_set, "version": version, "why": problem.detail});
                edit.log(&actor, "schedule.fail", tenant, &detail).await?;
                edit.commit().await?;
            }
        }
        Ok(())
    }

    /// Takes a version out of service.
    pub async fn deactivate(&self, active: &Active, actor: &Actor) -> Result<(), Problem> {
        let mut deployed = self.deployed.lock().await;
        let mut edit = self.registry.edit().await?;
        if !edit.deactivate(active).await? {
            return Err(Problem::not_found(&format!("version {} of {}/{} in service", active.version, active.tenant, active.rule_set)));
        }
        let detail = json!({"rule_set": active.rule_set, "version": active.version, "shadow": active.shadow});
        edit.log(actor, "version.deactivate", &active.tenant, &detail).await?;
        self.swap(&mut deployed, edit, |_, _| Ok(())).await.map(drop)
    }

    /// Gives a rule of a rule set another status than its version says, or that again. The name of the generation.
    pub async fn switch(&self, tenant: &str, rule_set: &str, rule: &str, to: Option<Status>, actor: &Actor) -> Result<String, Problem> {
        let mut deployed = self.deployed.lock().await;
        let name = to.map(status_name);
        let mut edit = self.registry.edit().await?;
        edit.switch(tenant, rule_set, rule, name).await?;
        edit.log(actor, "rule.switch", tenant, &json!({"rule_set": rule_set, "rule": rule, "status": name})).await?;
        let there = |entries: &[Entry], _: &[Missing]| {
            let mut of_set = entries.iter().filter(|entry| *entry.tenant == *tenant && *entry.rule_set == *rule_set);
            if of_set.any(|entry| entry.artifact.find_rule(rule).is_some()) {
                return Ok(());
            }
            Err(Problem::not_found(&format!("rule `{rule}` in what is in service of {tenant}/{rule_set}")))
        };
        self.swap(&mut deployed, edit, there).await
    }

    /// Suspends a tenant, or lets it go on; makes it where there is none.
    pub async fn put_tenant(&self, name: &str, suspended: bool, actor: &Actor) -> Result<(), Problem> {
        let mut edit = self.registry.edit().await?;
        edit.put_tenant(&Tenant { name: name.to_owned(), suspended, created: actor.now }).await?;
        edit.log(actor, "tenant.put", name, &json!({"suspended": suspended})).await?;
        edit.commit().await?;
        self.follow().await;
        Ok(())
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
        let mut edit = self.registry.edit().await?;
        edit.remove_tenant(name).await?;
        edit.log(actor, "tenant.remove", name, &json!({})).await?;
        edit.commit().await?;
        self.follow().await;
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

/// Opens where artifacts and state are.
async fn places(config: &Config) -> Result<(Artifacts, Store), String> {
    let (stored, cache, state, s3) = (config.store_place()?, config.artifacts_dir(), config.state_dir(), config.s3.clone());
    aside(move || {
        let store = Artifacts::open(Store::open(&stored, &s3)?, cache);
        Ok((store.map_err(|error| format!("{}: {error}", stored.display()))?, Store::open(&state, &s3)?))
    })
    .await
}

/// Asks whether the rules of a version can be had.
fn there(active: &Active) -> impl FnOnce(&[Entry], &[Missing]) -> Result<(), Problem> {
    move |_, missing| match missing.iter().find(|(one, _)| one == active) {
        Some((_, problem)) => Err(Problem::internal(problem)),
        None => Ok(()),
    }
}

/// The schema that a text is.
pub(super) fn parsed(text: &str) -> Result<Schema, Problem> {
    Schema::parse("schema", text.as_bytes()).map_err(|error| Problem::bad_request(error.to_string()))
}

/// A new key among the changes, and what is shown of it this once.
async fn put_key(edit: &mut Edit, (name, role, tenant): (&str, Role, Option<&str>), actor: &Actor) -> Result<(Key, String), Problem> {
    let (key, shown) = Key::new(name, role, tenant, actor.now).map_err(|error| Problem::internal(&error))?;
    edit.add_key(&key).await?;
    let detail = json!({"key": key.id, "name": name, "role": role.name()});
    edit.log(actor, "key.add", tenant.unwrap_or(ALL), &detail).await?;
    Ok((key, shown))
}

/// What became of pushed files.
pub(super) struct CompiledFiles {
    /// Of the artifact.
    hash: String,
    rules: usize,
    tests: usize,
    warnings: Vec<Diagnostic>,
}

impl CompiledFiles {
    /// A version of a rule set, without its number.
    pub(super) fn version(&self, tenant: &str, rule_set: &str, note: &str, actor: &Actor) -> Version {
        Version {
            tenant: tenant.to_owned(),
            rule_set: rule_set.to_owned(),
            version: 0,
            hash: self.hash.clone(),
            rules: self.rules as i64,
            author: actor.name.clone(),
            note: note.to_owned(),
            created: actor.now,
        }
    }
}

/// Reads the rule files among pushed ones.
pub(super) fn read(files: &[PushedFile], limits: &Limits) -> Result<RuleFiles, Problem> {
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
    let unreadable = |(path, error): (PathBuf, io::Error)| Problem::bad_request(format!("{}: {error}", path.display()));
    RuleFiles::read(&rules, &read, limits).map_err(unreadable)
}

fn compiled(
    files: &[PushedFile],
    schema: &Schema,
    tenant: &str,
    threads: usize,
    lists: Lists,
    quota: &Quota,
) -> Result<(Vec<u8>, CompiledFiles), Problem> {
    let mut files = read(files, &Limits::default())?;
    for (list, entries) in lists {
        if !files.set_list(&list, entries) {
            return Err(Problem::not_found(&format!("list `{list}`")));
        }
    }
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
    Ok((bytes, CompiledFiles { hash: String::new(), rules: compiled.rules, tests: compiled.tests, warnings: compiled.diagnostics }))
}

#[cfg(test)]
mod tests;
