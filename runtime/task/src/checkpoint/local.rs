//! Local copies of state files: where this process keeps them, and which of them its tasks' checkpoints and restores use.
//!
//! ```text
//!   job's configuration, TaskManager's folder --open--> LocalCopies (thalweg_storage), under the job's FileSystems
//!   TaskRestore, acknowledged TaskSnapshot ----files--> use_by(checkpoint)
//! ```

use std::path::PathBuf;

use thalweg_proto::state::v1::{
    CheckpointOptions, OperatorSubtaskState, SnapshotKind, StateFile, TaskRestore, TaskSnapshot,
};
use thalweg_storage::{LocalCopies, LocalCopiesSettings};
use thalweg_types::JobId;
use thalweg_types::config::{ConfigError, Configuration, options};

/// Where a worker may keep copies of state files; its TaskManager's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalStateSettings {
    /// This job's, on each disk. They outlive the process.
    pub folders: Vec<PathBuf>,
    /// What all copies together may take.
    pub limit_bytes: u64,
}

/// What the job's configuration wants of it. None: no copies. A folder that can't be used costs the copies, not the job.
pub(crate) fn open(
    settings: Option<&LocalStateSettings>,
    configuration: &Configuration,
    job: JobId,
) -> Option<LocalCopies> {
    // The JobManager refused malformed values.
    let settings = wanted(settings?, configuration, job).ok()??;
    match LocalCopies::open(settings) {
        Ok(copies) => Some(copies),
        Err(error) => {
            tracing::warn!(%error, "there are no local copies of state files");
            None
        }
    }
}

fn wanted(
    settings: &LocalStateSettings,
    configuration: &Configuration,
    job: JobId,
) -> Result<Option<LocalCopiesSettings>, ConfigError> {
    let read = configuration.get(&options::RECOVER_FROM_LOCAL)?;
    let write = configuration.get(&options::LOCAL_BACKUP_ENABLED)?.unwrap_or(read);
    let Some(directory) = configuration.get(&options::CHECKPOINTING_DIR)? else {
        return Ok(None);
    };
    Ok((read || write).then(|| LocalCopiesSettings {
        folders: settings.folders.clone(),
        of: format!("{directory}/{job}"),
        limit_bytes: settings.limit_bytes,
        write,
        read,
    }))
}

/// A task starts with these files.
pub(crate) fn note_restore(copies: &LocalCopies, restore: &TaskRestore) {
    let operators = restore.operators.iter();
    let files = operators.flat_map(|operator| {
        let runs = operator.keyed.iter().flat_map(|subtask| &subtask.runs);
        let lists = operator.lists.iter().filter_map(|part| part.list.as_ref());
        let runs = runs.map(|run| &run.file);
        runs.chain(lists.map(|list| &list.file))
            .chain(operator.channels.iter().map(|channel| &channel.file))
    });
    let uris = files.flatten().map(|file| file.path.as_str());
    copies.use_by(restore.checkpoint_id, uris.filter(|path| !path.is_empty()));
}

/// A checkpoint of a task consists of these files.
pub(crate) fn note_snapshot(
    copies: &LocalCopies,
    checkpoint_id: u64,
    options: &CheckpointOptions,
    snapshot: &TaskSnapshot,
) {
    if options.kind() == SnapshotKind::Savepoint {
        return;
    }
    let base = options.shared_folder.trim_end_matches('/').rsplit_once('/');
    let base = base.map_or("", |(base, _)| base);
    let states = snapshot
        .operators
        .iter()
        .filter_map(|operator| operator.state.as_ref());
    let uris: Vec<String> = states
        .flat_map(files_of)
        .filter(|file| !file.path.is_empty())
        .map(|file| match file.path.contains("://") {
            true => file.path.clone(),
            false => format!("{base}/{}", file.path),
        })
        .collect();
    copies.use_by(checkpoint_id, uris.iter().map(String::as_str));
}

fn files_of(state: &OperatorSubtaskState) -> impl Iterator<Item = &StateFile> {
    let runs = state.runs.iter().map(|run| &run.file);
    let lists = state.lists.iter().map(|list| &list.file);
    let channels = state.channels.iter().map(|channel| &channel.file);
    runs.chain(lists).chain(channels).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(entries: &[(&str, &str)]) -> Option<(bool, bool)> {
        let entries = entries
            .iter()
            .chain(&[("execution.checkpointing.dir", "s3://b/c")]);
        let entries = entries.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let settings = LocalStateSettings {
            folders: vec!["/disk/job".into()],
            limit_bytes: 7,
        };
        let job = JobId::from_u128(10);
        let wanted = wanted(&settings, &Configuration::from_map(entries), job).unwrap();
        wanted.map(|wanted| {
            assert_eq!(wanted.of, "s3://b/c/0000000000000000000000000000000a");
            (wanted.write, wanted.read)
        })
    }

    #[test]
    fn copies_are_made_where_they_are_read_unless_said_otherwise() {
        let (read, write) = (
            "execution.state-recovery.from-local",
            "execution.checkpointing.local-backup.enabled",
        );
        assert_eq!(wants(&[]), None);
        assert_eq!(wants(&[(read, "true")]), Some((true, true)));
        assert_eq!(
            wants(&[("state.backend.local-recovery", "true")]),
            Some((true, true))
        );
        assert_eq!(wants(&[(write, "true")]), Some((true, false)));
        assert_eq!(wants(&[(read, "true"), (write, "false")]), Some((false, true)));
    }
}
