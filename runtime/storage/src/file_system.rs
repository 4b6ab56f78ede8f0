//! One interface to local files and object stores: a folder, and paths relative to it.

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::future::join;
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use thalweg_types::config::Configuration;

use crate::object::{self, ClientSettings};
use crate::uri::{self, Location, Scheme};
use crate::writer::{PART_BYTES, blocking};
use crate::{FileWriter, LocalCopies, StorageError, local};

/// Most bytes that [`FileSystem::read`] returns; longer files are read by range.
const READ_LIMIT: u64 = 1 << 30;
/// How often a deletion or a listing that failed in passing is tried.
const TRIES: usize = 3;
/// Most files that one listing returns.
const LIST_LIMIT: usize = 1_000_000;

/// A file in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    /// Relative to the [`FileSystem`]'s folder.
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// When it was last written, in ms since the epoch by the store's clock.
    pub modified_ms: u64,
}

/// A folder. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct FileSystem {
    folder: Location,
    /// None for local files.
    store: Option<Arc<dyn ObjectStore>>,
    /// The same store, for uploads in parts that are told by their id; none for local files.
    pub(crate) uploads: Option<Arc<dyn MultipartStore>>,
    /// Of its files, on this machine.
    copies: Option<LocalCopies>,
}

/// Opens folders and shares connections between those of one bucket. Cheap to clone.
#[derive(Clone)]
pub struct FileSystems {
    configuration: Arc<Configuration>,
    settings: ClientSettings,
    stores: Arc<Mutex<Stores>>,
    copies: Option<LocalCopies>,
}

/// By scheme and bucket.
type Stores = HashMap<(Scheme, String), object::Store>;

impl FileSystems {
    /// With Flink's keys for object stores, e.g. `s3.endpoint`.
    pub fn new(configuration: Configuration) -> Self {
        Self::with_settings(configuration, ClientSettings::default())
    }

    /// With other limits than the default ones.
    pub fn with_settings(configuration: Configuration, settings: ClientSettings) -> Self {
        Self {
            configuration: Arc::new(configuration),
            settings,
            stores: Arc::default(),
            copies: None,
        }
    }

    /// The same, with copies on this machine of the files that [`crate::LocalCopiesSettings::of`] says.
    #[must_use]
    pub fn with_copies(mut self, copies: Option<LocalCopies>) -> Self {
        self.copies = copies;
        self
    }

    /// The folder of this URI; neither it nor its bucket is looked at yet.
    pub fn open_folder(&self, folder_uri: &str) -> Result<FileSystem, StorageError> {
        self.open(uri::parse(folder_uri)?)
    }

    /// The folder of this file, and the file's name in it.
    pub fn open_uri(&self, file_uri: &str) -> Result<(FileSystem, String), StorageError> {
        let (folder, name) = uri::parse(file_uri)?.split_name();
        if name.is_empty() {
            return Err(StorageError::Uri {
                uri: file_uri.to_owned(),
                message: "a file's name is expected".to_owned(),
            });
        }
        Ok((self.open(folder)?, name))
    }

    /// The one way to write a URI that may be written in several: `s3a://b//x/` is `s3://b/x`.
    pub fn canonical(uri: &str) -> Result<String, StorageError> {
        uri::parse(uri).map(|location| location.uri())
    }

    fn open(&self, folder: Location) -> Result<FileSystem, StorageError> {
        let copies = self.copies.clone();
        let copies = copies.filter(|copies| copies.is_copied(&folder.uri()));
        if folder.scheme == Scheme::File {
            return Ok(FileSystem {
                folder,
                store: None,
                uploads: None,
                copies,
            });
        }
        let key = (folder.scheme, folder.authority.clone());
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        let store = match stores.get(&key) {
            Some(store) => store.clone(),
            None => {
                let store = object::connect(&folder, &self.configuration, &self.settings)?;
                stores.insert(key, store.clone());
                store
            }
        };
        Ok(FileSystem {
            folder,
            store: Some(store.objects),
            uploads: Some(store.uploads),
            copies,
        })
    }
}

impl FileSystem {
    /// The folder of this URI, with Flink's keys for object stores.
    pub fn open(folder_uri: &str, configuration: &Configuration) -> Result<Self, StorageError> {
        FileSystems::new(configuration.clone()).open_folder(folder_uri)
    }

    /// The folder's URI, without a slash at its end.
    pub fn uri(&self) -> String {
        self.folder.uri()
    }

