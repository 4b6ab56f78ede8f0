//! Storage of a process that dies at a chosen step: from then on nothing it does has an effect.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use thalweg_storage::{FileSystems, Staged, StorageError};

use crate::file::sink::files::{Folders, PartFiles, PartWriter};

/// When a process dies.
#[derive(Debug, Default)]
pub(super) struct Life {
    steps: AtomicUsize,
    /// At this step, from 1; 0 = never.
    dies_at: usize,
    /// Whether that step is still done, and nobody told.
    does_it: bool,
    dead: AtomicBool,
}

impl Life {
    pub(super) fn until(dies_at: usize, does_it: bool) -> Arc<Self> {
        Arc::new(Self {
            dies_at,
            does_it,
            ..Self::default()
        })
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// A step between those of storage.
    pub(super) fn step(&self) -> Result<(), StorageError> {
        if self.is_dead() || self.counts() {
            self.dead.store(true, Ordering::SeqCst);
            return Err(death());
        }
        Ok(())
    }

    fn counts(&self) -> bool {
        self.steps.fetch_add(1, Ordering::SeqCst) + 1 == self.dies_at
    }

    async fn live<T>(&self, step: impl Future<Output = Result<T, StorageError>>) -> Result<T, StorageError> {
        if self.is_dead() {
            return Err(death());
        }
        if !self.counts() {
            return step.await;
        }
        if self.does_it {
            let _ = step.await;
        }
        self.dead.store(true, Ordering::SeqCst);
        Err(death())
    }
}

fn death() -> StorageError {
    StorageError::Unavailable {
        step: "write",
        uri: "x".to_owned(),
        message: "the process is dead".to_owned(),
    }
}

pub(super) struct MortalFolders {
    pub(super) files: FileSystems,
    pub(super) life: Arc<Life>,
}

impl Folders for MortalFolders {
    fn open(&self, uri: &str) -> Result<Arc<dyn PartFiles>, StorageError> {
        Ok(Arc::new(MortalFiles {
            files: Folders::open(&self.files, uri)?,
            life: Arc::clone(&self.life),
        }))
    }
}

struct MortalFiles {
    files: Arc<dyn PartFiles>,
    life: Arc<Life>,
}

impl MortalFiles {
    async fn writer(
        &self,
        begin: impl Future<Output = Result<Box<dyn PartWriter>, StorageError>>,
    ) -> Result<Box<dyn PartWriter>, StorageError> {
        let life = Arc::clone(&self.life);
        let writer = self.life.live(begin).await?;
        Ok(Box::new(MortalWriter { writer, life }) as Box<dyn PartWriter>)
    }
}

impl PartFiles for MortalFiles {
    fn is_object_store(&self) -> bool {
        self.files.is_object_store()
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), StorageError>> {
        self.life.live(self.files.probe()).boxed()
    }

    fn stage<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Box<dyn PartWriter>, StorageError>> {
        self.writer(self.files.stage(path)).boxed()
    }

    fn resume<'a>(
        &'a self,
        path: &'a str,
        staged: &'a Staged,
        length: u64,
    ) -> BoxFuture<'a, Result<Box<dyn PartWriter>, StorageError>> {
        self.writer(self.files.resume(path, staged, length)).boxed()
    }

    fn publish<'a>(
        &'a self,
        path: &'a str,
        staged: &'a Staged,
        length: u64,
    ) -> BoxFuture<'a, Result<(), StorageError>> {
        self.life.live(self.files.publish(path, staged, length)).boxed()
    }

    fn discard<'a>(&'a self, path: &'a str, staged: &'a Staged) -> BoxFuture<'a, Result<(), StorageError>> {
        self.life.live(self.files.discard(path, staged)).boxed()
    }
}

struct MortalWriter {
    writer: Box<dyn PartWriter>,
    life: Arc<Life>,
}

impl PartWriter for MortalWriter {
    fn staged(&self) -> Staged {
        self.writer.staged()
    }

    fn write(&mut self, content: Bytes) -> BoxFuture<'_, Result<(), StorageError>> {
        self.life.live(self.writer.write(content)).boxed()
    }

    fn sync(&mut self) -> BoxFuture<'_, Result<Staged, StorageError>> {
        self.life.live(self.writer.sync()).boxed()
    }
}
