//! What Git leaves in place of a large file that was not downloaded.

/// The few lines of text that stand for a file whose contents Git LFS keeps elsewhere, until `git lfs pull` fetches them
/// (<https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GitLfsPointer {
    /// Bytes of the file that it stands for; `None` if it does not say.
    pub bytes: Option<u64>,
}

/// Pointers are shorter than this.
pub(crate) const LONGEST: u64 = 1024;

/// The first line, under its present name and its first one.
const VERSIONS: [&[u8]; 2] =
    [b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/"];

impl GitLfsPointer {
    /// The pointer that a file holds; `None` if its contents are something else.
    pub fn parse(contents: &[u8]) -> Option<Self> {
        if contents.len() as u64 >= LONGEST || !VERSIONS.iter().any(|line| contents.starts_with(line)) {
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
    fn pointers_are_told_from_files() {
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
