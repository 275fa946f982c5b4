//! Convolutions and products as sums in f64, written from MIL's definitions, independently of the engine.
#![allow(dead_code)]

/// Random multiples of 1/4 between -1 and 1; a seed produces the same values on every machine.
pub(crate) struct Quarters(u64);

impl Quarters {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(1))
    }

    pub(crate) fn take(&mut self, len: usize) -> Vec<f64> {
        let mut next = || {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            f64::from((self.0 >> 40) as u32 % 9) / 4.0 - 1.0
        };
        (0..len).map(|_| next()).collect()
    }
}

/// Padding around the spatial axes, or cropping of the result of a transposed convolution.
#[derive(Clone, Debug)]
pub(crate) enum Pad {
    Valid,
    Same,
    SameLower,
    Custom(Vec<usize>),
}

impl Pad {
    pub(crate) fn of(name: &str, custom: Vec<usize>) -> Self {
        match name {
            "valid" => Self::Valid,
            "same" => Self::Same,
            "same_lower" => Self::SameLower,
            _ => Self::Custom(custom),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Same => "same",
            Self::SameLower => "same_lower",
            Self::Custom(_) => "custom",
        }
    }
}

/// A convolution or transposed convolution over one to three spatial axes.
#[derive(Clone, Debug)]
pub(crate) struct Convolution {
    pub(crate) batch: usize,
    pub(crate) groups: usize,
    /// Channels per group.
    pub(crate) d_in: usize,
    pub(crate) d_out: usize,
    pub(crate) input: Vec<usize>,
    pub(crate) kernel: Vec<usize>,
    pub(crate) strides: Vec<usize>,
    pub(crate) dilations: Vec<usize>,
    pub(crate) pad: Pad,
    pub(crate) bias: bool,
    pub(crate) transposed: bool,
}

impl Convolution {
    pub(crate) fn channels_out(&self) -> usize {
        self.groups * self.d_out
    }

    pub(crate) fn x_dims(&self) -> Vec<usize> {
        [&[self.batch, self.groups * self.d_in], self.input.as_slice()].concat()
    }

    pub(crate) fn w_dims(&self) -> Vec<usize> {
        let channels = match self.transposed {
            true => [self.groups * self.d_in, self.d_out],
            false => [self.channels_out(), self.d_in],
        };
        [&channels, self.kernel.as_slice()].concat()
    }

    /// Returns the size of the dilated kernel on an axis.
    fn reach(&self, axis: usize) -> usize {
        (self.kernel[axis] - 1) * self.dilations[axis] + 1
    }

    /// Returns the number of output positions on an axis, and the padding or cropping before the first.
    fn places(&self, axis: usize) -> (usize, usize) {
        let (n, stride, reach) = (self.input[axis], self.strides[axis], self.reach(axis));
        let full = (n - 1) * stride + reach;
        let places = match (&self.pad, self.transposed) {
            (Pad::Valid, false) => (n - reach) / stride + 1,
            (Pad::Custom(pad), false) => (n + pad[2 * axis] + pad[2 * axis + 1] - reach) / stride + 1,
            (Pad::Same | Pad::SameLower, false) => n.div_ceil(stride),
            (Pad::Valid, true) => full,
            (Pad::Custom(pad), true) => full - pad[2 * axis] - pad[2 * axis + 1],
            (Pad::Same | Pad::SameLower, true) => n * stride,
        };
        let total = match self.transposed {
            false => ((places - 1) * stride + reach).saturating_sub(n),
            true => full.saturating_sub(places),
        };
        let before = match &self.pad {
            Pad::Valid => 0,
            Pad::Custom(pad) => pad[2 * axis],
            Pad::Same => total / 2,
            Pad::SameLower => total - total / 2,
        };
        (places, before)
    }

    /// Shrinks the kernel, or the padding of a transposed convolution, until every axis has an output
    /// position.
    pub(crate) fn make_it_fit(&mut self) {
        for axis in 0..self.input.len() {
            let reach = self.reach(axis);
            let (n, stride) = (self.input[axis], self.strides[axis]);
            match (&mut self.pad, self.transposed) {
                (Pad::Valid, false) if reach > n => self.kernel[axis] = 1,
                (Pad::Custom(pad), false) if reach > n + pad[2 * axis] + pad[2 * axis + 1] => {
                    self.kernel[axis] = 1;
                }
                (Pad::Custom(pad), true) if (n - 1) * stride + reach <= pad[2 * axis] + pad[2 * axis + 1] => {
                    (pad[2 * axis], pad[2 * axis + 1]) = (0, 0);
                }
                _ => {}
            }
        }
    }

