//! Job packages by hash, unpacked, within a byte limit.
//!
//! ```text
//!   get(sha256) -> present? -> folder
//!                  else: stream from the JobManager -> temporary file, hashed on the way -> unpack -> rename to <sha256>
//! ```
//!
//! Invariants: a folder named by a hash holds exactly the package of that hash (it appears by a rename); a package that a
//! worker uses is never evicted; unused ones go in the order of their last use when the limit is passed.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};
use thalweg_proto::control::v1::job_manager_client::JobManagerClient;
use thalweg_proto::control::v1::{FetchPackageRequest, PackageChunk};
use thalweg_types::{Classify, FailureClass};
use tonic::transport::Channel;

/// Why a package can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackageCacheError {
    /// The JobManager broke off or does not have it.
    #[error("the job package {sha256} can't be fetched from the JobManager: {status}")]
    Fetch {
        sha256: String,
        status: Box<tonic::Status>,
    },
    /// What came is something else.
    #[error("the job package {sha256} arrived with the hash {actual}: it was damaged on the way")]
    Hash { sha256: String, actual: String },
    /// It is larger than announced.
    #[error("the job package {sha256} is larger than the {size} bytes announced")]
    Size { sha256: String, size: u64 },
    /// It doesn't fit beside those in use.
    #[error(
        "the job package {sha256} of {size} bytes does not fit into the package cache: {used} of {limit} bytes are in use by running jobs"
    )]
    Full {
        sha256: String,
        size: u64,
        used: u64,
        limit: u64,
    },
    /// The archive can't be read or written to disk.
    #[error("the job package {sha256} can't be unpacked in {path}")]
    Unpack {
        sha256: String,
        path: String,
        #[source]
        source: std::io::Error,
    },
}

impl Classify for PackageCacheError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Fetch { .. } | Self::Hash { .. } | Self::Full { .. } => FailureClass::Retryable,
            Self::Size { .. } | Self::Unpack { .. } => FailureClass::Fatal,
        }
    }
}

/// A package in use; it stays in the cache as long as this lives.
#[derive(Debug, Clone)]
pub(crate) struct CachedPackage {
    folder: Arc<PathBuf>,
}

impl CachedPackage {
    /// Where it is unpacked.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

#[derive(Debug)]
struct Entry {
    folder: Arc<PathBuf>,
    size: u64,
    last_use: u64,
}

/// The cache; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct PackageCache {
    root: Arc<PathBuf>,
    limit: u64,
    entries: Arc<Mutex<HashMap<String, Entry>>>,
    /// One download at a time: two jobs of one package share it.
    download: Arc<tokio::sync::Mutex<()>>,
}

impl PackageCache {
    /// A cache in `root`, emptied of what an earlier process left.
    pub(crate) fn new(root: PathBuf, limit: u64) -> std::io::Result<Self> {
        if root.exists() {
            std::fs::remove_dir_all(&root)?;
        }
        std::fs::create_dir_all(&root)?;
        Ok(Self {
            root: Arc::new(root),
            limit,
            entries: Arc::default(),
            download: Arc::default(),
        })
    }

    /// The package, fetched if it is not there.
    pub(crate) async fn get(
        &self,
        client: &mut JobManagerClient<Channel>,
        sha256: &str,
        size: u64,
    ) -> Result<CachedPackage, PackageCacheError> {
        let _one_at_a_time = self.download.lock().await;
        if let Some(package) = self.lookup(sha256) {
            return Ok(package);
        }
        self.make_room(sha256, size)?;
        let archive = self.fetch(client, sha256, size).await?;
        let folder = self.root.join(sha256);
        let target = folder.clone();
        let unpacked = tokio::task::spawn_blocking(move || unpack(&archive, &target)).await;
        let outcome = unpacked.unwrap_or_else(|panic| Err(std::io::Error::other(panic)));
        outcome.map_err(|source| PackageCacheError::Unpack {
            sha256: sha256.to_owned(),
            path: folder.display().to_string(),
            source,
        })?;
        Ok(self.insert(sha256, folder, size))
    }

