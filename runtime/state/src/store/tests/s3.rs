//! Snapshots in an object store that answers 503, hangs or loses connections: tried again, or a clear error that costs the
//! checkpoint only. On a scripted server, and on a real one behind a proxy that does all that.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use thalweg_proto::state::v1::SnapshotKind;
use thalweg_storage::{ClientSettings, FileSystems};
use thalweg_types::config::Configuration;
use thalweg_types::{Classify, FailureClass, KeyGroupRange};

use super::fixtures::{Fixture, MAX_PARALLELISM, absolute, changes, group_of, whole};
use super::proxy::Proxy;
use super::server::{Fault, Server};
use crate::{OperatorSnapshot, SubtaskChain};

struct Store {
    fixture: Fixture,
    server: Server,
}

fn store() -> Store {
    store_with(Duration::from_secs(60))
}

fn store_with(request_timeout: Duration) -> Store {
    let server = serving(Server::start());
    Store {
        fixture: fixture(
            &server.endpoint(),
            ["key", "secret"],
            "bucket",
            "checkpoints",
            request_timeout,
        ),
        server,
    }
}

/// What it starts serves as long as the test runs.
fn serving<T>(start: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let started = runtime.block_on(start);
    std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    started
}

fn fixture(
    endpoint: &str,
    [access_key, secret_key]: [&str; 2],
    bucket: &str,
    folder: &str,
    request_timeout: Duration,
) -> Fixture {
    let keys = [
        ("s3.endpoint", endpoint),
        ("s3.access-key", access_key),
        ("s3.secret-key", secret_key),
        ("s3.path.style.access", "true"),
    ];
    let settings = ClientSettings {
        request_timeout,
        retries: 2,
        first_backoff: Duration::from_millis(1),
        longest_backoff: Duration::from_millis(2),
        ..ClientSettings::default()
    };
    let configuration = Configuration::from_map(keys.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let files = FileSystems::with_settings(configuration, settings);
    Fixture::on(
        files,
        format!("s3://{bucket}/{folder}"),
        tempfile::tempdir().unwrap(),
    )
}

/// `THALWEG_TEST_S3` = endpoint, bucket, access key and secret key of a real server, separated by blanks; behind a network
/// that works, and one that doesn't.
#[test]
fn checkpoints_savepoints_and_merges_work_on_a_real_server_behind_any_network() {
    let settings = std::env::var("THALWEG_TEST_S3").unwrap_or_default();
    let settings: Vec<&str> = settings.split_whitespace().collect();
    let [endpoint, bucket, access_key, secret_key] = settings[..] else {
        return println!("SKIPPED: THALWEG_TEST_S3 (endpoint bucket access-key secret-key) is not set");
    };
    let on = |endpoint: &str| {
        let folder = format!("test-{:016x}", rand::random::<u64>());
        let timeout = Duration::from_secs(5);
        checkpoints_savepoints_and_merges(&fixture(
            endpoint,
            [access_key, secret_key],
            bucket,
            &folder,
            timeout,
        ));
    };
    on(endpoint);
    let proxy = serving(Proxy::start(endpoint));
    proxy.fail_every_third(&[
        Fault::Unavailable,
        Fault::LostBefore,
        Fault::LostAfter,
        Fault::CutOff,
    ]);
    on(&proxy.endpoint());
}

/// The proxy by itself: the same on the scripted server, everywhere.
#[test]
fn checkpoints_savepoints_and_merges_work_behind_a_network_that_fails() {
    let server = serving(Server::start());
    let proxy = serving(Proxy::start(&server.endpoint()));
    proxy.fail_every_third(&[
        Fault::Unavailable,
        Fault::LostBefore,
        Fault::LostAfter,
        Fault::CutOff,
    ]);
    let timeout = Duration::from_secs(60);
    checkpoints_savepoints_and_merges(&fixture(
        &proxy.endpoint(),
        ["key", "secret"],
        "bucket",
        "behind",
        timeout,
    ));
}

fn checkpoints_savepoints_and_merges(fixture: &Fixture) {
    let chain = SubtaskChain::new(whole(), MAX_PARALLELISM);
    fixture.checkpoint(&chain, 1, rows(700_000));
    let mut merges = 0;
    for checkpoint in 2..20 {
        fixture.checkpoint(&chain, checkpoint, changes([(checkpoint as i64, None)]));
        merges += usize::from(fixture.merge(&chain));
    }
    assert!(merges > 0);
    let last = fixture.checkpoint(&chain, 20, changes([(-1, Some(1))]));
    let rows = 700_000 - 18 + 1;
    assert_eq!(
        fixture.restore(std::slice::from_ref(&last.state), whole()).len(),
        rows
    );
    assert!(
        fixture.files().len() > last.state.runs.len(),
        "merged files stay for earlier checkpoints"
    );
    let ticket = chain.begin(21, SnapshotKind::Savepoint);
    let everything = fixture.restore(std::slice::from_ref(&last.state), whole());
    let everything = changes(everything.into_iter().map(|(id, value)| (id, Some(value))));
    let savepoint = fixture
        .write(ticket, everything, SnapshotKind::Savepoint)
        .unwrap();
    let state = absolute(savepoint.state, &fixture.savepoint_folder());
    assert_eq!(fixture.restore_absolute(&[state], whole()).len(), rows);
    // Deletion, as the JobManager does it.
    let gone = fixture.files();
    let folder = fixture.files.open_folder(&fixture.job_folder()).unwrap();
    fixture.runtime.block_on(folder.delete(&gone[..1])).unwrap();
    assert_eq!(fixture.files(), gone[1..]);
    let (parent, name) = fixture.files.open_uri(&fixture.job_folder()).unwrap();
    fixture.runtime.block_on(parent.delete_folder(&name)).unwrap();
    assert_eq!(fixture.files(), Vec::<String>::new());
}

fn rows(count: i64) -> OperatorSnapshot {
    // Without a pattern, so that LZ4 leaves the blocks large.
    changes((0..count).map(|id| (id, Some(id.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64)))))
}

