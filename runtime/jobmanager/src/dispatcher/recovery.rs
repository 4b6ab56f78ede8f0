//! What an earlier JobManager left of the same job: where it goes on, and which older checkpoints are still its own.
//!
//! ```text
//!   <job folder>/chk-6/_metadata    retained: the job's, deleted in its turn
//!   <job folder>/chk-7/_metadata    the newest, unless there is
//!   <job folder>/chk-8/_savepoint   the URI of savepoint 8, which was to stop the job
//! ```
//!
//! Invariant: nothing older than a savepoint whose pointer is there is started from: the job's sinks have committed behind it.

use thalweg_checkpoint::POINTER_FILE;
use thalweg_checkpoint::metadata::METADATA_FILE;
use thalweg_storage::{FileSystem, FileSystems};
use thalweg_types::config::{ClaimMode, Configuration, options};
use thalweg_types::{Failure, FailureClass, JobId};

use super::state::configured;
use crate::snapshot::{self, SnapshotError, StoredSnapshot};

/// Where a job goes on.
#[derive(Debug)]
pub(super) struct OwnSnapshots {
    /// The newest.
    pub(super) newest: StoredSnapshot,
    /// A checkpoint is the job's; the savepoint that was to stop it is its user's.
    pub(super) claim_mode: ClaimMode,
    /// The checkpoints before it, oldest first.
    pub(super) earlier: Vec<StoredSnapshot>,
}

/// Looks through the job's folder. Nothing if no snapshot of it was ever complete.
pub(super) async fn own_snapshots(
    configuration: &Configuration,
    file_systems: &FileSystems,
    job_id: JobId,
) -> Result<Option<OwnSnapshots>, Failure> {
    let Some(directory) = configured(configuration, &options::CHECKPOINTING_DIR)? else {
        return Ok(None);
    };
    let listed = match file_systems.open_folder(&directory) {
        Ok(folder) => {
            let folder = folder.folder(&job_id.to_string());
            folder.list("").await.map(|files| (folder, files))
        }
        Err(error) => Err(error),
    };
    let (folder, files) = listed.map_err(|error| Failure::from_error(&error))?;
    let mut checkpoints: Vec<u64> = files
        .iter()
        .filter_map(|file| number_of(&file.path, METADATA_FILE))
        .collect();
    checkpoints.sort_unstable();
    let mut earlier = Vec::with_capacity(checkpoints.len());
    for number in checkpoints {
        let path = folder.uri_of(&format!("chk-{number}/{METADATA_FILE}"));
        match snapshot::open(file_systems, &path).await {
            Ok(snapshot) => earlier.push(snapshot),
            Err(error @ (SnapshotError::Metadata { .. } | SnapshotError::Missing { .. })) => {
                tracing::warn!(%job_id, %error, "a checkpoint is passed over");
            }
            Err(error) => return Err(Failure::from_error(&error)),
        }
    }
    let newest = earlier
        .last()
        .map_or(0, |snapshot| snapshot.metadata.checkpoint_id);
    let stopped = files
        .iter()
        .filter_map(|file| number_of(&file.path, POINTER_FILE))
        .max()
        .filter(|savepoint| *savepoint > newest);
    if let Some(number) = stopped {
        return Ok(Some(OwnSnapshots {
            newest: pointed_to(file_systems, &folder, number).await?,
            claim_mode: ClaimMode::NoClaim,
            earlier,
        }));
    }
    Ok(earlier.pop().map(|newest| OwnSnapshots {
        newest,
        claim_mode: ClaimMode::Claim,
        earlier,
    }))
}

async fn pointed_to(
    file_systems: &FileSystems,
    folder: &FileSystem,
    number: u64,
) -> Result<StoredSnapshot, Failure> {
    let file = format!("chk-{number}/{POINTER_FILE}");
    let bytes = folder.read(&file).await;
    let bytes = bytes.map_err(|error| Failure::from_error(&error))?;
    let savepoint = String::from_utf8_lossy(&bytes);
    snapshot::open(file_systems, savepoint.trim()).await.map_err(|error| {
        let failure = Failure::from_error(&error);
        let message = format!(
            "the job was stopped with savepoint {savepoint} and can go on from there only, because what it holds is committed: {}; \
             to start from an older checkpoint all the same, and commit again what followed it, delete {}",
            failure.message,
            folder.uri_of(&file)
        );
        match error {
            SnapshotError::Storage(_) => Failure { message, ..failure },
            _ => Failure::new(FailureClass::Fatal, message),
        }
    })
}

