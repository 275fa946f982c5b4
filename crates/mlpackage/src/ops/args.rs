//! The arguments of one operation, looked up by name.

use std::collections::BTreeMap;

use super::spec::{OpSpec, Param};
use crate::dtype::DType;
use crate::finding::{Fault, Rule};
use crate::mil::{Container, Dims, Opset, TensorType, Value, ValueType};
use crate::shape::Shape;

/// What one binding is bound to.
#[derive(Clone, Debug)]
pub struct Arg<'a> {
    /// The name of the value; `None` if a constant is bound directly.
    pub name: Option<&'a str>,
    /// Its type; of what it holds, if it is a state, a list or a dictionary.
    pub ty: &'a TensorType,
    /// What it is.
    pub container: Container,
    /// Whether it is known before the program runs.
    pub constant: bool,
    /// The constant itself, where it is one that the program states (not the result of a `constexpr` operation).
    pub value: Option<&'a Value>,
}

impl Arg<'_> {
    /// Whether it is a state.
    pub fn is_state(&self) -> bool {
        self.container == Container::State
    }

    /// The whole type.
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

/// What a nested block takes and gives.
#[derive(Clone, Debug, Default)]
pub struct BlockTypes {
    /// Types of its inputs.
    pub inputs: Vec<ValueType>,
    /// Types of what it returns.
    pub outputs: Vec<ValueType>,
}

impl<'a> Args<'a> {
    /// The arguments `bound` of an operation in a function of `opset`, with the types of its blocks.
    pub fn new(opset: Opset, bound: BTreeMap<&'a str, Vec<Arg<'a>>>, blocks: Vec<BlockTypes>) -> Self {
        Self { opset, bound, blocks }
    }

    /// What the operation's blocks take and give.
    pub fn blocks(&self) -> &[BlockTypes] {
        &self.blocks
    }

    /// The opset of the function that the operation is in.
    pub fn opset(&self) -> Opset {
        self.opset
    }

    /// Whether the arguments are those that `spec` asks for: names, counts, element types, constants.
    ///
    /// # Errors
    ///
    /// The first rule that is broken.
    pub fn check_against(&self, spec: &OpSpec) -> Result<(), Fault> {
        for (name, bindings) in &self.bound {
            let Some(param) = spec.param(name, self.opset) else {
                let known: Vec<_> = spec.params_of(self.opset).map(|p| p.name).collect();
                let reason = format!("is unknown; the operation takes {}", known.join(", "));
                return Err(Fault::at(Rule::ArgumentUnknown, name, reason));
            };
            let none = bindings.is_empty() && !param.may_be_empty;
            if none || (bindings.len() > 1 && !param.variadic) {
                let reason = format!("has {} bindings, expected one", bindings.len());
                return Err(Fault::at(Rule::ArgumentCount, name, reason));
            }
            for arg in bindings {
                check_binding(arg, param, self.opset)
                    .map_err(|(rule, reason)| Fault::at(rule, name, reason))?;
            }
        }
        if let Some(missing) =
            spec.params_of(self.opset).find(|p| p.required && !self.bound.contains_key(p.name))
        {
            return Err(Fault::missing(missing.name));
        }
        let mut domains: BTreeMap<char, Vec<&str>> = BTreeMap::new();
        for param in spec.params_of(self.opset) {
            // Since iOS 17 coremltools writes the default epsilon of a norm in fp32, whatever type the other parameters have.
            let apart = param.name == "epsilon" && self.opset >= Opset::CoreML7;
            if let Some(domain) = param.domain.filter(|_| self.bound.contains_key(param.name) && !apart) {
                domains.entry(domain).or_default().push(param.name);
            }
        }
        domains.into_values().try_for_each(|names| self.same_dtype(&names).map(|_| ()))
    }

