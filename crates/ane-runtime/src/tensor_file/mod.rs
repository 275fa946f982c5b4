//! Inputs and outputs of calls as safetensors files, which are memory-mapped for reading.

#![allow(unsafe_code, reason = "maps a file")]

mod convert;
mod stacked;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use mlpackage::{ColorSpace, DType, Feature, GitLfsPointer, ImageType, Interface, Shape};
use safetensors::tensor::TensorView as FileView;
use safetensors::{Dtype, SafeTensors};

use crate::error::{BoxError, Error, Result};
use crate::tensor::{Data, Tensor};
use convert::convert;
pub use stacked::Stacked;

/// A safetensors file with the inputs of one call, or of several calls; with several, each tensor has a
/// leading axis of calls.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    map: Mmap,
}

impl TensorFile {
    /// Maps a file and checks its header.
    ///
    /// # Errors
    ///
    /// [`Error::File`] if it is not a safetensors file; [`Error::Package`] if it cannot be read, or is a Git LFS
    /// pointer.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let failed =
            |source| Error::from(mlpackage::Error::Io { action: "open", path: path.to_owned(), source });
        mlpackage::files::regular_file_size(path)?;
        let file = File::open(path).map_err(failed)?;
        // SAFETY: the map is private to this value and only read. As with every mapped file, a process that
        // truncates the file meanwhile can crash this one.
        let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
        if let Some(pointer) = GitLfsPointer::parse(&map) {
            return Err(mlpackage::Error::GitLfsPointer { path: path.to_owned(), pointer }.into());
        }
        SafeTensors::deserialize(&map).map_err(|e| {
            let reason = match map.len() {
                0 => "it is empty".to_owned(),
                _ => format!("it is damaged or cut short, not a whole safetensors file ({e})"),
            };
            Error::File { path: path.to_owned(), reason, source: Some(e.into()) }
        })?;
        Ok(Self { path: path.to_owned(), map })
    }

    fn bad(&self, tensor: &str, reason: String) -> Error {
        Error::File { path: self.path.clone(), reason: format!("tensor {tensor}: {reason}"), source: None }
    }

    fn damaged(&self, tensor: &str, error: impl Into<BoxError>) -> Error {
        let error = error.into();
        let reason = format!("tensor {tensor}: {error}");
        Error::File { path: self.path.clone(), reason, source: Some(error) }
    }

    /// Returns the names of the tensors, in no particular order.
    ///
    /// # Errors
    ///
    /// [`Error::File`] if the file has changed since it was opened.
    pub fn names(&self) -> Result<Vec<String>> {
        Ok(self.tensors()?.names().into_iter().map(str::to_owned).collect())
    }

    fn tensors(&self) -> Result<SafeTensors<'_>> {
        SafeTensors::deserialize(&self.map).map_err(|e| self.damaged("?", e))
    }

    /// Returns the inputs of a function, by name, in the types that it declares. With `call`, returns the
    /// slice of that call.
    ///
    /// # Errors
    ///
    /// [`Error::File`] with a tensor that is not an input of the function, and as for [`input`](Self::input).
    /// Missing inputs and wrong shapes are left to the engine.
    pub fn inputs(&self, function: &Interface, call: Option<Slice>) -> Result<Vec<(String, Tensor)>> {
        let input = |name: String| {
            let Some(feature) = function.inputs.iter().find(|f| f.name == name) else {
                let known: Vec<&str> = function.inputs.iter().map(|f| f.name.as_str()).collect();
                return Err(self.bad(&name, format!("the function takes {}", known.join(", "))));
            };
            let tensor = self.input(&name, feature, call)?;
            Ok((name, tensor))
        };
        self.names()?.into_iter().map(input).collect()
    }

    /// Returns a tensor as an input of a function. With `call`, returns the slice of that call.
    ///
    /// The tensor may have any type, if each of its values converts without loss to the type of the input. An
    /// image is a tensor `[1, channels, height, width]` of the components of its pixels: integers from 0 to
    /// 255, or any values if the image is of fp16.
    ///
    /// # Errors
    ///
    /// [`Error::File`] if there is no such tensor, if it lacks the leading axis, or if it holds a value that
    /// the input's type cannot hold.
    pub fn input(&self, tensor: &str, feature: &Feature, call: Option<Slice>) -> Result<Tensor> {
        let bad = |reason: String| self.bad(tensor, reason);
        let file = self.tensors()?;
        let view = file.tensor(tensor).map_err(|e| self.damaged(tensor, e))?;
        let image = feature.image();
        let dtype = match (feature.tensor(), &image) {
            (Some(ty), _) => ty.dtype,
            (None, Some(image)) if image.color_space == ColorSpace::GrayscaleFloat16 => DType::Fp16,
            (None, Some(_)) => DType::Fp32,
            (None, None) => {
                return Err(bad(format!("the input is of type {}, which a tensor cannot be", feature.ty)));
            }
        };
        let (shape, data) = match call {
            None => (view.shape(), view.data()),
            Some(Slice { step, steps }) => match view.shape().split_first() {
                Some((&first, rest)) if first == steps && step < steps => {
                    let bytes = view.data().len() / steps;
                    (rest, &view.data()[step * bytes..(step + 1) * bytes])
                }
                _ => {
                    let found = Shape::from(view.shape());
                    let input = feature.tensor().map_or_else(|| feature.ty.to_string(), ToString::to_string);
                    return Err(bad(format!(
                        "shape {found}, expected a leading axis of {steps} calls, then the axes of {input}"
                    )));
                }
            },
        };
        let data = convert(view.dtype(), data, dtype).map_err(bad)?;
        if let (Some(image), Data::F32(values)) = (&image, &data) {
            check_components(image, values).map_err(bad)?;
        }
        Tensor::with_dtype(dtype, shape, data)
    }
}

