//! Files that are written over a long time, survive the writer half-written, and appear in one step.
//!
//! ```text
//!   stage(path) -> StagedWriter --write--> a hidden file beside it  |  parts of an upload, which nobody sees
//!                               --sync --> Staged: what a checkpoint stores; all bytes so far are durable
//!   publish(path, staged, length) -> the file is there, whole; once more: it is there already
//!   resume(path, staged, length)  -> StagedWriter behind those bytes           discard(path, staged) -> nothing is left
//! ```
//!
//! Invariants: nothing but `publish` makes anything visible under `path`; `publish` succeeds only if exactly `length` bytes
//! are there, whoever put them there; bytes that a `Staged` counts on and that are gone are [`StorageError::Lost`]; no two
//! writers write to one hidden file: one that was cut off and doesn't know it can't spoil what its successor publishes.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use object_store::PutPayload;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use tokio::task::JoinSet;

use crate::file_system::{key, local_path};
use crate::writer::blocking;
use crate::{FileSystem, StorageError};

/// Parts of one upload under way at a time.
const PARTS_UNDER_WAY: usize = 4;
/// What stores answer when an upload that is to be completed can't ever be.
const GONE: [&str; 6] = [
    "NoSuchUpload",
    "InvalidPart",
    "InvalidPartOrder",
    "InvalidBlockId",
    "InvalidBlockList",
    "EntityTooSmall",
];

/// Where the bytes of a file are that isn't visible yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Staged {
    /// In a local file of this name, in the folder of the one that it becomes.
    File {
        /// Begins with a dot.
        name: String,
        /// Those whose beginning was copied into it: what older checkpoints count on, until it is published.
        older: Vec<String>,
    },
    /// In parts of a multipart upload.
    Upload {
        /// The store's; empty where the store needs none (Azure).
        id: String,
        /// What the store said to each part, in order.
        parts: Vec<String>,
    },
}

/// Writes what isn't visible yet. Dropping it leaves all that is written.
pub struct StagedWriter {
    uri: String,
    to: Target,
}

enum Target {
    Local {
        name: String,
        older: Vec<String>,
        file: Arc<File>,
        length: u64,
        /// None once the file's name is durable.
        folder: Option<PathBuf>,
    },
    Upload {
        uploads: Arc<dyn MultipartStore>,
        key: Path,
        id: String,
        /// By number; those of `sent` that are not under way.
        parts: BTreeMap<usize, String>,
        sent: usize,
        under_way: JoinSet<(usize, object_store::Result<PartId>)>,
    },
}

impl FileSystem {
    /// Whether files are objects: written in parts, none but the last smaller than 5 MiB.
    pub fn is_object_store(&self) -> bool {
        self.uploads.is_some()
    }

    /// Begins a file. On a store without multipart uploads there is no such thing; S3, GCS and Azure have them.
    pub async fn stage(&self, path: &str) -> Result<StagedWriter, StorageError> {
        let location = self.location(path);
        let uri = location.uri();
        let Some(uploads) = &self.uploads else {
            let target = local_path(&location)?;
            let staged = blocking(&uri, move || create_hidden(&target)).await?;
            let hidden = staged.map_err(|error| StorageError::from_io("write", &uri, &error))?;
            return Ok(StagedWriter::local(uri, hidden, Vec::new(), 0));
        };
        let key = key(&location)?;
        let begin = || async {
            let begun = uploads.create_multipart(&key).await;
            begun.map_err(|error| StorageError::from_store("write", &uri, &error))
        };
        let id = self.tried_again(begin).await?;
        Ok(StagedWriter::upload(
            uri,
            Arc::clone(uploads),
            key,
            id,
            Vec::new(),
        ))
    }

