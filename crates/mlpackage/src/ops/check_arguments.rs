//! Checks arguments against the parameters of an operation.

use std::collections::BTreeMap;

use super::args::{Arg, Args};
use super::spec::{OpSpec, Param};
use crate::finding::{Fault, Rule};
use crate::mil::Opset;

impl OpSpec {
    /// Checks names, counts, element types and constness of an operation's arguments.
    ///
    /// # Errors
    ///
    /// The first broken rule.
    pub fn check(&self, args: &Args<'_>) -> Result<(), Fault> {
        for (name, bindings) in args.iter() {
            let Some(param) = self.param(name, args.opset()) else {
                let known: Vec<_> = self.params_of(args.opset()).map(|p| p.name).collect();
                let reason = format!("is unknown, expected one of {}", known.join(", "));
                return Err(Fault::at(Rule::ArgumentUnknown, name, reason));
            };
            let none = bindings.is_empty() && !param.may_be_empty;
            if none || (bindings.len() > 1 && !param.variadic) {
                let reason = format!("has {} bindings, expected one", bindings.len());
                return Err(Fault::at(Rule::ArgumentCount, name, reason));
            }
            for arg in bindings {
                check_binding(arg, param, args.opset())
                    .map_err(|(rule, reason)| Fault::at(rule, name, reason))?;
            }
        }
        if let Some(missing) = self.params_of(args.opset()).find(|p| p.required && !args.is_bound(p.name)) {
            return Err(Fault::missing(missing.name));
        }
        let mut domains: BTreeMap<char, Vec<&str>> = BTreeMap::new();
        for param in self.params_of(args.opset()) {
            // Since iOS 17 coremltools writes the default epsilon of a norm as fp32, regardless of the other
            // types.
            let apart = param.name == "epsilon" && args.opset() >= Opset::CoreML7;
            if let Some(domain) = param.domain.filter(|_| args.is_bound(param.name) && !apart) {
                domains.entry(domain).or_default().push(param.name);
            }
        }
        domains.into_values().try_for_each(|names| args.same_dtype(&names).map(|_| ()))
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
