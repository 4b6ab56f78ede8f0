//! Folders and files of local state.
//!
//! Invariants: a process's folder is locked as long as the process lives, so that the next process may remove what a killed one left;
//! a file is removed when nobody holds it any more, and a folder with everything in it.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::StateError;
use crate::file::builder::Sink;

const PREFIX: &str = "thalweg-state-";
const LOCK: &str = "lock";
const BUFFER_BYTES: usize = 256 << 10;

/// A folder for local state, removed when it is dropped.
#[derive(Debug)]
pub struct LocalFolder {
    path: PathBuf,
    /// A process's own.
    _lock: Option<File>,
    parent: Option<Arc<LocalFolder>>,
    next_name: AtomicU64,
    /// Bytes that may be written, for tests.
    space: AtomicU64,
}

impl LocalFolder {
    /// A process's folder in `base`, which is made if it isn't there. What processes that were killed left there is removed.
    pub fn of_process(base: &Path) -> Result<Arc<Self>, StateError> {
        let failed = |error: std::io::Error| disk_error(base, &error);
        std::fs::create_dir_all(base).map_err(failed)?;
        remove_abandoned(base);
        let path = base.join(format!("{PREFIX}{:016x}", rand::random::<u64>()));
        std::fs::create_dir(&path).map_err(failed)?;
        // Locked before it has the name that others look for.
        let unnamed = path.join("new-lock");
        let lock = File::create(&unnamed).map_err(failed)?;
        lock.lock().map_err(failed)?;
        std::fs::rename(&unnamed, path.join(LOCK)).map_err(failed)?;
        Ok(Arc::new(Self {
            path,
            _lock: Some(lock),
            parent: None,
            next_name: AtomicU64::new(0),
            space: AtomicU64::new(u64::MAX),
        }))
    }

    /// A folder of its own for one operator in one subtask.
    pub(crate) fn sub_folder(self: &Arc<Self>) -> Result<Arc<Self>, StateError> {
        let path = self.path.join(self.new_name());
        std::fs::create_dir(&path).map_err(|error| disk_error(&path, &error))?;
        Ok(Arc::new(Self {
            path,
            _lock: None,
            parent: Some(Arc::clone(self)),
            next_name: AtomicU64::new(0),
            space: AtomicU64::new(u64::MAX),
        }))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new file.
    pub(crate) fn create(self: &Arc<Self>) -> Result<LocalWriter, StateError> {
        let path = self.path.join(self.new_name());
        let created = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path);
        let file = created.map_err(|error| disk_error(&path, &error))?;
        let file = LocalFile {
            file,
            name: path.display().to_string(),
            path,
            bytes: 0,
            folder: Arc::clone(self),
        };
        Ok(LocalWriter {
            buffer: BufWriter::with_capacity(BUFFER_BYTES, Handle(file)),
        })
    }

    /// From now on only so many more bytes can be written, as if the disk was full then.
    #[cfg(test)]
    pub(crate) fn limit_space(&self, bytes: u64) {
        self.space.store(bytes, Ordering::Relaxed);
    }

    fn new_name(&self) -> String {
        self.next_name.fetch_add(1, Ordering::Relaxed).to_string()
    }

    fn take_space(&self, bytes: u64) -> std::io::Result<()> {
        let taken = self
            .space
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| match left {
                u64::MAX => Some(left),
                left => left.checked_sub(bytes),
            });
        taken.map_err(|_| std::io::ErrorKind::StorageFull)?;
        self.parent
            .as_ref()
            .map_or(Ok(()), |parent| parent.take_space(bytes))
    }
}

impl Drop for LocalFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::debug!(folder = %self.path.display(), %error, "a folder of local state can't be removed");
        }
    }
}

fn remove_abandoned(base: &Path) {
    let Ok(entries) = std::fs::read_dir(base) else {
        return;
    };
    let ours = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with(PREFIX);
    for folder in entries.flatten().filter(ours) {
        let Ok(lock) = File::open(folder.path().join(LOCK)) else {
            continue;
        };
        if lock.try_lock().is_ok()
            && let Err(error) = std::fs::remove_dir_all(folder.path())
        {
            tracing::debug!(folder = %folder.path().display(), %error, "an abandoned folder can't be removed");
        }
    }
}

