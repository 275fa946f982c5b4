//! The feed-forward block (MLP).

use mlpackage::builder::{FunctionBuilder, Var};

use crate::error::Result;

/// Adds `down(relu(up(x)))`; `linear` adds the projection of a given name.
///
/// # Errors
///
/// Returns the error of `linear`, or an error if a name is taken.
pub(crate) fn relu_mlp(
    f: &mut FunctionBuilder<'_>,
    [up, down]: [&str; 2],
    x: &Var,
    mut linear: impl FnMut(&mut FunctionBuilder<'_>, &str, &Var) -> Result<Var>,
) -> Result<Var> {
    let h = linear(f, up, x)?;
    let h = f.op("relu", &format!("{up}_relu")).arg("x", &h).one()?;
    linear(f, down, &h)
}