    /// The URI of a file or folder in it.
    pub fn uri_of(&self, path: &str) -> String {
        self.location(path).uri()
    }

    /// A folder in it.
    pub fn folder(&self, path: &str) -> Self {
        Self {
            folder: self.location(path),
            store: self.store.clone(),
            uploads: self.uploads.clone(),
            copies: self.copies.clone(),
        }
    }

    /// Writes a file, over what is there.
    pub async fn write(&self, path: &str, content: Bytes) -> Result<(), StorageError> {
        if self.store.is_some() && content.len() > PART_BYTES {
            let mut writer = self.writer(path).await?;
            let mut rest = content;
            while !rest.is_empty() {
                writer.write(rest.split_to(rest.len().min(PART_BYTES))).await?;
            }
            return writer.finish().await;
        }
        let Some(copies) = &self.copies else {
            return self.put(path, content, PutMode::Overwrite).await;
        };
        let uri = self.uri_of(path);
        let copied = content.clone();
        let copying = async { copies.writer(&uri).await?.write(copied).await };
        let (copy, result) = join(copying, self.put(path, content, PutMode::Overwrite)).await;
        if let (Some(copy), Ok(())) = (copy, &result) {
            copy.finish().await;
        }
        result
    }

    /// Writes a file that isn't there; of several writers at a time one succeeds.
    pub async fn write_new(&self, path: &str, content: Bytes) -> Result<(), StorageError> {
        self.put(path, content, PutMode::Create).await
    }

    /// Begins a file whose size isn't known yet.
    pub async fn writer(&self, path: &str) -> Result<FileWriter, StorageError> {
        let writer = self.writer_of_itself(path).await?;
        let copy = match &self.copies {
            Some(copies) => copies.writer(writer.uri()).await,
            None => None,
        };
        Ok(writer.with_copy(copy))
    }

    async fn writer_of_itself(&self, path: &str) -> Result<FileWriter, StorageError> {
        let location = self.location(path);
        let uri = location.uri();
        match &self.store {
            None => {
                let target = local_path(&location)?;
                let file = blocking(&uri, move || local::StagedFile::create(&target)).await?;
                let file = file.map_err(|error| StorageError::from_io("write", &uri, &error))?;
                Ok(FileWriter::local(uri, file))
            }
            Some(store) => {
                let key = key(&location)?;
                let upload = store.put_multipart(&key).await;
                let upload = upload.map_err(|error| StorageError::from_store("write", &uri, &error))?;
                Ok(FileWriter::object(uri, Arc::clone(store), key, upload))
            }
        }
    }

    async fn put(&self, path: &str, content: Bytes, mode: PutMode) -> Result<(), StorageError> {
        let location = self.location(path);
        let uri = location.uri();
        match &self.store {
            None => {
                let target = local_path(&location)?;
                let new = mode == PutMode::Create;
                let result = blocking(&uri, move || local::write(&target, &content, new)).await?;
                result.map_err(|error| StorageError::from_io("write", &uri, &error))
            }
            Some(store) => {
                let options = PutOptions::from(mode);
                let result = store
                    .put_opts(&key(&location)?, PutPayload::from(content), options)
                    .await;
                result
                    .map(drop)
                    .map_err(|error| StorageError::from_store("write", &uri, &error))
            }
        }
    }

    /// A whole file of at most 1 GiB.
    pub async fn read(&self, path: &str) -> Result<Bytes, StorageError> {
        let location = self.location(path);
        let uri = location.uri();
        let Some(store) = &self.store else {
            let source = local_path(&location)?;
            let result = blocking(&uri, move || local::read(&source, READ_LIMIT)).await?;
            return result.map_err(|error| StorageError::from_io("read", &uri, &error));
        };
        let failed = |error: object_store::Error| StorageError::from_store("read", &uri, &error);
        let answer = store.get(&key(&location)?).await.map_err(failed)?;
        if answer.meta.size > READ_LIMIT {
            return Err(StorageError::Failed {
                step: "read",
                message: format!(
                    "it has {} bytes, at most {READ_LIMIT} are read at once",
                    answer.meta.size
                ),
                uri,
            });
        }
        answer.bytes().await.map_err(failed)
    }

