//! Lets workers into a job, and tells the caller when they have left it.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::sync::{AtomicUsize, pause};

/// The bit of a gate that is set while it is open. The other bits count the workers inside.
const OPEN: usize = 1 << (usize::BITS - 1);

/// A gate that workers pass on their way into a job and out of it.
///
/// The state is one atomic integer that threads change only by read-modify-write operations. They have a total
/// order, and each one reads the latest value: a worker either counts itself in before the gate closes, and
/// the caller waits for it, or it sees that the gate is closed.
pub(super) struct Gate(AtomicUsize);

impl Gate {
    /// Creates a closed gate.
    pub(super) fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// Opens the gate. Workers that enter see what the caller wrote before.
    pub(super) fn open(&self) {
        self.0.fetch_or(OPEN, Release);
    }

    /// Closes the gate and waits until nobody is inside. The caller then sees what the workers wrote.
    pub(super) fn close(&self) {
        self.0.fetch_and(!OPEN, Relaxed);
        let mut looks = 0;
        while self.0.load(Acquire) > 0 {
            pause(&mut looks);
        }
    }

    /// Counts the calling worker in, and returns whether the gate is open. The worker must call
    /// [`leave`](Self::leave) in both cases.
    pub(super) fn enter(&self) -> bool {
        self.0.fetch_add(1, Acquire) & OPEN > 0
    }

    /// Counts the calling worker out.
    pub(super) fn leave(&self) {
        self.0.fetch_sub(1, Release);
    }
}
