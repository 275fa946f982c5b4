//! Rules for what Core ML is reported to refuse although the format allows it and some tool writes it.
//!
//! [`Rule::source`] names the source of each rule: a public report, Core ML's own validator (part of
//! coremltools' repository) or a statement by an Apple engineer. Nothing in this crate has run Core ML.

use std::collections::HashMap;

use prost::Message as _;

use super::Package;
use crate::dtype::DType;
use crate::finding::{Fault, Finding, Rule};
use crate::interface::{AllowedShapes, Feature, FeatureType, Interface, OtherKind, OtherType};
use crate::mil::{Binding, BlobInts, Function, Operation, Opset, TensorType, Value, ValueType};
use crate::proto::ImageFeatureType;
use crate::proto::image_feature_type::SizeFlexibility;

/// The largest rank that Core ML supports.
const MOST_AXES: usize = 5;

/// Arguments that are documented as optional but that Core ML's parser requires, from the given opset on.
const REQUIRED: [(&str, &str, Opset); 6] = [
    ("conv", "pad", Opset::CoreML5),
    ("conv", "dilations", Opset::CoreML5),
    ("conv_transpose", "pad", Opset::CoreML5),
    ("conv_transpose", "dilations", Opset::CoreML5),
    ("gather", "validate_indices", Opset::CoreML7),
    ("gather_nd", "validate_indices", Opset::CoreML7),
];

/// Returns every reported refusal that applies to `package`.
pub(super) fn check(package: &Package) -> Vec<Finding> {
    let mut findings = Vec::new();
    let ints = package.blob_ints();
    for (name, function) in &package.program.functions {
        let scope = Scope::new(package, &ints, function);
        findings.extend(scope.rank(name));
        for operation in function.block.all_operations() {
            let faults = [scope.padding(operation), scope.scale(operation), scope.required(operation)];
            let faults = faults.into_iter().flatten();
            findings.extend(faults.map(|fault| Finding::operation(name, operation.label(), fault)));
        }
        if let Some(described) = package.description.interface(name) {
            interface(package.specification_version, name, function, described, &mut findings);
        }
    }
    names(package, &mut findings);
    findings
}

/// The types and constants of a function, by name.
struct Scope<'a> {
    package: &'a Package,
    ints: &'a BlobInts,
    function: &'a Function,
    types: HashMap<&'a str, &'a TensorType>,
    constants: HashMap<&'a str, &'a Value>,
}

impl<'a> Scope<'a> {
    fn new(package: &'a Package, ints: &'a BlobInts, function: &'a Function) -> Self {
        let mut scope = Self { package, ints, function, types: HashMap::new(), constants: HashMap::new() };
        let blocks = function.block.all_operations().flat_map(|o| o.blocks.iter().flat_map(|b| &b.inputs));
        let results = function.block.all_operations().flat_map(|o| &o.outputs);
        for named in function.inputs.iter().chain(blocks).chain(results) {
            if let ValueType::Tensor(ty) | ValueType::State(ty) = &named.ty {
                scope.types.insert(&named.name, ty);
            }
        }
        for operation in function.block.all_operations().filter(|o| o.op == "const") {
            if let (Some(output), Some(value)) = (operation.outputs.first(), operation.attributes.get("val"))
            {
                scope.constants.insert(&output.name, value);
            }
        }
        scope
    }

