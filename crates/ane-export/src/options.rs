//! Options of an export.
//!
//! Each choice exists because the evidence does not settle it; the defaults are what the evidence favours.

use std::collections::BTreeMap;
use std::str::FromStr;

use ane_bundle::Exporter;
use mlpackage::{UnknownName, named_enum};

#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;

named_enum! {
    /// How projection weights are stored. Activations are always fp16.
    Quantization, "quantize", default Int8PerTensor, {
        /// fp16.
        None = "none",
        /// INT8 with one scale per tensor: the form that Experiment 27's law is about.
        Int8PerTensor = "int8-per-tensor",
        /// INT8 with one scale per output channel: coremltools' default, and the form that the experiment's
        /// published converter wrote.
        Int8PerChannel = "int8-per-channel",
    }
}

named_enum! {
    /// Layout of the query, key and value projections.
    Projections, "projections", default Separate, {
        /// Three convolutions: 37 in the scaled model, as Experiment 27 counts.
        Separate = "separate",
        /// One convolution with three times the rows, then a split: fewer, larger operations.
        FusedQkv = "fused-qkv",
    }
}

named_enum! {
    /// Where the KV cache is kept, and how the new key and value are written to it.
    CacheUpdate, "cache-update", default OneHot, {
        /// In states, updated elementwise: `old * (1 - one_hot) + new * one_hot`. None of its operations is
        /// known to leave the Neural Engine.
        OneHot = "one-hot",
        /// In states, updated by MIL's `slice_update` at a position, which is reported to be always scheduled
        /// on the CPU.
        SliceUpdate = "slice-update",
        /// On the host, without states: the host passes the caches as inputs that are only read, and writes
        /// the new key and value from the outputs. The graph does the arithmetic of [`OneHot`](Self::OneHot)
        /// for its own attention.
        Host = "host",
    }
}

named_enum! {
    /// How RMSNorm is computed in fp16. All forms are equal in exact arithmetic.
    NormForm, "norm", default MaxScaled, {
        /// `x * rsqrt(mean(x^2) + eps)`. Overflows if |x| exceeds 255.
        Plain = "plain",
        /// Experiment 27's peephole in its correct form, with `K = sqrt(d)`: `xs = x / K`, `y = xs *
        /// rsqrt(mean(xs^2) + eps / K^2)`. It has K times the headroom. In pure fp16 its epsilon vanishes for
        /// d = 512, so a row of zeros produces NaN, and the squares of small activations underflow.
        Safe = "safe",
        /// Divides by the largest magnitude first: with `m = max(max|x|, sqrt(eps))`, `xs = x / m` and `r =
        /// sqrt(eps) / m`, `y = xs * rsqrt(mean(xs^2) + r^2)`. Squares and their mean are at most 1, and the
        /// sum under the root is between 1/d and 2, so nothing overflows and nothing that matters underflows.
        MaxScaled = "max-scaled",
    }
}

/// The options of an export.
///
/// ```
/// use ane_export::{ExportOptions, Quantization};
///
/// let options = ExportOptions::default().with_quantization(Quantization::Int8PerChannel);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportOptions {
    /// How projection weights are stored.
    pub quantization: Quantization,
    /// Layout of the query, key and value projections.
    pub projections: Projections,
    /// How the cache is updated.
    pub cache_update: CacheUpdate,
    /// How RMSNorm is computed.
    pub norm: NormForm,
}

/// Names of the options in a manifest; the quantization has a field of its own.
const PROJECTIONS: &str = "projections";
const CACHE_UPDATE: &str = "cache-update";
const NORM: &str = "norm";

impl ExportOptions {
    /// Sets how projection weights are stored.
    #[must_use]
    pub fn with_quantization(self, quantization: Quantization) -> Self {
        Self { quantization, ..self }
    }

    /// Sets the layout of the query, key and value projections.
    #[must_use]
    pub fn with_projections(self, projections: Projections) -> Self {
        Self { projections, ..self }
    }

    /// Sets how the cache is updated.
    #[must_use]
    pub fn with_cache_update(self, cache_update: CacheUpdate) -> Self {
        Self { cache_update, ..self }
    }

    /// Sets how RMSNorm is computed.
    #[must_use]
    pub fn with_norm(self, norm: NormForm) -> Self {
        Self { norm, ..self }
    }

    /// Returns the description of this crate and these options for a bundle's manifest.
    pub fn exporter(&self) -> Exporter {
        let option = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Exporter {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            quantization: self.quantization.name().into(),
            options: BTreeMap::from([
                option(CACHE_UPDATE, self.cache_update.name()),
                option(NORM, self.norm.name()),
                option(PROJECTIONS, self.projections.name()),
            ]),
        }
    }

    /// Reads the options that a bundle was exported with, the inverse of [`exporter`](Self::exporter).
    ///
    /// # Errors
    ///
    /// [`Error::UnknownName`] with an option that is missing or unknown.
    pub fn of_exporter(exporter: &Exporter) -> Result<Self> {
        fn option<T: FromStr<Err = UnknownName>>(exporter: &Exporter, name: &str) -> Result<T, UnknownName> {
            exporter.options.get(name).map_or("", String::as_str).parse()
        }
        Ok(Self {
            quantization: exporter.quantization.parse()?,
            projections: option(exporter, PROJECTIONS)?,
            cache_update: option(exporter, CACHE_UPDATE)?,
            norm: option(exporter, NORM)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_read_back_from_a_manifest() {
        for &quantization in Quantization::ALL {
            for &norm in NormForm::ALL {
                let options = ExportOptions { quantization, norm, ..ExportOptions::default() };
                assert_eq!(ExportOptions::of_exporter(&options.exporter()).unwrap(), options);
            }
        }
        let mut exporter = ExportOptions::default().exporter();
        exporter.options.remove("norm");
        let error = ExportOptions::of_exporter(&exporter).unwrap_err().to_string();
        assert_eq!(error, "norm \"\": expected one of plain, safe, max-scaled");
    }

    #[test]
    fn names_read_back_and_unknown_ones_list_what_there_is() {
        for q in Quantization::ALL {
            assert_eq!(q.name().parse::<Quantization>().unwrap(), *q);
        }
        let error = "int4".parse::<Quantization>().unwrap_err().to_string();
        assert_eq!(error, "quantize \"int4\": expected one of none, int8-per-tensor, int8-per-channel");
    }
}
