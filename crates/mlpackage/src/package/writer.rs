//! Creation of new packages: first the weights, then the program.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use atomic_output::AtomicDir;
use prost::Message as _;

use super::description::{Description, Metadata};
use super::{MODEL_FILE, MODEL_FOLDER};
use crate::blob::BlobWriter;
use crate::error::{Error, Result};
use crate::finding::{Finding, Rule};
use crate::folder_kind;
use crate::manifest::{MANIFEST, Manifest};
use crate::mil::{self, BlobInts, Opset, Program};
use crate::proto;

/// Writes a new package: first the weights, in the order in which the program is built, then the program.
#[derive(Debug)]
#[must_use = "the package is removed unless it is finished"]
pub struct PackageWriter {
    dir: AtomicDir,
    weights: BlobWriter,
}

impl PackageWriter {
    /// Creates a package that will be stored at `destination`.
    ///
    /// # Errors
    ///
    /// [`Error::Output`] if `destination` holds something other than a package, or cannot be written; [`Error::Io`].
    pub fn create(destination: impl AsRef<Path>) -> Result<Self> {
        let destination = destination.as_ref();
        let dir = folder_kind::PACKAGE.create(destination)?;
        let weights = dir.path().join(MODEL_FOLDER).join("weights");
        fs::create_dir_all(&weights).map_err(|e| Error::io("create folder", &weights, e))?;
        let weights = BlobWriter::create(weights.join("weight.bin"))?;
        Ok(Self { dir, weights })
    }

    /// Returns the weight file, for [`FunctionBuilder::new`](crate::builder::FunctionBuilder::new).
    pub fn weights(&mut self) -> &mut BlobWriter {
        &mut self.weights
    }

    /// Writes the program and moves the package to its destination.
    ///
    /// A program of one function is described as a plain model, a program of several as a multifunction model
    /// whose default is `main`. Every shape is fixed.
    ///
    /// # Errors
    ///
    /// [`Error::Rule`] with the first rule that the program breaks; [`Error::Io`]. The destination is
    /// unchanged in both cases.
    pub fn finish(self, program: &Program, metadata: &Metadata) -> Result<()> {
        let mut description = Description::of(program);
        description.metadata = metadata.clone();
        self.finish_with(program, &description)
    }

    /// Does the same as [`finish`](Self::finish), with a description that adds to the program, such as the
    /// allowed shapes of an input or the default function.
    ///
    /// # Errors
    ///
    /// As [`finish`](Self::finish), and if the description does not match the program.
    pub fn finish_with(self, program: &Program, description: &Description) -> Result<()> {
        let version = least_specification_version(program, description);
        check(program, description, version, &self.weights.ints)?;
        let mut findings = Vec::new();
        super::check::weights::written(program, &self.weights, &mut findings);
        refuse(findings)?;
        let model = encode(program, description, version, false)?;
        self.weights.finish()?;
        let root = self.dir.path();
        write(&root.join(MODEL_FOLDER).join(MODEL_FILE), &model)?;
        write(&root.join(MANIFEST), &Manifest::for_model(&model).to_json())?;
        Ok(self.dir.commit()?)
    }
}

/// Refuses a program or description that breaks a rule.
pub(super) fn check(
    program: &Program,
    description: &Description,
    version: i32,
    ints: &BlobInts,
) -> Result<()> {
    let mut findings = crate::check::program(program, ints);
    super::check::description(program, description, version, &mut findings);
    refuse(findings)
}

/// Returns the first error as an error.
pub(super) fn refuse(findings: Vec<Finding>) -> Result<()> {
    match findings.into_iter().find(Finding::is_error) {
        Some(finding) => Err(finding.into()),
        None => Ok(()),
    }
}

/// Returns the lowest specification version that supports what the model uses.
fn least_specification_version(program: &Program, description: &Description) -> i32 {
    let opset = program.functions.values().map(|f| f.opset).max().unwrap_or(Opset::CoreML5);
    let listed = if description.is_multifunction() { Opset::CoreML8 } else { Opset::CoreML5 };
    opset.max(listed).specification_version()
}

/// Returns the bytes of `model.mlmodel`.
pub(super) fn encode(
    program: &Program,
    description: &Description,
    version: i32,
    is_updatable: bool,
) -> Result<Vec<u8>> {
    let model = proto::Model {
        specification_version: version,
        description: Some(description.to_proto()?),
        is_updatable,
        ml_program: Some(mil::program_to_proto(program)),
    };
    let size = model.encoded_len() as u64;
    if size > super::MODEL_LIMIT {
        let reason = format!("the program has {size} bytes, at most {} can be read", super::MODEL_LIMIT);
        return Err(Finding::package(Rule::Constant, reason).into());
    }
    Ok(model.encode_to_vec())
}

pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    File::create(path).and_then(|mut f| f.write_all(bytes)).map_err(|e| Error::io("write", path, e))
}
