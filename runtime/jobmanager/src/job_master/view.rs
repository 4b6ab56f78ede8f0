//! What others read of a job: REST, metrics, the operator.

use thalweg_graph::execution::{Execution, FailureEntry, JobStatus, TaskState};
use thalweg_proto::cluster::v1 as cluster;
use thalweg_proto::control::v1::TaskMetrics;
use thalweg_proto::graph::v1::JobGraph;
use thalweg_types::config::{Configuration, options};
use thalweg_types::{ExecutionId, Failure, JobId, VertexId};

use super::{Checkpoints, JobMaster, Operation};
use crate::failure::failure_to_proto;

impl JobMaster {
    pub(crate) fn id(&self) -> JobId {
        self.graph.job_id()
    }

    pub(crate) fn name(&self) -> &str {
        &self.graph.job_graph().job_name
    }

    pub(crate) fn job_graph(&self) -> &JobGraph {
        self.graph.job_graph()
    }

    pub(crate) fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Whether TaskManagers may have copies of its state files.
    pub(crate) fn keeps_local_copies(&self) -> bool {
        let recover = self.configuration.get(&options::RECOVER_FROM_LOCAL);
        let backup = self.configuration.get(&options::LOCAL_BACKUP_ENABLED);
        backup.ok().flatten().or(recover.ok()).unwrap_or_default()
    }

    /// Whether it is the application of this JobManager, whose result stays.
    pub(crate) fn is_application(&self) -> bool {
        self.is_application
    }

    /// As it is shown: an end that the log does not have yet is none.
    pub(crate) fn state_name(&self) -> &'static str {
        if self.given_up.is_some() {
            return JobStatus::Failed.as_str();
        }
        let status = match (self.graph.status(), self.end_is_hidden) {
            (JobStatus::Finished, true) => JobStatus::Running,
            (JobStatus::Canceled, true) => JobStatus::Cancelling,
            (JobStatus::Failed, true) => JobStatus::Failing,
            (status, _) => status,
        };
        status.as_str()
    }

    /// Whether its end may be told.
    pub(crate) fn shows_end(&self) -> bool {
        self.is_ended() && !self.end_is_hidden
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.graph.status().is_terminal()
    }

    /// Whether it has ended for every JobManager, this one's successors included.
    pub(crate) fn is_over(&self) -> bool {
        self.graph.status().is_globally_terminal()
    }

    pub(crate) fn start_ms(&self) -> u64 {
        self.started_ms
    }

    pub(crate) fn state_since_ms(&self) -> u64 {
        self.graph.status_timestamps().latest()
    }

    pub(crate) fn end_ms(&self) -> Option<u64> {
        self.shows_end().then(|| self.state_since_ms())
    }

    /// Each status, and when it was last entered; 0 = never.
    pub(crate) fn timestamps(&self) -> impl Iterator<Item = (&'static str, u64)> {
        JobStatus::ALL.iter().map(|status| {
            let is_hidden = self.end_is_hidden && status.is_terminal();
            let entered_ms = self.graph.status_timestamps().of(*status);
            (status.as_str(), entered_ms.filter(|_| !is_hidden).unwrap_or(0))
        })
    }

    pub(crate) fn restarts(&self) -> u32 {
        self.graph.restarts()
    }

    pub(crate) fn slots_required(&self) -> u32 {
        self.graph.slots_required()
    }

    pub(crate) fn vertex_index(&self, id: VertexId) -> Option<usize> {
        self.graph.vertex_position(id)
    }

    /// The subtasks of a vertex.
    pub(crate) fn tasks(&self, vertex: usize) -> &[Execution] {
        self.graph.executions(vertex)
    }

    pub(crate) fn all_tasks(&self) -> impl Iterator<Item = &Execution> {
        (0..self.job_graph().vertices.len()).flat_map(|vertex| self.graph.executions(vertex))
    }

    pub(crate) fn metrics(&self, vertex: usize, subtask: usize) -> Option<&TaskMetrics> {
        self.metrics.get(&(vertex, subtask as u32))
    }

    /// Newest first.
    pub(crate) fn failures(&self) -> impl Iterator<Item = &FailureEntry> {
        self.graph.failure_history().rev()
    }

    pub(crate) fn last_failure(&self) -> Option<&Failure> {
        let newest = self.graph.last_failure().map(|entry| &entry.failure);
        self.given_up.as_ref().or(newest)
    }

    /// Whether it can be ended behind a savepoint.
    pub(crate) fn is_stoppable(&self) -> bool {
        !self.is_ended()
    }

    /// An operation on its snapshots, as long as it is remembered.
    pub(crate) fn operation(&self, id: &str) -> Option<&Operation> {
        self.checkpoints.operation(id)
    }

    /// What REST and metrics say of its checkpoints.
    pub(crate) fn checkpoints(&self) -> &Checkpoints {
        &self.checkpoints
    }

    /// `Map (2/4)`
    pub(super) fn task_name(&self, id: &ExecutionId) -> String {
        let vertex = self.graph.vertex_position(id.vertex);
        let vertex = vertex.and_then(|vertex| self.job_graph().vertices.get(vertex));
        vertex.map_or_else(
            || id.to_string(),
            |vertex| format!("{} ({}/{})", vertex.name, id.subtask + 1, vertex.parallelism),
        )
    }

    /// The operator's view. Why it waits for slots is the ResourceManager's to say.
    pub(crate) fn status_message(&self) -> cluster::JobStatus {
        cluster::JobStatus {
            job_id: self.id().to_string(),
            name: self.name().to_owned(),
            state: self.state_name().to_owned(),
            start_time_ms: self.started_ms,
            state_since_ms: self.state_since_ms(),
            restarts: self.restarts(),
            slots_required: self.slots_required(),
            slots_held: self.graph.slots_held(),
            tasks_total: self.graph.tasks_total(),
            tasks_running: self.graph.tasks_in(TaskState::Running),
            last_failure: self.last_failure().map(failure_to_proto),
            operation_id: self.operation_id.clone(),
            waiting_for: self.graph.waiting_for().unwrap_or_default(),
            checkpoints: Some(self.checkpoints.status_message()),
            savepoints: self.checkpoints.savepoints(),
        }
    }
}
