//! The tasks of the job as the coordinator sees them: who runs, who has finished, and who is given the barrier.

use std::collections::HashMap;

use thalweg_graph::channels_into;
use thalweg_proto::control::v1::ExecutionAttempt;
use thalweg_proto::graph::v1::JobGraph;
use thalweg_proto::state::v1::TaskSnapshot;

/// One task.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TaskStatus {
    /// Not there, or not running yet.
    Absent,
    /// This attempt runs.
    Running(u32),
    /// This attempt has finished, with these lists.
    Finished(u32, TaskSnapshot),
}

/// All tasks; a task is named by its place: vertices in topological order, their subtasks in a row.
#[derive(Debug)]
pub(super) struct Tasks {
    graph: JobGraph,
    /// Place of each vertex's first subtask.
    first: Vec<usize>,
    vertex_of: HashMap<String, usize>,
    status: Vec<TaskStatus>,
    /// Older attempts are over, whatever still comes of them.
    oldest_attempt: Vec<u32>,
}

impl Tasks {
    pub(super) fn new(graph: JobGraph) -> Self {
        let mut first = Vec::with_capacity(graph.vertices.len());
        let mut count = 0;
        for vertex in &graph.vertices {
            first.push(count);
            count += vertex.parallelism as usize;
        }
        let names = graph.vertices.iter().map(|vertex| vertex.id.clone());
        Self {
            vertex_of: names.enumerate().map(|(place, id)| (id, place)).collect(),
            status: vec![TaskStatus::Absent; count],
            oldest_attempt: vec![0; count],
            first,
            graph,
        }
    }

    pub(super) fn graph(&self) -> &JobGraph {
        &self.graph
    }

    pub(super) fn count(&self) -> usize {
        self.status.len()
    }

    pub(super) fn place(&self, execution: &ExecutionAttempt) -> Option<usize> {
        let vertex = *self.vertex_of.get(&execution.vertex_id)?;
        let parallelism = self.graph.vertices[vertex].parallelism;
        (execution.subtask < parallelism).then(|| self.first[vertex] + execution.subtask as usize)
    }

    /// Vertex and subtask of a task.
    pub(super) fn position(&self, task: usize) -> (usize, u32) {
        let vertex = self.first.partition_point(|first| *first <= task) - 1;
        (vertex, (task - self.first[vertex]) as u32)
    }

    pub(super) fn status(&self, task: usize) -> &TaskStatus {
        &self.status[task]
    }

    /// `Map (2/4)`
    pub(super) fn name(&self, task: usize) -> String {
        let (vertex, subtask) = self.position(task);
        let vertex = &self.graph.vertices[vertex];
        format!("{} ({}/{})", vertex.name, subtask + 1, vertex.parallelism)
    }

    pub(super) fn execution(&self, task: usize, attempt: u32) -> ExecutionAttempt {
        let (vertex, subtask) = self.position(task);
        ExecutionAttempt {
            job_id: self.graph.job_id.clone(),
            vertex_id: self.graph.vertices[vertex].id.clone(),
            subtask,
            attempt,
        }
    }

    /// An attempt runs now; older ones are over.
    pub(super) fn running(&mut self, execution: &ExecutionAttempt) {
        if let Some(task) = self.place(execution)
            && self.oldest_attempt[task] <= execution.attempt
            && self.attempt(task).is_none_or(|known| known < execution.attempt)
        {
            self.status[task] = TaskStatus::Running(execution.attempt);
        }
    }

    /// An attempt has finished. None if it isn't the newest known.
    pub(super) fn finished(&mut self, execution: &ExecutionAttempt, last: TaskSnapshot) -> Option<usize> {
        let task = self.place(execution)?;
        let newest = match self.status[task] {
            TaskStatus::Absent => self.oldest_attempt[task] <= execution.attempt,
            TaskStatus::Running(attempt) => attempt <= execution.attempt,
            TaskStatus::Finished(..) => false,
        };
        newest.then(|| {
            self.status[task] = TaskStatus::Finished(execution.attempt, last);
            task
        })
    }

    /// Whether this attempt was known, running or finished; it is absent now.
    pub(super) fn stopped(&mut self, execution: &ExecutionAttempt) -> bool {
        let Some(task) = self.place(execution) else {
            return false;
        };
        self.oldest_attempt[task] = self.oldest_attempt[task].max(execution.attempt.saturating_add(1));
        let known = self.attempt(task) == Some(execution.attempt);
        if known {
            self.status[task] = TaskStatus::Absent;
        }
        known
    }

    fn attempt(&self, task: usize) -> Option<u32> {
        match self.status[task] {
            TaskStatus::Absent => None,
            TaskStatus::Running(attempt) | TaskStatus::Finished(attempt, _) => Some(attempt),
        }
    }

    /// The running ones: place and attempt.
    pub(super) fn all_running(&self) -> impl Iterator<Item = (usize, u32)> {
        self.status
            .iter()
            .enumerate()
            .filter_map(|(task, status)| match status {
                TaskStatus::Running(attempt) => Some((task, *attempt)),
                _ => None,
            })
    }

    /// The finished ones with what they left.
    pub(super) fn all_finished(&self) -> impl Iterator<Item = (usize, &TaskSnapshot)> {
        self.status
            .iter()
            .enumerate()
            .filter_map(|(task, status)| match status {
                TaskStatus::Finished(_, last) => Some((task, last)),
                _ => None,
            })
    }

    /// Whether a checkpoint can be taken: every task runs or has finished, and one runs.
    pub(super) fn can_checkpoint(&self) -> bool {
        !self.status.contains(&TaskStatus::Absent) && self.all_running().next().is_some()
    }

    pub(super) fn any_finished(&self) -> bool {
        self.all_finished().next().is_some()
    }

    /// Who is given the barrier: running tasks without a running task before them. FLIP-147.
    pub(super) fn to_trigger(&self) -> Vec<usize> {
        let finished: Vec<usize> = (0..self.graph.vertices.len())
            .map(|vertex| self.finished_of(vertex))
            .collect();
        self.all_running()
            .map(|(task, _)| task)
            .filter(|task| self.inputs_have_finished(*task, &finished))
            .collect()
    }

    fn finished_of(&self, vertex: usize) -> usize {
        let subtasks =
            self.first[vertex]..self.first[vertex] + self.graph.vertices[vertex].parallelism as usize;
        let is_finished = |status: &&TaskStatus| matches!(status, TaskStatus::Finished(..));
        self.status[subtasks].iter().filter(is_finished).count()
    }

    fn inputs_have_finished(&self, task: usize, finished: &[usize]) -> bool {
        let (vertex, subtask) = self.position(task);
        let id = &self.graph.vertices[vertex].id;
        self.graph
            .edges
            .iter()
            .filter(|edge| edge.target_vertex == *id)
            .all(|edge| {
                let Some(producer) = self.vertex_of.get(&edge.source_vertex).copied() else {
                    return true;
                };
                let is_finished = |subtask: u32| {
                    matches!(
                        self.status[self.first[producer] + subtask as usize],
                        TaskStatus::Finished(..)
                    )
                };
                finished[producer] == self.graph.vertices[producer].parallelism as usize
                    || finished[producer] > 0
                        && channels_into(edge, &self.graph, subtask)
                            .into_iter()
                            .all(|(producer, _)| is_finished(producer))
            })
    }
}
