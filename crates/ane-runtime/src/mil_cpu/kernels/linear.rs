//! Matrix products.

use mlpackage::Shape;

use super::strided::{Strided, broadcast_strides, strides};
use super::{Call, Kernel, Lowered, Node, Outcome, position};

pub(super) fn lower(node: &Node<'_>) -> Result<Option<Lowered>, String> {
    let is_float = |name: &str| node.args.get(name).is_none_or(|a| a.ty.dtype.is_float());
    // Since iOS 17, x and a constant may have different types.
    let of_both = |name: &str| node.has(name) && is_float(name) != is_float("x");
    if ["linear", "matmul"].contains(&node.op)
        && let Some(other) = ["weight", "bias", "y"].into_iter().find(|name| of_both(name))
    {
        return Err(format!("{} of x {} and {other} {}", node.op, node.dtype("x")?, node.dtype(other)?));
    }
    Ok(Some(match node.op {
        "linear" if is_float("x") => {
            const OPERANDS: &[&str] = &["x", "weight", "bias"];
            let weight = node.shape("weight")?;
            let (d_out, d_in) = (weight.dims()[0], weight.dims()[1]);
            let rows = MatrixTimesVector { d_out, d_in, bias: position(node, OPERANDS, "bias") };
            Lowered::batched(OPERANDS, rows).packed(&["weight"]).scratch(d_in)
        }
        "matmul" if is_float("x") => matmul(node)?,
        "linear" => {
            let (x, weight, shape) = (node.shape("x")?, node.shape("weight")?, node.result());
            let outer = x.rank() - 1;
            let steps = [strides(x.dims()), strides(weight.dims())];
            // The last axis of the result runs over rows of the weight, the others over rows of x.
            let along_x = [&steps[0][..outer], &[0]].concat();
            let along_w = [vec![0; outer].as_slice(), &[steps[1][0]]].concat();
            let contraction = Contraction::new(shape.dims(), [&along_x, &along_w], x.dims()[outer], [1, 1]);
            let bias = position(node, &["x", "weight", "bias"], "bias");
            Lowered::new(&["x", "weight", "bias"], move |call| {
                let (x, weight) = (call.i32(0), call.i32(1));
                let bias = bias.map(|i| call.i32(i));
                let out = call.out_i32();
                contraction.ints(x, weight, out);
                if let Some(bias) = bias {
                    out.iter_mut().zip(bias.iter().cycle()).for_each(|(out, b)| *out = out.wrapping_add(*b));
                }
            })
        }
        "matmul" => {
            let contraction = matrix_contraction(node)?;
            Lowered::new(&["x", "y"], move |call| {
                let (x, y) = (call.i32(0), call.i32(1));
                contraction.ints(x, y, call.out_i32());
            })
        }
        "einsum" => einsum(node)?,
        _ => return Ok(None),
    }))
}

/// Returns the dot product, summed in eight lanes that the compiler can keep in vector registers.
///
/// # Panics
///
/// Panics if the vectors differ in length.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "vectors of one length");
    let mut lanes = [0.0f32; 8];
    let (a_chunks, a_rest) = a.as_chunks::<8>();
    let (b_chunks, b_rest) = b.as_chunks::<8>();
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..8 {
            lanes[lane] += x[lane] * y[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    lanes.iter().sum::<f32>() + rest
}

/// `weight [d_out, d_in]` times each row of `x [.., d_in]`. Each row of the weight is unpacked once for all
/// rows of `x`.
pub(super) struct MatrixTimesVector {
    pub(super) d_out: usize,
    pub(super) d_in: usize,
    /// Index of the operand.
    pub(super) bias: Option<usize>,
}

impl Kernel for MatrixTimesVector {
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
        for o in 0..self.d_out {
            let row = weight.read(o * self.d_in, self.d_in, scratch);
            for call in &mut *calls {
                let (x, bias) = (call.f32(0), call.maybe(self.bias).map_or(0.0, |b| b[o]));
                let out = call.out_f32();
                assert_eq!(x.len() * self.d_out, out.len() * self.d_in, "rows of x and of the result");
                for (out, x) in out.chunks_exact_mut(self.d_out).zip(x.chunks_exact(self.d_in)) {
                    out[o] = dot(row, x) + bias;
                }
            }
        }
        Ok(())
    }

    fn is_matrix_product(&self) -> bool {
        true
    }
}

