//! An S3 server that answers 503, hangs, cuts answers off, loses connections or is full.

use std::time::Duration;

use bytes::Bytes;
use thalweg_storage::{ClientSettings, FileSystem, FileSystems, StorageError};
use thalweg_types::config::Configuration;
use thalweg_types::{Classify, FailureClass};

use crate::server::{Fault, Server};

/// Tries of one request: the first and the retries.
const TRIES: usize = 4;

fn open(server: &Server) -> FileSystem {
    open_with(server, Duration::from_secs(60))
}

fn open_with(server: &Server, request_timeout: Duration) -> FileSystem {
    let keys = [
        ("s3.endpoint", server.endpoint()),
        ("s3.access-key", "key".to_owned()),
        ("s3.secret-key", "secret".to_owned()),
        ("s3.path.style.access", "true".to_owned()),
        ("s3.region", "nowhere-1".to_owned()),
    ];
    let configuration = Configuration::from_map(keys.map(|(key, value)| (key.to_owned(), value)));
    let settings = ClientSettings {
        connect_timeout: Duration::from_secs(5),
        request_timeout,
        retries: TRIES - 1,
        retry_timeout: Duration::from_secs(60),
        first_backoff: Duration::from_millis(1),
        longest_backoff: Duration::from_millis(2),
    };
    let files = FileSystems::with_settings(configuration, settings);
    files.open_folder("s3a://bucket/checkpoints").unwrap()
}

#[tokio::test]
async fn a_folder_of_a_bucket_behaves() {
    let server = Server::start().await;
    crate::folder::behaves(&open(&server)).await;
    assert_eq!(server.unfinished_uploads(), 0);
}

#[tokio::test]
async fn what_fails_in_passing_is_tried_again() {
    let server = Server::start().await;
    let folder = open(&server);
    for fault in [Fault::Unavailable, Fault::LostBefore, Fault::LostAfter] {
        server.fail_next(&[fault; TRIES - 1]);
        let content = Bytes::from(format!("{fault:?}"));
        folder.write("x", content.clone()).await.unwrap();
        server.fail_next(&[fault; TRIES - 1]);
        assert_eq!(folder.read("x").await.unwrap(), content, "{fault:?}");
        server.fail_next(&[fault; TRIES - 1]);
        assert_eq!(folder.list("").await.unwrap().len(), 1, "{fault:?}");
        assert_eq!(server.faults_left(), 0, "{fault:?}");
    }
}

#[tokio::test]
async fn a_request_without_an_answer_is_given_up_and_tried_again() {
    let server = Server::start().await;
    let folder = open_with(&server, Duration::from_secs(1));
    server.fail_next(&[Fault::Hang]);
    folder.write("x", Bytes::from_static(b"x")).await.unwrap();
    server.fail_next(&[Fault::Hang]);
    assert_eq!(folder.read("x").await.unwrap(), "x");
    server.fail_next(&[Fault::Hang; 100]);
    let error = folder.read("x").await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable { .. }), "{error}");
    assert_eq!(server.faults_left(), 100 - TRIES);
}

#[tokio::test]
async fn a_completed_upload_counts_though_its_answer_was_lost() {
    let server = Server::start().await;
    let folder = open(&server);
    let content = Bytes::from(vec![6; 9 << 20]);
    server.lose_next_completion();
    folder.write("large", content.clone()).await.unwrap();
    assert!(folder.read("large").await.unwrap() == content);
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_fetched_again() {
    let server = Server::start().await;
    let folder = open(&server);
    let content = Bytes::from(vec![5; 300_000]);
    folder.write("x", content.clone()).await.unwrap();
    server.fail_next(&[Fault::CutOff]);
    assert!(folder.read_range("x", 0..300_000).await.unwrap() == content);
    assert_eq!(server.faults_left(), 0);
}

#[tokio::test]
async fn a_part_of_a_large_file_is_tried_again() {
    let server = Server::start().await;
    let folder = open(&server);
    let content = Bytes::from(vec![6; 20 << 20]);
    server.fail_next(&[Fault::Unavailable, Fault::Unavailable]);
    folder.write("large", content.clone()).await.unwrap();
    assert_eq!(server.faults_left(), 0);
    assert!(folder.read("large").await.unwrap() == content);
}

#[tokio::test]
async fn a_store_that_stays_away_is_a_retryable_error_after_a_bounded_number_of_tries() {
    let server = Server::start().await;
    let folder = open(&server);
    for fault in [Fault::Unavailable, Fault::LostBefore] {
        server.fail_next(&[fault; 100]);
        let before = server.requests();
        let error = folder.write("x", Bytes::from_static(b"x")).await.unwrap_err();
        assert_eq!(server.requests() - before, TRIES, "{fault:?}");
        assert!(
            matches!(error, StorageError::Unavailable { .. }),
            "{fault:?}: {error}"
        );
        assert_eq!(error.class(), FailureClass::Retryable);
        assert!(error.to_string().contains("s3://bucket/checkpoints/x"), "{error}");
        server.fail_next(&[]);
    }
    drop(server);
    let error = folder.read("x").await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable { .. }), "{error}");
}

#[tokio::test]
async fn a_file_that_fails_half_way_leaves_no_parts_behind() {
    let server = Server::start().await;
    let folder = open(&server);
    let mut writer = folder.writer("large").await.unwrap();
    writer.write(Bytes::from(vec![1; 9 << 20])).await.unwrap();
    server.fail_next_parts(100);
    for _ in 0..5 {
        if writer.write(Bytes::from(vec![2; 9 << 20])).await.is_err() {
            break;
        }
    }
    let error = writer.finish().await.unwrap_err();
    assert_eq!(error.class(), FailureClass::Retryable);
    assert_eq!(server.unfinished_uploads(), 0);
    assert!(folder.read("large").await.is_err());
}

#[tokio::test]
async fn a_full_store_says_so() {
    let server = Server::start().await;
    let folder = open(&server);
    server.fail_next(&[Fault::Full; 100]);
    let error = folder.write("x", Bytes::from_static(b"x")).await.unwrap_err();
    assert!(matches!(error, StorageError::Full { .. }), "{error}");
    assert_eq!(error.class(), FailureClass::Retryable);
}

#[tokio::test]
async fn keys_that_are_refused_are_no_reason_to_try_again() {
    let server = Server::start().await;
    let folder = open(&server);
    server.fail_next(&[Fault::Forbidden]);
    let error = folder.write("x", Bytes::from_static(b"x")).await.unwrap_err();
    assert!(matches!(error, StorageError::Denied { .. }), "{error}");
    assert_eq!(server.faults_left(), 0);
    server.fail_next(&[Fault::Forbidden]);
    let error = folder.probe_writable().await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("folder s3://bucket/checkpoints is not writable"),
        "{error}"
    );
    assert_eq!(error.class(), FailureClass::Fatal);
}

#[tokio::test]
async fn a_range_fetches_no_more_than_its_bytes() {
    let server = Server::start().await;
    let folder = open(&server);
    folder.write("x", Bytes::from(vec![5; 300_000])).await.unwrap();
    assert_eq!(folder.read_range("x", 1000..1500).await.unwrap().len(), 500);
    assert_eq!(server.sent_bytes(), 500);
}
