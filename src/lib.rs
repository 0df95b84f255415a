//! dynamic-cep: SQL rules compiled into columnar threshold tables, and event batches matched against them on the CPU and on the GPU.

pub mod codec;
pub mod command;
pub mod compile;
pub mod connector;
pub mod decide;
pub mod encode;
pub mod engine;
pub mod event;
pub mod expr;
pub mod flow;
pub mod id;
pub mod matcher;
pub mod parallel;
pub mod reference;
pub mod rule;
pub mod tables;
