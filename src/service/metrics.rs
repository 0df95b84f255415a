//! What is counted, for Prometheus. What is counted of single tenants and rules is bounded: the first ones have series of their own, all others have one together.

use super::owners::Owners;
use crate::id::RuleId;
use crate::live::Snapshot;
use crate::stream::{Judged, Stream};
use crate::tables::artifact::ACTIONS;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

type Labels = Vec<(&'static str, String)>;

/// What all together are called that have no series of their own.
const OTHER: &str = "other";

/// From 50 µs to some seconds.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(50e-6, 2.0, 17))
}

/// Names of which the first ones are known.
struct Known {
    names: Mutex<HashSet<String>>,
    max: usize,
}

impl Known {
    fn new(max: usize) -> Self {
        Self { names: Mutex::default(), max }
    }

    /// The name, or what stands for those that came too late.
    fn name<'n>(&self, name: &'n str) -> &'n str {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.contains(name) {
            return name;
        }
        if names.len() >= self.max || name == OTHER {
            return OTHER;
        }
        names.insert(name.to_owned());
        name
    }
}

/// All counters of a process.
pub struct Metrics {
    /// Of all tenants together.
    registry: Registry,
    /// Of single tenants.
    of_tenants: Registry,
    tenants: Known,
    rules_known: Known,
    decisions: Family<Labels, Counter>,
    rejected: Counter,
    late: Counter,
    findings: Counter,
    hits: Counter,
    batches: Counter,
    judging: Histogram,
    stages: Family<Labels, Histogram, fn() -> Histogram>,
    requests: Family<Labels, Counter>,
    request_seconds: Histogram,
    rules: Gauge,
    waiting: Gauge,
    journal_bytes: Gauge,
    state_bytes: Family<Labels, Gauge>,
    tenant_decisions: Family<Labels, Counter>,
    tenant_rejected: Family<Labels, Counter>,
    tenant_hits: Family<Labels, Counter>,
    rule_hits: Family<Labels, Counter>,
    snapshots: Counter,
    snapshot_failures: Counter,
    pub kafka: Kafka,
    follow_errors: Counter,
}

/// What is counted of Kafka.
#[derive(Clone)]
pub struct Kafka {
    pub restarts: Counter,
    pub commit_seconds: Histogram,
    pub latency_seconds: Histogram,
    lag: Family<Labels, Gauge>,
}

impl Kafka {
    fn new(registry: &mut Registry) -> Self {
        let kafka = Self { restarts: Counter::default(), commit_seconds: seconds(), latency_seconds: seconds(), lag: Family::default() };
        registry.register("kafka_restarts", "Times that reading began anew after a failure", kafka.restarts.clone());
        registry.register(
            "kafka_commit_seconds",
            "Putting out the results of a batch, to the end of the transaction",
            kafka.commit_seconds.clone(),
        );
        registry.register(
            "kafka_latency_seconds",
            "From writing a message to the commit of what became of it",
            kafka.latency_seconds.clone(),
        );
        registry.register("kafka_lag", "Messages of a partition that were not judged yet", kafka.lag.clone());
        kafka
    }

    /// Messages of a partition that wait.
    pub fn lag(&self, topic: &str, partition: i32, messages: i64) {
        let labels = vec![("topic", topic.to_owned()), ("partition", partition.to_string())];
        self.lag.get_or_create(&labels).set(messages);
    }
}

/// Where a batch is: the time of each stage is counted when it ends.
pub struct Stages<'m> {
    metrics: &'m Metrics,
    begun: Instant,
    last: Instant,
}

impl Stages<'_> {
    /// Ends a stage.
    pub fn end(&mut self, stage: &'static str) {
        let now = Instant::now();
        self.metrics.stages.get_or_create(&vec![("stage", stage.to_owned())]).observe(now.duration_since(self.last).as_secs_f64());
        self.last = now;
    }
}

impl Drop for Stages<'_> {
    fn drop(&mut self) {
        self.metrics.judging.observe(self.begun.elapsed().as_secs_f64());
    }
}

