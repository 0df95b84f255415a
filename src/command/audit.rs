//! `audit verify`: whether the audit log is as it was written.

use super::Failure;
use crate::service::audit::{Entry, verify};
use crate::service::config::Config;
use crate::service::registry::Registry;

/// Entries that are read at a time.
const READ: i64 = 1000;

/// Looks at every entry of the log; how many there are, and the hash of the last, which whoever keeps it elsewhere can compare.
///
/// # Errors
/// A registry that cannot be read; the first entry that does not fit the one before.
pub fn check(config: &Config) -> Result<(i64, String), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no thread for the registry: {error}"))?;
    let checked = runtime.block_on(async {
        let unreadable = |error: sqlx::Error| format!("the registry cannot be read: {error}");
        let registry = Registry::open(&config.registry_url()).await.map_err(unreadable)?;
        let mut last: Option<Entry> = None;
        loop {
            let entries = registry.audit(last.as_ref().map_or(0, |last| last.number), READ, None).await.map_err(unreadable)?;
            verify(last.as_ref(), &entries)?;
            match entries.into_iter().next_back() {
                Some(entry) => last = Some(entry),
                None => return Ok(last.map_or((0, String::new()), |last| (last.number, last.hash))),
            }
        }
    });
    checked.map_err(Failure::Message)
}
