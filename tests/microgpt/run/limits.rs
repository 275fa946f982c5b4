//! Limits on the memory of a run.

use image::{GrayImage, Luma};
use microgpt_ane::mlpackage::mil::{Dim, Value};
use microgpt_ane::mlpackage::{ColorSpace, DType};

use super::{image_type, negative, package, read, write};
use crate::common::command::{microgpt, ok, refused};

/// The product with each of 2^20 elements needs 4 MiB, which `fill` creates from a few bytes.
#[test]
fn the_workspace_of_a_call_has_a_limit_that_can_be_raised() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    package(&at("p.mlpackage"), |f| {
        let x = f.input("x", DType::Fp32, [Dim::Known(1)])?;
        let many = f.op("fill", "many").value("shape", Value::ints([1], vec![1 << 20]));
        let many = many.value("value", Value::fp32(2.0)).one()?;
        let y = f.op("mul", "y").arg("x", &many).arg("y", &x).one()?;
        let sum = f.op("reduce_sum", "sum").arg("x", &y).value("axes", Value::ints([1], vec![0])).one()?;
        f.output(&sum);
        Ok(())
    });
    write(&at("x.safetensors"), &[("x", &[1], &[0.5])]);
    let run = ["run", "p.mlpackage", "--inputs", "x.safetensors", "--out", "y.safetensors", "--workspace"];
    let words = ["B of workspace, 1048576 B at most", "raise the workspace limit"];
    refused(dir.path(), &[&run[..], &["1"]].concat(), &words);
    assert!(!at("y.safetensors").exists());
    ok(dir.path(), &[&run[..], &["16"]].concat());
    assert_eq!(read(&at("y.safetensors"), "sum").1, [1_048_576.0]);
    assert!(microgpt(dir.path(), &[&run[..], &["0"]].concat()).code == 2);
}

/// The first call shows the size of all outputs. Without the limit, this run would take 4 PiB.
#[test]
fn the_outputs_of_all_calls_have_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let grey = image_type(ColorSpace::Grayscale, 64, 64);
    negative(&at("p.mlpackage"), &grey, &grey);
    GrayImage::from_pixel(64, 64, Luma([55])).save(at("photo.png")).unwrap();
    let run = |steps: &str, more: &[&str]| {
        let run =
            ["run", "p.mlpackage", "--image", "photo=photo.png", "--out", "y.safetensors", "--steps", steps];
        microgpt(dir.path(), &[&run[..], more].concat())
    };
    let ran = run("274877906944", &[]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("274877906944 calls take 4503599627370496 bytes"), "{}", ran.err);
    assert!(ran.err.contains("--workspace"), "{}", ran.err);
    // 64 x 64 floats are 16 KiB, so 64 calls return 1 MiB.
    assert_eq!(run("64", &["--workspace", "1"]).code, 0);
    assert!(run("65", &["--workspace", "1"]).err.contains("limit of 1048576 bytes"));
}
