//! Modified copies of packages.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

use prost::Message as _;

use super::{Description, MODEL_LIMIT, Package, writer};
use crate::blob::{Blob, BlobFile};
use crate::error::{Error, Reason, Result};
use crate::folder_kind;
use crate::mil::{BlobRef, Program, Value};
use crate::{files, mil, proto};

/// A copy of a package with changes to its program, description or weights.
///
/// ```no_run
/// # fn main() -> mlpackage::Result<()> {
/// use mlpackage::Package;
///
/// let package = Package::open("model.mlpackage")?;
/// let mut edit = package.edit();
/// edit.description_mut().metadata.author = "A. N. Other".into();
/// edit.save("signed.mlpackage")
/// # }
/// ```
#[derive(Debug)]
pub struct PackageEdit<'p> {
    package: &'p Package,
    program: Program,
    description: Description,
    /// New contents of blobs, by file and offset.
    blobs: BTreeMap<(String, u64), Vec<u8>>,
}

impl<'p> PackageEdit<'p> {
    pub(super) fn new(package: &'p Package) -> Self {
        Self {
            package,
            program: package.program.clone(),
            description: package.description.clone(),
            blobs: BTreeMap::new(),
        }
    }

    /// Returns the program of the copy, to be changed.
    pub fn program_mut(&mut self) -> &mut Program {
        &mut self.program
    }

    /// Returns the description of the copy, to be changed.
    pub fn description_mut(&mut self) -> &mut Description {
        &mut self.description
    }

    /// Replaces the elements of a blob. Their packing, type and number stay the same.
    ///
    /// # Errors
    ///
    /// [`Error::Blob`] if there is no such blob or `data` has another size; [`Error::Model`] if there is no
    /// such weight file.
    pub fn replace_blob(&mut self, at: &BlobRef, data: Vec<u8>) -> Result<()> {
        let file = self.package.weights.get(&at.file).ok_or_else(|| {
            Error::model(&self.package.path, format!("it has no weight file {:?}", at.file))
        })?;
        check_size(file, at.offset, &data)?;
        self.blobs.insert((at.file.clone(), at.offset), data);
        Ok(())
    }

    /// Writes the copy. The destination may be the package itself. Files that the program does not refer to
    /// are copied too.
    ///
    /// # Errors
    ///
    /// [`Error::Rule`] if the changed program or description breaks a rule; otherwise as [`Package::save`].
    pub fn save(self, destination: impl AsRef<Path>) -> Result<()> {
        let destination = destination.as_ref();
        self.save_with(destination, |_, _| None)
    }

    /// Writes the copy as [`save`](Self::save) does, and passes every blob to `rewrite`, one after the other.
    ///
    /// `rewrite` sees each blob that the program uses and that was not [replaced](Self::replace_blob). If it
    /// returns elements, they replace the blob's. Memory use depends on the largest tensor, not on the model.
    ///
    /// # Errors
    ///
    /// As [`save`](Self::save), and as [`replace_blob`](Self::replace_blob).
    pub fn save_with(
        mut self,
        destination: impl AsRef<Path>,
        mut rewrite: impl FnMut(&BlobRef, Blob<'_>) -> Option<Vec<u8>>,
    ) -> Result<()> {
        let destination = destination.as_ref();
        let replaced = |at: &BlobRef| self.blobs.get(&(at.file.clone(), at.offset)).map(Vec::as_slice);
        let ints = self.package.blob_ints_of(&self.program, replaced);
        writer::check(&self.program, &self.description, self.package.specification_version, &ints)?;
        let mut findings = Vec::new();
        super::check::weights::changed(&self.program, self.package, &mut findings);
        writer::refuse(findings)?;
        let mut blobs = std::mem::take(&mut self.blobs);
        let mut next = |at: &BlobRef, blob: Blob<'_>| match blobs.remove(&(at.file.clone(), at.offset)) {
            Some(data) => Some(data),
            None => rewrite(at, blob),
        };
        write(self.package, &self.program, &self.description, &mut next, destination)
    }
}

/// Returns a blob's new elements; `None` keeps the old ones.
type Rewrite<'r> = dyn FnMut(&BlobRef, Blob<'_>) -> Option<Vec<u8>> + 'r;

/// Writes the package without changes.
pub(super) fn copy(package: &Package, destination: &Path) -> Result<()> {
    write(package, &package.program, &package.description, &mut |_, _| None, destination)
}

