//! What the registry says, put in service: after a change that this process makes, and after those of others.

use super::core::{Service, parsed};
use super::deploy::{self, Entry, status};
use super::problem::Problem;
use super::registry::{Active, Edit, Said};
use super::store::aside;
use crate::event::Schema;
use crate::live::{Change, LiveEngine, Snapshot};
use crate::rule::Diagnostic;
use crate::rule::window::Columns;
use std::sync::{Arc, PoisonError};

/// What is in service.
#[derive(Debug, Default)]
pub struct Deployed {
    /// The last state of the registry of which everything was in service.
    pub revision: i64,
    pub entries: Vec<Entry>,
}

/// A version that is to be in service, and why its rules cannot be had.
pub(super) type Missing = (Active, String);

impl Service {
    /// Puts in service what other processes have changed, if they have. Why not all of it could be, [`Service::behind`] tells; the next call tries it again.
    pub async fn follow(&self) {
        let mut deployed = self.deployed.lock().await;
        let followed = self.follow_from(&mut deployed).await;
        let mut behind = self.behind.write().unwrap_or_else(PoisonError::into_inner);
        *behind = followed.err();
        if let Some(trouble) = &*behind {
            self.metrics.follow_error();
            tracing::error!(trouble, "not all that the registry says is in service");
        }
    }

    async fn follow_from(&self, deployed: &mut Deployed) -> Result<(), String> {
        if self.registry.revision().await.map_err(unreadable)? == deployed.revision {
            return Ok(());
        }
        let said = self.registry.said().await.map_err(unreadable)?;
        self.catch_up(deployed, said).await
    }

