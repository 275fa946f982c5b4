//! Opens a package and prints its inputs, outputs, operations and findings.
//!
//! ```sh
//! cargo run -p mlpackage --example print PACKAGE
//! ```

use std::collections::BTreeMap;
use std::time::Instant;

use mlpackage::Package;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: print PACKAGE")?;
    let start = Instant::now();
    let package = Package::open(&path)?;
    let opened = start.elapsed();

    println!("{path}: specification {}", package.specification_version());
    for (name, interface) in package.description().functions() {
        println!("function {name}");
        let kinds = [("in", &interface.inputs), ("out", &interface.outputs), ("state", &interface.states)];
        for (kind, features) in kinds {
            for feature in features {
                println!("  {kind:<5} {}: {}", feature.name, feature.ty);
            }
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for operation in package.function(name)?.block.all_operations() {
            *counts.entry(&operation.op).or_default() += 1;
        }
        for (op, count) in counts {
            println!("  {count:>5} {op}");
        }
    }
    for (name, file) in package.weight_files() {
        println!("{name}: {} blobs, {} B", file.count(), file.bytes());
    }
    let listed = start.elapsed();
    for finding in package.check() {
        println!("{finding:#}");
    }
    println!("opened in {opened:.1?}, listed after {listed:.1?}, checked after {:.1?}", start.elapsed());
    Ok(())
}
