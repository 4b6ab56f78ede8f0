//! Files on a local or mounted file system.
//!
//! A file is written under a hidden name beside its own, synchronised with the disk and then renamed. All functions
//! block and are called on tokio's blocking threads.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use bytes::Bytes;

/// Begin of names that are not listed: files being written.
const HIDDEN: &str = ".inprogress-";

/// A file that is being written; removed again unless it is finished.
#[derive(Debug)]
pub(crate) struct StagedFile {
    file: File,
    staged: PathBuf,
    target: PathBuf,
    finished: bool,
}

impl StagedFile {
    /// Makes the folders above it too.
    pub(crate) fn create(target: &Path) -> io::Result<Self> {
        let folder = target.parent().unwrap_or(Path::new("/"));
        let staged = folder.join(format!("{HIDDEN}{:016x}", rand::random::<u64>()));
        let create = || OpenOptions::new().write(true).create_new(true).open(&staged);
        let file = match create() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(folder)?;
                create()?
            }
            other => other?,
        };
        Ok(Self {
            file,
            staged,
            target: target.to_owned(),
            finished: false,
        })
    }

    pub(crate) fn write(&mut self, content: &[u8]) -> io::Result<()> {
        self.file.write_all(content)
    }

    /// Makes it durable and visible; with `new` only if there is none of its name.
    pub(crate) fn finish(mut self, new: bool) -> io::Result<()> {
        self.file.sync_data()?;
        if new {
            fs::hard_link(&self.staged, &self.target)?;
        } else {
            fs::rename(&self.staged, &self.target)?;
            self.finished = true;
        }
        let folder = self.target.parent().unwrap_or(Path::new("/"));
        File::open(folder)?.sync_all()
    }

    /// Makes it visible; a crash of the machine may lose or damage it.
    pub(crate) fn finish_unsynced(mut self) -> io::Result<()> {
        fs::rename(&self.staged, &self.target)?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if !self.finished {
            // It may be gone with its folder; nobody waits for it.
            let _ = fs::remove_file(&self.staged);
        }
    }
}

pub(crate) fn write(path: &Path, content: &[u8], new: bool) -> io::Result<()> {
    let mut file = StagedFile::create(path)?;
    file.write(content)?;
    file.finish(new)
}

/// At most `limit` bytes; more is an error.
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<Bytes> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    if size > limit {
        return Err(io::Error::other(format!(
            "it has {size} bytes, at most {limit} are read at once"
        )));
    }
    let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    file.take(limit).read_to_end(&mut content)?;
    Ok(content.into())
}

/// Fewer bytes than asked for if the file ends before.
pub(crate) fn read_range(path: &Path, range: Range<u64>) -> io::Result<Bytes> {
    let file = File::open(path)?;
    let end = range.end.min(file.metadata()?.len());
    let length = usize::try_from(end.saturating_sub(range.start)).map_err(io::Error::other)?;
    let mut content = vec![0; length];
    let mut read = 0;
    while read < length {
        match file.read_at(&mut content[read..], range.start + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    content.truncate(read);
    Ok(content.into())
}

/// Path below `folder`, size and time of change in ms of every file in it, at any depth; at most `limit`.
pub(crate) fn list(folder: &Path, limit: usize) -> io::Result<Vec<(String, u64, u64)>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let entries = match fs::read_dir(&next) {
            // Deleted meanwhile, or never there: no files.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            if metadata.is_dir() {
                folders.push(entry.path());
            } else if !entry.file_name().to_string_lossy().starts_with(HIDDEN) {
                let path = entry.path();
                let below = path.strip_prefix(folder).unwrap_or(&path);
                let modified = metadata
                    .modified()?
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                files.push((
                    below.to_string_lossy().into_owned(),
                    metadata.len(),
                    u64::try_from(modified.as_millis()).unwrap_or(u64::MAX),
                ));
            }
            if files.len() > limit {
                return Err(io::Error::other(format!("there are more than {limit} files")));
            }
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Removes what a killed process was writing directly in a folder that is this process's alone.
pub(crate) fn remove_staged(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(HIDDEN) {
            delete(&entry.path())?;
        }
    }
    Ok(())
}

/// What isn't there is as good as deleted.
pub(crate) fn delete(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// With everything in it.
pub(crate) fn delete_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
