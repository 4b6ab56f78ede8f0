//! The status of a FlinkStateSnapshot after each step: pure.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use thalweg_crds::{SnapshotState, StateSnapshotStatus};

use super::conditions::{Judgement, assemble};

/// Wait after the first failure; it doubles.
const RETRY_MIN: Duration = Duration::from_secs(10);
const RETRY_MAX: Duration = Duration::from_secs(600);

/// What a pass says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) generation: i64,
    pub(crate) time: Timestamp,
}

impl Now {
    /// RFC 3339 with whole seconds, as Kubernetes writes it.
    fn seconds(self) -> Time {
        Time(Timestamp::from_second(self.time.as_second()).unwrap_or(self.time))
    }

    fn finish(self, mut status: StateSnapshotStatus, message: &str) -> StateSnapshotStatus {
        status.observed_generation = Some(self.generation);
        let state = status.state.unwrap_or_default();
        let judgement = Judgement::of_snapshot(state, message, status.error.as_deref());
        status.conditions = assemble(&judgement, &status.conditions, self.generation, self.time);
        status
    }
}

/// Nothing can be done yet.
pub(crate) fn waiting(previous: &StateSnapshotStatus, reason: &str, now: Now) -> StateSnapshotStatus {
    let status = StateSnapshotStatus {
        state: Some(previous.state.unwrap_or_default()),
        ..previous.clone()
    };
    now.finish(status, reason)
}

/// An attempt is about to be made.
pub(crate) fn triggering(
    previous: &StateSnapshotStatus,
    trigger_id: &str,
    job_id: &str,
    now: Now,
) -> StateSnapshotStatus {
    let status = StateSnapshotStatus {
        state: Some(SnapshotState::TriggerPending),
        trigger_id: Some(trigger_id.to_owned()),
        job_id: Some(job_id.to_owned()),
        retry_timestamp: None,
        ..previous.clone()
    };
    now.finish(status, "it is being triggered")
}

/// The JobManager is at it.
pub(crate) fn in_progress(previous: &StateSnapshotStatus, now: Now) -> StateSnapshotStatus {
    let status = StateSnapshotStatus {
        state: Some(SnapshotState::InProgress),
        trigger_timestamp: Some(now.seconds()),
        ..previous.clone()
    };
    now.finish(status, "the JobManager takes it")
}

/// It is there; a checkpoint's path may not be known.
pub(crate) fn completed(
    previous: &StateSnapshotStatus,
    path: Option<String>,
    now: Now,
) -> StateSnapshotStatus {
    let status = StateSnapshotStatus {
        state: Some(SnapshotState::Completed),
        path,
        result_timestamp: Some(now.seconds()),
        error: None,
        retry_timestamp: None,
        ..previous.clone()
    };
    now.finish(status, "")
}

/// An attempt failed: it is tried again while `backoff_limit` allows it; none: without end.
pub(crate) fn failed(
    previous: &StateSnapshotStatus,
    backoff_limit: Option<i32>,
    reason: &str,
    now: Now,
) -> StateSnapshotStatus {
    let failures = previous.failures.unwrap_or(0).saturating_add(1);
    let status = StateSnapshotStatus {
        failures: Some(failures),
        error: Some(reason.to_owned()),
        ..previous.clone()
    };
    if backoff_limit.is_some_and(|limit| limit >= 0 && failures > limit) {
        let status = StateSnapshotStatus {
            state: Some(SnapshotState::Failed),
            result_timestamp: Some(now.seconds()),
            ..status
        };
        return now.finish(status, reason);
    }
    let wait = SignedDuration::try_from(backoff(failures)).unwrap_or(SignedDuration::ZERO);
    let retry = now.time.checked_add(wait).unwrap_or(now.time);
    let status = StateSnapshotStatus {
        state: Some(SnapshotState::TriggerPending),
        trigger_id: None,
        job_id: None,
        retry_timestamp: Some(Time(Timestamp::from_second(retry.as_second()).unwrap_or(retry))),
        ..status
    };
    now.finish(status, "it is tried again")
}

