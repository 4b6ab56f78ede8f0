//! Which savepoints and checkpoints of a job the operator takes by itself, and which of their resources it deletes: pure.
//!
//! ```text
//!   nonces, intervals, the savepoint of a stop --request--> pending, in status --> FlinkStateSnapshots
//!   FlinkStateSnapshots of the job             --surplus--> those to delete
//! ```
//! Invariants: what is to be created is in status with its name before it is; a nonce and a due time are acted on once; the newest
//! completed one of each kind, and what the job starts from, are never deleted.

#[cfg(test)]
mod tests;

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use thalweg_crds::{
    FlinkStateSnapshot, PendingSnapshot, RequestedSnapshots, SnapshotState, SnapshotTriggerType, SnapshotType,
};

use crate::cluster::Job;
use crate::names::LABEL_SNAPSHOT_TRIGGER_TYPE;

/// What a decision is made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Requests<'a> {
    /// Name of the job's resource.
    pub(crate) name: &'a str,
    pub(crate) job: &'a Job,
    /// The resource is seen for the first time: its nonces ask for nothing.
    pub(crate) first: bool,
    /// Since when the job is RUNNING; none: it isn't, and nothing can be taken of it.
    pub(crate) running_since: Option<Timestamp>,
    /// The savepoint with which the job has just been stopped.
    pub(crate) stopped_with: Option<&'a str>,
    pub(crate) now: Timestamp,
}

/// The record after this pass, and when time alone asks for another.
pub(crate) fn request(
    wanted: &Requests<'_>,
    recorded: &RequestedSnapshots,
) -> (RequestedSnapshots, Option<Duration>) {
    let mut record = recorded.clone();
    let job = wanted.job;
    if let Some(path) = wanted.stopped_with {
        let known = |one: &PendingSnapshot| one.path.as_deref() == Some(path);
        if !record.pending.iter().any(known) {
            let mut pending = wanted.pending(SnapshotType::Savepoint, SnapshotTriggerType::Upgrade, None);
            pending.path = Some(path.to_owned());
            record.pending.push(pending);
        }
    }
    let mut recheck = None;
    for (snapshot_type, nonce, interval) in [
        (
            SnapshotType::Savepoint,
            job.savepoint_trigger_nonce,
            job.policy.periodic_savepoint,
        ),
        (
            SnapshotType::Checkpoint,
            job.checkpoint_trigger_nonce,
            job.policy.periodic_checkpoint,
        ),
    ] {
        wanted.by_nonce(&mut record, snapshot_type, nonce);
        let due = wanted.by_interval(&mut record, snapshot_type, interval);
        recheck = [recheck, due].into_iter().flatten().min();
    }
    (record, recheck)
}

impl Requests<'_> {
    /// Named as in the official operator. The time makes the name a new one; that it is recorded first makes it one.
    fn pending(
        &self,
        snapshot_type: SnapshotType,
        trigger_type: SnapshotTriggerType,
        trigger_nonce: Option<i64>,
    ) -> PendingSnapshot {
        let name = format!(
            "{}-{}-{}-{}",
            self.name,
            snapshot_type.as_str().to_ascii_lowercase(),
            trigger_type.as_str().to_ascii_lowercase(),
            self.now.as_millisecond()
        );
        PendingSnapshot {
            name,
            snapshot_type,
            trigger_type,
            trigger_nonce,
            path: None,
        }
    }

    fn by_nonce(&self, record: &mut RequestedSnapshots, snapshot_type: SnapshotType, nonce: Option<i64>) {
        let recorded = match snapshot_type {
            SnapshotType::Savepoint => &mut record.savepoint_trigger_nonce,
            SnapshotType::Checkpoint => &mut record.checkpoint_trigger_nonce,
        };
        if nonce.is_none() || *recorded == nonce {
            return;
        }
        if self.first {
            *recorded = nonce;
        } else if self.running_since.is_some() {
            *recorded = nonce;
            record
                .pending
                .push(self.pending(snapshot_type, SnapshotTriggerType::Manual, nonce));
        }
    }

    /// How long until it is due; none: not by time.
    fn by_interval(
        &self,
        record: &mut RequestedSnapshots,
        snapshot_type: SnapshotType,
        interval: Option<Duration>,
    ) -> Option<Duration> {
        let interval = interval?;
        let running_since = self.running_since?;
        let last = match snapshot_type {
            SnapshotType::Savepoint => &mut record.last_periodic_savepoint_timestamp,
            SnapshotType::Checkpoint => &mut record.last_periodic_checkpoint_timestamp,
        };
        let base = last.as_ref().map_or(running_since, |time| time.0);
        let since = Duration::try_from(self.now.duration_since(base)).unwrap_or_default();
        if since < interval {
            return Some(interval.saturating_sub(since));
        }
        // RFC 3339 with whole seconds, as Kubernetes writes it.
        *last = Some(Time(
            Timestamp::from_second(self.now.as_second()).unwrap_or(self.now),
        ));
        record
            .pending
            .push(self.pending(snapshot_type, SnapshotTriggerType::Periodic, None));
        Some(interval)
    }
}

