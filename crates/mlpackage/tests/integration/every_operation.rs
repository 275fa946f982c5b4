//! Builds a package for every operation of the table, with arguments from packages that coremltools wrote.
//!
//! The packages are left in `target/tmp/every_operation`, where the conformance run reads them with other
//! tools.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use mlpackage::builder::{FunctionBuilder, OpBuilder, StateVar, Var};
use mlpackage::mil::{Binding, Container, Function, Operation, Opset, Program, Value, ValueData, ValueType};
use mlpackage::{DType, Metadata, Package, PackageWriter, ops};

/// A use of an operation in a package that coremltools wrote.
struct Use<'p> {
    package: &'p Package,
    function: &'p Function,
    operation: &'p Operation,
}

impl<'p> Use<'p> {
    /// Returns the type of an argument.
    fn type_of(&self, name: &str) -> &'p ValueType {
        let results = self.function.block.all_operations().flat_map(|o| &o.outputs);
        &results.chain(&self.function.inputs).find(|v| v.name == name).unwrap().ty
    }

    /// Returns the constant called `name`.
    fn constant(&self, name: &str) -> Option<&'p Value> {
        let mut constants = self.function.block.operations.iter().filter(|o| o.op == "const");
        constants.find(|o| o.outputs[0].name == name).map(|o| &o.attributes["val"])
    }

    /// Returns whether all arguments have shapes that are known before the program runs.
    fn is_fixed(&self) -> bool {
        let given = self.operation.inputs.values().flatten().filter_map(|b| match b {
            Binding::Name(name) => Some(self.type_of(name)),
            Binding::Value(_) => None,
        });
        given.into_iter().all(|ty| {
            ty.content().is_some_and(|(t, container)| {
                matches!(container, Container::List(_)) || t.shape.known().is_some()
            })
        })
    }

    /// Returns whether it has blocks, or arguments or results other than tensors and states.
    fn is_more_than_tensors(&self) -> bool {
        let given = self.operation.inputs.values().flatten().map(|binding| match binding {
            Binding::Name(name) => self.type_of(name),
            Binding::Value(value) => &value.ty,
        });
        let given = given.chain(self.operation.outputs.iter().map(|output| &output.ty));
        let is_tensor = |ty: &ValueType| matches!(ty, ValueType::Tensor(_) | ValueType::State(_));
        !self.operation.blocks.is_empty() || !given.into_iter().all(is_tensor)
    }

    /// Copies a value, with its blob, to the weight file under construction.
    fn copied(&self, f: &mut FunctionBuilder<'_>, value: &Value) -> Value {
        match self.package.blob_of(value).unwrap() {
            Some(blob) => f.blob(value.tensor_type().unwrap().clone(), blob.data).unwrap(),
            None => value.clone(),
        }
    }
}

/// Returns the type that an input or output has instead of `dtype` at the function's interface.
fn at_the_border(dtype: DType, opset: Opset) -> DType {
    match dtype {
        DType::Fp16 if opset == Opset::CoreML5 => DType::Fp32,
        DType::Fp16 | DType::Fp32 | DType::Int32 => dtype,
        dtype if dtype.is_float() => DType::Fp32,
        _ => DType::Int32,
    }
}

/// Builds a function around a use of an operation.
fn build(f: &mut FunctionBuilder<'_>, used: &Use<'_>) {
    let given = Given::declare(f, used);
    if ["read_state", "write_state"].contains(&used.operation.op.as_str()) {
        return use_state(f, &given);
    }
    let results = add(f, used, &given);
    // A sparse result is converted to dense before it is returned.
    if let [mask, values] = results.as_slice()
        && mask.ty().dtype == DType::Uint1
    {
        let dense = f.op("constexpr_sparse_to_dense", "dense").arg("nonzero_data", values).arg("mask", mask);
        let dense = dense.one().unwrap();
        f.output(&dense);
        return;
    }
    for result in results {
        let border = at_the_border(result.ty().dtype, used.function.opset);
        let output = if result.ty().dtype == border {
            result
        } else {
            cast(f, &format!("{}_at_the_border", result.name()), &result, border)
        };
        f.output(&output);
    }
}

