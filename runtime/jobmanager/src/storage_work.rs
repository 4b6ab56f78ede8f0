//! What the jobs' checkpoint coordinators want done in storage: a tokio task each, whose outcome comes back as an event.
//!
//! ```text
//!   JobMaster --Effect::Storage--> StorageTasks::start --task--> storage --Event::StorageDone--> JobMaster
//! ```
//!
//! With high availability a checkpoint is complete when the job's log says so, and only then is that told; nothing is deleted before
//! the log has what was decided before it, and nothing by a leader that has a successor.
//!
//! The control plane never waits for storage, but when it shuts down: then what was begun has a few seconds to end. Deletions
//! take turns; metadata, which a checkpoint waits for, never waits behind them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use thalweg_checkpoint::metadata;
use thalweg_proto::ha::v1::record::Content;
use thalweg_proto::state::v1::SnapshotMetadata;
use thalweg_storage::{FileSystems, StorageError};
use thalweg_types::{Failure, FailureClass, JobId};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::TaskTracker;

use crate::control_plane::Event;
use crate::high_availability::HighAvailability;
use crate::job_master::{News, Operation};
use crate::snapshot::METADATA_FILE;

/// Deletions at one time, of all jobs.
const PARALLEL_DELETIONS: usize = 8;
/// How long a shutdown waits for what was begun.
const DRAIN: Duration = Duration::from_secs(5);

/// Something to do for a job.
#[derive(Clone)]
pub(crate) struct StorageWork {
    pub(crate) file_systems: FileSystems,
    pub(crate) request: StorageRequest,
}

/// What.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum StorageRequest {
    /// Makes a folder a checkpoint.
    WriteMetadata {
        checkpoint_id: u64,
        /// As a URI.
        folder: String,
        /// A file to write the folder's URI into, once it is a checkpoint.
        pointer: Option<String>,
        metadata: Arc<SnapshotMetadata>,
        /// That asked for it.
        operation: Option<Box<Operation>>,
    },
    /// Deletes files by their URIs.
    DeleteFiles(Vec<String>),
    /// Deletes a folder by its URI.
    DeleteFolder(String),
    /// Deletes all files below a folder but these, by their URIs.
    Sweep { folder: String, keep: Vec<String> },
    /// Nothing: it is answered by [`StorageOutcome::Confirmed`] to a JobManager that has no successor, and never to another.
    Confirm,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum StorageOutcome {
    /// The metadata's size in bytes.
    MetadataWritten {
        checkpoint_id: u64,
        result: Result<u64, Failure>,
    },
    /// Deleted, or not: then it was logged and stays.
    Deleted,
    /// This JobManager had no successor a moment ago.
    Confirmed,
}

impl std::fmt::Debug for StorageWork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.request.fmt(f)
    }
}

impl StorageWork {
    /// The folders that it deletes; nothing if a former leader may do it too.
    fn deletes(&self) -> Option<Vec<String>> {
        match &self.request {
            StorageRequest::WriteMetadata { .. } => None,
            StorageRequest::DeleteFolder(folder) => Some(vec![folder.clone()]),
            StorageRequest::DeleteFiles(_) | StorageRequest::Sweep { .. } | StorageRequest::Confirm => {
                Some(Vec::new())
            }
        }
    }

    /// Does it as a leader that may be overtaken; `None` = it was.
    async fn done_durably(
        self,
        deletions: &Semaphore,
        high_availability: &HighAvailability,
        job: JobId,
    ) -> Option<StorageOutcome> {
        let StorageRequest::WriteMetadata {
            folder,
            pointer,
            metadata,
            operation,
            ..
        } = &self.request
        else {
            return Some(self.done(deletions).await);
        };
        let (folder, metadata, stops_job) = (folder.clone(), metadata.clone(), pointer.is_some());
        let operation = operation.clone();
        let mut outcome = self.done(deletions).await;
        if let StorageOutcome::MetadataWritten { result, .. } = &mut outcome
            && result.is_ok()
        {
            let completed = high_availability.checkpoint_completed(
                job,
                &folder,
                stops_job,
                &metadata,
                operation.as_deref(),
            );
            if let Err(failure) = completed.await? {
                *result = Err(failure);
            }
        }
        Some(outcome)
    }

