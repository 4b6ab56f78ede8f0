//! The same on object stores: a scripted one, and a real one behind a network that fails.

use std::time::Duration;

use thalweg_storage::{ClientSettings, FileSystems};
use thalweg_types::config::Configuration;
use tokio::runtime::Runtime;

use super::job::{Dice, Job};
use super::mortal::Life;
use super::proxy::Proxy;
use super::server::{Fault, Server};
use crate::{ConnectorContext, ConnectorError, Sink, SinkWriter};

/// Endpoint, bucket, access key and secret key.
type Store = [String; 4];

fn files(endpoint: &str, [_, _, access_key, secret_key]: &Store) -> FileSystems {
    let keys = [
        ("s3.endpoint", endpoint),
        ("s3.access-key", access_key),
        ("s3.secret-key", secret_key),
        ("s3.path.style.access", "true"),
        ("s3.region", "us-east-1"),
    ];
    let configuration = Configuration::from_map(keys.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let settings = ClientSettings {
        request_timeout: Duration::from_secs(3),
        retries: 4,
        first_backoff: Duration::from_millis(1),
        longest_backoff: Duration::from_millis(2),
        ..ClientSettings::default()
    };
    FileSystems::with_settings(configuration, settings)
}

/// `THALWEG_TEST_S3` = the four, separated by blanks.
fn real() -> Option<Store> {
    let settings = std::env::var("THALWEG_TEST_S3").unwrap_or_default();
    let settings: Vec<String> = settings.split_whitespace().map(str::to_owned).collect();
    let real = settings.try_into().ok();
    if real.is_none() {
        println!("SKIPPED: THALWEG_TEST_S3 (endpoint bucket access-key secret-key) is not set");
    }
    real
}

fn scripted(server: &Server) -> Store {
    let [bucket, access_key, secret_key] = ["bucket", "key", "secret"].map(str::to_owned);
    [server.endpoint(), bucket, access_key, secret_key]
}

/// Sizes of a job: pieces and parts in bytes, lines and their length.
type Sizes = ((usize, Option<u64>), (usize, usize));

const SMALL: Sizes = ((16, Some(40)), (60, 0));
/// Real stores take no smaller pieces.
const REAL: Sizes = ((5 << 20, Some(12 << 20)), (60, 900 << 10));

fn job(files: FileSystems, store: &Store, sizes: Sizes) -> Job {
    let uri = format!("s3://{}/test-{:016x}", store[1], rand::random::<u64>());
    Job::new(files, &uri, sizes.0, sizes.1)
}

/// Killed at every `stride`th step, on a network that fails now and then.
fn survives(store: &Store, sizes: Sizes, stride: usize, faults: &[Fault]) {
    let network = Runtime::new().unwrap();
    let proxy = network.block_on(Proxy::start(&store[0]));
    proxy.fail_every_third(faults);
    let files = files(&proxy.endpoint(), store);
    for (round, dies_at) in (1..).step_by(stride).enumerate() {
        let mut job = job(files.clone(), store, sizes);
        let life = Life::until(dies_at, round % 2 == 0);
        let ended = job.run(&mut Dice(7), &life, 3);
        assert_eq!(ended.is_err(), life.is_dead(), "step {dies_at}: {ended:?}");
        job.check();
        if life.is_dead() {
            job.run(&mut Dice(8), &Life::until(0, false), 1).unwrap();
        }
        job.check_all();
        let uri = job.folder().uri();
        let (above, name) = uri.rsplit_once('/').unwrap();
        let above = files.open_folder(above).unwrap();
        job.io().block_on(above.delete_folder(name)).unwrap();
        if !life.is_dead() {
            assert!(dies_at > 25, "{dies_at} steps only");
            return;
        }
    }
}

#[test]
fn a_scripted_store_that_fails_holds_each_line_once_whenever_the_process_is_killed() {
    let network = Runtime::new().unwrap();
    let server = network.block_on(Server::start());
    let faults = [Fault::Unavailable, Fault::LostBefore, Fault::LostAfter];
    survives(&scripted(&server), SMALL, 4, &faults);
}

#[test]
fn a_real_store_that_fails_holds_each_line_once_whenever_the_process_is_killed() {
    if let Some(real) = real() {
        let faults = [Fault::Unavailable, Fault::LostBefore, Fault::LostAfter];
        survives(&real, REAL, 7, &faults);
    }
}

/// The begin, a part, the end of an upload and the look at an object are each not answered once.
fn bears_time_outs(store: &Store, sizes: Sizes) {
    let network = Runtime::new().unwrap();
    let proxy = network.block_on(Proxy::start(&store[0]));
    let mut job = job(files(&proxy.endpoint(), store), store, sizes);
    for method in ["POST", "PUT", "HEAD"] {
        proxy.fail_next(method, &[Fault::Hang]);
        let life = Life::until(40, true);
        let ended = job.run(&mut Dice(3), &life, 1);
        assert_eq!(ended.is_err(), life.is_dead(), "{method}: {ended:?}");
        assert_eq!(proxy.faults_left(), 0, "{method}");
        job.check();
    }
    job.run(&mut Dice(4), &Life::until(0, false), 1).unwrap();
    job.check_all();
}

#[test]
fn a_scripted_store_that_does_not_answer_now_and_then_holds_each_line_once() {
    let network = Runtime::new().unwrap();
    let server = network.block_on(Server::start());
    bears_time_outs(&scripted(&server), ((16, Some(40)), (400, 0)));
}

#[test]
fn a_real_store_that_does_not_answer_now_and_then_holds_each_line_once() {
    if let Some(real) = real() {
        bears_time_outs(&real, ((5 << 20, Some(12 << 20)), (400, 300 << 10)));
    }
}

#[test]
fn an_upload_whose_end_is_done_but_not_told_is_finished_once() {
    let network = Runtime::new().unwrap();
    let server = network.block_on(Server::start());
    let store = scripted(&server);
    let mut job = job(files(&store[0], &store), &store, SMALL);
    server.lose_next_completion();
    job.run(&mut Dice(1), &Life::until(0, false), 2).unwrap();
    job.check_all();
    assert_eq!(server.unfinished_uploads(), 0);
}

#[test]
fn nothing_is_left_of_a_job_that_nothing_happens_to() {
    let network = Runtime::new().unwrap();
    let server = network.block_on(Server::start());
    let store = scripted(&server);
    for parallelism in [1, 3] {
        let mut job = job(files(&store[0], &store), &store, SMALL);
        job.run(&mut Dice(2), &Life::until(0, false), parallelism)
            .unwrap();
        job.check_all();
    }
    assert_eq!(server.unfinished_uploads(), 0);
}

fn writer(io: &Runtime, files: &FileSystems, uri: &str) -> Box<dyn SinkWriter> {
    let sink = crate::FileSink::for_row_format(uri).build().unwrap();
    let context = ConnectorContext {
        files: files.clone(),
        checkpointing: true,
        ..crate::testing::context_of(io, 0, 1)
    };
    sink.create_writer(context).unwrap()
}

#[test]
fn an_upload_that_expired_before_its_commit_fails_the_job_and_names_what_is_lost() {
    let io = Runtime::new().unwrap();
    let server = io.block_on(Server::start());
    let store = scripted(&server);
    let files = files(&store[0], &store);
    expires(&io, &files, "s3://bucket/out");
}

#[test]
fn a_real_upload_that_was_aborted_before_its_commit_fails_the_job_and_names_what_is_lost() {
    let Some(real) = real() else { return };
    let io = Runtime::new().unwrap();
    let files = files(&real[0], &real);
    let uri = format!("s3://{}/test-{:016x}", real[1], rand::random::<u64>());
    expires(&io, &files, &uri);
    let missing = "s3://no-such-bucket-here/out";
    let mut writer = writer(&io, &files, missing);
    let error = io
        .block_on(futures::future::poll_fn(|cx| writer.poll_ready(cx)))
        .unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(error, ConnectorError::Refused(_))
            && text.contains("there is no bucket no-such-bucket-here"),
        "{text}"
    );
}

