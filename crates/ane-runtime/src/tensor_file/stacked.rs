//! Results of several calls in one file.

use std::collections::HashSet;
use std::path::Path;

use mlpackage::{Shape, counted};
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
    /// [`Error::Stack`] if the results differ from those of the earlier calls in number, name, order, type or
    /// shape, or if there are none; [`Error::NoMemory`]. The results of the call are then not added.
    pub fn push(&mut self, outputs: &Tensors) -> Result<()> {
        if let Some(reason) = self.mismatch(outputs) {
            return Err(Error::Stack { reason });
        }
        if self.calls == 0 {
            self.tensors = outputs
                .iter()
                .map(|(name, tensor)| {
                    let data = tensor.data();
                    (name.to_owned(), file_dtype(data), tensor.shape().clone(), file_bytes(data))
                })
                .collect();
        } else {
            let bytes: Vec<Vec<u8>> = outputs.iter().map(|(_, tensor)| file_bytes(tensor.data())).collect();
            for ((name, _, _, all), bytes) in self.tensors.iter_mut().zip(&bytes) {
                all.try_reserve(bytes.len())
                    .map_err(|_| Error::NoMemory { name: name.clone(), bytes: all.len() })?;
            }
            self.tensors.iter_mut().zip(bytes).for_each(|((.., all), bytes)| all.extend(bytes));
        }
        self.calls += 1;
        Ok(())
    }

    /// Returns why the results of a call cannot be stacked onto those of the earlier calls.
    fn mismatch(&self, outputs: &Tensors) -> Option<String> {
        if outputs.is_empty() {
            return Some("the call has no outputs".into());
        }
        if self.calls == 0 {
            let mut seen = HashSet::new();
            let twice = outputs.iter().find(|(name, _)| !seen.insert(*name));
            return twice.map(|(name, _)| format!("the call has two outputs called {name}"));
        }
        if outputs.len() != self.tensors.len() {
            let (found, before) = (counted(outputs.len(), "output"), self.tensors.len());
            return Some(format!("the call has {found}, the calls before have {before}"));
        }
        outputs.iter().zip(&self.tensors).find_map(|((name, tensor), (expected, dtype, shape, _))| {
            let found = file_dtype(tensor.data());
            if name != expected {
                Some(format!("output {name} is where the calls before have output {expected}"))
            } else if found != *dtype {
                Some(format!("output {name} is {found:?}, and {dtype:?} in the calls before"))
            } else if tensor.shape() != shape {
                Some(format!("output {name} has shape {}, and {shape} in the calls before", tensor.shape()))
            } else {
                None
            }
        })
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
    /// [`Error::Stack`] without `stacked`, if there were several calls; [`Error::Output`] if the file cannot be
    /// written.
    pub fn write(&self, path: impl AsRef<Path>, stacked: bool) -> Result<()> {
        if !stacked && self.calls > 1 {
            let reason = format!("{} have no leading axis to be stacked along", counted(self.calls, "call"));
            return Err(Error::Stack { reason });
        }
        let path = path.as_ref();
        write(path, self.tensors(stacked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Tensor;

    fn tensors(all: &[(&str, Tensor)]) -> Tensors {
        all.iter().cloned().collect()
    }

    /// What would be paired with the wrong results is refused by name, and changes nothing.
    #[test]
    fn results_that_differ_from_those_before_are_refused() {
        let floats = |values: &[f32]| Tensor::new([values.len()], values.to_vec()).unwrap();
        let mut stacked = Stacked::default();
        stacked.push(&tensors(&[("a", floats(&[1.0])), ("b", floats(&[2.0]))])).unwrap();
        let integers = Tensor::new([1], vec![7]).unwrap();
        for (outputs, expected) in [
            (vec![], "the call has no outputs"),
            (vec![("a", floats(&[3.0]))], "the call has 1 output, the calls before have 2"),
            (
                vec![("b", floats(&[3.0])), ("a", floats(&[4.0]))],
                "output b is where the calls before have output a",
            ),
            (vec![("a", floats(&[3.0])), ("b", integers)], "output b is I32, and F32 in the calls before"),
            (
                vec![("a", floats(&[3.0])), ("b", floats(&[4.0, 5.0]))],
                "output b has shape [2], and [1] in the calls before",
            ),
        ] {
            let error = stacked.push(&tensors(&outputs)).unwrap_err().to_string();
            assert_eq!(error, format!("{expected}: run the calls one by one"));
        }
        stacked.push(&tensors(&[("a", floats(&[3.0])), ("b", floats(&[4.0]))])).unwrap();
        let bytes = |values: [f32; 2]| values.map(f32::to_le_bytes).concat();
        let found: Vec<_> =
            stacked.tensors(true).map(|(name, _, shape, b)| (name, shape, b.to_vec())).collect();
        assert_eq!(found, [("a", vec![2, 1], bytes([1.0, 3.0])), ("b", vec![2, 1], bytes([2.0, 4.0]))]);
        let error = stacked.write("never written", false).unwrap_err().to_string();
        assert_eq!(error, "2 calls have no leading axis to be stacked along: run the calls one by one");
    }

    #[test]
    fn a_first_call_needs_results_with_names_of_their_own() {
        let mut stacked = Stacked::default();
        let error = stacked.push(&Tensors::default()).unwrap_err().to_string();
        assert_eq!(error, "the call has no outputs: run the calls one by one");
        let one = Tensor::new([1], vec![1.0]).unwrap();
        let error =
            stacked.push(&tensors(&[("a", one.clone()), ("a", one.clone())])).unwrap_err().to_string();
        assert_eq!(error, "the call has two outputs called a: run the calls one by one");
        stacked.push(&tensors(&[("a", one)])).unwrap();
        assert_eq!(stacked.bytes(), 4);
    }
}
