//! The error for a path that a command cannot use: what the path holds, what was expected, and the one
//! command that works on it.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use ane_bundle::Bundle;
use anyhow::{Context as _, Error, Result, anyhow};
use microgpt_model::{Checkpoint, MODEL_TYPE, Trainer};
use mlpackage::{Interface, Package};

use super::file_kind::PathKind;
use super::output;

/// What a command expects at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    Bundle,
    BundleOrCheckpoint,
    BundleOrPackage,
    Package,
    Checkpoint,
    /// A run that can be continued: an unfinished one, or a checkpoint.
    Run,
    /// Anything that can be inspected.
    Model,
}

impl Expected {
    fn name(self) -> &'static str {
        match self {
            Self::Bundle => "a bundle",
            Self::BundleOrCheckpoint => "a bundle or a checkpoint",
            Self::BundleOrPackage => "a bundle or a .mlpackage",
            Self::Package => "a .mlpackage",
            Self::Checkpoint => "a checkpoint",
            Self::Run => "the folder of a training run",
            Self::Model => "a checkpoint, a bundle or a .mlpackage",
        }
    }

    fn takes(self, kind: &PathKind) -> bool {
        match kind {
            PathKind::Bundle => {
                matches!(self, Self::Bundle | Self::BundleOrCheckpoint | Self::BundleOrPackage | Self::Model)
            }
            PathKind::Package => matches!(self, Self::Package | Self::BundleOrPackage | Self::Model),
            PathKind::Checkpoint => {
                matches!(self, Self::Checkpoint | Self::BundleOrCheckpoint | Self::Run | Self::Model)
            }
            PathKind::UnfinishedRun => self == Self::Run,
            _ => false,
        }
    }
}

/// Recognises what a path holds, if a command expects it.
///
/// # Errors
///
/// If the path holds something else; the error says what, and what to do.
pub(super) fn expect(path: &Path, expected: Expected) -> Result<PathKind> {
    let kind = PathKind::of(path).with_context(|| format!("open {}", path.display()))?;
    if expected.takes(&kind) { Ok(kind) } else { Err(unfit(path, &kind, expected)) }
}

/// An error about a path that is not what was expected.
fn unfit(path: &Path, kind: &PathKind, expected: Expected) -> Error {
    let (name, wanted) = (path.display(), expected.name());
    match kind {
        PathKind::Missing => anyhow!("{name}: there is nothing at this path, expected {wanted}"),
        PathKind::UnknownFolder | PathKind::EmptyFolder
            if path.extension().is_some_and(|e| e == "mlpackage") =>
        {
            anyhow!("{name} has no Manifest.json, which every .mlpackage has: copy the package again")
        }
        PathKind::UnknownFolder | PathKind::EmptyFolder => {
            let inside = inside(path, expected).map_or(String::new(), |(inside, kind)| {
                let advice = whole(&inside, &kind, expected, "give that");
                format!("; {} in it is {kind}: {advice}", output::path(&inside))
            });
            anyhow!(
                "{name} is {kind} with no bundle (bundle.json), no checkpoint (config.json) and no package (Manifest.json) in \
                 it, expected {wanted}{inside}"
            )
        }
        _ => {
            let detail = detail(path, kind).map_or(String::new(), |detail| format!(" ({detail})"));
            anyhow!("{name} is {kind}{detail}, expected {wanted}: {}", advice(path, kind, expected))
        }
    }
}

/// Details read from the file: a model's architectures.
fn detail(path: &Path, kind: &PathKind) -> Option<String> {
    match kind {
        PathKind::HuggingFace { .. } => {
            let config: serde_json::Value =
                serde_json::from_str(&std::fs::read_to_string(path.join("config.json")).ok()?).ok()?;
            let names = config.get("architectures")?.as_array()?.iter().filter_map(serde_json::Value::as_str);
            let names: Vec<String> = names.map(str::to_owned).collect();
            (!names.is_empty()).then(|| names.join(", "))
        }
        PathKind::Gguf => gguf_architecture(path).map(|name| format!("architecture {name:?}")),
        _ => None,
    }
}

