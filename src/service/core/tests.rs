//! What is scheduled, by clocks of the tests' own.

use super::super::config::Config;
use super::*;
use serde_json::Value;
use std::path::Path;

const SCHEMA: &str = "fields: {card: utf8, amount: int64}\n";

/// A process that shares its registry and store with others in this folder.
async fn service(folder: &Path, name: &str) -> Service {
    let mut config = Config { data_dir: folder.join(name), ..Config::default() };
    config.registry.url = format!("sqlite://{}?mode=rwc", folder.join("registry.db").display());
    config.store.url = folder.join("store").display().to_string();
    Service::open(config).await.unwrap().0
}

fn actor() -> Actor {
    Actor { name: "someone".to_owned(), now: 1 }
}

async fn push(service: &Arc<Service>, rules: &str) -> i64 {
    let file = |name: &str, text: &str| PushedFile { name: name.to_owned(), bytes: Bytes::copy_from_slice(text.as_bytes()) };
    let files = vec![file("schema.yaml", SCHEMA), file("rules.yaml", rules)];
    service.push(ALL, "main", files, "", &actor()).await.unwrap().version.version
}

fn at(version: i64, due: i64) -> Scheduled {
    let active = Active { tenant: ALL.to_owned(), rule_set: "main".to_owned(), version, shadow: false };
    Scheduled { active, due, author: "someone".to_owned() }
}

/// The actions in the audit log that came after so many entries.
async fn logged(service: &Service, after: i64) -> Vec<String> {
    service
        .registry
        .audit(after, 1000, None)
        .await
        .unwrap()
        .into_iter()
        .map(|entry| format!("{} by {}", entry.action, entry.actor))
        .collect()
}

async fn live(service: &Service) -> Vec<i64> {
    service.registry.active().await.unwrap().into_iter().map(|active| active.version).collect()
}

#[test]
fn what_is_scheduled_is_carried_out_once_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (one, other) = (Arc::new(service(folder.path(), "one").await), Arc::new(service(folder.path(), "other").await));
        let first = push(&one, "rules: [{id: a, when: amount > 1}]").await;
        let second = push(&one, "rules: [{id: a, when: amount > 2}]").await;
        other.follow().await;
        one.schedule(&at(first, 500), &actor()).await.unwrap();
        one.schedule(&at(second, 1000), &actor()).await.unwrap();
        assert_eq!(one.registry.scheduled(i64::MAX).await.unwrap(), [at(second, 1000)], "one of a rule set");
        let before = one.registry.audit(0, 1000, None).await.unwrap().len() as i64;
        one.carry_out(999).await.unwrap();
        assert_eq!((live(&one).await, logged(&one, before).await.len()), (Vec::new(), 0));
        let (a, b) = tokio::join!(one.carry_out(1000), other.carry_out(1000));
        a.unwrap();
        b.unwrap();
        one.carry_out(2000).await.unwrap();
        assert_eq!(live(&other).await, [second]);
        assert_eq!(logged(&one, before).await, ["version.activate by schedule of someone"]);
        one.follow().await;
        other.follow().await;
        let generation = |service: &Service| service.running().unwrap().live.snapshot().generation().to_string();
        assert_eq!(
            (generation(&one), generation(&one) == deploy::generation(&one.running().unwrap().schema, &[])),
            (generation(&other), false)
        );

        // What is taken back is not carried out, and what cannot be is not tried for ever.
        one.schedule(&at(first, 3000), &actor()).await.unwrap();
        one.unschedule(ALL, "main", &actor()).await.unwrap();
        assert!(one.unschedule(ALL, "main", &actor()).await.is_err());
        one.carry_out(4000).await.unwrap();
        assert_eq!(live(&one).await, [second]);
        let hash = one.registry.version(ALL, "main", first).await.unwrap().unwrap().hash;
        std::fs::remove_file(folder.path().join("store").join(format!("{hash}.dcep"))).unwrap();
        one.schedule(&at(first, 5000), &actor()).await.unwrap();
        let before = one.registry.audit(0, 1000, None).await.unwrap().len() as i64;
        one.carry_out(5000).await.unwrap();
        one.carry_out(5001).await.unwrap();
        assert_eq!((live(&one).await, logged(&one, before).await), (vec![second], vec!["schedule.fail by schedule of someone".to_owned()]));
        let detail = one.registry.audit(before, 1, None).await.unwrap().remove(0).detail;
        assert!(serde_json::from_str::<Value>(&detail).unwrap()["why"].is_string(), "{detail}");
        assert!(one.schedule(&at(9, 1), &actor()).await.is_err(), "there is no such version");
        one.stop();
        other.stop();
    });
}
