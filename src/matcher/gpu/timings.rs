//! What the work cost, for calibration and benches.

use std::ops::AddAssign;
use std::time::Duration;

/// Sums over the batches collected since the last [`super::GpuMatcher::take_timings`].
///
/// The times of the kernels stay zero unless [`super::GpuOptions::timings`] is set and the adapter has timestamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    pub seed: Duration,
    pub plan: Duration,
    pub descend: Duration,
    pub verify: Duration,
    pub settle: Duration,
    pub brute: Duration,
    pub reduce: Duration,
    pub scan: Duration,
    pub scatter: Duration,
    pub order: Duration,
    pub top: Duration,
    /// Time the host was blocked, waiting for results.
    pub waited: Duration,
    pub rows: u64,
    /// Times a command buffer was sent.
    pub submissions: u64,
    /// Runs whose results did not fit and that were run again, with larger buffers or fewer rows.
    pub reruns: u64,
    /// (node, row) pairs tested by `descend`.
    pub node_pairs: u64,
    /// (group, row) pairs tested by `verify`.
    pub group_pairs: u64,
    /// Terms tested by `settle`.
    pub open: u64,
    pub candidates: u64,
}

impl Timings {
    /// Time of all kernels.
    #[must_use]
    pub fn kernels(&self) -> Duration {
        self.by_kernel().iter().map(|(_, time)| *time).sum()
    }

    /// The kernels' names and times, in the order in which they run.
    #[must_use]
    pub fn by_kernel(&self) -> [(&'static str, Duration); 11] {
        let mut times = *self;
        times.kernels_mut().map(|(name, time)| (name, *time))
    }

    pub(super) fn kernels_mut(&mut self) -> [(&'static str, &mut Duration); 11] {
        [
            ("seed", &mut self.seed),
            ("plan", &mut self.plan),
            ("descend", &mut self.descend),
            ("verify", &mut self.verify),
            ("settle", &mut self.settle),
            ("brute", &mut self.brute),
            ("reduce", &mut self.reduce),
            ("scan", &mut self.scan),
            ("scatter", &mut self.scatter),
            ("order", &mut self.order),
            ("top", &mut self.top),
        ]
    }
}

impl AddAssign for Timings {
    fn add_assign(&mut self, other: Self) {
        for ((_, time), (_, more)) in self.kernels_mut().into_iter().zip(other.by_kernel()) {
            *time += more;
        }
        self.waited += other.waited;
        self.rows += other.rows;
        self.submissions += other.submissions;
        self.reruns += other.reruns;
        self.node_pairs += other.node_pairs;
        self.group_pairs += other.group_pairs;
        self.open += other.open;
        self.candidates += other.candidates;
    }
}
