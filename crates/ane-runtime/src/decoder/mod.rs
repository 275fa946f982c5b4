//! The decode loop: a bundle's decode function, and the sequences that it runs on.

mod host_cache;
mod interface;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ane_bundle::{Architecture, Bundle, DecodeInterface};
use smallvec::SmallVec;

use crate::embeddings::Embeddings;
use crate::engine::{Engine, LoadOptions, Model, State};
use crate::error::{Error, Result};
use crate::hazard::Hazard;
use crate::logits::LogitsSource;
use crate::tensor::{Elements, TensorView, Tensors};
use host_cache::HostCaches;
use interface::WriteEncoding;

/// Mask value of a position that must not be attended to. fp16 has no room for a much larger magnitude, and
/// -inf is not safe on the Neural Engine.
const MASKED: f32 = -1e4;

/// Inputs of a call by name. The inline capacity fits six layers whose caches the host holds.
type Inputs<'s> = SmallVec<[(&'s str, TensorView<'s>); 15]>;

/// A bundle loaded into an engine. Decodes any number of sequences, from any number of threads.
pub struct DecodeModel {
    /// Distinguishes the model's sequences from those of other models.
    id: u64,
    engine: String,
    model: Box<dyn Model>,
    embeddings: Embeddings,
    interface: DecodeInterface,
    architecture: Architecture,
    write_encoding: WriteEncoding,
    /// Shapes of the embedding sum and the mask.
    shapes: [[usize; 4]; 2],
    /// Shape of the one-hot input.
    one_hot: [usize; 4],
}

/// A sequence that a [`DecodeModel`] decodes: its state, or the caches that the host holds instead, and its
/// position.
pub struct Sequence {
    /// The model that the sequence belongs to.
    model: u64,
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

/// The input that tells the function where to write the new key and value.
enum KvWrite {
    OneHot(Vec<f32>),
    Position([i32; 1]),
}

impl DecodeModel {
    /// Loads a bundle into an engine.
    ///
    /// # Errors
    ///
    /// [`Error::BundlePart`] if the bundle's parts do not match each other; whatever error the engine returns.
    pub fn load(bundle: &Bundle, engine: &dyn Engine) -> Result<Self> {
        Self::load_with(bundle, engine, false)
    }

    /// Loads a bundle as [`load`](Self::load) does, and watches for [hazards](Sequence::hazards).
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load).
    pub fn load_watched(bundle: &Bundle, engine: &dyn Engine) -> Result<Self> {
        Self::load_with(bundle, engine, true)
    }

