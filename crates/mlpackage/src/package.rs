//! `.mlpackage` folders: written whole, read with suspicion.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use prost::Message as _;

use crate::atomic::AtomicDir;
use crate::blob::{Blob, BlobFile, BlobWriter};
use crate::elements;
use crate::error::{Error, Result};
use crate::interface::{self, Feature, FeatureKind, Interface};
use crate::manifest::{MANIFEST, Manifest};
use crate::mil::{self, Binding, Function, Opset, Program, Value, ValueData};
use crate::{paths, proto};

/// How a program refers to the package's weight file.
pub(crate) const WEIGHT_BLOB_NAME: &str = "@model_path/weights/weight.bin";

const MODEL_FOLDER: &str = "Data/com.apple.CoreML";
const MODEL_FILE: &str = "model.mlmodel";
/// No program comes near this; the weights are in files of their own.
const MODEL_LIMIT: u64 = 1 << 30;

/// What a package says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// One line.
    pub short_description: String,
    /// The model's version, as its author counts.
    pub version: String,
    /// Who made it.
    pub author: String,
    /// Under which licence.
    pub license: String,
    /// Anything else, by key.
    pub user_defined: BTreeMap<String, String>,
}

/// Writes a package: first the weights, in the order in which the program is built, then the program.
#[derive(Debug)]
pub struct PackageWriter {
    dir: AtomicDir,
    weights: BlobWriter,
}

impl PackageWriter {
    /// Opens a package that will stand at `destination`.
    ///
    /// # Errors
    ///
    /// [`Error::Occupied`] if something other than a package stands there; [`Error::Io`].
    pub fn create(destination: &Path) -> Result<Self> {
        let dir = AtomicDir::create(destination, MANIFEST)?;
        let weights = dir.path().join(MODEL_FOLDER).join("weights");
        fs::create_dir_all(&weights).map_err(|e| Error::io("create folder", &weights, e))?;
        let weights = BlobWriter::create(&weights.join("weight.bin"))?;
        Ok(Self { dir, weights })
    }

    /// The weight file, for [`FunctionBuilder::new`](crate::mil::builder::FunctionBuilder::new).
    pub fn weights(&mut self) -> &mut BlobWriter {
        &mut self.weights
    }