impl Metrics {
    /// Counters of which so many tenants and rules have their own.
    #[must_use]
    pub fn new(tenants_max: usize, rules_max: usize) -> Self {
        let (mut registry, mut of_tenants) = (Registry::with_prefix("dynamic_cep"), Registry::with_prefix("dynamic_cep"));
        let metrics = Self {
            tenants: Known::new(tenants_max),
            rules_known: Known::new(rules_max),
            decisions: Family::default(),
            rejected: Counter::default(),
            late: Counter::default(),
            findings: Counter::default(),
            hits: Counter::default(),
            batches: Counter::default(),
            judging: seconds(),
            stages: Family::new_with_constructor(seconds),
            requests: Family::default(),
            request_seconds: seconds(),
            rules: Gauge::default(),
            waiting: Gauge::default(),
            journal_bytes: Gauge::default(),
            state_bytes: Family::default(),
            tenant_decisions: Family::default(),
            tenant_rejected: Family::default(),
            tenant_hits: Family::default(),
            rule_hits: Family::default(),
            snapshots: Counter::default(),
            snapshot_failures: Counter::default(),
            kafka: Kafka::new(&mut registry),
            follow_errors: Counter::default(),
            registry: Registry::default(),
            of_tenants: Registry::default(),
        };
        registry.register("decisions", "Events that were judged, by action", metrics.decisions.clone());
        registry.register("rejected_events", "Events that could not be judged", metrics.rejected.clone());
        registry.register("late_events", "Events that came later than allowed; no pattern has seen them", metrics.late.clone());
        registry.register("findings", "Findings of patterns", metrics.findings.clone());
        registry.register("hits", "Pairs of an event and a rule, live or shadow, that matches it", metrics.hits.clone());
        registry.register("batches", "Batches that were judged", metrics.batches.clone());
        registry.register("judging_seconds", "From taking a batch to its answers", metrics.judging.clone());
        registry.register("stage_seconds", "The same, by stage: decode, journal, judge, answer", metrics.stages.clone());
        registry.register("requests", "HTTP requests, by route and status", metrics.requests.clone());
        registry.register("request_seconds", "From a request to its answer", metrics.request_seconds.clone());
        registry.register("rules", "Rules in service", metrics.rules.clone());
        registry.register(
            "follow_errors",
            "Looks at the registry after which not all that it says was in service",
            metrics.follow_errors.clone(),
        );
        registry.register("snapshots", "Snapshots of state that were written", metrics.snapshots.clone());
        registry.register("snapshot_failures", "Snapshots of state that could not be written", metrics.snapshot_failures.clone());
        registry.register("waiting_requests", "Requests that wait to be judged", metrics.waiting.clone());
        registry.register("journal_bytes", "Bytes of the journal's files", metrics.journal_bytes.clone());
        registry.register("state_bytes", "Bytes of memory that windows and patterns take", metrics.state_bytes.clone());
        let (decisions, rejected) = (metrics.tenant_decisions.clone(), metrics.tenant_rejected.clone());
        of_tenants.register("tenant_decisions", "Events of a tenant that were judged, by action", decisions);
        of_tenants.register("tenant_rejected_events", "Events of a tenant that could not be judged", rejected);
        of_tenants.register("tenant_hits", "Pairs of an event of a tenant and a rule that matches it", metrics.tenant_hits.clone());
        of_tenants.register("rule_hits", "Events that a rule, live or shadow, matches", metrics.rule_hits.clone());
        Self { registry, of_tenants, ..metrics }
    }

