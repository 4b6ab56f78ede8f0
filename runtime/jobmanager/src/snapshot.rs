//! Snapshots as they lie in storage: opening one to start from or to look at, and disposing of a savepoint.
//!
//! ```text
//!   "s3://bucket/savepoint-1"            \
//!   "/checkpoints/<job>/chk-7/_metadata"  }--open--> StoredSnapshot { folder, metadata }
//! ```

pub use thalweg_checkpoint::metadata::METADATA_FILE;
use thalweg_checkpoint::metadata::{self, MetadataError};
use thalweg_proto::state::v1::SnapshotMetadata;
use thalweg_storage::{FileSystem, FileSystems, StorageError};
use thalweg_types::{Classify, FailureClass};

/// Why a path leads to no usable snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// There is nothing.
    #[error("there is no checkpoint or savepoint at {path}: {file} does not exist")]
    Missing {
        /// As it was given.
        path: String,
        /// What was looked for.
        file: String,
    },
    /// Its `_metadata` can't be used.
    #[error("{path} can't be used: {source}")]
    Metadata {
        /// The file.
        path: String,
        /// What is wrong with it.
        #[source]
        source: MetadataError,
    },
    /// It is a checkpoint, whose files others may share.
    #[error(
        "{path} is checkpoint {checkpoint_id} of job {job_id}, no savepoint: only savepoints can be disposed of, \
         other checkpoints of the job may share its files"
    )]
    NoSavepoint {
        /// As it was given.
        path: String,
        /// Its number.
        checkpoint_id: u64,
        /// Its job.
        job_id: String,
    },
    /// Storage does not answer, or denies it.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Classify for SnapshotError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Storage(error) => error.class(),
            _ => FailureClass::Fatal,
        }
    }
}

/// A snapshot in storage.
#[derive(Debug, Clone)]
pub struct StoredSnapshot {
    /// The folder with its `_metadata`, as a URI.
    pub folder: String,
    /// What it holds.
    pub metadata: SnapshotMetadata,
}

impl StoredSnapshot {
    /// The folder that its relative paths start from: a savepoint's own, for a checkpoint the job's.
    pub fn base(&self) -> &str {
        match self.folder.rsplit_once('/') {
            Some((job, _)) if !self.metadata.savepoint => job,
            _ => &self.folder,
        }
    }
}

/// Reads the `_metadata` of a snapshot; the path is that of its folder, of the file itself, or of a job's folder of checkpoints, whose
/// newest complete one is meant.
///
/// # Errors
/// Nothing there, no snapshot, a damaged one, storage that fails: each names the path.
pub async fn open(file_systems: &FileSystems, path: &str) -> Result<StoredSnapshot, SnapshotError> {
    let trimmed = path.trim().trim_end_matches('/');
    let folder = trimmed
        .strip_suffix(METADATA_FILE)
        .and_then(|folder| folder.strip_suffix('/'))
        .unwrap_or(trimmed);
    let folder = file_systems.open_folder(folder)?;
    let file = folder.uri_of(METADATA_FILE);
    let bytes = match folder.read(METADATA_FILE).await {
        Ok(bytes) => bytes,
        Err(StorageError::NotFound { .. }) => {
            return newest_checkpoint(file_systems, &folder)
                .await?
                .ok_or_else(|| SnapshotError::Missing {
                    path: path.to_owned(),
                    file,
                });
        }
        Err(error) => return Err(error.into()),
    };
    let metadata =
        metadata::decode(&bytes).map_err(|source| SnapshotError::Metadata { path: file, source })?;
    Ok(StoredSnapshot {
        folder: folder.uri(),
        metadata,
    })
}

/// The newest complete checkpoint in a job's folder. One whose `_metadata` can't be used is passed over for the one before it.
async fn newest_checkpoint(
    file_systems: &FileSystems,
    job_folder: &FileSystem,
) -> Result<Option<StoredSnapshot>, SnapshotError> {
    let files = job_folder.list("").await?;
    let mut numbers: Vec<u64> = files
        .iter()
        .filter_map(|file| checkpoint_number(&file.path))
        .collect();
    numbers.sort_unstable_by(|left, right| right.cmp(left));
    for number in numbers {
        let path = job_folder.uri_of(&format!("chk-{number}/{METADATA_FILE}"));
        match Box::pin(open(file_systems, &path)).await {
            Ok(snapshot) => return Ok(Some(snapshot)),
            Err(error @ (SnapshotError::Metadata { .. } | SnapshotError::Missing { .. })) => {
                tracing::warn!(%error, "a checkpoint is passed over for the one before it");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Of `chk-7/_metadata`.
fn checkpoint_number(path: &str) -> Option<u64> {
    path.strip_prefix("chk-")?
        .strip_suffix(METADATA_FILE)?
        .strip_suffix('/')?
        .parse()
        .ok()
}

/// Deletes a savepoint's folder.
///
/// # Errors
/// As [`open`]; a checkpoint.
pub async fn dispose(file_systems: &FileSystems, path: &str) -> Result<(), SnapshotError> {
    let snapshot = open(file_systems, path).await?;
    if !snapshot.metadata.savepoint {
        return Err(SnapshotError::NoSavepoint {
            path: path.to_owned(),
            checkpoint_id: snapshot.metadata.checkpoint_id,
            job_id: snapshot.metadata.job_id,
        });
    }
    // Without its _metadata it is none any more, even if the rest can't be deleted.
    let folder = file_systems.open_folder(&snapshot.folder)?;
    folder.delete(&[METADATA_FILE.to_owned()]).await?;
    let (parent, name) = file_systems.open_uri(&snapshot.folder)?;
    Ok(parent.delete_folder(&name).await?)
}