/// The outer axes, rows, columns and inner axis of a matrix product over the last two axes.
struct Matrices {
    /// Where each matrix of x, y and the result starts.
    outer: Strided<3>,
    rows: usize,
    columns: usize,
    inner: usize,
    /// Whether x and y, respectively, are stored transposed.
    transposed: (bool, bool),
}

/// Returns the shapes of x, y and the result of a `matmul`. The vector x counts as a matrix of one row, the
/// vector y as one of one column.
fn matrices(node: &Node<'_>) -> Result<[Shape; 3], String> {
    let (x, y, result) = (node.shape("x")?, node.shape("y")?, node.result());
    let mut dims = result.dims().to_vec();
    if y.rank() == 1 {
        dims.push(1);
    }
    if x.rank() == 1 {
        dims.insert(dims.len() - 1, 1);
    }
    let x = if x.rank() == 1 { Shape::from([1, x.dims()[0]]) } else { x };
    let y = if y.rank() == 1 { Shape::from([y.dims()[0], 1]) } else { y };
    Ok([x, y, dims.into()])
}

/// Returns whether x and y, respectively, are transposed. A vector never is.
fn transposes(node: &Node<'_>) -> Result<(bool, bool), String> {
    let of = |flag: &str, operand: &str| -> Result<bool, String> {
        Ok(node.args.bool_or(flag, false)? && node.shape(operand)?.rank() > 1)
    };
    Ok((of("transpose_x", "x")?, of("transpose_y", "y")?))
}

impl Matrices {
    fn of(node: &Node<'_>) -> Result<Self, String> {
        let [x, y, shape] = matrices(node)?;
        let outer = shape.rank() - 2;
        let dims = &shape.dims()[..outer];
        let transposed = transposes(node)?;
        let matrix = |s: &Shape| s.dims()[s.rank() - 2] * s.dims()[s.rank() - 1];
        let steps = |s: &Shape| -> Vec<isize> {
            let own = broadcast_strides(&s.dims()[..s.rank() - 2], dims);
            own.iter().map(|step| step * matrix(s) as isize).collect()
        };
        let inner = x.dims()[x.rank() - if transposed.0 { 2 } else { 1 }];
        let [sx, sy, so] = [&x, &y, &shape].map(steps);
        Ok(Self {
            outer: Strided::new(dims, [&sx, &sy, &so], [0; 3]),
            rows: shape.dims()[outer],
            columns: shape.dims()[outer + 1],
            inner,
            transposed,
        })
    }
}

fn matmul(node: &Node<'_>) -> Result<Lowered, String> {
    let m = Matrices::of(node)?;
    let Matrices { rows, columns, inner, transposed: (tx, ty), .. } = m;
    // Scratch memory holds a row of y as it is stored, and a row of x.
    let row = if ty { inner } else { columns };
    let kernel = Lowered::new(&["x", "y"], move |call| {
        let (x, y) = (call.f32(0), call.operands[1]);
        let (y_row, x_row) = std::mem::take(&mut call.scratch).split_at_mut(row);
        let out = call.out_f32();
        m.outer.rows(|at, n, steps| {
            for k in 0..n {
                let [x_at, y_at, out_at] =
                    std::array::from_fn(|t| (at[t] as isize + k as isize * steps[t]) as usize);
                let (x, out) = (&x[x_at..x_at + rows * inner], &mut out[out_at..out_at + rows * columns]);
                if ty {
                    for i in 0..rows {
                        let x_row = if tx {
                            (0..inner).for_each(|k| x_row[k] = x[k * rows + i]);
                            &x_row[..inner]
                        } else {
                            &x[i * inner..(i + 1) * inner]
                        };
                        for j in 0..columns {
                            out[i * columns + j] = dot(x_row, y.read(y_at + j * inner, inner, y_row));
                        }
                    }
                } else {
                    out.fill(0.0);
                    for k in 0..inner {
                        let y = y.read(y_at + k * columns, columns, y_row);
                        for i in 0..rows {
                            let factor = if tx { x[k * rows + i] } else { x[i * inner + k] };
                            let out = &mut out[i * columns..(i + 1) * columns];
                            out.iter_mut().zip(y).for_each(|(out, y)| *out += factor * y);
                        }
                    }
                }
            }
        });
    });
    Ok(kernel.packed(&["y"]).scratch(row + inner))
}

