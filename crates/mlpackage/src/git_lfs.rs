//! Git LFS pointers, which replace large files that were not downloaded.

/// The short text that stands for a file whose contents Git LFS stores elsewhere, until `git lfs pull`
/// downloads them (<https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GitLfsPointer {
    /// Size of the original file in bytes; `None` if the pointer does not state it.
    pub bytes: Option<u64>,
}

/// The first line of a pointer, under its current and its original URL.
const VERSIONS: [&[u8]; 2] =
    [b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/"];

impl GitLfsPointer {
    /// Pointers are shorter than this many bytes.
    pub const LONGEST: u64 = 1024;

    /// Parses a pointer; returns `None` if the contents are something else.
    pub fn parse(contents: &[u8]) -> Option<Self> {
        if contents.len() as u64 >= Self::LONGEST || !VERSIONS.iter().any(|line| contents.starts_with(line)) {
            return None;
        }
        let text = std::str::from_utf8(contents).ok()?;
        let size = text.lines().find_map(|line| line.strip_prefix("size "));
        Some(Self { bytes: size.and_then(|size| size.trim().parse().ok()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_distinguished_from_files() {
        let text = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n";
        assert_eq!(GitLfsPointer::parse(text.as_bytes()), Some(GitLfsPointer { bytes: Some(12_345) }));
        let old = "version https://hawser.github.com/spec/v1\r\nsize 7\r\n";
        assert_eq!(GitLfsPointer::parse(old.as_bytes()), Some(GitLfsPointer { bytes: Some(7) }));
        let short = "version https://git-lfs.github.com/spec/v1\n";
        assert_eq!(GitLfsPointer::parse(short.as_bytes()), Some(GitLfsPointer { bytes: None }));
        assert_eq!(GitLfsPointer::parse(text.repeat(100).as_bytes()), None);
        assert_eq!(GitLfsPointer::parse(b"version 1"), None);
        assert_eq!(GitLfsPointer::parse(b""), None);
    }
}
