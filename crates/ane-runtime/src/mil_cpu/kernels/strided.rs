//! Iteration over several tensors in step, each with its own strides.

/// The largest rank of a tensor. Core ML supports five.
pub(in crate::mil_cpu) const MAX_RANK: usize = 16;

/// Positions in `N` tensors, in row-major order of `dims`. Neighbours on an axis are one stride apart.
#[derive(Clone, Debug)]
pub(in crate::mil_cpu) struct Strided<const N: usize> {
    /// All axes but the last, outermost first. Axes of size 1 are dropped, and axes that are contiguous in
    /// every tensor are joined.
    outer: Vec<Axis<N>>,
    last: Axis<N>,
    start: [usize; N],
}

#[derive(Clone, Copy, Debug)]
struct Axis<const N: usize> {
    extent: usize,
    strides: [isize; N],
}

impl<const N: usize> Strided<N> {
    /// Creates a walk over `dims`. Each tensor has one stride for each axis.
    pub(super) fn new(dims: &[usize], strides: [&[isize]; N], start: [usize; N]) -> Self {
        let mut axes: Vec<Axis<N>> = Vec::new();
        for (i, &extent) in dims.iter().enumerate() {
            let axis = Axis { extent, strides: strides.map(|s| s[i]) };
            match axes.last_mut() {
                _ if extent == 1 => {}
                Some(before) if (0..N).all(|n| before.strides[n] == axis.strides[n] * extent as isize) => {
                    *before = Axis { extent: before.extent * extent, ..axis };
                }
                _ => axes.push(axis),
            }
        }
        let last = axes.pop().unwrap_or(Axis { extent: 1, strides: [1; N] });
        Self { outer: axes, last, start }
    }

    /// Calls `f` with the start of each row in each tensor, its length, and the strides along it.
    pub(super) fn rows(&self, mut f: impl FnMut([usize; N], usize, [isize; N])) {
        if self.last.extent == 0 || self.outer.iter().any(|a| a.extent == 0) {
            return;
        }
        // A walk may have more axes than its result: `tile` has two for each axis of its operand.
        let mut few = [0usize; MAX_RANK];
        let mut many = Vec::new();
        let index = match self.outer.len() {
            n @ 0..=MAX_RANK => &mut few[..n],
            n => {
                many.resize(n, 0);
                &mut many[..]
            }
        };
        let mut at = self.start.map(|s| s as isize);
        loop {
            f(at.map(|a| a as usize), self.last.extent, self.last.strides);
            let mut axis = self.outer.len();
            loop {
                if axis == 0 {
                    return;
                }
                axis -= 1;
                let Axis { extent, strides } = self.outer[axis];
                index[axis] += 1;
                (0..N).for_each(|n| at[n] += strides[n]);
                if index[axis] < extent {
                    break;
                }
                (0..N).for_each(|n| at[n] -= strides[n] * extent as isize);
                index[axis] = 0;
            }
        }
    }
}

impl Strided<1> {
    /// Copies the positions of `source` to `out`, in order.
    pub(super) fn read<T: Copy>(&self, source: &[T], out: &mut [T]) {
        let mut written = 0;
        self.rows(|[at], n, [stride]| {
            let out = &mut out[written..written + n];
            written += n;
            match stride {
                1 => out.copy_from_slice(&source[at..at + n]),
                0 => out.fill(source[at]),
                _ => {
                    for (i, out) in out.iter_mut().enumerate() {
                        *out = source[(at as isize + i as isize * stride) as usize];
                    }
                }
            }
        });
    }

    /// Copies `source` to the positions of `out`, in order.
    pub(super) fn write<T: Copy>(&self, source: &[T], out: &mut [T]) {
        let mut read = 0;
        self.rows(|[at], n, [stride]| {
            let source = &source[read..read + n];
            read += n;
            match stride {
                1 => out[at..at + n].copy_from_slice(source),
                _ => {
                    for (i, value) in source.iter().enumerate() {
                        out[(at as isize + i as isize * stride) as usize] = *value;
                    }
                }
            }
        });
    }
}

/// Returns the distance between neighbours on each axis of a row-major tensor, in elements.
pub(super) fn strides(dims: &[usize]) -> Vec<isize> {
    let mut strides = vec![1isize; dims.len()];
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i] * dims[i] as isize;
    }
    strides
}

