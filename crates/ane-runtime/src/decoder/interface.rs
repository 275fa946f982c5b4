//! Checks the decode function's interface against the bundle's manifest.

use ane_bundle::BundleManifest;
use mlpackage::{DType, Feature, Interface, Shape, counted};

/// How the write position of the new key and value is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteEncoding {
    /// One-hot over positions, fp16 `[1, 1, S, 1]`.
    OneHot,
    /// The position, int32 `[1]`.
    Position,
}

/// The type and shape that follow from the bundle's dimensions.
struct Expected {
    dtype: DType,
    shape: Shape,
}

impl Expected {
    fn new(dtype: DType, shape: impl Into<Shape>) -> Self {
        Self { dtype, shape: shape.into() }
    }

    fn half(shape: impl Into<Shape>) -> Self {
        Self::new(DType::Fp16, shape)
    }
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.dtype, self.shape)
    }
}

/// Checks that the function has the inputs and outputs that the manifest names, in shapes that follow from
/// its dimensions, and returns how the write position is encoded.
///
/// An error holds the name of the part that is wrong, and the reason.
pub(super) fn check(
    manifest: &BundleManifest,
    function: &Interface,
) -> Result<WriteEncoding, (String, String)> {
    let a = &manifest.architecture;
    let names = &manifest.interface;
    let (c, s, v) = (a.n_embd, a.context_length, a.vocab_size);
    let cache = [1, a.n_head, s, c / a.n_head];
    let mut inputs = vec![
        (&names.embedding, vec![Expected::half([1, c, 1, 1])]),
        (&names.attn_mask, vec![Expected::half([1, 1, 1, s])]),
        (&names.kv_write, vec![Expected::half([1, 1, s, 1]), Expected::new(DType::Int32, [1])]),
    ];
    inputs.extend(names.host_caches.iter().map(|host| (&host.cache, vec![Expected::half(cache)])));
    let mut outputs = vec![(&names.logits, vec![Expected::half([1, v, 1, 1])])];
    let new = [1, a.n_head, 1, c / a.n_head];
    outputs.extend(names.host_caches.iter().map(|host| (&host.new, vec![Expected::half(new)])));

    for (name, expected) in &inputs {
        expect("input", &function.inputs, name, expected)?;
    }
    if function.inputs.len() != inputs.len() {
        let extra = function.inputs.iter().find(|f| !inputs.iter().any(|(i, _)| **i == f.name));
        let extra = extra.map_or("?", |f| &f.name);
        return Err((format!("input {extra}"), "the bundle does not declare it".to_owned()));
    }
    // Each layer's caches are two states, or two tensors that the host holds.
    let states = a.n_layer.saturating_mul(2).saturating_sub(names.host_caches.len());
    if function.states.len() != states {
        let found = function.states.len();
        let held = match names.host_caches.len() {
            0 => String::new(),
            n => format!(", {n} of whose caches the host holds"),
        };
        return Err((
            "states".to_owned(),
            format!("the package has {found}, expected {states} for {}{held}", counted(a.n_layer, "layer")),
        ));
    }
    for state in &function.states {
        expect("state", &function.states, &state.name, &[Expected::half(cache)])?;
    }
    for (name, expected) in &outputs {
        expect("output", &function.outputs, name, expected)?;
    }
    let write = function.inputs.iter().find(|f| f.name == names.kv_write).and_then(Feature::tensor);
    match write {
        Some(ty) if ty.dtype == DType::Int32 => Ok(WriteEncoding::Position),
        _ => Ok(WriteEncoding::OneHot),
    }
}

/// Checks that a feature has that name and one of the expected types.
fn expect(kind: &str, found: &[Feature], name: &str, expected: &[Expected]) -> Result<(), (String, String)> {
    let what = format!("{kind} {name}");
    match found.iter().find(|f| f.name == name).and_then(Feature::tensor) {
        Some(ty) if expected.iter().any(|e| ty.dtype == e.dtype && ty.shape == e.shape) => Ok(()),
        Some(ty) => {
            let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
            let expected = expected.join(" or ");
            Err((what, format!("the package has {ty}, the bundle's dimensions require {expected}")))
        }
        None => Err((what, "the package's function does not have it".to_owned())),
    }
}
