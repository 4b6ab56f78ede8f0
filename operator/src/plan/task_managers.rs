//! Which TaskManager pods to make and which to delete.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use thalweg_proto::cluster::v1::ClusterSnapshot;

use super::PodDeletion;
use crate::observe::PodFacts;

/// What a pod gets beyond its grace before it is deleted without.
pub(super) const OVERDUE: Duration = Duration::from_secs(5);
/// A pod that ends sooner than this after its creation is replaced only then: no tight loop of evictions.
const REPLACE_AFTER: Duration = Duration::from_secs(10);

pub(super) struct TaskManagerPlan {
    pub(super) create: Vec<u32>,
    pub(super) delete: Vec<PodDeletion>,
    pub(super) recheck_after: Option<Duration>,
}

/// `fixed`: surplus pods go although they hold slots; else only idle ones go.
pub(super) fn plan(
    pods: &[PodFacts],
    snapshot: Option<&ClusterSnapshot>,
    hash: &str,
    wanted: u32,
    fixed: bool,
    now: Timestamp,
) -> TaskManagerPlan {
    let mut delete = Vec::new();
    let mut recheck_after = None;
    let mut current: Vec<&PodFacts> = Vec::new();
    let mut resting = 0;
    for pod in pods {
        if let Some(deadline) = pod.deletion {
            force_if_overdue(pod, deadline, now, &mut delete, &mut recheck_after);
        } else if pod.ended {
            match rest(pod, now) {
                Some(wait) if pod.hash == hash && wanted > 0 => {
                    resting += 1;
                    sooner(&mut recheck_after, wait);
                }
                _ => delete.push(deletion(pod, "Ended")),
            }
        } else if pod.hash == hash {
            current.push(pod);
        } else {
            delete.push(deletion(pod, "SpecChanged"));
        }
    }
    let have = u32::try_from(current.len())
        .unwrap_or(u32::MAX)
        .saturating_add(resting);
    if have > wanted {
        delete.extend(surplus(current, snapshot, have - wanted, fixed));
    }
    let create = free_ordinals(pods, hash, wanted.saturating_sub(have));
    TaskManagerPlan {
        create,
        delete,
        recheck_after,
    }
}

/// Deletes a pod without grace once its grace and some seconds are over; else says when that will be.
pub(super) fn force_if_overdue(
    pod: &PodFacts,
    deadline: Timestamp,
    now: Timestamp,
    delete: &mut Vec<PodDeletion>,
    recheck_after: &mut Option<Duration>,
) {
    let since = now.duration_since(deadline);
    match Duration::try_from(since).ok().filter(|passed| *passed >= OVERDUE) {
        Some(_) => {
            delete.push(PodDeletion {
                force: true,
                ..deletion(pod, "Overdue")
            });
            // Asked again should the answer get lost.
            sooner(recheck_after, OVERDUE);
        }
        None => {
            let left = Duration::try_from(-since).unwrap_or_default() + OVERDUE;
            sooner(recheck_after, left);
        }
    }
}

fn rest(pod: &PodFacts, now: Timestamp) -> Option<Duration> {
    let age = Duration::try_from(now.duration_since(pod.created?)).unwrap_or_default();
    REPLACE_AFTER.checked_sub(age).filter(|left| !left.is_zero())
}

pub(super) fn sooner(recheck_after: &mut Option<Duration>, candidate: Duration) {
    *recheck_after = Some(recheck_after.map_or(candidate, |known| known.min(candidate)));
}

pub(super) fn deletion(pod: &PodFacts, reason: &'static str) -> PodDeletion {
    PodDeletion {
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        force: false,
        reason,
    }
}

/// Those that nothing runs on go first: broken, not registered, idle; then the highest ordinals.
fn surplus(
    mut pods: Vec<&PodFacts>,
    snapshot: Option<&ClusterSnapshot>,
    count: u32,
    fixed: bool,
) -> impl Iterator<Item = PodDeletion> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    pods.sort_by_key(|pod| (busy_slots(pod, snapshot), std::cmp::Reverse(pod.ordinal)));
    pods.retain(|pod| fixed || busy_slots(pod, snapshot) == 0);
    pods.into_iter()
        .take(count)
        .map(|pod| deletion(pod, "ScaledDown"))
}

fn busy_slots(pod: &PodFacts, snapshot: Option<&ClusterSnapshot>) -> u32 {
    let registered =
        snapshot.and_then(|snapshot| snapshot.task_managers.iter().find(|one| one.id == pod.name));
    registered.map_or(0, |task_manager| {
        task_manager.slots.saturating_sub(task_manager.free_slots)
    })
}

/// The lowest ordinals that no pod of this hash has, one that is going included: its name is still taken.
fn free_ordinals(pods: &[PodFacts], hash: &str, count: u32) -> Vec<u32> {
    let taken: BTreeSet<u32> = pods
        .iter()
        .filter(|pod| pod.hash == hash)
        .filter_map(|pod| pod.ordinal)
        .collect();
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    (0..u32::MAX)
        .filter(|ordinal| !taken.contains(ordinal))
        .take(count)
        .collect()
}