/// The arguments of a use that have a name, in the function under construction.
struct Given<'a> {
    states: BTreeMap<&'a str, StateVar>,
    vars: BTreeMap<&'a str, Var>,
}

impl<'a> Given<'a> {
    /// Declares inputs and states, and adds constants. Inputs precede states, and both precede computed values.
    fn declare(f: &mut FunctionBuilder<'_>, used: &Use<'a>) -> Self {
        let opset = used.function.opset;
        let names: BTreeSet<&str> = used
            .operation
            .inputs
            .values()
            .flatten()
            .filter_map(|b| match b {
                Binding::Name(name) => Some(name.as_str()),
                Binding::Value(_) => None,
            })
            .collect();
        let (mut states, mut vars) = (BTreeMap::new(), BTreeMap::new());
        let mut casts = Vec::new();
        for name in names.iter().filter(|name| used.constant(name).is_none()) {
            if let ValueType::Tensor(ty) = used.type_of(name) {
                let border = at_the_border(ty.dtype, opset);
                let input = f.input(&format!("in_{name}"), border, ty.shape.clone()).unwrap();
                casts.push((*name, ty.dtype, input));
            }
        }
        for name in &names {
            if let ValueType::State(ty) = used.type_of(name) {
                states.insert(*name, f.state(name, ty.dtype, ty.shape.clone()).unwrap());
            }
        }
        if states.is_empty() && casts.is_empty() {
            // A program needs an input.
            let input = f.input("unused", DType::Fp32, [1]).unwrap();
            let output = f.op("identity", "passed").arg("x", &input).one().unwrap();
            f.output(&output);
        }
        for (name, dtype, input) in casts {
            let var = if input.ty().dtype == dtype {
                input
            } else {
                cast(f, &format!("cast_{name}"), &input, dtype)
            };
            vars.insert(name, var);
        }
        for name in names {
            if let Some(value) = used.constant(name) {
                let value = used.copied(f, value);
                vars.insert(name, f.value(name, value).unwrap());
            }
        }
        Self { states, vars }
    }
}

/// Writes the state and reads it again.
fn use_state(f: &mut FunctionBuilder<'_>, given: &Given<'_>) {
    let state = given.states.values().next().unwrap();
    let data = match given.vars.values().next() {
        Some(data) => data.clone(),
        None => f.read_state("before", state).unwrap(),
    };
    f.write_state(state, &data).unwrap();
    let read = f.read_state("after", state).unwrap();
    f.output(&read);
}

/// Adds the operation, and returns its results, which must have the types that coremltools declared.
fn add(f: &mut FunctionBuilder<'_>, used: &Use<'_>, given: &Given<'_>) -> Vec<Var> {
    let operation = used.operation;
    let results: Vec<String> = operation.outputs.iter().map(|o| o.name.clone()).collect();
    let results: Vec<&str> = results.iter().map(String::as_str).collect();
    // Directly bound values. Those of iOS 16 operations are attributes.
    let mut inline: Vec<(&str, Value)> = Vec::new();
    let mut several: BTreeMap<&str, Vec<Var>> = BTreeMap::new();
    for (param, bindings) in &operation.inputs {
        if let [Binding::Value(value)] = bindings.as_slice() {
            inline.push((param, used.copied(f, value)));
            continue;
        }
        let bound = bindings.iter().map(|binding| match binding {
            Binding::Name(name) => given.vars[name.as_str()].clone(),
            Binding::Value(value) => f.value(param, value.clone()).unwrap(),
        });
        several.insert(param, bound.collect());
    }
    if operation.op.starts_with("constexpr_") && used.function.opset < Opset::CoreML8 {
        for (param, value) in operation.attributes.iter().filter(|(name, _)| *name != "name") {
            inline.push((param, used.copied(f, value)));
        }
    }
    let mut op: OpBuilder<'_, '_> = f.op(&operation.op, results[0]);
    for (param, bound) in &several {
        op = op.args(param, &bound.iter().collect::<Vec<_>>());
    }
    for (param, value) in inline {
        op = op.inline(param, value);
    }
    let results = op.many(&results).unwrap_or_else(|e| panic!("{}: {e}", operation.op));
    for (result, declared) in results.iter().zip(&operation.outputs) {
        assert_eq!(ValueType::Tensor(result.ty().clone()), declared.ty, "{}", operation.op);
    }
    results
}

