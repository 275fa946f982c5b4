//! A package that is opened, damaged and saved again without any check.

use std::fs;
use std::path::{Path, PathBuf};

use prost::Message as _;

use crate::mil::{Opset, Value, value_to_proto};
use crate::package::MODEL_FOLDER;
use crate::proto;

/// A package to be damaged.
pub(super) struct Draft {
    pub(super) folder: PathBuf,
    pub(super) model: proto::Model,
    pub(super) weights: Vec<u8>,
}

/// The weight file within the package.
pub(super) const WEIGHTS: &str = "Data/com.apple.CoreML/weights/weight.bin";

impl Draft {
    pub(super) fn open(folder: &Path) -> Self {
        let model = fs::read(folder.join(MODEL_FOLDER).join("model.mlmodel")).unwrap();
        Self {
            folder: folder.to_owned(),
            model: proto::Model::decode(model.as_slice()).unwrap(),
            weights: fs::read(folder.join(WEIGHTS)).unwrap_or_default(),
        }
    }

    pub(super) fn save(&self) {
        let model = self.model.encode_to_vec();
        fs::write(self.folder.join(MODEL_FOLDER).join("model.mlmodel"), model).unwrap();
        let weights = self.folder.join(WEIGHTS);
        if weights.parent().unwrap().exists() && !weights.is_dir() {
            fs::write(weights, &self.weights).unwrap();
        }
    }

    pub(super) fn description(&mut self) -> &mut proto::ModelDescription {
        self.model.description.as_mut().unwrap()
    }

    pub(super) fn program(&mut self) -> &mut proto::Program {
        self.model.ml_program.as_mut().unwrap()
    }

    pub(super) fn function(&mut self) -> &mut proto::Function {
        self.program().functions.values_mut().next().unwrap()
    }

    pub(super) fn block(&mut self) -> &mut proto::Block {
        self.function().block_specializations.values_mut().next().unwrap()
    }

    /// Changes the function's opset, and the specification version of the model accordingly.
    pub(super) fn set_opset(&mut self, opset: Opset) {
        let function = self.function();
        let block = std::mem::take(&mut function.block_specializations).into_values().next().unwrap();
        function.opset = opset.name().into();
        function.block_specializations.insert(opset.name().into(), block);
        self.model.specification_version = opset.specification_version();
    }

    /// Returns the operation with the given result.
    pub(super) fn op(&mut self, result: &str) -> &mut proto::Operation {
        let named = |o: &&mut proto::Operation| o.outputs.iter().any(|v| v.name == result);
        self.block().operations.iter_mut().find(named).unwrap_or_else(|| panic!("no %{result}"))
    }

    /// Returns the first operation of the given type.
    pub(super) fn kind(&mut self, op: &str) -> &mut proto::Operation {
        self.block().operations.iter_mut().find(|o| o.r#type == op).unwrap()
    }

    /// Binds an argument directly to a constant.
    pub(super) fn bind(&mut self, result: &str, param: &str, value: Value) {
        let binding = proto::binding::Binding::Value(value_to_proto(&value));
        self.argument(result, param, vec![binding]);
    }

    /// Binds an argument to a name.
    pub(super) fn name(&mut self, result: &str, param: &str, name: &str) {
        self.argument(result, param, vec![proto::binding::Binding::Name(name.into())]);
    }

    pub(super) fn argument(&mut self, result: &str, param: &str, bindings: Vec<proto::binding::Binding>) {
        let arguments = bindings.into_iter().map(|b| proto::Binding { binding: Some(b) }).collect();
        self.op(result).inputs.insert(param.into(), proto::Argument { arguments });
    }

    pub(super) fn result_type(&mut self, result: &str) -> &mut proto::TensorType {
        tensor(self.op(result).outputs[0].r#type.as_mut().unwrap())
    }

    /// Returns the value of a constant.
    pub(super) fn constant(&mut self, name: &str) -> &mut proto::Value {
        self.op(name).attributes.get_mut("val").unwrap()
    }

    /// Returns the blob reference of a constant.
    pub(super) fn blob(&mut self, name: &str) -> &mut proto::BlobFileValue {
        match self.constant(name).value.as_mut().unwrap() {
            proto::value::Value::BlobFile(blob) => blob,
            proto::value::Value::Immediate(_) => panic!("{name} is immediate"),
        }
    }

    pub(super) fn array(feature: &mut proto::FeatureDescription) -> &mut proto::ArrayFeatureType {
        match feature.r#type.as_mut().unwrap().r#type.as_mut().unwrap() {
            proto::feature_type::Type::MultiArray(array) => array,
            other => panic!("{other:?}"),
        }
    }

    /// Changes the image type of the first input.
    pub(super) fn image(&mut self, change: impl FnOnce(&mut proto::ImageFeatureType)) {
        match self.description().input[0].r#type.as_mut().unwrap().r#type.as_mut().unwrap() {
            proto::feature_type::Type::Image(encoded) => {
                let mut image = proto::ImageFeatureType::decode(encoded.as_slice()).unwrap();
                change(&mut image);
                *encoded = image.encode_to_vec();
            }
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn patch(&mut self, at: usize, bytes: &[u8]) {
        self.weights[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Adds an item to the manifest.
    pub(super) fn list(&self, item: &str) {
        let path = self.folder.join("Manifest.json");
        let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        json["itemInfoEntries"][item] =
            serde_json::json!({"author": "com.apple.CoreML", "description": "", "name": item, "path": item});
        fs::write(path, json.to_string()).unwrap();
    }

    pub(super) fn manifest(&self, from: &str, to: &str) {
        let path = self.folder.join("Manifest.json");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(path, text.replace(from, to)).unwrap();
    }
}

pub(super) fn tensor(ty: &mut proto::ValueType) -> &mut proto::TensorType {
    match ty.r#type.as_mut().unwrap() {
        proto::value_type::Type::Tensor(t) => t,
        other => panic!("{other:?}"),
    }
}

pub(super) fn fixed(size: u64) -> proto::Dimension {
    let size = proto::ConstantDimension { size };
    proto::Dimension { dimension: Some(proto::dimension::Dimension::Constant(size)) }
}

pub(super) fn ints(values: &[i32]) -> Value {
    Value::ints([values.len()], values)
}
