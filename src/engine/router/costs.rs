//! What a batch costs on either back end, and which of its partitions go to which. Seconds come from outside: nothing here looks at a clock.
//!
//! The model: a row costs the CPU as much as the partitions that it visits are large, by classes of their size; it costs the GPU the same in every partition,
//! after what a dispatch costs. So a partition goes to the GPU where its rows cost less there, provided that all of those together save more than a dispatch.
//! The costs are measured once; from then on each back end has a *pace*, the running mean of what batches took over what they were expected to take.

/// Classes of partitions: one for those without rules, and one for each power of two of groups.
pub const CLASSES: usize = 33;

/// How many rows of a batch visit partitions of each class. Every row counts for partition 0, and for its tenant's.
pub type Visits = [usize; CLASSES];

/// A split has costs of its own, as rows and answers are taken apart and put together: it must save so much of what either back end alone would take.
const SPLIT_SAVES: f64 = 0.05;

/// Weight of a batch in the running means; of one that was sent to a back end to see how it does there.
const WEIGHT: f64 = 1.0 / 8.0;
const PROBE_WEIGHT: f64 = 1.0 / 2.0;

/// How fast the pace of a back end that is not used goes back to what was measured, for each batch that it does not get.
const FORGETTING: f64 = 1.0 / 1024.0;

/// One batch in so many is sent to the other back end, where that takes at most so many times as long.
const PROBE_EVERY: u32 = 128;
const PROBE_AT_MOST: f64 = 4.0;

/// A batch that has so many times the rows of the one that was measured is measured again.
const LARGER: usize = 8;

/// The class of a partition with so many groups.
pub const fn class(groups: u32) -> usize {
    (u32::BITS - groups.leading_zeros()) as usize
}

/// A set of classes: those that go to the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classes(u64);

impl Classes {
    pub const NONE: Self = Self(0);

    /// Those that a batch visits.
    pub fn visited(visits: &Visits) -> Self {
        Self::of(|class| class > 0 && visits[class] > 0)
    }

    pub fn of(holds: impl Fn(usize) -> bool) -> Self {
        Self((0..CLASSES).fold(0, |all, class| all | u64::from(holds(class)) << class))
    }

    pub const fn hold(self, class: usize) -> bool {
        self.0 >> class & 1 == 1
    }
}

/// Who matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Cpu,
    Gpu,
}

/// What is timed to know the costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// The partitions of a class, on the CPU.
    Class(usize),
    /// One row on the GPU.
    Dispatch,
    /// The batch on the GPU.
    Gpu,
}

/// Where a batch goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The classes of the partitions that go to the GPU; the others are the CPU's.
    pub on_gpu: Classes,
    /// Whether it goes there to see what it takes, and not because it is the fastest way.
    pub is_probe: bool,
}

/// Seconds, as measured.
#[derive(Clone, Debug)]
pub struct Costs {
    /// Of a row in a partition of each class on the CPU.
    cpu: [f64; CLASSES],
    /// Of the first row on the GPU, and of each row in each of its partitions.
    dispatch: f64,
    gpu: f64,
    /// Of the CPU and of the GPU.
    paces: [f64; 2],
    /// Rows of the batch that was measured.
    rows: usize,
    since_probe: u32,
}

impl Costs {
    /// Measures a batch. Where a trial on the GPU fails, the GPU is left alone.
    pub fn measure(rows: usize, visits: &Visits, mut seconds: impl FnMut(Trial) -> Option<f64>) -> Self {
        let visited = Classes::visited(visits);
        let mut cpu = [0.0; CLASSES];
        for class in (0..CLASSES).filter(|class| visited.hold(*class)) {
            cpu[class] = seconds(Trial::Class(class)).unwrap_or(0.0) / visits[class] as f64;
        }
        // Classes that the batch does not visit are taken to cost what the next smaller one does, or the smallest of all.
        let mut known = (0..CLASSES).find(|class| visited.hold(*class)).map_or(0.0, |class| cpu[class]);
        for (class, cost) in cpu.iter_mut().enumerate().skip(1) {
            if visited.hold(class) {
                known = *cost;
            }
            *cost = known;
        }
        let all: usize = visits[1..].iter().sum();
        let on_gpu = seconds(Trial::Dispatch).zip(seconds(Trial::Gpu));
        let (dispatch, gpu) = on_gpu.map_or((f64::INFINITY, 0.0), |(one, all_rows)| (one, (all_rows - one).max(0.0) / all.max(1) as f64));
        Self { cpu, dispatch, gpu, paces: [1.0; 2], rows, since_probe: 0 }
    }

