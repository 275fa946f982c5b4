//! Operations that run nested blocks.

use super::args::{Arg, Args, BlockTypes};
use super::dtype_constraint::DTypeConstraint;
use super::spec::{InferredValues, OpSpec, Param};
use crate::dtype::DType;
use crate::finding::{Fault, Rule};
use crate::mil::{TensorType, ValueType};

pub(super) const OPS: &[OpSpec] = &[
    OpSpec::of_values("cond", &[Param::new("pred", DTypeConstraint::BOOL)], cond),
    OpSpec::of_values(
        "while_loop",
        &[Param::new("loop_vars", DTypeConstraint::LOOP_VARIABLE).variadic()],
        while_loop,
    ),
];

fn two<'a>(args: &'a Args<'_>, what: &str) -> Result<[&'a BlockTypes; 2], Fault> {
    match args.blocks() {
        [first, second] => Ok([first, second]),
        blocks => {
            let reason = format!("it has {} blocks, expected two: {what}", blocks.len());
            Err(Fault::new(Rule::ResultCount, reason))
        }
    }
}

/// Returns whether the two lists have equal length and compatible types.
fn may_be(a: &[ValueType], b: &[ValueType]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.may_be(b))
}

/// Formats the types for error messages.
fn list(types: &[ValueType]) -> String {
    let types: Vec<String> = types.iter().map(ToString::to_string).collect();
    format!("({})", types.join(", "))
}

/// Returns whether the type is a single bool: a scalar or, as in the loops that coremltools generates for a
/// GRU, a vector of one element.
fn is_one_bool(ty: &TensorType) -> bool {
    ty.dtype == DType::Bool && (ty.shape.rank() == 0 || ty.shape == [1])
}

/// Runs one of two blocks, whose outputs have the same types.
fn cond(args: &Args<'_>) -> InferredValues {
    let [yes, no] = two(args, "one for true, one for false")?;
    if !is_one_bool(args.ty("pred")?) {
        return Err(Fault::value("pred", format!("is {}, expected one bool", args.ty("pred")?)));
    }
    if !may_be(&yes.outputs, &no.outputs) {
        let (yes, no) = (list(&yes.outputs), list(&no.outputs));
        return Err(format!("one block returns {yes}, the other {no}").into());
    }
    Ok(yes.outputs.iter().zip(&no.outputs).map(|(a, b)| a.in_common(b)).collect())
}

/// Runs the second block as long as the first returns true. Both receive the variables; the second returns
/// their new values.
fn while_loop(args: &Args<'_>) -> InferredValues {
    let [condition, body] = two(args, "the condition and the body")?;
    let vars: Vec<ValueType> = args.many("loop_vars").iter().map(Arg::value_type).collect();
    for (what, found) in [("the condition accepts", &condition.inputs), ("the body accepts", &body.inputs)] {
        if !may_be(found, &vars) {
            return Err(format!("{what} {}, the loop's variables are {}", list(found), list(&vars)).into());
        }
    }
    match condition.outputs.as_slice() {
        [ValueType::Tensor(one)] if is_one_bool(one) => {}
        other => return Err(format!("the condition returns {}, expected one bool", list(other)).into()),
    }
    if !may_be(&body.outputs, &body.inputs) {
        let (given, taken) = (list(&body.outputs), list(&body.inputs));
        return Err(format!("the body returns {given}, but accepts {taken}").into());
    }
    Ok(body.inputs.clone())
}
