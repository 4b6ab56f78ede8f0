//! A job that an earlier JobManager led and whose tasks may still run.
//!
//! ```text
//!   job log --recover--> RECONCILING <--worker_reported-- TaskManagers that register
//!                            |---- all tasks known ----> RUNNING: their checkpoints go on
//!                            `---- time-out, missing --> what is missing restarts from the newest checkpoint
//! ```
//!
//! What fits and what does not is decided by the ExecutionGraph (`thalweg_graph::execution::reconcile`). How long is waited for what
//! is missing, TaskManagers that live on being quick to find a new leader:
//!
//! | a part of the job was lost with the leader, and | until |
//! |---|---|
//! | a task beside it has failed by that: it starts again anyway | 1 s |
//! | nobody runs any of it, and there is room for all of it | 3 s |
//! | there is room for what is missing | 5 s |
//! | else | `thalweg.jobmanager.reconciliation-timeout` |

use std::collections::BTreeMap;
use std::sync::Arc;

use thalweg_graph::execution::{
    ExecutionGraph, Fact, Reconciliation, ReportedTask, ReportedWorker, TaskReport, TaskState, execution_id,
    failure_from_proto,
};
use thalweg_proto::control::v1::{RunningTask, RunningWorker, TaskStateUpdate};
use thalweg_types::{Failure, TaskManagerId, VertexId};

use super::checkpoints::Checkpoints;
use super::{JobAction, JobMaster, JobTimer, patient};
use crate::config::Settings;
use crate::dispatcher::Submission;
use crate::package::Package;

/// See the module.
const RESTARTS_ANYWAY_MS: u64 = 1_000;
const UNCLAIMED_MS: u64 = 3_000;
const PART_MS: u64 = 5_000;
/// Between two looks at what is missing.
pub(crate) const LOOK_AGAIN_MS: u64 = 500;

/// What a job that is reconciled could go on without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dispensable {
    /// All is known, or it has ended.
    Nothing,
    /// It is too early to tell.
    NotYet,
    /// If so many slots are free.
    WithSlots(u32),
}

/// What the job log knows beside the submission.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recovered {
    /// When the job was submitted first, in Unix milliseconds.
    pub(crate) started_ms: u64,
    /// The savepoint that was to stop the job, if it was told that this failed.
    pub(crate) stop_given_up: Option<u64>,
    /// The newest attempts that were begun; see [`Reconciliation::begun`].
    pub(crate) begun: BTreeMap<(VertexId, u32), u32>,
}

impl JobMaster {
    /// Takes over a job that may still run. Of the submission, `restored` is the newest completed checkpoint that the log knows, with
    /// those retained before it, and `earlier_checkpoint` the highest number that was used.
    pub(crate) fn recover(
        mut submission: Submission,
        recovered: Recovered,
        settings: &Arc<Settings>,
        epoch: u64,
        now_ms: u64,
    ) -> Result<(Self, Vec<JobAction>), Failure> {
        let job_graph = patient(submission.job_graph.clone());
        let checkpoints = Checkpoints::behind_tasks(&mut submission)?;
        let known = Reconciliation {
            timeout_ms: settings.reconciliation_timeout.as_millis() as u64,
            newest_checkpoint: checkpoints.newest(),
            finished: checkpoints.finished(),
            begun: recovered.begun.clone(),
        };
        let graph = ExecutionGraph::reconciling(job_graph, known, now_ms);
        let (graph, timers) = graph.map_err(|error| Failure::from_error(&error))?;
        let mut master = Self::new(
            graph,
            checkpoints,
            submission,
            settings,
            epoch,
            recovered.started_ms,
        );
        master.recovered_ms = now_ms;
        master.stop_given_up = recovered.stop_given_up;
        master.begun = recovered.begun;
        let mut actions = master.alignment.start();
        actions.extend(timers.into_iter().flat_map(|timer| master.translate(timer)));
        actions.push(JobAction::SetTimer(LOOK_AGAIN_MS, JobTimer::Missing));
        Ok((master, actions))
    }

    /// Whether what nobody has reported could be started again by now.
    pub(crate) fn dispensable(&self, now_ms: u64) -> Dispensable {
        let Some(missing) = self.graph.missing() else {
            return Dispensable::Nothing;
        };
        let waited_ms = now_ms.saturating_sub(self.recovered_ms);
        let room_after_ms = if missing.is_part { PART_MS } else { UNCLAIMED_MS };
        if missing.restarts_anyway && waited_ms >= RESTARTS_ANYWAY_MS {
            Dispensable::WithSlots(0)
        } else if waited_ms >= room_after_ms {
            Dispensable::WithSlots(missing.slots)
        } else {
            Dispensable::NotYet
        }
    }

