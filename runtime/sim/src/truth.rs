//! What the store really has, whoever knows it: the jobs' logs as only the checker sees them.

use std::collections::{BTreeMap, BTreeSet};

use thalweg_jobmanager::simulation::decode;
use thalweg_proto::ha::v1::record::Content as Logged;
use thalweg_proto::state::v1::{OperatorSubtaskState, SnapshotMetadata, StateFile};

use crate::store::Content;

/// Where JobManagers leave something for each other.
pub(crate) const HIGH_AVAILABILITY: &str = "ha";

/// All logs.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    jobs: BTreeMap<String, TrueLog>,
}

/// One job's.
#[derive(Debug, Default)]
pub(crate) struct TrueLog {
    /// Numbers in the order in which they were logged.
    pub(crate) completed: Vec<u64>,
    discarded: BTreeSet<u64>,
    epoch: u64,
    newest: u64,
    /// Of each completed checkpoint.
    files: BTreeMap<u64, BTreeSet<String>>,
    wrong: Vec<String>,
    over: bool,
}

impl TrueLog {
    /// That a new leader has to go on from.
    fn newest(&self) -> Option<u64> {
        let counted = self.completed.iter().filter(|id| !self.discarded.contains(id));
        counted.max().copied()
    }
}

impl Truth {
    pub(crate) fn of(&self, job: &str) -> Option<&TrueLog> {
        self.jobs.get(job)
    }

    pub(crate) fn take_wrong(&mut self) -> Vec<String> {
        let logs = self.jobs.values_mut();
        logs.flat_map(|log| std::mem::take(&mut log.wrong)).collect()
    }

    /// Whether the log has this checkpoint and counts on it, or on a newer one.
    pub(crate) fn has_completed(&self, job: &str, id: u64) -> bool {
        let newest = self.jobs.get(job).and_then(TrueLog::newest);
        newest.is_some_and(|newest| newest >= id)
    }

    /// Something was created in the store.
    pub(crate) fn written(&mut self, path: &str, content: &Content, objects: &BTreeMap<String, Content>) {
        let Content::Record(bytes) = content else { return };
        let Some(job) = path
            .strip_prefix("ha/jobs/")
            .and_then(|path| path.split('/').next())
        else {
            return;
        };
        let log = self.jobs.entry(job.to_owned()).or_default();
        let Some(record) = decode(path, bytes) else {
            log.wrong.push(format!("{path} can't be read"));
            return;
        };
        if record.epoch < log.epoch {
            log.wrong.push(format!(
                "job {job}: a leader of epoch {} wrote record {} behind one of epoch {}",
                record.epoch, record.number, log.epoch
            ));
        }
        if record.number <= log.newest {
            log.wrong
                .push(format!("job {job}: record {} was written twice", record.number));
        }
        log.newest = log.newest.max(record.number);
        log.epoch = log.epoch.max(record.epoch);
        match record.content {
            Some(Logged::CheckpointCompleted(completed)) => {
                let id = completed.checkpoint_id;
                match objects.get(&format!("{}/_metadata", completed.folder)) {
                    Some(Content::Metadata(metadata)) => {
                        log.files.insert(id, files_of(&completed.folder, metadata));
                    }
                    _ => log
                        .wrong
                        .push(format!("job {job}: checkpoint {id} was logged without metadata")),
                }
                log.completed.push(id);
            }
            Some(Logged::CheckpointDiscarded(discarded)) => {
                log.discarded.insert(discarded.checkpoint_id);
            }
            _ => {}
        }
    }

    /// The checkpoint that a new leader would go on from and can't without this file.
    pub(crate) fn needed_by(&self, path: &str) -> Option<u64> {
        self.jobs.values().filter(|log| !log.over).find_map(|log| {
            let newest = log.newest()?;
            log.files.get(&newest)?.contains(path).then_some(newest)
        })
    }

    /// Whether that folder's is the checkpoint that a new leader has to go on from.
    pub(crate) fn counts_on(&self, job: &str, folder: &str) -> bool {
        let newest = self.jobs.get(job).and_then(TrueLog::newest);
        newest.is_some_and(|newest| folder.ends_with(&format!("/chk-{newest}")))
    }

    /// Behind a job's end nothing is needed.
    pub(crate) fn release(&mut self, job: &str) {
        if let Some(log) = self.jobs.get_mut(job) {
            log.over = true;
        }
    }
}

fn files_of(folder: &str, metadata: &SnapshotMetadata) -> BTreeSet<String> {
    let base = folder.rsplit_once('/').map_or(folder, |(base, _)| base);
    let absolute = |file: &StateFile| {
        if file.path.contains("://") {
            file.path.clone()
        } else {
            format!("{base}/{}", file.path)
        }
    };
    let states = metadata.operators.iter().flat_map(|operator| &operator.subtasks);
    let files = states.flat_map(|state: &OperatorSubtaskState| {
        let runs = state.runs.iter().filter_map(|run| run.file.as_ref());
        runs.chain(state.lists.iter().filter_map(|list| list.file.as_ref()))
    });
    let stored = files.filter(|file| file.inline.is_empty() && !file.path.is_empty());
    let mut paths: BTreeSet<String> = stored.map(absolute).collect();
    paths.insert(format!("{folder}/_metadata"));
    paths
}