/// What to do with a path of another kind than expected. No advice names a command that refuses it.
fn advice(path: &Path, kind: &PathKind, expected: Expected) -> String {
    let name = output::path(path);
    // The model file of a package gets advice about its own package, which is more specific than that for any
    // such file.
    if let Some(advice) =
        kind.advice().filter(|_| !matches!(kind, PathKind::MlModel { .. }) || belongs_to(path).is_none())
    {
        return advice.to_owned();
    }
    match kind {
        PathKind::Checkpoint => match Checkpoint::open(path) {
            Ok(_) => format!("`microgpt export {name} --out bundle` makes a bundle of it"),
            Err(error) => format!("it is damaged, and has to be restored or trained again: {error}"),
        },
        PathKind::UnfinishedRun => match Trainer::intact_state(path) {
            Some(state) => format!(
                "`microgpt train --resume {name}` finishes it; its newest state, {}, is a checkpoint that can be exported as \
                 it is",
                output::path(&state)
            ),
            None => format!("none of its states is intact, so it cannot be resumed: {}", salvage(path)),
        },
        PathKind::Bundle => match Bundle::open(path) {
            Ok(_) if expected == Expected::Package => match packages(path).first() {
                Some(package) => format!("give a package in it, such as {}", output::path(package)),
                None => "it has no package in it, so it is damaged: export it again".to_owned(),
            },
            Ok(_) => format!(
                "it is already exported, and `microgpt chat {name}` runs it; the checkpoint is the folder that it was exported from"
            ),
            Err(error) => format!("it is damaged, and has to be exported again: {error}"),
        },
        PathKind::Package => match around(path, &PathKind::Bundle) {
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
        },
        PathKind::HuggingFace { .. } | PathKind::Gguf => format!(
            "this version reads models of type {MODEL_TYPE:?} only, and none of its commands reads this one; once another tool has made a \
             .mlpackage of it, `microgpt run` and `microgpt floor` accept that"
        ),
        _ => match belongs_to(path) {
            Some((folder, kind)) => {
                let advice = whole(&folder, &kind, expected, "give the folder");
                format!("it belongs to {}, {kind}: {advice}", output::path(&folder))
            }
            None => match expected {
                Expected::Package | Expected::BundleOrPackage => {
                    "a .mlpackage is a folder with a Manifest.json, as coremltools and `microgpt export` write it".to_owned()
                }
                _ => {
                    "`microgpt train --out ckpt` makes a checkpoint, `microgpt export ckpt --out bundle` a bundle".to_owned()
                }
            },
        },
    }
}

/// What to do with a path that was found in place of the one that was given.
fn whole(path: &Path, kind: &PathKind, expected: Expected, give: &str) -> String {
    if expected.takes(kind) { give.to_owned() } else { advice(path, kind, expected) }
}

/// What can still be done with a run that has no intact state.
pub(super) fn salvage(run: &Path) -> String {
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

/// The command that runs a package's own function, with an option for each kind of its inputs.
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

/// The packages in a folder, sorted.
fn packages(folder: &Path) -> Vec<PathBuf> {
    let entries = folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    let mut packages: Vec<PathBuf> =
        entries.filter(|path| PathKind::of(path).is_ok_and(|kind| kind == PathKind::Package)).collect();
    packages.sort();
    packages
}

/// Limit of the entries of a folder that are examined for advice.
const ENTRIES: usize = 100;

/// Finds a model in a folder: one that the command accepts, or else one that needs another step first.
fn inside(folder: &Path, expected: Expected) -> Option<(PathBuf, PathKind)> {
    let mut entries: Vec<PathBuf> =
        folder.read_dir().ok()?.flatten().take(ENTRIES).map(|entry| entry.path()).collect();
    entries.sort();
    let mut models: Vec<(PathBuf, PathKind)> = entries
        .into_iter()
        .filter_map(|path| Some((path.clone(), PathKind::of(&path).ok()?)))
        .filter(|(_, kind)| kind.is_of_this_project() || *kind == PathKind::Gguf)
        .collect();
    let best = models.iter().position(|(_, kind)| expected.takes(kind)).unwrap_or(0);
    (best < models.len()).then(|| models.swap_remove(best))
}

/// The folder around a path, if it is of the wanted kind.
fn around(path: &Path, wanted: &PathKind) -> Option<PathBuf> {
    let real = path.canonicalize().ok()?;
    let folder = real.parent()?;
    let is_wanted = PathKind::of(folder).is_ok_and(|kind| kind == *wanted);
    // As the user wrote it, unless that is another folder: `.` has no parent, and a link has another one.
    let written = path.file_name().and_then(|_| path.parent()).map(here);
    let written = written.filter(|written| written.canonicalize().is_ok_and(|written| written == folder));
    is_wanted.then(|| written.unwrap_or(folder).to_owned())
}

/// A path that the current folder's is not left empty.
fn here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// Finds the model that a file is a part of.
fn belongs_to(file: &Path) -> Option<(PathBuf, PathKind)> {
    // Notes and pictures beside a model are no part of it.
    let extension = file.extension()?.to_str()?;
    if !["json", "jsonl", "safetensors", "bin", "mlmodel"].contains(&extension) {
        return None;
    }
    // A package's weights are four folders down.
    file.ancestors().skip(1).take(5).map(here).find_map(|folder| {
        let kind = PathKind::of(folder).ok()?;
        (kind.is_of_this_project() || matches!(kind, PathKind::HuggingFace { .. }))
            .then(|| (folder.to_owned(), kind))
    })
}

/// Bytes of a GGUF file that are read.
const GGUF_HEAD: u64 = 64 << 10;

/// Reads `general.architecture` of a GGUF file. The header is a list of key, type and value; the architecture
/// is among the first.
fn gguf_architecture(path: &Path) -> Option<String> {
    let mut head = Vec::new();
    File::open(path).ok()?.take(GGUF_HEAD).read_to_end(&mut head).ok()?;
    let mut at = Head(head.strip_prefix(b"GGUF")?);
    let _version = at.number::<4>()?;
    let _tensors = at.number::<8>()?;
    let pairs = at.number::<8>()?;
    for _ in 0..pairs.min(64) {
        let key = at.text()?;
        let kind = at.number::<4>()?;
        match (key, kind) {
            (b"general.architecture", 8) => {
                let name = String::from_utf8(at.text()?.to_vec()).ok()?;
                return Some(name).filter(|name| name.len() <= 64);
            }
            (_, 0 | 1 | 7) => at.skip(1)?,
            (_, 2 | 3) => at.skip(2)?,
            (_, 4..=6) => at.skip(4)?,
            (_, 8) => {
                at.text()?;
            }
            (_, 10..=12) => at.skip(8)?,
            // An array or an unknown type: in every known file the architecture precedes them.
            _ => return None,
        }
    }
    None
}

/// The unread bytes of the header.
struct Head<'b>(&'b [u8]);

