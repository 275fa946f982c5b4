//! Tells workers that there is another job, whether they are polling or asleep.

use std::sync::PoisonError;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::sync::{AtomicUsize, Condvar, Mutex, pause};

/// How many times a worker polls for the next job before it sleeps: a third of a millisecond to one
/// millisecond, depending on the length of the processor's pause instruction. This is longer than the gaps
/// between the steps of a token, or between two tokens.
const SPINS: usize = if cfg!(any(loom, miri)) { 1 } else { 20_000 };

/// The bits of the state that count the workers that sleep.
const ASLEEP: usize = STOP - 1;

/// The bit of the state that is set once the pool stops.
const STOP: usize = 1 << 12;

/// What a job adds to the state: the bits above [`STOP`] count jobs.
const JOB: usize = STOP << 1;

/// A bell that the caller rings for each job.
///
/// The state is one atomic integer that threads change only by read-modify-write operations. They have a total
/// order: a worker either counts itself among the sleepers before the caller counts the job, and the caller
/// wakes it, or it sees the job and does not sleep.
pub(super) struct Bell {
    state: AtomicUsize,
    /// Held by a worker from before it counts itself among the sleepers until it waits, so a caller that locks it
    /// finds the worker waiting.
    lock: Mutex<()>,
    wake: Condvar,
}

impl Bell {
    /// The largest number of workers.
    pub(super) const WORKERS: usize = ASLEEP;

    pub(super) fn new() -> Self {
        Self { state: AtomicUsize::new(0), lock: Mutex::new(()), wake: Condvar::new() }
    }

    /// Announces a job. Workers that hear the bell see what the caller wrote before.
    pub(super) fn ring(&self) {
        if self.state.fetch_add(JOB, Release) & ASLEEP > 0 {
            self.wake_all();
        }
    }

    /// Makes every [`wait`](Self::wait) return `None` from now on.
    pub(super) fn stop(&self) {
        self.state.fetch_or(STOP, Release);
        self.wake_all();
    }

    fn wake_all(&self) {
        let _lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.wake.notify_all();
    }

    /// Waits until the bell has rung since `seen`, which the last call returned and is at first 0. Returns
    /// `None` if the pool stops.
    pub(super) fn wait(&self, seen: usize) -> Option<usize> {
        let mut now = self.state.load(Acquire) & !ASLEEP;
        let mut looks = 0;
        while now == seen && looks < SPINS {
            pause(&mut looks);
            now = self.state.load(Acquire) & !ASLEEP;
        }
        if now == seen {
            now = self.sleep(seen);
        }
        (now & STOP == 0).then_some(now)
    }

    fn sleep(&self, seen: usize) -> usize {
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let mut now = self.state.fetch_add(1, Acquire) & !ASLEEP;
        while now == seen {
            lock = self.wake.wait(lock).unwrap_or_else(PoisonError::into_inner);
            now = self.state.load(Acquire) & !ASLEEP;
        }
        self.state.fetch_sub(1, Relaxed);
        now
    }
}
