//! Operations with the properties that laws use: types, weights, work and sources.

use std::collections::HashMap;

use mlpackage::check::Resolved;
use mlpackage::mil::{Binding, BlobInts, Function, Operation, TensorType, Value};
use mlpackage::ops::Args;
use mlpackage::{DType, Error};

use crate::error::Result;
use crate::products::{kernel, multiply_adds, rows};
use crate::residency::computes;
use crate::weight_info::{Weight, names, size, tensor, weights};

/// One operation of a function that is not a constant.
#[derive(Clone, Debug)]
pub struct OpContext<'a> {
    /// The operation.
    pub operation: &'a Operation,
    /// Its name: that of its first result or, without one, of the operation.
    pub name: String,
    /// Element type of its first result, or of the state that it writes.
    pub dtype: DType,
    /// Types of its tensor arguments that are not constants.
    pub inputs: Vec<TensorType>,
    /// Types of its results.
    pub outputs: Vec<TensorType>,
    /// The weight that it multiplies with, if any.
    pub weight: Option<Weight>,
    /// Sizes of a convolution's kernel; empty for other operations.
    pub kernel: Vec<usize>,
    /// Multiply-adds; 0 for operations without a product.
    pub work: u64,
    /// Number of rows that the weight is multiplied with: batch times positions. 1 for other operations.
    pub rows: u64,
    /// Bytes that it reads and writes, with weights as stored.
    pub bytes: u64,
    /// The operations that it depends on, through values or states, as indices into the list of the function's
    /// operations.
    pub sources: Vec<usize>,
    /// Its arguments, by parameter.
    pub args: Args<'a>,
    /// Whether it has blocks, like `cond` and `while_loop`.
    pub has_blocks: bool,
}

impl<'a> OpContext<'a> {
    /// Returns whether it is a convolution of kernel size 1 with a weight.
    pub fn is_pointwise(&self) -> bool {
        self.operation.op == "conv" && self.weight.is_some() && self.kernel.iter().all(|&k| k == 1)
    }

    /// Returns a constant argument as f32 values, if the program states it inline.
    pub(crate) fn stated(&self, param: &str) -> Option<Vec<f32>> {
        let value: &Value = self.args.get(param)?.value?;
        match &value.data {
            mlpackage::mil::ValueData::Immediate(literal) => literal.to_f32(value.tensor_type()?),
            _ => None,
        }
    }

    /// Lists every operation of a function that computes.
    ///
    /// # Errors
    ///
    /// The first rule of MIL that the function violates.
    pub(crate) fn list(name: &'a str, function: &'a Function, ints: &'a BlobInts) -> Result<Vec<Self>> {
        let resolved = mlpackage::check::resolve(name, function, ints).map_err(|findings| {
            let first = findings.into_iter().find(mlpackage::Finding::is_error);
            Error::from(first.expect("resolve fails for an error that it found"))
        })?;
        let weights = weights(function);
        // The operation that produces each value; constants have none. A reader of a state depends on its last
        // writer.
        let mut makers: HashMap<&str, usize> = HashMap::new();
        let mut contexts = Vec::new();
        for Resolved { operation, args, .. } in resolved {
            if !computes(&operation.op) {
                continue;
            }
            let context = Self::new(operation, args, &weights, &makers);
            let index = contexts.len();
            if operation.op == "write_state"
                && let Some(Binding::Name(state)) = operation.inputs.get("input").and_then(|b| b.first())
            {
                makers.insert(state, index);
            }
            makers.extend(operation.outputs.iter().map(|o| (o.name.as_str(), index)));
            contexts.push(context);
        }
        Ok(contexts)
    }

    fn new(
        operation: &'a Operation,
        args: Args<'a>,
        weights: &HashMap<&str, Weight>,
        makers: &HashMap<&str, usize>,
    ) -> Self {
        let outputs: Vec<TensorType> =
            operation.outputs.iter().filter_map(|o| tensor(&o.ty)).cloned().collect();
        let written = outputs.iter().fold(0u64, |sum, ty| sum.saturating_add(size(ty)));
        let Reads { inputs, state, bytes: read } = Reads::of(&args, weights);
        let weight = multiplied_weight(operation, &args, weights);
        let work = multiply_adds(operation, &args, &outputs, weight);
        let rows = if work == 0 { 1 } else { rows(operation, &outputs) };
        let ty = outputs.first().or(state);
        Self {
            name: context_name(operation),
            dtype: ty.map_or(DType::Fp16, |ty| ty.dtype),
            inputs,
            outputs,
            weight,
            kernel: kernel(operation, &args),
            work,
            rows,
            bytes: written.saturating_add(read),
            sources: sources(operation, makers),
            has_blocks: !operation.blocks.is_empty(),
            operation,
            args,
        }
    }
}

/// The data that an operation reads.
struct Reads<'r> {
    /// Types of tensors that are not constants.
    inputs: Vec<TensorType>,
    /// Type of the state, if it has one.
    state: Option<&'r TensorType>,
    /// Bytes of tensors, states and weights, with weights as stored.
    bytes: u64,
}

