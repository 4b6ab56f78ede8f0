//! Copies on a local disk of the files that a job writes into its checkpoint folder: a restore on the same machine
//! reads them and asks the remote store for nothing. Flink's local recovery.
//!
//! ```text
//!   FileSystem::write, writer --the same bytes--> copy/file.rs, renamed when the remote file is there
//!   FileSystem::read_range <----- the copy, if it is there and its checksums fit; else the remote file
//!   use_by(checkpoint, files), completed(checkpoint) ----> what no checkpoint to restore needs is deleted
//! ```
//!
//! Only files below one folder's URI are copied: a savepoint, which has a folder of its own, is not. Copies outlive the
//! process that made them; the next one that is given their folder finds them.
//!
//! Invariants: a copy never fails what it is a copy of, neither a write nor a read: it is given up, and that is logged;
//! bytes that are read are checked first, and a damaged copy is removed; all copies together hold at most so many bytes
//! as the limit says.

mod file;
mod index;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::local;
use crate::writer::blocking;
use crate::{FileSystems, StorageError};
use file::{StagedCopy, read_copy};
use index::{Index, Limits};

/// What is copied, and to where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalCopiesSettings {
    /// Of this job alone; a copy is in one of them.
    pub folders: Vec<PathBuf>,
    /// URI of the folder whose files are copied.
    pub of: String,
    /// What all copies together may take, in bytes.
    pub limit_bytes: u64,
    /// Whether copies are made.
    pub write: bool,
    /// Whether copies are read.
    pub read: bool,
}

/// The copies of one job on this machine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LocalCopies(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    folders: Vec<PathBuf>,
    /// With a slash at its end.
    of: String,
    limits: Limits,
    write: bool,
    read: bool,
    index: Mutex<Index>,
    /// The last copy was given up, and that was logged: the next ones that are, are not worth a warning.
    giving_up: AtomicBool,
}

/// A copy being written.
#[derive(Debug)]
pub(crate) struct CopyWriter {
    copies: LocalCopies,
    key: String,
    staged: StagedCopy,
    reserved: Reservation,
}

/// Room for a copy being written; given back when it is dropped.
#[derive(Debug)]
struct Reservation {
    copies: LocalCopies,
    bytes: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.copies.index().release(self.bytes);
    }
}

impl LocalCopies {
    /// Looks at what an earlier process left; its oldest copies go if they are too many. Blocks.
    pub fn open(settings: LocalCopiesSettings) -> Result<Self, StorageError> {
        let mut found = Vec::new();
        for (place, folder) in settings.folders.iter().enumerate() {
            let failed = |error| StorageError::from_io("open", &folder.display().to_string(), &error);
            std::fs::create_dir_all(folder).map_err(failed)?;
            local::remove_staged(folder).map_err(failed)?;
            let files = local::list(folder, index::MOST_COPIES).map_err(failed)?;
            let files = files.into_iter();
            found.extend(
                files.map(|(name, bytes, modified_ms)| (modified_ms, key_of_name(&name), place, bytes)),
            );
        }
        found.sort_unstable();
        let copies = Self(Arc::new(Shared {
            of: format!("{}/", FileSystems::canonical(&settings.of)?),
            limits: Limits {
                bytes: settings.limit_bytes,
                copies: index::MOST_COPIES,
            },
            folders: settings.folders,
            write: settings.write,
            read: settings.read,
            index: Mutex::default(),
            giving_up: AtomicBool::new(false),
        }));
        for (_, key, place, bytes) in found {
            let mut removed = Vec::new();
            if copies.make_room(bytes, &mut removed) {
                copies.index().add_found(key, place, bytes);
            } else {
                removed.push((key, place));
            }
            copies.delete(removed);
        }
        Ok(copies)
    }