impl<'b> Head<'b> {
    fn number<const N: usize>(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_at_checked(N)?;
        self.0 = rest;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn text(&mut self) -> Option<&'b [u8]> {
        let length = usize::try_from(self.number::<8>()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(text)
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.0 = self.0.get(bytes..)?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Builds a GGUF header of version 3 with these strings.
    fn gguf(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(0u64.to_le_bytes());
        bytes.extend((pairs.len() as u64).to_le_bytes());
        for (key, value) in pairs {
            bytes.extend((key.len() as u64).to_le_bytes());
            bytes.extend(key.as_bytes());
            bytes.extend(8u32.to_le_bytes());
            bytes.extend((value.len() as u64).to_le_bytes());
            bytes.extend(value.as_bytes());
        }
        bytes
    }

    #[test]
    fn the_architecture_of_a_gguf_file_is_read_and_a_damaged_file_has_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.gguf");
        let of = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            gguf_architecture(&path)
        };
        let whole = gguf(&[("general.name", "tiny"), ("general.architecture", "qwen3")]);
        assert_eq!(of(&whole).as_deref(), Some("qwen3"));
        for end in 0..whole.len() {
            assert_eq!(of(&whole[..end]), None, "cut at {end}");
        }
        let mut endless = whole.clone();
        endless[24..32].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(of(&endless), None);
    }

    /// The advice in a refusal names no command that would refuse the path in turn.
    #[test]
    fn advice_never_leads_in_a_circle() {
        let dir = tempfile::tempdir().unwrap();
        let of = |name: &str, expected| {
            let path = dir.path().join(name);
            unfit(&path, &PathKind::of(&path).unwrap(), expected).to_string()
        };
        std::fs::create_dir_all(dir.path().join("llama")).unwrap();
        let config = r#"{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}"#;
        std::fs::write(dir.path().join("llama/config.json"), config).unwrap();
        std::fs::write(dir.path().join("x.gguf"), gguf(&[("general.architecture", "llama")])).unwrap();
        for expected in [Expected::Bundle, Expected::BundleOrPackage, Expected::Checkpoint, Expected::Model] {
            for name in ["llama", "x.gguf"] {
                let said = of(name, expected);
                assert!(said.contains("llama\"") && said.contains("\"microgpt\" only"), "{said}");
                assert!(!said.contains("microgpt export"), "export refuses it: {said}");
            }
        }
        assert!(of("llama", Expected::Bundle).contains("LlamaForCausalLM"));
        // Neither state is intact.
        std::fs::create_dir_all(dir.path().join("run/training/step-000010")).unwrap();
        std::fs::create_dir_all(dir.path().join("run/training/step-000020")).unwrap();
        std::fs::write(dir.path().join("run/config.json"), r#"{"model_type": "microgpt"}"#).unwrap();
        let said = of("run", Expected::BundleOrPackage);
        assert!(said.contains("none of its states is intact") && said.contains("train --out NEW"), "{said}");
        assert!(!said.contains("--resume") && !said.contains("microgpt export"), "{said}");
    }
}
