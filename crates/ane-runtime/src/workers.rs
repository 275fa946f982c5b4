//! A thread pool for jobs of about a tenth of a millisecond.

// Workers borrow a job for the duration of the call that starts it, which the borrow checker cannot verify.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// How many times a worker polls for the next job before it sleeps: a third of a millisecond to one
/// millisecond, depending on the length of the processor's pause instruction. This is longer than the gaps
/// between the steps of a token, or between two tokens.
const SPINS: usize = 20_000;

/// How many times a thread polls before it yields: the waiting thread may occupy the processor that the other
/// one needs.
const PATIENCE: usize = 64;

/// Threads that run the parts of a job together with the caller.
pub(crate) struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Held while a job runs. A caller that finds it locked does all the work itself.
    busy: Mutex<()>,
}

struct Shared {
    /// Number of jobs so far.
    jobs: AtomicUsize,
    /// Whether there is a job that workers may join.
    open: AtomicBool,
    /// The job. The caller writes it while no job is open and no worker is inside; workers that are inside
    /// read it while it is open.
    job: UnsafeCell<Option<&'static (dyn Fn(usize) + Sync)>>,
    /// Number of workers that have joined the job, or are about to check whether they may.
    inside: AtomicUsize,
    /// For each thread, how many of its parts have been taken.
    taken: Box<[Taken]>,
    /// Whether a part panicked.
    panicked: AtomicBool,
    stop: AtomicBool,
    /// Number of workers that have started.
    started: AtomicUsize,
    /// Number of workers that sleep.
    asleep: AtomicUsize,
    lock: Mutex<()>,
    wake: Condvar,
}

/// A counter on a cache line of its own.
#[derive(Default)]
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
        let shared = Arc::new(Shared {
            jobs: AtomicUsize::new(0),
            open: AtomicBool::new(false),
            job: UnsafeCell::new(None),
            inside: AtomicUsize::new(0),
            taken: (0..parts.max(1)).map(|_| Taken::default()).collect(),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            started: AtomicUsize::new(0),
            asleep: AtomicUsize::new(0),
            lock: Mutex::new(()),
            wake: Condvar::new(),
        });
        let spawn = |part: usize| {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name(format!("mil-cpu-{part}"));
            builder.spawn(move || shared.work(part))
        };
        // If the system cannot create another thread, the pool has fewer workers.
        let threads: Vec<JoinHandle<()>> = (1..parts).map_while(|part| spawn(part).ok()).collect();
        // Waits until all have started: the allocations of a starting thread must not fall into a step.
        while shared.started.load(SeqCst) < threads.len() {
            std::thread::yield_now();
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
                    let part = owner + threads * taken[owner].0.fetch_add(1, SeqCst);
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
        // SAFETY: `run` neither returns nor unwinds until the job is closed and every worker that joined it
        // has left.
        let job: &'static (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(job) };
        shared.taken.iter().for_each(|taken| taken.0.store(0, SeqCst));
        // SAFETY: the caller holds `busy` and the previous job is closed, so nobody else reads it.
        unsafe { *shared.job.get() = Some(job) };
        shared.open.store(true, SeqCst);
        shared.jobs.fetch_add(1, SeqCst);
        if shared.asleep.load(SeqCst) > 0 {
            let _lock = shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
            shared.wake.notify_all();
        }
    }

    /// Waits for the workers that joined; returns whether one of their parts panicked.
    fn finish(&self, _guard: MutexGuard<'_, ()>) -> bool {
        // A worker first counts itself in and then checks whether the job is open; this function does the two
        // in reverse order. So at least one of them sees the other.
        self.shared.open.store(false, SeqCst);
        let mut looks = 0;
        while self.shared.inside.load(SeqCst) > 0 {
            pause(&mut looks);
        }
        self.shared.panicked.swap(false, SeqCst)
    }
}

