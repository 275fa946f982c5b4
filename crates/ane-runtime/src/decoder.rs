//! The decoder loop: a bundle, its state and a position.

use mlpackage::bundle::{BundleManifest, DecodeInterface};
use mlpackage::{Bundle, DType, Feature, Interface, Shape};

use crate::embeddings::Embeddings;
use crate::engine::{Engine, LoadOptions, Model, State};
use crate::error::{Error, Result};
use crate::logits::LogitsSource;
use crate::tensor::Tensor;

/// What the mask holds where a position must not be attended to. fp16 has no room for much more, and -inf is not safe on
/// the Neural Engine.
const MASKED: f32 = -1e4;

/// Decodes one sequence with a bundle.
pub struct Decoder {
    engine: String,
    model: Box<dyn Model>,
    state: State,
    inputs: HostInputs,
    vocab_size: usize,
    position: usize,
}

/// What the host computes for each step.
struct HostInputs {
    embeddings: Embeddings,
    interface: DecodeInterface,
    context_length: usize,
}

impl Decoder {
    /// Loads a bundle into an engine.
    ///
    /// # Errors
    ///
    /// [`Error::Bundle`] if the bundle's parts do not fit each other, and whatever the engine refuses.
    pub fn load(bundle: &Bundle, engine: &dyn Engine) -> Result<Self> {
        let manifest = bundle.manifest();
        let bad = |what: &str, reason: String| Error::Bundle {
            path: bundle.path().to_owned(),
            what: what.to_owned(),
            reason,
        };
        let [shard] = manifest.shards.as_slice() else {
            let reason = format!("{} of them, this version runs bundles of one", manifest.shards.len());
            return Err(bad("shards", reason));
        };
        let embeddings = Embeddings::from_bundle(bundle)?;
        let package = bundle.package(shard)?;
        let model = engine.load(&package, &LoadOptions { function: Some(shard.function.clone()) })?;
        check_interface(manifest, model.describe()).map_err(|(what, reason)| bad(&what, reason))?;
        Ok(Self {
            engine: engine.name().to_owned(),
            state: model.new_state(),
            model,
            inputs: HostInputs {
                embeddings,
                interface: manifest.interface.clone(),
                context_length: manifest.architecture.context_length,
            },
            vocab_size: manifest.architecture.vocab_size,
            position: 0,
        })
    }

    /// The decode function's inputs at the present position: embedding sum, mask and one-hot, in this order.
    ///
    /// # Errors
    ///
    /// [`Error::ContextFull`] and [`Error::UnknownToken`].
    pub fn inputs(&self, token: u32) -> Result<[(&str, Tensor); 3]> {
        self.inputs.at(token, self.position)
    }
}

impl HostInputs {
    fn at(&self, token: u32, position: usize) -> Result<[(&str, Tensor); 3]> {
        let s = self.context_length;
        let embedding = self.embeddings.sum(token, position)?;
        let mask = (0..s).map(|i| if i <= position { 0.0 } else { MASKED }).collect();
        let write = (0..s).map(|i| f32::from(u8::from(i == position))).collect();
        Ok([
            (self.interface.embedding.as_str(), embedding),
            (self.interface.attn_mask.as_str(), Tensor::new([1, 1, 1, s], mask)?),
            (self.interface.kv_write.as_str(), Tensor::new([1, 1, s, 1], write)?),
        ])
    }
}

impl LogitsSource for Decoder {
    fn name(&self) -> String {
        self.engine.clone()
    }

    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn context_length(&self) -> usize {
        self.inputs.context_length
    }

    fn position(&self) -> usize {
        self.position
    }

    fn reset(&mut self) {
        // What is left in the cache is behind the mask until it is overwritten; zeros make it visible in a dump.
        self.state = self.model.new_state();
        self.position = 0;
    }

    fn step(&mut self, token: u32) -> Result<Vec<f32>> {
        let inputs = self.inputs.at(token, self.position)?;
        let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(n, t)| (*n, t)).collect();
        let mut outputs = self.model.predict(&inputs, &mut self.state)?;
        let logits =
            outputs.remove(&self.inputs.interface.logits).expect("the interface was checked at load");
        self.position += 1;
        Ok(logits.floats().to_vec())
    }
}

/// Whether the function takes and gives what the bundle says, in shapes that follow from its dimensions.
fn check_interface(manifest: &BundleManifest, function: &Interface) -> Result<(), (String, String)> {
    let a = &manifest.architecture;
    let names = &manifest.interface;
    let (c, s, v) = (a.n_embd, a.context_length, a.vocab_size);
    let inputs = [
        (&names.embedding, Shape::from([1, c, 1, 1])),
        (&names.attn_mask, Shape::from([1, 1, 1, s])),
        (&names.kv_write, Shape::from([1, 1, s, 1])),
    ];
    let expect = |kind: &str, found: &[Feature], name: &str, shape: &Shape| {
        let what = format!("{kind} {name}");
        match found.iter().find(|f| f.name == name).and_then(Feature::tensor) {
            Some(ty) if ty.dtype == DType::Fp16 && ty.shape == *shape => Ok(()),
            Some(ty) => {
                Err((what, format!("the package has {ty}, the bundle's dimensions make it fp16 {shape}")))
            }
            None => Err((what, "the package's function has none of that name".to_owned())),
        }
    };
    for (name, shape) in &inputs {
        expect("input", &function.inputs, name, shape)?;
    }
    if function.inputs.len() != inputs.len() {
        let extra = function.inputs.iter().find(|f| !inputs.iter().any(|(i, _)| **i == f.name));
        let extra = extra.map_or("?", |f| &f.name);
        return Err((format!("input {extra}"), "the bundle does not say what it is for".to_owned()));
    }
    let states = a.n_layer.saturating_mul(2);
    if function.states.len() != states {
        let found = function.states.len();
        return Err((
            "states".to_owned(),
            format!("the package has {found}, {} layers have {states}", a.n_layer),
        ));
    }
    for state in &function.states {
        expect("state", &function.states, &state.name, &Shape::from([1, a.n_head, s, c / a.n_head]))?;
    }
    expect("output", &function.outputs, &names.logits, &Shape::from([1, v, 1, 1]))
}
