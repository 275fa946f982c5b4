//! What a command expects at a path, and the error for a path that holds something else: what it holds, what
//! was expected, and the one command that works on it.

mod advice;
mod gguf;
mod nearby;

use std::path::Path;

use anyhow::{Context as _, Error, Result, anyhow};

use super::output;
use super::path_kind::PathKind;

pub(super) use advice::salvage;

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

/// Recognizes what a path holds, if a command expects it.
///
/// # Errors
///
/// If the path holds something else; the error says what, and what to do.
pub(super) fn expect(path: &Path, expected: Expected) -> Result<PathKind> {
    let kind = PathKind::of(path).with_context(|| format!("open {}", path.display()))?;
    if expected.takes(&kind) { Ok(kind) } else { Err(unexpected(path, &kind, expected)) }
}

/// Returns an error about a path that is not what was expected.
fn unexpected(path: &Path, kind: &PathKind, expected: Expected) -> Error {
    let (name, wanted) = (path.display(), expected.name());
    match kind {
        PathKind::Missing => anyhow!("{name}: there is nothing at this path, expected {wanted}"),
        PathKind::UnknownFolder | PathKind::EmptyFolder
            if path.extension().is_some_and(|e| e == "mlpackage") =>
        {
            anyhow!("{name} has no Manifest.json, which every .mlpackage has: copy the package again")
        }
        PathKind::UnknownFolder | PathKind::EmptyFolder => {
            let inside = nearby::inside(path, expected).map_or(String::new(), |(inside, kind)| {
                let advice = advice::of_found(&inside, &kind, expected, "give that");
                format!("; {} in it is {kind}: {advice}", output::path(&inside))
            });
            anyhow!(
                "{name} is {kind} with no bundle (bundle.json), no checkpoint (config.json) and no package (Manifest.json) in \
                 it, expected {wanted}{inside}"
            )
        }
        _ => {
            let detail = detail(path, kind).map_or(String::new(), |detail| format!(" ({detail})"));
            anyhow!("{name} is {kind}{detail}, expected {wanted}: {}", advice::of(path, kind, expected))
        }
    }
}

/// Returns details that are read from the file, such as a model's architectures.
fn detail(path: &Path, kind: &PathKind) -> Option<String> {
    match kind {
        PathKind::HuggingFace { architectures, .. } => {
            (!architectures.is_empty()).then(|| architectures.join(", "))
        }
        PathKind::Gguf => gguf::architecture(path).map(|name| format!("architecture {name:?}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The advice in a refusal names no command that would refuse the path in turn.
    #[test]
    fn advice_never_leads_in_a_circle() {
        let dir = tempfile::tempdir().unwrap();
        let of = |name: &str, expected| {
            let path = dir.path().join(name);
            unexpected(&path, &PathKind::of(&path).unwrap(), expected).to_string()
        };
        std::fs::create_dir_all(dir.path().join("llama")).unwrap();
        let config = r#"{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}"#;
        std::fs::write(dir.path().join("llama/config.json"), config).unwrap();
        std::fs::write(dir.path().join("x.gguf"), gguf::tests::header(&[("general.architecture", "llama")]))
            .unwrap();
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