impl<'r> Reads<'r> {
    fn of(args: &Args<'r>, weights: &HashMap<&str, Weight>) -> Self {
        let mut reads = Self { inputs: Vec::new(), state: None, bytes: 0 };
        // Strides and similar arguments are not data.
        for arg in args.iter().flat_map(|(_, bound)| bound).filter(|a| !a.constant || a.ty.dtype.is_float()) {
            let stored = arg.name.and_then(|name| weights.get(name));
            reads.bytes =
                reads.bytes.saturating_add(stored.map_or_else(|| size(arg.ty), |weight| weight.bytes));
            if arg.is_state() {
                reads.state = Some(arg.ty);
            } else if !arg.constant {
                reads.inputs.push(arg.ty.clone());
            }
        }
        reads
    }
}

/// Returns the operations that produce what an operation uses, in order.
fn sources(operation: &Operation, makers: &HashMap<&str, usize>) -> Vec<usize> {
    let mut sources: Vec<usize> = names(operation).filter_map(|name| makers.get(name).copied()).collect();
    sources.sort_unstable();
    sources.dedup();
    sources
}

/// Returns the weight that an operation multiplies with, if any.
fn multiplied_weight(
    operation: &Operation,
    args: &Args<'_>,
    weights: &HashMap<&str, Weight>,
) -> Option<Weight> {
    let bound = |param: &str| {
        let arg = args.get(param)?;
        weights.get(arg.name.filter(|_| arg.constant)?).copied()
    };
    match operation.op.as_str() {
        "conv" | "conv_transpose" | "linear" => bound("weight"),
        "matmul" => bound("y").or_else(|| bound("x")),
        // These have several matrices each; the largest one represents the layer.
        "lstm" | "gru" | "rnn" => {
            names(operation).filter_map(|name| weights.get(name)).max_by_key(|w| w.elements).copied()
        }
        _ => None,
    }
}

/// Returns the name of the first result or, without results, of the operation.
fn context_name(operation: &Operation) -> String {
    let own = || operation.attributes.get("name").and_then(|v| v.as_str()).unwrap_or("?").to_owned();
    operation.outputs.first().map_or_else(own, |o| o.name.clone())
}

#[cfg(test)]
pub(crate) mod tests {
    use mlpackage::BlobWriter;
    use mlpackage::builder::FunctionBuilder;
    use mlpackage::mil::Opset;

    use super::*;
    use crate::corpus::WeightFormat;
    use crate::laws::Law;

    /// Builds a function and lists its operations; the function is leaked.
    pub(crate) fn contexts(
        build: impl FnOnce(&mut FunctionBuilder<'_>) -> mlpackage::Result<()>,
    ) -> Vec<OpContext<'static>> {
        let dir = tempfile::tempdir().unwrap();
        let mut weights = BlobWriter::create(dir.path().join("weight.bin")).unwrap();
        let mut f = FunctionBuilder::new("main", Opset::CoreML8, &mut weights);
        build(&mut f).unwrap();
        let function: &'static Function = Box::leak(Box::new(f.finish()));
        OpContext::list("main", function, Box::leak(Box::default())).unwrap()
    }

    /// Returns why a law keeps the named operation off.
    pub(crate) fn kept_off(law: &dyn Law, contexts: &[OpContext<'_>], name: &str) -> Option<String> {
        law.operation(contexts.iter().find(|s| s.name == name).unwrap())
    }

    /// Computed by hand: output elements times the length of the reduction.
    #[test]
    fn multiply_adds_are_those_of_the_shapes() {
        use mlpackage::mil::{TensorType, Value};
        let contexts = contexts(|f| {
            let x = f.input("x", DType::Fp16, [1, 8, 6, 6])?;
            let w = f.weight("w", TensorType::new(DType::Fp16, [4, 8, 3, 3]), &[0; 4 * 8 * 9 * 2])?;
            let c = f
                .op("conv", "c")
                .arg("x", &x)
                .arg("weight", &w)
                .value("pad_type", Value::string("valid"))
                .one()?;
            let m = f
                .op("matmul", "m")
                .arg("x", &c)
                .arg("y", &c)
                .value("transpose_y", Value::bool(true))
                .one()?;
            let r = f.op("relu", "r").arg("x", &m).one()?;
            f.output(&r);
            Ok(())
        });
        let work: Vec<_> = contexts.iter().map(|s| (s.name.as_str(), s.work)).collect();
        // [1, 4, 4, 4] elements of 8 * 9 each; [1, 4, 4, 4] elements of 4 each.
        assert_eq!(work, [("c", 64 * 72), ("m", 64 * 4), ("r", 0)]);
        assert_eq!(
            contexts[0].weight,
            Some(Weight { stored: WeightFormat::None, elements: 288, bytes: 576 })
        );
        assert_eq!(
            (contexts[0].rows, contexts[0].kernel.clone(), contexts[1].sources.clone()),
            (16, vec![3, 3], vec![0])
        );
        // Input, weight and output, in fp16.
        assert_eq!(contexts[0].bytes, 2 * (8 * 36 + 288 + 64));
    }
}