    /// Writes the program and puts the package in its place. A program of one function is described as a plain model,
    /// one of several as a multifunction model whose default is `main`.
    ///
    /// # Errors
    ///
    /// The first rule of MIL that the program breaks; [`Error::Io`]. The destination is then as it was.
    pub fn finish(self, program: &Program, metadata: &Metadata) -> Result<()> {
        if let Some(error) = mil::check(program).into_iter().next() {
            return Err(error);
        }
        let model = encode_model(program, metadata)?;
        self.weights.finish()?;
        let root = self.dir.path();
        write(&root.join(MODEL_FOLDER).join(MODEL_FILE), &model)?;
        write(&root.join(MANIFEST), &Manifest::for_model(&model).to_json())?;
        self.dir.commit()
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    File::create(path).and_then(|mut f| f.write_all(bytes)).map_err(|e| Error::io("write", path, e))
}

fn encode_model(program: &Program, metadata: &Metadata) -> Result<Vec<u8>> {
    let opset = program.functions.values().map(|f| f.opset).max().unwrap_or(Opset::CoreML5);
    let metadata = proto::Metadata {
        short_description: metadata.short_description.clone(),
        version_string: metadata.version.clone(),
        author: metadata.author.clone(),
        license: metadata.license.clone(),
        user_defined: metadata.user_defined.clone(),
    };
    let mut description = proto::ModelDescription { metadata: Some(metadata), ..Default::default() };
    if let (1, Some((name, function))) = (program.functions.len(), program.functions.iter().next()) {
        let interface = Interface::of(function);
        description.input = features(name, &interface.inputs, FeatureKind::Input)?;
        description.output = features(name, &interface.outputs, FeatureKind::Output)?;
        description.state = features(name, &interface.states, FeatureKind::State)?;
    } else {
        description.default_function_name = "main".into();
        for (name, function) in &program.functions {
            let interface = Interface::of(function);
            description.functions.push(proto::FunctionDescription {
                name: name.clone(),
                input: features(name, &interface.inputs, FeatureKind::Input)?,
                output: features(name, &interface.outputs, FeatureKind::Output)?,
                state: features(name, &interface.states, FeatureKind::State)?,
            });
        }
    }
    let model = proto::Model {
        specification_version: opset.specification_version(),
        description: Some(description),
        ml_program: Some(mil::program_to_proto(program)),
    };
    Ok(model.encode_to_vec())
}

fn features(
    function: &str,
    features: &[Feature],
    kind: FeatureKind,
) -> Result<Vec<proto::FeatureDescription>> {
    let bad = |reason| Error::Function { function: function.to_owned(), reason };
    features.iter().map(|feature| interface::to_proto(feature, kind).map_err(bad)).collect()
}

/// A package that was read. Its weights stay on disk, mapped.
#[derive(Debug)]
pub struct Package {
    path: PathBuf,
    specification_version: i32,
    metadata: Metadata,
    interfaces: BTreeMap<String, Interface>,
    default_function: String,
    program: Program,
    weights: BTreeMap<String, BlobFile>,
    model_bytes: u64,
}

impl Package {
    /// Opens a package and reads its program.
    ///
    /// # Errors
    ///
    /// [`Error::Manifest`], [`Error::Model`], [`Error::Blob`] or [`Error::Io`], each with the file that is wrong;
    /// [`Error::Function`] and [`Error::Operation`] where the program holds something that cannot be represented.
    /// Whether the program keeps MIL's rules is [`check`](Self::check)'s business.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            let missing = std::io::Error::new(std::io::ErrorKind::NotFound, "no such folder");
            return Err(Error::io("open package", path, missing));
        }
        let manifest = Manifest::read(path)?;
        let relative = manifest.model_path(path)?;
        let model_path = paths::inside(path, &relative)
            .map_err(|reason| Error::Manifest { path: path.join(MANIFEST), reason })?;
        let bytes = paths::read_small(&model_path, MODEL_LIMIT)?;
        let bad = |reason: String| Error::Model { path: model_path.clone(), reason };
        let model = proto::Model::decode(bytes.as_slice())
            .map_err(|e| bad(format!("no protobuf of a model: {e}")))?;
        let program = model
            .ml_program
            .ok_or_else(|| bad("not an ML Program: it holds a model of another kind".into()))?;
        let description = model.description.ok_or_else(|| bad("it has no description".into()))?;
        let program = mil::program_from_proto(program)?;
        let default_function = match description.default_function_name.as_str() {
            "" if program.functions.contains_key("main") => "main".to_owned(),
            "" => {
                program.functions.keys().next().cloned().ok_or_else(|| bad("it has no functions".into()))?
            }
            name => name.to_owned(),
        };
        let metadata = description.metadata.clone().unwrap_or_default();
        let interfaces = interfaces(&description, &default_function).map_err(bad)?;
        let weights = open_weights(&program, &model_path)?;
        Ok(Self {
            path: path.to_owned(),
            specification_version: model.specification_version,
            metadata: Metadata {
                short_description: metadata.short_description,
                version: metadata.version_string,
                author: metadata.author,
                license: metadata.license,
                user_defined: metadata.user_defined,
            },
            interfaces,
            default_function,
            program,
            weights,
            model_bytes: bytes.len() as u64,
        })
    }

    /// Where it stands.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Version of the specification that it keeps to; 9 is the first with states.
    pub fn specification_version(&self) -> i32 {
        self.specification_version
    }

    /// What it says of itself.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Its program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Name of the function that runs when none is named.
    pub fn default_function(&self) -> &str {
        &self.default_function
    }

    /// The function of that name.
    ///
    /// # Errors
    ///
    /// [`Error::Model`] that lists those there are.
    pub fn function(&self, name: &str) -> Result<&Function> {
        self.program.functions.get(name).ok_or_else(|| Error::Model {
            path: self.path.clone(),
            reason: format!(
                "no function {name:?}; it has {:?}",
                self.program.functions.keys().collect::<Vec<_>>()
            ),
        })
    }

    /// How the package describes a function to Core ML: its features, and the shapes that they may have.
    pub fn interface(&self, function: &str) -> Option<&Interface> {
        self.interfaces.get(function)
    }

    /// Size of `model.mlmodel` in bytes.
    pub fn model_bytes(&self) -> u64 {
        self.model_bytes
    }

    /// Size of all weight files in bytes.
    pub fn weight_bytes(&self) -> u64 {
        self.weights.values().map(BlobFile::bytes).sum()
    }

    /// Every rule that the program breaks, of MIL and of the description; empty if the package is sound.
    pub fn check(&self) -> Vec<Error> {
        let mut errors = mil::check(&self.program);
        for (name, function) in &self.program.functions {
            let opset = function.opset;
            if opset.specification_version() > self.specification_version {
                errors.push(Error::Function {
                    function: name.clone(),
                    reason: format!(
                        "opset {opset} needs specificationVersion {}, the model has {}",
                        opset.specification_version(),
                        self.specification_version
                    ),
                });
            }
            let found = Interface::of(function);
            let difference = match self.interfaces.get(name) {
                Some(described) => described.differs_from(&found),
                None => Some("the function is not described".to_owned()),
            };
            if let Some(difference) = difference {
                let reason = format!("the model's description differs from the program: {difference}");
                errors.push(Error::Function { function: name.clone(), reason });
            }
            for value in values(function) {
                if let Err(error) = self.blob_of(value) {
                    errors.push(error);
                }
            }
        }
        for name in self.interfaces.keys().filter(|n| !self.program.functions.contains_key(*n)) {
            errors.push(Error::Function {
                function: name.clone(),
                reason: "it is described, and the program has no such function".into(),
            });
        }
        errors
    }

    /// The numbers that a constant holds, as f32. fp16 and integers of up to 16 bits convert without loss.
    ///
    /// # Errors
    ///
    /// [`Error::Blob`] if its blob is damaged or of another type or size; [`Error::Model`] if it holds no numbers.
    pub fn floats(&self, value: &Value) -> Result<Vec<f32>> {
        let floats = match (&value.data, self.blob_of(value)?) {
            (ValueData::Immediate(literal), _) => elements::literal_to_f32(literal, &value.ty),
            (_, Some(blob)) => elements::packed_to_f32(blob.dtype, blob.elements, blob.data),
            (ValueData::Blob(_), None) => None,
        };
        floats.ok_or_else(|| Error::Model {
            path: self.path.clone(),
            reason: format!("a constant of {} cannot be read as numbers", value.ty),
        })
    }

    /// The blob that a constant is in, checked against the constant's type; `None` for immediate ones.
    ///
    /// # Errors
    ///
    /// [`Error::Blob`] if it is damaged, or of another type or size.
    pub fn blob_of(&self, value: &Value) -> Result<Option<Blob<'_>>> {
        let ValueData::Blob(at) = &value.data else { return Ok(None) };
        let file = self.weights.get(&at.file).ok_or_else(|| Error::Model {
            path: self.path.clone(),
            reason: format!("it refers to {:?}, which is not there", at.file),
        })?;
        let blob = file.blob(at.offset)?;
        if blob.dtype != value.ty.dtype || Some(blob.elements) != value.ty.shape.elements() {
            return Err(Error::Blob {
                path: file.path().to_owned(),
                offset: at.offset,
                reason: format!(
                    "{} elements of {}, the program says {}",
                    blob.elements, blob.dtype, value.ty
                ),
            });
        }
        Ok(Some(blob))
    }
}

