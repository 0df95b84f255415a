//! `push`: rule files to a process that serves, as a new version of a rule set.

use super::Failure;
use super::sources::{Named, pack_files};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};

/// What is pushed, where, and by whom.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Rule files or a pack folder
    #[arg(required = true)]
    pub rules: Vec<PathBuf>,
    /// The process
    #[arg(long, default_value = "http://127.0.0.1:7070", env = "DYNAMIC_CEP_URL")]
    pub url: String,
    /// A key of the role author or admin
    #[arg(long, env = "DYNAMIC_CEP_KEY", hide_env_values = true)]
    pub key: String,
    /// A file of PEM with certificates to trust, in the place of those that everybody trusts
    #[arg(long, env = "DYNAMIC_CEP_CA")]
    pub ca: Option<PathBuf>,
    /// Whose rules they are; `all`: they are for the events of every tenant
    #[arg(long, default_value = "all")]
    pub tenant: String,
    /// The rule set
    #[arg(long, default_value = "main")]
    pub rule_set: String,
    /// What is new about them
    #[arg(long, default_value = "")]
    pub note: String,
    /// Say what would become of the last events if the version were in service
    #[arg(long)]
    pub preview: bool,
    /// The field that says which events were to be caught: the preview tells precision and recall
    #[arg(long, requires = "preview")]
    pub label: Option<String>,
    /// Put the version in service at once, for which the key needs the role admin
    #[arg(long)]
    pub activate: bool,
}

/// Pushes; what the process says of the version, and of its being in service.
///
/// # Errors
/// Files that cannot be read, a process that cannot be reached, and what it refuses.
pub fn push(options: &Options) -> Result<Vec<Value>, Failure> {
    let files = match Named::look(&options.rules)? {
        Named::Artifact(path) => {
            return Err(format!("{}: rules are compiled where they are pushed; give the rule files", path.display()).into());
        }
        Named::Rules { files, .. } => pack_files(&options.rules, files)?,
    };
    let file = |(name, path): (String, PathBuf)| {
        let bytes = std::fs::read(&path).map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
        Ok(match String::from_utf8(bytes) {
            Ok(text) => json!({"name": name, "text": text}),
            Err(binary) => json!({"name": name, "base64": STANDARD.encode(binary.as_bytes())}),
        })
    };
    let files = files.into_iter().map(file).collect::<Result<Vec<Value>, String>>()?;
    let set = format!("{}/v1/tenants/{}/rule-sets/{}", options.url.trim_end_matches('/'), options.tenant, options.rule_set);
    let pushed = send(options, "POST", &format!("{set}/versions"), &json!({"files": files, "note": options.note}))?;
    let mut told = vec![bounded(pushed)];
    if options.preview {
        let asked = json!({"label": options.label});
        let preview = send(options, "POST", &format!("{set}/versions/{}/preview", told[0]["version"]), &asked)?;
        told.push(short(&preview));
    }
    if options.activate {
        told.push(send(options, "PUT", &format!("{set}/live"), &json!({"version": told[0]["version"]}))?);
    }
    Ok(told)
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, Failure> {
    let pem = std::fs::read(path).map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
    let certificates = ureq::tls::parse_pem(&pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
        Ok(_) => None,
        Err(error) => Some(Err(format!("{}: {error}", path.display()))),
    });
    let certificates: Vec<Certificate> = certificates.collect::<Result<_, String>>()?;
    if certificates.is_empty() {
        return Err(format!("{}: there is no certificate in it", path.display()).into());
    }
    Ok(certificates)
}

/// Warnings that are shown of a push.
const WARNINGS: usize = 20;

/// What became of a push with its first warnings, and how many there are besides.
fn bounded(mut pushed: Value) -> Value {
    let left_out = pushed["diagnostics"].as_array_mut().map_or(0, |all| {
        let count = all.len();
        all.truncate(WARNINGS);
        count - all.len()
    });
    if left_out > 0 {
        pushed["diagnostics_left_out"] = left_out.into();
    }
    pushed
}

/// A preview without its samples and rules.
fn short(preview: &Value) -> Value {
    let parts = ["summary", "events", "actions", "flagged", "hit"];
    Value::Object(parts.iter().map(|part| ((*part).to_owned(), preview[*part].clone())).collect())
}

/// Who speaks to a process; `ca`: the certificates to trust.
pub(super) fn agent(ca: Option<&Path>) -> Result<ureq::Agent, Failure> {
    let trusted = match ca {
        Some(path) => RootCerts::Specific(Arc::new(certificates(path)?)),
        None => RootCerts::WebPki,
    };
    let tls = TlsConfig::builder().root_certs(trusted).build();
    Ok(ureq::Agent::config_builder().http_status_as_error(false).tls_config(tls).build().into())
}

fn send(options: &Options, method: &str, url: &str, body: &Value) -> Result<Value, Failure> {
    let agent = agent(options.ca.as_deref())?;
    let request = ureq::http::Request::builder().method(method).uri(url).header("authorization", format!("Bearer {}", options.key));
    let request = request.header("content-type", "application/json").body(body.to_string());
    let request = request.map_err(|error| format!("{url}: {error}"))?;
    let mut response = agent.run(request).map_err(|error| format!("{url}: {error}; is `dynamic-cep serve` running there?"))?;
    let text = response.body_mut().read_to_string().map_err(|error| format!("{url}: {error}"))?;
    let answer: Value = serde_json::from_str(&text).map_err(|_| format!("{url}: {} {text}", response.status()))?;
    if response.status().is_success() {
        return Ok(answer);
    }
    let mut lines = vec![format!("{}: {}", answer["title"].as_str().unwrap_or("refused"), answer["detail"].as_str().unwrap_or_default())];
    for diagnostic in answer["diagnostics"].as_array().into_iter().flatten() {
        let part = |key: &str| diagnostic[key].as_str().unwrap_or_default();
        let rule = diagnostic["rule"].as_str().map_or(String::new(), |rule| format!(" (rule `{rule}`)"));
        let place = format!("{}:{}:{}", part("file"), diagnostic["line"], diagnostic["column"]);
        lines.push(format!("{}[{}]: {}{rule}\n  at {place}", part("severity"), part("code"), part("primary")));
        if !part("hint").is_empty() {
            lines.push(format!("  hint: {}", part("hint")));
        }
    }
    Err(lines.join("\n").into())
}
