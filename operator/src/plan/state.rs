//! What becomes of a job's state between two starts: a pure decision.
//!
//! ```text
//!   spec as it runs                                   --> Current  the recorded restore stays
//!   spec changed, suspended, or a stop is under way:
//!     savepoint   RUNNING   --> Hold: Trigger, UnderWay --> Next: the savepoint
//!                             `--> Hold: Failed         the old job stays until the spec changes again
//!                 otherwise --> Next: as last-state
//!     last-state            --> Next: the folder of its checkpoints, else what it started from itself
//!     stateless             --> Next: nothing
//!     another savepointRedeployNonce --> Next: initialSavepointPath, whatever the mode; no stop
//! ```
//! Invariants: a stop has one id, written to status before it is asked for, and is waited for whatever the spec says
//! meanwhile; what the next start takes is in status before the old JobManager goes; a restore that was recorded for a start
//! is that start's, however often it is decided.

#[cfg(test)]
mod tests;

use thalweg_crds::{
    ClaimMode, ClusterStatus, JobState, JobStatus, RecoveryStatus, SessionJobStatus, UpgradeMode,
};
use thalweg_proto::cluster::v1::{
    CheckpointStatus as PushedCheckpoints, ClusterSnapshot, JobStatus as PushedJob,
};

use super::session_job::Wanted;
use super::{application_failed, is_terminal, job_of};
use crate::cluster::{Cluster, Job};
use crate::observe::Facts;

/// A snapshot that a start takes its state from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RestoreSource {
    pub(crate) path: String,
    pub(crate) claim_mode: ClaimMode,
}

impl RestoreSource {
    fn savepoint(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            claim_mode: ClaimMode::NoClaim,
        }
    }

    /// A job's folder: the JobManager takes the newest complete checkpoint in it, also one that nobody told us of.
    fn checkpoints(folder: &str) -> Self {
        Self {
            path: folder.to_owned(),
            claim_mode: ClaimMode::Claim,
        }
    }
}

/// `<execution.checkpointing.dir>/<job id>` and the job id of a checkpoint's path; none: it is no checkpoint of a job's own.
fn job_folder(checkpoint: &str) -> Option<(&str, &str)> {
    let (folder, name) = checkpoint.trim_end_matches('/').rsplit_once('/')?;
    let (_, job_id) = folder.rsplit_once('/')?;
    name.starts_with("chk-").then_some((folder, job_id))
}

/// The newest checkpoint that a job itself has taken: until its first one, its JobManager tells what it started from.
pub(crate) fn own_checkpoint(job: &PushedJob) -> Option<&PushedCheckpoints> {
    let pushed = job.checkpoints.as_ref()?;
    let (_, job_id) = job_folder(&pushed.latest_path)?;
    (job_id == job.job_id).then_some(pushed)
}

/// Why the old job stays for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hold {
    /// It is to be asked to stop with a savepoint.
    Trigger { operation_id: String, job_id: String },
    /// It is about to.
    UnderWay { operation_id: String },
    /// It can't; it is tried again for another generation of the spec.
    Failed { operation_id: String, reason: String },
    /// Its JobManager, which alone knows, doesn't answer.
    Unanswered { operation_id: Option<String> },
}

impl Hold {
    pub(crate) fn operation_id(&self) -> Option<&str> {
        match self {
            Self::Trigger { operation_id, .. }
            | Self::UnderWay { operation_id }
            | Self::Failed { operation_id, .. } => Some(operation_id),
            Self::Unanswered { operation_id } => operation_id.as_deref(),
        }
    }

    pub(crate) fn failure(&self) -> Option<&str> {
        match self {
            Self::Failed { reason, .. } => Some(reason),
            _ => None,
        }
    }
}

/// How the state gets from one start to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Transition {
    /// The start that runs, or is recorded, is the wanted one.
    Current { restore: Option<RestoreSource> },
    /// The old job stays.
    Hold(Hold),
    /// Nothing runs, or what runs may go; the next start takes this.
    Next {
        source: Option<RestoreSource>,
        /// Why it isn't what the upgrade mode says, or that there is nothing.
        note: Option<String>,
    },
}