    /// Returns the type of an argument with one binding.
    fn ty(&self, operation: &'a Operation, param: &str) -> Option<&'a TensorType> {
        match operation.inputs.get(param)?.as_slice() {
            [Binding::Name(name)] => self.types.get(name.as_str()).copied(),
            [Binding::Value(value)] => value.tensor_type(),
            _ => None,
        }
    }

    /// Returns the value of a constant argument.
    fn value(&self, operation: &'a Operation, param: &str) -> Option<&'a Value> {
        match operation.inputs.get(param)?.as_slice() {
            [Binding::Name(name)] => self.constants.get(name.as_str()).copied(),
            [Binding::Value(value)] => Some(value),
            _ => None,
        }
    }

    /// Finds inputs and results whose rank exceeds Core ML's limit. Reports only the first, because one
    /// reshape can cause dozens.
    fn rank(&self, function: &str) -> Option<Finding> {
        let wide = |ty: &ValueType| match ty {
            ValueType::Tensor(ty) | ValueType::State(ty) => {
                Some(ty.shape.rank()).filter(|rank| *rank > MOST_AXES)
            }
            _ => None,
        };
        let inputs = self.function.inputs.iter().map(|input| (None, input));
        // Constants are skipped, because the tables of a compressed weight have two axes more than the weight.
        let operations = self.function.block.all_operations().filter(|o| o.op != "const");
        let results = operations.flat_map(|o| o.outputs.iter().map(move |output| (Some(o), output)));
        let mut found = inputs.chain(results).filter_map(|(o, named)| Some((o, named, wide(&named.ty)?)));
        let (operation, named, rank) = found.next()?;
        let more = match found.count() {
            0 => String::new(),
            1 => ", and so has one more value of the function".into(),
            more => format!(", and so have {more} more values of the function"),
        };
        let reason = format!("%{} has {rank} axes, Core ML supports at most {MOST_AXES}{more}", named.name);
        Some(match operation {
            Some(o) => Finding::operation(function, o.label(), Fault::new(Rule::RefusedRank, reason)),
            None => Finding::function(Rule::RefusedRank, function, reason),
        })
    }

    /// Finds reflected or replicated padding of an axis before the last two, or wider than the axis allows.
    fn padding(&self, operation: &'a Operation) -> Option<Fault> {
        if operation.op != "pad" {
            return None;
        }
        let mode = self.value(operation, "mode")?.as_str()?;
        let most = match mode {
            // The element at the border is not repeated.
            "reflect" => 1,
            "replicate" => 0,
            _ => return None,
        };
        let shape = &self.ty(operation, "x")?.shape;
        let pad = self.ints.stated(self.value(operation, "pad")?).to_ints()?;
        let first = shape.rank().checked_sub(pad.len() / 2)?;
        for (axis, pair) in (first..).zip(pad.chunks_exact(2)) {
            let widest = *pair.iter().max()?;
            if widest > 0 && axis + 2 < shape.rank() {
                let reason = format!(
                    "pads axis {axis} of {} with mode {mode}, which is supported only for the last two",
                    shape.rank()
                );
                return Some(Fault::at(Rule::RefusedPadding, "pad", reason));
            }
            let extent = shape.iter().nth(axis)?.known();
            if extent.is_some_and(|n| usize::try_from(widest).is_ok_and(|w| w > 0 && w + most > n)) {
                let n = extent.unwrap_or_default();
                let reason = format!(
                    "is {widest} on axis {axis} of size {n}: mode {mode} allows at most {}",
                    n.saturating_sub(most)
                );
                return Some(Fault::at(Rule::RefusedPadding, "pad", reason));
            }
        }
        None
    }

    /// Finds a scale that is negative, zero or NaN.
    fn scale(&self, operation: &'a Operation) -> Option<Fault> {
        if !["quantize", "dequantize"].contains(&operation.op.as_str()) {
            return None;
        }
        let scales = self.package.floats(self.value(operation, "scale")?).ok()?;
        let (at, scale) = scales.iter().enumerate().find(|(_, scale)| **scale <= 0.0 || scale.is_nan())?;
        let place = if scales.len() > 1 { format!(" at {at}") } else { String::new() };
        Some(Fault::at(
            Rule::RefusedScale,
            "scale",
            format!("holds {scale}{place}, expected a positive number"),
        ))
    }

    /// Finds an unbound argument that Core ML requires although it is documented as optional.
    fn required(&self, operation: &Operation) -> Option<Fault> {
        let missing = |&&(op, param, since): &&(&str, &str, Opset)| {
            op == operation.op && self.function.opset >= since && !operation.inputs.contains_key(param)
        };
        let (_, param, _) = REQUIRED.iter().find(missing)?;
        Some(Fault::at(Rule::RefusedDefault, param, "is not bound"))
    }
}

/// Reports what the validator of model descriptions refuses in a function's interface.
fn interface(
    specification_version: i32,
    name: &str,
    function: &Function,
    described: &Interface,
    findings: &mut Vec<Finding>,
) {
    let mut report = |rule, reason: String| findings.push(Finding::function(rule, name, reason));
    let kinds: Vec<_> = described.inputs.iter().map(|input| (input, flexibility(input))).collect();
    let first = |kind| kinds.iter().find(|(_, found)| *found == Some(kind)).map(|(input, _)| &input.name);
    if let (Some(enumerated), Some(ranged)) = (first(Flexibility::Enumerated), first(Flexibility::Ranged)) {
        let reason = format!("input {enumerated} has enumerated shapes, input {ranged} has ranges");
        report(Rule::RefusedShapes, reason);
    }
    for input in &described.inputs {
        let fixed = |ty: &&crate::interface::ArrayType| ty.shapes == AllowedShapes::FromType;
        if input.array().filter(fixed).is_some_and(|array| array.tensor.shape.rank() == 0) {
            report(Rule::RefusedScalar, format!("input {} is a tensor without axes", input.name));
        }
    }
    let empty = described.inputs.is_empty() && described.states.is_empty();
    let least = Opset::CoreML8.specification_version();
    if empty && specification_version < least {
        let reason = format!(
            "it has no inputs, which requires specificationVersion {least}, the model has {specification_version}"
        );
        report(Rule::RefusedNoInputs, reason);
    }
    let features = [("input", &described.inputs), ("output", &described.outputs)];
    for (kind, feature) in
        features.iter().flat_map(|(kind, features)| features.iter().map(move |f| (kind, f)))
    {
        if let Some(reason) = image(feature, function, specification_version) {
            report(Rule::RefusedImage, format!("{kind} {} is an image {reason}", feature.name));
        }
    }
    for (kind, features) in [("output", &described.outputs), ("state", &described.states)] {
        for feature in features.iter().filter(|f| f.optional) {
            report(Rule::RefusedOptional, format!("{kind} {} is optional", feature.name));
        }
    }
    let all_optional = !described.inputs.is_empty() && described.inputs.iter().all(|input| input.optional);
    if all_optional && described.states.is_empty() {
        report(Rule::RefusedOptional, "all of its inputs are optional".into());
    }
}

/// How the shapes of an input vary.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flexibility {
    Enumerated,
    Ranged,
}

fn flexibility(input: &Feature) -> Option<Flexibility> {
    match &input.ty {
        FeatureType::Array(array) => match &array.shapes {
            AllowedShapes::FromType => None,
            AllowedShapes::Enumerated { .. } => Some(Flexibility::Enumerated),
            AllowedShapes::Ranged { .. } => Some(Flexibility::Ranged),
        },
        FeatureType::Other(other) => described_image(other)?.size_flexibility.map(|sizes| match sizes {
            SizeFlexibility::Enumerated(_) => Flexibility::Enumerated,
            SizeFlexibility::Range(_) => Flexibility::Ranged,
        }),
    }
}

fn described_image(other: &OtherType) -> Option<ImageFeatureType> {
    let is_image = other.kind == OtherKind::Image;
    is_image.then(|| ImageFeatureType::decode(other.encoded.as_slice()).ok()).flatten()
}

/// Describes what is wrong with an image feature; `None` if it is valid or not an image.
fn image(feature: &Feature, function: &Function, specification_version: i32) -> Option<String> {
    let FeatureType::Other(other) = &feature.ty else { return None };
    let image = described_image(other)?;
    match image.color_space {
        ImageFeatureType::GRAYSCALE | ImageFeatureType::RGB | ImageFeatureType::BGR => {}
        ImageFeatureType::GRAYSCALE_FLOAT16 => {
            let least = Opset::CoreML6.specification_version();
            if specification_version < least {
                return Some(format!(
                    "of 16-bit grayscale, which requires specificationVersion {least}, the model has {specification_version}"
                ));
            }
        }
        other => {
            return Some(format!(
                "of colorSpace {other}, expected 10 (grayscale), 20 (RGB), 30 (BGR) or 40 (16-bit grayscale)"
            ));
        }
    }
    if image.size_flexibility.is_none() && (image.width <= 0 || image.height <= 0) {
        return Some(format!("of width {} and height {}, expected a size", image.width, image.height));
    }
    let mut tensors = function.tensor_inputs().chain(function.outputs());
    let (_, tensor) = tensors.find(|(name, _)| *name == feature.name)?;
    if ![DType::Fp16, DType::Fp32].contains(&tensor.dtype) || tensor.shape.rank() != 4 {
        return Some(format!("and {tensor} in the program, expected four axes of fp16 or fp32"));
    }
    None
}

/// Reports function names that Core ML refuses.
fn names(package: &Package, findings: &mut Vec<Finding>) {
    let description = &package.description;
    let named = description.stored_default_function();
    if description.is_multifunction() {
        if named.is_empty() {
            let reason = "functions are listed, but no default function is named";
            findings.push(Finding::package(Rule::RefusedDefaultFunction, reason));
        }
        return;
    }
    if !named.is_empty() {
        let reason = format!("{named:?} is named as the default function, but no functions are listed");
        findings.push(Finding::package(Rule::RefusedDefaultFunction, reason));
    }
    if let [only] = package.program.functions.keys().collect::<Vec<_>>().as_slice()
        && *only != "main"
    {
        let reason = "it is the only function and is described as the model itself, but its name is not main";
        findings.push(Finding::function(Rule::RefusedFunctionName, only, reason));
    }
}