fn write(
    package: &Package,
    program: &Program,
    description: &Description,
    rewrite: &mut Rewrite<'_>,
    destination: &Path,
) -> Result<()> {
    refuse_loss(package)?;
    refuse_inside(package, destination)?;
    let model = writer::encode(program, description, package.specification_version, package.is_updatable)?;
    let dir = folder_kind::PACKAGE.create(destination)?;
    let model_file = relative(package, &package.model_path)?;
    // A package without weights also lists the folder of weights, which is then empty.
    for listed in package.manifest.paths() {
        if files::inside(&package.path, &listed).is_ok_and(|path| path.is_dir()) {
            let target = dir.path().join(&listed);
            fs::create_dir_all(&target).map_err(|e| Error::io("create folder", &target, e))?;
        }
    }
    for file in files::files_below(&package.path)? {
        let target = dir.path().join(&file);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(|e| Error::io("create folder", parent, e))?;
        }
        if file == model_file {
            writer::write(&target, &model)?;
        } else {
            let source = package.path.join(&file);
            fs::copy(&source, &target).map_err(|e| Error::io("copy", &source, e))?;
        }
    }
    for at in blobs_of(program) {
        let Some(file) = package.weights.get(&at.file) else { continue };
        let Some(data) = rewrite(&at, file.blob(at.offset)?) else { continue };
        check_size(file, at.offset, &data)?;
        let start = file.data_offset(at.offset)?;
        let target = dir.path().join(relative(package, file.path())?);
        let patch = |path: &Path| -> std::io::Result<()> {
            let mut file = File::options().write(true).open(path)?;
            file.seek(SeekFrom::Start(start))?;
            file.write_all(&data)
        };
        patch(&target).map_err(|e| Error::io("write", &target, e))?;
    }
    Ok(dir.commit()?)
}

/// Refuses a destination in the package, which would become part of the package that is copied.
fn refuse_inside(package: &Package, destination: &Path) -> Result<()> {
    let folder = destination.parent().filter(|folder| !folder.as_os_str().is_empty());
    let (Ok(folder), Ok(root)) =
        (folder.unwrap_or(Path::new(".")).canonicalize(), package.path.canonicalize())
    else {
        return Ok(());
    };
    if folder.starts_with(&root) {
        let reason = format!("it is inside the package that is copied, {}", package.path.display());
        return Err(Error::io("write", destination, std::io::Error::other(reason)));
    }
    Ok(())
}

/// Returns every blob that a program uses, once, ordered by file and offset.
fn blobs_of(program: &Program) -> Vec<BlobRef> {
    let operations = program.functions.values().flat_map(|f| f.block.all_operations());
    let blobs = operations.flat_map(|o| o.values()).flat_map(Value::blobs).map(|(_, at)| at.clone());
    let mut blobs: Vec<BlobRef> = blobs.collect();
    blobs.sort_by(|a, b| (&a.file, a.offset).cmp(&(&b.file, b.offset)));
    blobs.dedup();
    blobs
}

/// Refuses new elements whose size in bytes differs from the blob's.
fn check_size(file: &BlobFile, offset: u64, data: &[u8]) -> Result<()> {
    let blob = file.blob(offset)?;
    if blob.data.len() == data.len() {
        return Ok(());
    }
    let (found, given) = (blob.data.len(), data.len());
    let reason = format!("{given} bytes given, it has {found} for {} of {}", blob.elements, blob.dtype);
    Err(Error::Blob { path: file.path().to_owned(), offset, is_cut: false, reason })
}

/// Returns the path of a file relative to the package, with `/` between folders.
fn relative(package: &Package, file: &Path) -> Result<String> {
    let relative = file.strip_prefix(&package.path).map_err(|e| {
        Error::model(file, Reason::because(format!("it is not inside {}", package.path.display()), e))
    })?;
    Ok(relative.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/"))
}

/// Refuses a package whose model contains something that the typed data cannot represent; saving would
/// silently lose it.
fn refuse_loss(package: &Package) -> Result<()> {
    let bytes = files::read_small(&package.model_path, MODEL_LIMIT)?;
    let bad = |reason: Reason| Error::model(&package.model_path, reason);
    let model = proto::Model::decode(bytes.as_slice()).map_err(|e| bad(Reason::of(e)))?;
    let description = package.description.to_proto()?;
    let program = mil::program_to_proto(&package.program);
    // The comparison uses bytes, because NaN values never compare equal. Every map is sorted.
    let changed = if model.description.unwrap_or_default().encode_to_vec() != description.encode_to_vec() {
        "the description"
    } else if model.ml_program.unwrap_or_default().encode_to_vec() != program.encode_to_vec() {
        "the program"
    } else {
        return Ok(());
    };
    Err(bad(format!("{changed} contains something that this version cannot write, or the file has changed")
        .into()))
}
