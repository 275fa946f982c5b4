//! Lists of tensors of one type. A list is a value: an operation that writes to a list returns a new list.

use super::args::{Arg, Args};
use super::dtype_constraint::DTypeConstraint;
use super::spec::{Inferred, InferredValues, OpSpec, Param};
use crate::dtype::DType;
use crate::finding::Fault;
use crate::mil::{Container, Dim, Dims, TensorType, ValueType};

const LS: Param = Param::new("ls", DTypeConstraint::LIST);

pub(super) const OPS: &[OpSpec] = &[
    OpSpec::of_values(
        "make_list",
        &[
            Param::new("init_length", DTypeConstraint::INT32).or_int(1),
            Param::constant("dynamic_length", DTypeConstraint::BOOL).or_bool(true),
            Param::new("elem_shape", DTypeConstraint::LIST_EXTENT).any_number(),
            Param::constant("dtype", DTypeConstraint::STRING).or_string("fp32"),
        ],
        make_list,
    ),
    OpSpec::new("list_length", &[LS], |args| {
        list(args)?;
        Ok(vec![TensorType::new(DType::Int32, Dims::default())])
    }),
    OpSpec::new("list_read", &[LS, Param::new("index", DTypeConstraint::INT32)], |args| {
        check_index(args)?;
        Ok(vec![list(args)?.ty.clone()])
    }),
    OpSpec::of_values(
        "list_write",
        &[LS, Param::new("index", DTypeConstraint::INT32), Param::new("value", DTypeConstraint::ELEMENT)],
        list_write,
    ),
    OpSpec::new("list_gather", &[LS, Param::new("indices", DTypeConstraint::INT32)], list_gather),
    OpSpec::of_values(
        "list_scatter",
        &[LS, Param::new("indices", DTypeConstraint::INT32), Param::new("value", DTypeConstraint::ELEMENT)],
        list_scatter,
    ),
];

/// The element types that a list may have.
const ELEMENTS: [DType; 4] = [DType::Bool, DType::Fp16, DType::Fp32, DType::Int32];

/// Limit on the rank of a list's elements. With the axis that `list_gather` adds, it equals the limit for
/// tensors in a model file.
const MOST_AXES: usize = 15;

/// Creates a list. `elem_shape` has one binding for each axis of the elements; the size of an axis that is
/// given as a string is known only at run time.
fn make_list(args: &Args<'_>) -> InferredValues {
    let dtype = args.string("dtype")?.unwrap_or("fp32");
    let dtype = ELEMENTS.into_iter().find(|d| d.name() == dtype).ok_or_else(|| {
        let known = ELEMENTS.map(DType::name).join(", ");
        Fault::value("dtype", format!("is {dtype:?}, expected one of {known}"))
    })?;
    args.bool_or("dynamic_length", true)?;
    let length = match args.get("init_length") {
        None => Dim::Known(1),
        Some(arg) if arg.ty.shape.rank() != 0 => {
            return Err(Fault::value("init_length", format!("is {}, expected a scalar", arg.ty)));
        }
        Some(_) => match args.ints_if_known("init_length").and_then(|v| v.first().copied()) {
            None => Dim::Unknown,
            Some(length) => Dim::Known(usize::try_from(length).map_err(|_| {
                Fault::value("init_length", format!("is {length}, expected an integer of at least 0"))
            })?),
        },
    };
    let bindings = args.many("elem_shape");
    if bindings.len() > MOST_AXES {
        let reason = format!("names {} axes, expected at most {MOST_AXES}", bindings.len());
        return Err(Fault::value("elem_shape", reason));
    }
    let shape: Dims = bindings.iter().map(extent).collect::<Result<_, _>>()?;
    let content = TensorType { dtype, shape };
    if content.shape.least_elements().and_then(|n| n.checked_mul(16)).is_none() {
        return Err(Fault::value("elem_shape", format!("is {}, which has too many elements", content.shape)));
    }
    Ok(vec![ValueType::new(content, Container::List(Some(length)))])
}

fn extent(arg: &Arg<'_>) -> Result<Dim, Fault> {
    let value = arg.value.filter(|_| arg.ty.shape.rank() == 0);
    if value.is_some_and(|v| v.as_str().is_some()) {
        return Ok(Dim::Unknown);
    }
    let extent = value.and_then(|v| v.to_ints()?.first().copied());
    let extent = extent.and_then(|v| usize::try_from(v).ok()).map(Dim::Known);
    extent.ok_or_else(|| {
        Fault::value("elem_shape", "must be integers of at least 0 or names, stated in the program")
    })
}

fn list<'a>(args: &'a Args<'_>) -> Result<&'a Arg<'a>, Fault> {
    args.get("ls").ok_or_else(|| Fault::missing("ls"))
}

fn check_index(args: &Args<'_>) -> Result<(), Fault> {
    match args.ty("index")? {
        ty if ty.shape.rank() == 0 => Ok(()),
        ty => Err(Fault::value("index", format!("is {ty}, expected a scalar"))),
    }
}

/// Returns the number of indices.
fn count(args: &Args<'_>) -> Result<Dim, Fault> {
    match args.dims("indices")?.as_slice() {
        &[count] => Ok(count),
        _ => Err(Fault::value("indices", format!("is {}, expected one axis", args.ty("indices")?))),
    }
}

fn list_write(args: &Args<'_>) -> InferredValues {
    check_index(args)?;
    let (list, value) = (list(args)?, args.ty("value")?);
    if !value.may_be(list.ty) {
        return Err(Fault::mismatch("value", format!("is {value}, the list holds {}", list.ty)));
    }
    Ok(vec![list.value_type()])
}

/// Returns the elements at `indices`, stacked along a new first axis.
fn list_gather(args: &Args<'_>) -> Inferred {
    let element = list(args)?.ty;
    let dims = [&[count(args)?], element.shape.as_slice()].concat();
    Ok(vec![TensorType { dtype: element.dtype, shape: dims.into() }])
}

/// Writes `value [K, ..]` to the elements at `indices [K]`.
fn list_scatter(args: &Args<'_>) -> InferredValues {
    let (list, value) = (list(args)?, args.ty("value")?);
    let dims = [&[count(args)?], list.ty.shape.as_slice()].concat();
    let expected = TensorType { dtype: list.ty.dtype, shape: dims.into() };
    if !value.may_be(&expected) {
        return Err(Fault::mismatch("value", format!("is {value}, expected {expected}")));
    }
    Ok(vec![list.value_type()])
}
