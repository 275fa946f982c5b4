//! RMSNorm without gain over the channel axis, in the forms of [`NormForm`].

use mlpackage::builder::{FunctionBuilder, Var};
use mlpackage::mil::Value;
use mlpackage::{Result, Rule};

use crate::options::NormForm;

/// Adds `x * (mean(x^2) + eps)^-0.5` over axis 1 of `x [1, C, 1, T]`. The operations are named after `name`.
///
/// # Errors
///
/// Returns an error if `name` is taken, if `x` has no axis 1, or, in the form `Safe`, if its size is open.
pub fn rms_norm(f: &mut FunctionBuilder<'_>, name: &str, x: &Var, eps: f32, form: NormForm) -> Result<Var> {
    match form {
        NormForm::Plain => plain(f, name, x, eps),
        NormForm::Safe => safe(f, name, x, eps),
        NormForm::MaxScaled => max_scaled(f, name, x, eps),
    }
}

fn plain(f: &mut FunctionBuilder<'_>, name: &str, x: &Var, eps: f32) -> Result<Var> {
    let mean = mean_square(f, name, x)?;
    let scale =
        f.op("rsqrt", &format!("{name}_rsqrt")).arg("x", &mean).value("epsilon", Value::fp32(eps)).one()?;
    f.op("mul", name).arg("x", x).arg("y", &scale).one()
}

/// Adds the epsilon as an fp16 constant of a separate operation, as the experiment does. In fp16 this
/// constant may round to 0.
fn safe(f: &mut FunctionBuilder<'_>, name: &str, x: &Var, eps: f32) -> Result<Var> {
    let channels = x.dims().as_slice().get(1).and_then(|d| d.known());
    let Some(d) = channels else {
        let reason = format!("norm {name}: x is {}, expected an axis 1 of fixed size", x.ty());
        return Err(f.error(Rule::ArgumentType, reason));
    };
    let d = d as f32;
    let scaled =
        f.op("mul", &format!("{name}_scaled")).arg("x", x).value("y", Value::fp16(1.0 / d.sqrt())).one()?;
    let mean = mean_square(f, name, &scaled)?;
    let sum = f.op("add", &format!("{name}_sum")).arg("x", &mean).value("y", Value::fp16(eps / d)).one()?;
    let scale = f.op("rsqrt", &format!("{name}_rsqrt")).arg("x", &sum).one()?;
    f.op("mul", name).arg("x", &scaled).arg("y", &scale).one()
}

fn max_scaled(f: &mut FunctionBuilder<'_>, name: &str, x: &Var, eps: f32) -> Result<Var> {
    let floor = Value::fp16(eps.sqrt());
    let part = |part: &str| format!("{name}_{part}");
    let magnitude = f.op("abs", &part("abs")).arg("x", x).one()?;
    let max = f
        .op("reduce_max", &part("max"))
        .arg("x", &magnitude)
        .value("axes", Value::ints([1], [1]))
        .value("keep_dims", Value::bool(true))
        .one()?;
    // m is never 0, so every division below is defined.
    let max = f.op("maximum", &part("unit")).arg("x", &max).value("y", floor.clone()).one()?;
    let scaled = f.op("real_div", &part("scaled")).arg("x", x).arg("y", &max).one()?;
    let mean = mean_square(f, name, &scaled)?;
    let floor = f.value("sqrt_eps", floor)?;
    let ratio = f.op("real_div", &part("ratio")).arg("x", &floor).arg("y", &max).one()?;
    let eps = f.op("mul", &part("eps")).arg("x", &ratio).arg("y", &ratio).one()?;
    let sum = f.op("add", &part("sum")).arg("x", &mean).arg("y", &eps).one()?;
    let scale = f.op("rsqrt", &part("rsqrt")).arg("x", &sum).one()?;
    f.op("mul", name).arg("x", &scaled).arg("y", &scale).one()
}

fn mean_square(f: &mut FunctionBuilder<'_>, name: &str, x: &Var) -> Result<Var> {
    let square = f.op("mul", &format!("{name}_square")).arg("x", x).arg("y", x).one()?;
    f.op("reduce_mean", &format!("{name}_mean"))
        .arg("x", &square)
        .value("axes", Value::ints([1], [1]))
        .value("keep_dims", Value::bool(true))
        .one()
}
