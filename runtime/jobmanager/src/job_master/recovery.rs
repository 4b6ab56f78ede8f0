//! A job that an earlier JobManager led and whose tasks may still run.
//!
//! ```text
//!   job log --recover--> RECONCILING <--worker_reported-- TaskManagers that register
//!                            |---- all tasks known ----> RUNNING: their checkpoints go on
//!                            `---- time-out, missing --> what is missing restarts from the newest checkpoint
//! ```
//!
//! What fits and what does not is decided by the ExecutionGraph (`thalweg_graph::execution::reconcile`).

use std::sync::Arc;

use thalweg_graph::execution::{
    ExecutionGraph, Fact, JobStatus, Reconciliation, ReportedTask, ReportedWorker, TaskReport, TaskState,
    execution_id, failure_from_proto,
};
use thalweg_proto::control::v1::{RunningTask, RunningWorker, TaskStateUpdate};
use thalweg_types::{Failure, TaskManagerId};

use super::checkpoints::Checkpoints;
use super::{JobAction, JobMaster, JobTimer, patient};
use crate::config::Settings;
use crate::dispatcher::Submission;

/// TaskManagers that live on find a new leader in less.
const UNCLAIMED_AFTER_MS: u64 = 3_000;

/// What the job log knows beside the submission.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recovered {
    /// When the job was submitted first, in Unix milliseconds.
    pub(crate) started_ms: u64,
}

impl JobMaster {
    /// Takes over a job that may still run. Of the submission, `restored` is the newest completed checkpoint that the log knows, with
    /// those retained before it, and `earlier_checkpoint` the highest number that was used.
    pub(crate) fn recover(
        mut submission: Submission,
        recovered: Recovered,
        settings: &Arc<Settings>,
        now_ms: u64,
    ) -> Result<(Self, Vec<JobAction>), Failure> {
        let job_graph = patient(submission.job_graph.clone());
        let checkpoints = Checkpoints::behind_tasks(&mut submission)?;
        let known = Reconciliation {
            timeout_ms: settings.reconciliation_timeout.as_millis() as u64,
            newest_checkpoint: checkpoints.newest(),
            finished: checkpoints.finished(),
        };
        let graph = ExecutionGraph::reconciling(job_graph, known, now_ms);
        let (graph, timers) = graph.map_err(|error| Failure::from_error(&error))?;
        let mut master = Self::new(graph, checkpoints, submission, settings, recovered.started_ms);
        let mut actions = master.alignment.start();
        actions.extend(timers.into_iter().flat_map(|timer| master.translate(timer)));
        actions.push(JobAction::SetTimer(UNCLAIMED_AFTER_MS, JobTimer::Unclaimed));
        Ok((master, actions))
    }

    /// Whether nobody has reported any of it, and the slots that it would need then.
    pub(crate) fn unclaimed(&self) -> Option<u32> {
        self.graph.is_unclaimed().then(|| self.graph.slots_required())
    }

    /// There is room for it, and none of it runs.
    pub(crate) fn start_unclaimed(&mut self, now_ms: u64) -> Vec<JobAction> {
        self.apply(Fact::Unclaimed, now_ms)
    }

    /// A TaskManager that registered has a worker of this job.
    pub(crate) fn worker_reported(
        &mut self,
        task_manager: &TaskManagerId,
        running: RunningWorker,
        now_ms: u64,
    ) -> Vec<JobAction> {
        if self.graph.status() == JobStatus::Reconciling {
            self.workers.adopt(task_manager, &running);
        }
        self.checkpoints.note_reported(&running);
        let worker = ReportedWorker {
            generation: running.worker_generation,
            slots: running.slots,
            data_address: Some(running.data_address).filter(|address| !address.is_empty()),
            tasks: Vec::new(),
        };
        let tasks: Option<Vec<_>> = running.tasks.iter().zip(&running.running).map(reported).collect();
        let worker = match tasks {
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
        let actions = self.apply(fact, now_ms);
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
    })
}
