//! The process from its first to its last moment.

use super::api;
use super::config::Config;
use super::core::{Service, now};
use super::tls::{Tls, TlsListener};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// What the caller is told once requests are taken.
#[derive(Debug)]
pub struct Started {
    pub address: SocketAddr,
    /// Whether connections are encrypted.
    pub encrypted: bool,
    /// The first key, which is shown this once.
    pub key: Option<String>,
}

/// Serves until `stop` is done, then ends what was begun.
///
/// # Errors
/// What cannot be opened, read or listened at.
pub async fn run(config: Config, started: impl FnOnce(&Started), stop: impl Future<Output = ()> + Send + 'static) -> Result<(), String> {
    let listen = config.http.listen;
    let listener = TcpListener::bind(listen).await.map_err(|error| format!("{listen} cannot be listened at: {error}"))?;
    let tls = config.http.tls.is_used().then(|| Tls::open(&config.http.tls).map(Arc::new)).transpose()?;
    let (service, key) = Service::open(config).await?;
    let service = Arc::new(service);
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    started(&Started { address, encrypted: tls.is_some(), key });
    let following = tokio::spawn(keep_following(Arc::clone(&service)));
    let router = api::router(&service);
    let served = match tls {
        None => axum::serve(listener, router).with_graceful_shutdown(stop).await,
        Some(tls) => {
            let reloading = tokio::spawn(reload(Arc::clone(&tls)));
            let listener = TlsListener::new(listener, tls).map_err(|error| error.to_string())?;
            let served = axum::serve(listener, router).with_graceful_shutdown(stop).await;
            reloading.abort();
            served
        }
    };
    following.abort();
    service.stop();
    served.map_err(|error| format!("serving ended: {error}"))
}

/// Has certificates read again whenever the process is told to (SIGHUP).
async fn reload(tls: Arc<Tls>) {
    #[cfg(unix)]
    if let Ok(mut told) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()) {
        while told.recv().await.is_some() {
            match tls.reload() {
                Ok(()) => tracing::info!("the certificate was read again"),
                Err(error) => tracing::error!(error, "the certificate stays as it was"),
            }
        }
    }
    #[cfg(not(unix))]
    let _ = tls;
}

/// Looks again and again whether another process has changed the registry.
async fn keep_following(service: Arc<Service>) {
    let every = Duration::from_millis(service.config.registry.poll_ms);
    loop {
        tokio::time::sleep(every).await;
        service.follow().await;
        // What is wrong is in the log; it is tried again.
        let _ = service.carry_out(now()).await;
    }
}
