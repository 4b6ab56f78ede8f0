//! A numbered log in storage: a file a record, each made by create-if-absent.
//!
//! ```text
//!   00000000000000000001  00000000000000000002  ...  00000000000000000065
//!   Submitted             LeadershipTaken            Base: what is before it may be deleted
//! ```
//!
//! Invariants: of all who append a record of one number one succeeds, and each of the others is told who it was; a writer appends
//! number n + 1 only after it knows what n is; so there is no gap behind the newest [`Content::Base`], and a writer that somebody
//! has overtaken can't append any more. An append whose answer was lost is found again by its nonce.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use thalweg_proto::ha::v1::{Record, record::Content};
use thalweg_storage::{FileSystem, StorageError};
use thalweg_types::{Classify, FailureClass};

use super::record::{self, RecordError};

/// Digits of a file's name.
const DIGITS: usize = 20;
/// Records read at one time.
const PARALLEL_READS: usize = 16;

/// What a log needs of storage.
#[tonic::async_trait]
pub(crate) trait RecordStore: Send + Sync {
    /// Where it is, for messages.
    fn uri(&self) -> String;
    /// The files below a folder, by path relative to the folder.
    async fn list(&self, folder: &str) -> Result<Vec<String>, StorageError>;
    /// A whole file.
    async fn read(&self, path: &str) -> Result<Bytes, StorageError>;
    /// Create-if-absent.
    async fn write_new(&self, path: &str, content: Bytes) -> Result<(), StorageError>;
    /// What is not there is as good as deleted.
    async fn delete(&self, paths: &[String]) -> Result<(), StorageError>;
}

#[tonic::async_trait]
impl RecordStore for FileSystem {
    fn uri(&self) -> String {
        FileSystem::uri(self)
    }

    async fn list(&self, folder: &str) -> Result<Vec<String>, StorageError> {
        let files = FileSystem::list(self, folder).await?;
        let beginning = format!("{folder}/");
        let path = |path: String| path.strip_prefix(&beginning).map_or(path.clone(), str::to_owned);
        Ok(files.into_iter().map(|file| path(file.path)).collect())
    }

    async fn read(&self, path: &str) -> Result<Bytes, StorageError> {
        FileSystem::read(self, path).await
    }

    async fn write_new(&self, path: &str, content: Bytes) -> Result<(), StorageError> {
        FileSystem::write_new(self, path, content).await
    }

    async fn delete(&self, paths: &[String]) -> Result<(), StorageError> {
        FileSystem::delete(self, paths).await
    }
}

/// Why a log can't be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// Somebody else wrote the record that was to be written.
    #[error("{path} was written by another JobManager ({instance}, epoch {epoch})")]
    Superseded {
        /// The record.
        path: String,
        /// Its writer's epoch.
        epoch: u64,
        /// Its writer.
        instance: String,
    },
    /// A record can't be used.
    #[error("{path} can't be used: {source}")]
    Record {
        /// The record.
        path: String,
        /// Why.
        #[source]
        source: RecordError,
    },
    /// A record is not there though later ones are.
    #[error("{path} is missing: the log goes on behind it")]
    Gap {
        /// The record.
        path: String,
    },
    /// The log begins with something else than a job's submission.
    #[error("{path} begins no job's log")]
    NoBegin {
        /// The first record.
        path: String,
    },
    /// Storage does not answer, is full, or denies it.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Classify for LogError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Storage(error) => error.class(),
            _ => FailureClass::Fatal,
        }
    }
}

/// Who appends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Writer {
    /// Random, one a process.
    pub(crate) instance: String,
    /// 0 before it leads.
    pub(crate) epoch: u64,
}

/// One log. Cheap to clone.
#[derive(Clone)]
pub(crate) struct RecordLog {
    store: Arc<dyn RecordStore>,
    folder: String,
    subject: String,
}

impl RecordLog {
    /// In `leader/`.
    pub(crate) fn of_leaders(store: Arc<dyn RecordStore>) -> Self {
        Self {
            store,
            folder: "leader".to_owned(),
            subject: "leader".to_owned(),
        }
    }

    /// In `jobs/<job id>/`.
    pub(crate) fn of_job(store: Arc<dyn RecordStore>, job: &str) -> Self {
        Self {
            store,
            folder: format!("jobs/{job}"),
            subject: job.to_owned(),
        }
    }

