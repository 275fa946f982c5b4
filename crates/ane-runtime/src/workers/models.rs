//! Models of the pool, which loom explores: `RUSTFLAGS="--cfg loom" cargo test -p ane-runtime --lib workers`.
//!
//! A model fails if an assertion fails, if a cell is accessed while another thread may access it, if all threads
//! wait, or if a thread spins forever. `tests/mutants/run.py` plants faults that these models must find.

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::Arc;
use loom::thread;

use super::*;

/// How often the models of the whole pool may take the processor from a thread that could go on.
const PREEMPTIONS: usize = 4;

/// Runs a model for every interleaving.
fn explore(model: impl Fn() + Send + Sync + 'static) {
    loom::model(model);
}

/// Runs a model for every interleaving that takes a processor from a thread at most `preemptions` times.
fn explore_up_to(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// A value that loom lets only one thread access at a time, unless all of them read.
struct Watched(UnsafeCell<usize>);

// SAFETY: loom reports accesses that conflict.
unsafe impl Sync for Watched {}

impl Watched {
    fn new() -> Self {
        Self(UnsafeCell::new(0))
    }

    fn get(&self) -> usize {
        // SAFETY: loom reports accesses that conflict.
        self.0.with(|value| unsafe { *value })
    }

    fn add(&self, more: usize) {
        // SAFETY: as above.
        self.0.with_mut(|value| unsafe { *value += more });
    }
}

/// Between `open` and `close`, workers own what the caller owns before and after.
#[test]
fn the_gate_separates_the_caller_from_the_workers() {
    explore(|| {
        let shared = Arc::new((Gate::new(), Watched::new(), [Watched::new(), Watched::new()]));
        let workers = [0, 1].map(|worker| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (gate, job, results) = &*shared;
                if gate.enter() {
                    assert_eq!(job.get(), 1);
                    results[worker].add(1);
                }
                gate.leave();
            })
        });
        let (gate, job, results) = &*shared;
        job.add(1);
        gate.open();
        gate.close();
        job.add(1);
        assert!(results.iter().all(|result| result.get() <= 1));
        for worker in workers {
            worker.join().unwrap();
        }
    });
}

/// A worker that enters twice meets each job at most once, and always the one that is open.
#[test]
fn the_gate_closes_again() {
    explore(|| {
        let shared = Arc::new((Gate::new(), Watched::new(), Watched::new()));
        let worker = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                for _ in 0..2 {
                    let (gate, job, result) = &*shared;
                    if gate.enter() {
                        assert!(job.get() % 2 == 1);
                        result.add(1);
                    }
                    gate.leave();
                }
            })
        };
        let (gate, job, result) = &*shared;
        for _ in 0..2 {
            job.add(1);
            gate.open();
            gate.close();
            job.add(1);
            assert!(result.get() <= 2);
        }
        worker.join().unwrap();
    });
}

/// Both workers hear the bell, whether they poll or sleep when it rings, and see what the caller wrote before. A
/// worker that slept through it would sleep forever.
#[test]
fn nobody_sleeps_through_the_bell() {
    explore(|| {
        let shared = Arc::new((Bell::new(), Watched::new()));
        let workers = [(); 2].map(|()| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (bell, job) = &*shared;
                assert!(bell.wait(0).is_some());
                assert_eq!(job.get(), 1);
            })
        });
        let (bell, job) = &*shared;
        job.add(1);
        bell.ring();
        for worker in workers {
            worker.join().unwrap();
        }
    });
}

/// A worker that has heard the bell hears it again, and at last that the pool stops.
#[test]
fn the_bell_rings_again_and_stops() {
    explore(|| {
        let bell = Arc::new(Bell::new());
        let worker = {
            let bell = Arc::clone(&bell);
            thread::spawn(move || {
                let mut seen = 0;
                while let Some(now) = bell.wait(seen) {
                    assert_ne!(now, seen);
                    seen = now;
                }
            })
        };
        bell.ring();
        bell.ring();
        bell.stop();
        worker.join().unwrap();
    });
}

/// Every part runs once, and the caller may access what the parts and the job accessed once `run` has returned.
#[test]
fn every_part_of_two_jobs_runs_once() {
    explore_up_to(PREEMPTIONS, || {
        let workers = Workers::new(2);
        let (job, results) = (Watched::new(), [Watched::new(), Watched::new()]);
        for expected in [1, 3] {
            job.add(1);
            workers.run(results.len(), &|part| results[part].add(job.get()));
            assert!(results.iter().all(|result| result.get() == expected));
        }
    });
}

/// Parts of a job that has more of them than there are threads are stolen.
#[test]
fn every_part_runs_once_on_three_threads() {
    explore_up_to(1, || {
        let workers = Workers::new(3);
        let results = [(); 4].map(|()| Watched::new());
        workers.run(results.len(), &|part| results[part].add(1));
        assert!(results.iter().all(|result| result.get() == 1));
    });
}

/// A caller that finds the workers busy does all the work itself.
#[test]
fn two_callers_share_the_workers() {
    explore_up_to(2, || {
        let workers = Arc::new(Workers::new(2));
        let call = |workers: &Workers| {
            let results = [Watched::new(), Watched::new()];
            workers.run(2, &|part| results[part].add(1));
            assert!(results.iter().all(|result| result.get() == 1));
        };
        let other = {
            let workers = Arc::clone(&workers);
            thread::spawn(move || call(&workers))
        };
        call(&workers);
        other.join().unwrap();
    });
}

/// A panic in a part reaches the caller, whichever thread runs the part, and does not affect the next job.
#[test]
fn a_panic_is_reported() {
    explore_up_to(PREEMPTIONS, || {
        let workers = Workers::new(2);
        let result = Watched::new();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            workers.run(2, &|part| {
                if part == 1 {
                    resume_unwind(Box::new("planted"));
                }
            });
        }));
        assert!(outcome.is_err());
        workers.run(2, &|part| {
            if part == 1 {
                result.add(1);
            }
        });
        assert_eq!(result.get(), 1);
    });
}

/// Dropping the pool waits until the workers have ended, whatever they are at.
#[test]
fn drop_joins() {
    explore_up_to(PREEMPTIONS, || {
        let workers = Workers::new(2);
        let mut shared = Arc::clone(&workers.shared);
        workers.run(2, &|_| {});
        drop(workers);
        assert!(Arc::get_mut(&mut shared).is_some());
    });
}
