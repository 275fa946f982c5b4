//! The `microgpt` command as scripts see it: exit codes, output, and files left behind.

mod commands;
mod damage;
mod outputs;
mod text;
mod verify_and_bench;

use std::fs;
use std::path::Path;

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
