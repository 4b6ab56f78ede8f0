//! A process's own temporary folder: gone with it, and if it was killed, taken away by the next process.
//!
//! Invariant: a folder that has a `lock` file belongs to whoever holds the lock on it; the kernel lets go of it when the process
//! ends, however it ends. So two pods may share a folder for temporary files, and a restarted container doesn't fill its own.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::TempDir;
use thalweg_types::config::{Configuration, options};

const PREFIX: &str = "thalweg-";
const LOCK: &str = "lock";

/// Removed when it is dropped.
pub(crate) struct TempFolder {
    folder: TempDir,
    _lock: File,
}

impl TempFolder {
    /// One in the first of `io.tmp.dirs`, else in the system's folder.
    pub(crate) fn new(configuration: &Configuration) -> anyhow::Result<Self> {
        let configured = configuration.get(&options::TMP_DIRS)?;
        let first = configured
            .as_deref()
            .and_then(|dirs| dirs.split([',', ':']).map(str::trim).find(|dir| !dir.is_empty()));
        let base = first.map_or_else(std::env::temp_dir, PathBuf::from);
        Self::new_in(&base)
            .with_context(|| format!("no folder can be made in {} (io.tmp.dirs)", base.display()))
    }

    fn new_in(base: &Path) -> std::io::Result<Self> {
        remove_abandoned(base);
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(base)?;
        // Locked before it has the name that others look for.
        let unnamed = folder.path().join("new-lock");
        let lock = File::create(&unnamed)?;
        lock.lock()?;
        std::fs::rename(&unnamed, folder.path().join(LOCK))?;
        Ok(Self { folder, _lock: lock })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

fn remove_abandoned(base: &Path) {
    let Ok(entries) = std::fs::read_dir(base) else {
        return;
    };
    for folder in entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX))
    {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_processs_folder_is_removed_by_the_next_and_a_living_ones_is_not() {
        let base = tempfile::tempdir().unwrap();
        let abandoned = base.path().join("thalweg-abandoned");
        std::fs::create_dir(&abandoned).unwrap();
        File::create(abandoned.join(LOCK)).unwrap();
        let living = TempFolder::new_in(base.path()).unwrap();
        let next = TempFolder::new_in(base.path()).unwrap();
        assert!(!abandoned.exists());
        assert!(living.path().exists());
        let path = next.path().to_owned();
        drop(next);
        assert!(!path.exists());
    }
}