/// Refuses values that no pixel of an image can hold.
fn check_components(image: &ImageType, values: &[f32]) -> Result<(), String> {
    if image.color_space == ColorSpace::GrayscaleFloat16 {
        return Ok(());
    }
    let outside = |value: &f32| !(0.0..=255.0).contains(value) || value.fract() != 0.0;
    match values.iter().position(outside) {
        None => Ok(()),
        Some(i) => Err(format!(
            "element {i} is {}, expected an integer from 0 to 255: the input is an image, whose pixels have 8 bits a \
             channel; the package applies its own scale to them",
            values[i]
        )),
    }
}

/// One of several calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Index of the call, from 0.
    pub step: usize,
    /// Number of calls.
    pub steps: usize,
}

/// Writes tensors as a safetensors file, which appears whole or not at all. A link is followed; a pipe or device
/// is written to directly.
///
/// # Errors
///
/// [`Error::File`] if two tensors have one name; [`Error::Output`] if the file cannot be written.
pub fn write<'t>(
    path: impl AsRef<Path>,
    tensors: impl IntoIterator<Item = (&'t str, Dtype, Vec<usize>, &'t [u8])>,
) -> Result<()> {
    let path = path.as_ref();
    let bad = |reason: String, source: Option<BoxError>| Error::File {
        path: path.to_owned(),
        reason: format!("write: {reason}"),
        source,
    };
    let mut names = BTreeSet::new();
    let tensors: Vec<_> = tensors.into_iter().collect();
    if let Some((name, ..)) = tensors.iter().find(|(name, ..)| !names.insert(*name)) {
        return Err(bad(format!("two tensors are called {name}"), None));
    }
    let views: std::result::Result<Vec<_>, _> = tensors
        .into_iter()
        .map(|(name, dtype, shape, bytes)| FileView::new(dtype, shape, bytes).map(|view| (name, view)))
        .collect();
    let bytes = views
        .and_then(|views| safetensors::serialize(views, None))
        .map_err(|e| bad(e.to_string(), Some(e.into())))?;
    Ok(atomic_output::write_file(path, &bytes)?)
}
