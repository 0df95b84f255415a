//! One thread that makes the rows of a stream and takes them, batch by batch, timed as the peers of other languages are: see README.md, Peers.

use dynamic_cep::event::EventBatch;
use std::fs::read_to_string;
use std::time::Instant;

/// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What `--stream CASE PATTERNS ROWS WARM` asks for in place of criterion's benches.
pub struct Stream {
    pub case: String,
    pub patterns: u64,
    /// Rows in all, and before time is taken; whole batches.
    pub rows: usize,
    warm: usize,
}

/// Seconds of the clock and of the processor.
#[derive(Clone, Copy, Default)]
pub struct Time {
    pub wall: f64,
    pub processor: f64,
}

impl Stream {
    /// `None`: not asked for.
    pub fn asked(batch: usize) -> Option<Self> {
        let mut rest = std::env::args().skip_while(|argument| argument != "--stream").skip(1);
        let mut next = || rest.next().expect("--stream CASE PATTERNS ROWS WARM");
        std::env::args().any(|argument| argument == "--stream").then(|| {
            let case = next();
            let patterns = next().parse().expect("how many patterns");
            let mut rows = || next().parse::<usize>().expect("how many rows").next_multiple_of(batch);
            Self { case, patterns, rows: rows(), warm: rows() }
        })
    }

    /// Has all rows made and taken; `take` gives the number of answers. Prints a line as the peers do, with the making of rows and without it.
    pub fn run(&self, batch: usize, make: impl Fn(usize) -> EventBatch, mut take: impl FnMut(&EventBatch) -> usize) -> usize {
        let (mut making, mut taking) = (Time::default(), Time::default());
        let mut found = 0;
        for number in 0..self.rows / batch {
            let timed = number >= self.warm / batch;
            let rows = timed_as(&mut making, timed, || make(number));
            found += timed_as(&mut taking, timed, || take(&rows));
        }
        let both = Time { wall: making.wall + taking.wall, processor: making.processor + taking.processor };
        for (who, Time { wall, processor }) in [("dynamic-cep", both), ("dynamic-cep without making rows", taking)] {
            let (case, patterns, rows) = (&self.case, self.patterns, (self.rows - self.warm) as f64);
            println!("{who},{case},{patterns},1,{rows},{found},{wall:.2},{processor:.2},{:.0},{:.0}", rows / wall, rows / processor);
        }
        found
    }
}

/// Does work whose time is added if it is `timed`.
pub fn timed_as<T>(time: &mut Time, timed: bool, work: impl FnOnce() -> T) -> T {
    let (clock, used) = (Instant::now(), processor());
    let done = work();
    if timed {
        time.wall += clock.elapsed().as_secs_f64();
        time.processor += processor() - used;
    }
    done
}

/// Seconds that this thread has run (Linux).
fn processor() -> f64 {
    let times = read_to_string("/proc/thread-self/schedstat").expect("Linux's times of threads");
    times.split(' ').next().and_then(|time| time.parse::<f64>().ok()).expect("nanoseconds") / 1e9
}