    /// These files, by their URIs, are what a checkpoint consists of: one that was restored, or is being taken.
    pub fn use_by<'a>(&self, checkpoint_id: u64, files: impl IntoIterator<Item = &'a str>) {
        let canonical = files.into_iter().map(FileSystems::canonical);
        let keys = canonical.filter_map(|uri| self.key_of(&uri.ok()?)).collect();
        self.index().use_by(checkpoint_id, keys);
    }

    /// Whether [`Self::completed`] would have anything to do.
    pub fn is_news(&self, checkpoint_id: u64) -> bool {
        self.index().is_news(checkpoint_id)
    }

    /// A checkpoint is complete: none before it will be restored. One that [`Self::use_by`] never heard of, as a savepoint,
    /// changes nothing. Blocks while files are deleted.
    pub fn completed(&self, checkpoint_id: u64) {
        let removed = self.index().completed(checkpoint_id);
        self.delete(removed);
    }

    /// Bytes on the local disk.
    pub fn bytes(&self) -> u64 {
        self.index().bytes()
    }

    /// What it is called below the folder that is copied.
    pub(crate) fn key_of(&self, uri: &str) -> Option<String> {
        let key = uri.strip_prefix(&self.0.of)?;
        let plain = |part: &str| !matches!(part, "" | "." | "..");
        key.split('/').all(plain).then(|| key.to_owned())
    }

    pub(crate) fn is_copied(&self, folder_uri: &str) -> bool {
        folder_uri.starts_with(&self.0.of) || self.0.of.strip_suffix('/') == Some(folder_uri)
    }

    /// Bytes of a file, if there is a good copy. Fewer than asked for if the file ends before.
    pub(crate) async fn read(&self, uri: &str, range: Range<u64>) -> Option<Bytes> {
        if !self.0.read {
            return None;
        }
        let key = self.key_of(uri)?;
        let (place, table) = self.index().find(&key)?;
        let path = self.0.folders.get(place)?.join(name_of_key(&key));
        let owned = uri.to_owned();
        let read = blocking(uri, move || read_copy(&path, &owned, table, range)).await;
        match read.ok()? {
            Ok((table, bytes)) => {
                self.index().note_table(&key, table);
                Some(bytes)
            }
            Err(error) => {
                if error.kind() != std::io::ErrorKind::NotFound {
                    tracing::warn!(file = uri, %error, "a local copy of a state file can't be used and is removed; the file itself is read");
                }
                self.remove(vec![key]).await;
                None
            }
        }
    }

    /// Begins the copy of a file; None if it gets none.
    pub(crate) async fn writer(&self, uri: &str) -> Option<CopyWriter> {
        let key = self.key_of(uri).filter(|_| self.0.write)?;
        let place = index::place_of(&key, self.0.folders.len())?;
        let target = self.0.folders.get(place)?.join(name_of_key(&key));
        let owned = uri.to_owned();
        let staged = blocking(uri, move || StagedCopy::create(&target, &owned)).await;
        match staged.ok()? {
            Ok(staged) => Some(CopyWriter {
                reserved: Reservation {
                    copies: self.clone(),
                    bytes: 0,
                },
                copies: self.clone(),
                key,
                staged,
            }),
            Err(error) => {
                self.given_up(uri, &error);
                None
            }
        }
    }

    /// Forgets copies of files that are deleted.
    pub(crate) async fn forget<'a>(&self, uris: impl IntoIterator<Item = &'a str>) {
        let keys = uris.into_iter().filter_map(|uri| self.key_of(uri)).collect();
        self.remove(keys).await;
    }

    fn given_up(&self, uri: &str, error: &std::io::Error) {
        if self.0.giving_up.swap(true, Ordering::Relaxed) {
            tracing::debug!(file = uri, %error, "another state file gets no local copy");
        } else {
            tracing::warn!(file = uri, %error, "a state file gets no local copy");
        }
    }

    async fn remove(&self, keys: Vec<String>) {
        let removed = self.index().remove(&keys);
        if removed.is_empty() {
            return;
        }
        let copies = self.clone();
        // A copy that stays is found again and goes by the limit.
        let _ = blocking("", move || copies.delete(removed)).await;
    }

    /// Whether there is room for so many bytes more, and which copies go for that.
    fn make_room(&self, bytes: u64, removed: &mut Vec<(String, usize)>) -> bool {
        let mut index = self.index();
        removed.extend(index.evict_for(bytes, self.0.limits));
        index.has_room(bytes, self.0.limits)
    }

    fn delete(&self, removed: Vec<(String, usize)>) {
        for (key, place) in removed {
            let Some(folder) = self.0.folders.get(place) else {
                continue;
            };
            if let Err(error) = local::delete(&folder.join(name_of_key(&key))) {
                tracing::warn!(copy = key, %error, "a local copy of a state file can't be deleted");
            }
        }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.0.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CopyWriter {
    /// Adds bytes; None if the copy is given up.
    pub(crate) async fn write(mut self, content: Bytes) -> Option<Self> {
        let (copies, uri) = (self.copies.clone(), self.staged.uri().to_owned());
        let written = blocking(&uri, move || {
            let bytes = content.len() as u64;
            let mut removed = Vec::new();
            let room = self.copies.make_room(bytes, &mut removed);
            self.copies.delete(removed);
            if !room {
                let limit = self.copies.0.limits.bytes;
                let message = format!("all copies together may hold {limit} bytes");
                return Err(std::io::Error::other(message));
            }
            self.copies.index().reserve(bytes);
            self.reserved.bytes += bytes;
            self.staged.write(&content).map(|()| self)
        })
        .await;
        written
            .ok()?
            .inspect_err(|error| copies.given_up(&uri, error))
            .ok()
    }

    /// Makes it a copy: the file itself is there.
    pub(crate) async fn finish(self) {
        let (copies, uri) = (self.copies.clone(), self.staged.uri().to_owned());
        let finished = blocking(&uri, move || {
            let place = index::place_of(&self.key, self.copies.0.folders.len()).unwrap_or_default();
            let (table, bytes) = self.staged.finish()?;
            // From now on it counts by itself.
            drop(self.reserved);
            self.copies.index().add(self.key, place, bytes, Arc::new(table));
            Ok(())
        });
        match finished.await {
            Ok(Ok(())) => copies.0.giving_up.store(false, Ordering::Relaxed),
            Ok(Err(error)) => copies.given_up(&uri, &error),
            // The runtime goes down.
            Err(_) => {}
        }
    }
}

/// A copy's name on disk: all are in one folder.
fn name_of_key(key: &str) -> String {
    key.replace('%', "%25").replace('/', "%2F")
}

fn key_of_name(name: &str) -> String {
    name.replace("%2F", "/").replace("%25", "%")
}