/// It can never be taken.
pub(crate) fn refused(previous: &StateSnapshotStatus, reason: &str, now: Now) -> StateSnapshotStatus {
    failed(previous, Some(0), reason, now)
}

/// Its job is gone.
pub(crate) fn abandoned(previous: &StateSnapshotStatus, reason: &str, now: Now) -> StateSnapshotStatus {
    let status = StateSnapshotStatus {
        state: Some(SnapshotState::Abandoned),
        error: Some(reason.to_owned()),
        result_timestamp: Some(now.seconds()),
        retry_timestamp: None,
        ..previous.clone()
    };
    now.finish(status, reason)
}

/// Its savepoint's deletion is under way.
pub(crate) fn disposing(previous: &StateSnapshotStatus, disposal_id: &str) -> StateSnapshotStatus {
    StateSnapshotStatus {
        disposal_id: Some(disposal_id.to_owned()),
        ..previous.clone()
    }
}

/// Its savepoint can't be deleted, for now.
pub(crate) fn not_disposed(previous: &StateSnapshotStatus, reason: &str) -> StateSnapshotStatus {
    StateSnapshotStatus {
        disposal_id: None,
        error: Some(reason.to_owned()),
        ..previous.clone()
    }
}

fn backoff(failures: i32) -> Duration {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(0).min(10);
    RETRY_MIN.saturating_mul(1 << doublings).min(RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Now {
        Now {
            generation: 3,
            time: crate::testing::now(),
        }
    }

    fn condition(status: &StateSnapshotStatus, type_: &str) -> (String, String) {
        let found = status.conditions.iter().find(|one| one.type_ == type_).unwrap();
        (found.status.clone(), found.reason.clone())
    }

    #[test]
    fn the_wait_after_a_failure_doubles_up_to_ten_minutes() {
        let waits: Vec<u64> = (1..9).map(|failures| backoff(failures).as_secs()).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 600, 600]);
    }

    #[test]
    fn a_failure_is_followed_by_another_attempt_until_the_limit() {
        let begun = triggering(&StateSnapshotStatus::default(), "t", "j", now());
        let first = failed(&begun, Some(1), "the disk is full", now());
        assert_eq!(
            (first.state, first.failures, first.trigger_id.as_deref()),
            (Some(SnapshotState::TriggerPending), Some(1), None)
        );
        assert_eq!(
            first.retry_timestamp.as_ref().map(|time| time.0.as_second()),
            Some(1_800_000_010)
        );
        assert_eq!(condition(&first, "Degraded").0, "True");
        let second = failed(&first, Some(1), "the disk is full", now());
        assert_eq!(
            (second.state, second.failures),
            (Some(SnapshotState::Failed), Some(2))
        );
        assert_eq!(condition(&second, "Ready"), ("False".into(), "Failed".into()));
        for unlimited in [None, Some(-1)] {
            let again = failed(&second, unlimited, "the disk is full", now());
            assert_eq!(again.state, Some(SnapshotState::TriggerPending));
        }
    }

    #[test]
    fn a_completed_snapshot_is_ready_and_has_no_error_any_more() {
        let failed = failed(&StateSnapshotStatus::default(), None, "no", now());
        let done = completed(&in_progress(&failed, now()), Some("s3://b/sp/1".into()), now());
        assert_eq!(
            (done.path.as_deref(), done.error.as_deref(), done.failures),
            (Some("s3://b/sp/1"), None, Some(1))
        );
        assert_eq!(condition(&done, "Ready"), ("True".into(), "Completed".into()));
        assert_eq!(condition(&done, "Degraded").0, "False");
    }

    #[test]
    fn an_abandoned_one_says_why() {
        let status = abandoned(&StateSnapshotStatus::default(), "the job is suspended", now());
        assert_eq!(status.error.as_deref(), Some("the job is suspended"));
        assert_eq!(condition(&status, "Ready"), ("False".into(), "Abandoned".into()));
        assert_eq!(condition(&status, "Progressing").0, "False");
    }
}
