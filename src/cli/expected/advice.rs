//! What to do with a path of another kind than a command expects.

use std::path::{Path, PathBuf};

use ane_bundle::Bundle;
use microgpt_model::{Checkpoint, MODEL_TYPE, Trainer};
use mlpackage::{Interface, Package};

use super::Expected;
use super::nearby::{around, belongs_to, packages};
use crate::cli::output;
use crate::cli::path_kind::PathKind;

/// Advises what to do with a path of another kind than expected. No advice names a command that refuses it.
pub(super) fn of(path: &Path, kind: &PathKind, expected: Expected) -> String {
    // The model file of a package gets advice about its own package, which is more specific than that for any
    // such file.
    if let Some(advice) =
        kind.advice().filter(|_| !matches!(kind, PathKind::MlModel { .. }) || belongs_to(path).is_none())
    {
        return advice.to_owned();
    }
    match kind {
        PathKind::Checkpoint => of_checkpoint(path),
        PathKind::UnfinishedRun => of_unfinished_run(path),
        PathKind::Bundle => of_bundle(path, expected),
        PathKind::Package => of_package(path, expected),
        PathKind::HuggingFace { .. } | PathKind::Gguf => format!(
            "this version reads models of type {MODEL_TYPE:?} only, and none of its commands reads this one; once another tool has made a \
             .mlpackage of it, `microgpt run` and `microgpt floor` accept that"
        ),
        _ => of_other(path, expected),
    }
}

/// Advises what to do with a path that was found in place of the one that was given.
pub(super) fn of_found(path: &Path, kind: &PathKind, expected: Expected, give: &str) -> String {
    if expected.takes(kind) { give.to_owned() } else { of(path, kind, expected) }
}

fn of_checkpoint(path: &Path) -> String {
    match Checkpoint::open(path) {
        Ok(_) => format!("`microgpt export {} --out bundle` makes a bundle of it", output::path(path)),
        Err(error) => format!("it is damaged, and has to be restored or trained again: {error}"),
    }
}

fn of_unfinished_run(path: &Path) -> String {
    match Trainer::intact_state(path) {
        Some(state) => format!(
            "`microgpt train --resume {}` finishes it; its newest state, {}, is a checkpoint that can be exported as \
             it is",
            output::path(path),
            output::path(&state)
        ),
        None => format!("none of its states is intact, so it cannot be resumed: {}", salvage(path)),
    }
}

fn of_bundle(path: &Path, expected: Expected) -> String {
    match Bundle::open(path) {
        Ok(_) if expected == Expected::Package => match packages(path).first() {
            Some(package) => format!("give a package in it, such as {}", output::path(package)),
            None => "it has no package in it, so it is damaged: export it again".to_owned(),
        },
        Ok(_) => format!(
            "it is already exported, and `microgpt chat {}` runs it; the checkpoint is the folder that it was exported from",
            output::path(path)
        ),
        Err(error) => format!("it is damaged, and has to be exported again: {error}"),
    }
}

fn of_package(path: &Path, expected: Expected) -> String {
    match around(path, &PathKind::Bundle) {
        Some(bundle) if expected.takes(&PathKind::Bundle) => {
            format!("give the bundle around it, {}", output::path(&bundle))
        }
        _ => match Package::open(path) {
            Ok(package) => format!(
                "a package by itself has no tokenizer and no embeddings; `{}` runs it on tensors or images",
                run_command(&package)
            ),
            Err(error) => format!("it cannot be read, either: {error}"),
        },
    }
}

/// Advises what to do with a file, or with a folder of a kind that is not this program's.
fn of_other(path: &Path, expected: Expected) -> String {
    match belongs_to(path) {
        Some((folder, kind)) => {
            let advice = of_found(&folder, &kind, expected, "give the folder");
            format!("it belongs to {}, {kind}: {advice}", output::path(&folder))
        }
        None => match expected {
            Expected::Package | Expected::BundleOrPackage => {
                "a .mlpackage is a folder with a Manifest.json, as coremltools and `microgpt export` write it"
                    .to_owned()
            }
            _ => {
                "`microgpt train --out ckpt` makes a checkpoint, `microgpt export ckpt --out bundle` a bundle"
                    .to_owned()
            }
        },
    }
}

/// Advises what can still be done with a run that has no intact state.
pub(in super::super) fn salvage(run: &Path) -> String {
    let is_sound = |state: &PathBuf| Checkpoint::open(state).is_ok_and(|found| found.weights().is_ok());
    match Trainer::states(run).into_iter().find(is_sound) {
        Some(state) => {
            let state = output::path(&state);
            format!(
                "the weights in {state} are sound, so `microgpt export {state} --out bundle` exports them, and \
                 `microgpt train --init {state} --out NEW` starts a new run from them"
            )
        }
        None => "start a new run with `microgpt train --out NEW`".to_owned(),
    }
}

/// Returns the command that runs a package's own function, with an option for each kind of its inputs.
fn run_command(package: &Package) -> String {
    let mut command = format!("microgpt run {}", output::path(package.path()));
    let name = package.default_function();
    let interface = package.interface(name).cloned();
    let interface = interface.or_else(|| Some(Interface::of(package.function(name).ok()?)));
    let inputs = interface.map_or_else(Vec::new, |interface| interface.inputs);
    for image in inputs.iter().filter(|input| input.image().is_some()) {
        command += &format!(" --image {}=X.png", output::quoted(&image.name));
    }
    if inputs.iter().any(|input| input.image().is_none()) {
        command += " --inputs X.safetensors";
    }
    command + " --out Y.safetensors"
}
