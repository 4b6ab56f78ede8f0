//! Flink's JSON of jobs, vertices and plans, from the control plane's state. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use thalweg_graph::execution::{Execution, FailureEntry, TaskState};
use thalweg_proto::control::v1::TaskMetrics;
use thalweg_proto::graph::v1::{JobEdge, JobGraph, JobVertex, Partitioner};
use thalweg_types::Failure;
use thalweg_types::config::{RestartStrategyKind, options};

use crate::dispatcher::Dispatcher;
use crate::job_master::{JobMaster, Operation, OperationKind};

pub(super) fn cluster_overview(dispatcher: &Dispatcher) -> Value {
    let count = |states: &[&str]| {
        dispatcher
            .jobs()
            .filter(|job| states.contains(&job.state_name()))
            .count()
    };
    let (finished, canceled, failed) = (count(&["FINISHED"]), count(&["CANCELED"]), count(&["FAILED"]));
    let resources = dispatcher.resources();
    json!({
        "taskmanagers": resources.registry.iter().count(),
        "taskmanagers-blocked": 0,
        "slots-total": resources.pool.total(),
        "slots-available": resources.pool.free(),
        "jobs-running": dispatcher.jobs().count() - finished - canceled - failed,
        "jobs-finished": finished,
        "jobs-cancelled": canceled,
        "jobs-failed": failed,
        "flink-version": env!("CARGO_PKG_VERSION"),
        "flink-commit": "thalweg",
    })
}

/// How many tasks are in which state; every state is there.
fn counts<'a>(tasks: impl Iterator<Item = &'a Execution>) -> BTreeMap<&'static str, u32> {
    let mut counts: BTreeMap<_, _> = TaskState::ALL.iter().map(|state| (state.as_str(), 0)).collect();
    for task in tasks {
        *counts.entry(task.state.as_str()).or_default() += 1;
    }
    counts
}

/// When a task was sent to its worker; Flink's start of an attempt.
fn start_ms(task: &Execution) -> Option<u64> {
    task.timestamps.of(TaskState::Deploying)
}

fn end_ms(task: &Execution) -> Option<u64> {
    task.state.is_terminal().then(|| task.timestamps.latest())
}

/// How long a task was in each state that it has entered.
fn durations(task: &Execution, now_ms: u64) -> impl Iterator<Item = (TaskState, u64)> {
    let entered = TaskState::ALL
        .iter()
        .filter_map(|state| Some((*state, task.timestamps.of(*state)?)));
    let mut entered: Vec<(TaskState, u64)> = entered.collect();
    entered.sort_by_key(|(_, at_ms)| *at_ms);
    let ends: Vec<u64> = entered
        .iter()
        .skip(1)
        .map(|(_, at_ms)| *at_ms)
        .chain([now_ms])
        .collect();
    entered
        .into_iter()
        .zip(ends)
        .map(|((state, at_ms), end_ms)| (state, end_ms.saturating_sub(at_ms)))
}

/// Where a task runs, for people.
fn endpoint(task: &Execution) -> &str {
    task.task_manager
        .as_ref()
        .map_or("(unassigned)", |id| id.0.as_str())
}

fn end_time(job: &JobMaster) -> i64 {
    job.end_ms().map_or(-1, |end| end as i64)
}

fn duration(job: &JobMaster, now_ms: u64) -> u64 {
    job.end_ms().unwrap_or(now_ms).saturating_sub(job.start_ms())
}

pub(super) fn job_overview(job: &JobMaster, now_ms: u64) -> Value {
    let counts = counts(job.all_tasks());
    let mut tasks: Map<String, Value> = counts
        .iter()
        .map(|(state, count)| (state.to_lowercase(), json!(count)))
        .collect();
    tasks.insert("total".to_owned(), json!(counts.values().sum::<u32>()));
    json!({
        "jid": job.id().to_string(),
        "name": job.name(),
        "state": job.state_name(),
        "start-time": job.start_ms(),
        "end-time": end_time(job),
        "duration": duration(job, now_ms),
        "last-modification": job.state_since_ms(),
        "tasks": tasks,
        "pending-operators": 0,
        "job-type": "STREAMING",
        "schedulerType": "Default",
    })
}

