//! Operations that reorder the elements of a tensor. Operations that only change its axes have no kernel: see
//! [`is_view`](super::super::resolve).

use super::strided::{Strided, strides};
use super::{Lowered, Node};

pub(super) fn lower(node: &Node<'_>) -> Result<Option<Lowered>, String> {
    Ok(Some(match node.op {
        "transpose" => {
            let x = node.shape("x")?;
            let own = strides(x.dims());
            let perm = node.args.ints("perm")?.unwrap_or_default();
            let along: Option<Vec<isize>> = perm.iter().map(|&p| x.axis(p).map(|axis| own[axis])).collect();
            let along = along.ok_or("transpose along no axis")?;
            read(Strided::new(node.result().dims(), [&along], [0]))
        }
        "reverse" => {
            let x = node.shape("x")?;
            let axes = node.args.axes("axes", node.args.dims("x")?)?;
            let mut along = strides(x.dims());
            let mut start = 0;
            for axis in axes {
                start += (x.dims()[axis] - 1) * along[axis] as usize;
                along[axis] = -along[axis];
            }
            read(Strided::new(x.dims(), [&along], [start]))
        }
        "reverse_sequence" => reverse_sequence(node)?,
        // The channel of an element is block row, block column, channel of the result: TensorFlow's order.
        "depth_to_space" => spread(node, "block_size", true)?,
        "space_to_depth" => gather_blocks(node, "block_size", true)?,
        // Channel of the result, block row, block column: PyTorch's order.
        "pixel_shuffle" => spread(node, "upscale_factor", false)?,
        "pixel_unshuffle" => gather_blocks(node, "downscale_factor", false)?,
        "space_to_batch" => space_to_batch(node)?,
        "batch_to_space" => batch_to_space(node)?,
        _ => return Ok(None),
    }))
}

/// Creates a kernel that reads `x` in the order of a walk.
pub(super) fn read(walk: Strided<1>) -> Lowered {
    Lowered::new(&["x"], move |call| {
        let x = call.words(0);
        walk.read(x, call.out());
    })
}

/// Moves channels into blocks of space, `[N, C b^2, H, W]` → `[N, C, H b, W b]`, for `depth_to_space` and
/// `pixel_shuffle`.
fn spread(node: &Node<'_>, block: &str, blocks_first: bool) -> Result<Lowered, String> {
    let (x, b) = (node.shape("x")?, node.args.extent(block)?.unwrap_or(1));
    let [n, c, h, w] = [0, 1, 2, 3].map(|i| x.dims()[i]);
    let channels = c / (b * b);
    let own = strides(x.dims());
    let plane = own[1];
    let (channel, row, column) = if blocks_first {
        (plane, plane * (b * channels) as isize, plane * channels as isize)
    } else {
        (plane * (b * b) as isize, plane * b as isize, plane)
    };
    let along = [own[0], channel, own[2], row, own[3], column];
    Ok(read(Strided::new(&[n, channels, h, b, w, b], [&along], [0])))
}

/// Moves blocks of space into channels, `[N, C, H, W]` → `[N, C b^2, H / b, W / b]`, for `space_to_depth` and
/// `pixel_unshuffle`.
fn gather_blocks(node: &Node<'_>, block: &str, blocks_first: bool) -> Result<Lowered, String> {
    let (x, b) = (node.shape("x")?, node.args.extent(block)?.unwrap_or(1));
    let [n, c, h, w] = [0, 1, 2, 3].map(|i| x.dims()[i]);
    let own = strides(x.dims());
    let (height, width, step) = (h / b, w / b, b as isize);
    Ok(read(if blocks_first {
        let along = [own[0], own[2], own[3], own[1], own[2] * step, own[3] * step];
        Strided::new(&[n, b, b, c, height, width], [&along], [0])
    } else {
        let along = [own[0], own[1], own[2], own[3], own[2] * step, own[3] * step];
        Strided::new(&[n, c, b, b, height, width], [&along], [0])
    }))
}

