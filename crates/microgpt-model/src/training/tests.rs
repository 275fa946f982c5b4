//! Tests of training on models that train in seconds.

use std::ops::ControlFlow;

use super::*;
use crate::batch::Batch;
use crate::config::Preset;
use crate::corpus::Layout;
use crate::device::Backend;
use crate::dropout::Dropout;
use crate::error::Error;
use crate::examples::Examples;
use crate::model::Gpt;
use crate::weights::{INIT_STD, Weights};

fn config(vocab_size: usize) -> GptConfig {
    GptConfig::preset(Preset::Original, vocab_size)
}

fn quick(backend: Backend) -> TrainingConfig {
    TrainingConfig { steps: 60, batch_size: 4, backend, ..TrainingConfig::preset(Preset::Original) }
}

fn trainer(training: TrainingConfig) -> Trainer {
    let corpus = Corpus::built_in();
    let tokenizer = Tokenizer::characters(corpus.documents());
    Trainer::new(&corpus, config(27), tokenizer, None, training).unwrap()
}

#[test]
fn learns_and_repeats_to_the_bit_on_every_backend() {
    let corpus = Corpus::built_in();
    for &backend in Backend::ALL {
        let mut steps = 0;
        let trained = train(&corpus, config, &quick(backend), |p| {
            steps += usize::from(matches!(p, Progress::Step(_)));
        });
        let trained = trained.unwrap();
        assert_eq!(steps, 60);
        // A uniform guess costs ln 27 = 3.296; 60 steps of four names reach about 2.7.
        let first = trained.report.history[0].loss;
        assert!((3.0..4.0).contains(&first), "{backend}: {first}");
        assert!(trained.report.train_loss < 3.0, "{backend}: {}", trained.report.train_loss);
        let held_out = trained.report.held_out_loss.unwrap();
        assert!((2.0..3.0).contains(&held_out), "{backend}: {held_out}");
        let again = train(&corpus, config, &quick(backend), |_| {}).unwrap();
        assert_eq!(trained.weights, again.weights, "{backend}");
        assert_eq!(trained.report.history, again.report.history, "{backend}");
    }
}

/// Neither padding nor a neighbour in the same row may contribute: the loss of a batch is the sum over its
/// documents.
#[test]
fn loss_of_a_batch_is_the_mean_over_its_predictions() {
    let tokenizer = Tokenizer::characters(&["abcdefghijklmnopqrstuvwxyz"]);
    let config = config(27);
    let device = Backend::default().device();
    let model = Gpt::new(&config, &Weights::random(&config, INIT_STD, 1), &device);
    // Nine documents: some share a row, and one row is padded.
    let names: Vec<String> =
        ["ann", "maximilian", "jo", "wilhelmina", "bartholomew", "christopher", "o", "evangeline", "al"]
            .map(str::to_owned)
            .into();
    let examples = Examples::new(&names, Layout::Lines, &tokenizer, config.block_size).unwrap();
    let loss = |examples: &[&[u32]]| {
        let batch = Batch::new(examples, &device);
        f64::from(loss::summed(&model, &batch, &mut Dropout::none()).into_scalar::<f32>())
    };
    let alone: f64 = examples.iter().map(|e| loss(&[e])).sum();
    let together = loss(&examples.iter().collect::<Vec<_>>());
    // Both are f32 sums of 64 terms of about 3.3.
    assert!((together - alone).abs() < 1e-4, "{together} against {alone}");
    let mean = alone / examples.predictions() as f64;
    let evaluated = f64::from(loss::evaluate(&model, &examples, &device, |_, _| {}).unwrap());
    assert!((evaluated - mean).abs() < 1e-5, "{evaluated} against {mean}");
}

/// A large batch computed in parts, or shared among devices, gives the same step.
#[test]
fn a_batch_in_parts_and_on_several_devices_trains_the_same() {
    let whole = TrainingConfig { steps: 20, batch_size: 12, ..quick(Backend::default()) };
    let run = |mut trainer: Trainer| (0..20).map(|_| trainer.step().unwrap().loss).collect::<Vec<f32>>();
    let expected = run(trainer(whole.clone()));
    let in_parts = run(trainer(TrainingConfig { accumulate: 5, ..whole.clone() }));
    // The CPU is one device; several handles to it take the code path of several devices. Of five, one has
    // nothing to do.
    let [by_two, by_five] = [2, 5].map(|devices| {
        let mut trainer = trainer(whole.clone());
        trainer.devices = vec![Backend::default().device().autodiff(); devices];
        run(trainer)
    });
    for losses in [in_parts, by_two, by_five] {
        assert_eq!(losses.len(), expected.len());
        for (loss, expected) in losses.iter().zip(&expected) {
            // f32 sums in another order; training amplifies the difference from step to step.
            assert!((loss - expected).abs() < 1e-4, "{loss} against {expected}");
        }
    }
}

#[test]
fn a_run_that_diverges_says_so() {
    // Attention multiplies by two weights of about 1e15 and the head by a third, so the logits overflow f32
    // at once.
    let training = TrainingConfig { init_std: 1e15, ..TrainingConfig::preset(Preset::Original) };
    let error = train(&Corpus::built_in(), config, &training, |_| {}).unwrap_err();
    assert!(matches!(error, Error::Diverged { step: 1, .. }), "{error}");
}