pub(super) fn job_details(job: &JobMaster, now_ms: u64) -> Value {
    let graph = job.job_graph();
    let vertices: Vec<Value> = graph
        .vertices
        .iter()
        .enumerate()
        .map(|(index, vertex)| vertex_summary(job, vertex, index, now_ms))
        .collect();
    let mut status_counts: BTreeMap<String, u32> = TaskState::ALL
        .iter()
        .map(|state| (state.as_str().to_owned(), 0))
        .collect();
    for vertex in &vertices {
        if let Some(state) = vertex["status"].as_str() {
            *status_counts.entry(state.to_owned()).or_default() += 1;
        }
    }
    json!({
        "jid": job.id().to_string(),
        "name": job.name(),
        "isStoppable": job.is_stoppable(),
        "state": job.state_name(),
        "job-type": "STREAMING",
        "schedulerType": "Default",
        "start-time": job.start_ms(),
        "end-time": end_time(job),
        "duration": duration(job, now_ms),
        "maxParallelism": graph.vertices.iter().map(|vertex| vertex.max_parallelism).max().unwrap_or(0),
        "now": now_ms,
        "timestamps": timestamps(job),
        "vertices": vertices,
        "status-counts": status_counts,
        "plan": plan(graph),
        "pending-operators": 0,
    })
}

/// When the job entered each state; 0 = never.
fn timestamps(job: &JobMaster) -> Value {
    job.timestamps()
        .map(|(state, at_ms)| (state.to_owned(), json!(at_ms)))
        .collect::<Map<_, _>>()
        .into()
}

/// Flink's aggregation of a vertex' subtasks to one state.
fn aggregate_state(states: &[TaskState]) -> TaskState {
    let count = |state| states.iter().filter(|other| **other == state).count();
    let dominant = [
        TaskState::Failed,
        TaskState::Canceling,
        TaskState::Canceled,
        TaskState::Initializing,
        TaskState::Running,
        TaskState::Reconciling,
    ];
    match dominant.into_iter().find(|state| count(*state) > 0) {
        Some(state) => state,
        None if count(TaskState::Finished) == states.len() => TaskState::Finished,
        None if count(TaskState::Finished) > 0 => TaskState::Running,
        None => {
            let early = [TaskState::Deploying, TaskState::Scheduled];
            early
                .into_iter()
                .find(|state| count(*state) > 0)
                .unwrap_or(TaskState::Created)
        }
    }
}

fn vertex_summary(job: &JobMaster, vertex: &JobVertex, index: usize, now_ms: u64) -> Value {
    let tasks = job.tasks(index);
    let state = aggregate_state(&tasks.iter().map(|task| task.state).collect::<Vec<_>>());
    let start = tasks.iter().filter_map(start_ms).min();
    let ended = tasks.iter().all(|task| end_ms(task).is_some());
    let end = tasks.iter().filter_map(end_ms).max().filter(|_| ended);
    let mut metrics = TaskMetrics::default();
    for subtask in 0..tasks.len() {
        if let Some(task) = job.metrics(index, subtask) {
            add(&mut metrics, task);
        }
    }
    json!({
        "id": vertex.id,
        "slotSharingGroupId": vertex.slot_sharing_group,
        "name": vertex.name,
        "maxParallelism": vertex.max_parallelism,
        "parallelism": vertex.parallelism,
        "status": state.as_str(),
        "start-time": start.map_or(-1, |at| at as i64),
        "end-time": end.map_or(-1, |at| at as i64),
        "duration": start.map_or(-1, |at| end.unwrap_or(now_ms).saturating_sub(at) as i64),
        "tasks": counts(tasks.iter()),
        "metrics": io_metrics(&metrics, ended && start.is_some()),
    })
}

fn add(sum: &mut TaskMetrics, task: &TaskMetrics) {
    sum.bytes_in += task.bytes_in;
    sum.bytes_out += task.bytes_out;
    sum.records_in += task.records_in;
    sum.records_out += task.records_out;
}

fn io_metrics(metrics: &TaskMetrics, complete: bool) -> Value {
    json!({
        "read-bytes": metrics.bytes_in,
        "read-bytes-complete": complete,
        "write-bytes": metrics.bytes_out,
        "write-bytes-complete": complete,
        "read-records": metrics.records_in,
        "read-records-complete": complete,
        "write-records": metrics.records_out,
        "write-records-complete": complete,
    })
}