    fn path(&self, number: u64) -> String {
        format!("{}/{number:0DIGITS$}", self.folder)
    }

    /// For messages.
    pub(crate) fn uri_of(&self, number: u64) -> String {
        format!("{}/{}", self.store.uri(), self.path(number))
    }

    /// The numbers that are there, in order.
    pub(crate) async fn numbers(&self) -> Result<Vec<u64>, LogError> {
        let files = self.store.list(&self.folder).await?;
        let number = |name: &String| name.parse().ok().filter(|_| name.len() == DIGITS);
        let mut numbers: Vec<u64> = files.iter().filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The newest number; 0 in an empty log.
    pub(crate) async fn newest(&self) -> Result<u64, LogError> {
        Ok(self.numbers().await?.last().copied().unwrap_or(0))
    }

    /// Makes the record that has this number, and finds out whether it did.
    pub(crate) async fn append(
        &self,
        writer: &Writer,
        number: u64,
        nonce: u64,
        content: Content,
        now_ms: u64,
    ) -> Result<(), LogError> {
        let record = Record {
            epoch: writer.epoch,
            instance: writer.instance.clone(),
            nonce,
            subject: self.subject.clone(),
            number,
            time_ms: now_ms,
            content: Some(content),
        };
        match self
            .store
            .write_new(&self.path(number), record::encode(&record))
            .await
        {
            Err(StorageError::AlreadyExists { .. }) => {}
            result => return Ok(result?),
        }
        let theirs = self.read(number).await?;
        let of = |record: &Record| (record.epoch, record.instance.clone(), record.nonce);
        if of(&theirs) == of(&record) {
            return Ok(());
        }
        Err(LogError::Superseded {
            path: self.uri_of(number),
            epoch: theirs.epoch,
            instance: theirs.instance,
        })
    }

    /// One record.
    pub(crate) async fn read(&self, number: u64) -> Result<Record, LogError> {
        let bytes = self.store.read(&self.path(number)).await?;
        record::decode(&bytes, &self.subject, number).map_err(|source| LogError::Record {
            path: self.uri_of(number),
            source,
        })
    }

    /// A job's records up to `newest`, from the newest base on, or from its submission. `newest` has to be there, and whoever could
    /// append behind it has to be fenced.
    pub(crate) async fn load(&self, newest: u64) -> Result<Vec<Record>, LogError> {
        let mut numbers = self.numbers().await?;
        numbers.retain(|number| *number <= newest);
        let mut records = Vec::new();
        let mut expected = newest;
        while !numbers.is_empty() {
            let chunk = numbers.split_off(numbers.len().saturating_sub(PARALLEL_READS));
            let read = futures::stream::iter(chunk.into_iter().rev())
                .map(|number| async move { (number, self.read(number).await) })
                .buffered(PARALLEL_READS);
            for (number, record) in read.collect::<Vec<_>>().await {
                if number != expected {
                    let path = self.uri_of(expected);
                    return Err(LogError::Gap { path });
                }
                let record = record?;
                let is_begin = is_begin(&record);
                records.push(record);
                if is_begin {
                    records.reverse();
                    return Ok(records);
                }
                expected = number - 1;
            }
        }
        let path = self.uri_of(expected);
        Err(if expected == 0 {
            LogError::NoBegin { path: self.uri_of(1) }
        } else {
            LogError::Gap { path }
        })
    }

    /// Whatever of a job's begin can be read though the log as a whole can't be: its submission.
    pub(crate) async fn begin(&self) -> Option<Record> {
        for number in self.numbers().await.ok()?.into_iter().rev() {
            if let Some(record) = self.read(number).await.ok().filter(is_begin) {
                return Some(record);
            }
        }
        None
    }

    /// Deletes what is older than the record of this number.
    pub(crate) async fn delete_before(&self, number: u64) -> Result<(), LogError> {
        let numbers = self.numbers().await?.into_iter();
        let older: Vec<String> = numbers
            .filter(|older| *older < number)
            .map(|older| self.path(older))
            .collect();
        Ok(self.store.delete(&older).await?)
    }
}

/// Whether a log can be read from this record on.
fn is_begin(record: &Record) -> bool {
    match &record.content {
        Some(Content::Base(_)) => true,
        Some(Content::Submitted(_)) => record.number == 1,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