/// The last step's update overflows, and no later loss shows it.
#[test]
fn weights_that_are_not_finite_are_no_result() {
    for held_out in [0.0, 0.1] {
        let training = TrainingConfig {
            steps: 1,
            init_std: 1e8,
            weight_decay: 0.5,
            held_out,
            ..TrainingConfig::preset(Preset::Original)
        };
        let mut trainer = trainer(training);
        trainer.step().unwrap();
        let weights = Weights::from_fn(&trainer.config, |_, elements| vec![f32::NAN; elements]);
        trainer.model = Some(Gpt::new(&trainer.config, &weights, &trainer.devices[0]));
        let error = trainer.run(None, |_, _| ControlFlow::Continue(())).unwrap_err();
        assert!(matches!(error, Error::Diverged { step: 1, .. }), "{error}");
    }
}

#[test]
fn a_context_beyond_memory_is_refused() {
    let text = "abcdefgh".repeat(60_000);
    let corpus = Corpus::from_text("long", &text, Layout::Packed).unwrap();
    let tokenizer = Tokenizer::characters(corpus.documents());
    let config = GptConfig { block_size: 400_000, ..config(tokenizer.vocab_size()) };
    let training = TrainingConfig { held_out: 0.1, ..TrainingConfig::preset(Preset::Original) };
    let error = Trainer::new(&corpus, config, tokenizer, None, training).unwrap_err().to_string();
    // 3 copies in 4 heads and a mask, each of 400,000^2 floats, are 8 TB. Only Linux reports the free memory.
    assert!(!cfg!(target_os = "linux") || error.contains("block_size"), "{error}");
}

#[test]
fn keeps_the_best_and_stops_when_it_is_past() {
    // A learning rate at which the model soon gets worse.
    let training = TrainingConfig {
        steps: 400,
        learning_rate: 0.5,
        evaluate_every: 10,
        keep_best: true,
        patience: 3,
        schedule: Schedule::Constant,
        ..quick(Backend::default())
    };
    let trained = train(&Corpus::built_in(), config, &training, |_| {}).unwrap();
    let report = &trained.report;
    assert!(report.steps < 400, "{}", report.steps);
    let best = report.evaluations.iter().min_by(|a, b| a.loss.total_cmp(&b.loss)).unwrap();
    assert_eq!((report.kept_step, report.held_out_loss), (best.step, Some(best.loss)));
    assert_eq!(report.steps, best.step + 30, "three evaluations later");
    let device = Backend::default().device();
    let model = Gpt::new(&trained.config, &trained.weights, &device);
    let split = Corpus::built_in().split(0.1, Some(42)).unwrap();
    let held_out = Examples::new(&split.held_out, Layout::Lines, &trained.tokenizer, 16).unwrap();
    let again = loss::evaluate(&model, &held_out, &device, |_, _| {}).unwrap();
    assert_eq!(again, best.loss, "the weights are those of that evaluation");
}

#[test]
fn running_text_and_byte_pairs_train() {
    let text = "the quick brown fox jumps over the lazy dog.\n".repeat(60);
    let corpus = Corpus::from_text("fox", &text, Layout::Packed).unwrap();
    let tokenizer = Tokenizer::byte_pairs(corpus.documents(), 300).unwrap();
    let config = config(tokenizer.vocab_size());
    let training = TrainingConfig { steps: 150, ..quick(Backend::default()) };
    let trainer = Trainer::new(&corpus, config, tokenizer, None, training).unwrap();
    let Ended::Trained(trained) = trainer.run(None, |_, _| ControlFlow::Continue(())).unwrap() else {
        panic!()
    };
    // The text repeats itself: the loss starts at ln 300 = 5.7, and little is left to guess.
    assert!(trained.report.history[0].loss > 5.0, "{}", trained.report.history[0].loss);
    assert!(trained.report.held_out_loss.unwrap() < 1.0, "{:?}", trained.report.held_out_loss);
}

#[test]
fn options_that_make_no_sense_are_named() {
    let corpus = Corpus::built_in();
    let preset = TrainingConfig::preset(Preset::Original);
    let cases = [
        ("steps", TrainingConfig { steps: 0, ..preset.clone() }),
        ("batch_size", TrainingConfig { batch_size: 0, ..preset.clone() }),
        ("accumulate", TrainingConfig { accumulate: 2, ..preset.clone() }),
        ("learning_rate", TrainingConfig { learning_rate: f64::NAN, ..preset.clone() }),
        ("warmup", TrainingConfig { warmup: 1001, ..preset.clone() }),
        ("weight_decay", TrainingConfig { weight_decay: -0.1, ..preset.clone() }),
        ("dropout", TrainingConfig { dropout: 1.0, ..preset.clone() }),
        ("clip_norm", TrainingConfig { clip_norm: Some(0.0), ..preset.clone() }),
        ("held_out", TrainingConfig { held_out: 1.0, ..preset.clone() }),
        ("init_std", TrainingConfig { init_std: -0.1, ..preset.clone() }),
        ("keep_best", TrainingConfig { keep_best: true, ..preset.clone() }),
        ("patience", TrainingConfig { patience: 1, ..preset.clone() }),
        ("devices", TrainingConfig { devices: 2, ..preset }),
    ];
    for (option, case) in cases {
        let error = train(&corpus, config, &case, |_| {}).unwrap_err().to_string();
        assert!(error.contains(option), "{error}");
    }
}
