//! The decoder loop: a bundle's decode function, and sequences that it is run on.

use std::sync::Arc;

use mlpackage::bundle::{BundleManifest, DecodeInterface};
use mlpackage::{Bundle, DType, Feature, Interface, Shape};

use crate::embeddings::Embeddings;
use crate::engine::{Engine, LoadOptions, Model, State};
use crate::error::{Error, Result};
use crate::hazard::Hazard;
use crate::logits::LogitsSource;
use crate::tensor::{Elements, TensorView};

/// What the mask holds where a position must not be attended to. fp16 has no room for much more, and -inf is not safe on
/// the Neural Engine.
const MASKED: f32 = -1e4;

/// A bundle in an engine: decodes any number of sequences, from as many threads.
pub struct DecodeModel {
    engine: String,
    model: Box<dyn Model>,
    embeddings: Embeddings,
    interface: DecodeInterface,
    shapes: [[usize; 4]; 3],
    vocab_size: usize,
    context_length: usize,
}

/// A sequence that a [`DecodeModel`] decodes: its state, and how far it is.
pub struct Sequence {
    state: State,
    position: usize,
    embedding: Vec<f32>,
    attn_mask: Vec<f32>,
    kv_write: Vec<f32>,
}

impl DecodeModel {
    /// Loads a bundle into an engine.
    ///
    /// # Errors
    ///
    /// [`Error::Bundle`] if the bundle's parts do not fit each other, and whatever the engine refuses.
    pub fn load(bundle: &Bundle, engine: &dyn Engine) -> Result<Self> {
        Self::load_with(bundle, engine, false)
    }

    /// As [`load`](Self::load), with an eye on [hazards](Sequence::hazards).
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn load_watched(bundle: &Bundle, engine: &dyn Engine) -> Result<Self> {
        Self::load_with(bundle, engine, true)
    }

    fn load_with(bundle: &Bundle, engine: &dyn Engine, hazards: bool) -> Result<Self> {
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
        let options =
            LoadOptions { functions: vec![shard.function.clone()], hazards, ..LoadOptions::default() };
        let model = engine.load(&package, &options)?;
        check_interface(manifest, model.describe()).map_err(|(what, reason)| bad(&what, reason))?;
        let s = manifest.architecture.context_length;
        Ok(Self {
            engine: engine.name().to_owned(),
            model,
            shapes: [[1, embeddings.n_embd(), 1, 1], [1, 1, 1, s], [1, 1, s, 1]],
            embeddings,
            interface: manifest.interface.clone(),
            vocab_size: manifest.architecture.vocab_size,
            context_length: s,
        })
    }

    /// Number of tokens (V).
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Number of tokens that a sequence may have (S).
    pub fn context_length(&self) -> usize {
        self.context_length
    }

    /// The model itself.
    pub fn model(&self) -> &dyn Model {
        &*self.model
    }

    /// A sequence without tokens.
    pub fn new_sequence(&self) -> Sequence {
        let s = self.context_length;
        Sequence {
            state: self.model.new_state(),
            position: 0,
            embedding: vec![0.0; self.embeddings.n_embd()],
            attn_mask: vec![MASKED; s],
            kv_write: vec![0.0; s],
        }
    }

    /// Makes a sequence one without tokens, as a [new one](Self::new_sequence) is.
    pub fn reset(&self, sequence: &mut Sequence) {
        self.model.reset(&mut sequence.state);
        sequence.position = 0;
    }

