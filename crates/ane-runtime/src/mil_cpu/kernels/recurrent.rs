//! Recurrent layers: `rnn`, `gru` and `lstm`, over `x [S, B, I]`.
//!
//! The states stay in f32 between steps; only the results of the operation are rounded.
//!
//! Where coremltools' documentation is ambiguous, the comparisons with Core ML in its test suite
//! (`mil/ops/tests/*/test_recurrent.py`) decide:
//!
//! - `gru` multiplies the hidden state with the reset gate before the product with `W_ho`, unless
//!   `reset_after` is set;
//! - `lstm` clips the cell state, after the input and forget gates and before the output gate reads it;
//! - with direction `reverse`, the results are in the order in which the steps run, so the result for the
//!   last element of the sequence is first; with `bidirectional`, both halves are in the order of the
//!   sequence.

use super::activation::sigmoid;
use super::linear::dot;
use super::{Call, Kernel, Lowered, Node, Outcome, position};

pub(super) fn lower(node: &Node<'_>) -> Result<Option<Lowered>, String> {
    let cell = match node.op {
        "rnn" => Cell::Rnn { activation: activation(node, "activation", "tanh")? },
        "gru" => Cell::Gru {
            gate: activation(node, "recurrent_activation", "sigmoid")?,
            activation: activation(node, "activation", "tanh")?,
            reset_after: node.args.bool_or("reset_after", false)?,
        },
        "lstm" => Cell::Lstm {
            gate: activation(node, "recurrent_activation", "sigmoid")?,
            cell: activation(node, "cell_activation", "tanh")?,
            activation: activation(node, "activation", "tanh")?,
            clip: node.args.float_or("clip", f32::INFINITY)?,
        },
        _ => return Ok(None),
    };
    let (x, hidden) = (node.shape("x")?, node.shape("weight_hh")?.dims()[1]);
    let &[steps, batch, width] = x.dims() else { return Err(format!("{} of {x}", node.op)) };
    let direction = node.args.string("direction")?.unwrap_or("forward");
    let own = |names: [&str; 4]| -> Result<Weights, String> {
        let required =
            |name| position(node, OPERANDS, name).ok_or_else(|| format!("{} without {name}", node.op));
        Ok(Weights {
            input: required(names[0])?,
            hidden: required(names[1])?,
            bias: position(node, OPERANDS, names[2]),
            peephole: position(node, OPERANDS, names[3]),
        })
    };
    let mut directions = vec![(own(["weight_ih", "weight_hh", "bias", "peephole"])?, direction == "reverse")];
    if direction == "bidirectional" {
        let names = ["weight_ih_back", "weight_hh_back", "bias_back", "peephole_back"];
        directions.push((own(names)?, true));
    }
    let gates = cell.gates();
    let layer = Layer {
        cell,
        steps,
        batch,
        width,
        hidden,
        directions,
        initial_c: position(node, OPERANDS, "initial_c"),
        input_bias: position(node, OPERANDS, "input_bias"),
        whole: node.args.bool_or("output_sequence", false)?,
    };
    let rows = gates * hidden;
    let sums = 2 * batch * rows + 3 * batch * hidden;
    let lowered = Lowered::batched(OPERANDS, layer).packed(WEIGHTS);
    Ok(Some(lowered.scratch(rows * (width + hidden) + sums)))
}

const OPERANDS: &[&str] = &[
    "x",
    "initial_h",
    "initial_c",
    "weight_ih",
    "weight_hh",
    "bias",
    "input_bias",
    "peephole",
    "weight_ih_back",
    "weight_hh_back",
    "bias_back",
    "peephole_back",
];

const WEIGHTS: &[&str] = &["weight_ih", "weight_hh", "weight_ih_back", "weight_hh_back"];

/// An elementwise function. Functions whose operations have parameters use the defaults here.
#[derive(Clone, Copy)]
enum Activation {
    Tanh,
    Sigmoid,
    HardSigmoid,
    Relu,
    Linear,
}

fn activation(node: &Node<'_>, name: &str, default: &str) -> Result<Activation, String> {
    let named = node.args.string(name)?.unwrap_or(default).to_ascii_lowercase();
    Ok(match named.as_str() {
        // `scaled_tanh` is alpha tanh(beta x); both default to 1.
        "tanh" | "scaled_tanh" => Activation::Tanh,
        "sigmoid" => Activation::Sigmoid,
        "hard_sigmoid" | "sigmoid_hard" => Activation::HardSigmoid,
        "relu" => Activation::Relu,
        "linear" => Activation::Linear,
        other => return Err(format!("{} of activation {other}", node.op)),
    })
}

impl Activation {
    fn of(self, x: f32) -> f32 {
        match self {
            Self::Tanh => x.tanh(),
            Self::Sigmoid => sigmoid(x),
            Self::HardSigmoid => (0.2 * x + 0.5).clamp(0.0, 1.0),
            Self::Relu if x < 0.0 => 0.0,
            Self::Relu | Self::Linear => x,
        }
    }
}

