//! The packages that jobs and uploads use, on the JobManager's disk, by hash.
//!
//! ```text
//!   <data>/packages/<sha256>/payload    the bytes that TaskManagers fetch
//!                           /content/   unpacked: where extraction runs the entry
//!   <data>/packages/.new-*              on its way in; renamed when every check passed
//! ```

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use sha2::{Digest, Sha256};
use thalweg_storage::{ClientSettings, FileSystems};
use thalweg_types::config::Configuration;

use super::fetch::{Download, PackageSource};
use super::manifest::{Manifest, is_sha256};
use super::{MANIFEST_FILE, PackageError, archive, script};

/// Of each request to an object store; the JobManager repeats the whole fetch, and tells why, if it fails.
const RETRIES: usize = 3;
const RETRY_FOR: Duration = Duration::from_secs(15);
/// The longest `job.yaml` that is read.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// The store's limits and places.
#[derive(Debug, Clone)]
pub struct PackageStoreConfig {
    /// Its folder; emptied at start.
    pub directory: PathBuf,
    /// The largest package, packed and unpacked (`thalweg.package.max-size`).
    pub max_package_bytes: u64,
    /// All payloads together.
    pub max_total_bytes: u64,
    /// For object stores: `s3.*` and so on.
    pub configuration: Configuration,
}

/// A checked package; its files live as long as this.
#[derive(Debug)]
pub struct Package {
    /// Of the payload.
    pub sha256: String,
    /// Of the payload, in bytes.
    pub size: u64,
    /// Its `job.yaml`.
    pub manifest: Manifest,
    folder: PathBuf,
}

impl Package {
    /// For simulation, where no program runs.
    pub(crate) fn without_files(manifest: Manifest) -> Self {
        Self {
            sha256: String::new(),
            size: 0,
            manifest,
            folder: PathBuf::new(),
        }
    }

    /// The bytes that TaskManagers fetch.
    pub fn payload(&self) -> PathBuf {
        self.folder.join("payload")
    }

    /// Where it is unpacked.
    pub fn content(&self) -> PathBuf {
        self.folder.join("content")
    }

    /// The program or script that it runs.
    pub fn entry(&self) -> PathBuf {
        self.content().join(&self.manifest.entry.path)
    }

    /// The program that runs its script, if it brings one along.
    pub(crate) fn program(&self) -> Option<PathBuf> {
        let program = self.manifest.entry.program.as_ref();
        program.map(|program| self.content().join(program))
    }
}

impl Drop for Package {
    fn drop(&mut self) {
        remove(&self.folder);
    }
}

fn remove(folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %folder.display(), %error, "a package's files could not be removed");
    }
}

/// All packages in use; cheap to clone.
#[derive(Debug, Clone)]
pub struct PackageStore {
    config: Arc<PackageStoreConfig>,
    packages: Arc<Mutex<HashMap<String, Weak<Package>>>>,
}

impl PackageStore {
    /// An empty store in the configured folder.
    ///
    /// # Errors
    /// The folder can't be made or emptied.
    pub fn open(config: PackageStoreConfig) -> io::Result<Self> {
        match fs::remove_dir_all(&config.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(&config.directory)?,
        }
        Ok(Self {
            config: Arc::new(config),
            packages: Arc::default(),
        })
    }

    /// The package of a hash, if somebody uses it.
    pub fn get(&self, sha256: &str) -> Option<Arc<Package>> {
        self.packages
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(sha256)
            .and_then(Weak::upgrade)
    }

    /// Fetches, checks and unpacks a package; `sha256` may be empty except over HTTP. Of a bare script it is the script's.
    pub async fn import(&self, uri: &str, sha256: &str) -> Result<Arc<Package>, PackageError> {
        let source = PackageSource::parse(uri)?;
        if !sha256.is_empty() && !is_sha256(sha256) {
            return Err(PackageError::HashSyntax {
                text: sha256.to_owned(),
            });
        }
        if sha256.is_empty() && matches!(source, PackageSource::Http(_)) {
            return Err(PackageError::HashRequired { uri: uri.to_owned() });
        }
        let staging = Staging::new(&self.config.directory, uri)?;
        let (actual, size) = self.receive(uri, &source, &staging.payload()).await?;
        if !sha256.is_empty() && !actual.eq_ignore_ascii_case(sha256) {
            return Err(PackageError::Hash {
                uri: uri.to_owned(),
                expected: sha256.to_owned(),
                actual,
            });
        }
        let is_folder = matches!(&source, PackageSource::Path(path) if path.is_dir());
        match script::name_of(uri).filter(|_| !is_folder) {
            Some(name) => self.import_staged_script(uri, name, staging).await,
            None => self.import_staged(uri, staging, actual, size).await,
        }
    }

