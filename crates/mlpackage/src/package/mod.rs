//! `.mlpackage` folders: written atomically, validated when read.

mod check;
mod description;
mod edit;
#[cfg(test)]
mod fault_matrix;
mod features;
mod kind;
mod refused;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use prost::Message as _;

use crate::blob::{Blob, BlobFile, StoredBlob};
use crate::dtype::DType;
use crate::error::{Error, Reason, Result};
use crate::finding::{Finding, Rule};
use crate::interface::Interface;
use crate::manifest::{MANIFEST, Manifest};
use crate::mil::elements;
use crate::mil::{self, BlobInts, BlobRef, Function, Program, TensorType, Value, ValueData};
use crate::{decode_budget, files, proto};

pub use description::{Description, Metadata};
pub use edit::PackageEdit;
pub use kind::model_type;
pub use writer::PackageWriter;

const MODEL_FOLDER: &str = "Data/com.apple.CoreML";
const MODEL_FILE: &str = "model.mlmodel";
/// The file at the root of every compiled model.
const COMPILED: &str = "coremldata.bin";
/// Limit on `model.mlmodel`. Programs are far smaller; the weights are in separate files.
const MODEL_LIMIT: u64 = 128 << 20;

/// Limit on the memory of a decoded program: a fixed amount plus an amount for each byte of the file.
/// Programs from coremltools take up to 30 bytes per byte; a file that is crafted to be small on disk and
/// large in memory takes hundreds.
const MEMORY: u64 = 64 << 20;
const MEMORY_A_BYTE: u64 = 40;

/// An opened package. Its weights stay on disk, memory-mapped.
#[derive(Debug)]
pub struct Package {
    path: PathBuf,
    manifest: Manifest,
    /// Path of `model.mlmodel`.
    model_path: PathBuf,
    model_bytes: u64,
    specification_version: i32,
    is_updatable: bool,
    description: Description,
    program: Program,
    /// By the name that constants use.
    weights: BTreeMap<String, BlobFile>,
    /// Findings about content that cannot be represented and about missing weight files. Empty once
    /// [`open`](Self::open) has succeeded.
    incomplete: Vec<Finding>,
}

