//! Operations that are never placed on the Neural Engine.
//!
//! From the ane-book and others' reported plans: gather and scatter, argmax, top-k, control flow, lists,
//! linear layers of rank 2, slices with computed bounds, and `slice_update` of a state.

use super::{Card, Law, Statement};
use crate::op_context::OpContext;

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

/// Prefixes of operation names by what the operations do, and the reason for each group.
const KINDS: &[(&[&str], &str)] = &[
    (&["gather", "scatter"], "it picks elements by index, which the Neural Engine does not do"),
    (
        &["reduce_argmax", "reduce_argmin", "topk", "argsort", "non_zero"],
        "it searches for positions, which the Neural Engine does not do",
    ),
    (&["cond", "while_loop"], "control flow stays on the CPU"),
    (&["make_list", "list_"], "lists stay on the CPU"),
    (&["slice_update"], "slice_update is always scheduled on the CPU"),
    (&["classify", "non_maximum_suppression", "random_"], "it is only known on the CPU"),
    (&["shape", "range_1d"], "it computes a shape, not elements"),
];

/// Returns whether an operation is of a kind: its name is `kind`, or `kind` followed by an underscore and
/// more.
fn is_of(op: &str, kind: &str) -> bool {
    let kind = kind.trim_end_matches('_');
    op.strip_prefix(kind).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}

impl Law for NeverPlaced {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn operation(&self, context: &OpContext<'_>) -> Option<String> {
        let op = context.operation.op.as_str();
        let kind = KINDS.iter().find(|(names, _)| names.iter().any(|kind| is_of(op, kind)));
        if let Some((_, why)) = kind {
            return Some((*why).to_owned());
        }
        if context.has_blocks {
            return Some("control flow stays on the CPU".into());
        }
        if op == "linear" && context.inputs.first().is_some_and(|x| x.shape.rank() <= 2) {
            return Some("all known linear layers of rank 2 ran on the CPU: use a 1x1 convolution".into());
        }
        let computed = |param: &str| context.args.get(param).is_some_and(|arg| !arg.constant);
        let bounds = ["begin", "end", "size"].into_iter().find(|param| computed(param));
        (op.starts_with("slice_by") && bounds.is_some())
            .then(|| "the bounds of the slice are computed at run time".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use mlpackage::DType;
    use mlpackage::mil::{TensorType, Value};

    use super::*;
    use crate::op_context::tests::{contexts, kept_off};

    #[test]
    fn linear_layers_and_slices_depend_on_how_they_are_used() {
        let contexts = contexts(|f| {
            let x = f.input("x", DType::Fp16, [1, 8])?;
            let wide = f.input("wide", DType::Fp16, [1, 4, 8])?;
            let at = f.input("at", DType::Int32, [2])?;
            let w = f.weight("w", TensorType::new(DType::Fp16, [8, 8]), &[0; 128])?;
            let flat = f.op("linear", "flat").arg("x", &x).arg("weight", &w).one()?;
            let deep = f.op("linear", "deep").arg("x", &wide).arg("weight", &w).one()?;
            let size = || Value::ints([2], [1, 4]);
            let fixed = f
                .op("slice_by_size", "fixed")
                .arg("x", &flat)
                .value("begin", Value::ints([2], [0, 0]))
                .value("size", size())
                .one()?;
            let moving = f
                .op("slice_by_size", "moving")
                .arg("x", &flat)
                .arg("begin", &at)
                .value("size", size())
                .one()?;
            [&deep, &fixed, &moving].into_iter().for_each(|y| f.output(y));
            Ok(())
        });
        assert!(kept_off(&NeverPlaced, &contexts, "flat").unwrap().contains("rank 2"));
        assert!(kept_off(&NeverPlaced, &contexts, "deep").is_none());
        assert!(kept_off(&NeverPlaced, &contexts, "fixed").is_none());
        assert!(kept_off(&NeverPlaced, &contexts, "moving").unwrap().contains("bounds"));
    }

    /// Kinds match `gather` and `gather_nd`, but not other operations whose names begin the same way.
    #[test]
    fn names_are_matched_whole_or_to_an_underscore() {
        let kept_off: Vec<&str> = mlpackage::ops::all()
            .map(|op| op.name)
            .filter(|name| KINDS.iter().any(|(names, _)| names.iter().any(|kind| is_of(name, kind))))
            .collect();
        for name in [
            "gather",
            "gather_nd",
            "scatter_along_axis",
            "topk",
            "cond",
            "while_loop",
            "reduce_argmax",
            "slice_update",
        ] {
            assert!(
                kept_off.contains(&name) || mlpackage::ops::lookup(name).is_none(),
                "{name}: {kept_off:?}"
            );
        }
        for name in
            ["reduce_max", "reshape", "conv", "matmul", "softmax", "concat", "read_state", "write_state"]
        {
            assert!(!kept_off.contains(&name), "{name}");
        }
    }
}
