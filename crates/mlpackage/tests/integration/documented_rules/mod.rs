//! Rules from coremltools 9.0's documentation about arguments and result types, by opset. Comments in quotes
//! cite it. `docs/operations.md` lists the rules by operation; `ane-runtime/tests/integration/documented_examples` tests
//! computed values. Each file holds one family of operations.

mod elementwise;
mod layer;
mod reshape;
mod scatter_gather;
mod slice;
mod tensor_operation;

use mlpackage::builder::FunctionBuilder;
use mlpackage::mil::{Dim, Dims, Opset, Value};
use mlpackage::{BlobWriter, DType};

const ALL: &[Opset] = &Opset::ALL;
const IOS15: &[Opset] = &[Opset::CoreML5];
const UP_TO_IOS16: &[Opset] = &[Opset::CoreML5, Opset::CoreML6];
const SINCE_IOS16: &[Opset] = &[Opset::CoreML6, Opset::CoreML7, Opset::CoreML8, Opset::CoreML9];
const SINCE_IOS17: &[Opset] = &[Opset::CoreML7, Opset::CoreML8, Opset::CoreML9];
const SINCE_IOS18: &[Opset] = &[Opset::CoreML8, Opset::CoreML9];

/// An input: the parameter to which it is bound, its element type, and its dimensions; -1 is unknown.
type Input<'a> = (&'a str, DType, &'a [i32]);

/// A use of an operation: computed inputs, and constants.
struct Use<'a> {
    op: &'a str,
    inputs: &'a [Input<'a>],
    constants: &'a [(&'a str, Value)],
}

const fn used<'a>(op: &'a str, inputs: &'a [Input<'a>], constants: &'a [(&'a str, Value)]) -> Use<'a> {
    Use { op, inputs, constants }
}

impl Use<'_> {
    /// Infers the types of the results, of which there are `count`.
    fn infer(&self, opset: Opset, count: usize) -> Result<Vec<String>, String> {
        let dir = tempfile::tempdir().unwrap();
        let mut weights = BlobWriter::create(dir.path().join("weight.bin")).unwrap();
        let mut f = FunctionBuilder::new("main", opset, &mut weights);
        let mut bound: Vec<(&str, Vec<_>)> = Vec::new();
        for (i, (param, dtype, dims)) in self.inputs.iter().enumerate() {
            let dims: Dims =
                dims.iter().map(|&d| usize::try_from(d).map_or(Dim::Unknown, Dim::Known)).collect();
            let var = f.input(&format!("in_{i}"), *dtype, dims).unwrap();
            match bound.iter_mut().find(|(name, _)| name == param) {
                Some((_, vars)) => vars.push(var),
                None => bound.push((param, vec![var])),
            }
        }
        let mut op = f.op(self.op, "r0");
        for (param, vars) in &bound {
            op = op.args(param, &vars.iter().collect::<Vec<_>>());
        }
        for (param, value) in self.constants {
            op = op.value(param, value.clone());
        }
        let names: Vec<String> = (0..count).map(|i| format!("r{i}")).collect();
        let results = op.many(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let results = results.map_err(|error| error.to_string())?;
        Ok(results.iter().map(|var| var.ty().to_string()).collect())
    }

    /// Checks that the results have these types in each opset.
    #[track_caller]
    fn gives(&self, opsets: &[Opset], expected: &[&str]) {
        for &opset in opsets {
            let found = self.infer(opset, expected.len()).unwrap_or_else(|e| panic!("{opset}: {e}"));
            assert_eq!(found, expected, "{} in {opset}", self.op);
        }
    }

    /// Checks that each opset refuses the use with an error that contains `words`.
    #[track_caller]
    fn is_refused(&self, opsets: &[Opset], words: &str) {
        for &opset in opsets {
            let error = self.infer(opset, 1).expect_err(&format!("{} in {opset}", self.op));
            assert!(error.contains(words), "{opset}: {error}");
        }
    }
}

fn ints(values: &[i32]) -> Value {
    Value::ints([values.len()], values)
}

fn floats(values: &[f32]) -> Value {
    Value::fp32s([values.len()], values)
}
