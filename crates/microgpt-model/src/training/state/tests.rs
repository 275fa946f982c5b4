//! Every stop, and every damage that a state may come to.

use std::ops::ControlFlow;

use super::super::{Ended, Progress, Trained};
use super::*;
use crate::config::{GptConfig, Preset};
use crate::tokenizer::Tokenizer;

/// A recipe with everything that a state has to keep.
fn training() -> TrainingConfig {
    TrainingConfig {
        steps: 40,
        batch_size: 6,
        accumulate: 2,
        dropout: 0.1,
        weight_decay: 0.1,
        clip_norm: Some(1.0),
        evaluate_every: 7,
        keep_best: true,
        ..TrainingConfig::preset(Preset::Original)
    }
}

fn begin() -> Trainer {
    let corpus = Corpus::built_in();
    let tokenizer = Tokenizer::characters(corpus.documents());
    let config = GptConfig::preset(Preset::Original, 27);
    Trainer::new(&corpus, config, tokenizer, None, training()).unwrap()
}

fn save_to(folder: &Path, steps: usize) -> super::super::SaveTo {
    super::super::SaveTo { folder: folder.to_owned(), every: SaveEvery::Steps(steps) }
}

fn to_the_end(trainer: Trainer, save: Option<&super::super::SaveTo>) -> Trained {
    match trainer.run(save, |_, _| ControlFlow::Continue(())).unwrap() {
        Ended::Trained(trained) => *trained,
        Ended::Stopped { step } => panic!("stopped at {step}"),
    }
}

/// Trains until so many steps are done, saving every three.
fn interrupted(folder: &Path, steps: usize) {
    let mut trainer = begin();
    while trainer.step_count() < steps {
        trainer.step().unwrap();
        if trainer.evaluation_is_due() {
            trainer.evaluate(&mut |_, _| ControlFlow::Continue(())).unwrap();
        }
        if trainer.step_count().is_multiple_of(3) {
            trainer.save(folder).unwrap();
        }
    }
}

#[test]
fn goes_on_to_the_bit() {
    let expected = to_the_end(begin(), None);
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("ckpt");
    interrupted(&folder, 14);
    // Twice, as a run that is resumed is saved and stopped again.
    for (done, further) in [(12, 9), (21, 40)] {
        let Resumed { mut trainer, skipped } = Trainer::resume(&folder, None).unwrap();
        assert!(skipped.is_empty());
        assert_eq!(trainer.step_count(), done);
        if further == 40 {
            let trained = to_the_end(trainer, Some(&save_to(&folder, 3)));
            assert_eq!(trained.weights, expected.weights);
            assert_eq!(trained.report.history, expected.report.history);
            assert_eq!(trained.report.evaluations, expected.report.evaluations);
            assert_eq!(trained.report.kept_step, expected.report.kept_step);
            break;
        }
        for _ in 0..further {
            trainer.step().unwrap();
            if trainer.evaluation_is_due() {
                trainer.evaluate(&mut |_, _| ControlFlow::Continue(())).unwrap();
            }
        }
        trainer.save(&folder).unwrap();
    }
    let left: Vec<usize> = states(&folder).unwrap().into_iter().map(|(step, _)| step).collect();
    assert_eq!(left, [39, 36], "the newest two");
}

#[test]
fn a_state_is_a_checkpoint_and_the_folder_says_that_it_is_not_finished() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("ckpt");
    interrupted(&folder, 3);
    assert_eq!(Checkpoint::open(&folder.join("training/step-000003")).unwrap().config().n_embd, 16);
    let error = Checkpoint::open(&folder).unwrap_err().to_string();
    assert!(error.contains("its training is not finished"), "{error}");
}

#[test]
fn a_damaged_state_is_named_and_the_one_before_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["model.safetensors", OPTIMIZER, METRICS, "config.json", "tokenizer.json", STATE] {
        let folder = dir.path().join(name);
        interrupted(&folder, 6);
        let path = folder.join("training/step-000006").join(name);
        let mut bytes = fs::read(&path).unwrap();
        // A digit, a letter or a bit of a weight.
        let middle = (bytes.len() / 2..).find(|&i| bytes[i].is_ascii_alphanumeric()).unwrap();
        bytes[middle] ^= 0x01;
        fs::write(&path, &bytes).unwrap();
        let Resumed { trainer, skipped } = Trainer::resume(&folder, None).unwrap();
        assert_eq!(trainer.step_count(), 3, "{name}");
        assert_eq!(skipped.len(), 1);
        assert!(skipped[0].error.to_string().contains(name), "{name}: {}", skipped[0].error);
        drop(trainer);
        for gone in ["training/step-000006", "training/step-000003"] {
            fs::remove_file(folder.join(gone).join(name)).unwrap();
        }
        let error = Trainer::resume(&folder, None).unwrap_err().to_string();
        assert!(error.contains("no state of it is whole") && error.contains(name), "{error}");
    }
}

