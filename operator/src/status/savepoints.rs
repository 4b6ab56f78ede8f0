//! The newest savepoint of a job, as its status tells it: pure.

use kube::ResourceExt;
use thalweg_crds::{FlinkStateSnapshot, Savepoint, SavepointFormatType, SavepointInfo, SnapshotTriggerType};
use thalweg_proto::cluster::v1::{JobStatus as PushedJob, SavepointStatus};

use super::job::time;
use crate::names::ANNOTATION_TRIGGER_NONCE;
use crate::plan::snapshots::trigger_type;

/// The newest one that the JobManager tells of, else the recorded one; `known`: the job's FlinkStateSnapshots, which say why it was
/// taken.
pub(crate) fn savepoint_info(
    pushed: Option<&PushedJob>,
    recorded: Option<&SavepointInfo>,
    known: &[impl AsRef<FlinkStateSnapshot>],
) -> Option<SavepointInfo> {
    let completed = pushed
        .into_iter()
        .flat_map(|job| &job.savepoints)
        .filter(|one| one.ended_ms > 0 && one.failure.is_none() && !one.path.is_empty());
    let Some(newest) = completed.max_by_key(|one| one.ended_ms) else {
        return recorded.cloned();
    };
    let mut savepoint = described(newest, known);
    // The resource that tells why may be gone by now.
    let before = recorded.and_then(|info| info.last_savepoint.as_ref());
    if let Some(before) = before.filter(|before| before.location == savepoint.location)
        && savepoint.trigger_type == SnapshotTriggerType::Unknown
    {
        savepoint = before.clone();
    }
    Some(SavepointInfo {
        last_savepoint: Some(savepoint),
    })
}

fn described(savepoint: &SavepointStatus, known: &[impl AsRef<FlinkStateSnapshot>]) -> Savepoint {
    let asked_for = known.iter().map(AsRef::as_ref).find(|one| {
        let id = one
            .status
            .as_ref()
            .and_then(|status| status.trigger_id.as_deref());
        id == Some(savepoint.operation_id.as_str())
    });
    let savepoint_spec = asked_for.and_then(|one| one.spec.savepoint.as_ref());
    let nonce = asked_for.and_then(|one| one.annotations().get(ANNOTATION_TRIGGER_NONCE)?.parse().ok());
    let trigger_type = match asked_for.map(trigger_type) {
        _ if savepoint.stops_job && savepoint.operation_id.ends_with("-stop") => SnapshotTriggerType::Upgrade,
        // One that somebody made, before its label was written.
        Some(SnapshotTriggerType::Unknown) => SnapshotTriggerType::Manual,
        Some(known) => known,
        None => SnapshotTriggerType::Unknown,
    };
    Savepoint {
        time_stamp: time(savepoint.ended_ms),
        location: savepoint.path.clone(),
        trigger_type,
        format_type: savepoint_spec
            .and_then(|spec| spec.format_type)
            .unwrap_or(SavepointFormatType::Canonical),
        trigger_nonce: nonce,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing::{pushed_job, state_snapshot};
    use serde_json::json;

    fn savepoint(operation_id: &str, path: &str, ended_ms: u64) -> SavepointStatus {
        SavepointStatus {
            operation_id: operation_id.into(),
            path: path.into(),
            ended_ms,
            ..SavepointStatus::default()
        }
    }

    fn job(savepoints: Vec<SavepointStatus>) -> PushedJob {
        PushedJob {
            savepoints,
            ..pushed_job("op", "RUNNING")
        }
    }

    fn last(pushed: &PushedJob, recorded: Option<&SavepointInfo>) -> Option<(String, SnapshotTriggerType)> {
        let mut periodic = state_snapshot(json!({"savepoint": {}}), json!({"triggerId": "t-1"}));
        periodic
            .labels_mut()
            .insert("snapshot.trigger-type".into(), "PERIODIC".into());
        let info = savepoint_info(Some(pushed), recorded, &[Arc::new(periodic)])?;
        let last = info.last_savepoint?;
        Some((last.location, last.trigger_type))
    }

    #[test]
    fn it_is_the_newest_completed_one_with_the_reason_of_its_resource() {
        let under_way = savepoint("t-2", "", 0);
        let pushed = job(vec![
            savepoint("x", "s3://old", 5_000),
            savepoint("t-1", "s3://new", 9_000),
            under_way,
        ]);
        assert_eq!(
            last(&pushed, None),
            Some(("s3://new".into(), SnapshotTriggerType::Periodic))
        );
        assert_eq!(last(&job(vec![]), None), None);
    }

    #[test]
    fn a_stop_of_the_operators_is_an_upgrade_and_one_by_rest_is_unknown() {
        let mut stop = savepoint("uid-1-2-stop", "s3://stop", 5_000);
        stop.stops_job = true;
        assert_eq!(
            last(&job(vec![stop]), None),
            Some(("s3://stop".into(), SnapshotTriggerType::Upgrade))
        );
        let by_rest = job(vec![savepoint("abc", "s3://rest", 5_000)]);
        assert_eq!(
            last(&by_rest, None),
            Some(("s3://rest".into(), SnapshotTriggerType::Unknown))
        );
    }

    #[test]
    fn what_was_known_of_it_stays_when_its_resource_or_its_job_manager_is_gone() {
        let recorded = SavepointInfo {
            last_savepoint: Some(Savepoint {
                location: "s3://sp".into(),
                trigger_type: SnapshotTriggerType::Manual,
                ..Savepoint::default()
            }),
        };
        let pushed = job(vec![savepoint("forgotten", "s3://sp", 5_000)]);
        for pushed in [pushed, job(vec![])] {
            assert_eq!(
                last(&pushed, Some(&recorded)),
                Some(("s3://sp".into(), SnapshotTriggerType::Manual))
            );
        }
    }
}
