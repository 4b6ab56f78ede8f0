//! TaskManagers and their slots.
//!
//! ```text
//!   ConnectTaskManager --> Registry: who is here, since when silent
//!                      |-> SlotPool: which job holds which slot <-- a JobMaster declares how many it needs
//!                      \-> reports: workers that it brought along, until their job is asked about them
//! ```
//!
//! Invariant: a slot in which a TaskManager brought a worker along is its job's, also while that job is still being recovered.

mod registration;
mod slot_pool;

pub(crate) use registration::{ConnectionId, RegistrationError, Registry, TaskManager};
pub(crate) use slot_pool::{LoadBalance, SlotId, SlotPool};

use std::collections::BTreeMap;

use thalweg_proto::control::v1::{RegisterTaskManager, RunningWorker};
use thalweg_types::{JobId, TaskManagerId};

/// TaskManagers and their slots.
#[derive(Debug)]
pub(crate) struct ResourceManager {
    pub(crate) registry: Registry,
    pub(crate) pool: SlotPool,
    reports: BTreeMap<JobId, BTreeMap<TaskManagerId, RunningWorker>>,
}

impl ResourceManager {
    pub(crate) fn new(mode: LoadBalance) -> Self {
        Self {
            registry: Registry::default(),
            pool: SlotPool::new(mode),
            reports: BTreeMap::new(),
        }
    }

    /// Takes a TaskManager in. What an earlier one of the same id held must have been given up before.
    pub(crate) fn register(
        &mut self,
        connection: ConnectionId,
        register: &RegisterTaskManager,
        now_ms: u64,
    ) -> Result<TaskManagerId, RegistrationError> {
        let id = self.registry.register(connection, register, now_ms)?;
        self.pool.add(id.clone(), register.slots);
        for worker in &register.workers {
            let Ok(job) = worker.job_id.parse() else {
                tracing::error!(task_manager = %id, job_id = worker.job_id, "a worker of a malformed job id was reported");
                continue;
            };
            self.pool.hold(job, &id, &worker.slots);
            let of_job = self.reports.entry(job).or_default();
            of_job.insert(id.clone(), worker.clone());
        }
        Ok(id)
    }

    /// Jobs of which TaskManagers brought workers along that nobody was asked about yet.
    pub(crate) fn reported_jobs(&self) -> Vec<JobId> {
        self.reports.keys().copied().collect()
    }

    /// A worker that was brought along and that nobody has taken yet.
    pub(crate) fn reported_mut(&mut self, job: JobId, at: &TaskManagerId) -> Option<&mut RunningWorker> {
        self.reports.get_mut(&job)?.get_mut(at)
    }

    /// Takes the workers of a job that were brought along.
    pub(crate) fn take_reported(&mut self, job: JobId) -> BTreeMap<TaskManagerId, RunningWorker> {
        self.reports.remove(&job).unwrap_or_default()
    }

    pub(crate) fn remove(&mut self, id: &TaskManagerId) {
        self.registry.remove(id);
        self.pool.remove(id);
        for of_job in self.reports.values_mut() {
            of_job.remove(id);
        }
        self.reports.retain(|_, of_job| !of_job.is_empty());
    }
}