/// The state's part of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StatePlan {
    /// What the start of the plan's operation restores from.
    pub(crate) restore: Option<RestoreSource>,
    /// What a later start will restore from.
    pub(crate) upgrade: Option<RestoreSource>,
    pub(crate) hold: Option<Hold>,
    pub(crate) note: Option<String>,
    /// The redeploy nonce that a new start acts on.
    pub(crate) redeploy_nonce: Option<i64>,
}

impl StatePlan {
    /// As status records it; `started`: a job was seen.
    pub(crate) fn recovery(&self, previous: &RecoveryStatus, started: bool) -> RecoveryStatus {
        RecoveryStatus {
            restore_path: self.restore.as_ref().map(|source| source.path.clone()),
            restore_claim_mode: self.restore.as_ref().map(|source| source.claim_mode),
            upgrade_claim_mode: self.upgrade.as_ref().map(|source| source.claim_mode),
            savepoint_operation_id: self.hold.as_ref().and_then(Hold::operation_id).map(str::to_owned),
            savepoint_failure: self.hold.as_ref().and_then(Hold::failure).map(str::to_owned),
            job_started: if started { Some(true) } else { previous.job_started },
            savepoint_redeploy_nonce: self.redeploy_nonce.or(previous.savepoint_redeploy_nonce),
        }
    }
}

/// What the recorded start restores from.
pub(crate) fn recorded_restore(recovery: &RecoveryStatus) -> Option<RestoreSource> {
    Some(RestoreSource {
        path: recovery.restore_path.clone()?,
        claim_mode: recovery.restore_claim_mode.unwrap_or(ClaimMode::NoClaim),
    })
}

/// The stop that status tells of.
pub(crate) fn recorded_hold(recovery: &RecoveryStatus) -> Option<Hold> {
    let operation_id = recovery.savepoint_operation_id.clone()?;
    Some(match recovery.savepoint_failure.clone() {
        Some(reason) => Hold::Failed { operation_id, reason },
        None => Hold::UnderWay { operation_id },
    })
}

/// What a stop left for the next start.
pub(crate) fn recorded_upgrade(recovery: &RecoveryStatus, job: Option<&JobStatus>) -> Option<RestoreSource> {
    Some(RestoreSource {
        path: job?.upgrade_savepoint_path.clone()?,
        claim_mode: recovery.upgrade_claim_mode.unwrap_or(ClaimMode::NoClaim),
    })
}

/// What a start under this spec takes of what the old job left.
pub(crate) fn taken(
    job: &Job,
    recovery: &RecoveryStatus,
    source: Option<RestoreSource>,
) -> Option<RestoreSource> {
    if redeploys(job, recovery) {
        return job
            .initial_savepoint_path
            .as_deref()
            .map(RestoreSource::savepoint);
    }
    source
        .filter(|_| job.upgrade_mode != UpgradeMode::Stateless)
        .or_else(|| initial(job, recovery))
}

/// Whether the job is to drop its state and start anew from `initialSavepointPath`.
fn redeploys(job: &Job, recovery: &RecoveryStatus) -> bool {
    let nonce = job.savepoint_redeploy_nonce;
    nonce.is_some() && nonce != recovery.savepoint_redeploy_nonce
}

fn redeployment(job: &Job) -> String {
    let path = job.initial_savepoint_path.as_deref().unwrap_or_default();
    format!("{path} (spec.job.savepointRedeployNonce: what state the job had is dropped)")
}

/// `initialSavepointPath` until a job has started.
fn initial(job: &Job, recovery: &RecoveryStatus) -> Option<RestoreSource> {
    let path = job.initial_savepoint_path.as_deref()?;
    (recovery.job_started != Some(true)).then(|| RestoreSource::savepoint(path))
}

