//! The process: rules of many tenants in a registry, events judged as they come, over HTTP.
//!
//! ```text
//! registry ─ follow, deploy ─► live rules ─┐
//! requests ─ api ─ scorer: journal ────── stream ─► answers
//! ```

pub mod answer;
pub mod api;
pub mod audit;
pub mod auth;
pub mod config;
pub mod core;
pub mod deploy;
pub mod follow;
pub mod journal;
pub mod metrics;
pub mod preview;
pub mod problem;
pub mod registry;
pub mod run;
pub mod scorer;
pub mod sources;
pub mod store;