    /// Whether a batch is so much larger than the one that was measured that it had better be measured itself.
    pub const fn are_outgrown(&self, rows: usize) -> bool {
        rows / LARGER >= self.rows
    }

    /// Whether a batch of so few rows need not be looked at: no partitions could make a dispatch worth its while.
    pub fn never_pay(&self, rows: usize) -> bool {
        let dearest = self.cpu.iter().copied().fold(0.0, f64::max) * self.paces[0];
        2.0 * rows as f64 * dearest <= self.dispatch * self.paces[1]
    }

    /// Seconds that a side is expected to take if these classes go to the GPU; 0 where nothing is left to it.
    pub fn expected(&self, side: Side, visits: &Visits, on_gpu: Classes) -> f64 {
        let visited = Classes::visited(visits);
        let sum = |cost: &dyn Fn(usize) -> f64, wanted: bool| -> f64 {
            (0..CLASSES)
                .filter(|class| visited.hold(*class) && on_gpu.hold(*class) == wanted)
                .map(|class| visits[class] as f64 * cost(class))
                .sum()
        };
        match side {
            Side::Cpu => self.paces[0] * sum(&|class| self.cpu[class], false),
            Side::Gpu if Classes::of(|class| visited.hold(class) && on_gpu.hold(class)) == Classes::NONE => 0.0,
            Side::Gpu => self.paces[1] * (self.dispatch + sum(&|_| self.gpu, true)),
        }
    }

    fn total(&self, visits: &Visits, on_gpu: Classes) -> f64 {
        self.expected(Side::Cpu, visits, on_gpu) + self.expected(Side::Gpu, visits, on_gpu)
    }

    /// The fastest way: on the CPU, where others are no faster.
    pub fn fastest(&self, visits: &Visits) -> Classes {
        let all = Classes::visited(visits);
        let dearer = |class: usize| all.hold(class) && self.cpu[class] * self.paces[0] > self.gpu * self.paces[1];
        let split = Classes::of(dearer);
        let [on_cpu, on_gpu, by_both] = [Classes::NONE, all, split].map(|classes| self.total(visits, classes));
        let (whole, seconds) = if on_gpu < on_cpu { (all, on_gpu) } else { (Classes::NONE, on_cpu) };
        if by_both < seconds * (1.0 - SPLIT_SAVES) { split } else { whole }
    }

    /// Where a batch goes: the fastest way, but for the probes.
    pub fn choose(&mut self, visits: &Visits) -> Choice {
        let fastest = self.fastest(visits);
        self.since_probe = self.since_probe.saturating_add(1);
        if self.since_probe >= PROBE_EVERY {
            let all = Classes::visited(visits);
            let unused = match fastest {
                Classes::NONE => Some(all),
                fastest if fastest == all => Some(Classes::NONE),
                // Of a split, both see some of it.
                _ => None,
            };
            let near = |unused: &Classes| self.total(visits, *unused) <= PROBE_AT_MOST * self.total(visits, fastest);
            if let Some(on_gpu) = unused.filter(near) {
                self.since_probe = 0;
                return Choice { on_gpu, is_probe: true };
            }
        }
        Choice { on_gpu: fastest, is_probe: false }
    }

    /// Takes in what a batch has taken: seconds on each side, `None` where it had no part.
    pub fn observe(&mut self, visits: &Visits, choice: Choice, seconds: [Option<f64>; 2]) {
        let weight = if choice.is_probe { PROBE_WEIGHT } else { WEIGHT };
        for (at, side) in [Side::Cpu, Side::Gpu].into_iter().enumerate() {
            let expected = self.expected(side, visits, choice.on_gpu);
            let pace = &mut self.paces[at];
            match seconds[at] {
                // A thread that was interrupted says nothing of the back end: one batch counts for a few times what was expected at most.
                Some(seconds) if expected > 0.0 && expected.is_finite() => *pace *= 1.0 + weight * ((seconds / expected).min(4.0) - 1.0),
                Some(_) => {}
                None => *pace += FORGETTING * (1.0 - *pace),
            }
        }
    }
}

impl std::fmt::Display for Costs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [cpu, gpu] = self.paces;
        let (least, most) = self.cpu[1..].iter().fold((f64::INFINITY, 0.0_f64), |(least, most), cost| (least.min(*cost), most.max(*cost)));
        write!(f, "cpu {:.0} to {:.0} ns a row and partition", least * cpu * 1e9, most * cpu * 1e9)?;
        if self.dispatch.is_finite() {
            write!(f, ", gpu {:.0} µs and {:.0} ns", self.dispatch * gpu * 1e6, self.gpu * gpu * 1e9)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
