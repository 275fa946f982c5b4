//! Fault matrix: each fault is planted in a package of its own, and its own rule must report it.
//!
//! The faults cover the checks of coremltools' loader and of other readers, and more that these readers lack.

mod layers;
mod refused;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use prost::Message as _;

use super::{MODEL_FOLDER, Package, PackageWriter};
use crate::builder::FunctionBuilder;
use crate::finding::{Finding, Rule};
use crate::mil::{Literal, Opset, Program, TensorType, Value, value_to_proto};
use crate::{DType, Metadata, proto};

/// A package to be damaged.
struct Draft {
    folder: PathBuf,
    model: proto::Model,
    weights: Vec<u8>,
}

const WEIGHTS: &str = "Data/com.apple.CoreML/weights/weight.bin";

impl Draft {
    fn open(folder: &Path) -> Self {
        let model = fs::read(folder.join(MODEL_FOLDER).join("model.mlmodel")).unwrap();
        Self {
            folder: folder.to_owned(),
            model: proto::Model::decode(model.as_slice()).unwrap(),
            weights: fs::read(folder.join(WEIGHTS)).unwrap_or_default(),
        }
    }

    fn save(&self) {
        let model = self.model.encode_to_vec();
        fs::write(self.folder.join(MODEL_FOLDER).join("model.mlmodel"), model).unwrap();
        let weights = self.folder.join(WEIGHTS);
        if weights.parent().unwrap().exists() && !weights.is_dir() {
            fs::write(weights, &self.weights).unwrap();
        }
    }

    fn description(&mut self) -> &mut proto::ModelDescription {
        self.model.description.as_mut().unwrap()
    }

    fn program(&mut self) -> &mut proto::Program {
        self.model.ml_program.as_mut().unwrap()
    }

    fn function(&mut self) -> &mut proto::Function {
        self.program().functions.values_mut().next().unwrap()
    }

    fn block(&mut self) -> &mut proto::Block {
        self.function().block_specializations.values_mut().next().unwrap()
    }

    /// Changes the function's opset, and the specification version of the model accordingly.
    fn set_opset(&mut self, opset: Opset) {
        let function = self.function();
        let block = std::mem::take(&mut function.block_specializations).into_values().next().unwrap();
        function.opset = opset.name().into();
        function.block_specializations.insert(opset.name().into(), block);
        self.model.specification_version = opset.specification_version();
    }

    /// Returns the operation with the given result.
    fn op(&mut self, result: &str) -> &mut proto::Operation {
        let named = |o: &&mut proto::Operation| o.outputs.iter().any(|v| v.name == result);
        self.block().operations.iter_mut().find(named).unwrap_or_else(|| panic!("no %{result}"))
    }

    /// Returns the first operation of the given type.
    fn kind(&mut self, op: &str) -> &mut proto::Operation {
        self.block().operations.iter_mut().find(|o| o.r#type == op).unwrap()
    }

    /// Binds an argument directly to a constant.
    fn bind(&mut self, result: &str, param: &str, value: Value) {
        let binding = proto::binding::Binding::Value(value_to_proto(&value));
        self.argument(result, param, vec![binding]);
    }

    /// Binds an argument to a name.
    fn name(&mut self, result: &str, param: &str, name: &str) {
        self.argument(result, param, vec![proto::binding::Binding::Name(name.into())]);
    }

    fn argument(&mut self, result: &str, param: &str, bindings: Vec<proto::binding::Binding>) {
        let arguments = bindings.into_iter().map(|b| proto::Binding { binding: Some(b) }).collect();
        self.op(result).inputs.insert(param.into(), proto::Argument { arguments });
    }

    fn result_type(&mut self, result: &str) -> &mut proto::TensorType {
        tensor(self.op(result).outputs[0].r#type.as_mut().unwrap())
    }

    /// Returns the value of a constant.
    fn constant(&mut self, name: &str) -> &mut proto::Value {
        self.op(name).attributes.get_mut("val").unwrap()
    }

    /// Returns the blob reference of a constant.
    fn blob(&mut self, name: &str) -> &mut proto::BlobFileValue {
        match self.constant(name).value.as_mut().unwrap() {
            proto::value::Value::BlobFile(blob) => blob,
            proto::value::Value::Immediate(_) => panic!("{name} is immediate"),
        }
    }

    fn array(feature: &mut proto::FeatureDescription) -> &mut proto::ArrayFeatureType {
        match feature.r#type.as_mut().unwrap().r#type.as_mut().unwrap() {
            proto::feature_type::Type::MultiArray(array) => array,
            other => panic!("{other:?}"),
        }
    }

    /// Changes the image type of the first input.
    fn image(&mut self, change: impl FnOnce(&mut proto::ImageFeatureType)) {
        match self.description().input[0].r#type.as_mut().unwrap().r#type.as_mut().unwrap() {
            proto::feature_type::Type::Image(encoded) => {
                let mut image = proto::ImageFeatureType::decode(encoded.as_slice()).unwrap();
                change(&mut image);
                *encoded = image.encode_to_vec();
            }
            other => panic!("{other:?}"),
        }
    }

