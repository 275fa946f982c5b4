//! An engine outside the crate that defines the traits: it decodes a bundle, and its mistakes are errors.

use std::path::Path;
use std::sync::Arc;

use ane_bundle::Bundle;
use ane_export::{CacheUpdate, ExportOptions, export};
use ane_runtime::{
    Data, DecodeModel, Decoder, Engine, Error, FinishReason, Generation, LoadOptions, LogitsSource as _,
    MilCpu, Model, ModelFunction, Numerics, Result, Sampler, Sampling, State, StateParts, Tensor, TensorView,
    Tensors, TextTokenizer,
};
use microgpt_model::{Checkpoint, GptConfig, INIT_STD, Preset, Tokenizer, Weights};
use mlpackage::{DType, Interface, Package};

/// What the engine does wrong.
#[derive(Clone, Copy, PartialEq)]
enum Mistake {
    None,
    NoLogits,
    ShortLogits,
    NoNewKey,
}

/// An engine that ignores the program: the n-th call of a sequence makes token n the most likely one.
struct Counting(Mistake);

struct CountingModel {
    mistake: Mistake,
    interface: Interface,
    name: String,
}

/// Number of calls of a sequence.
struct Calls(usize);

impl Engine for Counting {
    fn name(&self) -> &str {
        "counting"
    }

    fn load(&self, package: &Package, options: &LoadOptions) -> Result<Box<dyn Model>> {
        let name = options.functions_of(package).remove(0);
        let interface = Interface::of(package.function(&name)?);
        Ok(Box::new(CountingModel { mistake: self.0, interface, name }))
    }
}

impl Model for CountingModel {
    fn functions(&self) -> Vec<&dyn ModelFunction> {
        vec![self]
    }

    fn new_state(&self) -> State {
        State::new(Calls(0), 1)
    }

    fn default_function(&self) -> &dyn ModelFunction {
        self
    }
}

impl ModelFunction for CountingModel {
    fn name(&self) -> &str {
        &self.name
    }

    fn describe(&self) -> &Interface {
        &self.interface
    }

    fn predict<'s>(&self, inputs: &[(&str, TensorView<'_>)], state: &'s mut State) -> Result<&'s Tensors> {
        assert_eq!(inputs.len(), self.interface.inputs.len());
        let StateParts { memory: Calls(calls), outputs, .. } = state.begin(0, |_: &Calls| true)?;
        let outputs_of = |feature: &mlpackage::Feature| {
            let ty = feature.tensor().unwrap();
            let shape = ty.shape.known().unwrap();
            let mut values = vec![0.0; shape.elements()];
            if feature.name == "logits" {
                values[*calls % shape.elements()] = 1.0;
            }
            let shape = match self.mistake {
                Mistake::ShortLogits if feature.name == "logits" => {
                    values.truncate(3);
                    vec![1, 3, 1, 1]
                }
                _ => shape.dims().to_vec(),
            };
            let left_out = match self.mistake {
                Mistake::NoLogits => feature.name == "logits",
                Mistake::NoNewKey => feature.name == "k_new_0",
                _ => false,
            };
            (!left_out)
                .then(|| (feature.name.clone(), Tensor::with_dtype(DType::Fp16, shape, values).unwrap()))
        };
        *outputs = self.interface.outputs.iter().filter_map(outputs_of).collect();
        *calls += 1;
        Ok(outputs)
    }
}

fn bundle(dir: &Path, cache_update: CacheUpdate) -> Bundle {
    let tokenizer = Tokenizer::characters(&["abcdefghijklmnopqrstuvwxyz"]);
    let config = GptConfig::preset(Preset::Original, tokenizer.vocab_size());
    let path = dir.join("checkpoint");
    Checkpoint::write(&path, &config, &tokenizer, &Weights::random(&config, INIT_STD, 1), None).unwrap();
    let out = dir.join("bundle");
    let options = ExportOptions::default().with_cache_update(cache_update);
    export(&Checkpoint::open(&path).unwrap(), &out, &options).unwrap().publish().unwrap();
    Bundle::open(&out).unwrap()
}