pub(super) fn vertex_details(job: &JobMaster, index: usize, now_ms: u64) -> Value {
    let vertex = &job.job_graph().vertices[index];
    let subtasks = job.tasks(index).iter().enumerate();
    let subtasks: Vec<Value> = subtasks
        .map(|(subtask, task)| subtask_summary(job, index, subtask, task, now_ms))
        .collect();
    json!({
        "id": vertex.id,
        "name": vertex.name,
        "parallelism": vertex.parallelism,
        "maxParallelism": vertex.max_parallelism,
        "now": now_ms,
        "subtasks": subtasks,
        "aggregated": { "metrics": {}, "status-duration": {} },
    })
}

fn subtask_summary(job: &JobMaster, index: usize, subtask: usize, task: &Execution, now_ms: u64) -> Value {
    let metrics = job.metrics(index, subtask).cloned().unwrap_or_default();
    let start = start_ms(task);
    let status_duration: Map<String, Value> = durations(task, now_ms)
        .map(|(state, ms)| (state.as_str().to_owned(), json!(ms)))
        .collect();
    json!({
        "subtask": subtask,
        "status": task.state.as_str(),
        "attempt": task.attempt,
        "endpoint": endpoint(task),
        "start-time": start.map_or(-1, |at| at as i64),
        "end-time": end_ms(task).map_or(-1, |at| at as i64),
        "duration": start.map_or(-1, |at| end_ms(task).unwrap_or(now_ms).saturating_sub(at) as i64),
        "metrics": io_metrics(&metrics, end_ms(task).is_some()),
        "taskmanager-id": task.task_manager.as_ref().map_or("(unassigned)".to_owned(), ToString::to_string),
        "status-duration": status_duration,
    })
}

pub(super) fn vertex_task_managers(job: &JobMaster, index: usize, now_ms: u64) -> Value {
    let vertex = &job.job_graph().vertices[index];
    let mut by_task_manager: BTreeMap<String, Vec<&Execution>> = BTreeMap::new();
    for task in job.tasks(index) {
        let id = task
            .task_manager
            .as_ref()
            .map_or("(unassigned)".to_owned(), ToString::to_string);
        by_task_manager.entry(id).or_default().push(task);
    }
    let list: Vec<Value> = by_task_manager
        .iter()
        .map(|(id, tasks)| {
            let states: Vec<TaskState> = tasks.iter().map(|task| task.state).collect();
            json!({
                "taskmanager-id": id,
                "endpoint": tasks.first().map_or("", |task| endpoint(task)),
                "status": aggregate_state(&states).as_str(),
                "status-counts": counts(tasks.iter().copied()),
            })
        })
        .collect();
    json!({ "id": vertex.id, "name": vertex.name, "now": now_ms, "taskmanagers": list })
}

pub(super) fn backpressure(job: &JobMaster, index: usize, now_ms: u64) -> Value {
    let ratio = |ms_per_second: f64| (ms_per_second / 1000.0).clamp(0.0, 1.0);
    let level = |ratio: f64| match ratio {
        ratio if ratio <= 0.10 => "ok",
        ratio if ratio <= 0.5 => "low",
        _ => "high",
    };
    let mut worst: f64 = 0.0;
    let subtasks: Vec<Value> = (0..job.tasks(index).len())
        .filter_map(|subtask| Some((subtask, job.metrics(index, subtask)?)))
        .map(|(subtask, task)| {
            let backpressured = ratio(task.backpressured_ms_per_second);
            worst = worst.max(backpressured);
            json!({
                "subtask": subtask,
                "backpressureLevel": level(backpressured),
                "backpressure-level": level(backpressured),
                "ratio": backpressured,
                "idleRatio": ratio(task.idle_ms_per_second),
                "busyRatio": ratio(task.busy_ms_per_second),
            })
        })
        .collect();
    json!({
        "status": "ok",
        "backpressureLevel": level(worst),
        "backpressure-level": level(worst),
        "end-timestamp": now_ms,
        "subtasks": subtasks,
    })
}

