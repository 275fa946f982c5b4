//! How an earlier output is recognised, so that nothing else is ever replaced.

use std::fs;
use std::path::Path;

use atomic_output::AtomicDir;

use crate::error::Result;
use crate::paths;

/// A kind of output folder, by which an earlier output is recognised.
#[derive(Clone, Copy, Debug)]
pub struct FolderKind {
    /// The file by which it is known, a JSON object.
    pub marker: &'static str,
    /// Fields that the object has.
    pub fields: &'static [&'static str],
    /// What else stands beside the file; `*.x` for anything that ends in `.x`.
    pub entries: &'static [&'static str],
}

/// A `.mlpackage`.
pub(crate) const PACKAGE: FolderKind = FolderKind {
    marker: "Manifest.json",
    fields: &["fileFormatVersion", "itemInfoEntries", "rootModelIdentifier"],
    entries: &["Data"],
};

/// The marker is small; a file that is not is none.
const MARKER_LIMIT: u64 = 64 << 20;

impl FolderKind {
    /// Opens a folder that becomes `destination`, which may hold an earlier output of this kind.
    ///
    /// # Errors
    ///
    /// [`Error::Output`](crate::Error::Output) as [`AtomicDir::create`].
    pub fn create(self, destination: &Path) -> Result<AtomicDir> {
        Ok(AtomicDir::create(destination, move |folder| self.differs(folder))?)
    }

    /// Why `folder` is not of this kind, or holds something else as well; `None` if an output of this kind may replace it.
    pub fn differs(&self, folder: &Path) -> Option<String> {
        let marker = self.marker;
        let Ok(bytes) = paths::read_small(&folder.join(marker), MARKER_LIMIT) else {
            return Some(format!("has no {marker}"));
        };
        let object: Option<serde_json::Map<String, serde_json::Value>> = serde_json::from_slice(&bytes).ok();
        if !object.is_some_and(|o| self.fields.iter().all(|field| o.contains_key(*field))) {
            return Some(format!("its {marker} was not written by this program"));
        }
        let belongs = |name: &str| {
            let listed = |entry: &str| match entry.strip_prefix('*') {
                Some(end) => name.ends_with(end),
                None => entry == name,
            };
            name == marker || name == ".DS_Store" || self.entries.iter().any(|e| listed(e))
        };
        let names =
            fs::read_dir(folder).ok()?.flatten().map(|e| e.file_name().to_string_lossy().into_owned());
        let mut strangers: Vec<String> = names.filter(|name| !belongs(name)).collect();
        strangers.sort();
        strangers.first().map(|name| format!("holds {name}, which would be lost"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: FolderKind = FolderKind { marker: "marker", fields: &["ours"], entries: &["old"] };

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
}
