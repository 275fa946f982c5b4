//! Conversion of the inputs of a call to the executor's words.

use half::f16;
use mlpackage::DType;

use super::numerics::{Numerics, round_to_half};
use crate::error::{Error, Result};
use crate::inputs::Input;
use crate::tensor::Elements;

impl Input<'_> {
    /// Writes the elements as words of `dtype`.
    pub(super) fn write(
        &self,
        name: &str,
        dtype: DType,
        numerics: Numerics,
        words: &mut [u32],
    ) -> Result<()> {
        let (elements, counts_as_half) = match self {
            Self::Given(view) => (view.elements(), view.counts_as_half()),
            Self::Default(tensor) => (tensor.view().elements(), false),
        };
        // Results that are passed back as inputs are rounded only if the numerics round results.
        let rounds = dtype == DType::Fp16 && !(counts_as_half && numerics != Numerics::F16);
        let floats = |words: &mut [u32], values: &mut dyn Iterator<Item = f32>| {
            words.iter_mut().zip(values).for_each(|(word, value)| *word = value.to_bits());
        };
        match elements {
            Elements::F32(v) => {
                words.copy_from_slice(bytemuck::cast_slice(v));
                if rounds {
                    round_to_half(bytemuck::cast_slice_mut(words));
                }
            }
            Elements::F16(v) => floats(words, &mut v.iter().copied().map(f16::to_f32)),
            Elements::I32(v) if dtype.is_float() => floats(words, &mut v.iter().map(|v| *v as f32)),
            Elements::I32(v) => words.copy_from_slice(bytemuck::cast_slice(v)),
            Elements::I8(v) => words.iter_mut().zip(v).for_each(|(word, v)| *word = i32::from(*v) as u32),
            Elements::Bool(v) => words.iter_mut().zip(v).for_each(|(word, v)| *word = u32::from(*v)),
        }
        if let (DType::Int8, Elements::I32(v)) = (dtype, elements)
            && let Some(bad) = v.iter().find(|v| i8::try_from(**v).is_err())
        {
            let reason = format!("has {bad}, which int8 cannot hold");
            return Err(Error::Input { name: name.to_owned(), reason });
        }
        Ok(())
    }
}
