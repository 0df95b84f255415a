//! Connections that are encrypted (TLS 1.2 and 1.3, HTTP/1.1 and HTTP/2): who comes is answered once both sides have agreed, and one that takes its time with that holds up nobody else.

use super::config;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::io;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

/// How long both sides may take to agree.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Connections that may be agreeing at the same time.
const HANDSHAKES: usize = 4096;

/// What the process shows of itself. Connections that come later see a new certificate; those that there are stay.
pub struct Tls {
    files: config::Tls,
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads certificate and key.
    ///
    /// # Errors
    /// Which file is wrong, and why.
    pub fn open(files: &config::Tls) -> Result<Self, String> {
        Ok(Self { files: files.clone(), current: RwLock::new(Arc::new(read(files)?)) })
    }

    /// Reads them again. What cannot be read changes nothing.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn reload(&self) -> Result<(), String> {
        let read = Arc::new(read(&self.files)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(())
    }

    fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)).into()
    }
}

fn read(files: &config::Tls) -> Result<ServerConfig, String> {
    let about = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let certificates = CertificateDer::pem_file_iter(&files.certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = certificates.map_err(|error| about(&files.certificate, &error))?;
    if certificates.is_empty() {
        return Err(about(&files.certificate, &"there is no certificate in it"));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| about(&files.key, &error))?;
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?.with_no_client_auth().with_single_cert(certificates, key);
    let mut config = config.map_err(|error| format!("{} and {}: {error}", files.certificate.display(), files.key.display()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Where encrypted connections come from.
pub struct TlsListener {
    agreed: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl TlsListener {
    /// Begins to take connections.
    ///
    /// # Errors
    /// A listener without an address.
    pub fn new(listener: TcpListener, tls: Arc<Tls>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (to, agreed) = mpsc::channel(64);
        Ok(Self { agreed, address, accepting: tokio::spawn(accept(listener, tls, to)) })
    }
}

async fn accept(mut listener: TcpListener, tls: Arc<Tls>, to: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>) {
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    // The semaphore is never closed.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let (stream, address) = axum::serve::Listener::accept(&mut listener).await;
        let (acceptor, to) = (tls.acceptor(), to.clone());
        tokio::spawn(async move {
            let agreed = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
            drop(place);
            match agreed {
                Ok(Ok(stream)) => {
                    // At worst small messages come a little later.
                    let _ = stream.get_ref().0.set_nodelay(true);
                    // Where nobody takes it the process ends.
                    let _ = to.send((stream, address)).await;
                }
                Ok(Err(error)) => tracing::debug!(%address, %error, "a connection was not agreed on"),
                Err(_) => tracing::debug!(%address, "a connection was not agreed on in time"),
            }
        });
    }
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.agreed.recv().await {
            Some(connection) => connection,
            // The task that accepts ends with this only.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}

impl Drop for TlsListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