/// Decides for a job in a session whose JobManager answers; `current`: what was submitted is what is wanted.
pub(super) fn decide_in_session(
    wanted: &Wanted<'_>,
    status: &SessionJobStatus,
    pushed: Option<&PushedJob>,
    current: bool,
) -> Transition {
    let recovery = &status.recovery;
    if let Some(source) = recorded_upgrade(recovery, status.job_status.as_ref()) {
        return Transition::Next {
            source: Some(source),
            note: None,
        };
    }
    let old = OldJob {
        spec: wanted.job,
        stop_id: format!("{}-{}-stop", wanted.uid, wanted.generation),
        recovery,
        recorded: status.job_status.as_ref(),
        pushed,
        job_manager: JobManagerVoice::Answers,
    };
    if !wanted.job.suspended && current {
        return old.unwanted_stop().unwrap_or_else(|| Transition::Current {
            restore: if pushed.is_none() && wanted.job.upgrade_mode != UpgradeMode::Stateless {
                old.newest()
            } else {
                recorded_restore(recovery)
            },
        });
    }
    let dropped = !wanted.job.suspended && redeploys(wanted.job, recovery);
    if status.operation_id.is_none() || dropped {
        return Transition::Next {
            source: None,
            note: (dropped && status.operation_id.is_some()).then(|| redeployment(wanted.job)),
        };
    }
    old.leave()
}

/// Decides for an application; `hash` is its JobManager's.
pub(super) fn decide(
    cluster: &Cluster,
    status: &ClusterStatus,
    facts: &Facts,
    snapshot: Option<&ClusterSnapshot>,
    hash: &str,
) -> Transition {
    let recovery = &status.recovery;
    let Some(job) = cluster.job.as_ref() else {
        return Transition::Current { restore: None };
    };
    if let Some(source) = recorded_upgrade(recovery, status.job_status.as_ref()) {
        return Transition::Next {
            source: Some(source),
            note: None,
        };
    }
    let deployed = facts
        .deployment
        .as_ref()
        .filter(|deployment| !deployment.deleting);
    let operation_id = deployed
        .and_then(|deployment| deployment.operation_id.as_deref())
        .or(status.operation_id.as_deref());
    let recorded = status.operation_id.is_some() && status.job_manager_hash.as_deref() == Some(hash);
    let old = OldJob {
        spec: job,
        stop_id: format!("{}-{}-stop", cluster.uid, cluster.generation),
        recovery,
        recorded: status
            .job_status
            .as_ref()
            .filter(|_| status.operation_id.as_deref() == operation_id),
        pushed: job_of(snapshot, operation_id),
        job_manager: job_manager(facts, snapshot),
    };
    if !job.suspended && (recorded || deployed.is_some_and(|deployment| deployment.hash == hash)) {
        let settled = old
            .unwanted_stop()
            .or_else(|| old.fell_back(deployed.is_some(), snapshot));
        return settled.unwrap_or_else(|| Transition::Current {
            restore: if facts.deployment.is_none() && recorded && job.upgrade_mode != UpgradeMode::Stateless {
                old.newest()
            } else {
                recorded_restore(recovery)
            },
        });
    }
    let dropped = !job.suspended && redeploys(job, recovery);
    if operation_id.is_none() && deployed.is_none() || dropped {
        let started = operation_id.is_some() || deployed.is_some();
        return Transition::Next {
            source: None,
            note: (dropped && started).then(|| redeployment(job)),
        };
    }
    old.leave()
}

/// How much a JobManager can tell of its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobManagerVoice {
    Answers,
    /// It runs and has not answered.
    Silent,
    /// It doesn't run: its job doesn't either.
    Gone,
}

/// How much it can tell.
pub(crate) fn job_manager(facts: &Facts, snapshot: Option<&ClusterSnapshot>) -> JobManagerVoice {
    let pod = facts.current_job_manager();
    match snapshot {
        Some(_) => JobManagerVoice::Answers,
        None if pod.is_some_and(|pod| pod.running && pod.problem.is_none()) => JobManagerVoice::Silent,
        None => JobManagerVoice::Gone,
    }
}

