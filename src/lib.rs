//! A rules engine for streams of events: SQL conditions, compiled into columnar threshold tables, matched against batches of events on the CPU and
//! on the GPU. Exactly, and with the same answer everywhere.
//!
//! This page is the map of the crate. The README tells how to use it, rules/README.md what rules may say.
//!
//! # Two paths, one meeting point
//!
//! ```text
//! rule path   text ─ parse ─ check ─ normal form ─ tables ─► artifact      compile::compile
//!                                                              │
//! data path   files ─ batches ─ encode ─ match ─ verify ─ hits ─ decide ─ results
//!             connector, codec  └────── engine ───────┘       decide    connector::sink
//! ```
//!
//! * **Rules to tables.** [`rule`] reads documents and conditions, types them, and brings each condition into a normal form that keeps three-valued
//!   logic: terms, which are conjunctions of "this column's value lies in this set". [`compile`] writes them as [`tables`]: thresholds of each column,
//!   numbered in order, and blocks of ranges of those numbers. What is no threshold (column against column, patterns, functions) becomes a derived
//!   column, or a *residual* that is evaluated where the rest of its term holds. The [`tables::Artifact`] is one file that is mapped and used as it lies.
//! * **Events to hits.** [`encode`] turns each value into a code, its place among the thresholds of its column; [`matcher`] compares codes
//!   with ranges, on the CPU or in WGSL, and reduces what holds to an output of each row where no lists are wanted; [`engine`] evaluates residuals on the
//!   candidates that are left, with [`expr`] over whole columns. [`decide`] makes a score and an action of the hits.
//! * **Over time.** [`mod@window`] and [`pattern`] are what rules say of several events. [`temporal`] keeps the state of keys: windows add columns to a batch before it is encoded,
//!   which thresholds then are over as over any others; patterns see the events after it.
//! * **State on disk.** [`mod@snapshot`] is its format, pure over bytes. State is copied between batches in steps ([`temporal::steps`]), that of windows ([`temporal::windows::capture`]) and that of patterns
//!   ([`temporal::capture`]), written by [`connector::snapshots`] to a folder or an object store ([`connector::store`]), and `command::state` keeps it together with the positions of the inputs and the results that are out.
//!   What memory has no room for while a run goes on ([`temporal::spill`]), of windows and of patterns, is in a file of its own ([`connector::spill`]).
//! * **Changes.** [`live`] puts rules in service that may change one by one: a snapshot is a compiled base, the newer rules in its codes beside it, and what of the base
//!   no longer counts. It is the one place where both paths meet in a running engine; whoever needs no changes needs no compiler.
//! * **Events under changing rules.** [`stream`] takes the events of one source through windows, rules and patterns, batch after batch; the state of what is the same goes on when the rules change.
//! * **The judge.** [`mod@reference`] evaluates each rule's canonical text on each row with [`expr::oracle`], and shares neither tables nor encoder nor columnar
//!   evaluation with the others. Every back end gives its answer, to the bit.
//!
//! What follows from it, and is held by tests/architecture.rs:
//!
//! * The data path does not know the rule language: an artifact is matched without a parser. The matcher does not know events: it sees codes.
//! * Without the feature `gpu` every test still passes, and matching runs on the CPU. A GPU may refuse a batch, for want of memory or because
//!   the device was lost; [`engine::router`] then has the CPU match it, says so once, and counts it.
//! * From [`id`] to [`decide`] nothing prints, exits, or reads files, clocks or the environment, except where files are mapped ([`tables::artifact`])
//!   and back ends timed ([`engine::router`], the matcher on the GPU).
//! * Data never panics the engine. Whatever the bytes of rules, events or artifacts are, what is wrong with them is an error with a place and a reason.
//!
//! # Who may import whom
//!
//! | module | may import |
//! |---|---|
//! | `id` | |
//! | `event` | `id` |
//! | `expr` | `event`, `id` |
//! | `flow` | `id` |
//! | `parallel` | |
//! | `snapshot` | |
//! | `pattern` | `event`, `expr`, `id` |
//! | `window` | `event`, `expr`, `id` |
//! | `rule` | `event`, `expr`, `id`, `pattern`, `window` |
//! | `tables` | `event`, `expr`, `id`, `parallel`, `pattern`, `window` |
//! | `compile` | `event`, `expr`, `id`, `parallel`, `pattern`, `rule`, `tables`, `temporal` |
//! | `reference` | `event`, `expr`, `flow`, `id`, `rule`, `tables` |
//! | `encode` | `event`, `expr`, `flow`, `id`, `tables` |
//! | `matcher` | `flow`, `id`, `tables` |
//! | `engine` | `encode`, `event`, `expr`, `flow`, `id`, `matcher`, `tables` |
//! | `temporal` | `event`, `expr`, `flow`, `id`, `pattern`, `window` |
//! | `decide` | `flow`, `id`, `tables` |
//! | `live` | `compile`, `decide`, `engine`, `event`, `expr`, `flow`, `id`, `matcher`, `pattern`, `rule`, `tables` |
//! | `stream` | `compile`, `decide`, `engine`, `event`, `expr`, `flow`, `id`, `live`, `rule`, `snapshot`, `tables`, `temporal`, `window` |
//! | `codec` | `event`, `id` |
//! | `connector` | `codec`, `event`, `id`, `snapshot`, `temporal` |
//! | `service` | `codec`, `compile`, `connector`, `decide`, `engine`, `event`, `expr`, `flow`, `id`, `live`, `rule`, `snapshot`, `stream`, `tables`, `temporal` |
//! | `workload` | `codec`, `compile`, `event`, `flow`, `live`, `rule` |
//! | `command` | `codec`, `compile`, `connector`, `decide`, `engine`, `event`, `expr`, `flow`, `id`, `live`, `matcher`, `parallel`, `reference`, `rule`, `service`, `snapshot`, `stream`, `tables`, `temporal`, `window`, `workload` |
//!
//! wgpu is named in `matcher/gpu` only, rdkafka in `connector/kafka`, object_store in `connector/store/s3`, arrow-flight and tonic in `service/flight`, and what serves (axum, tokio, sqlx) in `service`; printing and exit codes belong to `main.rs`.
//!
//! # Words, one for each idea
//!
//! *Rule*; *condition*, its boolean expression; *term*, a conjunction of the normal form; *threshold*, a constant that a column is compared with; *code*, the
//! place of a value among the thresholds of its column; *residual*, the part of a term that is evaluated and not looked up; *candidate*, a
//! row and a term whose ranges hold; *hit*, a row and a rule that matches it; *decision*, what the engine says of one event; *artifact*, compiled
//! rules; *generation*, an artifact in service, named by its hash; *change*, of one rule; *snapshot*, of changing rules ([`live`]) one state of them, named by a hash of the first artifact and the
//! changes since, and of a run ([`mod@snapshot`]) its state on disk; *base*, the artifact that most of them lie in; *settled rule*, a newer one that is searched with others; *loose rule*, one that is not yet; *compaction*,
//! a new base of everything.
//!
//! # Modules
//!
//! In groups that are best read one after the other: what everything is made of, the rule path, the judge, the data path, the edges, and what it is measured with.

// What a process holds is nested deep, down to the handles of a GPU: proving that threads may share it takes more steps than the default of 128.
#![recursion_limit = "256"]

// What everything is made of.
pub mod event;
pub mod expr;
pub mod flow;
pub mod id;
pub mod parallel;
pub mod pattern;
pub mod snapshot;
pub mod window;

// The rule path, to the artifact.
pub mod compile;
pub mod rule;
pub mod tables;

// The judge.
pub mod reference;

// The data path.
pub mod decide;
pub mod encode;
pub mod engine;
pub mod matcher;
pub mod temporal;

// Both paths: rules that change while they are in service, and events under them.
pub mod live;
pub mod stream;

// The edges.
pub mod codec;
pub mod command;
pub mod connector;

// The process.
#[cfg(feature = "service")]
pub mod service;

// What all of it is measured with.
pub mod workload;
