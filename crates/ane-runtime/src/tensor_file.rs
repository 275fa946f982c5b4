//! Inputs and outputs of calls as safetensors files, which are memory-mapped for reading.

#![allow(unsafe_code, reason = "maps a file")]

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use memmap2::Mmap;
use mlpackage::{ColorSpace, DType, Feature, GitLfsPointer, ImageType, Interface, Shape};
use safetensors::tensor::TensorView as FileView;
use safetensors::{Dtype, SafeTensors};

use crate::error::{Error, Result};
use crate::tensor::{Data, Tensor, Tensors};

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
    /// [`Error::File`] if it cannot be read, or is not a safetensors file; [`Error::Package`] if it is a Git
    /// LFS pointer.
    pub fn open(path: &Path) -> Result<Self> {
        let bad = |reason: String| Error::File { path: path.to_owned(), reason };
        let metadata = std::fs::metadata(path).map_err(|e| bad(e.to_string()))?;
        if !metadata.is_file() {
            return Err(bad("it is not a regular file".into()));
        }
        let file = File::open(path).map_err(|e| bad(e.to_string()))?;
        // SAFETY: the map is private to this value and only read. As with every mapped file, a process that
        // truncates the file meanwhile can crash this one.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| bad(e.to_string()))?;
        if let Some(pointer) = GitLfsPointer::parse(&map) {
            return Err(mlpackage::Error::GitLfsPointer { path: path.to_owned(), pointer }.into());
        }
        SafeTensors::deserialize(&map).map_err(|e| match map.len() {
            0 => bad("it is empty".into()),
            _ => bad(format!("it is damaged or cut short, not a whole safetensors file ({e})")),
        })?;
        Ok(Self { path: path.to_owned(), map })
    }

    fn bad(&self, tensor: &str, reason: String) -> Error {
        Error::File { path: self.path.clone(), reason: format!("tensor {tensor}: {reason}") }
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
        SafeTensors::deserialize(&self.map).map_err(|e| self.bad("?", e.to_string()))
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
        let view = file.tensor(tensor).map_err(|e| bad(e.to_string()))?;
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

/// A value between two types: every value that a file may hold is an f64 or an i128.
#[derive(Clone, Copy)]
enum Number {
    Float(f64),
    Int(i128),
}

/// Converts elements of a file to elements of a tensor of type `to`.
fn convert(from: Dtype, bytes: &[u8], to: DType) -> Result<Data, String> {
    fn each<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> Number) -> Vec<Number> {
        bytes.as_chunks::<N>().0.iter().map(|b| read(*b)).collect()
    }
    let float = |v: f64| Number::Float(v);
    let numbers = match from {
        Dtype::BOOL => each(bytes, |[b]| Number::Int(i128::from(b != 0))),
        Dtype::U8 => each(bytes, |[b]| Number::Int(b.into())),
        Dtype::I8 => each(bytes, |[b]| Number::Int((b as i8).into())),
        Dtype::U16 => each(bytes, |b| Number::Int(u16::from_le_bytes(b).into())),
        Dtype::I16 => each(bytes, |b| Number::Int(i16::from_le_bytes(b).into())),
        Dtype::U32 => each(bytes, |b| Number::Int(u32::from_le_bytes(b).into())),
        Dtype::I32 => each(bytes, |b| Number::Int(i32::from_le_bytes(b).into())),
        Dtype::U64 => each(bytes, |b| Number::Int(u64::from_le_bytes(b).into())),
        Dtype::I64 => each(bytes, |b| Number::Int(i64::from_le_bytes(b).into())),
        Dtype::F16 => each(bytes, |b| float(f16::from_le_bytes(b).into())),
        Dtype::BF16 => each(bytes, |b| float(bf16::from_le_bytes(b).into())),
        Dtype::F32 => each(bytes, |b| float(f32::from_le_bytes(b).into())),
        Dtype::F64 => each(bytes, |b| float(f64::from_le_bytes(b))),
        other => return Err(format!("its type {other:?} is not supported, expected {to}")),
    };
    let lost = |index: usize, value: &dyn std::fmt::Display| {
        format!("element {index} is {value}, which {to} cannot hold exactly: convert the file first")
    };
    if to.is_float() {
        let mut values = Vec::with_capacity(numbers.len());
        for (i, number) in numbers.into_iter().enumerate() {
            let exact = match number {
                Number::Float(v) => v,
                // An f64 holds every integer that fp32 holds.
                Number::Int(v) if (v as f64) as i128 == v => v as f64,
                Number::Int(v) => return Err(lost(i, &v)),
            };
            let value = if to == DType::Fp16 { f16::from_f64(exact).to_f32() } else { exact as f32 };
            if f64::from(value) != exact && !exact.is_nan() {
                return Err(lost(i, &exact));
            }
            values.push(value);
        }
        return Ok(Data::F32(values));
    }
    let whole = |i: usize, number: Number| match number {
        Number::Int(v) => Ok(v),
        Number::Float(v) if v.fract() == 0.0 && v.abs() < 1e18 => Ok(v as i128),
        Number::Float(v) => Err(lost(i, &v)),
    };
    if to == DType::Bool {
        let mut values = Vec::with_capacity(numbers.len());
        for (i, number) in numbers.into_iter().enumerate() {
            match whole(i, number)? {
                v @ (0 | 1) => values.push(v == 1),
                v => return Err(lost(i, &v)),
            }
        }
        return Ok(Data::Bool(values));
    }
    let (low, high) = match to {
        DType::Int8 => (-128, 127),
        DType::Uint8 => (0, 255),
        DType::Int16 => (-32_768, 32_767),
        DType::Uint16 => (0, 65_535),
        _ => (i128::from(i32::MIN), i128::from(i32::MAX)),
    };
    let mut values = Vec::with_capacity(numbers.len());
    for (i, number) in numbers.into_iter().enumerate() {
        match whole(i, number)? {
            v if (low..=high).contains(&v) => values.push(v as i32),
            v => return Err(lost(i, &v)),
        }
    }
    Ok(Data::I32(values))
}

