//! What waits to be judged: a line for each tenant, taken from in turn, so that who brings much does not have others wait.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Rows that a line may give each time it is its turn. One that asks for more saves up for it.
const TURN_ROWS: usize = 1024;

/// Lines of items, each with its rows. Those of one line stay in their order; lines that wait give equally many rows (deficit round robin).
pub struct Queue<K, T> {
    state: Mutex<State<K, T>>,
    changed: Condvar,
    /// Items that a line may have.
    line_max: usize,
}

struct State<K, T> {
    lines: HashMap<K, Line<T>>,
    /// Lines that are not empty, the next one first.
    turns: VecDeque<K>,
    /// Whether the next one has begun its turn.
    in_turn: bool,
    /// Items in all lines.
    waiting: usize,
    ended: bool,
}

struct Line<T> {
    items: VecDeque<(usize, T)>,
    /// Rows that it may still give in this turn.
    saved: usize,
}

/// Why an item is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too many wait in its line already.
    Overloaded,
    /// Nobody takes from the queue any more.
    Ended,
}

impl<K: Clone + Eq + Hash, T> Queue<K, T> {
    #[must_use]
    pub fn new(line_max: usize) -> Self {
        let state = State { lines: HashMap::new(), turns: VecDeque::new(), in_turn: false, waiting: 0, ended: false };
        Self { state: Mutex::new(state), changed: Condvar::new(), line_max }
    }

    fn state(&self) -> MutexGuard<'_, State<K, T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an item to a line.
    ///
    /// # Errors
    /// When the line is full, or the queue has ended.
    pub fn push(&self, line: &K, rows: usize, item: T) -> Result<(), Refusal> {
        let mut state = self.state();
        let State { lines, turns, waiting, ended, .. } = &mut *state;
        if *ended {
            return Err(Refusal::Ended);
        }
        let items = match lines.get_mut(line) {
            Some(line) => &mut line.items,
            None => {
                turns.push_back(line.clone());
                &mut lines.entry(line.clone()).or_insert_with(|| Line { items: VecDeque::new(), saved: 0 }).items
            }
        };
        if items.len() >= self.line_max {
            return Err(Refusal::Overloaded);
        }
        items.push_back((rows, item));
        *waiting += 1;
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Takes items of `rows_max` rows together, at least one, or none where none comes within `wait`. `None` once the queue has ended and is empty.
    pub fn take(&self, rows_max: usize, wait: Duration) -> Option<Vec<T>> {
        let state = self.state();
        let waited = self.changed.wait_timeout_while(state, wait, |state| state.waiting == 0 && !state.ended);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.waiting > 0 {
            return Some(state.batch(rows_max));
        }
        (!state.ended).then(Vec::new)
    }

    /// Items that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.state().waiting
    }

    /// Takes nothing more; what waits is still given.
    pub fn end(&self) {
        self.state().ended = true;
        self.changed.notify_all();
    }

    /// Takes nothing more, and drops what waits.
    pub fn abandon(&self) {
        let mut state = self.state();
        state.ended = true;
        state.waiting = 0;
        state.turns.clear();
        let dropped = std::mem::take(&mut state.lines);
        drop(state);
        drop(dropped);
        self.changed.notify_all();
    }
}

