//! What outlasts the process besides events: tenants, keys, versions of rule sets, which of them are in service, and the audit log; in SQLite or PostgreSQL.
//!
//! Every change and its entry in the audit log are one transaction.

use super::audit::{self, Entry};
use super::auth::{Key, Role};
use serde::Serialize;
use sqlx::any::{Any, AnyPoolOptions, AnyRow};
use sqlx::{AnyConnection, AnyPool, Executor, Row};
use std::collections::HashMap;
use std::time::Duration;

/// The tenant whose rule sets are for the events of every tenant.
pub const ALL: &str = "all";

/// Statements that make the tables, in both databases.
const TABLES: [&str; 11] = [
    "CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS tenants (name TEXT PRIMARY KEY, suspended BIGINT NOT NULL, created BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS api_keys (id TEXT PRIMARY KEY, hash TEXT NOT NULL, name TEXT NOT NULL, role TEXT NOT NULL, tenant TEXT, created BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS versions (tenant TEXT NOT NULL, rule_set TEXT NOT NULL, version BIGINT NOT NULL, hash TEXT NOT NULL, rules BIGINT NOT NULL, \
     author TEXT NOT NULL, note TEXT NOT NULL, created BIGINT NOT NULL, PRIMARY KEY (tenant, rule_set, version))",
    "CREATE TABLE IF NOT EXISTS active (tenant TEXT NOT NULL, rule_set TEXT NOT NULL, version BIGINT NOT NULL, mode TEXT NOT NULL, since BIGINT NOT NULL, \
     PRIMARY KEY (tenant, rule_set, version))",
    "CREATE TABLE IF NOT EXISTS activations (tenant TEXT NOT NULL, rule_set TEXT NOT NULL, number BIGINT NOT NULL, version BIGINT NOT NULL, \
     PRIMARY KEY (tenant, rule_set, number))",
    "CREATE TABLE IF NOT EXISTS switches (tenant TEXT NOT NULL, rule_set TEXT NOT NULL, rule TEXT NOT NULL, status TEXT NOT NULL, \
     PRIMARY KEY (tenant, rule_set, rule))",
    "CREATE TABLE IF NOT EXISTS audit (number BIGINT PRIMARY KEY, time BIGINT NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, tenant TEXT NOT NULL, \
     detail TEXT NOT NULL, previous TEXT NOT NULL, hash TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS tenant_limits (tenant TEXT PRIMARY KEY, events_per_second BIGINT, rules_max BIGINT, list_entries_max BIGINT)",
    "CREATE TABLE IF NOT EXISTS sources (tenant TEXT NOT NULL, rule_set TEXT NOT NULL, version BIGINT NOT NULL, hash TEXT NOT NULL, \
     PRIMARY KEY (tenant, rule_set, version))",
    "CREATE TABLE IF NOT EXISTS schedule (tenant TEXT NOT NULL, rule_set TEXT NOT NULL, version BIGINT NOT NULL, due BIGINT NOT NULL, author TEXT NOT NULL, \
     PRIMARY KEY (tenant, rule_set))",
];

/// A version of a rule set. It never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub tenant: String,
    pub rule_set: String,
    pub version: i64,
    /// Of the compiled rules.
    pub hash: String,
    pub rules: i64,
    pub author: String,
    pub note: String,
    /// Milliseconds since 1970.
    pub created: i64,
}

/// A version in service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Active {
    pub tenant: String,
    pub rule_set: String,
    pub version: i64,
    pub shadow: bool,
}

impl Active {
    const fn mode(&self) -> &'static str {
        if self.shadow { "shadow" } else { "live" }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    pub name: String,
    pub suspended: bool,
    pub created: i64,
}

/// Limits of one tenant in the place of those of all; 0: there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TenantLimits {
    pub events_per_second: Option<u32>,
    pub rules_max: Option<u32>,
    pub list_entries_max: Option<u32>,
}

/// A version that is to be put in service later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduled {
    pub active: Active,
    /// Milliseconds since 1970.
    pub due: i64,
    /// Who asked for it.
    pub author: String,
}

/// What is to be in service, as of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Counts the changes.
    pub revision: i64,
    /// Of the events, as it was given.
    pub schema: Option<String>,
    /// Versions in service, in order, each with the hash of its rules.
    pub active: Vec<(Active, String)>,
    pub switches: Vec<Switch>,
}

