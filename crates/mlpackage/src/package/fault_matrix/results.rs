//! Faults in the results of operations and in the outputs of the function.

use super::draft::fixed;
use super::fault::{Fault, fault};
use crate::finding::Rule;
use crate::proto;

pub(super) const FAULTS: &[Fault] = &[
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
];