/// Names as Flink gives them per vertex: `<subtask>.<metric>`, operators' by `<subtask>.<operator>.<metric>`.
pub(super) fn vertex_metric_values(job: &JobMaster, index: usize) -> Vec<(String, f64)> {
    let mut values = Vec::new();
    for subtask in 0..job.tasks(index).len() {
        let Some(task) = job.metrics(index, subtask) else {
            continue;
        };
        let own = [
            ("numRecordsIn", task.records_in as f64),
            ("numRecordsOut", task.records_out as f64),
            ("numBytesIn", task.bytes_in as f64),
            ("numBytesOut", task.bytes_out as f64),
            ("busyTimeMsPerSecond", task.busy_ms_per_second),
            ("idleTimeMsPerSecond", task.idle_ms_per_second),
            ("backPressuredTimeMsPerSecond", task.backpressured_ms_per_second),
        ];
        values.extend(own.map(|(name, value)| (format!("{subtask}.{name}"), value)));
        for operator in &task.operators {
            let name = metric_scope(&operator.operator_name);
            values.push((
                format!("{subtask}.{name}.numRecordsIn"),
                operator.records_in as f64,
            ));
            values.push((
                format!("{subtask}.{name}.numRecordsOut"),
                operator.records_out as f64,
            ));
            let gauges = operator.gauges.iter();
            values.extend(gauges.map(|(gauge, value)| (format!("{subtask}.{name}.{gauge}"), *value)));
        }
    }
    values
}

/// An operator's name as it stands in metric names: `Source: in` is `Source__in`.
fn metric_scope(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '_' {
                c
            } else {
                '_'
            }
        })
        .collect()
}

/// `[{id}]` of all, or `[{id, value}]` of those asked for.
pub(super) fn metrics(values: impl Iterator<Item = (String, f64)>, get: Option<&str>) -> Value {
    match get {
        None => values.map(|(name, _)| json!({ "id": name })).collect(),
        Some(wanted) => {
            let wanted: Vec<&str> = wanted.split(',').collect();
            let found = values.filter(|(name, _)| wanted.contains(&name.as_str()));
            found
                .map(|(name, value)| json!({ "id": name, "value": value.to_string() }))
                .collect()
        }
    }
}

pub(super) fn job_config(job: &JobMaster) -> Value {
    let configuration = job.configuration();
    let parallelism = configuration.get(&options::PARALLELISM_DEFAULT).unwrap_or(1);
    let restart_strategy = match configuration.get(&options::RESTART_STRATEGY) {
        Ok(Some(RestartStrategyKind::FixedDelay)) => "fixed-delay",
        Ok(Some(RestartStrategyKind::FailureRate)) => "failure-rate",
        Ok(Some(RestartStrategyKind::ExponentialDelay)) => "exponential-delay",
        Ok(Some(RestartStrategyKind::None)) => "none",
        Ok(None) | Err(_) => "Cluster level default restart strategy",
    };
    let user: Map<String, Value> = configuration
        .iter()
        .map(|(key, value)| (key.to_owned(), json!(value)))
        .collect();
    json!({
        "jid": job.id().to_string(),
        "name": job.name(),
        "execution-config": {
            "restart-strategy": restart_strategy,
            "job-parallelism": parallelism,
            "object-reuse-mode": false,
            "user-config": user,
        },
    })
}

/// Flink's plan: vertices with their inputs.
pub(super) fn plan(graph: &JobGraph) -> Value {
    let nodes: Vec<Value> = graph
        .vertices
        .iter()
        .map(|vertex| plan_node(graph, vertex))
        .collect();
    json!({ "jid": graph.job_id, "name": graph.job_name, "type": "STREAMING", "nodes": nodes })
}

fn plan_node(graph: &JobGraph, vertex: &JobVertex) -> Value {
    let inputs = graph.edges.iter().filter(|edge| edge.target_vertex == vertex.id);
    let inputs: Vec<Value> = inputs
        .enumerate()
        .map(|(index, edge)| plan_input(index, edge))
        .collect();
    let mut node = json!({
        "id": vertex.id,
        "parallelism": vertex.parallelism,
        "operator": "",
        "operator_strategy": "",
        "description": vertex.name,
        "optimizer_properties": {},
    });
    if !inputs.is_empty() {
        node["inputs"] = inputs.into();
    }
    node
}

