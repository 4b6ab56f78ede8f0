//! What a job starts from and where its checkpoints go: looked at before there is a job, so that what is wrong refuses it.

use thalweg_checkpoint::{RestoreSource, assign};
use thalweg_proto::graph::v1::JobGraph;
use thalweg_storage::FileSystems;
use thalweg_types::config::{ClaimMode, ConfigOption, ConfigValue, Configuration, options};
use thalweg_types::{Failure, FailureClass, JobId};

use super::submission::StartState;
use crate::snapshot::{self, StoredSnapshot};

/// What a job starts from. Its operators take all of it, or may leave the rest behind.
#[derive(Debug)]
pub(crate) struct RestoredState {
    pub(crate) snapshot: StoredSnapshot,
    pub(crate) claim_mode: ClaimMode,
    /// The job's own checkpoints before it, oldest first.
    pub(crate) earlier: Vec<StoredSnapshot>,
}

pub(super) fn configured<T: ConfigValue>(
    configuration: &Configuration,
    option: &ConfigOption<T>,
) -> Result<T, Failure> {
    configuration
        .get(option)
        .map_err(|error| Failure::from_error(&error))
}

pub(super) async fn open(file_systems: &FileSystems, path: &str) -> Result<StoredSnapshot, Failure> {
    let opened = snapshot::open(file_systems, path).await;
    opened.map_err(|error| {
        let failure = Failure::from_error(&error);
        Failure {
            message: format!("the job can't start from its state: {}", failure.message),
            ..failure
        }
    })
}

/// Refuses a snapshot that does not fit the job; says what is left behind.
pub(super) fn restored_state(
    StartState {
        snapshot,
        claim_mode,
        earlier,
    }: StartState,
    job_graph: &JobGraph,
    configuration: &Configuration,
) -> Result<RestoredState, Failure> {
    let source = RestoreSource {
        metadata: &snapshot.metadata,
        base: snapshot.base(),
        own: false,
    };
    let allow_non_restored = configured(configuration, &options::STATE_RECOVERY_IGNORE_UNCLAIMED)?;
    let assigned = assign(source, job_graph, allow_non_restored).map_err(|error| {
        let failure = Failure::from_error(&error);
        let message = format!(
            "the job can't start from {}: {}",
            snapshot.folder, failure.message
        );
        Failure { message, ..failure }
    })?;
    for operator in assigned.left_behind {
        tracing::warn!(
            job = job_graph.job_name,
            operator,
            path = snapshot.folder,
            "state is left behind"
        );
    }
    Ok(RestoredState {
        snapshot,
        claim_mode,
        earlier,
    })
}

/// Refuses a job that is to take checkpoints and has no place for them.
pub(super) async fn check_checkpoint_directory(
    configuration: &Configuration,
    file_systems: &FileSystems,
) -> Result<(), Failure> {
    let interval = configured(configuration, &options::CHECKPOINTING_INTERVAL)?;
    if interval.is_none_or(|interval| interval.is_zero()) {
        return Ok(());
    }
    let key = options::CHECKPOINTING_DIR.key;
    let Some(directory) = configured(configuration, &options::CHECKPOINTING_DIR)? else {
        let message = format!(
            "the job takes checkpoints ({}) but has no folder for them: set {key}, as in s3://bucket/checkpoints",
            options::CHECKPOINTING_INTERVAL.key
        );
        return Err(Failure::new(FailureClass::Fatal, message));
    };
    let probed = match file_systems.open_folder(&directory) {
        Ok(folder) => folder.probe_writable().await,
        Err(error) => Err(error),
    };
    probed.map_err(|error| {
        let failure = Failure::from_error(&error);
        Failure {
            message: format!("{key}: {}", failure.message),
            ..failure
        }
    })
}

/// The newest checkpoint in the folder of a job whose id was given: 0 if there is something else; nothing in an empty folder. And
/// the paths of all files there.
pub(super) async fn earlier_checkpoint(
    configuration: &Configuration,
    file_systems: &FileSystems,
    job_id: JobId,
) -> Result<(Option<u64>, Vec<String>), Failure> {
    let Some(directory) = configured(configuration, &options::CHECKPOINTING_DIR)? else {
        return Ok((None, Vec::new()));
    };
    let listed = match file_systems.open_folder(&directory) {
        Ok(folder) => folder.folder(&job_id.to_string()).list("").await,
        Err(error) => Err(error),
    };
    let files = listed.map_err(|error| Failure::from_error(&error))?;
    let number = |path: &str| -> Option<u64> { path.strip_prefix("chk-")?.split('/').next()?.parse().ok() };
    let newest = files.iter().map(|file| number(&file.path).unwrap_or(0)).max();
    Ok((newest, files.into_iter().map(|file| file.path).collect()))
}
