//! Work on several threads whose results are taken in order.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, TrySendError, channel, sync_channel};
use std::sync::{Mutex, PoisonError};

/// Applies `work` to each item on `threads` threads, and hands the results to `take` in the order of the items. Items are drawn, and results taken, on
/// the calling thread; at most a few items a thread are on their way at any time.
///
/// `take` answers whether to go on; once it does not, no further items are drawn.
pub fn map_in_order<T: Send, R: Send>(
    items: impl Iterator<Item = T>,
    threads: usize,
    work: impl Fn(T) -> R + Sync,
    mut take: impl FnMut(R) -> bool,
) {
    let threads = threads.max(1);
    let work = &work;
    std::thread::scope(|scope| {
        let (jobs, queue) = sync_channel::<(usize, T)>(threads);
        let queue = std::sync::Arc::new(Mutex::new(queue));
        let (results, done) = channel();
        for _ in 0..threads {
            let (queue, results) = (std::sync::Arc::clone(&queue), results.clone());
            scope.spawn(move || {
                loop {
                    // The lock is held while waiting: one worker waits for the next item, the others for the lock.
                    let Ok((number, item)) = queue.lock().unwrap_or_else(PoisonError::into_inner).recv() else { return };
                    if results.send((number, work(item))).is_err() {
                        return;
                    }
                }
            });
        }
        drop((results, queue));
        let mut ordered = Ordered { done, waiting: BTreeMap::new(), next: 0 };
        for mut job in items.enumerate() {
            // Where drawing items takes longest nobody waits for results, and they would pile up.
            if !ordered.receive_ready(&mut take) {
                return;
            }
            loop {
                match jobs.try_send(job) {
                    Ok(()) => break,
                    Err(TrySendError::Full(back)) => job = back,
                    // Only a worker that panicked leaves; the scope passes its panic on.
                    Err(TrySendError::Disconnected(_)) => return,
                }
                if !ordered.receive(&mut take) {
                    return;
                }
            }
        }
        drop(jobs);
        while ordered.receive(&mut take) {}
    });
}

struct Ordered<R> {
    done: Receiver<(usize, R)>,
    waiting: BTreeMap<usize, R>,
    next: usize,
}

impl<R> Ordered<R> {
    /// Waits for one more result and takes those that are next in order; `false` when none will come or no more are wanted.
    fn receive(&mut self, take: &mut impl FnMut(R) -> bool) -> bool {
        self.done.recv().is_ok_and(|done| self.accept(done, take))
    }

    /// Takes what is there without waiting; `false` when no more are wanted.
    fn receive_ready(&mut self, take: &mut impl FnMut(R) -> bool) -> bool {
        while let Ok(done) = self.done.try_recv() {
            if !self.accept(done, take) {
                return false;
            }
        }
        true
    }

    fn accept(&mut self, (number, result): (usize, R), take: &mut impl FnMut(R) -> bool) -> bool {
        self.waiting.insert(number, result);
        while let Some(result) = self.waiting.remove(&self.next) {
            if !take(result) {
                return false;
            }
            self.next += 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_taken_while_items_are_slow_to_come() {
        let taken = std::cell::Cell::new(0);
        let items = (0..20).inspect(|item| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(*item < 10 || taken.get() > 0, "nothing was taken before item {item}");
        });
        map_in_order(
            items,
            2,
            |item| item,
            |_| {
                taken.set(taken.get() + 1);
                true
            },
        );
        assert_eq!(taken.get(), 20);
    }

    #[test]
    fn results_come_in_order_whatever_the_threads_do() {
        for threads in [1, 2, 7] {
            let mut taken = Vec::new();
            map_in_order(
                0..500_u64,
                threads,
                |item| {
                    std::thread::sleep(std::time::Duration::from_micros(item * 7919 % 100));
                    item * 2
                },
                |result| {
                    taken.push(result);
                    true
                },
            );
            assert!(taken.iter().copied().eq((0..500).map(|item| item * 2)));
        }
    }

    #[test]
    fn no_further_items_are_drawn_once_the_results_are_not_wanted() {
        let mut drawn = 0;
        let mut taken = 0;
        map_in_order(
            (0..100_000).inspect(|_| drawn += 1),
            2,
            |item| item,
            |_| {
                taken += 1;
                taken < 10
            },
        );
        assert_eq!(taken, 10);
        assert!(drawn < 100, "{drawn} items were drawn");
    }
}
