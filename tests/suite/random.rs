//! Seeded randomness: the same everywhere, so that a printed seed is a failing case.

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

/// A number from the environment, or `usual`.
fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// The seed of this run, printed: `DYNAMIC_CEP_SEED`, or one taken from the clock.
pub fn seed(test: &str) -> u64 {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |since| since.as_micros() as u64);
    let seed = setting("DYNAMIC_CEP_SEED", clock);
    eprintln!("{test}: DYNAMIC_CEP_SEED={seed}");
    seed
}

/// Cases of the test that has most of them.
pub const CASES: u64 = 2_000;

/// The number of cases of a test that has `usual` ones; all scale with `DYNAMIC_CEP_CASES`, the number of cases of the test that has most.
pub fn cases(usual: u64) -> u64 {
    (usual * setting("DYNAMIC_CEP_CASES", CASES)).div_ceil(CASES)
}
