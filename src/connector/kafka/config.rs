//! What a user says of Kafka.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where the tenant of an event goes that its topic named.
const TENANT_HEADER: &str = "dynamic-cep-tenant";

/// Where events come from and where results go. Without brokers there is no Kafka.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `host:port`, several of them with commas between.
    pub brokers: String,
    /// Topics of events; one that begins with `^` is a regular expression of names.
    pub topics: Vec<String>,
    /// The consumer group. Processes of one group share the partitions.
    pub group: String,
    /// The name of this process in the group, by which a transaction that it left open is found again; empty: one made once and kept in the data folder.
    pub instance: String,
    /// How messages hold events.
    pub format: Format,
    pub avro: Avro,
    /// Where a group begins that has no position yet.
    pub start: Start,
    /// The fields by which the producers of events choose the partition; rules with state of other keys are not taken then. Empty: whatever rules need.
    pub key: Vec<String>,
    /// A topic between the events and their judgement, in which their partition is chosen by `key`, for producers that choose it by something else; empty: none. Not for messages of several events.
    pub repartition: String,
    pub tenant: Tenant,
    pub delivery: Delivery,
    /// How long messages are gathered for a batch, at most.
    pub latency_ms_max: u64,
    /// Messages of a batch, at most.
    pub batch_rows_max: usize,
    /// Bytes of a batch, at most but for its last message.
    pub batch_bytes_max: usize,
    /// After which a transaction of a process that is gone is given up by the brokers.
    pub transaction_timeout_ms: u64,
    pub output: Output,
    pub security: Security,
    /// Further properties of librdkafka, for consumer and producer.
    pub properties: BTreeMap<String, String>,
}

/// How messages hold events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object a message.
    Json,
    /// An Arrow IPC stream of any number of events a message.
    Arrow,
    /// One datum of Avro a message.
    Avro,
}

/// Which schemas messages of Avro were written with: that of a file, or what a registry knows by the number that each message begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Avro {
    /// A file with the schema of all messages (JSON). They are datums and nothing else.
    pub schema: PathBuf,
    /// The address of a schema registry, `http(s)://…`. Messages begin with a zero and the number of their schema, in four bytes.
    pub registry: String,
    /// Who asks there; empty: nobody in particular.
    pub username: String,
    pub password: String,
}

/// Where a group begins that has no position yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    Earliest,
    Latest,
}

/// How often a result is put out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// Results and positions are one transaction; who reads with `isolation.level=read_committed` sees each once.
    ExactlyOnce,
    /// Results may come again after a failure, with the same keys.
    AtLeastOnce,
}

/// Whose an event is, where the event itself does not say it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tenant {
    /// The header of a message that names the tenant.
    pub header: String,
    /// A regular expression of the topic's name, whose first group is the tenant.
    pub topic: String,
}

/// Topics of results; an empty name: none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Output {
    /// What became of each event, by its decision id.
    pub decisions: String,
    /// What patterns found, by the finding's id.
    pub findings: String,
    /// Each pair of an event and a rule that matches it, live or shadow, by decision id and rule.
    pub matches: String,
    /// Messages that could not be judged, as they came, with the reason in a header.
    pub rejects: String,
    /// Events that came too late for patterns, as they came. They have decisions too.
    pub late: String,
    /// How they are packed on their way: none, gzip, snappy, lz4, zstd.
    pub compression: String,
}

/// How brokers are spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Security {
    /// plaintext, ssl, sasl_plaintext or sasl_ssl; empty: plaintext.
    pub protocol: String,
    /// PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER.
    pub sasl_mechanism: String,
    pub username: String,
    pub password: String,
    /// Files of certificates (PEM): who is trusted, and who this process is.
    pub ca: String,
    pub certificate: String,
    pub key: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            brokers: String::new(),
            topics: Vec::new(),
            group: "dynamic-cep".to_owned(),
            instance: String::new(),
            format: Format::Json,
            avro: Avro::default(),
            start: Start::Earliest,
            key: Vec::new(),
            repartition: String::new(),
            tenant: Tenant::default(),
            delivery: Delivery::ExactlyOnce,
            latency_ms_max: 5,
            batch_rows_max: 8192,
            batch_bytes_max: 16 << 20,
            transaction_timeout_ms: 10_000,
            output: Output::default(),
            security: Security::default(),
            properties: BTreeMap::new(),
        }
    }
}

