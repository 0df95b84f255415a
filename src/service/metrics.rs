//! What is counted, for Prometheus.

use crate::live::Snapshot;
use crate::stream::Judged;
use crate::tables::artifact::ACTIONS;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::time::Duration;

type Labels = Vec<(&'static str, String)>;

/// All counters of a process.
pub struct Metrics {
    registry: Registry,
    decisions: Family<Labels, Counter>,
    rejected: Counter,
    late: Counter,
    findings: Counter,
    hits: Counter,
    batches: Counter,
    judging: Histogram,
    requests: Family<Labels, Counter>,
    request_seconds: Histogram,
    rules: Gauge,
    follow_errors: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("dynamic_cep");
        // From 50 µs to some seconds.
        let histogram = || Histogram::new(exponential_buckets(50e-6, 2.0, 17));
        let metrics = Self {
            decisions: Family::default(),
            rejected: Counter::default(),
            late: Counter::default(),
            findings: Counter::default(),
            hits: Counter::default(),
            batches: Counter::default(),
            judging: histogram(),
            requests: Family::default(),
            request_seconds: histogram(),
            rules: Gauge::default(),
            follow_errors: Counter::default(),
            registry: Registry::default(),
        };
        registry.register("decisions", "Events that were judged, by action", metrics.decisions.clone());
        registry.register("rejected_events", "Events that could not be judged", metrics.rejected.clone());
        registry.register("late_events", "Events that came later than allowed; no pattern has seen them", metrics.late.clone());
        registry.register("findings", "Findings of patterns", metrics.findings.clone());
        registry.register("hits", "Pairs of an event and a rule, live or shadow, that matches it", metrics.hits.clone());
        registry.register("batches", "Batches that were judged", metrics.batches.clone());
        registry.register("judging_seconds", "From taking a batch to its answers", metrics.judging.clone());
        registry.register("requests", "HTTP requests, by route and status", metrics.requests.clone());
        registry.register("request_seconds", "From a request to its answer", metrics.request_seconds.clone());
        registry.register("rules", "Rules in service", metrics.rules.clone());
        registry.register(
            "follow_errors",
            "Looks at the registry after which not all that it says was in service",
            metrics.follow_errors.clone(),
        );
        Self { registry, ..metrics }
    }
}

impl Metrics {
    pub fn batch(&self, _rows: usize, took: Duration) {
        self.batches.inc();
        self.judging.observe(took.as_secs_f64());
    }

    pub fn judged(&self, judged: &Judged, snapshot: &Snapshot) {
        for (action, name) in (0..).zip(ACTIONS) {
            let count = judged.decisions.actions.iter().filter(|taken| **taken == action).count();
            if count > 0 {
                self.decisions.get_or_create(&vec![("action", name.to_owned())]).inc_by(count as u64);
            }
        }
        self.hits.inc_by((judged.decisions.rules.rules.len() + judged.decisions.shadow_rules.rules.len()) as u64);
        self.findings.inc_by(judged.findings.len() as u64);
        self.late.inc_by(judged.late.len() as u64);
        self.rules.set(snapshot.rules() as i64);
    }

    pub fn rejected(&self) {
        self.rejected.inc();
    }

    pub fn follow_error(&self) {
        self.follow_errors.inc();
    }

    pub fn request(&self, route: &str, status: u16, took: Duration) {
        self.requests.get_or_create(&vec![("route", route.to_owned()), ("status", status.to_string())]).inc();
        self.request_seconds.observe(took.as_secs_f64());
    }

    /// All of it in OpenMetrics' text form.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to memory does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
