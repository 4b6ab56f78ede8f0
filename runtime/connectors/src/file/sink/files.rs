//! What a file sink needs of storage, as a trait: real folders and buckets, and in tests some that stop at any step.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use thalweg_storage::{FileSystem, FileSystems, Staged, StagedWriter, StorageError};

use crate::ConnectorError;

/// Folders by URI: a checkpoint may hold parts of a folder that the sink had before.
pub(crate) trait Folders: Send + Sync {
    /// It is not looked at yet.
    fn open(&self, uri: &str) -> Result<Arc<dyn PartFiles>, StorageError>;
}

/// Part files of one folder; see [`thalweg_storage::FileSystem::stage`] and what follows it there.
pub(crate) trait PartFiles: Send + Sync {
    fn is_object_store(&self) -> bool;
    fn probe(&self) -> BoxFuture<'_, Result<(), StorageError>>;
    fn stage<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Box<dyn PartWriter>, StorageError>>;
    fn resume<'a>(
        &'a self,
        path: &'a str,
        staged: &'a Staged,
        length: u64,
    ) -> BoxFuture<'a, Result<Box<dyn PartWriter>, StorageError>>;
    fn publish<'a>(
        &'a self,
        path: &'a str,
        staged: &'a Staged,
        length: u64,
    ) -> BoxFuture<'a, Result<(), StorageError>>;
    fn discard<'a>(&'a self, path: &'a str, staged: &'a Staged) -> BoxFuture<'a, Result<(), StorageError>>;
}

/// Writes one part.
pub(crate) trait PartWriter: Send {
    fn staged(&self) -> Staged;
    fn write(&mut self, content: Bytes) -> BoxFuture<'_, Result<(), StorageError>>;
    fn sync(&mut self) -> BoxFuture<'_, Result<Staged, StorageError>>;
}

impl Folders for FileSystems {
    fn open(&self, uri: &str) -> Result<Arc<dyn PartFiles>, StorageError> {
        Ok(Arc::new(self.open_folder(uri)?))
    }
}

impl PartFiles for FileSystem {
    fn is_object_store(&self) -> bool {
        FileSystem::is_object_store(self)
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), StorageError>> {
        self.probe_stageable().boxed()
    }

    fn stage<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Box<dyn PartWriter>, StorageError>> {
        async move { Ok(Box::new(FileSystem::stage(self, path).await?) as Box<dyn PartWriter>) }.boxed()
    }

    fn resume<'a>(
        &'a self,
        path: &'a str,
        staged: &'a Staged,
        length: u64,
    ) -> BoxFuture<'a, Result<Box<dyn PartWriter>, StorageError>> {
        async move {
            let writer = FileSystem::resume(self, path, staged, length).await?;
            Ok(Box::new(writer) as Box<dyn PartWriter>)
        }
        .boxed()
    }

    fn publish<'a>(
        &'a self,
        path: &'a str,
        staged: &'a Staged,
        length: u64,
    ) -> BoxFuture<'a, Result<(), StorageError>> {
        FileSystem::publish(self, path, staged, length).boxed()
    }

    fn discard<'a>(&'a self, path: &'a str, staged: &'a Staged) -> BoxFuture<'a, Result<(), StorageError>> {
        FileSystem::discard(self, path, staged).boxed()
    }
}

impl PartWriter for StagedWriter {
    fn staged(&self) -> Staged {
        StagedWriter::staged(self)
    }

    fn write(&mut self, content: Bytes) -> BoxFuture<'_, Result<(), StorageError>> {
        StagedWriter::write(self, content).boxed()
    }

    fn sync(&mut self) -> BoxFuture<'_, Result<Staged, StorageError>> {
        StagedWriter::sync(self).boxed()
    }
}

/// For the task: what passes by itself restarts the job, the rest ends it.
pub(crate) fn failed(error: &StorageError) -> ConnectorError {
    let message = format!("file sink: {error}");
    if error.is_retryable() {
        ConnectorError::Unavailable(message)
    } else {
        ConnectorError::Refused(message)
    }
}
