//! /jobs/:id/checkpoints: what checkpoints there were, and how they are configured.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Map, Value, json};
use thalweg_checkpoint::stats::{RestoreRecord, SubtaskRecord, Summary, VertexRecord};
use thalweg_checkpoint::{CheckpointConfig, CheckpointRecord, CheckpointStats, CheckpointStatus};
use thalweg_proto::state::v1::CheckpointMetrics;
use thalweg_types::config::{CheckpointRetention, CheckpointingMode, StateBackend};

use super::Rest;
use super::error::RestError;
use super::jobs::{of_job, vertex_id};

type Answer = Result<Json<Value>, RestError>;

pub(super) async fn statistics(State(rest): State<Rest>, Path(job): Path<String>) -> Answer {
    of_job(&rest, &job, |master, now_ms| {
        overview(master.checkpoints().stats(), now_ms)
    })
    .await
    .map(Json)
}

pub(super) async fn config(State(rest): State<Rest>, Path(job): Path<String>) -> Answer {
    of_job(&rest, &job, |master, _| {
        configuration(master.checkpoints().config())
    })
    .await
    .map(Json)
}

fn checkpoint_id(text: &str) -> Result<u64, RestError> {
    text.parse()
        .map_err(|_| RestError::path_parameter("checkpointid", text, "a number is expected"))
}

/// What a closure says of one checkpoint.
async fn of_checkpoint(
    rest: &Rest,
    job: &str,
    id: &str,
    look: impl FnOnce(&CheckpointRecord, u64) -> Option<Value> + Send + 'static,
) -> Answer {
    let wanted = checkpoint_id(id)?;
    let found = of_job(rest, job, move |master, now_ms| {
        let checkpoint = master.checkpoints().stats().record(wanted)?;
        look(checkpoint, now_ms)
    });
    let missing = || {
        RestError::not_found(format!(
            "Could not find checkpointing statistics for checkpoint {id}."
        ))
    };
    found.await?.map(Json).ok_or_else(missing)
}

pub(super) async fn details(State(rest): State<Rest>, Path((job, id)): Path<(String, String)>) -> Answer {
    of_checkpoint(&rest, &job, &id, |checkpoint, now_ms| {
        let mut details = statistics_of(checkpoint, now_ms);
        let tasks: Map<String, Value> = checkpoint
            .vertices
            .iter()
            .map(|vertex| (vertex.vertex_id.clone(), task(checkpoint, vertex, now_ms)))
            .collect();
        details["tasks"] = Value::Object(tasks);
        Some(details)
    })
    .await
}

pub(super) async fn subtasks(
    State(rest): State<Rest>,
    Path((job, id, vertex)): Path<(String, String, String)>,
) -> Answer {
    let wanted = vertex_id(&vertex)?.to_string();
    of_checkpoint(&rest, &job, &id, move |checkpoint, now_ms| {
        let vertex = checkpoint
            .vertices
            .iter()
            .find(|vertex| vertex.vertex_id == wanted)?;
        let mut task = task(checkpoint, vertex, now_ms);
        task["summary"] = subtask_summary(checkpoint, vertex);
        task["subtasks"] = subtasks_of(checkpoint, vertex);
        Some(task)
    })
    .await
}

// ---- Flink's JSON, pure ----

/// CheckpointingStatistics
fn overview(stats: &CheckpointStats, now_ms: u64) -> Value {
    let counts = stats.counts();
    let latest = |record: Option<&CheckpointRecord>| {
        record.map_or(Value::Null, |record| statistics_of(record, now_ms))
    };
    let summary = |of: &dyn Fn(&CheckpointRecord) -> u64| summary(stats.summary(of));
    json!({
        "counts": {
            "restored": counts.restored,
            "total": counts.total,
            "in_progress": counts.in_progress,
            "completed": counts.completed,
            "failed": counts.failed,
        },
        "summary": {
            "checkpointed_size": summary(&CheckpointRecord::checkpointed_bytes),
            "state_size": summary(&CheckpointRecord::state_bytes),
            "end_to_end_duration": summary(&|record| record.duration_ms(now_ms)),
            "alignment_buffered": summary(&|_| 0),
            "processed_data": summary(&CheckpointRecord::processed_bytes),
            "persisted_data": summary(&CheckpointRecord::persisted_bytes),
        },
        "latest": {
            "completed": latest(stats.latest_completed()),
            "savepoint": latest(stats.latest_savepoint()),
            "failed": latest(stats.latest_failed()),
            "restored": stats.latest_restored().map(restored),
        },
        "history": stats.history().map(|record| statistics_of(record, now_ms)).collect::<Vec<_>>(),
    })
}

