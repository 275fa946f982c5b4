//! Results of several calls in one file.

use std::path::Path;

use mlpackage::Shape;
use safetensors::Dtype;

use super::convert::{file_bytes, file_dtype};
use super::write;
use crate::error::{Error, Result};
use crate::tensor::Tensors;

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
            let (dtype, bytes) = (file_dtype(tensor.data()), file_bytes(tensor.data()));
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
    /// [`Error::Output`] if the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>, stacked: bool) -> Result<()> {
        let path = path.as_ref();
        write(path, self.tensors(stacked))
    }
}