    /// Goes on behind the first `length` bytes; what was written after them is forgotten. What is resumed stays as it is: a
    /// local file is copied, and can be resumed again until its copy is published. [`StorageError::Lost`] if the bytes are gone
    /// or were published meanwhile.
    pub async fn resume(
        &self,
        path: &str,
        staged: &Staged,
        length: u64,
    ) -> Result<StagedWriter, StorageError> {
        let location = self.location(path);
        let uri = location.uri();
        let lost = |message: &str| StorageError::Lost {
            uri: uri.clone(),
            length,
            message: message.to_owned(),
        };
        let finished = "the file was finished by a later checkpoint: restore that one";
        match (staged, &self.uploads) {
            (Staged::File { name, older }, None) => {
                let (hidden, target) = (hidden_path(&location, name)?, local_path(&location)?);
                let resumed = blocking(&uri, move || resume_local(&hidden, &target, length)).await?;
                match resumed.map_err(|error| StorageError::from_io("write", &uri, &error))? {
                    Resumed::Copied(copy) => {
                        let older = older.iter().chain([name]).cloned().collect();
                        Ok(StagedWriter::local(uri, copy, older, length))
                    }
                    Resumed::Published => Err(lost(finished)),
                    Resumed::Short(found) => Err(lost(&format!("{name} has {found} bytes"))),
                    Resumed::Gone => Err(lost(&format!("{name} does not exist"))),
                }
            }
            (Staged::Upload { id, parts }, Some(uploads)) => {
                if self.size_if_there(path).await?.is_some() {
                    return Err(lost(finished));
                }
                let (id, parts) = (id.clone(), parts.clone());
                Ok(StagedWriter::upload(
                    uri,
                    Arc::clone(uploads),
                    key(&location)?,
                    id,
                    parts,
                ))
            }
            _ => Err(lost("they were written on another kind of storage")),
        }
    }

    /// Makes the file visible and durable. What was published already stays as it is.
    pub async fn publish(&self, path: &str, staged: &Staged, length: u64) -> Result<(), StorageError> {
        let location = self.location(path);
        let uri = location.uri();
        let lost = |message: String| StorageError::Lost {
            uri: uri.clone(),
            length,
            message,
        };
        match (staged, &self.uploads) {
            (Staged::File { name, older }, None) => {
                let (hidden, target) = (hidden_path(&location, name)?, local_path(&location)?);
                let older = older.iter().map(|older| hidden_path(&location, older));
                let older = older.collect::<Result<Vec<_>, _>>()?;
                let published =
                    blocking(&uri, move || publish_local(&hidden, &target, length, &older)).await?;
                match published.map_err(|error| StorageError::from_io("write", &uri, &error))? {
                    Published::There => Ok(()),
                    Published::Short(found) => Err(lost(format!("{name} has {found} bytes"))),
                    Published::Other(found) => Err(lost(format!("the file is there with {found} bytes"))),
                    Published::Gone => Err(lost(format!("neither it nor {name} exists"))),
                }
            }
            (Staged::Upload { id, parts }, Some(uploads)) => {
                let key = key(&location)?;
                let parts = || {
                    let id = |part: &String| PartId {
                        content_id: part.clone(),
                    };
                    parts.iter().map(id).collect::<Vec<_>>()
                };
                let complete = || async {
                    let Err(error) = uploads.complete_multipart(&key, id, parts()).await else {
                        return Ok(());
                    };
                    // It may have been completed before, or now and the answer was lost.
                    match self.size_if_there(path).await? {
                        Some(found) if found == length => Ok(()),
                        Some(found) => Err(lost(format!("the object is there with {found} bytes"))),
                        None => Err(match is_gone(&error) {
                            Some(message) => lost(message),
                            None => StorageError::from_store("write", &uri, &error),
                        }),
                    }
                };
                self.tried_again(complete).await
            }
            _ => Err(lost("they were written on another kind of storage".to_owned())),
        }
    }

