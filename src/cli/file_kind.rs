//! Recognises what a path holds by its first bytes or by the names in a folder, for messages about a file of
//! another kind than the command expects. Nothing here decides what a command accepts.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use ane_bundle::BUNDLE_MANIFEST;
use mlpackage::counted;

/// What a path holds.
///
/// Displays as a noun phrase with its article: `a GGUF file`, `a compiled Core ML model (.mlmodelc)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PathKind {
    /// Nothing.
    Missing,
    /// An empty file.
    EmptyFile,
    /// A pipe, a device or a socket; it is not opened.
    Special,
    /// The short text file that Git LFS keeps in place of a large file.
    GitLfsPointer {
        /// Size of the large file in bytes, if the pointer states it.
        bytes: Option<u64>,
    },
    /// Weights and metadata of llama.cpp.
    Gguf,
    /// Tensors in a safetensors file.
    Safetensors,
    /// An ONNX model. It has no magic bytes; the fields of its protobuf message identify it.
    Onnx,
    /// A Core ML model in a single file: a specification outside its package, or a model older than ML
    /// Programs.
    MlModel {
        /// The field of `CoreML.Specification.Model` that holds the model and so determines its type.
        field: u64,
    },
    /// A zip archive of NumPy arrays.
    Npz,
    /// One NumPy array.
    Npy,
    /// A PyTorch checkpoint: a zip archive, or a pickle from before PyTorch 1.6.
    PyTorch,
    /// A zip archive of a `.mlpackage`.
    ZippedPackage,
    /// Another zip archive.
    Zip,
    /// A Python pickle.
    Pickle,
    /// A PNG image.
    Png,
    /// A JPEG image.
    Jpeg,
    /// An image of a format that this program does not read, by name.
    OtherImage(&'static str),
    /// A file of a format that this program does not read, by name.
    Other(&'static str),
    /// JSON.
    Json,
    /// An HTML page, often an error page that a download saved under the file's name.
    Html,
    /// Text of an unknown format.
    Text,
    /// Bytes of an unknown format.
    UnknownFile,
    /// A `.mlpackage` folder.
    Package,
    /// A `.mlmodelc` folder.
    CompiledModel,
    /// A bundle that `microgpt export` wrote.
    Bundle,
    /// A checkpoint that `microgpt train` wrote.
    Checkpoint,
    /// An unfinished training run: states, and no weights yet.
    UnfinishedRun,
    /// The folder of a Hugging Face model whose type is not this program's.
    HuggingFace {
        /// `model_type` of its `config.json`.
        model_type: String,
    },
    /// A TensorFlow SavedModel folder.
    SavedModel,
    /// An empty folder.
    EmptyFolder,
    /// Another folder.
    UnknownFolder,
}

use PathKind::*;

impl fmt::Display for PathKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Missing => "nothing",
            EmptyFile => "an empty file",
            Special => "a pipe, device or socket",
            GitLfsPointer { bytes: Some(bytes) } => {
                return write!(
                    f,
                    "a Git LFS pointer to a file of {}, which was not downloaded",
                    counted(*bytes, "byte")
                );
            }
            GitLfsPointer { bytes: None } => "a Git LFS pointer to a file that was not downloaded",
            Gguf => "a GGUF file",
            Safetensors => "a safetensors file",
            Onnx => "an ONNX model",
            MlModel { field: 502 } => "the model file (.mlmodel) of a package",
            MlModel { field } => {
                let kind = mlpackage::model_type(*field).unwrap_or("of an unknown type");
                return write!(f, "a single-file Core ML model (.mlmodel): {kind}");
            }
            Npz => "a NumPy archive (.npz)",
            Npy => "a NumPy array (.npy)",
            PyTorch => "a PyTorch checkpoint",
            ZippedPackage => "a zip archive of a .mlpackage",
            Zip => "a zip archive",
            Pickle => "a Python pickle",
            Png => "a PNG image",
            Jpeg => "a JPEG image",
            OtherImage(name) | Other(name) => name,
            Json => "a JSON file",
            Html => "an HTML page",
            Text => "a text file",
            UnknownFile => "a file of an unknown format",
            Package => "a .mlpackage",
            CompiledModel => "a compiled Core ML model (.mlmodelc)",
            Bundle => "a bundle",
            Checkpoint => "a checkpoint",
            UnfinishedRun => "a training run that is not finished",
            HuggingFace { model_type } => return write!(f, "a Hugging Face model of type {model_type:?}"),
            SavedModel => "a TensorFlow SavedModel",
            EmptyFolder => "an empty folder",
            UnknownFolder => "a folder",
        })
    }
}

