//! Operations on a box of a tensor.

use mlpackage::Shape;
use mlpackage::ops::{SliceBounds, box_begin};

use super::reshape::read;
use super::strided::{MAX_RANK, Strided, strides};
use super::{Lowered, Node};

pub(super) fn lower(node: &Node<'_>) -> Result<Option<Lowered>, String> {
    Ok(Some(match node.op {
        "slice_by_index" => slice_by_index(node)?,
        "slice_by_size" => slice_by_size(node)?,
        "slice_update" => slice_update(node)?,
        "crop" => crop(node)?,
        _ => return Ok(None),
    }))
}

fn slice_by_index(node: &Node<'_>) -> Result<Lowered, String> {
    let (x, bounds) = (node.shape("x")?, SliceBounds::of(&node.args)?);
    if bounds.are_stated() {
        return Ok(read(place(&x, &bounds, None)?.walk()));
    }
    let result = node.result();
    Ok(Lowered::fallible(&["x", "begin", "end"], move |call| {
        let (source, given) = (call.words(0), (call.i32(1), call.i32(2)));
        let place = place(&x, &bounds, Some(given))?;
        place.expect(&result)?;
        place.walk().read(source, call.out());
        Ok(())
    }))
}

fn slice_by_size(node: &Node<'_>) -> Result<Lowered, String> {
    let (x, result) = (node.shape("x")?, node.result());
    let own = strides(x.dims());
    if let Some(begin) = node.args.ints_if_known("begin") {
        let start = start(&x, &result, &begin)?;
        return Ok(read(Strided::new(result.dims(), [&own], [start])));
    }
    Ok(Lowered::fallible(&["x", "begin"], move |call| {
        let source = call.words(0);
        let start = start(&x, &result, call.i32(1))?;
        Strided::new(result.dims(), [&own], [start]).read(source, call.out());
        Ok(())
    }))
}

fn slice_update(node: &Node<'_>) -> Result<Lowered, String> {
    let (x, bounds) = (node.shape("x")?, SliceBounds::of(&node.args)?);
    if bounds.are_stated() {
        let walk = place(&x, &bounds, None)?.walk();
        return Ok(Lowered::new(&["x", "update"], move |call| {
            let (x, update) = (call.words(0), call.words(1));
            let out = call.out();
            out.copy_from_slice(x);
            walk.write(update, out);
        }));
    }
    let updated = node.shape("update")?;
    Ok(Lowered::fallible(&["x", "update", "begin", "end"], move |call| {
        let (source, update) = (call.words(0), call.words(1));
        let place = place(&x, &bounds, Some((call.i32(2), call.i32(3))))?;
        place.expect(&updated)?;
        let out = call.out();
        out.copy_from_slice(source);
        place.write(update, out);
        Ok(())
    }))
}

/// Lowers `crop`, whose parameters are pairs: the number of rows or columns to remove at the start and at the end.
fn crop(node: &Node<'_>) -> Result<Lowered, String> {
    let (x, result) = (node.shape("x")?, node.result());
    let [height, width] = ["crop_height", "crop_width"].map(|n| node.args.extents(n, 2, 0, 0));
    let own = strides(x.dims());
    let start = height?[0] * own[x.rank() - 2] as usize + width?[0];
    Ok(read(Strided::new(result.dims(), [&own], [start])))
}

/// A box: its sizes, and the strides with which a tensor is read along it. It is on the stack, because it may
/// change with every call.
struct Place {
    rank: usize,
    extents: [usize; MAX_RANK],
    strides: [isize; MAX_RANK],
    squeezed: [bool; MAX_RANK],
    start: usize,
}

fn place(x: &Shape, bounds: &SliceBounds, given: Option<(&[i32], &[i32])>) -> Result<Place, String> {
    let mut place = Place {
        rank: x.rank(),
        extents: [1; MAX_RANK],
        strides: [1; MAX_RANK],
        squeezed: [false; MAX_RANK],
        start: 0,
    };
    let mut step = 1;
    for axis in (0..x.rank()).rev() {
        let (begin, end) = given.map_or((None, None), |(b, e)| (b.get(axis).copied(), e.get(axis).copied()));
        let size = x.dims()[axis];
        let range = bounds.range(axis, size, begin, end)?.ok_or("a bound is missing")?;
        place.extents[axis] = range.len;
        place.strides[axis] = range.step * step as isize;
        place.squeezed[axis] = range.squeeze;
        place.start += range.begin * step;
        step *= size;
    }
    Ok(place)
}

impl Place {
    fn walk(&self) -> Strided<1> {
        Strided::new(&self.extents[..self.rank], [&self.strides[..self.rank]], [self.start])
    }

    /// Returns an error if the box has another shape.
    fn expect(&self, shape: &Shape) -> Result<(), String> {
        let axes = (0..self.rank).filter(|&axis| !self.squeezed[axis]);
        let found = axes.map(|axis| &self.extents[axis]);
        if found.clone().eq(shape.dims()) {
            return Ok(());
        }
        let found: Shape = found.copied().collect::<Vec<_>>().into();
        Err(format!("begin and end name a box of {found}, expected {shape}"))
    }

    /// Copies `source` to the positions of the box in `out`, as [`Strided::write`] does, without allocating.
    fn write(&self, source: &[u32], out: &mut [u32]) {
        let (extents, strides) = (&self.extents[..self.rank], &self.strides[..self.rank]);
        for (i, word) in source.iter().enumerate() {
            let mut rest = i;
            let mut at = self.start as isize;
            for axis in (0..self.rank).rev() {
                at += (rest % extents[axis]) as isize * strides[axis];
                rest /= extents[axis];
            }
            out[at as usize] = *word;
        }
    }
}

/// Returns where a box with the shape of `result` starts.
fn start(x: &Shape, result: &Shape, begin: &[i32]) -> Result<usize, String> {
    let own = strides(x.dims());
    let mut start = 0;
    for (axis, &b) in begin.iter().enumerate() {
        let size = x.dims()[axis];
        let at = box_begin(b, size).filter(|begin| result.dims()[axis] <= size - begin);
        let at = at.ok_or_else(|| format!("begin {begin:?} with size {result} is outside of {x}"))?;
        start += at * own[axis] as usize;
    }
    Ok(start)
}
