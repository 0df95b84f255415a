//! dynamic-cep: SQL rules compiled into columnar threshold tables, and event batches matched against them on the CPU and on the GPU.

pub mod event;
pub mod expr;
pub mod flow;
pub mod id;
pub mod matcher;
pub mod rule;
pub mod tables;
