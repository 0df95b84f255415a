//! Memory of this process.

/// Has the peak of memory begin anew; where that cannot be done it is that of all so far.
pub fn reset_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Megabytes of memory of this process: `VmRSS` now, `VmHWM` the peak; 0 where that is not known.
pub fn memory(what: &str) -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(what));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<i64>().ok()).unwrap_or(0) / 1024
}
