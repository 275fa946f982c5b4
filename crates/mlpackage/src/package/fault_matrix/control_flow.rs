//! Faults in operations that hold blocks.

use super::fault::{Fault, in_fixture};
use crate::finding::Rule;

pub(super) const FAULTS: &[Fault] = &[
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
