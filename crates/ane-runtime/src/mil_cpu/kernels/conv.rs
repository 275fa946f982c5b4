//! Convolutions over one to three spatial axes.

use super::linear::MatrixTimesVector;
use super::{Call, Kernel, Lowered, Node, Outcome, position};

pub(super) fn lower(node: &Node<'_>) -> Result<Option<Lowered>, String> {
    const OPERANDS: &[&str] = &["x", "weight", "bias"];
    let bias = position(node, OPERANDS, "bias");
    match node.op {
        "conv" => {
            let (x, w) = (node.shape("x")?, node.shape("weight")?);
            let window = Window::of(node, &w.dims()[2..])?;
            let groups = node.args.int("groups")?.unwrap_or(1) as usize;
            let (batch, d_out, d_in) = (x.dims()[0], w.dims()[0], w.dims()[1]);
            let pointwise = window.is_pointwise();
            // A single output position that reads one element of each channel: a product with a vector.
            if pointwise && groups == 1 && window.places() == 1 {
                let rows = MatrixTimesVector { d_out, d_in, bias };
                return Ok(Some(Lowered::batched(OPERANDS, rows).packed(&["weight"]).scratch(d_in)));
            }
            let conv = Conv { batch, d_out, d_in, groups, window, bias };
            let row = conv.row();
            Ok(Some(Lowered::batched(OPERANDS, conv).packed(&["weight"]).scratch(row)))
        }
        "conv_transpose" => {
            let (x, w) = (node.shape("x")?, node.shape("weight")?);
            let groups = node.args.int("groups")?.unwrap_or(1) as usize;
            let window = Window::transposed(node, &w.dims()[2..])?;
            let transposed = Transposed {
                batch: x.dims()[0],
                d_in: w.dims()[0],
                d_out: w.dims()[1],
                groups,
                window,
                bias,
            };
            let row = transposed.row();
            Ok(Some(Lowered::batched(OPERANDS, transposed).packed(&["weight"]).scratch(row)))
        }
        _ => Ok(None),
    }
}

/// A window that moves over three spatial axes. If there are fewer, the first axes have size 1.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) input: [usize; 3],
    pub(super) output: [usize; 3],
    pub(super) kernel: [usize; 3],
    pub(super) stride: [usize; 3],
    pub(super) dilation: [usize; 3],
    /// Padding before the first element of each axis. The padding after the last one follows from the output.
    pub(super) before: [usize; 3],
}

/// Extends `values` to three elements, with `first` before them.
fn three(values: &[usize], first: usize) -> [usize; 3] {
    let missing = 3 - values.len();
    std::array::from_fn(|i| if i < missing { first } else { values[i - missing] })
}

impl Window {
    /// Creates the window of a convolution or pooling of `x [N, C, *spatial]`.
    pub(super) fn of(node: &Node<'_>, kernel: &[usize]) -> Result<Self, String> {
        Self::padded(node, kernel, |input, output, stride, reach| {
            ((output - 1) * stride + reach).saturating_sub(input)
        })
    }

    /// Creates the window of a transposed convolution. Its `before` is what is cropped from the start of the
    /// full result.
    fn transposed(node: &Node<'_>, kernel: &[usize]) -> Result<Self, String> {
        Self::padded(node, kernel, |input, output, stride, reach| {
            ((input - 1) * stride + reach).saturating_sub(output)
        })
    }

    /// Creates a window. If `pad_type` asks for `same`, the function `same` returns the total padding of an
    /// axis, from its input and output, its stride and the reach of the kernel.
    fn padded(
        node: &Node<'_>,
        kernel: &[usize],
        same: impl Fn(usize, usize, usize, usize) -> usize,
    ) -> Result<Self, String> {
        let (x, out) = (node.shape("x")?, node.result());
        let (input, output) = (&x.dims()[2..], &out.dims()[2..]);
        let spatial = input.len();
        let stride = node.args.extents("strides", spatial, 1, 1)?;
        // Pooling has no dilations.
        let dilation = match node.args.get("dilations") {
            Some(_) => node.args.extents("dilations", spatial, 1, 1)?,
            None => vec![1; spatial],
        };
        let before: Vec<usize> = match node.args.string("pad_type")?.unwrap_or("valid") {
            "valid" => vec![0; spatial],
            "custom" => node.args.extents("pad", 2 * spatial, 0, 0)?.iter().step_by(2).copied().collect(),
            kind => (0..spatial)
                .map(|i| {
                    let reach = (kernel[i] - 1) * dilation[i] + 1;
                    let total = same(input[i], output[i], stride[i], reach);
                    if kind == "same_lower" { total.div_ceil(2) } else { total / 2 }
                })
                .collect(),
        };
        Ok(Self {
            input: three(input, 1),
            output: three(output, 1),
            kernel: three(kernel, 1),
            stride: three(&stride, 1),
            dilation: three(&dilation, 1),
            before: three(&before, 0),
        })
    }