    /// Why not all that the registry says is in service, if that is so.
    #[must_use]
    pub fn behind(&self) -> Option<String> {
        self.behind.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Brings everything to what the registry has said.
    pub(super) async fn catch_up(&self, deployed: &mut Deployed, said: Said) -> Result<(), String> {
        self.reload_keys().await.map_err(unreadable)?;
        self.reload_tenants().await.map_err(unreadable)?;
        let Some(schema) = said.schema.as_deref().map(parsed).transpose().map_err(|problem| format!("the schema: {problem}"))? else {
            deployed.revision = said.revision;
            return Ok(());
        };
        let (entries, missing) = self.entries(&deployed.entries, &said).await;
        match self.running() {
            Some(running) => {
                let put = put_in_service(&running.live, &running.schema, deployed.entries.clone(), entries.clone()).await;
                put.map_err(|problem| problem.to_string())?;
            }
            None => self.begin(schema, entries.clone()).await?,
        }
        deployed.entries = entries;
        if !missing.is_empty() {
            return Err(missing.into_iter().map(|(_, problem)| problem).collect::<Vec<_>>().join("; "));
        }
        deployed.revision = said.revision;
        Ok(())
    }

    /// Puts in service what the registry says after these changes, and makes them last; neither, where one cannot be done. `check`: what is asked of the versions that are then in
    /// service, and of those whose rules are missing. The name of the generation.
    pub(super) async fn swap(
        &self,
        deployed: &mut Deployed,
        mut edit: Edit,
        check: impl FnOnce(&[Entry], &[Missing]) -> Result<(), Problem>,
    ) -> Result<String, Problem> {
        let running = self.needed()?;
        let said = edit.said().await?;
        let (entries, missing) = self.entries(&deployed.entries, &said).await;
        check(&entries, &missing)?;
        self.together(&deployed.entries, &entries)?;
        self.shared.limits.in_service(&deployed.entries, &entries)?;
        let before = Arc::clone(running.live.snapshot().generation());
        let generation = put_in_service(&running.live, &running.schema, deployed.entries.clone(), entries.clone()).await?;
        if let Err(error) = edit.commit().await {
            running.live.rollback(&before).map_err(|error| Problem::internal(&error))?;
            return Err(error.into());
        }
        deployed.entries = entries;
        // Where something of others is missing, or keys of others have come meanwhile, the next look at the registry sees to it.
        if missing.is_empty() && deployed.revision + 1 == said.revision {
            deployed.revision = said.revision;
        }
        Ok(generation)
    }

    /// Whether all events that new versions keep state of together are in one partition.
    fn together(&self, before: &[Entry], after: &[Entry]) -> Result<(), Problem> {
        let key = &self.config.kafka.key;
        let is_new = |entry: &&Entry| !before.iter().any(|known| known.hash == entry.hash);
        let scattered: Vec<String> = after.iter().filter(is_new).flat_map(|entry| deploy::scattered(&entry.artifact, key)).collect();
        if scattered.is_empty() {
            return Ok(());
        }
        let (key, all) = (key.join(", "), scattered.join(", "));
        let state = "which what state is partitioned by must have among its fields";
        Err(Problem::rules(
            format!("events of Kafka are in the partition of their {key} (kafka.key), {state}; it is not so of {all}"),
            Vec::new(),
        ))
    }

    /// The rules in service, their versions, and the versions that would be with this one.
    ///
    /// # Errors
    /// A version that is not there.
    pub(super) async fn entries_with(&self, active: &Active) -> Result<(Arc<Snapshot>, Vec<Entry>, Vec<Entry>), Problem> {
        let unknown = || Problem::not_found(&format!("version {} of {}/{}", active.version, active.tenant, active.rule_set));
        let version = self.registry.version(&active.tenant, &active.rule_set, active.version).await?.ok_or_else(unknown)?;
        let deployed = self.deployed.lock().await;
        let mut said = self.registry.said().await?;
        said.active.retain(|(one, _)| {
            let same_set = one.tenant == active.tenant && one.rule_set == active.rule_set;
            !same_set || (one.version != active.version && (active.shadow || one.shadow))
        });
        said.active.push((active.clone(), version.hash));
        said.active.sort_by(|(one, _), (other, _)| one.cmp(other));
        let (after, missing) = self.entries(&deployed.entries, &said).await;
        if let Some((_, problem)) = missing.iter().find(|(one, _)| one == active) {
            return Err(Problem::internal(problem));
        }
        Ok((self.needed()?.live.snapshot(), deployed.entries.clone(), after))
    }

    /// The versions that the registry says are in service, and those whose rules are missing: what was in service in their place stays.
    async fn entries(&self, known: &[Entry], said: &Said) -> (Vec<Entry>, Vec<Missing>) {
        let (mut entries, mut missing) = (Vec::new(), Vec::new());
        for (active, hash) in &said.active {
            let Active { tenant, rule_set, version, shadow } = active;
            let of_set = said.switches.iter().filter(|switch| switch.tenant == *tenant && switch.rule_set == *rule_set);
            let switched = of_set.filter_map(|switch| Some((switch.rule.clone(), status(&switch.status)?))).collect();
            let there = known.iter().find(|entry| *entry.hash == **hash).map(|entry| Arc::clone(&entry.artifact));
            let got = match there {
                Some(artifact) => Ok(artifact),
                None => {
                    let (store, hash) = (self.store.clone(), hash.clone());
                    aside(move || store.get(&hash)).await
                }
            };
            match got {
                Ok(artifact) => entries.push(Entry {
                    tenant: tenant.as_str().into(),
                    rule_set: rule_set.as_str().into(),
                    version: *version,
                    shadow: *shadow,
                    hash: hash.as_str().into(),
                    artifact,
                    switched,
                }),
                Err(error) => {
                    let in_place = |entry: &&Entry| *entry.tenant == **tenant && *entry.rule_set == **rule_set && !entry.shadow && !shadow;
                    entries.extend(known.iter().find(in_place).cloned());
                    missing.push((active.clone(), format!("version {version} of {tenant}/{rule_set}: {error}")));
                }
            }
        }
        (entries, missing)
    }
}

fn unreadable(error: sqlx::Error) -> String {
    format!("the registry cannot be read: {error}")
}

/// The name of a generation, what is to be done to the rules before it, and the windows where all rules must be compiled with that.
type Changes = (String, Vec<Change>, Option<Columns>);

/// What makes of the rules of `snapshot`, which are those of `before`, those of `after`.
pub(super) fn changes_to(snapshot: &Snapshot, schema: &Schema, before: &[Entry], after: &[Entry]) -> Result<Changes, Problem> {
    let name = deploy::generation(schema, after);
    if **snapshot.generation() == *name {
        return Ok((name, Vec::new(), None));
    }
    let changes = deploy::changes(before, after).map_err(|error| Problem::rules(error, Vec::new()))?;
    let columns = deploy::columns(schema, after);
    let columns = deploy::needs_rebuild(snapshot, &changes, &columns).then_some(columns);
    Ok((name, changes, columns))
}

pub(super) fn refused(diagnostics: Vec<Diagnostic>) -> Problem {
    Problem::rules("the rules cannot be put in service together with those that are", diagnostics)
}

/// Puts versions in service in the place of others, and the name of the generation.
pub(super) async fn put_in_service(
    live: &Arc<LiveEngine>,
    schema: &Schema,
    before: Vec<Entry>,
    after: Vec<Entry>,
) -> Result<String, Problem> {
    let (live, schema) = (Arc::clone(live), schema.clone());
    let put = move || {
        let (name, changes, columns) = changes_to(&live.snapshot(), &schema, &before, &after)?;
        if **live.snapshot().generation() != *name {
            live.put_as(&name, &changes, columns).map_err(refused)?;
        }
        Ok(name)
    };
    tokio::task::spawn_blocking(put).await.map_err(|error| Problem::internal(&error))?
}
