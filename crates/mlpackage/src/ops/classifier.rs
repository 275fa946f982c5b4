//! The operation that makes a model a classifier.

use super::args::Args;
use super::dtype_constraint::DTypeConstraint;
use super::spec::{InferredValues, OpSpec, Param};
use crate::dtype::DType;
use crate::finding::Fault;
use crate::mil::{Container, Dims, TensorType, ValueData, ValueType};

pub(super) const OPS: &[OpSpec] = &[OpSpec::of_values(
    "classify",
    &[
        Param::new("probabilities", DTypeConstraint::FP32),
        Param::constant("classes", DTypeConstraint::CLASSES),
    ],
    classify,
)];

/// Returns the label of the largest probability, and a dictionary with the probability of each label.
fn classify(args: &Args<'_>) -> InferredValues {
    let probabilities = args.ty("probabilities")?;
    let classes = args.get("classes").ok_or_else(|| Fault::missing("classes"))?;
    let Some(ValueData::List(labels)) = classes.value.map(|value| &value.data) else {
        return Err(Fault::value("classes", "must be a list of labels, stated in the program"));
    };
    let label = TensorType::new(classes.ty.dtype, Dims::default());
    if labels.is_empty() || labels.iter().any(|value| value.tensor_type() != Some(&label)) {
        let reason = format!("holds {} values, expected labels of type {label}", labels.len());
        return Err(Fault::value("classes", reason));
    }
    if probabilities.shape.elements().is_some_and(|n| n != labels.len()) {
        let reason = format!("is {probabilities}, there are {} classes", labels.len());
        return Err(Fault::mismatch("probabilities", reason));
    }
    let probability = TensorType::new(DType::Fp64, Dims::default());
    let key = classes.ty.dtype;
    Ok(vec![label.into(), ValueType::new(probability, Container::Dictionary { key })])
}