#[test]
fn a_restore_of_some_key_groups_fetches_little_else() {
    let Store { fixture, server } = store();
    let chain = SubtaskChain::new(whole(), MAX_PARALLELISM);
    let written = fixture.checkpoint(&chain, 1, rows(300_000));
    let range = KeyGroupRange { start: 60, end: 67 };
    let before = server.sent_bytes();
    let found = fixture.restore(std::slice::from_ref(&written.state), range);
    let sent = server.sent_bytes() - before;
    assert_eq!(
        found.len(),
        (0..300_000).filter(|id| range.contains(group_of(*id))).count()
    );
    assert!(
        sent < written.full_bytes as usize / 3,
        "{sent} of {} bytes",
        written.full_bytes
    );
}

#[test]
fn failures_in_passing_are_not_noticed() {
    let Store { fixture, server } = store();
    let chain = SubtaskChain::new(whole(), MAX_PARALLELISM);
    server.fail_next(&[Fault::Unavailable, Fault::LostAfter]);
    let written = fixture.checkpoint(&chain, 1, rows(100_000));
    assert_eq!(server.faults_left(), 0);
    let restore = fixture.operator_restore(&[written.state]);
    server.fail_next(&[Fault::LostBefore, Fault::CutOff]);
    assert_eq!(fixture.read_rows(&restore, whole()).unwrap().len(), 100_000);
    assert_eq!(server.faults_left(), 0);
}

#[test]
fn a_store_that_does_not_answer_is_asked_again_and_then_costs_the_checkpoint_or_the_restore_only() {
    let Store { fixture, server } = store_with(Duration::from_millis(300));
    let chain = SubtaskChain::new(whole(), MAX_PARALLELISM);
    server.fail_next(&[Fault::Hang]);
    let written = fixture.checkpoint(&chain, 1, rows(1000));
    let restore = fixture.operator_restore(&[written.state]);
    server.fail_next(&[Fault::Hang]);
    assert_eq!(fixture.read_rows(&restore, whole()).unwrap().len(), 1000);
    server.fail_next(&[Fault::Hang; 100]);
    let ticket = chain.begin(2, SnapshotKind::Checkpoint);
    let error = fixture
        .write(ticket, rows(10), SnapshotKind::Checkpoint)
        .unwrap_err();
    assert_eq!(error.class(), FailureClass::Retryable);
    assert!(error.to_string().contains("/job/shared/"), "{error}");
    let error = fixture.read_rows(&restore, whole()).unwrap_err();
    assert_eq!(error.class(), FailureClass::Retryable);
    let path = &restore.keyed[0].runs[0].file.as_ref().unwrap().path;
    assert!(error.to_string().contains(path), "{error}");
    server.fail_next(&[]);
    assert!(chain.begin(3, SnapshotKind::Checkpoint).full());
}

#[test]
fn a_store_that_stays_away_or_is_full_costs_the_checkpoint_and_the_next_is_full() {
    let Store { fixture, server } = store();
    let chain = SubtaskChain::new(whole(), MAX_PARALLELISM);
    fixture.checkpoint(&chain, 1, rows(10));
    for (fault, words) in [
        (Fault::Unavailable, "unavailable"),
        (Fault::Full, "no space left"),
    ] {
        server.fail_next(&[fault; 100]);
        let ticket = chain.begin(2, SnapshotKind::Checkpoint);
        let error = fixture
            .write(ticket, rows(10), SnapshotKind::Checkpoint)
            .unwrap_err();
        assert_eq!(error.class(), FailureClass::Retryable);
        let text = error.to_string();
        assert!(
            text.contains("s3://bucket/checkpoints/job/shared/") && text.contains(words),
            "{text}"
        );
        server.fail_next(&[]);
        let ticket = chain.begin(3, SnapshotKind::Checkpoint);
        assert!(ticket.full());
        let written = fixture
            .write(ticket, changes([(5, Some(6))]), SnapshotKind::Checkpoint)
            .unwrap();
        assert_eq!(
            fixture.restore(&[written.state], whole()),
            BTreeMap::from([(5, 6)])
        );
    }
}

#[test]
fn a_store_that_goes_away_during_a_restore_is_a_retryable_error_that_names_the_file() {
    let Store { fixture, server } = store();
    let chain = SubtaskChain::new(whole(), MAX_PARALLELISM);
    let written = fixture.checkpoint(&chain, 1, rows(100_000));
    let restore = fixture.operator_restore(&[written.state]);
    let (mut state, _) = fixture.read(&restore, whole()).unwrap();
    server.fail_next(&[Fault::Unavailable; 100]);
    let table = state.take_table("count").unwrap();
    let error = table.rows.into_iter().find_map(Result::err).unwrap();
    assert_eq!(error.class(), FailureClass::Retryable);
    let path = &restore.keyed[0].runs[0].file.as_ref().unwrap().path;
    assert!(error.to_string().contains(path), "{error}");
}
