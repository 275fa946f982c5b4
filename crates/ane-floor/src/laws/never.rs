//! Operations that never go to the Neural Engine.
//!
//! From the ane-book and what others report of their plans: gather and scatter, argmax, top-k, control flow, lists, linear layers of
//! rank 2, slices whose bounds are computed, and `slice_update` of a state.

use super::{Card, Law, Statement};
use crate::site::Site;

/// Some operations are never placed.
#[derive(Clone, Copy, Debug)]
pub struct NeverPlaced;

const CARD: Card = Card {
    name: "never-placed",
    says: "gather, scatter, argmax, top-k, sorting, control flow, lists, rank-2 linear layers and computed slices stay off",
    source: "ane-book",
    made_from: &["ane-book"],
    statements: &[
        Statement::supporting(
            "gather, scatter, argmax, topk and control flow are off the Neural Engine",
            "ane-book",
        ),
        Statement::supporting("slice_update is always scheduled on the CPU", "coremltools, issue 2631"),
        Statement::supporting("rank-2 linear layers (1, D) were all placed on the CPU", "ane-book"),
    ],
};

/// By what the operation does: beginnings of names, and why.
const KINDS: &[(&[&str], &str)] = &[
    (&["gather", "scatter"], "it picks elements by index, which the Neural Engine does not do"),
    (
        &["reduce_argmax", "reduce_argmin", "topk", "argsort", "non_zero"],
        "it searches for places, which the Neural Engine does not do",
    ),
    (&["cond", "while_loop"], "control flow stays on the CPU"),
    (&["make_list", "list_"], "lists are kept by the CPU"),
    (&["slice_update"], "slice_update is always scheduled on the CPU"),
    (&["classify", "non_maximum_suppression", "random_"], "it is not known to be anywhere but on the CPU"),
    (&["shape", "range_1d"], "it computes a shape, not elements"),
];

impl Law for NeverPlaced {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn operation(&self, site: &Site<'_>) -> Option<String> {
        let op = site.operation.op.as_str();
        let kind = KINDS.iter().find(|(names, _)| {
            names.iter().any(|name| {
                if name.ends_with('_') {
                    op.starts_with(name)
                } else {
                    op == *name || op.strip_prefix(name).is_some_and(|rest| rest.starts_with('_'))
                }
            })
        });
        if let Some((_, why)) = kind {
            return Some((*why).to_owned());
        }
        if site.has_blocks {
            return Some("control flow stays on the CPU".into());
        }
        if op == "linear" && site.inputs.first().is_some_and(|x| x.shape.rank() <= 2) {
            return Some(
                "linear layers of rank 2 were all seen on the CPU: make it a 1x1 convolution".into(),
            );
        }
        let computed = |param: &str| site.args.get(param).is_some_and(|arg| !arg.constant);
        let bounds = ["begin", "end", "size"].into_iter().find(|param| computed(param));
        (op.starts_with("slice_by") && bounds.is_some())
            .then(|| "the bounds of the slice are computed as it runs".to_owned())
    }
}
