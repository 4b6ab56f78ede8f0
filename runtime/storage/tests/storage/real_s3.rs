//! A real S3 server, e.g. that of `e2e/cluster`.

use std::time::Duration;

use bytes::Bytes;
use thalweg_storage::{ClientSettings, FileSystem, FileSystems, StorageError};
use thalweg_types::config::Configuration;
use thalweg_types::{Classify, FailureClass};

use crate::proxy::Proxy;
use crate::server::{Fault, Server};

/// Tries of one request: the first and the retries.
const TRIES: usize = 4;

/// Endpoint, bucket, access key and secret key.
type Real = [String; 4];

/// `THALWEG_TEST_S3` = the four, separated by blanks.
fn real() -> Option<Real> {
    let settings = std::env::var("THALWEG_TEST_S3").unwrap_or_default();
    let settings: Vec<String> = settings.split_whitespace().map(str::to_owned).collect();
    let real = settings.try_into().ok();
    if real.is_none() {
        println!("SKIPPED: THALWEG_TEST_S3 (endpoint bucket access-key secret-key) is not set");
    }
    real
}

fn configuration(endpoint: &str, [_, _, access_key, secret_key]: &Real) -> Configuration {
    let keys = [
        ("s3.endpoint", endpoint),
        ("s3.access-key", access_key),
        ("s3.secret-key", secret_key),
        ("s3.path.style.access", "true"),
        ("s3.region", "us-east-1"),
    ];
    Configuration::from_map(keys.map(|(key, value)| (key.to_owned(), value.to_owned())))
}

fn new_folder(bucket: &str) -> String {
    format!("s3://{bucket}/test-{:016x}", rand::random::<u64>())
}

#[tokio::test]
async fn a_folder_of_a_real_bucket_behaves() {
    let Some(real) = real() else { return };
    let configuration = configuration(&real[0], &real);
    let uri = format!("{}/folder with blanks", new_folder(&real[1]));
    let folder = FileSystem::open(&uri, &configuration).unwrap();
    crate::folder::behaves(&folder).await;
    let missing = FileSystem::open("s3://no-such-bucket-here/x", &configuration).unwrap();
    let error = missing.probe_writable().await.unwrap_err();
    assert!(error.to_string().contains("no-such-bucket-here"), "{error}");
}

#[tokio::test]
async fn a_real_server_behind_a_network_that_fails_keeps_every_byte() {
    if let Some(real) = real() {
        survives(
            &real,
            &[
                Fault::Unavailable,
                Fault::LostBefore,
                Fault::LostAfter,
                Fault::Hang,
            ],
        )
        .await;
    }
}

/// The proxy by itself: the same on the scripted server, everywhere.
#[tokio::test]
async fn a_scripted_server_behind_a_network_that_fails_keeps_every_byte() {
    let server = Server::start().await;
    let [bucket, access_key, secret_key] = ["bucket", "key", "secret"].map(str::to_owned);
    let real = [server.endpoint(), bucket, access_key, secret_key];
    survives(&real, &[Fault::Unavailable, Fault::LostBefore, Fault::LostAfter]).await;
}

async fn survives(real: &Real, faults: &[Fault]) {
    let proxy = Proxy::start(&real[0]).await;
    let settings = ClientSettings {
        request_timeout: Duration::from_secs(2),
        retries: TRIES - 1,
        first_backoff: Duration::from_millis(1),
        longest_backoff: Duration::from_millis(2),
        ..ClientSettings::default()
    };
    let files = FileSystems::with_settings(configuration(&proxy.endpoint(), real), settings);
    let folder = files.open_folder(&new_folder(&real[1])).unwrap();
    crate::folder::behaves(&folder).await;
    faults_in_passing(&proxy, &folder, faults).await;
    large_files(&proxy, &folder).await;
    a_server_that_stays_away(&proxy, &folder).await;
    proxy.fail_next("", &[]);
    assert_eq!(folder.list("").await.unwrap(), []);
}

/// 503, time-outs and lost connections on each operation; nothing of it is noticed.
async fn faults_in_passing(proxy: &Proxy, folder: &FileSystem, faults: &[Fault]) {
    for fault in faults.iter().copied() {
        let times = if fault == Fault::Hang { 1 } else { TRIES - 1 };
        let content = Bytes::from(format!("{fault:?}"));
        proxy.fail_next("PUT", &vec![fault; times]);
        folder.write("x", content.clone()).await.unwrap();
        proxy.fail_next("GET", &vec![fault; times]);
        assert_eq!(folder.read("x").await.unwrap(), content, "{fault:?}");
        proxy.fail_next("GET", &vec![fault; times]);
        assert_eq!(folder.list("").await.unwrap().len(), 1, "{fault:?}");
        proxy.fail_next("POST", &vec![fault; times]);
        folder.delete(&["x".to_owned()]).await.unwrap();
        assert_eq!(proxy.faults_left(), 0, "{fault:?}");
        proxy.fail_next("", &[]);
        assert_eq!(folder.list("").await.unwrap(), [], "{fault:?}");
    }
    let content = Bytes::from(vec![7; 300_000]);
    folder.write("x", content.clone()).await.unwrap();
    proxy.fail_next("GET", &[Fault::CutOff]);
    assert!(folder.read_range("x", 0..300_000).await.unwrap() == content);
    proxy.fail_next("GET", &[Fault::CutOff]);
    assert_eq!(folder.list("").await.unwrap().len(), 1);
    folder.delete(&["x".to_owned()]).await.unwrap();
}

/// The begin, a part and the end of an upload each meet a fault.
async fn large_files(proxy: &Proxy, folder: &FileSystem) {
    let content: Vec<u8> = (0..20_u32 << 20).map(|at| (at ^ (at >> 9)) as u8).collect();
    let content = Bytes::from(content);
    for (method, fault) in [
        ("POST", Fault::Unavailable),
        ("PUT", Fault::Unavailable),
        ("PUT", Fault::LostBefore),
        ("PUT", Fault::LostAfter),
    ] {
        proxy.fail_next(method, &[fault]);
        folder.write("large", content.clone()).await.unwrap();
        assert_eq!(proxy.faults_left(), 0, "{method} {fault:?}");
        assert!(
            folder.read("large").await.unwrap() == content,
            "{method} {fault:?}"
        );
    }
    let mut writer = folder.writer("pieces").await.unwrap();
    writer.write(content.slice(..9 << 20)).await.unwrap();
    writer.write(content.slice(9 << 20..)).await.unwrap();
    // The file is complete, and the answer to that is lost.
    proxy.fail_next("POST", &[Fault::LostAfter]);
    writer.finish().await.unwrap();
    assert!(folder.read("pieces").await.unwrap() == content);
    folder
        .delete(&["large".to_owned(), "pieces".to_owned()])
        .await
        .unwrap();
}

async fn a_server_that_stays_away(proxy: &Proxy, folder: &FileSystem) {
    for fault in [Fault::Unavailable, Fault::LostBefore] {
        proxy.fail_next("", &[fault; 100]);
        let unavailable = |error: StorageError| {
            assert!(
                matches!(error, StorageError::Unavailable { .. }),
                "{fault:?}: {error}"
            );
            assert_eq!(error.class(), FailureClass::Retryable);
            assert!(error.to_string().contains(&folder.uri()), "{error}");
        };
        unavailable(folder.write("x", Bytes::from_static(b"x")).await.unwrap_err());
        unavailable(folder.read("x").await.unwrap_err());
        unavailable(folder.list("").await.unwrap_err());
        unavailable(folder.delete(&["x".to_owned()]).await.unwrap_err());
    }
}
