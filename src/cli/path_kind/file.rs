//! Recognizes a file by its first bytes.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use super::PathKind::{self, *};
use super::protobuf;

/// Bytes of a file that are read to recognize it.
const HEAD: usize = 4096;

/// Recognizes a file of `len` bytes.
pub(super) fn kind_of(path: &Path, len: u64) -> io::Result<PathKind> {
    let mut file = BufReader::new(File::open(path)?);
    let mut head = vec![0; HEAD];
    let mut filled = 0;
    while filled < HEAD {
        match file.read(&mut head[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    head.truncate(filled);
    if let Some(kind) = of_head(&head, len) {
        return Ok(kind);
    }
    if let Some(kind) = protobuf::kind_of(&mut file, len)? {
        return Ok(kind);
    }
    if head.first() == Some(&0x80) && (2..=5).contains(head.get(1).unwrap_or(&0)) && len > 2 {
        file.seek(SeekFrom::End(-1))?;
        if file.fill_buf()?.first() == Some(&b'.') {
            return Ok(Pickle);
        }
    }
    Ok(of_text(&head).unwrap_or(UnknownFile))
}

/// Magic bytes with their offset, and the kind that they identify.
const MAGIC: &[(usize, &[u8], PathKind)] = &[
    (0, b"GGUF", Gguf),
    (0, b"\x89PNG\r\n\x1a\n", Png),
    (0, b"\xff\xd8\xff", Jpeg),
    (0, b"\x93NUMPY", Npy),
    // The magic number with which torch.save began a file before PyTorch 1.6, as a pickle.
    (0, b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", PyTorch),
    (0, b"GIF8", OtherImage("a GIF image")),
    (8, b"WEBP", OtherImage("a WebP image")),
    (0, b"II*\0", OtherImage("a TIFF image")),
    (0, b"MM\0*", OtherImage("a TIFF image")),
    (4, b"ftypheic", OtherImage("a HEIC image")),
    (4, b"ftypheix", OtherImage("a HEIC image")),
    (4, b"ftypmif1", OtherImage("a HEIF image")),
    (4, b"ftypavif", OtherImage("an AVIF image")),
    (0, b"ggjt", Other("a GGML file, which GGUF replaced")),
    (0, b"lmgg", Other("a GGML file, which GGUF replaced")),
    (0, b"\x89HDF\r\n\x1a\n", Other("an HDF5 file, such as Keras writes")),
    (4, b"TFL3", Other("a TensorFlow Lite model")),
    (0, b"\x1f\x8b", Other("a gzip archive")),
    (0, b"\x28\xb5\x2f\xfd", Other("a Zstandard archive")),
    (257, b"ustar", Other("a tar archive")),
    (0, b"%PDF-", Other("a PDF document")),
];

/// Recognizes a file of `len` bytes by its first bytes.
fn of_head(head: &[u8], len: u64) -> Option<PathKind> {
    if head.is_empty() {
        return Some(EmptyFile);
    }
    if let Some(pointer) = mlpackage::GitLfsPointer::parse(head) {
        return Some(GitLfsPointer { bytes: pointer.bytes });
    }
    let magic = MAGIC.iter().find(|(at, magic, _)| head.get(*at..).is_some_and(|h| h.starts_with(magic)));
    if let Some((_, _, kind)) = magic {
        return Some(kind.clone());
    }
    if head.starts_with(b"BM") && head.get(2..6).is_some_and(|size| size == &(len as u32).to_le_bytes()[..]) {
        return Some(OtherImage("a BMP image"));
    }
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        return Some(of_zip(head));
    }
    // The length of the header, then the header: a JSON object.
    let (length, header) = head.split_first_chunk::<8>()?;
    let length = u64::from_le_bytes(*length);
    (header.first() == Some(&b'{') && length >= 2 && length <= len.saturating_sub(8)).then_some(Safetensors)
}

/// Recognizes the content of a zip archive by the name of its first entry.
fn of_zip(head: &[u8]) -> PathKind {
    let length = head.get(26..28).map_or(0, |bytes| usize::from(bytes[0]) | usize::from(bytes[1]) << 8);
    let name = head.get(30..).map_or(&[][..], |rest| &rest[..length.min(rest.len())]);
    let name = String::from_utf8_lossy(name);
    let is_torch = name.split_once('/').is_some_and(|(_, file)| {
        ["data.pkl", "data/0", ".format_version", ".storage_alignment", "byteorder", "version"]
            .contains(&file)
    });
    if name.ends_with(".npy") {
        Npz
    } else if is_torch {
        PyTorch
    } else if name.split('/').any(|part| part.ends_with(".mlpackage")) || name == "Manifest.json" {
        ZippedPackage
    } else {
        Zip
    }
}

/// Recognizes the kind of text; `None` if the bytes are not text.
fn of_text(head: &[u8]) -> Option<PathKind> {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // The end of the bytes cuts a character in two.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    if text.chars().any(|c| c.is_control() && !c.is_ascii_whitespace()) {
        return None;
    }
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let begins = |word: &str| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    Some(if begins("<!doctype html") || begins("<html") {
        Html
    } else if text.starts_with(['{', '[']) {
        Json
    } else {
        Text
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn kind(bytes: &[u8]) -> PathKind {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, bytes).unwrap();
        PathKind::of(&path).unwrap()
    }

    /// Builds a local file header of a zip archive.
    fn zip(name: &str) -> Vec<u8> {
        let mut bytes = b"PK\x03\x04".to_vec();
        bytes.extend([0; 22]);
        bytes.extend((name.len() as u16).to_le_bytes());
        bytes.extend([0; 2]);
        bytes.extend(name.as_bytes());
        bytes
    }

    #[test]
    fn files_are_recognized_by_their_first_bytes() {
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
        assert_eq!(kind(pointer.as_bytes()), GitLfsPointer { bytes: Some(12_345) });
        assert_eq!(kind(b""), EmptyFile);
        assert_eq!(kind(b"GGUF\x03\0\0\0"), Gguf);
        assert_eq!(kind(b"\x89PNG\r\n\x1a\n\0\0"), Png);
        assert_eq!(kind(b"\xff\xd8\xff\xe0\0\x10JFIF"), Jpeg);
        assert_eq!(kind(b"\x93NUMPY\x01\0"), Npy);
        assert_eq!(kind(b"\x80\x04\x95\x05\0\0\0\0\0\0\0K\x01."), Pickle);
        assert_eq!(kind(b"\x08\0\0\0\0\0\0\0{}      "), Safetensors);
        assert_eq!(kind(&zip("arr_0.npy")), Npz);
        assert_eq!(kind(&zip("model/data.pkl")), PyTorch);
        assert_eq!(kind(&zip("script/data/0")), PyTorch);
        assert_eq!(kind(&zip("net.mlpackage/Manifest.json")), ZippedPackage);
        assert_eq!(kind(&zip("letter.docx")), Zip);
        assert_eq!(kind(b"  {\"a\": 1}"), Json);
        assert_eq!(kind(b"<!DOCTYPE html><title>404"), Html);
        assert_eq!(kind("Grüße".as_bytes()), Text);
        assert_eq!(kind(b"\x00\x01\x02"), UnknownFile);
    }

    /// The system gives files of `/proc` the size 0.
    #[test]
    fn a_file_larger_than_the_system_says_is_recognized() {
        assert_eq!(of_head(b"\x08\0\0\0\0\0\0\0{}      ", 0), None);
        assert_eq!(of_head(b"\x08\0\0\0\0\0\0\0{}      ", 16), Some(Safetensors));
    }
}