impl<K: Clone + Eq + Hash, T> State<K, T> {
    fn batch(&mut self, rows_max: usize) -> Vec<T> {
        let (mut batch, mut rows) = (Vec::new(), 0);
        while let Some(name) = self.turns.front() {
            let Some(line) = self.lines.get_mut(name) else {
                self.turns.pop_front();
                continue;
            };
            if !std::mem::replace(&mut self.in_turn, true) {
                line.saved += TURN_ROWS;
            }
            while let Some((next, _)) = line.items.front() {
                if *next > line.saved {
                    break;
                }
                if !batch.is_empty() && rows + next > rows_max {
                    // The line goes on with its turn in the next batch.
                    return batch;
                }
                let Some((next, item)) = line.items.pop_front() else { break };
                (line.saved, rows) = (line.saved - next, rows + next);
                batch.push(item);
                self.waiting -= 1;
            }
            self.in_turn = false;
            let Some(name) = self.turns.pop_front() else { break };
            if line.items.is_empty() {
                // Nothing is saved up without anything to save for.
                self.lines.remove(&name);
            } else {
                self.turns.push_back(name);
            }
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(60);

    const BATCH: usize = 8192;

    /// In which of the next batches the items named `b` are, where `a` brings many large ones before; `alone`: whether each name has a line of its own.
    fn batches_of_b(alone: bool) -> Vec<usize> {
        let queue: Queue<&str, (&str, usize)> = Queue::new(1000);
        let push = |name: &'static str, rows| queue.push(&if alone { name } else { "one for all" }, rows, (name, rows)).unwrap();
        (0..100).for_each(|_| push("a", 5000));
        (0..10).for_each(|_| push("a", 100_000));
        (0..3).for_each(|_| push("b", 1));
        let mut found = Vec::new();
        for number in 0..200 {
            if queue.waiting() == 0 {
                break;
            }
            let batch = queue.take(BATCH, WAIT).unwrap();
            assert!(!batch.is_empty() && (batch.len() == 1 || batch.iter().map(|(_, rows)| rows).sum::<usize>() <= BATCH), "{batch:?}");
            found.extend(batch.iter().filter(|(name, _)| *name == "b").map(|_| number));
        }
        assert_eq!(queue.waiting(), 0);
        found
    }

    #[test]
    fn a_flood_of_one_tenant_does_not_hold_up_another() {
        assert_eq!(batches_of_b(true), [0, 0, 0]);
        assert!(batches_of_b(false).into_iter().all(|batch| batch > 50), "one line for all has them wait");
    }

    #[test]
    fn lines_give_equally_many_rows() {
        let queue: Queue<usize, (usize, usize)> = Queue::new(100_000);
        for (line, rows) in [(0, 1), (1, 700), (2, 5000)] {
            (0..60_000 / rows).for_each(|_| queue.push(&line, rows, (line, rows)).unwrap());
        }
        let mut given = [0_usize; 3];
        for _ in 0..12 {
            queue.take(BATCH, WAIT).unwrap().into_iter().for_each(|(line, rows)| given[line] += rows);
        }
        let (least, most) = (given.iter().min().unwrap(), given.iter().max().unwrap());
        assert!(most - least <= 5000 + TURN_ROWS && *least > 20_000, "{given:?}");
    }

    #[test]
    fn the_order_of_a_line_stays() {
        let queue: Queue<u8, u32> = Queue::new(1000);
        (0..100_u32).for_each(|number| queue.push(&((number % 3) as u8), (number as usize * 37) % 900, number).unwrap());
        let mut seen = Vec::new();
        while queue.waiting() > 0 {
            seen.extend(queue.take(1000, WAIT).unwrap());
        }
        assert_eq!(seen.len(), 100);
        for line in 0..3 {
            let of_line: Vec<u32> = seen.iter().copied().filter(|number| number % 3 == line).collect();
            assert!(of_line.is_sorted(), "{of_line:?}");
        }
    }

    #[test]
    fn full_lines_and_an_ended_queue_take_nothing() {
        let queue: Queue<u8, u8> = Queue::new(2);
        assert_eq!([0, 1, 2].map(|item| queue.push(&0, 1, item)), [Ok(()), Ok(()), Err(Refusal::Overloaded)]);
        assert_eq!(queue.push(&1, 1, 3), Ok(()), "another line has room");
        queue.end();
        assert_eq!(queue.push(&1, 1, 4), Err(Refusal::Ended));
        assert_eq!((queue.take(1000, WAIT), queue.take(1000, WAIT)), (Some(vec![0, 1, 3]), None));
        let queue: Queue<u8, u8> = Queue::new(2);
        queue.push(&0, 1, 0).unwrap();
        queue.abandon();
        assert_eq!((queue.push(&0, 1, 1), queue.take(1, WAIT), queue.waiting()), (Err(Refusal::Ended), None, 0));
    }
}
