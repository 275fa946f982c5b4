//! The decoder loop: a bundle's decode function, and sequences that it is run on.

mod host_cache;
mod interface;

use std::sync::Arc;

use mlpackage::Bundle;
use mlpackage::bundle::{Architecture, DecodeInterface};
use smallvec::SmallVec;

use crate::embeddings::Embeddings;
use crate::engine::{Engine, LoadOptions, Model, State};
use crate::error::{Error, Result};
use crate::hazard::Hazard;
use crate::logits::LogitsSource;
use crate::tensor::{Elements, TensorView};
use host_cache::HostCaches;
use interface::Place;

/// What the mask holds where a position must not be attended to. fp16 has no room for much more, and -inf is not safe on
/// the Neural Engine.
const MASKED: f32 = -1e4;

/// Inputs of a call by name. As many as six layers have whose caches the host holds fit without memory of their own.
type Inputs<'s> = SmallVec<[(&'s str, TensorView<'s>); 15]>;

/// A bundle in an engine: decodes any number of sequences, from as many threads.
pub struct DecodeModel {
    engine: String,
    model: Box<dyn Model>,
    embeddings: Embeddings,
    interface: DecodeInterface,
    architecture: Architecture,
    place: Place,
    /// Of embedding sum and mask.
    shapes: [[usize; 4]; 2],
    /// Of the one-hot.
    one_hot: [usize; 4],
}

/// A sequence that a [`DecodeModel`] decodes: its state or the caches that the host holds instead, and how far it is.
pub struct Sequence {
    state: State,
    position: usize,
    host: Host,
}

/// What the host computes and keeps for a sequence.
struct Host {
    embedding: Vec<f32>,
    attn_mask: Vec<f32>,
    kv_write: KvWrite,
    caches: HostCaches,
}