impl Package {
    /// Opens a package and reads its program.
    ///
    /// [`check`](Self::check) verifies that the program follows MIL's rules; this function does not.
    ///
    /// # Errors
    ///
    /// [`Error::Manifest`], [`Error::Model`], [`Error::Blob`] or [`Error::Io`], each with the file that is
    /// wrong; [`Error::NoPackage`] if `path` is something other than a package; [`Error::GitLfsPointer`] if a
    /// file was not downloaded; [`Error::Rule`] if the program contains something that cannot be represented.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut package = Self::read(path)?;
        if let Some(finding) = package.incomplete.first() {
            return Err(Error::from(finding.clone()).in_package(path));
        }
        for file in weight_files(&package.program) {
            let file_path = weight_path(&package.model_path, &file).map_err(|e| e.in_package(path))?;
            package.weights.insert(file, BlobFile::open(&file_path)?);
        }
        Ok(package)
    }

    /// Returns every finding about the package at `path`.
    ///
    /// Unlike [`open`](Self::open), it accepts packages with errors as long as they hold an ML Program, so
    /// one error does not hide the others.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), if the package cannot be read: no folder, no manifest, no model, a model of
    /// another kind.
    pub fn check_path(path: impl AsRef<Path>) -> Result<Vec<Finding>> {
        let path = path.as_ref();
        let mut package = Self::read(path)?;
        for file in weight_files(&package.program) {
            match weight_path(&package.model_path, &file).and_then(|path| BlobFile::open(&path)) {
                Ok(opened) => drop(package.weights.insert(file, opened)),
                Err(Error::Rule { finding, .. }) => package.incomplete.push(*finding),
                // A file that was not downloaded breaks no rule: the package is not complete on this machine.
                Err(error @ Error::GitLfsPointer { .. }) => return Err(error),
                Err(error @ Error::Blob { is_cut: false, .. }) => {
                    package.incomplete.push(Finding::package(Rule::WeightFile, error.to_string()));
                }
                Err(error) => {
                    package.incomplete.push(Finding::package(Rule::WeightIncomplete, error.to_string()));
                }
            }
        }
        Ok(package.check())
    }

    /// Reads everything except the weights.
    fn read(path: &Path) -> Result<Self> {
        if path.is_file() {
            return Err(kind::refuse_file(path));
        }
        if path.join(COMPILED).exists() {
            let reason = "it is a compiled model (.mlmodelc), which cannot be read back: give the .mlpackage that it was compiled from";
            return Err(Error::NoPackage { path: path.to_owned(), reason: reason.into() });
        }
        if !path.is_dir() {
            let (kind, reason) = match path.symlink_metadata() {
                Ok(_) => (std::io::ErrorKind::NotADirectory, "it is not a folder"),
                Err(_) => (std::io::ErrorKind::NotFound, "no such folder"),
            };
            return Err(Error::io("open package", path, std::io::Error::new(kind, reason)));
        }
        let manifest = Manifest::read(path)?;
        let relative = manifest.model_path(path)?;
        let model_path = files::inside(path, &relative).map_err(|e| {
            let reason = Reason::because(format!("it lists {relative}: {e}"), e);
            Error::manifest(path.join(MANIFEST), reason)
        })?;
        let bytes = files::read_small(&model_path, MODEL_LIMIT)?;
        let bad = |reason: Reason| Error::model(&model_path, reason);
        let model = decode_model(&bytes).map_err(bad)?;
        let description = model.description.ok_or_else(|| bad("it has no description".into()))?;
        let (program, mut incomplete) = mil::program_from_proto(model.ml_program.unwrap_or_default());
        let description = Description::from_proto(description, &program, &mut incomplete);
        Ok(Self {
            path: path.to_owned(),
            manifest,
            specification_version: model.specification_version,
            is_updatable: model.is_updatable,
            description,
            program,
            weights: BTreeMap::new(),
            model_bytes: bytes.len() as u64,
            model_path,
            incomplete,
        })
    }

    /// Returns the package's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the version of the Core ML specification; 9 is the first with states.
    pub fn specification_version(&self) -> i32 {
        self.specification_version
    }

    /// Returns the description of the model.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Returns the metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.description.metadata
    }

    /// Returns the program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Returns the name of the function that runs by default.
    pub fn default_function(&self) -> &str {
        self.description.default_function()
    }

    /// Returns the function with the given name.
    ///
    /// # Errors
    ///
    /// [`Error::Model`], which lists the existing functions.
    pub fn function(&self, name: &str) -> Result<&Function> {
        self.program.functions.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.program.functions.keys().map(String::as_str).collect();
            Error::model(&self.path, format!("no function {name:?}; it has {}", known.join(", ")))
        })
    }

    /// Returns how the package describes a function to Core ML: its features and their allowed shapes.
    pub fn interface(&self, function: &str) -> Option<&Interface> {
        self.description.interface(function)
    }

    /// Returns the path of `model.mlmodel`, which holds the program.
    pub fn model_path(&self) -> &Path {
        &self.model_path
    }

    /// Returns the size of `model.mlmodel` in bytes.
    pub fn model_bytes(&self) -> u64 {
        self.model_bytes
    }

    /// Returns the total size of the weight files in bytes.
    pub fn weight_bytes(&self) -> u64 {
        self.weights.values().map(BlobFile::bytes).sum()
    }

    /// Returns the weight files, by the name that constants use.
    pub fn weight_files(&self) -> impl Iterator<Item = (&str, &BlobFile)> {
        self.weights.iter().map(|(name, file)| (name.as_str(), file))
    }

    /// Returns every finding about the package: violations of the rules of MIL, of the description and of the
    /// weight files, and what Core ML is reported to refuse. Errors are first, then reported refusals, then
    /// warnings.
    ///
    /// [`check_path`](Self::check_path) finds the same in packages that cannot be opened.
    pub fn check(&self) -> Vec<Finding> {
        check::package(self)
    }

    /// Refuses a package with an error.
    ///
    /// # Errors
    ///
    /// [`Error::Rule`] with the first error that [`check`](Self::check) finds.
    pub fn require_sound(&self) -> Result<()> {
        match self.check().into_iter().find(Finding::is_error) {
            Some(finding) => Err(Error::from(finding).in_package(&self.path)),
            None => Ok(()),
        }
    }

    /// Returns the short integer constants in weight files, on which shapes may depend. Constants in damaged
    /// blobs are left out; [`check`](Self::check) reports them.
    pub fn blob_ints(&self) -> BlobInts {
        self.blob_ints_of(&self.program, |_| None)
    }

    /// Returns the short integer constants of `program`, with the elements that `replaced` returns in place of
    /// the stored ones.
    fn blob_ints_of<'a>(
        &'a self,
        program: &Program,
        replaced: impl Fn(&BlobRef) -> Option<&'a [u8]>,
    ) -> BlobInts {
        BlobInts::of(program, |at, ty| {
            let blob = self.weights.get(&at.file)?.blob(at.offset).ok()?;
            differs(blob.dtype, blob.elements, ty).is_none().then(|| replaced(at).unwrap_or(blob.data))
        })
    }

    /// Begins a modified copy of the package.
    pub fn edit(&self) -> PackageEdit<'_> {
        PackageEdit::new(self)
    }

    /// Writes the package to another place. Its contents stay the same, and its weight files are copied byte
    /// for byte.
    ///
    /// # Errors
    ///
    /// [`Error::Model`] if `model.mlmodel` holds something that cannot be written again; [`Error::Output`],
    /// [`Error::Io`].
    pub fn save(&self, destination: impl AsRef<Path>) -> Result<()> {
        let destination = destination.as_ref();
        edit::copy(self, destination)
    }

    /// Returns the elements of a constant as f32. The conversion of fp16 and of integers of up to 16 bits is
    /// lossless.
    ///
    /// # Errors
    ///
    /// [`Error::Blob`] if the constant's blob is damaged or of another type or size; [`Error::Model`] if its
    /// elements are not numeric.
    pub fn floats(&self, value: &Value) -> Result<Vec<f32>> {
        let floats = match (&value.data, value.tensor_type()) {
            (ValueData::Immediate(literal), Some(ty)) => elements::literal_to_f32(literal, ty),
            (ValueData::Blob(_), _) => self
                .blob_of(value)?
                .and_then(|blob| elements::packed_to_f32(blob.dtype, blob.elements, blob.data)),
            _ => None,
        };
        floats.ok_or_else(|| {
            Error::model(&self.path, format!("a constant of {} cannot be read as numbers", value.ty))
        })
    }

    /// Returns the blob of a constant, checked against the constant's type; `None` for immediate values.
    ///
    /// # Errors
    ///
    /// [`Error::Blob`] if the blob is damaged, or of another type or size.
    pub fn blob_of(&self, value: &Value) -> Result<Option<Blob<'_>>> {
        self.located(value)?.map(|(file, offset)| file.blob(offset)).transpose()
    }

    /// Returns the same as [`blob_of`](Self::blob_of), as a value that may outlive the package.
    ///
    /// # Errors
    ///
    /// As [`blob_of`](Self::blob_of).
    pub fn stored_blob_of(&self, value: &Value) -> Result<Option<StoredBlob>> {
        self.located(value)?.map(|(file, offset)| file.stored(offset)).transpose()
    }

    /// Returns where a constant is stored, after comparing the blob there with the constant's type.
    fn located(&self, value: &Value) -> Result<Option<(&BlobFile, u64)>> {
        let (ValueData::Blob(at), Some(ty)) = (&value.data, value.tensor_type()) else { return Ok(None) };
        let file = self.weights.get(&at.file).ok_or_else(|| {
            Error::model(&self.path, format!("it refers to {:?}, which is not there", at.file))
        })?;
        let blob = file.blob(at.offset)?;
        match differs(blob.dtype, blob.elements, ty) {
            Some(reason) => {
                Err(Error::Blob { path: file.path().to_owned(), offset: at.offset, is_cut: false, reason })
            }
            None => Ok(Some((file, at.offset))),
        }
    }
}

