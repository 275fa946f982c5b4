//! Compiles a function for inputs of given shapes into a plan: lowers it, fuses operations, and assigns buffers.

use mlpackage::Shape;
use mlpackage::mil::Function;

use super::allocate::allocate;
use super::constants::Constants;
use super::fusion::{self, Target};
use super::lowering::{NoPlan, lower};
use super::numerics::Numerics;
use super::plan::Plan;
use crate::engine::Limits;

/// Compiles `function` for inputs of `shapes`. Operations are fused if there is a target.
pub(super) fn compile(
    function: &Function,
    constants: &Constants,
    shapes: &[Shape],
    numerics: Numerics,
    limits: Limits,
    target: Option<&Target>,
) -> Result<Plan, NoPlan> {
    let (mut ir, hazards) = lower(function, constants, shapes, numerics)?;
    if let Some(target) = target {
        fusion::fuse(&mut ir, target);
    }
    let plan = allocate(ir).with_hazards(hazards);
    let (bytes, most) = (plan.memory().workspace, limits.workspace);
    if bytes > most {
        return Err(NoPlan::Lacks(vec![format!(
            "room for {bytes} B of workspace, {most} B at most: give inputs of smaller shapes, or raise the workspace limit"
        )]));
    }
    Ok(plan)
}