/// Where the new key and value go, as the function wants to be told.
enum KvWrite {
    OneHot(Vec<f32>),
    Position([i32; 1]),
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
        let place =
            interface::check(manifest, model.describe()).map_err(|(what, reason)| bad(&what, reason))?;
        let s = manifest.architecture.context_length;
        Ok(Self {
            engine: engine.name().to_owned(),
            model,
            shapes: [[1, embeddings.n_embd(), 1, 1], [1, 1, 1, s]],
            one_hot: [1, 1, s, 1],
            embeddings,
            interface: manifest.interface.clone(),
            architecture: manifest.architecture.clone(),
            place,
        })
    }

    /// Number of tokens (V).
    pub fn vocab_size(&self) -> usize {
        self.architecture.vocab_size
    }

    /// Number of tokens that a sequence may have (S).
    pub fn context_length(&self) -> usize {
        self.architecture.context_length
    }

    /// The model itself.
    pub fn model(&self) -> &dyn Model {
        &*self.model
    }

    /// A sequence without tokens.
    pub fn new_sequence(&self) -> Sequence {
        let s = self.context_length();
        let kv_write = match self.place {
            Place::OneHot => KvWrite::OneHot(vec![0.0; s]),
            Place::Position => KvWrite::Position([0]),
        };
        Sequence {
            state: self.model.new_state(),
            position: 0,
            host: Host {
                embedding: vec![0.0; self.embeddings.n_embd()],
                attn_mask: vec![MASKED; s],
                kv_write,
                caches: HostCaches::new(&self.interface.host_caches, &self.architecture),
            },
        }
    }

    /// Makes a sequence one without tokens, as a [new one](Self::new_sequence) is.
    pub fn reset(&self, sequence: &mut Sequence) {
        self.model.reset(&mut sequence.state);
        sequence.host.caches.reset();
        sequence.position = 0;
    }

    /// Appends a token to a sequence and gives the logits of the next one, `[V]`.
    ///
    /// # Errors
    ///
    /// [`Error::ContextFull`] and [`Error::UnknownToken`]; the sequence is then as it was.
    pub fn decode<'s>(&self, token: u32, sequence: &'s mut Sequence) -> Result<&'s [f32]> {
        self.prepare(token, sequence)?;
        let Sequence { state, host, .. } = sequence;
        self.model.predict(&self.bind(host), state)?;
        self.advance(sequence);
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
        {
            let mut bound = Vec::with_capacity(sequences.len());
            let mut states = Vec::with_capacity(sequences.len());
            for sequence in &mut *sequences {
                let Sequence { state, host, .. } = &mut **sequence;
                bound.push(self.bind(host));
                states.push(state);
            }
            let inputs: Vec<&[(&str, TensorView<'_>)]> = bound.iter().map(SmallVec::as_slice).collect();
            self.model.default_function().predict_batch(&inputs, &mut states)?;
        }
        sequences.iter_mut().for_each(|sequence| self.advance(sequence));
        Ok(())
    }

    /// The logits of a sequence's last token, `[V]`; empty before the first.
    pub fn logits<'s>(&self, sequence: &'s Sequence) -> &'s [f32] {
        let logits = sequence.state.outputs().get(&self.interface.logits);
        logits.and_then(|tensor| tensor.as_f32()).unwrap_or_default()
    }

    /// The decode function's inputs for a token at the sequence's position, each by name: embedding sum, mask, where the new key
    /// and value go, and the caches that the host holds.
    ///
    /// # Errors
    ///
    /// [`Error::ContextFull`] and [`Error::UnknownToken`].
    pub fn inputs<'s>(
        &'s self,
        token: u32,
        sequence: &'s mut Sequence,
    ) -> Result<Vec<(&'s str, TensorView<'s>)>> {
        self.prepare(token, sequence)?;
        Ok(self.bind(&sequence.host).into_vec())
    }

    /// Fills in what the host computes for a token.
    fn prepare(&self, token: u32, sequence: &mut Sequence) -> Result<()> {
        let Sequence { position, host: Host { embedding, attn_mask, kv_write, .. }, .. } = sequence;
        let position = *position;
        self.embeddings.sum(token, position, embedding)?;
        let mask = attn_mask.iter_mut().enumerate();
        mask.for_each(|(i, mask)| *mask = if i <= position { 0.0 } else { MASKED });
        match kv_write {
            KvWrite::OneHot(write) => {
                let write = write.iter_mut().enumerate();
                write.for_each(|(i, write)| *write = f32::from(u8::from(i == position)));
            }
            // A context has 2^20 positions at most.
            KvWrite::Position(write) => *write = [position as i32],
        }
        Ok(())
    }

    fn bind<'s>(&'s self, host: &'s Host) -> Inputs<'s> {
        let view = |shape: &'s [usize], elements: Elements<'s>| {
            TensorView::new(shape, elements).expect("buffers have the shapes of the interface")
        };
        let DecodeInterface { embedding, attn_mask, kv_write, host_caches, .. } = &self.interface;
        let [x, mask] = &self.shapes;
        let write = match &host.kv_write {
            KvWrite::OneHot(write) => view(&self.one_hot, Elements::F32(write)),
            KvWrite::Position(write) => view(&[1], Elements::I32(write)),
        };
        let mut inputs = Inputs::new();
        inputs.push((embedding, view(x, Elements::F32(&host.embedding))));
        inputs.push((attn_mask, view(mask, Elements::F32(&host.attn_mask))));
        inputs.push((kv_write, write));
        inputs.extend(host_caches.iter().map(|names| names.cache.as_str()).zip(host.caches.views()));
        inputs
    }

    /// Ends a step: what the host holds takes in what it gave.
    fn advance(&self, sequence: &mut Sequence) {
        let Sequence { state, position, host } = sequence;
        host.caches.write(&self.interface.host_caches, state.outputs(), *position);
        *position += 1;
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

    /// The decode function's inputs for a token at the present position, as [`DecodeModel::inputs`] has them.
    ///
    /// # Errors
    ///
    /// [`Error::ContextFull`] and [`Error::UnknownToken`].
    pub fn inputs(&mut self, token: u32) -> Result<Vec<(&str, TensorView<'_>)>> {
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
        self.model.vocab_size()
    }

    fn context_length(&self) -> usize {
        self.model.context_length()
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
