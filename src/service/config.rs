//! What a process is told: one TOML file, of which each key may be overridden by an environment variable.

use crate::connector::kafka::config::Config as Kafka;
use crate::connector::store::S3_SCHEME;
use crate::connector::store::config::{Config as S3, check_place};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The beginning of the names of environment variables: `http.listen` is `DYNAMIC_CEP_HTTP_LISTEN`.
const PREFIX: &str = "DYNAMIC_CEP";

/// All of it. What a file does not name has its default; a key that is none of these is an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where everything is kept that outlasts the process.
    pub data_dir: PathBuf,
    pub http: Http,
    pub flight: Flight,
    pub auth: Auth,
    pub registry: Registry,
    pub store: Store,
    pub s3: S3,
    pub engine: Engine,
    pub journal: Journal,
    pub kafka: Kafka,
    pub limits: Limits,
    pub metrics: Metrics,
    pub preview: Preview,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    pub listen: SocketAddr,
    /// Bytes of a request's body.
    pub body_bytes_max: usize,
    /// Bytes of a body that brings rules.
    pub push_bytes_max: usize,
    pub tls: Tls,
}

/// Events by Arrow Flight, encrypted where HTTP is, with the same certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flight {
    /// Where to listen, `127.0.0.1:8815`; empty: nowhere. A batch may have as many bytes as a body (`http.body_bytes_max`).
    pub listen: String,
}

impl Flight {
    /// Where to listen, if at all.
    ///
    /// # Errors
    /// What is no address.
    pub fn address(&self) -> Result<Option<SocketAddr>, String> {
        if self.listen.is_empty() {
            return Ok(None);
        }
        if !cfg!(feature = "flight") {
            return Err("flight.listen is given, and this program was built without the feature `flight`".to_owned());
        }
        self.listen.parse().map(Some).map_err(|error| format!("flight.listen is `{}`: {error}; give an address and a port", self.listen))
    }
}

/// Files of PEM by which connections are encrypted; empty: they are not. They are read again at SIGHUP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The certificate, and behind it those that it is signed with.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Tls {
    #[must_use]
    pub fn is_used(&self) -> bool {
        !self.certificate.as_os_str().is_empty()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    pub jwt: Jwt,
}

/// Signed tokens that are taken besides keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Jwt {
    /// What tokens name as `iss`, and among `aud`.
    pub issuer: String,
    pub audience: String,
    /// A file with the public keys of who signs (JWKS), or an address `https://…`; empty: no tokens are taken.
    pub jwks: String,
    /// The claims that name the tenant, `all` for every one, and the role.
    pub tenant_claim: String,
    pub role_claim: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registry {
    /// `postgres://…` or `sqlite://…`; empty: a file of SQLite in the data folder. Processes with the same registry and store have the same rules in service.
    pub url: String,
    /// How often a process looks whether another one has changed anything.
    pub poll_ms: u64,
}

/// What the registry names by hashes: compiled rules, pushed files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// A folder, `file://…` or plain, that all processes of a registry reach, or `s3://bucket/prefix`; empty: `artifacts` in the data folder.
    pub url: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Engine {
    /// Threads that compile rules.
    pub threads: usize,
    /// Who matches: cpu, gpu, or auto for the faster of both, batch by batch.
    pub backend: Backend,
    /// Rows that are judged together, at most.
    pub batch_rows_max: usize,
    /// Requests of keys of one tenant that wait to be judged, beyond which further ones are turned away; of keys of every tenant as many.
    pub waiting_max: usize,
    /// How late events may come.
    pub allowed_lateness_ms: u64,
    /// How often the state of each partition is written.
    pub snapshot_ms: u64,
    /// Where it is: a folder that all processes of a consumer group reach, or `s3://bucket/prefix`; empty: `state` in the data folder.
    pub state_dir: PathBuf,
    /// Whether windows and patterns may begin with nothing where a consumer group has read before and no snapshot is found; otherwise that is an error, and nothing is read.
    pub state_may_be_missing: bool,
}