    /// Returns shape and elements of the result.
    pub(crate) fn compute(&self, x: &[f64], w: &[f64], bias: Option<&[f64]>) -> (Vec<usize>, Vec<f64>) {
        let axes = self.input.len();
        let (places, before): (Vec<usize>, Vec<usize>) = (0..axes).map(|axis| self.places(axis)).unzip();
        let dims = [&[self.batch, self.channels_out()], places.as_slice()].concat();
        let mut out = vec![0.0; dims.iter().product()];
        for (i, out) in out.iter_mut().enumerate() {
            let at = index(i, &dims);
            let (group, within) = (at[1] / self.d_out, at[1] % self.d_out);
            *out = bias.map_or(0.0, |b| b[at[1]]);
            for tap in 0..self.kernel.iter().product() {
                let tap = index(tap, &self.kernel);
                // The element of x that this tap of the kernel reads at this output position.
                let on = |axis: usize| -> Option<usize> {
                    let (place, offset) = (at[2 + axis], tap[axis] * self.dilations[axis]);
                    let from = match self.transposed {
                        false => (place * self.strides[axis] + offset).checked_sub(before[axis])?,
                        true => {
                            let steps = (place + before[axis]).checked_sub(offset)?;
                            steps.is_multiple_of(self.strides[axis]).then(|| steps / self.strides[axis])?
                        }
                    };
                    (from < self.input[axis]).then_some(from)
                };
                let Some(from) = (0..axes).map(on).collect::<Option<Vec<_>>>() else { continue };
                for c in 0..self.d_in {
                    let channel = group * self.d_in + c;
                    let x_at = place(&[&[at[0], channel], from.as_slice()].concat(), &self.x_dims());
                    let weight = if self.transposed { [channel, within] } else { [at[1], c] };
                    let w_at = place(&[&weight, tap.as_slice()].concat(), &self.w_dims());
                    *out += x[x_at] * w[w_at];
                }
            }
        }
        (dims, out)
    }
}

/// Multiplies `weight [.., inner]` with each row of `x [.., inner]`.
pub(crate) fn linear(x: &[f64], weight: &[f64], bias: Option<&[f64]>, inner: usize) -> Vec<f64> {
    let mut out = Vec::new();
    for row in x.chunks(inner) {
        for (o, weight) in weight.chunks(inner).enumerate() {
            let sum: f64 = (0..inner).map(|k| row[k] * weight[k]).sum();
            out.push(sum + bias.map_or(0.0, |b| b[o]));
        }
    }
    out
}

/// Returns shape and elements of the product of the matrices in the last two axes; the other axes broadcast.
pub(crate) fn matmul(
    (x, x_dims): (&[f64], &[usize]),
    (y, y_dims): (&[f64], &[usize]),
    (tx, ty): (bool, bool),
) -> (Vec<usize>, Vec<f64>) {
    let outer = x_dims.len().max(y_dims.len()) - 2;
    let aligned = |dims: &[usize]| [vec![1; outer + 2 - dims.len()], dims.to_vec()].concat();
    let (x_dims, y_dims) = (aligned(x_dims), aligned(y_dims));
    let mut dims: Vec<usize> = (0..outer).map(|axis| x_dims[axis].max(y_dims[axis])).collect();
    dims.extend([x_dims[outer + usize::from(tx)], y_dims[outer + 1 - usize::from(ty)]]);
    let inner = x_dims[outer + 1 - usize::from(tx)];
    let mut out = vec![0.0; dims.iter().product()];
    for (i, out) in out.iter_mut().enumerate() {
        let at = index(i, &dims);
        let element = |values: &[f64], dims: &[usize], row: usize, column: usize, transposed: bool| {
            let mut at: Vec<usize> = (0..outer).map(|axis| at[axis] % dims[axis]).collect();
            at.extend(if transposed { [column, row] } else { [row, column] });
            values[place(&at, dims)]
        };
        *out = (0..inner)
            .map(|k| element(x, &x_dims, at[outer], k, tx) * element(y, &y_dims, k, at[outer + 1], ty))
            .sum();
    }
    (dims, out)
}

/// Converts a row-major element number to an index on each axis.
fn index(i: usize, dims: &[usize]) -> Vec<usize> {
    let mut rest = i;
    let mut at = vec![0; dims.len()];
    for axis in (0..dims.len()).rev() {
        at[axis] = rest % dims[axis];
        rest /= dims[axis];
    }
    at
}

/// Converts an index to a row-major element number.
fn place(at: &[usize], dims: &[usize]) -> usize {
    at.iter().zip(dims).fold(0, |place, (at, extent)| place * extent + at)
}