impl Default for Output {
    fn default() -> Self {
        Self {
            decisions: "decisions".to_owned(),
            findings: "findings".to_owned(),
            matches: String::new(),
            rejects: "rejects".to_owned(),
            late: "late".to_owned(),
            compression: "lz4".to_owned(),
        }
    }
}

impl Config {
    /// Whether there is anything to be read.
    #[must_use]
    pub const fn is_used(&self) -> bool {
        !self.brokers.is_empty()
    }

    /// # Errors
    /// Which key is wrong, and why.
    pub fn check(&self) -> Result<(), String> {
        if !self.is_used() {
            return if self.topics.is_empty() { Ok(()) } else { Err("kafka.topics without kafka.brokers".to_owned()) };
        }
        if !cfg!(feature = "kafka") {
            return Err("kafka.brokers: this program was built without the feature `kafka`".to_owned());
        }
        if self.topics.is_empty() || self.topics.iter().any(String::is_empty) {
            return Err("kafka.topics: name at least one topic of events".to_owned());
        }
        if self.batch_rows_max == 0 || self.batch_bytes_max == 0 {
            return Err("kafka.batch_rows_max and kafka.batch_bytes_max must be at least 1".to_owned());
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if !self.group.bytes().all(is_plain) || self.group.trim_matches('.').is_empty() {
            return Err(format!("kafka.group: `{}` is no name: letters, digits, `-`, `_` and `.`", self.group));
        }
        if !self.tenant.topic.is_empty() {
            let pattern = regex::Regex::new(&self.tenant.topic).map_err(|error| format!("kafka.tenant.topic: {error}"))?;
            if pattern.captures_len() < 2 {
                return Err("kafka.tenant.topic has no group; put the tenant's part in parentheses".to_owned());
            }
            if !self.tenant.header.is_empty() {
                return Err("kafka.tenant: give a header or a pattern of topics, not both".to_owned());
            }
        }
        if !self.repartition.is_empty() && (self.key.is_empty() || self.format == Format::Arrow) {
            return Err("kafka.repartition needs kafka.key, and messages of one event: JSON or Avro".to_owned());
        }
        self.avro.check(self.format)?;
        let own = [
            &self.repartition,
            &self.output.decisions,
            &self.output.findings,
            &self.output.matches,
            &self.output.rejects,
            &self.output.late,
        ];
        match own.into_iter().find(|own| !own.is_empty() && self.topics.contains(own)) {
            Some(own) => Err(format!("kafka: `{own}` is read as a topic of events, and cannot be one of results or in between")),
            None => Ok(()),
        }
    }

    /// The header that names the tenant, if one does. Behind `repartition` it is where a tenant goes that the topic named.
    #[must_use]
    pub fn tenant_header(&self) -> &str {
        if self.tenant.header.is_empty() && !self.repartition.is_empty() { TENANT_HEADER } else { &self.tenant.header }
    }

    /// The properties of librdkafka that consumer and producer share.
    #[must_use]
    pub fn shared(&self) -> BTreeMap<String, String> {
        let security = &self.security;
        let mut all = BTreeMap::from([("bootstrap.servers".to_owned(), self.brokers.clone())]);
        for (name, value) in [
            ("security.protocol", &security.protocol),
            ("sasl.mechanisms", &security.sasl_mechanism),
            ("sasl.username", &security.username),
            ("sasl.password", &security.password),
            ("ssl.ca.location", &security.ca),
            ("ssl.certificate.location", &security.certificate),
            ("ssl.key.location", &security.key),
        ] {
            if !value.is_empty() {
                all.insert(name.to_owned(), value.clone());
            }
        }
        all.extend(self.properties.clone());
        all
    }
}

impl Avro {
    fn check(&self, format: Format) -> Result<(), String> {
        let (file, registry) = (!self.schema.as_os_str().is_empty(), !self.registry.is_empty());
        if format != Format::Avro {
            return if file || registry { Err("kafka.avro without kafka.format = \"avro\"".to_owned()) } else { Ok(()) };
        }
        if file == registry {
            return Err(
                "kafka.avro: give one of schema, for messages of one schema, and registry, for messages that name theirs".to_owned()
            );
        }
        if (!self.username.is_empty() || !self.password.is_empty()) && (!registry || self.username.is_empty()) {
            return Err("kafka.avro.password is for kafka.avro.username, and both are for kafka.avro.registry".to_owned());
        }
        let address = self.registry.strip_prefix("https://").or_else(|| self.registry.strip_prefix("http://"));
        match address {
            None if registry => Err("kafka.avro.registry must begin with `https://` or `http://`".to_owned()),
            // What is told of it is told with its address.
            Some(address) if address.contains('@') => {
                Err("kafka.avro.registry: who asks belongs into kafka.avro.username and kafka.avro.password".to_owned())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_told() {
        let used = Config { brokers: "h:1".to_owned(), topics: vec!["events".to_owned()], ..Config::default() };
        assert_eq!(Config::default().check(), Ok(()));
        let told = |config: Config| config.check().unwrap_err();
        if !cfg!(feature = "kafka") {
            assert!(told(used).contains("without the feature"));
            return;
        }
        assert_eq!(used.check(), Ok(()));
        assert!(told(Config { group: "../a".to_owned(), ..used.clone() }).contains("kafka.group"));
        assert!(told(Config { topics: Vec::new(), ..used.clone() }).contains("kafka.topics"));
        assert!(told(Config { topics: vec!["late".to_owned()], ..used.clone() }).contains("`late`"));
        let topic = |topic: &str| Config { tenant: Tenant { topic: topic.to_owned(), ..Tenant::default() }, ..used.clone() };
        assert!(told(topic("(")).contains("kafka.tenant.topic"));
        assert!(told(topic("^payments")).contains("no group"));
        assert_eq!(topic("^payments\\.(.+)$").check(), Ok(()));
        let avro = |avro: Avro| Config { format: Format::Avro, avro, ..used.clone() };
        let (schema, registry) = (PathBuf::from("card.avsc"), "http://registry:8081".to_owned());
        assert!(told(avro(Avro::default())).contains("kafka.avro: give one of"));
        assert!(told(avro(Avro { schema: schema.clone(), registry: registry.clone(), ..Avro::default() })).contains("give one of"));
        assert!(told(avro(Avro { registry: "registry:8081".to_owned(), ..Avro::default() })).contains("`https://`"));
        let secret = told(avro(Avro { registry: "https://me:secret@registry".to_owned(), ..Avro::default() }));
        assert!(secret.contains("kafka.avro.username") && !secret.contains("secret@"), "{secret}");
        assert!(told(avro(Avro { schema: schema.clone(), password: "p".to_owned(), ..Avro::default() })).contains("kafka.avro.password"));
        assert!(told(Config { format: Format::Json, ..avro(Avro { registry: registry.clone(), ..Avro::default() }) }).contains("without"));
        assert_eq!(avro(Avro { registry, username: "u".to_owned(), password: "p".to_owned(), ..Avro::default() }).check(), Ok(()));
        let between = |format| Config {
            format,
            repartition: "cards".to_owned(),
            key: vec!["card".to_owned()],
            ..avro(Avro { schema: schema.clone(), ..Avro::default() })
        };
        assert_eq!(between(Format::Avro).check(), Ok(()));
        assert!(told(Config { avro: Avro::default(), ..between(Format::Arrow) }).contains("kafka.repartition"));
        assert!(told(Config { brokers: String::new(), ..used }).contains("without kafka.brokers"));
    }

    #[test]
    fn secrets_and_further_properties_reach_the_client() {
        let security =
            Security { protocol: "sasl_ssl".to_owned(), username: "u".to_owned(), password: "p".to_owned(), ..Security::default() };
        let properties = BTreeMap::from([("client.id".to_owned(), "me".to_owned())]);
        let shared = Config { brokers: "h:1".to_owned(), security, properties, ..Config::default() }.shared();
        let names: Vec<&str> = shared.keys().map(String::as_str).collect();
        assert_eq!(names, ["bootstrap.servers", "client.id", "sasl.password", "sasl.username", "security.protocol"]);
    }
}
