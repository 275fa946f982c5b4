//! `Model.proto`: the model and its description.

use std::collections::BTreeMap;

use prost::Message;

use super::feature_types::FeatureType;
use super::mil::Program;

/// `CoreML.Specification.Model`, the root message of `model.mlmodel`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Model {
    #[prost(int32, tag = "1")]
    pub(crate) specification_version: i32,
    #[prost(message, optional, tag = "2")]
    pub(crate) description: Option<ModelDescription>,
    #[prost(bool, tag = "10")]
    pub(crate) is_updatable: bool,
    #[prost(message, optional, tag = "502")]
    pub(crate) ml_program: Option<Program>,
}

/// The model's inputs, outputs and states, as Core ML's API shows them.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ModelDescription {
    #[prost(message, repeated, tag = "1")]
    pub(crate) input: Vec<FeatureDescription>,
    #[prost(message, repeated, tag = "10")]
    pub(crate) output: Vec<FeatureDescription>,
    #[prost(message, repeated, tag = "13")]
    pub(crate) state: Vec<FeatureDescription>,
    #[prost(string, tag = "11")]
    pub(crate) predicted_feature_name: String,
    #[prost(string, tag = "12")]
    pub(crate) predicted_probabilities_name: String,
    #[prost(message, repeated, tag = "50")]
    pub(crate) training_input: Vec<FeatureDescription>,
    #[prost(message, repeated, tag = "20")]
    pub(crate) functions: Vec<FunctionDescription>,
    #[prost(string, tag = "21")]
    pub(crate) default_function_name: String,
    #[prost(message, optional, tag = "100")]
    pub(crate) metadata: Option<Metadata>,
}

/// One function of a multifunction model.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct FunctionDescription {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) input: Vec<FeatureDescription>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) output: Vec<FeatureDescription>,
    #[prost(string, tag = "4")]
    pub(crate) predicted_feature_name: String,
    #[prost(string, tag = "5")]
    pub(crate) predicted_probabilities_name: String,
    #[prost(message, repeated, tag = "6")]
    pub(crate) state: Vec<FeatureDescription>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Metadata {
    #[prost(string, tag = "1")]
    pub(crate) short_description: String,
    #[prost(string, tag = "2")]
    pub(crate) version_string: String,
    #[prost(string, tag = "3")]
    pub(crate) author: String,
    #[prost(string, tag = "4")]
    pub(crate) license: String,
    #[prost(btree_map = "string, string", tag = "100")]
    pub(crate) user_defined: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FeatureDescription {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) short_description: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) r#type: Option<FeatureType>,
}
