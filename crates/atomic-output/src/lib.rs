#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod dir;
mod error;
mod file;
mod permissions;
mod remains;
mod strangers;

pub use dir::AtomicDir;
pub use error::{Error, Result};
pub use file::{AtomicFile, check_file, commit_all, follow_links, write_file};
pub use remains::remove_remains;
pub use strangers::stranger;

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Returns the sorted names of a folder's entries.
    pub(crate) fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}
