//! The engine's guarantees around the operations: refusals, inputs, states.

mod hazards;
mod refusals;
mod shapes;
mod states;
mod values;

use std::path::Path;

use mlpackage::Package;

/// Opens a package that coremltools wrote.
fn fixture(name: &str) -> Package {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mlpackage/tests/fixtures");
    Package::open(folder.join(format!("{name}.mlpackage"))).unwrap()
}
