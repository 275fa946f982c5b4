//! Tests of the pool with real threads, which also run under ThreadSanitizer and in Miri.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Condvar, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

use super::*;

/// Waits until two threads have called it, and returns at once from then on.
///
/// The limit turns a test that would wait forever into one that fails.
struct Meeting(Mutex<HashSet<ThreadId>>, Condvar);

impl Meeting {
    fn new() -> Self {
        Self(Mutex::default(), Condvar::new())
    }

    fn attend(&self) {
        let limit = Duration::from_secs(60);
        let mut threads = self.0.lock().unwrap();
        threads.insert(std::thread::current().id());
        self.1.notify_all();
        let (threads, waited) =
            self.1.wait_timeout_while(threads, limit, |threads| threads.len() < 2).unwrap();
        drop(threads);
        assert!(!waited.timed_out(), "one thread runs all parts");
    }
}

/// Every part of every job runs once, whether workers are polling or asleep.
#[test]
fn every_part_runs_once() {
    let jobs = if cfg!(miri) { 60 } else { 200 };
    for threads in [1, 2, 3, 5] {
        let workers = Workers::new(threads);
        assert_eq!(workers.threads(), threads);
        for job in 0..jobs {
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
    let jobs = if cfg!(miri) { 20 } else { 500 };
    let workers = Workers::new(3);
    let total = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..jobs {
                    workers.run(3, &|part| {
                        total.fetch_add(part as u32 + 1, SeqCst);
                    });
                }
            });
        }
    });
    assert_eq!(total.load(SeqCst), 4 * jobs * 6);
}

/// A panic in a part reaches the caller after all other parts have ended, and does not affect later jobs.
#[test]
fn a_panic_goes_to_the_caller() {
    let workers = Workers::new(2);
    for bad in [&[0][..], &[1], &[0, 1]] {
        let ran = AtomicU32::new(0);
        let meeting = Meeting::new();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            workers.run(2, &|part| {
                ran.fetch_add(1, SeqCst);
                // Each thread runs one part.
                meeting.attend();
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
    workers.shared.bell.stop();
    while !workers.threads[0].is_finished() {
        std::thread::yield_now();
    }
    let ran = AtomicU32::new(0);
    workers.run(5, &|part| {
        ran.fetch_add(part as u32, SeqCst);
    });
    assert_eq!(ran.load(SeqCst), 10);
}

/// The two threads of a pool write parts of a slice at the same time: neither goes on until the other has begun.
#[test]
fn parts_of_a_slice_are_written_by_different_threads() {
    let workers = Workers::new(2);
    let meeting = Meeting::new();
    let mut values = vec![0.0f32; 1000];
    let parts = Parts::of(&mut values);
    workers.run(10, &|i| {
        meeting.attend();
        // SAFETY: every part is requested once.
        let part = unsafe { parts.part(100 * i..100 * (i + 1)) };
        part.fill(i as f32);
    });
    assert!(values.iter().enumerate().all(|(i, v)| *v == (i / 100) as f32));
}