/// A file that is complete and never changes.
#[derive(Debug)]
pub(crate) struct LocalFile {
    file: File,
    path: PathBuf,
    /// The path in words.
    name: String,
    bytes: u64,
    folder: Arc<LocalFolder>,
}

impl LocalFile {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    #[cfg(test)]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// For errors.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn read(&self, offset: u64, length: usize) -> Result<Bytes, StateError> {
        let mut bytes = vec![0; length];
        let read = self.file.read_exact_at(&mut bytes, offset);
        read.map_err(|error| disk_error(&self.path, &error))?;
        Ok(bytes.into())
    }

    #[cfg(test)]
    pub(crate) fn file_for_tests(&self) -> &File {
        &self.file
    }

    /// It isn't what was written.
    pub(crate) fn damaged(&self, message: &str) -> StateError {
        StateError::LocalDisk {
            folder: self.name.clone(),
            message: format!("the file is damaged: {message}"),
        }
    }
}

impl Drop for LocalFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(file = %self.path.display(), %error, "a file of local state can't be removed");
        }
    }
}

/// A file being written; dropped before [`Self::finish`], it is removed.
pub(crate) struct LocalWriter {
    buffer: BufWriter<Handle>,
}

struct Handle(LocalFile);

impl Write for Handle {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.folder.take_space(bytes.len() as u64)?;
        let written = self.0.file.write(bytes)?;
        self.0.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl LocalWriter {
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        let written = self.buffer.write_all(bytes);
        written.map_err(|error| disk_error(&self.buffer.get_ref().0.path, &error))
    }

    pub(crate) fn finish(mut self) -> Result<LocalFile, StateError> {
        let flushed = self.buffer.flush();
        flushed.map_err(|error| disk_error(&self.buffer.get_ref().0.path, &error))?;
        let (handle, _) = self.buffer.into_parts();
        Ok(handle.0)
    }
}

impl Sink for LocalWriter {
    fn write(&mut self, bytes: Vec<u8>) -> Result<(), StateError> {
        self.append(&bytes)
    }
}

/// What the local disk said.
pub(crate) fn disk_error(path: &Path, error: &std::io::Error) -> StateError {
    let hint = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            ": the disk is full; give state.backend.rocksdb.localdir (or io.tmp.dirs) a larger one"
        }
        std::io::ErrorKind::UnexpectedEof => ": the file is damaged, it is shorter than what was written",
        _ => "",
    };
    StateError::LocalDisk {
        folder: path.display().to_string(),
        message: format!("{error}{hint}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_processs_folder_is_removed_by_the_next_and_a_living_ones_is_not() {
        let base = tempfile::tempdir().unwrap();
        let abandoned = base.path().join("thalweg-state-abandoned");
        std::fs::create_dir(&abandoned).unwrap();
        File::create(abandoned.join(LOCK)).unwrap();
        let living = LocalFolder::of_process(base.path()).unwrap();
        let next = LocalFolder::of_process(base.path()).unwrap();
        assert!(!abandoned.exists());
        assert!(living.path().exists());
        let path = next.path().to_owned();
        let sub = next.sub_folder().unwrap();
        let mut writer = sub.create().unwrap();
        writer.append(b"rows").unwrap();
        let file = writer.finish().unwrap();
        assert_eq!(&file.read(1, 2).unwrap()[..], b"ow");
        drop((file, sub, next));
        assert!(!path.exists());
    }

    #[test]
    fn a_full_disk_is_an_error_that_names_the_option_and_leaves_no_file() {
        let base = tempfile::tempdir().unwrap();
        let folder = LocalFolder::of_process(base.path()).unwrap();
        folder.limit_space(1_000);
        let mut writer = folder.create().unwrap();
        writer.append(&[0; 2_000]).unwrap();
        let text = writer.finish().unwrap_err().to_string();
        assert!(text.contains("state.backend.rocksdb.localdir"), "{text}");
        let left = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 1, "only the lock");
    }
}
