//! Processes that are killed at each step of the protocol, on a local folder.

use std::sync::Arc;

use futures::future::poll_fn;
use tempfile::TempDir;
use thalweg_storage::FileSystems;
use thalweg_types::config::Configuration;

use super::job::{Dice, Job, is_hidden};
use super::mortal::Life;

const LINES: usize = 60;

fn job(part_bytes: Option<u64>) -> (TempDir, Job) {
    let folder = tempfile::tempdir().unwrap();
    let uri = format!("file://{}/out", folder.path().display());
    let files = FileSystems::new(Configuration::default());
    (folder, Job::new(files, &uri, (16, part_bytes), (LINES, 0)))
}

fn immortal() -> Arc<Life> {
    Life::until(0, false)
}

#[test]
fn a_job_that_nothing_happens_to_leaves_finished_files_only() {
    for part_bytes in [Some(40), None] {
        let (_folder, mut job) = job(part_bytes);
        job.run(&mut Dice(1), &immortal(), 3).unwrap();
        job.check_all();
        let files = job.io().block_on(job.folder().list("")).unwrap();
        assert!(
            files.len() > 4 && files.iter().all(|file| !is_hidden(&file.path)),
            "{files:?}"
        );
        assert!(files.iter().any(|file| file.path.starts_with("three/s/part-")));
    }
}

#[test]
fn a_process_that_is_killed_at_any_step_leaves_each_line_once() {
    for does_it in [false, true] {
        for dies_at in 1.. {
            let (_folder, mut job) = job(Some(40));
            let life = Life::until(dies_at, does_it);
            let ended = job.run(&mut Dice(7), &life, 2);
            job.check();
            assert_eq!(ended.is_err(), life.is_dead(), "step {dies_at}: {ended:?}");
            if ended.is_ok() {
                assert!(dies_at > 30, "{dies_at} steps only");
                break;
            }
            job.run(&mut Dice(8), &immortal(), 2).unwrap();
            job.check_all();
        }
    }
}

#[test]
fn killed_again_and_again_at_other_parallelisms_each_line_is_there_once() {
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let (_folder, mut job) = job([Some(40), Some(400), None][dice.below(3)]);
        for _ in 0..2 + dice.below(4) {
            let life = Life::until(1 + dice.below(60), dice.below(2) == 0);
            let parallelism = 1 + dice.below(3);
            let ended = job.run(&mut dice, &life, parallelism);
            assert_eq!(ended.is_err(), life.is_dead(), "seed {seed}: {ended:?}");
            job.check();
            if ended.is_ok() {
                break;
            }
        }
        let parallelism = 1 + dice.below(3);
        job.run(&mut dice, &immortal(), parallelism).unwrap();
        job.check_all();
    }
}

#[test]
fn three_writers_files_are_taken_over_by_one_and_that_ones_by_two() {
    let (_folder, mut job) = job(Some(1_000));
    for (parallelism, dies_at) in [(3, 40), (1, 20)] {
        let life = Life::until(dies_at, false);
        job.run(&mut Dice(3), &life, parallelism).unwrap_err();
        assert!(life.is_dead());
        job.check();
    }
    job.run(&mut Dice(5), &immortal(), 2).unwrap();
    job.check_all();
}

#[test]
fn what_no_checkpoint_knows_is_taken_back_when_a_writer_is_canceled() {
    use crate::file::sink::FileSink;
    use crate::testing::context_of;
    use crate::{ConnectorContext, Sink};

    let (_folder, job) = job(Some(1_000));
    let sink = FileSink::for_row_format(job.folder().uri()).build().unwrap();
    let context = ConnectorContext {
        checkpointing: true,
        ..context_of(job.io(), 0, 1)
    };
    let mut writer = sink.create_writer(context).unwrap();
    job.io().block_on(poll_fn(|cx| writer.poll_ready(cx))).unwrap();
    writer.write(&super::rows::lines(&["a"])).unwrap();
    job.io()
        .block_on(poll_fn(|cx| writer.poll_flush(cx, true)))
        .unwrap();
    let files = || job.io().block_on(job.folder().list("")).unwrap();
    assert!(files().len() == 1 && is_hidden(&files()[0].path));
    drop(writer);
    while !files().is_empty() {
        std::thread::yield_now();
    }
}
