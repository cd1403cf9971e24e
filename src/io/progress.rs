//! How far a long step has come, for whoever wants to show it.
//!
//! The library counts and never prints; a [`Progress`] that nobody looks at costs an addition per
//! piece of data.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Counts the bytes of one stage after the other, on any thread.
#[derive(Debug, Default)]
pub struct Progress {
    stage: Mutex<Stage>,
    done: AtomicU64,
}

/// A step of the work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stage {
    /// Its number; 0 is before the first.
    pub number: u32,
    /// What is being done, such as `building tools`.
    pub what: String,
    /// Bytes that there are to do; 0 if nobody knows.
    pub total: u64,
}

impl Progress {
    /// Nothing has begun.
    pub fn new() -> Progress {
        Progress::default()
    }

    /// Begins the next stage, of `total` bytes.
    pub fn begin(&self, what: impl Into<String>, total: u64) {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        self.done.store(0, Ordering::Relaxed);
        *stage = Stage {
            number: stage.number + 1,
            what: what.into(),
            total,
        };
    }

    /// Adds bytes that have been done of the stage.
    pub fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The stage and the bytes that are done of it, never more than its total.
    pub fn now(&self) -> (Stage, u64) {
        let stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        let done = self.done.load(Ordering::Relaxed);
        // A file may be read twice, once to see whether it equals another.
        let done = if stage.total > 0 {
            done.min(stage.total)
        } else {
            done
        };
        (stage.clone(), done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_belong_to_the_stage_that_runs() {
        let progress = Progress::new();
        assert_eq!(progress.now(), (Stage::default(), 0));
        progress.begin("building a", 10);
        progress.add(4);
        assert_eq!(progress.now().1, 4);
        progress.add(40);
        assert_eq!(progress.now().1, 10);
        progress.begin("verifying b", 0);
        progress.add(7);
        let (stage, done) = progress.now();
        assert_eq!(
            (stage.number, stage.what.as_str(), done),
            (2, "verifying b", 7)
        );
    }
}
