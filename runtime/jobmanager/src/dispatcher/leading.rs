//! From standby to leader: the jobs of the high-availability log come in one by one.
//!
//! ```text
//!   standby() --lead(epoch)--> recovered(job) .. recovered(job) --all_recovered--> as any Dispatcher
//! ```

use std::sync::Arc;

use thalweg_types::JobId;

use super::{Dispatcher, Leading};
use crate::config::Settings;
use crate::high_availability::RecoveredJob;
use crate::job_master::{JobMaster, JobOver};

impl Dispatcher {
    /// One that decides nothing until [`Dispatcher::lead`].
    pub(crate) fn standby(settings: Arc<Settings>, now_ms: u64) -> Self {
        Self {
            leading: Leading::Standby,
            ..Self::new(0, settings, now_ms)
        }
    }

    /// It leads from now on; the jobs of the log are still to come.
    pub(crate) fn lead(&mut self, epoch: u64) {
        self.epoch = epoch;
        self.leading = Leading::Durably;
        self.changed = true;
        self.recovery_begins();
    }

    pub(crate) fn leading(&self) -> Leading {
        self.leading
    }

    /// A job of the log.
    pub(crate) fn recovered(&mut self, job: RecoveredJob, now_ms: u64) {
        match job {
            RecoveredJob::Unfinished {
                submission,
                recovered,
                cancel,
            } => {
                let job = submission.job_id;
                if let Err(failure) = self.recover_job(*submission, recovered, now_ms) {
                    tracing::error!(%job, reason = failure.message, "a job can't be recovered");
                    self.unreadable.insert(job, failure);
                } else if cancel {
                    self.cancel(job, now_ms);
                }
            }
            RecoveredJob::Ended {
                submission,
                state,
                failure,
                started_ms,
                ended_ms,
                logged,
            } => {
                let (job, operation_id) = (submission.job_id, submission.operation_id.clone());
                let end = JobOver {
                    state,
                    failure,
                    started_ms,
                    ended_ms,
                    logged,
                };
                match JobMaster::ended(*submission, end, &self.settings) {
                    Ok((master, deletions)) => {
                        self.jobs.insert(job, master);
                        self.remember(operation_id, job);
                        self.ended.push_back(job);
                        self.carry_out(job, deletions, now_ms);
                    }
                    Err(failure) => {
                        self.unreadable.insert(job, failure);
                    }
                }
            }
            RecoveredJob::Unreadable { job, failure } => {
                self.unreadable.insert(job, failure);
            }
        }
        self.changed = true;
    }

    /// All jobs of the log are here.
    pub(crate) fn all_recovered(&mut self, now_ms: u64) {
        let jobs = &self.jobs;
        let ended_ms = |job: &JobId| jobs.get(job).map_or(0, JobMaster::state_since_ms);
        self.ended.make_contiguous().sort_by_key(ended_ms);
        while self.ended.len() > self.settings.finished_jobs {
            self.forget_oldest();
        }
        self.recovery_done(now_ms);
    }
}
