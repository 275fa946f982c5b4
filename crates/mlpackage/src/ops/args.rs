//! The arguments of one operation, by name.

use std::collections::BTreeMap;

use crate::dtype::DType;
use crate::finding::Fault;
use crate::mil::{Container, Dims, Opset, TensorType, Value, ValueType};
use crate::shape::Shape;

/// One binding of an argument.
#[derive(Clone, Debug)]
pub struct Arg<'a> {
    /// The name of the value; `None` if a constant is bound directly.
    pub name: Option<&'a str>,
    /// The tensor type; for a state, list or dictionary, the type of its contents.
    pub ty: &'a TensorType,
    /// The container.
    pub container: Container,
    /// Whether the value is known before the program runs.
    pub constant: bool,
    /// The value, if it is a constant that the program states, as opposed to the result of a `constexpr`
    /// operation.
    pub value: Option<&'a Value>,
}

impl Arg<'_> {
    /// Returns whether it is a state.
    pub fn is_state(&self) -> bool {
        self.container == Container::State
    }

    /// Returns the type, including the container.
    pub fn value_type(&self) -> ValueType {
        ValueType::new(self.ty.clone(), self.container)
    }
}

/// The arguments of one operation.
#[derive(Clone, Debug)]
pub struct Args<'a> {
    opset: Opset,
    bound: BTreeMap<&'a str, Vec<Arg<'a>>>,
    blocks: Vec<BlockTypes>,
}

/// The types of a nested block's inputs and outputs.
#[derive(Clone, Debug, Default)]
pub struct BlockTypes {
    /// Types of the inputs.
    pub inputs: Vec<ValueType>,
    /// Types of the outputs.
    pub outputs: Vec<ValueType>,
}

impl<'a> Args<'a> {
    /// Creates the arguments `bound` of an operation in a function of `opset`; `blocks` are the types of its
    /// nested blocks.
    pub fn new(opset: Opset, bound: BTreeMap<&'a str, Vec<Arg<'a>>>, blocks: Vec<BlockTypes>) -> Self {
        Self { opset, bound, blocks }
    }

    /// Returns the types of the operation's nested blocks.
    pub fn blocks(&self) -> &[BlockTypes] {
        &self.blocks
    }

    /// Returns the opset of the function that contains the operation.
    pub fn opset(&self) -> Opset {
        self.opset
    }

    /// Returns whether the argument is given, if only as an empty list.
    pub(crate) fn is_bound(&self, name: &str) -> bool {
        self.bound.contains_key(name)
    }

