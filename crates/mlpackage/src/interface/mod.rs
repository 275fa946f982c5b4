//! A function's inputs, outputs and states, as a package describes them to Core ML.

mod differences;
mod feature;
mod other_type;
mod shapes;

use crate::mil::{Function, TensorType, ValueType};

pub use feature::{ArrayType, DefaultValue, Feature, FeatureType};
pub(crate) use other_type::OtherKind;
pub use other_type::OtherType;
pub use shapes::AllowedShapes;

/// Inputs, outputs and states of a function, as the package describes them to Core ML.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Interface {
    /// The inputs of a call.
    pub inputs: Vec<Feature>,
    /// The outputs of a call.
    pub outputs: Vec<Feature>,
    /// State tensors, which persist between calls.
    pub states: Vec<Feature>,
    /// For a classifier, the output that holds the label; otherwise empty.
    pub predicted_feature: String,
    /// For a classifier, the output that holds the probabilities; otherwise empty.
    pub predicted_probabilities: String,
}

impl Interface {
    /// Derives the interface of a function. A program does not contain the allowed shapes of its unknown
    /// dimensions.
    pub fn of(function: &Function) -> Self {
        let feature = |(name, ty): (&str, &TensorType)| Feature::new(name, ty.clone());
        let output = |(name, ty): (&str, &ValueType)| {
            let Some(other) = OtherType::of(ty) else { return ty.tensor().map(|ty| feature((name, ty))) };
            let (name, ty) = (name.to_owned(), FeatureType::Other(other));
            Some(Feature { name, ty, optional: false, description: String::new() })
        };
        let classify = function.block.operations.iter().find(|operation| operation.op == "classify");
        let classified = |index: usize| {
            let output = classify.and_then(|operation| operation.outputs.get(index));
            let returned = output.filter(|output| function.block.outputs.contains(&output.name));
            returned.map(|output| output.name.clone()).unwrap_or_default()
        };
        Self {
            inputs: function.tensor_inputs().map(feature).collect(),
            outputs: function.all_outputs().filter_map(output).collect(),
            states: function.states().map(feature).collect(),
            predicted_feature: classified(0),
            predicted_probabilities: classified(1),
        }
    }

    /// Returns the input called `name`, to add what the program does not contain.
    pub fn input_mut(&mut self, name: &str) -> Option<&mut Feature> {
        self.inputs.iter_mut().find(|f| f.name == name)
    }
}
