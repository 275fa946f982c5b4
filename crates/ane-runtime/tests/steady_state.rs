//! A step of a planned function allocates nothing, and uses no more memory than was stated before it ran.
//!
//! This is a single test in its own process, without the test harness: the allocator counts allocations of
//! all threads, including the harness's.
#![allow(clippy::unwrap_used, unsafe_code)]

mod suite;

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use ane_runtime::{Elements, Engine as _, LoadOptions, MilCpu, Numerics, TensorView};
use mlpackage::Package;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is forwarded unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: guaranteed by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: guaranteed by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs forty more steps of a decode graph with a KV cache that is written at a computed position, in fp16
/// with INT8 weights.
fn main() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/conformance/model_gpt2_fp16_int8_per_channel.mlpackage");
    let package = Package::open(&path).unwrap();
    for numerics in [Numerics::F32, Numerics::F16, Numerics::Fast] {
        let model = MilCpu::new(numerics).load(&package, &LoadOptions::default()).unwrap();
        let function = model.default_function();
        let stated = function.memory().unwrap();
        let before = LIVE.load(Ordering::Relaxed);
        let mut state = model.new_state();
        let (token, mask) = ([3], [0.0; 8]);
        let mut step = |position: i32| {
            let position = [position];
            let inputs = [
                ("token", TensorView::new(&[1, 1], Elements::I32(&token)).unwrap()),
                ("position", TensorView::new(&[1], Elements::I32(&position)).unwrap()),
                ("mask", TensorView::new(&[1, 1, 1, 8], Elements::F32(&mask)).unwrap()),
            ];
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            function.predict(&inputs, &mut state).unwrap();
            ALLOCATIONS.load(Ordering::Relaxed) - before
        };
        // The first call allocates the workspace.
        assert!(step(0) > 0);
        let allocations: usize = (0..40).map(|i| step(i % 8)).sum();
        assert_eq!(allocations, 0, "{numerics:?}");
        let taken = (LIVE.load(Ordering::Relaxed) - before) as u64;
        // A state also has names, shapes and vectors, about a hundred bytes per buffer.
        let room = 8 * 1024;
        assert!(
            taken <= stated.state + stated.workspace + room,
            "{taken} B taken, {} B of state and {} B of workspace stated",
            stated.state,
            stated.workspace
        );
    }
}
