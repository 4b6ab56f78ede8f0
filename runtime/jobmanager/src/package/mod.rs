//! Job packages: from where they lie to bytes that TaskManagers can fetch by hash.
//!
//! ```text
//!   uri --fetch--> file or folder --archive--> canonical archive, sha256 --unpack, check--> Package
//!   .sql file, inline script ----script----------^
//!                                                    |                                        |
//!                                       FetchPackage (TaskManagers)                 extraction runs its entry
//! ```
//!
//! Invariants: nothing is read from a package before its hash was compared with the one asked for; nothing is written outside
//! the folder that it is unpacked into; a package's bytes stay as long as somebody holds its [`Package`], and no longer.

mod archive;
mod fetch;
mod manifest;
mod script;
mod store;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use thalweg_types::{Classify, FailureClass};

pub use archive::pack_directory;
pub use fetch::PackageSource;
pub use manifest::{Entry, EntryKind, Manifest, ManifestError};
pub use store::{Package, PackageStore, PackageStoreConfig};

/// The file of a package that says what it is.
pub const MANIFEST_FILE: &str = "job.yaml";

/// Why a package can't be used. Each message names the package and the step that failed.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The address is none that can be fetched.
    #[error(
        "the package address {uri:?} is not understood: local://, file://, https://, s3://, gs:// or abfss:// followed by a path is expected"
    )]
    Uri {
        /// What was given.
        uri: String,
    },
    /// Fetched over the network without a hash to check.
    #[error("the package {uri} comes over HTTP and needs a sha256, so that it can't be exchanged on the way")]
    HashRequired {
        /// Where it lies.
        uri: String,
    },
    /// The expected hash is not one.
    #[error("{text:?} is not a sha256: 64 hex digits are expected")]
    HashSyntax {
        /// What was given.
        text: String,
    },
    /// Nothing is there.
    #[error("there is no package at {uri}")]
    Missing {
        /// Where it should lie.
        uri: String,
    },
    /// Nor a bucket that it could be in.
    #[error("there is no package at {uri}: there is no bucket {bucket}")]
    BucketMissing {
        /// Where it should lie.
        uri: String,
        /// The bucket.
        bucket: String,
    },
    /// The store does not let us read it.
    #[error(
        "the package {uri} can't be read, access is denied ({reason}): see s3.access-key and s3.secret-key or what else the store's key is configured by"
    )]
    Denied {
        /// Where it lies.
        uri: String,
        /// In the store's words.
        reason: String,
    },
    /// The object store's address or configuration can't be used.
    #[error("the package {uri} can't be fetched: {reason}")]
    ObjectStore {
        /// Where it lies.
        uri: String,
        /// What is wrong.
        reason: String,
    },
    /// It could not be read to its end.
    #[error("the package {uri} can't be fetched: {reason}")]
    Fetch {
        /// Where it lies.
        uri: String,
        /// What went wrong.
        reason: String,
    },
    /// It is larger than allowed.
    #[error("the package {uri} is larger than {limit} bytes (thalweg.package.max-size)")]
    TooLarge {
        /// Where it lies.
        uri: String,
        /// The limit.
        limit: u64,
    },
    /// Its files are larger than allowed.
    #[error("the package {uri} unpacks to more than {limit} bytes (thalweg.package.max-size)")]
    UnpacksTooLarge {
        /// Where it lies.
        uri: String,
        /// The limit.
        limit: u64,
    },
    /// The store holds too much already.
    #[error(
        "the package of {size} bytes does not fit beside the {used} bytes of packages in use (limit {limit}); delete uploaded packages or end jobs"
    )]
    StoreFull {
        /// Its size.
        size: u64,
        /// What others use.
        used: u64,
        /// The limit.
        limit: u64,
    },
    /// It is another one than was asked for.
    #[error("the package {uri} has the sha256 {actual}, not {expected} as asked for")]
    Hash {
        /// Where it lies.
        uri: String,
        /// As asked for.
        expected: String,
        /// As found.
        actual: String,
    },
    /// Neither a folder, nor a tar, nor a tar.gz.
    #[error("{uri} is not a job package: {reason}")]
    NotAPackage {
        /// Where it lies.
        uri: String,
        /// Why not.
        reason: String,
    },
    /// An archive member that leads out of the package's folder.
    #[error("the package {uri} holds {member:?}, which is refused: {reason}")]
    Member {
        /// Where it lies.
        uri: String,
        /// The member's path.
        member: String,
        /// Why it is refused.
        reason: &'static str,
    },
    /// `job.yaml` is wrong.
    #[error("the package {uri} can't be run: {source}")]
    Manifest {
        /// Where it lies.
        uri: String,
        /// What is wrong.
        source: ManifestError,
    },
    /// A file named in `job.yaml` is not in the package.
    #[error("the package {uri} has no file {path}, which its job.yaml names{role}")]
    FileMissing {
        /// Where it lies.
        uri: String,
        /// The file.
        path: String,
        /// As what: " as entry.path", " as entry.program" or " under files".
        role: &'static str,
    },
    /// A file has changed since the package was made.
    #[error("the file {path} in the package {uri} has the sha256 {actual}, its job.yaml says {expected}")]
    FileHash {
        /// Where it lies.
        uri: String,
        /// The file.
        path: String,
        /// As in `job.yaml`.
        expected: String,
        /// As found.
        actual: String,
    },
    /// The entry can't be run.
    #[error(
        "the entry {path} of the package {uri} is not executable: chmod +x it and make the package again"
    )]
    NotExecutable {
        /// Where it lies.
        uri: String,
        /// The file.
        path: String,
    },
    /// The JobManager's own disk failed.
    #[error("the package {uri} can't be kept in {path}")]
    Store {
        /// Where it lies.
        uri: String,
        /// Where it is kept.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: std::io::Error,
    },
}

impl Classify for PackageError {
    fn class(&self) -> FailureClass {
        match self {
            // Rights may be given while we wait.
            Self::Fetch { .. } | Self::Denied { .. } | Self::Store { .. } | Self::StoreFull { .. } => {
                FailureClass::Retryable
            }
            // A mounted script (a ConfigMap's) comes to its pod some time after it has changed.
            Self::Hash { uri, .. } if is_local_script(uri) => FailureClass::Retryable,
            _ => FailureClass::Fatal,
        }
    }
}

fn is_local_script(uri: &str) -> bool {
    script::name_of(uri).is_some() && matches!(PackageSource::parse(uri), Ok(PackageSource::Path(_)))
}