impl PathKind {
    /// Whether it is a folder that commands of this project write.
    pub(super) fn is_of_this_project(&self) -> bool {
        matches!(self, Bundle | Package | Checkpoint | UnfinishedRun)
    }

    /// Recognises what `path` holds. Reads a few kilobytes at most.
    ///
    /// # Errors
    ///
    /// If the system refuses to open or read it.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        match path.metadata() {
            Ok(metadata) if metadata.is_dir() => Self::of_folder(path),
            Ok(metadata) if metadata.is_file() => Self::of_file(path, metadata.len()),
            Ok(_) => Ok(Special),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Missing),
            Err(error) => Err(error),
        }
    }

    /// Whether it is an image of any format.
    pub(super) fn is_image(&self) -> bool {
        matches!(self, Png | Jpeg | OtherImage(_))
    }

    /// How to proceed with it, whichever command found it; `None` if that depends on the command.
    pub(super) fn advice(&self) -> Option<&'static str> {
        match self {
            GitLfsPointer { .. } => Some("fetch the file itself with `git lfs pull`"),
            Html => Some("it is probably the error page of a failed download: download the file again"),
            ZippedPackage => Some("unzip it first"),
            CompiledModel => {
                Some("give the .mlpackage that it was compiled from: a compiled model cannot be read back")
            }
            MlModel { field: 502 } => Some("give the .mlpackage folder that contains it"),
            MlModel { .. } => Some(
                "only ML Programs in a .mlpackage are read: convert the model that it was made from again, in coremltools with \
                 convert_to=\"mlprogram\"",
            ),
            _ => None,
        }
    }

    fn of_folder(path: &Path) -> io::Result<Self> {
        let has = |name: &str| path.join(name).exists();
        if has("Manifest.json") {
            return Ok(Package);
        }
        if has("coremldata.bin") {
            return Ok(CompiledModel);
        }
        if has(BUNDLE_MANIFEST) {
            return Ok(Bundle);
        }
        if has("config.json") {
            return Self::of_config(path);
        }
        if has("saved_model.pb") {
            return Ok(SavedModel);
        }
        let is_empty = path.read_dir()?.next().is_none();
        Ok(if is_empty { EmptyFolder } else { UnknownFolder })
    }

    /// Recognises a folder with a `config.json`, which Hugging Face and this program write for models.
    fn of_config(path: &Path) -> io::Result<Self> {
        let config = path.join("config.json");
        if !config.is_file() {
            return Ok(UnknownFolder);
        }
        let mut text = String::new();
        // A larger file, or one that is not UTF-8, is not a configuration.
        let read = File::open(config)?.take(CONFIG_LIMIT + 1).read_to_string(&mut text);
        if text.len() as u64 > CONFIG_LIMIT {
            return Ok(UnknownFolder);
        }
        if let Err(error) = read {
            return if error.kind() == io::ErrorKind::InvalidData { Ok(UnknownFolder) } else { Err(error) };
        }
        let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let own = microgpt_model::MODEL_TYPE;
        match value.get("model_type").and_then(serde_json::Value::as_str) {
            Some(model_type) if model_type != own => Ok(HuggingFace { model_type: model_type.to_owned() }),
            // A checkpoint with a damaged configuration is still a checkpoint; opening it reports the damage.
            _ if !path.join("model.safetensors").exists() && microgpt_model::Trainer::is_unfinished(path) => {
                Ok(UnfinishedRun)
            }
            _ => Ok(Checkpoint),
        }
    }

    fn of_file(path: &Path, len: u64) -> io::Result<Self> {
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
        if let Some(kind) = of_protobuf(&mut file, len)? {
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
}

/// Bytes of a file that are read to recognise it.
const HEAD: usize = 4096;

/// Size limit of a configuration, in bytes.
const CONFIG_LIMIT: u64 = 1 << 20;

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

/// Recognises a file of `len` bytes by its first bytes.
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

/// Recognises the content of a zip archive by the name of its first entry.
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

/// Limit of the fields of a protobuf message that are examined.
const FIELDS: usize = 64;

/// Recognises ONNX and Core ML models, which have no magic bytes. Both begin with a small version in field 1.
/// Then `ModelProto` of ONNX has its graph in field 7, and `Model` of Core ML its model in a field from 200
/// on.
fn of_protobuf(file: &mut BufReader<File>, len: u64) -> io::Result<Option<PathKind>> {
    file.rewind()?;
    let mut at = 0;
    for index in 0..FIELDS {
        let Some(tag) = varint(file, &mut at)? else { return Ok(None) };
        let (field, wire) = (tag >> 3, tag & 7);
        match (index, field, wire) {
            (0, 1, 0) => match varint(file, &mut at)? {
                Some(1..=64) => continue,
                _ => return Ok(None),
            },
            (0, ..) => return Ok(None),
            (_, 7, 2) => return Ok(Some(Onnx)),
            (_, 200.., 2) => return Ok(mlpackage::model_type(field).map(|_| MlModel { field })),
            _ => {}
        }
        let skipped = match wire {
            0 => varint(file, &mut at)?.map(|_| 0),
            1 => Some(8),
            2 => varint(file, &mut at)?,
            5 => Some(4),
            _ => None,
        };
        let next = skipped.and_then(|skipped| at.checked_add(skipped)).filter(|next| *next < len);
        let Some(next) = next else { return Ok(None) };
        file.seek(SeekFrom::Start(next))?;
        at = next;
    }
    Ok(None)
}

/// Reads a varint of protobuf; `None` at the end of the file, or if the bytes are not a varint.
fn varint(file: &mut BufReader<File>, at: &mut u64) -> io::Result<Option<u64>> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let mut byte = [0];
        if file.read(&mut byte)? == 0 {
            return Ok(None);
        }
        *at += 1;
        value |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// Recognises the kind of text; `None` if the bytes are not text.
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
    fn files_are_recognised_by_their_first_bytes() {
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
    fn a_file_larger_than_the_system_says_is_recognised() {
        assert_eq!(of_head(b"\x08\0\0\0\0\0\0\0{}      ", 0), None);
        assert_eq!(of_head(b"\x08\0\0\0\0\0\0\0{}      ", 16), Some(Safetensors));
    }

    /// `ir_version`, `producer_name`, `graph` of ONNX; `specificationVersion`, an empty `description` and the
    /// field of an ML Program or a neural network of Core ML. A graph larger than the read buffer is skipped,
    /// not read.
    #[test]
    fn models_without_magic_bytes_are_recognised_by_their_fields() {
        assert_eq!(kind(b"\x08\x08\x12\x07pytorch\x3a\x01\x00"), Onnx);
        assert_eq!(kind(b"\x08\x09\x12\x00\xb2\x1f\x01\x00"), MlModel { field: 502 });
        let mut large = b"\x08\x04\x12\x80\x80\x01".to_vec();
        large.extend([0; 16_384]);
        large.extend(b"\xa2\x1f\x00\x00");
        assert_eq!(kind(&large), MlModel { field: 500 });
        assert_eq!(kind(&large[..8_000]), UnknownFile);
        assert!(PathKind::MlModel { field: 500 }.to_string().contains("a neural network"));
    }

    #[test]
    fn folders_are_recognised_by_their_content() {
        let dir = tempfile::tempdir().unwrap();
        let folder = |files: &[(&str, &str)]| {
            let path = dir.path().join("folder");
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).unwrap();
            for (name, text) in files {
                fs::create_dir_all(path.join(name).parent().unwrap()).unwrap();
                fs::write(path.join(name), text).unwrap();
            }
            PathKind::of(&path).unwrap()
        };
        assert_eq!(folder(&[]), EmptyFolder);
        assert_eq!(folder(&[("Manifest.json", "{}")]), Package);
        assert_eq!(folder(&[("coremldata.bin", ""), ("model.mil", "")]), CompiledModel);
        assert_eq!(folder(&[(BUNDLE_MANIFEST, "{}")]), Bundle);
        assert_eq!(folder(&[("saved_model.pb", "")]), SavedModel);
        assert_eq!(folder(&[("notes.txt", "")]), UnknownFolder);
        let llama = r#"{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}"#;
        assert_eq!(folder(&[("config.json", llama)]), HuggingFace { model_type: "llama".into() });
        let own = format!("{{\"model_type\": {:?}}}", microgpt_model::MODEL_TYPE);
        assert_eq!(folder(&[("config.json", &own), ("model.safetensors", "")]), Checkpoint);
        assert_eq!(folder(&[("config.json", &own), ("training/step-1/state.json", "")]), UnfinishedRun);
        let large = format!("{own}{}", " ".repeat(1 << 20));
        assert_eq!(folder(&[("config.json", &large)]), UnknownFolder);
        assert_eq!(PathKind::of(&dir.path().join("nowhere")).unwrap(), Missing);
    }
}