    fn lookup(&self, sha256: &str) -> Option<CachedPackage> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let now = next_use(&entries);
        let entry = entries.get_mut(sha256)?;
        entry.last_use = now;
        Some(CachedPackage {
            folder: entry.folder.clone(),
        })
    }

    fn insert(&self, sha256: &str, folder: PathBuf, size: u64) -> CachedPackage {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let last_use = next_use(&entries);
        let folder = Arc::new(folder);
        entries.insert(
            sha256.to_owned(),
            Entry {
                folder: folder.clone(),
                size,
                last_use,
            },
        );
        CachedPackage { folder }
    }

    fn make_room(&self, sha256: &str, size: u64) -> Result<(), PackageCacheError> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let mut used: u64 = entries.values().map(|entry| entry.size).sum();
        while used + size > self.limit {
            let unused = entries
                .iter()
                .filter(|(_, entry)| Arc::strong_count(&entry.folder) == 1);
            let Some(oldest) = unused
                .min_by_key(|(_, entry)| entry.last_use)
                .map(|(key, _)| key.clone())
            else {
                return Err(PackageCacheError::Full {
                    sha256: sha256.to_owned(),
                    size,
                    used,
                    limit: self.limit,
                });
            };
            if let Some(entry) = entries.remove(&oldest) {
                used -= entry.size;
                if let Err(error) = std::fs::remove_dir_all(entry.folder.as_path()) {
                    tracing::warn!(package = oldest, %error, "an evicted package could not be removed");
                }
            }
        }
        Ok(())
    }

    async fn fetch(
        &self,
        client: &mut JobManagerClient<Channel>,
        sha256: &str,
        size: u64,
    ) -> Result<tempfile::NamedTempFile, PackageCacheError> {
        let fetch_error = |status: tonic::Status| PackageCacheError::Fetch {
            sha256: sha256.to_owned(),
            status: Box::new(status),
        };
        let disk_error = |source| PackageCacheError::Unpack {
            sha256: sha256.to_owned(),
            path: self.root.display().to_string(),
            source,
        };
        let request = FetchPackageRequest {
            sha256: sha256.to_owned(),
        };
        let mut chunks = client
            .fetch_package(request)
            .await
            .map_err(fetch_error)?
            .into_inner();
        let mut file = tempfile::NamedTempFile::new_in(self.root.as_path()).map_err(disk_error)?;
        let mut hash = Sha256::new();
        let mut received = 0;
        while let Some(PackageChunk { data }) = chunks.message().await.map_err(fetch_error)? {
            received += data.len() as u64;
            if received > size {
                return Err(PackageCacheError::Size {
                    sha256: sha256.to_owned(),
                    size,
                });
            }
            hash.update(&data);
            file.write_all(&data).map_err(disk_error)?;
        }
        let actual = hex::encode(hash.finalize());
        if actual != sha256 {
            return Err(PackageCacheError::Hash {
                sha256: sha256.to_owned(),
                actual,
            });
        }
        Ok(file)
    }
}

fn next_use(entries: &HashMap<String, Entry>) -> u64 {
    entries.values().map(|entry| entry.last_use).max().unwrap_or(0) + 1
}

/// Unpacks an archive (tar, or tar.gz by its magic bytes) beside `folder`, then renames it there.
fn unpack(archive: &tempfile::NamedTempFile, folder: &Path) -> std::io::Result<()> {
    let parent = folder.parent().unwrap_or(Path::new("."));
    let staging = tempfile::TempDir::new_in(parent)?;
    let mut file = archive.reopen()?;
    let mut magic = [0; 2];
    let gzip = std::io::Read::read(&mut file, &mut magic)? == 2 && magic == [0x1f, 0x8b];
    std::io::Seek::rewind(&mut file)?;
    if gzip {
        tar::Archive::new(flate2::read::GzDecoder::new(file)).unpack(staging.path())?;
    } else {
        tar::Archive::new(file).unpack(staging.path())?;
    }
    std::fs::rename(staging.keep(), folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive_of(content: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut builder = tar::Builder::new(file.as_file_mut());
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_cksum();
        builder.append_data(&mut header, "bin/job", content).unwrap();
        builder.finish().unwrap();
        drop(builder);
        file
    }

    #[test]
    fn an_archive_appears_whole_under_its_hash() {
        let root = tempfile::tempdir().unwrap();
        unpack(&archive_of(b"program"), &root.path().join("abc")).unwrap();
        assert_eq!(
            std::fs::read(root.path().join("abc/bin/job")).unwrap(),
            b"program"
        );
        assert_eq!(
            std::fs::read_dir(root.path()).unwrap().count(),
            1,
            "no staging folder is left"
        );
    }

    #[test]
    fn what_is_in_use_stays_and_the_longest_unused_goes() {
        let root = tempfile::tempdir().unwrap();
        let cache = PackageCache::new(root.path().join("cache"), 100).unwrap();
        let folder = |name: &str| {
            let folder = root.path().join("cache").join(name);
            std::fs::create_dir_all(&folder).unwrap();
            folder
        };
        let used = cache.insert("used", folder("used"), 40);
        drop(cache.insert("old", folder("old"), 30));
        drop(cache.insert("new", folder("new"), 30));
        cache.make_room("next", 30).unwrap();
        assert!(cache.lookup("old").is_none());
        assert!(cache.lookup("new").is_some());
        assert!(used.folder().exists());
        let error = cache.make_room("huge", 70).unwrap_err();
        assert!(
            error.to_string().contains("40 of 100 bytes are in use"),
            "{error}"
        );
    }
}