    /// A part of a file. Fewer bytes than asked for if the file ends before.
    pub async fn read_range(&self, path: &str, range: Range<u64>) -> Result<Bytes, StorageError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let location = self.location(path);
        let uri = location.uri();
        if let Some(copies) = &self.copies
            && let Some(bytes) = copies.read(&uri, range.clone()).await
        {
            return Ok(bytes);
        }
        let Some(store) = &self.store else {
            let source = local_path(&location)?;
            let result = blocking(&uri, move || local::read_range(&source, range)).await?;
            return result.map_err(|error| StorageError::from_io("read", &uri, &error));
        };
        let failed = |error: object_store::Error| StorageError::from_store("read", &uri, &error);
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            ..GetOptions::default()
        };
        match store.get_opts(&key(&location)?, options).await {
            Ok(answer) => answer.bytes().await.map_err(failed),
            // The file ends before the range begins.
            Err(error) if error.to_string().contains("416 Range Not Satisfiable") => Ok(Bytes::new()),
            Err(error) => Err(failed(error)),
        }
    }

    /// A file's size in bytes.
    pub async fn size(&self, path: &str) -> Result<u64, StorageError> {
        let location = self.location(path);
        let uri = location.uri();
        let Some(store) = &self.store else {
            let source = local_path(&location)?;
            let result = blocking(&uri, move || std::fs::metadata(source)).await?;
            let result = result.map(|metadata| metadata.len());
            return result.map_err(|error| StorageError::from_io("look at", &uri, &error));
        };
        let result = store.head(&key(&location)?).await.map(|meta| meta.size);
        result.map_err(|error| StorageError::from_store("look at", &uri, &error))
    }

    /// All files in a folder of it (`""` = all of it), at any depth, by path. A folder that isn't there has none.
    pub async fn list(&self, prefix: &str) -> Result<Vec<FileInfo>, StorageError> {
        let location = self.location(prefix);
        let uri = location.uri();
        let below = |path: &str| match prefix.trim_matches('/') {
            "" => path.to_owned(),
            prefix => format!("{prefix}/{path}"),
        };
        let Some(store) = &self.store else {
            let folder = local_path(&location)?;
            let found = blocking(&uri, move || local::list(&folder, LIST_LIMIT)).await?;
            let found = found.map_err(|error| StorageError::from_io("list", &uri, &error))?;
            let file = |(path, size, modified_ms): (String, u64, u64)| FileInfo {
                path: below(&path),
                size,
                modified_ms,
            };
            return Ok(found.into_iter().map(file).collect());
        };
        let folder = key(&location)?;
        let found = self.tried_again(|| list_keys(store, &folder, &uri)).await?;
        let file = |(path, size, modified_ms): (String, u64, u64)| FileInfo {
            path: below(&path),
            size,
            modified_ms,
        };
        let mut files: Vec<FileInfo> = found.into_iter().map(file).collect();
        files.sort_unstable_by(|left, right| left.path.cmp(&right.path));
        Ok(files)
    }

    /// Deletes files. Those that aren't there are as good as deleted; the first failure is returned after all were tried.
    pub async fn delete(&self, paths: &[String]) -> Result<(), StorageError> {
        let locations: Vec<Location> = paths.iter().map(|path| self.location(path)).collect();
        if let Some(copies) = &self.copies {
            let uris: Vec<String> = locations.iter().map(Location::uri).collect();
            copies.forget(uris.iter().map(String::as_str)).await;
        }
        let Some(store) = &self.store else {
            return blocking(&self.uri(), move || {
                let mut result = Ok(());
                for location in locations {
                    let one = local_path(&location).and_then(|path| {
                        local::delete(&path)
                            .map_err(|error| StorageError::from_io("delete", &location.uri(), &error))
                    });
                    result = result.and(one);
                }
                result
            })
            .await?;
        };
        let keys = locations.iter().map(key).collect::<Result<Vec<Path>, _>>()?;
        self.tried_again(|| self.delete_keys(store, keys.clone())).await
    }

    async fn delete_keys(&self, store: &Arc<dyn ObjectStore>, keys: Vec<Path>) -> Result<(), StorageError> {
        let keys = stream::iter(keys.into_iter().map(Ok)).boxed();
        let mut results = store.delete_stream(keys);
        let mut failure = Ok(());
        while let Some(result) = results.next().await {
            match result {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => {
                    failure = failure.and(Err(StorageError::from_store("delete", &self.uri(), &error)));
                }
            }
        }
        failure
    }

    /// For what may be done twice, which a store's client doesn't know: it tries no POST again that timed out, and no
    /// listing that was cut off.
    pub(crate) async fn tried_again<T, F>(&self, work: impl Fn() -> F) -> Result<T, StorageError>
    where
        F: Future<Output = Result<T, StorageError>>,
    {
        for _ in 1..TRIES {
            match work().await {
                Err(error) if error.is_retryable() => {
                    tracing::debug!(%error, "it is tried again");
                }
                ended => return ended,
            }
        }
        work().await
    }

    /// Deletes a folder in it and everything in there.
    pub async fn delete_folder(&self, prefix: &str) -> Result<(), StorageError> {
        let location = self.location(prefix);
        let uri = location.uri();
        if location == self.folder {
            return Err(StorageError::Uri {
                uri,
                message: "a folder is deleted by its name in the one above it".to_owned(),
            });
        }
        let Some(store) = &self.store else {
            let folder = local_path(&location)?;
            let result = blocking(&uri, move || local::delete_folder(&folder)).await?;
            return result.map_err(|error| StorageError::from_io("delete", &uri, &error));
        };
        let folder = key(&location)?;
        let delete = || async {
            let keys = store.list(Some(&folder));
            let keys = keys.map_ok(|meta| meta.location).boxed();
            let deleted = store.delete_stream(keys).try_for_each(|_| async { Ok(()) }).await;
            match deleted {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(StorageError::from_store("delete", &uri, &error)),
            }
        };
        self.tried_again(delete).await
    }

    /// Writes a file, reads and deletes it: whether this folder can take checkpoints. For use at start.
    pub async fn probe_writable(&self) -> Result<(), StorageError> {
        let name = format!(".probe-{:016x}", rand::random::<u64>());
        let tried = async {
            self.write(&name, Bytes::from_static(b"thalweg")).await?;
            self.read(&name).await?;
            self.delete(std::slice::from_ref(&name)).await
        };
        tried.await.map_err(|error| StorageError::NotWritable {
            uri: self.uri(),
            source: Box::new(error),
        })
    }

    pub(crate) fn location(&self, path: &str) -> Location {
        let path = path.trim_matches('/');
        let joined = match (self.folder.path.as_str(), path) {
            (folder, "") => folder.to_owned(),
            ("", path) => path.to_owned(),
            (folder, path) => format!("{folder}/{path}"),
        };
        Location {
            path: joined,
            ..self.folder.clone()
        }
    }
}

