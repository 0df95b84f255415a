//! What a process is told: one TOML file, of which each key may be overridden by an environment variable.

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
    pub registry: Registry,
    pub store: Store,
    pub engine: Engine,
    pub journal: Journal,
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
    /// A folder, `file://…` or plain, that all processes of a registry reach; empty: `artifacts` in the data folder.
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
    /// Requests that wait to be judged, beyond which further ones are turned away.
    pub waiting_max: usize,
    /// How late events may come.
    pub allowed_lateness_ms: u64,
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
            registry: Registry::default(),
            store: Store::default(),
            engine: Engine::default(),
            journal: Journal::default(),
            preview: Preview::default(),
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 7070)), body_bytes_max: 16 << 20, push_bytes_max: 1 << 30 }
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self { url: String::new(), poll_ms: 200 }
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self { threads: 1, backend: Backend::Cpu, batch_rows_max: 8192, waiting_max: 4096, allowed_lateness_ms: 0 }
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self { events: 1_000_000, sync_ms: 100 }
    }
}

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

    fn check(&self) -> Result<(), String> {
        let positive = [
            ("engine.threads", self.engine.threads),
            ("engine.batch_rows_max", self.engine.batch_rows_max),
            ("engine.waiting_max", self.engine.waiting_max),
            ("registry.poll_ms", usize::try_from(self.registry.poll_ms).unwrap_or(usize::MAX)),
            ("http.body_bytes_max", self.http.body_bytes_max),
            ("http.push_bytes_max", self.http.push_bytes_max),
        ];
        match positive.into_iter().find(|(_, value)| *value == 0) {
            Some((key, _)) => Err(format!("{key} is 0; it must be at least 1")),
            None => self.store_folder().map(drop),
        }
    }

    /// Where the store is.
    ///
    /// # Errors
    /// A URL that names no folder.
    pub fn store_folder(&self) -> Result<PathBuf, String> {
        let url = &self.store.url;
        match url.strip_prefix("file://") {
            None if url.is_empty() => Ok(self.data_dir.join("artifacts")),
            None if url.contains("://") => Err(format!("store.url is `{url}`; it must be a folder, `file:///…` or a path")),
            None => Ok(PathBuf::from(url)),
            Some(path) if path.starts_with('/') => Ok(PathBuf::from(path)),
            Some(_) => Err(format!("store.url is `{url}`; behind `file://` comes a whole path, which begins with `/`")),
        }
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
    let Value::Object(fields) = value else {
        keys.push((name.to_owned(), path.clone()));
        return;
    };
    for (key, value) in fields {
        path.push(key.clone());
        collect(value, &format!("{name}_{}", key.to_uppercase()), path, keys);
        path.pop();
    }
}

/// A variable's text as a value of the same kind as the one in its place.
fn parsed(text: &str, place: &Value) -> Value {
    let number = || serde_json::from_str(text.trim()).ok().filter(|value: &Value| !value.is_string());
    match place {
        Value::Number(_) | Value::Bool(_) => number().unwrap_or_else(|| text.into()),
        _ => text.into(),
    }
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
        let store = |url: &str| read(&format!("data_dir = \"d\"\n[store]\nurl = \"{url}\""), &[]).unwrap().store_folder().unwrap();
        assert_eq!([store(""), store("s/t"), store("file:///s t")], ["d/artifacts", "s/t", "/s t"].map(PathBuf::from));
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
        wrong("[registry]\npoll_ms = 0", &[], &["registry.poll_ms"]);
        wrong("[store]\nurl = \"gopher://x/y\"", &[], &["store.url", "gopher", "a folder"]);
        wrong("[store]\nurl = \"file://x/y\"", &[], &["store.url", "whole path"]);
        wrong("[engine]\nbackend = \"tpu\"", &[], &["line 2", "`cpu`, `gpu`, `auto`"]);
        wrong("", &[("DYNAMIC_CEP_ENGINE_THREADS", "many")], &["DYNAMIC_CEP_ENGINE_THREADS=many", "expected usize"]);
        wrong("", &[("DYNAMIC_CEP_ENGINE_THREADS", "-1")], &["DYNAMIC_CEP_ENGINE_THREADS=-1"]);
    }
}
