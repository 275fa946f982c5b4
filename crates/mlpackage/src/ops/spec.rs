//! Entries of the operation table.

use super::args::Args;
use super::dtype_constraint::DTypeConstraint;
use crate::dtype::DType;
use crate::finding::Fault;
use crate::mil::{Opset, TensorType, Value, ValueType};

/// The types of an operation's results, or the rule that its arguments break.
pub type Inferred = Result<Vec<TensorType>, Fault>;

/// The types of an operation's results, which may include lists and dictionaries, or the rule that its
/// arguments break.
pub type InferredValues = Result<Vec<ValueType>, Fault>;

/// Infers the types of results from arguments.
#[derive(Clone, Copy, Debug)]
enum Inference {
    Tensors(fn(&Args<'_>) -> Inferred),
    Values(fn(&Args<'_>) -> InferredValues),
}

/// An operation of MIL.
#[derive(Debug)]
pub struct OpSpec {
    /// The operation's type, such as `conv`.
    pub name: &'static str,
    /// The parameters.
    pub params: &'static [Param],
    /// The first opset that has the operation in this form.
    pub since: Opset,
    inference: Inference,
}

impl OpSpec {
    /// Creates an operation that every opset has.
    pub(crate) const fn new(
        name: &'static str,
        params: &'static [Param],
        infer: fn(&Args<'_>) -> Inferred,
    ) -> Self {
        Self { name, params, since: Opset::CoreML5, inference: Inference::Tensors(infer) }
    }

    /// Creates an operation that every opset has and that may return lists or dictionaries.
    pub(crate) const fn of_values(
        name: &'static str,
        params: &'static [Param],
        infer: fn(&Args<'_>) -> InferredValues,
    ) -> Self {
        Self { name, params, since: Opset::CoreML5, inference: Inference::Values(infer) }
    }

    /// Infers the types of the results.
    ///
    /// # Errors
    ///
    /// The rule that the arguments break.
    pub fn infer(&self, args: &Args<'_>) -> InferredValues {
        match self.inference {
            Inference::Tensors(infer) => {
                infer(args).map(|types| types.into_iter().map(ValueType::from).collect())
            }
            Inference::Values(infer) => infer(args),
        }
    }

    /// Infers the types of the results, all of which must be tensors.
    ///
    /// # Errors
    ///
    /// The rule that the arguments break, or a result that is not a tensor.
    pub fn infer_tensors(&self, args: &Args<'_>) -> Inferred {
        let tensor = |ty: ValueType| match ty {
            ValueType::Tensor(ty) => Ok(ty),
            other => Err(Fault::from(format!("it returns {other}, which is not a tensor"))),
        };
        match self.inference {
            Inference::Tensors(infer) => infer(args),
            Inference::Values(infer) => infer(args)?.into_iter().map(tensor).collect(),
        }
    }

    pub(crate) const fn since(mut self, since: Opset) -> Self {
        self.since = since;
        self
    }

    /// Returns the parameters in `opset`.
    pub fn params_of(&self, opset: Opset) -> impl Iterator<Item = &'static Param> {
        self.params.iter().filter(move |p| p.since <= opset && p.until.is_none_or(|until| opset < until))
    }

    /// Returns the parameter called `name` in `opset`.
    pub fn param(&self, name: &str, opset: Opset) -> Option<&'static Param> {
        self.params_of(opset).find(|p| p.name == name)
    }
}

/// A parameter of an operation.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    /// The name.
    pub name: &'static str,
    /// The accepted types.
    pub kind: DTypeConstraint,
    /// Arguments of parameters with the same letter must have the same element type.
    pub domain: Option<char>,
    /// Whether it must be bound to a constant.
    pub constant: bool,
    /// Whether it accepts several bindings.
    pub variadic: bool,
    /// Whether a variadic parameter may have no bindings.
    pub may_be_empty: bool,
    /// Whether it must be bound.
    pub required: bool,
    /// The value if it is not bound. The builder binds it explicitly, as coremltools does.
    pub default: Option<Default>,
    /// The first opset that has the parameter.
    pub since: Opset,
    /// The first opset that no longer has the parameter.
    pub until: Option<Opset>,
}

/// A default value, which is a scalar.
#[derive(Clone, Copy, Debug)]
pub enum Default {
    /// int32.
    Int(i32),
    /// bool.
    Bool(bool),
    /// fp32, or fp16 if other arguments of the same domain are fp16.
    Fp32(f32),
    /// string.
    String(&'static str),
}

impl Default {
    /// Returns the default as a constant, of element type `dtype` if other arguments determine it.
    pub fn value(self, dtype: Option<DType>) -> Value {
        match (self, dtype) {
            (Self::Int(v), Some(DType::Fp16)) => Value::fp16(v as f32),
            (Self::Int(v), Some(DType::Fp32)) => Value::fp32(v as f32),
            (Self::Fp32(v), Some(DType::Fp16)) => Value::fp16(v),
            (Self::Int(v), _) => Value::int(v),
            (Self::Bool(v), _) => Value::bool(v),
            (Self::Fp32(v), _) => Value::fp32(v),
            (Self::String(v), _) => Value::string(v),
        }
    }
}

impl Param {
    /// Creates a required parameter that need not be a constant.
    pub(crate) const fn new(name: &'static str, kind: DTypeConstraint) -> Self {
        Self {
            name,
            kind,
            domain: None,
            constant: false,
            variadic: false,
            may_be_empty: false,
            required: true,
            default: None,
            since: Opset::CoreML5,
            until: None,
        }
    }

    /// Returns whether it applies to the indices of `topk`; it must not be bound if `topk` returns none.
    pub(crate) fn is_of_indices(&self) -> bool {
        self.name == "output_indices_dtype"
    }

    /// Creates a required parameter that must be a constant.
    pub(crate) const fn constant(name: &'static str, kind: DTypeConstraint) -> Self {
        let mut param = Self::new(name, kind);
        param.constant = true;
        param
    }

    /// Requires the same element type as all other parameters of `domain`.
    pub(crate) const fn domain(mut self, domain: char) -> Self {
        self.domain = Some(domain);
        self
    }

    pub(crate) const fn optional(mut self) -> Self {
        self.required = false;
        self
    }

    pub(crate) const fn variadic(mut self) -> Self {
        self.variadic = true;
        self
    }

    /// Allows any number of bindings, including zero.
    pub(crate) const fn any_number(mut self) -> Self {
        self.may_be_empty = true;
        self.variadic()
    }

    pub(crate) const fn since(mut self, since: Opset) -> Self {
        self.since = since;
        self
    }

    pub(crate) const fn until(mut self, until: Opset) -> Self {
        self.until = Some(until);
        self
    }

    pub(crate) const fn or_int(mut self, value: i32) -> Self {
        self.default = Some(Default::Int(value));
        self.optional()
    }

    pub(crate) const fn or_bool(mut self, value: bool) -> Self {
        self.default = Some(Default::Bool(value));
        self.optional()
    }

    pub(crate) const fn or_fp32(mut self, value: f32) -> Self {
        self.default = Some(Default::Fp32(value));
        self.optional()
    }

    pub(crate) const fn or_string(mut self, value: &'static str) -> Self {
        self.default = Some(Default::String(value));
        self.optional()
    }
}