/// Who matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    Cpu,
    Gpu,
    Auto,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Journal {
    /// Events that are kept, at least: state is made of them at the next start, and rules are tried on them.
    pub events: u64,
    /// How long what was written may lie in the system's memory, where a loss of power takes it; 0: until the system writes it by itself.
    pub sync_ms: u64,
}

/// What callers and tenants may ask for; 0: as much as they want.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Requests that are answered at the same time.
    pub requests_in_flight: usize,
    /// Requests a second of one key.
    pub requests_per_second: u32,
    /// Events a second of one tenant. This and what follows may be another number for single tenants.
    pub events_per_second: u32,
    /// Rules, live and shadow, that one tenant has in service, and in one version.
    pub rules_max: u32,
    /// Entries of lists in one version of one tenant.
    pub list_entries_max: u32,
    /// Bytes of state of one tenant, of windows and of patterns, for each way of partitioning. Beyond it what they say of the tenant's keys is not known.
    pub state_bytes_max: usize,
}

/// What is counted of single tenants and rules; the others are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Tenants that have series of their own: the first ones that bring events.
    pub tenants_max: usize,
    /// Rules that have: the first ones that match.
    pub rules_max: usize,
}

/// Trials of versions on stored events, of which a process makes one at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Preview {
    /// Events of one.
    pub events_max: u64,
}

impl Default for Preview {
    fn default() -> Self {
        Self { events_max: 1_000_000 }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./dynamic-cep-data"),
            http: Http::default(),
            flight: Flight::default(),
            auth: Auth::default(),
            registry: Registry::default(),
            store: Store::default(),
            s3: S3::default(),
            engine: Engine::default(),
            journal: Journal::default(),
            kafka: Kafka::default(),
            limits: Limits::default(),
            metrics: Metrics::default(),
            preview: Preview::default(),
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 7070)), body_bytes_max: 16 << 20, push_bytes_max: 1 << 30, tls: Tls::default() }
    }
}

impl Default for Jwt {
    fn default() -> Self {
        let [issuer, audience, jwks] = [const { String::new() }; 3];
        Self { issuer, audience, jwks, tenant_claim: "tenant".to_owned(), role_claim: "role".to_owned() }
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self { url: String::new(), poll_ms: 200 }
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            threads: 1,
            backend: Backend::Cpu,
            batch_rows_max: 8192,
            waiting_max: 4096,
            allowed_lateness_ms: 0,
            snapshot_ms: 30_000,
            state_dir: PathBuf::new(),
            state_may_be_missing: false,
        }
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self { events: 1_000_000, sync_ms: 100 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let none = 0;
        Self {
            requests_in_flight: 4096,
            requests_per_second: 100_000,
            events_per_second: none,
            rules_max: none,
            list_entries_max: none,
            state_bytes_max: 4 << 30,
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self { tenants_max: 100, rules_max: 100 }
    }
}

/// What is shown of a secret.
const HIDDEN: &str = "(hidden)";

impl Config {
    /// A configuration from the text of a file, if there is one, and variables of the environment.
    ///
    /// # Errors
    /// Which key is wrong, where, and why.
    pub fn read(text: Option<&str>, variables: impl Iterator<Item = (String, String)>) -> Result<Self, String> {
        let config: Self = match text {
            Some(text) => toml::from_str(text).map_err(|error| error.to_string())?,
            None => Self::default(),
        };
        let mut value = serde_json::to_value(&config).map_err(|error| error.to_string())?;
        let mut keys = Vec::new();
        collect(&value, PREFIX, &mut Vec::new(), &mut keys);
        for (name, given) in variables {
            let Some((_, path)) = keys.iter().find(|(key, _)| *key == name) else { continue };
            let place = path.iter().try_fold(&mut value, |value, key| value.get_mut(key)).ok_or("a key that is not there")?;
            let before = std::mem::replace(place, parsed(&given, place));
            if let Err(error) = serde_json::from_value::<Self>(value.clone()) {
                return Err(format!("{name}={given}: {error} (the value in its place is {before})"));
            }
        }
        let config: Self = serde_json::from_value(value).map_err(|error| error.to_string())?;
        config.check()?;
        Ok(config)
    }

