//! Builder of one operation.

use std::collections::BTreeMap;

use super::FunctionBuilder;
use super::var::{StateVar, Var};
use crate::error::{Error, Result};
use crate::finding::{Fault, Finding, Rule};
use crate::mil::{
    Binding, Container, NamedType, Operation, TensorType, Value, ValueType, attributes_are_arguments,
};
use crate::ops::{self, Arg, Args};

/// Collects the arguments of one operation.
#[derive(Debug)]
pub struct OpBuilder<'b, 'w> {
    builder: &'b mut FunctionBuilder<'w>,
    op: String,
    name: String,
    args: BTreeMap<String, Vec<BoundVar>>,
    state: Option<StateVar>,
    error: Option<Error>,
}

/// A binding, with the information that inference needs.
#[derive(Debug)]
struct BoundVar {
    /// `None` if the value is bound directly.
    name: Option<String>,
    ty: TensorType,
    container: Container,
    constant: bool,
    value: Option<Value>,
}

impl From<&Var> for BoundVar {
    fn from(var: &Var) -> Self {
        Self {
            name: Some(var.name.clone()),
            ty: var.ty.clone(),
            container: var.container,
            constant: var.constant,
            value: var.value.clone(),
        }
    }
}

impl<'b, 'w> OpBuilder<'b, 'w> {
    /// Begins an operation without arguments.
    pub(super) fn new(builder: &'b mut FunctionBuilder<'w>, op: &str, name: &str) -> Self {
        Self {
            builder,
            op: op.to_owned(),
            name: name.to_owned(),
            args: BTreeMap::new(),
            state: None,
            error: None,
        }
    }

    /// Sets the state that `read_state` or `write_state` uses.
    pub(super) fn state(mut self, state: &StateVar) -> Self {
        self.state = Some(state.clone());
        self
    }

    /// Binds a parameter to an earlier result.
    pub fn arg(mut self, param: &str, var: &Var) -> Self {
        self.args.insert(param.to_owned(), vec![var.into()]);
        self
    }

    /// Binds a variadic parameter.
    pub fn args(mut self, param: &str, vars: &[&Var]) -> Self {
        self.args.insert(param.to_owned(), vars.iter().map(|v| BoundVar::from(*v)).collect());
        self
    }

    /// Binds a parameter to a shared constant.
    pub fn value(mut self, param: &str, value: Value) -> Self {
        match self.builder.value(param, value) {
            Ok(var) => self.arg(param, &var),
            Err(e) => {
                self.error.get_or_insert(e);
                self
            }
        }
    }

    /// Binds a parameter directly to a constant, as `constexpr` operations and `classify` require.
    pub fn inline(mut self, param: &str, value: Value) -> Self {
        let content = value.ty.content().map(|(ty, container)| (ty.clone(), container));
        if let Some((ty, container)) = content {
            let bound = BoundVar { name: None, ty, container, constant: true, value: Some(value) };
            self.args.insert(param.to_owned(), vec![bound]);
        } else {
            let reason =
                format!("argument {param} of {} is {}, expected a tensor or a list", self.op, value.ty);
            self.error.get_or_insert(self.builder.error(Rule::ArgumentType, reason));
        }
        self
    }

    /// Binds the unbound parameters of a convolution that have one element for each spatial axis. Their
    /// defaults depend on the rank, so the operation table does not state them. Core ML is reported to refuse
    /// a convolution without them.
    fn bind_window(&mut self) -> Result<()> {
        if !["conv", "conv_transpose"].contains(&self.op.as_str()) {
            return Ok(());
        }
        let bound = |param: &str| self.args.get(param).and_then(|bound| bound.first());
        let Some(spatial) = bound("x").and_then(|x| x.ty.shape.rank().checked_sub(2)) else { return Ok(()) };
        // Custom padding has no default.
        let custom = bound("pad_type").and_then(|p| p.value.as_ref()?.as_str()) == Some("custom");
        for (param, count, element) in
            [("strides", spatial, 1), ("pad", 2 * spatial, 0), ("dilations", spatial, 1)]
        {
            if self.args.contains_key(param) || (param == "pad" && custom) {
                continue;
            }
            let var = self.builder.value(param, Value::ints([count], vec![element; count]))?;
            self.args.insert(param.to_owned(), vec![(&var).into()]);
        }
        Ok(())
    }

    /// Adds an operation with one result.
    ///
    /// # Errors
    ///
    /// If the arguments break a rule of the operation.
    pub fn one(self) -> Result<Var> {
        let name = self.name.clone();
        let mut vars = self.many(&[&name])?;
        Ok(vars.remove(0))
    }

