//! Lists of tensors, for functions that are interpreted.
//!
//! A list is a value: writing an element creates another list, which shares most of its memory with the
//! first. Elements are zero until they are written (measured by coremltools' tests against Core ML:
//! `TestList` in `mil/ops/tests/iOS14/test_control_flow.py`).

use std::sync::Arc;

use mlpackage::mil::{Container, Dim, TensorType};
use mlpackage::ops::Args;
use mlpackage::{DType, Shape};

/// Elements that are copied together when one of them is written.
///
/// A loop that fills a list of `n` elements copies `n / CHUNK + CHUNK` pointers in each iteration. The total
/// per iteration is smallest when `CHUNK` is about the square root of the longest list: by default, a call
/// may run 65,536 iterations.
const CHUNK: usize = 256;

/// Bytes of the list's structure for each element.
const POINTER: u64 = 16;

/// An element; `None` if it was never written and is zero.
type Element = Option<Arc<[u32]>>;

/// A list of tensors of one type.
#[derive(Clone, Debug)]
pub(super) struct List {
    /// Type of each element. The first element that is written fixes the sizes of open axes.
    pub(super) ty: TensorType,
    length: usize,
    /// Whether writing past the end makes the list longer.
    grows: bool,
    chunks: Vec<Arc<Vec<Element>>>,
}

impl List {
    /// Creates a list of `length` zeros, for `make_list`. It may occupy at most `most` bytes.
    pub(super) fn make(ty: TensorType, length: usize, grows: bool, most: u64) -> Result<Self, String> {
        let mut list = Self { ty, length: 0, grows, chunks: Vec::new() };
        list.grow(length, most)?;
        Ok(list)
    }

    /// Grows the list to at least `length` elements, if it then occupies at most `most` bytes.
    fn grow(&mut self, length: usize, most: u64) -> Result<(), String> {
        let needed = bytes(&self.ty, length);
        if needed.is_none_or(|needed| needed > most) {
            let needed = needed.map_or_else(String::new, |needed| format!(", {needed} B"));
            let ty = &self.ty;
            return Err(format!(
                "a list of {length} elements that are {ty}{needed}, takes more than {most} B"
            ));
        }
        if length <= self.length {
            return Ok(());
        }
        let zeros = Arc::new(vec![None; CHUNK]);
        self.chunks.resize(length.div_ceil(CHUNK), zeros);
        self.length = length;
        Ok(())
    }

    /// Returns the bytes that the list occupies if every element is written.
    pub(super) fn bytes(&self) -> u64 {
        bytes(&self.ty, self.length).unwrap_or(u64::MAX)
    }

    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Returns the container of the list.
    pub(super) fn container(&self) -> Container {
        Container::List(Some(Dim::Known(self.length)))
    }

    fn place(&self, index: i32) -> Result<usize, String> {
        let place = usize::try_from(index).ok().filter(|&place| place < self.length);
        place.ok_or_else(|| format!("index {index} is outside of a list of {} elements", self.length))
    }

    fn shape(&self) -> Result<Shape, String> {
        self.ty.shape.known().ok_or_else(|| {
            format!("elements are {}, and no element has been written that fixes their shape", self.ty)
        })
    }

    /// Copies element `index` to `out`, which has room for it.
    pub(super) fn read(&self, index: i32, out: &mut [u32]) -> Result<(), String> {
        let place = self.place(index)?;
        match &self.chunks[place / CHUNK][place % CHUNK] {
            Some(words) => out.copy_from_slice(words),
            None => out.fill(0),
        }
        Ok(())
    }

    /// Writes an element at `index`. The list may then occupy at most `most` bytes.
    pub(super) fn write(
        &mut self,
        index: i32,
        shape: &Shape,
        words: Arc<[u32]>,
        most: u64,
    ) -> Result<(), String> {
        let place = match usize::try_from(index) {
            Ok(place) if self.grows => place,
            _ => self.place(index)?,
        };
        if !self.ty.shape.may_be(&shape.into()) {
            return Err(format!("an element of shape {shape}, but the list holds {}", self.ty));
        }
        self.ty.shape = shape.into();
        self.grow(place + 1, most)?;
        Arc::make_mut(&mut self.chunks[place / CHUNK])[place % CHUNK] = Some(words);
        Ok(())
    }
}

