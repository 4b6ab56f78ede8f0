//! A disk without space: a file system of 256 KiB in a mount namespace of the test's own.

use std::process::Command;

use thalweg_storage::FileSystems;
use thalweg_types::config::Configuration;

use super::job::{Dice, Job};
use super::mortal::Life;
use crate::ConnectorError;

const FOLDER: &str = "THALWEG_TEST_FULL_DISK";
const TEST: &str =
    "file::sink::tests::full_disk::a_full_disk_fails_the_job_until_there_is_room_and_doubles_nothing";

#[test]
fn a_full_disk_fails_the_job_until_there_is_room_and_doubles_nothing() {
    if std::env::var(FOLDER).is_ok() {
        return on_a_small_disk();
    }
    let folder = tempfile::tempdir().unwrap();
    let mount = r#"mount -t tmpfs -o size=256k tmpfs "$0" && exec "$@""#;
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", mount])
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", TEST])
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
    let folder = std::env::var(FOLDER).unwrap();
    let ballast = format!("{folder}/ballast");
    std::fs::write(&ballast, vec![0; 180 << 10]).unwrap();
    let files = FileSystems::new(Configuration::default());
    let uri = format!("file://{folder}/out");
    let mut job = Job::new(files, &uri, (1 << 10, Some(8 << 10)), (100, 1_000));
    let error = job.run(&mut Dice(1), &Life::until(0, false), 2).unwrap_err();
    assert!(matches!(error, ConnectorError::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("no space left"), "{error}");
    assert!(error.to_string().contains(&uri), "{error}");
    job.check();
    std::fs::remove_file(ballast).unwrap();
    job.run(&mut Dice(2), &Life::until(0, false), 2).unwrap();
    job.check_all();
}
