//! Watermark alignment: what source tasks say of their watermarks, and what they are told, vertex by vertex at its interval.

use thalweg_graph::execution::{ExecutionGraph, TaskState};
use thalweg_graph::{AlignedVertex, WatermarkGroups};
use thalweg_proto::control::v1::job_manager_command::Command;
use thalweg_proto::control::v1::{AlignWatermarks, ExecutionAttempt, ReportWatermark};
use thalweg_types::ExecutionId;

use super::checkpoints::by_task_manager;
use super::{JobAction, JobTimer};

/// A job's groups.
pub(super) struct Alignment(WatermarkGroups);

impl Alignment {
    pub(super) fn new(graph: &ExecutionGraph) -> Self {
        Self(WatermarkGroups::of(graph.job_graph()))
    }

    /// The first announcement of each aligned vertex.
    pub(super) fn start(&self) -> Vec<JobAction> {
        (0..self.0.vertices().len())
            .filter_map(|place| self.next(place))
            .collect()
    }

    pub(super) fn report(
        &mut self,
        execution: ExecutionId,
        report: &ReportWatermark,
        graph: &ExecutionGraph,
    ) {
        if let Some(vertex) = graph.vertex_position(execution.vertex) {
            self.0
                .report(vertex, execution.subtask, execution.attempt, report.watermark_ms);
        }
    }

    /// Tells the running tasks of an aligned vertex how far they may go.
    pub(super) fn announce(&self, place: usize, graph: &ExecutionGraph) -> Vec<JobAction> {
        let Some(aligned) = self.0.vertices().get(place) else {
            return Vec::new();
        };
        let max_watermark_ms = self.0.max_watermark(place, |vertex, subtask, attempt| {
            let current = graph.executions(vertex).get(subtask as usize);
            current.is_some_and(|current| current.attempt == attempt && current.state == TaskState::Running)
        });
        let commands = by_task_manager(graph, running(aligned, graph)).into_iter();
        let align = |executions| {
            Box::new(Command::AlignWatermarks(AlignWatermarks {
                executions,
                max_watermark_ms,
            }))
        };
        commands
            .map(|(task_manager, executions)| JobAction::Send(task_manager, align(executions)))
            .chain(self.next(place))
            .collect()
    }

    fn next(&self, place: usize) -> Option<JobAction> {
        let interval_ms = self.0.vertices().get(place)?.update_interval_ms;
        Some(JobAction::SetTimer(interval_ms, JobTimer::Alignment(place)))
    }
}

fn running(aligned: &AlignedVertex, graph: &ExecutionGraph) -> Vec<ExecutionAttempt> {
    let vertex_id = &graph.job_graph().vertices[aligned.vertex].id;
    let executions = (0..).zip(graph.executions(aligned.vertex));
    let running = executions.filter(|(_, execution)| execution.state == TaskState::Running);
    let attempt = |(subtask, execution): (u32, &thalweg_graph::execution::Execution)| ExecutionAttempt {
        job_id: graph.job_id().to_string(),
        vertex_id: vertex_id.clone(),
        subtask,
        attempt: execution.attempt,
    };
    running.map(attempt).collect()
}