fn bytes(ty: &TensorType, length: usize) -> Option<u64> {
    let element = 4 * ty.shape.least_elements()? as u64;
    element.checked_add(POINTER)?.checked_mul(length as u64)
}

/// The result of an operation on lists.
pub(super) enum ListResult {
    List(List),
    Tensor { dtype: DType, shape: Shape, words: Vec<u32> },
}

/// The operands of an operation on lists, besides the arguments that the program states.
pub(super) struct ListOperands<'a> {
    /// `ls`; `None` for `make_list`.
    pub(super) list: Option<&'a List>,
    /// `index`, `indices` or `init_length`.
    pub(super) numbers: Arc<[u32]>,
    /// `value`.
    pub(super) value: Option<(Shape, Arc<[u32]>)>,
}

/// Returns whether an operation accepts or returns lists.
pub(super) fn is_list_operation(op: &str) -> bool {
    op == "make_list" || op.starts_with("list_")
}

impl<'a> ListOperands<'a> {
    fn list(&self) -> Result<&'a List, String> {
        self.list.ok_or_else(|| "ls is not a list".to_owned())
    }

    fn numbers(&self) -> &[i32] {
        bytemuck::cast_slice(&self.numbers)
    }

    fn index(&self) -> Result<i32, String> {
        self.numbers().first().copied().ok_or_else(|| "index is empty".to_owned())
    }

    fn value(&self) -> Result<&(Shape, Arc<[u32]>), String> {
        self.value.as_ref().ok_or_else(|| "value is not a tensor".to_owned())
    }
}

/// Runs an operation on lists. Its result may occupy at most `most` bytes.
pub(super) fn run(
    op: &str,
    args: &Args<'_>,
    operands: &ListOperands<'_>,
    most: u64,
) -> Result<ListResult, String> {
    match op {
        "make_list" => make(args, operands, most).map(ListResult::List),
        "list_length" => length(operands),
        "list_write" => write(operands, most).map(ListResult::List),
        "list_scatter" => scatter(operands, most).map(ListResult::List),
        "list_read" => read(operands),
        "list_gather" => gather(operands, most),
        _ => Err(format!("no operation {op} on lists")),
    }
}

fn make(args: &Args<'_>, operands: &ListOperands<'_>, most: u64) -> Result<List, String> {
    let spec = mlpackage::ops::lookup("make_list").ok_or("no operation make_list")?;
    let ty = spec.infer(args)?.into_iter().next();
    let ty = ty.as_ref().and_then(|ty| ty.content()).map(|(ty, _)| ty.clone());
    let length = operands.numbers().first().copied().unwrap_or(1);
    let length = usize::try_from(length).map_err(|_| format!("init_length is {length}"))?;
    let grows = args.bool_or("dynamic_length", true)?;
    List::make(ty.ok_or("make_list returns no list")?, length, grows, most)
}

fn length(operands: &ListOperands<'_>) -> Result<ListResult, String> {
    let length = operands.list()?.length();
    let length = i32::try_from(length).map_err(|_| format!("{length} elements do not fit in int32"))?;
    Ok(ListResult::Tensor { dtype: DType::Int32, shape: Shape::default(), words: vec![length as u32] })
}

fn write(operands: &ListOperands<'_>, most: u64) -> Result<List, String> {
    let mut list = operands.list()?.clone();
    let (shape, words) = operands.value()?;
    list.write(operands.index()?, shape, Arc::clone(words), most)?;
    Ok(list)
}

/// Writes the rows of `value [N, ..]` to the `N` places that `indices` names.
fn scatter(operands: &ListOperands<'_>, most: u64) -> Result<List, String> {
    let mut list = operands.list()?.clone();
    let (shape, words) = operands.value()?;
    let indices = operands.numbers();
    let element = Shape::from(shape.dims().get(1..).unwrap_or_default());
    if shape.dims().first() != Some(&indices.len()) {
        return Err(format!("{} indices for values of {shape}", indices.len()));
    }
    let size = element.elements();
    for (i, index) in indices.iter().enumerate() {
        list.write(*index, &element, words[i * size..(i + 1) * size].into(), most)?;
    }
    Ok(list)
}

