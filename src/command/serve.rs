//! `serve`: the process, until it is told to end.

use super::Failure;
use crate::service::config::Config;
use crate::service::run::{Started, run};
use std::path::Path;

/// The configuration of a file, if there is one, and of the environment.
///
/// # Errors
/// A file that cannot be read; which key is wrong, where, and why.
pub fn config(file: Option<&Path>) -> Result<Config, Failure> {
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|error| format!("{}: cannot be read: {error}", path.display()));
    let text = file.map(read).transpose()?;
    let about = |error: String| match file {
        Some(path) => format!("{}: {error}", path.display()),
        None => error,
    };
    Ok(Config::read(text.as_deref(), std::env::vars()).map_err(about)?)
}

/// A configuration as a file would say it, without what is secret.
///
/// # Errors
/// One that no file can say.
pub fn shown(config: &Config) -> Result<String, Failure> {
    Ok(toml::to_string(&config.without_secrets()).map_err(|error| error.to_string())?)
}

/// Serves until the process is told to end.
///
/// # Errors
/// What cannot be opened, read or listened at.
pub fn serve(config: Config, started: impl FnOnce(&Started)) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no threads for requests: {error}"))?;
    Ok(runtime.block_on(run(config, started, told_to_end()))?)
}

/// Waits for an interrupt, or for what a system sends to processes that are to end.
async fn told_to_end() {
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let ended = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => _ = signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let ended = std::future::pending::<()>();
    tokio::select! {
        () = interrupted => {}
        () = ended => {}
    }
}