    /// What nobody has reported is started again.
    pub(crate) fn give_up_missing(&mut self, now_ms: u64) -> Vec<JobAction> {
        self.apply(Fact::MissingGivenUp, now_ms)
    }

    /// Its package is here: what waits for it is started.
    pub(crate) fn package_is_here(&mut self, package: Arc<Package>) -> Vec<JobAction> {
        if self.is_ended() {
            return Vec::new();
        }
        let starts = self.workers.package_is_here(package, self.graph.job_graph());
        let starts = starts.into_iter();
        starts
            .flat_map(|(at, generation, command)| self.start_of(at, generation, command))
            .collect()
    }

    /// This leader can't go on with it: what runs is stopped, and nothing is deleted or logged. A later one may do better.
    pub(crate) fn give_up(&mut self, failure: Failure, now_ms: u64) -> Vec<JobAction> {
        if self.is_ended() {
            return Vec::new();
        }
        let held = self.graph.held_slots().into_keys().collect::<Vec<_>>();
        let mut actions = Vec::new();
        for task_manager in held {
            let stop = self.workers.stop_generation(&task_manager, u64::MAX);
            actions.push(JobAction::Send(task_manager, stop));
        }
        self.given_up = Some(failure);
        actions.extend(self.apply(Fact::LeadershipLost, now_ms));
        actions
    }

    /// A TaskManager that registered has a worker of this job.
    pub(crate) fn worker_reported(
        &mut self,
        task_manager: &TaskManagerId,
        running: &RunningWorker,
        now_ms: u64,
    ) -> Vec<JobAction> {
        self.checkpoints.note_reported(running);
        let worker = ReportedWorker {
            generation: running.worker_generation,
            slots: running.slots.clone(),
            data_address: Some(running.data_address.clone()).filter(|address| !address.is_empty()),
            tasks: Vec::new(),
        };
        let tasks: Option<Vec<_>> = running.tasks.iter().zip(&running.running).map(reported).collect();
        let stops = running.stop_savepoint_id;
        let worker = match tasks {
            // Its tasks end behind that savepoint, and it was told that the job goes on.
            Some(_) if stops > 0 && self.stop_given_up == Some(stops) => ReportedWorker {
                data_address: None,
                ..worker
            },
            Some(tasks) => ReportedWorker { tasks, ..worker },
            None => {
                tracing::error!(job = %self.id(), %task_manager, "a malformed report of a worker: it is stopped");
                ReportedWorker {
                    data_address: None,
                    ..worker
                }
            }
        };
        let ended: Vec<_> = worker.tasks.iter().map(|task| task.report.execution).collect();
        for (task, update) in worker.tasks.iter().zip(&running.tasks) {
            if task.report.state == TaskState::Finished {
                let snapshot = update.final_snapshot.clone();
                self.checkpoints
                    .note_final_snapshot(task.report.execution, snapshot);
            }
        }
        let fact = Fact::WorkerReported {
            task_manager: task_manager.clone(),
            worker,
        };
        let actions = self.graph.apply(fact, now_ms, rand::random());
        // Before anything is started beside it; one that is sent away has no say.
        if self.graph.has_worker(task_manager, running.worker_generation) {
            self.workers.adopt(task_manager, running);
        }
        let actions = self.consequences_of(actions, now_ms);
        if self.graph.held_slots().contains_key(task_manager) {
            tracing::info!(job = %self.id(), %task_manager, "a worker that runs on is taken over");
        } else {
            tracing::warn!(job = %self.id(), %task_manager, "a worker that does not belong to what runs now is stopped");
        }
        for (execution, update) in ended.into_iter().zip(&running.tasks) {
            if let Some(metrics) = &update.metrics {
                self.note_metrics(execution, metrics);
            }
        }
        actions
    }
}

fn reported((update, task): (&TaskStateUpdate, &RunningTask)) -> Option<ReportedTask> {
    let report = TaskReport {
        execution: execution_id(update.execution.as_ref()?).ok()?,
        state: TaskState::from_proto(update.state())?,
        failure: update.failure.as_ref().map(failure_from_proto),
    };
    Some(ReportedTask {
        report,
        slot: task.slot,
        checkpoint: task.checkpoint_id,
        deployed_ms: task.deployed_ms,
    })
}