    fn patch(&mut self, at: usize, bytes: &[u8]) {
        self.weights[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Adds an item to the manifest.
    fn list(&self, item: &str) {
        let path = self.folder.join("Manifest.json");
        let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        json["itemInfoEntries"][item] =
            serde_json::json!({"author": "com.apple.CoreML", "description": "", "name": item, "path": item});
        fs::write(path, json.to_string()).unwrap();
    }

    fn manifest(&self, from: &str, to: &str) {
        let path = self.folder.join("Manifest.json");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(path, text.replace(from, to)).unwrap();
    }
}

fn tensor(ty: &mut proto::ValueType) -> &mut proto::TensorType {
    match ty.r#type.as_mut().unwrap() {
        proto::value_type::Type::Tensor(t) => t,
        other => panic!("{other:?}"),
    }
}

fn fixed(size: u64) -> proto::Dimension {
    let size = proto::ConstantDimension { size };
    proto::Dimension { dimension: Some(proto::dimension::Dimension::Constant(size)) }
}

fn ints(values: &[i32]) -> Value {
    Value::ints([values.len()], values)
}

/// Builds the control program: weights in the file and in the program, compressed weights, a state, and an
/// operation of every family.
///
/// The weight file holds `w` fp16 `[3, 4, 1, 1]` at 64, `w8` int8 `[3, 3, 1, 1]` at 192 and `w4` int4 `[5]`,
/// half of whose last byte is padding, at 320.
fn build(f: &mut FunctionBuilder<'_>) -> crate::Result<()> {
    let x = f.input("x", DType::Fp16, [1, 4, 1, 8])?;
    let steps = f.input("steps", DType::Int32, [2])?;
    let cache = f.state("cache", DType::Fp16, [1, 3, 1, 8])?;
    let w = f.weight("w", TensorType::new(DType::Fp16, [3, 4, 1, 1]), &[0; 24])?;
    let one = |n: i32| Value::ints([1], [n]);
    let conv = f.op("conv", "conv").arg("x", &x).arg("weight", &w);
    let conv = conv.value("strides", ints(&[1, 1])).value("pad", ints(&[0; 4])).one()?;
    let data = f.blob(TensorType::new(DType::Int8, [3, 3, 1, 1]), &[1; 9])?;
    let scale = Value::fp16s([3, 1, 1, 1], &[half::f16::ONE; 3]);
    let dense =
        f.op("constexpr_blockwise_shift_scale", "dense").inline("data", data).inline("scale", scale).one()?;
    let packed = f.blob(TensorType::new(DType::Int4, [5]), &[0x21, 0x43, 0x05])?;
    let scale = Value::fp16s([1], &[half::f16::ONE]);
    let unpacked = f.op("constexpr_blockwise_shift_scale", "unpacked");
    let unpacked = unpacked.inline("data", packed).inline("scale", scale).one()?;
    let conv8 = f.op("conv", "conv8").arg("x", &conv).arg("weight", &dense).one()?;
    let before = f.read_state("before", &cache)?;
    let sum = f.op("add", "sum").arg("x", &conv8).arg("y", &before).one()?;
    f.write_state(&cache, &sum)?;
    let soft = f.op("softmax", "soft").arg("x", &sum).value("axis", Value::int(-1)).one()?;
    let flat = f.op("reshape", "flat").arg("x", &soft).value("shape", ints(&[3, 8])).one()?;
    let turned = f.op("transpose", "turned").arg("x", &flat).value("perm", ints(&[1, 0])).one()?;
    let product = f.op("matmul", "product").arg("x", &flat).arg("y", &turned).one()?;
    let joined =
        f.op("concat", "joined").args("values", &[&product, &product]).value("axis", Value::int(0)).one()?;
    let halves = f.op("split", "left").arg("x", &joined).value("num_splits", Value::int(2));
    let halves = halves.value("axis", Value::int(0)).many(&["left", "right"])?;
    let cut = f.op("slice_by_index", "cut").arg("x", &halves[0]).value("begin", ints(&[0, 0]));
    let cut = cut.value("end", ints(&[2, 3])).value("end_mask", Value::bools([false, false])).one()?;
    let mean = f.op("reduce_mean", "mean").arg("x", &cut).value("axes", one(1)).one()?;
    let norm = f.op("layer_norm", "norm").arg("x", &cut).value("axes", one(1)).one()?;
    let gelu = f.op("gelu", "gelu").arg("x", &norm).one()?;
    let top = f.op("topk", "top").arg("x", &gelu).value("k", Value::int(2)).many(&["top", "places"])?;
    let picked = f.op("gather", "picked").arg("x", &gelu).arg("indices", &steps).one()?;
    let large = f.op("greater", "large").arg("x", &picked).arg("y", &gelu).one()?;
    let chosen = f.op("select", "chosen").arg("cond", &large).arg("a", &picked).arg("b", &gelu).one()?;
    let wide = f.op("cast", "wide").arg("x", &chosen).value("dtype", Value::string("fp32")).one()?;
    for output in [&unpacked, &mean, &top[0], &wide] {
        f.output(output);
    }
    Ok(())
}

/// Writes a package with the function that `build` adds.
fn built(folder: &Path, build: fn(&mut FunctionBuilder<'_>) -> crate::Result<()>) -> PathBuf {
    let path = folder.join("p.mlpackage");
    let mut writer = PackageWriter::create(&path).unwrap();
    let mut f = FunctionBuilder::new("main", Opset::CoreML8, writer.weights());
    build(&mut f).unwrap();
    let program = Program::new([("main", f.finish())]);
    writer.finish(&program, &Metadata::default()).unwrap();
    path
}

/// Copies a package that coremltools wrote.
fn fixture(folder: &Path, name: &str) -> PathBuf {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &target);
            } else {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let path = folder.join("p.mlpackage");
    copy(&fixtures.join(format!("{name}.mlpackage")), &path);
    path
}

/// The package in which a fault is planted.
#[derive(Clone, Copy, Debug)]
enum Base {
    Control,
    /// The package of [`refused::build`].
    Refusable,
    Fixture(&'static str),
}

impl Base {
    /// Writes the package into `folder`.
    fn write(self, folder: &Path) -> PathBuf {
        match self {
            Self::Control => built(folder, build),
            Self::Refusable => built(folder, refused::build),
            Self::Fixture(name) => fixture(folder, name),
        }
    }
}

/// The expected report of a fault.
#[derive(Clone, Copy)]
enum Expected {
    /// A finding of this rule whose text contains the words.
    Finding(Rule, &'static str),
    /// An error whose text contains the words; the package cannot be read.
    Refused(&'static str),
}

type Fault = (Base, &'static str, Expected, fn(&mut Draft));

const fn fault(name: &'static str, rule: Rule, words: &'static str, plant: fn(&mut Draft)) -> Fault {
    (Base::Control, name, Expected::Finding(rule, words), plant)
}

const fn in_fixture(
    fixture: &'static str,
    name: &'static str,
    rule: Rule,
    words: &'static str,
    plant: fn(&mut Draft),
) -> Fault {
    (Base::Fixture(fixture), name, Expected::Finding(rule, words), plant)
}

const fn refused(name: &'static str, words: &'static str, plant: fn(&mut Draft)) -> Fault {
    (Base::Control, name, Expected::Refused(words), plant)
}

/// Faults in the folder, the manifest and the model as a whole.
const PACKAGE: &[Fault] = &[
    refused("no manifest", "Manifest.json", |d| fs::remove_file(d.folder.join("Manifest.json")).unwrap()),
    refused("manifest that is not JSON", "Manifest.json", |d| {
        fs::write(d.folder.join("Manifest.json"), "{").unwrap();
    }),
    refused("manifest of the future", "fileFormatVersion 2.0.0", |d| d.manifest("1.0.0", "2.0.0")),
    refused("manifest with an invalid version", "is not a version", |d| d.manifest("1.0.0", "one")),
    refused("manifest without entries", "itemInfoEntries", |d| d.manifest("itemInfoEntries", "items")),
    refused("entry without an author", "author", |d| d.manifest("\"author\"", "\"writer\"")),
    refused("root model not listed", "is not among itemInfoEntries", |d| {
        let path = d.folder.join("Manifest.json");
        let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        json["rootModelIdentifier"] = "another".into();
        fs::write(path, json.to_string()).unwrap();
    }),
    refused("model path that leads outside", "must stay inside", |d| {
        d.manifest("com.apple.CoreML/model.mlmodel", "../../model.mlmodel");
    }),
    refused("model path that leads nowhere", "missing.mlmodel", |d| {
        d.manifest("com.apple.CoreML/model.mlmodel", "com.apple.CoreML/missing.mlmodel");
    }),
    refused("no description", "it has no description", |d| d.model.description = None),
    refused("no program", "it holds no ML Program", |d| d.model.ml_program = None),
    fault("an item that nothing needs", Rule::ManifestItemUnneeded, "Data/com.apple.CoreML/tables", |d| {
        d.manifest("com.apple.CoreML/weights", "com.apple.CoreML/tables");
    }),
    fault("an item that a constant needs", Rule::ManifestItem, "Data/com.apple.CoreML/weights", |d| {
        fs::remove_dir_all(d.folder.join(WEIGHTS).parent().unwrap()).unwrap();
    }),
    fault("an item outside the package", Rule::ManifestItem, "must stay inside", |d| {
        d.manifest("com.apple.CoreML/weights", "../../weights");
    }),
    in_fixture("control_flow", "a folder of no weights", Rule::ManifestItemUnneeded, "weights", |d| {
        d.list("com.apple.CoreML/weights");
    }),
    fault("weights not in the manifest", Rule::WeightsUnlisted, "does not list", |d| {
        d.manifest("com.apple.CoreML/weights", "com.apple.CoreML/model.mlmodel");
    }),
    fault("specification too old", Rule::SpecificationVersion, "needs specificationVersion 9", |d| {
        d.model.specification_version = 8;
    }),
    fault("program version 2", Rule::ProgramVersion, "version 2", |d| d.program().version = 2),
    fault("no functions", Rule::FunctionDescription, "no functions", |d| d.program().functions.clear()),
    fault("an unknown opset", Rule::Opset, "\"CoreML4\"", |d| d.function().opset = "CoreML4".into()),
    fault("no block for the opset", Rule::Block, "no block for its opset", |d| {
        let block = d.function().block_specializations.remove("CoreML8").unwrap();
        d.function().block_specializations.insert("CoreML7".into(), block);
    }),
    fault("a second block", Rule::Block, "CoreML9 in addition", |d| {
        d.function().block_specializations.insert("CoreML9".into(), proto::Block::default());
    }),
];

/// Faults in types, constants and names.
const VALUES: &[Fault] = &[
    fault("unknown data type", Rule::Type, "unknown data type 99", |d| {
        d.result_type("conv").data_type = 99;
    }),
    fault("rank that is not the dimensions' number", Rule::Type, "rank 5 with 4", |d| {
        d.result_type("conv").rank = 5;
    }),
    fault("a dimension without a kind", Rule::Type, "neither constant nor unknown", |d| {
        d.result_type("conv").dimensions[1].dimension = None;
    }),
    fault("too many dimensions", Rule::Type, "rank 17", |d| {
        let ty = d.result_type("conv");
        ty.dimensions = vec![fixed(1); 17];
        ty.rank = 17;
    }),
    fault("more elements than can be counted", Rule::Type, "too many elements", |d| {
        d.result_type("conv").dimensions = vec![fixed(u64::MAX / 2); 4];
    }),
    fault("a result without a type", Rule::Type, "it has no type", |d| d.op("conv").outputs[0].r#type = None),
    fault("an input without a type", Rule::Type, "%steps: it has no type", |d| {
        d.function().inputs[1].r#type = None;
    }),
    fault("a state of nothing", Rule::Type, "must hold a tensor", |d| {
        let state = proto::StateType { wrapped_type: None };
        d.function().inputs[2].r#type =
            Some(proto::ValueType { r#type: Some(proto::value_type::Type::State(state)) });
    }),
    fault("a constant without a value", Rule::Constant, "no attribute val", |d| {
        d.op("w").attributes.remove("val");
    }),
    fault("a constant that holds nothing", Rule::Constant, "holds nothing", |d| d.constant("w").value = None),
    fault("fp16 in floats", Rule::Constant, "TensorValue.bytes, found floats", |d| {
        let mut value = value_to_proto(&Value::fp32s([1], [1.0]));
        tensor(value.r#type.as_mut().unwrap()).data_type = 10;
        *d.constant("w") = value;
    }),
    fault("int32 in longInts", Rule::Constant, "TensorValue.ints, found longInts", |d| {
        let long = Value::immediate(DType::Int64, [1], Literal::LongInts(vec![1]));
        let mut value = value_to_proto(&long);
        tensor(value.r#type.as_mut().unwrap()).data_type = 23;
        *d.constant("w") = value;
    }),
    fault("fewer elements than the type says", Rule::Constant, "holds 1 values, expected 2", |d| {
        let mut value = value_to_proto(&ints(&[1]));
        tensor(value.r#type.as_mut().unwrap()).dimensions[0] = fixed(2);
        *d.constant("w") = value;
    }),
    fault("a list in a tensor's place", Rule::Constant, "value of another kind", |d| {
        let list = proto::immediate_value::Value::List(proto::ListValue::default());
        let held = proto::value::Value::Immediate(proto::ImmediateValue { value: Some(list) });
        d.constant("w").value = Some(held);
    }),
    fault("a constant that is declared otherwise", Rule::DeclaredType, "its value is", |d| {
        d.result_type("w").dimensions[0] = fixed(4);
    }),
    fault("a constant with an argument", Rule::ArgumentUnknown, "has no parameters", |d| {
        d.name("w", "x", "x");
    }),
    fault("a name with a dash", Rule::Identifier, "%a-b is not an identifier", |d| {
        d.op("wide").outputs[0].name = "a-b".into();
    }),
    fault("a name that begins with a digit", Rule::Identifier, "%0 is not an identifier", |d| {
        d.op("mean").outputs[0].name = "0".into();
    }),
    fault("an empty name", Rule::Identifier, "% is not an identifier", |d| {
        d.op("mean").outputs[0].name = String::new();
    }),
    fault("a name that is defined twice", Rule::DefinedTwice, "%sum is defined twice", |d| {
        d.op("mean").outputs[0].name = "sum".into();
    }),
    fault("a result with an input's name", Rule::DefinedTwice, "%x is defined twice", |d| {
        d.op("mean").outputs[0].name = "x".into();
    }),
    fault("a name that nothing defines", Rule::Undefined, "argument x is %nothing", |d| {
        d.name("conv", "x", "nothing");
    }),
    fault("a result used before its definition", Rule::Undefined, "argument x is %wide", |d| {
        d.name("conv", "x", "wide");
    }),
    fault("a result computed from itself", Rule::Undefined, "argument x is %soft", |d| {
        d.name("soft", "x", "soft");
    }),
];

/// Faults in operations and their arguments.
const OPERATIONS: &[Fault] = &[
    fault("an unknown operation", Rule::OperationUnknown, "conv2d -> %conv", |d| {
        d.op("conv").r#type = "conv2d".into();
    }),
    in_fixture(
        "opset_ios17",
        "an operation of a later opset",
        Rule::OperationTooNew,
        "requires opset",
        |d| {
            let op = d.block().operations.iter_mut().find(|o| o.r#type != "const").unwrap();
            op.r#type = "scaled_dot_product_attention".into();
        },
    ),
    fault("an operation without a name", Rule::OperationName, "conv -> %conv", |d| {
        d.op("conv").attributes.clear();
    }),
    fault("an argument that is missing", Rule::ArgumentMissing, "argument weight is missing", |d| {
        d.op("conv").inputs.remove("weight");
    }),
    fault("an argument that has a default", Rule::ArgumentDefault, "argument groups is not bound", |d| {
        d.op("conv").inputs.remove("groups");
    }),
    fault("an unknown argument", Rule::ArgumentUnknown, "argument kernel", |d| {
        d.name("conv", "kernel", "w");
    }),
    fault("an argument of write_state", Rule::ArgumentUnknown, "argument axis", |d| {
        let axis = proto::binding::Binding::Value(value_to_proto(&Value::int(0)));
        let arguments = vec![proto::Binding { binding: Some(axis) }];
        d.kind("write_state").inputs.insert("axis".into(), proto::Argument { arguments });
    }),
    fault("an argument without a binding", Rule::ArgumentCount, "argument x has 0 bindings", |d| {
        d.argument("conv", "x", vec![]);
    }),
    fault("an argument with two", Rule::ArgumentCount, "argument x has 2 bindings", |d| {
        let x = proto::binding::Binding::Name("x".into());
        d.argument("conv", "x", vec![x.clone(), x]);
    }),
    fault("a binding that holds nothing", Rule::ArgumentCount, "neither a name nor a value", |d| {
        d.op("conv").inputs.get_mut("x").unwrap().arguments[0].binding = None;
    }),
    fault("strides in fp16", Rule::ArgumentType, "argument strides", |d| {
        d.bind("conv", "strides", Value::fp16s([2], &[half::f16::ONE; 2]));
    }),
    fault("pad_type that is a number", Rule::ArgumentType, "argument pad_type", |d| {
        d.bind("conv", "pad_type", Value::int(0));
    }),
    fault("a numeric condition", Rule::ArgumentType, "argument cond", |d| {
        d.name("chosen", "cond", "picked");
    }),
    fault("strides that are computed", Rule::ArgumentConstant, "argument strides", |d| {
        d.name("conv", "strides", "steps");
    }),
    fault("compressed data that are computed", Rule::ArgumentConstant, "argument data", |d| {
        d.name("dense", "data", "conv");
    }),
    fault("a large value bound directly", Rule::BlobBinding, "argument weight", |d| {
        let value = d.constant("w").clone();
        d.argument("conv", "weight", vec![proto::binding::Binding::Value(value)]);
    }),
    fault("an unknown padding", Rule::ArgumentValue, "argument pad_type is \"around\"", |d| {
        d.bind("conv", "pad_type", Value::string("around"));
    }),
    fault("too many strides", Rule::ArgumentValue, "argument strides", |d| {
        d.bind("conv", "strides", ints(&[1, 1, 1]));
    }),
    fault("a negative stride", Rule::ArgumentValue, "argument strides", |d| {
        d.bind("conv", "strides", ints(&[1, -1]));
    }),
    fault("a dilation of zero", Rule::ArgumentValue, "argument dilations", |d| {
        d.bind("conv", "dilations", ints(&[0, 1]));
    }),
    fault("zero groups", Rule::ArgumentValue, "argument groups", |d| d.bind("conv", "groups", Value::int(0))),
    fault("too little padding", Rule::ArgumentValue, "argument pad", |d| {
        d.bind("conv", "pad_type", Value::string("custom"));
        d.bind("conv", "pad", ints(&[0, 0]));
    }),
    fault("a vector in place of a scalar", Rule::ArgumentValue, "expected a scalar", |d| {
        d.bind("soft", "axis", ints(&[1]));
    }),
    fault("a scalar in place of a vector", Rule::ArgumentValue, "expected a vector", |d| {
        d.bind("mean", "axes", Value::int(1));
    }),
    fault("unused padding of another rank", Rule::ArgumentValue, "argument pad", |d| {
        d.bind("conv", "pad_type", Value::string("valid"));
        d.bind("conv", "pad", ints(&[0, 0, 0]));
    }),
    fault("an index out of range", Rule::ArgumentValue, "argument indices holds 65535", |d| {
        d.bind("picked", "indices", ints(&[65_535]));
    }),
    fault("a specification of the future", Rule::SpecificationVersion, "is 11, known are 6 to 10", |d| {
        d.model.specification_version = 11;
    }),
    fault("an axis out of range", Rule::ArgumentValue, "argument axis", |d| {
        d.bind("soft", "axis", Value::int(4));
    }),
    fault("an axis twice", Rule::ArgumentValue, "argument axes", |d| {
        d.bind("mean", "axes", ints(&[1, -1]));
    }),
    fault("axes that are not a permutation", Rule::ArgumentValue, "argument perm", |d| {
        d.bind("turned", "perm", ints(&[1, 1]));
    }),
    fault("a join axis out of range", Rule::ArgumentValue, "argument axis", |d| {
        d.bind("joined", "axis", Value::int(2));
    }),
    fault("a stride of zero", Rule::ArgumentValue, "argument stride is 0", |d| {
        d.bind("cut", "stride", ints(&[0, 1]));
    }),
    fault("a mask that is too short", Rule::ArgumentValue, "argument end_mask", |d| {
        d.bind("cut", "end_mask", Value::bools([true]));
    }),
    fault("an unknown cast type", Rule::ArgumentValue, "argument dtype is \"fp8\"", |d| {
        d.bind("wide", "dtype", Value::string("fp8"));
    }),
    fault("an unknown approximation", Rule::ArgumentValue, "argument mode", |d| {
        d.bind("gelu", "mode", Value::string("ROUGH"));
    }),
    fault("more of the largest than there are", Rule::ArgumentValue, "argument k is 9", |d| {
        d.bind("top", "k", Value::int(9));
    }),
    fault("a gather axis out of range", Rule::ArgumentValue, "argument axis", |d| {
        d.bind("picked", "axis", Value::int(-3));
    }),
    fault("groups that do not divide", Rule::ArgumentsMismatch, "in each of 3 groups", |d| {
        d.bind("conv", "groups", Value::int(3));
    }),
    fault("x and weight of two types", Rule::ArgumentsMismatch, "expected one type", |d| {
        d.bind("sum", "y", Value::fp32(1.0));
    }),
    fault("a weight of other channels", Rule::ArgumentsMismatch, "channels", |d| d.name("conv8", "x", "x")),
    fault("other numbers of elements", Rule::ArgumentsMismatch, "cannot be reshaped", |d| {
        d.bind("flat", "shape", ints(&[3, 7]));
    }),
    fault("two unknown dimensions", Rule::ArgumentsMismatch, "cannot be reshaped", |d| {
        d.bind("flat", "shape", ints(&[-1, -1]));
    }),
    fault("parts that are not equal", Rule::ArgumentsMismatch, "split into 4", |d| {
        d.bind("left", "num_splits", Value::int(4));
    }),
    fault("tensors of two ranks joined", Rule::ArgumentsMismatch, "differ in rank", |d| {
        let names = ["product", "x"].map(|n| proto::binding::Binding::Name(n.into()));
        d.argument("joined", "values", names.to_vec());
    }),
    fault("a box outside", Rule::ArgumentsMismatch, "outside of axis 1", |d| {
        d.bind("cut", "begin", ints(&[0, 5]));
    }),
    fault("matrices that do not fit", Rule::ArgumentsMismatch, "do not match: 8 against 3", |d| {
        d.name("product", "y", "flat");
    }),
    fault("shapes that do not broadcast", Rule::ArgumentsMismatch, "do not broadcast", |d| {
        d.name("sum", "y", "x");
    }),
    fault("a state's content of another shape", Rule::ArgumentsMismatch, "data is", |d| {
        d.kind("write_state").inputs.get_mut("data").unwrap().arguments[0].binding =
            Some(proto::binding::Binding::Name("x".into()));
    }),
    fault("gamma of another length", Rule::ArgumentValue, "argument gamma", |d| {
        d.bind("norm", "gamma", Value::fp32s([2], [1.0, 1.0]));
    }),
    fault("scales that do not divide", Rule::ArgumentsMismatch, "does not divide", |d| {
        d.bind("dense", "scale", Value::fp16s([2, 1, 1, 1], &[half::f16::ONE; 2]));
    }),
    fault("compressed data in int16", Rule::ArgumentType, "argument data", |d| {
        let data = Value::immediate(DType::Int16, [3, 3, 1, 1], Literal::Ints(vec![1; 9]));
        d.bind("dense", "data", data);
    }),
    fault("an offset of another shape", Rule::ArgumentsMismatch, "must have the shape of scale", |d| {
        let offset = Value::immediate(DType::Int8, [1, 1, 1, 1], Literal::Bytes(vec![0]));
        d.bind("dense", "offset", offset);
    }),
    fault("a state in a tensor's place", Rule::StateUse, "argument x is a state", |d| {
        d.name("conv8", "x", "cache");
    }),
    fault("a tensor in a state's place", Rule::StateUse, "argument input is a tensor", |d| {
        d.name("before", "input", "x");
    }),
    fault("a result of another type", Rule::DeclaredType, "%conv is declared tensor<fp32", |d| {
        d.result_type("conv").data_type = 11;
    }),
    fault("a result of another size", Rule::DeclaredType, "%conv is declared", |d| {
        d.result_type("conv").dimensions[3] = fixed(9);
    }),
    fault("a result of another rank", Rule::DeclaredType, "%soft is declared", |d| {
        let ty = d.result_type("soft");
        ty.dimensions.pop();
        ty.rank = 3;
    }),
    fault("a result of any rank", Rule::OperationUnchecked, "the rank of an argument is unknown", |d| {
        let any = proto::UnknownDimension { variadic: true };
        let ty = d.result_type("conv");
        ty.dimensions = vec![proto::Dimension { dimension: Some(proto::dimension::Dimension::Unknown(any)) }];
        ty.rank = 1;
    }),
    fault("a compressed weight of another type", Rule::DeclaredType, "%dense is declared", |d| {
        d.result_type("dense").data_type = 11;
    }),
    fault("a result too many", Rule::ResultCount, "2 outputs are declared, expected 1", |d| {
        let mut extra = d.op("conv").outputs[0].clone();
        extra.name = "extra".into();
        d.op("conv").outputs.push(extra);
    }),
    fault("a result too few", Rule::ResultCount, "1 outputs are declared, expected 2", |d| {
        d.op("top").outputs.pop();
    }),
    fault("a result of write_state", Rule::ResultCount, "1 outputs are declared, expected 0", |d| {
        let mut extra = d.op("conv").outputs[0].clone();
        extra.name = "extra".into();
        d.kind("write_state").outputs.push(extra);
    }),
    fault("an output that nothing defines", Rule::Returned, "returns %nothing", |d| {
        d.block().outputs[0] = "nothing".into();
    }),
    fault("no outputs", Rule::Returned, "returns no outputs", |d| d.block().outputs.clear()),
    fault("an output twice", Rule::ReturnedTwice, "returns %mean twice", |d| {
        d.block().outputs.push("mean".into());
    }),
    fault("a state as output", Rule::StateUse, "returns %cache", |d| d.block().outputs[0] = "cache".into()),
    fault("a state of fp32", Rule::StateType, "expected fp16", |d| {
        let Some(proto::value_type::Type::State(state)) =
            d.function().inputs[2].r#type.as_mut().unwrap().r#type.as_mut()
        else {
            panic!("the third input is the state")
        };
        tensor(state.wrapped_type.as_mut().unwrap()).data_type = 11;
    }),
    fault("a state of open shape", Rule::StateType, "fixed shape", |d| {
        let Some(proto::value_type::Type::State(state)) =
            d.function().inputs[2].r#type.as_mut().unwrap().r#type.as_mut()
        else {
            panic!("the third input is the state")
        };
        let open = proto::dimension::Dimension::Unknown(proto::UnknownDimension { variadic: false });
        tensor(state.wrapped_type.as_mut().unwrap()).dimensions[3].dimension = Some(open);
    }),
    fault("a state before iOS 18", Rule::StateType, "requires opset CoreML8", |d| {
        d.set_opset(Opset::CoreML7)
    }),
    in_fixture("slices", "an update of another shape", Rule::ArgumentsMismatch, "a box of [2, 2, 5]", |d| {
        d.bind("slice_update_0", "end", ints(&[3, 3, 5]));
    }),
    // The known properties of computed bounds suffice.
    in_fixture(
        "slices",
        "an update that cannot fit",
        Rule::ArgumentValue,
        "at most 2 elements on axis 2",
        |d| {
            d.bind("slice_update_1", "stride", ints(&[1, 1, 5]));
        },
    ),
    // Without `axes` the norm is over all axes, which gamma does not match.
    in_fixture("normalizations", "a norm of no axes", Rule::ArgumentValue, "expected [2, 4, 3, 5]", |d| {
        d.kind("layer_norm").inputs.remove("axes");
    }),
    in_fixture(
        "convolutions",
        "strides that are not positive",
        Rule::ArgumentValue,
        "argument strides",
        |d| {
            let shape = proto::binding::Binding::Value(value_to_proto(&ints(&[1, 2, 6, 6])));
            let strides = proto::binding::Binding::Value(value_to_proto(&ints(&[-1, 0])));
            for (param, binding) in [("output_shape", shape), ("strides", strides)] {
                let arguments = vec![proto::Binding { binding: Some(binding) }];
                d.kind("conv_transpose").inputs.insert(param.into(), proto::Argument { arguments });
            }
        },
    ),
    in_fixture("resizes", "an unknown interpolation", Rule::ArgumentValue, "interpolation_mode", |d| {
        let binding = proto::binding::Binding::Value(value_to_proto(&Value::string("CUBIC")));
        let arguments = vec![proto::Binding { binding: Some(binding) }];
        d.kind("resize").inputs.insert("interpolation_mode".into(), proto::Argument { arguments });
    }),
    in_fixture("control_flow", "a branch too few", Rule::ResultCount, "1 blocks, expected two", |d| {
        d.kind("cond").blocks.pop();
    }),
    in_fixture("control_flow", "branches that differ", Rule::ArgumentsMismatch, "one block returns", |d| {
        d.kind("cond").blocks[1].outputs.push("twice".into());
    }),
    in_fixture(
        "control_flow",
        "a condition that is not a bool",
        Rule::ArgumentsMismatch,
        "expected one bool",
        |d| {
            let condition = &mut d.kind("while_loop").blocks[0];
            condition.outputs = vec![condition.inputs[0].name.clone()];
        },
    ),
    in_fixture(
        "control_flow",
        "a body that loses a variable",
        Rule::ArgumentsMismatch,
        "body returns",
        |d| {
            d.kind("while_loop").blocks[1].outputs.pop();
        },
    ),
    in_fixture("control_flow", "a name that is local to its block", Rule::Returned, "nothing defines", |d| {
        d.block().outputs = vec!["more".into()];
    }),
];

/// Faults in the package's description of its functions.
const DESCRIPTION: &[Fault] = &[
    fault("an input that is not described", Rule::Description, "input steps is not described", |d| {
        d.description().input.pop();
    }),
    fault("an output that is not described", Rule::Description, "output wide is not described", |d| {
        d.description().output.pop();
    }),
    fault("a state that is not described", Rule::Description, "state cache is not described", |d| {
        d.description().state.clear();
    }),
    fault("a state described as an input", Rule::Description, "input cache is described", |d| {
        let mut state = d.description().input[0].clone();
        state.name = "cache".into();
        d.description().input.push(state);
    }),
    fault("an input of another name", Rule::Description, "input y is described", |d| {
        d.description().input[0].name = "y".into();
    }),
    fault("an input of another type", Rule::Description, "input x is described as", |d| {
        Draft::array(&mut d.description().input[0]).data_type = 65568;
    }),
    fault("an input of another shape", Rule::Description, "input x is described as", |d| {
        Draft::array(&mut d.description().input[0]).shape[3] = 9;
    }),
    fault("an output of another shape", Rule::Description, "output wide is described as", |d| {
        Draft::array(&mut d.description().output[3]).shape[0] = 9;
    }),
    fault("an input described twice", Rule::Description, "input x is described twice", |d| {
        let x = d.description().input[0].clone();
        d.description().input.push(x);
    }),
    fault("an array of unknown type", Rule::Description, "unknown array data type 7", |d| {
        Draft::array(&mut d.description().input[0]).data_type = 7;
    }),
    fault("a feature without a type", Rule::Description, "it has no type", |d| {
        d.description().input[0].r#type = None;
    }),
    fault("a negative dimension", Rule::Description, "dimension -1", |d| {
        Draft::array(&mut d.description().input[0]).shape[0] = -1;
    }),
    fault("an input of bools", Rule::InterfaceType, "bool cannot be an input", |d| {
        tensor(d.function().inputs[1].r#type.as_mut().unwrap()).data_type = 1;
    }),
    fault("an input of int8 before iOS 26", Rule::InterfaceType, "int8 since opset CoreML9", |d| {
        tensor(d.function().inputs[1].r#type.as_mut().unwrap()).data_type = 21;
    }),
    in_fixture("opset_ios16", "an input of fp16 before iOS 16", Rule::InterfaceType, "fp16 since", |d| {
        tensor(d.function().inputs[0].r#type.as_mut().unwrap()).data_type = 10;
        d.set_opset(Opset::CoreML5);
    }),
    in_fixture(
        "flexible_enumerated",
        "a default shape that is not allowed",
        Rule::Description,
        "not among its enumerated shapes",
        |d| Draft::array(&mut d.description().input[0]).shape[1] = 9,
    ),
    in_fixture("flexible_ranged", "a range from high to low", Rule::Description, "from low to high", |d| {
        let array = Draft::array(&mut d.description().input[0]);
        let Some(proto::array_feature_type::ShapeFlexibility::Range(range)) = &mut array.shape_flexibility
        else {
            panic!("ranged")
        };
        range.size_ranges[1].upper_bound = 0;
    }),
    in_fixture(
        "flexible_ranged",
        "a range of a fixed dimension",
        Rule::Description,
        "input x is described",
        |d| {
            let array = Draft::array(&mut d.description().input[0]);
            let Some(proto::array_feature_type::ShapeFlexibility::Range(range)) =
                &mut array.shape_flexibility
            else {
                panic!("ranged")
            };
            range.size_ranges[2].upper_bound = 9;
        },
    ),
    in_fixture(
        "flexible_ranged",
        "a default out of its range",
        Rule::Description,
        "input x is described",
        |d| Draft::array(&mut d.description().input[0]).shape[1] = 65,
    ),
    in_fixture(
        "optional_input",
        "a default of another type",
        Rule::Description,
        "input y is described",
        |d| {
            let value = proto::array_feature_type::DefaultOptionalValue::Int(3);
            Draft::array(&mut d.description().input[1]).default_optional_value = Some(value);
        },
    ),
    in_fixture(
        "classifier",
        "a label that is not an output",
        Rule::Description,
        "label of the classifier",
        |d| {
            d.description().predicted_feature_name = "nope".into();
        },
    ),
    in_fixture("classifier", "an image of another width", Rule::Description, "input image", |d| {
        d.image(|image| image.width += 1);
    }),
    in_fixture("classifier", "an image of other channels", Rule::Description, "input image", |d| {
        let other = |space| match space {
            proto::ImageFeatureType::RGB => proto::ImageFeatureType::GRAYSCALE,
            _ => proto::ImageFeatureType::RGB,
        };
        d.image(|image| image.color_space = other(image.color_space));
    }),
    in_fixture(
        "multifunction",
        "a default that is not a function",
        Rule::FunctionDescription,
        "\"main\"",
        |d| {
            d.description().default_function_name = "main".into();
        },
    ),
    in_fixture(
        "multifunction",
        "a description of a missing function",
        Rule::FunctionDescription,
        "no such",
        |d| {
            d.description().functions[0].name = "triple".into();
        },
    ),
    in_fixture(
        "multifunction",
        "a function not described",
        Rule::FunctionDescription,
        "not described",
        |d| {
            d.description().functions.pop();
        },
    ),
    in_fixture(
        "multifunction",
        "features in no function",
        Rule::Description,
        "in none of the listed functions",
        |d| {
            let x = d.description().functions[0].input[0].clone();
            d.description().input.push(x);
        },
    ),
    in_fixture(
        "multifunction",
        "functions before iOS 18",
        Rule::SpecificationVersion,
        "list of functions",
        |d| {
            d.model.specification_version = 8;
        },
    ),
    in_fixture(
        "multifunction",
        "functions described as one",
        Rule::FunctionDescription,
        "as one model",
        |d| {
            let first = d.description().functions.remove(0);
            d.description().functions.clear();
            d.description().input = first.input;
            d.description().output = first.output;
        },
    ),
];

/// Faults in the weight file and in references to it. The record of `w` is at 64, that of `w4`, the last, at
/// 320.
const WEIGHT_FILE: &[Fault] = &[
    fault("no weight file", Rule::WeightPath, "weight.bin", |d| {
        fs::remove_dir_all(d.folder.join(WEIGHTS).parent().unwrap()).unwrap();
    }),
    fault("a file without @model_path", Rule::WeightPath, "does not begin with @model_path/", |d| {
        d.blob("w").file_name = "weights/weight.bin".into();
    }),
    fault("a file outside", Rule::WeightPath, "must stay inside", |d| {
        d.blob("w").file_name = "@model_path/../weight.bin".into();
    }),
    fault("a file shorter than its header", Rule::WeightIncomplete, "shorter than its header", |d| {
        d.weights.truncate(63);
    }),
    fault("a folder in place of the file", Rule::WeightIncomplete, "not a regular file", |d| {
        fs::remove_file(d.folder.join(WEIGHTS)).unwrap();
        fs::create_dir(d.folder.join(WEIGHTS)).unwrap();
    }),
    #[cfg(unix)]
    fault("a link that leads outside", Rule::WeightIncomplete, "leads outside", |d| {
        let elsewhere = d.folder.with_extension("weights");
        fs::rename(d.folder.join(WEIGHTS), &elsewhere).unwrap();
        std::os::unix::fs::symlink(elsewhere, d.folder.join(WEIGHTS)).unwrap();
    }),
    fault("a file of the future", Rule::WeightFile, "version 3, expected 2", |d| d.patch(4, &[3])),
    fault("more blobs counted than there are", Rule::WeightFile, "blob 4 of 4", |d| d.patch(0, &[4])),
    fault("fewer blobs counted than there are", Rule::WeightFile, "follows the 2 blobs", |d| {
        d.patch(0, &[2])
    }),
    fault("bytes after the last blob", Rule::WeightLayout, "5 bytes follow the 3 blobs", |d| {
        d.weights.extend([0; 5]);
    }),
    fault("a gap that is not zero", Rule::WeightLayout, "gap before it is not zero", |d| {
        d.patch(64 + 64 + 24, &[1]);
    }),
    fault("a file cut short", Rule::WeightIncomplete, "reach past the file", |d| {
        let len = d.weights.len();
        d.weights.truncate(len - 1);
    }),
    fault("no sentinel", Rule::BlobRecord, "expected 0xdeadbeef", |d| d.patch(64, &[0])),
    fault("the offset of the data", Rule::BlobRecord, "no record here", |d| d.blob("w").offset = 128),
    fault("an offset between two records", Rule::BlobRecord, "multiples of 64", |d| {
        d.blob("w").offset = 65;
    }),
    fault("an offset outside", Rule::WeightIncomplete, "outside the file", |d| d.blob("w").offset = 1 << 40),
    fault("an unknown element type", Rule::BlobRecord, "unknown element type 99", |d| {
        d.patch(68, &[99]);
    }),
    fault("data that are not aligned", Rule::BlobRecord, "not a multiple of 64", |d| d.patch(80, &[129])),
    fault("data outside the file", Rule::WeightIncomplete, "reach past the file", |d| d.patch(86, &[1])),
    fault("too many padding bits", Rule::BlobRecord, "not a whole number of int4", |d| d.patch(344, &[9])),
    fault("padding bits that are not zero", Rule::WeightLayout, "padding bits are not zero", |d| {
        let last = d.weights.len() - 1;
        d.weights[last] |= 0xf0;
    }),
    fault("another element type", Rule::BlobType, "6 elements of fp32", |d| d.patch(68, &[2])),
    fault("another number of elements", Rule::BlobType, "11 elements of fp16", |d| d.patch(72, &[22])),
    fault("the offset of another blob", Rule::BlobType, "9 elements of int8", |d| d.blob("w").offset = 192),
    fault("a blob that nothing uses", Rule::BlobUnused, "used by no constant", |d| {
        let value = Value::fp16s([3, 4, 1, 1], &[half::f16::ONE; 12]);
        *d.constant("w") = value_to_proto(&value);
    }),
];

const FAULTS: [&[Fault]; 6] = [PACKAGE, VALUES, OPERATIONS, DESCRIPTION, WEIGHT_FILE, refused::REFUSED];

fn describe(findings: &[Finding]) -> String {
    findings.iter().map(|f| format!("    {}: {f}\n", f.rule)).collect()
}

/// Plants a fault; returns the actual findings as an error if they are not as expected.
fn plant(base: Base, expected: Expected, plant: fn(&mut Draft)) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let path = base.write(dir.path());
    let mut draft = Draft::open(&path);
    plant(&mut draft);
    draft.save();
    match (expected, Package::check_path(&path)) {
        (Expected::Refused(words), Err(error)) if error.to_string().contains(words) => Ok(()),
        (Expected::Refused(_), Err(error)) => Err(format!("refused for another reason: {error}")),
        (Expected::Refused(_), Ok(findings)) => Err(format!("not refused:\n{}", describe(&findings))),
        (Expected::Finding(..), Err(error)) => Err(format!("refused: {error}")),
        (Expected::Finding(rule, words), Ok(findings)) => {
            let named = |f: &&Finding| f.rule == rule && f.to_string().contains(words);
            match findings.iter().find(named) {
                // One fault may cause several findings, but not many.
                Some(_) if findings.len() <= 5 => Ok(()),
                Some(_) => Err(format!("reported {} times:\n{}", findings.len(), describe(&findings))),
                None => Err(format!("not reported by {rule} with {words:?}:\n{}", describe(&findings))),
            }
        }
    }
}

fn all_faults() -> impl Iterator<Item = &'static Fault> {
    FAULTS.into_iter().chain(layers::FAULTS).flatten()
}

#[test]
fn every_planted_fault_is_reported_by_its_rule() {
    let faults = all_faults;
    let mut names: Vec<&str> = faults().map(|(_, name, ..)| *name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), faults().count(), "faults are distinct");
    // The entries of all tables; one of them needs symbolic links. A change that adds a fault changes the
    // number, and a table that is no longer searched does not pass unnoticed.
    assert_eq!(names.len(), 253 + usize::from(cfg!(unix)));
    let missed: Vec<String> = faults()
        .filter_map(|&(base, name, expected, change)| {
            plant(base, expected, change).err().map(|said| format!("{name}: {said}"))
        })
        .collect();
    assert!(missed.is_empty(), "{} of {} faults:\n{}", missed.len(), names.len(), missed.join("\n"));
}

/// Negative control: the package without a fault, and every fixture in which faults are planted, have no
/// findings.
#[test]
fn packages_without_a_fault_are_clean() {
    let fixtures: BTreeSet<&str> = all_faults()
        .filter_map(|(base, ..)| match base {
            Base::Fixture(name) => Some(*name),
            Base::Control | Base::Refusable => None,
        })
        .collect();
    assert!(fixtures.contains("control_flow"), "{fixtures:?}");
    let fixtures = fixtures.into_iter().map(Base::Fixture);
    for base in [Base::Control, Base::Refusable].into_iter().chain(fixtures) {
        let dir = tempfile::tempdir().unwrap();
        let path = base.write(dir.path());
        // Saved by `Draft` without a change, so that saving itself is known to cause no finding.
        Draft::open(&path).save();
        let found: Vec<_> = Package::check_path(&path).unwrap();
        assert_eq!(found, [], "{base:?}");
    }
}

/// Every rule has a fault that triggers it.
#[test]
fn every_rule_has_a_fault() {
    let found: Vec<Rule> = all_faults()
        .filter_map(|(_, _, expected, _)| match expected {
            Expected::Finding(rule, _) => Some(*rule),
            Expected::Refused(_) => None,
        })
        .collect();
    let missing: Vec<Rule> = Rule::ALL.iter().filter(|r| !found.contains(r)).copied().collect();
    assert_eq!(missing, []);
}
