//! Reads the architecture that a GGUF file names.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Bytes of a GGUF file that are read.
const LIMIT: u64 = 64 << 10;

/// Reads `general.architecture` of a GGUF file. The header is a list of key, type and value; the architecture
/// is among the first.
pub(super) fn architecture(path: &Path) -> Option<String> {
    let mut head = Vec::new();
    File::open(path).ok()?.take(LIMIT).read_to_end(&mut head).ok()?;
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
pub(super) mod tests {
    use super::*;

    /// Builds a GGUF header of version 3 with these strings.
    pub(in super::super) fn header(pairs: &[(&str, &str)]) -> Vec<u8> {
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
            architecture(&path)
        };
        let whole = header(&[("general.name", "tiny"), ("general.architecture", "qwen3")]);
        assert_eq!(of(&whole).as_deref(), Some("qwen3"));
        for end in 0..whole.len() {
            assert_eq!(of(&whole[..end]), None, "cut at {end}");
        }
        let mut endless = whole.clone();
        endless[24..32].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(of(&endless), None);
    }
}