/// Path below the folder, size and time of change in ms of every object in it.
async fn list_keys(
    store: &Arc<dyn ObjectStore>,
    folder: &Path,
    uri: &str,
) -> Result<Vec<(String, u64, u64)>, StorageError> {
    let mut found = store.list(Some(folder));
    let mut files = Vec::new();
    while let Some(meta) = found.next().await {
        let meta = meta.map_err(|error| StorageError::from_store("list", uri, &error))?;
        let path: Vec<String> = match meta.location.prefix_match(folder) {
            Some(parts) => parts.map(|part| part.as_ref().to_owned()).collect(),
            None => continue,
        };
        let modified_ms = u64::try_from(meta.last_modified.timestamp_millis()).unwrap_or(0);
        files.push((path.join("/"), meta.size, modified_ms));
        if files.len() > LIST_LIMIT {
            return Err(StorageError::Failed {
                step: "list",
                uri: uri.to_owned(),
                message: format!("there are more than {LIST_LIMIT} files"),
            });
        }
    }
    Ok(files)
}

/// Paths come from metadata too: none leads out of its folder.
pub(crate) fn local_path(location: &Location) -> Result<PathBuf, StorageError> {
    if location
        .path
        .split('/')
        .any(|segment| matches!(segment, "." | ".."))
    {
        return Err(StorageError::Uri {
            uri: location.uri(),
            message: "a path may not have . or .. in it".to_owned(),
        });
    }
    Ok(PathBuf::from(format!("/{}", location.path)))
}

pub(crate) fn key(location: &Location) -> Result<Path, StorageError> {
    Path::parse(&location.path).map_err(|error| StorageError::Uri {
        uri: location.uri(),
        message: error.to_string(),
    })
}

impl std::fmt::Debug for FileSystems {
    /// Without the configuration: it holds secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FileSystems")
    }
}

impl std::fmt::Debug for FileSystem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileSystem({})", self.uri())
    }
}