fn summary(summary: Summary) -> Value {
    json!({ "min": summary.min, "max": summary.max, "avg": summary.avg })
}

fn restored(record: &RestoreRecord) -> Value {
    json!({
        "id": record.id,
        "restore_timestamp": record.restored_ms,
        "is_savepoint": record.savepoint,
        "external_path": record.external_path,
    })
}

/// A moment, or Flink's -1 for none.
fn moment(ms: u64) -> i64 {
    if ms == 0 { -1 } else { ms as i64 }
}

/// CheckpointStatistics
fn statistics_of(record: &CheckpointRecord, now_ms: u64) -> Value {
    let class = match record.status {
        CheckpointStatus::InProgress => "in_progress",
        CheckpointStatus::Completed => "completed",
        CheckpointStatus::Failed => "failed",
    };
    let mut statistics = json!({
        "className": class,
        "id": record.id,
        "status": record.status.as_str(),
        "is_savepoint": record.savepoint,
        "savepointFormat": record.savepoint.then_some("CANONICAL"),
        "trigger_timestamp": record.triggered_ms,
        "latest_ack_timestamp": moment(record.latest_acknowledged_ms()),
        "checkpointed_size": record.checkpointed_bytes(),
        "state_size": record.state_bytes(),
        "end_to_end_duration": record.duration_ms(now_ms),
        "alignment_buffered": 0,
        "processed_data": record.processed_bytes(),
        "persisted_data": record.persisted_bytes(),
        "num_subtasks": record.subtasks(),
        "num_acknowledged_subtasks": record.acknowledged_subtasks(),
        "checkpoint_type": record.checkpoint_type,
        "tasks": {},
    });
    match record.status {
        CheckpointStatus::InProgress => {}
        CheckpointStatus::Completed => {
            statistics["external_path"] = json!(record.external_path);
            statistics["discarded"] = json!(record.discarded);
        }
        CheckpointStatus::Failed => {
            statistics["failure_timestamp"] = json!(moment(record.ended_ms));
            statistics["failure_message"] = json!(record.failure);
        }
    }
    statistics
}

fn status_of(record: &CheckpointRecord, vertex: &VertexRecord) -> &'static str {
    if vertex.acknowledged.len() == vertex.subtasks as usize {
        CheckpointStatus::Completed.as_str()
    } else {
        record.status.as_str()
    }
}

/// TaskCheckpointStatistics
fn task(record: &CheckpointRecord, vertex: &VertexRecord, now_ms: u64) -> Value {
    let acknowledged = &vertex.acknowledged;
    let latest = acknowledged.iter().map(|subtask| subtask.acknowledged_ms).max();
    let end = if acknowledged.len() == vertex.subtasks as usize {
        latest.unwrap_or(record.triggered_ms)
    } else if record.ended_ms > 0 {
        record.ended_ms
    } else {
        now_ms
    };
    let sum = |of: fn(&CheckpointMetrics) -> u64| -> u64 {
        acknowledged.iter().map(|subtask| of(&subtask.metrics)).sum()
    };
    json!({
        "id": record.id,
        "status": status_of(record, vertex),
        "latest_ack_timestamp": moment(latest.unwrap_or(0)),
        "checkpointed_size": sum(|metrics| metrics.checkpointed_bytes),
        "state_size": sum(|metrics| metrics.full_bytes),
        "end_to_end_duration": end.saturating_sub(record.triggered_ms),
        "alignment_buffered": 0,
        "processed_data": sum(|metrics| metrics.processed_bytes),
        "persisted_data": sum(|metrics| metrics.persisted_bytes),
        "num_subtasks": vertex.subtasks,
        "num_acknowledged_subtasks": acknowledged.len(),
    })
}

