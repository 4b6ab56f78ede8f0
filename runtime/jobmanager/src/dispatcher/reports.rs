//! Workers that TaskManagers brought along when they registered: each job is asked about its own, those of no job are stopped.
//!
//! While jobs are being recovered, nobody knows whose workers will be missed: they wait, in slots that are their jobs'.

use thalweg_proto::control::v1::{
    ExecutionAttempt, RunningWorker, StopWorker, job_manager_command::Command, task_manager_message::Message,
};
use thalweg_types::{Failure, FailureClass, JobId, TaskManagerId};

use super::{Dispatcher, Effect, Submission, Timer};
use crate::job_master::{Dispensable, JobMaster, JobTimer, LOOK_AGAIN_MS, Recovered};
use crate::resource_manager::SlotId;

impl Dispatcher {
    /// Hands reports to the jobs that are there. After each registration, and after each recovered job.
    pub(super) fn settle_reports(&mut self, now_ms: u64) {
        for job in self.resources.reported_jobs() {
            let is_there = self.jobs.get(&job).map(|master| !master.is_ended());
            if is_there.is_none() && self.recovering {
                continue;
            }
            for (task_manager, worker) in self.resources.take_reported(job) {
                if is_there == Some(true) {
                    self.with_job(job, now_ms, |master, now_ms| {
                        master.worker_reported(&task_manager, &worker, now_ms)
                    });
                } else {
                    self.stop_reported(job, &task_manager, &worker);
                }
            }
        }
    }

    /// What a TaskManager says of a worker whose report nobody has taken yet belongs to that report; whether it does.
    pub(super) fn note_in_report(&mut self, from: &TaskManagerId, news: &Message) -> bool {
        let job = match news {
            Message::WorkerReady(ready) => &ready.job_id,
            Message::WorkerFailed(failed) => &failed.job_id,
            Message::TaskState(update) => job_of(update.execution.as_ref()),
            Message::AcknowledgeCheckpoint(acknowledge) => job_of(acknowledge.execution.as_ref()),
            _ => return false,
        };
        let job = job.parse().ok();
        let Some(report) = job.and_then(|job| self.resources.reported_mut(job, from)) else {
            return false;
        };
        amend(report, news);
        true
    }

    /// Takes over a job that an earlier leader led and that may still run.
    pub(crate) fn recover_job(
        &mut self,
        submission: Submission,
        recovered: Recovered,
        now_ms: u64,
    ) -> Result<JobId, Failure> {
        let (job, operation_id) = (submission.job_id, submission.operation_id.clone());
        if self.jobs.contains_key(&job) {
            let message = format!("there is a job {job} already");
            return Err(Failure::new(FailureClass::Fatal, message));
        }
        let (master, actions) =
            JobMaster::recover(submission, recovered, &self.settings, self.epoch, now_ms)?;
        tracing::info!(%job, name = master.name(), "job recovered: its tasks are waited for");
        self.jobs.insert(job, master);
        self.remember(operation_id, job);
        self.changed = true;
        self.carry_out(job, actions, now_ms);
        self.settle_reports(now_ms);
        self.grant(now_ms);
        Ok(job)
    }

    /// Jobs of the log are still to be recovered: workers of jobs that are not there wait.
    pub(crate) fn recovery_begins(&mut self) {
        self.recovering = true;
    }

    /// Every job that is to be recovered is there: workers of others have nobody.
    pub(crate) fn recovery_done(&mut self, now_ms: u64) {
        self.recovering = false;
        self.settle_reports(now_ms);
        self.grant(now_ms);
    }

    /// A job that is reconciled need not wait for what nobody reports if there is room for it, or if it has to start again anyway.
    pub(super) fn look_for_missing(&mut self, job: JobId, now_ms: u64) {
        let dispensable = self.jobs.get(&job).map(|master| master.dispensable(now_ms));
        match dispensable {
            None | Some(Dispensable::Nothing) => {}
            Some(Dispensable::WithSlots(slots)) if self.resources.pool.free() >= slots => {
                self.with_job(job, now_ms, JobMaster::give_up_missing);
            }
            Some(Dispensable::WithSlots(_) | Dispensable::NotYet) => self
                .timers
                .set(now_ms + LOOK_AGAIN_MS, Timer::Job(job, JobTimer::Missing)),
        }
    }

    fn stop_reported(&mut self, job: JobId, task_manager: &TaskManagerId, worker: &RunningWorker) {
        let slot = |index: &u32| SlotId {
            task_manager: task_manager.clone(),
            index: *index,
        };
        let slots: Vec<SlotId> = worker.slots.iter().map(slot).collect();
        self.resources.pool.release_slots(job, &slots);
        if let Some(at) = self.resources.registry.get(task_manager) {
            tracing::info!(%job, %task_manager, "a worker of a job that is not known here is stopped");
            let stop = StopWorker {
                job_id: job.to_string(),
                worker_generation: u64::MAX,
            };
            let stop = Box::new(Command::StopWorker(stop));
            self.effects.push(Effect::Send(at.connection, stop));
        }
    }
}

fn job_of(execution: Option<&ExecutionAttempt>) -> &str {
    execution.map_or("", |execution| &execution.job_id)
}

/// Brings a report up to date.
fn amend(report: &mut RunningWorker, news: &Message) {
    match news {
        Message::WorkerReady(ready) if ready.worker_generation == report.worker_generation => {
            report.data_address.clone_from(&ready.data_address);
        }
        // Its tasks are over.
        Message::WorkerFailed(failed) if failed.worker_generation == report.worker_generation => {
            report.data_address.clear();
        }
        Message::TaskState(update) => {
            let known = report.tasks.iter_mut();
            if let Some(known) = known
                .into_iter()
                .find(|known| known.execution == update.execution)
            {
                known.clone_from(update);
            }
        }
        Message::AcknowledgeCheckpoint(acknowledge) => {
            let id = acknowledge.checkpoint_id;
            report.newest_checkpoint_id = report.newest_checkpoint_id.max(id);
            let tasks = report.tasks.iter().zip(&mut report.running);
            for (_, running) in tasks.filter(|(task, _)| task.execution == acknowledge.execution) {
                running.checkpoint_id = running.checkpoint_id.max(id);
            }
        }
        _ => {}
    }
}
