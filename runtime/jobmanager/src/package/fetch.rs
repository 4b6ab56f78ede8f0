//! Where packages come from: the image, a file, the web, an object store.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use sha2::{Digest, Sha256};
use thalweg_storage::{FileSystems, StorageError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::PackageError;

const CHUNK: usize = 256 << 10;
/// What is asked for at a time of an object store.
const PART: u64 = 8 << 20;
/// Without a byte for so long, a transfer has failed.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A package's address, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PackageSource {
    /// A file or a folder of this machine: `local://`, `file://` or a bare path.
    Path(PathBuf),
    /// `http://` or `https://`.
    Http(String),
    /// In an object store: `s3://bucket/key` and so on.
    Object(String),
}

impl PackageSource {
    /// Understands an address.
    pub fn parse(uri: &str) -> Result<Self, PackageError> {
        let wrong = || PackageError::Uri { uri: uri.to_owned() };
        let Some((scheme, rest)) = uri.split_once("://") else {
            return if uri.is_empty() {
                Err(wrong())
            } else {
                Ok(Self::Path(PathBuf::from(uri)))
            };
        };
        match scheme {
            "local" | "file" if rest.starts_with('/') => Ok(Self::Path(PathBuf::from(rest))),
            "http" | "https" if !rest.is_empty() => Ok(Self::Http(uri.to_owned())),
            "s3" | "s3a" | "gs" | "abfs" | "abfss" => match rest.split_once('/') {
                Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => {
                    Ok(Self::Object(uri.to_owned()))
                }
                _ => Err(wrong()),
            },
            _ => Err(wrong()),
        }
    }
}

/// A payload on its way into the store: counted against the limit and hashed as it is written.
pub(super) struct Download<'a> {
    uri: &'a str,
    path: &'a Path,
    file: tokio::fs::File,
    hasher: Sha256,
    size: u64,
    limit: u64,
}

impl<'a> Download<'a> {
    pub(super) async fn create(uri: &'a str, path: &'a Path, limit: u64) -> Result<Self, PackageError> {
        let file = tokio::fs::File::create(path)
            .await
            .map_err(|source| store_error(uri, path, source))?;
        Ok(Self {
            uri,
            path,
            file,
            hasher: Sha256::new(),
            size: 0,
            limit,
        })
    }

    pub(super) async fn write(&mut self, data: &[u8]) -> Result<(), PackageError> {
        self.size += data.len() as u64;
        if self.size > self.limit {
            return Err(PackageError::TooLarge {
                uri: self.uri.to_owned(),
                limit: self.limit,
            });
        }
        self.hasher.update(data);
        self.file
            .write_all(data)
            .await
            .map_err(|source| store_error(self.uri, self.path, source))
    }

    /// Its sha256 and size.
    pub(super) async fn finish(mut self) -> Result<(String, u64), PackageError> {
        self.file
            .flush()
            .await
            .map_err(|source| store_error(self.uri, self.path, source))?;
        Ok((hex::encode(self.hasher.finalize()), self.size))
    }

    pub(super) async fn copy_file(&mut self, source: &Path) -> Result<(), PackageError> {
        let failed = |error: std::io::Error| self_fetch_error(self.uri, &error);
        let mut file = tokio::fs::File::open(source).await.map_err(failed)?;
        let mut buffer = vec![0; CHUNK];
        loop {
            let read = file.read(&mut buffer).await.map_err(failed)?;
            if read == 0 {
                return Ok(());
            }
            self.write(&buffer[..read]).await?;
        }
    }

    /// Part by part: each has its own time-out and tries, so a large package over a slow link takes its time.
    pub(super) async fn object(&mut self, file_systems: &FileSystems) -> Result<(), PackageError> {
        let opened = file_systems.open_uri(self.uri);
        let (folder, name) = opened.map_err(|error| storage_error(self.uri, error))?;
        loop {
            let range = self.size..self.size + PART;
            let part = folder.read_range(&name, range).await;
            let part = part.map_err(|error| storage_error(self.uri, error))?;
            self.write(&part).await?;
            if (part.len() as u64) < PART {
                return Ok(());
            }
        }
    }

    pub(super) async fn http(&mut self, url: &str) -> Result<(), PackageError> {
        let failed = |error: reqwest::Error| self_fetch_error(self.uri, &error);
        let client = reqwest::Client::builder()
            .connect_timeout(READ_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .build()
            .map_err(failed)?;
        let response = client.get(url).send().await.map_err(failed)?;
        if response.status() == reqwest::StatusCode::NOT_FOUND {
            return Err(PackageError::Missing {
                uri: self.uri.to_owned(),
            });
        }
        let response = response.error_for_status().map_err(failed)?;
        let mut body = response.bytes_stream();
        while let Some(chunk) = body.next().await {
            self.write(&chunk.map_err(failed)?).await?;
        }
        Ok(())
    }
}

fn store_error(uri: &str, path: &Path, source: std::io::Error) -> PackageError {
    PackageError::Store {
        uri: uri.to_owned(),
        path: path.to_owned(),
        source,
    }
}

fn storage_error(uri: &str, error: StorageError) -> PackageError {
    let uri = uri.to_owned();
    match error {
        StorageError::NotFound { .. } => PackageError::Missing { uri },
        StorageError::BucketMissing { bucket, .. } => PackageError::BucketMissing { uri, bucket },
        StorageError::Denied { message, .. } => PackageError::Denied { uri, reason: message },
        StorageError::Uri { message, .. } => PackageError::ObjectStore { uri, reason: message },
        other => PackageError::Fetch {
            uri,
            reason: other.reason(),
        },
    }
}

/// The root cause in one line: network libraries hide it behind several layers.
fn self_fetch_error(uri: &str, error: &dyn std::error::Error) -> PackageError {
    let mut root = error;
    while let Some(cause) = root.source() {
        root = cause;
    }
    let (outer, root) = (error.to_string(), root.to_string());
    let reason = if outer.contains(&root) {
        outer
    } else {
        format!("{outer}: {root}")
    };
    PackageError::Fetch {
        uri: uri.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood() {
        let path = |text: &str| Ok(PackageSource::Path(PathBuf::from(text)));
        assert_eq!(
            PackageSource::parse("local:///opt/job").map_err(drop),
            path("/opt/job")
        );
        assert_eq!(
            PackageSource::parse("file:///opt/job.tar.gz").map_err(drop),
            path("/opt/job.tar.gz")
        );
        assert_eq!(PackageSource::parse("job.tar").map_err(drop), path("job.tar"));
        for uri in [
            "s3://b/jobs/a.tar",
            "s3a://b/a.tar",
            "gs://b/a.tar",
            "abfss://c@a.dfs.core.windows.net/a.tar",
        ] {
            assert_eq!(
                PackageSource::parse(uri).map_err(drop),
                Ok(PackageSource::Object(uri.to_owned()))
            );
        }
    }

    #[test]
    fn other_addresses_are_refused_by_name() {
        for uri in [
            "",
            "ftp://host/job",
            "s3://bucket",
            "gs://bucket/",
            "local://relative",
            "https://",
        ] {
            let error = PackageSource::parse(uri).unwrap_err();
            assert!(error.to_string().contains(&format!("{uri:?}")), "{error}");
        }
    }
}