/// A rule whose status is other than its version says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    pub tenant: String,
    pub rule_set: String,
    pub rule: String,
    /// live, shadow or off.
    pub status: String,
}

/// Who does something, and when: what the audit log says of a change.
#[derive(Clone, Debug)]
pub struct Actor {
    pub name: String,
    /// Milliseconds since 1970.
    pub now: i64,
}

pub type Result<T> = std::result::Result<T, sqlx::Error>;

type Transaction = sqlx::Transaction<'static, sqlx::Any>;

/// The name of the schema among the settings.
pub const SCHEMA: &str = "schema";

/// The setting that counts changes.
const REVISION: &str = "revision";

/// How long a change waits for those of other processes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The registry.
#[derive(Clone)]
pub struct Registry {
    pool: AnyPool,
    is_sqlite: bool,
}

/// Changes that are made together, or not at all. Whoever else begins some, in this process or another one, waits until these are done: so what they read stays as it is, and
/// entries of the audit log follow one another.
pub struct Edit {
    transaction: Transaction,
}

impl Registry {
    /// Opens a registry, and makes its tables where there are none.
    ///
    /// # Errors
    /// What the database says.
    pub async fn open(url: &str) -> Result<Self> {
        sqlx::any::install_default_drivers();
        let is_sqlite = url.starts_with("sqlite:");
        let pool = AnyPoolOptions::new().max_connections(8).after_connect(move |connection, _| {
            Box::pin(async move {
                if is_sqlite {
                    let patience = format!("PRAGMA busy_timeout = {}", PATIENCE.as_millis());
                    sqlx::query(sqlx::AssertSqlSafe(patience)).execute(&mut *connection).await?;
                }
                Ok(())
            })
        });
        let pool = pool.connect(url).await?;
        if is_sqlite {
            write_ahead(&pool).await?;
        }
        let mut making = pool.begin_with(if is_sqlite { "BEGIN IMMEDIATE" } else { "BEGIN" }).await?;
        if !is_sqlite {
            // PostgreSQL makes tables that are not there for each who asks at the same time.
            sqlx::query("SELECT CAST(pg_advisory_xact_lock(7070) AS TEXT)").execute(&mut *making).await?;
        }
        for statement in TABLES {
            sqlx::query(statement).execute(&mut *making).await?;
        }
        making.commit().await?;
        Ok(Self { pool, is_sqlite })
    }

    /// Begins changes, after all that were begun before are done.
    ///
    /// # Errors
    /// What the database says; so do all that follow.
    pub async fn edit(&self) -> Result<Edit> {
        let mut transaction = self.pool.begin().await?;
        // The first statement writes: from here on both databases have others wait, and what is read is what the last change has left.
        let sql = "INSERT INTO settings (name, value) VALUES ($1, '1') \
                   ON CONFLICT (name) DO UPDATE SET value = CAST(CAST(settings.value AS BIGINT) + 1 AS TEXT)";
        sqlx::query(sql).bind(REVISION).execute(&mut *transaction).await?;
        Ok(Edit { transaction })
    }

    /// How many changes there were.
    pub async fn revision(&self) -> Result<i64> {
        revision(&self.pool).await
    }

    /// What is to be in service.
    pub async fn said(&self) -> Result<Said> {
        // One view of all tables, whatever is changed meanwhile.
        let begin = if self.is_sqlite { "BEGIN" } else { "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY" };
        let mut reading = self.pool.begin_with(begin).await?;
        let said = said(&mut reading).await?;
        reading.commit().await?;
        Ok(said)
    }

    /// A setting that is made once: `value`, unless it has one already.
    pub async fn setting_once(&self, name: &str, value: &str) -> Result<String> {
        let sql = "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
        sqlx::query(sql).bind(name).bind(value).execute(&self.pool).await?;
        Ok(setting(&self.pool, name).await?.unwrap_or_else(|| value.to_owned()))
    }

    pub async fn tenants(&self) -> Result<Vec<Tenant>> {
        let rows = sqlx::query("SELECT name, suspended, created FROM tenants ORDER BY name").fetch_all(&self.pool).await?;
        let tenant =
            |row: &AnyRow| Ok(Tenant { name: row.try_get(0)?, suspended: row.try_get::<i64, _>(1)? != 0, created: row.try_get(2)? });
        rows.iter().map(tenant).collect()
    }

