//! The FlinkStateSnapshots that the snapshot controllers' watches have seen, by their job. From a cache: what depends on it (why a
//! savepoint was taken, which resources are too many) stands a view that is a moment old.

use std::sync::{Arc, Mutex, PoisonError};

use kube::ResourceExt;
use kube::runtime::reflector::Store;
use thalweg_crds::FlinkStateSnapshot;

use crate::build::SnapshotOf;

/// All that there are; clones share it.
#[derive(Clone, Default)]
pub(crate) struct SnapshotIndex {
    stores: Arc<Mutex<Vec<Store<FlinkStateSnapshot>>>>,
}

impl SnapshotIndex {
    /// Adds those of one controller.
    pub(crate) fn add(&self, store: Store<FlinkStateSnapshot>) {
        self.stores
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(store);
    }

    /// Those of a job.
    pub(crate) fn of_job(&self, job: &SnapshotOf<'_>) -> Vec<Arc<FlinkStateSnapshot>> {
        let stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        let all = stores.iter().flat_map(Store::state);
        all.filter(|snapshot| {
            let reference = snapshot.spec.job_reference.as_ref();
            snapshot.namespace().as_deref() == Some(job.namespace)
                && reference.is_some_and(|reference| reference.kind == job.kind && reference.name == job.name)
        })
        .collect()
    }

    /// An index of these.
    #[cfg(test)]
    pub(crate) fn holding(snapshots: Vec<FlinkStateSnapshot>) -> Self {
        use kube::runtime::{reflector, watcher};
        let (store, mut writer) = reflector::store();
        for snapshot in snapshots {
            writer.apply_watcher_event(&watcher::Event::Apply(snapshot));
        }
        let index = Self::default();
        index.add(store);
        index
    }
}