fn read(operands: &ListOperands<'_>) -> Result<ListResult, String> {
    let (list, index) = (operands.list()?, operands.index()?);
    list.place(index)?;
    let shape = list.shape()?;
    let mut words = vec![0; shape.elements()];
    list.read(index, &mut words)?;
    Ok(ListResult::Tensor { dtype: list.ty.dtype, shape, words })
}

/// Returns the elements that `indices` names as one tensor `[N, ..]`.
fn gather(operands: &ListOperands<'_>, most: u64) -> Result<ListResult, String> {
    let (list, indices) = (operands.list()?, operands.numbers());
    indices.iter().try_for_each(|index| list.place(*index).map(|_| ()))?;
    let element = list.shape()?;
    let shape: Shape = [&[indices.len()], element.dims()].concat().into();
    let elements = shape.checked_elements().filter(|n| 4 * *n as u64 <= most);
    let elements = elements.ok_or_else(|| format!("{shape} takes more than {most} B"))?;
    let mut words = vec![0; elements];
    let size = element.elements().max(1);
    for (index, out) in indices.iter().zip(words.chunks_exact_mut(size)) {
        list.read(*index, out)?;
    }
    Ok(ListResult::Tensor { dtype: list.ty.dtype, shape, words })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(dims: &[usize], length: usize, grows: bool) -> List {
        List::make(TensorType::new(DType::Int32, dims), length, grows, 1 << 32).unwrap()
    }

    /// Every written element is read back from the list that it was written to, and from no earlier list.
    #[test]
    fn what_was_written_is_read_across_chunks() {
        let mut lists = vec![of(&[2], 1, true)];
        for i in 0..3 * CHUNK as i32 {
            let mut next = lists[lists.len() - 1].clone();
            next.write(i, &[2].into(), [i as u32, 7].into(), 1 << 32).unwrap();
            lists.push(next);
        }
        let last = &lists[lists.len() - 1];
        assert_eq!(last.length(), 3 * CHUNK);
        let read = |list: &List, index: i32| {
            let mut out = [1, 1];
            list.read(index, &mut out).map(|()| out)
        };
        for i in 0..3 * CHUNK as i32 {
            assert_eq!(read(last, i).unwrap(), [i as u32, 7]);
        }
        // The list after 300 writes does not contain those that followed.
        assert_eq!(lists[300].length(), 300);
        assert_eq!(read(&lists[300], 299).unwrap(), [299, 7]);
        assert_eq!(read(&lists[300], 300).unwrap_err(), "index 300 is outside of a list of 300 elements");
    }

    #[test]
    fn zeros_stand_where_nothing_was_written() {
        let mut list = of(&[2], 2, true);
        list.write(4, &[2].into(), [5, 6].into(), 1 << 32).unwrap();
        let mut out = [9, 9];
        list.read(3, &mut out).unwrap();
        assert_eq!((list.length(), out), (5, [0, 0]));
    }

    #[test]
    fn a_fixed_list_does_not_grow_and_no_list_has_a_place_before_its_first() {
        let mut list = of(&[1], 2, false);
        let error = list.write(2, &[1].into(), [1].into(), 1 << 32).unwrap_err();
        assert_eq!(error, "index 2 is outside of a list of 2 elements");
        let error = of(&[1], 2, true).write(-1, &[1].into(), [1].into(), 1 << 32).unwrap_err();
        assert_eq!(error, "index -1 is outside of a list of 2 elements");
    }

    /// What would not fit is not allocated: neither elements nor the pointers to them.
    #[test]
    fn a_list_takes_no_more_than_it_may() {
        let ty = |dims: &[usize]| TensorType::new(DType::Fp32, dims);
        for ty in [ty(&[1 << 20]), ty(&[0])] {
            let error = List::make(ty, i32::MAX as usize, true, 1 << 32).unwrap_err();
            assert!(error.ends_with("takes more than 4294967296 B"), "{error}");
        }
        let mut list = of(&[1024], 1, true);
        let element: Arc<[u32]> = vec![1; 1024].into();
        let most = 10 * (4 * 1024 + POINTER);
        assert!(list.write(9, &[1024].into(), Arc::clone(&element), most).is_ok());
        let error = list.write(10, &[1024].into(), element, most).unwrap_err();
        assert!(error.ends_with("takes more than 41120 B"), "{error}");
    }
}