    /// All bindings, by parameter name.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &[Arg<'a>])> {
        self.bound.iter().map(|(name, args)| (*name, args.as_slice()))
    }

    /// The binding of an argument that may be missing.
    pub fn get(&self, name: &str) -> Option<&Arg<'a>> {
        self.bound.get(name).and_then(|args| args.first())
    }

    /// All bindings of a variadic argument.
    pub fn many(&self, name: &str) -> &[Arg<'a>] {
        self.bound.get(name).map_or(&[], Vec::as_slice)
    }

    /// The type of an argument.
    ///
    /// # Errors
    ///
    /// If it is missing.
    pub fn ty(&self, name: &str) -> Result<&'a TensorType, Fault> {
        self.get(name).map(|a| a.ty).ok_or_else(|| Fault::missing(name))
    }

    /// The dimensions of an argument.
    ///
    /// # Errors
    ///
    /// If it is missing.
    pub fn dims(&self, name: &str) -> Result<&'a Dims, Fault> {
        self.ty(name).map(|t| &t.shape)
    }

    /// The shape of an argument.
    ///
    /// # Errors
    ///
    /// If it is missing, or a dimension is open.
    pub fn shape(&self, name: &str) -> Result<Shape, Fault> {
        let ty = self.ty(name)?;
        ty.shape.known().ok_or_else(|| Fault::value(name, format!("is {ty}: its dimensions are not fixed")))
    }

    /// A vector of integers, of a constant argument that may be missing.
    ///
    /// # Errors
    ///
    /// If it is bound, but not to a vector of integers that the program states.
    pub fn ints(&self, name: &str) -> Result<Option<Vec<i32>>, Fault> {
        self.stated(name, Rank::Vector, "integers", Value::to_ints)
    }

    /// Integers of an argument, if the program states them; `None` if it is missing or computed.
    pub fn ints_if_known(&self, name: &str) -> Option<Vec<i32>> {
        self.get(name)?.value.and_then(Value::to_ints)
    }

    /// The integer of a constant scalar argument.
    ///
    /// # Errors
    ///
    /// As [`ints`](Self::ints), and if there is not exactly one.
    pub fn int(&self, name: &str) -> Result<Option<i32>, Fault> {
        self.stated(name, Rank::Scalar, "an integer", |value| value.to_ints()?.first().copied())
    }

    /// The extent that a constant argument names, which must be positive; `None` if it is missing.
    ///
    /// # Errors
    ///
    /// If it is not one positive integer.
    pub fn extent(&self, name: &str) -> Result<Option<usize>, Fault> {
        let Some(value) = self.int(name)? else { return Ok(None) };
        let extent = usize::try_from(value).ok().filter(|&v| v > 0);
        extent.map(Some).ok_or_else(|| Fault::value(name, format!("is {value}, expected a positive number")))
    }

    /// As many non-negative integers as `len`, from a constant argument; `default` for each if it is missing.
    ///
    /// # Errors
    ///
    /// If there are not as many, or one is below `least`.
    pub fn extents(&self, name: &str, len: usize, default: usize, least: usize) -> Result<Vec<usize>, Fault> {
        let Some(values) = self.ints(name)? else { return Ok(vec![default; len]) };
        let extents: Option<Vec<usize>> =
            values.iter().map(|&v| usize::try_from(v).ok().filter(|&v| v >= least)).collect();
        extents.filter(|v| v.len() == len).ok_or_else(|| {
            Fault::value(name, format!("is {values:?}, expected {len} numbers of at least {least}"))
        })
    }

    /// Two non-negative integers for each of `axes` axes, one pair behind the other, from a constant argument `[axes, 2]`.
    ///
    /// # Errors
    ///
    /// If it is missing, of another shape, or one is negative.
    pub fn pairs(&self, name: &str, axes: usize) -> Result<Vec<usize>, Fault> {
        let ty = self.ty(name)?;
        let stated = self.ints_if_known(name).filter(|_| ty.shape == [axes, 2]);
        let extents = stated.and_then(|s| s.into_iter().map(|v| usize::try_from(v).ok()).collect());
        extents.ok_or_else(|| {
            let reason =
                format!("must be [{axes}, 2] numbers of at least 0, stated in the program; it is {ty}");
            Fault::value(name, reason)
        })
    }

    /// The bool of a constant argument, `default` if it is missing.
    ///
    /// # Errors
    ///
    /// If it is bound, but not to a bool that the program states.
    pub fn bool_or(&self, name: &str, default: bool) -> Result<bool, Fault> {
        let stated =
            self.stated(name, Rank::Scalar, "a bool", |v| v.as_bools().and_then(|b| b.first()).copied())?;
        Ok(stated.unwrap_or(default))
    }

    /// The bools of a constant argument that may be missing.
    ///
    /// # Errors
    ///
    /// If it is bound, but not to bools that the program states.
    pub fn bools(&self, name: &str) -> Result<Option<&'a [bool]>, Fault> {
        self.stated(name, Rank::Vector, "bools", Value::as_bools)
    }

    /// The string of a constant argument that may be missing.
    ///
    /// # Errors
    ///
    /// If it is bound, but not to a string that the program states.
    pub fn string(&self, name: &str) -> Result<Option<&'a str>, Fault> {
        self.stated(name, Rank::Scalar, "a string", Value::as_str)
    }

    /// The number of a constant scalar argument, `default` if it is missing.
    ///
    /// # Errors
    ///
    /// If it is bound, but not to an fp16 or fp32 value that the program states.
    pub fn float_or(&self, name: &str, default: f32) -> Result<f32, Fault> {
        Ok(self.stated(name, Rank::Scalar, "a number", Value::as_float)?.unwrap_or(default))
    }

    /// The axes that a constant argument names, each in range and none twice; all of `dims`' if it is missing.
    ///
    /// # Errors
    ///
    /// If an axis is out of range or named twice.
    pub fn axes(&self, name: &str, dims: &Dims) -> Result<Vec<usize>, Fault> {
        let Some(axes) = self.ints(name)? else { return Ok((0..dims.rank()).collect()) };
        let mut resolved = Vec::with_capacity(axes.len());
        for axis in axes {
            let axis = dims
                .axis(axis)
                .ok_or_else(|| Fault::value(name, format!("names axis {axis} is outside of {dims}")))?;
            if resolved.contains(&axis) {
                return Err(Fault::value(name, format!("names axis {axis} twice")));
            }
            resolved.push(axis);
        }
        resolved.sort_unstable();
        Ok(resolved)
    }

    /// The one axis that a constant argument names.
    ///
    /// # Errors
    ///
    /// If it is missing or out of range.
    pub fn axis(&self, name: &str, dims: &Dims) -> Result<usize, Fault> {
        let axis = self.int(name)?.ok_or_else(|| Fault::missing(name))?;
        dims.axis(axis).ok_or_else(|| Fault::value(name, format!("names axis {axis} is outside of {dims}")))
    }

    /// The element type that all of the named arguments that are bound share.
    ///
    /// # Errors
    ///
    /// If two differ, or none is bound.
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

/// The rank of a constant: Core ML tells a scalar from a vector of one.
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

fn check_binding(arg: &Arg<'_>, param: &Param, opset: Opset) -> Result<(), (Rule, String)> {
    if arg.is_state() != param.kind.is_state() {
        let found = if arg.is_state() { "a state" } else { "a tensor" };
        return Err((Rule::StateUse, format!("is {found}, expected {}", param.kind.describe(opset))));
    }
    let fits = param.kind.takes(arg.container) && param.kind.dtypes(opset).contains(&arg.ty.dtype);
    if !arg.is_state() && !fits {
        let expected = param.kind.describe(opset);
        return Err((Rule::ArgumentType, format!("is {}, expected {expected}", arg.value_type())));
    }
    if param.constant && !arg.constant {
        return Err((Rule::ArgumentConstant, "must be a constant".into()));
    }
    Ok(())
}
