//! How much a caller and a tenant may ask for: rates, and how many rules and entries of lists a tenant has.

use super::config;
use super::deploy::Entry;
use super::problem::Problem;
use super::registry::TenantLimits;
use crate::decide::SHADOW;
use crate::tables::Artifact;
use axum::http::StatusCode;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Buckets from which on full ones are forgotten.
const BUCKETS: usize = 10_000;

/// A token bucket that holds what one second brings. Whoever finds anything in it may take all that is asked for, and leaves a debt that has to be paid off before others do: so that a
/// request may bring more than what a second allows, and the rate holds all the same.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn filled(self, rate: f64, now: Instant) -> Self {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        Self { tokens: (self.tokens + since * rate).min(rate), at: self.at.max(now) }
    }
}

/// A bucket for each name.
#[derive(Debug, Default)]
struct Buckets {
    by_name: HashMap<String, Bucket>,
    /// How many there were after full ones were last forgotten.
    left: usize,
}

impl Buckets {
    /// Takes `count`, of `rate` a second.
    ///
    /// # Errors
    /// After which time there is something to take again.
    fn take(&mut self, name: &str, count: u64, rate: u64, now: Instant) -> Result<(), Duration> {
        let rate = rate as f64;
        let bucket = self.by_name.get(name).map_or(Bucket { tokens: rate, at: now }, |bucket| bucket.filled(rate, now));
        if bucket.tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - bucket.tokens) / rate));
        }
        if self.by_name.len() >= BUCKETS.max(2 * self.left) && !self.by_name.contains_key(name) {
            self.by_name.retain(|_, bucket| bucket.filled(rate, now).tokens < rate);
            self.left = self.by_name.len();
        }
        self.by_name.insert(name.to_owned(), Bucket { tokens: bucket.tokens - count as f64, ..bucket });
        Ok(())
    }
}

/// What there is of limits, and how far they are used up.
pub struct Limits {
    config: config::Limits,
    in_flight: Semaphore,
    requests: Mutex<Buckets>,
    events: Mutex<Buckets>,
    tenants: RwLock<HashMap<String, TenantLimits>>,
}

impl Limits {
    #[must_use]
    pub fn new(config: &config::Limits) -> Self {
        let permits = if config.requests_in_flight == 0 { Semaphore::MAX_PERMITS } else { config.requests_in_flight };
        let in_flight = Semaphore::new(permits.min(Semaphore::MAX_PERMITS));
        let (requests, events) = (Mutex::default(), Mutex::default());
        Self { config: config.clone(), in_flight, requests, events, tenants: RwLock::default() }
    }

    /// What is said of single tenants.
    pub fn set_tenants(&self, tenants: HashMap<String, TenantLimits>) {
        *self.tenants.write().unwrap_or_else(PoisonError::into_inner) = tenants;
    }

    /// The limits of a tenant: its own ones, or those of all. 0: there is none.
    #[must_use]
    pub fn of(&self, tenant: &str) -> TenantLimits {
        let own = self.tenants.read().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned().unwrap_or_default();
        TenantLimits {
            events_per_second: own.events_per_second.or(Some(self.config.events_per_second)),
            rules_max: own.rules_max.or(Some(self.config.rules_max)),
            list_entries_max: own.list_entries_max.or(Some(self.config.list_entries_max)),
        }
    }

    /// A place among the requests that are answered at the same time, until it is dropped; `None` where there is none left.
    pub fn enter(&self) -> Option<SemaphorePermit<'_>> {
        self.in_flight.try_acquire().ok()
    }

    /// Counts a request of a key.
    ///
    /// # Errors
    /// When there were too many: after which time to come again.
    pub fn request(&self, key: &str, now: Instant) -> Result<(), Duration> {
        match self.config.requests_per_second {
            0 => Ok(()),
            rate => self.requests.lock().unwrap_or_else(PoisonError::into_inner).take(key, 1, rate.into(), now),
        }
    }

    /// Counts events of a tenant.
    ///
    /// # Errors
    /// When there were too many: what to tell, and after which time to come again.
    pub fn events(&self, tenant: &str, count: u64, now: Instant) -> Result<(), (String, Duration)> {
        match self.of(tenant).events_per_second {
            None | Some(0) => Ok(()),
            Some(rate) => {
                let taken = self.events.lock().unwrap_or_else(PoisonError::into_inner).take(tenant, count, rate.into(), now);
                taken.map_err(|wait| (format!("the tenant `{tenant}` may bring {rate} events a second"), wait))
            }
        }
    }

    /// Whether a tenant may have so many rules and entries of lists in one version.
    ///
    /// # Errors
    /// Which limit it is over.
    pub fn version(&self, tenant: &str, rules: usize, list_entries: usize) -> Result<(), Problem> {
        let limits = self.of(tenant);
        within(tenant, "rules in a version", rules, limits.rules_max)?;
        within(tenant, "entries of lists in a version", list_entries, limits.list_entries_max)
    }

    /// Whether tenants may have these versions in service together. Whoever is over a limit that came later may keep what is there.
    ///
    /// # Errors
    /// Which tenant is over its limit.
    pub fn in_service(&self, before: &[Entry], after: &[Entry]) -> Result<(), Problem> {
        let (before, after) = (rules_by_tenant(before), rules_by_tenant(after));
        for (tenant, rules) in after {
            if before.get(tenant).is_none_or(|before| rules > *before) {
                within(tenant, "rules in service, shadows counted", rules, self.of(tenant).rules_max)?;
            }
        }
        Ok(())
    }
}