    /// Does it, and never panics its way past the answer.
    async fn done(self, deletions: &Semaphore) -> StorageOutcome {
        match self.request {
            StorageRequest::WriteMetadata {
                checkpoint_id,
                folder,
                pointer,
                metadata,
                operation: _,
            } => {
                let written = write_metadata(&self.file_systems, &folder, pointer.as_deref(), &metadata);
                let result = std::panic::AssertUnwindSafe(written).catch_unwind().await;
                let result = result.unwrap_or_else(|_| {
                    Err(Failure::new(
                        FailureClass::Bug,
                        format!("writing the metadata of checkpoint {checkpoint_id} panicked"),
                    ))
                });
                StorageOutcome::MetadataWritten {
                    checkpoint_id,
                    result,
                }
            }
            StorageRequest::DeleteFiles(files) => {
                deleted(deletions, delete_files(&self.file_systems, &files)).await
            }
            StorageRequest::DeleteFolder(folder) => {
                deleted(deletions, delete_folder(&self.file_systems, &folder)).await
            }
            StorageRequest::Sweep { folder, keep } => {
                deleted(deletions, sweep(&self.file_systems, &folder, &keep)).await
            }
            StorageRequest::Confirm => StorageOutcome::Confirmed,
        }
    }
}

/// Waits for its turn; what can't be deleted stays and is told to the log.
async fn deleted(
    deletions: &Semaphore,
    delete: impl Future<Output = Result<(), StorageError>>,
) -> StorageOutcome {
    let _turn = deletions.acquire().await;
    if let Err(error) = delete.await {
        tracing::warn!(%error, "files of a checkpoint that is not needed any more can't be deleted");
    }
    StorageOutcome::Deleted
}

async fn write_metadata(
    file_systems: &FileSystems,
    folder: &str,
    pointer: Option<&str>,
    metadata: &SnapshotMetadata,
) -> Result<u64, Failure> {
    let failed = |error: StorageError| Failure::from_error(&error);
    let content = Bytes::from(metadata::encode(metadata));
    let size = content.len() as u64;
    let folder = file_systems.open_folder(folder).map_err(failed)?;
    folder.write(METADATA_FILE, content).await.map_err(failed)?;
    if let Some(pointer) = pointer {
        let (parent, name) = file_systems.open_uri(pointer).map_err(failed)?;
        let to = Bytes::from(folder.uri());
        parent.write(&name, to).await.map_err(failed)?;
    }
    Ok(size)
}

/// All files are tried; the first failure is returned.
async fn delete_files(file_systems: &FileSystems, files: &[String]) -> Result<(), StorageError> {
    let mut by_folder: Vec<(String, Vec<String>)> = Vec::new();
    for file in files {
        let Some((folder, name)) = file.rsplit_once('/') else {
            continue;
        };
        match by_folder.iter_mut().find(|(known, _)| known == folder) {
            Some((_, names)) => names.push(name.to_owned()),
            None => by_folder.push((folder.to_owned(), vec![name.to_owned()])),
        }
    }
    let mut result = Ok(());
    for (folder, names) in by_folder {
        let deleted = match file_systems.open_folder(&folder) {
            Ok(folder) => folder.delete(&names).await,
            Err(error) => Err(error),
        };
        result = result.and(deleted);
    }
    result
}

async fn delete_folder(file_systems: &FileSystems, folder: &str) -> Result<(), StorageError> {
    let (parent, name) = file_systems.open_uri(folder)?;
    parent.delete_folder(&name).await
}

async fn sweep(file_systems: &FileSystems, folder: &str, keep: &[String]) -> Result<(), StorageError> {
    let folder = file_systems.open_folder(folder)?;
    let keep: HashSet<&String> = keep.iter().collect();
    let files = folder.list("").await?.into_iter().map(|file| file.path);
    let surplus = files.filter(|path| !keep.contains(&folder.uri_of(path)));
    folder.delete(&surplus.collect::<Vec<_>>()).await
}

/// The tasks that are under way.
pub(crate) struct StorageTasks {
    events: mpsc::WeakSender<Event>,
    tasks: TaskTracker,
    deletions: Arc<Semaphore>,
    high_availability: Option<HighAvailability>,
}

impl StorageTasks {
    pub(crate) fn new(events: mpsc::WeakSender<Event>, high_availability: Option<HighAvailability>) -> Self {
        Self {
            events,
            high_availability,
            tasks: TaskTracker::new(),
            deletions: Arc::new(Semaphore::new(PARALLEL_DELETIONS)),
        }
    }