/// Why a snapshot was taken, by its label.
pub(crate) fn trigger_type(snapshot: &FlinkStateSnapshot) -> SnapshotTriggerType {
    let label = snapshot.labels().get(LABEL_SNAPSHOT_TRIGGER_TYPE);
    label.map_or(SnapshotTriggerType::Unknown, |text| {
        SnapshotTriggerType::parse(text)
    })
}

/// The job's periodic and upgrade snapshots that are too many or too old; `in_use`: paths that the job starts from.
pub(crate) fn surplus<'a>(
    snapshots: &'a [impl AsRef<FlinkStateSnapshot>],
    job: &Job,
    in_use: &[&str],
    now: Timestamp,
) -> Vec<&'a FlinkStateSnapshot> {
    if !job.policy.cleanup_enabled {
        return Vec::new();
    }
    let mut surplus = Vec::new();
    for snapshot_type in [SnapshotType::Savepoint, SnapshotType::Checkpoint] {
        let mut mine: Vec<&FlinkStateSnapshot> = snapshots
            .iter()
            .map(AsRef::as_ref)
            .filter(|one| one.spec.snapshot_type() == snapshot_type && is_the_operators(one))
            .collect();
        mine.sort_by_key(|one| std::cmp::Reverse((created(one), one.name_any())));
        let newest_completed = mine.iter().position(|one| state(one) == SnapshotState::Completed);
        let count = match snapshot_type {
            SnapshotType::Savepoint => job.policy.history_max_count,
            SnapshotType::Checkpoint => job.policy.checkpoints_retained,
        };
        let age = SignedDuration::try_from(job.policy.history_max_age).unwrap_or(SignedDuration::MAX);
        for (position, one) in mine.into_iter().enumerate() {
            let too_old = snapshot_type == SnapshotType::Savepoint
                && created(one).is_some_and(|created| now.duration_since(created) > age);
            let path = one.status.as_ref().and_then(|status| status.path.as_deref());
            let needed = Some(position) == newest_completed
                || !state(one).is_terminal()
                || path.is_some_and(|path| in_use.contains(&path));
            if (position >= count || too_old) && !needed {
                surplus.push(one);
            }
        }
    }
    surplus
}

/// What somebody else made, or asked for by a nonce, is theirs to delete.
fn is_the_operators(snapshot: &FlinkStateSnapshot) -> bool {
    let by_itself = matches!(
        trigger_type(snapshot),
        SnapshotTriggerType::Periodic | SnapshotTriggerType::Upgrade
    );
    by_itself && snapshot.metadata.deletion_timestamp.is_none()
}

fn created(snapshot: &FlinkStateSnapshot) -> Option<Timestamp> {
    snapshot.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

fn state(snapshot: &FlinkStateSnapshot) -> SnapshotState {
    let status = snapshot.status.as_ref();
    status.and_then(|status| status.state).unwrap_or_default()
}
