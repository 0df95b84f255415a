//! For tests: a device, or a word about why there is none.

use super::Gpu;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// The device that all tests of a process share; `None`, with one line that says so, where the machine has no adapter. With
/// `DYNAMIC_CEP_GPU=require` in the environment a missing adapter is a failure.
///
/// # Panics
/// Where an adapter is required and there is none.
#[must_use]
pub fn gpu_or_skip(test: &str) -> Option<Arc<Gpu>> {
    static GPU: OnceLock<Result<Arc<Gpu>, String>> = OnceLock::new();
    match GPU.get_or_init(|| Gpu::request().map(Arc::new).map_err(|error| error.to_string())) {
        Ok(gpu) => Some(Arc::clone(gpu)),
        Err(why) => {
            assert!(std::env::var_os("DYNAMIC_CEP_GPU").is_none_or(|value| value != "require"), "{test}: {why}");
            let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
            // Not by `eprintln!`: the harness keeps what that says of a test that passes to itself, and the skip would hide. Where standard error is closed,
            // nobody reads it.
            let _ = writeln!(std::io::stderr(), "skipped ({count} so far): {test}: {why}");
            None
        }
    }
}

/// Tests that this process has skipped for want of an adapter.
#[must_use]
pub fn skipped() -> usize {
    SKIPPED.load(Ordering::Relaxed)
}
