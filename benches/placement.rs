//! Measures the prediction of placement for every fixture that coremltools wrote, and for the experiment's
//! two shards.
//!
//! ```text
//! cargo bench -p microgpt-bench --features criterion --bench placement
//! ```
//!
//! Prints a time per package. A package is opened and checked once, and then predicted repeatedly.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use microgpt_ane::ane_export::{ExportOptions, write_probe};
use microgpt_ane::ane_floor::PlacementReport;
use microgpt_ane::microgpt_model::{GptConfig, Preset};
use microgpt_ane::mlpackage::Package;

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/mlpackage/tests/fixtures");
    let entries = std::fs::read_dir(folder).expect("the fixtures are part of the repository");
    let mut found: Vec<PathBuf> = entries.map(|e| e.expect("a folder that can be read").path()).collect();
    found.retain(|path| path.extension().is_some_and(|e| e == "mlpackage"));
    found.sort();
    found
}

fn predict(c: &mut Criterion) {
    let mut group = c.benchmark_group("predict");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(400));
    let mut bench = |name: &str, package: &Package| {
        group.bench_function(name, |b| {
            b.iter(|| black_box(PlacementReport::predict(package, None).expect("a sound package")));
        });
    };
    for path in fixtures() {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        bench(&name, &Package::open(&path).expect("a package of coremltools"));
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (name, preset) in [("original", Preset::Original), ("scaled", Preset::Scaled)] {
        let path = dir.path().join(format!("{name}.mlpackage"));
        let config = GptConfig::preset(preset, 27);
        write_probe(&config, &ExportOptions::default(), 1, &path).expect("a decoder with random weights");
        bench(name, &Package::open(&path).expect("the package that was just written"));
    }
    group.finish();
}

criterion_group!(benches, predict);
criterion_main!(benches);
