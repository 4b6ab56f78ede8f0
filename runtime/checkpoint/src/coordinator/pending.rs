//! A snapshot under way, and the metadata that its acknowledgements become.

use std::collections::{BTreeMap, BTreeSet};

use thalweg_proto::state::v1::{
    CheckpointOptions, OperatorState, OperatorSubtaskState, SnapshotKind, SnapshotMetadata, TableSchema,
    TaskSnapshot,
};

use super::SnapshotRequest;
use super::tasks::Tasks;
use crate::metadata;
use crate::restore::absolute_path;

/// What it is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Acknowledgements,
    Metadata,
}

#[derive(Debug)]
pub(super) struct Pending {
    pub(super) id: u64,
    pub(super) kind: SnapshotKind,
    /// Of its `_metadata`.
    pub(super) folder: String,
    /// That its relative paths start from.
    pub(super) base: String,
    pub(super) triggered_ms: u64,
    pub(super) deadline_ms: u64,
    pub(super) options: CheckpointOptions,
    pub(super) request: Option<SnapshotRequest>,
    pub(super) phase: Phase,
    /// Those that were given its barrier from here.
    pub(super) triggered: BTreeSet<usize>,
    /// Running tasks and their attempts when it began.
    pub(super) participants: BTreeMap<usize, u32>,
    /// Those of them that did not acknowledge yet.
    pub(super) waiting: BTreeSet<usize>,
    /// Had finished when it began, or finished without its barrier.
    pub(super) finished: BTreeSet<usize>,
    /// Of participants and finished ones.
    pub(super) states: BTreeMap<usize, TaskSnapshot>,
    /// Made when all acknowledged.
    pub(super) metadata: Option<std::sync::Arc<SnapshotMetadata>>,
}

impl Pending {
    pub(super) fn is_savepoint(&self) -> bool {
        self.kind == SnapshotKind::Savepoint
    }

    /// Whether the job ends behind it.
    pub(super) fn stops_job(&self) -> bool {
        self.request.as_ref().is_some_and(SnapshotRequest::stops_job)
    }

    /// Whether its sources have sent the last watermark.
    pub(super) fn drains_job(&self) -> bool {
        self.request.as_ref().is_some_and(SnapshotRequest::drains_job)
    }

    /// What all tasks' states are as one snapshot.
    pub(super) fn to_metadata(&self, tasks: &Tasks, now_ms: u64) -> SnapshotMetadata {
        let graph = tasks.graph();
        let operators = self.operators(tasks);
        SnapshotMetadata {
            format_version: metadata::version_for(&operators),
            engine_version: graph.engine_version.clone(),
            job_id: graph.job_id.clone(),
            job_name: graph.job_name.clone(),
            checkpoint_id: self.id,
            triggered_ms: self.triggered_ms,
            completed_ms: now_ms,
            savepoint: self.is_savepoint(),
            fingerprint: graph.fingerprint.clone(),
            operators,
        }
    }

    fn operators(&self, tasks: &Tasks) -> Vec<OperatorState> {
        let mut finished: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for task in &self.finished {
            let (vertex, subtask) = tasks.position(*task);
            finished.entry(vertex).or_default().push(subtask);
        }
        let mut operators: Vec<OperatorState> = Vec::new();
        let mut place_of = BTreeMap::new();
        for (place, vertex) in tasks.graph().vertices.iter().enumerate() {
            let finished_subtasks = finished.remove(&place).unwrap_or_default();
            for node in &vertex.chain {
                place_of.insert(node.operator_id.as_str(), operators.len());
                operators.push(OperatorState {
                    operator_id: node.operator_id.clone(),
                    uid: node.uid.clone(),
                    name: node.name.clone(),
                    operator: node.operator.clone(),
                    parallelism: vertex.parallelism,
                    max_parallelism: vertex.max_parallelism,
                    finished: finished_subtasks.len() == vertex.parallelism as usize,
                    finished_subtasks: finished_subtasks.clone(),
                    ..OperatorState::default()
                });
            }
        }
        for (task, snapshot) in &self.states {
            let (_, subtask) = tasks.position(*task);
            for part in &snapshot.operators {
                let Some(operator) = place_of
                    .get(part.operator_id.as_str())
                    .map(|place| &mut operators[*place])
                else {
                    continue;
                };
                add_tables(&mut operator.tables, &part.tables);
                let state = part.state.clone().unwrap_or_default();
                if !state.runs.is_empty() || !state.lists.is_empty() || !state.channels.is_empty() {
                    operator.subtasks.push(OperatorSubtaskState { subtask, ..state });
                }
            }
        }
        operators
    }
}

fn add_tables(known: &mut Vec<TableSchema>, tables: &[TableSchema]) {
    for table in tables {
        if !known.iter().any(|one| one.name == table.name) {
            known.push(table.clone());
        }
    }
}

/// The URIs of a task's run files, which other checkpoints may use too.
pub(super) fn run_files(snapshot: &TaskSnapshot, base: &str) -> Vec<String> {
    let states = snapshot
        .operators
        .iter()
        .filter_map(|operator| operator.state.as_ref());
    states.flat_map(|state| runs_of(state, base)).collect()
}

/// The URIs of all run files of a snapshot.
pub(super) fn all_run_files(metadata: &SnapshotMetadata, base: &str) -> Vec<String> {
    let states = metadata.operators.iter().flat_map(|operator| &operator.subtasks);
    states.flat_map(|state| runs_of(state, base)).collect()
}

/// The URIs of all files of a snapshot.
pub(super) fn all_files(metadata: &SnapshotMetadata, base: &str) -> Vec<String> {
    let states = metadata.operators.iter().flat_map(|operator| &operator.subtasks);
    let mut files = Vec::new();
    for state in states {
        let runs = state.runs.iter().filter_map(|run| run.file.as_ref());
        let lists = state.lists.iter().filter_map(|list| list.file.as_ref());
        let channels = state.channels.iter().filter_map(|channel| channel.file.as_ref());
        let paths = runs
            .chain(lists)
            .chain(channels)
            .map(|file| absolute_path(base, &file.path));
        files.extend(paths.filter(|path| !path.is_empty()));
    }
    files
}

fn runs_of<'a>(state: &'a OperatorSubtaskState, base: &'a str) -> impl Iterator<Item = String> + 'a {
    let files = state.runs.iter().filter_map(|run| run.file.as_ref());
    files
        .map(move |file| absolute_path(base, &file.path))
        .filter(|path| !path.is_empty())
}