/// Returns the strides with which a tensor of shape `from` is read in step with one of shape `to`, to which
/// it broadcasts.
///
/// # Panics
///
/// Panics if it does not broadcast, which type inference has ruled out.
pub(super) fn broadcast_strides(from: &[usize], to: &[usize]) -> Vec<isize> {
    assert!(from.len() <= to.len(), "{from:?} has more axes than {to:?}");
    let missing = to.len() - from.len();
    let fits = from.iter().zip(&to[missing..]).all(|(from, to)| from == to || *from == 1);
    assert!(fits, "{from:?} does not broadcast to {to:?}");
    let own = strides(from);
    (0..to.len()).map(|i| if i < missing || from[i - missing] == 1 { 0 } else { own[i - missing] }).collect()
}

/// The elements of a tensor in groups. Elements of a group differ only in their indices on `axes`.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    /// The first element of each group, in row-major order of the other axes.
    pub(super) starts: Strided<1>,
    /// Positions within a group, in row-major order of `axes`.
    pub(super) within: Strided<1>,
    /// Number of elements of a group.
    pub(super) len: usize,
}

impl Lines {
    pub(super) fn new(dims: &[usize], axes: &[usize]) -> Self {
        let all = strides(dims);
        let walk = |of_group: bool| {
            let axes: Vec<usize> = (0..dims.len()).filter(|a| axes.contains(a) == of_group).collect();
            let dims: Vec<usize> = axes.iter().map(|&a| dims[a]).collect();
            let strides: Vec<isize> = axes.iter().map(|&a| all[a]).collect();
            Strided::new(&dims, [&strides], [0])
        };
        let len = axes.iter().map(|&a| dims[a]).product();
        Self { starts: walk(false), within: walk(true), len }
    }

    /// Calls `f` with the number of each group and the position of its first element.
    pub(super) fn each(&self, mut f: impl FnMut(usize, usize)) {
        let mut line = 0;
        self.starts.rows(|[at], n, [stride]| {
            for i in 0..n {
                f(line, (at as isize + i as isize * stride) as usize);
                line += 1;
            }
        });
    }

    /// Calls `f` with the number and the position of each element of the group that starts at `start`.
    pub(super) fn along(&self, start: usize, mut f: impl FnMut(usize, usize)) {
        let mut number = 0;
        self.within.rows(|[at], n, [stride]| {
            let at = (start + at) as isize;
            for i in 0..n {
                f(number, (at + i as isize * stride) as usize);
                number += 1;
            }
        });
    }

    /// Returns the sum of `f` over the group that starts at `start`. The sum is in f64, because the squares of
    /// large or small elements can be outside the range of f32, although the root of their sum is not.
    pub(super) fn sum(&self, values: &[f32], start: usize, f: impl Fn(f64) -> f64) -> f64 {
        let mut lanes = [0.0f64; 8];
        self.along(start, |number, at| lanes[number % 8] += f(f64::from(values[at])));
        lanes.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_that_lie_one_behind_the_other_are_joined() {
        let walk = Strided::new(&[2, 1, 3, 4], [&[12, 12, 4, 1]], [0]);
        assert!(walk.outer.is_empty());
        assert_eq!((walk.last.extent, walk.last.strides), (24, [1]));
        // The axes of a transposed tensor are not joined.
        let walk = Strided::new(&[3, 2], [&[1, 3]], [0]);
        let mut out = [0; 6];
        walk.read(&[0, 1, 2, 3, 4, 5], &mut out);
        assert_eq!(out, [0, 3, 1, 4, 2, 5]);
    }

    #[test]
    fn walks_backwards_and_on_the_spot() {
        let mut out = [0; 6];
        Strided::new(&[2, 3], [&[0, -1]], [2]).read(&[7, 8, 9], &mut out);
        assert_eq!(out, [9, 8, 7, 9, 8, 7]);
        let mut out = [0; 4];
        Strided::new(&[2], [&[2]], [1]).write(&[5, 6], &mut out);
        assert_eq!(out, [0, 5, 0, 6]);
        let mut none = [0; 0];
        Strided::new(&[0, 3], [&[3, 1]], [0]).read(&[1, 2, 3], &mut none);
    }

    #[test]
    fn lines_group_what_differs_on_the_axes_only() {
        let lines = Lines::new(&[2, 3, 2], &[1]);
        let mut groups = Vec::new();
        lines.each(|line, start| {
            let mut group = Vec::new();
            lines.along(start, |_, at| group.push(at));
            groups.push((line, group));
        });
        assert_eq!(
            groups,
            [(0, vec![0, 2, 4]), (1, vec![1, 3, 5]), (2, vec![6, 8, 10]), (3, vec![7, 9, 11])]
        );
    }
}