    /// The same with something else in the place of what only the process may know.
    #[must_use]
    pub fn without_secrets(&self) -> Self {
        let hide = |secret: &mut String| {
            if !secret.is_empty() {
                HIDDEN.clone_into(secret);
            }
        };
        let mut shown = self.clone();
        hide(&mut shown.s3.secret_access_key);
        hide(&mut shown.kafka.security.password);
        hide(&mut shown.kafka.avro.password);
        let is_secret = |name: &str| ["password", "secret", ".pem", "sasl.oauthbearer.config"].iter().any(|part| name.contains(part));
        shown.kafka.properties.iter_mut().filter(|(name, _)| is_secret(name)).for_each(|(_, value)| hide(value));
        shown.registry.url = without_password(&shown.registry.url);
        shown
    }

    fn check(&self) -> Result<(), String> {
        let positive = [
            ("engine.threads", self.engine.threads),
            ("engine.batch_rows_max", self.engine.batch_rows_max),
            ("engine.waiting_max", self.engine.waiting_max),
            ("registry.poll_ms", usize::try_from(self.registry.poll_ms).unwrap_or(usize::MAX)),
            ("http.body_bytes_max", self.http.body_bytes_max),
            ("http.push_bytes_max", self.http.push_bytes_max),
        ];
        let tls = &self.http.tls;
        if tls.is_used() == tls.key.as_os_str().is_empty() {
            return Err("http.tls has one of certificate and key; give both".to_owned());
        }
        let jwt = &self.auth.jwt;
        if !jwt.jwks.is_empty() && (jwt.issuer.is_empty() || jwt.audience.is_empty()) {
            return Err(
                "auth.jwt.jwks is given: give auth.jwt.issuer and auth.jwt.audience, too, or tokens for others would be taken".to_owned()
            );
        }
        if jwt.jwks.starts_with("http://") {
            return Err(format!("auth.jwt.jwks is {}; keys are taken over https alone", jwt.jwks));
        }
        match positive.into_iter().find(|(_, value)| *value == 0) {
            Some((key, _)) => Err(format!("{key} is 0; it must be at least 1")),
            None => self.places().and(self.flight.address()).and_then(|_| self.kafka.check()),
        }
    }

    fn places(&self) -> Result<(), String> {
        for (key, place) in [("store.url", self.store_place()?), ("engine.state_dir", self.state_dir())] {
            if place.to_string_lossy().starts_with(S3_SCHEME) {
                let sound = place.to_str().ok_or_else(|| "it is not UTF-8".to_owned()).and_then(check_place);
                sound.map_err(|error| format!("{key}: {error}"))?;
            }
        }
        self.s3.check()
    }

    /// Where the store is: a folder, or `s3://…`.
    ///
    /// # Errors
    /// A URL that names neither.
    pub fn store_place(&self) -> Result<PathBuf, String> {
        let url = &self.store.url;
        match url.strip_prefix("file://") {
            None if url.is_empty() => Ok(self.artifacts_dir()),
            None if url.starts_with(S3_SCHEME) => Ok(PathBuf::from(url)),
            None if url.contains("://") => {
                Err(format!("store.url is `{url}`; it must be a folder, `file:///…` or a path, or `s3://bucket/prefix`"))
            }
            None => Ok(PathBuf::from(url)),
            Some(path) if path.starts_with('/') => Ok(PathBuf::from(path)),
            Some(_) => Err(format!("store.url is `{url}`; behind `file://` comes a whole path, which begins with `/`")),
        }
    }

    /// Where artifacts are that come from or go to nowhere else, and those that were fetched.
    #[must_use]
    pub fn artifacts_dir(&self) -> PathBuf {
        self.data_dir.join("artifacts")
    }