/// Two rows are prepared, then their upload is aborted, as a lifecycle rule does it.
fn expires(io: &Runtime, files: &FileSystems, uri: &str) {
    let mut writer = writer(io, files, uri);
    io.block_on(futures::future::poll_fn(|cx| writer.poll_ready(cx)))
        .unwrap();
    writer.write(&super::rows::lines(&["a", "b"])).unwrap();
    io.block_on(futures::future::poll_fn(|cx| writer.poll_flush(cx, true)))
        .unwrap();
    let prepared = writer.prepare_commit(1).unwrap();
    for part in crate::file::sink::state::committables(&prepared).unwrap() {
        let folder = files.open_folder(&part.file.folder).unwrap();
        io.block_on(folder.discard(&part.file.path, &part.staged))
            .unwrap();
    }
    let commit = io.block_on(futures::future::poll_fn(|cx| writer.poll_commit(cx, &prepared)));
    let error = commit.unwrap_err();
    assert!(matches!(error, ConnectorError::Refused(_)), "{error}");
    let text = error.to_string();
    for part in [
        uri,
        "the 4 bytes",
        "2 rows",
        "restore a checkpoint or savepoint from before",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

#[test]
fn a_store_that_stays_away_is_told_as_unavailable() {
    let io = Runtime::new().unwrap();
    let server = io.block_on(Server::start());
    let store = scripted(&server);
    let files = files(&store[0], &store);
    server.fail_next(&[Fault::Unavailable; 100]);
    let mut writer = writer(&io, &files, "s3://bucket/out");
    let error = io
        .block_on(futures::future::poll_fn(|cx| writer.poll_ready(cx)))
        .unwrap_err();
    assert!(matches!(error, ConnectorError::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("s3://bucket/out"), "{error}");
}