    /// Limits of single tenants, by their names.
    pub async fn tenant_limits(&self) -> Result<HashMap<String, TenantLimits>> {
        let sql = "SELECT tenant, events_per_second, rules_max, list_entries_max FROM tenant_limits";
        let limits = |row: &AnyRow| {
            // No number is larger: it was one of 32 bits when it was written.
            let limit =
                |column| row.try_get::<Option<i64>, _>(column).map(|limit| limit.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX)));
            Ok((row.try_get(0)?, TenantLimits { events_per_second: limit(1)?, rules_max: limit(2)?, list_entries_max: limit(3)? }))
        };
        sqlx::query(sql).fetch_all(&self.pool).await?.iter().map(limits).collect()
    }

    pub async fn keys(&self) -> Result<Vec<Key>> {
        keys(&self.pool).await
    }

    /// The versions of a rule set, the newest first.
    pub async fn versions(&self, tenant: &str, rule_set: &str) -> Result<Vec<Version>> {
        let sql = "SELECT tenant, rule_set, version, hash, rules, author, note, created FROM versions \
                   WHERE tenant = $1 AND rule_set = $2 ORDER BY version DESC";
        sqlx::query(sql).bind(tenant).bind(rule_set).fetch_all(&self.pool).await?.iter().map(version).collect()
    }

    pub async fn version(&self, tenant: &str, rule_set: &str, number: i64) -> Result<Option<Version>> {
        version_on(&self.pool, tenant, rule_set, number).await
    }

    /// The hash of the files that a version was made of. `None`: of its time none are kept.
    pub async fn sources(&self, tenant: &str, rule_set: &str, number: i64) -> Result<Option<String>> {
        let sql = "SELECT hash FROM sources WHERE tenant = $1 AND rule_set = $2 AND version = $3";
        let row = sqlx::query(sql).bind(tenant).bind(rule_set).bind(number).fetch_optional(&self.pool).await?;
        row.map(|row| row.try_get(0)).transpose()
    }

    /// What is to be put in service by this time, the earliest first.
    pub async fn scheduled(&self, until: i64) -> Result<Vec<Scheduled>> {
        scheduled(&self.pool, until).await
    }

    /// The names of a tenant's rule sets.
    pub async fn rule_sets(&self, tenant: &str) -> Result<Vec<String>> {
        let sql = "SELECT DISTINCT rule_set FROM versions WHERE tenant = $1 ORDER BY rule_set";
        sqlx::query(sql).bind(tenant).fetch_all(&self.pool).await?.iter().map(|row| row.try_get(0)).collect()
    }

    /// All versions in service, in order.
    pub async fn active(&self) -> Result<Vec<Active>> {
        Ok(active(&self.pool).await?.into_iter().map(|(active, _)| active).collect())
    }

    /// The version that was live before the one that is.
    pub async fn live_before(&self, tenant: &str, rule_set: &str) -> Result<Option<i64>> {
        let sql = "SELECT version FROM activations WHERE tenant = $1 AND rule_set = $2 ORDER BY number DESC";
        let rows = sqlx::query(sql).bind(tenant).bind(rule_set).fetch_all(&self.pool).await?;
        let versions: Vec<i64> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_>>()?;
        Ok(versions.first().and_then(|live| versions.iter().find(|version| *version != live)).copied())
    }

    /// Entries of the audit log after number `after`, at most so many; of one tenant, or of all.
    pub async fn audit(&self, after: i64, limit: i64, tenant: Option<&str>) -> Result<Vec<Entry>> {
        let sql = "SELECT number, time, actor, action, tenant, detail, previous, hash FROM audit \
                   WHERE number > $1 AND ($2 = '' OR tenant = $2) ORDER BY number LIMIT $3";
        let rows = sqlx::query(sql).bind(after).bind(tenant.unwrap_or_default()).bind(limit).fetch_all(&self.pool).await?;
        rows.iter().map(entry).collect()
    }
}

impl Edit {
    /// What is to be in service once the changes so far last.
    pub async fn said(&mut self) -> Result<Said> {
        said(&mut self.transaction).await
    }

    pub async fn setting(&mut self, name: &str) -> Result<Option<String>> {
        setting(&mut *self.transaction, name).await
    }

    pub async fn keys(&mut self) -> Result<Vec<Key>> {
        keys(&mut *self.transaction).await
    }

    pub async fn version(&mut self, tenant: &str, rule_set: &str, number: i64) -> Result<Option<Version>> {
        version_on(&mut *self.transaction, tenant, rule_set, number).await
    }

