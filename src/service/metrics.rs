//! What is counted, for Prometheus. What is counted of single tenants and rules is bounded: the first ones have series of their own, all others have one together.

use super::owners::Owners;
use crate::id::RuleId;
use crate::live::Snapshot;
use crate::stream::{Judged, Stream};
use crate::tables::artifact::ACTIONS;
use foldhash::fast::RandomState;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

type Labels = Vec<(&'static str, String)>;

/// What all together are called that have no series of their own.
const OTHER: &str = "other";

fn held_labels(source: &str, what: &str) -> Labels {
    vec![("source", source.to_owned()), ("of", what.to_owned())]
}

/// From 50 µs to some seconds.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(50e-6, 2.0, 17))
}

/// What is counted of one tenant.
struct OfTenant {
    actions: [Counter; ACTIONS.len()],
    rejected: Counter,
    hits: Counter,
}

/// What is counted of single tenants: the first ones by name, and all others.
struct Tenants {
    decisions: Family<Labels, Counter>,
    rejected: Family<Labels, Counter>,
    hits: Family<Labels, Counter>,
    known: Mutex<HashMap<String, Arc<OfTenant>>>,
    max: usize,
}

impl Tenants {
    fn new(registry: &mut Registry, max: usize) -> Self {
        let tenants =
            Self { decisions: Family::default(), rejected: Family::default(), hits: Family::default(), known: Mutex::default(), max };
        registry.register("tenant_decisions", "Events of a tenant that were judged, by action", tenants.decisions.clone());
        registry.register("tenant_rejected_events", "Events of a tenant that could not be judged", tenants.rejected.clone());
        registry.register("tenant_hits", "Pairs of an event of a tenant and a rule that matches it", tenants.hits.clone());
        tenants
    }

    fn of(&self, name: &str) -> Arc<OfTenant> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // One that is called as the others are together is one of them.
        let name = if known.contains_key(name) || known.keys().filter(|known| *known != OTHER).count() < self.max { name } else { OTHER };
        if let Some(tenant) = known.get(name) {
            return Arc::clone(tenant);
        }
        let labels = vec![("tenant", name.to_owned())];
        let tenant = Arc::new(OfTenant {
            actions: by_action(&self.decisions, &labels),
            rejected: self.rejected.get_or_create_owned(&labels),
            hits: self.hits.get_or_create_owned(&labels),
        });
        known.insert(name.to_owned(), Arc::clone(&tenant));
        tenant
    }
}

/// The counters of all actions.
fn by_action(family: &Family<Labels, Counter>, labels: &Labels) -> [Counter; ACTIONS.len()] {
    ACTIONS.map(|action| {
        let labels = labels.iter().cloned().chain([("action", action.to_owned())]).collect();
        family.get_or_create_owned(&labels)
    })
}

/// What is counted of single rules: the first ones by name, and all others.
///
/// Rules are found by their numbers, which mean something under one snapshot only, and names are asked for when it is another one: to read the name of each rule that matches, from among millions, took longer
/// than to match.
struct Rules {
    family: Family<Labels, Counter>,
    known: Mutex<KnownRules>,
    max: usize,
}

#[derive(Default)]
struct KnownRules {
    names: HashMap<String, Counter>,
    snapshot: Weak<Snapshot>,
    numbers: HashMap<RuleId, Counter, RandomState>,
}

impl Rules {
    fn new(registry: &mut Registry, max: usize) -> Self {
        let rules = Self { family: Family::default(), known: Mutex::default(), max };
        registry.register("rule_hits", "Events that a rule, live or shadow, matches", rules.family.clone());
        rules
    }

    fn count(&self, hits: impl Iterator<Item = RuleId>, snapshot: &Arc<Snapshot>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let KnownRules { names, snapshot: seen, numbers } = &mut *known;
        if seen.as_ptr() != Arc::as_ptr(snapshot) {
            *seen = Arc::downgrade(snapshot);
            let number = |(name, counter): (&String, &Counter)| Some((snapshot.find(name)?, counter.clone()));
            *numbers = names.iter().filter_map(number).collect();
        }
        let mut others = 0;
        for rule in hits {
            if let Some(counter) = numbers.get(&rule) {
                counter.inc();
            } else if names.len() < self.max && snapshot.id(rule) != OTHER {
                let name = snapshot.id(rule).to_owned();
                let counter = self.family.get_or_create_owned(&vec![("rule", name.clone())]);
                counter.inc();
                numbers.insert(rule, counter.clone());
                names.insert(name, counter);
            } else {
                others += 1;
            }
        }
        if others > 0 {
            self.family.get_or_create(&vec![("rule", OTHER.to_owned())]).inc_by(others);
        }
    }
}