#[test]
fn there_is_nothing_to_go_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("ckpt");
    assert!(Trainer::resume(&folder, None).unwrap_err().to_string().contains("no such folder"));
    fs::create_dir(&folder).unwrap();
    assert!(Trainer::resume(&folder, None).unwrap_err().to_string().contains("has no state"));
    let trained = to_the_end(begin(), None);
    Checkpoint::write(&folder, &trained.config, &trained.tokenizer, &trained.weights, Some(&trained.report))
        .unwrap();
    assert!(Trainer::resume(&folder, None).unwrap_err().to_string().contains("its training is finished"));
}

#[test]
fn a_text_that_was_changed_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, text) = (dir.path().join("ckpt"), dir.path().join("names.txt"));
    fs::write(&text, "ada\nbob\ncy\n").unwrap();
    let corpus = Corpus::from_file(&text, Layout::Lines).unwrap();
    let tokenizer = Tokenizer::characters(corpus.documents());
    let config = GptConfig::preset(Preset::Original, tokenizer.vocab_size());
    let training = TrainingConfig { held_out: 0.0, ..TrainingConfig::preset(Preset::Original) };
    let mut trainer = Trainer::new(&corpus, config, tokenizer, None, training).unwrap();
    trainer.step().unwrap();
    trainer.save(&folder).unwrap();
    drop(trainer);
    assert_eq!(Trainer::resume(&folder, None).unwrap().trainer.step_count(), 1);
    fs::write(&text, "ada\nbob\ncya\n").unwrap();
    assert!(Trainer::resume(&folder, None).unwrap_err().to_string().contains("it was changed"));
    let moved = dir.path().join("moved.txt");
    fs::write(&moved, "ada\nbob\ncy\n").unwrap();
    fs::remove_file(&text).unwrap();
    let error = Trainer::resume(&folder, None).unwrap_err().to_string();
    assert!(error.contains("names.txt") && error.contains("cannot be read"), "{error}");
    assert_eq!(Trainer::resume(&folder, Some(&moved)).unwrap().trainer.step_count(), 1);
}

#[test]
fn what_stood_there_is_untouched_until_there_is_a_state() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("ckpt");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("thesis.tex"), "").unwrap();
    let mut trainer = begin();
    trainer.step().unwrap();
    assert!(matches!(trainer.save(&folder), Err(Error::Occupied { .. })));
    assert!(folder.join("thesis.tex").is_file());
}

#[test]
fn a_run_that_is_asked_to_stop_is_saved_there() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("ckpt");
    let ended = begin().run(Some(&save_to(&folder, 1_000)), |_, told| match told {
        Progress::Step(metrics) if metrics.step == 11 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    assert!(matches!(ended.unwrap(), Ended::Stopped { step: 11 }));
    let resumed = Trainer::resume(&folder, None).unwrap().trainer;
    assert_eq!(resumed.step_count(), 11);
    assert_eq!(to_the_end(resumed, None).weights, to_the_end(begin(), None).weights);
}

#[test]
fn damaged_states_beyond_never_push_out_the_good_one() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("ckpt");
    interrupted(&folder, 6);
    for step in ["step-008000", "step-009000"] {
        fs::create_dir(folder.join("training").join(step)).unwrap();
    }
    let Resumed { mut trainer, skipped } = Trainer::resume(&folder, None).unwrap();
    assert_eq!((trainer.step_count(), skipped.len()), (6, 2));
    trainer.step().unwrap();
    trainer.save(&folder).unwrap();
    let left: Vec<usize> = states(&folder).unwrap().into_iter().map(|(step, _)| step).collect();
    assert_eq!(left, [7, 6]);
}

#[test]
fn two_runs_do_not_share_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("ckpt");
    interrupted(&folder, 3);
    let first = Trainer::resume(&folder, None).unwrap();
    let error = Trainer::resume(&folder, None).unwrap_err().to_string();
    assert!(error.contains("another process trains there"), "{error}");
    drop(first);
    Trainer::resume(&folder, None).unwrap();
    let mut other = begin();
    other.step().unwrap();
    let error = other.save(&folder).unwrap_err().to_string();
    assert!(error.contains("holds a run that is not finished"), "{error}");
}

#[test]
fn a_link_to_a_run_is_the_run_and_what_could_not_be_replaced_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("ckpt");
    interrupted(&folder, 3);
    #[cfg(unix)]
    {
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        let mut trainer = Trainer::resume(&link, None).unwrap().trainer;
        trainer.step().unwrap();
        trainer.save(&link).unwrap();
        assert!(folder.join("training/step-000004").is_dir());
    }
    fs::write(folder.join("notes.txt"), "").unwrap();
    let error = Trainer::resume(&folder, None).unwrap_err().to_string();
    assert!(error.contains("notes.txt"), "{error}");
}

/// Thirty thousand evaluations are 2 MB.
#[test]
fn states_with_many_evaluations_are_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("ckpt");
    let mut trainer = begin();
    trainer.step().unwrap();
    trainer.evaluations = vec![Evaluation { step: 1, loss: 2.345_678 }; 30_000];
    trainer.save(&folder).unwrap();
    assert!(fs::metadata(folder.join("training/step-000001/state.json")).unwrap().len() > 1 << 20);
    drop(trainer);
    assert_eq!(Trainer::resume(&folder, None).unwrap().trainer.evaluations.len(), 30_000);
}