/// The results of several calls, stacked along a leading axis.
#[derive(Debug, Default)]
pub struct Stacked {
    calls: usize,
    tensors: Vec<(String, Dtype, Shape, Vec<u8>)>,
}

impl Stacked {
    /// Adds the results of a call.
    ///
    /// # Errors
    ///
    /// [`Error::Stack`] if the shape of a result differs from its shape in the earlier calls; [`Error::NoMemory`].
    pub fn push(&mut self, outputs: &Tensors) -> Result<()> {
        for (i, (name, tensor)) in outputs.iter().enumerate() {
            let (dtype, bytes): (Dtype, Vec<u8>) = match tensor.data() {
                Data::F32(v) => (Dtype::F32, v.iter().flat_map(|v| v.to_le_bytes()).collect()),
                Data::I32(v) => (Dtype::I32, v.iter().flat_map(|v| v.to_le_bytes()).collect()),
                Data::Bool(v) => (Dtype::BOOL, v.iter().map(|v| u8::from(*v)).collect()),
            };
            match self.tensors.get_mut(i) {
                None => self.tensors.push((name.to_owned(), dtype, tensor.shape().clone(), bytes)),
                Some((_, _, shape, all)) if shape == tensor.shape() => {
                    all.try_reserve(bytes.len())
                        .map_err(|_| Error::NoMemory { name: name.to_owned(), bytes: all.len() })?;
                    all.extend(bytes);
                }
                Some((_, _, shape, _)) => {
                    return Err(Error::Stack {
                        name: name.to_owned(),
                        found: tensor.shape().clone(),
                        before: shape.clone(),
                    });
                }
            }
        }
        self.calls += 1;
        Ok(())
    }

    /// Returns the size of all results so far, in bytes.
    pub fn bytes(&self) -> u64 {
        self.tensors.iter().map(|(.., bytes)| bytes.len() as u64).sum()
    }

