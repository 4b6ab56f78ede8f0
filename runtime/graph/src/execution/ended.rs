//! A job that ended under an earlier leader.

use thalweg_proto::graph::v1::JobGraph;
use thalweg_types::Failure;

use super::{ExecutionGraph, FailureEntry, JobStatus, TaskState};
use crate::GraphError;

impl ExecutionGraph {
    /// Nothing of its tasks is known but that they are over. Times are milliseconds since the epoch.
    pub fn ended(
        job: JobGraph,
        status: JobStatus,
        failure: Option<Failure>,
        started_ms: u64,
        ended_ms: u64,
    ) -> Result<Self, GraphError> {
        let mut graph = Self::new(job, started_ms)?;
        graph.status = status;
        graph.status_timestamps.enter(status, ended_ms);
        let task = match status {
            JobStatus::Finished => TaskState::Finished,
            _ => TaskState::Canceled,
        };
        for execution in graph.executions.iter_mut().flatten() {
            execution.enter(task, ended_ms);
        }
        graph.history.extend(failure.map(|failure| FailureEntry {
            timestamp_ms: ended_ms,
            failure,
            task_name: None,
            execution: None,
            task_manager: None,
            concurrent: Vec::new(),
        }));
        Ok(graph)
    }
}