    /// The package of a script that is at hand; `what` names it in errors.
    pub async fn import_script(&self, what: &str, text: &str) -> Result<Arc<Package>, PackageError> {
        let staging = Staging::new(&self.config.directory, what)?;
        let payload = staging.payload();
        let mut download = Download::create(what, &payload, self.config.max_package_bytes).await?;
        download.write(text.as_bytes()).await?;
        download.finish().await?;
        self.import_staged_script(what, script::DEFAULT_NAME, staging)
            .await
    }

    async fn import_staged_script(
        &self,
        uri: &str,
        name: &str,
        staging: Staging,
    ) -> Result<Arc<Package>, PackageError> {
        let limit = self.config.max_package_bytes;
        let (what, name) = (uri.to_owned(), name.to_owned());
        let wrapped = in_background(uri, move || {
            let payload = staging.payload();
            let size = script::wrap(&what, &name, &payload, &staging.content(), limit)?;
            let sha256 = hash_file(&payload).map_err(|source| PackageError::Store {
                uri: what,
                path: payload,
                source,
            })?;
            Ok((staging, sha256, size))
        });
        let (staging, sha256, size) = wrapped.await?;
        self.import_staged(uri, staging, sha256, size).await
    }

    async fn import_staged(
        &self,
        uri: &str,
        staging: Staging,
        sha256: String,
        size: u64,
    ) -> Result<Arc<Package>, PackageError> {
        if let Some(package) = self.get(&sha256) {
            return Ok(package);
        }
        let limit = self.config.max_package_bytes;
        let uri_owned = uri.to_owned();
        let checked = in_background(uri, move || {
            let manifest = unpack_and_check(&uri_owned, &staging, limit)?;
            Ok((staging, manifest))
        });
        let (staging, manifest) = checked.await?;
        self.adopt(uri, staging, manifest, sha256, size)
    }

    async fn receive(
        &self,
        uri: &str,
        source: &PackageSource,
        target: &Path,
    ) -> Result<(String, u64), PackageError> {
        let limit = self.config.max_package_bytes;
        if let PackageSource::Path(path) = source {
            let metadata = tokio::fs::metadata(path)
                .await
                .map_err(|error| unreadable(uri, &error))?;
            if metadata.is_dir() {
                return pack(uri, path, target, limit).await;
            }
        }
        let mut download = Download::create(uri, target, limit).await?;
        match source {
            PackageSource::Path(path) => download.copy_file(path).await?,
            PackageSource::Http(url) => download.http(url).await?,
            PackageSource::Object(_) => download.object(&self.file_systems()).await?,
        }
        download.finish().await
    }

    fn file_systems(&self) -> FileSystems {
        let settings = ClientSettings {
            retries: RETRIES,
            retry_timeout: RETRY_FOR,
            ..ClientSettings::default()
        };
        FileSystems::with_settings(self.config.configuration.clone(), settings)
    }

    /// Moves a checked package to its place; the first of two equal ones wins.
    fn adopt(
        &self,
        uri: &str,
        staging: Staging,
        manifest: Manifest,
        sha256: String,
        size: u64,
    ) -> Result<Arc<Package>, PackageError> {
        let mut packages = self.packages.lock().unwrap_or_else(PoisonError::into_inner);
        packages.retain(|_, package| package.strong_count() > 0);
        if let Some(package) = packages.get(&sha256).and_then(Weak::upgrade) {
            return Ok(package);
        }
        let used: u64 = packages
            .values()
            .filter_map(Weak::upgrade)
            .map(|package| package.size)
            .sum();
        let limit = self.config.max_total_bytes;
        if used + size > limit {
            return Err(PackageError::StoreFull { size, used, limit });
        }
        // Not named by the hash alone: a predecessor of the same hash may be on its way out.
        let folder = staging.keep();
        let place = self
            .config
            .directory
            .join(format!("{sha256}-{}", rand::random::<u32>()));
        fs::rename(&folder, &place).map_err(|source| PackageError::Store {
            uri: uri.to_owned(),
            path: place.clone(),
            source,
        })?;
        let package = Arc::new(Package {
            sha256: sha256.clone(),
            size,
            manifest,
            folder: place,
        });
        packages.insert(sha256, Arc::downgrade(&package));
        Ok(package)
    }
}

/// A folder that vanishes unless it is kept.
struct Staging(tempfile::TempDir);

impl Staging {
    fn new(parent: &Path, uri: &str) -> Result<Self, PackageError> {
        let made = tempfile::Builder::new().prefix(".new-").tempdir_in(parent);
        made.map(Self).map_err(|source| PackageError::Store {
            uri: uri.to_owned(),
            path: parent.to_owned(),
            source,
        })
    }