/// A job that another start is to follow.
#[derive(Debug, Clone)]
pub(crate) struct OldJob<'a> {
    /// As it is wanted now.
    pub(crate) spec: &'a Job,
    /// The id of a stop that is begun for this generation.
    pub(crate) stop_id: String,
    pub(crate) recovery: &'a RecoveryStatus,
    /// What status says of this very job.
    pub(crate) recorded: Option<&'a JobStatus>,
    pub(crate) pushed: Option<&'a PushedJob>,
    pub(crate) job_manager: JobManagerVoice,
}

/// How a stop went.
enum Stop {
    UnderWay,
    Done(RestoreSource),
    Failed(String),
}

impl OldJob<'_> {
    /// The stop that was asked for and has no recorded end.
    fn in_flight(&self) -> Option<&str> {
        let recovery = self.recovery;
        recovery
            .savepoint_operation_id
            .as_deref()
            .filter(|_| recovery.savepoint_failure.is_none())
    }

    /// A stop as the JobManager tells it; a job that ended behind a savepoint has left it, whoever asked for it.
    fn stop(&self, operation_id: &str) -> Option<Stop> {
        let job = self.pushed?;
        let asked = job.savepoints.iter().find(|one| one.operation_id == operation_id);
        if let Some(savepoint) = asked {
            return Some(match &savepoint.failure {
                _ if savepoint.ended_ms == 0 => Stop::UnderWay,
                Some(failure) => Stop::Failed(failure.message.clone()),
                None => Stop::Done(RestoreSource::savepoint(&savepoint.path)),
            });
        }
        let mut stops = job.savepoints.iter().filter(|one| one.stops_job);
        let done = stops.find(|one| one.ended_ms > 0 && one.failure.is_none())?;
        is_terminal(job).then(|| Stop::Done(RestoreSource::savepoint(&done.path)))
    }

    /// A stop that can't be taken back though the spec no longer asks for it.
    pub(crate) fn unwanted_stop(&self) -> Option<Transition> {
        let id = self.in_flight()?;
        match self.stop(id) {
            Some(Stop::UnderWay) => Some(Transition::Hold(Hold::UnderWay {
                operation_id: id.into(),
            })),
            Some(Stop::Done(source)) => Some(Transition::Next {
                source: Some(source),
                note: None,
            }),
            None if self.job_manager == JobManagerVoice::Silent => Some(Transition::Hold(Hold::Unanswered {
                operation_id: Some(id.into()),
            })),
            Some(Stop::Failed(_)) | None => None,
        }
    }

    /// A JobManager that came back without its memory starts its job from what the first start restored from, or can't
    /// since that is gone: the job goes on from the checkpoint that is recorded.
    fn fell_back(&self, deployed: bool, snapshot: Option<&ClusterSnapshot>) -> Option<Transition> {
        let before = self.recorded?;
        let recorded = before.checkpoint.as_ref()?;
        let (folder, job_id) = job_folder(&recorded.path)?;
        let source = RestoreSource::checkpoints(folder);
        let fell_back = match self.pushed {
            Some(job) => job.job_id != job_id && !is_terminal(job) && own_checkpoint(job).is_none(),
            None => application_failed(snapshot),
        };
        let keeps = self.spec.upgrade_mode != UpgradeMode::Stateless;
        let ended = before.state.is_some_and(JobState::is_terminal);
        if !(deployed && keeps && fell_back)
            || ended
            || recorded_restore(self.recovery).as_ref() == Some(&source)
        {
            return None;
        }
        Some(Transition::Next {
            note: Some(format!("{folder} (the JobManager was lost)")),
            source: Some(source),
        })
    }

    /// How its state gets to the next start.
    pub(crate) fn leave(&self) -> Transition {
        let mode = self.spec.upgrade_mode;
        let answers = self.job_manager == JobManagerVoice::Answers;
        let nothing = Transition::Next {
            source: None,
            note: None,
        };
        if mode == UpgradeMode::Stateless && (self.in_flight().is_none() || !answers) {
            return nothing;
        }
        if self.job_manager == JobManagerVoice::Silent
            && !(mode == UpgradeMode::LastState && self.checkpoints().is_some())
        {
            return Transition::Hold(Hold::Unanswered {
                operation_id: self.in_flight().map(str::to_owned),
            });
        }
        let mut id = self.in_flight().unwrap_or(&self.stop_id).to_owned();
        match self.stop(&id) {
            Some(Stop::UnderWay) => return Transition::Hold(Hold::UnderWay { operation_id: id }),
            Some(Stop::Done(source)) => {
                return Transition::Next {
                    source: Some(source),
                    note: None,
                };
            }
            Some(Stop::Failed(reason)) if mode == UpgradeMode::Savepoint && id == self.stop_id => {
                return Transition::Hold(Hold::Failed {
                    operation_id: id,
                    reason,
                });
            }
            // Of another generation, or no longer wanted.
            Some(Stop::Failed(_)) => id.clone_from(&self.stop_id),
            None => {}
        }
        match mode {
            UpgradeMode::Stateless => nothing,
            UpgradeMode::Savepoint => self.savepoint(id),
            UpgradeMode::LastState => self.last_state(None),
        }
    }

    fn savepoint(&self, operation_id: String) -> Transition {
        let same = self.recovery.savepoint_operation_id.as_ref() == Some(&operation_id);
        if let Some(reason) = self.recovery.savepoint_failure.clone().filter(|_| same) {
            return Transition::Hold(Hold::Failed { operation_id, reason });
        }
        let state = self.pushed.map(|job| job.state.as_str());
        match self.pushed {
            Some(job) if state == Some(JobState::Running.as_str()) => Transition::Hold(Hold::Trigger {
                operation_id,
                job_id: job.job_id.clone(),
            }),
            _ => {
                let state = state.unwrap_or("not there");
                self.last_state(Some(format!("no savepoint can be taken, the job is {state}")))
            }
        }
    }

    /// From its newest checkpoint; a job that has finished by itself has none to go on from.
    fn last_state(&self, why: Option<String>) -> Transition {
        let state = self
            .pushed
            .and_then(|job| JobState::parse(&job.state))
            .or_else(|| self.recorded.and_then(|job| job.state));
        // One that finished by a stop of ours whose savepoint nobody knows any more has not finished by itself.
        if state == Some(JobState::Finished) && self.in_flight().is_none() {
            return Transition::Next {
                source: None,
                note: Some("nothing: the job had FINISHED, it begins anew".into()),
            };
        }
        let source = self.newest();
        let found = match &source {
            Some(source) => source.path.clone(),
            None => "nothing: there is no checkpoint, and the job started without state".into(),
        };
        let note = match why {
            Some(why) => Some(format!("{found} ({why})")),
            None => source.is_none().then_some(found),
        };
        Transition::Next { source, note }
    }

    /// The folder of its newest checkpoint.
    fn checkpoints(&self) -> Option<&str> {
        let pushed = self.pushed.and_then(own_checkpoint);
        let recorded = self.recorded.and_then(|job| job.checkpoint.as_ref());
        let path = match pushed {
            Some(pushed) => &pushed.latest_path,
            None => &recorded?.path,
        };
        job_folder(path).map(|(folder, _)| folder)
    }

    /// Its newest checkpoint; before its first one its state is what it started from, as at a restart of its own.
    fn newest(&self) -> Option<RestoreSource> {
        self.checkpoints()
            .map(RestoreSource::checkpoints)
            .or_else(|| initial(self.spec, self.recovery).filter(|_| self.pushed.is_none()))
            .or_else(|| recorded_restore(self.recovery))
    }
}
