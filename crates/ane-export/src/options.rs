//! The choices that an export has. Each is open because the evidence leaves it open; the defaults are what the evidence
//! favours.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// Defines an option: an enum whose variants have names.
macro_rules! option {
    ($(#[$doc:meta])* $name:ident, $option:literal, default $default:ident,
     { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            /// Every value, the default first or not: in order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The value's name, as the command line takes it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::$default
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                Self::ALL.iter().copied().find(|v| v.name() == text).ok_or_else(|| Error::Option {
                    option: $option,
                    found: text.to_owned(),
                    expected: Self::ALL.iter().map(|v| v.name()).collect::<Vec<_>>().join(", "),
                })
            }
        }
    };
}

option! {
    /// How projection weights are stored. Activations are fp16 in every form.
    Quantization, "quantize", default Int8PerTensor, {
        /// fp16.
        None = "none",
        /// INT8, one scale a tensor: what Experiment 27's law is about.
        Int8PerTensor = "int8-per-tensor",
        /// INT8, one scale an output channel: coremltools' own default, and what the experiment's published converter wrote.
        Int8PerChannel = "int8-per-channel",
    }
}

option! {
    /// How the query, key and value projections are laid out.
    Projections, "projections", default Separate, {
        /// Three convolutions: 37 in the scaled model, Experiment 27's own count.
        Separate = "separate",
        /// One convolution of three times the rows, then a split: fewer, larger operations.
        FusedQkv = "fused-qkv",
    }
}

option! {
    /// Where the cache is, and how the new key and value enter it.
    CacheUpdate, "cache-update", default OneHot, {
        /// States: `old * (1 - one_hot) + new * one_hot`, elementwise, nothing that is known to leave the Neural Engine.
        OneHot = "one-hot",
        /// States: MIL's `slice_update` at a position, which is reported to be scheduled on the CPU always.
        SliceUpdate = "slice-update",
        /// No states: the host holds the caches, hands them over to be read, and writes the new key and value that it is given.
        /// The graph does the arithmetic of [`OneHot`](Self::OneHot), for its own attention.
        Host = "host",
    }
}

option! {
    /// How RMSNorm is written in fp16. All are equal in exact arithmetic.
    NormForm, "norm", default MaxScaled, {
        /// `x * rsqrt(mean(x^2) + eps)`. Overflows where |x| exceeds 255.
        Plain = "plain",
        /// Experiment 27's peephole in its correct form, with `K = sqrt(d)`: `xs = x / K`,
        /// `y = xs * rsqrt(mean(xs^2) + eps / K^2)`. Has K times the headroom; in pure fp16 its epsilon vanishes for d = 512,
        /// so that a row of zeros gives NaN, and small activations lose their squares.
        Safe = "safe",
        /// Divides by the largest magnitude first: with `m = max(max|x|, sqrt(eps))`, `xs = x / m` and `r = sqrt(eps) / m`,
        /// `y = xs * rsqrt(mean(xs^2) + r^2)`. Every intermediate is between 0 and 1 but the result, so nothing overflows and
        /// nothing that matters underflows.
        MaxScaled = "max-scaled",
    }
}

/// All choices of an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExportOptions {
    /// Storage of projection weights.
    pub quantization: Quantization,
    /// Layout of query, key and value projections.
    pub projections: Projections,
    /// How the cache is updated.
    pub cache_update: CacheUpdate,
    /// How RMSNorm is written.
    pub norm: NormForm,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_unknown_ones_list_what_there_is() {
        for q in Quantization::ALL {
            assert_eq!(q.name().parse::<Quantization>().unwrap(), *q);
        }
        let error = "int4".parse::<Quantization>().unwrap_err().to_string();
        assert_eq!(error, "quantize: \"int4\", expected one of none, int8-per-tensor, int8-per-channel");
    }
}
