//! A few threads that wait for work of a tenth of a millisecond.

// A job is lent to the workers for as long as the call that brings it lasts, which the borrow checker cannot see.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// How many times a worker looks for the next job before it goes to sleep: a third of a millisecond to one, as long as the
/// processor's pause is. Longer than what lies between two steps of a token, or between two tokens.
const SPINS: usize = 20_000;

/// How many times the caller looks for the end of a job before it lets others run: a worker without a processor of its own
/// can go on only then.
const PATIENCE: usize = 10_000;

/// Threads that run the parts of a job beside the caller.
pub(crate) struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Held while a job runs. Whoever finds it taken does the work alone.
    busy: Mutex<()>,
}

struct Shared {
    /// Number of jobs so far.
    jobs: AtomicUsize,
    /// The job that runs. Written by the caller before `jobs` goes up, and read by workers after.
    job: UnsafeCell<Option<&'static (dyn Fn(usize) + Sync)>>,
    /// Workers that have not finished it.
    running: AtomicUsize,
    /// Whether a part panicked.
    panicked: AtomicBool,
    stop: AtomicBool,
    /// Workers that sleep.
    asleep: AtomicUsize,
    lock: Mutex<()>,
    wake: Condvar,
}

/// A slice whose parts are written by different threads.
pub(crate) struct Parts<'a, T = f32> {
    start: *mut T,
    len: usize,
    whole: PhantomData<&'a mut [T]>,
}

// SAFETY: who takes a part promises that nobody else has it.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    pub(crate) fn of(whole: &'a mut [T]) -> Self {
        Self { start: whole.as_mut_ptr(), len: whole.len(), whole: PhantomData }
    }

    /// A part.
    ///
    /// # Safety
    ///
    /// No other part that overlaps it is in use.
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: it is within the slice, which is borrowed for as long as the part lives.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

// SAFETY: `job` is written only by the caller that holds `busy`, while no worker runs; see `Workers::run`.
unsafe impl Sync for Shared {}

impl Workers {
    /// Threads for jobs of so many parts, the caller's own among them.
    pub(crate) fn new(parts: usize) -> Self {
        let shared = Arc::new(Shared {
            jobs: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            running: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            asleep: AtomicUsize::new(0),
            lock: Mutex::new(()),
            wake: Condvar::new(),
        });
        let spawn = |part: usize| {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name(format!("mil-cpu-{part}"));
            builder.spawn(move || shared.work(part))
        };
        // A machine that has no thread to give has one worker less.
        let threads = (1..parts).map_while(|part| spawn(part).ok()).collect();
        Self { shared, threads, busy: Mutex::new(()) }
    }

    /// Calls `job` with each number below `parts`, at the same time if nobody else does so, and returns when all are done.
    ///
    /// # Panics
    ///
    /// If a part does.
    pub(crate) fn run(&self, parts: usize, job: &(dyn Fn(usize) + Sync)) {
        let guard = match self.busy.try_lock() {
            Ok(guard) if parts > 1 && !self.threads.is_empty() => guard,
            _ => return (0..parts).for_each(job),
        };
        let others = self.threads.len();
        // Each thread takes every so manieth part.
        let share = move |thread: usize| (thread..parts).step_by(others + 1).for_each(job);
        self.start(&share, others);
        let own = catch_unwind(AssertUnwindSafe(|| share(0)));
        self.finish(guard);
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        assert!(!self.shared.panicked.swap(false, SeqCst), "a part of a job panicked");
    }

    /// How many parts can run at the same time.
    pub(crate) fn threads(&self) -> usize {
        self.threads.len() + 1
    }

    fn start(&self, job: &(dyn Fn(usize) + Sync), others: usize) {
        let shared = &self.shared;
        // SAFETY: `run` does not return, nor unwind, before every worker has counted itself out of `running`, which it does when
        // it has called the job for the last time.
        let job: &'static (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(job) };
        // SAFETY: the caller holds `busy` and no worker runs, so that nobody else looks at it.
        unsafe { *shared.job.get() = Some(job) };
        shared.running.store(others, SeqCst);
        shared.jobs.fetch_add(1, SeqCst);
        if shared.asleep.load(SeqCst) > 0 {
            let _lock = shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
            shared.wake.notify_all();
        }
    }

    fn finish(&self, _guard: MutexGuard<'_, ()>) {
        let mut looks = 0usize;
        while self.shared.running.load(SeqCst) > 0 {
            looks += 1;
            if looks < PATIENCE { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        {
            let _lock = self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
            self.shared.wake.notify_all();
        }
        for thread in self.threads.drain(..) {
            // It catches what parts panic with, and cannot fail otherwise.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn work(&self, part: usize) {
        let mut done = 0;
        while self.wait(done) {
            done += 1;
            // SAFETY: the job was written before `jobs` went up, and stays until this worker counts itself out.
            let job = unsafe { *self.job.get() };
            if let Some(job) = job
                && catch_unwind(AssertUnwindSafe(|| job(part))).is_err()
            {
                self.panicked.store(true, SeqCst);
            }
            self.running.fetch_sub(1, SeqCst);
        }
    }

    /// Waits for a job after the first `done`; whether there is one.
    fn wait(&self, done: usize) -> bool {
        let comes = || self.stop.load(SeqCst) || self.jobs.load(SeqCst) != done;
        for _ in 0..SPINS {
            if comes() {
                return !self.stop.load(SeqCst);
            }
            std::hint::spin_loop();
        }
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever brings a job raises `jobs` first and looks for sleepers then; who goes to sleep does it the other way round. So
        // one of the two sees the other.
        self.asleep.fetch_add(1, SeqCst);
        while !comes() {
            lock = self.wake.wait(lock).unwrap_or_else(PoisonError::into_inner);
        }
        self.asleep.fetch_sub(1, SeqCst);
        !self.stop.load(SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    use super::*;

    /// Every part of every job runs once, whether workers wait for it or sleep.
    #[test]
    fn every_part_runs_once() {
        for threads in [1, 2, 3, 5] {
            let workers = Workers::new(threads);
            assert_eq!(workers.threads(), threads);
            for job in 0..200 {
                if job % 50 == 49 {
                    // Longer than they look for work before they sleep.
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

    /// Who finds the workers busy does the work alone.
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

    /// A part that panics ends the caller's job, after all others have ended, and no later one.
    #[test]
    fn a_panic_goes_to_the_caller() {
        let workers = Workers::new(2);
        for bad in [0, 1] {
            let ran = AtomicU32::new(0);
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                workers.run(2, &|part| {
                    ran.fetch_add(1, SeqCst);
                    assert_ne!(part, bad, "planted");
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

    #[test]
    fn parts_of_a_slice_are_written_by_different_threads() {
        let workers = Workers::new(2);
        let mut values = vec![0.0f32; 1000];
        let parts = Parts::of(&mut values);
        workers.run(10, &|i| {
            // SAFETY: every part is asked for once.
            let part = unsafe { parts.part(100 * i..100 * (i + 1)) };
            part.fill(i as f32);
        });
        assert!(values.iter().enumerate().all(|(i, v)| *v == (i / 100) as f32));
    }
}
