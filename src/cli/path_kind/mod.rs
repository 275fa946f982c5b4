//! Recognizes what a path holds by its first bytes or by the names in a folder, for messages about a file of
//! another kind than the command expects. Nothing here decides what a command accepts.

mod file;
mod folder;
mod protobuf;

use std::fmt;
use std::io;
use std::path::Path;

use mlpackage::counted;

/// What a path holds.
///
/// Displays as a noun phrase with its article: `a GGUF file`, `a compiled Core ML model (.mlmodelc)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PathKind {
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
        /// `architectures` of its `config.json`.
        architectures: Vec<String>,
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
                let kind = mlpackage::model_type(*field).unwrap_or("its type is unknown");
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
            HuggingFace { model_type, .. } => {
                return write!(f, "a Hugging Face model of type {model_type:?}");
            }
            SavedModel => "a TensorFlow SavedModel",
            EmptyFolder => "an empty folder",
            UnknownFolder => "a folder",
        })
    }
}

impl PathKind {
    /// Returns whether it is a folder that commands of this project write.
    pub(crate) fn is_of_this_project(&self) -> bool {
        matches!(self, Bundle | Package | Checkpoint | UnfinishedRun)
    }

    /// Recognizes what `path` holds. Reads a few kilobytes at most.
    ///
    /// # Errors
    ///
    /// If the system refuses to open or read it.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        match path.metadata() {
            Ok(metadata) if metadata.is_dir() => folder::kind_of(path),
            Ok(metadata) if metadata.is_file() => file::kind_of(path, metadata.len()),
            Ok(_) => Ok(Special),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Missing),
            Err(error) => Err(error),
        }
    }

    /// Returns whether it is an image of any format.
    pub(crate) fn is_image(&self) -> bool {
        matches!(self, Png | Jpeg | OtherImage(_))
    }

    /// Returns how to proceed with it, whichever command found it; `None` if that depends on the command.
    pub(crate) fn advice(&self) -> Option<&'static str> {
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
}
