//! What the store really has, whoever knows it: the jobs' logs as only the checker sees them.

use std::collections::{BTreeMap, BTreeSet};

use thalweg_jobmanager::simulation::decode;
use thalweg_proto::ha::v1::operation_done::Kind;
use thalweg_proto::ha::v1::record::Content as Logged;
use thalweg_proto::state::v1::{OperatorSubtaskState, SnapshotMetadata, StateFile};

use crate::steps::Step;
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
    /// Those, plain savepoints, and what the job started from: tasks may be told of them, or commit what was prepared for them.
    notable: BTreeSet<u64>,
    discarded: BTreeSet<u64>,
    epoch: u64,
    newest: u64,
    /// Of each completed checkpoint.
    files: BTreeMap<u64, BTreeSet<String>>,
    wrong: Vec<String>,
    over: bool,
    result: bool,
    /// Ended ones, by id.
    operations: BTreeSet<String>,
    /// Folders of savepoints that were to stop the job, and who asked for them, by their numbers.
    stops: BTreeMap<u64, (String, String)>,
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

    /// Whether the log has the job's end.
    pub(crate) fn has_result(&self, job: &str) -> bool {
        self.jobs.get(job).is_some_and(|log| log.result)
    }

    /// Whether nothing is needed for the job any more.
    pub(crate) fn is_over(&self, job: &str) -> bool {
        self.jobs.get(job).is_some_and(|log| log.over)
    }

    /// Whether the log has an operation's end.
    pub(crate) fn has_operation(&self, job: &str, id: &str) -> bool {
        self.jobs.get(job).is_some_and(|log| log.operations.contains(id))
    }

    /// Whether the savepoint of this operation, which was to stop the job, is its newest.
    pub(crate) fn has_stopped(&self, job: &str, id: &str) -> bool {
        let newest = self.jobs.get(job).and_then(|log| log.stops.get(&log.newest()?));
        newest.is_some_and(|(_, asked)| asked == id)
    }

    /// Whether the log has this checkpoint and counts on it, or on a newer one.
    pub(crate) fn has_completed(&self, job: &str, id: u64) -> bool {
        let known = self.jobs.get(job).map(|log| &log.notable);
        let newest = known.and_then(|known| known.last());
        newest.is_some_and(|newest| *newest >= id)
    }

    /// Something was created in the store: what that means.
    pub(crate) fn written(
        &mut self,
        path: &str,
        content: &Content,
        objects: &BTreeMap<String, Content>,
    ) -> Option<Step> {
        let Content::Record(bytes) = content else {
            return None;
        };
        let job = path.strip_prefix("ha/jobs/")?.split('/').next()?;
        let log = self.jobs.entry(job.to_owned()).or_default();
        let Some(record) = decode(path, bytes) else {
            log.wrong.push(format!("{path} can't be read"));
            return None;
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
                let asked = completed.operation.as_ref().map(|done| done.operation_id.clone());
                if completed.stops_job {
                    let stop = (completed.folder.clone(), asked.unwrap_or_default());
                    log.stops.insert(id, stop);
                } else {
                    log.operations.extend(asked);
                }
                match objects.get(&format!("{}/_metadata", completed.folder)) {
                    Some(Content::Metadata(metadata)) => {
                        log.files.insert(id, files_of(&completed.folder, metadata));
                    }
                    _ => log
                        .wrong
                        .push(format!("job {job}: checkpoint {id} was logged without metadata")),
                }
                if !completed.is_savepoint || completed.stops_job {
                    log.completed.push(id);
                }
                log.notable.insert(id);
            }
            Some(Logged::Submitted(submitted)) => {
                let restored = submitted.restored.iter();
                log.notable
                    .extend(restored.map(|restored| restored.checkpoint_id));
            }
            Some(Logged::OperationDone(done)) => {
                if done.kind() == Kind::Stop && done.failure.is_none() {
                    log.result = true;
                    log.over = true;
                }
                log.operations.insert(done.operation_id);
                return Some(Step::OperationLogged);
            }
            Some(Logged::Result(_)) => {
                log.result = true;
                // Behind its end nothing is needed.
                log.over = true;
                return Some(Step::ResultLogged);
            }
            Some(Logged::CheckpointDiscarded(discarded)) => {
                log.notable.remove(&discarded.checkpoint_id);
                log.discarded.insert(discarded.checkpoint_id);
            }
            _ => {}
        }
        None
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
        let log = self.jobs.get(job);
        newest.is_some_and(|newest| {
            let stop = log.and_then(|log| log.stops.get(&newest));
            stop.is_some_and(|(stop, _)| stop == folder) || folder.ends_with(&format!("/chk-{newest}"))
        })
    }
}

fn files_of(folder: &str, metadata: &SnapshotMetadata) -> BTreeSet<String> {
    let base = match folder.rsplit_once('/') {
        Some((base, _)) if !metadata.savepoint => base,
        _ => folder,
    };
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
