//! A file whose size isn't known when it begins, written piece by piece.
//!
//! ```text
//!   write(Bytes) --> part of at least PART_BYTES --> object store, PARTS_UNDER_WAY at a time
//!                \-> local disk
//!   finish() --> the file is there          abort(), drop --> nothing is there
//! ```

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join;
use futures::stream::{FuturesUnordered, StreamExt};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload, UploadPart};

use crate::StorageError;
use crate::copies::CopyWriter;
use crate::local::StagedFile;

/// Object stores take no smaller parts but the last, and 10,000 of them: 80 GB a file.
pub(crate) const PART_BYTES: usize = 8 << 20;
/// Bounds the memory of a file being written, with [`PART_BYTES`].
const PARTS_UNDER_WAY: usize = 4;

/// A file being written.
pub struct FileWriter {
    uri: String,
    to: Target,
    written: u64,
    /// None: there is no copy, or it was given up.
    copy: Option<CopyWriter>,
}

enum Target {
    Local(Option<StagedFile>),
    Object(Box<Multipart>),
}

struct Multipart {
    store: Arc<dyn ObjectStore>,
    key: Path,
    /// None once it has ended.
    upload: Option<Box<dyn MultipartUpload>>,
    under_way: FuturesUnordered<UploadPart>,
    collected: Vec<Bytes>,
    collected_bytes: usize,
}

impl FileWriter {
    pub(crate) fn local(uri: String, file: StagedFile) -> Self {
        Self {
            uri,
            to: Target::Local(Some(file)),
            written: 0,
            copy: None,
        }
    }

    pub(crate) fn object(
        uri: String,
        store: Arc<dyn ObjectStore>,
        key: Path,
        upload: Box<dyn MultipartUpload>,
    ) -> Self {
        Self {
            uri,
            to: Target::Object(Box::new(Multipart {
                store,
                key,
                upload: Some(upload),
                under_way: FuturesUnordered::new(),
                collected: Vec::new(),
                collected_bytes: 0,
            })),
            written: 0,
            copy: None,
        }
    }

    /// The file with a local copy.
    pub(crate) fn with_copy(mut self, copy: Option<CopyWriter>) -> Self {
        self.copy = copy;
        self
    }

    /// The file's URI.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Bytes given so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Adds bytes; waits while too many are under way. After an error the file can only be aborted.
    pub async fn write(&mut self, content: Bytes) -> Result<(), StorageError> {
        self.written += content.len() as u64;
        let copy = self.copy.take();
        let copied = content.clone();
        let copying = async {
            match copy {
                Some(copy) => copy.write(copied).await,
                None => None,
            }
        };
        let (copy, result) = join(copying, self.write_itself(content)).await;
        self.copy = copy.filter(|_| result.is_ok());
        result
    }

    async fn write_itself(&mut self, content: Bytes) -> Result<(), StorageError> {
        match &mut self.to {
            Target::Local(slot) => {
                let file = slot.take();
                let (file, result) = blocking(&self.uri, move || {
                    let mut file = file;
                    let result = match &mut file {
                        Some(file) => file.write(&content),
                        None => Err(std::io::Error::other("an earlier write failed")),
                    };
                    (file, result)
                })
                .await?;
                result.map_err(|error| StorageError::from_io("write", &self.uri, &error))?;
                *slot = file;
                Ok(())
            }
            Target::Object(upload) => upload.write(&self.uri, content).await,
        }
    }

    /// Makes the file visible and durable.
    pub async fn finish(mut self) -> Result<(), StorageError> {
        let copy = self.copy.take();
        self.finish_itself().await?;
        if let Some(copy) = copy {
            copy.finish().await;
        }
        Ok(())
    }

    async fn finish_itself(&mut self) -> Result<(), StorageError> {
        match &mut self.to {
            Target::Local(slot) => {
                let file = slot.take();
                let result = blocking(&self.uri, move || match file {
                    Some(file) => file.finish(false),
                    None => Err(std::io::Error::other("an earlier write failed")),
                })
                .await?;
                result.map_err(|error| StorageError::from_io("write", &self.uri, &error))
            }
            Target::Object(upload) => upload.finish(&self.uri, self.written).await,
        }
    }

    /// Takes back what is written.
    pub async fn abort(mut self) {
        if let Target::Object(upload) = &mut self.to {
            upload.abort().await;
        }
    }
}

impl Drop for FileWriter {
    /// Parts that are never completed would stay and cost: they are given back in the background.
    fn drop(&mut self) {
        let Target::Object(upload) = &mut self.to else {
            return;
        };
        let (Some(mut rest), Ok(runtime)) = (upload.upload.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        runtime.spawn(async move { rest.abort().await });
    }
}

impl Multipart {
    async fn write(&mut self, uri: &str, content: Bytes) -> Result<(), StorageError> {
        self.collected_bytes += content.len();
        self.collected.push(content);
        if self.collected_bytes < PART_BYTES {
            return Ok(());
        }
        self.send_part();
        while self.under_way.len() >= PARTS_UNDER_WAY {
            self.one_part_done(uri).await?;
        }
        Ok(())
    }

    fn send_part(&mut self) {
        let payload: PutPayload = std::mem::take(&mut self.collected).into_iter().collect();
        self.collected_bytes = 0;
        if let Some(upload) = &mut self.upload {
            self.under_way.push(upload.put_part(payload));
        }
    }

    async fn one_part_done(&mut self, uri: &str) -> Result<(), StorageError> {
        match self.under_way.next().await {
            Some(Err(error)) => {
                self.abort().await;
                Err(StorageError::from_store("write", uri, &error))
            }
            Some(Ok(())) | None => Ok(()),
        }
    }

    async fn finish(&mut self, uri: &str, written: u64) -> Result<(), StorageError> {
        if self.collected_bytes > 0 {
            self.send_part();
        }
        while !self.under_way.is_empty() {
            self.one_part_done(uri).await?;
        }
        let Some(mut upload) = self.upload.take() else {
            return Err(StorageError::Failed {
                step: "write",
                uri: uri.to_owned(),
                message: "an earlier part failed".to_owned(),
            });
        };
        match upload.complete().await {
            Ok(_) => Ok(()),
            // It may have been completed, and the answer lost: then it is told that the upload isn't known.
            Err(_)
                if self
                    .store
                    .head(&self.key)
                    .await
                    .is_ok_and(|found| found.size == written) =>
            {
                Ok(())
            }
            Err(error) => {
                let failed = StorageError::from_store("write", uri, &error);
                self.upload = Some(upload);
                self.abort().await;
                Err(failed)
            }
        }
    }

    async fn abort(&mut self) {
        self.under_way.clear();
        if let Some(mut upload) = self.upload.take()
            && let Err(error) = upload.abort().await
        {
            tracing::warn!(%error, "parts of an unfinished file could not be given back");
        }
    }
}

/// Runs what blocks on a thread for that.
pub(crate) async fn blocking<T: Send + 'static>(
    uri: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StorageError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| StorageError::Failed {
            step: "access",
            uri: uri.to_owned(),
            message: error.to_string(),
        })
}
