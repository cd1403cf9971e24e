//! Work on all processors whose results come back in order.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;

/// Threads that turn jobs into results.
pub(crate) struct Pool<J, R> {
    jobs: Sender<(u64, J)>,
    results: Receiver<(u64, R)>,
    /// Results that came before their turn.
    early: BTreeMap<u64, R>,
    submitted: u64,
    taken: u64,
}

impl<J: Send, R: Send> Pool<J, R> {
    /// Starts a thread for each of `workers`; they end when the pool is dropped.
    pub(crate) fn start<'scope, W>(
        scope: &'scope Scope<'scope, '_>,
        workers: impl IntoIterator<Item = W>,
    ) -> Pool<J, R>
    where
        W: FnMut(J) -> R + Send + 'scope,
        J: 'scope,
        R: 'scope,
    {
        let (jobs, waiting) = channel::<(u64, J)>();
        let (done, results) = channel();
        let waiting = Arc::new(Mutex::new(waiting));
        for mut worker in workers {
            let (waiting, done) = (waiting.clone(), done.clone());
            scope.spawn(move || {
                loop {
                    let job = waiting
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .recv();
                    let Ok((number, job)) = job else { return };
                    // Nobody waits any more after an error; that is reported elsewhere.
                    let _ = done.send((number, worker(job)));
                }
            });
        }
        Pool {
            jobs,
            results,
            early: BTreeMap::new(),
            submitted: 0,
            taken: 0,
        }
    }

    /// Hands out a job.
    pub(crate) fn submit(&mut self, job: J) {
        // The threads live as long as the pool.
        let _ = self.jobs.send((self.submitted, job));
        self.submitted += 1;
    }

    /// How many results have not been taken.
    pub(crate) fn outstanding(&self) -> u64 {
        self.submitted - self.taken
    }

    /// Waits for the oldest result; `None` when there is none to come.
    pub(crate) fn take(&mut self) -> Option<R> {
        if self.outstanding() == 0 {
            return None;
        }
        let result = loop {
            if let Some(result) = self.early.remove(&self.taken) {
                break result;
            }
            // An end without the result is a panic of a thread, which the scope passes on.
            let (number, result) = self.results.recv().ok()?;
            self.early.insert(number, result);
        };
        self.taken += 1;
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn results_come_in_the_order_of_their_jobs() {
        let results: Vec<u64> = std::thread::scope(|scope| {
            let worker = |job: u64| {
                std::thread::sleep(Duration::from_millis(job % 3));
                job * job
            };
            let mut pool = Pool::start(scope, [worker; 3]);
            (0..20).for_each(|job| pool.submit(job));
            assert_eq!(pool.outstanding(), 20);
            std::iter::from_fn(|| pool.take()).collect()
        });
        assert_eq!(results, (0..20).map(|job| job * job).collect::<Vec<_>>());
    }
}
