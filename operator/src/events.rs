//! Kubernetes events: one for each transition and each new error. Which ones is a pure comparison of two statuses.

use kube::runtime::events::{Event, EventType};
use thalweg_crds::{
    ClusterStatus, JobState, LifecycleState, RecoveryStatus, SessionJobStatus, SnapshotState,
    StateSnapshotStatus,
};

/// Reason of the event that another JobManager leads.
pub(crate) const LEADER_CHANGED: &str = "LeaderChanged";

/// What of a status makes events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Visible<'a> {
    lifecycle: Option<LifecycleState>,
    job_state: Option<JobState>,
    restarts: i64,
    error: Option<&'a str>,
    /// Reason of the `Degraded` condition.
    error_reason: &'a str,
    last_failure: Option<&'a str>,
    operation_id: Option<&'a str>,
    /// The JobManager that leads, and its epoch.
    leader: Option<(&'a str, i64)>,
}

impl<'a> From<&'a ClusterStatus> for Visible<'a> {
    fn from(status: &'a ClusterStatus) -> Self {
        let job_manager = status.job_manager.as_ref();
        let visible = Self::new(
            status.lifecycle_state,
            status.job_status.as_ref(),
            status.error.as_deref(),
            &status.conditions,
        );
        Self {
            leader: job_manager.and_then(|found| Some((found.leader.as_deref()?, found.epoch?))),
            ..visible.operation(status.operation_id.as_deref())
        }
    }
}

impl<'a> From<&'a SessionJobStatus> for Visible<'a> {
    fn from(status: &'a SessionJobStatus) -> Self {
        Self::new(
            status.lifecycle_state,
            status.job_status.as_ref(),
            status.error.as_deref(),
            &status.conditions,
        )
        .operation(status.operation_id.as_deref())
    }
}

impl<'a> Visible<'a> {
    fn new(
        lifecycle: Option<LifecycleState>,
        job: Option<&'a thalweg_crds::JobStatus>,
        error: Option<&'a str>,
        conditions: &'a [k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition],
    ) -> Self {
        let degraded = conditions.iter().find(|condition| condition.type_ == "Degraded");
        Self {
            lifecycle,
            job_state: job.and_then(|job| job.state),
            restarts: job.and_then(|job| job.restarts).unwrap_or(0),
            error,
            error_reason: degraded.map_or("Error", |condition| condition.reason.as_str()),
            last_failure: job.and_then(|job| job.last_failure.as_deref()),
            operation_id: None,
            leader: None,
        }
    }

    fn operation(mut self, id: Option<&'a str>) -> Self {
        self.operation_id = id;
        self
    }
}

/// The events of a change.
pub(crate) fn transitions(before: Visible<'_>, after: Visible<'_>) -> Vec<Event> {
    let mut events = Vec::new();
    if after.operation_id.is_some() && before.operation_id != after.operation_id {
        let reason = if before.operation_id.is_some() {
            "SpecChanged"
        } else {
            "Submit"
        };
        events.push(event(
            EventType::Normal,
            reason,
            "Deploy",
            "starting the job as its spec says now",
        ));
    }
    if before.lifecycle != after.lifecycle
        && let Some(state) = after.lifecycle
    {
        let note = match before.lifecycle {
            Some(from) => format!(
                "lifecycle state changed from {} to {}",
                from.as_str(),
                state.as_str()
            ),
            None => format!("lifecycle state is {}", state.as_str()),
        };
        events.push(event(EventType::Normal, "LifecycleChanged", "Reconcile", note));
    }
    if before.job_state != after.job_state
        && let Some(state) = after.job_state
    {
        let note = match before.job_state {
            Some(from) => format!("job state changed from {from} to {state}"),
            None => format!("job state is {state}"),
        };
        events.push(event(EventType::Normal, "JobStatusChanged", "Reconcile", note));
    }
    let restarted = after.restarts > before.restarts && before.operation_id == after.operation_id;
    if restarted && after.error.is_none() {
        let cause = after.last_failure.unwrap_or("no cause is known");
        let note = format!("the job was restarted ({} times by now): {cause}", after.restarts);
        events.push(event(EventType::Warning, "JobRestarted", "Reconcile", note));
    }
    events.extend(leader_changed(before, after));
    if before.error != after.error
        && let Some(error) = after.error
    {
        events.push(event(EventType::Warning, after.error_reason, "Reconcile", error));
    }
    events
}

/// Another JobManager leads the same start, or the same pod's next process does.
fn leader_changed(before: Visible<'_>, after: Visible<'_>) -> Option<Event> {
    let ((from, _), (to, epoch)) = (before.leader?, after.leader?);
    if before.leader == after.leader || before.operation_id != after.operation_id {
        return None;
    }
    let note = match from == to {
        true => format!("JobManager {to} has started again and leads with epoch {epoch}"),
        false => format!("JobManager {to} leads now with epoch {epoch}, before it did {from}"),
    };
    Some(event(EventType::Normal, LEADER_CHANGED, "Lead", note))
}

/// What of a status makes events about the job's state.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Recovery<'a> {
    operation_id: Option<&'a str>,
    savepoint: Option<&'a str>,
    restore: Option<&'a str>,
    upgrade: Option<&'a str>,
}

impl<'a> Recovery<'a> {
    fn new(
        recovery: &'a RecoveryStatus,
        job: Option<&'a thalweg_crds::JobStatus>,
        operation_id: Option<&'a str>,
    ) -> Self {
        Self {
            operation_id,
            savepoint: recovery.savepoint_operation_id.as_deref(),
            restore: recovery.restore_path.as_deref(),
            upgrade: job.and_then(|job| job.upgrade_savepoint_path.as_deref()),
        }
    }
}