    /// Adds an operation with results called `names`.
    ///
    /// # Errors
    ///
    /// If the arguments break a rule of the operation, or the number of results differs.
    pub fn many(mut self, names: &[&str]) -> Result<Vec<Var>> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        self.bind_window()?;
        let spec = self.spec()?;
        self.bind_defaults(spec)?;
        let types = self.infer(spec).map_err(|fault| self.bad(fault))?;
        if types.len() != names.len() {
            let reason = format!("it has {} results, {} names given", types.len(), names.len());
            return Err(self.bad(Fault::new(Rule::ResultCount, reason)));
        }
        for name in names {
            self.builder.claim(name)?;
        }
        let constant = self.op.starts_with("constexpr_");
        let var = |(name, ty): (&&str, ValueType)| {
            let (ty, container) = ty.content().map(|(ty, container)| (ty.clone(), container))?;
            Some(Var { name: (*name).to_owned(), ty, container, constant, value: None })
        };
        let vars: Vec<Var> = names.iter().zip(types).filter_map(var).collect();
        self.append(&vars);
        Ok(vars)
    }

    /// Returns the operation's entry in the operation table, provided that the function's opset has it.
    fn spec(&self) -> Result<&'static ops::OpSpec> {
        let spec = ops::lookup(&self.op).ok_or_else(|| self.bad(ops::unknown(&self.op)))?;
        if spec.since > self.builder.opset {
            let reason = format!("it requires opset {}, the function has {}", spec.since, self.builder.opset);
            return Err(self.bad(Fault::new(Rule::OperationTooNew, reason)));
        }
        Ok(spec)
    }

    /// Binds the unbound parameters for which the operation table states a default.
    fn bind_defaults(&mut self, spec: &ops::OpSpec) -> Result<()> {
        let returned = self.args.get("return_indices").and_then(|bound| bound.first()?.value.as_ref());
        let no_indices = returned.and_then(Value::as_bools) == Some(&[false]);
        for param in spec.params_of(self.builder.opset) {
            if no_indices && param.is_of_indices() {
                continue;
            }
            if let (Some(default), false) = (param.default, self.args.contains_key(param.name)) {
                let mut mates = spec
                    .params_of(self.builder.opset)
                    .filter(|p| p.domain.is_some() && p.domain == param.domain);
                let mate = mates.find_map(|p| self.args.get(p.name)?.first());
                let var = self.builder.value(param.name, default.value(mate.map(|m| m.ty.dtype)))?;
                self.args.insert(param.name.to_owned(), vec![(&var).into()]);
            }
        }
        Ok(())
    }

    /// Appends the operation to the function's block.
    fn append(self, results: &[Var]) {
        let mut inputs: BTreeMap<String, Vec<Binding>> = BTreeMap::new();
        let mut attributes = BTreeMap::from([("name".to_owned(), Value::string(self.name))]);
        let as_attributes = attributes_are_arguments(&self.op, self.builder.opset);
        for (param, mut bound) in self.args {
            if let (true, [BoundVar { name: None, value, .. }]) = (as_attributes, bound.as_mut_slice()) {
                attributes.extend(value.take().map(|value| (param, value)));
                continue;
            }
            let bindings = bound.into_iter().map(|b| match (b.name, b.value) {
                (None, Some(value)) => Binding::Value(value),
                (name, _) => Binding::Name(name.unwrap_or_default()),
            });
            inputs.insert(param, bindings.collect());
        }
        if let Some(state) = self.state {
            inputs.insert("input".into(), vec![Binding::Name(state.name)]);
        }
        self.builder.block.operations.push(Operation {
            op: self.op,
            inputs,
            outputs: results.iter().map(|v| NamedType { name: v.name.clone(), ty: v.value_type() }).collect(),
            attributes,
            blocks: Vec::new(),
        });
    }

    fn bad(&self, fault: Fault) -> Error {
        Finding::operation(&self.builder.name, format!("{} -> %{}", self.op, self.name), fault).into()
    }

    /// Checks the arguments and infers the types of the results.
    fn infer(&self, spec: &ops::OpSpec) -> ops::InferredValues {
        let mut bound: BTreeMap<&str, Vec<Arg<'_>>> = BTreeMap::new();
        for (param, vars) in &self.args {
            let args = vars.iter().map(|v| Arg {
                name: v.name.as_deref(),
                ty: &v.ty,
                container: v.container,
                constant: v.constant,
                value: v.value.as_ref(),
            });
            bound.insert(param, args.collect());
        }
        if let Some(state) = &self.state {
            let arg = Arg {
                name: Some(&state.name),
                ty: &state.ty,
                container: Container::State,
                constant: false,
                value: None,
            };
            bound.insert("input", vec![arg]);
        }
        let args = Args::new(self.builder.opset, bound, Vec::new());
        spec.check(&args)?;
        spec.infer(&args)
    }
}