    /// Where the state of streams is: a folder, or `s3://…`.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        if self.engine.state_dir.as_os_str().is_empty() { self.data_dir.join("state") } else { self.engine.state_dir.clone() }
    }

    /// Where the registry is.
    #[must_use]
    pub fn registry_url(&self) -> String {
        if self.registry.url.is_empty() {
            return format!("sqlite://{}?mode=rwc", self.data_dir.join("registry.db").display());
        }
        self.registry.url.clone()
    }
}

/// The variables of all keys, and the paths to their values.
fn collect(value: &Value, name: &str, path: &mut Vec<String>, keys: &mut Vec<(String, Vec<String>)>) {
    let fields = match value {
        Value::Object(fields) if !is_open(path) => fields,
        _ => {
            keys.push((name.to_owned(), path.clone()));
            return;
        }
    };
    for (key, value) in fields {
        path.push(key.clone());
        collect(value, &format!("{name}_{}", key.to_uppercase()), path, keys);
        path.pop();
    }
}

/// Whether the keys below this one are the user's own: then a variable gives all of them, `key=value` with commas between.
fn is_open(path: &[String]) -> bool {
    path == ["kafka", "properties"]
}

/// A variable's text as a value of the same kind as the one in its place.
fn parsed(text: &str, place: &Value) -> Value {
    let number = || serde_json::from_str(text.trim()).ok().filter(|value: &Value| !value.is_string());
    match place {
        Value::Number(_) | Value::Bool(_) => number().unwrap_or_else(|| text.into()),
        Value::Object(_) => {
            let pair = |item: &str| item.split_once('=').map(|(key, value)| (key.trim().to_owned(), Value::from(value.trim())));
            let items: Vec<&str> = text.split(',').filter(|item| !item.trim().is_empty()).collect();
            items.iter().map(|item| pair(item)).collect::<Option<_>>().map_or_else(|| text.into(), Value::Object)
        }
        Value::Array(_) => text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect(),
        _ => text.into(),
    }
}

