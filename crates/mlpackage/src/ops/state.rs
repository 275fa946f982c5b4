//! Operations on states, which persist between calls.

use super::args::Args;
use super::dtype_constraint::DTypeConstraint;
use super::spec::{Inferred, OpSpec, Param};
use crate::finding::Fault;
use crate::mil::Opset;

pub(super) const OPS: &[OpSpec] = &[
    OpSpec::new("read_state", &[Param::new("input", DTypeConstraint::STATE)], |args| {
        Ok(vec![args.ty("input")?.clone()])
    })
    .since(Opset::CoreML8),
    OpSpec::new(
        "write_state",
        &[Param::new("input", DTypeConstraint::STATE), Param::new("data", DTypeConstraint::WIDE_ELEMENT)],
        write_state,
    )
    .since(Opset::CoreML8),
];

fn write_state(args: &Args<'_>) -> Inferred {
    let (state, data) = (args.ty("input")?, args.ty("data")?);
    if state.dtype == data.dtype && state.shape.may_be(&data.shape) {
        Ok(Vec::new())
    } else {
        Err(Fault::mismatch("data", format!("is {data}, the state holds {state}")))
    }
}
