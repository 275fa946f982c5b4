//! Recurrent layers over `x [S, B, I]`: `S` steps of `B` sequences, with `H` hidden units.
//!
//! Each gate has `H` rows of the weights and of the bias. The order of the gates is input, forget, output,
//! cell for LSTM and reset, output, update for GRU.

use super::args::Args;
use super::dtype_constraint::DTypeConstraint;
use super::spec::{Inferred, OpSpec, Param};
use crate::finding::Fault;
use crate::mil::{Dim, Dims, Opset, TensorType};

const X: Param = Param::new("x", DTypeConstraint::RECURRENT).domain('T');
const INITIAL_H: Param = Param::new("initial_h", DTypeConstraint::RECURRENT).domain('T');
const WEIGHT_IH: Param = weight("weight_ih");
const WEIGHT_HH: Param = weight("weight_hh");
const BIAS: Param = weight("bias").optional();
const DIRECTION: Param = Param::constant("direction", DTypeConstraint::STRING).or_string("forward");
const OUTPUT_SEQUENCE: Param = Param::constant("output_sequence", DTypeConstraint::BOOL).or_bool(false);
const RECURRENT_ACTIVATION: Param =
    Param::constant("recurrent_activation", DTypeConstraint::STRING).or_string("sigmoid");
const ACTIVATION: Param = Param::constant("activation", DTypeConstraint::STRING).or_string("tanh");

const fn weight(name: &'static str) -> Param {
    Param::constant(name, DTypeConstraint::RECURRENT).domain('T')
}

pub(super) const OPS: &[OpSpec] = &[
    OpSpec::new(
        "rnn",
        &[X, INITIAL_H, WEIGHT_IH, WEIGHT_HH, BIAS, DIRECTION, OUTPUT_SEQUENCE, ACTIVATION],
        rnn,
    ),
    OpSpec::new(
        "gru",
        &[
            X,
            INITIAL_H,
            WEIGHT_IH,
            WEIGHT_HH,
            BIAS,
            DIRECTION,
            OUTPUT_SEQUENCE,
            RECURRENT_ACTIVATION,
            ACTIVATION,
            Param::constant("reset_after", DTypeConstraint::BOOL).optional().since(Opset::CoreML8),
            weight("input_bias").optional().since(Opset::CoreML8),
        ],
        gru,
    ),
    OpSpec::new(
        "lstm",
        &[
            X,
            INITIAL_H,
            Param::new("initial_c", DTypeConstraint::RECURRENT).domain('T'),
            WEIGHT_IH,
            WEIGHT_HH,
            BIAS,
            weight("peephole").optional(),
            weight("weight_ih_back").optional(),
            weight("weight_hh_back").optional(),
            weight("bias_back").optional(),
            weight("peephole_back").optional(),
            DIRECTION,
            OUTPUT_SEQUENCE,
            RECURRENT_ACTIVATION,
            Param::constant("cell_activation", DTypeConstraint::STRING).or_string("tanh"),
            ACTIVATION,
            weight("clip").optional(),
        ],
        lstm,
    ),
];

/// Activations of recurrent layers, compared without regard to case. coremltools' documentation of `lstm` has
/// `hard_sigmoid`, that of `rnn` has `sigmoid_hard` for the same activation.
const ACTIVATIONS: [&str; 7] =
    ["tanh", "scaled_tanh", "sigmoid", "hard_sigmoid", "sigmoid_hard", "relu", "linear"];

fn rnn(args: &Args<'_>) -> Inferred {
    check_activations(args, &["activation"])?;
    let layer = Layer { gates: 1, directions: directions(args, &["forward", "reverse"])? };
    let hidden = layer.weights(args, "")?;
    layer.results(args, hidden, &["initial_h"])
}

fn gru(args: &Args<'_>) -> Inferred {
    check_activations(args, &["recurrent_activation", "activation"])?;
    args.bool_or("reset_after", false)?;
    let layer = Layer { gates: 3, directions: directions(args, &["forward", "reverse"])? };
    let hidden = layer.weights(args, "")?;
    check_shape(args, "input_bias", &[3 * hidden])?;
    layer.results(args, hidden, &["initial_h"])
}

