//! Tests of stopping, resuming and damaged states.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use super::state::*;
use super::*;
use crate::checkpoint::Checkpoint;
use crate::config::{GptConfig, Preset};
use crate::corpus::Layout;
use crate::error::Error;
use crate::tokenizer::Tokenizer;
use crate::weights::Weights;

/// Returns a recipe that exercises everything a state has to keep.
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

fn save_to(folder: &Path, steps: usize) -> SaveTo {
    SaveTo { folder: folder.to_owned(), every: SaveEvery::Steps(steps) }
}

fn to_the_end(trainer: Trainer, save: Option<&SaveTo>) -> Trained {
    match trainer.run(save, |_, _| ControlFlow::Continue(())).unwrap() {
        Ended::Trained(trained) => *trained,
        Ended::Stopped { step } => panic!("stopped at {step}"),
    }
}

/// Trains for `steps` steps, saving after every third one.
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
    // Twice, because a resumed run is itself saved and stopped again.
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
    assert_eq!(Checkpoint::open(folder.join("training/step-000003")).unwrap().config().n_embd, 16);
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
        // The flipped bit is in a digit, a letter or a weight.
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
        assert!(error.contains("none of its states is intact") && error.contains(name), "{error}");
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
    assert!(matches!(trainer.save(&folder), Err(Error::Output(_))));
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

/// An old state with a file of the user's is kept, though newer ones are there.
#[test]
fn a_state_with_a_file_of_the_users_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("ckpt");
    let mut trainer = begin();
    for step in 1..=4 {
        trainer.step().unwrap();
        trainer.save(&folder).unwrap();
        if step == 1 {
            fs::write(folder.join("training/step-000001/notes.txt"), "").unwrap();
        }
    }
    let left: Vec<usize> = states(&folder).unwrap().into_iter().map(|(step, _)| step).collect();
    assert_eq!(left, [4, 3, 1]);
    assert!(folder.join("training/step-000001/notes.txt").is_file());
}

#[test]
fn two_runs_do_not_share_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("ckpt");
    interrupted(&folder, 3);
    let first = Trainer::resume(&folder, None).unwrap();
    let error = Trainer::resume(&folder, None).unwrap_err().to_string();
    assert!(error.contains("another process is training in"), "{error}");
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

/// Thirty thousand evaluations take 2 MB, above the limit for configuration files.
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

/// A finished model stays intact while another is trained in its folder, until the new one is complete.
#[test]
fn a_finished_model_stays_until_the_new_one_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("ckpt");
    let config = GptConfig::preset(Preset::Original, 27);
    let old = Weights::random(&config, 0.1, 9);
    Checkpoint::write(&folder, &config, begin().tokenizer(), &old, None).unwrap();
    let is_old = || Checkpoint::open(&folder).unwrap().weights().unwrap() == old;
    let mut run = begin();
    run.step().unwrap();
    run.save(&folder).unwrap();
    assert!(is_old() && Trainer::is_unfinished(&folder));
    drop(run);
    let trained = to_the_end(Trainer::resume(&folder, None).unwrap().trainer, Some(&save_to(&folder, 7)));
    assert!(is_old());
    let error = trained.write(&folder, None).unwrap_err().to_string();
    assert!(error.contains("holds a finished model"), "{error}");
    assert!(is_old());
    // The permission to replace is recorded in the states.
    let mut run = Trainer::resume(&folder, None).unwrap().trainer;
    run.allow_replacing();
    run.save(&folder).unwrap();
    drop(run);
    let trained = to_the_end(Trainer::resume(&folder, None).unwrap().trainer, Some(&save_to(&folder, 7)));
    trained.write(&folder, Some("<svg/>")).unwrap();
    assert_eq!(Checkpoint::open(&folder).unwrap().weights().unwrap(), trained.weights);
    assert_eq!(fs::read_to_string(folder.join("loss.svg")).unwrap(), "<svg/>");
    assert!(!Trainer::is_unfinished(&folder));
}