    /// Returns all bindings, by parameter name.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &[Arg<'a>])> {
        self.bound.iter().map(|(name, args)| (*name, args.as_slice()))
    }

    /// Returns the first binding of an argument; `None` if the argument is missing.
    pub fn get(&self, name: &str) -> Option<&Arg<'a>> {
        self.bound.get(name).and_then(|args| args.first())
    }

    /// Returns all bindings of a variadic argument.
    pub fn many(&self, name: &str) -> &[Arg<'a>] {
        self.bound.get(name).map_or(&[], Vec::as_slice)
    }

    /// Returns the type of an argument.
    ///
    /// # Errors
    ///
    /// If the argument is missing.
    pub fn ty(&self, name: &str) -> Result<&'a TensorType, Fault> {
        self.get(name).map(|a| a.ty).ok_or_else(|| Fault::missing(name))
    }

    /// Returns the dimensions of an argument.
    ///
    /// # Errors
    ///
    /// If the argument is missing.
    pub fn dims(&self, name: &str) -> Result<&'a Dims, Fault> {
        self.ty(name).map(|t| &t.shape)
    }

    /// Returns the shape of an argument.
    ///
    /// # Errors
    ///
    /// If the argument is missing or a dimension is unknown.
    pub fn shape(&self, name: &str) -> Result<Shape, Fault> {
        let ty = self.ty(name)?;
        ty.shape.known().ok_or_else(|| Fault::value(name, format!("is {ty}: its dimensions are not fixed")))
    }

    /// Returns the integers of a constant vector; `None` if the argument is missing.
    ///
    /// # Errors
    ///
    /// If the argument is bound, but not to a vector of integers that the program states.
    pub fn ints(&self, name: &str) -> Result<Option<Vec<i32>>, Fault> {
        self.stated(name, Rank::Vector, "integers", Value::to_ints)
    }

    /// Returns the integers of an argument if the program states them; `None` if the argument is missing or
    /// computed.
    pub fn ints_if_known(&self, name: &str) -> Option<Vec<i32>> {
        self.get(name)?.value.and_then(Value::to_ints)
    }

    /// Returns the integer of a constant scalar; `None` if the argument is missing.
    ///
    /// # Errors
    ///
    /// If the argument is bound, but not to a scalar integer that the program states.
    pub fn int(&self, name: &str) -> Result<Option<i32>, Fault> {
        self.stated(name, Rank::Scalar, "an integer", |value| value.to_ints()?.first().copied())
    }

    /// Returns the positive integer of a constant scalar; `None` if the argument is missing.
    ///
    /// # Errors
    ///
    /// If the argument is bound, but not to a positive integer that the program states.
    pub fn extent(&self, name: &str) -> Result<Option<usize>, Fault> {
        let Some(value) = self.int(name)? else { return Ok(None) };
        let extent = usize::try_from(value).ok().filter(|&v| v > 0);
        extent.map(Some).ok_or_else(|| Fault::value(name, format!("is {value}, expected a positive integer")))
    }

    /// Returns the `len` non-negative integers of a constant vector; `default` for each if the argument is
    /// missing.
    ///
    /// # Errors
    ///
    /// If the number of elements differs, or an element is below `least`.
    pub fn extents(&self, name: &str, len: usize, default: usize, least: usize) -> Result<Vec<usize>, Fault> {
        let Some(values) = self.ints(name)? else { return Ok(vec![default; len]) };
        let extents: Option<Vec<usize>> =
            values.iter().map(|&v| usize::try_from(v).ok().filter(|&v| v >= least)).collect();
        extents.filter(|v| v.len() == len).ok_or_else(|| {
            Fault::value(name, format!("is {values:?}, expected {len} integers of at least {least}"))
        })
    }

    /// Returns two non-negative integers for each of `axes` axes, in axis order, from a constant `[axes, 2]`.
    ///
    /// # Errors
    ///
    /// If the argument is missing or has another shape, or an element is negative.
    pub fn pairs(&self, name: &str, axes: usize) -> Result<Vec<usize>, Fault> {
        let ty = self.ty(name)?;
        let stated = self.ints_if_known(name).filter(|_| ty.shape == [axes, 2]);
        let extents = stated.and_then(|s| s.into_iter().map(|v| usize::try_from(v).ok()).collect());
        extents.ok_or_else(|| {
            let reason =
                format!("must be [{axes}, 2] integers of at least 0, stated in the program; found {ty}");
            Fault::value(name, reason)
        })
    }

    /// Returns the bool of a constant argument; `default` if the argument is missing.
    ///
    /// # Errors
    ///
    /// If the argument is bound, but not to a bool that the program states.
    pub fn bool_or(&self, name: &str, default: bool) -> Result<bool, Fault> {
        let stated =
            self.stated(name, Rank::Scalar, "a bool", |v| v.as_bools().and_then(|b| b.first()).copied())?;
        Ok(stated.unwrap_or(default))
    }

    /// Returns the bools of a constant argument; `None` if the argument is missing.
    ///
    /// # Errors
    ///
    /// If the argument is bound, but not to bools that the program states.
    pub fn bools(&self, name: &str) -> Result<Option<&'a [bool]>, Fault> {
        self.stated(name, Rank::Vector, "bools", Value::as_bools)
    }

    /// Returns the string of a constant argument; `None` if the argument is missing.
    ///
    /// # Errors
    ///
    /// If the argument is bound, but not to a string that the program states.
    pub fn string(&self, name: &str) -> Result<Option<&'a str>, Fault> {
        self.stated(name, Rank::Scalar, "a string", Value::as_str)
    }

    /// Returns the value of a constant scalar; `default` if the argument is missing.
    ///
    /// # Errors
    ///
    /// If the argument is bound, but not to an fp16 or fp32 value that the program states.
    pub fn float_or(&self, name: &str, default: f32) -> Result<f32, Fault> {
        Ok(self.stated(name, Rank::Scalar, "a number", Value::as_float)?.unwrap_or(default))
    }

    /// Returns the axes that a constant argument lists; all axes of `dims` if the argument is missing.
    ///
    /// # Errors
    ///
    /// If an axis is out of range or listed twice.
    pub fn axes(&self, name: &str, dims: &Dims) -> Result<Vec<usize>, Fault> {
        let Some(axes) = self.ints(name)? else { return Ok((0..dims.rank()).collect()) };
        let mut resolved = Vec::with_capacity(axes.len());
        for axis in axes {
            let axis = dims.axis(axis).ok_or_else(|| {
                Fault::value(name, format!("names axis {axis}, which is outside of {dims}"))
            })?;
            if resolved.contains(&axis) {
                return Err(Fault::value(name, format!("names axis {axis} twice")));
            }
            resolved.push(axis);
        }
        resolved.sort_unstable();
        Ok(resolved)
    }

    /// Returns the axis that a constant argument names.
    ///
    /// # Errors
    ///
    /// If the argument is missing or out of range.
    pub fn axis(&self, name: &str, dims: &Dims) -> Result<usize, Fault> {
        let axis = self.int(name)?.ok_or_else(|| Fault::missing(name))?;
        dims.axis(axis)
            .ok_or_else(|| Fault::value(name, format!("names axis {axis}, which is outside of {dims}")))
    }

    /// Returns the common element type of the named arguments that are bound.
    ///
    /// # Errors
    ///
    /// If two types differ, or no argument is bound.
    pub fn same_dtype(&self, names: &[&str]) -> Result<DType, Fault> {
        let mut found: Option<(&str, DType)> = None;
        for (name, arg) in names.iter().flat_map(|n| self.many(n).iter().map(move |a| (*n, a))) {
            match found {
                None => found = Some((name, arg.ty.dtype)),
                Some((_, dtype)) if dtype == arg.ty.dtype => {}
                Some((first, dtype)) => {
                    return Err(Fault::mismatch(
                        first,
                        format!("is {dtype} and {name} is {}, expected one type", arg.ty.dtype),
                    ));
                }
            }
        }
        found.map(|(_, dtype)| dtype).ok_or_else(|| Fault::missing(names.first().unwrap_or(&"values")))
    }

    fn stated<T>(
        &self,
        name: &str,
        rank: Rank,
        what: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Fault> {
        let Some(arg) = self.get(name) else { return Ok(None) };
        if arg.ty.shape.rank() != rank as usize {
            return Err(Fault::value(name, format!("is {}, expected {}", arg.ty, rank.describe())));
        }
        match arg.value.and_then(read) {
            Some(v) => Ok(Some(v)),
            None => Err(Fault::value(name, format!("must be {what}, stated in the program"))),
        }
    }
}

/// The rank of a constant. Core ML distinguishes a scalar from a vector of one element.
#[derive(Clone, Copy)]
enum Rank {
    Scalar = 0,
    Vector = 1,
}

impl Rank {
    fn describe(self) -> &'static str {
        match self {
            Self::Scalar => "a scalar",
            Self::Vector => "a vector",
        }
    }
}
