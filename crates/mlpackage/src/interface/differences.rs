//! Comparison of a description with the function that it describes.

use super::Interface;
use super::feature::{DefaultValue, Feature, FeatureType};
use super::other_type::{OtherKind, OtherType};
use super::shapes::AllowedShapes;
use crate::dtype::DType;
use crate::mil::{Container, Dims, Function, TensorType, ValueType};

impl Interface {
    /// Describes each difference between the description and the function.
    pub(crate) fn differences(&self, function: &Function) -> Vec<String> {
        let mut differences = Vec::new();
        let tensors = |named: Vec<(&str, &TensorType)>| -> Vec<Found> {
            named.into_iter().map(|(name, ty)| Found::new(name, Some(ty.clone().into()))).collect()
        };
        let inputs = tensors(function.tensor_inputs().collect());
        let states = tensors(function.states().collect());
        compare("input", &self.inputs, &inputs, &mut differences);
        compare("output", &self.outputs, &outputs(function), &mut differences);
        compare("state", &self.states, &states, &mut differences);
        for (what, name) in
            [("label", &self.predicted_feature), ("probabilities", &self.predicted_probabilities)]
        {
            if !name.is_empty() && !self.outputs.iter().any(|f| f.name == *name) {
                differences.push(format!("the {what} of the classifier is {name:?}, which is not an output"));
            }
        }
        differences
    }
}

/// A feature as the program has it.
struct Found {
    name: String,
    /// `None` for an output that nothing defines.
    ty: Option<ValueType>,
}

impl Found {
    fn new(name: &str, ty: Option<ValueType>) -> Self {
        Self { name: name.to_owned(), ty }
    }
}

/// Returns the outputs of a function.
fn outputs(function: &Function) -> Vec<Found> {
    let mut outputs: Vec<Found> =
        function.all_outputs().map(|(name, ty)| Found::new(name, Some(ty.clone()))).collect();
    // An output that nothing defines has no type, so only its name is compared.
    for name in &function.block.outputs {
        if !outputs.iter().any(|found| found.name == *name) {
            outputs.push(Found::new(name, None));
        }
    }
    outputs
}

/// Compares the described features of a kind, such as `input`, with those of the program.
fn compare(kind: &str, described: &[Feature], found: &[Found], differences: &mut Vec<String>) {
    for Found { name, ty } in found {
        match (described.iter().find(|f| f.name == *name), ty) {
            (None, _) => differences.push(format!("{kind} {name} is not described")),
            (Some(feature), Some(ty)) if !feature.may_be(kind, ty) => {
                differences.push(format!("{kind} {name} is described as {}, it is {ty}", feature.ty));
            }
            _ => {}
        }
    }
    for (i, feature) in described.iter().enumerate() {
        let name = &feature.name;
        let earlier = described[..i].iter().filter(|earlier| earlier.name == *name).count();
        match found.iter().filter(|found| found.name == *name).count() {
            0 => {
                differences.push(format!("{kind} {name} is described, but the function has no such feature"))
            }
            // A value that is returned twice is described twice.
            times if earlier >= times => differences.push(format!("{kind} {name} is described twice")),
            _ => {}
        }
    }
}

impl Feature {
    /// Returns whether a value of type `ty` in the program agrees with this description.
    fn may_be(&self, kind: &str, ty: &ValueType) -> bool {
        let described = match (&self.ty, OtherType::of(ty)) {
            // A classifier's output. For a dictionary, the key types must agree.
            (FeatureType::Other(described), Some(found)) => {
                return described.kind == found.kind
                    && (found.kind != OtherKind::Dictionary || described.has_keys_of(&found));
            }
            (_, Some(_)) => return false,
            (FeatureType::Array(array), None) => Some(&array.tensor),
            (FeatureType::Other(_), None) => None,
        };
        let ty = match ty.content() {
            Some((ty, Container::Tensor | Container::State)) => ty,
            // A list cannot be an input or output, which another rule reports.
            _ => return true,
        };
        let Some(described) = described else {
            return kind != "state" && self.image().is_none_or(|image| image.may_be(&ty.shape));
        };
        let unstated = kind == "output" && described.shape.rank() == 0;
        let shapes_fit = match self.array().map(|a| &a.shapes) {
            Some(AllowedShapes::Enumerated { shapes, .. }) => {
                shapes.iter().all(|s| Dims::from(s).may_be(&ty.shape))
            }
            Some(ranged @ AllowedShapes::Ranged { default, ranges }) => {
                ranged.admits(default)
                    && Dims::from(default).may_be(&ty.shape)
                    && ranges.iter().zip(ty.shape.iter()).all(|(r, d)| d.known().is_none() || r.dim() == d)
            }
            _ => true,
        };
        let default_fits = match self.array().and_then(|a| a.default_value) {
            Some(DefaultValue::Int(_)) => ty.dtype == DType::Int32,
            Some(DefaultValue::Float(_)) => [DType::Fp16, DType::Fp32].contains(&ty.dtype),
            Some(DefaultValue::Double(_)) => ty.dtype == DType::Fp64,
            None => true,
        };
        default_fits
            && described.dtype == ty.dtype
            && (unstated || (described.shape.may_be(&ty.shape) && shapes_fit))
    }
}
