//! An object store that speaks S3.
//!
//! Who asks here are threads; what asks the store is asynchronous, and has one thread of its own for all of it. A caller waits on a channel and not in the runtime, so that nothing
//! happens to it but that it waits, whatever thread it is. Each request is tried again for a while when the store does not answer, or says that it cannot.

use super::config::Config;
use super::nonce;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig};
use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// How long a request is tried again, counted from its first beginning. Whoever gives up a partition waits so long at most, which is well below what Kafka waits for a member.
const RETRY: Duration = Duration::from_secs(10);

/// How long an answer may be silent; whole artifacts may take longer.
const SILENCE: Duration = Duration::from_secs(15);

/// One place in a store.
#[derive(Clone)]
pub struct S3 {
    client: Arc<AmazonS3>,
    threads: Arc<Threads>,
    bucket: Arc<str>,
    prefix: Path,
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix)
    }
}

/// Who asks the store. `None` only while it is dropped.
struct Threads(Option<Runtime>);

impl Drop for Threads {
    fn drop(&mut self) {
        // The last to let go of it may be a thread that must not wait, as dropping would.
        self.0.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

impl S3 {
    /// Opens `bucket/prefix`, and asks whether what is there is kept: two processes may write to one place, and the number of a snapshot must be given once. Some stores do not know
    /// `If-None-Match`, and overwrite.
    ///
    /// # Errors
    /// A store that cannot be reached, refuses, or overwrites.
    pub fn open(name: &str, config: &Config) -> Result<Self, String> {
        let about = |error: &dyn fmt::Display| format!("s3://{name}: {error}");
        // A process has one way of encrypting; that there is one already is no error.
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        let (bucket, prefix) = name.split_once('/').unwrap_or((name, ""));
        let prefix = Path::parse(prefix.trim_matches('/')).map_err(|error| about(&error))?;
        let builder = if config.access_key_id.is_empty() {
            AmazonS3Builder::from_env()
        } else {
            AmazonS3Builder::new().with_access_key_id(&config.access_key_id).with_secret_access_key(&config.secret_access_key)
        };
        let options = ClientOptions::new().with_timeout_disabled().with_read_timeout(SILENCE).with_connect_timeout(Duration::from_secs(5));
        let backoff = BackoffConfig { max_backoff: Duration::from_secs(2), ..BackoffConfig::default() };
        let retry = RetryConfig { backoff, max_retries: 20, retry_timeout: RETRY };
        let builder = builder.with_bucket_name(bucket).with_region(&config.region).with_client_options(options).with_retry(retry);
        let builder = if config.endpoint.is_empty() { builder } else { builder.with_endpoint(&config.endpoint) };
        let client = builder.with_allow_http(config.allow_http).build().map_err(|error| about(&error))?;
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("s3").enable_all().build().map_err(|error| about(&error))?;
        let opened = Self { client: Arc::new(client), threads: Arc::new(Threads(Some(runtime))), bucket: bucket.into(), prefix };
        opened.probe().map_err(|error| about(&error))?;
        Ok(opened)
    }

    /// Whether a name is given once.
    fn probe(&self) -> io::Result<()> {
        let name = format!("probe-{}", nonce());
        let first = self.create(&name, b"1");
        if first.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::AlreadyExists) {
            return first;
        }
        let second = self.create(&name, b"2");
        self.delete(&name)?;
        match second {
            Ok(()) => Err(io::Error::other(
                "the object store puts an object over one that is there although told not to (PutObject with If-None-Match: *), so that two processes \
                 could overwrite each other's state; use one that knows it",
            )),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub fn join(&self, part: &str) -> Self {
        Self { prefix: self.prefix.clone().join(part), ..self.clone() }
    }

    pub fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let prefix = self.prefix.clone();
        let listed = self.ask(|client| async move { client.list_with_delimiter(Some(&prefix)).await })?;
        Ok(listed.objects.iter().filter_map(|object| Some((object.location.filename()?.to_owned(), object.size))).collect())
    }

    pub fn has(&self, name: &str) -> io::Result<bool> {
        let path = self.prefix.clone().join(name);
        match self.ask(|client| async move { client.head(&path).await }) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub fn get(&self, name: &str) -> io::Result<Vec<u8>> {
        let path = self.prefix.clone().join(name);
        self.ask(|client| async move { client.get(&path).await?.bytes().await }).map(Vec::from)
    }

    pub fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.put_as(name, bytes, PutMode::Overwrite)
    }

    pub fn create(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.put_as(name, bytes, PutMode::Create)
    }

    fn put_as(&self, name: &str, bytes: &[u8], mode: PutMode) -> io::Result<()> {
        let (path, bytes) = (self.prefix.clone().join(name), bytes.to_vec());
        self.ask(|client| async move { client.put_opts(&path, bytes.into(), PutOptions::from(mode)).await }).map(drop)
    }

    pub fn delete(&self, name: &str) -> io::Result<()> {
        let path = self.prefix.clone().join(name);
        match self.ask(|client| async move { client.delete(&path).await }) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            deleted => deleted,
        }
    }

    /// Has the store asked, and waits for what it says.
    fn ask<T, F>(&self, question: impl FnOnce(Arc<AmazonS3>) -> F) -> io::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = object_store::Result<T>> + Send + 'static,
    {
        let gone = || io::Error::other("nobody is left to ask the object store");
        let runtime = self.threads.0.as_ref().ok_or_else(gone)?;
        let (answer, answered) = sync_channel(1);
        let asked = question(Arc::clone(&self.client));
        runtime.spawn(async move {
            // Nobody waits any more: nobody wants to know.
            let _ = answer.send(asked.await);
        });
        answered.recv().map_err(|_| gone())?.map_err(|error| {
            let kind = match &error {
                Error::NotFound { .. } => io::ErrorKind::NotFound,
                Error::AlreadyExists { .. } => io::ErrorKind::AlreadyExists,
                Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => io::ErrorKind::PermissionDenied,
                _ => io::ErrorKind::Other,
            };
            io::Error::new(kind, error.to_string())
        })
    }
}
