//! Which TaskManagers are here, over which connection, and since when they were silent. Pure.

use std::collections::BTreeMap;

use thalweg_proto::control::v1::{RegisterTaskManager, TaskManagerHeartbeat};
use thalweg_types::TaskManagerId;

/// A TaskManager offering more slots than this is taken for a mistake.
const MAX_SLOTS: u32 = 4096;

/// One stream from one TaskManager; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// A registered TaskManager.
#[derive(Debug, Clone)]
pub(crate) struct TaskManager {
    pub(crate) connection: ConnectionId,
    pub(crate) host: String,
    pub(crate) slots: u32,
    pub(crate) engine_version: String,
    pub(crate) cpu_cores: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) slot_memory_bytes: u64,
    pub(crate) memory_used_bytes: u64,
    /// Unix milliseconds.
    pub(crate) last_heartbeat_ms: u64,
}

/// Why a TaskManager is not taken in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RegistrationError {
    #[error("a TaskManager needs an id")]
    NoId,
    #[error(
        "TaskManager {id} offers {slots} slots: 1 to {MAX_SLOTS} are allowed (taskmanager.numberOfTaskSlots)"
    )]
    Slots { id: String, slots: u32 },
    #[error(
        "TaskManager {id} runs engine {theirs}, this JobManager {ours}: both must have the same major and minor version"
    )]
    Version {
        id: String,
        theirs: String,
        ours: String,
    },
    #[error(
        "TaskManager {id} follows a leader of epoch {theirs}, this JobManager has epoch {ours}: it is not the leader any more"
    )]
    LaterLeader { id: String, theirs: u64, ours: u64 },
}

/// The TaskManagers by id.
#[derive(Debug, Default)]
pub(crate) struct Registry(BTreeMap<TaskManagerId, TaskManager>);

impl Registry {
    /// Takes a TaskManager in, in the place of an earlier one of the same id.
    pub(crate) fn register(
        &mut self,
        connection: ConnectionId,
        register: &RegisterTaskManager,
        now_ms: u64,
    ) -> Result<TaskManagerId, RegistrationError> {
        check(register)?;
        let id = TaskManagerId(register.task_manager_id.clone());
        let task_manager = TaskManager {
            connection,
            host: register.host.clone(),
            slots: register.slots,
            engine_version: register.engine_version.clone(),
            cpu_cores: register.cpu_cores,
            memory_bytes: register.memory_bytes,
            slot_memory_bytes: register.slot_memory_bytes,
            memory_used_bytes: 0,
            last_heartbeat_ms: now_ms,
        };
        self.0.insert(id.clone(), task_manager);
        Ok(id)
    }

    /// The TaskManager that speaks over a connection, unless another has taken its place.
    pub(crate) fn of(&self, connection: ConnectionId) -> Option<&TaskManagerId> {
        self.0
            .iter()
            .find(|(_, task_manager)| task_manager.connection == connection)
            .map(|(id, _)| id)
    }

    pub(crate) fn get(&self, id: &TaskManagerId) -> Option<&TaskManager> {
        self.0.get(id)
    }

    pub(crate) fn remove(&mut self, id: &TaskManagerId) -> Option<TaskManager> {
        self.0.remove(id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&TaskManagerId, &TaskManager)> {
        self.0.iter()
    }

    pub(crate) fn heartbeat(&mut self, id: &TaskManagerId, heartbeat: &TaskManagerHeartbeat, now_ms: u64) {
        if let Some(task_manager) = self.0.get_mut(id) {
            task_manager.memory_used_bytes = heartbeat.memory_used_bytes;
            task_manager.last_heartbeat_ms = now_ms;
        }
    }

    /// Those that were silent for longer than the time-out.
    pub(crate) fn silent(&self, now_ms: u64, timeout_ms: u64) -> Vec<TaskManagerId> {
        let silent =
            |task_manager: &TaskManager| now_ms.saturating_sub(task_manager.last_heartbeat_ms) > timeout_ms;
        self.0
            .iter()
            .filter(|(_, task_manager)| silent(task_manager))
            .map(|(id, _)| id.clone())
            .collect()
    }
}

fn check(register: &RegisterTaskManager) -> Result<(), RegistrationError> {
    let id = register.task_manager_id.clone();
    if id.is_empty() {
        return Err(RegistrationError::NoId);
    }
    if register.slots == 0 || register.slots > MAX_SLOTS {
        return Err(RegistrationError::Slots {
            id,
            slots: register.slots,
        });
    }
    let ours = env!("CARGO_PKG_VERSION");
    if minor(&register.engine_version) != minor(ours) {
        return Err(RegistrationError::Version {
            id,
            theirs: register.engine_version.clone(),
            ours: ours.to_owned(),
        });
    }
    Ok(())
}

/// `0.1` of `0.1.7`.
fn minor(version: &str) -> Option<&str> {
    let end = version
        .match_indices('.')
        .nth(1)
        .map_or(version.len(), |(end, _)| end);
    version.get(..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(id: &str, slots: u32, version: &str) -> RegisterTaskManager {
        RegisterTaskManager {
            task_manager_id: id.to_owned(),
            slots,
            engine_version: version.to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn a_registration_of_the_same_id_takes_the_place_of_the_old() {
        let mut registry = Registry::default();
        let version = env!("CARGO_PKG_VERSION");
        registry
            .register(ConnectionId(1), &register("a", 1, version), 0)
            .unwrap();
        registry
            .register(ConnectionId(2), &register("a", 1, version), 0)
            .unwrap();
        assert_eq!(
            registry.of(ConnectionId(1)),
            None,
            "what the old connection says does not count"
        );
        assert!(registry.of(ConnectionId(2)).is_some());
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_reason() {
        let mut registry = Registry::default();
        let mut refused = |id, slots, version| {
            registry
                .register(ConnectionId(1), &register(id, slots, version), 0)
                .unwrap_err()
                .to_string()
        };
        assert!(refused("", 1, "0.1.0").contains("needs an id"));
        assert!(refused("a", 0, "0.1.0").contains("taskmanager.numberOfTaskSlots"));
        assert!(refused("a", 1, "7.2.0").contains("runs engine 7.2.0"));
    }

    #[test]
    fn silence_is_counted_from_the_last_heartbeat() {
        let mut registry = Registry::default();
        let id = registry
            .register(ConnectionId(1), &register("a", 1, env!("CARGO_PKG_VERSION")), 100)
            .unwrap();
        registry.heartbeat(&id, &TaskManagerHeartbeat::default(), 200);
        assert!(registry.silent(250, 50).is_empty());
        assert_eq!(registry.silent(251, 50), [id]);
    }
}
