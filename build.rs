//! Adds the path of the Swift libraries that the crate `coreml` needs on macOS, for installations that do not read
//! `.cargo/config.toml`.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "macos") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,/usr/lib/swift");
    }
}