fn within(tenant: &str, what: &str, count: usize, limit: Option<u32>) -> Result<(), Problem> {
    match limit {
        Some(limit) if limit > 0 && count > limit as usize => {
            let detail = format!("the tenant `{tenant}` would have {count} {what}, and may have {limit}");
            Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "over a limit of the tenant", detail))
        }
        _ => Ok(()),
    }
}

/// Rules that are live or shadows, of each tenant but the one for all.
fn rules_by_tenant(entries: &[Entry]) -> HashMap<&str, usize> {
    let mut counts = HashMap::new();
    for entry in entries.iter().filter(|entry| *entry.tenant != *super::registry::ALL) {
        *counts.entry(&*entry.tenant).or_default() += rules(&entry.artifact, entry);
    }
    counts
}

fn rules(artifact: &Artifact, entry: &Entry) -> usize {
    let is_on = |(rule, record): (usize, &crate::tables::artifact::RuleRecord)| {
        let switched = (!entry.switched.is_empty()).then(|| entry.switched.get(artifact.rule_name(crate::id::RuleId::new(rule)))).flatten();
        switched.map_or(record.status <= SHADOW, |status| *status != crate::rule::Status::Off)
    };
    artifact.rules().iter().enumerate().filter(|rule| is_on(*rule)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn config(events: u32) -> config::Limits {
        config::Limits {
            requests_in_flight: 2,
            requests_per_second: 3,
            events_per_second: events,
            rules_max: 10,
            list_entries_max: 0,
            state_bytes_max: 0,
        }
    }

    #[test]
    fn a_bucket_gives_its_rate_and_no_more() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let mut buckets = Buckets::default();
        let taken = (0..2000).filter(|ms| buckets.take("a", 1, 100, at(*ms)).is_ok()).count();
        assert!((299..=300).contains(&taken), "what a second brings at once, and 100 in each of two: {taken}");
        assert_eq!(buckets.take("b", 1, 100, at(0)), Ok(()), "another one has its own");
        // More at once than a second brings is a debt.
        assert_eq!(buckets.take("c", 1000, 100, at(0)), Ok(()));
        let wait = buckets.take("c", 1, 100, at(1000)).unwrap_err();
        assert!((8.0..8.1).contains(&wait.as_secs_f64()), "{wait:?}");
        assert!(buckets.take("c", 1, 100, at(9000)).is_err() && buckets.take("c", 1, 100, at(9010)).is_ok());
        assert_eq!(buckets.take("d", 1, 100, at(500)).and(buckets.take("d", 1, 100, at(0))), Ok(()), "a time before does no harm");
    }

    #[test]
    fn buckets_that_are_full_are_forgotten() {
        let begun = Instant::now();
        let mut buckets = Buckets::default();
        buckets.take("debtor", 100_000, 10, begun).unwrap();
        for name in 0..3 * BUCKETS {
            buckets.take(&name.to_string(), 1, 10, begun + Duration::from_secs(name as u64 / 100)).unwrap();
        }
        assert!(buckets.by_name.len() <= BUCKETS && buckets.by_name.contains_key("debtor"), "{}", buckets.by_name.len());
    }

    #[test]
    fn limits_of_a_tenant_come_before_those_of_all() {
        let (limits, now) = (Limits::new(&config(2)), Instant::now());
        let own = TenantLimits { events_per_second: Some(0), ..TenantLimits::default() };
        limits.set_tenants(HashMap::from([("free".to_owned(), own)]));
        assert!((0..100).all(|_| limits.events("free", 1000, now).is_ok()));
        assert_eq!([1, 1, 1].map(|count| limits.events("acme", count, now).is_ok()), [true, true, false]);
        assert_eq!((limits.of("free").rules_max, limits.of("acme").events_per_second), (Some(10), Some(2)));
        assert!(limits.version("acme", 10, 1 << 30).is_ok());
        let told = limits.version("acme", 11, 0).unwrap_err();
        assert!(told.detail.contains("`acme` would have 11 rules in a version, and may have 10"), "{}", told.detail);
        assert_eq!((0..4).filter(|_| limits.request("k", now).is_ok()).count(), 3);
        let entered = [limits.enter(), limits.enter(), limits.enter()];
        assert_eq!(entered.each_ref().map(Option::is_some), [true, true, false]);
        drop(entered);
        assert!(limits.enter().is_some());
    }
}