/// All counters of a process.
pub struct Metrics {
    /// Of all tenants together.
    registry: Registry,
    /// Of single tenants.
    of_tenants: Registry,
    tenants: Tenants,
    of_rules: Rules,
    decisions: [Counter; ACTIONS.len()],
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
        let decisions = Family::default();
        let metrics = Self {
            tenants: Tenants::new(&mut of_tenants, tenants_max),
            of_rules: Rules::new(&mut of_tenants, rules_max),
            decisions: by_action(&decisions, &Vec::new()),
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
            snapshots: Counter::default(),
            snapshot_failures: Counter::default(),
            kafka: Kafka::new(&mut registry),
            follow_errors: Counter::default(),
            registry: Registry::default(),
            of_tenants: Registry::default(),
        };
        registry.register("decisions", "Events that were judged, by action", decisions);
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
        registry.register(
            "state_bytes",
            "Bytes of memory that windows and patterns take, of requests and of each partition",
            metrics.state_bytes.clone(),
        );
        Self { registry, of_tenants, ..metrics }
    }

    /// A batch begins.
    pub fn batch(&self) -> Stages<'_> {
        self.batches.inc();
        let now = Instant::now();
        Stages { metrics: self, begun: now, last: now }
    }

    /// What a batch came to.
    pub fn judged(&self, judged: &Judged, snapshot: &Arc<Snapshot>) {
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
        let add = |counters: &[Counter; ACTIONS.len()], counts: [u64; ACTIONS.len()]| {
            counters.iter().zip(counts).for_each(|(counter, count)| _ = counter.inc_by(count));
        };
        add(&self.decisions, actions);
        for (name, (actions, hits)) in
            owners.names.iter().zip(of_tenants).filter(|(_, (actions, _))| actions.iter().any(|count| *count > 0))
        {
            let tenant = self.tenants.of(name);
            add(&tenant.actions, actions);
            tenant.hits.inc_by(hits);
        }
        self.of_rules.count(decisions.rules.rules.iter().chain(&decisions.shadow_rules.rules).copied(), snapshot);
        self.hits.inc_by((decisions.rules.rules.len() + decisions.shadow_rules.rules.len()) as u64);
        self.findings.inc_by(judged.findings.len() as u64);
        self.late.inc_by(judged.late.len() as u64);
        self.rules.set(snapshot.rules() as i64);
    }

    /// An event that could not be judged; whose it was, where that is known.
    pub fn rejected(&self, tenant: Option<&str>) {
        self.rejected.inc();
        if let Some(name) = tenant {
            self.tenants.of(name).rejected.inc();
        }
    }

    /// What is held of a source of events: `requests`, or a partition.
    pub fn held(&self, source: &str, stream: &Stream) {
        let of = |what: &str, bytes: usize| {
            self.state_bytes.get_or_create(&held_labels(source, what)).set(bytes as i64);
        };
        of(
            "windows",
            stream.windows().map_or(0, |windows| {
                let (keys, rows) = windows.bytes();
                keys + rows
            }),
        );
        of("patterns", stream.patterns().map_or(0, |patterns| patterns.bytes()));
    }

    /// A source whose state somebody else has now.
    pub fn held_no_more(&self, source: &str) {
        ["windows", "patterns"].iter().for_each(|what| _ = self.state_bytes.remove(&held_labels(source, what)));
    }

    pub fn journal(&self, bytes: u64) {
        self.journal_bytes.set(bytes as i64);
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
    use crate::compile::{Context, compile};
    use crate::engine::router::Choice;
    use crate::event::{Field, Schema, Type};
    use crate::live::{LiveEngine, Settings as LiveSettings};
    use crate::rule::lists::Lists;
    use crate::rule::{Action, Clause, Limits, Origin, Rule, Status};
    use crate::tables::Artifact;

    fn snapshot(ids: &[&str]) -> Arc<Snapshot> {
        let schema = Schema::new(vec![Field { name: "amount".to_owned(), ty: Type::Int }]).unwrap();
        let (lists, limits) = (Lists::new(), Limits::default());
        let rule = |id: &&str| Rule {
            id: (**id).into(),
            tenant: None,
            when: "amount > 1".into(),
            origin: Origin::default(),
            parameters: Vec::new(),
            score: 1000,
            action: Action::Review,
            status: Status::Live,
            tags: Vec::new(),
            outcome: None,
            clause: Clause::When,
            tests: Vec::new(),
        };
        let context = Context { schema: &schema, lists: &lists, limits: &limits, threads: 1 };
        let artifact = compile(ids.iter().map(rule), &context).artifact.expect("sound rules");
        let artifact = Arc::new(Artifact::from_bytes(&artifact).unwrap());
        let settings = LiveSettings { choice: Choice::Cpu, background: false, ..LiveSettings::default() };
        LiveEngine::new(artifact, Lists::new(), limits, settings).unwrap().snapshot()
    }

    #[test]
    fn a_tenant_sees_its_own_series_and_late_ones_are_counted_together() {
        let metrics = Metrics::new(2, 2);
        for tenant in ["acme", "acme-2", "late", "other", "later"] {
            metrics.rejected(Some(tenant));
        }
        metrics.rejected(None);
        // The numbers of rules are others under other snapshots; a rule that is gone keeps its series.
        for (rules, hits) in
            [(&["acme/main/a", "acme-2/main/a", "acme/main/b"][..], 0..3), (&["acme/main/b", "new", "acme-2/main/a"], 1..3)]
        {
            let snapshot = snapshot(rules);
            metrics.of_rules.count(hits.map(RuleId), &snapshot);
        }
        let all = metrics.text(None, 7);
        for line in [
            "dynamic_cep_rejected_events_total 6",
            "dynamic_cep_tenant_rejected_events_total{tenant=\"acme\"} 1",
            "dynamic_cep_tenant_rejected_events_total{tenant=\"other\"} 3",
            "dynamic_cep_rule_hits_total{rule=\"acme/main/a\"} 1",
            "dynamic_cep_rule_hits_total{rule=\"acme-2/main/a\"} 2",
            "dynamic_cep_rule_hits_total{rule=\"other\"} 2",
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
        let of_acme = samples("acme");
        assert!(own.iter().all(|own| of_acme.iter().any(|sample| sample == own)), "{of_acme:?}");
        assert!(of_acme.iter().all(|sample| sample.contains("\"acme\"") || sample.contains("\"acme/")), "{of_acme:?}");
        assert!(samples("other").is_empty() && samples("late").is_empty() && samples("").is_empty());
    }
}