/// An address, without the password of a user or of its query.
fn without_password(url: &str) -> String {
    let of_user = || {
        let (scheme, rest) = url.split_once("://")?;
        let (user, host) = rest.rsplit_once('@')?;
        Some(format!("{scheme}://{}:{HIDDEN}@{host}", user.split_once(':')?.0))
    };
    let url = of_user().unwrap_or_else(|| url.to_owned());
    let Some((before, password)) = url.split_once("password=") else { return url };
    let after = password.find('&').map_or("", |end| &password[end..]);
    format!("{before}password={HIDDEN}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        Config::read(Some(text), variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn a_file_says_what_differs_and_variables_have_the_last_word() {
        assert_eq!(Config::read(None, std::iter::empty()), Ok(Config::default()));
        let text = "data_dir = \"/data\"\n[http]\nlisten = \"0.0.0.0:80\"\n[engine]\nthreads = 4\n";
        let config = read(text, &[("DYNAMIC_CEP_ENGINE_THREADS", "8"), ("DYNAMIC_CEP_LOG", "debug"), ("DYNAMIC_CEP_DATA_DIR", "here")]);
        let config = config.unwrap();
        assert_eq!((config.engine.threads, config.http.listen.port(), config.data_dir), (8, 80, PathBuf::from("here")));
        assert_eq!(config.http.body_bytes_max, Http::default().body_bytes_max);
        assert_eq!(read("[registry]\nurl = \"postgres://h/d\"", &[]).unwrap().registry_url(), "postgres://h/d");
        assert_eq!(read("data_dir = \"d\"", &[]).unwrap().registry_url(), "sqlite://d/registry.db?mode=rwc");
        let store = |url: &str| read(&format!("data_dir = \"d\"\n[store]\nurl = \"{url}\""), &[]).unwrap().store_place().unwrap();
        assert_eq!([store(""), store("s/t"), store("file:///s t")], ["d/artifacts", "s/t", "/s t"].map(PathBuf::from));
    }

    #[test]
    fn what_is_secret_is_not_shown() {
        let text = "[registry]\nurl = \"postgres://u:PLANTED@h/d\"\n[kafka]\nbrokers = \"h:1\"\ntopics = [\"t\"]\n[kafka.security]\nusername = \"me\"\n\
            password = \"PLANTED\"\n[kafka.properties]\n\"ssl.key.password\" = \"PLANTED\"\n\"linger.ms\" = \"7\"\n";
        let mut config: Config = toml::from_str(text).unwrap();
        config.kafka.avro.password = "PLANTED".to_owned();
        config.s3.secret_access_key = "PLANTED".to_owned();
        let shown = |config: &Config| toml::to_string(config).unwrap();
        assert!(shown(&config).contains("PLANTED"), "an open configuration is noticed");
        let hidden = shown(&config.without_secrets());
        assert!(!hidden.contains("PLANTED"), "{hidden}");
        for part in ["postgres://u:(hidden)@h/d", "username = \"me\"", "\"linger.ms\" = \"7\""] {
            assert!(hidden.contains(part), "{part}: {hidden}");
        }
        assert_eq!(without_password("postgres://h/d?password=x&a=b"), "postgres://h/d?password=(hidden)&a=b");
        assert_eq!(without_password("sqlite://d/registry.db"), "sqlite://d/registry.db");
        assert_eq!(Config::default().without_secrets(), Config::default());
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let wrong = |text: &str, variables: &[(&str, &str)], parts: &[&str]| {
            let told = read(text, variables).unwrap_err();
            assert!(parts.iter().all(|part| told.contains(part)), "{told}");
        };
        wrong("[http]\nlisten = \"nowhere\"", &[], &["line 2", "socket address"]);
        wrong("[http]\nlisen = \"127.0.0.1:1\"", &[], &["line 2", "unknown field `lisen`", "`listen`"]);
        wrong("[engine]\nthreads = 0", &[], &["engine.threads"]);
        wrong("[flight]\nlisten = \"8815\"", &[], &["flight.listen is `8815`"]);
        wrong("[http.tls]\nkey = \"key.pem\"", &[], &["http.tls", "give both"]);
        wrong("[auth.jwt]\njwks = \"keys.json\"", &[], &["auth.jwt.issuer"]);
        wrong("[auth.jwt]\njwks = \"http://h\"\nissuer = \"i\"\naudience = \"a\"", &[], &["auth.jwt.jwks", "https"]);
        wrong("[registry]\npoll_ms = 0", &[], &["registry.poll_ms"]);
        wrong("[store]\nurl = \"gopher://x/y\"", &[], &["store.url", "gopher", "a folder"]);
        wrong("[store]\nurl = \"file://x/y\"", &[], &["store.url", "whole path"]);
        wrong("[s3]\naccess_key_id = \"a\"", &[], &["secret_access_key", "give both"]);
        wrong("[s3]\nendpoint = \"http://h\"", &[], &["s3.endpoint", "s3.allow_http"]);
        wrong("[s3]\nendpoint = \"h:9000\"", &[], &["s3.endpoint", "https://"]);
        wrong("[s3]\nendpont = \"h\"", &[], &["line 2", "unknown field `endpont`"]);
        let part = if cfg!(feature = "s3") { "names no bucket" } else { "without the feature `s3`" };
        wrong("[store]\nurl = \"s3:///p\"", &[], &["store.url", part]);
        wrong("[engine]\nstate_dir = \"s3://\"", &[], &["engine.state_dir", part]);
        wrong("[engine]\nbackend = \"tpu\"", &[], &["line 2", "`cpu`, `gpu`, `auto`"]);
        wrong("", &[("DYNAMIC_CEP_ENGINE_THREADS", "many")], &["DYNAMIC_CEP_ENGINE_THREADS=many", "expected usize"]);
        wrong("", &[("DYNAMIC_CEP_ENGINE_THREADS", "-1")], &["DYNAMIC_CEP_ENGINE_THREADS=-1"]);
    }
}
