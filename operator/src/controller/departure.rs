//! A job is stopped with a savepoint before its resource goes, if its configuration asks for it.
//!
//! ```text
//!   status of the resource --before_deletion--> intent to status --> TriggerSavepoint (stop) --> FlinkStateSnapshot, event
//! ```
//! Invariants: as of `plan::deletion`; the path is in status, and in a FlinkStateSnapshot of its own, before anything is deleted.

use std::time::Duration;

use kube::runtime::events::{Event, EventType};
use thalweg_crds::{JobState, JobStatus, PendingSnapshot, RecoveryStatus, SnapshotTriggerType, SnapshotType};
use thalweg_proto::cluster::v1::TriggerSavepointRequest;
use thalweg_proto::control::v1::FailureClass;

use super::ReconcileError;
use super::requests::{JobRecord, create_recorded};
use super::resource::{CustomResource, write_status};
use crate::build::SnapshotOf;
use crate::cluster::Job;
use crate::context::Context;
use crate::events::event;
use crate::plan::deletion::{Deleted, DeletionStep, before_deletion, next_id};

/// Between two looks at a stop whose end wasn't pushed.
const RECHECK: Duration = Duration::from_secs(2);
/// Before another attempt.
const RETRY: Duration = Duration::from_secs(10);

/// Whether the resource may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Departure {
    Go,
    Wait(Duration),
}

/// What is known of the job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leaving<'a> {
    pub(crate) of: SnapshotOf<'a>,
    pub(crate) job: &'a Job,
    pub(crate) facts: Deleted<'a>,
    /// Of the JobManager.
    pub(crate) address: &'a str,
}

/// Whether a job runs, as far as a status says.
pub(crate) fn is_active(
    operation_id: Option<&str>,
    recovery: &RecoveryStatus,
    job: Option<&JobStatus>,
) -> bool {
    let ended = job.and_then(|job| job.state).is_some_and(JobState::is_terminal);
    operation_id.is_some() && recovery.job_started == Some(true) && !ended
}

/// Takes the next step; `facts.recovery` and `facts.upgrade_path` are those of `status`.
pub(crate) async fn depart<K: CustomResource, S: JobRecord>(
    context: &Context,
    resource: &K,
    status: &S,
    leaving: &Leaving<'_>,
) -> Result<Departure, ReconcileError> {
    let shell = Shell {
        context,
        resource,
        leaving,
    };
    let mut after = status.clone();
    // Recorded by a pass that ended before it was created.
    shell.create(&mut after).await?;
    match before_deletion(&leaving.facts) {
        DeletionStep::Go => Ok(Departure::Go),
        DeletionStep::Wait => Ok(Departure::Wait(RECHECK)),
        DeletionStep::Trigger { operation_id, job_id } => {
            shell.trigger(status, after, operation_id, job_id).await
        }
        DeletionStep::Failed { next_id, reason } => shell.failed(after, next_id, &reason).await,
        DeletionStep::GivenUp { reason } => {
            after
                .recovery_mut()
                .savepoint_operation_id
                .get_or_insert_with(|| next_id(leaving.facts.uid, ""));
            after.recovery_mut().savepoint_failure = Some(reason.clone());
            write_status(&context.client, resource, &after).await?;
            let note = format!("{reason}; the resource is deleted without a savepoint");
            shell.publish(EventType::Warning, "SavepointError", &note).await;
            Ok(Departure::Go)
        }
        DeletionStep::Done { path } => {
            let recovery = after.recovery_mut();
            recovery.savepoint_operation_id = None;
            recovery.savepoint_failure = None;
            after.job_mut().get_or_insert_default().upgrade_savepoint_path = Some(path.clone());
            let name = format!(
                "{}-savepoint-upgrade-{}",
                leaving.of.name,
                context.now().as_millisecond()
            );
            after
                .snapshots_mut()
                .get_or_insert_default()
                .pending
                .push(PendingSnapshot {
                    name,
                    snapshot_type: SnapshotType::Savepoint,
                    trigger_type: SnapshotTriggerType::Upgrade,
                    trigger_nonce: None,
                    path: Some(path.clone()),
                });
            write_status(&context.client, resource, &after).await?;
            let note = format!("the job has stopped with the savepoint {path}");
            shell
                .publish(EventType::Normal, "SavepointCompleted", &note)
                .await;
            shell.create(&mut after).await?;
            Ok(Departure::Go)
        }
    }
}

struct Shell<'a, K> {
    context: &'a Context,
    resource: &'a K,
    leaving: &'a Leaving<'a>,
}

impl<K: CustomResource> Shell<'_, K> {
    async fn publish(&self, type_: EventType, reason: &str, note: &str) {
        let events: Vec<Event> = vec![event(type_, reason, "Delete", note)];
        self.context.publish(events, &self.resource.object_ref(&())).await;
    }

    async fn create<S: JobRecord>(&self, status: &mut S) -> Result<(), ReconcileError> {
        let (of, job) = (&self.leaving.of, self.leaving.job);
        create_recorded(self.context, self.resource, of, job, status).await
    }

    async fn trigger<S: JobRecord>(
        &self,
        before: &S,
        mut after: S,
        operation_id: String,
        job_id: String,
    ) -> Result<Departure, ReconcileError> {
        after.recovery_mut().savepoint_operation_id = Some(operation_id.clone());
        after.recovery_mut().savepoint_failure = None;
        if after.recovery() != before.recovery() {
            write_status(&self.context.client, self.resource, &after).await?;
            let note = format!("the job is to stop with savepoint {operation_id}");
            self.publish(EventType::Normal, "SavepointTriggered", &note).await;
        }
        let request = TriggerSavepointRequest {
            job_id,
            operation_id: operation_id.clone(),
            target_directory: String::new(),
            stop: true,
            drain: self.leaving.job.policy.drain_on_deletion,
        };
        let answer = self
            .context
            .jobs
            .trigger_savepoint(self.leaving.address, request)
            .await;
        match answer {
            Ok(answer) => match answer.failure {
                Some(failure) if failure.class() != FailureClass::Retryable => {
                    let next = next_id(self.leaving.facts.uid, &operation_id);
                    self.failed(after, next, &failure.message).await
                }
                _ => Ok(Departure::Wait(RECHECK)),
            },
            Err(error) => {
                tracing::warn!(%error, operation_id, "the job can't be asked to stop yet");
                Ok(Departure::Wait(RECHECK))
            }
        }
    }

    async fn failed<S: JobRecord>(
        &self,
        mut after: S,
        next_id: String,
        reason: &str,
    ) -> Result<Departure, ReconcileError> {
        after.recovery_mut().savepoint_operation_id = Some(next_id);
        write_status(&self.context.client, self.resource, &after).await?;
        let note = format!(
            "the job could not be stopped with a savepoint, it is tried again for {} s in all: {reason}",
            self.leaving.job.policy.cleanup_timeout.as_secs()
        );
        self.publish(EventType::Warning, "SavepointError", &note).await;
        Ok(Departure::Wait(RETRY))
    }
}
