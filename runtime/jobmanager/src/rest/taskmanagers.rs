//! /taskmanagers

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};
use thalweg_types::TaskManagerId;

use super::Rest;
use super::error::RestError;
use crate::dispatcher::Dispatcher;
use crate::resource_manager::TaskManager;

pub(super) async fn list(State(rest): State<Rest>) -> Result<Json<Value>, RestError> {
    let list = rest.control.read(|dispatcher, _| {
        let registry = &dispatcher.resources().registry;
        registry
            .iter()
            .map(|(id, task_manager)| summary(dispatcher, id, task_manager))
            .collect::<Vec<_>>()
    });
    Ok(Json(json!({ "taskmanagers": list.await? })))
}

pub(super) async fn details(
    State(rest): State<Rest>,
    Path(id): Path<String>,
) -> Result<Json<Value>, RestError> {
    let id = TaskManagerId(id);
    let wanted = id.clone();
    let found = rest.control.read(move |dispatcher, _| {
        let task_manager = dispatcher.resources().registry.get(&wanted)?;
        let mut details = summary(dispatcher, &wanted, task_manager);
        let owners = dispatcher.resources().pool.owners_on(&wanted).iter().enumerate();
        details["allocatedSlots"] = owners
            .filter_map(|(index, owner)| {
                owner.map(|job| {
                    json!({ "index": index, "jobId": job.to_string(), "resource": resource(task_manager, 1) })
                })
            })
            .collect();
        details["metrics"] = json!({ "garbageCollectors": [], "heapUsed": task_manager.memory_used_bytes });
        Some(details)
    });
    found
        .await?
        .map(Json)
        .ok_or_else(|| RestError::not_found(format!("No TaskManager registered under {id}.")))
}

fn summary(dispatcher: &Dispatcher, id: &TaskManagerId, task_manager: &TaskManager) -> Value {
    let free = dispatcher.resources().pool.free_on(id);
    json!({
        "id": id.to_string(),
        "path": task_manager.host,
        "dataPort": -1,
        "jmxPort": -1,
        // Flink's name; its value is a point in time as well
        "timeSinceLastHeartbeat": task_manager.last_heartbeat_ms,
        "slotsNumber": task_manager.slots,
        "freeSlots": free,
        "totalResource": resource(task_manager, task_manager.slots),
        "freeResource": resource(task_manager, free),
        "hardware": {
            "cpuCores": task_manager.cpu_cores,
            "physicalMemory": task_manager.memory_bytes,
            "freeMemory": task_manager.memory_bytes.saturating_sub(task_manager.memory_used_bytes),
            "managedMemory": 0,
        },
        "memoryConfiguration": {
            "totalProcessMemory": task_manager.memory_bytes,
            "totalFlinkMemory": task_manager.memory_bytes,
            "taskHeap": task_manager.slot_memory_bytes * u64::from(task_manager.slots),
        },
        "engineVersion": task_manager.engine_version,
        "blocked": false,
    })
}

/// What some of its slots stand for; memory in MiB as in Flink's ResourceProfileInfo.
fn resource(task_manager: &TaskManager, slots: u32) -> Value {
    let share = f64::from(slots) / f64::from(task_manager.slots.max(1));
    json!({
        "cpuCores": f64::from(task_manager.cpu_cores) * share,
        "taskHeapMemory": (task_manager.slot_memory_bytes * u64::from(slots)) >> 20,
        "taskOffHeapMemory": 0,
        "managedMemory": 0,
        "networkMemory": 0,
        "extendedResources": {},
    })
}