    fn load_with(bundle: &Bundle, engine: &dyn Engine, hazards: bool) -> Result<Self> {
        let manifest = bundle.manifest();
        let bad = |what: &str, reason: String| Error::BundlePart {
            path: bundle.path().to_owned(),
            what: what.to_owned(),
            reason,
            source: None,
        };
        let [shard] = manifest.shards.as_slice() else {
            let reason = format!("{} of them, this version runs bundles of one", manifest.shards.len());
            return Err(bad("shards", reason));
        };
        let embeddings = Embeddings::from_bundle(bundle)?;
        let package = bundle.package(shard)?;
        let options = LoadOptions::default().with_functions([&shard.function]).with_hazards(hazards);
        let model = engine.load(&package, &options)?;
        let write_encoding =
            interface::check(manifest, model.describe()).map_err(|(what, reason)| bad(&what, reason))?;
        let s = manifest.architecture.context_length;
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        Ok(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            engine: engine.name().to_owned(),
            model,
            shapes: [[1, embeddings.n_embd(), 1, 1], [1, 1, 1, s]],
            one_hot: [1, 1, s, 1],
            embeddings,
            interface: manifest.interface.clone(),
            architecture: manifest.architecture.clone(),
            write_encoding,
        })
    }

    /// Returns the number of tokens in the vocabulary (V).
    pub fn vocab_size(&self) -> usize {
        self.architecture.vocab_size
    }

    /// Returns the largest number of tokens in a sequence (S).
    pub fn context_length(&self) -> usize {
        self.architecture.context_length
    }

    /// Returns the loaded model.
    pub fn model(&self) -> &dyn Model {
        &*self.model
    }

    /// Creates a sequence without tokens.
    pub fn new_sequence(&self) -> Sequence {
        let s = self.context_length();
        let kv_write = match self.write_encoding {
            WriteEncoding::OneHot => KvWrite::OneHot(vec![0.0; s]),
            WriteEncoding::Position => KvWrite::Position([0]),
        };
        Sequence {
            model: self.id,
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

    /// Removes all tokens from a sequence, which is then like a [new one](Self::new_sequence). A sequence of
    /// another model is replaced.
    pub fn reset(&self, sequence: &mut Sequence) {
        if sequence.model != self.id {
            *sequence = self.new_sequence();
            return;
        }
        self.model.reset(&mut sequence.state);
        sequence.host.caches.reset();
        sequence.position = 0;
    }

    /// Appends a token to a sequence and returns the logits of the next one, `[V]`.
    ///
    /// # Errors
    ///
    /// [`Error::ForeignSequence`], [`Error::ContextFull`] and [`Error::UnknownToken`], which leave the sequence
    /// unchanged; whatever error the engine returns; [`Error::Engine`] if its results do not have the shapes of
    /// the function's outputs.
    pub fn decode<'s>(&self, token: u32, sequence: &'s mut Sequence) -> Result<&'s [f32]> {
        self.prepare(token, sequence)?;
        let Sequence { state, host, .. } = sequence;
        self.model.predict(&self.bind(host), state)?;
        self.advance(sequence)?;
        Ok(self.logits(sequence))
    }

    /// Appends a token to each of several sequences, with one pass over the weights for all of them.
    ///
    /// The results are the same as those of separate calls of [`decode`](Self::decode). Read them with
    /// [`logits`](Self::logits).
    ///
    /// # Errors
    ///
    /// As for [`decode`](Self::decode). [`Error::ForeignSequence`], [`Error::ContextFull`] and
    /// [`Error::UnknownToken`] are returned before any sequence is run.
    ///
    /// # Panics
    ///
    /// Panics if the numbers of tokens and sequences differ.
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
        sequences.iter_mut().try_for_each(|sequence| self.advance(sequence))
    }

    /// Returns the logits after a sequence's last token, `[V]`; empty before the first token, and for a sequence of
    /// another model.
    pub fn logits<'s>(&self, sequence: &'s Sequence) -> &'s [f32] {
        let own = (sequence.model == self.id).then(|| sequence.state.outputs());
        let logits = own.and_then(|outputs| outputs.get(&self.interface.logits));
        logits.and_then(|tensor| tensor.as_f32()).unwrap_or_default()
    }

    /// Returns the decode function's inputs for a token at the sequence's position, by name: embedding sum,
    /// mask, write position of the new key and value, and the caches that the host holds.
    ///
    /// # Errors
    ///
    /// [`Error::ForeignSequence`], [`Error::ContextFull`] and [`Error::UnknownToken`].
    pub fn inputs<'s>(
        &'s self,
        token: u32,
        sequence: &'s mut Sequence,
    ) -> Result<Vec<(&'s str, TensorView<'s>)>> {
        self.prepare(token, sequence)?;
        Ok(self.bind(&sequence.host).into_vec())
    }

    /// Computes the host's inputs for a token.
    fn prepare(&self, token: u32, sequence: &mut Sequence) -> Result<()> {
        if sequence.model != self.id {
            return Err(Error::ForeignSequence);
        }
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
            // A context has at most 2^20 positions.
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

    /// Ends a step: writes the new keys and values to the caches that the host holds.
    fn advance(&self, sequence: &mut Sequence) -> Result<()> {
        let Sequence { state, position, host, .. } = sequence;
        let wrong = |output: &str, expected: usize| Error::Engine {
            engine: self.engine.clone(),
            output: output.to_owned(),
            reason: format!("expected {expected} floats, found {}", found(state.outputs(), output)),
        };
        let DecodeInterface { logits, host_caches, .. } = &self.interface;
        let floats = |name: &str| state.outputs().get(name).and_then(|tensor| tensor.as_f32());
        if floats(logits).is_none_or(|logits| logits.len() != self.vocab_size()) {
            return Err(wrong(logits, self.vocab_size()));
        }
        host.caches
            .write(host_caches, state.outputs(), *position)
            .map_err(|name| wrong(name, self.width()))?;
        *position += 1;
        Ok(())
    }

    /// Returns the number of elements of a new key or value, C.
    fn width(&self) -> usize {
        self.architecture.n_embd
    }
}

/// Describes an output for an error.
fn found(outputs: &Tensors, name: &str) -> String {
    outputs.get(name).map_or_else(|| "no tensor".to_owned(), ToString::to_string)
}

impl Sequence {
    /// Returns the number of tokens so far.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Returns the fp16 hazards, if the model was [loaded to watch for them](DecodeModel::load_watched).
    pub fn hazards(&self) -> &[Hazard] {
        self.state.hazards()
    }
}

/// A [`DecodeModel`] with one sequence.
pub struct Decoder {
    model: Arc<DecodeModel>,
    sequence: Sequence,
}

impl Decoder {
    /// Loads a bundle into an engine.
    ///
    /// # Errors
    ///
    /// As for [`DecodeModel::load`].
    pub fn load(bundle: &Bundle, engine: &dyn Engine) -> Result<Self> {
        Ok(Self::new(Arc::new(DecodeModel::load(bundle, engine)?)))
    }

    /// Creates a decoder with a new sequence.
    pub fn new(model: Arc<DecodeModel>) -> Self {
        let sequence = model.new_sequence();
        Self { model, sequence }
    }

    /// Returns the decode function's inputs for a token at the current position; see [`DecodeModel::inputs`].
    ///
    /// # Errors
    ///
    /// [`Error::ContextFull`] and [`Error::UnknownToken`].
    pub fn inputs(&mut self, token: u32) -> Result<Vec<(&str, TensorView<'_>)>> {
        self.model.inputs(token, &mut self.sequence)
    }

    /// Returns the sequence.
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
        // The mask hides old cache contents until they are overwritten; zeros make a dump readable.
        self.model.reset(&mut self.sequence);
    }

    fn step(&mut self, token: u32) -> Result<&[f32]> {
        self.model.decode(token, &mut self.sequence)
    }
}
