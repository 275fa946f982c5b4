//! Decoding allocates nothing after the first call of a sequence, whether the model or the host holds the
//! cache.
//!
//! This is a single test in its own process, without the test harness: the allocator counts allocations of
//! all threads, including the harness's.
#![allow(clippy::unwrap_used, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use ane_bundle::Bundle;
use ane_export::{CacheUpdate, ExportOptions, export};
use ane_runtime::{DecodeModel, MilCpu, Numerics};
use microgpt_model::{Checkpoint, GptConfig, INIT_STD, Preset, Tokenizer, Weights};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is forwarded unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: guaranteed by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: guaranteed by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Six layers, as in the scaled preset: fifteen inputs if the host holds the caches.
fn main() {
    let dir = tempfile::tempdir().unwrap();
    let tokenizer = Tokenizer::characters(&["abcdefghijklmnopqrstuvwxyz"]);
    let config = GptConfig { n_layer: 6, ..GptConfig::preset(Preset::Original, tokenizer.vocab_size()) };
    let path = dir.path().join("checkpoint");
    Checkpoint::write(&path, &config, &tokenizer, &Weights::random(&config, INIT_STD, 1), None).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    for &cache_update in CacheUpdate::ALL {
        let out = dir.path().join(cache_update.name());
        let options = ExportOptions::default().with_cache_update(cache_update);
        export(&checkpoint, &out, &options).unwrap().publish().unwrap();
        let bundle = Bundle::open(&out).unwrap();
        for numerics in [Numerics::F32, Numerics::F16, Numerics::Fast] {
            let model = DecodeModel::load(&bundle, &MilCpu::new(numerics)).unwrap();
            let mut sequence = model.new_sequence();
            let mut step = |token: u32| {
                let before = ALLOCATIONS.load(Ordering::Relaxed);
                model.decode(token, &mut sequence).unwrap();
                ALLOCATIONS.load(Ordering::Relaxed) - before
            };
            // The first call allocates the workspace.
            assert!(step(26) > 0);
            let allocations: usize = (0..15).map(&mut step).sum();
            assert_eq!(allocations, 0, "{cache_update} in {numerics:?}");
        }
    }
}
