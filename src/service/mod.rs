//! The process: rules of many tenants in a registry, events judged as they come, over HTTP, by Arrow Flight and from Kafka.
//!
//! ```text
//! registry ─ follow, deploy ─► live rules ─────────┐
//! requests ─ api, flight ─ scorer: journal ────── stream ─► answers
//! ```

pub mod answer;
pub mod api;
pub mod audit;
pub mod auth;
pub mod config;
pub mod core;
pub mod deploy;
#[cfg(feature = "flight")]
pub mod flight;
pub mod follow;
pub mod journal;
pub mod jwt;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod keeper;
pub mod limits;
pub mod metrics;
pub mod owners;
pub mod preview;
pub mod problem;
pub mod queue;
pub mod registry;
pub mod run;
pub mod scorer;
pub mod sensitive;
pub mod sources;
pub mod store;
pub mod tls;
