//! The labels of a classifier.

use mlpackage::mil::{self, Binding, Literal, Value, ValueData};

use crate::tensor::Tensors;

/// The labels of a classifier, and the names of its outputs.
///
/// A classifier's function returns the index of the chosen label, in the output that its program names for
/// the label, and the probabilities in the order of the labels, in the output named for the dictionary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classes {
    label: String,
    probabilities: String,
    labels: Labels,
}

/// Labels, in the order in which a program lists them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Labels {
    /// Strings.
    Strings(Vec<String>),
    /// Integers.
    Ints(Vec<i64>),
}

impl Labels {
    /// Returns the number of labels.
    pub fn len(&self) -> usize {
        match self {
            Self::Strings(labels) => labels.len(),
            Self::Ints(labels) => labels.len(),
        }
    }

    /// Returns whether there are no labels.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns a label as text.
    pub fn get(&self, index: usize) -> Option<String> {
        match self {
            Self::Strings(labels) => labels.get(index).cloned(),
            Self::Ints(labels) => labels.get(index).map(ToString::to_string),
        }
    }
}

impl Classes {
    /// Returns the classes of a function, if it is a classifier.
    pub fn of(function: &mil::Function) -> Option<Self> {
        let operations = &function.block.operations;
        let classify = operations.iter().find(|operation| operation.op == "classify")?;
        let classes = match classify.inputs.get("classes")?.first()? {
            Binding::Value(value) => value,
            Binding::Name(name) => {
                let constant =
                    operations.iter().find(|o| o.outputs.iter().any(|output| output.name == *name))?;
                constant.attributes.get("val")?
            }
        };
        let ValueData::List(values) = &classes.data else { return None };
        let strings = || values.iter().map(|value| value.as_str().map(str::to_owned)).collect();
        let ints = || values.iter().map(int).collect();
        let labels = Option::map(strings(), Labels::Strings).or_else(|| Option::map(ints(), Labels::Ints))?;
        let name = |index: usize| classify.outputs.get(index).map(|output| output.name.clone());
        Some(Self { label: name(0)?, probabilities: name(1)?, labels })
    }

    /// Returns the name of the output that holds the index of the label.
    pub fn label_output(&self) -> &str {
        &self.label
    }

    /// Returns the name of the output that holds a probability for each label.
    pub fn probabilities_output(&self) -> &str {
        &self.probabilities
    }

    /// Returns the labels.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Describes an output of the classifier in words; `None` for any other output.
    pub fn describe(&self, output: &str) -> Option<String> {
        let classes = match self.labels.len() {
            1 => "1 class".to_owned(),
            classes => format!("{classes} classes"),
        };
        match output {
            _ if output == self.label => Some(format!("the label, one of {classes}")),
            _ if output == self.probabilities => Some(format!("the probabilities of {classes}")),
            _ => None,
        }
    }

    /// Returns the label that a call has chosen, from the call's outputs; `None` if the function does not
    /// return it.
    pub fn chosen(&self, outputs: &Tensors) -> Option<String> {
        let index = outputs.get(&self.label)?.as_i32()?.first()?;
        self.labels.get(usize::try_from(*index).ok()?)
    }
}

fn int(value: &Value) -> Option<i64> {
    match &value.data {
        ValueData::Immediate(Literal::LongInts(ints)) => ints.first().copied(),
        _ => None,
    }
}