    /// A batch begins.
    pub fn batch(&self) -> Stages<'_> {
        self.batches.inc();
        let now = Instant::now();
        Stages { metrics: self, begun: now, last: now }
    }

    /// What a batch came to.
    pub fn judged(&self, judged: &Judged, snapshot: &Snapshot) {
        let decisions = &judged.decisions;
        let owners = Owners::of(snapshot.schema(), &judged.batch);
        let mut actions = [0_u64; ACTIONS.len()];
        let mut of_tenants = vec![([0_u64; ACTIONS.len()], 0_u64); owners.names.len()];
        for (row, action) in decisions.actions.iter().map(|action| usize::from(*action)).enumerate() {
            actions[action] += 1;
            if let Some(place) = owners.place(row) {
                of_tenants[place].0[action] += 1;
                of_tenants[place].1 += (decisions.rules.row(row).len() + decisions.shadow_rules.row(row).len()) as u64;
            }
        }
        let by_action = |counts: &[u64; ACTIONS.len()], family: &Family<Labels, Counter>, labels: &Labels| {
            for (count, action) in counts.iter().zip(ACTIONS).filter(|(count, _)| **count > 0) {
                let labels = labels.iter().cloned().chain([("action", action.to_owned())]).collect();
                family.get_or_create(&labels).inc_by(*count);
            }
        };
        by_action(&actions, &self.decisions, &Vec::new());
        for (name, (actions, hits)) in
            owners.names.iter().zip(of_tenants).filter(|(_, (actions, _))| actions.iter().any(|count| *count > 0))
        {
            let labels = self.tenant(name);
            by_action(&actions, &self.tenant_decisions, &labels);
            self.tenant_hits.get_or_create(&labels).inc_by(hits);
        }
        let mut by_rule: HashMap<RuleId, u64> = HashMap::new();
        decisions.rules.rules.iter().chain(&decisions.shadow_rules.rules).for_each(|rule| *by_rule.entry(*rule).or_default() += 1);
        for (rule, hits) in by_rule {
            let name = self.rules_known.name(snapshot.id(rule)).to_owned();
            self.rule_hits.get_or_create(&vec![("rule", name)]).inc_by(hits);
        }
        self.hits.inc_by((decisions.rules.rules.len() + decisions.shadow_rules.rules.len()) as u64);
        self.findings.inc_by(judged.findings.len() as u64);
        self.late.inc_by(judged.late.len() as u64);
        self.rules.set(snapshot.rules() as i64);
    }

    fn tenant(&self, name: &str) -> Labels {
        vec![("tenant", self.tenants.name(name).to_owned())]
    }

    /// An event that could not be judged; whose it was, where that is known.
    pub fn rejected(&self, tenant: Option<&str>) {
        self.rejected.inc();
        if let Some(name) = tenant {
            self.tenant_rejected.get_or_create(&self.tenant(name)).inc();
        }
    }

    /// What is held after a batch.
    pub fn held(&self, stream: &Stream, journal_bytes: u64) {
        let of = |what: &str, bytes: usize| {
            self.state_bytes.get_or_create(&vec![("of", what.to_owned())]).set(bytes as i64);
        };
        of(
            "windows",
            stream.windows().map_or(0, |windows| {
                let (keys, rows) = windows.bytes();
                keys + rows
            }),
        );
        of("patterns", stream.patterns().map_or(0, |patterns| patterns.bytes()));
        self.journal_bytes.set(journal_bytes as i64);
    }

    /// Whether a snapshot was written, or why not.
    pub fn snapshot(&self, written: Result<bool, &str>) {
        match written {
            Ok(true) => _ = self.snapshots.inc(),
            Ok(false) => {}
            Err(problem) => {
                self.snapshot_failures.inc();
                tracing::warn!(problem, "a snapshot was not written; the next one has all of the state");
            }
        }
    }

    pub fn follow_error(&self) {
        self.follow_errors.inc();
    }

    pub fn request(&self, route: &str, status: u16, took: Duration) {
        self.requests.get_or_create(&vec![("route", route.to_owned()), ("status", status.to_string())]).inc();
        self.request_seconds.observe(took.as_secs_f64());
    }

    /// All of it in OpenMetrics' text form, or what is about one tenant and its rules alone. `waiting`: requests that wait to be judged now.
    #[must_use]
    pub fn text(&self, tenant: Option<&str>, waiting: usize) -> String {
        let mut text = String::new();
        self.waiting.set(waiting as i64);
        // Writing to memory does not fail.
        if let Some(tenant) = tenant {
            let mut all = String::new();
            let _ = encode_registry(&mut all, &self.of_tenants);
            let (of_tenant, of_rule) = (format!("{{tenant=\"{tenant}\""), format!("{{rule=\"{tenant}/"));
            let is_seen =
                |line: &&str| line.starts_with('#') || (tenant != OTHER && (line.contains(&of_tenant) || line.contains(&of_rule)));
            all.lines().filter(is_seen).for_each(|line| text.extend([line, "\n"]));
        } else {
            let _ = encode_registry(&mut text, &self.registry).and_then(|()| encode_registry(&mut text, &self.of_tenants));
        }
        let _ = encode_eof(&mut text);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_sees_its_own_series_and_late_ones_are_counted_together() {
        let metrics = Metrics::new(2, 2);
        for tenant in ["acme", "acme-2", "late", "other", "later"] {
            metrics.rejected(Some(tenant));
        }
        metrics.rejected(None);
        for rule in ["acme/main/a", "acme-2/main/a", "acme/main/b"] {
            metrics.rule_hits.get_or_create(&vec![("rule", metrics.rules_known.name(rule).to_owned())]).inc();
        }
        let all = metrics.text(None, 7);
        for line in [
            "dynamic_cep_rejected_events_total 6",
            "dynamic_cep_tenant_rejected_events_total{tenant=\"acme\"} 1",
            "dynamic_cep_tenant_rejected_events_total{tenant=\"other\"} 3",
            "dynamic_cep_rule_hits_total{rule=\"acme-2/main/a\"} 1",
            "dynamic_cep_rule_hits_total{rule=\"other\"} 1",
            "dynamic_cep_waiting_requests 7",
            "# EOF",
        ] {
            assert!(all.lines().any(|known| known == line), "{line}\n{all}");
        }
        let samples = |tenant| {
            let text = metrics.text(Some(tenant), 0);
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
        };
        let own = ["dynamic_cep_tenant_rejected_events_total{tenant=\"acme\"} 1", "dynamic_cep_rule_hits_total{rule=\"acme/main/a\"} 1"];
        assert_eq!(samples("acme"), own);
        assert!(samples("other").is_empty() && samples("late").is_empty() && samples("").is_empty());
    }
}
