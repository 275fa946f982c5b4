//! A package's description of its model: metadata, and the interface of every function.

use std::collections::BTreeMap;

use super::features::{self, FeatureKind};
use crate::error::{Error, Result};
use crate::finding::{Finding, Rule};
use crate::interface::{Feature, Interface};
use crate::mil::Program;
use crate::proto;

/// The metadata of a package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// A description of one line.
    pub short_description: String,
    /// The model's version, in the author's numbering.
    pub version: String,
    /// The author.
    pub author: String,
    /// The licence.
    pub license: String,
    /// Other entries, by key.
    pub user_defined: BTreeMap<String, String>,
}

/// A package's description of its model.
///
/// A package of one function describes that function as the model itself; a package of several lists them by
/// name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Description {
    /// The package's metadata.
    pub metadata: Metadata,
    /// Whether the file contains a metadata message, even an empty one.
    has_metadata: bool,
    /// Whether functions are listed by name.
    multifunction: bool,
    /// The stored name; empty if the package states none.
    default_function: String,
    /// In the order of the file. A single function that is described as the model itself has its name from
    /// the program.
    functions: Vec<(String, Interface)>,
    /// Features that are described at the top level although functions are listed.
    stray: Interface,
    /// Inputs for training, which this crate passes through.
    training_inputs: Vec<proto::FeatureDescription>,
}

impl Description {
    /// Derives a description from a program: the inputs, outputs and states of its functions, all of fixed
    /// shape. If there are several functions, the default is `main`.
    pub fn of(program: &Program) -> Self {
        let interface = |(name, f): (&String, &crate::mil::Function)| (name.clone(), Interface::of(f));
        let multifunction = program.functions.len() > 1;
        Self {
            has_metadata: true,
            multifunction,
            default_function: if multifunction { "main".into() } else { String::new() },
            functions: program.functions.iter().map(interface).collect(),
            ..Self::default()
        }
    }

    /// Returns every described function with its interface.
    pub fn functions(&self) -> impl Iterator<Item = (&str, &Interface)> {
        self.functions.iter().map(|(name, interface)| (name.as_str(), interface))
    }

    /// Returns the interface of a function.
    pub fn interface(&self, function: &str) -> Option<&Interface> {
        self.functions().find(|(name, _)| *name == function).map(|(_, interface)| interface)
    }

    /// Returns the interface of a function, to add what the program does not contain: allowed input shapes,
    /// the meaning of an output.
    pub fn interface_mut(&mut self, function: &str) -> Option<&mut Interface> {
        self.functions.iter_mut().find(|(name, _)| name == function).map(|(_, interface)| interface)
    }

    /// Returns the name of the function that runs by default: `main`, unless the package names another.
    pub fn default_function(&self) -> &str {
        match self.functions.as_slice() {
            [(only, _)] if !self.multifunction => only,
            _ if self.default_function.is_empty() => "main",
            _ => &self.default_function,
        }
    }

    /// Sets the function that runs by default. Only meaningful for models of several functions.
    pub fn set_default_function(&mut self, name: impl Into<String>) {
        self.default_function = name.into();
    }

    /// Returns whether functions are listed by name, which iOS 18 introduced.
    pub fn is_multifunction(&self) -> bool {
        self.multifunction
    }

    /// Returns the stored name of the default function; empty if the package states none.
    pub(super) fn stored_default_function(&self) -> &str {
        &self.default_function
    }

    /// Returns the features that are described at the top level although functions are listed.
    pub(super) fn stray(&self) -> &Interface {
        &self.stray
    }

    pub(crate) fn from_proto(
        description: proto::ModelDescription,
        program: &Program,
        findings: &mut Vec<Finding>,
    ) -> Self {
        let has_metadata = description.metadata.is_some();
        let metadata = description.metadata.unwrap_or_default();
        let multifunction = !description.functions.is_empty();
        let mut top_level = Interface {
            inputs: read(&description.input, findings),
            outputs: read(&description.output, findings),
            states: read(&description.state, findings),
            predicted_feature: description.predicted_feature_name,
            predicted_probabilities: description.predicted_probabilities_name,
        };
        let functions = if multifunction {
            let interface = |f: proto::FunctionDescription, findings: &mut Vec<Finding>| Interface {
                inputs: read(&f.input, findings),
                outputs: read(&f.output, findings),
                states: read(&f.state, findings),
                predicted_feature: f.predicted_feature_name,
                predicted_probabilities: f.predicted_probabilities_name,
            };
            let list = description.functions.into_iter();
            list.map(|f| (f.name.clone(), interface(f, findings))).collect()
        } else {
            let only = match program.functions.keys().collect::<Vec<_>>().as_slice() {
                [only] => (*only).clone(),
                _ => "main".to_owned(),
            };
            vec![(only, std::mem::take(&mut top_level))]
        };
        Self {
            metadata: Metadata {
                short_description: metadata.short_description,
                version: metadata.version_string,
                author: metadata.author,
                license: metadata.license,
                user_defined: metadata.user_defined,
            },
            has_metadata,
            multifunction,
            default_function: description.default_function_name,
            functions,
            stray: top_level,
            training_inputs: description.training_input,
        }
    }

    pub(super) fn to_proto(&self) -> Result<proto::ModelDescription> {
        let Metadata { short_description, version, author, license, user_defined } = self.metadata.clone();
        let metadata =
            proto::Metadata { short_description, version_string: version, author, license, user_defined };
        let top_level = match self.functions.as_slice() {
            [(_, only)] if !self.multifunction => only,
            _ => &self.stray,
        };
        let mut functions = Vec::new();
        if self.multifunction {
            for (name, interface) in &self.functions {
                functions.push(proto::FunctionDescription {
                    name: name.clone(),
                    input: write(name, &interface.inputs, FeatureKind::Input)?,
                    output: write(name, &interface.outputs, FeatureKind::Output)?,
                    state: write(name, &interface.states, FeatureKind::State)?,
                    predicted_feature_name: interface.predicted_feature.clone(),
                    predicted_probabilities_name: interface.predicted_probabilities.clone(),
                });
            }
        }
        Ok(proto::ModelDescription {
            input: write("main", &top_level.inputs, FeatureKind::Input)?,
            output: write("main", &top_level.outputs, FeatureKind::Output)?,
            state: write("main", &top_level.states, FeatureKind::State)?,
            predicted_feature_name: top_level.predicted_feature.clone(),
            predicted_probabilities_name: top_level.predicted_probabilities.clone(),
            training_input: self.training_inputs.clone(),
            functions,
            default_function_name: self.default_function.clone(),
            metadata: (self.has_metadata || self.metadata != Metadata::default()).then_some(metadata),
        })
    }
}

fn read(features: &[proto::FeatureDescription], findings: &mut Vec<Finding>) -> Vec<Feature> {
    let mut read = Vec::with_capacity(features.len());
    for feature in features {
        match features::from_proto(feature) {
            Ok(feature) => read.push(feature),
            Err(reason) => findings.push(Finding::package(Rule::Description, reason)),
        }
    }
    read
}

fn write(function: &str, features: &[Feature], kind: FeatureKind) -> Result<Vec<proto::FeatureDescription>> {
    let bad = |reason| Error::from(Finding::function(Rule::InterfaceType, function, reason));
    features.iter().map(|feature| features::to_proto(feature, kind).map_err(bad)).collect()
}
