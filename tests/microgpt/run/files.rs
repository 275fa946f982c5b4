//! Files of other formats, and files that must not be overwritten.

use std::fs;

use microgpt_ane::mlpackage::{ColorSpace, DType};

use super::{image_type, negative, package, photo, write};
use crate::common;
use crate::common::command::{ok, refused};

/// Files of other formats passed to `--inputs` are named, with the expected format.
#[test]
fn files_of_another_format_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    package(&at("p.mlpackage"), |f| {
        let x = f.input("x", DType::Fp32, [2])?;
        let y = f.op("relu", "y").arg("x", &x).one()?;
        f.output(&y);
        Ok(())
    });
    let zip =
        |name: &str| [b"PK\x03\x04", &[0; 22][..], &[name.len() as u8, 0, 0, 0], name.as_bytes()].concat();
    let files: [(&str, Vec<u8>, &[&str]); 11] = [
        ("x.npz", zip("x.npy"), &["a NumPy archive (.npz)", "save_file"]),
        ("x.npy", b"\x93NUMPY\x01\0".to_vec(), &["a NumPy array (.npy)", "save_file"]),
        ("x.pt", zip("x/data.pkl"), &["a PyTorch checkpoint", "save_file"]),
        ("x.pkl", b"\x80\x04K\x01.".to_vec(), &["a Python pickle"]),
        ("x.onnx", b"\x08\x08\x12\x00\x3a\x01\x00".to_vec(), &["an ONNX model"]),
        ("x.gguf", b"GGUF\x03\0\0\0".to_vec(), &["a GGUF file"]),
        ("x.zip", zip("x.txt"), &["a zip archive"]),
        ("x.json", b"{\"x\": [1, 2]}".to_vec(), &["a JSON file", "the only input is x, tensor<fp32, [2]>"]),
        ("x.jpg", b"\xff\xd8\xff\xe0".to_vec(), &["a JPEG image", "no input is an image"]),
        (
            "x.lfs",
            b"version https://git-lfs.github.com/spec/v1\nsize 7\n".to_vec(),
            &["Git LFS pointer", "git lfs pull"],
        ),
        (
            "x.html",
            b"<!DOCTYPE html><title>404</title>".to_vec(),
            &["an HTML page", "download the file again"],
        ),
    ];
    for (name, bytes, words) in files {
        fs::write(at(name), bytes).unwrap();
        refused(
            dir.path(),
            &["run", "p.mlpackage", "--inputs", name, "--out", "y.safetensors"],
            &[words, &[name, "expected a safetensors file"]].concat(),
        );
    }
    refused(
        dir.path(),
        &["run", "p.mlpackage", "--inputs", "no", "--out", "y.safetensors"],
        &["--inputs no: no such file"],
    );
    refused(
        dir.path(),
        &["run", "p.mlpackage", "--inputs", "p.mlpackage", "--out", "y.safetensors"],
        &["a .mlpackage"],
    );
    fs::write(at("short"), "{}").unwrap();
    fs::write(at("empty"), "").unwrap();
    refused(
        dir.path(),
        &["run", "p.mlpackage", "--inputs", "empty", "--out", "y.safetensors"],
        &["empty", "safetensors"],
    );
    assert!(!at("y.safetensors").exists());
}

/// Git LFS pointers in packages and models are named.
#[test]
fn git_lfs_pointers_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let rgb = image_type(ColorSpace::Rgb, 2, 2);
    let model = "Data/com.apple.CoreML/model.mlmodel";
    negative(&at("p.mlpackage"), &rgb, &rgb);
    fs::write(at("p.mlpackage").join(model), "version https://git-lfs.github.com/spec/v1\nsize 12345\n")
        .unwrap();
    let commands: [&[&str]; 3] = [
        &["run", "p.mlpackage", "--plan"],
        &["inspect", "p.mlpackage"],
        &["inspect", "--check", "p.mlpackage"],
    ];
    for command in commands {
        refused(dir.path(), command, &["model.mlmodel", "12345 bytes", "git lfs pull"]);
    }
    let workspace = common::command::workspace();
    for file in ["decoder-00.mlpackage/Data/com.apple.CoreML/weights/weight.bin", "embeddings.safetensors"] {
        fs::write(
            workspace.path().join("bundle").join(file),
            "version https://git-lfs.github.com/spec/v1\nsize 9\n",
        )
        .unwrap();
        let name = file.rsplit('/').next().unwrap();
        refused(workspace.path(), &["generate", "bundle"], &[name, "git lfs pull"]);
        ok(workspace.path(), &["export", "ckpt", "--out", "bundle", "--no-verify"]);
    }
    fs::write(
        workspace.path().join("ckpt/model.safetensors"),
        "version https://git-lfs.github.com/spec/v1\nsize 9\n",
    )
    .unwrap();
    refused(workspace.path(), &["export", "ckpt", "--out", "other"], &["model.safetensors", "git lfs pull"]);
}

/// No option that writes a file replaces one that the same command reads.
#[test]
fn an_input_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let rgb = image_type(ColorSpace::Rgb, 2, 2);
    negative(&at("p.mlpackage"), &rgb, &rgb);
    photo().save(at("photo.png")).unwrap();
    fs::create_dir(at("folder")).unwrap();
    write(&at("x.safetensors"), &[("photo", &[1, 3, 2, 2], &[0.0; 12])]);
    let before = ["photo.png", "x.safetensors"].map(|name| fs::read(at(name)).unwrap());
    let image = ["run", "p.mlpackage", "--image", "photo=photo.png"];
    let tensors = ["run", "p.mlpackage", "--inputs", "x.safetensors"];
    let refuse =
        |run: &[&str], out: &[&str], words: &[&str]| refused(dir.path(), &[run, out].concat(), words);
    refuse(
        &image,
        &["--out-image", "negative=photo.png"],
        &["photo.png: --image photo names this file, too"],
    );
    refuse(&image, &["--out", "folder/../photo.png"], &["--image photo names this file"]);
    refuse(&tensors, &["--out", "x.safetensors"], &["--inputs names this file"]);
    refuse(
        &tensors,
        &["--out", "y.png", "--out-image", "negative=y.png"],
        &["--out-image negative y.png: --out names this file"],
    );
    let manifest = "p.mlpackage/Manifest.json";
    refuse(&tensors, &["--out", manifest], &["it is inside", "p.mlpackage, a .mlpackage"]);
    assert_eq!(["photo.png", "x.safetensors"].map(|name| fs::read(at(name)).unwrap()), before);
}