    pub(super) fn places(&self) -> usize {
        self.output.iter().product()
    }

    pub(super) fn inputs(&self) -> usize {
        self.input.iter().product()
    }

    fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Returns whether every output position reads exactly one element of each channel, the one at the same
    /// position.
    fn is_pointwise(&self) -> bool {
        self.taps() == 1 && self.stride == [1; 3] && self.before == [0; 3] && self.input == self.output
    }

    /// Returns the element of `axis` that tap `tap` reads at output position `place`; `None` in the padding.
    pub(super) fn on(&self, axis: usize, place: usize, tap: usize) -> Option<usize> {
        let at = place * self.stride[axis] + tap * self.dilation[axis];
        at.checked_sub(self.before[axis]).filter(|at| *at < self.input[axis])
    }

    /// Returns the taps that read elements of `axis`, not padding, at output position `place`.
    pub(super) fn taps_on(&self, axis: usize, place: usize) -> std::ops::Range<usize> {
        let (begin, dilation) = (place * self.stride[axis], self.dilation[axis]);
        let end = (self.input[axis] + self.before[axis]).saturating_sub(begin).div_ceil(dilation);
        let first = self.before[axis].saturating_sub(begin).div_ceil(dilation);
        first..end.min(self.kernel[axis])
    }

    /// Returns the output positions on the last axis at which tap `tap` reads an element, and the element
    /// that it reads at the first of them.
    fn along(&self, tap: usize) -> (std::ops::Range<usize>, usize) {
        let (stride, offset, before) = (self.stride[2], tap * self.dilation[2], self.before[2]);
        let end = (self.input[2] + before).saturating_sub(offset).div_ceil(stride).min(self.output[2]);
        // For a tap that reads only padding, the first position would be after the last one.
        let first = before.saturating_sub(offset).div_ceil(stride).min(end);
        (first..end, (first * stride + offset).saturating_sub(before))
    }
}

struct Conv {
    batch: usize,
    d_out: usize,
    /// Number of input channels of a group.
    d_in: usize,
    groups: usize,
    window: Window,
    bias: Option<usize>,
}

impl Conv {
    /// Returns the number of weights of one output channel.
    fn row(&self) -> usize {
        self.d_in * self.window.taps()
    }

    /// Computes one output channel of one image.
    fn channel(&self, x: &[f32], weights: &[f32], bias: f32, out: &mut [f32]) {
        let Window { input, output, kernel, stride, .. } = self.window;
        out.fill(bias);
        if self.window.is_pointwise() {
            assert_eq!(x.len(), weights.len() * out.len(), "a plane of x for each weight");
            for (weight, x) in weights.iter().zip(x.chunks_exact(out.len())) {
                out.iter_mut().zip(x).for_each(|(out, x)| *out += weight * x);
            }
            return;
        }
        for (ci, weights) in weights.chunks_exact(self.window.taps()).enumerate() {
            let x = &x[ci * self.window.inputs()..][..self.window.inputs()];
            for (tap, &weight) in weights.iter().enumerate() {
                let [tz, ty, tx] =
                    [tap / (kernel[1] * kernel[2]), tap / kernel[2] % kernel[1], tap % kernel[2]];
                let (places, first) = self.window.along(tx);
                for z in 0..output[0] {
                    let Some(iz) = self.window.on(0, z, tz) else { continue };
                    for y in 0..output[1] {
                        let Some(iy) = self.window.on(1, y, ty) else { continue };
                        let row = &mut out[(z * output[1] + y) * output[2]..][..output[2]][places.clone()];
                        let x = &x[(iz * input[1] + iy) * input[2]..][..input[2]];
                        for (i, out) in row.iter_mut().enumerate() {
                            *out += weight * x[first + i * stride[2]];
                        }
                    }
                }
            }
        }
    }
}

