//! Whether operators' state may be larger than memory, and where it is then.

use std::path::PathBuf;
use std::sync::OnceLock;

use thalweg_state::{DiskSettings, Scratch, StateSettings};
use thalweg_types::config::{ConfigError, Configuration, StateBackend, options};

use crate::error::TaskError;

/// The process's folder for state on disk, made for the first task that needs it and gone with the process.
#[derive(Default)]
pub(crate) struct DiskFolder(OnceLock<Scratch>);

impl DiskFolder {
    /// For operators that may each hold so much memory.
    pub(crate) fn state_settings(
        &self,
        configuration: &Configuration,
        memory_bytes: usize,
    ) -> Result<StateSettings, TaskError> {
        let malformed = |error: ConfigError| TaskError::Configuration {
            message: error.to_string(),
        };
        let base = base(configuration).map_err(malformed)?;
        let scratch = self.0.get_or_init(|| Scratch::new(base));
        let disk = match configuration.get(&options::STATE_BACKEND).map_err(malformed)? {
            StateBackend::HashMap => None,
            StateBackend::RocksDb => {
                let folder = scratch.folder();
                let folder = folder.map_err(|source| TaskError::LocalState { source })?;
                tracing::info!(
                    folder = %folder.path().display(),
                    "state that memory has no room for is on disk, in Thalweg's own store: keys that tune RocksDB or ForSt have no effect"
                );
                Some(DiskSettings::new(folder, memory_bytes))
            }
        };
        Ok(StateSettings {
            memory_bytes,
            scratch: disk.is_none().then(|| scratch.clone()),
            disk,
            exact_columns: false,
        })
    }
}

/// The first folder of the option, else of those for temporary files.
fn base(configuration: &Configuration) -> Result<PathBuf, ConfigError> {
    let first = |folders: &str| {
        let mut folders = folders.split([',', ':']).map(str::trim);
        folders.find(|folder| !folder.is_empty()).map(PathBuf::from)
    };
    let own = configuration.get(&options::STATE_LOCAL_DIR)?;
    let temporary = configuration.get(&options::TMP_DIRS)?;
    let configured = own.as_deref().and_then(first);
    Ok(configured
        .or_else(|| temporary.as_deref().and_then(first))
        .unwrap_or_else(std::env::temp_dir))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn rocksdb_and_forst_are_state_on_disk_in_the_first_folder_that_is_named() {
        let base = tempfile::tempdir().unwrap();
        let own = base.path().join("own");
        let mut configuration = Configuration::default();
        configuration.set("io.tmp.dirs", base.path().display().to_string());
        for (backend, folder) in [
            ("hashmap", None),
            ("rocksdb", Some(base.path())),
            ("FORST", Some(&*own)),
        ] {
            configuration.set("state.backend.type", backend);
            if backend == "FORST" {
                let folders = format!("{},/nowhere", own.display());
                configuration.set("state.backend.rocksdb.localdir", folders);
            }
            let process = DiskFolder::default();
            let settings = process.state_settings(&configuration, 1 << 20).unwrap();
            assert_eq!(
                settings.scratch.is_some(),
                backend == "hashmap",
                "for full snapshots only, made when one needs it"
            );
            let path = settings.disk.as_ref().map(|disk| disk.folder.path().to_owned());
            assert_eq!(path.as_deref().and_then(Path::parent), folder, "{backend}");
            let again = process.state_settings(&configuration, 1 << 20).unwrap();
            assert_eq!(
                again.disk.map(|disk| disk.folder.path().to_owned()),
                path,
                "one a process"
            );
        }
    }
}
