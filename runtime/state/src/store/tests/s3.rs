//! Snapshots in an object store that fails: tried again, or a clear error that costs the checkpoint only.

use std::collections::BTreeMap;
use std::time::Duration;

use thalweg_proto::state::v1::SnapshotKind;
use thalweg_storage::{ClientSettings, FileSystems};
use thalweg_types::config::Configuration;
use thalweg_types::{Classify, FailureClass, KeyGroupRange};

use super::fixtures::{Fixture, MAX_PARALLELISM, changes, group_of, whole};
use super::server::{Fault, Server};
use crate::{OperatorSnapshot, SubtaskChain};

struct Store {
    fixture: Fixture,
    server: Server,
}

fn store() -> Store {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let server = runtime.block_on(Server::start());
    // It serves as long as the test runs.
    std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    let keys = [
        ("s3.endpoint", server.endpoint()),
        ("s3.access-key", "key".to_owned()),
        ("s3.secret-key", "secret".to_owned()),
        ("s3.path.style.access", "true".to_owned()),
    ];
    let settings = ClientSettings {
        retries: 2,
        first_backoff: Duration::from_millis(1),
        longest_backoff: Duration::from_millis(2),
        ..ClientSettings::default()
    };
    let configuration = Configuration::from_map(keys.map(|(key, value)| (key.to_owned(), value)));
    let files = FileSystems::with_settings(configuration, settings);
    let folder = tempfile::tempdir().unwrap();
    Store {
        fixture: Fixture::on(files, "s3://bucket/checkpoints".to_owned(), folder),
        server,
    }
}

/// A real server: `THALWEG_TEST_S3` = endpoint, bucket, access key and secret key, separated by blanks.
#[test]
fn checkpoints_savepoints_and_merges_work_on_a_real_server() {
    let settings = std::env::var("THALWEG_TEST_S3").unwrap_or_default();
    let settings: Vec<&str> = settings.split_whitespace().collect();
    let [endpoint, bucket, access_key, secret_key] = settings[..] else {
        return println!("SKIPPED: THALWEG_TEST_S3 (endpoint bucket access-key secret-key) is not set");
    };
    let keys = [
        ("s3.endpoint", endpoint),
        ("s3.access-key", access_key),
        ("s3.secret-key", secret_key),
        ("s3.path.style.access", "true"),
    ];
    let configuration = Configuration::from_map(keys.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let uri = format!("s3://{bucket}/test-{:016x}", rand::random::<u64>());
    let fixture = Fixture::on(FileSystems::new(configuration), uri, tempfile::tempdir().unwrap());
    let chain = SubtaskChain::new(whole(), MAX_PARALLELISM);
    fixture.checkpoint(&chain, 1, rows(700_000));
    let mut merges = 0;
    for checkpoint in 2..20 {
        fixture.checkpoint(&chain, checkpoint, changes([(checkpoint as i64, None)]));
        merges += usize::from(fixture.merge(&chain));
    }
    assert!(merges > 0);
    let last = fixture.checkpoint(&chain, 20, changes([(-1, Some(1))]));
    assert_eq!(
        fixture.restore(std::slice::from_ref(&last.state), whole()).len(),
        700_000 - 18 + 1
    );
    assert!(
        fixture.files().len() > last.state.runs.len(),
        "merged files stay for earlier checkpoints"
    );
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
