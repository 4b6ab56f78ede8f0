//! `thalweg state`: looks into checkpoints and savepoints, without a cluster.

use std::process::ExitCode;

use thalweg_jobmanager::snapshot;
use thalweg_state::SnapshotStore;
use thalweg_storage::FileSystems;
use thalweg_types::config::Configuration;

use super::print;

/// Prints which state a snapshot holds.
pub(crate) async fn inspect(configuration: &Configuration, path: &str) -> anyhow::Result<ExitCode> {
    let file_systems = FileSystems::new(configuration.clone());
    let snapshot = snapshot::open(&file_systems, &absolute(path)?).await?;
    let store = SnapshotStore::new(file_systems);
    let facts = store.inspect(&snapshot.metadata, snapshot.base()).await?;
    print(&format!("{facts}"))
}

/// A path of this machine from its root; a URI as it is.
pub(crate) fn absolute(path: &str) -> anyhow::Result<String> {
    if path.contains(":/") {
        return Ok(path.to_owned());
    }
    Ok(std::path::absolute(path)?.to_string_lossy().into_owned())
}
