//! Recognizes an earlier output, so that nothing else is ever replaced.

use std::path::Path;

use atomic_output::AtomicDir;
use serde_json::{Map, Value};

use crate::error::Result;
use crate::files;
use crate::manifest::MANIFEST;

/// A kind of output folder.
#[derive(Clone, Copy, Debug)]
pub struct FolderKind {
    /// The file that identifies the kind: a JSON object.
    pub marker: &'static str,
    /// Fields that the object has.
    pub fields: &'static [&'static str],
    /// Whether a file belongs to the output whose marker holds this object. The path is relative to the folder, with
    /// `/`; that of an empty folder ends in `/`.
    pub belongs: fn(&Map<String, Value>, &str) -> bool,
}

/// A `.mlpackage`.
pub(crate) const PACKAGE: FolderKind = FolderKind {
    marker: MANIFEST,
    fields: &["fileFormatVersion", "itemInfoEntries", "rootModelIdentifier"],
    belongs: |manifest, path| {
        let items = manifest["itemInfoEntries"].as_object().into_iter().flat_map(Map::values);
        let mut items =
            items.filter_map(|item| path.strip_prefix("Data/")?.strip_prefix(item["path"].as_str()?));
        // An item is a file, or a folder of weight files.
        items.any(|rest| {
            let file = rest.strip_prefix('/').unwrap_or(rest);
            file.is_empty() || (file.len() < rest.len() && file.ends_with(".bin") && !file.contains('/'))
        })
    },
};

/// Size limit of a marker, in bytes.
const MARKER_LIMIT: u64 = 64 << 20;

impl FolderKind {
    /// Opens a folder that becomes `destination`, which may hold an earlier output of this kind.
    ///
    /// # Errors
    ///
    /// [`Error::Output`](crate::Error::Output) as [`AtomicDir::create`].
    pub fn create(self, destination: impl AsRef<Path>) -> Result<AtomicDir> {
        let destination = destination.as_ref();
        Ok(AtomicDir::create(destination, move |folder| self.differs(folder))?)
    }

    /// Returns why `folder` is not of this kind, or which other file it holds; `None` if an output of this kind may
    /// replace it.
    pub fn differs(&self, folder: impl AsRef<Path>) -> Option<String> {
        let folder = folder.as_ref();
        let marker = self.marker;
        let Ok(bytes) = files::read_small(folder.join(marker), MARKER_LIMIT) else {
            return Some(format!("has no {marker}"));
        };
        let object: Option<Map<String, Value>> = serde_json::from_slice(&bytes).ok();
        let Some(object) = object.filter(|o| self.fields.iter().all(|field| o.contains_key(*field))) else {
            return Some(format!("its {marker} was not written by this program"));
        };
        atomic_output::stranger(folder, |path| path == marker || (self.belongs)(&object, path))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const KIND: FolderKind =
        FolderKind { marker: "marker", fields: &["ours"], belongs: |_, path| path == "old" };

    #[test]
    fn a_folder_of_another_kind_is_never_replaced() {
        let base = tempfile::tempdir().unwrap();
        let at = |name: &str| base.path().join(name);
        let refused = |words: &str| {
            let error = KIND.create(base.path()).map(drop).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        };
        fs::write(at("thesis.tex"), "years of work").unwrap();
        refused("has no marker");
        // Many kinds of folder have a file of a common name.
        fs::write(at("marker"), "{\"theirs\": 1}").unwrap();
        refused("was not written by this program");
        fs::write(at("marker"), "{\"ours\": 1}").unwrap();
        refused("holds thesis.tex, which would be lost");
        fs::rename(at("thesis.tex"), at("old")).unwrap();
        KIND.create(base.path()).map(drop).unwrap();
    }

    /// Core ML's own packages have other items beside the model, such as a table of update parameters.
    #[test]
    fn a_package_consists_of_the_items_of_its_manifest() {
        let base = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = base.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let item = |path: &str| serde_json::json!({ "path": format!("com.apple.CoreML/{path}") });
        let manifest = serde_json::json!({
            "fileFormatVersion": "1.0.0",
            "itemInfoEntries": { "a": item("model.mlmodel"), "b": item("weights"), "c": item("more.json") },
            "rootModelIdentifier": "a",
        });
        write(MANIFEST, &manifest.to_string());
        for name in
            ["model.mlmodel", "weights/weight.bin", "weights/0-weight.bin", "more.json", "weights/.DS_Store"]
        {
            write(&format!("Data/com.apple.CoreML/{name}"), "");
        }
        assert_eq!(PACKAGE.differs(base.path()), None);
        for name in [
            "notes.txt",
            "Data/notes.txt",
            "Data/com.apple.CoreML/model.mlmodel.bak",
            "Data/com.apple.CoreML/weights/notes.txt",
            "Data/com.apple.CoreML/weights/in/a.bin",
            "Data/com.apple.CoreML/weights.bin",
        ] {
            write(name, "");
            let reason = PACKAGE.differs(base.path()).unwrap();
            assert_eq!(reason, format!("holds {name}, which would be lost"));
            fs::remove_file(base.path().join(name)).unwrap();
            let _ = fs::remove_dir(base.path().join("Data/com.apple.CoreML/weights/in"));
        }
    }
}