#[test]
fn an_engine_of_another_crate_generates_text() {
    let dir = tempfile::tempdir().unwrap();
    for cache_update in [CacheUpdate::OneHot, CacheUpdate::Host] {
        let bundle = bundle(&dir.path().join(cache_update.name()), cache_update);
        let tokenizer = TextTokenizer::from_bundle(&bundle).unwrap();
        let mut decoder = Decoder::load(&bundle, &Counting(Mistake::None)).unwrap();
        assert_eq!(decoder.name(), "counting");
        let mut sampler = Sampler::new(Sampling::Greedy, 0).unwrap();
        // Each call counts up: BOS is the first of them, and the prompt takes two.
        let mut generation = Generation::new(&mut decoder, &tokenizer, &mut sampler, "zz", 4).unwrap();
        let text: String = generation.by_ref().map(Result::unwrap).collect();
        assert_eq!((text.as_str(), generation.finished()), ("cdef", Some(FinishReason::Limit)));
    }
}

#[test]
fn an_engine_that_breaks_its_promise_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = bundle(dir.path(), CacheUpdate::Host);
    let cases = [
        (Mistake::NoLogits, "counting: output logits: expected 27 floats, found no tensor"),
        (
            Mistake::ShortLogits,
            "counting: output logits: expected 27 floats, found tensor<fp16, [1, 3, 1, 1]>",
        ),
        (Mistake::NoNewKey, "counting: output k_new_0: expected 16 floats, found no tensor"),
    ];
    for (mistake, expected) in cases {
        let model = DecodeModel::load(&bundle, &Counting(mistake)).unwrap();
        let mut sequence = model.new_sequence();
        assert_eq!(model.decode(0, &mut sequence).unwrap_err().to_string(), expected);
        assert_eq!(sequence.position(), 0);
    }
}

/// A sequence of another model is an error in every call, and leaves it as it was.
#[test]
fn a_foreign_sequence_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = bundle(dir.path(), CacheUpdate::OneHot);
    let own = Arc::new(DecodeModel::load(&bundle, &MilCpu::new(Numerics::F32)).unwrap());
    let other = DecodeModel::load(&bundle, &Counting(Mistake::None)).unwrap();
    let mut foreign = other.new_sequence();
    other.decode(1, &mut foreign).unwrap();

    assert!(matches!(own.decode(0, &mut foreign), Err(Error::ForeignSequence)));
    assert!(matches!(own.inputs(0, &mut foreign), Err(Error::ForeignSequence)));
    let mut first = own.new_sequence();
    let batch = own.decode_batch(&[0, 0], &mut [&mut first, &mut foreign]);
    assert!(matches!(batch, Err(Error::ForeignSequence)));
    assert_eq!((first.position(), foreign.position()), (0, 1), "nothing has run");
    assert!(own.logits(&foreign).is_empty() && !other.logits(&foreign).is_empty());

    own.reset(&mut foreign);
    assert_eq!(foreign.position(), 0);
    assert_eq!(own.decode(0, &mut foreign).unwrap().len(), 27);
}

/// A state of another engine, or of a model with fewer functions, is refused; the state is unchanged.
#[test]
fn a_foreign_state_is_refused() {
    let mut state = State::new(Calls(3), 1);
    assert!(matches!(state.begin(0, |_: &String| true), Err(Error::ForeignState)));
    assert!(matches!(state.begin(0, |calls: &Calls| calls.0 == 4), Err(Error::ForeignState)));
    assert!(matches!(state.begin(1, |_: &Calls| true), Err(Error::ForeignState)));
    assert_eq!(state.memory_mut::<Calls>().unwrap().0, 3);
    let parts = state.begin(0, |calls: &Calls| calls.0 == 3).unwrap();
    *parts.outputs = [("y", Tensor::new([1], Data::from(vec![1])).unwrap())].into_iter().collect();
    assert_eq!(state.outputs()["y"].as_i32(), Some(&[1][..]));
    state.clear();
    assert!(state.outputs().is_empty());
}