/// Of `chk-7/<name>`.
fn number_of(path: &str, name: &str) -> Option<u64> {
    let number = path.strip_prefix("chk-")?.strip_suffix(name)?.strip_suffix('/')?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_checkpoint::metadata;
    use thalweg_proto::state::v1::SnapshotMetadata;

    struct Storage {
        folder: tempfile::TempDir,
        configuration: Configuration,
    }

    impl Storage {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let mut configuration = Configuration::default();
            let uri = format!("file://{}", folder.path().display());
            configuration.set(options::CHECKPOINTING_DIR.key, uri);
            Self {
                folder,
                configuration,
            }
        }

        fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
            let file = self.folder.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, bytes).unwrap();
        }

        fn checkpoint(&self, number: u64) {
            let path = format!("{}/chk-{number}/_metadata", JobId::from_u128(7));
            self.write(&path, snapshot(number, false));
        }

        fn pointer(&self, number: u64, to: &str) {
            let savepoint = format!("file://{}/{to}", self.folder.path().display());
            let path = format!("{}/chk-{number}/_savepoint", JobId::from_u128(7));
            self.write(&path, savepoint);
        }

        /// The number it goes on from, whose that is, and the older ones.
        async fn found(&self) -> Result<Option<(u64, ClaimMode, Vec<u64>)>, Failure> {
            let files = FileSystems::new(self.configuration.clone());
            let found = own_snapshots(&self.configuration, &files, JobId::from_u128(7)).await?;
            let number = |snapshot: &StoredSnapshot| snapshot.metadata.checkpoint_id;
            Ok(found.map(|own| {
                let earlier = own.earlier.iter().map(number).collect();
                (number(&own.newest), own.claim_mode, earlier)
            }))
        }
    }

    fn snapshot(checkpoint_id: u64, savepoint: bool) -> Vec<u8> {
        metadata::encode(&SnapshotMetadata {
            format_version: 1,
            checkpoint_id,
            savepoint,
            ..SnapshotMetadata::default()
        })
    }

    #[tokio::test]
    async fn the_newest_complete_checkpoint_is_gone_on_from_and_older_ones_are_the_jobs_too() {
        let storage = Storage::new();
        assert_eq!(storage.found().await, Ok(None));
        for number in [10, 9, 2] {
            storage.checkpoint(number);
        }
        storage.write(&format!("{}/chk-11/0123", JobId::from_u128(7)), "begun");
        storage.write(&format!("{}/chk-12/_metadata", JobId::from_u128(7)), "torn");
        assert_eq!(
            storage.found().await,
            Ok(Some((10, ClaimMode::Claim, vec![2, 9])))
        );
    }

    #[tokio::test]
    async fn a_savepoint_that_stopped_the_job_comes_before_older_checkpoints_and_belongs_to_its_user() {
        let storage = Storage::new();
        storage.checkpoint(9);
        storage.write("savepoint-1/_metadata", snapshot(10, true));
        storage.pointer(10, "savepoint-1");
        assert_eq!(storage.found().await, Ok(Some((10, ClaimMode::NoClaim, vec![9]))));
        storage.checkpoint(11);
        assert_eq!(storage.found().await, Ok(Some((11, ClaimMode::Claim, vec![9]))));
    }

    #[tokio::test]
    async fn if_that_savepoint_is_gone_the_job_does_not_start_from_something_older() {
        let storage = Storage::new();
        storage.checkpoint(9);
        storage.pointer(10, "savepoint-1");
        let refusal = storage.found().await.unwrap_err();
        assert_eq!(refusal.class, FailureClass::Fatal);
        for part in ["/savepoint-1", "delete", "/chk-10/_savepoint"] {
            assert!(refusal.message.contains(part), "{refusal}");
        }
    }
}
