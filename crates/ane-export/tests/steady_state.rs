//! Decoding allocates nothing once a sequence has begun, whoever holds the cache.
//!
//! One test in a process of its own, without the test harness: the allocator counts for all threads, the harness's, too.
#![allow(clippy::unwrap_used, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use ane_export::{CacheUpdate, ExportOptions, export};
use ane_runtime::{DecodeModel, MilCpu, Numerics};
use microgpt_model::{Checkpoint, GptConfig, INIT_STD, Preset, Tokenizer, Weights};
use mlpackage::Bundle;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Six layers, as the scaled preset has: fifteen inputs, where the host holds the caches.
fn main() {
    let dir = tempfile::tempdir().unwrap();
    let tokenizer = Tokenizer::characters(&["abcdefghijklmnopqrstuvwxyz"]);
    let config = GptConfig { n_layer: 6, ..GptConfig::preset(Preset::Original, tokenizer.vocab_size()) };
    let path = dir.path().join("checkpoint");
    Checkpoint::write(&path, &config, &tokenizer, &Weights::random(&config, INIT_STD, 1), None).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    for &cache_update in CacheUpdate::ALL {
        let out = dir.path().join(cache_update.name());
        let options = ExportOptions { cache_update, ..ExportOptions::default() };
        export(&checkpoint, &out, &options, |_, _| {}).unwrap().publish().unwrap();
        let bundle = Bundle::open(&out).unwrap();
        for numerics in [Numerics::F32, Numerics::F16, Numerics::Fast] {
            let model = DecodeModel::load(&bundle, &MilCpu::new(numerics)).unwrap();
            let mut sequence = model.new_sequence();
            let mut step = |token: u32| {
                let before = ALLOCATIONS.load(Ordering::Relaxed);
                model.decode(token, &mut sequence).unwrap();
                ALLOCATIONS.load(Ordering::Relaxed) - before
            };
            // The first call makes the workspace.
            assert!(step(26) > 0);
            let allocations: usize = (0..15).map(&mut step).sum();
            assert_eq!(allocations, 0, "{cache_update} in {numerics:?}");
        }
    }
}