    /// Makes the changes last.
    pub async fn commit(self) -> Result<()> {
        self.transaction.commit().await
    }

    /// Writes an entry of the audit log: what a change is, for whom. `detail` is JSON without anything sensitive.
    pub async fn log(&mut self, actor: &Actor, action: &str, tenant: &str, detail: &serde_json::Value) -> Result<()> {
        let last =
            sqlx::query("SELECT number, time, actor, action, tenant, detail, previous, hash FROM audit ORDER BY number DESC LIMIT 1");
        let last = last.fetch_optional(&mut *self.transaction).await?.as_ref().map(entry).transpose()?;
        let next = audit::next(last.as_ref(), actor, action, tenant, detail);
        sqlx::query(
            "INSERT INTO audit (number, time, actor, action, tenant, detail, previous, hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(next.number)
        .bind(next.time)
        .bind(next.actor)
        .bind(next.action)
        .bind(next.tenant)
        .bind(next.detail)
        .bind(next.previous)
        .bind(next.hash)
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    pub async fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let sql = "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        sqlx::query(sql).bind(name).bind(value).execute(&mut *self.transaction).await.map(drop)
    }

    pub async fn put_tenant(&mut self, tenant: &Tenant) -> Result<()> {
        let sql = "INSERT INTO tenants (name, suspended, created) VALUES ($1, $2, $3) \
                   ON CONFLICT (name) DO UPDATE SET suspended = excluded.suspended";
        let query = sqlx::query(sql).bind(tenant.name.clone()).bind(i64::from(tenant.suspended)).bind(tenant.created);
        query.execute(&mut *self.transaction).await.map(drop)
    }

    pub async fn put_tenant_limits(&mut self, tenant: &str, limits: &TenantLimits) -> Result<()> {
        let sql = "INSERT INTO tenant_limits (tenant, events_per_second, rules_max, list_entries_max) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT (tenant) DO UPDATE SET events_per_second = excluded.events_per_second, rules_max = excluded.rules_max, \
                   list_entries_max = excluded.list_entries_max";
        let [events, rules, entries] =
            [limits.events_per_second, limits.rules_max, limits.list_entries_max].map(|limit| limit.map(i64::from));
        let query = sqlx::query(sql).bind(tenant).bind(events).bind(rules).bind(entries);
        query.execute(&mut *self.transaction).await.map(drop)
    }

    /// Adds a tenant, where there is none of this name.
    pub async fn add_tenant(&mut self, name: &str, now: i64) -> Result<()> {
        let sql = "INSERT INTO tenants (name, suspended, created) VALUES ($1, 0, $2) ON CONFLICT (name) DO NOTHING";
        sqlx::query(sql).bind(name).bind(now).execute(&mut *self.transaction).await.map(drop)
    }

    /// Removes a tenant with all that is its own, but for the audit log.
    pub async fn remove_tenant(&mut self, name: &str) -> Result<()> {
        for sql in [
            "DELETE FROM switches WHERE tenant = $1",
            "DELETE FROM activations WHERE tenant = $1",
            "DELETE FROM active WHERE tenant = $1",
            "DELETE FROM schedule WHERE tenant = $1",
            "DELETE FROM sources WHERE tenant = $1",
            "DELETE FROM versions WHERE tenant = $1",
            "DELETE FROM api_keys WHERE tenant = $1",
            "DELETE FROM tenant_limits WHERE tenant = $1",
            "DELETE FROM tenants WHERE name = $1",
        ] {
            sqlx::query(sql).bind(name).execute(&mut *self.transaction).await?;
        }
        Ok(())
    }

    pub async fn add_key(&mut self, key: &Key) -> Result<()> {
        sqlx::query("INSERT INTO api_keys (id, hash, name, role, tenant, created) VALUES ($1, $2, $3, $4, $5, $6)")
            .bind(key.id.clone())
            .bind(key.hash.clone())
            .bind(key.name.clone())
            .bind(key.role.name())
            .bind(key.tenant.clone())
            .bind(key.created)
            .execute(&mut *self.transaction)
            .await
            .map(drop)
    }

    pub async fn remove_key(&mut self, id: &str) -> Result<()> {
        sqlx::query("DELETE FROM api_keys WHERE id = $1").bind(id).execute(&mut *self.transaction).await.map(drop)
    }

    /// Adds a version; its number is the next one of its rule set, whatever it says.
    pub async fn add_version(&mut self, mut version: Version) -> Result<Version> {
        let sql = "SELECT COALESCE(MAX(version), 0) FROM versions WHERE tenant = $1 AND rule_set = $2";
        let last = sqlx::query(sql).bind(version.tenant.clone()).bind(version.rule_set.clone()).fetch_one(&mut *self.transaction).await?;
        version.version = last.try_get::<i64, _>(0)? + 1;
        sqlx::query(
            "INSERT INTO versions (tenant, rule_set, version, hash, rules, author, note, created) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(version.tenant.clone())
        .bind(version.rule_set.clone())
        .bind(version.version)
        .bind(version.hash.clone())
        .bind(version.rules)
        .bind(version.author.clone())
        .bind(version.note.clone())
        .bind(version.created)
        .execute(&mut *self.transaction)
        .await?;
        Ok(version)
    }

    /// Keeps by which hash the files of a version are found.
    pub async fn add_sources(&mut self, version: &Version, hash: &str) -> Result<()> {
        let sql = "INSERT INTO sources (tenant, rule_set, version, hash) VALUES ($1, $2, $3, $4)";
        let query = sqlx::query(sql).bind(version.tenant.clone()).bind(version.rule_set.clone()).bind(version.version).bind(hash);
        query.execute(&mut *self.transaction).await.map(drop)
    }

    /// Schedules a version, in the place of another one of its rule set.
    pub async fn schedule(&mut self, scheduled: &Scheduled) -> Result<()> {
        let sql = "INSERT INTO schedule (tenant, rule_set, version, due, author) VALUES ($1, $2, $3, $4, $5) \
                   ON CONFLICT (tenant, rule_set) DO UPDATE SET version = excluded.version, due = excluded.due, author = excluded.author";
        let Scheduled { active, due, author } = scheduled;
        let query = sqlx::query(sql).bind(active.tenant.clone()).bind(active.rule_set.clone()).bind(active.version);
        query.bind(*due).bind(author.clone()).execute(&mut *self.transaction).await.map(drop)
    }

    /// What is to be put in service by this time, the earliest first.
    pub async fn scheduled(&mut self, until: i64) -> Result<Vec<Scheduled>> {
        scheduled(&mut *self.transaction, until).await
    }

    /// Takes what is scheduled of a rule set out. `false`: there is nothing.
    pub async fn unschedule(&mut self, tenant: &str, rule_set: &str) -> Result<bool> {
        let sql = "DELETE FROM schedule WHERE tenant = $1 AND rule_set = $2";
        Ok(sqlx::query(sql).bind(tenant).bind(rule_set).execute(&mut *self.transaction).await?.rows_affected() > 0)
    }

    /// The live version of a rule set.
    pub async fn live(&mut self, tenant: &str, rule_set: &str) -> Result<Option<i64>> {
        let sql = "SELECT version FROM active WHERE tenant = $1 AND rule_set = $2 AND mode = 'live'";
        let row = sqlx::query(sql).bind(tenant).bind(rule_set).fetch_optional(&mut *self.transaction).await?;
        row.map(|row| row.try_get(0)).transpose()
    }

    /// Puts a version in service: live in the place of the one that was, or as a shadow beside it.
    pub async fn activate(&mut self, active: &Active, now: i64) -> Result<()> {
        let (tenant, rule_set) = (&active.tenant, &active.rule_set);
        if !active.shadow {
            let sql = "DELETE FROM active WHERE tenant = $1 AND rule_set = $2 AND mode = 'live'";
            sqlx::query(sql).bind(tenant.clone()).bind(rule_set.clone()).execute(&mut *self.transaction).await?;
            let sql = "INSERT INTO activations (tenant, rule_set, number, version) \
                       SELECT $1, $2, COALESCE(MAX(number), 0) + 1, $3 FROM activations WHERE tenant = $1 AND rule_set = $2";
            let query = sqlx::query(sql).bind(tenant.clone()).bind(rule_set.clone()).bind(active.version);
            query.execute(&mut *self.transaction).await?;
        }
        let sql = "INSERT INTO active (tenant, rule_set, version, mode, since) VALUES ($1, $2, $3, $4, $5) \
                   ON CONFLICT (tenant, rule_set, version) DO UPDATE SET mode = excluded.mode, since = excluded.since";
        sqlx::query(sql)
            .bind(tenant.clone())
            .bind(rule_set.clone())
            .bind(active.version)
            .bind(active.mode())
            .bind(now)
            .execute(&mut *self.transaction)
            .await
            .map(drop)
    }

    /// Takes a version out of service. `false`: it was not.
    pub async fn deactivate(&mut self, active: &Active) -> Result<bool> {
        let sql = "DELETE FROM active WHERE tenant = $1 AND rule_set = $2 AND version = $3 AND mode = $4";
        let query = sqlx::query(sql).bind(active.tenant.clone()).bind(active.rule_set.clone()).bind(active.version).bind(active.mode());
        Ok(query.execute(&mut *self.transaction).await?.rows_affected() > 0)
    }

    /// Gives a rule another status than its version says, or, without one, that again.
    pub async fn switch(&mut self, tenant: &str, rule_set: &str, rule: &str, status: Option<&str>) -> Result<()> {
        let sql = "DELETE FROM switches WHERE tenant = $1 AND rule_set = $2 AND rule = $3";
        sqlx::query(sql).bind(tenant).bind(rule_set).bind(rule).execute(&mut *self.transaction).await?;
        let Some(status) = status else { return Ok(()) };
        let sql = "INSERT INTO switches (tenant, rule_set, rule, status) VALUES ($1, $2, $3, $4)";
        sqlx::query(sql).bind(tenant).bind(rule_set).bind(rule).bind(status).execute(&mut *self.transaction).await.map(drop)
    }
}

/// Has a file of SQLite written in a way in which reading waits for no change.
async fn write_ahead(pool: &AnyPool) -> Result<()> {
    let set = || sqlx::query("PRAGMA journal_mode = WAL").execute(pool);
    // Where several processes begin at the same time SQLite does not have them wait for one another here, so it is tried again.
    for _ in 0..100 {
        if set().await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    set().await.map(drop)
}

async fn setting(on: impl Executor<'_, Database = Any>, name: &str) -> Result<Option<String>> {
    let row = sqlx::query("SELECT value FROM settings WHERE name = $1").bind(name.to_owned()).fetch_optional(on).await?;
    row.map(|row| row.try_get(0)).transpose()
}

async fn revision(on: impl Executor<'_, Database = Any>) -> Result<i64> {
    let Some(text) = setting(on, REVISION).await? else { return Ok(0) };
    text.parse().map_err(|_| sqlx::Error::Decode(format!("the revision is `{text}`, which is no number").into()))
}

async fn said(on: &mut AnyConnection) -> Result<Said> {
    Ok(Said {
        revision: revision(&mut *on).await?,
        schema: setting(&mut *on, SCHEMA).await?,
        active: active(&mut *on).await?,
        switches: switches(on).await?,
    })
}

async fn active(on: impl Executor<'_, Database = Any>) -> Result<Vec<(Active, String)>> {
    let sql = "SELECT a.tenant, a.rule_set, a.version, a.mode, v.hash FROM active a \
               JOIN versions v ON v.tenant = a.tenant AND v.rule_set = a.rule_set AND v.version = a.version \
               ORDER BY a.tenant, a.rule_set, a.version";
    let rows = sqlx::query(sql).fetch_all(on).await?;
    let active = |row: &AnyRow| {
        let shadow = row.try_get::<String, _>(3)? == "shadow";
        Ok((Active { tenant: row.try_get(0)?, rule_set: row.try_get(1)?, version: row.try_get(2)?, shadow }, row.try_get(4)?))
    };
    rows.iter().map(active).collect()
}

async fn scheduled(on: impl Executor<'_, Database = Any>, until: i64) -> Result<Vec<Scheduled>> {
    let sql = "SELECT tenant, rule_set, version, due, author FROM schedule WHERE due <= $1 ORDER BY due, tenant, rule_set";
    let rows = sqlx::query(sql).bind(until).fetch_all(on).await?;
    let scheduled = |row: &AnyRow| {
        let active = Active { tenant: row.try_get(0)?, rule_set: row.try_get(1)?, version: row.try_get(2)?, shadow: false };
        Ok(Scheduled { active, due: row.try_get(3)?, author: row.try_get(4)? })
    };
    rows.iter().map(scheduled).collect()
}

async fn switches(on: impl Executor<'_, Database = Any>) -> Result<Vec<Switch>> {
    let sql = "SELECT tenant, rule_set, rule, status FROM switches ORDER BY tenant, rule_set, rule";
    let rows = sqlx::query(sql).fetch_all(on).await?;
    let switch =
        |row: &AnyRow| Ok(Switch { tenant: row.try_get(0)?, rule_set: row.try_get(1)?, rule: row.try_get(2)?, status: row.try_get(3)? });
    rows.iter().map(switch).collect()
}

async fn keys(on: impl Executor<'_, Database = Any>) -> Result<Vec<Key>> {
    let rows = sqlx::query("SELECT id, hash, name, role, tenant, created FROM api_keys ORDER BY created, id").fetch_all(on).await?;
    let key = |row: &AnyRow| {
        let role: String = row.try_get(3)?;
        Ok(Key {
            id: row.try_get(0)?,
            hash: row.try_get(1)?,
            name: row.try_get(2)?,
            role: Role::parse(&role).ok_or_else(|| sqlx::Error::Decode(format!("there is no role {role}").into()))?,
            tenant: row.try_get(4)?,
            created: row.try_get(5)?,
        })
    };
    rows.iter().map(key).collect()
}

async fn version_on(on: impl Executor<'_, Database = Any>, tenant: &str, rule_set: &str, number: i64) -> Result<Option<Version>> {
    let sql = "SELECT tenant, rule_set, version, hash, rules, author, note, created FROM versions \
               WHERE tenant = $1 AND rule_set = $2 AND version = $3";
    let query = sqlx::query(sql).bind(tenant.to_owned()).bind(rule_set.to_owned()).bind(number);
    query.fetch_optional(on).await?.as_ref().map(version).transpose()
}

fn version(row: &AnyRow) -> Result<Version> {
    Ok(Version {
        tenant: row.try_get(0)?,
        rule_set: row.try_get(1)?,
        version: row.try_get(2)?,
        hash: row.try_get(3)?,
        rules: row.try_get(4)?,
        author: row.try_get(5)?,
        note: row.try_get(6)?,
        created: row.try_get(7)?,
    })
}

fn entry(row: &AnyRow) -> Result<Entry> {
    Ok(Entry {
        number: row.try_get(0)?,
        time: row.try_get(1)?,
        actor: row.try_get(2)?,
        action: row.try_get(3)?,
        tenant: row.try_get(4)?,
        detail: row.try_get(5)?,
        previous: row.try_get(6)?,
        hash: row.try_get(7)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    async fn edit_of(registry: &Registry, nth: i64) -> Result<()> {
        let mut edit = registry.edit().await?;
        edit.add_tenant(&format!("t{nth}"), nth).await?;
        edit.log(&Actor { name: "someone".to_owned(), now: nth }, "tenant.put", "t", &json!({"nth": nth})).await?;
        edit.commit().await
    }

    /// Two processes over one file: each change sees what the one before it left.
    #[test]
    fn changes_follow_one_another() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}?mode=rwc", folder.path().join("registry.db").display());
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (one, other) = tokio::join!(Registry::open(&url), Registry::open(&url));
            let (one, other) = (one.unwrap(), other.unwrap());
            let tasks: Vec<_> = (0..60)
                .map(|nth| {
                    let registry = if nth % 2 == 0 { one.clone() } else { other.clone() };
                    tokio::spawn(async move { edit_of(&registry, nth).await })
                })
                .collect();
            for task in tasks {
                task.await.unwrap().unwrap();
            }
            assert_eq!((one.revision().await.unwrap(), other.said().await.unwrap().revision), (60, 60));
            assert_eq!(audit::verify(None, &one.audit(0, 1000, None).await.unwrap()), Ok(()));
            // What is dropped has changed nothing.
            drop(one.edit().await.unwrap());
            assert_eq!(other.revision().await.unwrap(), 60);
            // Without waiting for one another they would not have been right.
            let careless = |registry: &Registry| {
                let pool = registry.pool.clone();
                async move { Edit { transaction: pool.begin().await.unwrap() } }
            };
            let (mut first, mut second) = (careless(&one).await, careless(&other).await);
            let actor = Actor { name: "someone".to_owned(), now: 0 };
            assert!(second.keys().await.unwrap().is_empty());
            first.log(&actor, "a", "t", &json!({})).await.unwrap();
            first.commit().await.unwrap();
            assert!(second.log(&actor, "b", "t", &json!({})).await.is_err());
        });
    }
}