impl Kernel for Conv {
    fn run(&self, call: &mut Call<'_, '_>) -> Outcome {
        self.run_batch(std::slice::from_mut(call))
    }

    fn run_batch(&self, calls: &mut [Call<'_, '_>]) -> Outcome {
        // A computed weight differs between sequences.
        if !Call::share(calls, 1) {
            return calls.iter_mut().try_for_each(|call| self.run(call));
        }
        let Some((first, _)) = calls.split_first_mut() else { return Ok(()) };
        let weight = first.operands[1];
        let scratch = std::mem::take(&mut first.scratch);
        let (row, places, inputs) = (self.row(), self.window.places(), self.window.inputs());
        let per_group = self.d_out / self.groups;
        for co in 0..self.d_out {
            let weights = weight.read(co * row, row, scratch);
            for call in &mut *calls {
                let (x, bias) = (call.f32(0), call.maybe(self.bias).map_or(0.0, |b| b[co]));
                let out = call.out_f32();
                assert_eq!(x.len(), self.batch * self.groups * self.d_in * inputs, "elements of x");
                assert_eq!(out.len(), self.batch * self.d_out * places, "elements of the result");
                for n in 0..self.batch {
                    let channel = (n * self.groups + co / per_group) * self.d_in;
                    let x = &x[channel * inputs..][..self.d_in * inputs];
                    let out = &mut out[(n * self.d_out + co) * places..][..places];
                    self.channel(x, weights, bias, out);
                }
            }
        }
        Ok(())
    }
}

/// Transposed convolution of `x [N, Ci, ..]` with `weight [Ci, Co / groups, *kernel]`.
struct Transposed {
    batch: usize,
    d_in: usize,
    /// Number of output channels of a group.
    d_out: usize,
    groups: usize,
    window: Window,
    bias: Option<usize>,
}

impl Transposed {
    /// Returns the number of weights of one input channel.
    fn row(&self) -> usize {
        self.d_out * self.window.taps()
    }

    /// Adds the contribution of one input channel to one output channel.
    fn spread(&self, x: &[f32], weights: &[f32], out: &mut [f32]) {
        let Window { input, output, kernel, stride, dilation, before } = self.window;
        for (tap, &weight) in weights.iter().enumerate() {
            let taps = [tap / (kernel[1] * kernel[2]), tap / kernel[2] % kernel[1], tap % kernel[2]];
            let to = |axis: usize, i: usize| {
                let at = i * stride[axis] + taps[axis] * dilation[axis];
                at.checked_sub(before[axis]).filter(|at| *at < output[axis])
            };
            for z in 0..input[0] {
                let Some(oz) = to(0, z) else { continue };
                for y in 0..input[1] {
                    let Some(oy) = to(1, y) else { continue };
                    let out = &mut out[(oz * output[1] + oy) * output[2]..][..output[2]];
                    for (i, x) in x[(z * input[1] + y) * input[2]..][..input[2]].iter().enumerate() {
                        if let Some(ox) = to(2, i) {
                            out[ox] += weight * x;
                        }
                    }
                }
            }
        }
    }
}

impl Kernel for Transposed {
    fn run(&self, call: &mut Call<'_, '_>) -> Outcome {
        let (x, weight, bias) = (call.f32(0), call.operands[1], call.maybe(self.bias));
        let scratch = std::mem::take(&mut call.scratch);
        let out = call.out_f32();
        let (places, inputs, taps) = (self.window.places(), self.window.inputs(), self.window.taps());
        let channels = self.d_out * self.groups;
        assert_eq!(x.len() * channels * places, out.len() * self.d_in * inputs, "as many images as results");
        assert!(out.len().is_multiple_of(channels * places) && self.d_in.is_multiple_of(self.groups));
        for (i, out) in out.chunks_exact_mut(places).enumerate() {
            out.fill(bias.map_or(0.0, |b| b[i % channels]));
        }
        for ci in 0..self.d_in {
            let group = ci / (self.d_in / self.groups);
            let weights = weight.read(ci * self.row(), self.row(), scratch);
            for n in 0..self.batch {
                let x = &x[(n * self.d_in + ci) * inputs..][..inputs];
                for (co, weights) in weights.chunks_exact(taps).enumerate() {
                    let at = n * channels + group * self.d_out + co;
                    self.spread(x, weights, &mut out[at * places..][..places]);
                }
            }
        }
        Ok(())
    }
}