    pub(crate) fn start(&self, job: JobId, work: StorageWork) {
        let (events, deletions) = (self.events.clone(), self.deletions.clone());
        let high_availability = self.high_availability.clone();
        // In the order of the decisions: asked here, answered in the task.
        let allowed = high_availability.as_ref().zip(work.deletes());
        let allowed = allowed.map(|(high_availability, folders)| high_availability.release(job, folders));
        self.tasks.spawn(async move {
            if let Some(allowed) = allowed
                && allowed.await.is_err()
            {
                return;
            }
            let outcome = match &high_availability {
                Some(high_availability) => work.done_durably(&deletions, high_availability, job).await,
                None => Some(work.done(&deletions).await),
            };
            if let (Some(outcome), Some(events)) = (outcome, events.upgrade()) {
                let outcome = Box::new(outcome);
                events.send(Event::StorageDone { job, outcome }).await.ok();
            }
        });
    }

    /// Puts a record into the job's log, and then says that it is there; never if it won't be.
    pub(crate) fn log(&self, job: JobId, record: Content, news: News) {
        let Some(high_availability) = &self.high_availability else {
            return;
        };
        // In the order of the decisions: asked here, answered in the task.
        let appended = high_availability.append(job, record);
        let events = self.events.clone();
        self.tasks.spawn(async move {
            if let Ok(Ok(())) = appended.await
                && let Some(events) = events.upgrade()
            {
                events.send(Event::Logged { job, news }).await.ok();
            }
        });
    }

    /// Waits for what is under way, for a while.
    pub(crate) async fn drain(&self) {
        self.tasks.close();
        if tokio::time::timeout(DRAIN, self.tasks.wait()).await.is_err() {
            tracing::warn!(
                left = self.tasks.len(),
                "storage did not answer in time; files of ended jobs may be left over"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_types::config::Configuration;

    #[tokio::test]
    async fn metadata_is_written_and_files_and_folders_are_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let base = format!("file://{}", folder.path().display());
        let file_systems = FileSystems::new(Configuration::default());
        let run = async |request| {
            let work = StorageWork {
                file_systems: file_systems.clone(),
                request,
            };
            work.done(&Semaphore::new(1)).await
        };
        let metadata = SnapshotMetadata {
            format_version: 1,
            checkpoint_id: 7,
            ..SnapshotMetadata::default()
        };
        let written = run(StorageRequest::WriteMetadata {
            checkpoint_id: 7,
            folder: format!("{base}/chk-7"),
            pointer: Some(format!("{base}/job/chk-7/_savepoint")),
            metadata: Arc::new(metadata),
            operation: None,
        });
        let StorageOutcome::MetadataWritten {
            checkpoint_id: 7,
            result: Ok(size),
        } = written.await
        else {
            panic!("it is written");
        };
        let file = folder.path().join("chk-7/_metadata");
        assert_eq!(std::fs::metadata(&file).unwrap().len(), size);
        let pointer = std::fs::read_to_string(folder.path().join("job/chk-7/_savepoint"));
        assert_eq!(pointer.unwrap(), format!("{base}/chk-7"));
        run(StorageRequest::DeleteFiles(vec![
            format!("{base}/chk-7/_metadata"),
            format!("{base}/chk-7/never-there"),
        ]))
        .await;
        assert!(!file.exists());
        std::fs::create_dir(folder.path().join("shared")).unwrap();
        for name in ["kept", "lost"] {
            std::fs::write(folder.path().join("shared").join(name), name).unwrap();
        }
        run(StorageRequest::Sweep {
            folder: base.clone(),
            keep: vec![format!("{base}/shared/kept")],
        })
        .await;
        assert!(folder.path().join("shared/kept").exists() && !folder.path().join("shared/lost").exists());
        run(StorageRequest::DeleteFolder(format!("{base}/chk-7"))).await;
        assert!(!folder.path().join("chk-7").exists() && folder.path().exists());
    }

    #[tokio::test]
    async fn metadata_that_can_not_be_written_is_a_failure_with_the_path() {
        let work = StorageWork {
            file_systems: FileSystems::new(Configuration::default()),
            request: StorageRequest::WriteMetadata {
                checkpoint_id: 1,
                folder: "file:///proc/none/chk-1".to_owned(),
                pointer: None,
                metadata: Arc::default(),
                operation: None,
            },
        };
        let StorageOutcome::MetadataWritten {
            result: Err(failure), ..
        } = work.done(&Semaphore::new(1)).await
        else {
            panic!("nothing can be written there");
        };
        assert!(failure.message.contains("/proc/none/chk-1"), "{failure}");
    }
}
