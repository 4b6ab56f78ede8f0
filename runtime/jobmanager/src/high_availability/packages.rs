//! The packages of a cluster's jobs, in its high-availability folder, by hash.

use std::collections::BTreeSet;

use bytes::Bytes;
use thalweg_storage::{FileSystem, StorageError};
use thalweg_types::{Failure, FailureClass};
use tokio::io::AsyncReadExt;

use crate::package::Package;

/// Of one piece of an upload.
const PART: usize = 8 << 20;

pub(super) fn path_of(sha256: &str) -> String {
    format!("packages/{sha256}")
}

/// Puts a package there, unless it is there already.
pub(super) async fn keep(folder: &FileSystem, package: &Package) -> Result<(), Failure> {
    let path = path_of(&package.sha256);
    let storage = |error: StorageError| Failure::from_error(&error);
    match folder.size(&path).await {
        Ok(size) if size == package.size => return Ok(()),
        Ok(_) | Err(StorageError::NotFound { .. }) => {}
        Err(error) => return Err(storage(error)),
    }
    let local = |error: std::io::Error| {
        let message = format!(
            "the package {} can't be read from the JobManager's disk: {error}",
            package.sha256
        );
        Failure::new(FailureClass::Retryable, message)
    };
    let mut file = tokio::fs::File::open(package.payload()).await.map_err(local)?;
    let mut writer = folder.writer(&path).await.map_err(storage)?;
    loop {
        let mut part = Vec::with_capacity(PART);
        let mut taken = (&mut file).take(PART as u64);
        if taken.read_to_end(&mut part).await.map_err(local)? == 0 {
            return writer.finish().await.map_err(storage);
        }
        writer.write(Bytes::from(part)).await.map_err(storage)?;
    }
}

/// Deletes the packages of no job. Only before submissions are let in.
pub(super) async fn delete_unused(folder: &FileSystem, used: &BTreeSet<String>) -> Result<(), StorageError> {
    let files = folder.list("packages").await?.into_iter().map(|file| file.path);
    let is_used = |path: &String| {
        let name = path.rsplit('/').next().unwrap_or_default();
        used.contains(name)
    };
    let unused: Vec<String> = files.filter(|path| !is_used(path)).collect();
    folder.delete(&unused).await
}