fn cast(f: &mut FunctionBuilder<'_>, name: &str, x: &Var, to: DType) -> Var {
    f.op("cast", name).arg("x", x).value("dtype", Value::string(to.name())).one().unwrap()
}

/// Returns the outputs of a function that shows one operation: its results or, if one is a list, an output
/// that depends on them.
fn leaving(used: &Use<'_>) -> Vec<String> {
    let lists = used.operation.outputs.iter().any(|o| matches!(o.ty, ValueType::List { .. }));
    if !lists {
        return used.operation.outputs.iter().map(|o| o.name.clone()).collect();
    }
    let outputs = used.function.block.outputs.iter();
    let needs = |output: &&String| {
        let function = slice(used.function, std::slice::from_ref(*output));
        function.block.all_operations().any(|o| o.outputs == used.operation.outputs)
    };
    outputs.filter(needs).take(1).cloned().collect()
}

/// Reduces a function to the operations that `outputs` depend on.
fn slice(function: &Function, outputs: &[String]) -> Function {
    let mut needed: BTreeSet<&str> = outputs.iter().map(String::as_str).collect();
    let mut kept = Vec::new();
    for operation in function.block.operations.iter().rev() {
        if operation.outputs.iter().any(|o| needed.contains(o.name.as_str())) {
            let nested = operation.blocks.iter().flat_map(|b| b.all_operations());
            for binding in std::iter::once(operation).chain(nested).flat_map(|o| o.inputs.values().flatten())
            {
                if let Binding::Name(name) = binding {
                    needed.insert(name);
                }
            }
            let returned = operation.blocks.iter().flat_map(|b| &b.outputs);
            needed.extend(returned.map(String::as_str));
            kept.push(operation.clone());
        }
    }
    kept.reverse();
    let mut function = function.clone();
    function.block.operations = kept;
    function.block.outputs = outputs.to_vec();
    function
}

fn fixtures() -> Vec<Package> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let mut paths: Vec<PathBuf> =
        entries.filter(|p| p.extension().is_some_and(|e| e == "mlpackage")).collect();
    paths.sort();
    paths.iter().map(|p| Package::open(p).unwrap()).collect()
}

#[test]
fn every_operation_of_the_table_is_written() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("every_operation");
    let _ = std::fs::remove_dir_all(&folder);
    let packages = fixtures();
    let uses: Vec<Use<'_>> = packages
        .iter()
        .flat_map(|package| package.program().functions.values().map(move |function| (package, function)))
        .flat_map(|(package, function)| {
            function.block.operations.iter().map(move |operation| Use { package, function, operation })
        })
        .collect();
    let mut written = 0;
    for spec in ops::all() {
        let used = uses.iter().find(|u| u.operation.op == spec.name && u.is_fixed());
        let used = used.unwrap_or_else(|| panic!("no fixed use of {}", spec.name));
        let path = folder.join(format!("{}.mlpackage", spec.name));
        let mut writer = PackageWriter::create(&path).unwrap();
        let function = if !used.is_more_than_tensors() {
            let mut f = FunctionBuilder::new("main", used.function.opset, writer.weights());
            build(&mut f, used);
            f.finish()
        } else {
            // The builder creates no nested blocks, and lists cannot be inputs or outputs, so part of the
            // original program is used.
            let function = slice(used.function, &leaving(used));
            let blobs = function.block.all_operations().flat_map(|o| o.values());
            assert!(blobs.into_iter().all(|v| !matches!(v.data, ValueData::Blob(_))));
            function
        };
        let program = Program::new([("main", function)]);
        writer.finish(&program, &Metadata::default()).unwrap_or_else(|e| panic!("{}: {e}", spec.name));
        let package = Package::open(&path).unwrap();
        assert_eq!(package.check(), [], "{}", spec.name);
        assert_eq!(*package.program(), program, "{}", spec.name);
        let operations = package.program().functions["main"].block.all_operations();
        assert!(operations.into_iter().any(|o| o.op == spec.name), "{}", spec.name);
        written += 1;
    }
    assert_eq!(written, ops::all().count());
}
