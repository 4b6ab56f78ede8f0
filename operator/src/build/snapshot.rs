//! The FlinkStateSnapshots that the operator makes by itself.

use std::collections::BTreeMap;

use kube::core::ObjectMeta;
use thalweg_crds::{
    CheckpointSpec, FlinkStateSnapshot, FlinkStateSnapshotSpec, JobKind, JobReference, PendingSnapshot,
    SavepointSpec, SnapshotState, SnapshotTriggerType, SnapshotType,
};

use crate::names::{
    ANNOTATION_TRIGGER_NONCE, LABEL_JOB_REFERENCE_KIND, LABEL_JOB_REFERENCE_NAME, LABEL_MANAGED_BY,
    LABEL_SNAPSHOT_STATE, LABEL_SNAPSHOT_TRIGGER_TYPE, LABEL_SNAPSHOT_TYPE, MANAGER,
};
use crate::policy::Policy;

/// A nonce's snapshot is tried again a few times; the next periodic one comes by itself.
const MANUAL_BACKOFF_LIMIT: i32 = 3;

/// The job that snapshots are of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SnapshotOf<'a> {
    pub(crate) kind: JobKind,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

/// The labels that say what a snapshot is.
pub(crate) fn snapshot_labels(
    spec: &FlinkStateSnapshotSpec,
    trigger_type: SnapshotTriggerType,
    state: SnapshotState,
) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        (
            LABEL_SNAPSHOT_TYPE.to_owned(),
            spec.snapshot_type().as_str().to_owned(),
        ),
        (
            LABEL_SNAPSHOT_TRIGGER_TYPE.to_owned(),
            trigger_type.as_str().to_owned(),
        ),
        (LABEL_SNAPSHOT_STATE.to_owned(), state.as_str().to_owned()),
    ]);
    if let Some(job) = &spec.job_reference {
        labels.insert(LABEL_JOB_REFERENCE_KIND.into(), job.kind.as_str().into());
        labels.insert(LABEL_JOB_REFERENCE_NAME.into(), job.name.clone());
    }
    labels
}

/// One of them. It belongs to nobody: savepoints outlive their job.
pub(crate) fn snapshot(
    of: &SnapshotOf<'_>,
    pending: &PendingSnapshot,
    policy: &Policy,
) -> FlinkStateSnapshot {
    let savepoint = || SavepointSpec {
        path: pending.path.clone(),
        format_type: Some(policy.format_type),
        dispose_on_delete: Some(policy.dispose_on_delete),
        already_exists: pending.path.is_some().then_some(true),
    };
    let is_savepoint = pending.snapshot_type == SnapshotType::Savepoint;
    let spec = FlinkStateSnapshotSpec {
        job_reference: Some(JobReference {
            kind: of.kind,
            name: of.name.to_owned(),
        }),
        savepoint: is_savepoint.then(savepoint),
        checkpoint: (!is_savepoint).then(CheckpointSpec::default),
        backoff_limit: Some(match pending.trigger_type {
            SnapshotTriggerType::Manual => MANUAL_BACKOFF_LIMIT,
            _ => 0,
        }),
    };
    let mut labels = snapshot_labels(&spec, pending.trigger_type, SnapshotState::TriggerPending);
    labels.insert(LABEL_MANAGED_BY.into(), MANAGER.into());
    let annotations = pending
        .trigger_nonce
        .map(|nonce| BTreeMap::from([(ANNOTATION_TRIGGER_NONCE.to_owned(), nonce.to_string())]));
    FlinkStateSnapshot {
        metadata: ObjectMeta {
            name: Some(pending.name.clone()),
            namespace: Some(of.namespace.to_owned()),
            labels: Some(labels),
            annotations,
            ..ObjectMeta::default()
        },
        spec,
        status: None,
    }
}