    /// Appends a token to a sequence and gives the logits of the next one, `[V]`.
    ///
    /// # Errors
    ///
    /// [`Error::ContextFull`] and [`Error::UnknownToken`]; the sequence is then as it was.
    pub fn decode<'s>(&self, token: u32, sequence: &'s mut Sequence) -> Result<&'s [f32]> {
        self.prepare(token, sequence)?;
        let Sequence { state, embedding, attn_mask, kv_write, .. } = sequence;
        self.model.predict(&self.bind(embedding, attn_mask, kv_write), state)?;
        sequence.position += 1;
        Ok(self.logits(sequence))
    }

    /// Appends a token to each of several sequences: one pass over the weights for all of them. What each gives is what
    /// [`decode`](Self::decode) gives one by one, and is read with [`logits`](Self::logits).
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode), before any sequence is run.
    ///
    /// # Panics
    ///
    /// If there are not as many tokens as sequences.
    pub fn decode_batch(&self, tokens: &[u32], sequences: &mut [&mut Sequence]) -> Result<()> {
        assert_eq!(tokens.len(), sequences.len(), "a token for each sequence");
        for (token, sequence) in tokens.iter().zip(&mut *sequences) {
            self.prepare(*token, sequence)?;
        }
        let mut inputs = Vec::with_capacity(sequences.len());
        let mut states = Vec::with_capacity(sequences.len());
        for sequence in &mut *sequences {
            let Sequence { state, embedding, attn_mask, kv_write, .. } = &mut **sequence;
            inputs.push(self.bind(embedding, attn_mask, kv_write));
            states.push(state);
        }
        let inputs: Vec<&[(&str, TensorView<'_>)]> = inputs.iter().map(<[_; 3]>::as_slice).collect();
        self.model.default_function().predict_batch(&inputs, &mut states)?;
        sequences.iter_mut().for_each(|sequence| sequence.position += 1);
        Ok(())
    }

    /// The logits of a sequence's last token, `[V]`; empty before the first.
    pub fn logits<'s>(&self, sequence: &'s Sequence) -> &'s [f32] {
        let logits = sequence.state.outputs().get(&self.interface.logits);
        logits.and_then(|tensor| tensor.as_f32()).unwrap_or_default()
    }

    /// The decode function's inputs for a token at the sequence's position: embedding sum, mask and one-hot, each by name.
    ///
    /// # Errors
    ///
    /// [`Error::ContextFull`] and [`Error::UnknownToken`].
    pub fn inputs<'s>(
        &'s self,
        token: u32,
        sequence: &'s mut Sequence,
    ) -> Result<[(&'s str, TensorView<'s>); 3]> {
        self.prepare(token, sequence)?;
        Ok(self.bind(&sequence.embedding, &sequence.attn_mask, &sequence.kv_write))
    }

    /// Fills in what the host computes for a token.
    fn prepare(&self, token: u32, sequence: &mut Sequence) -> Result<()> {
        let position = sequence.position;
        self.embeddings.sum(token, position, &mut sequence.embedding)?;
        let mask = sequence.attn_mask.iter_mut().enumerate();
        mask.for_each(|(i, mask)| *mask = if i <= position { 0.0 } else { MASKED });
        let write = sequence.kv_write.iter_mut().enumerate();
        write.for_each(|(i, write)| *write = f32::from(u8::from(i == position)));
        Ok(())
    }

    fn bind<'s>(
        &'s self,
        embedding: &'s [f32],
        attn_mask: &'s [f32],
        kv_write: &'s [f32],
    ) -> [(&'s str, TensorView<'s>); 3] {
        let view = |shape: &'s [usize; 4], values: &'s [f32]| {
            TensorView::new(shape, Elements::F32(values)).expect("buffers have the shapes of the interface")
        };
        let [x, mask, write] = &self.shapes;
        [
            (&self.interface.embedding, view(x, embedding)),
            (&self.interface.attn_mask, view(mask, attn_mask)),
            (&self.interface.kv_write, view(write, kv_write)),
        ]
    }
}

impl Sequence {
    /// Number of tokens so far.
    pub fn position(&self) -> usize {
        self.position
    }

    /// What went wrong in fp16, if the model was [loaded with an eye on it](DecodeModel::load_watched).
    pub fn hazards(&self) -> &[Hazard] {
        self.state.hazards()
    }
}

/// A [`DecodeModel`] and one sequence.
pub struct Decoder {
    model: Arc<DecodeModel>,
    sequence: Sequence,
}

impl Decoder {
    /// Loads a bundle into an engine.
    ///
    /// # Errors
    ///
    /// As [`DecodeModel::load`].
    pub fn load(bundle: &Bundle, engine: &dyn Engine) -> Result<Self> {
        Ok(Self::new(Arc::new(DecodeModel::load(bundle, engine)?)))
    }

    /// A decoder with a sequence of its own.
    pub fn new(model: Arc<DecodeModel>) -> Self {
        let sequence = model.new_sequence();
        Self { model, sequence }
    }

    /// The decode function's inputs for a token at the present position: embedding sum, mask and one-hot, in this order.
    ///
    /// # Errors
    ///
    /// [`Error::ContextFull`] and [`Error::UnknownToken`].
    pub fn inputs(&mut self, token: u32) -> Result<[(&str, TensorView<'_>); 3]> {
        self.model.inputs(token, &mut self.sequence)
    }

    /// The sequence.
    pub fn sequence(&self) -> &Sequence {
        &self.sequence
    }
}

impl LogitsSource for Decoder {
    fn name(&self) -> String {
        self.model.engine.clone()
    }

    fn vocab_size(&self) -> usize {
        self.model.vocab_size
    }

    fn context_length(&self) -> usize {
        self.model.context_length
    }

    fn position(&self) -> usize {
        self.sequence.position
    }

    fn reset(&mut self) {
        // What is left in the cache is behind the mask until it is overwritten; zeros make it visible in a dump.
        self.model.reset(&mut self.sequence);
    }

    fn step(&mut self, token: u32) -> Result<&[f32]> {
        self.model.decode(token, &mut self.sequence)
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