impl<'a> From<&'a ClusterStatus> for Recovery<'a> {
    fn from(status: &'a ClusterStatus) -> Self {
        Self::new(
            &status.recovery,
            status.job_status.as_ref(),
            status.operation_id.as_deref(),
        )
    }
}

impl<'a> From<&'a SessionJobStatus> for Recovery<'a> {
    fn from(status: &'a SessionJobStatus) -> Self {
        Self::new(
            &status.recovery,
            status.job_status.as_ref(),
            status.operation_id.as_deref(),
        )
    }
}

/// The events of a job's state on its way to the next start; a savepoint's failure is told by [`transitions`]. `note`: why
/// it is what it is, if that isn't what the upgrade mode says.
pub(crate) fn of_state(before: Recovery<'_>, after: Recovery<'_>, note: Option<&str>) -> Vec<Event> {
    let mut events = Vec::new();
    if before.savepoint != after.savepoint
        && let Some(id) = after.savepoint
    {
        let note = format!("the job is to stop with savepoint {id}");
        events.push(event(EventType::Normal, "SavepointTriggered", "Stop", note));
    }
    let left = after.upgrade.filter(|_| before.upgrade != after.upgrade);
    let restored = after
        .restore
        .filter(|_| before.operation_id != after.operation_id);
    if before.savepoint.is_some()
        && after.savepoint.is_none()
        && note.is_none()
        && let Some(path) = left.or(restored)
    {
        let note = format!("the job has stopped with the savepoint {path}");
        events.push(event(EventType::Normal, "SavepointCompleted", "Stop", note));
    }
    if let Some(note) = note {
        events.push(event(EventType::Warning, "RestoringFrom", "Restore", note));
    } else if let Some(path) = restored {
        events.push(event(EventType::Normal, "RestoringFrom", "Restore", path));
    }
    events
}

/// The events of a snapshot's way.
pub(crate) fn of_snapshot(before: &StateSnapshotStatus, after: &StateSnapshotStatus) -> Vec<Event> {
    let state = after.state.unwrap_or_default();
    let moved = before.state.unwrap_or_default() != state;
    let error = after.error.as_deref().unwrap_or_default();
    let (type_, reason, note) = match state {
        SnapshotState::InProgress if moved => {
            let id = after.trigger_id.as_deref().unwrap_or_default();
            (EventType::Normal, "SnapshotTriggered", format!("its id is {id}"))
        }
        SnapshotState::Completed if moved => {
            let path = after.path.as_deref().unwrap_or("not known any more");
            (EventType::Normal, "SnapshotCompleted", format!("it is at {path}"))
        }
        SnapshotState::Abandoned if moved => (EventType::Warning, "SnapshotAbandoned", error.to_owned()),
        _ if before.failures != after.failures || before.error != after.error && !error.is_empty() => {
            (EventType::Warning, "SnapshotError", error.to_owned())
        }
        _ => return Vec::new(),
    };
    vec![event(type_, reason, "Snapshot", note)]
}

/// An event; its note may have 1 KiB.
pub(crate) fn event(type_: EventType, reason: &str, action: &str, note: impl Into<String>) -> Event {
    let mut note: String = note.into();
    if note.len() > 1000 {
        note = note.chars().take(250).collect::<String>() + " ...";
    }
    Event {
        type_,
        reason: reason.into(),
        note: Some(note),
        action: action.into(),
        secondary: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(before: Visible<'_>, after: Visible<'_>) -> Vec<String> {
        transitions(before, after)
            .into_iter()
            .map(|event| event.reason)
            .collect()
    }

    fn running() -> Visible<'static> {
        Visible {
            lifecycle: Some(LifecycleState::Stable),
            job_state: Some(JobState::Running),
            operation_id: Some("op-1"),
            ..Visible::default()
        }
    }

    #[test]
    fn nothing_changed_is_no_event() {
        assert_eq!(reasons(running(), running()), Vec::<String>::new());
    }

    #[test]
    fn each_transition_is_one_event() {
        assert_eq!(
            reasons(Visible::default(), running()),
            ["Submit", "LifecycleChanged", "JobStatusChanged"]
        );
        let again = Visible {
            operation_id: Some("op-2"),
            ..running()
        };
        assert_eq!(reasons(running(), again), ["SpecChanged"]);
    }

    #[test]
    fn an_error_is_a_warning_with_the_reason_of_its_condition_once() {
        let broken = Visible {
            error: Some("no such image"),
            error_reason: "ImagePullError",
            ..running()
        };
        let events = transitions(running(), broken);
        assert_eq!(
            (events[0].reason.as_str(), events[0].type_),
            ("ImagePullError", EventType::Warning)
        );
        assert_eq!(reasons(broken, broken), Vec::<String>::new());
    }

    #[test]
    fn a_restart_that_was_too_quick_to_be_seen_is_told_with_its_cause() {
        let after = Visible {
            restarts: 1,
            last_failure: Some("worker lost"),
            ..running()
        };
        let events = transitions(running(), after);
        assert!(events[0].note.as_deref().unwrap().ends_with("worker lost"));
    }

    #[test]
    fn a_long_note_is_cut_to_what_the_api_server_takes() {
        assert!(
            event(EventType::Warning, "X", "Y", "é".repeat(2000))
                .note
                .unwrap()
                .len()
                <= 1024
        );
    }
}
