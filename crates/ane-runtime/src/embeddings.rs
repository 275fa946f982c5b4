//! The embedding tables that the host looks up: tokens and positions.

use ane_bundle::Bundle;
use half::f16;
use safetensors::{Dtype, SafeTensors};

use crate::error::{BoxError, Error, Result};

/// Embedding tables in fp16. The decode graph's input is the sum of a row of each.
#[derive(Clone, Debug)]
pub struct Embeddings {
    token: Vec<f16>,    // [V, C]
    position: Vec<f16>, // [S, C]
    n_embd: usize,
    vocab_size: usize,
    context_length: usize,
}

impl Embeddings {
    /// Reads the tables of a bundle.
    ///
    /// # Errors
    ///
    /// [`Error::BundlePart`] with the tensor that is missing, not fp16, or of the wrong shape.
    pub fn from_bundle(bundle: &Bundle) -> Result<Self> {
        let manifest = bundle.manifest();
        let tables = &manifest.embeddings;
        let a = &manifest.architecture;
        let path = bundle.file(&tables.file)?;
        let bad = |what: &str, reason: String, source: Option<BoxError>| Error::BundlePart {
            path: bundle.path().to_owned(),
            what: what.to_owned(),
            reason,
            source,
        };
        let bytes = std::fs::read(&path).map_err(|e| bad(&tables.file, e.to_string(), Some(e.into())))?;
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|e| bad(&tables.file, format!("not a safetensors file: {e}"), Some(e.into())))?;
        let table = |name: &str, rows: usize| -> Result<Vec<f16>> {
            let what = format!("{}: tensor {name}", tables.file);
            let view = file.tensor(name).map_err(|e| bad(&what, e.to_string(), Some(e.into())))?;
            if view.dtype() != Dtype::F16 || view.shape() != [rows, a.n_embd] {
                let found =
                    format!("{:?} {:?}, expected F16 {:?}", view.dtype(), view.shape(), [rows, a.n_embd]);
                return Err(bad(&what, found, None));
            }
            Ok(view.data().chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]])).collect())
        };
        Ok(Self {
            token: table(&tables.token, a.vocab_size)?,
            position: table(&tables.position, a.context_length)?,
            n_embd: a.n_embd,
            vocab_size: a.vocab_size,
            context_length: a.context_length,
        })
    }

    /// Writes `wte[token] + wpe[position]`, rounded to fp16, into `sum`, which has C elements. It is the
    /// graph's input `[1, C, 1, 1]`.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownToken`] and [`Error::ContextFull`] for indices outside the tables.
    pub fn sum(&self, token: u32, position: usize, sum: &mut [f32]) -> Result<()> {
        let row = token as usize;
        if row >= self.vocab_size {
            return Err(Error::UnknownToken { token, vocab_size: self.vocab_size });
        }
        if position >= self.context_length {
            return Err(Error::ContextFull { tokens: position + 1, context_length: self.context_length });
        }
        let c = self.n_embd;
        let token = &self.token[row * c..(row + 1) * c];
        let position = &self.position[position * c..(position + 1) * c];
        for ((sum, t), p) in sum.iter_mut().zip(token).zip(position) {
            *sum = f16::from_f32(t.to_f32() + p.to_f32()).to_f32();
        }
        Ok(())
    }

    /// Returns the width of an embedding (C).
    pub fn n_embd(&self) -> usize {
        self.n_embd
    }
}
