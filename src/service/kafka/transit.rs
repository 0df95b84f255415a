//! One batch of results on its way out, while the next one is judged.

use super::outbox::Outbox;
use crate::connector::kafka::Partition;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What became of the events of a batch.
pub struct Batch {
    pub outbox: Outbox,
    /// The positions after it.
    pub next: Vec<(Partition, i64)>,
    /// When its messages were written.
    pub written: Vec<i64>,
}

/// The place of the batch that is under way.
#[derive(Default)]
pub struct Transit {
    place: Mutex<Place>,
    changed: Condvar,
}

#[derive(Default)]
enum Place {
    #[default]
    Free,
    Due(Box<Batch>),
    Busy,
    Failed(String),
    Over,
}

impl Place {
    const fn is_under_way(&self) -> bool {
        matches!(self, Self::Due(_) | Self::Busy)
    }
}

impl Transit {
    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, place: Place) {
        *self.place() = place;
        self.changed.notify_all();
    }

    /// Whether a batch is under way.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.place().is_under_way()
    }

    fn settled(&self) -> Result<MutexGuard<'_, Place>, String> {
        let place = self.changed.wait_while(self.place(), |place| place.is_under_way()).unwrap_or_else(PoisonError::into_inner);
        if let Place::Failed(problem) = &*place { Err(problem.clone()) } else { Ok(place) }
    }

    /// Waits until nothing is under way.
    ///
    /// # Errors
    /// Why what was under way could not be put out.
    pub fn wait(&self) -> Result<(), String> {
        self.settled().map(drop)
    }

    /// Sends a batch on its way, after the one before it.
    ///
    /// # Errors
    /// As [`Transit::wait`]. Then this batch is not put out.
    pub fn put(&self, batch: Batch) -> Result<(), String> {
        *self.settled()? = Place::Due(Box::new(batch));
        self.changed.notify_all();
        Ok(())
    }

    /// Puts out batch after batch, until one fails or there are no more.
    pub fn run(&self, mut put_out: impl FnMut(&Batch) -> Result<(), String>) {
        let ending = Ending(self);
        loop {
            let mut place =
                self.changed.wait_while(self.place(), |place| matches!(place, Place::Free)).unwrap_or_else(PoisonError::into_inner);
            let Place::Due(batch) = std::mem::replace(&mut *place, Place::Busy) else {
                *place = Place::Over;
                break;
            };
            drop(place);
            match put_out(&batch) {
                Ok(()) => self.set(Place::Free),
                Err(problem) => {
                    self.set(Place::Failed(problem));
                    break;
                }
            }
        }
        drop(ending);
    }

    /// Says that no more batches come, after the last one.
    pub fn end(&self) {
        if let Ok(mut place) = self.settled() {
            *place = Place::Over;
        }
        self.changed.notify_all();
    }
}

/// When the thread that puts out ends, by whatever cause, nobody waits for it.
struct Ending<'f>(&'f Transit);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if self.0.is_busy() {
            self.0.set(Place::Failed("the thread that puts out results has ended; the log of the process tells why".to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    fn batch(position: i64) -> Batch {
        let partition = Partition { topic: "t".into(), number: 0 };
        Batch { outbox: Outbox::default(), next: vec![(partition, position)], written: Vec::new() }
    }

    #[test]
    fn batches_go_one_after_the_other_and_what_was_put_is_out_after_waiting() {
        let (transit, out) = (Transit::default(), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let done = scope.spawn(|| {
                let mut seen = Vec::new();
                transit.run(|batch| {
                    std::thread::sleep(Duration::from_millis(2));
                    seen.push(batch.next[0].1);
                    out.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                });
                seen
            });
            for position in 0..20 {
                transit.put(batch(position)).unwrap();
                // The one before is out when the next one is taken.
                assert!(out.load(Ordering::SeqCst) >= position as usize);
            }
            transit.wait().unwrap();
            assert_eq!((out.load(Ordering::SeqCst), transit.is_busy()), (20, false));
            transit.put(batch(20)).unwrap();
            transit.end();
            assert_eq!(done.join().unwrap(), (0..=20).collect::<Vec<_>>());
        });
    }

    #[test]
    fn a_failure_or_a_panic_is_told_to_whoever_waits() {
        for panics in [false, true] {
            let transit = Transit::default();
            std::thread::scope(|scope| {
                let done = scope.spawn(|| transit.run(|_| if panics { panic!("planted") } else { Err("the broker is away".to_owned()) }));
                transit.put(batch(1)).unwrap();
                let told = transit.wait().unwrap_err();
                assert!(told.contains(if panics { "has ended" } else { "the broker is away" }), "{told}");
                assert_eq!(transit.put(batch(2)).unwrap_err(), told);
                transit.end();
                assert_eq!(done.join().is_err(), panics);
            });
        }
    }
}