enum Cell {
    Rnn { activation: Activation },
    Gru { gate: Activation, activation: Activation, reset_after: bool },
    Lstm { gate: Activation, cell: Activation, activation: Activation, clip: f32 },
}

impl Cell {
    /// Returns the number of gates, each of which has its group of rows in the weights.
    fn gates(&self) -> usize {
        match self {
            Self::Rnn { .. } => 1,
            Self::Gru { .. } => 3,
            Self::Lstm { .. } => 4,
        }
    }
}

/// The indices of the operands of one direction.
struct Weights {
    input: usize,
    hidden: usize,
    bias: Option<usize>,
    peephole: Option<usize>,
}

struct Layer {
    cell: Cell,
    steps: usize,
    batch: usize,
    width: usize,
    hidden: usize,
    /// The directions, and whether each runs from the last step to the first.
    directions: Vec<(Weights, bool)>,
    initial_c: Option<usize>,
    input_bias: Option<usize>,
    /// Whether the result holds every step.
    whole: bool,
}

/// The unpacked weights of one direction.
#[derive(Clone, Copy)]
struct Matrices<'a> {
    input: &'a [f32],
    hidden: &'a [f32],
    bias: Option<&'a [f32]>,
    input_bias: Option<&'a [f32]>,
    peephole: Option<&'a [f32]>,
}

/// The states and intermediate values of a step, for all sequences of the batch.
struct Numbers<'a> {
    /// `[B, gates H]`: products with the input.
    from_input: &'a mut [f32],
    /// `[B, gates H]`: products with the hidden state.
    from_hidden: &'a mut [f32],
    /// `[B, H]`: the hidden state.
    h: &'a mut [f32],
    /// `[B, H]`: the cell state of an LSTM.
    c: &'a mut [f32],
    /// `[B, H]`: for a GRU, the hidden state times the reset gate, or only the gate if `reset_after` is set.
    kept: &'a mut [f32],
}

impl Kernel for Layer {
    fn run(&self, call: &mut Call<'_, '_>) -> Outcome {
        let scratch = std::mem::take(&mut call.scratch);
        for (number, (weights, backward)) in self.directions.iter().enumerate() {
            self.direction(call, scratch, number, weights, *backward);
        }
        Ok(())
    }
}

impl Layer {
    /// Returns the number of rows of the weights.
    fn rows(&self) -> usize {
        self.cell.gates() * self.hidden
    }

    fn direction(
        &self,
        call: &mut Call<'_, '_>,
        scratch: &mut [f32],
        number: usize,
        weights: &Weights,
        backward: bool,
    ) {
        let Self { steps, batch, width, hidden, .. } = *self;
        let rows = self.rows();
        let (input, scratch) = scratch.split_at_mut(rows * width);
        let (recurrent, scratch) = scratch.split_at_mut(rows * hidden);
        let (from_input, scratch) = scratch.split_at_mut(batch * rows);
        let (from_hidden, scratch) = scratch.split_at_mut(batch * rows);
        let (h, scratch) = scratch.split_at_mut(batch * hidden);
        let (c, kept) = scratch.split_at_mut(batch * hidden);
        let operands = call.operands;
        let matrices = Matrices {
            // Read in place, or unpacked into scratch memory.
            input: operands[weights.input].read(0, rows * width, input),
            hidden: operands[weights.hidden].read(0, rows * hidden, recurrent),
            bias: call.maybe(weights.bias),
            input_bias: call.maybe(self.input_bias),
            peephole: call.maybe(weights.peephole),
        };
        let directions = self.directions.len();
        let (x, initial_h) = (call.f32(0), call.f32(1));
        // The part of `[B, directions H]` that belongs to this direction.
        let own = |b: usize| (b * directions + number) * hidden..(b * directions + number + 1) * hidden;
        for b in 0..batch {
            h[b * hidden..(b + 1) * hidden].copy_from_slice(&initial_h[own(b)]);
            if let Some(initial_c) = call.maybe(self.initial_c) {
                c[b * hidden..(b + 1) * hidden].copy_from_slice(&initial_c[own(b)]);
            }
        }
        let kept = &mut kept[..batch * hidden];
        let mut numbers = Numbers { from_input, from_hidden, h, c, kept };
        let layer = batch * directions * hidden;
        for step in 0..steps {
            let at = if backward { steps - 1 - step } else { step };
            let x = &x[at * batch * width..(at + 1) * batch * width];
            self.step(x, matrices, &mut numbers);
            let into = match (self.whole, directions) {
                (true, 2) => at,
                (true, _) => step,
                (false, _) if step + 1 == steps => 0,
                (false, _) => continue,
            };
            let out: &mut [f32] = bytemuck::cast_slice_mut(&mut *call.results[0]);
            for b in 0..batch {
                out[into * layer..][own(b)].copy_from_slice(&numbers.h[b * hidden..(b + 1) * hidden]);
            }
        }
        for (result, state) in call.results[1..].iter_mut().zip([&*numbers.h, &*numbers.c]) {
            let out: &mut [f32] = bytemuck::cast_slice_mut(result);
            for b in 0..batch {
                out[own(b)].copy_from_slice(&state[b * hidden..(b + 1) * hidden]);
            }
        }
    }