fn lstm(args: &Args<'_>) -> Inferred {
    check_activations(args, &["recurrent_activation", "cell_activation", "activation"])?;
    let clip = args.float_or("clip", f32::INFINITY)?;
    if clip.is_nan() || clip < 0.0 {
        return Err(Fault::value("clip", format!("is {clip}, expected a number of at least 0")));
    }
    let layer = Layer { gates: 4, directions: directions(args, &["forward", "reverse", "bidirectional"])? };
    let hidden = layer.weights(args, "")?;
    check_shape(args, "peephole", &[3 * hidden])?;
    if layer.directions == 2 {
        let backward = layer.weights(args, "_back")?;
        if backward != hidden {
            let reason = format!("has {backward} hidden units, weight_hh has {hidden}");
            return Err(Fault::mismatch("weight_hh_back", reason));
        }
        check_shape(args, "peephole_back", &[3 * hidden])?;
    }
    layer.results(args, hidden, &["initial_h", "initial_c"])
}

/// Returns the number of directions of a layer; `allowed` lists the values that it accepts.
fn directions(args: &Args<'_>, allowed: &[&str]) -> Result<usize, Fault> {
    match args.string("direction")?.unwrap_or("forward") {
        direction if !allowed.contains(&direction) => {
            let reason = format!("is {direction:?}, expected one of {}", allowed.join(", "));
            Err(Fault::value("direction", reason))
        }
        "bidirectional" => Ok(2),
        _ => Ok(1),
    }
}

fn check_activations(args: &Args<'_>, names: &[&str]) -> Result<(), Fault> {
    for name in names {
        let Some(activation) = args.string(name)? else { continue };
        if !ACTIVATIONS.contains(&activation.to_ascii_lowercase().as_str()) {
            let reason = format!("is {activation:?}, expected one of {}", ACTIVATIONS.join(", "));
            return Err(Fault::value(name, reason));
        }
    }
    Ok(())
}

/// Checks the shape of an optional argument.
fn check_shape(args: &Args<'_>, name: &str, expected: &[usize]) -> Result<(), Fault> {
    match args.get(name) {
        Some(arg) if arg.ty.shape != *expected => {
            Err(Fault::value(name, format!("is {}, expected {expected:?}", arg.ty)))
        }
        _ => Ok(()),
    }
}

struct Layer {
    /// Number of groups of `H` rows in the weights.
    gates: usize,
    directions: usize,
}

impl Layer {
    /// Returns `H`, from `weight_hh [gates H, H]`. The other weights of the same direction must match it.
    fn weights(&self, args: &Args<'_>, direction: &str) -> Result<usize, Fault> {
        let named = |name: &str| format!("{name}{direction}");
        let (input_name, hidden_name) = (named("weight_ih"), named("weight_hh"));
        let weight = args.shape(&hidden_name)?;
        let expected = |hidden: usize| self.gates.checked_mul(hidden);
        let hidden = match *weight.dims() {
            [rows, hidden] if hidden > 0 && expected(hidden) == Some(rows) => hidden,
            _ => {
                let rows = if self.gates == 1 { "H".into() } else { format!("{} H", self.gates) };
                return Err(Fault::value(&hidden_name, format!("is {weight}, expected [{rows}, H]")));
            }
        };
        let input = args.dims(&input_name)?;
        let width = match args.dims("x")?.as_slice() {
            &[_, _, width] => width,
            _ => return Err(Fault::value("x", format!("is {}, expected rank 3", args.ty("x")?))),
        };
        match input.as_slice() {
            &[rows, found] if rows == Dim::Known(weight.dims()[0]) && found.may_be(width) => {}
            _ => {
                let rows = weight.dims()[0];
                let reason = format!("is {input}, expected [{rows}, {width}] for {hidden_name} and x");
                return Err(Fault::value(&input_name, reason));
            }
        }
        check_shape(args, &named("bias"), &[weight.dims()[0]])?;
        Ok(hidden)
    }

    /// Returns the types of the hidden states of every step or of the last step, and of each final state.
    fn results(&self, args: &Args<'_>, hidden: usize, states: &[&str]) -> Inferred {
        let x = args.ty("x")?;
        let width = self.directions * hidden;
        let (steps, mut batch) = (x.shape[0], x.shape[1]);
        if steps == Dim::Known(0) {
            return Err(Fault::value("x", format!("is {x}, expected at least one step")));
        }
        for name in states {
            let found = args.dims(name)?;
            batch = match found.as_slice() {
                &[b, w] if w.may_be(width) => b.meet(batch),
                _ => None,
            }
            .ok_or_else(|| Fault::value(name, format!("is {found}, expected [{batch}, {width}]")))?;
        }
        let steps = if args.bool_or("output_sequence", false)? { steps } else { Dim::Known(1) };
        let ty = |shape: Dims| TensorType { dtype: x.dtype, shape };
        let state = ty(Dims::from([batch, Dim::Known(width)]));
        let mut results = vec![ty(Dims::from([steps, batch, Dim::Known(width)]))];
        results.extend(states.iter().map(|_| state.clone()));
        Ok(results)
    }
}
