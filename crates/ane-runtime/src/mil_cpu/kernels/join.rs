//! Operations that join, split, repeat or pad tensors.

use mlpackage::Shape;

use super::reshape::read;
use super::strided::{Strided, strides};
use super::{Lowered, Node};

pub(super) fn lower(node: &Node<'_>) -> Result<Option<Lowered>, String> {
    Ok(Some(match node.op {
        "concat" => concat(node)?,
        "stack" => {
            let shape = node.result();
            let axis = node.axis("axis", &shape, 0)?;
            // Each value has size 1 on the new axis.
            let mut one = shape.dims().to_vec();
            one[axis] = 1;
            let count = node.args.many("values").len();
            let step = strides(shape.dims());
            joined((0..count).map(|i| Strided::new(&one, [&step], [i * step[axis] as usize])).collect())
        }
        "split" => split(node)?,
        "tile" => {
            let (x, result) = (node.shape("x")?, node.result());
            let own = strides(x.dims());
            // Before each axis, an axis of repetitions with stride 0.
            let mut dims = Vec::new();
            let mut along = Vec::new();
            for (axis, &extent) in x.dims().iter().enumerate() {
                dims.extend([result.dims()[axis] / extent, extent]);
                along.extend([0, own[axis]]);
            }
            read(Strided::new(&dims, [&along], [0]))
        }
        "pad" => pad(node)?,
        "sliding_windows" => {
            let (x, result) = (node.shape("x")?, node.result());
            let axis = node.axis("axis", &x, 0)?;
            let stride = node.args.extent("stride")?.unwrap_or(1) as isize;
            let mut along = strides(x.dims());
            let step = along[axis];
            along[axis] = step * stride;
            along.insert(axis + 1, step);
            read(Strided::new(result.dims(), [&along], [0]))
        }
        _ => return Ok(None),
    }))
}

/// Creates a kernel that writes each value to its own positions.
fn joined(places: Vec<Strided<1>>) -> Lowered {
    Lowered::new(&["values"], move |call| {
        for (i, place) in places.iter().enumerate() {
            let value = call.words(i);
            place.write(value, call.out());
        }
    })
}

fn concat(node: &Node<'_>) -> Result<Lowered, String> {
    let shape = node.result();
    let values: Option<Vec<Shape>> = node.args.many("values").iter().map(|a| a.ty.shape.known()).collect();
    let values = values.ok_or("concat of open shapes")?;
    let step = strides(shape.dims());
    // Scalars are joined into a vector.
    if values[0].rank() == 0 {
        return Ok(joined((0..values.len()).map(|i| Strided::new(&[], [&[]], [i])).collect()));
    }
    let axis = node.axis("axis", &values[0], 0)?;
    let mut places = Vec::new();
    if node.args.bool_or("interleave", false)? {
        // The first elements of all values along the axis, then the second ones.
        let mut along = step.clone();
        along[axis] *= values.len() as isize;
        for (i, value) in values.iter().enumerate() {
            places.push(Strided::new(value.dims(), [&along], [i * step[axis] as usize]));
        }
    } else {
        let mut start = 0;
        for value in &values {
            places.push(Strided::new(value.dims(), [&step], [start * step[axis] as usize]));
            start += value.dims()[axis];
        }
    }
    Ok(joined(places))
}

fn split(node: &Node<'_>) -> Result<Lowered, String> {
    let x = node.shape("x")?;
    let axis = node.axis("axis", &x, 0)?;
    let step = strides(x.dims());
    let mut start = 0;
    let mut parts = Vec::new();
    for (_, part) in &node.results {
        parts.push(Strided::new(part.dims(), [&step], [start * step[axis] as usize]));
        start += part.dims()[axis];
    }
    Ok(Lowered::new(&["x"], move |call| {
        let x = call.words(0);
        parts.iter().zip(call.results.iter_mut()).for_each(|(part, out)| part.read(x, out));
    }))
}

/// How elements outside of the tensor are defined.
#[derive(Clone, Copy)]
enum Outside {
    Constant(u32),
    /// Mirrored at the border element, which is not repeated.
    Reflect,
    /// The border element is repeated.
    Replicate,
}

fn pad(node: &Node<'_>) -> Result<Lowered, String> {
    let (x, result) = (node.shape("x")?, node.result());
    let pad = node.args.ints("pad")?.ok_or("pad without pad")?;
    let first = x.rank() - pad.len() / 2;
    let before: Vec<usize> =
        (0..x.rank()).map(|axis| if axis < first { 0 } else { pad[2 * (axis - first)] as usize }).collect();
    let outside = match node.args.string("mode")?.unwrap_or("constant") {
        "reflect" => Outside::Reflect,
        "replicate" => Outside::Replicate,
        _ => Outside::Constant(node.args.float_or("constant_val", 0.0)?.to_bits()),
    };
    if matches!(outside, Outside::Reflect) {
        let extents = x.dims().iter().zip(result.dims());
        for (axis, (&before, (&size, &padded))) in before.iter().zip(extents).enumerate() {
            let most = before.max(padded - before - size);
            if most >= size {
                return Err(format!("pad that reflects {most} of axis {axis} of {x}"));
            }
        }
    }
    let (own, step) = (strides(x.dims()), strides(result.dims()));
    if let Outside::Constant(value) = outside {
        let start = (0..x.rank()).map(|axis| before[axis] * step[axis] as usize).sum();
        let inside = Strided::new(x.dims(), [&step], [start]);
        return Ok(Lowered::new(&["x"], move |call| {
            let x = call.words(0);
            let out = call.out();
            out.fill(value);
            inside.write(x, out);
        }));
    }
    Ok(Lowered::new(&["x"], move |call| {
        let source = call.words(0);
        for (i, out) in call.out().iter_mut().enumerate() {
            let at = (0..x.rank()).map(|axis| {
                let (size, place) = (x.dims()[axis] as isize, i / step[axis] as usize % result.dims()[axis]);
                let at = place as isize - before[axis] as isize;
                let at = match outside {
                    Outside::Reflect if at < 0 => -at,
                    Outside::Reflect if at >= size => 2 * size - 2 - at,
                    _ => at.clamp(0, size - 1),
                };
                at as usize * own[axis] as usize
            });
            *out = source[at.sum::<usize>()];
        }
    }))
}