    fn step(&self, x: &[f32], weights: Matrices<'_>, numbers: &mut Numbers<'_>) {
        let rows = self.rows();
        multiply(weights.input, x, self.width, numbers.from_input, 0..rows, rows);
        add(numbers.from_input, weights.input_bias);
        // With `reset_after`, the reset gate applies to the product with the hidden state plus its bias, so
        // the bias is added later.
        if !matches!(self.cell, Cell::Gru { reset_after: true, .. }) {
            add(numbers.from_input, weights.bias);
        }
        match self.cell {
            Cell::Rnn { activation } => {
                let Numbers { from_input, from_hidden, h, .. } = numbers;
                multiply(weights.hidden, h, self.hidden, from_hidden, 0..rows, rows);
                let sums = from_input.iter().zip(from_hidden.iter());
                h.iter_mut().zip(sums).for_each(|(h, (x, r))| *h = activation.of(x + r));
            }
            Cell::Gru { gate, activation, reset_after } => {
                self.gru_step(weights, numbers, [gate, activation], reset_after);
            }
            Cell::Lstm { gate, cell, activation, clip } => {
                self.lstm_step(weights, numbers, [gate, cell, activation], clip);
            }
        }
    }

    fn gru_step(
        &self,
        weights: Matrices<'_>,
        numbers: &mut Numbers<'_>,
        [gate, activation]: [Activation; 2],
        reset_after: bool,
    ) {
        let Numbers { from_input, from_hidden, h, kept, .. } = numbers;
        let (hidden, rows) = (self.hidden, self.rows());
        let output = hidden..2 * hidden;
        multiply(weights.hidden, h, hidden, from_hidden, 0..hidden, rows);
        multiply(weights.hidden, h, hidden, from_hidden, 2 * hidden..rows, rows);
        if reset_after {
            multiply(weights.hidden, h, hidden, from_hidden, output.clone(), rows);
            add(from_hidden, weights.bias);
        }
        for (i, kept) in kept.iter_mut().enumerate() {
            let at = i / hidden * rows + i % hidden;
            let reset = gate.of(from_input[at] + from_hidden[at]);
            *kept = if reset_after { reset } else { reset * h[i] };
        }
        if !reset_after {
            multiply(weights.hidden, kept, hidden, from_hidden, output, rows);
        }
        for (i, h) in h.iter_mut().enumerate() {
            let at = i / hidden * rows + i % hidden;
            let (output, update) = (at + hidden, at + 2 * hidden);
            let update = gate.of(from_input[update] + from_hidden[update]);
            let recurrent = if reset_after { kept[i] * from_hidden[output] } else { from_hidden[output] };
            let new = activation.of(from_input[output] + recurrent);
            *h = (1.0 - update) * new + update * *h;
        }
    }

    fn lstm_step(
        &self,
        weights: Matrices<'_>,
        numbers: &mut Numbers<'_>,
        [gate, cell, activation]: [Activation; 3],
        clip: f32,
    ) {
        let Numbers { from_input, from_hidden, h, c, .. } = numbers;
        let (hidden, rows) = (self.hidden, self.rows());
        multiply(weights.hidden, h, hidden, from_hidden, 0..rows, rows);
        let peephole = |gate: usize, j: usize| weights.peephole.map_or(0.0, |p| p[gate * hidden + j]);
        for (i, (h, c)) in h.iter_mut().zip(c.iter_mut()).enumerate() {
            let (b, j) = (i / hidden, i % hidden);
            let sum = |gate: usize| {
                let at = b * rows + gate * hidden + j;
                from_input[at] + from_hidden[at]
            };
            let input = gate.of(sum(0) + peephole(0, j) * *c);
            let forget = gate.of(sum(1) + peephole(1, j) * *c);
            let new = forget * *c + input * cell.of(sum(3));
            // Written so that a NaN is kept.
            *c = if new > clip {
                clip
            } else if new < -clip {
                -clip
            } else {
                new
            };
            let output = gate.of(sum(2) + peephole(2, j) * *c);
            *h = output * activation.of(*c);
        }
    }
}

/// Multiplies some rows of a matrix with each vector of `x`, and writes the products to the same positions of
/// `out`, which has `all` elements for each vector.
fn multiply(
    matrix: &[f32],
    x: &[f32],
    width: usize,
    out: &mut [f32],
    rows: std::ops::Range<usize>,
    all: usize,
) {
    for row in rows {
        let weights = &matrix[row * width..(row + 1) * width];
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(all)) {
            out[row] = dot(weights, x);
        }
    }
}

/// Adds a bias, if there is one, to each group of sums of its length.
fn add(sums: &mut [f32], bias: Option<&[f32]>) {
    if let Some(bias) = bias {
        sums.iter_mut().zip(bias.iter().cycle()).for_each(|(sum, b)| *sum += b);
    }
}