/// With two runs and one destination, the one that ends second finds the other's result or its states.
#[test]
fn a_result_never_takes_the_place_of_another_runs_work() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, beside) = (dir.path().join("ckpt"), dir.path().join("beside"));
    let trained = to_the_end(begin(), Some(&save_to(&folder, 1_000)));
    interrupted(&folder, 3);
    let error = trained.write(&folder, None).unwrap_err().to_string();
    assert!(error.contains("holds a run that is not finished"), "{error}");
    assert_eq!(Trainer::resume(&folder, None).unwrap().trainer.step_count(), 3);
    // The other run ends.
    let other = to_the_end(Trainer::resume(&folder, None).unwrap().trainer, Some(&save_to(&folder, 7)));
    other.write(&folder, None).unwrap();
    assert!(trained.write(&folder, None).is_err());
    trained.write(&beside, None).unwrap();
    assert_eq!(states(&folder).unwrap().len(), 0);
    // A run with states beside a finished model, whose result is written elsewhere, removes those states.
    let mut late = begin();
    late.step().unwrap();
    late.save(&folder).unwrap();
    assert_eq!(states(&folder).unwrap().len(), 1);
    to_the_end(late, Some(&save_to(&folder, 7))).write(dir.path().join("elsewhere"), None).unwrap();
    assert_eq!(states(&folder).unwrap().len(), 0);
    Checkpoint::open(&folder).unwrap();
}

/// Extending a run, at its end or before, gives the result of the longer run bit for bit if the schedule is
/// constant.
#[test]
fn a_plan_that_is_extended_is_the_longer_plan() {
    let planned = |steps: usize| {
        let corpus = Corpus::built_in();
        let tokenizer = Tokenizer::characters(corpus.documents());
        let training = TrainingConfig { steps, schedule: super::Schedule::Constant, ..training() };
        Trainer::new(&corpus, GptConfig::preset(Preset::Original, 27), tokenizer, None, training).unwrap()
    };
    // A run always ends with an evaluation; 21 and 42 are multiples of `evaluate_every` anyway.
    let expected = to_the_end(planned(42), None);
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("ckpt");
    let save = save_to(&folder, 6);
    let short = to_the_end(planned(21), Some(&save));
    short.write(&folder, None).unwrap();
    assert_eq!(states(&folder).unwrap().len(), 0);
    let mut longer = Trainer::resume(&folder, None).unwrap().trainer;
    assert!(longer.is_finished() && longer.step_count() == 21);
    assert!(longer.plan_steps(20).unwrap_err().to_string().contains("21 are done"));
    longer.plan_steps(42).unwrap();
    // After a stop on the way, the finished model of 21 steps is still there.
    let ended = longer.run(Some(&save), |_, told| match told {
        Progress::Step(metrics) if metrics.step == 30 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    assert!(matches!(ended.unwrap(), Ended::Stopped { step: 30 }));
    assert_eq!(Checkpoint::open(&folder).unwrap().weights().unwrap(), short.weights);
    let longer = Trainer::resume(&folder, None).unwrap().trainer;
    assert_eq!(longer.training().steps, 42, "the new plan is in the state");
    let longer = to_the_end(longer, Some(&save));
    longer.write(&folder, None).unwrap();
    assert_eq!(longer.weights, expected.weights);
    assert_eq!(longer.report.history, expected.report.history);
    assert_eq!(longer.report.evaluations, expected.report.evaluations);
    assert_eq!(Checkpoint::open(&folder).unwrap().report().unwrap().steps, 42);
}

/// The learning rates of added steps are those of a run planned with the new length.
#[test]
fn an_extended_plan_has_the_rates_of_the_longer_one() {
    let mut run = begin();
    for _ in 0..40 {
        run.step().unwrap();
    }
    assert_eq!(run.history[39].learning_rate, 0.01 * (1.0 - 39.0 / 40.0));
    run.plan_steps(80).unwrap();
    assert_eq!(run.step().unwrap().learning_rate, 0.01 * (1.0 - 40.0 / 80.0));
}

/// States from before the `replaces` field are still read.
#[test]
fn states_without_the_new_field_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("ckpt");
    interrupted(&folder, 3);
    let json = fs::read_to_string(folder.join("training/step-000003/state.json")).unwrap();
    assert!(!json.contains("replaces"), "it is only written where it is true");
    assert_eq!(Trainer::resume(&folder, None).unwrap().trainer.step_count(), 3);
}