fn plan_input(index: usize, edge: &JobEdge) -> Value {
    let partitioner = edge.edge.as_ref().map(|edge| edge.partitioner());
    let ship_strategy = match partitioner.unwrap_or_default() {
        Partitioner::Forward | Partitioner::Unspecified => "FORWARD",
        Partitioner::Rebalance => "REBALANCE",
        Partitioner::Rescale => "RESCALE",
        Partitioner::Broadcast => "BROADCAST",
        Partitioner::Hash => "HASH",
        Partitioner::Shuffle => "SHUFFLE",
        Partitioner::Global => "GLOBAL",
    };
    json!({
        "num": index,
        "id": edge.source_vertex,
        "ship_strategy": ship_strategy,
        "exchange": "pipelined_bounded",
    })
}

pub(super) fn exceptions(job: &JobMaster, max: usize) -> Value {
    let entries: Vec<Value> = job
        .failures()
        .take(max)
        .map(|entry| {
            let mut exception = exception(entry);
            exception["concurrentExceptions"] = entry.concurrent.iter().map(self::exception).collect();
            exception
        })
        .collect();
    let truncated = entries.len() < job.failures().count();
    json!({ "exceptionHistory": { "entries": entries, "truncated": truncated } })
}

fn exception(entry: &FailureEntry) -> Value {
    let task_manager = entry.task_manager.as_ref().map(ToString::to_string);
    json!({
        "exceptionName": entry.failure.message,
        "stacktrace": stack(&entry.failure),
        "timestamp": entry.timestamp_ms,
        "taskName": entry.task_name,
        "endpoint": task_manager,
        "taskManagerId": task_manager,
        "failureLabels": {},
    })
}

fn stack(failure: &Failure) -> String {
    if failure.detail.is_empty() {
        failure.message.clone()
    } else {
        format!("{}\n{}", failure.message, failure.detail)
    }
}

/// Flink's SerializedThrowable, without the bytes of a Java object.
pub(super) fn failure_cause(failure: &Failure) -> Value {
    json!({ "class": "CheckpointException", "stack-trace": stack(failure), "serialized-throwable": "" })
}

/// How an operation on a snapshot goes: Flink's AsynchronousOperationResult.
pub(super) fn operation(operation: &Operation) -> Value {
    let checkpoint = operation.kind == OperationKind::Checkpoint;
    let result = match &operation.end {
        None => return json!({ "status": { "id": "IN_PROGRESS" }, "operation": null }),
        Some((_, Ok(made))) if checkpoint => json!({ "checkpointId": made.checkpoint_id }),
        Some((_, Ok(made))) => json!({ "location": made.path }),
        Some((_, Err(failure))) if checkpoint => json!({ "failureCause": failure_cause(failure) }),
        Some((_, Err(failure))) => json!({ "failure-cause": failure_cause(failure) }),
    };
    json!({ "status": { "id": "COMPLETED" }, "operation": result })
}

pub(super) fn execution_result(job: &JobMaster, now_ms: u64) -> Value {
    if !job.shows_end() {
        return json!({ "status": { "id": "IN_PROGRESS" } });
    }
    let application_status = match job.state_name() {
        "FINISHED" => "SUCCEEDED",
        other => other,
    };
    let mut result = json!({
        "id": job.id().to_string(),
        "application-status": application_status,
        "accumulator-results": {},
        "net-runtime": duration(job, now_ms),
    });
    if let Some(failure) = job.last_failure().filter(|_| job.state_name() == "FAILED") {
        result["failure-cause"] = json!({
            "class": "JobExecutionException",
            "stack-trace": stack(failure),
        });
    }
    json!({ "status": { "id": "COMPLETED" }, "job-execution-result": result })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vertex_is_what_its_worst_subtask_is() {
        use TaskState::{Canceled, Created, Failed, Finished, Running, Scheduled};
        assert_eq!(aggregate_state(&[Running, Failed, Finished]), Failed);
        assert_eq!(aggregate_state(&[Running, Canceled]), Canceled);
        assert_eq!(aggregate_state(&[Finished, Finished]), Finished);
        assert_eq!(aggregate_state(&[Finished, Created]), Running);
        assert_eq!(aggregate_state(&[Scheduled, Created]), Scheduled);
    }

    #[test]
    fn metrics_are_names_until_values_are_asked_for() {
        let values = || [("a".to_owned(), 1.0), ("b".to_owned(), 2.5)].into_iter();
        assert_eq!(metrics(values(), None), json!([{ "id": "a" }, { "id": "b" }]));
        assert_eq!(
            metrics(values(), Some("b,c")),
            json!([{ "id": "b", "value": "2.5" }])
        );
    }
}