fn subtask_summary(record: &CheckpointRecord, vertex: &VertexRecord) -> Value {
    let of = |value: &dyn Fn(&SubtaskRecord) -> u64| {
        let values: Vec<u64> = vertex.acknowledged.iter().map(value).collect();
        summary(Summary {
            min: values.iter().copied().min().unwrap_or(0),
            max: values.iter().copied().max().unwrap_or(0),
            avg: values
                .iter()
                .sum::<u64>()
                .checked_div(values.len() as u64)
                .unwrap_or(0),
        })
    };
    json!({
        "checkpointed_size": of(&|subtask| subtask.metrics.checkpointed_bytes),
        "state_size": of(&|subtask| subtask.metrics.full_bytes),
        "end_to_end_duration": of(&|subtask| subtask.acknowledged_ms.saturating_sub(record.triggered_ms)),
        "checkpoint_duration": {
            "sync": of(&|subtask| subtask.metrics.sync_us / 1000),
            "async": of(&|subtask| subtask.metrics.async_ms),
        },
        "alignment": {
            "buffered": of(&|_| 0),
            "processed": of(&|subtask| subtask.metrics.processed_bytes),
            "persisted": of(&|subtask| subtask.metrics.persisted_bytes),
            "duration": of(&|subtask| subtask.metrics.alignment_ms),
        },
        "start_delay": of(&|subtask| subtask.metrics.start_delay_ms),
    })
}

/// Every subtask by its number: `completed`, `pending` or, of a checkpoint that failed, `failed`.
fn subtasks_of(record: &CheckpointRecord, vertex: &VertexRecord) -> Value {
    let missing = if record.status == CheckpointStatus::InProgress {
        "pending"
    } else {
        "failed"
    };
    let subtask = |index: u32| {
        let acknowledged = vertex
            .acknowledged
            .iter()
            .find(|subtask| subtask.subtask == index);
        acknowledged.map_or_else(
            || json!({ "index": index, "status": missing }),
            |acknowledged| completed_subtask(record, acknowledged),
        )
    };
    (0..vertex.subtasks).map(subtask).collect()
}

fn completed_subtask(record: &CheckpointRecord, subtask: &SubtaskRecord) -> Value {
    let metrics = &subtask.metrics;
    json!({
        "index": subtask.subtask,
        "status": "completed",
        "ack_timestamp": subtask.acknowledged_ms,
        "end_to_end_duration": subtask.acknowledged_ms.saturating_sub(record.triggered_ms),
        "checkpointed_size": metrics.checkpointed_bytes,
        "state_size": metrics.full_bytes,
        "checkpoint": { "sync": metrics.sync_us / 1000, "async": metrics.async_ms },
        "alignment": {
            "buffered": 0,
            "processed": metrics.processed_bytes,
            "persisted": metrics.persisted_bytes,
            "duration": metrics.alignment_ms,
        },
        "start_delay": metrics.start_delay_ms,
        "unaligned_checkpoint": metrics.unaligned,
        "aborted": false,
    })
}

/// CheckpointConfigInfo
fn configuration(config: &CheckpointConfig) -> Value {
    let mode = match config.mode {
        CheckpointingMode::ExactlyOnce => "exactly_once",
        CheckpointingMode::AtLeastOnce => "at_least_once",
    };
    let backend = match config.backend {
        StateBackend::HashMap => "hashmap",
        StateBackend::RocksDb => "rocksdb",
    };
    json!({
        "mode": mode,
        // Flink's for "never"
        "interval": config.interval_ms.filter(|_| config.is_periodic()).unwrap_or(i64::MAX as u64),
        "timeout": config.timeout_ms,
        "min_pause": config.min_pause_ms,
        "max_concurrent": config.max_concurrent,
        "externalization": {
            "enabled": config.retention != CheckpointRetention::None,
            "delete_on_cancellation": config.retention != CheckpointRetention::RetainOnCancellation,
        },
        "state_backend": backend,
        "checkpoint_storage": "filesystem",
        "unaligned_checkpoints": config.unaligned,
        "tolerable_failed_checkpoints": config.tolerable_failures,
        "aligned_checkpoint_timeout": config.aligned_timeout_ms,
        "checkpoints_after_tasks_finish": config.after_tasks_finish,
        "state_changelog_enabled": false,
        "changelog_storage": null,
        "changelog_periodic_materialization_interval": null,
    })
}
