//! The labels of a classifier.

use mlpackage::mil::{self, Binding, Literal, Value, ValueData};

use crate::tensor::Tensors;

/// What a classifier chooses from. Its function gives the chosen label as the index of it, under the name of the label's output,
/// and the probabilities in the order of the labels, under the name of the dictionary's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classes {
    label: String,
    probabilities: String,
    labels: Labels,
}

/// Labels, in the order in which a program states them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Labels {
    /// Words.
    Strings(Vec<String>),
    /// Numbers.
    Ints(Vec<i64>),
}

impl Labels {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Strings(labels) => labels.len(),
            Self::Ints(labels) => labels.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One of them, as text.
    pub fn get(&self, index: usize) -> Option<String> {
        match self {
            Self::Strings(labels) => labels.get(index).cloned(),
            Self::Ints(labels) => labels.get(index).map(ToString::to_string),
        }
    }
}

impl Classes {
    /// Those of a function, if it is a classifier.
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

    /// The output that holds the index of the label.
    pub fn label_output(&self) -> &str {
        &self.label
    }

    /// The output that holds a probability for each label.
    pub fn probabilities_output(&self) -> &str {
        &self.probabilities
    }

    /// The labels.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The label that a call has chosen, from what the call gave; `None` if the function does not return it.
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
