//! Windows that move over spatial axes, shared by convolution and pooling.

use super::args::Args;
use crate::finding::Fault;
use crate::mil::{Dim, Opset};

/// The geometry of a window on each spatial axis.
pub(super) struct Window {
    /// The window's size.
    pub(super) kernel: Vec<Dim>,
    /// Distance between output positions.
    pub(super) strides: Vec<usize>,
    /// Distance between elements of the window.
    pub(super) dilations: Vec<usize>,
    /// Whether a window that overhangs the padded input has an output position.
    pub(super) ceil_mode: bool,
}

/// Padding around the spatial axes.
pub(super) enum Padding {
    /// The padding at the beginning and the end of each axis.
    Fixed(Vec<usize>),
    /// Padding for which the result has the size of the input divided by the stride, rounded up.
    Same,
}

impl Padding {
    /// Reads `pad_type` and `pad`.
    pub(super) fn of(args: &Args<'_>, spatial: usize) -> Result<Self, Fault> {
        // `pad` must be valid even if it is not used.
        let pad = args.extents("pad", 2 * spatial, 0, 0)?;
        match args.string("pad_type")?.unwrap_or("valid") {
            "valid" => Ok(Self::Fixed(vec![0; 2 * spatial])),
            "custom" if args.get("pad").is_some() => Ok(Self::Fixed(pad)),
            "custom" => Err("pad_type custom needs argument pad".into()),
            "same" => Ok(Self::Same),
            "same_lower" if args.opset() >= Opset::CoreML6 => Ok(Self::Same),
            other => Err(Fault::value(
                "pad_type",
                format!("is {other:?}, expected valid, custom, same or same_lower"),
            )),
        }
    }
}

impl Window {
    /// Returns the number of output positions on each axis of `input`.
    pub(super) fn places(&self, input: &[Dim], padding: &Padding) -> Result<Vec<Dim>, Fault> {
        (0..input.len()).map(|axis| self.places_on(axis, input[axis], padding)).collect()
    }

    fn places_on(&self, axis: usize, input: Dim, padding: &Padding) -> Result<Dim, Fault> {
        let stride = self.strides[axis];
        let (before, behind) = match padding {
            Padding::Same => return Ok(input.map(|n| Some(n.div_ceil(stride))).unwrap_or(Dim::Unknown)),
            Padding::Fixed(pad) => (pad[2 * axis], pad[2 * axis + 1]),
        };
        let places = |size: usize, kernel: usize| -> Option<usize> {
            let reach = kernel.checked_sub(1)?.checked_mul(self.dilations[axis])?.checked_add(1)?;
            let padded = size.checked_add(before)?.checked_add(behind)?;
            if !self.ceil_mode {
                return Some(padded.checked_sub(reach)? / stride + 1);
            }
            // Rounds up, so a window that overhangs by less than a stride has an output position, even if it
            // is the first.
            let places = padded.checked_add(stride)?.checked_sub(reach)?.div_ceil(stride);
            // A window must not begin in the padding at the end.
            let outside =
                places.checked_sub(1)?.checked_mul(stride)? >= size + before && (before > 0 || behind > 0);
            Some(if outside { places - 1 } else { places })
        };
        let kernel = self.kernel[axis];
        input.zip(kernel, places).ok_or_else(|| {
            format!("a window of {kernel} does not fit into {input} on spatial axis {axis}").into()
        })
    }
}
