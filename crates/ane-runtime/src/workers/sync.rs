//! The primitives that the pool synchronizes with: the standard library's or, with `--cfg loom`, loom's.
//!
//! loom runs a model once for every order in which its threads can meet, and for every value that the memory
//! model lets a load return.

#[cfg(not(loom))]
mod imp {
    pub(crate) use std::hint::spin_loop;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize};
    pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard};
    pub(crate) use std::thread::{Builder, JoinHandle, yield_now};

    /// The standard library's cell with loom's interface.
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            f(self.0.get())
        }

        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}

#[cfg(loom)]
mod imp {
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::hint::spin_loop;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicUsize};
    pub(crate) use loom::sync::{Arc, Condvar, Mutex, MutexGuard};
    pub(crate) use loom::thread::{Builder, JoinHandle, yield_now};
}

pub(super) use imp::*;

/// How many times a thread polls before it yields: the waiting thread may occupy the processor that the other
/// one needs.
const PATIENCE: usize = if cfg!(any(loom, miri)) { 1 } else { 64 };

/// Pauses briefly; `looks` counts the calls.
pub(super) fn pause(looks: &mut usize) {
    *looks += 1;
    if looks.is_multiple_of(PATIENCE) { yield_now() } else { spin_loop() }
}
