//! A disk without space: a file system of 256 KiB in a mount namespace of the test's own.

use std::process::Command;

use bytes::Bytes;
use thalweg_storage::{FileSystem, StorageError};
use thalweg_types::config::Configuration;
use thalweg_types::{Classify, FailureClass};

const FOLDER: &str = "THALWEG_TEST_FULL_DISK";

#[test]
fn a_full_disk_is_a_retryable_error_that_leaves_nothing_behind() {
    if std::env::var(FOLDER).is_ok() {
        return on_a_small_disk();
    }
    let folder = tempfile::tempdir().unwrap();
    let mount = r#"mount -t tmpfs -o size=256k tmpfs "$0" && exec "$@""#;
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", mount])
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "full_disk::a_full_disk_is_a_retryable_error_that_leaves_nothing_behind",
        ])
        .env(FOLDER, folder.path())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => return println!("SKIPPED: no mount namespaces here: {error}"),
    };
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if text.contains("unshare failed") || text.contains("mount:") {
        return println!("SKIPPED: no mount namespaces here: {text}");
    }
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn on_a_small_disk() {
    let uri = format!("file://{}", std::env::var(FOLDER).unwrap());
    let folder = FileSystem::open(&uri, &Configuration::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let content = Bytes::from(vec![7; 512 << 10]);
        let full = |error: StorageError| {
            assert!(matches!(error, StorageError::Full { .. }), "{error}");
            assert_eq!(error.class(), FailureClass::Retryable);
            assert!(error.to_string().contains("no space left"), "{error}");
            assert!(error.to_string().contains(&folder.uri_of("x")), "{error}");
        };
        full(folder.write("x", content.clone()).await.unwrap_err());
        let mut writer = folder.writer("x").await.unwrap();
        let mut result = Ok(());
        for piece in content.chunks(64 << 10) {
            result = writer.write(Bytes::copy_from_slice(piece)).await;
            if result.is_err() {
                break;
            }
        }
        full(result.unwrap_err());
        assert!(writer.finish().await.is_err(), "what failed isn't finished");
        assert_eq!(folder.list("").await.unwrap(), []);
        folder.write("x", content.slice(..100_000)).await.unwrap();
    });
}