    /// Takes back what isn't visible, and leaves what it was copied from. What isn't there is as good as taken back.
    pub async fn discard(&self, path: &str, staged: &Staged) -> Result<(), StorageError> {
        let location = self.location(path);
        let uri = location.uri();
        match (staged, &self.uploads) {
            (Staged::File { name, .. }, None) => {
                let hidden = hidden_path(&location, name)?;
                let deleted = blocking(&uri, move || crate::local::delete(&hidden)).await?;
                deleted.map_err(|error| StorageError::from_io("delete", &uri, &error))
            }
            (Staged::Upload { id, .. }, Some(uploads)) => {
                match uploads.abort_multipart(&key(&location)?, id).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                    Err(error) => Err(StorageError::from_store("delete", &uri, &error)),
                }
            }
            _ => Ok(()),
        }
    }

    /// Whether files can be staged here, found out without anything that readers of the folder see.
    pub async fn probe_stageable(&self) -> Result<(), StorageError> {
        if self.uploads.is_none() {
            return self.probe_writable().await;
        }
        let name = format!(".probe-{:016x}", rand::random::<u64>());
        let tried = async {
            let mut writer = self.stage(&name).await?;
            let staged = writer.sync().await?;
            self.discard(&name, &staged).await
        };
        tried.await.map_err(|error| StorageError::NotWritable {
            uri: self.uri(),
            source: Box::new(error),
        })
    }

    async fn size_if_there(&self, path: &str) -> Result<Option<u64>, StorageError> {
        match self.size(path).await {
            Ok(size) => Ok(Some(size)),
            Err(StorageError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What the store says when an upload is gone for good, or has other parts.
fn is_gone(error: &object_store::Error) -> Option<String> {
    let told = StorageError::from_store("write", "", error);
    if matches!(
        told,
        StorageError::BucketMissing { .. } | StorageError::Denied { .. }
    ) {
        return None;
    }
    let message = told.reason();
    if GONE.iter().any(|code| message.contains(code)) {
        return Some(message);
    }
    matches!(error, object_store::Error::NotFound { .. })
        .then(|| "the store knows neither the upload nor the object".to_owned())
}

impl StagedWriter {
    fn local(uri: String, hidden: Hidden, older: Vec<String>, length: u64) -> Self {
        Self {
            uri,
            to: Target::Local {
                name: hidden.name,
                older,
                file: Arc::new(hidden.file),
                length,
                folder: Some(hidden.folder),
            },
        }
    }

    fn upload(
        uri: String,
        uploads: Arc<dyn MultipartStore>,
        key: Path,
        id: String,
        parts: Vec<String>,
    ) -> Self {
        Self {
            uri,
            to: Target::Upload {
                uploads,
                key,
                id,
                sent: parts.len(),
                parts: parts.into_iter().enumerate().collect(),
                under_way: JoinSet::new(),
            },
        }
    }

    /// What is to be discarded if nothing comes of it.
    pub fn staged(&self) -> Staged {
        match &self.to {
            Target::Local { name, older, .. } => Staged::File {
                name: name.clone(),
                older: older.clone(),
            },
            Target::Upload { id, parts, .. } => Staged::Upload {
                id: id.clone(),
                parts: parts.values().cloned().collect(),
            },
        }
    }

    /// Adds bytes; for an upload they are one part, at least 5 MiB unless it is the last. Waits while too many are under way.
    /// After an error nothing more may be written.
    pub async fn write(&mut self, content: Bytes) -> Result<(), StorageError> {
        match &mut self.to {
            Target::Local { file, length, .. } => {
                let (file, at) = (Arc::clone(file), *length);
                *length += content.len() as u64;
                let written = blocking(&self.uri, move || file.write_all_at(&content, at)).await?;
                written.map_err(|error| StorageError::from_io("write", &self.uri, &error))
            }
            Target::Upload {
                uploads,
                key,
                id,
                parts,
                sent,
                under_way,
            } => {
                while under_way.len() >= PARTS_UNDER_WAY {
                    one_part(&self.uri, parts, under_way).await?;
                }
                let (uploads, key, id, number) = (Arc::clone(uploads), key.clone(), id.clone(), *sent);
                *sent += 1;
                under_way.spawn(async move {
                    let put = uploads.put_part(&key, &id, number, PutPayload::from(content));
                    (number, put.await)
                });
                Ok(())
            }
        }
    }

    /// Waits until all that was written is durable.
    pub async fn sync(&mut self) -> Result<Staged, StorageError> {
        match &mut self.to {
            Target::Local { file, folder, .. } => {
                let (file, folder) = (Arc::clone(file), folder.take());
                let sync = move || {
                    file.sync_data()?;
                    folder.map_or(Ok(()), |folder| File::open(folder)?.sync_all())
                };
                let synced = blocking(&self.uri, sync).await?;
                synced.map_err(|error| StorageError::from_io("write", &self.uri, &error))?;
            }
            Target::Upload { parts, under_way, .. } => {
                while !under_way.is_empty() {
                    one_part(&self.uri, parts, under_way).await?;
                }
            }
        }
        Ok(self.staged())
    }
}

async fn one_part(
    uri: &str,
    parts: &mut BTreeMap<usize, String>,
    under_way: &mut JoinSet<(usize, object_store::Result<PartId>)>,
) -> Result<(), StorageError> {
    let Some(ended) = under_way.join_next().await else {
        return Ok(());
    };
    let (number, put) = ended.map_err(|error| StorageError::Failed {
        step: "write",
        uri: uri.to_owned(),
        message: error.to_string(),
    })?;
    let part = put.map_err(|error| StorageError::from_store("write", uri, &error))?;
    parts.insert(number, part.content_id);
    Ok(())
}

/// A hidden file that nobody else writes to.
struct Hidden {
    name: String,
    file: File,
    folder: PathBuf,
}

/// A new hidden file for what becomes `target`.
fn create_hidden(target: &FilePath) -> io::Result<Hidden> {
    let folder = target.parent().unwrap_or(FilePath::new("/")).to_owned();
    let visible = target
        .file_name()
        .map_or(String::new(), |name| name.to_string_lossy().into_owned());
    let name = format!(".{visible}.inprogress.{:032x}", rand::random::<u128>());
    let create = || {
        let path = folder.join(&name);
        OpenOptions::new().write(true).create_new(true).open(path)
    };
    let file = match create() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(&folder)?;
            create()?
        }
        other => other?,
    };
    Ok(Hidden { name, file, folder })
}

fn hidden_path(location: &crate::uri::Location, name: &str) -> Result<PathBuf, StorageError> {
    if !name.starts_with('.') || name.contains('/') {
        return Err(StorageError::Uri {
            uri: location.uri(),
            message: format!("{name:?} is no name of a hidden file"),
        });
    }
    Ok(local_path(location)?.with_file_name(name))
}

enum Resumed {
    Copied(Hidden),
    Published,
    Short(u64),
    Gone,
}

/// Copies the beginning: whoever wrote the rest may be alive, and write on.
fn resume_local(hidden: &FilePath, target: &FilePath, length: u64) -> io::Result<Resumed> {
    let source = match File::open(hidden) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(if target.exists() {
                Resumed::Published
            } else {
                Resumed::Gone
            });
        }
        other => other?,
    };
    let found = source.metadata()?.len();
    if found < length {
        return Ok(Resumed::Short(found));
    }
    let mut copy = create_hidden(target)?;
    let copied = match io::copy(&mut source.take(length), &mut copy.file) {
        Ok(copied) if copied < length => Err(io::ErrorKind::UnexpectedEof.into()),
        other => other,
    };
    if let Err(error) = copied {
        fs::remove_file(copy.folder.join(&copy.name)).ok();
        return Err(error);
    }
    Ok(Resumed::Copied(copy))
}

enum Published {
    There,
    Short(u64),
    Other(u64),
    Gone,
}

fn publish_local(
    hidden: &FilePath,
    target: &FilePath,
    length: u64,
    older: &[PathBuf],
) -> io::Result<Published> {
    let folder = target.parent().unwrap_or(FilePath::new("/"));
    match fs::metadata(hidden) {
        Ok(found) if found.len() < length => return Ok(Published::Short(found.len())),
        Ok(found) => {
            if found.len() > length {
                let file = OpenOptions::new().write(true).open(hidden)?;
                file.set_len(length)?;
                file.sync_data()?;
            }
            fs::rename(hidden, target)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::metadata(target) {
            Ok(found) if found.len() == length => {}
            Ok(found) => return Ok(Published::Other(found.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Published::Gone),
            Err(error) => return Err(error),
        },
        Err(error) => return Err(error),
    }
    File::open(folder)?.sync_all()?;
    for older in older {
        crate::local::delete(older)?;
    }
    Ok(Published::There)
}

impl std::fmt::Debug for StagedWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StagedWriter({}, {:?})", self.uri, self.staged())
    }
}
