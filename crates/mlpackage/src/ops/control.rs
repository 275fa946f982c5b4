//! Operations that run blocks of operations.

use super::args::{Args, BlockTypes};
use super::kind::Kind;
use super::spec::{Inferred, OpSpec, Param};
use crate::dtype::DType;
use crate::finding::{Fault, Rule};
use crate::mil::TensorType;

pub(super) const OPS: &[OpSpec] = &[
    OpSpec::new("cond", &[Param::new("pred", Kind::BOOL)], cond),
    OpSpec::new("while_loop", &[Param::new("loop_vars", Kind::ELEMENT).variadic()], while_loop),
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

/// Whether every type may be the one at the same place.
fn may_be(a: &[TensorType], b: &[TensorType]) -> bool {
    let same = |(a, b): (&TensorType, &TensorType)| a.dtype == b.dtype && a.shape.may_be(&b.shape);
    a.len() == b.len() && a.iter().zip(b).all(same)
}

/// The types in words.
fn list(types: &[TensorType]) -> String {
    let types: Vec<String> = types.iter().map(ToString::to_string).collect();
    format!("({})", types.join(", "))
}

/// Whether it is one bool: a scalar, or, as in the loops that coremltools makes of a GRU, a vector of one.
fn is_one_bool(ty: &TensorType) -> bool {
    ty.dtype == DType::Bool && (ty.shape.rank() == 0 || ty.shape == [1])
}

/// One of two blocks, which give results of the same types.
fn cond(args: &Args<'_>) -> Inferred {
    let [yes, no] = two(args, "one for true, one for false")?;
    if !is_one_bool(args.ty("pred")?) {
        return Err(Fault::value("pred", format!("is {}, expected one bool", args.ty("pred")?)));
    }
    if !may_be(&yes.outputs, &no.outputs) {
        let (yes, no) = (list(&yes.outputs), list(&no.outputs));
        return Err(format!("one block gives {yes}, the other {no}").into());
    }
    let either = yes.outputs.iter().zip(&no.outputs);
    let either = either.map(|(a, b)| TensorType { dtype: a.dtype, shape: a.shape.in_common(&b.shape) });
    Ok(either.collect())
}

/// The second block again and again, as long as the first gives true. Both take the variables; the second gives them anew.
fn while_loop(args: &Args<'_>) -> Inferred {
    let [condition, body] = two(args, "the condition and the body")?;
    let vars: Vec<TensorType> = args.many("loop_vars").iter().map(|a| a.ty.clone()).collect();
    for (what, found) in [("the condition takes", &condition.inputs), ("the body takes", &body.inputs)] {
        if !may_be(found, &vars) {
            return Err(format!("{what} {}, the loop's variables are {}", list(found), list(&vars)).into());
        }
    }
    match condition.outputs.as_slice() {
        [one] if is_one_bool(one) => {}
        other => return Err(format!("the condition gives {}, expected one bool", list(other)).into()),
    }
    if !may_be(&body.outputs, &body.inputs) {
        let (given, taken) = (list(&body.outputs), list(&body.inputs));
        return Err(format!("the body gives {given}, it takes {taken}").into());
    }
    Ok(body.inputs.clone())
}