    /// Returns all tensors, as [`write()`] accepts them: floats as F32, integers as I32. With `stacked`, each
    /// tensor has a leading axis of calls; without it, there must have been one call.
    pub fn tensors(&self, stacked: bool) -> impl Iterator<Item = (&str, Dtype, Vec<usize>, &[u8])> {
        self.tensors.iter().map(move |(name, dtype, shape, bytes)| {
            let calls = if stacked { vec![self.calls] } else { Vec::new() };
            (name.as_str(), *dtype, [&calls, shape.dims()].concat(), bytes.as_slice())
        })
    }

    /// Writes all tensors as a safetensors file: floats as F32, integers as I32. With `stacked`, each tensor
    /// has a leading axis of calls; without it, there must have been one call. The file appears whole or not
    /// at all.
    ///
    /// # Errors
    ///
    /// [`Error::Package`] if the file cannot be written.
    pub fn write(&self, path: &Path, stacked: bool) -> Result<()> {
        write(path, self.tensors(stacked))
    }
}

/// Writes tensors as a safetensors file, which appears whole or not at all. A link is followed; a pipe or device is written to directly.
///
/// # Errors
///
/// [`Error::File`] if two tensors have one name; [`Error::Package`] if the file cannot be written.
pub fn write<'t>(
    path: &Path,
    tensors: impl IntoIterator<Item = (&'t str, Dtype, Vec<usize>, &'t [u8])>,
) -> Result<()> {
    let bad = |reason: String| Error::File { path: path.to_owned(), reason: format!("write: {reason}") };
    let mut names = BTreeSet::new();
    let tensors: Vec<_> = tensors.into_iter().collect();
    if let Some((name, ..)) = tensors.iter().find(|(name, ..)| !names.insert(*name)) {
        return Err(bad(format!("two tensors are called {name}")));
    }
    let views: std::result::Result<Vec<_>, _> = tensors
        .into_iter()
        .map(|(name, dtype, shape, bytes)| FileView::new(dtype, shape, bytes).map(|view| (name, view)))
        .collect();
    let bytes =
        views.and_then(|views| safetensors::serialize(views, None)).map_err(|e| bad(e.to_string()))?;
    Ok(atomic_output::write_file(path, &bytes).map_err(mlpackage::Error::from)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn what_converts_without_loss_is_taken() {
        let exact = floats(&[1.5, -2048.0, f32::INFINITY]);
        assert_eq!(
            convert(Dtype::F32, &exact, DType::Fp16).unwrap(),
            Data::F32(vec![1.5, -2048.0, f32::INFINITY])
        );
        assert_eq!(convert(Dtype::F32, &floats(&[3.0]), DType::Int32).unwrap(), Data::I32(vec![3]));
        assert_eq!(convert(Dtype::I64, &7i64.to_le_bytes(), DType::Int32).unwrap(), Data::I32(vec![7]));
        assert_eq!(convert(Dtype::U8, &[0, 1], DType::Bool).unwrap(), Data::Bool(vec![false, true]));
        assert_eq!(
            convert(Dtype::I32, &2049i32.to_le_bytes(), DType::Fp32).unwrap(),
            Data::F32(vec![2049.0])
        );
        let Data::F32(nan) = convert(Dtype::F32, &floats(&[f32::NAN]), DType::Fp16).unwrap() else {
            panic!()
        };
        assert!(nan[0].is_nan());
    }

    #[test]
    fn what_does_not_is_named() {
        let refused = |from, bytes: &[u8], to| convert(from, bytes, to).unwrap_err();
        let lost = refused(Dtype::F32, &floats(&[1.0, 0.1]), DType::Fp16);
        assert_eq!(
            lost,
            "element 1 is 0.10000000149011612, which fp16 cannot hold exactly: convert the file first"
        );
        assert!(refused(Dtype::I32, &2049i32.to_le_bytes(), DType::Fp16).contains("2049"));
        assert!(refused(Dtype::F32, &floats(&[1.5]), DType::Int32).contains("1.5"));
        assert!(refused(Dtype::I64, &(1i64 << 40).to_le_bytes(), DType::Int32).contains("1099511627776"));
        assert!(refused(Dtype::U64, &u64::MAX.to_le_bytes(), DType::Fp32).contains("18446744073709551615"));
        assert!(refused(Dtype::I32, &2i32.to_le_bytes(), DType::Bool).contains("element 0 is 2"));
    }
}
