//! `Manifest.json`, the table of contents of a package.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Reason, Result};
use crate::files;

/// The file's name in a package.
pub(crate) const MANIFEST: &str = "Manifest.json";

const VERSION: &str = "1.0.0";
const AUTHOR: &str = "com.apple.CoreML";
const LIMIT: u64 = 1 << 20;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    file_format_version: String,
    item_info_entries: BTreeMap<String, Item>,
    root_model_identifier: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Item {
    author: String,
    description: String,
    name: String,
    path: String,
}

impl Manifest {
    /// Returns the manifest of a package whose model file holds `model`. Identifiers are derived from the
    /// content, so equal models yield equal packages.
    pub(crate) fn for_model(model: &[u8]) -> Self {
        let model_id = Uuid::new_v5(&Uuid::NAMESPACE_OID, model);
        let weights_id = Uuid::new_v5(&model_id, b"weights");
        let item = |description: &str, name: &str| Item {
            author: AUTHOR.into(),
            description: description.into(),
            name: name.into(),
            path: format!("{AUTHOR}/{name}"),
        };
        Self {
            file_format_version: VERSION.into(),
            item_info_entries: BTreeMap::from([
                (model_id.to_string(), item("CoreML Model Specification", "model.mlmodel")),
                (weights_id.to_string(), item("CoreML Model Weights", "weights")),
            ]),
            root_model_identifier: model_id.to_string(),
        }
    }

    /// Serializes in coremltools' layout: sorted keys, four spaces of indentation.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
        self.serialize(&mut serializer).expect("strings serialize into memory");
        bytes.push(b'\n');
        bytes
    }

    /// Reads the manifest of a package.
    pub(crate) fn read(package: &Path) -> Result<Self> {
        let path = package.join(MANIFEST);
        if !path.exists() {
            let reason = "it does not exist: a .mlpackage is a folder that contains this file".to_owned();
            return Err(Error::manifest(path, reason));
        }
        Self::parse(&path, &files::read_small(&path, LIMIT)?)
    }

    /// Parses the manifest that is stored at `path`.
    pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let bad = |reason: String| Error::manifest(path, reason);
        // Some editors begin a text file with a byte order mark.
        let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        let manifest: Self = files::read_object(bytes, "the manifest of a .mlpackage")
            .map_err(|e| Error::manifest(path, Reason::of(e)))?;
        let version = manifest.file_format_version.as_str();
        let parts: Option<Vec<u32>> = version.split('.').map(|p| p.parse().ok()).collect();
        match parts.as_deref() {
            Some([1, 0, 0]) => Ok(manifest),
            Some([_, _, _]) => Err(bad(format!("fileFormatVersion {version}, only {VERSION} is supported"))),
            _ => Err(bad(format!("fileFormatVersion {version:?} is not a version"))),
        }
    }

    /// Returns the path of the model file, relative to the package.
    pub(crate) fn model_path(&self, package: &Path) -> Result<String> {
        let bad = |reason: String| Error::manifest(package.join(MANIFEST), reason);
        let root = &self.root_model_identifier;
        let item = self
            .item_info_entries
            .get(root)
            .ok_or_else(|| bad(format!("rootModelIdentifier {root:?} is not among itemInfoEntries")))?;
        Ok(format!("Data/{}", item.path))
    }

    /// Returns the listed paths, relative to the package.
    pub(crate) fn paths(&self) -> impl Iterator<Item = String> {
        self.item_info_entries.values().map(|item| format!("Data/{}", item.path))
    }

    /// Returns whether an item other than the model represents the weights.
    pub(crate) fn lists_weights(&self) -> bool {
        let others = self.item_info_entries.iter().filter(|(id, _)| **id != self.root_model_identifier);
        others.map(|(_, item)| item.path.as_str()).any(|path| path.split('/').any(|part| part == "weights"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(manifest: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(MANIFEST), manifest).unwrap();
        let result = Manifest::read(dir.path()).and_then(|m| m.model_path(dir.path()));
        result.unwrap_err().to_string()
    }

    #[test]
    fn identifiers_follow_from_the_content() {
        let json = |m: &[u8]| Manifest::for_model(m).to_json();
        assert_eq!(json(b"a"), json(b"a"));
        assert_ne!(json(b"a"), json(b"b"));
    }

    #[test]
    fn not_json() {
        assert!(refused("{").contains("Manifest.json"));
    }

    #[test]
    fn version_of_the_future() {
        let m = r#"{"fileFormatVersion":"2.0.0","itemInfoEntries":{},"rootModelIdentifier":"x"}"#;
        assert!(refused(m).contains("fileFormatVersion 2.0.0"));
    }

    #[test]
    fn root_not_listed() {
        let m = r#"{"fileFormatVersion":"1.0.0","itemInfoEntries":{},"rootModelIdentifier":"x"}"#;
        assert!(refused(m).contains("rootModelIdentifier \"x\""));
    }
}
