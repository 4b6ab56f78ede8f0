//! TaskManagers and their slots.
//!
//! ```text
//!   ConnectTaskManager --> Registry: who is here, since when silent
//!                      \-> SlotPool: which job holds which slot <-- a JobMaster declares how many it needs
//! ```

mod registration;
mod slot_pool;

pub(crate) use registration::{ConnectionId, RegistrationError, Registry, TaskManager};
pub(crate) use slot_pool::{LoadBalance, SlotId, SlotPool};

use thalweg_proto::control::v1::RegisterTaskManager;
use thalweg_types::TaskManagerId;

/// TaskManagers and their slots.
#[derive(Debug)]
pub(crate) struct ResourceManager {
    pub(crate) registry: Registry,
    pub(crate) pool: SlotPool,
}

impl ResourceManager {
    pub(crate) fn new(mode: LoadBalance) -> Self {
        Self {
            registry: Registry::default(),
            pool: SlotPool::new(mode),
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
        Ok(id)
    }

    pub(crate) fn remove(&mut self, id: &TaskManagerId) {
        self.registry.remove(id);
        self.pool.remove(id);
    }
}
