//! The process from its first to its last moment.

use super::api;
use super::config::Config;
use super::core::{Service, now};
use super::tls::{Tls, TlsListener};
use axum::Router;
use axum::serve::ListenerExt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the caller is told once requests are taken.
#[derive(Debug)]
pub struct Started {
    pub address: SocketAddr,
    /// Where Arrow Flight is answered, if it is.
    pub flight: Option<SocketAddr>,
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
    let flight = match config.flight.address()? {
        Some(listen) => Some(TcpListener::bind(listen).await.map_err(|error| format!("{listen} cannot be listened at: {error}"))?),
        None => None,
    };
    let tls = config.http.tls.is_used().then(|| Tls::open(&config.http.tls).map(Arc::new)).transpose()?;
    let (service, key) = Service::open(config).await?;
    let service = Arc::new(service);
    let address = |listener: &TcpListener| listener.local_addr().map_err(|error| error.to_string());
    let flight_address = flight.as_ref().map(address).transpose()?;
    started(&Started { address: address(&listener)?, flight: flight_address, encrypted: tls.is_some(), key });
    let following = tokio::spawn(keep_following(Arc::clone(&service)));
    let reloading = tls.as_ref().map(|tls| tokio::spawn(reload(Arc::clone(tls))));
    let (stops, stopping) = watch::channel(false);
    let stop = async move {
        stop.await;
        // Who serves nothing listens no more.
        let _ = stops.send(true);
    };
    let other = flight.map(|listener| serve(listener, tls.clone(), flight_router(&service, &stopping), stopped(stopping.clone())));
    let other = async { if let Some(serving) = other { serving.await } else { Ok(()) } };
    let (served, others) = tokio::join!(serve(listener, tls, api::router(&service), stop), other);
    reloading.iter().for_each(JoinHandle::abort);
    following.abort();
    service.stop();
    served.and(others).map_err(|error| format!("serving ended: {error}"))
}

#[cfg(feature = "flight")]
fn flight_router(service: &Arc<Service>, stopping: &watch::Receiver<bool>) -> Router {
    super::flight::router(service, stopping.clone())
}

/// The configuration names no place to listen at then.
#[cfg(not(feature = "flight"))]
fn flight_router(_: &Arc<Service>, _: &watch::Receiver<bool>) -> Router {
    Router::new()
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error says that nobody will tell any more.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// Answers what comes to a listener until `stop` is done, and then what is being answered.
async fn serve(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    match tls {
        None => {
            let at_once = |stream: &mut TcpStream| {
                // At worst small messages come a little later.
                let _ = stream.set_nodelay(true);
            };
            axum::serve(listener.tap_io(at_once), router).with_graceful_shutdown(stop).await
        }
        Some(tls) => axum::serve(TlsListener::new(listener, tls)?, router).with_graceful_shutdown(stop).await,
    }
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
