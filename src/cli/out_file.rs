//! Checks the files that commands write, before any work is done: none replaces a part of a model, or a file
//! that the same command reads.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::output;
use super::path_kind::PathKind;

/// Checks that a command may write a file that the user names with `option`, before any work is done.
///
/// `named` holds the other files that the command reads or writes, with the options that name them.
///
/// # Errors
///
/// If the file is inside a model's folder, or is one of `named`, or cannot be written.
pub(super) fn check(option: &str, path: &Path, named: &[(&str, &Path)]) -> Result<()> {
    check_outside_models(option, path)?;
    let written = resolved(path);
    if let Some((other, _)) = named.iter().find(|(_, other)| written == resolved(other)) {
        bail!("{option} {}: {other} names this file, too: name another one", output::path(path));
    }
    Ok(atomic_output::check_file(path)?)
}

/// Returns whether a path, which need not exist, is a file or folder or inside it.
pub(super) fn is_within(path: &Path, folder: &Path) -> bool {
    resolved(path).starts_with(resolved(folder))
}

/// Refuses to write anything inside the folder of a model, whose files belong together.
///
/// # Errors
///
/// If a folder around `path`, which need not exist, is a bundle, a checkpoint, a package or a compiled model.
pub(super) fn check_outside_models(option: &str, path: &Path) -> Result<()> {
    let written = resolved(path);
    for folder in written.ancestors().skip(1) {
        let kind = match PathKind::of(folder) {
            Ok(kind) if is_model(folder, &kind, written.exists()) => kind,
            _ => continue,
        };
        bail!(
            "{option} {}: it is inside {}, {kind}, whose files must stay as they are: name a file elsewhere",
            output::path(path),
            output::path(folder)
        );
    }
    Ok(())
}

/// Returns whether a folder of some kind is a model. Other programs use the names `config.json`,
/// `bundle.json` and `Manifest.json` as well, so one of these alone does not suffice.
fn is_model(folder: &Path, kind: &PathKind, replaces: bool) -> bool {
    let has = |name: &str| folder.join(name).exists();
    match kind {
        PathKind::Package => has("Data"),
        PathKind::Bundle => {
            has("embeddings.safetensors") || has("tokenizer.json") || has("decoder-00.mlpackage")
        }
        PathKind::Checkpoint => has("model.safetensors"),
        PathKind::UnfinishedRun | PathKind::CompiledModel => true,
        // Their users keep other files beside the model, which may be added but not replaced.
        PathKind::HuggingFace { .. } | PathKind::SavedModel => replaces,
        _ => false,
    }
}

/// Returns the absolute path of a file, which need not exist, with all links followed.
fn resolved(path: &Path) -> PathBuf {
    let path = atomic_output::follow_links(path).unwrap_or_else(|_| path.to_owned());
    let absolute = std::path::absolute(&path).unwrap_or(path);
    let found = absolute.ancestors().find_map(|ancestor| {
        let real = ancestor.canonicalize().ok()?;
        let rest = absolute.strip_prefix(ancestor).ok()?;
        Some(if rest.as_os_str().is_empty() { real } else { real.join(rest) })
    });
    found.unwrap_or(absolute)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_name_that_others_use_as_well_makes_no_model() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["config.json", "bundle.json", "Manifest.json"] {
            fs::create_dir_all(at(name)).unwrap();
            fs::write(at(name).join(name), "{}").unwrap();
            check("--out", &at(name).join("page.html"), &[]).unwrap();
        }
        fs::write(at("config.json/model.safetensors"), "").unwrap();
        fs::create_dir(at("Manifest.json/Data")).unwrap();
        fs::write(at("bundle.json/tokenizer.json"), "").unwrap();
        for name in ["config.json", "bundle.json", "Manifest.json"] {
            for file in ["page.html", name, "deep/er/page.html"] {
                let error = check("--out", &at(name).join(file), &[]).unwrap_err().to_string();
                assert!(error.contains("it is inside "), "{error}");
            }
        }
        fs::write(at("config.json/config.json"), "{\"model_type\": \"llama\"}").unwrap();
        check("--out", &at("config.json/page.html"), &[]).unwrap();
        check("--out", &at("config.json/model.safetensors"), &[]).unwrap_err();
    }

    #[cfg(unix)]
    #[test]
    fn one_file_is_recognized_under_two_names() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("folder")).unwrap();
        fs::write(at("file"), "").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        std::os::unix::fs::symlink("folder", at("way")).unwrap();
        for (written, other) in
            [("file", "link"), ("link", "file"), ("folder/../file", "file"), ("way/new", "folder/new")]
        {
            let error = check("--out", &at(written), &[("--in", &at(other))]).unwrap_err();
            assert!(error.to_string().contains("--in names this file"), "{error}");
        }
        check("--out", &at("new"), &[("--in", &at("file"))]).unwrap();
        std::os::unix::fs::symlink("folder/new", at("dangling")).unwrap();
        check("--out", &at("dangling"), &[("--in", &at("folder/new"))]).unwrap_err();
        assert!(is_within(&at("way/new"), &at("folder")) && !is_within(&at("new"), &at("folder")));
    }
}