/// Pauses briefly.
fn pause(looks: &mut usize) {
    *looks += 1;
    if looks.is_multiple_of(PATIENCE) { std::thread::yield_now() } else { std::hint::spin_loop() }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        {
            let _lock = self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
            self.shared.wake.notify_all();
        }
        for thread in self.threads.drain(..) {
            // The worker catches the panics of parts, and does not panic otherwise.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn work(&self, thread: usize) {
        self.started.fetch_add(1, SeqCst);
        let mut seen = 0;
        while let Some(jobs) = self.wait(seen) {
            seen = jobs;
            self.inside.fetch_add(1, SeqCst);
            if self.open.load(SeqCst) {
                // SAFETY: the job was written before it was opened, and remains valid until this worker has
                // left.
                let job = unsafe { *self.job.get() };
                if let Some(job) = job
                    && catch_unwind(AssertUnwindSafe(|| job(thread))).is_err()
                {
                    self.panicked.store(true, SeqCst);
                }
            }
            self.inside.fetch_sub(1, SeqCst);
        }
    }

    /// Waits until the number of jobs differs from `seen`, and returns it; `None` if the pool stops.
    fn wait(&self, seen: usize) -> Option<usize> {
        let comes = || self.stop.load(SeqCst) || self.jobs.load(SeqCst) != seen;
        let jobs = || (!self.stop.load(SeqCst)).then(|| self.jobs.load(SeqCst));
        let mut looks = 0;
        while looks < SPINS {
            if comes() {
                return jobs();
            }
            pause(&mut looks);
        }
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        // The caller first raises `jobs` and then checks for sleepers; a worker that goes to sleep does the
        // two in reverse order. So at least one of them sees the other.
        self.asleep.fetch_add(1, SeqCst);
        while !comes() {
            lock = self.wake.wait(lock).unwrap_or_else(PoisonError::into_inner);
        }
        self.asleep.fetch_sub(1, SeqCst);
        jobs()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    use super::*;

    /// Every part of every job runs once, whether workers are polling or asleep.
    #[test]
    fn every_part_runs_once() {
        for threads in [1, 2, 3, 5] {
            let workers = Workers::new(threads);
            assert_eq!(workers.threads(), threads);
            for job in 0..200 {
                if job % 50 == 49 {
                    // Longer than a worker polls before it sleeps.
                    std::thread::sleep(Duration::from_millis(20));
                }
                let parts = job % 7;
                let counts: Vec<AtomicU32> = (0..parts).map(|_| AtomicU32::new(0)).collect();
                workers.run(parts, &|part| {
                    counts[part].fetch_add(1, SeqCst);
                });
                assert!(counts.iter().all(|count| count.load(SeqCst) == 1), "{threads} threads, job {job}");
            }
        }
    }

    /// A caller that finds the workers busy does all the work itself.
    #[test]
    fn several_callers_share_the_workers() {
        let workers = Workers::new(3);
        let total = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        workers.run(3, &|part| {
                            total.fetch_add(part as u32 + 1, SeqCst);
                        });
                    }
                });
            }
        });
        assert_eq!(total.load(SeqCst), 4 * 500 * 6);
    }

    /// A panic in a part reaches the caller after all other parts have ended, and does not affect later jobs.
    #[test]
    fn a_panic_goes_to_the_caller() {
        let workers = Workers::new(2);
        for bad in [&[0][..], &[1], &[0, 1]] {
            let ran = AtomicU32::new(0);
            let both = std::sync::Barrier::new(2);
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                workers.run(2, &|part| {
                    ran.fetch_add(1, SeqCst);
                    // Each thread runs one part.
                    both.wait();
                    assert!(!bad.contains(&part), "planted");
                });
            }));
            assert!(outcome.is_err());
            assert_eq!(ran.load(SeqCst), 2);
            workers.run(2, &|_| {
                ran.fetch_add(1, SeqCst);
            });
            assert_eq!(ran.load(SeqCst), 4);
        }
    }

    /// Nobody waits for a worker that does not show up.
    #[test]
    fn the_caller_does_what_nobody_else_has_begun() {
        let workers = Workers::new(2);
        // The worker exits and takes no more jobs.
        workers.shared.stop.store(true, SeqCst);
        while !workers.threads[0].is_finished() {
            let _lock = workers.shared.lock.lock().unwrap();
            workers.shared.wake.notify_all();
        }
        let ran = AtomicU32::new(0);
        workers.run(5, &|part| {
            ran.fetch_add(part as u32, SeqCst);
        });
        assert_eq!(ran.load(SeqCst), 10);
    }

    #[test]
    fn parts_of_a_slice_are_written_by_different_threads() {
        let workers = Workers::new(2);
        let mut values = vec![0.0f32; 1000];
        let parts = Parts::of(&mut values);
        workers.run(10, &|i| {
            // SAFETY: every part is requested once.
            let part = unsafe { parts.part(100 * i..100 * (i + 1)) };
            part.fill(i as f32);
        });
        assert!(values.iter().enumerate().all(|(i, v)| *v == (i / 100) as f32));
    }
}