fn interfaces(
    description: &proto::ModelDescription,
    default_function: &str,
) -> std::result::Result<BTreeMap<String, Interface>, String> {
    let interface = |inputs: &[_], outputs: &[_], states: &[_]| {
        Ok::<_, String>(Interface {
            inputs: described(inputs)?,
            outputs: described(outputs)?,
            states: described(states)?,
        })
    };
    if description.functions.is_empty() {
        let only = interface(&description.input, &description.output, &description.state)?;
        return Ok(BTreeMap::from([(default_function.to_owned(), only)]));
    }
    description
        .functions
        .iter()
        .map(|f| Ok((f.name.clone(), interface(&f.input, &f.output, &f.state)?)))
        .collect()
}

fn described(features: &[proto::FeatureDescription]) -> std::result::Result<Vec<Feature>, String> {
    features.iter().map(interface::from_proto).collect()
}

/// Every constant of a function, wherever it is bound.
fn values(function: &Function) -> impl Iterator<Item = &Value> {
    function.block.operations.iter().flat_map(|o| {
        let bound = o.inputs.values().flatten().filter_map(|b| match b {
            Binding::Value(v) => Some(v),
            Binding::Name(_) => None,
        });
        bound.chain(o.attributes.values())
    })
}

fn open_weights(program: &Program, model_path: &Path) -> Result<BTreeMap<String, BlobFile>> {
    let files: BTreeSet<&str> = program
        .functions
        .values()
        .flat_map(values)
        .filter_map(|v| match &v.data {
            ValueData::Blob(blob) => Some(blob.file.as_str()),
            ValueData::Immediate(_) => None,
        })
        .collect();
    let folder = model_path.parent().unwrap_or(Path::new("."));
    let open = |file: &str| {
        let bad = |reason| Error::Model { path: model_path.to_owned(), reason };
        let relative = file
            .strip_prefix("@model_path/")
            .ok_or_else(|| bad(format!("weight file {file:?} does not begin with @model_path/")))?;
        let path = paths::inside(folder, relative).map_err(bad)?;
        Ok((file.to_owned(), BlobFile::open(&path)?))
    };
    files.into_iter().map(open).collect()
}