    fn payload(&self) -> PathBuf {
        self.0.path().join("payload")
    }

    fn content(&self) -> PathBuf {
        self.0.path().join("content")
    }

    fn keep(self) -> PathBuf {
        self.0.keep()
    }
}

/// Work on files, on a thread that may wait for them.
async fn in_background<T: Send + 'static>(
    uri: &str,
    work: impl FnOnce() -> Result<T, PackageError> + Send + 'static,
) -> Result<T, PackageError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| PackageError::Fetch {
        uri: uri.to_owned(),
        reason: error.to_string(),
    })?
}

fn unreadable(uri: &str, error: &io::Error) -> PackageError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            PackageError::Missing { uri: uri.to_owned() }
        }
        _ => PackageError::Fetch {
            uri: uri.to_owned(),
            reason: error.to_string(),
        },
    }
}

async fn pack(uri: &str, directory: &Path, target: &Path, limit: u64) -> Result<(String, u64), PackageError> {
    let (uri_owned, directory, target) = (uri.to_owned(), directory.to_owned(), target.to_owned());
    let packed = in_background(uri, move || {
        let failed = |source| PackageError::Store {
            uri: uri_owned.clone(),
            path: target.clone(),
            source,
        };
        if !directory.join(MANIFEST_FILE).is_file() {
            return Err(no_manifest(&uri_owned));
        }
        let mut file = File::create(&target).map_err(failed)?;
        archive::pack_directory(&uri_owned, &directory, &mut file, limit)?;
        let size = file.metadata().map_err(failed)?.len();
        Ok((hash_file(&target).map_err(failed)?, size))
    });
    packed.await
}

fn no_manifest(uri: &str) -> PackageError {
    PackageError::NotAPackage {
        uri: uri.to_owned(),
        reason: format!("there is no {MANIFEST_FILE} at its top"),
    }
}

fn hash_file(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex::encode(hasher.finalize()));
        }
        hasher.update(&buffer[..read]);
    }
}

fn unpack_and_check(uri: &str, staging: &Staging, limit: u64) -> Result<Manifest, PackageError> {
    let content = staging.content();
    let failed = |source| PackageError::Store {
        uri: uri.to_owned(),
        path: content.clone(),
        source,
    };
    fs::create_dir_all(&content).map_err(failed)?;
    archive::unpack(uri, &staging.payload(), &content, limit)?;
    let manifest = read_manifest(uri, &content)?;
    for (path, expected) in &manifest.files {
        let actual = hash_file(&content.join(path)).map_err(|_| missing(uri, path, " under files"))?;
        if !actual.eq_ignore_ascii_case(expected) {
            let (uri, path, expected) = (uri.to_owned(), path.clone(), expected.clone());
            return Err(PackageError::FileHash {
                uri,
                path,
                expected,
                actual,
            });
        }
    }
    check_entry(uri, &content, &manifest)?;
    Ok(manifest)
}

fn read_manifest(uri: &str, content: &Path) -> Result<Manifest, PackageError> {
    let file = File::open(content.join(MANIFEST_FILE)).map_err(|_| no_manifest(uri))?;
    let mut text = String::new();
    file.take(MAX_MANIFEST_BYTES)
        .read_to_string(&mut text)
        .map_err(|error| PackageError::NotAPackage {
            uri: uri.to_owned(),
            reason: format!("its {MANIFEST_FILE} can't be read: {error}"),
        })?;
    Manifest::parse(&text).map_err(|source| PackageError::Manifest {
        uri: uri.to_owned(),
        source,
    })
}

fn missing(uri: &str, path: &str, role: &'static str) -> PackageError {
    PackageError::FileMissing {
        uri: uri.to_owned(),
        path: path.to_owned(),
        role,
    }
}

fn check_entry(uri: &str, content: &Path, manifest: &Manifest) -> Result<(), PackageError> {
    let entry = &manifest.entry;
    let files = [
        (Some(&entry.path), " as entry.path"),
        (entry.program.as_ref(), " as entry.program"),
    ];
    let files = files
        .into_iter()
        .filter_map(|(path, role)| path.map(|path| (path, role)));
    for (path, role) in files {
        let metadata = fs::metadata(content.join(path))
            .ok()
            .filter(fs::Metadata::is_file);
        let metadata = metadata.ok_or_else(|| missing(uri, path, role))?;
        if entry.executable() == Some(path) && metadata.permissions().mode() & 0o111 == 0 {
            return Err(PackageError::NotExecutable {
                uri: uri.to_owned(),
                path: path.clone(),
            });
        }
    }
    Ok(())
}