/// Returns the two sizes of the blocks, and the two pairs of the borders.
fn blocks(node: &Node<'_>, borders: &str) -> Result<([usize; 2], [usize; 4]), String> {
    let block = node.args.extents("block_shape", 2, 1, 1)?;
    let border = node.args.pairs(borders, 2)?;
    Ok(([block[0], block[1]], [border[0], border[1], border[2], border[3]]))
}

/// Lowers `space_to_batch`. The batch of the result is block row, block column, batch of `x`: TensorFlow's
/// order.
fn space_to_batch(node: &Node<'_>) -> Result<Lowered, String> {
    let (x, out) = (node.shape("x")?, node.result());
    let (block, pad) = blocks(node, "paddings")?;
    let [n, c, h, w] = [0, 1, 2, 3].map(|i| x.dims()[i]);
    let [height, width] = [out.dims()[2], out.dims()[3]];
    Ok(Lowered::new(&["x"], move |call| {
        let x = call.words(0);
        for (i, out) in call.out().iter_mut().enumerate() {
            let (column, row) = (i % width, i / width % height);
            let (channel, batch) = (i / (width * height) % c, i / (width * height * c));
            let (image, corner) = (batch % n, batch / n);
            let y = (row * block[0] + corner / block[1]).checked_sub(pad[0]).filter(|y| *y < h);
            let z = (column * block[1] + corner % block[1]).checked_sub(pad[2]).filter(|z| *z < w);
            *out = y.zip(z).map_or(0, |(y, z)| x[((image * c + channel) * h + y) * w + z]);
        }
    }))
}

fn batch_to_space(node: &Node<'_>) -> Result<Lowered, String> {
    let (x, out) = (node.shape("x")?, node.result());
    let (block, crop) = blocks(node, "crops")?;
    let [c, h, w] = [1, 2, 3].map(|i| x.dims()[i]);
    let [n, height, width] = [0, 2, 3].map(|i| out.dims()[i]);
    Ok(Lowered::new(&["x"], move |call| {
        let x = call.words(0);
        for (i, out) in call.out().iter_mut().enumerate() {
            let (column, row) = (i % width + crop[2], i / width % height + crop[0]);
            let (channel, image) = (i / (width * height) % c, i / (width * height * c));
            let corner = row % block[0] * block[1] + column % block[1];
            let batch = corner * n + image;
            *out = x[((batch * c + channel) * h + row / block[0]) * w + column / block[1]];
        }
    }))
}

/// Lowers `reverse_sequence`: in each batch, reverses the first `lengths` elements along the axis.
fn reverse_sequence(node: &Node<'_>) -> Result<Lowered, String> {
    let x = node.shape("x")?;
    let (seq, batch) = (node.axis("seq_axis", &x, 0)?, node.axis("batch_axis", &x, 0)?);
    let own = strides(x.dims());
    let (seq_extent, seq_step) = (x.dims()[seq], own[seq] as usize);
    let (batch_extent, batch_step) = (x.dims()[batch], own[batch] as usize);
    Ok(Lowered::fallible(&["x", "lengths"], move |call| {
        let (x, lengths) = (call.words(0), call.i32(1));
        if let Some(bad) = lengths.iter().find(|n| !usize::try_from(**n).is_ok_and(|n| n <= seq_extent)) {
            return Err(format!("lengths has {bad}, the axis has {seq_extent}"));
        }
        if lengths.len() != batch_extent {
            return Err(format!("lengths has {} elements, the batch {batch_extent}", lengths.len()));
        }
        for (i, out) in call.out().iter_mut().enumerate() {
            let (at, length) = (i / seq_step % seq_extent, lengths[i / batch_step % batch_extent] as usize);
            *out = if at < length { x[i - at * seq_step + (length - 1 - at) * seq_step] } else { x[i] };
        }
        Ok(())
    }))
}
