//! A thread pool for jobs of about a tenth of a millisecond.
//!
//! [`Workers`] runs jobs. A [`Bell`] announces a job to workers that poll or sleep, and a [`Gate`] lets them into
//! it and tells the caller when they have left. `models.rs` explores the interleavings of all three with loom;
//! `scripts/check-races` runs these models, ThreadSanitizer and Miri.

#![allow(
    unsafe_code,
    reason = "workers borrow a job until the call that starts it returns, which the borrow checker cannot verify"
)]

use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use bell::Bell;
use gate::Gate;
use sync::{Arc, AtomicBool, AtomicUsize, Builder, JoinHandle, Mutex, MutexGuard, UnsafeCell, pause};

mod bell;
mod gate;
#[cfg(all(test, loom))]
mod models;
mod sync;
#[cfg(all(test, not(loom)))]
mod tests;

/// Threads that run the parts of a job together with the caller.
pub(crate) struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Held while a job runs. A caller that finds it locked does all the work itself.
    busy: Mutex<()>,
}

struct Shared {
    bell: Bell,
    gate: Gate,
    /// The job. The caller writes it while the gate is closed and nobody is inside; workers read it while they are
    /// inside, if the gate was open when they entered.
    job: UnsafeCell<Option<&'static Job>>,
    /// For each thread, how many of its parts have been taken.
    taken: Box<[Taken]>,
    /// Whether a part panicked on a worker. Like `taken`, it is ordered by the gate.
    panicked: AtomicBool,
    /// Number of workers that have started.
    started: AtomicUsize,
}

/// What a thread does for a job, called with the number of the thread.
type Job = dyn Fn(usize) + Sync;

/// A counter on a cache line of its own.
#[repr(align(128))]
struct Taken(AtomicUsize);

/// A slice whose parts are written by different threads.
pub(crate) struct Parts<'a, T = f32> {
    start: *mut T,
    len: usize,
    whole: PhantomData<&'a mut [T]>,
}

// SAFETY: callers of `part` guarantee that parts do not overlap.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    pub(crate) fn of(whole: &'a mut [T]) -> Self {
        Self { start: whole.as_mut_ptr(), len: whole.len(), whole: PhantomData }
    }

    /// Returns a part of the slice.
    ///
    /// # Safety
    ///
    /// No overlapping part may be in use.
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: the range is within the slice, which is borrowed for as long as the part lives.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

// SAFETY: `job` is written only by the caller that holds `busy`, while no worker may read it; see
// `Workers::run`.
unsafe impl Sync for Shared {}

impl Workers {
    /// Creates threads for jobs of `parts` parts; the calling thread is one of them.
    pub(crate) fn new(parts: usize) -> Self {
        let parts = parts.clamp(1, Bell::WORKERS + 1);
        let shared = Arc::new(Shared {
            bell: Bell::new(),
            gate: Gate::new(),
            job: UnsafeCell::new(None),
            taken: (0..parts).map(|_| Taken(AtomicUsize::new(0))).collect(),
            panicked: AtomicBool::new(false),
            started: AtomicUsize::new(0),
        });
        let spawn = |part: usize| {
            let shared = Arc::clone(&shared);
            Builder::new().name(format!("mil-cpu-{part}")).spawn(move || shared.work(part))
        };
        // If the system cannot create another thread, the pool has fewer workers.
        let threads: Vec<JoinHandle<()>> = (1..parts).map_while(|part| spawn(part).ok()).collect();
        // Waits until all have started: the allocations of a starting thread must not fall into a step.
        let mut looks = 0;
        while shared.started.load(Acquire) < threads.len() {
            pause(&mut looks);
        }
        Self { shared, threads, busy: Mutex::new(()) }
    }

    /// Calls `job` with each number below `parts`, in parallel unless the workers are busy, and returns when
    /// all parts are done.
    ///
    /// Parts are dealt round-robin; an idle thread steals from the others. So nobody waits for a worker that
    /// sleeps or has no processor.
    ///
    /// # Panics
    ///
    /// Panics if a part panics.
    pub(crate) fn run(&self, parts: usize, job: &(dyn Fn(usize) + Sync)) {
        let guard = match self.busy.try_lock() {
            Ok(guard) if parts > 1 && !self.threads.is_empty() => guard,
            _ => return (0..parts).for_each(job),
        };
        let threads = self.threads();
        let taken = &self.shared.taken;
        let share = move |thread: usize| {
            for owner in (thread..threads).chain(0..thread) {
                loop {
                    let part = owner + threads * taken[owner].0.fetch_add(1, Relaxed);
                    if part >= parts {
                        break;
                    }
                    job(part);
                }
            }
        };
        self.start(&share);
        let own = catch_unwind(AssertUnwindSafe(|| share(0)));
        let others = self.finish(guard);
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        assert!(!others, "a part of a job panicked");
    }

    /// Returns how many parts can run at the same time.
    pub(crate) fn threads(&self) -> usize {
        self.threads.len() + 1
    }

    fn start(&self, job: &(dyn Fn(usize) + Sync)) {
        let shared = &self.shared;
        // SAFETY: `run` neither returns nor unwinds until the gate is closed and every worker that entered has
        // left.
        let job: &'static Job = unsafe { std::mem::transmute(job) };
        shared.taken.iter().for_each(|taken| taken.0.store(0, Relaxed));
        // SAFETY: the caller holds `busy` and the gate is closed, so nobody else accesses it.
        shared.job.with_mut(|place| unsafe { *place = Some(job) });
        shared.gate.open();
        shared.bell.ring();
    }

    /// Waits for the workers that joined; returns whether one of their parts panicked.
    fn finish(&self, _guard: MutexGuard<'_, ()>) -> bool {
        let shared = &self.shared;
        shared.gate.close();
        // The job does not outlive this call, so no reference to it does.
        // SAFETY: as in `start`.
        shared.job.with_mut(|place| unsafe { *place = None });
        let panicked = shared.panicked.load(Relaxed);
        if panicked {
            shared.panicked.store(false, Relaxed);
        }
        panicked
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.bell.stop();
        for thread in self.threads.drain(..) {
            // The worker catches the panics of parts, and does not panic otherwise.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn work(&self, thread: usize) {
        self.started.fetch_add(1, Release);
        let mut seen = 0;
        while let Some(jobs) = self.bell.wait(seen) {
            seen = jobs;
            if self.gate.enter() {
                // SAFETY: the caller wrote the job before it opened the gate, and does not write it again until
                // this worker has left.
                let job = self.job.with(|place| unsafe { *place });
                if let Some(job) = job
                    && catch_unwind(AssertUnwindSafe(|| job(thread))).is_err()
                {
                    self.panicked.store(true, Relaxed);
                }
            }
            self.gate.leave();
        }
    }
}