/// Sums of `len` products each, for matrices of integers and `einsum`.
struct Contraction {
    pairs: Strided<2>,
    len: usize,
    steps: [isize; 2],
}

impl Contraction {
    fn new(dims: &[usize], strides: [&[isize]; 2], len: usize, steps: [isize; 2]) -> Self {
        Self { pairs: Strided::new(dims, strides, [0, 0]), len, steps }
    }

    fn each(&self, mut f: impl FnMut(usize, &mut dyn Iterator<Item = (usize, usize)>)) {
        let mut number = 0;
        self.pairs.rows(|at, n, strides| {
            for k in 0..n {
                let [x, y] = std::array::from_fn(|t| at[t] as isize + k as isize * strides[t]);
                let [dx, dy] = self.steps;
                let places = (0..self.len as isize).map(|i| ((x + i * dx) as usize, (y + i * dy) as usize));
                f(number, &mut { places });
                number += 1;
            }
        });
    }

    fn floats(&self, x: &[f32], y: &[f32], out: &mut [f32]) {
        self.each(|number, places| {
            let mut lanes = [0.0f32; 8];
            places.enumerate().for_each(|(k, (i, j))| lanes[k % 8] += x[i] * y[j]);
            out[number] = lanes.iter().sum();
        });
    }

    fn ints(&self, x: &[i32], y: &[i32], out: &mut [i32]) {
        self.each(|number, places| {
            let product = |total: i32, (i, j): (usize, usize)| total.wrapping_add(x[i].wrapping_mul(y[j]));
            out[number] = places.fold(0, product);
        });
    }
}

fn matrix_contraction(node: &Node<'_>) -> Result<Contraction, String> {
    let [x, y, shape] = matrices(node)?;
    let (tx, ty) = transposes(node)?;
    let outer = shape.rank() - 2;
    let side = |s: &Shape| {
        let own = strides(s.dims());
        let matrix = s.dims()[s.rank() - 2] * s.dims()[s.rank() - 1];
        let outer: Vec<isize> = broadcast_strides(&s.dims()[..s.rank() - 2], &shape.dims()[..outer])
            .iter()
            .map(|step| step * matrix as isize)
            .collect();
        (outer, own[s.rank() - 2], own[s.rank() - 1])
    };
    let ((mut sx, x_rows, x_columns), (mut sy, y_rows, y_columns)) = (side(&x), side(&y));
    let (x_row, x_inner) = if tx { (x_columns, x_rows) } else { (x_rows, x_columns) };
    let (y_inner, y_column) = if ty { (y_columns, y_rows) } else { (y_rows, y_columns) };
    sx.extend([x_row, 0]);
    sy.extend([0, y_column]);
    let inner = x.dims()[x.rank() - if tx { 2 } else { 1 }];
    Ok(Contraction::new(shape.dims(), [&sx, &sy], inner, [x_inner, y_inner]))
}

/// Lowers `nchw,nwhu->nchu` and `chw,whu->chu`, the only equations that MIL has.
fn einsum(node: &Node<'_>) -> Result<Lowered, String> {
    let shape = node.result();
    let shapes: Vec<Shape> = node.args.many("values").iter().filter_map(|a| a.ty.shape.known()).collect();
    let [x, y] = shapes.as_slice() else { return Err("einsum of other than two values".into()) };
    let first = shape.rank() - 3;
    let [sx, sy] = [x, y].map(|s| strides(s.dims()));
    let mut along_x = sx.clone();
    let mut along_y = sy.clone();
    // c and u are each in only one of the two. The sum is over the last axis of x and the third axis from the
    // right of y.
    along_x[first + 2] = 0;
    along_y[first] = 0;
    for (steps, s) in [(&mut along_x, x), (&mut along_y, y)] {
        for axis in (0..first).chain([first + 1]) {
            if s.dims()[axis] == 1 {
                steps[axis] = 0;
            }
        }
    }
    let contraction =
        Contraction::new(shape.dims(), [&along_x, &along_y], x.dims()[first + 2], [sx[first + 2], sy[first]]);
    let is_float = node.results[0].0.is_float();
    Ok(Lowered::new(&["values"], move |call| {
        if is_float {
            let (x, y) = (call.f32(0), call.f32(1));
            contraction.floats(x, y, call.out_f32());
        } else {
            let (x, y) = (call.i32(0), call.i32(1));
            contraction.ints(x, y, call.out_i32());
        }
    }))
}