/// Describes how a blob differs from the type that the program declares; `None` if they agree.
fn differs(dtype: DType, elements: usize, ty: &TensorType) -> Option<String> {
    let same = dtype == ty.dtype && Some(elements) == ty.shape.elements();
    (!same).then(|| format!("{elements} elements of {dtype}, the program declares {ty}"))
}

/// Decodes the message of an ML Program, or returns why the bytes hold none.
pub(crate) fn decode_model(bytes: &[u8]) -> Result<proto::Model, Reason> {
    // The kind is checked before decoding, because a model of another kind may be far larger than a program.
    if let Some(kind) = kind::of(bytes).filter(|kind| *kind != "an ML Program") {
        return Err(kind::no_program(kind).into());
    }
    let footprint = decode_budget::of(bytes);
    if footprint != u64::MAX && footprint > MEMORY_A_BYTE * bytes.len() as u64 + MEMORY {
        let size = bytes.len();
        return Err(format!(
            "its {size} bytes would take about {footprint} in memory, more than any program needs"
        )
        .into());
    }
    let model = proto::Model::decode(bytes)
        .map_err(|e| Reason::because(format!("it is damaged or cut short, so copy it again ({e})"), e))?;
    if model.ml_program.is_none() {
        return Err("it holds no ML Program".into());
    }
    Ok(model)
}

/// Returns the files that constants refer to.
fn weight_files(program: &Program) -> BTreeSet<String> {
    let operations = program.functions.values().flat_map(|f| f.block.all_operations());
    let blobs = operations.flat_map(|o| o.values()).flat_map(Value::blobs);
    blobs.map(|(_, blob)| blob.file.clone()).collect()
}

/// Returns the path of the file that constants call `file`.
fn weight_path(model_path: &Path, file: &str) -> Result<PathBuf> {
    let bad = |rule: Rule, reason: String| Error::from(Finding::package(rule, reason));
    let relative = file.strip_prefix("@model_path/").ok_or_else(|| {
        bad(Rule::WeightPath, format!("weight file {file:?} does not begin with @model_path/"))
    })?;
    let folder = model_path.parent().unwrap_or(Path::new("."));
    files::inside(folder, relative).map_err(|reason| {
        // The reference is valid if the file is there, but as a link that leads elsewhere.
        let is_link = files::is_plain(relative) && folder.join(relative).exists();
        bad(
            if is_link { Rule::WeightIncomplete } else { Rule::WeightPath },
            format!("weight file {file:?}: {reason}"),
        )
    })
}
