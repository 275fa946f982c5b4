//! States.
//!
//! Reports on `MLState` on the Neural Engine: dimensions that are not multiples of 32 fail (270 fails, 256
//! works), and so do more than two states in a chunk; yet Experiment 27's scaled shard has twelve and was
//! placed. No source reports that the *plan* changes, so these are hazards and keep no operation off.

use super::{Card, Law, Statement};
use crate::op_context::OpContext;

/// State dimensions should be multiples of 32.
#[derive(Clone, Copy, Debug)]
pub struct States;

const MULTIPLE: usize = 32;

const CARD: Card = Card {
    name: "states",
    says: "the last two dimensions of a state should be multiples of 32, or it may fail when it runs",
    source: "coremltools, issue 2631",
    made_from: &[],
    statements: &[
        Statement::supporting("a state of 270 fails, one of 256 works", "coremltools, issue 2631"),
        Statement::opposing(
            "states [1, 4, 16, 4] are not reported to fail, on the CPU",
            "ane-book, Experiment 27",
        ),
        Statement::opposing(
            "a shard of twelve states was placed, where more than two are said to fail",
            "ane-book, Experiment 27",
        ),
    ],
};

impl Law for States {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn hazard(&self, context: &OpContext<'_>, _: &[OpContext<'_>]) -> Option<String> {
        if context.operation.op != "write_state" {
            return None;
        }
        let state = context.args.iter().flat_map(|(_, bound)| bound).find(|arg| arg.is_state())?;
        let dims: Vec<usize> = state.ty.shape.iter().filter_map(|d| d.known()).collect();
        let odd: Vec<String> = dims
            .iter()
            .skip(dims.len().saturating_sub(2))
            .filter(|n| !n.is_multiple_of(MULTIPLE))
            .map(ToString::to_string)
            .collect();
        let (odd, are) = match odd.as_slice() {
            [] => return None,
            [one] => (one.clone(), "is not a multiple"),
            _ => (odd.join(" and "), "are not multiples"),
        };
        Some(format!(
            "the state is {}, of which {odd} {are} of {MULTIPLE}: reported to fail on the Neural Engine",
            state.ty
        ))
    }
}

#[cfg(test)]
mod tests {
    use mlpackage::DType;

    use super::*;
    use crate::op_context::tests::contexts;

    /// From coremltools, issue 2631: 270 fails, 256 works.
    #[test]
    fn multiples_of_32_are_wanted() {
        let hazards = |n: usize| {
            let contexts = contexts(|f| {
                let x = f.input("x", DType::Fp16, [1, 64, n])?;
                let state = f.state("s", DType::Fp16, [1, 64, n])?;
                f.write_state(&state, &x)?;
                let y = f.read_state("y", &state)?;
                f.output(&y);
                Ok(())
            });
            let found: Vec<String> = contexts.iter().filter_map(|s| States.hazard(s, &contexts)).collect();
            found
        };
        assert!(hazards(256).is_empty());
        let [found] = &hazards(270)[..] else { panic!("one for the state") };
        assert!(found.contains("270 is not a multiple of 32"), "{found}");
    }
}
